"""One-sided confidence bounds on a class probability, from votes.

Clopper-Pearson: exact for hard votes.  A bound is nudged outwards by 1e-10 of its
distance to the far end and 1e-14 more, above every error of scipy's Beta quantile seen
against 40-digit arithmetic (6e-15 absolute, 1.4e-11 of 1 - p).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from cert_core.errors import Float, alpha, fail

Counts = np.ndarray[Any, np.dtype[np.int64]]

NUDGE = 1e-10
STEP = 1e-14


def _counts(k: Any, n: Any) -> tuple[Counts, Counts]:
    """k and n as broadcast int64 arrays with 0 <= k <= n, n >= 1."""
    arrays = []
    for name, value in (("k", k), ("n", n)):
        given = np.asarray(value)
        if given.dtype == bool or not np.issubdtype(given.dtype, np.integer):
            raise fail(name, "integers", value, "pass counts of votes")
        arrays.append(given.astype(np.int64))
    votes, total = np.broadcast_arrays(*arrays)
    if (total < 1).any():
        raise fail("n", ">= 1", int(total.min()), "draw at least one sample")
    if (votes < 0).any() or (votes > total).any():
        wrong = votes[(votes < 0) | (votes > total)]
        raise fail("k", "between 0 and n", int(wrong.flat[0]), "pass votes out of n samples")
    return votes, total


def _scalar(value: Float) -> Any:
    return float(value) if value.ndim == 0 else value


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
        Never above the exact bound; 0.0 where k = 0.

    References
    ----------
    Clopper and Pearson 1934; Cohen et al. 2019, Section 3.2.
    """
    level = _alpha(alpha)
    votes, total = _counts(k, n)
    with np.errstate(invalid="ignore"):
        exact = special.betaincinv(np.maximum(votes, 1), total - votes + 1, level)
    exact = np.where(votes == total, np.exp(math.log(level) / total), exact)
    lower = np.maximum(exact - NUDGE * (1.0 - exact) - STEP, 0.0)
    return _scalar(np.where(votes == 0, 0.0, lower))


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
        Never below the exact bound; 1.0 where k = n.
    """
    level = _alpha(alpha)
    votes, total = _counts(k, n)
    exact = special.betainccinv(votes + 1, np.maximum(total - votes, 1), level)
    exact = np.where(votes == 0, -np.expm1(math.log(level) / total), exact)
    upper = np.minimum(exact + NUDGE * exact + STEP, 1.0)
    return _scalar(np.where(votes == total, 1.0, upper))


_alpha = alpha


def votes_needed(alpha: float, threshold: float = 0.5) -> int:
    """The least n whose unanimous vote puts the lower bound above threshold."""
    level = _alpha(alpha)
    n = math.ceil(math.log(level) / math.log(threshold))
    while binomial_lower(n, n, level) <= threshold:
        n += 1
    return n


def majority_p_value(top: Any, second: Any) -> Any:
    """Two-sided p-value of the exact binomial test that two classes are equally likely.

    top >= second are the votes of the two classes (integer arrays broadcast); the test of
    Cohen et al. 2019's PREDICT.
    """
    first, total = _counts(top, np.asarray(top) + np.asarray(second) + 0)
    tail = special.betainc(np.maximum(first, 1), total - first + 1, 0.5)
    return _scalar(np.where(2 * first <= total, 1.0, np.minimum(2.0 * tail, 1.0)))
