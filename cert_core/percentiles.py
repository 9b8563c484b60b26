"""Certificates of real-valued functions: percentiles and means under noise.

An event with probability p at the clean input has one between L(p, r) and
U(p, r) = 1 - L(1 - p, r) at every perturbed input.  Of the event {f(x + z) <= v} this bounds
percentiles, of a function with values in [0, 1] the mean; which holds for every noise.

Percentiles.  v is above every q-quantile at a perturbed input if P(f <= v) > q there, hence
if P(f(x + z) <= v) > U(q) at the clean one.  Of n independent values the k-th smallest has
P(f <= v) at or above the k-th smallest of n uniforms, atoms or not: it is at most U(q) with
probability P(Bin(n, U(q)) >= k) at most.  The least k at which this is alpha/2 or less is
the upper rank; -f at 1 - q gives the lower one.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import numpy as np

from cert_core.bounds import complement_above, complement_below, inverse_bound, lower_bound
from cert_core.channels import check_independent
from cert_core.confidence import betting_lower, binomial_lower
from cert_core.errors import MOST_VOTES, Float, array, fail, real, scalar, size
from cert_core.errors import alpha as alpha_value
from cert_core.noises import Noise
from cert_core.threats import radius_value


def percentile_ranks(
    n: int, share: float, noise: Noise, attack: str, radius: float, *, alpha: float
) -> tuple[int, int]:
    """Find which of n ordered values bound a percentile at every perturbed input.

    Parameters
    ----------
    n : int >= 1
        Values of the function on noisy copies of the clean input.
    share : float in (0, 1)
        Of the percentile: 0.5 for the median.
    noise : Noise
        The noise the values were drawn under.
    attack : "l1", "l2" or "linf"
    radius : float >= 0, in input units
    alpha : float in (0, 1/2]
        Failure probability, half of it for each side.

    Returns
    -------
    lower, upper : int
        Ranks counted from 1, the smallest value; 0 and n + 1 stand for -inf and +inf, where
        no value bounds it.  What sampled_ranks keeps.

    Raises
    ------
    UnsupportedPair, ValueError

    References
    ----------
    Chiang et al. 2020, Section 4 (Gaussian, l2); David and Nagaraja 2003, Section 7.1.

    Examples
    --------
    >>> cc.percentiles.percentile_ranks(1000, 0.5, cc.Gaussian(4, 1.0), "l2", 0.25, alpha=0.001)
    (351, 650)
    """
    n = size("n", n, 1, MOST_VOTES, remedy="pass how many values were drawn")
    remedy = "pass the percentile as a share, 0.5 for the median"
    q = real("share", share, "a number in (0, 1)", lambda x: 0 < x < 1, remedy=remedy)
    level, r = alpha_value(alpha) / 2, radius_value(radius)
    above = float(inverse_bound(q, noise, attack, r))
    below = float(complement_above(np.asarray(lower_bound(q, noise, attack, r))))
    return n + 1 - _rank(n, below, level), _rank(n, above, level)


def _rank(n: int, p: float, level: float) -> int:
    """The least k with P(Bin(n, p) >= k) <= level; n + 1 if there is none."""
    return 1 + bisect_left(
        range(1, n + 1), True, key=lambda k: bool(binomial_lower(k, n, level) >= p)
    )


def ranked(values: Float, ranks: tuple[int, ...]) -> list[Any]:
    """The values of these ranks along the last axis; -inf for 0, +inf for n + 1."""
    n = values.shape[-1]
    inside = sorted({rank - 1 for rank in ranks if 1 <= rank <= n})
    ordered = np.partition(values, inside, axis=-1) if inside else values
    ends = {0: -np.inf, n + 1: np.inf}
    shape = values.shape[:-1]
    return [
        scalar(np.full(shape, ends[rank]) if rank in ends else ordered[..., rank - 1].copy())
        for rank in ranks
    ]


def percentile_bounds(
    samples: Any, share: float, noise: Noise, attack: str, radius: float, *, alpha: float
) -> tuple[Any, Any]:
    """Bound a percentile of a function under noise at every perturbed input.

    The median (share 0.5) of any real-valued function, such as a regression or a
    coordinate of a box: median smoothing.

    Parameters
    ----------
    samples : (..., n) array
        Values of the function on n noisy copies of the clean input, independent along the
        last axis, as of sampled_values; infinities are values like others.
    share, noise, attack, radius
        As in percentile_ranks; fixed before the samples were seen.
    alpha : float in (0, 1/2]
        Failure probability of each pair of bounds.

    Returns
    -------
    lower, upper : floats, or float64 arrays of shape (...)
        With probability 1 - alpha every share-quantile of the function under noise, at every
        perturbed input, lies in [lower, upper].  Values of the sample; -inf or +inf where
        none bounds it: more samples, or a smaller radius, may.

    Raises
    ------
    UnsupportedPair
    ValueError
        NaN, no samples, or an argument out of its domain.

    References
    ----------
    Chiang et al. 2020, Section 4 (Gaussian, l2).

    Examples
    --------
    >>> samples = np.arange(1000.0)  # what a function said of 1000 noisy copies
    >>> cc.percentile_bounds(samples, 0.5, cc.Gaussian(4, 1.0), "l2", 0.25, alpha=0.001)
    (350.0, 649.0)
    """
    remedy = "pass what sampled_values returned"
    values = array("samples", samples, "numbers, none of them NaN", lambda x: x == x, remedy=remedy)
    n = _samples_of(values)
    ranks = percentile_ranks(n, share, noise, attack, radius, alpha=alpha)
    lower, upper = ranked(values, ranks)
    return lower, upper


def _samples_of(values: Float) -> int:
    """The length of the last axis, 1 or more."""
    if values.ndim == 0 or values.shape[-1] < 1:
        rule, remedy = "of shape (..., n), n >= 1", "draw at least one sample"
        raise fail("samples", rule, values.shape, remedy)
    return int(values.shape[-1])


def mean_bounds(
    samples: Any, noise: Noise, attack: str, radius: float, *, alpha: float
) -> tuple[Any, Any]:
    """Bound the mean of a function with values in [0, 1] at every perturbed input.

    Parameters
    ----------
    samples : (..., n) array in [0, 1]
        Values of the function on n noisy copies of the clean input, independent and in the
        order drawn along the last axis, as of sampled_values.
    noise : Noise
        The noise the values were drawn under.
    attack : "l1", "l2" or "linf"
    radius : float >= 0, in input units
    alpha : float in (0, 1/2]
        Failure probability of each pair of bounds, half of it for each side.

    Returns
    -------
    lower, upper : floats, or float64 arrays of shape (...)
        With probability 1 - alpha the mean under noise, at every perturbed input, lies in
        [lower, upper]: L(m, radius) of a lower confidence bound m of the mean, and
        U(M, radius) of an upper one (betting_lower, of the samples and of 1 - samples).

    Raises
    ------
    UnsupportedPair
    ValueError
        Samples outside [0, 1], or an argument out of its domain.

    References
    ----------
    Zhang et al. 2020, Theorem 1, for f with values in [0, 1]; Waudby-Smith and Ramdas 2024.

    Examples
    --------
    >>> samples = np.array([0.8, 0.9] * 500)
    >>> low, high = cc.mean_bounds(samples, cc.Gaussian(4, 1.0), "l2", 0.25, alpha=0.001)
    >>> round(low, 2), round(high, 2)
    (0.77, 0.91)
    """
    remedy = "pass values in [0, 1], e.g. softmax scores, or use percentile_bounds"
    inside = "in [0, 1]"
    values = array("samples", samples, inside, lambda x: (x >= 0) & (x <= 1), remedy=remedy)
    _samples_of(values)
    level, r = alpha_value(alpha) / 2, radius_value(radius)
    check_independent(noise)
    means = betting_lower(values, level), betting_lower(complement_below(values), level)
    lower, rest = (np.asarray(lower_bound(mean, noise, attack, r)) for mean in means)
    return scalar(lower), scalar(complement_above(rest))
