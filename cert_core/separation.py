"""Radii at which one class stays above another, from separate bounds of the two.

Within an attack ball of radius r the class falls to L(p, r) at most and another rises to
1 - L(q, r), q a lower bound of its complement's probability; the class stays ahead where
L(p, r) + L(q, r) > 1.  With q = p, all that is known without a bound of the other class,
this is L(p, r) > 1/2.
"""

from __future__ import annotations

import math
from typing import Any, overload

import numpy as np
from scipy import optimize, special

from cert_core.bounds import complement_above, complement_below, largest_whole, lower_bound
from cert_core.calibration import certified_radius
from cert_core.channels import Finite
from cert_core.errors import Float, NoBracket, Number, broadcast, probabilities, scalar
from cert_core.noises import Noise
from cert_core.threats import COUNT

SHRINK = 3e-10  # taken off a root, relatively; certified there or shrunk again


@overload
def separation_radius(p_top: Number, p_other: Number, noise: Noise, attack: str) -> float: ...


@overload
def separation_radius(p_top: Any, p_other: Any, noise: Noise, attack: str) -> Float: ...


def separation_radius(p_top: Any, p_other: Any, noise: Noise, attack: str) -> Any:
    """Compute the largest radius at which one class stays above another.

    Parameters
    ----------
    p_top : float or array in [0, 1]
        A lower bound of the class's probability under noise.
    p_other : float or array in [0, 1]
        An upper bound of the other class's; broadcasts with p_top.  What exceeds
        1 - p_top is not used.
    noise : Noise
    attack : "l1", "l2" or "linf"

    Returns
    -------
    float or array
        In input units, never above the truth and within 1e-9 of it, relatively (MixedNoise:
        1e-6; 1e-5 for 24 or more pairs at once); 0.0 where
        p_top <= p_other; never below certified_radius(p_top, noise, attack).

    Raises
    ------
    UnsupportedPair, NoBracket, ValueError

    References
    ----------
    Cohen et al. 2019, Theorem 1 (two classes, Gaussian); Zhang et al. 2020, Theorem 1.

    Examples
    --------
    >>> radius = cc.separation.separation_radius(0.4, 0.2, cc.Gaussian(4, 1.0), "l2")
    >>> round(radius, 4)  # half of the distance of their normal scores
    0.2941
    """
    top, other = broadcast(
        p_top=probabilities("p_top", p_top), p_other=probabilities("p_other", p_other)
    )
    return scalar(radii_apart(top, complement_below(other), noise, attack))


def radii_apart(p: Float, q: Float, noise: Noise, attack: str) -> Float:
    """separation_radius from q, a lower bound of the probability not to be the other class."""
    p, q = np.broadcast_arrays(p, np.maximum(q, p))
    pairs, place = np.unique(np.stack([p.ravel(), q.ravel()]), axis=1, return_inverse=True)
    alone = np.asarray(certified_radius(pairs[0], noise, attack))
    reach = np.asarray(certified_radius(pairs[1], noise, attack))
    radii = alone.copy()
    for i in np.flatnonzero((pairs[1] > pairs[0]) & (pairs[0] > 1.0 - pairs[1])):
        radii[i] = max(_search(pairs[:, i], noise, attack, alone[i], reach[i]), alone[i])
    result: Float = radii[place.reshape(-1)].reshape(p.shape)
    return result


def _search(pair: Float, noise: Noise, attack: str, low: float, high: float) -> float:
    """The root of L(p, r) + L(q, r) = 1 in [low, high], rounded down."""
    if math.isinf(high):
        return high
    if isinstance(noise, Finite) and attack != COUNT:  # L(p) is p less the share that is lost
        middle = math.nextafter(0.5 * float(pair.sum()), 0.0)
        return float(certified_radius(middle, noise, attack))
    if attack == COUNT:
        return low + largest_whole(lambda r: _apart(pair, noise, attack, low + r), int(high - low))

    def excess(r: float) -> float:
        values = np.clip(lower_bound(pair, noise, attack, r), 1e-300, 1.0 - 2.0**-53)
        return float(special.ndtri(values).sum())

    if excess(high) >= 0:
        root = high
    elif excess(low) <= 0:
        return 0.0
    else:
        root = float(optimize.brentq(excess, low, high, xtol=1e-12 * high, rtol=1e-11))
    for shrink in (SHRINK, 1e-8, 1e-6, 1e-4):
        if _apart(pair, noise, attack, root * (1.0 - shrink)):
            return root * (1.0 - shrink)
    if root < 1e-3 * noise.rms:
        return 0.0
    raise NoBracket(f"the radius at p = {pair[0]!r}, {1 - pair[1]!r} was not enclosed: use certify")


def _apart(pair: Float, noise: Noise, attack: str, r: float) -> bool:
    """Whether L(p, r) + L(q, r) > 1."""
    first, second = lower_bound(pair, noise, attack, r)
    return bool(first > complement_above(second))
