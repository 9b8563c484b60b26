"""The law of the log ratio in ball arithmetic, for proofs.

Every number is a ball of Arb (python-flint, extra `proof`) that holds the truth: each rounding,
truncation, kink and tail widens it.

Radial families, lengths in units of the scale: v = |z|^power ~ Gamma(a), a = (dim - k)/power,
and l <= t where |z - delta| >= x = |z| e^u with k u + v expm1(power u) = -t.  Solved for v that
is elementary.  With y real, m = |u| = 1/(k/|t| + e^y) and share = e^y m, the longer of |z| and
x has the power |t| share/(1 - exp(-power m)), the shorter one is exp(-m) times it, and y is
nearly log v whatever the parameters are.  P(l > t) and P(l < -t) are integrals over y of the
gamma density times what of the sphere |z| lies closer to delta than x, or farther.  Outside the
range of y stands Chernoff's bound of the gamma law.  Kinks need no search: Arb's integrator is
told that nothing is holomorphic there, and halves until what is left does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from cert_core.errors import BackendMissing

try:
    from flint import acb, arb, ctx, fmpq
except ImportError as error:
    raise BackendMissing(
        "python-flint is missing, which proves certificates: "
        "pip install 'smoothing-certificates[proof]'"
    ) from error

__all__ = [
    "BITS",
    "GEOMETRIES",
    "HALF",
    "LINE",
    "Gaussian",
    "Laplace",
    "Law",
    "Radial",
    "arb",
    "ball",
    "ctx",
    "ends",
]

BITS = 128  # of a ball's middle
NARROW = 1e-33  # balls of less radius are points
HALF = arb(0.5)

# (place, over, u, outwards, analytic) -> P(|z - delta| >= x given |z|), where place, which is
# over/(2 |z| reach^(n-1)), lies between -1 and 1; outwards: u > 0
Cap = Callable[[acb, acb, acb, bool, bool], acb]


class Law(Protocol):
    """The law of l, whose atoms are avoided."""

    def above(self, t: arb, tolerance: arb) -> arb:
        """P(l > t), t > 0."""

    def below(self, t: arb, tolerance: arb) -> arb:
        """P(l < -t), t > 0."""


@dataclass(frozen=True)
class Gaussian:
    """l ~ N(-mu^2/2, mu^2): Corollary 2."""

    mu: arb

    def above(self, t: arb, tolerance: arb) -> arb:
        return ((t / self.mu + self.mu / 2) * HALF.sqrt()).erfc() / 2

    def below(self, t: arb, tolerance: arb) -> arb:
        return ((t / self.mu - self.mu / 2) * HALF.sqrt()).erfc() / 2


@dataclass(frozen=True)
class Laplace:
    """P(l > t) = exp(-(m + t)/2)/2 for -m <= t < m, and 0 beyond: Corollary 1."""

    m: arb

    def above(self, t: arb, tolerance: arb) -> arb:
        return self._inside(t, (-(self.m + t) / 2).exp() / 2)

    def below(self, t: arb, tolerance: arb) -> arb:
        return self._inside(t, 1 - (-(self.m - t) / 2).exp() / 2)

    def _inside(self, t: arb, value: arb) -> arb:
        if t > self.m:
            return arb(0)
        return value if t < self.m else value.union(0)


def _unknown(analytic: bool) -> acb:
    """A probability of which nothing is known; no value where a holomorphic one is asked for."""
    return acb(arb.nan()) if analytic else acb(arb(0.5, 0.5))


def _narrower(first: acb, second: acb) -> acb:
    """Of two balls that hold the same values."""
    return second if second.rad() < first.rad() else first


@dataclass(frozen=True)
class Radial:
    """l of a density prop. to |z|^-k exp(-|z|^power) under a shift along an axis or a diagonal."""

    k: arb
    power: arb
    shape: arb  # of the gamma law of v
    reach: arb  # the shift's size
    order: int  # of the powers of lengths that the geometry compares
    cap: Cap

    def above(self, t: arb, tolerance: arb) -> arb:
        return Integral(self, t, 1).value(tolerance)

    def below(self, t: arb, tolerance: arb) -> arb:
        return Integral(self, t, -1).value(tolerance)


class Integral:
    """P(l > t), sign 1, or P(l < -t), sign -1, for t > 0: an integral over y."""

    def __init__(self, law: Radial, t: arb, sign: int) -> None:
        self.law, self.size, self.sign = law, t, sign
        self.kappa = law.k / self.size
        self.middle = law.shape.log()
        a = law.shape
        self.log_norm = a * self.middle - a - a.lgamma()
        # l > t > 0 asks for v > t where k = 0
        self.least = t.log() if law.k == 0 and sign > 0 else None

    def at(self, y: acb, analytic: bool) -> tuple[acb, acb, acb, acb, acb]:
        """(log |z|, its derivative in y, over, its derivative, u), over = reach^n + |z|^n - x^n."""
        law, n = self.law, self.law.order
        if law.k == 0:
            m, share = (-y).exp(), acb(1)
        else:
            e = y.exp()
            m = 1 / (self.kappa + e)
            share = e * m
        whole = -1 / (-law.power * m).expm1()
        slow, fast = m / (law.power * m).expm1(), m * whole
        drift = self.kappa * m / law.power
        if share.real > 0.5:
            long = (self.size * share * whole).log(analytic=analytic) / law.power
        else:
            long = (y + (self.size * fast).log(analytic=analytic)) / law.power
        short = long - m
        if self.sign > 0:
            s, x, slopes = long, short, (slow, fast)
        else:
            s, x, slopes = short, long, (fast, slow)
        slope_s, slope_x = (drift + share * slope for slope in slopes)
        u = -self.sign * m
        if law.power == n:  # by the threshold's own equation
            rise = -self.sign * self.size * share
            slope = rise * self.kappa * m
        else:
            power_s, power_x = (n * s).exp(), (n * x).exp()
            if m.real > 1:
                rise = power_x - power_s
                slope = n * (power_x * slope_x - power_s * slope_s)
            else:
                rise = power_s * (n * u).expm1()
                slope = n * (slope_s * rise - power_x * u * share)
        return s, slope_s, law.reach**n - rise, -slope, u

    def integrand(self, y: acb, analytic: bool) -> acb:
        law = self.law
        s, slope_s, over, slope_over, u = self.at(y, analytic)
        if not (s.is_finite() and over.is_finite()):
            return acb(arb.nan())
        scale = 2 * law.reach ** (law.order - 1)
        wide = not y.rad() < NARROW
        if wide:  # mean value forms may be narrower
            step = y - y.mid()
            inner_s, _, inner_over, _, _ = self.at(acb(y.mid()), False)
            s = _narrower(s, inner_s + slope_s * step)
            over = _narrower(over, inner_over + slope_over * step)
        under = scale * s.exp()
        place = over / under
        if wide:
            slope = slope_over / under - place * slope_s
            place = _narrower(place, inner_over / (scale * inner_s.exp()) + slope * step)
        if place.real >= 1 or over.real >= under.real:
            beyond = acb(1)
        elif place.real <= -1 or over.real <= -under.real:
            beyond = acb(0)
        else:
            beyond = law.cap(place, over, u, self.sign < 0, analytic)
        if self.sign > 0:
            beyond = 1 - beyond
        density = (self.log_norm + law.shape * _drop(law.power * s - self.middle)).exp()
        return beyond * density * law.power * slope_s

    def value(self, tolerance: arb) -> arb:
        reach = float((1 / tolerance).log()) + 10.0
        a = float(self.law.shape)
        high = float(self.middle) + _excursion(reach / a, 1.0)
        low = float(self.middle) + _excursion(reach / a, -1.0)
        y_low = -math.log(reach / float(self.law.power))
        if self.least is None or low > float(self.least) + math.exp(-reach):
            y_low = self._place(low)
        start = self._log_v(y_low)
        if start > high:
            return arb(0).union(self._tail(start, 1) + self._sliver(start))
        y_high = self._place(high)
        end = self._log_v(y_high)
        inside = acb.integral(
            lambda y, analytic: self.integrand(y, analytic),
            acb(y_low),
            acb(y_high),
            abs_tol=tolerance,
            rel_tol=arb(2) ** -BITS,
        ).real
        outside = self._tail(end, 1) + (
            self._tail(start, -1) if self.least is None else self._sliver(start)
        )
        return inside + arb(0).union(outside)

    def _log_v(self, y: float) -> arb:
        return self.law.power * self.at(acb(y), False)[0].real

    def _place(self, target: float) -> float:
        """About the y at which log v is target."""
        y = target - float(self.size.log())
        low, high = y - 1.0, y + 1.0
        while self._log_v(low) > target:
            low -= high - low
        while self._log_v(high) < target:
            high += high - low
        for _ in range(60):
            y = 0.5 * (low + high)
            low, high = (y, high) if self._log_v(y) < target else (low, y)
        return y

    def _tail(self, w: arb, side: int) -> arb:
        """P(log v beyond w on that side), from above: Chernoff."""
        z = w - self.middle
        if side * z > 0:
            return (self.law.shape * (z - z.expm1())).exp()
        return arb(1)

    def _sliver(self, w: arb) -> arb:
        """P(least < log v < w), from above, by the largest density of log v; or by Chernoff."""
        assert self.least is not None
        return ((w - self.least) * self.log_norm.exp()).min(self._tail(w, -1))


def _excursion(level: float, side: float) -> float:
    """About the z of that sign with expm1(z) - z = level."""
    low, high = 0.0, side
    while math.expm1(high) - high < level:
        low, high = high, 2 * high
    for _ in range(50):
        z = 0.5 * (low + high)
        low, high = (z, high) if math.expm1(z) - z < level else (low, z)
    return high


def _drop(z: acb) -> acb:
    """z - expm1(z); for a wide ball near 0, two terms of its series and a bound of the rest."""
    plain = z - z.expm1()
    size = abs(z).upper()
    if z.rad() < NARROW or not size < 0.5:
        return plain
    rest = (size * size / 20).upper()
    return _narrower(plain, -z * z * (HALF + z / 6 + acb(arb(0, rest), arb(0, rest))))


def _sphere(dim: int, reach: arb) -> Cap:
    """2-balls: the part of the sphere with cosine at most c."""
    a = arb(dim - 1) / 2
    mass = (arb(0.5).lgamma() + a.lgamma() - (a + HALF).lgamma()).exp()  # B(1/2, a)

    def beyond(cosine: arb) -> arb:
        """P(direction's cosine > cosine >= 0)."""
        rest = (1 - cosine) * (1 + cosine)
        bound = rest**a / 2  # its excess over the truth rises, then falls to 0 at cosine = 1
        if bound < arb(2) ** -BITS:
            return arb(0).union(bound)
        if cosine * cosine < 0.5:
            series = (cosine * cosine).hypgeom_2f1(1, a + HALF, arb(1.5))
            return HALF - cosine * rest**a * series / mass
        return rest**a * cosine * rest.hypgeom_2f1(1, a + HALF, a + 1) / (2 * a * mass)

    def share(cosine: acb) -> acb:
        middle = cosine.real.mid()
        cosine = cosine.union(acb(middle))
        value = 1 - beyond(middle) if middle >= 0 else beyond(-middle)
        slope = ((a - 1) * ((1 - cosine).log() + (1 + cosine).log())).exp() / mass
        return value + slope * (cosine - middle)

    def cap(cosine: acb, over: acb, u: acb, outwards: bool, analytic: bool) -> acb:
        return share(cosine) if -1 < cosine.real < 1 else _unknown(analytic)

    return cap


def _cone(dim: int, reach: arb) -> Cap:
    """1-balls along an axis, max-balls along a diagonal, and the line."""

    def cap(place: acb, over: acb, u: acb, outwards: bool, analytic: bool) -> acb:
        if over.real < 0:
            return acb(0)
        if over.real >= 2 * reach:
            return acb(1)
        if 0 < over.real < 2 * reach and 0 < place.real < 1:
            return 1 - (1 - place) ** (dim - 1) / 2
        return _unknown(analytic)

    return cap


def _edge(dim: int, reach: arb) -> Cap:
    """Max-balls along an axis: its coordinate is the largest, with probability 1/dim, or not."""

    def inner(place: acb, over: acb, u: acb, analytic: bool) -> acb:
        if over.real >= 2 * reach:
            return acb(1)
        if over.real < 2 * reach and place.real < 1:
            return 1 - ((dim - 1) * u).exp() / (2 * dim)
        return _unknown(analytic)

    def outer(place: acb, over: acb, u: acb, analytic: bool) -> acb:
        if over.real < 0:
            return acb(0)
        if 0 < place.real < 1:
            return (HALF + (dim - 1) * place) / dim
        return _unknown(analytic)

    def cap(place: acb, over: acb, u: acb, outwards: bool, analytic: bool) -> acb:
        return (outer if outwards else inner)(place, over, u, analytic)

    return cap


LINE: tuple[int, Callable[[int, arb], Cap]] = (1, _cone)  # the geometry of one dimension
# (norm, kind of the shift) -> order of the powers of lengths compared, and the geometry
GEOMETRIES: dict[tuple[float, str], tuple[int, Callable[[int, arb], Cap]]] = {
    (2.0, "axis"): (2, _sphere),
    (2.0, "diagonal"): (2, _sphere),
    (1.0, "axis"): (1, _cone),
    (math.inf, "diagonal"): (1, _cone),
    (math.inf, "axis"): (1, _edge),
}


def ball(value: float | Fraction) -> arb:
    exact = Fraction(value)
    return arb(fmpq(exact.numerator, exact.denominator))


def ends(value: arb) -> tuple[float, float]:
    """Floats below and above all that a ball holds."""
    if not value.is_finite():
        return -math.inf, math.inf
    low, high = float(value.lower()), float(value.upper())
    if not low <= value:
        low = math.nextafter(low, -math.inf)
    if not high >= value:
        high = math.nextafter(high, math.inf)
    return low, high
