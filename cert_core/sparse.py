"""Zeros and ones told apart: how many may be added and how many deleted."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, overload

import numpy as np

from cert_core.bounds import largest_whole
from cert_core.channels import SparseFlips
from cert_core.errors import Float, Number, array, broadcast, fail, probabilities, real, scalar
from cert_core.laws import LogRatioLaw
from cert_core.laws.atomic import sparse_law
from cert_core.laws.closed import PointLaw
from cert_core.noises import Noise

Pairs = np.ndarray[Any, np.dtype[np.int64]]
MOST = 4096  # changed entries: a law of so many takes some milliseconds


def _checked(noise: Noise) -> SparseFlips:
    if not isinstance(noise, SparseFlips):
        rule = "a SparseFlips, which tells added from deleted entries"
        raise fail("noise", rule, noise, "use lower_bound with the attack 'l0'")
    return noise


def _counts(name: str, value: Any, dim: int) -> Any:
    most, remedy = min(dim, MOST), "pass how many entries change"
    rule = f"whole numbers in [0, {most}]"
    return array(
        name, value, rule, lambda x: (x >= 0) & (x <= most) & (x == np.floor(x)), remedy=remedy
    )


def _laws(noise: SparseFlips) -> Callable[[int, int], LogRatioLaw]:
    @lru_cache(maxsize=16)
    def law(added: int, deleted: int) -> LogRatioLaw:
        return sparse_law(noise.record, added, deleted) if added + deleted else PointLaw()

    return law


@overload
def sparse_lower_bound(p: Number, noise: Noise, added: Number, deleted: Number) -> float: ...


@overload
def sparse_lower_bound(p: Any, noise: Noise, added: Any, deleted: Any) -> Float: ...


def sparse_lower_bound(p: Any, noise: Noise, added: Any, deleted: Any) -> Any:
    """Bound the smoothed classifier from below where ones are added and deleted.

    Parameters
    ----------
    p : float or array in [0, 1]
        (A lower bound of) the class probability under noise at the clean input.
    noise : SparseFlips
    added, deleted : int or array >= 0; broadcast with p
        Zeros of the input that become ones, ones that become zeros; together at most dim and
        4096.

    Returns
    -------
    float or array
        The least probability over all such inputs and all classifiers; never above the truth.

    Raises
    ------
    ValueError
        Another noise, or numbers out of their domain.

    References
    ----------
    Bojchevski et al. 2020.

    Examples
    --------
    >>> noise = cc.SparseFlips(dim=3000, p_plus=0.01, p_minus=0.6)
    >>> round(cc.sparse_lower_bound(0.99, noise, added=1, deleted=2), 4)
    0.5974
    """
    noise = _checked(noise)
    points, more, fewer = broadcast(
        p=probabilities("p", p),
        added=_counts("added", added, noise.dim),
        deleted=_counts("deleted", deleted, noise.dim),
    )
    if (more + fewer > min(noise.dim, MOST)).any():
        rule = f"such that added + deleted is at most {min(noise.dim, MOST)}"
        raise fail("added", rule, float((more + fewer).max()), "lower one of them")
    law = _laws(noise)
    values = [
        min(law(int(a), int(d)).lower(float(x)), float(x))
        for x, a, d in zip(points.flat, more.flat, fewer.flat, strict=True)
    ]
    return scalar(np.array(values, dtype=np.float64).reshape(points.shape))


def sparse_frontier(p: float, noise: Noise) -> Pairs:
    """Find all that is certified of added and deleted entries together.

    Parameters
    ----------
    p : float in [0, 1]
        A lower bound of the class probability under noise.
    noise : SparseFlips

    Returns
    -------
    (m, 2) int64
        The largest pairs (added, deleted), added falling and deleted rising: certified are they
        and all pairs below one of them, up to 4096 entries together.  Empty where p <= 1/2.

    Raises
    ------
    ValueError
        Another noise, or p out of its domain.

    References
    ----------
    Bojchevski et al. 2020.

    Examples
    --------
    >>> cc.sparse.sparse_frontier(0.99, cc.SparseFlips(dim=3000, p_plus=0.01, p_minus=0.6))
    array([[3, 0],
           [1, 6],
           [0, 7]])
    """
    noise = _checked(noise)
    remedy = "pass a lower confidence bound of a class probability"
    level = real("p", p, "a number in [0, 1]", lambda x: 0 <= x <= 1, remedy=remedy)
    law = _laws(noise)
    most = min(noise.dim, MOST)

    def certified(added: int, deleted: int) -> bool:
        return added + deleted <= most and law(added, deleted).lower(level) > 0.5

    pairs: list[tuple[int, int]] = []
    added, deleted = largest_whole(lambda a: certified(a, 0), most) if level > 0.5 else -1, 0
    while added >= 0:
        while certified(added, deleted + 1):
            deleted += 1
        pairs.append((added, deleted))
        while added >= 0 and not certified(added, deleted + 1):
            added -= 1
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
