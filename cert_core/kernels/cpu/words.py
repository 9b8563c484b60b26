"""Philox4x32-10 words, sixteen lanes at a time, and the vector type behind them (Numba).

The 32-bit products are taken in 64-bit lanes (one vpmuludq each).  Their upper halves come
down by a shuffle, not by a shift: on Intel's server chips a 512-bit shift shares its only
port with the multiplication, and shifting took a fifth longer.  Loops cannot say that, so
the rounds are written as vectors; LLVM splits them where registers are narrower, and
integers are the same at every width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, njit, types

OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
STEP = 16  # lanes; patterns of lanes are whole steps

intrinsic: Any = extending.intrinsic
U64 = np.uint64

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)

WORD, PLACE = ir.IntType(64), ir.IntType(32)
WIDE, HALVES, SINGLE = (
    ir.VectorType(WORD, 8),
    ir.VectorType(PLACE, 16),
    ir.VectorType(PLACE, 8),
)


@intrinsic
def wide_vectors(typingctx: Any) -> Any:
    """Let the loops of this function use 512-bit registers where there are some: LLVM
    halves them by default on Intel's server chips, which costs these loops a third."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), codegen


@njit(inline="always", **OPTIONS)
def philox(c0: Any, c1: Any, c2: Any, c3: Any, key: Any) -> Any:
    """Four words, held in uint64, from a counter of four and a key of two."""
    mask, shift = U64(0xFFFFFFFF), U64(32)
    m0, m1, w0, w1 = U64(0xD2511F53), U64(0xCD9E8D57), U64(0x9E3779B9), U64(0xBB67AE85)
    k0, k1 = key & mask, key >> shift
    for _ in range(10):
        p0, p1 = (c0 & mask) * m0, (c2 & mask) * m1
        c0, c2 = (p1 >> shift) ^ c1 ^ k0, (p0 >> shift) ^ c3 ^ k1
        c1, c3 = p1, p0
        k0, k1 = k0 + w0, k1 + w1
    return c0 & mask, c1 & mask, c2 & mask, c3 & mask


def _all(value: int) -> Any:
    return ir.Constant(WIDE, [value] * 8)


def _splat(builder: Any, value: Any) -> Any:
    nothing = ir.Constant(WIDE, ir.Undefined)
    one = builder.insert_element(nothing, value, ir.Constant(PLACE, 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(SINGLE, [0] * 8))


def _upper(builder: Any, value: Any) -> Any:
    """Every lane's upper half in its lower one (and in the upper)."""
    halves = builder.bitcast(value, HALVES)
    order = ir.Constant(HALVES, [i | 1 for i in range(16)])
    moved = builder.shuffle_vector(halves, ir.Constant(HALVES, ir.Undefined), order)
    return builder.bitcast(moved, WIDE)


def _rounds(builder: Any, sample: Any, block: Any, stream: Any, key: Any) -> list[Any]:
    """The four words of eight lanes, in the lower halves; the upper ones are anything."""
    low = _all(0xFFFFFFFF)
    c = [sample, _upper(builder, sample), block, stream]
    k = [key, _upper(builder, key)]
    for _ in range(10):
        p0 = builder.mul(builder.and_(c[0], low), _all(MULTIPLIERS[0]))
        p1 = builder.mul(builder.and_(c[2], low), _all(MULTIPLIERS[1]))
        first = builder.xor(builder.xor(_upper(builder, p1), c[1]), k[0])
        third = builder.xor(builder.xor(_upper(builder, p0), c[3]), k[1])
        c = [first, p1, third, p0]
        k = [builder.add(k[i], _all(WEYL[i])) for i in (0, 1)]
    return c


@intrinsic
def _sixteen(
    typingctx: Any, lane_row: Any, lane_block: Any, first: Any, block: Any, stream: Any,
    key: Any, at: Any, out: Any,
) -> Any:  # fmt: skip
    """The words of the lanes at .. at + 15, to out[:, at : at + 16]."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows, blocks, first, block, stream, key, at, out = args
        pointers = [
            context.make_array(kind)(context, builder, array).data
            for kind, array in zip(signature.args[:2], (rows, blocks), strict=True)
        ]
        origin, numbers = _splat(builder, first), _splat(builder, block)
        streams, keys = _splat(builder, stream), _splat(builder, key)

        def eight(place: Any) -> list[Any]:
            row, column = (
                builder.load(builder.bitcast(builder.gep(p, [place]), WIDE.as_pointer()), align=8)
                for p in pointers
            )
            sample, number = builder.add(origin, row), builder.add(numbers, column)
            return _rounds(builder, sample, number, streams, keys)

        pairs = zip(eight(at), eight(builder.add(at, ir.Constant(WORD, 8))), strict=True)
        target = context.make_array(signature.args[7])(context, builder, out)
        length = builder.extract_value(target.shape, 1)
        lower = ir.Constant(HALVES, [2 * i for i in range(16)])
        for i, pair in enumerate(pairs):
            words = builder.shuffle_vector(*(builder.bitcast(x, HALVES) for x in pair), lower)
            place = builder.add(builder.mul(length, ir.Constant(WORD, i)), at)
            address = builder.gep(target.data, [place])
            builder.store(words, builder.bitcast(address, HALVES.as_pointer()), align=4)
        return context.get_dummy_value()

    number = types.uint64
    arguments = (lane_row, lane_block, number, number, number, number, types.intp, out)
    return types.none(*arguments), codegen


@intrinsic
def at_least(typingctx: Any, values: Any, at: Any, bound: Any) -> Any:
    """Bit i says whether values[at + i] >= bound, for sixteen of them and a bound of their
    type."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values, at, bound = args
        lanes, order = ir.VectorType(bound.type, 16), ir.Constant(HALVES, [0] * 16)
        nothing = ir.Constant(lanes, ir.Undefined)
        one = builder.insert_element(nothing, bound, ir.Constant(PLACE, 0))
        bounds = builder.shuffle_vector(one, nothing, order)
        data = context.make_array(signature.args[0])(context, builder, values).data
        place = builder.bitcast(builder.gep(data, [at]), lanes.as_pointer())
        reached = builder.fcmp_ordered(">=", builder.load(place, align=4), bounds)
        return builder.zext(builder.bitcast(reached, ir.IntType(16)), WORD)

    return types.uint64(values, types.intp, values.dtype), codegen


def _sixteen_of(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """Sixteen values of an array from a place on, as a pointer to a vector."""
    data = context.make_array(kind)(context, builder, array).data
    lanes = ir.VectorType(context.get_value_type(kind.dtype), STEP)
    return builder.bitcast(builder.gep(data, [at]), lanes.as_pointer())


@intrinsic
def copy_sixteen(typingctx: Any, source: Any, low: Any, out: Any, at: Any) -> Any:
    """out[at : at + 16] = source[low : low + 16], flat and of one type."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, low, out, at = args
        given = _sixteen_of(context, builder, signature.args[0], source, low)
        target = _sixteen_of(context, builder, signature.args[2], out, at)
        builder.store(builder.load(given, align=4), target, align=4)
        return context.get_dummy_value()

    return types.none(source, types.intp, out, types.intp), codegen


@intrinsic
def spread_sixteen(typingctx: Any, value: Any, out: Any, at: Any) -> Any:
    """out[at : at + 16] = value, of its type."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, out, at = args
        lanes, order = ir.VectorType(value.type, STEP), ir.Constant(HALVES, [0] * STEP)
        nothing = ir.Constant(lanes, ir.Undefined)
        one = builder.insert_element(nothing, value, ir.Constant(PLACE, 0))
        target = _sixteen_of(context, builder, signature.args[1], out, at)
        builder.store(builder.shuffle_vector(one, nothing, order), target, align=4)
        return context.get_dummy_value()

    return types.none(out.dtype, out, types.intp), codegen


@njit(inline="always", **OPTIONS)
def copy(source: Any, low: Any, out: Any, at: Any, size: Any) -> None:
    """out[at : at + size] = source[low : low + size]: short runs, for which a loop that the
    compiler makes vectors of comes to nothing; the last sixteen may overlap."""
    if size < STEP:
        for j in range(size):
            out[at + j] = source[low + j]
        return
    for j in range(0, size - STEP, STEP):
        copy_sixteen(source, low + j, out, at + j)
    copy_sixteen(source, low + size - STEP, out, at + size - STEP)


@njit(inline="always", **OPTIONS)
def spread(value: Any, out: Any, at: Any, size: Any) -> None:
    """out[at : at + size] = value, likewise."""
    if size < STEP:
        for j in range(size):
            out[at + j] = value
        return
    for j in range(0, size - STEP, STEP):
        spread_sixteen(value, out, at + j)
    spread_sixteen(value, out, at + size - STEP)


@intrinsic
def lowest(typingctx: Any, bits: Any) -> Any:
    """The place of the lowest bit that is set."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.intp(types.uint64), codegen


@njit(**OPTIONS)
def words(
    lane_row: Any, lane_block: Any, first: Any, block: Any, stream: Any, key: Any, out: Any
) -> None:
    """The four words of every lane: sample first + lane_row, block block + lane_block.

    out is (4, lanes) uint32, contiguous; lanes a multiple of STEP.
    """
    wide_vectors()
    for at in range(0, out.shape[1], STEP):
        _sixteen(lane_row, lane_block, first, block, stream, key, at, out)
