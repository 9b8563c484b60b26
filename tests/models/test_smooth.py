"""The PyTorch adapter: votes of modules, batches, memory, modes, and certificates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import cert_core as cc
from cert_models.smooth import SmoothedClassifier

NOISE = cc.L1Noise.with_rms(12, 0.3, 4.0)
X = np.random.default_rng(0).uniform(size=(5, 3, 2, 2)).astype(np.float32)


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


def smoothed(net: Any = None, **options: Any) -> SmoothedClassifier:
    return SmoothedClassifier(net if net is not None else module(), NOISE, 3, **options)


def test_counts_equal_those_of_any_predict_function() -> None:
    net = module()

    def predict(batch: Any) -> Any:
        with torch.inference_mode():
            return net(torch.from_numpy(batch)).argmax(dim=1).numpy()

    expected = cc.count_votes(predict, X, NOISE, 3, 700, 9)
    np.testing.assert_array_equal(smoothed(net).counts(X, 700, 9), expected)
    np.testing.assert_array_equal(smoothed(net).counts(torch.from_numpy(X), 700, 9), expected)
    np.testing.assert_allclose(smoothed(net).probabilities(X, 700, 9), expected / 700)


PIXEL = cc.Lattice("1/255")
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 3, 2, 2)).astype(np.uint8)


def test_sound_counts_equal_those_of_any_predict_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAILs as well, some of which are made to happen: they are votes for no class."""
    net, cpu = module(), cc.kernels.backend("cpu").module
    real = cpu.draw_lattice

    def failing(noise: Any, n: int, *place: Any, start: int = 0, **options: Any) -> Any:
        whole, failed = real(noise, n, *place, start=start, **options)
        failed |= (start + np.arange(n)) % 100 == 3
        return whole, failed

    monkeypatch.setattr(cpu, "draw_lattice", failing)

    def predict(batch: Any) -> Any:
        with torch.inference_mode():
            return net(torch.from_numpy(batch)).argmax(dim=1).numpy()

    expected = cc.count_votes(predict, IMAGES, NOISE, 3, 700, 9, sound=PIXEL)
    assert expected.drawn[0].failed == (7,) * 5
    for x, size in ((IMAGES, 1000), (torch.from_numpy(IMAGES), 64), (IMAGES / 255, 33)):
        counts = smoothed(net, sound=PIXEL, batch_size=size).counts(x, 700, 9)
        np.testing.assert_array_equal(counts, expected)
        assert counts.drawn == expected.drawn
    made = smoothed(net, sound=PIXEL).certify(IMAGES, 100, 700, 0.01, "l1", 9)
    np.testing.assert_array_equal(made.failed, [7] * 5)
    assert made.sound == PIXEL
    until = smoothed(net, sound=PIXEL).certify_at(IMAGES, [0.05], 700, 0.01, "l1", 9)
    assert (until.failed > 0).all()


@pytest.mark.parametrize("sound", [None, PIXEL], ids=["floats", "sound"])
def test_batch_statistics_are_seen_in_both_modes(sound: Any) -> None:
    class Averaging(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            rows = batch.flatten(1)
            return rows[:, :3] - 5 * rows.mean(dim=0)[:3]

    x = IMAGES if sound else IMAGES / 255
    with pytest.raises(ValueError, match="base_classifier must treat every row alone"):
        smoothed(Averaging().eval(), sound=sound).counts(x, 300, 0)


@pytest.mark.parametrize("batch_size", [1, 64, 699, 5000])
def test_batches_and_subsets_change_nothing(batch_size: int) -> None:
    whole = smoothed().counts(X, 700, 9)
    np.testing.assert_array_equal(smoothed(batch_size=batch_size).counts(X, 700, 9), whole)
    part = smoothed(batch_size=batch_size).counts(X[3:], 700, 9, indices=[3, 4])
    np.testing.assert_array_equal(part, whole[3:])


class Hungry(nn.Module):
    """Runs out of memory above a batch of 100, like an allocator."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.net, self.error, self.largest = module(), error, 0

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > 100:
            raise self.error
        self.largest = max(self.largest, len(batch))
        return self.net(batch)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "python"],
)
def test_a_batch_too_large_is_cut(error: BaseException) -> None:
    net = Hungry(error).eval()
    classifier = smoothed(net, batch_size=1000)
    np.testing.assert_array_equal(classifier.counts(X, 700, 9), smoothed().counts(X, 700, 9))
    assert 50 < net.largest <= 100
    assert classifier.batch_size <= 100


def test_other_errors_are_not_swallowed() -> None:
    with pytest.raises(ValueError, match=r"score a torch.float32 batch .* \(shape mismatch\)"):
        smoothed(Hungry(RuntimeError("shape mismatch")).eval(), batch_size=500).counts(X, 300, 0)


def test_a_model_of_keywords_is_told_what_takes_it() -> None:
    """In a module of the core's Smoothed too, which gives arrays."""

    class Keywords(torch.nn.Module):
        def forward(self, *, pixel_values: torch.Tensor) -> torch.Tensor:
            return pixel_values

    with pytest.raises(
        ValueError, match="put it into a module whose forward takes the batch alone"
    ):
        smoothed(Keywords().eval()).counts(X, 30, 0)
    with pytest.raises(ValueError, match=r"predict must be a function .*SmoothedClassifier$"):
        cc.Smoothed(Keywords().eval(), NOISE, 3)


def test_training_mode_is_refused() -> None:
    """Batch statistics make a vote depend on the other noisy copies (a false certificate)."""
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 3))
    with pytest.raises(ValueError, match="must be in evaluation mode, got training mode"):
        smoothed(net.train()).counts(X, 10, 0)
    net.eval()
    net[1].train()
    with pytest.raises(ValueError, match="evaluation mode"):
        smoothed(net).counts(X, 10, 0)
    assert smoothed(net.eval()).counts(X, 10, 0).sum() == 50


def test_certificates_are_those_of_the_core_s_votes() -> None:
    """The adapter counts what count_votes counts, stage by stage."""
    net = module()

    def predict(batch: Any) -> Any:
        with torch.inference_mode():
            return net(torch.from_numpy(batch)).argmax(dim=1).numpy()

    votes = [
        cc.count_votes(predict, X, NOISE, 3, n, 4, stage=stage)
        for n, stage in ((100, "selection"), (2000, "estimation"))
    ]
    for k in (None, 2):
        how: dict[str, Any] = {} if k is None else {"k": k}
        verb, function = (
            ("certify", cc.certify)
            if k is None
            else ("certify_top_k", cc.certificates.certify_top_k)
        )
        result = getattr(smoothed(), verb)(X, 100, 2000, 0.001, "l1", 4, **how)
        expected = function(*votes, NOISE, "l1", alpha=0.001, **how)
        np.testing.assert_array_equal(result.label, expected.label)
        np.testing.assert_array_equal(result.radius, expected.radius)


def test_predict_abstains() -> None:
    constant = smoothed(lambda batch: torch.tensor([[0.0, 1.0, 0.0]]).expand(len(batch), 3))
    assert constant.predict(X, 100, 0.001, 0).tolist() == [1] * 5
    coin = smoothed(lambda batch: torch.stack([b := batch.flatten(1)[:, 0] - 0.5, -b, b - 9], 1))
    half = np.full_like(X, 0.5)
    assert (coin.predict(half, 100, 1e-9, 0) == cc.ABSTAIN).all()


def test_a_half_space_gets_its_true_radius() -> None:
    """f = 1{x_1 <= c} under Gaussian noise is exactly robust up to c - x_1."""
    noise, sigma = cc.Gaussian(12, 0.5), 0.5
    inputs = np.zeros((40, 12), np.float32)
    distances = np.linspace(0.05, 1.0, 40)
    inputs[:, 0] = -distances
    net = SmoothedClassifier(lambda b: torch.stack([-b[:, 0], b[:, 0]], dim=1), noise, 2)
    result = net.certify(inputs, 100, 10_000, 1e-6, "l2", 0)
    assert (result.label == 0).sum() >= 38
    assert (result.radius <= distances).all()
    assert np.median(result.radius / distances) > 0.85
    assert (result.radius[distances > 0.2] > distances[distances > 0.2] - 0.2 * sigma).all()


BAD = [
    (lambda: SmoothedClassifier(module(), "l2", 3), "noise must be a noise of cert_core"),  # type: ignore[arg-type]
    (lambda: SmoothedClassifier(module(), NOISE, 1), "num_classes must be an integer >= 2"),
    (lambda: smoothed(batch_size=0), "batch_size must be an integer >= 1"),
    (lambda: smoothed().counts(X, 0, 0), "n must be an integer >= 1, got 0"),
    (lambda: smoothed().counts(X[0], 10, 0), "x must be of shape (n_inputs, ...)"),
    (lambda: SmoothedClassifier(module(), NOISE, 4).counts(X, 10, 0), "must be a tensor of shape"),
    (lambda: smoothed(lambda b: b.numpy()).counts(X, 10, 0), "got ndarray"),
    (lambda: smoothed().certify(X, 10, 5, 0.001, "l1", 0), "n must be at least 10 for alpha"),
    (lambda: smoothed().certify(X, 10, 50, 0.001, "l3", 0), "attack must be one of"),
]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda net: net.predict(X, 20, 2.0, 0), "alpha must be"),
        (lambda net: net.certify_top_k(X, 20, 50, 0.1, "l1", 0, k=7), "k must be an integer in"),
        (lambda net: net.certify_top_k(X, 20, 9, 0.001, "l1", 0), "n must be at least 11"),
    ],
)
def test_refused_before_any_sampling(ask: Any, message: str) -> None:
    def unasked(batch: torch.Tensor) -> torch.Tensor:
        raise AssertionError(f"{len(batch)} rows classified")

    with pytest.raises(ValueError, match=message):
        ask(smoothed(unasked))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("every", [1, 7])
def test_scores_without_a_largest_are_refused(value: float, every: int) -> None:
    """Else they were votes for class 0."""

    def broken(batch: torch.Tensor) -> torch.Tensor:
        scores = batch.flatten(1)[:, :3].clone()
        scores[::every] = value
        return scores

    with pytest.raises(ValueError, match="must be finite, got rows whose largest score is NaN"):
        smoothed(broken).counts(X, 100, 0)
    with pytest.raises(ValueError, match="must be finite, got rows whose largest score is NaN"):
        smoothed(broken).certify_at(X, 0.1, 100, 0.1, "l1", 0)


def test_batch_statistics_are_refused_in_evaluation_too() -> None:
    net = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.BatchNorm1d(12, track_running_stats=False),
        torch.nn.Linear(12, 3),
    ).eval()
    with pytest.raises(ValueError, match="must treat every row alone, got batch statistics in '1'"):
        smoothed(net).counts(X, 100, 0)


BATCHWISE = {
    "mean": lambda b: b.flatten(1)[:, :3] - b.flatten(1)[:, :3].mean(dim=0),
    "normalized": lambda b: torch.nn.functional.batch_norm(
        b.flatten(1)[:, :3], None, None, training=True
    ),
    "reader of the mean": lambda b: b.flatten(1)[:, :3].mean(dim=0).expand(len(b), 3),
}


@pytest.mark.parametrize("name", BATCHWISE)
def test_rows_that_see_each_other_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must treat every row alone, got other scores for"):
        smoothed(BATCHWISE[name]).counts(X, 100, 0)


def test_a_classifier_with_chance_of_its_own_is_taken() -> None:
    """Its votes are independent all the same."""

    def denoised(batch: torch.Tensor) -> torch.Tensor:
        return batch.flatten(1)[:, :3] + torch.randn(len(batch), 3)

    assert smoothed(denoised).counts(X, 100, 0).sum() == 500


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_modules_of_other_precisions(dtype: torch.dtype) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).eval()
    expected = smoothed(net).counts(X, 2000, 0)
    found = smoothed(net.to(dtype)).counts(X, 2000, 0)
    assert np.abs(found - expected).max() <= (0 if dtype == torch.float64 else 40)


def test_whole_numbers_of_any_kind() -> None:
    net = SmoothedClassifier(module(), NOISE, np.int64(3), batch_size=np.int32(50))  # type: ignore[arg-type]
    assert type(net.num_classes) is int
    with pytest.raises(ValueError, match="batch_size must be an integer >= 1, got True"):
        smoothed(batch_size=True)


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m[:30] for _, m in BAD])
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        call()
    assert message in str(caught.value)
