"""Data sets in the published layouts: what was written is what is read."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models.layouts import (
    idx_bytes,
    python2_pickle,
    write_cifar10,
    write_cifar100,
    write_imagenet,
    write_mnist,
)
from PIL import Image

from cert_models.commands.options import listed_indices
from cert_models.data import datasets
from cert_models.data.formats import LazyArray, read_image

RNG = np.random.default_rng(0)
CIFAR = RNG.integers(0, 256, size=(7, 3, 32, 32), dtype=np.uint8)
LABELS = np.array([3, 0, 9, 1, 1, 5, 2])


def test_lazy_array_is_indexed_like_an_array() -> None:
    whole = RNG.uniform(size=(6, 2, 3)).astype(np.float32)
    asked: list[list[int]] = []

    def read(rows: Any) -> Any:
        asked.append(rows.tolist())
        return whole[rows]

    lazy = LazyArray(whole.shape, read)
    assert len(lazy) == 6
    for key in (2, -1, slice(1, 3), slice(None, None, 4), [5, 0], np.array([1]), slice(3, 3)):
        np.testing.assert_array_equal(lazy[key], whole[key])
        assert lazy[key].dtype == np.float32
    assert asked[0] == [2]  # no other row was made
    with pytest.raises(IndexError):
        lazy[6]


@pytest.mark.parametrize("inside", [False, True])
def test_cifar10(tmp_path: Path, inside: bool) -> None:
    folder = write_cifar10(tmp_path / "data", CIFAR, LABELS)
    where = folder / "cifar-10-batches-py" if inside else folder
    data = datasets.load(f"cifar10:{where}")
    np.testing.assert_array_equal(data.x[:], CIFAR.astype(np.float32) / np.float32(255))
    assert data.y.tolist() == LABELS.tolist()
    assert (data.name, data.num_classes, data.x.shape) == ("cifar10", 10, (7, 3, 32, 32))
    train = datasets.load(f"cifar10:{where}", "train")
    assert len(train) == 35
    np.testing.assert_array_equal(train.x[7:14], np.roll(data.x[:], 2, axis=0))
    assert train.y[7:14].tolist() == np.roll(LABELS, 2).tolist()


def test_cifar10_of_a_modern_pickle(tmp_path: Path) -> None:
    """Batches written again by Python 3 and numpy 2 read alike."""
    folder = write_cifar10(tmp_path, CIFAR, LABELS)
    entries = {b"data": CIFAR.reshape(7, 3072), b"labels": LABELS.tolist()}
    batch = folder / "cifar-10-batches-py" / "test_batch"
    for protocol in range(2, 5):
        batch.write_bytes(pickle.dumps(entries, protocol=protocol))
        data = datasets.load(f"cifar10:{tmp_path}")
        np.testing.assert_array_equal(data.x[:], CIFAR.astype(np.float32) / np.float32(255))


def test_cifar100(tmp_path: Path) -> None:
    fine = np.array([99, 0, 50, 7, 7, 31, 98])
    folder = write_cifar100(tmp_path, CIFAR, LABELS, fine)
    for part in ("test", "train"):
        data = datasets.load(f"cifar100:{folder}", part)
        np.testing.assert_array_equal(data.x[:], CIFAR.astype(np.float32) / np.float32(255))
        assert data.y.tolist() == fine.tolist()
        assert data.num_classes == 100


class Touch:
    """Unpickling this would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_cannot_run_code(tmp_path: Path) -> None:
    folder = write_cifar10(tmp_path, CIFAR, LABELS)
    victim = tmp_path / "touched"
    evil = pickle.dumps({b"data": Touch(victim), b"labels": [0]}, protocol=2)
    (folder / "cifar-10-batches-py" / "test_batch").write_bytes(evil)
    with pytest.raises(ValueError, match="which no array needs"):
        datasets.load(f"cifar10:{folder}")
    assert not victim.exists()
    pickle.loads(evil)  # the very bytes do it where nothing forbids
    assert victim.exists()


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("below", ["", "raw", "MNIST/raw"])
def test_mnist(tmp_path: Path, zipped: bool, below: str) -> None:
    images = RNG.integers(0, 256, size=(7, 28, 28), dtype=np.uint8)
    write_mnist(tmp_path / "m" / below, images, LABELS, zipped=zipped)
    for part in ("test", "train"):
        data = datasets.load(f"mnist:{tmp_path / 'm'}", part)
        np.testing.assert_array_equal(
            data.x[:], images[:, None].astype(np.float32) / np.float32(255)
        )
        assert (data.y.tolist(), data.num_classes) == (LABELS.tolist(), 10)


def test_imagenet(tmp_path: Path) -> None:
    shapes = [(300, 400, 3), (513, 258, 3), (256, 256, 3), (100, 90, 3)]
    pictures = [RNG.integers(0, 256, size=shape, dtype=np.uint8) for shape in shapes]
    images = {"n00000003": pictures[:2], "n00000999": [pictures[2]], "n00000000": [pictures[3]]}
    folder = write_imagenet(tmp_path, images)
    data = datasets.load(f"imagenet:{folder}")
    assert data.y.tolist() == [0, 3, 3, 999]
    assert (data.num_classes, data.x.shape) == (1000, (4, 3, 224, 224))
    assert data.x[1:3].shape == (2, 3, 224, 224)
    assert 0 <= data.x[:].min() < data.x[:].max() <= 1
    paths = sorted((folder / "val").rglob("*.JPEG"))
    for i, path in enumerate(paths):
        np.testing.assert_array_equal(data.x[i], read_image(path) / np.float32(255))
    inside = datasets.load(f"imagenet:{folder / 'val'}")
    assert inside.y.tolist() == data.y.tolist()


@pytest.mark.parametrize("size", [(400, 300), (258, 513), (256, 256), (1000, 257), (90, 100)])
def test_the_middle_is_cut_out(tmp_path: Path, size: tuple[int, int]) -> None:
    """On a ramp, resizing and cropping have a closed form: the shorter side becomes 256, the
    longer int(256 long / short), and the crop begins at round((side - 224) / 2)."""
    width, height = size
    for axis, side in ((2, width), (1, height)):
        ramp = np.linspace(0, 255, side)
        image = np.broadcast_to(ramp[None, :] if axis == 2 else ramp[:, None], (height, width))
        path = tmp_path / "ramp.png"
        Image.fromarray(np.round(image).astype(np.uint8)).save(path)
        got = read_image(path).astype(float)
        new = int(256 * side / min(size))
        first = round((new - 224) / 2)
        at = (first + np.arange(224) + 0.5) * side / new - 0.5  # centres, in old pixels
        line = got.mean(axis=0).mean(axis=0 if axis == 2 else 1)
        assert got.shape == (3, 224, 224)
        np.testing.assert_allclose(line, ramp[0] + at * 255 / (side - 1), atol=1.0)


def test_resizing_smooths_fine_patterns(tmp_path: Path) -> None:
    """Antialiased: a chessboard four times finer than the result becomes grey."""
    board = (np.indices((1024, 1024)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    got = read_image(tmp_path / "board.png").astype(float)
    assert abs(got - 127.5).max() < 12


def test_missing_class_folders_are_warned_about(tmp_path: Path) -> None:
    picture = RNG.integers(0, 256, size=(256, 256, 3), dtype=np.uint8)
    folder = write_imagenet(tmp_path, {"n00000001": [picture]}, classes=2)
    with pytest.warns(UserWarning, match="2 of ImageNet's 1000 class folders"):
        datasets.load(f"imagenet:{folder}")


TORCH = """
import torch

class Squares(torch.utils.data.Dataset):
    def __init__(self, scale=1.0, kind=torch.float32):
        self.scale, self.kind, self.asked = scale, kind, []
    def __len__(self):
        return 5
    def __getitem__(self, i):
        self.asked.append(i)
        return (torch.full((2, 2), self.scale * i * i / 16).to(self.kind), i % 3)

class WithTargets(Squares):
    targets = [0, 1, 2, 0, 1]
    classes = ["a", "b", "c", "d"]

plain, targets, raw, ints = Squares(), WithTargets(), Squares(16.0), Squares(16.0, torch.uint8)
def make():
    return Squares()
number = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "torchsets.py").write_text(TORCH, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["plain", "make", "targets"])
def test_torch_data_set(folder: Path, name: str) -> None:
    data = datasets.load(f"torchsets:{name}")
    assert data.y.tolist() == [0, 1, 2, 0, 1]
    assert data.num_classes == (4 if name == "targets" else 3)
    assert data.x.shape == (5, 2, 2)
    np.testing.assert_array_equal(
        data.x[1:3], np.array([1, 4])[:, None, None] / 16 * np.ones((2, 2))
    )


def test_a_torch_data_set_is_read_when_asked(folder: Path) -> None:
    import torchsets  # type: ignore[import-not-found]

    data = datasets.load("torchsets:targets")
    torchsets.targets.asked.clear()
    data.x[2:4]
    assert torchsets.targets.asked == [2, 3]


def test_inputs_of_a_torch_data_set_are_checked(folder: Path) -> None:
    with pytest.warns(UserWarning, match=r"lie in \[0, 16\], not \[0, 1\]"):
        datasets.load("torchsets:raw")
    with pytest.raises(ValueError, match="give inputs that are floats in"):
        datasets.load("torchsets:ints")
    with pytest.raises(ValueError, match="data must have __len__"):
        datasets.load("torchsets:number")
    with pytest.raises(ValueError, match="data must be an importable module:name"):
        datasets.load("torchsets:nothing")


def test_a_subset_of_a_torch_data_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchsets

    part = torch.utils.data.Subset(torchsets.targets, [4, 2])
    monkeypatch.setattr(torchsets, "part", part, raising=False)
    assert datasets.load("torchsets:part").y.tolist() == [1, 2]


def test_bad_files(tmp_path: Path) -> None:
    good = write_cifar10(tmp_path / "good", CIFAR, LABELS)
    batch = good / "cifar-10-batches-py" / "test_batch"
    whole = batch.read_bytes()
    mnist = write_mnist(tmp_path / "mnist", CIFAR[:, 0], LABELS, zipped=False)
    images = mnist / "t10k-images-idx3-ubyte"
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"")
    broken = write_imagenet(tmp_path / "broken", {}, classes=1000)
    (broken / "val" / "n00000000" / "a.JPEG").write_bytes(b"no image")

    def refused(name: str, message: str) -> None:
        with pytest.raises(ValueError, match="must be") as caught:
            datasets.load(name).x[:]
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    refused(f"cifar10:{tmp_path}", "no file test_batch")
    refused(f"cifar100:{good}", "no file test")
    batch.write_bytes(whole[: len(whole) // 2])
    refused(f"cifar10:{good}", "the python version of CIFAR-10")
    batch.write_bytes(python2_pickle({b"data": CIFAR.reshape(7, 3072)}))
    refused(f"cifar10:{good}", "KeyError")
    batch.write_bytes(python2_pickle({b"data": CIFAR.reshape(7, 3072), b"labels": [1]}))
    refused(f"cifar10:{good}", "cannot reshape")
    entries = {b"data": CIFAR.reshape(7, 3072), b"labels": [77] * 7}
    batch.write_bytes(python2_pickle(entries))
    refused(f"cifar10:{good}", "labels up to 77")
    refused(f"mnist:{good}", "no file t10k-images-idx3-ubyte")
    content = images.read_bytes()
    for wrong in (
        b"",
        content[:-1],
        content + b"0",
        b"\0\0\x0d" + content[3:],
        gzip.compress(content)[:50],
    ):
        images.write_bytes(wrong)
        refused(f"mnist:{mnist}", "an idx file of bytes")
    images.write_bytes(idx_bytes(LABELS))
    refused(f"mnist:{mnist}", "idx files of images and labels")
    refused(f"imagenet:{tmp_path / 'flat'}", "0 class folders, no image")
    refused(f"imagenet:{tmp_path / 'nowhere'}", "No such file or directory")
    refused(f"imagenet:{broken}", "data must be an image")
    refused("mnist", "digits, cifar10:DIR")
    refused("cifar10:", "no file test_batch")


def test_listed_indices() -> None:
    assert listed_indices("0,7,10-12", 13) == [0, 7, 10, 11, 12]
    assert listed_indices("5", 6) == [5]
    for text in ("", "a", "5,", "3-1", "1,1", "1-3,2", "13", "-1", "0-"):
        with pytest.raises(ValueError, match="--indices must be"):
            listed_indices(text, 13)


def test_pictures_of_more_than_8_bits_are_refused(tmp_path: Path) -> None:
    """They would be clipped to white."""
    Image.fromarray(np.full((300, 300), 32_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="more than 8 bits a channel"):
        read_image(tmp_path / "deep.png")


def test_labels_and_inputs_are_there() -> None:
    x = np.zeros((3, 1, 2, 2), np.float32)
    with pytest.raises(ValueError, match=r"labels must be class numbers in .*, got -1 at 1"):
        datasets.Dataset("d", x, np.array([0, -1, 1]), 2)
    with pytest.raises(ValueError, match="data must hold an input, got none"):
        datasets.Dataset("d", x[:0], np.zeros(0, np.int64), 2)
