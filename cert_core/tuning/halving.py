"""Successive halving: candidates judged by more and more inputs, the worse half leaving."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cert_core.errors import EXACT, Float, array, check_callable, fail, integers, items, real, size
from cert_core.tuning.parts import AVERAGE, Objective

BLOCK = 64  # inputs of one candidate that are judged together at most
STAKES = np.arange(1, 16) / 16.0  # what players bet of their money, each of them all the time

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
            both = min(len(ahead), len(other))  # either may have stayed for another objective
            if _fortune(ahead[:both] - other[:both]) >= self.enough:
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
    wanted = checked_objectives(objectives)
    reach = real("top", top, "a finite number > 0", lambda x: x > 0, remedy="pass a radius")
    risk = checked_rho(rho)
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


def checked_rho(value: Any) -> float:
    """value as a probability of an error."""
    return real("rho", value, "a number in (0, 1)", lambda x: 0 < x < 1, remedy="e.g. 0.05")


def checked_objectives(objectives: Any) -> list[Objective]:
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
