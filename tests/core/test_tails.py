"""Binomial tails and the bounds found by them, against 60-digit arithmetic."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest

import cert_core as cc
from cert_core import tails
from cert_core.confidence import majority_p_value


def log_tail(k: int, n: int, p: float | mp.mpf) -> mp.mpf:
    """log P(X >= k) for X of Binomial(n, p), p <= k/n: its continued fraction, by Lentz."""
    p, a, b = mp.mpf(p), mp.mpf(k), mp.mpf(n - k + 1)
    c, d = mp.mpf(1), 1 / (1 - (a + b) * p / (a + 1))
    fraction = d
    for m in range(1, 200_000):
        even = m * (b - m) * p / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * p / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d, c = 1 / (1 + term * d), 1 + term / c
            fraction *= d * c
        if abs(d * c - 1) < mp.mpf(10) ** -40:
            beta = mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)
            return a * mp.log(p) + b * mp.log1p(-p) - mp.log(a) - beta + mp.log(fraction)
    raise AssertionError((k, n, p))


def log_mixture(k: int, n: int, p: float | mp.mpf) -> mp.mpf:
    """log of the mean over q in (p, 1) of the likelihood ratio."""
    p = mp.mpf(p)
    beta = mp.loggamma(k + 1) + mp.loggamma(n - k + 1) - mp.loggamma(n + 2)
    above = mp.log1p(-mp.exp(log_tail(k + 1, n + 1, p)))
    return beta + above - k * mp.log(p) - (n - k + 1) * mp.log1p(-p)


def slack(lower: float, n: int) -> mp.mpf:
    """How far below the exact bound a bound may lie."""
    error = (1e-9 + 2e-14 * math.sqrt(n)) * math.sqrt(lower * (1 - lower) / n)
    return mp.mpf(error + 8 * math.ulp(lower)) + mp.mpf(1e-12) * lower * (1 - mp.mpf(lower))


def cases(count: int, seed: int) -> list[tuple[int, int, float]]:
    """(k, n, alpha), n to 2^53, k anywhere and near both ends, alpha to 1e-300."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        alpha = float(rng.choice([0.5, 0.25, 1e-3, 1e-6, 10.0 ** -rng.uniform(0.31, 300)]))
        n = int(10 ** rng.uniform(0, 15.95 if alpha < 0.01 else 7))
        k = [
            round(n * rng.random()),
            int(10 ** rng.uniform(0, 6)),
            n - int(10 ** rng.uniform(0, 6)),
        ]
        found.append((min(max(int(rng.choice(k)), 1), n), n, alpha))
    return found


def check_bounds(k: int, n: int, alpha: float) -> None:
    """Each bound spends alpha at most, and not much less."""
    target = mp.log(mp.mpf(alpha))
    for lower_of, upper_of, spent in (
        (cc.binomial_lower, cc.binomial_upper, log_tail),
        (cc.sequential.mixture_lower, cc.sequential.mixture_upper, lambda *at: -log_mixture(*at)),
    ):
        lower, upper = lower_of(k, n, alpha), upper_of(n - k, n, alpha)
        assert 0.0 <= lower <= k / n
        assert (n - k) / n <= upper <= 1.0
        if lower > 1e-303:
            assert spent(k, n, lower) <= target
            above = mp.mpf(lower) + slack(lower, n)
            assert above >= mp.mpf(k) / n or spent(k, n, above) > target
        if upper < 1.0:
            assert spent(k, n, 1 - mp.mpf(upper)) <= target


@pytest.mark.parametrize(
    ("k", "n", "alpha"),
    [
        (10**12, 10**13, 1e-6), (7 * 10**9, 12 * 10**9, 1e-100), (2, 5, 1e-200),
        (9_000_000, 10**7, 1e-3), (2**53 - 2, 2**53 - 1, 0.001), (2**53 - 1, 2**53 - 1, 0.5),
        (1, 2**53 - 1, 1e-3),
        (1, 1, 0.5), (1, 2, 0.5), (500_000, 10**6, 0.5), (5 * 10**14, 10**15, 1e-300),
        (1_932_303, 7_391_042, 0.5), (1, 68_297_874_312_195, 2.1575136102902218e-269),
    ],
)  # fmt: skip
def test_bounds_at_the_ends_of_the_range(k: int, n: int, alpha: float) -> None:
    with mp.workdps(60):
        check_bounds(k, n, alpha)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_bounds_everywhere(seed: int) -> None:
    with mp.workdps(60):
        for case in cases(250, seed):
            check_bounds(*case)


def test_tails_within_their_error() -> None:
    with mp.workdps(60):
        for k, n, alpha in cases(150, 77):
            if k == n:
                continue
            y = tails.log_lower(np.array([float(k)]), np.array([float(n)]), alpha)
            value, error, slope, _ = tails.log_tail(np.array([k + 0.0]), np.array([n + 0.0]), y)
            if math.exp(y[0]) < 1e-300:
                continue
            exact = log_tail(k, n, mp.exp(mp.mpf(float(y[0]))))
            assert abs(mp.mpf(float(value[0])) - exact) <= error[0]
            assert error[0] <= 1e-11 + 1e-13 * math.sqrt(n) * (1 + math.log(1 / alpha))
            assert slope[0] > 0


@pytest.mark.parametrize("n", [57, 1000, 10**7, 10**12])
@pytest.mark.parametrize("alpha", [0.5, 0.001, 1e-100])
def test_a_bound_is_the_same_in_any_company(n: int, alpha: float) -> None:
    k = np.random.default_rng(3).integers(0, n + 1, (7, 100))
    for bound in (
        cc.binomial_lower,
        cc.binomial_upper,
        cc.sequential.mixture_lower,
        cc.sequential.mixture_upper,
    ):
        whole = bound(k, n, alpha)
        np.testing.assert_array_equal(bound(k[1], n, alpha), whole[1])
        assert [bound(int(votes), n, alpha) for votes in k[2, :9]] == whole[2, :9].tolist()
    mixed = cc.binomial_lower([1, 3, 5], [[5], [9]], alpha)
    assert mixed.shape == (2, 3)
    assert mixed[1, 2] == cc.binomial_lower(5, 9, alpha)


def test_means_at_large_n() -> None:
    """n KL(mean || bound) reaches log(1/alpha)."""
    with mp.workdps(60):
        for n in (10**6, 10**12, 2**53 - 1):
            for mean in (0.5, 0.999, 1 - 1e-13):
                m, q = mp.mpf(mean), mp.mpf(cc.confidence.chernoff_lower(mean, n, 1e-3))
                entropy = m * mp.log(m / q) + (1 - m) * mp.log((1 - m) / (1 - q))
                assert n * entropy >= mp.log(1000)


def test_p_values_are_not_understated() -> None:
    with mp.workdps(60):
        for exponent in range(2, 16):
            n = 10**exponent
            for score in (3, 5):
                top = min(n // 2 + int(score * math.sqrt(n) / 2), n - 1)
                exact = 2 * mp.exp(log_tail(top, n, 0.5))
                assert exact <= majority_p_value(top, n - top) <= exact * (1 + mp.mpf("1e-6"))
