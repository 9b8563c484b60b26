"""The PyTorch adapter of plans, soft votes and the runner-up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import cert_core as cc
from cert_models.smooth import SmoothedClassifier

NOISE = cc.L1Noise.with_rms(12, 0.3, 4.0)
X = np.random.default_rng(0).uniform(size=(8, 3, 2, 2)).astype(np.float32)
RADII = [0.05, 0.3, 0.8]


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


NET = module()


def smoothed(net: Any = NET, **options: Any) -> SmoothedClassifier:
    return SmoothedClassifier(net, NOISE, 3, **options)


def logits(batch: Any) -> torch.Tensor:
    with torch.inference_mode():
        return NET(torch.from_numpy(batch))  # type: ignore[no-any-return]


def same(a: cc.SequentialCertificates, b: cc.SequentialCertificates) -> None:
    for name in ("label", "radius", "p_lower", "samples", "decided"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("batch_size", [64, 5000])
def test_certify_at_is_that_of_any_predict_function(batch_size: int) -> None:
    plan = cc.plan_at(NOISE, "l1", RADII, n_max=3000, alpha=0.01)
    expected = cc.certify_by(plan, lambda b: logits(b).argmax(dim=1).numpy(), X, 3, 9)
    result = smoothed(batch_size=batch_size).certify_at(X, RADII, 3000, 0.01, "l1", 9)
    same(result, expected)
    assert len(set(result.radius)) > 1
    part = smoothed().certify_at(torch.from_numpy(X[5:]), RADII, 3000, 0.01, "l1", 9,
                                 indices=[5, 6, 7])  # fmt: skip
    np.testing.assert_array_equal(part.samples, result.samples[5:])


def test_certify_at_agrees_with_the_fixed_run() -> None:
    """Clear inputs get the radii that 20,000 samples give, with a tenth of the samples."""
    fixed = smoothed().certify(X, 100, 20_000, 0.001, "l1", 9)
    result = smoothed().certify_at(X, RADII, 20_000, 0.001, "l1", 9)
    passed = (fixed.radius[:, None] >= np.array(RADII)).sum(axis=1)
    np.testing.assert_array_equal(result.radius, np.array([0.0, *RADII])[passed])
    assert result.samples.mean() < 0.25 * 20_100


def test_certify_until_is_that_of_any_predict_function() -> None:
    plan = cc.plan_until(NOISE, "l1", 0.3, n_max=2000, alpha=0.01)
    expected = cc.certify_by(plan, lambda b: logits(b).argmax(dim=1).numpy(), X, 3, 9)
    same(smoothed().certify_until(X, 0.3, 2000, 0.01, "l1", 9), expected)


class Hungry(nn.Module):
    """Runs out of memory above a batch of 100."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return NET(batch)  # type: ignore[no-any-return]


def test_a_batch_too_large_is_cut() -> None:
    hungry = smoothed(Hungry().eval())
    same(
        hungry.certify_at(X, RADII, 3000, 0.01, "l1", 9),
        smoothed().certify_at(X, RADII, 3000, 0.01, "l1", 9),
    )
    np.testing.assert_allclose(
        smoothed(Hungry().eval()).mean_scores(X, 300, 9), smoothed().mean_scores(X, 300, 9)
    )


def test_soft_votes_are_softmax_scores() -> None:
    def scores(batch: Any) -> Any:
        return torch.softmax(logits(batch).double(), dim=1).numpy()

    classifier = smoothed(batch_size=333)
    labels = cc.mean_scores(scores, X, NOISE, 3, 100, 9, stage="selection").argmax(axis=1)
    rows = cc.label_scores(scores, X, NOISE, 3, labels, 1000, 9)
    np.testing.assert_allclose(classifier.label_scores(X, labels, 1000, 9), rows, rtol=1e-5)
    result = classifier.certify(X, 100, 1000, 0.001, "l1", 9, votes="soft")
    expected = cc.certify_scores(labels, rows, NOISE, "l1", n0=100)
    np.testing.assert_allclose(result.p_lower, expected.p_lower, atol=1e-6)
    assert (result.p_lower < rows.mean(axis=1)).all()


def test_the_runner_up_certifies_more() -> None:
    selection = smoothed().counts(X, 100, 9, stage="selection")
    estimation = smoothed().counts(X, 2000, 9)
    expected = cc.certify_top_k(selection, estimation, NOISE, "l1", k=2, alpha=0.01)
    result = smoothed().certify_top_k(X, 100, 2000, 0.01, "l1", 9, k=2)
    np.testing.assert_array_equal(result.radius, expected.radius)
    alone = smoothed().certify(X, 100, 2000, 0.01, "l1", 9)
    assert (result.radius > alone.radius).all()


BAD = [
    (lambda: smoothed().certify(X, 9, 50, 0.1, "l1", 0, votes="mean"), "votes must be 'hard' or"),
    (lambda: smoothed().certify_at(X, [], 50, 0.1, "l1", 0), "radii must be one or more"),
    (lambda: smoothed().certify_at(X, 0.1, 50, 0.1, "l0", 0), "attack must be one of"),
    (lambda: smoothed().certify_until(X, 2.0, 50, 0.1, "l1", 0), "width must be a number in"),
    (lambda: smoothed().certify_top_k(X, 9, 50, 0.1, "l1", 0, k=3), "k must be an integer in"),
    (
        lambda: smoothed().outcomes(cc.plan_at(cc.Gaussian(12, 1.0), "l2", 0.1), X, 0),
        "plan must be for the classifier's noise",
    ),
    (lambda: smoothed(NET.train()).certify_at(X, 0.1, 50, 0.1, "l1", 0), "evaluation mode"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m[:30] for _, m in BAD])
def test_bad_input(call: Any, message: str) -> None:
    try:
        with pytest.raises(ValueError, match="must be") as caught:
            call()
    finally:
        NET.eval()
    assert message in str(caught.value)
