"""The file of a count store: SQLite, created whole or not at all, written by transactions,
its errors as one line with a remedy.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

import cert_core as cc
from cert_models.files.outputs import scratch, sweep, sync

APPLICATION = 0x43455254  # "CERT"
SCHEMA_VERSION = 2  # 1 had no digests
TABLES = """
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
    seconds REAL NOT NULL, start INTEGER REFERENCES starts{digest},
    PRIMARY KEY (run, idx)
) WITHOUT ROWID;
CREATE TABLE logged (
    run INTEGER NOT NULL REFERENCES runs, idx INTEGER NOT NULL, label INTEGER NOT NULL,
    predict INTEGER NOT NULL, radius REAL NOT NULL, seconds REAL NOT NULL,
    extra TEXT NOT NULL{digest},
    PRIMARY KEY (run, idx)
) WITHOUT ROWID;
"""
TRIGGERS = "".join(
    f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
    "BEGIN SELECT RAISE(ABORT, 'a count store only grows'); END;\n"
    for table in ("runs", "starts", "counts", "logged")
    for verb in ("update", "delete")
)
UPGRADE = """
ALTER TABLE counts ADD COLUMN digest TEXT;
ALTER TABLE logged ADD COLUMN digest TEXT;
"""
LONGEST = 500  # bytes of a path that SQLite takes, with what it appends

MAGIC = b"SQLite format 3\x00"
WHOLE = (
    "a whole count store",
    "it is damaged: restore it from a copy (with the copy's own -wal or none: one that lies there "
    "would be written over the copy), or start a new one",
)


def schema(version: int) -> str:
    """What makes an empty store of this version."""
    digest = ", digest TEXT" if version > 1 else ""
    head = f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {version};"
    return head + TABLES.format(digest=digest) + TRIGGERS


def _declared(db: sqlite3.Connection) -> set[tuple[str, ...]]:
    """All that a store declares; what SQLite itself notes of tables is none of it."""
    query = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%'"
    return {(kind, name, " ".join((sql or "").split())) for kind, name, sql in db.execute(query)}


def _checksum(head: bytes) -> bytes:
    """SQLite's of the head of a log, in the byte order that its magic number names."""
    order: Literal["big", "little"] = "big" if head[3] & 1 else "little"
    words = [int.from_bytes(head[i : i + 4], order) for i in range(0, len(head), 4)]
    a = b = 0
    for x, y in zip(words[::2], words[1::2], strict=True):
        a = (a + x + b) % 2**32
        b = (b + y + a) % 2**32
    return a.to_bytes(4) + b.to_bytes(4)


@lru_cache
def _declares(version: int) -> set[tuple[str, ...]]:
    """All that a store of this version declares."""
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(schema(version))
        return _declared(db)


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


def identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another of the same name; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def check_held(path: Path, held: tuple[int, int] | None) -> None:
    """Refuse to go on where a name stands for another file than was held under it."""
    now = identity(path)
    if now != held:
        got = "it is gone" if now is None else "another is in its place"
        raise StoreError(
            f"store must be the file that was opened, got {str(path)!r} ({got}): bring it back "
            f"with its {path.name}-wal, if there is one, and start again"
        )


class StoreFile:
    """An open store; the parameters are CountStore's."""

    def __init__(self, path: str | Path, *, readonly: bool, timeout: float) -> None:
        if not isinstance(path, str | os.PathLike):
            raise refused("path", "the name of a file", path, "pass a text or a Path")
        self.path, self._readonly = Path(path), readonly
        with as_store_errors():
            cc.errors.flag("readonly", readonly)
            rule = "seconds up to a year"
            cc.errors.real("timeout", timeout, rule, lambda x: 0 <= x <= 3e7, remedy="e.g. 30")
        self._file = self._resolved()
        self._wal, self._shared = (Path(f"{self._file}{end}") for end in ("-wal", "-shm"))
        if readonly or self._file.exists():
            self._check_file()
            self._check_log()
            if not readonly:
                sweep(self._file.parent)
        else:
            self._create()
        self.held = identity(self._file)
        with self._clear():
            self._db = sqlite3.connect(
                self._address(), uri=True, timeout=timeout, isolation_level=None
            )
        try:
            with self._clear():
                self.version = self._checked_version()
                self._db.execute(f"PRAGMA query_only = {int(readonly)}")
            if self.version < SCHEMA_VERSION and not readonly:
                self._upgrade()
            self._own_wal = identity(self._wal)
            self.check_held()
        except BaseException:
            self._db.close()
            raise

    def _resolved(self) -> Path:
        """The file itself: no later change of the folder or of a link leads elsewhere."""
        try:
            file = self.path.resolve()
            name, whole = (len(os.fsencode(text)) for text in (file.name, str(file)))
            file.exists()
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise self._fail("a file's name", reason, "choose another") from error
        if whole > LONGEST or name > 240:
            rule = f"a path of at most {LONGEST} bytes and a name of at most 240"
            raise self._fail(rule, f"{whole} and {name} bytes", "choose a shorter one")
        return file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close()
        if kind is None:
            self.check_held()

    def close(self) -> None:
        """Close the file; what was written is all in it then, whoever else reads it still."""
        if not self._readonly:
            with contextlib.suppress(sqlite3.Error):  # it stays in the log beside the file
                self._db.execute("PRAGMA wal_checkpoint")
        self._db.close()
        # SQLite leaves the log of a file that is gone: beside another it would be replayed
        replaced = identity(self._file) not in (None, self.held)
        if replaced and self._own_wal and identity(self._wal) == self._own_wal:
            self._wal.rename(f"{self._wal}.replaced")

    def check_held(self) -> None:
        """Refuse to go on where the name stands for another file than was opened."""
        check_held(self._file, self.held)

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
                self.check_held()
                yield
                self._db.execute("COMMIT")
                self.check_held()
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _pending(self) -> bool:
        """Whether what was written last stands in the log beside the file."""
        return self._wal.exists() and self._wal.stat().st_size > 0

    def _check_file(self) -> None:
        """SQLite itself would read a page that was cut as if it ended in zeros."""
        if not self._file.is_file():
            raise self._fail("an existing file", "not a file", "check the name")
        if self._file.stat().st_size == 0:
            raise self._fail("a whole count store", "an empty file", "remove it to start anew")
        idle = not self._pending()  # else its last pages may be there
        try:
            with open(self._file, "rb") as file:
                head, size = file.read(100), os.fstat(file.fileno()).st_size
        except OSError as error:
            raise self._fail(
                "a file that can be read", str(error.strerror), "ask its owner"
            ) from error
        page, pages = int.from_bytes(head[16:18]), int.from_bytes(head[28:32])
        if idle and head.startswith(MAGIC) and size != page * pages:
            raise self._fail(WHOLE[0], f"{size} bytes instead of {page * pages}", WHOLE[1])

    def _index(self) -> tuple[bytes, int, int]:
        """The salts of the log that its index, which outlives a killed process, was made of, how
        many frames it had at least, and how many of them the file itself has."""
        found = self._shared.read_bytes()[:100] if self._shared.exists() else b""
        if len(found) < 100 or found[:48] != found[48:96]:  # none, or half written
            return b"", 0, 0
        frames, copied = (int.from_bytes(found[i : i + 4], sys.byteorder) for i in (16, 96))
        return found[32:40], frames, copied

    def _check_log(self) -> None:
        """SQLite itself would take a damaged frame of the log for its end, and no log for none.
        One transaction that it does not take, and the index does not know of, may be that which
        a power cut fell into; more are damage."""
        pending, (salts, frames, copied) = self._pending(), self._index()
        remedy = (
            f"restore {self._wal.name} and the file from a copy, or remove it and "
            f"{self._shared.name}: a run counts again what it held"
        )
        if frames > copied and not self._pending():
            raise self._fail(WHOLE[0], f"{self._wal.name} is gone", remedy)
        if not pending:
            return
        with self._clear(), contextlib.closing(
            sqlite3.connect(self._address("ro"), uri=True)
        ) as db:  # fmt: skip
            log = self._wal.read_bytes()
            db.execute("PRAGMA schema_version").fetchone()  # takes what is whole
        now, taken, _ = self._index()
        page = int.from_bytes(log[8:12]) + 24
        places = range(32, len(log) - page + 1, page)
        ends = [log[i + 8 : i + 16] == log[16:24] and any(log[i + 4 : i + 8]) for i in places]
        lost = now == log[16:24] and (sum(ends[taken:]) > 1 or (salts == now and frames > taken))
        if lost or (len(log) > 32 and _checksum(log[:24]) != log[24:32]):
            raise self._fail(WHOLE[0], f"damage in {self._wal.name}", remedy)

    def _create(self) -> None:
        """A new store appears under its name whole, or not at all."""
        if self._wal.exists():
            got = f"{self._wal.name} of a store that is gone"
            raise self._fail("new or whole", got, "bring the store back, or remove that file")
        try:
            with scratch(self._file.parent) as folder:
                new = folder / "new"
                with self._clear(), contextlib.closing(sqlite3.connect(new)) as db:
                    db.execute("PRAGMA synchronous = OFF")  # synced once, below
                    db.executescript(schema(SCHEMA_VERSION))
                    db.execute("PRAGMA journal_mode = WAL")
                sync(new)
                with contextlib.suppress(FileExistsError):  # another worker was faster
                    os.link(new, self._file)
                sync(self._file.parent)
        except OSError as error:
            rule = "in a folder that exists, can be written and has hard links"
            raise self._fail(rule, str(error.strerror), "choose another place") from error

    def _address(self, mode: str = "") -> str:
        """A reader leaves alone a log that somebody may still need, and opens an idle file for
        writing, where it may: so others that begin to write know of it."""
        address = self._file.as_uri()
        if mode:
            return f"{address}?mode={mode}"
        if not self._readonly:
            return address + "?mode=rw"
        if self._pending():
            return address + "?mode=ro"
        if all(os.access(place, os.W_OK) for place in (self._file, self._file.parent)):
            return address + "?mode=rw"
        return address + "?mode=ro&immutable=1"

    def _pragma(self, name: str) -> Any:
        return self._db.execute(f"PRAGMA {name}").fetchone()[0]

    def _checked_version(self) -> int:
        """The version of a file that is whole and declares what one of that version does."""
        if self._pragma("application_id") != APPLICATION:
            raise self._fail("a count store", "another SQLite file", "choose another")
        version = int(self._pragma("user_version"))
        if not 1 <= version <= SCHEMA_VERSION:
            remedy = "open it with the version of cert-core that wrote it, export its runs there"
            rule = f"of schema version 1 to {SCHEMA_VERSION}"
            raise self._fail(rule, f"version {version}", remedy)
        strange = _declared(self._db) ^ _declares(version)
        if strange:
            kind, name, _ = min(strange)
            raise self._fail("a store's own tables", f"another {kind} {name!r}", WHOLE[1])
        damage = self._pragma("quick_check")
        if damage != "ok":
            raise self._fail(WHOLE[0], damage.splitlines()[-1], WHOLE[1])
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.execute("PRAGMA synchronous = FULL")
        return version

    def _upgrade(self) -> None:
        """Make room for digests; rows without one are checked as they were."""
        with self.transaction():
            if self._pragma("user_version") < SCHEMA_VERSION:  # no other process did
                for statement in UPGRADE.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self.version = SCHEMA_VERSION
