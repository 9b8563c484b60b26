"""The kernels that draw: one contract, several backends.

What every caller gets is Kernels, a backend behind the checks of its arguments:

draw(noise, n, seed, *, start=0, center=None, out=None, dtype="float32", stream=DRAW)
    (n, dim) noise, added to `center`; rows are samples start .. start + n - 1.  Stretched
    noise is its base noise, times the scales, rounded, and then added.  Noises that add
    nothing make copies of `center`, which must be given (see copies).
log_ratio(noise, z, shift)
    (n,) float64: log pi0(z - delta) - log pi0(z) for the rows of z; the shift of stretched
    noise is that of z/scales.
draw_log_ratio(noise, shift, n, seed, *, start=0, stream=PI0)
    (n,) float64 draws of the log ratio under pi0, never holding (n, dim); O(1) a draw
    where the law of |z - delta| given |z| is closed, O(dim) otherwise.
norms(noise, n, seed, *, start=0, stream=DRAW)
    (n,) float64: |z| of what draw draws in float32, in the norm whose balls are the noise's
    level sets (of z/scales, for stretched noise); O(1) a draw where the radius is drawn first,
    and O(dim) where coordinates are independent.
draw_lattice(noise, n, seed, lattice, *, start=0, center=None, out=None, stream=DRAW)
    ((n, dim) int32, (n,) bool): floor(z/h + 1/2) of the float64 draws, added to a center of
    integers, and which rows FAIL (see integers).  Where no FAIL is, the integers are those of the
    ideal noise that begins with the words drawn: the same on every backend and machine.  Where
    one is, they are any.  On one machine all backends FAIL the same rows, those of the
    reference, to which they give what they cannot decide; another machine's mathematical library
    may move a row whose margin is within rounding of the bound to the other side, which the
    bound allows.
write_values(lattice, integers, out)
    lattice.values of integers that the backend drew, into rows of float32.
hinge_bound(log_ratio, p, alpha, sides=2)
    The Monte-Carlo lower bound of Section 4.2 in closed form.

A backend is a folder or module that satisfies Backend, and a line of BACKENDS: "reference"
(NumPy, the definition), "cpu" (Numba), "gpu" (CuPy).  They draw the same words and agree to
rounding.  What "gpu" returns stays on the device, as CuPy arrays, but for what it writes into
an `out` of somebody else, and for bounds, which are numbers.

Random numbers.  Philox4x32-10 (Salmon et al. 2011) with key = the 64-bit seed and
counter = (sample index low, high, block, stream).  Sample i is the same whatever the
batch, the thread, the worker or the start.  Streams keep apart what must not share a
sample: selection and estimation votes, the two noise-side samples and their pilot,
plain draws; each has two parts, coordinates and row quantities.  Every input of a data
set has its own key, input_seed(seed, index).

Layout of a row.  Tiles of 256 blocks.  float32: a tile has up to 1024 coordinates; in
one of c coordinates block j (of m = ceil(c/4)) gives word w to coordinate j + w m.
float64: up to 512, two words a value, m = ceil(c/2).  Uniforms keep 40 bits (float32)
or 53 (float64) towards 0: what is cut off a tail has mass 2^-40 (2^-53) a coordinate.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from cert_core.channels import Channel
from cert_core.errors import (
    EXACT,
    BackendMissing,
    choice,
    fail,
    integer,
    probabilities,
    scalar,
    size,
    to_numpy,
)
from cert_core.errors import alpha as alpha_value
from cert_core.errors import seed as seed_value
from cert_core.lattice import MOST, Integers, Lattice, checked_lattice
from cert_core.noises import Noise, level_record
from cert_core.rounding import in_full
from cert_core.threats import Shift

BLOCKS = 256  # in a tile

# Where a backend stands; imported when first asked for.
BACKENDS = {
    "reference": "cert_core.kernels.reference",
    "cpu": "cert_core.kernels.cpu.backend",
    "gpu": "cert_core.kernels.gpu.backend",
}

# What a backend needs, and how it is called where one installs it.
PACKAGES = {"cpu": ("numba", "numba"), "gpu": ("cupy", "cupy-cuda13x (or cupy-cuda12x)")}

# Purposes, times two; the odd number after each is its row quantities.
SELECTION, ESTIMATION, PI0, PI_DELTA, PILOT, DRAW, OFFSETS = range(0, 14, 2)

STAGES = {"selection": SELECTION, "estimation": ESTIMATION}

DTYPES = ("float32", "float64")

NORMAL, EXPONENTIAL, UNIFORM, TRUNCATED = range(4)  # kinds of coordinates
KINDS = {2.0: NORMAL, 1.0: EXPONENTIAL, math.inf: UNIFORM}  # of a radial noise, by its norm
SHAPES = {"sphere": 0, "cone": 1, "edge": 2}  # closed geometries of a shift

PROBES = 1 << 14  # a bracket from so many holds about 1/32 of the values
HIGHEST = 709.0  # exp of more overflows


class Backend(Protocol):
    """What a backend is: these functions, of arguments that Kernels has checked.

    Arrays are of the backend's own kind, as `given` makes them; n, start and seed are ints.
    """

    def given(self, name: str, value: Any, dtype: str | None = None) -> Any:
        """value as a contiguous array where the backend reads it; of this type, or its own."""

    def add(self, out: Any, center: Any) -> None:
        """Add a center of float64 to rows that the backend drew: each sum is rounded once."""

    def draw(
        self,
        noise: Noise,
        n: int,
        seed: int,
        *,
        start: int,
        center: Any,
        out: Any,
        dtype: str,
        stream: int,
    ) -> Any:
        """(n, dim) rows, in out where there is one: what it may be is the backend's to check."""

    def draw_lattice(
        self,
        noise: Noise,
        n: int,
        seed: int,
        lattice: Lattice,
        *,
        start: int,
        center: Any,
        out: Any,
        stream: int,
    ) -> tuple[Any, Any]:
        """((n, dim) integers, center of NumPy's added; (n,) which FAIL, of NumPy)."""

    def write_values(self, lattice: Lattice, integers: Any, out: Any) -> None:
        """lattice.values of integers that the backend drew, into rows of float32."""

    def log_ratio(self, noise: Noise, z: Any, shift: Shift) -> Any:
        """(n,) log ratios of rows, or zeros for no shift."""

    def draw_log_ratio(
        self, noise: Noise, shift: Shift, n: int, seed: int, *, start: int, stream: int
    ) -> Any:
        """(n,) log ratios of draws, or zeros for no shift."""

    def norms(self, noise: Noise, n: int, seed: int, *, start: int, stream: int) -> Any:
        """(n,) norms of draws of a radial noise."""

    def smallest(self, values: Any, m: Any) -> tuple[Any, Any]:
        """(the m-th smallest, the sum of exp over the m smallest) for each m >= 1 of a vector."""


if TYPE_CHECKING:
    from cert_core.kernels import reference as _reference
    from cert_core.kernels.cpu import backend as _cpu
    from cert_core.kernels.gpu import backend as _gpu

    _satisfies: Backend = _reference
    _satisfies = _cpu
    _satisfies = _gpu


@dataclass(frozen=True)
class Kernels:
    """The contract: a backend of this name behind the checks of its arguments."""

    name: str
    module: Backend

    def draw(
        self,
        noise: Noise,
        n: int,
        seed: int,
        *,
        start: int = 0,
        center: Any = None,
        out: Any = None,
        dtype: str = "float32",
        stream: int = DRAW,
    ) -> Any:
        """See the head of this module."""
        n, start = span(n, start)
        dtype, key = choice("dtype", dtype, DTYPES), seed_value(seed)
        if center is not None and not isinstance(noise, Channel):
            center = self.module.given("center", center, dtype)
            if center.size != noise.dim:
                rule = f"an array of {noise.dim} values"
                raise fail("center", rule, center.shape, "pass one input")
            center = center.reshape(noise.dim)
        return self.module.draw(
            noise, n, key, start=start, center=center, out=out, dtype=dtype, stream=stream
        )

    def draw_lattice(
        self,
        noise: Noise,
        n: int,
        seed: int,
        lattice: Lattice,
        *,
        start: int = 0,
        center: Any = None,
        out: Any = None,
        stream: int = DRAW,
    ) -> tuple[Any, Any]:
        """See the head of this module."""
        n, start = span(n, start)
        key, noise = seed_value(seed), checked_lattice("lattice", lattice).checked(noise)
        middle = None if center is None else _whole_center(center, noise.dim)
        return self.module.draw_lattice(
            noise, n, key, lattice, start=start, center=middle, out=out, stream=stream
        )

    def write_values(self, lattice: Lattice, integers: Any, out: Any) -> None:
        """See the head of this module."""
        self.module.write_values(lattice, integers, out)

    def log_ratio(self, noise: Noise, z: Any, shift: Shift) -> Any:
        """See the head of this module."""
        rows = self.module.given("z", z)
        if rows.ndim != 2 or rows.shape[1] != noise.dim:
            rule, remedy = f"of shape (n, {noise.dim})", "flatten each input to one row"
            raise fail("z", rule, rows.shape, remedy)
        return self.module.log_ratio(noise, rows, shift)

    def draw_log_ratio(
        self, noise: Noise, shift: Shift, n: int, seed: int, *, start: int = 0, stream: int = PI0
    ) -> Any:
        """See the head of this module."""
        n, start = span(n, start)
        return self.module.draw_log_ratio(
            noise, shift, n, seed_value(seed), start=start, stream=stream
        )

    def norms(self, noise: Noise, n: int, seed: int, *, start: int = 0, stream: int = DRAW) -> Any:
        """See the head of this module."""
        level_record(noise)
        n, start = span(n, start)
        return self.module.norms(noise, n, seed_value(seed), start=start, stream=stream)

    def hinge_bound(self, log_ratio: Any, p: Any, alpha: float, sides: int = 2) -> Any:
        """Bound L(p) from below by draws of the log ratio.

        lam p - mean (lam - W_i)_+ - lam eps is concave and piecewise linear in lam with its
        maximum at the order statistic W_(m), m = ceil(n (p - eps)).  By the
        Dvoretzky-Kiefer-Wolfowitz-Massart inequality it is below L(p) with probability
        1 - alpha for all lam and all p at once, at one shift.
        """
        points, level = probabilities("p", p), alpha_value(alpha)
        sample = self.module.given("log_ratio", log_ratio, "float64")
        remedy = "pass draws of the log ratio under the unshifted noise"
        if sample.ndim != 1 or sample.size == 0:
            raise fail("log_ratio", "a non-empty vector", sample.shape, remedy)
        legal = sample < HIGHEST
        if not bool(legal.all()):
            rule = f"below {in_full(HIGHEST)}, as the exponentials average to 1"
            raise fail("log_ratio", rule, float(sample[~legal][0]), remedy)
        n = sample.size
        shares = points.ravel() - hinge_width(n, level, sides)
        m = np.clip(np.ceil(n * shares).astype(np.int64), 1, n)
        order, sums = self.module.smallest(sample, m)
        value = np.clip(np.exp(order) * (shares - m / n) + sums / n, 0.0, points.ravel())
        return scalar(np.where(shares > 0, value, 0.0).reshape(points.shape))


def _whole_center(center: Any, dim: int) -> Integers:
    """center, one input in steps, as int32."""
    remedy = "pass lattice.integers(x) of one input"
    given = to_numpy("center", center)
    if given.dtype.kind not in "iu":
        raise fail("center", "integers, in steps of the lattice", str(given.dtype), remedy)
    if given.size != dim:
        raise fail("center", f"an array of {dim} integers", given.shape, remedy)
    if given.size and max(-int(given.min()), int(given.max())) >= MOST:
        raise fail("center", "integers below 2^30", int(given.flat[0]), remedy)
    return np.ascontiguousarray(given.reshape(dim).astype(np.int32))


def hinge_width(n: int, alpha: float, sides: int) -> float:
    """eps of n draws: the paper bounds the empirical law on both sides, one is needed."""
    return math.sqrt((math.log(sides) - math.log(alpha)) / (2 * n))


def backend(name: str) -> Kernels:
    """Import a backend by name.

    Raises
    ------
    BackendMissing
        Its package is not installed, or there is no device.
    """
    name = choice("backend", name, BACKENDS)
    try:
        return Kernels(name, importlib.import_module(BACKENDS[name]))
    except ModuleNotFoundError as error:
        package, command = PACKAGES.get(name, (name, name))
        raise BackendMissing(
            f"backend {name!r} needs {package}, which is not installed: "
            f"pip install {command}, or choose backend 'reference'"
        ) from error


def placed(name: str, center: Any) -> Any:
    """A center where the backend adds it without a copy, for many draws."""
    return backend(name).module.given("center", center, "float32")


def add(name: str, out: Any, center: Any) -> None:
    """Add a center of float64 to rows that the backend drew, on the host or where it draws."""
    backend("reference" if isinstance(out, np.ndarray) else name).module.add(out, center)


def stream_of(stage: str) -> int:
    """The stream of a stage of certification."""
    return STAGES[choice("stage", stage, STAGES)]


def input_seed(seed: Any, index: Any) -> int:
    """The key of one input of a data set: injective in (seed, index), both below 2^32."""
    remedy = "seeds and indices of a run are 32-bit unsigned integers"
    high = integer("seed", seed, 0, 2**32 - 1, remedy=remedy)
    return high << 32 | integer("index", index, 0, 2**32 - 1, remedy=remedy)


def bracket(probes: Any, m: int, n: int) -> tuple[float, float]:
    """[low, high) that holds the m-th smallest of n values, of which the sorted probes are a
    sample, but for a chance of 1e-4."""
    size = probes.size
    center, reach = m / n * size, 2 * math.sqrt(size)  # four standard deviations
    first, last = (min(max(int(end), 0), size - 1) for end in (center - reach, center + reach))
    low = -math.inf if first == 0 else float(probes[first])
    high = math.inf if last == size - 1 else math.nextafter(float(probes[last]), math.inf)
    return low, high


def span(n: Any, start: Any) -> tuple[int, int]:
    """(n, start): the samples start, ..., start + n - 1 exist."""
    n = size("n", n, 0, EXACT, remedy="pass how many samples to draw")
    remedy = "pass the first sample's index"
    return n, integer("start", start, 0, 2**64 - 1 - n, remedy=remedy)
