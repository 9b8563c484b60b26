"""Bounds on a smoothed classifier, from the exact law of the log ratio.

p is a lower bound of the class probability at the input; the bounds hold for every
classifier with values in [0, 1] and are the best possible ones where the shift is tight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, overload

import numpy as np

from cert_core.channels import Finite
from cert_core.densities import OverlapRecord
from cert_core.errors import (
    Float,
    NoBracket,
    Number,
    array,
    broadcast,
    probabilities,
    radii,
    scalar,
)
from cert_core.laws import GaussianLaw, LaplaceLaw, log_ratio_law
from cert_core.laws.atomic import overlap_reach
from cert_core.laws.base import SearchedLaw
from cert_core.laws.limits import PEAK, normal_score
from cert_core.noises import Noise
from cert_core.threats import law_shift

SMALLEST, LARGEST = -690.0, 709.0  # log radii beyond which they are no floats
TOGETHER = 10  # steps of a search in radius and lambda at once


def _broadcast(function: Callable[..., float], **arguments: Float) -> Any:
    """function over broadcast arrays, by their names; a float for scalars."""
    arrays = broadcast(**arguments)
    if arrays[0].ndim == 0:
        return function(*(float(a) for a in arrays))
    values = [function(*map(float, row)) for row in zip(*(a.flat for a in arrays), strict=True)]
    return np.array(values, dtype=np.float64).reshape(arrays[0].shape)


@overload
def discrepancy(lam: Number, noise: Noise, attack: str, radius: Number) -> float: ...


@overload
def discrepancy(lam: Any, noise: Noise, attack: str, radius: Any) -> Float: ...


def discrepancy(lam: Any, noise: Noise, attack: str, radius: Any) -> Any:
    """Compute D(lam), the largest E(lam - W)_+ over the attack ball.

    Parameters
    ----------
    lam : float or array, >= 0
    noise : Noise
    attack : "l1", "l2" or "linf"; "l0" for changed entries
    radius : float or array >= 0, in input units; broadcasts with lam

    Returns
    -------
    float or array
        Not below the truth; D(1) is the total variation distance of the two noises.

    Raises
    ------
    UnsupportedPair, ValueError

    References
    ----------
    Zhang et al. 2020, Theorem 1 and Eq. 8.

    Examples
    --------
    >>> round(cc.discrepancy(1.0, cc.Gaussian(4, 1.0), "l2", 1.0), 4)
    0.3829
    """

    remedy = "pass the multiplier of Theorem 1"
    lam = array("lam", lam, "finite and >= 0", lambda x: (x >= 0) & np.isfinite(x), remedy=remedy)
    laws = _Laws(noise, attack)
    return _broadcast(
        lambda x, r: laws.at(r).discrepancy(x) if x > 0 else 0.0,
        lam=lam, radius=radii("radius", radius),
    )  # fmt: skip


class _Laws:
    """The laws of one (noise, attack) pair, the latest kept."""

    def __init__(self, noise: Noise, attack: str) -> None:
        self._pair = noise, attack
        self._law = log_ratio_law(noise, attack, 0.0)
        self._radius = 0.0

    def at(self, radius: float) -> Any:
        if radius != self._radius:
            self._law, self._radius = log_ratio_law(*self._pair, radius), radius
        return self._law


@overload
def lower_bound(p: Number, noise: Noise, attack: str, radius: Number) -> float: ...


@overload
def lower_bound(p: Any, noise: Noise, attack: str, radius: Any) -> Float: ...


def lower_bound(p: Any, noise: Noise, attack: str, radius: Any) -> Any:
    """Bound the smoothed classifier from below at the worst perturbed input.

    Parameters
    ----------
    p : float or array in [0, 1]
        (A lower bound of) the class probability under noise at the clean input.
    noise : Noise
    attack : "l1", "l2" or "linf"; "l0" for changed entries
    radius : float or array >= 0, in input units; broadcasts with p

    Returns
    -------
    float or array
        L(p, radius) = max over lam of lam p - D(lam); never above the truth.

    Raises
    ------
    UnsupportedPair, ValueError

    References
    ----------
    Zhang et al. 2020, Theorem 1; Corollaries 1 (with the erratum of LaplaceLaw) and 2.

    Examples
    --------
    >>> round(cc.lower_bound(0.9, cc.Gaussian(3072, 0.25), "l2", 0.25), 4)
    0.6109
    >>> cc.lower_bound([0.9, 0.99], cc.Laplace(784, 0.5), "l1", 0.4).round(4)
    array([0.7774, 0.9777])
    """
    laws = _Laws(noise, attack)

    def one(p: float, r: float) -> float:
        law = laws.at(r)
        if p in (0.0, 1.0) and law.full_support:
            return p
        return min(max(float(law.lower(p)), 0.0), p)

    return _broadcast(one, p=probabilities("p", p), radius=radii("radius", radius))


def complement_below(p: Float) -> Float:
    """The largest floats not above 1 - p."""
    value = 1.0 - p
    return np.where(1.0 - value < p, np.nextafter(value, 0.0), value)


def complement_above(p: Float) -> Float:
    """The least floats not below 1 - p."""
    value = 1.0 - p
    return np.where(1.0 - value > p, np.nextafter(value, 1.0), value)


@overload
def inverse_bound(level: Number, noise: Noise, attack: str, radius: Number) -> float: ...


@overload
def inverse_bound(level: Any, noise: Noise, attack: str, radius: Any) -> Float: ...


def inverse_bound(level: Any, noise: Noise, attack: str, radius: Any) -> Any:
    """Compute the probability above which the lower bound exceeds a level.

    Parameters
    ----------
    level : float or array in [0, 1]
        What the smoothed classifier has to exceed at every perturbed input.
    noise : Noise
    attack : "l1", "l2" or "linf"
    radius : float or array >= 0, in input units; broadcasts with level

    Returns
    -------
    float or array
        The inverse of L(., radius), never below the truth: an event with a probability above
        it at the clean input has one above `level` at every perturbed input.  By the same
        token the upper bound U(level, radius) = 1 - L(1 - level, radius): an event with
        probability `level` at the clean input has none above it at any perturbed one.  1.0
        where no probability suffices.

    Raises
    ------
    UnsupportedPair, ValueError

    Notes
    -----
    Were p > 1 - L(1 - level) and the probability at a perturbed input `level` or less, the
    complement would have 1 - level or more there; the attack ball holds the way back, so
    1 - p >= L(1 - level): a contradiction, atoms or not.

    References
    ----------
    Zhang et al. 2020, Theorem 1; Chiang et al. 2020, Lemma 1, for the Gaussian.

    Examples
    --------
    >>> round(cc.bounds.inverse_bound(0.5, cc.Gaussian(4, 1.0), "l2", 1.0), 4)
    0.8413
    """
    below = complement_below(probabilities("level", level))
    result = complement_above(np.asarray(lower_bound(below, noise, attack, radius)))
    return scalar(result)


@overload
def required_probability(noise: Noise, attack: str, radius: Number) -> float: ...


@overload
def required_probability(noise: Noise, attack: str, radius: Any) -> Float: ...


def required_probability(noise: Noise, attack: str, radius: Any) -> Any:
    """Compute p_min, the class probability above which a radius is certified.

    Parameters
    ----------
    noise : Noise
    attack : "l1", "l2" or "linf"; "l0" for changed entries
    radius : float or array >= 0, in input units

    Returns
    -------
    float or array
        p_min(radius) = 1 - L(1/2, radius), never below the truth: an input is certified at
        radius if its probability exceeds this.  p_min(0) = 1/2.

    Raises
    ------
    UnsupportedPair, ValueError

    References
    ----------
    Zhang et al. 2020, Theorem 1: L(p) > 1/2.

    Examples
    --------
    >>> cc.required_probability(cc.LinfNoise(784, 1.0), "l1", [0.0, 1.0, 10.0]).round(4)
    array([0.5   , 0.5179, 0.6785])
    """
    laws = _Laws(noise, attack)

    def one(r: float) -> float:
        excess, deficit = laws.at(r).required()
        if r == 0:
            return 0.5
        return _rounded_up(excess, deficit)

    return _broadcast(one, radius=radii("radius", radius))


def _rounded_up(excess: float, deficit: float) -> float:
    """The least float not below 1/2 + excess = 1 - deficit."""
    value = 0.5 + excess if excess < 0.25 else 1.0 - deficit
    short = value - 0.5 < excess if excess < 0.25 else 1.0 - value > deficit  # exact differences
    return min(math.nextafter(value, 2.0) if short else value, 1.0)


def largest_whole(holds: Callable[[int], bool], most: int) -> int:
    """The largest r in [0, most] with holds(r), which is true up to one place and at 0."""
    low, high = 0, 1
    while high <= most and holds(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def finite_radii(noise: Finite, attack: str, p: Float) -> Float:
    """Radii of p in (1/2, 1] under a noise with finitely many ratios."""
    record = noise.record
    if isinstance(record, OverlapRecord):
        shift = law_shift(noise, attack, 1.0)
        return np.array([overlap_reach(record, shift.kind, float(x) - 0.5) / shift.size for x in p])

    @cache
    def needed(r: int) -> tuple[float, float]:
        return log_ratio_law(noise, attack, float(r)).required()

    def sure(r: int) -> bool:
        return log_ratio_law(noise, attack, float(r)).lower(1.0) > 0.5

    def one(p: float) -> int:
        if p < 1.0:
            return _search_entries(needed, p, min(noise.dim, record.most))
        # one change tells: whatever it leaves possible at p = 1, any number of them does
        whole = log_ratio_law(noise, attack, 1.0).lower(1.0) == 1.0
        return noise.dim if whole else largest_whole(sure, min(noise.dim, record.most))

    return np.array([one(float(x)) for x in p], dtype=np.float64)


def _search_entries(needed: Callable[[int], tuple[float, float]], p: float, most: int) -> int:
    """The most entries with p above p_min, p in (1/2, 1): Phi^-1(p_min) is about proportional to
    the root of their number, which is tried, and halves of the bracket in turn."""
    target = normal_score(p - 0.5, 1.0 - p)
    low, high, r, turn = 0, most + 1, 1, 0
    while high - low > 1:
        excess, deficit = needed(r)
        certified = p - 0.5 > excess if p < 0.75 else 1.0 - p < deficit  # exact differences
        low, high = (r, high) if certified else (low, r)
        value, turn = max(normal_score(excess, deficit), 1e-9), turn + 1
        guess = min(r * (target / value) ** 2, most) if turn % 3 else (low + high) / 2
        r = min(max(int(guess), low + 1), high - 1, 4 * low + 4)
    return low


def closed_radii(noise: Noise, attack: str, p: Float) -> Float | None:
    """Radii of p in (1/2, 1) by a closed form, where the law has one; rounded down."""
    law = log_ratio_law(noise, attack, noise.scale_unit)
    one: Callable[[float], float]
    if isinstance(law, GaussianLaw):
        unit, one = law.mu, _gaussian_score
    elif isinstance(law, LaplaceLaw):
        unit, one = law.m, _laplace_score
    else:
        return None
    scale = noise.scale_unit
    return np.array([scale * one(x) / unit * (1 - 1e-14) for x in p.tolist()], dtype=np.float64)


def _gaussian_score(p: float) -> float:
    return normal_score(p - 0.5, 1.0 - p)


def _laplace_score(p: float) -> float:
    return -math.log1p(-2 * (p - 0.5)) if p < 0.75 else -math.log(2 * (1 - p))


def _searched(noise: Noise, attack: str, radius: float) -> SearchedLaw:
    law = log_ratio_law(noise, attack, radius)
    assert isinstance(law, SearchedLaw)  # the others are closed or finite
    return law


class _Steps:
    """Newton's steps to e(x) = 0 = r(x, y) with slopes learnt on the way: those of e, which y
    does not move at the best lambda, by secants, those of r by Broyden's method."""

    def __init__(self, slope: float, growth: float) -> None:
        self.slope, self.growth, self.fall = slope, growth, 1.0  # de/dx, dr/dx, -dr/dy
        self._before: tuple[float, float, float, float, float] | None = None

    def next(self, x: float, y: float, e: float, r: float, doubt: float) -> tuple[float, float]:
        """(dx, dy) from values at (x, y), and how far e is guessed."""
        if self._before is not None and math.isfinite(doubt):
            before_x, before_y, before_e, before_r, before_doubt = self._before
            dx, dy = x - before_x, y - before_y
            if abs(e - before_e) > 50.0 * (doubt + before_doubt) and abs(dx) > 1e-6:
                slope = (e - before_e) / dx
                self.slope = slope if slope > 0.0 else self.slope
            if (square := dx * dx + dy * dy) > 1e-14:
                share = (r - before_r - self.growth * dx + self.fall * dy) / square
                self.growth += share * dx
                self.fall = max(self.fall - share * dy, 0.1)
        self._before = (x, y, e, r, doubt) if math.isfinite(doubt) else None
        dx = -e / self.slope
        return dx, (r + self.growth * dx) / self.fall


def search_radius(noise: Noise, attack: str, p: float) -> float:
    """The radius certified by p in (1/2, 1): certified at the value returned, and not
    within 3e-10 above it, relatively (MixedNoise: 1e-6); 0 where p is so near 1/2 that the law
    cannot tell."""
    found = _search_together(noise, attack, p)
    return _search_nested(noise, attack, p) if found is None else found


def _search_together(noise: Noise, attack: str, p: float) -> float | None:
    """The radius by a search in log radius x and log lambda y tau at once, from where they are
    in the limit of many dimensions; None where that does not settle in a few steps.

    The limit's link is about proportional to the radius, and P(l < -log lambda) = 1/2 at the
    best lambda, where p_min does not move with it.  Any lambda certifies; that none does is said
    only where this one is as good as the best.  The last steps go to either side of the root.
    """
    first = _searched(noise, attack, noise.scale_unit)
    limit, width = first.limit, max(1e-10, 0.02 * first.resolution)
    if not limit.close:
        return None
    apart = max(3e-10, 2.0 * first.resolution)
    target = limit.link(p - 0.5, 1.0 - p)
    shift, slope, tau, growth, rise = limit.start(target)
    steps = _Steps(slope, growth)
    low, high, x, y, near = -math.inf, math.inf, math.log(noise.scale_unit) + shift, 1.0, False
    for _ in range(TOGETHER):
        law = _searched(noise, attack, math.exp(x))
        excess, deficit, gap, rough = law.bound(y * tau, near)
        certified = excess <= p - 0.5 if excess < 0.25 else deficit >= 1.0 - p
        # of them, what more digits would give, and what the best lambda
        rough = min(rough, 0.9 * excess)
        lost = 0.5 * math.exp(-y * tau) * gap * gap / (rise * steps.fall)
        lost = rough + min(lost, 0.9 * (excess - rough))
        value, known, best = (
            math.log(max(limit.link(excess - part, deficit + part), 1e-300) / target)
            for part in (0.0, rough, lost)
        )
        if certified:
            low = max(low, x)
        elif near and value <= 1.01 * best:
            high = min(high, x)
        if high - low < apart:
            return math.exp(low)
        if rise * tau == 0.0 and gap != 0.0:
            return None
        # on a normal scale, which goes on where P is nearly 0 or 1
        rest = normal_score(gap, 0.5 - gap) if gap > 0.0 else -normal_score(-gap, 0.5 + gap)
        rest = PEAK * min(max(rest, -40.0), 40.0) / (rise * tau) if gap != 0.0 else 0.0
        dx, dy = steps.next(x, y, best, rest, known - best)
        if not abs(dx) < 2.0:
            return None
        near = abs(dx) < 1e-6 and abs(dy) < 1e-2 and known - best < 1e-7
        if near:
            dx += -width if low < x + dx - 2 * width else width
        x, y = x + dx, min(4.0 * y, max(0.25 * y, y + dy))
    return None


def _search_nested(noise: Noise, attack: str, p: float) -> float:
    """The radius by a search that finds the best lambda at each.

    log Phi^-1(p_min) is nearly linear in log radius: secants, kept inside the bracket
    [low certified, high not]; the last two steps go to either side of the root.
    """
    target = math.log(normal_score(p - 0.5, 1.0 - p))
    low, high = -math.inf, math.inf
    reach = law_shift(noise, attack, 1.0).norm(2.0, noise.dim)
    x, slope, loss = math.log(noise.rms / reach) + target, 1.0, 1e-12
    before: tuple[float, float] | None = None
    start, creep = x, 1e-10
    for _ in range(200):
        excess, deficit = log_ratio_law(noise, attack, math.exp(x)).required(loss)
        certified = excess <= p - 0.5 if excess < 0.25 else deficit >= 1.0 - p
        low, high = (max(low, x), high) if certified else (low, min(high, x))
        if high - low < 3e-10:
            return math.exp(low)
        if high <= SMALLEST:
            return 0.0
        value = math.log(max(normal_score(excess, deficit), 1e-300)) - target
        # on a step of a law whose digits end there
        creep = 2.0 * creep if before is not None and value == before[1] else 1e-10
        if before is not None and math.isfinite(value) and x != before[0] and value != before[1]:
            slope = (value - before[1]) / (x - before[0])
        if math.isfinite(value):
            before = (x, value)
        x, loss = _next_radius(x, x - value / slope, low, high, start, creep)
    raise NoBracket(f"the radius at p = {p!r} was not enclosed: try a p further from 1/2 and 1")


def _next_radius(
    x: float, root: float, low: float, high: float, start: float, creep: float
) -> tuple[float, float]:
    """The next log radius to try, and the loss a search may allow there."""
    near = abs(root - x) < 1e-5
    if near:
        root += -creep if low < root - 2 * creep else creep
    if not low < root < high or not abs(root - x) < 5.0:
        if math.isfinite(high - low):
            root = 0.5 * (low + high)
        else:
            step = max(2.0, abs(x - start))  # doubles the way from where the search began
            root = x + (step if math.isinf(high) else -step)
            root = min(max(root, SMALLEST), LARGEST)
    return root, (1e-17 if near else 1e-12)
