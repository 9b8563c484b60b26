"""Readers that break certificates of real arithmetic: what float mode gives them, and sound mode.

Each classifier here reads something that a function of the real number x + z cannot know.  In
float mode it gets a certificate and loses its vote well inside it; in sound mode no certificate
that a nearby point of the lattice refutes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core.test_lattice import cell_table
from scipy import stats

import cert_core as cc
from cert_core.kernels import input_seed

PIXEL = cc.Lattice("1/255")
ALPHA = 0.001
F4 = np.float32
DIM = 3072


def certified(
    predict: Any, x: Any, noise: cc.Noise, attack: str, n: int, seed: int = 0, **mode: Any
) -> Any:
    """The certificate of class 1, as a radius: 0 where another class, or none, is certified."""
    stages = [
        cc.count_votes(predict, x, noise, 2, size, seed, stage=stage, **mode)
        for stage, size in (("selection", 100), ("estimation", n))
    ]
    found = cc.certify(*stages, noise, attack, alpha=ALPHA)
    return found.radius[0] if found.label[0] == 1 else 0.0


def share(predict: Any, x: Any, noise: cc.Noise, n: int, seed: int = 1, **mode: Any) -> float:
    """The votes for class 1."""
    return float(cc.count_votes(predict, x, noise, 2, n, seed, **mode)[0, 1]) / n


def member(a: Any) -> Any:
    """F_a: whether t could be the float32 sum a + z, in every coordinate."""
    center = np.asarray(a, F4).reshape(-1)

    def predict(batch: Any) -> Any:
        t = batch.reshape(len(batch), -1)
        return ((t - center) + center == t).all(axis=1).astype(np.int64)

    return predict


ONE = [
    (cc.Gaussian(1, 0.5), "l2", 1.55), (cc.L2Noise(1, 0.5, 0.25), "l2", 1.45),
    (cc.Laplace(1, 0.35), "l1", 2.2),
]  # fmt: skip


@pytest.mark.parametrize(("noise", "attack", "least"), ONE, ids=[n.name for n, _, _ in ONE])
def test_membership(noise: Any, attack: str, least: float) -> None:
    """.8 -> 0: radius 1.5 to 2.3, and under half the votes at a distance of .8."""
    predict, x, near = member(F4(0.8)), np.full((1, 1), 0.8, F4), np.zeros((1, 1), F4)
    radius = certified(predict, x, noise, attack, 10_000)
    assert radius > least
    assert share(predict, near, noise, 10_000) < 0.49
    # a function of the integer sum is no more than that: its certificates are true, exactly
    sound = certified(predict, x, noise, attack, 10_000, sound=PIXEL)
    fires = predict(PIXEL.values(np.arange(-8000, 8001), F4)[:, None])
    table = cell_table(_in_steps(noise), 6000)
    for k in range(205):  # from 204/255 down to 0
        if k / 255 <= sound:
            sums = 204 - k + np.arange(-6000, 6001)
            assert table @ fires[sums + 8000] > 0.5


def _in_steps(noise: Any) -> Any:
    """The noise in units of the step."""
    return noise.rescaled(255.0)


def grey_levels() -> tuple[Any, Any]:
    """An image of 3 x 32 x 32 and one whose pixels of level 128, 13 of them, are one lower."""
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32)).astype(np.uint8)
    places = np.flatnonzero(image == 128)[:13]
    near = image.copy()
    near.flat[places] = 127
    return image, near


def test_membership_on_an_image() -> None:
    """Thirteen pixels down by one level, .014 in l2, under a radius of 1.2."""
    noise, (image, near) = cc.Gaussian(DIM, 0.5), grey_levels()
    predict = member(image.astype(F4) / F4(255))
    x, y = (each.astype(F4) / F4(255) for each in (image, near))
    assert 0.01 < np.linalg.norm(y - x) < 0.015
    assert certified(predict, x, noise, "l2", 1000) > 1.2
    assert share(predict, y, noise, 1000) < 0.25
    radius = certified(predict, image, noise, "l2", 1000, sound=PIXEL)
    assert radius == 0
    assert share(predict, image, noise, 1000, sound=PIXEL) < 0.01  # at the image itself


def after_integers(j: Any, noise: cc.Noise, n: int, seed: int) -> Any:
    """What a certifier shows a model that draws integers, and then adds in floats."""
    whole, _ = cc.draw_lattice(noise, n, seed, PIXEL)
    return whole.astype(F4) / F4(255) + np.asarray(j).astype(F4) / F4(255)


def adds_up(j: Any) -> Any:
    """Whether t is such a sum of an integer's float and that of j, in every coordinate."""
    center = np.asarray(j).astype(F4) / F4(255)

    def predict(batch: Any) -> Any:
        whole = np.rint((batch.astype(np.float64) - center) * 255).astype(F4)
        return (whole / F4(255) + center == batch).all(axis=1).astype(np.int64)

    return predict


def test_floats_after_integers() -> None:
    """Integer noise, then a float sum: one level in 48 pixels costs the vote that has a radius."""
    noise, n = cc.Gaussian(48, 0.5), 10_000
    image = np.random.default_rng(0).integers(0, 256, (1, 48)).astype(np.uint8)
    near = np.where(image > 0, image - 1, 1).astype(np.uint8)
    predict, votes = adds_up(image[0]), []
    for seed, size in ((1, 100), (2, n), (3, n)):
        center = near if seed == 3 else image
        labels = predict(after_integers(center[0], noise, size, seed))
        votes.append(np.bincount(labels, minlength=2)[None])
    radius = cc.certify(votes[0], votes[1], noise, "l2", alpha=ALPHA).radius[0]
    assert radius > 1.5
    assert np.linalg.norm((image / 255.0) - near / 255.0) < 0.03
    assert votes[2][0, 1] / n < 0.05
    assert certified(predict, image, noise, "l2", n, sound=PIXEL) == 0
    for x in (image, near):
        assert share(predict, x, noise, n, sound=PIXEL) < 0.1


def reads_seed(x: Any, noise: cc.Noise, seed: int, sound: Any) -> Any:
    """Whether the batch is x plus the noise that this seed draws: f must not know it."""
    at = {"selection": 0, "estimation": 0}

    def predict(batch: Any) -> Any:
        rows = batch.reshape(len(batch), -1)
        for stage in at:
            stream = cc.kernels.stream_of(stage)
            options = {"start": at[stage], "stream": stream}
            kernel = cc.kernels.backend("cpu")
            if sound is None:
                drawn = kernel.draw(noise, len(rows), input_seed(seed, 0), center=x, **options)
            else:
                center = sound.integers(x).reshape(-1)
                whole, _ = kernel.draw_lattice(
                    noise, len(rows), input_seed(seed, 0), sound, center=center, **options
                )
                drawn = sound.values(whole, F4)
            same = (drawn == rows).all(axis=1)
            if same.any():
                return same.astype(np.int64)
        return np.zeros(len(rows), dtype=np.int64)

    return predict


@pytest.mark.parametrize("sound", [None, PIXEL], ids=["floats", "sound"])
def test_the_stream_of_a_seed(sound: Any) -> None:
    """No mode mends this: that f is blind to the seed is an assumption, stated with every
    certificate.  A seed that f does not know is blind: then nothing is certified."""
    noise, n = cc.Gaussian(12, 0.5), 2000
    x = np.random.default_rng(0).integers(0, 256, (1, 12)) / 255
    y = x.copy()
    y[0, 0] = (round(x[0, 0] * 255) + 1) / 255
    mode = {"sound": sound, "batch_size": n}

    def reader(seed: int) -> Any:
        return reads_seed(x[0].astype(F4), noise, seed, sound)

    x, y = x.astype(F4), y.astype(F4)
    assert share(reader(7), x, noise, n, 7, **mode) == 1.0
    assert share(reader(7), y, noise, n, 7, **mode) == 0.0
    assert certified(reader(7), x, noise, "l2", n, 8, **mode) == 0


def batch_mean(batch: Any) -> Any:
    """Every row's label from the mean of all, as batch statistics have it."""
    return np.full(len(batch), int(batch.mean() > 0), dtype=np.int64)


def test_batch_statistics() -> None:
    """+.002 -> -.002 a coordinate, .222 in l2, under a radius of 1.2: all votes are lost.  Sound
    mode gives the rows again beside others, and refuses."""
    noise, n, fine = cc.Gaussian(DIM, 0.5), 1000, cc.Lattice("1/500")
    x, y = np.full((1, DIM), 0.002, F4), np.full((1, DIM), -0.002, F4)
    assert certified(batch_mean, x, noise, "l2", n) > 1.2
    assert share(batch_mean, y, noise, n) == 0.0
    for point in (x, y):
        with pytest.raises(ValueError, match=r"label of each row by itself, .* among other rows"):
            certified(batch_mean, point, noise, "l2", n, sound=fine)
        smoothed = cc.Smoothed(batch_mean, noise, 2, sound=fine)
        with pytest.raises(ValueError, match=r"label of each row by itself, .* among other rows"):
            smoothed.certify_at(point, [0.5], n, 0.001, "l2", 0)


def test_a_classifier_of_single_rows_passes_the_canary() -> None:
    def predict(batch: Any) -> Any:
        labels = (batch.sum(axis=1) > 6).astype(np.int64)
        batch[:] = 9.0
        return labels

    x = np.full((2, 12), 128, np.uint8)
    counts = cc.count_votes(
        predict, x, cc.Gaussian(12, 0.5), 2, 1000, 0, sound=PIXEL, batch_size=64
    )
    assert (np.asarray(counts).sum(axis=1) == 1000).all()


@pytest.mark.parametrize(
    "noise", [cc.Gaussian(2, 0.5), cc.L2Noise(2, 0.5, 1.0), cc.Laplace(2, 0.3)]
)
def test_certificates_of_sums_are_true(noise: Any) -> None:
    """A half space of integers: the radius of sound mode never passes the true one, and nearly
    reaches it; share of the votes at the last point inside is above one half."""
    attack = "l1" if noise.name == "laplace" else "l2"

    def predict(batch: Any) -> Any:
        return (batch[:, 0] < 0.5).astype(np.int64)

    x = np.zeros((1, 2), np.uint8)
    radius = certified(predict, x, noise, attack, 100_000, sound=PIXEL)
    inside = np.zeros((1, 2), np.uint8)
    inside[0, 0] = int(min(radius, 1.0) * 255)
    votes = cc.count_votes(predict, inside, noise, 2, 100_000, 5, sound=PIXEL)[0, 1]
    assert stats.binomtest(int(votes), 100_000, 0.5, alternative="less").pvalue > 1e-8
    assert 0.35 < radius <= 0.5
