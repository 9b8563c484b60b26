"""The count store: votes of every input of every run, in one SQLite file that only grows.

Each input is one transaction, synced to the disk: a process killed at any moment loses the
input in hand and no other.  The file is created whole or not at all, has a write-ahead log
beside it (FILE-wal) while in use, and triggers refuse every change of what it holds.
Certificates are derived, never stored: only a published log, which has no counts, is kept
as what it says.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

import cert_core as cc
from cert_core.errors import integer
from cert_models.logs import Row
from cert_models.store.casts import KIND, casts_at_once, written_at_once
from cert_models.store.runs import (
    Counts,
    FixedPlan,
    LogPlan,
    Plan,
    RoutedPlan,
    Run,
    ScorePlan,
    Votes,
    check_numbers,
    was_sent,
)
from cert_models.store.storage import (
    SCHEMA_VERSION,
    WHOLE,
    StoreError,
    StoreFile,
    as_store_errors,
    refused,
    schema,
)

# What a row says, in the order of its digest; and how many of these make another result.
COLUMNS = {
    "counts": "idx, label, selection, estimation, path, seconds",
    "logged": "idx, label, predict, radius, seconds, extra",
}
TOLD = {"counts": 5, "logged": 4}
BLOCK = 1024  # rows read at a time: what they say stays in the processor's cache
# What a file that somebody else wrote, or that rotted, can make its readers raise.
STRANGE = (
    ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError,
    MemoryError,
)  # fmt: skip


@lru_cache(maxsize=256)
def _run_of(record: str, attack: str, alpha: float) -> Run:
    return Run.from_json(record, attack, alpha)


def _sparse(counts: Counts) -> str:
    return json.dumps(_numbers(counts))


def _dense(record: dict[str, Any], num_classes: int) -> Counts:
    counts = np.zeros(num_classes, dtype=np.int64)
    for label, votes in record.items():
        counts[integer("class", int(label), 0, num_classes - 1)] = integer("votes", votes, 0)
    return counts


def _record(text: str) -> dict[str, Any]:
    """What a text keeps by names."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise cc.errors.fail("record", "a JSON object", found, "restore it from a copy")
    return found


def check_row(row: Row) -> None:
    """Refuse a row of a log that certifies nothing that can be."""
    remedy = "pass what the log says"
    for name, low in (("index", 0), ("label", 0), ("predict", -1)):
        integer(name, getattr(row, name), low, 2**62)
    for name in ("radius", "seconds"):
        level = cc.errors.array(name, getattr(row, name), ">= 0", lambda x: x >= 0, remedy=remedy)
        if level.ndim:
            raise cc.errors.fail(name, "one number", level.shape, remedy)
    for column, value in row.extra.items():
        cc.errors.text(f"column {column!r}", value)


def _digests(table: str, about: tuple[Any, ...]) -> Callable[[str], str]:
    """What the rows of a run, as Python writes them, are known by again: no bit of one, or of the
    run, changes unseen."""
    head = f"({table!r}, {about[1:]!r}, "  # a run's id differs from store to store
    copy = hashlib.blake2b(head.encode(), digest_size=8).copy

    def digest(written: str) -> str:
        told = copy()
        told.update(f"{written})".encode())
        return told.hexdigest()

    return digest


def _digest(table: str, about: tuple[Any, ...], row: tuple[Any, ...]) -> str:
    """That of one row."""
    return _digests(table, about)(repr(row))


def _check(run: Run, votes: Votes) -> None:
    """Refuse votes that the run's plan cannot have cast, or of another number of classes."""
    if isinstance(run.plan, RoutedPlan):
        run.plan.check(votes)
        for part, cast in parts_of(run, votes):
            _check(part, cast)
    else:
        run.plan.check(votes if run.sound is None else _completed(run, votes))
    integer("failed", votes.failed, 0, 0 if run.sound is None else None)
    found = len(votes.selection), len(votes.estimation)
    if found != (run.num_classes, run.num_classes):
        rule, remedy = f"for the {run.num_classes} classes of the run", "count them for all classes"
        raise cc.errors.fail("votes", rule, found, remedy)


def parts_of(run: Run, votes: Votes) -> Iterator[tuple[Run, Votes]]:
    """Of a routed input: the router's run and votes, and those of the branch that was asked."""
    router, *branches = run.parts
    assert votes.router is not None
    yield router, votes.router
    if was_sent(votes):
        chosen = integer("selected", votes.router.selected, 0, len(branches) - 1)
        yield branches[chosen], replace(votes, router=None)


def _completed(run: Run, votes: Votes) -> Votes:
    """The votes with those that FAILed in sound mode: of the selection, which may take any, for
    its class, of the estimation for another."""
    n0, failed = (
        getattr(getattr(run.plan, "rule", run.plan), "n0", 0),
        integer("failed", votes.failed, 0),
    )
    check_numbers(votes)
    if isinstance(run.plan, ScorePlan):  # a copy that FAILed has a score, 0
        if failed > (votes.scores or ()).count(0):
            rule, remedy = "at most the scores that are 0", "pass what was scored"
            raise cc.errors.fail("failed", rule, failed, remedy)
        return votes
    selection, estimation = votes.selection.copy(), votes.estimation.copy()
    selection[votes.selected] += max(n0 - int(selection.sum()), 0)
    estimation[(votes.selected + 1) % len(estimation)] += failed
    return replace(votes, selection=selection, estimation=estimation)


def _steps_of(run: Run, votes: Votes) -> Any:
    """What is kept beside the two stages: looks or scores, in sound mode with the FAILs, of a
    routed input those of its branch with all of its router's."""
    if isinstance(run.plan, RoutedPlan):
        (router, asked), *branch = parts_of(run, votes)
        cast = [_numbers(asked.selection), _numbers(asked.estimation), _steps_of(router, asked)]
        return {"router": cast, "branch": [_steps_of(*each) for each in branch]}
    steps = getattr(votes, run.plan.steps)
    listed = [int(v) for v in steps] if steps is not None else None
    return listed if run.sound is None else {"failed": int(votes.failed), "steps": listed}


def _path_of(run: Run, votes: Votes) -> str | None:
    """The same as text; None where there is nothing."""
    kept = _steps_of(run, votes)
    return None if kept is None else json.dumps(kept)


def _numbers(counts: Counts) -> dict[str, int]:
    """A table of votes without its zeros."""
    return {str(i): int(counts[i]) for i in np.flatnonzero(counts)}


def _votes_of(run: Run, row: tuple[Any, ...]) -> Votes:
    index, label, selection, estimation, path, seconds = row
    listed: Any = json.loads(path) if path is not None else None
    about = {"index": index, "position": index, "label": label, "seconds": seconds}
    votes = _cast(run, about, _record(selection), _record(estimation), listed)
    _check(run, votes)
    return votes


def _cast(
    run: Run, about: dict[str, Any], selection: Any, estimation: Any, listed: Any
) -> Votes:  # fmt: skip
    """The votes that were kept so, in JSON."""
    tables: dict[str, Any] = {
        "selection": _dense(selection, run.num_classes),
        "estimation": _dense(estimation, run.num_classes),
    }
    steps: dict[str, Any] = {}
    if isinstance(run.plan, RoutedPlan):
        router, *branches = run.parts
        asked = _cast(router, about, *listed["router"])
        votes = Votes(**about, **tables, router=asked)
        for inner in listed["branch"]:
            part = branches[integer("selected", asked.selected, 0, len(branches) - 1)]
            votes = replace(_cast(part, about, selection, estimation, inner), router=asked)
        return votes
    if run.sound is not None:
        steps["failed"], listed = listed["failed"], listed["steps"]
    if listed is not None:
        steps[run.plan.steps] = tuple(listed)
    return Votes(**about, **tables, **steps, plan=getattr(run.plan, "rule", None))


def _row_of(run: Run, row: tuple[Any, ...]) -> Row:
    if not isinstance(run.plan, LogPlan):
        raise cc.errors.fail("run", "a published log", run.plan.kind, "restore it from a copy")
    index, label, predict, radius, seconds, extra = row
    found = Row(
        index=index, label=label, predict=predict, radius=radius, seconds=seconds,
        extra=_record(extra),
    )  # fmt: skip
    check_row(found)
    return found


PARSERS = {"counts": _votes_of, "logged": _row_of}


class CountStore(StoreFile):
    """Runs and their counts, in one file.

    Parameters
    ----------
    path : str or Path
        Created if it does not exist.
    readonly : bool
        Never create or write; works in a folder that cannot be written.
    timeout : float
        Seconds to wait for another process that is writing.

    Raises
    ------
    StoreError
        Here and in every method: no store, damaged, locked, full, of another schema
        version, or asked for something that it does not hold.

    Examples
    --------
    >>> from cert_models.counts import CountStore
    >>> from cert_models.store.runs import FixedPlan, Run
    >>> plan = FixedPlan(n0=10, n=100)
    >>> sampling = {"plan": plan, "seed": 0, "batch_size": 1000, "num_classes": 2}
    >>> names = {"model": "mine", "model_fingerprint": "", "data": "mine", "data_fingerprint": ""}
    >>> run = Run(noise=cc.Gaussian(4, 0.5), attack="l2", alpha=0.001, **sampling, **names)
    >>> table = {"selection": np.array([1, 9]), "estimation": np.array([5, 95])}
    >>> with CountStore("runs.db") as store:
    ...     store.begin("first", run)
    ...     store.add("first", cc.Votes(index=0, label=1, **table))
    ...     [each.selected for each in store.votes("first", FixedPlan)]
    [1]
    """

    def __init__(self, path: str | Path, *, readonly: bool = False, timeout: float = 30.0) -> None:
        super().__init__(path, readonly=readonly, timeout=timeout)
        self._starts: dict[str, int] = {}

    def runs(self) -> dict[str, Run]:
        """All runs by name, in the order they were begun."""
        with self._clear():
            rows = self._db.execute("SELECT name, record, attack, alpha FROM runs ORDER BY id")
            return {cc.errors.text("name", name): _run_of(*record) for name, *record in rows}

    @contextlib.contextmanager
    def _clear(self) -> Iterator[None]:
        """Errors of SQLite, and of what the store holds, as one line with a remedy."""
        try:
            with super()._clear():
                yield
        except StoreError:
            raise
        except STRANGE as error:
            raise self._told(error) from error

    def _told(self, error: Exception, where: str = "") -> StoreError:
        """What is wrong in one line, and where it stands."""
        what = str(error) or type(error).__name__
        return StoreError(f"{what} ({where}store {str(self.path)!r})")

    def only(self, name: str | None = None) -> str:
        """The run of this name; without one, the store's only run."""
        names = list(self.runs())
        if name is None and len(names) == 1:
            return names[0]
        if name in names:
            return str(name)
        listed = ", ".join(map(repr, names)) or "no run yet"
        got = "no name" if name is None else repr(name)
        raise StoreError(f"run must be one of {str(self.path)!r} ({listed}), got {got}: name one")

    def begin(self, name: str, run: Run, start: Mapping[str, Any] | None = None) -> None:
        """Begin a run, or continue it.

        Parameters
        ----------
        name : str
        run : Run
        start : dict, optional
            What is kept of this start beside its time: versions, device, ...

        Raises
        ------
        StoreError
            The store has a run of this name with other parameters: the difference is named.
        """
        if not isinstance(name, str) or not name:
            raise refused("name", "text", name, "name the run")
        if not isinstance(run, Run):
            raise refused("run", "a Run", run, "say what decides the counts")
        if start is not None and not isinstance(start, Mapping):
            raise refused("start", "a dict", start, "pass values by name")
        with self.transaction():
            self._ensure(name, run)
            if start is not None:
                now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                record = json.dumps({"begun": now, **start}, sort_keys=True)
                self._starts[name] = self._insert_start(self._id(name), record)

    def _ensure(self, name: str, run: Run) -> None:
        if not self._known(name, run):
            values = (name, run.plan.kind, run.to_json(), run.attack, run.alpha)
            self._db.execute(
                "INSERT INTO runs (name, kind, record, attack, alpha) VALUES (?, ?, ?, ?, ?)",
                values,
            )

    def _known(self, name: str, run: Run) -> bool:
        """Whether the store has this run; StoreError if that of its name is another."""
        known = self.runs().get(name)
        differences = known.differences(run) if known is not None else []
        if differences:
            raise StoreError(
                f"run {name!r} of {str(self.path)!r} must be continued with its own parameters, "
                f"got {'; '.join(differences)}: use the same, or another name "
                "(--run) or store"
            )
        return known is not None

    def _id(self, name: str) -> int:
        return int(self._about(name)[0])

    def _insert_start(self, run: int, record: str) -> int:
        values = (run, record)
        cursor = self._db.execute("INSERT INTO starts (run, record) VALUES (?, ?)", values)
        return int(cursor.lastrowid or 0)

    def starts(self, name: str) -> list[dict[str, Any]]:
        """When and with what the run was started, in order."""
        with self._clear():
            query = "SELECT record FROM starts WHERE run = ? ORDER BY id"
            return [json.loads(text) for (text,) in self._db.execute(query, (self._id(name),))]

    def indices(self, name: str) -> list[int]:
        """Places in the data set of the inputs that are done, ascending."""
        with self._clear():
            query = (
                "SELECT idx FROM counts WHERE run = :run UNION ALL "
                "SELECT idx FROM logged WHERE run = :run ORDER BY idx"
            )
            return [idx for (idx,) in self._db.execute(query, {"run": self._id(name)})]

    def done(self, name: str, run: Run) -> set[int]:
        """Inputs that are done of this very run, which the store need not know.

        Raises
        ------
        StoreError
            The store has a run of this name with other parameters.
        """
        return set(self.indices(name)) if self._known(name, run) else set()

    def add(self, name: str, votes: Votes) -> None:
        """Add one input, on the disk when this returns.

        Raises
        ------
        StoreError
            The input is there with other votes, or the votes are not of the run's plan.
        """
        run = self.runs()[self.only(name)]
        if not isinstance(votes, Votes):
            raise refused("votes", "Votes of one input", votes, "pass what was counted")
        with as_store_errors():
            _check(run, votes)
        row = (
            int(votes.index), integer("label", votes.label, 0), _sparse(votes.selection),
            _sparse(votes.estimation), _path_of(run, votes), float(votes.seconds),
        )  # fmt: skip
        with self.transaction():
            self._insert("counts", name, row, self._starts.get(name))

    def add_logged(self, name: str, rows: Iterable[Row]) -> None:
        """Add rows of a published log to its run, all or none."""
        if not isinstance(self.runs()[self.only(name)].plan, LogPlan):
            raise self._kind_error(name, "log")
        with self.transaction():
            for row in rows:
                check_row(row)
                values = (
                    int(row.index), int(row.label), int(row.predict), float(row.radius),
                    float(row.seconds), json.dumps(dict(row.extra)),
                )  # fmt: skip
                self._insert("logged", name, values)

    def _about(self, name: str) -> tuple[Any, ...]:
        """The id of a run, then all that is kept of it."""
        query = "SELECT id, name, record, attack, alpha FROM runs WHERE name = ?"
        found: tuple[Any, ...] | None = self._db.execute(query, (name,)).fetchone()
        return found or (self.only(name),)

    def _insert(
        self, table: str, name: str, row: tuple[Any, ...], start: int | None = None
    ) -> bool:
        """Whether the row is new; equal in all but time and start to one of its index if not."""
        about = self._about(name)
        known = next(self._rows(table, about, "AND idx = ?", row[0]), None)
        if known is None:
            more = {"start": start} if table == "counts" else {}
            values = (about[0], *row, _digest(table, about, row), *more.values())
            columns = ", ".join(("run", COLUMNS[table], "digest", *more))
            marks = ", ".join("?" * len(values))
            self._db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)
            return True
        told = TOLD[table]
        if known[0][:told] != row[:told]:
            raise StoreError(
                f"input {row[0]} of run {name!r} must have one result, got another than "
                f"{str(self.path)!r} holds: the model, the data or the arithmetic has changed"
            )
        return False

    def _rows(
        self, table: str, about: tuple[Any, ...], which: str = "", *values: Any
    ) -> Iterator[tuple[tuple[Any, ...], int | None]]:
        """The rows of a run as they were written, and their starts, by ascending index."""
        digest = _digests(table, about)
        with self._clear():
            for found in self._found(table, about, which, *values):
                begun, kept, row = found[0], found[1], found[2:]
                if kept is not None and kept != digest(repr(row)):
                    raise self._changed(about, row[0])
                yield row, begun

    def _found(
        self, table: str, about: tuple[Any, ...], which: str = "", *values: Any
    ) -> sqlite3.Cursor:
        """The rows of a run as they stand, each behind its start and digest."""
        start = "start" if table == "counts" else "NULL"
        kept = "digest" if self.version > 1 else "NULL"
        query = (
            f"SELECT {start}, {kept}, {COLUMNS[table]} FROM {table} "
            f"WHERE run = ? {which} ORDER BY idx"
        )
        return self._db.execute(query, (about[0], *values))

    def _changed(self, about: tuple[Any, ...], index: object) -> StoreError:
        return StoreError(
            f"input {index!r} of run {about[1]!r} must be as it was written, got "
            f"another digest in {str(self.path)!r}: {WHOLE[1]}"
        )

    def _read(
        self, table: str, name: str, *which: Any
    ) -> Iterator[tuple[Any, tuple[Any, ...], int | None]]:
        """What the rows of a run say, Votes or Row, with the rows: all that `add` would take,
        whoever wrote the file."""
        run = self.runs()[self.only(name)]
        for row, start in self._rows(table, self._about(name), *which):
            yield self._parsed(table, name, run, row), row, start

    def _parsed(self, table: str, name: str, run: Run, row: tuple[Any, ...]) -> Any:
        parse: Callable[[Run, tuple[Any, ...]], Any] = PARSERS[table]
        try:
            return parse(run, row)
        except STRANGE as error:
            where = f"input {row[0]!r} of run {name!r}, "
            raise self._told(error, where) from error

    def _kind_error(self, name: str, kind: str) -> StoreError:
        known = self.runs()[self.only(name)].plan.kind
        return StoreError(
            f"run must be of the sampling plan {kind!r} to be read so, got {name!r} of "
            f"{known!r}: counts of one kind of sampling say nothing under another"
        )

    def plan(self, name: str, kind: type[Plan]) -> Any:
        """The run's plan, which must be of this kind."""
        plan = self.runs()[self.only(name)].plan
        if not isinstance(plan, kind):
            raise self._kind_error(name, kind.kind)
        return plan

    def votes(self, name: str, kind: type[Plan], *, only: int | None = None) -> Iterator[Votes]:
        """The votes of all inputs, by ascending index, of a run of this kind of plan; of one
        alone where it is named."""
        self.plan(name, kind)
        which = () if only is None else ("AND idx = ?", only)
        for votes, _, _ in self._read("counts", name, *which):
            yield votes

    def casts(self, name: str) -> Iterator[np.ndarray[Any, Any]]:
        """The same of a run of fixed n, in blocks of records of casts.KIND: no more than the votes
        for the selected class."""
        plan, run, about = self.plan(name, FixedPlan), self.runs()[name], self._about(name)
        digest = _digests("counts", about)
        with self._clear():
            every = self._found("counts", about)
            while block := every.fetchmany(BLOCK):
                _, digests, *columns = zip(*block, strict=True)
                cast = casts_at_once(plan, run.num_classes, columns)
                rows = list(zip(*columns, strict=True)) if cast is None else []
                written = map(repr, rows) if cast is None else written_at_once(columns)
                for index, kept, now in zip(columns[0], digests, map(digest, written), strict=True):
                    if kept is not None and kept != now:
                        raise self._changed(about, index)
                if cast is None:
                    each = (self._parsed("counts", name, run, row) for row in rows)
                    cast = np.array([
                        (v.index, v.label, v.selected, v.estimation[v.selected], v.seconds)
                        for v in each
                    ], dtype=KIND)  # fmt: skip
                yield cast

    def logged(self, name: str) -> list[Row]:
        """The rows of a published log, by ascending index."""
        self.plan(name, LogPlan)
        return [row for row, _, _ in self._read("logged", name)]

    def merge(self, *sources: str | Path) -> int:
        """Add all runs of other stores, all or nothing.

        Returns
        -------
        int
            Inputs that were new here.

        Raises
        ------
        StoreError
            A run of one name with other parameters, or an input with other votes.
        """
        with contextlib.ExitStack() as stack:
            others = [stack.enter_context(CountStore(path, readonly=True)) for path in sources]
            with self.transaction():
                return sum(
                    self._merge_run(other, name) for other in others for name in other.runs()
                )

    def _merge_run(self, other: CountStore, name: str) -> int:
        self._ensure(name, other.runs()[name])
        here, there = self._id(name), other._id(name)
        starts = self._merge_starts(other, here, there)
        new = 0
        for table in COLUMNS:
            for _, row, start in other._read(table, name):
                new += self._insert(table, name, row, starts.get(start))
        return new

    def _merge_starts(self, other: CountStore, here: int, there: int) -> dict[int | None, int]:
        """The other store's starts of a run, added unless they are known: their ids here."""
        query = "SELECT record, id FROM starts WHERE run = ?"
        known = dict(self._db.execute(query, (here,)))
        return {
            start: known[record] if record in known else self._insert_start(here, record)
            for record, start in other._db.execute(query, (there,)).fetchall()
        }


class MemoryStore(CountStore):
    """A store of this process alone, gone when it is closed.  What is too much for SQLite's
    cache it puts into a temporary file."""

    def __init__(self) -> None:
        self.path, self.version, self._starts = Path("memory"), SCHEMA_VERSION, {}
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(schema(SCHEMA_VERSION))

    def check_held(self) -> None:
        """Nothing can be in its place."""

    def close(self) -> None:
        """Drop what it holds."""
        self._db.close()
