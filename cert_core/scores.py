"""Scores in [0, 1] of any classifier under noise: soft votes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cert_core.errors import EXACT, check_callable, fail, size, to_numpy
from cert_core.noises import Noise
from cert_core.votes import answers, class_count, input_rows, one_class_each

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

    Raises
    ------
    ValueError
        An argument is out of its domain, or predict returns no such scores.
    """
    classes = class_count(num_classes)
    check_callable("predict", predict)
    inputs = input_rows(x, noise)
    sums = np.zeros((len(inputs), classes))
    for segments, said in answers(predict, inputs, noise, n, seed, **options):
        scores = check_scores(said, sum(copies for _, copies in segments), classes)
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
    classes = class_count(num_classes)
    check_callable("predict", predict)
    inputs = input_rows(x, noise)
    count = len(inputs)
    chosen = one_class_each(labels, count, classes)
    n = size("n", n, 1, EXACT, remedy="pass how many noisy copies to score")
    kept = np.empty((count, n), dtype=np.float32)
    filled = np.zeros(count, dtype=np.int64)
    for segments, said in answers(predict, inputs, noise, n, seed, **options):
        scores = check_scores(said, sum(copies for _, copies in segments), classes)
        low = 0
        for i, copies in segments:
            kept[i, filled[i] : filled[i] + copies] = scores[low : low + copies, chosen[i]]
            filled[i] += copies
            low += copies
    return kept
