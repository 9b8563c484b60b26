"""The mixed family's law of the log ratio, by two integrals and the law of a sum.

mixed.pyx gives P(l <= t | rho) from the tables of sums.py; here are the integral over
rho = |z|_inf, and the bounds.  Lengths in units of sigma.

Every probability comes with the sum of what the Gauss-Kronrod pairs of both integrals
differ by, of the bounds of sums.py, and of what the tables miss between their nodes.
"""

from __future__ import annotations

import math
from itertools import pairwise, product
from typing import Any

import numpy as np
from scipy import optimize, special

from cert_core.laws.base import EPS, LogRatioLaw
from cert_core.laws.quadrature import root
from cert_core.laws.sums import LEFT_OUT, tables
from cert_core.native import NODES, RULE, RULE_GAUSS

FINE, COARSE = 1e-8, 1e-3  # tolerances of the integrals: of answers, of searches
LOSS = 1e-9  # what a bound may lose by its lambda
RESOLVED = 1e-7  # quantiles nearer to 0 or 1 are not told apart


class MixedLaw(LogRatioLaw):
    """The law under delta = (r, ..., r), r in units of sigma; any dim >= 2, 0 <= k < dim.

    F is known to about 1e-9, so sf and the bounds have no digits of their own where they are
    smaller: 1 - p_min errs on the low side by that much, and ppf stops at 1e-7 from 0 and 1.
    """

    resolution = 5e-7

    def __init__(self, dim: int, k: float, reach: float) -> None:
        self._tables, self._r = tables(dim, float(k)), reach
        self._seen: dict[tuple[float, float], tuple[float, float]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        told = {"tight": self.tight, "reason": self.reason}  # tables are made where it is read
        return MixedLaw, (self._tables.dim, self._tables.k, self._r), told

    def probability(self, t: float, tolerance: float = FINE) -> tuple[float, float]:
        """(P(l <= t), an estimate of its error from above: rule differences, series, tables)."""
        key = (t, tolerance)
        if key not in self._seen:
            self._seen[key] = self._integral(t, tolerance)
        return self._seen[key]

    def _integral(self, t: float, tolerance: float) -> tuple[float, float]:
        if math.isinf(t):
            return (1.0 if t > 0 else 0.0), 0.0
        table = self._tables
        edges = table.panels if tolerance <= FINE else table.panels_search
        # F(t | rho) has kinks in few dimensions, where a rule's pair may agree by chance
        kinks = table.others == 0 or (table.others < 5 and tolerance <= FINE)
        if kinks:
            cuts = self._kinks(t) if table.others == 0 else [math.log(self._r)]
            edges = sorted({*edges, *(y for y in cuts if edges[0] < y < edges[-1])})
        waiting = [
            (low, high, self._rule(low, high, t, tolerance)) for low, high in pairwise(edges)
        ]
        total, error, limit = 0.0, LEFT_OUT, 0.1 * tolerance
        while waiting:
            low, high, (value, miss, inner) = waiting.pop()
            if (miss <= limit and not kinks) or high - low < 2e-9:
                total += value
                error += miss + inner
                continue
            middle = 0.5 * (low + high)
            left, right = (
                self._rule(*ends, t, tolerance) for ends in ((low, middle), (middle, high))
            )
            change = abs(left[0] + right[0] - value)
            if kinks and max(miss, change) <= limit:
                total += left[0] + right[0]
                error += 4 * max(change, left[1] + right[1]) + left[2] + right[2]
            else:
                waiting += [(low, middle, left), (middle, high, right)]
        return min(max(total, 0.0), 1.0), error

    def _kinks(self, t: float) -> list[float]:
        """For dim 2: log rho at r and beside it, where l is above t for a moment only, and where
        l = t at a corner of the square of radius rho or of its part above 2r - rho."""
        table, centre, width = self._tables, math.log(self._r), 1.0
        found = [centre]
        while width > 1e-9 and width * table.k > math.exp(-abs(t)) * 1e-3:
            found += [centre - width, centre + width]
            width /= 8
        grid = np.unique([*np.linspace(table.low, table.high, 1000), *found])
        for high, share in product(range(table.dim + 1), (0.0, 2.0)):

            def excess(y: Any, high: int = high, share: float = share) -> Any:
                rho = np.exp(y)  # `high` coordinates rho, the rest at -rho or at 2r - rho
                total = high * rho + (table.dim - high) * (share * self._r - rho)
                low = rho + self._r if share == 0 and high < table.dim else 0.0
                size = np.maximum(np.abs(rho - self._r), low) + 1e-300
                log_ratio = self._r * (total - 0.5 * table.dim * self._r)
                return log_ratio - table.k * np.log(size / rho) - t

            above = excess(grid) > 0
            for i in np.nonzero(above[1:] != above[:-1])[0]:
                found.append(float(optimize.brentq(excess, grid[i], grid[i + 1], xtol=1e-13)))
        return found

    def _rule(
        self, low: float, high: float, t: float, tolerance: float
    ) -> tuple[float, float, float]:
        """(a panel's integral, what the Kronrod pair differs by, errors of its nodes)."""
        half, middle = 0.5 * (high - low), 0.5 * (high + low)
        y = middle + half * NODES
        density = half * self._tables.density(y)
        found = np.array([self._given(float(x), t, tolerance) for x in y])
        values = density * found[:, 0]
        kronrod = float(RULE @ values)
        miss = abs(kronrod - float(RULE_GAUSS @ values))
        return kronrod, miss, float(RULE @ (density * found[:, 1]))

    def _given(self, y: float, t: float, tolerance: float) -> tuple[float, float]:
        node, error = self._tables.node(y)
        value, miss = node.conditional(t, self._r, tolerance)
        return value, miss + error

    def _pair(self, t: float) -> tuple[float, float]:
        value, _ = self.probability(t)
        return value, 1.0 - value

    def _interval(self, t: float) -> tuple[float, float]:
        value, error = self.probability(t)
        return max(value - error, 0.0), min(value + error, 1.0)

    def _above(self, t: float) -> float:
        return self._interval(t)[1]

    def _quantile(self, p: float, q: float, rough_is_enough: bool = False) -> float:
        if p <= 0.0:
            return -math.inf
        if q <= 0.0:
            return math.inf
        p = min(max(p, RESOLVED), 1 - RESOLVED)  # further out F is not known
        at_zero = self.probability(0.0, COARSE)[0]
        mu = 2 * float(special.ndtri(min(max(at_zero, 0.5 + 1e-9), 1 - 1e-9)))
        score = float(special.ndtri(p))
        guess = mu * (score - 0.5 * mu)
        tolerance = COARSE * min(p, 1 - p)
        gap = self.probability(guess, tolerance)[0] - p
        step = mu * (1e-3 + 4 * abs(gap) * math.exp(0.5 * score**2))
        rough = root(lambda t: self.probability(t, tolerance)[0] - p, guess, step, LOSS)
        if rough_is_enough:
            return rough
        return root(lambda t: self.probability(t)[0] - p, rough, 1e-5 * mu, 1e-11)

    def required(self, loss: float = 1e-17) -> tuple[float, float]:
        tau = max(-self._quantile(0.5, 0.5, rough_is_enough=True), 0.0)
        ahead, error = self.probability(tau)
        back, back_error = self.probability(-tau)
        share = math.exp(-tau)
        excess = (ahead + error - 0.5) + (back + back_error - 0.5) * share
        excess = min(max(excess, 0.0), 0.5)
        return excess, 0.5 - excess

    def lower(self, p: float) -> float:
        tau = self._quantile(p, 1.0 - p, rough_is_enough=True)
        if abs(tau) > 600.0:
            return 0.0
        value = math.exp(tau) * (p - self._above(tau)) + (1.0 - self._above(-tau))
        return max(value - 4 * EPS, 0.0)

    def discrepancy(self, lam: float) -> float:
        tau = math.log(lam)
        value = lam * self._above(tau) - (1.0 - self._above(-tau))
        return max(min(value + 4 * EPS * lam, lam), lam - 1.0, 0.0)
