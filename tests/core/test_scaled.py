"""Noise stretched a coordinate, and scikit-learn's tables under it."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression

import cert_core as cc

SCALES = np.array([0.25, 4.0, 1.0, 0.5])
BASES = [
    cc.Gaussian(4, 0.7), cc.L1Noise(4, 1.0, 2.0), cc.L2Noise(4, 1.0, 3.0),
    cc.LinfNoise(4, 1.0, 1.0), cc.MixedNoise(4, 1.0, 2.0), cc.Laplace(4, 0.5),
    cc.RadialNoise(4, math.inf, 1.0, 1.0),
]  # fmt: skip
IDS = [noise.name for noise in BASES]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("base", BASES, ids=IDS)
def test_draws_are_stretched(base: cc.Noise, backend: str) -> None:
    noise, center = base.scaled(SCALES), np.array([1.0, -2.0, 0.1, 3.0])
    for dtype in ("float32", "float64"):
        options: dict[str, Any] = {"dtype": dtype, "backend": backend, "start": 7}
        rows = cc.draw(base, 50, 3, **options)
        stretched = rows * SCALES.astype(dtype)  # powers of two: exact
        np.testing.assert_array_equal(cc.draw(noise, 50, 3, **options), stretched)
        moved = cc.draw(noise, 50, 3, center=center, **options)
        np.testing.assert_array_equal(moved, center.astype(dtype) + stretched)
        assert moved.dtype == dtype
    shift = cc.worst_shift(noise, "linf", 0.3)
    wide = cc.draw(base, 50, 3, dtype="float64")
    np.testing.assert_array_equal(
        cc.log_ratio(noise, wide * SCALES, shift, backend=backend),
        cc.log_ratio(base, wide, shift, backend=backend),
    )


@pytest.mark.parametrize("base", BASES, ids=IDS)
def test_votes_are_those_of_the_scaled_inputs(base: cc.Noise) -> None:
    """x + scales z is the base noise on x/scales: the same votes, bit by bit."""
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)

    def predict(batch: Any) -> Any:
        return (batch @ np.array([1, 2, -1, 0.5], np.float32) > 0).astype(int)

    def of_scaled(batch: Any) -> Any:
        return predict(batch * SCALES.astype(np.float32))

    found = cc.count_votes(predict, x, base.scaled(SCALES), 2, 200, 1)
    expected = cc.count_votes(of_scaled, x / SCALES, base, 2, 200, 1)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("base", BASES, ids=IDS)
def test_bounds_are_those_of_the_base(base: cc.Noise) -> None:
    noise = base.scaled(SCALES)
    for attack in cc.ATTACKS:
        assert cc.worst_shift(noise, attack, 0.3) == cc.worst_shift(base, attack, 0.3)
        assert cc.lower_bound(0.8, noise, attack, 0.2) == cc.lower_bound(0.8, base, attack, 0.2)
        if base.name != "mixed":  # slow, and no other way
            radii = [cc.certified_radius(0.8, n, attack) for n in (noise, base)]
            assert radii[0] == radii[1]
        assert cc.is_tight(noise, attack) == cc.is_tight(base, attack)
    options: dict[str, Any] = {"n": 1000, "alpha": 0.01, "seed": 0}
    one, two = (cc.monte_carlo_bound(0.8, n, "linf", 0.2, **options) for n in (noise, base))
    assert one.lower == pytest.approx(two.lower, rel=1e-12)
    assert noise.rescaled(3.0) == base.rescaled(3.0).scaled(SCALES)


def test_density() -> None:
    noise = cc.Gaussian(4, 0.7).scaled(SCALES)
    z = np.random.default_rng(0).normal(size=(6, 4))
    exact = stats.norm.logpdf(z, scale=0.7 * SCALES).sum(axis=1)
    np.testing.assert_allclose(noise.log_density(z), exact, rtol=1e-12)
    one = cc.L1Noise(1, 1.0, 0.5).scaled([3.0])
    mass = integrate.quad(lambda t: math.exp(one.log_density(np.array([t]))), 0, np.inf)[0]
    assert mass == pytest.approx(0.5, abs=1e-6)


def test_records_say_it() -> None:
    noise = cc.L2Noise(4, 1.0, 2.0).scaled(SCALES)
    written = json.loads(json.dumps(noise.to_dict()))
    assert written["noise"] == "scaled"
    for again in (cc.noise_from_dict(written), pickle.loads(pickle.dumps(noise))):
        assert again == noise
        assert hash(again) == hash(noise)
    assert copy.deepcopy(noise) == noise
    assert "4 scales from 0.25 to 4: radii are norms of delta/scales" in str(noise)
    assert noise != noise.base
    assert noise.scaled([2.0] * 4) == noise.base.scaled(2 * SCALES)
    plan = cc.sequential.plan_at(noise, "l2", [0.5], n_max=1000, alpha=0.01)
    assert cc.sequential.plan_from_dict(plan.to_dict()).noise == noise
    counts = np.array([[50, 0]]), np.array([[1000, 0]])
    certificates = cc.certify(*counts, noise, "l2")
    assert "delta/scales" in str(certificates.noise)
    assert certificates.radius == cc.certify(*counts, noise.base, "l2").radius


def test_float32_holds_each_coordinate() -> None:
    """A large coordinate with a small scale loses its noise, whatever the others do."""
    x = np.array([[1e6, 1.0]])
    count = {"num_classes": 2, "n": 5, "seed": 0}

    def predict(batch: Any) -> Any:
        return np.zeros(len(batch), int)

    cc.count_votes(predict, x, cc.Gaussian(2, 1.0).scaled([10.0, 1e-3]), **count)
    with pytest.raises(ValueError, match=r"noise.rms must be between 0.5 and 1e30, .* got 0.001"):
        cc.count_votes(predict, x, cc.Gaussian(2, 1.0).scaled([1e-3, 10.0]), **count)


def table(load: Any) -> tuple[Any, Any, Any]:
    """Inputs, targets and the standard deviation of each feature, in the units of the data."""
    x, y = load(return_X_y=True, **({"scaled": False} if load is load_diabetes else {}))
    return x, y, x.std(axis=0)


def test_breast_cancer_with_feature_scales() -> None:
    """A linear classifier on features from 0.005 to 4000: the exact distance in the scaled
    norm is |margin| / |w scales|_2; no radius exceeds it (alpha 1e-9), nor does a label
    certified jointly fall short of its radius."""
    x, y, scales = table(load_breast_cancer)
    assert scales.max() > 1e5 * scales.min()
    middle = x.mean(axis=0)
    model = LogisticRegression(max_iter=500).fit((x[:400] - middle) / scales, y[:400])

    def predict(batch: Any) -> Any:
        return model.predict((np.asarray(batch, float) - middle) / scales)

    noise = cc.Gaussian(30, 0.5).scaled(scales)
    test = x[400:480].astype(np.float32).astype(float)
    distance = model.decision_function((test - middle) / scales) / np.linalg.norm(model.coef_)
    selection = cc.count_votes(predict, test, noise, 2, 50, 0, stage="selection")
    estimation = cc.count_votes(predict, test, noise, 2, 1000, 0)
    found = cc.certify(selection, estimation, noise, "l2", alpha=1e-9)
    certified = found.label != cc.ABSTAIN
    assert certified.mean() > 0.8
    assert (found.label == (distance > 0))[certified].all()
    assert (found.radius <= np.abs(distance)).all()
    assert np.median(found.radius / np.abs(distance)) > 0.5
    assert (found.label == y[400:480]).mean() > 0.8
    joint = cc.certify_jointly(selection, estimation, noise, "l2", 0.25, alpha=1e-9)
    assert 0.7 * len(test) < (joint != cc.ABSTAIN).sum() < len(test)
    assert (np.abs(distance) > 0.25)[joint != cc.ABSTAIN].all()


def test_diabetes_with_feature_scales() -> None:
    """Median smoothing of a linear regression on raw features: the median at the worst input
    is w.x -+ r |w scales|_2, inside every interval (alpha 1e-9); a forest's median at random
    inputs of the ball lies inside as well."""
    x, y, scales = table(load_diabetes)
    train, test = slice(0, 350), x[400:412].astype(np.float32).astype(float)
    noise, radius, n = cc.Gaussian(10, 0.3).scaled(scales), 0.2, 2000
    linear = LinearRegression().fit(x[train], y[train])
    values = cc.scores.sampled_values(linear.predict, test, noise, n, 0)
    lower, upper = cc.percentile_bounds(values, 0.5, noise, "l2", radius, alpha=1e-9)
    size = np.linalg.norm(linear.coef_ * scales)
    median = linear.predict(test)
    assert (lower <= median - radius * size).all()
    assert (upper >= median + radius * size).all()
    assert np.median(upper - lower) < 2.7 * radius * size

    forest = RandomForestRegressor(10, max_depth=5, random_state=0).fit(x[train], y[train])
    ranks = cc.percentiles.percentile_ranks(n, 0.5, noise, "l2", radius, alpha=1e-9)
    low, high = cc.scores.sampled_ranks(forest.predict, test, noise, n, 0, ranks)
    direction = np.random.default_rng(0).normal(size=test.shape)
    delta = radius * scales * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    moved = cc.scores.sampled_values(forest.predict, test + delta, noise, 500, 1)
    middle = np.median(moved, axis=1)
    assert (low < middle).all()
    assert (middle < high).all()
    assert (high - low < 300).all()
