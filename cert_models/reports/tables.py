"""Tables and pictures of certified accuracy, of one run or several side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cert_core.rounding import confidence, in_full, percent, radius, reach
from cert_models.files.names import cell, latex, markdown, plain
from cert_models.reports.settings import settings
from cert_models.store.results import Floats, Result, default_radii, subset, told_mode

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Table:
    """Cells of text, a caption and notes, to be printed in several ways."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


DRAWN = 1e300  # the largest radius that an axis can hold
LABEL = 60  # characters of a name in a picture
LISTED = 1000  # inputs of a page
UNKNOWN = "not stated"
UNTESTED = "\N{EN DASH}"  # in the place of a number that a run did not ask for


def tables(
    results: Sequence[Result], radii: Sequence[float] | None = None, rho: float | None = None
) -> list[Table]:
    """Certified accuracies by radius, a table a measure of it, a row a result.

    Parameters
    ----------
    results : of any attacks
    radii : in the attacks' norms and input units (default: round ones)
    rho : float in (0, 1), optional
        Add to each result a row that holds with probability 1 - rho.

    Returns
    -------
    list of Table
        Shares and radii rounded down; beside each row its inputs and its alpha.
    """
    made = []
    for measure in sorted({r.measure for r in results}):
        group = [r for r in results if r.measure == measure]
        at = list(radii) if radii is not None else default_radii(group)
        rows = [_row(r, at, None) for r in group]
        if rho is not None:
            rows = [row for r in group for row in (_row(r, at, None), _row(r, at, rho))]
        header = ("run", "inputs", "alpha", "abstained", "ACR", *(in_full(x) for x in at))
        if any(r.mode for r in results):
            sides = [_mode_cells(r) for r in group for _ in range(1 if rho is None else 2)]
            rows = [(*row[:2], *cells, *row[2:]) for row, cells in zip(rows, sides, strict=True)]
            header = (*header[:2], "sound", "FAILs", *header[2:])
        made.append(
            Table(f"Certified accuracy by {measure}", header, tuple(rows), _notes(group, rho))
        )
    return made


def origins(results: Sequence[Result]) -> Table:
    """What each result is of: model, data, noise, samples, seed, dates, versions."""
    header = (
        "run", "model", "data", "noise", "attack", "alpha", "samples", "seed", "date", "versions"
    )  # fmt: skip
    rows = [
        (
            r.name, r.model or UNKNOWN, r.data or UNKNOWN, repr(r.noise) if r.noise else UNKNOWN,
            r.attack, _alpha(r), r.note or UNKNOWN, UNKNOWN if r.seed is None else str(r.seed),
            _dates(r), _made_by(r),
        )
        for r in results
    ]  # fmt: skip
    return Table("What was certified", header, tuple(rows), ())


def _alpha(result: Result) -> str:
    return UNKNOWN if result.alpha is None else in_full(result.alpha)


def _dates(result: Result) -> str:
    """When a run was begun, and last continued."""
    days = [str(start["begun"]) for start in result.starts if "begun" in start]
    return " to ".join(dict.fromkeys([days[0], days[-1]])) if days else UNKNOWN


def _made_by(result: Result) -> str:
    """The versions of every start of a run."""
    told = (
        ", ".join(f"{key} {value}" for key, value in start.items() if key != "begun")
        for start in result.starts
    )
    return "; ".join(dict.fromkeys(told)) or UNKNOWN


def listing(results: Sequence[Result]) -> Table:
    """Every input, and what each result says of it."""
    header = ("input", "class", *(word for r in results for word in (r.name, r.measure)))
    labels: dict[int, int] = {}
    for r in results:
        labels |= dict(zip(r.indices.tolist(), r.labels.tolist(), strict=True))
    shown = sorted(labels)[:LISTED]
    said = [_said(r, set(shown)) for r in results]
    rows = [
        (str(i), str(labels[i]), *(cell for cells in said for cell in cells.get(i, ("", ""))))
        for i in shown
    ]
    left = (f"The first {LISTED} of them; cert export writes all.",)
    notes = left if len(labels) > LISTED else ()
    return Table(f"The {len(labels)} inputs", header, tuple(rows), notes)


def _said(result: Result, shown: set[int]) -> dict[int, tuple[str, str]]:
    """The class and the radius of the inputs that are shown."""
    each = zip(result.indices.tolist(), result.predict.tolist(), result.radius, strict=True)
    return {
        i: ("abstains", "") if label < 0 else (str(label), reach(result.attack, float(size)))
        for i, label, size in each
        if i in shown
    }


def _row(result: Result, radii: Sequence[float], rho: float | None) -> tuple[str, ...]:
    alpha = _alpha(result)
    name = result.name if rho is None else f"{result.name}, with probability {confidence(rho)}"
    average = radius(result.average_radius(rho)) if result.tested is None else UNTESTED
    cells = (
        percent(result.count(r, rho), len(result)) if result.says(r) else UNTESTED for r in radii
    )
    return (name, subset(result.indices), alpha, str(result.abstained), average, *cells)


def _mode_cells(result: Result) -> tuple[str, str]:
    """The mode of a result, and the copies that FAILed."""
    fails = "" if result.failed is None else str(int(np.sum(result.failed)))
    return (result.mode, fails) if result.mode else ("no", "")


def modes(results: Sequence[Result]) -> list[str]:
    """What certificates of the modes of results are of, and what they assume."""
    sound = {bool(r.mode) for r in results}
    return [text for mode, text in MODES.items() if mode in sound]


MODES = {
    True: "Sound mode: a certificate is of what runs, between inputs on the lattice.  It assumes "
    "that the random bits are ideal; that the C library's functions err by no more than is stated "
    "of them; that the classifier is a deterministic function of one noisy copy, whatever stands "
    "beside it in the batch, and does not know the seed.  It is of the smoothed classifier, not of "
    "one prediction by votes.",
    False: "Float mode: a certificate is of real-arithmetic semantics; what exploits the rounding "
    "of a sum of floats is outside of it.",
}


def _notes(results: Sequence[Result], rho: float | None) -> tuple[str, ...]:
    notes = [
        "Abstentions count as wrong; ACR is the average certified radius; alpha is the failure "
        "probability of each input; shares and radii are rounded down."
    ]
    if rho is not None:
        worst = ", ".join(f"{r.wrong_at_most(rho)} of {len(r)} ({r.name})" for r in results)
        notes.append(
            f"Rows with probability {confidence(rho)}, each by itself, leave out as many "
            f"certificates as may be false, at all radii at once: {worst}."
        )
    if any(r.tested is not None for r in results):
        notes.append(f"{UNTESTED}: not tested by that run, which decided its own radii alone.")
    if len({tuple(np.sort(r.indices)) for r in results}) > 1:
        notes.append("The rows are not of the same inputs: --common compares on those they share.")
    sound = any(r.mode for r in results)
    notes += modes(results) if sound else []
    for r in results:
        mode = told_mode(r) if sound else ""
        parts = (str(r.noise or ""), r.note, mode, str(r.proved or ""), str(r.jointly or ""))
        described = ", ".join(part for part in parts if part)
        if described:
            notes.append(f"{r.name}: {described}.")
    return tuple(notes)


def _cleaned(made: Table, clean: Callable[[str], str]) -> Table:
    """The table with all of its text as text of one kind of output."""
    rows = tuple(tuple(map(clean, row)) for row in made.rows)
    header, notes = tuple(map(clean, made.header)), tuple(map(clean, made.notes))
    return Table(clean(made.caption), header, rows, notes)


def as_text(made: Table) -> str:
    """The table in aligned columns."""
    made = _cleaned(made, plain)
    lines = [made.header, *made.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(made.header))]

    def line(cells: Sequence[str]) -> str:
        parts = [
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(parts).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    body = [made.caption, "", line(made.header), rule, *map(line, made.rows), "", *made.notes]
    return "\n".join(body)


def as_markdown(made: Table) -> str:
    """The table for a README or an issue."""
    made = _cleaned(made, markdown)

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    marks = ["---" if i < 2 else "---:" for i in range(len(made.header))]
    body = [line(made.header), line(marks), *map(line, made.rows)]
    return "\n".join([f"**{made.caption}**", "", *body, "", *(f"- {note}" for note in made.notes)])


def as_latex(made: Table) -> str:
    """The table for a paper (package booktabs)."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(latex, cells)) + r" \\"

    columns = "ll" + "r" * (len(made.header) - 2)
    body = [line(made.header), r"\midrule", *map(line, made.rows)]
    return "\n".join([
        *(f"% {plain(note)}" for note in (made.caption, *made.notes)),
        rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *body, r"\bottomrule", r"\end{tabular}",
    ])  # fmt: skip


def as_csv(made: Table) -> str:
    """The table for a spreadsheet; caption and notes are left out."""
    import csv
    import io

    made = _cleaned(made, cell)
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([made.header, *made.rows])
    return file.getvalue().rstrip("\n")


FORMATS = {"text": as_text, "markdown": as_markdown, "latex": as_latex, "csv": as_csv}


def table(
    rows: Mapping[str, Sequence[int]], total: int, radii: Sequence[float], corner: str
) -> str:
    """Certified inputs of a total as aligned percents, a named row each, a column a radius."""
    width = max(len(corner), *(len(name) for name in rows))
    head = corner.ljust(width) + "".join(f"{in_full(r):>7}" for r in radii)
    lines = [
        name.ljust(width) + "".join(f"{percent(count, total, 0):>7}" for count in counts)
        for name, counts in rows.items()
    ]
    return "\n".join([head, "-" * len(head), *lines])


def curves(
    results: Sequence[Result],
    path: Any,
    title: str,
    *,
    rho: float | None = None,
    kind: str = "",
    best: bool = False,
) -> None:
    """Draw certified accuracy against radius, a panel a measure of it, a curve a result.

    Parameters
    ----------
    results : of any attacks
    path : .png, .svg or .pdf file to write, or an open binary file
    title : str
    rho : float in (0, 1), optional
        Dot beside each curve the one that holds with probability 1 - rho.
    kind : format of an open file
    best : whether to lay a broad line along the upper envelope

    Raises
    ------
    ValueError
        The file's ending is none of these.
    """
    kind = kind or Path(path).suffix[1:].lower()
    if kind not in ("png", "svg", "pdf"):
        raise ValueError(f"plot must be a .png, .svg or .pdf file, got {str(path)!r}: rename it")
    with settings({"text.parse_math": False, "svg.hashsalt": "cert"}):
        figure = _curves(results, title, rho, best)
        metadata = {"Date": None} if kind == "svg" else {"CreationDate": None}
        figure.savefig(path, dpi=150, format=kind, metadata=metadata if kind != "png" else None)


def _curves(results: Sequence[Result], title: str, rho: float | None, best: bool) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    measures = sorted({r.measure for r in results})
    names = list(dict.fromkeys(r.name for r in results))  # one colour a name, in all panels
    figure = Figure(figsize=(max(4.2 * len(measures), 6.0), 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(measures), squeeze=False, sharey=True)[0]
    for axis, measure in zip(axes, measures, strict=True):
        group = [r for r in results if r.measure == measure]
        tops = [r.certified[np.isfinite(r.certified)].max(initial=0.0) for r in group]
        tops += [max(r.tested) for r in group if r.tested]
        reach = 1.05 * min(float(max(tops)), DRAWN) + 1e-9
        for r in group:
            style: dict[str, Any] = {"color": f"C{names.index(r.name) % 10}", "linewidth": 1.6}
            _draw(axis, r, reach, None, {"label": _in_legend(r.name), **style})
            if rho is not None:
                _draw(axis, r, reach, rho, {"linestyle": ":", "fillstyle": "none", **style})
        free = [r for r in group if r.tested is None]
        if best and free:
            x = np.unique(np.concatenate([steps_of(r, reach, None)[0] for r in free]))
            y = [max(r.accuracy(radius) for r in free) for radius in x]
            broad: dict[str, Any] = {"color": "black", "linewidth": 5, "alpha": 0.2, "zorder": 1}
            axis.step(x, y, where="pre", label="best at each radius", **broad)
        units = "" if "scales" in measure else ", input units"
        label = f"{measure}, changed entries" if measure == "l0 radius" else measure + units
        axis.set(xlabel=label, xlim=(0.0, reach), ylim=(0.0, 1.0))
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    axes[0].set_ylabel("certified accuracy")
    figure.suptitle(plain(title, keep="\n"))
    return figure


def _in_legend(name: str) -> str:
    """The name as a label: cut where it would leave no room, and seen where it begins with _,
    which matplotlib takes for hidden."""
    shown = plain(name) if len(name) <= LABEL else plain(name[:LABEL]) + "..."
    return f" {shown}" if shown.startswith("_") else shown


def _draw(
    axis: Any, result: Result, reach: float, rho: float | None, style: dict[str, Any]
) -> None:
    """A curve, or a point at each of the radii that alone were tested."""
    if result.tested is None:
        steps = {key: value for key, value in style.items() if key != "fillstyle"}
        axis.step(*steps_of(result, reach, rho), where="pre", **steps)
        return
    shares = [result.accuracy(r, rho) for r in result.tested]
    axis.plot(result.tested, shares, **style | {"linestyle": "none", "marker": "o"})


def steps_of(result: Result, reach: float, rho: float | None) -> tuple[Floats, Floats]:
    """Radii at which the curve steps down, and the accuracy up to each."""
    radii = np.unique(np.clip(result.certified, 0.0, reach))
    radii = np.unique(np.concatenate([[0.0], radii, [reach]]))
    return radii, np.array([result.accuracy(radius, rho) for radius in radii])
