"""Classifiers trained under noise, and the digits network, trained once and cached."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import cert_core as cc
from cert_models.datasets import Dataset, digits


def digits_network() -> nn.Module:
    """Two convolutions and two linear layers for 1 x 8 x 8 inputs, 10 classes."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def train_under_noise(
    module: nn.Module,
    data: Dataset,
    noise: cc.Noise,
    *,
    epochs: int,
    seed: int,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    progress: Callable[[int, float], None] | None = None,
) -> nn.Module:
    """Train a classifier on inputs with fresh noise at every step (Gaussian augmentation of
    Cohen et al. 2019, for any noise).

    Parameters
    ----------
    module : torch.nn.Module, changed in place
    data : Dataset
    noise : Noise
    epochs, seed, batch_size, learning_rate : as usual; Adam with a one-cycle rate
    progress : callable (epoch, mean loss), optional

    Returns
    -------
    torch.nn.Module
        The module, in evaluation mode.
    """
    order = np.random.default_rng(seed)
    x, y = data.x.reshape(len(data), -1), torch.from_numpy(data.y)
    steps = epochs * -(-len(data) // batch_size)
    optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3 * learning_rate, steps)
    module.train()
    drawn = 0
    for epoch in range(epochs):
        losses = []
        for rows in np.array_split(order.permutation(len(x)), -(-len(x) // batch_size)):
            noisy = cc.draw(noise, len(rows), seed, start=drawn) + x[rows]
            drawn += len(rows)
            batch = torch.from_numpy(noisy).reshape(-1, *data.x.shape[1:])
            loss = nn.functional.cross_entropy(module(batch), y[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        if progress is not None:
            progress(epoch, float(np.mean(losses)))
    return module.eval()


def cache_folder() -> Path:
    """The user's cache folder of this package."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("CERT_CACHE") or user_cache_path("cert"))


def digits_cnn(
    sigma: float = 0.25, *, progress: Callable[[int, float], None] | None = None
) -> nn.Module:
    """The digits network trained under Gaussian noise of standard deviation sigma.

    Trained once (seeded, under a minute on two cores), kept in the cache folder behind a
    file lock, so that processes started together train it once.

    Returns
    -------
    torch.nn.Module
        In evaluation mode, on the CPU.
    """
    from filelock import FileLock

    recipe: dict[str, Any] = {"sigma": sigma, "epochs": 40, "seed": 0, "version": 1}
    name = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"digits-cnn-{name}.pt"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(recipe["seed"])
                module = digits_network()
            noise = cc.Gaussian(64, sigma)
            train_under_noise(
                module, digits("train"), noise,
                epochs=recipe["epochs"], seed=recipe["seed"], progress=progress,
            )  # fmt: skip
            partial = path.with_suffix(".tmp")
            torch.save(module.state_dict(), partial)
            partial.replace(path)
    module = digits_network()
    module.load_state_dict(torch.load(path, weights_only=True))
    return module.eval()
