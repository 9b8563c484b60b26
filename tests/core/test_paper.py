"""Statements of Zhang et al. 2020, restated in the form tested, each checked by numbers
that could contradict it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import gammainc, gammaincc
from strategies import threats

import cert_core as cc
from cert_core.threats import ORDER

FALSE_ALARM = 1e-7  # of each test that draws
PLANE = st.integers(2, 30) | st.sampled_from([64, 784, 3072])


@given(dim=PLANE | st.just(150528), t=st.floats(0.01, 6.0))
def test_a_gaussian_lives_on_a_thin_shell(dim: int, t: float) -> None:
    """Proposition 1: |z|_2 is within a few sigma of sigma sqrt d, whatever d."""
    mean, variance = cc.moments.norm_moments(cc.Gaussian(dim, 1.0), 2.0)
    assert math.sqrt(dim - 1) < mean < math.sqrt(dim)
    assert 0.36 < variance < 0.5
    inner, outer = max(mean - t, 0.0), mean + t
    outside = gammainc(dim / 2, inner**2 / 2) + gammaincc(dim / 2, outer**2 / 2)
    assert outside <= 2 * math.exp(-t * t / 2)


@given(dim=PLANE, share=st.floats(0.0, 0.99), sigma=st.floats(0.1, 10.0))
def test_k_takes_degrees_of_freedom(dim: int, share: float, sigma: float) -> None:
    """Proposition 2: under Eq. 11 |z|_2/sigma is chi with d - k degrees of freedom, so k
    moves the mean to the centre and leaves the spread, which sigma would take along."""
    k = share * dim
    mean, variance = cc.moments.norm_moments(cc.L2Noise(dim, sigma, k), 2.0)
    assert mean**2 + variance == pytest.approx((dim - k) * sigma**2, rel=1e-12)
    other, less = cc.moments.norm_moments(cc.L2Noise(dim, sigma, min(k + 0.5, dim - 1e-3)), 2.0)
    if k < dim - 1e-3:
        assert other <= mean
    if dim - k >= 1:
        assert 0.36 * sigma**2 < variance < 0.5 * sigma**2
    by_sigma = cc.moments.norm_moments(cc.L2Noise(dim, sigma * other / mean, k), 2.0)
    assert by_sigma[0] == pytest.approx(other, rel=1e-12)
    assert by_sigma[1] <= less * (1 + 1e-6)


def test_the_law_behind_the_radius() -> None:
    """Proposition 2 by draws: |z|_2^2/2 sigma^2 is Gamma((d - k)/2), by DKW."""
    n = 50_000
    for noise in (cc.L2Noise(100, 0.5, 30.0), cc.MixedNoise(20, 0.5, 5.0)):
        z = cc.draw(noise, n, 4, dtype="float64")
        levels = np.sort(gammainc((noise.dim - noise.k) / 2, (z * z).sum(axis=1) / 0.5))
        gap = np.abs(levels - (np.arange(n) + 0.5) / n).max()
        assert gap < math.sqrt(math.log(2 / FALSE_ALARM) / (2 * n)) + 1 / n


@pytest.mark.parametrize("dim", [2, 10, 100, 1000, 3072, 150528])
def test_the_largest_coordinate(dim: int) -> None:
    """Proposition 3: E|z|_inf grows as sqrt(log d) for the Gaussian, as sqrt d under Eq. 12;
    Eq. 13 is below its Gaussian at each k."""
    gaussian = cc.moments.norm_moments(cc.Gaussian(dim, 1.0), math.inf)[0]
    assert 0.6 < gaussian / math.sqrt(2 * math.log(dim)) < 1.0
    cube = cc.moments.norm_moments(cc.LinfNoise(dim, 1.0), math.inf)[0]
    assert math.sqrt(dim - 1) < cube < math.sqrt(dim)
    shares = (0.0, 0.01, 0.1, 0.5)
    mixed = [cc.moments.norm_moments(cc.MixedNoise(dim, 1.0, s * dim), math.inf)[0] for s in shares]
    assert mixed == sorted(mixed, reverse=True)
    assert mixed[0] == pytest.approx(gaussian, rel=1e-9)


@given(
    dim=PLANE, share=st.sampled_from([0.0, 0.3, 0.9]), power=st.sampled_from([1.0, 2.0, 3.0]),
    reach=st.floats(0.05, 4.0), p=st.floats(0.05, 0.999),
)  # fmt: skip
def test_round_noise_sees_one_attack(
    dim: int, share: float, power: float, reach: float, p: float
) -> None:
    """Proposition 4: against noise of round level sets the l1 ball of radius r and the linf
    ball of radius r/sqrt d are as strong as the l2 ball that holds them."""
    noise = cc.RadialNoise.with_rms(dim, 1.0, share * dim, norm=2.0, power=power)
    expected = cc.lower_bound(p, noise, "l2", reach)
    assert cc.lower_bound(p, noise, "l1", reach) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    corner = cc.lower_bound(p, noise, "linf", reach / math.sqrt(dim))
    assert corner == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(threat=threats(), p=st.floats(0.01, 0.99), lam=st.floats(1e-3, 1e3))
@settings(max_examples=40)
def test_any_multiplier_bounds_and_the_best_attains(
    threat: tuple[cc.Noise, str, float], p: float, lam: float
) -> None:
    """Theorem 1 and Eq. 9: lam p - D(lam) <= L(p), with equality at lam = exp F^-1(p)."""
    noise, attack, radius = threat
    bound = cc.lower_bound(p, noise, attack, radius)
    cost = cc.discrepancy(lam, noise, attack, radius)
    assert lam * p - cost <= bound + 1e-9 * (1 + lam)
    best = math.exp(cc.log_ratio_law(noise, attack, radius).ppf(p))
    assume(best < 1e6)
    attained = best * p - cc.discrepancy(best, noise, attack, radius)
    assert attained == pytest.approx(bound, abs=1e-7 * (1 + best))


@given(
    sigma=st.floats(0.2, 3.0), grown=st.floats(1.01, 3.0), lam=st.floats(0.1, 10.0),
    k=st.sampled_from([0.0, 3.0, 9.0]),
)  # fmt: skip
@settings(max_examples=30)
def test_robustness_is_bought_with_accuracy(
    sigma: float, grown: float, lam: float, k: float
) -> None:
    """Section 3.3: wider noise has a smaller D at every lam, and less mass near its centre;
    so has, for every k, noise of the same k."""
    narrow, wide = cc.L2Noise(10, sigma, k), cc.L2Noise(10, sigma * grown, k)
    for attack in cc.ATTACKS:
        costs = [cc.discrepancy(lam, noise, attack, 0.3) for noise in (narrow, wide)]
        assert costs[1] <= costs[0] + 1e-9
    mass = [gammainc((10 - k) / 2, 0.5 / noise.sigma**2) for noise in (narrow, wide)]
    assert mass[1] < mass[0]


DIM, DRAWS, SHIFTS = 24, 20_000, 40
LAMS = np.array([0.3, 1.0, 3.0])
FAMILIES = [
    (cc.L1Noise.with_rms(DIM, 1.0, 8.0), "l1"), (cc.Laplace.with_rms(DIM, 1.0), "l1"),
    (cc.L2Noise.with_rms(DIM, 1.0, 12.0), "l1"), (cc.L2Noise.with_rms(DIM, 1.0, 12.0), "l2"),
    (cc.L2Noise.with_rms(DIM, 1.0, 12.0), "linf"), (cc.LinfNoise.with_rms(DIM, 1.0, 6.0), "l1"),
    (cc.LinfNoise.with_rms(DIM, 1.0, 6.0), "linf"), (cc.MixedNoise.with_rms(DIM, 1.0, 6.0), "linf"),
    (cc.L1Noise.with_rms(DIM, 1.0, 8.0), "linf"),
]  # fmt: skip


def hinge(noise: cc.Noise, z: Any, here: Any, delta: Any) -> Any:
    """(lam - pi_delta/pi0)_+ at the rows of z, of log density here, a column a lam."""
    ratio = np.exp(np.asarray(noise.log_density(z - delta)) - here)
    return np.maximum(LAMS - ratio[:, None], 0.0)


def worst_excess(noise: cc.Noise, attack: str, claimed: Any, radius: float) -> float:
    """The largest excess of D at a shift of the ball over that at the claimed one, on the same
    draws, in units of what chance allows: by Maurer and Pontil's empirical Bernstein bound
    for differences in [-lam, lam], above 1 with probability FALSE_ALARM over all of them."""
    rng = np.random.default_rng(5)
    z = cc.draw(noise, DRAWS, 8, dtype="float64")
    log = math.log(2 * SHIFTS * len(LAMS) / FALSE_ALARM)
    here = np.asarray(noise.log_density(z))
    at_claimed = hinge(noise, z, here, claimed)
    largest = -math.inf
    for i in range(SHIFTS):
        shape = rng.standard_normal(DIM) ** (1, 3, 5)[i % 3]  # dense to nearly sparse
        shape[: (i * DIM) // (2 * SHIFTS)] = 0.0
        length = radius * (1.0 if i % 4 else rng.uniform())  # one in four inside the ball
        delta = shape * length / np.linalg.norm(shape, ord=ORDER[attack])
        gap = hinge(noise, z, here, delta) - at_claimed
        chance = gap.std(axis=0, ddof=1) * math.sqrt(2 * log / DRAWS)
        chance += 14 * LAMS * log / (3 * (DRAWS - 1))
        largest = max(largest, float((gap.mean(axis=0) / chance).max()))
    return largest


@pytest.mark.parametrize(("noise", "attack"), FAMILIES, ids=lambda x: getattr(x, "name", x))
def test_no_shift_of_the_ball_beats_the_theorems(noise: cc.Noise, attack: str) -> None:
    """Theorems 2 and 3: of 40 random shifts in the ball none has a larger D at three
    multipliers, up to the error whose chance over all comparisons is FALSE_ALARM."""
    radius = 0.8 * noise.rms * {"l1": 1.0, "l2": 1.0, "linf": DIM**-0.5}[attack]
    shift = cc.worst_shift(noise, attack, radius)
    assert shift.tight
    assert worst_excess(noise, attack, shift.as_array(DIM), radius) < 1


@pytest.mark.parametrize(
    ("index", "kind"), [(4, "axis"), (6, "axis"), (7, "axis"), (5, "diagonal")]
)
def test_a_shift_that_is_not_worst_is_found_out(index: int, kind: str) -> None:
    """The same test, were the theorems to name the other kind of shift of the same ball."""
    noise, attack = FAMILIES[index]
    radius = 0.8 * noise.rms * {"l1": 1.0, "linf": DIM**-0.5}[attack]
    wrong = np.full(DIM, radius / DIM) if kind == "diagonal" else radius * np.eye(DIM)[0]
    assert worst_excess(noise, attack, wrong, radius) > 3


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_cubes_are_unsuitable_for_linf_in_high_dimension(share: float) -> None:
    """Section 4: under Eq. 12 the overlap with a shift of length rms dies with d, where the
    Gaussian keeps 0.617; the radius at p = 0.9 falls nearly as 1/d, where it falls as d^-1/2."""
    overlap, radii = [], []
    for dim in (64, 784, 3072):
        noise = cc.LinfNoise.with_rms(dim, 1.0, share * dim)
        overlap.append(1 - cc.discrepancy(1.0, noise, "linf", 1 / math.sqrt(dim)))
        radii.append(cc.certified_radius(0.9, noise, "linf") * dim)
    assert overlap[0] < 0.1
    assert overlap[1] < 1e-3
    assert overlap[2] < 1e-6
    assert max(radii) / min(radii) < 1.12
    assert radii[2] < 0.06 * 3072 * cc.certified_radius(0.9, cc.Gaussian(3072, 1.0), "linf")


@pytest.mark.parametrize(
    ("dim", "share", "gain"), [(64, 0.1, 1.05), (784, 0.05, 1.1), (3072, 0.02, 1.13)]
)
def test_the_mixed_family_gains_at_equal_mean_maximum(dim: int, share: float, gain: float) -> None:
    """Section 4: for the same E|z|_inf Eq. 13 certifies more than the Gaussian; for the same
    rms it does not."""
    gaussian = cc.Gaussian(dim, 1.0)
    mixed = cc.MixedNoise.with_rms(dim, 1.0, share * dim)
    ratio = cc.certified_radius(0.9, mixed, "linf") / cc.certified_radius(0.9, gaussian, "linf")
    sizes = [cc.moments.norm_moments(noise, math.inf)[0] for noise in (gaussian, mixed)]
    assert ratio < 1
    assert ratio * sizes[0] / sizes[1] > gain
