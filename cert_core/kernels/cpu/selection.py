"""The m-th smallest of many values and the sum below it, without a sort (Numba)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cert_core.errors import Float
from cert_core.kernels import PROBES, bracket
from cert_core.kernels.cpu.doubles import exp64
from cert_core.kernels.cpu.rows import fold
from cert_core.kernels.cpu.tiles import LANES, U64
from cert_core.kernels.cpu.words import OPTIONS, STEP, at_least, lowest, wide_vectors

WIDE = 64  # lanes whose places in or out of the bracket fit a word


@njit(**OPTIONS)
def _below(values: Any, low: Any, lanes: Any) -> Any:
    """How many values are < low; their exponentials, added to the lanes."""
    wide_vectors()
    count = 0
    for i in range(values.size):
        less = values[i] < low
        lanes[i] += exp64(values[i]) if less else 0.0
        count += less
    return count


@njit(inline="always", **OPTIONS)
def _reached(values: Any, base: Any, bound: Any) -> Any:
    """Bit i says whether values[base + i] >= bound, for WIDE of them."""
    bits = U64(0)
    for at in range(0, WIDE, STEP):
        bits |= at_least(values, base + at, bound) << U64(at)
    return bits


@njit(**OPTIONS)
def split(values: Any, low: Any, high: Any, inside: Any) -> Any:
    """(how many values are < low, the sum of their exponentials, how many are in
    [low, high)).  Those in [low, high) are copied to `inside`,
    and the values beyond the last whole tile with them, wherever they lie."""
    wide_vectors()
    lanes, below, kept = np.zeros(LANES), 0, 0
    whole = values.size - values.size % LANES
    for base in range(0, whole, LANES):
        part = values[base : base + LANES]
        below += _below(part, low, lanes)
        for at in range(0, LANES, WIDE):
            found = _reached(part, at, low) & ~_reached(part, at, high)
            while found != U64(0):
                inside[kept] = part[at + lowest(found)]
                found &= found - U64(1)
                kept += 1
    for i in range(whole, values.size):
        inside[kept] = values[i]
        kept += 1
    return below, fold(lanes), kept


def smallest(values: Float, m: int) -> tuple[float, float]:
    """(the m-th smallest of values, the sum of exp over the m smallest), m >= 1, exactly:
    a bracket from equally spaced probes, one pass, and a selection inside the bracket."""
    n = values.size
    if n > 8 * PROBES:
        low, high = bracket(np.sort(values[:: n // PROBES]), m, n)
        inside = np.empty(n)
        below, bulk, kept = split(values, low, high, inside)
        if below < m <= below + kept:
            order, total = _select(inside[:kept], m - below)
            if low <= order < high:  # else the probes were unlucky: select from all
                return order, bulk + total
    return _select(values, m)


def _select(values: Float, m: int) -> tuple[float, float]:
    chosen = np.partition(values, m - 1)[:m]
    return float(chosen[m - 1]), float(np.exp(chosen).sum())
