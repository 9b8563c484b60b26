"""Numbers at the ends of their range: bounds that hold there, or a refusal by name."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, refused

import cert_core as cc
from cert_core.kernels import reference
from cert_core.samples import block_generator
from cert_models.store.runs import FixedPlan, ScorePlan, Votes

G = cc.Gaussian(4, 1.0)
TINY, HUGE = 5e-324, 2**63 - 1
DRAWN = {"seed": 1, "start": 35557409}  # its first word, 0xffffffd3, is a uniform of 1


def near(value: float, *, below: float = 1e-9) -> Any:
    """A bound that is not above the value, and not much below."""
    return lambda found: value - below <= found <= value


def counted(votes: Any) -> Any:
    """A statement from these votes of the estimation."""
    selection = [[1] + [0] * (len(votes) - 1)]
    return lambda: cc.certify(selection, [votes], G, "l2")


def stored(plan: Any, estimation: list[int], scores: Any = None) -> Any:
    """What a store does with votes of a plan."""
    selection = np.array([1] + [0] * (len(estimation) - 1))
    return lambda: plan.check(
        Votes(
            index=0,
            label=0,
            selection=selection,
            estimation=np.array(estimation),
            seconds=0.0,
            scores=scores,
        )
    )


def monte_carlo(method: str, alpha: float) -> Any:
    return lambda: (
        cc.monte_carlo_bound(0.9, G, "l2", 0.1, n=1000, alpha=alpha, seed=0, method=method).lower
    )


def size(noise: Any, backend: str, dtype: str = "float32") -> Any:
    """The norm of a row whose coordinates all round to 0, over the radius drawn for it."""

    def act() -> float:
        row = cc.draw(noise, 1, **DRAWN, backend=backend, dtype=dtype)[0].astype(float)
        score, _ = reference.row_normals(1, 1, DRAWN["start"], 10)
        radius = float(np.exp(noise.log_radius()(score))[0]) * noise.scale_unit
        return float(np.linalg.norm(row, noise.radial.norm)) / radius

    return act


def generators() -> int:
    """How many of these blocks of streams have a generator of their own."""
    values = (0, 4, 4 << 32, 4 + (4 << 32), 7 + (4 << 32), 7, 7 + (6 << 32), 2**64 - 1)
    asked = itertools.product(values, (4, 6, 8), (0, 1, 4, 6))
    return len({block_generator(*ask).integers(2**63) for ask in asked})


def trivial(noise: Any, attack: str, radius: float) -> Any:
    """p_min, L and D of a shift beyond everything."""
    return lambda: [
        cc.required_probability(noise, attack, radius),
        cc.lower_bound(0.9, noise, attack, radius),
        cc.discrepancy(1.0, noise, attack, radius),
    ]


def shortest(noise: Any, attack: str, radius: float) -> Any:
    """p_min, L, D at 1, below and above it, of a shift of next to nothing."""
    return lambda: [
        cc.required_probability(noise, attack, radius),
        cc.lower_bound(0.9, noise, attack, radius),
        *cc.discrepancy([1.0, 0.5, 2.0, 1e-300], noise, attack, radius),
    ]


def like_no_shift(found: list[float]) -> bool:
    p, lower, at_one, below, above, least = found
    return bool(
        0.5 <= p < 0.5 + 1e-10
        and 0.9 - 1e-10 < lower <= 0.9
        and 0 <= at_one < 1e-10
        and 0 <= below < 1e-10
        and 2.0 >= above >= 1.0
        and above < 1.0 + 1e-10
        and 0 <= least <= 1e-300
    )


LARGE = [
    cc.L2Noise(3, 1.0, 1.5), cc.L1Noise(3, 1.0, 1.5), cc.LinfNoise(3, 1.0, 1.5),
    cc.L2Noise(1, 1.0, 0.5), cc.RadialNoise(3, 1, 1.0, 1.0), cc.RadialNoise(3, math.inf, 1.0, 1.0),
    cc.L2Noise(3, 1e-50), cc.Gaussian(3, 1.0), cc.Laplace(3, 1.0),
]  # fmt: skip
STEEP = [
    cc.RadialNoise(3, 2, 20.0, 1.0), cc.RadialNoise(3, 1, 30.0, 1.0, 1.5),
    cc.RadialNoise(3, math.inf, 50.0, 1.0, 1.5), cc.RadialNoise(3072, 2, 20.0, 1.0),
]  # fmt: skip
SHORT = [
    (cc.L2Noise(3, 1.0, 1.5), TINY), (cc.L2Noise(3, 1e50, 1.5), 1e-300), (G, TINY), (G, 1e-310),
    (cc.Gaussian(3, 1e50), 1e-300), (cc.Gaussian(3, 1e-50), TINY), (cc.Laplace(3, 1e50), 1e-300),
    (cc.LinfNoise(3, 1e50, 1.5), 1e-290), (cc.L1Noise(3, 1e50, 1.5), TINY), (G, 1e-200),
]  # fmt: skip

CASES = [
    # votes beyond int64 and float64
    Case("votes wrap", counted([99, HUGE, HUGE, 3]), refused("counts_estimation", "2^53")),
    Case("votes of uint64", counted(np.array([2**64 - 1, 2], np.uint64)),
         refused("counts_estimation", "2^53")),
    Case("votes beyond 2**64", counted([2**64, 2]), refused("counts_estimation")),
    Case("sums beyond 2**53", counted([2**53 - 1, 1]), refused("counts_estimation", "2^53")),
    Case("sums beyond 2**63", counted([2**53 - 1] * 1025), refused("counts_estimation", "2^53")),
    Case("selection wraps", lambda: cc.certify([[HUGE, HUGE, 12]], [[9, 1, 0]], G, "l2"),
         refused("counts_selection", "2^53")),
    Case("rows that wrap alike", lambda: cc.certify([[9, 1]] * 2, [[HUGE, HUGE]] * 2, G, "l2"),
         refused("counts_estimation", "2^53")),
    Case("k beyond 2**53", lambda: cc.binomial_lower(2**53, 2**53, 0.001), refused("k", "2^53")),
    Case("n beyond 2**53", lambda: cc.binomial_lower(1, 2**62, 0.001), refused("n", "2^53")),
    Case("n of uint64", lambda: cc.sequential.mixture_upper(1, np.uint64(2**64 - 1), 0.001),
         refused("n", "2^53")),
    Case("n of a mean",
         lambda: cc.confidence.hoeffding_lower(0.5, 2**60, 0.001), refused("n", "2^53")),
    Case("stored votes wrap", stored(FixedPlan(1, 100), [99, HUGE, HUGE, 3]),
         refused("estimation", "2^53")),
    Case("stored scores wrap", stored(ScorePlan(1, 2), [99, HUGE, HUGE, 3], (50, 50)),
         refused("estimation", "2^53")),
    Case("runner-up of wrapped votes",
         lambda: cc.certificates.certify_top_k([[9, 1, 0]], [[99, HUGE, HUGE]], G, "l2"),
         refused("counts_estimation", "2^53")),
    # bounds of many votes, and of small alpha
    Case("lower of 1e13", lambda: cc.binomial_lower(10**12, 10**13, 1e-6),
         near(0.09999954905114085, below=1e-15)),
    Case("lower of 1.2e10", lambda: cc.binomial_lower(6 * 10**9, 12 * 10**9, 1e-100),
         near(0.499902900372656, below=2e-15)),
    Case("lower of all", lambda: cc.binomial_lower(2**53 - 1, 2**53 - 1, 0.001),
         lambda p: 1 - 1.1e-15 < p < 1),
    Case("lower of few", lambda: cc.binomial_lower(2, 5, 1e-200), near(10**-100.5, below=1e-112)),
    Case("lower that underflows", lambda: cc.binomial_lower(1, 2**52, 1e-323), near(0.0)),
    Case("lower at the least alpha", lambda: cc.binomial_lower([0, 1, 5], [5], TINY),
         lambda p: p[0] == 0.0 and 0.0 <= p[1] <= TINY and 1e-65 < p[2] < 3e-65),
    Case("upper of few", lambda: cc.binomial_upper(3, 5, 1e-200), 1.0),
    Case("upper of none", lambda: cc.binomial_upper(0, 2**52, 0.001),
         lambda p: 0 < -p / math.expm1(math.log(0.001) / 2**52) - 1 < 1e-12),
    Case("mixture of 5e6", lambda: cc.sequential.mixture_lower(4 * 10**6, 5 * 10**6, 0.001),
         near(0.799086374036019, below=2e-15)),
    Case("mixture of 1e13", lambda: cc.sequential.mixture_lower(10**12, 10**13, 0.001),
         near(0.0999993699407100, below=1e-15)),
    Case("mixture of few",
         lambda: cc.sequential.mixture_lower(1, 5, 1e-320), lambda p: 0 <= p < 1e-310),
    Case("Bernstein at the least alpha",
         lambda: cc.confidence.empirical_bernstein_lower(1.0, 0.0, 10**6, TINY),
         near(0.99826135409)),
    Case("Hoeffding at the least alpha", lambda: cc.confidence.hoeffding_lower(1.0, 10**6, TINY),
         near(0.980706995155)),
    Case("betting at the least alpha", lambda: cc.confidence.betting_lower([1.0] * 5000, TINY),
         lambda p: 0.8 < p < 0.83),
    Case("shares of a denormal", lambda: sum(cc.confidence.split_alpha(3 * TINY, [1, 1])),
         lambda total: total <= 3 * TINY),
    *(Case(f"{method} at alpha {alpha}", monte_carlo(method, alpha), lambda p: 0 <= p < 0.6)
      for method in ("hoeffding", "dkw", "clopper-pearson") for alpha in (1e-200, 1e-322)),
    Case("votes for a threshold near 1", lambda: cc.confidence.votes_needed(0.001, 1 - 1e-15),
         lambda n: 6.9e15 < n < 2**53 and cc.binomial_lower(n, n, 0.001) > 1 - 1e-15),
    Case("votes for no threshold", lambda: cc.confidence.votes_needed(0.001, math.nextafter(1, 0)),
         refused("threshold", "2^53")),
    Case("votes at a small alpha", lambda: cc.confidence.votes_needed(1e-300, 0.5), 997),
    Case("votes for the least threshold", lambda: cc.confidence.votes_needed(0.5, TINY), 1),
    Case("votes for 1",
         lambda: cc.confidence.votes_needed(0.001, 1.0), refused("threshold", "(0, 1)")),
    Case("votes for NaN",
         lambda: cc.confidence.votes_needed(0.001, math.nan), refused("threshold")),
    # schedules
    Case("looks at 1e10",
         lambda: cc.sequential.boundaries(0.7, 0.001, [10**10]), refused("looks", "10**9")),
    Case("a plan of 1e12", lambda: cc.sequential.plan_at(G, "l2", 0.5, n_max=10**12),
         refused("looks", "10**9", "n_max")),
    Case("a width's plan of 1e12 is read",
         lambda: cc.sequential.plan_from_dict(
             cc.sequential.plan_until(G, "l2", 0.1, n_max=10**12).to_dict()).looks[-1],
         10**12),
    Case("a plan of 3e6",
         lambda: cc.sequential.plan_at(G, "l2", 0.5, n_max=3 * 10**6).tests[0].size,
         near(0.001, below=1e-6)),
    # rows of zeros
    *(Case(f"{noise} {backend}", size(noise, backend), lambda share: abs(share - 1) < 1e-6)
      for noise in (cc.L2Noise(1, 1.0, 0.5), cc.L2Noise(2, 1.0, 0.5), cc.L1Noise(1, 1.0, 0.5),
                    cc.L2Noise(1, 1e-9, 0.5), cc.RadialNoise(1, 1, 3.0, 2.0),
                    cc.RadialNoise(2, 2, 3.0, 2.0), cc.L1Noise(2, 1.0, 0.5))
      for backend in ("cpu", "reference")),
    # streams of a noise of one's own
    Case("seeds of 64 bits", generators, 8 * 3 * 4),
    Case("a seed of 32 bits draws as ever",
         lambda: np.random.Philox(np.random.SeedSequence([7, 4, 5])).random_raw(),
         block_generator(7, 4, 5).bit_generator.random_raw()),
    # shifts that underflow, and shifts beyond everything
    *(Case(f"shift {radius} of {noise} {attack}", shortest(noise, attack, radius), like_no_shift)
      for noise, radius in SHORT for attack in ("l1", "linf")),
    *(Case(f"shift {radius} of {noise}", trivial(noise, "linf", radius), [1.0, 0.0, 1.0])
      for noise in LARGE for radius in (1e60, 1e79, 1e80)),
    *(Case(f"shift {radius} of {noise}", trivial(noise, "l1", radius), [1.0, 0.0, 1.0])
      for noise in STEEP for radius in (1e3, 1e10)),
    Case("shift beyond 1e80", trivial(G, "l2", 1e81), refused("radius", "1e80")),
    Case("no radius at p near 1",
         lambda: cc.certified_radius(1 - 2**-53, cc.RadialNoise(3, 2, 20.0, 1.0), "l2"),
         lambda r: 0 < r < 10),
    Case("Gaussian law at next to no shift",
         lambda: cc.log_ratio_law(G, "l2", 1e-310).enclose([-1.0, 0.0, 1.0]),
         lambda ends: ends[0][0] <= 0 <= ends[1][0] < 1e-300 and ends[0][1] <= 0.5 <= ends[1][1]
         and ends[0][2] <= 1 <= ends[1][2]),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_ends_of_the_range(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case.check()
