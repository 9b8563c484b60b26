"""Tails of the binomial law with their errors, and the probabilities that have a given tail.

With y = log p and odds = p/(1 - p), 1 <= k <= n, C the number of ways to choose k of n,

    P(X >= k) = k C p^k (1 - p)^(n-k)
                * int_0^inf exp(-k s + (n - k) log1p(odds (1 - exp(-s)))) ds,

the integral of a Beta law from p downwards.  The factor is Loader's: Stirling remainders, and
deviances in which nothing large cancels; the integrand is entire and log-concave, so that one
Gauss-Legendre rule over where it falls by DROP serves every k and n, and what lies beyond is
bounded by a geometric tail.  No step of this is shared with scipy's Beta functions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from cert_core.errors import Float

Rule = tuple[Float, Float]

EPS = float(np.finfo(np.float64).eps)
DROP = 33.0
ROUGH, FINE = (np.polynomial.legendre.leggauss(nodes) for nodes in (14, 22))
COLUMNS = 1 << 9  # integrals at a time: they stay in the cache
LEAST = -700.0  # exp of less loses its digits; what lies below is a tangent's end
CLOSE = 0.05  # |log(tail/level)| from which Halley's step, cubic, and a tangent are enough


def _stirling(n: Float) -> Float:
    """log n! - log(sqrt(2 pi n) (n/e)^n), n >= 1, to 2e-14."""
    x = 1.0 / n
    y = x * x
    series = x * (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y * (1 / 1680 - y / 1188))))
    if n.min(initial=16.0) >= 16.0:
        return series
    direct = special.gammaln(n + 1.0) - (n + 0.5) * np.log(n) + n - 0.5 * math.log(2 * math.pi)
    result: Float = np.where(n < 16.0, direct, series)
    return result


def _excess(x: Float, whole: Float) -> Float:
    """x - log(1 + x), whole = 1 + x > 0, relative error 2e-15."""
    v = x / (2.0 + x)
    y = v * v
    series = np.full(x.shape, 1 / 21)
    for odd in range(19, 1, -2):
        series = series * y + 1 / odd
    result: Float = np.where(np.abs(x) < 0.2, v * (x - 2.0 * y * series), x - np.log(whole))
    return result


def log_peak(k: Float, n: Float) -> Float:
    """log P(X = k) at p = k/n, 0 < k < n, to 6e-14 and a rounding of itself."""
    rest = n - k
    return (
        _stirling(n) - _stirling(k) - _stirling(rest) - 0.5 * np.log(2 * math.pi * k * (rest / n))
    )


def deviance(k: Float, n: Float, p: Float, q: Float) -> tuple[Float, Float]:
    """log of P(X = k) at p = k/n over that at p = 1 - q, 0 < k < n, and k - n p.

    p and q are right to 2 ulp; that, and all rounding, moves the deviance by 4 ulp of
    itself and of |k - n p| at most.
    """
    rest = n - k
    gap = np.where(p < q, k - n * p, n * q - rest)
    return k * _excess(-gap / k, n * p / k) + rest * _excess(gap / rest, n * q / rest), gap


def _integral(k: Float, rest: Float, odds: Float, slope: Float, rule: Rule) -> tuple[Float, Float]:
    """The integral above, over u = 1 - exp(-s), and the s up to which the rule goes."""
    bend = rest * odds
    # a guess of where the fall, about slope s + bend s^2 / (2q + s), is DROP
    wide = 1.0 + odds
    line, square = slope - 0.5 * DROP * wide, (slope + bend) * wide
    end = (np.sqrt(line * line + 2.0 * square * DROP) - line) / square
    for _ in range(2):  # tangents of the fall, which is convex
        u = -np.expm1(-end)
        wide = 1.0 + odds * u
        fall = k * end - rest * np.log1p(odds * u)
        end += (DROP - fall) / (k - bend * (1.0 - u) / wide)
    u = -np.expm1(-end)
    wide = 1.0 + odds * u
    beyond = np.exp(rest * np.log1p(odds * u) - k * end) / (k - bend * (1.0 - u) / wide)
    total = np.empty_like(u)
    for low in range(0, len(u), COLUMNS):
        part = slice(low, low + COLUMNS)
        total[part] = _sum(k[part], rest[part], odds[part], 0.5 * u[part], rule)
    return total + beyond, end


def _sum(k: Float, rest: Float, odds: Float, half: Float, rule: Rule) -> Float:
    """int_0^(2 half) (1 - u)^(k-1) (1 + odds u)^rest du."""
    u = np.multiply.outer(rule[0] + 1.0, half)
    values = np.log1p(-u)
    values *= k - 1.0
    u *= odds
    np.log1p(u, out=u)
    u *= rest
    values += u
    np.exp(values, out=values)
    values *= rule[1][:, None]
    result: Float = half * np.cumsum(values, axis=0)[-1]  # one order, however many columns
    return result


def log_tail(k: Float, n: Float, y: Float, rule: Rule = FINE) -> tuple[Float, Float, Float, Float]:
    """log P(X >= k) for X of Binomial(n, exp y), its error at most, and its first two
    derivatives in y; vectors, 1 <= k < n, y < log(k/n).

    The error holds at the float y, and where exp y and 1 - exp y are each 2 ulp off.
    """
    p, q = np.exp(y), -np.expm1(y)
    rest = n - k
    odds = p / q
    lost, gap = deviance(k, n, p, q)
    slope = np.maximum(gap, 0.0) / q
    integral, end = _integral(k, rest, odds, slope, rule)
    value = np.log(k * integral) + log_peak(k, n) - lost
    error = 1e-12 + 8.0 * EPS * (np.abs(value) + lost + np.abs(gap) + k * end)
    first = 1.0 / integral
    return value, error, first, first * (gap / q - first)


def guess(k: Float, n: Float, z: Any) -> Float:
    """log of the p with P(X >= k) = Phi(-z), roughly (Abramowitz and Stegun 26.5.22)."""
    a, b = k, n - k + 1.0
    first, second = 1.0 / (2.0 * a - 1.0), 1.0 / (2.0 * b - 1.0)
    h, shift = 2.0 / (first + second), (z * z - 3.0) / 6.0
    w = z * np.sqrt(h + shift) / h - (second - first) * (shift + 5 / 6 - 2.0 / (3.0 * h))
    result: Float = -np.logaddexp(0.0, np.log(b / a) + 2.0 * w)
    return result


def log_unanimous(n: Any, level: float) -> Any:
    """log_lower where k = n: the n-th root of the level."""
    return (1.0 + 4.0 * EPS) * math.log(level) / n


def log_lower(k: Float, n: Float, level: float) -> Float:
    """A y as large as is known with P(X >= k) <= level for X of Binomial(n, exp y);
    vectors, 1 <= k <= n < 2^53.

    log P(X >= k) is concave in y (a Beta law's density is, on this scale), so that the tangent
    at any y meets log level no further than the curve does: the last one is the proof, with the
    error of its point taken off.
    """
    target = math.log(level)
    result: Float = log_unanimous(n, level)
    open_ = np.flatnonzero(k < n)
    if open_.size:
        result[open_] = _root(k[open_], n[open_], level, target)
    return result


def _root(k: Float, n: Float, level: float, target: float) -> Float:
    """log_lower where k < n: Halley's steps from a guess, and a tangent."""
    middle = np.log(k / n)
    low = np.maximum(target / k + middle - 1.0, LEAST)  # P(X >= k) <= (n e p / k)^k
    y = np.clip(guess(k, n, -float(special.ndtri(level))), low, middle)
    moving = np.ones(k.shape, bool)  # each by itself: its bound is the same in any company
    for _ in range(30):
        value, _, first, second = log_tail(k, n, y, ROUGH)
        off = value - target
        bend = np.maximum(2.0 * first * first - off * second, first * first)
        last, y = y, np.where(moving, np.clip(y - 2.0 * off * first / bend, low, middle), y)
        moving &= (np.abs(off) >= CLOSE) & (y != last)
        if not moving.any():
            break
    value, error, first, _ = log_tail(k, n, y)
    bound: Float = y - (value - target + error) / first - 4.0 * EPS * np.abs(y)
    return bound
