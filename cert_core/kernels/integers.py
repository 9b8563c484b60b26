"""How far a coordinate in float64 may be from the ideal one, and its rounding to the lattice.

The ideal noise is the same function of infinitely many bits of every uniform in exact arithmetic;
a draw has the first 53 of them.  What parts the two:

- the cell: U lies in a cell of width 2^-53, and u, its middle rounded to a double, is within
  CELL = 2^-53 of every point of it.  |log U - log u| <= CELL/(u - CELL) =: q; first cells have no
  bound, and FAIL.
    exponential   |x| = -log u                    q
    normal        r = sqrt(-2 log u), r cos, r sin
                  |r^2 - R^2| <= 2q, so 2q/max(r, sqrt(2q)); an angle's cell moves r/2^51
    uniform       u                               CELL
    truncated     P(|x'| > x) = t, t = outside + inside u, c = inside CELL: dx = dt/(2 density),
                  which is .79 of the tail at least, so c/(.79 (t - c))
- rounding: logarithms, sines, quantiles of NumPy within 4 ulp, sums of a row in pairs; 2^-47 of
  the values covers them all (16 ulp of an angle's cosine, 40 of a sum of 2^40 terms)
- a radius: exp T(score), T by Newton's method from the table, for tails that are right to 2^-40
  of themselves (gammainc: 1e-13 for shapes to 75264; the mixed family: 2^-40 dim/512): slope T'
  times 1.26 of that, as a normal's tail is at most 1.26 of its density
- a direction x/|x|: moves by |dx_i|/|x| and by (|dx|/|x|) of the coordinate itself

A FAIL is a coordinate nearer to a boundary h (k + 1/2) than its error, or of 2^30 steps and more.

Backends need not repeat this: they decide a row by themselves where coarser margins, the same for
a whole row, allow it, and give the others to the reference.  A margin is above the reference's
bound plus what rounding moves a coordinate between the two: so integers and FAILs are the
reference's on every backend.  Tails, whose cells have wide images, are no part of such margins:
a backend marks what is drawn from a uniform below `least` (or, for normals, in the last 2^-32)
as undecided.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from cert_core.errors import Float
from cert_core.kernels import EXPONENTIAL, NORMAL, TRUNCATED
from cert_core.lattice import MOST, Integers, Lattice
from cert_core.noises import Noise

CELL = 2.0**-53
ROUNDING = 2.0**-47
TAILS = 2.0**-40  # relative error of a radius's tails
RELATIVE = 1e-3  # relative errors above it are of no use
SLACK = 1.02  # for products of errors, which are below 1e-3

Flags = np.ndarray[Any, np.dtype[np.bool_]]


def _log_error(u: Float) -> Float:
    """q: how far log U may be from log u."""
    with np.errstate(divide="ignore"):
        return np.where(u > 2 * CELL, CELL / np.abs(u - CELL), math.inf)


def normal_error(u: Float) -> Float:
    """Of both normals of a radius from u."""
    square = 2 * _log_error(u)
    radius = np.sqrt(-2.0 * np.log(u))
    with np.errstate(invalid="ignore"):
        return square / np.maximum(radius, np.sqrt(square)) + radius * ROUNDING


def exponential_error(u: Float) -> Float:
    return _log_error(u) - np.log(u) * ROUNDING


def truncated_error(u: Float, rho: Float) -> Float:
    """Of a normal truncated to [-rho, rho], rho being exact."""
    inside, outside = special.erf(rho / math.sqrt(2)), special.erfc(rho / math.sqrt(2))
    tail, cell = outside + inside * u, inside * CELL
    bound = np.where(tail > 2 * cell, cell / (0.79 * np.abs(tail - cell)), math.inf)
    result: Float = bound + 4 * ROUNDING
    return result


def radius_error(noise: Noise, score: Float, score_error: Float) -> tuple[Float, Float]:
    """Radii in input units, and bounds of their relative errors; inf where that is of no use."""
    value, slope, step = noise.log_radius().refined(score)
    tails = TAILS * (max(1.0, noise.dim / 512) if noise.radial is None else 1.0)
    error = slope * (SLACK * score_error + 1.26 * tails) + step + (np.abs(value) + 8) * 2.0**-50
    known = (score_error < RELATIVE) & (error < RELATIVE)
    return noise.scale_unit * np.exp(value), np.where(known, error, math.inf)


def direction_error(errors: Float, norm: float, size: Float) -> Float:
    """Of the sizes of raw rows, relatively."""
    moved = np.linalg.norm(errors, ord=norm, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative: Float = moved / size + 2 * ROUNDING
    return relative


def rounded(rows: Float, errors: Float, step: float) -> tuple[Integers, Flags]:
    """floor(z/h + 1/2), and which rows FAIL; integers of FAILed rows are any."""
    with np.errstate(invalid="ignore", over="ignore"):
        steps = rows / step
        whole = np.floor(steps + 0.5)
        near = np.abs(steps) < MOST - 1
        slack = 0.5 - np.abs(steps - whole)
        told = near & (slack * step > errors + np.abs(rows) * 2.0**-50)
        integers = np.where(near, whole, 0.0).astype(np.int32)
    failed: Flags = np.any(~told, axis=1)
    return integers, failed


# ---- what backends decide by themselves ----


@dataclass(frozen=True)
class Margins:
    """Margins of rows of one noise on one lattice.

    Attributes
    ----------
    least : int
        Raw coordinates from a high word below it are undecided.
    raw : float
        Error of the others, in raw units.
    inverse : float, 1/h
    """

    least: int
    raw: float
    inverse: float


SHARE = {NORMAL: 2.0**-53, EXPONENTIAL: 2.0**-52, TRUNCATED: 2.0**-51}  # least = share/error


def margins(noise: Noise, kind: int, lattice: Lattice) -> Margins:
    """Margins that leave few rows undecided: wider ones more rows near boundaries, narrower ones
    more rows with tails."""
    step = float(lattice.step)
    if kind not in SHARE:
        return Margins(0, 2.0**-48, 1 / step)
    wanted = math.sqrt(2.0**-56 * step / noise.rms)
    error = min(max(wanted, 2.0**-33), 2.0**-28)
    return Margins(math.ceil(SHARE[kind] / error * 2**32), 1.05 * error, 1 / step)
