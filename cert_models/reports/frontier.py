"""The trade of accuracy for robustness that Eq. 9 speaks of, as noises tuned show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cert_core.rounding import in_full
from cert_models.files.names import plain
from cert_models.reports.settings import settings
from cert_models.reports.tables import steps_of
from cert_models.store.results import Floats, Result

FAINT = 0.35


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimated:
    """What a search estimates of a candidate: too high where that was chosen.

    Attributes
    ----------
    name, family : str
    radius : (n,) float64
        Certified with the right label, or 0, of each input that judged it: of the tested radii.
    """

    name: str
    family: str
    radius: Floats


def draw_frontier(
    estimated: Sequence[Estimated], winners: Sequence[Result], tested: Sequence[float], path: Any,
    title: str, *, kind: str = "",
) -> None:  # fmt: skip
    """Draw accuracy against radius, and against the average radius, of candidates and winners.

    Parameters
    ----------
    estimated : the candidates, drawn faintly
    winners : what they certify afresh, drawn boldly
    tested : the radii of the search, ascending
    path : .png, .svg or .pdf file to write, or an open binary file
    title : str
    kind : format of an open file
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kind = kind or Path(path).suffix[1:].lower()
    with settings({"text.parse_math": False, "svg.hashsalt": "cert"}):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        curves, trade = figure.subplots(1, 2)
        _curves(curves, estimated, winners, np.array(tested))
        _trade(trade, estimated, winners, np.array(tested))
        measure = winners[0].measure
        curves.set(
            xlabel=f"{measure}, input units", ylabel="certified accuracy", ylim=(0.0, 1.0),
            title="accuracy by radius",
        )  # fmt: skip
        trade.set(
            xlabel=f"certified accuracy at {in_full(tested[0])}",
            ylabel=f"average {measure}, by the steps tested",
            title="accuracy for robustness (Eq. 9)",
        )
        figure.suptitle(plain(title, keep="\n"), fontsize="medium")
        metadata = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
        figure.savefig(path, dpi=150, format=kind, metadata=metadata)


def _colours(estimated: Sequence[Estimated]) -> dict[str, str]:
    """One a candidate's family."""
    families = list(dict.fromkeys(each.family for each in estimated))
    return {each.name: f"C{families.index(each.family) % 10}" for each in estimated}


def _curves(
    axis: Any, estimated: Sequence[Estimated], winners: Sequence[Result], tested: Floats
) -> None:
    colours, label = _colours(estimated), "searched: estimates"
    for each in estimated:
        shares = [(each.radius >= r).mean() for r in tested] if len(each.radius) else []
        axis.plot(
            tested[: len(shares)], shares, ".-", color=colours[each.name], alpha=FAINT,
            linewidth=0.9, label=label,
        )  # fmt: skip
        label = "_"
    tops = [r.certified[np.isfinite(r.certified)].max(initial=0.0) for r in winners]
    reach = 1.05 * float(max(*tops, tested[-1]))
    for i, result in enumerate(winners):
        axis.step(
            *steps_of(result, reach, None), where="pre", color=colours[result.name],
            linestyle=("-", "--", "-.", ":")[i % 4], linewidth=2.0,
            label=f"{plain(result.name)}, afresh",
        )  # fmt: skip
    axis.set_xlim(0.0, reach)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")


def _trade(
    axis: Any, estimated: Sequence[Estimated], winners: Sequence[Result], tested: Floats
) -> None:
    colours = _colours(estimated)
    for each in estimated:
        if len(each.radius):
            at = _point(each.radius, tested)
            axis.plot(*at, "o", color=colours[each.name], alpha=FAINT)
            axis.annotate(
                plain(each.name), at, (4, 3), textcoords="offset points", fontsize="xx-small",
                alpha=0.7, annotation_clip=True,
            )  # fmt: skip
    for i, result in enumerate(winners):
        at = _point(np.maximum(result.certified, 0.0), tested)
        axis.plot(
            *at, "Ds^vP*"[i % 6], color=colours[result.name],
            markersize=8, markeredgecolor="black", label=f"{plain(result.name)}, afresh",
        )  # fmt: skip
    axis.margins(0.15)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small")


def _point(radius: Floats, tested: Floats) -> tuple[float, float]:
    """Accuracy at the least radius tested, and the mean of the largest tested one held."""
    held = np.concatenate([[0.0], tested])[np.searchsorted(tested, radius, side="right")]
    return float((radius >= tested[0]).mean()), float(held.mean())
