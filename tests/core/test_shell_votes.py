"""Votes by shell: whose they are, and that their bounds hold as often as they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import cert_core as cc
from cert_core import shell_votes
from cert_core.shell_votes import certify_shell_votes, count_shell_votes
from cert_models.smooth import SmoothedClassifier

NOISE = cc.L2Noise(6, 1.0, 4.0)
EDGES = cc.shell_thresholds(NOISE, [0.3, 0.7])
NOISES = [
    NOISE, cc.Gaussian(6, 0.5), cc.LinfNoise(6, 1.0, 2.0),
    cc.Gaussian(6, 0.5).scaled(np.arange(1.0, 7.0)),
]  # fmt: skip
X = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 2, 3)).astype(np.float32)


def predict(batch: Any) -> Any:
    return (batch.sum(axis=(1, 2)) > 0).astype(np.int64) + (batch[:, 0, 0] > 1)


def table(n: int = 500, **options: Any) -> Any:
    x = options.pop("x", X)
    return count_shell_votes(predict, x, NOISE, 3, n, 7, EDGES, **options)


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: noise.name)
def test_votes_are_in_the_shells_of_their_noise(noise: Any) -> None:
    edges = cc.shell_thresholds(noise, [0.3, 0.7])
    found = count_shell_votes(predict, X, noise, 3, 400, 7, edges)
    expected = np.zeros_like(found)
    for i, x in enumerate(X):
        key = cc.kernels.input_seed(7, i)
        rows = cc.kernels.backend("cpu").draw(noise, 400, key, stream=cc.kernels.ESTIMATION)
        z = rows.astype(float) / (1.0 if noise.stretch is None else noise.stretch)
        where = np.searchsorted(edges, np.linalg.norm(z, ord=noise.radial.norm, axis=1))
        labels = predict((x.reshape(-1) + rows).reshape(-1, 2, 3).astype(np.float32))
        np.add.at(np.asarray(expected)[i], (where, labels), 1)
    np.testing.assert_array_equal(found, expected)
    whole = cc.count_votes(predict, X, noise, 3, 400, 7)
    np.testing.assert_array_equal(found.sum(axis=1), whole)


def test_votes_do_not_depend_on_how_they_are_counted() -> None:
    whole = table()
    for options in ({"batch_size": 17}, {"batch_size": 10_000}, {"backend": "reference"}):
        np.testing.assert_array_equal(table(**options), whole)
    np.testing.assert_array_equal(table(200) + table(300, start=200), whole)
    np.testing.assert_array_equal(table(x=X[1:], indices=[1, 2]), whole[1:])
    assert not np.array_equal(table(stage="selection"), whole)


@pytest.mark.parametrize("together", [1, 33, 100])
def test_norms_taken_together_are_those_of_their_samples(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = table()
    monkeypatch.setattr(cc.shell_votes, "TOGETHER", together)
    for batch_size in (40, 64, 1100):
        np.testing.assert_array_equal(table(batch_size=batch_size), whole)


def test_verbs_count_the_same() -> None:
    smoothed = cc.Smoothed(predict, NOISE, 3, batch_size=64)
    np.testing.assert_array_equal(smoothed.shell_counts(X, 500, 7, EDGES), table())

    class Sum(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            s = x.sum(dim=(1, 2))
            return torch.stack([-s, s, torch.full_like(s, -9.0)], dim=1)

    module = SmoothedClassifier(Sum().eval(), NOISE, 3, batch_size=50)
    by = module.shell_counts(X, 300, 7, EDGES)
    np.testing.assert_array_equal(by.sum(axis=1), module.counts(X, 300, 7))
    made = module.certify_shells(X, 100, 300, 0.01, "l2", 7, masses=[0.3, 0.7])
    first = module.counts(X, 100, 7, stage="selection")
    told = cc.certify_shells(first, by, EDGES, NOISE, "l2", alpha=0.01)
    np.testing.assert_array_equal(made.radius, told.radius)
    assert (made.bound, made.n, made.n0) == ("shells", 300, 100)


def selected(n: int = 100, **options: Any) -> Any:
    return cc.count_votes(predict, X, NOISE, 3, n, 7, stage="selection", **options)


def test_one_shell_is_certify() -> None:
    by = count_shell_votes(predict, X, NOISE, 3, 2000, 7, [])
    shells = cc.certify_shells(selected(), by, [], NOISE, "l2")
    plain = cc.certify(selected(), by.sum(axis=1), NOISE, "l2")
    np.testing.assert_array_equal(shells.label, plain.label)
    np.testing.assert_allclose(shells.radius, plain.radius, rtol=1e-12)


def test_what_votes_know_is_used() -> None:
    by = table(2000)
    made = cc.certify_shells(selected(), by, EDGES, NOISE, "l2")
    assert {each.stage for each in made.drawn} == {"selection", "estimation"}
    refused = [
        ((selected(), by, EDGES * 1.01), "thresholds must be those of the votes"),
        ((selected(), by, EDGES[:1]), r"counts_by_shell must be an \(n_inputs, 2, n_classes\)"),
        ((selected(), by[:2], EDGES), "counts_estimation must be of the shape"),
        ((selected(), by.sum(axis=1), EDGES), r"counts_by_shell must be an \(n_inputs, 3"),
        ((selected(), np.asarray(by) * 1.0, EDGES), "counts_by_shell must be an"),
        ((selected(), np.asarray(by) - 9**4, EDGES), "counts_by_shell must be of 0 to 2"),
        ((cc.count_votes(predict, X, NOISE, 3, 100, 7), by, EDGES), "votes of other samples"),
    ]
    for arguments, told in refused:
        with pytest.raises(ValueError, match=told):
            cc.certify_shells(*arguments, NOISE, "l2")
    with pytest.raises(ValueError, match="noise must be that of the votes"):
        cc.certify_shells(selected(), by, EDGES, cc.L2Noise(6, 2.0, 4.0), "l2")
    with pytest.raises(ValueError, match="n must be at least"):
        cc.certify_shells(selected(), table(10), EDGES, NOISE, "l2")
    for cast, drawn, told in (
        ([[5, 5, 50]], [[5, 5, 40]], "votes must be non-negative and no more than samples"),
        ([[5, 5]], [[5, 5]], "votes must be of the shape"),
        ([[5, 5, 40], [5, 5, 40]], [[5, 5, 40], [5, 5, 41]], "samples must be of one positive"),
    ):
        with pytest.raises(ValueError, match=told):
            certify_shell_votes([0] * len(cast), cast, drawn, EDGES, NOISE, "l2", n0=1, alpha=0.01)


@pytest.mark.parametrize("n", [1, 5, 14])
@pytest.mark.parametrize("share", [(0.5, 0.5), (0.95, 0.3), (0.2, 1.0), (1.0, 1.0)])
def test_masses_are_above_the_truth_as_rarely_as_said(n: int, share: Any) -> None:
    """Exact: the law of all votes of two shells, enumerated."""
    alpha, noise = 0.1, cc.Gaussian(3, 1.0)
    edges = cc.shell_thresholds(noise, [0.4])
    inside = 0.4
    among = np.arange(n + 1)
    first, cast, rest = (x.reshape(-1) for x in np.meshgrid(among, among, among, indexing="ij"))
    legal = (cast <= first) & (rest <= n - first)
    first, cast, rest = first[legal], cast[legal], rest[legal]
    chance = stats.binom.pmf(first, n, inside)
    chance = (
        chance * stats.binom.pmf(cast, first, share[0]) * stats.binom.pmf(rest, n - first, share[1])
    )
    assert chance.sum() == pytest.approx(1.0)
    votes, samples = np.stack([cast, rest], 1), np.stack([first, n - first], 1)
    least = shell_votes.lower_masses(votes, samples, edges.tolist(), noise, alpha)
    truth = np.cumsum([inside * share[0], (1 - inside) * share[1]])
    wrong = (least > truth * (1 + 1e-12)).any(axis=1)
    assert chance[wrong].sum() <= alpha
    assert (np.diff(least, axis=1) >= 0).all()


def test_certificates_hold_where_the_truth_is_known() -> None:
    """A half-space, whose radius is exact: 400 runs of one input; more than six false ones have
    chance 3e-7."""
    noise, alpha = cc.Gaussian(3, 1.0), 0.001
    edges = cc.shell_thresholds(noise, [0.3, 0.7])
    far = 0.8
    x = np.tile(np.array([far, 0, 0], np.float32), (400, 1))
    ahead = cc.Smoothed(lambda batch: (batch[:, 0] > 0).astype(int), noise, 2)
    selection = ahead.counts(x, 50, 1, stage="selection")
    by = ahead.shell_counts(x, 1000, 1, edges)
    made = cc.certify_shells(selection, by, edges, noise, "l2", alpha=alpha)
    assert (made.radius > far).sum() <= 6
    plain = cc.certify(selection, by.sum(axis=1), noise, "l2", alpha=alpha)
    assert np.median(made.radius) > 0.9 * np.median(plain.radius) > 0
