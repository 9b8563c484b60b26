"""The kernels on an NVIDIA GPU: CuPy, and the CUDA text of cuda/ (see launches.py).

What is computed on the device stays there: results are CuPy arrays, and arrays of any
framework on the same device (by DLPack or __cuda_array_interface__) are read and written
where they are.  Work is put on CuPy's current stream and not waited for, but for two things:
smallest returns numbers, and a noise's table of quantiles is waited for when it is first
copied to a device.  Memory is from CuPy's pool.  float32 below 1.2e-38 is drawn as 0, as CuPy
compiles it.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import cupy
import numpy as np

from cert_core.channels import Channel, Finite, Uniform
from cert_core.errors import BackendMissing, UnsupportedPair, fail, to_numpy
from cert_core.kernels import DRAW, DTYPES, PI0, PROBES, bracket
from cert_core.kernels.gpu import copying, launches
from cert_core.kernels.integers import margins
from cert_core.kernels.reference import decide, radii
from cert_core.noises import Noise, level_record
from cert_core.quantiles import LogQuantiles
from cert_core.threats import Shift

NORMED = 1 << 26  # values of rows drawn for their norms at a time
DLPACK_CUDA = 2  # DLPack's number for this kind of device


def _check_device() -> None:
    """Refuse to be imported where nothing can run."""
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendMissing(
            f"backend 'gpu' needs an NVIDIA device and a driver as new as CuPy's CUDA ({error}): "
            "install the driver, or another cupy package, or choose backend 'cpu'"
        ) from error
    if count == 0:
        raise BackendMissing("backend 'gpu' needs an NVIDIA device, found 0: choose backend 'cpu'")


_check_device()


@lru_cache(maxsize=256)
def _kernel(file: str, macros: launches.Macros, device: int) -> Any:
    """A compiled variant (CuPy keeps it on disk too)."""
    module = cupy.RawModule(code=launches.source(file), options=launches.options(macros))
    try:
        return module.get_function("entry")
    except (RuntimeError, OSError, ImportError) as error:  # what its compiler finds is neither
        raise BackendMissing(
            f"backend 'gpu' cannot compile or load its kernels ({error}): install CUDA's compiler "
            "library (pip install nvidia-cuda-nvrtc-cu12, or nvidia-cuda-nvrtc for CUDA 13) and a "
            "driver as new, or choose backend 'cpu'"
        ) from error


@lru_cache(maxsize=256)
def _cubics(table: LogQuantiles, device: int) -> Any:
    """A table on the device, there before any stream asks."""
    cubics = cupy.asarray(table.cubics)
    cupy.cuda.get_current_stream().synchronize()
    return cubics


def _run(launch: launches.Launch, *arrays: Any) -> None:
    """Put a launch on the current stream."""
    device = cupy.cuda.runtime.getDevice()
    for array in arrays:
        if isinstance(array, cupy.ndarray) and array.device.id != device:
            rule = f"arrays on the current device, {device}"
            raise fail("arguments", rule, array.device.id, "choose it with cupy.cuda.Device(id)")
    arguments = tuple(
        _cubics(a, device) if isinstance(a, LogQuantiles) else a for a in launch.arguments
    )
    kernel = _kernel(launch.file, launch.macros, device)
    kernel((launch.grid,), (launches.THREADS,), (*arguments, *arrays))


def _empty(shape: tuple[int, ...], dtype: Any) -> Any:
    try:
        return cupy.empty(shape, dtype)
    except cupy.cuda.memory.OutOfMemoryError as error:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        raise MemoryError(
            f"{size} bytes of device memory were asked for, for an array of shape {shape}, and "
            "are not free: draw fewer samples at a time"
        ) from error


def _shared(value: Any) -> Any:
    """value as a CuPy array in its own memory; None where that is not on a device."""
    if isinstance(value, cupy.ndarray):
        return value
    if hasattr(value, "__dlpack_device__"):
        return cupy.from_dlpack(value) if value.__dlpack_device__()[0] == DLPACK_CUDA else None
    return cupy.asarray(value) if hasattr(value, "__cuda_array_interface__") else None


def given(name: str, value: Any, dtype: str | None = None) -> Any:
    """See kernels.Backend; copied if it is on the host."""
    value = value.detach() if hasattr(value, "detach") else value
    array = _shared(value)
    if array is None:
        array = cupy.asarray(to_numpy(name, value))
    return cupy.ascontiguousarray(array, dtype=dtype)


def _on_host(center: Any) -> Any:
    """A center where recipes are made."""
    array = _shared(center)
    return center if array is None else array.get()


def add(out: Any, center: Any) -> None:
    """Add a center of float64 to rows on the device, in their own memory."""
    array = _shared(out)
    array[...] = array.astype("float64") + cupy.asarray(center)


def _aligned(array: Any) -> bool:
    """Whether memory begins where 16 bytes are read or written at once; a null pointer does."""
    if not isinstance(array, cupy.ndarray):
        return True
    return bool(array.__cuda_array_interface__["data"][0] % launches.ALIGNED == 0)


def _output(out: Any, shape: tuple[int, int], dtype: str) -> Any:
    """What to write: out itself where it is on the device, else a new array."""
    if out is None:
        return _empty(shape, dtype)
    have = tuple(getattr(out, "shape", ())), str(getattr(out, "dtype", type(out).__name__))
    array = _empty(shape, dtype) if isinstance(out, np.ndarray) else None
    if array is None and have[0] == shape:
        array = _shared(out)
    fits = have[0] == shape and have[1].removeprefix("torch.") == dtype
    if array is None or not fits or not array.flags.c_contiguous:
        raise fail(
            "out", f"a contiguous array of shape {shape} and {dtype}, of NumPy or on the device",
            have, "match it",
        )  # fmt: skip
    return array


def draw(
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
    """See cert_core.kernels; returns a CuPy array, or out, which may be an array of NumPy (that
    is waited for) or of any framework on the current device (that is not)."""
    array = _output(out, (n, noise.dim), dtype)
    if isinstance(noise, Channel):
        copied = noise.recipe(_on_host(center), dtype)
        if n > 0:
            launch, parts = copying.copies(noise, copied, n, start, seed, stream, dtype)
            _run(launch, *map(cupy.asarray, parts), array)
    elif n > 0:
        _add_noise(array, noise, n, start, seed, stream, center, dtype)
    if isinstance(out, np.ndarray):
        out[...] = array.get()
    return array if out is None else out


def _add_noise(
    array: Any, noise: Noise, n: int, start: int, key: int, stream: int, center: Any, dtype: str
) -> None:
    """Write noise, added to a center where there is one, to the rows of an array."""
    middle = center if center is not None and noise.stretch is None else np.uint64(0)
    if isinstance(noise, Uniform):
        _run(copying.cube(noise, n, start, key, stream, dtype), middle, array)
        return
    aligned = _aligned(middle) and _aligned(array)
    launch = launches.draw(noise, n, start, key, stream, dtype, aligned=aligned)
    _run(launch, middle, array)
    if noise.stretch is not None:
        array *= cupy.asarray(noise.stretch)
        if center is not None:
            array += center


def draw_lattice(
    noise: Noise,
    n: int,
    seed: int,
    lattice: Any,
    *,
    start: int = 0,
    center: Any = None,
    out: Any = None,
    stream: int = DRAW,
) -> Any:
    """See cert_core.kernels; integers as of draw, FAILs as an array of NumPy, which is waited
    for: the host draws the rows that the device leaves undecided."""
    if isinstance(noise, Finite):
        raise UnsupportedPair(f"backend must be 'cpu' or 'reference' for {noise!r}, got 'gpu'")
    array, failed = _output(out, (n, noise.dim), "int32"), np.zeros(n, dtype=bool)
    if n > 0:
        middle = np.uint64(0) if center is None else cupy.asarray(center)
        kind, scale = launches.direction(noise)
        known = np.zeros((2, n)) if scale is not None else radii(noise, n, seed, start, stream)
        radius, relative = (cupy.asarray(values) for values in known)
        undecided = _empty((n,), "uint8")
        launch = launches.lattice(noise, n, start, seed, stream, margins(noise, kind, lattice))
        _run(launch, radius, relative, middle, array, undecided)
        rows = np.flatnonzero(undecided.get())
        drawn, samples = (
            np.empty((len(rows), noise.dim), np.int32),
            np.uint64(start) + rows.astype(np.uint64),
        )
        failed[rows] = decide(
            noise, seed, lattice, samples, center, stream, drawn, np.arange(len(rows))
        )
        if len(rows):
            array[cupy.asarray(rows)] = cupy.asarray(drawn)
    if isinstance(out, np.ndarray):
        out[...] = array.get()
    return array if out is None else out, failed


def write_values(lattice: Any, integers: Any, out: Any) -> None:
    """See cert_core.kernels; rows on the device are written in their own memory."""
    values, array = lattice.values(integers, "float32"), _shared(out)
    if array is None:
        out[...] = values.get()
    else:
        array[...] = values


def log_ratio(noise: Noise, z: Any, shift: Shift) -> Any:
    """See cert_core.kernels; z on the device is read there, the result is a CuPy array."""
    dtype = str(z.dtype) if str(z.dtype) in DTYPES else "float64"
    if noise.stretch is not None:
        z, dtype = z / cupy.asarray(noise.stretch), "float64"
    rows = cupy.ascontiguousarray(z, dtype=dtype)
    result = _empty((len(rows),), "float64")
    if shift.size == 0:
        result.fill(0.0)
    elif len(rows) > 0:
        _run(launches.given_ratios(noise, shift, len(rows), dtype), rows, result)
    return result


def draw_log_ratio(
    noise: Noise, shift: Shift, n: int, seed: int, *, start: int = 0, stream: int = PI0
) -> Any:
    """See cert_core.kernels; a CuPy array."""
    shape = noise.geometry(shift.kind)
    result = _empty((n,), "float64")
    if shift.size == 0:
        result.fill(0.0)
    elif n > 0 and shape == "open":
        _run(launches.open_ratios(noise, shift, n, start, seed, stream), result)
    elif n > 0:
        _run(launches.closed_ratios(noise, shift, shape, n, start, seed, stream), result)
    return result


def norms(noise: Noise, n: int, seed: int, *, start: int = 0, stream: int = DRAW) -> Any:
    """See cert_core.kernels; a CuPy array."""
    record, result = level_record(noise), _empty((n,), "float64")
    if record.coordinate_scale is None:
        if n > 0:
            _run(launches.radii(noise, n, start, seed, stream), result)
        return result
    rows = max(1, NORMED // noise.dim)
    for low in range(0, n, rows):
        part = result[low : low + rows]
        z = draw(noise, len(part), seed, start=start + low, stream=stream).astype("float64")
        if noise.stretch is not None:
            z /= cupy.asarray(noise.stretch)
        part[...] = abs(z).sum(axis=1) if record.norm == 1.0 else (z * z).sum(axis=1) ** 0.5
    return result


def smallest(values: Any, m: Any) -> tuple[Any, Any]:
    """See kernels.Backend: a selection on the device for a few m of many values, one sort else;
    the values are not copied to the host."""
    few = m.size <= 4 and values.size > 64 * PROBES
    return (_selected if few else _sorted)(values, m)


def _sorted(sample: Any, m: Any) -> tuple[Any, Any]:
    """(the m-th smallest, the sum of exp over the m smallest) for each m, by a sort."""
    ordered = cupy.sort(sample)
    sums = cupy.cumsum(cupy.exp(ordered))
    places = cupy.asarray(m - 1)
    return ordered[places].get(), sums[places].get()


def _selected(sample: Any, m: Any) -> tuple[Any, Any]:
    """The same by a bracket from equally spaced probes, one pass, and a sort of the bracket."""
    found = [_one_smallest(sample, int(place)) for place in m.flat]
    order, sums = zip(*found, strict=True)
    return np.array(order), np.array(sums)


def _one_smallest(sample: Any, m: int) -> tuple[float, float]:
    n = sample.size
    low, high = bracket(cupy.sort(sample[:: n // PROBES]).get(), m, n)
    launch = launches.split_values(n, low, high, n // 8)
    inside, kept = _empty((n // 8,), "float64"), cupy.zeros(1, "uint64")
    counts, sums = _empty((launch.grid,), "int64"), _empty((launch.grid,), "float64")
    _run(launch, sample, inside, kept, counts, sums)
    below, size = int(counts.sum()), int(kept.get()[0])
    if size > inside.size or not below < m <= below + size:  # an unlucky order, or many ties
        order, total = _sorted(sample, np.array([m]))
        return float(order[0]), float(total[0])
    chosen = cupy.sort(inside[:size])[: m - below]
    return float(chosen[-1].get()), float(sums.sum()) + float(cupy.exp(chosen).sum())
