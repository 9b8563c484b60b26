"""Stopping boundaries and the confidence sequence: exact sizes, no simulation."""

from __future__ import annotations

import itertools
import math
import time
from fractions import Fraction
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

import cert_core as cc
from cert_core.sequential import tests as sequential
from cert_core.sequential.tests import FixedSequence

mp.mp.dps = 40
LOOKS = cc.sequential.geometric_looks(100_000)
SHORT = cc.sequential.geometric_looks(3000, first=20)

# Class probabilities at the quantiles 1/2000, 3/2000, ... of certified radii like those of a
# CIFAR-10 log (radii in units of the noise's 1/2; abstentions in (.25, .505)).
SHARES = [0.166, 0.23, 0.348, 0.536, 0.66, 0.757, 0.84, 0.90, 0.942, 0.984]
RADII = [0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 1.96]
QUANTILES = (np.arange(1000) + 0.5) / 1000
LOG = np.where(
    np.less(QUANTILES, SHARES[0]),
    0.25 + 0.255 * QUANTILES / SHARES[0],
    special.ndtr(np.interp(QUANTILES, SHARES, RADII) / 0.5),
)


def test_looks() -> None:
    assert LOOKS[:4] == (100, 150, 225, 338)
    assert (len(LOOKS), LOOKS[-1]) == (19, 100_000)
    assert cc.sequential.geometric_looks(50) == (50,)
    assert cc.sequential.geometric_looks(338) == (
        100,
        150,
        225,
        338,
    )  # 337.5 is rounded up to the last
    assert cc.sequential.geometric_looks(5, first=1, ratio=1.01) == (1, 2, 3, 4, 5)


@given(st.integers(1, 10**6), st.integers(1, 2000), st.floats(1.01, 10.0))
def test_looks_ascend_to_the_last(n_max: int, first: int, ratio: float) -> None:
    looks = cc.sequential.geometric_looks(n_max, first=first, ratio=ratio)
    assert looks[-1] == n_max
    assert looks[0] == min(first, n_max)
    assert all(a < b <= max(ratio * a + 1, a + 1) for a, b in itertools.pairwise(looks))


def certified_at(p: Fraction, test: cc.sequential.Boundaries) -> Fraction:
    """P(some look certifies), giving up ignored, in rational arithmetic."""
    going: dict[int, Fraction] = {0: Fraction(1)}
    certified, before = Fraction(0), 0
    for n, bound in zip(test.looks, test.certify, strict=True):
        for _ in range(n - before):
            step: dict[int, Fraction] = {}
            for k, mass in going.items():
                step[k] = step.get(k, Fraction(0)) + mass * (1 - p)
                step[k + 1] = step.get(k + 1, Fraction(0)) + mass * p
            going = step
        certified += sum((m for k, m in going.items() if k >= bound), Fraction(0))
        going = {k: m for k, m in going.items() if k < bound}
        before = n
    return certified


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.5])
@pytest.mark.parametrize("looks", [(7,), (3, 6, 20), (10, 15, 23, 40)])
def test_size_in_rational_arithmetic(threshold: float, alpha: float, looks: Any) -> None:
    """The size is at most alpha, not overstated, and no boundary could be lower alone."""
    test = cc.sequential.boundaries(threshold, alpha, looks)
    size = certified_at(Fraction(threshold), test)
    assert size <= Fraction(test.size) <= Fraction(alpha)
    assert float(size) == pytest.approx(test.size, rel=1e-8, abs=1e-20)
    last = (*test.certify[:-1], test.certify[-1] - 1)
    lower = cc.sequential.Boundaries(
        threshold=threshold,
        alpha=alpha,
        looks=looks,
        certify=last,
        futility=test.futility,
        size=0.0,
    )
    assert certified_at(Fraction(threshold), lower) > Fraction(alpha) * (1 - Fraction(1, 10**8))


def size_by_scipy(test: cc.sequential.Boundaries, p: float) -> float:
    """The size by whole binomial laws of SciPy and a matrix of paths."""
    going, certified, before = np.ones(1), 0.0, 0
    for n, bound in zip(test.looks, test.certify, strict=True):
        law = stats.binom.pmf(np.arange(n - before + 1), n - before, p)
        going = np.convolve(going, law)
        certified += going[bound:].sum()
        going, before = going[:bound], n
    return float(certified)


@pytest.mark.parametrize("threshold", [0.5, 0.6914624612740131, 0.9772498680518208, 0.99])
@pytest.mark.parametrize("alpha", [1e-6, 0.001, 0.05])
def test_size_on_a_long_schedule(threshold: float, alpha: float) -> None:
    test = cc.sequential.boundaries(threshold, alpha, SHORT)
    size = size_by_scipy(test, threshold)
    assert size <= alpha * (1 + 1e-9)
    assert size == pytest.approx(test.size, rel=1e-6)
    assert size_by_scipy(test, threshold * 0.999) < size
    assert test.size > 0.6 * alpha
    assert test.performance(threshold)[0] <= test.size


@pytest.mark.parametrize("threshold", [0.6914624612740131, 0.8413447460685429, 0.9772498680518208])
def test_size_at_full_length(threshold: float) -> None:
    """19 looks up to 1e5 at alpha = .001, as in SOUNDNESS section 4."""
    test = cc.sequential.boundaries(threshold, 0.001, LOOKS)
    assert 0.00099 < test.size <= 0.001
    for looks_before in (5, 10):
        short = cc.sequential.Boundaries(
            threshold=threshold, alpha=0.001, looks=LOOKS[:looks_before],
            certify=test.certify[:looks_before],
            futility=test.futility[:looks_before], size=0.0,
        )  # fmt: skip
        spent = size_by_scipy(short, threshold)
        assert spent <= 0.001 * looks_before / 19 * (1 + 1e-9)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.999])
@pytest.mark.parametrize("alpha", [0.05, 0.001, 1e-9, 1e-20])
def test_transforms_give_the_boundaries_of_direct_sums(
    threshold: float, alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a size that is not less, by what transforms may lose."""
    looks = cc.sequential.geometric_looks(200_000)
    direct, size = sequential._upper_boundary(threshold, alpha, looks)
    monkeypatch.setattr(sequential, "DIRECT", 1 << 12)
    by_transforms, above = sequential._upper_boundary(threshold, alpha, looks)
    assert by_transforms == direct
    assert size * (1 - 1e-12) <= above <= size * (1 + 1e-9)


def test_the_law_of_a_sum_by_transforms(monkeypatch: pytest.MonkeyPatch) -> None:
    """No term is below the truth, by relative 1e-12, down to the last on the right."""
    first, second = (sequential._binomial(n, 0.7)[1] for n in (4000, 2500))
    first = first[: len(first) * 2 // 3]  # as cut at a boundary
    exact = np.convolve(first, second)
    monkeypatch.setattr(sequential, "DIRECT", 0)
    found = sequential._sum_law(first, second)
    assert (found >= exact * (1 - 1e-11)).all()
    right = slice(int(exact.argmax()), len(exact))
    np.testing.assert_allclose(found[right], exact[right], rtol=1e-6)


def test_long_schedules_take_seconds() -> None:
    begin = time.perf_counter()
    test = cc.sequential.boundaries(0.7, 0.001, cc.sequential.geometric_looks(10**7))
    assert time.perf_counter() - begin < 20
    assert 0.00099 < test.size <= 0.001
    last = test.certify[-1] / 10**7
    assert cc.binomial_lower(test.certify[-1], 10**7, 0.001) > 0.7
    assert last < 0.7 + 5 * math.sqrt(0.21 / 10**7)


def test_performance_counts_every_path() -> None:
    """Chance and mean samples by enumerating all sequences of 12 votes."""
    test, p = cc.sequential.boundaries(0.55, 0.2, (3, 7, 12)), 0.8
    chance = mean = 0.0
    for votes in itertools.product((0, 1), repeat=12):
        mass = p ** sum(votes) * (1 - p) ** (12 - sum(votes))
        path = FixedSequence((test,))
        n = next(n for n in test.looks if path.update(sum(votes[:n]), n))
        chance += mass * path.passed
        mean += mass * n
    assert test.performance(p) == pytest.approx((chance, mean), rel=1e-12)
    assert test.performance(0.0) == (0.0, pytest.approx(mean_at_zero(test)))
    assert test.performance(1.0)[0] == 1.0


def mean_at_zero(test: cc.sequential.Boundaries) -> int:
    return next(n for n, low in zip(test.looks, test.futility, strict=True) if low >= 0)


@given(st.floats(0.01, 1.0), st.sampled_from([1e-9, 0.001, 0.3]), st.integers(1, 2000))
def test_boundaries_are_consistent(threshold: float, alpha: float, n_max: int) -> None:
    test = cc.sequential.boundaries(
        threshold, alpha, cc.sequential.geometric_looks(n_max, first=20)
    )
    pairs = zip(test.looks, test.futility, test.certify, strict=True)
    assert all(-1 <= low < high <= n + 1 for n, low, high in pairs)
    assert 0.0 <= test.size <= alpha
    assert all(k / n > threshold * 0.999 for n, k in zip(test.looks, test.certify, strict=True))


def test_impossible_thresholds_end_at_once() -> None:
    test = cc.sequential.boundaries(1.0, 0.001, LOOKS)
    assert test.size == 0.0
    assert FixedSequence((test,)).update(100, 100)
    assert cc.sequential.boundaries(0.99999, 0.001, LOOKS).performance(1.0) == (0.0, 100.0)


def test_fixed_sequence_on_one_path() -> None:
    """Ascending thresholds share the path, crossings are kept, the lowest failure ends it."""
    tests = tuple(cc.sequential.boundaries(p, 0.001, LOOKS) for p in (0.6, 0.8, 0.99))
    path = FixedSequence(tests)
    n = next(n for n in LOOKS if path.update(round(0.9 * n), n))
    assert (path.passed, path.decided) == (2, True)
    assert n < 1000
    path = FixedSequence(tests)
    assert path.update(100, 100) is False
    assert path.passed == 2
    with pytest.raises(ValueError, match="n must be the next look, 150, got 100"):
        path.update(90, 100)
    with pytest.raises(ValueError, match=r"successes must be an integer in \[0, 150\], got 151"):
        path.update(151, 150)
    for n in LOOKS[1:]:
        if path.update(n, n):
            break
    assert (path.passed, path.decided) == (3, True)
    with pytest.raises(ValueError, match="n must be the next look, None"):
        path.update(n, n)


def test_fixed_sequence_errs_no_more_than_alpha() -> None:
    """P(more thresholds passed than p exceeds), by all sequences of 12 votes."""
    tests = tuple(cc.sequential.boundaries(p, 0.2, (4, 8, 12)) for p in (0.3, 0.5, 0.6))
    for p, true in ((0.3, 0), (0.5, 1), (0.6, 2), (0.45, 1)):
        wrong = 0.0
        for votes in itertools.product((0, 1), repeat=12):
            path = FixedSequence(tests)
            for n in (4, 8, 12):
                if path.update(sum(votes[:n]), n):
                    break
            mass = p ** sum(votes) * (1 - p) ** (12 - sum(votes))
            wrong += mass * (path.passed > true)
        assert wrong <= 0.2 * (1 + 1e-9)


def fixed_n(p: np.ndarray, threshold: float, n: int, alpha: float) -> float:
    """Share certified by Clopper-Pearson with n samples, exactly."""
    least = np.searchsorted(cc.binomial_lower(np.arange(n + 1), n, alpha), threshold, side="right")
    return float(stats.binom.sf(least - 1, n, p).mean())


def threats() -> list[Any]:
    """Each noise at one share of the inputs, one noise at three: no more than the share counts."""
    found = []
    for name, family in sorted(cc.NOISES.items()):
        if name == "radial":
            continue
        noise = family.with_rms(3072, 1.0, 0.0) if name in ("gaussian", "laplace") else None
        noise = noise or family.with_rms(3072, 1.0, 1000.0)
        attack = {"laplace": "l1", "l1": "l1", "linf": "l1", "mixed": "linf"}.get(name, "l2")
        for target in (0.25, 0.5, 1.0) if name == "gaussian" else (0.5,):
            found.append(pytest.param(noise, attack, target, id=f"{name}-{target}"))
    return found


@pytest.mark.parametrize(("noise", "attack", "target"), threats())
def test_thirty_times_fewer_samples(noise: cc.Noise, attack: str, target: float) -> None:
    """Mean samples over the inputs of a log at alpha = .001, n_max = 1e5, at radii that ask
    for the same share of the inputs in every noise; n0 = 100 counted on both sides."""
    try:
        radius = cc.certified_radius(float(special.ndtr(target / 0.5)), noise, attack)
    except cc.errors.UnsupportedPair:
        with pytest.raises(cc.errors.UnsupportedPair):
            cc.sequential.plan_at(noise, attack, [0.1])
        return
    plan = cc.sequential.plan_at(noise, attack, [radius])
    (test,) = plan.tests
    results = np.array([test.performance(p) for p in LOG[5::10]])
    certified, mean = results.mean(axis=0)
    assert (100_000 + plan.n0) / (mean + plan.n0) >= 30
    fixed = fixed_n(LOG[5::10], test.threshold, 100_000, 0.001)
    assert abs(certified - fixed) <= 0.003


TABLE_2A = {
    (100, 100): 0.91321, (99, 100): 0.88811, (90, 100): 0.73889, (60, 100): 0.39527,
    (1000, 1000): 0.99093, (999, 1000): 0.98822, (990, 1000): 0.97153,
    (900, 1000): 0.85583, (600, 1000): 0.53190,
    (10**4, 10**4): 0.99909, (9990, 10**4): 0.99713, (9900, 10**4): 0.98527,
    (9000, 10**4): 0.88633, (6000, 10**4): 0.57748,
    (10**5, 10**5): 0.99991, (99900, 10**5): 0.99852, (99000, 10**5): 0.98856,
    (90000, 10**5): 0.89556, (60000, 10**5): 0.59254,
}  # fmt: skip


def test_published_values_of_the_mixture() -> None:
    """SOUNDNESS table 2a at alpha = .001, every printed digit."""
    for (k, n), value in TABLE_2A.items():
        assert round(cc.sequential.mixture_lower(k, n, 0.001), 5) == value


def log_mixture(p: mp.mpf, k: int, n: int) -> mp.mpf:
    """log of the mean over q in (p, 1) of the likelihood ratio, in 40 digits."""
    tail = mp.betainc(k + 1, n - k + 1, p, 1)
    return mp.log(tail) - k * mp.log(p) - (n - k + 1) * mp.log(1 - p)


@given(st.integers(1, 10**5), st.floats(0, 1), st.sampled_from([1e-6, 0.001, 0.05, 0.5]))
def test_mixture_is_never_above_its_exact_value(n: int, share: float, alpha: float) -> None:
    k = min(round(share * n), n)
    lower = cc.sequential.mixture_lower(k, n, alpha)
    assert 0.0 <= lower <= cc.binomial_lower(k, n, alpha) + 1e-9
    if lower > 0 and k * (n - k) < 10**6:
        assert log_mixture(mp.mpf(lower), k, n) >= -mp.log(alpha)
        above = mp.mpf(lower) + mp.mpf("1e-8")
        assert above >= 1 or log_mixture(above, k, n) < -mp.log(alpha)
    assert cc.sequential.mixture_upper(n - k, n, alpha) == pytest.approx(1 - lower, abs=1e-13)


def least_wrong(p: float, alpha: float, sizes: np.ndarray) -> np.ndarray:
    """Least successes at each size whose bound exceeds p (size + 1: none), by bisection."""
    low, high = np.full(len(sizes), -1), sizes + 1
    while (high - low > 1).any():
        middle = (low + high) // 2
        bounds = cc.sequential.mixture_lower(np.clip(middle, 0, sizes), sizes, alpha)
        wrong = np.asarray(bounds) > p
        low, high = np.where(wrong, low, middle), np.where(wrong, middle, high)
    return high


@pytest.mark.parametrize("p", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_mixture_ever_misses_no_more_than_alpha(p: float, alpha: float) -> None:
    """P(the bound exceeds p at any of 600 sizes), exactly, by paths that have not yet."""
    going, missed = np.ones(1), 0.0
    for bound in least_wrong(p, alpha, np.arange(1, 601)):
        going = np.convolve(going, [1 - p, p])
        missed += going[bound:].sum()
        going[bound:] = 0.0
    assert missed <= alpha * (1 + 1e-9)
    assert missed > 0.2 * alpha


BAD = [
    (
        lambda: cc.sequential.boundaries(0.0, 0.1, [5]),
        "threshold must be a number in (0, 1], got 0.0",
    ),
    (lambda: cc.sequential.boundaries(0.5, 0.7, [5]), "alpha must be a number in (0, 0.5]"),
    (lambda: cc.sequential.boundaries(0.5, 0.1, []), "looks must be ascending and not empty"),
    (lambda: cc.sequential.boundaries(0.5, 0.1, [5, 5]), "looks must be ascending"),
    (lambda: cc.sequential.boundaries(0.5, 0.1, [5.5]), "looks must be an integer >= 1, got 5.5"),
    (lambda: cc.sequential.geometric_looks(0), "n_max must be an integer >= 1, got 0"),
    (lambda: cc.sequential.geometric_looks(10, ratio=1.0), "ratio must be a number >= 1.01"),
    (lambda: cc.sequential.mixture_lower(3, 2, 0.1), "k must be between 0 and n"),
    (
        lambda: cc.sequential.boundaries(0.5, 0.1, [5]).performance(2),
        "p must be a number in [0, 1]",
    ),
    (
        lambda: FixedSequence(
            (cc.sequential.boundaries(0.6, 0.1, [5]), cc.sequential.boundaries(0.5, 0.1, [5]))
        ),
        "tests must be tests of one alpha and the same looks, thresholds ascending",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m[:35] for _, m in BAD])
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        call()
    assert message in str(caught.value)
