"""Inputs with targets that are no single class: values of a regression, maps of classes."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cert_core as cc
from cert_models.data.datasets import Dataset, load
from cert_models.data.formats import LazyArray
from cert_models.files.reading import reading

Array = np.ndarray[Any, np.dtype[Any]]
TASKS = ("regression", "segmentation")
KIND, REMEDY = "an .npz file with an array x, and y if known", "write it with numpy.savez"


@dataclass(frozen=True)
class Targets:
    """N inputs, and what is right of each, where that is known.

    Attributes
    ----------
    inputs : Dataset, each of class 0
    y : (N, *outputs) float64 values or int64 classes, or None
    """

    inputs: Dataset
    y: Array | None

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def name(self) -> str:
        return self.inputs.name

    @property
    def x(self) -> Array | LazyArray:
        """(N, *input_shape) floats."""
        return self.inputs.x


def _inputs(name: str, x: Array | LazyArray) -> Dataset:
    return Dataset(name, x, np.zeros(len(x), dtype=np.int64), 2)


def load_targets(name: str, task: str) -> Targets:
    """Load inputs for a task by their command-line name.

    Parameters
    ----------
    name : FILE.npz, with arrays x (N, ...) and, if known, y (N, ...): real values, or whole
        numbers of classes; or any other name of cert_models.data.datasets.load, of which only
        the inputs are taken
    task : "regression" or "segmentation"

    Raises
    ------
    ValueError
        No such data, or targets that are none of the task.
    """
    if not name.endswith(".npz"):
        found = load(name)
        return Targets(_inputs(found.name, found.x), None)
    with reading("data", KIND, name, REMEDY), open(name, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("no archive")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            x, y = archive["x"], archive["y"] if "y" in archive.files else None
    if x.ndim < 2:
        raise cc.errors.fail("data", "of an x of shape (N, ...)", x.shape, f"check {name!r}")
    inputs = _inputs(Path(name).name, x)
    return Targets(inputs, None if y is None else _targets(y, len(x), task, name))


def _targets(y: Array, count: int, task: str, name: str) -> Array:
    remedy = f"check y in {name!r}, or leave it out"
    if y.shape[:1] != (count,):
        raise cc.errors.fail("targets", f"of the {count} inputs", y.shape, remedy)
    if task == "segmentation":
        return cc.errors.whole_numbers("targets", y, cc.votes.CLASSES - 1, remedy=remedy)
    return cc.errors.array("targets", y, "numbers, none NaN", lambda v: v == v, remedy=remedy)
