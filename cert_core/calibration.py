"""From probabilities to certified radii, for single values and whole data sets.

A data set asks for thousands of radii of one (noise, attack) pair.  The curve
log(normal score/radius) over log radius, the normal score being Phi^-1(p_min), is smooth and
nearly constant: it is fitted by polynomials on pieces halved until all of more points than a
polynomial has coefficients agree with it to the law's resolution (1e-11; the mixed family's
5e-7); each radius is then one polynomial root, taken 20 times that lower.  Pieces that never
agree (a kink of the law) are searched one by one.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import Any, overload

import numpy as np
from numpy.polynomial import chebyshev
from scipy import special

from cert_core.bounds import closed_radii, finite_radii, search_radius
from cert_core.channels import Finite
from cert_core.errors import Float, Number, probabilities, scalar
from cert_core.laws import log_ratio_law
from cert_core.laws.limits import normal_score
from cert_core.noises import Noise
from cert_core.threats import attack_name

DEGREE = 16
POINTS = 22  # of a piece: 5 more than coefficients, independent conditions that all must hold
SHRINK = 20.0  # laws' resolutions that are taken off an interpolated radius
MANY = 24  # distinct probabilities from which a curve is cheaper than single searches
NARROW = 0.01  # pieces of log radius are not halved below this
MOST = 80  # nor are there more of them than about this


@dataclass(frozen=True)
class _Piece:
    """log(normal score/radius) on [low, high] of log radius; None where it did not agree."""

    low: float
    high: float
    coefficients: Float | None


@dataclass
class Curve:
    """The verified map from normal score to certified radius of one (noise, attack) pair.

    Pieces cover [start, end) of log radius and are added as normal scores ask for them, by one
    thread at a time.
    """

    noise: Noise
    attack: str
    pieces: list[_Piece] = field(default_factory=list)
    _fits: int = 0
    _lock: Any = field(default_factory=Lock, repr=False)

    @property
    def resolution(self) -> float:
        return log_ratio_law(self.noise, self.attack, 1.0).resolution

    def _value(self, x: float) -> float:
        excess, deficit = log_ratio_law(self.noise, self.attack, math.exp(x)).required()
        return math.log(max(normal_score(excess, deficit), 1e-300)) - x

    def _fit(self, low: float, high: float) -> list[_Piece]:
        self._fits += 1
        nodes = chebyshev.chebpts2(POINTS)  # both ends, so that no kink lies beside all of them
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        values = np.array([self._value(middle + half * x) for x in nodes])
        coefficients = chebyshev.chebfit(nodes, values, DEGREE)
        worst = np.abs(values - chebyshev.chebval(nodes, coefficients)).max()
        if worst <= self.resolution:
            return [_Piece(low, high, coefficients)]
        if high - low < NARROW or self._fits > MOST:
            return [_Piece(low, high, None)]
        return self._fit(low, middle) + self._fit(middle, high)

    def log_radii(self, normal_scores: Float, low: float, high: float) -> Float:
        """log radius, which lies in [low, high], at normal_scores; NaN where no piece agrees."""
        with self._lock:
            self._cover(low, high)
            pieces = list(self.pieces)
        edges = np.array([piece.low for piece in pieces] + [pieces[-1].high])
        at_edges = np.array([self._value(x) + x for x in edges])
        log_normal_scores = np.log(normal_scores)
        index = np.clip(np.searchsorted(at_edges, log_normal_scores) - 1, 0, len(pieces) - 1)
        result = np.full(normal_scores.shape, np.nan)
        for i in np.unique(index):
            piece, inside = pieces[i], index == i
            if piece.coefficients is not None:
                result[inside] = _solve(piece, piece.coefficients, log_normal_scores[inside])
        return result

    def _cover(self, low: float, high: float) -> None:
        """Extend the pieces to [low, high] of log radius."""
        if not self.pieces:
            self.pieces = self._fit(low, max(high, low + 0.5))
        if low < self.pieces[0].low:
            self.pieces = self._fit(low, self.pieces[0].low) + self.pieces
        if high > self.pieces[-1].high:
            self.pieces = self.pieces + self._fit(self.pieces[-1].high, high)


def _solve(piece: _Piece, coefficients: Float, log_normal_scores: Float) -> Float:
    """x with polynomial(x) + x = log of the normal score, by Newton from the ends' secant."""
    middle, half = 0.5 * (piece.low + piece.high), 0.5 * (piece.high - piece.low)
    slope = chebyshev.chebder(coefficients)
    x = np.full(log_normal_scores.shape, middle)
    for _ in range(60):
        u = np.clip((x - middle) / half, -1.0, 1.0)
        gap = chebyshev.chebval(u, coefficients) + x - log_normal_scores
        step = gap / (1.0 + chebyshev.chebval(u, slope) / half)
        x = np.clip(x - step, piece.low, piece.high)
        if np.all(np.abs(step) < 1e-13):
            break
    return x


@lru_cache(maxsize=32)
def curve(noise: Noise, attack: str) -> Curve:
    """The curve of a pair, kept for later calls."""
    return Curve(noise, attack)


def _normal_scores(p: Float) -> Float:
    """Phi^-1(p) for p in (1/2, 1), right near both ends."""
    near = np.sqrt(2) * special.erfinv(2 * (p - 0.5))
    result: Float = np.where(p < 0.75, near, -special.ndtri(1.0 - p))
    return result


def _interpolated(noise: Noise, attack: str, p: Float) -> Float:
    """Radii of many ascending p in (1/2, 1) from the pair's curve, at unit scale."""
    unit = noise.rescaled(1.0 / noise.scale_unit)
    shared = curve(unit, attack)
    lowest, highest = (search_radius(unit, attack, float(end)) for end in p[[0, -1]])
    if lowest == 0.0:  # this law does not tell p from 1/2, and maybe not the next ones
        first = bisect_left(p, True, key=lambda x: search_radius(unit, attack, float(x)) > 0)
        return np.concatenate([np.zeros(first), _open_radii(noise, attack, p[first:])])
    found = shared.log_radii(_normal_scores(p), math.log(lowest) - 1e-6, math.log(highest) + 1e-6)
    radii = np.exp(found) * (1.0 - SHRINK * shared.resolution)
    for i in np.flatnonzero(np.isnan(radii)):
        radii[i] = search_radius(unit, attack, float(p[i]))
    return radii * (noise.scale_unit * (1.0 - 1e-15))


@overload
def certified_radius(p: Number, noise: Noise, attack: str) -> float: ...


@overload
def certified_radius(p: Any, noise: Noise, attack: str) -> Float: ...


def certified_radius(p: Any, noise: Noise, attack: str) -> Any:
    """Compute the largest radius at which an input is certified.

    Parameters
    ----------
    p : float or array in [0, 1]
        A lower bound of the class probability under noise.
    noise : Noise
    attack : "l1", "l2" or "linf"; "l0" for changed entries

    Returns
    -------
    float or array
        Under "l0" the largest whole number of entries, at most dim (SparseFlips: 1024).
        Else the radius in input units, never above the truth and within 1e-9 of it, relatively
        (MixedNoise: 1e-6; 1e-5 for 24 or more probabilities at once): certified at every
        radius up to it.  0.0 where p <= 1/2; inf where p = 1 (full support).

    Raises
    ------
    UnsupportedPair, NoBracket
    ValueError
        p outside [0, 1] or NaN, or an unknown attack.

    References
    ----------
    Zhang et al. 2020, Theorem 1: L(p, r) > 1/2.

    Examples
    --------
    >>> round(cc.certified_radius(0.9, cc.Gaussian(3072, 0.25), "l2"), 4)
    0.3204
    >>> cc.certified_radius([0.5, 0.9, 0.99], cc.L2Noise(3072, 0.5, k=12), "linf").round(5)
    array([0.     , 0.01154, 0.02095])
    """
    p = probabilities("p", p)
    attack_name(attack)
    log_ratio_law(noise, attack, 0.0)
    distinct, place = np.unique(p, return_inverse=True)
    if isinstance(noise, Finite):
        radii, open_ = np.zeros(distinct.shape), distinct > 0.5
        radii[open_] = finite_radii(noise, attack, distinct[open_])
        return scalar(radii[place].reshape(p.shape))
    radii = np.where(distinct == 1.0, np.inf, 0.0)
    open_ = (distinct > 0.5) & (distinct < 1.0)
    if open_.any():
        radii[open_] = _open_radii(noise, attack, distinct[open_])
    result = radii[place].reshape(p.shape)
    return scalar(result)


def _open_radii(noise: Noise, attack: str, p: Float) -> Float:
    """Radii of distinct p in (1/2, 1)."""
    if (closed := closed_radii(noise, attack, p)) is not None:
        return closed
    if p.size >= MANY:
        return _interpolated(noise, attack, p)
    return np.array([search_radius(noise, attack, float(x)) for x in p])
