"""Votes of any classifier under noise: images -> counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from cert_core import kernels
from cert_core.confidence import Counts
from cert_core.errors import fail, integer, to_numpy
from cert_core.noises import Noise, checked_noise


def input_rows(x: Any, noise: Noise) -> np.ndarray[Any, np.dtype[np.float32]]:
    """x as float32 of shape (N, *input_shape) with noise.dim values an input."""
    inputs = to_numpy("x", x, np.float32)
    checked_noise(noise)
    size = int(np.prod(inputs.shape[1:])) if inputs.ndim else 0
    if inputs.ndim < 2 or size != noise.dim:
        rule = f"of shape (n_inputs, ...) with noise.dim = {noise.dim} values an input"
        raise fail("x", rule, inputs.shape, "add the axis of inputs, or use a noise of that dim")
    if not np.isfinite(inputs).all():
        raise fail("x", "finite", "NaN or infinity", "clean the inputs first")
    largest = np.abs(inputs).reshape(len(inputs), size).max(axis=0, initial=0.0)
    least = np.maximum(8.0 * np.spacing(largest).astype(np.float64), 1e-30)
    rms = noise.rms * (np.ones(size) if noise.stretch is None else noise.stretch)
    if not ((least <= rms) & (rms <= 1e30)).all():
        i = int(np.where(rms <= 1e30, least / rms, np.inf).argmax())
        rule = f"between {least[i]:.3g} and 1e30, so that float32 holds inputs up to "
        rule += f"{largest[i]:.3g} + z"
        raise fail("noise.rms", rule, float(rms[i]), "scale inputs and noise alike")
    return inputs


def input_indices(indices: Sequence[int] | None, count: int) -> list[int]:
    """The index of every input in its data set, which names its random stream."""
    remedy = "pass the inputs' places in the data"
    if indices is None:
        return list(range(count))
    chosen = [integer("indices", i, 0, remedy=remedy) for i in indices]
    if len(chosen) != count or len(set(chosen)) != count:
        rule = f"{count} distinct indices, one an input"
        raise fail("indices", rule, f"{len(chosen)} given", remedy)
    return chosen


def check_labels(labels: Any, count: int, num_classes: int) -> Counts:
    """What predict returned, as class numbers."""
    votes = to_numpy("predict(batch)", labels)
    if votes.shape != (count,) or not np.issubdtype(votes.dtype, np.integer):
        rule = f"an integer label for each of the {count} rows"
        got = f"{votes.dtype} of shape {votes.shape}"
        raise fail("predict(batch)", rule, got, "return the argmax over classes")
    if count and (votes.min() < 0 or votes.max() >= num_classes):
        rule = f"labels in [0, {num_classes})"
        worst = int(votes.min()) if votes.min() < 0 else int(votes.max())
        raise fail("predict(batch)", rule, worst, "pass the right num_classes")
    return votes.astype(np.int64)


def one_class_each(labels: Any, count: int, num_classes: int) -> Counts:
    """labels as (count,) int64 class numbers."""
    given = to_numpy("labels", labels)
    rule = f"a class in [0, {num_classes}) for each of the {count} inputs"
    good = given.shape == (count,) and np.issubdtype(given.dtype, np.integer)
    if not good or (count and (given.min() < 0 or given.max() >= num_classes)):
        got = f"{given.dtype} of shape {given.shape}"
        if given.size and given.dtype.kind in "iuf":
            got += f" from {given.min()} to {given.max()}"
        raise fail("labels", rule, got, "pass one class number an input")
    return given.astype(np.int64)


def batch_buffer(buffer: Any, rows: int, dim: int) -> Any:
    """`rows` rows of the buffer given, or a new one of NumPy."""
    if buffer is None:
        return np.empty((rows, dim), dtype=np.float32)
    shape = tuple(buffer.shape)
    if len(shape) != 2 or shape[0] < rows or shape[1] != dim:
        rule = f"of shape ({rows}, {dim}), or with more rows"
        raise fail("buffer", rule, shape, "make room for one batch")
    return buffer[:rows]


def noisy_batches(
    x: Any,
    noise: Noise,
    n: int,
    seed: int,
    *,
    indices: Sequence[int] | None = None,
    batch_size: int = 1000,
    stage: str = "estimation",
    backend: str = "cpu",
    buffer: Any = None,
) -> Iterator[tuple[list[tuple[int, int]], Any]]:
    """Yield n noisy copies of every input, in batches that inputs may share.

    Parameters
    ----------
    As in count_votes; besides
    buffer : (batch_size, dim) float32 array, optional
        What is filled, of any framework whose memory the backend writes: a NumPy array
        (default), for "gpu" one on the device.

    Yields
    ------
    (segments, batch)
        batch, (m, *input_shape) float32 with m <= batch_size, holds for each (i, count)
        of segments, in order, count copies of x[i].  The array is reused: copy to keep.

    Raises
    ------
    ValueError, BackendMissing
    """
    inputs = input_rows(x, noise)
    chosen = input_indices(indices, len(inputs))
    n = integer("n", n, 1, remedy="pass how many noisy copies to classify")
    batch = integer("batch_size", batch_size, 1, remedy="pass the rows of a batch")
    stream, draw = kernels.stream_of(stage), kernels.backend(backend).draw
    keys = [kernels.input_seed(seed, index) for index in chosen]
    buffer = batch_buffer(buffer, min(batch, n * len(inputs)), noise.dim)
    segments: list[tuple[int, int]] = []
    filled = 0
    for i, row in enumerate(inputs):
        start, center = 0, kernels.placed(backend, row)
        while start < n:
            part = buffer[filled : filled + min(n - start, batch - filled)]
            draw(noise, len(part), keys[i], start=start, center=center, out=part, stream=stream)
            segments.append((i, len(part)))
            start, filled = start + len(part), filled + len(part)
            last = i == len(inputs) - 1 and start == n
            if filled == batch or last:
                yield segments, buffer[:filled].reshape(-1, *inputs.shape[1:])
                segments, filled = [], 0


def count_votes(
    predict: Callable[[Any], Any],
    x: Any,
    noise: Noise,
    num_classes: int,
    n: int,
    seed: int,
    *,
    indices: Sequence[int] | None = None,
    batch_size: int = 1000,
    stage: str = "estimation",
    backend: str = "cpu",
) -> Counts:
    """Count the classes a classifier gives to noisy copies of inputs.

    Parameters
    ----------
    predict : callable
        Maps a float32 array (m, *input_shape) to m integer labels.  It must judge each
        row by itself (no batch statistics) and not know the random seed.
    x : (N, *input_shape) array
    noise : Noise, with dim the number of values of one input
    num_classes : int >= 2
    n : int >= 1
        Noisy copies an input.
    seed : int in [0, 2^32)
        Of the run.
    indices : N distinct integers, optional
        Places of the inputs in their data set (default 0 .. N-1).  Input i has its own
        random stream, so any subset gives the counts of the whole.
    batch_size : int
        Rows given to predict at a time; it changes no count.
    stage : "estimation" or "selection"
        The two stages of a certificate draw from disjoint streams.
    backend : "cpu", "reference" or "gpu"

    Returns
    -------
    (N, num_classes) int64
        Each row sums to n.

    Raises
    ------
    ValueError
        An argument is out of its domain, or predict returns no labels.
    """
    classes = integer("num_classes", num_classes, 2, remedy="pass the number of classes")
    counts = np.zeros((len(input_rows(x, noise)), classes), dtype=np.int64)
    batches = noisy_batches(
        x, noise, n, seed, indices=indices, batch_size=batch_size, stage=stage, backend=backend
    )
    for segments, batch in batches:
        labels = check_labels(predict(batch), len(batch), classes)
        rows = np.repeat([i for i, _ in segments], [size for _, size in segments])
        np.add.at(counts, (rows, labels), 1)
    return counts
