"""Digests that tell whether a model or a data set is still the one that a run began with."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cert_models.datasets import Dataset

SAMPLED = 64  # inputs looked at where they are made on demand
BLOCK = 256  # inputs looked at at a time


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:32]


def data_fingerprint(data: Dataset) -> str:
    """Digest of a data set: its labels and shape, and its inputs.

    All inputs where they are in memory; where they are made on demand (from files), that
    of 64 spread over the set: reading all would take minutes.
    """
    count = len(data)
    held = isinstance(data.x, np.ndarray)
    places = np.arange(count) if held else np.unique(np.linspace(0, count - 1, SAMPLED, dtype=int))
    blocks = np.array_split(places, max(1, len(places) // BLOCK))
    inputs = (np.ascontiguousarray(data.x[block]).tobytes() for block in blocks if len(block))
    head = f"{tuple(data.x.shape)} {held}".encode()
    return _digest(head, np.ascontiguousarray(data.y).tobytes(), *inputs)


def model_fingerprint(model: Any, name: str, precision: str | None = None) -> str:
    """Digest of a model; its votes in another precision are those of another classifier.

    A torch module by its structure and every parameter and buffer.  A function by the file
    of the module that its import path names: what that file reads in turn is not seen.
    """
    return _model_digest(model, name) + (f"+{precision}" if precision else "")


def precision_of(fingerprint: str) -> str | None:
    """The precision that a model's fingerprint names."""
    return fingerprint.partition("+")[2] or None


def _model_digest(model: Any, name: str) -> str:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        tensors = sorted([*model.named_parameters(), *model.named_buffers()])
        text = re.sub(r" at 0x[0-9a-f]+", "", repr(model))
        return _digest(text.encode(), *(_tensor_bytes(*pair) for pair in tensors))
    file = getattr(sys.modules.get(name.partition(":")[0]), "__file__", None)
    return _digest(Path(file).read_bytes() if file else name.encode())


def _tensor_bytes(name: str, tensor: Any) -> bytes:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    head = f"{name} {tensor.dtype} {tuple(tensor.shape)}"
    content: bytes = flat.numpy().tobytes()
    return head.encode() + content
