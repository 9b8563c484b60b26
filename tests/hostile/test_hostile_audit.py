"""Audits of what is no run, with what is not its model or data, or with forged counts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, Said, cert, refused

import cert_core as cc
from cert_models.audit import audit_run, draw_inputs, wrong_at_most
from cert_models.data.datasets import Dataset, load
from cert_models.logs import Row
from cert_models.run import sampler_of
from cert_models.store.counts import CountStore
from cert_models.store.fingerprints import data_fingerprint, model_fingerprint
from cert_models.store.runs import FixedPlan, LogPlan, Plan, Run, ScorePlan, SequentialPlan, Votes

NOISE = cc.Gaussian(4, 0.2)
FIXED, SCORES = FixedPlan(5, 40), ScorePlan(5, 40)
TEST = cc.sequential.plan_at(NOISE, "l2", [0.05], n_max=80, alpha=0.1, n0=5, first=20, ratio=2)
HERE = "test_hostile_audit"
DATA = Path("data.npz")


def labels(batch: Any) -> Any:
    return (batch.sum(axis=1) > 2).astype(int)


def other(batch: Any) -> Any:
    return (batch.sum(axis=1) > 1).astype(int)


def failing(batch: Any) -> Any:
    return np.full(len(batch), 7)


def scores(batch: Any) -> Any:
    share = batch.mean(axis=1).clip(0, 1)
    return np.stack([1 - share, share], axis=1)


def write_data(name: str = "data.npz", inputs: int = 6, **more: Any) -> None:
    x = np.random.default_rng(0).uniform(size=(inputs, 4)).astype(np.float32)
    np.savez(name, **({"x": x, "y": np.arange(inputs) % 2} | more))


def run_of(plan: Plan, model: str, data: Dataset, **changed: Any) -> Run:
    run = Run(
        plan=plan, noise=NOISE, seed=0, batch_size=64, num_classes=2, model=f"{HERE}:{model}",
        model_fingerprint=model_fingerprint(globals()[model], f"{HERE}:{model}"), data="data.npz",
        data_fingerprint=data_fingerprint(data), attack="l2", alpha=0.1,
    )  # fmt: skip
    return dataclasses.replace(run, **changed)


def as_counted(votes: Votes) -> Votes | None:
    return votes


def make(
    plan: Plan = FIXED,
    model: str = "labels",
    name: str = "a",
    by: str = "",
    change: Callable[[Votes], Votes | None] = as_counted,
    **changed: Any,
) -> None:
    """A store of a run of six inputs, counted rightly (by another model), then changed."""
    write_data()
    data = load("data.npz")
    run = run_of(plan, model, data)
    sample = sampler_of(globals()[by or model], run, data, device=None)
    with CountStore("s.db") as store, store.transaction():
        store.begin(name, dataclasses.replace(run, **changed))
        for votes in map(change, sample(range(6))):
            if votes is not None:
                store.add(name, votes)


def audit(*more: str, model: str = "labels", data: str = "data.npz") -> Said:
    before = Path("s.db").read_bytes() if Path("s.db").is_file() else b""
    said = cert(
        "audit", "--store", "s.db", "--data", data, "--model", f"{HERE}:{model}", "--quiet", *more
    )
    assert not before or Path("s.db").read_bytes() == before
    return said


def audited(*more: str, model: str = "labels", given: str = "", **how: Any) -> Callable[[], Said]:
    """The audit of a run, by the model given instead of its own."""

    def act() -> Said:
        make(model=model, **how)
        return audit(*more, model=given or model)

    return act


def forged(*more: str, **fields: Any) -> Callable[[], Said]:
    """The audit of all inputs, whose votes have other fields than were counted."""

    def change(votes: Votes) -> Votes:
        return dataclasses.replace(votes, **fields)

    return audited("--share", "1", *more, change=change)


def misplaced(votes: Votes) -> Votes | None:
    """Input 3 in the place of input 0."""
    if votes.index == 0:
        return None
    return dataclasses.replace(votes, index=0) if votes.index == 3 else votes


def beyond(votes: Votes) -> Votes:
    return dataclasses.replace(votes, index=6) if votes.index == 5 else votes


def mislabelled(votes: Votes) -> Votes:
    return dataclasses.replace(votes, label=1 - votes.label)


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
        store.add_logged("published", [Row(index=0, label=0, predict=0, radius=0.1, seconds=0.0)])
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
         audited("--share", "1", "--allow", "1000", "--json", noise=cc.Gaussian(4, 2.0)),
         says(0, wrong=[], wrong_at_most=0)),
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

FORGED = [
    Case("an input beyond the data", audited(change=beyond),
         refused("run must be of the 6 inputs of the data", "input 6")),
    Case("an input in the place of another", audited("--share", "1", "--json", change=misplaced),
         says(1, mislabelled=[0], inputs=5)),
    Case("true classes", audited("--share", "1", "--json", change=mislabelled),
         says(1, mislabelled=list(range(6)), wrong=[], wrong_at_most=0)),
    Case("true classes, one input counted again", audited("--json", change=mislabelled),
         says(1, mislabelled=list(range(6)), wrong=[], recounted=45)),
    Case("whole counts",
         forged("--json", selection=np.array([2, 3]), estimation=np.array([20, 20])),
         lambda said: said.status == 1 and len(json.loads(said.out)["wrong"]) >= 4),
    Case("another time taken", forged("--json", seconds=99.0), says(0, differences=[])),
    Case("a sequential run", audited("--share", "1", "--json", plan=SequentialPlan(TEST)),
         says(0, differences=[])),
    Case("a run of scores", audited("--share", "1", "--json", plan=SCORES, model="scores"),
         says(0, votes=270, differences=[])),
    Case("a noise that is not of the data's size", audited(noise=cc.Gaussian(5, 0.2)),
         refused("noise.dim = 5")),
    Case("a model that fails", audited(model="failing", by="labels"),
         refused("predict(batch) must be labels in [0, 2)")),
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
