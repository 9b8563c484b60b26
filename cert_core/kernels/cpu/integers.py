"""Noise on a lattice (Numba): rows in float64, rounded with margins (see kernels/integers.py)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from cert_core.kernels import NORMAL, TRUNCATED, UNIFORM
from cert_core.kernels.cpu.rows import (
    face_of,
    fill,
    row_bounds,
    sum_absolute,
    sum_lanes,
    sum_squares,
)
from cert_core.kernels.cpu.tiles import F32, F64, U64
from cert_core.kernels.cpu.words import OPTIONS, wide_vectors
from cert_core.lattice import MOST

LIMIT = float(MOST - 2)


@njit(**OPTIONS)
def _round(
    row: Any, factor: Any, inverse: Any, fixed: Any, share: Any, center: Any, out: Any
) -> Any:
    """out = center + floor(factor row + 1/2) in steps; whether a coordinate is nearer to a
    boundary than fixed + share |coordinate|, or is no number."""
    wide_vectors()
    undecided = np.int64(0)
    for j in range(row.size):
        steps = factor * row[j] * inverse
        whole = np.floor(steps + F64(0.5))
        slack = F64(0.5) - abs(steps - whole)
        told = slack > fixed + share * abs(steps) and abs(steps) < F64(LIMIT)
        undecided |= np.int64(0) if told else np.int64(1)
        out[j] = center[j] + (np.int32(whole) if told else np.int32(0))
    return undecided != 0


@njit(**OPTIONS)
def write_rows(integers: Any, numerator: Any, denominator: Any, out: Any) -> None:
    """Lattice.values as float32."""
    for i in range(out.shape[0]):
        _write(integers[i], numerator, denominator, out[i])


@njit(**OPTIONS)
def _write(integers: Any, numerator: Any, denominator: Any, out: Any) -> None:
    wide_vectors()
    for j in range(out.size):
        out[j] = F32(F64(integers[j]) * numerator / denominator)


@njit(**OPTIONS)
def lattice_rows(
    kind: Any, independent: Any, first: Any, stream: Any, key: Any, chunk: Any, unit: Any,
    radius: Any, relative: Any, least: Any, raw: Any, inverse: Any, center: Any, out: Any,
    undecided: Any,
) -> None:  # fmt: skip
    """Samples first, first + 1, ...; raw is the error of a raw coordinate, relative that of each
    radius."""
    n, dim = out.shape
    rows = np.empty((min(chunk, n), dim))
    lanes = sum_lanes(dim)
    for low in range(0, n, chunk):
        count = min(chunk, n - low)
        part, sample = rows[:count], first + U64(low)
        bounds = row_bounds(kind, radius[low : low + count], unit)
        fill(kind, sample, stream, key, 2, bounds, least, part)
        for i in range(count):
            at = low + i
            factor, fixed, share = unit, raw * unit * inverse, F64(2.0**-44)
            if not independent:
                factor, fixed, share = _margin(
                    kind, part[i], lanes, unit, radius[at], relative[at], raw, inverse
                )
            if not independent and kind in (UNIFORM, TRUNCATED):
                j, sign = face_of(sample + U64(i), stream, key, dim)
                part[i, j] = sign * radius[at] / factor
            undecided[at] = _round(part[i], factor, inverse, fixed, share, center, out[at])


@njit(**OPTIONS)
def _margin(
    kind: Any, row: Any, lanes: Any, unit: Any, radius: Any, relative: Any, raw: Any, inverse: Any
) -> Any:
    """Factor of a row, and the margin of its coordinates: a number of steps, and a share."""
    share = 1.05 * relative + 2.0**-44
    if kind == TRUNCATED:
        return unit, (raw * unit + share * radius) * inverse, share
    if kind == UNIFORM:
        return radius, raw * radius * inverse, share
    dim = row.size
    if kind == NORMAL:
        size = math.sqrt(sum_squares(row, lanes))
        moved = math.sqrt(dim) * raw / size
    else:
        size = sum_absolute(row, lanes)
        moved = dim * raw / size
    factor = radius / size
    return factor, raw * factor * inverse, share + 1.05 * moved + dim * 2.0**-52
