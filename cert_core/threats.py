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

A pair without a row is served by inclusion, |delta|_q <= dim^max(0, 1/q - 1/p) |delta|_p
for an attack q that has one: sound, not tight, and the result says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from cert_core.errors import Float, UnsupportedPair, choice, fail, real

Kind = Literal["axis", "diagonal"]

ORDER = {"l1": 1.0, "l2": 2.0, "linf": math.inf}
ATTACKS = tuple(ORDER)

# (norm of the level sets or None, attack) -> (kind of the worst shift, proof)
WORST: dict[tuple[float | None, str], tuple[Kind, str]] = {
    (None, "linf"): ("diagonal", "(a), contains Theorem 3"),
    (1.0, "linf"): ("diagonal", "(a), contains Theorem 3"),
    (2.0, "linf"): ("diagonal", "(c), Proposition 4"),
    (math.inf, "linf"): ("diagonal", "(a), contains Theorem 3"),
    (1.0, "l1"): ("axis", "(b), contains Theorem 2"),
    (2.0, "l1"): ("axis", "(c), Proposition 4"),
    (math.inf, "l1"): ("axis", "(b), contains Theorem 2"),
    (2.0, "l2"): ("axis", "(c), Theorem 2"),
}

# Pairs whose worst shift is known but whose log-ratio law is not closed.
OPEN_LAWS = {(1.0, "linf")}


class Noise(Protocol):
    """What the table needs to know of a noise."""

    @property
    def dim(self) -> int: ...

    @property
    def level_norm(self) -> float | None: ...


@dataclass(frozen=True)
class Shift:
    """A perturbation, described: along the first axis, (size, 0, ...), or diagonal,
    (size, ..., size).

    `tight` says that no perturbation of the attack ball is worse and the ball holds
    this one; otherwise the shift stands for a larger ball, and bounds from it are
    sound but loose.  `reason` is the proof's place in the table.
    """

    kind: Kind
    size: float
    tight: bool
    reason: str

    def as_array(self, dim: int) -> Float:
        """The shift as a float64 vector of shape (dim,)."""
        if self.kind == "diagonal":
            return np.full(dim, self.size)
        vector = np.zeros(dim)
        vector[0] = self.size
        return vector

    def norm(self, order: float, dim: int) -> float:
        """The norm of the shift: |delta|_order in dim dimensions."""
        if self.kind == "axis" or order == math.inf:
            return self.size
        return self.size * math.pow(dim, 1.0 / order)


def attack_name(value: Any) -> str:
    """value if it names an attack."""
    return str(choice("attack", value, ATTACKS))


def radius_value(value: Any) -> float:
    """value as an attack radius."""
    remedy = "pass the attack's radius in input units"
    result = real("radius", value, "finite and >= 0", lambda x: x >= 0, remedy=remedy)
    if result > 1e80:
        raise fail("radius", "at most 1e80", value, remedy)
    return result


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
        reason = f"by inclusion in the {other} ball of radius dim^{exponent:g} r; {proof}"
        return Shift(kind, math.nextafter(factor * radius, math.inf), False, reason)
    raise UnsupportedPair(
        f"attack must be one with a proved worst shift for {noise!r}, got {attack!r}: "
        "choose another attack or noise"
    )


def worst_shift(noise: Noise, attack: str, radius: float) -> Shift:
    """Find the perturbation of the attack ball that is worst for a noise.

    Parameters
    ----------
    noise : a noise of the toolkit
    attack : "l1", "l2" or "linf"
    radius : float >= 0, of the attack's ball

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
    """
    attack, radius = attack_name(attack), radius_value(radius)
    if not hasattr(noise, "level_norm"):
        raise fail("noise", "a noise of cert_core.NOISES", noise, "e.g. L2Noise(3072, 1.0, 8)")
    if noise.dim == 1:
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
    attack : "l1", "l2" or "linf"

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
    """
    return law_shift(noise, attack_name(attack), 0.0).tight
