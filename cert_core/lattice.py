"""The lattice of sound mode: inputs and noise as integers, so that a certificate holds in floats.

On h Z^d, x + h K with K = floor(z/h + 1/2) is the rounding of x + z exactly, and nothing but the
sum of two integers reaches the model: for inputs of the lattice the smoothed classifier is that
of a function of real numbers, of which the real-arithmetic theorem speaks.  What is left is the
law of K: a coordinate that a stated bound of its error leaves undecided FAILs, and a FAIL counts
against whatever is certified.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from cert_core.channels import Channel, Uniform
from cert_core.errors import (
    Float,
    UnsupportedPair,
    choice,
    fail,
    flag,
    inputs,
    shown,
    size,
    to_numpy,
)
from cert_core.noises import Noise, Scaled, checked_noise
from cert_core.quantiles import REACH
from cert_core.rounding import in_full

MOST = 1 << 30  # of an integer of inputs and of noise alike, so that their sums are int32
PARTS = 1 << 20  # the largest denominator that a float is taken to mean
OVERFLOW = 1e-9  # a noise beyond MOST steps more often than this is refused
REMEDY = "pass a fraction, e.g. '1/255' for 8-bit images or '1/65536' for floats"
MEAN_ERROR = 2.0**-44  # of a coordinate of scale 1, its radius apart: see failure_bound
RADIUS_SHARE = 96.0 / 4  # ... and of the error of log radius, times its slope

Integers = np.ndarray[Any, np.dtype[np.int32]]


@dataclass(frozen=True)
class Lattice:
    """The points h k with integers k, of every coordinate.

    Parameters
    ----------
    step : Fraction, text such as "1/255", int, or float
        h, in input units, kept as an exact rational.  A float is the fraction of the least
        denominator, 2^20 at most, that it is the rounding of (1/255 is), or a power of two's
        multiple.

    Raises
    ------
    ValueError
        No such fraction, or one out of [1e-12, 1e12].

    Examples
    --------
    >>> lattice = cc.Lattice("1/255")  # that of 8-bit images
    >>> lattice.integers(np.array([0.0, 0.2, 1.0]))
    array([  0,  51, 255], dtype=int32)
    >>> round(lattice.cost("l2", 3072), 4)  # of a radius, where an image is off the lattice
    0.2174
    """

    step: Fraction

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", _fraction(self.step))

    def __repr__(self) -> str:
        return f"Lattice({str(self.step)!r})"

    def to_dict(self) -> dict[str, str]:
        """The lattice as JSON-able values, which Lattice(**values) reads."""
        return {"step": str(self.step)}

    def values(self, integers: Any, dtype: Any = np.float64) -> Any:
        """h k of an array of integers, of NumPy or CuPy, rounded to float64 and from there to
        dtype: a function of each integer alone, the same bits everywhere."""
        whole = integers.astype(np.float64)
        return (whole * self.step.numerator / self.step.denominator).astype(dtype)

    def integers(self, x: Any) -> Integers:
        """Read inputs that lie on the lattice.

        Parameters
        ----------
        x : array of any shape
            float32 or float64 with every value the rounding of h k to its type; other numbers
            exactly h k.  On the lattice of step 1/255, images of uint8 are the integers
            themselves.

        Returns
        -------
        int32 array of x's shape

        Raises
        ------
        ValueError
            A value off the lattice, by its place, or beyond 2^30 steps.
        """
        given = to_numpy("x", x)
        if given.dtype.kind == "u":
            if given.dtype != np.uint8 or self.step != Fraction(1, 255):
                rule = f"uint8 images on the lattice of step 1/255, or floats on that of {self}"
                raise fail("x", rule, str(given.dtype), "pass x / 255, or x.astype(float)")
            return given.astype(np.int32)
        if given.dtype.kind == "f" and given.dtype.itemsize < 4:
            raise fail("x", "float32 or float64", str(given.dtype), "pass x.astype('float32')")
        points = given if given.dtype.kind == "f" else to_numpy("x", given, np.float64)
        nearest = self._nearest(points)
        off = self.values(nearest, points.dtype) != points
        if off.any():
            place = tuple(int(i) for i in np.argwhere(off)[0])
            value = float(points[place])
            rule = f"on the lattice of step {self.step}"
            remedy = "pass the lattice that the inputs are on, or lattice.quantised(x) at its cost"
            raise fail(f"x{list(place)}", rule, value, remedy)
        return nearest.astype(np.int32)

    def _nearest(self, points: Any) -> Float:
        """k of the nearest lattice points, as floats."""
        if not np.isfinite(points).all():
            raise fail("x", "finite", "NaN or infinity", "clean the inputs first")
        steps = points.astype(np.float64) / float(self.step)
        if (np.abs(steps) > MOST - 1).any():
            worst = float(points.flat[int(np.abs(steps).argmax())])
            rule = f"within 2^30 steps of {self.step} from 0"
            raise fail("x", rule, worst, "take a larger step")
        nearest: Float = np.rint(steps)
        return nearest

    def quantised(self, x: Any) -> Any:
        """Move inputs to the nearest lattice points.

        Parameters
        ----------
        x : array of any shape, finite

        Returns
        -------
        float32 array where float32 holds x, else float64
            On the lattice.  A certificate of it is one of x at the price of `cost`.

        Raises
        ------
        ValueError
        """
        points = inputs("x", x)
        return self.values(self._nearest(points), points.dtype)

    def cost(self, attack: str, dim: int, *, perturbed_off: bool = True) -> float:
        """How far inputs are moved at most, to be taken off a radius.

        Parameters
        ----------
        attack : "l1", "l2" or "linf"
        dim : int >= 1, coordinates of one input
        perturbed_off : bool
            Whether perturbed inputs too may be off the lattice and be quantised: twice the cost
            of one move.  False where they are on it.

        Returns
        -------
        float
            h dim/2, h sqrt(dim)/2 or h/2, once or twice; rounded up.

        Raises
        ------
        ValueError
        """
        remedy = "pass the number of input coordinates"
        count = size("dim", dim, 1, 1 << 53, remedy=remedy)
        choice("attack", attack, ("l1", "l2", "linf"))
        share = {"l1": float(count), "l2": math.sqrt(count), "linf": 1.0}[attack]
        moves = 2 if flag("perturbed_off", perturbed_off) else 1
        return float(self.step) * share * 0.5 * moves * (1 + 2.0**-50)

    def checked(self, noise: Any) -> Noise:
        """noise if it can be drawn on this lattice.

        Raises
        ------
        UnsupportedPair
            A noise that is stretched, or adds nothing.
        ValueError
            A step so small against the noise that int32 does not hold it.
        """
        given = checked_noise(noise)
        if isinstance(given, Scaled | Channel):
            remedy = "divide the inputs by the scales and use the noise that is stretched"
            if isinstance(given, Channel):
                remedy = "use it without a lattice: its copies are integers or table values"
            raise UnsupportedPair(
                "noise must be added, unstretched and of a continuous law to be drawn on a "
                f"lattice, got {shown(given)}: {remedy}"
            )
        if not self._beyond(given) <= OVERFLOW:
            rule = f"large against the noise {shown(given)}, which would leave 2^30 steps"
            raise fail("step", rule, str(self.step), f"take {in_full(self._least(given))} or more")
        return given

    def _beyond(self, noise: Noise) -> float:
        """The chance that a draw has a coordinate of MOST steps."""
        if isinstance(noise, Uniform):
            return 1.0 if noise.scale >= MOST * float(self.step) else 0.0
        reach = math.log(MOST * float(self.step) / noise.scale_unit)
        _, above = noise.log_radius().log_tails(np.array([reach]))
        return math.exp(float(above[0]))

    def _least(self, noise: Noise) -> float:
        """A step that is large enough."""
        if isinstance(noise, Uniform):
            return 1.01 * noise.scale / MOST
        farthest = math.exp(float(noise.log_radius()(np.array(REACH)))) * noise.scale_unit
        return float(f"{1.1 * farthest / MOST:.3g}")

    def failure_bound(self, noise: Noise) -> float:
        """Bound the probability that a draw FAILs.

        Parameters
        ----------
        noise : Noise

        Returns
        -------
        float
            2 dim eps (1/h + 1/rms) and the chances of the ends of uniforms' ranges; an upper
            bound.  A prediction by votes at a perturbed input, drawn as these are, needs a
            certificate above 1/2 + this; the certificate itself needs nothing.

        Raises
        ------
        ValueError, UnsupportedPair

        Notes
        -----
        eps is twice the mean over the draws of the bound of a coordinate's error (integers.py
        of the kernels): of the coordinate by itself 2^-44 of its scale at most (the cells of
        2^-53 have, over all uniforms, images of 2^-52 times 37 = log 2^53 in mean, and 2^-47 of
        the value is rounding), and |z_i| times the error of log radius.  A law that is symmetric
        and falls in |z_i| has no more than 2 e (1/h + density) of its mass within e of the
        boundaries h (k + 1/2).
        """
        return self._failures(self.checked(noise))

    def _failures(self, noise: Noise) -> float:
        h, dim = float(self.step), noise.dim
        eps = 2 * mean_error(noise)
        ends = dim * 2.0**-49  # first cells of uniforms, and the faces of max-norms
        return min(1.0, 2 * dim * eps * (1 / h + 1 / noise.rms) + ends + self._beyond(noise))


def mean_error(noise: Noise) -> float:
    """The mean bound of a coordinate's error, in input units."""
    if isinstance(noise, Uniform):
        return MEAN_ERROR * noise.scale
    unit, record = noise.scale_unit, noise.radial
    if record is not None and record.coordinate_scale is not None:
        return MEAN_ERROR * record.coordinate_scale
    scores = np.linspace(-8.5, 8.5, 2001)
    log_radius, slope = noise.log_radius().with_slope(scores)
    weights = np.exp(-0.5 * scores**2)
    weights /= weights.sum()
    radius = unit * np.exp(log_radius)
    mean = float(np.sum(weights * radius * (1 + RADIUS_SHARE * slope)))
    share = 1.0
    if record is not None and record.norm < math.inf:
        share = dim_share(record.norm, noise.dim)
    own = MEAN_ERROR * unit if record is None else 0.0  # of the truncated normals
    return own + MEAN_ERROR * mean * share


def dim_share(norm: float, dim: int) -> float:
    """A bound of the mean |coordinate| of a uniform direction."""
    return 1 / dim if norm == 1.0 else 1 / math.sqrt(dim)


def _fraction(value: Any) -> Fraction:
    """value as an exact positive fraction."""
    rule = "a fraction between 1e-12 and 1e12, its numerator at most 2^20"
    try:
        exact = _exact(value)
    except (TypeError, ValueError, OverflowError, ArithmeticError, AttributeError):
        raise fail("step", rule, value, REMEDY) from None
    if not (Fraction(1, 10**12) <= exact <= 10**12 and exact.numerator <= PARTS):
        raise fail("step", rule, value, REMEDY)
    return exact


def _exact(value: Any) -> Fraction:
    if isinstance(value, str | Fraction) or type(value) is int:
        return Fraction(value)
    if isinstance(value, bool | np.bool_):
        raise TypeError
    if isinstance(value, np.integer):
        return Fraction(int(value))
    if not isinstance(value, float | np.floating):
        raise TypeError
    number = float(value)
    simple = Fraction(number).limit_denominator(PARTS)
    return simple if simple and float(simple) == number else Fraction(number)


def checked_lattice(name: str, value: Any) -> Lattice:
    """value if it is a lattice."""
    if not isinstance(value, Lattice):
        raise fail(name, "a Lattice", value, "e.g. Lattice('1/255')")
    return value
