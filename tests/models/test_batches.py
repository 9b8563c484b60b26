"""How a torch device gets its noise, and how the forward pass is run and sized."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from core import emulated
from models.test_smooth import NOISE, Hungry, X, module, smoothed
from torch import nn

import cert_core as cc
from cert_core import kernels
from cert_core.kernels.gpu import launches
from cert_models.cli import main
from cert_models.smooth import batches
from cert_models.smooth.batches import Batches, batch_by_trial


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> emulated.Emulator:
    if emulated.COMPILER is None:
        pytest.skip("no g++ to compile the emulated kernels")
    launch = launches.draw(NOISE, 9, 0, 0, 0, "float32")
    folder = tmp_path_factory.mktemp("emulator")
    return emulated.Emulator([(launch.file, launch.macros)], folder)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, emulator: emulated.Emulator) -> Any:
    """Batches drawn by the emulated GPU backend into torch's memory, here the CPU's."""
    fake = emulated.stand_in(emulator)
    fake.from_dlpack = lambda value: np.from_dlpack(value).view(emulated.Array)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.delitem(sys.modules, "cert_core.kernels.gpu.backend", raising=False)
    gpu = importlib.import_module("cert_core.kernels.gpu.backend")
    monkeypatch.setattr(gpu, "DLPACK_CUDA", 1)
    monkeypatch.setattr(Batches, "on_device", True)
    monkeypatch.setattr(batches, "_torch_stream", lambda device: contextlib.nullcontext())
    yield emulator
    sys.modules.pop("cert_core.kernels.gpu.backend")
    vars(kernels).pop("gpu", None)


@pytest.mark.parametrize("batch_size", [64, 700, 5000])
def test_counts_of_noise_drawn_on_the_device(device: Any, batch_size: int) -> None:
    before = device.launched
    counts = smoothed(batch_size=batch_size).counts(X, 300, 9)
    assert device.launched > before
    predict = smoothed().labels
    np.testing.assert_array_equal(counts, cc.count_votes(predict, X, NOISE, 3, 300, 9))


def test_scores_and_tests_of_noise_drawn_on_the_device(device: Any) -> None:
    plan = cc.sequential.plan_at(NOISE, "l1", 0.05, n_max=400, alpha=0.01)
    ours = smoothed()
    means = ours.mean_scores(X, 50, 3)
    kept = ours.label_scores(X, [0] * 5, 50, 3)
    radii = ours.certify_at(X, 0.05, 400, 0.01, "l1", 3)
    before = device.launched
    fixed: dict[str, Any] = {"noise": NOISE, "num_classes": 3}
    np.testing.assert_allclose(means, cc.scores.mean_scores(ours.scores, X, n=50, seed=3, **fixed))
    other = cc.scores.label_scores(ours.scores, X, labels=[0] * 5, n=50, seed=3, **fixed)
    np.testing.assert_allclose(kept, other, rtol=1e-6)
    expected = cc.sequential.certify_by(plan, ours.labels, X, 3, 3)
    np.testing.assert_array_equal(radii.radius, expected.radius)
    assert device.launched == before  # the CPU's, all three


def test_a_buffer_too_small_is_refused() -> None:
    for buffer in (np.zeros((9, 12), "f4"), np.zeros((50, 11), "f4")):
        with pytest.raises(ValueError, match=r"buffer must be of shape \(20, 12\)"):
            next(cc.noisy_batches(X, NOISE, 10, 0, batch_size=20, buffer=buffer))


def test_without_cupy_it_says_once_that_the_cpu_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    batches._draws.cache_clear()
    plan = Batches(torch.device("cuda", 0))
    with pytest.warns(UserWarning, match="drawn on the CPU .*install cupy-cuda13x"):
        assert plan.options(10, 12) == {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plan.options(10, 12) == {}
        assert isinstance(plan.stream(), contextlib.nullcontext)
    batches._draws.cache_clear()


@pytest.mark.parametrize(
    ("seconds", "fits", "expected"),
    [
        (lambda size: 1.0, 10**9, 1 << 15),  # latency alone: as large as may be
        (lambda size: size, 10**9, 64),  # no gain at all
        (lambda size: max(size, 1024), 10**9, 1024),
        (lambda size: 1.0, 700, 512),  # the memory ends
        (lambda size: 1.0, 3, 32),  # ... even before the first size
    ],
)
def test_rows_are_found_by_trial(seconds: Any, fits: int, expected: int) -> None:
    now = [0.0]

    def run(size: int) -> None:
        if size > fits:
            raise MemoryError
        now[0] += seconds(size)

    found = batch_by_trial(run, lambda e: isinstance(e, MemoryError), clock=lambda: now[0])
    assert found == expected
    with pytest.raises(RuntimeError, match="shape"):
        batch_by_trial(lambda size: (_ for _ in ()).throw(RuntimeError("shape")), lambda e: False)


def test_an_automatic_batch_changes_nothing() -> None:
    net = Hungry(torch.OutOfMemoryError("CUDA out of memory")).eval()
    classifier = smoothed(net, batch_size=None)
    np.testing.assert_array_equal(classifier.counts(X, 300, 9), smoothed().counts(X, 300, 9))
    assert classifier.batch_size == 64
    assert classifier.rows(X) == 64


class Watched(nn.Module):
    """Notes the precision and the layout of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 2)
        self.seen: set[tuple[torch.dtype, bool]] = set()

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        scores = self.conv(batch)
        last = batch.is_contiguous(memory_format=torch.channels_last)
        self.seen.add((scores.dtype, last and not batch.is_contiguous()))
        return scores.flatten(1)  # type: ignore[no-any-return]


def test_precision_layout_and_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda net: compiled.append(net) or net)
    options = {"autocast": "bfloat16", "channels_last": True, "compiled": True}
    for chosen in itertools.product(*[(name, None) for name in options]):
        net = Watched().eval()
        given = {name: options[name] for name in chosen if name is not None}
        assert smoothed(net, **given).counts(X, 40, 1).sum() == 200
        dtype = torch.bfloat16 if "autocast" in given else torch.float32
        assert net.seen == {(dtype, "channels_last" in given)}
        assert (compiled[-1:] == [net]) == ("compiled" in given)
    with pytest.raises(ValueError, match="autocast must be one of bfloat16, float16, got 'int8'"):
        smoothed(module(), autocast="int8")


def test_the_command_takes_them(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "test.npz", x=X[:2], y=np.array([0, 1]))
    text = (
        "import torch\nnetwork = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))\n"
        "network.eval()\ndef labels(batch):\n    return (batch[:, 0, 0, 0] > 0.5).astype(int)\n"
    )
    (tmp_path / "amodel.py").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "amodel", raising=False)
    base = (
        "certify --data test.npz --noise gaussian --sigma 0.3 --attack l2 --n 200 --quiet --model"
    )
    stored = f"{base} amodel:network --batch-size auto --channels-last --store a.db".split()
    assert main(stored) == 0
    assert main(stored) == 0  # found by trial again, and the same run
    assert main([*stored, "--autocast", "bfloat16"]) == 2
    assert "+bfloat16" in capsys.readouterr().err
    assert main([*base.split(), "amodel:labels", "--batch-size", "auto"]) == 0
    assert main([*base.split(), "amodel:labels", "--autocast", "bfloat16"]) == 2
    assert "autocast must not be given for a function" in capsys.readouterr().err
    for wrong in ("0", "x"):
        with pytest.raises(SystemExit):
            main([*stored, "--batch-size", wrong])
        assert "must be an integer >= 1 or auto" in capsys.readouterr().err
