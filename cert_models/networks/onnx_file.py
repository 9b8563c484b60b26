"""A classifier in an ONNX file, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cert_models.files.reading import first_line, reading

FLOATS = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
}  # fmt: skip


class OnnxNetwork(nn.Module):
    """The graph of an .onnx file as a torch module that gives one score a class.

    Parameters
    ----------
    path : str or Path
        A file with one input of floats: (batch, *input_shape), or (batch, values), which takes
        inputs of any shape, flat.  Where the file fixes the size of a batch, the last one is
        filled up with zeros.  Of its outputs the first of one score a class is taken, a tensor
        or a list of dicts (of scikit-learn's); without any, integer labels.  Scores that sum to
        1 are read as probabilities, and their logarithms given.
    num_classes : int

    Raises
    ------
    ImportError
        ONNX Runtime is not installed.
    ValueError
        Here: the file cannot be read, or it has no such input.  When called: inputs of another
        shape, or no such output.
    """

    def __init__(self, path: str | Path, num_classes: int) -> None:
        super().__init__()
        import onnxruntime

        self._path, self._classes = str(path), num_classes
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what is wrong is raised as well
        with reading("model", "a file that ONNX Runtime reads", path, "export it anew"):
            content = Path(path).read_bytes()
            self._session = onnxruntime.InferenceSession(
                self._path, options, providers=["CPUExecutionProvider"]
            )
        digest = hashlib.sha256(content)
        for beside in weights_beside(content):
            with contextlib.suppress(OSError, ValueError):  # some other text of the file
                digest.update((Path(path).parent / beside).read_bytes())
        self._digest = digest.hexdigest()[:32]
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in FLOATS or len(inputs[0].shape) < 2:
            got = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise self._unfit("of one input of floats, a batch", got or "none")
        self._name, self._dtype = inputs[0].name, FLOATS[inputs[0].type]
        size, *shape = inputs[0].shape
        self._rows = size if isinstance(size, int) else None
        self._shape = [length if isinstance(length, int) else None for length in shape]

    def extra_repr(self) -> str:
        """The content of the file and of those beside it that it names, by which a run knows it."""
        return self._digest

    def _unfit(self, rule: str, got: object) -> ValueError:
        return ValueError(f"model must be {rule}, got {self._path!r} ({got}): export it anew")

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """(m, num_classes) float64 scores of a batch."""
        values = self._placed(batch.cpu().numpy())
        step = self._rows or max(len(values), 1)
        parts = [self._scores(values[low : low + step]) for low in range(0, len(values), step)]
        return torch.from_numpy(np.concatenate(parts)).to(batch.device)

    def _placed(self, values: Any) -> Any:
        """The batch in the type and shape that the file asks for."""
        if len(self._shape) == 1:
            values = values.reshape(len(values), -1)
        given = values.shape[1:]
        fits = len(given) == len(self._shape) and all(
            want in (None, got) for want, got in zip(self._shape, given, strict=True)
        )
        if not fits:
            raise self._unfit(f"for inputs of shape {given}", f"it takes {tuple(self._shape)}")
        return values.astype(self._dtype)

    def _scores(self, values: Any) -> Any:
        """Scores of at most as many rows as the file takes at a time."""
        count = len(values)
        if self._rows:
            values = np.concatenate([values, np.zeros_like(values, shape=(
                self._rows - count, *values.shape[1:]))])  # fmt: skip
        try:
            outputs = self._session.run(None, {self._name: values})
        except Exception as error:  # of a class of its own
            raise self._unfit("one that ONNX Runtime runs", first_line(error)) from error
        named = zip(self._session.get_outputs(), outputs, strict=True)
        read = [(node.name, *self._read(value, len(values))) for node, value in named]
        fitting = [(name, kind, found) for name, kind, found in read if found is not None]
        scores = [(name, found) for name, kind, found in fitting if kind == "scores"] or [
            (name, found) for name, _, found in fitting
        ]
        if not scores:
            shapes = ", ".join(f"{n.name} {n.type} {n.shape}" for n in self._session.get_outputs())
            raise self._unfit(f"of {self._classes} scores a row, or integer labels", shapes)
        if len(scores) > 1:
            warnings.warn(
                f"output {scores[0][0]!r} of {self._path!r} is taken, not {scores[1][0]!r}",
                stacklevel=2,
            )
        return scores[0][1][:count]

    def _read(self, value: Any, rows: int) -> tuple[str, Any]:
        """("scores" or "labels", one score a class), or None for what is neither."""
        if isinstance(value, list) and value and isinstance(value[0], dict):
            classes = list(range(self._classes))
            if any(set(row) != set(classes) for row in value):
                got = f"dicts of {', '.join(map(repr, value[0]))}"
                raise self._unfit(f"of {self._classes} scores a row, by the numbers from 0", got)
            value = np.array([[row[label] for label in classes] for row in value])
        value = np.asarray(value)
        if value.dtype.kind == "f" and value.shape == (rows, self._classes):
            return "scores", _logits(value.astype(np.float64))
        if value.dtype.kind in "iu" and value.size == rows and value.shape[0] == rows:
            labels = value.reshape(rows)
            if not 0 <= labels.min(initial=0) <= labels.max(initial=0) < self._classes:
                raise self._unfit(f"of labels in [0, {self._classes})", labels.max())
            return "labels", _logits(np.eye(self._classes)[labels])
        return "other", None


def weights_beside(content: bytes) -> list[str]:
    """The files that the tensors of an .onnx file lie in: in its encoding, entries of a key
    "location" (field 1) and a value (field 2) of less than 128 bytes."""
    found = re.finditer(rb"\n\x08location\x12([\x00-\x7f])", content)
    names = {content[each.end() : each.end() + each[1][0]] for each in found}
    return [os.fsdecode(name) for name in sorted(names)]


def _logits(scores: Any) -> Any:
    """Each row, or its logarithm where it is a row of probabilities: softmax gives them back."""
    sums = np.abs(scores.sum(axis=1, keepdims=True) - 1) < 1e-3
    probable = sums & (scores >= 0).all(axis=1, keepdims=True)
    return np.where(probable, np.log(np.maximum(scores, 1e-30)), scores)
