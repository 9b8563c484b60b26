"""The whole loop of `cert certify --store` beside its forward passes alone, on one thread.

10,000 samples of one 3 x 32 x 32 input through a network of two convolutions: noise, votes,
commit to the store, progress.  Beside it a straightforward loop in PyTorch (fresh tensors,
a Python loop over the predictions), as published code has it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import cert_core as cc
from cert_models.data.datasets import Dataset
from cert_models.run import StoredRun, certified_right, keep_memory, sampler_of
from cert_models.smooth import SmoothedClassifier
from cert_models.store.runs import FixedPlan, Run

SHAPE = (3, 32, 32)
N0, N = 100, 10_000
ALPHA = 0.001


@pytest.fixture(autouse=True)
def one_core() -> Any:
    """For PyTorch and for the noise, which takes as many threads as there are cores."""
    threads, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    torch.set_num_threads(1)
    keep_memory()  # as cert certify does; here for all contestants, and every run alike
    os.sched_setaffinity(0, {min(cores)})
    yield
    torch.set_num_threads(threads)
    os.sched_setaffinity(0, cores)


def network(stride: int) -> nn.Module:
    """Two convolutions, of which the first keeps the image's size or halves it."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, stride=stride),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8192 // stride**2, 10),
    ).eval()


def whole_loop(net: nn.Module, noise: cc.Noise, batch: int, folder: Path) -> Callable[[], Any]:
    """One more input of a stored run at every call."""
    x = np.random.default_rng(0).uniform(size=(1000, *SHAPE)).astype(np.float32)
    data = Dataset("random", x, np.zeros(1000, np.int64), 10)
    plan = FixedPlan(N0, N)
    run = Run(
        plan=plan,
        noise=noise,
        seed=0,
        batch_size=batch,
        num_classes=10,
        model="net",
        model_fingerprint="",
        data="random",
        data_fingerprint="",
        attack="l2",
        alpha=ALPHA,
    )
    stored = StoredRun(path=folder / f"{batch}.db", name="bench", run=run, indices=range(1000))
    counted = stored.keep(sampler_of(net, run, data, device=None).blocks(range(1000)))
    return lambda: certified_right(next(counted), run)


def forwards(net: nn.Module, batch: int) -> Callable[[], Any]:
    """The forward passes of one input, and the argmax, on one batch used again and again."""
    x = torch.rand(batch, *SHAPE)
    sizes = [N0] + [batch] * (N // batch)

    def run() -> Any:
        with torch.inference_mode():
            return [net(x[:size]).argmax(1) for size in sizes]

    return run


def straightforward(net: nn.Module, sigma: float, batch: int) -> Callable[[], Any]:
    """Gaussian noise alone, as commonly written."""
    x = torch.rand(*SHAPE)

    def run() -> Any:
        counts = np.zeros(10, dtype=int)
        with torch.no_grad():
            for size in [N0] + [batch] * (N // batch):
                many = x.repeat((size, 1, 1, 1))
                noise = torch.randn_like(many) * sigma
                for label in net(many + noise).argmax(1).numpy():
                    counts[label] += 1
        return counts

    return run


@pytest.mark.parametrize("family", ["gaussian", "l2"])
@pytest.mark.parametrize("stride", [1, 2])
def test_overhead(race: Any, tmp_path: Path, stride: int, family: str) -> None:
    """The smaller network's passes take so little that the noise alone is a quarter of them."""
    dim, batch = int(np.prod(SHAPE)), 250
    noise = cc.Gaussian(dim, 0.25) if family == "gaussian" else cc.L2Noise.with_rms(dim, 0.25, 1000)
    net = network(stride)
    loop, bare = f"whole loop, {family}", "forward passes alone"
    race(
        f"certify one input, n = {N}, 3 x 32 x 32, first stride {stride}, {family}",
        {
            loop: whole_loop(net, noise, batch, tmp_path),
            bare: forwards(net, batch),
            "straightforward PyTorch, gaussian": straightforward(net, 0.25, batch),
        },
        unit="ms",
        rounds=7,
    )


@pytest.mark.parametrize("family", ["gaussian", "l2"])
@pytest.mark.parametrize("stride", [1, 2])
def test_sound_mode(race: Any, stride: int, family: str) -> None:
    """Votes of integer sums beside votes of float sums, with the share of copies that FAILed."""
    dim, batch = int(np.prod(SHAPE)), 250
    noise = cc.Gaussian(dim, 0.25) if family == "gaussian" else cc.L2Noise.with_rms(dim, 0.25, 1000)
    image = np.random.default_rng(0).integers(0, 256, (1, *SHAPE)).astype(np.uint8)
    fails: list[int] = []

    def votes(sound: cc.Lattice | None) -> Callable[[], Any]:
        net = SmoothedClassifier(network(stride), noise, 10, batch_size=batch, sound=sound)
        x, starts = image if sound else image / np.float32(255), itertools.count(0, N)

        def run() -> Any:
            counts = net.counts(x, N, 0, start=next(starts))
            fails.extend(counts.drawn[0].failed)
            return counts

        return run

    pixel = cc.Lattice("1/255")
    bound = f"FAILs: at most {pixel.failure_bound(noise):.1e} of the copies"
    race(
        f"votes of one input, n = {N}, 3 x 32 x 32, first stride {stride}, {family}",
        {"sound mode, step 1/255": votes(pixel), "float mode": votes(None)},
        unit="ms",
        rounds=7,
        notes={"sound mode, step 1/255": bound},
        own=True,
    )
    assert sum(fails) <= 1 + 10 * len(fails) * N * pixel.failure_bound(noise)
