"""cert compare: what the noise families certify at one noise level."""

from __future__ import annotations

import argparse
from typing import Any

import cert_core as cc
from cert_models.commands.options import UsageError, add_attack, add_output, emit
from cert_models.logs import rounded_down

FAMILIES = "gaussian,laplace,l1:0.5,l2:0.5,linf,linf:0.5,mixed:0.1,mixed:0.5"
PROBABILITIES = "0.6,0.8,0.9,0.99,0.999"


def add(commands: Any) -> None:
    """The parser of this command."""
    parser = commands.add_parser("compare", help="noise families side by side at one noise level")
    parser.add_argument("--dim", type=int, required=True, help="number of input coordinates")
    add_attack(parser)
    parser.add_argument(
        "--rms", type=float, default=1.0, help="noise level: root mean square a coordinate"
    )
    parser.add_argument(
        "--noises", default=FAMILIES, metavar="NAME[:SHARE],...",
        help="families, each with k/dim after a colon (default: %(default)s)",
    )  # fmt: skip
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--p", default=PROBABILITIES, help="print the radii of these class probabilities"
    )
    group.add_argument("--radius", help="print the probabilities that these radii need")
    parser.add_argument("--picture", help="write p_min against radius to this .png, .svg or .pdf")
    add_output(parser)
    parser.set_defaults(run=run_compare)


def run_compare(options: argparse.Namespace) -> int:
    """cert compare."""
    noises = [_noise(item, options.dim, options.rms) for item in options.noises.split(",")]
    by_radius = options.radius is not None
    points = _numbers("--radius" if by_radius else "--p", options.radius or options.p)
    rows = {}
    for name, noise in noises:
        if by_radius:
            values = [cc.required_probability(noise, options.attack, r) for r in points]
        else:
            values = [cc.certified_radius(p, noise, options.attack) for p in points]
        rows[name + ("" if cc.is_tight(noise, options.attack) else " *")] = values
    if options.picture:
        _draw(options, noises)
    head = f"{options.attack} radius" if by_radius else "p"
    width = max(len(head), *map(len, rows))
    # a probability that is needed is rounded up, a radius that is certified down
    lines = [head.ljust(width) + "".join(f"{x:>10g}" for x in points)]
    lines += [
        name.ljust(width)
        + "".join(f"{_up(v) if by_radius else rounded_down(v, 5):>10}" for v in values)
        for name, values in rows.items()
    ]
    what = "probability needed at each radius" if by_radius else "certified radius at each p"
    text = f"d = {options.dim}, rms {options.rms:g} a coordinate, {options.attack} attack: {what}"
    if any(name.endswith("*") for name in rows):
        lines.append("* by inclusion in another ball: sound, not tight")
    summary = {
        "dim": options.dim, "rms": options.rms, "attack": options.attack,
        "radius" if by_radius else "p": points, "rows": rows,
        "noises": {name: noise.to_dict() for name, noise in noises},
    }  # fmt: skip
    if options.picture:
        lines.append(f"wrote {options.picture}")
    emit(options, summary, "\n".join([text, *lines]))
    return 0


def _up(probability: float) -> str:
    return f"{1 - float(rounded_down(1 - probability, 6)):.6f}"


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"{option} must be numbers with commas between, got {text!r}: e.g. 0.5,1"
        ) from None


def _noise(item: str, dim: int, rms: float) -> tuple[str, cc.Noise]:
    """A family at this level from "name" or "name:k/dim"."""
    name, _, share = item.partition(":")
    if name not in cc.NOISES or name == "radial":
        known = ", ".join(sorted(set(cc.NOISES) - {"radial"}))
        raise UsageError(f"--noises must name families of {known}, got {name!r}: choose from them")
    try:
        k = float(share or 0) * dim
    except ValueError:
        raise UsageError(
            f"--noises must have a number after the colon, got {item!r}: pass k/dim"
        ) from None
    label = f"{name} k={k:g}" if k else name
    return label, cc.NOISES[name].with_rms(dim, rms, k)


def _draw(options: argparse.Namespace, noises: list[tuple[str, cc.Noise]]) -> None:
    """p_min against radius, on a normal scale, where a Gaussian is a straight line."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from scipy.special import ndtri

    marks = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, noise in noises:
        end = cc.certified_radius(0.999, noise, options.attack)
        radii = [end * i / 20 for i in range(1, 21)]
        needed = [cc.required_probability(noise, options.attack, r) for r in radii]
        scores = [0.0, *(float(ndtri(min(p, 1 - 1e-16))) for p in needed)]
        axes.plot([0.0, *radii], scores, label=name)
    axes.set_yticks([float(ndtri(p)) for p in marks], [f"{p:g}" for p in marks])
    axes.set_ylim(0.0, float(ndtri(0.999)))
    axes.set_xlim(left=0.0)
    axes.set_xlabel(f"{options.attack} radius")
    axes.set_ylabel("class probability needed")
    axes.set_title(f"d = {options.dim}, rms {options.rms:g} a coordinate")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(options.picture, dpi=150)
    plt.close(figure)
