"""Certificates from as many samples as an input needs.

What such a run counted are votes stopped early: no bound for a fixed number of samples
holds for them, and a plan answers for its own alpha and radii alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from cert_core.certificates import ABSTAIN, Certificates
from cert_core.confidence import Counts
from cert_core.errors import fail, items, shown
from cert_core.lattice import Lattice
from cert_core.provenance import check_apart, one_mode
from cert_core.sequential.plans import Path, Plan, checked_plan
from cert_core.sequential.votes import SequentialVotes, votes_until
from cert_core.threats import is_tight


@dataclass(frozen=True, eq=False)  # arrays have no one truth
class Outcome:
    """What a plan says of one input.

    Attributes
    ----------
    position : int
        Of the input among those given.
    label : int
        The certified class, or ABSTAIN.
    radius : float
        Of a RadiiPlan: the largest of its radii that passed; 0.0 where none did.
    p_lower : float
        What is certified of the class probability: it is above this.
    samples : int
        Noisy copies classified, selection included.
    decided : bool
        Whether the plan's own rule ended the sampling, not the last look.
    votes : SequentialVotes
    plan : RadiiPlan or WidthPlan, whose rule stopped the votes
    """

    position: int
    label: int
    radius: float
    p_lower: float
    samples: int
    decided: bool
    votes: SequentialVotes
    plan: Plan


@dataclass(frozen=True, kw_only=True, eq=False)
class SequentialCertificates(Certificates):
    """Certificates of inputs that were sampled by a plan; n is the most an input may use.

    Attributes
    ----------
    samples : (N,) int64
        Noisy copies classified of each input, selection included.
    decided : (N,) bool
        Whether the plan's own rule ended the sampling, not the last look.
    plan : RadiiPlan or WidthPlan
    """

    samples: Counts
    decided: np.ndarray[Any, np.dtype[np.bool_]]
    plan: Plan


def outcomes(
    plan: Plan,
    predict: Callable[[Any], Any],
    x: Any,
    num_classes: int,
    seed: int,
    *,
    indices: Sequence[int] | None = None,
    batch_size: int = 1000,
    backend: str = "cpu",
    buffer: Any = None,
    sound: Lattice | None = None,
) -> Iterator[Outcome]:
    """Certify inputs by a plan, one result after the other as they are ready.

    Parameters
    ----------
    plan : RadiiPlan or WidthPlan
    predict, x, num_classes, seed, indices, batch_size, backend, buffer, sound
        As in votes_until; no result depends on batch_size, nor on the other inputs.

    Yields
    ------
    Outcome
        Not always in the order of the inputs.

    Raises
    ------
    ValueError
        An argument is out of its domain, or predict returns no labels.
    """
    checked_plan(plan)
    paths: dict[int, Path] = {}

    def stop(position: int, successes: int, n: int) -> bool:
        if position not in paths:
            paths[position] = plan.begin()
        return paths[position].update(successes, n)

    for votes in votes_until(
        predict, x, plan.noise, num_classes, plan.looks, stop, seed,
        n0=plan.n0, indices=indices, batch_size=batch_size, backend=backend, buffer=buffer,
        sound=sound,
    ):  # fmt: skip
        radius, p_lower, decided = paths.pop(votes.position).answer()
        samples = plan.n0 + int(votes.estimation.sum()) + votes.failed
        label = votes.label if radius > 0 else ABSTAIN
        yield Outcome(votes.position, label, radius, p_lower, samples, decided, votes, plan)


def gather(plan: Plan, results: Iterable[Outcome]) -> SequentialCertificates:
    """Put outcomes of a plan together.

    Parameters
    ----------
    plan : RadiiPlan or WidthPlan
        The one that the outcomes are of.
    results : iterable of Outcome, in any order

    Returns
    -------
    SequentialCertificates
        In the order of the positions.

    Raises
    ------
    ValueError
        Outcomes of another plan, or one input's twice.
    UnsupportedPair
        No exact law for the plan's pair.
    """
    checked_plan(plan)
    found = items("results", results, "outcomes of the plan", remedy="pass those of outcomes")
    strange = [row for row in found if not isinstance(row, Outcome) or row.plan != plan]
    if strange:
        got = getattr(strange[0], "plan", strange[0])
        rule = f"outcomes of the plan given, {shown(plan)}"
        raise fail("results", rule, got, "sampling stopped for that one alone")
    rows = sorted(found, key=lambda row: row.position)
    twice = [a.position for a, b in pairwise(rows) if a.position == b.position]
    if twice:
        remedy = "gather each outcome once, those of another call by themselves"
        raise fail("results", "one outcome an input", f"position {twice[0]} twice", remedy)
    drawn = tuple(each for row in rows for each in row.votes.drawn)
    check_apart("results", "of inputs with samples of their own", drawn, "pass indices")
    sound = one_mode("results", drawn)
    failed = np.array([row.votes.failed for row in rows], dtype=np.int64)
    return SequentialCertificates(
        label=np.array([row.label for row in rows], dtype=np.int64),
        radius=np.array([row.radius for row in rows], dtype=np.float64),
        p_lower=np.array([row.p_lower for row in rows], dtype=np.float64),
        alpha=plan.alpha, n0=plan.n0, n=plan.looks[-1], noise=plan.noise, attack=plan.attack,
        tight=is_tight(plan.noise, plan.attack),
        samples=np.array([row.samples for row in rows], dtype=np.int64),
        decided=np.array([row.decided for row in rows], dtype=bool), plan=plan, drawn=drawn,
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
    """
    return gather(plan, outcomes(plan, predict, x, num_classes, seed, **options))
