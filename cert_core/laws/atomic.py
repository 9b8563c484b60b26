"""Laws with finitely many ratios, by counting: discrete noises, and overlaps.

Independence leaves only the changed entries in the law, so the dimension drops out.  Atoms
come in ascending ratio pi_delta/pi0, their masses as whole numbers over one total (exact: a
double is a fraction), and L is the filling of atoms in this order until pi0 holds p.  Only
the answer is rounded, to its safe side.  Where thousands of entries change the numbers have
too many digits: LongLaw has doubles, and the relative error of each.

The masses are coefficients of powers of polynomials: of (keep y + beta/y + gamma)^r for
categories, y counting entries at the old value less those at the new one, and of
(1 - p_plus + p_plus y)^added (1 - p_minus + p_minus y)^deleted for zeros and ones.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate

import numpy as np

from cert_core.densities import (
    AblationRecord,
    AtomicRecord,
    FlipsRecord,
    OverlapRecord,
    SparseFlipsRecord,
)
from cert_core.errors import Float, NoBracket, UnsupportedPair
from cert_core.laws.base import EPS, LogRatioLaw, up
from cert_core.threats import Shift

EXACT_CHANGES = 128  # changed entries up to which the masses are whole numbers
EXACT_SPLITS = 64  # ... where every split of them is tried
TINY = 1e-290  # above what underflows to 0 in masses that sum to 1


def rounded_down(n: int, d: int) -> float:
    """The largest float not above n/d, d > 0."""
    value = n / d
    a, b = value.as_integer_ratio()
    return math.nextafter(value, -math.inf) if a * d > n * b else value


def rounded_up(n: int, d: int) -> float:
    """The least float not below n/d, d > 0."""
    return 0.0 - rounded_down(-n, d)


class AtomicLaw(LogRatioLaw):
    """Atoms of pi0 (base) and pi_delta (moved), whole numbers of one sum, in ascending ratio;
    their log ratios (levels) in doubles, off by `blur` at most."""

    full_support = False

    def __init__(
        self, base: Sequence[int], moved: Sequence[int], levels: Sequence[float], blur: float
    ) -> None:
        kept = [i for i in range(len(base)) if base[i] or moved[i]]
        self._base, self._moved = [base[i] for i in kept], [moved[i] for i in kept]
        self._levels = [levels[i] for i in kept]
        self._blur = blur
        self._below = [0, *accumulate(self._base)]
        self._moved_below = [0, *accumulate(self._moved)]
        self._total = self._below[-1]

    def _pair(self, t: float) -> tuple[float, float]:
        below = self._below[bisect_right(self._levels, t)]
        return below / self._total, (self._total - below) / self._total

    def _interval(self, t: float) -> tuple[float, float]:
        slack = 0.0 if math.isinf(t) else self._blur
        low, high = (self._below[bisect_right(self._levels, x)] for x in (t - slack, t + slack))
        return rounded_down(low, self._total), rounded_up(high, self._total)

    def _quantile(self, p: float, q: float) -> float:
        n, d = p.as_integer_ratio()
        if n <= 0:
            return -math.inf
        return self._levels[bisect_left(self._below, -(-n * self._total // d)) - 1]

    def required(self, loss: float = 1e-17) -> tuple[float, float]:
        i = bisect_left(self._moved_below, -(-self._total // 2))
        over, moved = 2 * self._moved_below[i] - self._total, self._moved[i - 1]
        n = 2 * moved * self._below[i] - self._base[i - 1] * over
        d = 2 * moved * self._total
        return rounded_up(2 * n - d, 2 * d), rounded_down(d - n, d)

    def lower(self, p: float) -> float:
        n, d = p.as_integer_ratio()
        if n == 0:
            return 0.0
        i = bisect_left(self._below, -(-n * self._total // d))
        over = self._below[i] * d - n * self._total  # of the last atom, times d
        base = self._base[i - 1] * d
        return rounded_down(
            self._moved_below[i] * base - self._moved[i - 1] * over, base * self._total
        )

    def discrepancy(self, lam: float) -> float:
        n, d = lam.as_integer_ratio()
        i = bisect_left(
            range(len(self._base)), True, key=lambda i: self._moved[i] * d >= n * self._base[i]
        )
        return rounded_up(n * self._below[i] - d * self._moved_below[i], d * self._total)


class LongLaw(LogRatioLaw):
    """Atoms with masses in doubles, each sum of them right to `error` relatively.

    Every answer is the best over all lam at the atoms' ratios, where D is a difference of two
    sums; these are put on their safe sides, and so is the ratio, right to `blur` relatively.
    """

    full_support = False

    def __init__(self, base: Float, moved: Float, levels: Float, blur: float, error: float) -> None:
        self._base, self._moved, self._levels = base, moved, levels
        self._blur, self.error = blur + 8 * EPS, error
        self._below = np.concatenate([[0.0], np.cumsum(base)])
        self._above = np.concatenate([np.cumsum(base[::-1])[::-1], [0.0]])
        self._moved_below = np.concatenate([[0.0], np.cumsum(moved)])

    def _up(self, mass: Float | float) -> Float | float:
        return mass * (1 + self.error) + TINY

    def _down(self, mass: Float | float) -> Float | float:
        return np.maximum(mass * (1 - self.error) - TINY, 0.0)

    def _pair(self, t: float) -> tuple[float, float]:
        i = int(np.searchsorted(self._levels, t, side="right"))
        return min(float(self._below[i]), 1.0), min(float(self._above[i]), 1.0)

    def _interval(self, t: float) -> tuple[float, float]:
        slack = 0.0 if math.isinf(t) else self._blur
        i, j = (int(k) for k in np.searchsorted(self._levels, [t - slack, t + slack], side="right"))
        low = max(self._down(self._below[i]), 1.0 - self._up(self._above[i]))
        high = min(self._up(self._below[j]), 1.0 - self._down(self._above[j]))
        return max(math.nextafter(float(low), -1.0), 0.0), min(
            math.nextafter(float(high), 2.0), 1.0
        )

    def _quantile(self, p: float, q: float) -> float:
        if p <= 0:
            return -math.inf
        if p < 0.5:
            i = int(np.searchsorted(self._below[1:], p))
        else:  # the first i with no more than q above it
            i = len(self._base) - int(np.searchsorted(self._above[:0:-1], q, side="right"))
        return float(self._levels[min(max(i, 0), len(self._levels) - 1)])

    def required(self, loss: float = 1e-17) -> tuple[float, float]:
        with np.errstate(over="ignore"):
            slope = np.exp(-np.abs(self._levels))
        short = 0.5 - self._down(self._moved_below[:-1])
        short += self._blur * np.abs(short)
        gain = np.where(self._levels >= 0, short * slope, np.inf)  # lam < 1 is never best
        excess = float((self._up(self._below[:-1]) - 0.5 + gain).min())
        deficit = float((self._down(self._above[:-1]) - gain).max())
        margin = 8 * EPS
        return min(max(excess, 0.0) + margin, 0.5), max(min(deficit, 0.5) - margin, 0.0)

    def lower(self, p: float) -> float:
        if p == 0:
            return 0.0
        if p == 1.0 and np.isfinite(self._levels).all():
            return 1.0
        near = np.abs(self._levels) <= 600.0
        lam = np.exp(np.where(near, self._levels, 0.0))
        below, above = self._up(self._below[:-1]), self._down(self._above[:-1])
        left = np.maximum(
            (p - below) - 4 * EPS * np.maximum(p, below),
            (above - (1.0 - p)) - 4 * EPS * np.maximum(above, 1.0 - p),
        )
        reached, rest = self._down(self._moved_below[:-1]), lam * left
        values = reached + rest - 4 * EPS * reached - self._blur * np.abs(rest)
        return max(float(values[near].max(initial=0.0)), 0.0)

    def discrepancy(self, lam: float) -> float:
        hinge = np.maximum(lam * self._up(self._base) - self._down(self._moved), 0.0)
        return min(max(up(float(hinge.sum()), 8.0 + len(hinge)), lam - 1.0, 0.0), lam)


class WorstLaw(LogRatioLaw):
    """The worst of several laws, one for each perturbation that may be worst."""

    full_support = False

    def __init__(self, laws: Sequence[LogRatioLaw]) -> None:
        self._laws = laws

    def _no_law(self) -> UnsupportedPair:
        return UnsupportedPair(
            "noise must have one worst perturbation for the law of its log ratio: here it is "
            "another one for each p; ask for bounds, or with p_plus = p_minus"
        )

    def _pair(self, t: float) -> tuple[float, float]:
        raise self._no_law()

    def _interval(self, t: float) -> tuple[float, float]:
        raise self._no_law()

    def _quantile(self, p: float, q: float) -> float:
        raise self._no_law()

    def required(self, loss: float = 1e-17) -> tuple[float, float]:
        pairs = [law.required(loss) for law in self._laws]
        return max(excess for excess, _ in pairs), min(deficit for _, deficit in pairs)

    def lower(self, p: float) -> float:
        return min(law.lower(p) for law in self._laws)

    def discrepancy(self, lam: float) -> float:
        return max(law.discrepancy(lam) for law in self._laws)


# ---- masses ----


def power(first: int, middle: int, last: int, r: int) -> list[int]:
    """The coefficients of (first + middle y + last y^2)^r, whole numbers (Miller's recurrence)."""
    if first == 0:
        if middle == 0:
            return [0] * (2 * r) + [last**r]
        return [0] * r + power(middle, last, 0, r)[: r + 1]
    found = [first**r]
    before = 0
    for n in range(1, 2 * r + 1):
        value = (r - n + 1) * middle * found[-1] + (2 * r - n + 2) * last * before
        before = found[-1]
        found.append(value // (n * first))
    return found


def _half_power(first: float, middle: float, last: float, r: int) -> tuple[Float, list[int]]:
    """The lower r + 1 of them, but for a factor, as mantissas and powers of 2: all terms are
    positive, so each step adds a few roundings to the relative error."""
    values, exponents = [1.0], [0]
    before, at, shift = 0.0, 1.0, 0
    for n in range(1, r + 1):
        following = ((r - n + 1) * middle * at + (2 * r - n + 2) * last * before) / (n * first)
        before, at = at, following
        if not 1e-50 < max(at, before) < 1e50:
            scale = math.frexp(max(at, before))[1]
            before, at, shift = math.ldexp(before, -scale), math.ldexp(at, -scale), shift + scale
        values.append(at)
        exponents.append(shift)
    return np.array(values), exponents


def long_power(first: float, middle: float, last: float, r: int) -> Float:
    """The coefficients of (first + middle y + last y^2)^r over their sum, all three > 0."""
    low, up_to = _half_power(first, middle, last, r)
    high, down_to = _half_power(last, middle, first, r)
    mantissas = np.concatenate([low, high[:r][::-1] * (low[r] / high[r])])  # they meet at r
    gap = up_to[r] - down_to[r]
    powers = np.array([*up_to, *(e + gap for e in down_to[:r][::-1])])
    top = int((powers + np.frexp(mantissas)[1]).max())
    scaled = np.ldexp(mantissas, np.maximum(powers - top, -3000))
    masses: Float = scaled / scaled.sum()
    return masses


def binomial(n: int, p: float) -> Float:
    """Masses of Bin(n, p), p < 1, by ratios from the likeliest outwards: each right to a relative
    error of a few n roundings."""
    top = min(int((n + 1) * p), n)
    k = np.arange(1.0, n + 1)
    ratios = (n - k + 1) / k * (p / (1.0 - p))  # of the masses at k and k - 1
    rising = np.cumprod(ratios[top:])
    with np.errstate(divide="ignore"):
        falling = np.cumprod(1.0 / ratios[:top][::-1])[::-1]
    scaled = np.concatenate([falling, [1.0], rising])
    masses: Float = scaled / scaled.sum()
    return masses


# ---- laws of the noises ----


def _log(n: int, d: int) -> float:
    """log(n/d), in its own digits."""
    return math.log1p((n - d) / d) if 2 * abs(n - d) < d else math.log(n / d)


def flips_law(record: FlipsRecord, r: int) -> LogRatioLaw:
    """r entries changed: i at the old value and j at the new one have the ratio
    (beta/keep)^(i - j)."""
    others = record.categories - 1
    n, d = record.keep.as_integer_ratio()
    kept, moved, elsewhere = n * others, d - n, (d - n) * (others - 1)
    if moved == 0:  # the copies tell the inputs apart
        return _overlap(Fraction(1))
    step = -_log(kept, moved)
    order = 1 if step > 0 else -1  # ascending ratio
    blur = 8 * EPS * r * abs(step)
    if r > record.most:
        raise NoBracket(f"radius must be at most {record.most}, got {r}: use a smaller one")
    if r <= EXACT_CHANGES:
        base = power(moved, elsewhere, kept, r)
        levels = [k * step for k in range(-r, r + 1)]
        return AtomicLaw(base[::order], base[::-order], levels[::order], blur)
    total = float(d * others)
    if elsewhere == 0:
        masses, spread = binomial(r, kept / total), step * np.arange(-r, r + 1.0, 2.0)
    else:
        masses = long_power(moved / total, elsewhere / total, kept / total, r)
        spread = step * np.arange(-r, r + 1.0)
    error = 16 * (2 * r + 1) * EPS
    return LongLaw(masses[::order], masses[::-order], spread[::order], blur, error)


def _two_counts(n: int, p: int, m: int, q: int, one: int) -> list[int]:
    """The coefficients of (one - p + p y)^n (one - q + q y)^m, p, q < one: by the differential
    equation that a product of powers solves."""
    u, v = one - p, one - q
    first, middle, last = u * v, u * q + p * v, p * q
    slope, rest = n * p * v + m * q * u, (n + m) * p * q
    found = [u**n * v**m]
    before = 0
    for k in range(1, n + m + 1):
        value = (slope - (k - 1) * middle) * found[-1] + (rest - (k - 2) * last) * before
        before = found[-1]
        found.append(value // (k * first))
    return found


def _sparse_levels(plus: float, minus: float, added: int, deleted: int) -> tuple[Float, float]:
    """The log ratios of q = 0 .. added + deleted, and by how much they are off."""
    q = np.arange(added + deleted + 1.0)
    if plus > 0 < minus:
        logs = math.log1p(-minus), math.log(plus), math.log1p(-plus), math.log(minus)
        up, down = logs[0] - logs[1], logs[2] - logs[3]
        blur = 8 * EPS * len(q) * sum(map(abs, logs))
        return q * (up + down) - added * down - deleted * up, blur
    # without one of the flips the two laws share one q alone
    shared, more = (deleted, added - deleted) if plus == 0 else (added, deleted - added)
    flip = max(plus, minus)
    at = more * math.log(flip) if flip > 0 else -math.inf if deleted == 0 else math.inf
    levels = np.where(q < shared, -np.inf, np.where(q > shared, np.inf, at))
    return levels, 8 * EPS * abs(at) if flip > 0 else 0.0


def sparse_law(
    record: SparseFlipsRecord, added: int, deleted: int, exact: int = EXACT_CHANGES
) -> LogRatioLaw:
    """`added` zeros set and `deleted` ones cleared: the ratio depends on q, the ones among the
    added and zeros among the deleted, alone."""
    r = added + deleted
    plus, minus = record.p_plus, record.p_minus
    levels, blur = _sparse_levels(plus, minus, added, deleted)
    order = 1 if Fraction(plus) + Fraction(minus) <= 1 else -1  # ascending ratio
    if r <= exact:
        (a, b), (c, d) = plus.as_integer_ratio(), minus.as_integer_ratio()
        one = max(b, d)
        a, c = a * (one // b), c * (one // d)
        base = _two_counts(added, a, deleted, c, one)[::order]
        moved = _two_counts(added, c, deleted, a, one)[::-order]
        return AtomicLaw(base, moved, levels[::order].tolist(), blur)
    base_mass = np.convolve(binomial(added, plus), binomial(deleted, minus))
    moved_mass = np.convolve(binomial(added, minus), binomial(deleted, plus))[::-1]
    error = 64 * (r + 1) * EPS
    return LongLaw(base_mass[::order], moved_mass[::order], levels[::order], blur, error)


@lru_cache(maxsize=2)  # 50 MB at most changes
def _split_law(record: SparseFlipsRecord, r: int) -> LogRatioLaw:
    """r entries changed, whichever of them were zeros."""
    if r > record.most:
        raise NoBracket(
            f"radius must be at most {record.most} for the worst split into added and deleted "
            f"entries, got {r}: use sparse_lower_bound"
        )
    if record.p_plus == record.p_minus:  # then all splits have one law
        return sparse_law(record, r, 0)
    exact = EXACT_CHANGES if r <= EXACT_SPLITS else 0
    return WorstLaw([sparse_law(record, a, r - a, exact) for a in range(r + 1)])


def _overlap(lost: Fraction) -> LogRatioLaw:
    """Two laws that agree but on this share of either."""
    n, d = lost.as_integer_ratio()
    return AtomicLaw([n, d - n, 0], [0, d - n, n], [-math.inf, 0.0, math.inf], 0.0)


def ablation_law(record: AblationRecord, r: int) -> LogRatioLaw:
    """Copies that see none of r changed entries agree: C(dim - r, keep) of C(dim, keep)."""
    few, many = sorted((r, record.keep))
    if many == record.dim or few * math.log1p(-many / record.dim) < -800.0:  # below any float
        return _overlap(Fraction(1))
    kept = Fraction(math.perm(record.dim - many, few), math.perm(record.dim, few))
    return _overlap(1 - kept)


def overlap_law(record: OverlapRecord, shift: Shift) -> LogRatioLaw:
    """The cubes (or the cells' splits) of a shift along an axis; cubes along the diagonal."""
    part = min(Fraction(shift.size) / record.width, Fraction(1))
    if shift.kind == "axis":
        return _overlap(part)
    lost = -math.expm1(record.dim * math.log1p(-float(part))) if part < 1 else 1.0
    return _overlap(min(Fraction(up(lost, 32.0)), Fraction(1)))


def overlap_reach(record: OverlapRecord, kind: str, lost: float) -> float:
    """The size of the shift that loses this share, lost <= 1/2, rounded down."""
    part = lost if kind == "axis" else -math.expm1(math.log1p(-lost) / record.dim)
    return float(record.width) * part * (1.0 - 64.0 * EPS)


def atomic_law(record: AtomicRecord, shift: Shift) -> LogRatioLaw:
    """The law of a record under a shift of size > 0."""
    match record:
        case FlipsRecord():
            return flips_law(record, int(shift.size))
        case SparseFlipsRecord():
            return _split_law(record, int(shift.size))
        case AblationRecord():
            return ablation_law(record, int(shift.size))
        case OverlapRecord():
            return overlap_law(record, shift)
