"""Closed laws: no shift, the Gaussian (Corollary 2), the Laplace noise (Corollary 1)."""

from __future__ import annotations

import math

from scipy import special

from cert_core.laws.base import EPS, LogRatioLaw, down, up


class PointLaw(LogRatioLaw):
    """No shift: l = 0, L(p) = p."""

    def _pair(self, t: float) -> tuple[float, float]:
        return (1.0, 0.0) if t >= 0 else (0.0, 1.0)

    def _interval(self, t: float) -> tuple[float, float]:
        return self._pair(t)[0], self._pair(t)[0]

    def _quantile(self, p: float, q: float) -> float:
        return 0.0 if p > 0 else -math.inf

    def required(self, loss: float = 1e-17) -> tuple[float, float]:
        return 0.0, 0.5

    def lower(self, p: float) -> float:
        return p

    def discrepancy(self, lam: float) -> float:
        return max(lam - 1.0, 0.0)


class GaussianLaw(LogRatioLaw):
    """l ~ N(-mu^2/2, mu^2), mu = |delta|_2/sigma: Corollary 2."""

    def __init__(self, mu: float) -> None:
        self.mu = mu

    def _normal_score(self, t: float) -> float:
        """Phi^-1 of F(t), cut where Phi is 0 or 1 in doubles."""
        z = (t + 0.5 * self.mu**2) / self.mu
        return z if -1e3 < z < 1e3 else math.copysign(1e3, z)

    def _pair(self, t: float) -> tuple[float, float]:
        z = self._normal_score(t)
        return float(special.ndtr(z)), float(special.ndtr(-z))

    def _interval(self, t: float) -> tuple[float, float]:
        z = self._normal_score(t)
        slack = 4 * EPS * (abs(z) + self.mu) if math.isfinite(z) else 0.0
        low, high = float(special.ndtr(z - slack)), float(special.ndtr(z + slack))
        return max(down(low), 0.0), min(up(high), 1.0)

    def _quantile(self, p: float, q: float) -> float:
        z = special.ndtri(p) if p < 0.5 else -special.ndtri(q)
        return float(self.mu * z - 0.5 * self.mu**2)

    def required(self, loss: float = 1e-17) -> tuple[float, float]:
        excess = 0.5 * float(special.erf(self.mu / math.sqrt(2)))
        deficit = float(special.ndtr(-self.mu))
        return up(excess), down(deficit, 8.0 + self.mu**2)

    def lower(self, p: float) -> float:
        z = float(special.ndtri(p)) if p < 0.5 else -float(special.ndtri(1.0 - p))
        value = float(special.ndtr(z - self.mu))
        return down(value, 8.0 + 4.0 * (abs(z) + self.mu) ** 2)

    def discrepancy(self, lam: float) -> float:
        tau = math.log(lam)
        below, above = self._normal_score(tau), self._normal_score(-tau)
        terms = lam * float(special.ndtr(below)), float(special.ndtr(-above))
        # the relative error of Phi(z) is that of z times z phi/Phi, about z^2 in the tail
        spread, slack = abs(tau) / self.mu + self.mu, 4.0 * (terms[0] + terms[1])
        for term, z in zip(terms, (below, -above), strict=True):
            if z < 0.0 < term:  # then spread is finite
                slack -= term * z * (spread - z)
        value = max(terms[0] - terms[1], lam - 1.0, 0.0)
        return min(up(value + 2 * EPS * slack, 0.0), lam)


class LaplaceLaw(LogRatioLaw):
    """Atoms 1/2 at -m and exp(-m)/2 at m = r/b, between them F(t) = 1 - exp(-(m + t)/2)/2.

    Corollary 1, whose second case holds only for p >= 1/2: for p < 1/2 the bound is
    p exp(-m), below the printed formula.
    """

    def __init__(self, m: float) -> None:
        self.m = m

    def _pair(self, t: float) -> tuple[float, float]:
        if t < -self.m:
            return 0.0, 1.0
        if t >= self.m:
            return 1.0, 0.0
        survival = 0.5 * math.exp(-0.5 * (self.m + t))
        return 1.0 - survival, survival

    def _interval(self, t: float) -> tuple[float, float]:
        value, survival = self._pair(t)
        if survival in (0.0, 1.0):
            return value, value
        slack = 4 * EPS * survival * (1.0 + self.m)
        low, high = math.nextafter(value - slack, 0.0), math.nextafter(value + slack, 1.0)
        return max(low, 0.5), min(high, 1.0)

    def _quantile(self, p: float, q: float) -> float:
        if p <= 0.0:
            return -math.inf
        if p <= 0.5:
            return -self.m
        if q <= 0.5 * math.exp(-self.m):
            return self.m
        return -2.0 * math.log(2.0 * q) - self.m

    def required(self, loss: float = 1e-17) -> tuple[float, float]:
        return up(-0.5 * math.expm1(-self.m)), down(0.5 * math.exp(-self.m), 8 + 4 * self.m)

    def lower(self, p: float) -> float:
        q = 1.0 - p
        if p < 0.5:
            value = p * math.exp(-self.m)
        elif q > 0.5 * math.exp(-self.m):
            value = 0.25 * math.exp(-self.m) / q
        else:
            value = 1.0 - math.exp(self.m) * q
        return down(value, 8.0 + 4.0 * self.m)

    def discrepancy(self, lam: float) -> float:
        tau = math.log(lam)
        if tau <= -self.m:
            return 0.0
        if tau >= self.m:
            return max(lam - 1.0, 0.0)
        # the integral of F over W, which is 1 - exp(-m/2) / (2 sqrt W) between the atoms
        share = -math.expm1(-0.5 * (tau + self.m))
        rounding = 4 * EPS * (abs(tau) + self.m + 4.0)  # of tau + m, and what it makes of share
        return min(up(lam * (share + rounding), 16.0), lam)
