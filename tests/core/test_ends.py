"""Every law at both ends of the line, down to the edge of what can be normalised."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import cert_core as cc
from cert_core.laws import log_ratio_law

SHORT = (1e-9, 1e-6, 1e-3, 0.01, 0.1, 0.5)  # d - k
FAMILIES = [
    (cc.L1Noise, "l1"),
    (cc.L2Noise, "l2"),
    (cc.L2Noise, "linf"),
    (cc.LinfNoise, "linf"),
    (cc.LinfNoise, "l1"),
    (cc.MixedNoise, "linf"),
]


def ends(noise: cc.Noise, attack: str, radius: float) -> None:
    """F and the bounds at both ends, to their stated errors."""
    law = log_ratio_law(noise, attack, radius)
    rest = noise.dim - getattr(noise, "k", 0.0)
    assert law.enclose(-np.inf)[0] == 0.0 <= law.enclose(-np.inf)[1] <= 1e-300
    assert law.enclose(np.inf)[0] >= 1 - 1e-14
    assert law.enclose(np.inf)[1] == 1.0
    far = 1e6 * noise.dim / rest  # l falls below -k log(s/r), s with the power d - k
    low, high = law.enclose(-far)
    assert low == 0.0 <= high <= 1e-6
    low, high = law.enclose(1e6)
    assert 1 - 1e-6 <= low <= high
    assert high >= 1 - 1e-15
    # the other measure: P(l >= -t) under it, and D between its limits
    assert 0 <= cc.discrepancy(1e-9, noise, attack, radius) <= 1e-9
    assert 1e9 - 1.0001 <= cc.discrepancy(1e9, noise, attack, radius) <= 1e9


@pytest.mark.parametrize("dim", [1, 2, 3, 10, 64, 784])
@pytest.mark.parametrize("row", FAMILIES, ids=lambda row: f"{row[0].__name__}-{row[1]}")
def test_both_ends(row: Any, dim: int) -> None:
    family, attack = row
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rest in SHORT:
            for radius in (1e-12, 0.3):
                ends(family(dim, 1.0, dim - rest), attack, radius)


@pytest.mark.parametrize("radius", [1e-12, 0.3, 3.0])
@pytest.mark.parametrize("dim", [1, 3, 784])
def test_both_ends_of_closed_laws(dim: int, radius: float) -> None:
    ends(cc.Gaussian(dim, 1.0), "l2", radius)
    ends(cc.Laplace(dim, 1.0), "l1", radius)


def test_a_mixed_law_whose_scale_underflows() -> None:
    noise = cc.MixedNoise(2, 1.0, 1.99)
    assert cc.required_probability(noise, "linf", 0.3) == 1.0
    assert log_ratio_law(noise, "linf", 0.3).enclose(1e6)[1] == 1.0


@pytest.mark.parametrize(("dim", "rest"), [(2, 1e-3), (3, 0.01), (10, 1e-6), (64, 0.1)])
def test_far_below_the_shift_the_law_is_a_power(dim: int, rest: float) -> None:
    """P(l <= t) = P(|z| <= r exp(t/k)) where |z| << r: two thresholds, one power."""
    law = log_ratio_law(cc.MixedNoise(dim, 1.0, dim - rest), "linf", 0.01)
    k = dim - rest
    t, rest = -60.0 * k, dim - k  # as rounded
    for further in (1.0, 10.0, 0.1 / rest):
        low, high = law.enclose(t)
        more = law.enclose(t - further * k)
        ratio = np.exp(-rest * further)
        assert low * ratio <= more[1]
        assert more[0] <= high * ratio
