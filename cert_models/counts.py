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
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import cert_core as cc
from cert_models.arguments import whole
from cert_models.logs import Row
from cert_models.plans import Counts, LogPlan, Plan, Run, Votes
from cert_models.storage import StoreError, StoreFile, as_store_errors, refused


def _sparse(counts: Counts) -> str:
    return json.dumps({str(i): int(counts[i]) for i in np.flatnonzero(counts)})


def _dense(text: str, num_classes: int) -> Counts:
    counts = np.zeros(num_classes, dtype=np.int64)
    for label, votes in json.loads(text).items():
        counts[whole("class", int(label), 0, num_classes - 1)] = whole("votes", votes, 0)
    return counts


def check_row(row: Row) -> None:
    """Refuse a row of a log that certifies nothing that can be."""
    remedy = "pass what the log says"
    for name, low in (("index", 0), ("label", 0), ("predict", -1)):
        whole(name, getattr(row, name), low, 2**62)
    for name in ("radius", "seconds"):
        cc.errors.array(name, getattr(row, name), ">= 0", lambda x: x >= 0, remedy=remedy)


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
    """

    def __init__(self, path: str | Path, *, readonly: bool = False, timeout: float = 30.0) -> None:
        super().__init__(path, readonly=readonly, timeout=timeout)
        self._starts: dict[str, int] = {}

    def runs(self) -> dict[str, Run]:
        """All runs by name, in the order they were begun."""
        with self._clear():
            rows = self._db.execute("SELECT name, record, attack, alpha FROM runs ORDER BY id")
            return {name: Run.from_json(*record) for name, *record in rows}

    @contextlib.contextmanager
    def _clear(self) -> Iterator[None]:
        """Errors of SQLite, and of what the store holds, as one line with a remedy."""
        try:
            with super()._clear():
                yield
        except StoreError:
            raise
        except (ValueError, TypeError, LookupError, OverflowError) as error:
            raise StoreError(f"{error} (store {str(self.path)!r})") from error

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
                f"got {'; '.join(differences)}: use the same, or another run or store"
            )
        return known is not None

    def _id(self, name: str) -> int:
        row = self._db.execute("SELECT id FROM runs WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else int(self.only(name))

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
            run.plan.check(votes)
        if len(votes.selection) != run.num_classes or len(votes.estimation) != run.num_classes:
            raise StoreError(
                f"votes must be for the {run.num_classes} classes of run {name!r}, got "
                f"{len(votes.selection)} and {len(votes.estimation)}: count them for all classes"
            )
        path = json.dumps(votes.path) if votes.path is not None else None
        values = (
            int(votes.label), _sparse(votes.selection), _sparse(votes.estimation), path,
            float(votes.seconds), self._starts.get(name),
        )  # fmt: skip
        with self.transaction():
            self._insert("counts", name, int(votes.index), values)

    def add_logged(self, name: str, rows: Iterable[Row]) -> None:
        """Add rows of a published log to its run, all or none."""
        if not isinstance(self.runs()[self.only(name)].plan, LogPlan):
            raise self._kind_error(name, "log")
        with self.transaction():
            for row in rows:
                check_row(row)
                values = (
                    row.label, row.predict, row.radius, row.seconds,
                    json.dumps(dict(row.extra)),
                )  # fmt: skip
                self._insert("logged", name, row.index, values)

    def _insert(self, table: str, name: str, index: int, values: Sequence[Any]) -> bool:
        """Whether the row is new; equal in all but time and start to one of its index if not."""
        run = self._id(name)
        found = self._db.execute(
            f"SELECT * FROM {table} WHERE run = ? AND idx = ?", (run, index)
        ).fetchone()
        if found is None:
            marks = ", ".join("?" * (len(values) + 2))
            self._db.execute(f"INSERT INTO {table} VALUES ({marks})", (run, index, *values))
            return True
        told = 4 if table == "counts" else 3  # columns that must agree
        if tuple(found[2 : 2 + told]) != tuple(values[:told]):
            raise StoreError(
                f"input {index} of run {name!r} must have one result, got another than "
                f"{str(self.path)!r} holds: the model, the data or the arithmetic has changed"
            )
        return False

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
        plan = self.plan(name, kind)
        classes = self.runs()[name].num_classes
        ends = (-(2**63), 2**63 - 1) if only is None else (only, only)
        with self._clear():
            rows = self._db.execute(
                "SELECT idx, label, selection, estimation, seconds, path FROM counts "
                "WHERE run = ? AND idx BETWEEN ? AND ? ORDER BY idx",
                (self._id(name), *ends),
            )
            for index, label, selection, estimation, seconds, path in rows:
                votes = Votes(
                    index, label, _dense(selection, classes), _dense(estimation, classes), seconds,
                    tuple(json.loads(path)) if path is not None else None,
                )  # fmt: skip
                plan.check(votes)  # what no run of this plan writes, no reader gets
                yield votes

    def logged(self, name: str) -> list[Row]:
        """The rows of a published log, by ascending index."""
        self.plan(name, LogPlan)
        with self._clear():
            rows = self._db.execute(
                "SELECT idx, label, predict, radius, seconds, extra FROM logged "
                "WHERE run = ? ORDER BY idx",
                (self._id(name),),
            )
            return [
                Row(index, label, predict, radius, seconds, json.loads(extra))
                for index, label, predict, radius, seconds, extra in rows
            ]

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
        for table in ("counts", "logged"):
            rows = other._db.execute(f"SELECT * FROM {table} WHERE run = ? ORDER BY idx", (there,))
            for _, index, *values in rows:
                if table == "counts":
                    values[-1] = starts.get(values[-1])
                new += self._insert(table, name, index, values)
        return new

    def _merge_starts(self, other: CountStore, here: int, there: int) -> dict[int, int]:
        """The other store's starts of a run, added unless they are known: their ids here."""
        query = "SELECT record, id FROM starts WHERE run = ?"
        known = dict(self._db.execute(query, (here,)))
        return {
            start: known[record] if record in known else self._insert_start(here, record)
            for record, start in other._db.execute(query, (there,)).fetchall()
        }
