"""The certify log of Cohen et al. 2019: tab-separated idx label predict radius correct time."""

from __future__ import annotations

import datetime
import math
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from pathlib import Path

import cert_core as cc

COLUMNS = ("idx", "label", "predict", "radius", "correct", "time")
TIME = re.compile(r"(?:(?P<days>\d+) days?, )?(?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>[\d.]+)")


RUNNER_UP = {"bound": "runner-up"}  # column of a row whose radius leans on another class's bound


def in_full(value: float) -> str:
    """value as shortly as it can be read back."""
    text = f"{value:g}"
    return text if float(text) == value else repr(value)


WIDE = Context(prec=400)  # digits of every float: 309 before the point


def rounded_down(value: float, digits: int) -> str:
    """value with this many decimals, never above it."""
    return _rounded(value, digits, ROUND_FLOOR)


def _rounded(value: float, digits: int, mode: str) -> str:
    if not math.isfinite(value):
        return str(value)
    unit = Decimal(1).scaleb(-digits)
    return format(Decimal(value).quantize(unit, rounding=mode, context=WIDE), "f")


def rounded_up(value: float, digits: int) -> str:
    """value with this many decimals, never below it."""
    return _rounded(value, digits, ROUND_CEILING)


@dataclass(frozen=True)
class Row:
    """One certified input; predict is -1 and radius 0.0 where it abstained.

    Attributes
    ----------
    index, label, predict : int
    radius : float, in the attack's norm and input units
    seconds : float, time taken
    extra : further columns by name, in order
    """

    index: int
    label: int
    predict: int
    radius: float
    seconds: float
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def correct(self) -> int:
        return int(self.predict == self.label and self.predict != cc.ABSTAIN)

    def line(self) -> str:
        """The row as text; the radius in full precision, so no reader sees a larger one."""
        time = datetime.timedelta(seconds=self.seconds)
        radius = repr(float(self.radius))
        values = (self.index, self.label, self.predict, radius, self.correct, time)
        return "\t".join(map(str, (*values, *self.extra.values())))


def _refused(path: str | Path, reason: str) -> ValueError:
    return ValueError(
        "out must be a file that does not exist yet, in a folder that does, "
        f"got {str(path)!r} ({reason}): choose another"
    )


def check_new(path: str | Path) -> None:
    """Refuse, before any work, a log that could not be written."""
    target = Path(path)
    if target.exists():
        raise _refused(path, "File exists")
    if not target.parent.is_dir():
        raise _refused(path, "No such file or directory")


class LogWriter:
    """A log that is written row by row and never overwrites: an interrupted run keeps
    every row that was done, one that fails before its first row leaves no file.

    Raises
    ------
    ValueError
        The file exists, or cannot be written.
    """

    def __init__(self, path: str | Path, extra: Sequence[str] = ()) -> None:
        try:
            self._file = open(path, "x", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise _refused(path, str(error.strerror)) from None
        self._path, self._rows = Path(path), 0
        self._line("\t".join((*COLUMNS, *extra)))

    def _line(self, text: str) -> None:
        self._file.write(text + "\n")
        self._file.flush()

    def add(self, row: Row) -> None:
        """Write one row."""
        self._line(row.line())
        self._rows += 1

    def close(self) -> None:
        """Close the file; remove it if it has no row."""
        self._file.close()
        if self._rows == 0:
            self._path.unlink(missing_ok=True)


def write_log(path: str | Path, rows: Iterable[Row]) -> None:
    """Write a whole log at once; a file that already says the same is left as it is.

    Raises
    ------
    ValueError
        The file exists and says something else, it cannot be written, or the rows have
        different columns.
    """
    listed = list(rows)
    names = {tuple(row.extra) for row in listed} or {()}
    if len(names) > 1:
        raise ValueError(f"rows must have the same columns, got {sorted(names)}: write two logs")
    lines = ["\t".join((*COLUMNS, *names.pop())), *(row.line() for row in listed)]
    content = ("\n".join(lines) + "\n").encode()
    target = Path(path)
    try:
        with tempfile.TemporaryDirectory(prefix=".cert-", dir=target.parent) as folder:
            new = Path(folder, "new")
            new.write_bytes(content)
            os.link(new, target)
    except FileExistsError:
        if not target.is_file() or target.read_bytes() != content:
            raise _refused(path, "File exists") from None
    except OSError as error:
        raise _refused(path, str(error.strerror)) from None


def read_log(path: str | Path) -> list[Row]:
    """Read a log, ours or a published one.

    Radii may be written as any float, times as a timedelta or as seconds; columns are found
    by the names in the first line, others than the six (of which time may lack) are kept.
    An abstention's radius is 0.0, whatever it says.

    Raises
    ------
    ValueError
        No such file, or no log: the line is named.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ValueError(
            f"log must be a readable text file, got {str(path)!r} ({reason}): check the name"
        ) from None
    names = lines[0].split("\t") if lines else []
    missing = [name for name in COLUMNS[:-1] if name not in names]
    if missing or len(set(names)) < len(names):
        raise ValueError(
            f"log must begin with a line of distinct column names, {' '.join(COLUMNS)} among them, "
            f"got {str(path)!r} ({'no ' + ', '.join(missing) if missing else 'twice the same'}): "
            "separate them by tabs"
        )
    rows: list[Row] = []
    seen: set[int] = set()
    for number, line in enumerate(lines[1:], start=2):
        if line.strip():
            row = _row(names, line, f"{path}, line {number}")
            if row.index in seen:
                raise ValueError(
                    f"idx must be distinct, got {row.index} again ({path}, line {number}): "
                    "one log is one run"
                )
            seen.add(row.index)
            rows.append(row)
    return rows


def _row(names: list[str], line: str, place: str) -> Row:
    values = dict(zip(names, cells := line.split("\t"), strict=False))
    try:
        if len(cells) != len(names):
            raise ValueError(f"{len(cells)} columns, not {len(names)}")
        index, label, predict = (int(float(values[name])) for name in COLUMNS[:3])
        radius = 0.0 if predict == cc.ABSTAIN else float(values["radius"])
        if math.isnan(radius) or radius < 0 or not 0 <= index < 2**63:
            raise ValueError("radius and idx must be numbers >= 0")
        told = float(values["correct"]) == 1
        if predict != cc.ABSTAIN and (predict == label) != told:
            raise ValueError("correct must be 1 where predict is label, and 0 elsewhere")
        seconds = _seconds(values["time"]) if "time" in values else 0.0
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"log must have a row of its columns in every line, got {line[:60]!r} ({place}: "
            f"{error}): repair or remove that line"
        ) from None
    extra = {name: value for name, value in values.items() if name not in COLUMNS}
    return Row(index, label, predict, radius, seconds, extra)


def _seconds(text: str) -> float:
    """A timedelta as Python prints it, or a number of seconds."""
    match = TIME.fullmatch(text.strip())
    if match is None:
        return float(text)
    parts = {name: float(value or 0) for name, value in match.groupdict().items()}
    return datetime.timedelta(**parts).total_seconds()
