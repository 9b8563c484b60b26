"""Labelled inputs: digits, CIFAR, MNIST, ImageNet, NumPy archives, torch data sets."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cert_core as cc
from cert_models.formats import LazyArray, cifar, image_folder, mnist
from cert_models.importing import import_object


@dataclass(frozen=True)
class Dataset:
    """N labelled inputs.

    Attributes
    ----------
    name : str
    x : (N, *input_shape), in [0, 1] by convention
        float32, or float64 where float32 does not hold it.  An array, or a LazyArray that
        makes the rows that are asked for.
    y : (N,) int64
    num_classes : int
    """

    name: str
    x: np.ndarray[Any, np.dtype[np.floating[Any]]] | LazyArray
    y: np.ndarray[Any, np.dtype[np.int64]]
    num_classes: int

    def __len__(self) -> int:
        return len(self.y)

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(
                f"labels must be one for each of the {len(self.x)} inputs, got {len(self.y)}: "
                f"check {self.name}"
            )
        if not len(self.y):
            raise ValueError(f"data must hold an input, got none: check {self.name}")
        if self.y.min() < 0:
            raise ValueError(
                f"labels must be class numbers >= 0, got {self.y.min()}: check {self.name}"
            )
        seen = self.x if isinstance(self.x, np.ndarray) else self.x[:8]
        if seen.min() < 0 or seen.max() > 1:
            warnings.warn(
                f"inputs of {self.name} lie in [{seen.min():g}, {seen.max():g}], not [0, 1]: "
                "the noise's scale and every radius are in these units",
                stacklevel=3,
            )


def digits(part: str = "test") -> Dataset:
    """scikit-learn's 8 x 8 digits in [0, 1]: 1297 to train, 500 to test, shuffled once.

    Parameters
    ----------
    part : "train" or "test"
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = np.random.default_rng(0).permutation(len(raw.target))
    chosen = order[:1297] if part == "train" else order[1297:]
    x = (raw.images[chosen] / 16.0).astype(np.float32)[:, None]
    return Dataset("digits", x, raw.target[chosen].astype(np.int64), 10)


def npz(path: str | Path) -> Dataset:
    """An .npz archive with arrays x (N, ...) and y (N,).

    Raises
    ------
    ValueError
        The file cannot be read or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            x, y = archive["x"], archive["y"]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"data must be an .npz file with arrays x and y, got {str(path)!r} ({reason}): "
            "write it with numpy.savez(path, x=..., y=...)"
        ) from error
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer) or x.ndim < 2:
        raise ValueError(
            f"data must have x of shape (N, ...) and integer y of shape (N,), got x {x.shape} "
            f"and y {y.dtype} {y.shape}: check {str(path)!r}"
        )
    classes = max(int(y.max()) + 1, 2) if len(y) else 2
    return Dataset(Path(path).name, cc.errors.inputs("x", x), y.astype(np.int64), classes)


def cifar10(path: str | Path, part: str = "test") -> Dataset:
    """CIFAR-10's python batches (10,000 test, 50,000 train inputs), (3, 32, 32) each."""
    names = ["test_batch"] if part == "test" else [f"data_batch_{i}" for i in range(1, 6)]
    return Dataset("cifar10", *cifar(path, names, b"labels", "cifar-10-batches-py", 10), 10)


def cifar100(path: str | Path, part: str = "test") -> Dataset:
    """CIFAR-100's python batches, fine labels."""
    return Dataset("cifar100", *cifar(path, [part], b"fine_labels", "cifar-100-python", 100), 100)


def mnist_digits(path: str | Path, part: str = "test") -> Dataset:
    """MNIST's idx files (gzip-compressed or not), (1, 28, 28) each."""
    x, y = mnist(path, "t10k" if part == "test" else "train")
    return Dataset("mnist", x, y, max(int(y.max(initial=0)) + 1, 10))


def imagenet(path: str | Path, part: str = "test") -> Dataset:
    """ImageNet's validation folder, one subfolder a class, (3, 224, 224) each.

    Training inputs are preprocessed alike (shorter side 256, centre 224).
    """
    return Dataset("imagenet", *image_folder(path, "val" if part == "test" else "train"))


def torch_dataset(path: str) -> Dataset:
    """A torch data set by the import path module:name of it, or of a function that makes it.

    It must have __len__ and give (x, label) pairs, x a tensor or array of floats; labels
    are its `targets` where it has them, else every item is read once.

    Raises
    ------
    ValueError
        It is no such object, or its inputs are no floats.
    """
    found = import_object(path, "data")
    if callable(found) and not hasattr(found, "__getitem__"):
        found = found()
    if not (hasattr(found, "__getitem__") and hasattr(found, "__len__") and len(found)):
        raise ValueError(
            f"data must have __len__ and __getitem__ and an item, got {found!r} at {path!r}: "
            "name a torch data set, or a function that makes one"
        )

    def read(rows: Any) -> Any:
        return np.stack([np.asarray(found[int(i)][0]) for i in rows])

    first = np.asarray(found[0][0])
    if not np.issubdtype(first.dtype, np.floating):
        raise ValueError(
            f"inputs of data must be floats in [0, 1], got {first.dtype} at {path!r}: "
            "give the data set a transform to float tensors"
        )
    targets = getattr(found, "targets", None)
    if targets is None or getattr(found, "target_transform", None) is not None:
        targets = [int(found[i][1]) for i in range(len(found))]
    y = np.asarray(targets).astype(np.int64)
    classes = max(int(y.max()) + 1, len(getattr(found, "classes", ())), 2)
    return Dataset(path, LazyArray((len(found), *first.shape), read), y, classes)


FOLDERS: dict[str, Callable[[str, str], Dataset]] = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "imagenet": imagenet,
    "mnist": mnist_digits,
}
NAMES = "digits, " + ", ".join(f"{name}:DIR" for name in FOLDERS) + ", FILE.npz or module:name"


def load(name: str, part: str = "test") -> Dataset:
    """Load a data set by its command-line name.

    Parameters
    ----------
    name : digits, cifar10:DIR, cifar100:DIR, imagenet:DIR, mnist:DIR, FILE.npz, or the
        import path module:name of a torch data set
    part : "test" or "train"; an archive and an import path have one part

    Raises
    ------
    ValueError
        No such data set, or its files are not in the published layout.
    """
    kind, colon, where = name.partition(":")
    if name == "digits":
        return digits(part)
    if name.endswith(".npz"):
        return npz(name)
    if colon and kind in FOLDERS:
        return FOLDERS[kind](where, part)
    if colon and where:
        return torch_dataset(name)
    raise ValueError(f"data must be {NAMES}, got {name!r}: choose one of these")
