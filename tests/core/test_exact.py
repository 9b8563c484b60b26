"""Proofs in rational arithmetic: held to the definition of L, and the engine held to them."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import pytest
from core.test_discrete import SMALL, by_distance, greedy

import cert_core as cc
from cert_core import exact

proof = pytest.importorskip("cert_core.proof")
WIDE = [
    (cc.Flips(150_528, 256, 0.3), "l0", (1, 2, 5, 20)),
    (cc.Flips(784, 2, 0.8), "l0", (1, 3, 40)),
    (cc.Flips(60, 5, 0.1), "l0", (1, 4)),  # keep below 1/categories: the order of atoms turns
    (cc.SparseFlips(900, 0.01, 0.6), "l0", (1, 2, 7, 20)),
    (cc.SparseFlips(900, 0.3, 0.8), "l0", (1, 5)),
    (cc.Ablation(784, 45), "l0", (1, 3, 9)),
    (cc.Ablation(150_528, 2000), "l0", (10, 60)),
    (cc.Uniform(784, 0.5), "l1", (0.1, 0.49, 0.7)),
    (cc.Uniform(784, 0.5), "linf", (1e-5, 1e-3)),
    (cc.Uniform(784, 0.5), "l2", (1e-3, 0.01)),
    (cc.Splitting(784, 0.5), "l1", (0.1, 0.3)),
    (cc.Splitting(784, 0.4321), "l2", (1e-3, 0.01)),
    (cc.Splitting(784, 0.5), "linf", (1e-5, 3e-4)),
    (cc.Uniform(1, 0.5), "l2", (0.2,)),
]


@pytest.mark.parametrize("noise", SMALL, ids=str)
def test_required_is_that_of_every_pair(noise: Any) -> None:
    """The worst over all pairs of inputs so far apart, from all their copies."""
    for apart, kinds in by_distance(noise).items():
        if apart == 0:
            continue
        laws, same = exact.worst(noise, "l0", Fraction(apart))
        assert laws is same
        needed, lam = max(exact.required(law) for law in laws)
        for pair in kinds:
            assert greedy(*pair, needed) >= Fraction(1, 2) or needed == 1
        just = needed - Fraction(1, 2**60)
        assert min(greedy(*pair, just) for pair in kinds) < Fraction(1, 2)
        if needed < 1:  # Theorem 1, attained
            loss = max(exact.discrepancy(law, lam) for law in laws)
            assert (Fraction(1, 2) + loss) / lam >= needed


@pytest.mark.parametrize(("noise", "attack", "radii"), WIDE, ids=str)
def test_the_engine_against_fractions(noise: Any, attack: str, radii: Any) -> None:
    for radius in radii:
        (inner, outer), size = exact.worst(noise, attack, Fraction(radius)), Fraction(radius)
        low, high = (max(exact.required(law)[0] for law in laws) for laws in (inner, outer))
        found = Fraction(cc.required_probability(noise, attack, radius))
        assert low <= found <= high + Fraction(1, 2**52)
        at = proof.prove(found, noise, attack, size)
        assert at.exact
        assert at.width == 0.0
        assert (at.holds, at.required) == (found > high, min(float(found), 1.0)) or (
            abs(at.required - float(found)) < 1e-15
        )
        assert not proof.prove(low, noise, attack, size).holds
        if high < 1 - Fraction(1, 2**50):
            assert proof.prove(high + Fraction(1, 10**40), noise, attack, size).holds
        for lam in (0.3, 1.0, 7.0):
            least, most = proof.discrepancy(lam, noise, attack, radius)
            assert least <= most <= least + 1e-14 * max(lam, 1)
            engine = cc.discrepancy(lam, noise, attack, radius)
            assert least - 1e-15 <= engine
            assert engine <= most + 1e-14 * max(lam, 1.0)


def test_roots_lie_between_their_ends() -> None:
    """The l1 ball that holds an l2 ball has a root in its radius: both ends are fractions."""
    noise = cc.Uniform(3, 0.5)
    (inner,), (outer,) = exact.worst(noise, "l2", Fraction(1, 10))
    low, high = exact.required(inner)[0], exact.required(outer)[0]
    assert (low - Fraction(1, 2)) ** 2 < Fraction(3, 100) < (high - Fraction(1, 2)) ** 2
    assert high - low < Fraction(1, 2**150)


def test_the_number_of_changes_is_bounded() -> None:
    for noise, most in ((cc.Flips(9999, 2, 0.6), 512), (cc.SparseFlips(9999, 0.1, 0.2), 96)):
        with pytest.raises(ValueError, match=f"radius must be at most {most} entries for a proof"):
            proof.prove(0.9, noise, "l0", most + 1)
    with pytest.raises(ValueError, match="radius must be a whole number of entries"):
        proof.prove(0.9, cc.Flips(9, 2, 0.6), "l0", "1.5")
    assert proof.prove("0.9", cc.Ablation(9999, 1), "l0", 3000).holds


def test_a_certificate_at_its_edge() -> None:
    """Votes that certify a radius by nothing at all do not."""
    noise = cc.Ablation(10, 5)  # L = p - 1/2 at one change
    assert not proof.prove(1, noise, "l0", 1).holds
    noise = cc.Ablation(10, 4)  # p - 2/5
    assert not proof.prove(Fraction(9, 10), noise, "l0", 1).holds
    assert proof.prove(Fraction(9, 10) + Fraction(1, 10**30), noise, "l0", 1).holds
    assert not proof.prove(Fraction(1, 2), noise, "l0", 0).holds
    assert proof.prove(0.51, noise, "l0", 0).holds


def test_random_radii_of_the_engine_are_proved() -> None:
    rng = random.Random(3)
    for _ in range(40):
        noise = rng.choice([
            cc.Flips(50, rng.choice([2, 3, 256]), rng.uniform(0.05, 1.0)),
            cc.SparseFlips(50, rng.random() / 2, rng.random() * 0.9),
            cc.Ablation(50, rng.randint(1, 9)),
        ])  # fmt: skip
        p = 1 - 10 ** -rng.uniform(0.4, 6)
        reach = int(cc.certified_radius(p, noise, "l0"))
        assert proof.prove(p, noise, "l0", min(reach, 30)).holds
        if reach < 30:
            assert not proof.prove(p, noise, "l0", reach + 1).holds
