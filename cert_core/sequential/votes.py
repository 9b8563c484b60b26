"""Votes counted until a rule says stop, many inputs at a time.

Sample i of an input is the same noisy copy whatever is drawn beside it, so the votes are
those that a fixed number of samples would have begun with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
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
    Alone,
    Copies,
    Votes,
    answer,
    batch_buffer,
    check_labels,
    class_count,
    input_indices,
    input_rows,
    sample_count,
)

STAGES = ("selection", "estimation")


class _Sampling:
    """The samples of one input: selection first, then look by look."""

    def __init__(
        self, position: int, index: int, key: int, row: Any, classes: int, n0: int
    ) -> None:
        self.position, self.index, self.key, self.row = position, index, key, row
        self.center: Any = None  # the row, where the backend reads it
        self.counts = np.zeros((2, classes), dtype=np.int64)  # selection, estimation
        self.failed = [0, 0]
        self.stage, self.drawn, self.target = 0, 0, n0
        self.label = -1
        self.taken: list[int] = []  # votes at the looks

    def draw(self, out: Any, failed: Any, copies: Copies) -> Callable[[], Any]:
        """What fills the rows with its next copies."""
        if self.center is None:
            self.center = copies.center(self.row)
        start, self.drawn = self.drawn, self.drawn + len(out)
        return partial(
            copies.fill, out, failed, self.key, self.center, start=start,
            stream=kernels.stream_of(STAGES[self.stage]),
        )  # fmt: skip

    def count(self, labels: Counts, failed: Any) -> None:
        """Take the labels of its rows, of which some FAILed."""
        votes = np.bincount(labels[~failed], minlength=self.counts.shape[1])
        self.counts[self.stage] += votes
        self.failed[self.stage] += int(np.count_nonzero(failed))

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

    def votes(self, copies: Copies, seed: int, n0: int) -> Votes:
        """What was counted, once stopped."""
        drawn = tuple(
            Drawn(
                noise=copies.noise, seed=seed, stage=stage, start=0, stop=stop,
                indices=(self.index,), sound=copies.sound,
                failed=() if copies.sound is None else (failed,),
            )
            for stage, stop, failed in zip(STAGES, (n0, self.target), self.failed, strict=True)
        )  # fmt: skip
        return Votes(
            index=self.index, position=self.position, selection=self.counts[0],
            estimation=self.counts[1], looks=tuple(self.taken), drawn=drawn,
            failed=self.failed[1],
        )  # fmt: skip


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
) -> Iterator[Votes]:
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
    Votes
        As inputs stop, which need not be in their order.

    Raises
    ------
    ValueError
        An argument is out of its domain, or predict returns no labels.

    Examples
    --------
    >>> predict = lambda batch: (batch[:, 0] > 0).astype(int)
    >>> stop = lambda position, successes, n: successes > 0.9 * n
    >>> noise = cc.Gaussian(2, 0.5)
    >>> (votes,) = cc.sequential.votes_until(predict, [[1.0, 0.0]], noise, 2, [50, 100], stop, 0)
    >>> votes.looks, votes.estimation
    ((49,), array([ 1, 49]))
    """
    classes = class_count(num_classes)
    check_callable("predict", predict)
    inputs = input_rows(x, noise, sound)
    chosen = input_indices(indices, len(inputs))
    looks = looks_of(looks)
    check_callable("stop", stop)
    for look in looks:
        sample_count("looks", look, noise)
    first = sample_count("n0", n0, noise)
    size = integer("batch_size", batch_size, 1, remedy="pass the rows of a batch")
    waiting = deque(
        _Sampling(i, index, kernels.input_seed(seed, index), row, classes, first)
        for i, (index, row) in enumerate(zip(chosen, inputs, strict=True))
    )
    active: list[_Sampling] = []
    size = min(size, len(inputs) * (first + looks[-1]))
    buffer = batch_buffer(buffer, size, noise.dim)
    failed, copies = np.zeros(size, dtype=bool), Copies(noise, backend, sound)
    own = sound is not None and isinstance(buffer, np.ndarray)  # who brings another looks itself
    judge = Alone(predict) if own else predict
    while active or waiting:
        pieces = list(_pieces(active, waiting, size))
        filled = pieces[-1][-1]
        batch = buffer[:filled].reshape(-1, *inputs.shape[1:])
        draws = [each.draw(buffer[a:b], failed[a:b], copies) for each, a, b in pieces]
        labels = check_labels(answer(judge, draws, batch), filled, classes)
        for each, low, high in pieces:
            each.count(labels[low:high], failed[low:high])
            if each.drawn == each.target and each.advance(looks, stop):
                active.remove(each)
                yield each.votes(copies, seed, first)


def _pieces(
    active: list[_Sampling], waiting: deque[_Sampling], size: int
) -> Iterator[tuple[_Sampling, int, int]]:
    """Inputs and their rows, from and to, of a batch: what each still needs for its next look."""
    filled = 0
    for each in _under_way(active, waiting):
        begin, filled = filled, min(size, filled + each.target - each.drawn)
        yield each, begin, filled
        if filled == size:
            return


def _under_way(active: list[_Sampling], waiting: deque[_Sampling]) -> Iterator[_Sampling]:
    """The inputs under way, oldest first, then new ones, which thereby are under way."""
    yield from list(active)
    while waiting:
        active.append(waiting.popleft())
        yield active[-1]
