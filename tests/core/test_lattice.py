"""Noise on a lattice: its errors beside 60-digit arithmetic, its law, its FAILs, translation."""

from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from core.test_kernels import WORDS, backend_or_skip
from scipy import special, stats

import cert_core as cc
from cert_core.kernels import integers, reference
from cert_core.lattice import MOST, mean_error

PIXEL = cc.Lattice("1/255")
FAMILIES: list[cc.Noise] = [
    cc.Gaussian(5, 0.5), cc.Gaussian(1100, 0.5), cc.Laplace(6, 0.3), cc.L2Noise(5, 0.7, 3.0),
    cc.L2Noise(1, 1.0, 0.4), cc.L2Noise(700, 0.25, 600.0), cc.L1Noise(7, 0.3, 2.0),
    cc.L1Noise(1024, 0.4, 10.0), cc.LinfNoise(6, 0.5, 1.5), cc.LinfNoise(1100, 0.05, 100.0),
    cc.MixedNoise(6, 0.8, 2.5), cc.MixedNoise(600, 1.0, 590.0), cc.MixedNoise(9, 0.5),
    cc.RadialNoise(9, math.inf, 1.0, 0.2), cc.RadialNoise(4, 2.0, 8.0, 0.9, 1.0),
    cc.Uniform(12, 0.4),
]  # fmt: skip
IDS = [f"{n.name}-{n.dim}" for n in FAMILIES]


@pytest.fixture(params=["reference", "cpu", "gpu"])
def kernel(request: pytest.FixtureRequest) -> Any:
    if request.param == "gpu" and isinstance(request.node.callspec.params.get("noise"), cc.Uniform):
        pytest.skip("uniform noise on a lattice is the CPU's")
    return backend_or_skip(request.param)


# ---- the lattice ----


@pytest.mark.parametrize(
    ("step", "exact"),
    [
        ("1/255", (1, 255)), (1 / 255, (1, 255)), (Fraction(1, 255), (1, 255)), (1, (1, 1)),
        (2.0**-24, (1, 2**24)), (0.1, (1, 10)), ("0.004", (1, 250)), (np.float32(0.5), (1, 2)),
        (np.int64(3), (3, 1)), (2.0**-39, (1, 2**39)),
    ],
)  # fmt: skip
def test_steps_are_exact(step: Any, exact: tuple[int, int]) -> None:
    lattice = cc.Lattice(step)
    assert lattice.step == Fraction(*exact)
    assert cc.Lattice(**json.loads(json.dumps(lattice.to_dict()))) == lattice
    assert len({lattice, cc.Lattice(Fraction(*exact))}) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("step", ["1/255", "1/65536", "3/7", "1/1000"])
def test_every_rounded_multiple_is_read(step: str, dtype: str) -> None:
    """And one ulp beside it none is, for the values an image takes."""
    lattice, k = cc.Lattice(step), np.arange(-300, 301)
    exact = [Fraction(int(i)) * Fraction(step) for i in k]
    x = np.array([float(e) for e in exact]).astype(dtype)
    np.testing.assert_array_equal(lattice.integers(x), k)
    np.testing.assert_array_equal(lattice.values(k, dtype), x)
    for toward in (-np.inf, np.inf):
        beside = np.nextafter(x, np.dtype(dtype).type(toward))
        for value in beside[k != 0][::37]:
            with pytest.raises(ValueError, match=r"x\[0\] must be on the lattice of step"):
                lattice.integers(np.array([value]))


def test_images_are_their_integers() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(2, 2, 64)
    for x in (image, image / 255, image.astype("f4") / np.float32(255)):
        np.testing.assert_array_equal(PIXEL.integers(x), image)


def test_a_move_costs_no_more_than_stated() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 40))
    moved = PIXEL.quantised(x)
    PIXEL.integers(moved)
    for attack, norm in (("l1", 1), ("l2", 2), ("linf", math.inf)):
        far = np.linalg.norm(moved - x, ord=norm, axis=1)
        once, twice = (PIXEL.cost(attack, 40, perturbed_off=off) for off in (False, True))
        assert twice == 2 * once
        assert 0.5 * once < far.max() <= once
    exact = Fraction(1, 510) * 3072
    assert exact <= Fraction(PIXEL.cost("l1", 3072, perturbed_off=False)) <= exact * 1.0000001


# ---- errors, beside 60 digits ----


def unit_ends(high: int, low: int) -> tuple[mp.mpf, mp.mpf]:
    """The cell of a uniform of 53 bits."""
    bits = (high << 32 | low) >> 11
    return mp.ldexp(bits, -53), mp.ldexp(bits + 1, -53)


def radius_of(u: mp.mpf) -> mp.mpf:
    return mp.sqrt(-2 * mp.log(u)) if u > 0 else mp.inf


def ideal_pairs(words: Any) -> list[list[mp.mpf]]:
    """Both normals at the corners of the cell of their uniform and angle."""
    w = [int(x) for x in words]
    bits = ((w[2] << 32 | w[3]) >> 11) & (2**51 - 1)
    found = []
    for u, offset in itertools.product(unit_ends(w[0], w[1]), (0, 1)):
        turn = mp.mpf(w[2] >> 30) / 4 + mp.ldexp(bits - 2**50 + offset, -53)
        angle, r = 2 * mp.pi * turn, radius_of(u)
        found.append([r * mp.cos(angle), r * mp.sin(angle)])
    return found


def two_sided(tail: mp.mpf) -> mp.mpf:
    """|x| of a normal with P(|x'| > x) = tail, by Newton's method."""
    if tail <= 0:
        return mp.inf
    x = mp.mpf(float(-special.ndtri(0.5 * float(tail))))
    for _ in range(6):
        x += (mp.erfc(x / mp.sqrt(2)) - tail) / (2 * mp.npdf(x))
    return x


def ideal_magnitudes(kind: str, words: Any, rho: float) -> list[list[mp.mpf]]:
    """Both values at the ends of their uniforms' cells, signed."""
    w = [int(x) for x in words]
    cut = mp.mpf(rho)
    inside, outside = mp.erf(cut / mp.sqrt(2)), mp.erfc(cut / mp.sqrt(2))
    maps = {
        "exponential": lambda u: -mp.log(u) if u > 0 else mp.inf,
        "uniform": lambda u: u,
        "truncated": lambda u: two_sided(outside + inside * u),
    }
    ends = [unit_ends(w[2 * slot], w[2 * slot + 1]) for slot in (0, 1)]
    signs = [1 - 2 * (w[2 * slot + 1] & 1) for slot in (0, 1)]
    return [[signs[s] * maps[kind](ends[s][end]) for s in (0, 1)] for end in (0, 1)]


def blocks() -> Any:
    """Words of hand-set extremes: every tail, the ends of cells and of quadrants; and some."""
    rng = np.random.default_rng(3)
    chosen = list(itertools.product(WORDS, repeat=4))
    picked = [chosen[i] for i in rng.choice(len(chosen), 120, replace=False)]
    tails = [(2**j, 7 * j, 2**32 - 1 - j, 2**j) for j in range(0, 32, 2)]
    tops = [(2**32 - 1, 2**32 - 1 - 2**j, 2**30 * (j % 4), 2**31 + j) for j in range(10, 32, 3)]
    edges = [(0, 2**j, 0, 2**j) for j in range(10, 32, 2)]
    return np.concatenate(
        [
            np.array(picked + tails + tops + edges, np.uint64),
            rng.integers(0, 2**32, (60, 4), np.uint64),
        ]
    )


@pytest.mark.parametrize("kind", ["normal", "exponential", "uniform", "truncated"])
@pytest.mark.parametrize("rho", [1e-6, 0.4, 2.0, 4.5, 8.0])
def test_coordinates_are_within_their_errors(kind: str, rho: float) -> None:
    """Every point of a uniform's cell, tails included, or the bound is infinite."""
    if kind != "truncated" and rho != 2.0:
        pytest.skip("no rho")
    words = blocks()
    columns = [words[:, i][:, None] for i in range(4)]
    with mp.workdps(60), np.errstate(all="ignore"):
        values = reference._coordinates(kind, columns, True, np.array([[rho]]))
        errors = reference._coordinate_errors(kind, columns, np.array([[rho]]))
        share, bounded = 0.0, 0
        for i, block in enumerate(words):
            ideal = ideal_pairs(block) if kind == "normal" else ideal_magnitudes(kind, block, rho)
            for slot in (0, 1):
                bound = float(errors[slot][i, 0])
                far = max(abs(each[slot] - mp.mpf(float(values[slot][i, 0]))) for each in ideal)
                assert not far > bound, (block, far, bound)
                if math.isfinite(bound):
                    share, bounded = max(share, float(far) / bound), bounded + 1
    assert share > (0.05 if kind != "truncated" or rho > 4 else 0)  # no formality
    assert bounded > len(words)


def gamma_log_tail(shape: float, x: mp.mpf, upper: bool) -> mp.mpf:
    """log of the tail of a Gamma law, by its series or its continued fraction."""
    a = mp.mpf(shape)
    lead = a * mp.log(x) - x - mp.loggamma(a)
    if not upper or x < a + 1:
        term, total, n = mp.mpf(1), mp.mpf(1), 1
        while term > total * mp.mpf(10) ** -50:
            term *= x / (a + n)
            total, n = total + term, n + 1
        below = lead + mp.log(total / a)
        return mp.log(1 - mp.exp(below)) if upper else below
    value = mp.mpf(0)
    for i in range(6000, 0, -1):
        value = i * (i - a) / (x + 2 * i + 1 - a - value)
    return lead - mp.log(x + 1 - a - value)


@pytest.mark.parametrize(
    "noise",
    [
        cc.L2Noise(1, 1.0, 0.98), cc.L2Noise(3072, 1.0, 9.0), cc.L2Noise(64, 0.25, 63.9),
        cc.L1Noise(20, 1.0, 3.0), cc.LinfNoise(300, 1.0, 5.0), cc.L2Noise(40, 1.0, 38.0),
        cc.RadialNoise(4, 2.0, 8.0, 0.9, 1.0),
    ],
    ids=lambda n: f"{n.name}-{n.dim}",
)  # fmt: skip
def test_radii_are_within_their_errors(noise: Any) -> None:
    scores = np.array([-8.3, -6.0, -3.3, -1.0, -1e-3, 0.0, 0.4, 2.2, 4.0, 6.6, 8.3])
    own = np.full(scores.shape, 1e-15)
    radius, relative = integers.radius_error(noise, scores, own)
    assert (relative < 1e-9).all()
    record = noise.radial
    with mp.workdps(60):
        for z, r, e in zip(scores, radius, relative, strict=True):
            if r == 0:  # below the least double
                assert mp.log(record.scale) + noise.log_radius()(np.array(z)) < -700
                continue
            upper = bool(z > 0)
            wanted = mp.log(mp.ncdf(-abs(mp.mpf(float(z)))))
            ends = [
                gamma_log_tail(
                    record.shape,
                    (mp.mpf(float(r)) * (1 + s * mp.mpf(float(e))) / record.scale) ** record.power,
                    upper,
                )
                for s in (-1, 1)
            ]
            low, high = sorted(ends)
            assert low <= wanted <= high, (z, r, e)


def gauss_rule(count: int) -> list[tuple[mp.mpf, mp.mpf]]:
    """Nodes and weights of Gauss-Legendre in the present precision."""
    found = []
    for start in np.polynomial.legendre.leggauss(count)[0]:
        x = mp.findroot(lambda t: mp.legendre(count, t), mp.mpf(float(start)))
        slope = count * (x * mp.legendre(count, x) - mp.legendre(count - 1, x)) / (x * x - 1)
        found.append((x, 2 / ((1 - x * x) * slope**2)))
    return found


@pytest.mark.parametrize(
    "noise",
    [cc.MixedNoise(6, 0.8, 2.5), cc.MixedNoise(30, 1.0, 29.5), cc.MixedNoise(300, 0.5, 290.0)],
    ids=lambda n: str(n.dim),
)
def test_radii_of_the_mixed_family_are_within_their_errors(noise: Any) -> None:
    scores = np.array([-6.0, -1.0, 0.3, 5.0])
    radius, relative = integers.radius_error(noise, scores, np.full(scores.shape, 1e-15))
    d, k = noise.dim, noise.k
    with mp.workdps(40):
        rule = gauss_rule(20)

        def log_density(y: mp.mpf) -> mp.mpf:
            rho = mp.exp(y)
            return (1 - k) * y - rho**2 / 2 + (d - 1) * mp.log(mp.erf(rho / mp.sqrt(2)))

        def mass(low: mp.mpf, high: mp.mpf) -> mp.mpf:
            half = (high - low) / 240
            return half * mp.fsum(
                w * mp.exp(log_density(low + half * (2 * i + 1 + x)))
                for i in range(120) for x, w in rule
            )  # fmt: skip

        middle = mp.log(mp.mpf(float(np.median(radius))) / noise.sigma)
        top, low, high = log_density(middle), middle, middle
        while log_density(low) > top - 80:
            low -= mp.mpf(1) / 8
        while log_density(high) > top - 80:
            high += mp.mpf(1) / 64
        total = mass(low, high)
        for z, r, e in zip(scores, radius, relative, strict=True):
            for side in (-1, 1):
                y = mp.log(mp.mpf(float(r)) / noise.sigma) + side * mp.mpf(float(e))
                gap = mass(low, y) / total - mp.ncdf(mp.mpf(float(z)))
                assert side * gap >= -(mp.mpf(10) ** -25), (z, side, gap)


@pytest.mark.parametrize("noise", FAMILIES, ids=IDS)
def test_rows_are_within_their_errors(noise: Any) -> None:
    """The composition of both, in 60 digits from the float64 parts."""
    n, key, start = 6, 5, 40
    rows, errors = reference._bounded_rows(noise, n, key, start, 0)
    drawn = reference.draw(noise, n, key, start=start, stream=0, dtype="float64")
    scale = np.abs(drawn).max(axis=1, keepdims=True) + mean_error(noise)
    assert (np.abs(rows - drawn) <= 3e-9 * scale).all()  # a table's radius there
    assert np.median(errors) <= 12 * mean_error(noise)
    record = None if isinstance(noise, cc.Uniform) else noise.radial
    if record is None or record.coordinate_scale is not None or record.norm == math.inf:
        return
    kind = reference.DIRECTIONS[record.norm]
    raw, own = reference._bounded(kind, (n, noise.dim), key, start, 0)
    radius, relative = reference.radii(noise, n, key, start, 0)
    rng = np.random.default_rng(0)
    with mp.workdps(60):
        for i in range(n):  # any point of the box of errors
            for _ in range(3):
                sides = rng.choice([-1, 1], noise.dim)
                x = [
                    mp.mpf(a) + int(s) * mp.mpf(b)
                    for a, b, s in zip(raw[i], own[i], sides, strict=True)
                ]
                r = mp.mpf(radius[i]) * (1 + mp.mpf(relative[i]))
                size = (
                    mp.fsum(map(abs, x)) if record.norm == 1 else mp.sqrt(mp.fsum(v * v for v in x))
                )
                for j in range(0, noise.dim, 1 + noise.dim // 20):
                    assert abs(r * x[j] / size - mp.mpf(rows[i, j])) <= mp.mpf(errors[i, j])


def test_faces_that_a_uniform_leaves_open_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = cc.LinfNoise(1000, 0.05, 100.0)
    _, failed = reference.draw_lattice(noise, 4, 1, PIXEL)
    assert not failed.any()
    real = reference.row_uniforms

    def open_face(n: int, *place: Any) -> Any:
        u, v, sign = real(n, *place)
        return np.where(np.arange(n) == 2, (317 + 2.0**-44) / 1000, u), v, sign

    monkeypatch.setattr(reference, "row_uniforms", open_face)
    _, failed = reference.draw_lattice(noise, 4, 1, PIXEL)
    np.testing.assert_array_equal(failed, [False, False, True, False])


@pytest.mark.parametrize(
    "noise", [cc.Gaussian(4, 0.5), cc.L2Noise(4, 0.5, 1.0), cc.Laplace(4, 0.3)]
)
def test_first_cells_fail(monkeypatch: pytest.MonkeyPatch, noise: Any) -> None:
    """Words of a tail without end: every backend FAILs them, none invents a value."""
    real = reference.philox

    def tail(counter: list[Any], key: int) -> Any:
        words = real(counter, key)
        if np.shape(counter[2])[-1:] == (2,):  # the coordinates' blocks
            words = [w.copy() for w in words]
            words[0][1, 0], words[1][1, 0] = 0, 5
        return words

    monkeypatch.setattr(reference, "philox", tail)
    _, failed = reference.draw_lattice(noise, 3, 1, PIXEL)
    np.testing.assert_array_equal(failed, [False, True, False])


# ---- draws ----


@pytest.mark.parametrize("noise", FAMILIES, ids=IDS)
@pytest.mark.parametrize("step", ["1/255", "1/65536"])
def test_integers_are_those_of_the_reference(kernel: Any, noise: Any, step: str) -> None:
    """Bit by bit, FAILs as well, for any batch and start."""
    lattice, n = cc.Lattice(step), 400
    whole, failed = kernel.draw_lattice(noise, n, 5, lattice, start=2**32 - 250)
    expected, fails = reference.draw_lattice(noise, n, 5, lattice, start=2**32 - 250)
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(failed, fails)
    assert (whole.dtype, failed.dtype) == (np.int32, bool)
    part, few = kernel.draw_lattice(noise, 40, 5, lattice, start=2**32 - 120)
    np.testing.assert_array_equal(part, whole[130:170])
    np.testing.assert_array_equal(few, failed[130:170])
    z = reference.draw(noise, n, 5, start=2**32 - 250, dtype="float64")
    nearest = np.floor(z / float(lattice.step) + 0.5)
    assert np.mean(whole == nearest) > 1 - 1e-3  # a table's radius is off by 1e-10
    assert np.abs(whole - nearest).max() <= 1


def test_threads_change_no_integer() -> None:
    cpu = backend_or_skip("cpu").module
    for noise in (cc.Gaussian(300, 0.5), cc.L2Noise(300, 0.5, 9.0), cc.MixedNoise(300, 0.5, 9.0)):
        one = cpu.draw_lattice(noise, 2000, 3, PIXEL, threads=1)
        five = cpu.draw_lattice(noise, 2000, 3, PIXEL, threads=5)
        np.testing.assert_array_equal(one[0], five[0])
        np.testing.assert_array_equal(one[1], five[1])


@pytest.mark.parametrize("noise", FAMILIES, ids=IDS)
def test_translation(kernel: Any, noise: Any) -> None:
    """input(J + D, K) == input(J, K + D), bit by bit."""
    rng = np.random.default_rng(noise.dim)
    image, moved = rng.integers(0, 256, noise.dim), rng.integers(-300, 300, noise.dim)
    whole, failed = kernel.draw_lattice(noise, 50, 9, PIXEL, center=image + moved)
    beside, fails = kernel.draw_lattice(noise, 50, 9, PIXEL, center=image)
    np.testing.assert_array_equal(failed, fails)
    kept = ~failed
    left = PIXEL.values(whole[kept], np.float32)
    right = PIXEL.values(beside[kept] + moved.astype(np.int32), np.float32)
    np.testing.assert_array_equal(left.view(np.uint32), right.view(np.uint32))


@pytest.mark.parametrize("step", ["1/255", "3/7", "1/65536"])
def test_values_are_the_same_bits_everywhere(kernel: Any, step: str) -> None:
    lattice, out = cc.Lattice(step), np.empty((40, 700), np.float32)
    center = np.arange(700) * 999_983 % MOST
    own = getattr(kernel, "backend", kernel)  # whose integers stay where they are
    whole, _ = own.draw_lattice(cc.Gaussian(700, 0.5), 40, 3, lattice, center=center)
    own.write_values(lattice, whole, out)
    host = whole.get() if hasattr(whole, "get") else whole
    np.testing.assert_array_equal(out.view("u4"), lattice.values(host, np.float32).view("u4"))


@pytest.mark.parametrize("kind", ["normal", "exponential", "truncated"])
@pytest.mark.parametrize("dim", [5, 1100])
def test_tails_are_left_undecided(kind: str, dim: int) -> None:
    """What margins leave out, by the words themselves: in the CPU's rows and in the header."""
    from cert_core.kernels.cpu import rows
    from cert_core.native import drawing

    backend_or_skip("cpu")
    least, n = 2**28, 40  # a sixteenth of all
    code = ["normal", "exponential", "uniform", "truncated"].index(kind)

    def lost(w: Any) -> Any:
        first = w[0] < least, w[2] < least
        return [first[0], first[0] if kind == "normal" else first[1]]

    expected, out = np.empty((n, dim), bool), np.empty((n, dim))
    reference._layout(expected, 2, 7, 3, 4, lost)
    rho = np.repeat(np.array([[math.erf(1.0)], [math.erfc(1.0)], [math.sqrt(2)]]), n, axis=1)
    rows.fill(code, np.uint64(3), np.uint64(4), np.uint64(7), 2, rho, least, out)
    np.testing.assert_array_equal(np.isnan(out), expected)
    words = blocks().astype(np.uint32)
    found = drawing.coordinates(code, words, True, rho[:, 0], least)
    marked = np.stack(lost([words[:, i] for i in range(4)]), axis=1)
    if kind == "normal":
        marked |= (words[:, 0] == 2**32 - 1)[:, None]
    np.testing.assert_array_equal(np.isnan(found), marked)


def test_margins_leave_few_rows_to_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = backend_or_skip("cpu").module
    asked: list[int] = []

    def decide(*place: Any) -> Any:
        asked.append(len(place[-1]))
        return reference.decide(*place)

    monkeypatch.setattr(cpu, "decide", decide)
    for noise in (cc.Gaussian(3072, 0.25), cc.L2Noise.with_rms(3072, 0.25, 1000.0)):
        cpu.draw_lattice(noise, 4000, 1, PIXEL)
    assert 0 < sum(asked) < 30


# ---- the law ----


def cell_table(noise: Any, cells: int) -> np.ndarray[Any, Any]:
    """Exact probabilities of one coordinate's cells of width 1, from -cells to cells, the ends
    with all beyond."""
    edges = np.arange(-cells, cells) + 0.5
    if noise.name == "gaussian":
        cdf = special.ndtr(edges / noise.sigma)
    elif noise.name == "laplace":
        cdf = np.where(edges < 0, 0.5 * np.exp(edges / noise.b), 1 - 0.5 * np.exp(-edges / noise.b))
    elif noise.name == "uniform":
        cdf = np.clip(0.5 + edges / (2 * noise.scale), 0, 1)
    else:  # in one dimension |z| is the radius
        record = noise.radial
        below = special.gammainc(record.shape, (np.abs(edges) / record.scale) ** record.power)
        cdf = 0.5 + 0.5 * np.sign(edges) * below
    return np.diff(np.concatenate([[0.0], cdf, [1.0]]))


@pytest.mark.parametrize(
    "noise",
    [
        cc.Gaussian(1, 1.3), cc.Laplace(1, 0.9), cc.L2Noise(1, 1.5, 0.6), cc.LinfNoise(1, 1.2, 0.3),
        cc.MixedNoise(1, 1.2, 0.3), cc.Gaussian(2, 0.9), cc.Gaussian(3, 0.8), cc.Laplace(2, 0.7),
        cc.Laplace(3, 0.6), cc.MixedNoise(2, 0.9), cc.Uniform(2, 1.9), cc.Uniform(3, 1.2),
    ],
    ids=lambda n: f"{n.name}-{n.dim}",
)  # fmt: skip
def test_law_of_cells(noise: Any) -> None:
    """Chi-square against exact probabilities of the cells of step 1; a false alarm: 1e-8."""
    cells, n, d = 4, 200_000, noise.dim
    own = cc.Gaussian(d, noise.sigma) if noise.name == "mixed" and noise.k == 0 else noise
    one = cell_table(own, cells)
    whole, failed = cc.draw_lattice(noise, n, 12, cc.Lattice(1))
    assert not failed.any()
    place = np.clip(whole, -cells, cells) + cells
    index = np.ravel_multi_index(tuple(place.T), (2 * cells + 1,) * d)
    found = np.bincount(index, minlength=(2 * cells + 1) ** d)
    expected = n * one
    for _ in range(d - 1):
        expected = np.multiply.outer(expected, one)
    expected = expected.ravel()
    rare = expected < 10
    found = np.append(found[~rare], found[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    some = expected > 0
    assert found[~some].sum() == 0
    assert stats.chisquare(found[some], expected[some]).pvalue > 1e-8


PLANE = [cc.L2Noise(2, 1.2, 0.7), cc.LinfNoise(2, 1.1, 0.6), cc.L1Noise(2, 0.8, 0.5)]


@pytest.mark.parametrize("noise", PLANE, ids=lambda n: n.name)
def test_law_of_plane_cells(noise: Any) -> None:
    """The same where coordinates depend: the density is integrated over each cell, in polar
    coordinates about the origin's."""
    n, cells = 200_000, 2
    whole, _ = cc.draw_lattice(noise, n, 12, cc.Lattice(1))
    x, w = np.polynomial.legendre.leggauss(24)
    x, w = 0.5 * x, 0.5 * w
    u, v = np.meshgrid(x, x)
    weights = np.outer(w, w)
    found, expected = [], []
    for i, j in itertools.product(range(-cells, cells + 1), repeat=2):
        if (i, j) == (0, 0):
            continue
        parts = 8 if noise.name != "l2" else 1  # kinks of the norm along axes and diagonals
        total = 0.0
        for a, b in itertools.product(range(parts), repeat=2):
            z = np.stack([i - 0.5 + (a + 0.5 + u) / parts, j - 0.5 + (b + 0.5 + v) / parts], -1)
            total += float(np.sum(weights * np.exp(noise.log_density(z)))) / parts**2
        expected.append(n * total)
        found.append(int(((whole[:, 0] == i) & (whole[:, 1] == j)).sum()))
    found.append(n - sum(found))
    expected.append(n - sum(expected))
    assert stats.chisquare(found, expected).pvalue > 1e-8


NORMS = [
    (cc.Gaussian(300, 0.5), 20_000), (cc.L2Noise(700, 0.25, 600.0), 20_000),
    (cc.L1Noise(1024, 0.4, 10.0), 20_000), (cc.LinfNoise(1100, 0.05, 100.0), 20_000),
    pytest.param(cc.Gaussian(150528, 0.5), 3000, marks=pytest.mark.slow),
    pytest.param(cc.L2Noise(150528, 0.5, 150000.0), 3000, marks=pytest.mark.slow),
]  # fmt: skip


@pytest.mark.parametrize(("noise", "n"), NORMS)
def test_law_of_the_norm(noise: Any, n: int) -> None:
    lattice, record = cc.Lattice("1/65536"), noise.radial
    scores = []
    for start in range(0, n, 500):
        whole, failed = cc.draw_lattice(noise, min(500, n - start), 77, lattice, start=start)
        z = lattice.values(whole[~failed])
        scores.append(np.linalg.norm(z, ord=record.norm, axis=1))
    gamma = (np.concatenate(scores) / record.scale) ** record.power
    assert len(gamma) > 0.99 * n
    assert stats.kstest(special.gammainc(record.shape, gamma), "uniform").pvalue > 1e-8


# ---- FAILs ----


@pytest.mark.parametrize("noise", FAMILIES, ids=IDS)
def test_fails_are_rarer_than_stated(noise: Any) -> None:
    """Measured where the step is so small that some are seen."""
    step = 1.05 * cc.Lattice("1/1024")._least(noise)
    lattice, n = cc.Lattice(Fraction(1, int(1 / step))), max(500, 300_000 // noise.dim)
    bound = lattice.failure_bound(noise)
    whole, failed = cc.draw_lattice(noise, n, 3, lattice)
    expected, own = reference.draw_lattice(noise, n, 3, lattice)
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(failed, own)
    fails = int(failed.sum())
    assert np.abs(whole).max() < MOST
    assert fails <= stats.binom.isf(1e-9, n, min(bound, 1.0))
    if n * bound > 400:
        assert fails > 0.02 * n * bound  # the bound is no formality


def test_fails_at_usual_steps_are_rare() -> None:
    """The table of chances that documents quote."""
    for step, most in (("1/255", 3e-7), ("1/65536", 1e-4)):
        for noise in (cc.Gaussian(3072, 0.5), cc.L2Noise.with_rms(3072, 0.5, 1000.0)):
            bound = cc.Lattice(step).failure_bound(noise)
            assert 1e-8 < bound < most


def test_a_step_that_int32_cannot_hold_is_refused() -> None:
    noise = cc.Gaussian(3072, 0.5)
    for call in (PIXEL.checked, PIXEL.failure_bound):
        call(noise)
    with pytest.raises(ValueError, match=r"step must be large against .*: take ") as caught:
        cc.draw_lattice(noise, 3, 0, cc.Lattice("1/10000000000"))
    remedy = float(str(caught.value).split(": take ")[1].split()[0])
    cc.draw_lattice(noise, 3, 0, cc.Lattice(Fraction(1, int(1 / remedy))))


@pytest.mark.parametrize(
    "noise",
    [cc.Gaussian(3, 1.0).scaled([1.0, 2.0, 3.0]), cc.Flips(3, 4, 0.5), cc.Splitting(3, 0.3)],
)
def test_noises_that_cannot_serve_are_refused(noise: Any) -> None:
    with pytest.raises(cc.errors.UnsupportedPair, match="to be drawn on a lattice, got"):
        cc.draw_lattice(noise, 3, 0, PIXEL)
