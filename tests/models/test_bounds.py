"""A bound is data: one that is registered goes through certify, store, report, export and audit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cert_core as cc
from cert_models.cli import main
from cert_models.logs import read_log
from cert_models.store.counts import CountStore
from cert_models.store.readings import read_run

MODEL = """
import numpy as np

def hard(batch):
    return (batch[:, 0] > 0.5).astype(int)

def soft(batch):
    p = np.clip(batch[:, 0], 0, 1)
    return np.stack([1 - p, p], axis=1)
"""
LINE = (
    "certify --data data.npz --model counted:hard --noise gaussian --sigma 0.3 --attack l2 "
    "--n0 20 --n 200 --alpha 0.01 --quiet"
)
PUBLISHED = "--noise gaussian --sigma 0.3 --dim 3 --attack l2 --alpha 0.01 --n 200"
HARD = LINE.split()
SOFT = [word.replace("hard", "soft") for word in HARD]


def cautious(votes: Any, n: Any, alpha: float) -> Any:
    """Below the exact bound: as good as nothing but for a test."""
    return 0.95 * cc.binomial_lower(votes, n, alpha)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counted.py").write_text(MODEL)
    x = np.linspace(0.02, 0.98, 8)[:, None] * np.ones(3)
    np.savez("data.npz", x=x.astype(np.float32), y=(x[:, 0] > 0.5).astype(int))


def run(*words: str) -> int:
    return main(list(words))


def test_a_new_bound_on_votes_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cc.BOUNDS, "cautious", cc.certificates.Bound(cautious))
    assert run(*HARD, "--bound", "cautious", "--out", "alone.tsv") == 0
    assert run(*HARD, "--bound", "cautious", "--store", "s.db", "--out", "kept.tsv") == 0
    assert run(*HARD, "--store", "s.db", "--out", "exact.tsv") == 0  # the same counts
    assert run("export", "--store", "s.db", "--bound", "cautious", "--out", "again.tsv") == 0
    logs = {name: read_log(f"{name}.tsv") for name in ("alone", "kept", "again", "exact")}
    radii = {name: [row.radius for row in rows] for name, rows in logs.items()}
    assert radii["alone"] == radii["kept"] == radii["again"]
    assert all(row.extra == {"bound": "cautious"} for row in logs["alone"] + logs["again"])
    assert all(row.extra == {} for row in logs["exact"])
    pairs = list(zip(radii["alone"], radii["exact"], strict=True))
    assert all(a <= b for a, b in pairs)
    assert any(0 < a < b for a, b in pairs)
    with CountStore("s.db", readonly=True) as store:
        read = read_run(store, "default", bound="cautious")
        exact = read_run(store, "default")
    assert [row.radius for row in read.rows()] == radii["again"]
    np.testing.assert_allclose(
        read.certified_by.p_lower, 0.95 * exact.certified_by.p_lower, rtol=1e-12
    )
    capsys.readouterr()
    assert run("report", "s.db", "--bound", "cautious", "--json") == 0
    told = json.loads(capsys.readouterr().out)["results"][0]
    assert told["average_radius"] == pytest.approx(read.average_radius(), rel=1e-12)
    assert run("report", "s.db", "--bound", "cautious") == 0
    assert "bound cautious" in capsys.readouterr().out
    assert run("report", "alone.tsv", "--bound", "cautious", "--json") == 0
    told = json.loads(capsys.readouterr().out)["results"][0]
    assert told["average_radius"] == pytest.approx(read.average_radius(), rel=1e-12)
    assert run("compare", "--attack", "l2", "--store", "s.db", "--bound", "cautious") == 0
    assert run("import", "alone.tsv", "--store", "l.db", *PUBLISHED.split()) == 0


def test_what_a_bound_reads_decides_what_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*SOFT, "--bound", "betting", "--store", "s.db", "--out", "a.tsv") == 0
    assert run(*SOFT, "--votes", "soft", "--out", "b.tsv") == 0
    assert [r.radius for r in read_log("a.tsv")] == [r.radius for r in read_log("b.tsv")]
    assert run(*HARD, "--bound", "runner-up", "--store", "r.db", "--out", "c.tsv") == 0
    assert run(*HARD, "--runner-up", "--out", "d.tsv") == 0
    assert [r.extra for r in read_log("c.tsv")] == [r.extra for r in read_log("d.tsv")]
    assert [r.radius for r in read_log("c.tsv")] == [r.radius for r in read_log("d.tsv")]
    capsys.readouterr()
    # what certify wrote with the runner-up is read so
    assert run("report", "r.db", "--bound", "runner-up", "--json") == 0
    told = json.loads(capsys.readouterr().out)["results"][0]
    assert run("report", "c.tsv", "--json") == 0
    written = json.loads(capsys.readouterr().out)["results"][0]
    assert told["average_radius"] == pytest.approx(written["average_radius"], rel=1e-12)


UNLIKE = [
    ([*HARD, "--bound", "lucky"], "invalid choice: 'lucky'"),
    ([*HARD, "--bound", "betting", "--runner-up"], "--bound must be one, got betting and runner"),
    ([*HARD, "--bound", "betting", "--votes", "hard"], "--votes must be left out"),
    ([*HARD, "--bound", "clopper-pearson", "--at", "0.1"], "--bound must come without --at"),
    ([*HARD, "--n", "5"], "n must be at least 7"),
    ([*HARD, "--n", "7", "--bound", "runner-up"], "n must be at least 8"),
    (["export", "--store", "f.db", "--bound", "betting", "--out", "x"], "clopper-pearson, runner"),
    (["report", "u.db", "--bound", "clopper-pearson"], "the plan 'sequential' (none)"),
    (["report", "f.tsv", "--bound", "runner-up"], "--bound must be that of a log"),
    (["compare", "--attack", "l2", "--dim", "3", "--bound", "betting"], "come with --store"),
]


def test_bounds_that_do_not_read_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*HARD, "--store", "f.db", "--out", "f.tsv") == 0
    assert run(*HARD, "--until", "0.5", "--store", "u.db") == 0
    for words, told in UNLIKE:
        capsys.readouterr()
        try:
            status = run(*words)
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        said = capsys.readouterr().err
        assert status == 2, words
        assert told in said, said


def test_bounds_of_the_core() -> None:
    counts = np.array([[90, 10], [55, 45]]), np.array([[900, 100], [560, 440]])
    noise = cc.Gaussian(4, 0.5)
    by_name = cc.certify(*counts, noise, "l2", bound="runner-up")
    by_verb = cc.certificates.certify_top_k(*counts, noise, "l2")
    np.testing.assert_array_equal(by_name.radius, by_verb.radius)
    assert by_name.bound == by_verb.bound == "runner-up"
    assert cc.certify(*counts, noise, "l2").bound == "clopper-pearson"
    for wrong in ("betting", "none", None):
        with pytest.raises(ValueError, match="bound must be one of 'clopper-pearson', 'runner-up'"):
            cc.certify(*counts, noise, "l2", bound=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bound must be one of 'betting'"):
        cc.certificates.certify_scores([0], np.ones((1, 50)), noise, "l2", n0=1, bound="runner-up")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"share": 1.5}, "share must be a number in"),
        ({"share": 0.0}, "share must be a number in"),
        ({"reads": "tea leaves"}, "reads must be one of 'votes', 'classes', 'shells', 'scores'"),
        ({"lower": None}, "lower must be"),
    ],
)
def test_bounds_that_are_none(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        cc.certificates.Bound(**{"lower": cautious, **fields})
