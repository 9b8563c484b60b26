"""The kernels that draw: one contract, several backends.

A backend is a module with these six functions, same names and order everywhere:

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
hinge_bound(log_ratio, p, alpha)
    The Monte-Carlo lower bound of Section 4.2 in closed form (see reference).

Backends: "reference" (NumPy, the definition), "cpu" (Numba), "gpu" (CuPy).  They draw
the same words and agree to rounding.  What "gpu" returns stays on the device, as CuPy arrays,
but for what it writes into an `out` of somebody else, and for bounds, which are numbers.

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
from types import ModuleType
from typing import Any

import numpy as np

from cert_core.errors import EXACT, BackendMissing, choice, fail, integer, size, to_numpy

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


def backend(name: str) -> ModuleType:
    """Import a backend by name.

    Raises
    ------
    BackendMissing
        Its package is not installed, or there is no device.
    """
    name = choice("backend", name, BACKENDS)
    try:
        return importlib.import_module(BACKENDS[name])
    except ModuleNotFoundError as error:
        package, command = PACKAGES.get(name, (name, name))
        raise BackendMissing(
            f"backend {name!r} needs {package}, which is not installed: "
            f"pip install {command}, or choose backend 'reference'"
        ) from error


def placed(name: str, center: Any) -> Any:
    """A center where the backend adds it without a copy, for many draws."""
    place = getattr(backend(name), "place", None)
    return center if place is None else place(center)


def add(name: str, out: Any, center: Any) -> None:
    """Add a center of float64 to rows that the backend drew: each sum is rounded once."""
    if isinstance(out, np.ndarray):
        np.add(out, center, out=out, casting="same_kind")
    else:
        backend(name).add(out, center)


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


def one_input(center: Any, dim: int, dtype: str) -> np.ndarray[Any, np.dtype[np.floating[Any]]]:
    """center as a contiguous vector."""
    values = to_numpy("center", center, np.dtype(dtype))
    if values.size != dim:
        raise fail("center", f"an array of {dim} values", values.shape, "pass one input")
    return np.ascontiguousarray(values.reshape(dim))


def output_array(
    out: Any, shape: tuple[int, int], dtype: str
) -> np.ndarray[Any, np.dtype[np.floating[Any]]]:
    """out checked against what draw will write, or a new array."""
    dtype = choice("dtype", dtype, DTYPES)
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != dtype:
        have = getattr(out, "shape", None), str(getattr(out, "dtype", type(out).__name__))
        raise ValueError(f"out must be an array of shape {shape} and {dtype}, got {have}: match it")
    if not (out.flags.c_contiguous and out.flags.writeable):
        rule, remedy = "contiguous and writeable", "pass a plain array, and copy from it"
        raise fail("out", rule, "a strided or read-only view", remedy)
    return out
