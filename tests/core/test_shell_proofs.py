"""Certificates by shells proved in ball arithmetic, and slips of their engine that proofs find."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from cases import Case, refused
from test_shells import Hinge

import cert_core as cc
from cert_core import balls, proof, shells

SHARES = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0)
FALLING = (0.99, 0.98, 0.97, 0.96, 0.95, 0.9)  # of the votes, by shell: six multipliers, or fewer
INNER = (1.0, 1.0, 1.0, 0.9, 0.6, 0.2)
FLAT = (0.6, 0.55, 0.55, 0.52, 0.52, 0.52)
CASES: list[tuple[cc.Noise, str, tuple[float, ...]]] = [
    (cc.Gaussian(3, 0.5), "l2", FALLING),
    (cc.Gaussian(3072, 0.5), "l2", INNER),
    (cc.Laplace(3, 0.5), "l1", INNER),
    (cc.Laplace(64, 0.5), "l2", FALLING),
    (cc.L1Noise(1, 0.5, 0.5), "linf", INNER),
    (cc.L1Noise(784, 0.5, 760.0), "l1", FALLING),
    (cc.L1Noise(64, 0.5, 32.0), "linf", FLAT),
    (cc.L2Noise(64, 0.5, 60.0), "l1", FALLING),
    (cc.L2Noise(784, 0.5, 760.0), "linf", INNER),
    (cc.L2Noise(3072, 0.5, 3064.0), "l2", FALLING),
    (cc.LinfNoise(3072, 0.5, 3000.0), "linf", FALLING),
    (cc.LinfNoise(784, 0.5, 700.0), "l1", INNER),
    (cc.LinfNoise(3, 0.5, 2.5), "l2", FALLING),
    (cc.RadialNoise(64, 2.0, 0.7, 0.3, 60.0), "l2", INNER),
    (cc.RadialNoise(784, 1.0, 20.0, 0.3, 100.0), "l1", FALLING),
    (cc.L2Noise(12, 0.3, 9.0).scaled(range(1, 13)), "l2", FALLING),
]


def votes_of(shares: tuple[float, ...], n: int = 100000) -> tuple[list[int], list[int]]:
    """Votes and samples of each shell."""
    drawn = np.rint(n * np.diff((0.0, *SHARES))).astype(int)
    return (drawn * np.array(shares)).astype(int).tolist(), drawn.tolist()


def masses_of(noise: cc.Noise, shares: tuple[float, ...]) -> tuple[np.ndarray[Any, Any], Any]:
    edges = cc.shell_thresholds(noise)
    cast, drawn = (np.array([each]) for each in votes_of(shares))
    return cc.shell_votes.lower_masses(cast, drawn, edges, noise, 0.001)[0], edges


@pytest.mark.parametrize(
    ("noise", "attack", "shares"),
    [case if i % 8 == 0 else pytest.param(*case, marks=pytest.mark.slow)
     for i, case in enumerate(CASES)],
    ids=str,
)  # fmt: skip
def test_counts_to_certificate(noise: cc.Noise, attack: str, shares: tuple[float, ...]) -> None:
    """Votes to masses, and masses to the radius: proved just below it, and not just above."""
    a, edges = masses_of(noise, shares)
    radius = cc.shell_radius(a, edges, noise, attack)
    assert proof.prove_shells(a, edges, noise, attack, radius).holds
    below, above = (
        proof.prove_shells(a, edges, noise, attack, radius * x) for x in (1 - 1e-6, 1 + 1e-5)
    )
    assert below.holds
    assert not above.holds
    assert below.required < a[-1] < above.required < a[-1] + 1e-4
    assert max(below.width, above.width) < 1e-10
    cast, drawn = votes_of(shares)
    assert proof.prove_shell_votes(cast, drawn, 0.001, a, edges, noise).holds
    for j in range(len(a)):
        more = [*a[:j], *np.maximum(a[j:], a[j] * (1 + 1e-6))]
        assert not proof.prove_shell_votes(cast, drawn, 0.001, more, edges, noise).holds


HINGES = [
    (cc.Gaussian(3, 1.0), "l2", 0.6, (1.2, 0.3, -0.4)),
    (cc.L2Noise(784, 1.0, 760.0), "l2", 0.3, (1.5, 0.2, -0.8)),
    (cc.Laplace(5, 1.0), "l1", 0.7, (0.6, 0.1, -0.5)),
    (cc.L1Noise(200, 1.0, 190.0), "l1", 0.1, (0.9, 0.9, -0.1)),
]


@pytest.mark.parametrize(("noise", "attack", "r", "taus"), HINGES, ids=str)
def test_what_is_enclosed_is_the_hinge(noise: Any, attack: str, r: float, taus: Any) -> None:
    """Whatever the multipliers: an integral of another form, over |z| and one coordinate."""
    edges, a = cc.shell_thresholds(noise, (0.5, 0.8)), (0.49, 0.75, 0.9)
    found = proof.prove_shells(a, edges, noise, attack, r, taus=taus)
    won = math.fsum(
        math.exp(tau) * (mass - inner) for tau, mass, inner in zip(taus, a, (0.0, *a), strict=False)
    )
    value = won - Hinge(noise, attack, r, edges).dual(a, taus)  # sum of D_j
    assert found.required == pytest.approx(a[-1] * (0.5 + value) / won, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "attack", "shares"), CASES, ids=str)
def test_the_engine_is_never_above_what_is_proved(
    noise: cc.Noise, attack: str, shares: tuple[float, ...]
) -> None:
    """At any multipliers, some of them alike, some near 1, some large; and it is near the truth."""
    a, edges = masses_of(noise, shares)
    rng, tried = np.random.default_rng(3), 0
    for target in (0.6, 0.9, 0.99999):
        radius = cc.certified_radius(target, noise, attack)
        engine = shells._Shells(noise, attack, radius, edges)
        width = 1e-3 + abs(math.log(proof.prove(target, noise, attack, radius).lam))
        for spread in (0.3, 2.0):
            taus = np.sort(width * rng.normal(0.3, spread, 6))[::-1]
            taus[3] = taus[4]
            told, won = 0.0, 0.0
            for j, (tau, part) in enumerate(zip(taus, np.diff(a, prepend=0.0), strict=True)):
                told += engine.value(shells._Shell(j, j + 1, part, tau))
                won += math.exp(tau) * part
            found = proof.prove_shells(a, edges, noise, attack, radius, taus=taus)
            if found.required == 1.0:  # nothing is told of it
                continue
            tried += 1
            truth = won + 0.5 - found.required * won / a[-1]  # sum of L (A - A') - D
            assert -1e-13 * max(won, 1.0) < truth - told < 1e-8 * max(won, 1.0), (radius, taus)
    assert tried > 1


@pytest.mark.parametrize("tau", [0.9, -0.3])
def test_one_multiplier_for_all_shells_is_none(tau: float) -> None:
    for noise, attack in ((cc.L2Noise(64, 1.0, 60.0), "l2"), (cc.LinfNoise(12, 1.0), "l1")):
        a, edges = masses_of(noise, FALLING)
        radius = 0.5 * cc.certified_radius(a[-1], noise, attack)
        alone = proof.prove(a[-1], noise, attack, radius, tau=tau)
        same = proof.prove_shells(a, edges, noise, attack, radius, taus=[tau] * 6)
        none = proof.prove_shells(a[-1:], [], noise, attack, radius, taus=[tau])
        for found in (same, none):
            assert found.required == pytest.approx(alone.required, abs=1e-12)


def test_any_multipliers_that_fall_are_safe_and_the_engine_has_good_ones() -> None:
    noise = cc.L2Noise(784, 1.0, 760.0)
    a, edges = masses_of(noise, FALLING)
    radius = cc.shell_radius(a, edges, noise, "l2")
    best = proof.prove_shells(a, edges, noise, "l2", radius)
    rng = np.random.default_rng(5)
    for _ in range(3):
        taus = sorted(rng.uniform(0.3, 1.4, 6), reverse=True)
        assert proof.prove_shells(a, edges, noise, "l2", radius, taus=taus).required > best.required
    nothing = proof.prove_shells(a, edges, noise, "l2", radius, taus=[-math.inf] * 6)
    assert (nothing.holds, nothing.required) == (False, 1.0)
    for last in (2, 3, 5):  # of none beyond: what lies within is all that counts
        taus = [1.2, 1.1, 1.0, 0.9, 0.8][:last] + [-math.inf] * (6 - last)
        few = proof.prove_shells(a, edges, noise, "l2", radius / 4, taus=taus)
        assert few.holds == (a[last - 1] > 0.55)


def test_all_votes_inside_a_ball() -> None:
    """All of them within T certify on the scale of T, by a multiplier without end."""
    noise = cc.L2Noise(784, 1.0, 760.0)
    edges = cc.shell_thresholds(noise, [0.55])
    a = [0.55, 0.55]
    radius = cc.shell_radius(a, edges, noise, "l2")
    assert radius > 10 * cc.certified_radius(0.55, noise, "l2")
    assert proof.prove_shells(a, edges, noise, "l2", radius * (1 - 1e-6)).holds
    assert not proof.prove_shells(a, edges, noise, "l2", radius * (1 + 1e-5)).holds
    nearly = [0.55 * (1 - 1e-9)] * 2  # where a little is missing a multiplier without end is none
    ends = math.inf, -math.inf
    assert proof.prove_shells(a, edges, noise, "l2", radius / 2, taus=ends).holds
    assert not proof.prove_shells(nearly, edges, noise, "l2", radius / 2, taus=ends).holds


@pytest.mark.parametrize("dim", [1, 5, 784, 3072, 150528])
def test_the_noise_within_a_norm(dim: int) -> None:
    with balls.ctx.workprec(balls.BITS), mpmath.workdps(30):
        for k in (0.0, 0.7 * dim, dim - 0.5):
            norms = proof._norms(cc.L2Noise(dim, 1.0, k))
            a = mpmath.mpf(dim - k) / 2
            low, high = (mpmath.sqrt(a) * x for x in (0.97, 1.004))
            ends = balls.arb(float(low)), balls.arb(float(high))
            truth = mpmath.gammainc(a, float(low) ** 2, float(high) ** 2, regularized=True)
            found = norms.between(*ends, balls.arb(1e-20))
            assert found.rad() < 1e-18
            assert abs(mpmath.mpf(found.mid()) - truth) < 1e-14
            whole = norms.between(balls.arb(0), balls.ENDLESS, balls.arb(1e-20))
            assert whole.overlaps(balls.arb(1))
            assert whole.rad() < 1e-18


def test_where_a_curve_meets_an_edge() -> None:
    """Points beside it are on their sides, and what may lie between is bounded by the density."""
    with balls.ctx.workprec(balls.BITS):
        for noise in (cc.L2Noise(64, 1.0, 60.0), cc.Gaussian(64, 1.0), cc.L1Noise(3, 1.0)):
            law = proof._radial(noise, "l1", Fraction(1, 3))
            for sign in (1, -1):
                curve = balls.Integral(law, balls.arb(0.3), sign)
                for by_x in (True, False):
                    y, s, mass = curve.reaching(balls.arb(1.7), by_x)
                    length, _, _, _, u = curve.at(balls.acb(y), False)
                    found = (length + u if by_x else length).real
                    assert abs(found - balls.arb(1.7).log()) < 1e-30
                    assert abs(s - length.real) < 1e-30
                    assert 0 < mass < 1e-28
                    never, _, none = curve.reaching(balls.arb(1e-9), by_x)
                    if law.k == 0 and by_x == (sign < 0):  # the longer one: never as short
                        assert never == -balls.ENDLESS
                        assert none == 0
                        least = balls.arb(0.3) ** (1 / law.power)
                        assert curve.reaching(least, by_x)[2] == 1  # cannot be told


# ---- slips ----


class Engine:
    """The engine's integrals, a probability of one shell off by 1e-9."""

    def __init__(self, right: Any) -> None:
        self._right = right

    def within(self, *given: float) -> Any:
        below, *rest = self._right.within(*given)
        return [below - 1e-9, *rest]

    def arriving(self, *given: float) -> Any:
        return self._right.arriving(*given)


def light(monkeypatch: pytest.MonkeyPatch) -> None:
    right = shells.radial_engine
    monkeypatch.setattr(
        shells, "radial_engine", lambda *given: (Engine(right(*given)[0]), None, None)
    )


def edge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thresholds off by 1e-6 of themselves: votes that are certain lie farther in."""
    right = shells._Shells.__init__

    def wrong(self: Any, noise: Any, attack: str, radius: float, edges: Any) -> None:
        right(self, noise, attack, radius, [each * (1 - 1e-6) for each in edges])

    monkeypatch.setattr(shells._Shells, "__init__", wrong)


def order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each shell has the multiplier that it wants, whatever its neighbours have."""

    def apart(self: Any, masses: Any, starts: Any) -> Any:
        ends = [0.0, *masses]
        return [self._alone(j, j + 1, ends[j + 1] - ends[j], starts) for j in range(len(masses))]

    monkeypatch.setattr(shells._Shells, "pooled", apart)


def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The masses themselves for what each shell adds to them, in the last one."""
    right = shells._Shells.bound
    monkeypatch.setattr(
        shells._Shells, "bound",
        lambda self, masses, starts: right(self, [*masses[:-1], masses[-1] + 1e-9], starts),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("slip", "noise"),
    [(light, cc.L2Noise(784, 1.0, 760.0)), (edge, cc.L2Noise(3, 1.0, 2.0)),
     (order, cc.L2Noise(784, 1.0, 760.0)), (whole, cc.L2Noise(3, 1.0, 2.0))],
    ids=lambda each: getattr(each, "__name__", str(each)),
)  # fmt: skip
def test_slips_in_the_engine_are_caught(
    slip: Any, noise: cc.Noise, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = {order: (0.9, 0.99, 0.9, 0.95, 0.6, 0.9), edge: INNER}.get(slip, FALLING)
    a, edges = masses_of(noise, shares)
    right = cc.shell_radius(a, edges, noise, "l2")
    slip(monkeypatch)
    wrong = cc.shell_radius(a, edges, noise, "l2")
    assert wrong > right
    assert not proof.prove_shells(a, edges, noise, "l2", wrong).holds  # by its own multipliers
    monkeypatch.undo()
    assert not proof.prove_shells(a, edges, noise, "l2", wrong).holds
    assert proof.prove_shells(a, edges, noise, "l2", right).holds


def test_masses_that_votes_do_not_bound() -> None:
    noise = cc.L2Noise(12, 1.0, 6.0)
    edges = cc.shell_thresholds(noise, [0.3, 0.6])
    votes, samples = [290, 280, 390], [300, 300, 400]
    a = cc.shell_votes.lower_masses(np.array([votes]), np.array([samples]), edges, noise, 0.01)[0]
    assert proof.prove_shell_votes(votes, samples, "1/100", a, edges, noise).holds
    assert not proof.prove_shell_votes(votes, samples, "0.0099", a, edges, noise).holds
    for j in range(3):  # one vote fewer in a shell
        fewer = [cast - (i == j) for i, cast in enumerate(votes)]
        assert not proof.prove_shell_votes(fewer, samples, "0.01", a, edges, noise).holds
    further = [edges[0] * 0.999, edges[1]]  # less of the noise within: so many votes are luck
    assert not proof.prove_shell_votes(votes, samples, "0.01", a, further, noise).holds
    # an inner mass holds for the outer ones as well; none is claimed for nothing
    assert proof.prove_shell_votes([290, 0, 0], samples, "0.01", [a[0]] * 3, edges, noise).holds
    assert proof.prove_shell_votes([0, 0, 0], samples, "0.01", [0, 0, 0], edges, noise).holds
    assert not proof.prove_shell_votes([0, 1, 1], [0, 5, 5], "0.01", [0.1] * 3, edges, noise).holds


def test_thresholds_and_masses_are_taken_exactly() -> None:
    noise = cc.L2Noise(12, 1.0, 6.0)
    given = ("0.1", "1/4", "0.9"), ("1/3", Fraction(2)), noise, "l2", "0.01"
    assert proof.prove_shells(*given).holds
    nothing = proof.prove_shells([0, 0.5], [1], noise, "l2", 0)
    assert (nothing.holds, nothing.required) == (False, 0.5)
    assert not proof.prove_shells([0, 0, 0.0], [1, 2], noise, "l2", 1).holds


GOOD: dict[str, Any] = {
    "a": [0.3, 0.9], "thresholds": [2.0], "noise": cc.L2Noise(8, 1.0, 2.0), "attack": "l2",
    "radius": 0.5,
}  # fmt: skip
VOTES: dict[str, Any] = {
    "votes": [3, 5], "samples": [4, 6], "alpha": 0.01,
    **{name: GOOD[name] for name in ("a", "thresholds", "noise")},
}  # fmt: skip


def shells_case(what: str, words: str, **change: Any) -> Case:
    return Case(what, lambda: proof.prove_shells(**GOOD | change), refused(words))


def votes_case(what: str, words: str, **change: Any) -> Case:
    return Case(what, lambda: proof.prove_shell_votes(**VOTES | change), refused(words))


NONE = cc.errors.UnsupportedPair
REFUSED = [
    shells_case("masses that fall", "a must be non-decreasing", a=[0.9, 0.3]),
    shells_case("a mass above 1", "a must be a number in [0, 1]", a=[0.3, 1.5]),
    shells_case("masses as text", "a must be numbers alone", a="0.9"),
    shells_case("no masses", "a must be 2 masses", a=[]),
    shells_case("a table of masses", "a must be a number", a=[[0.3, 0.9]]),
    shells_case("one mass too many", "a must be 2 masses", a=[0.1, 0.3, 0.9]),
    shells_case("thresholds alike", "thresholds must be rising", a=[0, 0, 1], thresholds=[2, 2]),
    shells_case("a threshold of 0", "thresholds must be a number in (0, 1e80]", thresholds=[0]),
    shells_case("an endless threshold", "thresholds must be", thresholds=[math.inf]),
    shells_case("a radius below 0", "radius must be", radius=-1),
    shells_case("no such attack", "attack must be", attack="l3"),
    shells_case("multipliers that rise", "taus must be 2 numbers that do not rise", taus=[0, 1]),
    shells_case("too few multipliers", "taus must be 2 numbers", taus=[0]),
    shells_case("too large a multiplier", "at most 600", taus=[601, 0]),
    shells_case("no number", "taus must be", taus=[math.nan, 0]),
    Case("the mixed family", lambda: proof.prove_shells(
        **GOOD | {"noise": cc.MixedNoise(8, 1.0, 2.0)}),
        refused("noise must have level sets that are norm balls", error=NONE)),
    Case("categories", lambda: proof.prove_shells(
        **GOOD | {"noise": cc.Flips(8, 3, 0.9), "attack": "l0"}),
        refused("noise must have a density that is positive everywhere", error=NONE)),
    votes_case("more votes than samples", "votes must be of 2 shells", votes=[5, 5]),
    votes_case("votes of one shell", "votes must be of 2 shells", votes=[3]),
    votes_case("half a vote", "votes must be integers", votes=[2.5, 5]),
    votes_case("alpha 0", "alpha must be", alpha=0),
    votes_case("masses that fall", "a must be non-decreasing", a=[0.9, 0.3]),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_what_is_refused(case: Case) -> None:
    case.check()
