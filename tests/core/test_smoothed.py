"""Smoothed is the functions of cert_core, verb by verb, for any predict function."""

from __future__ import annotations

import inspect
import io
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from tqdm import tqdm

import cert_core as cc
from cert_core.smoothed import Part

NOISE = cc.Gaussian(4, 0.5)
X = np.array([[0.4, 0.1, 0.2, 0.3], [-0.1, 0.0, 0.05, 0.1], [-1.0, 0.2, 0.1, -0.4]], np.float32)


def scores(batch: Any) -> Any:
    high = 1 / (1 + np.exp(-batch.sum(axis=1)))
    return np.stack([1 - high, high], axis=1)


def labels(batch: Any) -> Any:
    return (batch.sum(axis=1) > 0).astype(int)


def smoothed(**options: Any) -> cc.Smoothed:
    return cc.Smoothed(labels, NOISE, 2, scores=scores, batch_size=64, **options)


def test_votes_are_those_of_the_functions() -> None:
    first = cc.count_votes(labels, X, NOISE, 2, 50, 3, indices=[5, 7, 9], stage="selection")
    second = cc.count_votes(labels, X, NOISE, 2, 300, 3, indices=[5, 7, 9])
    model = smoothed()
    options = {"indices": [5, 7, 9]}
    np.testing.assert_array_equal(model.counts(X, 300, 3, **options), second)
    np.testing.assert_array_equal(model.probabilities(X, 300, 3, **options), second / 300)
    np.testing.assert_array_equal(
        model.predict(X, 300, 0.01, 3, **options), cc.certificates.predict_labels(second, 0.01)
    )
    for verb, function in (
        ("certify", cc.certify),
        ("certify_top_k", cc.certificates.certify_top_k),
    ):
        ours = getattr(model, verb)(X, 50, 300, 0.01, "l2", 3, **options)
        theirs = function(first, second, NOISE, "l2", alpha=0.01)
        np.testing.assert_array_equal(ours.radius, theirs.radius)
        np.testing.assert_array_equal(ours.label, theirs.label)
        assert ours.drawn == theirs.drawn
        assert [each.stage for each in ours.drawn] == ["selection", "estimation"]


def test_a_model_of_names_and_a_model_itself_are_told_how() -> None:
    class Model:
        def predict(self, batch: Any) -> Any:
            return np.array(["cat", "dog"])[labels(batch)]

    with pytest.raises(ValueError, match=r"searchsorted\(model.classes_, names\)"):
        cc.Smoothed(Model().predict, NOISE, 2).counts(X, 10, 0)
    with pytest.raises(ValueError, match=r"searchsorted\(model.classes_, names\)"):
        cc.count_votes(Model().predict, X, NOISE, 2, 10, 0)
    with pytest.raises(ValueError, match=r"predict=model\.predict"):
        cc.Smoothed(Model(), NOISE, 2)  # type: ignore[arg-type]


VERBS: dict[str, tuple[Any, ...]] = {
    "counts": (X, 100, 0),
    "shell_counts": (X, 100, 0, [0.9]),
    "probabilities": (X, 100, 0),
    "mean_scores": (X, 100, 0),
    "label_scores": (X, [0, 1, 1], 100, 0),
    "values": (X, 100, 0),
    "selected_labels": (X, 100, 0),
    "label_votes": (X, [0, 1, 1], 100, 0),
    "predict": (X, 100, 0.1, 0),
    "certify": (X, 30, 100, 0.1, "l2", 0),
    "certify_top_k": (X, 30, 100, 0.1, "l2", 0),
    "certify_shells": (X, 30, 100, 0.1, "l2", 0),
    "certify_scores": (X, 30, 100, 0.1, "l2", 0),
    "certify_at": (X, [0.1], 200, 0.1, "l2", 0),
    "certify_until": (X, 0.5, 200, 0.1, "l2", 0),
}


def test_every_verb_is_there() -> None:
    members = inspect.getmembers(cc.Smoothed, inspect.isfunction)
    takes = {name: set(inspect.signature(verb).parameters) for name, verb in members}
    told = {name for name, names in takes.items() if name[0] != "_" and "progress" in names}
    drawn = {name for name, names in takes.items() if name[0] != "_" and "seed" in names}
    assert told == set(VERBS) == drawn - {"outcomes"}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("verb", VERBS)
def test_progress_rises_to_all_of_it(verb: str, workers: int) -> None:
    """In steps of a batch, or of a part; and what it raises ends the call at once."""
    calls: list[tuple[int, int]] = []
    with ThreadPoolExecutor(2) as pool:
        options: dict[str, Any] = {"executor": pool} if workers else {}
        run = getattr(smoothed(), verb)
        run(*VERBS[verb], progress=lambda *told: calls.append(told), **options)
        inputs = verb in ("certify_at", "certify_until")
        copies = 1 if inputs else 130 if verb.startswith("certify") else 100
        done, total = zip(*calls, strict=True)
        assert set(total) == {3 * copies}
        assert done[-1] == 3 * copies
        assert sorted(set(done)) == list(done)
        assert len(done) >= 3

        class Enough(Exception):
            pass

        def stop(*told: int) -> None:
            calls.append(told)
            raise Enough

        calls.clear()
        with pytest.raises(Enough):
            run(*VERBS[verb], progress=stop, **options)
        assert len(calls) == 1
        assert run(*VERBS[verb], **options) is not None


@pytest.mark.parametrize("verb", VERBS)
def test_progress_is_a_function(verb: str) -> None:
    with pytest.raises(ValueError, match="progress must be callable"):
        getattr(smoothed(), verb)(*VERBS[verb], progress="bar")


def test_shells_that_could_certify_nothing_are_refused_before_any_sampling() -> None:
    """10 votes of one class show p > .501 at alpha = .001, and p > .467 at its half, a shell's."""

    def never(batch: Any) -> Any:
        raise AssertionError

    with pytest.raises(ValueError, match="n must be at least 11"):
        cc.Smoothed(never, NOISE, 2).certify_shells(X, 5, 10, 0.001, "l2", 0, masses=(0.5,))


def test_parts_are_named_by_their_inputs() -> None:
    found = [str(Part("counts", 0, X, {"indices": indices})) for indices in ([7], [7, 8, 9])]
    assert found == ["input 7", "inputs 7 to 9"]


def test_a_bar_of_tqdm() -> None:
    with tqdm(total=3 * 130, file=io.StringIO()) as bar:
        smoothed().certify(*VERBS["certify"], progress=lambda done, _: bar.update(done - bar.n))
        assert bar.n == bar.total


def test_counting_goes_on_from_a_start() -> None:
    model = smoothed()
    whole = model.counts(X, 100, 0)
    np.testing.assert_array_equal(model.counts(X, 60, 0) + model.counts(X, 40, 0, start=60), whole)


def test_plans_are_those_of_the_functions() -> None:
    plan = cc.sequential.plan_at(NOISE, "l2", [0.1, 0.3], n_max=2000, alpha=0.01, n0=20)
    theirs = cc.sequential.certify_by(plan, labels, X, 2, 8)
    ours = smoothed().certify_at(X, [0.1, 0.3], 2000, 0.01, "l2", 8, n0=20)
    np.testing.assert_array_equal(ours.radius, theirs.radius)
    np.testing.assert_array_equal(ours.samples, theirs.samples)
    until = smoothed().certify_until(X, 0.3, 2000, 0.01, "l2", 8, n0=20)
    wide = cc.sequential.plan_until(NOISE, "l2", 0.3, n_max=2000, alpha=0.01, n0=20)
    np.testing.assert_array_equal(
        until.radius, cc.sequential.certify_by(wide, labels, X, 2, 8).radius
    )
    other = cc.sequential.plan_at(cc.Gaussian(4, 0.4), "l2", 0.1, n_max=2000)
    with pytest.raises(ValueError, match="plan must be for the classifier's noise"):
        list(smoothed().outcomes(other, X, 0))


def test_soft_votes_of_both_stages() -> None:
    model = cc.Smoothed(None, NOISE, 2, scores=scores)
    means = cc.scores.mean_scores(scores, X, NOISE, 2, 100, 4, stage="selection")
    kept = cc.scores.label_scores(scores, X, NOISE, 2, means.argmax(axis=1), 500, 4)
    theirs = cc.certificates.certify_scores(
        means.argmax(axis=1), kept, NOISE, "l2", n0=100, alpha=0.01
    )
    ours = model.certify_scores(X, 100, 500, 0.01, "l2", 4)
    np.testing.assert_array_equal(ours.radius, theirs.radius)
    assert ours.radius.max() > 0
    assert [(each.stage, each.stop) for each in ours.drawn] == [
        ("selection", 100), ("estimation", 500),
    ]  # fmt: skip


def test_votes_without_labels_are_the_largest_score() -> None:
    model = cc.Smoothed(None, NOISE, 2, scores=scores)
    np.testing.assert_array_equal(model.counts(X, 200, 1), smoothed().counts(X, 200, 1))


def test_values_of_a_real_function() -> None:
    model = cc.Smoothed(lambda batch: batch.sum(axis=1), NOISE)
    values = model.values(X, 50, 2)
    theirs = cc.scores.sampled_values(lambda batch: batch.sum(axis=1), X, NOISE, 50, 2)
    np.testing.assert_array_equal(values, theirs)
    with pytest.raises(ValueError, match="num_classes must be given"):
        model.counts(X, 50, 2)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="predict must be callable"):
        cc.Smoothed(None, NOISE, 2)
    with pytest.raises(ValueError, match="noise must be"):
        cc.Smoothed(labels)
    with pytest.raises(ValueError, match="scores must be a function"):
        cc.Smoothed(labels, NOISE, 2).mean_scores(X, 10, 0)
    with pytest.raises(ValueError, match="scores that sum to 1"):
        cc.Smoothed(None, NOISE, 2, scores=lambda batch: np.ones((len(batch), 2))).counts(X, 9, 0)
    with pytest.raises(ValueError, match="n must be at least"):
        smoothed().certify(X, 10, 3, 0.001, "l2", 0)


class Device(cc.Smoothed):
    """A framework: how its batches are filled, and in which context."""

    entered = 0

    def drawing(self) -> Any:
        type(self).entered += 1
        return super().drawing()

    def filling(self, inputs: Any) -> dict[str, Any]:
        return {"batch_size": 7, "buffer": np.empty((7, self.noise.dim), np.float32)}


def test_a_framework_brings_its_own_batches() -> None:
    mine = Device(labels, NOISE, 2)
    np.testing.assert_array_equal(
        mine.certify_at(X, 0.1, 500, 0.01, "l2", 0).samples,
        smoothed().certify_at(X, 0.1, 500, 0.01, "l2", 0).samples,
    )
    assert Device.entered


def test_votes_under_stretched_noise_certify_nothing_under_its_base() -> None:
    stretched = NOISE.scaled([1.0, 2.0, 1.0, 1.0])
    model = cc.Smoothed(labels, stretched, 2)
    stages = [model.counts(X, n, 0, stage=stage) for n, stage in (
        (50, "selection"), (300, "estimation"),
    )]  # fmt: skip
    assert cc.certify(*stages, stretched, "l2").n == 300
    for other in (NOISE, NOISE.scaled([2.0, 1.0, 1.0, 1.0])):
        with pytest.raises(ValueError, match="noise must be that of the votes"):
            cc.certify(*stages, other, "l2")
    plain = [smoothed().counts(X, n, 0, stage=stage) for n, stage in (
        (50, "selection"), (300, "estimation"),
    )]  # fmt: skip
    assert cc.certify(*plain, cc.L2Noise(4, 0.5), "l2").n == 300  # one law, two families
    with pytest.raises(ValueError, match="noise must be that of the votes"):
        cc.certify(*plain, stretched, "l2")


class Counting:
    """A function of batches that counts its calls."""

    def __init__(self, labels: Any) -> None:
        self.labels, self.calls = labels, 0

    def __call__(self, batch: Any) -> Any:
        self.calls += 1
        return self.labels(batch)


def test_rows_that_see_their_batch_are_refused_once_and_chance_is_not() -> None:
    """In floats: batch statistics are told from a function that is random row by row."""
    noise, x = cc.Gaussian(4, 0.5), np.zeros((2, 4))

    def counted(labels: Any) -> Any:
        function = Counting(labels)
        smoothed = cc.Smoothed(function, noise, 2, batch_size=100)
        return function, [smoothed.counts(x, 500, seed) for seed in (0, 1)]

    rows, counts = counted(lambda batch: (batch[:, 0] > 0).astype(int))
    assert rows.calls == 20 + 3  # the first batch again, and twice among other rows
    np.testing.assert_array_equal(
        counts[1], cc.count_votes(lambda b: (b[:, 0] > 0).astype(int), x, noise, 2, 500, 1)
    )
    with pytest.raises(ValueError, match="the label of each row by itself"):
        counted(lambda batch: (batch[:, 0] > batch[:, 0].mean()).astype(int))
    rng = np.random.default_rng(0)
    random, _ = counted(lambda batch: rng.integers(0, 2, len(batch)))
    assert random.calls == 20 + 1


@pytest.mark.parametrize("said", [3, np.zeros((0,), int), np.zeros(7, int), None])
def test_what_is_no_labels_is_told_by_its_name(said: Any) -> None:
    smoothed = cc.Smoothed(lambda batch: said, cc.Gaussian(4, 0.5), 2, batch_size=100)
    with pytest.raises(ValueError, match=r"predict\(batch\) must be"):
        smoothed.counts(np.zeros((2, 4)), 500, 0)


def test_values_and_scores_that_see_their_batch_are_refused() -> None:
    """As labels are; last digits and chance are none of the batch's doing."""
    noise, x = cc.Gaussian(4, 0.5), np.zeros((2, 4))

    def shares(batch: Any, middle: Any) -> Any:
        share = 1 / (1 + np.exp(middle - batch[:, 0]))
        return np.stack([share, 1 - share], axis=1)

    seen = lambda batch: batch[:, 0] - batch[:, 0].mean()  # noqa: E731
    with pytest.raises(ValueError, match="the value of each row by itself"):
        cc.Smoothed(seen, noise).values(x, 50, 0)
    for sound in (None, cc.Lattice("1/16")):
        scored = cc.Smoothed(None, noise, 2, scores=lambda b: shares(b, b.mean()), sound=sound)
        with pytest.raises(ValueError, match="the value of each row by itself"):
            scored.certify_scores(x, 50, 100, 0.01, "l2", 0)
        with pytest.raises(ValueError, match="the value of each row by itself"):
            scored.certify(x, 50, 100, 0.01, "l2", 0)
    rng = np.random.default_rng(0)
    for alone in (
        lambda batch: batch[:, 0], lambda batch: batch[:, 0].astype(np.float16),
        lambda batch: batch[:, 0] * (1 + 1e-3 * batch.mean()), lambda b: rng.random(len(b)),
        lambda batch: np.where(batch > 0, np.inf, batch), lambda batch: 0 * batch[:, :2],
    ):  # fmt: skip
        assert len(cc.Smoothed(alone, noise).values(x, 50, 0)) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "executor must be one whose submit returns a Future, got 3"),
        ("said", "executor must be one whose futures have what was submitted, got 'said'"),
    ],
)
def test_an_executor_that_gives_something_else(given: Any, message: str) -> None:
    class Other(Executor):
        def submit(self, *_: Any, **__: Any) -> Any:
            future: Future[Any] = Future()
            future.set_result(given)
            return given if given == 3 else future

    with pytest.raises(ValueError, match=message):
        smoothed().counts(X, 20, 0, executor=Other())
