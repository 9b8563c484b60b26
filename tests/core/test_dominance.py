"""Explicit classifiers, sampled independently: none falls below the bound, one reaches it.

Statistical: fixed seeds, a false alarm has chance below 1e-8 a check.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from sampler import log_density, sample, shift

import cert_core as cc
from cert_core.densities import RadialRecord
from cert_core.laws import build_law
from cert_core.threats import Shift, law_shift

N = 200_000
Z = 6.0  # standard errors: two-sided chance 2e-9
DIM = 12

THREATS: list[tuple[cc.Noise, str, float]] = [
    (cc.Gaussian(DIM, 1.0), "l2", 1.0),
    (cc.L2Noise(DIM, 1.0, 7.0), "l2", 1.0),
    (cc.L2Noise(DIM, 1.0, 11.5), "l2", 0.2),
    (cc.L2Noise(DIM, 1.0, 3.0), "linf", 0.3),
    (cc.L2Noise(DIM, 1.0, 3.0), "l1", 0.9),
    (cc.Laplace(DIM, 1.0), "l1", 1.0),
    (cc.L1Noise(DIM, 1.0, 6.0), "l1", 1.0),
    (cc.L1Noise(DIM, 1.0, 6.0), "l2", 0.3),
    (cc.L1Noise(DIM, 1.0, 6.0), "linf", 0.1),
    (cc.LinfNoise(DIM, 1.0, 4.0), "linf", 0.1),
    (cc.LinfNoise(DIM, 1.0, 4.0), "l1", 2.0),
    (cc.LinfNoise(DIM, 1.0, 4.0), "l2", 0.4),
    (cc.RadialNoise(DIM, 2.0, 1.3, 1.0, 2.0), "l2", 1.0),
    (cc.MixedNoise(4, 1.0, 1.5), "linf", 0.4),
    (cc.MixedNoise(4, 1.0, 0.0), "l2", 0.8),
]
NAMES = [f"{n.name}-{getattr(n, 'k', 0):g}-{a}" for n, a, _ in THREATS]


@lru_cache(maxsize=2)
def points(noise: cc.Noise, seed: int) -> Any:
    """N samples; neighbours in the list of threats share them."""
    return sample(noise, N, np.random.default_rng(seed))


def exact(threat: tuple[cc.Noise, str, float]) -> None:
    try:
        cc.log_ratio_law(*threat)
    except cc.errors.UnsupportedPair as error:
        pytest.skip(str(error))


def share(votes: Any) -> tuple[float, float]:
    """Mean of 0/1 votes and its standard error, never 0."""
    p = float(np.mean(votes))
    return p, math.sqrt(max(p * (1 - p), 1e-4) / len(votes))


def classifiers(noise: cc.Noise, delta: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Functions of points to 0/1, of many shapes."""
    size = noise.rms * math.sqrt(noise.dim)
    towards = delta / np.linalg.norm(delta)
    other = rng.standard_normal(noise.dim)
    other /= np.linalg.norm(other)
    return {
        "half-space": lambda z: z @ towards < 0.4 * noise.rms,
        "oblique half-space": lambda z: z @ (0.6 * towards + 0.8 * other) < 0.5 * noise.rms,
        "coordinate": lambda z: z[:, 1] < 0.3 * noise.rms,
        "ball at 0": lambda z: np.linalg.norm(z, axis=1) < size,
        "ball at delta": lambda z: np.linalg.norm(z - delta, axis=1) > 0.9 * size,
        "max-ball": lambda z: np.abs(z).max(axis=1) < 2 * noise.rms,
        "1-ball": lambda z: np.abs(z).sum(axis=1) < 0.8 * noise.rms * noise.dim,
        "shell": lambda z: np.abs(np.linalg.norm(z, axis=1) - size) < 0.3 * size,
        "slab": lambda z: np.abs(z @ towards) < noise.rms,
        "sinusoid": lambda z: np.sin(3 * (z @ towards) / noise.rms) > -0.2,
    }


@pytest.mark.parametrize("threat", THREATS, ids=NAMES)
def test_no_classifier_falls_below(threat: tuple[cc.Noise, str, float]) -> None:
    exact(threat)
    noise, attack, radius = threat
    delta = shift(noise, attack, radius)
    z, shifted = points(noise, 11), points(noise, 12) + delta
    for name, classify in classifiers(noise, delta, np.random.default_rng(13)).items():
        (p, p_error), (q, q_error) = share(classify(z)), share(classify(shifted))
        assert q + Z * q_error >= cc.lower_bound(max(p - Z * p_error, 0.0), *threat), name


def level_sets(
    threat: tuple[cc.Noise, str, float], log_lams: list[float], seed: int
) -> list[tuple[float, tuple[float, float], tuple[float, float]]]:
    """log lam, and how likely {W <= lam} is at the input and at the shift."""
    noise, attack, radius = threat
    delta = shift(noise, attack, radius)
    here, there = (
        log_density(noise, z - delta) - log_density(noise, z)
        for z in (points(noise, seed), points(noise, seed + 1) + delta)
    )
    return [(t, share(here <= t), share(there <= t)) for t in log_lams]


def attainment(sets: Any, lower: Any) -> float:
    """The most standard errors between E_delta and the bound, over level sets."""
    slopes = [math.exp(log_lam) for log_lam, *_ in sets]  # dL/dp
    return max(
        abs(q - lower(p)) / math.hypot(q_error, slope * p_error)
        for slope, (_, (p, p_error), (q, q_error)) in zip(slopes, sets, strict=True)
    )


TIGHT = [t for t in THREATS if cc.is_tight(t[0], t[1])]


@pytest.mark.parametrize("threat", TIGHT, ids=[f"{n.name}-{a}" for n, a, _ in TIGHT])
def test_the_level_set_reaches_the_bound(threat: tuple[cc.Noise, str, float]) -> None:
    exact(threat)
    law = cc.log_ratio_law(*threat)
    # beside the quantile, so that an atom is on neither side of it by rounding
    sets = level_sets(threat, [float(law.ppf(p)) + 1e-6 for p in (0.3, 0.6, 0.9)], seed=5)
    assert attainment(sets, lambda p: cc.lower_bound(p, *threat)) < Z


MUTANTS = {
    "delta/2": lambda r, s: (r, Shift(s.kind, s.size / 2, s.tight, s.reason)),
    "sigma for sigma^2": lambda r, s: (_with(r, scale=r.scale**2), s),
    "dimension off by one": lambda r, s: (_with(r, dim=r.dim + 1), s),
    "radial dimension off by one": lambda r, s: (_with(r, k=r.k + 1), s),
    "k dropped": lambda r, s: (_with(r, k=0.0), s),
    "power halved": lambda r, s: (_with(r, power=r.power / 2), s),
}


def _with(record: RadialRecord, **changes: Any) -> RadialRecord:
    values = {f: getattr(record, f) for f in ("dim", "norm", "power", "scale", "k")}
    return RadialRecord(**{**values, **changes})


def mutant_bound(threat: tuple[cc.Noise, str, float], mutate: Any) -> Any:
    """lower_bound with wrong parameters handed to the core."""
    noise, attack, radius = threat
    record, moved = mutate(noise.radial, law_shift(noise, attack, radius))  # type: ignore[attr-defined]
    law = build_law(record, moved, record.dim)
    return law.lower


@pytest.mark.parametrize(
    "threat",
    [
        (cc.L2Noise(DIM, 1.3, 7.0), "l2", 1.3),
        (cc.L1Noise(DIM, 1.3, 6.0), "l1", 2.6),
        (cc.LinfNoise(DIM, 1.3, 4.0), "linf", 1.0),
    ],
    ids=["l2", "l1", "linf"],
)
def test_mutants_are_caught(threat: tuple[cc.Noise, str, float]) -> None:
    """Wrong parameters must show in the attainment check, which the true ones pass."""
    law = cc.log_ratio_law(*threat)
    sets = level_sets(threat, [float(law.ppf(p)) + 1e-6 for p in (0.4, 0.7, 0.9)], seed=7)
    assert attainment(sets, mutant_bound(threat, lambda r, s: (r, s))) < Z
    for name, mutate in MUTANTS.items():
        assert attainment(sets, mutant_bound(threat, mutate)) > Z, name
