"""What laws of the log ratio tend to in many dimensions: where searches start.

Nothing here enters a bound: any lambda is safe, and a search ends by the law itself.  With
s the typical |z|, h(s) = k log s + (s/scale)^power has s h'(s) = dim, so a shift of size r
moves h by m = dim r/s along the radius.  In a sphere that is a normal log ratio of deviation
m/sqrt(dim), in a cone Laplace noise under a shift of m scales, along an edge the overlap of
two intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

from scipy import special

from cert_core.densities import RadialRecord

PEAK = 1 / math.sqrt(2 * math.pi)


def score(excess: float, deficit: float) -> float:
    """The z with Phi(z) = 1/2 + excess = 1 - deficit, right near 0 and in the tail."""
    if excess < 0.25:
        return math.sqrt(2) * float(special.erfinv(2 * excess))
    return -float(special.ndtri(deficit)) if deficit > 0 else math.inf


class Limit(Protocol):
    """A law that one number describes, its size, proportional to the radius."""

    growth: ClassVar[float]  # of the best log lambda, as a power of the size

    @property
    def size(self) -> float: ...

    def link(self, excess: float, deficit: float) -> float:
        """The size at which p_min is 1/2 + excess = 1 - deficit."""

    def start(self, size: float) -> tuple[float, float]:
        """The best log lambda at a size, and about the density of l at its negative."""


@dataclass(frozen=True)
class NormalLimit:
    """l ~ N(-size^2/2, size^2)."""

    growth: ClassVar[float] = 2.0
    size: float

    def link(self, excess: float, deficit: float) -> float:
        return score(excess, deficit)

    def start(self, size: float) -> tuple[float, float]:
        return 0.5 * size * size, PEAK / size


@dataclass(frozen=True)
class LaplaceLimit:
    """l as of LaplaceLaw(M), M normal around size with the relative deviation `spread`."""

    growth: ClassVar[float] = 1.0
    size: float
    spread: float

    def link(self, excess: float, deficit: float) -> float:
        if excess < 0.25:
            return -math.log1p(-2 * excess)
        return -math.log(2 * deficit) if deficit > 0 else math.inf

    def start(self, size: float) -> tuple[float, float]:
        """2 P(l < -tau) - 1 = E (1 - exp((tau - M)/2))_+ - P(M < tau) is 0 near
        M = tau + spread y, where P(Y < -y) = spread E(Y + y)_+/2."""
        wide, y = self.spread * size, 2.0
        if wide == 0.0:
            return size, 1.0
        for _ in range(8):
            tail, bell = 0.5 * math.erfc(y / math.sqrt(2)), PEAK * math.exp(-0.5 * y * y)
            rise = bell + 0.5 * wide * (1.0 - tail)
            y -= (0.5 * wide * (bell + y * (1.0 - tail)) - tail) / rise
        return max(size - wide * y, 0.1 * size), 0.5 * rise / wide


@dataclass(frozen=True)
class UniformLimit:
    """l is 0 but for a share `size` of it."""

    growth: ClassVar[float] = 0.0
    size: float

    def link(self, excess: float, deficit: float) -> float:
        return excess

    def start(self, size: float) -> tuple[float, float]:
        return 0.0, 1.0


def radial_limit(geometry: str, record: RadialRecord, reach: float) -> Limit:
    """The limit of a radial law under a shift of `reach` scales."""
    dim, power, a = record.dim, record.power, record.shape
    moved = math.exp(min(math.log(reach) - math.log(a) / power, 700.0))  # r/s
    if geometry == "sphere":
        return NormalLimit(moved * math.sqrt(dim))
    if geometry == "edge":
        return UniformLimit(0.5 * moved)
    # log s deviates by 1/(power sqrt(a)), and log h' = log(k/s + ...) by so much of that
    share = abs(power * (dim - record.k) / dim - 1.0)
    return LaplaceLimit(moved * dim, share / (power * math.sqrt(a)))
