"""Sound mode: steps, inputs and questions that are wrong, and what is right at edges."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, refused

import cert_core as cc
from cert_core import kernels
from cert_core.kernels import reference

PIXEL = cc.Lattice("1/255")
NOISE = cc.Gaussian(4, 0.5)
IMAGE = np.array([[0, 1, 128, 255]], np.uint8)


def predict(batch: Any) -> Any:
    return (batch.sum(axis=1) > 1.5).astype(np.int64)


def votes(x: Any = IMAGE, n: int = 200, **options: Any) -> Any:
    return cc.count_votes(predict, x, NOISE, 2, n, 0, **{"sound": PIXEL, **options})


def chosen(**options: Any) -> Any:
    return votes(n=50, stage="selection", **options)


def certified(*tables: Any) -> Any:
    return cc.certify(*tables, NOISE, "l2", alpha=0.01)


def batches(**options: Any) -> Any:
    return [b.copy() for _, b in cc.noisy_batches(IMAGE, NOISE, 20, 0, sound=PIXEL, **options)]


def moved(x: Any, place: Any, by: float) -> Any:
    y = np.array(x, copy=True)
    y[place] += y.dtype.type(by)
    return y


STEPS = [
    *(
        Case(
            f"step {step!r}", lambda step=step: cc.Lattice(step), refused("step must be a fraction")
        )
        for step in (
            0,
            -1,
            "0",
            "-1/255",
            "1/0",
            "x",
            "",
            "nan",
            "inf",
            float("nan"),
            float("inf"),
            1e-13,
            "1/10000000000000",
            10**13,
            None,
            True,
            [1],
            (1, 255),
            b"1/255",
            1j,
            np.array([0.5]),
            Fraction(10**7, 3),
            0.1 + 1e-12,
            np.pi,
        )
    ),
    *(
        Case(f"step {step!r} read", lambda step=step: str(cc.Lattice(step).step), right)
        for step, right in (
            (" 1/255 ", "1/255"),
            ("0.5", "1/2"),
            (1 / 3, "1/3"),
            (7, "7"),
            (np.float32(0.25), "1/4"),
            ("2/510", "1/255"),
        )
    ),
    Case("frozen", lambda: setattr(PIXEL, "step", 3), refused("cannot assign", error=Exception)),
    Case("pickled", lambda: pickle.loads(pickle.dumps(PIXEL)) == PIXEL, True),
]

INPUTS = [
    *(
        Case(
            f"off by {by}",
            lambda by=by: PIXEL.integers(moved(IMAGE / 255, (0, 2), by)),
            refused("x[0, 2] must be on the lattice of step 1/255", "quantised"),
        )
        for by in (1e-9, -1e-15, 0.5 / 255)
    ),
    Case(
        "one ulp off in float32",
        lambda: PIXEL.integers(np.nextafter((IMAGE / 255).astype("f4"), np.float32(2))),
        refused("x[0, 0] must be on"),
    ),
    Case(
        "times a rounded 1/255",
        lambda: PIXEL.integers(np.arange(256).astype("f4") * np.float32(1 / 255)),
        refused("must be on the lattice"),
    ),
    Case("float16", lambda: PIXEL.integers((IMAGE / 255).astype("f2")), refused("x must be f")),
    Case("uint16", lambda: PIXEL.integers(IMAGE.astype("u2")), refused("x must be uint8 images")),
    Case(
        "uint8 on another", lambda: cc.Lattice("1/256").integers(IMAGE), refused("x must be uint8")
    ),
    Case("uint8 on the whole numbers", lambda: cc.Lattice(1).integers(IMAGE), refused("x must be")),
    Case(
        "whole numbers on the whole numbers",
        lambda: cc.Lattice(1).integers(IMAGE.astype(int)),
        IMAGE,
    ),
    Case(
        "whole numbers in steps of halves",
        lambda: cc.Lattice("1/2").integers(np.array([-3, 5])),
        np.array([-6, 10]),
    ),
    Case("minus zero", lambda: PIXEL.integers(np.array([-0.0])), np.array([0])),
    Case("NaN", lambda: PIXEL.integers(np.array([0.0, np.nan])), refused("x must be finite")),
    Case("infinite", lambda: PIXEL.integers(np.array([np.inf])), refused("x must be finite")),
    Case("beyond int32", lambda: PIXEL.integers(np.array([1e8])), refused("within 2^30 steps")),
    Case(
        "the last step",
        lambda: cc.Lattice(1).integers(np.array([2.0**30 - 1])),
        np.array([2**30 - 1]),
    ),
    Case("beyond float64", lambda: PIXEL.integers(np.array([1e300])), refused("within 2^30 steps")),
    Case("text", lambda: PIXEL.integers(["a"]), refused("x must be")),
    Case("truths", lambda: PIXEL.integers(np.array([True])), refused("x must be")),
    Case("empty", lambda: PIXEL.integers(np.zeros((0, 4))).shape, (0, 4)),
    Case("quantised NaN", lambda: PIXEL.quantised([np.nan]), refused("x must be finite")),
    Case(
        "quantised twice", lambda: PIXEL.quantised(PIXEL.quantised([0.3])), PIXEL.quantised([0.3])
    ),
    Case("cost of l0", lambda: PIXEL.cost("l0", 4), refused("attack must be one of")),
    Case("cost of nothing", lambda: PIXEL.cost("l2", 0), refused("dim must be")),
    Case("cost by a number", lambda: PIXEL.cost("l2", 4, perturbed_off=1), refused("perturbed")),
]

DRAWS = [
    Case("no lattice", lambda: cc.draw_lattice(NOISE, 3, 0, 1 / 255), refused("lattice must be")),
    Case(
        "a float center",
        lambda: cc.draw_lattice(NOISE, 3, 0, PIXEL, center=[0.5] * 4),
        refused("center must be integers, in steps"),
    ),
    Case(
        "a center that is short",
        lambda: cc.draw_lattice(NOISE, 3, 0, PIXEL, center=[1]),
        refused("center must be an array of 4 integers"),
    ),
    Case(
        "a center beyond",
        lambda: cc.draw_lattice(NOISE, 3, 0, PIXEL, center=[2**30] * 4),
        refused("center must be integers below 2^30"),
    ),
    *(
        Case(
            f"out {kind}",
            lambda out=out: kernels.backend("cpu").draw_lattice(NOISE, 3, 0, PIXEL, out=out),
            refused("out must be a plain, writeable array"),
        )
        for kind, out in (
            ("of floats", np.zeros((3, 4))),
            ("short", np.zeros((2, 4), "i4")),
            ("turned", np.zeros((4, 3), "i4").T),
            ("no array", [[0] * 4] * 3),
        )
    ),
    Case(
        "a step that is tiny",
        lambda: cc.draw_lattice(NOISE, 3, 0, cc.Lattice("1/1000000000")),
        refused("step must be large against the noise Gaussian", "or more"),
    ),
    Case(
        "a step that is huge",
        lambda: np.abs(cc.draw_lattice(NOISE, 300, 0, cc.Lattice(1000))[0]).max(),
        0,
    ),
    Case(
        "none",
        lambda: [a.shape for a in cc.draw_lattice(NOISE, 0, 0, PIXEL)],
        lambda f: f == [(0, 4), (0,)],
    ),
    Case(
        "the last samples",
        lambda: cc.draw_lattice(NOISE, 3, 2**64 - 1, PIXEL, start=2**64 - 5)[0],
        lambda found: np.array_equal(
            found, reference.draw_lattice(NOISE, 3, 2**64 - 1, PIXEL, start=2**64 - 5)[0]
        ),
    ),
    *(
        Case(
            f"{noise.name} refused",
            lambda noise=noise: cc.draw_lattice(noise, 3, 0, PIXEL),
            refused("noise must be added, unstretched", error=cc.errors.UnsupportedPair),
        )
        for noise in (
            cc.Flips(4, 3, 0.5),
            cc.SparseFlips(4, 0.1, 0.2),
            cc.Ablation(4, 2),
            cc.Splitting(4, 0.5),
            NOISE.scaled([1.0, 2.0, 3.0, 4.0]),
        )
    ),
    Case(
        "tiny noise",
        lambda: cc.draw_lattice(cc.Gaussian(4, 1e-40), 9, 0, PIXEL)[0],
        np.zeros((9, 4)),
    ),
    Case(
        "a noise without a radius",
        lambda: cc.draw_lattice(cc.L2Noise(1, 1.0, 0.9999), 9, 0, PIXEL)[1].any(),
        False,
    ),
]

VOTES = [
    Case("counted twice in one mode", lambda: votes() + votes(), refused("of different samples")),
    Case("tables of two modes", lambda: votes() + votes(IMAGE / 255, sound=None, start=200),
         refused("tables of votes must be drawn in one mode")),
    Case("tables of two lattices", lambda: votes(IMAGE / 255) + votes(
        np.zeros((1, 4)), sound=cc.Lattice("1/256"), start=200), refused("in one mode")),
    Case("stages of two modes", lambda: certified(chosen(sound=None, x=IMAGE / 255), votes()),
         refused("votes must be drawn in one mode")),
    Case("rows of two modes", lambda: np.concatenate([votes(), votes(
        IMAGE / 255, sound=None, indices=[1])]), refused("in one mode")),
    Case("sound stages", lambda: certified(chosen(), votes()).sound, lambda s: s == PIXEL),
    Case("no failed", batches, refused("failed must be a writeable NumPy array of 20")),
    Case("a short failed", lambda: batches(failed=np.zeros(3, bool)), refused("failed must be")),
    Case("a failed of ints", lambda: batches(failed=np.zeros(20, int)), refused("failed must be")),
    Case("one table of sums", lambda: len({v.tobytes() for v in batches(
        failed=np.zeros(20, bool))}), 1),
    Case("inputs off the lattice", lambda: votes(IMAGE / 254), refused("x[0, 1] must be on")),
    Case("uint8 in float mode", lambda: votes(sound=None), refused("x must be floats")),
    Case("images are their integers", lambda: votes(), lambda c: np.array_equal(
        c, votes((IMAGE / 255).astype("f4")))),
    Case("no lattice as sound", lambda: votes(sound="1/255"), refused("sound must be a Lattice")),
    Case("values", lambda: cc.scores.sampled_values(predict, IMAGE, NOISE, 5, 0, sound=PIXEL),
         refused("sound must be None for values")),
    Case("ranks", lambda: cc.scores.sampled_ranks(predict, IMAGE, NOISE, 5, 0, [1], sound=PIXEL),
         refused("sound must be None for values")),
    Case("smoothed by a number", lambda: cc.Smoothed(predict, NOISE, 2, sound=0.5),
         refused("sound must be a Lattice")),
    Case("smoothed by flips", lambda: cc.Smoothed(predict, cc.Flips(4, 2, 0.5), 2, sound=PIXEL),
         refused("noise must be added", error=cc.errors.UnsupportedPair)),
    Case("a random label", lambda: cc.count_votes(
        lambda b: np.random.default_rng().integers(0, 2, len(b)), IMAGE, NOISE, 2, 200, 0,
        sound=PIXEL), refused("predict(batch) must be the label of each row by itself")),
]  # fmt: skip

CASES: list[Case] = [*STEPS, *INPUTS, *DRAWS, *VOTES]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_lattices(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case.check()


Failing = Callable[[set[int]], None]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    """Let some samples of every input and stage FAIL, by their numbers."""
    module = kernels.backend("cpu").module
    real = module.draw_lattice

    def fail_these(samples: set[int]) -> None:
        def draw(noise: Any, n: int, *place: Any, start: int = 0, **options: Any) -> Any:
            whole, failed = real(noise, n, *place, start=start, **options)
            for i in range(n):
                failed[i] |= start + i in samples
            return whole, failed

        monkeypatch.setattr(module, "draw_lattice", draw)

    return fail_these


LOST = {3, 4, 70, 150}


def test_fails_are_votes_against_whatever_is_certified(failing: Failing) -> None:
    two = np.repeat(IMAGE, 2, axis=0)
    whole, first = votes(two), chosen(x=two)
    failing(LOST)
    few, selected = votes(two, batch_size=37), chosen(x=two)
    assert (np.asarray(whole).sum(axis=1) == 200).all()
    assert (np.asarray(few).sum(axis=1) == 196).all()
    assert few.drawn[0].failed == (4, 4)
    found = certified(selected, few)
    assert found.n == 200
    np.testing.assert_array_equal(found.failed, [4, 4])
    top = np.asarray(selected).argmax(axis=1)
    own = np.asarray(few)[np.arange(2), top]
    np.testing.assert_array_equal(found.p_lower, cc.binomial_lower(own, 200, 0.01))
    rival = cc.certificates.certify_top_k(selected, few, NOISE, "l2", alpha=0.01)
    other = np.asarray(few).min(axis=1) + 4
    np.testing.assert_allclose(
        rival.p_other,
        np.minimum(cc.binomial_upper(other, 200, 0.005), 1 - rival.p_lower),
        rtol=1e-12,
    )
    assert (certified(first, whole).p_lower >= found.p_lower).all()
    np.testing.assert_array_equal(rival.failed, [4, 4])
    parts = few[:1], few[1:]
    assert [part.drawn[0].failed for part in parts] == [(4,), (4,)]
    assert np.concatenate(parts).drawn[0].failed == (4, 4)
    more = few + votes(two, n=100, start=200)
    assert (more.drawn[0].failed, more.drawn[0].stop) == ((4, 4), 300)
    joined = cc.certificates.join_certificates(
        [certified(s, e) for s, e in zip((selected[:1], selected[1:]), parts, strict=True)]
    )
    np.testing.assert_array_equal(joined.failed, [4, 4])


def test_predictions_count_fails_for_the_second_class() -> None:
    close = np.array([[62, 37]])
    for lost, label in ((1, 0), (8, cc.ABSTAIN), (90, cc.ABSTAIN)):
        told = cc.provenance.Drawn(
            noise=NOISE, seed=0, stage="estimation", start=0, stop=99 + lost, indices=(0,),
            sound=PIXEL, failed=(lost,),
        )  # fmt: skip
        table = cc.provenance.counted(close, told)
        assert cc.certificates.predict_labels(table, 0.05)[0] == label


def test_fails_score_nothing(failing: Failing) -> None:
    def scores(batch: Any) -> Any:
        return np.eye(2)[predict(batch)]

    options: dict[str, Any] = {"sound": PIXEL, "batch_size": 33}
    failing(LOST)
    kept = cc.scores.label_scores(scores, IMAGE, NOISE, 2, [1], 200, 0, **options)
    assert (kept[0, sorted(LOST)] == 0).all()
    assert kept.drawn[0].failed == (4,)
    own = int(np.asarray(votes())[0, 1])
    assert float(kept.sum()) == own
    mean = cc.scores.mean_scores(scores, IMAGE, NOISE, 2, 200, 0, **options)
    assert mean[0, 1] == own / 200
    found = cc.certificates.certify_scores([1], kept, NOISE, "l2", n0=5, alpha=0.01)
    assert (found.sound, list(found.failed)) == (PIXEL, [4])


def test_plans_count_fails_as_no_success(failing: Failing) -> None:
    told: list[tuple[int, int]] = []

    def stop(_: int, successes: int, n: int) -> bool:
        told.append((successes, n))
        return False

    failing(LOST)
    (found,) = cc.sequential.votes_until(
        predict, IMAGE, NOISE, 2, [10, 100, 200], stop, 0, n0=20, sound=PIXEL
    )
    assert found.failed == 4
    assert int(found.estimation.sum()) == 196
    assert [each.failed for each in found.drawn] == [(2,), (4,)]
    for successes, n in told:
        assert successes == int(np.asarray(votes(n=n))[0, found.selected])
    plan = cc.sequential.plan_at(NOISE, "l2", [0.05], n_max=200, n0=20)
    made = cc.sequential.certify_by(plan, predict, IMAGE, 2, 0, sound=PIXEL)
    assert made.sound == PIXEL
    assert made.samples[0] >= 20 + made.failed[0]
    with pytest.raises(ValueError, match="results must be drawn in one mode"):
        cc.sequential.gather(plan, [
            *cc.sequential.outcomes(plan, predict, IMAGE, 2, 0, sound=PIXEL),
            *_second(cc.sequential.outcomes(plan, predict, IMAGE / 255, 2, 0, indices=[1])),
        ])  # fmt: skip


def _second(results: Any) -> Any:
    from dataclasses import replace

    return [replace(result, position=1) for result in results]


def test_the_same_votes_however_they_are_counted(failing: Failing) -> None:
    """Batches, parts and stretches; FAILs stay with their samples."""
    failing(LOST)
    whole = votes(np.repeat(IMAGE, 3, axis=0), n=300)
    for size in (1, 7, 64, 5000):
        again = votes(np.repeat(IMAGE, 3, axis=0), n=300, batch_size=size)
        np.testing.assert_array_equal(again, whole)
        assert again.drawn == whole.drawn
    part = votes(IMAGE, n=300, indices=[2])
    np.testing.assert_array_equal(part[0], whole[2])
    stretches = votes(n=120) + votes(n=180, start=120)
    np.testing.assert_array_equal(stretches[0], whole[0])


def test_what_a_model_sees_is_one_function_of_the_sum() -> None:
    """Bit by bit: input(J + D, K) == input(J, K + D), through the batches of any size."""
    rng = np.random.default_rng(0)
    far = rng.integers(-90, 90, (1, 4))
    options: dict[str, Any] = {"failed": np.zeros(20, bool), "sound": PIXEL}
    near = IMAGE.astype(int) + far
    shown = [
        np.concatenate([b.copy() for _, b in cc.noisy_batches(x, NOISE, 20, 0, **options)])
        for x in (PIXEL.values(near), PIXEL.values(IMAGE.astype(int)))
    ]
    moved_sums = PIXEL.integers(shown[1]) + far
    np.testing.assert_array_equal(
        PIXEL.values(moved_sums, np.float32).view("u4"), shown[0].view("u4")
    )
