"""Certify black-box classifiers by randomized smoothing, with exact noise-side bounds."""

from __future__ import annotations

from typing import Any

from cert_core import kernels as _kernels
from cert_core.bounds import discrepancy, lower_bound, required_probability
from cert_core.calibration import certified_radius
from cert_core.certify import (
    ABSTAIN,
    Certificates,
    certified_accuracy,
    certify,
    predict_labels,
)
from cert_core.confidence import binomial_lower, binomial_upper, votes_needed
from cert_core.errors import BackendMissing, NoBracket, UnsupportedPair
from cert_core.laws import EmpiricalLaw, LogRatioLaw, log_ratio_law
from cert_core.monte_carlo import (
    MonteCarloBound,
    monte_carlo_bound,
    monte_carlo_radius,
    monte_carlo_required,
)
from cert_core.noises import (
    NOISES,
    Gaussian,
    L1Noise,
    L2Noise,
    Laplace,
    LinfNoise,
    MixedNoise,
    Noise,
    RadialNoise,
    noise_from_dict,
)
from cert_core.samples import CustomNoise
from cert_core.threats import ATTACKS, Shift, is_tight, worst_shift
from cert_core.votes import count_votes, noisy_batches

__version__ = "0.1.0"

__all__ = [
    "ABSTAIN",
    "ATTACKS",
    "NOISES",
    "BackendMissing",
    "Certificates",
    "CustomNoise",
    "EmpiricalLaw",
    "Gaussian",
    "L1Noise",
    "L2Noise",
    "Laplace",
    "LinfNoise",
    "LogRatioLaw",
    "MixedNoise",
    "MonteCarloBound",
    "NoBracket",
    "Noise",
    "RadialNoise",
    "Shift",
    "UnsupportedPair",
    "binomial_lower",
    "binomial_upper",
    "certified_accuracy",
    "certified_radius",
    "certify",
    "count_votes",
    "discrepancy",
    "draw",
    "is_tight",
    "log_ratio",
    "log_ratio_law",
    "lower_bound",
    "monte_carlo_bound",
    "monte_carlo_radius",
    "monte_carlo_required",
    "noise_from_dict",
    "noisy_batches",
    "predict_labels",
    "required_probability",
    "votes_needed",
    "worst_shift",
]


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
    """Draw noise.

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
        Added to every sample.
    out : (n, dim) array, optional
        Written and returned instead of a new array.
    dtype : "float32" or "float64"
    backend : "cpu", "reference" or "gpu"

    Returns
    -------
    (n, dim) array
        Exact draws: what is cut off a tail has mass 2^-40 a coordinate (float32).

    Raises
    ------
    ValueError, BackendMissing

    References
    ----------
    Zhang et al. 2020, Eqs. 10-13; Salmon et al. 2011 for Philox.
    """
    return _kernels.backend(backend).draw(
        noise, n, seed, start=start, center=center, out=out, dtype=dtype
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

    References
    ----------
    Zhang et al. 2020, Theorem 1.
    """
    return _kernels.backend(backend).log_ratio(noise, z, shift)
