"""Intervals of values and maps of certified labels: numbers in words, and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cert_core as cc
from cert_core.rounding import percent, rounded_up
from cert_models.files.names import plain
from cert_models.reports.settings import settings

Array = np.ndarray[Any, np.dtype[Any]]
SHOWN = 8  # inputs of a picture of maps, outputs of one of intervals
IMAGE, MAP = 2, 3  # axes of a map that is drawn, and of a picture with channels first
ABSTAINED, WRONG = (0.85, 0.85, 0.87), (0.64, 0.15, 0.11)


@dataclass(frozen=True)
class Intervals:
    """Bounds of M outputs of N inputs.

    Attributes
    ----------
    lower, upper : (N, M) float64
    targets : (N, M) float64, or None
        What is right, where it is known; no part of a certificate.
    """

    lower: Array
    upper: Array
    targets: Array | None

    @property
    def bounded(self) -> Array:
        """Whether both sides of each are finite, (N, M)."""
        return np.isfinite(self.lower) & np.isfinite(self.upper)

    def values(self) -> dict[str, Any]:
        """What they say, JSON-able: widths rounded up where shown."""
        widths = np.sort(self.upper[self.bounded] - self.lower[self.bounded])
        found: dict[str, Any] = {
            "inputs": len(self.lower), "outputs": self.lower.shape[1],
            "unbounded": int((~self.bounded).sum()),
            "median_width": float(widths[len(widths) // 2]) if len(widths) else None,
            "largest_width": float(widths[-1]) if len(widths) else None,
        }  # fmt: skip
        if self.targets is not None:
            inside = (self.lower <= self.targets) & (self.targets <= self.upper)
            found["targets_inside"] = int(inside.sum())
        return found

    def lines(self) -> list[str]:
        """The same in words."""
        said = self.values()
        total = said["inputs"] * said["outputs"]
        lines = [f"{total} intervals, {said['unbounded']} of them unbounded on a side"]
        if said["median_width"] is not None:
            widths = (rounded_up(said[f"{which}_width"], 6) for which in ("median", "largest"))
            lines.append("width: median {}, largest {}".format(*widths))
        if self.targets is not None:
            share = percent(said["targets_inside"], total)
            lines.append(f"targets inside: {said['targets_inside']} of {total} ({share})")
        return lines


@dataclass(frozen=True)
class Maps:
    """Labels of N inputs of one shape, all of an input right at once.

    Attributes
    ----------
    labels : (N, *outputs) int64, with cc.ABSTAIN
    targets : (N, *outputs) int64, or None
    """

    labels: Array
    targets: Array | None

    def values(self) -> dict[str, Any]:
        """What they say, JSON-able."""
        told = self.labels != cc.ABSTAIN
        found: dict[str, Any] = {
            "inputs": len(self.labels), "components": int(np.prod(self.labels.shape[1:])),
            "certified": int(told.sum()),
            "inputs_whole": int(told.reshape(len(told), -1).all(axis=1).sum()),
        }  # fmt: skip
        if self.targets is not None:
            found["certified_right"] = int((told & (self.labels == self.targets)).sum())
        return found

    def lines(self) -> list[str]:
        """The same in words."""
        said = self.values()
        total = said["inputs"] * said["components"]
        lines = [
            f"labels certified: {said['certified']} of {total} "
            f"({percent(said['certified'], total)}), the others abstain; all of an input: "
            f"{said['inputs_whole']} of {said['inputs']}"
        ]
        if self.targets is not None:
            right = said["certified_right"]
            lines.append(f"certified and right: {right} of {total} ({percent(right, total)})")
        return lines


def draw_intervals(
    found: Intervals, path: str | Path, title: str, *, what: str = "value", kind: str = ""
) -> None:
    """Draw the intervals of every output, the inputs in the order of their middles.

    Parameters
    ----------
    found : Intervals
        Of more than eight outputs the first ones are drawn; a side without a bound is cut at
        the axis.
    path : .png, .svg or .pdf file to write
    title, what : text, and the name of what lies inside
    kind : the format, where the path does not end with it
    """
    with settings({"text.parse_math": False, "svg.hashsalt": "cert"}):
        shown = min(found.lower.shape[1], SHOWN)
        figure, axes = _figure((6.4, 3.2 * shown), shown, 1)
        for j, axis in enumerate(axes):
            _draw_output(axis, found, j, what)
        axes[-1].set_xlabel("inputs, in the order of their intervals")
        figure.suptitle(plain(title, keep="\n"), fontsize="medium")
        figure.savefig(path, dpi=150, format=kind or None)


def _draw_output(axis: Any, found: Intervals, j: int, what: str) -> None:
    low, high = found.lower[:, j], found.upper[:, j]
    ends = [x[np.isfinite(x)] for x in (low, high)]
    parts = ends + ([found.targets[:, j]] if found.targets is not None else [])
    seen = np.concatenate([part[np.isfinite(part)] for part in parts])
    if not len(seen):
        seen = np.zeros(1)
    room = 0.05 * float(np.ptp(seen)) + 1e-9
    bottom, top = float(seen.min()) - room, float(seen.max()) + room
    drawn = np.clip(low, bottom, top), np.clip(high, bottom, top)
    order = np.argsort(drawn[0] + drawn[1], kind="stable")
    place = np.arange(len(order))
    axis.vlines(place, drawn[0][order], drawn[1][order], color="C0", linewidth=3, alpha=0.6,
                label=f"holds the {what} at every perturbed input")  # fmt: skip
    if found.targets is not None:
        axis.plot(place, found.targets[order, j], ".", color="C1", label="target")
    axis.set(ylim=(bottom, top), ylabel="output" if found.lower.shape[1] == 1 else f"output {j}")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small", loc="upper left")


def draw_maps(
    found: Maps,
    inputs: Array,
    names: Sequence[str],
    path: str | Path,
    title: str,
    *,
    kind: str = "",
) -> None:
    """Draw inputs beside their certified labels: grey where nothing is said, red where a label
    is not the target.

    Parameters
    ----------
    found : Maps of two axes each
        The first eight are drawn.
    inputs : (N, channels, rows, columns) or (N, rows, columns), shown where they are images
    names : (N,) text above each
    path, title, kind : as in draw_intervals

    Raises
    ------
    ValueError
        The labels of an input are no map of rows and columns.
    """
    if found.labels.ndim != 1 + IMAGE:
        raise cc.errors.fail(
            "picture", "of maps of rows and columns", found.labels.shape[1:], "leave it out"
        )
    with settings({"text.parse_math": False, "svg.hashsalt": "cert"}):
        count = min(len(found.labels), SHOWN)
        figure, axes = _figure((2.1 * count + 0.4, 4.6), 2, count)
        for i in range(count):
            above, below = axes[i], axes[count + i]
            image = _image(inputs[i])
            if image is not None:
                above.imshow(image, cmap="gray", vmin=0.0, vmax=1.0)
            below.imshow(_colours(found, i))
            above.set_title(plain(names[i]), fontsize="small")
            for axis in (above, below):
                axis.set(xticks=[], yticks=[])
        figure.suptitle(plain(title, keep="\n"), fontsize="medium")
        figure.savefig(path, dpi=150, format=kind or None)


def _figure(size: tuple[float, float], rows: int, columns: int) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _image(x: Array) -> Array | None:
    """An input as a picture, values clipped to [0, 1]; None where it is none."""
    clipped = np.clip(np.asarray(x, dtype=np.float64), 0.0, 1.0)
    if clipped.ndim == IMAGE:
        return clipped
    if clipped.ndim == MAP and clipped.shape[0] in (1, 3):
        return clipped[0] if len(clipped) == 1 else clipped.transpose(1, 2, 0)
    return None


def _colours(found: Maps, i: int) -> Array:
    """The labels of an input as colours, (rows, columns, 3)."""
    from matplotlib import colormaps

    labels = found.labels[i]
    lighter = (2 * labels + 1) % 20
    colours: Array = colormaps["tab20"](lighter)[..., :3]
    if found.targets is not None:
        colours[labels != found.targets[i]] = WRONG
    colours[labels == cc.ABSTAIN] = ABSTAINED
    return colours
