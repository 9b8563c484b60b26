"""Stretches of a run counted anywhere: by processes, on Ray and Dask, killed and failing; the
same counts, bit by bit."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import cert

import cert_core as cc
from cert_core import executors
from cert_core.executors import Crew, WorkError
from cert_models import tasks
from cert_models.audit import audit_run
from cert_models.data.datasets import Dataset
from cert_models.data.targets import Targets
from cert_models.engines import Processes, Sampler, Stretch, executor_on
from cert_models.networks.models import load_model
from cert_models.run import sampler_of
from cert_models.store.counts import CountStore
from cert_models.store.fingerprints import model_fingerprint
from cert_models.store.runs import (
    AllPlan,
    FixedPlan,
    Plan,
    Run,
    ScorePlan,
    SequentialPlan,
    ShellPlan,
)
from cert_models.tasks import Task

INPUTS = 40
CODE = """
import multiprocessing, os, signal, threading, time
from pathlib import Path
import numpy as np

def predict(batch):
    return (batch.mean(axis=(1, 2)) > 0.5).astype(int) + (batch[:, 0, 0] > 0.9)

def slow(batch):
    time.sleep(0.05)
    return predict(batch)

def known(batch):
    Path(__file__).with_name(f"{os.getpid()}.worker").touch()
    return slow(batch)

def means(batch):
    return np.clip(batch, 0, 1).mean(axis=2)

def pixels(batch):
    return (batch > 0.3).astype(int) + (batch > 0.7)

def scores(batch):
    first = np.clip(batch.mean(axis=(1, 2)), 0, 1)
    return np.stack([first / 2, 1 - first, first / 3], axis=1)

def dies_once(batch):
    try:  # of all processes one alone makes the file
        os.close(os.open("died", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return predict(batch)
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    os.unlink("died")
    return predict(batch)

def fails(batch):
    if multiprocessing.parent_process() is not None:
        raise KeyError("no such layer")
    return predict(batch)
"""
NOISE = cc.Laplace(6, 0.03)
CERTIFY = [
    "certify", "--data", "data.npz", "--noise", "laplace", "--b", "0.03", "--attack", "l1",
    "--classes", "3", "--n0", "20", "--n", "300", "--quiet",
]  # fmt: skip
RULE = cc.sequential.plan_at(NOISE, "l1", [0.01, 0.02], n_max=1000, alpha=0.001, n0=20)
SPLITTING = cc.Splitting(6, 0.5, 4)
SHELLS = tuple(cc.shell_thresholds(NOISE, cc.shells.MASSES).tolist())
PLANS: dict[str, tuple[Plan, dict[str, Any]]] = {
    "fixed": (FixedPlan(20, 3000), {}),
    "sequential": (SequentialPlan(RULE), {}),
    "scores": (ScorePlan(20, 300), {}),
    "shells": (ShellPlan(20, 300, SHELLS), {}),
    "all copies": (AllPlan(SPLITTING.copies or 0), {"noise": SPLITTING, "alpha": 0.0}),
    "lattice": (FixedPlan(20, 300), {"sound": cc.Lattice("1/65536"), "quantized": True}),
}
SMALL = {"num_cpus": 1, "object_store_memory": 80_000_000}  # a node of Ray
TASKS = {
    "median": Task("regression", NOISE, "l1", 0.001, 0.01, 0, 200, share=0.5),
    "mean": Task("regression", NOISE, "l1", 0.001, 0.01, 0, 200),
    "maps": Task("segmentation", NOISE, "l1", 0.001, 0.01, 0, 200, n0=20, num_classes=3),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set and models in a folder of one's own."""
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(INPUTS, 2, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=(x.mean(axis=(1, 2)) > 0.5).astype(int))
    (tmp_path / "spread.py").write_text(CODE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    sys.modules.pop("spread", None)


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    with Processes(2) as pool:
        yield pool


def content(path: str) -> list[Any]:
    """All that the store's only run says, but times."""
    with CountStore(path, readonly=True) as store:
        name = store.only()
        return [told(v) for v in store.votes(name, type(store.runs()[name].plan))]


def told(v: Any) -> tuple[Any, ...]:
    steps = v.looks, v.scores, v.shells, v.failed
    return v.index, v.label, v.selection.tolist(), v.estimation.tolist(), *steps


def run_of(plan: Plan, **more: Any) -> Run:
    about: dict[str, Any] = {
        "noise": NOISE, "seed": 0, "batch_size": 128, "num_classes": 3, "model": "spread",
        "model_fingerprint": "", "data": "data", "data_fingerprint": "", "attack": "l1",
        "alpha": 0.001,
    }  # fmt: skip
    return Run(plan=plan, **(about | more))


def data() -> Dataset:
    with np.load("data.npz") as archive:
        return Dataset("data", archive["x"], archive["y"], 3)


def sampler(plan: Plan, executor: Executor | None, **more: Any) -> Sampler[Any]:
    name: Any = "spread:scores" if isinstance(plan, ScorePlan) else "spread:predict"
    found = data()
    if isinstance(plan, AllPlan):  # of inputs on its levels
        found = replace(found, x=np.round(found.x * SPLITTING.levels) / SPLITTING.levels)
    return sampler_of(name, run_of(plan, **more), found, device=None, executor=executor)


def counted(plan: Plan, executor: Executor | None, **more: Any) -> list[tuple[Any, ...]]:
    """All votes of the data set, in order."""
    return sorted(told(votes) for votes in sampler(plan, executor, **more)(range(INPUTS)))


def certified(task: Task, executor: Executor | None) -> list[tuple[Any, ...]]:
    """What a task says of all inputs, but times."""
    name = "means" if task.kind == "regression" else "pixels"
    sample = tasks.sampler_of(
        f"spread:{name}", task, Targets(data(), None), device=None, executor=executor,
        loading={"num_classes": 3}, batch_size=128,
    )  # fmt: skip
    found = sorted(sample(range(INPUTS)), key=lambda each: each.index)
    assert sample.state()["passes_per_second"] > 0
    return [
        (each.index, each.labels.tolist()) if isinstance(each, tasks.LabelMap)
        else (each.index, each.lower.tolist(), each.upper.tolist())
        for each in found
    ]  # fmt: skip


def smoothed() -> cc.Smoothed:
    import spread  # type: ignore[import-not-found]

    return cc.Smoothed(spread.predict, NOISE, 3, scores=spread.scores, batch_size=64)


def same_everywhere(executor: Executor) -> None:
    """Every plan and every verb, there and here."""
    for name, (plan, more) in PLANS.items():
        assert counted(plan, executor, **more) == counted(plan, None, **more), name
    for name, task in TASKS.items():
        assert certified(task, executor) == certified(task, None), name
    with np.load("data.npz") as archive:
        x = archive["x"][:7]
    here, indices = smoothed(), range(3, 10)
    for verb, arguments in (
        ("counts", (100, 0)), ("probabilities", (100, 0)), ("mean_scores", (100, 0)),
        ("label_scores", ([0, 1, 2, 0, 1, 2, 0], 100, 0)), ("values", (100, 0)),
        ("shell_counts", (100, 0, SHELLS)), ("predict", (100, 0.01, 0)),
        ("selected_labels", (20, 0)), ("label_votes", ([0, 1, 2, 0, 1, 2, 0], 100, 0)),
    ):  # fmt: skip
        one, other = (
            getattr(here, verb)(x, *arguments, indices=indices, **how)
            for how in ({}, {"executor": executor})
        )
        assert np.array_equal(one, other), verb
        assert getattr(one, "drawn", ()) == getattr(other, "drawn", ())
    ranks = here.values(x, 100, 0, indices=indices, ranks=(5, 95))
    assert np.array_equal(
        ranks, here.values(x, 100, 0, indices=indices, ranks=(5, 95), executor=executor)
    )
    for verb, arguments in (
        ("certify", (20, 100, 0.01, "l1", 0)), ("certify_top_k", (20, 100, 0.01, "l1", 0)),
        ("certify_scores", (20, 100, 0.01, "l1", 0)),
        ("certify_shells", (20, 100, 0.01, "l1", 0)), ("certify_at", (0.01, 500, 0.01, "l1", 0)),
        ("certify_until", (0.3, 500, 0.01, "l1", 0)),
    ):  # fmt: skip
        one, other = (
            getattr(here, verb)(x, *arguments, indices=indices, **how)
            for how in ({}, {"executor": executor})
        )
        assert np.array_equal(one.label, other.label), verb
        assert np.array_equal(one.radius, other.radius)
        assert one.drawn == other.drawn


def test_processes_count_as_one(processes: Executor) -> None:
    same_everywhere(processes)


def test_audits_count_on_workers(processes: Executor) -> None:
    """Every kind of run counted here, an input of it wrong; what two processes say of it."""
    for name, (plan, more) in PLANS.items():
        run = run_of(plan, **more)
        with CountStore("audited.db") as store:
            store.begin(name, run)
            for votes in sampler(plan, None, **more)(range(6)):
                store.add(
                    name, replace(votes, label=1 - votes.label) if votes.index == 3 else votes
                )
            found = audit_run(
                store, name, data().y, sampler(plan, processes, **more), share=1.0, seed=0
            )
        assert (found.recounted, found.differences, found.mislabelled) == (found.votes, (), (3,))


def test_threads_count_as_one() -> None:
    with ThreadPoolExecutor(3) as pool:
        same_everywhere(pool)


def test_inputs_are_cut_and_put_together_again() -> None:
    """Three samples a piece, of uneven sizes; also all of them lost once."""
    whole = counted(FixedPlan(20, 3000), None)
    seen: list[tuple[int, int, int | None]] = []

    class Counting(ThreadPoolExecutor):
        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            stretch = args[-1]
            seen.append((stretch.indices[0], stretch.start, stretch.stop))
            if seen.count(seen[-1]) == 1:
                lost: Future[Any] = Future()
                lost.set_exception(RuntimeError("the node is gone"))
                return lost
            return super().submit(function, *args, **kwargs)

    with Counting(2) as pool:
        assert counted(FixedPlan(20, 3000), pool) == whole
    assert {stop for _, _, stop in seen} > {1000, 2000}  # before the speed was known
    assert all(seen.count(each) == 2 for each in seen)


def test_an_empty_call_asks_no_worker() -> None:
    with ThreadPoolExecutor(1) as pool:
        x = np.zeros((0, 2, 3), dtype=np.float32)
        assert smoothed().counts(x, 10, 0, executor=pool).shape == (0, 3)
        assert smoothed().label_scores(x, np.zeros(0, int), 10, 0, executor=pool).shape == (0, 10)


# ---- what goes wrong ----


def work(held: str, number: int) -> Any:
    """What the workers of these tests do."""
    if held == "fails" and number == 3:
        raise KeyError("of its own")
    return held, number


class Made:
    def __init__(self, held: str, weight: int = 0) -> None:
        self.held, self.weight = held, bytes(weight)

    def __call__(self) -> str:
        if self.held == "other weights":
            raise ValueError("model must be the run's model, got other weights: bring it")
        return self.held


def results(held: str, pool: Executor, count: int = 6, weight: int = 0) -> list[int]:
    crew = Crew(pool, Made(held, weight), work, lambda number: f"input {number}")
    return sorted(number for number, answer in crew.results(iter(range(count))))


def test_work_that_fails_three_times_ends_the_run() -> None:
    with ThreadPoolExecutor(3) as pool, pytest.raises(WorkError) as told:
        results("fails", pool)
    text = str(told.value)
    assert text.startswith("input 3 failed ")
    assert "KeyError: 'of its own'" in text
    assert f"{os.uname().nodename}:{os.getpid()}." in text
    assert int(text.split()[3]) >= executors.FAILURES


def test_workers_of_another_model_or_version_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(WorkError, match=r"worker .* cannot be used: model must be the run's"):
            results("other weights", pool)
        answer = executors.perform("0.0.0", "key", None, work, 0)
        assert answer.said == executors.REFUSED
        assert f"it has cert-core {executors.package_version()}, the driver 0.0.0" in answer.value


def test_a_node_with_other_weights_is_refused(processes: Executor) -> None:
    sample = sampler(FixedPlan(20, 300), processes, model_fingerprint="0123")
    with pytest.raises(WorkError, match=r"of fingerprint 0123, got .*: bring 'spread:predict'"):
        list(sample(range(4)))


def test_code_that_was_read_before_it_changed_is_refused() -> None:
    """One that lives on has the code of then, and the file of now, which speaks for it."""
    held = load_model("spread:slow", 3)
    before = model_fingerprint(held, "spread:slow")
    Path("spread.py").write_text(CODE.replace("time.sleep(0.05)", "time.sleep(0.06)"))
    with pytest.raises(ValueError, match=r"holds now, got 'slow' as it was when .* anew"):
        model_fingerprint(held, "spread:slow")
    Path("spread.py").write_text(CODE)
    assert model_fingerprint(held, "spread:slow") == before


def test_one_input_at_fault_is_named() -> None:
    """Of those that are handed out together, by what fails and by what kills."""
    three = Dataset("d", np.zeros((9, 2), np.float32), np.zeros(9, np.int64), 2)
    with (
        ThreadPoolExecutor(2) as pool,
        pytest.raises(WorkError, match=r"^input 4 failed \d+ times"),
    ):
        list(Sampler(Made("any"), votes_but_of_4, three, executor=pool)(range(9)))
    x = np.array([*np.zeros((6, 6)), [9.0] * 6, *np.zeros((30, 6))], np.float32)
    here, places = cc.Smoothed(fails_above_5, NOISE, 2), [*range(10, 16), 5, *range(20, 50)]
    with (
        ThreadPoolExecutor(2) as pool,
        pytest.raises(WorkError, match=r"^input 5 failed \d+ times"),
    ):
        here.label_votes(x, np.zeros(37, int), 9, 0, indices=places, executor=pool)


def votes_but_of_4(held: Any, stretch: Stretch) -> Iterator[Any]:
    if 4 in stretch.indices:
        raise KeyError("no such layer")
    yield from votes_of_none(held, stretch)


def fails_above_5(batch: Any) -> Any:
    if (batch > 5).any():
        raise KeyError("no such layer")
    return np.zeros(len(batch), int)


def test_what_is_large_travels_only_to_those_who_lack_it() -> None:
    sent: list[bool] = []

    class Watched(ThreadPoolExecutor):
        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            sent.append(args[2] is not None)
            return super().submit(function, *args, **kwargs)

    with Watched(1) as pool:
        assert results("large", pool, 200, executors.SMALL) == list(range(200))
    assert 1 <= sum(sent) <= executors.AHEAD


def test_a_broken_executor_is_told() -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(WorkError, match="executor must be one that works, got"):
        results("any", pool)
    with pytest.raises(ValueError, match=r"executor must be one of concurrent\.futures, got 'two'"):
        smoothed().counts(np.zeros((1, 2, 3), np.float32), 1, 0, executor="two")  # type: ignore[arg-type]


def test_work_whose_workers_always_die_ends_the_run() -> None:
    class Deadly(Executor):
        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            lost: Future[Any] = Future()
            lost.set_exception(RuntimeError("killed"))
            return lost

    with pytest.raises(WorkError, match=r"input \d must be counted by a worker that lives"):
        results("any", Deadly())


def test_few_calls_are_under_way_and_memory_is_flat() -> None:
    """Inputs handed out to workers that answer at once."""
    under_way = [0, 0]

    class AtOnce(Executor):
        _max_workers = 4

        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            under_way[0] += 1
            under_way[1] = max(under_way)
            done: Future[Any] = Future()
            done.set_result(function(*args, **kwargs))
            return done

    taken = iter(range(10_000))
    crew, peaks = Crew(AtOnce(), Made("any"), work), []
    tracemalloc.start()
    for number, _ in crew.results(taken):
        under_way[0] -= 1
        if number % 1_000 == 999:
            peaks.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert under_way[1] <= 4 * executors.AHEAD
    assert next(taken, None) is None
    assert max(peaks) - peaks[0] < 20_000  # bytes


def test_processes_take_the_devices_in_turn_and_end_with_the_driver() -> None:
    with Processes(2, ["3", "GPU-5"]) as pool:
        for future in [pool.submit(time.sleep, 0.2) for _ in range(8)]:
            future.result()
        found = {pool.submit(os.getenv, "CUDA_VISIBLE_DEVICES").result() for _ in range(20)}
        assert found <= {"3", "GPU-5"}
        number = pool.submit(os.getpid).result()
        stuck = pool.submit(time.sleep, 100)
        begun = time.monotonic()
        pool.shutdown(wait=False)
        with contextlib.suppress(Exception):
            stuck.result(timeout=20)
        while number in [child.pid for child in multiprocessing.active_children()]:
            time.sleep(0.05)
            assert time.monotonic() - begun < 20


def test_progress_tells_of_the_workers() -> None:
    three = Dataset("d", np.zeros((3, 2), np.float32), np.zeros(3, np.int64), 2)
    with ThreadPoolExecutor(2) as pool:
        sample = Sampler(Made("any"), votes_of_none, three, executor=pool)
        assert len(list(sample(range(3)))) == 3
        assert 1 <= sample.state()["workers"] <= 2
    assert sample.state()["passes_per_second"] > 0


def votes_of_none(held: Any, stretch: Stretch) -> Iterator[Any]:
    for index, label, _ in stretch.inputs():
        counts = np.array([5, 0])
        yield cc.votes.Votes(index=index, label=label, selection=counts, estimation=counts)


# ---- the command ----


def test_a_worker_killed_by_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool is made again; the counts are those of one process, and nothing is told twice."""
    command = [*CERTIFY, "--model", "spread:dies_once", "--store"]
    on = ["--on", "processes:2", "--out", "two.tsv"]
    assert cert(*command, "two.db", *on).status == 0
    assert Path("died").exists()
    assert cert(*command, "one.db").status == 0
    assert content("two.db") == content("one.db")
    assert len(content("one.db")) == INPUTS
    assert len(Path("two.tsv").read_text(encoding="utf-8").splitlines()) == INPUTS + 1


def test_a_model_that_fails_on_workers_is_named() -> None:
    answer = cert(*CERTIFY, "--model", "spread:fails", "--store", "s.db", "--on", "processes:1")
    assert answer.status == 2
    assert "failed 3 times, last on worker" in answer.err
    assert "KeyError: 'no such layer'" in answer.err
    assert "spread.py:" in answer.err


def begin(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cert_models.cli", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def wait_for(store: str, inputs: int) -> None:
    for _ in range(1800):
        if Path(store).exists() and len(done(store)) >= inputs:
            return
        time.sleep(0.1)
    raise AssertionError(f"{store} has {len(done(store))} inputs after three minutes")


def done(store: str) -> list[int]:
    with CountStore(store, readonly=True) as held:
        return [index for name in held.runs() for index in held.indices(name)]


@pytest.mark.slow
def test_the_driver_killed_and_interrupted() -> None:
    """SIGKILL: its processes end with it; Ctrl-C: it says how to go on.  Then to the end."""
    command = [*CERTIFY, "--model", "spread:slow", "--store", "s.db", "--on", "processes:2"]
    command += ["--batch-size", "100"]
    first = begin(*command)
    wait_for("s.db", 3)
    first.kill()
    first.communicate(timeout=20)  # ends only when the last of its processes has
    before = len(done("s.db"))
    second = begin(*command)
    wait_for("s.db", before + 3)
    os.killpg(second.pid, signal.SIGINT)  # as a terminal does, to all of its processes
    begun = time.monotonic()
    _, err = second.communicate(timeout=20)
    assert time.monotonic() - begun < 10
    assert second.returncode == 130
    kept = len(done("s.db"))
    assert before < kept < INPUTS
    assert f"interrupted: {kept} of {INPUTS} inputs are kept in" in err
    assert "Traceback" not in err
    assert cert(*command).status == 0
    assert cert(*command[:-4], "--batch-size", "100", "--store", "one.db").status == 0
    assert content("s.db") == content("one.db")
    assert len(content("one.db")) == INPUTS


@pytest.mark.slow
def test_an_audit_counts_on_workers() -> None:
    assert cert(*CERTIFY, "--model", "spread:predict", "--store", "s.db").status == 0
    audit = ["audit", "--store", "s.db", "--data", "data.npz", "--model", "spread:predict"]
    answer = cert(
        *audit, "--classes", "3", "--share", "1", "--on", "processes:2", "--quiet", "--json"
    )
    assert json.loads(answer.out)["passed"]


@pytest.mark.slow
def test_a_task_of_the_command_counts_on_workers() -> None:
    told = []
    np.savez("x.npz", x=data().x)  # without targets
    command = [*CERTIFY[:9], "--data", "x.npz", "--task", "regression", "--radius", "0.001"]
    for more in ((), ("--on", "processes:2")):
        answer = cert(
            *command, "--model", "spread:means", "--quiet", "--out", f"{len(more)}.tsv", *more,
        )  # fmt: skip
        assert answer.status == 0, answer.err
        _, _, *lines = Path(f"{len(more)}.tsv").read_text(encoding="utf-8").splitlines()
        told.append(sorted(line.split("\t")[:4] for line in lines))
    assert told[0] == told[1]
    assert len(told[0]) == INPUTS


@pytest.mark.slow
def test_dask_counts_as_one() -> None:
    distributed = pytest.importorskip("distributed", reason="needs the extra dask")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as there,
        executor_on(f"dask:{there.scheduler_address}") as executor,
    ):
        assert executor is not None
        same_everywhere(executor)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one core, on Ray."""
    pytest.importorskip("ray", reason="needs the extra ray")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else last of all that runs here
    from ray.cluster_utils import Cluster

    made = Cluster()
    for _ in range(2):
        made.add_node(**SMALL)
    yield made
    made.shutdown()


def lose_a_node(cluster: Any) -> None:
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_counts_as_one_though_nodes_come_and_go(cluster: Any) -> None:
    """One is lost while it counts, another joins."""
    with executor_on(f"ray:{cluster.address}") as executor:
        assert executor is not None
        same_everywhere(executor)
    command = [*CERTIFY, "--model", "spread:slow", "--batch-size", "100", "--store"]
    kept = []

    def change() -> None:
        wait_for("ray.db", 3)
        kept.append(len(done("ray.db")))
        lose_a_node(cluster)
        cluster.add_node(**SMALL)

    changing = threading.Thread(target=change)
    changing.start()
    assert cert(*command, "ray.db", "--on", f"ray:{cluster.address}").status == 0
    changing.join()
    assert 3 <= kept[0] < INPUTS  # it fell into the work
    assert cert(*command, "one.db").status == 0
    assert content("ray.db") == content("one.db")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_worker_a_node_and_the_driver_lost_in_one_run(cluster: Any) -> None:
    """In turn, each after a further stretch was kept.  The same command ends the run on what is
    left, and on a node that joins it."""
    inputs = 3 * INPUTS
    x = np.random.default_rng(1).uniform(size=(inputs, 2, 3)).astype(np.float32)
    np.savez("data.npz", x=x, y=(x.mean(axis=(1, 2)) > 0.5).astype(int))
    assert cert(*CERTIFY, "--model", "spread:predict", "--store", "one.db").status == 0
    command = [*CERTIFY, "--model", "spread:known", "--batch-size", "100", "--store", "ray.db"]
    command += ["--out", "ray.tsv", "--on", f"ray:{cluster.address}"]
    kept: list[int] = []

    def goes_on() -> None:
        wait_for("ray.db", kept[-1] + 1 if kept else 3)
        kept.append(len(done("ray.db")))

    first = begin(*command)
    goes_on()
    os.kill(next(number for number in counting() if number != first.pid), signal.SIGKILL)
    goes_on()
    lose_a_node(cluster)
    goes_on()
    first.kill()
    first.communicate(timeout=60)
    kept.append(len(done("ray.db")))
    second = begin(*command)
    goes_on()
    cluster.add_node(**SMALL)
    _, err = second.communicate(timeout=100)
    assert second.returncode == 0, err
    assert kept[-1] < inputs  # all of it fell into the work
    assert content("ray.db") == content("one.db")
    _, *lines = Path("ray.tsv").read_text(encoding="utf-8").splitlines()
    assert sorted(int(line.split("\t")[0]) for line in lines) == list(range(inputs))
    with CountStore("ray.db", readonly=True) as store:
        assert len(store.starts(store.only())) == 2


def counting() -> list[int]:
    """The processes that have asked `known`, and live; the driver asks it as well."""
    found = [int(path.stem) for path in Path().glob("*.worker")]
    return [number for number in found if Path(f"/proc/{number}").exists()]
