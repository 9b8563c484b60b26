"""Winners certified afresh: numbers without the luck that chose them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cert_core.calibration import certified_radius
from cert_core.certificates import ABSTAIN, Certificates, certified_accuracy, check_sampling
from cert_core.channels import check_independent
from cert_core.confidence import betting_lower, binomial_lower, binomial_upper
from cert_core.errors import Float, check_callable, fail, integer, integers, items, to_numpy
from cert_core.noises import Noise, checked_noise
from cert_core.sequential.certificates import SequentialCertificates, gather
from cert_core.shell_votes import BOUND as SHELLS
from cert_core.smoothed import Smoothed
from cert_core.tuning.halving import Search, checked_objectives, checked_rho, search
from cert_core.tuning.parts import AVERAGE, Objective, most_passes, objectives_of, plans_of, split

SAMPLES = "pass how many noisy copies to classify"


@dataclass(frozen=True, kw_only=True)
class Fresh:
    """What a winner certifies on inputs, and by votes, that did not choose it: unbiased.

    Attributes
    ----------
    objective : float or "average"
    candidate : int
    value : float
        Certified accuracy at the radius, or the average certified radius.
    error : float, its standard error
    lower, upper : float
        An interval that misses the mean over the inputs' law with probability rho at most: exact
        binomial of an accuracy, by betting of an average.
    inputs, passes : int

    Examples
    --------
    >>> band = lambda batch: (abs(batch[:, 0]) < 1).astype(int)
    >>> x = np.linspace(-2, 2, 80, dtype=np.float32)[:, None]
    >>> noises = [cc.Gaussian(1, 0.2), cc.Gaussian(1, 2.0)]
    >>> smooth = lambda noise: cc.Smoothed(band, noise, 2)
    >>> tuned = cc.tuning.tune(smooth, noises, x, band(x), "l2", 40_000, 0, radii=[0.2], n=300)
    >>> (fresh,) = tuned.fresh
    >>> fresh.inputs, fresh.passes, fresh.lower < fresh.value < fresh.upper
    (40, 16000, True)
    """

    objective: Objective
    candidate: int
    value: float
    error: float
    lower: float
    upper: float
    inputs: int
    passes: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuned:
    """Noises tuned, and the winners certified.

    Attributes
    ----------
    noises : tuple of Noise, the candidates
    search : Search, on the tuning part
    fresh : tuple of Fresh, of each objective, on the other part
    certificates : dict of int to Certificates, of each winner on that part
    parts : (tuning, fresh), tuples of int

    Examples
    --------
    >>> band = lambda batch: (abs(batch[:, 0]) < 1).astype(int)
    >>> x = np.linspace(-2, 2, 80, dtype=np.float32)[:, None]
    >>> noises = [cc.Gaussian(1, 0.2), cc.Gaussian(1, 2.0)]
    >>> smooth = lambda noise: cc.Smoothed(band, noise, 2)
    >>> tuned = cc.tuning.tune(smooth, noises, x, band(x), "l2", 40_000, 0, radii=[0.2], n=300)
    >>> [tuned.noises[winner] for winner in tuned.search.winners]
    [Gaussian(dim=1, sigma=0.2)]
    >>> [len(part) for part in tuned.parts], len(tuned.certificates[0])
    ([40, 40], 40)
    """

    noises: tuple[Noise, ...]
    search: Search
    fresh: tuple[Fresh, ...]
    certificates: Mapping[int, Certificates] = field(repr=False)
    parts: tuple[tuple[int, ...], tuple[int, ...]] = field(repr=False)


def judged(certificates: SequentialCertificates, labels: Any) -> tuple[Float, Any]:
    """The radii certified with the right label, 0 where there is none, and the passes taken."""
    return _held(certificates, labels), certificates.samples


def _held(certificates: Certificates, labels: Any) -> Float:
    """The radii certified with the right label, 0 where there is none."""
    right = (certificates.label == np.asarray(labels)) & (certificates.label != ABSTAIN)
    return np.where(right, certificates.radius, 0.0)


def fresh_number(
    objective: Objective, candidate: int, certificates: Certificates, labels: Any, rho: float
) -> Fresh:
    """An objective of certificates of inputs that did not choose, with its errors."""
    (objective,) = checked_objectives([objective])
    count, half = len(certificates), checked_rho(rho) / 2
    passes = count * (certificates.n0 + certificates.n)
    common: dict[str, Any] = {
        "objective": objective, "candidate": candidate, "inputs": count, "passes": passes,
    }  # fmt: skip
    if objective != AVERAGE:
        share = certified_accuracy(certificates, labels, float(objective))
        k = round(share * count)
        lower = 0.0 if k == 0 else float(binomial_lower(k, count, half))
        upper = 1.0 if k == count else float(binomial_upper(k, count, half))
        error = math.sqrt(share * (1.0 - share) / count)
        return Fresh(value=share, error=error, lower=lower, upper=upper, **common)
    if certificates.bound == SHELLS:
        rule = "of one bound an input for an average, which unanimous votes cap"
        raise fail("certificates", rule, f"those of {SHELLS}", "certify by another bound")
    radius, n = _held(certificates, labels), certificates.n
    most = binomial_lower(n, n, certificates.alpha)  # what unanimous votes certify
    top = float(certified_radius(most, certificates.noise, certificates.attack))
    scores, spread = np.minimum(radius / top, 1.0), radius.std(ddof=min(count - 1, 1))
    return Fresh(
        value=float(radius.mean()), error=float(spread) / math.sqrt(count),
        lower=top * float(betting_lower(scores, half)),
        upper=top * (1.0 - float(betting_lower(1.0 - scores, half))), **common,
    )  # fmt: skip


def tune(
    smooth: Callable[[Noise], Smoothed],
    noises: Sequence[Noise],
    x: Any,
    labels: Any,
    attack: str,
    budget: int,
    seed: int,
    *,
    radii: Sequence[float] = (),
    average: bool = False,
    n0: int = 100,
    n: int = 10_000,
    n_max: int | None = None,
    alpha: float = 0.001,
    rho: float = 0.05,
    tuning: Sequence[int] | None = None,
    fresh: Sequence[int] | None = None,
) -> Tuned:
    """Choose a noise for every radius, and certify what was chosen on other inputs.

    Parameters
    ----------
    smooth : callable
        Maps a noise to the classifier smoothed by it: functools.partial(cc.Smoothed, predict,
        num_classes=10) where one classifier serves all, a function that trains one where not.
    noises : sequence of Noise, two at least
    x : (N, *input_shape)
    labels : (N,) whole numbers, the true classes
    attack : "l1", "l2" or "linf"; "l0" for changed entries
    budget : int
        The most passes of the search, the selection's included; the fresh certificates take
        n0 + n an input of their part for every winner besides.
    seed : int in [0, 2^32), of the samples and of the order of the inputs
    radii : sequence of float > 0
        In the attack's norm and input units: a winner is chosen for each.
    average : bool
        Choose one for the average certified radius as well.
    n0, n : int
        Selection and estimation samples of the fresh certificates.
    n_max : int, optional
        The most estimation samples an input in the search (default: n).
    alpha : float in (0, 1/2]
        Failure probability of each certificate.
    rho : float in (0, 1)
        Of the rivals, and of the intervals, as in Search and Fresh.
    tuning, fresh : sequences of int, optional
        The two parts, as split takes them (default: halves, by the seed).

    Returns
    -------
    Tuned
        Unbiased numbers of the winners in fresh; those of the search are too high.

    Raises
    ------
    ValueError
        An argument out of its domain, parts that share an input, too small a budget, or a radius
        that no candidate could certify.
    UnsupportedPair
        No exact law for a noise and the attack.

    Notes
    -----
    The samples of input i are those of the stream (seed, i), whatever the candidate: gaps between
    two of them vary less than either, and parts that share no input share no sample.

    Examples
    --------
    >>> band = lambda batch: (abs(batch[:, 0]) < 1).astype(int)
    >>> x = np.linspace(-2, 2, 80, dtype=np.float32)[:, None]
    >>> noises = [cc.Gaussian(1, 0.2), cc.Gaussian(1, 2.0)]
    >>> smooth = lambda noise: cc.Smoothed(band, noise, 2)
    >>> tuned = cc.tuning.tune(smooth, noises, x, band(x), "l2", 40_000, 0, radii=[0.2], n=300)
    >>> tuned.search.winners, sum(tuned.search.passes) <= 40_000
    ((0,), True)
    """
    check_callable("smooth", smooth)
    rule, remedy = "two noises or more, each once", "pass the noises to choose from"
    candidates = [checked_noise(each) for each in items("noises", noises, rule, remedy=remedy)]
    if len(set(candidates)) < max(len(candidates), 2):
        raise fail("noises", rule, noises, remedy)
    wanted = objectives_of(radii, average)
    most = integer("n", n, 1, remedy=SAMPLES) if n_max is None else integer("n_max", n_max, 1)
    for noise in candidates:
        check_independent(noise)
        check_sampling(noise, attack, n, alpha)
        check_sampling(noise, attack, most, alpha)
    truth = np.asarray(integers("labels", labels, 0, remedy="pass one class number an input"))
    given = x if hasattr(x, "shape") else to_numpy("x", x)
    if len(given.shape) < 2 or len(given) != len(truth):
        rule = f"of shape (n_inputs, ...), one for each of the {len(truth)} labels"
        raise fail("x", rule, given.shape, "pass inputs with their labels")
    parts = split(range(len(truth)), seed, tuning=tuning, fresh=fresh)
    if (last := max(map(max, parts))) >= len(truth):
        raise fail("parts", f"of inputs below {len(truth)}", last, "pass places in x")
    plans = plans_of(candidates, attack, wanted, most, alpha, n0)
    made: dict[int, Smoothed] = {}

    def smoothed(candidate: int) -> Smoothed:
        if candidate not in made:
            made[candidate] = _smoothed(smooth, candidates[candidate])
        return made[candidate]

    def judge(candidate: int, chosen: list[int]) -> tuple[Float, Any]:
        votes = smoothed(candidate).outcomes(
            plans[candidate], given[np.array(chosen)], seed, indices=chosen
        )
        return judged(gather(plans[candidate], votes), truth[chosen])

    found = search(
        judge, most_passes(plans, len(candidates)), parts[0], wanted, budget,
        top=max(plan.radii[-1] for plan in plans.values()), rho=rho,
    )  # fmt: skip
    inputs = np.array(parts[1])
    certificates = {
        winner: smoothed(winner).certify(
            given[inputs], n0, n, alpha, attack, seed, indices=parts[1]
        )
        for winner in dict.fromkeys(found.winners)
    }  # fmt: skip
    numbers = tuple(
        fresh_number(objective, winner, certificates[winner], truth[inputs], rho)
        for objective, winner in zip(wanted, found.winners, strict=True)
    )
    return Tuned(
        noises=tuple(candidates), search=found, fresh=numbers, certificates=certificates,
        parts=parts,
    )  # fmt: skip


def _smoothed(smooth: Callable[[Noise], Smoothed], noise: Noise) -> Smoothed:
    found = smooth(noise)
    if not isinstance(found, Smoothed) or found.noise != noise:
        rule, remedy = f"a function to classifiers smoothed by {noise!r}", "return a Smoothed of it"
        raise fail("smooth", rule, found, remedy)
    return found
