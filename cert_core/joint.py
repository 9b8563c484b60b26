"""Many labels that are right at once: pixels, the labels of an input, a data set.

Each component has a class, chosen by the selection stage, and the hypothesis that its
probability is p_min(radius) or less, against which its estimation votes have an exact
binomial p-value.  Holm's procedure rejects hypotheses so that a true one is among them with
probability alpha at most, whatever the dependence of the components: of all that share a
noisy copy too.  What is not rejected abstains.

Memory: selected_labels holds the components x classes of one input, label_votes one count a
component.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import special

from cert_core.bounds import required_probability
from cert_core.certificates import ABSTAIN, drawn_under, two_samples
from cert_core.confidence import Counts
from cert_core.errors import (
    MOST_VOTES,
    Float,
    check_callable,
    fail,
    size,
    to_numpy,
    whole_numbers,
)
from cert_core.errors import alpha as alpha_value
from cert_core.noises import Noise
from cert_core.provenance import check_apart, counted
from cert_core.scores import by_input
from cert_core.threats import radius_value
from cert_core.votes import (
    CLASSES,
    check_labels,
    class_count,
    drawn_by,
    input_rows,
    sample_count,
)

MARGIN = 1e-9  # by which a p-value is rounded up, relatively: above the errors of its tail
LEAST = 1e-290  # no p-value is smaller: below it a tail underflows


def certify_jointly(
    counts_selection: Any,
    counts_estimation: Any,
    noise: Noise,
    attack: str,
    radius: float,
    *,
    alpha: float,
) -> Counts:
    """Certify labels that are all right at once, at one radius fixed beforehand.

    Parameters
    ----------
    counts_selection, counts_estimation : (M, C) integer arrays
        Votes of the M components for C classes in two independent samples; the components
        may depend on each other.
    noise : Noise
        The noise the votes were cast under.
    attack : "l1", "l2" or "linf"
    radius : float >= 0, in input units
        Fixed before the votes were seen.
    alpha : float in (0, 1/2]
        Probability that any of the labels is wrong, at most.

    Returns
    -------
    (M,) int64
        Labels, or ABSTAIN: with probability 1 - alpha every label here is the smoothed
        classifier's at every perturbed input.

    Raises
    ------
    UnsupportedPair
    ValueError
        Counts that are no votes or do not sum alike, or an argument out of its domain.

    References
    ----------
    Holm 1979; Fischer et al. 2021, Section 4 (Gaussian, l2).

    Examples
    --------
    >>> selection, estimation = np.array([[45, 5], [9, 41]]), np.array([[900, 100], [200, 800]])
    >>> cc.certify_jointly(selection, estimation, cc.Gaussian(4, 0.5), "l2", 0.25, alpha=0.001)
    array([0, 1])
    """
    selection, estimation, _, n, _ = two_samples(counts_selection, counts_estimation, noise)
    labels = selection.argmax(axis=1)
    votes = np.take_along_axis(estimation, labels[:, None], axis=1)[:, 0]
    return certify_labels_jointly(labels, votes, max(n, 1), noise, attack, radius, alpha=alpha)


def certify_labels_jointly(
    labels: Any, votes: Any, n: int, noise: Noise, attack: str, radius: float, *, alpha: float
) -> Counts:
    """Certify chosen labels that are all right at once, by the votes for them alone.

    Parameters
    ----------
    labels : (...) integer array
        The class of each component, chosen without the votes, as of selected_labels.
    votes : (...) integer array
        Votes for it out of n, as of label_votes.
    n : int >= 1
        Estimation samples.
    noise, attack, radius, alpha
        As in certify_jointly.

    Returns
    -------
    (...) int64
        Labels, or ABSTAIN.

    Raises
    ------
    UnsupportedPair
    ValueError
        Labels or votes that are none, that say they are of the same samples or of another
        noise, or an argument out of its domain.

    References
    ----------
    Holm 1979; Fischer et al. 2021, Section 4 (Gaussian, l2).

    Examples
    --------
    >>> labels, votes = np.array([[0, 1], [1, 1]]), np.array([[990, 995], [560, 1000]])
    >>> certified = cc.joint.certify_labels_jointly
    >>> certified(labels, votes, 1000, cc.Gaussian(4, 1.0), "l2", 0.5, alpha=0.001)
    array([[ 0,  1],
           [-1,  1]])
    """
    level, r = alpha_value(alpha), radius_value(radius)
    needed = float(required_probability(noise, attack, r))
    n = size("n", n, 1, MOST_VOTES, remedy="pass how many samples voted")
    table = whole_numbers("votes", votes, n, remedy="pass votes for one class out of n samples")
    chosen = whole_numbers("labels", labels, CLASSES - 1, remedy="pass one class a component")
    if chosen.shape != table.shape:
        raise fail("labels", f"of the shape {table.shape} of votes", chosen.shape, "pass both")
    remedy = "choose the labels by the selection stage: by the same votes they are chosen too well"
    check_apart("votes", "of other samples than labels", drawn_under(noise, labels, votes), remedy)
    right = _holm(p_values(table.reshape(-1), n, needed), level).reshape(table.shape)
    return np.where(right, chosen, ABSTAIN)


def p_values(votes: Counts, n: int, p: float) -> Float:
    """P(Bin(n, p) >= votes), never below it."""
    distinct, place = np.unique(votes, return_inverse=True)
    tail = special.betainc(np.maximum(distinct, 1), n - distinct + 1, p)
    values = np.where(distinct == 0, 1.0, tail * (1.0 + MARGIN))
    result: Float = np.clip(values, LEAST, 1.0)[place]
    return result


def _holm(p: Float, alpha: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which hypotheses are rejected: in order of their p-values, until one is above alpha
    over the number of those left."""
    order = np.argsort(p, kind="stable")
    kept = ~(p[order] <= alpha / np.arange(len(p), 0, -1.0))
    rejected = np.zeros(len(p), dtype=bool)
    rejected[order[: kept.argmax() if kept.any() else len(p)]] = True
    return rejected


def _label_maps(
    predict: Callable[[Any], Any],
    x: Any,
    noise: Noise,
    num_classes: int,
    n: int,
    seed: int,
    **options: Any,
) -> Iterator[tuple[int, Counts, Any]]:
    """by_input of a function's labels."""
    check_callable("predict", predict)

    def judge(batch: Any) -> Counts:
        maps = to_numpy("predict(batch)", predict(batch))
        return check_labels(maps.reshape(-1), maps.size, num_classes).reshape(maps.shape)

    return by_input(judge, x, noise, n, seed, **options)


def selected_labels(
    predict: Callable[[Any], Any],
    x: Any,
    noise: Noise,
    num_classes: int,
    n: int,
    seed: int,
    **options: Any,
) -> Counts:
    """Choose the class of every component of every input by the votes of the selection stage.

    Parameters
    ----------
    predict : callable
        Maps a float32 array (m, *input_shape) to (m, *outputs) integer labels: maps of a
        segmentation, or 0 and 1 for each of many labels; each row judged by itself.
    x, noise, num_classes, n, seed
        As in count_votes.
    **options
        indices, batch_size, backend, start, sound, progress, as in count_votes.

    Returns
    -------
    (N, *outputs) int64
        The most voted class, the first of those with most.  It remembers its samples, and
        is refused with votes of the same ones.

    Raises
    ------
    ValueError
        An argument is out of its domain, or predict returns no labels.

    Examples
    --------
    >>> predict = lambda batch: (batch > 0.5).astype(int)  # a label a coordinate
    >>> cc.joint.selected_labels(predict, [[0.9, 0.1]], cc.Gaussian(2, 0.1), 2, 50, 0)
    CountedVotes([[1, 0]])
    """
    classes, n = class_count(num_classes), sample_count("n", n, noise)
    count = len(input_rows(x, noise, options.get("sound")))
    drawn = drawn_by(noise, count, n, seed, stage="selection", **options)
    chosen: list[Counts] = []
    table, seen = np.zeros((0, classes), dtype=np.int64), 0
    how = {"stage": "selection", **options}
    for _, maps, failed in _label_maps(predict, x, noise, classes, n, seed, **how):
        rows = maps.reshape(len(maps), -1)[~failed]
        table = table if seen else np.zeros((rows.shape[1], classes), dtype=np.int64)
        cells = np.arange(rows.shape[1]) * classes + rows
        table += np.bincount(cells.reshape(-1), minlength=table.size).reshape(table.shape)
        seen += len(maps)
        if seen == n:  # the last of an input
            chosen.append(table.argmax(axis=1).reshape(maps.shape[1:]))
            seen = 0
    return counted(np.array(chosen, dtype=np.int64), drawn)


def label_votes(
    predict: Callable[[Any], Any],
    x: Any,
    noise: Noise,
    num_classes: int,
    labels: Any,
    n: int,
    seed: int,
    **options: Any,
) -> Counts:
    """Count the estimation votes for one class of every component of every input.

    Parameters
    ----------
    predict, x, noise, num_classes, n, seed, **options
        As in selected_labels.
    labels : (N, *outputs) integer array
        The class of each component, as of selected_labels.

    Returns
    -------
    (N, *outputs) int64
        Votes out of n, of which copies that FAILed in sound mode give none: what
        certify_labels_jointly needs, at any radius fixed beforehand.

    Raises
    ------
    ValueError
        An argument is out of its domain, or predict returns no labels.

    Examples
    --------
    >>> predict = lambda batch: (batch > 0.5).astype(int)  # a label a coordinate
    >>> x, noise = np.array([[0.9, 0.1]]), cc.Gaussian(2, 0.1)
    >>> cc.joint.label_votes(predict, x, noise, 2, [[1, 0]], 100, 0)
    CountedVotes([[100, 100]])
    """
    classes, n = class_count(num_classes), sample_count("n", n, noise)
    count = len(input_rows(x, noise, options.get("sound")))
    drawn = drawn_by(noise, count, n, seed, stage="estimation", **options)
    remedy = "pass what selected_labels returned"
    chosen = whole_numbers("labels", labels, classes - 1, remedy=remedy)
    if chosen.shape[:1] != (count,):
        raise fail("labels", f"of the {count} inputs", chosen.shape, remedy)
    votes = np.zeros(chosen.shape, dtype=np.int64)
    how = {"stage": "estimation", **options}
    for i, maps, failed in _label_maps(predict, x, noise, classes, n, seed, **how):
        if maps.shape[1:] != chosen.shape[1:]:
            rule = f"a label for each of the outputs {chosen.shape[1:]} of labels"
            raise fail("predict(batch)", rule, maps.shape[1:], "choose labels of this function")
        votes[i] += (maps == chosen[i])[~failed].sum(axis=0)
    return counted(votes, drawn)
