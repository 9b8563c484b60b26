"""The engine's numbers against balls that hold the truth, with the margins it states.

`python tests/core/sweep.py [GEOMETRY ...]` writes the table of the whole sweep (a quarter of an
hour of one core); a part of it, evenly spread, is a test.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from flint import arb, ctx

import cert_core as cc
from cert_core import balls, proof
from cert_core.bounds import search_radius
from cert_core.laws import log_ratio_law
from cert_core.laws.quadrature import QuadratureLaw, margin

PAIRS = {  # (norm, attack) whose geometries are the engine's three
    "sphere": (2.0, "l2"),
    "cone": (1.0, "l1"),
    "cone of max-balls": (math.inf, "linf"),
    "edge": (math.inf, "l1"),
}
POWERS = (0.3, 0.7, 1.0, 2.0, 6.0, 20.0)
DIMS = (1, 2, 3, 12, 64, 784, 3072)
WIDE, WIDE_POWERS = 150528, (0.3, 2.0, 20.0)
TARGETS = (0.51, 0.9, 0.99999, 1 - 1e-9)
LAMS = (0.05, 0.2, 1.0, 3.0, 20.0)  # at the radius of the second target


@dataclass(frozen=True)
class Case:
    """A number asked of the engine: p_min (lam None) or D(lam), at target's radius."""

    noise: cc.RadialNoise
    attack: str
    target: float
    lam: float | None


@dataclass(frozen=True)
class Seen:
    """One number of the engine's: |it - truth| is at most error, stated is its margin, and
    unsafe how far the truth is proved to
    lie on the wrong side of what users are told; width is the truth's ball's."""

    what: str
    case: str
    value: float
    error: float
    stated: float
    unsafe: float
    width: float
    seconds: float


def exponents(dim: int) -> tuple[float, ...]:
    """The k tried in so many dimensions."""
    if dim == WIDE:
        return (0.0, 0.3 * dim, dim - 0.5)
    return tuple(sorted({0.0, 0.3 * dim, dim - 0.5, dim - 0.01}))


def cases(geometry: str, powers: tuple[float, ...] = POWERS) -> Iterator[Case]:
    """The whole grid of a geometry."""
    norm, attack = PAIRS[geometry]
    for power in powers:
        for dim in (*DIMS, WIDE) if power in WIDE_POWERS else DIMS:
            if dim == 1 and geometry in ("sphere", "edge"):
                continue
            for k in exponents(dim):
                noise = cc.RadialNoise(dim, norm, power, 1.0, k)
                for target in TARGETS:
                    yield Case(noise, attack, target, None)
                for lam in LAMS:
                    yield Case(noise, attack, TARGETS[1], lam)


def required(noise: cc.RadialNoise, attack: str, radius: float) -> Seen:
    """p_min, at the lambda that the engine itself tries first."""
    law = log_ratio_law(noise, attack, radius)
    assert isinstance(law, QuadratureLaw)
    tau = max(-float(law.ppf(0.5)), 0.0)
    values, errors = law._engine.bounds(tau)
    excess, stated = values[0], margin(values[0], errors[0])
    told = cc.required_probability(noise, attack, radius)
    start = time.process_time()
    with ctx.workprec(balls.BITS):
        law_ball = proof._law(noise, attack, Fraction(radius))
        lam = arb(tau).exp()
        truth = (0.5 + proof._discrepancy(law_ball, lam, 1e-20)) / lam
        error = abs(truth - 0.5 - excess).lower()
        short = (truth - told).lower()
        width = truth.rad()
    seconds = time.process_time() - start
    case = f"{noise!r} {attack} radius={radius!r} tau={tau!r}"
    jumps = any(tau == abs(jump) for jump in law._jumps)  # at an atom the engine has lambdas to try
    unsafe = -math.inf if jumps else float(short)
    return Seen("p_min", case, 0.5 + excess, float(error), stated, unsafe, float(width), seconds)


def discrepancy(noise: cc.RadialNoise, attack: str, radius: float, lam: float) -> Seen:
    """D(lam)/max(lam, 1)."""
    told = cc.discrepancy(lam, noise, attack, radius)
    start = time.process_time()
    low, high = proof.discrepancy(lam, noise, attack, radius, tolerance=1e-15)
    seconds = time.process_time() - start
    scale = max(lam, 1.0)
    above = (told - 0.5 * (low + high)) / scale
    width = (high - low) / scale
    case = f"{noise!r} {attack} radius={radius!r} lam={lam!r}"
    return Seen("D", case, told, abs(above), math.nan, -above - width, width, seconds)


def seen(case: Case) -> Seen | None:
    """What the engine says of a case; None where its radius is 0: too near 1/2, or to 0, for the
    engine, which certifies nothing."""
    radius = search_radius(case.noise, case.attack, case.target)
    if radius == 0.0:
        return None
    if case.lam is None:
        return required(case.noise, case.attack, radius)
    return discrepancy(case.noise, case.attack, radius, case.lam)


def main() -> None:
    for geometry in sys.argv[1:] or PAIRS:
        for power in POWERS:
            found = []
            for case in cases(geometry, (power,)):
                x = seen(case)
                if x is None:
                    continue
                found.append(x)
                if x.unsafe > 0 or x.error > x.stated or x.seconds > 2.0 or not x.width < 1e-11:
                    print("!", x, flush=True)
            p_min = [x for x in found if x.what == "p_min"]
            d = [x for x in found if x.what == "D"]
            print(
                f"| {geometry} | {power:g} | {len(found)} | {max(x.error for x in p_min):.1e} "
                f"| {max(x.error / x.stated for x in p_min):.2f} "
                f"| {max(x.stated for x in p_min):.1e} | {max(x.error for x in d):.1e} "
                f"| {max(x.unsafe for x in found):.1e} | {max(x.seconds for x in found):.2f} "
                f"| {sum(x.seconds for x in found) / len(found):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
