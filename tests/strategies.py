"""Hypothesis strategies over every family in NOISES, made from the classes' own fields."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

import cert_core as cc

DIMS = st.one_of(st.integers(1, 30), st.sampled_from([64, 100, 101, 784, 3072]))
FIELDS: dict[str, Any] = {
    "norm": st.sampled_from([1.0, 2.0, math.inf]),
    "power": st.sampled_from([0.6, 1.0, 1.5, 2.0, 3.0]),
    "scale": st.floats(0.05, 20.0),
    "sigma": st.floats(0.05, 20.0),
    "b": st.floats(0.05, 20.0),
}


@st.composite
def noises(draw: Any, dims: Any = DIMS) -> cc.Noise:
    """Any noise of NOISES with legal parameters."""
    family = cc.NOISES[draw(st.sampled_from(sorted(cc.NOISES)))]
    values: dict[str, Any] = {"dim": draw(dims)}
    for field in dataclasses.fields(family):  # type: ignore[arg-type]
        if field.name == "k":
            share = draw(st.sampled_from([0.0, 0.01, 0.3, 0.9, 1.0]))
            values["k"] = min(share * values["dim"], values["dim"] - 0.5)
        elif field.name != "dim":
            values[field.name] = draw(FIELDS[field.name])
    return family(**values)


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
