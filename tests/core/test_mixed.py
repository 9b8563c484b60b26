"""The mixed family's exact law: the Gaussian at k = 0, an independent oracle, Monte Carlo."""

from __future__ import annotations

import json
import math
from typing import Any

import mixed_oracle
import numpy as np
import pytest
from scipy import special

import cert_core as cc
from cert_core.laws import GaussianLaw, MixedLaw, log_ratio_law
from cert_core.threats import worst_shift

DIMS = (2, 3, 5, 14, 64, 784, 3072, 150528)


@pytest.mark.parametrize("dim", DIMS)
def test_without_a_power_it_is_the_gaussian(dim: int) -> None:
    """Proposition 4, through the quadrature."""
    law, truth = MixedLaw(dim, 0.0, 1 / math.sqrt(dim)), GaussianLaw(1.0)
    for t in (-2.0, -0.3, 0.9):
        value, error = law.probability(t)
        assert abs(value - truth.cdf(t)) <= min(error, 1e-9)
        assert dim in (2, 3, 5) or abs(value - truth.cdf(t)) <= 1e-10
        assert error <= 1e-8


@pytest.mark.parametrize("dim", [4, 12, 64, 3072])
def test_a_shift_beyond_the_largest_coordinate(dim: int) -> None:
    """All of the least coordinate's range is integrated over, and adds up to the Gaussian."""
    law, mu = MixedLaw(dim, 0.0, 6.0), 6.0 * math.sqrt(dim)
    for score in (-1.0, 0.1, 0.7):
        value, error = law.probability(mu * (score - 0.5 * mu))
        assert abs(value - special.ndtr(score)) <= min(error, 1e-9)
        assert error <= 1e-8


@pytest.mark.parametrize("dim", [2, 3, 5, 64, 3072])
@pytest.mark.parametrize("mu", [0.01, 0.5, 2.0, 4.0, 6.0, 7.0])
def test_the_needed_probability_is_never_below_the_gaussian(dim: int, mu: float) -> None:
    excess, deficit = MixedLaw(dim, 0.0, mu / math.sqrt(dim)).required()
    assert 0 <= 0.5 * special.erf(mu / math.sqrt(2)) <= excess + 1e-16
    assert deficit <= special.ndtr(-mu) <= deficit + 2e-8


ROWS = json.loads(mixed_oracle.TABLE.read_text(encoding="utf-8"))
CASES_OF_TABLE = [
    (3, 0.3), (4, 0.1), (8, 0.3), (12, 0.9),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in ((5, 0.3), (6, 0.6), (12, 0.1))),
]  # fmt: skip


def rows_of(dim: int, share: float) -> list[Any]:
    return [row for row in ROWS if row[0] == dim and row[1] == pytest.approx(share * dim)]


@pytest.mark.parametrize(("dim", "share"), CASES_OF_TABLE)
def test_against_the_oracle(dim: int, share: float) -> None:
    """tests/mixed_oracle.py derives the law apart and states its own error."""
    rows = rows_of(dim, share)
    assert len(rows) == 3
    for _, k, r, t, truth, error in rows:
        low, high = MixedLaw(dim, k, r).enclose(t)
        assert low - error <= truth <= high + error
        assert high - low <= 2e-8


@pytest.mark.parametrize(
    ("dim", "share", "pieces", "most"), [(4, 0.1, 10, 5e-7), (12, 0.1, 4, 1e-8)]
)
def test_the_table_is_reproduced(dim: int, share: float, pieces: int, most: float) -> None:
    rows = rows_of(dim, share)
    _, k, r, *_ = rows[0]
    t = np.array([row[3] for row in rows])
    again = mixed_oracle.mixed_cdf(dim, k, r, t, pieces, 1e-9)
    assert np.abs(again - [row[4] for row in rows]).max() <= most


def test_two_dimensions() -> None:
    """Everywhere, the kinks of F(t | rho) found."""
    rng = np.random.default_rng(5)
    for _ in range(30):
        k, r = float(rng.uniform(0, 1.9)), float(10 ** rng.uniform(-2, 0.5))
        law = MixedLaw(2, k, r)
        t = float(law.ppf(rng.uniform(0.02, 0.98)))
        value, error = law.probability(t)
        assert error <= 1e-8
        assert abs(value - mixed_oracle.plane_cdf(k, r, t)) <= error


CASES = [(64, 10**6), (784, 2 * 10**5), (3072, 10**5)]


@pytest.mark.parametrize(
    "share", [0.1, 0.9, *(pytest.param(x, marks=pytest.mark.slow) for x in (0.01, 0.3))]
)
@pytest.mark.parametrize(("dim", "n"), CASES)
def test_against_monte_carlo(dim: int, n: int, share: float) -> None:
    """Twenty points, seven standard errors."""
    noise = cc.MixedNoise(dim, 1.0, share * dim)
    radius = 0.3 / math.sqrt(dim) * (1 - share) ** 2 + 0.02 / math.sqrt(dim)
    law, shift = log_ratio_law(noise, "linf", radius), worst_shift(noise, "linf", radius)
    cpu = cc.kernels.backend("cpu")
    rows = max(1, 10**7 // dim)
    draws = np.sort(
        np.concatenate(
            [
                cpu.log_ratio(noise, cpu.draw(noise, min(rows, n - at), 7, start=at), shift)
                for at in range(0, n, rows)
            ]
        )
    )
    for q in np.linspace(0.025, 0.975, 20):
        t = float(draws[int(q * n)])
        low, high = law.enclose(t)
        assert 0 <= high - low <= 2e-8  # the tolerance, and what is added to it on both sides
        seen = np.searchsorted(draws, t, side="right") / n
        assert abs(law.cdf(t) - seen) <= 7 * math.sqrt(q * (1 - q) / n) + 2 / n


def test_bounds_are_safe_and_consistent() -> None:
    noise = cc.MixedNoise.with_rms(64, 1.0, 16.0)
    radius = cc.certified_radius(0.9, noise, "linf")
    assert 0.9 - 1e-6 <= cc.required_probability(noise, "linf", radius) <= 0.9
    assert cc.lower_bound(0.9, noise, "linf", radius) == pytest.approx(0.5, abs=1e-6)
    assert cc.lower_bound(0.9, noise, "linf", 0.0) == pytest.approx(0.9)
    assert 0 <= cc.discrepancy(1.0, noise, "linf", radius) <= 1
    many = cc.certified_radius(np.linspace(0.6, 0.99, 30), noise, "linf")
    assert np.all(np.diff(many) > 0)
    single = cc.certified_radius(0.99, noise, "linf")
    assert single * (1 - 3e-5) <= many[-1] <= single


def test_probabilities_beside_one_half_and_one() -> None:
    """What the law cannot tell from 1/2 certifies nothing; beside 1 radii stop growing."""
    noise = cc.MixedNoise(64, 1.0, 16.0)
    assert cc.certified_radius(0.5 + 1e-10, noise, "linf") == 0.0
    high = cc.certified_radius(1 - 1e-8, noise, "linf")
    assert high < cc.certified_radius(1 - 1e-12, noise, "linf") < 1.2 * high


def test_one_dimension_and_no_power_have_closed_laws() -> None:
    assert cc.required_probability(cc.MixedNoise(1, 1.0, 0.5), "linf", 0.3) == (
        cc.required_probability(cc.L2Noise(1, 1.0, 0.5), "linf", 0.3)
    )
    assert cc.required_probability(cc.MixedNoise(9, 1.0), "l2", 0.3) == (
        cc.required_probability(cc.Gaussian(9, 1.0), "l2", 0.3)
    )
