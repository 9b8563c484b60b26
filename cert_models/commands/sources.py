"""Results that several commands read from count stores, and the radii they show them at."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cert_core as cc
from cert_core.errors import fail
from cert_models.commands.options import UsageError, listed
from cert_models.store.claims import Proofs, Proved, claims_of
from cert_models.store.runs import LogPlan

if TYPE_CHECKING:
    from cert_models.store.counts import CountStore
    from cert_models.store.results import Jointly, Result


def stored_results(path: str, name: str, options: argparse.Namespace) -> Iterator[Result]:
    """The runs of a store that the options ask for, at their attack and alpha."""
    runs = run_names(path)
    wanted = options.runs if options.runs is not None else runs
    missing = [run for run in wanted if run not in runs]
    if missing or not wanted:
        raise _unknown_run(path, runs, missing)
    yield from _read(path, name, wanted, options)


def results_of_stores(sources: list[str], options: argparse.Namespace) -> list[Result]:
    """The runs that the options ask for of any of the stores, each [NAME=]STORE."""
    parts = [named_path(source) for source in sources]
    known = {path: run_names(path) for _, path in parts}
    every = [run for runs in known.values() for run in runs]
    missing = [run for run in options.runs or () if run not in every]
    if missing or not every:
        raise _unknown_run(", ".join(known), every, missing)
    return named_apart([
        result
        for name, path in parts
        for result in _read(
            path, name, [r for r in known[path] if r in (options.runs or every)], options
        )
    ])  # fmt: skip


def named_path(source: str) -> tuple[str, str]:
    """(name, path) of [NAME=]PATH; a file that is called just so is that file."""
    name, equals, path = source.rpartition("=")
    return ("", source) if not equals or Path(source).exists() else (name, path)


def run_names(path: str) -> list[str]:
    """The runs that a store keeps."""
    from cert_models.store.counts import CountStore

    with CountStore(path, readonly=True) as store:
        return list(store.runs())


def _unknown_run(where: str, runs: list[str], missing: list[str]) -> UsageError:
    if not runs:
        return UsageError(f"store must hold a run, got none in {where!r}: certify with --store")
    return UsageError(
        f"--run must be one of {', '.join(runs)} in {where!r}, got {', '.join(missing)}: choose one"
    )


def _read(
    path: str, name: str, wanted: Sequence[str], options: argparse.Namespace
) -> Iterator[Result]:
    from cert_models.store.counts import CountStore
    from cert_models.store.readings import read_run

    with CountStore(path, readonly=True) as store:
        for run in wanted:
            label = run if not name else name if len(wanted) == 1 else f"{name} {run}"
            read = read_run(
                store, run, attack=options.attack, alpha=options.alpha, bound=options.bound
            )
            if not len(read):
                raise UsageError(
                    f"run must have an input that is done, got {run!r} of {path!r}, which has "
                    "none: continue it, or choose others with --run"
                )
            yield replace(
                read, name=label, proved=_proved(store, run, read, options),
                jointly=_jointly(store, run, read, options),
            )  # fmt: skip


def _proved(
    store: CountStore, name: str, read: Result, options: argparse.Namespace
) -> Proved | None:
    """What a table of proofs, where one is given, says of a run."""
    proofs: Proofs | None = getattr(options, "proofs", None)
    if proofs is None:
        return None
    plan, found = store.runs()[name].plan, read.certified_by
    if isinstance(plan, LogPlan):
        return proofs.of_radii(found.radius, found.attack, found.noise, found.alpha, plan.n)
    return proofs.of_claims(claims_of(store, name, found, read.indices))


def _jointly(
    store: CountStore, name: str, read: Result, options: argparse.Namespace
) -> Jointly | None:
    """What holds of all inputs of a run at once, where that is asked for."""
    from cert_models.store.readings import read_jointly
    from cert_models.store.results import Jointly

    radius: float | None = getattr(options, "jointly", None)
    if radius is None:
        return None
    found = read.certified_by
    labels = read_jointly(store, name, radius, attack=found.attack, alpha=found.alpha)
    told = labels != cc.ABSTAIN
    right = int((told & (labels == read.labels)).sum())
    return Jointly(radius=radius, alpha=found.alpha, certified=int(told.sum()), right=right)


def accuracies(
    result: Result, radii: Sequence[float], rho: float | None = None
) -> list[float | None]:
    """Certified accuracies, None at radii that the run did not test."""
    return [result.accuracy(r, rho) if result.says(r) else None for r in radii]


def named_apart(results: list[Result]) -> list[Result]:
    """The results, those of one name numbered."""
    names = [r.name for r in results]
    return [
        replace(r, name=f"{r.name} ({names[: i + 1].count(r.name)})")
        if names.count(r.name) > 1
        else r
        for i, r in enumerate(results)
    ]


def shared_inputs(results: list[Result]) -> list[Result]:
    """Each result of the inputs that all have."""
    shared = set.intersection(*(set(r.indices.tolist()) for r in results))
    if not shared:
        raise UsageError("--common must leave an input, got none that all have: leave it out")
    return [r.restricted(sorted(shared)) for r in results]


def radii_of(text: str | None) -> list[float] | None:
    """The radii that --at lists."""
    if text is None:
        return None
    radii: list[float] = listed("--at", text)
    if not all(0 <= radius < float("inf") for radius in radii):
        raise fail("--at", "numbers >= 0 like 0,0.25,0.5", text, "list radii")
    return radii
