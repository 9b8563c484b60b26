"""cert runs, cert export, cert import, cert merge: count stores, and the logs of Cohen et al."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import cert_core as cc
from cert_core.rounding import in_full, lower, radius
from cert_models.commands.options import (
    ATTACKS,
    UsageError,
    add_attack,
    add_bound,
    add_noise,
    add_output,
    add_scales,
    add_table,
    bound_of,
    check_invertible,
    check_targets,
    emit,
    emit_table,
    noise_of,
    numbers_of,
)
from cert_models.commands.progress import resumable
from cert_models.commands.sources import run_names
from cert_models.logs import (
    Row,
    check_scales,
    check_stated,
    lattice_of,
    log_name,
    mode_of_rows,
    read_log,
    scales_column,
    write_lines,
    write_log,
)
from cert_models.parsing import RunnerUp
from cert_models.store.counts import CountStore
from cert_models.store.readings import read_run
from cert_models.store.results import named_mode
from cert_models.store.runs import LogPlan, Run, SequentialPlan


def add(commands: Any) -> None:
    """The parsers of this group."""
    runs = commands.add_parser(
        "runs", help="what runs stores keep", example="cert runs runs.db --format markdown"
    )
    runs.add_argument("sources", nargs="+", metavar="STORE", help="files that keep counts")
    add_table(runs)
    runs.set_defaults(run=run_runs)
    export = commands.add_parser(
        "export", help="write a run of a store as a log",
        example="cert export --store runs.db --run default --out exported.tsv",
    )  # fmt: skip
    export.add_argument("--out", required=True, help="log to write")
    export.add_argument("--attack", choices=ATTACKS, help="default: the run's")
    export.add_argument("--alpha", type=float, help="default: the run's")
    add_bound(export)
    export.add_argument("--runner-up", action=RunnerUp, help=argparse.SUPPRESS)
    export.set_defaults(run=run_export)
    log = commands.add_parser(
        "import", help="keep a published log in a store",
        example="cert import log.tsv --noise gaussian --dim 3072 --sigma 0.25 --attack l2 "
        "--alpha 0.001 --n 100000 --store published.db",
    )  # fmt: skip
    log.add_argument(
        "logs", nargs="+", metavar="LOG",
        help="file: idx label predict radius correct time; several, with --run: parts of one run",
    )  # fmt: skip
    add_noise(log)
    add_scales(log)
    add_attack(log)
    log.add_argument("--alpha", type=float, required=True, help="as published")
    log.add_argument("--n0", type=int, default=100, help="as published")
    log.add_argument("--n", type=int, required=True, help="as published")
    log.set_defaults(run=run_import)
    merge = commands.add_parser(
        "merge", help="add all runs of other stores to a store",
        example="cert merge first.db second.db --store all.db",
    )  # fmt: skip
    merge.add_argument("sources", nargs="+", metavar="FILE", help="stores to add")
    merge.set_defaults(run=run_merge)
    for parser in (export, log, merge):
        parser.add_argument("--store", required=True, help="file that keeps the counts")
        add_output(parser)
    for parser in (export, log):
        parser.add_argument("--run", dest="run_name", metavar="NAME", help="name of the run there")


def run_runs(options: argparse.Namespace) -> int:
    """cert runs."""
    from cert_models.reports.tables import FORMATS, Table

    check_targets(options)
    found = [_about(source, name) for source in options.sources for name in run_names(source)]
    header = ("store", "run", "inputs", "noise", "attack", "alpha", "samples", "model", "data")
    first = int(len(options.sources) == 1)  # of one store its name says nothing
    rows = tuple(cells[first:] for cells, _ in found)
    caption = f"{len(found)} run{'s' * (len(found) != 1)} of {', '.join(options.sources)}"
    text = FORMATS[options.format](Table(caption, header[first:], rows, ())).rstrip()
    emit_table(options, text, [], {"runs": [values for _, values in found]})
    return 0


def _about(path: str, name: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    """What a store says of one of its runs: the cells of a table, and values."""
    with CountStore(path, readonly=True) as store:
        run, inputs = store.runs()[name], len(store.indices(name))
    rule: Any = getattr(run.plan, "rule", run.plan)
    most = rule.looks[-1] if isinstance(run.plan, SequentialPlan) else rule.n
    samples = f"{rule.n0} + {most}"
    kinds = {"fixed": "", "sequential": " at most", "all": ", all copies", "log": ", a log"}
    samples += kinds.get(run.plan.kind, f", {run.plan.kind}")
    noises = " | ".join(repr(part.noise) for part in run.parts or (run,))
    cells = (
        path, name, str(inputs), noises, run.attack, in_full(run.alpha), samples, run.model,
        run.data,
    )  # fmt: skip
    return cells, {
        "store": path, "run": name, "inputs": inputs, "noise": run.noise.to_dict(),
        "attack": run.attack, "alpha": run.alpha, "plan": run.plan.to_dict(), "seed": run.seed,
        "sound": run.mode or None, "model": run.model, "data": run.data,
    }  # fmt: skip


def run_export(options: argparse.Namespace) -> int:
    """cert export."""
    with CountStore(options.store, readonly=True) as store:
        name = store.only(options.run_name)
        read = read_run(
            store, name, attack=options.attack, alpha=options.alpha, bound=bound_of(options)
        )
        result = read.certified_by
        if isinstance(store.runs()[name].plan, LogPlan):
            own = scales_column(result.noise)
            extra = [{**row.extra, **own} for row in store.logged(name)]
            pairs = zip(read.rows(), extra, strict=True)
            write_log(options.out, (replace(row, extra=more) for row, more in pairs))
        else:
            write_lines(options.out, read.lines())
    values = {
        "store": options.store, "run": name, "out": options.out, "inputs": len(read),
        "attack": result.attack, "alpha": result.alpha,
    }  # fmt: skip
    text = f"{len(read)} inputs of run {name!r}, {result.attack} radii"
    emit(options, values, f"{text} at alpha {in_full(result.alpha)}, written to {options.out}")
    return 0


def run_import(options: argparse.Namespace) -> int:
    """cert import."""
    noise = noise_of(options)
    first = options.logs[0]
    if len(options.logs) > 1 and options.run_name is None:
        raise UsageError(
            f"--run must be given for several logs, got {len(options.logs)}: name the run whose "
            "parts they are, or import each by itself"
        )
    parts = {path: _rows(path, noise, options) for path in options.logs}
    rows = [row for part in parts.values() for row in part]
    modes = [mode_of_rows(path, part) for path, part in parts.items()]
    name = options.run_name or log_name(first)
    digest = hashlib.sha256(Path(first).read_bytes()).hexdigest()[:32]
    plan = LogPlan(options.n0, options.n, options.attack, options.alpha)
    if len(set(modes)) > 1:
        got = " and ".join(sorted(map(named_mode, set(modes))))
        raise UsageError(
            f"logs of one run must be of one mode, got {got}: import them as runs of their own"
        )
    sound, quantized = lattice_of(modes[0])
    run = Run(
        plan=plan, noise=noise, seed=0, batch_size=0, num_classes=0,
        model=Path(first).name, model_fingerprint=digest, data="", data_fingerprint="",
        attack=options.attack, alpha=options.alpha, sound=sound, quantized=quantized,
    )  # fmt: skip
    _check_claims(options, noise, max(row.radius for row in rows))
    none = resumable(f"nothing was added to {options.store}")
    with none, CountStore(options.store) as store, store.transaction():
        known = store.runs().get(name)
        if options.run_name and known:  # a further part of the run that was named
            run = replace(run, model=known.model, model_fingerprint=known.model_fingerprint)
        store.begin(name, run)
        store.add_logged(name, rows)
        _check_columns(store.logged(name))
        result = read_run(store, name).certified_by
    abstained = int((result.label == cc.ABSTAIN).sum())
    values = {
        "store": options.store, "run": name, "inputs": len(result), "abstained": abstained,
        "p_lower": [float(p) for p in result.p_lower], "noise": noise.to_dict(),
        "attack": options.attack, "alpha": options.alpha,
    }  # fmt: skip
    top = float(result.p_lower.max(initial=0.0))
    emit(
        options, values,
        f"{len(result)} inputs, {abstained} abstained; largest p_lower {lower(top)}\n"
        f"kept as run {name!r} in {options.store}",
    )  # fmt: skip
    return 0


def _rows(path: str, noise: cc.Noise, options: argparse.Namespace) -> list[Row]:
    """The rows of a log that says nothing else of itself than the options do."""
    rows = read_log(path)
    check_invertible(path, rows, "merge the store of its counts instead")
    stated = {"alpha": options.alpha, "n0": options.n0, "n": options.n}
    check_scales(path, rows, noise)
    check_stated(path, rows, numbers_of(noise) | stated)
    return rows


def _check_columns(rows: Sequence[Row]) -> None:
    """Refuse parts of a run that no one log could hold."""
    names = {tuple(row.extra) for row in rows}
    if len(names) > 1:
        raise UsageError(
            f"logs of one run must have the same columns, got {sorted(names)} beside the six: "
            "import them as runs of their own"
        )


def _check_claims(options: argparse.Namespace, noise: cc.Noise, largest: float) -> None:
    """Refuse radii that not even n unanimous votes could give, roundings aside."""
    if options.alpha == 0:  # of all copies
        counts = np.array([[options.n, 0]])
        most = float(cc.certify_deterministic(counts, noise).radius[0])
    else:
        p = cc.binomial_lower(options.n, options.n, options.alpha)
        most = cc.certified_radius(p, noise, options.attack)
    if largest > 1.01 * most:
        raise UsageError(
            f"radii must be at most {radius(most)}, what {options.n} unanimous votes certify at "
            f"alpha {in_full(options.alpha)} under {noise}, got {in_full(largest)}: check the "
            "noise, --n and --alpha"
        )


def run_merge(options: argparse.Namespace) -> int:
    """cert merge."""
    for source in options.sources:
        run_names(source)  # refused before a new store is made
    with CountStore(options.store) as store:
        with resumable(f"nothing was added to {options.store}"):
            new = store.merge(*options.sources)
        done = {name: len(store.indices(name)) for name in store.runs()}
    lines = [f"{new} new inputs in {options.store}"]
    lines += [f"run {name!r}: {count} inputs" for name, count in done.items()]
    emit(options, {"store": options.store, "new": new, "runs": done}, "\n".join(lines))
    return 0
