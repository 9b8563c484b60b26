"""Copies of an input: the contract of draws, and their exact laws.

Distribution tests are statistical: fixed seeds, a false alarm has chance below 1e-8 each.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy import stats
from strategies import members

import cert_core as cc
from cert_core import kernels
from cert_core.copies import product_high
from cert_core.kernels import reference as definition
from cert_core.kernels.cpu.copying import product_high as compiled_product_high


def whole(noise: cc.Noise) -> Any:
    """An input of whole numbers that the noise knows."""
    return np.arange(noise.dim) % getattr(noise, "categories", 2)


cpu, reference = kernels.backend("cpu"), kernels.backend("reference")

CHANNELS = [
    cc.Flips(7, 3, 0.6), cc.Flips(513, 256, 0.3), cc.Flips(1100, 2, 0.9), cc.Flips(1, 5, 0.5),
    cc.SparseFlips(600, 0.1, 0.7), cc.SparseFlips(8, 0.0, 0.2), cc.Ablation(6, 2),
    cc.Ablation(1030, 100), cc.Splitting(700, 0.5), cc.Splitting(9, 0.3141),
    cc.Splitting(5, 1.5, 3), cc.Splitting(600, 0.2001, 7),
]  # fmt: skip
ALL = [*CHANNELS, cc.Uniform(5, 0.7), cc.Uniform(1100, 2.0), *members(cc.CHANNELS)]


@pytest.mark.parametrize("noise", ALL, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cpu_copies_are_those_of_reference(noise: cc.Noise, dtype: str) -> None:
    options: dict[str, Any] = {"start": 2**32 - 150, "dtype": dtype, "center": whole(noise)}
    one, two = cpu.draw(noise, 300, 5, **options), reference.draw(noise, 300, 5, **options)
    assert one.dtype == two.dtype == dtype
    if isinstance(noise, cc.Uniform):
        np.testing.assert_allclose(one, two, atol=1e-6 if dtype == "float32" else 1e-15)
    else:
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("kernel", [cpu, reference], ids=["cpu", "reference"])
@pytest.mark.parametrize("noise", ALL, ids=str)
def test_a_copy_is_the_same_however_it_is_drawn(kernel: kernels.Kernels, noise: cc.Noise) -> None:
    x = whole(noise)
    copies = kernel.draw(noise, 300, 77, center=x)
    np.testing.assert_array_equal(kernel.draw(noise, 40, 77, start=130, center=x), copies[130:170])
    out = np.empty((300, noise.dim), np.float32)
    assert kernel.draw(noise, 300, 77, center=x, out=out) is out
    np.testing.assert_array_equal(out, copies)
    random = (copies != copies[0]).any()
    assert np.array_equal(kernel.draw(noise, 300, 78, center=x), copies) != random
    assert kernel.draw(noise, 0, 77, center=x).shape == (0, noise.dim)


@pytest.mark.parametrize("noise", ALL, ids=str)
def test_threads_change_nothing(noise: cc.Noise) -> None:
    n, x = 2 + (1 << 18) // noise.dim, whole(noise)
    one = cpu.module.draw(noise, n, 3, center=x, threads=1)
    np.testing.assert_array_equal(cpu.module.draw(noise, n, 3, center=x, threads=5), one)


@pytest.mark.parametrize("noise", [n for n in CHANNELS if not isinstance(n, cc.Ablation)], ids=str)
def test_both_types_show_the_same_copies(noise: cc.Noise) -> None:
    x = whole(noise)
    single, double = (cc.draw(noise, 50, 3, center=x, dtype=t) for t in ("float32", "float64"))
    np.testing.assert_array_equal(double.astype(np.float32), single)


@pytest.mark.parametrize("noise", [cc.Flips(9, 256, 0.5), cc.Flips(9, 3, 0.5)], ids=str)
def test_levels_are_categories_divided(noise: cc.Flips) -> None:
    """The form of the input is that of the copies: told by its type, never by its values."""
    top = noise.categories - 1
    codes = np.arange(9) % noise.categories
    named = cc.draw(noise, 60, 5, center=codes)
    levels = cc.draw(noise, 60, 5, center=(codes / top).astype(np.float32))
    np.testing.assert_array_equal((named.astype(np.float64) / top).astype(np.float32), levels)
    dark = np.array([0, 1, 1, 0, 1, 0, 0, 0, 1])
    assert 1.0 < cc.draw(noise, 60, 5, center=dark).max() <= top
    assert cc.draw(noise, 60, 5, center=dark.astype(np.float32)).max() <= 1.0


def shares(noise: cc.Noise, x: Any, n: int) -> Counter[tuple[float, ...]]:
    return Counter(map(tuple, cc.draw(noise, n, 9, center=x).tolist()))


@pytest.mark.parametrize(
    ("noise", "x"),
    [
        (cc.Flips(3, 3, 0.7), [0, 1, 2]), (cc.Flips(2, 4, 0.1), [3, 1]),
        (cc.SparseFlips(4, 0.1, 0.6), [0, 1, 1, 0]), (cc.SparseFlips(3, 0.0, 0.3), [0, 1, 1]),
    ],
    ids=str,
)  # fmt: skip
def test_law_of_flips(noise: Any, x: list[int]) -> None:
    """All copies of a small input, each as often as the product of its entries says."""
    n, seen = 60_000, shares(noise, x, 60_000)
    flip = (
        [noise.keep] * 9 if isinstance(noise, cc.Flips) else [1 - noise.p_plus, 1 - noise.p_minus]
    )
    expected = {}
    for y in itertools.product(range(noise.categories), repeat=noise.dim):
        stays = (flip[a] if a == b else (1 - flip[a]) / (noise.categories - 1)
                 for a, b in zip(x, y, strict=True))  # fmt: skip
        expected[tuple(map(float, y))] = n * math.prod(stays)
    assert all(expected[y] > 0 for y in seen)
    keys = [y for y, mean in expected.items() if mean > 0]
    got = [seen[y] for y in keys]
    assert stats.chisquare(got, [expected[y] for y in keys]).pvalue > 1e-8


@pytest.mark.parametrize(("dim", "keep"), [(5, 2), (6, 3), (7, 1), (6, 5)])
def test_subsets_are_uniform(dim: int, keep: int) -> None:
    noise = cc.Ablation(dim, keep)
    seen = shares(noise, np.arange(1, dim + 1), 100_000)
    kinds = {tuple(float(i + 1) if i in s else -1.0 for i in range(dim))
             for s in itertools.combinations(range(dim), keep)}  # fmt: skip
    assert set(seen) == kinds
    assert stats.chisquare([seen[k] for k in kinds]).pvalue > 1e-8


def test_products_of_words() -> None:
    """The upper half of a product of 64 and 32 bits, to the last unit."""
    words = [0, 1, 2**32 - 1, 2**32, 2**63 + 12345, 2**64 - 1, 0xD2511F53CD9E8D57]
    for m in (1, 2, 3, 150_528, 2**31 + 1, 2**32 - 1):
        # the least words whose product reaches a unit, and those before them
        edges = [-(-(k << 64) // m) + e for k in range(1, min(m, 40)) for e in (-1, 0)]
        for word in words + edges:
            exact = word * m >> 64
            assert int(product_high(np.array([word], np.uint64), m)[0]) == exact
            assert compiled_product_high(np.uint64(word), np.uint64(m)) == exact


def test_wide_subsets() -> None:
    """Each coordinate is seen as often as any other, and each copy shows exactly `keep`."""
    noise = cc.Ablation(2000, 150, null=7.5)
    copies = cc.draw(noise, 5000, 4, center=np.zeros(2000))
    seen = copies != 7.5
    assert (seen.sum(axis=1) == 150).all()
    variance = 5000 * 0.075 * 0.925
    score = ((seen.sum(axis=0) - 375) ** 2).sum() / variance * 1999 / 2000
    assert stats.chi2.sf(score, 1999) > 1e-8
    assert stats.chi2.cdf(score, 1999) > 1e-8


def test_uniform_noise() -> None:
    z = cc.draw(cc.Uniform(6, 0.7), 50_000, 3).astype(np.float64)
    assert np.abs(z).max() <= np.float32(0.7)
    assert stats.kstest(z.ravel(), "uniform", args=(-0.7, 1.4)).pvalue > 1e-8
    assert np.abs(np.corrcoef(z.T)[np.triu_indices(6, 1)]).max() < 6.5 / math.sqrt(50_000)
    moved = cc.draw(cc.Uniform(6, 0.7), 50_000, 3, center=np.full(6, 2.0))
    np.testing.assert_array_equal(moved, np.float32(2) + z.astype(np.float32))


def direct(x: Fraction, split: Fraction, scale: Fraction) -> Fraction:
    """A coordinate's copy as Levine and Feizi 2021 write it, Eq. 3."""
    turns = (x - split) / (2 * scale)
    high = min(2 * scale * math.ceil(turns) + split, Fraction(1))
    low = max(2 * scale * math.ceil(turns - 1) + split, Fraction(0))
    return (high + low) / 2


@pytest.mark.parametrize(
    ("scale", "levels"), [(0.5, 63), (1.5, 3), (0.25, 8), (2.0, 5), (2 / 3, 6)]
)
def test_all_split_copies(scale: float, levels: int) -> None:
    """Every copy of every level, against the published formula in fractions."""
    noise = cc.Splitting(levels + 1, scale, levels)
    count = noise.copies
    assert count == round(2 * scale * levels)
    x = np.arange(levels + 1) / levels
    copies = cc.draw(noise, count, 12, center=x, dtype="float64")
    offsets = definition.split_offsets(noise.dim, count)
    assert offsets.min() >= 0
    assert offsets.max() < count
    exact = Fraction(count, 2 * levels)
    splits = [Fraction(2 * s + 1, 2 * levels) for s in range(count)]
    expected = [
        [float(direct(Fraction(j, levels), splits[(o + step) % count], exact))
         for j, o in enumerate(offsets.tolist())]
        for step in range(count)
    ]  # fmt: skip
    found = np.array(sorted(map(tuple, copies.tolist())))
    np.testing.assert_allclose(found, np.array(sorted(expected)), rtol=1e-15, atol=1e-16)
    again = cc.draw(noise, 2 * count, 99, start=5, center=x, dtype="float64")
    for part in (again[:count], again[count:], again[3 : count + 3]):
        np.testing.assert_array_equal(np.array(sorted(map(tuple, part.tolist()))), found)


def test_offsets_are_uniform_and_one_for_all() -> None:
    """A pixel's splits stand where they do for every input, key and stream."""
    offsets = definition.split_offsets(60_000, 51)
    assert stats.chisquare(np.bincount(offsets, minlength=51)).pvalue > 1e-8
    noise, x = cc.Splitting(900, 0.1), np.zeros(900)
    one, two = (cpu.draw(noise, 51, s, center=x, stream=t) for s, t in ((3, 0), (2**63, 10)))
    assert set(map(bytes, one)) == set(map(bytes, two))


@pytest.mark.parametrize("scale", [0.1003, 0.2777])
def test_random_splits_are_uniform_and_independent(scale: float) -> None:
    """Away from 0 and 1 a copy is x plus uniform noise of half a cell."""
    noise = cc.Splitting(4, scale, 10)
    assert noise.copies is None
    x = np.full(4, 0.5)
    moves = cc.draw(noise, 50_000, 5, center=x, dtype="float64") - 0.5
    inside = moves if scale < 0.25 else moves[np.abs(moves).max(axis=1) < 0.2]
    edge = scale if scale < 0.25 else 0.2
    assert stats.kstest(inside.ravel(), "uniform", args=(-edge, 2 * edge)).pvalue > 1e-8
    correlations = np.corrcoef(moves.T)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 6.5 / math.sqrt(len(moves))


@pytest.mark.parametrize("noise", [cc.Splitting(3, 0.5, 9), cc.Splitting(3, 0.37, 9)], ids=str)
def test_inputs_a_level_apart_share_the_other_copies(noise: cc.Splitting) -> None:
    """The share of copies that differ is |x - x'|_1 / 2 scale along an axis, less otherwise."""
    n = noise.copies or 40_000
    x, along, apart = np.array([[4, 2, 6], [6, 2, 6], [5, 3, 7]]) / 9
    first, second, third = (cc.draw(noise, n, 1, center=c) for c in (x, along, apart))
    differ = (first != second).any(axis=1).mean()
    other = (first != third).any(axis=1).mean()
    share = 2 / 9 / (2 * noise.scale)
    if noise.copies:
        assert differ == pytest.approx(share, abs=1e-12)
        assert other <= 3 / 9 + 1e-12
    else:
        error = 6 * math.sqrt(share / n)
        assert abs(differ - share) < error
        assert abs(other - (1 - (1 - share / 2) ** 3)) < error


def test_votes_of_categories_and_levels() -> None:
    """count_votes hands on what was drawn, in the form of the inputs."""
    noise = cc.Flips(8, 4, 0.6)
    codes = np.random.default_rng(1).integers(0, 4, (3, 2, 4))
    met: list[Any] = []

    def predict(batch: Any) -> Any:
        met.append(batch.copy())
        return np.zeros(len(batch), dtype=int)

    cc.count_votes(predict, codes, noise, 2, 500, 7, batch_size=600)
    batch = np.concatenate(met).reshape(-1, 8)
    expected = [
        cc.draw(noise, 0, 0, center=codes[0]),
        *(
            cpu.draw(noise, 500, kernels.input_seed(7, i), center=row, stream=kernels.ESTIMATION)
            for i, row in enumerate(codes)
        ),
    ]
    np.testing.assert_array_equal(batch, np.concatenate(expected))
    met.clear()
    cc.count_votes(predict, codes / 3, noise, 2, 500, 7)
    np.testing.assert_allclose(np.concatenate(met).reshape(-1, 8), batch / 3, rtol=1e-7)
