"""Sampling: every family beside NumPy's and PyTorch's generators and a naive version.

One thread, output x + noise into one buffer.  Beside each time stands a check of what was
drawn: the Kolmogorov-Smirnov p-value of the radii, and the share of coordinates beyond the
tail of 1e-4 over 1e-4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numba import njit
from scipy import special, stats

import cert_core as cc
from cert_core.kernels.cpu import backend as cpu
from cert_core.kernels.cpu import tiles, words

VALUES = 3_000_000
RNG = np.random.Generator(np.random.SFC64(1))


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def buffers(dim: int, dtype: str) -> tuple[Any, Any, Any]:
    """(rows, dim) buffer, the same memory as a tensor, and a center."""
    out = np.empty((max(VALUES // dim, 1), dim), dtype)
    return out, torch.from_numpy(out), np.linspace(0, 1, dim, dtype=dtype)


def ours(noise: cc.Noise, out: Any, center: Any) -> Callable[[], Any]:
    dtype = str(out.dtype)
    return lambda: cpu.draw(noise, len(out), 1, center=center, out=out, dtype=dtype, threads=1)


def check(noise: cc.Noise, dtype: str) -> str:
    """KS p-value of the radius's law, and of the tail count."""
    z = np.asarray(cc.draw(noise, min(20_000, 40_000_000 // noise.dim), 4, dtype=dtype), float)
    if noise.radial is None:
        score = noise.log_radius()
        grid = np.linspace(-8, 8, 4001)
        radii = np.interp(np.log(np.abs(z).max(axis=1) / noise.scale_unit), score(grid), grid)
        return f"KS p {stats.kstest(radii, 'norm').pvalue:.2f}"
    record = noise.radial
    s = np.linalg.norm(z, ord=record.norm, axis=1)
    p = stats.kstest(special.gammainc(record.shape, (s / record.scale) ** record.power), "uniform")
    return f"KS p {p.pvalue:.2f}"


def numpy_composition(noise: cc.Noise, out: Any, center: Any) -> Callable[[], Any]:
    """The best composition of NumPy calls that we know, in place."""
    n, dim = out.shape
    shape, power, scale = noise.radial.shape, noise.radial.power, noise.radial.scale  # type: ignore[union-attr]
    norm = noise.radial.norm  # type: ignore[union-attr]

    def radii() -> Any:
        return (scale * RNG.gamma(shape, size=n) ** (1 / power))[:, None].astype(out.dtype)

    def run() -> None:
        if norm == math.inf:
            RNG.random(out=out, dtype=out.dtype)
            np.multiply(out, 2, out=out)
            np.subtract(out, 1, out=out)
            sign = np.where(RNG.random(n) < 0.5, -1, 1)
            out[np.arange(n), RNG.integers(dim, size=n)] = sign
            np.multiply(out, radii(), out=out)
        elif norm == 1.0:
            RNG.standard_exponential(out=out, dtype=out.dtype)
            bits = np.unpackbits(np.frombuffer(RNG.bytes(out.size // 8 + 1), np.uint8))[: out.size]
            np.multiply(out, radii() / out.sum(axis=1, keepdims=True), out=out)
            np.multiply(out, 1 - 2 * bits.reshape(out.shape).astype(np.int8), out=out)
        else:
            RNG.standard_normal(out=out, dtype=out.dtype)
            length = np.sqrt(np.einsum("ij,ij->i", out, out))[:, None]
            np.multiply(out, radii() / length, out=out)
        np.add(out, center, out=out)

    return run


def torch_composition(noise: cc.Noise, tensor: Any, center: Any) -> Callable[[], Any]:
    """The best composition of PyTorch calls that we know, in place."""
    n, dim = tensor.shape
    x = torch.from_numpy(center)
    if noise.radial is None:
        rho = torch.from_numpy(np.exp(noise.log_radius()(np.random.default_rng(0).normal(size=n))))
        inside = torch.special.erf(rho / math.sqrt(2)).to(tensor.dtype)[:, None]

        def mixed() -> None:
            tensor.uniform_(-1, 1).mul_(inside).erfinv_().mul_(math.sqrt(2) * noise.scale_unit)
            tensor.add_(x)

        return mixed
    record = noise.radial

    def radii() -> Any:
        gamma = torch._standard_gamma(torch.full((n, 1), record.shape, dtype=tensor.dtype))
        return record.scale * gamma ** (1 / record.power)

    def run() -> None:
        if record.norm == math.inf:
            tensor.uniform_(-1, 1)
            tensor[torch.arange(n), torch.randint(dim, (n,))] = 1.0
            tensor.mul_(radii())
        elif record.norm == 1.0:
            tensor.uniform_(-1, 1)
            magnitude = tensor.abs().log_()
            tensor.sign_().mul_(magnitude).mul_(-radii() / magnitude.sum(1, keepdim=True))
        else:
            tensor.normal_()
            tensor.mul_(radii() / tensor.norm(dim=1, keepdim=True))
        tensor.add_(x)

    return run


def naive(noise: cc.Noise, out: Any, center: Any) -> Callable[[], Any]:
    """As a textbook would write it: float64, fresh arrays."""
    n, dim = out.shape
    record = noise.radial

    def run() -> Any:
        if record is None or record.norm == 2.0:
            z = np.random.normal(size=(n, dim))
            s = np.linalg.norm(z, axis=1)
        elif record.norm == 1.0:
            z = np.random.laplace(size=(n, dim))
            s = np.abs(z).sum(axis=1)
        else:
            z = np.random.uniform(-1, 1, size=(n, dim))
            s = np.abs(z).max(axis=1)
        shape = record.shape if record is not None else 1.0
        return center + z * (np.random.gamma(shape, size=n) / s)[:, None]

    return run


@pytest.mark.parametrize("dim", [64, 784, 3072, 150528])
@pytest.mark.parametrize("family", ["l1", "l2", "linf", "mixed"])
def test_family_float32(race: Any, family: str, dim: int) -> None:
    noise = cc.NOISES[family].with_rms(dim, 1.0, dim / 3)
    out, tensor, center = buffers(dim, "float32")
    contestants = {f"{family} d={dim}": ours(noise, out, center)}
    if noise.radial is not None:
        contestants["NumPy composition"] = numpy_composition(noise, out, center)
    contestants["PyTorch composition"] = torch_composition(noise, tensor, center)
    contestants["naive NumPy"] = naive(noise, out, center)
    name = f"{family} d={dim}"
    race(
        f"draw {name} float32", contestants, values=out.size, notes={name: check(noise, "float32")}
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dim", [784, 3072])
def test_normals(race: Any, dim: int, dtype: str) -> None:
    noise = cc.Gaussian(dim, 1.0)
    out, tensor, center = buffers(dim, dtype)
    flat, moved = out.reshape(-1), torch.from_numpy(center)

    def numpy_sum() -> None:
        RNG.standard_normal(out=flat, dtype=out.dtype)
        np.add(out, center, out=out)

    name = f"Gaussian d={dim} (x + noise)"
    race(
        f"normals d={dim} {dtype}",
        {
            name: ours(noise, out, center),
            "torch normal_, add_": lambda: tensor.normal_().add_(moved),
            "NumPy SFC64, add": numpy_sum,
            "torch normal_ (noise alone)": lambda: tensor.normal_(),
            "NumPy SFC64 (noise alone)": lambda: RNG.standard_normal(out=flat, dtype=out.dtype),
            "np.random.normal (fresh float64)": lambda: np.random.normal(size=out.shape),
        },
        values=out.size,
        notes={name: check(noise, dtype)},
    )


@njit(nogil=True)
def raw_words(count: int, out: Any) -> None:
    """Nothing but words, tile after tile."""
    rows, blocks = np.zeros(tiles.LANES, np.uint64), np.arange(tiles.LANES).astype(np.uint64)
    for i in range(count):
        words.words(rows, blocks, np.uint64(i), np.uint64(0), np.uint64(0), np.uint64(5), out)


def test_roofline(race: Any) -> None:
    """Raw Philox words, a store, a copy: what no sampler can beat."""
    out, _, center = buffers(3072, "float32")
    raw = np.empty((4, tiles.LANES), np.uint32)
    noise = cc.Gaussian(3072, 1.0)
    race(
        "limits (float32, d = 3072)",
        {
            "Gaussian (x + noise)": ours(noise, out, center),
            "Philox words": lambda: raw_words(VALUES // raw.size, raw),
            "store": lambda: out.fill(1.0),
            "copy": lambda: np.copyto(out, center),
        },
        values=out.size,
    )


def test_two_threads(race: Any) -> None:
    """Wall time; two threads need an idle machine to gain."""
    import time

    noise = cc.L2Noise.with_rms(3072, 1.0, 1000)
    out, _, center = buffers(3072, "float32")
    race(
        "threads, wall time (l2 d=3072 float32)",
        {
            f"{threads} thread{'s' * (threads > 1)}": (
                lambda threads=threads: cpu.draw(
                    noise, len(out), 1, center=center, out=out, threads=threads
                )
            )
            for threads in (2, 1, 4)
        },
        values=out.size,
        timer=time.perf_counter,
        own=True,
    )
