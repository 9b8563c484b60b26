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
from functools import lru_cache
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from cert_core.bounds import required_probability
from cert_core.calibration import certified_radius
from cert_core.channels import noise_from_dict
from cert_core.errors import EXACT, fail, items, radii, real, size
from cert_core.errors import alpha as alpha_value
from cert_core.laws import log_ratio_law
from cert_core.noises import Noise, checked_noise
from cert_core.sequential.tests import (
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

SLACK = 20.0  # laws' resolutions by which another version's threshold may be lower, in radius
ROUNDING = 2.0**-51  # and by this in probability
MADE = "make the plan by plan_at"


class Trial(Protocol):
    """One input under a plan: takes votes look by look, and answers once stopped."""

    def update(self, successes: int, n: int) -> bool:
        """Take the successes among the first n votes; return whether to stop."""

    def answer(self) -> tuple[float, float, bool]:
        """(radius, p_lower, decided)."""


def checked_plan(value: Any) -> Plan:
    """value if it is a plan."""
    if not isinstance(value, RadiiPlan | WidthPlan):
        raise fail("plan", "a plan", value, "make one by plan_at or plan_until")
    return value


def _check_sampling(plan: Plan) -> None:
    """Fields that both plans have."""
    remedy = "pass how many samples select the class"
    values = {
        "noise": checked_noise(plan.noise), "attack": attack_name(plan.attack),
        "alpha": alpha_value(plan.alpha), "n0": size("n0", plan.n0, 1, EXACT, remedy=remedy),
        "looks": looks_of(plan.looks),
    }  # fmt: skip
    for name, value in values.items():
        object.__setattr__(plan, name, value)
    required_probability(plan.noise, plan.attack, 0.0)  # refuse a bad pair before any sampling


@lru_cache(maxsize=1024)
def _needed(noise: Noise, attack: str, levels: tuple[float, ...]) -> tuple[float, ...]:
    """The probabilities that ascending radii need, ascending."""
    needed = np.maximum.accumulate(required_probability(noise, attack, np.array(levels)))
    return tuple(float(p) for p in needed)


@lru_cache(maxsize=1024)
def _check_thresholds(
    noise: Noise, attack: str, levels: tuple[float, ...], thresholds: tuple[float, ...]
) -> None:
    """Refuse thresholds that do not certify their radii.

    Where another version, or machine, computed them they may be lower by the law's own
    error: then they need to certify a radius that much smaller.
    """
    if thresholds == _needed(noise, attack, levels):
        return
    slack = min(SLACK * log_ratio_law(noise, attack, levels[0]).resolution, 1e-6)
    least = _needed(noise, attack, tuple(radius * (1.0 - slack) for radius in levels))
    for radius, given, needed in zip(levels, thresholds, least, strict=True):
        if not needed - ROUNDING <= given <= 1.0:
            rule = f"in [{needed!r}, 1] for radius {radius!r}"
            raise fail("thresholds", rule, given, MADE)


@dataclass(frozen=True, kw_only=True)
class RadiiPlan:
    """Certify preset radii, stopping as soon as they are decided (see plan_at).

    Attributes
    ----------
    noise, attack : the threat model
    radii : tuple of float, ascending, in the attack's norm and input units
    thresholds : tuple of float, not descending
        required_probability at the radii, or above it.
    alpha : float
        Probability, for an input, that the radius given is above the truth.
    n0 : int
        Selection samples.
    looks : tuple of int
        Estimation samples at which the votes are looked at.

    Raises
    ------
    ValueError
        A field out of its domain, or a threshold that does not certify its radius.

    Examples
    --------
    >>> plan = cc.sequential.plan_at(cc.Gaussian(4, 0.5), "l2", [0.25, 0.5], n_max=1000)
    >>> plan.radii, np.round(plan.thresholds, 4), plan.looks
    ((0.25, 0.5), array([0.6915, 0.8413]), (100, 150, 225, 338, 507, 760, 1000))
    """

    noise: Noise
    attack: str
    radii: tuple[float, ...]
    thresholds: tuple[float, ...]
    alpha: float
    n0: int
    looks: Looks

    def __post_init__(self) -> None:
        _check_sampling(self)
        levels = _positive("radii", self.radii)
        if not levels or any(b <= a for a, b in pairwise(levels)):
            raise fail("radii", "ascending, one at least", self.radii, MADE)
        thresholds = _positive("thresholds", self.thresholds)
        if len(thresholds) != len(levels) or any(b < a for a, b in pairwise(thresholds)):
            rule = f"{len(levels)}, not descending, one a radius"
            raise fail("thresholds", rule, self.thresholds, MADE)
        _check_thresholds(self.noise, self.attack, levels, thresholds)
        object.__setattr__(self, "radii", levels)
        object.__setattr__(self, "thresholds", thresholds)

    @property
    def tests(self) -> tuple[Boundaries, ...]:
        """The test of each radius."""
        return tuple(boundaries(p, self.alpha, self.looks) for p in self.thresholds)

    def begin(self) -> Trial:
        """The trial of a new input."""
        return _RadiiTrial(self, FixedSequence(self.tests))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; plan_from_dict reads it."""
        return {
            "kind": "radii", "noise": self.noise.to_dict(), "attack": self.attack,
            "radii": list(self.radii), "thresholds": list(self.thresholds),
            "alpha": self.alpha, "n0": self.n0, "looks": list(self.looks),
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class WidthPlan:
    """Certify a full radius, stopping once it is within a relative width (see plan_until).

    Attributes
    ----------
    noise, attack : the threat model
    width : float in (0, 1)
        Stop when the radius is at least 1 - width of the largest that the confidence
        sequence leaves possible, or that the votes can still reach by the last look.
    alpha, n0, looks : as in RadiiPlan

    Raises
    ------
    ValueError
        A field out of its domain.

    Examples
    --------
    >>> plan = cc.sequential.plan_until(cc.Gaussian(4, 0.5), "l2", 0.2, n_max=1000)
    >>> plan.width, plan.looks
    (0.2, (100, 150, 225, 338, 507, 760, 1000))
    """

    noise: Noise
    attack: str
    width: float
    alpha: float
    n0: int
    looks: Looks

    def __post_init__(self) -> None:
        _check_sampling(self)
        remedy = "pass a relative width such as 0.1"
        rule = "a number in (0, 1)"
        width = real("width", self.width, rule, lambda x: 0 < x < 1, remedy=remedy)
        object.__setattr__(self, "width", width)

    def begin(self) -> Trial:
        """The trial of a new input."""
        return _WidthTrial(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; plan_from_dict reads it."""
        return {
            "kind": "width", "noise": self.noise.to_dict(), "attack": self.attack,
            "width": self.width, "alpha": self.alpha, "n0": self.n0, "looks": list(self.looks),
        }  # fmt: skip


Plan = RadiiPlan | WidthPlan


class _RadiiTrial:
    def __init__(self, plan: RadiiPlan, sequence: FixedSequence) -> None:
        self._plan, self._sequence = plan, sequence

    def update(self, successes: int, n: int) -> bool:
        return self._sequence.update(successes, n)

    def answer(self) -> tuple[float, float, bool]:
        passed, decided = self._sequence.passed, self._sequence.decided
        if not passed:
            return 0.0, 0.0, decided
        return self._plan.radii[passed - 1], self._plan.thresholds[passed - 1], decided


class _WidthTrial:
    def __init__(self, plan: WidthPlan) -> None:
        self._plan = plan
        self._p_lower, self._decided = 0.0, False

    def update(self, successes: int, n: int) -> bool:
        plan = self._plan
        if n not in plan.looks:
            raise fail("n", "one of the plan's looks", n, "look at the planned sizes alone")
        self._p_lower, self._decided = _width_look(plan, self._p_lower, successes, n)
        return self._decided or n == plan.looks[-1]

    def answer(self) -> tuple[float, float, bool]:
        plan = self._plan
        radius = float(certified_radius(self._p_lower, plan.noise, plan.attack))
        return radius, self._p_lower, self._decided


@lru_cache(maxsize=4096)  # asked while sampling, and again when the votes are read
def _width_look(plan: WidthPlan, before: float, successes: int, n: int) -> tuple[float, bool]:
    """(p_lower, decided) after a look, from p_lower before it."""
    last = plan.looks[-1]
    p_lower = max(before, mixture_lower(successes, n, plan.alpha))
    highest = min(
        mixture_upper(successes, n, plan.alpha),
        mixture_lower(successes + last - n, last, plan.alpha),
    )
    reach = certified_radius(max(highest, p_lower), plan.noise, plan.attack)
    share = (1.0 - plan.width) * reach
    if plan.attack == COUNT:  # a radius is a whole number
        share = np.ceil(share)
    enough = required_probability(plan.noise, plan.attack, share)
    return p_lower, n < last and bool(reach == 0 or p_lower > enough)


@lru_cache(maxsize=4096)  # most inputs share their votes with others
def answer_to(plan: Plan, looks: Looks) -> tuple[float, float, bool]:
    """(radius, p_lower, decided) of a plan, from the votes at the looks taken.

    Raises
    ------
    ValueError
        The plan would not have stopped at the last of them, or before it.
    """
    trial, stopped = plan.begin(), 0
    for look, (votes, n) in enumerate(zip(looks, plan.looks, strict=False), start=1):
        if trial.update(votes, n) or n == plan.looks[-1]:
            stopped = look
            break
    if stopped == 0 or stopped != len(looks):
        rule = "those of an input at which the plan stops"
        raise fail("looks", rule, looks, "count it again")
    return trial.answer()


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

    Examples
    --------
    >>> plan = cc.sequential.plan_at(cc.Gaussian(4, 0.5), "l2", [0.25, 0.5], n_max=1000)
    >>> plan.radii, plan.looks
    ((0.25, 0.5), (100, 150, 225, 338, 507, 760, 1000))
    """
    levels = _ascending(radii)
    thresholds = _needed(checked_noise(noise), attack_name(attack), levels)
    looks = geometric_looks(n_max, first=first, ratio=ratio)
    plan = RadiiPlan(
        noise=noise, attack=attack, radii=levels, thresholds=thresholds, alpha=alpha, n0=n0,
        looks=looks,
    )  # fmt: skip
    for radius, test in zip(levels, plan.tests, strict=True):
        if all(k > n for k, n in zip(test.certify, looks, strict=True)):
            rule = f"small enough for n_max = {n_max} samples at alpha = {alpha}"
            raise fail("radii", rule, radius, "drop this radius, or raise n_max")
    return plan


def _positive(name: str, values: Any) -> tuple[float, ...]:
    """values as a tuple of floats."""
    rule = "finite numbers > 0"
    given = items(name, values, rule, remedy=MADE)
    return tuple(real(name, each, rule, lambda x: x > 0, remedy=MADE) for each in given)


def _ascending(values: Sequence[float] | float) -> tuple[float, ...]:
    levels = np.atleast_1d(radii("radii", values))
    if levels.ndim != 1 or not levels.size or levels.min() <= 0:
        rule, remedy = "one or more numbers > 0", "pass the radii to certify, e.g. [0.25, 0.5]"
        raise fail("radii", rule, values, remedy)
    return tuple(float(r) for r in np.unique(levels))


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

    Examples
    --------
    >>> plan = cc.sequential.plan_until(cc.Gaussian(4, 0.5), "l2", 0.2, n_max=1000)
    >>> path = plan.begin()
    >>> path.update(100, 100)  # whether to stop after 100 of 100 votes
    False
    """
    looks = geometric_looks(n_max, first=first, ratio=ratio)
    return WidthPlan(noise=noise, attack=attack, width=width, alpha=alpha, n0=n0, looks=looks)


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

    Examples
    --------
    >>> plan = cc.sequential.plan_at(cc.Gaussian(4, 0.5), "l2", 0.25, n_max=1000)
    >>> cc.sequential.plan_from_dict(plan.to_dict()) == plan
    True
    """
    remedy = "pass what to_dict of a plan returned"
    if not isinstance(values, dict) or values.get("kind") not in ("radii", "width"):
        raise fail("values", "a plan's dict", values, remedy)
    own = ("width",) if values["kind"] == "width" else ("radii", "thresholds")
    names = ("noise", "attack", *own, "alpha", "n0", "looks")
    if set(values) != {"kind", *names}:
        rule = f"a plan's dict of kind, {', '.join(names)}"
        raise fail("values", rule, sorted(map(str, values)), remedy)
    fields = {name: values[name] for name in names} | {"noise": noise_from_dict(values["noise"])}
    return WidthPlan(**fields) if own == ("width",) else RadiiPlan(**fields)
