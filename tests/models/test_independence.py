"""What may meet, stated once: no two draws of one verb.

Whatever samples, selection and estimation, of all inputs and in all batches, draws every
(key, stream, sample) once, and every block of the counter once: a class that is chosen by the
votes that bound it is bounded too high.  Equal samples are right in two places alone, neither of
them here: calls that repeat a stage of an input, which their records of samples tell, and a
batch that is drawn again because it was not answered.  Each verb is run as it is used, its draws
recorded beneath all that could mistake a stage, an input or a start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import cert_core as cc
from cert_core import kernels
from cert_core.kernels.cpu import backend as cpu
from cert_models.data.datasets import Dataset
from cert_models.run import sampler_of
from cert_models.smooth import SmoothedClassifier
from cert_models.store.runs import FixedPlan, Plan, Run, ScorePlan, SequentialPlan

DIM = 1030  # two tiles of coordinates, the second of two blocks
SEED, INDICES = 7, [3, 0]
N0, N = 5, 12  # neither a multiple of a batch
X = np.zeros((2, DIM), np.float32)  # so that a copy is its noise
GAUSSIAN, RADIAL = cc.Gaussian(DIM, 1.0), cc.L2Noise(DIM, 1.0, 8.0)
STREAMS = {kernels.SELECTION: "selection", kernels.ESTIMATION: "estimation"}

Spans = dict[tuple[int, str], list[tuple[int, int]]]


@dataclass
class Record:
    """What was drawn: of each index and stage the stretches of samples, and their values."""

    spans: Spans = field(default_factory=dict)
    rows: list[np.ndarray[Any, Any]] = field(default_factory=list)


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    found, draw = Record(), cpu.draw

    def recorded(noise: Any, n: int, key: int, **options: Any) -> Any:
        out = draw(noise, n, key, **options)
        assert key >> 32 == SEED, key
        place, start = (key & 0xFFFFFFFF, STREAMS[options["stream"]]), options["start"]
        found.spans.setdefault(place, []).append((start, start + n))
        found.rows.append(out.copy())
        return out

    monkeypatch.setattr(cpu, "draw", recorded)
    return found


def joined(spans: list[tuple[int, int]]) -> tuple[int, int]:
    """The stretch that spans make up, each sample of it once."""
    spans = sorted(spans)
    assert all(stop == start for (_, stop), (start, _) in pairwise(spans)), spans
    return spans[0][0], spans[-1][1]


def pairs(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Two values of every block of the counter, as one integer."""
    bits = np.ascontiguousarray(rows).view(np.uint32).astype(np.uint64)
    ends = [(0, 1024), (1024, DIM)]
    blocks = [(low, -(-(high - low) // 4)) for low, high in ends]
    return np.concatenate([
        (bits[:, low : low + m] << np.uint64(32) | bits[:, low + m : low + 2 * m]).ravel()
        for low, m in blocks
    ])  # fmt: skip


def labels(batch: Any) -> Any:
    return (batch[:, 0] > 0).astype(np.int64)


def scores(batch: Any) -> Any:
    return np.eye(2)[labels(batch)]


class Net(torch.nn.Module):
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.stack([-batch[:, 0], batch[:, 0]], dim=1)


HOW: dict[str, Any] = {"indices": INDICES, "batch_size": 7}
WHICH: dict[str, Any] = {"indices": INDICES}


def classifier(noise: Any) -> SmoothedClassifier:
    return SmoothedClassifier(Net().eval(), noise, 2, batch_size=7)


def plan_for(noise: Any) -> cc.sequential.RadiiPlan:
    return cc.sequential.plan_at(noise, "l2", [0.01], n_max=N, alpha=0.1, n0=N0, first=5)


def voted(noise: Any, n: int, **options: Any) -> Any:
    return cc.count_votes(labels, X, noise, 2, n, SEED, **HOW, **options)


def scored(noise: Any) -> Any:
    means = cc.scores.mean_scores(scores, X, noise, 2, N0, SEED, stage="selection", **HOW)
    chosen = means.argmax(axis=1)
    return cc.scores.label_scores(scores, X, noise, 2, chosen, N, SEED, **HOW)


def mapped(noise: Any) -> Any:
    chosen = cc.joint.selected_labels(labels, X, noise, 2, N0, SEED, **HOW)
    return cc.joint.label_votes(labels, X, noise, 2, chosen, N, SEED, **HOW)


def batches(noise: Any) -> Any:
    for stage, n in (("selection", N0), ("estimation", N)):
        list(cc.noisy_batches(X, noise, n, SEED, stage=stage, **HOW))


def long_run(plan: Callable[[Any], Plan], model: Callable[[], Any]) -> Callable[[Any], Any]:
    """The votes of a run, its inputs those of INDICES."""

    def run(noise: Any) -> Any:
        data = Dataset("zeros", np.zeros((4, DIM), np.float32), np.zeros(4, np.int64), 2)
        what = Run(
            plan=plan(noise),
            noise=noise,
            seed=SEED,
            batch_size=7,
            num_classes=2,
            model="m",
            model_fingerprint="",
            data="d",
            data_fingerprint="",
            attack="l2",
            alpha=0.1,
        )
        return list(sampler_of(model(), what, data, device=None)(INDICES))

    return run


ALL = {"selection": (0, N0), "estimation": (0, N)}
LAST = {"estimation": (0, N)}

Verb = Callable[[Any], Any]
VERBS: dict[str, tuple[Verb, dict[str, tuple[int, int]]]] = {
    "count_votes": (lambda v: [voted(v, N0, stage="selection"), voted(v, N)], ALL),
    "counted on": (lambda v: [voted(v, N0), voted(v, N - N0, start=N0)], LAST),
    "noisy_batches": (batches, ALL),
    "scores": (scored, ALL),
    "label maps": (mapped, ALL),
    "sampled_values": (
        lambda v: cc.scores.sampled_values(lambda b: b[:, 0], X, v, N, SEED, **HOW), LAST,
    ),
    "sampled_ranks": (
        lambda v: cc.scores.sampled_ranks(lambda b: b[:, 0], X, v, N, SEED, [1], **HOW), LAST,
    ),
    "certify_by": (lambda v: cc.sequential.certify_by(plan_for(v), labels, X, 2, SEED, **HOW), ALL),
    "SmoothedClassifier.predict": (lambda v: classifier(v).predict(X, N, 0.1, SEED, **WHICH), LAST),
    "SmoothedClassifier.certify": (
        lambda v: classifier(v).certify(X, N0, N, 0.1, "l2", SEED, **WHICH), ALL,
    ),
    "soft votes": (
        lambda v: classifier(v).certify_scores(X, N0, N, 0.1, "l2", SEED, **WHICH), ALL,
    ),
    "SmoothedClassifier.certify_top_k": (
        lambda v: classifier(v).certify_top_k(X, N0, N, 0.1, "l2", SEED, **WHICH), ALL,
    ),
    "SmoothedClassifier.certify_at": (
        lambda v: classifier(v).certify_at(X, [0.01], N, 0.1, "l2", SEED, n0=N0, **WHICH), ALL,
    ),
    "SmoothedClassifier.certify_until": (
        lambda v: classifier(v).certify_until(X, 0.01, N, 0.1, "l2", SEED, n0=N0, **WHICH), ALL,
    ),
    "a run of fixed size": (long_run(lambda _: FixedPlan(N0, N), lambda: labels), ALL),
    "a run of a module": (long_run(lambda _: FixedPlan(N0, N), lambda: Net().eval()), ALL),
    "a sequential run": (long_run(lambda v: SequentialPlan(plan_for(v)), lambda: labels), ALL),
    "a run of scores": (long_run(lambda _: ScorePlan(N0, N), lambda: scores), ALL),
    "a run of a module's scores": (
        long_run(lambda _: ScorePlan(N0, N), lambda: Net().eval()), ALL,
    ),
}  # fmt: skip

STOPPED = {
    "certify_by", "SmoothedClassifier.certify_at", "SmoothedClassifier.certify_until",
    "a sequential run",
}  # fmt: skip


@pytest.mark.parametrize("name", VERBS)
def test_no_two_draws_of_a_verb_meet(name: str, record: Record) -> None:
    run, stages = VERBS[name]
    run(GAUSSIAN)
    found = {place: joined(spans) for place, spans in record.spans.items()}
    assert found.keys() == {(index, stage) for index in INDICES for stage in stages}
    for (_, stage), (start, stop) in found.items():
        low, high = stages[stage]
        assert start == low
        assert stop == high or (name in STOPPED and stop < high)
    values = pairs(np.concatenate(record.rows))
    assert len(np.unique(values)) == len(values)


@pytest.mark.parametrize("name", VERBS)
def test_no_two_radii_of_a_verb_meet(name: str, record: Record) -> None:
    """The quantities of rows have streams of their own, as many as the coordinates."""
    VERBS[name][0](RADIAL)
    norms = np.linalg.norm(np.concatenate(record.rows).astype(np.float64), axis=1)
    assert np.diff(np.sort(norms)).min() > 1e-6 * norms.max()


# what is counted into a store, or is no vote
SILENT = {name for name in VERBS if name.startswith("a ")} | {
    "noisy_batches", "sampled_values", "sampled_ranks", "SmoothedClassifier.predict",
}  # fmt: skip


def samples(found: Any) -> Iterator[cc.provenance.Drawn]:
    """The samples that results say they are of."""
    for each in found if isinstance(found, list) else [found]:
        yield from getattr(each, "drawn", ())


@pytest.mark.parametrize("name", VERBS)
def test_what_is_told_is_what_was_drawn(name: str, record: Record) -> None:
    told = list(samples(VERBS[name][0](GAUSSIAN)))
    spans: Spans = {}
    for each in told:
        assert each.noise == GAUSSIAN
        for index in each.indices:
            spans.setdefault((index, each.stage), []).append((each.start, each.stop))
    for place, found in spans.items():
        assert joined(found) == joined(record.spans[place])
    assert told or name in SILENT


def test_streams_are_apart() -> None:
    """Each purpose has two streams, its own and that of its row quantities."""
    purposes = [
        kernels.SELECTION, kernels.ESTIMATION, kernels.PI0, kernels.PI_DELTA, kernels.PILOT,
        kernels.DRAW, kernels.OFFSETS,
    ]  # fmt: skip
    used = [stream for purpose in purposes for stream in (purpose, purpose + 1)]
    assert len(set(used)) == len(used)


@pytest.mark.parametrize("method", ["hoeffding", "dkw", "clopper-pearson"])
def test_the_noise_side_does_not_meet_itself(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples under pi0 and under pi_delta, and the pilot that chooses lam, are three streams."""
    spans: dict[int, set[tuple[int, int]]] = {}
    draw = cpu.draw_log_ratio

    def recorded(*arguments: Any, start: int, stream: int) -> Any:
        assert arguments[3] == SEED
        spans.setdefault(stream, set()).add((start, start + arguments[2]))
        return draw(*arguments, start=start, stream=stream)

    monkeypatch.setattr(cpu, "draw_log_ratio", recorded)
    how: dict[str, Any] = {"n": 2**20 + 5, "alpha": 0.01, "seed": SEED, "method": method}
    cc.monte_carlo.monte_carlo_required(RADIAL, "l2", 0.5, **how)
    assert spans.keys() <= {kernels.PI0, kernels.PI_DELTA, kernels.PILOT}
    assert all(joined(list(found))[0] == 0 for found in spans.values())
    if method == "clopper-pearson":
        assert len(spans) == 3
