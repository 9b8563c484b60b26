"""cert compare --store: runs of the same inputs side by side, the best at each radius."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cert_models.commands.options import add_bound, emit_table, target
from cert_models.commands.sources import accuracies, radii_of, results_of_stores, shared_inputs

if TYPE_CHECKING:
    from cert_models.reports.envelope import Best
    from cert_models.store.results import Result


def add(parser: argparse.ArgumentParser) -> None:
    """What is asked of stores alone."""
    group = parser.add_argument_group("runs of count stores, by certified accuracy")
    group.add_argument("--store", nargs="+", metavar="[NAME=]FILE", help="count stores to compare")
    group.add_argument("--run", dest="runs", action="append", metavar="NAME",
                       help="of their runs this one only; may be repeated")  # fmt: skip
    group.add_argument(
        "--alpha", type=float, help="failure probability an input (default: a run's own)"
    )
    add_bound(group)
    group.add_argument("--at", metavar="R1,R2,...", help="radii of the table")
    group.add_argument(
        "--common", action="store_const", const=True, help="only inputs that all runs have"
    )


def run_compare_runs(options: argparse.Namespace) -> int:
    """cert compare --store."""
    from cert_models.reports import tables as report
    from cert_models.reports.envelope import best_at, best_tables, check_comparable
    from cert_models.store.results import default_radii

    results = results_of_stores(options.store, options)
    if options.common:
        results = shared_inputs(results)
    check_comparable(results)
    radii = radii_of(options.at) or default_radii(results)
    written = []
    if options.picture:
        title = f"{len(results)} runs of the same {len(results[0])} inputs"
        with target(options.picture, options) as new:
            report.curves(results, new, title, best=True)
        written.append(options.picture)
    made = best_tables(results, radii)
    text = "\n\n".join(report.FORMATS[options.format](table) for table in made)
    values: dict[str, Any] = {
        "attack": options.attack, "radii": radii,
        "results": [_values(r, radii) for r in results],
        "best": [_best(b) for b in best_at(results, radii)],
    }  # fmt: skip
    emit_table(options, text, written, values)
    return 0


def _values(result: Result, radii: list[float]) -> dict[str, Any]:
    return {
        "name": result.name, "model": result.model, "data": result.data, "inputs": len(result),
        "alpha": result.alpha, "noise": result.noise.to_dict() if result.noise else None,
        "certified_accuracy": accuracies(result, radii),
        **({"sound": result.mode} if result.mode else {}),
    }  # fmt: skip


def _best(best: Best) -> dict[str, Any]:
    names = [r.name for r in best.results]
    return {"radius": best.radius, "certified_accuracy": best.accuracy, "runs": names}
