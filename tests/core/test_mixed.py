"""The mixed family's exact law: the Gaussian at k = 0, dense convolutions, Monte Carlo."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

import cert_core as cc
from cert_core.laws import GaussianLaw, MixedLaw, log_ratio_law
from cert_core.threats import worst_shift

DIMS = (2, 3, 4, 5, 14, 64, 784, 3072, 150528)


@pytest.mark.parametrize("dim", DIMS)
def test_without_a_power_it_is_the_gaussian(dim: int) -> None:
    """Proposition 4, through the quadrature."""
    law, truth = MixedLaw(dim, 0.0, 1 / math.sqrt(dim)), GaussianLaw(1.0)
    for t in (-2.0, -0.3, 0.9):
        value, error = law.probability(t)
        assert abs(value - truth.cdf(t)) <= min(error, 1e-9)
        assert dim in (2, 3, 4, 5) or abs(value - truth.cdf(t)) <= 1e-10
        assert error <= 1e-8


@pytest.mark.parametrize("dim", [2, 3, 5, 64, 3072])
@pytest.mark.parametrize("mu", [0.01, 0.5, 2.0, 4.0, 6.0, 7.0])
def test_the_needed_probability_is_never_below_the_gaussian(dim: int, mu: float) -> None:
    excess, deficit = MixedLaw(dim, 0.0, mu / math.sqrt(dim)).required()
    assert 0 <= 0.5 * special.erf(mu / math.sqrt(2)) <= excess + 1e-16
    assert deficit <= special.ndtr(-mu) <= deficit + 2e-8


def convolved(dim: int, k: float, r: float, t: float) -> float:
    """P(l <= t) by dense sums: Gauss rules over rho and m, powers of a discrete Fourier
    transform for the sum of the others on a grid of 2^13 points."""
    x, w = np.polynomial.legendre.leggauss(60)
    total = mass = 0.0
    n, size = dim - 2, 1 << 13
    for rho, weight in zip(4 * (x + 1), 4 * w, strict=True):  # rho in (0, 8)
        weight *= rho ** (-k) * math.exp(-(rho**2) / 2) * math.erf(rho / math.sqrt(2)) ** (dim - 1)
        if weight < 1e-14:
            continue
        mass += weight
        whole = math.erf(rho / math.sqrt(2))
        for m, w_m in zip(rho * x, rho * w, strict=True):
            above = 0.5 * (special.erf(rho / math.sqrt(2)) - special.erf(m / math.sqrt(2))) / whole
            density = stats.norm.pdf(m) / whole * (dim - 1) * above**n
            minus = (t + k * math.log((rho + r) / rho)) / r + dim * r / 2 + rho - m
            plus = (t + k * math.log(max(rho - r, r - m) / rho)) / r + dim * r / 2 - rho - m
            cdf = sum_law(n, m, rho, size)
            total += weight * w_m * density * 0.5 * (cdf(minus) + cdf(plus))
    return total / mass


def sum_law(n: int, m: float, rho: float, size: int) -> Any:
    """The distribution function of a sum of n normals truncated to [m, rho], on cells."""
    if n == 0:
        return lambda x: float(x >= 0)
    step = n * (rho - m) / size * 1.0000001
    edges = m + step * np.arange(size + 1)
    cells = np.diff(special.ndtr(np.minimum(edges, rho)))
    cells /= cells.sum()
    power = np.fft.irfft(np.fft.rfft(cells, 2 * size) ** n, 2 * size)
    ends = n * m + n * step / 2 + step * (np.arange(2 * size) + 0.5)
    below = np.cumsum(power)
    return lambda x: float(np.interp(x, ends, below, left=0.0, right=1.0))


@pytest.mark.parametrize("dim", [3, 4, 6, 9, 12])
def test_against_dense_convolution(dim: int) -> None:
    k, r = 0.3 * dim, 0.5 / math.sqrt(dim)
    law = MixedLaw(dim, k, r)
    t = float(law.ppf(0.7))
    assert law.cdf(t) == pytest.approx(convolved(dim, k, r, t), abs=2e-4)


@pytest.mark.parametrize("k", [0.5, 1.5])
def test_two_dimensions_by_plain_integration(k: float) -> None:
    """The density of (z_1, z_2), summed over a fine grid in polar coordinates."""
    r = 0.4
    law = MixedLaw(2, k, r)
    angle = (np.arange(4000) + 0.5) * (2 * np.pi / 4000)
    largest = np.maximum(np.abs(np.cos(angle)), np.abs(np.sin(angle)))
    # in polar coordinates s^(1-k) exp(-s^2/2), with u = s^(2-k) as the radius
    u = (np.arange(4000) + 0.5) / 4000 * 9.0 ** (2 - k)
    s = u ** (1 / (2 - k))
    weight = np.exp(-0.5 * s**2)[:, None] * largest ** (-k)
    z1, z2 = s[:, None] * np.cos(angle), s[:, None] * np.sin(angle)
    before = np.maximum(np.abs(z1), np.abs(z2))
    after = np.maximum(np.abs(z1 - r), np.abs(z2 - r))
    ratio = -k * np.log(after / before) + r * (z1 + z2) - r * r
    for t in (-1.0, -0.2, 0.3):
        truth = weight[ratio <= t].sum() / weight.sum()
        assert law.cdf(t) == pytest.approx(truth, abs=1e-3)


CASES = [(5, 2 * 10**5), (64, 10**6), (784, 10**6), (3072, 10**5)]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.9])
@pytest.mark.parametrize(("dim", "n"), CASES)
def test_against_monte_carlo(dim: int, n: int, share: float) -> None:
    """Twenty points, seven standard errors."""
    noise = cc.MixedNoise(dim, 1.0, share * dim)
    radius = 0.3 / math.sqrt(dim) * (1 - share) ** 2 + 0.02 / math.sqrt(dim)
    law, shift = log_ratio_law(noise, "linf", radius), worst_shift(noise, "linf", radius)
    cpu = cc.kernels.backend("cpu")
    rows = max(1, 10**7 // dim)
    draws = np.sort(
        np.concatenate(
            [
                cpu.log_ratio(noise, cpu.draw(noise, min(rows, n - at), 7, start=at), shift)
                for at in range(0, n, rows)
            ]
        )
    )
    for q in np.linspace(0.025, 0.975, 20):
        t = float(draws[int(q * n)])
        low, high = law.enclose(t)
        assert 0 <= high - low <= 1e-8
        seen = np.searchsorted(draws, t, side="right") / n
        assert abs(law.cdf(t) - seen) <= 7 * math.sqrt(q * (1 - q) / n) + 2 / n


def test_bounds_are_safe_and_consistent() -> None:
    noise = cc.MixedNoise.with_rms(64, 1.0, 16.0)
    radius = cc.certified_radius(0.9, noise, "linf")
    assert 0.9 - 1e-6 <= cc.required_probability(noise, "linf", radius) <= 0.9
    assert cc.lower_bound(0.9, noise, "linf", radius) == pytest.approx(0.5, abs=1e-6)
    assert cc.lower_bound(0.9, noise, "linf", 0.0) == pytest.approx(0.9)
    assert 0 <= cc.discrepancy(1.0, noise, "linf", radius) <= 1
    many = cc.certified_radius(np.linspace(0.6, 0.99, 30), noise, "linf")
    assert np.all(np.diff(many) > 0)
    single = cc.certified_radius(0.99, noise, "linf")
    assert single * (1 - 3e-5) <= many[-1] <= single


def test_probabilities_beside_one_half_and_one() -> None:
    """What the law cannot tell from 1/2 certifies nothing; beside 1 radii stop growing."""
    noise = cc.MixedNoise(64, 1.0, 16.0)
    assert cc.certified_radius(0.5 + 1e-10, noise, "linf") == 0.0
    high = cc.certified_radius(1 - 1e-8, noise, "linf")
    assert high < cc.certified_radius(1 - 1e-12, noise, "linf") < 1.2 * high


def test_one_dimension_and_no_power_have_closed_laws() -> None:
    assert cc.required_probability(cc.MixedNoise(1, 1.0, 0.5), "linf", 0.3) == (
        cc.required_probability(cc.L2Noise(1, 1.0, 0.5), "linf", 0.3)
    )
    assert cc.required_probability(cc.MixedNoise(9, 1.0), "l2", 0.3) == (
        cc.required_probability(cc.Gaussian(9, 1.0), "l2", 0.3)
    )
