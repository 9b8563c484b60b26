"""Certificates from as many samples as an input needs.

What such a run counted are votes stopped early: no bound for a fixed number of samples
holds for them, and a plan answers for its own alpha and radii alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from cert_core import records
from cert_core.certificates import ABSTAIN, Certificates
from cert_core.confidence import Counts
from cert_core.errors import fail, items, shown
from cert_core.provenance import check_apart, one_mode
from cert_core.sequential.plans import Plan, Trial, answer_to, checked_plan, plan_from_dict
from cert_core.sequential.votes import votes_until
from cert_core.threats import is_tight
from cert_core.votes import Votes


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SequentialCertificates(Certificates):
    """Certificates of inputs that were sampled by a plan; n is the most an input may use.

    Attributes
    ----------
    samples : (N,) int64
        Noisy copies classified of each input, selection included.
    decided : (N,) bool
        Whether the plan's own rule ended the sampling, not the last look.
    plan : RadiiPlan or WidthPlan

    Examples
    --------
    >>> predict = lambda batch: (batch[:, 0] > 0).astype(int)
    >>> smoothed = cc.Smoothed(predict, cc.Gaussian(2, 0.5), 2)
    >>> made = smoothed.certify_at([[1.0, 0.0], [0.1, 0.0]], [0.25], 1000, 0.001, "l2", seed=0)
    >>> made.radius, made.samples, made.decided
    (array([0.25, 0.  ]), array([200, 607]), array([ True,  True]))
    """

    samples: Counts
    decided: np.ndarray[Any, np.dtype[np.bool_]]
    plan: Plan

    _READ: ClassVar[Mapping[str, Callable[[Any], Any]]] = {**records.READ, "plan": plan_from_dict}


def outcomes(
    plan: Plan,
    predict: Callable[[Any], Any],
    x: Any,
    num_classes: int,
    seed: int,
    **options: Any,
) -> Iterator[Votes]:
    """Count votes until a plan stops each input, one after the other as they are ready.

    Parameters
    ----------
    plan : RadiiPlan or WidthPlan
    predict, x, num_classes, seed, **options
        As in votes_until; no result depends on batch_size, nor on the other inputs.

    Yields
    ------
    Votes
        Not always in the order of the inputs; gather makes certificates of them.

    Raises
    ------
    ValueError
        An argument is out of its domain, or predict returns no labels.

    Examples
    --------
    >>> plan = cc.sequential.plan_at(cc.Gaussian(2, 0.5), "l2", [0.25], n_max=1000)
    >>> predict = lambda batch: (batch[:, 0] > 0).astype(int)
    >>> votes = cc.sequential.outcomes(plan, predict, [[1.0, 0.0], [0.1, 0.0]], 2, 0)
    >>> sorted((each.index, each.looks) for each in votes)
    [(0, (98,)), (1, (64, 95, 134, 206, 304))]
    """
    checked_plan(plan)
    trials: dict[int, Trial] = {}

    def stop(position: int, successes: int, n: int) -> bool:
        if position not in trials:
            trials[position] = plan.begin()
        return trials[position].update(successes, n)

    for votes in votes_until(
        predict, x, plan.noise, num_classes, plan.looks, stop, seed, n0=plan.n0, **options
    ):
        del trials[votes.position]
        yield replace(votes, plan=plan)


def gather(plan: Plan, results: Iterable[Votes]) -> SequentialCertificates:
    """Certify inputs by the votes at which a plan stopped.

    Parameters
    ----------
    plan : RadiiPlan or WidthPlan
        The one that the votes were counted by.
    results : iterable of Votes, in any order

    Returns
    -------
    SequentialCertificates
        In the order of the positions.

    Raises
    ------
    ValueError
        Votes of another plan, or at which this one would not have stopped, or one input's twice.
    UnsupportedPair
        No exact law for the plan's pair.

    Examples
    --------
    >>> plan = cc.sequential.plan_at(cc.Gaussian(2, 0.5), "l2", [0.25], n_max=1000)
    >>> predict = lambda batch: (batch[:, 0] > 0).astype(int)
    >>> votes = list(cc.sequential.outcomes(plan, predict, [[1.0, 0.0], [0.1, 0.0]], 2, 0))
    >>> cc.sequential.gather(plan, votes).label
    array([ 1, -1])
    """
    checked_plan(plan)
    found = []
    for row in items("results", results, "votes of the plan", remedy="pass those of outcomes"):
        if not isinstance(row, Votes) or row.plan != plan:
            rule = f"votes of the plan given, {shown(plan)}"
            got = getattr(row, "plan", row)
            raise fail("results", rule, got, "sampling stopped for that one alone")
        found.append((row, *answer_to(plan, tuple(row.looks or ()))))
    found.sort(key=lambda each: each[0].position)
    rows = [row for row, *_ in found]
    twice = [a.position for a, b in pairwise(rows) if a.position == b.position]
    if twice:
        remedy = "gather each input once, those of another call by themselves"
        raise fail("results", "one result an input", f"position {twice[0]} twice", remedy)
    drawn = tuple(each for row in rows for each in row.drawn)
    check_apart("results", "of inputs with samples of their own", drawn, "pass indices")
    sound = one_mode("results", drawn)
    failed = np.array([row.failed for row in rows], dtype=np.int64)
    label = [row.selected if radius > 0 else ABSTAIN for row, radius, _, _ in found]
    samples = [plan.n0 + int(row.estimation.sum()) + row.failed for row in rows]
    return SequentialCertificates(
        label=np.array(label, dtype=np.int64),
        radius=np.array([radius for _, radius, _, _ in found], dtype=np.float64),
        p_lower=np.array([p_lower for _, _, p_lower, _ in found], dtype=np.float64),
        alpha=plan.alpha, n0=plan.n0, n=plan.looks[-1], noise=plan.noise, attack=plan.attack,
        tight=is_tight(plan.noise, plan.attack), samples=np.array(samples, dtype=np.int64),
        decided=np.array([decided for *_, decided in found], dtype=bool), plan=plan, drawn=drawn,
        sound=sound, failed=None if sound is None else failed,
    )  # fmt: skip


def certify_by(
    plan: Plan,
    predict: Callable[[Any], Any],
    x: Any,
    num_classes: int,
    seed: int,
    **options: Any,
) -> SequentialCertificates:
    """Certify inputs by a plan.

    Parameters
    ----------
    plan, predict, x, num_classes, seed, **options
        As in outcomes.

    Returns
    -------
    SequentialCertificates
        In the order of the inputs.  The radius of each is wrong with probability
        plan.alpha at most.

    Raises
    ------
    ValueError
        An argument is out of its domain, or predict returns no labels.

    Examples
    --------
    >>> plan = cc.sequential.plan_at(cc.Gaussian(2, 0.5), "l2", [0.25], n_max=1000)
    >>> predict = lambda batch: (batch[:, 0] > 0).astype(int)
    >>> cc.sequential.certify_by(plan, predict, [[1.0, 0.0], [0.1, 0.0]], 2, 0).radius
    array([0.25, 0.  ])
    """
    return gather(plan, outcomes(plan, predict, x, num_classes, seed, **options))
