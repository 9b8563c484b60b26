"""Sums of truncated normals, and what else the mixed law keeps for a (dim, k).

Lengths in units of sigma.  The sum of n = d - 2 normals truncated to [m, rho].  Few:
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
from cert_core.native import MixedNode
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
HARMONICS = 64  # of the series, at most
TERMS, TERMS_FEW = (20, 40), (24, 64)  # Chebyshev terms over m, tried in turn


@dataclass
class Piece:
    """Chebyshev tables over m at Chebyshev points of log rho in [low, high]."""

    low: float
    high: float
    window: float
    error: float
    tables: Float  # (RADII, terms, rows)

    def table(self, y: float) -> Float:
        """The table at log rho = y, by barycentric interpolation."""
        nodes, signs = _barycentric(RADII)
        gap = (2 * y - self.low - self.high) / (self.high - self.low) - nodes
        if not gap.all():
            exact: Float = self.tables[int(np.argmin(np.abs(gap)))]
            return exact
        weights = signs / gap
        weights /= weights.sum()
        result: Float = weights.dot(self.tables.reshape(RADII, -1))
        return result.reshape(self.tables.shape[1:])


def _trimmed(tables: Float) -> tuple[Float, float]:
    """The tables without the harmonics that add nothing, and what the rest could add."""
    size = np.abs(tables).sum(axis=1).max(axis=0)[4:]
    size = size[:HARMONICS] + size[HARMONICS:]
    beyond = np.cumsum(size[::-1])[::-1]
    kept = int(np.searchsorted(-beyond, -NOTHING))
    rest = float(beyond[kept]) if kept < HARMONICS else 0.0
    columns = [*range(4 + kept), *range(4 + HARMONICS, 4 + HARMONICS + kept)]
    return tables[:, :, columns], rest


class Tables:
    """What depends on (dim, k) alone: the law of rho, and a node of mixed.pyx for each rho."""

    def __init__(self, dim: int, k: float) -> None:
        self.dim, self.k, self.others = dim, k, dim - 2
        self.law = max_law(dim, k)
        self._made: list[Piece] = []
        self._nodes: dict[float, tuple[Any, float]] = {}
        self.rule = np.polynomial.legendre.leggauss(GAUSS_NODES)
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

        def at(end: float, *shares: float) -> list[float]:
            return [share * end + (1 - share) * middle for share in shares]

        near = [self.low, *at(self.low, 0.3), middle, *at(self.high, 0.3), self.high]
        fine = *at(self.low, 0.6, 0.4, 0.2), middle, *at(self.high, 0.2, 0.4, 0.6)
        self.panels_search, self.panels = near, [self.low, *fine, self.high]

    def node(self, y: float) -> tuple[Any, float]:
        """(node, its series' error) at rho = exp(y)."""
        found = self._nodes.get(y)
        if found is None:
            if len(self._nodes) >= NODES_KEPT:  # every radius brings new ones in few dimensions
                self._nodes.clear()
            found = self._nodes[y] = self._make(y)
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

    def _make(self, y: float) -> tuple[Any, float]:
        place = max(y, FLAT)
        rho = math.exp(place)
        table, window, error = np.zeros((1, 3)), 1.0, 0.0
        if self.others > 0:
            piece = next(piece for piece in self._pieces() if place <= piece.high)
            table, window, error = piece.table(place), piece.window, piece.error
        degree = DEGREE if self.others < FEW else 0
        node = MixedNode(float(self.dim), self.k, y, self._reach(rho) / rho, window, table, degree)
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
        window = self._window([*rhos, *checks])
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
        piece = Piece(low, high, window, 0.0, np.array(rows[:RADII]))
        for rho, truth in zip(checks[:2], rows[RADII:], strict=True):
            miss = max(miss, self._weigh(piece.table(math.log(rho)) - truth))
        if miss > AGREE and half > SHORT:
            return None
        piece.error = max(errors) + 4 * miss
        if self.others >= FEW:
            piece.tables, rest = _trimmed(piece.tables)
            missed = [max(self._weigh(x[i:]) for x in piece.tables) for i in range(terms)]
            kept = next((i for i, miss in enumerate(missed) if miss <= 10 * NOTHING), terms)
            piece.tables = np.ascontiguousarray(piece.tables[:, :kept])
            piece.error += rest + 10 * NOTHING
        return piece

    def _weigh(self, gap: Float) -> float:
        """What a difference of tables, (terms, rows), can change in a probability."""
        size = np.abs(gap).sum(axis=0)
        rest = size[3:]
        if self.others < FEW:
            rest = rest.reshape(-1, DEGREE).sum(axis=1).max()  # one piece is read at a time
        return float(math.sqrt(self.others) * size[:3].sum() + rest.sum())

    def _law(self, rho: float, terms: int) -> tuple[Float, Float, Float, Float]:
        """(m, places of a coordinate above m, their weights, mean above m) at the nodes."""
        x, w = self.rule
        m = -rho + self._reach(rho) * 0.5 * (_points(terms) + 1)
        z = 0.5 * (rho - m)[:, None] * (x + 1)
        least = np.where(m > 0, m, 0.0)[:, None]
        weights = w * np.exp(-0.5 * ((m[:, None] + z) ** 2 - least**2))
        weights /= weights.sum(axis=1, keepdims=True)
        return m, z, weights, (weights * z).sum(axis=1)

    def _scale(self, rho: float, terms: int) -> tuple[Float, Float, Float]:
        """(m, standard deviation, largest deviation of the sum) at the nodes."""
        m, z, weights, mean = self._law(rho, terms)
        s = np.sqrt((weights * (z - mean[:, None]) ** 2).sum(axis=1))
        return m, s, math.sqrt(self.others) * np.maximum(mean, rho - m - mean) / s

    def _window(self, rhos: list[float]) -> float:
        """Half a period in standard deviations: all of the sum's range, or its tail is nothing."""
        widest = 1.01 * max(float(self._scale(rho, 24)[2].max()) for rho in rhos)
        for window in WINDOWS:
            if widest <= window:
                return widest
            if max(float(self._outside(rho, 24, window).max()) for rho in rhos) <= NOTHING:
                break
        return window

    def _outside(self, rho: float, terms: int, window: float) -> Float:
        """P(the sum leaves the period), from above, times P(all others are above m)."""
        n = self.others
        m, z, weights, mean = self._law(rho, terms)
        _, s, reach = self._scale(rho, terms)
        width = window * s * math.sqrt(n)
        total = np.zeros(terms)
        for side in (1.0, -1.0):
            best = np.zeros(terms)
            for slope in (0.7, 0.85, 1.0, 1.2):
                tilt = slope * side * window / (s * math.sqrt(n))
                lift = np.log((weights * np.exp(tilt[:, None] * (z - mean[:, None]))).sum(axis=1))
                best = np.minimum(best, n * lift - np.abs(tilt) * width)
            total += np.exp(best)
        missed: Float = total * (reach > window) * np.maximum(1 - self._below(m, rho), 0.0) ** n
        return missed

    def _below(self, m: Float, rho: float) -> Float:
        """P(a coordinate in [-rho, rho] is below m)."""
        x, w = self.rule
        below = -rho + 0.5 * (m + rho)[:, None] * (x + 1)
        mass = math.sqrt(2 * math.pi) * math.erf(rho * ROOT_HALF)
        value: Float = 0.5 * (m + rho) * (w * np.exp(-0.5 * below**2)).sum(axis=1) / mass
        return value

    def _rows(self, rho: float, terms: int, window: float) -> tuple[Float, float]:
        """The rows that mixed.pyx reads, at the nodes of m; what the series leaves out."""
        n = self.others
        _, w = self.rule
        m, z, weights, mean = self._law(rho, terms)
        s = self._scale(rho, terms)[1]
        place, wide = (m + rho) / self._reach(rho), rho - m
        q = self._below(m, rho)
        first = np.stack([q / place, mean / wide, s / wide])
        if n < FEW:
            pieces = self._between_knots(m, rho)
            ends = np.abs(pieces.reshape(n, DEGREE, -1)[:, -2:]).sum(axis=1)
            return np.vstack([first, pieces]), float(ends.max())
        step = math.pi / (window * s * math.sqrt(n))  # the first frequency, per unit of z
        coefficients = self._many(z - mean[:, None], weights, step)
        # |phi(w)| <= 2 peak/w; for many terms that says nothing, and phi falls with w
        peak = 1 / (0.5 * wide * (w * np.exp(-0.5 * ((m[:, None] + z) ** 2))).sum(axis=1))
        peak *= np.exp(-0.5 * np.maximum(m, 0.0) ** 2)
        bound = np.exp(np.minimum(n * np.log(2 * peak / (step * HARMONICS)), 0.0)) / (n * math.pi)
        last = np.abs(coefficients[:, -8:]).max(axis=1)
        missing = np.where(bound < AGREE, bound, last)
        scaled = coefficients / (math.pi * np.arange(1, HARMONICS + 1))
        constant = (scaled.imag * (-1.0) ** np.arange(1, HARMONICS + 1)).sum(axis=1)
        rows = np.vstack([first, constant[None], scaled.real.T, scaled.imag.T])
        missing *= np.maximum(1 - q, 0.0) ** n
        return rows, float((self._outside(rho, terms, window) + missing).max())

    def _between_knots(self, m: Float, rho: float) -> Float:
        """Chebyshev coefficients of the sum's distribution function, in units of rho - m
        above its lowest value, piece by piece: H_k(v) = int g(s) H_(k-1)(v - s) ds."""
        wide = rho - m
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
        for _ in range(self.others - 1):
            from_here, from_before = np.matmul(here, sums), np.matmul(before, sums)
            grown = np.zeros((len(m), DEGREE, sums.shape[2] + 1))
            grown[:, :, :-1] += from_here
            grown[:, :, -1] += 1 - total  # beyond the last knot the sum is certain
            grown[:, :, 1:] += from_before
            sums = grown
        pieces = sums.transpose(2, 1, 0)  # piece, node, m
        result: Float = np.matmul(_transform(DEGREE), pieces).reshape(-1, len(m))
        return result

    def _many(self, centred: Float, weights: Float, step: Float) -> Any:
        """Coefficients for many terms, from phi - 1 so that its n-th power keeps its digits."""
        j = np.arange(1, HARMONICS + 1)
        scaled = step[:, None] * centred
        if np.abs(scaled).max() * HARMONICS < 2.0:  # a power series in the moments
            value = np.zeros((len(step), HARMONICS), dtype=complex)
            moment = weights.copy()
            for order in range(1, TAYLOR + 1):
                moment *= scaled * (1 / order)
                if order > 1:
                    value += moment.sum(axis=1)[:, None] * (1j * j) ** order
            real, imaginary = value.real, value.imag
        else:
            angle = j[:, None] * scaled[:, None, :]
            real = (-2 * np.sin(0.5 * angle) ** 2 @ weights[:, :, None])[:, :, 0]
            imaginary = (np.sin(angle) @ weights[:, :, None])[:, :, 0]
        log_size = 0.5 * np.log1p(np.maximum(real * (2 + real) + imaginary**2, EPS - 1))
        return np.exp(self.others * (log_size + 1j * np.arctan2(imaginary, 1 + real)))


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
