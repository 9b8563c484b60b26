"""Samples of the log ratio under pi0 and pi_delta, of built-in noises and of one's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from cert_core import kernels
from cert_core.errors import EXACT, Float, array, check_callable, choice, fail, flag, size, to_numpy
from cert_core.noises import Noise
from cert_core.rounding import in_full
from cert_core.threats import ATTACKS, ORDER, Shift, worst_shift

CHUNK = 1 << 20  # draws held at a time
CHUNKS = {"gpu": 1 << 25}  # ... where more are needed to keep the backend busy
KEEP = 1 << 23  # samples up to this size are kept, longer ones are drawn again
ROUNDINGS = 256  # by how many of them a log density may be off, relatively
VALUES = 1 << 22  # of a user's noise drawn at a time
GRID = 4096  # lambdas (or bins) for samples that are not kept


@dataclass(frozen=True)
class CustomNoise:
    """A noise of one's own: certified by Monte Carlo alone.

    Parameters
    ----------
    dim : int
    log_density : callable (n, dim) -> (n,)
        log density up to a constant, at float64 rows.
    sampler : callable (n, numpy.random.Generator) -> (n, dim)
    worst_shift : callable (attack, radius) -> (dim,) array
        The perturbation of the attack ball that is worst for this noise.
    symmetric : bool
        density(z) = density(-z): then under the shifted law the log ratio has the law of
        its negative, which is used; else the shifted law is drawn from itself.
    justification : str
        Why that shift is worst: kept in every certificate.

    Examples
    --------
    >>> noise = cc.CustomNoise(
    ...     dim=2,
    ...     log_density=lambda z: -np.abs(z).sum(axis=1),
    ...     sampler=lambda n, rng: rng.laplace(size=(n, 2)),
    ...     worst_shift=lambda attack, radius: np.array([radius, 0.0]),
    ...     symmetric=True,
    ...     justification="Zhang et al. 2020, Theorem 2, for the l1 attack",
    ... )
    >>> made = cc.monte_carlo_bound(0.9, noise, "l1", 0.5, n=10_000, alpha=0.001, seed=0)
    >>> 0.7 < made.lower < cc.lower_bound(0.9, cc.Laplace(2, 1.0), "l1", 0.5)
    True
    """

    dim: int
    log_density: Callable[[Float], Any]
    sampler: Callable[[int, np.random.Generator], Any]
    worst_shift: Callable[[str, float], Any]
    symmetric: bool
    justification: str

    def __post_init__(self) -> None:
        size("dim", self.dim, 1, EXACT, remedy="pass the number of input coordinates")
        for name in ("log_density", "sampler", "worst_shift"):
            check_callable(name, getattr(self, name))
        flag("symmetric", self.symmetric)
        if not isinstance(self.justification, str) or len(self.justification.split()) < 3:
            remedy = "state the proof or citation that the shift is worst"
            raise fail("justification", "a sentence", self.justification, remedy)


class Source(Protocol):
    """Chunks of draws of the log ratio under pi0 or pi_delta, the same at every call.

    blur: by how much rounding moves a log ratio, at most; known once some were drawn.
    """

    @property
    def blur(self) -> float: ...

    def chunks(self, n: int, seed: int, stream: int, shifted: bool) -> Iterator[Float]: ...


@dataclass(frozen=True)
class _KernelSource:
    """Draws of a built-in noise; under pi_delta the log ratio has the law of its negative."""

    noise: Noise
    shift: Shift
    backend: str
    blur = 0.0  # atoms are exact: the same float every time

    def chunks(self, n: int, seed: int, stream: int, shifted: bool) -> Iterator[Float]:
        kernel = kernels.backend(self.backend)
        chunk = CHUNKS.get(self.backend, CHUNK)
        for start in range(0, n, chunk):
            size = min(chunk, n - start)
            draws = kernel.draw_log_ratio(
                self.noise, self.shift, size, seed, start=start, stream=stream
            )
            yield -draws if shifted else draws


def block_generator(seed: int, stream: int, block: int) -> np.random.Generator:
    """The generator of one block of a stream, like no other's: a seed sequence runs the words
    of its numbers together, so each has one of its own here, and the seed two."""
    words = [seed & 0xFFFFFFFF, stream, block, seed >> 32]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


@dataclass
class _CustomSource:
    """Draws of a user's noise, in blocks with generators of their own."""

    noise: CustomNoise
    shift: Float
    blur: float = 0.0

    def chunks(self, n: int, seed: int, stream: int, shifted: bool) -> Iterator[Float]:
        rows = max(1, VALUES // self.noise.dim)
        for block, start in enumerate(range(0, n, rows)):
            generator = block_generator(seed, stream, block)
            z = to_numpy("sampler", self.noise.sampler(rows, generator), np.float64)
            if z.shape != (rows, self.noise.dim):
                rule = f"rows of shape ({rows}, {self.noise.dim})"
                raise fail("sampler", rule, z.shape, "return n rows of dim values")
            z = z[: n - start]
            own = self._log_density(z)
            if not np.isfinite(own).all():
                rule, got = "finite at every draw of the sampler", float(own[~np.isfinite(own)][0])
                raise fail("log_density", rule, got, "make the two agree")
            if shifted and not self.noise.symmetric:
                ratio = own - self._log_density(z + self.shift)
            else:
                ratio = self._log_density(z - self.shift) - own
                ratio = -ratio if shifted else ratio
            if np.isnan(ratio).any():
                raise fail("log_density", "a number at every shifted draw", math.nan, "mend it")
            yield ratio

    def _log_density(self, z: Float) -> Float:
        given = to_numpy("log_density", self.noise.log_density(z))
        if given.shape != (len(z),):
            raise fail("log_density", f"of shape ({len(z)},)", given.shape, "one value a row")
        unit = np.finfo(given.dtype if given.dtype.kind == "f" else np.float64).eps
        values = given.astype(np.float64)
        size = np.abs(values, where=np.isfinite(values), out=np.zeros(len(z))).max(initial=1.0)
        self.blur = max(self.blur, ROUNDINGS * float(unit) * float(size))
        return values


def source_of(
    noise: Noise | CustomNoise, attack: str, radius: float, backend: str
) -> tuple[Source, str]:
    if isinstance(noise, Noise):
        shift = worst_shift(noise, attack, radius)
        return _KernelSource(noise, shift, backend), shift.reason
    if not isinstance(noise, CustomNoise):
        raise fail("noise", "a noise or a CustomNoise", noise, "e.g. L2Noise(3072, 1.0, 8)")
    rule = f"a vector of {noise.dim} finite numbers"
    vector = array(
        "worst_shift", noise.worst_shift(attack, radius), rule, np.isfinite, remedy="return delta"
    )
    if vector.shape != (noise.dim,):
        raise fail("worst_shift", rule, vector.shape, "return the perturbation as a vector")
    size = float(np.linalg.norm(vector, ORDER[choice("attack", attack, ATTACKS)]))
    if not (1 - 1e-12) * radius <= size <= (1 + 1e-6) * radius:  # a smaller one certifies more
        rule = f"of {attack} norm {in_full(radius)}"
        raise fail("worst_shift", rule, size, "return the worst shift of the sphere of the radius")
    return _CustomSource(noise, vector), noise.justification


class Sample:
    """n draws of one stream, kept if they are few; else drawn again for every question.

    Draws stay where the source made them: NumPy's functions work on CuPy's arrays too, as long
    as none of NumPy's are among them.
    """

    def __init__(
        self, source: Source, n: int, seed: int, stream: int, *, shifted: bool = False
    ) -> None:
        self._ask = (n, seed, stream, shifted)
        self._source, self.n = source, n

    @cached_property
    def drawn(self) -> Float | None:
        """All draws, where they are kept."""
        if self.n > KEEP:
            return None
        return np.concatenate(list(self._source.chunks(*self._ask)))

    @cached_property
    def _kept(self) -> Float | None:
        return None if self.drawn is None else np.sort(self.drawn)

    @property
    def blur(self) -> float:
        """By how much rounding moves a draw, at most, from those seen."""
        return self._source.blur

    def chunks(self) -> Iterator[Float]:
        if self._kept is not None:
            yield self._kept
        else:
            yield from self._source.chunks(*self._ask)

    def grid(self) -> Float:
        """Ascending log lambdas that resolve the law: draws, or quantiles of the first."""
        if self._kept is not None:
            return np.unique(self._kept)
        first = np.sort(next(self.chunks())[:CHUNK])
        return np.unique(first[:: max(1, first.size // GRID)])

    def quantile(self, p: float) -> float:
        """The ceil(p n)-th smallest draw."""
        ordered = np.sort(np.concatenate(list(self.chunks())))
        return float(ordered[min(max(math.ceil(p * self.n), 1), self.n) - 1])

    def count_below(self, t: float) -> int:
        """How many draws are < t."""
        return int(sum(np.count_nonzero(chunk < t) for chunk in self.chunks()))

    def hinge(self) -> tuple[Float, Float]:
        """(lam, D_n(lam)) at exp of the grid: exact sums, one pass."""
        edges = self.grid()
        below, mass = np.zeros_like(edges), np.zeros_like(edges)
        for chunk in self.chunks():
            ordered = np.sort(chunk)
            place = np.searchsorted(ordered, edges, side="right")
            sums = np.cumsum(np.exp(ordered))
            below += place
            mass += np.where(place > 0, sums[place - 1], 0.0)
        lam = np.exp(edges)
        return lam, np.maximum(lam * below - mass, 0.0) / self.n
