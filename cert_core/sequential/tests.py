"""Deciding from votes while they come in: stopping boundaries and a confidence sequence.

Both are for hard votes, independent and of one probability p, in the order drawn.

A group-sequential test looks at the votes at preset sizes only.  Its boundaries are
exact: at look j it certifies p > threshold from the least number of successes that
keeps the probability of having certified by then, at p = threshold, within its share
of alpha.  The probability comes from a dynamic programme over the successes; every
term is positive, and what is cut off or may be lost in a Fourier transform counts as an
error, so rounding is the only other one and a margin covers it.  Certifying is an
increasing event of the votes, so p below the threshold errs less often.  Giving up early
is ignored in all of this: it can only make errors rarer.

Several thresholds in ascending order are tested on the same votes, each at the full alpha:
only the first one that p does not exceed can err, and the later ones are certified only
together with it.

A confidence sequence holds at all sizes at once, so it may be read at any time, and
gives a bound where a test gives a decision; it costs a few percent of the radius.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, overload

import numpy as np
from scipy import fft

from cert_core.confidence import above_rest, below_exp, counts_of, where_votes
from cert_core.errors import EXACT, Float, Number, fail, integer, integers, items, real, scalar
from cert_core.errors import alpha as alpha_value
from cert_core.errors import size as size_value
from cert_core.tails import EPS, LEAST, deviance, guess, log_peak, log_tail

CUT = 1e-30  # terms of a binomial law below this share of its largest are cut off
DIRECT = 1 << 24  # products of terms, above which a law of a sum is found by transforms
LARGEST = 10**9  # sample sizes whose laws are exact to MARGIN, and take seconds
MARGIN = 1e-9  # relative, above the rounding of the dynamic programme (1e-11)

CLOSE = 1e-5  # |log(mixture) - log(1/alpha)| from which one tangent is as good as the root

Looks = tuple[int, ...]


def geometric_looks(n_max: int, *, first: int = 100, ratio: float = 1.5) -> Looks:
    """List the sample sizes first, first * ratio, ..., up to n_max.

    Parameters
    ----------
    n_max : int >= 1
        The last look.
    first : int >= 1
        The first one.
    ratio : float > 1

    Returns
    -------
    tuple of int, ascending

    Raises
    ------
    ValueError
        An argument out of its domain.

    Examples
    --------
    >>> cc.sequential.geometric_looks(1000, first=100, ratio=2.0)
    (100, 200, 400, 800, 1000)
    """
    last = size_value("n_max", n_max, 1, EXACT, remedy="pass the most samples an input may use")
    remedy = "pass the sample size of the first look"
    size = float(size_value("first", first, 1, EXACT, remedy=remedy))
    remedy = "pass how fast looks grow, e.g. 1.5"
    step = real("ratio", ratio, "a number >= 1.01", lambda x: x >= 1.01, remedy=remedy)
    looks = []
    while math.ceil(size) < last:
        looks.append(math.ceil(size))
        size = max(size * step, looks[-1] + 1.0)
    return (*looks, last)


def looks_of(looks: Sequence[int]) -> Looks:
    """looks as ascending positive ints."""
    remedy = "pass sample sizes, e.g. of geometric_looks"
    sizes = tuple(integers("looks", looks, 1, remedy=remedy))
    if not sizes or any(b <= a for a, b in pairwise(sizes)) or sizes[-1] > EXACT:
        raise fail("looks", "ascending and not empty, up to 2^53", sizes, remedy)
    return sizes


def _binomial(n: int, p: float) -> tuple[int, Float]:
    """(least k kept, probabilities from there on) of Binomial(n, p), by ratios from the mode."""
    if p <= 0.0 or p >= 1.0:
        return (n if p >= 1.0 else 0), np.ones(1)
    mode = min(int((n + 1) * p), n)
    reach = int(12 * math.sqrt(n * p * (1 - p)) + 80)
    low, high = max(0, mode - reach), min(n, mode + reach)
    odds = p / (1 - p)
    up = np.arange(mode, high)
    down = np.arange(mode, low, -1)
    above = np.cumprod((n - up) / (up + 1.0) * odds)
    below = np.cumprod(down / (n - down + 1.0) / odds)
    terms = np.concatenate((below[::-1], [1.0], above))
    kept = np.flatnonzero(terms > CUT)
    terms = terms[kept[0] : kept[-1] + 1]
    return low + int(kept[0]), terms / terms.sum()


def _walks(p: float, looks: Looks) -> Iterator[tuple[int, list[Any]]]:
    """Yield (look, [offset, probabilities of offset, offset + 1, ... successes]) look by
    look; the caller cuts off what has stopped before asking for the next."""
    state: list[Any] = [0, np.ones(1)]
    for j, (before, n) in enumerate(zip((0, *looks), looks, strict=False)):
        if not len(state[1]):
            return
        offset, step = _binomial(n - before, p)
        state = [state[0] + offset, _sum_law(state[1], step)]
        yield j, state


def _sum_law(a: Float, b: Float) -> Float:
    """The law of a sum of two, term by term where that is quick.

    Else by Fourier transforms, every term with the most that they may have lost of it.  That is
    one amount for all terms, so the laws are tilted, again and again from the slope at the last
    term that stood out, until the right end stands out too: boundaries read it.
    """
    if len(a) * len(b) <= DIRECT:
        return np.convolve(a, b)
    size = len(a) + len(b) - 1
    length = fft.next_fast_len(size, real=True)
    places, result = np.arange(size), np.full(size, np.inf)
    with np.errstate(divide="ignore"):
        logs = [np.log(a), np.log(b)]
    tilt, seen, last = 0.0, -1, 0
    while seen < last:
        tilted = [x + tilt * places[: len(x)] for x in logs]
        tops = [x.max() for x in tilted]
        first, second = (np.exp(x - top) for x, top in zip(tilted, tops, strict=True))
        product = fft.rfft(first, length) * fft.rfft(second, length)
        terms = np.maximum(fft.irfft(product, length)[:size], 0.0)
        spread = np.linalg.norm(first) * second.sum() + np.linalg.norm(second) * first.sum()
        terms += 8.0 * EPS * math.log2(length) * spread
        np.minimum(result, terms * np.exp(np.minimum(sum(tops) - tilt * places, 700.0)), out=result)
        seen, last = last, int(np.flatnonzero(terms > 1e-4 * terms.max())[-1])
        tilt += math.log(terms[last - 1] / terms[last])
    return result


def _upper_boundary(threshold: float, level: float, looks: Looks) -> tuple[Looks, float]:
    """Least successes that certify p > threshold at each look, and the size of the test."""
    if threshold >= 1.0:
        return tuple(n + 1 for n in looks), 0.0
    spent = 2.0 * looks[-1] * CUT
    boundary = [n + 1 for n in looks]
    for j, state in _walks(threshold, looks):
        offset, mass = state
        tails = np.cumsum(mass[::-1])[::-1]
        budget = level * (1.0 - MARGIN) * ((j + 1) / len(looks)) - spent
        passed = int(np.searchsorted(-tails, -budget)) if budget > 0 else len(mass)
        boundary[j] = offset + passed
        spent += float(tails[passed]) if passed < len(mass) else 0.0
        state[1] = mass[:passed]
    return tuple(boundary), spent * (1.0 + MARGIN)


def _hopeless(boundary: Looks, looks: Looks) -> Looks:
    """Most successes at each look with which no later look can certify; -1 at the last."""
    worst = [-1] * len(looks)
    need = math.inf
    for j in range(len(looks) - 2, -1, -1):
        need = min(need, boundary[j + 1] - looks[j + 1])
        worst[j] = int(max(min(need + looks[j] - 1, looks[j]), -1))
    return tuple(worst)


@dataclass(frozen=True, kw_only=True)
class Boundaries:
    """An exact group-sequential test of p > threshold.

    Attributes
    ----------
    threshold, alpha : float
    looks : tuple of int
        Sample sizes at which the votes are looked at.
    certify : tuple of int
        Successes from which p > threshold is certified at each look (more than the look's
        size: never).
    futility : tuple of int
        Successes up to which the test gives up: the mirrored test, which certifies
        p < threshold, or no later look can certify.
    size : float
        Probability of certifying at p = threshold if the test never gave up; at most
        alpha, and never below the truth.

    Examples
    --------
    >>> test = cc.sequential.boundaries(0.7, 0.001, [50, 100, 200])
    >>> test.certify, test.futility
    ((46, 85, 162), (22, 61, 117))
    >>> passed, samples = test.performance(0.9)
    >>> round(passed, 3), round(samples, 1)
    (1.0, 82.4)
    """

    threshold: float
    alpha: float
    looks: Looks
    certify: Looks
    futility: Looks
    size: float

    def performance(self, p: float) -> tuple[float, float]:
        """Compute the probability of certifying, and the mean number of samples, at p.

        Parameters
        ----------
        p : float in [0, 1]

        Returns
        -------
        (float, float)
            Exact to about 1e-10, giving up included.
        """
        rule, remedy = "a number in [0, 1]", "pass a class probability"
        chance = real("p", p, rule, lambda x: 0 <= x <= 1, remedy=remedy)
        certified, mean, going = 0.0, 0.0, 1.0
        last = 0
        for j, state in _walks(chance, self.looks):
            mean += going * (self.looks[j] - last)
            last = self.looks[j]
            offset, mass = state
            top = min(max(self.certify[j] - offset, 0), len(mass))
            bottom = min(max(self.futility[j] + 1 - offset, 0), top)
            certified += float(mass[top:].sum())
            state[0], state[1] = offset + bottom, mass[bottom:top]
            going = float(state[1].sum())
        return certified, mean


@lru_cache(maxsize=256)
def _boundaries(threshold: float, level: float, looks: Looks) -> Boundaries:
    certify, size = _upper_boundary(threshold, level, looks)
    mirrored, _ = _upper_boundary(1.0 - threshold, level, looks)
    hopeless = _hopeless(certify, looks)
    futility = tuple(
        max(n - up, lost) for n, up, lost in zip(looks, mirrored, hopeless, strict=True)
    )
    return Boundaries(
        threshold=threshold, alpha=level, looks=looks, certify=certify, futility=futility, size=size
    )


def boundaries(threshold: float, alpha: float, looks: Sequence[int]) -> Boundaries:
    """Compute the boundaries of the exact group-sequential test of p > threshold.

    Valid for independent votes of one probability, looked at in the preset sizes and
    nowhere else.  The same alpha is spent at every look, with what earlier ones left over.

    Parameters
    ----------
    threshold : float in (0, 1]
        Such as required_probability(noise, attack, radius).
    alpha : float in (0, 1/2]
        Probability of certifying although p <= threshold, at most.
    looks : ascending ints
        Sample sizes, fixed in advance, e.g. of geometric_looks.

    Returns
    -------
    Boundaries
        Kept for later calls with the same arguments.

    Raises
    ------
    ValueError
        An argument out of its domain, or looks beyond 10**9 samples.

    References
    ----------
    Armitage, McPherson and Rowe 1969 (the recursion); Lan and DeMets 1983 (spending).

    Examples
    --------
    >>> cc.sequential.boundaries(0.7, 0.001, [50, 100, 200]).certify
    (46, 85, 162)
    """
    rule, remedy = "a number in (0, 1]", "pass the probability to exceed"
    p0 = real("threshold", threshold, rule, lambda x: 0 < x <= 1, remedy=remedy)
    sizes = looks_of(looks)
    if sizes[-1] > LARGEST:
        raise fail("looks", "at most 10**9 samples", sizes[-1], "lower n_max")
    return _boundaries(p0, alpha_value(alpha), sizes)


@dataclass
class FixedSequence:
    """One input's way through tests of ascending thresholds on the same votes.

    Attributes
    ----------
    tests : Boundaries of ascending thresholds, of the same looks and alpha
    passed : int
        How many thresholds, from the lowest, p is certified to exceed; all of them
        together err with probability alpha at most.
    decided : bool
        Whether a boundary ended it, not the last look.

    Examples
    --------
    >>> tests = [cc.sequential.boundaries(p, 0.001, [50, 100]) for p in (0.6, 0.7)]
    >>> path = cc.sequential.FixedSequence(tuple(tests))
    >>> path.update(50, 50), path.passed, path.decided
    (True, 2, True)
    """

    tests: tuple[Boundaries, ...]
    passed: int = field(default=0, init=False)
    decided: bool = field(default=False, init=False)
    _look: int = field(default=0, init=False, repr=False)
    _crossed: list[bool] = field(init=False, repr=False)
    _given_up: list[bool] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rule = "boundaries of tests"
        given = items("tests", self.tests, rule, remedy="make them by boundaries")
        for test in given:
            own = isinstance(test, Boundaries)
            if not own or test != boundaries(test.threshold, test.alpha, test.looks):
                raise fail("tests", rule, test, "make them by boundaries")
        plans = {(test.looks, test.alpha) for test in self.tests}
        thresholds = [test.threshold for test in self.tests]
        if len(plans) != 1 or thresholds != sorted(thresholds):
            rule = "tests of one alpha and the same looks, thresholds ascending"
            raise fail("tests", rule, thresholds, "make them by boundaries")
        self._crossed = [False] * len(self.tests)
        self._given_up = [False] * len(self.tests)

    def update(self, successes: int, n: int) -> bool:
        """Take the successes among the first n votes; return whether to stop.

        Raises
        ------
        ValueError
            n is not the next look, or successes are not possible.
        """
        looks = self.tests[0].looks
        due = looks[self._look] if self._look < len(looks) and not self.decided else None
        if n != due:
            raise fail("n", f"the next look, {due}", n, "look at the planned sizes alone")
        k = integer("successes", successes, 0, n, remedy="pass the votes for the class")
        for level, test in enumerate(self.tests):
            self._crossed[level] |= k >= test.certify[self._look]
            self._given_up[level] |= k <= test.futility[self._look]
        self._look += 1
        self.passed = (*self._crossed, False).index(False)
        self.decided = self.passed == len(self.tests) or self._given_up[self.passed]
        return self.decided or self._look == len(looks)


def _log_mixture(k: Float, n: Float, y: Float) -> tuple[Float, Float, Float]:
    """log of the mixture martingale at p = exp y, its error, and its derivative in y; vectors,
    1 <= k <= n, p < k/n.

    It is the deviance of p from k/n, times what does not depend on p, times the share of the
    Beta law of k + 1 and n - k + 1 above p, over 1 - p.
    """
    p, q = np.exp(y), -np.expm1(y)
    lost, gap, peak = -n * y, n * q, np.zeros(k.shape)
    tail, wrong, slope = (n + 1.0) * y, np.zeros(k.shape), n + 1.0
    some = np.flatnonzero(k < n)
    if some.size:
        votes, total = k[some], n[some]
        lost[some], gap[some] = deviance(votes, total, p[some], q[some])
        peak[some] = log_peak(votes, total)
        tail[some], wrong[some], slope[some], _ = log_tail(votes + 1.0, total + 1.0, y[some])
    below = np.minimum(np.exp(tail), 1.0 - EPS)
    value = lost - peak - np.log(n + 1.0) + np.log1p(-below) - np.log(q)
    odds = below / (1.0 - below)
    error = 1e-12 + 8.0 * EPS * (np.abs(value) + lost + np.abs(gap)) + odds * (wrong + 1e-14)
    return value, error, (p - gap) / q - odds * slope


def _log_mixture_lower(k: Float, n: Float, level: float) -> Float:
    """A y as large as is known at which the mixture rejects exp y; vectors, 1 <= k <= n.

    The log of the mixture is convex in y and falls: it is the mean of
    v^(n-k) (v + (1 - v) exp(-y))^k over v in (0, 1).  So a tangent at any y meets the goal where
    the curve is above it, and the last one is the proof.
    """
    goal, rest, middle = -math.log(level), np.maximum(n - k, 0.5), np.log(k / n)
    deviance_left = goal + np.log(rest) - 0.5 * np.log(2.0 * math.pi * k * rest / n)
    y = np.clip(guess(k, n, np.sqrt(2.0 * np.maximum(deviance_left, 0.5))), LEAST, middle)
    for _ in range(60):
        value, error, slope = _log_mixture(k, n, y)
        off = value - error - goal
        last, better = y, np.clip(y - off / slope, LEAST, middle)
        y = np.where(np.abs(off) < CLOSE, y, better)  # each by itself, whatever its company
        if (y == last).all():
            break
    return last - off / slope - 4.0 * EPS * np.abs(last)


@overload
def mixture_lower(k: Number, n: Number, alpha: float) -> float: ...


@overload
def mixture_lower(k: Any, n: Any, alpha: float) -> Float: ...


def mixture_lower(k: Any, n: Any, alpha: float) -> Any:
    """Bound a success probability from below at all sample sizes at once.

    A confidence sequence: valid for independent votes of one probability, read at any
    time, however that time was chosen, and at several times (then the largest value holds).

    Parameters
    ----------
    k, n : int or integer arrays, 0 <= k <= n
        Successes among the first n votes; they broadcast.
    alpha : float in (0, 1/2]
        Probability that the bound ever exceeds the truth, at most.

    Returns
    -------
    float or array
        Never above the exact value of the sequence; 0.0 where k = 0.

    Raises
    ------
    ValueError
        An argument out of its domain.

    Notes
    -----
    The mean over q, uniform on (p, 1), of the likelihood ratio of q to p is a
    supermartingale for every truth <= p; Ville's inequality rejects p once it reaches
    1/alpha.

    References
    ----------
    Ville 1939; Robbins 1970; Howard et al. 2021.

    Examples
    --------
    >>> round(cc.sequential.mixture_lower(950, 1000, 0.001), 4)
    0.9165
    """
    level = alpha_value(alpha)
    votes, total = counts_of(k, n)
    return scalar(below_exp(where_votes(_log_mixture_lower, votes, total, level)))


@overload
def mixture_upper(k: Number, n: Number, alpha: float) -> float: ...


@overload
def mixture_upper(k: Any, n: Any, alpha: float) -> Float: ...


def mixture_upper(k: Any, n: Any, alpha: float) -> Any:
    """Bound a success probability from above at all sample sizes at once.

    Parameters
    ----------
    k, n, alpha
        As in mixture_lower.

    Returns
    -------
    float or array
        1 - mixture_lower(n - k, n, alpha), rounded up; 1.0 where k = n.

    Raises
    ------
    ValueError
        An argument out of its domain.

    Examples
    --------
    >>> round(cc.sequential.mixture_upper(50, 1000, 0.001), 4)
    0.0835
    """
    level = alpha_value(alpha)
    votes, total = counts_of(k, n)
    return scalar(above_rest(where_votes(_log_mixture_lower, total - votes, total, level)))
