"""Which samples votes were cast by: no vote may be used twice.

Two samples of one stage are the same noisy copy where run's seed, input's index and number
agree, whatever the noise.  Tables of votes remember their samples as far as NumPy lets them:
through views, copies, pickles, choices of rows, sums of tables and tables one below the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any, Self

import numpy as np

from cert_core.errors import fail
from cert_core.lattice import Lattice
from cert_core.noises import Noise

LIKE = (np.zeros_like, np.ones_like, np.empty_like, np.full_like)  # of other contents


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Samples start, ..., stop - 1 of a stage, for inputs of these indices; on the lattice
    `sound` in sound mode, where `failed` copies of each input FAILed and gave no
    vote; told apart by shells where there are thresholds."""

    noise: Noise
    seed: int
    stage: str
    start: int
    stop: int
    indices: tuple[int, ...]
    sound: Lattice | None = None
    failed: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = ()

    def of(self, rows: Any) -> Self:
        """The same of some of the inputs."""
        indices, failed = (
            tuple(np.asarray(values, dtype=np.int64)[rows].tolist()) if values else ()
            for values in (self.indices, self.failed)
        )
        return replace(self, indices=indices, failed=failed)

    def then(self, other: Self) -> Self | None:
        """Both as one stretch, where the other goes on from this; else None."""
        if other != replace(self, start=self.stop, stop=other.stop, failed=other.failed):
            return None
        failed = tuple(a + b for a, b in zip(self.failed, other.failed, strict=True))
        return replace(self, stop=other.stop, failed=failed)


def repeated(drawn: Iterable[Drawn]) -> str | None:
    """A sample that is among them twice, in words."""
    spans: dict[tuple[int, str, int], list[tuple[int, int]]] = {}
    for each in drawn:
        for index in each.indices:
            spans.setdefault((each.seed, each.stage, index), []).append((each.start, each.stop))
    for (seed, stage, index), found in spans.items():
        for (_, stop), (start, _) in pairwise(sorted(found)):
            if start < stop:
                return f"sample {start} of seed {seed}, stage {stage!r}, index {index} twice"
    return None


def _merged(drawn: Iterable[Drawn]) -> tuple[Drawn, ...]:
    """Stretches that go on from each other as one."""
    merged: list[Drawn] = []
    for each in sorted(drawn, key=lambda part: (part.seed, part.stage, part.start)):
        both = merged[-1].then(each) if merged else None
        if both is not None:
            merged[-1] = both
        else:
            merged.append(each)
    return tuple(merged)


def stretches(drawn: Sequence[Drawn], count: int) -> list[tuple[Drawn, ...]]:
    """The samples of `count` rows, those of the same rows together, in the order of the rows."""
    if all(len(each.indices) == count for each in drawn):
        return [tuple(drawn)] if drawn else []
    found = [tuple(same) for _, same in groupby(drawn, lambda each: (each.seed, each.indices))]
    return rows_apart(found, drawn, count)


def rows_apart(
    found: list[tuple[Drawn, ...]], drawn: Sequence[Drawn], count: int
) -> list[tuple[Drawn, ...]]:
    """The stretches found, if they are those of all rows."""
    if sum(len(same[0].indices) for same in found) != count:
        rule, remedy = "of samples that are told apart row by row", "choose rows before joining"
        raise fail("certificates", rule, f"{len(drawn)} stretches of {count} rows", remedy)
    return found


def of_rows(found: Sequence[tuple[Drawn, ...]], rows: Any) -> tuple[Drawn, ...]:
    """Of stretches one after the other, the samples of these rows, in their order."""
    ends = np.cumsum([len(same[0].indices) for same in found], dtype=np.int64)
    place = np.searchsorted(ends, rows, side="right")
    chosen: list[Drawn] = []
    for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(place)) + 1):
        if found and len(run):
            same = found[place[run[0]]]
            low = ends[place[run[0]]] - len(same[0].indices)
            chosen += [each.of(rows[run] - low) for each in same]
    return tuple(chosen)


def check_apart(name: str, rule: str, drawn: Iterable[Drawn], remedy: str) -> None:
    """Refuse a sample that is used twice."""
    twice = repeated(drawn)
    if twice is not None:
        raise fail(name, rule, twice, remedy)


def one_mode(name: str, drawn: Iterable[Drawn]) -> Lattice | None:
    """The lattice that all samples were drawn on, or None in float mode; votes of one mode are
    never read with those of another."""
    modes = list(dict.fromkeys(each.sound for each in drawn))
    if len(modes) > 1:
        rule, got = (
            "drawn in one mode",
            " and ".join("floats" if m is None else repr(m) for m in modes),
        )
        raise fail(name, rule, got, "count all of them with the same sound=")
    return modes[0] if modes else None


def failed_copies(table: Any, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How many copies of each of `count` inputs FAILed and are in no column of the table."""
    total = np.zeros(count, dtype=np.int64)
    for each in getattr(table, "drawn", ()):
        if each.failed:
            total += np.array(each.failed, dtype=np.int64)
    return total


class CountedVotes(np.ndarray[Any, np.dtype[Any]]):
    """Votes or scores, a row an input, that know the samples they are of.

    Attributes
    ----------
    drawn : tuple of Drawn
        Those of all rows together; empty where that is not known.
    """

    drawn: tuple[Drawn, ...] = ()

    def __array_finalize__(self, origin: Any) -> None:
        if getattr(origin, "shape", None) == self.shape:
            self.drawn = getattr(origin, "drawn", ())

    def __reduce__(self) -> Any:
        return counted, (self.view(np.ndarray), *self.drawn)  # other processes count too

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        if not isinstance(found, CountedVotes) or found.ndim != self.ndim:
            return np.asarray(found)[()] if isinstance(found, CountedVotes) else found
        rows = key[0] if isinstance(key, tuple) else key
        parts = tuple(each.of(rows) for each in self.drawn)
        found.drawn = parts if all(len(part.indices) == len(found) for part in parts) else ()
        return found

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Sums of tables are of the samples of both; of other results nothing is known."""
        drawn: tuple[Drawn, ...] = ()
        adds = ufunc is np.add and method == "__call__"
        if adds:
            tables = [each for each in inputs if isinstance(each, CountedVotes)]
            drawn = tuple(part for table in tables for part in table.drawn)
            rule = "of different samples to be added"
            remedy = "count on from where the first ended: start="
            check_apart("tables of votes", rule, drawn, remedy)
            one_mode("tables of votes", drawn)
        written = options.get("out", ())
        if written:
            options["out"] = tuple(map(_plain, written))
        result = getattr(ufunc, method)(*map(_plain, inputs), **options)
        for place in written:
            if isinstance(place, CountedVotes):
                result, place.drawn = place, _merged(drawn)
        if adds and not written:
            result = result.view(CountedVotes)
            result.drawn = _merged(drawn)
        return result

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        """Tables one below the other are of the samples of all."""
        result = super().__array_function__(function, types, arguments, options)
        if function in LIKE and isinstance(result, CountedVotes):
            result.drawn = ()
        if function is np.vstack or (function is np.concatenate and len(arguments) == 1):
            drawn = _below(arguments[0]) if not options else ()
            if drawn:
                result = result.view(CountedVotes)
                result.drawn = drawn
        return result


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, CountedVotes) else value


def _below(tables: Sequence[Any]) -> tuple[Drawn, ...]:
    """The samples of tables one below the other; nothing where they are not alike."""
    columns = [getattr(table, "drawn", ()) for table in tables]
    joined = []
    for parts in zip(*columns, strict=False):
        one_mode("tables of votes", parts)
        if len({replace(part, indices=(), failed=()) for part in parts}) != 1:
            return ()
        indices, failed = (
            tuple(i for part in parts for i in getattr(part, name))
            for name in ("indices", "failed")
        )
        joined.append(replace(parts[0], indices=indices, failed=failed))
    return tuple(joined) if len({len(column) for column in columns}) == 1 else ()


def counted(table: Any, *drawn: Drawn) -> CountedVotes:
    """A table of votes that knows its samples."""
    votes: CountedVotes = np.asarray(table).view(CountedVotes)
    votes.drawn = drawn
    return votes
