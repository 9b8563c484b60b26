"""Copies of an input from 64-bit words (Numba): the recipes of copies.py, a row at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from cert_core.kernels.cpu.rows import fill_words
from cert_core.kernels.cpu.tiles import F64, U64
from cert_core.kernels.cpu.words import OPTIONS, wide_vectors


@njit(**OPTIONS)
def table_rows(
    first: Any, stream: Any, key: Any, chunk: Any, codes: Any, last: Any, share: Any, values: Any,
    out: Any,
) -> None:  # fmt: skip
    """See copies.Table; last and share are those of each coordinate."""
    n, dim = out.shape
    words = np.empty((min(chunk, n), dim), np.uint64)
    for low in range(0, n, chunk):
        rows = min(chunk, n - low)
        fill_words(first + U64(low), stream, key, words[:rows])
        for i in range(rows):
            _table_row(words[i], codes, last, share, values, out[low + i])


@njit(**OPTIONS)
def _table_row(words: Any, codes: Any, last: Any, share: Any, values: Any, out: Any) -> None:
    wide_vectors()
    most = F64(values.size - 2)
    for j in range(out.size):
        code = codes[j]
        if words[j] > last[j]:
            other = np.int64(min(F64(words[j] - last[j] - U64(1)) * share[j], most))
            code = other + (1 if other >= code else 0)
        out[j] = values[code]


@njit(inline="always", **OPTIONS)
def product_high(word: Any, m: Any) -> Any:
    """word m / 2^64 rounded down, m < 2^32."""
    low = (word & U64(0xFFFFFFFF)) * m >> U64(32)
    return (word >> U64(32)) * m + low >> U64(32)


@njit(**OPTIONS)
def subset_rows(
    first: Any, stream: Any, key: Any, chunk: Any, row: Any, keep: Any, null: Any, out: Any
) -> None:
    """See copies.Subset."""
    n, dim = out.shape
    words = np.empty((min(chunk, n), dim), np.uint64)
    for low in range(0, n, chunk):
        rows = min(chunk, n - low)
        fill_words(first + U64(low), stream, key, words[:rows])
        for i in range(rows):
            left = U64(keep)
            for j in range(dim):
                seen = product_high(words[i, j], U64(dim - j)) < left
                out[low + i, j] = row[j] if seen else null
                if seen:
                    left -= U64(1)


@njit(**OPTIONS)
def cell_rows(
    first: Any, stream: Any, key: Any, chunk: Any, codes: Any, width: Any, levels: Any, out: Any
) -> None:
    """See copies.Cells.rows."""
    n, dim = out.shape
    words, splits = np.empty((min(chunk, n), dim), np.uint64), np.empty(dim)
    unit = width * F64(2.0**-53)
    for low in range(0, n, chunk):
        rows = min(chunk, n - low)
        fill_words(first + U64(low), stream, key, words[:rows])
        for i in range(rows):
            for j in range(dim):
                splits[j] = F64(words[i, j] >> U64(11)) * unit
            _cells(splits, codes, width, levels, out[low + i])


@njit(**OPTIONS)
def moved_cell_rows(
    begin: Any, offsets: Any, codes: Any, width: Any, levels: Any, out: Any
) -> None:
    """See copies.Cells.moved, from step begin on."""
    n, dim = out.shape
    splits = np.empty(dim)
    for i in range(n):
        step = (begin + i) % width
        for j in range(dim):
            place = offsets[j] + step
            splits[j] = F64(place - width if place >= width else place) + 0.5
        _cells(splits, codes, F64(width), levels, out[i])


@njit(**OPTIONS)
def _cells(splits: Any, codes: Any, width: Any, levels: Any, out: Any) -> None:
    wide_vectors()
    half = F64(0.5) / levels
    for j in range(out.size):
        low = splits[j] + width * np.floor((codes[j] - splits[j]) / width)
        out[j] = (max(low, F64(0)) + min(low + width, F64(levels))) * half
