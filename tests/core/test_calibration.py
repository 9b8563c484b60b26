"""Many radii at once against single searches and the law."""

from __future__ import annotations

import math

import numpy as np
import pytest

import cert_core as cc
from cert_core.bounds import search_radius
from cert_core.calibration import MANY, curve

PAIRS = [
    (cc.L2Noise(3072, 8.0, 3060.0), "l2"),
    (cc.L2Noise(2, 1.0, 1.5), "l2"),
    (cc.L1Noise(3072, 1.0, 1000.0), "l1"),
    (cc.L1Noise(64, 2.0), "l1"),
    (cc.LinfNoise(784, 1.0, 10.0), "linf"),
    (cc.LinfNoise(784, 1.0), "l1"),
    (cc.LinfNoise(4, 1.0, 2.0), "l1"),
    (cc.Gaussian(10, 1.0), "linf"),
]


def many_probabilities() -> np.ndarray:
    rng = np.random.default_rng(0)
    near = [0.5 + 10.0 ** rng.uniform(-9, -1, 100), 1 - 10.0 ** rng.uniform(-12, -1, 200)]
    return np.concatenate([rng.uniform(0.5, 1, 9700), *near])


@pytest.mark.parametrize(("noise", "attack"), PAIRS, ids=[f"{n.name}-{a}" for n, a in PAIRS])
def test_array_agrees_with_single_searches_and_is_safe(noise: cc.Noise, attack: str) -> None:
    p = many_probabilities()
    radii = cc.certified_radius(p, noise, attack)
    order = np.argsort(p)
    assert (np.diff(radii[order]) >= 0).all()
    for i in [*range(0, 9700, 500), *range(9700, 10_000, 15)]:
        q = float(p[i])
        assert cc.required_probability(noise, attack, radii[i]) <= q
        if not isinstance(noise, cc.Gaussian):
            # the truth lies within 3e-10 above what a search returns
            assert radii[i] == pytest.approx(search_radius(noise, attack, q), rel=6e-10)


def test_ten_thousand_radii_reuse_their_curve() -> None:
    noise = cc.L2Noise(3072, 8.0, 3060.0)
    p = many_probabilities()
    cc.certified_radius(p, noise, "l2")
    before = list(curve(noise.rescaled(1 / noise.scale_unit), "l2").pieces)
    cc.certified_radius(p[::-1], noise.rescaled(0.25), "l2")
    assert curve(noise.rescaled(1 / noise.scale_unit), "l2").pieces == before


def test_shapes_and_ends() -> None:
    noise = cc.L2Noise(64, 1.0, 8.0)
    p = np.array([[0.0, 0.5, 0.9], [1.0, 0.6, 0.9]])
    radii = cc.certified_radius(p, noise, "l2")
    assert radii.shape == (2, 3)
    assert radii[0, 0] == radii[0, 1] == 0.0
    assert radii[1, 0] == math.inf
    assert radii[0, 2] == radii[1, 2] == cc.certified_radius(0.9, noise, "l2")
    assert isinstance(cc.certified_radius(0.9, noise, "l2"), float)
    assert cc.certified_radius(np.zeros(0), noise, "l2").shape == (0,)


@pytest.mark.parametrize("p", [1.2, -0.1, math.nan, [0.5, math.nan]])
def test_bad_probabilities(p: object) -> None:
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got"):
        cc.certified_radius(p, cc.Gaussian(3, 1.0), "l2")


def test_tiny_excess() -> None:
    """p one part in 1e12 above one half still gets its 1e-9 of digits, or 0."""
    noise = cc.L2Noise(784, 1.0)
    p = 0.5 + 2.0**-40
    truth = 2.0**-40 * math.sqrt(2 * math.pi)
    assert cc.certified_radius(p, noise, "l2") == pytest.approx(truth, rel=1e-9)
    assert cc.certified_radius(np.nextafter(0.5, 1), noise, "l2") <= 2**-53 * 2.51 * 2


def test_many_is_the_switch() -> None:
    noise = cc.L2Noise(12, 1.0, 3.0)
    few, many = np.linspace(0.55, 0.95, MANY - 1), np.linspace(0.55, 0.95, 2 * MANY - 3)
    np.testing.assert_allclose(
        cc.certified_radius(few, noise, "l2"), cc.certified_radius(many, noise, "l2")[::2],
        rtol=6e-10,
    )  # fmt: skip


def test_many_with_one_too_near_a_half() -> None:
    """The mixed law does not tell 1/2 + 1e-9 from 1/2: radius 0 there, the others as ever."""
    noise = cc.MixedNoise(64, 1.0, 5.0)
    p = np.r_[0.5 + 1e-10, 0.5 + 1e-9, np.linspace(0.6, 0.9, 24)]
    radii = cc.certified_radius(p, noise, "linf")
    assert radii[0] == radii[1] == 0.0 < radii[2]
    np.testing.assert_allclose(radii[2], cc.certified_radius(0.6, noise, "linf"), rtol=3e-5)
    # nor where the search's start rounds to radius 0
    assert cc.certified_radius(0.5 + 2.0**-45, cc.MixedNoise(4, 1.0, 1.5), "linf") == 0.0
