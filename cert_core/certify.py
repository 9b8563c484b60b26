"""From votes to certificates: the two-stage procedure of Cohen et al. 2019 for any noise.

A first, small sample selects the class; a second, independent one bounds its
probability; the noise's exact law turns the bound into a radius.  All of alpha is
spent on the votes: exact laws spend nothing on the noise side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cert_core.calibration import certified_radius
from cert_core.confidence import Counts, binomial_lower, majority_p_value, votes_needed
from cert_core.errors import Float, array, fail
from cert_core.errors import alpha as alpha_value
from cert_core.noises import Noise
from cert_core.threats import attack_name, is_tight

ABSTAIN = -1


@dataclass(frozen=True)
class Certificates:
    """What is certified of N inputs.

    Attributes
    ----------
    label : (N,) int64
        The certified class, or ABSTAIN.
    radius : (N,) float64
        No perturbation of this size, in the attack's norm and input units, changes the
        smoothed classifier's class; 0.0 for ABSTAIN.  Never above the truth, with
        probability 1 - alpha for each input.
    p_lower : (N,) float64
        Lower confidence bound of the selected class's probability.
    alpha : float
        Failure probability of each input, all of it spent on the votes.
    n0, n : int
        Selection and estimation samples.
    noise, attack : the threat model
    tight : bool
        Whether the noise-side bound is the best possible one.
    """

    label: Counts
    radius: Float
    p_lower: Float
    alpha: float
    n0: int
    n: int
    noise: Noise
    attack: str
    tight: bool

    def __len__(self) -> int:
        return len(self.label)


def vote_counts(name: str, counts: Any) -> tuple[Counts, int]:
    """counts as (N, C) int64 whose rows have one sum, and that sum."""
    given = np.asarray(counts)
    rule = "an (n_inputs, n_classes) array of vote counts"
    remedy = "pass what count_votes returned"
    if given.ndim != 2 or given.shape[1] < 2 or not np.issubdtype(given.dtype, np.integer):
        raise fail(name, rule, f"{given.dtype} of shape {given.shape}", remedy)
    table = given.astype(np.int64)
    if (table < 0).any():
        raise fail(name, "non-negative", int(table.min()), remedy)
    sums = table.sum(axis=1)
    if len(sums) and (sums.min() != sums.max() or sums[0] == 0):
        rule = "of one positive number of votes per input"
        raise fail(name, rule, f"rows that sum to {int(sums.min())} and {int(sums.max())}", remedy)
    return table, int(sums[0]) if len(sums) else 0


def certify(
    counts_selection: Any,
    counts_estimation: Any,
    noise: Noise,
    attack: str,
    *,
    alpha: float = 0.001,
) -> Certificates:
    """Certify inputs from the votes of two independent samples.

    Parameters
    ----------
    counts_selection, counts_estimation : (N, C) integer arrays
        Votes of n0 selection and n estimation samples, drawn independently.
    noise : Noise
        The noise the votes were cast under.
    attack : "l1", "l2" or "linf"
    alpha : float in (0, 1/2]
        Failure probability of each certificate.

    Returns
    -------
    Certificates
        An input abstains where the lower bound is not above 1/2.

    Raises
    ------
    ValueError
        Counts that are no votes or do not sum alike, or n too small to certify anything.
    UnsupportedPair
        No exact law for the pair.

    References
    ----------
    Cohen et al. 2019, CERTIFY; Zhang et al. 2020, Theorem 1.
    """
    selection, n0 = vote_counts("counts_selection", counts_selection)
    estimation, n = vote_counts("counts_estimation", counts_estimation)
    level = alpha_value(alpha)
    if selection.shape != estimation.shape:
        rule = f"of the shape {selection.shape} of counts_selection"
        raise fail("counts_estimation", rule, estimation.shape, "count both for the same inputs")
    if len(estimation) and n < votes_needed(level):
        raise fail(
            "n", f"at least {votes_needed(level)} for alpha = {level}", n, "draw more samples"
        )
    top = selection.argmax(axis=1)
    votes = np.take_along_axis(estimation, top[:, None], axis=1)[:, 0]
    p_lower = np.asarray(binomial_lower(votes, n, level)) if len(votes) else np.zeros(0)
    radius = np.asarray(certified_radius(p_lower, noise, attack))
    label = np.where(radius > 0, top, ABSTAIN).astype(np.int64)
    tight = is_tight(noise, attack_name(attack))
    return Certificates(label, radius, p_lower, level, n0, n, noise, attack, tight)


def predict_labels(counts: Any, alpha: float) -> Counts:
    """Predict from votes, abstaining where the top two classes are not told apart.

    Parameters
    ----------
    counts : (N, C) integer array of votes
    alpha : float in (0, 1/2]
        Probability of returning another class than the smoothed classifier's.

    Returns
    -------
    (N,) int64
        Labels, or ABSTAIN.

    References
    ----------
    Cohen et al. 2019, PREDICT (two-sided exact binomial test).
    """
    table, _ = vote_counts("counts", counts)
    ordered = np.sort(table, axis=1)
    p_value = majority_p_value(ordered[:, -1], ordered[:, -2])
    return np.where(p_value <= alpha_value(alpha), table.argmax(axis=1), ABSTAIN).astype(np.int64)


def certified_accuracy(certificates: Certificates, labels: Any, radii: Any) -> Any:
    """Compute the share of inputs certified with the right label at given radii.

    Parameters
    ----------
    certificates : Certificates
    labels : (N,) integer array, the true classes
    radii : float or array >= 0, in the attack's norm

    Returns
    -------
    float or array of the shape of radii
        Abstentions count as wrong.
    """
    truth = np.asarray(labels)
    if truth.shape != certificates.label.shape:
        rule = f"of shape {certificates.label.shape}"
        raise fail("labels", rule, truth.shape, "pass one true label per certificate")
    remedy = "pass radii in the attack's norm"
    levels = array("radii", radii, ">= 0", lambda x: x >= 0, remedy=remedy)
    if not len(truth):
        raise fail("certificates", "non-empty", 0, "certify at least one input")
    right = np.where(certificates.label == truth, certificates.radius, -1.0)
    shares = np.mean(right[:, None] >= levels.reshape(1, -1), axis=0).reshape(levels.shape)
    return float(shares) if shares.ndim == 0 else shares
