"""What may meet, stated once: no two draws of one verb.

Whatever samples, selection and estimation, of all inputs and in all batches, draws every
(key, stream, sample) once, and every block of the counter once: a class that is chosen by the
votes that bound it is bounded too high.  Equal samples are right in two places alone, neither of
them here: calls that repeat a stage of an input, which their records of samples tell, and a
batch that is drawn again because it was not answered.  Each verb is run as it is used, its draws
recorded beneath all that could mistake a stage, an input or a start.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import cert_core as cc
from cert_core import kernels
from cert_core import samples as noise_side
from cert_core.kernels.cpu import backend as cpu
from cert_models.data.datasets import Dataset
from cert_models.run import sampler_of
from cert_models.smooth import SmoothedClassifier
from cert_models.store.runs import FixedPlan, Plan, Run, ScorePlan, SequentialPlan, ShellPlan

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
        if "threads" in options:  # by norms: rows that are voted on, once more
            return out
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


def plain(noise: Any) -> cc.Smoothed:
    return cc.Smoothed(labels, noise, 2, scores=scores, batch_size=7)


def plan_for(noise: Any) -> cc.sequential.RadiiPlan:
    return cc.sequential.plan_at(noise, "l2", [0.01], n_max=N, alpha=0.1, n0=N0, first=5)


def never(position: int, successes: int, n: int) -> bool:
    return False


def until(noise: Any) -> Any:
    looks = plan_for(noise).looks
    return list(cc.sequential.votes_until(labels, X, noise, 2, looks, never, SEED, n0=N0, **HOW))


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
    "answers": (lambda v: list(cc.votes.answers(labels, X, v, N, SEED, **HOW)), LAST),
    "scores": (scored, ALL),
    "label maps": (mapped, ALL),
    "sampled_values": (
        lambda v: cc.scores.sampled_values(lambda b: b[:, 0], X, v, N, SEED, **HOW), LAST,
    ),
    "sampled_ranks": (
        lambda v: cc.scores.sampled_ranks(lambda b: b[:, 0], X, v, N, SEED, [1], **HOW), LAST,
    ),
    "votes_until": (until, ALL),
    "outcomes": (
        lambda v: list(cc.sequential.outcomes(plan_for(v), labels, X, 2, SEED, **HOW)), ALL,
    ),
    "certify_by": (lambda v: cc.sequential.certify_by(plan_for(v), labels, X, 2, SEED, **HOW), ALL),
    "count_shell_votes": (lambda v: cc.shell_votes.count_shell_votes(
        labels, X, v, 2, N, SEED, cc.shell_thresholds(v, [0.5]), **HOW), LAST,
    ),
    "a run by shells": (
        long_run(lambda v: ShellPlan(N0, N, tuple(cc.shell_thresholds(v, [0.5]))), lambda: labels),
        ALL,
    ),
    "a run of fixed size": (long_run(lambda _: FixedPlan(N0, N), lambda: labels), ALL),
    "a run of a module": (long_run(lambda _: FixedPlan(N0, N), lambda: Net().eval()), ALL),
    "a sequential run": (long_run(lambda v: SequentialPlan(plan_for(v)), lambda: labels), ALL),
    "a run of scores": (long_run(lambda _: ScorePlan(N0, N), lambda: scores), ALL),
    "a run of a module's scores": (
        long_run(lambda _: ScorePlan(N0, N), lambda: Net().eval()), ALL,
    ),
}  # fmt: skip

METHODS: dict[str, tuple[Verb, dict[str, tuple[int, int]]]] = {
    "counts": (lambda s: s.counts(X, N, SEED, **WHICH), LAST),
    "shell_counts": (
        lambda s: s.shell_counts(X, N, SEED, cc.shell_thresholds(s.noise, [0.5]), **WHICH), LAST,
    ),
    "probabilities": (lambda s: s.probabilities(X, N, SEED, **WHICH), LAST),
    "values": (lambda s: s.values(X, N, SEED, **WHICH), LAST),
    "predict": (lambda s: s.predict(X, N, 0.1, SEED, **WHICH), LAST),
    "selected_labels": (
        lambda s: s.selected_labels(X, N, SEED, **WHICH), {"selection": (0, N)},
    ),
    "label_votes": (lambda s: s.label_votes(X, [0, 1], N, SEED, **WHICH), LAST),
    "mean_scores": (lambda s: s.mean_scores(X, N, SEED, **WHICH), LAST),
    "label_scores": (lambda s: s.label_scores(X, [0, 1], N, SEED, **WHICH), LAST),
    "certify": (lambda s: s.certify(X, N0, N, 0.1, "l2", SEED, **WHICH), ALL),
    "certify_shells": (
        lambda s: s.certify_shells(X, N0, N, 0.1, "l2", SEED, masses=[0.5], **WHICH), ALL,
    ),
    "certify_scores": (lambda s: s.certify_scores(X, N0, N, 0.1, "l2", SEED, **WHICH), ALL),
    "certify_top_k": (lambda s: s.certify_top_k(X, N0, N, 0.1, "l2", SEED, **WHICH), ALL),
    "certify_at": (lambda s: s.certify_at(X, [0.01], N, 0.1, "l2", SEED, n0=N0, **WHICH), ALL),
    "certify_until": (lambda s: s.certify_until(X, 0.01, N, 0.1, "l2", SEED, n0=N0, **WHICH), ALL),
    "outcomes": (lambda s: list(s.outcomes(plan_for(s.noise), X, SEED, **WHICH)), ALL),
}  # fmt: skip


def of(make: Callable[[Any], Any], method: Verb) -> Verb:
    return lambda noise: method(make(noise))


VERBS |= {
    f"{make(GAUSSIAN).__class__.__name__}.{name}": (of(make, method), stages)
    for make in (plain, classifier)
    for name, (method, stages) in METHODS.items()
}

# by their last word, as the methods are
STOPPED = {
    "outcomes", "certify_by", "certify_at", "certify_until", "a sequential run",
}  # fmt: skip


def last(name: str) -> str:
    return name.rpartition(".")[2]


def seeded(home: Any) -> set[str]:
    """Public functions of a module or class that draw: a seed is told to them."""
    found = inspect.getmembers(home, inspect.isfunction)
    return {
        name for name, verb in found
        if not name.startswith("_") and "seed" in inspect.signature(verb).parameters
        and (inspect.isclass(home) or "Parameters\n" in (verb.__doc__ or ""))
    }  # fmt: skip


def test_every_verb_is_here() -> None:
    """What draws for a certificate is in the tables above; single draws are one stretch, the
    noise side has its own test, and tuned noises share samples by design, never with the inputs
    that are certified afresh (core/test_tuning.py)."""
    apart = {
        "draw", "draw_lattice", "draw_log_ratio", "monte_carlo_bound", "monte_carlo_required",
        "monte_carlo_radius", "split", "tune",
    }  # fmt: skip
    named = {
        "mean_scores": "scores", "label_scores": "scores", "label_votes": "label maps",
        "selected_labels": "label maps",
    }  # fmt: skip
    found = set[str]()
    for module in pkgutil.walk_packages(cc.__path__, "cert_core."):
        if ".kernels." not in module.name:  # which draw what they are told
            found |= seeded(importlib.import_module(module.name))
    assert "count_votes" in found
    assert {named.get(name, name) for name in found - apart} <= VERBS.keys()
    for kind in (cc.Smoothed, SmoothedClassifier):
        assert seeded(kind) == METHODS.keys()


@pytest.mark.parametrize("name", VERBS)
def test_no_two_draws_of_a_verb_meet(name: str, record: Record) -> None:
    run, stages = VERBS[name]
    run(GAUSSIAN)
    found = {place: joined(spans) for place, spans in record.spans.items()}
    assert found.keys() == {(index, stage) for index in INDICES for stage in stages}
    for (_, stage), (start, stop) in found.items():
        low, high = stages[stage]
        assert start == low
        assert stop == high or (last(name) in STOPPED and stop < high)
    values = pairs(np.concatenate(record.rows))
    assert len(np.unique(values)) == len(values)


@pytest.mark.parametrize("name", VERBS)
def test_no_two_radii_of_a_verb_meet(name: str, record: Record) -> None:
    """The quantities of rows have streams of their own, as many as the coordinates."""
    VERBS[name][0](RADIAL)
    norms = np.linalg.norm(np.concatenate(record.rows).astype(np.float64), axis=1)
    assert np.diff(np.sort(norms)).min() > 1e-6 * norms.max()


# what is counted into a store, or is no vote
SILENT = {
    "noisy_batches", "answers", "sampled_values", "sampled_ranks", "predict", "probabilities",
    "values", "mean_scores",
}  # fmt: skip


def samples(found: Any) -> Iterator[cc.provenance.Drawn]:
    """The samples that results say they are of."""
    for each in found if isinstance(found, list) else [found]:
        yield from getattr(getattr(each, "votes", each), "drawn", ())


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
    assert told or last(name) in SILENT or name.startswith("a ")


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


def test_blocks_of_one_s_own_noise_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of every stream has a generator of its own; the same at every call."""
    monkeypatch.setattr(noise_side, "VALUES", 50)
    drawn: list[np.ndarray[Any, Any]] = []

    def sampler(n: int, generator: np.random.Generator) -> Any:
        drawn.append(generator.standard_normal((n, 5)))
        return drawn[-1]

    noise = cc.CustomNoise(
        5, lambda z: -0.5 * (z * z).sum(axis=1), sampler,
        lambda attack, radius: np.eye(5)[0] * radius, False, "rotations leave it as it is",
    )  # fmt: skip
    how: dict[str, Any] = {"n": 37, "alpha": 0.1, "seed": SEED, "method": "clopper-pearson"}
    one = cc.monte_carlo.monte_carlo_required(noise, "l2", 0.5, **how).required
    blocks = {each.tobytes() for each in drawn}
    assert len(blocks) == 3 * 4  # pi0, pi_delta and the pilot, of ten rows at most
    assert len(np.unique(np.frombuffer(b"".join(blocks)))) == 3 * 4 * 10 * 5
    assert cc.monte_carlo.monte_carlo_required(noise, "l2", 0.5, **how).required == one
    assert {each.tobytes() for each in drawn} == blocks
    cc.monte_carlo.monte_carlo_required(noise, "l2", 0.5, **{**how, "seed": SEED + 1})
    assert len({each.tobytes() for each in drawn}) == 2 * len(blocks)


def test_sums_of_tables_remember_each_stretch() -> None:
    """Two that do not go on from each other leave the samples between them to be counted."""
    apart = voted(GAUSSIAN, 5) + voted(GAUSSIAN, 5, start=10)
    assert sorted((each.start, each.stop) for each in apart.drawn) == [(0, 5), (10, 15)]
    whole = apart + voted(GAUSSIAN, 5, start=5)
    assert whole.sum() == 15 * len(INDICES)
    with pytest.raises(ValueError, match="different samples"):
        apart + voted(GAUSSIAN, 3, start=12)
