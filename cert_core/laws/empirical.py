"""The law of a given sample of log ratios."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cert_core.errors import array, fail
from cert_core.laws.base import LogRatioLaw


class EmpiricalLaw(LogRatioLaw):
    """The empirical law of given draws of l under pi0.

    Its bounds are the hinge mean's (Eq. 9), estimates without a confidence level:
    monte_carlo puts the level on them.  enclose gives the two-sided
    Dvoretzky-Kiefer-Wolfowitz band at failure probability 0.001.

    Examples
    --------
    >>> law = cc.laws.EmpiricalLaw([-1.0, 0.0, 0.5, 1.0])
    >>> law.cdf(0.25), law.ppf(0.5)
    (0.5, 0.0)
    """

    def __init__(self, log_ratio: Any) -> None:
        remedy = "pass draws of the log ratio under the unshifted noise"
        rule = "below 709, as the exponentials average to 1"
        sample = array("log_ratio", log_ratio, rule, lambda x: x < 709.0, remedy=remedy)
        if sample.ndim != 1 or sample.size == 0:
            raise fail("log_ratio", "a non-empty vector", sample.shape, remedy)
        self._sorted = np.sort(sample)
        self._ratios = np.exp(self._sorted)
        self._sums = np.concatenate([[0.0], np.cumsum(self._ratios)])

    def _pair(self, t: float) -> tuple[float, float]:
        count = int(np.searchsorted(self._sorted, t, side="right"))
        n = self._sorted.size
        return count / n, (n - count) / n

    def _interval(self, t: float) -> tuple[float, float]:
        epsilon = math.sqrt(math.log(2 / 0.001) / (2 * self._sorted.size))
        value = self._pair(t)[0]
        return max(value - epsilon, 0.0), min(value + epsilon, 1.0)

    def _quantile(self, p: float, q: float) -> float:
        if p <= 0.0:
            return -math.inf
        return float(self._sorted[max(math.ceil(p * self._sorted.size) - 1, 0)])

    def required(self, loss: float = 1e-17) -> tuple[float, float]:
        # L is increasing and convex: bisect L(p) = 1/2
        low, high = 0.5, 1.0
        while high - low > 1e-12:
            middle = 0.5 * (low + high)
            low, high = (low, middle) if self.lower(middle) > 0.5 else (middle, high)
        return high - 0.5, 1.0 - high

    def lower(self, p: float) -> float:
        n = self._sorted.size
        m = min(max(math.ceil(n * p) - 1, 0), n - 1)
        return float(self._ratios[m] * (p - m / n) + self._sums[m] / n)

    def discrepancy(self, lam: float) -> float:
        m = int(np.searchsorted(self._ratios, lam, side="right"))
        return float((m * lam - self._sums[m]) / self._sorted.size)
