"""The mixed family's law of the log ratio, by two integrals and the law of a sum.

mixed.pyx gives P(l <= t | rho) from the tables of sums.py; here are the integral over
rho = |z|_inf, and the bounds.  Lengths in units of sigma.

Every probability comes with the sum of how far both integrands are from polynomials
(rules.py), of the bounds of sums.py, and of what the tables miss between their nodes.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from scipy import special

from cert_core.errors import Float
from cert_core.laws.base import EPS, SearchedLaw
from cert_core.laws.limits import SumLimit
from cert_core.laws.quadrature import root
from cert_core.laws.sums import LEFT_OUT, Panel, tables
from cert_core.native import conditionals, panel_integral

FINE, SEARCH, COARSE = 1e-8, 1e-4, 2e-2  # tolerances of the integrals: of answers, of searches
ROUNDING = 16 * EPS  # of the density of log rho, times dim: the terms of its logarithm
KNOWN = 6e-10  # less is never stated: searches near 1/2 and 1 would follow the digits that end
LOSS = 1e-9  # what a bound may lose by its lambda
SHARP = math.log(1e-13)  # what rho/r may add to l unseen
RESOLVED = 1e-7  # quantiles nearer to 0 or 1 are not told apart


class MixedLaw(SearchedLaw):
    """The law under delta = (r, ..., r), r in units of sigma; any dim >= 2, 0 <= k < dim.

    F is known to about 1e-9, so sf and the bounds have no digits of their own where they are
    smaller: 1 - p_min errs on the low side by that much, and ppf stops at 1e-7 from 0 and 1.
    """

    resolution = 5e-7

    def __init__(self, dim: int, k: float, reach: float) -> None:
        self._tables, self._r = tables(dim, float(k)), reach
        pull, spread = self._tables.pull, self._tables.spread
        self.limit = SumLimit(reach * pull, reach * math.sqrt(dim - k), spread, dim - k >= 1.0)
        self._seen: dict[tuple[float, float], tuple[float, float]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        told = {"tight": self.tight, "reason": self.reason}  # tables are made where it is read
        return MixedLaw, (self._tables.dim, self._tables.k, self._r), told

    def probability(self, t: float, tolerance: float = FINE) -> tuple[float, float]:
        """(P(l <= t), an estimate of its error from above: integrals, series, tables)."""
        key = (t, tolerance)
        if key not in self._seen:
            self._seen[key] = self._integral(t, tolerance)
        return self._seen[key]

    def _integral(self, t: float, tolerance: float) -> tuple[float, float]:
        table, log_r, floor = self._tables, math.log(self._r), self._floor()
        edges = table.edges(floor, search=tolerance >= SEARCH)
        if table.others < 5 and edges[0] < log_r < edges[-1]:  # l peaks there in few dimensions
            edges = sorted({*edges, log_r})
        total, error = self._beneath(t, floor), LEFT_OUT + ROUNDING * table.dim
        waiting = list(pairwise(edges))
        while waiting:
            low, high = waiting.pop()
            value, miss, inner = self._rule(low, high, t, tolerance)
            if miss <= 0.1 * tolerance or high - low < 2e-9:
                total += value
                error += miss + inner
            else:
                middle = 0.5 * (low + high)
                waiting += [(low, middle), (middle, high)]
        return min(max(total, 0.0), 1.0), max(error, KNOWN)

    def _floor(self) -> float:
        """The log rho below which l is a function of rho alone, and its density a power."""
        dim, k, r = self._tables.dim, self._tables.k, self._r
        levels = [math.log(r), -0.5 * math.log(dim)]
        levels.append(math.log(k / dim) - math.log(r) if k > 0 else -math.inf)
        return SHARP + min(levels)

    def _beneath(self, t: float, floor: float) -> float:
        """P(l <= t, log rho <= floor): there l = k (log rho - log r) - d r^2/2."""
        table = self._tables
        if table.low >= floor:
            return 0.0
        return table.below(
            min(floor, math.log(self._r) + (t + 0.5 * table.dim * self._r**2) / table.k)
        )

    def _rule(
        self, low: float, high: float, t: float, tolerance: float
    ) -> tuple[float, float, float]:
        """(a panel's integral, its error, errors of its nodes)."""
        panel = self._tables.panel(low, high)
        values, errors = self._given(panel, t, tolerance)
        value, miss = panel_integral(panel.weights * values)
        return value, miss, panel_integral(panel.weights * errors)[0]

    def _given(self, panel: Panel, t: float, tolerance: float) -> tuple[Float, Float]:
        """(P(l <= t | rho), errors) at a panel's nodes."""
        values, errors = conditionals(panel.nodes, t, math.log(self._r), tolerance * panel.ease)
        return values, errors + panel.errors

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
        normal_score = float(special.ndtri(p))
        guess = mu * (normal_score - 0.5 * mu)
        tolerance = COARSE * min(p, 1 - p)
        gap = self.probability(guess, tolerance)[0] - p
        step = mu * (1e-3 + 4 * abs(gap) * math.exp(0.5 * normal_score**2))
        rough = root(lambda t: self.probability(t, tolerance)[0] - p, guess, step, LOSS)
        if rough_is_enough:
            return rough
        return root(lambda t: self.probability(t)[0] - p, rough, 1e-5 * mu, 1e-11)

    def _near_median(self) -> tuple[float, float] | None:
        """(near minus the median of l, the density there) by secants from its limit, the last
        step not looked at; None where they do not settle."""
        if not self.limit.close:
            return None
        tau, rise = self.limit.median()
        off = self.probability(-tau, COARSE)[0] - 0.5
        for _ in range(6):
            if abs(off) > 0.2:
                return None
            before, step = off, off / rise
            tau += step
            off = self.probability(-tau, COARSE)[0] - 0.5
            if step != 0.0:
                rise = min(max((before - off) / step, 0.5 * rise), 2.0 * rise)
            if _lost(tau, before * off, rise) <= 0.01 * LOSS:  # what a secant leaves of gaps
                return tau + off / rise, rise
        return None

    def required(self, loss: float = 1e-17) -> tuple[float, float]:
        found = self._near_median()
        if found is not None:
            tau, rise = found
            for _ in range(3):
                excess, deficit, gap, _ = self.bound(max(tau, 0.0))
                if tau >= 0.0 and _lost(tau, gap, rise) <= 2.5 * LOSS:
                    return excess, deficit
                tau += gap / rise
        return self.bound(max(-self._quantile(0.5, 0.5, rough_is_enough=True), 0.0))[:2]

    def bound(self, tau: float, fine: bool = True) -> tuple[float, float, float, float]:
        tolerance = FINE if fine else SEARCH
        share = math.exp(-tau)
        ahead, error = self.probability(tau, tolerance)
        enough = tolerance * max(1.0, 0.2 / max(share, 0.01))  # it counts that much less
        back, back_error = self.probability(-tau, enough)
        excess = (ahead + error - 0.5) + (back + back_error - 0.5) * share
        excess = min(max(excess, 0.0), 0.5)
        rough = 0.0 if fine else min(error + back_error * share, excess)
        return excess, 0.5 - excess, back - 0.5, rough

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


def _lost(tau: float, gap: float, rise: float) -> float:
    """What p_min loses at exp(tau), P(l < -tau) - 1/2 being the gap, its slope `rise`."""
    return 0.5 * math.exp(min(-tau, 700.0)) * gap * gap / rise
