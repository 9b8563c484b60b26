"""cert compare: what noise families certify at one noise level, or the runs of count stores."""

from __future__ import annotations

import argparse
import math
from typing import Any

import cert_core as cc
from cert_core.rounding import in_full, nearest, reach, upper
from cert_models.commands import compare_runs
from cert_models.commands.options import (
    UsageError,
    add_attack,
    add_table,
    check_targets,
    emit_table,
    listed,
    noise_at,
    rms_of,
    target,
)

SHOWN = "gaussian,laplace,l1:0.5,l2:0.5,linf,linf:0.5,mixed:0.1,mixed:0.5"
PROBABILITIES = "0.6,0.8,0.9,0.99,0.999"
NORM = {"l1": 1.0, "l2": 2.0, "linf": math.inf}
OF_FAMILIES = ("dim", "rms", "mean_norm", "noises", "p", "radius")
OF_RUNS = ("runs", "alpha", "bound", "at", "common")

Named = list[tuple[str, cc.Noise]]


def add(commands: Any) -> None:
    """The parser of this command."""
    parser = commands.add_parser(
        "compare", help="noise families at one noise level, or runs of stores, side by side",
        example="cert compare --dim 3072 --rms 0.25 --attack l1 --noises laplace,l1:0.5,uniform",
    )  # fmt: skip
    add_attack(parser)
    group = parser.add_argument_group("noise families, by their exact laws")
    group.add_argument("--dim", type=int, help="number of input coordinates")
    level = group.add_mutually_exclusive_group()
    level.add_argument(
        "--rms", type=float, help="noise level: root mean square a coordinate (default: 1)"
    )
    level.add_argument(
        "--mean-norm", type=float, help="noise level: mean of the noise's norm, the attack's"
    )
    group.add_argument(
        "--noises", metavar="NAME[:SHARE],...",
        help=f"families, each with k/dim after a colon (default: {SHOWN}); those without a density "
        "with their own parameters, as flips:CATEGORIES:KEEP or ablation:KEEP",
    )  # fmt: skip
    points = group.add_mutually_exclusive_group()
    points.add_argument(
        "--p", help=f"print the radii of these class probabilities (default: {PROBABILITIES})"
    )
    points.add_argument("--radius", help="print the probabilities that these radii need")
    compare_runs.add(parser)
    parser.add_argument("--picture", help="write the curves to this .png, .svg or .pdf")
    add_table(parser)
    parser.set_defaults(run=run_compare)


def run_compare(options: argparse.Namespace) -> int:
    """cert compare."""
    check_targets(options)
    names = {"runs": "run", "mean_norm": "mean-norm"}
    for key in OF_FAMILIES if options.store else OF_RUNS:
        if getattr(options, key) is not None:
            option, rule = (
                names.get(key, key),
                "not be given with" if options.store else "come with",
            )
            raise UsageError(
                f"--{option} must {rule} --store, got {getattr(options, key)}: "
                "compare noise families or runs"
            )
    if options.store:
        return compare_runs.run_compare_runs(options)
    if options.dim is None:
        raise UsageError("--dim must be given, the number of input coordinates, or --store: add it")
    return _run_families(options)


def _run_families(options: argparse.Namespace) -> int:
    """Noise families at one level."""
    from cert_models.reports import tables as report

    listed_noises = (SHOWN if options.noises is None else options.noises).split(",")
    if len(set(listed_noises)) < len(listed_noises):
        raise cc.errors.fail("--noises", "distinct", options.noises, "drop the repeated")
    noises = [_noise(item, options) for item in listed_noises]
    by_radius = options.radius is not None
    points = listed(
        "--radius" if by_radius else "--p",
        options.radius if by_radius else options.p or PROBABILITIES,
    )
    rows = {}
    for name, noise in noises:
        if by_radius:
            values = [cc.required_probability(noise, options.attack, r) for r in points]
        else:
            values = [cc.certified_radius(p, noise, options.attack) for p in points]
        rows[name + ("" if cc.is_tight(noise, options.attack) else " *")] = values
    table = _table(options, noises, points, rows)
    text, written = report.FORMATS[options.format](table).rstrip(), []
    if options.picture:
        _draw(options, noises)
        written.append(options.picture)
    level, value = _level(options)
    summary = {
        "dim": options.dim, level: value, "attack": options.attack,
        "radius" if by_radius else "p": points, "rows": rows,
        "noises": {name: noise.to_dict() for name, noise in noises},
    }  # fmt: skip
    emit_table(options, text, written, summary)
    return 0


def _level(options: argparse.Namespace) -> tuple[str, float]:
    """Which noise level is held equal, and at what value."""
    if options.mean_norm is not None:
        return "mean_norm", options.mean_norm
    return "rms", 1.0 if options.rms is None else options.rms


def _level_in_words(options: argparse.Namespace, noises: Named) -> str:
    if all(rms_of(noise) is None for _, noise in noises):
        return f"d = {options.dim}"
    level, value = _level(options)
    if level == "rms":
        return f"d = {options.dim}, rms {in_full(value)} a coordinate"
    return f"d = {options.dim}, mean {options.attack} norm {in_full(value)}"


def _table(
    options: argparse.Namespace, noises: Named, points: list[float], rows: dict[str, list[float]]
) -> Any:
    """Radii rounded down, or probabilities needed rounded up."""
    from cert_models.reports.tables import Table

    if options.radius is not None:
        what, corner = "probability needed at each radius", f"{options.attack} radius"
    else:
        what, corner = "certified radius at each p", "p"
    cells = []
    for (name, values), (_, noise) in zip(rows.items(), noises, strict=True):
        numbers = [
            upper(v) if options.radius is not None else reach(options.attack, v, 5) for v in values
        ]
        rms = rms_of(noise)
        cells.append((name, "-" if rms is None else nearest(rms, 5), *numbers))
    loose = any(name.endswith("*") for name in rows)
    return Table(
        f"{_level_in_words(options, noises)}, {options.attack} attack: {what}",
        (corner, "rms", *map(in_full, points)),
        tuple(cells),
        ("* by inclusion in another ball: sound, not tight",) if loose else (),
    )


def _noise(item: str, options: argparse.Namespace) -> tuple[str, cc.Noise]:
    """A family at the level asked for, from "name" or "name:k/dim"."""
    dim = cc.errors.size("dim", options.dim, 1, cc.errors.EXACT, remedy="pass the coordinates")
    level, value = _level(options)
    if level == "rms":
        return noise_at(item, dim, value)
    value = cc.errors.positive("--mean-norm", value, remedy="pass input units")
    label, noise = noise_at(item, dim, 1.0)
    if (":" in item and item.partition(":")[0] in cc.CHANNELS) or rms_of(noise) is None:
        return label, noise  # its own parameters, no level
    return label, noise.rescaled(value / cc.moments.norm_moments(noise, NORM[options.attack])[0])


def _draw(options: argparse.Namespace, noises: Named) -> None:
    """p_min against radius, on a normal scale, where a Gaussian is a straight line."""
    from cert_models.reports.settings import settings

    with settings(), target(options.picture, options) as new:
        _drawn(options, noises).savefig(new, dpi=150)


def _drawn(options: argparse.Namespace, noises: Named) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from scipy.special import ndtri

    marks = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999]
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for i, (name, noise) in enumerate(noises):
        end = cc.certified_radius(0.999, noise, options.attack)
        # dense at both ends: p may rise as sqrt r, and steeply where no radius is left
        radii = [end * math.sin(math.pi * j / 80) ** 2 for j in range(1, 41)]
        if options.attack == "l0":
            radii = sorted({math.ceil(r) for r in radii})
        needed = [cc.required_probability(noise, options.attack, r) for r in radii]
        scores = [0.0, *(float(ndtri(min(p, 1 - 1e-16))) for p in needed)]
        mark = "" if cc.is_tight(noise, options.attack) else " *"
        style = ("-", "--", "-.", ":")[i % 4]  # curves may lie on each other
        axes.plot([0.0, *radii], scores, style, label=name + mark)
    axes.set_yticks([float(ndtri(p)) for p in marks], list(map(in_full, marks)))
    axes.set_ylim(0.0, float(ndtri(0.999)))
    axes.set_xlim(left=0.0)
    entries = options.attack == "l0"
    axes.set_xlabel("changed entries" if entries else f"{options.attack} radius, input units")
    axes.set_ylabel("class probability needed")
    axes.set_title(_level_in_words(options, noises))
    axes.grid(alpha=0.3)
    loose = any(not cc.is_tight(noise, options.attack) for _, noise in noises)
    axes.legend(fontsize="small", title="* sound, not tight" if loose else None)
    return figure
