"""The command `cert`, as a user types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import cert_core as cc
from cert_models.cli import main

NUMBERS = ["--noise", "l2", "--dim", "3072", "--sigma", "1", "--k", "3060", "--attack", "l2"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        status = main(arguments)
    except SystemExit as stop:  # argparse
        status = int(stop.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_radius(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "radius", *NUMBERS, "--p", "0.99")
    assert status == 0
    assert "certified l2 radius  0.1369923257" in out
    assert "2.191877" in out
    status, out, _ = run(capsys, "radius", *NUMBERS, "--p", "0.99", "--json")
    values = json.loads(out)
    exact = cc.certified_radius(0.99, cc.L2Noise(3072, 1.0, 3060.0), "l2")
    assert values["radius"] == exact
    assert values["tight"] is True


def test_radius_that_is_not_tight_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(
        capsys, "radius", "--noise", "laplace", "--dim", "9", "--b", "1", "--attack", "l2",
        "--p", "0.9",
    )  # fmt: skip
    assert status == 0
    assert "sound but not tight: by inclusion in the l1 ball" in out


@pytest.mark.parametrize("method", ["exact", "hoeffding", "dkw", "clopper-pearson"])
def test_bound(capsys: pytest.CaptureFixture[str], method: str) -> None:
    status, out, _ = run(
        capsys, "bound", "--noise", "laplace", "--dim", "5", "--b", "1", "--attack", "l1",
        "--p", "0.9", "--radius", "0.5", "--method", method, "--json",
    )  # fmt: skip
    values = json.loads(out)
    exact = cc.lower_bound(0.9, cc.Laplace(5, 1.0), "l1", 0.5)
    assert status == 0
    assert exact - 0.05 <= values["lower"] <= exact
    assert values["certified"] is True
    assert values.get("alpha", 0.001) == 0.001


def test_bound_prints_the_safe_side(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(
        capsys, "bound", "--noise", "laplace", "--dim", "5", "--b", "1", "--attack", "l1",
        "--p", "0.9", "--radius", "0.5",
    )  # fmt: skip
    lower, needed = (float(line.split()[-1]) for line in out.splitlines()[:2])
    noise = cc.Laplace(5, 1.0)
    assert lower <= cc.lower_bound(0.9, noise, "l1", 0.5)
    assert needed >= cc.required_probability(noise, "l1", 0.5)


def test_verify_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "verify", "--dims", "1,5,100", "--n", "20000")
    assert status == 0
    assert out.splitlines()[-1].endswith("0 disagree (Monte Carlo with n = 20000)")


def test_verify_notices_a_wrong_law(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With half the radius handed to the exact law, verify must fail."""
    from cert_models.commands import numbers

    true = cc.required_probability

    class Slip:
        def __getattr__(self, name: str) -> object:
            if name == "required_probability":
                return lambda noise, attack, r: true(noise, attack, 0.5 * r)
            return getattr(cc, name)

    monkeypatch.setattr(numbers, "cc", Slip())
    status, out, _ = run(capsys, "verify", "--dims", "5", "--n", "20000")
    assert status == 1
    assert "DISAGREES" in out


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set and a model of one's own in a folder of one's own."""
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(12, 2, 3)).astype(np.float32)
    y = (x.mean(axis=(1, 2)) > 0.5).astype(int)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    (tmp_path / "mymodel.py").write_text(
        "def predict(batch):\n    return (batch.mean(axis=(1, 2)) > 0.5).astype(int)\n"
        "def wrong(batch):\n    return batch.sum()\n"
        "number = 3\n"
        "from sklearn.dummy import DummyClassifier\nestimator = DummyClassifier()\n",
        encoding="utf-8",
    )
    (tmp_path / "mytorch.py").write_text(
        "import torch\n"
        "net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 2)).eval()\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


CERTIFY = [
    "certify", "--data", "data.npz", "--noise", "gaussian", "--sigma", "0.1", "--attack", "l2",
    "--n", "400", "--quiet",
]  # fmt: skip


@pytest.mark.parametrize("model", ["mymodel:predict", "mytorch:net"])
def test_certify(capsys: pytest.CaptureFixture[str], data: Path, model: str) -> None:
    status, out, _ = run(capsys, *CERTIFY, "--model", model, "--out", "log.tsv")
    assert status == 0
    assert "12 inputs" in out
    lines = (data / "log.tsv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 13
    index, label, predict, radius, correct, _ = zip(
        *(x.split("\t") for x in lines[1:]), strict=True
    )
    assert list(map(int, index)) == list(range(12))
    assert all((p == la) == (c == "1") for p, la, c in zip(predict, label, correct, strict=True))
    assert all((float(r) > 0) == (p != "-1") for r, p in zip(radius, predict, strict=True))


def test_certify_is_reproducible_and_subsets_agree(
    capsys: pytest.CaptureFixture[str], data: Path
) -> None:
    for name, options in (("all", []), ("again", ["--batch-size", "7"]), ("some", ["--skip", "3"])):
        run(capsys, *CERTIFY, "--model", "mymodel:predict", "--out", f"{name}.tsv", *options)

    def rows(name: str) -> list[list[str]]:
        lines = (data / f"{name}.tsv").read_text(encoding="utf-8").splitlines()[1:]
        return [line.split("\t")[:5] for line in lines]

    assert rows("all") == rows("again")
    assert rows("some") == rows("all")[::3]


def test_an_interrupted_run_keeps_what_was_done(data: Path) -> None:
    (data / "slow.py").write_text(
        "import time\ndef predict(batch):\n    time.sleep(0.4)\n    return batch[:, 0, 0] > 0.5\n"
        "def labels(batch):\n    return predict(batch).astype(int)\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "cert_models.cli", *CERTIFY, "--model", "slow:labels"]
    process = subprocess.Popen(
        [*command, "--out", "log.tsv"], stderr=subprocess.PIPE, text=True, cwd=data, env=os.environ
    )
    log = data / "log.tsv"
    for _ in range(600):
        if log.exists() and len(log.read_text(encoding="utf-8").splitlines()) >= 3:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "interrupted" in err
    lines = log.read_text(encoding="utf-8").splitlines()
    assert 3 <= len(lines) < 13
    assert all(len(line.split("\t")) == 6 for line in lines)


WRONG = [
    (["radius", *NUMBERS, "--p", "1.2"], "p must be in [0, 1], got 1.2"),
    (["radius", *NUMBERS, "--p", "nan"], "p must be in [0, 1], got nan"),
    (["radius", *NUMBERS[:6], "--attack", "l2", "--p", "0.9", "--dim", "0"], "dim must be"),
    (["radius", *NUMBERS, "--p", "0.9", "--k", "3072"], "k must be a number with 0 <= k < dim"),
    (["radius", *NUMBERS, "--p", "0.9", "--b", "1"], "--b must not be given for --noise l2"),
    (
        ["radius", "--noise", "l1", "--dim", "3", "--attack", "l1", "--p", "0.9"],
        "--b must be given",
    ),
    (["radius", *NUMBERS[:-1], "l7", "--p", "0.9"], "invalid choice: 'l7'"),
    (["radius", "--noise", "cauchy", "--dim", "3", "--attack", "l1", "--p", "1"], "invalid choice"),
    (["bound", *NUMBERS, "--p", "0.9", "--radius", "-1"], "radius must be finite and >= 0"),
    (["bound", *NUMBERS, "--p", "0.9", "--radius", "1", "--method", "guess"], "invalid choice"),
    (["verify", "--dims", "two"], "--dims must be whole numbers with commas"),
    ([*CERTIFY, "--model", "mymodel:nothing"], "model must be an importable module:name"),
    ([*CERTIFY, "--model", "nowhere:predict"], "model must be an importable module:name"),
    ([*CERTIFY, "--model", "mymodel.py"], "from its folder pass mymodel:NAME"),
    ([*CERTIFY, "--model", "resnet"], "model must be digits-cnn or module:function"),
    ([*CERTIFY, "--model", "mymodel:number"], "model must be a torch module or a function"),
    ([*CERTIFY, "--model", "mymodel:estimator"], "name its method, mymodel:estimator.predict"),
    ([*CERTIFY, "--model", "mymodel:wrong"], "predict(batch) must be an integer label"),
    ([*CERTIFY, "--model", "mymodel:predict", "--n", "5"], "n must be at least 10 for alpha"),
    ([*CERTIFY, "--model", "mymodel:predict", "--dim", "5"], "--dim must be 6"),
    ([*CERTIFY, "--model", "mymodel:predict", "--skip", "0"], "--skip and --max must be at least"),
    ([*CERTIFY, "--model", "mymodel:predict", "--data", "other.npz"], "data must be an .npz file"),
    ([*CERTIFY, "--model", "mymodel:predict", "--out", "data.npz"], "out must be a file that does"),
    ([*CERTIFY, "--model", "mymodel:predict", "--seed", "-1"], "seed must be an integer in"),
    ([*CERTIFY, "--model", "mymodel:predict", "--out", "no/such/log"], "No such file"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[m[:34] for _, m in WRONG])
def test_wrong_usage(
    capsys: pytest.CaptureFixture[str], data: Path, arguments: list[str], message: str
) -> None:
    before = (data / "data.npz").read_bytes()
    status, out, err = run(capsys, *arguments)
    assert status == 2
    assert message in err
    assert out == ""
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if "error:" in line]) == 1
    assert (data / "data.npz").read_bytes() == before


def test_warning_is_one_line(data: Path) -> None:
    np.savez("raw.npz", x=np.full((2, 2, 3), 200.0), y=np.array([0, 1]))
    arguments = [*CERTIFY, "--model", "mymodel:predict"]
    arguments[2] = "raw.npz"
    command = [sys.executable, "-m", "cert_models.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=data, check=True)
    assert done.stderr.startswith("cert: warning: inputs of raw.npz lie in [200, 200], not [0, 1]")
    assert len(done.stderr.splitlines()) == 1


def test_demo(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    status, out, _ = run(capsys, "demo", "--max", "12", "--n", "500", "--quiet", "--out", "here")
    assert status == 0
    for text in ("l2 radius", "l1 radius", "linf radius", "L1Noise, k=16", "wrote here/"):
        assert text in out
    files = {path.name for path in (tmp_path / "here").iterdir()}
    assert "certified-accuracy.png" in files
    assert {"l2-gaussian.tsv", "l2-gaussian-sound.tsv", "linf-gaussian.tsv"} <= files
    (sound,) = (line for line in out.splitlines() if line.startswith("Gaussian, sound mode"))
    assert sound.startswith("Gaussian, sound mode, step 1/16")
    trained = list((tmp_path / "cache").glob("*.pt"))
    assert len(trained) == 1
    stamp = trained[0].stat().st_mtime_ns
    run(capsys, "demo", "--max", "2", "--n", "50", "--quiet", "--out", "here")
    assert trained[0].stat().st_mtime_ns == stamp  # trained once, then read


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (OSError(30, "Read-only file system", "ro/x"), "'ro/x' cannot be used (Read-only file"),
    ],
)
def test_errors_of_the_system_are_one_line(
    error: OSError,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> float:
        raise error

    monkeypatch.setattr(cc, "certified_radius", fails)
    gaussian = ["--noise", "gaussian", "--sigma", "1", "--dim", "2"]
    assert main(["radius", *gaussian, "--attack", "l2", "--p", "0.9"]) == 2
    assert capsys.readouterr().err.startswith(f"cert: error: {message}")
