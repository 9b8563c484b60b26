"""Votes by shell, and what they certify.

Given N_j, the copies with |z| <= T_j, the class's votes among them are Bin(N_j, a_j/M_j), with
M_j = P(|z| <= T_j) and a_j as in shells.py.  So M_j times a Clopper-Pearson bound at alpha/J is
a lower bound of a_j; all J hold at once with probability 1 - alpha, and so does their running
maximum.  No second sample is drawn, and no noise: the norms are those of the copies voted on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cert_core import kernels
from cert_core.certificates import (
    Certificates,
    certified_record,
    check_sampling,
    two_samples,
)
from cert_core.confidence import Counts, binomial_lower
from cert_core.errors import (
    MOST_VOTES,
    Float,
    check_callable,
    fail,
    integer,
    to_numpy,
    vote_table,
    whole_numbers,
)
from cert_core.errors import alpha as alpha_value
from cert_core.noises import Noise
from cert_core.provenance import CountedVotes, Drawn, counted
from cert_core.shells import checked_thresholds, masses_within, shell_radius
from cert_core.votes import (
    CLASSES,
    Progress,
    answers,
    check_labels,
    class_count,
    drawn_by,
    input_rows,
)

BOUND = "shells"  # of BOUNDS
TOGETHER = 1 << 16  # samples whose norms are taken at a time


def count_shell_votes(
    predict: Callable[[Any], Any],
    x: Any,
    noise: Noise,
    num_classes: int,
    n: int,
    seed: int,
    thresholds: Any,
    *,
    indices: Sequence[int] | None = None,
    batch_size: int = 1000,
    stage: str = "estimation",
    backend: str = "cpu",
    buffer: Any = None,
    start: int = 0,
    progress: Progress | None = None,
) -> CountedVotes:
    """Count the classes a classifier gives to noisy copies of inputs, by the norm of their noise.

    Parameters
    ----------
    predict, x, noise, num_classes, n, seed, indices, batch_size, stage, backend, start, progress
        As in count_votes; the noise of a radial family.
    buffer
        As in noisy_batches.
    thresholds : (J-1,) array, rising
        As in shell_lower_bound: fixed before these votes are counted.

    Returns
    -------
    (N, J, num_classes) int64
        Votes with T_{j-1} < |z| <= T_j; summed over the shells those of count_votes.  The
        table remembers its samples, and its thresholds.

    Raises
    ------
    UnsupportedPair
        A noise without shells.
    ValueError
        An argument is out of its domain, or predict returns no labels.

    Examples
    --------
    >>> noise = cc.Gaussian(2, 0.5)
    >>> predict = lambda batch: (batch[:, 0] > 0).astype(int)
    >>> edges = cc.shell_thresholds(noise, [0.5])
    >>> cc.shell_votes.count_shell_votes(predict, [[0.5, 0.0]], noise, 2, 1000, 0, edges)
    CountedVotes([[[ 10, 448],
                   [152, 390]]])
    """
    classes = class_count(num_classes)
    check_callable("predict", predict)
    edges = checked_thresholds(thresholds, noise)
    given = input_rows(x, noise)
    counts = np.zeros((len(given), len(edges) + 1, classes), dtype=np.int64)
    which: dict[str, Any] = {"indices": indices, "stage": stage, "start": start}
    drawn = drawn_by(noise, len(given), n, seed, **which)
    keys = [kernels.input_seed(seed, index) for index in drawn.indices]
    kernel, stream = kernels.backend(backend), kernels.stream_of(stage)
    shells = np.empty(0, dtype=np.int64)  # of the samples of input i that are next
    at = np.full(len(given), drawn.start)
    for segments, said in answers(
        predict, given, noise, n, seed,
        batch_size=batch_size, backend=backend, buffer=buffer, progress=progress, **which,
    ):  # fmt: skip
        labels, low = check_labels(said, sum(count for _, count in segments), classes), 0
        for i, count in segments:
            if len(shells) < count:  # many at a time: a device is waited for
                more = min(drawn.stop - at[i], max(count, TOGETHER))
                norms = kernel.norms(noise, int(more), keys[i], start=int(at[i]), stream=stream)
                shells = np.searchsorted(edges, to_numpy("norms", norms))
            np.add.at(counts[i], (shells[:count], labels[low : low + count]), 1)
            shells, low, at[i] = shells[count:], low + count, at[i] + count
    return counted(counts, replace(drawn, thresholds=tuple(edges)))


def certify_shells(
    counts_selection: Any,
    counts_by_shell: Any,
    thresholds: Any,
    noise: Noise,
    attack: str,
    *,
    alpha: float = 0.001,
) -> Certificates:
    """Certify inputs from votes told apart by the norm of their noise.

    Parameters
    ----------
    counts_selection : (N, C) integer array
        As in certify.
    counts_by_shell : (N, J, C) integer array
        Estimation votes by shell, as of count_shell_votes.
    thresholds : (J-1,) array, rising
        Those that the votes were counted by, fixed beforehand or chosen by the selection votes;
        chosen by the estimation votes they certify too much.
    noise : Noise, of a radial family
    attack : "l1", "l2" or "linf"
    alpha : float in (0, 1/2]
        Failure probability of each certificate; each of the J masses gets alpha/J.

    Returns
    -------
    Certificates
        An input abstains where the lower bound of its class is not above 1/2.

    Raises
    ------
    UnsupportedPair
        A noise without shells, or a pair without an exact law.
    ValueError
        Counts that are no votes, do not sum alike or were counted by other thresholds.

    References
    ----------
    The texts of this module and of shells.py; Zhang et al. 2020, Theorem 1.

    Examples
    --------
    >>> noise = cc.L2Noise(10, 1.0, k=5)
    >>> edges = cc.shell_thresholds(noise, [0.5])
    >>> by_shell = np.array([[[0, 500], [100, 400]]])  # the inner votes, the outer ones
    >>> made = cc.certify_shells([[5, 45]], by_shell, edges, noise, "l2")
    >>> plain = cc.certify([[5, 45]], by_shell.sum(axis=1), noise, "l2")
    >>> made.radius.round(2), plain.radius.round(2)
    (array([0.84]), array([0.74]))
    """
    edges = checked_thresholds(thresholds, noise)
    table = to_numpy("counts_by_shell", counts_by_shell)
    shells, remedy = len(edges) + 1, "pass what count_shell_votes returned"
    if table.ndim != 3 or table.shape[1] != shells or table.dtype.kind not in "iu":
        rule = f"an (n_inputs, {shells}, n_classes) array of vote counts"
        raise fail("counts_by_shell", rule, f"{table.dtype} of shape {table.shape}", remedy)
    votes_each = table.sum(axis=(1, 2), dtype=np.float64)
    if table.size and (table.min() < 0 or votes_each.max() > MOST_VOTES):
        rule = "of 0 to 2^53 votes an input"
        raise fail("counts_by_shell", rule, int(table.min()), remedy)
    table = table.astype(np.int64)
    drawn: tuple[Drawn, ...] = getattr(counts_by_shell, "drawn", ())
    for each in drawn:
        if each.thresholds != tuple(edges):
            rule = f"those of the votes, {list(each.thresholds)}"
            raise fail("thresholds", rule, edges, "no others: chosen now they might fit the votes")
    whole = counted(table.sum(axis=1), *drawn)
    selection, _, n0, _, stages = two_samples(counts_selection, whole, noise)
    top = selection.argmax(axis=1)
    votes = np.take_along_axis(table, top[:, None, None], axis=2)[:, :, 0]
    made = certify_shell_votes(
        top, votes, table.sum(axis=2), edges, noise, attack, n0=n0, alpha=alpha
    )
    return replace(made, drawn=stages)


def certify_shell_votes(
    labels: Any, votes: Any, samples: Any, thresholds: Any, noise: Noise, attack: str, *,
    n0: int, alpha: float,
) -> Certificates:  # fmt: skip
    """Certify chosen classes by their votes alone, and the samples, of each shell.

    Parameters
    ----------
    labels : (N,) integer array
        The class of each input, chosen without these votes.
    votes, samples : (N, J) integer arrays
        Votes for it, out of so many samples, of each shell.
    n0 : int
        Samples that chose the labels, for the record.
    thresholds, noise, attack, alpha
        As in certify_shells.

    Returns
    -------
    Certificates

    Raises
    ------
    UnsupportedPair, ValueError

    Examples
    --------
    >>> noise = cc.L2Noise(10, 1.0, k=5)
    >>> edges = cc.shell_thresholds(noise, [0.5])
    >>> votes, samples = [[500, 400]], [[500, 500]]
    >>> certify = cc.shell_votes.certify_shell_votes
    >>> certify([1], votes, samples, edges, noise, "l2", n0=50, alpha=0.001).radius.round(2)
    array([0.84])
    """
    level, edges = alpha_value(alpha), checked_thresholds(thresholds, noise)
    cast, drawn = vote_table("votes", votes), vote_table("samples", samples)
    shells, remedy = len(edges) + 1, "pass what was counted"
    selected = integer("n0", n0, 1, remedy="pass how many samples chose the labels")
    top = np.atleast_1d(whole_numbers("labels", labels, CLASSES - 1, remedy="pass class numbers"))
    if cast.shape != (len(top), shells) or drawn.shape != cast.shape or top.ndim != 1:
        rule = f"of the shape ({len(top)}, {shells}) of samples, one row a label"
        raise fail("votes", rule, cast.shape, remedy)
    if ((cast < 0) | (cast > drawn)).any():
        raise fail("votes", "non-negative and no more than samples", int(cast.min()), remedy)
    sums = np.unique(drawn.sum(axis=1))
    if len(sums) > 1 or (len(sums) and not 0 < sums[0] <= MOST_VOTES):
        raise fail("samples", "of one positive number an input", sums.tolist()[:3], remedy)
    n = int(sums[0]) if len(sums) else 0
    if len(sums):
        check_sampling(noise, attack, n, level / shells, bound=BOUND)
    masses = lower_masses(cast, drawn, edges, noise, level)
    radius = np.asarray(shell_radius(masses, edges, noise, attack))
    return certified_record(
        top, masses[:, -1] > 0.5, radius, noise, attack,
        p_lower=masses[:, -1], bound=BOUND, alpha=level, n0=selected, n=n,
    )  # fmt: skip


def lower_masses(
    votes: Counts, samples: Counts, edges: Sequence[float], noise: Noise, alpha: float
) -> Float:
    """(N, J) lower bounds of the cumulative masses, all true at once with probability 1 - alpha."""
    inside, among = votes.cumsum(axis=1), samples.cumsum(axis=1)
    share = np.asarray(binomial_lower(inside, np.maximum(among, 1), alpha / votes.shape[1]))
    least = np.array([low for low, _ in masses_within(noise, edges)])
    found = np.where(among > 0, np.nextafter(least * share, 0.0), 0.0)
    masses: Float = np.maximum.accumulate(found, axis=1)
    return masses
