"""cert figures: the figures and trade-offs of Zhang et al. 2020, from the exact laws."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import cert_core as cc
from cert_core.rounding import nearest, radius
from cert_models.commands.options import (
    UsageError,
    add_table,
    check_targets,
    emit_table,
    listed,
    target,
)

if TYPE_CHECKING:
    from cert_models.reports.paper import Numbers
    from cert_models.reports.tables import Table

HELP = {
    "norms": "Figure 1: mean and variance of |z|_2 under Eq. 11, moved by k and by sigma",
    "overlap": "Figure 2: overlap of Eqs. 12 and 13 with their copies shifted by (r, ..., r)",
    "frontier": "Figure 3: accuracy against robustness of Eqs. 11-13 for a ball, d = 5",
    "tradeoff": "Eq. 9: accuracy and robustness as sigma grows",
    "dimension": "linf radii of the Gaussian, Eq. 12 and Eq. 13 as the dimension grows",
}


def add(commands: Any) -> None:
    """The parsers of this group."""
    parser = commands.add_parser("figures", help="figures and trade-offs of the paper, in numbers")
    figures = parser.add_subparsers(required=True, metavar="figure", dest="figure")
    parsers = {
        name: figures.add_parser(name, help=text, example=f"cert figures {name} --format markdown")
        for name, text in HELP.items()
    }
    for each in parsers.values():
        each.add_argument("--picture", help="write it to this .png, .svg or .pdf")
        add_table(each)
        each.set_defaults(run=run_figure)
    parsers["norms"].add_argument("--dim", type=int, default=100, help="of the noise")
    parsers["norms"].add_argument("--n", type=int, default=10_000, help="draws of each noise")
    parsers["norms"].add_argument("--seed", type=int, default=0, help="of all draws")
    for name in ("overlap", "dimension"):
        parsers[name].add_argument("--dims", default="2,64,784,3072", help="comma-separated")
        parsers[name].add_argument("--share", type=float, default=0.02, help="k/d of Eqs. 12, 13")
    parsers["dimension"].add_argument("--p", type=float, default=0.9, help="class probability")
    for name in ("frontier", "tradeoff"):
        parsers[name].add_argument("--radius", type=float, default=0.1, help="of the linf attack")
    parsers["frontier"].add_argument("--lam", type=float, default=1.0, help="lambda of Eq. 9")
    parsers["frontier"].add_argument("--ks", default="0,1,2", help="tried, comma-separated")
    parsers["tradeoff"].add_argument("--k", type=float, default=0.0, help="exponent of Eq. 11")


def run_figure(options: argparse.Namespace) -> int:
    """cert figures NAME."""
    from cert_models.reports import tables as report

    check_targets(options)
    numbers = _numbers(options)
    text, written = report.FORMATS[options.format](_table(numbers)).rstrip(), []
    if options.picture:
        from cert_models.reports.pictures import draw

        with target(options.picture, options) as new:
            draw(numbers, options.figure, str(new))
        written.append(options.picture)
    emit_table(options, text, written, numbers.to_dict())
    return 0


def _numbers(options: argparse.Namespace) -> Numbers:
    from cert_models.reports import paper as figures

    if options.figure == "norms":
        _at_least("--dim", options.dim, 2)
        _at_least("--n", options.n, 2)
        return figures.norms(options.dim, options.n, options.seed)
    if options.figure == "frontier":
        return figures.frontier(options.radius, options.lam, listed("--ks", options.ks))
    if options.figure == "tradeoff":
        return figures.tradeoff(options.radius, options.k)
    dims = listed("--dims", options.dims, int)
    _at_least("--dims", min(dims), 2)
    cc.errors.size("--dims", max(dims), 2, cc.errors.EXACT, remedy="pass numbers of coordinates")
    if options.figure == "overlap":
        return figures.overlap(dims, options.share)
    remedy = "pass a class probability"
    p = cc.errors.real("--p", options.p, "in (0.5, 1)", lambda x: 0.5 < x < 1, remedy=remedy)
    return figures.dimension(p, dims, options.share)


def _at_least(option: str, value: int, least: int) -> None:
    if value < least:
        raise UsageError(f"{option} must be at least {least}, got {value}: pass a larger one")


def _table(numbers: Numbers) -> Table:
    """The numbers as text, five digits or so, those that are bounds rounded down."""
    from cert_models.reports.tables import Table

    def cell(name: str, value: Any) -> str:
        if not isinstance(value, float):
            return str(value)
        if name not in numbers.down:
            return nearest(value, 5)
        return radius(value, 5)

    rows = [tuple(map(cell, numbers.header, row)) for row in numbers.rows]
    return Table(numbers.title, numbers.header, tuple(rows), numbers.notes)
