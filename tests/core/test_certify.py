"""Counts to certificates, and the whole chain against classifiers with known radii."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

import cert_core as cc

NOISE = cc.Gaussian(4, 1.0)


def table(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.int64)


def test_certificates() -> None:
    selection = table([90, 10, 0], [0, 100, 0], [30, 30, 40])
    estimation = table([9900, 100, 0], [0, 10_000, 0], [5000, 2000, 3000])
    result = cc.certify(selection, estimation, NOISE, "l2", alpha=0.001)
    assert result.label.tolist() == [0, 1, cc.ABSTAIN]
    p = cc.binomial_lower(np.array([9900, 10_000, 3000]), 10_000, 0.001)
    np.testing.assert_array_equal(result.p_lower, p)
    np.testing.assert_allclose(result.radius[:2], special.ndtri(p[:2]), rtol=1e-12)
    assert result.radius[2] == 0.0
    assert (result.n0, result.n, result.alpha, len(result)) == (100, 10_000, 0.001, 3)
    accuracy = cc.certified_accuracy(result, [0, 1, 2], [0.0, 2.0, 3.0, 9.0])
    np.testing.assert_allclose(accuracy, [2 / 3, 2 / 3, 1 / 3, 0.0])
    assert cc.certified_accuracy(result, [0, 0, 0], 0.0) == pytest.approx(1 / 3)


def test_a_radius_is_never_above_the_truth_too_often() -> None:
    """A half-space at distance D of the input is exactly robust up to D (Gaussian, l2): of
    20,000 certificates at alpha = .05, at most 1150 may exceed it (false alarm < 1e-6)."""
    rng = np.random.default_rng(0)
    distance, n, inputs = 0.8, 500, 20_000
    votes = rng.binomial(n, special.ndtr(distance), size=inputs)
    estimation = np.stack([votes, n - votes], axis=1)
    selection = np.tile([50, 0], (inputs, 1))
    result = cc.certify(selection, estimation, NOISE, "l2", alpha=0.05)
    assert np.sum(result.radius > distance) <= 1150
    assert np.sum(result.radius > distance) >= stats.binom.ppf(1e-6, inputs, 0.03)
    assert np.median(result.radius / distance) > 0.85


def test_predict() -> None:
    counts = table([60, 40, 0], [52, 48, 0], [0, 5, 95], [50, 50, 0])
    assert cc.predict_labels(counts, 0.1).tolist() == [0, cc.ABSTAIN, 2, cc.ABSTAIN]
    p = stats.binomtest(60, 100, 0.5).pvalue
    assert cc.predict_labels(counts[:1], p * 1.0001).tolist() == [0]
    assert cc.predict_labels(counts[:1], p * 0.9999).tolist() == [cc.ABSTAIN]


def test_no_inputs() -> None:
    empty = np.zeros((0, 3), dtype=np.int64)
    assert len(cc.certify(empty, empty, NOISE, "l2")) == 0


GOOD = table([50, 50])
BAD = [
    (lambda: cc.certify(table([1, 2, 3]), GOOD, NOISE, "l2"), "counts_estimation must be of the"),
    (lambda: cc.certify(GOOD * 1.0, GOOD, NOISE, "l2"), "counts_selection must be an"),
    (lambda: cc.certify(GOOD, table([100, -1]), NOISE, "l2"), "must be non-negative, got -1"),
    (
        lambda: cc.certify(table([5, 5], [5, 5]), table([50, 50], [50, 49]), NOISE, "l2"),
        "must be of one positive number of votes per input, got 'rows that sum to 99 and 100'",
    ),
    (lambda: cc.certify(GOOD, table([5, 4]), NOISE, "l2"), "n must be at least 10 for alpha"),
    (lambda: cc.certify(GOOD, GOOD, NOISE, "l3"), "attack must be one of 'l1', 'l2', 'linf'"),
    (lambda: cc.certify(GOOD, GOOD, "gaussian", "l2"), "noise must be a noise"),  # type: ignore[arg-type]
    (lambda: cc.certify(GOOD, GOOD, NOISE, "l2", alpha=0.7), "alpha must be a number in"),
    (lambda: cc.predict_labels([1, 2], 0.1), "counts must be an"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m[:35] for _, m in BAD])
def test_bad_input(call: object, message: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        call()  # type: ignore[operator]
    assert message in str(caught.value)


def test_certified_accuracy_checks_its_arguments() -> None:
    result = cc.certify(GOOD, table([100, 0]), NOISE, "l2")
    with pytest.raises(ValueError, match="labels must be of shape"):
        cc.certified_accuracy(result, [0, 1], 0.5)
    with pytest.raises(ValueError, match=r"radii must be >= 0, got -1\.0"):
        cc.certified_accuracy(result, [0], -1.0)
