"""The GPU backend without a GPU: its formulas on the host, its kernels run by an emulator
and compiled by NVRTC, its Python behind a stand-in for CuPy."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
import tomllib
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from core import emulated, nvrtc
from core.test_copies import ALL, whole
from core.test_kernels import OnHost

import cert_core as cc
from cert_core import kernels
from cert_core.kernels import reference
from cert_core.kernels.cpu import backend as cpu
from cert_core.kernels.gpu import copying, launches
from cert_core.kernels.integers import Margins
from cert_core.native import drawing
from cert_core.quantiles import cosine_quantiles
from cert_core.threats import Shift

ROOT = Path(__file__).parent.parent.parent
KINDS = ("normal", "exponential", "uniform", "truncated")
FAMILIES = [
    cc.Gaussian(1, 0.5), cc.Gaussian(784, 2.0), cc.L2Noise(1, 1.0, 0.4), cc.L2Noise(64, 0.25, 63.9),
    cc.L2Noise(4100, 1.0, 9.0), cc.L2Noise(4112, 1.0, 9.0), cc.L1Noise(1024, 1.0, 9.0),
    cc.LinfNoise(2048, 1.0, 9.0), cc.Gaussian(2048, 1.0), cc.MixedNoise(1024, 1.0),
    cc.Laplace(3, 1.0), cc.Laplace(1100, 1.0), cc.L1Noise(64, 1.3, 2.0),
    cc.L1Noise(784, 1.0, 10.0), cc.L1Noise(4100, 1.0, 9.0), cc.LinfNoise(3, 1.1, 1.5),
    cc.LinfNoise(1100, 1.0, 100.0), cc.MixedNoise(1, 0.8, 0.3), cc.MixedNoise(3, 0.8, 2.5),
    cc.MixedNoise(64, 0.8), cc.MixedNoise(1100, 1.0, 590.0), cc.RadialNoise(9, math.inf, 1.0, 1.0),
    cc.L1Noise(64, 1.3, 2.0).scaled(np.geomspace(0.1, 30.0, 64)),
]  # fmt: skip
IDS = [f"{n.name}-{n.dim}" for n in FAMILIES]
NORMED = [noise for noise in FAMILIES if noise.radial is not None]
DEFINITION = kernels.backend("reference")
START = 2**32 - 9


# ---- the header's functions ----


def blocks(n: int) -> Any:
    """Random blocks of words, and the extreme ones."""
    words = np.random.default_rng(5).integers(0, 2**32, (n, 4), dtype=np.uint32)
    words[0], words[1], words[2], words[3] = 0, 2**32 - 1, 1, [2**32 - 1, 0, 2**31, 2**30]
    return words


def test_words_of_the_header() -> None:
    for i, key in enumerate((0, 2**64 - 1, 0x299F31D0A4093822, 7)):
        for counter in blocks(50).tolist():
            got = drawing.philox(counter, key + (i == 3) * counter[0])
            expected = reference.philox(counter, key + (i == 3) * counter[0])
            assert got == [int(word) for word in expected]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("rho", [1e-3, 1.0, 3.6, 9.0])
def test_coordinates_of_the_header(kind: str, wide: bool, rho: float) -> None:
    from scipy import special

    words = blocks(4000)
    bounds = special.erf(rho / math.sqrt(2)), special.erfc(rho / math.sqrt(2)), rho
    got = drawing.coordinates(KINDS.index(kind), words, wide, bounds)
    columns = [words[:, i].astype(np.uint64) for i in range(4)]
    expected = np.stack(reference._coordinates(kind, columns, wide, np.array(rho)), axis=1)
    error = np.abs(got - expected) / np.maximum(np.abs(expected), 1.0)
    assert error.max() < 1.2e-6
    assert error[1:].max() < (2e-14 if wide else 1.2e-6)  # block 0: a tail of 2^-54
    np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))


def test_row_quantities_of_the_header() -> None:
    for start, key in ((0, 3), (START, 2**64 - 1), (2**64 - 60, 11)):
        normals = reference.row_normals(50, key, start, 4)
        uniforms = reference.row_uniforms(50, key, start, 4)
        for i in range(50):
            got = drawing.row_quantities(start + i, 4, key)
            np.testing.assert_allclose(got[:2], [x[i] for x in normals], rtol=1e-14, atol=1e-15)
            assert got[2:] == tuple(float(x[i]) for x in uniforms)


@pytest.mark.parametrize("dim", [2, 64, 3072])
@pytest.mark.parametrize("r", [1e-6, 0.5, 40.0])
def test_changes_of_the_header(dim: int, r: float) -> None:
    rng = np.random.default_rng(dim)
    s, u, v = rng.gamma(2.0, 10.0, 300), rng.random(300), rng.random(300)
    sign, artanh = rng.integers(0, 2, 300), cosine_quantiles(dim)(rng.normal(size=300))
    u[:150] /= dim  # the edge's rare branches
    cases: list[tuple[str, Any, Any]] = [
        ("sphere", reference._sphere_change(s, r, artanh), artanh),
        ("cone", reference._cone_change(s, r, u, sign, dim), u),
        ("edge", reference._edge_change(s, r, u, v, dim), u),
    ]
    for shape, expected, first in cases:
        got = [
            drawing.change(shape, *row)
            for row in zip(s, [r] * 300, [dim] * 300, first, v, sign.tolist(), strict=True)
        ]
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13 * r)


# ---- the kernels, emulated ----


def variants() -> set[tuple[str, launches.Macros]]:
    """Every kernel that the families below ask for."""
    found: list[Any] = [launches.split_values(9, 0.0, 1.0, 9)]
    for noise in FAMILIES:
        found.append(launches.radii(noise, 5, 0, 0, 0))
        if noise.stretch is None:
            found.append(launches.lattice(noise, 5, 0, 0, 0, Margins(1, 0.0, 1.0)))
        for dtype in kernels.DTYPES:
            found += [launches.draw(noise, 5, 0, 0, 0, dtype, aligned=a) for a in (False, True)]
            for shift in (Shift("axis", 1.0, True, ""), Shift("diagonal", 1.0, True, "")):
                found.append(launches.given_ratios(noise, shift, 5, dtype))
                shape = noise.geometry(shift.kind)
                ask = (5, 0, 0, 0)
                found.append(
                    launches.open_ratios(noise, shift, *ask)
                    if shape == "open"
                    else launches.closed_ratios(noise, shift, shape, *ask)
                )
    for noise in ALL:
        for dtype in kernels.DTYPES:
            if isinstance(noise, cc.Uniform):
                found.append(copying.cube(noise, 5, 0, 0, 0, dtype))
            else:
                copied = noise.recipe(whole(noise), dtype)
                found.append(copying.copies(noise, copied, 5, 0, 0, 0, dtype)[0])
    return {(launch.file, launch.macros) for launch in found}


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> emulated.Emulator:
    if emulated.COMPILER is None:
        pytest.skip("no g++ to compile the emulated kernels")
    return emulated.Emulator(sorted(variants(), key=repr), tmp_path_factory.mktemp("emulator"))


@pytest.fixture
def gpu(emulator: emulated.Emulator, monkeypatch: pytest.MonkeyPatch) -> Any:
    """kernels.gpu, CuPy being a stand-in."""
    monkeypatch.setitem(sys.modules, "cupy", emulated.stand_in(emulator))
    monkeypatch.delitem(sys.modules, "cert_core.kernels.gpu.backend", raising=False)
    monkeypatch.setattr(emulator, "backwards", False)
    yield importlib.import_module("cert_core.kernels.gpu.backend")
    sys.modules.pop("cert_core.kernels.gpu.backend")
    vars(kernels).pop("gpu", None)


@pytest.fixture
def host(gpu: Any) -> OnHost:
    """The same, its results copied to the host."""
    return OnHost(kernels.backend("gpu"))


@pytest.mark.parametrize("dtype", kernels.DTYPES)
@pytest.mark.parametrize("noise", FAMILIES, ids=IDS)
def test_emulated_rows(host: Any, emulator: Any, noise: cc.Noise, dtype: str) -> None:
    """Those of the reference and of the CPU to rounding, in whatever order the threads run."""
    n, options = 2 + 1500 // noise.dim, {"start": START, "dtype": dtype}
    rows = host.draw(noise, n, 5, **options)
    expected, ours = reference.draw(noise, n, 5, **options), cpu.draw(noise, n, 5, **options)
    size = np.abs(expected).max(axis=1, keepdims=True)
    if noise.radial is not None:  # independent coordinates err by shares of their scale
        size += noise.radial.coordinate_scale or 0.0
    single = dtype == "float32"
    for others in (expected, ours):
        assert (np.abs(rows - others) / size).max() < (4e-7 if single else 1e-13)
    emulator.backwards = True
    center = np.linspace(0, 1, noise.dim).astype(dtype)
    np.testing.assert_array_equal(host.draw(noise, n, 5, center=center, **options), center + rows)


@pytest.mark.parametrize("noise", [n for n in FAMILIES if n.stretch is None], ids=IDS[:-1])
@pytest.mark.parametrize("step", ["1/255", "1/65536"])
def test_emulated_integers(gpu: Any, emulator: Any, noise: cc.Noise, step: str) -> None:
    """Bit by bit those of the reference, FAILs as well, whatever the order of the threads."""
    lattice, n = cc.Lattice(step), 2 + 3000 // noise.dim
    center = np.random.default_rng(0).integers(-500, 500, noise.dim)
    options: dict[str, Any] = {"start": START, "center": center}
    expected, fails = reference.draw_lattice(noise, n, 5, lattice, **options)
    device = kernels.backend("gpu")
    for emulator.backwards in (False, True):
        whole, failed = device.draw_lattice(noise, n, 5, lattice, **options)
        np.testing.assert_array_equal(whole.get(), expected)
        np.testing.assert_array_equal(failed, fails)
    out = np.zeros((n, noise.dim), np.int32)
    assert device.draw_lattice(noise, n, 5, lattice, out=out, **options)[0] is out
    np.testing.assert_array_equal(out, expected)


def test_emulated_margins_leave_few_rows_undecided(
    gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device's own integers are nearly all: else the comparison above were idle."""
    asked: list[int] = []

    def decide(*place: Any) -> Any:
        asked.append(len(place[-1]))
        return reference.decide(*place)

    monkeypatch.setattr(gpu, "decide", decide)
    for noise in (cc.Gaussian(64, 0.5), cc.L2Noise(64, 0.5, 9.0), cc.MixedNoise(64, 0.5, 9.0)):
        kernels.backend("gpu").draw_lattice(noise, 500, 1, cc.Lattice("1/255"))
    assert sum(asked) < 10


def test_emulated_rows_of_zeros(host: Any) -> None:
    """A row whose uniforms all round to 1 is drawn to its radius, as by the reference."""
    for noise in (cc.L2Noise(1, 1.0, 0.4), cc.L1Noise(1, 1.0, 0.4), cc.L2Noise(2, 1.0, 0.4)):
        rows = host.draw(noise, 3, 1, start=35557408)
        np.testing.assert_allclose(rows, reference.draw(noise, 3, 1, start=35557408), rtol=2e-6)
        assert np.abs(rows[1]).max() > 1e-4


@pytest.mark.parametrize("noise", FAMILIES, ids=IDS)
@pytest.mark.parametrize("kind", ["axis", "diagonal"])
def test_emulated_log_ratios(host: Any, emulator: Any, noise: cc.Noise, kind: Any) -> None:
    for size in (1e-3, 0.6, 4.0):
        shift, n = Shift(kind, size, True, ""), 2 + 600 // noise.dim
        z = reference.draw(noise, n, 11, dtype="float64")
        expected = reference.log_ratio(noise, z, shift)
        scale = 1e-12 * (np.abs(noise.log_density(z)) + np.abs(expected) + size)
        assert (np.abs(host.log_ratio(noise, z, shift) - expected) < scale).all()
        single = z.astype(np.float32)
        given = host.log_ratio(noise, single, shift) - reference.log_ratio(noise, single, shift)
        assert (np.abs(given) < scale).all()
        emulator.backwards = not emulator.backwards
        fused = host.draw_log_ratio(noise, shift, n, 11, start=START)
        expected = reference.draw_log_ratio(noise, shift, n, 11, start=START)
        np.testing.assert_allclose(fused, expected, rtol=1e-11, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", kernels.DTYPES)
@pytest.mark.parametrize("noise", ALL, ids=str)
def test_emulated_copies(host: Any, emulator: Any, noise: cc.Noise, dtype: str) -> None:
    """Bit for bit those of the CPU, in whatever order the threads run, from any start."""
    n, options = 20 + 900 // noise.dim, {"start": 2**32 - 9, "dtype": dtype, "center": whole(noise)}
    rows, ours = host.draw(noise, n, 5, **options), cpu.draw(noise, n, 5, **options)
    assert rows.dtype == dtype
    np.testing.assert_array_equal(rows, ours)
    emulator.backwards = True
    np.testing.assert_array_equal(host.draw(noise, n, 5, **options), rows)
    assert host.draw(noise, 0, 5, **options).shape == (0, noise.dim)


@pytest.mark.parametrize("noise", [n for n in ALL if n.dim < 600], ids=str)
def test_emulated_copies_do_not_depend_on_the_grid(
    host: Any, monkeypatch: pytest.MonkeyPatch, noise: cc.Noise
) -> None:
    n, x = 300, whole(noise)
    rows = host.draw(noise, n, 7, center=x)
    np.testing.assert_array_equal(host.draw(noise, 40, 7, start=130, center=x), rows[130:170])
    monkeypatch.setattr(launches, "MOST_BLOCKS", 2)  # CUDA blocks that come back
    np.testing.assert_array_equal(host.draw(noise, n, 7, center=x), rows)


def test_centers_of_copies_on_the_device(gpu: Any) -> None:
    """Levels, placed there or another framework's; integers keep their type."""
    noise, codes = cc.Flips(9, 3, 0.5), np.arange(9) % 3
    levels = (codes / 2).astype(np.float32)
    expected = cpu.draw(noise, 6, 1, center=levels)
    for center in (levels, gpu.given("center", levels), OnDevice(levels)):
        np.testing.assert_array_equal(gpu.draw(noise, 6, 1, center=center).get(), expected)
    np.testing.assert_array_equal(gpu.draw(noise, 6, 1, center=codes).get(), 2 * expected)
    with pytest.raises(ValueError, match=r"center must be one input for Flips.*, got None"):
        gpu.draw(noise, 6, 1)
    with pytest.raises(ValueError, match=r"x must be one of the 3 levels j/2 in \[0, 1\], got 0.3"):
        gpu.draw(noise, 6, 1, center=np.full(9, 0.3))
    with pytest.raises(cc.errors.UnsupportedPair, match="noise must have a density"):
        gpu.draw_log_ratio(noise, Shift("entries", 1.0, True, ""), 5, 1)


CUT = [cc.L2Noise(64, 0.25, 63.9), cc.MixedNoise(3, 0.8, 2.5), cc.Laplace(3, 1.0)]


@pytest.mark.parametrize("noise", NORMED, ids=[f"{n.name}-{n.dim}" for n in NORMED])
def test_emulated_norms(host: Any, emulator: Any, noise: cc.Noise) -> None:
    expected = DEFINITION.norms(noise, 300, 5, start=2**40, stream=kernels.ESTIMATION)
    for emulator.backwards in (False, True):
        got = host.norms(noise, 300, 5, start=2**40, stream=kernels.ESTIMATION)
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6 * noise.rms)
    assert host.norms(noise, 0, 5).shape == (0,)


@pytest.mark.parametrize("noise", CUT, ids=[n.name for n in CUT])
def test_emulated_samples_do_not_depend_on_the_grid(
    host: Any, monkeypatch: pytest.MonkeyPatch, noise: cc.Noise
) -> None:
    shift = Shift("diagonal", 0.4, True, "")
    n = 300
    rows, ratios = host.draw(noise, n, 7), host.draw_log_ratio(noise, shift, n, 7)
    np.testing.assert_array_equal(host.draw(noise, 40, 7, start=130), rows[130:170])
    monkeypatch.setattr(launches, "SPREAD", 1)  # several rows one after the other
    assert launches.layout(n, 64, "float32")[1] > 16
    np.testing.assert_array_equal(host.draw(noise, n, 7), rows)
    monkeypatch.setattr(launches, "MOST_BLOCKS", 2)  # and CUDA blocks that come back
    np.testing.assert_array_equal(host.draw(noise, n, 7), rows)
    np.testing.assert_array_equal(host.draw_log_ratio(noise, shift, n, 7), ratios)
    if noise.name == "l2":
        monkeypatch.setattr(launches, "HELD", {"float32": 0})  # values made twice
        np.testing.assert_array_equal(host.draw(noise, n, 7), rows)


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 63, 784, 1023, 1024, 1025, 3072, 150528])
@pytest.mark.parametrize("dtype", kernels.DTYPES)
def test_layout(dim: int, dtype: str) -> None:
    slots = launches.SLOTS[dtype]
    made = slots * launches.BESIDE[dtype]
    for n in (1, 1000, 10**6, 10**10):
        width, rows, tiles = launches.layout(n, dim, dtype)
        side = launches.THREADS // width
        assert width * side == launches.THREADS
        assert width * made >= min(dim, launches.THREADS * slots) > (width // 2) * made - made
        assert rows % side == 0
        assert side <= rows <= launches.THREADS
        assert (tiles - 1) * launches.THREADS * slots < dim <= tiles * launches.THREADS * slots


@pytest.mark.parametrize("ties", [False, True])
def test_emulated_hinge_bound(gpu: Any, monkeypatch: pytest.MonkeyPatch, ties: bool) -> None:
    checked = kernels.backend("gpu")
    monkeypatch.setattr(gpu, "PROBES", 64)
    draws = np.random.default_rng(0).normal(-1.0, 1.4, 5000)
    if ties:
        draws[:4000] = -0.7  # more than the bracket has room for
    launched = gpu.cupy.RawModule.emulator.launched
    for p in (0.0, 0.3, 0.9, 0.999, 1.0, np.array([0.4, 0.95]), np.linspace(0, 1, 30)):
        expected = kernels.backend("reference").hinge_bound(draws, p, 0.01)
        np.testing.assert_allclose(
            checked.hinge_bound(draws, p, 0.01), expected, rtol=1e-12, atol=0
        )
    assert gpu.cupy.RawModule.emulator.launched > launched  # the selection was used
    for wrong, message in (
        (np.array([0.0, math.nan]), "below 709, .* got nan"),
        (np.array([0.0, math.inf]), "below 709, .* got inf"),
        (np.zeros((2, 2)), "a non-empty"),
    ):
        with pytest.raises(ValueError, match=f"log_ratio must be {message}"):
            checked.hinge_bound(wrong, 0.5, 0.01)


# ---- the Python side ----


class OnDevice:
    """An array of another framework, on the device."""

    def __init__(self, array: Any) -> None:
        self.array, self.shape, self.dtype = array, array.shape, f"torch.{array.dtype}"

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


def test_arrays_are_read_and_written_where_they_are(gpu: Any) -> None:
    checked, noise = kernels.backend("gpu"), cc.L1Noise(64, 1.3, 2.0)
    rows = checked.draw(noise, 5, 3)
    assert isinstance(rows, gpu.cupy.ndarray)
    for out in (np.zeros((5, 64), "f4"), OnDevice(np.zeros((5, 64), "f4"))):
        center = OnDevice(np.ones(64, "f4"))
        assert checked.draw(noise, 5, 3, out=out, center=center) is out
        np.testing.assert_array_equal(getattr(out, "array", out), 1 + rows.get())
    assert kernels.placed("gpu", np.ones((8, 8))).dtype == np.float32
    assert checked.draw(noise, 0, 3).shape == (0, 64)
    with pytest.raises(ValueError, match=r"out must be a contiguous array of shape \(5, 64\)"):
        checked.draw(noise, 5, 3, out=OnDevice(np.zeros((64, 5), "f4").T))
    with pytest.raises(ValueError, match=r"float32, of NumPy or on the device, got \(\(6, 64\)"):
        checked.draw(noise, 5, 3, out=np.zeros((6, 64), "f4"))
    with pytest.raises(ValueError, match="float64, of NumPy or on the device, got"):
        checked.draw(noise, 5, 3, out=OnDevice(np.zeros((5, 64), "f4")), dtype="float64")
    with pytest.raises(ValueError, match="center must be an array of 64 values"):
        checked.draw(noise, 5, 3, center=np.zeros(63))
    with pytest.raises(ValueError, match=r"z must be of shape \(n, 64\)"):
        checked.log_ratio(noise, np.zeros((3, 6)), Shift("axis", 1.0, True, ""))
    elsewhere = rows.view()
    elsewhere.device = SimpleNamespace(id=1)
    with pytest.raises(ValueError, match="arrays on the current device, 0, got 1"):
        checked.log_ratio(noise, elsewhere, Shift("axis", 1.0, True, ""))


def test_memory_may_begin_anywhere(gpu: Any) -> None:
    """Sixteen bytes are written at once only where they are aligned."""
    noise, room = cc.L2Noise(64, 1.3, 2.0), np.zeros(5 * 64 + 8, "f4")
    checked = kernels.backend("gpu")
    begin = -room.ctypes.data % 16 // 4
    expected = checked.draw(noise, 5, 3, center=np.ones(64)).get()
    for at in (begin, begin + 1):
        middle = np.ones(68, "f4")[at : at + 64]
        for center in (np.ones(64), OnDevice(middle)):
            out = OnDevice(room[at : at + 320].reshape(5, 64))
            checked.draw(noise, 5, 3, out=out, center=center)
            np.testing.assert_array_equal(out.array, expected)
    assert dict(launches.draw(noise, 5, 0, 3, 0, "float32").macros)["ENDS"] == "WHOLE"
    unaligned = launches.draw(noise, 5, 0, 3, 0, "float32", aligned=False)
    assert dict(unaligned.macros)["ENDS"] == "ANY"


def test_a_center_of_float64_is_added_where_rows_are(gpu: Any) -> None:
    noise, center = cc.L2Noise(64, 0.3, 2.0), np.linspace(0, 1, 64) + 1e-9
    rows = gpu.draw(noise, 5, 3)
    drawn = rows.get()
    for out in (rows, OnDevice(drawn.copy())):
        gpu.add(out, center)
        expected = (drawn.astype(np.float64) + center).astype(np.float32)
        np.testing.assert_array_equal(out.get() if out is rows else out.array, expected)


def test_out_of_memory_says_how_much(gpu: Any) -> None:
    with pytest.raises(MemoryError, match=r"64000000000000 bytes .* \(1000000000000, 16\)"):
        gpu.draw(cc.Gaussian(16, 1.0), 10**12, 0, dtype="float32")


def test_the_public_face_reaches_it(gpu: Any) -> None:
    noise = cc.Laplace(3, 1.0)
    assert cc.draw(noise, 4, 1, backend="gpu").shape == (4, 3)
    options: dict[str, Any] = {"n": 2000, "alpha": 0.01, "seed": 1}
    for method in ("hoeffding", "dkw", "clopper-pearson"):
        bounds = [
            cc.monte_carlo_bound(0.9, noise, "l1", 0.5, method=method, backend=b, **options).lower
            for b in ("cpu", "gpu")
        ]
        assert bounds[1] == pytest.approx(bounds[0], rel=1e-10)

    def predict(batch: Any) -> Any:
        return (batch.reshape(len(batch), -1).sum(axis=1) > 0).astype(int)

    x = np.random.default_rng(0).normal(size=(2, 3))
    counts = [cc.count_votes(predict, x, noise, 2, 50, 0, backend=b) for b in ("cpu", "gpu")]
    np.testing.assert_array_equal(*counts)


def test_a_missing_device_is_named(monkeypatch: pytest.MonkeyPatch, emulator: Any) -> None:
    fake = emulated.stand_in(emulator)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.delitem(sys.modules, "cert_core.kernels.gpu.backend", raising=False)

    def too_old() -> int:
        raise RuntimeError("cudaErrorInsufficientDriver")

    for count, words in ((too_old, "cudaErrorInsufficientDriver"), (lambda: 0, "found 0")):
        fake.cuda.runtime.getDeviceCount = count
        with pytest.raises(
            cc.errors.BackendMissing, match=f"backend 'gpu' needs an NVIDIA.*{words}"
        ):
            cc.draw(FAMILIES[0], 3, 0, backend="gpu")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(sys.modules, "cert_core.kernels.gpu.backend", raising=False)
    with pytest.raises(
        cc.errors.BackendMissing, match=r"backend 'gpu' needs cupy, .*pip install cupy"
    ):
        cc.draw(FAMILIES[0], 3, 0, backend="gpu")


# ---- the text ----


def test_the_text_is_shipped() -> None:
    """Nothing that the kernels are made of is left out of a wheel."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    left_out = settings["tool"]["scikit-build"]["wheel"]["exclude"]
    names = [*ROOT.glob("cert_core/native/*.h"), *ROOT.glob("cert_core/kernels/cuda/*")]
    assert len(names) == 17
    for path in names:
        assert not any(PurePath(path.relative_to(ROOT)).match(rule) for rule in left_out), path


def compiled() -> list[tuple[str, launches.Macros]]:
    """Every kernel, in both precisions and for all families."""
    found: list[tuple[str, launches.Macros]] = [
        (f"{name}.cu", ()) for name in ("split", "closed", "radii")
    ]
    for real, most in (("float", 4), ("double", 8)):
        for kind, independent, held in ((0, 1, 0), (0, 0, most), (1, 0, 0), (2, 0, 0), (3, 0, 0)):
            macros = ("KIND", kind), ("INDEPENDENT", independent), ("HELD", held)
            for ends in ("ANY", "WHOLE", "FULL") if kind in (0, 3) else ("FULL",):
                found.append(("draw.cu", (("REAL", real), *macros, ("ENDS", ends))))
        for norm, axis in ((0, 1), (1, 0)) if real == "float" else ((0, 0), (2, 1)):
            found.append(("given.cu", (("REAL", real), ("NORM", norm), ("AXIS", axis))))
        found += [
            (file, (("REAL", real), *macros))
            for file, macros in (
                ("cube.cu", ()), ("table.cu", ()), ("subset.cu", ()),
                ("cells.cu", (("MOVED", 0),)), ("cells.cu", (("MOVED", 1),)),
            )
        ]  # fmt: skip
    for kind, independent in ((0, 1), (0, 0), (1, 1), (1, 0), (2, 0), (3, 0)):
        found.append(("lattice.cu", (("KIND", kind), ("INDEPENDENT", independent))))
    for kind, independent, held, axis in ((3, 0, 0, 0), (3, 0, 0, 1), (1, 1, 0, 0), (1, 0, 8, 0)):
        macros = ("KIND", kind), ("INDEPENDENT", independent), ("HELD", held)
        found.append(("open.cu", (*macros, ("AXIS", axis))))
    return found


def nvrtc_options(macros: launches.Macros) -> tuple[str, ...]:
    """Ours, and those that CuPy adds."""
    return (*launches.options(macros), "-ftz=true", "--device-as-default-execution-space")


@pytest.mark.skipif(nvrtc.library_path() is None, reason='no NVRTC: pip install ".[nvrtc]"')
@pytest.mark.parametrize("architecture", ["compute_75", "compute_80", "sm_90"])
def test_the_text_compiles(architecture: str) -> None:
    """Without a warning: to machine code for sm_90, to what a driver assembles for the others."""
    for file, macros in compiled():
        text, words = launches.source(file), nvrtc_options(macros)
        assert nvrtc.compile_text(text, architecture, words)[:2] == (True, ""), (file, macros)


@pytest.mark.skipif(nvrtc.library_path() is None, reason='no NVRTC: pip install ".[nvrtc]"')
@pytest.mark.parametrize("architecture", ["sm_75", "sm_80"])
def test_the_largest_kernels_fit(architecture: str) -> None:
    for file, macros in compiled()[-4::3]:
        text, words = launches.source(file), nvrtc_options(macros)
        done, log, code = nvrtc.compile_text(text, architecture, words)
        assert (done, log) == (True, "")
        assert code[1:4] == b"ELF"


@pytest.mark.skipif(nvrtc.library_path() is None, reason='no NVRTC: pip install ".[nvrtc]"')
def test_a_wrong_text_does_not_compile() -> None:
    text = launches.source("closed.cu").replace("cc_sphere_change(s,", "cc_sphere_change(")
    assert not nvrtc.compile_text(text, "sm_90", nvrtc_options(()))[0]


def test_importing_launches_needs_no_cupy() -> None:
    program = "import sys; import cert_core.kernels.gpu.launches; assert 'cupy' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
