"""One-sided confidence bounds on a class probability, from votes or from scores.

All are for independent samples of one law, their number n fixed in advance.

===========================  ===================  ====================================
bound                        data                 when
===========================  ===================  ====================================
binomial_lower, _upper       hard votes (0 or 1)  exact: the one for votes
betting_lower                scores in [0, 1],    the tightest for scores; needs the
                             in order of arrival  scores themselves
chernoff_lower               a mean of scores     only the mean is known
empirical_bernstein_lower    a mean and variance  only these two are known
hoeffding_lower              a mean of scores     to compare with: never tighter than
                                                  chernoff_lower
===========================  ===================  ====================================

Choosing the largest of several bounds after seeing the data needs split_alpha.  Votes
that are looked at while they come in need cert_core.sequential.tests instead.

A binomial bound is proved where it is found: the tail there, with its error (tails.py), is at
most alpha.  The others are nudged outwards by 1e-10 of their distance to the far end and 1e-14
more, above the rounding of their formulas.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np
from scipy import special

from cert_core.errors import (
    MOST_VOTES,
    Float,
    Number,
    alpha,
    array,
    broadcast,
    fail,
    items,
    positive,
    real,
    scalar,
    vote_table,
)
from cert_core.tails import EPS, log_lower, log_unanimous

Counts = np.ndarray[Any, np.dtype[np.int64]]
LogBound = Callable[[Float, Float, float], Float]

NUDGE = 1e-10
STEP = 1e-14


def counts_of(k: Any, n: Any) -> tuple[Counts, Counts]:
    """k and n as broadcast int64 arrays with 0 <= k <= n, n >= 1."""
    votes, total = broadcast(k=vote_table("k", k), n=vote_table("n", n))
    if (total < 1).any():
        raise fail("n", ">= 1", int(total.min()), "draw at least one sample")
    if (votes < 0).any() or (votes > total).any():
        wrong = votes[(votes < 0) | (votes > total)]
        raise fail("k", "between 0 and n", int(wrong.flat[0]), "pass votes out of n samples")
    return votes, total


def largest(rejected: Callable[[Float], Any], high: Float, steps: int = 60) -> Float:
    """The largest p in [0, high] that is rejected (as is every smaller one), less at most
    high/2^steps; 0 if none is."""
    low = np.zeros(np.shape(high))
    for _ in range(steps):
        middle = 0.5 * (low + high)
        inside = np.asarray(rejected(middle))
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return low


@overload
def binomial_lower(k: Number, n: Number, alpha: float) -> float: ...


@overload
def binomial_lower(k: Any, n: Any, alpha: float) -> Float: ...


def binomial_lower(k: Any, n: Any, alpha: float) -> Any:
    """Bound a success probability from below (one-sided Clopper-Pearson).

    Parameters
    ----------
    k, n : int or integer arrays, 0 <= k <= n
        Successes among n independent trials; they broadcast.
    alpha : float in (0, 1/2]
        Probability that the bound exceeds the truth, at most.

    Returns
    -------
    float or array
        Never above the exact bound, and within 1e-9 of its standard error or 3 ulp; 0.0
        where k = 0 and where it underflows.

    Raises
    ------
    ValueError
        An argument out of its domain, such as n >= 2^53: float64 does not tell such counts
        apart.

    References
    ----------
    Clopper and Pearson 1934; Cohen et al. 2019, Section 3.2.

    Examples
    --------
    >>> round(cc.binomial_lower(950, 1000, 0.001), 4)
    0.925
    """
    level = _alpha(alpha)
    votes, total = counts_of(k, n)
    return scalar(below_exp(where_votes(log_lower, votes, total, level)))


def where_votes(bound: LogBound, votes: Counts, total: Counts, level: float) -> Float:
    """bound(votes, total, level), the log of a lower bound; -inf without votes."""
    k, n = votes.ravel(), total.ravel()
    order = np.lexsort((k, n))
    k, n = k[order], n[order]
    new = np.concatenate((np.ones(min(len(k), 1), bool), (k[1:] != k[:-1]) | (n[1:] != n[:-1])))
    k, n = k[new].astype(float), n[new].astype(float)  # each pair once
    distinct, some = np.full(k.shape, -np.inf), k > 0
    if some.any():
        distinct[some] = bound(k[some], n[some], level)
    result = np.empty(votes.size)
    result[order] = distinct[np.cumsum(new) - 1]
    return result.reshape(votes.shape)


def below_exp(y: Float) -> Float:
    """exp y, rounded down, its complement's digits kept; 0 where doubles end."""
    near_one = 1.0 + np.expm1(y) * (1.0 + 2.0 * EPS)
    value = np.where(y > -0.5, near_one, np.exp(y) * (1.0 - 2.0 * EPS))
    return np.maximum(np.nextafter(value, -1.0), 0.0)


@overload
def binomial_upper(k: Number, n: Number, alpha: float) -> float: ...


@overload
def binomial_upper(k: Any, n: Any, alpha: float) -> Float: ...


def binomial_upper(k: Any, n: Any, alpha: float) -> Any:
    """Bound a success probability from above (one-sided Clopper-Pearson).

    Parameters
    ----------
    k, n : int or integer arrays, 0 <= k <= n
    alpha : float in (0, 1/2]
        Probability that the bound is below the truth, at most.

    Returns
    -------
    float or array
        Never below the exact bound, and as near to it as binomial_lower's; 1.0 where k = n.

    Raises
    ------
    ValueError
        An argument out of its domain.

    References
    ----------
    Clopper and Pearson 1934.

    Examples
    --------
    >>> round(cc.binomial_upper(50, 1000, 0.001), 4)
    0.075
    """
    level = _alpha(alpha)
    votes, total = counts_of(k, n)
    return scalar(above_rest(where_votes(log_lower, total - votes, total, level)))


def above_rest(y: Float) -> Float:
    """1 - exp y, rounded up."""
    return np.minimum(np.nextafter(-np.expm1(y) * (1.0 + 2.0 * EPS), 2.0), 1.0)


_alpha = alpha


def votes_needed(alpha: float, threshold: float = 0.5) -> int:
    """Count the unanimous votes that put the lower bound above a threshold.

    Parameters
    ----------
    alpha : float in (0, 1/2]
    threshold : float in (0, 1)

    Returns
    -------
    int
        The least n with binomial_lower(n, n, alpha) > threshold.

    Raises
    ------
    ValueError
        An argument out of its domain, or 2^53 votes would not suffice.

    Examples
    --------
    >>> cc.confidence.votes_needed(0.001)
    10
    """
    level = _alpha(alpha)
    rule, remedy = "a number in (0, 1)", "pass the probability to exceed"
    goal = real("threshold", threshold, rule, lambda x: 0 < x < 1, remedy=remedy)
    exact = math.ceil(math.log(level) / math.log(goal))  # and near 1 more, to outweigh rounding
    sizes = range(1, min(4 * exact + 1, MOST_VOTES) + 1)
    short = bisect_right(sizes, goal, key=lambda n: float(below_exp(log_unanimous(n, level))))
    if short == len(sizes):
        raise fail("threshold", "in reach of fewer than 2^53 votes", threshold, "pass a lower one")
    return sizes[short]


def majority_p_value(top: Any, second: Any) -> Any:
    """Two-sided p-value of the exact binomial test that two classes are equally likely.

    top >= second are the votes of the two classes (integer arrays broadcast); the test of
    Cohen et al. 2019's PREDICT.
    """
    first, total = counts_of(top, np.asarray(top) + np.asarray(second))
    tail = special.betainc(np.maximum(first, 1), total - first + 1, 0.5)
    depth = -np.log(np.maximum(tail, 1e-308))
    # above its error, which is 1e-15 sqrt(n) below 2^53, and 2e-15 of its logarithm far out
    tail *= 1.0 + 4e-15 * np.sqrt(total) + 1e-14 * depth
    return scalar(np.where(2 * first <= total, 1.0, np.minimum(2.0 * tail, 1.0)))


def split_alpha(alpha: float, shares: Sequence[float]) -> tuple[float, ...]:
    """Split a failure probability among several claims (union bound: no independence needed).

    Parameters
    ----------
    alpha : float in (0, 1/2]
        Probability that any of the claims fails, at most.
    shares : positive numbers, their weights

    Returns
    -------
    tuple of float
        In the ratio of the shares; the sum is never above alpha.

    Raises
    ------
    ValueError
        An argument out of its domain.

    Examples
    --------
    >>> [round(share, 5) for share in cc.confidence.split_alpha(0.001, [1, 3])]
    [0.00025, 0.00075]
    """
    level = _alpha(alpha)
    remedy = "pass the weight of every claim, e.g. [1, 1]"
    given = items("shares", shares, "a sequence of weights", remedy=remedy)
    weights = [positive("shares", share, remedy=remedy) for share in given]
    if not weights:
        raise fail("shares", "not empty", given, remedy)
    total = math.fsum(weights)
    return tuple(math.nextafter(level * (w / total) * (1.0 - 4e-16), 0.0) for w in weights)


def _means(mean: Any, n: Any) -> tuple[Float, Counts]:
    """mean and n as broadcast arrays, mean in [0, 1] and n >= 1."""
    remedy = "pass the mean of scores in [0, 1]"
    values = array("mean", mean, "in [0, 1]", lambda x: (x >= 0) & (x <= 1), remedy=remedy)
    _, total = counts_of(0, n)
    pair = broadcast(mean=values, n=total)
    return pair[0], pair[1]


@overload
def hoeffding_lower(mean: Number, n: Number, alpha: float) -> float: ...


@overload
def hoeffding_lower(mean: Any, n: Any, alpha: float) -> Float: ...


def hoeffding_lower(mean: Any, n: Any, alpha: float) -> Any:
    """Bound the mean of scores in [0, 1] from below by Hoeffding's inequality.

    Valid for any independent scores in [0, 1]; chernoff_lower is never lower.

    Parameters
    ----------
    mean : float or array in [0, 1], of n scores; n : int or integer array >= 1
    alpha : float in (0, 1/2]
        Probability that the bound exceeds the truth, at most.

    Returns
    -------
    float or array
        mean - sqrt(log(1/alpha) / 2n), rounded down; 0.0 where that is negative.

    Raises
    ------
    ValueError
        An argument out of its domain.

    References
    ----------
    Hoeffding 1963, Theorem 1.

    Examples
    --------
    >>> round(cc.confidence.hoeffding_lower(0.9, 1000, 0.001), 4)
    0.8412
    """
    level = _alpha(alpha)
    values, total = _means(mean, n)
    return scalar(np.maximum(values - np.sqrt(-math.log(level) / (2.0 * total)) - STEP, 0.0))


@overload
def chernoff_lower(mean: Number, n: Number, alpha: float) -> float: ...


@overload
def chernoff_lower(mean: Any, n: Any, alpha: float) -> Float: ...


def chernoff_lower(mean: Any, n: Any, alpha: float) -> Any:
    """Bound the mean of scores in [0, 1] from below by the Chernoff bound (relative entropy).

    Valid for any independent scores in [0, 1].

    Parameters
    ----------
    mean, n, alpha
        As in hoeffding_lower.

    Returns
    -------
    float or array
        The least q with n KL(mean || q) < log(1/alpha), rounded down.

    Raises
    ------
    ValueError
        An argument out of its domain.

    References
    ----------
    Hoeffding 1963, Eq. 2.1.

    Examples
    --------
    >>> round(cc.confidence.chernoff_lower(0.9, 1000, 0.001), 4)
    0.8611
    """
    level = -math.log(_alpha(alpha))
    values, total = _means(mean, n)

    def rejected(q: Float) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = special.rel_entr(values, q) + special.rel_entr(1.0 - values, 1.0 - q)
        return total * (entropy - 1e-15) >= level

    exact = largest(rejected, values)
    return scalar(np.maximum(exact - NUDGE * (1.0 - exact) - STEP, 0.0))


@overload
def empirical_bernstein_lower(mean: Number, variance: Number, n: Number, alpha: float) -> float: ...


@overload
def empirical_bernstein_lower(mean: Any, variance: Any, n: Any, alpha: float) -> Float: ...


def empirical_bernstein_lower(mean: Any, variance: Any, n: Any, alpha: float) -> Any:
    """Bound the mean of scores in [0, 1] from below by their own variance.

    Valid for any independent scores in [0, 1].

    Parameters
    ----------
    mean : float or array in [0, 1]
    variance : float or array >= 0
        The unbiased sample variance (divided by n - 1).
    n : int or integer array >= 2
    alpha : float in (0, 1/2]
        Probability that the bound exceeds the truth, at most.

    Returns
    -------
    float or array
        Rounded down; 0.0 where negative.

    Raises
    ------
    ValueError
        An argument out of its domain.

    References
    ----------
    Maurer and Pontil 2009, Theorem 4.

    Examples
    --------
    >>> round(cc.confidence.empirical_bernstein_lower(0.9, 0.01, 1000, 0.001), 4)
    0.8699
    """
    level = math.log(2.0) - math.log(_alpha(alpha))
    values, total = _means(mean, n)
    if (total < 2).any():
        raise fail("n", ">= 2", int(total.min()), "a variance needs two scores")
    remedy = "pass the sample variance of the scores"
    spread = array("variance", variance, ">= 0", lambda x: x >= 0, remedy=remedy)
    values, total, spread = broadcast(mean=values, n=total, variance=spread)
    width = np.sqrt(2.0 * spread * level / total) + 7.0 * level / (3.0 * (total - 1.0))
    return scalar(np.maximum(values - width * (1.0 + 1e-14) - STEP, 0.0))


def betting_lower(scores: Any, alpha: float) -> Any:
    """Bound the mean of scores in [0, 1] from below by betting against smaller means.

    Valid for independent scores in [0, 1] of one law, given in the order in which they
    came (sorting them voids the bound); adapts to their variance.

    Parameters
    ----------
    scores : (..., n) array in [0, 1], in order of arrival along the last axis
    alpha : float in (0, 1/2]
        Probability that the bound exceeds the truth, at most.

    Returns
    -------
    float or array of shape (...)
        Rounded down.

    Raises
    ------
    ValueError
        An argument out of its domain.

    Notes
    -----
    Against a mean m a player bets lam_t = sqrt(2 log(1/alpha) / (n s2)) on score t, s2 the
    variance of the scores before it and never more than 3/4 of all the money; under a mean
    of m or less the capital is a supermartingale, so by Ville's inequality it ever reaches
    1/alpha with probability alpha at most.  m is rejected if it did.

    References
    ----------
    Waudby-Smith and Ramdas 2024, Section 4 (predictable plug-in bets).

    Examples
    --------
    >>> scores = np.array([0.8, 0.9] * 100)
    >>> round(cc.confidence.betting_lower(scores, 0.001), 2)
    0.81
    """
    level = _alpha(alpha)
    remedy = "pass scores such as softmax values, in the order drawn"
    values = array("scores", scores, "in [0, 1]", lambda x: (x >= 0) & (x <= 1), remedy=remedy)
    if values.ndim == 0 or values.shape[-1] < 1:
        raise fail("scores", "an array of at least one score", np.shape(scores), remedy)
    rows = values.reshape(-1, values.shape[-1])
    lower = np.array([_betting(row, level) for row in rows]).reshape(values.shape[:-1])
    return scalar(lower)


def _betting(scores: Float, alpha: float) -> float:
    """betting_lower of one row; lam m <= 3/4 keeps every factor of the capital positive."""
    n, level = len(scores), -math.log(alpha)
    size = np.arange(1.0, n + 1.0)
    running = (0.5 + np.cumsum(scores)) / (size + 1.0)
    variance = (0.25 + np.cumsum((scores - running) ** 2)) / (size + 1.0)
    before = np.concatenate(([0.25], variance[:-1]))
    bets = np.sqrt(2.0 * level / (n * before))

    def rejected(m: Float) -> Any:
        stakes = np.minimum(bets, 0.75 / max(float(m), 1e-300))
        return np.cumsum(np.log1p(stakes * (scores - m))).max() >= level + 1e-9

    exact = float(largest(rejected, np.array(1.0), steps=36))
    return max(exact - NUDGE * (1.0 - exact) - STEP, 0.0)
