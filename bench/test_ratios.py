"""Log ratios and the Monte-Carlo bound beside NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import cert_core as cc
from cert_core import kernels
from cert_core.kernels import reference
from cert_core.kernels.cpu import backend as cpu
from cert_core.threats import Shift, worst_shift

ROWS = 2000
DIM = 3072


def naive_log_ratio(noise: cc.Noise, z: Any, shift: Shift) -> Any:
    """Two densities, subtracted, on fresh arrays."""
    delta = np.zeros(noise.dim)
    if shift.kind == "axis":
        delta[0] = shift.size
    else:
        delta[:] = shift.size
    return noise.log_density(z - delta) - noise.log_density(z)


@pytest.mark.parametrize(
    ("family", "attack"), [("l1", "l1"), ("l2", "l2"), ("linf", "linf"), ("linf", "l1")]
)
def test_log_ratio(race: Any, family: str, attack: str) -> None:
    noise = cc.NOISES[family].with_rms(DIM, 1.0, DIM / 3)
    shift = worst_shift(noise, attack, 0.5)
    z = cc.draw(noise, ROWS, 1)
    gap = np.abs(cpu.log_ratio(noise, z, shift) - naive_log_ratio(noise, z.astype(float), shift))
    name = f"{family}, {attack} attack"
    race(
        f"log ratio of given draws: {name}, d={DIM}",
        {
            name: lambda: cpu.log_ratio(noise, z, shift, threads=1),
            "two log densities": lambda: naive_log_ratio(noise, z, shift),
        },
        values=z.size,
        notes={name: f"differs by {gap.max():.1e}"},
    )


@pytest.mark.parametrize(
    ("family", "attack", "n"),
    [
        ("l1", "l1", 200_000), ("l2", "l2", 200_000), ("linf", "linf", 200_000),
        ("linf", "l1", 200_000), ("mixed", "linf", 500),
    ],
)  # fmt: skip
def test_draw_log_ratio(race: Any, family: str, attack: str, n: int) -> None:
    """The direct law of (|z|, |z - delta|) beside drawing all coordinates."""
    noise = cc.NOISES[family].with_rms(DIM, 1.0, DIM / 3)
    shift = worst_shift(noise, attack, 0.5)
    few = 500

    def by_rows() -> Any:
        return cpu.log_ratio(noise, cpu.draw(noise, few, 1, threads=1), shift, threads=1)

    times = race(
        f"log-ratio draws: {family}, {attack} attack, d={DIM}",
        {
            "draw_log_ratio": lambda: cpu.draw_log_ratio(noise, shift, n, 1, threads=1),
            "reference (NumPy)": lambda: reference.draw_log_ratio(noise, shift, n, 1),
        },
        values=n,
        unit="ns/draw",
        rounds=5,
    )
    race(
        f"log-ratio draws through rows: {family}, {attack} attack, d={DIM}",
        {"draw + log_ratio": by_rows},
        values=few,
        unit="ns/draw",
        notes={"draw + log_ratio": f"direct: {times['draw_log_ratio']:.0f}"},
    )


@pytest.mark.parametrize("p", [0.2, 0.7, 0.99])
def test_hinge_bound(race: Any, p: float) -> None:
    """One selection beside a sort and its running sums."""
    n = 1_000_000
    sample = np.random.default_rng(1).normal(-0.5, 1.0, n)

    def sort_and_sum() -> float:
        ordered = np.sort(sample)
        sums = np.cumsum(np.exp(ordered))
        epsilon = math.sqrt(math.log(2 / 1e-3) / (2 * n))
        m = math.ceil(n * (p - epsilon))
        return float(np.exp(ordered[m - 1]) * (p - epsilon - m / n) + sums[m - 1] / n)

    checked = kernels.backend("cpu")
    assert abs(checked.hinge_bound(sample, p, 1e-3) - max(sort_and_sum(), 0)) < 1e-12
    race(
        f"hinge bound, n={n}, p={p}",
        {
            "hinge_bound": lambda: checked.hinge_bound(sample, p, 1e-3),
            "sort + cumsum": sort_and_sum,
        },
        values=1,
        unit="ms",
    )
