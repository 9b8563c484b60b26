"""Arrays of the backends that work on the host, and what they share beside formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cert_core.densities import MixedRecord, normal_log_ratio, radial_log_ratio
from cert_core.errors import Float, fail, to_numpy
from cert_core.lattice import Integers
from cert_core.noises import Noise, level_record
from cert_core.threats import Shift


def given(name: str, value: Any, dtype: str | None = None) -> np.ndarray[Any, np.dtype[Any]]:
    """See kernels.Backend."""
    return np.ascontiguousarray(to_numpy(name, value, None if dtype is None else np.dtype(dtype)))


def add(out: Any, center: Any) -> None:
    """See kernels.Backend."""
    np.add(out, center, out=out, casting="same_kind")


def output(
    out: Any, shape: tuple[int, int], dtype: str
) -> np.ndarray[Any, np.dtype[np.floating[Any]]]:
    """out, where it is an array that draw can fill, or a new one."""
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != dtype:
        have = getattr(out, "shape", None), str(getattr(out, "dtype", type(out).__name__))
        raise ValueError(f"out must be an array of shape {shape} and {dtype}, got {have}: match it")
    if not (out.flags.c_contiguous and out.flags.writeable):
        rule, remedy = "contiguous and writeable", "pass a plain array, and copy from it"
        raise fail("out", rule, "a strided or read-only view", remedy)
    return out


def norms_of_rows(
    noise: Noise, n: int, draw: Callable[..., Any], seed: int, start: int, stream: int, bytes_: int
) -> Float:
    """Norms of rows drawn in single precision, a part after the other."""
    record, out = level_record(noise), np.empty(n)
    rows = max(1, bytes_ // (4 * noise.dim))
    for low in range(0, n, rows):
        size = min(rows, n - low)
        z = draw(noise, size, seed, start=start + low, dtype="float32", stream=stream)
        z = z.astype(np.float64) / (1.0 if noise.stretch is None else noise.stretch)
        out[low : low + size] = np.linalg.norm(z, ord=record.norm, axis=1)
    return out


def whole_output(out: Any, shape: tuple[int, int]) -> Integers:
    """out, where it is an array that draw_lattice can fill, or a new one."""
    if out is None:
        return np.empty(shape, np.int32)
    good = isinstance(out, np.ndarray) and out.shape == shape and out.dtype == np.int32
    if not good or not (out.flags.c_contiguous and out.flags.writeable):
        have = getattr(out, "shape", None), str(getattr(out, "dtype", type(out).__name__))
        rule = f"a plain, writeable array of shape {shape} and int32"
        raise fail("out", rule, have, "match it")
    written: Integers = out
    return written


def by_sorting(values: Float, m: Any) -> tuple[Float, Float]:
    """(the m-th smallest, the sum of exp over the m smallest) for each m."""
    ordered = np.sort(values)
    return ordered[m - 1], np.cumsum(np.exp(ordered))[m - 1]


def log_ratio_of_changes(
    noise: Noise, shift: Shift, s: Float, change: Float, along: Float
) -> Float:
    """The log ratio from s = |z|, |z - delta| - s, and z . delta / size."""
    if shift.size == 0:
        return np.zeros(s.shape)
    if noise.radial is not None:
        return radial_log_ratio(noise.radial, s, change)
    k = noise.record.k if isinstance(noise.record, MixedRecord) else 0.0  # else a Gaussian
    moved = shift.size * along - 0.5 * shift.norm(2.0, noise.dim) ** 2
    return normal_log_ratio(k, noise.scale_unit, s, change, moved)
