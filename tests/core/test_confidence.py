"""Confidence bounds by enumeration: exact coverage, no simulation, no false alarm."""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from cases import public
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


@pytest.mark.parametrize("alpha", [1e-12, 0.001, 0.05, 0.5])
@pytest.mark.parametrize("n", [1, 2, 3, 8, 50, 10**6])
def test_both_ends_of_few_votes_and_of_many(n: int, alpha: float) -> None:
    """P(X >= k) at the lower bound, and P(X <= k) at the upper one, are alpha at most: to the
    last digit, 1 - alpha and its root among them."""
    for k in sorted({*range(min(n, 9)), n - 1, n}):
        lower, upper = (
            mp.mpf(bound(k, n, alpha)) for bound in (cc.binomial_lower, cc.binomial_upper)
        )
        if k > 0:
            at = lower**n if k == n else mp.betainc(k, n - k + 1, 0, lower, regularized=True)
            assert at <= mp.mpf(alpha)
        if k < n:
            rest = 1 - upper
            at = rest**n if k == 0 else mp.betainc(n - k, k + 1, 0, rest, regularized=True)
            assert at <= mp.mpf(alpha)
            assert rest >= cc.binomial_lower(n - k, n, alpha) * (1 - 1e-12) - 2e-15
    assert (cc.binomial_lower(0, n, alpha), cc.binomial_upper(n, n, alpha)) == (0.0, 1.0)


@pytest.mark.parametrize("n", [1, 2, 9, 100, 2001])
def test_p_values_are_never_below_the_exact_ones(n: int) -> None:
    """Twice the sum of whole binomial coefficients, over 2^n, down to 1e-60."""
    ways, total = 0, Fraction(2) ** n
    for top in range(n, n // 2, -1):
        ways += math.comb(n, top)
        exact = min(2 * ways / total, Fraction(1))
        if exact >= Fraction(1, 10**60):
            found = Fraction(majority_p_value(top, n - top))
            assert exact <= found <= exact * (1 + Fraction(1, 10**11))


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


def of_votes(name: str, k: np.ndarray, n: int, alpha: float) -> np.ndarray:
    """A bound for the mean of scores, asked about k votes of n."""
    mean = k / n
    if name == "empirical_bernstein_lower":
        return np.asarray(
            cc.confidence.empirical_bernstein_lower(mean, mean * (1 - mean) * n / (n - 1), n, alpha)
        )
    return np.asarray(public()[name](mean, n, alpha))


BOUNDS = ["hoeffding_lower", "chernoff_lower", "empirical_bernstein_lower"]


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("n", [20, 100, 1000])
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.5])
def test_bounds_for_means_miss_no_more_than_alpha_on_votes(name: str, n: int, alpha: float) -> None:
    """sup over p of P(bound > p), by enumeration just below the bounds' own values."""
    lower = of_votes(name, np.arange(n + 1), n, alpha)
    assert (np.diff(lower) >= 0).all()
    positive = [i for i in range(n + 1) if lower[i] > 0]
    misses = [stats.binom.sf(i - 1, n, lower[i] * (1 - 1e-12)) for i in positive]
    assert max(misses, default=0.0) <= alpha * (1 + 1e-9)
    exact = cc.binomial_lower(np.arange(n + 1), n, alpha)
    assert (lower <= exact + 1e-9).all()


@pytest.mark.parametrize("n", [20, 1000])
def test_chernoff_is_the_inverse_of_the_relative_entropy(n: int) -> None:
    mean = np.linspace(0.05, 1.0, 20)
    for m, lower in zip(mean, cc.confidence.chernoff_lower(mean, n, 0.001), strict=True):
        q, x = mp.mpf(float(lower)), mp.mpf(float(m))
        entropy = x * mp.log(x / q) + ((1 - x) * mp.log((1 - x) / (1 - q)) if x < 1 else 0)
        assert n * entropy >= mp.log(1000)
        assert n * entropy <= mp.log(1000) * (1 + mp.mpf("1e-6"))
    assert (
        cc.confidence.chernoff_lower(mean, n, 0.001)
        >= cc.confidence.hoeffding_lower(mean, n, 0.001)
    ).all()


def test_closed_bounds_for_means_are_below_their_formulas() -> None:
    """Hoeffding's and Maurer and Pontil's, in 40 digits, at means that are no ends of anything."""
    for n, mean in zip((20, 333, 10**6) * 20, np.linspace(0.55, 0.97, 60), strict=True):
        m, level, variance = mp.mpf(float(mean)), -mp.log(mp.mpf(0.001)), float(mean) / 9
        both = level + mp.log(2)
        width = mp.sqrt(2 * variance * both / n) + 7 * both / (3 * (n - 1))
        for lower, exact in (
            (cc.confidence.hoeffding_lower(mean, n, 0.001), m - mp.sqrt(level / 2 / n)),
            (cc.confidence.empirical_bernstein_lower(mean, variance, n, 0.001), m - width),
        ):
            assert exact <= 0 or exact - mp.mpf("4e-14") <= mp.mpf(float(lower)) <= exact


TABLE_2A = """
100  1     .93325 .81415 .93325 .82085
100  .99   .91137 .80415 .90226 .77186
100  .9    .77533 .71415 .75426 .60330
100  .6    .44098 .41415 .41507 .22888
1e3  1     .99312 .94123 .99312 .98225
1e3  .999  .99080 .94023 .98981 .97735
1e3  .99   .97604 .93123 .97348 .95997
1e3  .9    .86746 .84123 .86110 .84524
1e3  .6    .55108 .54123 .54170 .52181
1e4  1     .99931 .98142 .99931 .99823
1e4  .999  .99759 .98042 .99733 .99599
1e4  .99   .98653 .97142 .98584 .98435
1e4  .9    .89041 .88142 .88848 .88653
1e4  .6    .58475 .58142 .58170 .57912
1e5  1     .99993 .99412 .99993 .99982
1e5  .999  .99865 .99312 .99858 .99843
1e5  .99   .98899 .98412 .98878 .98860
1e5  .9    .89704 .89412 .89644 .89612
1e5  .6    .59520 .59412 .59423 .59378
"""


def test_table_of_bounds() -> None:
    """SOUNDNESS table 2a at alpha = .001, every printed digit: exact, and for means."""
    for line in TABLE_2A.split("\n")[1:-1]:
        n, share, *printed = map(float, line.split())
        k = np.array(round(share * n))
        values = [cc.binomial_lower(k, int(n), 0.001)]
        values += [float(of_votes(name, k, int(n), 0.001)) for name in BOUNDS]
        assert [round(v, 5) for v in values] == printed, line


def test_radii_of_the_bounds() -> None:
    """Radii over sigma at n = 1e5, alpha = .001, Gaussian l2 (SOUNDNESS 2a), to printed digits;
    Hoeffding's 2.148 was printed from 2.14749, rounded twice."""
    printed = {
        "binomial_lower": [3.811, 3.000, 2.290, 1.265, 0.2409],
        "hoeffding_lower": [2.519, 2.464, 2.148, 1.249, 0.2382],
        "chernoff_lower": [3.811, 2.985, 2.283, 1.262, 0.2384],
        "empirical_bernstein_lower": [3.572, 2.954, 2.277, 1.260, 0.2373],
        "mixture_lower": [3.742, 2.973, 2.275, 1.257, 0.2341],
    }
    k = np.array([100_000, 99_900, 99_000, 90_000, 60_000])
    for name, row in printed.items():
        bound = functools.partial(of_votes, name) if name in BOUNDS else public()[name]
        p = bound(k, 100_000, 0.001)
        radii = cc.certified_radius(p, cc.Gaussian(3, 1.0), "l2")
        unit = np.array([1e-3, 1e-3, 1e-3, 1e-3, 1e-4])
        assert (np.abs(radii - row) <= 0.52 * unit).all(), name


def all_sequences(n: int) -> np.ndarray:
    return np.array([[(i >> j) & 1 for j in range(n)] for i in range(2**n)], dtype=float)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.3])
def test_betting_misses_no_more_than_alpha_on_votes(alpha: float) -> None:
    """Every sequence of 10 votes: P(bound > p) at p just below each value of the bound."""
    sequences = all_sequences(10)
    lower, k = cc.confidence.betting_lower(sequences, alpha), sequences.sum(axis=1)
    worst = 0.0
    for p in np.unique(lower[lower > 0]) * (1 - 1e-12):
        missed = lower > p
        worst = max(worst, float((p ** k[missed] * (1 - p) ** (10 - k[missed])).sum()))
    assert worst <= alpha * (1 + 1e-9)
    assert worst > 0.01 * alpha


def test_betting_reads_the_order_of_arrival() -> None:
    """The capital is that of the bets, score by score, the largest it ever was."""
    rng = np.random.default_rng(0)
    scores, alpha, n = rng.beta(6, 2, size=400), 0.01, 400

    def capital(m: float) -> float:
        wealth, most, seen = 1.0, 1.0, [0.5]
        squares = 0.25
        for t, x in enumerate(scores):
            bet = math.sqrt(2 * math.log(1 / alpha) / (n * squares / (t + 1)))
            wealth *= 1 + min(bet, 0.75 / m) * (x - m)
            most = max(most, wealth)
            seen.append(x)
            squares += (x - sum(seen) / (t + 2)) ** 2
        return most

    lower = cc.confidence.betting_lower(scores, alpha)
    assert capital(lower) >= 1 / alpha
    assert capital(lower + 1e-9) < 1 / alpha
    assert lower != cc.confidence.betting_lower(np.sort(scores), alpha)


@pytest.mark.parametrize(("mean", "spread"), [(0.9, 20.0), (0.99, 0.2), (0.95, 0.0)])
def test_betting_covers_scores(mean: float, spread: float) -> None:
    """Of 2000 bounds at alpha = .05 at most 149 miss (false alarm < 1e-6 at exactly .05)."""
    rng = np.random.default_rng(1)
    if spread:
        scores = rng.beta(spread * mean, spread * (1 - mean), size=(2000, 300))
    else:
        scores = (rng.random((2000, 300)) < mean).astype(float)
    lower = cc.confidence.betting_lower(scores, 0.05)
    assert (lower > mean).sum() <= 149
    assert np.median(lower) > mean - 0.06


def test_betting_beats_the_others_on_scores() -> None:
    """Width at n = 1e3, alpha = .001, peaked scores of mean .9 (SOUNDNESS 2a): .0099 by
    betting, .0258 empirical Bernstein, .0389 Chernoff, .0588 Hoeffding."""
    scores = np.random.default_rng(2).beta(18, 2, size=(200, 1000))
    mean, variance = scores.mean(axis=1), scores.var(axis=1, ddof=1)
    widths = [
        np.mean(0.9 - lower)
        for lower in (
            cc.confidence.betting_lower(scores, 0.001),
            cc.confidence.empirical_bernstein_lower(mean, variance, 1000, 0.001),
            cc.confidence.chernoff_lower(mean, 1000, 0.001),
            cc.confidence.hoeffding_lower(mean, 1000, 0.001),
        )
    ]
    np.testing.assert_allclose(widths, [0.0099, 0.0258, 0.0389, 0.0588], rtol=0.05)


@given(
    st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20),
    st.sampled_from([1e-9, 0.001, 0.05, 0.5]),
)
def test_split_alpha(shares: list[float], alpha: float) -> None:
    parts = cc.confidence.split_alpha(alpha, shares)
    assert math.fsum(parts) <= alpha
    assert math.fsum(parts) >= alpha * (1 - 1e-14)
    weights = np.array(shares) / math.fsum(shares)
    np.testing.assert_allclose(np.array(parts) / alpha, weights, rtol=1e-12)


def test_metamorphic() -> None:
    assert (np.diff([cc.binomial_lower(n - 5, n, 0.001) for n in range(10, 2000, 50)]) > 0).all()
    alphas = [cc.binomial_lower(90, 100, a) for a in (1e-6, 1e-3, 0.05, 0.5)]
    assert (np.diff(alphas) > 0).all()


def test_votes_needed() -> None:
    for alpha in (0.1, 0.05, 0.001, 1e-6):
        n = cc.confidence.votes_needed(alpha)
        assert cc.binomial_lower(n, n, alpha) > 0.5
        assert cc.binomial_lower(n - 1, n - 1, alpha) <= 0.5
    assert cc.confidence.votes_needed(0.001) == 10
    with pytest.raises(ValueError, match=r"threshold must be a number in \(0, 1\)"):
        cc.confidence.votes_needed(0.001, 1.5)


@given(st.integers(0, 300), st.integers(0, 300))
def test_majority_test_is_the_exact_binomial_test(a: int, b: int) -> None:
    top, second = max(a, b), min(a, b)
    if top == 0:
        return
    exact = stats.binomtest(top, top + second, 0.5).pvalue
    assert majority_p_value(top, second) == pytest.approx(exact, rel=1e-9)


def test_a_majority_beyond_all_floats_is_below_every_alpha() -> None:
    assert 0.0 <= majority_p_value(2000, 0) <= 5e-324


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cc.binomial_lower(5, 3, 0.001), "k must be between 0 and n, got 5"),
        (lambda: cc.binomial_lower(-1, 3, 0.001), "k must be between 0 and n, got -1"),
        (lambda: cc.binomial_lower(1.5, 3, 0.001), "k must be integers, got 1.5"),
        (lambda: cc.binomial_lower(1, 0, 0.001), "n must be >= 1, got 0"),
        (lambda: cc.binomial_upper(1, 3, 0.0), r"alpha must be a number in \(0, 0.5\], got 0.0"),
        (lambda: cc.binomial_upper(1, 3, math.nan), "alpha must be a number"),
        (lambda: cc.confidence.hoeffding_lower(1.1, 3, 0.1), r"mean must be in \[0, 1\], got 1.1"),
        (lambda: cc.confidence.chernoff_lower(0.5, 0, 0.1), "n must be >= 1, got 0"),
        (
            lambda: cc.confidence.empirical_bernstein_lower(0.5, 0.1, 1, 0.1),
            "n must be >= 2, got 1",
        ),
        (lambda: cc.confidence.empirical_bernstein_lower(0.5, -1, 5, 0.1), "variance must be >= 0"),
        (lambda: cc.confidence.betting_lower([0.5, math.nan], 0.1), "scores must be in"),
        (
            lambda: cc.confidence.betting_lower([0.5, 1.5], 0.1),
            r"scores must be in \[0, 1\], got 1.5",
        ),
        (lambda: cc.confidence.betting_lower([], 0.1), "scores must be an array of at least one"),
        (lambda: cc.confidence.split_alpha(0.1, []), "shares must be not empty"),
        (lambda: cc.confidence.split_alpha(0.1, [1, -1]), "shares must be a finite number > 0"),
    ],
)
def test_bad_input(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
