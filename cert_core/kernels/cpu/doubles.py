"""Words to float64 coordinates, in the tiled form of tiles.py (Numba)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types

from cert_core.kernels.cpu.tiles import F32, F64, U64, bitcast, fma, truncated_from
from cert_core.kernels.cpu.words import OPTIONS, wide_vectors

double_of_bits = bitcast(types.uint64, types.float64)
bits_of_double = bitcast(types.float64, types.uint64)


@njit(inline="always", **OPTIONS)
def minus_log64(u: Any) -> Any:
    """-log u to 2e-16 max(1, -log u), u in (0, 1]."""
    bits = bits_of_double(u)
    shifted = U64(bits - U64(0x3FE6A09E667F3BCD))
    exponent = F64(np.int64(shifted) >> np.int64(52))
    f = double_of_bits(U64((shifted & U64(0xFFFFFFFFFFFFF)) + U64(0x3FE6A09E667F3BCD))) - F64(1)
    s = f / (F64(2) + f)
    y = s * s
    p = F64(0.14617731718969093893)
    p = fma(p, y, F64(0.15331608391353953875))
    p = fma(p, y, F64(0.1818289287401125198))
    p = fma(p, y, F64(0.22222211077584150275))
    p = fma(p, y, F64(0.2857142862637008708))
    p = fma(p, y, F64(0.39999999999898509517))
    p = fma(p, y, F64(0.66666666666666697267))
    # log(1 + f) = f - s (f - y p), as 2s = f - s f
    mantissa = f - s * (f - y * p)
    return -(
        exponent * F64(0.6931471803691238) + (mantissa + exponent * F64(1.9082149292705877e-10))
    )


@njit(inline="always", **OPTIONS)
def exp64(x: Any) -> Any:
    """exp x to 2 ulp for |x| <= 708; the ends beyond."""
    x = min(max(x, F64(-708)), F64(708))
    n = fma(x, F64(1.4426950408889634), F64(6755399441055744))  # rounds in the last bits
    bits = bits_of_double(n) << U64(52)
    n = n - F64(6755399441055744)
    r = fma(n, F64(-1.9082149292705877e-10), fma(n, F64(-0.6931471803691238), x))
    p = F64(2.5110026226305288481e-8)
    p = fma(p, r, F64(2.7620088202617798639e-7))
    p = fma(p, r, F64(2.755724239319975322e-6))
    p = fma(p, r, F64(0.000024801521296476725632))
    p = fma(p, r, F64(0.0001984126988654642691))
    p = fma(p, r, F64(0.0013888888917213453428))
    p = fma(p, r, F64(0.0083333333333222217061))
    p = fma(p, r, F64(0.04166666666662412798))
    p = fma(p, r, F64(0.16666666666666674513))
    p = fma(p, r, F64(0.50000000000000010221))
    p = fma(fma(p, r, F64(1)), r, F64(1))
    return double_of_bits(bits_of_double(p) + bits)


@njit(inline="always", **OPTIONS)
def turn64(high: Any, low: Any) -> Any:
    """cos and sin of an angle of 53 bits from two words."""
    bits = (high << U64(32)) | low
    t = F64(np.int64((bits >> U64(11)) & U64(0x7FFFFFFFFFFFF))) + F64(0.5 - 2**50)
    t = t * F64(1.5707963267948966 / 2**51)
    y = t * t
    s = F64(-7.5867010019315249811e-13)
    s = fma(s, y, F64(1.6058531690867897519e-10))
    s = fma(s, y, F64(-2.5052106232946424114e-8))
    s = fma(s, y, F64(2.7557319219340762145e-6))
    s = fma(s, y, F64(-0.00019841269841265067254))
    s = fma(s, y, F64(0.0083333333333333314933))
    s = fma(s, y, F64(-0.16666666666666666666))
    s = fma(t * y, s, t)
    c = F64(4.7458738452760601834e-14)
    c = fma(c, y, F64(-1.1470460923571420221e-11))
    c = fma(c, y, F64(2.0876755791329988768e-9))
    c = fma(c, y, F64(-2.7557319221403622656e-7))
    c = fma(c, y, F64(0.000024801587301584647582))
    c = fma(c, y, F64(-0.0013888888888888887866))
    c = fma(c, y, F64(0.041666666666666666666))
    c = fma(fma(y, c, F64(-0.5)), y, F64(1))
    odd = (high & U64(0x40000000)) != U64(0)
    flip = (high >> U64(31)) << U64(63)
    x, z = (s, c) if odd else (c, s)
    sign_x = flip ^ (U64(0x8000000000000000) if odd else U64(0))
    return double_of_bits(bits_of_double(x) ^ sign_x), double_of_bits(bits_of_double(z) ^ flip)


@njit(inline="always", **OPTIONS)
def uniform64(high: Any, low: Any) -> Any:
    """(0, 1] in 53 bits from two words."""
    bits = ((high << U64(32)) | low) >> U64(11)
    return (F64(np.int64(bits)) + F64(0.5)) * F64(2.0**-53)


@njit(**OPTIONS)
def normals64(w: Any, at: Any, m: Any, out: Any) -> None:
    """Box-Muller from the four words of each lane."""
    wide_vectors()
    for i in range(m):
        radius = np.sqrt(F64(2) * minus_log64(uniform64(U64(w[0, i]), U64(w[1, i]))))
        c, s = turn64(U64(w[2, i]), U64(w[3, i]))
        out[at + U64(i)] = radius * c
        out[at + m + U64(i)] = radius * s


@njit(inline="always", **OPTIONS)
def signed64(magnitude: Any, word: Any) -> Any:
    """The magnitude with the sign of the word's lowest bit."""
    return double_of_bits(bits_of_double(magnitude) ^ ((U64(word) & U64(1)) << U64(63)))


@njit(**OPTIONS)
def exponentials64(w: Any, at: Any, m: Any, out: Any) -> None:
    """Two-sided exponentials from pairs of words."""
    wide_vectors()
    for slot in range(2):
        for i in range(m):
            high, low = w[2 * slot, i], w[2 * slot + 1, i]
            value = minus_log64(uniform64(U64(high), U64(low)))
            out[at + U64(slot) * m + U64(i)] = signed64(value, low)


@njit(**OPTIONS)
def uniforms64(w: Any, at: Any, m: Any, out: Any) -> None:
    """Uniforms on [-1, 1] from pairs of words."""
    wide_vectors()
    for slot in range(2):
        for i in range(m):
            high, low = w[2 * slot, i], w[2 * slot + 1, i]
            value = uniform64(U64(high), U64(low))
            out[at + U64(slot) * m + U64(i)] = signed64(value, low)


@njit(inline="always", **OPTIONS)
def mills64(x: Any) -> Any:
    """exp(x^2/2) P(|x'| > x) for a standard normal to 2e-17, 0.62 <= x <= 8.6."""
    t = (x - F64(3.5)) / (x + F64(3.5))
    p = F64(1.7466787964318246e-8)
    p = fma(p, t, F64(1.4578331452550337e-7))
    p = fma(p, t, F64(3.4951573920927528e-7))
    p = fma(p, t, F64(-1.1635367438552391e-7))
    p = fma(p, t, F64(-1.9451823984489627e-6))
    p = fma(p, t, F64(-1.6641916382984687e-6))
    p = fma(p, t, F64(8.6571700826881301e-6))
    p = fma(p, t, F64(1.6226043706909541e-5))
    p = fma(p, t, F64(-4.074832747762823e-5))
    p = fma(p, t, F64(-0.00011703528545439245))
    p = fma(p, t, F64(0.00026333433927121388))
    p = fma(p, t, F64(0.00078402516662030464))
    p = fma(p, t, F64(-0.0027615199929564142))
    p = fma(p, t, F64(-0.0031233181948359924))
    p = fma(p, t, F64(0.03813107466180065))
    p = fma(p, t, F64(-0.12327882817200884))
    p = fma(p, t, F64(0.25171051026906569))
    p = fma(p, t, F64(-0.37427939756849061))
    return fma(p, t, F64(0.21269030726741089))


@njit(inline="always", **OPTIONS)
def erf64(x: Any) -> Any:
    """P(|x'| <= x) for a standard normal to 1e-17, 0 <= x <= 0.7 (its power series)."""
    y = x * x
    p = F64(-4.2435229484340918e-13)
    p = fma(p, y, F64(1.0224869580512621e-11))
    p = fma(p, y, F64(-2.2602343283238426e-10))
    p = fma(p, y, F64(4.5470596487456127e-9))
    p = fma(p, y, F64(-8.2453348297253778e-8))
    p = fma(p, y, F64(1.3319387032633303e-6))
    p = fma(p, y, F64(-1.8889312519007229e-5))
    p = fma(p, y, F64(0.00023086937523231058))
    p = fma(p, y, F64(-0.0023746564309609088))
    p = fma(p, y, F64(0.019947114020071634))
    p = fma(p, y, F64(-0.13298076013381089))
    p = fma(p, y, F64(0.79788456080286536))
    return x * p


@njit(**OPTIONS)
def truncated64(w: Any, bounds: Any, at: Any, m: Any, out: Any) -> None:
    """Normals truncated to [-rho, rho]: the single-precision value, and one Halley step."""
    wide_vectors()
    for slot in range(2):
        for i in range(m):
            inside, outside, low = bounds[0, i], bounds[1, i], w[2 * slot + 1, i]
            u = uniform64(U64(w[2 * slot, i]), U64(low))
            x = F64(truncated_from(F32(u), F32(inside), F32(outside)))
            tail, rise = fma(inside, u, outside), exp64(F64(0.5) * x * x)
            near = (erf64(x) - inside * (F64(1) - u)) * rise
            far = tail * rise - mills64(x)
            newton = (near if tail > F64(0.5) else far) * F64(1.2533141373155003)
            x = x - newton / fma(F64(0.5) * x, newton, F64(1))
            out[at + U64(slot) * m + U64(i)] = signed64(min(x, bounds[2, i]), low)


@njit(**OPTIONS)
def pairs64(w: Any, at: Any, m: Any, out: Any) -> None:
    """The words themselves, two a value, as uint64."""
    wide_vectors()
    for i in range(m):
        j = at + U64(i)
        out[j] = U64(w[0, i]) << U64(32) | U64(w[1, i])
        out[j + m] = U64(w[2, i]) << U64(32) | U64(w[3, i])


@njit(**OPTIONS)
def without_tails64(paired: Any, w: Any, at: Any, m: Any, out: Any, least: Any) -> None:
    """Values from a high word below `least` become NaN; those of pairs, which are normals,
    together, and from the largest one too."""
    wide_vectors()
    low, nan = np.uint32(least), F64(np.nan)
    for slot in range(2):
        source, place = 0 if paired else 2 * slot, at + U64(slot) * m
        for i in range(m):
            word = w[source, i]
            lost = word < low or (paired and word == np.uint32(0xFFFFFFFF))
            out[place + U64(i)] = nan if lost else out[place + U64(i)]
