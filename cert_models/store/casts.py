"""The votes for the selected class, of many rows of a store at once: what bounds of one class read
of a run of fixed n.  Rows are taken so as they are written here; any other way of writing is left
to who reads one row after the other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

import cert_core as cc
from cert_models.store.runs import FixedPlan

Ints = np.ndarray[Any, np.dtype[np.int64]]
KIND = np.dtype(
    [(name, np.int64) for name in ("index", "label", "selected", "votes")]
    + [("seconds", np.float64)]
)
ENTRY = r'"(?:0|[1-9]\d{0,7})": [1-9]\d{0,15}'
TABLES = re.compile(rf"(?:\{{{ENTRY}(?:, {ENTRY})*\}}\n)*", re.ASCII)
BLANKS = bytes(code if chr(code).isdecimal() else ord(" ") for code in range(128)) + b" " * 128


class _Tables:
    """Sparse votes of many rows: classes and votes of all, those of row i from starts[i] on."""

    def __init__(self, texts: Sequence[str], text: str) -> None:
        numbers = np.fromstring(text.encode().translate(BLANKS), dtype=np.int64, sep=" ")
        self.classes, self.votes = numbers[0::2], numbers[1::2]
        self.sizes = np.array([each.count(":") for each in texts], dtype=np.int64)
        self.starts = np.cumsum(self.sizes) - self.sizes

    def good(self, total: int, num_classes: int) -> bool:
        """Whether every row has so many votes, each class once and in order."""
        rising = np.diff(self.classes) > 0
        rising[self.starts[1:] - 1] = True
        sums = np.add.reduceat(self.votes, self.starts)
        return bool(rising.all() and (sums == total).all() and self.classes.max() < num_classes)

    def first_of_most(self) -> Ints:
        """The first of the classes with most votes, a row."""
        most = np.repeat(np.maximum.reduceat(self.votes, self.starts), self.sizes)
        places = np.where(self.votes == most, np.arange(len(most)), len(most))
        found: Ints = self.classes[np.minimum.reduceat(places, self.starts)]
        return found

    def of_class(self, chosen: Ints) -> Ints:
        """The votes for one class a row."""
        kept = np.where(self.classes == np.repeat(chosen, self.sizes), self.votes, 0)
        found: Ints = np.add.reduceat(kept, self.starts)
        return found


def _tables(texts: Sequence[Any]) -> _Tables | None:
    if set(map(type, texts)) != {str}:
        return None
    text = "\n".join(texts) + "\n"
    if text.count("\n") != len(texts) or TABLES.fullmatch(text) is None:
        return None
    return _Tables(texts, text)


def casts_at_once(
    plan: FixedPlan, num_classes: int, columns: Sequence[Sequence[Any]]
) -> np.ndarray[Any, Any] | None:
    """Rows of a run as records of KIND; None unless all are what the plan casts, as written here.

    Parameters
    ----------
    columns : idx, label, selection, estimation, path, seconds, of one row at least
    """
    index, label, selection, estimation, path, seconds = columns
    kinds = [set(map(type, column)) for column in (index, label, path, seconds)]
    most = cc.errors.EXACT // num_classes
    if kinds != [{int}, {int}, {type(None)}, {float}] or max(plan.n0, plan.n) > most:
        return None
    first, second = _tables(selection), _tables(estimation)
    inside = 0 <= min(index) <= max(index) < 2**32 and 0 <= min(label) <= max(label) <= 2**53
    timed = bool((np.isfinite(seconds) & (np.array(seconds) >= 0)).all())
    if first is None or second is None or not inside or not timed:
        return None
    if not first.good(plan.n0, num_classes) or not second.good(plan.n, num_classes):
        return None
    found = np.empty(len(index), dtype=KIND)
    found["index"], found["label"], found["seconds"] = index, label, seconds
    found["selected"] = first.first_of_most()
    found["votes"] = second.of_class(found["selected"])
    return found


def written_at_once(columns: Sequence[Sequence[Any]]) -> list[str]:
    """repr of each row of columns that casts_at_once takes: their text needs no escapes."""
    rows = zip(*columns, strict=True)
    return [f"({i}, {y}, '{a}', '{b}', None, {t!r})" for i, y, a, b, _, t in rows]
