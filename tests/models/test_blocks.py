"""What is done a block at a time says the same whatever the blocks' size."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import cert_core as cc
from cert_core import kernels
from cert_models.data.datasets import Dataset
from cert_models.data.scales import deviations
from cert_models.store.counts import MemoryStore
from cert_models.store.fingerprints import data_fingerprint
from cert_models.store.readings import read_run
from cert_models.store.runs import FixedPlan, Run, Votes

RUN = Run(
    plan=FixedPlan(10, 200), noise=cc.Gaussian(4, 0.5), seed=3, batch_size=100, num_classes=3,
    model="net", model_fingerprint="m", data="d", data_fingerprint="d", attack="l2", alpha=0.001,
)  # fmt: skip
RNG = np.random.default_rng(5)
SHARES = RNG.dirichlet([5.0, 1.0, 0.5], size=23)
VOTES = [
    Votes(
        index=i, label=i % 3, selection=RNG.multinomial(10, p),
        estimation=RNG.multinomial(200, p), seconds=float(i),
    )
    for i, p in enumerate(SHARES)
]  # fmt: skip
PIXELS = RNG.integers(0, 2, (23, 5)).astype(np.float32)
LABELS = np.zeros(23, np.int64)
WIDE = cc.L1Noise(7, 1.0, 2.0)
SOUND = cc.Lattice(0.25)


@contextlib.contextmanager
def stored() -> Iterator[MemoryStore]:
    with MemoryStore() as store:
        store.begin("a", RUN)
        for votes in VOTES:
            store.add("a", votes)
        yield store


def casts() -> list[Any]:
    with stored() as store:
        return np.concatenate(list(store.casts("a"))).tolist()


def reading(bound: str | None) -> list[Any]:
    with stored() as store:
        result = read_run(store, "a", bound=bound)
    columns = (result.indices, result.labels, result.predict, result.radius, result.seconds)
    return [None if each is None else each.tolist() for each in columns]


def logged() -> list[Any]:
    with stored() as store:
        result = dataclasses.replace(
            read_run(store, "a"), mode="sound", failed=np.arange(23, dtype=np.int64)
        )
    return [(row.index, row.label, row.radius, row.seconds, row.extra) for row in result.rows()]


def refusal() -> str:
    """The last input is off its categories."""
    x = PIXELS.copy()
    x[22, 4] = 0.5
    with pytest.raises(ValueError, match=r"0\.5") as caught:
        Dataset("d", x, LABELS, 2).check_known(cc.Flips(5, 2, 0.1))
    return str(caught.value)


def drawn(noise: cc.Noise, **how: Any) -> list[Any]:
    backend = kernels.backend("reference")
    return backend.draw(noise, 23, 5, start=3, **how).tolist()


def on_lattice() -> list[Any]:
    noise, backend = cc.L1Noise(7, 1.0), kernels.backend("reference")
    return [part.tolist() for part in backend.draw_lattice(noise, 23, 5, SOUND, start=3)]


def log_ratios() -> list[Any]:
    noise = cc.MixedNoise(7, 1.0, 2.0)
    shift = cc.worst_shift(noise, "linf", 0.1)
    return kernels.backend("reference").draw_log_ratio(noise, shift, 23, 5, start=3).tolist()


BLOCKS: list[tuple[str, int, Callable[[], Any]]] = [
    ("cert_core.tails.COLUMNS", 4, lambda: cc.binomial_lower(np.arange(24), 23, 0.01).tolist()),
    ("cert_core.kernels.reference.CHUNK", 30, lambda: drawn(WIDE)),
    ("cert_core.kernels.reference.CHUNK", 30,
     lambda: drawn(cc.Flips(7, 2, 0.3), center=np.zeros(7, np.float32))),
    ("cert_core.kernels.reference.CHUNK", 30, log_ratios),
    ("cert_core.kernels.reference.CHUNK", 30, on_lattice),
    ("cert_models.data.datasets.BLOCK", 4, refusal),
    ("cert_models.data.scales.BLOCK", 4, lambda: deviations(PIXELS).round(12).tolist()),
    ("cert_models.store.counts.BLOCK", 4, casts),
    ("cert_models.store.fingerprints.BLOCK", 4,
     lambda: data_fingerprint(Dataset("d", PIXELS, LABELS, 2))),
    ("cert_models.store.readings.MANY", 4, lambda: reading(None)),
    ("cert_models.store.readings.BLOCK", 4, lambda: reading("runner-up")),
    ("cert_models.store.results.BLOCK", 4, logged),
]  # fmt: skip


@pytest.mark.parametrize(("name", "size", "said"), BLOCKS, ids=[name for name, *_ in BLOCKS])
def test_blocks_change_nothing(
    name: str, size: int, said: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, constant = name.rpartition(".")
    whole = said()
    monkeypatch.setattr(importlib.import_module(module), constant, size)
    assert said() == whole
