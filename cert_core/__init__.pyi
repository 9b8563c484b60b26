"""The public face: read by type checkers, and by the loader beside it."""

from . import (
    bounds as bounds,
    calibration as calibration,
    certificates as certificates,
    channels as channels,
    confidence as confidence,
    deterministic as deterministic,
    draws as draws,
    errors as errors,
    executors as executors,
    joint as joint,
    kernels as kernels,
    lattice as lattice,
    laws as laws,
    moments as moments,
    monte_carlo as monte_carlo,
    noises as noises,
    percentiles as percentiles,
    proof as proof,
    provenance as provenance,
    rounding as rounding,
    routing as routing,
    samples as samples,
    scores as scores,
    separation as separation,
    sequential as sequential,
    shell_votes as shell_votes,
    shells as shells,
    smoothed as smoothed,
    sparse as sparse,
    threats as threats,
    tuning as tuning,
    votes as votes,
)
from .bounds import (
    discrepancy as discrepancy,
    lower_bound as lower_bound,
    required_probability as required_probability,
)
from .calibration import certified_radius as certified_radius
from .certificates import (
    BOUNDS as BOUNDS,
    ABSTAIN as ABSTAIN,
    Certificates as Certificates,
    certified_accuracy as certified_accuracy,
    certify as certify,
)
from .channels import (
    CHANNELS as CHANNELS,
    Ablation as Ablation,
    Flips as Flips,
    SparseFlips as SparseFlips,
    Splitting as Splitting,
    Uniform as Uniform,
    noise_from_dict as noise_from_dict,
)
from .confidence import binomial_lower as binomial_lower, binomial_upper as binomial_upper
from .deterministic import certify_deterministic as certify_deterministic
from .draws import draw as draw, draw_lattice as draw_lattice, log_ratio as log_ratio
from .joint import certify_jointly as certify_jointly
from .lattice import Lattice as Lattice
from .laws import log_ratio_law as log_ratio_law
from .monte_carlo import monte_carlo_bound as monte_carlo_bound
from .noises import (
    NOISES as NOISES,
    Gaussian as Gaussian,
    L1Noise as L1Noise,
    L2Noise as L2Noise,
    Laplace as Laplace,
    LinfNoise as LinfNoise,
    MixedNoise as MixedNoise,
    Noise as Noise,
    RadialNoise as RadialNoise,
)
from .percentiles import mean_bounds as mean_bounds, percentile_bounds as percentile_bounds
from .routing import (
    Routed as Routed,
    RoutedCertificates as RoutedCertificates,
    certify_routed as certify_routed,
)
from .samples import CustomNoise as CustomNoise
from .shell_votes import certify_shells as certify_shells
from .shells import (
    shell_lower_bound as shell_lower_bound,
    shell_radius as shell_radius,
    shell_thresholds as shell_thresholds,
)
from .smoothed import Smoothed as Smoothed
from .sparse import sparse_lower_bound as sparse_lower_bound
from .threats import (
    ATTACKS as ATTACKS,
    Shift as Shift,
    is_tight as is_tight,
    worst_shift as worst_shift,
)
from .votes import Votes as Votes, count_votes as count_votes, noisy_batches as noisy_batches

RENAMED: dict[str, str]
TOPICS: dict[str, tuple[str, ...]]
__version__: str
__all__: list[str]
