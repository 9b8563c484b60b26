"""The certify log of Cohen et al. 2019: tab-separated idx label predict radius correct time."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path

COLUMNS = ("idx", "label", "predict", "radius", "correct", "time")


def rounded_down(value: float, digits: int) -> str:
    """value with this many decimals, never above it."""
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    return str(Decimal(value).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_FLOOR))


@dataclass(frozen=True)
class Row:
    """One certified input; predict is -1 and radius 0.0 where it abstained."""

    index: int
    label: int
    predict: int
    radius: float
    seconds: float

    @property
    def correct(self) -> int:
        return int(self.predict == self.label)

    def line(self) -> str:
        """The row as text; the radius in full precision, so no reader sees a larger one."""
        time = datetime.timedelta(seconds=self.seconds)
        radius = repr(float(self.radius))
        values = (self.index, self.label, self.predict, radius, self.correct, time)
        return "\t".join(map(str, values))


class LogWriter:
    """A log that is written row by row and never overwrites: an interrupted run keeps
    every row that was done, one that fails before its first row leaves no file.

    Raises
    ------
    ValueError
        The file exists, or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            self._file = open(path, "x", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise ValueError(
                "out must be a file that does not exist yet, in a folder that does, "
                f"got {str(path)!r} ({error.strerror}): choose another"
            ) from None
        self._path, self._rows = Path(path), 0
        self._line("\t".join(COLUMNS))

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
