"""What a search is of: parts of the data, objectives, and the plans that judge candidates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cert_core.bounds import required_probability
from cert_core.calibration import certified_radius
from cert_core.confidence import binomial_lower
from cert_core.errors import fail, flag, integer, integers, radii, real
from cert_core.noises import Noise
from cert_core.sequential.plans import RadiiPlan, plan_at
from cert_core.sequential.tests import boundaries, geometric_looks
from cert_core.threats import COUNT

AVERAGE = "average"  # the objective that is no radius
STEPS = 8  # of the average radius, where it is asked for

Objective = float | str


def split(
    inputs: Sequence[int], seed: int, *, share: float = 0.5, tuning: Sequence[int] | None = None,
    fresh: Sequence[int] | None = None,
) -> tuple[tuple[int, ...], tuple[int, ...]]:  # fmt: skip
    """Part inputs in two that share none: to tune by, in a random order, and to certify.

    Parameters
    ----------
    inputs : sequence of int >= 0, their places in the data set
    seed : int >= 0, of the order
    share : float in (0, 1), of the inputs that tune
    tuning, fresh : sequences of int, optional
        A part that is fixed; the other one is then the rest, unless it is fixed as well.

    Returns
    -------
    (tuning, fresh)
        Tuples of int: the first in the order of NumPy's default generator of this seed, the
        other ascending.

    Raises
    ------
    ValueError
        An input in both parts or twice, or a part without any.

    Examples
    --------
    >>> tuning, fresh = cc.tuning.split(range(10), 0, fresh=[7, 8, 9])
    >>> sorted(tuning), fresh
    ([0, 1, 2, 3, 4, 5, 6], (7, 8, 9))
    """
    remedy = "pass the inputs' places in the data, each once"
    given = integers("inputs", inputs, 0, remedy=remedy)
    key = integer("seed", seed, 0, 2**64 - 1, remedy="pass any 64-bit unsigned integer")
    part = real("share", share, "a number in (0, 1)", lambda x: 0 < x < 1, remedy="e.g. 0.5")
    order = np.random.default_rng(key)
    if tuning is None and fresh is None:
        mixed = order.permutation(given).tolist()
        cut = round(part * len(mixed))
        first, second = mixed[:cut], mixed[cut:]
    else:
        named = {
            name: integers(name, listed, 0, remedy=remedy)
            for name, listed in (("tuning", tuning), ("fresh", fresh))
            if listed is not None
        }
        taken = set().union(*named.values())
        rest = [index for index in given if index not in taken]
        first, second = named.get("tuning", rest), named.get("fresh", rest)
        first = order.permutation(first).tolist() if first else []
    for name, listed in (("tuning", first), ("fresh", second)):
        if not listed or len(set(listed)) < len(listed):
            rule = "one input or more, none of them twice"
            raise fail(name, rule, sorted(listed), remedy)
    if both := sorted(set(first) & set(second)):
        rule = "without inputs that tune: their numbers would be too good"
        raise fail("fresh", rule, both, "pass parts that share no input")
    return tuple(first), tuple(sorted(second))


def ladder(
    noises: Sequence[Noise], attack: str, levels: Sequence[float], average: bool, n_max: int,
    alpha: float,
) -> tuple[float, ...]:  # fmt: skip
    """The radii at which candidates are judged: those asked for and, for the average radius,
    steps up to the largest that n_max votes could certify under any of the noises."""
    found = set(levels)
    if average:
        most = binomial_lower(n_max, n_max, alpha)
        top = max(float(certified_radius(most, noise, attack)) for noise in noises)
        steps = [top * i / (STEPS + 1) for i in range(1, STEPS + 1)]
        found |= {float(math.ceil(r) if attack == COUNT else f"{r:.3g}") for r in steps}
    return tuple(sorted(found - {0.0}))


def plans_of(
    noises: Sequence[Noise], attack: str, objectives: Sequence[Objective], n_max: int,
    alpha: float, n0: int,
) -> dict[int, RadiiPlan]:  # fmt: skip
    """The plans that judge the candidates, each at those of the radii that n_max votes could
    certify under it; a candidate has none where that is none of them."""
    asked = [float(o) for o in objectives if o != AVERAGE]
    levels = ladder(noises, attack, asked, AVERAGE in objectives, n_max, alpha)
    looks = geometric_looks(n_max)

    def reachable(noise: Noise, radius: float) -> bool:
        test = boundaries(required_probability(noise, attack, radius), alpha, looks)
        return any(k <= n for k, n in zip(test.certify, looks, strict=True))

    kept = [[r for r in levels if reachable(noise, r)] for noise in noises]
    for radius in set(asked) - {r for each in kept for r in each}:
        rule = "small enough for one of the noises and n_max"
        raise fail("radii", rule, radius, "drop it, raise n_max, or add more noise")
    if not any(kept):
        rule, remedy = "such that n_max votes certify some radius", "raise n_max, or add more noise"
        raise fail("noises", rule, list(noises), remedy)
    return {
        i: plan_at(noise, attack, each, n_max=n_max, alpha=alpha, n0=n0)
        for i, (noise, each) in enumerate(zip(noises, kept, strict=True))
        if each
    }


def most_passes(plans: Mapping[int, RadiiPlan], count: int) -> list[int]:
    """The most passes of each of the candidates for an input; 0 of those without a plan."""
    return [plans[i].n0 + plans[i].looks[-1] if i in plans else 0 for i in range(count)]


def objectives_of(levels: Any, average: bool) -> tuple[Objective, ...]:
    """The objectives, ascending radii first."""
    remedy = "pass radii to choose for, e.g. [0.25, 0.5]"
    given = np.atleast_1d(radii("radii", levels))
    found = np.unique(given)
    if given.ndim != 1 or len(found) != len(given) or (found == 0).any():
        raise fail("radii", "distinct numbers > 0", levels, remedy)
    chosen: list[Objective] = [float(r) for r in found]
    chosen += [AVERAGE] if flag("average", average) else []
    if not chosen:
        raise fail("radii", "one at least, where no average is asked for", levels, remedy)
    return tuple(chosen)
