"""Errors that no coincidence hides: an adversary solves for thresholds and radii at which
two rules agree by chance, and the value there is held to what is stated."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import mixed_oracle
import numpy as np
import pytest
from scipy import special

import cert_core as cc
from cert_core import balls, proof
from cert_core.laws import MixedLaw, log_ratio_law
from cert_core.laws.base import EPS
from cert_core.laws.quadrature import QuadratureLaw, margin
from cert_core.laws.sums import tables
from cert_core.native import NODES, NODES_FEW, RadialLaw, panel_integral


def crossings(difference: Callable[[float], list[float]], points: Any) -> list[float]:
    """Where a difference of two rules, one a panel, is zero, between neighbouring points."""
    found = []
    values = [difference(float(x)) for x in points]
    for ends, (at_low, at_high) in zip(pairwise(map(float, points)), pairwise(values), strict=True):
        if len(at_low) != len(at_high):
            continue  # other panels
        for i, (a, b) in enumerate(zip(at_low, at_high, strict=True)):
            if a * b >= 0 or min(abs(a), abs(b)) < 1e-14:
                continue
            low, high = ends
            for _ in range(50):
                middle = 0.5 * (low + high)
                here = difference(middle)
                if len(here) != len(at_low):
                    break
                low, high = (low, middle) if here[i] * a < 0 else (middle, high)
            found.append(middle)
    return found


PAIRS: dict[str, list[tuple[Any, str]]] = {
    "sphere": [(2.0, "l2")],
    "cone": [(1.0, "l1"), (math.inf, "linf")],
    "edge": [(math.inf, "l1")],
}


def radial(geometry: str, rng: np.random.Generator) -> tuple[cc.RadialNoise, str, float]:
    """A noise of any dimension and shape, an attack, and a radius with p_min from .5 to 1."""
    dim = int(rng.choice([2, 3, 5, 12, 64, 784, 3072]))
    power = float(rng.choice([0.7, 1.0, 2.0, 3.0]))
    k = float(rng.choice([0.0, 0.3 * dim, dim - 1.0, dim - 0.5, dim - 10 ** rng.uniform(-1, 0)]))
    norm, attack = PAIRS[geometry][int(rng.integers(len(PAIRS[geometry])))]
    scale = ((dim - k) / power) ** (1 / power)
    spread = {"sphere": 1 / math.sqrt(dim), "cone": 1 / dim, "edge": 1.0}[geometry]
    radius = scale * spread * float(10 ** rng.uniform(-1.5, 1.0))
    return cc.RadialNoise(dim, norm, power, 1.0, k), attack, radius


def engine(noise: cc.RadialNoise, attack: str, radius: float) -> RadialLaw:
    law = log_ratio_law(noise, attack, radius)
    assert isinstance(law, QuadratureLaw)
    return law._engine


def held(noise: cc.RadialNoise, attack: str, radius: float, dual: bool, t: float) -> None:
    """D(exp t) and p_min at t, or F(t), to their stated errors from balls that hold the truth."""
    law = engine(noise, attack, radius)
    with balls.ctx.workprec(balls.BITS):
        ball = proof._law(noise, attack, Fraction(radius))
        if not dual:
            value, above, error, error_above = law.distribution(t)
            size, tolerance = balls.arb(abs(t)), balls.arb(1e-18)
            if t > 0:
                tail, found, error = ball.above(size, tolerance), above, error_above
            else:
                tail, found = ball.below(size, tolerance), value
            gap = abs(tail - found).lower()
            # where the threshold is rounded, F is that of a neighbour
            near = [law.distribution(t * (1 + x))[0] for x in (-16 * EPS, 16 * EPS)]
            assert float(gap) <= margin(found, error) + abs(near[1] - near[0])
            assert error <= 1e-12
            return
        values, errors = law.bounds(t)
        lam = balls.arb(t).exp()
        needed = (0.5 + proof._discrepancy(ball, lam, 1e-20)) / lam - 0.5
        stated = margin(values[0], errors[0])
        assert float(abs(needed - values[0]).lower()) <= stated <= 1e-12
    for lam in (math.exp(t), math.exp(-t)):
        low, high = proof.discrepancy(lam, noise, attack, radius, tolerance=1e-16)
        told = cc.discrepancy(lam, noise, attack, radius)
        assert low <= told <= high + 2 * max(lam, 1.0) * (stated + errors[2] + errors[3] + 8e-15)


def radial_search(noise: cc.RadialNoise, attack: str, radius: float, points: int) -> int:
    """Crossings found: over the threshold of F, over log lambda of bounds, over the radius."""
    law, count = engine(noise, attack, radius), 0
    positive, negative = np.geomspace(1e-2, 5.0, points), np.linspace(-3.0, -1e-3, points)
    for dual, at in ((False, positive), (False, negative), (True, positive)):

        def over_t(t: float, dual: bool = dual) -> list[float]:
            return [a - b for a, b, _ in law.first_panels(dual, t)]

        for t in crossings(over_t, at):
            held(noise, attack, radius, dual, t)
            count += 1

        def over_r(r: float, dual: bool = dual) -> list[float]:
            found = engine(noise, attack, r).first_panels(dual, 0.3)
            return [a - b for a, b, _ in found]

        for r in crossings(over_r, radius * np.geomspace(0.5, 2.0, points)):
            held(noise, attack, r, dual, 0.3)
            count += 1
    return count


def radial_crossings(geometry: str, laws: int, points: int) -> int:
    rng = np.random.default_rng(14)
    return sum(radial_search(*radial(geometry, rng), points) for _ in range(laws))


def test_no_panel_states_less_than_its_two_rules_differ_by() -> None:
    rng, differ = np.random.default_rng(20), 0
    for geometry in [*PAIRS] * 12:
        law = engine(*radial(geometry, rng))
        for dual in (False, True):
            for value, coarse, error in law.first_panels(dual, float(rng.uniform(0.01, 4.0))):
                differ += abs(value - coarse) > 1e-13
                assert abs(value - coarse) <= error + 1e-14
    assert differ >= 100


@pytest.mark.parametrize("dim", [2, 12, 64, 3072])
def test_errors_hold_wherever_refinement_ends(dim: int) -> None:
    """For a Gaussian of variance 1/2, where l is normal with mean -r^2 and variance 2 r^2."""
    for r in (0.1, 0.3, 1.0, 3.0):
        law = RadialLaw("sphere", dim, 2.0, 0.0, r)
        for x in np.linspace(-2.0, 2.0, 31):
            truth = special.ndtr([x, -x])
            for tolerance in (1.0, 1e-2, 1e-4, 1e-6, 1e-8):
                below, above, *errors = law.distribution(math.sqrt(2) * r * x - r * r, tolerance)
                assert (np.abs(np.array([below, above]) - truth) <= np.array(errors) + 1e-14).all()


@pytest.mark.parametrize("geometry", ["sphere", "cone", "edge"])
def test_radial_laws_where_two_rules_agree(geometry: str) -> None:
    assert radial_crossings(geometry, 8, 8) >= 20


@pytest.mark.slow
@pytest.mark.parametrize(("geometry", "laws"), [("sphere", 60), ("cone", 60), ("edge", 110)])
def test_radial_laws_where_two_rules_agree_by_the_hundred(geometry: str, laws: int) -> None:
    assert radial_crossings(geometry, laws, 30) >= 200


def shell_held(law: RadialLaw, moved: bool, t: float, low: float, high: float) -> None:
    """F, S or G of a shell to the errors stated, from those of 12 shells that it consists of:
    other panels, all of them shorter."""
    parts = np.linspace(low, high, 13)

    def told(low: float, high: float) -> tuple[list[float], list[float]]:
        if moved:
            value, error = law.arriving(t, low, high)
            return [value], [error]
        below, above, *errors = law.within(t, low, high)
        return [below, above], errors

    whole, stated = told(low, high)
    pieces = [told(float(a), float(b)) for a, b in pairwise(parts)]
    for i, (value, error) in enumerate(zip(whole, stated, strict=True)):
        total = math.fsum(piece[0][i] for piece in pieces)
        more = math.fsum(piece[1][i] for piece in pieces)
        assert abs(value - total) <= margin(value, error) + more, (moved, t, low, high)
        assert error <= 1e-12


def shell_search(rng: np.random.Generator, geometry: str, points: int) -> int:
    """Crossings found in the panels of shells, over t and over the radius."""
    noise, attack, radius = radial(geometry, rng)
    form = (noise.dim - noise.k) / noise.power
    ends = special.gammaincinv(form, np.sort(rng.uniform(0.01, 0.99, 2))) ** (1 / noise.power)
    low, high = float(ends[0]), float(ends[1])
    if not low < high * (1 - 1e-9):
        return 0
    count, at = 0, float(rng.uniform(-2, 2))
    law = engine(noise, attack, radius)
    for moved in (False, True):

        def over_t(t: float, moved: bool = moved) -> list[float]:
            return [a - b for a, b, _ in law.first_shell_panels(moved, t, low, high)]

        def over_r(r: float, moved: bool = moved) -> list[float]:
            panels = engine(noise, attack, r).first_shell_panels(moved, at, low, high)
            return [a - b for a, b, _ in panels]

        if max(map(abs, over_t(at)), default=0.0) < 1e-13:
            continue  # no panel is coarse enough to agree by chance
        for width in (1e-2, 0.3):
            for t in crossings(over_t, at + width * np.linspace(-1, 1, points)):
                shell_held(law, moved, t, low, high)
                count += 1
            for r in crossings(over_r, radius * np.exp(width * np.linspace(-1, 1, points))):
                shell_held(engine(noise, attack, r), moved, at, low, high)
                count += 1
    return count


@pytest.mark.parametrize(("geometry", "laws"), [("sphere", 150), ("cone", 150), ("edge", 1500)])
def test_shells_where_two_rules_agree(geometry: str, laws: int) -> None:
    rng = np.random.default_rng(18)
    assert sum(shell_search(rng, geometry, 6) for _ in range(laws)) >= 3


@pytest.mark.slow
@pytest.mark.parametrize(("geometry", "laws"), [("sphere", 800), ("cone", 4000), ("edge", 40000)])
def test_shells_where_two_rules_agree_by_the_hundred(geometry: str, laws: int) -> None:
    rng = np.random.default_rng(19)
    assert sum(shell_search(rng, geometry, 20) for _ in range(laws)) >= 200


def rule_gap(values: Any) -> float:
    """The rule less that of every other node."""
    nodes = NODES_FEW if values.size == NODES_FEW.size else NODES
    few = nodes[::2]
    moments = [2.0, *[0.0] * (few.size - 1)]
    weights = np.linalg.solve(np.polynomial.legendre.legvander(few, few.size - 1).T, moments)
    return panel_integral(values)[0] - float(weights @ values[::2])


def outer_search(dim: int, k: float, r: float, t: float, points: int) -> int:
    """Crossings of the outer integral's rules, over the radius and over the threshold."""

    def differences(r: float, t: float) -> list[float]:
        law = MixedLaw(dim, k, r)
        table, gaps = law._tables, []
        for low, high in pairwise(table.edges(law._floor(), search=False)):
            panel = table.panel(low, high)
            gaps.append(rule_gap(panel.weights * law._given(panel, t, 1e-8)[0]))
        return gaps

    found = [
        (x, t) for x in crossings(lambda x: differences(x, t), r * np.geomspace(0.5, 2, points))
    ]
    found += [
        (r, x) for x in crossings(lambda x: differences(r, x), t + np.linspace(-1, 1, points))
    ]
    for r_at, t_at in found:
        law = MixedLaw(dim, k, r_at)
        value, error = law.probability(t_at)
        if dim == 2:  # one plain integral
            truth = mixed_oracle.plane_cdf(k, r_at, t_at)
        else:
            truth, rest = law.probability(t_at, 1e-11)
            assert rest <= error
        assert abs(value - truth) <= error
        assert error <= 2e-8
        for other in (1 - 1e-6, 1 + 1e-6):
            near, more = MixedLaw(dim, k, r_at * other).probability(t_at)
            assert abs(value - near) <= error + more + 1e-5
    return len(found)


@pytest.mark.parametrize(("dim", "share", "t"), [(10, 0.942, -1.0), (2, 0.7, -0.5)])
def test_outer_integral_where_two_rules_agree(dim: int, share: float, t: float) -> None:
    assert outer_search(dim, share * dim, 0.3 * (1 - share), t, 7) >= 3


@pytest.mark.slow
def test_outer_integral_where_two_rules_agree_by_the_hundred() -> None:
    rng, count = np.random.default_rng(15), 0
    for dim in (2, 2, 2, 3, 4, 6, 9, 10, 16):
        for share in (0.6, 0.9, 0.95):
            r = (1 - share) * float(10 ** rng.uniform(-1, 0))
            count += outer_search(dim, share * dim, r, float(rng.uniform(-3, 1)), 12)
    assert count >= 200


def plain_three(k: float, rho: float, r: float, t: float) -> Any:
    """The inner integrand for dim = 3 over m in units of rho, and its kinks, in plain SciPy."""
    whole, ratio, steep = special.erf(rho / math.sqrt(2)), r / rho, r * rho

    def mass(a: Any, b: Any) -> Any:
        return 0.5 * (special.erf(b * rho / math.sqrt(2)) - special.erf(a * rho / math.sqrt(2)))

    def at(m: Any, sign: float) -> Any:
        size = 1 + ratio if sign < 0 else np.maximum(np.abs(1 - ratio), ratio - m) + 1e-300
        return (t + k * np.log(size)) / steep + 1.5 * ratio - sign - m

    def integrand(m: Any) -> Any:
        above = np.maximum(mass(m, 1.0), 1e-300)
        found = sum(np.clip(mass(m, np.clip(at(m, s), m, 1.0)) / above, 0, 1) for s in (-1, 1))
        density = rho * np.exp(-0.5 * (rho * m) ** 2) / math.sqrt(2 * math.pi) / whole
        return 0.5 * found * 2 * density * mass(m, 1.0) / whole

    grid = np.linspace(-1, 1, 4001)
    kinks = [2 * ratio - 1]
    for sign in (-1.0, 1.0):
        for edge in (grid, np.ones_like(grid)):
            beyond = at(grid, sign) - edge > 0
            for i in np.flatnonzero(beyond[1:] != beyond[:-1]):
                kinks.append(0.5 * (grid[i] + grid[i + 1]))
    return integrand, np.unique([-1.0, 1.0, *(x for x in kinks if -1 < x < 1)])


def inner_search(k: float, rho: float, r: float, points: int) -> int:
    """Crossings of the inner integral's rules over the threshold, against dense panels."""
    node, _ = tables(3, k).node(math.log(rho))
    m = NODES_FEW  # the whole range as one panel

    def difference(t: float) -> list[float]:
        return [rule_gap(plain_three(k, rho, r, t)[0](m))]

    found = crossings(difference, np.linspace(-4.0, 3.0, points))
    x, w = np.polynomial.legendre.leggauss(24)
    for t in found:
        integrand, kinks = plain_three(k, rho, r, t)
        edges = np.unique(np.concatenate([np.linspace(a, b, 401) for a, b in pairwise(kinks)]))
        half = 0.5 * np.diff(edges)[:, None]
        places = 0.5 * (edges[1:] + edges[:-1])[:, None] + half * x
        truth = float((half * w * integrand(places)).sum())
        value, error = node.conditional(t, math.log(r), 1e-8)
        # the dense panels meet each kink to 3e-4: refined alone they move by up to 9e-9
        assert abs(value - truth) <= error + 5e-8
    return len(found)


def test_inner_integral_where_two_rules_agree() -> None:
    assert inner_search(2.7, 0.7, 0.4, 30) >= 1


@pytest.mark.slow
def test_inner_integral_where_two_rules_agree_by_the_hundred() -> None:
    rng = np.random.default_rng(16)
    count = sum(
        inner_search(k, float(10 ** rng.uniform(-1, 0.4)), float(10 ** rng.uniform(-1, 0.5)), 100)
        for k in (0.3, 1.5, 2.7)
        for _ in range(20)
    )
    assert count >= 200


SMOOTH = [
    (cc.MixedNoise(10, 1.0, 9.42), "linf", 0.009198212169697274, 3e-8),
    (cc.MixedNoise(9, 1.0, 8.2602), "linf", 5.4613e-4, 3e-8),
    (cc.MixedNoise(64, 1.0, 20.0), "linf", 0.05, 3e-8),
    (cc.L2Noise(64, 1.0, 30.0), "l2", 0.4, 1e-14),
    (cc.L1Noise(784, 1.0, 783.0), "l1", 3.2e-5, 1e-14),
    (cc.LinfNoise(12, 1.0, 3.0), "l1", 0.7, 1e-14),
]


def rises(noise: cc.Noise, attack: str, centre: float, stated: float, points: int) -> None:
    radii = centre * (1 + 1e-9 * (np.arange(points) - points // 2))
    needed = cc.required_probability(noise, attack, radii)
    assert np.diff(needed).min() >= -stated
    assert np.ptp(needed) <= 2 * stated + 2e-9 * points  # dp/dlog r is of order 1


@pytest.mark.parametrize("row", SMOOTH, ids=lambda row: f"{row[0].name}-{row[0].dim}")
def test_needed_probability_is_smooth(row: Any) -> None:
    rises(*row, 6)


@pytest.mark.slow
@pytest.mark.parametrize("row", SMOOTH, ids=lambda row: f"{row[0].name}-{row[0].dim}")
def test_needed_probability_is_smooth_over_a_thousand_radii(row: Any) -> None:
    rises(*row, 1000)
    noise, attack, centre, stated = row
    for shift in np.random.default_rng(17).uniform(0.8, 1.2, 3):
        rises(noise, attack, centre * shift, stated, 300)
