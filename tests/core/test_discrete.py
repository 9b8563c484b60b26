"""Noises with finitely many ratios: bounds against all inputs, all copies and all classifiers.

The channels here are written down from their definitions, entry by entry, in fractions; L is a
linear programme over every classifier, and in fractions its greedy solution.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

import cert_core as cc
from cert_core.laws import atomic
from cert_core.laws.atomic import AtomicLaw, LongLaw

P = (0.01, 0.3, 0.5, 0.7, 0.9, 0.999, 1.0)
Law = dict[Any, Fraction]


def by_entries(x: tuple[int, ...], categories: int, move: Callable[[int, int], Fraction]) -> Law:
    """The law of copies whose entries move independently."""
    return {
        y: math.prod((move(a, b) for a, b in zip(x, y, strict=True)), start=Fraction(1))
        for y in itertools.product(range(categories), repeat=len(x))
    }


def copies(noise: Any, x: tuple[int, ...]) -> Law:
    """The law of the copies of an input, from the noise's definition."""
    if isinstance(noise, cc.Flips):
        keep = Fraction(noise.keep)
        other = (1 - keep) / (noise.categories - 1)
        return by_entries(x, noise.categories, lambda a, b: keep if a == b else other)
    if isinstance(noise, cc.SparseFlips):
        flip = Fraction(noise.p_plus), Fraction(noise.p_minus)
        return by_entries(x, 2, lambda a, b: 1 - flip[a] if a == b else flip[a])
    found: Law = {}
    for seen in itertools.combinations(range(noise.dim), noise.keep):
        copy = tuple(v if i in seen else None for i, v in enumerate(x))
        found[copy] = found.get(copy, Fraction(0)) + Fraction(1, math.comb(noise.dim, noise.keep))
    return found


def greedy(base: Law, moved: Law, p: Fraction) -> Fraction:
    """The least moved mass of a classifier whose base mass is p."""
    zero = Fraction(0)
    atoms = sorted((moved.get(y, zero) / m, m) for y, m in base.items() if m > 0)
    found, left = zero, p
    for ratio, mass in atoms:
        taken = min(mass, left)
        found, left = found + ratio * taken, left - taken
    return found


def programme(base: Law, moved: Law, p: float) -> float:
    """The same by a linear programme over all classifiers."""
    keys = sorted({*base, *moved}, key=repr)
    first, second = ([float(law.get(k, 0)) for k in keys] for law in (base, moved))
    answer = optimize.linprog(second, A_eq=[first], b_eq=[p], bounds=(0, 1))
    return float(answer.fun)


def inputs(noise: Any) -> list[tuple[int, ...]]:
    return list(itertools.product(range(getattr(noise, "categories", 2)), repeat=noise.dim))


def by_distance(noise: Any) -> dict[int, list[tuple[Law, Law]]]:
    """The laws of all pairs of inputs, each kind of pair once, by the entries that differ."""
    laws = {x: copies(noise, x) for x in inputs(noise)}
    found: dict[int, dict[Any, tuple[Law, Law]]] = {}
    for x, y in itertools.product(laws, laws):
        apart = sum(a != b for a, b in zip(x, y, strict=True))
        pairs = [(m, laws[y].get(k, Fraction(0))) for k, m in laws[x].items() if m > 0]
        found.setdefault(apart, {})[tuple(sorted(pairs))] = laws[x], laws[y]
    return {apart: list(kinds.values()) for apart, kinds in found.items()}


SMALL = [
    cc.Flips(4, 2, 0.9), cc.Flips(3, 3, 0.5), cc.Flips(3, 3, 0.34), cc.Flips(3, 3, 0.2),
    cc.Flips(3, 2, 0.5), cc.Flips(2, 3, 1.0), cc.Flips(1, 4, 0.4),
    cc.SparseFlips(3, 0.1, 0.6), cc.SparseFlips(4, 0.01, 0.9), cc.SparseFlips(3, 0.3, 0.3),
    cc.SparseFlips(3, 0.0, 0.5), cc.SparseFlips(3, 0.5, 0.0), cc.SparseFlips(3, 0.7, 0.8),
    cc.SparseFlips(3, 0.25, 0.75), cc.SparseFlips(2, 0.0, 0.0),
    cc.Ablation(4, 1), cc.Ablation(4, 2), cc.Ablation(4, 3), cc.Ablation(3, 3),
]  # fmt: skip


@pytest.mark.parametrize("noise", SMALL, ids=str)
def test_bounds_are_the_worst_over_all_pairs_and_classifiers(noise: Any) -> None:
    least = dict.fromkeys(P, Fraction(2))
    for apart, kinds in sorted(by_distance(noise).items()):
        for p in P:
            exact = min(greedy(*pair, Fraction(p)) for pair in kinds)
            found = cc.lower_bound(p, noise, "l0", apart)
            assert found == min(atomic.rounded_down(*exact.as_integer_ratio()), p), (apart, p)
            assert exact <= least[p]  # one more change only informs
            least[p] = exact
        assert programme(*kinds[0], 0.7) == pytest.approx(
            float(greedy(*kinds[0], Fraction(0.7))), abs=1e-9
        )
        needed = Fraction(cc.required_probability(noise, "l0", apart))
        if apart and needed < 1:
            at = min(greedy(*pair, needed) for pair in kinds)
            below = min(greedy(*pair, needed - Fraction(1, 2**50)) for pair in kinds)
            assert at >= Fraction(1, 2) >= below


@pytest.mark.parametrize("noise", [n for n in SMALL if isinstance(n, cc.SparseFlips)], ids=str)
def test_added_and_deleted_are_told_apart(noise: cc.SparseFlips) -> None:
    laws = {x: copies(noise, x) for x in inputs(noise)}
    certified = set()
    for x, y in itertools.product(laws, laws):
        added = sum(b > a for a, b in zip(x, y, strict=True))
        deleted = sum(b < a for a, b in zip(x, y, strict=True))
        for p in (0.3, 0.9, 1.0):
            exact = greedy(laws[x], laws[y], Fraction(p))
            found = cc.sparse_lower_bound(p, noise, added, deleted)
            assert found == min(atomic.rounded_down(*exact.as_integer_ratio()), p)
            if p == 0.9 and exact > Fraction(1, 2):
                certified.add((added, deleted))
    frontier = cc.sparse.sparse_frontier(0.9, noise).tolist()
    below = {(a, d) for i, j in frontier for a in range(i + 1) for d in range(j + 1)}
    assert below == certified
    assert not any(  # none of the pairs is below another
        a <= c and b <= d for (a, b), (c, d) in itertools.permutations(frontier, 2)
    )


def counted(categories: int, keep: float, r: int, p: float) -> Fraction:
    """L by counting r coordinates: old value, new one, elsewhere (Lee et al. 2019, Lemma 4)."""
    a = Fraction(keep)
    b = (1 - a) / (categories - 1)
    base, moved = {}, {}
    for i in range(r + 1):
        for j in range(r + 1 - i):
            m = r - i - j
            ways = math.factorial(r) // (
                math.factorial(i) * math.factorial(j) * math.factorial(m)
            ) * (categories - 2) ** m  # fmt: skip
            base[i, j] = ways * a**i * b ** (j + m)
            moved[i, j] = ways * a**j * b ** (i + m)
    assert sum(base.values()) == 1 == sum(moved.values())
    return greedy(base, moved, Fraction(p))


@pytest.mark.parametrize("keep", [0.1, 0.2, 0.3, 0.4, 0.5])
@pytest.mark.parametrize("categories", [2, 256])
def test_thresholds_of_lee_et_al(keep: float, categories: int) -> None:
    """Five levels, up to nine changes: every digit of a double."""
    noise = cc.Flips(150528, categories, keep)
    for r in range(1, 10):
        threshold = cc.required_probability(noise, "l0", r)
        exact = 1 - counted(categories, keep, r, 0.5)
        assert exact <= Fraction(threshold) <= exact + Fraction(1, 2**53)
        above = math.nextafter(threshold, 2.0)
        if above <= 1:
            assert cc.certified_radius(above, noise, "l0") >= r
        assert cc.certified_radius(float(exact) * (1 - 1e-15), noise, "l0") < r


@pytest.mark.parametrize(
    ("noise", "attack"),
    [
        (cc.Flips(40, 5, 0.6), "l0"), (cc.SparseFlips(40, 0.1, 0.4), "l0"),
        (cc.Ablation(40, 7), "l0"), (cc.Uniform(40, 0.5), "l1"), (cc.Uniform(40, 0.5), "linf"),
        (cc.Splitting(40, 0.5), "l2"),
    ],
    ids=str,
)  # fmt: skip
def test_properties_of_the_bounds(noise: cc.Noise, attack: str) -> None:
    radii = np.array([0.0, 1, 2, 5, 12]) * (1.0 if attack == "l0" else 0.004)
    p = np.linspace(0, 1, 41)
    table = cc.lower_bound(p, noise, attack, radii[:, None])
    assert (table[0] == p).all()
    assert (np.diff(table, axis=0) <= 0).all()
    assert (np.diff(table) >= 0).all()
    if not isinstance(noise, cc.SparseFlips):  # the least over splits is not convex
        assert (np.diff(table, 2) >= -1e-15).all()
    needed = cc.required_probability(noise, attack, radii)
    assert needed[0] == 0.5
    assert (np.diff(needed) >= 0).all()
    for r, p_min in zip(radii[1:], needed[1:], strict=True):
        assert p_min == pytest.approx(1 - cc.lower_bound(0.5, noise, attack, r), abs=1e-15) or (
            isinstance(noise, cc.SparseFlips)  # the two laws are not each other's mirror
        )
        lam = np.array([1e-6, 0.3, 1.0, 1.7, 1e5])
        loss = cc.discrepancy(lam, noise, attack, r)
        assert ((loss >= np.maximum(lam - 1, 0)) & (loss <= lam)).all()
        dual = lam[:, None] * p - loss[:, None]
        lower = cc.lower_bound(p, noise, attack, r)
        assert (dual <= lower + 1e-15 * np.maximum(lam, 1)[:, None]).all()
        values = np.array([0.6, 0.8, 0.95, 0.9999])
        reach = cc.certified_radius(values, noise, attack)
        assert (cc.required_probability(noise, attack, reach) <= values).all()
        step = 1.0 if attack == "l0" else reach * 1e-9
        assert (cc.required_probability(noise, attack, reach + step) >= values).all()


@pytest.mark.parametrize("noise", [cc.Flips(9, 3, 0.7), cc.Ablation(9, 3)], ids=str)
def test_a_law_is_a_distribution(noise: cc.Noise) -> None:
    law = cc.log_ratio_law(noise, "l0", 3)
    p = np.array([1e-9, 0.2, 0.5, 0.9, 1.0])
    at = law.ppf(p)
    assert (law.cdf(at) >= p).all()
    before = np.isfinite(at)
    assert (law.cdf(np.nextafter(at, -np.inf))[before] < p[before]).all()
    np.testing.assert_allclose(law.cdf(at) + law.sf(at), 1.0, rtol=1e-15)
    low, high = law.enclose(np.array([-np.inf, *at, np.inf]))
    assert (low[1:-1] <= law.cdf(at)).all()
    assert (law.cdf(at) <= high[1:-1]).all()
    assert (low[-1], high[-1]) == (1.0, 1.0)
    assert law.tight is cc.is_tight(noise, "l0") is True
    shift = cc.worst_shift(noise, "l0", 3)
    assert (shift.kind, shift.size) == ("entries", 3.0)
    assert shift.as_array(9).sum() == 3


def test_the_log_ratio_is_that_of_its_atoms() -> None:
    """E exp(l) over what pi0 reaches is the mass that pi_delta has there."""
    law = cc.log_ratio_law(cc.SparseFlips(9, 0.1, 0.1), "l0", 4)
    t = np.log(9.0) * np.arange(-4, 5, 2)
    masses = np.diff(np.r_[0.0, law.cdf(t + 1e-9)])
    assert (masses * np.exp(t)).sum() == pytest.approx(1.0)
    assert law.cdf(t[0] - 1e-9) == 0.0


def sparse(p_plus: float, p_minus: float, added: int, deleted: int) -> Callable[[], Any]:
    noise = cc.SparseFlips(9, p_plus, p_minus)
    return lambda: atomic.sparse_law(noise.record, added, deleted, atomic.EXACT_CHANGES)


LONG: list[tuple[Any, Callable[[], Any]]] = [
    (cc.Flips(10**5, 2, 0.6), lambda: atomic.flips_law(cc.Flips(1, 2, 0.6).record, 201)),
    (cc.Flips(10**5, 256, 0.3), lambda: atomic.flips_law(cc.Flips(1, 256, 0.3).record, 90)),
    (cc.Flips(10**5, 3, 0.2), lambda: atomic.flips_law(cc.Flips(1, 3, 0.2).record, 301)),
    (cc.Flips(10**5, 2, 0.501), lambda: atomic.flips_law(cc.Flips(1, 2, 0.501).record, 900)),
    (None, sparse(0.1, 0.4, 70, 61)),
    (None, sparse(0.7, 0.6, 40, 80)),
    (None, sparse(0.0, 0.4, 3, 61)),
]


@pytest.mark.parametrize("case", range(len(LONG)))
def test_masses_in_doubles_enclose_the_exact_ones(
    monkeypatch: pytest.MonkeyPatch, case: int
) -> None:
    build = LONG[case][1]
    monkeypatch.setattr(atomic, "EXACT_CHANGES", 1000)
    exact = build()
    monkeypatch.setattr(atomic, "EXACT_CHANGES", 0)
    long = build()
    assert isinstance(exact, AtomicLaw)
    assert isinstance(long, LongLaw)
    tolerance = 40 * long.error
    for p in (1e-5, 0.1, 0.5, 0.8, 0.97, 1 - 1e-9, 1.0):
        truth, found = exact.lower(p), long.lower(p)
        assert truth * (1 - tolerance) - 1e-12 <= found <= truth
    for one, two, sign in zip(exact.required(), long.required(), (1, -1), strict=True):
        assert 0 <= sign * (two - one) <= tolerance
    levels = np.array([0.01, 0.3, 0.5, 0.9, 0.9999])
    points = exact.ppf(levels)
    np.testing.assert_allclose(long.ppf(levels), points, rtol=1e-12, atol=1e-12)
    for t in np.r_[points, points + 1e-3]:
        low, high = long.enclose(t)
        assert low <= exact.cdf(t) <= high <= low + 0.4
        assert long.enclose(t + 1e-3)[1] - long.enclose(t + 1e-3)[0] <= tolerance or t in points
        lam = math.exp(min(t, 200.0))
        assert exact.discrepancy(lam) <= long.discrepancy(lam)
        assert long.discrepancy(lam) <= exact.discrepancy(lam) + tolerance * (1 + lam)


def binomial(n: int, p: Fraction) -> list[Fraction]:
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


def random_law(rng: random.Random) -> tuple[list[tuple[Fraction, Fraction]], Callable[[], Any]]:
    """Atoms (pi0, pi_delta) in fractions of a law with parameters near every edge, and the law."""
    small, near = 10 ** -rng.uniform(1, 12), 1 - 10 ** -rng.uniform(1, 9)
    if rng.random() < 0.5:
        categories, r = rng.choice([2, 3, 17, 256]), rng.choice([1, 2, 3, 5, 9, 14])
        keep = rng.choice([rng.random() + 1e-3, 1 / categories, max(small, 1e-9), near])
        a, b = Fraction(min(keep, 1.0)), (1 - Fraction(min(keep, 1.0))) / (categories - 1)
        atoms = []
        for i, j in itertools.product(range(r + 1), repeat=2):
            if i + j <= r:
                ways = math.comb(r, i) * math.comb(r - i, j) * (categories - 2) ** (r - i - j)
                atoms.append((ways * a**i * b ** (r - i), ways * a**j * b ** (r - j)))
        record = cc.Flips(1, categories, min(keep, 1.0)).record
        return atoms, lambda: atomic.flips_law(record, r)
    plus, minus = (rng.choice([0.0, rng.random(), small, near]) for _ in range(2))
    added, deleted = rng.randint(0, 7), rng.randint(1, 7)
    p, q = Fraction(plus), Fraction(minus)
    atoms = [
        (first * second, one * other)
        for first, one in zip(binomial(added, p), binomial(added, 1 - q), strict=True)
        for second, other in zip(binomial(deleted, q), binomial(deleted, 1 - p), strict=True)
    ]
    sparse = cc.SparseFlips(1, plus, minus).record
    return atoms, lambda: atomic.sparse_law(sparse, added, deleted, atomic.EXACT_CHANGES)


@pytest.mark.parametrize("seed", range(5))
def test_random_laws_are_safe_to_the_last_bit(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(30):
        atoms, build = random_law(rng)
        monkeypatch.setattr(atomic, "EXACT_CHANGES", 128)
        exact = build()
        monkeypatch.setattr(atomic, "EXACT_CHANGES", 0)
        long = build()
        base, moved = (dict(enumerate(masses)) for masses in zip(*atoms, strict=True))
        tail = 10 ** -rng.uniform(1, 15)
        for p in (rng.random(), tail, 1 - tail, 0.5, 1.0):
            truth = greedy(base, moved, Fraction(p))
            assert 0 <= truth - Fraction(exact.lower(p)) <= truth / 2**50 + Fraction(1, 10**300)
            assert Fraction(long.lower(p)) <= truth
            assert float(truth) - long.lower(p) < 1e-10
        for lam in (rng.random(), 1.0, 10 ** rng.uniform(-8, 8)):
            truth = sum((max(Fraction(lam) * a - b, Fraction(0)) for a, b in atoms), Fraction(0))
            assert exact.discrepancy(lam) == atomic.rounded_up(*truth.as_integer_ratio())
            assert Fraction(long.discrepancy(lam)) >= truth
        (excess, deficit), (above, below) = exact.required(), long.required()
        assert (above >= excess, below <= deficit) == (True, True)
        for p_min in (Fraction(1, 2) + Fraction(excess), 1 - Fraction(deficit)):
            assert p_min >= 1 or greedy(base, moved, p_min) >= Fraction(1, 2)


def test_flips_that_never_happen_tell_everything() -> None:
    """Without noise pi0 and pi_delta share nothing: all of l is -inf under pi0."""
    law = atomic.sparse_law(cc.SparseFlips(9, 0.0, 0.0).record, 2, 0)
    assert law.cdf(-np.inf) == 1.0
    assert (law.lower(1.0), law.required()) == (0.0, (0.5, 0.0))


def test_many_changes() -> None:
    """Flips near a coin are a Gaussian of r changes; beyond all digits of whole numbers."""
    noise = cc.Flips(10**5, 2, 0.51)
    reach = cc.certified_radius(0.99, noise, "l0")
    gaussian = (2.3263 / (0.02 * 2)) ** 2  # l ~ N(-mu^2/2, mu^2), mu = 2 sqrt(r) log-odds/2
    assert reach == pytest.approx(4 * gaussian / 4, rel=0.01)
    assert cc.certified_radius(1.0, noise, "l0") == 10**5
    assert cc.certified_radius(0.6, cc.Flips(50, 4, 0.25), "l0") == 50  # copies tell nothing
    assert cc.certified_radius(1.0, cc.Flips(50, 4, 1.0), "l0") == 0  # copies tell everything


@pytest.mark.parametrize("noise", [
    cc.Flips(60, 2, 0.55), cc.Flips(60, 7, 0.3), cc.SparseFlips(60, 0.3, 0.2), cc.Ablation(60, 2),
], ids=str)  # fmt: skip
def test_a_radius_is_the_last_certified_number(noise: cc.Noise) -> None:
    p = np.array([0.500001, 0.51, 0.6, 0.75, 0.9, 0.99, 1 - 1e-9])
    alone = cc.lower_bound(p, noise, "l0", np.arange(61.0)[:, None]) > 0.5
    assert (alone == (np.cumsum(~alone, axis=0) == 0)).all()  # nested
    np.testing.assert_array_equal(cc.certified_radius(p, noise, "l0"), alone.sum(axis=0) - 1)


@pytest.mark.parametrize("noise", [cc.Flips(60, 2, 0.55), cc.Ablation(60, 2)], ids=str)
def test_classes_are_apart_while_their_bounds_are(noise: cc.Noise) -> None:
    """L(p, 4) + L(q, 4) a hair above 1, and a hair below."""
    p, reach = 0.55, 4
    for other, expected in ((1e-9, True), (-1e-9, False)):
        needed = 1.0 - cc.lower_bound(p, noise, "l0", reach) + other
        q = cc.bounds.inverse_bound(needed, noise, "l0", reach)
        radius = cc.separation.separation_radius(p, 1.0 - q, noise, "l0")
        assert (radius >= reach) is expected
        assert q > needed > p


def test_ablation_of_images() -> None:
    """Levine and Feizi 2020: C(d - r, k)/C(d, k)."""
    for dim, keep, r in ((784, 45, 8), (3072, 75, 20), (150528, 2000, 10)):
        shared = Fraction(math.comb(dim - r, keep), math.comb(dim, keep))
        found = Fraction(cc.lower_bound(0.99, cc.Ablation(dim, keep), "l0", r))
        exact = max(Fraction(0.99) - 1 + shared, 0)
        assert 0 <= exact - found <= Fraction(1, 2**53)
    assert cc.lower_bound(0.9, cc.Ablation(150528, 75000), "l0", 75000) == 0.0


def boxes(shift: tuple[int, ...], width: int) -> Iterator[tuple[Law, Law]]:
    """Uniform noise on a cube of `width` cells a side, moved by whole cells."""
    cells = list(itertools.product(range(width), repeat=len(shift)))
    share = Fraction(1, len(cells))
    moved = {tuple(a + b for a, b in zip(cell, shift, strict=True)): share for cell in cells}
    yield dict.fromkeys(cells, share), moved


@pytest.mark.parametrize("attack", ["l1", "l2", "linf"])
def test_uniform_against_every_shift(attack: str) -> None:
    """Cells of 1/6 of the cube: every shift of the ball, and the worst one attained."""
    noise, order = cc.Uniform(2, 3.0), {"l1": 1, "l2": 2, "linf": np.inf}[attack]
    for radius in (1, 2, 3):
        bound = cc.lower_bound(0.9, noise, attack, radius)
        least = Fraction(1)
        for shift in itertools.product(range(radius + 1), repeat=2):
            if np.linalg.norm(shift, order) <= radius:
                for base, moved in boxes(shift, 6):
                    least = min(least, greedy(base, moved, Fraction(0.9)))
        assert bound <= least
        if cc.is_tight(noise, attack):
            assert bound == pytest.approx(float(least), abs=1e-14)
    assert cc.is_tight(noise, attack) is (attack != "l2")


def test_the_l1_table_of_levine_and_feizi() -> None:
    """Radius 2 lambda (p - 1/2), uniform and splitting noise alike."""
    p = np.linspace(0.5, 1.0, 101)
    for scale in (0.5, 1.25, 3.5 / math.sqrt(3)):
        for noise in (cc.Uniform(3072, scale), cc.Splitting(3072, scale)):
            radius = cc.certified_radius(p, noise, "l1")
            np.testing.assert_allclose(radius, 2 * scale * (p - 0.5), rtol=1e-12, atol=0)
            assert (radius <= 2 * scale * (p - 0.5)).all()
            inside = cc.certified_radius(p, noise, "l2")
            np.testing.assert_allclose(inside, radius / math.sqrt(3072), rtol=1e-12)
    cube = cc.certified_radius(0.9, cc.Uniform(3072, 0.5), "linf")
    assert cube == pytest.approx(1 - 0.6 ** (1 / 3072), rel=1e-12)


def table_of(rng: np.random.Generator, classes: int) -> Callable[[Any], Any]:
    """A classifier without any structure: every copy it meets gets a class of its own."""
    known: dict[bytes, int] = {}

    def predict(batch: Any) -> Any:
        rows = [np.ascontiguousarray(row).tobytes() for row in batch]
        return np.array([known.setdefault(row, int(rng.integers(classes))) for row in rows])

    return predict


@pytest.mark.parametrize("scale", [0.5, 1.0, 1 / 3])
@pytest.mark.parametrize("seed", range(6))
def test_deterministic_certificates_hold_everywhere(scale: float, seed: int) -> None:
    """Every input on the levels within the radius has the label; ties count."""
    levels = 6
    noise = cc.Splitting(2, scale, levels)
    assert noise.copies == round(12 * scale)
    grid = np.array(list(itertools.product(range(levels + 1), repeat=2)))
    x = (grid / levels).reshape(-1, 2)
    rng = np.random.default_rng(seed)
    skewed = table_of(rng, 3) if seed % 2 else table_of(rng, 2)
    counts = cc.count_votes(skewed, x, noise, 3, noise.copies, seed=0)
    again = cc.count_votes(skewed, x, noise, 3, noise.copies, seed=77, batch_size=3)
    np.testing.assert_array_equal(counts, again)  # the seed has no part in what is counted
    found = cc.certify_deterministic(counts, noise)
    assert found.alpha == 0.0
    np.testing.assert_array_equal(found.label, counts.argmax(axis=1))
    apart = np.abs(grid[:, None] - grid[None]).sum(axis=2)
    steps = np.rint(found.radius * levels).astype(int)
    for i in range(len(grid)):
        assert (found.label[apart[i] <= steps[i]] == found.label[i]).all()


def test_deterministic_certificates_are_the_largest_from_counts() -> None:
    noise = cc.Splitting(3, 0.5, 20)
    votes = np.array([[20, 0, 0], [11, 9, 0], [9, 11, 0], [10, 10, 0], [0, 10, 10], [7, 6, 7]])
    found = cc.certify_deterministic(votes, noise)
    np.testing.assert_array_equal(found.label, [0, 0, 1, 0, 1, 0])
    np.testing.assert_allclose(found.radius * 20, [10, 1, 0, 0, 0, 0])
    for p, k in zip(found.p_lower, (20, 11, 11, 10, 10, 7), strict=True):
        assert 0 <= Fraction(k, 20) - Fraction(p) < Fraction(1, 2**52)
    for counts, radius in zip(votes, found.radius, strict=True):
        order = sorted(range(3), key=lambda c: (-counts[c], c))
        first, rest = order[0], order[1:]
        j = round(radius * 20)
        wins = [counts[first] - j - counts[c] - j - (c < first) >= 0 for c in rest]
        beyond = [counts[first] - j - 1 - counts[c] - j - 1 - (c < first) >= 0 for c in rest]
        assert all(wins)
        assert not all(beyond)


def test_certificates_of_sampled_copies() -> None:
    """The whole way: votes under flips, both kinds of certificates, plans."""
    noise = cc.Flips(12, 3, 0.8)
    x = np.random.default_rng(0).integers(0, 3, (4, 12))

    def predict(batch: Any) -> Any:
        assert set(np.unique(batch)) <= {0.0, 1.0, 2.0}
        return (batch == 0).sum(axis=1) // 5

    first, second = (
        cc.count_votes(predict, x, noise, 3, n, 0, stage=stage)
        for n, stage in ((100, "selection"), (5000, "estimation"))
    )
    plain = cc.certify(first, second, noise, "l0")
    other = cc.certificates.certify_top_k(first, second, noise, "l0")
    for found in (plain, other):
        np.testing.assert_array_equal(found.radius, np.floor(found.radius))
        assert (found.radius <= 12).all()
    assert plain.radius.max() >= 1
    # no entry may change, and the class is certified all the same
    np.testing.assert_array_equal(plain.label != cc.ABSTAIN, plain.p_lower > 0.5)
    weak = np.array([[45, 55]])
    near = cc.certify(weak, weak * 50, cc.Flips(12, 3, 0.9), "l0")
    assert (near.label[0], near.radius[0]) == (1, 0.0)
    assert cc.certified_accuracy(near, [1], [0.0, 1.0]).tolist() == [1.0, 0.0]
    apart = cc.certificates.certify_top_k(weak, weak * 50, cc.Flips(12, 3, 0.9), "l0")
    assert (apart.label[0], apart.radius[0]) == (1, 0.0)
    at = cc.sequential.certify_by(
        cc.sequential.plan_at(noise, "l0", [1, 2], n_max=5000), predict, x, 3, 0
    )
    until = cc.sequential.certify_by(
        cc.sequential.plan_until(noise, "l0", 0.2, n_max=5000), predict, x, 3, 0
    )
    for found in (at, until):
        assert (found.radius <= plain.radius + 1).all()
        np.testing.assert_array_equal(found.radius, np.floor(found.radius))
    again = cc.sequential.plan_from_dict(
        cc.sequential.plan_at(noise, "l0", [1], n_max=5000).to_dict()
    )
    assert again.noise == noise


def test_a_width_leaves_no_entry_out() -> None:
    """80 percent of one entry is one entry: a probability above 1/2 alone does not stop."""
    noise = cc.Flips(12, 2, 0.8)
    needed = cc.required_probability(noise, "l0", [1, 2])
    plan = cc.sequential.plan_until(noise, "l0", 0.2, n_max=100_000)
    look = next(n for n in plan.looks if n > 1000)
    votes = round(0.88 * look)
    lower, upper = (
        f(votes, look, plan.alpha)
        for f in (cc.sequential.mixture_lower, cc.sequential.mixture_upper)
    )
    assert 0.5 < lower < needed[0] < upper < needed[1]
    assert not plan.begin().update(votes, look)


@pytest.mark.parametrize("attack", ["l1", "l2", "linf"])
@pytest.mark.parametrize("noise", [cc.Uniform(30, 0.7), cc.Splitting(30, 0.5)], ids=str)
def test_apart_where_laws_overlap(noise: cc.Noise, attack: str) -> None:
    """p + q - 2 lost > 1: as far as the mean of p and q alone, also next to nothing."""
    for p, other in ((0.6, 0.1), (0.45, 0.2), (0.9, 0.05), (0.4, 0.4 - 1e-12), (0.3, 0.3)):
        radius = cc.separation.separation_radius(p, other, noise, attack)
        middle = 0.5 * (Fraction(p) + 1 - Fraction(other))
        alone = cc.certified_radius(float(middle), noise, attack)
        assert radius == pytest.approx(alone, rel=1e-3 if middle < 0.5001 else 1e-13)
        first = Fraction(cc.lower_bound(p, noise, attack, radius))
        assert first + Fraction(cc.lower_bound(1 - other, noise, attack, radius)) > 1 - 1e-15


@pytest.mark.parametrize("noise", [cc.Flips(30, 2, 0.7), cc.Ablation(30, 3)], ids=str)
def test_apart_from_a_runner_up(noise: cc.Noise) -> None:
    """The largest whole radius with L(p) + L(q) > 1, and no less than that of p alone."""
    radii = np.arange(31.0)
    for p, other in ((0.6, 0.1), (0.45, 0.2), (0.9, 0.05), (0.3, 0.4), (0.9, 0.1)):
        radius = cc.separation.separation_radius(p, other, noise, "l0")
        first = cc.lower_bound(p, noise, "l0", radii)
        second = cc.lower_bound(1 - other, noise, "l0", radii)
        ahead = [Fraction(a) + Fraction(b) > 1 for a, b in zip(first, second, strict=True)]
        assert radius == max(ahead.index(False) - 1, 0)
        assert radius >= cc.certified_radius(p, noise, "l0")


@pytest.mark.parametrize("noise", [
    cc.Flips(9, 3, 0.7), cc.SparseFlips(9, 0.1, 0.6), cc.Ablation(9, 3, -2.0),
    cc.Uniform(9, 0.5), cc.Splitting(9, 0.5, 15),
], ids=str)  # fmt: skip
def test_records(noise: cc.Noise) -> None:
    assert cc.noise_from_dict(noise.to_dict()) == noise
    assert hash(noise) == hash(cc.noise_from_dict(noise.to_dict()))
    assert cc.CHANNELS[noise.name] is type(noise)
    assert not set(cc.CHANNELS) & set(cc.NOISES)


@pytest.mark.parametrize(
    "noise", [cc.Flips(30, 3, 0.8), cc.SparseFlips(30, 0.1, 0.3), cc.Ablation(30, 12)], ids=str
)
def test_the_runner_up_and_the_third_under_changed_entries(noise: cc.Noise) -> None:
    """The radius is the last number of entries at which the class stays ahead of the bound."""
    selection = np.array([[60, 30, 10, 0], [50, 48, 2, 0]])
    estimation = np.array([[5900, 2500, 1500, 100], [5000, 4600, 300, 100]])
    for k in (1, 2):
        found = cc.certificates.certify_top_k(selection, estimation, noise, "l0", k=k)
        assert found.p_other is not None
        for label, radius, low, high in zip(
            found.label, found.radius, found.p_lower, found.p_other, strict=True
        ):

            def ahead(r: float, low: float = low, high: float = high) -> bool:
                rest = 1 - cc.lower_bound(1 - high, noise, "l0", r)
                return bool(cc.lower_bound(low, noise, "l0", r) > rest)

            assert label == 0
            assert radius == int(radius)
            assert ahead(radius)
            assert not ahead(radius + 1)


def test_joint_labels_under_changed_entries_are_holms() -> None:
    """At one radius, from exact p-values of p_min there."""
    noise, n, alpha = cc.Flips(30, 3, 0.5), 2000, 0.01
    rng = np.random.default_rng(0)
    votes = rng.integers(1200, n, 40)
    selection = np.tile([100, 0], (40, 1))
    found = cc.certify_jointly(
        selection, np.stack([votes, n - votes], axis=1), noise, "l0", 1, alpha=alpha
    )
    p_values = stats.binom.sf(votes - 1, n, cc.required_probability(noise, "l0", 1.0))
    order, rejected = np.argsort(p_values), np.zeros(40, dtype=bool)
    for rank, i in enumerate(order):
        if p_values[i] > alpha / (40 - rank):
            break
        rejected[i] = True
    assert 0 < rejected.sum() < 40
    np.testing.assert_array_equal(found, np.where(rejected, 0, cc.ABSTAIN))
