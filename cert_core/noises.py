"""The noise families: everything the toolkit knows of a family stands here.

A family is a frozen dataclass whose fields are its parameters.  It names its
level-set norm (which decides its worst shifts, see threats), the record of its
log-ratio law (which laws turns into an engine), how its radius is drawn, and its
normalised log density.  Each field says in its metadata which values it takes: what is checked,
and what tests draw.  Command-line options and the tests follow from NOISES.

NOISES are additive and have a density that is positive everywhere; those that are not stand
in channels.

Zhang et al. 2020, Eqs. 10-13.  All scales are in input units; 0 <= k < dim.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from dataclasses import field as dataclass_field
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from cert_core.densities import (
    GaussianRecord,
    LaplaceRecord,
    LawRecord,
    MixedRecord,
    RadialRecord,
    power_term,
)
from cert_core.errors import (
    EXACT,
    Float,
    UnsupportedPair,
    array,
    choice,
    fail,
    integer,
    positive,
    real,
    scalar,
    size,
)
from cert_core.quantiles import LogQuantiles, gamma_log_quantiles, max_law, max_log_quantiles
from cert_core.rounding import in_full
from cert_core.threats import Level

NORMS = (1.0, 2.0, math.inf)


@dataclass(frozen=True)
class Domain:
    """The values that a field takes.

    Attributes
    ----------
    check : callable (name, value, dim) -> value, or the error
    usual : callable (share, dim) -> value
        Of those that tests draw, the one at this share of the way from first to last.
    """

    check: Callable[[str, Any, int], Any]
    usual: Callable[[float, int], Any]


def among(*values: Any) -> Callable[[float, int], Any]:
    """These values, in their order."""
    return lambda share, _: values[round(share * (len(values) - 1))]


def between(low: float, high: float) -> Callable[[float, int], float]:
    """Floats from low to high."""
    return lambda share, _: low + share * (high - low)


def numbers(
    rule: str, holds: Callable[[float], bool], remedy: str, usual: Callable[[float, int], Any]
) -> dict[str, Domain]:
    """The metadata of a field of numbers."""

    def check(name: str, value: Any, _: int) -> float:
        return real(name, value, rule, holds, remedy=remedy)

    return {"domain": Domain(check, usual)}


def lengths(remedy: str, usual: Callable[[float, int], Any]) -> dict[str, Domain]:
    """The metadata of a field of numbers > 0, in input units."""
    return {"domain": Domain(lambda name, value, _: positive(name, value, remedy=remedy), usual)}


def integers(low: int, high: int, remedy: str, *usual: int) -> dict[str, Domain]:
    """The metadata of a field of whole numbers."""

    def check(name: str, value: Any, _: int) -> int:
        return integer(name, value, low, high, remedy=remedy)

    return {"domain": Domain(check, among(*usual))}


def _check_k(name: str, value: Any, dim: int) -> float:
    rule = f"a number with 0 <= k < dim = {dim}"
    remedy = "from k = dim on the density cannot be normalised"
    return real(name, value, rule, lambda k: 0 <= k < dim, remedy=remedy)


NORM = {"domain": Domain(lambda name, value, _: float(choice(name, value, NORMS)), among(*NORMS))}
POWER = lengths("pass the noise's scale or power", among(0.6, 1.0, 1.5, 2.0, 3.0))
SCALE = lengths("pass the noise's scale or power", between(0.05, 20.0))
K = {"domain": Domain(_check_k, lambda share, dim: share * (dim - 0.5))}


class Noise(ABC):
    """A symmetric noise on R^dim, non-increasing in every |z_i|.

    Examples
    --------
    >>> noise = cc.noise_from_dict({"noise": "gaussian", "dim": 4, "sigma": 0.5})
    >>> isinstance(noise, cc.Noise), noise == cc.Gaussian(4, 0.5)
    (True, True)
    >>> noise.log_density(np.zeros((1, 4))).round(3)
    array([-0.903])
    """

    name: ClassVar[str]
    dense: ClassVar[bool] = True  # whether it has a density that is positive everywhere
    categorical: ClassVar[bool] = False  # whether whole numbers are categories to it
    dim: int

    def __post_init__(self) -> None:
        remedy = "pass the number of input coordinates"
        object.__setattr__(self, "dim", size("dim", self.dim, 1, EXACT, remedy=remedy))
        for field in fields(self):  # type: ignore[arg-type]
            if field.name != "dim":
                value = getattr(self, field.name)
                checked = field.metadata["domain"].check(field.name, value, self.dim)
                object.__setattr__(self, field.name, checked)

    @property
    @abstractmethod
    def level_norm(self) -> Level:
        """Order of the norm whose balls are the level sets, None where they are not; or the
        word of the worst-shift table for noises without a density."""

    @property
    @abstractmethod
    def radial(self) -> RadialRecord | None:
        """The noise as a member of the general radial family; None where it is none."""

    @property
    @abstractmethod
    def record(self) -> LawRecord:
        """What the exact log-ratio law needs to know."""

    @property
    @abstractmethod
    def scale_unit(self) -> float:
        """The parameter every length scales with; laws depend on radius/scale_unit."""

    @property
    @abstractmethod
    def rms(self) -> float:
        """sqrt(E|z|_2^2 / dim), in input units: makes families comparable."""

    @abstractmethod
    def log_density(self, z: Any) -> Float | float:
        """Normalised log density at the rows of z, shape (..., dim) -> (...)."""

    @abstractmethod
    def log_radius(self) -> LogQuantiles:
        """Log-quantiles of the radius (in the norm of its direction), in scale_unit."""

    @classmethod
    @abstractmethod
    def unit(cls, dim: int, k: float) -> Self:
        """The member with scale 1."""

    @classmethod
    def with_rms(cls, dim: int, rms: float, k: float = 0.0) -> Self:
        """Build the member of the family with this root mean square a coordinate.

        Parameters
        ----------
        dim : int >= 1
        rms : float > 0, sqrt(E|z|_2^2 / dim) in input units
        k : float with 0 <= k < dim

        Raises
        ------
        ValueError
            An argument out of its domain.
        """
        rms = positive("rms", rms, remedy="pass the noise level in input units")
        unit = cls.unit(dim, k)
        return unit.rescaled(rms / unit.rms)

    @abstractmethod
    def rescaled(self, factor: float) -> Self:
        """The same noise with every length multiplied by factor."""

    def geometry(self, kind: str) -> str:
        """Which closed law |z - delta| has given |z| under a shift of this kind; "open" where
        rows must be drawn."""
        return "open" if self.radial is None else self.radial.geometry(kind)

    @property
    def stretch(self) -> Float | None:
        """What multiplies every coordinate of a draw, (dim,); None where nothing does."""
        return None

    def scaled(self, scales: Any) -> Scaled:
        """Stretch the noise: coordinate i is multiplied by scales[i].

        For inputs whose coordinates have units of their own, such as tables: with the
        standard deviation of each feature as its scale, the noise is as large, relatively,
        in all of them.

        Parameters
        ----------
        scales : (dim,) array of numbers > 0, in input units

        Returns
        -------
        Scaled
            Its radii are norms of delta/scales.

        Raises
        ------
        ValueError
            Scales that are no dim finite numbers > 0.
        """
        return Scaled(self, scales)

    def to_dict(self) -> dict[str, Any]:
        """The noise as JSON-able values; noise_from_dict reads it."""
        values = {"noise": self.name, **asdict(self)}  # type: ignore[call-overload]
        if values.get("norm") == math.inf:
            values["norm"] = "inf"
        return values


def _points(z: Any, dim: int) -> Float:
    """z as an array of rows of length dim."""
    rule, remedy = "an array without NaN", "pass points of the input space"
    points = array("z", z, rule, lambda x: ~np.isnan(x), remedy=remedy)
    if points.ndim == 0 or points.shape[-1] != dim:
        raise fail("z", f"of shape (..., {dim})", points.shape, "flatten each input to one row")
    return points


def level_record(noise: Noise) -> RadialRecord:
    """The radial record of a noise that has shells."""
    record = checked_noise(noise).radial
    if record is None:
        raise UnsupportedPair(
            f"noise must have level sets that are norm balls to be told apart by shells, got "
            f"{noise!r}: certify its votes whole"
        )
    return record


def checked_noise(noise: Any) -> Noise:
    """noise if it is one of the built-in families."""
    if not isinstance(noise, Noise):
        raise fail("noise", "a noise of cert_core", noise, "e.g. L2Noise(3072, 1.0, 8)")
    return noise


def _scales(value: Any, dim: int) -> Float:
    """value as a scale for each of dim coordinates."""
    rule = "numbers between 1e-30 and 1e30"
    remedy = "pass a scale for each coordinate, and leave out coordinates that never vary"
    scales = array("scales", value, rule, lambda x: (x >= 1e-30) & (x <= 1e30), remedy=remedy)
    if scales.shape != (dim,):
        raise fail("scales", f"of shape ({dim},)", scales.shape, remedy)
    return scales


class _Radial(Noise):
    """A noise whose density falls with one norm of z alone."""

    scale_field: ClassVar[str]

    @property
    @abstractmethod
    def radial(self) -> RadialRecord:
        """The noise as a member of the general radial family."""

    @property
    def record(self) -> LawRecord:
        return self.radial

    @property
    def level_norm(self) -> float:
        return self.radial.norm

    @property
    def scale_unit(self) -> float:
        return self.radial.scale

    @property
    def rms(self) -> float:
        return self.radial.rms()

    def log_density(self, z: Any) -> Float | float:
        """Normalised log density at the rows of z, shape (..., dim) -> (...)."""
        value: Float | float = scalar(
            self.radial.log_density(_points(z, self.dim)) - self.radial.log_mass()
        )
        return value

    def log_radius(self) -> LogQuantiles:
        return gamma_log_quantiles(self.radial.shape, self.radial.power)

    def rescaled(self, factor: float) -> Self:
        values = asdict(self)  # type: ignore[call-overload]
        values[self.scale_field] *= factor
        return type(self)(**values)

    @classmethod
    def unit(cls, dim: int, k: float) -> Self:
        return cls(dim, 1.0, k)  # type: ignore[call-arg]


@dataclass(frozen=True)
class RadialNoise(_Radial):
    """The general family, density prop. to |z|_q^-k exp(-(|z|_q/scale)^power).

    Parameters
    ----------
    dim : int >= 1
        Coordinates of one input.
    norm : q, one of 1, 2, inf
    power : float > 0
    scale : float > 0, in input units
    k : float with 0 <= k < dim
        Exponent of the singularity at 0, which moves mass outwards.

    Examples
    --------
    >>> noise = cc.RadialNoise(dim=784, norm=2, power=4, scale=1.0, k=0)
    >>> round(cc.certified_radius(0.9, noise, "l2"), 4)
    0.1712
    """

    name: ClassVar[str] = "radial"
    scale_field: ClassVar[str] = "scale"
    dim: int
    norm: float = dataclass_field(metadata=NORM)
    power: float = dataclass_field(metadata=POWER)
    scale: float = dataclass_field(metadata=SCALE)
    k: float = dataclass_field(default=0.0, metadata=K)

    def __post_init__(self) -> None:
        named = isinstance(self.norm, str) and self.norm == "inf"
        object.__setattr__(self, "norm", math.inf if named else self.norm)
        super().__post_init__()

    @cached_property
    def radial(self) -> RadialRecord:
        return RadialRecord(self.dim, self.norm, self.power, self.scale, self.k)

    @classmethod
    def unit(cls, dim: int, k: float, norm: float = 2.0, power: float = 2.0) -> Self:
        return cls(dim, norm, power, 1.0, k)

    @classmethod
    def with_rms(
        cls, dim: int, rms: float, k: float = 0.0, *, norm: float = 2.0, power: float = 2.0
    ) -> Self:
        """Build the member of this norm and power with this root mean square."""
        rms = positive("rms", rms, remedy="pass the noise level in input units")
        unit = cls.unit(dim, k, norm, power)
        return unit.rescaled(rms / unit.rms)


@dataclass(frozen=True)
class L1Noise(_Radial):
    """|z|_1^-k exp(-|z|_1/b): Eq. 10; k = 0 is the Laplace law.

    Parameters
    ----------
    dim : int >= 1
        Coordinates of one input.
    b : float > 0, in input units
        Scale; at k = 0 the mean of |z_i|, which has rms b sqrt 2.
    k : float with 0 <= k < dim
        Exponent of the singularity at 0, which moves mass outwards.

    Examples
    --------
    >>> noise = cc.L1Noise.with_rms(dim=784, rms=0.25, k=100)
    >>> round(noise.rms, 6), round(cc.certified_radius(0.9, noise, "l1"), 3)
    (0.25, 0.284)
    """

    name: ClassVar[str] = "l1"
    scale_field: ClassVar[str] = "b"
    dim: int
    b: float = dataclass_field(metadata=SCALE)
    k: float = dataclass_field(default=0.0, metadata=K)

    @cached_property
    def radial(self) -> RadialRecord:
        return RadialRecord(self.dim, 1.0, 1.0, self.b, self.k)


@dataclass(frozen=True)
class L2Noise(_Radial):
    """|z|_2^-k exp(-|z|_2^2 / 2 sigma^2): Eq. 11; k = 0 is the Gaussian law.

    Parameters
    ----------
    dim : int >= 1
        Coordinates of one input.
    sigma : float > 0, in input units
        Scale; the rms a coordinate is sigma sqrt((dim - k)/dim).
    k : float with 0 <= k < dim
        Exponent of the singularity at 0, which moves mass outwards.

    Examples
    --------
    >>> noise = cc.L2Noise(dim=3072, sigma=1.0, k=3060)
    >>> round(noise.rms, 4), round(cc.certified_radius(0.99, noise, "l2"), 4)
    (0.0625, 0.137)
    """

    name: ClassVar[str] = "l2"
    scale_field: ClassVar[str] = "sigma"
    dim: int
    sigma: float = dataclass_field(metadata=SCALE)
    k: float = dataclass_field(default=0.0, metadata=K)

    @cached_property
    def radial(self) -> RadialRecord:
        return RadialRecord(self.dim, 2.0, 2.0, self.sigma * math.sqrt(2), self.k)


@dataclass(frozen=True)
class LinfNoise(_Radial):
    """|z|_inf^-k exp(-|z|_inf^2 / 2 sigma^2): Eq. 12.

    Parameters
    ----------
    dim : int >= 1
        Coordinates of one input.
    sigma : float > 0, in input units
        Scale of the maximum: the rms a coordinate is about sigma sqrt((dim - k)/3).
    k : float with 0 <= k < dim
        Exponent of the singularity at 0, which moves mass outwards.

    Examples
    --------
    >>> round(cc.certified_radius(0.9, cc.LinfNoise(dim=784, sigma=1.0), "l1"), 2)
    22.41
    """

    name: ClassVar[str] = "linf"
    scale_field: ClassVar[str] = "sigma"
    dim: int
    sigma: float = dataclass_field(metadata=SCALE)
    k: float = dataclass_field(default=0.0, metadata=K)

    @cached_property
    def radial(self) -> RadialRecord:
        return RadialRecord(self.dim, math.inf, 2.0, self.sigma * math.sqrt(2), self.k)


@dataclass(frozen=True)
class Gaussian(_Radial):
    """The Gaussian, by its closed law (Corollary 2).

    Parameters
    ----------
    dim : int >= 1
        Coordinates of one input.
    sigma : float > 0, in input units
        Standard deviation, and rms, of a coordinate.

    Examples
    --------
    >>> noise = cc.Gaussian(dim=3072, sigma=0.25)
    >>> noise.rms, noise.to_dict()
    (0.25, {'noise': 'gaussian', 'dim': 3072, 'sigma': 0.25})
    """

    name: ClassVar[str] = "gaussian"
    scale_field: ClassVar[str] = "sigma"
    dim: int
    sigma: float = dataclass_field(metadata=SCALE)

    @cached_property
    def radial(self) -> RadialRecord:
        return L2Noise(self.dim, self.sigma).radial

    @property
    def record(self) -> LawRecord:
        return GaussianRecord(self.sigma)

    @classmethod
    def unit(cls, dim: int, k: float) -> Self:
        return cls(without_k(dim, k), 1.0)


@dataclass(frozen=True)
class Laplace(_Radial):
    """The Laplace noise, by its closed law (Corollary 1).

    Parameters
    ----------
    dim : int >= 1
        Coordinates of one input.
    b : float > 0, in input units
        Mean of |z_i|; the rms a coordinate is b sqrt 2.

    Examples
    --------
    >>> round(cc.certified_radius(0.9, cc.Laplace(dim=784, b=0.5), "l1"), 4)
    0.8047
    """

    name: ClassVar[str] = "laplace"
    scale_field: ClassVar[str] = "b"
    dim: int
    b: float = dataclass_field(metadata=SCALE)

    @cached_property
    def radial(self) -> RadialRecord:
        return L1Noise(self.dim, self.b).radial

    @property
    def record(self) -> LawRecord:
        return LaplaceRecord(self.b)

    @classmethod
    def unit(cls, dim: int, k: float) -> Self:
        return cls(without_k(dim, k), 1.0)


def without_k(dim: int, k: float) -> int:
    """dim, for a family that has no k."""
    if k != 0:
        raise fail("k", "0 for this noise", k, "use the family with a k instead")
    return dim


@dataclass(frozen=True)
class MixedNoise(Noise):
    """|z|_inf^-k exp(-|z|_2^2 / 2 sigma^2): Eq. 13; k = 0 is the Gaussian.

    Drawn exactly: rho = |z|_inf by its one-dimensional law, a coordinate chosen
    uniformly is +-rho, the others are normals truncated to [-rho, rho].

    Parameters
    ----------
    dim : int >= 1
        Coordinates of one input.
    sigma : float > 0, in input units
        Scale; the rms a coordinate is sigma sqrt((dim - k)/dim).
    k : float with 0 <= k < dim
        Exponent of the singularity at 0, which moves mass outwards.

    Examples
    --------
    >>> noise = cc.MixedNoise.with_rms(dim=784, rms=0.25, k=20)
    >>> round(cc.certified_radius(0.9, noise, "linf"), 4)
    0.0112
    """

    name: ClassVar[str] = "mixed"
    dim: int
    sigma: float = dataclass_field(metadata=SCALE)
    k: float = dataclass_field(default=0.0, metadata=K)

    @property
    def level_norm(self) -> float | None:
        return 2.0 if self.k == 0 or self.dim == 1 else None

    @cached_property
    def radial(self) -> RadialRecord | None:
        return L2Noise(1, self.sigma, self.k).radial if self.dim == 1 else None

    @property
    def record(self) -> LawRecord:
        if self.k == 0:
            return GaussianRecord(self.sigma)
        return self.radial or MixedRecord(self.dim, self.sigma, self.k)

    @property
    def scale_unit(self) -> float:
        return self.sigma

    @property
    def rms(self) -> float:
        # |z|_inf^-k is homogeneous: |z|_2 has the law of L2Noise's, the direction another
        return L2Noise(self.dim, self.sigma, self.k).rms

    def log_density(self, z: Any) -> Float | float:
        """Normalised log density at the rows of z, shape (..., dim) -> (...)."""
        z = _points(z, self.dim) / self.sigma
        unnormalised = power_term(self.k, np.abs(z).max(axis=-1)) - 0.5 * np.sum(z * z, axis=-1)
        log_mass = (
            0.5 * self.dim * math.log(2 * math.pi)
            + math.log(self.dim)
            + 0.5 * math.log(2 / math.pi)
            + max_law(self.dim, self.k).log_mass
            + self.dim * math.log(self.sigma)
        )
        value: Float | float = scalar(unnormalised - log_mass)
        return value

    def log_radius(self) -> LogQuantiles:
        return max_log_quantiles(self.dim, self.k)

    def rescaled(self, factor: float) -> Self:
        return type(self)(self.dim, self.sigma * factor, self.k)

    @classmethod
    def unit(cls, dim: int, k: float) -> Self:
        return cls(dim, 1.0, k)


@dataclass(frozen=True, repr=False)
class Scaled(Noise):
    """A noise stretched by a scale for each coordinate: scales * z with z of the base noise.

    x + scales * z is x/scales + z in units of the scales, so every bound of the base noise
    holds with delta/scales in delta's place, and nothing else changes: **radii, worst shifts,
    rms and every norm are those of delta/scales**.  Made by noise.scaled(scales).

    Parameters
    ----------
    base : Noise
        Where it is stretched itself, the scales multiply.
    scales : dim numbers > 0, in input units

    Examples
    --------
    >>> noise = cc.Gaussian(2, 0.5).scaled([1.0, 10.0])  # of type Scaled
    >>> noise
    Scaled(Gaussian(dim=2, sigma=0.5), 2 scales from 1 to 10: radii are norms of delta/scales)
    >>> cc.draw(noise, 20_000, seed=0).std(axis=0).round(1)
    array([0.5, 5. ], dtype=float32)
    """

    name: ClassVar[str] = "scaled"
    base: Noise
    scales: tuple[float, ...]
    dim: int = dataclass_field(init=False)

    def __post_init__(self) -> None:
        base = checked_noise(self.base)
        if not base.dense:
            raise fail("noise", "one of NOISES, which have scales", base, "stretch such a one")
        scales = _scales(self.scales, base.dim)
        if isinstance(base, Scaled):
            scales = _scales(scales * base.stretch, base.dim)
            base = base.base
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "scales", tuple(scales.tolist()))
        object.__setattr__(self, "dim", base.dim)

    def __repr__(self) -> str:
        return (
            f"Scaled({self.base!r}, {self.dim} scales from {in_full(min(self.scales))} "
            f"to {in_full(max(self.scales))}: radii are norms of delta/scales)"
        )

    @cached_property
    def stretch(self) -> Float:
        return np.array(self.scales)

    @property
    def level_norm(self) -> Level:
        return self.base.level_norm

    @property
    def radial(self) -> RadialRecord | None:
        return self.base.radial

    @property
    def record(self) -> LawRecord:
        return self.base.record

    @property
    def scale_unit(self) -> float:
        return self.base.scale_unit

    @property
    def rms(self) -> float:
        return self.base.rms

    def log_density(self, z: Any) -> Float | float:
        """Normalised log density at the rows of z, shape (..., dim) -> (...)."""
        rows = _points(z, self.dim) / self.stretch
        return self.base.log_density(rows) - float(np.log(self.stretch).sum())

    def log_radius(self) -> LogQuantiles:
        return self.base.log_radius()

    def rescaled(self, factor: float) -> Self:
        return type(self)(self.base.rescaled(factor), self.scales)

    @classmethod
    def unit(cls, dim: int, k: float) -> Self:
        raise fail("noise", "a family with a member of every scale", cls.name, "scale a member")

    def to_dict(self) -> dict[str, Any]:
        """The noise as JSON-able values; noise_from_dict reads it."""
        return {"noise": self.name, "base": self.base.to_dict(), "scales": list(self.scales)}


NOISES: dict[str, type[Noise]] = {
    "l1": L1Noise,
    "l2": L2Noise,
    "linf": LinfNoise,
    "mixed": MixedNoise,
    "gaussian": Gaussian,
    "laplace": Laplace,
    "radial": RadialNoise,
}
