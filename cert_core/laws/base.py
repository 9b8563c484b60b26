"""What a law of the log ratio answers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from cert_core.errors import Float, array, probabilities, scalar
from cert_core.laws.limits import Limit

EPS = float(np.finfo(np.float64).eps)


class LogRatioLaw(ABC):
    """The law of the log ratio under one shift, with z ~ pi0.

    Attributes
    ----------
    tight : bool
        Whether the shift is the worst of the attack ball (else bounds are loose, and sound).
    reason : str
        The proof of that, or the inclusion used.
    resolution : float
        Relative error to which normal score/radius is a smooth function of the radius.
    full_support : bool
        Whether L(1) = 1 without being asked; else `lower` serves p in [0, 1].

    Examples
    --------
    >>> law = cc.log_ratio_law(cc.Laplace(784, 0.5), "l1", 0.4)
    >>> isinstance(law, cc.laws.LogRatioLaw), law.tight
    (True, True)
    >>> round(law.cdf(0.0), 4), round(law.sf(0.0), 4), round(law.ppf(0.6), 4)
    (0.6648, 0.3352, -0.3537)
    """

    resolution: float = 1e-11
    full_support: bool = True
    tight: bool = True
    reason: str = ""

    def cdf(self, t: Any) -> Any:
        """F(t) = P(l <= t); the middle of its enclosure, t of any shape."""
        return self._each("t", t, lambda x: self._split(x)[0])

    def sf(self, t: Any) -> Any:
        """P(l > t), in its own digits, t of any shape."""
        return self._each("t", t, lambda x: self._split(x)[1])

    def ppf(self, p: Any) -> Any:
        """inf {t : F(t) >= p}, p in [0, 1] of any shape; to about 1e-9 of the law's
        spread, the mixed family's to 1e-6 (bounds that read it lose to second order only)."""
        probabilities("p", p)
        return self._each("p", p, lambda x: self._quantile(x, 1.0 - x))

    def enclose(self, t: Any) -> tuple[Any, Any]:
        """(lower, upper) of F(t), t of any shape: F(t) lies between them."""
        points = _thresholds("t", t)
        found = [self._enclosed(float(x)) for x in points.flat]
        ends = np.array(found).reshape(-1, 2).T
        lower, upper = (scalar(end.reshape(points.shape)) for end in ends)
        return lower, upper

    def _sure(self, t: float) -> bool:
        """Whether F(t) is 0 or 1 whatever the law is: l is finite where the supports agree."""
        return self.full_support and math.isinf(t)

    def _split(self, t: float) -> tuple[float, float]:
        return (float(t > 0), float(t < 0)) if self._sure(t) else self._pair(t)

    def _enclosed(self, t: float) -> tuple[float, float]:
        return (float(t > 0), float(t > 0)) if self._sure(t) else self._interval(t)

    @staticmethod
    def _each(name: str, values: Any, function: Callable[[float], float]) -> Any:
        points = _thresholds(name, values)
        return scalar(np.array([function(float(x)) for x in points.flat]).reshape(points.shape))

    @abstractmethod
    def _pair(self, t: float) -> tuple[float, float]:
        """F(t) and P(l > t), t finite where the supports agree."""

    @abstractmethod
    def _interval(self, t: float) -> tuple[float, float]:
        """An enclosure of F(t), t likewise."""

    @abstractmethod
    def _quantile(self, p: float, q: float) -> float:
        """ppf at p = 1 - q, both given so that neither tail loses digits."""

    @abstractmethod
    def required(self, loss: float = 1e-17) -> tuple[float, float]:
        """(excess, deficit): p_min - 1/2, not below the truth, and 1 - p_min, not above it;
        a search may ask for a lambda that loses more than rounding, relative to 1."""

    @abstractmethod
    def lower(self, p: float) -> float:
        """L(p), not above the truth, p in (0, 1)."""

    @abstractmethod
    def discrepancy(self, lam: float) -> float:
        """D(lam), not below the truth, lam > 0."""


class SearchedLaw(LogRatioLaw):
    """A law whose radii are searched for: radius and lambda at once."""

    limit: Limit

    @abstractmethod
    def bound(self, tau: float, fine: bool = True) -> tuple[float, float, float, float]:
        """(excess, deficit) as of `required` at lam = exp(tau), tau >= 0; P(l < -tau) - 1/2,
        which is 0 at the best lambda; what excess may lose with more digits than those of
        searches, unless it is `fine`."""


def _thresholds(name: str, values: Any) -> Float:
    remedy = "pass log-ratio thresholds"
    return array(name, values, "a number", lambda x: ~np.isnan(x), remedy=remedy)


def down(value: float, ulps: float = 8.0) -> float:
    """value less so many ulps, and a step where that is none: among denormals."""
    return math.nextafter(value - ulps * EPS * abs(value), -math.inf)


def up(value: float, ulps: float = 8.0) -> float:
    return math.nextafter(value + ulps * EPS * abs(value), math.inf)
