"""Laws with finitely many ratios in rational arithmetic: slow, and nothing in them is rounded.

Nothing is shared with the engine (laws.atomic) but the threat table: atoms are counted from the
noise's definition, over every way in which changed entries can turn out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import cmp_to_key

from cert_core.channels import Ablation, Finite, Flips, SparseFlips, Splitting, Uniform
from cert_core.errors import UnsupportedPair, fail
from cert_core.threats import ORDER, law_shift

MOST, MOST_SPLIT = 512, 96  # changed entries: each way is counted; of SparseFlips, for each split
FINE = 2**160  # in parts of which a root is rounded

Law = list[tuple[int, int]]  # masses under pi0 and pi_delta, of one total under pi0


def worst(noise: Finite, attack: str, radius: Fraction) -> tuple[list[Law], list[Law]]:
    """Laws of which one is that of the worst perturbation: of a ball that lies within the one
    that the threat table names, and of one that holds it; the same where they are that ball."""
    shift = law_shift(noise, attack, float(radius))
    if isinstance(noise, Uniform | Splitting):
        low, high = _sizes(shift.kind, shift.tight, attack, noise.dim, radius)
        inner, outer = ([_moved(noise, shift.kind, size)] for size in (low, high))
        return inner, outer
    most = MOST_SPLIT if isinstance(noise, SparseFlips) else MOST
    changes = int(radius)
    if changes > most and not isinstance(noise, Ablation):
        raise fail("radius", f"at most {most} entries for a proof", changes, "use the engine")
    found = list(_changed(noise, changes))
    return found, found


def _changed(noise: Finite, r: int) -> Iterator[Law]:
    match noise:
        case Flips():
            yield _flips(noise, r)
        case SparseFlips():
            for added in range(r + 1):
                yield _sparse(noise, added, r - added)
        case Ablation(dim, keep):
            yield _overlap(1 - Fraction(math.comb(dim - r, keep), math.comb(dim, keep)))
        case _:
            raise UnsupportedPair(
                f"noise must be one whose ratios are counted here, got {noise!r}: no proof is "
                "known for it"
            )


def _overlap(lost: Fraction) -> Law:
    """Copies of both inputs agree but for a share."""
    n, d = lost.as_integer_ratio()
    return [(n, 0), (d - n, d - n), (0, n)]


def _flips(noise: Flips, r: int) -> Law:
    """i entries at the old value, j at the new one, the others elsewhere."""
    n, d = noise.keep.as_integer_ratio()
    stay, move, other = (
        [share**i for i in range(r + 1)]
        for share in (n * (noise.categories - 1), d - n, (d - n) * (noise.categories - 2))
    )
    masses = dict.fromkeys(range(-r, r + 1), 0)
    for i in range(r + 1):
        for j in range(r + 1 - i):
            ways = math.comb(r, i) * math.comb(r - i, j)
            masses[i - j] += ways * stay[i] * move[j] * other[r - i - j]
    return [(mass, masses[-k]) for k, mass in masses.items()]


def _sparse(noise: SparseFlips, added: int, deleted: int) -> Law:
    """q ones among the added and zeros among the deleted, one law for each of the two inputs."""
    flips = Fraction(noise.p_plus), Fraction(noise.p_minus)
    whole = math.lcm(*(flip.denominator for flip in flips))
    plus, minus = (int(flip * whole) for flip in flips)
    first = _convolved(_binomial(added, plus, whole), _binomial(deleted, minus, whole))
    second = _convolved(
        _binomial(added, whole - minus, whole), _binomial(deleted, whole - plus, whole)
    )
    return list(zip(first, second, strict=True))


def _binomial(n: int, hit: int, whole: int) -> list[int]:
    return [math.comb(n, k) * hit**k * (whole - hit) ** (n - k) for k in range(n + 1)]


def _convolved(one: list[int], other: list[int]) -> list[int]:
    found = [0] * (len(one) + len(other) - 1)
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            found[i + j] += a * b
    return found


def _moved(noise: Uniform | Splitting, kind: str, size: Fraction) -> Law:
    """The share of a cube (of offsets) that a shift leaves."""
    if isinstance(noise, Splitting):
        width = Fraction(noise.width) / noise.levels
    else:
        width = 2 * Fraction(noise.scale)
    kept = max(1 - size / width, Fraction(0))
    return _overlap(1 - (kept if kind == "axis" else kept**noise.dim))


def _sizes(
    kind: str, tight: bool, attack: str, dim: int, radius: Fraction
) -> tuple[Fraction, Fraction]:
    """The radius of the ball whose law it is, from both sides."""
    q = 1.0 if kind == "axis" else math.inf
    power = 0.0 if tight else max(0.0, 1 / q - 1 / ORDER[attack])
    if power == 0.5:
        root = Fraction(math.isqrt(dim * FINE * FINE), FINE)
        return radius * root, radius * (root + Fraction(1, FINE))
    return radius * dim ** int(power), radius * dim ** int(power)


def required(law: Law) -> tuple[Fraction, Fraction]:
    """(p_min, the multiplier of Theorem 1 there): pi0's share of what holds half of pi_delta."""
    total = sum(base for base, _ in law)

    def order(one: tuple[int, int], other: tuple[int, int]) -> int:
        return one[1] * other[0] - other[1] * one[0]  # by pi_delta/pi0

    below, reached = 0, Fraction(0)
    for base, moved in sorted((atom for atom in law if atom[0]), key=cmp_to_key(order)):
        share = Fraction(moved, total)
        if moved and reached + share >= Fraction(1, 2):
            part = (Fraction(1, 2) - reached) / share
            return (below + part * base) / total, Fraction(moved, base)
        below, reached = below + base, reached + share
    return Fraction(1), Fraction(1)


def discrepancy(law: Law, lam: Fraction) -> Fraction:
    """E(lam - W)_+."""
    total = sum(base for base, _ in law)
    return sum((max(lam * base - moved, Fraction(0)) for base, moved in law), Fraction(0)) / total
