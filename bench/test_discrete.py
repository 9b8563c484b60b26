"""Discrete noises: bounds, radii and copies."""

from __future__ import annotations

from typing import Any

import numpy as np

import cert_core as cc

IMAGE = cc.Flips(150_528, 256, 0.2)
BINARY = cc.Flips(784, 2, 0.6)
GRAPH = cc.SparseFlips(3000, 0.01, 0.6)


def test_bounds(race: Any) -> None:
    """One bound, law included, and radii; the published table of five noises, r to 9."""

    def table() -> None:
        for keep in (0.1, 0.2, 0.3, 0.4, 0.5):
            cc.required_probability(cc.Flips(150_528, 256, keep), "l0", np.arange(1, 10))

    race(
        "discrete noises, a call",
        {
            "L, r = 20, K = 256": lambda: cc.lower_bound(0.9, IMAGE, "l0", 20),
            "L, r = 500, K = 2": lambda: cc.lower_bound(0.9, BINARY, "l0", 500),
            "radius, d = 150528, K = 256": lambda: cc.certified_radius(0.9999, IMAGE, "l0"),
            "radius, d = 784, K = 2": lambda: cc.certified_radius(0.9999, BINARY, "l0"),
            "radius, zeros and ones": lambda: cc.certified_radius(0.999, GRAPH, "l0"),
            "frontier, zeros and ones": lambda: cc.sparse.sparse_frontier(0.999, GRAPH),
            "five noises, r to 9": table,
        },
        unit="ms",
        own=True,
    )


def test_copies(race: Any) -> None:
    """Copies of one image of ImageNet's size, beside Gaussian noise."""
    dim, n = 150_528, 64
    levels = (np.arange(dim) % 256 / 255).astype(np.float32)
    out = np.empty((n, dim), np.float32)

    def draw(noise: cc.Noise) -> Any:
        return lambda: cc.draw(noise, n, 0, center=levels, out=out)

    race(
        f"{n} copies of {dim} values (float32)",
        {
            "flips": draw(cc.Flips(dim, 256, 0.2)),
            "ablation": draw(cc.Ablation(dim, 2000)),
            "uniform": draw(cc.Uniform(dim, 0.5)),
            "splitting, all": draw(cc.Splitting(dim, 0.5)),
            "splitting, random": draw(cc.Splitting(dim, 0.4321)),
            "gaussian": draw(cc.Gaussian(dim, 0.5)),
        },
        values=n * dim,
        own=True,
    )
