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
from collections.abc import Callable, Sequence
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
    "Cell",
    "Gaussian",
    "Laplace",
    "Law",
    "Norm",
    "Radial",
    "arb",
    "ball",
    "ctx",
    "discrepancy",
    "ends",
]

BITS = 128  # of a ball's middle
ENDLESS = arb.pos_inf()
NARROW = 1e-33  # balls of less radius are points
HALF = arb(0.5)

# (place, over, u, analytic) -> P(|z - delta| >= x given |z|), where place, which is
# over/(2 |z| reach^(n-1)), lies between -1 and 1
Cap = Callable[[acb, acb, acb, bool], acb]


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


class Norm:
    """The law of |z|, by integrals over a y in which log |z| rises: here y is log |z|."""

    least: arb | None = None  # of log v, where it has one

    def __init__(self, shape: arb, power: arb) -> None:
        self.shape, self.power = shape, power
        self.middle = shape.log()
        self.log_norm = shape * self.middle - shape - shape.lgamma()

    def between(self, low: arb, high: arb, tolerance: arb) -> arb:
        """P(low < |z| < high), 0 <= low < high, which may be infinite."""
        ends = low.log() if low > 0 else -ENDLESS, high.log() if high.is_finite() else ENDLESS
        spread = sum((end.rad() for end in ends if end.is_finite()), arb(0))
        middles = (end.mid() if end.is_finite() else end for end in ends)
        return self.value(tolerance, *middles) + slack(self.mass(spread))

    def mass(self, width: arb) -> arb:
        """The most that log |z| has on any interval of a width."""
        return width * self.power * self.log_norm.exp()

    def at(self, y: acb, analytic: bool) -> tuple[acb, ...]:
        """(log |z|, its derivative in y, and what a curve needs)."""
        return y, acb(1)

    def integrand(self, y: acb, analytic: bool) -> acb:
        return self.density(*self.at(y, analytic)[:2])

    def density(self, s: acb, slope: acb) -> acb:
        """Of y, where log |z| is s and rises by slope."""
        middle = _drop(self.power * s - self.middle)
        return (self.log_norm + self.shape * middle).exp() * self.power * slope

    def value(self, tolerance: arb, low: arb = -ENDLESS, high: arb = ENDLESS) -> arb:
        """The integral between two points; whatever is left out of it is in the ball."""
        reach = float((1 / tolerance).log()) + 10.0
        a = float(self.shape)
        last = float(self.middle) + _excursion(reach / a, 1.0)
        first = float(self.middle) + _excursion(reach / a, -1.0)
        if not low < high:
            return arb(0)
        start, end, outside = low, high, arb(0)
        if not low.is_finite() or self._log_v(low) < first:
            start = self._start(first, reach)
            began = self._log_v(start)
            outside += self._tail(began, -1) if self.least is None else self._sliver(began)
        if not high.is_finite() or self._log_v(high) > last:
            end = self._place(last) if self._log_v(start) < last else start
            outside += self._tail(self._log_v(end), 1)
        if not start < end:
            return arb(0).union(outside)
        inside = acb.integral(
            lambda y, analytic: self.integrand(y, analytic),
            acb(start),
            acb(end),
            abs_tol=tolerance,
            rel_tol=arb(2) ** -BITS,
        ).real
        return inside + arb(0).union(outside)

    def _start(self, first: float, reach: float) -> arb:
        """About the y at which log v is first, or so little above the least as not to matter."""
        if self.least is None or first > float(self.least) + math.exp(-reach):
            return self._place(first)
        return arb(-math.log(reach / float(self.power)))

    def _near(self, length: float) -> float:
        """About the y at which log |z| is length."""
        return length

    def _log_v(self, y: arb) -> arb:
        return self.power * self.at(acb(y), False)[0].real

    def _place(self, target: float) -> arb:
        """About the y at which log v is target."""
        near = self._near(target / float(self.power))
        return _bracket(self._log_v, arb(target), near, 1e-12)[0]

    def _tail(self, w: arb, side: int) -> arb:
        """P(log v beyond w on that side), from above: Chernoff."""
        z = w - self.middle
        if side * z > 0:
            return (self.shape * (z - z.expm1())).exp()
        return arb(1)

    def _sliver(self, w: arb) -> arb:
        """P(least < log v < w), from above, by the largest density of log v; or by Chernoff."""
        assert self.least is not None
        return ((w - self.least) * self.log_norm.exp()).min(self._tail(w, -1))


class Curve(Norm):
    """Spheres around delta, one for each |z|, of the radius x: an integral of what of the sphere
    |z| lies inside them, or outside."""

    inside = True

    def __init__(self, law: Radial) -> None:
        super().__init__(law.shape, law.power)
        self.law = law

    def at(self, y: acb, analytic: bool) -> tuple[acb, ...]:
        """(log |z|, its derivative in y, over, its derivative, u), over = reach^n + |z|^n - x^n,
        u = log(x/|z|)."""
        raise NotImplementedError

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
            beyond = law.cap(place, over, u, analytic)
        if self.inside:
            beyond = 1 - beyond
        return beyond * self.density(s, slope_s)


class Integral(Curve):
    """P(l > t), sign 1, or P(l < -t), sign -1, for t > 0: spheres around delta on which l is t or
    -t."""

    def __init__(self, law: Radial, t: arb, sign: int) -> None:
        super().__init__(law)
        self.size, self.sign, self.inside = t, sign, sign > 0
        self.kappa = law.k / self.size
        # l > t > 0 asks for v > t where k = 0
        self.least = t.log() if law.k == 0 and sign > 0 else None

    def at(self, y: acb, analytic: bool) -> tuple[acb, ...]:
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

    def reaching(self, edge: arb, by_x: bool) -> tuple[arb, arb, arb]:
        """(y, log |z|) where |z|, or x, is edge, and the mass of what may lie between them and the
        truth; -inf where neither is ever as small."""
        if not (edge > 0 and edge.is_finite()):
            end = ENDLESS if edge > 0 else -ENDLESS
            return end, end, arb(0)
        target = edge.log()
        if self.law.k == 0 and by_x == (self.sign < 0):  # the longer one
            least = self.size.log() / self.power
            if not least < target:
                return -ENDLESS, -ENDLESS, arb(not least > target)

        def length(y: arb) -> arb:
            s, _, _, _, u = self.at(acb(y), False)
            return (s + u if by_x else s).real

        low, high = _bracket(length, target, self._near(float(target)))
        y = ((low + high) / 2).mid()
        if not length(low) < target < length(high):
            return y, arb(float(target)), arb(1)
        first, s, last = (self.at(acb(each), False)[0].real for each in (low, y, high))
        return y, s.mid(), self.mass(last.upper() - first.lower())

    def _near(self, length: float) -> float:
        return length * float(self.power) - float(self.size.log())


class Level(Curve):
    """One sphere around delta; y is log |z|."""

    def __init__(self, law: Radial, edge: arb) -> None:
        super().__init__(law)
        self.edge = edge

    def at(self, y: acb, analytic: bool) -> tuple[acb, ...]:
        n, own = self.law.order, (self.law.order * y).exp()
        over = self.law.reach**n + own - self.edge**n
        return y, acb(1), over, n * own, self.edge.log() - y


@dataclass(frozen=True)
class Cell:
    """Noise of norm between low and high, whose multiplier is exp(tau): no atom of l is tau.  That
    of the innermost cell may be infinite: then all of it counts, and none of its multiplier."""

    low: arb
    high: arb
    tau: arb


def discrepancy(law: Radial, cells: Sequence[Cell], tolerance: arb) -> arb:
    """E(L - W)_+ with L the multiplier of the cell that z lies in, 0 beyond the last one: cells
    from 0 on, their multipliers falling.

    The density of z - delta is the smaller one where |z - delta| <= x(|z|), with l = -tau there;
    as multipliers fall, that is for all cells together the inside of one family of spheres, which
    stay at a cell's edge while tau jumps.
    """
    share = tolerance / (3 * len(cells))
    total = sum((_shell(law, cell, share) for cell in cells), arb(0))
    left = -ENDLESS  # log |z| where the edge below a cell is reached by the cell's inner neighbour
    for cell in cells:
        if not cell.tau.is_finite():
            continue
        curve = Integral(law, abs(cell.tau), -1 if cell.tau > 0 else 1)
        curve.inside = True
        (start, right, blur), (end, beyond, more) = (
            curve.reaching(edge, True) for edge in (cell.low, cell.high)
        )
        total -= curve.value(share, start, end) + slack(blur + more)
        if cell.low > 0:
            total -= Level(law, cell.low).value(share, left, right)
        left = beyond
    last = cells[-1].high
    return total - Level(law, last).value(share, left) if last.is_finite() else total


def _shell(law: Radial, cell: Cell, tolerance: arb) -> arb:
    """exp(tau) P(l <= tau, |z| in the cell)."""
    if not cell.tau.is_finite():
        return arb(0)
    lam, outwards = cell.tau.exp(), cell.tau > 0
    curve = Integral(law, abs(cell.tau), 1 if outwards else -1)
    (start, _, blur), (end, _, more) = (
        curve.reaching(edge, False) for edge in (cell.low, cell.high)
    )
    value = curve.value(tolerance / lam, start, end) + slack(blur + more)
    if outwards:  # that of l > tau
        value = Norm(law.shape, law.power).between(cell.low, cell.high, tolerance / lam) - value
    return lam * value


def slack(size: arb) -> arb:
    return arb(0, size.upper())


def _bracket(
    rising: Callable[[arb], arb], target: arb, near: float, width: float = 0.0
) -> tuple[arb, arb]:
    """Points on both sides of where it is target, as near as width or the balls tell; not proved to
    be on both sides."""
    low, high = arb(near - 1.1), arb(near + 0.9)  # near may be just it, and tell nothing
    while rising(low) > target:
        low -= high - low
    while rising(high) < target:
        high += high - low
    while high - low > width:
        y = ((low + high) / 2).mid()
        value = rising(y)
        if value < target:
            low = y
        elif value > target:
            high = y
        else:
            break
    return low, high


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

    def cap(cosine: acb, over: acb, u: acb, analytic: bool) -> acb:
        return share(cosine) if -1 < cosine.real < 1 else _unknown(analytic)

    return cap


def _cone(dim: int, reach: arb) -> Cap:
    """1-balls along an axis, max-balls along a diagonal, and the line."""

    def cap(place: acb, over: acb, u: acb, analytic: bool) -> acb:
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

    def cap(place: acb, over: acb, u: acb, analytic: bool) -> acb:
        if u.real > 0:
            return outer(place, over, u, analytic)
        return inner(place, over, u, analytic) if u.real < 0 else _unknown(analytic)

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
