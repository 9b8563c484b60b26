"""Statements that stand on something else than what they were given: each row once held."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import Case, cert, refused

import cert_core as cc
from cert_core.certificates import certify_scores, certify_top_k
from cert_core.monte_carlo import monte_carlo_radius
from cert_core.separation import separation_radius
from cert_core.sequential import gather, plan_at, plan_until
from cert_models.logs import Row
from cert_models.smooth import SmoothedClassifier
from cert_models.store.counts import CountStore
from cert_models.store.readings import read_run
from cert_models.store.results import Result
from cert_models.store.runs import FixedPlan, LogPlan, Run, ScorePlan, SequentialPlan, Votes
from cert_models.store.storage import StoreError

G = cc.Gaussian(4, 1.0)
X = np.full((3, 4), 0.5, np.float32)
AT = plan_at(G, "l2", [0.25, 0.5], n_max=1000)
UNTIL = plan_until(G, "l2", 0.5, n_max=1000)
LARGE = 2**63 - 1


def first(batch: Any) -> Any:
    return (batch[:, 0] > 0).astype(np.int64)


class First(torch.nn.Module):
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.stack([-batch[:, 0], batch[:, 0]], dim=1)


SMOOTHED = SmoothedClassifier(First().eval(), G, 2)


def voted(n: int = 1000, **options: Any) -> Any:
    return cc.count_votes(first, X, G, 2, n, 0, **options)


def chosen(**options: Any) -> Any:
    return voted(100, stage="selection", **options)


def certified(**options: Any) -> cc.Certificates:
    return cc.certify(chosen(**options), voted(**options), G, "l2")


def outcomes(plan: Any = AT, **options: Any) -> list[cc.Votes]:
    return list(cc.sequential.outcomes(plan, first, X, 2, 0, **options))


def changed(plan: Any, **values: Any) -> Any:
    """A plan through its dict, some values of which are others."""
    return cc.sequential.plan_from_dict({**plan.to_dict(), **values})


# 3072 coordinates at a rounding boundary: the mean of x is a hair on the side of class 0
DIM, SPACING = 3072, float(np.spacing(np.float32(1000)))
EDGE = 1000 + SPACING / 2
FINE = cc.Gaussian(DIM, 8.001 * SPACING)


def above(batch: Any) -> Any:
    return ((batch.astype(np.float64) - EDGE).sum(axis=1) > 0).astype(np.int64)


def at_the_edge(value: float, verb: str) -> Any:
    """Labels of inputs that are `value` everywhere, truly of probability .5 to 5e-5."""
    x = np.full((1, DIM), value)
    if verb == "certify":
        votes = (
            cc.count_votes(above, x, FINE, 2, n, 0, stage=stage)
            for n, stage in ((50, "selection"), (500, "estimation"))
        )
        return cc.certify(*votes, FINE, "l2").label
    plan = plan_until(FINE, "l2", 0.5, n_max=500)
    return cc.sequential.certify_by(plan, above, x, 2, 0).label


ROUNDED = [
    Case(f"{verb} {place} a rounding boundary", lambda v=value, b=verb: at_the_edge(v, b), [-1])
    for verb in ("certify", "certify_by")
    for place, value in (("below", EDGE * (1 - 1e-12)), ("at", EDGE * (1 - 1e-12) + 4e-9))
] + [
    Case("x of 2^53 + 1", lambda: cc.count_votes(first, [[2**53 + 1] * 4], G, 2, 10, 0),
         refused("x", "2^53")),
    Case("x of more digits than float64",
         lambda: cc.count_votes(first, np.full((1, 4), np.longdouble(1) / 3), G, 2, 10, 0),
         refused("x", "float64")),
    Case("x masked", lambda: cc.count_votes(first, np.ma.masked_less(X, 0.6), G, 2, 10, 0),
         refused("x", "masked")),
    Case("x complex", lambda: cc.count_votes(first, X + 1j, G, 2, 10, 0), refused("x", "numbers")),
]  # fmt: skip

FORGED = [
    Case(f"plan with {name}", lambda v=values: changed(AT, **v), refused(word))
    for name, word, values in (
        ("radii reversed", "radii", {"radii": [0.5, 0.25]}),
        ("radii 9e9", "thresholds", {"radii": [9e9, 1e10]}),
        ("radii a little larger", "thresholds", {"radii": [0.25, 0.5 + 1e-8]}),
        ("radii inf", "radii", {"radii": [0.25, float("inf")]}),
        ("radii nan", "radii", {"radii": [float("nan"), 0.5]}),
        ("radii negative", "radii", {"radii": [-1.0, 0.5]}),
        ("radii twice", "radii", {"radii": [0.5, 0.5]}),
        ("thresholds a little smaller", "thresholds",
         {"thresholds": [p - 1e-8 for p in AT.thresholds]}),
        ("thresholds above 1", "thresholds", {"thresholds": [0.9, 1.1]}),
        ("thresholds descending", "thresholds", {"thresholds": [0.99, 0.9]}),
        ("one threshold", "thresholds", {"thresholds": [0.99]}),
        ("n0 2.7", "n0", {"n0": 2.7}),
        ("alpha 2", "alpha", {"alpha": 2.0}),
        ("looks 2.5", "looks", {"looks": [2.5, 100]}),
        ("an attack of none", "attack", {"attack": None}),
        ("a noise of none", "noise", {"noise": None}),
        ("a wider noise", "thresholds", {"noise": cc.Gaussian(4, 0.5).to_dict()}),
        ("more than a plan", "values", {"beta": 1}),
    )
] + [
    Case(f"width {width}", lambda w=width: changed(UNTIL, width=w), refused("width"))
    for width in (-1.0, 0.0, 1.0, float("nan"), "0.5", None)
] + [
    Case("plan made by hand",
         lambda: cc.sequential.RadiiPlan(noise=G, attack="l2", radii=(10.0,), thresholds=(0.5,),
             alpha=0.001, n0=10, looks=(100,)), refused("thresholds")),
    Case("plan changed by hand", lambda: replace(AT, radii=(9.0, 10.0)), refused("thresholds")),
    Case("thresholds of another version, an ulp below",
         lambda: changed(AT, thresholds=[np.nextafter(p, 0) for p in AT.thresholds]).radii,
         AT.radii),
    Case("thresholds above what is needed",
         lambda: changed(AT, thresholds=[0.9, 0.95]).thresholds, (0.9, 0.95)),
    Case("a test that certifies anything",
         lambda: cc.sequential.FixedSequence((replace(AT.tests[0], certify=(0,) * len(AT.looks)),)),
         refused("tests", "boundaries")),
    Case("plan through its dict", lambda: changed(AT) == AT and changed(UNTIL) == UNTIL, True),
]  # fmt: skip


SPLITTING = cc.Splitting(4, 0.5, 10)


def scored() -> Any:
    return cc.scores.label_scores(lambda b: np.eye(2)[first(b)], X, G, 2, [1, 1, 1], 1000, 0)


def soft(scores: Any, noise: cc.Noise) -> Any:
    return certify_scores([1, 1, 1], scores, noise, "l2", n0=10)


def split(n: int) -> Any:
    return cc.count_votes(first, np.zeros((1, 4)), SPLITTING, 2, n, 0)


def picked() -> Any:
    return cc.joint.selected_labels(first, X, G, 2, 100, 0)


def voices(n: int = 100, **options: Any) -> Any:
    return cc.joint.label_votes(first, X, G, 2, [1, 1, 1], n, 0, **options)


def labelled(votes: Any = None, noise: cc.Noise = G) -> Any:
    """Labels certified by 100 votes each."""
    cast = voices() if votes is None else votes
    return cc.joint.certify_labels_jointly(picked(), cast, 100, noise, "l2", 0.01, alpha=0.1)


def unchanged() -> Any:
    """A table to which its own votes were added in vain."""
    table = voted()
    with pytest.raises(ValueError, match="samples"):
        table += voted(10)
    return table


def summed() -> Any:
    """Votes added to zeros like those of a table."""
    parts = [voted(600), voted(400, start=600)]
    total = np.zeros_like(parts[0])
    for part in parts:
        total += part
    return total


USED_TWICE = [
    Case("outcomes under another alpha",
         lambda: gather(replace(AT, alpha=1e-6), outcomes()), refused("results", "plan")),
    Case("outcomes under another attack",
         lambda: gather(plan_at(G, "linf", [0.1], n_max=1000), outcomes()),
         refused("results", "plan")),
    Case("outcomes of a narrower noise",
         lambda: gather(plan_until(cc.Gaussian(4, 2.0), "l2", 0.5, n_max=1000),
                           outcomes(UNTIL)), refused("results", "plan")),
    Case("outcomes twice",
         lambda: gather(AT, outcomes() * 2), refused("results", "twice")),
    Case("outcomes of one seed, input by input",
         lambda: gather(AT, [replace(o, position=i) for i in range(3)
                                for o in cc.sequential.outcomes(AT, first, X[i : i + 1], 2, 0)]),
         refused("results", "index 0")),
    Case("outcomes of no plan", lambda: gather(None, outcomes()), refused("plan")),
    Case("outcomes in any order", lambda: gather(AT, outcomes()[::-1]).radius,
         lambda found: np.array_equal(found, cc.sequential.certify_by(AT, first, X, 2, 0).radius)),
    Case("a view as the other stage", lambda: cc.certify((e := voted()), e[:], G, "l2"),
         refused("counts_estimation", "other samples")),
    Case("a copy as the other stage", lambda: cc.certify((e := voted()), e.copy(), G, "l2"),
         refused("counts_estimation", "sample 0")),
    Case("rows as the other stage", lambda: cc.certify((e := voted())[1:], e[1:] + 0, G, "l2"),
         refused("counts_estimation", "index 1")),
    Case("a tensor and its array",
         lambda: cc.certify((t := torch.tensor([[0, 100]])), t.numpy(), G, "l2"),
         refused("counts_estimation", "same array")),
    Case("one list", lambda: cc.certify((e := [[0, 100]]), e, G, "l2"),
         refused("counts_estimation", "same array")),
    Case("top k of a view", lambda: certify_top_k((e := voted()), e[:], G, "l2"),
         refused("counts_estimation", "other samples")),
    Case("selection among the estimation",
         lambda: cc.certify(voted(100), voted(), G, "l2"), refused("counts_estimation")),
    Case("a table added to itself", lambda: voted() + voted(), refused("samples", "start=")),
    Case("a sum of one table twice", lambda: sum([voted(), voted()]), refused("samples")),
    Case("a table of another process",
         lambda: pickle.loads(pickle.dumps(voted())) + voted(), refused("samples")),
    Case("a table that overlaps", lambda: voted() + voted(start=999), refused("sample 999")),
    Case("added in place", lambda: np.add((e := voted()), voted(), out=e), refused("samples")),
    Case("tables below each other, added", lambda: np.vstack([voted(), voted(indices=[3, 4, 5])])
         + np.concatenate([voted(), voted(indices=[3, 4, 5])]), refused("samples")),
    Case("counted on", lambda: voted(600) + voted(400, start=600),
         lambda found: np.array_equal(found, voted())),
    Case("a refused sum changes nothing", unchanged, lambda found: np.array_equal(found, voted())),
    Case("summed into zeros", summed, lambda found: np.array_equal(found, voted())),
    Case("counted on in a hundred parts",
         lambda: sum(voted(10, start=10 * i) for i in reversed(range(100))).drawn,
         lambda found: found == voted().drawn),
    Case("counted on by the classifier",
         lambda: SMOOTHED.counts(X, 60, 0) + SMOOTHED.counts(X, 40, 0, start=60),
         lambda found: np.array_equal(found, SMOOTHED.counts(X, 100, 0))),
    Case("added by the classifier", lambda: SMOOTHED.counts(X, 60, 0) + SMOOTHED.counts(X, 40, 0),
         refused("samples")),
    Case("votes under a narrower noise",
         lambda: cc.certify(chosen(), voted(), cc.Gaussian(4, 2.0), "l2"),
         refused("noise", "Gaussian(dim=4, sigma=1.0)")),
    Case("votes under the same noise of another family",
         lambda: cc.certify(chosen(), voted(), cc.L2Noise(4, 1.0), "l2").label, [1, 1, 1]),
    Case("scores under a narrower noise", lambda: soft(scored(), cc.Gaussian(4, 2.0)),
         refused("noise", "Gaussian(dim=4, sigma=1.0)")),
    Case("scores under their own noise", lambda: soft(scored(), G).label, [1, 1, 1]),
    Case("all copies of another splitting",
         lambda: cc.certify_deterministic(split(10), cc.Splitting(4, 0.25, 20)),
         refused("noise", "Splitting(dim=4, scale=0.5, levels=10)")),
    Case("all copies of its own", lambda: cc.certify_deterministic(split(10), SPLITTING).drawn,
         lambda found: found == split(10).drawn),
    Case("joint labels of their own votes",
         lambda: cc.certify_jointly(voted(100), voted(), G, "l2", 0.1, alpha=0.01),
         refused("counts_estimation", "other samples")),
    Case("joint labels under a narrower noise",
         lambda: cc.certify_jointly(chosen(), voted(), cc.Gaussian(4, 2.0), "l2", 0.1, alpha=0.01),
         refused("noise", "Gaussian(dim=4, sigma=1.0)")),
    Case("labels counted under a narrower noise", lambda: labelled(noise=cc.Gaussian(4, 2.0)),
         refused("noise", "Gaussian(dim=4, sigma=1.0)")),
    Case("labels of the samples that bound them", lambda: labelled(
             votes=cc.provenance.counted(np.full((3,), 99), *picked().drawn)),
         refused("votes", "other samples", "'selection'")),
    Case("labels of their own", lambda: labelled(), [1, 1, 1]),
    Case("labels counted in two parts", lambda: voices(60) + voices(40, start=60),
         lambda found: np.array_equal(found, voices()) and found.drawn == voices().drawn),
    Case("labels counted twice", lambda: voices(60) + voices(40), refused("samples", "start=")),
    Case("a stage of labels' own", lambda: voices(stage="selection"),
         refused("stage", error=TypeError)),
    Case("votes that wrap",
         lambda: cc.certify([[1, 1, 1, 1]], [[99, LARGE, LARGE, 3]], G, "l2"),
         refused("counts_estimation", "2^53")),
    Case("votes that wrap, unsigned",
         lambda: cc.certify([[1, 1]], np.array([[2**64 - 1, 101]], np.uint64), G, "l2"),
         refused("counts_estimation", "2^53")),
]  # fmt: skip

SHARED = [
    Case("joined input by input, of one seed",
         lambda: cc.certificates.join_certificates([cc.certify(
             cc.count_votes(first, row[None], G, 2, 100, 0, stage="selection"),
             cc.count_votes(first, row[None], G, 2, 1000, 0), G, "l2") for row in X]),
         refused("parts", "index 0", "indices")),
    Case("joined by the classifier",
         lambda: cc.certificates.join_certificates(
             [SMOOTHED.certify(row[None], 10, 100, 0.01, "l2", 0) for row in X]),
         refused("parts", "index 0")),
    Case("joined, scores", lambda: cc.certificates.join_certificates(
             [SMOOTHED.certify_scores(row[None], 10, 100, 0.01, "l2", 0) for row in X]),
         refused("parts", "index 0")),
    Case("joined, sequential", lambda: cc.certificates.join_certificates(
             [cc.sequential.certify_by(AT, first, row[None], 2, 0) for row in X]),
         refused("parts", "index 0")),
    Case("joined twice",
         lambda: cc.certificates.join_certificates([certified()] * 2), refused("parts")),
    Case("joined of two alphas", lambda: cc.certificates.join_certificates(
             [certified(), replace(certified(), alpha=0.1)]), refused("alpha")),
    Case("joined with runner-ups", lambda: cc.certificates.join_certificates(
             [certified(), cc.certificates.certify_top_k(chosen(), voted(), G, "l2")]),
             refused("of one bound")),
    Case("joined of none", lambda: cc.certificates.join_certificates([]), refused("parts")),
    Case("joined by indices",
         lambda: cc.certificates.join_certificates([SMOOTHED.certify(
             X[i : i + 1], 10, 100, 0.01, "l2", 0, indices=[i]) for i in range(3)]).radius,
         lambda found: np.array_equal(found, SMOOTHED.certify(X, 10, 100, 0.01, "l2", 0).radius)),
    Case("predicted by indices",
         lambda: np.concatenate([SMOOTHED.predict(
             X[i : i + 1], 30, 0.01, 0, indices=[i]) for i in range(3)]),
         lambda found: np.array_equal(found, SMOOTHED.predict(X, 30, 0.01, 0))),
    Case("top k by indices",
         lambda: SMOOTHED.certify_top_k(X[2:], 10, 100, 0.01, "l2", 0, indices=[2]).radius[0],
         lambda found: found == SMOOTHED.certify_top_k(X, 10, 100, 0.01, "l2", 0).radius[2]),
]  # fmt: skip

RUN = Run(
    plan=FixedPlan(100, 50),
    noise=G,
    seed=0,
    batch_size=0,
    num_classes=4,
    model="m",
    model_fingerprint="",
    data="d",
    data_fingerprint="",
    attack="l2",
    alpha=0.01,
)
SCORED = replace(RUN, plan=ScorePlan(10, 2))
LOGGED = replace(RUN, plan=LogPlan(100, 50, "l2", 0.01), num_classes=0)
EVEN = np.array([50, 0, 0, 0])


def kept(run: Run, *votes: Any) -> Any:
    """Votes, or a row of a log, kept by a store and read again."""
    with CountStore("store") as store:
        store.begin("r", run)
        if isinstance(run.plan, LogPlan):
            names = ("index", "label", "predict", "radius", "seconds")
            store.add_logged("r", [Row(**dict(zip(names, votes, strict=True)))])
            return store.logged("r")
        names = ("index", "label", "selection", "estimation", "seconds", "scores")
        store.add("r", Votes(**dict(zip(names, votes, strict=False))))
        return read_run(store, "r")


def stored_as(old: str, new: str) -> Any:
    """The runs of a store whose record says something else."""
    with CountStore("store") as store:
        store.begin("r", replace(RUN, plan=SequentialPlan(AT)))
        record = store.runs()["r"].to_json()
        assert old in record
        store._db.execute("DROP TRIGGER runs_no_update")
        store._db.execute("UPDATE runs SET record = ?", (record.replace(old, new),))
        return store.runs()


def result(**values: Any) -> Result:
    ones = np.array([0, 1])
    legal = {"indices": ones, "labels": ones, "predict": ones, "radius": np.array([0.5, 1.0])}
    return Result(name="r", attack="l2", **{"alpha": 0.01, **legal, **values})


def reported(*lines: str, options: tuple[str, ...] = ()) -> Any:
    Path("log.tsv").write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n" + "".join(lines))
    return cert("report", "log.tsv", "--alpha", "0.001", *options)


ABSENT = [
    Case("accuracy at -1", lambda: result(predict=np.array([1, 0])).accuracy(-1.0),
         refused("radius", "-1")),
    Case("accuracy at nan", lambda: result().accuracy(float("nan")), refused("radius")),
    Case("accuracy with rho 2", lambda: result().accuracy(0.5, 2.0), refused("rho")),
    Case("a negative radius", lambda: result(radius=np.array([-1.0, 1.0])), refused("radius")),
    Case("a radius that is none", lambda: result(radius=np.array([np.nan, 1.0])),
         refused("radius")),
    Case("an alpha of 2", lambda: result(alpha=2.0), refused("alpha")),
    Case("labels of fractions", lambda: result(labels=np.array([0.5, 1.0])), refused("labels")),
    Case("report at -1", lambda: reported("0\t1\t1\t.5\t1\t0:00:01\n", options=("--at=-1",)),
         refused("-1")),
    Case("a log's plan at alpha 2", lambda: LogPlan(100, 50, "l2", 2.0), refused("alpha")),
    Case("a log's plan at alpha nan", lambda: LogPlan(100, 50, "l2", float("nan")),
         refused("alpha")),
    Case("a log's plan of no samples", lambda: LogPlan(0, 50, "l2", 0.01), refused("n0")),
    Case("votes of fractions",
         lambda: kept(RUN, 0, 0, np.array([99.5, 0.5, 0, 0]), EVEN, 0.1),
         refused("selection", error=StoreError)),
    Case("index -1", lambda: kept(RUN, -1, 0, 2 * EVEN, EVEN, 0.1),
         refused("index", error=StoreError)),
    Case("index of a half", lambda: kept(RUN, 0.5, 0, 2 * EVEN, EVEN, 0.1),
         refused("index", error=StoreError)),
    Case("label -1", lambda: kept(RUN, 0, -1, 2 * EVEN, EVEN, 0.1),
         refused("label", error=StoreError)),
    Case("negative votes",
         lambda: kept(RUN, 0, 0, 2 * EVEN, np.array([60, -10, 0, 0]), 0.1),
         refused("estimation", error=StoreError)),
    Case("stored votes that wrap",
         lambda: kept(RUN, 0, 0, 2 * EVEN, np.array([51, LARGE, LARGE, 1]), 0.1),
         refused("estimation", error=StoreError)),
    Case("stored scores that wrap",
         lambda: kept(SCORED, 0, 0, EVEN, np.array([2, LARGE, LARGE, 1]), 0.1, (1, 1)),
         refused("estimation", error=StoreError)),
    Case("time that is none", lambda: kept(RUN, 0, 0, 2 * EVEN, EVEN, float("nan")),
         refused("seconds", error=StoreError)),
    Case("scores of fractions", lambda: kept(SCORED, 0, 0, EVEN, EVEN, 0.1, (0.5, 0.5)),
         refused("scores", error=StoreError)),
    Case("a log's radius -1", lambda: kept(LOGGED, 0, 0, 0, -1.0, 0.1),
         refused("radius", error=StoreError)),
    Case("a log's index -1", lambda: kept(LOGGED, -1, 0, 0, 1.0, 0.1),
         refused("index", error=StoreError)),
    Case("stored radii 9e9", lambda: stored_as('"radii": [0.25, 0.5]', '"radii": [9e9, 1e10]'),
         refused("thresholds", error=StoreError)),
    Case("stored n0 of 2.7", lambda: stored_as('"n0": 100', '"n0": 2.7'),
         refused("n0", error=StoreError)),
    Case("stored seed of text", lambda: stored_as('"seed": 0', '"seed": "0"'),
         refused("seed", error=StoreError)),
    Case("a stored record of nothing", lambda: stored_as(', "seed": 0', ""),
         refused("record", error=StoreError)),
    Case("scores with n0 nan",
         lambda: certify_scores([0], [[0.9]], G, "l2", n0=float("nan")), refused("n0")),
    Case("scores with labels -1",
         lambda: certify_scores([-1], [[0.9]], G, "l2", n0=1), refused("labels", "-1")),
]  # fmt: skip

CUSTOM = cc.CustomNoise(
    1, lambda z: -np.abs(z[:, 0]), lambda n, rng: rng.laplace(size=(n, 1)),
    lambda attack, radius: [radius], True, "Theorem 2 of it",
)  # fmt: skip

ERRORS = [
    Case("radius of sigma 1e20",
         lambda: cert("radius", "--noise", "gaussian", "--dim", "4", "--sigma", "1e20",
                      "--attack", "l2", "--p", "0.9").out.split()[3],
         "128155156554458742784.0000000000"),
    Case("a log of radius 1e25",
         lambda: reported("0\t1\t1\t1e25\t1\t0:00:01\n").out.count("1" + "0" * 25 + "."), 0),
    Case("10**400 as a probability", lambda: cc.certified_radius(10**400, G, "l2"), refused("p")),
    Case("10**400 as a sigma", lambda: cc.Gaussian(4, 10**400), refused("sigma")),
    Case("10**400 as a dim", lambda: cc.Gaussian(10**400, 1.0), refused("dim")),
    Case("p of a fraction above all floats below 1",
         lambda: cc.certified_radius(np.longdouble(1) - np.longdouble(2) ** -63, G, "l2"),
         refused("p", "float64")),
    Case("no noise", lambda: cc.certified_radius(0.9, None, "l2"), refused("noise")),
    Case("a noise without a law",
         lambda: cc.is_tight(cc.CustomNoise(1, abs, abs, abs, True, "a proof of it"), "l2"),
         refused("noise")),
    Case("no plan", lambda: SMOOTHED.outcomes(None, X, 0), refused("plan")),
    Case("no shift", lambda: cc.log_ratio(G, X, None), refused("shift")),
    *(
        Case(f"shapes that do not fit, {words}", act, refused(*words))
        for words, act in (
            (("p_top", "p_other"), lambda: separation_radius([0.9, 0.8], [0.1] * 3, G, "l2")),
            (("p", "radius"), lambda: cc.lower_bound([0.9, 0.8], G, "l2", [0.1] * 3)),
            (("lam", "radius"), lambda: cc.discrepancy([0.9, 0.8], G, "l2", [0.1] * 3)),
            (("k", "n"), lambda: cc.binomial_upper([1, 2], [3] * 3, 0.01)),
            (("mean", "n"), lambda: cc.confidence.chernoff_lower([0.1, 0.2], [3] * 3, 0.01)),
            (("mean", "variance"),
             lambda: cc.confidence.empirical_bernstein_lower([0.1, 0.2], [0.1] * 3, 5, 0.01)),
            (("indices",), lambda: cc.count_votes(first, X, G, 2, 10, 0, indices={0, 1, 2})),
        )
    ),
    Case("a sampler of complex numbers",
         lambda: monte_carlo_radius(0.9, replace(CUSTOM, sampler=lambda n, _: 1j * np.ones(
             (n, 1))), "l1", [0.1], n=10, alpha=0.1, seed=0), refused("sampler")),
    Case("a log density that is masked",
         lambda: monte_carlo_radius(0.9, replace(CUSTOM, log_density=lambda z: np.ma.masked_less(
             -np.abs(z[:, 0]), -1)), "l1", [0.1], n=100, alpha=0.1, seed=0),
         refused("log_density", "masked")),
]  # fmt: skip

CASES = [*ROUNDED, *FORGED, *USED_TWICE, *SHARED, *ABSENT, *ERRORS]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_statement(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case.check()
