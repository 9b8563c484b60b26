"""Records of the densities: what a law, a sampler or a normalisation needs to know; and the
formulas that all of these share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
from scipy import special

from cert_core.errors import Float


@dataclass(frozen=True)
class RadialRecord:
    """Density prop. to |z|^-k exp(-(|z|/scale)^power), |.| the norm of that order."""

    dim: int
    norm: float
    power: float
    scale: float
    k: float

    @property
    def shape(self) -> float:
        """(|z|/scale)^power ~ Gamma(shape)."""
        return (self.dim - self.k) / self.power

    @property
    def coordinate_scale(self) -> float | None:
        """The scale of independent normal or Laplace coordinates; None where they depend."""
        if self.k > 0 or self.power != self.norm:
            return None
        return self.scale / math.sqrt(2) if self.norm == 2.0 else self.scale

    def geometry(self, kind: str) -> str:
        """The closed law of |z - delta| given |z| under a shift of this kind: "sphere" (caps),
        "cone" (1-balls along an axis and max-balls along a diagonal share one), "edge"
        (max-balls along an axis), or "open" where there is none."""
        if self.dim == 1:
            return "cone"
        if self.norm == 2.0:
            return "sphere"
        if (self.norm == 1.0) == (kind == "axis"):
            return "cone"
        return "edge" if self.norm == math.inf else "open"

    def log_mass(self) -> float:
        """log of the integral of the unnormalised density over R^dim."""
        d = self.dim
        log_ball = {
            1.0: d * math.log(2) - math.lgamma(d + 1),
            2.0: 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d + 1),
            math.inf: d * math.log(2),
        }[self.norm]
        return (
            log_ball
            + math.log(d / self.power)
            + (d - self.k) * math.log(self.scale)
            + math.lgamma(self.shape)
        )

    def log_density(self, z: Float) -> Float:
        """log density of the rows of z, up to log_mass."""
        s = np.linalg.norm(z, ord=self.norm, axis=-1)
        value: Float = power_term(self.k, s) - (s / self.scale) ** self.power
        return value

    def rms(self) -> float:
        """sqrt(E|z|_2^2 / dim)."""
        square = self.scale**2 * float(special.poch(self.shape, 2 / self.power))
        spread = {1.0: 2 / (self.dim + 1), 2.0: 1.0, math.inf: (self.dim + 2) / 3}[self.norm]
        return math.sqrt(square * spread / self.dim)


@dataclass(frozen=True)
class GaussianRecord:
    """The Gaussian law of Corollary 2."""

    sigma: float


@dataclass(frozen=True)
class LaplaceRecord:
    """The Laplace law of Corollary 1 (l1 attack)."""

    b: float


@dataclass(frozen=True)
class MixedRecord:
    """Density prop. to |z|_inf^-k exp(-|z|_2^2 / 2 sigma^2)."""

    dim: int
    sigma: float
    k: float


@dataclass(frozen=True)
class FlipsRecord:
    """Each entry stays with probability keep, else becomes any other of the categories alike."""

    most: ClassVar[int] = 1 << 20  # changes: time and memory grow with them

    categories: int
    keep: float


@dataclass(frozen=True)
class SparseFlipsRecord:
    """Zeros become ones with probability p_plus, ones zeros with p_minus."""

    most: ClassVar[int] = 1024  # changes, of which every split is tried

    p_plus: float
    p_minus: float


@dataclass(frozen=True)
class AblationRecord:
    """`keep` of dim entries are seen, every subset alike."""

    most: ClassVar[int] = 1 << 40  # changes, of which only their number counts

    dim: int
    keep: int


@dataclass(frozen=True)
class OverlapRecord:
    """Copies of two inputs agree in law but on a share: uniform noise on a cube of this width,
    or the sides of cells of this width."""

    dim: int
    width: Fraction


AtomicRecord = FlipsRecord | SparseFlipsRecord | AblationRecord | OverlapRecord
LawRecord = RadialRecord | GaussianRecord | LaplaceRecord | MixedRecord | AtomicRecord


def power_term(k: float, s: Float) -> Float:
    """-k log s; 0 where k = 0, +inf at s = 0 otherwise."""
    with np.errstate(divide="ignore"):
        result: Float = -k * np.log(s) if k > 0 else np.zeros_like(s)
    return result


def _log_growth(s: Float, change: Float) -> Float:
    """log((s + change)/s); +inf at s = 0."""
    with np.errstate(divide="ignore"):
        result: Float = np.log1p(np.maximum(change / s, -1.0))
    return result


def radial_log_ratio(record: RadialRecord, s: Float, change: Float) -> Float:
    """h(s) - h(s + change), h(s) = k log s + (s/scale)^power."""
    if record.power == 1.0 and record.k == 0.0:
        return -change / record.scale
    u = _log_growth(s, change)
    with np.errstate(invalid="ignore", over="ignore"):
        tail = (s / record.scale) ** record.power * np.expm1(record.power * u)
        tail = np.where(s > 0, tail, (np.abs(change) / record.scale) ** record.power)
        result: Float = -(record.k * u + tail) if record.k > 0 else -tail
    return result


def normal_log_ratio(k: float, sigma: float, s: Float, change: Float, moved: Float) -> Float:
    """The log ratio of |z|_inf^-k exp(-|z|_2^2 / 2 sigma^2); moved is z . delta - |delta|^2 / 2."""
    gaussian: Float = moved / sigma**2
    return gaussian - k * _log_growth(s, change) if k > 0 else gaussian
