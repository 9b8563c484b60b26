"""Tables and pictures of certified accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import cert_core as cc


def table(rows: Mapping[str, Sequence[float]], radii: Sequence[float], corner: str) -> str:
    """Certified accuracies as aligned text, one named row each, one column a radius."""
    width = max(len(corner), *(len(name) for name in rows))
    head = corner.ljust(width) + "".join(f"{r:>7g}" for r in radii)
    lines = [
        name.ljust(width) + "".join(f"{share:>7.0%}" for share in shares)
        for name, shares in rows.items()
    ]
    return "\n".join([head, "-" * len(head), *lines])


def draw_curves(
    panels: Mapping[str, Mapping[str, cc.Certificates]],
    labels: Any,
    path: str | Path,
    title: str,
) -> None:
    """Certified accuracy against radius, a panel an attack, a curve a noise.

    Parameters
    ----------
    panels : attack -> noise's name -> certificates of the same inputs
    labels : (N,) true classes
    path : .png, .svg or .pdf file to write
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(panels), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (attack, curves) in zip(axes, panels.items(), strict=True):
        reach = max(float(c.radius.max(initial=0.0)) for c in curves.values()) * 1.05 + 1e-9
        radii = np.linspace(0.0, reach, 400)
        for name, certificates in curves.items():
            shares = cc.certified_accuracy(certificates, labels, radii)
            axis.step(radii, shares, where="post", label=name)
        axis.set_xlabel(f"{attack} radius")
        axis.set_title(f"{attack} attack")
        axis.set_ylim(0.0, 1.0)
        axis.set_xlim(0.0, reach)
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    axes[0].set_ylabel("certified accuracy")
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
