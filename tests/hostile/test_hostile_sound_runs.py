"""Runs in sound mode that are asked for wrongly, or read as what they are not."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, Said, cert, refused

import cert_core as cc
from cert_models.store.counts import CountStore, _digest
from cert_models.store.readings import read_run
from cert_models.store.runs import FixedPlan, Run, ScorePlan, SequentialPlan, ShellPlan, Votes
from cert_models.store.storage import StoreError

PIXEL = cc.Lattice("1/255")  # type: ignore[arg-type]
REAL = Run(
    plan=FixedPlan(10, 200), noise=cc.Gaussian(4, 0.25), seed=0, batch_size=50, num_classes=3,
    model="net", model_fingerprint="m", data="data", data_fingerprint="d", attack="l2",
    alpha=0.001
)  # fmt: skip
SOUND = dataclasses.replace(REAL, sound=PIXEL)
MOVED = dataclasses.replace(SOUND, quantized=True)
LOG = "idx\tlabel\tpredict\tradius\tcorrect\ttime\tsound\tfailed\n"
IMPORT = [
    "--noise", "gaussian", "--sigma", "0.25", "--dim", "4", "--attack", "l2", "--alpha", "0.001",
    "--n", "10000", "--store", "s.db",
]  # fmt: skip


TEN = np.array([0, 10, 0])


def votes(failed: int = 2, total: int = 200, **other: Any) -> Votes:
    counts = np.array([0, total - failed, 0])
    chosen = np.array([0, 9 if failed else 10, 0])  # one of the selection FAILed too
    given: dict[str, Any] = {"selection": chosen, "estimation": counts}
    return Votes(index=0, label=1, failed=failed, **given | other)


def store(run: Run, path: str = "s.db", name: str = "r") -> str:
    with CountStore(path) as made:
        made.begin(name, run)
        made.add(name, votes(0 if run.sound is None else 2))
    return path


def add(run: Run, given: Votes) -> None:
    with CountStore("s.db") as made:
        made.begin("r", run)
        made.add("r", given)


def begin(first: Run, second: Run) -> None:
    store(first)
    with CountStore("s.db") as made:
        made.begin("r", second)


def certify(*more: str, x: Any = None, family: str = "gaussian") -> Said:
    """Of inputs that are none but multiples of 1/16 unless they are given."""
    given = np.arange(12).reshape(3, 4).astype(np.float32) / 16 if x is None else x
    np.savez("t.npz", x=given, y=np.array([0, 1, 1]))
    Path("bright.py").write_text("def f(x): return (x.sum(1) > 1).astype(int)\n")
    noise = {"gaussian": ("--sigma", "0.25"), "ablation": ("--keep", "2")}[family]
    attack = "l2" if family == "gaussian" else "l0"
    return cert(
        "certify", "--noise", family, *noise, "--attack", attack, "--n", "100", "--quiet",
        "--data", "t.npz", "--model", "bright:f", *more,
    )  # fmt: skip


def stretched() -> Said:
    Path("scales.txt").write_text("1 2 3 4\n")
    return certify("--sound", "1/16", "--scales", "scales.txt")


def compared(first: Run, second: Run, *more: str) -> Said:
    store(first, name="one")
    store(second, name="two")
    return cert("compare", "--store", "s.db", "--attack", "l2", *more)


def logged(rows: str, *command: str) -> Said:
    Path("log.tsv").write_text(LOG + rows)
    return cert(*command[:1], "log.tsv", *command[1:])


def parts() -> Said:
    Path("one.tsv").write_text(LOG + "0\t1\t1\t0.1\t1\t0:00:01\t1/255\t0\n")
    Path("two.tsv").write_text(LOG + "1\t1\t1\t0.1\t1\t0:00:01\t1/255 quantized\t0\n")
    return cert("import", "one.tsv", "two.tsv", *IMPORT, "--run", "both")


def written(path: str) -> Said:
    """A row of sound mode whose FAILs somebody else wrote."""
    store(SOUND)
    with contextlib.closing(sqlite3.connect("s.db", isolation_level=None)) as db:
        about = db.execute("SELECT id, name, record, attack, alpha FROM runs").fetchone()
        row = db.execute("SELECT idx, label, selection, estimation, path, seconds FROM counts")
        told = (1, *row.fetchone()[1:4], path, 0.0)
        values = (about[0], *told, _digest("counts", about, told))
        db.execute(
            "INSERT INTO counts (run, idx, label, selection, estimation, path, seconds, digest) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )
    return cert("report", "s.db")


SEQUENTIAL = dataclasses.replace(
    SOUND,
    plan=SequentialPlan(
        cc.sequential.plan_at(cc.Gaussian(4, 0.25), "l2", [0.1], n_max=200, n0=10, alpha=0.001)
    ),
)
SCORES = dataclasses.replace(SOUND, plan=ScorePlan(10, 3))
UNIT = 65535


def scores(failed: int) -> Votes:
    one = np.array([0, 9 * UNIT, 0])
    return votes(
        failed, selection=one, estimation=np.array([0, 2 * UNIT, 0]), scores=(UNIT, 0, UNIT)
    )


CASES = [
    Case("a wrong step", lambda: certify("--sound"),
         refused("input 0 of t.npz: x[1] must be on the lattice of step 1/255, got 0.0625",
                 "--quantize")),
    Case("off at one place", lambda: certify(
        "--sound", x=np.array([[0, 1, 0, 0]] * 2 + [[0, 0, 1, 0.5]], dtype=np.float32)),
         refused("input 2 of t.npz: x[3] must be on the lattice", "got 0.5")),
    Case("bytes of another step", lambda: certify(
        "--sound", "1/256", x=np.zeros((3, 4), np.uint8)), refused("inputs must be floats")),
    Case("no step", lambda: certify("--sound", "small"), refused("--sound", "fraction", "'small'")),
    Case("a step of 0", lambda: certify("--sound", "0"), refused("--sound", "fraction")),
    Case("a step below 0", lambda: certify("--sound=-1/255"), refused("--sound", "fraction")),
    Case("1/0", lambda: certify("--sound", "1/0"), refused("--sound", "fraction")),
    Case("too small a step", lambda: certify("--sound", "1e-11"),
         refused("step must be large against the noise")),
    Case("quantised to nothing", lambda: certify("--quantize"),
         refused("--quantize must come with --sound")),
    Case("quantised at radii", lambda: certify("--sound", "--quantize", "--at", "0.1"),
         refused("--quantize must come without --at")),
    Case("a discrete noise", lambda: certify("--sound", family="ablation"),
         refused("noise must be added, unstretched", "Ablation")),
    Case("a stretched noise", stretched, refused("noise must be added, unstretched", "scales")),
    Case("of maps", lambda: certify("--sound", "--task", "segmentation", "--radius", "0.1"),
         refused("--sound must come without --task segmentation")),
    Case("a store of floats", lambda: begin(REAL, SOUND),
         refused("sound.step '1/255' instead of None", error=StoreError)),
    Case("a store of sound mode", lambda: begin(SOUND, REAL),
         refused("sound.step None instead of '1/255'", error=StoreError)),
    Case("another step", lambda: begin(SOUND, dataclasses.replace(SOUND, sound=cc.Lattice(1))),  # type: ignore[arg-type]
         refused("sound.step '1' instead of '1/255'", error=StoreError)),
    Case("quantised later", lambda: begin(SOUND, MOVED),
         refused("sound.quantized True instead of False", error=StoreError)),
    Case("a run that is quantised in floats", lambda: dataclasses.replace(REAL, quantized=True),
         refused("quantized must be False in float mode")),
    Case("a run of no lattice", lambda: dataclasses.replace(REAL, sound="1/255"),  # type: ignore[arg-type]
         refused("sound must be a Lattice")),
    Case("a run of ablation", lambda: dataclasses.replace(
        SOUND, noise=cc.channels.Ablation(4, 2), attack="l0"),
         refused("noise must be added", error=cc.errors.UnsupportedPair)),
    Case("a run by shells", lambda: dataclasses.replace(SOUND, plan=ShellPlan(10, 200, (0.5,))),
         refused("sound must be None where samples are told apart")),
    Case("shells on the command line", lambda: certify("--sound", "1/16", "--bound", "shells"),
         refused("sound must be None where samples are told apart")),
    Case("FAILs of floats", lambda: add(REAL, votes(2, selection=TEN)),
         refused("estimation must be votes that sum to 200", error=StoreError)),
    Case("FAILs beside whole sums", lambda: add(REAL, votes(2, total=202, selection=TEN)),
         refused("failed must be", error=StoreError)),
    Case("FAILs that are too few", lambda: add(SOUND, votes(1, total=200, estimation=np.array(
        [0, 198, 0]))), refused("estimation must be votes that sum to 200", error=StoreError)),
    Case("FAILs below 0", lambda: add(SOUND, votes(-1)),
         refused("failed must be", error=StoreError)),
    Case("FAILs that scored", lambda: add(SCORES, scores(2)),
         refused("failed must be at most the scores that are 0", error=StoreError)),
    Case("scores that may FAIL", lambda: add(SCORES, scores(1)), None),
    Case("a score of 0 that did not FAIL", lambda: add(SCORES, scores(0)), None),
    Case("more of the selection than drawn", lambda: add(SOUND, votes(selection=np.array(
        [0, 11, 0]))), refused("selection must be votes that sum to 10", error=StoreError)),
    Case("no FAILs kept", lambda: written("null"), refused("input 1 of run 'r'")),
    Case("FAILs of text", lambda: written('{"failed": "2", "steps": null}'),
         refused("failed must be")),
    Case("no steps", lambda: written('{"failed": 2}'), refused("input 1 of run 'r'")),
    Case("modes compared", lambda: compared(SOUND, REAL),
         refused("runs must be of one mode", "sound mode, step 1/255 in 'one', float mode in")),
    Case("costs compared", lambda: compared(SOUND, MOVED),
         refused("runs must be of one mode", "inputs quantised in 'two'")),
    Case("one mode compared", lambda: compared(MOVED, MOVED).status, 0),
    Case("a log of two modes", lambda: logged(
        "0\t1\t1\t0.1\t1\t0:00:01\t1/255\t0\n1\t1\t1\t0.1\t1\t0:00:01\t\t0\n", "report"),
         refused("log must be of one mode", "log.tsv")),
    Case("a log of no step", lambda: logged("0\t1\t1\t0.1\t1\t0:00:01\tyes\t0\n", "report"),
         refused("step must be a fraction", "'yes'", "log.tsv")),
    Case("a log not in lowest terms", lambda: logged(
        "0\t1\t1\t0.1\t1\t0:00:01\t2/510\t0\n", "import", *IMPORT),
         refused("sound must be a step in lowest terms")),
    Case("a log of half a FAIL", lambda: logged(
        "0\t1\t1\t0.1\t1\t0:00:01\t1/255\t0.5\n", "import", *IMPORT),
         refused("failed must be a whole number", "log.tsv")),
    Case("parts of two modes", parts, refused("logs of one run must be of one mode")),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile_sound_runs(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    case.check()


def read(run: Run, change: Callable[[Votes], Votes] = lambda each: each) -> cc.Certificates:
    with CountStore("s.db") as made:
        made.begin("r", run)
        made.add("r", change(votes(0 if run.sound is None else 2)))
        return read_run(made, "r").certified_by


def test_a_fail_is_no_vote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = read(SOUND)
    assert float(found.p_lower[0]) == float(cc.binomial_lower(198, 200, 0.001))
    assert found.sound == PIXEL


def test_old_stores_are_of_floats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store(REAL)
    with contextlib.closing(sqlite3.connect("s.db")) as db:
        record, path = db.execute("SELECT record, path FROM runs, counts").fetchone()
    assert "sound" not in record  # as it was written before there were two modes
    assert path is None
    with CountStore("s.db", readonly=True) as made:
        assert made.runs()["r"].mode == ""
        assert read_run(made, "r").certified_by.sound is None
