"""Radius tables against SciPy's quantiles and, for the mixed family, its own definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, special

from cert_core.quantiles import (
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


@pytest.mark.parametrize("rest", [1e-9, 1e-6, 1e-3, 0.01, 0.05])
def test_mixed_where_it_is_hardly_normalised(rest: float) -> None:
    """Far down the mass below y is a power of exp(y)."""
    dim, k = 3, 3 - rest
    table, rest = max_log_quantiles(dim, k), dim - k  # as rounded
    # log rho <= -30: rho^rest/rest (2/pi)^((dim-1)/2), to all digits
    log_power = 0.5 * (dim - 1) * np.log(2 / np.pi) - np.log(rest) - max_law(dim, k).log_mass
    scores = np.linspace(-6.0, 4.0, 40)
    deep = table(scores) < -30.0
    assert deep.sum() >= 20
    found = log_power + rest * table(scores[deep])
    np.testing.assert_allclose(np.exp(found), special.ndtr(scores[deep]), rtol=0, atol=3e-9)


def test_mixed_draws_keep_their_tables() -> None:
    """Seeds of earlier versions give the same votes."""
    known = {
        (2, 1.9): -4.867436201617458,
        (64, 60.0): -0.8149634234045486,
        (3072, 300.0): 0.9029260654820335,
    }
    for (dim, k), value in known.items():
        assert float(max_log_quantiles(dim, k)(np.array(0.3))) == pytest.approx(value, rel=1e-13)


def test_mixed_without_k_is_the_largest_of_normals() -> None:
    score = np.array([-6.0, -1.0, 0.0, 2.0, 5.0])
    rho = np.exp(max_log_quantiles(3072, 0.0)(score))
    log_cdf = 3072 * np.log1p(-special.erfc(rho / np.sqrt(2)))
    np.testing.assert_allclose(log_cdf, special.log_ndtr(score), rtol=1e-8)
