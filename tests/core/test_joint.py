"""Labels right at once: exact familywise error, Holm's procedure, maps of labels."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import stats

import cert_core as cc
from cert_core.joint import p_values

NOISE, ATTACK, RADIUS = cc.Gaussian(4, 1.0), "l2", 0.5
NEEDED = cc.required_probability(NOISE, ATTACK, RADIUS)


def labelled(votes: Any, n: int, alpha: float, radius: float = RADIUS) -> Any:
    """Which components with these votes for class 0 are labelled."""
    votes = np.asarray(votes)
    counts = np.stack([votes, n - votes], axis=1)
    selection = np.tile([5, 0], (len(votes), 1))
    labels = cc.certify_jointly(selection, counts, NOISE, ATTACK, radius, alpha=alpha)
    assert set(labels.tolist()) <= {0, cc.ABSTAIN}
    return labels == 0


def test_familywise_error_at_the_worst_configurations() -> None:
    """Components just below what the radius requires, beside ones that are certain: over all
    votes the chance that any of the former is labelled is alpha at most, and near it."""
    n, alpha = 40, 0.1
    mass = stats.binom.pmf(np.arange(n + 1), n, NEEDED)
    for certain, null in ((0, 1), (1, 1), (0, 2), (3, 2), (0, 3)):
        wrong = 0.0
        # votes below this are never labelled: enumerate the others
        first = next(k for k in range(n + 1) if labelled([k], n, alpha)[0])
        cells = [*range(first, n + 1), -1]
        chance = {k: mass[k] for k in cells[:-1]} | {-1: mass[:first].sum()}
        for votes in itertools.product(cells, repeat=null):
            given = [n] * certain + [max(k, 0) for k in votes]
            if labelled(given, n, alpha)[certain:].any():
                wrong += np.prod([chance[k] for k in votes])
        assert wrong <= alpha
        assert wrong > 0.3 * alpha


def test_familywise_error_of_components_that_vote_alike() -> None:
    n, alpha = 60, 0.2
    mass = stats.binom.pmf(np.arange(n + 1), n, NEEDED)
    for components in (1, 4):
        wrong = sum(mass[k] for k in range(n + 1) if labelled([k] * components, n, alpha).any())
        assert wrong <= alpha


def by_the_book(p: Any, alpha: float) -> list[bool]:
    """Holm 1979: reject the least p-value at alpha/m, the next at alpha/(m - 1), ..."""
    rejected = [False] * len(p)
    for left, i in zip(
        range(len(p), 0, -1), sorted(range(len(p)), key=lambda i: p[i]), strict=True
    ):
        if p[i] > alpha / left:
            break
        rejected[i] = True
    return rejected


@pytest.mark.parametrize("seed", range(30))
def test_holm(seed: int) -> None:
    rng, n, alpha = np.random.default_rng(seed), 300, 0.05
    votes = rng.binomial(n, rng.choice([0.6, 0.72, 0.78, 0.9], size=12))
    if seed % 2:  # about where each is decided
        p = stats.binom.sf(np.arange(n) - 1, n, NEEDED)
        votes = rng.choice(np.flatnonzero((p > alpha / 20) & (p < 1.5 * alpha)), size=12)
    found = labelled(votes, n, alpha)
    exact = stats.binom.sf(votes - 1, n, NEEDED)
    assert found.tolist() == by_the_book(exact, alpha)
    assert not (found & (exact > alpha)).any()
    assert found[exact <= alpha / 12].all()  # Bonferroni's are among Holm's


def test_one_component_is_certify() -> None:
    n, alpha = 500, 0.001
    for votes in range(330, 500, 5):
        counts = np.array([[votes, n - votes]])
        alone = cc.certify(np.array([[9, 0]]), counts, NOISE, ATTACK, alpha=alpha)
        assert labelled([votes], n, alpha)[0] == (alone.radius[0] >= RADIUS)


def test_the_radius_counts() -> None:
    votes = np.arange(0, 1001, 10)
    kept = [labelled(votes, 1000, 0.01, radius).sum() for radius in (0.0, 0.5, 1.0, 2.0, 9.0, 1e9)]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > kept[2] > 0 == kept[-1]
    assert labelled([501], 1000, 0.5, 0.0).all() == (stats.binom.sf(500, 1000, 0.5) <= 0.5)


def test_tails_are_never_below_the_truth() -> None:
    votes = np.array([0, 1, 50, 70, 71, 99, 100])
    exact = stats.binom.sf(votes - 1, 100, 0.7)
    found = p_values(votes, 100, 0.7)
    assert (found >= exact * (1 - 1e-14)).all()
    assert (found >= np.minimum(exact * (1 + 5e-10), 1.0)).all()  # above the errors of the tail
    np.testing.assert_allclose(found, exact, rtol=2e-9)
    assert p_values(np.array([10**6]), 10**6, 0.5)[0] > 0.0  # where the tail underflows
    assert p_values(np.array([7, 0]), 7, 1.0).tolist() == [1.0, 1.0]


def bits(batch: Any) -> Any:
    """Four pixels of three classes."""
    rows = batch.reshape(len(batch), 2, 2)
    return (rows > 0).astype(int) + (rows > 1)


def test_maps_of_labels_stream() -> None:
    """Each pixel by itself gives the votes of count_votes, whatever the batches."""
    x = np.random.default_rng(0).normal(size=(3, 2, 2))
    options: dict[str, Any] = {"indices": [5, 1, 2]}
    for batch_size in (7, 1000):
        options["batch_size"] = batch_size
        labels = cc.joint.selected_labels(bits, x, NOISE, 3, 20, 4, **options)
        votes = cc.joint.label_votes(bits, x, NOISE, 3, labels, 50, 4, **options)
        assert labels.shape == votes.shape == (3, 2, 2)
        for i, j in itertools.product(range(2), repeat=2):

            def pixel(batch: Any, i: int = i, j: int = j) -> Any:
                return bits(batch)[:, i, j]

            first = cc.count_votes(pixel, x, NOISE, 3, 20, 4, stage="selection", **options)
            second = cc.count_votes(pixel, x, NOISE, 3, 50, 4, **options)
            np.testing.assert_array_equal(labels[:, i, j], first.argmax(axis=1))
            expected = np.take_along_axis(second, labels[:, i, j][:, None], axis=1)[:, 0]
            np.testing.assert_array_equal(votes[:, i, j], expected)


def test_labels_and_votes_are_enough() -> None:
    rng = np.random.default_rng(2)
    selection = rng.multinomial(30, [0.5, 0.3, 0.2], size=40)
    estimation = rng.multinomial(400, [0.85, 0.1, 0.05], size=40)
    labels = selection.argmax(axis=1)
    votes = estimation[np.arange(40), labels]
    threat: Any = (NOISE, ATTACK, RADIUS)
    whole = cc.certify_jointly(selection, estimation, *threat, alpha=0.01)
    again = cc.joint.certify_labels_jointly(
        labels.reshape(4, 10), votes.reshape(4, 10), 400, *threat, alpha=0.01
    )
    np.testing.assert_array_equal(again, whole.reshape(4, 10))
    assert 0 < (whole != cc.ABSTAIN).sum() < 40


def test_no_component() -> None:
    empty = np.zeros((0, 3), dtype=int)
    found = cc.certify_jointly(empty, empty.copy(), NOISE, ATTACK, RADIUS, alpha=0.01)
    assert found.shape == (0,)
    assert cc.joint.selected_labels(bits, np.zeros((0, 2, 2)), NOISE, 3, 5, 0).shape == (0,)
