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
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cert_core.errors import Float, fail, probabilities, scalar, to_numpy
from cert_core.errors import alpha as alpha_value
from cert_core.errors import seed as seed_value
from cert_core.kernels import (
    DRAW,
    KINDS,
    PI0,
    SHAPES,
    TRUNCATED,
    UNIFORM,
    one_input,
    output_array,
    span,
)
from cert_core.kernels import integers as errors
from cert_core.kernels.copies import Recipe, Subset, Table, recipe
from cert_core.kernels.cpu.copying import cell_rows, moved_cell_rows, subset_rows, table_rows
from cert_core.kernels.cpu.integers import lattice_rows, write_rows
from cert_core.kernels.cpu.ratios import changes, closed_changes
from cert_core.kernels.cpu.rows import draw_rows
from cert_core.kernels.cpu.selection import smallest
from cert_core.kernels.cpu.tiles import U64
from cert_core.kernels.reference import (
    decide,
    geometry,
    log_ratio_of_changes,
    radial_log_ratio,
    radii,
    split_steps,
)
from cert_core.kernels.reference import hinge_bound as reference_hinge_bound
from cert_core.lattice import Lattice, checked_lattice
from cert_core.noises import Channel, Noise, Splitting, Uniform
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
    n, start = span(n, start)
    key = U64(seed_value(seed))
    out = output_array(out, (n, noise.dim), dtype)
    if isinstance(noise, Channel):
        copy = _copier(noise, recipe(noise, center, dtype), key, stream)
        _spread(lambda low, high: copy(start + low, out[low:high]), n, noise.dim, threads)
        return out
    middle = np.zeros(0, dtype)
    if center is not None:
        middle = one_input(center, noise.dim, dtype)
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
    n, start = span(n, start)
    seed, noise = seed_value(seed), checked_lattice("lattice", lattice).checked(noise)
    out, failed = errors.whole_output(out, (n, noise.dim)), np.zeros(n, dtype=bool)
    given = np.zeros(noise.dim, np.int32)
    if center is not None:
        given = errors.whole_center(center, noise.dim)
    kind, independent, _, unit = _coordinates(noise)
    margins = errors.margins(noise, kind, lattice)
    chunk = max(1, CHUNK_BYTES // (8 * noise.dim))

    def work(low: int, high: int) -> None:
        radius = relative = np.zeros(high - low)
        if not independent:
            radius, relative = radii(noise, high - low, seed, start + low, stream)
        lattice_rows(
            kind, independent, U64(start + low), U64(stream), U64(seed), chunk, unit, radius,
            relative, margins.least, margins.raw, margins.inverse, given, out[low:high],
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
    if isinstance(noise, Splitting) and noise.copies is not None:

        def moved(start: int, out: Any) -> None:
            offsets, steps = split_steps(noise, 1, int(key), start, stream)
            moved_cell_rows(int(steps[0]), offsets, *cells, out)

        return moved
    return lambda start, out: cell_rows(U64(start), *place, chunk, *cells, out)


def log_ratio(noise: Noise, z: Any, shift: Shift, *, threads: int | None = None) -> Float:
    """See cert_core.kernels."""
    z = to_numpy("z", z)
    if z.ndim != 2 or z.shape[1] != noise.dim:
        raise fail("z", f"of shape (n, {noise.dim})", z.shape, "flatten each input to one row")
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
    n, start = span(n, start)
    key, shape = U64(seed_value(seed)), geometry(noise, shift)
    if shift.size == 0:
        return np.zeros(n)
    record = noise.radial
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


def hinge_bound(log_ratio: Any, p: Any, alpha: float) -> Any:
    """See cert_core.kernels and reference.hinge_bound: one selection, no sort."""
    points, sample = probabilities("p", p), np.asarray(log_ratio)
    plain = sample.ndim == 1 and sample.size > 0 and sample.dtype == np.float64
    n = max(sample.size, 1)
    epsilon = math.sqrt((math.log(2) - math.log(alpha_value(alpha))) / (2 * n))
    if points.size > 8 or not plain or (points <= epsilon).all():
        return reference_hinge_bound(log_ratio, p, alpha)
    result = np.zeros(points.shape)
    for i, q in np.ndenumerate(points):
        if q > epsilon:
            m = min(max(math.ceil(n * (q - epsilon)), 1), n)
            order, total = smallest(sample, m)
            if math.isnan(order):
                return reference_hinge_bound(log_ratio, p, alpha)
            value = math.exp(order) * (q - epsilon - m / n) + total / n
            result[i] = min(max(value, 0.0), q)
    return scalar(result)
