"""The certify log of Cohen et al. 2019: tab-separated idx label predict radius correct time."""

from __future__ import annotations

import datetime
import filecmp
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

import cert_core as cc
from cert_core.rounding import in_full
from cert_models.files.outputs import refused, written
from cert_models.files.reading import NUMBER, plain_float, reading

COLUMNS = ("idx", "label", "predict", "radius", "correct", "time")
TIME = re.compile(r"(?:(?P<days>\d+) days?, )?(?P<hours>\d+):(?P<minutes>\d+):(?P<seconds>[\d.]+)")
Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
# Cells as most logs have them, one a line: each matched in one way, so what fails does at once.
WHOLES = re.compile(r"(?:(?:-1|\d{1,18})\n)*", re.ASCII)
TIMES = re.compile(r"(?:\d{1,6}:\d\d:\d\d\.\d{6}\n)*", re.ASCII)
NUMBERS = re.compile(rf"(?:{NUMBER.pattern}\n)*", NUMBER.flags)
UNITS = np.array([3_600_000_000, 60_000_000, 1_000_000, 1])  # of a time, in microseconds
BLOCK = 1000  # lines read or written at a time
LONGEST = datetime.timedelta.max.total_seconds()
WORDS = {"true": 1, "false": 0}  # of the column correct
SCALES = "scales"  # column of a row whose radius is a norm of delta/scales: their digest
QUANTIZED = " quantized"  # behind the step, in the name of a mode
BRANCH = "branch"  # column of a routed row: the branch whose noise certifies it, -1 for none
SOUND, FAILED = "sound", "failed"  # columns of rows of sound mode: its name, and their FAILs


def mode_name(sound: cc.Lattice, quantized: bool) -> str:
    """A mode as logs and reports name it: "1/255", "1/255 quantized"."""
    return str(sound.step) + (QUANTIZED if quantized else "")


def lattice_of(mode: str) -> tuple[cc.Lattice | None, bool]:
    """The lattice, and whether inputs are moved to it, of a mode in these words.

    Raises
    ------
    ValueError
        No such words.
    """
    if not mode:
        return None, False
    step: Any = mode.removesuffix(QUANTIZED)
    sound, quantized = cc.Lattice(step), mode.endswith(QUANTIZED)
    if mode_name(sound, quantized) != mode:
        rule = f"a step in lowest terms, maybe with{QUANTIZED} behind it"
        raise cc.errors.fail("sound", rule, mode, "write it as an exported log does")
    return sound, quantized


def mode_of_rows(path: str | Path, rows: Iterable[Row]) -> str:
    """The mode that a log names, "" for float mode.

    Raises
    ------
    ValueError
        Rows of two modes, of one that is none, or FAILs that are no whole number.
    """
    modes = {row.extra.get(SOUND, "").strip() for row in rows}
    if len(modes) > 1:
        raise ValueError(
            f"log must be of one mode, got {sorted(modes)} in column {SOUND!r} of {str(path)!r}: "
            "make a log of each"
        )
    mode = modes.pop() if modes else ""
    try:
        lattice_of(mode)
        for row in rows:
            _whole(FAILED, row.extra.get(FAILED, "0"), 0)
    except ValueError as error:
        raise ValueError(f"{error} (columns {SOUND!r} and {FAILED!r} of {str(path)!r})") from None
    return mode


def scales_digest(noise: cc.Noise | None) -> str:
    """What tells the scales of a stretched noise; "" where nothing is stretched."""
    if noise is None or noise.stretch is None:
        return ""
    return hashlib.sha256(noise.stretch.tobytes()).hexdigest()[:8]


def scales_column(noise: cc.Noise | None) -> dict[str, str]:
    """The column of a log that says of what its radii are norms; none where of delta itself."""
    digest = scales_digest(noise)
    return {SCALES: digest} if digest else {}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One certified input; predict is -1 and radius 0.0 where it abstained.

    Attributes
    ----------
    index, label, predict : int
    radius : float, in the attack's norm and input units
    seconds : float, time taken; written as 0 where it is beyond what a timedelta holds
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
        """The row as text."""
        (told,) = lines_of(
            [self.index], [self.label], [self.predict], [float(self.radius)], [self.seconds]
        )
        return "\t".join((told, *self.extra.values()))


def lines_of(
    indices: Sequence[int], labels: Sequence[int], predict: Sequence[int],
    radii: Sequence[float], seconds: Sequence[float],
) -> list[str]:  # fmt: skip
    """Rows without further columns as text; the radius in full precision, so no reader sees a
    larger one."""
    times = [datetime.timedelta(0, each if each < LONGEST else 0.0) for each in seconds]
    columns, none = (indices, labels, predict, radii, times), cc.ABSTAIN
    return [
        f"{index}\t{label}\t{told}\t{radius!r}\t{1 if told == label != none else 0}\t{time!s}"
        for index, label, told, radius, time in zip(*columns, strict=True)
    ]


def check_new(path: str | Path) -> None:
    """Refuse, before any work, a log that could not be written."""
    target = Path(path)
    if target.exists():
        raise refused(path, "File exists")
    if not target.parent.is_dir():
        raise refused(path, "No such file or directory")


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
            raise refused(path, str(error.strerror)) from None
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
        """Close the file, on the disk; remove it if it has no row."""
        os.fsync(self._file.fileno())
        self._file.close()
        if self._rows == 0:
            self._path.unlink(missing_ok=True)


def write_log(path: str | Path, rows: Iterable[Row]) -> None:
    """Write a whole log at once; a file that already says the same is left as it is.

    Raises
    ------
    ValueError
        The file exists and says something else, it cannot be written, or the rows have
        different columns, or text in them that would end a cell or a line.
    """
    write_lines(path, _lines(path, rows))


def write_lines(path: str | Path, lines: Iterable[str]) -> None:
    """The same of lines, its names first."""
    target, same = Path(path), False
    try:
        with written(path) as new:
            with open(new, "w", encoding="utf-8", newline="\n") as file:
                each = iter(lines)
                while block := list(islice(each, BLOCK)):
                    file.write("\n".join([*block, ""]))
            same = target.is_file() and filecmp.cmp(new, target, shallow=False)
    except FileExistsError:
        if not same:
            raise refused(path, "File exists") from None


def _lines(path: str | Path, rows: Iterable[Row]) -> Iterator[str]:
    """The lines of a log, each of the same columns."""
    names, tabs = None, 0
    for row in rows:
        if names is None:
            names = tuple(row.extra)
            head = "\t".join((*COLUMNS, *names))
            tabs = len(COLUMNS) + len(names) - 1
            yield _checked(head, tabs, path)
        if tuple(row.extra) != names:
            both = sorted({names, tuple(row.extra)})
            raise ValueError(f"rows must have the same columns, got {both}: write two logs")
        yield _checked(row.line(), tabs, path) if names else row.line()
    if names is None:
        yield "\t".join(COLUMNS)


def _checked(line: str, tabs: int, path: str | Path) -> str:
    if line.count("\t") != tabs or len(line.splitlines()) > 1:
        raise ValueError(
            f"columns must be text without tabs and ends of lines, got {line!r:.120} for "
            f"{str(path)!r}: leave that column out"
        )
    return line


def log_name(path: str | Path) -> str:
    """What a log is called: its file's name without a table's ending; noise_0.25 has none."""
    return re.sub(r"(?<=.)\.(tsv|txt|csv|log)$", "", Path(path).name)


@dataclass(frozen=True, kw_only=True, eq=False)
class Log:
    """The rows of a log, a column each.

    Attributes
    ----------
    index, label, predict : (N,) int64
    radius, seconds : (N,) float64, as Row's
    extra : N texts of each further column by name, in order
    """

    index: Ints
    label: Ints
    predict: Ints
    radius: Floats
    seconds: Floats
    extra: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Log:
        """The same of rows, one at least."""
        index, label, predict = (
            np.array([getattr(row, name) for row in rows], dtype=np.int64)
            for name in ("index", "label", "predict")
        )
        return cls(
            index=index, label=label, predict=predict,
            radius=np.array([row.radius for row in rows], dtype=np.float64),
            seconds=np.array([row.seconds for row in rows], dtype=np.float64),
            extra={name: [row.extra[name] for row in rows] for name in rows[0].extra},
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, places: Iterable[int] | None = None) -> Iterator[Row]:
        """All rows, or those at some places."""
        for i in range(len(self)) if places is None else places:
            yield Row(
                index=int(self.index[i]), label=int(self.label[i]), predict=int(self.predict[i]),
                radius=float(self.radius[i]), seconds=float(self.seconds[i]),
                extra={name: texts[i] for name, texts in self.extra.items()},
            )  # fmt: skip

    def distinct(self) -> list[Row]:
        """The first row of each that the further columns say."""
        first: dict[tuple[str, ...], int] = {}
        for i, texts in enumerate(zip(*self.extra.values(), strict=True)):
            first.setdefault(texts, i)
        return list(self.rows(first.values() or [0]))


def read_log(path: str | Path) -> list[Row]:
    """The rows that read_columns reads, one after the other."""
    return list(read_columns(path).rows())


def read_columns(path: str | Path) -> Log:
    """Read a log, ours or a published one.

    Radii may be written as any float, times as a timedelta or as seconds; columns are found
    by the names in the first line, others than the six (of which time may lack) are kept.
    correct may be 1 and 0, True and False, or the number of correct rows so far.  An
    abstention's radius is 0.0, whatever it says; a row of negative radius is an abstention.

    Raises
    ------
    ValueError
        No such file, or no log: the line is named.
    """
    with reading("log", "a readable text file", path, "check the name"):
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    names = [name.strip() for name in lines[0].split("\t")] if lines else []
    missing = [name for name in COLUMNS[:-1] if name not in names]
    if missing or len(set(names)) < len(names):
        raise ValueError(
            f"log must begin with a line of distinct column names, {' '.join(COLUMNS)} among them, "
            f"got {str(path)!r} ({'no ' + ', '.join(missing) if missing else 'twice the same'}): "
            "separate them by tabs"
        )
    return _at_once(names, lines) or Log.of(_one_by_one(names, lines, path))


def _one_by_one(names: list[str], lines: Sequence[str], path: str | Path) -> list[Row]:
    """The rows of a log's lines; ValueError for the first that is none."""
    rows: list[Row] = []
    told: list[_Told] = []
    seen: set[int] = set()
    for number, line in enumerate(lines[1:], start=2):
        if line.strip():
            place = f"{path}, line {number}"
            row, of_itself = _row(names, line, place)
            if row.index in seen:
                raise ValueError(
                    f"idx must be distinct, got {row.index} again ({place}): one log is one run"
                )
            seen.add(row.index)
            rows.append(row)
            told.append(of_itself)
    if not rows:
        raise ValueError(f"log must have a row an input, got none in {str(path)!r}: leave it out")
    _check_correct(told)
    return rows


def _at_once(names: list[str], lines: Sequence[str]) -> Log | None:
    """The same in columns; None where a line is blank or wrong: who reads them one by one says
    which."""
    parts: list[dict[str, Any]] = []
    extra: dict[str, list[str]] = {name: [] for name in names if name not in COLUMNS}
    same: dict[str, str] = {}  # of equal texts one is kept
    try:
        for low in range(1, len(lines), BLOCK):
            cells = _cells(names, lines[low : low + BLOCK])
            parts.append(_columns(cells))
            for name, texts in extra.items():
                texts += [same.setdefault(text, text) for text in cells[name]]
    except ValueError:
        return None
    if not parts:
        return None
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    ordered = np.sort(whole["index"])
    if (ordered[1:] == ordered[:-1]).any() or not _is_correct(whole):
        return None
    free = (whole["predict"] == cc.ABSTAIN) | (whole["radius"] < 0)
    return Log(
        index=whole["index"], label=whole["label"], seconds=whole["seconds"], extra=extra,
        predict=np.where(free, cc.ABSTAIN, whole["predict"]),
        radius=np.where(free, 0.0, whole["radius"]) + 0.0,
    )  # fmt: skip


def _cells(names: list[str], lines: Sequence[str]) -> dict[str, list[str]]:
    """The cells of some lines by column; ValueError where there are not as many as names."""
    if {line.count("\t") for line in lines} != {len(names) - 1}:
        raise ValueError
    cells = "\t".join(lines).split("\t")
    return {name: cells[i :: len(names)] for i, name in enumerate(names)}


def _columns(cells: Mapping[str, list[str]]) -> dict[str, Any]:
    """What the cells of some lines say; ValueError where one says nothing."""
    words = [text.strip().lower() for text in cells["correct"]]
    times = cells.get("time")
    radius = cells["radius"]
    if not NUMBERS.fullmatch("\n".join([*radius, ""])):
        raise ValueError
    return {
        "index": _wholes("idx", cells["idx"], 0), "label": _wholes("label", cells["label"], -1),
        "predict": _wholes("predict", cells["predict"], -1),
        "radius": np.array(list(map(float, radius))),
        "correct": _wholes("correct", [str(WORDS.get(word, word)) for word in words], 0),
        "seconds": np.zeros(len(words)) if times is None else _times(times),
    }  # fmt: skip


def _wholes(name: str, texts: list[str], least: int) -> Ints:
    """_whole of each."""
    joined = "\n".join([*texts, ""])
    if WHOLES.fullmatch(joined):
        found: Ints = np.fromstring(joined, dtype=np.int64, sep=" ")
        if found.min() >= least:
            return found
    return np.array([_whole(name, text, least) for text in texts], dtype=np.int64)


def _times(texts: list[str]) -> Floats:
    """_seconds of each; those that Python prints are whole microseconds."""
    joined = "".join([text + ("\n" if "." in text else ".000000\n") for text in texts])
    if TIMES.fullmatch(joined):
        numbers = np.fromstring(re.sub("[:.]", " ", joined), dtype=np.int64, sep=" ")
        found: Floats = (numbers.reshape(-1, len(UNITS)) * UNITS).sum(axis=1) / 1e6
        return found
    return np.array([_seconds(text) for text in texts], dtype=np.float64)


def _is_correct(whole: Mapping[str, Any]) -> bool:
    """Whether _check_correct takes the column."""
    own = whole["correct"]
    free = (whole["predict"] == cc.ABSTAIN) | (whole["radius"] < 0)
    right = whole["predict"] == whole["label"]
    return any(
        np.where(free, (values == 0) | (values == 1), values == right).all()
        for values in (own, np.diff(own, prepend=0))
    )


def check_scales(path: str | Path, rows: Iterable[Row], noise: cc.Noise | None) -> None:
    """Refuse a log whose radii are norms of delta/scales where a noise without these is stated,
    or none at all.

    Raises
    ------
    ValueError
    """
    own = scales_digest(noise)
    for row in rows:
        told = row.extra.get(SCALES, own)
        if told.strip() != own:
            raise ValueError(
                f"--scales must be those of digest {told!r} that column {SCALES!r} of "
                f"{str(path)!r} names, got {own or 'none'}: pass their file, with --noise (its "
                "radii are norms of delta/scales)"
            )


def check_stated(path: str | Path, rows: Iterable[Row], given: Mapping[str, float]) -> None:
    """Refuse a log whose columns say otherwise than what is said of it.

    Parameters
    ----------
    path : of the log
    rows : of read_log
    given : parameter's name (sigma, alpha, n, ...) -> number

    Raises
    ------
    ValueError
        A column of a parameter's name with another value.
    """
    for row in rows:
        for column, text in row.extra.items():
            name = column.lower()
            if name in given and text.strip() and _number(column, text) != given[name]:
                raise ValueError(
                    f"--{name} must be {text}, that of column {column!r} of {str(path)!r} at idx "
                    f"{row.index}, got {in_full(given[name])}: pass that of the log"
                )


@dataclass(frozen=True)
class _Told:
    """The correct column of a row, what it may be for this row alone, and where it stands."""

    correct: int
    allowed: tuple[int, ...]
    line: str
    place: str


def _row(names: list[str], line: str, place: str) -> tuple[Row, _Told]:
    values = dict(zip(names, cells := line.split("\t"), strict=False))
    try:
        if len(cells) != len(names):
            raise ValueError(f"{len(cells)} columns, not {len(names)}")
        index = _whole("idx", values["idx"], 0)
        label, predict = (_whole(name, values[name], -1) for name in ("label", "predict"))
        radius = 0.0 if predict == cc.ABSTAIN else _number("radius", values["radius"])
        word = values["correct"].strip().lower()
        correct = WORDS[word] if word in WORDS else _whole("correct", word, 0)
        seconds = _seconds(values["time"]) if "time" in values else 0.0
    except ValueError as error:
        raise _no_row(line, place, error) from None
    allowed: tuple[int, ...] = (int(predict == label),)
    if predict == cc.ABSTAIN or radius < 0:
        predict, radius, allowed = cc.ABSTAIN, 0.0, (0, 1)
    extra = {name: value for name, value in values.items() if name not in COLUMNS}
    told = _Told(correct, allowed, line, place)
    return Row(
        index=index, label=label, predict=predict, radius=radius + 0.0, seconds=seconds, extra=extra
    ), told


def _no_row(line: str, place: str, reason: object) -> ValueError:
    return ValueError(
        f"log must have a row of its columns in every line, got {line[:60]!r} ({place}: "
        f"{reason}): repair or remove that line"
    )


def _check_correct(told: Sequence[_Told]) -> None:
    """Refuse a column that is neither each row's own nor their running total."""
    own = [each.correct for each in told]
    steps = [after - before for before, after in pairwise([0, *own])]
    wrong = [
        [i for i, (value, each) in enumerate(zip(values, told, strict=True))
         if value not in each.allowed]
        for values in (own, steps)
    ]  # fmt: skip
    if all(wrong):
        row = told[max(lines[0] for lines in wrong)]  # by the reading that goes further
        rule = "correct must be 1 where predict is label and 0 elsewhere, or their running total"
        raise _no_row(row.line, row.place, rule)


def _number(name: str, text: str) -> float:
    """A float as logs write it; "1_0" is none."""
    try:
        return plain_float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, got {text!r}") from None


def _whole(name: str, text: str, least: int) -> int:
    """A whole number in [least, 2^63), exactly; a table may have written it as 5.0."""
    digits = text.strip()
    if abs(_number(name, digits)) < 1e19:
        value = int(digits) if digits.isdecimal() else Decimal(digits)
        if value == int(value) and least <= value < 2**63:
            return int(value)
    raise ValueError(f"{name} must be a whole number >= {least}, got {text!r}")


def _seconds(text: str) -> float:
    """A timedelta as Python prints it, or a number of seconds."""
    match = TIME.fullmatch(text.strip())
    try:
        if match is None:
            time = datetime.timedelta(seconds=_number("time", text))
        else:
            time = datetime.timedelta(**{k: float(v or 0) for k, v in match.groupdict().items()})
    except (ValueError, OverflowError):
        time = datetime.timedelta(-1)
    if time < datetime.timedelta():
        raise ValueError(f"time must be a duration, got {text!r}")
    return time.total_seconds()
