"""The long run under noises that add nothing: stores, workers, logs, reports, audits, proofs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Said, cert

import cert_core as cc
from cert_models.logs import read_log
from cert_models.store.counts import CountStore

MODEL = """
import numpy as np
def label(batch):
    return (batch.reshape(len(batch), -1).mean(axis=1) > 0.5).astype(int)
def scores(batch):
    share = np.clip(batch.reshape(len(batch), -1).mean(axis=1), 0, 1)
    return np.stack([1 - share, share], axis=1)
"""
FLIPS = ("--noise", "flips", "--categories", "2", "--keep", "0.9", "--attack", "l0")
BITS = (*FLIPS, "--data", "bits.npz", "--model", "chan:label", "--n", "2000", "--quiet")
SPLIT = (
    "--noise", "splitting", "--scale", "0.5", "--levels", "10", "--attack", "l1",
    "--data", "levels.npz", "--model", "chan:label", "--quiet",
)  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Black-and-white inputs of 16 pixels from dark to light, and others at 11 levels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "chan.py").write_text(MODEL)
    rng, shares = np.random.default_rng(0), np.linspace(0.1, 0.9, 12)[:, None, None]
    bits = (rng.random((12, 4, 4)) < shares).astype(np.uint8)
    np.savez("bits.npz", x=bits, y=np.arange(12) // 6)
    np.savez("floats.npz", x=bits.astype(np.float32), y=np.arange(12) // 6)
    np.savez("levels.npz", x=np.round(rng.random((6, 4, 4)) * 10) / 10, y=np.arange(6) // 3)
    return tmp_path


def ok(*arguments: str) -> Said:
    said = cert(*arguments)
    assert said.status == 0, said.err
    return said


def told(*arguments: str) -> Any:
    return json.loads(ok(*arguments, "--json").out)


def test_a_run_is_what_the_verbs_say() -> None:
    """Counted from Python, input by input: the same radii, whole numbers in every output."""
    found = told("certify", *BITS, "--store", "s.db", "--out", "log.tsv")
    assert found["radii"] == [0.0, 1.0, 2.0]
    with np.load("bits.npz") as file:
        x = file["x"].astype(np.int64)
    noise = cc.Flips(16, 2, 0.9)
    smoothed = cc.Smoothed(lambda b: (b.reshape(len(b), -1).mean(axis=1) > 0.5) * 1, noise, 2)
    direct = smoothed.certify(x, 100, 2000, 0.001, "l0", 0)
    rows = read_log("log.tsv")
    np.testing.assert_array_equal([row.radius for row in rows], direct.radius)
    np.testing.assert_array_equal([row.predict for row in rows], direct.label)
    table = ok("report", "s.db", "--html", "page.html", "--data", "bits.npz").out
    assert "Certified accuracy by l0 radius" in table
    assert table.splitlines()[2].split()[-3:] == ["0", "1", "2"]
    page = Path("page.html").read_text()
    assert "l0 radius, changed entries" in page
    assert ", l0 radius 2<" in page
    assert "radius 2.0" not in page


OTHERS: dict[str, tuple[str, ...]] = {
    "runner-up": ("--bound", "runner-up"), "at": ("--at", "1,2"), "until": ("--until", "0.3"),
    "soft": ("--bound", "betting", "--model", "chan:scores"),
}  # fmt: skip


@pytest.mark.parametrize("how", OTHERS)
def test_every_plan_and_bound_is_kept(how: str) -> None:
    first = told("certify", *BITS, *OTHERS[how], "--store", "s.db", "--max", "3")
    assert first["inputs"] == 3
    whole = told("certify", *BITS, *OTHERS[how], "--store", "s.db", "--out", "a.tsv")
    anew = told("certify", *BITS, *OTHERS[how], "--store", "t.db", "--out", "b.tsv")
    assert {**whole, "store": 0, "out": 0} == {**anew, "store": 0, "out": 0}
    radii = [row.radius for row in read_log("a.tsv")]
    assert radii == [row.radius for row in read_log("b.tsv")]
    assert radii == np.floor(radii).tolist()


@pytest.mark.parametrize(
    ("plan", "on"), [(BITS, "processes:2"), (SPLIT, "processes:1")], ids=["drawn", "all"]
)
def test_workers_merge_audit_and_logs(plan: tuple[str, ...], on: str) -> None:
    ok("certify", *plan, "--store", "one.db", "--out", "one.tsv")
    ok("certify", *plan, "--store", "two.db", "--on", on)
    ok("export", "--store", "two.db", "--out", "two.tsv")
    ok("merge", "two.db", "--store", "three.db")
    ok("export", "--store", "three.db", "--out", "three.tsv")
    logs = [read_log(f"{name}.tsv") for name in ("one", "two", "three")]
    for log in logs[1:]:
        assert [(r.predict, r.radius, r.extra) for r in log] == [
            (r.predict, r.radius, r.extra) for r in logs[0]
        ]
    data, model = (plan[plan.index(name) + 1] for name in ("--data", "--model"))
    audit = ("audit", "--store", "three.db", "--data", data, "--seed", "7", "--share", "0.5")
    assert told(*audit, "--model", model, "--quiet")["passed"]
    proved = told("prove", "--store", "three.db", "--quiet", "--workers", "1")
    assert proved["not_proved"] == 0 < proved["proved"]


def test_all_copies_have_alpha_0_everywhere() -> None:
    found = told("certify", *SPLIT, "--store", "s.db", "--out", "log.tsv")
    assert (found["alpha"], found["n"]) == (0.0, 10)
    assert "alpha 0: all 10 copies of each counted" in ok("certify", *SPLIT).out
    with CountStore("s.db", readonly=True) as store:
        (run,) = store.runs().values()
        assert (run.alpha, run.plan.to_dict()) == (0.0, {"kind": "all", "n": 10})
    assert [row.extra for row in read_log("log.tsv")] == [{"alpha": "0"}] * 6
    assert "all 10 copies counted, nothing estimated" in ok("report", "s.db").out
    risk = told("report", "s.db", "--rho", "0.001")["results"][0]
    assert risk["high_probability"] == risk["certified_accuracy"]
    stated = ("--noise", "splitting", "--dim", "16", "--scale", "0.5", "--levels", "10",
              "--attack", "l1", "--n", "10", "--n0", "0", "--alpha", "0")  # fmt: skip
    ok("import", "log.tsv", "--store", "t.db", *stated)
    ok("export", "--store", "t.db", "--out", "again.tsv")
    assert Path("again.tsv").read_text() == Path("log.tsv").read_text()
    assert "by whole counts of all copies: alpha 0" in ok("prove", "--store", "s.db").out


def test_an_imported_log_under_l0() -> None:
    ok("certify", *BITS, "--store", "s.db", "--out", "log.tsv")
    stated = (*FLIPS, "--dim", "16", "--n", "2000", "--alpha", "0.001")
    ok("import", "log.tsv", "--store", "t.db", *stated)
    first, second = (
        told("report", path)["results"][0]["certified_accuracy"] for path in ("s.db", "t.db")
    )
    assert first == second
    proved = told("prove", "--log", "log.tsv", *stated, "--quiet", "--workers", "1")
    assert (proved["proved"], proved["not_proved"]) == (2, 0)
    assert "exact: the noise's side is counted" in ok(
        "prove", "--store", "s.db", "--quiet", "--workers", "1"
    ).out  # fmt: skip


def test_what_the_model_sees_is_part_of_the_run() -> None:
    """Another null, or levels in the place of categories: another run, refused by name."""
    hidden = ("--noise", "ablation", "--keep", "6", "--attack", "l0", "--data", "floats.npz",
              "--model", "chan:label", "--n", "200", "--quiet", "--max", "2")  # fmt: skip
    ok("certify", *hidden, "--store", "s.db")
    said = cert("certify", *hidden, "--store", "s.db", "--null", "-2")
    assert said.status == 2
    assert "noise.null" in said.err
    ok("certify", *BITS, "--max", "2", "--store", "t.db")
    said = cert("certify", *BITS, "--max", "3", "--store", "t.db", "--data", "floats.npz")
    assert said.status == 2
    assert "data" in said.err
    np.savez("wide.npz", **{k: v.astype(np.int64) for k, v in np.load("bits.npz").items()})
    ok("certify", *BITS, "--max", "3", "--store", "t.db", "--data", "wide.npz")
