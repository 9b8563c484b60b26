"""The kernels in plain NumPy: slow, and the definition that the others are held to."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import special

from cert_core.channels import Channel, Splitting, Uniform
from cert_core.copies import Codes, Words, split_places, split_steps
from cert_core.densities import RadialRecord, radial_log_ratio
from cert_core.errors import Float
from cert_core.kernels import BLOCKS, DRAW, OFFSETS, PI0
from cert_core.kernels.host import add as add
from cert_core.kernels.host import (
    by_sorting,
    log_ratio_of_changes,
    norms_of_rows,
    output,
    whole_output,
)
from cert_core.kernels.host import given as given
from cert_core.kernels.integers import (
    CELL,
    RELATIVE,
    SLACK,
    Flags,
    direction_error,
    exponential_error,
    normal_error,
    radius_error,
    rounded,
    truncated_error,
)
from cert_core.lattice import Integers, Lattice
from cert_core.noises import Noise, level_record
from cert_core.quantiles import cosine_quantiles
from cert_core.threats import Shift

U64 = np.uint64
MASK = U64(0xFFFFFFFF)
CHUNK = 1 << 20  # values drawn at a time where a row is reduced to a number


def philox(counter: list[Any], key: int) -> list[np.ndarray[Any, np.dtype[np.uint64]]]:
    """Philox4x32-10: four 32-bit words (as uint64) for broadcast 32-bit counters."""
    x0, x1, x2, x3 = np.broadcast_arrays(*(np.asarray(c, U64) for c in counter))
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0, p1 = x0 * U64(0xD2511F53), x2 * U64(0xCD9E8D57)
        x0, x1, x2, x3 = (
            p1 >> U64(32) ^ x1 ^ U64(k0),
            p1 & MASK,
            p0 >> U64(32) ^ x3 ^ U64(k1),
            p0 & MASK,
        )
        k0, k1 = k0 + 0x9E3779B9 & 0xFFFFFFFF, k1 + 0xBB67AE85 & 0xFFFFFFFF
    return [x0, x1, x2, x3]


def _samples(start: Any, n: int) -> list[Any]:
    """The counters of samples start, start + 1, ..., or of those that an array lists."""
    index = start if isinstance(start, np.ndarray) else np.arange(start, start + n, dtype=U64)
    return [(index & MASK)[:, None], (index >> U64(32))[:, None]]


def _unit(high: Any, low: Any) -> Float:
    """A uniform in (0, 1] of 53 bits from two words."""
    bits = (high << U64(32) | low) >> U64(11)
    result: Float = (bits.astype(np.float64) + 0.5) * 2.0**-53
    return result


def _box_muller(u: Float, angle: Float) -> tuple[Float, Float]:
    """Two normals from a uniform and an angle in turns."""
    radius = np.sqrt(-2.0 * np.log(u))
    return radius * np.cos(2 * np.pi * angle), radius * np.sin(2 * np.pi * angle)


# ---- coordinates: four 32-bit or two 64-bit words a block ----


def _uniform32(word: Any, neighbour: Any, bits: int) -> Float:
    """(0, 1] from the bits of a word and, below them, 8 of its neighbour, in float32."""
    low = (neighbour & U64(255)).astype(np.float32) + np.float32(0.5)
    value = word.astype(np.float32) + low * np.float32(2.0**-8)
    result: Float = (value * np.float32(2.0**-bits)).astype(np.float64)
    return result


def _normals32(w: list[Any]) -> list[Float]:
    """Radius from a word and the low 8 bits of the next, angle from its high 24 bits."""
    values: list[Float] = []
    for a, b in ((w[0], w[1]), (w[2], w[3])):
        u = _uniform32(a, b, 32)
        quarter = (b >> U64(30)).astype(np.float64) / 4
        within = ((b >> U64(8) & U64(0x3FFFFF)).astype(np.float64) - 2.0**21 + 0.5) * 2.0**-24
        values.extend(_box_muller(u, quarter + within))
    return values


def _normals64(w: list[Any]) -> list[Float]:
    quarter = (w[2] >> U64(30)).astype(np.float64) / 4
    bits = (w[2] << U64(32) | w[3]) >> U64(11) & U64(2**51 - 1)
    within = (bits.astype(np.float64) - 2.0**50 + 0.5) * 2.0**-53
    return list(_box_muller(_unit(w[0], w[1]), quarter + within))


def _magnitudes32(w: list[Any]) -> tuple[list[Float], list[Float]]:
    """Uniforms of 39 bits, high ones from a word and low ones from its neighbour; signs."""
    uniforms, signs = [], []
    for i in range(4):
        uniforms.append(_uniform32(w[i] >> U64(1), w[i ^ 1], 31))
        signs.append(1.0 - 2.0 * (w[i] & U64(1)).astype(np.float64))
    return uniforms, signs


def _magnitudes64(w: list[Any]) -> tuple[list[Float], list[Float]]:
    uniforms = [_unit(w[0], w[1]), _unit(w[2], w[3])]
    return uniforms, [1.0 - 2.0 * (w[i] & U64(1)).astype(np.float64) for i in (1, 3)]


def _two_sided(tail: Float, rho: Float) -> Float:
    """|x| of a normal truncated to [-rho, rho] with P(|x'| > x) = tail."""
    inside, outside = special.erf(rho / math.sqrt(2)), special.erfc(rho / math.sqrt(2))
    total = outside + inside * tail
    with np.errstate(invalid="ignore"):
        small = math.sqrt(2) * special.erfinv(inside * (1.0 - tail))
        large = -special.ndtri(0.5 * total)
    result: Float = np.minimum(np.where(total > 0.5, small, large), rho)
    return result


def _coordinates(kind: str, words: list[Any], wide: bool, rho: Float | None) -> list[Float]:
    """Values of one block, a list over its slots of arrays (n, m)."""
    if kind == "normal":
        return _normals64(words) if wide else _normals32(words)
    uniforms, signs = _magnitudes64(words) if wide else _magnitudes32(words)
    if kind == "exponential":
        return [-np.log(u) * s for u, s in zip(uniforms, signs, strict=True)]
    if kind == "uniform":
        return [u * s for u, s in zip(uniforms, signs, strict=True)]
    assert rho is not None
    return [_two_sided(u, rho) * s for u, s in zip(uniforms, signs, strict=True)]


def blocks_of(count: int, slots: int) -> int:
    """Blocks in a tile of the row that has count coordinates from here on."""
    return min(BLOCKS, -(-count // slots))


def _layout(
    raw: Any,
    slots: int,
    key: int,
    start: Any,
    stream: int,
    values: Callable[[list[Any]], list[Any]],
) -> None:
    """Write the values of blocks, each a list over its slots, to the rows start, start + 1, ..."""
    n, dim = raw.shape
    for base in range(0, dim, BLOCKS * slots):
        count = min(BLOCKS * slots, dim - base)
        m = blocks_of(count, slots)
        blocks = np.arange(base // slots, base // slots + m, dtype=U64)[None, :]
        words = philox([*_samples(start, n), blocks, U64(stream)], key)
        for slot, part in enumerate(values(words)):
            low = base + slot * m
            high = min(low + m, base + count)
            if high > low:
                raw[:, low:high] = part[:, : high - low]


def _fill(
    kind: str, n: int, dim: int, key: int, start: Any, stream: int, wide: bool, rho: Any = None
) -> Float:
    """(n, dim) raw coordinates in the contract's layout."""
    raw = np.empty((n, dim))
    slots = 2 if wide else 4
    _layout(raw, slots, key, start, stream, lambda w: _coordinates(kind, w, wide, rho))
    return raw


def wide_words(n: int, dim: int, key: int, start: int, stream: int) -> Words:
    """(n, dim) words of 64 bits in the layout of float64."""
    raw = np.empty((n, dim), np.uint64)
    _layout(raw, 2, key, start, stream, lambda w: [w[0] << U64(32) | w[1], w[2] << U64(32) | w[3]])
    return raw


def row_normals(n: int, key: int, start: int, stream: int) -> tuple[Float, Float]:
    """Two standard normals a sample, in 53 bits: scores of the radius and of the cosine."""
    low, high = (c[:, 0] for c in _samples(start, n))
    w = philox([low, high, U64(0), U64(stream + 1)], key)
    first, second = _normals64(w)
    return first, second


def row_uniforms(n: int, key: int, start: Any, stream: int) -> tuple[Float, Float, Any]:
    """Two uniforms in (0, 1] a sample, and a sign bit."""
    low, high = (c[:, 0] for c in _samples(start, n))
    w = philox([low, high, U64(1), U64(stream + 1)], key)
    return _unit(w[0], w[1]), _unit(w[2], w[3]), w[3] & U64(1)


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
) -> Any:
    """See cert_core.kernels."""
    out = output(out, (n, noise.dim), dtype)
    copied = noise.recipe(center, dtype) if isinstance(noise, Channel) else None
    for low in range(0, n, max(1, CHUNK // noise.dim)):
        high = min(n, low + max(1, CHUNK // noise.dim))
        if copied is not None:
            out[low:high] = _copies(noise, copied, high - low, seed, start + low, stream)
            continue
        rows = _rows(noise, high - low, seed, start + low, stream, dtype == "float64")
        if noise.stretch is not None:
            rows *= noise.stretch
        if center is not None:
            # the sum is rounded once, from the rounded noise, as in the other backends
            out[low:high] = center + rows.astype(dtype)
        else:
            out[low:high] = rows
    return out


def _copies(noise: Noise, copied: Any, n: int, key: int, start: int, stream: int) -> Any:
    if isinstance(noise, Splitting) and noise.copies is not None:
        first, _, _ = row_uniforms(1, key, 0, stream)
        steps = split_steps(float(first[0]), start, n, noise.copies)
        return copied.moved(split_offsets(noise.dim, noise.copies), steps)
    return copied.rows(wide_words(n, noise.dim, key, start, stream))


@lru_cache(maxsize=8)
def split_offsets(dim: int, copies: int) -> Codes:
    """Where each coordinate's splits stand, the same for all inputs and runs."""
    return split_places(wide_words(1, dim, 0, 0, OFFSETS)[0], copies)


DIRECTIONS = {1.0: "exponential", 2.0: "normal", math.inf: "uniform"}


def _rows(noise: Noise, n: int, key: int, start: int, stream: int, wide: bool) -> Float:
    if isinstance(noise, Uniform):
        return noise.scale * _fill("uniform", n, noise.dim, key, start, stream, wide)
    normal, _ = row_normals(n, key, start, stream)
    radius = np.exp(noise.log_radius()(normal)) * noise.scale_unit
    if noise.radial is None:
        raw = _fill("truncated", n, noise.dim, key, start, stream, wide, _column(noise, radius))
        raw *= noise.scale_unit
        return _on_face(raw, radius, n, key, start, stream)
    norm, scale = noise.radial.norm, noise.radial.coordinate_scale
    raw = _fill(DIRECTIONS[norm], n, noise.dim, key, start, stream, wide)
    if scale is not None:
        return raw * scale
    if norm == math.inf:
        return _on_face(raw * radius[:, None], radius, n, key, start, stream)
    size = np.linalg.norm(raw, ord=norm, axis=1)
    for row in np.flatnonzero(size == 0):
        _turn_from_zero(DIRECTIONS[norm], raw[row], key, start + int(row), stream, wide)
        size[row] = np.linalg.norm(raw[row], ord=norm)
    raw *= (radius / size)[:, None]
    return raw


def _turn_from_zero(kind: str, row: Float, key: int, sample: int, stream: int, wide: bool) -> None:
    """Give a row of zeros, whose uniforms all round to 1, the direction of its first block:
    that of the same words, but for the size in the first of them."""
    words = philox([*_samples(sample, 1), U64(0), U64(stream)], key)
    words[0] &= U64(1)
    for slot, value in enumerate(_coordinates(kind, words, wide, None)):
        place = slot * blocks_of(row.size, 2 if wide else 4)
        if place < row.size:
            row[place] = value[0, 0]


def _column(noise: Noise, radius: Float) -> Float:
    return (radius / noise.scale_unit)[:, None]


def _on_face(raw: Float, radius: Float, n: int, key: int, start: Any, stream: int) -> Float:
    """One coordinate, chosen uniformly, moved to +-radius."""
    u, _, sign = row_uniforms(n, key, start, stream)
    face = np.minimum((u * raw.shape[1]).astype(np.int64), raw.shape[1] - 1)
    raw[np.arange(n), face] = np.where(sign == 1, -radius, radius)
    return raw


# ---- noise on a lattice (see integers.py for the errors) ----


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
) -> tuple[Integers, Flags]:
    """See cert_core.kernels."""
    out = whole_output(out, (n, noise.dim))
    every = np.arange(start, start + n, dtype=U64)
    return out, decide(noise, seed, lattice, every, center, stream, out, np.arange(n))


def decide(
    noise: Noise, key: int, lattice: Lattice, samples: Any, center: Any, stream: int, out: Any,
    rows: Any,
) -> Flags:  # fmt: skip
    """Draw samples into these rows of out; which of them FAIL."""
    middle = 0 if center is None else center
    failed, chunk = np.empty(len(rows), dtype=bool), max(1, CHUNK // noise.dim)
    for low in range(0, len(rows), chunk):
        part = slice(low, low + chunk)
        bounded = _bounded_rows(noise, len(rows[part]), key, samples[part], stream)
        whole, failed[part] = rounded(*bounded, float(lattice.step))
        out[rows[part]] = whole + middle
    return failed


def write_values(lattice: Lattice, integers: Any, out: Any) -> None:
    """See cert_core.kernels."""
    out[...] = lattice.values(integers, np.float32)


def radii(noise: Noise, n: int, key: int, start: Any, stream: int) -> tuple[Float, Float]:
    """Radii of samples, in input units, and their relative errors: inf where a radius, or the
    face of a max-norm that its coordinate is on, is not known."""
    low, high = (c[:, 0] for c in _samples(start, n))
    w = philox([low, high, U64(0), U64(stream + 1)], key)
    radius, error = radius_error(noise, _normals64(w)[0], normal_error(_unit(w[0], w[1])))
    if noise.radial is None or noise.radial.norm == math.inf:
        place = row_uniforms(n, key, start, stream)[0] * noise.dim
        edge = np.clip(np.rint(place), 1, noise.dim - 1)
        error = np.where(np.abs(place - edge) > 4 * noise.dim * CELL, error, math.inf)
    return radius, error


def _coordinate_errors(kind: str, words: list[Any], rho: Any) -> list[Float]:
    """Bounds of the errors of _coordinates, a list over its two slots."""
    uniforms = [_unit(words[0], words[1]), _unit(words[2], words[3])]
    if kind == "normal":
        return [normal_error(uniforms[0])] * 2
    if kind == "exponential":
        return [exponential_error(u) for u in uniforms]
    if kind == "uniform":
        return [np.full(u.shape, 2 * CELL) for u in uniforms]
    return [truncated_error(u, rho) for u in uniforms]


def _bounded(
    kind: str, shape: tuple[int, int], key: int, start: Any, stream: int, rho: Any = None
) -> tuple[Float, Float]:
    """Raw coordinates, and bounds of their errors."""
    errors = np.empty(shape)
    _layout(errors, 2, key, start, stream, lambda w: _coordinate_errors(kind, w, rho))
    return _fill(kind, *shape, key, start, stream, wide=True, rho=rho), errors


def _bounded_rows(noise: Noise, n: int, key: int, start: Any, stream: int) -> tuple[Float, Float]:
    """Noise in float64, and bounds of its distance from the ideal one."""
    place, shape = (key, start, stream), (n, noise.dim)
    if isinstance(noise, Uniform):
        raw, errors = _bounded("uniform", shape, *place)
        return raw * noise.scale, errors * noise.scale
    record = noise.radial
    if record is not None and record.coordinate_scale is not None:
        raw, errors = _bounded(DIRECTIONS[record.norm], shape, *place)
        return raw * record.coordinate_scale, errors * record.coordinate_scale
    radius, relative = radii(noise, n, *place)
    with np.errstate(divide="ignore", invalid="ignore"):  # what is not known is inf or NaN
        if record is None:
            return _bounded_mixed(noise, shape, place, radius, relative)
        raw, errors = _bounded(DIRECTIONS[record.norm], shape, *place)
        factor = radius
        if record.norm < math.inf:
            size = np.linalg.norm(raw, ord=record.norm, axis=1)
            factor, relative = radius / size, relative + direction_error(errors, record.norm, size)
        rows = raw * factor[:, None]
        if record.norm == math.inf:
            rows = _on_face(rows, radius, n, *place)
        share = np.where(relative < RELATIVE, relative, math.inf)[:, None]
        return rows, SLACK * (errors * factor[:, None] + np.abs(rows) * share)


def _bounded_mixed(
    noise: Noise,
    shape: tuple[int, int],
    place: tuple[int, Any, int],
    radius: Float,
    relative: Float,
) -> tuple[Float, Float]:
    """_bounded_rows of the mixed family: truncated normals follow the radius in value too."""
    raw, errors = _bounded("truncated", shape, *place, _column(noise, radius))
    rows = _on_face(raw * noise.scale_unit, radius, shape[0], *place)
    return rows, SLACK * (errors * noise.scale_unit + (radius * relative)[:, None])


# ---- log ratios ----


def norm_change(norm: float, z: Float, shift: Shift) -> tuple[Float, Float]:
    """s = |z| and |z - delta| - s, without subtracting norms: the atoms at +-r are exact."""
    s = np.linalg.norm(z, ord=norm, axis=1)
    r, first = shift.size, z[:, 0]
    if norm == 2.0:
        delta = shift.as_array(z.shape[1])
        along = first if shift.kind == "axis" else z.sum(axis=1)
        move = shift.norm(2.0, z.shape[1]) ** 2 - 2 * r * along
        return s, move / (s + np.linalg.norm(z - delta, axis=1))
    if norm == 1.0:
        moved = z[:, :1] if shift.kind == "axis" else z
        return s, np.clip(r - 2 * moved, -r, r).sum(axis=1)
    if shift.kind == "diagonal":
        return s, np.maximum(z.max(axis=1) - s - r, r - (z.min(axis=1) + s))
    rest = np.abs(z[:, 1:]).max(axis=1, initial=0.0) - s
    return s, np.maximum(rest, np.where(first < r, r - (first + s), first - s - r))


def log_ratio(noise: Noise, z: Any, shift: Shift) -> Float:
    """See cert_core.kernels."""
    z = z.astype(np.float64)
    if noise.stretch is not None:
        z = z / noise.stretch
    norm = noise.radial.norm if noise.radial is not None else math.inf
    along = z[:, 0] if shift.kind == "axis" else z.sum(axis=1)
    return log_ratio_of_changes(noise, shift, *norm_change(norm, z, shift), along)


def _sphere_change(s: Float, r: float, artanh: Float) -> Float:
    """|z - delta| - s, from artanh of the cosine between z and delta."""
    x = np.sqrt((r - s) ** 2 + 4.0 * r * s / (np.exp(2.0 * artanh) + 1.0))
    result: Float = r * (r - 2.0 * s * np.tanh(artanh)) / (x + s)
    return result


def _cone_change(s: Float, r: float, u: Float, sign: Any, dim: int) -> Float:
    """Half the mass at s + r; else |z - delta| = s (2q - 1) + r, q = u^(1/(dim-1))."""
    lost = -np.expm1(np.log(u) / (dim - 1)) if dim > 1 else np.ones_like(u)
    result: Float = np.where(sign == 1, r, np.maximum(r - 2.0 * s * lost, -r))
    return result


def _edge_change(s: Float, r: float, choice: Float, u: Float, dim: int) -> Float:
    """Coordinate 1 is the largest with probability 1/dim, and then has either sign."""
    along = np.maximum(np.where(s > r, -r, r - 2.0 * s), s * np.expm1(np.log(u) / (dim - 1)))
    beside = np.maximum(0.0, r - 2.0 * s * u)
    largest = np.where(choice < 0.5 / dim, r, along)
    result: Float = np.where(choice < 1.0 / dim, largest, beside)
    return result


def _closed_draws(
    noise: Noise, record: RadialRecord, shift: Shift, n: int, key: int, start: int, stream: int
) -> Float:
    shape = record.geometry(shift.kind)
    normal, cosine = row_normals(n, key, start, stream)
    s = np.exp(noise.log_radius()(normal)) * noise.scale_unit
    if shape == "sphere":
        size = shift.norm(2.0, noise.dim)
        change = _sphere_change(s, size, cosine_quantiles(noise.dim)(cosine))
        return radial_log_ratio(record, s, change)
    first, second, sign = row_uniforms(n, key, start, stream)
    if shape == "cone":
        return radial_log_ratio(record, s, _cone_change(s, shift.size, first, sign, noise.dim))
    return radial_log_ratio(record, s, _edge_change(s, shift.size, first, second, noise.dim))


def draw_log_ratio(
    noise: Noise, shift: Shift, n: int, seed: int, *, start: int = 0, stream: int = PI0
) -> Float:
    """See cert_core.kernels."""
    if shift.size == 0:
        return np.zeros(n)
    if noise.radial is not None and noise.geometry(shift.kind) != "open":
        return _closed_draws(noise, noise.radial, shift, n, seed, start, stream)
    rows = max(1, CHUNK // noise.dim)
    parts = [np.zeros(0)]
    for low in range(0, n, rows):
        z = draw(noise, min(rows, n - low), seed, start=start + low, dtype="float64", stream=stream)
        parts.append(log_ratio(noise, z, shift))
    return np.concatenate(parts)


def norms(noise: Noise, n: int, seed: int, *, start: int = 0, stream: int = DRAW) -> Float:
    """See cert_core.kernels."""
    if level_record(noise).coordinate_scale is not None:
        return norms_of_rows(noise, n, draw, seed, start, stream, 4 * CHUNK)
    normal, _ = row_normals(n, seed, start, stream)
    radii: Float = np.exp(noise.log_radius()(normal)) * noise.scale_unit
    return radii


def smallest(values: Float, m: Any) -> tuple[Float, Float]:
    """See kernels.Backend."""
    return by_sorting(values, m)
