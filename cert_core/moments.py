"""Mean and variance of |z|_1, |z|_2 and |z|_inf under a noise: its size in any norm.

Radial noise is z = R U with the radius R and the direction U independent, and R^power of a
gamma law; so is the mixed family in the norm 2, whose density is a homogeneous function
times exp(-|z|_2^2 / 2 sigma^2).  What is left is the direction, the same for all radial
noise of one norm: its moments are those of |Y| over those of R for a Y with independent
coordinates (exponential, normal) and the same direction, or of a Y on the unit cube.

The only quadratures: E sqrt(X) = pi^(-1/2) int t^(-1/2) E[X exp(-tX)] dt for sums of
squares (positive, nothing cancels; the trapezoid rule in log t converges geometrically),
and the tabulated law of the largest coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy import special

from cert_core.densities import RadialRecord
from cert_core.errors import Float, UnsupportedPair, choice
from cert_core.noises import NORMS, MixedNoise, Noise, checked_noise
from cert_core.quantiles import max_law

Moments = tuple[float, float]  # mean, variance / mean^2

HALF_WIDTH, STEP = 75.0, 0.125  # in log t, around t = 1/E X: tails below 1e-16
# log x for an exponential coordinate x, by the trapezoid rule
LOG_X = np.arange(-40.0, 4.25, 1 / 12)


def norm_moments(noise: Noise, norm: float) -> tuple[float, float]:
    """Compute the mean and the variance of a norm of the noise.

    Parameters
    ----------
    noise : Noise
    norm : 1, 2 or inf

    Returns
    -------
    mean, variance : float
        E|z| in input units and Var |z| in their square, deterministic: the mean is right to
        1e-12 relatively and the variance to 1e-9 of itself, up to dim 3072; at dim 150528 to
        1e-10 and 1e-5.

    Raises
    ------
    ValueError
        Another norm, or a noise of no family of the toolkit.

    References
    ----------
    Zhang et al. 2020, Section 4 and Figure 1: the radius of Eqs. 10-13.

    Examples
    --------
    >>> mean, variance = cc.moments.norm_moments(cc.Gaussian(100, 1.0), 2)
    >>> round(mean, 4), round(variance, 4)
    (9.975, 0.4987)
    """
    norm = float(choice("norm", norm, NORMS))
    if checked_noise(noise).stretch is not None:
        raise UnsupportedPair(f"noise must not be stretched, got {noise!r}: ask of its base")
    record = noise.radial
    if record is not None:
        mean, spread = _radial(record, norm)
    elif isinstance(noise, MixedNoise):
        mean, spread = _mixed(noise, norm)
    else:
        raise UnsupportedPair(f"noise must be one of the toolkit's, got {noise!r}: use its draws")
    return mean, mean**2 * spread


def log_gamma_ratio(a: float, h: float) -> float:
    """log of Gamma(a + h)/Gamma(a), h > 0, without the difference of two large logarithms."""
    if a < 20.0:
        return math.lgamma(a + h) - math.lgamma(a)

    def rest(x: float) -> float:  # of Stirling's series
        y = 1.0 / (x * x)
        return (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y * (1 / 1680 - y / 1188)))) / x

    return (a - 0.5) * math.log1p(h / a) + h * (math.log(a + h) - 1.0) + rest(a + h) - rest(a)


def _radius(record: RadialRecord) -> Moments:
    """Of a radius in the norm of its noise."""
    a, h = record.shape, 1.0 / record.power
    first, second = log_gamma_ratio(a, h), log_gamma_ratio(a + h, h)
    return record.scale * math.exp(first), math.expm1(second - first)


def _radial(record: RadialRecord, norm: float) -> Moments:
    """Of radial noise: of its radius and, in another norm, of its direction."""
    mean, spread = _radius(record)
    if norm == record.norm or record.dim == 1:
        return mean, spread
    direction, other = _direction(record.norm, norm, record.dim)
    return mean * direction, spread + other + spread * other


@lru_cache(maxsize=64)
def _direction(level: float, norm: float, dim: int) -> Moments:
    """Of the norm of a direction uniform on the sphere of the norm `level`, dim >= 2."""
    if level == math.inf:
        return _cube(norm, dim)
    if level == 1.0:
        mean, spread = _exponential(norm, dim)
        radius, square = float(dim), 1.0 / dim
    else:
        mean, spread = _normal(norm, dim)
        radius, square = _radius(RadialRecord(dim, 2.0, 2.0, math.sqrt(2), 0.0))
    return mean / radius, (spread - square) / (1.0 + square)


def _exponential(norm: float, dim: int) -> Moments:
    """Of the norm, inf or 2, of independent exponential coordinates."""
    if norm == math.inf:
        ranks = np.arange(dim, 0, -1.0)
        mean = float(np.sum(1.0 / ranks))
        return mean, float(np.sum(ranks**-2)) / mean**2
    x = np.exp(LOG_X)
    weights = (LOG_X[1] - LOG_X[0]) * x * np.exp(-x)

    def slope(t: Float) -> Float:
        terms = weights * np.exp(-t[:, None] * x * x)
        log_rest = (dim - 1) * np.log(terms.sum(axis=1))
        result: Float = dim * (terms @ (x * x)) * np.exp(log_rest)
        return result

    return _root(slope, 2.0 * dim)


def _normal(norm: float, dim: int) -> Moments:
    """Of the norm, inf or 1, of independent normal coordinates."""
    if norm == math.inf:
        return _centred(max_law(dim, 0.0).mean)
    return dim * math.sqrt(2 / math.pi), (0.5 * math.pi - 1.0) / dim


def _cube(norm: float, dim: int) -> Moments:
    """Of the norm, 1 or 2, of one coordinate +-1 and the others uniform on [-1, 1]."""
    rest = dim - 1
    if norm == 1.0:
        mean = 0.5 * (dim + 1)
        return mean, rest / 12.0 / mean**2

    def slope(t: Float) -> Float:
        factor = special.gamma(0.5) * special.gammainc(0.5, t) / (2 * np.sqrt(t))
        square = special.gamma(1.5) * special.gammainc(1.5, t) / (2 * t**1.5)
        result: Float = np.exp(rest * np.log(factor) - t) * (1.0 + rest * square / factor)
        return result

    return _root(slope, 1.0 + rest / 3.0)


def _root(slope: Callable[[Float], Float], square: float) -> Moments:
    """Of sqrt(X) from slope(t) = E[X exp(-tX)] and E X = square."""
    y = np.arange(-HALF_WIDTH, HALF_WIDTH, STEP) - math.log(square)
    t = np.exp(y)
    mean = STEP * float(np.sum(np.sqrt(t) * slope(t))) / math.sqrt(math.pi)
    return mean, square / mean**2 - 1.0


def _centred(expect: Callable[[Callable[[Float], Float]], float]) -> Moments:
    """Of a variable from the expectations of its functions."""
    mean = expect(lambda x: x)
    return mean, expect(lambda x: (x / mean - 1.0) ** 2)


def _mixed(noise: MixedNoise, norm: float) -> Moments:
    """Of the mixed family: |z|_2 is that of L2Noise, |z|_inf tabulated; given it, |z|_1 is
    it plus dim - 1 independent truncated normals."""
    if norm == 2.0:
        return _radius(RadialRecord(noise.dim, 2.0, 2.0, noise.sigma * math.sqrt(2), noise.k))
    law, rest = max_law(noise.dim, noise.k), noise.dim - 1
    if norm == math.inf:
        mean, spread = _centred(law.mean)
        return noise.sigma * mean, spread

    def absolute(rho: Float) -> Float:
        inside = np.maximum(rho, 1e-6)  # below, uniform on [0, rho]
        mean = -np.expm1(-0.5 * inside**2) * math.sqrt(2 / math.pi) / special.erf(inside / 2**0.5)
        result: Float = np.where(rho > 1e-6, mean, 0.5 * rho)
        return result

    def variance(rho: Float) -> Float:
        half = np.maximum(0.5 * rho * rho, 1e-12)
        ratio = special.gammainc(1.5, half) / special.gammainc(0.5, half)
        result: Float = np.where(half > 1e-12, ratio, rho * rho / 3) - absolute(rho) ** 2
        return result

    mean = law.mean(lambda rho: rho + rest * absolute(rho))
    spread = law.mean(lambda rho: rest * variance(rho) + (rho + rest * absolute(rho) - mean) ** 2)
    return noise.sigma * mean, spread / mean**2
