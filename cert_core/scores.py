"""Values under noise: the scores in [0, 1] of a classifier (soft votes), or those of any
real-valued function, in the order drawn or by their ranks alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from cert_core.errors import Float, array, check_callable, fail, integers, to_numpy
from cert_core.lattice import Lattice
from cert_core.noises import Noise
from cert_core.provenance import counted
from cert_core.votes import (
    answers,
    class_count,
    drawn_by,
    input_rows,
    new_flags,
    one_class_each,
    rows_of,
    sample_count,
    with_fails,
)

Scores = np.ndarray[Any, np.dtype[np.float32]]


def check_scores(scores: Any, count: int, num_classes: int) -> Scores:
    """What predict returned, as float32 scores in [0, 1] rounded down, summing to 1 at most."""
    remedy = "return softmax values, one a class"
    try:
        values = to_numpy("predict(batch)", scores, np.float64)
    except (TypeError, ValueError) as error:
        got = f"{type(scores).__name__} ({str(error).splitlines()[0]})"
        raise fail("predict(batch)", "an array of scores", got, remedy) from error
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
        Copies that FAILed in sound mode score 0 for every class.

    Raises
    ------
    ValueError
        An argument is out of its domain, or predict returns no such scores.

    Examples
    --------
    >>> predict = lambda batch: np.stack([1 - batch[:, 0], batch[:, 0]], axis=1).clip(0, 1)
    >>> cc.scores.mean_scores(predict, [[0.5, 0.1]], cc.Gaussian(2, 0.1), 2, 100, 0).round(1)
    array([[0.5, 0.5]])
    """
    classes = class_count(num_classes)
    check_callable("predict", predict)
    inputs = input_rows(x, noise, options.get("sound"))
    sums = np.zeros((len(inputs), classes))
    for segments, said, failed in answers_and_fails(predict, inputs, noise, n, seed, **options):
        scores = check_scores(said, len(failed), classes).astype(np.float64)
        scores[failed] = 0.0
        np.add.at(sums, rows_of(segments), scores)
    return sums / n


def answers_and_fails(
    predict: Callable[[Any], Any],
    x: Any,
    noise: Noise,
    n: int,
    seed: int,
    *,
    batch_size: int = 1000,
    sound: Lattice | None = None,
    **options: Any,
) -> Iterator[tuple[list[tuple[int, int]], Any, Any]]:
    """answers, with the rows of each batch that FAILed: none in float mode."""
    count = len(input_rows(x, noise, sound))
    flags = new_flags(batch_size, count * sample_count("n", n, noise))
    how: dict[str, Any] = {"batch_size": batch_size, "sound": sound, **options}
    given = flags if sound is not None else None
    for segments, said in answers(predict, x, noise, n, seed, failed=given, **how):
        yield segments, said, flags[: sum(copies for _, copies in segments)]


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
        Rounded down, 0 for copies that FAILed in sound mode; what certify_scores needs, at any
        alpha and attack.  It remembers its samples, as votes do.

    Raises
    ------
    ValueError

    Examples
    --------
    >>> predict = lambda batch: np.tile([0.25, 0.75], (len(batch), 1))
    >>> cc.scores.label_scores(predict, [[0.9, 0.1]], cc.Gaussian(2, 0.1), 2, [1], 3, 0)
    CountedVotes([[0.75, 0.75, 0.75]], dtype=float32)
    """
    classes = class_count(num_classes)
    check_callable("predict", predict)
    count = len(input_rows(x, noise, options.get("sound")))
    chosen = one_class_each(labels, count, classes)
    n = sample_count("n", n, noise)
    drawn = drawn_by(noise, count, n, seed, **options)

    def judge(batch: Any) -> Scores:
        return check_scores(predict(batch), len(batch), classes)

    kept = np.empty((count, n), dtype=np.float32)
    filled, lost = np.zeros((2, count), dtype=np.int64)
    for i, scores, failed in by_input(judge, x, noise, n, seed, **options):
        own = np.where(failed, np.float32(0), scores[:, chosen[i]])
        kept[i, filled[i] : filled[i] + len(scores)] = own
        filled[i] += len(scores)
        lost[i] += np.count_nonzero(failed)
    return counted(kept, with_fails(drawn, lost))


def by_input(
    judge: Callable[[Any], Any], x: Any, noise: Noise, n: int, seed: int, **options: Any
) -> Iterator[tuple[int, Any, Any]]:
    """(i, what judge says of some noisy copies of x[i], (m, *outputs), which of them FAILed),
    input by input, in the order drawn; outputs are of one shape."""
    outputs: tuple[int, ...] | None = None
    for segments, said, failed in answers_and_fails(judge, x, noise, n, seed, **options):
        rows = len(failed)
        outputs = said.shape[1:] if outputs is None else outputs
        if said.shape[:1] != (rows,) or said.shape[1:] != outputs:
            shape = (rows, *(outputs if said.ndim else ()))
            remedy = "return one value, or one array of the same shape, for each row"
            raise fail("predict(batch)", f"of shape {shape}", said.shape, remedy)
        low = 0
        for i, copies in segments:
            yield i, said[low : low + copies], failed[low : low + copies]
            low += copies


def _values(
    predict: Callable[[Any], Any], x: Any, noise: Noise, n: int, seed: int, **options: Any
) -> Iterator[tuple[int, Float]]:
    """by_input of a function's values, in float mode."""
    check_callable("predict", predict)
    if options.get("sound") is not None:
        remedy = "count votes or scores, where a copy that FAILed has a worst value"
        raise fail("sound", "None for values that have no worst one", options["sound"], remedy)
    remedy = "return real numbers, clipped where they may overflow"

    def judge(batch: Any) -> Float:
        return array("predict(batch)", predict(batch), "a number", lambda x: x == x, remedy=remedy)

    return ((i, said) for i, said, _ in by_input(judge, x, noise, n, seed, **options))


def sampled_values(
    predict: Callable[[Any], Any], x: Any, noise: Noise, n: int, seed: int, **options: Any
) -> Float:
    """Keep the values that a function takes on noisy copies of inputs, in the order drawn.

    Parameters
    ----------
    predict : callable
        Maps a float32 array (m, *input_shape) to (m, *outputs) real numbers, each row judged
        by itself; infinities are numbers, NaN is none.
    x, noise, n, seed, **options
        As in count_votes.

    Returns
    -------
    (N, *outputs, n) float64
        What percentile_bounds and mean_bounds need.

    Raises
    ------
    ValueError
        An argument is out of its domain, or predict returns no such values.

    Examples
    --------
    >>> predict = lambda batch: batch.sum(axis=1)
    >>> values = cc.scores.sampled_values(predict, [[0.9, 0.1]], cc.Gaussian(2, 0.1), 100, 0)
    >>> values.shape, round(float(np.median(values)), 1)
    ((1, 100), 1.0)
    """
    count = len(input_rows(x, noise, options.get("sound")))
    n = sample_count("n", n, noise)
    kept: Float | None = None
    filled = np.zeros(count, dtype=np.int64)
    for i, values in _values(predict, x, noise, n, seed, **options):
        kept = np.empty((count, *values.shape[1:], n)) if kept is None else kept
        kept[i, ..., filled[i] : filled[i] + len(values)] = np.moveaxis(values, 0, -1)
        filled[i] += len(values)
    return np.empty((count, n)) if kept is None else kept


class _Smallest:
    """The `count` smallest of the values that come along the first axis; no more than about
    twice as many are held, and one batch."""

    def __init__(self, count: int) -> None:
        self.count, self.held = max(count, 1), 0
        self.parts: list[Float] = []

    def add(self, values: Float) -> None:
        self.parts.append(values.copy())
        self.held += len(values)
        if self.held > 2 * self.count:
            least = np.partition(np.concatenate(self.parts), self.count - 1, axis=0)
            self.parts, self.held = [least[: self.count].copy()], self.count

    def ordered(self) -> Float:
        """-inf, and after it the values, ascending."""
        values = np.sort(np.concatenate(self.parts), axis=0)
        return np.concatenate([np.full_like(values[:1], -np.inf), values])


class _Ranks:
    """The values of given ranks among n that come, each sought from the nearer end."""

    def __init__(self, ranks: Sequence[int], n: int) -> None:
        self.ranks, self.n, self.seen = ranks, n, 0
        ends = [(rank, n + 1 - rank) for rank in ranks]
        self.below = _Smallest(max((low for low, high in ends if low < high), default=0))
        self.above = _Smallest(max((high for low, high in ends if low >= high), default=0))

    def add(self, values: Float) -> bool:
        """Whether all n have come."""
        self.below.add(values)
        self.above.add(-values)
        self.seen += len(values)
        return self.seen == self.n

    def values(self) -> list[Float]:
        below, above = self.below.ordered(), -self.above.ordered()
        ends = [(rank, self.n + 1 - rank) for rank in self.ranks]
        return [below[low] if low < high else above[high] for low, high in ends]


def sampled_ranks(
    predict: Callable[[Any], Any],
    x: Any,
    noise: Noise,
    n: int,
    seed: int,
    ranks: Sequence[int],
    **options: Any,
) -> Float:
    """Keep only given ranks of the values that a function takes on noisy copies of inputs.

    Where the ranks are those of percentile_ranks this is percentile_bounds without all n
    values: of each output of one input at a time, about twice the values beyond the ranks,
    on both sides, are held.

    Parameters
    ----------
    predict, x, noise, n, seed, **options
        As in sampled_values.
    ranks : ints in [0, n + 1], counted from 1, the smallest value

    Returns
    -------
    (len(ranks), N, *outputs) float64
        The rank-th smallest values; -inf for rank 0, +inf for rank n + 1.

    Raises
    ------
    ValueError
        An argument is out of its domain, or predict returns no such values.

    Examples
    --------
    >>> predict, noise = lambda batch: batch.sum(axis=1), cc.Gaussian(2, 0.1)
    >>> ranks = cc.percentiles.percentile_ranks(1000, 0.5, noise, "l2", 0.02, alpha=0.001)
    >>> cc.scores.sampled_ranks(predict, [[0.9, 0.1]], noise, 1000, 0, ranks).round(2)
    array([[0.95],
           [1.04]])
    """
    count = len(input_rows(x, noise, options.get("sound")))
    n = sample_count("n", n, noise)
    remedy = "pass ranks such as percentile_ranks returns"
    given = to_numpy("ranks", ranks).reshape(-1).tolist()
    chosen = integers("ranks", given, 0, n + 1, remedy=remedy)
    rows: list[list[Float]] = []
    kept = _Ranks(chosen, n)
    for _, values in _values(predict, x, noise, n, seed, **options):
        if kept.add(values):  # the last of an input
            rows.append(kept.values())
            kept = _Ranks(chosen, n)
    return np.moveaxis(np.array(rows), 0, 1) if rows else np.empty((len(chosen), count))
