"""Families: parameters, records, normalisation, noise levels, serialisation."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sampler import log_density, sample
from scipy import integrate
from strategies import member, noises

import cert_core as cc

SMALL = st.integers(1, 12)


@given(noises())
def test_json_round_trip(noise: cc.Noise) -> None:
    again = cc.noise_from_dict(json.loads(json.dumps(noise.to_dict())))
    assert again == noise
    assert hash(again) == hash(noise)
    assert type(again) is type(noise)


@given(st.sampled_from(sorted(cc.NOISES)), st.integers(2, 3072), st.floats(1e-3, 1e3), st.data())
def test_with_rms(name: str, dim: int, rms: float, data: st.DataObject) -> None:
    plain = name in ("gaussian", "laplace")
    k = 0.0 if plain else data.draw(st.sampled_from([0.0, 0.5 * dim, dim - 0.5]))
    assert cc.NOISES[name].with_rms(dim, rms, k).rms == pytest.approx(rms, rel=1e-9)


@pytest.mark.parametrize("norm", [1.0, 2.0, math.inf])
@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_with_rms_keeps_what_else_was_asked_for(norm: float, power: float) -> None:
    made = cc.RadialNoise.with_rms(7, 0.3, 2.0, norm=norm, power=power)
    assert (made.dim, made.k, made.norm, made.power) == (7, 2.0, norm, power)
    assert made == cc.RadialNoise(7, norm, power, made.scale, 2.0)
    assert made.rms == pytest.approx(0.3, rel=1e-9)


def test_rms_formulas() -> None:
    d, k = 7, 3.0
    assert cc.L2Noise(d, 2.0, k).rms == pytest.approx(2 * math.sqrt((d - k) / d))
    l1 = math.sqrt(2 * (d - k) * (d - k + 1) / (d * (d + 1)))
    assert cc.L1Noise(d, 1.5, k).rms == pytest.approx(1.5 * l1)
    linf = math.sqrt((d - k) * (d + 2) / (3 * d))
    assert cc.LinfNoise(d, 0.5, k).rms == pytest.approx(0.5 * linf)
    for noise in (cc.Gaussian(d, 2.0), cc.MixedNoise(d, 2.0)):
        assert noise.rms == pytest.approx(2.0, rel=1e-9)
    assert cc.Laplace(d, 1.0).rms == pytest.approx(math.sqrt(2))


NOISES = [
    cc.L1Noise(5, 1.3, 2.0), cc.L2Noise(5, 0.7, 4.0), cc.LinfNoise(5, 1.1, 1.0),
    cc.MixedNoise(5, 0.9, 3.0), cc.RadialNoise(5, math.inf, 0.8, 0.5, 1.5), cc.Laplace(5, 0.4),
]  # fmt: skip


@pytest.mark.parametrize("noise", NOISES, ids=lambda n: n.name)
def test_rms_and_density_of_independent_samples(noise: cc.Noise) -> None:
    rng = np.random.default_rng(2)
    z = sample(noise, 400_000, rng)
    square = (z * z).mean(axis=1)
    error = square.std() / math.sqrt(len(z))
    assert abs(square.mean() - noise.rms**2) < 6 * error
    # log densities differ from the independent ones by one constant
    gap = noise.log_density(z[:50]) - log_density(noise, z[:50])
    np.testing.assert_allclose(gap, gap[0], rtol=1e-9)
    # and are normalised: E[f/density] over the sample is the integral of f, here a Gaussian
    level = noise.rms
    log_f = -0.5 * np.sum(z * z, axis=1) / level**2 - 5 * math.log(level * math.sqrt(2 * math.pi))
    weight = np.exp(log_f - noise.log_density(z))
    assert abs(weight.mean() - 1) < 6 * weight.std() / math.sqrt(len(z))


@pytest.mark.parametrize("name", sorted(cc.NOISES))
def test_density_is_normalised_in_one_dimension(name: str) -> None:
    noise = cc.NOISES[name].with_rms(1, 0.8, 0.0 if name in ("gaussian", "laplace") else 0.4)

    def density(y: float) -> float:  # in y = log z, twice for both signs
        return 2 * math.exp(float(noise.log_density(np.array([math.exp(y)]))) + y)

    total = integrate.quad(density, -60, 5, limit=400, epsabs=1e-11, points=[-5, -1, 0])[0]
    assert total == pytest.approx(1.0, abs=1e-8)


@given(noises(SMALL))
def test_density_is_symmetric_and_falls_along_coordinates(noise: cc.Noise) -> None:
    rng = np.random.default_rng(1)
    z = rng.standard_normal((20, noise.dim)) * noise.rms
    value = np.asarray(noise.log_density(z))
    np.testing.assert_allclose(noise.log_density(-z), value)
    moved = z.copy()
    moved[:, 0] *= 1.5
    assert (np.asarray(noise.log_density(moved)) <= value + 1e-9).all()


def test_singularity() -> None:
    assert cc.L2Noise(3, 1.0, 1.0).log_density(np.zeros(3)) == math.inf
    assert math.isfinite(cc.L2Noise(3, 1.0).log_density(np.zeros(3)))


BAD = [
    (lambda: cc.L2Noise(0, 1.0), "dim must be an integer >= 1, got 0"),
    (lambda: cc.L2Noise(2.5, 1.0), "dim must be an integer >= 1, got 2.5"),  # type: ignore[arg-type]
    (lambda: cc.L2Noise(3, 1.0, 3.0), "k must be a number with 0 <= k < dim = 3, got 3.0"),
    (lambda: cc.L2Noise(3, 1.0, -0.1), "k must be a number with 0 <= k < dim = 3, got -0.1"),
    (lambda: cc.L1Noise(3, 0.0), "b must be a finite number > 0, got 0.0"),
    (lambda: cc.MixedNoise(3, math.nan), "sigma must be a finite number > 0, got nan"),
    (lambda: cc.Gaussian(3, math.inf), "sigma must be a finite number > 0, got inf"),
    (lambda: cc.RadialNoise(3, 3.0, 2.0, 1.0), "norm must be one of 1.0, 2.0, inf, got 3.0"),
    (lambda: cc.RadialNoise(3, 2.0, 0.0, 1.0), "power must be a finite number > 0, got 0.0"),
    (lambda: cc.Gaussian.with_rms(3, 1.0, 1.0), "k must be 0 for this noise, got 1.0"),
    (lambda: cc.L2Noise.with_rms(3, -1.0), "rms must be a finite number > 0, got -1.0"),
    (lambda: cc.noise_from_dict({"noise": "cauchy"}), "noise must be one of 'l1', 'l2'"),
    (lambda: cc.noise_from_dict({"noise": "l2", "dim": 3}), "noise parameters must be the fields"),
    (lambda: cc.L2Noise(3, 1.0).log_density(np.zeros(4)), "z must be of shape (..., 3)"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m[:30] for _, m in BAD])
def test_bad_parameters(call: object, message: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        call()  # type: ignore[operator]
    assert message in str(caught.value)
    assert ": " in str(caught.value)  # the remedy


TRAVELLERS = [
    (cc.Gaussian(9, 1.0), "l2"),
    (cc.L2Noise(50, 1.0, 20), "l2"),
    (cc.LinfNoise(30, 1.0, 3), "linf"),
    (cc.Laplace(5, 1.0), "l1"),
    (cc.MixedNoise(16, 1.0, 5.0), "linf"),
]


@pytest.mark.parametrize(("noise", "attack"), TRAVELLERS, ids=[str(n) for n, _ in TRAVELLERS])
def test_laws_travel(noise: cc.Noise, attack: str) -> None:
    """To another process, or into a copy."""
    law = cc.log_ratio_law(noise, attack, 0.1)
    read = pickle.loads(pickle.dumps(law))
    assert (read.cdf(0.05), read.tight, read.reason) == (law.cdf(0.05), law.tight, law.reason)


@pytest.mark.parametrize("family", [*cc.NOISES.values(), *cc.CHANNELS.values()])
def test_a_field_s_usual_values_are_legal_and_others_refused(family: Any) -> None:
    for dim in (1, 2, 784):
        for share in (0.0, 0.3, 1.0):
            noise = member(family, dim, lambda share=share: share)
            assert cc.noise_from_dict(noise.to_dict()) == noise
            for field in dataclasses.fields(family):
                for wrong in (math.nan, -math.inf, "1", None, True):
                    with pytest.raises(ValueError, match=f"{field.name} must be"):
                        dataclasses.replace(noise, **{field.name: wrong})
