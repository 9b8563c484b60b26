"""The kernel contract over every backend and family: equal streams, exact laws.

Distribution tests are statistical: fixed seeds, a false alarm has chance below 1e-8 each.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special, stats
from strategies import members

import cert_core as cc
from cert_core import kernels
from cert_core.kernels import Kernels, reference
from cert_core.threats import Shift

FAMILIES = [
    cc.L1Noise(7, 1.3, 2.0), cc.L2Noise(5, 0.7, 3.0), cc.LinfNoise(6, 1.1, 1.5),
    cc.MixedNoise(6, 0.8, 2.5), cc.Gaussian(300, 2.0), cc.Laplace(2, 1.0),
    cc.L2Noise(1, 1.0, 0.4), cc.LinfNoise(1100, 1.0, 100.0), cc.MixedNoise(600, 1.0, 590.0),
    cc.L1Noise(1024, 1.0, 10.0), cc.L2Noise(64, 0.25, 63.9), cc.RadialNoise(9, math.inf, 1.0, 1.0),
    cc.L1Noise(7, 1.3, 2.0).scaled(np.geomspace(0.1, 30.0, 7)),
]  # fmt: skip
FAMILIES += members(cc.NOISES)
IDS = [f"{n.name}-{n.dim}" for n in FAMILIES]

DEFINITION = kernels.backend("reference")
NORMED = [noise for noise in FAMILIES if noise.radial is not None]


class OnHost:
    """A backend whose results are copied to the host."""

    def __init__(self, backend: kernels.Kernels) -> None:
        self.backend = backend

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.backend, name)
        if not callable(found):
            return found

        def call(*args: Any, **options: Any) -> Any:
            return self.fetched(found(*args, **options))

        return call

    def fetched(self, result: Any) -> Any:
        if isinstance(result, tuple):
            return tuple(map(self.fetched, result))
        return result.get() if hasattr(result, "get") else result


def backend_or_skip(name: str) -> Any:
    try:
        backend = kernels.backend(name)
    except cc.errors.BackendMissing as error:
        pytest.skip(str(error))
    return OnHost(backend) if name == "gpu" else backend


@pytest.fixture(params=["reference", "cpu", "gpu"])
def kernel(request: pytest.FixtureRequest) -> Any:
    return backend_or_skip(request.param)


@pytest.fixture(params=["cpu", "gpu"])
def fast(request: pytest.FixtureRequest) -> Any:
    """What is asked for its law: the reference draws the same samples."""
    return backend_or_skip(request.param)


def test_philox_known_answers() -> None:
    """Random123's kat_vectors for philox4x32-10."""
    full, pi = 2**32 - 1, (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    for counter, key, words in (
        ((0, 0, 0, 0), 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((full,) * 4, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (pi, 0x299F31D0A4093822, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ):
        got = reference.philox(list(counter), key)
        assert " ".join(f"{int(w):08x}" for w in got) == words


def test_streams_are_disjoint() -> None:
    """No purpose's words, coordinates or row quantities, are another's."""
    purposes = (
        kernels.SELECTION, kernels.ESTIMATION, kernels.PI0, kernels.PI_DELTA, kernels.PILOT,
        kernels.DRAW,
    )  # fmt: skip
    used = [p + part for p in purposes for part in (0, 1)]
    assert len(set(used)) == len(used)
    words = {tuple(map(int, reference.philox([5, 0, 0, s], 9))) for s in used}
    assert len(words) == len(used)


def test_input_seeds_are_injective() -> None:
    seeds = {kernels.input_seed(s, i) for s in (0, 1, 7, 2**32 - 1) for i in (0, 1, 7, 2**32 - 1)}
    assert len(seeds) == 16
    assert max(seeds) < 2**64


@pytest.mark.parametrize("noise", FAMILIES, ids=IDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_backends_draw_what_reference_draws(noise: cc.Noise, dtype: str, backend: str) -> None:
    kernel = backend_or_skip(backend)
    options: dict[str, Any] = {"start": 2**32 - 250, "dtype": dtype}
    one, two = kernel.draw(noise, 500, 5, **options), reference.draw(noise, 500, 5, **options)
    assert one.dtype == two.dtype == dtype
    # a GPU takes float32 below 1.2e-38 for 0; a coordinate by itself errs by its scale's digits
    unit = noise.radial.coordinate_scale if noise.radial is not None else None
    least = 1e-30 if unit is None or backend == "cpu" else 0.25 * unit
    size = np.maximum(np.abs(two).max(axis=1, keepdims=True), least)
    tolerance = 1e-6 if dtype == "float32" else 1e-12
    assert (np.abs(one - two) / size).max() < tolerance
    center = np.linspace(0, 1, noise.dim)
    moved = kernel.draw(noise, 500, 5, center=center, **options)
    expected = center.astype(dtype) + one
    np.testing.assert_allclose(moved, expected, atol=4e-7 * (1 + size.max()), rtol=1e-6)


@pytest.mark.parametrize("noise", FAMILIES, ids=IDS)
def test_a_sample_is_the_same_however_it_is_drawn(kernel: Kernels, noise: cc.Noise) -> None:
    whole = kernel.draw(noise, 300, 77)
    np.testing.assert_array_equal(kernel.draw(noise, 40, 77, start=130), whole[130:170])
    out = np.empty((300, noise.dim), np.float32)
    assert kernel.draw(noise, 300, 77, out=out) is out
    np.testing.assert_array_equal(out, whole)
    assert not np.array_equal(kernel.draw(noise, 300, 78), whole)
    assert kernel.draw(noise, 0, 77).shape == (0, noise.dim)
    shift = Shift("axis", 0.5, True, "")
    fused = kernel.draw_log_ratio(noise, shift, 300, 77)
    np.testing.assert_array_equal(
        kernel.draw_log_ratio(noise, shift, 40, 77, start=130), fused[130:170]
    )


@pytest.mark.parametrize("noise", NORMED, ids=[f"{n.name}-{n.dim}" for n in NORMED])
def test_norms_are_those_of_the_rows(kernel: Kernels, noise: cc.Noise) -> None:
    """Of the float32 rows that are voted on, wherever they start, and whatever the chunks."""
    n, start, stream = 70, 2**40 + 3, kernels.ESTIMATION
    rows = np.asarray(kernel.draw(noise, n, 9, start=start, stream=stream), dtype=np.float64)
    rows /= 1.0 if noise.stretch is None else noise.stretch
    norms = kernel.norms(noise, n, 9, start=start, stream=stream)
    expected = np.linalg.norm(rows, ord=noise.radial.norm, axis=1)
    np.testing.assert_allclose(norms, expected, rtol=1e-5, atol=2e-6 * noise.rms)
    np.testing.assert_allclose(
        norms,
        DEFINITION.norms(noise, n, 9, start=start, stream=stream),
        rtol=2e-6,
        atol=2e-6 * noise.rms,
    )
    parts = [
        kernel.norms(noise, m, 9, start=start + low, stream=stream) for low, m in ((0, 1), (1, 69))
    ]
    np.testing.assert_array_equal(np.concatenate(parts), norms)
    assert not np.array_equal(kernel.norms(noise, n, 9, start=start), norms)
    if kernel.name == "cpu":
        for threads in (1, 3):
            again = kernel.module.norms(noise, n, 9, start=start, stream=stream, threads=threads)
            np.testing.assert_array_equal(again, norms)


def test_norms_need_level_sets_that_are_balls(kernel: Kernels) -> None:
    with pytest.raises(cc.errors.UnsupportedPair, match="noise must have level sets"):
        kernel.norms(cc.MixedNoise(4, 1.0, 1.0), 5, 0)


@pytest.mark.parametrize("noise", FAMILIES, ids=IDS)
def test_threads_change_nothing(noise: cc.Noise) -> None:
    cpu = backend_or_skip("cpu")
    n = 2 + (1 << 19) // noise.dim
    one = cpu.module.draw(noise, n, 3, threads=1)
    np.testing.assert_array_equal(cpu.module.draw(noise, n, 3, threads=5), one)
    shift = Shift("diagonal", 0.2, True, "")
    n = min(n, 20_000)
    np.testing.assert_array_equal(
        cpu.module.draw_log_ratio(noise, shift, n, 3, threads=1),
        cpu.module.draw_log_ratio(noise, shift, n, 3, threads=4),
    )


def test_systems_that_do_not_tell_their_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    from cert_core.kernels.cpu import backend as cpu

    noise = cc.Gaussian(64, 1.0)
    expected = cpu.draw(noise, 5000, 3)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert cpu.cores() == os.cpu_count()
    np.testing.assert_array_equal(cpu.draw(noise, 5000, 3), expected)


@pytest.mark.parametrize("noise", FAMILIES, ids=IDS)
def test_log_ratio_is_the_density_ratio(kernel: Kernels, noise: cc.Noise) -> None:
    z = kernel.draw(noise, 400, 11, dtype="float64")
    here = noise.log_density(z)
    for kind, size in itertools.product(["axis", "diagonal"], [1e-3, 0.6, 4.0]):
        shift = Shift(kind, size, True, "")  # type: ignore[arg-type]
        delta = shift.as_array(noise.dim) * (1.0 if noise.stretch is None else noise.stretch)
        exact = noise.log_density(z - delta) - here
        scale = np.abs(here) + np.abs(exact) + size
        assert (np.abs(kernel.log_ratio(noise, z, shift) - exact) / scale).max() < 1e-11
        single = kernel.log_ratio(noise, z.astype(np.float32), shift)
        assert np.median(np.abs(single - exact) / scale) < 1e-5


def shifts(noise: cc.Noise) -> list[Shift]:
    """Those of the attacks, each once."""
    radius = 0.7 * noise.rms / math.sqrt(noise.dim)
    found = [cc.worst_shift(noise, attack, radius) for attack in cc.ATTACKS]
    return list({(shift.kind, round(shift.size, 9)): shift for shift in found}.values())


@pytest.mark.parametrize("noise", FAMILIES, ids=IDS)
def test_fused_draws_have_the_law_of_rows(noise: cc.Noise) -> None:
    """The CPU's; those of the others are the same, sample by sample."""
    cpu, n = backend_or_skip("cpu"), 20_000
    z = cpu.draw(noise, n, 1, dtype="float64")
    for shift in shifts(noise):
        fused = cpu.draw_log_ratio(noise, shift, n, 2)
        assert stats.ks_2samp(cpu.log_ratio(noise, z, shift), fused).pvalue > 1e-8
        assert np.unique(fused).size > 2


@pytest.mark.parametrize("noise", FAMILIES, ids=IDS)
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_backends_fuse_what_reference_fuses(noise: cc.Noise, backend: str) -> None:
    kernel, options = backend_or_skip(backend), {"start": 2**32 - 250}
    for shift in shifts(noise):
        expected = reference.draw_log_ratio(noise, shift, 600, 2, **options)
        got = kernel.draw_log_ratio(noise, shift, 600, 2, **options)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


def radius_score(noise: cc.Noise, z: Any) -> Any:
    """The normal score of every row's radius under its exact law."""
    record: Any = noise.radial  # type: ignore[attr-defined]
    s = np.linalg.norm(z.astype(np.float64), ord=record.norm, axis=1)
    gamma = (s / record.scale) ** record.power
    low, high = special.gammainc(record.shape, gamma), special.gammaincc(record.shape, gamma)
    return np.where(low < 0.5, special.ndtri(low), -special.ndtri(high))


RADIAL = [
    n for n in FAMILIES if n.name not in ("mixed", "scaled") and n.dim - getattr(n, "k", 0) > 0.5
]


@pytest.mark.parametrize("noise", RADIAL, ids=[f"{n.name}-{n.dim}" for n in RADIAL])
def test_radius_and_direction(fast: Kernels, noise: cc.Noise) -> None:
    n = max(20_000, 4_000_000 // max(noise.dim, 200))
    z = fast.draw(noise, n, 2024)
    score = radius_score(noise, z)
    assert stats.kstest(score, "norm").pvalue > 1e-8
    # signs and places of coordinates
    signs = (z > 0).mean(axis=0)
    assert np.abs(signs - 0.5).max() < 7 * 0.5 / math.sqrt(n)
    order = noise.radial.norm  # type: ignore[attr-defined]
    share = np.abs(z[:, 0].astype(np.float64)) / np.linalg.norm(
        z.astype(np.float64), ord=order, axis=1
    )
    if noise.dim > 1 and order == 1.0:
        assert stats.kstest(share, "beta", args=(1, noise.dim - 1)).pvalue > 1e-8
    if noise.dim > 1 and order == 2.0:
        beta = stats.kstest(share**2, "beta", args=(0.5, 0.5 * (noise.dim - 1)))
        assert beta.pvalue > 1e-8
    if order == math.inf:
        face = np.abs(z).argmax(axis=1)
        counts = np.bincount(face, minlength=noise.dim)
        assert noise.dim == 1 or stats.chisquare(counts).pvalue > 1e-8
        inside = share[face != 0]
        assert noise.dim == 1 or stats.kstest(inside, "uniform").pvalue > 1e-8


def test_mixed_marginals(fast: Kernels) -> None:
    """Given the largest coordinate the others are truncated normals, independent of it."""
    noise = cc.MixedNoise(6, 0.8, 2.5)
    z = fast.draw(noise, 100_000, 31).astype(np.float64)
    top = np.abs(z).argmax(axis=1)
    assert stats.chisquare(np.bincount(top, minlength=6)).pvalue > 1e-8
    rho = np.abs(z).max(axis=1)
    other = np.where(top == 0, z[:, 1], z[:, 0])
    u = special.ndtr(other / 0.8) - special.ndtr(-rho / 0.8)
    u /= special.ndtr(rho / 0.8) - special.ndtr(-rho / 0.8)
    assert stats.kstest(u, "uniform").pvalue > 1e-8
    assert abs(np.corrcoef(u, rho)[0, 1]) < 6 / math.sqrt(len(u))


WORDS = (
    0, 1, 0x7F, 0x80, 0xFF, 0x100, 2**31 - 1, 2**31, 2**32 - 256, 2**32 - 129, 2**32 - 128,
    2**32 - 2, 2**32 - 1,
)  # fmt: skip
TRANSFORMS = {"normal": "normals", "exponential": "exponentials", "uniform": "uniforms"}


def tiled(kind: str, words: Any, wide: bool, bounds: tuple[float, float, float]) -> Any:
    """Blocks of words (n, 4) through the CPU's transforms: (n, slots) values."""
    from cert_core.kernels.cpu import doubles, tiles

    name = TRANSFORMS.get(kind, kind) + ("64" if wide else "32")
    dtype, slots = (np.float64, 2) if wide else (np.float32, 4)
    values = []
    for low in range(0, len(words), tiles.LANES):
        part = words[low : low + tiles.LANES]
        w = np.zeros((4, tiles.LANES), np.uint32)
        w[:, : len(part)] = part.T
        lanes = np.repeat(np.array(bounds, dtype)[:, None], tiles.LANES, axis=1)
        out = np.empty(slots * tiles.LANES, dtype)
        given = (w, lanes) if kind == "truncated" else (w,)
        getattr(doubles if wide else tiles, name)(*given, np.uint64(0), np.uint64(tiles.LANES), out)
        values.append(out.reshape(slots, -1).T[: len(part)])
    return np.concatenate(values)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("kind", ["normal", "exponential", "uniform", "truncated"])
def test_extreme_words(kind: str, wide: bool) -> None:
    """All blocks of the least and largest words, through every transform: finite, in its
    range, and what the reference has; the header's too, which the GPU compiles."""
    from cert_core.native import drawing

    words = np.array(list(itertools.product(WORDS, repeat=4)), np.uint32)
    columns = [words[:, i].astype(np.uint64)[None] for i in range(4)]
    for rho in (1e-8, 0.3, 1.0, 3.0, 5.5, 40.0) if kind == "truncated" else (1.0,):
        scaled = rho / math.sqrt(2)
        bounds = math.erf(scaled), math.erfc(scaled), rho
        expected = np.stack(
            [v.ravel() for v in reference._coordinates(kind, columns, wide, np.array([[rho]]))], 1
        )
        most = {"uniform": 1.0, "truncated": rho}.get(kind, 40.0)
        header = drawing.coordinates(
            ["normal", "exponential", "uniform", "truncated"].index(kind), words, wide, bounds
        )
        for values in (expected, tiled(kind, words, wide, bounds), header):
            assert np.isfinite(values).all()
            assert np.abs(values).max() <= most * (1 + 1e-7)
            error = np.abs(values - expected).max() / np.abs(expected).max()
            assert error < (1e-6 if not wide or rho > 8 else 1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "noise", [cc.L2Noise(1, 1.0, 0.5), cc.L2Noise(2, 1.0, 0.5), cc.L1Noise(3, 1.0), FAMILIES[4]]
)
def test_rows_of_zeros_turn_one_way(noise: Any, dtype: str) -> None:
    """In doubles too, where no seed is known that draws one."""
    from cert_core.kernels import KINDS
    from cert_core.kernels.cpu import rows

    backend_or_skip("cpu")
    norm = noise.radial.norm
    for sample in (0, 5, 2**40, DRAWN_ZERO["start"]):
        ours, theirs = np.zeros(noise.dim, dtype), np.zeros(noise.dim)
        slots = 4 if dtype == "float32" else 2
        rows._turn_from_zero(
            KINDS[norm], np.uint64(sample), np.uint64(10), np.uint64(1), slots, ours
        )
        reference._turn_from_zero(reference.DIRECTIONS[norm], theirs, 1, sample, 10, slots == 2)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        assert 0.01 < np.linalg.norm(theirs, norm) < 60.0


DRAWN_ZERO: dict[str, Any] = {"seed": 1, "start": 35557409}  # its first word is a uniform of 1


@pytest.mark.parametrize("noise", [cc.L2Noise(1, 1.0, 0.5), cc.L2Noise(2, 1.0, 0.5)])
def test_a_row_of_zeros_is_drawn_to_its_radius(kernel: Any, noise: Any) -> None:
    row = kernel.draw(noise, 3, **{**DRAWN_ZERO, "start": DRAWN_ZERO["start"] - 1})
    expected = reference.draw(noise, 1, **DRAWN_ZERO)
    assert np.linalg.norm(expected) > 1e-4
    np.testing.assert_allclose(row[1:2], expected, rtol=1e-5)
    center = np.full(noise.dim, 2.0, np.float32)
    np.testing.assert_array_equal(kernel.draw(noise, 1, center=center, **DRAWN_ZERO), 2 + row[1:2])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tails(fast: Kernels, dtype: str) -> None:
    """Coordinates beyond two-sided tails of 1e-3 ... 1e-6 among 8e6: Poisson counts."""
    cases = [(cc.Gaussian(100, 1.0), special.ndtri), (cc.Laplace(100, 1.0), None)]
    for noise, _ in cases:
        z = np.abs(fast.draw(noise, 80_000, 404, dtype=dtype)).ravel()
        for tail in (1e-3, 1e-4, 1e-5, 1e-6):
            edge = -special.ndtri(tail / 2) if noise.name == "gaussian" else -math.log(tail)
            count, mean = int((z > edge).sum()), tail * z.size
            assert stats.poisson.cdf(count, mean) > 1e-9
            assert stats.poisson.sf(count - 1, mean) > 1e-9
        assert np.isfinite(z).all()


def test_moments_and_correlations_of_normals(fast: Kernels) -> None:
    z = fast.draw(cc.Gaussian(40, 1.0), 50_000, 12).astype(np.float64)
    n = z.size
    assert abs(z.mean()) < 6 / math.sqrt(n)
    assert abs((z**2).mean() - 1) < 6 * math.sqrt(2 / n)
    assert abs((z**3).mean()) < 6 * math.sqrt(15 / n)
    assert abs((z**4).mean() - 3) < 6 * math.sqrt(96 / n)
    correlations = np.corrcoef(z.T)[np.triu_indices(40, 1)]
    assert np.abs(correlations).max() < 6.5 / math.sqrt(len(z))
    assert stats.kstest(z.ravel()[:400_000], "norm").pvalue > 1e-8


@pytest.mark.parametrize("n", [1, 5, 1000, 200_000])
@pytest.mark.parametrize("alpha", [0.001, 0.5])
def test_hinge_bound_is_the_maximum_over_lambda(kernel: Kernels, n: int, alpha: float) -> None:
    rng = np.random.default_rng(n)
    draws = rng.normal(-1.0, 1.4, n)
    draws[: n // 3] = -0.7  # ties
    ratios, epsilon = np.exp(draws), math.sqrt(math.log(2 / alpha) / (2 * n))
    lams = np.exp(np.linspace(-8, 8, 4001) if n > 1000 else draws)
    some = np.r_[lams[:: max(1, lams.size // 400)], 0.0]
    hinges = np.array([np.maximum(lam - ratios, 0).mean() for lam in some])
    for p in (0.0, 0.3, 0.9, 0.999, 1.0):
        got = kernel.hinge_bound(draws, p, alpha)
        assert got >= (some * (p - epsilon) - hinges).max() - 1e-12
        if n <= 1000 and 0 < got < p:
            everywhere = [x * (p - epsilon) - np.maximum(x - ratios, 0).mean() for x in ratios]
            assert got == pytest.approx(max(everywhere), rel=1e-10)
        assert got == pytest.approx(DEFINITION.hinge_bound(draws, p, alpha), rel=1e-10, abs=1e-14)
    points = np.linspace(0, 1, 30)
    np.testing.assert_allclose(
        kernel.hinge_bound(draws, points, alpha),
        DEFINITION.hinge_bound(draws, points, alpha),
    )


@pytest.mark.parametrize("n", [131_073, 200_001])
@pytest.mark.parametrize("arranged", ["sorted", "ends low", "one value", "no mass", "wide"])
def test_hinge_bound_of_many(kernel: Kernels, n: int, arranged: str) -> None:
    """Samples whose probes, whole tiles or ends mislead a selection."""
    draws = np.random.default_rng(5).normal(-1.0, 300.0 if arranged == "wide" else 1.4, n)
    draws = np.minimum(draws, 700.0)
    if arranged == "sorted":
        draws.sort()
    elif arranged == "ends low":
        draws[-(n % 256) :] = -50.0
    elif arranged == "one value":
        draws[: 9 * n // 10] = -0.1
    elif arranged == "no mass":
        draws[: n // 2] = -math.inf
    for p in (0.1, 0.5, 0.9, 1.0):
        expected = DEFINITION.hinge_bound(draws, p, 0.01)
        assert kernel.hinge_bound(draws, p, 0.01) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("n", [3, 200_001])
@pytest.mark.parametrize("wrong", [math.nan, math.inf, 710.0])
def test_hinge_bound_refuses_what_is_no_log_ratio(kernel: Kernels, n: int, wrong: float) -> None:
    for place in (0, n // 2, n - 1):
        draws = np.full(n, -0.5)
        draws[place] = wrong
        with pytest.raises(ValueError, match="log_ratio must be below 709"):
            kernel.hinge_bound(draws, 1.0, 0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": np.empty((4, 16), np.float32)[:, ::2]}, "out must be contiguous and writeable"),
        ({"out": np.broadcast_to(np.float32(0), (4, 8))}, "out must be contiguous and writeable"),
        ({"center": np.zeros(5)}, "center must be an array of 8 values"),
        ({"start": -1}, "start must be an integer in"),
    ],
)
def test_bad_draws(kernel: Kernels, options: dict[str, Any], message: str) -> None:
    if kernel.name == "gpu" and "out" in options:
        pytest.skip("arrays of NumPy are filled through a copy")
    with pytest.raises(ValueError, match=message):
        kernel.draw(cc.Gaussian(8, 1.0), 4, 0, **options)


DIGEST = """
import hashlib, sys
import cert_core as cc
for family in ("l1", "l2", "linf", "mixed"):
    for dim in (64, 1100):
        noise = cc.NOISES[family].with_rms(dim, 1.0, dim / 3)
        for dtype in ("float32", "float64"):
            z = cc.draw(noise, 70, 9, dtype=dtype)
            print(family, dim, dtype, hashlib.md5(z.tobytes()).hexdigest())
"""


def digests(**environment: str) -> str:
    env = {**os.environ, **environment}
    done = subprocess.run(
        [sys.executable, "-c", DIGEST], env=env, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.slow
def test_bits_do_not_depend_on_the_vector_width(tmp_path: Path) -> None:
    """Code for AVX2 and for SSE draws the same bits as the native one."""
    native = digests()
    assert len(native.splitlines()) == 16
    names = ("haswell", "x86-64-v2")  # the second has no fma: it is done in software
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(
            lambda name: digests(NUMBA_CPU_NAME=name, NUMBA_CACHE_DIR=str(tmp_path / name)), names
        )
        assert list(found) == [native, native]


def test_a_second_process_compiles_nothing() -> None:
    """The kernels' machine code is cached on disk beside them."""
    from cert_core.kernels.cpu import rows

    cc.draw(cc.Gaussian(3, 1.0), 1, 0)
    stats_ = rows.draw_rows.stats
    assert stats_.cache_path is not None
    program = (
        "import cert_core as cc; cc.draw(cc.Gaussian(3, 1.0), 1, 0);"
        "from cert_core.kernels.cpu import rows;"
        "print(sum(rows.draw_rows.stats.cache_misses.values()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0"


BAD = [
    (lambda: cc.draw(FAMILIES[0], -1, 0), "n must be an integer >= 0, got -1"),
    (lambda: cc.draw(FAMILIES[0], 3, 2**64), "seed must be an integer in"),
    (lambda: cc.draw(FAMILIES[0], 3, 0, start=-1), "start must be an integer in"),
    (lambda: cc.draw(FAMILIES[0], 3, 0, dtype="float16"), "dtype must be one of 'float32'"),
    (lambda: cc.draw(FAMILIES[0], 3, 0, out=np.empty((3, 6), "f4")), "out must be an array of"),
    (lambda: cc.draw(FAMILIES[0], 3, 0, backend="mkl"), "backend must be one of"),
    (
        lambda: cc.log_ratio(FAMILIES[0], np.zeros((3, 6)), Shift("axis", 1.0, True, "")),
        "z must be of shape (n, 7), got (3, 6)",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m[:30] for _, m in BAD])
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        call()
    assert message in str(caught.value)


def test_digest_is_of_content() -> None:
    """The reproducibility test can fail: another seed has another digest."""
    one, two = (hashlib.md5(cc.draw(FAMILIES[0], 9, s).tobytes()).hexdigest() for s in (1, 2))
    assert one != two


@pytest.mark.parametrize("noise", [cc.L2Noise(5, 0.7, 3.0), cc.LinfNoise(6, 1.1, 1.5)], ids=repr)
def test_norms_in_parts_are_those_of_the_whole(noise: cc.Noise) -> None:
    given = (noise, 50, DEFINITION.draw, 3, 7, 1)
    parts = kernels.host.norms_of_rows(*given, bytes_=4 * noise.dim * 16)
    np.testing.assert_array_equal(parts, kernels.host.norms_of_rows(*given, bytes_=1 << 20))
