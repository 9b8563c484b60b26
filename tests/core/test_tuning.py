"""Noises tuned: the best found within the budget, its fresh numbers unbiased, its own too high."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm

import cert_core as cc
from cert_core import tuning
from cert_core.tuning import halving

RARE = 1e-6  # false alarms of a test of chances


def far(successes: int, n: int, p: float) -> bool:
    """Whether so many successes say that their probability is another."""
    low, high = binom.ppf([RARE / 2, 1 - RARE / 2], n, p)
    return not low <= successes <= high


# ---- the parts ----


@given(
    count=st.integers(2, 60), seed=st.integers(0, 2**64 - 1), share=st.floats(0.3, 0.7),
)  # fmt: skip
def test_parts_share_nothing_and_leave_nothing(count: int, seed: int, share: float) -> None:
    inputs = [3 * i + 1 for i in range(count)]
    first, second = tuning.split(inputs, seed, share=share)
    assert sorted(first + second) == inputs
    assert abs(len(first) - share * count) <= 0.5
    assert (first, second) == tuning.split(inputs, seed, share=share)
    named = tuning.split(inputs, seed, fresh=second)
    assert (sorted(named[0]), named[1]) == (sorted(first), second)


def test_parts_that_share_an_input_are_refused() -> None:
    with pytest.raises(ValueError, match=r"fresh must be without inputs that tune.*got \[4\]"):
        tuning.split(range(9), 0, tuning=[1, 4], fresh=[4, 5])
    with pytest.raises(ValueError, match="fresh must be one input or more"):
        tuning.split(range(3), 0, tuning=[0, 1, 2])


# ---- the search ----


class Landscape:
    """Candidates whose answers are drawn with known probabilities, and what was asked of them."""

    def __init__(self, shares: Any, seed: int, passes: int = 10) -> None:
        self.shares, self.passes = np.asarray(shares), passes
        self.rng = np.random.default_rng(seed)
        self.asked: list[tuple[int, int]] = []

    def __call__(self, candidate: int, inputs: list[int]) -> tuple[Any, Any]:
        self.asked += [(candidate, i) for i in inputs]
        held = self.rng.random(len(inputs)) < self.shares[candidate]
        return np.where(held, 1.0, 0.0), np.full(len(inputs), self.passes)


def test_the_best_is_found_with_the_stated_chance() -> None:
    """It leaves only where another is ahead of it at the end of a round: by Hoeffding's inequality
    with probability exp(-n gap^2 / 2) at most, n the inputs by then, which the budget fixes."""
    shares, budget, runs = [0.3, 0.4, 0.75, 0.2, 0.45, 0.1, 0.4, 0.3], 10 * 8 * 3 * 40, 300
    wrong, bound = 0, 0.0
    for seed in range(runs):
        judge = Landscape(shares, seed)
        found = tuning.search(judge, [10] * 8, range(2000), [1.0], budget, top=1.0)
        assert sum(found.passes) <= budget
        wrong += found.winners != (2,)
    for n in (40, 120, 280):  # 8, then 4 or fewer, then 2 or fewer candidates share a third each
        bound += sum(math.exp(-n * (0.75 - s) ** 2 / 2) for s in shares if s != 0.75)
    assert bound < 0.6
    assert wrong <= binom.ppf(1 - RARE, runs, bound)
    assert wrong <= runs * 0.02  # and is far better than the bound


def test_the_best_is_the_winner_or_a_rival() -> None:
    shares, rho, runs = [0.5, 0.55, 0.6, 0.62], 0.2, 300
    missed = lonely = 0
    for seed in range(runs):
        found = tuning.search(
            Landscape(shares, seed), [10] * 4, range(400), [1.0], 10_000, top=1.0, rho=rho
        )
        missed += 3 not in (*found.winners, *found.rivals[0])
        lonely += not found.rivals[0]
    assert missed <= binom.ppf(1 - RARE, runs, rho)
    clear = tuning.search(Landscape([0.1, 0.9], 0), [10] * 2, range(400), [1.0], 8000, top=1.0)
    assert clear.rivals == ((),)


def test_who_is_told_to_be_worse_costs_no_more() -> None:
    """Where gaps are clear the search ends before the budget does."""
    judge = Landscape([0.02, 0.02, 0.98, 0.02], 1)
    found = tuning.search(judge, [10] * 4, range(10_000), [1.0], 100_000, top=1.0)
    assert found.winners == (2,)
    assert len(found.rounds) == 1


def test_a_winner_that_left_early_is_told_apart_by_the_inputs_it_shares() -> None:
    """Two candidates have what nobody else reaches, and go on after the other winner is known:
    their later inputs, which it has not seen, say nothing of it."""

    def judge(candidate: int, inputs: list[int]) -> tuple[Any, Any]:
        near, far = (np.array(inputs) * step % 1000 / 1000 for step in (7919, 4057))
        near_held, far_held = near < (0.8, 0.6, 0, 0)[candidate], far < 0.58
        held = near_held * 1.0 if candidate < 2 else far_held * (3.0 - 0.1 * (candidate - 2))
        return held, [10] * len(inputs)

    found = tuning.search(judge, [10] * 4, range(4000), [0.5, 2.5], 4000, top=3.0)
    assert found.winners == (0, 2)
    assert len(found.radius[0]) < len(found.radius[2])
    state = halving._Search(judge, [10] * 2, [], [1.0], 100, 3.0, 0.05)
    for seen, rival in ((50, [1.0] * 50 + [0.0] * 500), (1, [1.0] + [0.0] * 500)):
        state.radius = [np.ones(seen), np.array(rival)]
        state.tell_apart(1.0, 0)
        assert state.rivals[1.0] == {0, 1}
    state.radius = [np.ones(50), np.zeros(500)]
    state.tell_apart(1.0, 0)
    assert state.rivals[1.0] == {0}


def test_every_gap_is_bet_on_fairly() -> None:
    """Under equal means a player is rarely rich, whenever one looks (Ville)."""
    rng, rho, runs = np.random.default_rng(0), 0.1, 2000
    gaps = rng.choice([-1.0, 0.0, 1.0], size=(runs, 100), p=[0.3, 0.4, 0.3])
    rich = sum(halving._fortune(each) >= math.log(1 / rho) for each in gaps)
    assert rich <= binom.ppf(1 - RARE, runs, rho)
    assert halving._fortune(np.full(40, 0.5)) > math.log(1e4)


@st.composite
def searches(draw: st.DrawFn) -> dict[str, Any]:
    most = draw(st.lists(st.integers(0, 20), min_size=2, max_size=9))
    turns = math.ceil(math.log2(len(most)))
    return {
        "most": most, "inputs": draw(st.permutations(range(draw(st.integers(1, 40))))),
        "objectives": draw(st.sampled_from([[1.0], [0.5, 1.0], [1.0, "average"], ["average"]])),
        "budget": max(turns * sum(most), 1) + draw(st.integers(0, 2000)),
        "seed": draw(st.integers(0, 99)),
    }  # fmt: skip


@settings(max_examples=150)
@given(searches())
def test_the_budget_holds_whatever_the_votes(how: dict[str, Any]) -> None:
    rng, asked, most = np.random.default_rng(how.pop("seed")), [], how["most"]

    def judge(candidate: int, inputs: list[int]) -> tuple[Any, Any]:
        asked.extend((candidate, i) for i in inputs)
        passes = rng.integers(0, most[candidate] + 1, size=len(inputs))
        return rng.choice([0.0, 0.5, 1.0], size=len(inputs)), passes

    found = tuning.search(judge, top=1.0, **how)
    assert sum(found.passes) <= how["budget"]
    assert len(set(asked)) == len(asked)  # of an input once
    assert not any(most[candidate] == 0 for candidate, _ in asked)
    for candidate, radius in enumerate(found.radius):  # the same inputs, from the first on
        own = [i for c, i in asked if c == candidate]
        assert own == list(how["inputs"][: len(own)])
        assert most[candidate] == 0 or len(radius) == len(own)
    for winner, rivals in zip(found.winners, found.rivals, strict=True):
        assert winner not in rivals
        assert len(found.radius[winner]) == len(found.inputs) or len(found.rounds) > 0


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs that are judged together are those that would have been judged one by one."""

    def run() -> tuning.Search:
        law = np.random.default_rng(0).integers(1, 11, size=(6, 500))

        def judge(candidate: int, inputs: list[int]) -> tuple[Any, Any]:
            passes = law[candidate, inputs]
            return (passes > candidate).astype(float), passes

        return tuning.search(judge, [10] * 6, range(500), [1.0, "average"], 4321, top=1.0)

    together = run()
    monkeypatch.setattr(halving, "BLOCK", 1)
    alone = run()
    assert (together.winners, together.passes, together.rounds) == (
        alone.winners, alone.passes, alone.rounds
    )  # fmt: skip


WRONG = [
    (
        lambda c, i: ([1.0] * len(i), [11] * len(i)),
        r"judge must be an integer in \[0, 10\], got 11",
    ),
    (lambda c, i: ([-1.0] * len(i), [1] * len(i)), "judge must be >= 0"),
    (lambda c, i: ([float("nan")] * len(i), [1] * len(i)), "judge must be >= 0"),
    (lambda c, i: ([1.0], [1]), "judge must be two arrays of"),
    (lambda c, i: 3, "judge must be of two arrays"),
    (lambda c, i: [[1.0] * len(i)], "judge must be of two arrays"),
]


@pytest.mark.parametrize(("judge", "message"), WRONG, ids=[m[:30] for _, m in WRONG])
def test_an_answer_that_is_none_is_refused(judge: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tuning.search(judge, [10, 10], range(9), [1.0], 1000, top=1.0)


def test_too_small_a_budget_says_what_is_needed() -> None:
    with pytest.raises(ValueError, match="budget must be at least 159, for one input by each"):
        tuning.search(Landscape([0.5] * 8, 0), [10, 10, 10, 10, 10, 1, 1, 1], range(9), [1.0], 100,
                      top=1.0)  # fmt: skip


# ---- the plans ----


def test_a_candidate_is_judged_where_it_could_certify() -> None:
    noises = [cc.Gaussian(2, 0.001), cc.Gaussian(2, 0.1), cc.Gaussian(2, 1.0)]
    plans = tuning.plans_of(noises, "l2", (0.2, 1.0), 1000, 0.001, 10)
    assert {i: plan.radii for i, plan in plans.items()} == {1: (0.2,), 2: (0.2, 1.0)}
    assert tuning.most_passes(plans, 3) == [0, 1010, 1010]
    with pytest.raises(ValueError, match="radii must be small enough for one of the noises"):
        tuning.plans_of(noises, "l2", (0.2, 4.0), 1000, 0.001, 10)
    average = tuning.plans_of(noises, "l2", ("average",), 1000, 0.001, 10)
    reach = cc.certified_radius(cc.binomial_lower(1000, 1000, 0.001), noises[2], "l2")
    assert len(average[2].radii) == tuning.STEPS
    assert 0.8 * reach < average[2].radii[-1] < reach


# ---- fresh numbers ----


def coordinate(j: int, num_classes: int = 2) -> Any:
    return lambda batch: (batch[:, j] > 0).astype(np.int64)


KINDS, SIGMA, MEAN, R, N0, N = 6, 0.5, 0.6, 0.3, 9, 60
NOISES = [cc.Gaussian(KINDS, SIGMA + 1e-6 * j) for j in range(KINDS)]


def smooth(noise: cc.Noise) -> cc.Smoothed:
    """Candidate j looks at coordinate j alone, whose margin is N(MEAN, 1/4): all equally good."""
    return cc.Smoothed(coordinate(NOISES.index(noise)), noise, 2)


def truth() -> float:
    """Its certified accuracy at R, by quadrature: N votes, N0 of them to select."""
    need = next(
        k for k in range(N + 1)
        if cc.certified_radius(cc.binomial_lower(k, N, 0.01), NOISES[0], "l2") >= R
    )  # fmt: skip
    z, weight = np.polynomial.hermite_e.hermegauss(200)
    p = norm.cdf((MEAN + 0.5 * z) / SIGMA)
    held = binom.sf(N0 // 2, N0, p) * binom.sf(need - 1, N, p)
    return float(held @ weight / weight.sum())


def test_fresh_numbers_are_unbiased_and_those_of_the_search_are_not() -> None:
    """Six equally good candidates, chosen among and certified again and again: the winner's own
    number is too high, the fresh one is binomial about the truth."""
    runs, part, exact = 32, 24, truth()
    right, own, inside = 0, [], 0
    for seed in range(runs):
        x = np.random.default_rng(seed).normal(MEAN, 0.5, size=(2 * part, KINDS)).astype(np.float32)
        tuned = tuning.tune(
            smooth, NOISES, x, np.ones(2 * part, int), "l2", 100_000, seed, radii=[R], n0=N0, n=N,
            alpha=0.01,
        )  # fmt: skip
        (fresh,) = tuned.fresh
        assert not set(tuned.parts[0]) & set(tuned.parts[1])
        right += round(fresh.value * part)
        inside += fresh.lower <= exact <= fresh.upper
        own.append(tuned.search.estimate(fresh.candidate, R))
    assert not far(right, runs * part, exact)
    excess = np.array(own) - exact
    assert excess.mean() > 6 * excess.std() / math.sqrt(runs)
    assert excess.mean() > 0.05
    assert runs - inside <= binom.ppf(1 - RARE, runs, 0.05)


def certificates(radius: Any, label: Any = None) -> cc.Certificates:
    radius = np.asarray(radius, float)
    return cc.Certificates(
        label=np.zeros(len(radius), int) if label is None else np.asarray(label), radius=radius,
        p_lower=np.full(len(radius), 0.9), alpha=0.001, n0=10, n=100, noise=cc.Gaussian(2, 1.0),
        attack="l2", tight=True,
    )  # fmt: skip


def test_a_fresh_number_and_its_interval() -> None:
    made = certificates([0.5] * 7 + [0.2, 0.5, 0.0], [0] * 8 + [1, -1])
    found = tuning.fresh_number(0.3, 4, made, [0] * 10, 0.05)
    assert (found.value, found.candidate, found.passes) == (0.7, 4, 1100)
    assert found.error == pytest.approx(math.sqrt(0.7 * 0.3 / 10))
    assert found.lower == cc.binomial_lower(7, 10, 0.025)
    assert found.upper == cc.binomial_upper(7, 10, 0.025)
    average = tuning.fresh_number("average", 4, made, [0] * 10, 0.05)
    assert average.value == pytest.approx(0.37)
    assert average.lower < 0.37 < average.upper
    all_right = tuning.fresh_number(0.3, 0, certificates([0.5] * 9), [0] * 9, 0.05)
    assert (all_right.value, all_right.upper) == (1.0, 1.0)
    none = tuning.fresh_number(0.9, 0, certificates([0.5] * 9), [0] * 9, 0.05)
    assert (none.value, none.lower, none.error) == (0.0, 0.0, 0.0)


def test_a_fresh_number_of_what_it_cannot_bound() -> None:
    made = certificates([0.5, 0.2])
    for wrong, rho, message in (
        ("mean", 0.05, "objectives must be"), (float("nan"), 0.05, "objectives must be"),
        (0.3, 2.0, "rho must be"), ("average", float("nan"), "rho must be"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            tuning.fresh_number(wrong, 0, made, [0, 0], rho)
    with pytest.raises(ValueError, match="certificates must be of one bound an input"):
        tuning.fresh_number("average", 0, replace(made, bound="shells"), [0, 0], 0.05)


def test_a_mean_radius_s_interval_holds_the_mean() -> None:
    rng, runs, missed = np.random.default_rng(0), 100, 0
    for _ in range(runs):
        radius = np.where(rng.random(30) < 0.3, 0.0, rng.uniform(0, 1.2, 30))
        found = tuning.fresh_number("average", 0, certificates(radius), [0] * 30, 0.2)
        missed += not found.lower <= 0.42 <= found.upper
    assert missed <= binom.ppf(1 - RARE, runs, 0.2)


def band(batch: Any) -> Any:
    return (np.abs(batch[:, 0]) < 1).astype(np.int64)


def test_one_classifier_for_all_noises_and_every_objective() -> None:
    """A band that noise blurs: little noise is best near, more further out, and so much that all
    is one class in the average, as its exact probabilities say; the winners' fresh certificates
    are those of the classifier by itself."""
    x = np.random.default_rng(3).uniform(-2, 2, size=(120, 2)).astype(np.float32)
    noises, how = [cc.Gaussian(2, s) for s in (0.1, 0.4, 3.0)], {"n0": 20, "n": 300}
    made = partial(cc.Smoothed, band, num_classes=2)
    tuned = tuning.tune(
        made, noises, x, band(x), "l2", 60_000, 5, radii=[0.1, 0.3], average=True, **how
    )
    fine = np.linspace(-2, 2, 2001)
    exact = []
    for noise in noises:
        inside = norm.cdf((1 - fine) / noise.sigma) - norm.cdf((-1 - fine) / noise.sigma)
        q = np.where(np.abs(fine) < 1, inside, 1 - inside)
        held = cc.binomial_lower(np.rint(300 * q).astype(int), 300, 0.001)
        radius = cc.certified_radius(held, noise, "l2")
        exact.append([(radius >= 0.1).mean(), (radius >= 0.3).mean(), radius.mean()])
    assert tuned.search.winners == tuple(np.argmax(exact, axis=0)) == (0, 1, 2)
    inputs = list(tuned.parts[1])
    for winner, found in tuned.certificates.items():
        own = made(noises[winner]).certify(x[inputs], 20, 300, 0.001, "l2", 5, indices=inputs)
        np.testing.assert_array_equal(found.radius, own.radius)
    again = tuning.tune(
        made, noises, x, band(x), "l2", 60_000, 5, radii=[0.1, 0.3], average=True, **how
    )
    assert (again.fresh, again.search.passes) == (tuned.fresh, tuned.search.passes)


def test_a_wrong_label_and_an_abstention_certify_nothing() -> None:
    noise = cc.Gaussian(1, 0.5)
    plan = cc.sequential.plan_at(noise, "l2", [0.2], n_max=300, alpha=0.01, n0=10)
    found = cc.sequential.certify_by(
        plan, coordinate(0), np.array([[2.0], [2.0], [0.0]], np.float32), 2, 0
    )
    radius, passes = tuning.judged(found, [1, 0, 1])
    assert radius.tolist() == [0.2, 0.0, 0.0]
    assert passes.tolist() == found.samples.tolist()


def test_what_smooths_must_smooth_by_the_noise() -> None:
    wrong = cc.Smoothed(coordinate(0), NOISES[0], 2)
    x = np.ones((20, KINDS), np.float32)
    with pytest.raises(ValueError, match="smooth must be a function to classifiers smoothed by"):
        tuning.tune(
            lambda noise: wrong, NOISES[:2], x, [1] * 20, "l2", 10**6, 0, radii=[0.1], n=100,
            alpha=0.01,
        )  # fmt: skip
