"""Counts to certificates, and the whole chain against classifiers with known radii."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import special, stats

import cert_core as cc

NOISE = cc.Gaussian(4, 1.0)


def table(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.int64)


def chosen(top: list[int], classes: int) -> np.ndarray:
    """Selection votes for these classes, their rival the last class, or the first."""
    votes = np.zeros((len(top), classes), dtype=np.int64)
    for row, label in zip(votes, top, strict=True):
        row[label], row[0 if label == classes - 1 else -1] = 60, 40
    return votes


def by_hand(
    selection: np.ndarray, estimation: np.ndarray, alpha: float, k: int | None
) -> tuple[int, float, float]:
    """(class, p_lower, radius) of one input by SciPy's quantiles of Beta laws: the class from
    the selection, all else from the estimation; with k, alpha/2 and alpha/(2k)."""
    top, n = int(selection.argmax()), int(estimation.sum())
    share = alpha if k is None else alpha / 2
    votes = int(estimation[top])
    p = float(stats.beta.ppf(share, votes, n - votes + 1)) if votes else 0.0
    other = 1 - p
    if k is not None:
        rival = sorted(np.delete(estimation, top))[-k]
        upper = stats.beta.ppf(1 - alpha / (2 * k), rival + 1, n - rival) if rival < n else 1.0
        other = min(float(upper), (1 - p) / k)
    return top, p, max(0.5 * float(special.ndtri(p) - special.ndtri(other)), 0.0)


@pytest.mark.parametrize("k", [None, 1, 2, 3])
@pytest.mark.parametrize("alpha", [0.001, 0.2])
def test_what_each_stage_decides(k: int | None, alpha: float) -> None:
    """The selection votes choose the class, and no more; the estimation votes bound it and the
    k-th of the others, at the stated shares of alpha: two tables that agree on nothing."""
    rng = np.random.default_rng(1)
    shares = rng.dirichlet([0.5] * 5, size=(2, 300))
    shares[1, ::2] = 0.1 * shares[1, ::2] + 0.9 * shares[0, ::2]
    selection = np.stack([rng.multinomial(30, p) for p in shares[0]])
    estimation = np.stack([rng.multinomial(400, p) for p in shares[1]])
    if k is None:
        result = cc.certify(selection, estimation, NOISE, "l2", alpha=alpha)
    else:
        result = cc.certificates.certify_top_k(selection, estimation, NOISE, "l2", k=k, alpha=alpha)
    expected = [
        by_hand(one, other, alpha, k) for one, other in zip(selection, estimation, strict=True)
    ]
    top, p, radius = (np.array(column) for column in zip(*expected, strict=True))
    np.testing.assert_array_equal(result.label, np.where(radius > 0, top, cc.ABSTAIN))
    np.testing.assert_allclose(result.p_lower, p, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.radius, radius, rtol=1e-7, atol=1e-9)
    assert 30 < (radius > 0).sum() < 270
    assert (estimation.argmax(axis=1) != top).sum() > 30


def test_certificates() -> None:
    selection = table([90, 10, 0], [0, 100, 0], [30, 30, 40])
    estimation = table([9900, 100, 0], [0, 10_000, 0], [5000, 2000, 3000])
    result = cc.certify(selection, estimation, NOISE, "l2", alpha=0.001)
    assert result.label.tolist() == [0, 1, cc.ABSTAIN]
    p = cc.binomial_lower(np.array([9900, 10_000, 3000]), 10_000, 0.001)
    np.testing.assert_array_equal(result.p_lower, p)
    np.testing.assert_allclose(result.radius[:2], special.ndtri(p[:2]), rtol=1e-12)
    assert result.radius[2] == 0.0
    assert (result.n0, result.n, result.alpha, len(result)) == (100, 10_000, 0.001, 3)
    accuracy = cc.certified_accuracy(result, [0, 1, 2], [0.0, 2.0, 3.0, 9.0])
    np.testing.assert_allclose(accuracy, [2 / 3, 2 / 3, 1 / 3, 0.0])
    assert cc.certified_accuracy(result, [0, 0, 0], 0.0) == pytest.approx(1 / 3)
    assert cc.certified_accuracy(result, [2, 2, 2], 0.0) == 0.0
    # an input has its own radius
    assert cc.certified_accuracy(result, [0, 1, 2], result.radius[0]) == 2 / 3


def test_no_label_without_a_radius() -> None:
    """A class can be ahead by less than the mixed law tells: then there is nothing to claim."""
    noise, n, more = cc.MixedNoise(4, 1.0, 1.5), 2**50, 52_000_000
    votes = table([n // 2 + more, n // 2 - more])
    result = cc.certify(chosen([0], 2), votes, noise, "linf")
    assert 0.5 < result.p_lower[0] < 0.5 + 1e-9
    assert (result.label[0], result.radius[0]) == (cc.ABSTAIN, 0.0)


def test_a_radius_is_never_above_the_truth_too_often() -> None:
    """A half-space at distance D of the input is exactly robust up to D (Gaussian, l2): the
    chance that its votes give a larger radius is alpha at most, and near it."""
    distance, n = 0.8, 500
    votes = np.arange(n + 1)
    chance = stats.binom.pmf(votes, n, special.ndtr(distance))
    estimation = np.stack([votes, n - votes], axis=1)
    result = cc.certify(chosen([0] * (n + 1), 2), estimation, NOISE, "l2", alpha=0.05)
    assert 0.03 < chance[result.radius > distance].sum() <= 0.05
    assert (chance * result.radius).sum() > 0.85 * distance


def spread(top: float, other: float, n: int = 100_000) -> np.ndarray:
    """Votes of n: a class, a runner-up, and a rest in classes no larger than it."""
    votes, rest = [round(top * n), round(other * n)], n - round(top * n) - round(other * n)
    while rest:
        votes.append(min(rest, votes[1]))
        rest -= votes[-1]
    return table(votes + [0] * (40 - len(votes)))


TABLE_3 = [
    ((0.55, 0.45), "0.1134", "0.1126"), ((0.55, 0.1), "0.1134", "0.688"),
    ((0.45, 0.1), "0", "0.5625"), ((0.8, 0.2), "0.8277", "0.8267"),
    ((0.8, 0.03), "0.8277", "1.3408"), ((0.95, 0.01), "1.624", "1.955"),
    ((0.999, 1e-4), "3.000", "3.236"), ((1.0, 0.0), "3.8115", "3.7878"),
]  # fmt: skip


@pytest.mark.parametrize(("shares", "alone", "apart"), TABLE_3)
def test_table_of_the_runner_up(shares: tuple[float, float], alone: str, apart: str) -> None:
    """Radius/sigma at n = 1e5, alpha = .001 (SOUNDNESS section 3), to the printed digits."""
    votes = spread(*shares)
    for printed, result in (
        (alone, cc.certify(chosen([0], 40), votes, NOISE, "l2")),
        (apart, cc.certificates.certify_top_k(chosen([0], 40), votes, NOISE, "l2")),
    ):
        digits = len(printed.partition(".")[2])
        assert round(float(result.radius[0]), digits) == float(printed)


def test_top_k_certifies_more_with_k_and_any_class_that_is_named() -> None:
    votes, selection = table([400, 350, 150, 100]), chosen([0], 4)
    radii = [
        float(
            cc.certificates.certify_top_k(selection, votes, NOISE, "l2", k=k, alpha=0.01).radius[0]
        )
        for k in (1, 2, 3)
    ]
    assert radii[0] == 0.0
    assert 0 < radii[1] < radii[2]
    named = cc.certificates.certify_top_k(
        selection, votes, NOISE, "l2", k=2, labels=[1], alpha=0.01
    )
    other = cc.certificates.certify_top_k(chosen([1], 4), votes, NOISE, "l2", k=2, alpha=0.01)
    assert named.label.tolist() == other.label.tolist() == [1]
    assert named.radius[0] == other.radius[0] < radii[1]
    assert cc.certify(selection, votes, NOISE, "l2").p_other is None


def every(n: int, classes: int) -> np.ndarray:
    """All tables of n votes."""
    tables = itertools.combinations(range(n + classes - 1), classes - 1)
    return np.array([np.diff([-1, *ends, n + classes - 1]) - 1 for ends in tables])


@pytest.mark.parametrize(
    ("p", "k", "n"),
    [([0.5, 0.5], 1, 60), ([0.3, 0.3, 0.4], 2, 30), ([0.25, 0.25, 0.25, 0.25], 3, 16)],
)
@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_a_class_that_is_not_ahead_is_rarely_certified(
    p: list[float], k: int, n: int, alpha: float
) -> None:
    """With what probability class 0, of rank k + 1, gets a radius: over all tables of votes."""
    votes = every(n, len(p))
    chance = stats.multinomial.pmf(votes, n, p)
    selection = chosen([0] * len(votes), len(p))
    result = cc.certificates.certify_top_k(selection, votes, NOISE, "l2", k=k, alpha=alpha)
    assert chance.sum() == pytest.approx(1.0)
    assert chance[result.radius > 0].sum() <= alpha


SEPARATED = [
    (cc.Gaussian(5, 2.0), "l2"), (cc.L2Noise(3072, 8.0, 3060.0), "l2"),
    (cc.LinfNoise(784, 1.0), "l1"), (cc.L1Noise(64, 1.0, 4.0), "l1"), (cc.Laplace(9, 0.5), "l1"),
]  # fmt: skip


@pytest.mark.parametrize(("noise", "attack"), SEPARATED, ids=lambda v: getattr(v, "name", v))
@pytest.mark.parametrize("pair", [(0.8, 0.03), (0.3, 0.1), (0.45, 0.4), (0.999, 1e-4)])
def test_separation_is_where_the_bounds_meet(
    noise: cc.Noise, attack: str, pair: tuple[float, float]
) -> None:
    """L(p, r) > 1 - L(1 - q, r) at the radius returned, and not 1e-8 beyond it."""
    p, q = pair
    radius = cc.separation.separation_radius(p, q, noise, attack)

    def excess(r: float) -> float:
        low, other = cc.lower_bound([p, 1 - q], noise, attack, r)
        return float(low - (1 - other))

    assert radius > 0
    assert excess(radius) > 0
    assert excess(radius * (1 + 1e-8)) < 1e-9
    assert excess(radius * 1.01) < 0
    assert radius >= cc.certified_radius(p, noise, attack)


def test_separation_closed_forms() -> None:
    gaussian = cc.Gaussian(5, 2.0)
    expected = special.ndtri(0.7) - special.ndtri(0.2)
    assert cc.separation.separation_radius(0.7, 0.2, gaussian, "l2") == pytest.approx(
        expected, rel=1e-9
    )
    # Laplace, both below 1/2: p exp(-r/b) = q exp(r/b); the printed corollary says .916
    laplace = cc.Laplace(5, 1.0)
    assert cc.separation.separation_radius(0.2, 0.05, laplace, "l1") == pytest.approx(
        np.log(2), rel=1e-9
    )
    assert cc.separation.separation_radius(0.2, 0.05, laplace, "l1") <= np.log(2)
    assert cc.separation.separation_radius(0.4, 0.4, gaussian, "l2") == 0.0
    assert cc.separation.separation_radius(0.3, 0.0, gaussian, "l2") == np.inf
    alone = cc.certified_radius(0.9, gaussian, "l2")
    np.testing.assert_array_equal(
        cc.separation.separation_radius([0.9, 0.9], [0.1, 1.0], gaussian, "l2"), [alone, alone]
    )


def test_scores() -> None:
    scores = np.random.default_rng(4).beta(18, 2, size=(3, 500))
    scores[2] /= 2
    result = cc.certificates.certify_scores([4, 0, 1], scores, NOISE, "l2", n0=50, alpha=0.01)
    p = cc.confidence.betting_lower(scores, 0.01)
    np.testing.assert_array_equal(result.p_lower, p)
    np.testing.assert_allclose(result.radius[:2], special.ndtri(p[:2]), rtol=1e-12)
    assert result.label.tolist() == [4, 0, cc.ABSTAIN]
    assert (result.n0, result.n, result.alpha) == (50, 500, 0.01)


def test_a_mean_below_one_half_is_no_class_where_radii_count() -> None:
    """0 changed entries are a certificate too: the radius alone does not tell."""
    noise, scores = cc.Flips(3, 2, 0.9), np.full((2, 500), [[0.9], [0.4]])
    result = cc.certificates.certify_scores([1, 1], scores, noise, "l0", n0=5)
    assert result.label.tolist() == [1, cc.ABSTAIN]
    assert result.p_lower[1] < 0.5 < result.p_lower[0]


def test_predict() -> None:
    counts = table([60, 40, 0], [52, 48, 0], [0, 5, 95], [50, 50, 0])
    assert cc.certificates.predict_labels(counts, 0.1).tolist() == [0, cc.ABSTAIN, 2, cc.ABSTAIN]
    p = stats.binomtest(60, 100, 0.5).pvalue
    assert cc.certificates.predict_labels(counts[:1], p * 1.0001).tolist() == [0]
    assert cc.certificates.predict_labels(counts[:1], p * 0.9999).tolist() == [cc.ABSTAIN]


def test_no_inputs() -> None:
    empty = np.zeros((0, 3), dtype=np.int64)
    assert len(cc.certify(empty, empty + 0, NOISE, "l2")) == 0


GOOD, CHOSEN = table([50, 50]), chosen([0], 2)
BAD = [
    (lambda: cc.certify(table([1, 2, 3]), GOOD, NOISE, "l2"), "counts_estimation must be of the"),
    (lambda: cc.certify(GOOD * 1.0, GOOD, NOISE, "l2"), "counts_selection must be an"),
    (lambda: cc.certify(GOOD, table([100, -1]), NOISE, "l2"), "must be non-negative, got -1"),
    (
        lambda: cc.certify(table([5, 5], [5, 5]), table([50, 50], [50, 49]), NOISE, "l2"),
        "must be of one positive number of votes per input, got 'rows that sum to 99 and 100'",
    ),
    (lambda: cc.certify(GOOD, table([5, 4]), NOISE, "l2"), "n must be at least 10 for alpha"),
    (
        lambda: cc.certify(CHOSEN, GOOD, NOISE, "l3"),
        "attack must be one of 'l1', 'l2', 'linf'",
    ),
    (lambda: cc.certify(CHOSEN, GOOD, "gaussian", "l2"), "noise must be a noise"),  # type: ignore[arg-type]
    (lambda: cc.certify(CHOSEN, GOOD, NOISE, "l2", alpha=0.7), "alpha must be a number in"),
    (lambda: cc.certificates.predict_labels([1, 2], 0.1), "counts must be an"),
    (
        lambda: cc.certificates.certify_top_k(CHOSEN, GOOD, NOISE, "l2", k=2),
        "k must be an integer in [1, 1]",
    ),
    (
        lambda: cc.certificates.certify_top_k(CHOSEN, GOOD, NOISE, "l2", labels=[2]),
        "labels must be a class in [0, 2) for each of the 1 inputs",
    ),
    (
        lambda: cc.certificates.certify_top_k(GOOD, table([5, 5]), NOISE, "l2"),
        "n must be at least 11",
    ),
    (
        lambda: cc.certificates.certify_scores([0], [0.5, 0.5], NOISE, "l2", n0=1),
        "scores must be an (n_inputs, n) array",
    ),
    (
        lambda: cc.certificates.certify_scores([0.5], [[0.5]], NOISE, "l2", n0=1),
        "labels must be integers",
    ),
    (
        lambda: cc.certificates.certify_scores([0, 1], [[0.5]], NOISE, "l2", n0=1),
        "scores must be an (n_inputs, n) array, one row a label",
    ),
    (
        lambda: cc.certificates.certify_scores([0], [[0.5]], NOISE, "l2", n0=0),
        "n0 must be an integer >= 1, got 0",
    ),
    (
        lambda: cc.certify(table([2**52, 2**52]), GOOD, NOISE, "l2"),
        "counts_selection must be of fewer than 2^53 votes per input",
    ),
    (
        lambda: cc.separation.separation_radius(0.5, 1.5, NOISE, "l2"),
        "p_other must be in [0, 1], got 1.5",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[m[:35] for _, m in BAD])
def test_bad_input(call: object, message: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        call()  # type: ignore[operator]
    assert message in str(caught.value)


def test_abstentions_are_wrong_whatever_the_truth() -> None:
    votes = np.array([[500, 500], [1000, 0]])
    result = cc.certify(chosen([0, 0], 2), votes, NOISE, "l2", alpha=0.001)
    assert result.label[0] == cc.ABSTAIN
    assert cc.certified_accuracy(result, [cc.ABSTAIN, 0], 0.0) == 0.5
    assert result != cc.certify(chosen([0, 0], 2), votes, NOISE, "l2", alpha=0.001)


def test_certified_accuracy_checks_its_arguments() -> None:
    result = cc.certify(GOOD, table([100, 0]), NOISE, "l2")
    with pytest.raises(ValueError, match="labels must be of shape"):
        cc.certified_accuracy(result, [0, 1], 0.5)
    with pytest.raises(ValueError, match=r"radii must be >= 0, got -1\.0"):
        cc.certified_accuracy(result, [0], -1.0)
