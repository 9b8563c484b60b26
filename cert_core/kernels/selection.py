"""The m-th smallest of many values and the sum below it, without a sort (Numba)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from cert_core.errors import Float
from cert_core.kernels.ratios import extremes
from cert_core.kernels.rows import fold
from cert_core.kernels.tiles import (
    OPTIONS,
    exp64,
    wide_vectors,
)


@njit(**OPTIONS)
def _ends(values: Any) -> Any:
    low, high = np.full(64, np.inf), np.full(64, -np.inf)
    return extremes(values, low, high)


@njit(**OPTIONS)
def _count_bins(values: Any, low: Any, scale: Any, counts: Any) -> None:
    for i in range(values.size):
        counts[min(int((values[i] - low) * scale), counts.size - 1)] += 1


@njit(**OPTIONS)
def _sum_below(values: Any, low: Any, scale: Any, bins: Any, chosen: Any, inside: Any) -> Any:
    """Sum of exp over the values in bins before the chosen one; that bin's values."""
    wide_vectors()
    lanes, whole = np.zeros(256), 0
    for base in range(0, values.size, 256):
        part = values[base : base + 256]
        for i in range(part.size):
            place = min(int((part[i] - low) * scale), bins - 1)
            lanes[i] += exp64(part[i]) if place < chosen else 0.0
        for i in range(part.size):
            if min(int((part[i] - low) * scale), bins - 1) == chosen:
                inside[whole] = part[i]
                whole += 1
    return fold(lanes)


BINS = 4096


def smallest(values: Float, m: int) -> tuple[float, float]:
    """(the m-th smallest of values, the sum of exp over the m smallest), m >= 1, exactly:
    bins are counted, and only the one that holds the m-th value is sorted."""
    total = 0.0
    while values.size > BINS:
        low, high = _ends(values)
        scale = (BINS / (high - low)) if high > low else 0.0
        if not 0.0 < scale < math.inf:
            break
        counts = np.zeros(BINS, np.int64)
        _count_bins(values, low, scale, counts)
        before = np.cumsum(counts) - counts
        chosen = int(np.searchsorted(before, m, side="left")) - 1
        inside = np.empty(counts[chosen])
        total += _sum_below(values, low, scale, BINS, chosen, inside)
        m -= int(before[chosen])
        if inside.size == values.size:
            break
        values = inside
    ordered = np.sort(values)
    return float(ordered[m - 1]), total + float(np.exp(ordered[:m]).sum())
