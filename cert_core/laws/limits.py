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
from typing import NamedTuple, Protocol

from scipy import special

from cert_core.densities import RadialRecord

PEAK = 1 / math.sqrt(2 * math.pi)


def normal_score(excess: float, deficit: float) -> float:
    """The z with Phi(z) = 1/2 + excess = 1 - deficit, right near 0 and in the tail."""
    if excess < 0.25:
        return math.sqrt(2) * float(special.erfinv(2 * excess))
    return -float(special.ndtri(deficit)) if deficit > 0 else math.inf


class Start(NamedTuple):
    """Where a search for a radius starts."""

    shift: float  # log radius, less that of the law whose limit it is
    slope: float  # d log link / d log radius
    tau: float  # the best log lambda
    growth: float  # d log tau / d log radius
    rise: float  # the density of l at -tau


class Limit(Protocol):
    """A law of few parameters near that of a radius."""

    @property
    def close(self) -> bool:
        """Whether it is near enough to say where searches start, but for a factor."""

    @property
    def size(self) -> float:
        """Proportional to the radius, about the spread of l."""

    def link(self, excess: float, deficit: float) -> float:
        """What is about proportional to the radius where p_min = 1/2 + excess = 1 - deficit."""

    def median(self) -> tuple[float, float]:
        """Minus the median of l, and the density there."""

    def start(self, target: float) -> Start:
        """Of the radius whose link is the target."""


@dataclass(frozen=True)
class NormalLimit:
    """l ~ N(-size^2/2, size^2)."""

    size: float
    close: bool = True

    def link(self, excess: float, deficit: float) -> float:
        return normal_score(excess, deficit)

    def median(self) -> tuple[float, float]:
        return 0.5 * self.size**2, PEAK / self.size

    def start(self, target: float) -> Start:
        tau, rise = NormalLimit(target).median()
        return Start(math.log(target) - math.log(self.size), 1.0, tau, 2.0, rise)


@dataclass(frozen=True)
class LaplaceLimit:
    """l as of LaplaceLaw(M), M normal around size with the relative deviation `spread`."""

    size: float
    spread: float
    close: bool = True

    def link(self, excess: float, deficit: float) -> float:
        if excess < 0.25:
            return -math.log1p(-2 * excess)
        return -math.log(2 * deficit) if deficit > 0 else math.inf

    def median(self) -> tuple[float, float]:
        """2 P(l < -tau) - 1 = E (1 - exp((tau - M)/2))_+ - P(M < tau) is 0 near
        tau = size - wide y, where P(Y < -y) = wide E(Y + y)_+/2 for Y normal."""
        wide, y = self.spread * self.size, 2.0
        if wide == 0.0:
            return self.size, 1.0
        for _ in range(8):
            tail, bell = 0.5 * math.erfc(y / math.sqrt(2)), PEAK * math.exp(-0.5 * y * y)
            rise = bell + 0.5 * wide * (1.0 - tail)
            y -= (0.5 * wide * (bell + y * (1.0 - tail)) - tail) / rise
        return max(self.size - wide * y, 0.1 * self.size), 0.5 * rise / wide

    def start(self, target: float) -> Start:
        tau, rise = LaplaceLimit(target, self.spread).median()
        return Start(math.log(target) - math.log(self.size), 1.0, tau, 1.0, rise)


@dataclass(frozen=True)
class UniformLimit:
    """l is 0 but for a share `size` of it."""

    size: float
    close: bool = True

    def link(self, excess: float, deficit: float) -> float:
        return excess

    def median(self) -> tuple[float, float]:
        return 0.0, 1.0

    def start(self, target: float) -> Start:
        return Start(math.log(target) - math.log(self.size), 1.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class SumLimit:
    """l as the sum of LaplaceLaw(cone)'s, cone with the relative deviation `spread`, and a
    normal one's of deviation `normal`."""

    cone: float
    normal: float
    spread: float
    close: bool = True

    @property
    def size(self) -> float:
        return math.hypot(self.cone, self.normal)

    def link(self, excess: float, deficit: float) -> float:
        return normal_score(excess, deficit)

    def _below(self, t: float) -> float:
        """P(l <= t), in closed form."""
        m, s = self.cone, math.hypot(self.normal, self.spread * self.cone)
        a = t + m + 0.5 * s * s
        tilt = 0.5 * math.exp(min(0.125 * s * s - 0.5 * a, 700.0))
        tail = _phi((2 * m - a) / s + 0.5 * s) - _phi(0.5 * s - a / s)
        return _phi(a / s) - tilt * tail

    def _step(self, tau: float) -> tuple[float, float]:
        """Newton's next tau towards P(l <= -tau) = 1/2, and the density at -tau."""
        h = 1e-3 * math.hypot(self.normal, self.spread * self.cone)
        rise = max((self._below(h - tau) - self._below(-h - tau)) / (2 * h), 0.1 / (1.0 + tau))
        tau += (self._below(-tau) - 0.5) / rise
        return min(max(tau, 0.0), self.cone + self.normal**2), rise

    def median(self) -> tuple[float, float]:
        tau, rise = self.cone + 0.5 * self.normal**2, 1.0
        for _ in range(8):
            tau, rise = self._step(tau)
        return tau, rise

    def start(self, target: float) -> Start:
        deficit = _phi(-target)
        link = LaplaceLimit(1.0, 0.0).link(0.5 - deficit, deficit)
        shift = -math.log(math.hypot(self.cone / link, self.normal / target))
        slope, before = 1.0, None
        for _ in range(6):
            factor = math.exp(shift)
            law = SumLimit(self.cone * factor, self.normal * factor, self.spread)
            tau, rise = law.median()
            excess = law._below(tau) - 0.5
            score = normal_score(excess, max(0.5 - excess, 1e-17))  # P(l <= tau) rounds to 1
            value = math.log(max(score, 1e-12) / target)
            if before is not None and abs(shift - before[0]) > 1e-6:
                slope = min(max((value - before[1]) / (shift - before[0]), 0.2), 2.0)
            if abs(value) < 1e-5:
                break
            before = shift, value
            shift -= value / slope
        growth = (law.cone + law.normal**2) / (law.cone + 0.5 * law.normal**2)
        return Start(shift, slope, tau, growth, rise)


def _phi(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def radial_limit(geometry: str, record: RadialRecord, reach: float) -> Limit:
    """The limit of a radial law under a shift of `reach` scales."""
    dim, power, a = record.dim, record.power, record.shape
    moved = math.exp(min(math.log(reach) - math.log(a) / power, 700.0))  # r/s
    close = a >= 1.0  # below, |z| is nowhere typical
    if geometry == "sphere":
        return NormalLimit(moved * math.sqrt(dim), close)
    if geometry == "edge":
        return UniformLimit(0.5 * moved, close)
    # log s deviates by 1/(power sqrt(a)), and log h' = log(k/s + ...) by so much of that
    share = abs(power * (dim - record.k) / dim - 1.0)
    return LaplaceLimit(moved * dim, share / (power * math.sqrt(a)), close)
