"""Routed classifiers where the label at every point is known: slabs, half-spaces, Gaussians."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, refused
from scipy import stats

import cert_core as cc
from cert_core.routing import halves, join_routed, router_seed

BY, WEAK, STRONG = (cc.Gaussian(2, sigma) for sigma in (0.5, 0.25, 2.0))
Gaussians = tuple[cc.Gaussian, ...]


def slab(batch: Any) -> Any:
    """1 where the first coordinate is small: under strong noise nowhere likely."""
    return (np.abs(batch[:, 0]) < 1).astype(int)


def side(batch: Any) -> Any:
    return (batch[:, 1] > 0).astype(int)


def inside(x: Any, sigma: float) -> Any:
    """The smoothed slab's label: whether P(|x + sigma Z| < 1) is above 1/2."""
    high, low = stats.norm.cdf((1 - x) / sigma), stats.norm.cdf((-1 - x) / sigma)
    return (high - low > 0.5).astype(int)


def truth(points: Any) -> Any:
    """What the routed classifier says: under strong noise above the line, else under weak."""
    weak, strong = (inside(points[:, 0], noise.sigma) for noise in (WEAK, STRONG))
    return np.where(points[:, 1] > 0, strong, weak)


def routed(**options: Any) -> cc.Routed:
    branches = [cc.Smoothed(slab, noise, 2, **options) for noise in (WEAK, STRONG)]
    return cc.Routed(cc.Smoothed(side, BY, 2, **options), branches)


def refutes(x: Any, label: int, radius: float) -> bool:
    """Whether a point within the radius has another label; the straight ways to both borders
    are among the directions."""
    angles = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    ways = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    sizes = radius * (1 - 1e-9) * np.linspace(0, 1, 60)[1:]
    found = truth((x + ways[:, None] * sizes[:, None]).reshape(-1, 2))
    return bool((found != label).any())


X = np.random.default_rng(5).uniform(-1.6, 1.6, (60, 2)).astype(np.float32)
ALPHA = 1e-9  # sixty certificates: a false alarm below 1e-7


@pytest.mark.parametrize("verb", ["certify", "shells", "runner-up", "at", "until"])
def test_no_shifted_point_refutes(verb: str) -> None:
    if verb == "at":
        made = routed().certify_at(X, [0.05, 0.1, 0.2], 2000, ALPHA, "l2", 3)
    elif verb == "until":
        made = routed().certify_until(X[:30], 0.6, 2000, ALPHA, "l2", 3)
    else:
        bound = "clopper-pearson" if verb == "certify" else verb
        made = routed().certify(X, 50, 2000, ALPHA, "l2", 3, bound=bound)
    assert not made.tight
    assert {0, 1, cc.ABSTAIN} == set(made.branch.tolist())
    certified = np.flatnonzero(made.label != cc.ABSTAIN)
    assert len(certified) > 10
    for i in certified:
        assert not refutes(X[i], made.label[i], made.radius[i])


def test_a_choice_that_is_not_certified_is_refuted() -> None:
    """The branch that the router says at the point itself, or by its selection's votes."""
    parts = routed()
    branches = [part.certify(X, 50, 2000, ALPHA, "l2", 3) for part in parts.branches]
    votes = parts.router.counts(X, 50, 4).argmax(axis=1)
    for chosen in (side(X), np.asarray(votes)):
        label, radius = (
            np.choose(chosen, [getattr(each, name) for each in branches])
            for name in ("label", "radius")
        )
        wrong = [refutes(X[i], label[i], radius[i]) for i in np.flatnonzero(radius)]
        assert sum(wrong) > 5


def test_what_is_certified_reaches_for_the_border() -> None:
    """Far from the slab's borders the radius tends to the distance of the line."""
    x = np.array([[0.0, -0.3]], dtype=np.float32)
    made = routed().certify(x, 50, 100_000, 0.001, "l2", 3)
    assert 0.28 < made.radius[0] < 0.3
    assert refutes(x[0], made.label[0], 0.31)


def test_the_abstaining_router_abstains() -> None:
    x = np.array([[0.0, 0.0], [0.0, -1.0]], dtype=np.float32)
    parts = routed()
    made = parts.certify(x, 50, 1000, 0.001, "l2", 0)
    assert made.branch.tolist() == [cc.ABSTAIN, 0]
    assert made.label.tolist() == [cc.ABSTAIN, 1]
    assert made.radius[0] == 0 < made.radius[1]
    assert parts.predict(x, 1000, 0.001, 0).tolist() == [cc.ABSTAIN, 1]


def outcomes(n: int, p: float) -> tuple[Any, Any, Any]:
    """Every selection of one vote with every estimation of n: both tables, and their chances."""
    first, second = (grid.reshape(-1) for grid in np.meshgrid([0, 1], np.arange(n + 1)))
    chance = stats.binom.pmf(first, 1, p) * stats.binom.pmf(second, n, p)
    return np.stack([1 - first, first], axis=1), np.stack([n - second, second], axis=1), chance


@pytest.mark.parametrize("alpha", [0.02, 0.1, 0.3])
def test_coverage_by_all_outcomes(alpha: float) -> None:
    """The chance of a false certificate, summed over all votes: half-spaces that are `to_line`
    and `to_border` away, the branch behind the line saying the other label wherever it is asked."""
    n, worst, careless = 40, 0.0, 0.0
    for to_line in (0.01, 0.05, 0.1, 0.3, 0.8):
        for to_border in (0.01, 0.05, 0.2, 0.6, 3.0):
            right = stats.norm.cdf([to_line / BY.sigma, to_border / WEAK.sigma])
            *votes, send = outcomes(n, 1 - right[0])
            rows = len(send)
            cast = [outcomes(n, p) for p in (right[1], 1e-3)]  # label 1 is true
            tables = [np.repeat(table, rows, axis=0) for table in votes]
            branches = [[np.tile(t, (rows, 1)) for t in tables] for *tables, _ in cast]
            made = cc.certify_routed(tables, branches, BY, [WEAK, STRONG], "l2", alpha=alpha)
            label, radius = made.label.reshape(rows, rows), made.radius.reshape(rows, rows)
            safe = min(to_line, to_border)
            false = ((label == 0) | (radius > safe)) & (label != cc.ABSTAIN)
            sent = made.branch.reshape(rows, rows)
            chances = np.where(sent == 1, cast[1][2], cast[0][2]) * send[:, None]
            worst = max(worst, float(chances[false].sum()))
            uncertain = stats.binom.cdf(0, 1, right[0])  # one vote sends it over the line
            careless = max(careless, float(uncertain * cast[1][2][: n // 2].sum()))
    assert alpha / 10 < worst <= alpha
    assert careless > 0.3


def test_prediction_is_wrong_no_more_often_than_alpha() -> None:
    x, wrong = np.array([[0.9, -0.02]], dtype=np.float32), 0
    parts = routed()
    for seed in range(200):
        said = parts.predict(x, 50, 0.2, seed)[0]
        wrong += said not in (cc.ABSTAIN, truth(x)[0])
    assert stats.binom.sf(wrong - 1, 200, 0.2) > 1e-6


def test_it_is_the_smaller_of_two_certificates_at_half_of_alpha() -> None:
    parts, share = routed(), halves(0.01)
    made = parts.certify(X, 30, 500, 0.01, "l2", 7, indices=range(100, 160))
    by: dict[str, Any] = {"indices": range(100, 160)}
    router = parts.router.certify(X, 30, 500, share, "l2", router_seed(7), **by)
    branches = [part.certify(X, 30, 500, share, "l2", 7, **by) for part in parts.branches]
    for i, number in enumerate(router.label):
        if number == cc.ABSTAIN:
            assert (made.label[i], made.radius[i]) == (cc.ABSTAIN, 0.0)
            continue
        branch = branches[number]
        assert made.label[i] == branch.label[i]
        assert made.radius[i] == min(router.radius[i], branch.radius[i])
        assert (made.p_lower[i], made.p_router[i]) == (branch.p_lower[i], router.p_lower[i])
    assert made.alpha == 0.01
    assert share <= 0.005
    again = join_routed(router, branches, [WEAK, STRONG])
    assert (again.radius == made.radius).all()
    assert again.alpha <= 0.01
    assert (again.n0, again.n) == (made.n0, made.n) == (60, 1000)


def tables(indices: Any, seed: int, part: cc.Smoothed, x: Any = X) -> tuple[Any, Any]:
    how: dict[str, Any] = {"indices": indices}
    return part.counts(x, 30, seed, stage="selection", **how), part.counts(x, 500, seed, **how)


def test_tables_of_all_inputs_or_of_those_sent() -> None:
    parts, places = routed(), np.arange(60)
    votes = tables(places, 1, parts.router)
    sent = cc.certify(*votes, BY, "l2", alpha=halves(0.01)).label
    every = [tables(places, 0, part) for part in parts.branches]
    few = [
        tables(places[sent == i], 0, part, X[sent == i]) for i, part in enumerate(parts.branches)
    ]
    noises = BY, [WEAK, STRONG], "l2"
    made = [cc.certify_routed(votes, given, *noises, alpha=0.01) for given in (every, few)]
    direct = parts.certify(X, 30, 500, 0.01, "l2", 0)
    assert (made[0].radius == made[1].radius).all()
    assert (made[0].label == made[1].label).all()
    assert (made[0].label != cc.ABSTAIN).any()
    assert (direct.label != cc.ABSTAIN).any()
    bare = [[np.array(table) for table in pair] for pair in (votes, *every)]
    plain = cc.certify_routed(bare[0], bare[1:], *noises, alpha=0.01)
    assert (plain.radius == made[0].radius).all()


def test_same_everywhere() -> None:
    made = routed().certify(X, 30, 500, 0.01, "l2", 7)
    with ThreadPoolExecutor(2) as executor:
        spread = routed(batch_size=77).certify(X, 30, 500, 0.01, "l2", 7, executor=executor)
    parts = [
        routed().certify(X[rows], 30, 500, 0.01, "l2", 7, indices=range(60)[rows])
        for rows in (slice(0, 25), slice(25, 60))
    ]
    joined = cc.certificates.join_certificates(parts)
    for other in (spread, joined):
        assert (other.radius == made.radius).all()
        assert (other.branch == made.branch).all()


def test_rows_keep_their_samples() -> None:
    made = routed().certify(X, 30, 500, 0.01, "l2", 7, indices=range(100, 160))
    part = made[[5, 3, 50]]
    assert part.radius.tolist() == made.radius[[5, 3, 50]].tolist()
    found = {(each.seed, each.stage, *each.indices) for each in part.drawn}
    for place in (5, 3, 50):
        seeds = {router_seed(7), 7} if made.branch[place] != cc.ABSTAIN else {router_seed(7)}
        stages = {"selection", "estimation"}
        wanted = {(seed, stage, 100 + place) for seed in seeds for stage in stages}
        assert wanted == {each for each in found if each[2] == 100 + place}
    with pytest.raises(ValueError, match="samples of their own"):
        cc.certificates.join_certificates([part, made])
    other = routed().certify(X, 30, 500, 0.01, "l2", 8, indices=range(100, 160))
    both = cc.certificates.join_certificates([made, other])  # the same places, other samples
    assert repr(both).startswith("RoutedCertificates of 120 inputs")
    with pytest.raises(ValueError, match="choose rows before joining"):
        both[100]


@pytest.mark.parametrize("verb", ["certify", "certify_at", "predict"])
def test_progress_rises_to_all_of_it(verb: str) -> None:
    how: dict[str, Any] = {"n": 300, "alpha": 0.01, "seed": 0}
    if verb != "predict":
        how |= {"attack": "l2", "n0": 30}
    if verb == "certify_at":
        how |= {"radii": [0.1], "n_max": how.pop("n")}
    calls: list[tuple[int, int]] = []
    with_it = getattr(routed(), verb)(X, **how, progress=lambda *told: calls.append(told))
    assert {total for _, total in calls} == {120}
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1] == (120, 120)
    alone = getattr(routed(), verb)(X, **how)
    assert np.array_equal(getattr(with_it, "radius", with_it), getattr(alone, "radius", alone))
    with pytest.raises(ValueError, match="progress must be callable"):
        getattr(routed(), verb)(X, **how, progress="bar")


def test_records_are_kept(tmp_path: Path) -> None:
    made = routed().certify(X, 30, 500, 0.01, "l2", 7, bound="runner-up")
    made.save(tmp_path / "made.npz")
    again = cc.RoutedCertificates.load(tmp_path / "made.npz")
    assert (again.noises, again.drawn) == ((WEAK, STRONG), made.drawn)
    assert (again.p_router == made.p_router).all()
    assert again.p_other is not None
    assert "routed to Gaussian(dim=2, sigma=0.25) | Gaussian(dim=2, sigma=2.0)" in repr(made)


def test_other_families_modes_and_counts() -> None:
    x = np.array([[0, 255], [13, 200], [1, 80]], dtype=np.uint8)
    lattice = cc.Lattice("1/255")
    smooth = {"num_classes": 2, "sound": lattice}
    noises = cc.Gaussian(2, 0.5), cc.L2Noise(2, 0.3, 1.0), cc.Gaussian(2, 0.1)
    above = [
        cc.Smoothed(lambda batch: (batch[:, 1] > 0.5).astype(int), n, **smooth) for n in noises
    ]
    made = cc.Routed(above[0], above[1:]).certify(x, 20, 300, 0.01, "l2", 0)
    assert made.sound == lattice
    assert made.failed is not None
    assert (made.label != cc.ABSTAIN).any()
    flips = [cc.Flips(6, 2, keep) for keep in (0.9, 0.85, 0.95)]
    bits = np.eye(6, dtype=int)[[0, 0, 0]] + np.arange(3)[:, None] % 2
    most = [cc.Smoothed(lambda b: (b.sum(axis=1) > 2).astype(int), n, 2) for n in flips]
    found = cc.Routed(most[0], most[1:]).certify(bits % 2, 20, 2000, 0.01, "l0", 0)
    assert (found.radius == np.floor(found.radius)).all()
    assert (found.label != cc.ABSTAIN).any()
    scored = cc.Smoothed(None, WEAK, 2, scores=lambda batch: np.eye(2)[slab(batch)])
    soft = cc.Routed(cc.Smoothed(side, BY, 2), [scored, scored])
    assert soft.certify(X, 20, 300, 0.01, "l2", 0, bound="betting").radius.any()


PARTS = routed()
ROUTER = PARTS.router.certify(X, 30, 500, 0.005, "l2", 1)
MADE = [part.certify(X, 30, 500, 0.005, "l2", 0) for part in PARTS.branches]
NOISES = [WEAK, STRONG]
VOTES = tables(None, 1, PARTS.router)
GIVEN = [tables(None, 0, part) for part in PARTS.branches]
PLAIN = np.array([[90, 10], [20, 80]])
WIDE = cc.Gaussian(2, 1.0).scaled([1.0, 2.0])


def counted(places: Any) -> Any:
    return both(VOTES, [tables(places, 0, part) for part in PARTS.branches])


def both(votes: Any, given: Any, noises: Any = (BY, NOISES)) -> Any:
    return cc.certify_routed(votes, given, *noises, "l2", alpha=0.01)


def joined(router: Any = ROUTER, branches: Any = MADE, noises: Any = NOISES) -> Any:
    return join_routed(router, branches, noises)


CASES = [
    Case("one seed", lambda: both(tables(None, 0, PARTS.router), GIVEN), "of other samples than"),
    Case("one seed, records", lambda: joined(PARTS.router.certify(X, 30, 500, 0.005, "l2", 0)),
         "of other samples than the router's, got \"sample 0 of seed 0"),
    Case("one estimation", lambda: both((VOTES[0], GIVEN[0][1]), GIVEN, (WEAK, NOISES)),
         "noise must be that of the votes"),
    Case("one array", lambda: both((PLAIN, PLAIN * 10), [(PLAIN, PLAIN * 20)] * 2),
         "of other samples than the router's, got 'the same array'"),
    Case("other inputs", lambda: counted(range(60, 120)),
         "branches must be of the inputs that the router sent"),
    Case("their order", lambda: counted(range(60)[::-1]),
         "branches must be of the inputs that the router sent"),
    Case("too few rows", lambda: both(VOTES, [GIVEN[0], tables(None, 0, PARTS.branches[1], X[:3])]),
         "of all 60 inputs, or of the"),
    Case("no rows", lambda: both(VOTES, [GIVEN[0], None]), "got 0: count"),
    Case("one branch", lambda: both(VOTES, GIVEN[:1]), "one pair for each of the 2 noises"),
    Case("three", lambda: both(VOTES, [*GIVEN, None], (BY, [*NOISES, WEAK])), "for the 3 branches"),
    Case("other noise", lambda: joined(noises=[WEAK, WEAK]), "of noise Gaussian(dim=2, sigma=0.25"),
    Case("other attack", lambda: joined(replace(ROUTER, attack="l1")), "of attack 'l1'"),
    Case("other mode", lambda: joined(replace(ROUTER, sound=cc.Lattice(1))), "of sound Lattice"),
    Case("few branches", lambda: joined(branches=MADE[:1]), "one for each of the 2 noises"),
    Case("one measure", lambda: joined(noises=[WEAK, WIDE]), "stretched alike"),
    Case("one dim", lambda: joined(noises=[WEAK, cc.Gaussian(3, 1.0)]), "noise.dim must be 2"),
    Case("a network", lambda: cc.Routed(slab, PARTS.branches), "router must be a Smoothed"),
    Case("labels", lambda: cc.Routed(cc.Smoothed(side, BY, 3), PARTS.branches),
         "branches must be 3, the classes of the router"),
    Case("classes", lambda: cc.Routed(PARTS.router, [PARTS.branches[0], cc.Smoothed(slab, BY, 3)]),
         "of one num_classes"),
    Case("modes", lambda: cc.Routed(PARTS.router, [PARTS.branches[0],
         cc.Smoothed(slab, WEAK, 2, sound=cc.Lattice(1))]), "of one sound"),
    Case("scales", lambda: cc.Routed(PARTS.router, [PARTS.branches[0], cc.Smoothed(slab, WIDE, 2)]),
         "stretched alike"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_refused(case: Case) -> None:
    refused(case.right).check(case.act)


def test_a_seed_is_not_its_routers() -> None:
    assert router_seed(0) == 2**31
    assert router_seed(router_seed(12345)) == 12345
