"""Bounds and laws against the table of the independent oracle (tests/oracle.py).

Tolerances: relative 1e-11 for l1 and l2, 1e-9 for linf and for dim 150528.  p_min near 1/2
is compared through p_min - 1/2, near 1 through 1 - p_min, so digits are counted where the
number has them.  Where the last digits go: the thresholds and exponents of large
arguments (12 + 3 |log P| units of the last place are allowed for, see quadrature.margin).
"""

from __future__ import annotations

import json
from typing import Any

import mpmath as mp
import oracle
import pytest

import cert_core as cc
from cert_core.laws import log_ratio_law
from cert_core.laws.base import EPS

ORACLE_LEAVES_OUT = mp.mpf(10) ** -42  # its integrals end where 1e-45 of the mass is left
ROWS = json.loads(oracle.TABLE.read_text(encoding="utf-8"))
NAMES = [f"{r['shape']}-{r['dim']}-{r['power']}-{r['k']:.4g}-{r['r']:.3g}" for r in ROWS]


def tolerance(row: dict[str, Any]) -> float:
    return 1e-9 if row["shape"].startswith("linf") or row["dim"] > 1e5 else 1e-11


def law_of(row: dict[str, Any]) -> Any:
    noise, attack = oracle.package(row["shape"], row["dim"], row["power"], row["k"])
    return log_ratio_law(noise, attack, row["r"])


def test_table_is_complete() -> None:
    shapes = {r["shape"] for r in ROWS}
    assert shapes == {"l2", "l1", "linf_linf", "linf_l1"}
    assert {1, 3072, 150528} <= {r["dim"] for r in ROWS}
    assert len(ROWS) >= 300


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_required(row: dict[str, Any]) -> None:
    excess, deficit = law_of(row).required()
    true_excess, true_deficit = mp.mpf(row["excess"]), mp.mpf(row["deficit"])
    assert mp.mpf(excess) >= true_excess
    assert mp.mpf(deficit) <= true_deficit
    assert mp.mpf(excess) <= true_excess * (1 + tolerance(row))
    # the deficit is the overlap less exp(-tau)/2, of whose size both are: their last digits
    lost = 32 * EPS * mp.exp(-row["tau"])
    assert mp.mpf(deficit) >= true_deficit * (1 - 2 * tolerance(row)) - lost


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_required_probability_rounds_up_once(row: dict[str, Any]) -> None:
    noise, attack = oracle.package(row["shape"], row["dim"], row["power"], row["k"])
    needed = cc.required_probability(noise, attack, row["r"])
    truth = mp.mpf(1) / 2 + mp.mpf(row["excess"])
    # stated errors reach 2e-14 of rounding, which counts once more in a panel's distance
    assert truth <= mp.mpf(needed) <= truth * (1 + 1e-13) + mp.mpf(2) ** -53


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_lower_bound(row: dict[str, Any]) -> None:
    lower, truth = law_of(row).lower(row["p"]), mp.mpf(row["L"])
    assert 0 <= mp.mpf(lower) <= truth + ORACLE_LEAVES_OUT
    assert mp.mpf(lower) >= truth * (1 - tolerance(row)) - ORACLE_LEAVES_OUT


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_distribution(row: dict[str, Any]) -> None:
    law = law_of(row)
    for t, below, above in zip((row["tau"], -row["tau"]), row["F"], row["S"], strict=True):
        if t in law._jumps and t <= 0:
            continue  # the table holds P(l < t) there
        below, above = mp.mpf(below), mp.mpf(above)
        assert abs(law.cdf(t) - below) <= tolerance(row) * below
        assert abs(law.sf(t) - above) <= tolerance(row) * above
        low, high = law.enclose(t)
        assert mp.mpf(low) <= below <= mp.mpf(high)


@pytest.mark.parametrize("row", [r for r in ROWS if 0.6 < 0.5 + float(r["excess"]) < 0.9999])
def test_certified_radius(row: dict[str, Any]) -> None:
    noise, attack = oracle.package(row["shape"], row["dim"], row["power"], row["k"])
    p = 0.5 + float(row["excess"])
    radius = cc.certified_radius(p, noise, attack)
    assert row["r"] * (1 - 1e-9) <= radius <= row["r"] * (1 + 1e-14 / float(row["excess"]))


@pytest.mark.parametrize(
    "index",
    [60, 120, 240, 300, *(pytest.param(i, marks=pytest.mark.slow) for i in (0, 180, 360))],
)
def test_table_is_reproduced(index: int) -> None:
    row = ROWS[index]
    exact = oracle.Law(row["shape"], row["dim"], row["power"], row["k"], row["r"])
    again = exact.required(row["tau"])
    for name in ("excess", "deficit"):
        assert mp.almosteq(again[name], mp.mpf(row[name]), rel_eps=mp.mpf(10) ** -20)
