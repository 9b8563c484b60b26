"""Sums of truncated normals, and what else the mixed law keeps for a (dim, k).

Lengths in units of sigma.  The sum of n = d - 2 normals truncated to [m, rho], and that of
n = d - 1 of them at m = -rho.  Few:
convolved one by one, a polynomial between the knots j m + (n - j) rho.  Many: less its
mean, over its standard deviation, the distribution function is a Fourier series of half
period h with coefficients phi(j pi / (h sqrt n))^n.  What that leaves out is bounded:
outside the period by Chernoff's inequality, with E exp(theta z) over the coordinate's own
law, beyond J terms by |phi(w)| <= 2 max density / w.  Either is smooth in m and rho and
kept as Chebyshev polynomials in both, made when first asked for; they depend on dim alone,
and on k through the range of rho.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import special

from cert_core.errors import Float
from cert_core.laws.base import EPS
from cert_core.native import NODES, NODES_FEW, MixedNode
from cert_core.quantiles import max_law, max_log_density

ROOT_HALF = math.sqrt(0.5)
WINDOWS = (8.0, 10.0, 14.0)  # half periods in standard deviations, tried in turn
LEFT_OUT = 1e-13  # mass of the minimum's and of the radius's tails, together
GAUSS_NODES = 64
START = 3  # pieces of log rho to begin with
RADII = 16  # Chebyshev points of log rho in a piece
NODES_KEPT = 2048  # of 1 to 25 kB
AGREE = 1e-9  # of probabilities by tables with what they interpolate
NOTHING = 1e-12  # what may be left out beside that
TAYLOR = 28  # orders of the moments' series, for arguments to 2
FLAT = math.log(1e-7)  # below, a coordinate is uniform, and tables do not change with rho
SHORT = 0.02  # pieces of log rho are not halved below this
FEW = 10  # sums of fewer terms are polynomials between their knots
DEGREE = 36  # of those polynomials
SEEN = 2e-3  # of the peak of the density of log rho: below, F given rho needs fewer digits
HARMONICS = 64  # of the series, at most
TERMS, TERMS_FEW = (20, 40), (24, 64)  # Chebyshev terms over m, tried in turn


@dataclass
class Piece:
    """Chebyshev tables over m at Chebyshev points of log rho in [low, high]."""

    low: float
    high: float
    windows: tuple[float, float]
    error: float
    tables: Float  # (RADII, terms, rows)
    wholes: Float  # (RADII, rows), at m = -rho with all others

    def table(self, y: float) -> tuple[Float, Float]:
        """The tables at log rho = y, by barycentric interpolation."""
        nodes, signs = _barycentric(RADII)
        gap = (2 * y - self.low - self.high) / (self.high - self.low) - nodes
        if not gap.all():
            i = int(np.argmin(np.abs(gap)))
            return self.tables[i], self.wholes[i]
        weights = signs / gap
        weights /= weights.sum()
        result: Float = weights.dot(self.tables.reshape(RADII, -1))
        return result.reshape(self.tables.shape[1:]), weights.dot(self.wholes)


def _kept(size: Float) -> tuple[int, float]:
    """How many harmonics add something, and what the rest could add."""
    beyond = np.cumsum(size[::-1])[::-1]
    kept = int(np.searchsorted(-beyond, -NOTHING))
    return kept, float(beyond[kept]) if kept < HARMONICS else 0.0


def _trimmed(tables: Float) -> tuple[Float, float]:
    """The tables without the harmonics that add nothing, and what the rest could add."""
    size = np.abs(tables).sum(axis=1).max(axis=0)[4:]
    kept, rest = _kept(size[:HARMONICS] + size[HARMONICS:])
    columns = [*range(4 + kept), *range(4 + HARMONICS, 4 + HARMONICS + kept)]
    return tables[:, :, columns], rest


@dataclass(frozen=True, eq=False)
class _Terms:
    """n normals truncated to [m, rho], for several m, at Gauss points."""

    n: int
    few: bool
    rho: float
    m: Float
    z: Float  # places above m
    weights: Float  # their probabilities
    mean: Float  # above m
    s: Float  # standard deviation
    below: Float  # P(a coordinate in [-rho, rho] is below m)

    @property
    def survive(self) -> Float:
        """P(all are above m), without that truncation."""
        value: Float = np.maximum(1 - self.below, 0.0) ** self.n
        return value

    @property
    def reach(self) -> Float:
        """The sum's largest deviation."""
        return math.sqrt(self.n) * np.maximum(self.mean, self.rho - self.m - self.mean) / self.s

    def outside(self, window: float) -> Float:
        """P(the sum is so many deviations away), from above, times P(all are above m)."""
        if not (self.reach > window).any():
            return np.zeros(len(self.m))
        width, total = window * self.s * math.sqrt(self.n), np.zeros(len(self.m))
        for side in (1.0, -1.0):
            best = np.zeros(len(self.m))
            for slope in (0.7, 0.85, 1.0, 1.2):
                tilt = slope * side * window / (self.s * math.sqrt(self.n))
                moved = self.weights * np.exp(tilt[:, None] * (self.z - self.mean[:, None]))
                best = np.minimum(best, self.n * np.log(moved.sum(axis=1)) - np.abs(tilt) * width)
            total += np.exp(best)
        missed: Float = total * (self.reach > window) * self.survive
        return missed


@dataclass(frozen=True, eq=False)
class Panel:
    """Nodes of the integral over log rho, and what is the same for every law there."""

    nodes: list[MixedNode]
    weights: Float  # densities, times half of the panel's length
    ease: Float  # how far their tolerance may exceed that of the integral
    errors: Float  # of the tables


class Tables:
    """What depends on (dim, k) alone: the law of rho, and a node of mixed.pyx for each rho."""

    def __init__(self, dim: int, k: float) -> None:
        self.dim, self.k, self.others = dim, k, dim - 2
        self.law = max_law(dim, k)
        self._made: list[Piece] = []
        self._nodes: dict[float, tuple[MixedNode, float]] = {}
        self._panels: dict[tuple[float, float], Panel] = {}
        cumulative = np.cumsum(self.law.weights.sum(axis=1))
        first = int(np.searchsorted(cumulative, 1e-15))
        last = int(np.searchsorted(cumulative, cumulative[-1] - 1e-15))
        self.low = float(self.law.edges[first])
        self.high = float(self.law.edges[min(last + 1, len(self.law.edges) - 1)])
        middle = float(self.law.edges[int(np.searchsorted(cumulative, 0.5))])

        self.peak = float(self.density(self.law.nodes).max())
        # of the limit of many dimensions: k log rho and the largest coordinate move by so much
        rho = math.exp(max(middle, -700.0))
        self.pull = k / rho + rho
        mean = float(np.sum(self.law.weights * self.law.nodes))
        self.spread = math.sqrt(float(np.sum(self.law.weights * (self.law.nodes - mean) ** 2)))

        def cut(*shares: float) -> list[float]:
            low, high = (
                [x * end + (1 - x) * middle for x in shares] for end in (self.low, self.high)
            )
            return [self.low, *low, middle, *high[::-1], self.high]

        # kinks and jumps ask for short rules on many panels
        self.rule = NODES_FEW if self.others < 5 else NODES
        few = cut(0.3), cut(0.6, 0.4, 0.2)
        self.panels_search, self.panels = few if self.others < 5 else (cut(), cut(0.35))

    def node(self, y: float) -> tuple[MixedNode, float]:
        """(node, its series' error) at rho = exp(y)."""
        found = self._nodes.get(y)
        if found is None:
            if len(self._nodes) >= NODES_KEPT:  # every radius brings new ones in few dimensions
                self._nodes.clear()
                self._panels.clear()
            found = self._nodes[y] = self._make(y)
        return found

    def panel(self, low: float, high: float) -> Panel:
        """The panel [low, high] of log rho."""
        found = self._panels.get((low, high))
        if found is None:
            half = 0.5 * (high - low)
            y = 0.5 * (high + low) + half * self.rule
            y[0], y[-1] = low, high  # shared with the neighbours
            density = self.density(y)
            ease = np.maximum(1.0, SEEN * self.peak / np.maximum(density, 1e-300))
            nodes, errors = zip(*map(self.node, y.tolist()), strict=True)
            found = Panel(list(nodes), half * density, ease, np.array(errors))
            self._panels[low, high] = found
        return found

    def edges(self, floor: float, search: bool) -> list[float]:
        """Panels of log rho above floor to begin with."""
        low = max(self.low, floor)
        panels = self.panels_search if search else self.panels
        return [low, *(y for y in panels if y > low)]

    def below(self, y: float) -> float:
        """P(log rho <= y), exp(y) so small that the density is a power of rho."""
        return float(self.density(np.array(y))) / (self.dim - self.k)

    def density(self, y: Float) -> Float:
        """Density of log rho."""
        value: Float = np.exp(max_log_density(y, self.dim, self.k) - self.law.log_mass)
        return value

    def _make(self, y: float) -> tuple[MixedNode, float]:
        place = max(y, FLAT)
        rho = math.exp(place)
        found, windows, error = (np.zeros((1, 3)), np.zeros(1)), (1.0, 1.0), 0.0
        if self.others > 0:
            piece = next(piece for piece in self._pieces() if place <= piece.high)
            found, windows, error = piece.table(place), piece.windows, piece.error
        degree = DEGREE if self.others < FEW else 0
        span = self._reach(rho) / rho
        node = MixedNode(float(self.dim), self.k, y, span, *windows, *found, degree)
        return node, error + LEFT_OUT

    def _reach(self, rho: float) -> float:
        """The largest m + rho for the minimum m of the others: beyond, 1e-16 is left out."""
        q = -math.expm1(-37.0 / self.others) if self.others > 0 else 1.0
        end = special.erfinv(min((2 * q - 1) * math.erf(rho * ROOT_HALF), 1.0))
        return min(2 * rho, rho + math.sqrt(2) * float(end))

    def _pieces(self) -> list[Piece]:
        """Interpolated tables that cover the range of log rho."""
        if not self._made:
            made = []  # shown to other threads once it is whole
            edges = np.linspace(max(self.low, FLAT) - 1e-9, self.high + 1e-9, START + 1).tolist()
            waiting = list(pairwise(edges))[::-1]
            while waiting:
                low, high = waiting.pop()
                piece = self._fit(low, high)
                if piece is None:
                    middle = 0.5 * (low + high)
                    waiting += [(middle, high), (low, middle)]
                else:
                    made.append(piece)
            self._made = made
        return self._made

    def _fit(self, low: float, high: float) -> Piece | None:
        """One piece, or None where its degrees do not suffice."""
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        rhos = np.exp(middle + half * _points(RADII))
        checks = np.exp(middle + half * np.array([-0.97, 0.3, 1.0, -1.0]))
        window = _window([self._terms(rho, 24) for rho in [*rhos, *checks]])
        for terms in TERMS if self.others >= FEW else TERMS_FEW:
            rows, errors = [], []
            for rho in [*rhos, *checks[:2]]:
                found, error = self._rows(rho, terms, window)
                rows.append(_coefficients(found))
                errors.append(error)
            miss = max(self._weigh(rows[i][-2:]) for i in (0, RADII // 2, RADII - 1))
            if miss <= AGREE:
                break
        else:
            if half > SHORT:
                return None
        all_others = [self._all(rho) for rho in [*rhos, *checks]]
        whole = _window(all_others)
        wholes, missing = zip(*(_whole(x, whole) for x in all_others[: RADII + 2]), strict=True)
        tables, least = np.array(rows[:RADII]), np.array(wholes[:RADII])
        piece = Piece(low, high, (window, whole), 0.0, tables, least)
        lost = 0.0
        for i, rho in enumerate(checks[:2], RADII):
            table, row = piece.table(math.log(rho))
            miss = max(miss, self._weigh(table - rows[i]))
            lost = max(lost, self._weigh_whole(row - wholes[i]))
        if max(miss, lost) > AGREE and half > SHORT:
            return None
        piece.error = max(errors) + max(missing) + 4 * (miss + lost)
        if self.others >= FEW:
            self._trim(piece)
        return piece

    def _trim(self, piece: Piece) -> None:
        """Leave out harmonics and terms that add nothing."""
        piece.tables, rest = _trimmed(piece.tables)
        missed = [
            max(self._weigh(x[i:]) for x in piece.tables) for i in range(piece.tables.shape[1])
        ]
        kept = next((i for i, miss in enumerate(missed) if miss <= 10 * NOTHING), len(missed))
        piece.tables = np.ascontiguousarray(piece.tables[:, :kept])
        harmonics, lost = _kept(np.abs(piece.wholes[:, 1:]).max(axis=0))
        piece.wholes = np.ascontiguousarray(piece.wholes[:, : 1 + harmonics])
        piece.error += rest + lost + 10 * NOTHING

    def _weigh(self, gap: Float) -> float:
        """What a difference of tables, (terms, rows), can change in a probability."""
        size = np.abs(gap).sum(axis=0)
        rest = size[3:]
        if self.others < FEW:
            rest = rest.reshape(-1, DEGREE).sum(axis=1).max()  # one piece is read at a time
        return float(math.sqrt(self.others) * size[:3].sum() + rest.sum())

    def _weigh_whole(self, gap: Float) -> float:
        size = np.abs(gap)
        if self.others < FEW:
            return float(size.reshape(-1, DEGREE).sum(axis=1).max())
        return float(math.sqrt(self.others) * size[0] + size[1:].sum())

    def _terms(self, rho: float, terms: int) -> _Terms:
        """All but the least of the others, at the nodes of m."""
        m = -rho + 0.5 * self._reach(rho) * (_points(terms) + 1)
        return self._truncated(rho, m, self.others)

    def _all(self, rho: float) -> _Terms:
        """All others, at m = -rho."""
        return self._truncated(rho, np.array([-rho]), self.others + 1)

    def _truncated(self, rho: float, m: Float, n: int) -> _Terms:
        x, w = _gauss()
        z = 0.5 * (rho - m)[:, None] * (x + 1)
        least = np.where(m > 0, m, 0.0)[:, None]
        weights = w * np.exp(-0.5 * ((m[:, None] + z) ** 2 - least**2))
        weights /= weights.sum(axis=1, keepdims=True)
        mean = (weights * z).sum(axis=1)
        s = np.sqrt((weights * (z - mean[:, None]) ** 2).sum(axis=1))
        place = -rho + 0.5 * (m + rho)[:, None] * (x + 1)
        mass = math.sqrt(2 * math.pi) * math.erf(rho * ROOT_HALF)
        below = 0.5 * (m + rho) * (w * np.exp(-0.5 * place**2)).sum(axis=1) / mass
        return _Terms(n, self.others < FEW, rho, m, z, weights, mean, s, below)

    def _rows(self, rho: float, terms: int, window: float) -> tuple[Float, float]:
        """The rows that mixed.pyx reads, at the nodes of m; what the series leaves out."""
        those = self._terms(rho, terms)
        place, wide = (those.m + rho) / self._reach(rho), rho - those.m
        first = [those.below / place, those.mean / wide, those.s / wide]
        rest, error = _distribution(those, window)
        return np.vstack([*first, rest]), error


def _window(those: list[_Terms]) -> float:
    """Half a period in standard deviations: all of the sum's range, or its tail is nothing."""
    widest = 1.01 * max(float(x.reach.max()) for x in those)
    for window in WINDOWS:
        if widest <= window:
            return widest
        if max(float(x.outside(window).max()) for x in those) <= NOTHING:
            break
    return window


def _whole(those: _Terms, window: float) -> tuple[Float, float]:
    """The row of all others at m = -rho, and what its series leaves out."""
    rows, error = _distribution(those, window)
    if those.few:
        return rows[:, 0], error
    # of a symmetric law there is no more than the sines
    return np.concatenate([0.5 * those.s / those.rho, rows[1 : 1 + HARMONICS, 0]]), error


def _distribution(those: _Terms, window: float) -> tuple[Float, float]:
    """Rows of the sum's distribution function, and what they leave out."""
    if those.few:
        pieces = _between_knots(those)
        last = np.abs(pieces.reshape(those.n, DEGREE, -1)[:, -2:]).sum(axis=1)
        return pieces, float(last.max())
    n, w = those.n, _gauss()[1]
    step = math.pi / (window * those.s * math.sqrt(n))  # the first frequency, per unit of z
    coefficients = _many(those.z - those.mean[:, None], those.weights, step, n)
    # |phi(w)| <= 2 peak/w; for many terms that says nothing, and phi falls with w
    wide = those.rho - those.m
    peak = 1 / (0.5 * wide * (w * np.exp(-0.5 * ((those.m[:, None] + those.z) ** 2))).sum(axis=1))
    peak *= np.exp(-0.5 * np.maximum(those.m, 0.0) ** 2)
    bound = np.exp(np.minimum(n * np.log(2 * peak / (step * HARMONICS)), 0.0)) / (n * math.pi)
    last = np.abs(coefficients[:, -8:]).max(axis=1)
    missing = np.where(bound < AGREE, bound, last) * those.survive
    scaled = coefficients / (math.pi * np.arange(1, HARMONICS + 1))
    constant = (scaled.imag * (-1.0) ** np.arange(1, HARMONICS + 1)).sum(axis=1)
    rows = np.vstack([constant[None], scaled.real.T, scaled.imag.T])
    return rows, float((those.outside(window) + missing).max())


def _between_knots(those: _Terms) -> Float:
    """Chebyshev coefficients of the sum's distribution function, in units of rho - m
    above its lowest value, piece by piece: H_k(v) = int g(s) H_(k-1)(v - s) ds."""
    m, wide = those.m, those.rho - those.m
    least = np.where(m > 0, m, 0.0)

    def density(place: Float) -> Float:
        at = m[:, None, None] + wide[:, None, None] * place
        value: Float = np.exp(-0.5 * (at**2 - least[:, None, None] ** 2))
        return value

    inner = _inner()
    g_lower, g_upper = density(inner.lower), density(inner.upper)
    mass = (0.5 * inner.weights * density(inner.unit)).sum(axis=2)[:, :, None]
    w_lower = 0.5 * inner.nodes * inner.weights * g_lower / mass
    w_upper = 0.5 * (1 - inner.nodes) * inner.weights * g_upper / mass
    # on this piece, and on the piece before it, from their values at the nodes
    here = np.matmul(w_lower.swapaxes(0, 1), inner.here).swapaxes(0, 1)
    before = np.matmul(w_upper.swapaxes(0, 1), inner.before).swapaxes(0, 1)
    total = w_upper.sum(axis=2)
    sums = w_lower.sum(axis=2)[:, :, None]  # H_1 on its one piece
    for _ in range(those.n - 1):
        from_here, from_before = np.matmul(here, sums), np.matmul(before, sums)
        grown = np.zeros((len(m), DEGREE, sums.shape[2] + 1))
        grown[:, :, :-1] += from_here
        grown[:, :, -1] += 1 - total  # beyond the last knot the sum is certain
        grown[:, :, 1:] += from_before
        sums = grown
    pieces = sums.transpose(2, 1, 0)  # piece, node, m
    result: Float = np.matmul(_transform(DEGREE), pieces).reshape(-1, len(m))
    return result


def _many(centred: Float, weights: Float, step: Float, n: int) -> Any:
    """Coefficients for many terms, from phi - 1 so that its n-th power keeps its digits."""
    j = np.arange(1, HARMONICS + 1)
    scaled = step[:, None] * centred
    if np.abs(scaled).max() * HARMONICS < 2.0:  # a power series in the moments
        value = np.zeros((len(step), HARMONICS), dtype=complex)
        moment = weights.copy()
        for order in range(1, TAYLOR + 1):
            moment *= scaled * (1 / order)
            if order > 1:
                value += moment.sum(axis=1)[:, None] * _powers()[order]
        real, imaginary = value.real, value.imag
    else:
        angle = j[:, None] * scaled[:, None, :]
        real = (-2 * np.sin(0.5 * angle) ** 2 @ weights[:, :, None])[:, :, 0]
        imaginary = (np.sin(angle) @ weights[:, :, None])[:, :, 0]
    log_size = 0.5 * np.log1p(np.maximum(real * (2 + real) + imaginary**2, EPS - 1))
    return np.exp(n * (log_size + 1j * np.arctan2(imaginary, 1 + real)))


@lru_cache(maxsize=1)
def _powers() -> Any:
    """(i j)^order for the harmonics j, (order, harmonic)."""
    return (1j * np.arange(1, HARMONICS + 1)) ** np.arange(TAYLOR + 1)[:, None]


@lru_cache(maxsize=1)
def _gauss() -> tuple[Float, Float]:
    return np.polynomial.legendre.leggauss(GAUSS_NODES)


def _points(terms: int) -> Float:
    return np.polynomial.chebyshev.chebpts1(terms)


@lru_cache(maxsize=1)
def _barycentric(terms: int) -> tuple[Float, Float]:
    """Chebyshev points and the weights of interpolation between them."""
    nodes = _points(terms)
    return nodes, np.sin(np.arccos(nodes)) * (-1.0) ** np.arange(terms)


@lru_cache(maxsize=8)
def _transform(terms: int) -> Float:
    """From values at the Chebyshev points to coefficients."""
    basis = np.polynomial.chebyshev.chebvander(_points(terms), terms - 1)
    scale = np.full((terms, 1), 2 / terms)
    scale[0] = 1 / terms
    result: Float = basis.T * scale
    return result


def _coefficients(rows: Float) -> Float:
    """(terms, rows) Chebyshev coefficients of rows given at the Chebyshev points."""
    result: Float = _transform(rows.shape[1]) @ rows.T
    return result


@dataclass(frozen=True)
class _Inner:
    """What the convolution of one more coordinate needs at every (m, rho)."""

    nodes: Float  # of a piece, (DEGREE, 1), in [0, 1]
    unit: Float  # Gauss points of [0, 1]
    lower: Float  # of [0, node]
    upper: Float  # of [node, 1]
    weights: Float
    here: Float  # (node, Gauss point, value): interpolation at node - s
    before: Float  # and at node - s + 1


@lru_cache(maxsize=1)
def _inner() -> _Inner:
    x, w = np.polynomial.legendre.leggauss(DEGREE)
    nodes = 0.5 * (_points(DEGREE) + 1)[:, None]
    lower, upper = 0.5 * nodes * (x + 1), nodes + 0.5 * (1 - nodes) * (x + 1)

    def interpolation(place: Float) -> Float:
        values = np.polynomial.chebyshev.chebvander(2 * place - 1, DEGREE - 1)
        result: Float = values @ _transform(DEGREE)
        return result

    here, before = interpolation(nodes - lower), interpolation(nodes - upper + 1)
    return _Inner(nodes, 0.5 * (x + 1)[None], lower, upper, w, here, before)


@lru_cache(maxsize=16)
def tables(dim: int, k: float) -> Tables:
    """The tables of (dim, k), kept in memory."""
    return Tables(dim, k)
