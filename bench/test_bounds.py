"""Exact bounds beside the same formulas in plain vectorised SciPy, and what certifying costs.

The rival is what one would write from the paper: Gauss-Legendre over quantiles of |z|,
conditional laws from scipy.special, thresholds by bisection, scipy.optimize.brentq for
the quantile and for the radius.  It has no error control: its error stands beside it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, special

import cert_core as cc
from cert_core.bounds import search_radius
from cert_core.laws import log_ratio_law
from cert_models.smooth import SmoothedClassifier

P = 0.99
NODES, WEIGHTS = np.polynomial.legendre.leggauss(400)


class Plain:
    """Bounds for radial noises, lengths in units of the scale: |z| by quantile nodes,
    |z - delta| in closed form."""

    def __init__(self, noise: cc.Noise, attack: str) -> None:
        record = noise.radial
        assert record is not None
        self.norm, self.power, self.k, self.dim = record.norm, record.power, record.k, noise.dim
        self.stretch = math.sqrt(self.dim) if self.norm == 2.0 and attack == "linf" else 1.0
        low = special.gammaincinv(record.shape, 1e-18)
        high = special.gammainccinv(record.shape, 1e-18)
        g = low + 0.5 * (high - low) * (NODES + 1)
        log_density = (record.shape - 1) * np.log(g) - g - special.gammaln(record.shape)
        self.s = g ** (1 / self.power)
        self.weights = 0.5 * (high - low) * WEIGHTS * np.exp(log_density)

    def h(self, s: Any) -> Any:
        return self.k * np.log(s) + s**self.power

    def threshold(self, t: float) -> Any:
        """x with h(x) = h(s) - t, by bisection."""
        low, high = np.full_like(self.s, 1e-12), self.s + abs(t) + 10
        goal = self.h(self.s) - t
        for _ in range(60):
            middle = 0.5 * (low + high)
            above = self.h(middle) > goal
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return 0.5 * (low + high)

    def beyond(self, x: Any, r: float) -> Any:
        """P(|z - delta| >= x given |z| = s)."""
        s, d = self.s, self.dim
        if self.norm == 2.0:
            c = np.clip((s * s + r * r - x * x) / (2 * r * s), -1, 1)
            return 0.5 + np.copysign(0.5 * special.betainc(0.5, (d - 1) / 2, c * c), c)
        if self.norm == 1.0:
            y = np.clip((s + r - x) / 2 / s, 0, 1)
            inner = np.where(x <= s - r, 1.0, 1 - (1 - y) ** (d - 1))
            return 0.5 * (s + r >= x) + 0.5 * inner
        low, high = np.maximum(-s, r - x), np.minimum(s, r + x)
        change = (s < r + x).astype(float) + (-s > r - x)
        return 1 - np.clip((high - low) / (2 * s), 0, 1) ** (d - 1) * change / 2

    def cdf(self, t: float, r: float) -> float:
        return float(self.weights @ self.beyond(self.threshold(t), r * self.stretch))

    def required(self, r: float) -> float:
        tau = -optimize.brentq(lambda t: self.cdf(t, r) - 0.5, -60, 1, xtol=1e-10)
        return self.cdf(tau, r) + (0.5 - (1 - self.cdf(-tau, r))) * math.exp(-tau)

    def radius(self, p: float, highest: float) -> float:
        return float(
            optimize.brentq(lambda r: self.required(r) - p, 1e-4 * highest, highest, rtol=1e-9)
        )


class PlainMixed(Plain):
    """The mixed family in units of sigma: Gauss rules over log rho and the least coordinate,
    its sum's law by forty harmonics of its characteristic function."""

    def __init__(self, noise: cc.Noise, sizes: int = 80, least: int = 40) -> None:
        self.dim, self.k = noise.dim, getattr(noise, "k", 0.0)
        n, harmonics = self.dim - 2, 40
        y = np.linspace(-3, 2.2, 20_001)
        log_density = (1 - self.k) * y - 0.5 * np.exp(2 * y)
        log_density += (self.dim - 1) * np.log(special.erf(np.exp(y) / math.sqrt(2)))
        useful = y[log_density > log_density.max() - 36]
        x, w = np.polynomial.legendre.leggauss(sizes)
        y = useful[0] + 0.5 * (useful[-1] - useful[0]) * (x + 1)
        self.rho = rho = np.exp(y)[:, None]
        log_density = (1 - self.k) * y - 0.5 * np.exp(2 * y)
        log_density += (self.dim - 1) * np.log(special.erf(np.exp(y) / math.sqrt(2)))
        outer = w * np.exp(log_density - log_density.max())
        # the least of the others: its level is 1 - exp(-e/(d - 1)), e exponential
        x, w = np.polynomial.legendre.leggauss(least)
        e = 20 * (x + 1)
        whole = special.erf(rho / math.sqrt(2))
        level = -np.expm1(-e / (self.dim - 1))
        self.m = m = math.sqrt(2) * special.erfinv((2 * level - 1) * whole)
        self.weights = (outer / outer.sum())[:, None] * 20 * w * np.exp(-e)
        x, w = np.polynomial.legendre.leggauss(64)
        z = m[..., None] + 0.5 * (rho - m)[..., None] * (x + 1)
        mass = w * np.exp(-0.5 * z**2)
        mass /= mass.sum(-1, keepdims=True)
        mean = (mass * z).sum(-1)
        spread = np.sqrt((mass * (z - mean[..., None]) ** 2).sum(-1))
        self.mean, self.spread = n * mean, math.sqrt(n) * spread
        self.j = np.arange(1, harmonics + 1)
        step = np.pi / (10 * self.spread)
        phase = self.j * step[..., None]
        self.phi = np.empty(phase.shape, complex)
        for i in range(sizes):  # else the cube of nodes takes gigabytes
            turn = np.exp(1j * phase[i][..., None] * (z[i] - mean[i][..., None])[:, None, :])
            self.phi[i] = np.einsum("mjz,mz->mj", turn, mass[i]) ** n

    def sums(self, threshold: Any) -> Any:
        """P(the sum of the others <= threshold)."""
        u = (threshold - self.mean) / self.spread
        angle = np.pi / 10 * np.clip(u, -10, 10)[..., None] * self.j
        start = np.exp(1j * np.pi * self.j)
        series = (self.phi * (start - np.exp(-1j * angle)) / (1j * np.pi * self.j)).real.sum(-1)
        return np.clip(0.5 + np.clip(u, -10, 10) / 20 + series, 0, 1)

    def cdf(self, t: float, r: float) -> float:
        rest = t / r + 0.5 * self.dim * r - self.m
        largest = np.maximum(self.rho - r, r - self.m)
        minus = self.sums(rest + self.k / r * np.log1p(r / self.rho) + self.rho)
        plus = self.sums(rest + self.k / r * np.log(largest / self.rho) - self.rho)
        return float((self.weights * 0.5 * (minus + plus)).sum())


@pytest.mark.parametrize("dim", [64, 3072])
@pytest.mark.parametrize(
    ("family", "attack"),
    [("l1", "l1"), ("l2", "l2"), ("l2", "linf"), ("linf", "linf"), ("mixed", "linf")],
)
def test_bounds(race: Any, family: str, attack: str, dim: int) -> None:
    noise = cc.NOISES[family].with_rms(dim, 1.0, dim / 3)
    plain = PlainMixed(noise) if family == "mixed" else Plain(noise, attack)
    radius = search_radius(noise, attack, P)
    r = radius / noise.scale_unit
    found = plain.radius(P, 3 * r)
    law = log_ratio_law(noise, attack, radius)
    name = f"{family}, {attack} attack, d={dim}"
    race(
        f"one radius from cold at p={P}: {name}",
        {
            "search_radius": lambda: search_radius(noise, attack, P),
            "plain SciPy": lambda: plain.radius(P, 3 * r),
        },
        unit="ms",
        rounds=5,
        notes={"plain SciPy": f"off by {abs(found / r - 1):.0e}"},
    )
    gap = plain.required(r) - cc.required_probability(noise, attack, radius)
    race(
        f"p_min: {name}",
        {
            "required_probability": lambda: cc.required_probability(noise, attack, radius),
            "plain SciPy": lambda: plain.required(r),
        },
        unit="ms",
        rounds=5 if family == "mixed" else 15,
        notes={"plain SciPy": f"off by {abs(gap):.0e}"},
    )
    gap = plain.cdf(-0.5, r) - law.cdf(-0.5)
    fresh = iter(np.linspace(-0.5, -0.4, 10_000))
    race(
        f"cdf of the log ratio: {name}",
        {"law.cdf": lambda: law.cdf(next(fresh)), "plain SciPy": lambda: plain.cdf(-0.5, r)},
        unit="us",
        rounds=5 if family == "mixed" else 15,
        notes={"plain SciPy": f"off by {abs(gap):.0e}"},
    )


def test_data_set(race: Any) -> None:
    """10,000 inputs against one calibration curve."""
    noise = cc.L2Noise(3072, 8.0, 3060)
    p = np.random.default_rng(1).uniform(0.5, 1.0, 10_000)
    few = p[:20]
    race(
        "radii of a data set (L2Noise(3072, 8, 3060), per input)",
        {"certified_radius, 10,000 inputs": lambda: cc.certified_radius(p, noise, "l2")},
        values=p.size,
        unit="us/input",
    )
    race(
        "the same, each radius from cold",
        {"search_radius": lambda: [search_radius(noise, "l2", x) for x in few]},
        values=few.size,
        unit="us/input",
        rounds=3,
    )


def test_certification_overhead(race: Any) -> None:
    """Votes of a small network beside the bare loop: draw with PyTorch, forward, argmax."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(784, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10)
    ).eval()
    noise, n, batch = cc.L2Noise.with_rms(784, 0.5, 200), 10_000, 1000
    x = torch.rand(1, 784)
    classifier = SmoothedClassifier(model, noise, num_classes=10, batch_size=batch)

    def bare() -> Any:
        counts = torch.zeros(10, dtype=torch.int64)
        with torch.no_grad():
            for _ in range(n // batch):
                z = x + 0.5 * torch.randn(batch, 784)
                counts += torch.bincount(model(z).argmax(1), minlength=10)
        return counts

    race(
        f"{n} votes of a small network, d=784 (us a vote)",
        {
            "SmoothedClassifier.counts": lambda: classifier.counts(x, n, 1),
            "bare PyTorch loop, Gaussian": bare,
        },
        values=n,
        unit="us/vote",
        rounds=5,
    )


@pytest.mark.parametrize("k", [0.0, 3060.0])
def test_shells(race: Any, k: float) -> None:
    """One bound and one radius from six shells, beside those of p alone."""
    noise = cc.L2Noise.with_rms(3072, 0.5, k=k)
    edges = cc.shell_thresholds(noise)
    shares = np.array([0.999, 0.99, 0.95, 0.9, 0.8, 0.6])
    a = np.cumsum(shares * np.diff([0.0, *cc.shells.MASSES, 1.0]))
    radius = cc.shell_radius(a, edges, noise, "l2")
    race(
        f"six shells, k = {k:g}",
        {
            "shell_lower_bound": lambda: cc.shell_lower_bound(a, edges, noise, "l2", radius),
            "shell_radius": lambda: cc.shell_radius(a, edges, noise, "l2"),
            "lower_bound": lambda: cc.lower_bound(a[-1], noise, "l2", radius),
            "certified_radius": lambda: cc.certified_radius(a[-1], noise, "l2"),
        },
        unit="ms",
        own=True,
    )
