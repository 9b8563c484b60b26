"""A table that a run writes row by row and goes on from: TSV, one row an input.

The first line holds the record of the run as JSON, so that no other run's rows come below it;
the last cell of each row is a digest of the record and the row, so that what was moved, edited
or cut short is refused or done again, never read as less.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

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
        The file cannot be written, is no such table, is of another run, damaged, or written by
        another process.
    """

    def __init__(self, path: str | Path, record: Mapping[str, Any], columns: Sequence[str]) -> None:
        self.path = Path(path)
        self._record = json.dumps({"format": FORMAT, **record}, sort_keys=True)
        self.rows: dict[int, tuple[str, ...]] = {}
        self._head = f"# {self._record}\n" + "\t".join(("idx", *columns, DIGEST)) + "\n"
        self._file = self._opened("r+b") if self.path.exists() else None
        try:
            if self._file is not None:
                self._read(self._file)
        except BaseException:
            self.close()
            raise

    def _opened(self, mode: str) -> IO[bytes]:
        """The file, held by this process alone until it is closed."""
        try:
            file: IO[bytes] = open(self.path, mode, buffering=0)  # noqa: SIM115
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            remedy = "wait for it, or choose another file"
            rule = "a table that no other process writes"
            raise cc.errors.fail("out", rule, str(self.path), remedy) from None
        except OSError as error:
            raise refused(self.path, error.strerror or str(error)) from error
        return file

    def add(self, index: int, cells: Sequence[str]) -> None:
        """Write one row, on the disk when this returns; the file is made by the first one."""
        row = (str(index), *cells)
        line = "\t".join((*row, self._digest(row))) + "\n"
        if self._file is None:
            self._file = self._opened("xb")
            line = self._head + line
        content = line.encode()
        try:
            whole = self._file.write(content) == len(content)
            os.fsync(self._file.fileno())
        except OSError as error:
            raise refused(self.path, error.strerror or str(error)) from error
        if not whole:  # of the last free bytes of a disk no error is told
            raise refused(self.path, "No space left on device")
        self.rows[index] = tuple(cells)

    def close(self) -> None:
        """Let others write."""
        if self._file is not None:
            self._file.close()

    def _digest(self, row: Sequence[str]) -> str:
        return hashlib.sha256("\t".join((self._record, *row)).encode()).hexdigest()[:12]

    def _read(self, file: IO[bytes]) -> None:
        kind, remedy = "a new file or a table of this command", "choose another"
        with reading("out", kind, self.path, remedy):
            content = file.read()
            text = content.decode()
        if not text.startswith(self._head):
            raise self._other(text)
        *lines, torn = text[len(self._head) :].split("\n")
        for line in lines:
            *row, digest = line.split("\t")
            if digest != self._digest(row) or int(row[0]) in self.rows:
                raise cc.errors.fail(
                    "out", "a table as it was written", f"{line[:60]} ({self.path})",
                    "take out that line: it is done again",
                )  # fmt: skip
            self.rows[int(row[0])] = tuple(row[1:])
        file.truncate(len(content) - len(torn.encode()))  # by a run killed while it wrote
        file.seek(0, os.SEEK_END)

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
