"""The long run: inputs -> counts -> certificates, one input at a time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import cert_core as cc
from cert_models.datasets import Dataset
from cert_models.logs import Row
from cert_models.models import load_model

Counter = Callable[..., np.ndarray[Any, np.dtype[np.int64]]]


def counter_of(
    model: Any, noise: cc.Noise, num_classes: int, *, batch_size: int, device: str | None
) -> Counter:
    """Something that counts votes like SmoothedClassifier.counts, of a model or its name.

    A torch module, a function from a float32 array (m, *input_shape) to m labels, or a name
    as load_model takes.
    """
    found = load_model(model, num_classes) if isinstance(model, str) else model
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(found, torch.nn.Module):
        from cert_models.smooth import SmoothedClassifier

        module = found.to(device) if device is not None else found
        smoothed = SmoothedClassifier(
            module, noise, num_classes, batch_size=batch_size, device=device
        )
        return smoothed.counts
    if not callable(found):
        raise ValueError(f"model must be a torch module or a function, got {found!r}: name one")

    def count(x: Any, n: int, seed: int, *, indices: Any = None, stage: str = "estimation") -> Any:
        return cc.count_votes(
            found, x, noise, num_classes, n, seed,
            indices=indices, batch_size=batch_size, stage=stage,
        )  # fmt: skip

    return count


def certify_inputs(
    count: Counter,
    data: Dataset,
    indices: Sequence[int],
    noise: cc.Noise,
    attack: str,
    *,
    n0: int,
    n: int,
    alpha: float,
    seed: int,
) -> Iterator[Row]:
    """Certify the inputs of a data set one by one, as rows of a log."""
    cc.required_probability(noise, attack, 0.0)  # refuse a bad pair before any sampling
    needed = cc.votes_needed(alpha)
    if n < needed:
        raise ValueError(f"n must be at least {needed} for alpha = {alpha}, got {n}: draw more")
    for index in indices:
        begun = time.monotonic()
        x = data.x[index : index + 1]
        selection = count(x, n0, seed, indices=[index], stage="selection")
        estimation = count(x, n, seed, indices=[index], stage="estimation")
        result = cc.certify(selection, estimation, noise, attack, alpha=alpha)
        label, radius = int(result.label[0]), float(result.radius[0])
        yield Row(index, int(data.y[index]), label, radius, time.monotonic() - begun)


def certificates_of(
    rows: Sequence[Row], noise: cc.Noise, attack: str, *, n0: int, n: int, alpha: float
) -> cc.Certificates:
    """The rows as one record (p_lower is not in a log: NaN)."""
    return cc.Certificates(
        np.array([row.predict for row in rows], dtype=np.int64),
        np.array([row.radius for row in rows], dtype=np.float64),
        np.full(len(rows), np.nan),
        alpha, n0, n, noise, attack, cc.is_tight(noise, attack),
    )  # fmt: skip
