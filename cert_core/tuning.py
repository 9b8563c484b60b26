"""A noise chosen for a classifier on one part of the data, and certified on another.

More noise buys robustness for accuracy (the paper's Eq. 9); which noise is best hangs on the
classifier and on the radius.  Candidates are judged by sequential tests, an input after the
other, and at each radius by itself the worse half leaves after every round (successive halving:
Karnin, Koren and Somekh 2013; Jamieson and Talwalkar 2016).

The best of many estimates is the one that luck helped most, so its own number is too high.  What
is reported of a winner is therefore certified afresh, on inputs that no choice has seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cert_core.bounds import required_probability
from cert_core.calibration import certified_radius
from cert_core.certificates import ABSTAIN, Certificates, certified_accuracy, check_sampling
from cert_core.channels import check_independent
from cert_core.confidence import betting_lower, binomial_lower, binomial_upper
from cert_core.errors import (
    EXACT,
    Float,
    array,
    check_callable,
    fail,
    flag,
    integer,
    integers,
    items,
    radii,
    real,
    size,
    to_numpy,
)
from cert_core.noises import Noise, checked_noise
from cert_core.sequential.certificates import SequentialCertificates, gather
from cert_core.sequential.plans import RadiiPlan, plan_at
from cert_core.sequential.tests import boundaries, geometric_looks
from cert_core.smoothed import Smoothed
from cert_core.threats import COUNT

AVERAGE = "average"  # the objective that is no radius
STEPS = 8  # of the average radius, where it is asked for
BLOCK = 64  # inputs of one candidate that are judged together at most
STAKES = np.arange(1, 16) / 16.0  # what players bet of their money, each of them all the time
SAMPLES = "pass how many noisy copies to classify"

Objective = float | str
Judge = Callable[[int, list[int]], tuple[Any, Any]]


@dataclass(frozen=True)
class Round:
    """One round of a search: the candidates judged, the inputs and passes by its end.

    Examples
    --------
    >>> judge = lambda candidate, inputs: ([float(candidate)] * len(inputs), [10] * len(inputs))
    >>> cc.tuning.search(judge, [10, 10], range(9), [1.0], 100, top=1.0).rounds
    (Round(alive=(0, 1), inputs=5, passes=100),)
    """

    alive: tuple[int, ...]
    inputs: int
    passes: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """What a search found, by estimates that are too high for the winners.

    Attributes
    ----------
    objectives : tuple of float or "average"
    winners : tuple of int, the candidate chosen for each objective
    rivals : tuple of tuples of int
        Of each objective the candidates that the search did not tell from the best: with
        probability 1 - rho the best one is the winner or among these.
    radius : tuple of (n,) float64 arrays
        Of each candidate the radius certified with the right label, or 0, of the first n inputs.
    passes : tuple of int, of each candidate
    inputs : tuple of int, in the order in which they were judged
    rounds : tuple of Round
    budget : int, which the passes of all do not exceed
    top : float, up to which radii count
    rho : float

    Examples
    --------
    >>> judge = lambda candidate, inputs: ([float(candidate)] * len(inputs), [10] * len(inputs))
    >>> found = cc.tuning.search(judge, [10, 10], range(9), [1.0], 100, top=1.0)
    >>> found.estimate(0, 1.0), found.estimate(1, 1.0), found.passes
    (0.0, 1.0, (50, 50))
    """

    objectives: tuple[Objective, ...]
    winners: tuple[int, ...]
    rivals: tuple[tuple[int, ...], ...]
    radius: tuple[Float, ...]
    passes: tuple[int, ...]
    inputs: tuple[int, ...]
    rounds: tuple[Round, ...]
    budget: int
    top: float
    rho: float

    def estimate(self, candidate: int, objective: Objective) -> float:
        """The mean over the inputs that the candidate was judged by; of a winner too high."""
        found = self.radius[candidate]
        value = float(_scores(found, objective, self.top).mean()) if len(found) else 0.0
        return value * (self.top if objective == AVERAGE else 1.0)


@dataclass(frozen=True, kw_only=True)
class Fresh:
    """What a winner certifies on inputs, and by votes, that did not choose it: unbiased.

    Attributes
    ----------
    objective : float or "average"
    candidate : int
    value : float
        Certified accuracy at the radius, or the average certified radius.
    error : float, its standard error
    lower, upper : float
        An interval that misses the mean over the inputs' law with probability rho at most: exact
        binomial of an accuracy, by betting of an average.
    inputs, passes : int

    Examples
    --------
    >>> band = lambda batch: (abs(batch[:, 0]) < 1).astype(int)
    >>> x = np.linspace(-2, 2, 80, dtype=np.float32)[:, None]
    >>> noises = [cc.Gaussian(1, 0.2), cc.Gaussian(1, 2.0)]
    >>> smooth = lambda noise: cc.Smoothed(band, noise, 2)
    >>> tuned = cc.tuning.tune(smooth, noises, x, band(x), "l2", 40_000, 0, radii=[0.2], n=300)
    >>> (fresh,) = tuned.fresh
    >>> fresh.inputs, fresh.passes, fresh.lower < fresh.value < fresh.upper
    (40, 16000, True)
    """

    objective: Objective
    candidate: int
    value: float
    error: float
    lower: float
    upper: float
    inputs: int
    passes: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuned:
    """Noises tuned, and the winners certified.

    Attributes
    ----------
    noises : tuple of Noise, the candidates
    search : Search, on the tuning part
    fresh : tuple of Fresh, of each objective, on the other part
    certificates : dict of int to Certificates, of each winner on that part
    parts : (tuning, fresh), tuples of int

    Examples
    --------
    >>> band = lambda batch: (abs(batch[:, 0]) < 1).astype(int)
    >>> x = np.linspace(-2, 2, 80, dtype=np.float32)[:, None]
    >>> noises = [cc.Gaussian(1, 0.2), cc.Gaussian(1, 2.0)]
    >>> smooth = lambda noise: cc.Smoothed(band, noise, 2)
    >>> tuned = cc.tuning.tune(smooth, noises, x, band(x), "l2", 40_000, 0, radii=[0.2], n=300)
    >>> [tuned.noises[winner] for winner in tuned.search.winners]
    [Gaussian(dim=1, sigma=0.2)]
    >>> [len(part) for part in tuned.parts], len(tuned.certificates[0])
    ([40, 40], 40)
    """

    noises: tuple[Noise, ...]
    search: Search
    fresh: tuple[Fresh, ...]
    certificates: Mapping[int, Certificates] = field(repr=False)
    parts: tuple[tuple[int, ...], tuple[int, ...]] = field(repr=False)


def split(
    inputs: Sequence[int], seed: int, *, share: float = 0.5, tuning: Sequence[int] | None = None,
    fresh: Sequence[int] | None = None,
) -> tuple[tuple[int, ...], tuple[int, ...]]:  # fmt: skip
    """Part inputs in two that share none: to tune by, in a random order, and to certify.

    Parameters
    ----------
    inputs : sequence of int >= 0, their places in the data set
    seed : int >= 0, of the order
    share : float in (0, 1), of the inputs that tune
    tuning, fresh : sequences of int, optional
        A part that is fixed; the other one is then the rest, unless it is fixed as well.

    Returns
    -------
    (tuning, fresh)
        Tuples of int: the first in the order of NumPy's default generator of this seed, the
        other ascending.

    Raises
    ------
    ValueError
        An input in both parts or twice, or a part without any.

    Examples
    --------
    >>> tuning, fresh = cc.tuning.split(range(10), 0, fresh=[7, 8, 9])
    >>> sorted(tuning), fresh
    ([0, 1, 2, 3, 4, 5, 6], (7, 8, 9))
    """
    remedy = "pass the inputs' places in the data, each once"
    given = integers("inputs", inputs, 0, remedy=remedy)
    key = integer("seed", seed, 0, 2**64 - 1, remedy="pass any 64-bit unsigned integer")
    part = real("share", share, "a number in (0, 1)", lambda x: 0 < x < 1, remedy="e.g. 0.5")
    order = np.random.default_rng(key)
    if tuning is None and fresh is None:
        mixed = order.permutation(given).tolist()
        cut = round(part * len(mixed))
        first, second = mixed[:cut], mixed[cut:]
    else:
        named = {
            name: integers(name, listed, 0, remedy=remedy)
            for name, listed in (("tuning", tuning), ("fresh", fresh))
            if listed is not None
        }
        taken = set().union(*named.values())
        rest = [index for index in given if index not in taken]
        first, second = named.get("tuning", rest), named.get("fresh", rest)
        first = order.permutation(first).tolist() if first else []
    for name, listed in (("tuning", first), ("fresh", second)):
        if not listed or len(set(listed)) < len(listed):
            rule = "one input or more, none of them twice"
            raise fail(name, rule, sorted(listed), remedy)
    if both := sorted(set(first) & set(second)):
        rule = "without inputs that tune: their numbers would be too good"
        raise fail("fresh", rule, both, "pass parts that share no input")
    return tuple(first), tuple(sorted(second))


def ladder(
    noises: Sequence[Noise], attack: str, levels: Sequence[float], average: bool, n_max: int,
    alpha: float,
) -> tuple[float, ...]:  # fmt: skip
    """The radii at which candidates are judged: those asked for and, for the average radius,
    steps up to the largest that n_max votes could certify under any of the noises."""
    found = set(levels)
    if average:
        most = binomial_lower(n_max, n_max, alpha)
        top = max(float(certified_radius(most, noise, attack)) for noise in noises)
        steps = [top * i / (STEPS + 1) for i in range(1, STEPS + 1)]
        found |= {float(math.ceil(r) if attack == COUNT else f"{r:.3g}") for r in steps}
    return tuple(sorted(found - {0.0}))


def plans_of(
    noises: Sequence[Noise], attack: str, objectives: Sequence[Objective], n_max: int,
    alpha: float, n0: int,
) -> dict[int, RadiiPlan]:  # fmt: skip
    """The plans that judge the candidates, each at those of the radii that n_max votes could
    certify under it; a candidate has none where that is none of them."""
    asked = [float(o) for o in objectives if o != AVERAGE]
    levels = ladder(noises, attack, asked, AVERAGE in objectives, n_max, alpha)
    looks = geometric_looks(n_max)

    def reachable(noise: Noise, radius: float) -> bool:
        test = boundaries(required_probability(noise, attack, radius), alpha, looks)
        return any(k <= n for k, n in zip(test.certify, looks, strict=True))

    kept = [[r for r in levels if reachable(noise, r)] for noise in noises]
    for radius in set(asked) - {r for each in kept for r in each}:
        rule = "small enough for one of the noises and n_max"
        raise fail("radii", rule, radius, "drop it, raise n_max, or add more noise")
    if not any(kept):
        rule, remedy = "such that n_max votes certify some radius", "raise n_max, or add more noise"
        raise fail("noises", rule, list(noises), remedy)
    return {
        i: plan_at(noise, attack, each, n_max=n_max, alpha=alpha, n0=n0)
        for i, (noise, each) in enumerate(zip(noises, kept, strict=True))
        if each
    }


def most_passes(plans: Mapping[int, RadiiPlan], count: int) -> list[int]:
    """The most passes of each of the candidates for an input; 0 of those without a plan."""
    return [plans[i].n0 + plans[i].looks[-1] if i in plans else 0 for i in range(count)]


def objectives_of(levels: Any, average: bool) -> tuple[Objective, ...]:
    """The objectives, ascending radii first."""
    remedy = "pass radii to choose for, e.g. [0.25, 0.5]"
    given = np.atleast_1d(radii("radii", levels))
    found = np.unique(given)
    if given.ndim != 1 or len(found) != len(given) or (found == 0).any():
        raise fail("radii", "distinct numbers > 0", levels, remedy)
    chosen: list[Objective] = [float(r) for r in found]
    chosen += [AVERAGE] if flag("average", average) else []
    if not chosen:
        raise fail("radii", "one at least, where no average is asked for", levels, remedy)
    return tuple(chosen)


def judged(certificates: SequentialCertificates, labels: Any) -> tuple[Float, Any]:
    """The radii certified with the right label, 0 where there is none, and the passes taken."""
    return _held(certificates, labels), certificates.samples


def _held(certificates: Certificates, labels: Any) -> Float:
    """The radii certified with the right label, 0 where there is none."""
    right = (certificates.label == np.asarray(labels)) & (certificates.label != ABSTAIN)
    return np.where(right, certificates.radius, 0.0)


def _scores(radius: Float, objective: Objective, top: float) -> Float:
    """What each input adds to an objective, in [0, 1]."""
    if objective == AVERAGE:
        return np.minimum(radius, top) / top
    return (radius >= float(objective)).astype(np.float64)


def _fortune(gaps: Float) -> float:
    """log of the most that a player ever had who bets on gaps in [-1, 1], one after the other.

    Where their mean, given those before, is never above 0, it reaches log(1/rho) with probability
    rho at most (Ville 1939), whenever one looks.
    """
    if not len(gaps):
        return 0.0
    money = np.log1p(STAKES[:, None] * gaps).cumsum(axis=1)
    return max(float(np.logaddexp.reduce(money, axis=0).max()) - math.log(len(STAKES)), 0.0)


class _Search:
    """The state of a search."""

    def __init__(
        self, judge: Judge, most: list[int], inputs: list[int], objectives: list[Objective],
        budget: int, top: float, rho: float,
    ) -> None:  # fmt: skip
        self.judge, self.most, self.inputs, self.budget, self.top = judge, most, inputs, budget, top
        self.count, every = 0, list(range(len(most)))
        self.radius: list[Float] = [np.empty(0) for _ in every]
        self.passes = [0] * len(most)
        self.brackets = dict.fromkeys(objectives, every)
        self.rivals: dict[Objective, set[int]] = {o: set(every) for o in objectives}
        self.enough = math.log(max(len(most) - 1, 1) / rho)

    def left(self) -> int:
        return self.budget - sum(self.passes)

    def round(self, alive: list[int], allowance: int) -> Round:
        """Judge further inputs by all that are alive, while the most they could take is there."""
        worst = sum(self.most[c] for c in alive)
        end = self.left() - allowance
        while self.count < len(self.inputs):
            rest = len(self.inputs) - self.count
            block = min(BLOCK, rest, (self.left() - end) // worst if worst else rest)
            if block < 1:
                break
            chosen = self.inputs[self.count : self.count + block]
            for candidate in alive:
                self._take(candidate, chosen)
            self.count += block
        return Round(tuple(alive), self.count, sum(self.passes))

    def _take(self, candidate: int, chosen: list[int]) -> None:
        remedy = "return what was certified, and the passes that it took"
        if self.most[candidate] == 0:
            found, passes = np.zeros(len(chosen)), np.zeros(len(chosen), dtype=np.int64)
        else:
            answer = items("judge", self.judge(candidate, chosen), "of two arrays", remedy=remedy)
            if len(answer) != 2:
                raise fail("judge", "of two arrays", answer, remedy)
            found = array("judge", answer[0], ">= 0", lambda x: x >= 0, remedy=remedy)
            passes = np.asarray(
                integers("judge", answer[1], 0, self.most[candidate], remedy=remedy)
            )
        if found.shape != (len(chosen),) or passes.shape != (len(chosen),):
            rule = f"two arrays of {len(chosen)} numbers, one an input"
            raise fail("judge", rule, (found.shape, passes.shape), remedy)
        self.radius[candidate] = np.concatenate([self.radius[candidate], found])
        self.passes[candidate] += int(passes.sum())

    def scores(self, objective: Objective, candidate: int) -> Float:
        return _scores(self.radius[candidate], objective, self.top)

    def halve(self, objective: Objective) -> None:
        """Keep the better half of what is left, ties by the average radius and then by order,
        and of these what the best is not told to be better than."""
        bracket = self.brackets[objective]
        ranked = sorted(
            bracket,
            key=lambda c: (
                -self.scores(objective, c).mean(), -self.scores(AVERAGE, c).mean(), c
            ),
        )  # fmt: skip
        self.tell_apart(objective, ranked[0])
        half = ranked[: -(-len(ranked) // 2)]
        self.brackets[objective] = [
            c for c in half if c == ranked[0] or c in self.rivals[objective]
        ]

    def tell_apart(self, objective: Objective, best: int) -> None:
        """Drop from the rivals those that the inputs they share tell to be worse than this one."""
        ahead = self.scores(objective, best)
        for rival in self.rivals[objective] - {best}:
            other = self.scores(objective, rival)
            if _fortune(ahead[: len(other)] - other) >= self.enough:
                self.rivals[objective].discard(rival)


def rounds_of(count: int) -> int:
    """Rounds that halve so many candidates to one."""
    return math.ceil(math.log2(count))


def checked_budget(value: Any, most: Sequence[int]) -> int:
    """value if it is enough for every candidate to judge one input in every round."""
    if len(most) < 2:
        raise fail("most", "of two candidates at least", most, "there is nothing to choose from")
    turns = rounds_of(len(most))
    least = turns * sum(most)
    if size("budget", value, 1, EXACT, remedy="pass how many passes may be spent") < least:
        rule = f"at least {least}, for one input by each candidate in each of {turns} rounds"
        raise fail("budget", rule, value, "raise it, lower n_max, or drop candidates")
    return int(value)


def search(
    judge: Judge,
    most: Sequence[int],
    inputs: Sequence[int],
    objectives: Sequence[Objective],
    budget: int,
    *,
    top: float,
    rho: float = 0.05,
) -> Search:
    """Find the best of some candidates for every objective by successive halving.

    Parameters
    ----------
    judge : callable (candidate, inputs) -> (radii, passes)
        Of inputs, by their places, the radius that the candidate certifies with the right label
        (0: none), and the passes taken; asked of an input once.  A candidate's answers to other
        inputs tell nothing of one.
    most : sequence of int >= 0
        The most passes that each candidate may take for an input; 0 where it certifies nothing,
        and is not asked.
    inputs : sequence of int, in a random order
    objectives : sequence of float or "average"
        Radii, to be chosen for by certified accuracy, and the average certified radius.
    budget : int, passes that are not exceeded
    top : float > 0
        Radii count up to this one in the average.
    rho : float in (0, 1)
        See Search.rivals.

    Returns
    -------
    Search
        The same however often it was begun anew, if judge says the same.

    Raises
    ------
    ValueError
        An argument out of its domain, a budget that does not judge one input by all, or an answer
        of judge that is none.

    Notes
    -----
    In every round all candidates that are left for an objective are judged by the same inputs.  A
    round begins an input only while the most that it could take is there, so the budget holds
    whatever the votes; what a round leaves goes to the next.  Who is told to be worse leaves
    before the half does: a test that may be looked at at any time, by betting on the gaps between
    two candidates (Ville 1939), at level rho over the number of others.

    Examples
    --------
    >>> def judge(candidate, inputs):  # candidate 2 certifies three inputs of four, others half
    ...     held = [i % 4 < (3 if candidate == 2 else 2) for i in inputs]
    ...     return np.where(held, 0.5, 0.0), [10] * len(inputs)
    >>> found = cc.tuning.search(judge, [10] * 4, range(1000), [0.5], 20_000, top=0.5)
    >>> found.winners, found.rivals, sum(found.passes) <= 20_000
    ((2,), ((),), True)
    """
    check_callable("judge", judge)
    remedy = "pass the most passes an input of each candidate"
    bounds = integers("most", most, 0, EXACT, remedy=remedy)
    chosen = integers("inputs", inputs, 0, remedy="pass the inputs' places in the data")
    wanted = _checked_objectives(objectives)
    reach = real("top", top, "a finite number > 0", lambda x: x > 0, remedy="pass a radius")
    risk = real("rho", rho, "a number in (0, 1)", lambda x: 0 < x < 1, remedy="e.g. 0.05")
    if not chosen or len(set(chosen)) < len(chosen):
        raise fail("inputs", "one or more, each once", inputs, "pass the inputs that tune")
    allowed = checked_budget(budget, bounds)
    halvings = rounds_of(len(bounds))
    state = _Search(judge, bounds, chosen, wanted, allowed, reach, risk)
    rounds = []
    for turn in range(halvings):
        alive = sorted({c for kept in state.brackets.values() if len(kept) > 1 for c in kept})
        if not alive:
            break
        rounds.append(state.round(alive, state.left() // (halvings - turn)))
        for objective, kept in state.brackets.items():
            if len(kept) > 1:
                state.halve(objective)
    winners = tuple(kept[0] for kept in state.brackets.values())
    for objective, winner in zip(wanted, winners, strict=True):
        state.tell_apart(objective, winner)
        state.rivals[objective].discard(winner)
    return Search(
        objectives=tuple(wanted), winners=winners,
        rivals=tuple(tuple(sorted(state.rivals[o])) for o in wanted),
        radius=tuple(state.radius), passes=tuple(state.passes),
        inputs=tuple(chosen[: state.count]), rounds=tuple(rounds), budget=state.budget,
        top=reach, rho=risk,
    )  # fmt: skip


def _checked_objectives(objectives: Any) -> list[Objective]:
    """Radii and the average, none of them twice."""
    rule, remedy = f"numbers > 0, or {AVERAGE!r}", f"pass radii, or {AVERAGE!r}"
    found: list[Objective] = [
        each if isinstance(each, str) and each == AVERAGE
        else real("objectives", each, rule, lambda x: x > 0, remedy=remedy)
        for each in items("objectives", objectives, rule, remedy=remedy)
    ]  # fmt: skip
    if not found or len(set(found)) < len(found):
        raise fail("objectives", "one or more, each once", objectives, remedy)
    return found


def fresh_number(
    objective: Objective, candidate: int, certificates: Certificates, labels: Any, rho: float
) -> Fresh:
    """An objective of certificates of inputs that did not choose, with its errors."""
    count, half = len(certificates), rho / 2
    passes = count * (certificates.n0 + certificates.n)
    common: dict[str, Any] = {
        "objective": objective, "candidate": candidate, "inputs": count, "passes": passes,
    }  # fmt: skip
    if objective != AVERAGE:
        share = certified_accuracy(certificates, labels, float(objective))
        k = round(share * count)
        lower = 0.0 if k == 0 else float(binomial_lower(k, count, half))
        upper = 1.0 if k == count else float(binomial_upper(k, count, half))
        error = math.sqrt(share * (1.0 - share) / count)
        return Fresh(value=share, error=error, lower=lower, upper=upper, **common)
    radius, n = _held(certificates, labels), certificates.n
    most = binomial_lower(n, n, certificates.alpha)  # what unanimous votes certify
    top = float(certified_radius(most, certificates.noise, certificates.attack))
    scores, spread = np.minimum(radius / top, 1.0), radius.std(ddof=min(count - 1, 1))
    return Fresh(
        value=float(radius.mean()), error=float(spread) / math.sqrt(count),
        lower=top * float(betting_lower(scores, half)),
        upper=top * (1.0 - float(betting_lower(1.0 - scores, half))), **common,
    )  # fmt: skip


def tune(
    smooth: Callable[[Noise], Smoothed],
    noises: Sequence[Noise],
    x: Any,
    labels: Any,
    attack: str,
    budget: int,
    seed: int,
    *,
    radii: Sequence[float] = (),
    average: bool = False,
    n0: int = 100,
    n: int = 10_000,
    n_max: int | None = None,
    alpha: float = 0.001,
    rho: float = 0.05,
    tuning: Sequence[int] | None = None,
    fresh: Sequence[int] | None = None,
) -> Tuned:
    """Choose a noise for every radius, and certify what was chosen on other inputs.

    Parameters
    ----------
    smooth : callable
        Maps a noise to the classifier smoothed by it: functools.partial(cc.Smoothed, predict,
        num_classes=10) where one classifier serves all, a function that trains one where not.
    noises : sequence of Noise, two at least
    x : (N, *input_shape)
    labels : (N,) whole numbers, the true classes
    attack : "l1", "l2" or "linf"; "l0" for changed entries
    budget : int
        The most passes of the search, the selection's included; the fresh certificates take
        n0 + n an input of their part for every winner besides.
    seed : int in [0, 2^32), of the samples and of the order of the inputs
    radii : sequence of float > 0
        In the attack's norm and input units: a winner is chosen for each.
    average : bool
        Choose one for the average certified radius as well.
    n0, n : int
        Selection and estimation samples of the fresh certificates.
    n_max : int, optional
        The most estimation samples an input in the search (default: n).
    alpha : float in (0, 1/2]
        Failure probability of each certificate.
    rho : float in (0, 1)
        Of the rivals, and of the intervals, as in Search and Fresh.
    tuning, fresh : sequences of int, optional
        The two parts, as split takes them (default: halves, by the seed).

    Returns
    -------
    Tuned
        Unbiased numbers of the winners in fresh; those of the search are too high.

    Raises
    ------
    ValueError
        An argument out of its domain, parts that share an input, too small a budget, or a radius
        that no candidate could certify.
    UnsupportedPair
        No exact law for a noise and the attack.

    Notes
    -----
    The samples of input i are those of the stream (seed, i), whatever the candidate: gaps between
    two of them vary less than either, and parts that share no input share no sample.

    Examples
    --------
    >>> band = lambda batch: (abs(batch[:, 0]) < 1).astype(int)
    >>> x = np.linspace(-2, 2, 80, dtype=np.float32)[:, None]
    >>> noises = [cc.Gaussian(1, 0.2), cc.Gaussian(1, 2.0)]
    >>> smooth = lambda noise: cc.Smoothed(band, noise, 2)
    >>> tuned = cc.tuning.tune(smooth, noises, x, band(x), "l2", 40_000, 0, radii=[0.2], n=300)
    >>> tuned.search.winners, sum(tuned.search.passes) <= 40_000
    ((0,), True)
    """
    check_callable("smooth", smooth)
    rule, remedy = "two noises or more, each once", "pass the noises to choose from"
    candidates = [checked_noise(each) for each in items("noises", noises, rule, remedy=remedy)]
    if len(set(candidates)) < max(len(candidates), 2):
        raise fail("noises", rule, noises, remedy)
    wanted = objectives_of(radii, average)
    most = integer("n", n, 1, remedy=SAMPLES) if n_max is None else integer("n_max", n_max, 1)
    for noise in candidates:
        check_independent(noise)
        check_sampling(noise, attack, n, alpha)
        check_sampling(noise, attack, most, alpha)
    truth = np.asarray(integers("labels", labels, 0, remedy="pass one class number an input"))
    given = x if hasattr(x, "shape") else to_numpy("x", x)
    if len(given.shape) < 2 or len(given) != len(truth):
        rule = f"of shape (n_inputs, ...), one for each of the {len(truth)} labels"
        raise fail("x", rule, given.shape, "pass inputs with their labels")
    parts = split(range(len(truth)), seed, tuning=tuning, fresh=fresh)
    if (last := max(map(max, parts))) >= len(truth):
        raise fail("parts", f"of inputs below {len(truth)}", last, "pass places in x")
    plans = plans_of(candidates, attack, wanted, most, alpha, n0)
    made: dict[int, Smoothed] = {}

    def smoothed(candidate: int) -> Smoothed:
        if candidate not in made:
            made[candidate] = _smoothed(smooth, candidates[candidate])
        return made[candidate]

    def judge(candidate: int, chosen: list[int]) -> tuple[Float, Any]:
        votes = smoothed(candidate).outcomes(
            plans[candidate], given[np.array(chosen)], seed, indices=chosen
        )
        return judged(gather(plans[candidate], votes), truth[chosen])

    found = search(
        judge, most_passes(plans, len(candidates)), parts[0], wanted, budget,
        top=max(plan.radii[-1] for plan in plans.values()), rho=rho,
    )  # fmt: skip
    inputs = np.array(parts[1])
    certificates = {
        winner: smoothed(winner).certify(
            given[inputs], n0, n, alpha, attack, seed, indices=parts[1]
        )
        for winner in dict.fromkeys(found.winners)
    }  # fmt: skip
    numbers = tuple(
        fresh_number(objective, winner, certificates[winner], truth[inputs], rho)
        for objective, winner in zip(wanted, found.winners, strict=True)
    )
    return Tuned(
        noises=tuple(candidates), search=found, fresh=numbers, certificates=certificates,
        parts=parts,
    )  # fmt: skip


def _smoothed(smooth: Callable[[Noise], Smoothed], noise: Noise) -> Smoothed:
    found = smooth(noise)
    if not isinstance(found, Smoothed) or found.noise != noise:
        rule, remedy = f"a function to classifiers smoothed by {noise!r}", "return a Smoothed of it"
        raise fail("smooth", rule, found, remedy)
    return found
