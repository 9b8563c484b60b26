"""Arrays of other frameworks: __array__ or DLPack in, the same numbers out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import cert_core as cc

NOISE = cc.L2Noise.with_rms(12, 0.3, 4.0)
X = np.random.default_rng(0).uniform(size=(5, 3, 4)).astype(np.float32)


class OnlyDLPack:
    """An array that speaks DLPack alone, of a framework that nobody has heard of."""

    def __init__(self, values: Any) -> None:
        self._values = np.array(values)

    def __dlpack__(self, **options: Any) -> Any:
        return self._values.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._values.__dlpack_device__()


class OnlyArray:
    """An array that speaks __array__ alone."""

    def __init__(self, values: Any) -> None:
        self._values = np.array(values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._values if dtype is None else self._values.astype(dtype)


def with_gradient(values: Any) -> torch.Tensor:
    tensor = torch.tensor(np.array(values))
    return tensor.requires_grad_() if tensor.is_floating_point() else tensor


def of_jax(values: Any) -> Any:
    import jax

    with jax.enable_x64(True):
        return jax.numpy.asarray(values)


FRAMEWORKS = [OnlyDLPack, OnlyArray, with_gradient, of_jax]
KINDS = pytest.mark.parametrize("wrap", FRAMEWORKS, ids=lambda f: f.__name__)


@KINDS
def test_votes_and_certificates(wrap: Callable[[Any], Any]) -> None:
    def labels(batch: Any) -> Any:
        return (batch.mean(axis=(1, 2)) > 0.5).astype(np.int64)

    stages = ("selection", "estimation")
    expected = [cc.count_votes(labels, X, NOISE, 2, 300, 1, stage=stage) for stage in stages]
    got = [
        cc.count_votes(lambda b: wrap(labels(b)), wrap(X), NOISE, 2, 300, 1, stage=stage)
        for stage in stages
    ]
    np.testing.assert_array_equal(got, expected)
    plain = cc.certify(*expected, NOISE, "l2")
    certificates = cc.certify(wrap(expected[0]), wrap(expected[1]), NOISE, "l2")
    np.testing.assert_array_equal(certificates.radius, plain.radius)
    np.testing.assert_array_equal(
        cc.certificates.predict_labels(wrap(expected[1]), 0.001), plain.label
    )
    truth, radii = labels(X), np.array([0.0, 0.1])
    np.testing.assert_array_equal(
        cc.certified_accuracy(certificates, wrap(truth), wrap(radii)),
        cc.certified_accuracy(plain, truth, radii),
    )


@KINDS
def test_numbers(wrap: Callable[[Any], Any]) -> None:
    p, r = np.array([0.6, 0.9, 0.999]), np.array([0.1, 0.2, 0.3])
    np.testing.assert_array_equal(
        cc.certified_radius(wrap(p), NOISE, "l2"), cc.certified_radius(p, NOISE, "l2")
    )
    np.testing.assert_array_equal(
        cc.lower_bound(wrap(p), NOISE, "l2", wrap(r)), cc.lower_bound(p, NOISE, "l2", r)
    )
    np.testing.assert_array_equal(
        cc.binomial_lower(wrap(np.array([5, 9])), 10, 0.01), cc.binomial_lower([5, 9], 10, 0.01)
    )


@KINDS
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_noise(wrap: Callable[[Any], Any], backend: str) -> None:
    center = X[0].reshape(-1)
    z = cc.draw(NOISE, 7, 3, center=center, backend=backend)
    same = cc.draw(NOISE, 7, 3, center=wrap(center), backend=backend)
    np.testing.assert_array_equal(same, z)
    shift = cc.worst_shift(NOISE, "l2", 0.2)
    np.testing.assert_array_equal(
        cc.log_ratio(NOISE, wrap(z), shift, backend=backend),
        cc.log_ratio(NOISE, z, shift, backend=backend),
    )


def test_what_the_cpu_cannot_read_is_refused_in_a_line() -> None:
    on_no_device = torch.zeros((2, 12), device="meta")
    with pytest.raises(ValueError, match="x must be an array that the CPU can read, got 'Tensor'"):
        cc.count_votes(lambda b: b, on_no_device, NOISE, 2, 10, 0)


def test_half_precision_of_another_framework() -> None:
    x = torch.from_numpy(X).to(torch.float16)

    def labels(b: Any) -> Any:
        return (b.mean(axis=(1, 2)) > 0.5).astype(np.int64)

    np.testing.assert_array_equal(
        cc.count_votes(labels, x, NOISE, 2, 50, 0),
        cc.count_votes(labels, X.astype(np.float16), NOISE, 2, 50, 0),
    )
