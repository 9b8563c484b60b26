"""Certify black-box classifiers by randomized smoothing, with exact noise-side bounds.

Topics are public modules.  They, and the names at the top, load when first used, as the stub
beside this file lists them.
"""

import importlib
import warnings

import lazy_loader

__version__ = "0.1.0"

# Every topic, with the public names that are found there alone.
TOPICS = {
    "bounds": ("inverse_bound",),
    "calibration": (),
    "certificates": (
        "Bound",
        "certify_scores",
        "certify_top_k",
        "check_sampling",
        "join_certificates",
        "predict_labels",
    ),
    "channels": (),
    "confidence": (
        "betting_lower",
        "chernoff_lower",
        "empirical_bernstein_lower",
        "hoeffding_lower",
        "split_alpha",
        "votes_needed",
    ),
    "deterministic": (),
    "draws": (),
    "errors": (
        "BackendMissing",
        "NoBracket",
        "UnsupportedPair",
    ),
    "executors": ("WorkError",),
    "joint": (
        "certify_labels_jointly",
        "label_votes",
        "selected_labels",
    ),
    "kernels": (),
    "lattice": (),
    "laws": (
        "EmpiricalLaw",
        "LogRatioLaw",
    ),
    "moments": ("norm_moments",),
    "monte_carlo": (
        "MonteCarloBound",
        "monte_carlo_radius",
        "monte_carlo_required",
    ),
    "noises": ("Scaled",),
    "percentiles": ("percentile_ranks",),
    "proof": (),
    "provenance": (),
    "rounding": (),
    "routing": ("join_routed",),
    "samples": (),
    "scores": (
        "label_scores",
        "mean_scores",
        "sampled_ranks",
        "sampled_values",
    ),
    "separation": ("separation_radius",),
    "sequential": (
        "Boundaries",
        "FixedSequence",
        "RadiiPlan",
        "SequentialCertificates",
        "WidthPlan",
        "boundaries",
        "certify_by",
        "gather",
        "geometric_looks",
        "mixture_lower",
        "mixture_upper",
        "outcomes",
        "plan_at",
        "plan_from_dict",
        "plan_until",
        "votes_until",
    ),
    "shell_votes": ("certify_shell_votes", "count_shell_votes"),
    "shells": (),
    "smoothed": (),
    "sparse": ("sparse_frontier",),
    "threats": (),
    "tuning": (
        "Fresh",
        "Round",
        "Search",
        "Tuned",
        "search",
        "split",
        "tune",
    ),
    "votes": (
        "DrawAgain",
        "answers",
    ),
}

# What public names of the last release are called now.
RENAMED = {"Outcome": "Votes", "SequentialVotes": "Votes"}

_first_use, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)
__all__ = [name for name in __dir__() if name not in TOPICS]


def __getattr__(name: str) -> object:
    """A topic, a name at the top or, for one release and with a warning, a name of a topic."""
    if name in RENAMED:
        message = f"{__name__}.{name} goes with the next release: it is {RENAMED[name]} now"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return _first_use(RENAMED[name])
    topic = next((topic for topic, names in TOPICS.items() if name in names), None)
    if topic is None:
        return _first_use(name)
    place = f"{__name__}.{topic}"
    message = f"{__name__}.{name} goes with the next release: from {place} import {name}"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return getattr(importlib.import_module(place), name)
