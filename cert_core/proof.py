"""Certificates proved in ball arithmetic: slow, and asking for no belief in tests.

The engine is fast and tested; its errors are distances from polynomials.  Here nothing is shared
with it but the threat table and a lambda, which may be any: by Theorem 1, for every lam > 0,

    p_min <= (1/2 + D(lam))/lam,   D(lam) = lam P(l <= tau) - P(l >= -tau),  tau = log lam,

and the two probabilities are enclosed by rigorous integration (balls.py; extra `proof`).  Where
l takes finitely many values nothing is enclosed: p_min is a fraction, counted (exact.py).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from cert_core import balls, exact
from cert_core.balls import BITS, HALF, arb, ball, ctx, ends
from cert_core.channels import Finite
from cert_core.errors import MOST_VOTES, UnsupportedPair, fail, integer, positive, real, size
from cert_core.laws import log_ratio_law
from cert_core.noises import (
    Gaussian,
    L1Noise,
    L2Noise,
    Laplace,
    LinfNoise,
    MixedNoise,
    Noise,
    RadialNoise,
    Scaled,
    checked_noise,
)
from cert_core.threats import ORDER, Shift, law_shift

ASIDE = Fraction(1, 2**80)  # relatively, how far below lam D is read: there l has no atom
SHARE = 2.0**-42  # of the smaller of p - 1/2 and 1 - p: the tolerance of one step of a proof
FINEST = 2.0**-72  # where that does not decide
FARTHEST = Fraction(10**80)


def _exact(name: str, value: Any, rule: str, holds: Callable[[Fraction], bool]) -> Fraction:
    """value without rounding: a number, a fraction, or a decimal as text."""
    result = None
    with contextlib.suppress(TypeError, ValueError, OverflowError, ZeroDivisionError):
        ratio = getattr(value, "as_integer_ratio", None)
        result = Fraction(value) if ratio is None else Fraction(*ratio())
    if result is None or isinstance(value, bool) or not holds(result):
        raise fail(name, rule, value, "pass a float, a Fraction, or a decimal as text")
    return result


def _family(noise: Noise) -> tuple[float, float, arb, float]:
    """(norm, power, scale, k) of a radial density."""
    root = arb(2).sqrt()
    match noise:
        case L1Noise(_, b, k):
            return 1.0, 1.0, ball(b), k
        case L2Noise(_, sigma, k):
            return 2.0, 2.0, ball(sigma) * root, k
        case LinfNoise(_, sigma, k):
            return math.inf, 2.0, ball(sigma) * root, k
        case RadialNoise(_, norm, power, scale, k):
            return norm, power, ball(scale), k
        case MixedNoise(1, sigma, k):
            return 2.0, 2.0, ball(sigma) * root, k
    raise UnsupportedPair(
        f"noise must be one whose log-ratio law has a proved integral, got {noise!r}: "
        "no proof is known for it; the radial and closed families have one"
    )


def _size(shift: Shift, attack: str, dim: int, radius: Fraction) -> arb:
    """The shift's size: the radius, or that of the smallest ball of the shift's own attack
    that holds the given one."""
    if shift.tight:
        return ball(radius)
    q = 1.0 if shift.kind == "axis" else math.inf
    return ball(radius) * arb(dim) ** ball(max(0.0, 1 / q - 1 / ORDER[attack]))


def _law(noise: Noise, attack: str, radius: Fraction) -> balls.Law:
    """The law of l at the shift that the threat table names."""
    if isinstance(noise, Scaled):  # shifts are those of delta/scales
        noise = noise.base
    dim, shift = noise.dim, law_shift(noise, attack, float(radius))
    size = _size(shift, attack, dim, radius)
    euclidean = size * arb(dim).sqrt() if shift.kind == "diagonal" else size
    match noise:
        case Gaussian(_, sigma) | MixedNoise(_, sigma, 0.0):
            return balls.Gaussian(euclidean / ball(sigma))
        case Laplace(_, b):
            return balls.Laplace(size / ball(b))
    norm, power, scale, k = _family(noise)
    order, geometry = balls.GEOMETRIES[norm, shift.kind] if dim > 1 else balls.LINE
    reach = (euclidean if order == 2 else size) / scale
    shape = ball(Fraction(dim) - Fraction(k)) / ball(power)
    return balls.Radial(ball(k), ball(power), shape, reach, order, geometry(dim, reach))


def _discrepancy(law: balls.Law, lam: arb, tolerance: float) -> arb:
    """D(lam), from its value a little below: its slope is between 0 and 1."""
    below = lam * (1 - ball(ASIDE))
    t = abs(below.log())
    above, under = law.above(t, arb(tolerance)), law.below(t, arb(tolerance))
    value = below * (1 - above) - 1 + under if below > 1 else below * under - above
    return value + arb(0).union(lam - below)


def discrepancy(
    lam: Any, noise: Noise, attack: str, radius: Any, *, tolerance: float = 1e-12
) -> tuple[float, float]:
    """Enclose D(lam), the largest E(lam - W)_+ over the attack ball.

    Parameters
    ----------
    lam : number, fraction or decimal as text, > 0
    noise : Noise
    attack : "l1", "l2" or "linf"; "l0" for changed entries
    radius : number, fraction or decimal as text, > 0, in input units
    tolerance : float > 0
        The width to aim at, of D(lam)/max(lam, 1).

    Returns
    -------
    (lower, upper) : floats, proved; where no worst shift is proved, of the larger ball

    Raises
    ------
    UnsupportedPair, ValueError

    References
    ----------
    Zhang et al. 2020, Theorem 1 and Eq. 8.

    Examples
    --------
    >>> low, high = cc.proof.discrepancy(1, cc.Gaussian(4, 1.0), "l2", 1)
    >>> low <= cc.discrepancy(1.0, cc.Gaussian(4, 1.0), "l2", 1.0), high - low < 1e-11
    (True, True)
    """
    lam = _exact("lam", lam, "a number > 0", lambda x: x > 0)
    radius = _exact("radius", radius, "a number in (0, 1e80]", lambda x: 0 < x <= FARTHEST)
    tolerance = positive("tolerance", tolerance, remedy="pass the width to aim at, e.g. 1e-12")
    if isinstance(noise, Finite):
        ends_of = [
            max(exact.discrepancy(law, lam) for law in laws)
            for laws in exact.worst(noise, attack, radius)
        ]
        return _down(ends_of[0]), -_down(-ends_of[1])
    with ctx.workprec(BITS):
        law = _law(checked_noise(noise), attack, radius)
        return ends(_discrepancy(law, ball(lam), tolerance / 100))


def _down(value: Fraction) -> float:
    """The largest float not above value."""
    nearest = float(value)
    return math.nextafter(nearest, -math.inf) if Fraction(nearest) > value else nearest


@dataclass(frozen=True)
class Proof:
    """What ball arithmetic, or rational arithmetic, says of one certificate.

    Attributes
    ----------
    holds : bool
        p is proved to certify the radius.  False says that no proof was found: the radius
        may be too large, or `required` too loose.
    required : float
        A proved upper bound of p_min(radius).
    width : float
        What the balls leave open of it.
    lam : float
        The multiplier of Theorem 1 at which it was proved.
    exact : bool
        Whether it was proved by whole numbers alone: then nothing is left open, and False says
        that the radius is not certified (by this ball, where the bound is not tight).

    Examples
    --------
    >>> proof = cc.proof.prove("9/10", cc.Flips(100, 2, 0.8), "l0", 1)
    >>> proof.exact, proof.holds
    (True, True)
    """

    holds: bool
    required: float
    width: float
    lam: float
    exact: bool = False


def prove(p: Any, noise: Noise, attack: str, radius: Any, *, tau: float | None = None) -> Proof:
    """Prove that an input whose class has probability p under noise is certified at radius.

    Parameters
    ----------
    p : number, fraction or decimal as text, in [0, 1]
        (A lower bound of) the class probability; a float is taken for the number it is.
    noise : Noise
    attack : "l1", "l2" or "linf"; "l0" for changed entries
    radius : number, fraction or decimal as text, >= 0, in input units
    tau : float
        log of the multiplier of Theorem 1 to try; by default the engine's.  Not needed where
        l takes finitely many values.

    Returns
    -------
    Proof

    Raises
    ------
    UnsupportedPair
        No proof is known for the pair.
    NoBracket
        The engine has no multiplier to offer.
    ValueError

    References
    ----------
    Zhang et al. 2020, Theorem 1; Johansson 2017 (Arb).

    Examples
    --------
    >>> proof = cc.proof.prove(0.9, cc.Gaussian(4, 1.0), "l2", 1.28)
    >>> proof.holds, round(proof.required, 4)
    (True, 0.8997)
    """
    p = _exact("p", p, "a number in [0, 1]", lambda x: 0 <= x <= 1)
    radius = _exact("radius", radius, "a number in [0, 1e80]", lambda x: 0 <= x <= FARTHEST)
    checked_noise(noise)
    if isinstance(noise, Finite):
        return _counted(p, noise, attack, radius)
    with ctx.workprec(BITS):
        if radius == 0:
            law_shift(noise, attack, 0.0)
            return Proof(p > Fraction(1, 2), 0.5, 0.0, 1.0)
        law = _law(noise, attack, radius)
        if tau is None:
            tau = -float(log_ratio_law(noise, attack, float(radius)).ppf(0.5))
        tau = real("tau", tau, "a finite number", lambda _: True, remedy="pass log of a multiplier")
        lam = arb(tau).exp()
        scale = max(min(abs(float(p) - 0.5), 1.0 - float(p)), 1e-18)
        for tolerance in (SHARE * scale, FINEST):
            required = (HALF + _discrepancy(law, lam, tolerance)) / lam
            if not required.overlaps(ball(p)):
                break
        low, high = ends(required)
        return Proof(required < ball(p), min(1.0, high), high - low, float(lam))


def _counted(p: Fraction, noise: Finite, attack: str, radius: Fraction) -> Proof:
    """The answer for finitely many ratios: of the worst of the laws that may be it."""
    _, laws = exact.worst(noise, attack, radius)
    needed, lam = max(exact.required(law) for law in laws)
    return Proof(p > needed, min(1.0, -_down(-needed)), 0.0, float(lam), True)


@dataclass(frozen=True)
class VotesProof:
    """What ball arithmetic says of one confidence bound.

    Attributes
    ----------
    holds : bool
        The bound is proved.
    tail : float
        A proved upper bound of the probability that it fails, were p_lower the truth.

    Examples
    --------
    >>> proof = cc.proof.prove_votes(95, 100, "0.001", "0.9")
    >>> proof.holds, round(proof.tail, 3)
    (False, 0.058)
    """

    holds: bool
    tail: float


def prove_votes(votes: int, n: int, alpha: Any, p_lower: Any) -> VotesProof:
    """Prove a lower confidence bound of a class probability from its votes.

    p_lower holds at level alpha if P(Bin(n, p_lower) >= votes) <= alpha: whatever the truth
    below p_lower, as many votes are no likelier.

    Parameters
    ----------
    votes, n : int, 0 <= votes <= n
    alpha : number, fraction or decimal as text, in (0, 1/2]
        Probability that the bound exceeds the truth, at most.
    p_lower : number, fraction or decimal as text, in [0, 1]

    Returns
    -------
    VotesProof

    Raises
    ------
    ValueError

    References
    ----------
    Clopper and Pearson 1934.

    Examples
    --------
    >>> cc.proof.prove_votes(950, 1000, "0.001", "0.92").holds
    True
    """
    n = size("n", n, 1, MOST_VOTES, remedy="pass the number of noisy copies")
    votes = integer("votes", votes, 0, n, remedy="pass the class's votes among them")
    alpha = _exact("alpha", alpha, "a number in (0, 0.5]", lambda x: 0 < x <= Fraction(1, 2))
    p = _exact("p_lower", p_lower, "a number in [0, 1]", lambda x: 0 <= x <= 1)
    if p == 0 or votes == 0:  # nothing is claimed; everything is
        return VotesProof(p == 0, float(votes == 0))
    with ctx.workprec(BITS):
        tail = ball(p).beta_lower(votes, n - votes + 1, regularized=True)
        return VotesProof(tail <= ball(alpha), min(1.0, ends(tail)[1]))
