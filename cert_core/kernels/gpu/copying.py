"""What a GPU is told of noises without a density (needs no GPU): launches, and their arrays.

The recipes are those of copies.py, made on the host; their arrays follow a launch's
arguments, and then comes the output.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cert_core.channels import Splitting, Uniform
from cert_core.copies import Recipe, Subset, Table, split_steps
from cert_core.kernels.gpu.launches import REALS, THREADS, Launch, Macros, grid_of, layout
from cert_core.kernels.reference import row_uniforms, split_offsets
from cert_core.noises import Noise

Arrays = tuple[Any, ...]


def _launch(
    file: str, macros: Macros, dim: int, n: int, dtype: str, first: Arrays, rest: Arrays = ()
) -> Launch:
    """One thread a block of words, as many rows side by side as a CUDA block holds."""
    width, _, _ = layout(n, dim, dtype)
    arguments = (np.int64(n), np.int64(dim), *first, np.int32(width), *rest)
    return Launch(file, macros, grid_of(n, THREADS // width), arguments)


def cube(noise: Uniform, n: int, start: int, key: int, stream: int, dtype: str) -> Launch:
    """Rows of uniform noise; then follow center (or 0) and out."""
    first = np.uint64(start), np.uint64(key), np.uint32(stream), np.float64(noise.scale)
    return _launch("cube.cu", (("REAL", REALS[dtype]),), noise.dim, n, dtype, first)


def copies(
    noise: Noise, copied: Recipe, n: int, start: int, key: int, stream: int, dtype: str
) -> tuple[Launch, Arrays]:
    """Copies of an input; then follow the arrays, and out."""
    real: Macros = (("REAL", REALS[dtype]),)
    first = np.uint64(start), np.uint64(key), np.uint32(stream)
    rest: Arrays
    if isinstance(copied, Table):
        file, rest = "table.cu", (np.int32(len(copied.values)),)
        arrays: Arrays = (copied.codes.astype(np.int32), copied.last, copied.share, copied.values)
    elif isinstance(copied, Subset):
        file, rest, arrays = "subset.cu", (np.uint32(copied.keep), copied.null), (copied.row,)
    else:
        file, (begin, offsets) = "cells.cu", _moves(noise, key, start, stream)
        real = (*real, ("MOVED", int(len(offsets) > 0)))
        rest = np.float64(copied.width), np.float64(copied.levels), np.int64(begin)
        arrays = copied.codes.astype(np.int32), offsets
    return _launch(file, real, noise.dim, n, "float64", first, rest), arrays


def _moves(noise: Noise, key: int, start: int, stream: int) -> tuple[int, Any]:
    """How far along the first copy's splits stand, and the offsets; none where all is random."""
    if isinstance(noise, Splitting) and noise.copies is not None:
        first, _, _ = row_uniforms(1, key, 0, stream)
        (begin,) = split_steps(float(first[0]), start, 1, noise.copies)
        return int(begin), split_offsets(noise.dim, noise.copies)
    return 0, np.zeros(0, np.int64)
