"""A table that a run writes row by row and goes on from: TSV, one row an input.

The first line holds the record of the run as JSON, so that no other run's rows come below it;
the last cell of each row is a digest of the record and the row, so that what was moved, edited
or cut short is refused or done again, never read as less.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cert_core as cc
from cert_models.files.outputs import refused
from cert_models.files.reading import reading

FORMAT = "cert rows 1"
DIGEST = "digest"


class RowTable:
    """The rows of a file.

    Parameters
    ----------
    path : str or Path
        A new file, or one that a run of the same record wrote; another is refused.
    record : JSON-able
        All that decides the rows.
    columns : names of the cells after idx

    Raises
    ------
    ValueError
        The file cannot be written, is no such table, is of another run, or is damaged.
    """

    def __init__(self, path: str | Path, record: Mapping[str, Any], columns: Sequence[str]) -> None:
        self.path, self.columns = Path(path), tuple(columns)
        self._record = json.dumps({"format": FORMAT, **record}, sort_keys=True)
        self.rows: dict[int, tuple[str, ...]] = {}
        self._head = f"# {self._record}\n" + "\t".join(("idx", *self.columns, DIGEST)) + "\n"
        try:
            if self.path.exists():
                self._read()
            else:
                with open(self.path, "x", encoding="utf-8") as file:
                    file.write(self._head)
        except OSError as error:
            raise refused(path, error.strerror or str(error)) from error

    def add(self, index: int, cells: Sequence[str]) -> None:
        """Write one row, on the disk when this returns."""
        row = (str(index), *cells)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("\t".join((*row, self._digest(row))) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.rows[index] = tuple(cells)

    def _digest(self, row: Sequence[str]) -> str:
        return hashlib.sha256("\t".join((self._record, *row)).encode()).hexdigest()[:12]

    def _read(self) -> None:
        kind, remedy = "a new file or a table of this command", "choose another"
        with reading("out", kind, self.path, remedy):
            text = self.path.read_text(encoding="utf-8")
        if not text.startswith(self._head):
            raise self._other(text)
        whole, _, torn = text.rpartition("\n")
        for line in whole[len(self._head) :].split("\n") if len(whole) > len(self._head) else ():
            *row, digest = line.split("\t")
            if digest != self._digest(row) or int(row[0]) in self.rows:
                raise cc.errors.fail(
                    "out", "a table as it was written", f"{line[:60]} ({self.path})",
                    "take out that line: it is done again",
                )  # fmt: skip
            self.rows[int(row[0])] = tuple(row[1:])
        if torn:  # by a run that was killed while it wrote
            with open(self.path, "r+", encoding="utf-8") as file:
                file.truncate(len(text.encode()) - len(torn.encode()))

    def _other(self, text: str) -> ValueError:
        """The error for a file that is no table of this run: how it differs."""
        first = text.partition("\n")[0]
        held, own = {}, json.loads(self._record)
        if first.startswith("# {"):
            with reading("out", "a table of this command", self.path, "choose another"):
                held = json.loads(first[2:])
        if held.get("format") != FORMAT:
            return cc.errors.fail(
                "out", "a new file or a table of this command", str(self.path), "choose another"
            )
        differing = sorted(key for key in held.keys() | own if held.get(key) != own.get(key))
        told = ", ".join(f"{k} {cc.errors.shown(own.get(k))[:60]}" for k in differing) or "columns"
        return ValueError(
            f"out must be of the same run, got {str(self.path)!r} of one with another {told}: "
            "choose another file, or go on with the same options"
        )
