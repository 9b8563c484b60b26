"""One self-contained HTML page of a report: curves, tables, and inputs under noise."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import cert_core as cc
from cert_core.rounding import confidence, nearest, reach
from cert_models.data.datasets import Dataset
from cert_models.files.names import markup
from cert_models.reports.tables import Table, curves, listing, modes, origins
from cert_models.store.results import Result

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 76rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
figure { margin: 0; }
figure svg { max-width: 100%; height: auto; }
.wide { overflow-x: auto; margin-bottom: 1rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: right; white-space: nowrap; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
thead th { border-bottom: 2px solid #444; }
tbody tr:nth-child(even) { background: #f4f4f6; }
.notes { color: #444; font-size: .9rem; }
ul.notes { padding-left: 1.2rem; }
.inputs { display: grid; gap: 1rem .8rem; align-items: start; width: max-content; }
.inputs figure { width: 9rem; }
.inputs img { image-rendering: pixelated; display: block; }
summary { cursor: pointer; font-size: 1.15rem; font-weight: 600; margin: 2rem 0 .5rem; }
.inputs figcaption, .inputs .head { font-size: .85rem; line-height: 1.3; }
.inputs .head { font-weight: 600; overflow-wrap: anywhere; }
.wrong { color: #a3261b; }
table.about th, table.about td { text-align: left; vertical-align: top; white-space: normal; }
table.about td { min-width: 14rem; max-width: 24rem; overflow-wrap: anywhere; }
table.about th { white-space: nowrap; }
"""
SIDE = 9  # rem, of the longer side of a picture


@dataclass(frozen=True)
class Picture:
    """An image with a caption; wrong where what it shows was not certified rightly."""

    image: np.ndarray[Any, np.dtype[np.uint8]]
    caption: str
    wrong: bool = False


def gallery(
    data: Dataset, results: Sequence[Result], count: int, *, seed: int = 0
) -> list[list[Picture]]:
    """Some inputs, each beside a copy under every result's noise.

    Parameters
    ----------
    data : Dataset of images, (channels, rows, columns) or (rows, columns) each, in [0, 1]
    results : with their noises; those without one are left out
    count : inputs, evenly spread over those that all results have
    seed : of the copies

    Returns
    -------
    list of rows: the clean input, then a noisy copy a result, values outside [0, 1] clipped

    Raises
    ------
    ValueError
        The inputs are no images, no result has a noise, one is of another dimension, or an
        index or a label is not the data's.
    """
    shape = data.x.shape[1:]
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
        raise ValueError(
            f"data must be images of 1 or 3 channels to be shown, got inputs of shape {shape}: "
            "leave out --data"
        )
    shown = [(r, r.noise) for r in results if r.noise is not None]
    if not shown:
        raise ValueError(
            "noise must be known to show noisy inputs, got none: pass --noise, or keep each log "
            "with its noise in a store (cert import)"
        )
    shared = sorted(set.intersection(*(set(r.indices.tolist()) for r, _ in shown)))
    for r, noise in shown:
        _check_origin(r, noise, data)
    places = np.linspace(0, len(shared) - 1, min(count, len(shared))).astype(int)
    return [_row(data, shown, shared[place], seed) for place in places]


def _check_origin(result: Result, noise: cc.Noise, data: Dataset) -> None:
    size = int(np.prod(data.x.shape[1:]))
    if noise.dim != size:
        raise ValueError(
            f"noise must have dim = {size}, the size of an input of {data.name}, "
            f"got {noise.dim} for {result.name!r}: pass the data of the run"
        )
    inside = result.indices < len(data)
    if not inside.all() or (data.y[result.indices[inside]] != result.labels[inside]).any():
        raise ValueError(
            f"data must be that of {result.name!r}, got {data.name}, where indices or labels "
            "differ: pass the data of the run"
        )


def _row(
    data: Dataset, results: Sequence[tuple[Result, cc.Noise]], index: int, seed: int
) -> list[Picture]:
    clean = data.x[index]
    whole = clean.dtype.kind == "i"  # categories: shown as shares of the largest
    most = max((getattr(noise, "categories", 2) - 1 for _, noise in results if whole), default=1)
    row = [Picture(_pixels(clean / most), f"input {index}, class {data.y[index]}")]
    for r, noise in results:
        noisy = cc.draw(noise, 1, seed, start=index, center=clean.reshape(-1))
        at = int(np.flatnonzero(r.indices == index)[0])
        right = r.predict[at] == r.labels[at]
        size = reach(r.attack, float(r.radius[at]), 3)
        said = f"class {r.predict[at]}, {r.measure} {size}"
        if r.predict[at] == cc.ABSTAIN:
            said = "abstains"
        row.append(Picture(_pixels(noisy.reshape(clean.shape) / most), said, not right))
    return row


def _pixels(x: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An image (channels, rows, columns) or (rows, columns) as bytes, channels last."""
    image: np.ndarray[Any, np.dtype[np.uint8]]
    image = np.round(np.clip(x, 0.0, 1.0) * 255).astype(np.uint8)
    return image if image.ndim == 2 else image.transpose(1, 2, 0).squeeze()


def _size(image: np.ndarray[Any, np.dtype[np.uint8]]) -> str:
    """The size of an image on the page, by its own proportions."""
    rows, columns = image.shape[:2]
    unit = SIDE / max(rows, columns)
    width, height = nearest(columns * unit, 4), nearest(rows * unit, 4)
    return f"width: {width}rem; height: {height}rem"


def _png(image: np.ndarray[Any, np.dtype[np.uint8]]) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def page(
    title: str,
    results: Sequence[Result],
    made: Sequence[Table],
    pictures: Sequence[Sequence[Picture]] = (),
    *,
    rho: float | None = None,
) -> str:
    """The page as text: opens without a network and asks for nothing.

    Parameters
    ----------
    title : str
    results : drawn as curves
    made : from report.tables, of the same results
    pictures : from gallery, of the same results
    rho : as in report.tables
    """
    text = markup
    drawing = io.BytesIO()
    curves(results, drawing, "", rho=rho, kind="svg")
    svg = drawing.getvalue().decode()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    head, inputs = origins(results), listing(results)
    body = [f"<h1>{text(title)}</h1>", _turned(head), f"<figure>{svg}</figure>"]
    if rho is not None:
        body.append(f'<p class="notes">Dotted: with probability {confidence(rho)}.</p>')
    for table in made:
        body += [f"<h2>{text(table.caption)}</h2>", _cells(table), _list(table.notes)]
    if not any(r.mode for r in results):  # else the tables tell
        body.append(_list(modes(results)))
    if pictures:
        body += _gallery(pictures, [r for r in results if r.noise is not None])
    body.append(f"<details><summary>{text(inputs.caption)}</summary>{_cells(inputs)}</details>")
    body.append(_list(inputs.notes))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + f'\n<p class="notes">cert {text(cc.__version__)}</p>\n</body>\n</html>\n'
    )


def _cells(table: Table) -> str:
    """A table, a row a line."""
    head = "".join(f"<th>{markup(cell)}</th>" for cell in table.header)
    rows = "".join(
        "<tr>" + "".join(f"<td>{markup(cell)}</td>" for cell in row) + "</tr>\n"
        for row in table.rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _turned(table: Table) -> str:
    """A table of long cells: a column a row of it, which may wrap."""
    lines = (
        f"<tr><th>{markup(name)}</th>"
        + "".join(f"<td>{markup(cell)}</td>" for cell in cells)
        + "</tr>\n"
        for name, *cells in zip(table.header, *table.rows, strict=True)
    )
    return f'<div class="wide"><table class="about"><tbody>{"".join(lines)}</tbody></table></div>'


def _list(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{markup(note)}</li>" for note in notes)
    return f'<ul class="notes">{items}</ul>'


def _gallery(pictures: Sequence[Sequence[Picture]], shown: Sequence[Result]) -> list[str]:
    """A row of pictures for the clean inputs and for every result, a column an input."""
    cells = []
    names = ("clean", *(r.name for r in shown))
    for name, row in zip(names, zip(*pictures, strict=True), strict=True):
        cells.append(f'<div class="head">{markup(name)}</div>')
        for picture in row:
            kind = ' class="wrong"' if picture.wrong else ""
            caption = markup(picture.caption)
            cells.append(
                f'<figure><img src="{_png(picture.image)}" alt="{caption}" '
                f'style="{_size(picture.image)}">'
                f"<figcaption{kind}>{caption}</figcaption></figure>"
            )
    columns = f"grid-template-columns: 7rem repeat({len(pictures)}, 9rem)"
    return [
        "<h2>Inputs under noise</h2>",
        '<p class="notes">One noisy copy each, values clipped to [0, 1] to be shown; below it '
        "the certificate of the input; red where the class is wrong or none.</p>",
        f'<div class="wide"><div class="inputs" style="{columns}">{"".join(cells)}</div></div>',
    ]
