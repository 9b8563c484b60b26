"""Stores, outputs and runs that something else touches: never less, and never silent."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, Said, cert, refused

import cert_core as cc
from cert_models.files.outputs import scratch, written
from cert_models.logs import Row
from cert_models.store import storage
from cert_models.store.counts import CountStore
from cert_models.store.readings import read_run
from cert_models.store.runs import FixedPlan, LogPlan, Run, Votes
from cert_models.store.storage import StoreError

RUN = Run(
    plan=FixedPlan(10, 200), noise=cc.Gaussian(4, 0.25), seed=0, batch_size=50, num_classes=3,
    model="net", model_fingerprint="m", data="data", data_fingerprint="d", attack="l2",
    alpha=0.001
)  # fmt: skip
LOGGED = dataclasses.replace(RUN, plan=LogPlan(10, 200, "l2", 0.001))
OPTIONS = [
    "--noise", "gaussian", "--sigma", "0.25", "--attack", "l2", "--n0", "10", "--n", "100",
    "--quiet", "--data", "t.npz",
]  # fmt: skip
NUMBER = itertools.count()


def votes(index: int) -> Votes:
    return Votes(
        index=index,
        label=index % 3,
        selection=np.array([1, 9, 0]),
        estimation=np.array([0, 190, 10]),
        seconds=0.1,
    )


def store(path: str = "s.db", inputs: Any = range(4), version: int | None = None) -> str:
    """A store of some inputs, and a log; of an earlier version if one is named."""
    if version:
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.executescript(storage.schema(version) + "PRAGMA journal_mode = WAL;")
        insert(path, inputs)
        return path
    with CountStore(path) as kept:
        kept.begin("a", RUN)
        kept.begin("l", LOGGED)
        for index in inputs:
            kept.add("a", votes(index))
        kept.add_logged("l", [Row(index=0, label=1, predict=1, radius=0.2, seconds=0.0)])
    return path


def insert(path: str, inputs: Any) -> None:
    """As the first version wrote them."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        values = ("a", "fixed", RUN.to_json(), "l2", 0.001)
        query = "INSERT INTO runs (name, kind, record, attack, alpha) VALUES (?, ?, ?, ?, ?)"
        db.execute(query, values)
        for index in inputs:
            row = (index, index % 3, '{"0": 1, "1": 9}', '{"1": 190, "2": 10}', None, 0.1, None)
            db.execute("INSERT INTO counts VALUES (1, ?, ?, ?, ?, ?, ?, ?)", row)
        db.commit()


def changed(statement: str, *values: Any) -> str:
    """A store in which somebody changed something, by whatever tool."""
    path = store()
    with contextlib.closing(sqlite3.connect(path)) as db:
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        triggers = db.execute(query).fetchall()
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        db.execute(statement, values)
        for _, sql in triggers:
            db.execute(sql)
        db.commit()
    return path


def row(column: str, value: Any) -> str:
    """A store with one value of input 2 set, as if it were of the first version."""
    return changed(f"UPDATE counts SET {column} = ?, digest = NULL WHERE idx = 2", value)


def merged(make: Callable[[], str]) -> Callable[[], Any]:
    """Merge the store into one with other inputs, which must stay as it was."""

    def act() -> Any:
        source, before = make(), store("to.db", [8, 9])
        try:
            with CountStore(before) as kept:
                return kept.merge(source)
        finally:
            assert said(before) == [told(votes(8)), told(votes(9))]

    return act


def told(one: Votes) -> tuple[Any, ...]:
    return one.index, one.label, one.selection.tolist(), one.estimation.tolist(), one.looks


def said(path: str) -> list[tuple[Any, ...]]:
    with CountStore(path, readonly=True) as kept:
        return [told(one) for one in kept.votes("a", FixedPlan)]


def read(make: Callable[[], str], name: str = "a") -> Callable[[], Any]:
    def act() -> Any:
        with CountStore(make(), readonly=True) as kept:
            return read_run(kept, name)

    return act


def view() -> str:
    path = store()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE counts RENAME TO held")
        db.execute("CREATE VIEW counts AS SELECT * FROM held")
    return path


def triggered() -> str:
    path = store()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TRIGGER t AFTER INSERT ON counts BEGIN SELECT RAISE(IGNORE); END")
    return path


BAD = {
    "counts that do not add up": ("estimation", '{"1": 190}', "sum to 200"),
    "a class that is none": ("estimation", '{"99": 200}', "class must be an integer in [0, 2]"),
    "a label of text": ("label", "cat", "label must be an integer"),
    "what is no JSON": ("selection", "{", "Expecting"),
    "JSON of another kind": ("selection", "[1, 9]", "record must be a JSON object"),
    "deep JSON": ("selection", "[" * 10**5, "recursion"),
    "a path of nothing": ("path", "3", "input 2"),
    "a path beside fixed n": ("path", "[3]", "looks must be absent"),
    "votes of half": ("selection", '{"0": 1.0, "1": 9}', "votes must be an integer"),
    "no time": ("seconds", "soon", "seconds must be"),
}
FOREIGN = [
    Case(
        f"{name}, {how}",
        act(lambda c=column, v=value: row(c, v)),
        refused(word, "input 2 of run 'a'", "s.db", error=StoreError),
    )
    for name, (column, value, word) in BAD.items()
    for how, act in (("merged", merged), ("read", read))
]


def record(key: str, value: Any) -> str:
    text = json.dumps(json.loads(RUN.to_json()) | {key: value})
    return changed("UPDATE runs SET record = ? WHERE name = 'a'", text)


OWN_TABLES = refused("s.db", "own tables", error=StoreError)
DAMAGE = [
    Case("a view in the place of a table", read(view), OWN_TABLES),
    Case("a trigger of somebody's", read(triggered), OWN_TABLES),
    Case("1e11 classes", read(lambda: record("num_classes", 10**11)),
         refused("num_classes", "s.db", error=StoreError)),
    Case("a deep record", read(lambda: changed("UPDATE runs SET record = ?", "[" * 10**5)),
         refused("recursion", "s.db", error=StoreError)),
    Case("another sigma in the record",
         read(lambda: record("noise", {"noise": "gaussian", "dim": 4, "sigma": 0.5})),
         refused("another digest", error=StoreError)),
    Case("another alpha", read(lambda: changed("UPDATE runs SET alpha = 0.4")),
         refused("another digest", error=StoreError)),
    Case("a radius of a log", read(lambda: changed("UPDATE logged SET radius = 0.3"), "l"),
         refused("another digest", "'l'", error=StoreError)),
    Case("a column of a log that is a list",
         read(lambda: changed("UPDATE logged SET extra = '[]', digest = NULL"), "l"),
         refused("JSON object", "input 0", error=StoreError)),
    Case("votes that moved to another class", read(lambda: changed(
        """UPDATE counts SET estimation = '{"1": 191, "2": 9}' WHERE idx = 2""")),
         refused("input 2 of run 'a'", "another digest", error=StoreError)),
]  # fmt: skip


def bits() -> bool:
    """Every bit of a stored count, one by one, makes another count or a refusal: a refusal."""
    path, text = Path(store(inputs=[1])), b'{"1": 190, "2": 10}'
    data = path.read_bytes()
    place = data.index(text)
    for bit in range(8 * len(text)):
        flipped = bytearray(data)
        flipped[place + bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with contextlib.suppress(StoreError), CountStore(path, readonly=True) as kept:
            list(kept.votes("a", FixedPlan))
            return False
    return True


def earlier() -> list[tuple[Any, ...]]:
    """A store of the first version, read by a reader, merged from, and gone on with."""
    old = store("old.db", range(2), version=1)
    assert len(said(old)) == 2
    with contextlib.closing(sqlite3.connect(old)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
    with CountStore("new.db") as kept:
        assert kept.merge(old) == 2
    assert said("new.db") == said(old)
    with CountStore(old) as kept:
        kept.add("a", votes(0))
        kept.add("a", votes(2))
        assert kept.version == 2
    return said(old)


def killed(path: str = "k.db") -> None:
    """A store as a killed process leaves it: what it wrote last is in the log beside it."""
    with CountStore(store("run.db", range(3))) as kept:
        for index in range(3, 30):
            kept.add("a", votes(index))
        for end in ("", "-wal"):
            shutil.copy(f"run.db{end}", f"{path}{end}")


def readers_change_nothing() -> bool:
    killed()
    before = [Path(name).read_bytes() for name in ("k.db", "k.db-wal")]
    assert len(said("k.db")) == 30
    assert cert("report", "k.db", "--run", "a").status == 0
    return before == [Path(name).read_bytes() for name in ("k.db", "k.db-wal")]


def lost_log(damage: Callable[[Path], object]) -> Callable[[], Any]:
    """What a killed run wrote last, all three files, and something done to its log."""

    def act() -> Any:
        with CountStore(store("run.db", range(3))) as kept:
            for index in range(3, 30):
                kept.add("a", votes(index))
            for end in ("", "-wal", "-shm"):
                shutil.copy(f"run.db{end}", f"k.db{end}")
        damage(Path("k.db-wal"))
        return said("k.db")

    return act


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def through_a_link() -> int:
    Path("far").mkdir()
    killed("far/k.db")
    Path("link.db").symlink_to("far/k.db")
    return len(said("link.db"))


def during(change: Callable[[], object]) -> Callable[[], Any]:
    """Something happens to the file while a run holds it."""

    def act() -> Any:
        with CountStore(store()) as kept:
            kept.add("a", votes(4))
            change()
            kept.add("a", votes(5))

    return act


def replaced() -> tuple[int, bool]:
    """Another store in its place is as it was, and no log of ours is beside it."""
    other = Path(store("other.db", [7]))
    before = other.read_bytes()
    with pytest.raises(StoreError, match="another is in its place"):
        during(lambda: other.replace("s.db"))()
    return len(said("s.db")), Path("s.db").read_bytes() == before


def at_the_end() -> None:
    with CountStore(store()) as kept:
        kept.add("a", votes(4))
        Path("s.db").unlink()


def moved_keeps() -> int:
    """What was counted is whole in the file that was moved."""
    with contextlib.suppress(StoreError):
        during(lambda: Path("s.db").rename("away.db"))()
    return len(said("away.db"))


HELD = [
    Case("every bit of a count", bits, True),
    Case("a store of the first version", lambda: len(earlier()), 3),
    Case("a reader beside a killed run's log", readers_change_nothing, True),
    Case("a killed run's log", lambda: len(lost_log(Path.stat)()), 30),
    Case("a killed run's log removed", lost_log(Path.unlink),
         refused("k.db-wal is gone", error=StoreError)),
    Case("a killed run's log cut", lost_log(cut_short), refused("k.db-wal", error=StoreError)),
    Case("through a symbolic link", through_a_link, 30),
    Case("removed during a run", during(lambda: Path("s.db").unlink()),
         refused("s.db", "it is gone", "s.db-wal", error=StoreError)),
    Case("moved during a run", moved_keeps, 5),
    Case("replaced during a run", replaced, (1, True)),
    Case("removed before the end", at_the_end, refused("it is gone", error=StoreError)),
    Case("a name too long", lambda: CountStore("a" * 250), refused("shorter", error=StoreError)),
    Case("a path too long", lambda: CountStore("/".join(["folder"] * 100)),
         refused("shorter", error=StoreError)),
    Case("a path too long, read", lambda: cert("report", "a" * 300), refused("too long")),
    Case("damage names the log beside", read(lambda: changed("UPDATE counts SET label = 7")),
         refused("-wal", error=StoreError)),
]  # fmt: skip

MODEL = """
import os, sys, shutil
calls = 0
def predict(batch):
    global calls
    calls += 1
    {line}
    return (batch.sum(axis=1) > 2).astype(int)
"""


def certify(line: str, *more: str, import_line: str = "") -> Said:
    """cert certify, of a model that does something at its calls."""
    name = f"hostile_runs_{next(NUMBER)}"
    x = np.random.default_rng(0).uniform(size=(8, 4)).astype(np.float32)
    np.savez("t.npz", x=x, y=np.arange(8) % 2)
    Path(f"{name}.py").write_text(import_line + MODEL.format(line=line), encoding="utf-8")
    return cert("certify", "--model", f"{name}:predict", *OPTIONS, *more)


def moves() -> tuple[Any, ...]:
    home = Path.cwd()
    Path("else").mkdir()
    try:
        line = "os.path.isdir('else') and os.chdir('else')"
        status = certify(line, "--store", "s.db", "--out", "s.tsv").status
    finally:
        os.chdir(home)
    return status, list(Path("else").iterdir()), Path("s.db").exists(), Path("s.tsv").exists()


def share() -> Said:
    """One process with the environment of one of four that a launcher started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANK", "1")
        patch.setenv("WORLD_SIZE", "4")
        return certify("", "--store", "s.db")


def traced() -> Said:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CERT_TRACEBACK", "1")
        return certify("if calls > 3: raise KeyError('k')")


def one_object(answer: Said) -> bool:
    return answer.status == 0 and json.loads(answer.out)["inputs"] == 8 and "hello" in answer.err


CERTIFY = [
    Case("a model that moves", moves, lambda got: got == (0, [], True, True)),
    Case("a model that removes the store",
         lambda: certify("calls == 6 and os.remove('s.db')", "--store", "s.db"),
         refused("it is gone", "s.db")),
    Case("a share without the others", share, refused("WORLD_SIZE must be 1", "--on processes:4")),
    Case("a model that ends the run", lambda: certify("if calls > 3: sys.exit(0)"),
         refused("exit(0)", "hostile_runs_", ".py:7")),
    Case("a model that ends it at once", lambda: certify("sys.exit(0)"),
         refused("exit(0)", "hostile_runs_", ".py:7")),
    Case("a model's own error", lambda: certify("if calls > 3: raise KeyError('k')"),
         refused("KeyError", "hostile_runs_", ".py:7")),
    Case("a model's own ValueError", lambda: certify("if calls > 3: raise ValueError('a\\nb')"),
         refused("ValueError: a b", "hostile_runs_", ".py:7")),
    Case("a model's error at the first trial", lambda: certify("raise OSError('gone')"),
         refused("OSError", "hostile_runs_", ".py:7")),
    Case("a model that stops an iteration", lambda: certify("if calls > 3: raise StopIteration"),
         refused("StopIteration")),
    Case("the traceback, if asked for", traced,
         lambda got: got.status == 2 and "Traceback" in got.err and "KeyError" in got.err),
    Case("one object, whatever the model prints",
         lambda: certify("print('hello')", "--json", import_line="print('hello')\n"), one_object),
    Case("a log in the place of the store",
         lambda: certify("", "--store", "s.db", "--out", "./s.db"), refused("--out", "--store")),
    Case("no end of inputs", lambda: certify("", "--indices", "0-99999999999"),
         refused("--indices", "below 8")),
    Case("rows without end", lambda: certify("", "--batch-size", "9" * 30), refused("nine digits")),
    Case("dimensions without end", lambda: cert("figures", "overlap", "--dims", "1" + "0" * 400),
         refused("--dims", "at most")),
]  # fmt: skip

LOG = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t1\t1\t0.12\t1\t0:00:01\n"
OTHER = "label\tidx\tpredict\tradius\tcorrect\ttime\n1\t0\t1\t0.12\t1\t0:00:01\n"


def out(content: str | bytes, name: str, *options: str) -> Callable[[], Any]:
    """Write to a file that holds something; it must be as it was unless the answer is 0."""

    def act() -> Any:
        data, path = content if isinstance(content, bytes) else content.encode(), Path(name)
        Path("log.tsv").write_text(LOG, encoding="utf-8")
        path.write_bytes(data)
        answer = cert("report", "log.tsv" if path.name != "own.tsv" else "own.tsv", *options)
        assert path.read_bytes() == data or not answer.status
        return answer

    return act


def full() -> bool:
    """A disk that fills up leaves the old page whole, and nothing beside it."""
    Path("page.html").write_text("old", encoding="utf-8")
    with pytest.raises(ValueError, match="No space left"):
        fills("page.html")
    return Path("page.html").read_text(encoding="utf-8") == "old" and names() == ["page.html"]


def fills(path: str) -> None:
    with written(path, over=True) as new:
        new.write_text("ha", encoding="utf-8")
        raise OSError(28, "No space left on device")


def names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def left_behind() -> list[str]:
    """Of folders of ours, that of a killed start goes; those held and of others stay."""
    for name in (".cert-abcdefg1/new", ".cert-abcdefg2/mine", ".cert-long-name/new", "x/new"):
        Path(name).parent.mkdir()
        Path(name).touch()
    with scratch(Path()) as held:
        store()
        assert held.exists()
    return names()


def trained() -> str:
    """A training whose file somebody else writes meanwhile does not write over it."""
    from cert_models.data.datasets import Dataset
    from cert_models.networks.train import Recipe, train_checkpoint

    data = Dataset("d", np.zeros((2, 1, 8, 8), np.float32), np.array([0, 1]), 2)
    recipe = Recipe(
        arch="digits",
        normalize="none",
        noise=cc.Gaussian(64, 0.1),
        num_classes=2,
        epochs=1,
        batch_size=2,
        learning_rate=1e-3,
        seed=0,
        augment=False,
    )
    with pytest.raises(ValueError, match="another training"):
        train_checkpoint(
            "n.pth", data, recipe, progress=lambda *_: Path("n.pth").write_text("theirs")
        )
    return Path("n.pth").read_text()


def demo() -> Any:
    Path("mine").mkdir()
    log = Path("mine/l2-gaussian.tsv")
    log.write_text(LOG, encoding="utf-8")
    try:
        return cert("demo", "--max", "1", "--n", "10", "--quiet", "--out", "mine")
    finally:
        assert log.read_text(encoding="utf-8") == LOG


OUTPUTS = [
    Case("the log that is read", out("\ufeff" + LOG, "own.tsv", "--out", "own.tsv"),
         refused("--out", "own.tsv")),
    Case("the log that is read, forced", out(OTHER, "own.tsv", "--out", "./own.tsv", "--force"),
         refused("--out", "own.tsv")),
    Case("a log with a byte order mark", out("\ufeff" + LOG, "b.tsv", "--out", "b.tsv"),
         refused("--out", "b.tsv", "--force")),
    Case("a program", out("print()", "a.py", "--out", "a.py"), refused("--force", "a.py")),
    Case("an array", out(b"\x93NUMPY", "a.npy", "--html", "a.npy"), refused("--force", "a.npy")),
    Case("a picture", out(b"\x89PNG", "a.png", "--picture", "a.png"), refused("--force", "a.png")),
    Case("a store, forced", out(b"SQLite format 3\0", "a.db", "--out", "a.db", "--force"),
         refused("must not be a store")),
    Case("in its place, forced", out("old", "a.md", "--out", "a.md", "--force"),
         lambda got: got.status == 0 and Path("a.md").read_text(encoding="utf-8") != "old"),
    Case("two at one path", out("", "a.md", "--out", "b", "--html", "./b"),
         refused("--html", "'b'")),
    Case("two pictures at one path", out("", "a.md", "--picture", "b.png", "--picture", "b.png"),
         refused("--picture", "b.png")),
    Case("a full disk", full, True),
    Case("what killed starts left", left_behind,
         lambda got: got == [".cert-abcdefg2", ".cert-long-name", "s.db", "x"]),
    Case("two trainings of one file", trained, lambda got: got == "theirs"),
    Case("a demo among logs", demo, refused("--out", "l2-gaussian.tsv", "--force")),
]  # fmt: skip

INTERRUPTED = """
import signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == "cert_core":
            for _ in range(int(sys.argv[1])):
                try:
                    signal.raise_signal(signal.SIGINT)
                except KeyboardInterrupt:
                    pass
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
from cert_models.cli import main
sys.exit(main())
"""
SHELL = [sys.executable, "-m", "cert_models.cli"]


def process(*command: str, **more: Any) -> tuple[int, str, str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **more)
    return done.returncode, done.stdout, done.stderr


def closed() -> bool:
    """With stderr closed, neither an error nor a bar goes anywhere else."""
    options = " ".join(OPTIONS).replace("--quiet", "")
    certify("")
    (model,) = Path().glob("hostile_runs_*.py")
    line = f"'{sys.executable}' -m cert_models.cli certify --model {model.stem}:predict"
    status, text, _ = process("sh", "-c", f"{line} {options} --json --store s.db 2>&-")
    assert status == 0
    wrong, nothing, _ = process("sh", "-c", f"{line} {options} --json --max 0 2>&-")
    return json.loads(text)["inputs"] == 8 and wrong == 2 and nothing == ""


def ascii_only() -> Any:
    Path("log.tsv").write_text(LOG, encoding="utf-8")
    shutil.copy("log.tsv", "é.tsv")
    status, text, err = process(
        *SHELL, "report", "é.tsv", "--at", "0.1", env=os.environ | {"PYTHONIOENCODING": "ascii"}
    )
    return status, "\\xe9" in text, err


MANNERS = [
    Case("an interrupt among the imports", lambda: process(sys.executable, "-c", INTERRUPTED, "0"),
         lambda got: got == (130, "", "cert: interrupted\n")),
    Case("two of them", lambda: process(sys.executable, "-c", INTERRUPTED, "2"),
         lambda got: got == (-signal.SIGINT, "", "")),
    Case("stderr closed", closed, True),
    Case("an output of few letters", ascii_only, lambda got: got == (0, True, "")),
]  # fmt: skip


@pytest.mark.parametrize("case", FOREIGN + DAMAGE + HELD + CERTIFY + OUTPUTS + MANNERS, ids=str)
def test_a_run_is_not_turned_against_its_user(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    case.check()
