"""Certificates proved in ball arithmetic, and what the proofs must refuse."""

from __future__ import annotations

import ast
import json
import math
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np
import oracle
import pytest
from scipy import special
from sweep import PAIRS, cases, seen

import cert_core as cc
from cert_core import balls, exact, proof
from cert_core.laws import quadrature

ROWS = json.loads(oracle.TABLE.read_text(encoding="utf-8"))
CASES: list[tuple[cc.Noise, str]] = [
    (cc.Gaussian(3072, 0.5), "l2"),
    (cc.Gaussian(3072, 0.5), "linf"),
    (cc.Laplace(784, 0.7), "l1"),
    (cc.Laplace(784, 0.7), "l2"),
    (cc.MixedNoise(3072, 0.5, 0.0), "l1"),
    (cc.MixedNoise(1, 0.5, 0.3), "l2"),
    (cc.L1Noise(1, 0.3, 0.5), "linf"),
    (cc.L1Noise(5, 0.3), "l1"),
    (cc.L1Noise(3072, 0.3, 3060.0), "l1"),
    (cc.L1Noise(784, 0.3, 200.0), "linf"),
    (cc.L2Noise(2, 0.5, 1.2), "l2"),
    (cc.L2Noise(3072, 0.5, 3064.5), "l2"),
    (cc.L2Noise(784, 0.5, 400.0), "l1"),
    (cc.L2Noise(150528, 0.5, 1e5), "linf"),
    (cc.LinfNoise(2, 0.5), "linf"),
    (cc.LinfNoise(3072, 0.5, 1500.0), "linf"),
    (cc.LinfNoise(3072, 0.5, 1500.0), "l1"),
    (cc.LinfNoise(3, 0.5, 2.5), "l1"),
    (cc.LinfNoise(784, 0.5), "l2"),
    (cc.RadialNoise(64, math.inf, 1.0, 0.3), "l1"),
    (cc.RadialNoise(64, 2.0, 0.3, 0.3, 60.0), "l2"),
    (cc.RadialNoise(784, 1.0, 20.0, 0.3, 100.0), "l1"),
    (cc.RadialNoise(12, 1.0, 2.0, 1.0, 11.99), "l1"),  # radii down to 1e-200
    (cc.L2Noise(3072, 0.5, 3071.99), "l2"),
    (cc.LinfNoise(2, 0.5, 1.99), "linf"),
    (cc.L2Noise(12, 0.3, 3.0).scaled(range(1, 13)), "l2"),
]
NAMES = [f"{noise!r}-{attack}" for noise, attack in CASES]


@pytest.mark.parametrize("p", [0.51, 0.9, 0.99999])
@pytest.mark.parametrize(("noise", "attack"), CASES, ids=NAMES)
def test_holds_below_the_radius_and_not_above(noise: cc.Noise, attack: str, p: float) -> None:
    radius = cc.certified_radius(p, noise, attack)
    below, above = (proof.prove(p, noise, attack, radius * x) for x in (1 - 1e-6, 1 + 1e-5))
    assert below.holds
    assert p - 1e-5 < below.required < p
    assert not above.holds
    assert p < above.required < 1.0
    assert max(below.width, above.width) < 1e-10 * min(p - 0.5, 1 - p)


@pytest.mark.parametrize(
    "row", ROWS[::11], ids=lambda row: f"{row['shape']}-{row['dim']}-{row['k']}"
)
def test_holds_what_the_oracle_finds(row: dict[str, Any]) -> None:
    noise, attack = oracle.package(row["shape"], row["dim"], row["power"], row["k"])
    with mp.workdps(30), balls.ctx.workprec(balls.BITS):
        lam = balls.arb(row["tau"]).exp()
        law = proof._law(noise, attack, Fraction(row["r"]))
        found = (balls.HALF + proof._discrepancy(law, lam, 1e-20)) / lam
        assert found.rad() < 1e-15
        error = mp.mpf(10) ** -20  # the table's digits
        for name, value in (("excess", found - 0.5), ("deficit", 1 - found)):
            low, high = mp.mpf(value.lower()), mp.mpf(value.upper())
            assert low - error <= mp.mpf(row[name]) <= high + error


RADIAL = [
    (noise, attack)
    for noise, attack in CASES
    if isinstance(cc.log_ratio_law(noise, attack, 1.0), quadrature.QuadratureLaw)
]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("noise", "attack"), RADIAL, ids=str)
def test_a_ball_holds_the_value_at_each_of_its_points(
    noise: cc.Noise, attack: str, sign: int
) -> None:
    """What a slip in a mean value form, a bound or a branch would break."""
    rng = np.random.default_rng(7)
    arb, acb = balls.arb, balls.acb
    held = 0
    with balls.ctx.workprec(balls.BITS):
        radius = cc.certified_radius(0.9, noise, attack)
        law = proof._law(noise, attack, Fraction(radius))
        tau = max(math.log(proof.prove(0.9, noise, attack, radius).lam), 1e-12)
        integral = balls.Integral(law, arb(tau), sign)
        ends = [integral._place(float(integral.middle) + z) for z in (-2.0, 1.5)]
        if integral.least is not None:
            ends[0] = -3.0
        for size in np.repeat(np.geomspace(1e-8, 3.0, 12), 8):
            y = rng.uniform(*ends)
            ball = acb(arb(y, size), arb(0, size))
            wide = integral.integrand(ball, True)
            real = integral.integrand(acb(arb(y, size)), False)
            for x, z in rng.uniform(-size, size, (4, 2)):
                point = acb(y + x, z)
                if wide.is_finite():
                    assert wide.overlaps(integral.integrand(point, True)), (ball, point)
                    held += 1
                if real.is_finite():
                    assert real.overlaps(integral.integrand(acb(y + x), False)), (ball, point)
    assert held > 100


def test_tails_are_bounded_from_above() -> None:
    arb = balls.arb
    with balls.ctx.workprec(balls.BITS):
        for dim, k in ((1, 0.0), (5, 4.9), (40, 0.0), (3072, 3000.0)):
            noise = cc.RadialNoise(dim, 1.0, 1.0, 1.0, k)
            integral = balls.Integral(proof._law(noise, "l1", Fraction(1)), arb(0.7), 1)
            a = integral.law.shape
            for z in (-30.0, -1.0, -0.1, 0.03, 1.0, 4.0):
                w = integral.middle + z
                below = w.exp().gamma_lower(a, regularized=1)
                truth = below if z < 0 else w.exp().gamma_upper(a, regularized=1)
                bound = integral._tail(w, 1 if z > 0 else -1)
                assert truth <= bound
                assert bound < 1
                assert not integral._tail(w, -1 if z > 0 else 1) < 1  # the other side: no bound
                if integral.least is not None and w > integral.least:
                    inside = below - arb(0.7).gamma_lower(a, regularized=1)
                    assert not inside > integral._sliver(w)


@pytest.mark.parametrize("dim", [2, 3, 12, 784, 3072])
def test_caps_of_spheres(dim: int) -> None:
    """P(cosine <= c) by Arb's own incomplete beta function, at points and at the ends of balls."""
    arb, acb = balls.arb, balls.acb
    with balls.ctx.workprec(balls.BITS):
        cap, a = balls._sphere(dim, arb(1)), arb(dim - 1) / 2

        def share(c: float) -> Any:
            return ((1 + arb(c)) / 2).beta_lower(a, a, regularized=True)

        for c in (-0.999, -0.8, -0.1, -1e-3, 0.0, 1e-9, 0.03, 0.2, 0.72, 0.9, 0.9999):
            truth = share(c)
            found = cap(acb(c), acb(0), acb(0), True)
            assert found.real.overlaps(truth)
            assert found.real.rad() < 1e-25
            for wide in (1e-6, 1e-5, 0.5):
                held = cap(acb(arb(c, wide)), acb(0), acb(0), False).real
                for end in (max(c - wide, -1.0), min(c + wide, 1.0)):
                    assert held.overlaps(share(end))


def test_proofs_share_nothing_with_the_engine() -> None:
    taken = {
        (node.module, alias.name)
        for module in (proof, balls, exact)
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if node.module.startswith("cert_core")
        and node.module not in ("cert_core.errors", "cert_core.balls")
    }
    families = {
        (noise.__module__, noise.__name__)
        for noise in (*cc.NOISES.values(), *cc.CHANNELS.values(), cc.noises.Scaled)
    }
    names = {("cert_core.threats", name) for name in ("ORDER", "Shift", "law_shift")}
    guess = {("cert_core.laws", "log_ratio_law"), ("cert_core.shells", "multipliers")}
    checks = {("cert_core.noises", name) for name in ("Noise", "checked_noise", "level_record")}
    assert taken == families | names | guess | checks | {
        ("cert_core", "balls"), ("cert_core", "exact"), ("cert_core.channels", "Finite"),
    }  # fmt: skip


@pytest.mark.parametrize("lam", [0.3, 0.999, 1, 1.5, 20])
def test_two_ways_to_the_discrepancy_of_a_closed_law(lam: float) -> None:
    """The integral of the radial family at k = 0 against Corollaries 1 and 2."""
    for closed, family, attack in (
        (cc.Gaussian(12, 0.5), cc.L2Noise(12, 0.5), "linf"),
        (cc.Laplace(12, 0.5), cc.L1Noise(12, 0.5), "l1"),
        (cc.Gaussian(1, 0.5), cc.LinfNoise(1, 0.5), "l1"),
    ):
        radius = 0.4 / (math.sqrt(12) if attack == "linf" else 1)
        first, second = (proof.discrepancy(lam, x, attack, radius) for x in (closed, family))
        assert max(first[0], second[0]) <= min(first[1], second[1])
        assert second[1] - second[0] < 1e-11 * max(lam, 1)
        told = cc.discrepancy(lam, family, attack, radius)
        assert second[0] <= told <= second[1] + 1e-11 * max(lam, 1)


@pytest.mark.parametrize("lam", [math.exp(0.8), math.exp(-0.8), 1.0, 2.5, 0.1])
def test_atoms_of_the_log_ratio_leave_no_doubt(lam: float) -> None:
    """l of power 1 and k = 0 has atoms at -r, r, and at 0 for max-balls along an axis."""
    for noise in (cc.L1Noise(7, 1.0), cc.RadialNoise(7, math.inf, 1.0, 1.0)):
        low, high = proof.discrepancy(lam, noise, "l1", 0.8)
        assert high - low < 1e-12
        assert low <= cc.discrepancy(lam, noise, "l1", 0.8) <= high + 1e-11


def test_any_multiplier_is_safe_and_the_engine_has_a_good_one() -> None:
    noise = cc.L2Noise(784, 0.5, 700.0)
    radius = cc.certified_radius(0.9, noise, "l2")
    best = proof.prove(0.9, noise, "l2", radius)
    for tau in (-1.0, 0.0, 0.3 * math.log(best.lam), 3 * math.log(best.lam)):
        other = proof.prove(0.9, noise, "l2", radius, tau=tau)
        assert other.required > best.required + 1e-4
        assert not other.holds


def test_numbers_are_taken_exactly() -> None:
    noise = cc.Gaussian(3, 1.0)
    radius = Fraction(1, 10)
    needed = Fraction(proof.prove("0.5", noise, "l2", radius).required)
    assert proof.prove(needed, noise, "l2", "0.1").holds
    assert proof.prove(needed + Fraction(1, 10**18), noise, "l2", Decimal("0.1")).holds
    assert not proof.prove(needed - Fraction(1, 10**15), noise, "l2", "1/10").holds
    assert proof.prove(np.float32(0.75), noise, "l2", np.float64(0.6)).holds
    assert proof.prove(1, noise, "l2", 30).required < 1.0 or proof.prove(1, noise, "l2", 8).holds
    nothing = proof.prove(0.5, noise, "l2", 0)
    assert (nothing.holds, nothing.required) == (False, 0.5)
    assert proof.prove(math.nextafter(0.5, 1), noise, "l2", 0.0).holds


def test_the_scale_of_a_noise_is_not_rounded() -> None:
    """sigma sqrt(2) is no float: the engine rounds it, a proof may not."""
    noise = cc.L2Noise(12, 0.1)
    with balls.ctx.workprec(balls.BITS):
        law = proof._law(noise, "l2", Fraction(1, 5))
        assert law.reach.rad() < 1e-30  # type: ignore[attr-defined]
        assert law.reach**2 - balls.arb(2) in balls.arb(0, 1e-15)  # type: ignore[attr-defined]
        assert law.reach**2 != balls.arb(2)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "words", "error"),
    [
        ({"noise": cc.MixedNoise(8, 1.0, 2.0)}, "proved integral", cc.errors.UnsupportedPair),
        ({"p": 1.5}, "p must be", ValueError),
        ({"p": math.nan}, "p must be", ValueError),
        ({"p": "most"}, "p must be", ValueError),
        ({"p": "1/0"}, "p must be", ValueError),
        ({"p": np.array([0.9])}, "p must be", ValueError),
        ({"p": True}, "p must be", ValueError),
        ({"radius": -1}, "radius must be", ValueError),
        ({"radius": math.inf}, "radius must be", ValueError),
        ({"radius": "1e90"}, "radius must be", ValueError),
        ({"radius": None}, "radius must be", ValueError),
        ({"attack": "l3"}, "attack must be", ValueError),
        ({"noise": "l2"}, "noise must be", ValueError),
        ({"tau": math.nan}, "tau must be", ValueError),
    ],
)
def test_what_is_refused(change: dict[str, Any], words: str, error: type[Exception]) -> None:
    given = {"p": 0.9, "noise": cc.Gaussian(8, 1.0), "attack": "l2", "radius": 1.0, **change}
    with pytest.raises(error, match=words):
        proof.prove(**given)


def test_without_flint_one_line_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['flint'] = None\nimport cert_core as cc\n"
        "try:\n cc.proof\nexcept cc.errors.BackendMissing as error:\n print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "smoothing-certificates[proof]" in done.stdout
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("votes", "n"), [(1, 1), (990, 1000), (100000, 100000), (99000, 100000), (501, 1000), (3, 10)]
)
def test_a_bound_on_votes_is_proved_and_a_larger_one_is_not(votes: int, n: int) -> None:
    for alpha in (0.001, 1e-9):
        lower = cc.binomial_lower(votes, n, alpha)
        found = proof.prove_votes(votes, n, alpha, lower)
        assert found.holds
        assert 0.8 * alpha < found.tail <= alpha
        assert not proof.prove_votes(votes, n, alpha, lower * (1 + 1e-6) + 1e-9).holds
    found = proof.prove_votes(votes, n, 0.5, 0.3)
    assert found.tail == pytest.approx(special.bdtrc(votes - 1, n, 0.3), rel=1e-9)


def test_votes_that_prove_nothing() -> None:
    assert proof.prove_votes(0, 10, 0.001, 0).holds
    assert proof.prove_votes(10, 10, 0.001, 0).holds
    assert not proof.prove_votes(0, 10, 0.001, 1e-300).holds
    assert not proof.prove_votes(10, 10, 0.5, 1).holds
    assert proof.prove_votes(2, 2, "0.25", "0.5").holds
    assert not proof.prove_votes(2, 2, "0.25", 0.5 + 2**-53).holds
    for wrong in ((11, 10, 0.1, 0.5), (1, 0, 0.1, 0.5), (1, 2, 0.6, 0.5), (1, 2, 0.1, 1.5)):
        with pytest.raises(ValueError, match="must be"):
            proof.prove_votes(*wrong)


class Mutant:
    """The engine with a slip: what it reports comes out a little wrong."""

    reach = 1.0  # of the shift it is given
    weight = 0.0  # relative error of a probability

    def __init__(self, geometry: str, dim: float, power: float, k: float, reach: float) -> None:
        self._engine = ENGINE(geometry, dim, power, k, reach * self.reach)

    def distribution(self, *given: float) -> Any:
        return self._engine.distribution(*given)

    def bounds(self, *given: float) -> Any:
        (excess, overlap, *rest), errors = self._engine.bounds(*given)
        return [excess * (1 - self.weight), overlap * (1 + self.weight), *rest], errors


ENGINE = cc.laws.RadialLaw


class Weight(Mutant):
    """A node's weight off by 1e-9."""

    weight = 1e-9


class Half(Mutant):
    """delta/2 for delta."""

    reach = 0.5


class Square(Mutant):
    """sigma for sigma^2, sigma = 1.2: every length is divided by too much."""

    reach = 1 / 1.2


@pytest.mark.parametrize("mutant", [Weight, Half, Square])
def test_slips_in_the_engine_are_caught(
    mutant: type[Mutant], monkeypatch: pytest.MonkeyPatch
) -> None:
    for noise, attack in RADIAL[::2]:
        monkeypatch.setattr(cc.laws, "RadialLaw", ENGINE)
        if len(cc.log_ratio_law(noise, attack, 1.0)._jumps) > 1:
            continue  # lambda is read off the shift: an engine's slip can only loosen p_min
        radius = cc.certified_radius(0.99, noise, attack)
        right = cc.required_probability(noise, attack, radius)
        monkeypatch.setattr(cc.laws, "RadialLaw", mutant)
        wrong = cc.required_probability(noise, attack, radius)
        assert wrong < right
        assert not proof.prove(wrong, noise, attack, radius).holds  # by the mutant's lambda
        monkeypatch.setattr(cc.laws, "RadialLaw", ENGINE)
        assert not proof.prove(wrong, noise, attack, radius).holds
        assert proof.prove(right + 1e-12, noise, attack, radius).holds


def test_a_missed_kink_is_caught() -> None:
    """P(l <= t) of L1Noise by one rule of 64 nodes across the jump at |z - delta| = |z| + r."""
    noise = cc.L1Noise(20, 1.0, 8.0)
    a, nodes = 12.0, np.polynomial.legendre.leggauss(64)
    v = 20.0 + 20.0 * nodes[0]
    weights = nodes[1] * np.exp((a - 1) * np.log(v) - v)
    weights /= weights.sum()

    def cdf(t: float, r: float) -> float:
        u = np.zeros_like(v)
        for _ in range(60):
            u -= (8.0 * u + v * np.expm1(u) + t) / (8.0 + v * np.exp(u))
        depth = 0.5 * (r - v * np.expm1(u))
        inside = 1 - 0.5 * np.clip(1 - depth / v, 0, None) ** 19
        share = np.where(depth < 0, 0.0, np.where(depth >= np.minimum(v, r), 1.0, inside))
        return float(weights @ share)

    caught = 0
    for radius in np.linspace(0.5, 2.0, 8):
        true = cc.required_probability(noise, "l1", radius)
        tau = math.log(proof.prove(0.9, noise, "l1", float(radius)).lam)
        wrong = cdf(tau, radius) + math.exp(-tau) * (cdf(-tau, radius) - 0.5)
        assert wrong == pytest.approx(true, abs=0.05)
        assert proof.prove(wrong, noise, "l1", float(radius)).holds == (wrong > true)
        caught += wrong < true
    assert caught > 1


@pytest.mark.slow
@pytest.mark.parametrize("geometry", PAIRS)
def test_the_engine_errs_by_less_than_it_states(geometry: str) -> None:
    """Every 13th case of the grid, which meets every power, dimension, k, radius and lambda."""
    chosen = [case for i, case in enumerate(cases(geometry)) if i % 13 == 0]
    assert len(chosen) > 80
    for case in chosen:
        found = seen(case)
        if found is None:
            continue
        assert found.width < 1e-11, found
        assert found.unsafe <= 0, found
        if found.what == "p_min":
            assert found.error <= found.stated, found
