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


@pytest.mark.parametrize("dim", [64, 3072])
@pytest.mark.parametrize(
    ("family", "attack"), [("l1", "l1"), ("l2", "l2"), ("l2", "linf"), ("linf", "linf")]
)
def test_bounds(race: Any, family: str, attack: str, dim: int) -> None:
    noise = cc.NOISES[family].with_rms(dim, 1.0, dim / 3)
    record, plain = noise.radial, Plain(noise, attack)
    assert record is not None
    radius = search_radius(noise, attack, P)
    r = radius / record.scale
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
        notes={"plain SciPy": f"off by {abs(gap):.0e}"},
    )
    gap = plain.cdf(-0.5, r) - law.cdf(-0.5)
    race(
        f"cdf of the log ratio: {name}",
        {"law.cdf": lambda: law.cdf(-0.5), "plain SciPy": lambda: plain.cdf(-0.5, r)},
        unit="us",
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
