"""Percentiles and means under noise: exact coverage, closed forms, every family."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

import cert_core as cc

GAUSSIAN = cc.Gaussian(3, 0.5)
PAIRS = [
    (cc.Gaussian(9, 1.0), "l2", 0.7), (cc.L2Noise(50, 1.0, 20.0), "l2", 0.4),
    (cc.L2Noise(9, 1.0, 3.0), "linf", 0.3), (cc.L1Noise(20, 1.0, 5.0), "l1", 1.1),
    (cc.LinfNoise(12, 1.0, 3.0), "linf", 0.3), (cc.LinfNoise(12, 1.0, 3.0), "l1", 1.0),
    (cc.MixedNoise(16, 1.0, 5.0), "linf", 0.1), (cc.RadialNoise(6, 2.0, 1.0, 1.0), "l2", 1.0),
    (cc.Laplace(5, 1.0), "l1", 0.6), (cc.Laplace(5, 1.0), "linf", 0.1),
]  # fmt: skip
IDS = [f"{noise.name}-{attack}" for noise, attack, _ in PAIRS]
LEVELS = np.array([0.0, 1e-12, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999, 1 - 1e-12, 1.0])


@pytest.mark.parametrize(("noise", "attack", "radius"), PAIRS, ids=IDS)
def test_inverse_bound(noise: cc.Noise, attack: str, radius: float) -> None:
    """Above the inverse, and hardly above it; U by the same number."""
    inverse = cc.bounds.inverse_bound(LEVELS, noise, attack, radius)
    assert (np.diff(inverse) >= 0).all()
    assert inverse[0] == 0.0
    assert inverse[-1] == 1.0
    reached = cc.lower_bound(np.minimum(inverse * (1 + 1e-6), 1.0), noise, attack, radius)
    tolerance = 1e-5 if noise.name == "mixed" else 1e-11
    assert (reached >= LEVELS * (1 - tolerance) - 1e-12).all()
    if not (noise.name == "laplace" and attack == "linf"):  # bounds by inclusion are not tight
        back = cc.lower_bound(inverse, noise, attack, radius)
        np.testing.assert_allclose(back, LEVELS, atol=1e-8)
    needed = cc.required_probability(noise, attack, radius)
    assert cc.bounds.inverse_bound(0.5, noise, attack, radius) == pytest.approx(needed, rel=1e-9)


def test_inverse_bound_in_closed_form() -> None:
    q = np.array([1e-9, 0.01, 0.5, 0.9, 1 - 1e-9])
    exact = special.ndtr(special.ndtri(q) + 2.0)
    found = cc.bounds.inverse_bound(q, GAUSSIAN, "l2", 1.0)
    assert (found >= exact * (1 - 1e-15)).all()
    np.testing.assert_allclose(found, exact, rtol=1e-7, atol=1e-13)
    still = cc.bounds.inverse_bound(q, GAUSSIAN, "l2", 0.0)
    assert (still >= q).all()
    np.testing.assert_allclose(still, q, rtol=0, atol=2e-16)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("radius", [0.0, 0.2, 0.6])
@pytest.mark.parametrize("n", [1, 30, 1000, 20_000])
@pytest.mark.parametrize("alpha", [0.1, 0.001])
def test_ranks_cover_exactly(share: float, radius: float, n: int, alpha: float) -> None:
    """Of a linear function under a Gaussian the worst percentiles are those of shares
    Phi(Phi^-1(share) +- r/sigma) of the clean values: each side fails with the probability
    of a binomial tail, alpha/2 or less, and a rank further in would fail oftener."""
    low, high = cc.percentiles.percentile_ranks(n, share, GAUSSIAN, "l2", radius, alpha=alpha)
    above = special.ndtr(special.ndtri(share) + radius / GAUSSIAN.sigma)
    below = special.ndtr(special.ndtri(share) - radius / GAUSSIAN.sigma)
    half, slack = alpha / 2, 1 + 1e-6
    assert high == n + 1 or stats.binom.sf(high - 1, n, above) <= half  # F(v_high) <= above
    assert low == 0 or stats.binom.cdf(low - 1, n, below) <= half  # F(v_low) >= below
    assert high == 1 or stats.binom.sf(high - 2, n, above) * slack > half
    assert low == n or stats.binom.cdf(low, n, below) * slack > half


def worst_percentiles(cuts: Any, share: float, radius: float) -> tuple[int, int]:
    """The least and largest percentile of the step function #{cuts < z} within the radius, z
    standard normal: it rises with z, so at the shifts -radius and radius."""
    steps = np.append(special.ndtr(np.asarray(cuts)[:, None] - [-radius, radius]), [[1, 1]], axis=0)
    return int((steps[:, 0] < share).sum()), int((steps[:, 1] <= share).sum())


@pytest.mark.parametrize("cuts", [(-0.6, 0.7), (-0.3, 0.3), (0.25, 1.1)])
@pytest.mark.parametrize(("share", "radius"), [(0.5, 0.25), (0.5, 0.0), (0.3, 0.1)])
def test_coverage_by_enumeration(cuts: Any, share: float, radius: float) -> None:
    """All samples of a function with three values, ties and all: the bounds fail with
    probability alpha at most."""
    n, alpha, noise = 14, 0.2, cc.Gaussian(1, 1.0)
    chances = np.diff(special.ndtr(np.array([-np.inf, *cuts, np.inf])))
    pairs = [c for c in itertools.product(range(n + 1), repeat=2) if sum(c) <= n]
    counts = [[first, second, n - first - second] for first, second in pairs]
    samples = np.array([np.repeat([0.0, 1.0, 2.0], each) for each in counts])
    lower, upper = cc.percentile_bounds(samples, share, noise, "l2", radius, alpha=alpha)
    least, largest = worst_percentiles(cuts, share, radius)
    misses = ~((lower <= least) & (largest <= upper))
    missed = stats.multinomial.pmf(np.array(counts)[misses], n, chances).sum()
    assert missed <= alpha


@pytest.mark.parametrize(("noise", "attack", "radius"), PAIRS, ids=IDS)
def test_a_threshold_function_is_a_vote(noise: cc.Noise, attack: str, radius: float) -> None:
    """The median of a vote stays 1 where the votes' lower bound certifies the class, and its
    mean lies where lower_bound puts it."""
    n, alpha = 200, 0.01
    low, high = cc.percentiles.percentile_ranks(n, 0.5, noise, attack, radius, alpha=alpha)
    for votes in {0, 50, 100, 150, n, n - low, n + 1 - low, n - high, n + 1 - high} - {-1, n + 1}:
        sample = np.repeat([0.0, 1.0], [n - votes, votes])
        lower, upper = cc.percentile_bounds(sample, 0.5, noise, attack, radius, alpha=alpha)
        p = cc.binomial_lower(votes, n, alpha / 2)
        q = cc.binomial_lower(n - votes, n, alpha / 2)
        p, q = (cc.lower_bound(x, noise, attack, radius) for x in (p, q))
        assert (lower == 1.0) == (p >= 0.5)
        assert (upper == 0.0) == (q >= 0.5)
        if votes % 50 == 0:
            sample = np.random.default_rng(votes).permutation(sample)
            mean = cc.mean_bounds(sample, noise, attack, radius, alpha=alpha)
            worst = (
                cc.confidence.betting_lower(sample, alpha / 2),
                cc.confidence.betting_lower(1 - sample, alpha / 2),
            )
            down, rest = (cc.lower_bound(x, noise, attack, radius) for x in worst)
            assert mean == (down, pytest.approx(1.0 - rest, abs=1e-15))


@pytest.mark.parametrize(
    ("noise", "attack", "radius"), PAIRS[:4] + PAIRS[5:6], ids=IDS[:4] + IDS[5:6]
)
def test_the_worst_function_attains_the_level(noise: cc.Noise, attack: str, radius: float) -> None:
    """The log ratio itself is the function that falls furthest: at the worst input it has the
    law of its negative, so its upper percentile there is the U(q) one here."""
    law = cc.log_ratio_law(noise, attack, radius)
    for share in (0.05, 0.5, 0.8):
        worst = -law.ppf(1.0 - share)
        here = law.ppf(cc.bounds.inverse_bound(share, noise, attack, radius))
        assert here == pytest.approx(worst, abs=1e-5)


def test_linear_function_under_a_gaussian() -> None:
    """w.x + z.w has the percentile w.x + |w| (sigma Phi^-1(q) +- r): inside the bounds (chance
    of a miss 1e-8 a pair), and the bounds near it with many samples."""
    w, radius, alpha, n = np.array([1.0, -2.0, 0.5]), 0.3, 1e-8, 100_000
    x = np.array([[0.1, 0.2, 0.3], [5.0, -1.0, 2.0]])
    values = cc.scores.sampled_values(lambda batch: batch @ w, x, GAUSSIAN, n, 3)
    size = np.linalg.norm(w)
    for share in (0.1, 0.5, 0.75):
        lower, upper = cc.percentile_bounds(values, share, GAUSSIAN, "l2", radius, alpha=alpha)
        middle = x @ w + size * 0.5 * special.ndtri(share)
        assert (lower <= middle - size * radius).all()
        assert (upper >= middle + size * radius).all()
        np.testing.assert_allclose(upper - lower, 2 * size * radius, atol=0.1)


def test_mean_bounds_cover() -> None:
    """A half-space's mean Phi(a -+ r) at the worst inputs: of 2000 pairs at alpha = .05, at
    most 149 may miss it (false alarm < 1e-6)."""
    rng, a, radius, noise = np.random.default_rng(5), 0.8, 0.4, cc.Gaussian(2, 1.0)
    samples = (rng.normal(size=(2000, 150)) < a).astype(float)
    lower, upper = cc.mean_bounds(samples, noise, "l2", radius, alpha=0.05)
    missed = (lower > special.ndtr(a - radius)) | (upper < special.ndtr(a + radius))
    assert missed.sum() <= 149
    assert np.median(upper - lower) < 0.6


def test_mean_bounds_at_radius_0_are_those_of_the_clean_mean() -> None:
    samples = np.random.default_rng(0).uniform(size=(3, 2, 500))
    lower, upper = cc.mean_bounds(samples, GAUSSIAN, "l2", 0.0, alpha=0.1)
    assert lower.shape == upper.shape == (3, 2)
    np.testing.assert_array_equal(lower, cc.confidence.betting_lower(samples, 0.05))
    assert (upper >= 1 - cc.confidence.betting_lower(1 - samples, 0.05)).all()


def two_outputs(batch: Any) -> Any:
    rows = batch.reshape(len(batch), -1)
    return np.stack([rows.sum(axis=1), np.round(rows.max(axis=1))], axis=1)


def test_ranks_of_a_stream_are_those_of_all_values() -> None:
    x, n = np.random.default_rng(1).normal(size=(3, 3)), 101
    values = cc.scores.sampled_values(
        two_outputs, x, GAUSSIAN, n, 7, batch_size=9, indices=[4, 0, 9]
    )
    assert values.shape == (3, 2, n)
    ordered = np.moveaxis(np.sort(values, axis=-1), -1, 0)
    every = range(n + 2)
    for batch_size in (5, 64, 1000):
        options: dict[str, Any] = {"batch_size": batch_size, "indices": [4, 0, 9]}
        for ranks in ((3, 99), (0, n + 1), (1,), (50, 51, 52), tuple(every)):
            kept = cc.scores.sampled_ranks(two_outputs, x, GAUSSIAN, n, 7, ranks, **options)
            assert kept.shape == (len(ranks), 3, 2)
            for rank, found in zip(ranks, kept, strict=True):
                ends = {0: np.full((3, 2), -np.inf), n + 1: np.full((3, 2), np.inf)}
                expected = ends[rank] if rank in ends else ordered[rank - 1]
                np.testing.assert_array_equal(found, expected)
    threat: Any = (GAUSSIAN, "l2", 0.1)
    ranks = cc.percentiles.percentile_ranks(n, 0.5, *threat, alpha=0.01)
    pair = cc.percentile_bounds(values, 0.5, *threat, alpha=0.01)
    found = cc.scores.sampled_ranks(two_outputs, x, GAUSSIAN, n, 7, ranks, indices=[4, 0, 9])
    np.testing.assert_array_equal(found, pair)


def test_a_stream_holds_the_tails_alone() -> None:
    """Three times the ranks asked for and a batch, of 20,000 values."""
    from cert_core.scores import _Ranks

    kept, most = _Ranks((10, 19_981), 20_000), 0
    for _ in range(200):
        full = kept.add(np.random.default_rng(0).normal(size=(100, 2)))
        held = (kept.below, kept.above)
        most = max(most, sum(len(part) for side in held for part in side.parts))
    assert full
    assert most <= 2 * (3 * 20 + 100)


@pytest.mark.parametrize("more", [-1, 1])
def test_outputs_of_other_rows_than_the_batch_are_refused(more: int) -> None:
    with pytest.raises(ValueError, match=r"predict\(batch\) must be of shape \(10,\)"):
        cc.scores.sampled_values(
            lambda batch: np.zeros(len(batch) + more), np.zeros((1, 3)), GAUSSIAN, 10, 0
        )


@pytest.mark.parametrize("rank", [400, 4601])
def test_a_rank_among_many_is_that_of_all(rank: int) -> None:
    """More than a partition sorts on its way."""
    from cert_core.scores import _Ranks

    values, kept = np.random.default_rng(3).normal(size=(5000, 99)), _Ranks((rank,), 5000)
    assert [kept.add(part) for part in np.split(values, 50)] == [False] * 49 + [True]
    np.testing.assert_array_equal(kept.values()[0], np.sort(values, axis=0)[rank - 1])


def test_copies_are_those_that_votes_are_cast_on() -> None:
    x = np.array([[0.2, -0.1, 0.0]])
    values = cc.scores.sampled_values(lambda batch: batch.sum(axis=1), x, GAUSSIAN, 500, 2)
    counts = cc.count_votes(
        lambda batch: (batch.sum(axis=1) > 0).astype(int), x, GAUSSIAN, 2, 500, 2
    )
    assert (values > 0).sum() == counts[0, 1]
    assert math.isclose(values.mean(), 0.1, abs_tol=0.3)
