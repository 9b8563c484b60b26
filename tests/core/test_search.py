"""Radii and lambda searched for at once: as the nested search, by few evaluations of the law."""

from __future__ import annotations

import math
from typing import Any

import pytest

import cert_core as cc
from cert_core.bounds import _search_nested, _search_together, search_radius
from cert_core.laws import MixedLaw
from cert_core.laws.quadrature import QuadratureLaw

PAIRS = [
    (cc.L1Noise(3072, 1.0, 300.0), "l1"),
    (cc.L1Noise(3072, 1.0, 3060.0), "linf"),
    (cc.L2Noise(3072, 1.0, 3060.0), "l2"),
    (cc.LinfNoise(3072, 1.0), "linf"),
    (cc.LinfNoise(3072, 1.0, 300.0), "l1"),
    (cc.RadialNoise(3072, math.inf, 1.0, 1.0, 0.0), "linf"),
]
MIXED = (cc.MixedNoise(64, 1.0, 6.0), "linf")


@pytest.mark.parametrize("p", [0.6, 0.999, 1 - 1e-9])
@pytest.mark.parametrize("pair", [*PAIRS, MIXED], ids=lambda pair: f"{pair[0].name}-{pair[1]}")
def test_both_searches_agree(pair: tuple[cc.Noise, str], p: float) -> None:
    if pair == MIXED and p > 0.9999:  # its law does not tell such p from 1
        return
    found = _search_together(*pair, p)
    close = 2e-6 if pair == MIXED else 6e-10
    assert search_radius(*pair, p) == pytest.approx(_search_nested(*pair, p), rel=close)
    assert found is None or cc.required_probability(*pair, found) <= p


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0].name}-{pair[1]}")
def test_a_radius_takes_few_evaluations(
    pair: tuple[cc.Noise, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    count, plain = 0, QuadratureLaw.bound

    def counted(*args: Any) -> Any:
        nonlocal count
        count += 1
        return plain(*args)

    monkeypatch.setattr(QuadratureLaw, "bound", counted)
    assert search_radius(*pair, 0.9) > 0
    assert count <= 8


def test_a_mixed_radius_takes_few_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    count, plain = 0, MixedLaw._integral

    def counted(*args: Any) -> Any:
        nonlocal count
        count += 1
        return plain(*args)

    monkeypatch.setattr(MixedLaw, "_integral", counted)
    assert search_radius(*MIXED, 0.9) > 0
    assert count <= 16


def test_half_of_l_beyond_every_score() -> None:
    """P(l < -tau) rounds to 0 on the way: no step leaves the numbers."""
    noise, p = cc.RadialNoise(1, 1.0, 0.7, 1.0, 0.0), 0.9999999978660217
    assert search_radius(noise, "l1", p) == pytest.approx(71.47822650, rel=1e-8)


@pytest.mark.parametrize(("dim", "k"), [(784, 783.0), (150528, 143001.6)])
def test_a_mixed_radius_where_p_is_nearly_one(dim: int, k: float) -> None:
    """Where the limit that a search starts from rounds to 1."""
    noise, ps = cc.MixedNoise(dim, 1.0, k), [1 - 1e-6, 1 - 1e-7, 1 - 1e-9]
    radii = [float(cc.certified_radius(p, noise, "linf")) for p in ps]
    assert 0 < radii[0] < radii[1] < radii[2]
    for p, radius in zip(ps, radii, strict=True):
        assert cc.required_probability(noise, "linf", radius) <= p
