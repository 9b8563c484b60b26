"""Words to float32 coordinates, in the tiled form that vectorises (Numba).

A tile is 256 blocks: four arrays of words (words.py), then straight-line polynomials on
them.  What makes it fast, measured: every constant typed (one bare int turns uint64 into
float64), no scalar libm, a multiplication and a sum in one instruction (a quarter off the
normals).  What makes it reproducible: no fast-math, fma only where it is written, sums in
fixed lanes, so the bits do not depend on the vector width.

Polynomials are minimax fits; the comments give their error.  The definitions that these
functions restate are those of reference.py and formulas.h, which the tests compare.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import extending, njit, types

from cert_core.kernels import BLOCKS
from cert_core.kernels.cpu.words import OPTIONS, STEP, at_least, lowest, wide_vectors

LANES = BLOCKS

intrinsic: Any = extending.intrinsic

U64, U32, F32, F64 = np.uint64, np.uint32, np.float32, np.float64
FAR = F32(5)  # in -log(1 - erf^2)


def bitcast(source: Any, target: Any) -> Any:
    """A function that reinterprets the bits of one type as another."""

    @intrinsic
    def cast(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], context.get_value_type(target))

        return target(source), codegen

    return cast


float_of_bits = bitcast(types.uint32, types.float32)
bits_of_float = bitcast(types.float32, types.uint32)


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c rounded once, on every machine (in software where there is no instruction)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return a(a, a, a), codegen


@njit(inline="always", **OPTIONS)
def minus_log32(u: Any) -> Any:
    """-log u, absolute error 1e-7 max(1, -log u), for 2^-42 <= u <= 1."""
    bits = bits_of_float(u)
    # exponent of u relative to sqrt(1/2): mantissa in [sqrt(1/2), sqrt 2)
    shifted = U32(bits - U32(0x3F3504F3))
    exponent = F32(np.int32(shifted) >> np.int32(23))
    f = float_of_bits(U32((shifted & U32(0x7FFFFF)) + U32(0x3F3504F3))) - F32(1)
    p = F32(-0.08305568942)
    p = fma(p, f, F32(0.1279896138))
    p = fma(p, f, F32(-0.1294338941))
    p = fma(p, f, F32(0.1419023013))
    p = fma(p, f, F32(-0.166434899))
    p = fma(p, f, F32(0.2000188006))
    p = fma(p, f, F32(-0.2500028083))
    p = fma(p, f, F32(0.3333332654))
    p = fma(p, f, F32(-0.5))
    return -fma(exponent, F32(0.693147182), fma(f * f, p, f))


@njit(inline="always", **OPTIONS)
def turn32(word: Any) -> Any:
    """cos and sin of an angle of 24 bits, the word's high ones."""
    t = F32(np.int32((word >> U32(8)) & U32(0x3FFFFF))) + F32(0.5 - 2**21)
    t = t * F32(1.5707963267948966 / 2**22)
    y = t * t
    s = fma(y, F32(-0.00019588008863627), F32(0.008332748998598587))
    s = fma(y, s, F32(-0.16666664667931576))
    s = fma(t * y, s, t)
    c = fma(y, F32(2.45480405430595e-05), F32(-0.001388830364336445))
    c = fma(y, c, F32(0.04166666466418916))
    c = fma(y, c, F32(-0.5))
    c = fma(y, c, F32(1))
    odd = (word & U32(0x40000000)) != U32(0)
    flip = U32(word & U32(0x80000000))
    x, z = (s, c) if odd else (c, s)
    # quadrants: (c, s), (-s, c), (-c, -s), (s, -c)
    sign_x = U32(flip ^ (U32(0x80000000) if odd else U32(0)))
    return float_of_bits(U32(bits_of_float(x) ^ sign_x)), float_of_bits(
        U32(bits_of_float(z) ^ flip)
    )


@njit(**OPTIONS)
def normals32(w: Any, at: Any, m: Any, out: Any) -> None:
    """Box-Muller: radius from a word and the low 8 bits of the next, angle from the rest."""
    wide_vectors()
    for i in range(m):
        j = at + U64(i)
        low = F32(np.int32(w[1, i] & U32(255))) + F32(0.5)
        u = fma(low, F32(2.0**-8), F32(w[0, i])) * F32(2.0**-32)
        radius = np.sqrt(F32(2) * minus_log32(u))
        c, s = turn32(w[1, i])
        out[j] = radius * c
        out[j + m] = radius * s
    for i in range(m):
        j = at + m + m + U64(i)
        low = F32(np.int32(w[3, i] & U32(255))) + F32(0.5)
        u = fma(low, F32(2.0**-8), F32(w[2, i])) * F32(2.0**-32)
        radius = np.sqrt(F32(2) * minus_log32(u))
        c, s = turn32(w[3, i])
        out[j] = radius * c
        out[j + m] = radius * s


@njit(inline="always", **OPTIONS)
def uniform32(word: Any, neighbour: Any) -> Any:
    """(0, 1] from 31 bits of a word and, below them, 8 of its neighbour."""
    low = F32(np.int32(neighbour & U32(255))) + F32(0.5)
    return fma(low, F32(2.0**-8), F32(np.int32(word >> U32(1)))) * F32(2.0**-31)


@njit(inline="always", **OPTIONS)
def signed32(magnitude: Any, word: Any) -> Any:
    """The magnitude with the sign of the word's lowest bit."""
    return float_of_bits(U32(bits_of_float(magnitude) ^ U32((word & U32(1)) << U32(31))))


@njit(**OPTIONS)
def exponentials32(w: Any, at: Any, m: Any, out: Any) -> None:
    """Two-sided exponentials, low bits from the neighbouring word."""
    for slot in range(4):
        _exponentials32(w, slot, slot ^ 1, at + U64(slot) * m, m, out)


@njit(**OPTIONS)
def _exponentials32(w: Any, slot: Any, other: Any, at: Any, m: Any, out: Any) -> None:
    wide_vectors()
    for i in range(m):
        word = w[slot, i]
        out[at + U64(i)] = signed32(minus_log32(uniform32(word, w[other, i])), word)


@njit(**OPTIONS)
def uniforms32(w: Any, at: Any, m: Any, out: Any) -> None:
    """Uniforms on [-1, 1], low bits from the neighbouring word."""
    for slot in range(4):
        _uniforms32(w, slot, slot ^ 1, at + U64(slot) * m, m, out)


@njit(**OPTIONS)
def _uniforms32(w: Any, slot: Any, other: Any, at: Any, m: Any, out: Any) -> None:
    wide_vectors()
    for i in range(m):
        word = w[slot, i]
        out[at + U64(i)] = signed32(uniform32(word, w[other, i]), word)


@njit(inline="always", **OPTIONS)
def level32(u: Any, inside: Any, outside: Any) -> Any:
    """(w, y) for truncated normals: y = inside (1 - u) is erf(x/sqrt 2), w = -log(1 - y^2)."""
    y = inside * (F32(1) - u)
    return minus_log32(fma(inside, u, outside) * (F32(1) + y)), y


@njit(inline="always", **OPTIONS)
def near32(w: Any) -> Any:
    """x/y for w < FAR."""
    v = w - F32(2.5)
    p = F32(4.035374175e-08)
    p = fma(p, v, F32(4.861047459e-07))
    p = fma(p, v, F32(-4.990552342e-06))
    p = fma(p, v, F32(-6.218003051e-06))
    p = fma(p, v, F32(0.0003091501439))
    p = fma(p, v, F32(-0.001773010118))
    p = fma(p, v, F32(-0.005908170884))
    p = fma(p, v, F32(0.3488026599))
    return fma(p, v, F32(2.123313567))


@njit(inline="always", **OPTIONS)
def far32(w: Any) -> Any:
    """x/y for w >= FAR."""
    v = np.sqrt(w) - F32(4)
    q = F32(9.0904838e-06)
    q = fma(q, v, F32(5.273342949e-05))
    q = fma(q, v, F32(-0.0001370267416))
    q = fma(q, v, F32(7.439334781e-06))
    q = fma(q, v, F32(-3.778988104e-05))
    q = fma(q, v, F32(0.0005299187743))
    q = fma(q, v, F32(-0.001297559385))
    q = fma(q, v, F32(0.001754470819))
    q = fma(q, v, F32(1.427648975))
    return fma(q, v, F32(5.430275853))


@njit(inline="always", **OPTIONS)
def truncated_from(u: Any, inside: Any, outside: Any) -> Any:
    """|x| with P(|x'| > x) = outside + inside u for a standard normal; relative 5e-7."""
    w, y = level32(u, inside, outside)
    return y * (far32(w) if w >= FAR else near32(w))


@njit(**OPTIONS)
def truncated32(w: Any, bounds: Any, at: Any, m: Any, out: Any) -> None:
    """Normals truncated to [-rho, rho]; bounds holds erf, erfc and rho of every lane."""
    levels = np.empty(LANES, np.float32)
    for slot in range(4):
        _truncated32(w, bounds, slot, slot ^ 1, at + U64(slot) * m, m, levels, out)
        _truncated32_far(w, bounds, slot, slot ^ 1, at + U64(slot) * m, m, levels, out)


@njit(**OPTIONS)
def _truncated32(
    w: Any, bounds: Any, slot: Any, other: Any, at: Any, m: Any, levels: Any, out: Any
) -> None:
    wide_vectors()
    for i in range(m):
        word = w[slot, i]
        level, y = level32(uniform32(word, w[other, i]), bounds[0, i], bounds[1, i])
        levels[i] = level
        out[at + U64(i)] = signed32(min(y * near32(level), bounds[2, i]), word)


@njit(**OPTIONS)
def _truncated32_far(
    w: Any, bounds: Any, slot: Any, other: Any, at: Any, m: Any, levels: Any, out: Any
) -> None:
    """Once more the few lanes in the tail: one in 150, and a square root for all of them
    would cost a fifth of the whole."""
    for base in range(0, m, STEP):
        found = at_least(levels, base, FAR)
        while found != U64(0):
            lane = base + lowest(found)
            found &= found - U64(1)
            if lane < m:
                word = w[slot, lane]
                level, y = level32(
                    uniform32(word, w[other, lane]), bounds[0, lane], bounds[1, lane]
                )
                out[at + U64(lane)] = signed32(min(y * far32(level), bounds[2, lane]), word)
