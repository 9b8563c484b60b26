"""Votes: streams by input, any batch, any subset; what predict must return."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cert_core as cc
from cert_core import kernels

NOISE = cc.L2Noise(12, 0.5, 3.0)
X = np.random.default_rng(0).uniform(size=(7, 3, 4)).astype(np.float32)


def predict(batch: Any) -> Any:
    return (batch.sum(axis=(1, 2)) > 6).astype(int) + 2 * (batch[:, 0, 0] > 0.7)


def count(x: Any = X, n: int = 250, seed: int = 3, **options: Any) -> Any:
    return cc.count_votes(predict, x, NOISE, 4, n, seed, **options)


def test_rows_sum_to_n() -> None:
    counts = count()
    assert counts.dtype == np.int64
    assert (counts.sum(axis=1) == 250).all()


@pytest.mark.parametrize("batch_size", [1, 7, 100, 250, 1000, 10_000])
def test_batches_change_nothing(batch_size: int) -> None:
    np.testing.assert_array_equal(count(batch_size=batch_size), count())


def test_subsets_have_the_counts_of_the_whole() -> None:
    whole = count(indices=range(7))
    np.testing.assert_array_equal(count(X[2:5], indices=range(2, 5)), whole[2:5])
    np.testing.assert_array_equal(count(X[[4, 1]], indices=[4, 1]), whole[[4, 1]])
    np.testing.assert_array_equal(count(X[6:], indices=[6]), whole[6:])


@pytest.mark.parametrize("rows", [1, 90, 260])
def test_integers_drawn_ahead_are_those_of_their_samples(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several batches of integers at a time, as for a device; FAILs stay beside their copies."""
    step = cc.Lattice("1/64")
    x = np.rint(X * 64) / 64
    module = kernels.backend("cpu").module
    drawn = module.draw_lattice

    def failing(*args: Any, start: int = 0, **options: Any) -> Any:
        whole, failed = drawn(*args, start=start, **options)
        failed[(start + np.arange(len(failed))) % 7 == 0] = True
        return whole, failed

    monkeypatch.setattr(module, "draw_lattice", failing)
    plain = count(x, sound=step)
    assert plain.sum() < 7 * 250
    monkeypatch.setattr(cc.votes, "AHEAD", {"cpu": rows * NOISE.dim})
    for batch_size in (40, 100, 1000):
        found = count(x, sound=step, batch_size=batch_size)
        np.testing.assert_array_equal(found, plain)
        assert found.drawn == plain.drawn


def test_streams_differ() -> None:
    """Seeds, inputs and stages draw apart."""
    same = np.repeat(X[:1], 2, axis=0)
    assert not np.array_equal(*count(same))
    assert not np.array_equal(count(), count(seed=4))
    assert not np.array_equal(count(), count(stage="selection"))
    np.testing.assert_array_equal(count(), count())


def test_backends_agree() -> None:
    """float32 noise that differs in the last bit moves almost no vote."""
    assert np.abs(count() - count(backend="reference")).sum() <= 4


def test_noisy_batches_share_inputs() -> None:
    batches = [
        (segments, len(batch))
        for segments, batch in cc.noisy_batches(X[:3], NOISE, 40, 0, batch_size=50)
    ]
    assert batches == [([(0, 40), (1, 10)], 50), ([(1, 30), (2, 20)], 50), ([(2, 20)], 20)]


def test_a_buffer_with_more_rows_changes_nothing() -> None:
    room = np.full((90, NOISE.dim), np.nan, np.float32)
    both = [
        [b.copy() for _, b in cc.noisy_batches(X[:3], NOISE, 40, 0, batch_size=50, **more)]
        for more in ({}, {"buffer": room})
    ]
    for ours, theirs in zip(*both, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert np.isnan(room[50:]).all()


def test_noise_is_centred_on_the_input() -> None:
    mean = np.zeros((3, 4))
    for _, batch in cc.noisy_batches(X[:1], NOISE, 20_000, 0):
        mean += batch.sum(axis=0) / 20_000
    assert np.abs(mean - X[0]).max() < 6 * NOISE.rms / np.sqrt(20_000)


@pytest.mark.parametrize(
    ("size", "sigma"), [(1e6, 0.01), (2.0**24, 0.25), (0.0, 1e-46), (0.0, 1e39), (1e30, 1.0)]
)
def test_noise_that_float32_would_swallow(size: float, sigma: float) -> None:
    """x + z would be x, or infinite: unanimous votes that say nothing of the exact sum."""
    x, noise = np.full((1, 4), size, np.float32), cc.Gaussian(4, sigma)
    with pytest.raises(ValueError, match=r"noise\.rms must be between .* scale inputs and noise"):
        cc.count_votes(lambda b: (b[:, 0] >= size).astype(int), x, noise, 2, 100, 0)


@pytest.mark.parametrize("rms", [1e-30, 1e30])
def test_noise_at_the_ends_of_what_is_taken(rms: float) -> None:
    noise = cc.Uniform(4, rms * 3**0.5)
    assert noise.rms == rms
    counts = cc.count_votes(lambda b: (b[:, 0] > 0).astype(int), np.zeros((1, 4)), noise, 2, 100, 0)
    assert counts.min() > 10


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_inputs_are_rounded_with_the_noise_once(backend: str) -> None:
    """Never before: x as float64 and float32(x) are two inputs."""
    x = np.stack([X[0], X[1]]).astype(np.float64)
    x[1] += 1e-9 * np.arange(12).reshape(x[1].shape)
    assert (x[1].astype(np.float32) == X[1]).mean() > 0.5
    options: dict[str, Any] = {"batch_size": 7, "backend": backend}

    def copies(inputs: Any) -> Any:
        return np.concatenate(
            [b.copy() for _, b in cc.noisy_batches(inputs, NOISE, 20, 0, **options)]
        )

    noise = copies(np.zeros_like(x)).astype(np.float64)
    expected = (noise + np.repeat(x, 20, axis=0)).astype(np.float32)
    np.testing.assert_array_equal(copies(x), expected)
    seen: list[Any] = []

    def keep(batch: Any) -> Any:
        seen.append(batch.copy())
        return np.zeros(len(batch), dtype=np.int64)

    list(
        cc.sequential.votes_until(
            keep, x[1:], NOISE, 2, [20], lambda *_: True, 0, indices=[1], n0=1, **options
        )
    )
    np.testing.assert_array_equal(np.concatenate(seen)[1:], expected[20:])


BAD = [
    (lambda: count(X[0]), "x must be of shape (n_inputs, ...) with noise.dim = 12"),
    (lambda: count(X * np.nan), "x must be finite"),
    (lambda: count(n=0), "n must be an integer >= 1, got 0"),
    (lambda: count(seed=-1), "seed must be an integer in [0, 4294967295], got -1"),
    (lambda: count(seed=2**32), "seed must be an integer in"),
    (lambda: count(indices=[0, 1]), "indices must be 7 distinct indices"),
    (lambda: count(X[:2], indices=[3, 3]), "indices must be 2 distinct indices"),
    (lambda: count(X[:2], indices=[0, 1.5]), "indices must be an integer >= 0, got 1.5"),
    (lambda: cc.count_votes(predict, X, "gaussian", 3, 10, 0), "noise must be a noise of"),
    (
        lambda: cc.scores.label_scores(predict, X, NOISE, 3, [5] * 7, 10, 0),
        "int64 of shape (7,) from 5",
    ),
    (
        lambda: cc.scores.label_scores(predict, X, NOISE, 3, [0] * 7, -1, 0),
        "n must be an integer >= 1",
    ),
    (
        lambda: list(cc.sequential.votes_until(predict, X, NOISE, 3, [50, 10], None, 0)),
        "looks must be",
    ),
    (lambda: list(cc.sequential.votes_until(predict, X, NOISE, 3, [], None, 0)), "looks must be"),
    (lambda: count(batch_size=0), "batch_size must be an integer >= 1"),
    (lambda: count(stage="final"), "stage must be one of 'selection', 'estimation'"),
    (lambda: count(backend="tpu"), "backend must be one of 'reference', 'cpu', 'gpu'"),
    (lambda: cc.count_votes(predict, X, NOISE, 1, 10, 0), "num_classes must be an integer >= 2"),
    (lambda: cc.count_votes(predict, X, NOISE, 2, 100, 0), "must be labels in [0, 2)"),
    (
        lambda: cc.count_votes(lambda b: np.zeros((len(b), 2)), X, NOISE, 2, 10, 0),
        "predict(batch) must be an integer label for each of the",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m[:35] for _, m in BAD])
def test_bad_input(call: object, message: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        call()  # type: ignore[operator]
    assert message in str(caught.value)
