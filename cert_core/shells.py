"""Bounds from votes told apart by how far out their noisy copies lay.

p forgets what every vote also tells: the norm of the noise behind it.  With thresholds
0 < T_1 < ... < T_{J-1}, shells T_{j-1} < |z| <= T_j (|.| the norm whose balls are the noise's
level sets) and lower bounds A_1 <= ... <= A_J of the cumulative masses
a_j = E f(x+z) 1{|z| <= T_j}, a_J = p,

    L(A, r) = max over L_1 >= ... >= L_J >= 0 of sum_j [L_j (A_j - A_{j-1}) - D_j(L_j)],
    D_j(L) = L F_j(log L) - G_j(log L),
    F_j(t) = P(l <= t, |z| in shell j),   G_j(t) = P(l >= -t, |z - delta| in shell j).

Every non-increasing L gives a bound: sum L_j (a_j - a_{j-1}) = sum (L_j - L_{j+1}) a_j falls
when a_j is replaced by A_j.  The worst shift is the one without shells: with L non-increasing,
L(|z|) pi0(z) is again symmetric and non-increasing in every |z_i| and its level sets are balls
of the same norm, so the proofs (a) to (c) of threats.py hold word for word.  It is the order of
L that proves this: an upper bound of a mass, or multipliers in any other order, would break it
(at dim = 784, k = 760, with all mass inside T allowed and none beyond, the value *rises* with
the size of the shift), and there is no way to give them here.

Alone, a shell wants F_j(t) = A_j - A_{j-1}; where that breaks the order, neighbours are pooled
(pool adjacent violators), which makes them one larger shell.  F is taken from above and G from
below, so that t needs no more than a few digits.

J = 1 is `lower_bound`.  In many dimensions |z| of a Gaussian hardly varies and nothing is gained;
noises with k > 0, and low dimensions, gain.  References: Zhang et al. 2020, Theorem 1, whose
framework this is with J constraints; Li et al. 2022 ("double sampling") for two of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from cert_core.bounds import lower_bound
from cert_core.calibration import certified_radius
from cert_core.densities import RadialRecord
from cert_core.errors import Float, NoBracket, array, broadcast, fail, radii, scalar
from cert_core.laws import radial_engine
from cert_core.laws.base import down, up
from cert_core.laws.quadrature import COARSE, FAR, margin, root
from cert_core.native import RadialLaw
from cert_core.noises import Noise, level_record
from cert_core.rounding import in_full
from cert_core.threats import law_shift

MASSES = (0.2, 0.4, 0.6, 0.8, 0.9)  # of the default thresholds
MOST = 64  # shells
LOSS = 1e-13  # of a bound, by the t at which it is read
POSSIBLE = 1e-9  # a mass of votes may pass that of the noise by so much

Starts = dict[tuple[int, int], float]  # t by the shells (first, last) that are pooled


@dataclass(frozen=True)
class _Shell:
    """first <= log multiplier t; the place among the shells, [first, last); its mass of votes."""

    first: int
    last: int
    mass: float
    t: float


class _Shells:
    """The shells of one noise under one shift."""

    def __init__(self, noise: Noise, attack: str, radius: float, edges: Sequence[float]) -> None:
        record = level_record(noise)
        shift = law_shift(noise, attack, radius)
        self._engine, _, _ = radial_engine(record, shift)
        self._edges = [0.0, *(float(edge) / record.scale for edge in edges), math.inf]

    def bound(self, masses: Sequence[float], starts: Starts) -> float:
        """The bound at cumulative masses; starts holds the t of shells, as guesses."""
        return down(math.fsum(map(self.value, self.pooled(masses, starts))), 4.0)

    def pooled(self, masses: Sequence[float], starts: Starts) -> list[_Shell]:
        """Shells whose t fall outwards, each the best for its own votes."""
        ends = [0.0, *masses]
        pooled: list[_Shell] = []
        for j in range(len(masses)):
            pooled.append(self._alone(j, j + 1, ends[j + 1] - ends[j], starts))
            while len(pooled) > 1 and pooled[-1].t > pooled[-2].t:
                last, first = pooled.pop().last, pooled.pop().first
                pooled.append(self._alone(first, last, ends[last] - ends[first], starts))
        return pooled

    def _alone(self, first: int, last: int, mass: float, starts: Starts) -> _Shell:
        """The shell with the t that it wants."""
        low, high = self._edges[first], self._edges[last]
        inside, beyond, error, error_beyond = self._engine.within(0.0, low, high)
        whole = inside + beyond
        blur = error + error_beyond
        if mass <= 0.0 or mass >= up(whole + blur):
            return _Shell(first, last, mass, math.inf if mass > 0.0 else -math.inf)
        rest = max(whole - mass, 4.0 * blur)

        def gap(t: float) -> float:
            below, above, _, _ = self._engine.within(t, low, high, COARSE)
            if below < above:
                return max(math.log(below / mass), -2.0) if below > 0.0 else -2.0
            return min(math.log(rest / above), 2.0) if above > 0.0 else 2.0

        guess = starts.get((first, last), 0.0)
        try:
            t = root(gap, guess, 0.05 + 0.1 * abs(guess), LOSS)
        except NoBracket:
            t = math.copysign(math.inf, mass - inside)
        t = -math.inf if t < -FAR else min(t, FAR)
        starts[first, last] = t if math.isfinite(t) else guess
        return _Shell(first, last, mass, t)

    def value(self, shell: _Shell) -> float:
        """L (A_j - A_{j-1}) - D_j(L) at the shell's t, not above the truth."""
        if shell.t == -math.inf:
            return 0.0
        low, high = self._edges[shell.first], self._edges[shell.last]
        arriving, error = self._engine.arriving(shell.t, low, high)
        value = arriving - margin(arriving, error)
        if shell.t == math.inf:  # every vote of the shell is the class's
            return value
        inside, _, error, _ = self._engine.within(shell.t, low, high)
        inside = up(inside + margin(inside, error))
        return value + math.exp(shell.t) * down(down(shell.mass, 2.0) - inside)


def multipliers(
    masses: Sequence[float], edges: Sequence[float], noise: Noise, attack: str, radius: float
) -> list[float]:
    """log of the multiplier of each shell at which the bound is read; they fall outwards, from inf
    where the masses are all of the noise."""
    pooled = _Shells(noise, attack, radius, edges).pooled(masses, {})
    return [cell.t for cell in pooled for _ in range(cell.first, cell.last)]


def checked_thresholds(thresholds: Any, noise: Noise) -> list[float]:
    """Thresholds of shells, in input units: positive, finite, rising."""
    level_record(noise)
    remedy = "pass what shell_thresholds returned"
    edges = array("thresholds", thresholds, "> 0", lambda x: x > 0, remedy=remedy)
    if edges.ndim != 1 or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        rule = "a one-dimensional array of rising finite norms"
        raise fail("thresholds", rule, edges.tolist(), remedy)
    if len(edges) >= MOST:
        raise fail("thresholds", f"fewer than {MOST}", len(edges), "pool shells")
    return [float(edge) for edge in edges]


def _cumulative(a: Any, edges: Sequence[float], noise: Noise) -> Float:
    """a as an array (..., J) that rises, nowhere above the mass of the noise itself."""
    shells = len(edges) + 1
    remedy = "pass lower bounds of the cumulative masses, the last one p"
    masses = array("a", a, "in [0, 1]", lambda x: (x >= 0) & (x <= 1), remedy=remedy)
    if masses.ndim == 0 or masses.shape[-1] != shells:
        rule = f"of shape (..., {shells}), one more than there are thresholds"
        raise fail("a", rule, masses.shape, remedy)
    if (np.diff(masses, axis=-1) < 0).any():
        raise fail("a", "non-decreasing along the last axis", masses.tolist(), remedy)
    record = level_record(noise)
    for j, edge in enumerate(edges):
        most = float(special.gammainc(record.shape, (edge / record.scale) ** record.power))
        if (masses[..., j] > most + POSSIBLE).any():
            rule = f"at most P(|z| <= T_{j + 1}) = {in_full(most)} in place {j}"
            raise fail("a", rule, float(masses[..., j].max()), remedy)
    return masses


def shell_thresholds(noise: Noise, masses: Any = MASSES) -> Float:
    """Choose thresholds by the share of the noise inside them.

    Parameters
    ----------
    noise : Noise, of a radial family
    masses : (J-1,) array in (0, 1), rising

    Returns
    -------
    (J-1,) float64 array
        Norms T_j (of the order whose balls are the level sets) in input units, with
        P(|z| <= T_j) = masses_j to 1e-13, and never above.

    Raises
    ------
    UnsupportedPair, ValueError

    References
    ----------
    Zhang et al. 2020, Section 4.1: |z|^power is Gamma distributed.

    Examples
    --------
    >>> cc.shell_thresholds(cc.Gaussian(100, 1.0), [0.2, 0.5, 0.8]).round(3)
    array([ 9.378,  9.967, 10.567])
    """
    record = level_record(noise)
    remedy = "pass shares of the noise"
    shares = array("masses", masses, "in (0, 1)", lambda x: (x > 0) & (x < 1), remedy=remedy)
    if shares.ndim != 1 or (np.diff(shares) <= 0).any():
        raise fail("masses", "a rising one-dimensional array", shares.tolist(), remedy)
    found = record.scale * special.gammaincinv(record.shape, shares) ** (1.0 / record.power)
    if not (found > 0).all() or not np.isfinite(found).all():
        rule = "larger, where |z| still is a number"
        raise fail("masses", rule, shares.tolist(), "leave out the smallest")
    law = _norm_law(record)
    for i, share in enumerate(shares):  # the last digits, on the safe side
        for step in range(1, 60):
            if _inside(law, found[i] / record.scale)[1] <= share:
                break
            found[i] *= 1.0 - 2.0**step * 2.3e-16
    return np.asarray(found)


def _norm_law(record: RadialRecord) -> RadialLaw:
    """Of |z|, whatever the shift."""
    geometry = "sphere" if record.norm == 2.0 else "cone"
    return RadialLaw(geometry, float(record.dim), record.power, record.k, 1.0)


def _inside(law: RadialLaw, edge: float) -> tuple[float, float]:
    """An enclosure of P(|z| <= edge)."""
    below, above, error, more = law.within(0.0, 0.0, edge)
    value, error = below + above, margin(below, error) + margin(above, more)
    return max(down(value - error), 0.0), min(up(value + error), 1.0)


def masses_within(noise: Noise, thresholds: Sequence[float]) -> list[tuple[float, float]]:
    """Enclosures of P(|z| <= T) for each threshold, and of 1 for all."""
    record = level_record(noise)
    law = _norm_law(record)
    return [*(_inside(law, edge / record.scale) for edge in thresholds), (1.0, 1.0)]


def shell_lower_bound(a: Any, thresholds: Any, noise: Noise, attack: str, radius: Any) -> Any:
    """Bound the smoothed classifier at the worst perturbed input, from masses by shell.

    Parameters
    ----------
    a : (..., J) array in [0, 1], non-decreasing along the last axis
        Lower bounds A_j of the class's mass within each threshold, E f(x+z) 1{|z| <= T_j}; the
        last one of its probability p.
    thresholds : (J-1,) array, rising
        T_j in input units, of the norm whose balls are the noise's level sets (for a noise
        stretched per coordinate, of z / scales), fixed before the votes were counted.
    noise : Noise, of a radial family
    attack : "l1", "l2" or "linf"
    radius : float or array >= 0, in input units; broadcasts with a[..., 0]

    Returns
    -------
    float or array of the broadcast shape
        L(a, radius), never above the truth, never below lower_bound(a[..., -1]).

    Raises
    ------
    UnsupportedPair
        A noise without shells (MixedNoise, discrete ones), or a pair without an exact law.
    ValueError

    References
    ----------
    The module's text; Zhang et al. 2020, Theorem 1, is J = 1.

    Examples
    --------
    >>> noise = cc.L2Noise(10, 1.0, k=5)
    >>> edges = cc.shell_thresholds(noise, [0.5])
    >>> round(cc.shell_lower_bound([0.5, 0.9], edges, noise, "l2", 0.5), 3)
    0.757
    >>> round(cc.lower_bound(0.9, noise, "l2", 0.5), 3)
    0.701
    """
    edges = checked_thresholds(thresholds, noise)
    masses = _cumulative(a, edges, noise)
    sizes = radii("radius", radius)
    places, sizes = broadcast(a=np.zeros(masses.shape[:-1]), radius=sizes)
    shape = places.shape
    rows = np.broadcast_to(masses, (*shape, masses.shape[-1])).reshape(-1, masses.shape[-1])
    each = np.broadcast_to(sizes, shape).reshape(-1)
    found = [
        _one_bound(row, edges, noise, attack, float(r)) for row, r in zip(rows, each, strict=True)
    ]
    return scalar(np.array(found, dtype=np.float64).reshape(shape))


def _one_bound(
    masses: Float, edges: Sequence[float], noise: Noise, attack: str, radius: float,
    starts: Starts | None = None,
) -> float:  # fmt: skip
    whole = float(lower_bound(masses[-1], noise, attack, radius))
    if not edges or radius == 0.0:
        return whole
    shells = _Shells(noise, attack, radius, edges)
    apart = shells.bound([float(m) for m in masses], {} if starts is None else starts)
    return min(max(whole, apart), float(masses[-1]))


def shell_radius(a: Any, thresholds: Any, noise: Noise, attack: str) -> Any:
    """Compute the radius certified by masses by shell.

    Parameters
    ----------
    a, thresholds, noise, attack
        As in shell_lower_bound.

    Returns
    -------
    float or array of the shape of a[..., 0]
        The largest radius with L(a, radius) > 1/2, rounded down (by 3e-10 relatively), in input
        units; 0.0 where a[..., -1] <= 1/2, inf where p = 1.

    Raises
    ------
    UnsupportedPair, ValueError
    NoBracket
        The radius lies beyond what the law can tell.

    References
    ----------
    The module's text; no p_min exists, so the bound is read at each radius tried.

    Examples
    --------
    >>> noise = cc.L2Noise(10, 1.0, k=5)
    >>> edges = cc.shell_thresholds(noise, [0.5])
    >>> round(cc.shell_radius([0.5, 0.9], edges, noise, "l2"), 3)
    1.097
    """
    edges = checked_thresholds(thresholds, noise)
    masses = _cumulative(a, edges, noise)
    rows = masses.reshape(-1, masses.shape[-1])
    plain = np.asarray(certified_radius(rows[:, -1], noise, attack)).reshape(-1)
    found = [
        _one_radius(row, edges, noise, attack, float(r)) for row, r in zip(rows, plain, strict=True)
    ]
    return scalar(np.array(found, dtype=np.float64).reshape(masses.shape[:-1]))


def _one_radius(
    masses: Float, edges: Sequence[float], noise: Noise, attack: str, plain: float
) -> float:
    """The radius of one row, from the one that p alone gives."""
    if not edges or plain == 0.0 or math.isinf(plain):
        return plain
    starts: Starts = {}

    def ahead(radius: float) -> float:
        return float(special.ndtri(_one_bound(masses, edges, noise, attack, radius, starts)))

    low, at_low, high, at_high = plain, 0.0, math.inf, -math.inf
    radius = plain * 1.05
    for step in range(400):
        value = ahead(radius)
        if value > 0.0:
            low, at_low = radius, value
        else:
            high, at_high = radius, value
        if high / low - 1.0 < 3e-10:
            return low
        radius = _next(low, at_low, high, at_high, step)
    raise NoBracket(f"the radius at a = {masses.tolist()} was not enclosed: use fewer shells")


def _next(low: float, at_low: float, high: float, at_high: float, step: int) -> float:
    """A radius inside the bracket: the secant's, pushed past the root, and halves in between."""
    if math.isinf(high):
        return low * (1.1 if step < 3 else 2.0)
    middle = math.sqrt(low * high)
    if step % 3 == 2 or not math.isfinite(at_high) or at_low == at_high:
        return middle
    place = low + (high - low) * at_low / (at_low - at_high)
    nudge = 1e-10 * place
    place += nudge if place - low < 0.5 * (high - low) else -nudge
    return min(max(place, low * (1 + 1e-10)), high * (1 - 1e-10))
