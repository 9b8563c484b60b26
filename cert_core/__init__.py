"""Certify black-box classifiers by randomized smoothing, with exact noise-side bounds."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cert_core import errors as _errors
from cert_core import kernels as _kernels
from cert_core.bounds import discrepancy, inverse_bound, lower_bound, required_probability
from cert_core.calibration import certified_radius
from cert_core.certificates import (
    ABSTAIN,
    Certificates,
    certified_accuracy,
    certify,
    certify_scores,
    certify_top_k,
    check_sampling,
    join_certificates,
    predict_labels,
)
from cert_core.confidence import (
    betting_lower,
    binomial_lower,
    binomial_upper,
    chernoff_lower,
    empirical_bernstein_lower,
    hoeffding_lower,
    split_alpha,
    votes_needed,
)
from cert_core.deterministic import certify_deterministic
from cert_core.errors import BackendMissing, NoBracket, UnsupportedPair
from cert_core.joint import (
    certify_jointly,
    certify_labels_jointly,
    label_votes,
    selected_labels,
)
from cert_core.lattice import Lattice
from cert_core.laws import EmpiricalLaw, LogRatioLaw, log_ratio_law
from cert_core.moments import norm_moments
from cert_core.monte_carlo import (
    MonteCarloBound,
    monte_carlo_bound,
    monte_carlo_radius,
    monte_carlo_required,
)
from cert_core.noises import (
    CHANNELS,
    NOISES,
    Ablation,
    Flips,
    Gaussian,
    L1Noise,
    L2Noise,
    Laplace,
    LinfNoise,
    MixedNoise,
    Noise,
    RadialNoise,
    Scaled,
    SparseFlips,
    Splitting,
    Uniform,
    checked_noise,
    noise_from_dict,
)
from cert_core.percentiles import mean_bounds, percentile_bounds, percentile_ranks
from cert_core.samples import CustomNoise
from cert_core.scores import label_scores, mean_scores, sampled_ranks, sampled_values
from cert_core.separation import separation_radius
from cert_core.sequential.certificates import (
    Outcome,
    SequentialCertificates,
    certify_by,
    gather,
    outcomes,
)
from cert_core.sequential.plans import RadiiPlan, WidthPlan, plan_at, plan_from_dict, plan_until
from cert_core.sequential.tests import (
    Boundaries,
    FixedSequence,
    boundaries,
    geometric_looks,
    mixture_lower,
    mixture_upper,
)
from cert_core.sequential.votes import SequentialVotes, votes_until
from cert_core.smoothed import Smoothed
from cert_core.sparse import sparse_frontier, sparse_lower_bound
from cert_core.threats import ATTACKS, Shift, is_tight, worst_shift
from cert_core.votes import DrawAgain, answers, count_votes, noisy_batches

if TYPE_CHECKING:
    from cert_core import proof as proof

__version__ = "0.1.0"

__all__ = [
    "ABSTAIN",
    "ATTACKS",
    "CHANNELS",
    "NOISES",
    "Ablation",
    "BackendMissing",
    "Boundaries",
    "Certificates",
    "CustomNoise",
    "DrawAgain",
    "EmpiricalLaw",
    "FixedSequence",
    "Flips",
    "Gaussian",
    "L1Noise",
    "L2Noise",
    "Laplace",
    "Lattice",
    "LinfNoise",
    "LogRatioLaw",
    "MixedNoise",
    "MonteCarloBound",
    "NoBracket",
    "Noise",
    "Outcome",
    "RadialNoise",
    "RadiiPlan",
    "Scaled",
    "SequentialCertificates",
    "SequentialVotes",
    "Shift",
    "Smoothed",
    "SparseFlips",
    "Splitting",
    "Uniform",
    "UnsupportedPair",
    "WidthPlan",
    "answers",
    "betting_lower",
    "binomial_lower",
    "binomial_upper",
    "boundaries",
    "certified_accuracy",
    "certified_radius",
    "certify",
    "certify_by",
    "certify_deterministic",
    "certify_jointly",
    "certify_labels_jointly",
    "certify_scores",
    "certify_top_k",
    "check_sampling",
    "chernoff_lower",
    "count_votes",
    "discrepancy",
    "draw",
    "draw_lattice",
    "empirical_bernstein_lower",
    "gather",
    "geometric_looks",
    "hoeffding_lower",
    "inverse_bound",
    "is_tight",
    "join_certificates",
    "label_scores",
    "label_votes",
    "log_ratio",
    "log_ratio_law",
    "lower_bound",
    "mean_bounds",
    "mean_scores",
    "mixture_lower",
    "mixture_upper",
    "monte_carlo_bound",
    "monte_carlo_radius",
    "monte_carlo_required",
    "noise_from_dict",
    "noisy_batches",
    "norm_moments",
    "outcomes",
    "percentile_bounds",
    "percentile_ranks",
    "plan_at",
    "plan_from_dict",
    "plan_until",
    "predict_labels",
    "required_probability",
    "sampled_ranks",
    "sampled_values",
    "selected_labels",
    "separation_radius",
    "sparse_frontier",
    "sparse_lower_bound",
    "split_alpha",
    "votes_needed",
    "votes_until",
    "worst_shift",
]


def __getattr__(name: str) -> Any:
    """cert_core.proof, loaded when first asked for: it needs python-flint."""
    if name == "proof":
        return importlib.import_module("cert_core.proof")
    raise AttributeError(f"module 'cert_core' has no attribute {name!r}")


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
    """
    return _kernels.backend(backend).draw(
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
    """
    return _kernels.backend(backend).draw_lattice(
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
    """
    if not isinstance(shift, Shift):
        raise _errors.fail("shift", "a Shift", shift, "pass what worst_shift returned")
    return _kernels.backend(backend).log_ratio(checked_noise(noise), z, shift)
