"""What a run says: locks, conflicts, blocks of inputs, published digits, and what is printed."""

from __future__ import annotations

import dataclasses
import math
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import cert
from test_counts import RUN, SEQUENTIAL, filled, votes_of

import cert_core as cc
from cert_models.data.datasets import Dataset
from cert_models.logs import Row
from cert_models.reports import tables
from cert_models.reports.page import gallery
from cert_models.run import sampler_of
from cert_models.store.counts import CountStore
from cert_models.store.fingerprints import model_fingerprint
from cert_models.store.readings import read_run
from cert_models.store.results import Result
from cert_models.store.runs import CODE, LogPlan, ScorePlan, SequentialPlan, Votes
from cert_models.store.storage import StoreError


def test_a_transaction_holds_the_file_from_its_beginning(tmp_path: Path) -> None:
    """Else what it read first could be out of date when it writes."""
    path = filled(tmp_path / "s.db", [0])
    with CountStore(path) as one, CountStore(path, timeout=0.0) as other:
        with one.transaction(), pytest.raises(StoreError, match="free for writing"):
            other.add("a", votes_of(1))
        other.add("a", votes_of(1))
        assert one.indices("a") == [0, 1]


def test_nothing_is_written_into_a_file_that_was_moved(tmp_path: Path) -> None:
    path, moved = filled(tmp_path / "s.db", [0]), tmp_path / "moved.db"
    with CountStore(path) as store:
        path.rename(moved)
        with pytest.raises(StoreError, match="it is gone"):
            store.add("a", votes_of(1))
        moved.rename(path)
        assert store.indices("a") == [0]


SEQUENTIAL_RUN = dataclasses.replace(RUN, plan=SEQUENTIAL)
BEFORE = Votes(
    index=0, label=1, selection=np.array([1, 9, 0, 0]), estimation=np.array([20, 150, 20, 10]),
    looks=(40, 80, 150), seconds=0.5,
)  # fmt: skip
OTHERS: dict[str, dict[str, Any]] = {
    "the label": {"label": 2},
    "a vote of the selection": {"selection": np.array([0, 9, 1, 0])},
    "a vote for another class": {"estimation": np.array([19, 150, 21, 10])},
    "a vote at a look": {"looks": (39, 80, 150)},
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_another_result_of_an_input_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    """Whatever differs; of the time alone it is the same result."""
    other = dataclasses.replace(BEFORE, **change)
    with CountStore(tmp_path / "s.db") as store, CountStore(tmp_path / "t.db") as source:
        store.begin("a", SEQUENTIAL_RUN)
        store.add("a", BEFORE)
        store.add("a", dataclasses.replace(BEFORE, seconds=9.0))
        with pytest.raises(StoreError, match="input"):
            store.add("a", other)
        source.begin("a", SEQUENTIAL_RUN)
        source.add("a", other)
        with pytest.raises(StoreError, match="input"):
            store.merge(tmp_path / "t.db")
        (kept,) = store.votes("a", SequentialPlan)
        assert (kept.label, kept.looks) == (BEFORE.label, BEFORE.looks)


MODEL = """
def predict(batch):
    return (batch[:, 0] > 0.5).astype(int)
"""


def test_the_second_block_of_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More inputs than are under way at a time, in an order of their own: each has its votes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    x = np.zeros((150, 2), np.float32)
    x[:, 0] = np.linspace(0, 1, 150)
    y = (np.arange(150) % 2).astype(int)
    np.savez("data.npz", x=x, y=y)
    Path("seconds_block.py").write_text(MODEL, encoding="utf-8")
    done = cert(
        "certify", "--noise", "gaussian", "--sigma", "0.3", "--attack", "l2", "--data", "data.npz",
        "--classes", "2", "--model", "seconds_block:predict", "--n0", "5", "--n", "120", "--quiet",
        "--at", "0.02,0.1", "--alpha", "0.05", "--store", "s.db", "--skip", "2",
    )  # fmt: skip
    assert done.status == 0, done.err
    noise, chosen = cc.Gaussian(2, 0.3), list(range(0, 150, 2))
    plan = cc.sequential.plan_at(noise, "l2", [0.02, 0.1], n_max=120, alpha=0.05, n0=5)

    def predict(batch: Any) -> Any:
        return (batch[:, 0] > 0.5).astype(int)

    expected = cc.sequential.certify_by(plan, predict, x[chosen], 2, 0, indices=chosen)
    with CountStore("s.db", readonly=True) as store:
        found = read_run(store, "default")
    assert found.indices.tolist() == chosen
    assert found.labels.tolist() == y[chosen].tolist()
    for name in ("label", "radius", "samples", "decided"):
        given = getattr(found.certificates, name)
        np.testing.assert_array_equal(given, getattr(expected, name))
    assert len(set(expected.radius.tolist())) == 3


def test_scores_are_kept_rounded_down() -> None:
    score = np.float32(0.7)  # 45874.5 of 65535

    def scores(batch: Any) -> Any:
        return np.tile([score, 1 - score], (len(batch), 1)).astype(np.float32)

    run = dataclasses.replace(RUN, plan=ScorePlan(10, 20), num_classes=2)
    data = Dataset("d", np.zeros((2, 64), np.float32), np.zeros(2, np.int64), 2)
    (votes,) = sampler_of(scores, run, data, device=None)([1])
    assert votes.scores is not None
    assert set(votes.scores) == {45874}
    assert votes.selection.tolist() == [458744, 196605]


def test_runs_of_models_with_other_code_differ() -> None:
    """All but those from before fingerprints told code."""
    one, other, before = (
        dataclasses.replace(RUN, model_fingerprint=told)
        for told in (f"c0{CODE}a1", f"c0{CODE}a2", "c0")
    )
    assert one.differences(one) == one.differences(before) == before.differences(other) == []
    assert len(one.differences(other)) == 1


PUBLISHED = {
    "0.25": "0.001", "0.5": "0.001", "1.234": "0.001", "0.0625": "0.0001", "12.5": "0.1",
    "3": "0.01", "0.123456": "0.000001", "0.002": "0.00001",
}  # fmt: skip


def test_a_published_radius_is_exact_to_its_digits_alone(tmp_path: Path) -> None:
    """It may have been rounded up by half a unit of the last one, of three at least."""
    noise, plan = cc.Gaussian(4, 5.0), LogPlan(100, 1000, "l2", 0.001)
    run = dataclasses.replace(RUN, plan=plan, noise=noise)
    with CountStore(tmp_path / "s.db") as store:
        store.begin("log", run)
        rows = [
            Row(index=i, label=1, predict=1, radius=float(text), seconds=0.0)
            for i, text in enumerate(PUBLISHED)
        ]
        store.add_logged("log", rows)
        other = read_run(store, "log", attack="linf").certificates.radius
        own = read_run(store, "log").certificates.radius
    for text, unit, radius, same in zip(PUBLISHED, PUBLISHED.values(), other, own, strict=True):
        assert same == float(text)
        least = float(Decimal(text) - Decimal(unit) / 2)
        assert least * (1 - 1e-6) <= radius * math.sqrt(4) <= least


def images(count: int) -> tuple[Dataset, Result]:
    rng = np.random.default_rng(4)
    x = rng.uniform(size=(count, 1, 2, 2)).astype(np.float32)
    radius = np.concatenate([[0.2999999, 0.12349999, 1.9999999], rng.uniform(0, 2, count - 3)])
    labels = np.zeros(count, dtype=np.int64)
    result = Result(
        name="a", indices=np.arange(count), labels=labels, predict=labels, radius=radius,
        attack="l2", alpha=0.001, noise=cc.Gaussian(4, 0.5),
    )  # fmt: skip
    return Dataset("some", x, labels, 2), result


def test_radii_on_the_page_are_rounded_down() -> None:
    data, result = images(40)
    rows = gallery(data, [result], 40)
    said = [re.fullmatch(r"class 0, l2 radius ([\d.]+)", row[1].caption) for row in rows]
    for match, radius in zip(said, result.radius.tolist(), strict=True):
        assert match is not None
        assert 0 <= Decimal(radius) - Decimal(match[1]) < Decimal("0.001")


def test_classes_on_the_page_that_are_not_right_are_marked() -> None:
    data, result = images(4)
    said = dataclasses.replace(result, predict=np.array([0, 1, cc.ABSTAIN, 0]))
    rows = sorted(gallery(data, [said], 4), key=lambda row: row[0].caption)
    assert [row[1].wrong for row in rows] == [False, True, True, False]


def drawn(line: Any, radius: float) -> float:
    """What a drawn line says at a radius, steps as matplotlib draws them."""
    x, y = line.get_xdata(), line.get_ydata()
    before = line.get_drawstyle() == "steps-pre"
    assert before or line.get_drawstyle() == "steps-post"
    place = (
        np.searchsorted(x, radius, "left") if before else np.searchsorted(x, radius, "right") - 1
    )
    return float(y[place])


def test_curves_say_what_is_certified_at_every_radius() -> None:
    """At radii of inputs too, and beside them; above nothing, and never more."""
    _, result = images(30)
    other = dataclasses.replace(result, name="b", radius=result.radius[::-1] * 0.9)
    figure = tables._curves([result, other], "title", 0.01, True)
    lines = figure.axes[0].lines
    assert len(lines) == 5
    radii = np.concatenate([result.radius, np.nextafter(result.radius, 9), [0.0, 0.5]])
    for radius in radii.tolist():
        shares = [each.accuracy(radius, rho) for each in (result, other) for rho in (None, 0.01)]
        best = max(result.accuracy(radius), other.accuracy(radius))
        assert [drawn(line, radius) for line in lines] == [*shares, best]


def test_a_fingerprint_holds_all_that_decides_votes() -> None:
    """Parameters, buffers that a checkpoint keeps, and those that it does not."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, **values: float) -> None:
            super().__init__()
            given = {"weight": 1.0, "kept": 1.0, "left": 1.0, "plain": 1.0, **values}
            self.weight = nn.Parameter(torch.tensor(given["weight"]))
            self.register_buffer("kept", torch.tensor(given["kept"]))
            self.register_buffer("left", torch.tensor(given["left"]), persistent=False)
            self.plain = given["plain"]

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return batch * self.weight

    nets = [Net(), *(Net(**{name: 2.0}) for name in ("weight", "kept", "left", "plain"))]
    prints = [model_fingerprint(net, "net") for net in nets]
    assert len(set(prints)) == len(nets)
    assert model_fingerprint(Net(), "net") == prints[0]
    assert model_fingerprint(Net(), "net", "bfloat16") != prints[0]

    class Held(nn.Module):
        def __init__(self, name: str, tensor: torch.Tensor) -> None:
            super().__init__()
            self.register_buffer(name, tensor)

    zeros = [("a", torch.zeros(2, 3)), ("b", torch.zeros(2, 3)), ("a", torch.zeros(3, 2)),
             ("a", torch.zeros(2, 3, dtype=torch.int32))]  # fmt: skip
    assert len({model_fingerprint(Held(*each), "net") for each in zeros}) == len(zeros)
