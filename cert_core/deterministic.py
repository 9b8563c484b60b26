"""Certificates of the votes of all copies there are: nothing is estimated."""

from __future__ import annotations

from typing import Any

import numpy as np

from cert_core.certificates import Certificates, drawn_under, vote_counts
from cert_core.channels import Splitting
from cert_core.errors import fail
from cert_core.laws.atomic import rounded_down, rounded_up
from cert_core.noises import Noise


def certify_deterministic(counts: Any, noise: Noise) -> Certificates:
    """Certify inputs from the votes of all copies that a Splitting noise makes of them.

    Parameters
    ----------
    counts : (N, C) integer array
        Votes of all noise.copies copies of each input, as of count_votes with that n.
    noise : Splitting, with a whole number of copies (2 scale levels)

    Returns
    -------
    Certificates
        Of the attack "l1", alpha 0: nothing is estimated.  label is the class of most votes,
        the first of them where several have as many, which is the smoothed classifier's answer;
        it never abstains.  radius is a multiple of 1/levels, the largest at which no input on
        the levels has another label; 0.0 where the next level may have one.  p_lower and p_other
        are the shares of the label and of the class that comes next.

    Raises
    ------
    ValueError
        Another noise than that of the votes, one whose copies are random, or counts of other
        copies than all.

    Notes
    -----
    A coordinate that moves by one level crosses the split of one copy, so inputs j levels apart
    differ in j copies at most, and the label stays where it leads by more than 2 j votes, or by
    2 j against a class to which it does not lose ties.

    References
    ----------
    Levine and Feizi 2021, Theorem 3.

    Examples
    --------
    >>> noise = cc.Splitting(dim=4, scale=0.5, levels=10)
    >>> made = cc.certify_deterministic([[7, 3], [2, 8]], noise)
    >>> made.label, made.radius.round(3), made.alpha
    (array([0, 1]), array([0.2, 0.2]), 0.0)
    """
    if not isinstance(noise, Splitting) or noise.copies is None:
        rule = "a Splitting noise whose 2 scale levels is a whole number"
        raise fail("noise", rule, noise, "choose such a scale, e.g. 0.5; else use certify")
    table, n = vote_counts("counts", counts)
    if len(table) and n != noise.copies:
        rule = f"votes of all {noise.copies} copies an input"
        raise fail("counts", rule, f"rows that sum to {n}", f"count_votes with n={noise.copies}")
    drawn = drawn_under(noise, counts)
    top = table.argmax(axis=1)  # the first of the largest
    rows = np.arange(len(table))
    beaten = np.arange(table.shape[1]) > top[:, None]  # classes that lose a tie against the label
    margin = table[rows, top][:, None] - table - ~beaten
    margin[rows, top] = n
    steps = margin.min(axis=1) // 2
    others = table.copy()
    others[rows, top] = -1
    copies = noise.copies
    lower = np.array([rounded_down(int(k), copies) for k in table[rows, top]], dtype=np.float64)
    upper = np.array([rounded_up(int(k), copies) for k in others.max(axis=1)], dtype=np.float64)
    return Certificates(
        label=top.astype(np.int64), radius=steps / noise.levels, p_lower=lower, p_other=upper,
        alpha=0.0, n0=0, n=copies, noise=noise, attack="l1", tight=True, drawn=drawn,
    )  # fmt: skip
