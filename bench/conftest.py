"""Races: contestants interleaved in one process, medians of CPU time, one table a file at the end.

The machine drifts by up to 1.4 over minutes, so only ratios within a race mean anything:
each round runs every contestant once, the order flipped every round, and a ratio is the
median over rounds.  pytest-benchmark times the project's own entry besides, and keeps what was
raced in its JSON, of which tables.py makes Markdown.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tables


class Race:
    """One group of contestants; the first is the project's own, or (own) all are."""

    def __init__(self, benchmark: Any) -> None:
        self._benchmark = benchmark
        self._timed = False

    def __call__(
        self,
        title: str,
        contestants: dict[str, Callable[[], Any]],
        *,
        values: float = 1,
        unit: str = "ns/value",
        rounds: int = 9,
        timer: Callable[[], float] = time.process_time,
        notes: dict[str, str] | None = None,
        own: bool = False,
    ) -> dict[str, float]:
        """Run the race; returns time/values of each contestant in the unit (ns, us or ms)."""
        scale = {"ns": 1e9, "us": 1e6, "ms": 1e3}[unit[:2]]
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for function in contestants.values():
            function()
        order = list(contestants)
        for _ in range(rounds):
            for name in order:
                begun = timer()
                contestants[name]()
                times[name].append((timer() - begun) / values * scale)
            order.reverse()
        ours = next(iter(contestants))
        result = {name: float(np.median(taken)) for name, taken in times.items()}
        ratio = {
            name: float(np.median(np.array(taken) / np.array(times[ours])))
            for name, taken in times.items()
        }
        race = {"title": title, "unit": unit, "times": result, "ratios": ratio, "own": own}
        self._benchmark.extra_info.setdefault("races", []).append(race | {"notes": notes or {}})
        if not self._timed:  # one timing a test, that of its first race
            self._benchmark.pedantic(contestants[ours], rounds=3, iterations=1)
            self._timed = True
        return result


@pytest.fixture
def race(benchmark: Any) -> Race:
    return Race(benchmark)


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    session = getattr(config, "_benchmarksession", None)
    done = [(b.fullname, b.extra_info) for b in session.benchmarks] if session else []
    text = tables.markdown(done)
    if text:
        terminalreporter.section("races: medians of CPU time")
        terminalreporter.write_line(text)
