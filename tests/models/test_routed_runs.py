"""cert certify --route: through the store, workers, reading, export and proof."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, cert, refused

import cert_core as cc
from cert_models.logs import read_log
from cert_models.store.counts import CountStore
from cert_models.store.readings import read_run
from cert_models.store.runs import FixedPlan, Part, RoutedPlan, Run, SequentialPlan, Votes

MODEL = """
import numpy as np

def classify(batch):
    rows = batch.reshape(len(batch), -1)
    return (rows.sum(axis=1) > 3).astype(int) + (rows.sum(axis=1) > 4)

def soft(batch):
    return np.eye(3)[classify(batch)]

def route(batch):
    return (batch.reshape(len(batch), -1)[:, 0] > 0.5).astype(int)

def torn(batch):
    raise RuntimeError("no such input")
"""
ROUTE = """
[router]
model = "fork:route"
noise = "gaussian"
sigma = 0.25
n = 700

[[branch]]
noise = "l2"
sigma = 0.2
k = 1

[[branch]]
noise = "gaussian"
rms = 0.4
"""
LABELS = """
[router]
labels = [1, 0, 0]
noise = "gaussian"
sigma = 0.25
[[branch]]
noise = "gaussian"
sigma = 0.25
[[branch]]
noise = "gaussian"
sigma = 0.5
"""
TEXT = (
    "certify --data data.npz --model fork:classify --classes 3 --attack l2 --n0 30 --n 600 --quiet "
)
LINE = [*TEXT.split(), "--route", "route.toml"]
X = np.random.default_rng(1).uniform(0, 1, (10, 6)).astype(np.float32)
ROUTER, WEAK = cc.Gaussian(6, 0.25), cc.L2Noise(6, 0.2, 1.0)
STRONG = cc.Gaussian.with_rms(6, 0.4)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fork.py").write_text(MODEL)
    Path("route.toml").write_text(ROUTE)
    sums = X.sum(axis=1)
    np.savez("data.npz", x=X, y=(sums > 3).astype(int) + (sums > 4))


def certified(*words: str) -> Any:
    said = cert(*LINE, *words)
    assert said.status == 0, said.err
    return said


def told(path: str) -> list[Any]:
    return sorted((r.index, r.predict, r.radius, r.extra["branch"]) for r in read_log(path))


SLOW = [
    pytest.param(words, marks=pytest.mark.slow)
    for words in ("--bound runner-up", "--until 0.5", "--sound --quantize")
]


@pytest.mark.parametrize("words", ["", "--shells", "--at 0.01,0.03,0.1", *SLOW])
def test_all_ways_to_the_same_radii(words: str) -> None:
    how = words.split()
    if "shells" in words or "until" in words:  # the former with noises that have shells
        Path("route.toml").write_text(ROUTE.replace("n = 700", ""))
    certified("--out", "alone.tsv", *how)
    certified("--store", "part.db", "--max", "4", *how)
    certified("--store", "part.db", "--out", "resumed.tsv", *how)
    if words in ("", "--until 0.5"):  # a worker takes seconds to begin
        certified("--store", "many.db", "--out", "many.tsv", "--on", "processes:1", *how)
        assert told("many.tsv") == told("alone.tsv")
    bound = how if "--bound" in how else ()
    assert cert("export", "--store", "part.db", "--out", "exported.tsv", *bound).status == 0
    for name in ("resumed", "exported"):
        assert told(f"{name}.tsv") == told("alone.tsv"), name
    rows = told("alone.tsv")
    assert {sent for *_, sent in rows} >= {"-1", "0", "1"} or "sound" in words
    assert any(radius > 0 for _, _, radius, _ in rows)
    assert all(predict == -1 for _, predict, _, sent in rows if sent == "-1")


def classify(batch: Any) -> Any:
    sums = batch.reshape(len(batch), -1).sum(axis=1)
    return (sums > 3).astype(int) + (sums > 4)


def parts(router: Any = None) -> cc.Routed:
    first = cc.Smoothed(router or (lambda batch: (batch[:, 0] > 0.5).astype(int)), ROUTER, 2)
    return cc.Routed(first, [cc.Smoothed(classify, noise, 3) for noise in (WEAK, STRONG)])


def test_it_is_what_python_certifies() -> None:
    Path("route.toml").write_text(ROUTE.replace("n = 700", ""))
    said = certified("--json", "--out", "alone.tsv")
    made = parts().certify(X, 30, 600, 0.001, "l2", 0)
    assert [row[2] for row in told("alone.tsv")] == made.radius.tolist()
    assert [int(row[3]) for row in told("alone.tsv")] == made.branch.tolist()
    values = json.loads(said.out)
    assert values["routed"] == [(made.branch == i).sum() for i in (0, 1)]
    assert values["samples"] == made.samples.mean()
    assert [cc.noise_from_dict(noise) for noise in values["noises"]] == [WEAK, STRONG]


def test_a_classifier_as_its_own_router() -> None:
    Path("route.toml").write_text(LABELS)
    certified("--out", "alone.tsv")
    noises = cc.Gaussian(6, 0.25), cc.Gaussian(6, 0.25), cc.Gaussian(6, 0.5)
    router = cc.Smoothed(lambda batch: np.array([1, 0, 0])[classify(batch)], noises[0], 2)
    made = cc.Routed(router, [cc.Smoothed(classify, noise, 3) for noise in noises[1:]])
    found = made.certify(X, 30, 600, 0.001, "l2", 0)
    assert [row[2] for row in told("alone.tsv")] == found.radius.tolist()
    assert {"0", "1"} <= {row[3] for row in told("alone.tsv")}


def test_a_torch_classifier_as_its_own_router() -> None:
    torch = pytest.importorskip("torch")
    from cert_models.networks.models import routing_by

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(6, 5)).eval()
    batch = torch.randn(500, 6)
    labels = [2, 0, 1, 1, 0]
    said = routing_by(network, labels)(batch).argmax(dim=1)
    assert said.tolist() == [labels[i] for i in network(batch).argmax(dim=1)]
    with pytest.raises(ValueError, match="each of the 5 classes"):
        routing_by(network, [0, 1, 1])(batch)


def test_reports_and_other_readings() -> None:
    certified("--store", "s.db")
    said = cert("report", "s.db", "--html", "page.html")
    assert said.status == 0, said.err
    assert f"routed to {WEAK!r} | {STRONG!r}" in said.out
    assert "routed to" in Path("page.html").read_text()
    assert cert("runs", "s.db").status == 0
    with CountStore("s.db", readonly=True) as store:
        own = read_run(store, "default").certified_by
        strict = read_run(store, "default", alpha=1e-30).certified_by
        loose = read_run(store, "default", alpha=0.3).certified_by
        under = read_run(store, "default", attack="l1").certified_by
    assert isinstance(own, cc.RoutedCertificates)
    assert (strict.radius <= own.radius).all()
    assert ((strict.label == cc.ABSTAIN) == (strict.radius == 0)).all()
    assert ((strict.label == cc.ABSTAIN) & (own.label != cc.ABSTAIN)).any()
    assert (loose.radius >= own.radius).all()
    assert (loose.label[own.branch == cc.ABSTAIN] == cc.ABSTAIN).all()  # no branch was asked
    assert (under.radius[own.radius > 0] > 0).all()
    assert own.n == 1300


def test_merged() -> None:
    certified("--store", "a.db", "--indices", "0-4")
    certified("--store", "b.db", "--indices", "5-9")
    certified("--store", "whole.db", "--out", "whole.tsv")
    assert cert("merge", "--store", "a.db", "b.db").status == 0
    assert cert("export", "--store", "a.db", "--out", "a.tsv").status == 0
    assert told("a.tsv") == told("whole.tsv")


def test_both_sides_are_proved() -> None:
    pytest.importorskip("flint")
    certified("--store", "s.db", "--indices", "2,6,8,9", "--out", "log.tsv")
    said = cert("prove", "--store", "s.db", "--quiet", "--out", "proofs.tsv", "--json")
    assert said.status == 0, said.err
    rows = json.loads(said.out)["rows"]
    certain = sum(row.radius > 0 for row in read_log("log.tsv"))
    assert 0 < certain < len(rows) <= 2 * certain
    assert {row["votes"] != "" for row in rows} == {True}
    said = cert("report", "s.db", "--proved", "proofs.tsv")
    assert f"proved, each of {len(rows)} distinct certificates" in said.out


def replaced(text: str, *pair: str) -> Any:
    assert pair[0] in text
    Path("route.toml").write_text(text.replace(*pair))
    return cert(*LINE)


def continued(*pair: str) -> Any:
    certified("--store", "s.db", "--max", "1")
    Path("route.toml").write_text(ROUTE.replace(*pair))
    return cert(*LINE, "--store", "s.db")


def logged(*words: str) -> Any:
    certified("--out", "e.tsv", "--max", "1")
    noise = "--noise gaussian --sigma 0.25 --dim 6 --attack l2 --alpha 0.001 --n 600"
    return cert(*words, *noise.split())


def audited() -> Any:
    certified("--store", "s.db", "--max", "1")
    return cert("audit", "--store", "s.db", "--data", "data.npz", "--model", "fork:classify")


CASES = [
    Case("no noise", lambda: cert(*TEXT.split()), "--noise must be given: add it, or --route"),
    Case("both", lambda: cert(*LINE, "--noise", "gaussian"), "--noise must not be given with"),
    Case("a scale", lambda: cert(*LINE, "--sigma", "1"), "--sigma must not be given with --route"),
    Case("a task", lambda: cert(*LINE, "--task", "segmentation", "--radius", "1"),
         "--route must come with --task classification"),
    Case("no file", lambda: cert(*TEXT.split(), "--route", "no.toml"), "'no.toml'"),
    Case("no TOML", lambda: cert(*TEXT.split(), "--route", "data.npz"), "--route must be a TOML"),
    Case("a folder", lambda: cert(*TEXT.split(), "--route", "."), "--route"),
    Case("no router", lambda: replaced(ROUTE, "[router]", "[routers]"), "of one [router] and two"),
    Case("one branch", lambda: replaced(ROUTE, '[[branch]]\nnoise = "gaussian"\nrms = 0.4', ""),
         "of one [router] and two or more"),
    Case("a table", lambda: replaced(ROUTE, "[[branch]]", "[branch]"), "--route must be"),
    Case("texts", lambda: replaced("branch = [1, 2]\n" + ROUTE.replace("[[branch]]", "[a]", 1)
         .replace("[[branch]]", "[b]"), "[b]", "[c]"), "of one [router] and two or more"),
    Case("unknown key", lambda: replaced(ROUTE, "rms", "sgima"), "[[branch]] 1 of 'route.toml' must"
         " be keys of a noise or of model"),
    Case("labels of a branch", lambda: replaced(ROUTE, "k = 1", "labels = [0, 1]"), "got 'labels'"),
    Case("dim", lambda: replaced(ROUTE, "k = 1", "dim = 6"), "got 'dim'"),
    Case("no family", lambda: replaced(ROUTE, '"l2"', '"l3"'), "noise in [[branch]] 0 of"),
    Case("no noise there", lambda: replaced(ROUTE, 'noise = "l2"', ""), "must be one of"),
    Case("no scale", lambda: replaced(ROUTE, "rms = 0.4", ""),
         "[[branch]] 1 of 'route.toml': --sigma must be given"),
    Case("text", lambda: replaced(ROUTE, "k = 1", 'k = "1"'), "k in [[branch]] 0 of 'route.toml'"),
    Case("true", lambda: replaced(ROUTE, "n = 700", "n = true"), "n in [router] of 'route.toml'"),
    Case("broken n", lambda: replaced(ROUTE, "n = 700", "n = 7.5"), "must be a int, got 7.5"),
    Case("few", lambda: replaced(ROUTE, "n = 700", "n = 3"), "[router] of 'route.toml': n must be"),
    Case("nan", lambda: replaced(ROUTE, "rms = 0.4", "rms = nan"), "[[branch]] 1 of 'route.toml'"),
    Case("splitting", lambda: replaced(ROUTE, 'noise = "l2"\nsigma = 0.2\nk = 1',
         'noise = "flips"\ncategories = 3\nkeep = 0.8'), "must all be of categories, or none"),
    Case("no such label", lambda: replaced(LABELS, "[1, 0, 0]", "[1, 2, 0]"), "labels must be"),
    Case("idle branch", lambda: replaced(LABELS, "[1, 0, 0]", "[1, 1, 1]"), "all of 0 to 1"),
    Case("few labels", lambda: replaced(LABELS, "[1, 0, 0]", "[1, 0]"), "labels in [0, 2)"),
    Case("texts for labels", lambda: replaced(LABELS, "[1, 0, 0]", '["a"]'), "labels in [router]"),
    Case("no labels", lambda: replaced(LABELS, "labels = [1, 0, 0]", ""), "labels in [0, 2)"),
    Case("no model", lambda: replaced(ROUTE, "fork:route", "fork:nothing"), "fork"),
    Case("a model that fails", lambda: replaced(ROUTE, "fork:route", "fork:torn"), "no such input"),
    Case("other noise", lambda: continued("k = 1", "k = 2"),
         "got plan.branches.0.noise.k 2.0 instead of 1.0"),
    Case("other samples", lambda: continued("n = 700", "n = 800"), "plan.router.plan.n 800"),
    Case("other router", lambda: continued("fork:route", "fork:classify"), "plan.router.model "),
    Case("no routing", lambda: (certified("--store", "s.db", "--max", "1"), cert(*TEXT.split(),
         "--noise", "gaussian", "--sigma", "1", "--store", "s.db"))[1], "plan.kind 'fixed'"),
    Case("import", lambda: logged("import", "e.tsv", "--store", "l.db"), "got those of a routed"),
    Case("prove a log", lambda: logged("prove", "--log", "e.tsv"), "got those of a routed run"),
    Case("audit", audited, "run must be of one noise, got \"the routed run"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_refused(case: Case) -> None:
    refused(case.right).check(case.act)


@pytest.mark.parametrize("seed", range(12))
def test_any_file_is_answered(seed: int) -> None:
    """A few characters of the file changed, lost or doubled: certified, or refused in a line."""
    choose, text = random.Random(seed), list((ROUTE, LABELS)[seed % 2])
    for _ in range(choose.choice([1, 1, 2, 5])):
        place = choose.randrange(len(text))
        text[place] = choose.choice(["", "0", "-", '"', "=", "[", "\n", "9e99", "\0", "é", "]"])
    Path("route.toml").write_text("".join(text))
    said = cert(*LINE, "--max", "1", "--n", "100")
    assert said.status in (0, 2), said
    errors = [line for line in said.err.splitlines() if "error: " in line]
    assert len(errors) == (said.status == 2), said.err
    assert not any("Error: " in line and "model" not in line for line in errors), errors


def part(noise: cc.Noise, plan: Any = None, labels: tuple[int, ...] = ()) -> Part:
    made = FixedPlan(5, 20) if plan is None else plan
    return Part(plan=made, noise=noise, model="m", model_fingerprint="", labels=labels)


PLAN = RoutedPlan(part(ROUTER), (part(WEAK), part(STRONG)))
RUN = Run(
    plan=PLAN, noise=ROUTER, seed=0, batch_size=10, num_classes=3, model="m",
    model_fingerprint="", data="d", data_fingerprint="", attack="l2", alpha=0.01,
)  # fmt: skip


def votes(*estimation: int, **other: Any) -> Votes:
    n, n0 = [np.array(estimation)], np.array([0, 5, 0][: len(estimation)])
    given = {"index": 0, "label": 1, "selection": n0, "estimation": n[0]} | other
    return Votes(**given)


SENT = votes(1, 18, 1, router=votes(2, 18))
NOWHERE = votes(0, 0, 0, selection=np.zeros(3, dtype=np.int64), router=votes(9, 11))


def test_votes_are_kept() -> None:
    with CountStore("t.db") as store:
        store.begin("r", RUN)
        for i, each in enumerate((SENT, NOWHERE)):
            store.add("r", dataclasses.replace(each, index=i))
        assert store.runs()["r"] == RUN
        for kept, given in zip(store.votes("r", RoutedPlan), (SENT, NOWHERE), strict=True):
            assert kept.router is not None
            assert given.router is not None
            for name in ("selection", "estimation"):
                np.testing.assert_array_equal(getattr(kept, name), getattr(given, name))
                mine, theirs = (getattr(each.router, name) for each in (kept, given))
                np.testing.assert_array_equal(mine, theirs)


def test_a_sure_branch_says_nothing_where_its_router_is_not_certified() -> None:
    """At an alpha at which 20 votes of 20 are enough, and 18 are not."""
    with CountStore("t.db") as store:
        store.begin("r", RUN)
        store.add("r", votes(0, 20, 0, router=votes(2, 18)))
        own, strict = (read_run(store, "r", alpha=a).certified_by for a in (0.01, 1e-4))
    assert cc.binomial_lower(20, 20, 0.5e-4) > 0.5 > cc.binomial_lower(18, 20, 0.5e-4)
    assert isinstance(own, cc.RoutedCertificates)
    assert (own.label, own.branch) == (1, 1)
    assert isinstance(strict, cc.RoutedCertificates)
    assert (strict.label, strict.branch, strict.radius) == (cc.ABSTAIN, cc.ABSTAIN, 0.0)


@pytest.mark.parametrize(
    "bad",
    [
        votes(1, 18, 1), dataclasses.replace(SENT, router=votes(2, 19)),
        dataclasses.replace(SENT, router=votes(1, 18, 1)), votes(1, 18, 2, router=votes(2, 18)),
        votes(2, 18, router=votes(2, 18)), dataclasses.replace(SENT, router=SENT),
        dataclasses.replace(SENT, looks=(18,)), dataclasses.replace(NOWHERE, looks=(1,)),
        dataclasses.replace(NOWHERE, estimation=SENT.estimation),
    ],
)  # fmt: skip
def test_votes_that_the_plan_cannot_have_cast(bad: Votes) -> None:
    with CountStore("t.db") as store:
        store.begin("r", RUN)
        with pytest.raises(ValueError, match=" must be "):
            store.add("r", bad)
        with pytest.raises(ValueError, match="router must be absent"):
            FixedPlan(5, 20).check(dataclasses.replace(SENT))


@pytest.mark.parametrize(
    "change",
    [("[2, ", "[3, "), ('"0": 2', '"0": 3'), ("router", "routed"), ("[null]", "[null, 1]")],
)
def test_a_store_that_was_changed(change: tuple[str, str]) -> None:
    with CountStore("t.db") as store:
        store.begin("r", RUN)
        store.add("r", SENT)
    with contextlib.closing(sqlite3.connect("t.db")) as db, db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            db.execute(f"DROP TRIGGER {name}")
        db.execute("UPDATE counts SET path = replace(path, ?, ?)", change)
        changed = db.execute("SELECT path FROM counts").fetchone()[0]
    if change[1] in changed:
        with pytest.raises(ValueError, match=" must be "), CountStore("t.db", readonly=True) as s:
            list(s.votes("r", RoutedPlan))


SEQUENTIAL = SequentialPlan(cc.sequential.plan_at(WEAK, "l2", [0.1], n_max=100, alpha=0.005))
ALL = cc.Splitting(6, 0.5, 10)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RoutedPlan(part(ROUTER), (part(WEAK),)), "branches must be two or more"),
        (lambda: RoutedPlan(part(ROUTER), (part(WEAK), part(WEAK, SEQUENTIAL))), "of one kind"),
        (lambda: RoutedPlan(part(ROUTER), (part(WEAK), part(WEAK, PLAN))), "of parts that sample"),
        (lambda: RoutedPlan(part(ROUTER, labels=(0, 2)), PLAN.branches), "labels must be"),
        (lambda: dataclasses.replace(RUN, noise=WEAK), "noise must be the router's"),
        (lambda: dataclasses.replace(RUN, plan=RoutedPlan(part(ROUTER), (part(WEAK), part(
            ROUTER.scaled([1, 2, 3, 4, 5, 6]))))), "stretched alike"),
    ],
)  # fmt: skip
def test_plans_that_are_none(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
