"""Radius tables against SciPy's quantiles and, for the mixed family, its own definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, special

from cert_core.radii import (
    REACH,
    cosine_quantiles,
    gamma_log_quantiles,
    max_law,
    max_log_quantiles,
)

SCORES = np.random.default_rng(0).uniform(-8.5, 8.5, 3000)


@pytest.mark.parametrize("shape", [0.25, 0.5, 3.0, 200.0, 75264.0])
@pytest.mark.parametrize("power", [0.7, 1.0, 2.0])
def test_gamma(shape: float, power: float) -> None:
    table = gamma_log_quantiles(shape, power)(SCORES)
    low = special.gammaincinv(shape, special.ndtr(SCORES))
    high = special.gammainccinv(shape, special.ndtr(-SCORES))
    exact = np.log(np.where(SCORES < 0, low, high)) / power
    np.testing.assert_allclose(table, exact, atol=2e-9, rtol=1e-10)


def test_gamma_of_a_tiny_shape() -> None:
    """d - k = 1e-6: the quantiles underflow, their logarithms do not."""
    table = gamma_log_quantiles(1e-6, 2.0)
    score = np.array([-5.0, -2.0, 0.0])
    exact = (special.log_ndtr(score) + special.gammaln(1 + 1e-6)) / 1e-6 / 2
    np.testing.assert_allclose(table(score), exact, rtol=1e-6)


@pytest.mark.parametrize("dim", [2, 3, 10, 784, 150528])
def test_cosine(dim: int) -> None:
    a, low = 0.5 * (dim - 1), SCORES[SCORES < 0]
    half = special.expit(2 * cosine_quantiles(dim)(low))  # (1 + c)/2
    score = special.ndtri(special.betainc(a, a, half))
    np.testing.assert_allclose(score, low, atol=2e-8)
    np.testing.assert_allclose(cosine_quantiles(dim)(-SCORES), -cosine_quantiles(dim)(SCORES))


@pytest.mark.parametrize(("dim", "k"), [(1, 0.5), (2, 1.5), (12, 4.0), (64, 60.0), (3072, 900.0)])
def test_mixed(dim: int, k: float) -> None:
    table = max_log_quantiles(dim, k)

    def density(y: float) -> float:
        rho = np.exp(y)
        return np.exp(
            (1 - k) * y - 0.5 * rho**2 + (dim - 1) * np.log(special.erf(rho / np.sqrt(2)))
            - max_law(dim, k).log_mass
        )  # fmt: skip

    low = float(table(np.array(-REACH)))
    for score in (-4.0, -1.0, 0.5, 3.0):
        y = float(table(np.array(score)))
        points = [float(table(np.array(s))) for s in (-6, -3, -1, 0, 1) if s < score]
        below = integrate.quad(density, low, y, points=points, limit=500, epsabs=1e-13)[0]
        assert below == pytest.approx(special.ndtr(score), rel=1e-6, abs=1e-12)


def test_mixed_without_k_is_the_largest_of_normals() -> None:
    score = np.array([-6.0, -1.0, 0.0, 2.0, 5.0])
    rho = np.exp(max_log_quantiles(3072, 0.0)(score))
    log_cdf = 3072 * np.log1p(-special.erfc(rho / np.sqrt(2)))
    np.testing.assert_allclose(log_cdf, special.log_ndtr(score), rtol=1e-8)
