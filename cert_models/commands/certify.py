"""cert certify: model + data + noise -> counts -> certificates."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import cert_core as cc
from cert_core.rounding import in_full, percent, radius, samples
from cert_models.commands.options import (
    UsageError,
    add_attack,
    add_data,
    add_model,
    add_noise,
    add_output,
    add_scales,
    chosen_inputs,
    emit,
    listed,
    noise_of,
)
from cert_models.commands.progress import progress
from cert_models.commands.tasks import add_task, check_single, run_task
from cert_models.logs import LogWriter, Row, check_new, write_log
from cert_models.run import (
    StoredRun,
    Worker,
    certified_right,
    columns_of,
    joined_rows,
    keep_memory,
    row_of,
    rows_of,
    sampler_of,
    samples_of,
)
from cert_models.store.fingerprints import data_fingerprint, model_fingerprint
from cert_models.store.readings import read_run
from cert_models.store.results import measure_of
from cert_models.store.runs import FixedPlan, Plan, Run, ScorePlan, SequentialPlan, Votes


def add(commands: Any) -> None:
    """The parser of this group."""
    parser = commands.add_parser("certify", help="certify a data set")
    add_noise(parser)
    add_scales(parser)
    add_attack(parser)
    add_output(parser)
    add_data(parser)
    add_model(parser)
    add_run(parser)
    add_task(parser)
    parser.add_argument(
        "--autocast", choices=("bfloat16", "float16"), help="precision of a torch module's passes"
    )
    add_forward(parser)
    add_tests(parser)
    parser.add_argument("--store", help="file that keeps the counts; a run goes on from it")
    parser.add_argument("--run", dest="run_name", metavar="NAME", help="name of the run there")
    parser.add_argument("--out", help="log to write: idx label predict radius correct time")
    parser.set_defaults(run=run_certify)


def add_run(parser: argparse.ArgumentParser) -> None:
    """How much to draw, and of which inputs."""
    parser.add_argument("--n0", type=int, default=100, help="selection samples an input")
    parser.add_argument("--n", type=int, default=10_000, help="estimation samples an input")
    parser.add_argument("--alpha", type=float, default=0.001, help="failure probability an input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max", type=int, help="inputs to process")
    parser.add_argument("--skip", type=int, default=1, help="process every SKIP-th input")
    parser.add_argument("--indices", help="inputs to process, e.g. 0,7,100-199")
    parser.add_argument(
        "--batch-size", type=_rows, default=1000, metavar="ROWS",
        help="rows of a forward pass, or auto: found by trial",
    )  # fmt: skip
    parser.add_argument("--device", help="torch device of the model")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--progress", choices=("bar", "json"), default="bar", help="its form")


def _rows(text: str) -> int:
    """Rows of a forward pass; 0 for those found by trial."""
    if text == "auto":
        return 0
    if not text.isdecimal() or len(text) > 9 or int(text) == 0:
        rule = "must be an integer >= 1 or auto, of nine digits at most"
        raise argparse.ArgumentTypeError(f"{rule}, got {text[:40]!r}")
    return int(text)


def add_forward(parser: argparse.ArgumentParser) -> None:
    """How a torch module is run, in one precision."""
    parser.add_argument("--channels-last", action="store_true", help="order its images by pixel")
    parser.add_argument("--compile", action="store_true", help="compile it (torch.compile)")


def add_tests(parser: argparse.ArgumentParser) -> None:
    """Sampling that stops early, for decisions fixed before it."""
    rule = parser.add_mutually_exclusive_group()
    rule.add_argument(
        "--at", metavar="R1,R2,...", help="certify these radii alone; n is then the most an input"
    )
    rule.add_argument(
        "--until", type=float, metavar="WIDTH", help="certify radii to this relative width alone"
    )
    parser.add_argument(
        "--votes", choices=("hard", "soft"), default="hard",
        help="average votes, or scores (softmax; a function returns its own)",
    )  # fmt: skip
    parser.add_argument(
        "--runner-up", action="store_true", help="bound the runner-up as well, at alpha/2 each"
    )


def plan_of(options: argparse.Namespace, noise: cc.Noise) -> Plan:
    """The sampling that the options ask for; refuses what could certify nothing."""
    stops = options.at is not None or options.until is not None
    if options.votes == "soft" and (stops or options.runner_up):
        raise UsageError("--votes soft must come without --at, --until and --runner-up: drop them")
    if options.runner_up and stops:
        raise UsageError("--runner-up must come without --at and --until: it needs n votes")
    sampling = {"n_max": options.n, "alpha": options.alpha, "n0": options.n0}
    if options.until is not None:
        return SequentialPlan(cc.plan_until(noise, options.attack, options.until, **sampling))
    if options.at is not None:
        return SequentialPlan(
            cc.plan_at(noise, options.attack, listed("--at", options.at), **sampling)
        )
    k = 1 if options.runner_up else None
    cc.check_sampling(noise, options.attack, options.n, options.alpha, k=k)
    return (ScorePlan if options.votes == "soft" else FixedPlan)(options.n0, options.n)


def run_certify(options: argparse.Namespace) -> int:
    """cert certify."""
    if options.task != "classification":
        return run_task(options)
    check_single(options)
    from cert_models.data.datasets import load
    from cert_models.networks.models import check_accuracy, check_noise, load_model

    # A model may change the folder; what is written is meant from here.
    log, path = (Path(os.path.realpath(p)) if p else None for p in (options.out, options.store))
    if log is not None and log == path:
        raise UsageError(f"--out must be another file than --store, got {options.out!r}: name two")
    data = load(options.data)
    noise = noise_of(options, int(np.prod(data.x.shape[1:])), data.x)
    indices = chosen_inputs(options, len(data))
    classes = options.classes if options.classes is not None else data.num_classes
    data.check_classes(classes)
    plan = plan_of(options, noise)
    worker = Worker.from_environment()
    if options.store is None and (worker.world > 1 or options.run_name is not None):
        raise UsageError("--store must be given for --run and for several workers: name a file")
    device = worker.device(options.device)
    model = load_model(
        options.model, classes, arch=options.arch, normalize=options.normalize,
        weights=options.weights, device=device,
    )  # fmt: skip
    kept = options.store is not None
    # before it is called, which may change what it holds
    fingerprint = model_fingerprint(model, options.model, options.autocast) if kept else ""
    check_noise(model, noise)
    check_accuracy(model, data, indices)
    run = Run(
        plan, noise, options.seed, options.batch_size, classes, options.model, fingerprint,
        options.data, data_fingerprint(data) if kept else "", options.attack, options.alpha,
    )  # fmt: skip
    keep_memory()
    sample = sampler_of(
        model, run, data, device=device, autocast=options.autocast,
        channels_last=options.channels_last, compiled=options.compile,
    )  # fmt: skip
    if path is None:
        return _certify_unstored(options, run, sample, data.y, indices, log)
    stored = StoredRun(path, options.run_name or "default", run, indices, worker)
    return _certify_stored(options, sample, stored, log)


def _certify_unstored(
    options: argparse.Namespace,
    run: Run,
    sample: Any,
    labels: Any,
    indices: list[int],
    log: Path | None,
) -> int:
    """Certify and keep nothing but the log."""
    extra = columns_of(run.noise, runner_up=options.runner_up)
    writer = LogWriter(log, tuple(extra)) if log else None
    rows: dict[int, Row] = {}
    drawn = 0
    with contextlib.closing(writer) if writer else contextlib.nullcontext():
        for votes in progress(
            sample(indices), len(indices), "certify", _right(options, run),
            quiet=options.quiet, form=options.progress,
        ):  # fmt: skip
            rows[votes.index] = row_of(votes, run, runner_up=options.runner_up)
            drawn += samples_of(votes, run.plan)
            if writer:
                writer.add(rows[votes.index])
    certificates = joined_rows(
        [rows[index] for index in indices], run.noise, run.attack,
        n0=options.n0, n=options.n, alpha=run.alpha,
    )  # fmt: skip
    _report(options, certificates, labels[indices], drawn / len(indices))
    return 0


def _right(options: argparse.Namespace, run: Run) -> Callable[[Votes], bool]:
    if options.runner_up:
        return lambda votes: bool(row_of(votes, run, runner_up=True).correct)
    return lambda votes: certified_right(votes, run.plan, options.alpha)


def _certify_stored(
    options: argparse.Namespace, sample: Any, stored: StoredRun, log: Path | None
) -> int:
    """Certify what the store lacks; one of the workers reports when all is there."""
    worker = stored.worker
    was_complete = set(stored.indices) <= stored.merged()
    if log and not was_complete:
        check_new(log)
    left = stored.left()
    before = stored.rows_before()
    label = "certify" if worker.world == 1 else f"worker {worker.rank} of {worker.world}"
    for _ in progress(
        stored.keep(sample(left)), len(before) + len(left), label, _right(options, stored.run),
        quiet=options.quiet or (worker.rank > 0 and options.progress == "bar"),
        form=options.progress, done=len(before), correct=sum(row.correct for row in before),
    ):  # fmt: skip
        pass
    missing, reports = stored.finish(was_complete)
    if missing:
        return _incomplete(missing, stored)
    if not reports:
        return 0
    with stored.opened(stored.path, readonly=True) as store:
        reading = read_run(
            store, stored.name, stored.indices,
            attack=options.attack, alpha=options.alpha, runner_up=options.runner_up,
        )  # fmt: skip
    if log:
        write_log(log, rows_of(reading))
    result = reading.certificates
    drawn = result.n0 + result.n
    if isinstance(result, cc.SequentialCertificates):
        drawn = result.samples.mean()
    _report(options, result, reading.labels, float(drawn))
    return 0


def _incomplete(missing: int, stored: StoredRun) -> int:
    """Say what is missing; no success unless others are known to do it."""
    worker = stored.worker
    print(
        f"cert: {missing} of {len(stored.indices)} inputs are missing: RANK={worker.rank} and "
        f"WORLD_SIZE={worker.world} leave them to the other workers; without these in the "
        "environment one process does all",
        file=sys.stderr,
    )
    return 0 if worker.others() else 1


def _report(
    options: argparse.Namespace, certificates: cc.Certificates, labels: Any, drawn: float
) -> None:
    top = float(certificates.radius.max(initial=0.0))
    radii = sorted({float(radius(top * i / 8, 3)) for i in range(9)})
    if options.at is not None:
        radii = sorted(listed("--at", options.at))
    shares = cc.certified_accuracy(certificates, labels, radii)
    abstained = int((certificates.label == cc.ABSTAIN).sum())
    measure = measure_of(certificates.attack, certificates.noise)
    heads = measure, "certified accuracy"
    width = max(map(len, heads))
    lines = [heads[0].ljust(width) + "".join(f"{in_full(r):>8}" for r in radii)]
    cells = (percent(round(len(labels) * s), len(labels)) for s in shares)
    lines.append(heads[1].ljust(width) + "".join(f"{cell:>8}" for cell in cells))
    lines.append(
        f"{len(labels)} inputs, {abstained} abstained; alpha {in_full(certificates.alpha)} "
        f"an input, n {certificates.n}; abstentions count as wrong"
    )
    if options.at is not None or options.until is not None:
        lines[-1] += f"; {samples(drawn)} samples an input on average"
    if options.out:
        lines.append(f"log written to {options.out}")
    if options.store:
        lines.append(f"counts kept in {options.store}")
    values = {
        "radii": radii, "certified_accuracy": [float(s) for s in shares], "inputs": len(labels),
        "abstained": abstained, "alpha": certificates.alpha, "n": certificates.n,
        "samples": drawn,
        "noise": certificates.noise.to_dict(), "attack": certificates.attack, "measure": measure,
        "tight": certificates.tight, "out": options.out,
        "store": options.store,
    }  # fmt: skip
    emit(options, values, "\n".join(lines))
