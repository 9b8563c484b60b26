"""Where errors are added up: every threshold held to a computation of its own.

Simulated coverage is blind to a factor of two in alpha; here the numbers themselves are
compared, with SciPy's quantiles or with sums in 60 digits.
"""

from __future__ import annotations

import math
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from scipy import stats

import cert_core as cc
from cert_core.kernels import PI0, PI_DELTA, PILOT, reference
from cert_core.monte_carlo import METHODS
from cert_core.sequential.tests import FixedSequence

N, ALPHA, SEED = 4000, 0.01, 5
THREATS = [
    (cc.Gaussian(4, 1.0), "l2", 1.0), (cc.LinfNoise(4, 1.0, 1.0), "l1", 1.5),
    (cc.L2Noise(30, 1.0, 20.0), "l2", 0.6),
]  # fmt: skip


class Samples:
    """Draws of the log ratio under pi0, under pi_delta, and of the pilot under each."""

    def __init__(self, noise: cc.Noise, attack: str, radius: float) -> None:
        shift = cc.worst_shift(noise, attack, radius)
        self.pi0, moved, pilot = (
            np.sort(reference.draw_log_ratio(noise, shift, N, SEED, stream=stream))
            for stream in (PI0, PI_DELTA, PILOT)
        )
        self.pi_delta, self.pilot, self.pilot_delta = -moved, pilot, np.sort(-pilot)

    def two_counts(self, log_lam: float) -> tuple[float, float, float]:
        """(lam, upper bound of P_0(W < lam), lower bound of P_delta(W < lam)), alpha/2 each."""
        below, moved = ((each < log_lam).sum() for each in (self.pi0, self.pi_delta))
        upper = stats.beta.ppf(1 - ALPHA / 2, below + 1, N - below)
        return math.exp(log_lam), upper, stats.beta.ppf(ALPHA / 2, moved, N - moved + 1)

    def required(self, method: str) -> float:
        if method == "clopper-pearson":
            lam, upper, lower = self.two_counts(self.pilot_delta[N // 2 - 1])
            return float(upper + (0.5 - lower) / lam)
        lam = np.exp(self.pi0)
        hinge = np.array([np.maximum(x - lam, 0.0).mean() for x in lam])
        return float(((0.5 + hinge) / lam).min() + epsilon(method))

    def bound(self, p: float, method: str) -> float:
        if method == "clopper-pearson":
            lam, upper, lower = self.two_counts(self.pilot[math.ceil(p * N) - 1])
            return lam * (p - upper) + lower
        lam = np.exp(self.pi0)
        hinge = np.array([np.maximum(x - lam, 0.0).mean() for x in lam])
        return float((lam * (p - epsilon(method)) - hinge).max())


def epsilon(method: str) -> float:
    """Of the whole band (Hoeffding, as in the paper), or of its upper side alone."""
    level = {"hoeffding": 2 / ALPHA, "dkw": 1 / ALPHA}[method]
    return math.sqrt(math.log(level) / (2 * N))


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat[0].name)
@pytest.mark.parametrize("method", METHODS)
def test_monte_carlo_spends_what_it_says(threat: Any, method: str) -> None:
    samples = Samples(*threat)
    how: dict[str, Any] = {"n": N, "alpha": ALPHA, "seed": SEED, "method": method}
    how["backend"] = "reference"
    needed = cc.monte_carlo.monte_carlo_required(*threat, **how)
    assert needed.required == pytest.approx(samples.required(method), rel=1e-9)
    assert math.fsum(needed.alpha_split.values()) == pytest.approx(ALPHA, rel=1e-12)
    for p in (0.6, 0.9):
        found = cc.monte_carlo_bound(p, *threat, **how).lower
        assert found == pytest.approx(max(samples.bound(p, method), 0.0), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_grid_ends_at_its_first_failure(method: str) -> None:
    """Radii beyond it that would pass, as small samples make them, are not looked at."""
    noise, grid = cc.Gaussian(3, 1.0), [0.1, 0.2, 0.3, 0.5, 0.501, 0.502, 0.503, 0.504, 0.505]
    seen = 0
    for seed in range(12):
        how: dict[str, Any] = {"n": 60, "alpha": 0.2, "seed": seed, "method": method}
        needed = [cc.monte_carlo.monte_carlo_required(noise, "l2", r, **how).required for r in grid]
        p = np.array([(a + b) / 2 for a in needed for b in needed if a != b])
        p = p[(p > 0.5) & (p < 1)]
        passes = p[:, None] > np.array(needed)
        seen += int((np.diff(passes.astype(int), axis=1) > 0).any(axis=1).sum())
        first = np.where(passes.all(axis=1), len(grid), (~passes).argmax(axis=1))
        expected = np.array([0.0, *grid])[first]
        np.testing.assert_array_equal(
            cc.monte_carlo.monte_carlo_radius(p, noise, "l2", grid, **how), expected
        )
    assert seen > 20 or method != "clopper-pearson"  # the others are nearly monotone in r


def law(n: int, p: float) -> Any:
    """Binomial(n, p) in 60 digits."""
    x, y = mp.mpf(p), 1 - mp.mpf(p)
    return np.array([mp.binomial(n, k) * x**k * y ** (n - k) for k in range(n + 1)])


@pytest.mark.parametrize("threshold", [0.5, 0.875, 0.99])
@pytest.mark.parametrize("alpha", [0.001, 1e-9, 1e-14, 1e-20])
def test_boundaries_are_those_of_whole_laws(threshold: float, alpha: float) -> None:
    """No tail cut off, no look's share exceeded: the least successes that keep the chance of
    having certified within alpha times the share of looks taken, in 60 digits."""
    looks = (60, 200, 320)
    test = cc.sequential.boundaries(threshold, alpha, looks)
    with mp.workdps(60):
        going, before, spent = np.array([mp.mpf(1)]), 0, mp.mpf(0)
        for j, n in enumerate(looks):
            going = np.convolve(going, law(n - before, threshold))
            tails = np.append(np.cumsum(going[::-1])[::-1], mp.mpf(0))
            allowed = mp.mpf(alpha) * (j + 1) / len(looks) - spent
            least = next(k for k, tail in enumerate(tails) if tail <= allowed)
            assert test.certify[j] == (least if least < len(going) else test.certify[j])
            assert test.certify[j] >= least
            spent += tails[least]
            going, before = going[:least], n
        assert spent <= mp.mpf(test.size) <= mp.mpf(alpha)
        assert mp.mpf(test.size) <= spent * (1 + mp.mpf("1e-6")) + mp.mpf("1e-26")


def test_a_threshold_counts_with_all_below_it_alone() -> None:
    """Discrete votes may cross the boundary of a threshold and not that of a lower one."""
    lower, higher = (cc.sequential.boundaries(p, 0.3, (3, 5, 9)) for p in (0.5, 0.52))
    assert lower.certify[2] > higher.certify[2]
    path, alone = FixedSequence((lower, higher)), FixedSequence((higher,))
    for successes, n in ((3, 3), (3, 5), (6, 9)):
        path.update(successes, n)
        alone.update(successes, n)
    assert (path.passed, alone.passed) == (0, 1)


def test_shares_of_alpha_are_whole() -> None:
    """Each share as told, their sum within a few roundings of alpha, never above it."""
    for alpha, shares in ((0.001, [1, 1]), (0.05, [2, 1, 7]), (0.3, [1] * 7)):
        parts = cc.confidence.split_alpha(alpha, shares)
        assert math.fsum(parts) <= alpha
        for part, share in zip(parts, shares, strict=True):
            assert part == pytest.approx(alpha * share / sum(shares), rel=1e-14)
