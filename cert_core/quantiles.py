"""Laws of a noise's radius, as tables of log-quantiles at normal scores.

A radius is drawn as exp(T(Z)), Z standard normal, T(z) = log Q(Phi(z)) with Q the
radius's quantile function.  T is smooth and nearly linear, so a cubic spline on 1024
intervals is right to 1e-10; every backend then draws a radius from one normal, with no
rejection and no incomplete gamma inside a kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special
from scipy.interpolate import CubicSpline

from cert_core.errors import Float

REACH = 9.25  # normal scores beyond +-REACH, of probability 2e-20, are drawn as +-REACH
INTERVALS = 1024
CLOSE = 0.09  # dim - k below which the panels of log rho are graded: longer than 1 if equal
POWER = 80.0  # logarithms below its mode where the density of log rho is a power to all digits
NORMAL_SCORES = np.linspace(-REACH, REACH, INTERVALS + 1)


@dataclass(frozen=True, eq=False)
class LogQuantiles:
    """T on [-REACH, REACH]: cubics[i] holds the four coefficients, highest first, of
    the interval i in x = (z - left edge) / width; log_tails, where it is known, the logs of
    P(radius <= e^y) and of P(radius > e^y) at y."""

    cubics: Float
    log_tails: Callable[[Float], tuple[Float, Float]]

    def __call__(self, normal_scores: Float) -> Float:
        """log radius at normal scores, same shape."""
        c, x = self._at(normal_scores)
        value: Float = ((c[..., 0] * x + c[..., 1]) * x + c[..., 2]) * x + c[..., 3]
        return value

    def _at(self, normal_scores: Float) -> tuple[Float, Float]:
        place = (np.clip(normal_scores, -REACH, REACH) + REACH) * (INTERVALS / (2 * REACH))
        index = np.minimum(place.astype(np.int64), INTERVALS - 1)
        return self.cubics[index], place - index

    def with_slope(self, normal_scores: Float) -> tuple[Float, Float]:
        """log radius at normal normal_scores, and its derivative there."""
        c, x = self._at(normal_scores)
        slope = (3 * c[..., 0] * x + 2 * c[..., 1]) * x + c[..., 2]
        return self(normal_scores), slope * (INTERVALS / (2 * REACH))

    def refined(self, normal_scores: Float) -> tuple[Float, Float, Float]:
        """(log radius by two steps of Newton's from the table's, its slope, the last step)."""
        value, slope = self.with_slope(normal_scores)
        upper = normal_scores >= 0
        # the tail's mass over its density at the score
        mills = np.sqrt(np.pi / 2) * special.erfcx(np.abs(normal_scores) / np.sqrt(2))
        wanted = special.log_ndtr(-np.abs(normal_scores))
        for _ in range(2):
            below, above = self.log_tails(value)
            step = np.where(upper, above - wanted, wanted - below) * mills * slope
            value = value + step
        return value, slope, np.abs(step)


Tails = Callable[[Float], tuple[Float, Float]]


def tabulate(values: Float, log_tails: Tails) -> LogQuantiles:
    """The table through T(NORMAL_SCORES) = values."""
    width = 2 * REACH / INTERVALS
    powers = width ** np.arange(3, -1, -1)
    cubics = np.ascontiguousarray(CubicSpline(NORMAL_SCORES, values).c.T * powers)
    cubics.flags.writeable = False
    return LogQuantiles(cubics, log_tails)


@lru_cache(maxsize=64)
def gamma_log_quantiles(shape: float, power: float) -> LogQuantiles:
    """T for a radius whose power-th power is Gamma(shape), in units of its scale.

    Small shapes are worked in logarithms: their quantiles underflow float64.
    """
    with np.errstate(divide="ignore"):
        low = np.log(special.gammaincinv(shape, special.ndtr(NORMAL_SCORES)))
        high = np.log(special.gammainccinv(shape, special.ndtr(-NORMAL_SCORES)))
    values = np.where(NORMAL_SCORES < 0, low, high)
    # P(shape, x) = x^shape / Gamma(shape + 1) as x -> 0
    small = (special.log_ndtr(NORMAL_SCORES) + special.gammaln(shape + 1)) / shape

    def log_tails(y: Float) -> tuple[Float, Float]:
        with np.errstate(divide="ignore", over="ignore"):
            x = np.exp(power * y)
            below = np.log(special.gammainc(shape, x))
            above = np.log(special.gammaincc(shape, x))
        near = np.minimum(shape * power * y - special.gammaln(shape + 1), 0.0)
        low = power * y < -70.0
        with np.errstate(divide="ignore"):
            return np.where(low, near, below), np.where(low, np.log(-np.expm1(near)), above)

    return tabulate(np.where(small < -70.0, small, values) / power, log_tails)


@lru_cache(maxsize=64)
def cosine_quantiles(dim: int) -> LogQuantiles:
    """T(z) = artanh c with P(cos(z, delta) <= c) = Phi(z) for a uniform direction, dim >= 2."""
    a = 0.5 * (dim - 1)
    half = special.betaincinv(a, a, special.ndtr(NORMAL_SCORES[: INTERVALS // 2]))  # (1 + c)/2
    left = 0.5 * np.log(half / (1.0 - half))

    def log_tails(y: Float) -> tuple[Float, Float]:
        with np.errstate(divide="ignore"):
            low, high = (np.log(special.betainc(a, a, special.expit(2 * s * y))) for s in (1, -1))
        return low, high

    return tabulate(np.concatenate([left, [0.0], -left[::-1]]), log_tails)


@dataclass(frozen=True, eq=False)
class MaxLaw:
    """The law of rho = |z|_inf of the mixed family in units of sigma, density
    prop. to rho^-k exp(-rho^2/2) erf(rho/sqrt 2)^(dim-1), tabulated in y = log rho:
    edges of panels, quadrature nodes inside them, and the nodes' probabilities."""

    edges: Float
    nodes: Float
    weights: Float
    log_mass: float  # log of the integral of the density above over rho

    def mean(self, function: Callable[[Float], Float]) -> float:
        """E[function(rho)]."""
        return float(np.sum(self.weights * function(np.exp(self.nodes))))


def max_log_density(y: Float, dim: int, k: float) -> Float:
    """log of rho^(1-k) exp(-rho^2/2) erf(rho/sqrt 2)^(dim-1) at rho = exp(y)."""
    rho = np.exp(y)
    # erf(x) = 1 - erfc(x), and 2x/sqrt(pi) as x -> 0
    with np.errstate(divide="ignore"):
        log_erf = np.where(
            rho < 1e-9,
            y + 0.5 * np.log(2 / np.pi),
            np.where(
                rho < 1.0,
                np.log(special.erf(rho / np.sqrt(2))),
                np.log1p(-special.erfc(rho / np.sqrt(2))),
            ),
        )
    if dim - k < CLOSE:  # y of millions, of which dim - k times as much is left
        log_share = np.where(rho < 1e-9, 0.5 * np.log(2 / np.pi), log_erf - y)
        near: Float = (dim - k) * y - 0.5 * rho * rho + (dim - 1) * log_share
        return near
    result: Float = (1 - k) * y - 0.5 * rho * rho + (dim - 1) * log_erf
    return result


def _support(density: Callable[[Float], Float], drop: float) -> tuple[float, float, float]:
    """(low, mode, high) of a unimodal log density, falling by `drop` from mode to ends."""
    low, high = -1.0, 1.0
    while density(np.array(low)) > density(np.array(low + 1e-3)):
        low = 2 * low
    while density(np.array(high)) > density(np.array(high - 1e-3)):
        high = high + 1
    for _ in range(200):
        third = (high - low) / 3
        left, right = density(np.array(low + third)), density(np.array(high - third))
        low, high = (low + third, high) if left < right else (low, high - third)
    mode = 0.5 * (low + high)
    top = float(density(np.array(mode)))

    def end(sign: float) -> float:
        inside, outside = 0.0, 1e-6
        while float(density(np.array(mode + sign * outside))) > top - drop:
            inside, outside = outside, 2 * outside
        for _ in range(40):
            middle = 0.5 * (inside + outside)
            above = float(density(np.array(mode + sign * middle))) > top - drop
            inside, outside = (middle, outside) if above else (inside, middle)
        return mode + sign * outside

    return end(-1.0), mode, end(1.0)


@lru_cache(maxsize=64)
def max_law(dim: int, k: float) -> MaxLaw:
    """The law of |z|_inf for the mixed family with sigma = 1."""

    def density(y: Float) -> Float:
        return max_log_density(y, dim, k)

    low, mode, high = _support(density, 80.0)
    edges = np.concatenate([np.linspace(low, mode, 801), np.linspace(mode, high, 801)[1:]])
    if dim - k < CLOSE:  # long panels miss what bends beside the mode, and leave the table gaps
        edges = np.concatenate(
            [
                mode - np.geomspace(mode - low, POWER, 801)[:-1],
                np.linspace(mode - POWER, mode, 801)[:-1],
                edges[800:],
            ]
        )
    x, w = np.polynomial.legendre.leggauss(10)
    half = 0.5 * np.diff(edges)
    nodes = 0.5 * (edges[1:] + edges[:-1])[:, None] + half[:, None] * x
    top = float(density(np.array(mode)))
    raw = half[:, None] * w * np.exp(density(nodes) - top)
    total = float(raw.sum())
    return MaxLaw(edges, nodes, raw / total, top + float(np.log(total)))


@lru_cache(maxsize=64)
def max_log_quantiles(dim: int, k: float) -> LogQuantiles:
    """T for |z|_inf of the mixed family, in units of sigma."""
    law = max_law(dim, k)
    panels = law.weights.sum(axis=1)
    below = np.concatenate([[0.0], np.cumsum(panels)])
    above = np.concatenate([np.cumsum(panels[::-1])[::-1], [0.0]])
    normal_scores = np.where(below < above, special.ndtri(below), -special.ndtri(above))
    inner = np.abs(normal_scores) < REACH + 0.5
    inner &= np.concatenate([[True], np.diff(normal_scores) > 0])
    x, w = np.polynomial.legendre.leggauss(10)

    def log_tails(y: Float) -> tuple[Float, Float]:
        y = np.clip(y, law.edges[0], law.edges[-1])
        panel = np.clip(np.searchsorted(law.edges, y) - 1, 0, panels.size - 1)
        left, right = law.edges[panel], law.edges[panel + 1]

        def mass(low: Float, high: Float) -> Float:
            half = 0.5 * (high - low)[..., None]
            nodes = 0.5 * (high + low)[..., None] + half * x
            density = np.exp(max_log_density(nodes, dim, k) - law.log_mass)
            total: Float = np.sum(half * w * density, axis=-1)
            return total

        with np.errstate(divide="ignore"):
            low = np.log(below[panel] + mass(left, y))
            return low, np.log(above[panel + 1] + mass(y, right))

    return tabulate(CubicSpline(normal_scores[inner], law.edges[inner])(NORMAL_SCORES), log_tails)
