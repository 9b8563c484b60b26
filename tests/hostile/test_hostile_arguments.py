"""Every public call with hostile values in the place of every argument.

CALLS holds a legal call of each public function; each argument in turn becomes each of VALUES.
The answer is an error of ours, one line that says what must be, within five seconds; values that
are no numbers (NEVER) are taken nowhere but where TAKES says so.  A public name that no table
knows fails.
"""

from __future__ import annotations

import datetime
import inspect
import re
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import public

import cert_core as cc
from cert_models.logs import Row
from cert_models.smooth import SmoothedClassifier
from cert_models.store.counts import CountStore
from cert_models.store.results import Result
from cert_models.store.runs import FixedPlan, LogPlan, Run, ShellPlan, Votes
from cert_models.store.storage import StoreError

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of compile

NOISE = cc.Gaussian(4, 1.0)
X = np.full((2, 4), 0.5, np.float32)
PLAN = cc.sequential.plan_at(NOISE, "l2", [0.25], n_max=100)
COUNTS = np.array([[90, 10], [20, 80]])
TABLE = cc.certify(COUNTS, COUNTS * 10, NOISE, "l2")
SAMPLING = {"n": 100, "alpha": 0.01, "seed": 0, "method": "dkw", "backend": "cpu"}
CUSTOM = {
    "dim": 2, "log_density": lambda z: -np.abs(z).sum(axis=1),
    "sampler": lambda n, rng: rng.laplace(size=(n, 2)),
    "worst_shift": lambda attack, radius: np.array([radius, 0.0]), "symmetric": True,
    "justification": "a proof of it",
}  # fmt: skip


def predict(batch: Any) -> Any:
    return (batch.sum(axis=1) > 2).astype(np.int64)


def scores(batch: Any) -> Any:
    return np.eye(2)[predict(batch)]


def drained(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its results all asked for."""
    return lambda **arguments: list(function(**arguments))


VOTING = {
    "predict": predict, "x": X, "noise": NOISE, "num_classes": 2, "n": 20, "seed": 0,
    "indices": [0, 1], "batch_size": 10, "stage": "estimation", "backend": "cpu", "start": 0,
    "sound": None, "progress": None,
}  # fmt: skip
UNTIL = {k: v for k, v in VOTING.items() if k not in ("n", "stage", "start", "progress")}
BY = {k: v for k, v in UNTIL.items() if k != "noise"} | {"plan": PLAN, "buffer": None}
PAIR = {"noise": NOISE, "attack": "l2"}
LABELLING = {k: v for k, v in VOTING.items() if k != "stage"}
SAMPLED = {k: v for k, v in VOTING.items() if k not in ("predict", "num_classes")}
SPARSE = cc.SparseFlips(4, 0.1, 0.2)
AT = {**PAIR, "radius": 0.1}
BRANCHES = [(COUNTS[:1] + 1, COUNTS[:1] * 10), (COUNTS + 0, COUNTS * 20)]
SENT = cc.certify(COUNTS, COUNTS * 10, NOISE, "l2")  # one input to each branch
STAGED = {"counts_selection": COUNTS, "counts_estimation": COUNTS * 10, **PAIR, "alpha": 0.01}

Call = tuple[Callable[..., Any], dict[str, Any]]


def both_smoothed(predict: Any, scores: Any, **options: Any) -> Any:
    """Votes by labels, and by scores: each needs its own."""
    first = cc.Smoothed(predict, **options).counts(X, 5, 0)
    return first, cc.Smoothed(None, scores=scores, **options).counts(X, 5, 0)


def both_ways(router: Any, branches: Any) -> Any:
    return cc.Routed(router, branches).predict(X, 20, 0.01, 0)


UNDER = cc.Smoothed(predict, NOISE, 2)

CALLS: dict[str, Call] = {
    "Ablation": (cc.Ablation, {"dim": 4, "keep": 2, "null": -1.0}),
    "CustomNoise": (cc.CustomNoise, CUSTOM),
    "EmpiricalLaw": (cc.laws.EmpiricalLaw, {"log_ratio": [0.0, 1.0]}),
    "FixedSequence": (cc.sequential.FixedSequence, {"tests": PLAN.tests}),
    "Flips": (cc.Flips, {"dim": 4, "categories": 3, "keep": 0.8}),
    "Gaussian": (cc.Gaussian, {"dim": 4, "sigma": 1.0}),
    "L1Noise": (cc.L1Noise, {"dim": 4, "b": 1.0, "k": 1.0}),
    "L2Noise": (cc.L2Noise, {"dim": 4, "sigma": 1.0, "k": 1.0}),
    "Laplace": (cc.Laplace, {"dim": 4, "b": 1.0}),
    "Lattice": (cc.Lattice, {"step": "1/255"}),
    "LinfNoise": (cc.LinfNoise, {"dim": 4, "sigma": 1.0, "k": 1.0}),
    "MixedNoise": (cc.MixedNoise, {"dim": 4, "sigma": 1.0, "k": 1.0}),
    "RadialNoise": (
        cc.RadialNoise,
        {"dim": 4, "norm": 1.0, "power": 1.0, "scale": 1.0, "k": 1.0},
    ),
    "RadiiPlan": (
        cc.sequential.RadiiPlan,
        {
            **PAIR,
            "radii": (0.25,),
            "thresholds": PLAN.thresholds,
            "alpha": 0.01,
            "n0": 10,
            "looks": (100,),
        },
    ),
    "Scaled": (cc.noises.Scaled, {"base": NOISE, "scales": (1.0, 2.0, 3.0, 4.0)}),
    "SparseFlips": (cc.SparseFlips, {"dim": 4, "p_plus": 0.1, "p_minus": 0.2}),
    "Splitting": (cc.Splitting, {"dim": 4, "scale": 0.5, "levels": 10}),
    "Uniform": (cc.Uniform, {"dim": 4, "scale": 0.5}),
    "WidthPlan": (
        cc.sequential.WidthPlan,
        {**PAIR, "width": 0.1, "alpha": 0.01, "n0": 10, "looks": (100,)},
    ),
    "betting_lower": (cc.confidence.betting_lower, {"scores": [0.5, 0.6], "alpha": 0.01}),
    "binomial_lower": (cc.binomial_lower, {"k": 5, "n": 10, "alpha": 0.01}),
    "binomial_upper": (cc.binomial_upper, {"k": 5, "n": 10, "alpha": 0.01}),
    "boundaries": (cc.sequential.boundaries, {"threshold": 0.6, "alpha": 0.01, "looks": [10, 20]}),
    "certified_accuracy": (
        cc.certified_accuracy,
        {"certificates": TABLE, "labels": [0, 1], "radii": [0.1]},
    ),
    "certified_radius": (cc.certified_radius, {"p": 0.9, **PAIR}),
    "certify": (cc.certify, {**STAGED, "bound": "runner-up"}),
    "certify_by": (cc.sequential.certify_by, BY),
    "certify_deterministic": (
        cc.certify_deterministic,
        {"counts": [[7, 3], [2, 8]], "noise": cc.Splitting(4, 0.5, 10)},
    ),
    "certify_jointly": (cc.certify_jointly, {**STAGED, "radius": 0.1}),
    "certify_labels_jointly": (
        cc.joint.certify_labels_jointly,
        {"labels": [0, 1], "votes": [90, 80], "n": 100, **AT, "alpha": 0.01},
    ),
    "Routed": (both_ways, {"router": UNDER, "branches": [UNDER, UNDER]}),
    "certify_routed": (
        cc.certify_routed,
        {
            "router_votes": (COUNTS, COUNTS * 10),
            "branch_votes": BRANCHES,
            "router_noise": NOISE,
            "branch_noises": [NOISE, NOISE],
            "attack": "l2",
            "alpha": 0.01,
            "bound": "runner-up",
            "router_bound": "clopper-pearson",
        },
    ),
    "join_routed": (
        cc.routing.join_routed,
        {"router": SENT, "branches": [SENT, SENT], "noises": [NOISE, NOISE]},
    ),
    "certify_scores": (
        cc.certificates.certify_scores,
        {
            "labels": [0],
            "scores": [[0.9, 0.8]],
            **PAIR,
            "n0": 5,
            "alpha": 0.01,
            "bound": "betting",
        },
    ),
    "certify_top_k": (
        cc.certificates.certify_top_k,
        {**STAGED, "k": 1, "labels": [0, 1], "bound": "runner-up"},
    ),
    "check_sampling": (
        cc.certificates.check_sampling,
        {**PAIR, "n": 100, "alpha": 0.01, "k": None, "bound": "runner-up"},
    ),
    "chernoff_lower": (cc.confidence.chernoff_lower, {"mean": 0.5, "n": 10, "alpha": 0.01}),
    "count_votes": (cc.count_votes, VOTING),
    "discrepancy": (cc.discrepancy, {"lam": 1.0, **PAIR, "radius": 0.5}),
    "draw": (
        cc.draw,
        {
            "noise": NOISE,
            "n": 2,
            "seed": 0,
            "start": 0,
            "center": [0.0] * 4,
            "out": None,
            "dtype": "float32",
            "backend": "cpu",
        },
    ),
    "draw_lattice": (
        cc.draw_lattice,
        {
            "noise": NOISE,
            "n": 2,
            "seed": 0,
            "lattice": cc.Lattice("1/255"),
            "start": 0,
            "center": [0, 1, 2, 3],
            "backend": "cpu",
        },
    ),
    "empirical_bernstein_lower": (
        cc.confidence.empirical_bernstein_lower,
        {"mean": 0.5, "variance": 0.1, "n": 10, "alpha": 0.01},
    ),
    "gather": (cc.sequential.gather, {"plan": PLAN, "results": []}),
    "geometric_looks": (cc.sequential.geometric_looks, {"n_max": 100, "first": 10, "ratio": 2.0}),
    "hoeffding_lower": (cc.confidence.hoeffding_lower, {"mean": 0.5, "n": 10, "alpha": 0.01}),
    "inverse_bound": (cc.bounds.inverse_bound, {"level": 0.5, **AT}),
    "is_tight": (cc.is_tight, PAIR),
    "join_certificates": (cc.certificates.join_certificates, {"parts": [TABLE]}),
    "label_scores": (cc.scores.label_scores, {**VOTING, "predict": scores, "labels": [0, 1]}),
    "label_votes": (cc.joint.label_votes, {**LABELLING, "labels": [0, 1]}),
    "log_ratio": (
        cc.log_ratio,
        {
            "noise": NOISE,
            "z": np.ones((2, 4)),
            "shift": cc.worst_shift(NOISE, "l2", 0.5),
            "backend": "cpu",
        },
    ),
    "log_ratio_law": (cc.log_ratio_law, {**PAIR, "radius": 0.5}),
    "lower_bound": (cc.lower_bound, {"p": 0.9, **PAIR, "radius": 0.5}),
    "mean_bounds": (cc.mean_bounds, {"samples": [0.5, 0.6], **AT, "alpha": 0.01}),
    "mean_scores": (cc.scores.mean_scores, {**VOTING, "predict": scores}),
    "mixture_lower": (cc.sequential.mixture_lower, {"k": 5, "n": 10, "alpha": 0.01}),
    "mixture_upper": (cc.sequential.mixture_upper, {"k": 5, "n": 10, "alpha": 0.01}),
    "monte_carlo_bound": (cc.monte_carlo_bound, {"p": 0.9, **PAIR, "radius": 0.5, **SAMPLING}),
    "monte_carlo_radius": (
        cc.monte_carlo.monte_carlo_radius,
        {"p": 0.9, **PAIR, "grid": [0.1, 0.2], **SAMPLING},
    ),
    "monte_carlo_required": (
        cc.monte_carlo.monte_carlo_required,
        {**PAIR, "radius": 0.5, **SAMPLING},
    ),
    "noise_from_dict": (cc.noise_from_dict, {"values": NOISE.to_dict()}),
    "Smoothed": (
        both_smoothed,
        {
            "predict": predict,
            "noise": NOISE,
            "num_classes": 2,
            "scores": scores,
            "batch_size": 10,
            "sound": None,
        },
    ),
    "answers": (
        drained(cc.votes.answers),
        {**{k: v for k, v in VOTING.items() if k != "num_classes"}, "buffer": None, "failed": None},
    ),
    "noisy_batches": (
        drained(cc.noisy_batches),
        {**SAMPLED, "buffer": None, "failed": None},
    ),
    "norm_moments": (cc.moments.norm_moments, {"noise": NOISE, "norm": 2}),
    "outcomes": (drained(cc.sequential.outcomes), BY),
    "percentile_bounds": (
        cc.percentile_bounds,
        {"samples": [0.5, 0.6], "share": 0.5, **AT, "alpha": 0.01},
    ),
    "percentile_ranks": (
        cc.percentiles.percentile_ranks,
        {"n": 100, "share": 0.5, **AT, "alpha": 0.01},
    ),
    "plan_at": (
        cc.sequential.plan_at,
        {
            **PAIR,
            "radii": [0.25],
            "n_max": 100,
            "alpha": 0.01,
            "n0": 10,
            "first": 10,
            "ratio": 2.0,
        },
    ),
    "plan_from_dict": (cc.sequential.plan_from_dict, {"values": PLAN.to_dict()}),
    "plan_until": (
        cc.sequential.plan_until,
        {**PAIR, "width": 0.1, "n_max": 100, "alpha": 0.01, "n0": 10, "first": 10, "ratio": 2.0},
    ),
    "predict_labels": (cc.certificates.predict_labels, {"counts": COUNTS, "alpha": 0.01}),
    "required_probability": (cc.required_probability, {**PAIR, "radius": 0.5}),
    "sampled_ranks": (cc.scores.sampled_ranks, {"predict": predict, **SAMPLED, "ranks": [0, 5]}),
    "sampled_values": (cc.scores.sampled_values, {"predict": predict, **SAMPLED}),
    "certify_shells": (
        cc.certify_shells,
        {
            "counts_selection": COUNTS,
            "counts_by_shell": np.stack([COUNTS * 4, COUNTS * 6], axis=1),
            "thresholds": [2.0],
            **PAIR,
            "alpha": 0.01,
        },
    ),
    "certify_shell_votes": (
        cc.shell_votes.certify_shell_votes,
        {
            "labels": [0, 1],
            "votes": [[30, 60], [30, 50]],
            "samples": [[40, 60], [40, 60]],
            "thresholds": [2.0],
            **PAIR,
            "n0": 10,
            "alpha": 0.01,
        },
    ),
    "count_shell_votes": (
        cc.shell_votes.count_shell_votes,
        {k: v for k, v in VOTING.items() if k != "sound"} | {"thresholds": [2.0], "buffer": None},
    ),
    "shell_lower_bound": (
        cc.shell_lower_bound,
        {"a": [0.4, 0.9], "thresholds": [2.0], **AT},
    ),
    "shell_radius": (cc.shell_radius, {"a": [0.4, 0.9], "thresholds": [2.0], **PAIR}),
    "shell_thresholds": (cc.shell_thresholds, {"noise": NOISE, "masses": [0.4, 0.9]}),
    "selected_labels": (cc.joint.selected_labels, LABELLING),
    "separation_radius": (cc.separation.separation_radius, {"p_top": 0.8, "p_other": 0.1, **PAIR}),
    "sparse_frontier": (cc.sparse.sparse_frontier, {"p": 0.9, "noise": SPARSE}),
    "sparse_lower_bound": (
        cc.sparse_lower_bound,
        {"p": 0.9, "noise": SPARSE, "added": 1, "deleted": 1},
    ),
    "split_alpha": (cc.confidence.split_alpha, {"alpha": 0.01, "shares": [1, 1]}),
    "votes_needed": (cc.confidence.votes_needed, {"alpha": 0.01, "threshold": 0.5}),
    "votes_until": (
        drained(cc.sequential.votes_until),
        {**UNTIL, "looks": [10, 20], "stop": lambda *_: True, "n0": 5, "buffer": None},
    ),
    "search": (
        cc.tuning.search,
        {
            "judge": lambda candidate, inputs: ([0.5] * len(inputs), [1] * len(inputs)),
            "most": [2, 2],
            "inputs": range(6),
            "objectives": [0.25, "average"],
            "budget": 20,
            "top": 1.0,
            "rho": 0.05,
        },
    ),
    "split": (
        cc.tuning.split,
        {"inputs": range(6), "seed": 0, "share": 0.5, "tuning": [0, 1], "fresh": [2, 3]},
    ),
    "tune": (
        cc.tuning.tune,
        {
            "smooth": lambda noise: cc.Smoothed(predict, noise, 2),
            "noises": [NOISE, cc.Gaussian(4, 0.5)],
            "x": np.full((4, 4), 0.9, np.float32),
            "labels": [1] * 4,
            "attack": "l2",
            "budget": 2000,
            "seed": 0,
            "radii": [0.1],
            "average": False,
            "n0": 5,
            "n": 20,
            "n_max": 20,
            "alpha": 0.01,
            "rho": 0.05,
            "tuning": [0, 1],
            "fresh": [2, 3],
        },
    ),
    "worst_shift": (cc.worst_shift, {**PAIR, "radius": 0.5}),
}
# Numbers there may be text as well: fractions, decimals.
PROOFS: dict[str, Call] = {
    "prove": (cc.proof.prove, {"p": 0.9, **PAIR, "radius": 0.5, "tau": 0.1}),
    "prove_shells": (
        cc.proof.prove_shells,
        {"a": [0.4, 0.9], "thresholds": [2.0], **PAIR, "radius": 0.5},
    ),
    "prove_shell_votes": (
        cc.proof.prove_shell_votes,
        {
            "votes": [40, 50],
            "samples": [45, 55],
            "alpha": 0.01,
            "a": [0.2, 0.8],
            "thresholds": [2.0],
            "noise": NOISE,
        },
    ),
    "prove_votes": (cc.proof.prove_votes, {"votes": 90, "n": 100, "alpha": 0.01, "p_lower": 0.8}),
    "discrepancy": (
        cc.proof.discrepancy,
        {"lam": 1.0, **PAIR, "radius": 0.5, "tolerance": 1e-9},
    ),
}
# What functions return, not what they take; and what is no function.
RECORDS = {
    "Bound", "Boundaries", "Certificates", "LogRatioLaw", "MonteCarloBound", "Noise",
    "RoutedCertificates", "SequentialCertificates", "Shift", "Votes", "Fresh", "Round", "Search",
    "Tuned",
}  # fmt: skip
OTHERS = {
    "ABSTAIN", "ATTACKS", "BOUNDS", "CHANNELS", "NOISES", "BackendMissing", "DrawAgain",
    "NoBracket", "UnsupportedPair", "WorkError",
}  # fmt: skip

NEVER: dict[str, Any] = {
    "None": None,
    "text": "0.7",
    "bytes": b"07",
    "True": True,
    "complex": 1j,
    "masked": np.ma.array([1, 2], mask=[True, False]),
    "masked rows": [np.ma.array([1, 2], mask=[True, False])],
    "structured": np.zeros(2, dtype=[("a", float)]),
    "date": np.datetime64("2020-01-01"),
    "duration": np.array([1, 2], dtype="m8[s]"),
    "datetime": datetime.datetime(2020, 1, 1),
    "truths": np.array([True, False]),
    "texts": ["0.7", "0.8"],
    "nothings": np.array([None, None]),
    "object": object(),
    "dict": {"a": 1},
    "complexes": np.array([1j, 1.0]),
}
VALUES: dict[str, Any] = NEVER | {
    "huge": 10**400,
    "unprintable": 10**5000,
    "huge list": [10**400],
    "nan": float("nan"),
    "inf": float("inf"),
    "-1": -1,
    "0": 0,
    "2.7": 2.7,
    "tiny": 5e-324,
    "fraction": Fraction(10**30 - 1, 10**30),
    "long double": np.nextafter(np.longdouble(1), np.longdouble(0)),
    "empty": [],
    "empty rows": np.zeros((0, 4)),
    "ragged": [[1.0], [1.0, 2.0]],
    "cube": np.ones((2, 2, 2)),
    "three": [0.1, 0.2, 0.3],
    "nans": np.full((2, 4), np.nan),
    "tensor": torch.ones(3, requires_grad=True),
}
# Arguments that may be left out, or that say yes or no.
TAKES = {
    "None": {
        "indices", "buffer", "k", "labels", "center", "out", "batch_size", "device", "autocast",
        "rho", "start", "tau", "sound", "failed", "n_max", "tuning", "fresh", "progress",
    },
    "True": {"average", "symmetric", "channels_last", "compiled", "readonly"},
    "dict": {"start"},
    "text": {
        "path", "name", "note", "model", "model_fingerprint", "data", "data_fingerprint",
        "step",
    },
}  # fmt: skip


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Stop what computes for longer, however busy the machine."""

    def late(*_: object) -> None:
        raise AssertionError(f"not done in {seconds} s")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


OURS = (ValueError, cc.errors.NoBracket, cc.errors.BackendMissing)


def fault(call: Call, argument: str, value: Any, kind: str, error: Any = OURS) -> str | None:
    """What is wrong with the answer to one value of one argument."""
    function, legal = call
    try:
        with within(30.0 if argument == "compiled" else 5.0):  # a compiler takes its time
            found = function(**{**legal, argument: value})
    except error as raised:
        text = str(raised)
        if "\n" in text or not re.search(r" must | needs |not enclosed", text) or len(text) > 600:
            return f"says {text!r}"
        return None
    except BaseException as raised:
        return f"raised {type(raised).__name__}: {str(raised)[:200]}"
    if kind in NEVER and argument not in TAKES.get(kind, ()):
        return f"taken: {str(found)[:100]}"
    return None


def faults(call: Call, argument: str, error: Any = OURS) -> list[str]:
    call[0](**call[1])  # kernels are compiled when first used
    found = {kind: fault(call, argument, value, kind, error) for kind, value in VALUES.items()}
    return [f"{argument} = {kind}: {text}" for kind, text in found.items() if text]


class Net(torch.nn.Module):
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        sums = batch.flatten(1).sum(dim=1)
        return torch.stack([2.0 - sums, sums - 2.0], dim=1)


SMOOTHED = SmoothedClassifier(Net().eval(), NOISE, 2)
COUNTING = {"x": X, "n": 20, "seed": 0, "indices": [0, 1], "progress": None}
CERTIFYING = {
    "x": X, "n0": 5, "n": 20, "alpha": 0.01, "attack": "l2", "seed": 0, "indices": [0, 1],
    "progress": None,
}  # fmt: skip
SEQUENTIAL = {k: v for k, v in CERTIFYING.items() if k != "n"} | {"n_max": 100}
RUN = Run(
    plan=FixedPlan(10, 50),
    noise=NOISE,
    seed=0,
    batch_size=0,
    num_classes=4,
    model="m",
    model_fingerprint="",
    data="d",
    data_fingerprint="",
    attack="l2",
    alpha=0.01,
)
LOGGED = Run(
    plan=LogPlan(10, 50, "l2", 0.01),
    noise=NOISE,
    seed=0,
    batch_size=0,
    num_classes=0,
    model="m",
    model_fingerprint="",
    data="d",
    data_fingerprint="",
    attack="l2",
    alpha=0.01,
)
VOTES = {
    "index": 3, "label": 1, "selection": np.array([10, 0, 0, 0]),
    "estimation": np.array([20, 30, 0, 0]), "seconds": 0.5,
}  # fmt: skip
ROW = {"index": 3, "label": 1, "predict": 1, "radius": 0.5, "seconds": 0.5}
RESULT = Result(
    name="r",
    indices=np.arange(2),
    labels=np.arange(2),
    predict=np.arange(2),
    radius=np.array([0.5, 0.5]),
    attack="l2",
    alpha=0.01,
)

CLASSIFIER: dict[str, Call] = {
    "SmoothedClassifier": (
        SmoothedClassifier,
        {
            "base_classifier": Net().eval(), "noise": NOISE, "num_classes": 2, "batch_size": 10,
            "device": None, "autocast": None, "channels_last": False, "compiled": False,
            "sound": None,
        },
    ),
    "counts": (SMOOTHED.counts, {**COUNTING, "stage": "estimation", "start": 0}),
    "shell_counts": (
        SMOOTHED.shell_counts, {**COUNTING, "thresholds": [2.0], "stage": "estimation", "start": 0},
    ),
    "selected_labels": (SMOOTHED.selected_labels, COUNTING),
    "label_votes": (SMOOTHED.label_votes, {**COUNTING, "labels": [0, 1]}),
    "mean_scores": (SMOOTHED.mean_scores, {**COUNTING, "stage": "estimation"}),
    "label_scores": (SMOOTHED.label_scores, {**COUNTING, "labels": [0, 1]}),
    "probabilities": (SMOOTHED.probabilities, COUNTING),
    "predict": (SMOOTHED.predict, {**COUNTING, "alpha": 0.01}),
    "rows": (SMOOTHED.rows, {"x": X}),
    "values": (SMOOTHED.values, COUNTING),
    "certify": (SMOOTHED.certify, {**CERTIFYING, "bound": "runner-up"}),
    "certify_scores": (SMOOTHED.certify_scores, {**CERTIFYING, "bound": "betting"}),
    "certify_top_k": (SMOOTHED.certify_top_k, {**CERTIFYING, "k": 1}),
    "certify_shells": (SMOOTHED.certify_shells, {**CERTIFYING, "masses": [0.3, 0.6]}),
    "certify_at": (SMOOTHED.certify_at, {**SEQUENTIAL, "radii": [0.25]}),
    "certify_until": (SMOOTHED.certify_until, {**SEQUENTIAL, "width": 0.5}),
    "outcomes": (
        drained(SMOOTHED.outcomes), {"plan": PLAN, "x": X, "seed": 0, "indices": [0, 1]},
    ),
}  # fmt: skip


ROUTED = cc.Routed(UNDER, [UNDER, SMOOTHED])
ROUTING: dict[str, Call] = {
    "predict": (ROUTED.predict, {**COUNTING, "alpha": 0.01}),
    "certify": (
        ROUTED.certify, {**CERTIFYING, "bound": "runner-up", "router_bound": "clopper-pearson"},
    ),
    "certify_at": (ROUTED.certify_at, {**SEQUENTIAL, "radii": [0.25]}),
    "certify_until": (ROUTED.certify_until, {**SEQUENTIAL, "width": 0.5}),
}  # fmt: skip


def new_store() -> str:
    """The name of a store that is not there."""
    return str(Path(tempfile.mkdtemp(dir="."), "store"))


def added(**votes: Any) -> Any:
    """Votes kept by a new store, and read again."""
    with CountStore(new_store()) as store:
        store.begin("r", RUN)
        store.add("r", Votes(**votes))
        return list(store.votes("r", FixedPlan))


def logged(**row: Any) -> Any:
    """A row of a log kept by a new store, and read again."""
    with CountStore(new_store()) as store:
        store.begin("r", LOGGED)
        store.add_logged("r", [Row(**row)])
        return store.logged("r")


def began(**arguments: Any) -> Any:
    """A run begun in a new store."""
    with CountStore(new_store()) as store:
        store.begin(**arguments)
        return store.runs()


def opened(**arguments: Any) -> Any:
    """The runs of a store that is opened."""
    with CountStore(**arguments) as store:
        return store.runs()


STORE: dict[str, Call] = {
    "CountStore": (opened, {"path": "store", "readonly": False, "timeout": 1.0}),
    "add": (added, VOTES),
    "add_logged": (logged, ROW),
    "begin": (began, {"name": "r", "run": RUN, "start": {"host": "h"}}),
}
RECORD: dict[str, Call] = {
    "Result": (
        Result,
        {
            "name": "r", "indices": [0, 1], "labels": [0, 1], "predict": [0, 1],
            "radius": [0.5, 0.5], "attack": "l2", "note": "", "model": "", "data": "",
        },
    ),
    "accuracy": (RESULT.accuracy, {"radius": 0.5, "rho": 0.01}),
    "average_radius": (RESULT.average_radius, {"rho": 0.01}),
    "FixedPlan": (FixedPlan, {"n0": 10, "n": 50}),
    "ShellPlan": (ShellPlan, {"n0": 10, "n": 50, "thresholds": [1.0, 2.0]}),
    "LogPlan": (LogPlan, {"n0": 10, "n": 50, "attack": "l2", "alpha": 0.01}),
    "Run": (
        Run,
        {
            "plan": FixedPlan(10, 50), "noise": NOISE, "seed": 0, "batch_size": 0,
            "num_classes": 4, "model": "m", "model_fingerprint": "", "data": "d",
            "data_fingerprint": "", "attack": "l2", "alpha": 0.01,
        },
    ),
}  # fmt: skip


def places(calls: dict[str, Call]) -> list[tuple[str, str]]:
    return [(name, argument) for name, (_, legal) in calls.items() for argument in legal]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("name", "argument"), places(CALLS))
def test_public_functions(name: str, argument: str) -> None:
    assert not faults(CALLS[name], argument)


@pytest.mark.parametrize(("name", "argument"), places(CLASSIFIER))
def test_classifier(name: str, argument: str) -> None:
    assert not faults(CLASSIFIER[name], argument)


@pytest.mark.parametrize(("name", "argument"), places(ROUTING))
def test_routed(name: str, argument: str) -> None:
    assert not faults(ROUTING[name], argument)


@pytest.mark.parametrize(("name", "argument"), places(PROOFS))
def test_proofs(name: str, argument: str) -> None:
    found = faults(PROOFS[name], argument)
    as_text = tuple(f"{argument} = {kind}: taken" for kind in ("text", "texts"))
    assert not [fault for fault in found if not fault.startswith(as_text)]


@pytest.mark.parametrize(("name", "argument"), places(STORE))
def test_store(name: str, argument: str) -> None:
    assert not faults(STORE[name], argument, StoreError)


@pytest.mark.parametrize(("name", "argument"), places(RECORD))
def test_records(name: str, argument: str) -> None:
    assert not faults(RECORD[name], argument)


@pytest.mark.parametrize("name", CALLS)
def test_legal_calls_are_legal(name: str) -> None:
    function, legal = CALLS[name]
    function(**legal)


def test_every_public_name_is_in_a_table() -> None:
    assert public().keys() == {*CALLS, *RECORDS, *OTHERS}


@pytest.mark.parametrize(
    ("kind", "calls", "left"),
    [
        (SmoothedClassifier, CLASSIFIER, {"drawing", "filling", "inputs", "labels", "scores"}),
        (cc.Routed, ROUTING, set()),
        (CountStore, STORE, {
            "casts", "check_held", "close", "done", "indices", "logged", "merge", "only", "plan",
            "runs", "starts", "transaction", "votes",
        }),
    ],
)  # fmt: skip
def test_every_method_is_in_a_table(kind: type, calls: dict[str, Call], left: set[str]) -> None:
    methods = {name for name in dir(kind) if not name.startswith("_") and name != "num_classes"}
    assert methods == (calls.keys() - {kind.__name__}) | left


@pytest.mark.parametrize("name", CALLS)
def test_every_argument_is_in_a_table(name: str) -> None:
    """Arguments of the function itself; **options are those of another."""
    signature = inspect.signature(public()[name])
    named = {p.name for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD}
    assert named <= CALLS[name][1].keys() | {"buffer"}
