"""Long runs: killed at any moment, resumed, shared by workers, always the same counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cert_core as cc
from cert_models.cli import main
from cert_models.logs import read_log
from cert_models.store.counts import CountStore
from cert_models.store.fingerprints import data_fingerprint, model_fingerprint
from cert_models.store.runs import FixedPlan, SequentialPlan

INPUTS = 320
MODELS = """
import time
calls = 0

def predict(batch):
    global calls
    calls += 1
    return (batch.mean(axis=(1, 2)) > 0.5).astype(int) + (batch[:, 0, 0] > 0.9)

def slow(batch):
    time.sleep(0.003)
    return predict(batch)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set and models in a folder of one's own."""
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(INPUTS, 2, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=(x.mean(axis=(1, 2)) > 0.5).astype(int))
    (tmp_path / "longrun.py").write_text(MODELS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    sys.modules.pop("longrun", None)
    return tmp_path


def certify(model: str, store: str | None, *more: str) -> list[str]:
    command = [
        "certify", "--data", "data.npz", "--noise", "laplace", "--b", "0.03", "--attack", "l1",
        "--model", model, "--classes", "3", "--n0", "20", "--n", "300", *more,
    ]  # fmt: skip
    return command if store is None else [*command, "--store", store]


def content(path: str) -> list[tuple[Any, ...]]:
    """All that the store's only run says, but times."""
    with CountStore(path, readonly=True) as store:
        name = store.only()
        return [
            (v.index, v.label, v.selection.tolist(), v.estimation.tolist())
            for v in store.votes(name, FixedPlan)
        ]


def rows(path: str) -> list[tuple[Any, ...]]:
    """All that a log says, but times."""
    return [(r.index, r.label, r.predict, r.radius, r.correct) for r in read_log(path)]


KILLER = """
import os, random, signal, sys, time
from cert_models.cli import main
from cert_models.store.counts import CountStore
store, command = sys.argv[1], sys.argv[2:]
main([*command, "--store", "warm.db", "--max", "1"])  # what is forked is ready to count
rng, done = random.Random(0), [0]

def counted():
    if not os.path.exists(store):
        return 0
    with CountStore(store, readonly=True) as now:
        return sum(len(now.indices(name)) for name in now.runs())

for turn in range(10):
    child = os.fork()
    if child == 0:
        os._exit(main([*command, "--store", store]))
    time.sleep(rng.uniform(0.0, 0.35))
    while turn % 2 and counted() == done[-1] and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.01)  # however slow the machine
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "it was done too soon"
    done.append(counted())
print(done, file=sys.stderr)
sys.exit(main([*command, "--store", store]))
"""


def test_ten_kills_at_random_moments(folder: Path) -> None:
    command = certify("longrun:slow", None, "--quiet")
    killed = subprocess.run(
        [sys.executable, "-c", KILLER, "killed.db", *command],
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    assert killed.returncode == 0, killed.stderr
    done = json.loads(killed.stderr)
    assert done == sorted(done)  # nothing is lost
    assert len(set(done)) >= 6  # and the kills did fall in the middle
    assert done[-1] < INPUTS
    assert f"{INPUTS} inputs" in killed.stdout
    assert main(certify("longrun:predict", "whole.db", "--quiet")) == 0  # which votes alike
    assert content("killed.db") == content("whole.db")
    assert len(content("whole.db")) == INPUTS


@pytest.mark.parametrize("rule", [["--at", "0.02,0.01"], ["--until", "0.3"]], ids=["at", "until"])
def test_sequential_runs_are_kept_too(
    folder: Path, capsys: pytest.CaptureFixture[str], rule: list[str]
) -> None:
    """With and without a store, resumed: the same decisions."""
    options = ["--quiet", "--max", "16", "--n", "1000", *rule]
    assert main(certify("longrun:predict", None, "--out", "none.tsv", *options)) == 0
    text = capsys.readouterr().out
    assert "samples an input on average" in text
    assert float(text.split(" samples an input")[0].split("; ")[-1]) < 900
    main(certify("longrun:predict", "s.db", "--quiet", "--max", "7", *options[3:]))
    assert main(certify("longrun:predict", "s.db", "--out", "stored.tsv", *options)) == 0
    assert capsys.readouterr().out.splitlines()[-3].startswith("16 inputs")
    assert sorted(rows("none.tsv")) == rows("stored.tsv")
    with CountStore("s.db", readonly=True) as store:
        paths = [v.looks for v in store.votes("default", SequentialPlan)]
        assert len({len(path) for path in paths if path}) > 1
    capsys.readouterr()
    stored = certify("longrun:predict", "s.db", *options[:3])
    refused(capsys, [*stored, "--n", "1000"], "plan.kind 'fixed' instead of 'sequential'")
    refused(capsys, [*stored, "--n", "1000", *rule, "--alpha", "0.01"], "plan.alpha 0.01 instead")
    export = ["export", "--store", "s.db", "--out", "a.tsv"]
    refused(capsys, [*export, "--alpha", "0.01"], "alpha must be 0.001, that of the sequential run")
    assert main(export) == 0
    assert rows("a.tsv") == rows("stored.tsv")


def test_what_earlier_versions_workers_left_is_taken_in(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each had a file of its own beside the store, which dealt the inputs out by stride."""
    command = certify("longrun:predict", "s.db", "--quiet", "--max", "30")
    odd = ",".join(map(str, range(1, 30, 2)))
    main(certify("longrun:predict", "s.db.worker-1", "--quiet", "--indices", odd))
    left_store = content("s.db.worker-1")
    assert len(left_store) == 15
    import longrun  # type: ignore[import-not-found]

    before = longrun.calls
    main(command)
    # one is a trial on clean inputs, three give the first batch again
    assert longrun.calls - before == 4 + 2 * 15
    assert content("s.db")[1::2] == left_store
    main([*command, "--alpha", "0.01"])
    assert longrun.calls - before == 5 + 2 * 15  # another alpha needs no vote
    assert "alpha 0.01 an input" in capsys.readouterr().out


def refused(
    capsys: pytest.CaptureFixture[str], command: list[str], message: str, status: int = 2
) -> None:
    try:
        given = main(command)
    except SystemExit as stop:  # argparse
        given = int(stop.code or 0)
    captured = capsys.readouterr()
    assert given == status
    assert message in captured.err
    assert len([line for line in captured.err.splitlines() if "error:" in line]) == 1
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_another_model_data_or_option_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = certify("longrun:predict", "s.db", "--quiet", "--max", "4")
    assert main(command) == 0
    before = Path("s.db").read_bytes()
    capsys.readouterr()
    for more, difference in (
        (["--n", "400"], "plan.n 400 instead of 300"),
        (["--seed", "1"], "seed 1 instead of 0"),
        (["--b", "0.1"], "noise.b 0.1 instead of 0.03"),
        (["--batch-size", "7"], "batch_size 7 instead of 1000"),
        (["--model", "longrun:slow"], "model 'longrun:slow' instead of 'longrun:predict'"),
        (["--classes", "4"], "num_classes 4 instead of 3"),
    ):
        refused(capsys, [*command, *more], difference)
    Path("longrun.py").write_text(MODELS + "# changed", encoding="utf-8")
    refused(capsys, command, "model_fingerprint ")
    Path("longrun.py").write_text(MODELS, encoding="utf-8")
    with np.load("data.npz") as archive:
        np.savez("data.npz", x=archive["x"] * np.float32(0.5), y=archive["y"])
    refused(capsys, command, "data_fingerprint ")
    assert Path("s.db").read_bytes() == before
    assert main([*command, "--run", "another"]) == 0  # a run of its own in the same file
    with CountStore("s.db") as store:
        assert list(store.runs()) == ["default", "another"]


def test_wrong_usage_of_stores_and_workers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = certify("longrun:predict", None, "--quiet", "--max", "4")
    refused(capsys, [*command, "--run", "a"], "--store must be given")
    refused(capsys, [*command, "--store", "data.npz"], "store must be a count store")
    refused(capsys, [*command, "--store", "no/s.db"], "store must be in a folder that exists")
    Path("there.tsv").write_text("kept", encoding="utf-8")
    refused(capsys, [*command, "--store", "s.db", "--out", "there.tsv"], "File exists")
    refused(capsys, [*command, "--store", "s.db", "--out", "no/a.tsv"], "No such file")
    assert content_or_none("s.db") is None
    refused(capsys, certify("longrun:wrong", "s.db"), "model must be an importable module:name")
    for more, message in (
        (["--at", "none"], "--at must be numbers with commas between, got 'none'"),
        (["--at", "0.5,-1"], "radii must be"),
        (["--at", "9"], "radii must be small enough for n_max = 300"),
        (["--until", "2"], "width must be a number in (0, 1)"),
        (["--until", "0.1", "--at", "0.5"], "not allowed with argument"),
    ):
        refused(capsys, [*command, *more], message)
    monkeypatch.setenv("WORLD_SIZE", "2")
    stored = [*command, "--store", "s.db"]
    refused(capsys, stored, "WORLD_SIZE must be 1, got '2': start the command once, without")
    monkeypatch.delenv("WORLD_SIZE")
    for on, message in (
        ("threads", "--on must be processes:N, ray[:ADDRESS] or dask:ADDRESS, got 'threads'"),
        ("processes:0", "--on must be processes:N, got 'processes:0'"),
        ("processes", "--on must be processes:N, got 'processes:'"),
    ):
        refused(capsys, [*stored, "--on", on], message)
    assert Path("there.tsv").read_text(encoding="utf-8") == "kept"


def content_or_none(path: str) -> list[str] | None:
    with CountStore(path, readonly=True) as store:
        return list(store.runs()) or None


def test_an_error_of_the_model_leaves_the_run_open(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No run is begun before there is a count: a repaired model starts it."""
    Path("repaired.py").write_text("def f(batch):\n    return 0\n", encoding="utf-8")
    command = certify("repaired:f", "s.db", "--quiet", "--max", "4")
    refused(capsys, command, "predict(batch) must be an integer label")
    text = "import numpy\ndef f(batch):\n    return numpy.zeros(len(batch), int)\n"
    Path("repaired.py").write_text(text, encoding="utf-8")
    sys.modules.pop("repaired")
    os.utime("repaired.py", (1, 1))
    assert main(command) == 0
    assert len(content("s.db")) == 4


def test_json_lines_of_progress(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cert_models.commands.progress.PAUSE", 0.0)
    main(certify("longrun:predict", "s.db", "--quiet", "--max", "3"))
    assert capsys.readouterr().err == ""
    main(certify("longrun:predict", "s.db", "--progress", "json", "--max", "8", "--json"))
    captured = capsys.readouterr()
    lines = [json.loads(line) for line in captured.err.splitlines()]
    assert [line["done"] for line in lines] == [3, 4, 5, 6, 7, 8]
    assert {line["total"] for line in lines} == {8}
    assert lines[0]["seconds_left"] is None
    for line in lines[1:]:
        left = (8 - line["done"]) / line["images_per_second"]
        assert line["seconds_left"] == pytest.approx(left)
    values = json.loads(captured.out)
    assert lines[-1]["certified_accuracy"] == values["certified_accuracy"][0]
    assert values["store"] == "s.db"


def test_the_bar(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(certify("longrun:predict", None, "--max", "8"))
    err = capsys.readouterr().err
    assert "8/8" in err
    assert "images/s" in err
    assert "certified right" in err


def test_memory_does_not_grow_with_n(folder: Path) -> None:
    import longrun

    from cert_models.data.datasets import load
    from cert_models.run import Run, sampler_of

    data, peaks = load("data.npz"), []
    for n in (1_000, 1_000, 50_000):
        plan = FixedPlan(10, n)
        run = Run(
            plan=plan,
            noise=cc.Gaussian(6, 0.1),
            seed=0,
            batch_size=500,
            num_classes=3,
            model="m",
            model_fingerprint="",
            data="d",
            data_fingerprint="",
            attack="l2",
            alpha=0.001,
        )
        sample = sampler_of(longrun.predict, run, data, device=None)
        tracemalloc.start()
        assert sum(int(v.estimation.sum()) for v in sample(range(3))) == 3 * n
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 200_000  # bytes; 49,000 more rows would be 1,176,000


def test_fingerprints_tell_models_and_data_apart(folder: Path) -> None:
    import torch
    from torch import nn

    from cert_models.data.datasets import Dataset
    from cert_models.data.formats import lazy_pixels

    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Softplus(beta=2.0))

    def fingerprint(net: nn.Module) -> str:
        return model_fingerprint(net, "any")

    same, weights, buffers, shape = network(), network(), network(), network()
    assert fingerprint(network()) == fingerprint(same)
    with torch.no_grad():
        next(weights.parameters())[0, 0, 0, 0] += 1e-6
    buffers[1].running_mean[0] += 1e-6  # type: ignore[index, union-attr]
    shape[2] = nn.Softplus(beta=3.0)  # type: ignore[index]
    half = network().half()
    assert len({fingerprint(n) for n in (same, weights, buffers, shape, half)}) == 5

    pixels = np.random.default_rng(0).integers(0, 256, size=(600, 1, 2, 2), dtype=np.uint8)
    y = np.zeros(600, dtype=np.int64)

    def lazy(values: Any, labels: Any = y) -> str:
        return data_fingerprint(Dataset("d", lazy_pixels(values), labels, 2))

    changed, labels = pixels.copy(), y.copy()
    changed[599] += 1
    labels[3] = 1
    assert lazy(pixels) == lazy(pixels.copy())
    assert (
        len({lazy(pixels), lazy(changed), lazy(pixels, labels), lazy(pixels[:599], y[:599])}) == 4
    )
    x = pixels.astype(np.float32) / 255
    held = {data_fingerprint(Dataset("d", v, y, 2)) for v in (x, x + 0.0, x * np.float32(0.9))}
    assert len(held) == 2
    middle = x.copy()
    middle[301, 0, 1, 1] *= 0.5
    assert data_fingerprint(Dataset("d", middle, y, 2)) not in held
