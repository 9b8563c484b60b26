"""Properties of the bounds that hold for every noise: no oracle, no closed form."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import threats

import cert_core as cc
from cert_core.bounds import complement_above, complement_below

P = np.array([1e-6, 0.01, 0.2, 0.45, 0.5, 0.6, 0.9, 0.999, 1 - 1e-6])
SLACK = 1e-12

Threat = tuple[cc.Noise, str, float]


@given(st.floats(0.0, 1.0))
def test_complements_are_the_nearest_on_their_side(p: float) -> None:
    truth, values = 1 - Fraction(p), np.array(p)
    above, below = float(complement_above(values)), float(complement_below(values))
    assert Fraction(np.nextafter(above, -1.0)) < truth <= Fraction(above)
    assert Fraction(below) <= truth < Fraction(np.nextafter(below, 2.0))


@given(threats())
def test_ends(threat: Threat) -> None:
    noise, attack, radius = threat
    assert (cc.lower_bound(P, noise, attack, 0.0) == P).all()
    assert cc.lower_bound(0.0, *threat) == 0.0
    assert cc.lower_bound(1.0, *threat) == 1.0
    assert cc.required_probability(noise, attack, 0.0) == 0.5
    assert (cc.lower_bound(P, noise, attack, radius) <= P).all()


@given(threats())
def test_increasing_and_convex_in_p(threat: Threat) -> None:
    p = np.linspace(0.02, 0.98, 25)
    lower = cc.lower_bound(p, *threat)
    assert (np.diff(lower) >= -SLACK).all()
    assert (np.diff(lower, 2) >= -SLACK).all()


@given(threats())
def test_decreasing_in_radius(threat: Threat) -> None:
    noise, attack, radius = threat
    radii = radius * np.array([0.3, 0.7, 1.0, 1.01, 2.0])
    for p in (0.3, 0.8):
        assert (np.diff(cc.lower_bound(p, noise, attack, radii)) <= SLACK).all()
    assert (np.diff(cc.required_probability(noise, attack, radii)) >= -SLACK).all()


@given(threats(), st.floats(0.01, 100))
def test_scale(threat: Threat, factor: float) -> None:
    noise, attack, radius = threat
    scaled = cc.lower_bound(P, noise.rescaled(factor), attack, factor * radius)
    np.testing.assert_allclose(scaled, cc.lower_bound(P, *threat), rtol=1e-10, atol=1e-14)


@given(threats())
def test_self_inverse(threat: Threat) -> None:
    """L(1 - L(p)) = 1 - p, for noises that are symmetric; here from below."""
    p = np.array([0.05, 0.3, 0.5, 0.7, 0.95])
    lower = cc.lower_bound(p, *threat)
    back = cc.lower_bound(1.0 - lower, *threat)
    keep = lower > 1e-9  # beyond, 1 - L(p) has no digits left
    np.testing.assert_allclose(back[keep], 1.0 - p[keep], rtol=1e-6, atol=1e-9)


@given(threats(), st.floats(0.1, 0.9))
def test_semigroup(threat: Threat, share: float) -> None:
    """Two attacks in a row are no worse than their sum: L_(a+b)(p) >= L_a(L_b(p))."""
    noise, attack, radius = threat
    inner = cc.lower_bound(P[::2], noise, attack, share * radius)
    twice = cc.lower_bound(inner, noise, attack, (1 - share) * radius)
    once = cc.lower_bound(P[::2], *threat)
    assert (once >= twice - SLACK).all()
    if isinstance(noise, cc.Gaussian):
        np.testing.assert_allclose(once, twice, rtol=1e-9, atol=1e-14)


@given(threats(), st.sampled_from([1e-4, 0.1, 0.7, 1.0, 1.5, 20.0, 1e6]))
def test_discrepancy(threat: Threat, lam: float) -> None:
    value = cc.discrepancy(lam, *threat)
    assert max(lam - 1.0, 0.0) <= value <= lam
    mirrored = cc.discrepancy(1.0 / lam, *threat)
    assert value == pytest.approx(lam - 1.0 + lam * mirrored, rel=1e-9, abs=1e-12 * (1 + lam))


@given(threats())
def test_theorem_1(threat: Threat) -> None:
    """L(p) = max over lam of lam p - D(lam); D(1) is the largest p - L(p)."""
    lam = np.exp(np.linspace(-6, 6, 9))
    dual = lam[:, None] * P - cc.discrepancy(lam, *threat)[:, None]
    lower = cc.lower_bound(P, *threat)
    assert (dual <= lower + 1e-11 * np.maximum(lam, 1)[:, None]).all()
    law = cc.log_ratio_law(*threat)
    p = min(law.cdf(0.0), 1 - 2.0**-53)
    total_variation = cc.discrepancy(1.0, *threat)
    assert p - cc.lower_bound(p, *threat) == pytest.approx(total_variation, rel=1e-8, abs=1e-12)


@given(threats())
def test_required_is_where_the_bound_is_one_half(threat: Threat) -> None:
    needed = cc.required_probability(*threat)
    assert needed == pytest.approx(1 - cc.lower_bound(0.5, *threat), rel=1e-12)
    if needed < 1 - 1e-9:
        assert cc.lower_bound(needed, *threat) == pytest.approx(0.5, rel=1e-6)


@given(threats(), st.floats(0.5001, 1 - 1e-9))
def test_radius_inverts_required_probability(threat: Threat, p: float) -> None:
    noise, attack, _ = threat
    radius = cc.certified_radius(p, noise, attack)
    assert radius > 0
    assert cc.required_probability(noise, attack, radius) <= p
    beyond = cc.required_probability(noise, attack, radius * (1 + 2e-9))
    assert beyond >= p * (1 - 4e-16)


@given(threats())
def test_law_is_a_distribution(threat: Threat) -> None:
    noise, attack, _ = threat
    law = cc.log_ratio_law(*threat)
    p = np.array([0.01, 0.3, 0.5, 0.9, 0.999])
    t = np.unique(law.ppf(p))
    below, above = law.cdf(t), law.sf(t)
    np.testing.assert_allclose(below + above, 1.0, rtol=1e-12)
    assert (np.diff(below) >= -1e-14).all()
    low, high = law.enclose(t)
    assert ((low <= below) & (below <= high)).all()
    assert law.tight == cc.is_tight(noise, attack)
    # inf {t: F(t) >= p}: F reaches p at ppf(p), and not before it
    assert (law.cdf(law.ppf(p)) >= p - 1e-7).all()
    before = law.ppf(p) - 1e-6 * (1 + np.abs(law.ppf(p)))
    assert (law.cdf(before) <= p + 1e-7).all()
