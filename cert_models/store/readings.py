"""Certificates derived from the counts of a store, or taken from a log that it keeps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

import cert_core as cc
from cert_core.rounding import in_full
from cert_models.logs import FAILED, Row
from cert_models.store.casts import KIND
from cert_models.store.counts import CountStore
from cert_models.store.results import Ints, Result, tested_by
from cert_models.store.runs import (
    SCORE_UNIT,
    AllPlan,
    FixedPlan,
    LogPlan,
    Plan,
    RoutedPlan,
    Run,
    ScorePlan,
    SequentialPlan,
    ShellPlan,
    Votes,
    bound_for,
    check_alpha,
    was_sent,
)
from cert_models.store.storage import StoreError, as_store_errors

BLOCK = 1000  # inputs certified at a time: memory stays bounded
MANY = 1 << 16  # where an input has one number
BLOCKS: dict[type[Plan], int] = {ScorePlan: 16}  # where an input has many numbers


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
    bound: str | None = None,
) -> Result:
    """Derive certificates from a run's counts, or take them from a published log.

    Parameters
    ----------
    store : CountStore
    name : str
    indices : inputs to read (default: all that are done)
    attack, alpha : default to the run's; a log has its own alpha alone, a sequential run
        both
    bound : of cc.BOUNDS, one that reads what the run counted (default: the first)

    Returns
    -------
    Result
        Inputs by ascending index.  A log's radii are as published in its own attack;
        its p_lower, and radii in others, are derived from them for its noise.  A
        sequential run gives SequentialCertificates: the decisions of its test.

    Raises
    ------
    StoreError
        An attack, alpha or bound that the run cannot be read at, or inputs that are not
        done.
    """
    run = store.runs()[store.only(name)]
    how: dict[str, Any] = {
        "attack": attack if attack is not None else run.attack,
        "alpha": alpha if alpha is not None else run.alpha,
        "bound": bound,
    }
    _check_reading(run, name, **how)
    wanted = None if indices is None else {int(index) for index in indices}
    with as_store_errors():
        read = bound_for(run.plan, bound)
    one = read is not None and cc.BOUNDS[read].reads == "votes"
    if isinstance(run.plan, FixedPlan) and one and run.sound is None:  # else with its FAILs
        cast = np.concatenate([*store.casts(name), np.empty(0, dtype=KIND)])
        if wanted is not None:
            cast = cast[np.isin(cast["index"], np.fromiter(wanted, dtype=np.int64))]
        result = _result_of_casts(cast, run, run.plan, name, **how)
    else:
        logged = isinstance(run.plan, LogPlan)
        every = store.logged(name) if logged else store.votes(name, type(run.plan))
        chosen = (each for each in every if wanted is None or each.index in wanted)
        result = result_of(chosen, run, name, **how)
    missing = (wanted or set()).difference(result.indices.tolist())
    if missing:
        raise StoreError(
            f"indices must be inputs that run {name!r} has done, got {min(missing)}, which it "
            f"has not ({len(missing)} in all): continue the run first"
        )
    seed = None if isinstance(run.plan, LogPlan) else run.seed
    return replace(result, seed=seed, starts=tuple(store.starts(store.only(name))))


def result_of(
    found: Iterable[Votes | Row], run: Run, name: str = "", *, attack: str, alpha: float,
    bound: str | None = None,
) -> Result:  # fmt: skip
    """What votes of a run, or rows of its log, say; the rest as in read_run."""
    each, size = iter(found), BLOCKS.get(type(run.plan), BLOCK)
    places: list[tuple[int, int | None, float]] = []
    parts: list[cc.Certificates] = []
    while (block := list(islice(each, size))) or not parts:
        places += [(one.index, one.label, one.seconds) for one in block]
        parts.append(certificates_of(block, run, attack, alpha, bound))
    indices, labels, seconds = zip(*places, strict=True) if places else ((),) * 3
    return Result.of(
        cc.certificates.join_certificates(parts), name=name, model=run.model, data=run.data,
        mode=run.mode, cost=run.cost(attack), tested=_tested(run),
        data_fingerprint=run.data_fingerprint, indices=np.array(indices, dtype=np.int64),
        labels=np.array(labels, dtype=np.int64), seconds=np.array(seconds, dtype=np.float64),
    )  # fmt: skip


def _result_of_casts(
    cast: np.ndarray[Any, Any], run: Run, plan: FixedPlan, name: str, *, attack: str, alpha: float,
    bound: str | None,
) -> Result:  # fmt: skip
    """The same of votes for the selected class alone, which a bound of one class reads: those for
    all others together are as good as theirs, and a table of two columns as one of all.  As many
    votes give the same certificate: each number is certified once."""
    distinct, place = np.unique(cast["votes"], return_inverse=True)
    parts = []
    for low in range(0, max(1, len(distinct)), MANY):
        part = distinct[low : low + MANY]
        selection, estimation = (
            np.stack([votes, total - votes], axis=1)
            for votes, total in ((np.full_like(part, plan.n0), plan.n0), (part, plan.n))
        )
        parts.append(cc.certify(
            selection, estimation, run.noise, attack, alpha=alpha,
            bound=str(bound_for(plan, bound)),
        ))  # fmt: skip
    made = cc.certificates.join_certificates(parts)
    label = np.where(made.label[place] == 0, cast["selected"], cc.ABSTAIN)
    made = replace(made, label=label, radius=made.radius[place], p_lower=made.p_lower[place])
    return Result.of(
        made, name=name, model=run.model, data=run.data,
        data_fingerprint=run.data_fingerprint, indices=cast["index"].copy(),
        labels=cast["label"].copy(), seconds=cast["seconds"].copy(),
    )  # fmt: skip


def _tested(run: Run) -> tuple[float, ...] | None:
    """The radii that a run tests, where it tests no other."""
    return tested_by(getattr((run.parts or (run,))[-1].plan, "rule", None))


def _check_reading(run: Run, name: str, attack: str, alpha: float, bound: str | None) -> None:
    """Refuse what the plan of a run says nothing of."""
    plan = run.plan
    with as_store_errors():
        bound_for(plan, bound)
        if isinstance(plan, AllPlan):
            check_alpha(plan, run.noise, attack, alpha)
    if isinstance(plan, SequentialPlan):
        for key, given, own in (
            ("attack", attack, plan.rule.attack), ("alpha", alpha, plan.rule.alpha),
        ):  # fmt: skip
            if given != own:
                raise StoreError(
                    f"{key} must be {own!r}, that of the sequential run {name!r}, got {given!r}: "
                    "its sampling stopped for that test alone"
                )
    for i, part in enumerate(run.parts):
        _check_reading(part, name, attack, cc.routing.halves(alpha), bound if i else None)
    if isinstance(plan, LogPlan) and alpha != plan.alpha:
        raise StoreError(
            f"alpha must be {in_full(plan.alpha)}, that of the published log {name!r}, "
            f"got {in_full(alpha)}: only counts can be read at another"
        )


def certificates_of(
    votes: Sequence[Any], run: Run, attack: str, alpha: float, bound: str | None = None
) -> cc.Certificates:
    """Derive certificates from votes of a run, or take them from rows of a log."""
    if isinstance(run.plan, LogPlan):
        found = _of_rows(votes, run.plan, run.noise, attack, alpha)
        failed = [int(row.extra.get(FAILED, 0)) for row in votes]
        cost = run.cost(attack) if attack != run.plan.attack else 0.0  # else it is taken off
    else:
        found, cost = _of_votes(votes, run, attack, alpha, bound), run.cost(attack)
        failed = [each.failed for each in votes]
    if run.sound is None:
        return found
    told: dict[str, Any] = {"sound": run.sound, "failed": np.array(failed, dtype=np.int64)}
    if not cost:
        return replace(found, **told)
    radius = np.maximum(np.nextafter(found.radius - cost, -np.inf), 0.0)
    label = np.where(radius > 0, found.label, cc.ABSTAIN)
    return replace(found, radius=radius, label=label, **told)


def _of_votes(
    votes: Sequence[Votes], run: Run, attack: str, alpha: float, bound: str | None
) -> cc.Certificates:
    """The same, of counts, of inputs on the lattice in sound mode."""
    plan = run.plan
    how: dict[str, Any] = {"alpha": alpha, "bound": bound_for(plan, bound)}
    if isinstance(plan, RoutedPlan):
        return _of_routed(votes, run, plan, attack, **how)
    if isinstance(plan, SequentialPlan):
        return cc.sequential.gather(plan.rule, votes)
    if isinstance(plan, AllPlan):
        counts = np.array([each.estimation for each in votes]).reshape(-1, run.num_classes)
        return cc.certify_deterministic(counts, run.noise)
    if isinstance(plan, ScorePlan):
        labels = np.array([each.selected for each in votes], dtype=np.int64)
        scores = np.array([each.scores for each in votes]).reshape(-1, plan.n) / SCORE_UNIT
        return cc.certificates.certify_scores(labels, scores, run.noise, attack, n0=plan.n0, **how)
    if isinstance(plan, ShellPlan) and cc.BOUNDS[how["bound"]].reads == "shells":
        return _by_shell(votes, plan, run.noise, attack, alpha)
    selection, estimation = np.zeros((2, len(votes), run.num_classes), dtype=np.int64)
    for i, each in enumerate(votes):
        selection[i], estimation[i] = each.selection, each.estimation
    stages: tuple[Any, Any] = selection, estimation
    if run.sound is not None:
        stages = tuple(map(partial(_sound_votes, run, votes), STAGES, stages))
    return cc.certify(*stages, run.noise, attack, **how)


def _of_routed(
    votes: Sequence[Votes], run: Run, plan: RoutedPlan, attack: str, *, alpha: float,
    bound: str | None,
) -> cc.Certificates:  # fmt: skip
    """Certificates of inputs of which a branch was asked where the router was certified."""
    router, *branches = run.parts
    share, asked = cc.routing.halves(alpha), [each.router for each in votes]
    sends = _of_votes([one for one in asked if one is not None], router, attack, share, None)
    sent = np.where([was_sent(each) for each in votes], sends.label, cc.ABSTAIN)
    made = [
        _of_votes(
            [replace(v, router=None) for v, i in zip(votes, sent, strict=True) if i == number],
            branch, attack, share, bound,
        )
        for number, branch in enumerate(branches)
    ]  # fmt: skip
    noises = [branch.noise for branch in branches]
    joined = cc.routing.join_routed(replace(sends, label=sent), made, noises)
    return replace(joined, alpha=alpha, n0=plan.n0, n=plan.n)


STAGES = ("selection", "estimation")


def _sound_votes(run: Run, votes: Sequence[Votes], stage: str, table: Any) -> Any:
    """A table of votes that knows its FAILs."""
    assert isinstance(run.plan, FixedPlan)
    n = run.plan.n0 if stage == "selection" else run.plan.n
    drawn = cc.provenance.Drawn(
        noise=run.noise, seed=run.seed, stage=stage, start=0, stop=n, sound=run.sound,
        indices=tuple(each.index for each in votes), failed=tuple((n - table.sum(axis=1)).tolist()),
    )  # fmt: skip
    return cc.provenance.counted(table, drawn)


def _by_shell(
    votes: Sequence[Votes], plan: ShellPlan, noise: cc.Noise, attack: str, alpha: float
) -> cc.Certificates:
    labels = np.array([each.selected for each in votes], dtype=np.int64)
    shape = len(votes), 2, len(plan.thresholds) + 1
    told = np.array([plan.by_shell(each) for each in votes], dtype=np.int64).reshape(shape)
    return cc.shell_votes.certify_shell_votes(
        labels, told[:, 0], told[:, 1], plan.thresholds, noise, attack, n0=plan.n0, alpha=alpha
    )


def _of_rows(
    rows: Sequence[Row], plan: LogPlan, noise: cc.Noise, attack: str, alpha: float
) -> cc.Certificates:
    label = np.array([row.predict for row in rows], dtype=np.int64)
    radius = np.array([row.radius for row in rows], dtype=np.float64)
    p_lower = probability_of_radius(radius, noise, plan.attack)
    if attack != plan.attack:  # of what was printed, which may have been rounded up
        p_lower = probability_of_radius(_unrounded(radius), noise, plan.attack)
        radius = np.asarray(cc.certified_radius(p_lower, noise, attack), dtype=np.float64)
        label = np.where(radius > 0, label, cc.ABSTAIN)
    return cc.Certificates(
        label=label, radius=radius, p_lower=p_lower, alpha=alpha, n0=plan.n0, n=plan.n,
        noise=noise, attack=attack, tight=cc.is_tight(noise, attack),
    )  # fmt: skip


def _unrounded(radii: Any) -> Any:
    """Radii less half a unit of the last digit printed, three digits at least (Cohen et al.)."""
    found = []
    for radius in radii.tolist():
        number = Decimal(repr(radius)).normalize() if 0 < radius < np.inf else Decimal(0)
        unit = min(int(number.as_tuple().exponent), number.adjusted() - 2)
        found.append(radius - (0.5 * 10.0**unit if number else 0.0))
    return np.array(found, dtype=np.float64)


def read_jointly(store: CountStore, name: str, radius: float, *, attack: str, alpha: float) -> Ints:
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
    run, plan = store.runs()[name], store.plan(name, FixedPlan)
    if cost := run.cost(attack):
        level = cc.errors.real("radius", radius, ">= 0", lambda x: x >= 0, remedy="e.g. 0.25")
        radius = float(np.nextafter(level + cost, np.inf))
    votes = list(store.votes(name, FixedPlan))
    labels = np.array([each.selected for each in votes], dtype=np.int64)
    cast = np.array([each.estimation[each.selected] for each in votes], dtype=np.int64)
    return cc.joint.certify_labels_jointly(
        labels, cast, plan.n, run.noise, attack, radius, alpha=alpha
    )
