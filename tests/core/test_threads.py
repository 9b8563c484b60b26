"""Threads and forks: the same answers as one thread in one process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import cert_core as cc
from cert_core import calibration
from cert_core.laws import sums


@pytest.fixture(autouse=True)
def eager_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def at_once(tasks: list[Callable[[], Any]]) -> list[Any]:
    with ThreadPoolExecutor(len(tasks)) as pool:
        return [done.result() for done in [pool.submit(task) for task in tasks]]


@pytest.mark.parametrize("attempt", range(4))
def test_radii_of_one_curve(attempt: int) -> None:
    """Threads that extend one curve at both ends."""
    noise = cc.L2Noise(50, 1.0 + attempt, 20)
    middle = np.linspace(0.7, 0.8, 30)
    parts = [
        np.linspace(*ends, 40)
        for ends in ((0.501, 0.6), (0.52, 0.69), (0.81, 0.99), (0.9, 0.9999), (0.55, 0.999))
    ]
    calibration.curve.cache_clear()
    expected = [cc.certified_radius(p, noise, "l2") for p in parts]
    calibration.curve.cache_clear()
    cc.certified_radius(middle, noise, "l2")
    found = at_once([lambda p=p: cc.certified_radius(p, noise, "l2") for p in parts])  # type: ignore[misc]
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9)


def test_mixed_law_while_its_tables_are_made() -> None:
    noise = cc.MixedNoise(64, 1.0, 16.0)
    expected = cc.required_probability(noise, "linf", 0.1)

    def late(seconds: float) -> float:
        time.sleep(seconds)
        return cc.required_probability(noise, "linf", 0.1)

    sums.tables.cache_clear()
    for got in at_once([lambda s=s: late(s) for s in (0.0, 0.02, 0.05, 0.1)]):  # type: ignore[misc]
        assert got == expected


def test_few_dimensions_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "NODES_KEPT", 300)
    noise = cc.MixedNoise(4, 1.0, 1.0)
    sums.tables.cache_clear()
    for radius in (0.1, 0.2, 0.3):
        bound = cc.required_probability(noise, "linf", radius)
        assert 0.5 < bound < 1
    assert len(sums.tables(4, 1.0)._nodes) <= 300


FORK = """
import os
import cert_core as cc
from cert_core.kernels.cpu import backend as cpu
noise = cc.Gaussian(3072, 1.0)
before = cpu.draw(noise, 500, 1, threads=2)
child = os.fork()
if child == 0:
    os._exit(0 if (cpu.draw(noise, 500, 1, threads=2) == before).all() else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_draws() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], timeout=120)
    assert done.returncode == 0
