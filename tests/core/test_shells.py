"""Bounds by shells: against integrals of another form, sampled classifiers, and what must hold."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import mpmath
import numpy as np
import pytest
from cases import Case, refused
from numpy.polynomial.legendre import leggauss
from sampler import log_density, sample, shape, shift
from scipy import special

import cert_core as cc
from cert_core import shells
from cert_core.laws import radial_engine
from cert_core.laws.quadrature import margin
from cert_core.native import RadialLaw
from cert_core.threats import law_shift

X, W = leggauss(60)


# ---- D_j by its hinge, under pi0 and without the symmetry of the two noises ----


class Hinge:
    """D_j(lam) = E (lam - W)_+ 1{T_{j-1} < |z| <= T_j}, over |z| and one coordinate of z/|z|."""

    def __init__(self, noise: Any, attack: str, r: float, thresholds: Any) -> None:
        self.norm, self.power, self.scale = shape(noise)
        self.dim, self.k, self.r = noise.dim, getattr(noise, "k", 0.0), r
        self.sphere = attack == "l2"
        self.shape = (self.dim - self.k) / self.power
        self.ends = [0.0, *np.asarray(thresholds), math.inf]
        with mpmath.workdps(40):
            whole, part = (mpmath.loggamma(mpmath.mpf(n) / 2) for n in (self.dim, self.dim - 1))
            self.constant = float(mpmath.exp(whole - part) / mpmath.sqrt(mpmath.pi))

    def radii(self, j: int, t: float, parts: int) -> tuple[Any, Any]:
        """Nodes of log |z| in shell j, and weights with its density; cut where the range of l
        begins or ends to hold t."""
        ends = special.gammaincinv(self.shape, 1e-17), special.gammainccinv(self.shape, 1e-17)
        least, most = (self.scale * g ** (1 / self.power) for g in ends)
        low, high = max(self.ends[j], least), min(self.ends[j + 1], most)
        grid = np.linspace(math.log(low), math.log(high), parts + 1)
        kinks = [math.log(self.r)] if low < self.r < high else []
        fine = np.linspace(math.log(low), math.log(high), 4001)
        for sign in (-1, 1):

            def over(y: Any, sign: int = sign) -> Any:
                s = np.exp(y)
                return self.change(s, np.abs(s + sign * self.r) + 1e-300) > t

            if self.power == 1 and self.k == 0:  # l is the same for all s
                continue
            at = over(fine)
            for i in np.flatnonzero(at[1:] != at[:-1]):
                a, b = fine[i], fine[i + 1]
                for _ in range(60):
                    middle = 0.5 * (a + b)
                    a, b = (middle, b) if over(middle) == at[i] else (a, middle)
                kinks.append(a)
        near = [k + side * 4.0**-i for k in kinks for side in (-1, 1) for i in range(2, 14)]
        grid = np.unique(np.clip([*grid, *kinks, *near], grid[0], grid[-1]))
        half = 0.5 * np.diff(grid)[:, None]
        y = (0.5 * (grid[1:] + grid[:-1])[:, None] + half * X).ravel()
        log_g = self.power * (y - math.log(self.scale))
        density = np.exp(self.shape * log_g - np.exp(log_g) - special.gammaln(self.shape))
        return np.exp(y), (half * W).ravel() * self.power * density

    def change(self, s: Any, x: Any) -> Any:
        """l where |z| = s and |z - delta| = x."""
        return -self.k * np.log(x / s) - (
            (x / self.scale) ** self.power - (s / self.scale) ** self.power
        )

    def moved(self, s: Any, v: Any) -> Any:
        """|z - delta|, which falls in v."""
        if self.sphere:
            squared = s * s - 2 * s * self.r * np.sin(v) + self.r**2
            return np.sqrt(np.maximum(squared, 1e-300))
        return s + self.r - 2 * s * v  # the share v of z along the axis, at most r/s

    def density(self, v: Any) -> Any:
        if self.sphere:
            return self.constant * np.exp((self.dim - 2) * np.log(np.cos(v)))
        return 0.5 * (self.dim - 1) * (1 - v) ** (self.dim - 2)

    def value(self, j: int, t: float, parts: int = 24) -> float:
        s, weights = self.radii(j, t, parts)
        lam = math.exp(t)
        if self.sphere:
            end = math.asin(min(1.0, 9 / math.sqrt(self.dim)))
            low, high = np.full_like(s, -end), np.full_like(s, end)
        else:
            low, high = np.zeros_like(s), np.minimum(1.0, self.r / s)
        a, b = low.copy(), high.copy()  # l rises in v: where it meets t
        for _ in range(60):
            middle = 0.5 * (a + b)
            under = self.change(s, self.moved(s, middle)) < t
            a, b = np.where(under, middle, a), np.where(under, b, middle)
        total = np.zeros_like(s)
        for share, more in pairwise(np.linspace(0, 1, 5)):
            left, right = low + share * (a - low), low + more * (a - low)
            v = (0.5 * (left + right))[:, None] + (0.5 * (right - left))[:, None] * X
            hinge = np.maximum(lam - np.exp(self.change(s[:, None], self.moved(s[:, None], v))), 0)
            total += (0.5 * (right - left)) * (hinge * self.density(v) * W).sum(axis=1)
        if not self.sphere:
            total += 0.5 * np.maximum(lam - np.exp(self.change(s, s + self.r)), 0)
            rest = 0.5 * np.maximum(1 - self.r / s, 0) ** (self.dim - 1)
            inner = np.where(rest > 0, np.abs(s - self.r), 1.0)
            total += rest * np.maximum(lam - np.exp(self.change(s, inner)), 0)
        return float((weights * total).sum())

    def dual(self, masses: Any, ts: Any) -> float:
        """sum of lam_j (A_j - A_{j-1}) - D_j(lam_j)."""
        parts = np.diff([0.0, *masses])
        return math.fsum(
            math.exp(t) * mass - self.value(j, t)
            for j, (t, mass) in enumerate(zip(ts, parts, strict=True))
        )


def multipliers(noise: Any, attack: str, r: float, thresholds: Any, masses: Any) -> list[float]:
    """log lam of each shell, as the module chose it."""
    return shells.multipliers(list(masses), thresholds, noise, attack, r)


def steps(ts: list[float], h: float) -> Any:
    """Multipliers beside these that still fall outwards."""
    for j in range(len(ts)):
        yield [t + h * (i <= j) for i, t in enumerate(ts)]
        yield [t - h * (i >= j) for i, t in enumerate(ts)]


DIRECT = [
    (cc.Gaussian(3, 1.0), "l2", 0.6, (0.5,), (0.49, 0.9)),
    (cc.L2Noise(30, 1.0, 5.0), "l2", 0.8, (0.4,), (0.39, 0.9)),
    (cc.L2Noise(784, 1.0, 760.0), "l2", 0.3, (0.5,), (0.49, 0.9)),
    (cc.L2Noise(784, 1.0, 760.0), "l2", 0.3, (0.3, 0.6, 0.9), (0.29, 0.55, 0.8, 0.85)),
    (cc.L2Noise(3072, 1.0, 3060.0), "l2", 0.1, (0.6,), (0.58, 0.9)),
    (cc.Gaussian(3072, 1.0), "l2", 0.5, (0.5,), (0.49, 0.9)),
    (cc.L2Noise(150528, 1.0, 150520.0), "l2", 0.01, (0.5,), (0.48, 0.9)),
    (cc.Laplace(5, 1.0), "l1", 0.7, (0.5,), (0.49, 0.9)),
    (cc.L1Noise(200, 1.0, 190.0), "l1", 0.2, (0.5,), (0.45, 0.9)),
    (cc.L1Noise(3072, 1.0, 3060.0), "l1", 0.01, (0.5, 0.8), (0.48, 0.75, 0.85)),
]  # fmt: skip


@pytest.mark.parametrize("row", DIRECT, ids=lambda row: f"{row[0].name}-{row[0].dim}-{len(row[4])}")
def test_values_are_those_of_the_hinge(row: Any) -> None:
    """And no multipliers beside them, in order, give more: the dual is concave."""
    noise, attack, r, shares, masses = row
    thresholds = cc.shell_thresholds(noise, shares)
    told = cc.shell_lower_bound(masses, thresholds, noise, attack, r)
    hinge = Hinge(noise, attack, r, thresholds)
    ts = multipliers(noise, attack, r, thresholds, masses)
    found = hinge.dual(masses, ts)
    assert abs(told - found) < 1e-9
    assert told <= found + 1e-12
    if noise.name != "laplace":  # its log ratio has atoms: the best t sits on one
        assert all(a >= b for a, b in pairwise(ts))
    assert max(hinge.dual(masses, other) for other in steps(ts, 1e-3)) <= found + 1e-9


@pytest.mark.parametrize("dim", [3, 5])
@pytest.mark.parametrize("t", [0.4, -0.7, 1.1])
def test_integrals_in_30_digits(dim: int, t: float) -> None:
    """F, S and G of shells to the errors stated: a Gaussian, whose caps are polynomials there."""
    r, low, high = 0.7, 1.1, 1.6
    law = RadialLaw("sphere", float(dim), 2.0, 0.0, r)
    below, above, *errors = law.within(t, low, high)
    there, error = law.arriving(t, low, high)
    with mpmath.workdps(30):
        delta, level, inner, outer = (mpmath.mpf(x) for x in (r, t, low, high))

        def farther(s: Any, square: Any) -> Any:
            """P(|z - delta|^2 > square given |z| = s)."""
            c = (s * s + delta**2 - square) / (2 * s * delta)
            c = max(min(c, mpmath.mpf(1)), mpmath.mpf(-1))
            return (1 + c) / 2 if dim == 3 else (1 + c) ** 2 * (2 - c) / 4

        def integral(f: Any, a: Any, b: Any) -> Any:
            """Over s, cut where caps end."""
            cuts = [abs(level + delta**2) / (2 * delta), abs(delta**2 - level) / (2 * delta)]
            cuts += [abs(T + sign * delta) for T in (inner, outer) for sign in (-1, 1)]
            cuts += [mpmath.sqrt(max(T * T - level, 0)) for T in (inner, outer)]
            edges = sorted({a, b, *(cut for cut in cuts if a < cut < b)})
            half = mpmath.mpf(dim) / 2
            weight = lambda s: 2 * s ** (dim - 1) * mpmath.exp(-s * s) / mpmath.gamma(half)  # noqa: E731
            return mpmath.quad(lambda s: weight(s) * f(s), edges)

        def arriving(s: Any) -> Any:
            least, most = inner**2, max(min(s * s + level, outer**2), inner**2)
            return farther(s, least) - farther(s, most)

        inside = integral(lambda s: farther(s, s * s - level), inner, outer)
        whole = integral(lambda s: 1, inner, outer)
        moved = integral(arriving, inner - delta, outer + delta)
        for told, stated, truth in (
            (below, errors[0], inside), (above, errors[1], whole - inside), (there, error, moved),
        ):  # fmt: skip
            assert abs(told - truth) <= margin(told, stated)
            assert stated < 1e-13


# ---- what must hold of every bound ----

FAMILIES = [
    (cc.Gaussian(8, 1.0), "l2", 0.6),
    (cc.L2Noise(12, 1.0, 9.0), "l2", 0.5),
    (cc.L2Noise(12, 1.0, 3.0), "linf", 0.2),
    (cc.L2Noise(12, 1.0, 3.0), "l1", 0.6),
    (cc.Laplace(6, 1.0), "l1", 0.8),
    (cc.L1Noise(12, 1.0, 8.0), "l1", 0.6),
    (cc.L1Noise(12, 1.0, 8.0), "linf", 0.03),
    (cc.LinfNoise(12, 1.0, 6.0), "linf", 0.1),
    (cc.LinfNoise(12, 1.0, 6.0), "l1", 1.5),
    (cc.LinfNoise(12, 1.0, 6.0), "l2", 0.3),
    (cc.RadialNoise(12, 2.0, 1.3, 1.0, 2.0), "l2", 0.6),
    (cc.Gaussian(1, 1.0), "l1", 0.7),
    (cc.noises.Scaled(cc.L2Noise(4, 1.0, 1.0), (1.0, 2.0, 0.5, 1.0)), "l2", 0.3),
]
NAMES = [f"{n.name}-{getattr(n, 'k', 0):g}-{a}" for n, a, _ in FAMILIES]
each_family = pytest.mark.parametrize("threat", FAMILIES, ids=NAMES)
SHARES = (0.2, 0.5, 0.8)


def masses(rng: np.random.Generator, thinner: bool) -> Any:
    """Cumulative masses of votes, a share of each shell; fewer of them further out or anyhow."""
    share = rng.uniform(0.5, 1.0, 4)
    share = np.sort(share)[::-1] if thinner else share
    return np.cumsum(share * np.diff([0.0, *SHARES, 1.0]))


@each_family
def test_one_shell_is_the_plain_bound(threat: Any) -> None:
    noise, attack, radius = threat
    p = np.array([[0.3], [0.7], [0.95], [1.0]])
    told = cc.shell_lower_bound(p, [], noise, attack, [radius])
    np.testing.assert_array_equal(told, cc.lower_bound(p[:, 0], noise, attack, radius))
    radii = cc.shell_radius(p, [], noise, attack)
    np.testing.assert_array_equal(radii, cc.certified_radius(p[:, 0], noise, attack))
    one = shells._Shells(noise, attack, radius, []).bound([0.8], {})
    assert one == pytest.approx(cc.lower_bound(0.8, noise, attack, radius), abs=1e-9)


@each_family
def test_more_shells_never_certify_less(threat: Any) -> None:
    noise, attack, radius = threat
    rng = np.random.default_rng(1)
    edges = cc.shell_thresholds(noise, SHARES)
    for thinner in (True, False):
        a = masses(rng, thinner)
        chain = [
            cc.shell_lower_bound(a[[*kept, 3]], edges[list(kept)], noise, attack, radius)
            for kept in ((), (1,), (0, 1), (0, 1, 2))
        ]
        assert min(np.diff(chain)) >= -1e-12, chain
        assert cc.shell_radius(a, edges, noise, attack) >= cc.certified_radius(a[3], noise, attack)


@each_family
def test_the_radius_is_where_the_bound_is_a_half(threat: Any) -> None:
    noise, attack, _ = threat
    edges = cc.shell_thresholds(noise, SHARES)
    a = np.cumsum(np.array([0.99, 0.95, 0.8, 0.6]) * np.diff([0.0, *SHARES, 1.0]))
    radius = cc.shell_radius(a, edges, noise, attack)
    at = cc.shell_lower_bound(a, edges, noise, attack, radius * np.array([1.0, 1.0 + 1e-8]))
    assert at[0] > 0.5 >= at[1]
    falls = cc.shell_lower_bound(a, edges, noise, attack, radius * np.geomspace(0.1, 10, 8))
    assert (np.diff(falls) <= 1e-12).all()


N = 100_000


def by_shell(noise: Any, z: Any, edges: Any) -> Any:
    """The shell of each row, by plain norms."""
    stretch = 1.0 if noise.stretch is None else noise.stretch
    norm, _, _ = shape(noise.base if hasattr(noise, "base") else noise)
    return np.searchsorted(edges, np.linalg.norm(z / stretch, ord=norm, axis=1))


def drawn(noise: Any, rng: np.random.Generator) -> Any:
    if noise.stretch is None:
        return sample(noise, N, rng)
    return sample(noise.base, N, rng) * noise.stretch


@each_family
def test_no_classifier_falls_below(threat: Any) -> None:
    """Six standard errors, of both samples."""
    noise, attack, radius = threat
    rng = np.random.default_rng(2)
    edges = cc.shell_thresholds(noise, SHARES)
    delta = shift(noise, attack, radius)
    z, moved = drawn(noise, rng), drawn(noise, rng) + delta
    size, towards = noise.rms * math.sqrt(noise.dim), delta / np.linalg.norm(delta)
    classifiers = (
        lambda y: y @ towards < 0.8 * noise.rms,
        lambda y: np.linalg.norm(y, axis=1) < 1.2 * size,
        lambda y: np.linalg.norm(y - delta, axis=1) > 0.8 * size,
        lambda y: np.abs(y @ towards) < 1.5 * noise.rms,
        lambda y: (np.linalg.norm(y, axis=1) < size) | (y[:, 0] < 0.5 * noise.rms),
        lambda y: np.sin(3 * (y @ towards) / noise.rms) > -0.5,
    )
    where = by_shell(noise, z, edges)
    for classify in classifiers:
        votes = np.bincount(where[classify(z)], minlength=len(edges) + 1)
        a = np.cumsum(votes) / N
        least = np.maximum.accumulate(np.maximum(a - 6 * np.sqrt(a * (1 - a) / N + 1e-6 / N), 0))
        bound = cc.shell_lower_bound(least, edges, noise, attack, radius)
        there = classify(moved).mean()
        assert there + 6 * math.sqrt(there * (1 - there) / N + 1e-6 / N) >= bound


@each_family
def test_the_best_classifier_reaches_the_bound(threat: Any) -> None:
    """Those where W is below each shell's multiplier: no larger bound is possible."""
    noise, attack, radius = threat
    if not cc.is_tight(noise, attack) or noise.stretch is not None:
        pytest.skip("an inclusion, or a shift of another size")
    rng = np.random.default_rng(3)
    edges = cc.shell_thresholds(noise, SHARES)
    delta = shift(noise, attack, radius)
    ts = np.array([0.5, 0.4, 0.3, -0.2])

    def classify(y: Any) -> Any:
        return (
            log_density(noise, y - delta) - log_density(noise, y) <= ts[by_shell(noise, y, edges)]
        )

    law, _, _ = radial_engine(noise.radial, law_shift(noise, attack, radius))
    ends = [0.0, *(edges / noise.radial.scale), math.inf]
    a = np.cumsum([law.within(t, *pair)[0] for t, pair in zip(ts, pairwise(ends), strict=True)])
    bound = cc.shell_lower_bound(a, edges, noise, attack, radius)
    there = classify(drawn(noise, rng) + delta).mean()
    assert abs(there - bound) < 6 * math.sqrt(there * (1 - there) / N + 1e-6 / N) + 1e-9


@each_family
def test_no_shift_is_worse(threat: Any) -> None:
    """sum_j D_j by one sample, at multipliers that fall outwards, for random shifts of the ball."""
    noise, attack, radius = threat
    if noise.stretch is not None:
        pytest.skip("by its base")
    rng = np.random.default_rng(4)
    edges = cc.shell_thresholds(noise, SHARES)
    z = drawn(noise, rng)
    where, here = by_shell(noise, z, edges), log_density(noise, z)
    record, worst = noise.radial, law_shift(noise, attack, radius)
    law, _, _ = radial_engine(record, worst)
    ends = [0.0, *(edges / record.scale), math.inf]
    order = {"l1": 1, "l2": 2, "linf": math.inf}[attack]
    for ts in ([1.0, 0.5, 0.2, -0.5], [2.0, 0.0, 0.0, -3.0], [0.3] * 4):
        told = math.fsum(
            math.exp(t) * law.within(t, *pair)[0] - law.arriving(t, *pair)[0]
            for t, pair in zip(ts, pairwise(ends), strict=True)
        )
        lam = np.exp(ts)[where]
        for sparse in (1, 2, noise.dim):
            for _ in range(4):
                delta = np.zeros(noise.dim)
                chosen = rng.permutation(noise.dim)[:sparse]
                delta[chosen] = rng.standard_normal(len(chosen))
                if sparse == noise.dim and rng.random() < 0.5:
                    delta = np.sign(delta)
                delta *= radius / np.linalg.norm(delta, ord=order)
                hinge = np.maximum(lam - np.exp(log_density(noise, z - delta) - here), 0)
                assert hinge.mean() - 6 * hinge.std() / math.sqrt(N) <= told + 1e-9


@pytest.mark.parametrize("geometry", ["sphere", "cone", "edge"])
@pytest.mark.parametrize(
    ("dim", "power", "k"),
    [(3, 2.0, 0.0), (8, 2.0, 3.0), (20, 1.0, 0.0), (1, 2.0, 0.5), (2, 3.0, 1.5)],
)
def test_integrals_are_what_samples_say(geometry: str, dim: int, power: float, k: float) -> None:
    """F and G of shells to six standard errors."""
    rng = np.random.default_rng(5)
    geometry = "cone" if dim == 1 else geometry
    norm = 2.0 if geometry == "sphere" else math.inf
    noise = cc.RadialNoise(dim, norm, power, 1.0, k)
    z = sample(noise, N, rng)
    for r in (0.3, 1.5):
        delta = np.full(dim, r) if geometry == "cone" else np.eye(dim)[0] * r
        law = RadialLaw(geometry, float(dim), power, k, r)
        s, x = (np.linalg.norm(y, ord=norm, axis=1) for y in (z, z - delta))
        change = k * (np.log(s) - np.log(x)) + s**power - x**power
        ends = [0.0, *np.quantile(s, [0.3, 0.7]), math.inf]
        for t in (-0.4, 0.0, 0.35, 1.0):
            for low, high in pairwise(ends):
                below, above, *errors = law.within(t, low, high)
                there, error = law.arriving(t, low, high)
                assert max(*errors, error) < 1e-12
                mine, theirs = (s > low) & (s <= high), (x > low) & (x <= high)
                for told, votes in (
                    (below, mine & (change <= t)), (above, mine & (change > t)),
                    (there, theirs & (change >= -t)),
                ):  # fmt: skip
                    share = votes.mean()
                    assert abs(told - share) < 6 * math.sqrt(max(share * (1 - share), 1e-4) / N)


# ---- what breaks it, and the ends ----


def test_an_upper_mass_would_break_it() -> None:
    """No vote inside T and all beyond: the least value at distance r rises with r, so that the
    edge of a ball says nothing of its inside.  Computed from the law of |z - delta| alone."""
    noise = cc.L2Noise(784, 1.0, 760.0)
    edge = float(cc.shell_thresholds(noise, [0.45])[0])
    rng = np.random.default_rng(6)
    s = np.linalg.norm(sample(noise, 20_000, rng), axis=1)
    c = rng.standard_normal(len(s))
    c /= np.sqrt(c * c + rng.chisquare(783, len(s)))
    beyond = [float(np.mean(s * s - 2 * s * r * c + r * r > edge**2)) for r in (0.02, 1.0, 3.0)]
    assert beyond[0] == pytest.approx(0.55, abs=0.02)
    assert beyond[0] + 0.05 < beyond[1] < beyond[2] - 0.05
    assert beyond[2] == pytest.approx(0.955, abs=0.01)
    # what is offered knows of lower masses alone, and is no larger than without them
    told = cc.shell_lower_bound([0.0, 0.55], [edge], noise, "l2", [0.02, 1.0, 3.0])
    np.testing.assert_allclose(told, cc.lower_bound(0.55, noise, "l2", [0.02, 1.0, 3.0]), atol=1e-9)


def test_multipliers_that_rise_would_break_it() -> None:
    """More votes outside than inside want them to: neighbours are pooled instead."""
    noise = cc.L2Noise(784, 1.0, 760.0)
    edges = cc.shell_thresholds(noise, [0.3, 0.6])
    a = [0.15, 0.42, 0.8]
    found = shells._Shells(noise, "l2", 0.05, edges).pooled(a, {})
    assert [(shell.first, shell.last) for shell in found] == [(0, 3)]
    told = cc.shell_lower_bound(a, edges, noise, "l2", 0.05)
    assert told == pytest.approx(cc.lower_bound(0.8, noise, "l2", 0.05), abs=1e-12)


def test_votes_inside_a_ball_certify_on_the_scale_of_it() -> None:
    noise = cc.L2Noise(784, 1.0, 760.0)
    edges = cc.shell_thresholds(noise, [0.6])
    inside = cc.shell_radius([0.6, 0.6], edges, noise, "l2")
    assert 0.2 * edges[0] < inside < edges[0]
    assert inside > 25 * cc.certified_radius(0.6, noise, "l2")


L2 = cc.L2Noise(12, 1.0, 9.0)
EDGES = cc.shell_thresholds(L2, [0.3, 0.7])
A = [0.29, 0.65, 0.9]

ENDS = [
    Case("no votes", lambda: cc.shell_radius([0.0, 0.0, 0.0], EDGES, L2, "l2"), 0.0),
    Case("half", lambda: cc.shell_radius([0.2, 0.4, 0.5], EDGES, L2, "l2"), 0.0),
    Case("certain", lambda: cc.shell_radius([0.2, 0.6, 1.0], EDGES, L2, "l2"), math.inf),
    Case("all votes outside", lambda: cc.shell_radius([0.0, 0.0, 0.55], EDGES, L2, "l2"),
         lambda r: r >= cc.certified_radius(0.55, L2, "l2") > 0),
    Case("at the input", lambda: cc.shell_lower_bound(A, EDGES, L2, "l2", 0.0), 0.9),
    Case("far away", lambda: cc.shell_lower_bound(A, EDGES, L2, "l2", 1e4),
         lambda x: 0 <= x < 1e-9),
    Case("very near", lambda: cc.shell_lower_bound(A, EDGES, L2, "l2", 1e-9),
         lambda x: 0.9 - 1e-7 < x <= 0.9),
    Case("thresholds far out", lambda: cc.shell_lower_bound([0.8, 0.9], [1e6], L2, "l2", 0.3),
         lambda x: x >= cc.lower_bound(0.9, L2, "l2", 0.3)),
    Case("thresholds far in", lambda: cc.shell_lower_bound([0.0, 0.9], [1e-9], L2, "l2", 0.3),
         lambda x: abs(x - cc.lower_bound(0.9, L2, "l2", 0.3)) < 1e-9),
    Case("arrays", lambda: cc.shell_lower_bound([A, A], EDGES, L2, "l2", [[0.1], [0.2]]).shape,
         (2, 2)),
    Case("nothing", lambda: cc.shell_radius(np.zeros((0, 3)), EDGES, L2, "l2").shape, (0,)),
    Case("falling masses", lambda: cc.shell_radius([0.65, 0.3, 0.9], EDGES, L2, "l2"),
         refused("a must be non-decreasing")),
    Case("above the noise's mass", lambda: cc.shell_radius([0.31, 0.65, 0.9], EDGES, L2, "l2"),
         refused("a must be at most P(|z| <= T_1) = 0.2999")),
    Case("too few masses", lambda: cc.shell_radius([0.3, 0.9], EDGES, L2, "l2"),
         refused("a must be of shape (..., 3)")),
    Case("upper masses", lambda: cc.shell_radius([A, [0.3, 0.7, 1.0]], EDGES[::-1], L2, "l2"),
         refused("thresholds must be", "rising")),
    Case("equal thresholds", lambda: cc.shell_radius(A, [1.0, 1.0], L2, "l2"),
         refused("thresholds must be", "rising")),
    Case("infinite threshold", lambda: cc.shell_radius(A, [1.0, math.inf], L2, "l2"),
         refused("thresholds must be", "finite")),
    Case("negative threshold", lambda: cc.shell_radius(A, [-1.0, 1.0], L2, "l2"),
         refused("thresholds must be > 0")),
    Case("a table of thresholds", lambda: cc.shell_radius(A, [[1.0, 2.0]], L2, "l2"),
         refused("thresholds must be a one-dimensional")),
    Case("a hundred shells", lambda: cc.shell_radius(A, np.arange(1.0, 100.0), L2, "l2"),
         refused("thresholds must be fewer than 64")),
    Case("mass 1", lambda: cc.shell_thresholds(L2, [0.5, 1.0]),
         refused("masses must be in (0, 1)")),
    Case("falling shares", lambda: cc.shell_thresholds(L2, [0.5, 0.4]),
         refused("masses must be a rising")),
    Case("mixed noise", lambda: cc.shell_thresholds(cc.MixedNoise(4, 1.0, 1.0), [0.5]),
         refused("noise must have level sets", error=cc.errors.UnsupportedPair)),
    Case("discrete noise", lambda: cc.shell_radius([0.9], [], cc.Uniform(4, 1.0), "l1"),
         refused("noise must have a density", error=cc.errors.UnsupportedPair)),
    Case("a pair without a law", lambda: cc.shell_radius(A, EDGES, L2, "l0"), refused("attack")),
]  # fmt: skip


@pytest.mark.parametrize("case", ENDS, ids=str)
def test_ends(case: Case) -> None:
    case.check()


@pytest.mark.parametrize(
    ("noise", "shares"),
    [
        (cc.Gaussian(150528, 0.5), (0.1, 0.5, 0.99)),
        (cc.L1Noise(3072, 0.1, 3071.5), (0.2, 0.9)),
        (L2, (1e-6, 1 - 1e-9)),
    ],
)
def test_thresholds_hold_the_masses_asked_for(noise: Any, shares: Any) -> None:
    """Never more, and 1e-12 less at most; judged in 40 digits."""
    _, power, scale = shape(noise)
    form = mpmath.mpf(noise.dim - getattr(noise, "k", 0.0)) / power
    for edge, share in zip(cc.shell_thresholds(noise, shares), shares, strict=True):
        with mpmath.workdps(40):
            g = (mpmath.mpf(float(edge)) / mpmath.mpf(scale)) ** power
            inside = mpmath.gammainc(form, 0, g, regularized=True)
            assert share - 1e-12 <= inside <= share
    told = shells.masses_within(noise, cc.shell_thresholds(noise, shares))
    assert all(
        low <= share and high >= share - 1e-12
        for (low, high), share in zip(told, shares, strict=False)
    )
