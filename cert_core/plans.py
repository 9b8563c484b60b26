"""Sampling plans: what may stop an input, fixed before any vote.

RadiiPlan answers for preset radii by exact group-sequential tests: the largest radius
passed, all at the full alpha.  WidthPlan gives a radius by a confidence sequence, which
may be read at any time, and stops once more samples could not raise it by much.  Both
reach the noise through required_probability and certified_radius alone, so they serve
every noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cert_core.bounds import required_probability
from cert_core.calibration import certified_radius
from cert_core.errors import alpha as alpha_value
from cert_core.errors import fail, integer, radii, real
from cert_core.noises import Noise, noise_from_dict
from cert_core.sequential import (
    Boundaries,
    FixedSequence,
    Looks,
    boundaries,
    geometric_looks,
    looks_of,
    mixture_lower,
    mixture_upper,
)
from cert_core.threats import COUNT, attack_name


class Path(Protocol):
    """One input under a plan: takes votes look by look, and answers once stopped."""

    def update(self, successes: int, n: int) -> bool:
        """Take the successes among the first n votes; return whether to stop."""

    def answer(self) -> tuple[float, float, bool]:
        """(radius, p_lower, decided)."""


@dataclass(frozen=True)
class RadiiPlan:
    """Certify preset radii, stopping as soon as they are decided (see plan_at).

    Attributes
    ----------
    noise, attack : the threat model
    radii : tuple of float, ascending, in the attack's norm and input units
    thresholds : tuple of float
        required_probability at the radii.
    alpha : float
        Probability, for an input, that the radius given is above the truth.
    n0 : int
        Selection samples.
    looks : tuple of int
        Estimation samples at which the votes are looked at.
    """

    noise: Noise
    attack: str
    radii: tuple[float, ...]
    thresholds: tuple[float, ...]
    alpha: float
    n0: int
    looks: Looks

    @property
    def tests(self) -> tuple[Boundaries, ...]:
        """The test of each radius."""
        return tuple(boundaries(p, self.alpha, self.looks) for p in self.thresholds)

    def begin(self) -> Path:
        """The path of a new input."""
        return _RadiiPath(self, FixedSequence(self.tests))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; plan_from_dict reads it."""
        return {
            "kind": "radii", "noise": self.noise.to_dict(), "attack": self.attack,
            "radii": list(self.radii), "thresholds": list(self.thresholds),
            "alpha": self.alpha, "n0": self.n0, "looks": list(self.looks),
        }  # fmt: skip


@dataclass(frozen=True)
class WidthPlan:
    """Certify a full radius, stopping once it is within a relative width (see plan_until).

    Attributes
    ----------
    noise, attack : the threat model
    width : float in (0, 1)
        Stop when the radius is at least 1 - width of the largest that the confidence
        sequence leaves possible, or that the votes can still reach by the last look.
    alpha, n0, looks : as in RadiiPlan
    """

    noise: Noise
    attack: str
    width: float
    alpha: float
    n0: int
    looks: Looks

    def begin(self) -> Path:
        """The path of a new input."""
        return _WidthPath(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; plan_from_dict reads it."""
        return {
            "kind": "width", "noise": self.noise.to_dict(), "attack": self.attack,
            "width": self.width, "alpha": self.alpha, "n0": self.n0, "looks": list(self.looks),
        }  # fmt: skip


Plan = RadiiPlan | WidthPlan


class _RadiiPath:
    def __init__(self, plan: RadiiPlan, sequence: FixedSequence) -> None:
        self._plan, self._sequence = plan, sequence

    def update(self, successes: int, n: int) -> bool:
        return self._sequence.update(successes, n)

    def answer(self) -> tuple[float, float, bool]:
        passed, decided = self._sequence.passed, self._sequence.decided
        if not passed:
            return 0.0, 0.0, decided
        return self._plan.radii[passed - 1], self._plan.thresholds[passed - 1], decided


class _WidthPath:
    def __init__(self, plan: WidthPlan) -> None:
        self._plan = plan
        self._p_lower, self._decided = 0.0, False

    def update(self, successes: int, n: int) -> bool:
        plan, last = self._plan, self._plan.looks[-1]
        if n not in plan.looks:
            raise fail("n", "one of the plan's looks", n, "look at the planned sizes alone")
        self._p_lower = max(self._p_lower, mixture_lower(successes, n, plan.alpha))
        highest = min(
            mixture_upper(successes, n, plan.alpha),
            mixture_lower(successes + last - n, last, plan.alpha),
        )
        reach = certified_radius(max(highest, self._p_lower), plan.noise, plan.attack)
        share = (1.0 - plan.width) * reach
        if plan.attack == COUNT:  # a radius is a whole number
            share = np.ceil(share)
        enough = required_probability(plan.noise, plan.attack, share)
        self._decided = n < last and (reach == 0 or self._p_lower > enough)
        return self._decided or n == last

    def answer(self) -> tuple[float, float, bool]:
        plan = self._plan
        radius = float(certified_radius(self._p_lower, plan.noise, plan.attack))
        return radius, self._p_lower, self._decided


def plan_at(
    noise: Noise,
    attack: str,
    radii: Sequence[float] | float,
    *,
    n_max: int = 100_000,
    alpha: float = 0.001,
    n0: int = 100,
    first: int = 100,
    ratio: float = 1.5,
) -> RadiiPlan:
    """Plan to certify preset radii with as few samples as each input needs.

    Parameters
    ----------
    noise : Noise
    attack : "l1", "l2" or "linf"
    radii : float or sequence of floats > 0, in input units
        Fixed before sampling.
    n_max : int
        Estimation samples after which an undecided input stops.
    alpha : float in (0, 1/2]
        Failure probability of an input, for all radii together.
    n0 : int
        Selection samples.
    first, ratio : int, float
        The first look, and how fast looks grow.

    Returns
    -------
    RadiiPlan

    Raises
    ------
    ValueError
        Also where even unanimous votes could not certify a radius.
    UnsupportedPair
    """
    levels = _ascending(radii)
    needed = np.maximum.accumulate(required_probability(noise, attack, np.array(levels)))
    thresholds = tuple(float(p) for p in needed)
    looks = geometric_looks(n_max, first=first, ratio=ratio)
    selection = integer("n0", n0, 1, remedy="pass how many samples select the class")
    plan = RadiiPlan(noise, attack, levels, thresholds, alpha_value(alpha), selection, looks)
    for radius, test in zip(levels, plan.tests, strict=True):
        if all(k > n for k, n in zip(test.certify, looks, strict=True)):
            rule = f"small enough for n_max = {n_max} samples at alpha = {alpha}"
            raise fail("radii", rule, radius, "drop this radius, or raise n_max")
    return plan


def _ascending(values: Sequence[float] | float) -> tuple[float, ...]:
    levels = np.unique(np.atleast_1d(radii("radii", values)))
    if levels.ndim != 1 or not levels.size or levels[0] <= 0:
        rule, remedy = "one or more numbers > 0", "pass the radii to certify, e.g. [0.25, 0.5]"
        raise fail("radii", rule, values, remedy)
    return tuple(float(r) for r in levels)


def plan_until(
    noise: Noise,
    attack: str,
    width: float,
    *,
    n_max: int = 100_000,
    alpha: float = 0.001,
    n0: int = 100,
    first: int = 100,
    ratio: float = 1.5,
) -> WidthPlan:
    """Plan to certify full radii, each with as many samples as its relative width needs.

    Parameters
    ----------
    width : float in (0, 1)
        E.g. 0.1: stop at 90 percent of the largest radius still possible.
    noise, attack, n_max, alpha, n0, first, ratio
        As in plan_at.

    Returns
    -------
    WidthPlan

    Raises
    ------
    ValueError, UnsupportedPair
    """
    remedy = "pass a relative width such as 0.1"
    share = real("width", width, "a number in (0, 1)", lambda x: 0 < x < 1, remedy=remedy)
    required_probability(noise, attack, 0.0)  # refuse a bad pair before any sampling
    looks = geometric_looks(n_max, first=first, ratio=ratio)
    selection = integer("n0", n0, 1, remedy="pass how many samples select the class")
    return WidthPlan(noise, attack, share, alpha_value(alpha), selection, looks)


def plan_from_dict(values: dict[str, Any]) -> Plan:
    """Make a plan from what its to_dict returned.

    Parameters
    ----------
    values : dict

    Returns
    -------
    RadiiPlan or WidthPlan

    Raises
    ------
    ValueError
        Not such a dict.
    """
    remedy = "pass what to_dict of a plan returned"
    try:
        noise, attack = noise_from_dict(values["noise"]), attack_name(values["attack"])
        rest = alpha_value(values["alpha"]), int(values["n0"]), looks_of(values["looks"])
        if values["kind"] == "width":
            return WidthPlan(noise, attack, float(values["width"]), *rest)
        levels, thresholds = tuple(values["radii"]), tuple(values["thresholds"])
    except (KeyError, TypeError) as error:
        raise fail("values", "a plan's dict", values, f"{remedy} ({error!r})") from None
    if values["kind"] != "radii" or not levels or len(levels) != len(thresholds):
        raise fail("values", "a plan's dict", values, remedy)
    return RadiiPlan(noise, attack, levels, thresholds, *rest)
