"""Audits of what is no run, with what is not its model or data, or with forged counts."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, Said, cert, refused

import cert_core as cc
from cert_models.audit import audit_run, draw_inputs, wrong_at_most
from cert_models.counts import CountStore
from cert_models.datasets import Dataset, load
from cert_models.fingerprints import data_fingerprint, model_fingerprint
from cert_models.logs import Row
from cert_models.plans import FixedPlan, LogPlan, Plan, Run, ScorePlan, SequentialPlan
from cert_models.run import sampler_of

NOISE = cc.Gaussian(4, 0.2)
FIXED, SCORES = FixedPlan(5, 40), ScorePlan(5, 40)
TEST = cc.plan_at(NOISE, "l2", [0.05], n_max=80, alpha=0.1, n0=5, first=20, ratio=2)
HERE = "test_hostile_audit"
DATA = Path("data.npz")


def labels(batch: Any) -> Any:
    return (batch.sum(axis=1) > 2).astype(int)


def other(batch: Any) -> Any:
    return (batch.sum(axis=1) > 1).astype(int)


def scores(batch: Any) -> Any:
    share = batch.mean(axis=1).clip(0, 1)
    return np.stack([1 - share, share], axis=1)


def write_data(name: str = "data.npz", inputs: int = 6, **more: Any) -> None:
    x = np.random.default_rng(0).uniform(size=(inputs, 4)).astype(np.float32)
    np.savez(name, **({"x": x, "y": np.arange(inputs) % 2} | more))


def fragile(batch: Any) -> Any:
    """Labels, until something outside of it breaks."""
    return np.full(len(batch), 7) if Path("broken").exists() else labels(batch)


def run_of(plan: Plan, model: str, data: Dataset, **changed: Any) -> Run:
    run = Run(
        plan, NOISE, seed=0, batch_size=64, num_classes=2, model=f"{HERE}:{model}",
        model_fingerprint=model_fingerprint(globals()[model], f"{HERE}:{model}"), data="data.npz",
        data_fingerprint=data_fingerprint(data), attack="l2", alpha=0.1,
    )  # fmt: skip
    return dataclasses.replace(run, **changed)


def make(plan: Plan = FIXED, model: str = "labels", name: str = "a", **changed: Any) -> None:
    """A store of a run of six inputs, counted rightly."""
    write_data()
    data = load("data.npz")
    run = run_of(plan, model, data, **changed)
    sample = sampler_of(globals()[model], run_of(plan, model, data), data, device=None)
    with CountStore("s.db") as store, store.transaction():
        store.begin(name, run)
        for votes in sample(range(6)):
            store.add(name, votes)


def forge(statement: str) -> None:
    db = sqlite3.connect("s.db")
    triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        db.execute(f"DROP TRIGGER {name}")
    db.execute(statement)
    db.execute("UPDATE counts SET digest = NULL")  # as of a store written before rows had one
    for _, sql in triggers:
        db.execute(sql)
    db.commit()
    db.close()


def audit(*more: str, model: str = "labels", data: str = "data.npz") -> Said:
    before = Path("s.db").read_bytes() if Path("s.db").is_file() else b""
    said = cert(
        "audit", "--store", "s.db", "--data", data, "--model", f"{HERE}:{model}", "--quiet", *more
    )
    assert not before or Path("s.db").read_bytes() == before
    return said


def audited(
    *more: str, plan: Plan = FIXED, model: str = "labels", given: str = "", **changed: Any
) -> Callable[[], Said]:
    """The audit of a run, by the model given instead of its own."""

    def act() -> Said:
        make(plan, model, **changed)
        return audit(*more, model=given or model)

    return act


def forged(statement: str, *more: str, plan: Plan = FIXED, model: str = "labels") -> Any:
    def act() -> Said:
        make(plan, model)
        forge(statement)
        return audit("--share", "1", *more, model=model)

    return act


def other_data(**more: Any) -> Callable[[], Said]:
    def act() -> Said:
        make()
        write_data("other.npz", **more)
        return audit(data="other.npz")

    return act


def of_two_runs(*more: str) -> Said:
    make()
    make(name="b", seed=1)
    return audit(*more)


def of_a_log() -> Said:
    write_data()
    data = load("data.npz")
    with CountStore("s.db") as store:
        store.begin("published", run_of(LogPlan(5, 40, "l2", 0.1), "labels", data, num_classes=0))
        store.add_logged("published", [Row(0, 0, 0, 0.1, 0.0)])
    return audit()


def of_no_input() -> Said:
    write_data()
    with CountStore("s.db") as store:
        store.begin("empty", run_of(FIXED, "labels", load("data.npz")))
    return audit()


def of_no_store(content: bytes | None) -> Callable[[], Said]:
    def act() -> Said:
        write_data()
        if content is not None:
            Path("s.db").write_bytes(content)
        return audit()

    return act


def says(status: int, **values: Any) -> Callable[[Said], bool]:
    """Whether the command ended so, and said these values as JSON."""

    def test(said: Said) -> bool:
        found = json.loads(said.out)
        return said.status == status and all(found[key] == value for key, value in values.items())

    return test


OPTIONS = [
    *(Case(f"--share {v}", audited("--share", v), refused("share must be a number in (0, 1]"))
      for v in ("0", "-0.1", "1.01", "nan", "inf")),
    *(Case(f"--confidence {v}", audited("--confidence", v), refused("confidence must be a number"))
      for v in ("0", "1", "-1", "95", "nan")),
    *(Case(f"{option} {v}", audited(option, v), refused(f"{option[2:]} must be", v))
      for option, v in (("--allow", "-1"), ("--max", "0"), ("--max", "-3"), ("--seed", "-1"))),
    Case("a share that rounds to nothing", audited("--share", "1e-300", "--json"),
         says(0, recounted=45)),
    Case("a long confidence", audited("--share", "0.5", "--confidence", "0.9999999999999999",
         "--json"), says(0, wrong_at_most=3)),
    Case("a huge seed", audited("--seed", str(10**40), "--json"), says(0, seed=10**40)),
    Case("more than all", audited("--share", "1", "--max", "1000", "--json"),
         says(0, drawn=list(range(6)))),
    Case("arch of a function", audited("--arch", "resnet50"), refused("arch must not be given")),
    Case("channels of a function", audited("--channels-last"), refused("channels_last")),
    Case("compiling a function", audited("--compile"), refused("compiled")),
    Case("classes that are not the run's", audited("--classes", "3"),
         refused("model and data must be those of the run", "num_classes 3 instead of 2")),
    Case("all that differs allowed: nothing is said of the votes",
         forged("UPDATE runs SET record = replace(record, '0.2', '2.0')", "--allow", "1000",
                "--json"), says(0, wrong=[], wrong_at_most=0)),
    Case("all that differs allowed, unseen votes",
         audited("--allow", "1000", "--share", "1", "--max", "2", "--json"),
         says(0, votes=270, wrong_votes_at_most=180)),
]  # fmt: skip

STORES = [
    Case("no file", of_no_store(None), refused("store must be an existing file")),
    Case("an empty file", of_no_store(b""), refused("an empty file")),
    Case("a text", of_no_store(b"idx\tlabel\tpredict\n" * 20), refused("a count store")),
    Case("a log", of_a_log, refused("run must be one of counts", "published log 'published'")),
    Case("no input", of_no_input, refused("run must be of one input at least", "'empty'")),
    Case("two runs, none named", lambda: of_two_runs(), refused("('a', 'b')", "name one")),
    Case("two runs, another named", lambda: of_two_runs("--run", "c"), refused("got 'c'")),
    Case("two runs, the right one", lambda: of_two_runs("--run", "a").status, 0),
    Case("two runs, that of another seed", lambda: of_two_runs("--run", "b", "--share", "1").status,
         1),
]  # fmt: skip

SOURCES = [
    Case("another function of the module", audited(given="other"),
         refused("model and data must be those of the run", "other' instead of", "labels'")),
    Case("another function's counts", audited(given="labels", model_fingerprint="0" * 32),
         refused("model_fingerprint", "instead of '000")),
    Case("no fingerprint of the model", audited(model_fingerprint=""),
         refused("model_fingerprint", "instead of ''")),
    Case("no fingerprint of the data", audited(data_fingerprint=""),
         refused("data_fingerprint", "instead of ''")),
    Case("a value of the data", other_data(x=np.zeros((6, 4), np.float32)),
         refused("data_fingerprint")),
    Case("a label of the data", other_data(y=np.array([0, 1, 0, 1, 0, 0])),
         refused("data_fingerprint")),
    Case("fewer data", other_data(inputs=5), refused("data_fingerprint")),
    Case("data of another shape", other_data(x=np.zeros((6, 2, 2), np.float32)),
         refused("data_fingerprint")),
    Case("no data", lambda: (make(), audit(data="none.npz"))[1], refused("none.npz")),
    Case("no such model", audited(given="nothing"), refused("nothing")),
    Case("no function", audited(given="FIXED"), refused("model must be")),
    Case("a precision that a function cannot have", audited(
        model_fingerprint=model_fingerprint(labels, f"{HERE}:labels", "bfloat16")),
         refused("autocast must not be given for a function")),
]  # fmt: skip

LABELS = "UPDATE counts SET label = 1 - label"
FORGED = [
    Case("an input beyond the data", forged("UPDATE counts SET idx = 6 WHERE idx = 5"),
         refused("run must be of the 6 inputs of the data", "input 6")),
    Case("an input before the data", forged("UPDATE counts SET idx = -1 WHERE idx = 5"),
         refused("index")),
    Case("an input moved", lambda: (
        make(), forge("DELETE FROM counts WHERE idx = 0"),
        forge("UPDATE counts SET idx = 0 WHERE idx = 3"), audit("--share", "1", "--json"))[-1],
         lambda said: said.status == 1 and json.loads(said.out)["mislabelled"] == [0]),
    Case("more votes than were drawn",
         forged("UPDATE counts SET estimation = '{\"0\": 41}' WHERE idx = 2"),
         refused("estimation must be votes that sum to 40")),
    Case("a class that is none", forged("UPDATE counts SET estimation = '{\"2\": 40}'"),
         refused("class")),
    Case("no JSON", forged("UPDATE counts SET estimation = 'x'"), refused("s.db")),
    Case("a path of a run of fixed n", forged("UPDATE counts SET path = '[3]'"), refused("path")),
    Case("no path", forged("UPDATE counts SET path = NULL", plan=SequentialPlan(TEST)),
         refused("path")),
    Case("no scores", forged("UPDATE counts SET path = '[1, 2]'", plan=SCORES, model="scores"),
         refused("path")),
    Case("true classes", forged(LABELS, "--json"),
         says(1, mislabelled=list(range(6)), wrong=[], wrong_at_most=0)),
    Case("true classes, one input counted again", forged(LABELS, "--max", "1", "--json"),
         says(1, mislabelled=list(range(6)), wrong=[])),
    Case("whole counts", forged("UPDATE counts SET selection = '{\"0\": 2, \"1\": 3}', "
         "estimation = '{\"0\": 20, \"1\": 20}'", "--json"),
         lambda said: said.status == 1 and len(json.loads(said.out)["wrong"]) >= 4),
    Case("another time taken", forged("UPDATE counts SET seconds = 99", "--json"), says(0)),
    Case("a sequential run", audited("--share", "1", "--json", plan=SequentialPlan(TEST)),
         says(0, differences=[])),
    Case("a run of scores", audited("--share", "1", "--json", plan=SCORES, model="scores"),
         says(0, votes=270, differences=[])),
    Case("no noise of the data's size", forged("UPDATE runs SET record = "
         "replace(record, '\"dim\": 4', '\"dim\": 5')"), refused("noise.dim = 5")),
]  # fmt: skip

ARGUMENTS = [
    *(Case(f"wrong_at_most{arguments}", lambda arguments=arguments: wrong_at_most(*arguments),
           refused(word))
      for word, arguments in (
          ("inputs", (0, 1, 0, 0.95)), ("drawn", (5, 0, 0, 0.95)), ("drawn", (5, 6, 0, 0.95)),
          ("wrong", (5, 2, 3, 0.95)), ("wrong", (5, 2, -1, 0.95)), ("wrong", (5, 2, 0.5, 0.95)),
          ("confidence", (5, 2, 0, 1.0)), ("confidence", (5, 2, 0, None)),
      )),
    Case("NumPy's integers", lambda: wrong_at_most(*np.array([50, 10, 1]), np.float64(0.95)),
         wrong_at_most(50, 10, 1, 0.95)),
    Case("one input", lambda: draw_inputs([7], 1, 0), [7]),
]  # fmt: skip


@pytest.mark.parametrize("case", OPTIONS + STORES + SOURCES + FORGED + ARGUMENTS, ids=str)
def test_audit(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case.check()


def test_a_model_that_fails_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels out of range, from the function of the run."""
    monkeypatch.chdir(tmp_path)
    make(model="fragile")
    Path("broken").touch()
    refused("predict(batch) must be labels in [0, 2)").check(lambda: audit(model="fragile"))


def test_a_run_that_grows_meanwhile_is_audited_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_data()
    data = load("data.npz")
    run = run_of(FIXED, "labels", data)
    sample = sampler_of(labels, run, data, device=None)
    with CountStore("s.db") as writer, CountStore("s.db", readonly=True) as reader:
        writer.begin("a", run)
        for votes in sample(range(3)):
            writer.add("a", votes)

        def growing(drawn: Any) -> Any:
            for index, votes in zip(range(3, 6), sample(drawn), strict=True):
                writer.add("a", next(iter(sample([index]))))
                yield votes

        found = audit_run(reader, "a", data.y, growing, share=1.0, seed=0)
    assert (found.inputs, found.drawn, found.passed) == (3, (0, 1, 2), True)
