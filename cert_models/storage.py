"""The file of a count store: SQLite, created whole or not at all, written by transactions,
its errors as one line with a remedy.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import cert_core as cc

APPLICATION = 0x43455254  # "CERT"
SCHEMA_VERSION = 1
SCHEMA = f"""
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {SCHEMA_VERSION};
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
    record TEXT NOT NULL, attack TEXT NOT NULL, alpha REAL NOT NULL
);
CREATE TABLE starts (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs, record TEXT NOT NULL
);
CREATE TABLE counts (
    run INTEGER NOT NULL REFERENCES runs, idx INTEGER NOT NULL, label INTEGER NOT NULL,
    selection TEXT NOT NULL, estimation TEXT NOT NULL, path TEXT,
    seconds REAL NOT NULL, start INTEGER REFERENCES starts,
    PRIMARY KEY (run, idx)
) WITHOUT ROWID;
CREATE TABLE logged (
    run INTEGER NOT NULL REFERENCES runs, idx INTEGER NOT NULL, label INTEGER NOT NULL,
    predict INTEGER NOT NULL, radius REAL NOT NULL, seconds REAL NOT NULL, extra TEXT NOT NULL,
    PRIMARY KEY (run, idx)
) WITHOUT ROWID;
""" + "".join(
    f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
    "BEGIN SELECT RAISE(ABORT, 'a count store only grows'); END;\n"
    for table in ("runs", "starts", "counts", "logged")
    for verb in ("update", "delete")
)

MAGIC = b"SQLite format 3\x00"
WHOLE = ("a whole count store", "it is damaged: restore it from a copy, or start a new one")


class StoreError(ValueError):
    """A store that cannot be read, written, or continued as asked."""


def refused(name: str, rule: str, value: object, remedy: str) -> StoreError:
    """The error for one argument."""
    return StoreError(str(cc.errors.fail(name, rule, value, remedy)))


@contextlib.contextmanager
def as_store_errors() -> Iterator[None]:
    """What is refused, as an error of the store."""
    try:
        yield
    except StoreError:
        raise
    except ValueError as error:
        raise StoreError(str(error)) from error


def _reason(error: sqlite3.Error) -> tuple[str, str]:
    """(rule, remedy) behind an error of SQLite."""
    if isinstance(error, sqlite3.ProgrammingError):
        return "open, and used by the thread that opened it", "open it where it is used"
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "free for writing", "another process holds it: try again when that has ended"
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return "on a disk with space", "make room; what was committed is kept, so start again"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return "a file that can be written, in a folder that can", "choose another place"
    if name.startswith("SQLITE_NOTADB"):
        return "a count store", "it is no SQLite file: choose another"
    if name.startswith("SQLITE_CORRUPT"):
        return WHOLE
    return "a count store that works", "choose another, or restore it from a copy"


class StoreFile:
    """An open store; the parameters are CountStore's."""

    def __init__(self, path: str | Path, *, readonly: bool, timeout: float) -> None:
        if not isinstance(path, str | os.PathLike):
            raise refused("path", "the name of a file", path, "pass a text or a Path")
        self.path = Path(path)
        with as_store_errors():
            cc.errors.flag("readonly", readonly)
            rule = "seconds up to a year"
            cc.errors.real("timeout", timeout, rule, lambda x: 0 <= x <= 3e7, remedy="e.g. 30")
        if readonly or self.path.exists():
            self._check_file()
        else:
            self._create()
        with self._clear():
            self._db = sqlite3.connect(
                self._address(readonly), uri=True, timeout=timeout, isolation_level=None
            )
        try:
            with self._clear():
                self._check_content()
                self._db.execute(f"PRAGMA query_only = {int(readonly)}")
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _fail(self, rule: str, got: str, remedy: str) -> StoreError:
        return StoreError(f"store must be {rule}, got {str(self.path)!r} ({got}): {remedy}")

    @contextlib.contextmanager
    def _clear(self) -> Iterator[None]:
        """SQLite's errors as one line with a remedy."""
        try:
            yield
        except sqlite3.Error as error:
            rule, remedy = _reason(error)
            raise self._fail(rule, str(error), remedy) from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, on the disk at the end; inside of another, a part of it."""
        if self._db.in_transaction:
            yield
            return
        with self._clear():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _check_file(self) -> None:
        """SQLite itself would read a page that was cut as if it ended in zeros."""
        if not self.path.is_file():
            raise self._fail("an existing file", "not a file", "check the name")
        if self.path.stat().st_size == 0:
            raise self._fail("a whole count store", "an empty file", "remove it to start anew")
        idle = not Path(f"{self.path}-wal").exists()  # else its last pages may be there
        try:
            with open(self.path, "rb") as file:
                head, size = file.read(100), os.fstat(file.fileno()).st_size
        except OSError as error:
            raise self._fail(
                "a file that can be read", str(error.strerror), "ask its owner"
            ) from error
        page, pages = int.from_bytes(head[16:18]), int.from_bytes(head[28:32])
        if idle and head.startswith(MAGIC) and size != page * pages:
            raise self._fail(WHOLE[0], f"{size} bytes instead of {page * pages}", WHOLE[1])

    def _create(self) -> None:
        """A new store appears under its name whole, or not at all."""
        if Path(f"{self.path}-wal").exists() and not self.path.exists():
            got = f"{self.path.name}-wal of a store that is gone"
            raise self._fail("new or whole", got, "bring the store back, or remove that file")
        try:
            with tempfile.TemporaryDirectory(prefix=".cert-", dir=self.path.parent) as folder:
                new = Path(folder, "new")
                with self._clear(), contextlib.closing(sqlite3.connect(new)) as db:
                    db.execute("PRAGMA synchronous = OFF")  # synced once, below
                    db.executescript(SCHEMA)
                    db.execute("PRAGMA journal_mode = WAL")
                with open(new, "r+b") as file:
                    os.fsync(file.fileno())
                with contextlib.suppress(FileExistsError):  # another worker was faster
                    os.link(new, self.path)
        except OSError as error:
            rule = "in a folder that exists, can be written and has hard links"
            raise self._fail(rule, str(error.strerror), "choose another place") from error

    def _address(self, readonly: bool) -> str:
        """Where the file may be written, a reader too opens it so: it cleans up when it closes."""
        address = self.path.absolute().as_uri()
        places = self.path, self.path.absolute().parent
        if not readonly or all(os.access(place, os.W_OK) for place in places):
            return address + "?mode=rw"
        idle = not Path(f"{self.path}-wal").exists()
        return address + ("?mode=ro&immutable=1" if idle else "?mode=ro")

    def _pragma(self, name: str) -> Any:
        return self._db.execute(f"PRAGMA {name}").fetchone()[0]

    def _check_content(self) -> None:
        if self._pragma("application_id") != APPLICATION:
            raise self._fail("a count store", "another SQLite file", "choose another")
        version = self._pragma("user_version")
        if version != SCHEMA_VERSION:
            remedy = "open it with the version of cert-core that wrote it, export its runs there"
            raise self._fail(f"of schema version {SCHEMA_VERSION}", f"version {version}", remedy)
        damage = self._pragma("quick_check")
        if damage != "ok":
            raise self._fail(WHOLE[0], damage.splitlines()[-1], WHOLE[1])
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.execute("PRAGMA synchronous = FULL")
