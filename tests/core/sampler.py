"""An independent sampler and density of the families: NumPy's generators, Cartesian formulas.

Nothing of cert_core is used, so that a slip in its radius law, dimension or shift shows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def sample(noise: Any, n: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """(n, dim) draws by the radius's gamma law; the mixed family by rejection."""
    d = noise.dim
    k = getattr(noise, "k", 0.0)
    if noise.name == "mixed":
        return _mixed(noise, n, rng)
    norm, power, scale = shape(noise)
    s = scale * rng.gamma((d - k) / power, size=n) ** (1 / power)
    if norm == 2:
        z = rng.standard_normal((n, d))
        z /= np.sqrt((z * z).sum(axis=1))[:, None]
    elif norm == 1:
        z = rng.dirichlet(np.ones(d), size=n) * rng.choice([-1.0, 1.0], size=(n, d))
    else:
        z = rng.uniform(-1, 1, size=(n, d))
        z[np.arange(n), rng.integers(d, size=n)] = rng.choice([-1.0, 1.0], size=n)
    return z * s[:, None]


def _mixed(noise: Any, n: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Linf noise of the same k, thinned by exp(-(|z|_2^2 - |z|_inf^2) / 2 sigma^2)."""
    rows = []
    while sum(len(r) for r in rows) < n:
        s = noise.sigma * math.sqrt(2) * rng.gamma((noise.dim - noise.k) / 2, size=4 * n) ** 0.5
        z = rng.uniform(-1, 1, size=(4 * n, noise.dim))
        z[np.arange(4 * n), rng.integers(noise.dim, size=4 * n)] = rng.choice([-1.0, 1.0], 4 * n)
        z *= s[:, None]
        excess = (z * z).sum(axis=1) - s * s
        rows.append(z[rng.uniform(size=4 * n) < np.exp(-excess / (2 * noise.sigma**2))])
    return np.concatenate(rows)[:n]


def shape(noise: Any) -> tuple[float, float, float]:
    """(norm, power, scale), written here again."""
    if noise.name == "radial":
        return noise.norm, noise.power, noise.scale
    if noise.name in ("l1", "laplace"):
        return 1, 1.0, noise.b
    return (math.inf if noise.name == "linf" else 2), 2.0, noise.sigma * math.sqrt(2)


def log_density(noise: Any, z: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Unnormalised log density of rows."""
    k = getattr(noise, "k", 0.0)
    if noise.name == "mixed":
        top = np.abs(z).max(axis=1)
        return -k * np.log(top) - (z * z).sum(axis=1) / (2 * noise.sigma**2)
    norm, power, scale = shape(noise)
    absolute = np.abs(z)
    if norm == 1:
        s = absolute.sum(axis=1)
    elif norm == 2:
        s = np.sqrt((z * z).sum(axis=1))
    else:
        s = absolute.max(axis=1)
    return -k * np.log(s) - (s / scale) ** power


def shift(noise: Any, attack: str, radius: float) -> np.ndarray[Any, Any]:
    """The worst perturbation: a corner of the max-ball, a vertex of the others."""
    if attack == "linf":
        return np.full(noise.dim, radius)
    delta = np.zeros(noise.dim)
    delta[0] = radius
    return delta
