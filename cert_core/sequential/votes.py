"""Votes counted until a rule says stop, many inputs at a time.

Sample i of an input is the same noisy copy whatever is drawn beside it, so the votes are
those that a fixed number of samples would have begun with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from cert_core import kernels
from cert_core.confidence import Counts
from cert_core.errors import check_callable, integer
from cert_core.lattice import Lattice
from cert_core.noises import Noise
from cert_core.provenance import Drawn
from cert_core.sequential.tests import looks_of
from cert_core.votes import (
    Copies,
    answer,
    batch_buffer,
    check_labels,
    class_count,
    input_indices,
    input_rows,
    sample_count,
)

STAGES = ("selection", "estimation")


@dataclass(frozen=True, eq=False)  # arrays have no one truth
class SequentialVotes:
    """One input whose sampling has stopped.

    Attributes
    ----------
    position : int
        Of the input among those given.
    label : int
        The class that the selection votes chose.
    selection, estimation : (num_classes,) int64
        Votes; those of the estimation, and the copies that FAILed, sum to the look at which the
        input stopped.
    path : tuple of int
        Estimation votes for the selected class at each look taken.
    drawn : tuple of Drawn
        The samples of both stages; empty where they are not known.
    failed : int
        Estimation copies that FAILed in sound mode: no votes, but among the samples looked at.
    """

    position: int
    label: int
    selection: Counts
    estimation: Counts
    path: tuple[int, ...]
    drawn: tuple[Drawn, ...] = field(default=(), repr=False)
    failed: int = 0


class _Path:
    """The samples of one input: selection first, then look by look."""

    def __init__(self, position: int, key: int, classes: int, n0: int) -> None:
        self.position, self.key = position, key
        self.center: Any = None  # the input, where the backend reads it
        self.counts = np.zeros((2, classes), dtype=np.int64)  # selection, estimation
        self.failed = [0, 0]
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
    buffer: Any = None,
    sound: Lattice | None = None,
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
    buffer : (batch_size, dim) float32 array, optional
        What is filled and given to predict, as in noisy_batches.
    sound : Lattice, optional
        As in count_votes; a copy that FAILed is no success of those that `stop` is told.

    Yields
    ------
    SequentialVotes
        As inputs stop, which need not be in their order.

    Raises
    ------
    ValueError
        An argument is out of its domain, or predict returns no labels.
    """
    classes = class_count(num_classes)
    check_callable("predict", predict)
    inputs = input_rows(x, noise, sound)
    chosen = input_indices(indices, len(inputs))
    keys = [kernels.input_seed(seed, index) for index in chosen]
    looks = looks_of(looks)
    check_callable("stop", stop)
    for look in looks:
        sample_count("looks", look, noise)
    first = sample_count("n0", n0, noise)
    size = integer("batch_size", batch_size, 1, remedy="pass the rows of a batch")
    streams = [kernels.stream_of(stage) for stage in STAGES]
    waiting = deque(_Path(i, key, classes, first) for i, key in enumerate(keys))
    active: list[_Path] = []
    size = min(size, len(inputs) * (first + looks[-1]))
    buffer = batch_buffer(buffer, size, noise.dim)
    failed, copies = np.zeros(size, dtype=bool), Copies(noise, backend, sound)
    while active or waiting:
        pieces, draws, filled = [], [], 0
        for path in _under_way(active, waiting):
            count = min(path.target - path.drawn, size - filled)
            if path.center is None:
                path.center = copies.center(inputs[path.position])
            part = slice(filled, filled + count)
            draws.append(partial(
                copies.fill, buffer[part], failed[part], path.key, path.center,
                start=path.drawn, stream=streams[path.stage],
            ))  # fmt: skip
            pieces.append((path, filled, filled + count))
            path.drawn += count
            filled += count
            if filled == size:
                break
        batch = buffer[:filled].reshape(-1, *inputs.shape[1:])
        labels = check_labels(answer(predict, draws, batch), filled, classes)
        for path, low, high in pieces:
            fails = failed[low:high]
            path.counts[path.stage] += np.bincount(labels[low:high][~fails], minlength=classes)
            path.failed[path.stage] += int(np.count_nonzero(fails))
            if path.drawn == path.target and path.advance(looks, stop):
                active.remove(path)
                index = (chosen[path.position],)
                drawn = tuple(
                    Drawn(noise, seed, stage, 0, stop_at, index, sound, (lost,) if sound else ())
                    for stage, stop_at, lost in zip(
                        STAGES, (first, path.target), path.failed, strict=True
                    )
                )
                yield SequentialVotes(
                    path.position, path.label, path.counts[0], path.counts[1], tuple(path.taken),
                    drawn, path.failed[1],
                )  # fmt: skip


def _under_way(active: list[_Path], waiting: deque[_Path]) -> Iterator[_Path]:
    """The inputs under way, oldest first, then new ones, which thereby are under way."""
    yield from list(active)
    while waiting:
        active.append(waiting.popleft())
        yield active[-1]
