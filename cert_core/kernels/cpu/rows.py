"""Rows of noise (Numba): coordinates by tiles, then radius, direction and center in place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from cert_core.kernels import EXPONENTIAL, NORMAL, TRUNCATED, UNIFORM
from cert_core.kernels.cpu.doubles import (
    exp64,
    exponentials64,
    minus_log64,
    normals64,
    pairs64,
    truncated64,
    turn64,
    uniform64,
    uniforms64,
    without_tails64,
)
from cert_core.kernels.cpu.tiles import (
    F64,
    LANES,
    U64,
    exponentials32,
    normals32,
    truncated32,
    uniforms32,
)
from cert_core.kernels.cpu.words import OPTIONS, STEP, copy, philox, spread, wide_vectors, words
from cert_core.quantiles import REACH


@njit(inline="always", **OPTIONS)
def row_words(sample: Any, block: Any, stream: Any, key: Any) -> Any:
    mask, shift = U64(0xFFFFFFFF), U64(32)
    return philox(sample & mask, sample >> shift, block, stream + U64(1), key)


@njit(inline="always", **OPTIONS)
def row_normals(sample: Any, stream: Any, key: Any) -> Any:
    a, b, c, d = row_words(sample, U64(0), stream, key)
    radius = math.sqrt(2.0 * minus_log64(uniform64(a, b)))
    x, y = turn64(c, d)
    return radius * x, radius * y


@njit(**OPTIONS)
def row_uniform(stream: Any, key: Any) -> Any:
    """The first uniform of the row quantities of sample 0."""
    a, b, _, _ = row_words(U64(0), U64(1), stream, key)
    return uniform64(a, b)


@njit(inline="always", **OPTIONS)
def quantile(cubics: Any, normal: Any) -> Any:
    """A LogQuantiles table at one normal score."""
    n = cubics.shape[0]
    place = (min(max(normal, -REACH), REACH) + REACH) * (n / (2.0 * REACH))
    i = min(int(place), n - 1)
    x = place - i
    return ((cubics[i, 0] * x + cubics[i, 1]) * x + cubics[i, 2]) * x + cubics[i, 3]


@njit(**OPTIONS)
def _radii(first: Any, stream: Any, key: Any, cubics: Any, scale: Any, out: Any) -> None:
    """The radii of samples first, first + 1, ..."""
    wide_vectors()
    lane_row, none = np.arange(LANES).astype(np.uint64), np.zeros(LANES, np.uint64)
    w = np.empty((4, LANES), np.uint32)
    normals = np.empty(2 * LANES)
    for low in range(0, out.size, LANES):
        words(lane_row, none, first + U64(low), U64(0), stream + U64(1), key, w)
        normals64(w, U64(0), U64(LANES), normals)
        for i in range(min(LANES, out.size - low)):
            out[low + i] = scale * exp64(quantile(cubics, normals[i]))


@njit(**OPTIONS)
def _pattern(m: Any) -> Any:
    """(rows in a tile, lane -> row, lane -> block) for m blocks a row."""
    rows = max(1, LANES // m)
    lanes = min(LANES, -(-rows * m // STEP) * STEP)
    lane_row, lane_block = np.zeros(LANES, np.uint64), np.zeros(LANES, np.uint64)
    for i in range(rows * m):
        lane_row[i], lane_block[i] = U64(i // m), U64(i % m)
    return rows, lane_row[:lanes], lane_block[:lanes]


def _transform(kind: Any, w: Any, bounds: Any, at: Any, m: Any, out: Any, least: Any) -> None:
    """The words of a tile of m blocks to values out[at:], by the type of out (compiled by
    the overload below); doubles from uniforms below `least` become NaN where that is not 0."""
    raise NotImplementedError


@overload(_transform)
def _typed_transform(kind: Any, w: Any, bounds: Any, at: Any, m: Any, out: Any, least: Any) -> Any:
    def single(kind: Any, w: Any, bounds: Any, at: Any, m: Any, out: Any, least: Any) -> None:
        if kind == NORMAL:
            normals32(w, at, m, out)
        elif kind == EXPONENTIAL:
            exponentials32(w, at, m, out)
        elif kind == UNIFORM:
            uniforms32(w, at, m, out)
        else:
            truncated32(w, bounds, at, m, out)

    def double(kind: Any, w: Any, bounds: Any, at: Any, m: Any, out: Any, least: Any) -> None:
        if kind == NORMAL:
            normals64(w, at, m, out)
        elif kind == EXPONENTIAL:
            exponentials64(w, at, m, out)
        elif kind == UNIFORM:
            uniforms64(w, at, m, out)
        else:
            truncated64(w, bounds, at, m, out)
        if least > 0:
            without_tails64(kind == NORMAL, w, at, m, out, least)

    def whole(kind: Any, w: Any, bounds: Any, at: Any, m: Any, out: Any, least: Any) -> None:
        pairs64(w, at, m, out)

    if out.dtype == types.uint64:
        return whole
    return single if out.dtype == types.float32 else double


@njit(**OPTIONS)
def fill(
    kind: Any, first: Any, stream: Any, key: Any, slots: Any, bounds: Any, least: Any, out: Any
) -> None:
    """Raw coordinates of the rows first, first + 1, ... in the contract's layout; bounds
    holds erf, erfc and rho of each row (truncated normals only); least as in _transform."""
    n, dim = out.shape
    flat = out.reshape(n * dim)
    w = np.empty((4, LANES), np.uint32)
    lanes = np.empty((3, LANES), out.dtype)
    span = LANES * slots
    whole = dim - dim % span
    _, lane_row, lane_block = _pattern(LANES)
    for row in range(n if whole > 0 else 0):
        if kind == TRUNCATED:
            for i in range(LANES):
                lanes[0, i], lanes[1, i] = bounds[0, row], bounds[1, row]
                lanes[2, i] = bounds[2, row]
        for base in range(0, whole, span):
            words(lane_row, lane_block, first + U64(row), U64(base // slots), stream, key, w)
            _transform(kind, w, lanes, U64(row * dim + base), U64(LANES), flat, least)
    if whole < dim:
        _fill_ends(kind, first, stream, key, slots, bounds, least, whole, w, lanes, out)


@njit(**OPTIONS)
def fill_words(first: Any, stream: Any, key: Any, out: Any) -> None:
    """Raw words of 64 bits in the layout of float64."""
    fill(UNIFORM, first, stream, key, 2, np.empty((3, 0)), 0, out)


@njit(**OPTIONS)
def _fill_ends(
    kind: Any, first: Any, stream: Any, key: Any, slots: Any, bounds: Any, least: Any, whole: Any,
    w: Any, lanes: Any, out: Any,
) -> None:  # fmt: skip
    """The coordinates beyond a row's whole tiles: several rows share one if they are few."""
    wide_vectors()
    n, dim = out.shape
    m = -(-(dim - whole) // slots)
    rows, lane_row, lane_block = _pattern(m)
    if rows == 1 and m * slots == dim - whole:
        flat, w = out.reshape(n * dim), np.empty((4, lane_row.size), np.uint32)
        for row in range(n):
            if kind == TRUNCATED:
                for i in range(m):
                    lanes[0, i], lanes[1, i] = bounds[0, row], bounds[1, row]
                    lanes[2, i] = bounds[2, row]
            words(lane_row, lane_block, first + U64(row), U64(whole // slots), stream, key, w)
            _transform(kind, w, lanes, U64(row * dim + whole), U64(m), flat, least)
        return
    count = lane_row.size
    tile, flat, lines = np.empty(slots * count, out.dtype), out.reshape(n * dim), lanes.reshape(-1)
    for row in range(0, n, rows):
        if kind == TRUNCATED:
            for r in range(rows):
                source = min(row + r, n - 1)
                for k in range(3):
                    spread(out.dtype.type(bounds[k, source]), lines, k * LANES + r * m, m)
        words(lane_row, lane_block, first + U64(row), U64(whole // slots), stream, key, w)
        _transform(kind, w, lanes, U64(0), U64(count), tile, least)
        for r in range(min(rows, n - row)):
            at = (row + r) * dim + whole
            for slot in range(slots):
                size = min(m, dim - whole - slot * m)
                copy(tile, slot * count + r * m, flat, at + slot * m, size)


@njit(inline="always", **OPTIONS)
def fold(lanes: Any) -> Any:
    """The sum of the lanes, by halves: an order that no vector width changes."""
    half = lanes.size
    while half > 1:
        half //= 2
        for i in range(half):
            lanes[i] += lanes[half + i]
    return lanes[0]


@njit(**OPTIONS)
def _add_squares(part: Any, lanes: Any) -> None:
    wide_vectors()
    for i in range(part.size):
        lanes[i] += F64(part[i]) * F64(part[i])


@njit(**OPTIONS)
def _add_absolute(part: Any, lanes: Any) -> None:
    wide_vectors()
    for i in range(part.size):
        lanes[i] += abs(F64(part[i]))


@njit(**OPTIONS)
def sum_lanes(dim: Any) -> Any:
    """Room for the sums of rows of dim values."""
    return np.empty(LANES if dim >= LANES else 64 if dim >= 64 else 16)


@njit(**OPTIONS)
def sum_squares(row: Any, lanes: Any) -> Any:
    """Sum of squares in float64, in fixed lanes."""
    lanes[:] = 0.0
    for base in range(0, row.size, lanes.size):
        _add_squares(row[base : base + lanes.size], lanes)
    return fold(lanes)


@njit(**OPTIONS)
def sum_absolute(row: Any, lanes: Any) -> Any:
    """Sum of absolute values, likewise."""
    lanes[:] = 0.0
    for base in range(0, row.size, lanes.size):
        _add_absolute(row[base : base + lanes.size], lanes)
    return fold(lanes)


@njit(**OPTIONS)
def _move(rows: Any, factors: Any, center: Any) -> None:
    """rows = center + factor rows, rounded once a product and once a sum: all of a chunk in one
    loop, since a call a row takes nine times as long for 64 values."""
    wide_vectors()
    for i in range(rows.shape[0]):
        factor = rows.dtype.type(factors[i])
        if center.size == 0:
            for j in range(rows.shape[1]):
                rows[i, j] = factor * rows[i, j]
        else:
            for j in range(rows.shape[1]):
                rows[i, j] = center[j] + factor * rows[i, j]


@njit(**OPTIONS)
def face_of(sample: Any, stream: Any, key: Any, dim: Any) -> Any:
    """(coordinate, sign) of the largest coordinate of a row."""
    a, b, _, d = row_words(sample, U64(1), stream, key)
    return min(int(uniform64(a, b) * dim), dim - 1), (-1.0 if d & U64(1) else 1.0)


@njit(**OPTIONS)
def _turn_from_zero(kind: Any, sample: Any, stream: Any, key: Any, slots: Any, row: Any) -> None:
    """Give a row of zeros, whose uniforms all round to 1, the direction of its first block:
    that of the same words, but for the size in the first of them."""
    none, w = np.zeros(STEP, np.uint64), np.empty((4, STEP), np.uint32)
    lanes, tile = np.zeros((3, STEP), row.dtype), np.empty(slots * STEP, row.dtype)
    words(none, none, sample, U64(0), stream, key, w)
    w[0] &= np.uint32(1)
    _transform(kind, w, lanes, U64(0), U64(STEP), tile, 0)
    m = min(LANES, -(-row.size // slots))
    for slot in range(slots):
        if slot * m < row.size:
            row[slot * m] = tile[slot * STEP]


@njit(**OPTIONS)
def _turn_zeros(
    kind: Any, first: Any, stream: Any, key: Any, slots: Any, radius: Any, center: Any, lanes: Any,
    out: Any,
) -> None:  # fmt: skip
    """Draw the rows again that were zeros, and are NaN now."""
    for i in range(out.shape[0]):
        row = out[i]
        if not math.isnan(row[0]):
            continue
        row[:] = 0.0
        _turn_from_zero(kind, first + U64(i), stream, key, slots, row)
        square = sum_squares(row, lanes)
        size = math.sqrt(square) if kind == NORMAL else sum_absolute(row, lanes)
        _move(out[i : i + 1], radius[i : i + 1] / size, center)


@njit(**OPTIONS)
def row_bounds(kind: Any, radius: Any, unit: Any) -> Any:
    """erf, erfc and rho of each row; nothing where the kind needs none."""
    n = radius.size
    bounds = np.empty((3, n if kind == TRUNCATED else 0))
    if kind == TRUNCATED:
        for i in range(n):
            rho = radius[i] / unit
            bounds[0, i], bounds[1, i] = (
                math.erf(rho * 0.7071067811865476),
                math.erfc(rho * 0.7071067811865476),
            )
            bounds[2, i] = rho
    return bounds


@njit(**OPTIONS)
def _rows(
    kind: Any, first: Any, stream: Any, key: Any, slots: Any, cubics: Any, unit: Any,
    center: Any, out: Any,
) -> None:  # fmt: skip
    """Samples first, first + 1, ... of a noise; unit is its scale (sigma for truncated)."""
    wide_vectors()
    n, dim = out.shape
    lanes = sum_lanes(dim)
    radius = np.empty(n)
    _radii(first, stream, key, cubics, unit, radius)
    bounds = row_bounds(kind, radius, unit)
    fill(kind, first, stream, key, slots, bounds, 0, out)
    least, factors = np.inf, radius.copy()
    for i in range(n):
        if kind == NORMAL:
            size = math.sqrt(sum_squares(out[i], lanes))
        elif kind == EXPONENTIAL:
            size = sum_absolute(out[i], lanes)
        else:
            factors[i] = radius[i] if kind == UNIFORM else unit
            continue
        factors[i], least = radius[i] / size, min(least, size)
    _move(out, factors, center)
    for i in range(n if kind in (UNIFORM, TRUNCATED) else 0):
        j, sign = face_of(first + U64(i), stream, key, dim)
        out[i, j] = out.dtype.type(sign * radius[i])
        if center.size > 0:
            out[i, j] += center[j]
    if least == 0.0:
        _turn_zeros(kind, first, stream, key, slots, radius, center, lanes, out)


@njit(**OPTIONS)
def _independent_rows(
    kind: Any, first: Any, stream: Any, key: Any, slots: Any, unit: Any, center: Any, out: Any
) -> None:
    """Samples whose coordinates are independent, of this scale."""
    wide_vectors()
    fill(kind, first, stream, key, slots, np.empty((3, 0)), 0, out)
    _move(out, np.full(out.shape[0], unit), center)


@njit(**OPTIONS)
def draw_rows(
    kind: Any, independent: Any, first: Any, stream: Any, key: Any, slots: Any, chunk: Any,
    cubics: Any, unit: Any, center: Any, out: Any,
) -> None:  # fmt: skip
    """Samples first, first + 1, ..., a chunk at a time."""
    for low in range(0, out.shape[0], chunk):
        part, sample = out[low : low + chunk], first + U64(low)
        if independent:
            _independent_rows(kind, sample, stream, key, slots, unit, center, part)
        else:
            _rows(kind, sample, stream, key, slots, cubics, unit, center, part)
