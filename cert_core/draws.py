"""Draws of a noise, and the log ratio of rows: the kernels, called by name."""

from __future__ import annotations

from typing import Any

from cert_core import kernels
from cert_core.errors import fail
from cert_core.lattice import Lattice
from cert_core.noises import Noise, checked_noise
from cert_core.threats import Shift


def draw(
    noise: Noise,
    n: int,
    seed: int,
    *,
    start: int = 0,
    center: Any = None,
    out: Any = None,
    dtype: str = "float32",
    backend: str = "cpu",
) -> Any:
    """Draw noise, or noisy copies of an input.

    Parameters
    ----------
    noise : Noise
    n : int >= 0
        Samples, of dim values each.
    seed : int
        64-bit; sample i depends on (seed, i) alone.
    start : int
        Index of the first sample.
    center : array of dim values, optional
        Added to every sample.  Noises that add nothing (Flips, SparseFlips, Ablation, Splitting)
        need it, and make copies of it in its own form: integers stay categories, levels levels.
    out : (n, dim) array, optional
        Written and returned instead of a new array.
    dtype : "float32" or "float64"
    backend : "cpu", "reference" or "gpu"

    Returns
    -------
    (n, dim) array
        Exact draws: what is cut off a tail has mass 2^-40 a coordinate (float32).  With
        backend "gpu" a CuPy array, or `out`: an array of NumPy, or one of CuPy, torch, ...
        on the device, which is filled where it is.

    Raises
    ------
    ValueError, BackendMissing

    References
    ----------
    Zhang et al. 2020, Eqs. 10-13; Salmon et al. 2011 for Philox.

    Examples
    --------
    >>> cc.draw(cc.Gaussian(3, 1.0), 2, seed=0).round(3)
    array([[-0.247,  0.451, -0.235],
           [ 0.608,  1.532,  0.021]], dtype=float32)
    """
    return kernels.backend(backend).draw(
        checked_noise(noise), n, seed, start=start, center=center, out=out, dtype=dtype
    )


def draw_lattice(
    noise: Noise,
    n: int,
    seed: int,
    lattice: Lattice,
    *,
    start: int = 0,
    center: Any = None,
    backend: str = "cpu",
) -> Any:
    """Draw noise rounded to a lattice, as integers.

    Parameters
    ----------
    noise : Noise
        Added, unstretched and of a continuous law: one of NOISES, or Uniform.
    n, seed, start
        As in draw, from the same random words: K = floor(z/h + 1/2) of the float64 draws z.
    lattice : Lattice
        Its step h is in the noise's units.
    center : array of dim integers below 2^30, optional
        An input in steps, as of lattice.integers, added to every sample.
    backend : "cpu", "reference" or "gpu"

    Returns
    -------
    integers : (n, dim) int32
        On "gpu" a CuPy array.
    failed : (n,) bool
        Rows of which float64 could not tell a coordinate's integer; what they hold is no draw.
        Rarer than lattice.failure_bound(noise).  Count such a copy against what you certify:
        then the law of the others is that of the ideal noise, exactly.

    Raises
    ------
    ValueError
        An argument out of its domain, or a step for which int32 is too small.
    UnsupportedPair
        Stretched noise, or one that adds nothing.
    BackendMissing

    References
    ----------
    Zhang et al. 2020, Eqs. 10-13; Mironov 2012 for why the last bits matter.

    Examples
    --------
    >>> steps, failed = cc.draw_lattice(cc.Gaussian(3, 0.25), 2, 0, cc.Lattice("1/255"))
    >>> steps, failed
    (array([[ 16,  32, -29],
           [ 74,  15, -75]], dtype=int32), array([False, False]))
    """
    return kernels.backend(backend).draw_lattice(
        checked_noise(noise), n, seed, lattice, start=start, center=center
    )


def log_ratio(noise: Noise, z: Any, shift: Shift, *, backend: str = "cpu") -> Any:
    """Compute log pi0(z - delta) - log pi0(z) for the rows of z.

    Parameters
    ----------
    noise : Noise
    z : (n, dim) array
    shift : Shift, from worst_shift
    backend : "cpu", "reference" or "gpu"

    Returns
    -------
    (n,) float64 array
        With backend "gpu" a CuPy array; z on the device is read there.

    Raises
    ------
    ValueError, BackendMissing

    References
    ----------
    Zhang et al. 2020, Theorem 1.

    Examples
    --------
    >>> noise = cc.Gaussian(3, 1.0)
    >>> z = cc.draw(noise, 2, seed=0, dtype="float64")
    >>> cc.log_ratio(noise, z, cc.worst_shift(noise, "l2", 0.5)).round(3)
    array([-0.002,  0.456])
    """
    if not isinstance(shift, Shift):
        raise fail("shift", "a Shift", shift, "pass what worst_shift returned")
    return kernels.backend(backend).log_ratio(checked_noise(noise), z, shift)
