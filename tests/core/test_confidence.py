"""Confidence bounds by enumeration: exact coverage, no simulation, no false alarm."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import cert_core as cc
from cert_core.confidence import majority_p_value

mp.mp.dps = 40


@pytest.mark.parametrize("n", [20, 100, 1000])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_exact_coverage(n: int, alpha: float) -> None:
    """sup over p of P(bound > p) <= alpha, reached just below the bounds' own values."""
    k = np.arange(n + 1)
    lower = cc.binomial_lower(k, n, alpha)
    assert (np.diff(lower) > 0).all()
    misses = [stats.binom.sf(i - 1, n, lower[i] * (1 - 1e-12)) for i in k[1:]]
    assert max(misses) <= alpha * (1 + 1e-9)
    assert max(misses) >= alpha * 0.999
    upper = cc.binomial_upper(k, n, alpha)
    np.testing.assert_allclose(upper, 1 - lower[::-1], atol=3e-14)


@given(st.integers(1, 10**6), st.floats(0, 1), st.sampled_from([1e-6, 0.001, 0.05, 0.5]))
def test_never_above_the_exact_bound(n: int, share: float, alpha: float) -> None:
    """P(X >= k) at the bound is below alpha: the tail in 40 digits."""
    k = min(round(share * n), n)
    lower = cc.binomial_lower(k, n, alpha)
    assert 0.0 <= lower <= k / n
    if k > 0 and k * (n - k) < 10**7:

        def tail(x: mp.mpf) -> mp.mpf:
            return mp.betainc(k, n - k + 1, 0, x, regularized=True) if x else mp.mpf(0)

        assert tail(mp.mpf(lower)) <= mp.mpf(alpha)
        assert tail(mp.mpf(lower) + mp.mpf("1.1e-10")) >= mp.mpf(alpha)


def test_published_values() -> None:
    """Lower bounds at alpha = .001 (SOUNDNESS table 2a) to their printed digits."""
    table = {
        (100, 100): 0.93325, (99, 100): 0.91137, (90, 100): 0.77533, (60, 100): 0.44098,
        (1000, 1000): 0.99312, (999, 1000): 0.99080, (900, 1000): 0.86746,
        (10**4, 10**4): 0.99931, (9990, 10**4): 0.99759, (9000, 10**4): 0.89041,
        (10**5, 10**5): 0.99993, (99900, 10**5): 0.99865, (60000, 10**5): 0.59520,
    }  # fmt: skip
    for (k, n), value in table.items():
        assert cc.binomial_lower(k, n, 0.001) == pytest.approx(value, abs=6e-6)
    radii = {10**5: 3.811, 99900: 3.000, 99000: 2.290, 90000: 1.265, 60000: 0.2409}
    for k, value in radii.items():
        radius = cc.certified_radius(cc.binomial_lower(k, 10**5, 0.001), cc.Gaussian(3, 1.0), "l2")
        assert radius == pytest.approx(value, abs=6e-4)


def test_metamorphic() -> None:
    assert (np.diff([cc.binomial_lower(n - 5, n, 0.001) for n in range(10, 2000, 50)]) > 0).all()
    alphas = [cc.binomial_lower(90, 100, a) for a in (1e-6, 1e-3, 0.05, 0.5)]
    assert (np.diff(alphas) > 0).all()


def test_votes_needed() -> None:
    for alpha in (0.1, 0.05, 0.001, 1e-6):
        n = cc.votes_needed(alpha)
        assert cc.binomial_lower(n, n, alpha) > 0.5
        assert cc.binomial_lower(n - 1, n - 1, alpha) <= 0.5
    assert cc.votes_needed(0.001) == 10


@given(st.integers(0, 300), st.integers(0, 300))
def test_majority_test_is_the_exact_binomial_test(a: int, b: int) -> None:
    top, second = max(a, b), min(a, b)
    if top == 0:
        return
    exact = stats.binomtest(top, top + second, 0.5).pvalue
    assert majority_p_value(top, second) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cc.binomial_lower(5, 3, 0.001), "k must be between 0 and n, got 5"),
        (lambda: cc.binomial_lower(-1, 3, 0.001), "k must be between 0 and n, got -1"),
        (lambda: cc.binomial_lower(1.5, 3, 0.001), "k must be integers, got 1.5"),
        (lambda: cc.binomial_lower(1, 0, 0.001), "n must be >= 1, got 0"),
        (lambda: cc.binomial_upper(1, 3, 0.0), r"alpha must be a number in \(0, 0.5\], got 0.0"),
        (lambda: cc.binomial_upper(1, 3, math.nan), "alpha must be a number"),
    ],
)
def test_bad_input(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
