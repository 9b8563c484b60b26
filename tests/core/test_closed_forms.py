"""The quadrature at k = 0 against the closed-form corollaries, and the corollaries themselves."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

import cert_core as cc

DIMS = st.one_of(st.integers(1, 40), st.sampled_from([99, 100, 784, 3072, 150528]))
PROBABILITIES = st.one_of(
    st.floats(0.001, 0.999), st.sampled_from([1e-9, 1 - 1e-9, 0.5, 0.5 + 1e-7])
)
mp.mp.dps = 40


def gaussian_lower(p: float, mu: float) -> mp.mpf:
    """Corollary 2 in 40 digits: Phi(Phi^-1(p) - mu)."""
    z = mp.sqrt(2) * mp.erfinv(2 * mp.mpf(p) - 1)
    return mp.ncdf(z - mp.mpf(mu))


def laplace_lower(p: float, m: float) -> mp.mpf:
    """Corollary 1 in 40 digits, with its erratum: p exp(-m) below 1/2."""
    p, m = mp.mpf(p), mp.mpf(m)
    if p >= 1 - mp.exp(-m) / 2:
        return 1 - mp.exp(m) * (1 - p)
    if p >= mp.mpf(1) / 2:
        return mp.exp(-m - mp.log(2 * (1 - p))) / 2
    return p * mp.exp(-m)


@given(DIMS, st.floats(0.1, 10), st.floats(0.001, 6), PROBABILITIES)
def test_gaussian(dim: int, sigma: float, mu: float, p: float) -> None:
    truth = gaussian_lower(p, mp.mpf(mu * sigma) / sigma)
    for noise in (cc.Gaussian(dim, sigma), cc.L2Noise(dim, sigma)):
        lower = cc.lower_bound(p, noise, "l2", mu * sigma)
        assert mp.mpf(lower) <= truth
        assert mp.mpf(lower) >= truth * (1 - mp.mpf(10) ** -11)


@given(DIMS, st.floats(0.1, 10), st.floats(0.001, 12), PROBABILITIES)
def test_laplace(dim: int, b: float, m: float, p: float) -> None:
    truth = laplace_lower(p, mp.mpf(m * b) / b)
    for noise in (cc.Laplace(dim, b), cc.L1Noise(dim, b)):
        lower = cc.lower_bound(p, noise, "l1", m * b)
        assert mp.mpf(lower) <= truth
        assert mp.mpf(lower) >= truth * (1 - mp.mpf(10) ** -11)


@given(DIMS, st.floats(1e-6, 7))
def test_required_probability(dim: int, mu: float) -> None:
    gaussian = mp.ncdf(mp.mpf(mu))
    laplace = 1 - mp.exp(-mp.mpf(mu)) / 2
    pairs = [
        (cc.Gaussian(dim, 1.0), "l2", gaussian), (cc.L2Noise(dim, 1.0), "l2", gaussian),
        (cc.Laplace(dim, 1.0), "l1", laplace), (cc.L1Noise(dim, 1.0), "l1", laplace),
    ]  # fmt: skip
    for noise, attack, truth in pairs:
        needed = mp.mpf(cc.required_probability(noise, attack, mu))
        assert truth <= needed <= truth * (1 + mp.mpf(10) ** -13)


@given(DIMS, st.floats(0.1, 5), st.floats(0.5001, 0.9999))
def test_radius(dim: int, scale: float, p: float) -> None:
    gaussian, laplace = scale * special.ndtri(p), -scale * math.log(2 * (1 - p))
    for noise, attack, truth in (
        (cc.Gaussian(dim, scale), "l2", gaussian),
        (cc.L2Noise(dim, scale), "l2", gaussian),
        (cc.Gaussian(dim, scale), "linf", gaussian / math.sqrt(dim)),
        (cc.Laplace(dim, scale), "l1", laplace),
        (cc.L1Noise(dim, scale), "l1", laplace),
    ):
        radius = cc.certified_radius(p, noise, attack)
        assert truth * (1 - 1e-9) <= radius <= truth * (1 + 2e-15 / (p - 0.5))


def test_erratum_of_corollary_1() -> None:
    """For p < 1/2 the printed second case is unsound: true radius .693, printed .916."""
    noise, p_a, p_b = cc.Laplace(5, 1.0), 0.2, 0.05
    radius = 0.7
    printed = 0.5 * math.exp(-radius - math.log(2 * (1 - p_a)))
    upper = 1 - cc.lower_bound(1 - p_b, noise, "l1", radius)
    assert printed > upper
    assert cc.lower_bound(p_a, noise, "l1", radius) < upper
    assert cc.lower_bound(p_a, noise, "l1", math.log(2) - 1e-6) >= 1 - cc.lower_bound(
        1 - p_b, noise, "l1", math.log(2) - 1e-6
    )


@pytest.mark.parametrize("mu", [0.01, 0.5, 2.0, 6.0])
def test_laws_agree(mu: float) -> None:
    pairs = [
        (cc.Gaussian(300, 1.0), cc.L2Noise(300, 1.0), "l2"),
        (cc.Laplace(300, 1.0), cc.L1Noise(300, 1.0), "l1"),
    ]
    for closed, quadrature, attack in pairs:
        one, two = (cc.log_ratio_law(n, attack, mu) for n in (closed, quadrature))
        t = np.concatenate([[-mu, mu], -0.5 * mu**2 + mu * np.linspace(-6, 6, 41)])
        np.testing.assert_allclose(one.cdf(t), two.cdf(t), rtol=2e-12, atol=1e-30)
        inside = one.sf(t) > 0  # beyond the last atom of the Laplace law rounding is left
        np.testing.assert_allclose(one.sf(t)[inside], two.sf(t)[inside], rtol=2e-12, atol=1e-30)
        assert (two.sf(t)[~inside] < 1e-16).all()
        lower, upper = two.enclose(t)
        assert (lower <= one.cdf(t) + 1e-16).all()
        assert (one.cdf(t) - 1e-16 <= upper).all()
        p = np.array([1e-9, 0.01, 0.3, 0.5, 0.77, 0.99, 1 - 1e-9])
        np.testing.assert_allclose(one.ppf(p), two.ppf(p), rtol=1e-7, atol=1e-7 * mu)


@given(st.floats(0.01, 100), st.floats(0.01, 4))
def test_discrepancy(lam: float, mu: float) -> None:
    for closed, quadrature, attack in (
        (cc.Gaussian(7, 1.0), cc.L2Noise(7, 1.0), "l2"),
        (cc.Laplace(7, 1.0), cc.L1Noise(7, 1.0), "l1"),
    ):
        one, two = (cc.discrepancy(lam, n, attack, mu) for n in (closed, quadrature))
        assert one == pytest.approx(two, rel=1e-11, abs=1e-13 * lam)


def test_discrepancy_near_its_lower_atom() -> None:
    """tau + m cancels there: found 3e-13 below the truth (50 digits by mpmath)."""
    noise = cc.Laplace(1, 19124.992800869688)
    found = cc.discrepancy(0.0004155347615934732, noise, "l1", 148933.26900590654)
    truth = 2.9474167604331827e-7
    assert truth <= found <= truth * (1 + 1e-9)


def test_an_enclosure_in_the_last_digit() -> None:
    """F of 40 digits by mpmath, between its bounds."""
    noise = cc.RadialNoise(8, 1.0, 1.0, 1.0, 0.005777508861103244)
    lower, upper = cc.log_ratio_law(noise, "l1", 5.474604784124608).enclose(1.2283646987342696)
    assert lower <= 0.98251577257446194 <= upper < lower + 2e-15
