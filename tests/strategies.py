"""Hypothesis strategies over every family in NOISES, made from what their own fields say."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

import cert_core as cc

DIMS = st.one_of(st.integers(1, 30), st.sampled_from([64, 100, 101, 784, 3072]))
SHARES = st.one_of(st.sampled_from([0.0, 0.01, 0.3, 0.9, 1.0]), st.floats(1e-3, 1))


def member(family: type[cc.Noise], dim: int, shares: Callable[[], float]) -> cc.Noise:
    """One with usual values, each at its share of the way through those of its field."""
    values = {
        field.name: field.metadata["domain"].usual(shares(), dim)
        for field in dataclasses.fields(family)  # type: ignore[arg-type]
        if field.name != "dim"
    }
    return family(dim, **values)  # type: ignore[call-arg]


def members(families: dict[str, type[cc.Noise]]) -> list[cc.Noise]:
    """A few of every family, from the first usual values to the last."""
    return [
        member(family, dim, lambda share=share: share)  # type: ignore[misc]
        for family in families.values()
        for dim, share in ((1, 0.0), (5, 1.0), (70, 0.4))
    ]


@st.composite
def noises(draw: Any, dims: Any = DIMS) -> cc.Noise:
    """Any noise of NOISES with usual parameters."""
    family = cc.NOISES[draw(st.sampled_from(sorted(cc.NOISES)))]
    return member(family, draw(dims), lambda: draw(SHARES))


@st.composite
def threats(draw: Any, dims: Any = DIMS) -> tuple[cc.Noise, str, float]:
    """(noise, attack, radius) with a law to 1e-11, the radius from far inside to far outside."""
    noise = draw(noises(dims))
    attack = draw(st.sampled_from(cc.ATTACKS))
    assume(noise.name != "mixed" or noise.dim == 1)  # its law to 1e-8: see test_mixed
    try:
        cc.log_ratio_law(noise, attack, 1.0)
    except cc.errors.UnsupportedPair:
        assume(False)
    shift = cc.worst_shift(noise, attack, 1.0)
    reach = noise.rms / shift.norm(2.0, noise.dim)
    return noise, attack, draw(st.sampled_from([0.01, 0.2, 0.7, 1.5, 4.0])) * reach
