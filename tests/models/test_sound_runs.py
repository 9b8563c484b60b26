"""Runs in sound mode: their counts, what is kept of them, and what every report says."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Said, cert

import cert_core as cc
from cert_core import kernels
from cert_models.data.datasets import load
from cert_models.engines import joined
from cert_models.logs import lattice_of
from cert_models.run import certified_right
from cert_models.store.counts import CountStore
from cert_models.store.readings import read_run, result_of
from cert_models.store.runs import FixedPlan, LogPlan, Run, ScorePlan, SequentialPlan

PIXEL = cc.Lattice("1/255")  # type: ignore[arg-type]
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 1, 2, 2)).astype(np.uint8)
LABELS = (IMAGES.reshape(6, -1).sum(1) > 510).astype(np.int64)
OPTIONS = [
    "certify", "--noise", "gaussian", "--sigma", "0.2", "--attack", "l2", "--n", "1000", "--quiet",
]  # fmt: skip
MODEL = """
import numpy as np
def labels(x): return (x.reshape(len(x), -1).sum(1) > 2).astype(int)
def scores(x):
    p = 1 / (1 + np.exp(-3.0 * (x.reshape(len(x), -1).sum(1) - 2.0)))
    return np.stack([1 - p, p], 1)
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("sound_brightness.py").write_text(MODEL)
    np.savez("bytes.npz", x=IMAGES, y=LABELS)
    np.savez("floats.npz", x=(IMAGES / 255).astype(np.float32), y=LABELS)
    np.savez("off.npz", x=(IMAGES / 255).astype(np.float32) + np.float32(1e-3), y=LABELS)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[int]], None]:
    """Let some samples of every input and stage FAIL, by their numbers."""
    module = kernels.backend("cpu").module
    real = module.draw_lattice

    def fail_these(samples: set[int]) -> None:
        def draw(noise: Any, n: int, *place: Any, start: int = 0, **options: Any) -> Any:
            whole, failed = real(noise, n, *place, start=start, **options)
            for i in range(n):
                failed[i] |= start + i in samples
            return whole, failed

        monkeypatch.setattr(module, "draw_lattice", draw)

    return fail_these


def certify(*more: str, data: str = "bytes.npz", model: str = "labels") -> Said:
    said = cert(*OPTIONS, "--data", data, "--model", f"sound_brightness:{model}", *more)
    assert said.status == 0, said.err
    return said


def columns(path: str, *names: str) -> list[tuple[str, ...]]:
    """Columns of a log by name."""
    head, *rows = (line.split("\t") for line in Path(path).read_text().splitlines())
    return [tuple(row[head.index(name)] for name in names) for row in rows]


def test_bytes_are_the_integers_they_are() -> None:
    certify("--sound", "--out", "bytes.tsv")
    certify("--sound", "--out", "floats.tsv", data="floats.npz")
    certify("--out", "real.tsv", data="floats.npz")
    told = "predict", "radius", "sound"
    assert columns("bytes.tsv", *told) == columns("floats.tsv", *told)
    assert {row[2] for row in columns("bytes.tsv", *told)} == {"1/255"}
    assert columns("bytes.tsv", *told[:2]) != columns("real.tsv", *told[:2])
    direct = cc.Smoothed(
        lambda x: (x.reshape(len(x), -1).sum(1) > 2).astype(int), cc.Gaussian(4, 0.2), 2,
        sound=PIXEL,
    ).certify(IMAGES, 100, 1000, 0.001, "l2", 0)  # fmt: skip
    assert [float(r) for (r,) in columns("bytes.tsv", "radius")] == direct.radius.tolist()


PAGE = Path(__file__).parents[2] / "docs" / "guides" / "sound.md"


def test_the_page_is_true() -> None:
    """Its commands run, on a few copies and a model that needs no training."""
    commands = [line for line in PAGE.read_text().splitlines() if line.startswith("cert ")]
    assert len(commands) == 4
    Path("net.py").write_text(MODEL)
    np.savez("images.npz", x=IMAGES, y=LABELS)
    for command in commands:
        words = shlex.split(command.replace("digits-cnn", "net:labels"))[1:]
        words += ["--max", "2", "--n", "100", "--quiet"] if words[0] == "certify" else []
        said = cert(*words)
        assert said.status == 0, said.err
    assert "Sound mode" in Path("page.html").read_text()


LOST = {3, 4, 70, 150, 999}
PLANS = {
    "fixed": ([], "labels"),
    "runner-up": (["--bound", "runner-up"], "labels"),
    "scores": (["--bound", "betting"], "scores"),
    "at": (["--at", "0.05,0.1"], "labels"),
    "until": (["--until", "0.1"], "labels"),
}


@pytest.mark.parametrize("plan", PLANS)
def test_fails_are_kept_and_count_against_the_class(
    plan: str, failing: Callable[[set[int]], None]
) -> None:
    options, model = PLANS[plan]
    failing(LOST)
    values = json.loads(
        certify(*options, "--sound", "--store", "s.db", "--out", "s.tsv", "--json", model=model).out
    )
    certify(*options, "--sound", "--out", "alone.tsv", model=model)
    told = "predict", "radius", "sound", "failed"
    rows = sorted(columns("s.tsv", "idx", *told))
    assert rows == sorted(columns("alone.tsv", "idx", *told))  # with a store or without one
    with CountStore("s.db", readonly=True) as store:
        run = store.runs()["default"]
        votes = list(store.votes("default", type(run.plan)))
        read = read_run(store, "default").certified_by
    assert (run.sound, run.mode) == (PIXEL, "1/255")
    assert [int(failed) for *_, failed in rows] == [each.failed for each in votes]
    assert all(each.failed >= 2 for each in votes)
    assert values["failed"] == sum(each.failed for each in votes)
    assert values["sound"] == "1/255"
    assert 0 < values["failure_bound"] < 1e-6
    assert (read.sound, read.failed.tolist()) == (PIXEL, [v.failed for v in votes])  # type: ignore[union-attr]
    for each in votes:
        right = certified_right(each, run)
        said = result_of([each], run, attack="l2", alpha=0.001)
        assert right == bool(said.predict[0] == each.label)
    if isinstance(run.plan, FixedPlan):
        assert all(int(each.estimation.sum()) + each.failed == 1000 for each in votes)
        own = cc.BOUNDS["clopper-pearson"].lower
        if plan == "fixed":  # out of all 1000, the FAILs among them
            low = [own(int(v.estimation[v.selected]), 1000, 0.001) for v in votes]
            assert read.p_lower.tolist() == [float(p) for p in low]
    if isinstance(run.plan, ScorePlan):
        assert all((each.scores or ()).count(0) >= each.failed for each in votes)
    if isinstance(run.plan, SequentialPlan):
        assert isinstance(read, cc.sequential.SequentialCertificates)
        taken = [100 + int(v.estimation.sum()) + v.failed for v in votes]
        assert read.samples.tolist() == taken


def test_a_run_goes_on_in_its_own_mode_alone(failing: Callable[[set[int]], None]) -> None:
    failing({2, 800})
    certify("--sound", "--store", "whole.db")
    certify("--sound", "--store", "part.db", "--indices", "4,1")
    certify("--sound", "--store", "part.db", "--batch-size", "1000")
    certify("--sound", "--store", "rest.db", "--indices", "0,2,3,5")
    said = cert("merge", "rest.db", "part.db", "--store", "merged.db")
    assert said.status == 0, said.err
    with CountStore("whole.db", readonly=True) as whole:
        expected = list(whole.votes("default", FixedPlan))
    for path in ("part.db", "merged.db"):
        with CountStore(path, readonly=True) as store:
            found = list(store.votes("default", FixedPlan))
        for mine, other in zip(found, expected, strict=True):
            assert (mine.index, mine.failed) == (other.index, 2)
            assert other.failed == 2
            np.testing.assert_array_equal(mine.estimation, other.estimation)
    audit = [
        "audit", "--data", "bytes.npz", "--model", "sound_brightness:labels", "--share", "1",
        "--quiet",
    ]  # fmt: skip
    assert cert(*audit, "--store", "merged.db").status == 0
    failing({2, 3, 801})
    said = cert(*audit, "--store", "merged.db")
    assert said.status == 1
    assert "WRONG" in said.out


@pytest.mark.parametrize("attack", ["l1", "l2", "linf"])
def test_quantised_inputs_cost_radius(attack: str) -> None:
    data = load("off.npz")
    certify("--sound", "--quantize", "--store", "s.db", data="off.npz")
    moved = PIXEL.quantised(data.x)
    np.savez("moved.npz", x=moved, y=LABELS)
    certify("--sound", "--store", "on.db", data="moved.npz")
    with CountStore("s.db", readonly=True) as store, CountStore("on.db", readonly=True) as on:
        assert store.runs()["default"].mode == "1/255 quantized"
        paid = read_run(store, "default", attack=attack)
        free = read_run(on, "default", attack=attack).certified_by
    cost = PIXEL.cost(attack, 4, perturbed_off=True)
    assert cost == paid.cost > 0
    np.testing.assert_allclose(paid.radius, np.maximum(free.radius - cost, 0), rtol=0, atol=1e-12)
    assert (paid.radius <= np.maximum(free.radius - cost, 0)).all()
    np.testing.assert_array_equal(paid.predict, np.where(paid.radius > 0, free.label, cc.ABSTAIN))
    assert "inputs quantised, perturbed inputs too: 0.00785 taken off" in cert("report", "s.db").out


def test_what_is_certified_at_once_pays_too() -> None:
    certify("--sound", "--quantize", "--store", "s.db", data="off.npz")
    certify("--sound", "--store", "on.db")
    radius = 0.1
    told = cert("report", "s.db", "--jointly", str(radius), "--json")
    higher = radius + PIXEL.cost("l2", 4) + 1e-12
    other = cert("report", "on.db", "--jointly", repr(higher), "--json")
    paid, free = (
        json.loads(said.out)["results"][0]["jointly"]["certified"] for said in (told, other)
    )
    assert paid == free


def test_logs_keep_the_mode() -> None:
    certify("--sound", "--quantize", "--store", "s.db", data="off.npz")
    assert cert("export", "--store", "s.db", "--out", "s.tsv").status == 0
    given = ["--noise", "gaussian", "--sigma", "0.2", "--dim", "4", "--attack", "l2"]
    given += ["--alpha", "0.001", "--n", "1000", "--store", "log.db", "--run", "kept"]
    said = cert("import", "s.tsv", *given)
    assert said.status == 0, said.err
    with CountStore("log.db", readonly=True) as store, CountStore("s.db", readonly=True) as own:
        run = store.runs()["kept"]
        assert isinstance(run.plan, LogPlan)
        assert run.mode == "1/255 quantized"
        log, counts = read_run(store, "kept"), read_run(own, "default")
        np.testing.assert_array_equal(log.radius, counts.radius)  # the cost is off already
        other = read_run(store, "kept", attack="linf").radius
        assert (other <= read_run(own, "default", attack="linf").radius).all()
    assert cert("export", "--store", "log.db", "--out", "again.tsv").status == 0
    told = "idx", "predict", "radius", "sound", "failed"
    assert columns("again.tsv", *told) == columns("s.tsv", *told)


def test_reports_tell_the_mode(failing: Callable[[set[int]], None]) -> None:
    failing({5})
    certify("--sound", "--store", "s.db", "--run", "whole")
    certify("--store", "s.db", "--run", "real", data="floats.npz")
    certify("--sound", "--out", "whole.tsv")
    said = cert("report", "s.db", "whole.tsv", "--html", "page.html", "--format", "csv")
    head, *rows = said.out.splitlines()
    assert head.startswith("run,inputs,sound,FAILs,alpha")
    assert [row.split(",")[2:4] for row in rows[:3]] == [["1/255", "6"], ["no", ""], ["1/255", "6"]]
    page = Path("page.html").read_text()
    for word in ("Sound mode", "random bits", "err by no more", "deterministic", "beside it",
                 "the seed", "Float mode", "step 1/255, 6 copies FAILed"):  # fmt: skip
        assert word in page
    values = json.loads(cert("report", "s.db", "--json").out)["results"]
    assert [value.get("sound") for value in values] == ["1/255", None]
    assert values[0]["failed"] == 6
    certify("--store", "real.db", data="floats.npz")
    said = cert("report", "real.db", "--html", "real.html")
    assert "sound" not in said.out.lower()
    assert "Float mode" in Path("real.html").read_text()


def test_mode_is_in_the_record() -> None:
    run = Run(
        plan=FixedPlan(10, 200), noise=cc.Gaussian(4, 0.25), seed=0, batch_size=50, num_classes=3,
        model="net", model_fingerprint="m", data="data", data_fingerprint="d", attack="l2",
        alpha=0.001, sound=PIXEL, quantized=True,
    )  # fmt: skip
    assert Run.from_json(run.to_json(), "l2", 0.001) == run
    assert lattice_of(run.mode) == (PIXEL, True)
    kept = run.to_json().replace(', "sound": {"quantized": true, "step": "1/255"}', "")
    real = Run.from_json(kept, "l2", 0.001)
    assert (real.sound, real.mode) == (None, "")
    assert "sound" not in real.to_json()
    assert [each.split()[0] for each in real.differences(run)] == ["sound.quantized", "sound.step"]


def test_counted_in_processes_as_here() -> None:
    """An input in stretches, on two workers: the same votes and FAILs."""
    given = "--sound", "1/65536", "--quantize", "--max", "2", "--n", "4000"
    certify(*given, "--store", "here.db", data="off.npz")
    certify(*given, "--store", "there.db", "--on", "processes:2", data="off.npz")
    found = []
    for path in ("here.db", "there.db"):
        with CountStore(path, readonly=True) as store:
            votes = list(store.votes("default", FixedPlan))
        found.append([(v.index, v.failed, v.estimation.tolist()) for v in votes])
    assert found[0] == found[1]
    parts = [
        cc.votes.Votes(index=0, selection=np.zeros(2), estimation=np.array([9, 0]), failed=k)
        for k in (1, 2)
    ]
    assert joined(parts).failed == 3
