"""Scales of features: of a file, or the deviations of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import cert_core as cc
from cert_models.data.formats import LazyArray
from cert_models.files.reading import plain_float, reading

Array = np.ndarray[Any, np.dtype[Any]]
KIND = "std, or a file of numbers, text or .npy, one a coordinate"
BLOCK = 1000  # inputs looked at at a time


def read_scales(path: str | Path) -> Array:
    """The numbers of a file: .npy, or text with spaces, commas or new lines between.

    Raises
    ------
    ValueError
        No such file, or no numbers.
    """
    found: Array
    with reading("scales", KIND, path, "check the file"):
        if Path(path).suffix == ".npy":
            numbers = np.load(path, allow_pickle=False)
            found = cc.errors.to_numpy("scales", numbers, np.float64).reshape(-1)
        else:
            words = Path(path).read_text(encoding="utf-8").replace(",", " ").split()
            found = np.array([plain_float(word) for word in words])
        if not found.size:
            raise ValueError("no numbers")
    return found


def deviations(x: Array | LazyArray) -> Array:
    """The standard deviation of every coordinate over all inputs, (dim,) float64."""
    mean = total = np.zeros(int(np.prod(x.shape[1:])))
    for low in range(0, len(x), BLOCK):  # Chan's update, block by block
        rows = np.asarray(x[low : low + BLOCK], dtype=np.float64).reshape(-1, mean.size)
        new, apart = low + len(rows), rows.mean(axis=0) - mean
        total = total + ((rows - rows.mean(axis=0)) ** 2).sum(axis=0)
        total = total + apart**2 * (low * len(rows) / new)
        mean = mean + apart * (len(rows) / new)
    found: Array = np.sqrt(total / len(x))
    return found
