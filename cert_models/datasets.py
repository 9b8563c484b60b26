"""Labelled inputs: digits, NumPy archives."""

from __future__ import annotations

import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Dataset:
    """N labelled inputs.

    Attributes
    ----------
    name : str
    x : (N, *input_shape) float32, in [0, 1] by convention
    y : (N,) int64
    num_classes : int
    """

    name: str
    x: np.ndarray[Any, np.dtype[np.float32]]
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
        if len(self.x) and (self.x.min() < 0 or self.x.max() > 1):
            warnings.warn(
                f"inputs of {self.name} lie in [{self.x.min():g}, {self.x.max():g}], not [0, 1]: "
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
    return Dataset(Path(path).name, x.astype(np.float32), y.astype(np.int64), classes)


def load(name: str) -> Dataset:
    """Load a data set by its command-line name: digits or FILE.npz."""
    if name == "digits":
        return digits()
    if name.endswith(".npz"):
        return npz(name)
    raise ValueError(f"data must be digits or FILE.npz, got {name!r}: choose one of these")
