"""The noises without a density everywhere: all that the toolkit knows of a family stands here.

Their log ratio takes finitely many values.  A copy under a channel is a function of the input
and of random words (see copies), under Uniform a sum; and what needs a density (log ratios of
rows, norms, scales) refuses them all by name.

A family names its worst shifts (see threats), the record of its law (laws.atomic), which inputs
it knows, and what it makes of one.  Command-line options and the tests follow from CHANNELS.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import MISSING, dataclass, fields
from dataclasses import field as dataclass_field
from fractions import Fraction
from typing import Any, ClassVar, NoReturn, Self

import numpy as np

from cert_core.copies import Cells, Codes, Recipe, Subset, Table
from cert_core.densities import (
    AblationRecord,
    AtomicRecord,
    FlipsRecord,
    OverlapRecord,
    SparseFlipsRecord,
)
from cert_core.errors import (
    Float,
    UnsupportedPair,
    choice,
    fail,
    integer,
    to_numpy,
)
from cert_core.noises import (
    NOISES,
    Domain,
    Noise,
    Scaled,
    among,
    between,
    integers,
    lengths,
    numbers,
    without_k,
)
from cert_core.rounding import in_full, rounded_down
from cert_core.threats import Level

Values = np.ndarray[Any, np.dtype[Any]]


class Finite(Noise):
    """A noise whose log ratio takes finitely many values: laws of whole numbers."""

    dense: ClassVar[bool] = False

    @property
    @abstractmethod
    def record(self) -> AtomicRecord:
        """What the exact log-ratio law needs to know."""

    def _refuse(self, what: str) -> NoReturn:
        raise UnsupportedPair(
            f"noise must have a density that is positive everywhere for {what}, got {self!r}: use "
            "one of cert_core.NOISES, or the exact bounds, which need none"
        )

    @property
    def radial(self) -> NoReturn:
        self._refuse("log ratios and norms of its draws")

    @property
    def scale_unit(self) -> NoReturn:
        self._refuse("a scale of lengths")

    @property
    def rms(self) -> float:
        self._refuse("an rms a coordinate")

    def log_density(self, z: Any) -> NoReturn:
        self._refuse("log_density")

    def log_radius(self) -> NoReturn:
        self._refuse("a law of its radius")

    def rescaled(self, factor: float) -> Self:
        self._refuse("another scale")

    @classmethod
    def unit(cls, dim: int, k: float) -> Self:
        raise UnsupportedPair(
            f"noise must be one of cert_core.NOISES to be built from its rms, got {cls.__name__}: "
            "pass its own parameters"
        )


class Channel(Finite):
    """A noise that adds nothing: a copy is a function of the input and of random words."""

    @abstractmethod
    def checked(self, x: Any) -> Values:
        """Inputs of any shape in the form that copies are drawn from: integers as integers,
        others as float32.

        Raises
        ------
        ValueError
            A value that this noise does not know.
        """

    @abstractmethod
    def made_of(self, x: Values, dtype: str) -> Recipe:
        """What copies of one checked input, (dim,), are drawn by."""

    def recipe(self, center: Any, dtype: str) -> Recipe:
        """What copies of one input are drawn by.

        Raises
        ------
        ValueError
            No center, or one with values that the noise does not know.
        """
        if center is None:
            rule = f"one input for {self!r}, which makes copies of it and adds nothing"
            raise fail("center", rule, center, "pass center=x")
        given = to_numpy("center", center)
        if given.size != self.dim:
            raise fail("center", f"an array of {self.dim} values", given.shape, "pass one input")
        return self.made_of(np.ascontiguousarray(self.checked(given.reshape(self.dim))), dtype)


def _as_they_are(x: Any) -> Values:
    """Inputs as int64 where they are whole by type, else as they are."""
    values = to_numpy("x", x)
    return to_numpy("x", values, np.int64) if values.dtype.kind in "iu" else values


def on_levels(values: Any, steps: int) -> Codes:
    """j of values j/steps, j = 0 .. steps, each off by float32's rounding at most."""
    wide = np.asarray(values, np.float64) * steps
    with np.errstate(invalid="ignore"):
        nearest = np.clip(np.rint(wide), 0, steps)
        off = ~(np.abs(wide - nearest) <= steps * 2.0**-22)
    if off.any():
        rule = f"one of the {steps + 1} levels j/{steps} in [0, 1]"
        remedy = "divide images by their largest level, pass categories as integers"
        raise fail("x", rule, float(np.asarray(values)[off][0]), remedy)
    return nearest.astype(np.int64)


class _Categories(Channel):
    """A channel on categories: integers 0 .. K - 1, or the K levels j/(K - 1) of an image.

    Which of the two is told by the type of the inputs alone, never by their values, and copies
    are in the same form.
    """

    categorical: ClassVar[bool] = True
    categories: int

    @property
    def level_norm(self) -> Level:
        return "entries"

    def checked(self, x: Any) -> Values:
        values = _as_they_are(x)
        if values.dtype.kind == "f":
            on_levels(values, self.categories - 1)
            return values.astype(np.float32)
        wrong = values[(values < 0) | (values >= self.categories)]
        if wrong.size:
            rule = f"one of the categories 0 .. {self.categories - 1}"
            raise fail("x", rule, int(wrong[0]), "number the categories from 0")
        return values

    def codes(self, x: Any) -> Codes:
        """The categories of checked inputs."""
        return x if x.dtype.kind == "i" else on_levels(x, self.categories - 1)

    def values(self, x: Any) -> Float:
        """What a copy of checked inputs shows for each category."""
        table = np.arange(self.categories, dtype=np.float64)
        return table if x.dtype.kind == "i" else table / (self.categories - 1)

    def made_of(self, x: Values, dtype: str) -> Recipe:
        changes = [int(share * 2**64) for share in self.change()]
        last = np.array([2**64 - 1 - change for change in changes], dtype=np.uint64)
        share = np.array([(self.categories - 1) / change if change else 0.0 for change in changes])
        return Table(self.codes(x), last, share, self.values(x).astype(dtype))

    @abstractmethod
    def change(self) -> tuple[Fraction, ...]:
        """The probability that each category becomes another, any other alike."""


MOST_LEVELS = 1 << 20  # that float32 keeps apart


@dataclass(frozen=True)
class Flips(_Categories):
    """Each entry stays with probability keep, else becomes any other category alike.

    Serves the attack "l0", the number of changed entries.

    Parameters
    ----------
    dim : int >= 1
        Entries of one input.
    categories : int >= 2
        K.  Inputs are integers 0 .. K - 1, and so are the copies; or floats at the levels
        j/(K - 1) of an image, and so are the copies.
    keep : float in (0, 1]

    References
    ----------
    Lee et al. 2019, Tight certificates of adversarial robustness.

    Examples
    --------
    >>> noise = cc.Flips(dim=784, categories=2, keep=0.8)
    >>> cc.certified_radius([0.9, 0.999], noise, "l0")
    array([1., 5.])
    """

    name: ClassVar[str] = "flips"
    dim: int
    categories: int = dataclass_field(
        metadata=integers(2, MOST_LEVELS, "pass how many values an entry takes", 2, 3, 256)
    )
    keep: float = dataclass_field(
        metadata=numbers(
            "a number in (0, 1], at least 1e-9", lambda x: 1e-9 <= x <= 1,
            "pass the probability that an entry stays", between(0.05, 1.0),
        )
    )  # fmt: skip

    @property
    def record(self) -> FlipsRecord:
        return FlipsRecord(self.categories, self.keep)

    def change(self) -> tuple[Fraction, ...]:
        return (1 - Fraction(self.keep),) * self.categories


FLIP = numbers(
    "a number in [0, 1)", lambda x: 0 <= x < 1, "pass the probability of a flip", between(0, 0.9)
)


@dataclass(frozen=True)
class SparseFlips(_Categories):
    """On zeros and ones: a zero becomes one with p_plus, a one zero with p_minus.

    Serves the attack "l0" by the worst split into added and deleted ones;
    sparse_lower_bound tells them apart.

    Parameters
    ----------
    dim : int >= 1
        Entries of one input, each 0 or 1.
    p_plus, p_minus : float in [0, 1)

    References
    ----------
    Bojchevski et al. 2020, Efficient robustness certificates for discrete data.

    Examples
    --------
    >>> cc.certified_radius(0.999, cc.SparseFlips(dim=3000, p_plus=0.01, p_minus=0.6), "l0")
    3.0
    """

    name: ClassVar[str] = "sparseflips"
    categories: ClassVar[int] = 2  # type: ignore[misc]
    dim: int
    p_plus: float = dataclass_field(metadata=FLIP)
    p_minus: float = dataclass_field(metadata=FLIP)

    @property
    def record(self) -> SparseFlipsRecord:
        return SparseFlipsRecord(self.p_plus, self.p_minus)

    def change(self) -> tuple[Fraction, ...]:
        return Fraction(self.p_plus), Fraction(self.p_minus)


def _check_kept(name: str, value: Any, dim: int) -> int:
    return integer(name, value, 1, dim, remedy="pass how many entries are seen")


KEPT = {"domain": Domain(_check_kept, lambda share, dim: 1 + round(share * (dim - 1)))}


@dataclass(frozen=True)
class Ablation(Channel):
    """`keep` entries of an input stay, every subset alike; the others are hidden.

    Serves the attack "l0".

    Parameters
    ----------
    dim : int >= 1
        Entries of one input.
    keep : int in [1, dim]
        How many are seen.
    null : float, exact in float32
        What a hidden entry shows: a value that no input has, so that copy != null is the mask
        of what is seen, for models that read one.

    References
    ----------
    Levine and Feizi 2020, Robustness certificates for sparse adversarial attacks by randomized
    ablation.

    Examples
    --------
    >>> cc.certified_radius(0.99, cc.Ablation(dim=784, keep=45), "l0")
    11.0
    """

    name: ClassVar[str] = "ablation"
    dim: int
    keep: int = dataclass_field(metadata=KEPT)
    null: float = dataclass_field(
        default=-1.0,
        metadata=numbers(
            "a number that float32 holds exactly",
            lambda x: abs(x) < 1e38 and float(np.float32(x)) == x,
            "pass a value that no input has", among(-1.0, 7.5),
        ),
    )  # fmt: skip

    @property
    def level_norm(self) -> Level:
        return "entries"

    @property
    def record(self) -> AblationRecord:
        return AblationRecord(self.dim, self.keep)

    def checked(self, x: Any) -> Values:
        with np.errstate(over="ignore"):
            values = _as_they_are(x).astype(np.float32)
        if not np.isfinite(values).all():
            raise fail("x", "finite", "NaN or infinity", "clean the inputs first")
        if (values == np.float32(self.null)).any():
            rule = f"other than the null value {in_full(self.null)} of hidden entries"
            raise fail("x", rule, self.null, "choose a null that no input has")
        return values

    def made_of(self, x: Values, dtype: str) -> Recipe:
        return Subset(x.astype(dtype), self.keep, np.dtype(dtype).type(self.null))


@dataclass(frozen=True)
class Uniform(Finite):
    """Independent uniform noise on [-scale, scale] in every coordinate.

    Additive, but without a density everywhere: the log ratio is 0 or infinite.

    Parameters
    ----------
    dim : int >= 1
        Coordinates of one input.
    scale : float > 0, in input units

    References
    ----------
    Lee et al. 2019; Yang et al. 2020, Randomized smoothing of all shapes and sizes.

    Examples
    --------
    >>> round(cc.certified_radius(0.9, cc.Uniform(dim=784, scale=0.5), "l1"), 4)
    0.4
    """

    name: ClassVar[str] = "uniform"
    dim: int
    scale: float = dataclass_field(
        metadata=lengths("pass the noise's half width", between(0.05, 3.0))
    )

    @property
    def level_norm(self) -> Level:
        return "cube"

    @property
    def rms(self) -> float:
        return self.scale / math.sqrt(3)

    def rescaled(self, factor: float) -> Self:
        return type(self)(self.dim, self.scale * factor)

    @classmethod
    def unit(cls, dim: int, k: float) -> Self:
        return cls(without_k(dim, k), 1.0)

    @property
    def record(self) -> OverlapRecord:
        return OverlapRecord(self.dim, 2 * Fraction(self.scale))


@dataclass(frozen=True)
class Splitting(Channel):
    """A copy tells of each coordinate only between which splits it lies, 2 scale apart.

    It shows the middle of that cell, cut to [0, 1].  Where 2 scale levels is a whole number,
    nothing is random: the splits of all coordinates move together, by fixed relative offsets,
    through the `copies` positions there are, and any so many consecutive draws are all of
    them (the seed says which comes first); certify_deterministic reads their votes.
    Otherwise the offsets are independent and uniform.

    Parameters
    ----------
    dim : int >= 1
        Coordinates of one input, each at one of the levels j/levels in [0, 1].
    scale : float > 0, in input units
        Half the distance of two splits of one coordinate.
    levels : int >= 1
        Steps from 0 to 1: 255 for 8-bit images.

    References
    ----------
    Levine and Feizi 2021, Improved, deterministic smoothing for l1 certified robustness.

    Examples
    --------
    >>> noise = cc.Splitting(dim=64, scale=0.5, levels=255)
    >>> noise.copies
    255
    >>> round(cc.certified_radius(0.9, noise, "l1"), 4)
    0.4
    """

    name: ClassVar[str] = "splitting"
    dim: int
    scale: float = dataclass_field(
        metadata=lengths("pass half a cell's width", among(0.0314, 0.5, 1.5))
    )
    levels: int = dataclass_field(
        default=255,
        metadata=integers(
            1, MOST_LEVELS, "pass the steps of an input from 0 to 1, e.g. 255", 1, 7, 255
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width > 1 << 40:
            most = rounded_down(2.0**39 / self.levels, 0)
            raise fail("scale", f"at most {most}", self.scale, "lower it")

    @property
    def level_norm(self) -> Level:
        return "splits"

    @property
    def width(self) -> float:
        """The distance of two splits, in steps of the input."""
        width = 2.0 * self.scale * self.levels
        whole = round(width)
        return whole if whole >= 1 and abs(width - whole) <= 1e-12 * width else width

    @property
    def copies(self) -> int | None:
        """How many copies of an input there are; None where they are random."""
        return self.width if isinstance(self.width, int) else None

    @property
    def record(self) -> OverlapRecord:
        return OverlapRecord(self.dim, Fraction(self.width) / self.levels)

    def checked(self, x: Any) -> Values:
        values = _as_they_are(x)
        on_levels(values, self.levels)
        return values.astype(np.float32)

    def made_of(self, x: Values, dtype: str) -> Recipe:
        return Cells(on_levels(x, self.levels), self.width, self.levels, dtype)


def check_independent(noise: Noise) -> None:
    """Refuse a noise whose copies come in an order of their own, for bounds that bet on each
    value after those before it: half a round of them may lie above the mean of all."""
    if isinstance(noise, Splitting) and noise.copies is not None:
        raise UnsupportedPair(
            f"noise must make independent copies for means of scores, got {noise!r}, which goes "
            "through all of its copies: count their votes for certify_deterministic"
        )


CHANNELS: dict[str, type[Noise]] = {
    "flips": Flips,
    "sparseflips": SparseFlips,
    "ablation": Ablation,
    "uniform": Uniform,
    "splitting": Splitting,
}


def noise_from_dict(values: dict[str, Any]) -> Noise:
    """Rebuild a noise from Noise.to_dict.

    Parameters
    ----------
    values : dict

    Returns
    -------
    Noise

    Raises
    ------
    ValueError
        Unknown family, or missing, extra or illegal parameters.

    Examples
    --------
    >>> values = cc.Laplace(784, 0.5).to_dict()
    >>> cc.noise_from_dict(values)
    Laplace(dim=784, b=0.5)
    """
    if not isinstance(values, dict):
        raise fail("noise", "a dict that to_dict wrote", values, "write it with to_dict()")
    parameters = dict(values)
    families: dict[str, type[Noise]] = {**NOISES, **CHANNELS, Scaled.name: Scaled}
    family = families[choice("noise", parameters.pop("noise", None), families)]
    known = {f.name: f.default is MISSING for f in fields(family) if f.init}  # type: ignore[arg-type]
    required = {key for key, needed in known.items() if needed}
    if not required <= set(parameters) <= set(known):
        rule = f"the fields {', '.join(known)} of {family.__name__}"
        raise fail(
            "noise parameters", rule, sorted(map(str, parameters)), "write them with to_dict()"
        )
    if "base" in parameters:
        parameters["base"] = noise_from_dict(parameters["base"])
    return family(**parameters)
