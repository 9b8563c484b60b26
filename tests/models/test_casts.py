"""Rows of a store read many at a time say what they say one by one, or are left to that."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import cert_core as cc
from cert_models.store.casts import casts_at_once, written_at_once
from cert_models.store.counts import _votes_of
from cert_models.store.runs import FixedPlan, Run

CLASSES, PLAN = 12, FixedPlan(20, 100)
RUN = Run(
    plan=PLAN, noise=cc.Gaussian(4, 0.5), seed=0, batch_size=1, num_classes=CLASSES, model="m",
    model_fingerprint="", data="d", data_fingerprint="", attack="l2", alpha=0.001,
)  # fmt: skip
Row = tuple[Any, ...]


def text(counts: Any) -> str:
    return json.dumps({str(i): int(counts[i]) for i in np.flatnonzero(counts)})


def rows(count: int) -> list[Row]:
    rng = np.random.default_rng(count)
    found: list[Row] = []
    for index in range(count):
        p = rng.dirichlet(np.full(CLASSES, 0.1 if index % 2 else 1.0))
        first, second = text(rng.multinomial(20, p)), text(rng.multinomial(100, p))
        found.append((index, int(rng.integers(CLASSES)), first, second, None, float(rng.random())))
    return found


def columns(given: list[Row]) -> list[Row]:
    return list(zip(*given, strict=True))


@pytest.mark.parametrize("count", [1, 2, 400])
def test_blocks_say_what_rows_say(count: int) -> None:
    given = rows(count)
    block = casts_at_once(PLAN, CLASSES, columns(given))
    assert block is not None
    assert written_at_once(columns(given)) == list(map(repr, given))
    one_by_one = [_votes_of(RUN, row) for row in given]
    assert block.tolist() == [
        (v.index, v.label, v.selected, int(v.estimation[v.selected]), v.seconds) for v in one_by_one
    ]


def test_a_tie_goes_to_the_first_class() -> None:
    row = (0, 1, '{"3": 10, "11": 10}', '{"2": 60, "11": 40}', None, 0.0)
    block = casts_at_once(PLAN, CLASSES, columns([row]))
    assert block is not None
    assert block["selected"].tolist() == [3]
    assert block["votes"].tolist() == [0]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, -1), (0, 2**32), (0, 1.0), (0, True), (1, -1), (1, "2"), (1, 2**53 + 1),
        (2, '{"1": 21}'), (2, '{"1": 10, "1": 10}'), (2, '{"5": 10, "1": 10}'), (2, '{"12": 20}'),
        (2, '{"1": 20}\n'), (2, "{}"), (2, '{"1": 20.0}'), (2, '{"-1": 20}'), (2, '{"01": 20}'),
        (2, '{"1": 20},{"1": 20}'), (2, '{"1": 30, "2": -10}'), (2, b'{"1": 20}'), (2, None),
        (3, '{"1": 99}'), (3, '{"1":100}'), (3, '{"1": 1e2}'), (3, '{"1": 00100}'), (3, ""),
        (3, '{"1": \u0661\u0660\u0660}'), (3, '{"1": 18446744073709551716}'), (4, "[1]"),
        (5, -1.0), (5, float("nan")), (5, float("inf")), (5, 1), (5, None),
    ],
)  # fmt: skip
def test_what_is_not_written_here_is_left_to_the_reader_of_rows(place: int, value: Any) -> None:
    given = rows(5)
    changed = list(given[2])
    changed[place] = value
    given[2] = tuple(changed)
    assert casts_at_once(PLAN, CLASSES, columns(given)) is None


def test_objects_that_two_rows_share_are_none() -> None:
    halves = ['{"1": 20}\n{"1": 20}', '{"1": 10, ']
    given = [(i, 0, half, '{"1": 100}', None, 0.0) for i, half in enumerate(halves)]
    assert casts_at_once(PLAN, CLASSES, columns(given)) is None
