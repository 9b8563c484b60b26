"""Discrete noises: parameters, inputs and questions that are wrong, and what is right at edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, refused

import cert_core as cc

FLIPS = cc.Flips(4, 3, 0.8)
SPARSE = cc.SparseFlips(4, 0.1, 0.6)
ABLATION = cc.Ablation(4, 2)
UNIFORM = cc.Uniform(4, 0.5)
SPLITTING = cc.Splitting(4, 0.5, 10)
RANDOM = cc.Splitting(4, 0.37, 10)
SHIFT = cc.Shift("axis", 0.5, True, "")
VOTES = np.array([[7, 3]])


def copies(noise: cc.Noise, x: Any, **options: Any) -> Any:
    return cc.draw(noise, 3, 0, center=x, **options)


def votes(noise: cc.Noise, x: Any, n: int = 10) -> Any:
    return cc.count_votes(lambda batch: np.zeros(len(batch), int), x, noise, 2, n, 0)


def above(p: float) -> list[float]:
    return [p, float(np.nextafter(p, 1.0))]


NO_DENSITY = refused("noise must have a density", error=cc.errors.UnsupportedPair)
NO_ROW = refused("attack must be one with a proved worst shift", error=cc.errors.UnsupportedPair)
INDEPENDENT = refused("noise must make independent copies", error=cc.errors.UnsupportedPair)
WHOLE = refused("radius must be a whole number of entries, at most dim = 4")

PARAMETERS = [
    *(Case(f"keep {keep}", lambda keep=keep: cc.Flips(4, 3, keep), refused("keep must be"))
      for keep in (0.0, -0.1, 1.0000001, float("nan"), float("inf"), "x", None)),
    *(Case(f"categories {k}", lambda k=k: cc.Flips(4, k, 0.5), refused("categories must be"))
      for k in (1, 0, -3, 2.5, True, 2**21)),
    *(Case(f"p_plus {p}", lambda p=p: cc.SparseFlips(4, p, 0.5), refused("p_plus must be"))
      for p in (-1e-9, 1.0, 1.5, float("nan"))),
    *(Case(f"ablation of {k}", lambda k=k: cc.Ablation(4, k), refused("keep must be"))
      for k in (0, 5, 2.5, True)),
    Case("null that float32 lacks", lambda: cc.Ablation(4, 2, 0.1), refused("null must be")),
    Case("null NaN", lambda: cc.Ablation(4, 2, float("nan")), refused("null must be")),
    Case("no scale", lambda: cc.Uniform(4, 0.0), refused("scale must be")),
    Case("no cell", lambda: cc.Splitting(4, -0.5), refused("scale must be")),
    Case("no levels", lambda: cc.Splitting(4, 0.5, 0), refused("levels must be")),
    Case("cells beyond counting", lambda: cc.Splitting(4, 1e12), refused("scale must be at most")),
    Case("no coordinates", lambda: cc.Flips(0, 2, 0.5), refused("dim must be")),
    Case("unknown family", lambda: cc.noise_from_dict({"noise": "flip", "dim": 4}),
         refused("noise must be one of", "'flips'")),
    Case("missing field", lambda: cc.noise_from_dict({"noise": "flips", "dim": 4}),
         refused("the fields dim, categories, keep of Flips")),
    Case("rms of a channel", lambda: FLIPS.rms, NO_DENSITY),
    Case("built from an rms", lambda: cc.Flips.with_rms(4, 0.5),
         refused("noise must be one of cert_core.NOISES", error=cc.errors.UnsupportedPair)),
]  # fmt: skip

QUESTIONS = [
    *(Case(f"radius {r}", lambda r=r: cc.lower_bound(0.9, FLIPS, "l0", r), WHOLE)
      for r in (0.5, 1.0000001, 5, 1e9)),
    Case("radius -1", lambda: cc.lower_bound(0.9, FLIPS, "l0", -1), refused("radius must be")),
    Case("one of many radii", lambda: cc.required_probability(FLIPS, "l0", [1, 2.5]), WHOLE),
    Case("shift of half an entry", lambda: cc.worst_shift(FLIPS, "l0", 0.5), WHOLE),
    Case("plan of half an entry", lambda: cc.sequential.plan_at(FLIPS, "l0", 0.5), WHOLE),
    *(Case(f"{noise.name} under {attack}", lambda n=noise, a=attack: cc.certified_radius(0.9, n, a),
           NO_ROW)
      for noise in (FLIPS, SPARSE, ABLATION) for attack in ("l1", "l2", "linf")),
    *(Case(f"{noise.name} under l0", lambda n=noise: cc.certified_radius(0.9, n, "l0"), NO_ROW)
      for noise in (UNIFORM, SPLITTING, cc.Gaussian(1, 1.0), cc.Laplace(4, 1.0))),
    Case("no such attack", lambda: cc.is_tight(FLIPS, "l3"), refused("attack must be one of")),
    Case("p above 1", lambda: cc.lower_bound(1.1, FLIPS, "l0", 1), refused("p must be in [0, 1]")),
    Case("added of other noise", lambda: cc.sparse_lower_bound(0.9, FLIPS, 1, 0),
         refused("noise must be a SparseFlips")),
    Case("added half", lambda: cc.sparse_lower_bound(0.9, SPARSE, 0.5, 0), refused("added must")),
    Case("more than there are", lambda: cc.sparse_lower_bound(0.9, SPARSE, 3, 2),
         refused("added must be such that added + deleted is at most 4", "5")),
    Case("three counts of two points",
         lambda: cc.sparse_lower_bound([0.9, 0.8], SPARSE, [1] * 3, 0),
         refused("p and added and deleted must be of shapes that fit", "(3,)")),
    Case("three radii of two rows of masses", lambda: cc.shell_lower_bound(
        [[0.4, 0.9]] * 2, [2.0], cc.Gaussian(4, 1.0), "l2", [0.1] * 3),
        refused("a and radius must be of shapes that fit", "(3,)")),
    Case("frontier of nothing", lambda: cc.sparse.sparse_frontier(0.5, SPARSE).shape, (0, 2)),
    Case("frontier of NaN",
         lambda: cc.sparse.sparse_frontier(float("nan"), SPARSE), refused("p must")),
    Case("monte carlo", lambda: cc.monte_carlo_bound(0.9, FLIPS, "l0", 1, n=9, alpha=0.1, seed=0),
         NO_DENSITY),
    Case("ratios of rows", lambda: cc.log_ratio(UNIFORM, np.zeros((1, 4)), SHIFT), NO_DENSITY),
    Case("norms", lambda: cc.moments.norm_moments(SPLITTING, 2), NO_DENSITY),
    Case("density", lambda: UNIFORM.log_density(np.zeros(4)), NO_DENSITY),
    Case("a law for every split", lambda: cc.log_ratio_law(SPARSE, "l0", 1).cdf(0.0),
         refused("one worst perturbation", error=cc.errors.UnsupportedPair)),
    Case("no entry changes", lambda: cc.lower_bound(0.7, FLIPS, "l0", 0), 0.7),
    Case("keep of a coin", lambda: cc.certified_radius(0.6, cc.Flips(4, 3, 1 / 3), "l0"), 4.0),
    Case("keep below a coin", lambda: cc.lower_bound(0.9, cc.Flips(4, 2, 0.25), "l0", 3),
         lambda found: found == cc.lower_bound(0.9, cc.Flips(4, 2, 0.75), "l0", 3)),
    Case("all kept", lambda: cc.certified_radius([0.9, 1.0], cc.Flips(4, 2, 1.0), "l0"), [0, 0]),
    Case("all seen", lambda: cc.certified_radius([0.9, 1.0], cc.Ablation(4, 4), "l0"), [0, 0]),
    Case("sure", lambda: cc.certified_radius(1.0, FLIPS, "l0"), 4.0),
    Case("sure of a cube", lambda: cc.certified_radius(1.0, UNIFORM, "l1"),
         lambda found: 0.5 * (1 - 1e-13) < found <= 0.5),
    Case("sure, but beyond the cube", lambda: cc.lower_bound(1.0, UNIFORM, "l1", 0.75), 0.25),
    Case("no overlap", lambda: cc.lower_bound([0.9, 1.0], UNIFORM, "linf", 7.0), [0.0, 0.0]),
    Case("exactly what is required",
         lambda: cc.certified_radius(above(0.625), cc.Ablation(8, 1), "l0"), [0, 1]),
    Case("exactly what three need",
         lambda: cc.certified_radius(above(0.875), cc.Ablation(8, 1), "l0"), [2, 3]),
    Case("never enough", lambda: cc.required_probability(ABLATION, "l0", 3), 1.0),
    Case("of no copies", lambda: cc.certify_deterministic(np.zeros((0, 3), int), SPLITTING).radius,
         np.zeros(0)),
    Case("copies that are random", lambda: cc.certify_deterministic(VOTES, RANDOM),
         refused("noise must be a Splitting noise whose 2 scale levels is a whole number")),
    Case("another noise", lambda: cc.certify_deterministic(VOTES, UNIFORM),
         refused("noise must be a Splitting noise")),
    Case("not all copies", lambda: cc.certify_deterministic(VOTES - 1, SPLITTING),
         refused("counts must be votes of all 10 copies", "8")),
    Case("more than all copies", lambda: cc.certify_deterministic(2 * VOTES, SPLITTING),
         refused("counts must be votes of all 10 copies", "20")),
    Case("scores in the order of their splits",
         lambda: cc.certificates.certify_scores(
             [0], np.r_[np.ones(10), np.zeros(10)][None], SPLITTING, "l1", n0=10),
         INDEPENDENT),
    Case("scores of counted copies",
         lambda: cc.Smoothed(noise=SPLITTING, num_classes=2, scores=print).certify_scores(
             np.zeros((1, 4)), 10, 20, 0.01, "l1", 0), INDEPENDENT),
    Case("means of counted copies",
         lambda: cc.mean_bounds(np.r_[np.ones(10), np.zeros(10)], SPLITTING, "l1", 0.1, alpha=0.01),
         INDEPENDENT),
    Case("votes of counted copies, bounded",
         lambda: cc.certify(VOTES * 1000, VOTES * 1000, SPLITTING, "l1").p_lower,
         lambda found: 0.68 < found[0] < 0.7),
    Case("no entry tested", lambda: cc.sequential.plan_at(FLIPS, "l0", [0, 1], n_max=1000),
         refused("radii must be one or more numbers > 0")),
    Case("half an entry tested", lambda: cc.sequential.plan_at(FLIPS, "l0", [1.5], n_max=1000),
         WHOLE),
    Case("Monte Carlo of flips", lambda: cc.monte_carlo_bound(0.9, FLIPS, "l0", 1, n=100,
                                                              alpha=0.1, seed=0), NO_DENSITY),
    Case("Monte Carlo radius",
         lambda: cc.monte_carlo.monte_carlo_radius(0.9, UNIFORM, "l1", [0.1], n=100, alpha=0.1,
                                                   seed=0), NO_DENSITY),
    Case("stretched flips", lambda: FLIPS.scaled(np.ones(4)), refused("noise must be one of NOI")),
    Case("stretched in a record",
         lambda: cc.noise_from_dict({"noise": "scaled", "base": SPARSE.to_dict(),
                                     "scales": [1.0] * 4}), refused("noise must be one of NOISES")),
    Case("moments of hidden entries", lambda: cc.moments.norm_moments(ABLATION, 1), NO_DENSITY),
    Case("uniform noise by its rms", lambda: cc.Uniform.with_rms(4, 1.0).rms,
         lambda found: abs(found - 1) < 1e-15),
    Case("uniform with a k", lambda: cc.Uniform.with_rms(4, 1.0, 0.5), refused("k must be 0")),
    Case("shares for counts", lambda: cc.certify_deterministic(VOTES / 10, SPLITTING),
         refused("counts must be")),
]  # fmt: skip

INPUTS = [
    Case("no input", lambda: cc.draw(FLIPS, 3, 0), refused("center must be one input")),
    Case("short input", lambda: copies(FLIPS, [0, 1]), refused("center must be an array of 4")),
    Case("category too many", lambda: copies(FLIPS, [0, 1, 2, 3]), refused("x must", "got 3")),
    Case("category -1", lambda: copies(FLIPS, [0, 1, 2, -1]), refused("x must", "got -1")),
    Case("half a level", lambda: copies(FLIPS, [0.0, 0.5, 1.0, 0.25]), refused("x must", "0.25")),
    Case("categories as floats", lambda: copies(FLIPS, [0.0, 1.0, 2.0, 1.0]),
         refused("x must be one of the 3 levels j/2", "got 2.0", "categories as integers")),
    Case("bytes of an image", lambda: copies(SPLITTING, np.array([0, 5, 10, 3], np.uint8)),
         refused("x must be one of the 11 levels", "got 5", "divide images")),
    Case("NaN", lambda: copies(FLIPS, [0.0, np.nan, 1.0, 1.0]), refused("x must", "nan")),
    Case("infinite", lambda: copies(SPLITTING, [0.0, np.inf, 1.0, 1.0]), refused("x must", "inf")),
    Case("huge", lambda: copies(SPARSE, [0.0, 1e300, 1.0, 1.0]), refused("x must", "1e+300")),
    Case("words", lambda: copies(FLIPS, ["a", "b", "c", "d"]), refused("center must be numbers")),
    Case("hidden already", lambda: copies(ABLATION, [0, 0.5, -1, 2]), refused("null value -1")),
    Case("NaN to hide", lambda: copies(ABLATION, [0, np.nan, 0, 2]), refused("x must be finite")),
    Case("too large to hide", lambda: copies(ABLATION, [0, 1e39, 0, 2]), refused("x must be fin")),
    Case("many inputs, one wrong", lambda: votes(FLIPS, np.r_[np.zeros(7), 0.3].reshape(2, 4)),
         refused("x must be one of the 3 levels", "0.3")),
    Case("some of the copies", lambda: votes(SPLITTING, np.zeros((1, 4)), 9),
         refused("n must be a multiple of the 10 copies", "got 9")),
    Case("looks at some of the copies",
         lambda: list(cc.sequential.votes_until(
             votes, np.zeros((1, 4)), SPLITTING, 2, [15], votes, 0)),
         refused("looks must be a multiple of the 10 copies")),
    Case("swallowed by float32", lambda: votes(UNIFORM, np.full((1, 4), 1e9)),
         refused("noise.rms must be between")),
    Case("images rounded in float32",
         lambda: copies(cc.Flips(256, 256, 1.0), (np.arange(256) / 255).astype(np.float32))[0],
         (np.arange(256) / 255).astype(np.float32)),
    Case("images scaled in float32",
         lambda: copies(cc.Flips(256, 256, 1.0), np.arange(256, dtype="f4") * np.float32(1 / 255)),
         lambda found: (np.rint(found * 255) == np.arange(256)).all()),
    Case("yes and no", lambda: copies(SPARSE, [True, False, True, False]),
         refused("center must be numbers alone", "convert what is true or false")),
    Case("an integer that wraps", lambda: votes(ABLATION, np.full((1, 4), 2**64 - 1, np.uint64)),
         refused("x must be integers of at most 2^53")),
    Case("every copy is counted", lambda: votes(SPLITTING, np.zeros((2, 4)), 20), [[20, 0]] * 2),
]  # fmt: skip


@pytest.mark.parametrize("case", PARAMETERS + QUESTIONS + INPUTS, ids=str)
def test_discrete(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case.check()
