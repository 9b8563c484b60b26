"""Auditing a published run: inputs drawn at random, all their votes counted again.

Samples come from counters, so whoever has the model and the data counts the same votes.  What
is drawn are inputs, whole: a store holds sums over the samples of a stage, with which a stretch
of samples cannot be compared, and where it holds more (the votes at the looks of a sequential
run, the scores of a soft one) the certificate still hangs on all of them.

Of N inputs m are drawn without replacement, any m as likely as any others, and x of them hold
wrong counts.  If D of all N do, x is hypergeometric; so D is at most the largest one under which
so few as x have a chance above 1 - confidence.  That is exact (in whole numbers), whatever is wrong
with which inputs, provided that the store was there before the seed was chosen.

Votes that differ are the fewest that turn the stored counts into those counted here.  The
unseen wrong inputs may be wrong in all of their votes, and may be those with the most.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

import cert_core as cc
from cert_core.errors import integer
from cert_models.store.counts import CountStore
from cert_models.store.runs import (
    SCORE_UNIT,
    AllPlan,
    Counts,
    FixedPlan,
    LogPlan,
    Plan,
    RoutedPlan,
    Run,
    ScorePlan,
    ShellPlan,
    Votes,
)


@dataclass(frozen=True)
class Difference:
    """An input whose stored counts are not those counted again.

    Attributes
    ----------
    index : int
    votes : int
        The fewest votes that differ.
    score : float
        Of a run of scores: the largest difference of one score.
    """

    index: int
    votes: int
    score: float


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What an audit found, and what it excludes.

    Attributes
    ----------
    inputs, votes : int
        What the run holds.
    drawn : tuple of int, ascending
        The inputs counted again.
    recounted : int
        Their stored votes.
    differences : tuple of Difference
        Those among them whose counts differ at all.
    wrong : tuple of int
        Those that differ in more votes than allowed.
    mislabelled : tuple of int
        Inputs, of all, whose true class is not that of the data.
    wrong_at_most, wrong_votes_at_most : int
        Of all inputs, and of all votes: upper bounds that hold with the confidence.
    """

    inputs: int
    votes: int
    drawn: tuple[int, ...]
    recounted: int
    differences: tuple[Difference, ...]
    wrong: tuple[int, ...]
    mislabelled: tuple[int, ...]
    wrong_at_most: int
    wrong_votes_at_most: int

    @property
    def passed(self) -> bool:
        """Whether nothing was found to be wrong."""
        return not self.wrong and not self.mislabelled


def counted_run(store: CountStore, name: str) -> Run:
    """The run of this name, which must hold counts: a log has nothing to be counted again."""
    run = store.runs()[name]
    if isinstance(run.plan, LogPlan):
        got = f"the published log {name!r}"
        raise cc.errors.fail("run", "one of counts", got, "ask its publisher for the store")
    if isinstance(run.plan, RoutedPlan):
        remedy = (
            "count some of its inputs (--indices) into another store by the same command, and cert "
            "merge the two, which refuses votes that differ"
        )
        raise cc.errors.fail("run", "of one noise", f"the routed run {name!r}", remedy)
    return run


def check_source(run: Run, given: Run) -> None:
    """Refuse a model or data that are not the run's; the difference is named."""
    differences = run.differences(given)
    if differences:
        raise ValueError(
            f"model and data must be those of the run, got {'; '.join(differences)}: pass its own"
        )


def draw_inputs(indices: Collection[int], count: int, seed: int) -> list[int]:
    """count of the indices, without replacement, ascending: those whose digests come first."""

    def place(index: int) -> bytes:
        return hashlib.sha256(f"{seed} {index}".encode()).digest()

    return sorted(sorted(indices, key=place)[:count])


def wrong_at_most(inputs: int, drawn: int, wrong: int, confidence: float) -> int:
    """Bound how many of all inputs are wrong, from how many of those drawn are.

    Parameters
    ----------
    inputs, drawn, wrong : int, 0 <= wrong <= drawn <= inputs, drawn >= 1
    confidence : float in (0, 1)

    Returns
    -------
    int
        Exact: the largest number under which so few as `wrong` among the drawn have a chance
        above 1 - confidence (read in decimals).

    Raises
    ------
    ValueError
        An argument out of its domain.
    """
    integer("inputs", inputs, 1)
    integer("drawn", drawn, 1, inputs)
    integer("wrong", wrong, 0, drawn)
    least = math.comb(inputs, drawn) * _level(confidence)
    low, high = wrong, inputs - drawn + wrong
    while low < high:
        middle = (low + high + 1) // 2
        if _ways(inputs, drawn, wrong, middle) > least:
            low = middle
        else:
            high = middle - 1
    return low


def _level(confidence: float) -> Fraction:
    """1 - confidence, of its decimals."""
    rule = "a number in (0, 1)"
    value = cc.errors.real("confidence", confidence, rule, lambda x: 0 < x < 1, remedy="e.g. 0.95")
    return 1 - Fraction(repr(value))


def _ways(inputs: int, drawn: int, wrong: int, among: int) -> int:
    """Sets of drawn inputs that hold `wrong` or fewer of the `among` wrong ones."""
    k = max(0, drawn - (inputs - among))
    ways = math.comb(among, k) * math.comb(inputs - among, drawn - k)
    total = 0
    while ways and k <= wrong:
        total += ways
        ways = ways * (among - k) * (drawn - k) // ((k + 1) * (inputs - among - drawn + k + 1))
        k += 1
    return total


def _moved(stored: Counts, counted: Counts) -> int:
    """The fewest votes that turn one table into the other; those too many all differ."""
    more = stored - counted
    return max(int(more.clip(min=0).sum()), int(-more.clip(max=0).sum()))


def differing(stored: Votes, counted: Votes, plan: Plan) -> int:
    """The fewest votes (or scores) of one input that differ.

    Votes at the looks of different classes, and beyond the look at which either stopped, have
    nothing to be compared with and count as different.
    """
    lost = abs(stored.failed - counted.failed)
    if isinstance(plan, FixedPlan | AllPlan):
        first = _moved(stored.selection, counted.selection)
        return first + max(_moved(stored.estimation, counted.estimation), lost)
    same = stored.selected == counted.selected
    if isinstance(plan, ScorePlan):
        most = int(np.abs(stored.selection - counted.selection).max())
        apart = int(np.count_nonzero(_scores_apart(stored, counted))) if same else plan.n
        return -(-most // SCORE_UNIT) + max(apart, lost)
    if isinstance(plan, ShellPlan):
        second = _moved(_cells(stored, plan), _cells(counted, plan)) if same else plan.n
        second = max(second, _moved(stored.estimation, counted.estimation))
        return _moved(stored.selection, counted.selection) + second
    totals = int(stored.estimation.sum()), int(counted.estimation.sum())
    second = max(totals)
    if same:
        between = _looks_apart(stored, counted)
        apart = int(np.abs(between).sum()) + max(totals) - min(totals)
        second = max(apart, _moved(stored.estimation, counted.estimation))
    return _moved(stored.selection, counted.selection) + max(second, lost)


def _cells(votes: Votes, plan: ShellPlan) -> Counts:
    """Votes for the selected class by shell, then for all others."""
    cast, drawn = (np.array(part, dtype=np.int64) for part in plan.by_shell(votes))
    return np.concatenate([cast, drawn - cast])


def _looks_apart(stored: Votes, counted: Votes) -> Counts:
    """Differences between the votes from look to look."""
    pairs = list(zip(stored.looks or (), counted.looks or (), strict=False))
    running = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    steps = np.diff(running, axis=1, prepend=0)
    found: Counts = steps[0] - steps[1]
    return found


def _scores_apart(stored: Votes, counted: Votes) -> Counts:
    return np.array(stored.scores, dtype=np.int64) - np.array(counted.scores, dtype=np.int64)


def _samples(votes: Votes, plan: Plan) -> int:
    """Noisy copies classified for one input."""
    if isinstance(plan, ScorePlan):
        return plan.n0 + plan.n
    return int(votes.selection.sum() + votes.estimation.sum()) + votes.failed


def _score_apart(stored: Votes, counted: Votes, plan: Plan) -> float:
    if not isinstance(plan, ScorePlan):
        return 0.0
    return float(np.abs(_scores_apart(stored, counted)).max()) / SCORE_UNIT


def audit_run(
    store: CountStore,
    name: str,
    labels: Sequence[int] | Counts,
    sample: Callable[[Sequence[int]], Iterable[Votes]],
    *,
    share: float = 0.01,
    most: int | None = None,
    seed: int,
    confidence: float = 0.95,
    allow: int = 0,
) -> Audit:
    """Count inputs of a run again and compare.

    Parameters
    ----------
    store : CountStore
        Only read.
    name : str, of the run
    labels : true classes of the whole data set; those of all inputs are compared
    sample : what counts the votes of given inputs, in any order, as sampler_of makes it
    share : float in (0, 1]
        Of the run's inputs, rounded up.
    most : int, optional
        Inputs drawn at most.
    seed : int
        Of the draw.  One that the store's maker knew beforehand proves nothing.
    confidence : float in (0, 1)
        Of the bounds, over the draw.
    allow : int >= 0
        Differing votes up to which an input is not wrong: of floats, which differ by device.

    Returns
    -------
    Audit
        Its bounds are never below the exact ones.

    Raises
    ------
    ValueError
        An argument out of its domain, or a run without an input, or with one that the data lack.
    StoreError
        The store cannot be read.
    """
    rule = "a number in (0, 1]"
    share = cc.errors.real("share", share, rule, lambda x: 0 < x <= 1, remedy="e.g. 0.01")
    integer("seed", seed, 0)
    integer("allow", allow, 0)
    _level(confidence)
    plan = counted_run(store, name).plan
    sizes, mislabelled = dict[int, int](), []
    for votes in store.votes(name, type(plan)):
        if votes.index >= len(labels):
            rule = f"of the {len(labels)} inputs of the data"
            raise cc.errors.fail("run", rule, f"input {votes.index}", "pass the run's own data")
        sizes[votes.index] = _samples(votes, plan)
        if votes.label != labels[votes.index]:
            mislabelled.append(votes.index)
    if not sizes:
        raise cc.errors.fail("run", "of one input at least", f"{name!r} of none", "continue it")
    count = math.ceil(Fraction(repr(share)) * len(sizes))
    if most is not None:
        count = min(count, integer("max", most, 1))
    drawn = draw_inputs(sizes, count, seed)
    differences = []
    for counted in sample(drawn):
        (stored,) = store.votes(name, type(plan), only=counted.index)
        votes_apart = differing(stored, counted, plan)
        if votes_apart:
            apart = _score_apart(stored, counted, plan)
            differences.append(Difference(counted.index, votes_apart, apart))
    differences.sort(key=lambda each: each.index)
    wrong = [each.index for each in differences if each.votes > allow]
    bound = wrong_at_most(len(sizes), count, len(wrong), confidence)
    unseen = sorted((sizes[i] for i in sizes.keys() - set(drawn)), reverse=True)
    hidden = bound - len(wrong)
    known = sum(min(each.votes, sizes[each.index]) for each in differences)
    return Audit(
        inputs=len(sizes), votes=sum(sizes.values()), drawn=tuple(drawn),
        recounted=sum(sizes[i] for i in drawn), differences=tuple(differences),
        wrong=tuple(wrong), mislabelled=tuple(mislabelled), wrong_at_most=bound,
        wrong_votes_at_most=known + sum(unseen[:hidden])
        + sum(min(allow, size) for size in unseen[hidden:]),
    )  # fmt: skip
