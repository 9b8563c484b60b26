"""`cert tune`: candidates judged and winners certified by the command, in a store that goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Said, cert
from matplotlib.figure import Figure

import cert_core as cc
from cert_models import run as long_run
from cert_models.reports import frontier
from cert_models.store.counts import CountStore

pytestmark = pytest.mark.filterwarnings("ignore:inputs of")
CODE = """
import numpy as np

def band(batch):
    return (np.abs(batch[:, 0]) < 1).astype(int)

def linear(num_classes=10):
    import torch
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, num_classes))
"""
TUNE = [
    "tune", "--data", "data.npz", "--model", "tuned:band", "--noises", "gaussian,l2:0.5",
    "--rms", "0.1,0.4,2", "--attack", "l2", "--at", "0.1,0.3", "--average", "--budget", "60000",
    "--n0", "20", "--n", "300", "--quiet",
]  # fmt: skip
SMALL = [
    *TUNE, "--noises", "gaussian", "--rms", "0.1,0.4", "--max", "24", "--n", "100", "--budget",
    "3500",
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set and a model in a folder of one's own."""
    x = np.random.default_rng(3).uniform(-2, 2, size=(80, 2)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=(np.abs(x[:, 0]) < 1).astype(int))
    (tmp_path / "tuned.py").write_text(CODE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("tuned", None)
    return tmp_path


def told(*arguments: str) -> dict[str, Any]:
    """What the command says as JSON, but for the files that it names."""
    said = cert(*arguments, "--json")
    assert said.status == 0, said.err
    values = json.loads(said.out)
    return {k: v for k, v in values.items() if k not in ("store", "out", "picture")}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], list[Any]]:
    """All that is counted from now on, by run and input; after so many Ctrl-C is pressed."""
    found: list[Any] = []
    whole, left = long_run.count_stretch, [-1]

    def spy(made: Any, stretch: Any) -> Iterator[Any]:
        for votes in whole(made, stretch):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            found.append((made[1].noise, made[1].plan.kind, votes.index))
            yield votes

    monkeypatch.setattr(long_run, "count_stretch", spy)

    def begin(stop: int | None = None) -> list[Any]:
        left[0] = -1 if stop is None else stop
        return found

    return begin


def test_what_it_says_and_writes() -> None:
    said = cert(*TUNE, "--store", "s.db", "--out", "t.tsv", "--picture", "f.svg")
    assert said.status == 0, said.err
    for text in (
        "data.npz: 6 candidates, chosen by", "certified afresh on 40 others", "l2 radius 0.1 ",
        "average l2 radius", "rivals", "of 60000 in", "40 inputs to choose by, 40 to certify, none "
        "in both", "stream (0, i)", "counts kept in s.db", "frontier drawn in f.svg",
    ):  # fmt: skip
        assert text in said.out
    values = told(*TUNE)
    assert values["passes"] <= 60000
    assert not set(values["tuning"]) & set(values["fresh"])
    assert len(values["tuning"]) == len(values["fresh"]) == 40
    header, *rows = (x.split("\t") for x in Path("t.tsv").read_text("utf-8").splitlines())
    assert len(rows) == 3 * 6
    table = [dict(zip(header, row, strict=True)) for row in rows]
    won = [row for row in table if row["winner"] == "1"]
    for row, best in zip(won, values["best"], strict=True):
        assert row["candidate"] == best["winner"]
        assert float(row["fresh"]) == best["fresh"]
        assert best["lower"] <= best["fresh"] <= best["upper"]
        assert str(best["objective"]) == row["objective"]
        assert row["fresh_inputs"] == "40"
        assert {r["candidate"] for r in table if r["told_worse"] == "0" and r["winner"] == "0"
                and r["objective"] == row["objective"]} == set(best["rivals"])  # fmt: skip
        assert cc.noise_from_dict(json.loads(row["noise"])).dim == 2
    assert [best["winner"] for best in values["best"]][:2] == [
        "gaussian rms=0.1", "gaussian rms=0.4"
    ]  # fmt: skip
    picture = Path("f.svg").read_text("utf-8")
    assert picture.startswith("<?xml")


def test_the_fresh_numbers_are_those_of_cert_certify() -> None:
    values = told(*TUNE, "--store", "s.db")
    places = ",".join(map(str, values["fresh"]))
    said = cert(
        "certify", "--data", "data.npz", "--model", "tuned:band", "--noise", "gaussian",
        "--sigma", "0.1", "--attack", "l2", "--n0", "20", "--n", "300", "--indices", places,
        "--quiet", "--store", "own.db",
    )  # fmt: skip
    assert said.status == 0
    report = json.loads(cert("report", "own.db", "--at", "0.1", "--json").out)
    assert report["results"][0]["certified_accuracy"] == [values["best"][0]["fresh"]]
    names = ["--run", "fresh gaussian rms=0.1"]
    again = json.loads(cert("report", "s.db", *names, "--at", "0.1", "--json").out)
    assert again["results"][0]["certified_accuracy"] == [values["best"][0]["fresh"]]


@pytest.mark.parametrize("stop", [0, 1, 17, 40])
def test_interrupted_it_goes_on_to_the_same_end(
    stop: int, counted: Callable[[int | None], list[Any]]
) -> None:
    """Nothing is counted twice, and nothing else is said."""
    undisturbed = told(*SMALL)
    found = counted(stop)
    found.clear()
    said = cert(*SMALL, "--store", "s.db")
    assert said.status == 130
    assert "counted is kept in s.db; the same command goes on from there" in said.err
    assert len(found) == stop
    counted(None)
    assert told(*SMALL, "--store", "s.db") == undisturbed
    assert len(set(found)) == len(found)
    once = len(found)
    assert told(*SMALL, "--store", "s.db") == undisturbed
    assert len(found) == once
    said = cert(*SMALL, "--store", "s.db", "--progress", "json")
    assert said.status == 0


def test_a_larger_budget_goes_on_from_what_is_there(
    counted: Callable[[int | None], list[Any]],
) -> None:
    more = [*SMALL, "--budget", "6000"]
    undisturbed = told(*more)
    found = counted(None)
    found.clear()
    told(*SMALL, "--store", "s.db")
    assert told(*more, "--store", "s.db") == undisturbed
    assert len(set(found)) == len(found)


def test_the_parts_are_recorded_and_stay_apart() -> None:
    parts = ["--tuning", "0-11", "--fresh", "12-23"]
    told(*SMALL, *parts, "--store", "s.db")
    with CountStore("s.db", readonly=True) as store:
        for name in store.runs():
            (start,) = store.starts(name)
            assert start["part"] == name.split()[0]
            assert start["inputs"] == 12
            inputs = set(store.indices(name))
            assert inputs <= set(range(12) if start["part"] == "tuning" else range(12, 24))
    swapped = cert(*SMALL, "--tuning", "12-23", "--fresh", "0-11", "--store", "s.db", "--run", "b")
    assert swapped.status == 2
    assert "part must be those of run" in swapped.err
    assert "pass the same parts, or another store" in swapped.err
    told(*SMALL, *parts, "--store", "s.db", "--run", "b", "--seed", "1")


def test_progress_is_of_passes() -> None:
    arguments = [x for x in TUNE if x != "--quiet"]
    said = cert(*arguments, "--progress", "json")
    first = json.loads(said.err.splitlines()[0])
    assert (first["progress"], first["done"], first["total"]) == ("tune", 0, 60000)
    assert "passes_per_second" in first
    assert '"progress": "certify gaussian rms=0.1"' in said.err


def test_entries_have_no_level() -> None:
    x = np.random.default_rng(0).integers(0, 2, size=(40, 8))
    np.savez("bits.npz", x=x, y=(x.sum(axis=1) > 4).astype(int))
    Path("bits.py").write_text(
        "def most(x):\n    return (x.sum(axis=1) > 4).astype(int)\n", "utf-8"
    )
    values = told(
        "tune", "--data", "bits.npz", "--model", "bits:most", "--noises",
        "flips:2:0.8,flips:2:0.95,flips:2:0.99", "--attack", "l0", "--at", "1", "--average",
        "--budget", "30000", "--n", "200", "--alpha", "0.01", "--quiet",
    )  # fmt: skip
    assert values["radii"] == [float(int(r)) for r in values["radii"]]
    assert len(values["candidates"]) == 3


def train(*more: str) -> Said:
    return cert(
        "tune", "--data", "digits", "--train", "tuned:linear", "--epochs", "5",
        "--learning-rate", "0.02", "--noises", "gaussian", "--rms", "0.2,2", "--attack",
        "l2", "--at", "0.1", "--budget", "20000", "--n", "200", "--n-max", "100", "--max", "60",
        "--store", "digits.db", "--quiet", *more,
    )  # fmt: skip


def test_digits_trained_tuned_and_reported() -> None:
    """End to end: networks are trained once, kept beside the store, and used again."""
    said = train("--out", "t.tsv", "--picture", "f.png", "--json")
    assert said.status == 0, said.err
    values = json.loads(said.out)
    (best,) = values["best"]
    assert best["winner"] == "gaussian rms=0.2"
    assert best["fresh"] > 0.5
    networks = sorted(Path("digits.db.models").iterdir())
    assert [path.name for path in networks] == ["gaussian-rms=0.2.pth", "gaussian-rms=2.pth"]
    before = [path.stat().st_mtime_ns for path in networks]
    again = train("--json")
    assert {**json.loads(again.out), "out": "t.tsv", "picture": "f.png"} == values
    assert [path.stat().st_mtime_ns for path in networks] == before
    other = train("--epochs", "3")
    assert other.status == 2
    assert "epochs must be 5, as in the run to resume, got 3" in other.err
    assert f"fresh {best['winner']}" in cert("report", "digits.db").out


def drawn(radius: Any, tested: list[float]) -> tuple[float, float]:
    return frontier._point(np.asarray(radius), np.asarray(tested))


def test_a_point_of_the_trade_is_by_the_steps_tested() -> None:
    assert drawn([0.0, 0.1, 0.25, 0.3, 5.0], [0.1, 0.3]) == (0.8, pytest.approx(0.16))


def test_the_frontier_has_a_curve_of_every_candidate_and_winner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures: list[Figure] = []
    whole = Figure.savefig

    def spy(self: Figure, *arguments: Any, **how: Any) -> Any:
        figures.append(self)
        return whole(self, *arguments, **how)

    monkeypatch.setattr(Figure, "savefig", spy)
    values = told(*TUNE, "--picture", "f.png")
    curves, trade = figures[0].axes
    winners = list(dict.fromkeys(best["winner"] for best in values["best"]))
    assert len(curves.lines) == 6 + len(winners)
    faint = curves.lines[:6]
    for line, candidate in zip(faint, values["candidates"], strict=True):
        assert line.get_alpha() == frontier.FAINT
        x, y = line.get_xdata(), line.get_ydata()
        np.testing.assert_allclose(x, values["radii"])
        assert y[list(x).index(0.1)] == candidate["estimates"][0]
    bold = {line.get_label(): line for line in curves.lines[6:]}
    for best in values["best"][:2]:
        x, y = bold[f"{best['winner']}, afresh"].get_data()
        assert y[np.searchsorted(x, best["objective"])] == pytest.approx(best["fresh"])
    assert len(trade.lines) == len(curves.lines)


@pytest.mark.slow
def test_workers_count_the_same() -> None:
    assert told(*TUNE, "--on", "processes:2") == told(*TUNE)
