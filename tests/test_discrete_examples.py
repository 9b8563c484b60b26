"""The examples, in small: what they print holds, and more than nothing is certified."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cert_core as cc

FOLDER = Path(__file__).parent.parent / "examples"


def example(name: str) -> Any:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def shares(line: str) -> list[float]:
    """Of a row of a table, its name and its seconds left out."""
    return [float(cell) for cell in line.split("|")[2:-2]]


def test_black_and_white_digits() -> None:
    images = example("images").Images.load("digits").black_and_white()
    noises = {"flips": cc.Flips(64, 2, 0.95), "ablation": cc.Ablation(64, 40)}
    head, _, *lines = example("images").rows(
        images, noises, "l0", [0, 1, 2, 64], count=12, n=600, epochs=15
    )
    assert head.startswith("| l0 radius | 0 | 1 | 2 | 64 |")
    for line in lines:
        found = shares(line)
        assert found == sorted(found, reverse=True)
        assert found[0] >= 0.5
        assert found[-1] == 0.0
    assert max(shares(line)[1] for line in lines) > 0.0


def test_digits_split_without_alpha() -> None:
    module = example("images")
    images, noise = module.Images.load("digits"), cc.Splitting(64, 1.0, 16)
    found = module.certificates(images, noise, "l1", count=20, n=1, epochs=8)
    assert (found.alpha, found.n) == (0.0, 32)
    right = found.label == images.test.y[:20]
    assert right.mean() >= 0.6
    assert (found.radius[right] >= 1 / 8).mean() >= 0.5
    np.testing.assert_array_equal(found.radius * 16, np.floor(found.radius * 16))


def test_a_categorical_table() -> None:
    found = example("table").certified_shares(0.7, [0, 1, 2], count=20, n=1000)
    assert found[0] >= 0.8
    assert found[1] > 0.3
    assert (np.diff(found) <= 0).all()


def test_a_graph() -> None:
    found, right = example("graph").certified(45, 0.02, 0.4, 1000)
    assert right.mean() > 0.8
    assert found.radius[right].max() >= 1
    frontier = cc.sparse.sparse_frontier(float(found.p_lower.max()), found.noise)
    assert frontier[:, 1].max() > frontier[:, 0].max()  # many may be deleted, few added
