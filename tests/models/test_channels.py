"""Noises that add nothing, from training to certificates on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import Said, cert
from torch import nn

import cert_core as cc
from cert_models.data.datasets import Dataset, digits, load
from cert_models.networks.architectures import Mask
from cert_models.networks.models import load_checkpoint
from cert_models.networks.train import Recipe, one_copy_each, train_checkpoint

SEEN = digits("train")
SMALL = Dataset("digits", SEEN.x[:130], SEEN.y[:130], 10)
CHANNELS = [
    cc.Flips(64, 17, 0.7), cc.Ablation(64, 20), cc.Uniform(64, 0.4), cc.Splitting(64, 0.5, 16),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def two_channels(num_classes: int) -> nn.Module:
    """A network of images and their masks."""
    return nn.Sequential(nn.Flatten(), nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, num_classes))


def answered(said: Said) -> Any:
    assert said.status == 0, said.err
    return json.loads(said.out)


@pytest.mark.parametrize("noise", CHANNELS, ids=str)
def test_training_sees_one_copy_of_each_input(noise: cc.Noise) -> None:
    """Sample start + i of the noise, as a copy of input i, in any batches."""
    x = SMALL.x[:6]
    copies = one_copy_each(noise, x, 3, 100)
    for i, row in enumerate(x):
        own = cc.draw(noise, 1, 3, start=100 + i, center=row.reshape(-1))
        np.testing.assert_array_equal(copies[i], own[0])
        np.testing.assert_array_equal(one_copy_each(noise, x[i : i + 1], 3, 100 + i), own)


@pytest.mark.parametrize("noise", CHANNELS, ids=str)
def test_any_channel_trains_from_the_command(tmp_path: Path, noise: cc.Noise) -> None:
    values = {k: v for k, v in noise.to_dict().items() if k not in ("noise", "dim", "null")}
    given = [word for k, v in values.items() for word in (f"--{k}", str(v))]
    said = answered(cert(
        "train", "--noise", noise.name, *given, "--data", "digits", "--arch", "digits",
        "--epochs", "1", "--quiet", "--json", "--out", str(tmp_path / "net.pt"),
    ))  # fmt: skip
    assert said["noise"] == noise.to_dict()
    assert load_checkpoint(tmp_path / "net.pt", 10).trained_under == noise.to_dict()


def test_a_mask_is_shown_and_recorded(tmp_path: Path) -> None:
    """Hidden entries are 0, a channel more says which; with the null of the noise or not at all."""
    batch = torch.tensor([[[[0.0, -1.0], [0.5, -1.0]]]])
    shown = Mask(-1.0)(batch)
    assert shown.tolist() == [[[[0.0, 0.0], [0.5, 0.0]], [[1.0, 0.0], [1.0, 0.0]]]]
    noise = cc.Ablation(64, 20, -2.0)
    about: dict[str, Any] = {"arch": "models.test_channels:two_channels", "epochs": 1}
    recipe = Recipe(normalize="mask:-2", noise=noise, num_classes=10, **about)
    train_checkpoint(tmp_path / "net.pt", SMALL, recipe)
    found = load_checkpoint(tmp_path / "net.pt", 10, arch=recipe.arch)
    assert isinstance(found.normalize, Mask)
    assert found.normalize.null == -2.0
    for other, wrong in (("mask", noise), ("mask:-2", CHANNELS[0]), ("mask:x", noise)):
        made = Recipe(normalize=other, noise=wrong, num_classes=10, **about)
        with pytest.raises(ValueError, match="normalize must be"):
            train_checkpoint(tmp_path / "b.pt", SMALL, made)
    with pytest.raises(ValueError, match="normalize must be that of"):
        load_checkpoint(tmp_path / "net.pt", 10, arch=recipe.arch, normalize="mask")


def test_inputs_off_the_levels_do_not_train(tmp_path: Path) -> None:
    noise = cc.Flips(64, 2, 0.9)
    recipe = Recipe(arch="digits", normalize="none", noise=noise, num_classes=10, epochs=1)
    with pytest.raises(ValueError, match=r"x must be one of the 2 levels j/1 in \[0, 1\], got 0"):
        train_checkpoint(tmp_path / "net.pt", SMALL, recipe)


def test_whole_numbers_are_categories_where_the_noise_has_such(tmp_path: Path) -> None:
    """Of any integer type; under other noises they are numbers as ever, or refused."""
    x, y = np.arange(24).reshape(6, 4) % 3, np.arange(6) % 2
    for kind in (np.uint8, np.int64):
        np.savez(tmp_path / "x.npz", x=x.astype(kind), y=y)
        data = load(str(tmp_path / "x.npz"), categorical=cc.Flips.categorical)
        assert data.x.dtype == np.int64
        data.check_known(cc.Flips(4, 3, 0.5))
        with pytest.raises(ValueError, match=r"x must be one of the categories 0 \.\. 1, got 2"):
            data.check_known(cc.Flips(4, 2, 0.5))
        copies = one_copy_each(cc.Flips(4, 3, 0.5), data.x[:], 0, 0)
        assert set(copies.ravel()) == {0.0, 1.0, 2.0}
    with pytest.warns(UserWarning, match="not \\[0, 1\\]"):
        assert load(str(tmp_path / "x.npz")).x.dtype == np.float32
    assert not cc.Ablation.categorical | cc.Gaussian.categorical
