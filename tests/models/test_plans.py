"""Plans, soft votes and the runner-up: the PyTorch adapter, the command and the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import cert_core as cc
from cert_models.cli import main
from cert_models.logs import read_log
from cert_models.smooth import SmoothedClassifier
from cert_models.store.counts import CountStore
from cert_models.store.readings import read_run
from cert_models.store.runs import FixedPlan, ScorePlan, Votes

NOISE = cc.L1Noise.with_rms(12, 0.3, 4.0)
X = np.random.default_rng(0).uniform(size=(8, 3, 2, 2)).astype(np.float32)
RADII = [0.05, 0.3, 0.8]


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


NET = module()
DROPPING = nn.Sequential(NET, nn.Dropout())  # in training mode


def smoothed(net: Any = NET, **options: Any) -> SmoothedClassifier:
    return SmoothedClassifier(net, NOISE, 3, **options)


def logits(batch: Any) -> torch.Tensor:
    with torch.inference_mode():
        return NET(torch.from_numpy(batch))  # type: ignore[no-any-return]


def same(a: cc.sequential.SequentialCertificates, b: cc.sequential.SequentialCertificates) -> None:
    for name in ("label", "radius", "p_lower", "samples", "decided"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("batch_size", [64, 5000])
def test_certify_at_is_that_of_any_predict_function(batch_size: int) -> None:
    plan = cc.sequential.plan_at(NOISE, "l1", RADII, n_max=3000, alpha=0.01)
    expected = cc.sequential.certify_by(plan, lambda b: logits(b).argmax(dim=1).numpy(), X, 3, 9)
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
    plan = cc.sequential.plan_until(NOISE, "l1", 0.3, n_max=2000, alpha=0.01)
    expected = cc.sequential.certify_by(plan, lambda b: logits(b).argmax(dim=1).numpy(), X, 3, 9)
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
    labels = cc.scores.mean_scores(scores, X, NOISE, 3, 100, 9, stage="selection").argmax(axis=1)
    rows = cc.scores.label_scores(scores, X, NOISE, 3, labels, 1000, 9)
    np.testing.assert_allclose(classifier.label_scores(X, labels, 1000, 9), rows, rtol=1e-5)
    result = classifier.certify_scores(X, 100, 1000, 0.001, "l1", 9)
    expected = cc.certificates.certify_scores(labels, rows, NOISE, "l1", n0=100)
    np.testing.assert_allclose(result.p_lower, expected.p_lower, atol=1e-6)
    assert (result.p_lower < rows.mean(axis=1)).all()


BAD = [
    (lambda: smoothed().certify_at(X, [], 50, 0.1, "l1", 0), "radii must be one or more"),
    (lambda: smoothed().certify_at(X, 0.1, 50, 0.1, "l7", 0), "attack must be one of"),
    (lambda: smoothed().certify_until(X, 2.0, 50, 0.1, "l1", 0), "width must be a number in"),
    (lambda: smoothed().certify_top_k(X, 9, 50, 0.1, "l1", 0, k=3), "k must be an integer in"),
    (
        lambda: smoothed().outcomes(cc.sequential.plan_at(cc.Gaussian(12, 1.0), "l2", 0.1), X, 0),
        "plan must be for the classifier's noise",
    ),
    (lambda: smoothed(DROPPING).certify_at(X, 0.1, 50, 0.1, "l1", 0), "evaluation mode"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m[:30] for _, m in BAD])
def test_bad_input(call: Any, message: str) -> None:
    try:
        with pytest.raises(ValueError, match="must be") as caught:
            call()
    finally:
        NET.eval()
    assert message in str(caught.value)


MODEL = """
import numpy as np

def labels(batch):
    return (batch[:, 0] > 0).astype(int) + 2 * (batch[:, 1] > 1.5)

def scores(batch):
    p = 1 / (1 + np.exp(-6 * batch[:, 0].astype(float)))
    return np.stack([1 - p, p, 0 * p, 0 * p], axis=1)

def wrong(batch):
    return np.ones((len(batch), 4))
"""
CERTIFY = [
    "certify", "--data", "data.npz", "--noise", "gaussian", "--sigma", "0.5", "--attack", "l2",
    "--classes", "4", "--n0", "50", "--n", "3000", "--quiet", "--model",
]  # fmt: skip
GAUSSIAN = cc.Gaussian(4, 0.5)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Inputs at distances of a half-space, and functions that judge them."""
    x = np.full((6, 4), 0.5, np.float32)
    x[:, 0] = np.linspace(0.0, 1.0, 6)
    np.savez(tmp_path / "data.npz", x=x, y=np.ones(6, dtype=int))
    (tmp_path / "soft_and_hard.py").write_text(MODEL, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return x


def command(*words: str) -> list[str]:
    return [*CERTIFY, *words]


def radii(log: str) -> list[float]:
    return [row.radius for row in read_log(log)]


def test_soft_votes_on_the_command_line(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """With and without a store the same; read at another alpha without sampling again."""
    soft = command("soft_and_hard:scores", "--votes", "soft")
    assert main([*soft, "--out", "a.tsv"]) == 0
    assert main([*soft, "--store", "s.db", "--max", "2"]) == 0
    assert main([*soft, "--store", "s.db", "--out", "b.tsv"]) == 0
    assert radii("a.tsv") == radii("b.tsv")
    import soft_and_hard  # type: ignore[import-not-found]

    means = cc.scores.mean_scores(soft_and_hard.scores, data, GAUSSIAN, 4, 50, 0, stage="selection")
    scores = cc.scores.label_scores(
        soft_and_hard.scores, data, GAUSSIAN, 4, means.argmax(axis=1), 3000, 0
    )
    for alpha, log in ((0.001, "b.tsv"), (0.01, "c.tsv")):
        if alpha != 0.001:
            export = ["export", "--store", "s.db", "--alpha", str(alpha), "--out", log]
            assert main(export) == 0
        exact = cc.certificates.certify_scores(
            [1] * 6, scores, GAUSSIAN, "l2", n0=50, alpha=alpha
        ).radius
        np.testing.assert_allclose(radii(log), exact, atol=2e-4)
        assert (np.array(radii(log)) <= exact).all()
    capsys.readouterr()
    assert main(["export", "--store", "s.db", "--runner-up", "--out", "d.tsv"]) == 2
    assert (
        "bound must be one that reads counts of the plan 'scores' (betting)"
        in capsys.readouterr().err
    )
    assert main([*command("soft_and_hard:scores"), "--store", "s.db"]) == 2
    assert "plan.kind 'fixed' instead of 'scores'" in capsys.readouterr().err


def test_scores_in_a_store_are_checked(data: Any) -> None:
    plan = ScorePlan(50, 3)
    good = Votes(
        index=0,
        label=1,
        selection=np.array([3, 9]),
        estimation=np.array([0, 60]),
        seconds=0.1,
        scores=(10, 20, 30),
    )
    plan.check(good)
    for change, message in (
        ({"scores": (10, 20)}, "scores must be 3 numbers in 0 .. 65535"),
        ({"scores": (10, 20, 70_000)}, "scores must be 3 numbers"),
        ({"scores": (10, 20, 31)}, "estimation must be votes that sum to 61, got 60"),
        ({"estimation": np.array([60, 0])}, "estimation must be votes that sum to 0, got 60"),
        ({"selection": np.array([-1, 9])}, "selection must be sums of 50 scores a class"),
    ):
        with pytest.raises(ValueError, match="must be") as caught:
            plan.check(replace(good, **change))
        assert message in str(caught.value)


def test_the_runner_up_on_the_command_line(data: Any) -> None:
    hard = command("soft_and_hard:labels")
    assert main([*hard, "--runner-up", "--out", "a.tsv"]) == 0
    assert main([*hard, "--store", "s.db", "--out", "b.tsv"]) == 0
    assert main([*hard, "--store", "s.db", "--runner-up", "--out", "c.tsv"]) == 0
    assert main(["export", "--store", "s.db", "--runner-up", "--out", "d.tsv"]) == 0
    assert radii("a.tsv") == radii("c.tsv") == radii("d.tsv")
    assert radii("a.tsv") != radii("b.tsv")
    with CountStore("s.db", readonly=True) as store:
        result = read_run(store, "default", bound="runner-up").certificates
        votes = list(store.votes("default", FixedPlan))
    both = np.stack([v.selection for v in votes]), np.stack([v.estimation for v in votes])
    expected = cc.certificates.certify_top_k(*both, GAUSSIAN, "l2")
    np.testing.assert_array_equal(result.radius, expected.radius)
    assert result.p_other is not None
    np.testing.assert_array_equal(result.p_other, expected.p_other)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--votes", "soft", "--at", "0.1"], "--bound must come without --at"),
        (["--votes", "soft", "--runner-up"], "--bound must be one, got betting and runner-up"),
        (["--runner-up", "--until", "0.1"], "--bound must come without --at and --until"),
        (["--votes", "soft", "--n", "5"], "n must be at least 10 for alpha"),
        (["--votes", "soft"], "predict(batch) must be scores that sum to 1 at most"),
    ],
)
def test_wrong_usage(
    data: Any, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(command("soft_and_hard:wrong", *words)) == 2
    assert message in capsys.readouterr().err
