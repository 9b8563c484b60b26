"""Plans: the votes of a fixed run cut short, any batch, any order; what stops and what is said."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from scipy import special

import cert_core as cc

NOISE = cc.Gaussian(6, 0.5)
X = np.zeros((30, 2, 3), np.float32)
X[:, 0, 0] = -np.linspace(0.0, 1.5, 30)  # distances of a half-space; 0.5 sigma units


def predict(batch: Any) -> Any:
    return (batch[:, 0, 0] > 0).astype(int)


def plan(radii: Any = (0.25, 0.5, 1.0), **options: Any) -> cc.sequential.RadiiPlan:
    return cc.sequential.plan_at(NOISE, "l2", radii, n_max=options.pop("n_max", 5000), **options)


def run(by: Any = None, x: Any = X, **options: Any) -> cc.sequential.SequentialCertificates:
    return cc.sequential.certify_by(by or plan(), predict, x, 3, options.pop("seed", 5), **options)


UNTIL = cc.sequential.plan_until(NOISE, "l2", 0.5, n_max=300, alpha=0.001)


def test_a_plan_has_the_thresholds_of_its_radii() -> None:
    made = plan([1.0, 0.25])
    assert made.radii == (0.25, 1.0)
    np.testing.assert_allclose(made.thresholds, special.ndtr([0.5, 2.0]), rtol=1e-12)
    assert plan(0.5).radii == (0.5,)
    assert made.looks == cc.sequential.geometric_looks(5000)


def test_thresholds_of_another_machine_are_taken_to_the_last_digits() -> None:
    made = plan()
    near = tuple(float(np.nextafter(p, 0.0)) for p in made.thresholds)
    assert dataclasses.replace(made, thresholds=near).thresholds == near
    with pytest.raises(ValueError, match=r"thresholds must be in \[0\."):
        dataclasses.replace(made, thresholds=(made.thresholds[0] - 1e-4, *made.thresholds[1:]))


def test_no_radius_that_could_be_is_decided_at_once() -> None:
    trial, first = UNTIL.begin(), UNTIL.looks[0]
    assert trial.update(first // 10, first)
    radius, _, decided = trial.answer()
    assert (radius, decided) == (0.0, True)


def test_what_is_not_decided_goes_on_to_the_last_look() -> None:
    trial, looks = UNTIL.begin(), UNTIL.looks
    assert [trial.update(6 * n // 10, n) for n in looks] == [n == looks[-1] for n in looks]
    assert not trial.answer()[2]


def test_votes_are_those_that_a_fixed_run_begins_with() -> None:
    made = plan()
    by_fixed = {n: cc.count_votes(predict, X, NOISE, 3, n, 5) for n in made.looks}
    selection = cc.count_votes(predict, X, NOISE, 3, 100, 5, stage="selection")
    for row in cc.sequential.outcomes(made, predict, X, 3, 5):
        n = int(row.estimation.sum())
        np.testing.assert_array_equal(row.estimation, by_fixed[n][row.position])
        np.testing.assert_array_equal(row.selection, selection[row.position])
        assert cc.sequential.gather(made, [row]).samples == n + 100
        taken = made.looks[: len(row.looks)]
        assert taken[-1] == n
        label = row.selected
        assert row.looks == tuple(int(by_fixed[m][row.position, label]) for m in taken)


def same(a: cc.sequential.SequentialCertificates, b: cc.sequential.SequentialCertificates) -> None:
    for name in ("label", "radius", "p_lower", "samples", "decided"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("batch_size", [1, 37, 100, 999, 20_000])
def test_batches_change_nothing(batch_size: int) -> None:
    x = X[::6] if batch_size == 1 else X
    by = plan(0.25, n_max=300) if batch_size == 1 else plan()
    places = range(0, 30, 6) if batch_size == 1 else None
    same(run(by, x, indices=places, batch_size=batch_size), run(by, x, indices=places))


def test_subsets_and_orders_have_the_results_of_the_whole() -> None:
    whole, order = run(), [17, 3, 29]
    part = run(x=X[order], indices=order)
    np.testing.assert_array_equal(part.radius, whole.radius[order])
    np.testing.assert_array_equal(part.samples, whole.samples[order])


@pytest.mark.parametrize("by", [plan((0.1, 0.25), n_max=300), UNTIL], ids=["radii", "width"])
def test_classes_by_other_names_are_certified_alike(by: Any) -> None:
    x, names = X[::6], np.array([2, 0, 1])
    plain = run(by, x)
    other = cc.sequential.certify_by(by, lambda batch: names[predict(batch)], x, 3, 5)
    np.testing.assert_array_equal(other.radius, plain.radius)
    np.testing.assert_array_equal(other.samples, plain.samples)
    given = plain.label != cc.ABSTAIN
    assert given.any()
    np.testing.assert_array_equal(other.label[given], names[plain.label[given]])
    np.testing.assert_array_equal(other.label[~given], cc.ABSTAIN)


def test_batches_are_full_until_the_last_inputs() -> None:
    sizes = []

    def watched(batch: Any) -> Any:
        sizes.append(len(batch))
        return predict(batch)

    result = cc.sequential.certify_by(plan(), watched, X, 3, 5, batch_size=250)
    assert sum(sizes) == result.samples.sum()
    short = [i for i, size in enumerate(sizes) if size < 250]
    assert len(short) < 0.2 * len(sizes)
    assert short[0] > 0.5 * len(sizes)


def test_decisions_and_what_they_cost() -> None:
    """A half-space at distance D is robust up to D: no false radius of 30 at alpha = 1e-8,
    clear ones quickly."""
    result, distance = run(plan(alpha=1e-8)), -X[:, 0, 0]
    assert (result.radius <= distance).all()
    assert set(result.radius) == {0.0, 0.25, 0.5, 1.0}
    assert (result.label == np.where(result.radius > 0, 0, cc.ABSTAIN)).all()
    assert result.radius[distance > 1.2].min() == 1.0
    assert result.samples[distance > 1.2].max() < 4000
    assert not result.decided.all()
    assert (result.samples[~result.decided] == 5100).all()
    assert (result.n0, result.n, result.alpha, result.tight) == (100, 5000, 1e-8, True)
    assert cc.certified_accuracy(result, [0] * 30, 0.5) == (result.radius >= 0.5).mean()
    np.testing.assert_array_equal(
        result.p_lower,
        np.array([0, *plan().thresholds])[
            np.searchsorted(plan().radii, result.radius, side="right")
        ],
    )


def test_a_false_radius_is_rare() -> None:
    """2000 inputs exactly at a radius of the plan, alpha = .05: at most 149 pass it (false
    alarm < 1e-6)."""
    x = np.zeros((2000, 2, 3), np.float32)
    x[:, 0, 0] = -0.25
    result = cc.sequential.certify_by(
        plan((0.1, 0.25, 0.4), n_max=400, alpha=0.05), predict, x, 2, 0, batch_size=10_000
    )
    assert (result.radius >= 0.25).sum() <= 149
    assert (result.radius == 0.1).sum() > 500


def test_counts_of_a_plan_are_refused_as_fixed_n() -> None:
    rows = sorted(cc.sequential.outcomes(plan(), predict, X, 3, 5), key=lambda row: row.position)
    selection = np.stack([row.selection for row in rows])
    estimation = np.stack([row.estimation for row in rows])
    with pytest.raises(ValueError, match="counts_estimation must be of one positive number"):
        cc.certify(selection, estimation, NOISE, "l2")


def test_until_a_width() -> None:
    """No false radius of 10 at alpha = 1e-8; every radius is the sequence's, at its width."""
    by = cc.sequential.plan_until(NOISE, "l2", 0.2, n_max=20_000, alpha=1e-8)
    x = X[::3]
    result, distance = run(by, x), -x[:, 0, 0]
    assert (result.radius <= distance).all()
    far = distance > 0.3
    assert (result.radius[far] > 0.6 * np.minimum(distance, 1.2)[far]).all()
    assert result.samples[far].mean() < 10_000
    looser = run(cc.sequential.plan_until(NOISE, "l2", 0.5, n_max=20_000, alpha=1e-8), x)
    assert looser.samples.sum() < result.samples.sum()
    for row in cc.sequential.outcomes(by, predict, x, 3, 5):
        sizes = np.array(by.looks[: len(row.looks)])
        lower = cc.sequential.mixture_lower(np.array(row.looks), sizes, 1e-8)
        said = cc.sequential.gather(by, [row])
        assert said.p_lower == lower.max()
        assert said.radius == cc.certified_radius(said.p_lower, NOISE, "l2")
        if said.decided:
            reach = cc.sequential.mixture_upper(row.looks[-1], int(sizes[-1]), 1e-8)
            most = cc.sequential.mixture_lower(
                row.looks[-1] + 20_000 - int(sizes[-1]), 20_000, 1e-8
            )
            best = cc.certified_radius(min(reach, most), NOISE, "l2")
            assert said.radius >= 0.8 * best * (1 - 1e-8)


@pytest.mark.parametrize(
    "by", [plan(), cc.sequential.plan_until(NOISE, "l2", 0.1)], ids=["at", "until"]
)
def test_plans_survive_json(by: Any) -> None:
    assert cc.sequential.plan_from_dict(json.loads(json.dumps(by.to_dict()))) == by


@pytest.mark.parametrize("family", sorted(cc.NOISES))
def test_every_noise_with_an_exact_law(family: str) -> None:
    """The same inputs, their thresholds from the noise's own law."""
    values = {"norm": 2.0, "power": 2.0} if family == "radial" else {}
    k = () if family in ("gaussian", "laplace") else (1.0,)
    if family == "radial":
        noise: cc.Noise = cc.RadialNoise(6, **values, scale=0.7)
    else:
        noise = cc.NOISES[family].with_rms(6, 0.5, *k)
    attack = "linf"
    try:
        radius = 0.5 * cc.certified_radius(0.9, noise, attack)
    except cc.errors.UnsupportedPair:
        with pytest.raises(cc.errors.UnsupportedPair):
            cc.sequential.plan_at(noise, attack, 0.1)
        return
    by = cc.sequential.plan_at(noise, attack, [radius, 2 * radius], n_max=2000)
    np.testing.assert_allclose(by.thresholds[1], 0.9, atol=1e-8)
    x = np.zeros((4, 6), np.float32)
    x[2:, 0] = -50.0
    result = cc.sequential.certify_by(by, lambda b: (b[:, 0] > 0).astype(int), x, 2, 0)
    assert result.radius.tolist() == [0.0, 0.0, 2 * radius, 2 * radius]


def soft(batch: Any) -> Any:
    p = 1 / (1 + np.exp(4 * batch[:, 0, 0].astype(float)))
    return np.stack([p, 1 - p], axis=1)


def test_scores_in_the_order_drawn() -> None:
    means = cc.scores.mean_scores(soft, X[:4], NOISE, 2, 300, 5)
    labels = [0, 1, 0, 1]
    scores = cc.scores.label_scores(soft, X[:4], NOISE, 2, labels, 300, 5, batch_size=70)
    assert (scores.dtype, scores.shape) == (np.dtype(np.float32), (4, 300))
    np.testing.assert_allclose(scores.mean(axis=1), means[range(4), labels], rtol=1e-6)
    batches = cc.noisy_batches(X[:4], NOISE, 300, 5, batch_size=1200)
    exact = soft(next(iter(batches))[1]).reshape(4, 300, 2)
    for row, label in enumerate(labels):
        assert (scores[row] <= exact[row, :, label]).all()
        np.testing.assert_allclose(scores[row], exact[row, :, label], rtol=2e-7)
    other = cc.scores.mean_scores(soft, X[:4], NOISE, 2, 300, 5, stage="selection")
    assert not np.array_equal(other, means)


def test_soft_certificates_of_a_known_mean() -> None:
    """The mean score of a linear score is that of the clean input: bounds stay below it."""

    def linear(batch: Any) -> Any:
        p = np.clip(0.5 - 0.05 * batch[:, 0, 0].astype(float), 0, 1)
        return np.stack([p, 1 - p], axis=1)

    x = np.zeros((200, 2, 3), np.float32)
    x[:, 0, 0] = -3.0
    scores = cc.scores.label_scores(linear, x, NOISE, 2, [0] * 200, 1000, 0)
    result = cc.certificates.certify_scores([0] * 200, scores, NOISE, "l2", n0=1, alpha=0.05)
    assert (result.p_lower > 0.65).sum() <= 31  # binomial tail below 1e-7 at .05
    assert np.median(result.p_lower) > 0.64


BAD = [
    (lambda: plan(()), "radii must be one or more numbers > 0"),
    (lambda: plan((0.0, 1.0)), "radii must be one or more numbers > 0"),
    (lambda: plan([[0.25], [0.5]]), "radii must be one or more numbers > 0"),
    (
        lambda: dataclasses.replace(plan(), radii=(0.5, 0.25, 1.0)),
        "radii must be ascending, one at least",
    ),
    (
        lambda: dataclasses.replace(plan(), radii=(), thresholds=()),
        "radii must be ascending, one at least",
    ),
    (lambda: plan((0.5, 9.0)), "radii must be small enough for n_max = 5000 samples"),
    (lambda: plan(n_max=0), "n_max must be an integer >= 1"),
    (lambda: plan(n0=0), "n0 must be an integer >= 1"),
    (lambda: plan(alpha=0.9), "alpha must be a number in (0, 0.5]"),
    (lambda: cc.sequential.plan_at(NOISE, "l7", 0.5), "attack must be one of"),
    (
        lambda: cc.sequential.plan_until(NOISE, "l2", 1.0),
        "width must be a number in (0, 1), got 1.0",
    ),
    (lambda: cc.sequential.plan_from_dict({"kind": "radii"}), "values must be a plan's dict"),
    (lambda: run(x=X[0]), "x must be of shape"),
    (lambda: run(batch_size=0), "batch_size must be an integer >= 1"),
    (lambda: run(indices=[0]), "indices must be 30 distinct indices"),
    (
        lambda: cc.sequential.certify_by(plan(), lambda b: np.full(len(b), 7), X, 3, 0),
        "predict(batch) must be labels in [0, 3), got 7",
    ),
    (
        lambda: cc.scores.mean_scores(lambda b: 2 * soft(b), X, NOISE, 2, 10, 0),
        "predict(batch) must be scores in [0, 1]",
    ),
    (
        lambda: cc.scores.mean_scores(lambda b: np.ones((len(b), 2)), X, NOISE, 2, 10, 0),
        "predict(batch) must be scores that sum to 1 at most",
    ),
    (
        lambda: cc.scores.mean_scores(predict, X, NOISE, 2, 10, 0),
        "must be scores of shape (300, 2)",
    ),
    (
        lambda: cc.scores.label_scores(soft, X, NOISE, 2, [2] * 30, 10, 0),
        "labels must be a class in [0, 2) for each of the 30 inputs",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m[:35] for _, m in BAD])
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        call()
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["Outcome", "SequentialVotes"])
def test_old_names_of_what_is_counted(name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"cert_core.{name} goes .*: it is Votes now"):
        assert getattr(cc, name) is cc.Votes


def test_votes_of_another_length_than_a_plan_takes_are_not_gathered() -> None:
    row = next(
        row for row in cc.sequential.outcomes(plan(), predict, X, 3, 5) if len(row.looks or ()) > 1
    )
    for looks in ((), row.looks[:-1], (*row.looks, row.looks[-1])):  # type: ignore[index, misc]
        with pytest.raises(ValueError, match="looks must be those of an input at which"):
            cc.sequential.gather(plan(), [dataclasses.replace(row, looks=looks)])
