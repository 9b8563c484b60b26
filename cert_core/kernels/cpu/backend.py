"""The kernels on the CPU: Numba, tiled (see tiles.py), on a thread pool.

Rows are cut into chunks that stay in the cache: a chunk's coordinates are filled tile by
tile, then each row is reduced, scaled and moved to its center in place.  Rows of fewer
blocks than half a tile, and such ends of longer ones, share tiles.  Threads take
whole chunks (nogil, no OpenMP: a parallel loop is 4-14 times slower when a core is busy).
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from cert_core.channels import Channel, Splitting, Uniform
from cert_core.copies import Codes, Recipe, Subset, Table, split_places, split_steps
from cert_core.densities import radial_log_ratio
from cert_core.errors import Float
from cert_core.kernels import DRAW, KINDS, OFFSETS, PI0, SHAPES, TRUNCATED, UNIFORM
from cert_core.kernels.cpu import selection
from cert_core.kernels.cpu.copying import cell_rows, moved_cell_rows, subset_rows, table_rows
from cert_core.kernels.cpu.integers import lattice_rows, write_rows
from cert_core.kernels.cpu.ratios import changes, closed_changes, direct_radii
from cert_core.kernels.cpu.rows import draw_rows, fill_words, row_uniform
from cert_core.kernels.cpu.tiles import U64
from cert_core.kernels.host import add as add
from cert_core.kernels.host import (
    by_sorting,
    log_ratio_of_changes,
    norms_of_rows,
    output,
    whole_output,
)
from cert_core.kernels.host import given as given
from cert_core.kernels.integers import margins
from cert_core.kernels.reference import decide, radii
from cert_core.lattice import Lattice
from cert_core.noises import Noise, level_record
from cert_core.quantiles import cosine_quantiles
from cert_core.threats import Shift


def _forget_stale() -> None:
    """Remove compiled kernels that are older than a source: Numba looks at the file of the
    outermost function alone, and would go on with the old text of what it calls."""
    folder = Path(__file__).parent
    above = (folder.parents[1] / name for name in ("quantiles.py", "lattice.py"))
    sources = [*folder.glob("*.py"), *above]
    with contextlib.suppress(OSError):
        newest = max(source.stat().st_mtime for source in sources)
        kept = list((folder / "__pycache__").glob("*.nb[ic]"))
        if any(compiled.stat().st_mtime < newest for compiled in kept):
            for compiled in kept:
                compiled.unlink(missing_ok=True)


_forget_stale()

CHUNK_BYTES = 1 << 18
SERIAL = 1 << 17  # values below which threads cost more than they save


@lru_cache(maxsize=8)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="cert_core")


if hasattr(os, "register_at_fork"):  # a forked process has the pool, and none of its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _spread(work: Callable[[int, int], None], n: int, size: int, threads: int | None) -> None:
    """work(low, high) over the rows 0 .. n, in four pieces a thread, of which this is one: a
    thread of the pool may take as long to wake as a small batch takes."""
    count = threads if threads is not None else cores()
    if count <= 1 or n * size <= SERIAL:
        work(0, n)
        return
    step = -(-n // (4 * count))
    pieces = [(low, min(low + step, n)) for low in range(0, n, step)]
    left = iter(pieces)  # next() is atomic

    def drain() -> None:
        for piece in left:
            work(*piece)

    helpers = [_pool(count).submit(drain) for _ in range(count - 1)]
    drain()
    for helper in helpers:
        if not helper.cancel():
            helper.result()


def draw(
    noise: Noise,
    n: int,
    seed: int,
    *,
    start: int = 0,
    center: Any = None,
    out: Any = None,
    dtype: str = "float32",
    stream: int = DRAW,
    threads: int | None = None,
) -> Any:
    """See cert_core.kernels; threads defaults to the cores this process may use."""
    key, out = U64(seed), output(out, (n, noise.dim), dtype)
    if isinstance(noise, Channel):
        copy = _copier(noise, noise.recipe(center, dtype), key, stream)
        _spread(lambda low, high: copy(start + low, out[low:high]), n, noise.dim, threads)
        return out
    middle = np.zeros(0, dtype) if center is None else center
    chunk = max(1, CHUNK_BYTES // (noise.dim * out.itemsize))
    slots = 4 if dtype == "float32" else 2
    kind, independent, cubics, unit = _coordinates(noise)
    stretch = noise.stretch
    added = middle if stretch is None else np.zeros(0, dtype)

    def work(low: int, high: int) -> None:
        first = U64(start + low)
        draw_rows(
            kind, independent, first, U64(stream), key, slots, chunk, cubics, unit, added,
            out[low:high],
        )  # fmt: skip
        if stretch is not None:
            out[low:high] *= stretch
            if center is not None:
                out[low:high] += middle

    _spread(work, n, noise.dim, threads)
    return out


def draw_lattice(
    noise: Noise,
    n: int,
    seed: int,
    lattice: Any,
    *,
    start: int = 0,
    center: Any = None,
    out: Any = None,
    stream: int = DRAW,
    threads: int | None = None,
) -> Any:
    """See cert_core.kernels; threads as in draw."""
    out, failed = whole_output(out, (n, noise.dim)), np.zeros(n, dtype=bool)
    middle = np.zeros(noise.dim, np.int32) if center is None else center
    kind, independent, _, unit = _coordinates(noise)
    margin = margins(noise, kind, lattice)
    chunk = max(1, CHUNK_BYTES // (8 * noise.dim))

    def work(low: int, high: int) -> None:
        radius = relative = np.zeros(high - low)
        if not independent:
            radius, relative = radii(noise, high - low, seed, start + low, stream)
        lattice_rows(
            kind, independent, U64(start + low), U64(stream), U64(seed), chunk, unit, radius,
            relative, margin.least, margin.raw, margin.inverse, middle, out[low:high],
            failed[low:high],
        )  # fmt: skip

    _spread(work, n, noise.dim, threads)
    rows = np.flatnonzero(failed)
    samples = U64(start) + rows.astype(np.uint64)
    failed[rows] = decide(noise, seed, lattice, samples, center, stream, out, rows)
    return out, failed


def write_values(lattice: Lattice, integers: Any, out: Any, *, threads: int | None = None) -> None:
    """See cert_core.kernels; threads as in draw."""
    step = float(lattice.step.numerator), float(lattice.step.denominator)

    def work(low: int, high: int) -> None:
        write_rows(integers[low:high], *step, out[low:high])

    _spread(work, len(out), out.shape[1], threads)


def _coordinates(noise: Noise) -> tuple[int, bool, Any, float]:
    """(kind of the raw coordinates, whether they are independent, the table of the radius where
    they are not, their scale or its)."""
    if isinstance(noise, Uniform):
        return UNIFORM, True, np.empty((0, 4)), noise.scale
    kind = TRUNCATED if noise.radial is None else KINDS[noise.radial.norm]
    scale = noise.radial.coordinate_scale if noise.radial is not None else None
    cubics, unit = noise.log_radius().cubics, noise.scale_unit
    return kind, scale is not None, cubics, unit if scale is None else scale


@lru_cache(maxsize=8)
def _offsets(dim: int, copies: int) -> Codes:
    """Where each coordinate's splits stand, the same for all inputs and runs."""
    words = np.empty((1, dim), np.uint64)
    fill_words(U64(0), U64(OFFSETS), U64(0), words)
    return split_places(words[0], copies)


def _copier(noise: Channel, copied: Recipe, key: Any, stream: int) -> Callable[[int, Any], None]:
    """What writes the copies start, start + 1, ... to rows."""
    chunk, place = max(1, CHUNK_BYTES // (8 * noise.dim)), (U64(stream), key)
    if isinstance(copied, Table):
        table = copied.codes, copied.last[copied.codes], copied.share[copied.codes], copied.values
        return lambda start, out: table_rows(U64(start), *place, chunk, *table, out)
    if isinstance(copied, Subset):
        subset = copied.row, copied.keep, copied.null
        return lambda start, out: subset_rows(U64(start), *place, chunk, *subset, out)
    cells = copied.codes, copied.width, copied.levels
    copies = noise.copies if isinstance(noise, Splitting) else None
    if copies is not None:
        offsets = _offsets(noise.dim, copies)

        def moved(start: int, out: Any) -> None:
            (step,) = split_steps(row_uniform(*place), start, 1, copies)
            moved_cell_rows(int(step), offsets, *cells, out)

        return moved
    return lambda start, out: cell_rows(U64(start), *place, chunk, *cells, out)


def log_ratio(noise: Noise, z: Any, shift: Shift, *, threads: int | None = None) -> Float:
    """See cert_core.kernels."""
    if z.dtype not in (np.float32, np.float64):
        z = z.astype(np.float64)
    z = np.ascontiguousarray(z if noise.stretch is None else z / noise.stretch)
    s, change, along = np.empty((3, len(z)))
    norm = noise.radial.norm if noise.radial is not None else math.inf
    code, axis = (0 if norm == math.inf else int(norm)), shift.kind == "axis"

    def work(low: int, high: int) -> None:
        part = slice(low, high)
        changes(code, z[part], shift.size, axis, s[part], change[part], along[part])

    _spread(work, len(z), noise.dim, threads)
    return log_ratio_of_changes(noise, shift, s, change, along)


def draw_log_ratio(
    noise: Noise,
    shift: Shift,
    n: int,
    seed: int,
    *,
    start: int = 0,
    stream: int = PI0,
    threads: int | None = None,
) -> Float:
    """See cert_core.kernels."""
    if shift.size == 0:
        return np.zeros(n)
    key, shape, record = U64(seed), noise.geometry(shift.kind), noise.radial
    if record is None or shape == "open":
        return _open_draws(noise, shift, n, seed, start, stream, threads)
    size = shift.norm(2.0, noise.dim) if shape == "sphere" else shift.size
    cubics = noise.log_radius().cubics
    cosines = cosine_quantiles(noise.dim).cubics if shape == "sphere" else cubics
    out = np.empty(n)

    def work(low: int, high: int) -> None:
        s, change = np.empty((2, high - low))
        closed_changes(
            SHAPES[shape], U64(start + low), U64(stream), key, cubics, cosines, noise.scale_unit,
            size, noise.dim, s, change,
        )  # fmt: skip
        out[low:high] = radial_log_ratio(record, s, change)

    _spread(work, n, 64, threads)
    return out


def _open_draws(
    noise: Noise, shift: Shift, n: int, seed: int, start: int, stream: int, threads: int | None
) -> Float:
    """Rows drawn in double precision, reduced chunk by chunk."""
    out = np.empty(n)
    rows = max(1, (1 << 18) // noise.dim)

    def work(low: int, high: int) -> None:
        buffer = np.empty((min(rows, high - low), noise.dim))
        for at in range(low, high, rows):
            part = buffer[: min(rows, high - at)]
            draw(
                noise, len(part), seed, start=start + at, out=part, dtype="float64",
                stream=stream, threads=1,
            )  # fmt: skip
            out[at : at + len(part)] = log_ratio(noise, part, shift, threads=1)

    _spread(work, n, noise.dim, threads)
    return out


def norms(
    noise: Noise, n: int, seed: int, *, start: int = 0, stream: int = DRAW,
    threads: int | None = None,
) -> Float:  # fmt: skip
    """See cert_core.kernels."""
    if level_record(noise).coordinate_scale is not None:
        one = partial(draw, threads=threads)
        return norms_of_rows(noise, n, one, seed, start, stream, 16 * CHUNK_BYTES)
    out, cubics, key = np.empty(n), noise.log_radius().cubics, U64(seed)

    def work(low: int, high: int) -> None:
        first = U64(start + low)
        direct_radii(first, U64(stream), key, cubics, noise.scale_unit, out[low:high])

    _spread(work, n, 64, threads)
    return out


def smallest(values: Float, m: Any) -> tuple[Any, Any]:
    """See kernels.Backend: a selection for each of a few m, one sort else."""
    if m.size > 8:
        return by_sorting(values, m)
    order, sums = zip(*(selection.smallest(values, int(place)) for place in m), strict=True)
    return np.array(order), np.array(sums)
