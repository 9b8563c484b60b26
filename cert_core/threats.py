"""Attacks, and the shift of an attack ball that is worst for a noise.

D(lam) = max over |delta|_p <= r of D(lam; delta) is attained, for every lam at
once, at a shift that the table below gives.  Rows are data, keyed by the norm whose
balls are the noise's level sets (None: the level sets are no norm balls).  No pair
enters without a proof or a citation:

(a) Every density of the toolkit is, as a function of one coordinate with the others
    fixed, symmetric and non-increasing in |z_i|.  By layer cakes the overlap
    int min(lam pi0(z), pi0(z - delta)) dz_i is an integral of overlaps of two centred
    intervals, one moved by delta_i, so it falls as |delta_i| grows: on the max-ball of
    radius r the corner (r, ..., r) is worst.  Contains Theorem 3.
(b) When level sets are norm balls, D = lam - int |K_a & (delta + K_b)| dh for balls
    K_a, K_b.  By Brunn-Minkowski each overlap is quasi-concave in delta and it has the
    ball's symmetries, so on a polytope it is least at a vertex.  Contains Theorem 2
    for the l1 attack.
(c) Level sets that are 2-balls: D depends on |delta|_2 alone and rises with it
    (rotate, then (a)); Theorem 2, and Proposition 4 for the l1 and linf attacks.

Noises with finitely many ratios have rows of their own, keyed by what decides their law:

(d) "entries": the law of a copy depends on each entry through that entry alone, or on a
    subset of entries that all orders share; by symmetry the number of changed entries decides
    (for SparseFlips: of added and of deleted ones, and every split of the number is tried),
    and one more change only informs (data processing).
(e) "cube": the noise is uniform on a cube, whose overlap with the moved one is the product of
    (1 - |delta_i|/width)_+, at least 1 - |delta|_1/width, attained along an axis.
(f) "splits": a copy tells between which splits, a width apart, each coordinate lies; it
    changes only if a split lies between x_i and x_i + delta_i for some i, with probability
    |delta|_1/width at most whatever the joint law of the splits, attained along an axis.

A pair without a row is served by inclusion, |delta|_q <= dim^max(0, 1/q - 1/p) |delta|_p
for an attack q that has one: sound, not tight, and the result says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from cert_core.errors import Float, UnsupportedPair, choice, fail, real
from cert_core.rounding import in_full

Kind = Literal["axis", "diagonal", "entries"]
Level = float | str | None  # a norm whose balls are the level sets, or a word of the table

ORDER = {"l1": 1.0, "l2": 2.0, "linf": math.inf}
ATTACKS = tuple(ORDER)
COUNT = "l0"  # the number of changed entries, which is no norm

# (level of a noise, attack) -> (kind of the worst shift, proof)
WORST: dict[tuple[Level, str], tuple[Kind, str]] = {
    (None, "linf"): ("diagonal", "(a), contains Theorem 3"),
    (1.0, "linf"): ("diagonal", "(a), contains Theorem 3"),
    (2.0, "linf"): ("diagonal", "(c), Proposition 4"),
    (math.inf, "linf"): ("diagonal", "(a), contains Theorem 3"),
    (1.0, "l1"): ("axis", "(b), contains Theorem 2"),
    (2.0, "l1"): ("axis", "(c), Proposition 4"),
    (math.inf, "l1"): ("axis", "(b), contains Theorem 2"),
    (2.0, "l2"): ("axis", "(c), Theorem 2"),
    ("entries", COUNT): ("entries", "(d), Lee et al. 2019; Levine and Feizi 2020"),
    ("cube", "l1"): ("axis", "(e), Yang et al. 2020"),
    ("cube", "linf"): ("diagonal", "(a)"),
    ("splits", "l1"): ("axis", "(f), Levine and Feizi 2021, Theorem 2"),
}

# Pairs whose worst shift is known but whose log-ratio law is not closed.
OPEN_LAWS = {(1.0, "linf")}


class Noise(Protocol):
    """What the table needs to know of a noise."""

    @property
    def dim(self) -> int: ...

    @property
    def level_norm(self) -> Level: ...


@dataclass(frozen=True)
class Shift:
    """A perturbation, described: along the first axis, (size, 0, ...), diagonal,
    (size, ..., size), or a change of `size` entries to any other values.

    `tight` says that no perturbation of the attack ball is worse and the ball holds
    this one; otherwise the shift stands for a larger ball, and bounds from it are
    sound but loose.  `reason` is the proof's place in the table.

    Examples
    --------
    >>> shift = cc.worst_shift(cc.Gaussian(4, 1.0), "linf", 0.5)
    >>> shift.kind, shift.size, shift.tight
    ('diagonal', 0.5, True)
    >>> shift.as_array(4)
    array([0.5, 0.5, 0.5, 0.5])
    """

    kind: Kind
    size: float
    tight: bool
    reason: str

    def as_array(self, dim: int) -> Float:
        """The shift as a float64 vector of shape (dim,); of "entries", 1 where one changes."""
        if self.kind == "diagonal":
            return np.full(dim, self.size)
        vector = np.zeros(dim)
        if self.kind == "entries":
            vector[: int(self.size)] = 1.0
            return vector
        vector[0] = self.size
        return vector

    def norm(self, order: float, dim: int) -> float:
        """The norm of the shift: |delta|_order in dim dimensions."""
        if self.kind == "entries":
            raise UnsupportedPair(
                f"shift must be a vector to have a norm, got {self}: use its size"
            )
        if self.kind == "axis" or order == math.inf:
            return self.size
        return self.size * math.pow(dim, 1.0 / order)


def attack_name(value: Any) -> str:
    """value if it names an attack."""
    return str(choice("attack", value, (*ATTACKS, COUNT)))


def radius_value(value: Any) -> float:
    """value as an attack radius."""
    remedy = "pass the attack's radius in input units"
    result = real("radius", value, "finite and >= 0", lambda x: x >= 0, remedy=remedy)
    if result > 1e80:
        raise fail("radius", "at most 1e80", value, remedy)
    return result


def _no_row(noise: Noise, attack: str) -> UnsupportedPair:
    return UnsupportedPair(
        f"attack must be one with a proved worst shift for {noise!r}, got {attack!r}: "
        "choose another attack or noise"
    )


def _included(noise: Noise, attack: str, radius: float) -> Shift:
    """The shift of the smallest ball of an exact attack that holds this attack's ball."""
    p = ORDER[attack]
    for other in ("l1", "linf"):
        row = (noise.level_norm, other)
        if other == attack or row not in WORST or row in OPEN_LAWS:
            continue
        q = ORDER[other]
        exponent = max(0.0, 1.0 / q - 1.0 / p)
        factor = math.pow(noise.dim, exponent)
        kind, proof = WORST[row]
        reason = f"by inclusion in the {other} ball of radius dim^{in_full(exponent)} r; {proof}"
        return Shift(kind, math.nextafter(factor * radius, math.inf), False, reason)
    raise _no_row(noise, attack)


def _changed_entries(noise: Noise, radius: float) -> float:
    """radius as a number of entries."""
    if radius != math.floor(radius) or radius > noise.dim:
        rule = f"a whole number of entries, at most dim = {noise.dim}, under the attack {COUNT!r}"
        raise fail("radius", rule, radius, "pass how many entries may change")
    return radius


def worst_shift(noise: Noise, attack: str, radius: float) -> Shift:
    """Find the perturbation of the attack ball that is worst for a noise.

    Parameters
    ----------
    noise : a noise of the toolkit
    attack : "l1", "l2" or "linf"; "l0" for changed entries
    radius : float >= 0, of the attack's ball; under "l0" a whole number, at most dim

    Returns
    -------
    Shift
        With `tight=False` where no worst shift is proved: then it stands for a ball
        that contains the attack's, and every bound from it errs on the safe side.

    Raises
    ------
    UnsupportedPair
        No sound shift is known.

    References
    ----------
    Zhang et al. 2020, Theorems 2 and 3, Proposition 4; the table of this module.

    Examples
    --------
    >>> cc.worst_shift(cc.Laplace(4, 1.0), "l1", 0.5).as_array(4)
    array([0.5, 0. , 0. , 0. ])
    """
    attack, radius = attack_name(attack), radius_value(radius)
    if not hasattr(noise, "level_norm"):
        raise fail("noise", "a noise of cert_core", noise, "e.g. L2Noise(3072, 1.0, 8)")
    if (attack == COUNT) != (noise.level_norm == "entries"):
        raise _no_row(noise, attack)
    if attack == COUNT:
        radius = _changed_entries(noise, radius)
    elif noise.dim == 1:
        return Shift("axis", radius, True, "(a); in one dimension all attacks are one")
    if (noise.level_norm, attack) not in WORST:
        return _included(noise, attack, radius)
    kind, proof = WORST[noise.level_norm, attack]
    return Shift(kind, radius, True, proof)


def law_shift(noise: Noise, attack: str, radius: float) -> Shift:
    """The shift whose log-ratio law the exact engine evaluates: worst_shift, or an
    inclusion where that shift has no closed law."""
    shift = worst_shift(noise, attack, radius)
    if noise.dim > 1 and (noise.level_norm, attack) in OPEN_LAWS:
        return _included(noise, attack, shift.size)
    return shift


def is_tight(noise: Noise, attack: str) -> bool:
    """Say whether the exact bounds of this pair are the best possible ones.

    Parameters
    ----------
    noise : Noise
    attack : "l1", "l2" or "linf"; "l0" for changed entries

    Returns
    -------
    bool
        False where they are those of a larger ball, whose worst shift has an exact law.

    Raises
    ------
    UnsupportedPair
        No worst shift is known for the pair.
    ValueError
        Unknown attack.

    Examples
    --------
    >>> cc.is_tight(cc.Gaussian(4, 1.0), "linf"), cc.is_tight(cc.Laplace(4, 1.0), "l2")
    (True, False)
    """
    return law_shift(noise, attack_name(attack), 0.0).tight
