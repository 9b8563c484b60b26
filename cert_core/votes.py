"""Votes of any classifier under noise: images -> counts, or scores.

Sample i of an input is the same noisy copy whatever is drawn beside it, so votes counted
while they come in are those that a fixed number of samples would have begun with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cert_core import kernels
from cert_core.confidence import Counts
from cert_core.errors import fail, integer, to_numpy
from cert_core.noises import Noise

Scores = np.ndarray[Any, np.dtype[np.float32]]


def input_rows(x: Any, noise: Noise) -> np.ndarray[Any, np.dtype[np.float32]]:
    """x as float32 of shape (N, *input_shape) with noise.dim values an input."""
    inputs = to_numpy("x", x, np.float32)
    size = int(np.prod(inputs.shape[1:])) if inputs.ndim else 0
    if inputs.ndim < 2 or size != noise.dim:
        rule = f"of shape (n_inputs, ...) with noise.dim = {noise.dim} values an input"
        raise fail("x", rule, inputs.shape, "add the axis of inputs, or use a noise of that dim")
    if not np.isfinite(inputs).all():
        raise fail("x", "finite", "NaN or infinity", "clean the inputs first")
    return inputs


def input_indices(indices: Sequence[int] | None, count: int) -> list[int]:
    """The index of every input in its data set, which names its random stream."""
    chosen = list(range(count)) if indices is None else [int(i) for i in indices]
    if len(chosen) != count or len(set(chosen)) != count:
        rule = f"{count} distinct indices, one an input"
        raise fail("indices", rule, f"{len(chosen)} given", "pass the inputs' places in the data")
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
) -> Iterator[tuple[list[tuple[int, int]], Any]]:
    """Yield n noisy copies of every input, in batches that inputs may share.

    Parameters
    ----------
    As in count_votes.

    Yields
    ------
    (segments, batch)
        batch, (m, *input_shape) float32 with m <= batch_size, holds for each (i, count)
        of segments, in order, count copies of x[i].  The array is reused: copy to keep.
    """
    inputs = input_rows(x, noise)
    chosen = input_indices(indices, len(inputs))
    n = integer("n", n, 1, remedy="pass how many noisy copies to classify")
    batch = integer("batch_size", batch_size, 1, remedy="pass the rows of a batch")
    stream, draw = kernels.stream_of(stage), kernels.backend(backend).draw
    keys = [kernels.input_seed(seed, index) for index in chosen]
    buffer = np.empty((min(batch, n * len(inputs)), noise.dim), dtype=np.float32)
    segments: list[tuple[int, int]] = []
    filled = 0
    for i, center in enumerate(inputs):
        start = 0
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


def check_scores(scores: Any, count: int, num_classes: int) -> Scores:
    """What predict returned, as float32 scores in [0, 1] rounded down, summing to 1 at most."""
    values = to_numpy("predict(batch)", scores, np.float64)
    remedy = "return softmax values, one a class"
    if values.shape != (count, num_classes):
        rule = f"scores of shape ({count}, {num_classes})"
        raise fail("predict(batch)", rule, values.shape, remedy)
    if not ((values >= 0) & (values <= 1)).all():
        wrong = values[~((values >= 0) & (values <= 1))]
        raise fail("predict(batch)", "scores in [0, 1]", float(wrong.flat[0]), remedy)
    sums = values.sum(axis=1, keepdims=True)
    if count and sums.max() > 1 + 1e-4:
        rule = "scores that sum to 1 at most"
        raise fail("predict(batch)", rule, float(sums.max()), remedy)
    values = values / np.maximum(sums, 1.0)
    rounded = values.astype(np.float32)
    down: Scores = np.where(rounded > values, np.nextafter(rounded, np.float32(0)), rounded)
    return down


def mean_scores(
    predict: Callable[[Any], Any],
    x: Any,
    noise: Noise,
    num_classes: int,
    n: int,
    seed: int,
    **options: Any,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Average the scores that a classifier gives to noisy copies of inputs.

    Parameters
    ----------
    predict : callable
        Maps a float32 array (m, *input_shape) to (m, num_classes) scores in [0, 1] that sum
        to 1 at most, each row judged by itself.
    x, noise, num_classes, n, seed, **options
        As in count_votes.

    Returns
    -------
    (N, num_classes) float64

    Raises
    ------
    ValueError
        An argument is out of its domain, or predict returns no such scores.
    """
    classes = integer("num_classes", num_classes, 2, remedy="pass the number of classes")
    sums = np.zeros((len(input_rows(x, noise)), classes))
    for segments, batch in noisy_batches(x, noise, n, seed, **options):
        scores = check_scores(predict(batch), len(batch), classes)
        rows = np.repeat([i for i, _ in segments], [size for _, size in segments])
        np.add.at(sums, rows, scores.astype(np.float64))
    return sums / n


def label_scores(
    predict: Callable[[Any], Any],
    x: Any,
    noise: Noise,
    num_classes: int,
    labels: Any,
    n: int,
    seed: int,
    **options: Any,
) -> Scores:
    """Keep the scores of one class of every input, in the order drawn.

    Parameters
    ----------
    predict, x, noise, num_classes, n, seed, **options
        As in mean_scores.
    labels : (N,) integer array
        The class of each input, chosen without these samples.

    Returns
    -------
    (N, n) float32
        Rounded down; what certify_scores needs, at any alpha and attack.

    Raises
    ------
    ValueError
    """
    classes = integer("num_classes", num_classes, 2, remedy="pass the number of classes")
    count = len(input_rows(x, noise))
    chosen = to_numpy("labels", labels)
    rule = f"a class in [0, {classes}) for each of the {count} inputs"
    whole = np.issubdtype(chosen.dtype, np.integer) and chosen.shape == (count,)
    if not whole or (count and (chosen.min() < 0 or chosen.max() >= classes)):
        raise fail("labels", rule, labels, "pass the argmax of mean_scores")
    kept = np.empty((count, n), dtype=np.float32)
    filled = np.zeros(count, dtype=np.int64)
    for segments, batch in noisy_batches(x, noise, n, seed, **options):
        scores = check_scores(predict(batch), len(batch), classes)
        low = 0
        for i, size in segments:
            kept[i, filled[i] : filled[i] + size] = scores[low : low + size, chosen[i]]
            filled[i] += size
            low += size
    return kept


@dataclass(frozen=True)
class SequentialVotes:
    """One input whose sampling has stopped.

    Attributes
    ----------
    position : int
        Of the input among those given.
    label : int
        The class that the selection votes chose.
    selection, estimation : (num_classes,) int64
        Votes; those of the estimation sum to the look at which the input stopped.
    path : tuple of int
        Estimation votes for the selected class at each look taken.
    """

    position: int
    label: int
    selection: Counts
    estimation: Counts
    path: tuple[int, ...]


class _Path:
    """The samples of one input: selection first, then look by look."""

    def __init__(self, position: int, key: int, classes: int, n0: int) -> None:
        self.position, self.key = position, key
        self.counts = np.zeros((2, classes), dtype=np.int64)  # selection, estimation
        self.stage, self.drawn, self.target = 0, 0, n0
        self.label = -1
        self.taken: list[int] = []

    def advance(self, looks: Sequence[int], stop: Callable[[int, int, int], bool]) -> bool:
        """Go on to the next look, all samples up to the target counted; whether to stop."""
        if self.stage == 0:
            self.label = int(self.counts[0].argmax())
            self.stage, self.drawn = 1, 0
        else:
            self.taken.append(int(self.counts[1, self.label]))
            stopped = stop(self.position, self.taken[-1], self.target)
            if stopped or len(self.taken) == len(looks):
                return True
        self.target = looks[len(self.taken)]
        return False


def votes_until(
    predict: Callable[[Any], Any],
    x: Any,
    noise: Noise,
    num_classes: int,
    looks: Sequence[int],
    stop: Callable[[int, int, int], bool],
    seed: int,
    *,
    n0: int = 100,
    indices: Sequence[int] | None = None,
    batch_size: int = 1000,
    backend: str = "cpu",
) -> Iterator[SequentialVotes]:
    """Count votes until a rule says stop, many inputs at a time in full batches.

    Each batch holds what the inputs under way still need for their next looks; where that
    does not fill it, the next input begins.

    Parameters
    ----------
    predict, x, noise, num_classes, seed, indices, batch_size, backend
        As in count_votes; no result depends on batch_size, nor on the other inputs.
    looks : ascending ints
        Sample sizes at which the rule is asked; sampling ends at the last one.
    stop : callable (position, successes, n) -> bool
        Asked at each look with the votes for the selected class among the first n.
    n0 : int >= 1
        Selection samples an input.

    Yields
    ------
    SequentialVotes
        As inputs stop, which need not be in their order.

    Raises
    ------
    ValueError
        An argument is out of its domain, or predict returns no labels.
    """
    classes = integer("num_classes", num_classes, 2, remedy="pass the number of classes")
    inputs = input_rows(x, noise)
    keys = [kernels.input_seed(seed, index) for index in input_indices(indices, len(inputs))]
    first = integer("n0", n0, 1, remedy="pass how many samples select the class")
    size = integer("batch_size", batch_size, 1, remedy="pass the rows of a batch")
    draw = kernels.backend(backend).draw
    streams = kernels.stream_of("selection"), kernels.stream_of("estimation")
    waiting = deque(_Path(i, key, classes, first) for i, key in enumerate(keys))
    active: list[_Path] = []
    buffer = np.empty((size, noise.dim), dtype=np.float32)
    while active or waiting:
        pieces, filled = [], 0
        for path in _under_way(active, waiting):
            count = min(path.target - path.drawn, size - filled)
            draw(
                noise, count, path.key, start=path.drawn, center=inputs[path.position],
                out=buffer[filled : filled + count], stream=streams[path.stage],
            )  # fmt: skip
            pieces.append((path, filled, filled + count))
            path.drawn += count
            filled += count
            if filled == size:
                break
        labels = check_labels(
            predict(buffer[:filled].reshape(-1, *inputs.shape[1:])), filled, classes
        )
        for path, low, high in pieces:
            path.counts[path.stage] += np.bincount(labels[low:high], minlength=classes)
            if path.drawn == path.target and path.advance(looks, stop):
                active.remove(path)
                yield SequentialVotes(
                    path.position, path.label, path.counts[0], path.counts[1], tuple(path.taken)
                )


def _under_way(active: list[_Path], waiting: deque[_Path]) -> Iterator[_Path]:
    """The inputs under way, oldest first, then new ones, which thereby are under way."""
    yield from list(active)
    while waiting:
        active.append(waiting.popleft())
        yield active[-1]
