"""Every answer of every law on its stated side, by evaluations in 60 digits.

A table of specimens, one at least of every class of laws, and a table of checks, one of every
method: a new law, or a new answer, fails here until it has a truth of its own.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import mpmath as mp
import numpy as np
import oracle
import pytest
from scipy import special

import cert_core as cc
from cert_core.laws import EmpiricalLaw, LogRatioLaw, MixedLaw, log_ratio_law
from cert_core.laws.quadrature import QuadratureLaw
from cert_core.laws.sums import Panel

DIGITS = 60
HALF = mp.mpf(1) / 2
NOTHING = mp.mpf(10) ** -42  # what truths themselves leave out


@dataclass(frozen=True)
class Truth:
    """What a law should answer, where that is known: F(t) and P(l > t), L(p), D(lam), p_min."""

    t: Sequence[float]
    p: Sequence[float]
    lam: Sequence[float]
    below: Callable[[float], Any]
    above: Callable[[float], Any]
    lower: Callable[[float], Any]
    discrepancy: Callable[[float], Any]
    excess: Any
    deficit: Any
    loss: float = 1e-11  # what an answer may lose to its side, of its size
    coarse: float = 1e-14  # ... and of 1


LAMBDAS = [1e-3, 0.5, 1.0, 1.7, 40.0]
PROBABILITIES = [1e-6, 0.2, 0.5, 0.8, 0.999, 1 - 1e-9]


def gaussian(mu: float, **loose: float) -> Truth:
    m = mp.mpf(mu)

    def below(t: float) -> Any:
        return mp.ncdf((mp.mpf(t) + m * m / 2) / m)

    def above(t: float) -> Any:
        return mp.ncdf(-(mp.mpf(t) + m * m / 2) / m)

    def lower(p: float) -> Any:
        start = float(special.ndtri(p))
        score = mp.findroot(lambda z: mp.ncdf(z) - mp.mpf(p), start)
        return mp.ncdf(score - m)

    def discrepancy(lam: float) -> Any:
        tau = mp.log(lam)
        return mp.mpf(lam) * below(tau) - above(-tau)

    points = [mu * z - mu * mu / 2 for z in (-5.0, -1.0, 0.3, 3.0)]
    return Truth(
        points, PROBABILITIES, LAMBDAS, below, above, lower, discrepancy,
        mp.erf(m / mp.sqrt(2)) / 2, mp.ncdf(-m), **loose,
    )  # fmt: skip


def laplace(m: float) -> Truth:
    size = mp.mpf(m)

    def above(t: float) -> Any:
        if t < -m:
            return mp.mpf(1)
        return mp.exp(-(size + mp.mpf(t)) / 2) / 2 if t < m else mp.mpf(0)

    def lower(p: float) -> Any:
        q = 1 - mp.mpf(p)
        if p < 0.5:
            return mp.mpf(p) * mp.exp(-size)
        return mp.exp(-size) / (4 * q) if q > mp.exp(-size) / 2 else 1 - mp.exp(size) * q

    def discrepancy(lam: float) -> Any:
        """Over the distance x past the origin, |z - m| - |z| being -m, 2x - m or m."""
        low, high, x = mp.exp(-size), mp.exp(size), mp.mpf(lam)
        atoms = HALF * max(x - low, 0) + HALF * mp.exp(-size) * max(x - high, 0)
        top = min(size, (mp.log(x) + size) / 2)
        if top <= 0:
            return atoms
        return atoms + mp.quad(lambda y: mp.exp(-y) / 2 * (x - mp.exp(2 * y - size)), [0, top])

    points = [-m, -0.3 * m, 0.0, 0.7 * m, m, 2 * m]
    return Truth(
        points, PROBABILITIES, LAMBDAS, lambda t: 1 - above(t), above, lower, discrepancy,
        (1 - mp.exp(-size)) / 2, mp.exp(-size) / 2,
    )  # fmt: skip


def filled(base: Any, moved: Any, p: Any) -> Any:
    """The least mass under the second law of what has mass p under the first: atoms in
    ascending ratio, the last in part."""
    order = sorted(range(len(base)), key=lambda i: moved[i] / base[i])
    total, left = mp.mpf(0), mp.mpf(p)
    for i in order:
        part = min(left, base[i])
        total, left = total + moved[i] * part / base[i], left - part
    return total


def atoms(laws: Sequence[tuple[Any, Any]], loss: float = 1e-13) -> Truth:
    """Masses under pi0 and pi_delta; of several laws the worst."""
    one = laws[0] if len(laws) == 1 else None
    levels = [mp.log(m / b) for b, m in zip(*one, strict=True)] if one else []
    cuts = sorted(levels)
    points = [float((a + b) / 2) for a, b in pairwise(cuts) if b - a > 1e-9]

    def below(t: float) -> Any:
        assert one is not None
        return mp.fsum(b for b, level in zip(one[0], levels, strict=True) if level <= t)

    def lower(p: Any) -> Any:
        return min(filled(*law, p) for law in laws)

    def discrepancy(lam: float) -> Any:
        return max(mp.fsum(max(lam * b - m, 0) for b, m in zip(*law, strict=True)) for law in laws)

    needed = max(1 - filled(*law, HALF) for law in laws)
    return Truth(
        points[:: max(len(points) // 5, 1)], PROBABILITIES, LAMBDAS, below,
        lambda t: 1 - below(t), lower, discrepancy, needed - HALF, 1 - needed, loss,
    )  # fmt: skip


def power(polynomial: Sequence[Any], r: int) -> Any:
    found = np.array([mp.mpf(1)])
    for _ in range(r):
        found = np.convolve(found, np.array(polynomial))
    return found


def flips(categories: int, keep: float, r: int) -> tuple[Any, Any]:
    """By the entries at the old value less those at the new one."""
    kept = mp.mpf(keep)
    moved = (1 - kept) / (categories - 1)
    base = power([kept, 1 - kept - moved, moved], r)
    return (base, base[::-1]) if categories > 2 else (base[::2], base[::-2])


def sparse(plus: float, minus: float, added: int, deleted: int) -> tuple[Any, Any]:
    p, q = mp.mpf(plus), mp.mpf(minus)
    base = np.convolve(power([1 - p, p], added), power([1 - q, q], deleted))
    moved = np.convolve(power([q, 1 - q], added), power([p, 1 - p], deleted))
    return base, moved


def overlap(shared: Any) -> Truth:
    """Two laws that agree on a share: without what is seen once alone, whose ratio is 0."""
    truth = atoms([(np.array([shared]), np.array([shared]))])

    def lower(p: float) -> Any:
        return max(mp.mpf(p) - (1 - shared), 0)

    return Truth(
        [-1.0, 1.0], truth.p, truth.lam, lambda t: 1 - shared if t < 0 else mp.mpf(1),
        lambda t: shared if t < 0 else mp.mpf(0), lower,
        lambda lam: lam * (1 - shared) + max(lam - 1, 0) * shared, 1 - shared, shared - HALF,
    )  # fmt: skip


def of_row(row: dict[str, Any]) -> Truth:
    """From the table of tests/oracle.py: F at both signs of a threshold, L, and p_min."""
    below, above = ([mp.mpf(x) for x in row[name]] for name in ("F", "S"))
    tau = row["tau"]
    ends = {tau: (below[0], above[0]), -tau: (below[1], above[1])}
    lam = [math.exp(tau), math.exp(-tau)]

    def discrepancy(given: float) -> Any:
        """A tangent at exp(+-tau), whose slope is F: D is convex, so it is not above."""
        side = int(given < 1)
        return below[side] * mp.mpf(given) - above[1 - side]

    atom = row["shape"] != "l2" and (row["power"], row["k"]) == (1, 0)
    edge = atom or row["shape"] == "linf_l1"
    return Truth(
        [] if edge else [tau, -tau], [row["p"]], lam[:1] if edge else lam, lambda t: ends[t][0],
        lambda t: ends[t][1], lambda p: mp.mpf(row["L"]), discrepancy, mp.mpf(row["excess"]),
        mp.mpf(row["deficit"]), 1e-8,
    )  # fmt: skip


SAMPLE = np.random.default_rng(2).normal(-0.3, 0.8, size=40)


def empirical() -> Truth:
    """Of a sample of equal masses: an estimate, that neither law normalises."""
    base = [mp.mpf(1) / len(SAMPLE)] * len(SAMPLE)
    moved = [b * mp.exp(mp.mpf(x)) for b, x in zip(base, SAMPLE.tolist(), strict=True)]
    truth = atoms([(base, moved)])
    low, high = HALF, mp.mpf(1)
    for _ in range(150):
        middle = (low + high) / 2
        low, high = (low, middle) if filled(base, moved, middle) > HALF else (middle, high)
    return Truth(
        truth.t, truth.p, truth.lam, truth.below, truth.above, truth.lower, truth.discrepancy,
        high - HALF, 1 - high, 1e-10, 2e-12,
    )  # fmt: skip


def specimens() -> Iterator[tuple[str, LogRatioLaw, Truth]]:
    yield (
        "no shift",
        log_ratio_law(cc.Gaussian(3, 1.0), "l2", 0.0),
        atoms([([mp.mpf(1)], [mp.mpf(1)])]),
    )
    for mu in (1e-6, 0.7, 6.0):
        yield f"Gaussian {mu}", log_ratio_law(cc.Gaussian(3, 1.0), "l2", mu), gaussian(mu)
    for m in (1e-6, 0.7, 6.0):
        yield f"Laplace {m}", log_ratio_law(cc.Laplace(3, 1.0), "l1", m), laplace(m)
    for dim, mu in ((2, 0.5), (3, 2.0), (64, 0.5), (3072, 3.0)):
        reach = mu / math.sqrt(dim)  # without a power it is the Gaussian
        truth = gaussian(reach * math.sqrt(dim), loss=1e-5, coarse=1e-7)
        truth = replace(truth, p=PROBABILITIES[:-1])  # F is known to 1e-9
        yield f"mixed {dim} {mu}", MixedLaw(dim, 0.0, reach), truth
    for row in json.loads(oracle.TABLE.read_text(encoding="utf-8"))[::15]:
        noise, attack = oracle.package(row["shape"], row["dim"], row["power"], row["k"])
        name = f"{row['shape']} {row['dim']} {row['k']:.3g} {row['r']:.3g}"
        yield name, log_ratio_law(noise, attack, row["r"]), of_row(row)
    for categories, keep, r in ((2, 0.8, 5), (7, 0.3, 4), (256, 0.9, 3), (3, 0.6, 130)):
        law = log_ratio_law(cc.Flips(200, categories, keep), "l0", r)
        truth = atoms([flips(categories, keep, r)], 1e-13 if r < 100 else 1e-9)
        yield f"flips {categories} {keep} {r}", law, truth
    law = log_ratio_law(cc.SparseFlips(50, 0.01, 0.6), "l0", 4)
    yield "sparse flips", law, atoms([sparse(0.01, 0.6, a, 4 - a) for a in range(5)])
    law = log_ratio_law(cc.Ablation(30, 7), "l0", 2)
    yield "ablation", law, overlap(mp.mpf(math.comb(28, 7)) / math.comb(30, 7))
    law = log_ratio_law(cc.Uniform(3, 0.5), "l1", 0.3)
    yield "uniform", law, overlap(1 - mp.mpf(0.3))
    yield "a sample", EmpiricalLaw(SAMPLE), empirical()


def near(value: float, truth: Any, truth_of: Truth) -> bool:
    return bool(abs(mp.mpf(value) - truth) <= truth_of.loss * abs(truth) + truth_of.coarse)


def estimated(law: LogRatioLaw) -> bool:
    """Whether its bounds are estimates, on neither side."""
    return isinstance(law, EmpiricalLaw)


def cdf(law: LogRatioLaw, truth: Truth) -> None:
    for t in truth.t:
        assert near(law.cdf(t), truth.below(t), truth)


def sf(law: LogRatioLaw, truth: Truth) -> None:
    for t in truth.t:
        assert near(law.sf(t), truth.above(t), truth)


def enclose(law: LogRatioLaw, truth: Truth) -> None:
    for t in truth.t:
        low, high = law.enclose(t)
        assert 0 <= mp.mpf(low) <= truth.below(t) + NOTHING
        assert truth.below(t) - NOTHING <= mp.mpf(high) <= 1


def ppf(law: LogRatioLaw, truth: Truth) -> None:
    """No further from where F passes p than it says."""
    if len(truth.p) < 2:
        return  # F is known at two thresholds alone
    for p in truth.p:
        t = law.ppf(p)
        slack = max(1e-7, 100 * truth.coarse) * (1 + abs(t)) if math.isfinite(t) else 0.0
        assert t == -math.inf or truth.below(t - slack) <= p + truth.coarse
        assert t == math.inf or truth.below(t + slack) >= p - truth.coarse


def required(law: LogRatioLaw, truth: Truth) -> None:
    excess, deficit = (mp.mpf(x) for x in law.required())
    assert estimated(law) or excess >= truth.excess - NOTHING
    assert estimated(law) or deficit <= truth.deficit + NOTHING
    assert near(excess, truth.excess, truth)
    assert near(deficit, truth.deficit, truth)


def lower(law: LogRatioLaw, truth: Truth) -> None:
    for p in truth.p:
        found, exact = law.lower(p), truth.lower(p)
        assert estimated(law) or mp.mpf(found) <= exact + NOTHING
        assert near(found, exact, truth)


def discrepancy(law: LogRatioLaw, truth: Truth) -> None:
    for lam in truth.lam:
        found, exact = law.discrepancy(lam), truth.discrepancy(lam)
        assert estimated(law) or mp.mpf(found) >= exact - NOTHING
        assert near(found / max(lam, 1.0), exact / max(lam, 1.0), truth)


CHECKS: dict[str, Callable[[LogRatioLaw, Truth], None]] = {
    "cdf": cdf, "sf": sf, "ppf": ppf, "enclose": enclose, "required": required, "lower": lower,
    "discrepancy": discrepancy,
}  # fmt: skip
WITHOUT_A_LAW = {"sparse flips": {"cdf", "sf", "ppf", "enclose"}}  # each p has its own worst

with mp.workdps(DIGITS):
    SPECIMENS = list(specimens())


def concrete(kind: type) -> Iterator[type]:
    for sub in kind.__subclasses__():
        yield from concrete(sub)
        if not inspect.isabstract(sub) and sub.__module__.startswith("cert_core."):
            yield sub


def test_no_law_and_no_answer_is_left_out() -> None:
    assert {type(law) for _, law, _ in SPECIMENS} == set(concrete(LogRatioLaw))
    answers = {name for name, _ in inspect.getmembers(LogRatioLaw, inspect.isfunction)}
    assert {name for name in answers if not name.startswith("_")} == CHECKS.keys()


@pytest.mark.parametrize("answer", CHECKS)
@pytest.mark.parametrize("specimen", SPECIMENS, ids=lambda specimen: specimen[0])
def test_answers_are_on_their_side(answer: str, specimen: tuple[str, Any, Truth]) -> None:
    name, law, truth = specimen
    if answer in WITHOUT_A_LAW.get(name, ()):
        with pytest.raises(cc.errors.UnsupportedPair):
            getattr(law, answer)(0.5)
        return
    with mp.workdps(DIGITS):
        CHECKS[answer](law, truth)


# ---- errors that are as large as stated ----

OFF = 1e-4  # far above what the laws' own evaluations are off by


class WrongMixed(MixedLaw):
    """Off by as much as it says, one way or the other on each side of zero."""

    signs = (1.0, 1.0)

    def probability(self, t: float, tolerance: float = 1e-8) -> tuple[float, float]:
        value, _ = super().probability(t, tolerance)
        return min(max(value + self.signs[t < 0] * OFF, 0.0), 1.0), 1.01 * OFF


class WrongNodes(MixedLaw):
    """The same of every node of its outer integral."""

    signs = (1.0, 1.0)

    def _given(self, panel: Panel, t: float, tolerance: float) -> tuple[Any, Any]:
        values, errors = super()._given(panel, t, tolerance)
        return np.clip(values + self.signs[t < 0] * OFF, 0.0, 1.0), errors + 1.01 * OFF


@pytest.mark.parametrize("wrong", [WrongMixed, WrongNodes])
@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_the_mixed_law_takes_its_errors_off(
    signs: tuple[int, int], wrong: type[WrongMixed | WrongNodes]
) -> None:
    truth = replace(gaussian(0.8, loss=1.0, coarse=1.0), p=[0.2, 0.5, 0.8])
    law = wrong(4, 0.0, 0.4)
    law.signs = signs
    with mp.workdps(DIGITS):
        for answer in ("enclose", "required", "lower", "discrepancy"):
            CHECKS[answer](law, truth)


@dataclass
class WrongEngine:
    """A compiled law whose values are off by as much as they say."""

    engine: Any
    signs: Sequence[int]

    def _off(self, values: Sequence[float], errors: Sequence[float]) -> Any:
        """The values that have errors moved, others as they are; and the larger errors."""
        sized = zip(values, self.signs, errors, strict=False)
        moved = [min(max(value + sign * OFF, 0.0), 1.0) for value, sign, _ in sized]
        return [*moved, *values[len(moved) :]], [error + 1.01 * OFF for error in errors]

    def distribution(self, t: float, *options: Any) -> Any:
        below, above, *errors = self.engine.distribution(t)
        values, larger = self._off([below, above], errors)
        return (*values, *larger)

    def bounds(self, tau: float, *options: Any) -> Any:
        return self._off(*self.engine.bounds(tau, *options))


RADIAL = [
    (name, law, truth) for name, law, truth in SPECIMENS
    if type(law) is QuadratureLaw and truth.deficit > 1e-3
]  # fmt: skip


@pytest.mark.parametrize("specimen", RADIAL, ids=lambda specimen: specimen[0])
def test_compiled_laws_take_their_errors_off(specimen: tuple[str, Any, Truth]) -> None:
    _, law, truth = specimen
    truth = replace(truth, loss=1.0, coarse=1.0)
    with mp.workdps(DIGITS):
        for signs in itertools.product((1, -1), repeat=4):
            wrong = copy.copy(law)
            wrong._engine = WrongEngine(law._engine, signs)
            for answer in ("enclose", "required", "lower", "discrepancy"):
                CHECKS[answer](wrong, truth)
