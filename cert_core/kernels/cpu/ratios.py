"""Log ratios (Numba): reductions of rows, and direct draws of |z| and |z - delta|."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from cert_core.kernels.cpu.doubles import uniform64
from cert_core.kernels.cpu.rows import (
    fold,
    quantile,
    row_normals,
    row_words,
    sum_absolute,
    sum_squares,
)
from cert_core.kernels.cpu.tiles import F64, U64
from cert_core.kernels.cpu.words import OPTIONS, wide_vectors


@njit(**OPTIONS)
def _largest(row: Any, lanes: Any) -> Any:
    """max |z_i|."""
    lanes[:] = 0.0
    for base in range(0, row.size, lanes.size):
        part = row[base : base + lanes.size]
        for i in range(part.size):
            lanes[i] = max(lanes[i], abs(F64(part[i])))
    return lanes.max()


@njit(**OPTIONS)
def extremes(row: Any, low: Any, high: Any) -> Any:
    """(min z_i, max z_i)."""
    low[:], high[:] = np.inf, -np.inf
    for base in range(0, row.size, low.size):
        part = row[base : base + low.size]
        for i in range(part.size):
            low[i] = min(low[i], F64(part[i]))
            high[i] = max(high[i], F64(part[i]))
    return low.min(), high.max()


@njit(**OPTIONS)
def _sum(row: Any, lanes: Any) -> Any:
    lanes[:] = 0.0
    for base in range(0, row.size, lanes.size):
        part = row[base : base + lanes.size]
        for i in range(part.size):
            lanes[i] += F64(part[i])
    return fold(lanes)


@njit(**OPTIONS)
def _sum_moved_squares(row: Any, r: Any, lanes: Any) -> Any:
    """Sum of (z_i - r)^2."""
    lanes[:] = 0.0
    for base in range(0, row.size, lanes.size):
        part = row[base : base + lanes.size]
        for i in range(part.size):
            lanes[i] += (F64(part[i]) - r) ** 2
    return fold(lanes)


@njit(**OPTIONS)
def _sum_moves(row: Any, r: Any, lanes: Any) -> Any:
    """Sum of |z_i - r| - |z_i|."""
    lanes[:] = 0.0
    for base in range(0, row.size, lanes.size):
        part = row[base : base + lanes.size]
        for i in range(part.size):
            lanes[i] += min(max(r - 2.0 * F64(part[i]), -r), r)
    return fold(lanes)


@njit(**OPTIONS)
def changes(norm: Any, z: Any, r: Any, axis: Any, s: Any, change: Any, along: Any) -> None:
    """reference.norm_change row by row, and z . delta / r."""
    wide_vectors()
    n, dim = z.shape
    lanes, other = np.empty(64), np.empty(64)
    for i in range(n):
        row = z[i]
        first = F64(row[0])
        along[i] = first if axis else _sum(row, lanes)
        if norm == 2:
            if axis:
                rest = sum_squares(row[1:], lanes)
                square, moved = rest + first * first, rest + (first - r) ** 2
            else:
                square, moved = sum_squares(row, lanes), _sum_moved_squares(row, r, lanes)
            s[i] = math.sqrt(square)
            move = r * r * (1 if axis else dim) - 2.0 * r * along[i]
            change[i] = move / (s[i] + math.sqrt(moved))
        elif norm == 1:
            s[i] = sum_absolute(row, lanes)
            change[i] = min(max(r - 2.0 * first, -r), r) if axis else _sum_moves(row, r, lanes)
        elif axis:
            rest = _largest(row[1:], lanes)
            s[i] = max(rest, abs(first))
            moved = r - (first + s[i]) if first < r else first - s[i] - r
            change[i] = max(rest - s[i], moved)
        else:
            low, high = extremes(row, lanes, other)
            s[i] = max(-low, high)
            change[i] = max(high - s[i] - r, r - (low + s[i]))


@njit(**OPTIONS)
def _change(shape: Any, s: Any, r: Any, dim: Any, cosine: Any, u: Any, v: Any, sign: Any) -> Any:
    """|z - delta| - s for one draw; see the functions of the same shapes in reference."""
    if shape == 0:
        x = math.sqrt((r - s) ** 2 + 4.0 * r * s / (math.exp(2.0 * cosine) + 1.0))
        return r * (r - 2.0 * s * math.tanh(cosine)) / (x + s)
    if shape == 1:
        if sign:
            return r
        lost = -math.expm1(math.log(u) / (dim - 1)) if dim > 1 else 1.0
        return max(r - 2.0 * s * lost, -r)
    if u < 0.5 / dim:
        return r
    if u < 1.0 / dim:
        gap = -r if s > r else r - 2.0 * s
        return max(gap, s * math.expm1(math.log(v) / (dim - 1)))
    return max(0.0, r - 2.0 * s * v)


@njit(**OPTIONS)
def closed_changes(
    shape: Any, first: Any, stream: Any, key: Any, cubics: Any, cosines: Any, scale: Any, r: Any,
    dim: Any, s: Any, change: Any,
) -> None:  # fmt: skip
    """|z| and |z - delta| - |z| drawn directly."""
    u, v, sign = 0.5, 0.5, False
    for i in range(s.size):
        sample = first + U64(i)
        normal, cosine = row_normals(sample, stream, key)
        s[i] = scale * math.exp(quantile(cubics, normal))
        if shape == 0:
            cosine = quantile(cosines, cosine)
        else:
            a, b, c, d = row_words(sample, U64(1), stream, key)
            u, v, sign = uniform64(a, b), uniform64(c, d), (d & U64(1)) == U64(1)
        change[i] = _change(shape, s[i], r, dim, cosine, u, v, sign)


@njit(**OPTIONS)
def direct_radii(first: Any, stream: Any, key: Any, cubics: Any, scale: Any, s: Any) -> None:
    """|z| drawn directly."""
    for i in range(s.size):
        normal, _ = row_normals(first + U64(i), stream, key)
        s[i] = scale * math.exp(quantile(cubics, normal))
