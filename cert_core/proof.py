"""Certificates proved in ball arithmetic: slow, and asking for no belief in tests.

The engine is fast and tested; its errors are distances from polynomials.  Here nothing is shared
with it but the threat table and a lambda, which may be any: by Theorem 1, for every lam > 0,

    p_min <= (1/2 + D(lam))/lam,   D(lam) = lam P(l <= tau) - P(l >= -tau),  tau = log lam,

and the two probabilities are enclosed by rigorous integration (balls.py; extra `proof`); so too
by shells (shells.py), where every multipliers that fall outwards will do.  Where
l takes finitely many values nothing is enclosed: p_min is a fraction, counted (exact.py).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from cert_core import balls, exact
from cert_core.balls import BITS, HALF, arb, ball, ctx, ends
from cert_core.channels import Finite
from cert_core.errors import (
    MOST_VOTES,
    UnsupportedPair,
    fail,
    integer,
    positive,
    real,
    size,
    to_numpy,
    vote_table,
)
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
    level_record,
)
from cert_core.shells import multipliers
from cert_core.threats import ORDER, Shift, law_shift

ASIDE = Fraction(1, 2**80)  # relatively, how far below lam D is read: there l has no atom
SHARE = 2.0**-42  # of the smaller of p - 1/2 and 1 - p: the tolerance of one step of a proof
FINEST = 2.0**-72  # where that does not decide
FARTHEST = Fraction(10**80)
HIGHEST = 600.0  # log of a multiplier of shells


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
        case Gaussian(_, sigma):
            return 2.0, 2.0, ball(sigma) * root, 0.0
        case Laplace(_, b):
            return 1.0, 1.0, ball(b), 0.0
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
        "the radial and closed families have one, MixedNoise with k > 0 would take days"
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
    size, euclidean, _ = _shifted(noise, attack, radius)
    match _unscaled(noise):
        case Gaussian(_, sigma) | MixedNoise(_, sigma, 0.0):
            return balls.Gaussian(euclidean / ball(sigma))
        case Laplace(_, b):
            return balls.Laplace(size / ball(b))
    return _radial(noise, attack, radius)


def _unscaled(noise: Noise) -> Noise:
    return noise.base if isinstance(noise, Scaled) else noise  # shifts are those of delta/scales


def _shifted(noise: Noise, attack: str, radius: Fraction) -> tuple[arb, arb, str]:
    """The shift's largest coordinate, its length, and its kind."""
    dim, shift = noise.dim, law_shift(_unscaled(noise), attack, float(radius))
    size = _size(shift, attack, dim, radius)
    return size, size * arb(dim).sqrt() if shift.kind == "diagonal" else size, shift.kind


def _radial(noise: Noise, attack: str, radius: Fraction) -> balls.Radial:
    size, euclidean, kind = _shifted(noise, attack, radius)
    norm, _, scale, k = _family(_unscaled(noise))
    order, geometry = balls.GEOMETRIES[norm, kind] if noise.dim > 1 else balls.LINE
    reach = (euclidean if order == 2 else size) / scale
    norms = _norms(noise)
    return balls.Radial(ball(k), norms.power, norms.shape, reach, order, geometry(noise.dim, reach))


def _norms(noise: Noise) -> balls.Norm:
    """The law of |z|/scale."""
    _, power, _, k = _family(_unscaled(noise))
    return balls.Norm(ball(Fraction(noise.dim) - Fraction(k)) / ball(power), ball(power))


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


def prove_shells(
    a: Any, thresholds: Any, noise: Noise, attack: str, radius: Any, *, taus: Any = None
) -> Proof:
    """Prove that an input is certified at radius by the masses of its class by shell.

    Parameters
    ----------
    a : (J,) numbers, fractions or decimals as text, in [0, 1], non-decreasing
        (Lower bounds of) the class's mass within each threshold, as in shell_lower_bound; the
        last one is p.
    thresholds : (J-1,) numbers > 0, rising
        In input units, of the norm whose balls are the noise's level sets.
    noise : Noise, of a radial family
    attack : "l1", "l2" or "linf"
    radius : number, fraction or decimal as text, >= 0, in input units
    taus : (J,) floats, non-increasing
        log of the multiplier of each shell to try, at most 600 (-inf: of none; inf: of shells
        whose mass is all of the noise); by default the engine's, and one for all shells where
        those prove nothing.

    Returns
    -------
    Proof
        `required` bounds the p that is enough where all masses are smaller in one proportion (it
        is p, or 1, where masses are all of the noise); `lam` is the innermost multiplier.

    Raises
    ------
    UnsupportedPair
        A noise without shells, or a pair without a proof.
    NoBracket
        The engine has no multiplier to offer.
    ValueError

    References
    ----------
    The text of shells.py; Zhang et al. 2020, Theorem 1, is J = 1.

    Examples
    --------
    >>> noise = cc.L2Noise(64, 1.0, 56)
    >>> thresholds = cc.shell_thresholds(noise, [0.5])
    >>> cc.proof.prove_shells([0.49, 0.9], thresholds, noise, "l2", 0.45).holds
    True
    >>> cc.proof.prove(0.9, noise, "l2", 0.45).holds
    False
    """
    level_record(noise)
    masses, edges = _masses(a, thresholds)
    radius = _exact("radius", radius, "a number in [0, 1e80]", lambda x: 0 <= x <= FARTHEST)
    p = masses[-1]
    if radius == 0:
        return prove(p, noise, attack, radius)
    if taus is not None:
        return _shells_at(_falling(taus, len(masses)), masses, edges, noise, attack, radius)
    rounded, near = ([float(x) for x in each] for each in (masses, edges))
    tried = multipliers(rounded, near, noise, attack, float(radius))
    found = _shells_at(tried, masses, edges, noise, attack, radius)
    if found.holds:
        return found
    return min(found, prove(p, noise, attack, radius), key=lambda proof: proof.required)


def _masses(a: Any, thresholds: Any) -> tuple[list[Fraction], list[Fraction]]:
    """Both without rounding, as many as belong together."""
    masses = _several("a", a, "a number in [0, 1]", lambda x: 0 <= x <= 1)
    edges = _several("thresholds", thresholds, "a number in (0, 1e80]", lambda x: 0 < x <= FARTHEST)
    if len(masses) != len(edges) + 1:
        rule = f"{len(edges) + 1} masses, one more than there are thresholds"
        raise fail("a", rule, len(masses), "pass those within each threshold, and p")
    for name, values, rising in (
        ("a", masses, "non-decreasing"), ("thresholds", edges, "rising"),
    ):  # fmt: skip
        if any(y < x or (y == x and name != "a") for x, y in pairwise(values)):
            raise fail(name, rising, [float(x) for x in values], "pass what was counted by")
    return masses, edges


def _several(
    name: str, values: Any, rule: str, holds: Callable[[Fraction], bool]
) -> list[Fraction]:
    """Numbers without rounding, listed or in an array."""
    if not isinstance(values, list | tuple):
        values = to_numpy(name, values)
        if values.ndim != 1:
            raise fail(name, f"a sequence, each {rule}", values.tolist(), "pass a list")
        values = values.tolist()
    return [_exact(name, value, rule, holds) for value in values]


def _falling(taus: Any, count: int) -> list[float]:
    """taus as floats."""
    given = to_numpy("taus", taus, np.float64)
    high = (given > HIGHEST) & (given < np.inf)
    if given.shape != (count,) or high.any() or not (given[1:] <= given[:-1]).all():
        rule = f"{count} numbers that do not rise, at most {HIGHEST:g} or infinite"
        raise fail("taus", rule, given.tolist(), "leave them out for the engine's")
    found: list[float] = given.tolist()
    if math.isnan(found[0]):
        raise fail("taus", "numbers", found, "leave them out for the engine's")
    return found


def _shells_at(
    taus: Sequence[float], masses: list[Fraction], edges: list[Fraction], noise: Noise,
    attack: str, radius: Fraction,
) -> Proof:  # fmt: skip
    """The proof by these multipliers, a little below them all, where l has no atom."""
    finite = [tau for tau in taus if math.isfinite(tau)]
    if taus[0] == -math.inf or any(later > tau for tau, later in pairwise(taus)):
        return Proof(False, 1.0, 0.0, 0.0)
    with ctx.workprec(BITS + max([0, *(math.ceil(1.5 * tau) for tau in finite)])):
        law, (_, _, scale, _) = _radial(noise, attack, radius), _family(_unscaled(noise))
        ends = [arb(0), *(ball(edge) / scale for edge in edges), balls.ENDLESS]
        below = (1 - ball(ASIDE)).log()
        parts = [y - x for x, y in pairwise([Fraction(0), *masses])]
        cells, won, first = list[balls.Cell](), arb(0), 0
        for tau, several in groupby(taus):
            last = first + len(list(several))
            if tau > -math.inf:
                cells.append(balls.Cell(ends[first], ends[last], arb(tau) + below))
            if math.isfinite(tau):
                won += cells[-1].tau.exp() * ball(sum(parts[first:last], Fraction(0)))
            if tau == math.inf and not _all_of_it(ball(masses[last - 1]), noise, ends[last]):
                return Proof(False, 1.0, 0.0, tau)
            first = last
        margin = min(abs(float(masses[-1]) - 0.5), 1.0 - float(masses[-1]))
        for tolerance in (SHARE * max(margin, 1e-18), FINEST):
            needed = HALF + balls.discrepancy(law, cells, arb(tolerance / 100))
            if not needed.overlaps(won):
                break
        holds, p = needed < won, ball(masses[-1])
        low, high = balls.ends(
            p * needed / won if math.isfinite(taus[0]) else p if holds else arb(1)
        )
        return Proof(holds, min(1.0, high), high - low, float(cells[0].tau.exp()))


def _all_of_it(mass: arb, noise: Noise, end: arb) -> bool:
    """Whether a mass is all that the noise has within a norm."""
    return mass >= 1 or mass >= _norms(noise).between(arb(0), end, arb(FINEST))


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
        tail = _tail(votes, n, ball(p))
        return VotesProof(tail <= ball(alpha), min(1.0, ends(tail)[1]))


def prove_shell_votes(
    votes: Any, samples: Any, alpha: Any, a: Any, thresholds: Any, noise: Noise
) -> VotesProof:
    """Prove lower bounds of the masses of a class by shell from its votes by shell.

    Of N_j copies within the j-th threshold, which hold M_j of the noise, K_j are votes: a_j holds
    at level alpha/J if P(Bin(N_j, a_j/M_j) >= K_j) <= alpha/J, or if an inner mass holds that is
    no smaller.

    Parameters
    ----------
    votes, samples : (J,) ints
        Votes for the class, out of so many samples, of each shell.
    alpha : number, fraction or decimal as text, in (0, 1/2]
        Probability that one of the masses exceeds the truth, at most.
    a, thresholds, noise
        As in prove_shells.

    Returns
    -------
    VotesProof
        `tail` is J times the largest one.

    Raises
    ------
    UnsupportedPair
        A noise without shells.
    ValueError

    References
    ----------
    Clopper and Pearson 1934; the text of shell_votes.py.

    Examples
    --------
    >>> noise = cc.L2Noise(64, 1.0, 56)
    >>> given = [490, 430], [500, 500], 0.001, [0.47, 0.88], cc.shell_thresholds(noise, [0.5])
    >>> cc.proof.prove_shell_votes(*given, noise).holds
    True
    """
    level_record(noise)
    masses, edges = _masses(a, thresholds)
    count = len(masses)
    alpha = _exact("alpha", alpha, "a number in (0, 0.5]", lambda x: 0 < x <= Fraction(1, 2))
    cast, drawn = (vote_table(*each).tolist() for each in (("votes", votes), ("samples", samples)))
    if not _are_votes(cast, drawn, count):
        rule = f"of {count} shells, as samples are, none below 0 or more than those"
        raise fail("votes", rule, cast, "pass what was counted")
    with ctx.workprec(BITS):
        (_, _, scale, _), norms, worst = _family(_unscaled(noise)), _norms(noise), arb(0)
        for j, (inner, mass) in enumerate(pairwise([Fraction(0), *masses]), 1):
            if mass == inner:
                continue
            share = ball(mass)
            if j < count:
                share /= norms.between(arb(0), ball(edges[j - 1]) / scale, arb(FINEST))
            worst = worst.max(_tail(sum(cast[:j]), sum(drawn[:j]), share))
        tail = count * worst
        return VotesProof(tail <= ball(alpha), min(1.0, ends(tail)[1]))


def _tail(votes: int, n: int, p: arb) -> arb:
    """P(Bin(n, p) >= votes) for p > 0, at the largest p that the ball holds."""
    p = p.upper()
    if votes == 0 or not p < 1:
        return arb(1)
    return p.beta_lower(votes, n - votes + 1, regularized=True)


def _are_votes(cast: list[int], drawn: list[int], count: int) -> bool:
    return np.shape(cast) == np.shape(drawn) == (count,) and all(
        0 <= votes <= most for votes, most in zip(cast, drawn, strict=True)
    )
