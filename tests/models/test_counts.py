"""The count store: what it keeps, what it refuses, and what survives."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cert_core as cc
from cert_models.logs import Row
from cert_models.store.counts import CountStore, MemoryStore
from cert_models.store.readings import probability_of_radius, read_run
from cert_models.store.runs import FixedPlan, LogPlan, Run, SequentialPlan, Votes
from cert_models.store.storage import StoreError

NOISE = cc.L2Noise(64, 0.5, 8.0)
RUN = Run(
    plan=FixedPlan(10, 200), noise=NOISE, seed=3, batch_size=100, num_classes=4,
    model="net", model_fingerprint="m", data="digits", data_fingerprint="d",
    attack="l2", alpha=0.001,
)  # fmt: skip
TEST = cc.sequential.plan_at(
    NOISE, "l2", [0.01, 0.05], n_max=200, alpha=0.001, n0=10, first=50, ratio=2
)
SEQUENTIAL = SequentialPlan(TEST)
LOGGED = LogPlan(100, 1000, "l2", 0.001)


def votes_of(index: int, n0: int = 10, n: int = 200) -> Votes:
    """Votes that depend on the index alone."""
    rng = np.random.default_rng(index)
    share = rng.dirichlet([5.0, 1.0, 0.2, 0.2])
    return Votes(
        index=index,
        label=index % 4,
        selection=rng.multinomial(n0, share),
        estimation=rng.multinomial(n, share),
        seconds=0.5,
    )


def path_of(index: int, looks: int) -> Votes:
    """Votes of a sequential run that stopped at one of the looks."""
    votes = votes_of(index, n=TEST.looks[looks - 1])
    top = int(votes.estimation[votes.selection.argmax()])
    return dataclasses.replace(votes, looks=tuple(top * (i + 1) // looks for i in range(looks)))


def filled(path: Path, indices: Any, run: Run = RUN, name: str = "a") -> Path:
    with CountStore(path) as store:
        store.begin(name, run, {"worker": path.name})
        for index in indices:
            store.add(name, votes_of(index))
    return path


def told(votes: Votes) -> tuple[Any, ...]:
    """All that a vote says, but its time."""
    both = votes.selection.tolist(), votes.estimation.tolist()
    return (votes.index, votes.label, *both, votes.looks)


def content(path: Path, name: str = "a") -> list[tuple[Any, ...]]:
    with CountStore(path, readonly=True) as store:
        return [told(votes) for votes in store.votes(name, FixedPlan)]


def test_what_is_added_is_there(tmp_path: Path) -> None:
    path = filled(tmp_path / "s.db", [7, 2, 5])
    with CountStore(path) as store:
        assert store.runs() == {"a": RUN}
        assert store.only() == "a"
        assert store.indices("a") == [2, 5, 7]
        (start,) = store.starts("a")
        assert start["worker"] == "s.db"
        assert start["begun"].startswith("20")
    assert content(path) == [told(votes_of(i)) for i in (2, 5, 7)]
    assert [p.name for p in tmp_path.iterdir()] == ["s.db"]


@pytest.mark.parametrize(("attack", "alpha"), [("l2", 0.001), ("linf", 0.05), ("l1", 1e-9)])
def test_certificates_are_derived_at_any_attack_and_alpha(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str, alpha: float
) -> None:
    monkeypatch.setattr("cert_models.store.readings.BLOCK", 7)
    path = filled(tmp_path / "s.db", range(30))
    all_votes = [votes_of(i) for i in range(30)]
    expected = cc.certify(
        np.stack([v.selection for v in all_votes]), np.stack([v.estimation for v in all_votes]),
        NOISE, attack, alpha=alpha,
    )  # fmt: skip
    with CountStore(path, readonly=True) as store:
        reading = read_run(store, "a", attack=attack, alpha=alpha)
        some = read_run(store, "a", [20, 3], attack=attack, alpha=alpha)
        default = read_run(store, "a").certificates
    result = reading.certificates
    np.testing.assert_array_equal(result.label, expected.label)
    np.testing.assert_array_equal(result.p_lower, expected.p_lower)
    np.testing.assert_allclose(result.radius, expected.radius, rtol=2e-9)
    assert (result.alpha, result.attack, result.n0, result.n) == (alpha, attack, 10, 200)
    assert reading.labels.tolist() == [i % 4 for i in range(30)]
    assert some.indices.tolist() == [3, 20]
    np.testing.assert_array_equal(some.certificates.label, expected.label[[3, 20]])
    assert (default.attack, default.alpha) == ("l2", 0.001)
    assert expected.label.max() >= 0 or alpha < 1e-3


def test_a_store_in_memory_says_what_one_in_a_file_does(tmp_path: Path) -> None:
    with MemoryStore() as memory, CountStore(filled(tmp_path / "s.db", range(9))) as store:
        memory.begin("a", RUN, {})
        for i in reversed(range(9)):
            memory.add("a", votes_of(i))
        assert list(read_run(memory, "a").rows()) == list(read_run(store, "a").rows())
        with pytest.raises(StoreError, match="must have one result"):
            memory.add("a", dataclasses.replace(votes_of(1), label=3))
        with pytest.raises(StoreError, match="got None"):
            memory.add("a", dataclasses.replace(votes_of(1), label=None))
    assert [path.name for path in tmp_path.iterdir()] == ["s.db"]


SOUND = dataclasses.replace(RUN, noise=cc.Gaussian(64, 0.5), sound=cc.Lattice("1/255"))


@pytest.mark.parametrize("run", [RUN, SOUND], ids=["float", "sound"])
def test_casts_are_those_of_the_votes(tmp_path: Path, run: Run) -> None:
    """Read many at once, or one by one where a row says more than its votes."""
    with CountStore(filled(tmp_path / "s.db", [2, 9], run)) as store:
        (block,) = store.casts("a")
        assert block.tolist() == [
            (v.index, v.label, v.selected, int(v.estimation[v.selected]), v.seconds)
            for v in store.votes("a", FixedPlan)
        ]


def test_a_run_without_inputs_reads_as_none(tmp_path: Path) -> None:
    with CountStore(filled(tmp_path / "s.db", [])) as store:
        reading = read_run(store, "a")
        assert len(reading.certificates) == len(reading.indices) == 0
        with pytest.raises(StoreError, match="got 4, which it has not"):
            read_run(store, "a", [4])


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"plan": FixedPlan(10, 201)}, "plan.n 201 instead of 200"),
    ({"plan": FixedPlan(11, 200)}, "plan.n0 11 instead of 10"),
    ({"plan": SEQUENTIAL}, "plan.kind 'sequential' instead of 'fixed'"),
    ({"noise": cc.L2Noise(64, 0.25, 8.0)}, "noise.sigma 0.25 instead of 0.5"),
    ({"noise": cc.Gaussian(64, 0.5)}, "noise.noise 'gaussian' instead of 'l2'"),
    ({"seed": 4}, "seed 4 instead of 3"),
    ({"batch_size": 50}, "batch_size 50 instead of 100"),
    ({"num_classes": 5}, "num_classes 5 instead of 4"),
    ({"model": "module:other"}, "model 'module:other' instead of 'net'"),
    ({"model_fingerprint": "x"}, "model_fingerprint 'x' instead of 'm'"),
    ({"data_fingerprint": "x"}, "data_fingerprint 'x' instead of 'd'"),
]


def test_the_same_data_may_lie_elsewhere() -> None:
    other = dataclasses.replace(RUN, data="/elsewhere/data", model="net.pt")
    assert dataclasses.replace(RUN, model="old.pt").differences(other) == []
    functions = [dataclasses.replace(RUN, model=f"module:{name}") for name in "ab"]
    assert functions[0].differences(functions[1]) == ["model 'module:b' instead of 'module:a'"]


@pytest.mark.parametrize(("change", "difference"), OTHERS, ids=[d for _, d in OTHERS])
def test_other_parameters_are_refused_by_name(
    tmp_path: Path, change: dict[str, Any], difference: str
) -> None:
    path, other = filled(tmp_path / "s.db", range(3)), dataclasses.replace(RUN, **change)
    before = content(path)
    with CountStore(path) as store:
        for refused in (lambda: store.begin("a", other), lambda: store.done("a", other)):
            with pytest.raises(StoreError, match="must be continued with its own param") as caught:
                refused()
            assert difference in str(caught.value)
        store.begin("b", other)  # under another name it is another run
        with pytest.raises(StoreError, match="run must be one of"):
            store.only()
    filled(tmp_path / "t.db", [], other)
    with CountStore(path) as store, pytest.raises(StoreError, match="must be continued with"):
        store.merge(tmp_path / "t.db")
    assert content(path) == before


def test_attack_and_alpha_are_for_reading(tmp_path: Path) -> None:
    path = filled(tmp_path / "s.db", range(3))
    with CountStore(path) as store:
        store.begin("a", dataclasses.replace(RUN, attack="linf", alpha=0.01))
        assert store.runs()["a"] == RUN


def test_the_store_only_grows(tmp_path: Path) -> None:
    path = filled(tmp_path / "s.db", range(3))
    with CountStore(path) as store:
        store.begin("a", RUN)
        store.add("a", dataclasses.replace(votes_of(1), seconds=9.0))  # the same again: no change
        wrong = dataclasses.replace(votes_of(1), estimation=np.array([50, 50, 50, 50]))
        with pytest.raises(StoreError, match="input 1 of run 'a' must have one result"):
            store.add("a", wrong)
        with pytest.raises(StoreError, match="input 2 of run 'a' must have one result"):
            store.add("a", dataclasses.replace(votes_of(2), label=9))
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        for table in ("runs", "starts", "counts", "logged"):
            if table == "logged":
                db.execute("INSERT INTO logged VALUES (1, 0, 0, 0, 0.0, 0.0, '{}', NULL)")
            with pytest.raises(sqlite3.IntegrityError, match="only grows"):
                db.execute(f"DELETE FROM {table}")
            column = {"runs": "alpha", "starts": "record"}.get(table, "label")
            with pytest.raises(sqlite3.IntegrityError, match="only grows"):
                db.execute(f"UPDATE {table} SET {column} = 0")
        db.rollback()
    db.close()
    assert content(path) == [told(votes_of(i)) for i in range(3)]


def test_votes_that_the_plan_cannot_have_cast_are_refused(tmp_path: Path) -> None:
    good, sequential = votes_of(0), path_of(0, 2)
    with CountStore(tmp_path / "s.db") as store:
        store.begin("a", RUN)
        store.begin("s", dataclasses.replace(RUN, plan=SEQUENTIAL))
        store.begin("l", dataclasses.replace(RUN, plan=LOGGED, num_classes=4))
        for name, votes, message in (
            ("a", votes_of(0, n=199), "estimation must be votes that sum to 200, got 199"),
            ("a", votes_of(0, n0=9), "selection must be votes that sum to 10, got 9"),
            ("a", sequential, "estimation must be votes that sum to 200, got 100"),
            ("a", dataclasses.replace(good, looks=(200,)), "looks must be absent"),
            ("a", dataclasses.replace(good, selection=np.array([5, 5])), "for the 4 classes"),
            ("s", good, "looks must be the votes at 1 to 3 looks, got None"),
            ("s", dataclasses.replace(sequential, looks=(1,)), "must be votes that sum to 50"),
            ("s", dataclasses.replace(sequential, looks=(1, 2)), "looks must be non-decreasing"),
            ("l", good, "run must be one of counts"),
        ):
            with pytest.raises(StoreError) as caught:
                store.add(name, votes)
            assert message in str(caught.value)
        assert not any(store.indices(name) for name in store.runs())


def test_no_kind_of_sampling_is_read_as_another(tmp_path: Path) -> None:
    path = filled(tmp_path / "s.db", range(3), name="fixed")
    with CountStore(path) as store:
        store.begin("sequential", dataclasses.replace(RUN, plan=SEQUENTIAL))
        for i in range(3):
            store.add("sequential", path_of(i, i + 1))
        store.begin("log", dataclasses.replace(RUN, plan=LOGGED))
        store.add_logged("log", [Row(index=0, label=1, predict=1, radius=0.2, seconds=0.0)])
        kinds = {"fixed": FixedPlan, "sequential": SequentialPlan, "log": LogPlan}
        assert {name: run.plan.kind for name, run in store.runs().items()} == {k: k for k in kinds}
        for name in kinds:
            for kind in kinds.values():
                if kind.kind != name:
                    with pytest.raises(StoreError, match="counts of one kind of sampling say"):
                        list(store.votes(name, kind))
        assert [told(v) for v in store.votes("sequential", SequentialPlan)] == [
            told(path_of(i, i + 1)) for i in range(3)
        ]
        for name in ("fixed", "sequential"):
            with pytest.raises(StoreError, match="'log' to be read so"):
                store.logged(name)
            with pytest.raises(StoreError, match="'log' to be read so"):
                store.add_logged(name, [])


def test_a_kind_of_plan_from_the_future_is_refused(tmp_path: Path) -> None:
    path = filled(tmp_path / "s.db", [])
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "INSERT INTO runs (name, kind, record, attack, alpha) SELECT 'z', 'soft', "
            "replace(record, '\"fixed\"', '\"soft\"'), attack, alpha FROM runs"
        )
    db.close()
    with CountStore(path) as store, pytest.raises(ValueError, match="plan must be of kind fixed"):
        store.only("z")


def test_a_sequential_run_gives_its_own_decisions_alone(tmp_path: Path) -> None:
    def predict(batch: Any) -> Any:
        return (batch.mean(axis=1) > 0.48).astype(int)

    x = np.linspace(0.3, 0.7, 12)[:, None].repeat(64, axis=1).astype(np.float32)
    width = cc.sequential.plan_until(NOISE, "linf", 0.3, n_max=400, alpha=0.01, n0=10)
    for name, test in (("radii", TEST), ("width", width)):
        run = dataclasses.replace(
            RUN, plan=SequentialPlan(test), num_classes=2, attack=test.attack, alpha=test.alpha
        )
        found = list(cc.sequential.outcomes(test, predict, x, 2, seed=5))
        with CountStore(tmp_path / "s.db") as store:
            store.begin(name, run)
            assert store.runs()[name] == run
            for o in found:
                store.add(name, dataclasses.replace(o, label=0, seconds=0.1))
            expected, reading = cc.sequential.gather(test, found), read_run(store, name)
            result = reading.certificates
            assert isinstance(result, cc.sequential.SequentialCertificates)
            for key in ("label", "radius", "p_lower", "samples", "decided"):
                np.testing.assert_array_equal(getattr(result, key), getattr(expected, key))
            assert (result.alpha, result.attack, result.plan) == (test.alpha, test.attack, test)
            assert len(set(result.samples.tolist())) > 1
            for other in ({"attack": "l1"}, {"alpha": 0.02}):
                with pytest.raises(StoreError, match="its sampling stopped for that test alone"):
                    read_run(store, name, **other)  # type: ignore[arg-type]


def test_votes_at_which_the_test_does_not_stop_are_not_read(tmp_path: Path) -> None:
    """Counts cut off, or taken too far, would not have the test's error rate."""
    sure = Votes(
        index=0,
        label=0,
        selection=np.array([10, 0, 0, 0]),
        estimation=np.array([200, 0, 0, 0]),
        seconds=0.1,
        looks=(50, 100, 200),
    )
    unsure = Votes(
        index=1,
        label=0,
        selection=np.array([10, 0, 0, 0]),
        estimation=np.array([27, 23, 0, 0]),
        seconds=0.1,
        looks=(27,),
    )
    for votes in (sure, unsure):
        path = tmp_path / f"{votes.index}.db"
        with CountStore(path) as store:
            store.begin("s", dataclasses.replace(RUN, plan=SEQUENTIAL))
            store.add("s", votes)
            with pytest.raises(
                ValueError, match="looks must be those of an input at which the plan"
            ):
                read_run(store, "s")


def test_bad_fixed_plans() -> None:
    for bad in (0, -1, 2.5):
        with pytest.raises(ValueError, match="n must be an integer >= 1"):
            FixedPlan(10, bad)  # type: ignore[arg-type]


@settings(max_examples=12)
@given(st.lists(st.sets(st.integers(0, 12)), min_size=1, max_size=4), st.randoms())
def test_merging_workers_in_any_order_gives_the_whole(shares: list[set[int]], rng: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        parts = [filled(Path(folder, f"{i}.db"), sorted(s)) for i, s in enumerate(shares)]
        rng.shuffle(parts)
        target = Path(folder, "all.db")
        everything = sorted(set().union(*shares))
        with CountStore(target) as store:
            assert store.merge(*parts) == len(everything)
            assert store.merge(*parts) == 0
            assert len(store.starts("a")) == len(parts)
        assert content(target) == [told(votes_of(i)) for i in everything]


def test_merged_inputs_keep_the_start_that_counted_them(tmp_path: Path) -> None:
    parts = [filled(tmp_path / f"{index}.db", [index]) for index in (0, 1)]
    with CountStore(tmp_path / "whole.db") as store:
        store.merge(*reversed(parts))
    query = "SELECT idx, record FROM counts JOIN starts ON starts.id = counts.start ORDER BY idx"
    with contextlib.closing(sqlite3.connect(tmp_path / "whole.db")) as file:
        found = [(index, json.loads(record)["worker"]) for index, record in file.execute(query)]
    assert found == [(0, "0.db"), (1, "1.db")]


def test_a_conflict_merges_nothing(tmp_path: Path) -> None:
    target, first = filled(tmp_path / "s.db", [0, 1]), filled(tmp_path / "1.db", [2, 3])
    with CountStore(tmp_path / "2.db") as store:
        store.begin("a", RUN)
        store.add("a", votes_of(4))
        store.add("a", dataclasses.replace(votes_of(5), index=1, label=1))
    with CountStore(target) as store:
        with pytest.raises(StoreError, match="input 1 of run 'a' must have one result"):
            store.merge(first, tmp_path / "2.db")
        assert store.indices("a") == [0, 1]
        assert len(store.starts("a")) == 1
        assert store.merge(first) == 2


def test_logs_are_kept_as_published(tmp_path: Path) -> None:
    rows = [
        Row(index=0, label=1, predict=1, radius=0.25, seconds=1.5, extra={"p": "0.9"}),
        Row(index=3, label=2, predict=cc.ABSTAIN, radius=0.0, seconds=1.0, extra={"p": "?"}),
        Row(index=5, label=0, predict=2, radius=1e-9, seconds=2.0, extra={"p": ""}), Row(index=6,
        label=0, predict=0, radius=float("inf"), seconds=2.0, extra={"p": ""}),
    ]  # fmt: skip
    with CountStore(tmp_path / "s.db") as store:
        store.begin("l", dataclasses.replace(RUN, plan=LOGGED))
        store.add_logged("l", rows)
        store.add_logged("l", rows)
        assert store.logged("l") == rows
        reading = read_run(store, "l")
        assert reading.certificates.radius.tolist() == [row.radius for row in rows]
        assert reading.certificates.label.tolist() == [1, cc.ABSTAIN, 2, 0]
        other = read_run(store, "l", [0, 3], attack="linf").certificates
        p = reading.certificates.p_lower[0]
        exact = cc.certified_radius(p, NOISE, "linf")  # 0.25 may have been 0.2495
        assert 0.99 * exact < other.radius[0] < exact
        assert other.label.tolist() == [1, cc.ABSTAIN]
        with pytest.raises(StoreError, match=r"alpha must be 0\.001, that of the published log"):
            read_run(store, "l", alpha=0.01)
        with pytest.raises(StoreError, match="input 0 of run 'l' must have one result"):
            store.add_logged(
                "l",
                [
                    Row(index=9, label=1, predict=1, radius=0.1, seconds=0.0),
                    Row(index=0, label=1, predict=1, radius=0.26, seconds=0.0),
                ],
            )
        assert store.logged("l") == rows


@given(
    st.floats(1e-6, 5.0),
    st.sampled_from(
        [
            (cc.Gaussian(64, 0.5), "l2"), (cc.Laplace(5, 1.0), "l1"), (NOISE, "l2"),
            (cc.LinfNoise(9, 1.0), "l1"), (cc.Laplace(5, 1.0), "l2"),
        ]
    ),
)  # fmt: skip
@settings(max_examples=40)
def test_the_probability_behind_a_radius(radius: float, pair: tuple[cc.Noise, str]) -> None:
    """It gives the radius back: never a larger one, and no smaller one where p can tell."""
    noise, attack = pair
    p = float(probability_of_radius([radius], noise, attack)[0])
    back = cc.certified_radius(p, noise, attack)
    assert back <= radius
    if p < 1 - 1e-6:
        assert back == pytest.approx(radius, rel=1e-6, abs=1e-8)


def test_the_probability_behind_no_radius() -> None:
    p = probability_of_radius([0.0, np.inf, 0.0], NOISE, "l2")
    assert p.tolist() == [0.0, 1.0, 0.0]


def broken(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """(file, part of the message) of what is no whole store."""
    whole = filled(tmp_path / "whole.db", range(40))
    data = whole.read_bytes()
    (tmp_path / "text.db").write_text("idx\tlabel\n" * 100, encoding="utf-8")
    yield "text.db", "store must be a count store, got"
    (tmp_path / "empty.db").touch()
    yield "empty.db", "an empty file): remove it to start anew"
    (tmp_path / "folder.db").mkdir()
    yield "folder.db", "not a file"
    for size in (100, 4096, len(data) // 2, len(data) - 4096, len(data) - 100):
        (tmp_path / f"cut{size}.db").write_bytes(data[:size])
        yield f"cut{size}.db", f"({size} bytes instead of {len(data)}): it is damaged"
    middle = len(data) // 2
    (tmp_path / "hole.db").write_bytes(
        data[: middle - 2000] + b"\xff" * 4000 + data[middle + 2000 :]
    )
    yield "hole.db", "it is damaged: restore it from a copy"
    # free pages that no list names: no reading of rows meets them
    (tmp_path / "free.db").write_bytes(data[:36] + (3).to_bytes(4, "big") + data[40:])
    yield "free.db", "it is damaged: restore it from a copy"
    for name, pragma in (("other.db", "application_id = 7"), ("newer.db", "user_version = 9")):
        shutil.copy(whole, tmp_path / name)
        with contextlib.closing(sqlite3.connect(tmp_path / name)) as db, db:
            db.execute(f"PRAGMA {pragma}")
        db.close()
    yield "other.db", "another SQLite file"
    yield "newer.db", "must be of schema version 1 to 2, got"
    (tmp_path / "gone.db-wal").write_bytes(b"pages")
    yield "gone.db", "gone.db-wal of a store that is gone): bring the store back"
    yield "no/such/folder.db", "store must be in a folder that exists"


def test_what_is_no_whole_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    for name, message in broken(tmp_path):
        path = tmp_path / name
        before = path.read_bytes() if path.is_file() else None
        with pytest.raises(StoreError) as caught:
            CountStore(path)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
        assert (path.read_bytes() if path.is_file() else None) == before
        with pytest.raises(StoreError):
            CountStore(path, readonly=True)


def test_votes_that_rotted_on_the_disk_are_not_read(tmp_path: Path) -> None:
    path = filled(tmp_path / "s.db", range(3))
    data = path.read_bytes()
    text = json.dumps({str(i): int(v) for i, v in enumerate(votes_of(1).estimation) if v}).encode()
    assert data.count(text) == 1
    path.write_bytes(data.replace(text, text.replace(b"1", b"2")))
    with CountStore(path) as store, pytest.raises(StoreError, match="another digest"):
        read_run(store, "a")


def test_votes_of_a_run_whose_record_rotted_are_not_read(tmp_path: Path) -> None:
    path = filled(tmp_path / "s.db", [0])
    seed = json.dumps({"seed": RUN.seed})[1:-1].encode()
    data = path.read_bytes()
    assert data.count(seed) == 1
    path.write_bytes(data.replace(seed, seed.replace(b"3", b"4")))
    with CountStore(path) as store, pytest.raises(StoreError, match="another digest"):
        read_run(store, "a")


def test_a_missing_store_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="store must be an existing file"):
        CountStore(tmp_path / "none.db", readonly=True)
    assert list(tmp_path.iterdir()) == []


def test_a_locked_store_says_so(tmp_path: Path) -> None:
    path = filled(tmp_path / "s.db", [0])
    other = sqlite3.connect(path, isolation_level=None)
    with CountStore(path, timeout=0.05) as store:
        store.begin("a", RUN)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"free for writing.*another process holds it"):
            store.add("a", votes_of(1))
        assert store.indices("a") == [0]  # reading goes on
        other.execute("ROLLBACK")
        store.add("a", votes_of(1))
    other.close()
    assert content(path) == [told(votes_of(i)) for i in range(2)]


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    path = filled(tmp_path / "s.db", range(3))
    with CountStore(path) as store:
        store.begin("a", RUN)
        store._db.execute("PRAGMA max_page_count = 1").fetchone()  # no page more than now
        with pytest.raises(StoreError, match=r"on a disk with space.*make room"):
            deque(store.add("a", votes_of(i)) for i in range(3, 200))
        done = len(store.indices("a"))
        assert 3 < done < 200
        store._db.execute("PRAGMA max_page_count = 100000").fetchone()
        store.add("a", votes_of(done))
    assert content(path) == [told(votes_of(i)) for i in range(done + 1)]


PROGRAM = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from test_counts import *
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
try:
    with CountStore(sys.argv[2]) as store:
        store.begin("a", RUN)
        for i in range(3, 2000):
            store.add("a", votes_of(i))
except StoreError as error:
    print(error)
"""


def test_a_file_that_cannot_grow_keeps_what_was_there(tmp_path: Path) -> None:
    """As a full disk: the system refuses the write itself."""
    path = filled(tmp_path / "s.db", range(3))
    command = [sys.executable, "-B", "-c", PROGRAM, str(Path(__file__).parent), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "store must be on a disk with space" in done.stdout
    kept = content(path)
    assert 3 < len(kept) < 2000
    assert kept == [told(votes_of(i)) for i in range(len(kept))]


@pytest.fixture
def locked_folder() -> Iterator[Path]:
    """A folder that nobody may write; outside of pytest's own, which others may not enter."""
    folder = Path(tempfile.mkdtemp())
    yield folder
    folder.chmod(stat.S_IRWXU)
    shutil.rmtree(folder)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Permissions do not bind root."""
    root = os.geteuid() == 0
    if root:
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        if root:
            os.setresuid(0, 0, 0)


def test_a_folder_that_cannot_be_written(locked_folder: Path) -> None:
    path = filled(locked_folder / "s.db", range(3))
    before = path.read_bytes()
    path.chmod(0o444)
    locked_folder.chmod(0o555)
    with unprivileged():
        with CountStore(path, readonly=True) as store:
            assert store.indices("a") == [0, 1, 2]
            with pytest.raises(StoreError, match="must be a file that can be written"):
                store.begin("a", RUN, {})
        with pytest.raises(StoreError, match="must be a file that can be written"):
            CountStore(path)
        with pytest.raises(StoreError, match="in a folder that exists, can be written"):
            CountStore(locked_folder / "new.db")
    path.chmod(0o000)
    with unprivileged(), pytest.raises(StoreError, match="must be a file that can be read"):
        CountStore(path)
    path.chmod(0o444)
    assert path.read_bytes() == before
    assert [p.name for p in locked_folder.iterdir()] == ["s.db"]


def test_reading_never_writes(tmp_path: Path) -> None:
    path = filled(tmp_path / "s.db", range(3))
    before = path.read_bytes()
    with CountStore(path, readonly=True) as store:
        with pytest.raises(StoreError, match="can be written"):
            store.begin("b", RUN)
        assert len(read_run(store, "a").indices) == 3
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s.db"]


def test_stretched_noise_is_kept(tmp_path: Path) -> None:
    """With its scales, which are the run's own; what is read says whose norm radii are of."""
    stretched = cc.Gaussian(3, 0.5).scaled([1.0, 0.1, 2.0])
    run = dataclasses.replace(RUN, noise=stretched)
    path = filled(tmp_path / "s.db", range(3), run)
    with CountStore(path) as store:
        assert store.runs()["a"].noise == stretched
        assert "norms of delta/scales" in str(read_run(store, "a").certificates.noise)
        for other in (stretched.base, stretched.base.scaled([1.0, 0.1, 3.0])):
            with pytest.raises(StoreError, match=r"got noise.*scales"):
                store.begin("a", dataclasses.replace(RUN, noise=other), {})
