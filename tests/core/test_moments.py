"""Moments of a noise's norms: against draws, closed forms and quadratures done another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from strategies import noises

import cert_core as cc
from cert_core.moments import log_gamma_ratio

NORMS = (1.0, 2.0, math.inf)
LEGENDRE = np.polynomial.legendre.leggauss(80)
NODES, WEIGHTS = 0.5 * (LEGENDRE[0] + 1), 0.5 * LEGENDRE[1]
SQUARE = np.outer(WEIGHTS, WEIGHTS)


@given(noises())
def test_the_square_is_that_of_the_rms(noise: cc.Noise) -> None:
    mean, variance = cc.moments.norm_moments(noise, 2.0)
    assert mean**2 + variance == pytest.approx(noise.dim * noise.rms**2, rel=1e-11)


@given(noises())
@settings(max_examples=50)
def test_norms_are_ordered(noise: cc.Noise) -> None:
    one, two, top = (cc.moments.norm_moments(noise, norm)[0] for norm in NORMS)
    assert top <= two * (1 + 1e-12)
    assert two <= one * (1 + 1e-12)
    assert one <= math.sqrt(noise.dim) * two * (1 + 1e-12)
    assert two <= math.sqrt(noise.dim) * top * (1 + 1e-12)
    half = noise.rescaled(0.5)
    for norm in NORMS:
        scaled = np.multiply(cc.moments.norm_moments(half, norm), (2.0, 4.0))
        np.testing.assert_allclose(scaled, cc.moments.norm_moments(noise, norm), rtol=1e-12)


CASES = [
    cc.L1Noise(6, 1.3, 2.0), cc.L2Noise(6, 0.7, 3.0), cc.LinfNoise(6, 2.0, 1.5),
    cc.MixedNoise(6, 1.2, 3.0), cc.MixedNoise(784, 1.0, 300.0), cc.Laplace(300, 0.3),
    cc.RadialNoise(3, 2.0, 0.6, 1.0, 1.0),
]  # fmt: skip


@pytest.mark.parametrize("noise", CASES, ids=lambda n: f"{n.name}{n.dim}")
def test_draws_have_these_moments(noise: cc.Noise) -> None:
    """7 standard errors: a false alarm once in 10^10 a number."""
    n = 1_500_000 // noise.dim
    z = cc.draw(noise, n, 11, dtype="float64")
    for norm in NORMS:
        size = np.linalg.norm(z, ord=norm, axis=1)
        mean, variance = cc.moments.norm_moments(noise, norm)
        assert abs(size.mean() - mean) < 7 * math.sqrt(variance / n)
        squares = (size - mean) ** 2
        assert abs(squares.mean() - variance) < 7 * squares.std() / math.sqrt(n)


def test_norms_of_the_gaussian() -> None:
    """|z|_1 and |z|_2 by textbook formulas; |z|_inf in the plane is 2 sigma / sqrt pi."""
    for dim in (2, 5, 3072):
        noise = cc.Gaussian(dim, 2.0)
        mean, variance = cc.moments.norm_moments(noise, 1.0)
        assert mean == pytest.approx(2 * dim * math.sqrt(2 / math.pi), rel=1e-13)
        assert variance == pytest.approx(4 * dim * (1 - 2 / math.pi), rel=1e-10)
        chi = 2 * math.sqrt(2) * special.poch(dim / 2, 0.5)
        assert cc.moments.norm_moments(noise, 2.0)[0] == pytest.approx(chi, rel=1e-11)
    assert cc.moments.norm_moments(cc.Gaussian(2, 2.0), math.inf)[0] == pytest.approx(
        4 / math.sqrt(math.pi), rel=1e-12
    )


def test_directions_in_space() -> None:
    """Three dimensions, by product rules over a face of the cube and over a triangle."""
    u, v = NODES[:, None], NODES
    radius = cc.moments.norm_moments(cc.LinfNoise(3, 1.0), math.inf)[0]
    expected = radius * (SQUARE * np.sqrt(1 + u * u + v * v)).sum()
    assert cc.moments.norm_moments(cc.LinfNoise(3, 1.0), 2.0)[0] == pytest.approx(
        expected, rel=1e-12
    )
    x, y = u, (1 - u) * v  # of the simplex x + y + z = 1, Jacobian 1 - u, area 1/2
    length = np.sqrt(x * x + y * y + (1 - x - y) ** 2)
    expected = 3 * 2 * (SQUARE * (1 - u) * length).sum()
    assert cc.moments.norm_moments(cc.Laplace(3, 1.0), 2.0)[0] == pytest.approx(expected, rel=1e-12)
    radius = cc.moments.norm_moments(cc.Gaussian(3, 1.0), 2.0)[0]
    expected = radius * 6 / math.pi * (SQUARE / (1 + u * u + v * v) ** 2).sum()
    assert cc.moments.norm_moments(cc.Gaussian(3, 1.0), math.inf)[0] == pytest.approx(
        expected, rel=1e-12
    )


@pytest.mark.parametrize("k", [0.0, 0.3, 1.0, 1.9])
def test_the_mixed_family_in_the_plane(k: float) -> None:
    """In polar coordinates the angle has density prop. to max(cos, sin)^-k."""
    angle, weight = NODES * math.pi / 4, WEIGHTS * np.cos(NODES * math.pi / 4) ** -k
    weight = weight / weight.sum()
    radius = math.sqrt(2) * special.poch((2 - k) / 2, 0.5)
    for norm, size in ((1.0, np.cos(angle) + np.sin(angle)), (math.inf, np.cos(angle))):
        mean, variance = cc.moments.norm_moments(cc.MixedNoise(2, 1.0, k), norm)
        assert mean == pytest.approx(radius * (weight * size).sum(), rel=1e-11)
        square = (2 - k) * (weight * size**2).sum()
        assert variance == pytest.approx(square - mean**2, rel=1e-9)


@given(a=st.floats(1e-3, 1e5), h=st.sampled_from([1 / 3, 0.5, 1.0, 5 / 3]))
def test_gamma_ratios(a: float, h: float) -> None:
    """Gamma(a + 1 + h)/Gamma(a + 1) = (a + h)/a times the ratio at a; at h = 1 it is a."""
    step = math.log1p(h / a)
    assert log_gamma_ratio(a + 1, h) - log_gamma_ratio(a, h) == pytest.approx(step, abs=2e-14)
    assert math.exp(log_gamma_ratio(a, 1.0)) == pytest.approx(a, rel=1e-13)


def test_other_norms_are_refused() -> None:
    with pytest.raises(ValueError, match=r"norm must be one of 1.0, 2.0, inf, got 3"):
        cc.moments.norm_moments(cc.Gaussian(2, 1.0), 3)
