"""Bounds from draws of the log ratio, with confidence (Section 4.2 of the paper).

The way for densities without an exact law, and the cross-check of those with one.  Let
W = exp(l), F its law under pi0, D(lam) = E(lam - W)_+ = int_0^lam F.  Three methods::

    hoeffding        the paper's, eps = sqrt(log(2/alpha) / 2n)
    dkw              the same with log(1/alpha): only F <= F_n + eps is needed, one-sided
    clopper-pearson  two counts of one set {W < lam}, lam from a pilot: D(lam) = lam P_0 - P_delta,
                     alpha/2 each; far tighter near p = 1, for each p by itself

The first two rest on the Dvoretzky-Kiefer-Wolfowitz-Massart inequality: F <= F_n + eps
for all t at once gives D <= D_n + lam eps for all lam at once, so the maximum over lam
is free, and the whole noise error is a shift of p by eps, simultaneous in p too - at one
radius.  A radius comes from a preset ascending grid, stopped at the first failure: "not
certified at r" is nested in r, so no correction is due.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, overload

import numpy as np

from cert_core import kernels
from cert_core.confidence import binomial_lower, binomial_upper
from cert_core.errors import (
    EXACT,
    Float,
    Number,
    array,
    choice,
    fail,
    probabilities,
    real,
    scalar,
    size,
)
from cert_core.errors import alpha as alpha_value
from cert_core.errors import seed as seed_value
from cert_core.noises import Noise
from cert_core.samples import CustomNoise, Sample, source_of

Method = Literal["hoeffding", "dkw", "clopper-pearson"]
PILOT_DRAWS = 1 << 16  # draws that choose lam for the two counts
METHODS: tuple[Method, ...] = ("hoeffding", "dkw", "clopper-pearson")


@dataclass(frozen=True, kw_only=True)
class MonteCarloBound:
    """A bound from draws of the log ratio.

    Attributes
    ----------
    lower : float or array
        L(p, radius), not above the truth with probability 1 - alpha (NaN where asked for
        something else).
    required : float
        p_min(radius), not below the truth with that probability.
    alpha, n : the failure probability of this bound; draws of each sample
    alpha_split : how alpha was shared among the noise-side samples
    method, radius, attack, shift_reason : what was asked

    Examples
    --------
    >>> options = {"n": 10_000, "alpha": 0.001, "seed": 0}
    >>> made = cc.monte_carlo_bound(0.9, cc.Gaussian(4, 1.0), "l2", 0.5, **options)
    >>> isinstance(made, cc.monte_carlo.MonteCarloBound), made.alpha, round(made.lower, 2)
    (True, 0.001, 0.75)
    """

    lower: Any
    required: float
    alpha: float
    n: int
    method: str
    radius: float
    attack: str
    shift_reason: str
    alpha_split: dict[str, float] = field(default_factory=dict)


class MonteCarlo:
    """The Monte-Carlo bounds of one (noise, attack, radius), from samples drawn once.

    Parameters
    ----------
    noise : Noise or CustomNoise
    attack : "l1", "l2" or "linf"
    radius : float >= 0
    n : int
        Draws of each sample.
    alpha : float in (0, 1/2]
        Failure probability of each answer (hoeffding and dkw: of all answers at once).
    seed : int
    method : "hoeffding", "dkw" or "clopper-pearson"
    backend : "cpu", "reference" or "gpu"
    """

    def __init__(
        self,
        noise: Noise | CustomNoise,
        attack: str,
        radius: Any,
        *,
        n: int,
        alpha: float,
        seed: int,
        method: str = "hoeffding",
        backend: str = "cpu",
    ) -> None:
        self.method = choice("method", method, METHODS)
        self.alpha = alpha_value(alpha)
        self.n = size("n", n, 1, EXACT, remedy="pass the number of draws")
        remedy = "pass the attack's radius in input units"
        self.radius = real("radius", radius, "finite and >= 0", lambda x: x >= 0, remedy=remedy)
        self.attack, self._kernel = attack, kernels.backend(backend)
        source, self.shift_reason = source_of(noise, attack, self.radius, backend)
        key = seed_value(seed)
        self._pi0 = Sample(source, self.n, key, kernels.PI0)
        self._pi_delta = Sample(source, self.n, key, kernels.PI_DELTA, shifted=True)
        pilot = min(self.n, PILOT_DRAWS)
        self._pilot = Sample(source, pilot, key, kernels.PILOT)
        self._pilot_delta = Sample(source, pilot, key, kernels.PILOT, shifted=True)

    @property
    def _sides(self) -> int:
        return 2 if self.method == "hoeffding" else 1

    @property
    def _epsilon(self) -> float:
        return kernels.hinge_width(self.n, self.alpha, self._sides)

    @cached_property
    def _hinge(self) -> tuple[Float, Float]:
        return self._pi0.hinge()

    def lower_bound(self, p: Any) -> Any:
        """L(p), not above the truth with probability 1 - alpha; p of any shape."""
        points = probabilities("p", p)
        if self.radius == 0:
            return scalar(points)
        if self.method == "clopper-pearson":
            values = np.array([self._two_count(q) for q in points.flat])
        elif points.size == 1 and self._pi0.drawn is not None:
            return self._kernel.hinge_bound(self._pi0.drawn, p, self.alpha, self._sides)
        else:
            lam, hinge = self._hinge
            shares = [q - self._epsilon for q in points.flat]
            values = np.array([max(float((lam * s - hinge).max()), 0.0) for s in shares])
        return scalar(np.clip(values.reshape(points.shape), 0.0, points))

    def required_probability(self) -> float:
        """p_min, not below the truth with probability 1 - alpha; 1.0 where none is known."""
        if self.radius == 0:
            return 0.5
        if self.method == "clopper-pearson":
            return self._two_count_required()
        lam, hinge = self._hinge
        with np.errstate(divide="ignore", over="ignore"):
            needed = (0.5 + hinge) / lam + self._epsilon
        return min(float(needed.min()), 1.0)

    def _counts(self, quantile: float) -> tuple[float, float, float]:
        """(log lam, upper bound of P_0(W < lam), lower bound of P_delta(W < lam)), alpha/2 each.

        Roundings may move an atom's draws apart, other ways under pi0 and pi_delta: lam lies
        beside the pilot's quantile, and what is within the blur of it counts against us.
        """
        blur = self._pi0.blur
        log_lam = quantile + 4 * blur if math.isfinite(quantile) else quantile
        below = self._pi0.count_below(log_lam + blur)
        moved = self._pi_delta.count_below(log_lam - blur)
        half = self.alpha / 2
        upper, lower = binomial_upper(below, self.n, half), binomial_lower(moved, self.n, half)
        return log_lam, upper, lower

    def _two_count(self, p: float) -> float:
        """lam p - D(lam) at the pilot's quantile of p: D(lam) = lam P_0 - P_delta of {W < lam}."""
        log_lam, upper, lower = self._counts(self._pilot.quantile(p))
        return math.exp(min(log_lam, 700.0)) * (p - upper) + lower

    def _two_count_required(self) -> float:
        """(1/2 + D(lam))/lam at the pilot's median under pi_delta."""
        log_lam, upper, lower = self._counts(self._pilot_delta.quantile(0.5))
        return min(max(upper + (0.5 - lower) * math.exp(min(-log_lam, 700.0)), 0.5), 1.0)

    def record(self, lower: Any = math.nan, required: float = math.nan) -> MonteCarloBound:
        """An answer with everything it depends on."""
        split = {"pi0": self.alpha}
        if self.method == "clopper-pearson":
            split = {"pi0": self.alpha / 2, "pi_delta": self.alpha / 2}
        return MonteCarloBound(
            lower=lower, required=required, alpha=self.alpha, n=self.n, method=self.method,
            radius=self.radius, attack=self.attack, shift_reason=self.shift_reason,
            alpha_split=split,
        )  # fmt: skip


def monte_carlo_bound(
    p: Any,
    noise: Noise | CustomNoise,
    attack: str,
    radius: float,
    *,
    n: int,
    alpha: float,
    seed: int,
    method: str = "hoeffding",
    backend: str = "cpu",
) -> MonteCarloBound:
    """Bound the smoothed classifier from below by Monte Carlo.

    Parameters
    ----------
    p : float or array in [0, 1]
    noise, attack, radius : the threat, as in lower_bound; or a CustomNoise
    n : int
        Draws of each sample; up to 1e9 in bounded memory.
    alpha : float in (0, 1/2]
        Probability that `lower` exceeds the truth, at most; hoeffding and dkw hold for
        all p of one call at once, clopper-pearson for each p.
    seed : int
    method : "hoeffding" (the paper's constant), "dkw", "clopper-pearson"
    backend : "cpu", "reference" or "gpu"

    Returns
    -------
    MonteCarloBound
        With `.lower`.

    Raises
    ------
    ValueError, UnsupportedPair

    References
    ----------
    Zhang et al. 2020, Section 4.2 and Eq. 9; Massart 1990 for the validity in lambda.

    Examples
    --------
    >>> options = {"n": 10_000, "alpha": 0.001, "seed": 0}
    >>> made = cc.monte_carlo_bound(0.9, cc.Gaussian(4, 1.0), "l2", 0.5, **options)
    >>> round(made.lower, 2), round(cc.lower_bound(0.9, cc.Gaussian(4, 1.0), "l2", 0.5), 2)
    (0.75, 0.78)
    """
    bounds = MonteCarlo(
        noise, attack, radius, n=n, alpha=alpha, seed=seed, method=method, backend=backend
    )
    return bounds.record(lower=bounds.lower_bound(p))


def monte_carlo_required(
    noise: Noise | CustomNoise,
    attack: str,
    radius: float,
    *,
    n: int,
    alpha: float,
    seed: int,
    method: str = "hoeffding",
    backend: str = "cpu",
) -> MonteCarloBound:
    """Compute p_min by Monte Carlo.

    Parameters
    ----------
    noise, attack, radius, n, alpha, seed, method, backend
        As in monte_carlo_bound.

    Returns
    -------
    MonteCarloBound
        With `.required`, not below the truth with probability 1 - alpha; 1.0 where the
        sample shows no probability that would be enough.

    Raises
    ------
    UnsupportedPair
        No worst shift is known for the pair.
    ValueError
        An argument out of its domain, or draws that are no log ratios.

    Examples
    --------
    >>> options = {"n": 10_000, "alpha": 0.001, "seed": 0}
    >>> made = cc.monte_carlo.monte_carlo_required(cc.Gaussian(4, 1.0), "l2", 0.5, **options)
    >>> made.required > cc.required_probability(cc.Gaussian(4, 1.0), "l2", 0.5)
    True
    """
    bounds = MonteCarlo(
        noise, attack, radius, n=n, alpha=alpha, seed=seed, method=method, backend=backend
    )
    return bounds.record(required=bounds.required_probability())


@overload
def monte_carlo_radius(
    p: Number,
    noise: Noise | CustomNoise,
    attack: str,
    grid: Any,
    *,
    n: int,
    alpha: float,
    seed: int,
    method: str = "clopper-pearson",
    backend: str = "cpu",
) -> float: ...


@overload
def monte_carlo_radius(
    p: Any,
    noise: Noise | CustomNoise,
    attack: str,
    grid: Any,
    *,
    n: int,
    alpha: float,
    seed: int,
    method: str = "clopper-pearson",
    backend: str = "cpu",
) -> Float: ...


def monte_carlo_radius(
    p: Any,
    noise: Noise | CustomNoise,
    attack: str,
    grid: Any,
    *,
    n: int,
    alpha: float,
    seed: int,
    method: str = "clopper-pearson",
    backend: str = "cpu",
) -> Any:
    """Certify radii by Monte Carlo on a preset ascending grid.

    Parameters
    ----------
    p : float or array in [0, 1]
        Lower bounds of the class probability.
    grid : ascending array of radii > 0, fixed before any draw
    others : as in monte_carlo_bound

    Returns
    -------
    float or array
        The last grid radius before the first one that is not certified, or 0.0.  At every
        p it exceeds the truth with probability at most alpha: testing in ascending order
        and stopping at the first failure needs no correction, as certification is nested.

    Raises
    ------
    UnsupportedPair
        No worst shift is known for the pair.
    ValueError
        An argument out of its domain, or draws that are no log ratios.

    Examples
    --------
    >>> noise, grid = cc.Gaussian(4, 1.0), [0.5, 1.0, 1.5]
    >>> cc.monte_carlo.monte_carlo_radius(0.9, noise, "l2", grid, n=10_000, alpha=0.001, seed=0)
    1.0
    """
    points = probabilities("p", p)
    remedy = "pass the grid before looking at any result"
    levels = array(
        "grid", grid, "finite and > 0", lambda x: (x > 0) & np.isfinite(x), remedy=remedy
    )
    if levels.ndim != 1 or not (np.diff(levels) > 0).all():
        raise fail("grid", "an ascending vector", levels.tolist(), remedy)
    result, going = np.zeros(points.shape), points > 0.5
    for radius in levels:
        if not going.any():
            break
        needed = MonteCarlo(
            noise, attack, radius, n=n, alpha=alpha, seed=seed, method=method, backend=backend
        ).required_probability()
        going &= points > needed
        result = np.where(going, radius, result)
    return scalar(result)
