"""Laws that the compiled core evaluates, with their errors on the safe side."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Protocol

from scipy import special

from cert_core.errors import NoBracket
from cert_core.laws.base import EPS, SearchedLaw, down, up
from cert_core.laws.limits import Limit

FAR = 600.0  # a log lambda at which bounds have nothing left
COARSE = 1e-9  # tolerance of searches, whose error enters a bound to second order


class Engine(Protocol):
    """A compiled law (native/engine.pyx): values with their errors."""

    def distribution(
        self, t: float, tolerance: float = ...
    ) -> tuple[float, float, float, float]: ...

    def bounds(
        self, tau: float, tolerance: float = ..., parts: int = ...
    ) -> tuple[list[float], list[float]]: ...


def margin(value: float, error: float) -> float:
    """error, and what rounding adds: a probability is the exponential of its logarithm."""
    if value <= 0.0:
        return error
    return error + EPS * value * (16.0 + 3.0 * abs(math.log(value)))


class QuadratureLaw(SearchedLaw):
    """A law evaluated by the compiled core (engine.pyx): the radial families."""

    def __init__(self, engine: Engine, limit: Limit, jumps: tuple[float, ...] = ()) -> None:
        self._engine, self.limit = engine, limit
        self._jumps = jumps  # atoms of l, where F jumps and a bound's best lambda may sit
        bounded = len(jumps) > 1  # h is linear: l stays between its outer atoms
        self._support = (min(jumps), max(jumps)) if bounded else (-math.inf, math.inf)
        # the best lambda of p_min is no less: F(0) >= 1/2, and half of a flat cone is one atom
        self._lowest = max(jumps) if len(jumps) == 2 else 0.0

    def _pair(self, t: float) -> tuple[float, float]:
        low, high = self._support
        if t >= high or t < low:
            return (1.0, 0.0) if t > 0 else (0.0, 1.0)
        below, above, _, _ = self._engine.distribution(t)
        return (below, 1.0 - below) if below <= above else (1.0 - above, above)

    def _interval(self, t: float) -> tuple[float, float]:
        low, high = self._support
        if t >= high or t < low:
            return (1.0, 1.0) if t > 0 else (0.0, 0.0)
        # The thresholds are roots found to rounding: enclose F over that much of t.
        slack = 0.0 if self._jumps else 16 * EPS * abs(t)
        below, above, error, error_above = self._engine.distribution(t - slack)
        low = max(below - margin(below, error), 1.0 - above - margin(above, error_above))
        if slack:
            below, above, error, error_above = self._engine.distribution(t + slack)
        high = min(below + margin(below, error), 1.0 - above + margin(above, error_above))
        low, high = math.nextafter(low, 0.0), math.nextafter(high, 1.0)
        return min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)

    def _quantile(self, p: float, q: float, loss: float = 1e-17) -> float:
        if p <= 0.0:
            return -math.inf
        if q <= 0.0:
            return self._support[1]
        for jump in self._jumps:
            before = jump - max(EPS * abs(jump), 1e-250)
            if self._gap(jump, p, q) >= -10 * COARSE and self._gap(before, p, q) < 0:
                return jump
        if p == 0.5 and self.limit.close:
            tau, rise = self.limit.median()
            off = self._gap(-tau, p, q)
            if abs(off) < 0.5:
                step = (0.625 * abs(off) + 1e-9) / rise  # the slope of _gap is 2 rise
                least = loss * min(self.limit.size, 1.0)
                return root(lambda t: self._gap(t, p, q), -tau, step, least, off)
        # As for a Gaussian of the same F(0) = Phi(mu/2)
        mu = 2 * float(special.ndtri(min(self._at_zero, 1 - 1e-15)))
        guess = mu * (float(special.ndtri(p)) - 0.5 * mu)
        step = 0.1 * min(mu, abs(guess)) + 1e-14
        return root(lambda t: self._gap(t, p, q), guess, step, loss * min(mu, 1.0))

    @cached_property
    def _at_zero(self) -> float:
        return max(self._engine.distribution(0.0, COARSE)[0], 0.5)

    def _gap(self, t: float, p: float, q: float) -> float:
        """F(t) - p on a scale that resolves both tails, cut at +-2 for the secants."""
        below, above, _, _ = self._engine.distribution(t, COARSE)
        have = (
            math.log(max(2 * below, 1e-300)) if below < 0.5 else -math.log(max(2 * above, 1e-300))
        )
        return max(min(have - (math.log(2 * p) if p < 0.5 else -math.log(2 * q)), 2.0), -2.0)

    def _thresholds(self, t: float) -> list[float]:
        """Log lambdas to try: any is safe, the quantile is best, beside an atom the atom is."""
        return [t, *(jump for jump in self._jumps if jump != t)]

    def _lost(self, p: float, q: float) -> bool:
        """Whether L(p) is below exp(-FAR), as P(l > FAR) is: the quantile of p is below -FAR."""
        return self._gap(-FAR, p, q) > 0

    def required(self, loss: float = 1e-17) -> tuple[float, float]:
        if self._jumps:
            excess, deficit, gap, _ = self.bound(self._lowest)
            if gap == 0.0:
                return excess, deficit
        try:
            median = self._quantile(0.5, 0.5, loss)
        except NoBracket:
            if self._lost(0.5, 0.5):
                return 0.5, 0.0
            raise
        best = (0.5, 0.0)
        for tau in {max(-m, 0.0) for m in self._thresholds(median)}:
            excess, deficit, *_ = self.bound(tau)
            best = (min(best[0], excess), max(best[1], deficit))
        return best

    def bound(self, tau: float, fine: bool = True) -> tuple[float, float, float, float]:
        tau = max(self._lowest, tau)
        (excess, overlap, gap), errors = self._engine.bounds(tau, 4e-15 if fine else COARSE, 2)
        half = 0.5 * math.exp(-tau)
        above, below = margin(excess, errors[0]), margin(overlap, errors[1]) + 2 * EPS * half
        if tau == self._lowest:  # no smaller one is better
            gap = max(gap, 0.0)
        rough = 0.0 if fine else above if excess < 0.25 else below
        return excess + above, overlap - half - below, gap, rough

    def lower(self, p: float) -> float:
        q = 1.0 - p
        try:
            quantile = self._quantile(p, q)
        except NoBracket:
            if self._lost(p, q):
                return 0.0
            raise
        return max(self._lower_at(tau, p, q) for tau in self._thresholds(quantile))

    def _lower_at(self, tau: float, p: float, q: float) -> float:
        """lam p - D(lam) at lam = exp(tau), not above the truth."""
        if abs(tau) > FAR:  # lam over- or underflows, and so does L
            return 0.0
        values, errors = self._engine.bounds(abs(tau))
        lam = math.exp(tau)
        overlap = (values[1] - margin(values[1], errors[1])) * max(lam, 1.0)
        best = down(overlap, 4.0) - up(lam * q, 4.0)
        if p < 0.5 and tau < 0:
            gain = p - self._small_discrepancy(values, errors, -tau)
            best = max(best, lam * (gain - (4 + abs(tau)) * EPS * p))
        return max(best, 0.0)

    def _small_discrepancy(self, values: list[float], errors: list[float], tau: float) -> float:
        """D(lam)/lam at lam = exp(-tau), tau >= 0, not below the truth."""
        if tau >= self._support[1]:
            return 0.0
        direct = values[2] + margin(values[2], errors[2])
        direct -= values[3] - margin(values[3], errors[3])
        excess = values[0] + margin(values[0], errors[0])
        return max(min(direct, math.exp(tau) * excess - 0.5 * math.expm1(tau) * (1 - 1e-15)), 0.0)

    def discrepancy(self, lam: float) -> float:
        tau = math.log(lam)
        if tau > 600.0:
            return lam
        if tau < -600.0:
            return lam * min(self._interval(tau)[1], 1.0)  # D(lam) <= lam F(log lam)
        values, errors = self._engine.bounds(abs(tau))
        if tau >= 0:
            excess = values[0] + margin(values[0], errors[0])
            value = lam * (excess - 0.5 * math.expm1(-tau))
        else:
            value = lam * self._small_discrepancy(values, errors, -tau)
        return max(min(up(value, 4.0), lam), lam - 1.0, 0.0)


def _bracket(
    gap: Callable[[float], float], guess: float, step: float, at_guess: float
) -> tuple[float, float, float, float]:
    """(low, gap there, high, gap there) around a root, by expansion from a guess."""
    low = high = guess
    at_low = at_high = at_guess
    for _ in range(200):
        if at_low <= 0 < at_high:
            return low, at_low, high, at_high
        if at_high <= 0:
            low, at_low, high = high, at_high, high + step
            at_high = gap(high)
        else:
            high, at_high, low = low, at_low, low - step
            at_low = gap(low)
        step *= 2
    raise NoBracket(
        "the log ratio's quantile could not be enclosed: the radius is too far outside "
        "the noise's scale"
    )


def root(
    gap: Callable[[float], float],
    guess: float,
    step: float,
    loss: float,
    at_guess: float | None = None,
) -> float:
    """Where an increasing function of t crosses 0, to |gap| times bracket below loss.

    That product is what a bound loses at lam = exp(t), whose derivative in t is the gap.  A
    guess whose gap is given lies where the function is smooth: there 16 times the step of a
    secant will do for the bracket, which need not close from both sides.
    Chandrupatla's method: inverse quadratic steps where they are safe, else halving.
    """
    far, at_far, near, at_near = _bracket(
        gap, guess, step, gap(guess) if at_guess is None else at_guess
    )
    other, at_other = far, at_far
    share = 0.5 if at_guess is None else at_near / (at_near - at_far)
    share = min(max(share, 1e-3), 1 - 1e-3)
    for _ in range(200):
        middle = near + share * (far - near)
        value = gap(middle)
        if (value > 0) == (at_near > 0):
            other, at_other = near, at_near
        else:
            other, at_other, far, at_far = far, at_far, near, at_near
        near, at_near = middle, value
        best = min(abs(at_near), abs(at_far))
        width = abs(far - near)
        if best * width <= loss or width <= 4 * EPS * abs(near):
            break
        if at_guess is not None and at_near != at_other:
            step = at_near * (near - other) / (at_near - at_other)
            if 16 * abs(at_near * step) <= loss:
                return near
        x = (near - far) / (other - far)
        y = (at_near - at_far) / (at_other - at_far)
        share = 0.5
        if y * y < x and (1 - y) ** 2 < 1 - x:
            share = at_near / (at_far - at_near) * at_other / (at_far - at_other)
            share += (
                (other - near)
                / (far - near)
                * at_near
                / (at_other - at_near)
                * at_far
                / (at_other - at_far)
            )
            share = min(max(share, 1e-3), 1 - 1e-3)
    return near if abs(at_near) < abs(at_far) else far
