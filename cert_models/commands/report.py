"""cert report: tables, curves and a page of logs and runs."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

import cert_core as cc
from cert_models.commands.options import (
    ATTACKS,
    FAMILIES,
    SQLITE,
    UsageError,
    add_bound,
    add_data,
    add_noise,
    add_scales,
    add_table,
    check_targets,
    described,
    emit,
    noise_of,
    numbers_of,
    target,
    write_text,
)
from cert_models.commands.sources import (
    accuracies,
    named_apart,
    named_path,
    radii_of,
    shared_inputs,
    stored_results,
)
from cert_models.parsing import Plot
from cert_models.store.claims import Proofs, Proved

if TYPE_CHECKING:
    from cert_models.data.datasets import Dataset
    from cert_models.store.results import Floats, Result


def add(commands: Any) -> None:
    """The parser of this group."""
    parser = commands.add_parser(
        "report", help="tables and curves of logs and runs",
        example="cert report log.tsv runs.db --at 0,0.25,0.5 --picture curves.png",
    )  # fmt: skip
    parser.add_argument(
        "sources", nargs="+", metavar="[NAME=]LOG_OR_STORE",
        help="logs (idx label predict radius correct time) and count stores",
    )  # fmt: skip
    parser.add_argument("--run", dest="runs", action="append", metavar="NAME",
                        help="of the stores' runs this one only; may be repeated")  # fmt: skip
    parser.add_argument("--attack", choices=ATTACKS,
                        help="norm of the radii (default: a run's own; l2 of a log)")  # fmt: skip
    parser.add_argument(
        "--alpha", type=float, help="failure probability an input (default: a run's own)"
    )
    add_bound(parser)
    parser.add_argument("--at", metavar="R1,R2,...", help="radii of the table")
    parser.add_argument("--rho", type=float, metavar="P",
                        help="add what holds with probability 1 - P, e.g. 0.001")  # fmt: skip
    parser.add_argument("--proved", metavar="TABLE",
                        help="say what this table of cert prove --out proves of them")  # fmt: skip
    parser.add_argument("--jointly", type=float, metavar="R",
                        help="add what holds of all inputs at once, at this radius, of runs of "
                        "fixed n")  # fmt: skip
    parser.add_argument("--common", action="store_true", help="only inputs that all have")
    add_table(parser)
    parser.add_argument("--picture", action="append", default=[], metavar="FILE",
                        help="curves as .png, .svg or .pdf; may be repeated")  # fmt: skip
    parser.add_argument("--plot", action=Plot, dest="picture", help=argparse.SUPPRESS)
    parser.add_argument("--html", metavar="FILE", help="one page with curves, tables and inputs")
    parser.add_argument("--title", default="Certified accuracy", help="of pictures and page")
    parser.add_argument("--images", type=int, default=5, help="inputs on the page, with --data")
    add_data(parser, required=False)
    add_noise(parser, required=False)
    add_scales(parser)
    parser.set_defaults(run=run_report)


def run_report(options: argparse.Namespace) -> int:
    """cert report."""
    from cert_models.reports import tables as report

    check_targets(options)
    options.proofs = Proofs(options.proved) if options.proved else None
    if options.jointly is not None and options.common:
        raise UsageError("--jointly must come without --common: it is of all inputs of a run")
    if described(options) and all(_is_store(named_path(s)[1]) for s in options.sources):
        raise UsageError(
            f"--noise must come with a log, got {options.noise!r} for stores, which have theirs: "
            "drop it"
        )
    results = [r for source in options.sources for r in _results(source, options)]
    results = named_apart(results)
    if options.common:
        results = shared_inputs(results)
    made = report.tables(results, radii_of(options.at), options.rho)
    text = "\n\n".join(report.FORMATS[options.format](table) for table in made)
    written = []
    page = _page(options, results, made)
    for path in options.picture:
        with target(path, options) as new:
            report.curves(results, new, options.title, rho=options.rho)
        written.append(path)
    for path, content in ((options.html, page), (options.out, text + "\n")):
        if path:
            write_text(path, content, options)
            written.append(path)
    values = {"results": [_values(r, options) for r in results], "written": written}
    shown = text if not options.out else ""
    if written and options.format == "text":
        shown += f"\n\nwritten: {', '.join(written)}"
    emit(options, values, shown.strip())
    return 0


def _results(source: str, options: argparse.Namespace) -> Iterator[Result]:
    """What one source on the command line holds."""
    name, path = named_path(source)
    yield from (stored_results if _is_store(path) else _logged)(path, name, options)


def _is_store(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except OSError as error:
        raise UsageError(
            f"source must be a log or a count store, got {path!r} ({error.strerror}): "
            "check the path"
        ) from None


def _logged(path: str, name: str, options: argparse.Namespace) -> Iterator[Result]:
    from cert_models.logs import (
        FAILED,
        check_scales,
        check_stated,
        log_name,
        mode_of_rows,
        read_columns,
    )
    from cert_models.store.results import Result
    from cert_models.store.runs import bound_column

    if options.jointly is not None:
        raise UsageError(
            f"--jointly must be of the counts of a store, got the log {path!r}: drop it"
        )
    log, noise = read_columns(path), _noise_of_logs(options)
    rows = log.distinct()
    stated = numbers_of(noise) if noise else {}
    check_scales(path, rows, noise)
    check_stated(path, rows, stated | ({} if options.alpha is None else {"alpha": options.alpha}))
    own = bound_column(options.bound).get("bound")
    if options.bound and any(row.extra.get("bound") != own for row in rows):
        raise UsageError(
            f"--bound must be that of a log, which has its radii, got {options.bound!r} for "
            f"{path!r}: leave it out, or report its store"
        )
    mode = mode_of_rows(path, rows)
    fails = log.extra.get(FAILED, ["0"] * len(log))
    yield Result(
        name=name or log_name(path), indices=log.index, labels=log.label, predict=log.predict,
        radius=log.radius, attack=options.attack or "l2", alpha=options.alpha, noise=noise,
        note="" if options.attack else "a log, its radii taken as l2",
        proved=_proved(log.radius, noise, options), mode=mode,
        failed=np.array([int(text) for text in fails]) if mode else None,
    )  # fmt: skip


def _proved(radius: Floats, noise: cc.Noise | None, options: argparse.Namespace) -> Proved | None:
    """What the table of proofs says of a log's radii."""
    if options.proofs is None:
        return None
    if noise is None or options.alpha is None:
        raise UsageError("--noise and --alpha must be given for a log with --proved: add them")
    found: Proved = options.proofs.of_radii(
        radius, options.attack or "l2", noise, options.alpha, None
    )
    return found


def _noise_of_logs(options: argparse.Namespace) -> cc.Noise | None:
    """The noise that --noise describes, of the size of the data's inputs if --data is given."""
    if options.noise is None:
        return None
    if not options.data:
        return noise_of(options)
    x = _data(options, FAMILIES[options.noise].categorical).x
    return noise_of(options, int(np.prod(x.shape[1:])), x)


def _data(options: argparse.Namespace, categorical: bool) -> Dataset:
    """What --data names."""
    from cert_models.data.datasets import load

    return load(options.data, categorical=categorical)


def _page(options: argparse.Namespace, results: list[Result], made: Any) -> str:
    """The HTML page, with inputs where the data are given."""
    if not options.html:
        return ""
    from cert_models.reports.page import gallery, page

    cc.errors.integer("--images", options.images, 1, remedy="or leave out --data")
    pictures = []
    if options.data:
        categorical = any(r.noise is not None and r.noise.categorical for r in results)
        pictures = gallery(_data(options, categorical), results, options.images)
    return page(options.title, results, made, pictures, rho=options.rho)


def _values(result: Result, options: argparse.Namespace) -> dict[str, Any]:
    """A result as plain values."""
    from cert_models.store.results import default_radii

    radii = radii_of(options.at) or default_radii([result])
    values: dict[str, Any] = {
        "name": result.name, "inputs": len(result), "attack": result.attack,
        "measure": result.measure, "alpha": result.alpha, "abstained": result.abstained,
        "noise": result.noise.to_dict() if result.noise else None,
        "average_radius": result.average_radius() if result.tested is None else None,
        "radii": radii, "certified_accuracy": accuracies(result, radii),
    }  # fmt: skip
    if result.mode:
        fails = None if result.failed is None else int(np.sum(result.failed))
        values |= {"sound": result.mode, "cost": result.cost, "failed": fails}
    if result.jointly is not None:
        values["jointly"] = dataclasses.asdict(result.jointly)
    if result.proved is not None:
        values["proved"] = result.proved.whole
        values["proofs"] = dataclasses.asdict(result.proved)
    if options.rho is not None:
        values["rho"] = options.rho
        values["high_probability"] = accuracies(result, radii, options.rho)
    return values
