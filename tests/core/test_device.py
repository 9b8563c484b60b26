"""The GPU backend on a GPU, at sizes that only one has: laws at 1e9 values, 64-bit indices,
streams, memory.  Statistical tests have fixed seeds and false alarms below 1e-8 each."""

from __future__ import annotations

import gc
import math
from typing import Any

import numpy as np
import pytest
from core.test_copies import ALL, whole
from scipy import special, stats

import cert_core as cc
from cert_core import kernels
from cert_core.kernels import reference

pytestmark = pytest.mark.device
LIMIT = 6.0  # standard deviations


@pytest.fixture(scope="module")
def gpu() -> Any:
    try:
        return kernels.backend("gpu")
    except cc.errors.BackendMissing as error:
        pytest.skip(str(error))


@pytest.fixture
def cupy(gpu: Any) -> Any:
    """CuPy, its pool emptied afterwards."""
    yield gpu.module.cupy
    gpu.module.cupy.get_default_memory_pool().free_all_blocks()


def on_torch() -> Any:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    return torch


def room(cupy: Any, size: float) -> None:
    """Skip where the device has less memory free than that."""
    free = cupy.cuda.runtime.memGetInfo()[0]
    if free < size:
        pytest.skip(f"needs {size / 1e9:.0f} GB of device memory, {free / 1e9:.0f} are free")


def deviations(count: Any, n: int, p: float) -> float:
    """A binomial count in standard deviations from its mean."""
    return (float(count) - n * p) / math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize("family", ["gaussian", "laplace"])
def test_a_billion_coordinates(gpu: Any, cupy: Any, family: str) -> None:
    """Quantiles and both tails of independent coordinates, and their second moment."""
    room(cupy, 10e9)
    dim, n = 1000, 1_000_000
    noise = cc.Gaussian(dim, 1.0) if family == "gaussian" else cc.Laplace(dim, 1.0)
    law: Any = stats.norm if family == "gaussian" else stats.laplace
    z = gpu.draw(noise, n, 2026).ravel()
    for p in (1e-7, 1e-6, 1e-4, 0.01, 0.2, 0.5):
        edge = np.float32(law.ppf(p))
        assert abs(deviations((z < edge).sum(), z.size, law.cdf(float(edge)))) < LIMIT
        assert abs(deviations((z > -edge).sum(), z.size, law.cdf(float(edge)))) < LIMIT
    square = float((z * z).sum(dtype=cupy.float64)) / z.size
    second, fourth = law.moment(2), law.moment(4)
    assert abs(square - second) < LIMIT * math.sqrt((fourth - second**2) / z.size)


@pytest.mark.parametrize("family", ["l1", "l2", "linf", "mixed"])
def test_a_billion_values_of_rows(gpu: Any, cupy: Any, family: str) -> None:
    """The radius's law at its quantiles, signs, and the mean of squares."""
    room(cupy, 12e9)
    dim, n = 500, 2_000_000
    noise = cc.NOISES[family].with_rms(dim, 1.0, dim / 3)
    z = gpu.draw(noise, n, 11)
    order = noise.radial.norm if noise.radial is not None else math.inf
    s = cupy.linalg.norm(z[: n // 4].astype(cupy.float64), ord=order, axis=1)
    for score in (-4.0, -2.0, -0.5, 0.0, 1.0, 3.0):
        edge = math.exp(float(noise.log_radius()(np.array(score)))) * noise.scale_unit
        p = float(special.ndtr(score))
        assert abs(deviations((s < edge).sum(), s.size, p)) < LIMIT + 0.5
    assert abs(deviations((z > 0).sum(), z.size, 0.5)) < LIMIT
    squares = (z * z).sum(axis=1, dtype=cupy.float64) / dim
    spread = float(squares.std()) / math.sqrt(n)
    assert abs(float(squares.mean()) - noise.rms**2) < LIMIT * spread + 1e-6


@pytest.mark.parametrize(
    ("noise", "attack"),
    [
        (cc.L2Noise(3072, 1.0, 1000.0), "l2"),
        (cc.L1Noise(3072, 1.0, 1000.0), "l1"),
        (cc.LinfNoise(784, 1.0, 100.0), "linf"),
        (cc.LinfNoise(784, 1.0, 0.0), "l1"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_billion_log_ratios(gpu: Any, cupy: Any, noise: cc.Noise, attack: str) -> None:
    """Drawn directly, at the quantiles of the exact law; bounds from them hold."""
    room(cupy, 30e9)
    n, radius = 10**9, 2 * noise.rms
    law = cc.log_ratio_law(noise, attack, radius)
    draws = gpu.draw_log_ratio(noise, cc.worst_shift(noise, attack, radius), n, 5)
    for p in (1e-5, 0.01, 0.3, 0.9, 0.999):
        t = float(law.ppf(p))
        low, high = law.enclose(t)
        below = (float((draws < t).sum()), float((draws <= t).sum()))
        assert deviations(below[1], n, low) > -LIMIT
        assert deviations(below[0], n, high) < LIMIT
    for p in (0.6, 0.99):
        bound = gpu.hinge_bound(draws, p, 0.001)
        exact = cc.lower_bound(p, noise, attack, radius)
        assert exact - 0.01 < bound <= exact + 1e-9


def test_rows_beyond_two_billion_values(gpu: Any, cupy: Any) -> None:
    """Places in the output do not wrap at 2^31 or 2^32."""
    room(cupy, 20e9)
    noise, n = cc.L1Noise(3072, 1.0, 100.0), 1_410_000
    z = gpu.draw(noise, n, 4)
    for start in (0, 2**31 // 3072, 2**32 // 3072, n - 3):
        expected = reference.draw(noise, 3, 4, start=start)
        np.testing.assert_allclose(z[start : start + 3].get(), expected, rtol=2e-6, atol=1e-6)
    shift = cc.worst_shift(noise, "l1", 0.5)
    ratios = gpu.log_ratio(noise, z, shift)
    expected = reference.log_ratio(noise, z[-3:].get(), shift)
    np.testing.assert_allclose(ratios[-3:].get(), expected, rtol=1e-11)


@pytest.mark.parametrize("dim", [1, 784, 3072, 150528])
@pytest.mark.parametrize("family", ["l1", "l2", "linf", "mixed", "gaussian"])
def test_equal_to_the_reference(gpu: Any, family: str, dim: int) -> None:
    noise = cc.NOISES[family].with_rms(dim, 0.5, 0.0 if family == "gaussian" else dim / 3)
    center = np.linspace(0, 1, dim, dtype=np.float32)
    rows = gpu.draw(noise, 6, 9, start=2**40, center=center).get()
    expected = reference.draw(noise, 6, 9, start=2**40, center=center)
    np.testing.assert_allclose(rows, expected, rtol=0, atol=4e-6 * np.abs(expected).max())
    for attack in ("l1", "linf"):
        shift = cc.worst_shift(noise, attack, noise.rms)
        fused = gpu.draw_log_ratio(noise, shift, 6, 9).get()
        expected = reference.draw_log_ratio(noise, shift, 6, 9)
        np.testing.assert_allclose(fused, expected, rtol=1e-9, atol=1e-9)


def test_torch_tensors_are_filled_on_their_stream(gpu: Any, cupy: Any) -> None:
    torch = on_torch()
    from cert_models.smooth.batches import cupy_stream

    noise = cc.L2Noise(3072, 1.0, 100.0)
    out = torch.zeros((100, 3072), device="cuda")
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    for _ in range(2):  # the stream outlives what CuPy made of it
        with torch.cuda.stream(stream), cupy_stream(stream):
            assert gpu.draw(noise, 100, 1, out=out) is out
            total = out.double().sum()
        gc.collect()
        stream.synchronize()
        assert float(total) == pytest.approx(float(gpu.draw(noise, 100, 1).sum(dtype="float64")))


@pytest.mark.parametrize("at", [0, 1])
def test_torch_tensors_that_begin_anywhere(gpu: Any, at: int) -> None:
    """Sixteen bytes are written at once only where they are aligned; what is strided is refused."""
    torch = on_torch()
    noise = cc.L2Noise(3072, 1.0, 100.0)
    room = torch.zeros(10 * 3072 + 4, device="cuda")
    out, center = room[at : at + 5 * 3072].reshape(5, 3072), torch.ones(3072, device="cuda")
    expected = gpu.draw(noise, 5, 1, center=center).get()
    gpu.draw(noise, 5, 1, center=center, out=out)
    torch.cuda.synchronize()
    np.testing.assert_array_equal(out.cpu().numpy(), expected)
    assert float(room[:at].abs().sum() + room[at + 5 * 3072 :].abs().sum()) == 0.0
    with pytest.raises(ValueError, match="out must be a contiguous array"):
        gpu.draw(noise, 5, 1, out=room[: 10 * 3072].reshape(5, 6144)[:, ::2])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("family", sorted(cc.NOISES))
def test_a_classifier_counts_what_the_cpu_counts(family: str, stream: bool) -> None:
    """On the default stream and on another, for every family the device draws."""
    torch = on_torch()
    from cert_models.smooth import SmoothedClassifier

    k = {"gaussian": 0.0, "laplace": 0.0}.get(family, 60.0)
    try:
        noise = cc.NOISES[family].with_rms(192, 0.5, k)
        cc.draw(noise, 1, 0, backend="gpu")
    except (AttributeError, TypeError, ValueError) as error:  # discrete noises are the CPU's
        pytest.skip(str(error))
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5)).eval()
    x = np.zeros((3, 3, 8, 8), np.float32)
    ours = SmoothedClassifier(net, noise, 5, batch_size=700).counts(x, 5000, 3)
    on_device = SmoothedClassifier(net.cuda(), noise, 5, batch_size=900)
    with torch.cuda.stream(torch.cuda.Stream() if stream else torch.cuda.default_stream()):
        theirs = on_device.counts(x, 5000, 3)
    assert np.abs(theirs - ours).sum() <= 10  # votes at the very border


@pytest.mark.parametrize("ahead", [0, 1000, 1 << 20])
@pytest.mark.parametrize("family", ["gaussian", "l1", "l2", "mixed"])
def test_sound_counts_are_those_of_the_cpu(
    gpu: Any, family: str, ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vote by vote, of a network whose sums are exact, however many rows are drawn ahead."""
    torch = on_torch()
    from cert_models.smooth import SmoothedClassifier

    monkeypatch.setattr(cc.votes, "AHEAD", {"gpu": 192 * ahead})
    noise = cc.NOISES[family].with_rms(192, 0.5, 0.0 if family == "gaussian" else 60.0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5, bias=False)).eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.randint(-1, 2, (5, 192)))
    x = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8)).astype(np.float32) / 256
    sound = cc.Lattice("1/256")
    ours = SmoothedClassifier(net, noise, 5, sound=sound).counts(x, 5000, 3)
    theirs = SmoothedClassifier(net.cuda(), noise, 5, batch_size=300, sound=sound)
    np.testing.assert_array_equal(theirs.counts(x, 5000, 3), ours)
    plan = cc.shell_thresholds(noise, [0.3, 0.8]) if noise.radial is not None else None
    if plan is not None:
        parts = SmoothedClassifier(net.cpu(), noise, 5).shell_counts(x, 5000, 3, plan)
        on_device = SmoothedClassifier(net.cuda(), noise, 5, batch_size=300)
        assert np.abs(on_device.shell_counts(x, 5000, 3, plan) - parts).sum() <= 20


def test_two_devices(gpu: Any, cupy: Any) -> None:
    """Arrays of another device than the current one are refused; each draws the same."""
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two devices")
    noise = cc.L2Noise(3072, 1.0, 100.0)
    here = gpu.draw(noise, 5, 1)
    with cupy.cuda.Device(1):
        np.testing.assert_array_equal(gpu.draw(noise, 5, 1).get(), here.get())
        with pytest.raises(ValueError, match="arrays on the current device, 1, got 0"):
            gpu.draw(noise, 5, 1, out=here)


def test_out_of_memory_says_how_much(gpu: Any) -> None:
    with pytest.raises(MemoryError, match="4000000000000000 bytes of device memory"):
        gpu.draw(cc.Gaussian(1000, 1.0), 10**12, 0)


@pytest.mark.parametrize("dtype", kernels.DTYPES)
@pytest.mark.parametrize("noise", ALL, ids=str)
def test_copies_are_those_of_the_cpu(gpu: Any, noise: cc.Noise, dtype: str) -> None:
    """Bit for bit, also into rows of the device and from any start."""
    x = whole(noise)
    expected = cc.draw(noise, 3000, 5, start=2**32 - 150, center=x, dtype=dtype)
    found = gpu.draw(noise, 3000, 5, start=2**32 - 150, center=x, dtype=dtype)
    np.testing.assert_array_equal(found.get(), expected)
    out = gpu.module.cupy.empty((100, noise.dim), dtype)
    gpu.draw(noise, 100, 5, start=2**32, center=x, dtype=dtype, out=out)
    np.testing.assert_array_equal(out.get(), expected[150:250])


@pytest.mark.parametrize("step", ["1/255", "1/65536"])
@pytest.mark.parametrize("dim", [3, 784, 3072])
@pytest.mark.parametrize("family", ["gaussian", "laplace", "l1", "l2", "linf", "mixed"])
def test_integers_are_those_of_the_cpu(gpu: Any, family: str, dim: int, step: str) -> None:
    """Noise on a lattice and its FAILs: the device decides what its margins prove alone."""
    k = 0.0 if family in ("gaussian", "laplace") else dim / 3
    noise, lattice = cc.NOISES[family].with_rms(dim, 0.5, k), cc.Lattice(step)
    center = np.arange(dim) % 255
    whole_numbers, failed = gpu.draw_lattice(noise, 20_000, 9, lattice, start=2**40, center=center)
    expected = kernels.backend("cpu").draw_lattice(
        noise, 20_000, 9, lattice, start=2**40, center=center
    )
    np.testing.assert_array_equal(whole_numbers.get(), expected[0])
    np.testing.assert_array_equal(failed, expected[1])
