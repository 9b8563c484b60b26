"""cert certify --shells: through the store, workers, reading, export, audit and proof."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, cert, refused

import cert_core as cc
from cert_models.logs import read_log
from cert_models.store.counts import CountStore
from cert_models.store.readings import read_run
from cert_models.store.runs import FixedPlan, Run, ShellPlan, Votes

MODEL = """
def classify(batch):
    rows = batch.reshape(len(batch), -1)
    return (rows.sum(axis=1) > 3).astype(int)
"""
TEXT = (
    "certify --data data.npz --model mine:classify --noise l2 --sigma 1 --k 4 --attack l2 --n0 30 "
    "--n 600 --quiet"
)
LINE = TEXT.split()
MIXED = TEXT.replace("--noise l2", "--noise mixed").replace("attack l2", "attack linf").split()
IMPORT = (
    "import e.tsv --store l.db --noise l2 --sigma 1 --k 4 --dim 6 --attack l2 --alpha 0.001 --n 600"
)
NOISE = cc.L2Noise(6, 1.0, 4.0)
EDGES = tuple(cc.shell_thresholds(NOISE).tolist())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MODEL)
    x = np.random.default_rng(1).uniform(0, 1, (6, 6)).astype(np.float32)
    np.savez("data.npz", x=x, y=(x.sum(axis=1) > 3).astype(int))


def certified(*words: str) -> Any:
    said = cert(*LINE, *words)
    assert said.status == 0, said.err
    return said


def told(path: str) -> list[Any]:
    return [(row.index, row.predict, row.radius) for row in read_log(path)]


def test_all_ways_to_the_same_radii() -> None:
    certified("--shells", "--out", "alone.tsv")
    certified("--bound", "shells", "--out", "named.tsv")
    certified("--shells", "--store", "part.db", "--max", "2")
    certified("--shells", "--store", "part.db", "--out", "resumed.tsv")
    certified("--shells", "--store", "many.db", "--out", "many.tsv", "--on", "processes:1")
    assert cert("export", "--store", "part.db", "--out", "exported.tsv").status == 0
    for name in ("named", "resumed", "many", "exported"):
        assert told(f"{name}.tsv") == told("alone.tsv"), name
    x = np.load("data.npz")["x"]
    smoothed = cc.Smoothed(lambda batch: (batch.sum(axis=1) > 3).astype(int), NOISE, 2)
    made = smoothed.certify_shells(x, 30, 600, 0.001, "l2", 0)
    assert [radius for _, _, radius in told("alone.tsv")] == made.radius.tolist()
    assert all(row.extra == {"bound": "shells"} for row in read_log("alone.tsv"))


def test_other_bounds_read_the_same_votes() -> None:
    certified("--shells", "--store", "s.db")
    certified("--store", "f.db", "--out", "fixed.tsv")
    said = cert("export", "--store", "s.db", "--out", "plain.tsv", "--bound", "clopper-pearson")
    assert said.status == 0
    assert told("plain.tsv") == told("fixed.tsv")
    with CountStore("s.db", readonly=True) as store:
        by_shell = read_run(store, "default")
        plain = read_run(store, "default", bound="clopper-pearson")
    assert (by_shell.radius != plain.radius).any()
    assert "bound shells" in cert("report", "s.db").out
    assert "bound shells" not in cert("report", "s.db", "--bound", "clopper-pearson").out
    assert cert("report", "f.db", "--bound", "shells").status == 2
    assert cert("report", "s.db", "--html", "page.html").status == 0
    assert "shells" in Path("page.html").read_text()
    audit = "audit --store s.db --data data.npz --model mine:classify --share 1 --quiet --seed 3"
    assert cert(*audit.split()).status == 0


def test_what_a_proof_is_of() -> None:
    pytest.importorskip("flint")
    certified("--shells", "--store", "s.db", "--out", "shells.tsv", "--indices", "0,1")
    said = cert("prove", "--store", "s.db", "--quiet")
    assert said.status == 0, said.err
    options = "--noise l2 --sigma 1 --k 4 --dim 6 --attack l2 --n 600 --alpha 0.001 --quiet"
    said = cert("prove", "--log", "shells.tsv", *options.split())
    assert said.status == 2
    assert "got those of the bound 'shells'" in said.err


CASES = [
    Case("other masses", lambda: cert(*LINE, "--store", "s.db", "--shells", "0.3"),
         "must be continued with its own parameters, got plan.thresholds"),
    Case("no shells", lambda: cert(*LINE, "--store", "s.db"), "plan.kind 'fixed' instead"),
    Case("mass 1", lambda: cert(*LINE, "--shells", "0.5,1"), "masses must be in (0, 1)"),
    Case("masses that fall", lambda: cert(*LINE, "--shells", "0.5,.2"), "masses must be a rising"),
    Case("no masses", lambda: cert(*LINE, "--shells", ""), "--shells"),
    Case("words", lambda: cert(*LINE, "--shells", "many"), "--shells"),
    Case("stopped", lambda: cert(*LINE, "--shells", "--at", "0.1"), "--shells must come without"),
    Case("few samples", lambda: cert(*LINE, "--shells", "--n", "11"), "n must be at least 13"),
    Case("mixed", lambda: cert(*MIXED, "--shells"), "noise must have level sets"),
    Case("imported", lambda: cert(*IMPORT.split()), "got those of the bound 'shells'"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_refused(case: Case) -> None:
    certified("--shells", "--store", "s.db", "--max", "1", "--out", "e.tsv")
    refused(case.right).check(case.act)


RUN = Run(
    plan=ShellPlan(5, 20, (1.0, 2.0)), noise=NOISE, seed=0, batch_size=10, num_classes=2,
    model="m", model_fingerprint="", data="d", data_fingerprint="", attack="l2", alpha=0.01,
)  # fmt: skip
GOOD = Votes(
    index=0, label=1, selection=np.array([1, 4]), estimation=np.array([8, 12]),
    shells=(6, 4, 2, 8, 6, 6),
)  # fmt: skip


@pytest.mark.parametrize(
    "shells",
    [
        None, (), (6, 4, 2), (6, 4, 3, 8, 6, 6), (6, 4, 2, 8, 6, 7), (9, 1, 2, 8, 6, 6),
        (6, 4, 2, 8, 6, 6, 0), (-1, 11, 2, 8, 6, 6),
    ],
)  # fmt: skip
def test_votes_that_the_plan_cannot_have_cast(shells: Any) -> None:
    RUN.plan.check(GOOD)
    bad = dataclasses.replace(GOOD, shells=shells)
    with pytest.raises(ValueError, match="shells must be"):
        RUN.plan.check(bad)
    with pytest.raises(ValueError, match="shells must be absent"):
        FixedPlan(5, 20).check(GOOD)
    with CountStore("t.db") as store:
        store.begin("r", RUN)
        with pytest.raises(ValueError, match="shells must be"):
            store.add("r", bad)
        store.add("r", GOOD)
        (kept,) = store.votes("r", ShellPlan)
        assert kept.shells == GOOD.shells
        assert store.runs()["r"].plan == RUN.plan


@pytest.mark.parametrize(
    "thresholds", [(), (0.0,), (2.0, 1.0), (1.0, 1.0), (float("nan"),), (float("inf"),), "1", None]
)
def test_plans_that_are_none(thresholds: Any) -> None:
    with pytest.raises(ValueError, match="thresholds must be"):
        ShellPlan(5, 20, thresholds)
