"""What a GPU is told: the CUDA text, its variants, grids and arguments (needs no GPU).

Each file cuda/*.cu holds one kernel, `entry`, of which the macros choose a variant; its text
is that of the file with the headers it includes.  A Launch holds all but the arrays, whose
pointers follow the arguments.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from cert_core.densities import MixedRecord
from cert_core.kernels import BLOCKS, EXPONENTIAL, KINDS, NORMAL, SHAPES, TRUNCATED
from cert_core.kernels.integers import Margins
from cert_core.noises import Noise
from cert_core.quantiles import INTERVALS, REACH, cosine_quantiles
from cert_core.threats import Shift

THREADS = BLOCKS  # of a CUDA block
REALS = {"float32": "float", "float64": "double"}
SLOTS = {"float32": 4, "float64": 2}
BESIDE = {"float32": 4, "float64": 1}  # neighbouring blocks that a thread makes
ALIGNED = 16  # bytes that a thread writes at once
HELD = {"float32": 4, "float64": 8}  # tiles of a row that wait in registers, at most
SPREAD = 2048  # CUDA blocks that fill a large GPU several times
MOST_BLOCKS = 2**31 - 1

Macros = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel, short of its arrays.

    Attributes
    ----------
    file : str
        Its text.
    macros : the variant
    grid : int
        CUDA blocks, of THREADS threads.
    arguments : NumPy scalars, and LogQuantiles in place of pointers to their cubics
    """

    file: str
    macros: Macros
    grid: int
    arguments: tuple[Any, ...]


@cache
def source(name: str) -> str:
    """The text of a file of kernels, the headers that it includes in their places."""
    places = files("cert_core.kernels") / "cuda", files("cert_core.native")
    seen: set[str] = set()

    def text_of(file: str) -> str:
        if file in seen:
            return ""
        seen.add(file)
        (path,) = [place / file for place in places if (place / file).is_file()]
        text = path.read_text(encoding="utf-8")
        return re.sub(r'^#include "(.+)"$', lambda m: text_of(m[1]), text, flags=re.MULTILINE)

    return text_of(name)


def options(macros: Macros) -> tuple[str, ...]:
    """What NVRTC is told, the architecture apart; no fast-math."""
    return ("-std=c++17", "-DCC_ENTRY", *(f"-DCC_{name}={value}" for name, value in macros))


def layout(n: int, dim: int, dtype: str) -> tuple[int, int, int]:
    """(threads a row, rows a CUDA block, tiles a row)."""
    slots = SLOTS[dtype]
    span = THREADS * slots
    width = 1 << (-(-min(dim, span) // (slots * BESIDE[dtype])) - 1).bit_length()
    side = THREADS // width
    # Rows one after the other share the time that their radii take, if there are many.
    turns = max(1, min(8, width, n // (side * SPREAD)))
    return width, side * turns, -(-dim // span)


def grid_of(n: int, rows: int) -> int:
    """CUDA blocks for n rows, of so many each."""
    return max(1, min(-(-n // rows), MOST_BLOCKS))


def direction(noise: Noise) -> tuple[int, float | None]:
    """(kind of the raw coordinates, their scale where they are independent)."""
    if noise.radial is None:
        return TRUNCATED, None
    return KINDS[noise.radial.norm], noise.radial.coordinate_scale


def _rows(
    noise: Noise, n: int, start: int, key: int, stream: int, dtype: str
) -> tuple[Macros, int, tuple[Any, ...]]:
    """Variant, grid and arguments that every launch over drawn rows begins with."""
    kind, scale = direction(noise)
    width, rows, tiles = layout(n, noise.dim, dtype)
    summed = scale is None and kind in (NORMAL, EXPONENTIAL)
    held = tiles if summed and tiles <= HELD[dtype] else 0
    macros = ("KIND", kind), ("INDEPENDENT", int(scale is not None)), ("HELD", held)
    unit = noise.scale_unit if scale is None else scale
    arguments = (
        np.int64(n), np.int64(noise.dim), np.uint64(start), np.uint64(key), np.uint32(stream),
        noise.log_radius(), np.int32(INTERVALS), np.float64(REACH), np.float64(unit),
        np.int32(width), np.int32(rows),
    )  # fmt: skip
    return macros, grid_of(n, rows), arguments


def draw(
    noise: Noise, n: int, start: int, key: int, stream: int, dtype: str, *, aligned: bool = True
) -> Launch:
    """Rows of noise; then follow center (or 0) and out, both at multiples of ALIGNED bytes if
    they are said to be `aligned`."""
    macros, grid, arguments = _rows(noise, n, start, key, stream, dtype)
    slots = SLOTS[dtype]
    whole = aligned and noise.dim % (slots * BESIDE[dtype]) == 0
    ends = ("FULL" if noise.dim % (slots * THREADS) == 0 else "WHOLE") if whole else "ANY"
    macros = ("REAL", REALS[dtype]), *macros, ("ENDS", ends)
    return Launch("draw.cu", macros, grid, arguments)


def lattice(noise: Noise, n: int, start: int, key: int, stream: int, margins: Margins) -> Launch:
    """Rows of integers; then follow radii, their errors, center (or 0), out and undecided."""
    kind, scale = direction(noise)
    width, _, _ = layout(n, noise.dim, "float64")
    macros = ("KIND", kind), ("INDEPENDENT", int(scale is not None))
    arguments = (
        np.int64(n), np.int64(noise.dim), np.uint64(start), np.uint64(key), np.uint32(stream),
        np.float64(noise.scale_unit if scale is None else scale), np.int32(width),
        np.uint32(margins.least), np.float64(margins.raw), np.float64(margins.inverse),
    )  # fmt: skip
    return Launch("lattice.cu", macros, grid_of(n, THREADS // width), arguments)


def _density(noise: Noise) -> tuple[Any, ...]:
    """(k, power, scale, whether it is of the mixed family)."""
    record = noise.radial
    if record is not None:
        return np.float64(record.k), np.float64(record.power), np.float64(record.scale), np.int32(0)
    mixed = noise.record
    k = mixed.k if isinstance(mixed, MixedRecord) else 0.0
    return np.float64(k), np.float64(2.0), np.float64(noise.scale_unit), np.int32(1)


def _shift(noise: Noise, shift: Shift) -> tuple[Any, Any]:
    return np.float64(shift.size), np.float64(shift.norm(2.0, noise.dim) ** 2)


def open_ratios(noise: Noise, shift: Shift, n: int, start: int, key: int, stream: int) -> Launch:
    """Log ratios of rows drawn in passing; then follows out."""
    macros, grid, arguments = _rows(noise, n, start, key, stream, "float64")
    macros = (*macros, ("AXIS", int(shift.kind == "axis")))
    return Launch("open.cu", macros, grid, (*arguments, *_density(noise), *_shift(noise, shift)))


def closed_ratios(
    noise: Noise, shift: Shift, shape: str, n: int, start: int, key: int, stream: int
) -> Launch:
    """Log ratios drawn without a row; then follows out."""
    k, power, scale, _ = _density(noise)
    sphere = shape == "sphere"
    radius, unit = noise.log_radius(), noise.scale_unit
    arguments = (
        np.int64(n), np.uint64(start), np.uint64(key), np.uint32(stream),
        radius, cosine_quantiles(noise.dim) if sphere else radius,
        np.int32(INTERVALS), np.float64(REACH), np.float64(unit),
        np.float64(math.log(unit / scale)),
        np.float64(shift.norm(2.0, noise.dim) if sphere else shift.size), np.float64(noise.dim),
        np.int32(SHAPES[shape]), k, power, scale,
    )  # fmt: skip
    return Launch("closed.cu", (), min(grid_of(n, THREADS), 16 * SPREAD), arguments)


def radii(noise: Noise, n: int, start: int, key: int, stream: int) -> Launch:
    """Norms drawn without a row; then follows out."""
    arguments = (
        np.int64(n), np.uint64(start), np.uint64(key), np.uint32(stream), noise.log_radius(),
        np.int32(INTERVALS), np.float64(REACH), np.float64(noise.scale_unit),
    )  # fmt: skip
    return Launch("radii.cu", (), min(grid_of(n, THREADS), 16 * SPREAD), arguments)


def given_ratios(noise: Noise, shift: Shift, n: int, dtype: str) -> Launch:
    """Log ratios of rows; then follow these and out."""
    norm = noise.radial.norm if noise.radial is not None else math.inf
    width = min(THREADS, 1 << (noise.dim - 1).bit_length())
    macros = (
        ("REAL", REALS[dtype]), ("NORM", 0 if norm == math.inf else int(norm)),
        ("AXIS", int(shift.kind == "axis")),
    )  # fmt: skip
    arguments = (
        np.int64(n), np.int64(noise.dim), np.int32(width), *_density(noise),
        *_shift(noise, shift),
    )  # fmt: skip
    return Launch("given.cu", macros, grid_of(n, THREADS // width), arguments)


def split_values(n: int, low: float, high: float, room: int) -> Launch:
    """A selection's pass; then follow values, inside, kept, counts and sums."""
    arguments = np.int64(n), np.float64(low), np.float64(high), np.int64(room)
    return Launch("split.cu", (), min(grid_of(n, THREADS), SPREAD), arguments)
