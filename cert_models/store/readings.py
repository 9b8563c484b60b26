"""Certificates derived from the counts of a store, or taken from a log that it keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

import cert_core as cc
from cert_core.rounding import in_full
from cert_models.store.counts import CountStore
from cert_models.store.runs import (
    SCORE_UNIT,
    Counts,
    FixedPlan,
    LogPlan,
    Run,
    ScorePlan,
    SequentialPlan,
    Votes,
)
from cert_models.store.storage import StoreError

BLOCK, SCORED = 1000, 16  # inputs certified at a time: memory stays bounded
Place = tuple[int, int, float]  # index, label, seconds


@dataclass(frozen=True)
class Reading:
    """Certificates derived from a run, with what they are certificates of.

    Attributes
    ----------
    indices, labels : (N,) int64, ascending places in the data set; true classes
    seconds : (N,) float64
    certificates : Certificates of the N inputs
    """

    indices: Counts
    labels: Counts
    seconds: np.ndarray[Any, np.dtype[np.float64]]
    certificates: cc.Certificates


def probability_of_radius(
    radius: Any, noise: cc.Noise, attack: str
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Invert certified_radius: the probability bound behind a published radius.

    Parameters
    ----------
    radius : (N,) floats >= 0, in the attack's norm and input units
    noise, attack : what the radius was certified for

    Returns
    -------
    (N,) float64
        Errs down: certified_radius of it is never above the radius.  0.0 for radius 0 (an
        abstention says nothing of it), 1.0 for an infinite one.
    """
    remedy = "pass the radii of a log"
    given = cc.errors.array("radius", radius, ">= 0", lambda x: x >= 0, remedy=remedy)
    distinct, place = np.unique(given, return_inverse=True)
    p = np.where(distinct == np.inf, 1.0, 0.0)
    open_ = (distinct > 0) & np.isfinite(distinct)
    p[open_] = [_open_probability(float(r), noise, attack) for r in distinct[open_]]
    return p[place]


def _open_probability(radius: float, noise: cc.Noise, attack: str) -> float:
    exact, step = float(cc.required_probability(noise, attack, radius)), 2.0**-50
    p = exact
    while p > 0.5 and cc.certified_radius(p, noise, attack) > radius:
        p, step = exact - step * (1.0 - exact) - 2.0**-53, 4 * step
    return p


def read_run(
    store: CountStore,
    name: str,
    indices: Iterable[int] | None = None,
    *,
    attack: str | None = None,
    alpha: float | None = None,
    runner_up: bool = False,
) -> Reading:
    """Derive certificates from a run's counts, or take them from a published log.

    Parameters
    ----------
    store : CountStore
    name : str
    indices : inputs to read (default: all that are done)
    attack, alpha : default to the run's; a log has its own alpha alone, a sequential run
        both
    runner_up : whether to bound the runner-up as well, at alpha/2 each

    Returns
    -------
    Reading
        Inputs by ascending index.  A log's radii are as published in its own attack;
        its p_lower, and radii in others, are derived from them for its noise.  A
        sequential run gives SequentialCertificates: the decisions of its test.

    Raises
    ------
    StoreError
        An attack, alpha or runner-up that the run cannot be read at, or inputs that are not
        done.
    """
    run = store.runs()[store.only(name)]
    attack = attack if attack is not None else run.attack
    alpha = alpha if alpha is not None else run.alpha
    read = partial(_read_counts, runner_up=True) if runner_up else READERS[type(run.plan)]
    if runner_up:
        store.plan(name, FixedPlan)  # no other kind counts the votes of all classes
    wanted = None if indices is None else {int(index) for index in indices}
    places, parts = read(store, name, wanted, attack, alpha)
    missing = sorted((wanted or set()) - {index for index, _, _ in places})
    if missing:
        raise StoreError(
            f"indices must be inputs that run {name!r} has done, got {missing[0]}, which it "
            f"has not ({len(missing)} in all): continue the run first"
        )
    index, label, seconds = (
        (np.array(x) for x in zip(*places, strict=True)) if places else (np.zeros(0),) * 3
    )
    return Reading(
        index.astype(np.int64), label.astype(np.int64), seconds.astype(np.float64),
        cc.join_certificates(parts),
    )  # fmt: skip


def certificates_of(
    votes: Sequence[Votes], run: Run, attack: str, alpha: float, *, runner_up: bool = False
) -> cc.Certificates:
    """Derive certificates from the votes, or scores, of a run of fixed n."""
    plan = run.plan
    if isinstance(plan, ScorePlan):
        labels = np.array([each.selection.argmax() for each in votes], dtype=np.int64)
        scores = np.array([each.path for each in votes]).reshape(-1, plan.n) / SCORE_UNIT
        return cc.certify_scores(labels, scores, run.noise, attack, n0=plan.n0, alpha=alpha)
    selection, estimation = np.zeros((2, len(votes), run.num_classes), dtype=np.int64)
    for i, each in enumerate(votes):
        selection[i], estimation[i] = each.selection, each.estimation
    certify = cc.certify_top_k if runner_up else cc.certify
    return certify(selection, estimation, run.noise, attack, alpha=alpha)


def _read_counts(
    store: CountStore,
    name: str,
    wanted: set[int] | None,
    attack: str,
    alpha: float,
    runner_up: bool = False,
) -> tuple[list[Place], list[cc.Certificates]]:
    run = store.runs()[name]
    kind = ScorePlan if isinstance(run.plan, ScorePlan) else FixedPlan
    plan: FixedPlan | ScorePlan = store.plan(name, kind)
    chosen = (v for v in store.votes(name, kind) if wanted is None or v.index in wanted)
    empty = certificates_of([], run, attack, alpha, runner_up=runner_up)
    parts = [dataclasses.replace(empty, n0=plan.n0, n=plan.n)]
    places: list[Place] = []
    while block := list(islice(chosen, SCORED if kind is ScorePlan else BLOCK)):
        places += [(v.index, v.label, v.seconds) for v in block]
        parts.append(certificates_of(block, run, attack, alpha, runner_up=runner_up))
    return places, parts


def _read_sequential(
    store: CountStore, name: str, wanted: set[int] | None, attack: str, alpha: float
) -> tuple[list[Place], list[cc.Certificates]]:
    plan: SequentialPlan = store.plan(name, SequentialPlan)
    for key, given, own in (
        ("attack", attack, plan.test.attack), ("alpha", alpha, plan.test.alpha),
    ):  # fmt: skip
        if given != own:
            raise StoreError(
                f"{key} must be {own!r}, that of the sequential run {name!r}, got {given!r}: "
                "its sampling stopped for that test alone"
            )
    votes = [v for v in store.votes(name, SequentialPlan) if wanted is None or v.index in wanted]
    certificates = cc.gather(plan.test, (plan.outcome(each) for each in votes))
    return [(each.index, each.label, each.seconds) for each in votes], [certificates]


def _read_log(
    store: CountStore, name: str, wanted: set[int] | None, attack: str, alpha: float
) -> tuple[list[Place], list[cc.Certificates]]:
    plan: LogPlan = store.plan(name, LogPlan)
    noise = store.runs()[name].noise
    if alpha != plan.alpha:
        raise StoreError(
            f"alpha must be {in_full(plan.alpha)}, that of the published log {name!r}, "
            f"got {in_full(alpha)}: only counts can be read at another"
        )
    rows = [row for row in store.logged(name) if wanted is None or row.index in wanted]
    label = np.array([row.predict for row in rows], dtype=np.int64)
    radius = np.array([row.radius for row in rows], dtype=np.float64)
    p_lower = probability_of_radius(radius, noise, plan.attack)
    if attack != plan.attack:  # of what was printed, which may have been rounded up
        p_lower = probability_of_radius(_unrounded(radius), noise, plan.attack)
        radius = np.asarray(cc.certified_radius(p_lower, noise, attack), dtype=np.float64)
        label = np.where(radius > 0, label, cc.ABSTAIN)
    certificates = cc.Certificates(
        label, radius, p_lower, alpha, plan.n0, plan.n, noise, attack,
        cc.is_tight(noise, attack),
    )  # fmt: skip
    return [(row.index, row.label, row.seconds) for row in rows], [certificates]


def _unrounded(radii: Any) -> Any:
    """Radii less half a unit of the last digit printed, three digits at least (Cohen et al.)."""
    found = []
    for radius in radii.tolist():
        number = Decimal(repr(radius)).normalize() if 0 < radius < np.inf else Decimal(0)
        unit = min(int(number.as_tuple().exponent), number.adjusted() - 2)
        found.append(radius - (0.5 * 10.0**unit if number else 0.0))
    return np.array(found, dtype=np.float64)


def read_jointly(
    store: CountStore, name: str, radius: float, *, attack: str | None = None,
    alpha: float | None = None,
) -> Counts:  # fmt: skip
    """Labels of a run's inputs that are right all at once at one radius, fixed beforehand.

    Returns
    -------
    (N,) int64
        By ascending index, with ABSTAIN; together wrong with probability alpha at most.

    Raises
    ------
    StoreError
        A run that is not of fixed n: only its votes have p-values at any radius.
    """
    run, plan = store.runs()[store.only(name)], store.plan(name, FixedPlan)
    votes = list(store.votes(name, FixedPlan))
    labels = np.array([each.selection.argmax() for each in votes], dtype=np.int64)
    cast = [each.estimation[label] for each, label in zip(votes, labels, strict=True)]
    return cc.certify_labels_jointly(
        labels, np.array(cast, dtype=np.int64), plan.n, run.noise,
        run.attack if attack is None else attack, radius,
        alpha=run.alpha if alpha is None else alpha,
    )  # fmt: skip


READERS = {
    FixedPlan: _read_counts,
    ScorePlan: _read_counts,
    SequentialPlan: _read_sequential,
    LogPlan: _read_log,
}
