"""Hostile inputs of percentiles, means, joint labels and stretched noise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, refused

import cert_core as cc

NOISE = cc.Gaussian(3, 1.0)
THREAT: Any = (NOISE, "l2", 0.2)
SAMPLES = np.linspace(0.0, 1.0, 200)
X = np.zeros((2, 3))
INF = math.inf


def percentile(samples: Any = SAMPLES, share: Any = 0.5, radius: Any = 0.2, **options: Any) -> Any:
    return cc.percentile_bounds(
        samples, share, NOISE, options.pop("attack", "l2"), radius, **{"alpha": 0.01, **options}
    )


def mean(samples: Any = SAMPLES, alpha: Any = 0.01) -> Any:
    return cc.mean_bounds(samples, *THREAT, alpha=alpha)


def ranks(n: Any = 100, share: Any = 0.5, alpha: Any = 0.01) -> Any:
    return cc.percentiles.percentile_ranks(n, share, *THREAT, alpha=alpha)


def values(predict: Any, n: Any = 20, **options: Any) -> Any:
    return cc.scores.sampled_values(predict, X, NOISE, n, 0, **options)


def tails(of: Any, n: int = 20) -> Any:
    return cc.scores.sampled_ranks(lambda batch: batch.sum(axis=1), X, NOISE, n, 0, of)


def joint(
    first: Any = ((5, 0),), second: Any = ((90, 10),), radius: Any = 0.2, a: Any = 0.1
) -> Any:
    return cc.certify_jointly(np.array(first), np.array(second), NOISE, "l2", radius, alpha=a)


def labelled(labels: Any, votes: Any, n: Any = 100) -> Any:
    return cc.joint.certify_labels_jointly(labels, votes, n, *THREAT, alpha=0.1)


def maps(predict: Any, **options: Any) -> Any:
    return cc.joint.selected_labels(predict, X, NOISE, 2, 20, 0, **options)


def votes(predict: Any, labels: Any) -> Any:
    return cc.joint.label_votes(predict, X, NOISE, 2, labels, 20, 0)


def shapes_that_change(batch: Any) -> Any:
    shapes_that_change.calls += 1  # type: ignore[attr-defined]
    return np.zeros((len(batch), shapes_that_change.calls), int)  # type: ignore[attr-defined]


shapes_that_change.calls = 0  # type: ignore[attr-defined]


def zeros(*shape: int) -> Any:
    return lambda batch: np.zeros((len(batch), *shape), int)


CASES = [
    # percentiles
    Case("NaN", lambda: percentile([0.1, math.nan]), refused("samples", "NaN", "got nan")),
    Case("no samples", lambda: percentile([]), refused("samples", "n >= 1", "(0,)")),
    Case("no axis", lambda: percentile(0.5), refused("samples", "n >= 1", "()")),
    Case("no inputs", lambda: percentile(np.zeros((0, 9))), lambda f: f[0].shape == (0,)),
    Case("rows of no samples", lambda: percentile(np.zeros((4, 0))), refused("samples", "(4, 0)")),
    Case("text", lambda: percentile(["1", "2"]), refused("samples", "numbers alone", "'1'")),
    Case("complex", lambda: percentile([1j, 2.0]), refused("samples", "numbers alone", "1j")),
    Case("ragged", lambda: percentile([[1.0], [1.0, 2.0]]), refused("samples", "in every row")),
    Case("nothing", lambda: percentile(None), refused("samples", "numbers", "got None")),
    Case("infinities are values", lambda: percentile([-INF] * 50 + [INF] * 150), (INF, INF)),
    Case("share 0", lambda: percentile(share=0.0), refused("share", "(0, 1)", "got 0.0")),
    Case("share 1", lambda: percentile(share=1), refused("share", "(0, 1)", "got 1")),
    Case("share in percent", lambda: percentile(share=50), refused("share", "(0, 1)", "got 50")),
    Case("share NaN", lambda: percentile(share=math.nan), refused("share", "got nan")),
    Case("many shares", lambda: percentile(share=[0.1, 0.9]), refused("share", "[0.1, 0.9]")),
    Case("a share next to 0", lambda: percentile(share=5e-324)[0], -INF),
    Case("a share next to 1", lambda: percentile(share=1 - 2**-53)[1], INF),
    Case("alpha 0", lambda: percentile(alpha=0.0), refused("alpha", "(0, 0.5]", "got 0.0")),
    Case("alpha 0.6", lambda: percentile(alpha=0.6), refused("alpha", "(0, 0.5]", "got 0.6")),
    Case("the least alpha", lambda: percentile(alpha=1e-300), (-INF, INF)),
    Case("too few samples", lambda: percentile([1.0, 2.0, 3.0]), (-INF, INF)),
    Case("one sample", lambda: percentile([7.0]), (-INF, INF)),
    Case("radius -1", lambda: percentile(radius=-1.0), refused("radius", ">= 0", "got -1.0")),
    Case("radius inf", lambda: percentile(radius=INF), refused("radius", "finite", "got inf")),
    Case("many radii", lambda: percentile(radius=[0.1, 0.2]), refused("radius", "[0.1, 0.2]")),
    Case("radius 0", lambda: percentile(radius=0.0), lambda f: 0.3 < f[0] < 0.5 < f[1] < 0.7),
    Case("a huge radius", lambda: percentile(radius=1e80), (-INF, INF)),
    Case("attack l3", lambda: percentile(attack="l3"), refused("attack", "'l2'", "'l3'")),
    Case("all the same", lambda: percentile([2.5] * 200), (2.5, 2.5)),
    Case("no n", lambda: ranks(0), refused("n must be", ">= 1", "got 0")),
    Case("n 1.5", lambda: ranks(1.5), refused("n must be", "got 1.5")),
    Case("n of a million", lambda: ranks(10**6), lambda f: 0 < f[0] < 5 * 10**5 < f[1] < 10**6),
    # means
    Case("mean: NaN", lambda: mean([0.1, math.nan]), refused("samples", "[0, 1]", "got nan")),
    Case("mean: 1.5", lambda: mean([0.1, 1.5]), refused("samples", "[0, 1]", "got 1.5")),
    Case("mean: -0.1", lambda: mean([-0.1]), refused("samples", "[0, 1]", "got -0.1")),
    Case("mean: none", lambda: mean([]), refused("samples", "n >= 1", "(0,)")),
    Case("mean: no inputs", lambda: mean(np.zeros((0, 9))), lambda f: f[1].shape == (0,)),
    Case("mean: alpha", lambda: mean(alpha=0), refused("alpha", "(0, 0.5]", "got 0")),
    Case("mean: one sample", lambda: mean([0.5]), lambda f: 0.0 <= f[0] < 0.5 < f[1] <= 1.0),
    Case("mean: bits", lambda: mean([True, False] * 99), refused("samples", "truth value")),
    # the inverse
    Case(
        "level 2",
        lambda: cc.bounds.inverse_bound(2.0, *THREAT),
        refused("level", "[0, 1]", "got 2.0"),
    ),
    Case(
        "level NaN",
        lambda: cc.bounds.inverse_bound([math.nan], *THREAT),
        refused("level", "got nan"),
    ),
    Case("ends", lambda: cc.bounds.inverse_bound([0.0, 1.0], *THREAT), [0.0, 1.0]),
    Case("the least level", lambda: cc.bounds.inverse_bound(5e-324, *THREAT) > 0.0, True),
    # values that stream
    Case(
        "a function's NaN",
        lambda: values(lambda b: b[:, 0] * math.nan),
        refused("predict(batch)", "a number", "got nan"),
    ),
    Case("text values", lambda: values(lambda b: ["a"] * len(b)), refused("predict(batch)", "'a'")),
    Case(
        "too few values",
        lambda: values(lambda b: b[:3, 0]),
        refused("predict(batch)", "(40,)", "(3,)"),
    ),
    Case("one value in all", lambda: values(lambda b: 1.0), refused("predict(batch)", "()")),
    Case("None", lambda: values(lambda b: None), refused("predict(batch)", "got None")),
    Case(
        "shapes that change",
        lambda: values(shapes_that_change, batch_size=7),
        refused("predict(batch)", "shape (7, "),
    ),
    Case("n 0", lambda: values(zeros(), n=0), refused("n must be", "got 0")),
    Case("a view of the batch", lambda: len(set(values(lambda b: b[:, 0], batch_size=3)[0])), 20),
    Case("no outputs", lambda: values(zeros(0)).shape, (2, 0, 20)),
    Case("rank -1", lambda: tails([-1]), refused("ranks", "[0, 21]", "got -1")),
    Case("rank n + 2", lambda: tails([22]), refused("ranks", "[0, 21]", "got 22")),
    Case("rank 1.0", lambda: tails([1.0]), refused("ranks", "got 1.0")),
    Case("a rank alone", lambda: tails(21).tolist(), [[INF] * 2]),
    Case("ranks as text", lambda: tails("low"), refused("ranks", "got 'low'")),
    Case("no ranks", lambda: tails([]).shape[0], 0),
    Case("beyond all", lambda: tails([0, 21]).tolist(), [[-INF] * 2, [INF] * 2]),
    # many labels
    Case("radius NaN", lambda: joint(radius=math.nan), refused("radius", "got nan")),
    Case("joint: alpha 1", lambda: joint(a=1), refused("alpha", "(0, 0.5]", "got 1")),
    Case("joint: shapes", lambda: joint(((5, 0, 0),)), refused("counts_estimation", "(1, 3)")),
    Case("joint: a flat table", lambda: joint((5, 0)), refused("counts_selection", "(2,)")),
    Case("joint: a negative vote", lambda: joint(((6, -1),)), refused("non-negative", "got -1")),
    Case(
        "joint: the same votes twice",
        lambda: (lambda t: cc.certify_jointly(t, t, *THREAT, alpha=0.1))(np.array([[9, 1]])),
        refused("counts_estimation", "other samples"),
    ),
    Case("joint: other sums", lambda: joint(((5, 0),) * 2, ((9, 1), (9, 2))), refused("10 and 11")),
    Case("joint: one sample", lambda: joint(second=((1, 0),)), [cc.ABSTAIN]),
    Case("joint: the least alpha", lambda: joint(second=((10**6, 0),), a=5e-324), [cc.ABSTAIN]),
    Case("joint: a huge radius", lambda: joint(radius=1e80), [cc.ABSTAIN]),
    Case("joint: radius 0", lambda: joint(second=((60, 40),), radius=0.0), [0]),
    Case(
        "labels of another shape", lambda: labelled([0, 1], [9]), refused("labels", "(1,)", "(2,)")
    ),
    Case("labels that abstain", lambda: labelled([-1], [99]), refused("labels", "[0, ", "got -1")),
    Case("labels 0.5", lambda: labelled([0.5], [99]), refused("labels", "float64")),
    Case("votes beyond n", lambda: labelled([0], [101]), refused("votes", "[0, 100]", "got 101")),
    Case("votes 9.0", lambda: labelled([0], [9.0]), refused("votes", "integers", "float64")),
    Case("votes of none", lambda: labelled([0], [0], n=0), refused("n must be", "got 0")),
    Case("label 2 of 2", lambda: votes(zeros(), [0, 2]), refused("labels", "[0, 1]", "got 2")),
    Case("labels of bits", lambda: votes(zeros(), [True, False]), refused("labels", "truth value")),
    Case("labels of bytes", lambda: labelled(np.array([3, 4], np.uint8), [99, 9]), [3, cc.ABSTAIN]),
    Case("a label alone", lambda: labelled(1, 100), 1),
    Case("maps of scores", lambda: maps(lambda b: b), refused("predict(batch)", "float32")),
    Case(
        "class 2 of 2", lambda: maps(lambda b: zeros(4)(b) + 2), refused("predict(batch)", "got 2")
    ),
    Case(
        "class 255",
        lambda: votes(lambda b: zeros(4)(b) + 255, np.zeros((2, 4), int)),
        refused("255"),
    ),
    Case(
        "maps of other rows", lambda: maps(lambda b: zeros(4)(b[1:])), refused("(40, 4)", "(39, 4)")
    ),
    Case("maps that change", lambda: maps(shapes_that_change, batch_size=7), refused("shape (7, ")),
    Case(
        "labels of other maps",
        lambda: votes(zeros(4), np.zeros((2, 5), int)),
        refused("predict(batch)", "(5,)", "(4,)"),
    ),
    Case(
        "one label for maps",
        lambda: votes(zeros(4), np.zeros(2, int)),
        refused("predict(batch)", "()", "(4,)"),
    ),
    Case("labels of 3 inputs", lambda: votes(zeros(), [0, 0, 0]), refused("labels", "2 inputs")),
    # stretched noise
    Case(
        "scale 0", lambda: NOISE.scaled([1.0, 0.0, 1.0]), refused("scales", "got 0.0", "never vary")
    ),
    Case("scale -1", lambda: NOISE.scaled([1.0, -1.0, 1.0]), refused("scales", "got -1.0")),
    Case("scale NaN", lambda: NOISE.scaled([1.0, math.nan, 1.0]), refused("scales", "got nan")),
    Case("scale inf", lambda: NOISE.scaled([1.0, INF, 1.0]), refused("scales", "got inf")),
    Case("one scale", lambda: NOISE.scaled(2.0), refused("scales", "(3,)", "got ()")),
    Case("two scales", lambda: NOISE.scaled([1, 2]), refused("scales", "(3,)", "got (2,)")),
    Case("scales in rows", lambda: NOISE.scaled(np.ones((1, 3))), refused("scales", "(1, 3)")),
    Case(
        "scales that multiply too far",
        lambda: NOISE.scaled([1e20] * 3).scaled([1e20] * 3),
        refused("scales", "1e30", "1e+40"),
    ),
    Case("scales as text", lambda: NOISE.scaled("std"), refused("scales", "'std'")),
    Case(
        "no noise to scale",
        lambda: cc.noises.Scaled("gaussian", (1.0,)),
        refused("noise", "'gaussian'"),
    ),  # type: ignore[arg-type]
    Case(
        "a record without scales",
        lambda: cc.noise_from_dict({"noise": "scaled", "base": NOISE.to_dict()}),
        refused("noise parameters", "scales"),
    ),
    Case(
        "a record of another base",
        lambda: cc.noise_from_dict({"noise": "scaled", "base": {"noise": "x"}, "scales": [1.0]}),
        refused("noise must be one of", "'x'"),
    ),
    Case(
        "a record of no base",
        lambda: cc.noise_from_dict({"noise": "scaled", "base": 5, "scales": [1.0]}),
        refused("noise", "to_dict", "got 5"),
    ),
    Case(
        "moments of stretched noise",
        lambda: cc.moments.norm_moments(NOISE.scaled([1, 2, 3]), 2),
        refused("noise", "stretched"),
    ),
    Case(
        "a family of stretched noise",
        lambda: cc.noises.Scaled.with_rms(3, 1.0),
        refused("noise", "scaled"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_intervals(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case.check()
