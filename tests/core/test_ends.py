"""Every law at both ends of the line, down to the edge of what can be normalised."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import cert_core as cc
from cert_core import proof
from cert_core.laws import MixedLaw, log_ratio_law
from cert_core.laws.base import EPS
from cert_core.laws.quadrature import QuadratureLaw, margin

SHORT = (1e-9, 1e-6, 1e-3, 0.01, 0.1, 0.5)  # d - k
FAMILIES = [
    (cc.L1Noise, "l1"),
    (cc.L2Noise, "l2"),
    (cc.L2Noise, "linf"),
    (cc.LinfNoise, "linf"),
    (cc.LinfNoise, "l1"),
    (cc.MixedNoise, "linf"),
]


def stated(law: Any, t: float) -> float:
    """The error that the law states of F(t)."""
    if isinstance(law, MixedLaw):
        return law.probability(t)[1]
    if isinstance(law, QuadratureLaw):
        below, _, error, _ = law._engine.distribution(t)
        return margin(below, error)
    return 8 * EPS  # closed


def ends(noise: cc.Noise, attack: str, radius: float) -> None:
    """F, which is 0 and 1 there, and D, which is 0 and lam, less 1 at the most."""
    law = log_ratio_law(noise, attack, radius)
    assert law.enclose(-np.inf) == (0.0, 0.0)
    assert law.enclose(np.inf) == (1.0, 1.0)
    assert (law.cdf(-np.inf), law.sf(-np.inf)) == (0.0, 1.0)
    assert (law.cdf(np.inf), law.sf(np.inf)) == (1.0, 0.0)
    rest = noise.dim - getattr(noise, "k", 0.0)
    far = 1e6 * noise.dim / rest  # l falls below -k log(s/r), s with the power d - k
    for t, truth in ((-far, 0.0), (1e6, 1.0)):
        low, high = law.enclose(t)
        assert 0.0 <= low <= truth <= high <= 1.0
        assert high - low <= 2 * stated(law, t) + 4 * EPS
        assert high - low <= 1e-8
    for lam in (1e-9, 1e9):
        found = cc.discrepancy(lam, noise, attack, radius)
        assert max(lam - 1.0, 0.0) <= found <= lam


@pytest.mark.parametrize("dim", [1, 2, 10, 784])
@pytest.mark.parametrize("row", FAMILIES, ids=lambda row: f"{row[0].__name__}-{row[1]}")
def test_both_ends(row: Any, dim: int) -> None:
    family, attack = row
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rest in SHORT[::2] if family is cc.MixedNoise else SHORT:  # its tables take seconds
            for radius in (1e-12, 0.3):
                ends(family(dim, 1.0, dim - rest), attack, radius)


@pytest.mark.parametrize("radius", [1e-12, 0.3, 3.0])
@pytest.mark.parametrize("dim", [1, 3, 784])
def test_both_ends_of_closed_laws(dim: int, radius: float) -> None:
    ends(cc.Gaussian(dim, 1.0), "l2", radius)
    ends(cc.Laplace(dim, 1.0), "l1", radius)


@pytest.mark.parametrize("rest", [1e-12, 1e-6, 0.1])
@pytest.mark.parametrize("row", FAMILIES, ids=lambda row: f"{row[0].__name__}-{row[1]}")
def test_lower_ends_lie_below_upper_ends(row: Any, rest: float) -> None:
    """Where the density is hardly normalised, over all of the line."""
    family, attack = row
    for dim in (3, 784):
        law = log_ratio_law(family(dim, 1.0, dim - rest), attack, 1.0)
        low, high = law.enclose([-100 * dim / rest, -1e3, -1.0, -1e-9, 0.0, 1e-9, 1.0, 1e3])
        assert np.all((low >= 0.0) & (low <= high) & (high <= 1.0))
        assert np.all(np.diff(high) >= -1e-15) or isinstance(law, MixedLaw)
        assert np.all(low[1:] >= low[:-1] - 1e-15) or isinstance(law, MixedLaw)
        assert np.max(high - low) <= 1e-8


@pytest.mark.parametrize("rest", [1e-6, 0.01])
@pytest.mark.parametrize("row", FAMILIES[:-1], ids=lambda row: f"{row[0].__name__}-{row[1]}")
def test_discrepancies_are_those_of_proofs(row: Any, rest: float) -> None:
    family, attack = row
    noise = family(3, 1.0, 3 - rest)
    for lam in (1e-9, 0.5, 1e9):
        low, high = proof.discrepancy(lam, noise, attack, 0.3)
        found = cc.discrepancy(lam, noise, attack, 0.3)
        assert low <= found <= high + 1e-13 * max(lam, 1.0)


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
