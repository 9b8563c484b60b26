"""The worst-shift table: data, proofs, and random shifts that are never worse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sampler import log_density, sample

import cert_core as cc
from cert_core.threats import ORDER, WORST, law_shift

NOISES = [
    cc.L1Noise(6, 1.0, 2.0), cc.L2Noise(6, 1.0, 4.0), cc.LinfNoise(6, 1.0, 1.0),
    cc.MixedNoise(6, 1.0, 3.0), cc.Gaussian(6, 1.0), cc.Laplace(6, 1.0),
]  # fmt: skip


def test_every_row_of_the_table_is_tried() -> None:
    """By the tests below; by those of discrete noises, whose balls are enumerated there."""
    here = {(noise.level_norm, attack) for noise in NOISES for attack in cc.ATTACKS}
    there = {("entries", "l0"), ("cube", "l1"), ("cube", "linf"), ("splits", "l1")}
    assert WORST.keys() <= here | there


@pytest.mark.parametrize("order", [1.0, 2.0, math.inf])
@pytest.mark.parametrize("attack", ["l1", "linf"])
def test_norms_of_a_shift_are_those_of_its_vector(attack: str, order: float) -> None:
    shift = cc.worst_shift(cc.Gaussian(6, 1.0), attack, 0.7)
    assert shift.norm(order, 6) == pytest.approx(np.linalg.norm(shift.as_array(6), ord=order))


@pytest.mark.parametrize("noise", NOISES, ids=lambda n: n.name)
@pytest.mark.parametrize("attack", cc.ATTACKS)
def test_shift_covers_the_attack_ball(noise: cc.Noise, attack: str) -> None:
    """A tight shift lies in the ball; a loose one stands for a ball that holds it."""
    shift = cc.worst_shift(noise, attack, 0.7)
    delta = shift.as_array(noise.dim)
    if shift.tight:
        assert np.linalg.norm(delta, ord=ORDER[attack]) <= 0.7 * (1 + 1e-15)
        return
    other = "linf" if shift.kind == "diagonal" else "l1"
    rng = np.random.default_rng(0)
    inside = rng.standard_normal((2000, noise.dim)) ** 3
    inside *= 0.7 / np.linalg.norm(inside, ord=ORDER[attack], axis=1)[:, None]
    assert (np.linalg.norm(inside, ord=ORDER[other], axis=1) <= shift.size).all()


@pytest.mark.parametrize("noise", NOISES, ids=lambda n: n.name)
@pytest.mark.parametrize("attack", cc.ATTACKS)
def test_no_shift_of_the_ball_is_worse(noise: cc.Noise, attack: str) -> None:
    """Theorems 2 and 3 by random, sparse and split shifts: E(lam - W)_+ is nowhere larger."""
    shift = cc.worst_shift(noise, attack, 0.8)
    if not shift.tight:
        pytest.skip("no worst shift is known for this pair")
    rng = np.random.default_rng(3)
    z = sample(noise, 200_000, rng)
    base = log_density(noise, z)

    def hinges(delta: Any) -> Any:
        ratio = np.exp(log_density(noise, z - delta) - base)
        return [np.maximum(lam - ratio, 0.0) for lam in (0.05, 0.5, 1.0, 3.0, 20.0)]

    worst = hinges(shift.as_array(noise.dim))
    candidates = [rng.standard_normal(noise.dim), np.eye(noise.dim)[2], np.r_[1.0, -1, 0, 0, 0, 0]]
    for delta in candidates:
        inside = delta * 0.8 / np.linalg.norm(delta, ord=ORDER[attack])
        for one, other in zip(worst, hinges(inside), strict=True):
            gap = other - one
            assert gap.mean() <= 6 * gap.std() / math.sqrt(len(z)) + 1e-12


def test_engine_shift_of_open_laws() -> None:
    """1-balls under linf: Monte Carlo uses the corner, the exact law a larger l1 ball."""
    noise = cc.L1Noise(6, 1.0, 2.0)
    assert cc.worst_shift(noise, "linf", 0.5) == cc.Shift(
        "diagonal", 0.5, True, "(a), contains Theorem 3"
    )
    loose = law_shift(noise, "linf", 0.5)
    assert (loose.kind, loose.tight) == ("axis", False)
    assert loose.size == pytest.approx(3.0)
    assert not cc.is_tight(noise, "linf")
    assert cc.is_tight(noise, "l1")
    assert not cc.is_tight(cc.MixedNoise(6, 1.0, 3.0), "l2")
    assert cc.is_tight(cc.MixedNoise(6, 1.0, 0.0), "l2")


def test_one_dimension_has_one_attack() -> None:
    for noise in (cc.L1Noise(1, 1.0, 0.5), cc.LinfNoise(1, 1.0, 0.5), cc.MixedNoise(1, 1.0, 0.5)):
        values = {cc.required_probability(noise, attack, 0.7) for attack in cc.ATTACKS}
        assert len(values) == 1
        assert all(cc.is_tight(noise, attack) for attack in cc.ATTACKS)


def test_cube_noise_is_far_better_against_l1_than_by_inclusion() -> None:
    """At d = 784, p = .9: 22.4 sigma along an edge where the max-ball inclusion gives .06."""
    noise = cc.LinfNoise(784, 1.0)
    assert cc.certified_radius(0.9, noise, "l1") == pytest.approx(22.4, abs=0.05)
    assert cc.certified_radius(0.9, noise, "linf") == pytest.approx(0.06, abs=0.005)
