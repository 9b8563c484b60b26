"""Engines: what the driver costs, and how long a run takes on many GPUs.

    python bench/engines.py driver --inputs 100000
    python bench/engines.py driver --inputs 160 --seconds 1 --workers 8
    python bench/engines.py simulate --store sequential.db --passes 2500 --stretches 700
    python bench/engines.py store --inputs 1000000

`driver` counts stretches that do nothing, by a process that answers at once, into a store.
`simulate` plays a run of ImageNet's validation set, an input's passes drawn from those that a store
of a sequential run holds: inputs dealt out by stride, and stretches handed out as they are taken,
by a driver that serves one after the other.  One GPU in twenty has half the speed; each is lost
once in a hundred days for ten minutes, with what it has in hand.
`store` fills one, and says what it takes to be read, and the log that it is exported as.
"""

from __future__ import annotations

import argparse
import heapq
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cert_core as cc
import cert_models.engines
from cert_models.data.datasets import Dataset
from cert_models.engines import RATE, SECONDS, TOGETHER, Processes, Sampler, Stretch
from cert_models.run import StoredRun
from cert_models.store.counts import CountStore
from cert_models.store.runs import FixedPlan, Run, SequentialPlan, Votes

INPUTS, N = 50_000, 100_100
SLOW, DAYS, AWAY = 20, 100.0, 600.0
WORKERS = (1, 8, 64, 512, 4096)


# ---- the driver ----


@dataclass(frozen=True)
class Seconds:
    """What the workers hold: how long a stretch takes."""

    seconds: float

    def __call__(self) -> float:
        return self.seconds


def votes_of_none(held: float, stretch: Stretch) -> Iterator[Votes]:
    """As many votes as the plan casts, of nothing."""
    time.sleep(held)
    counts = np.array([100, 0])
    for index, label, _ in stretch.inputs():
        yield Votes(index=index, label=label, selection=counts, estimation=counts)


def driver(inputs: int, seconds: float, workers: int) -> None:
    """How many stretches a second are handed out, answered and kept."""
    cert_models.engines.TOGETHER = 1
    run = Run(
        plan=FixedPlan(100, 100), noise=cc.Gaussian(3072, 0.5), seed=0, batch_size=1000,
        num_classes=2, model="", model_fingerprint="", data="", data_fingerprint="",
        attack="l2", alpha=0.001,
    )  # fmt: skip
    data = Dataset("d", np.zeros((inputs, 3072), np.float32), np.zeros(inputs, np.int64), 2)
    with tempfile.TemporaryDirectory() as folder, Processes(workers) as pool:
        sampler = Sampler(Seconds(seconds), votes_of_none, data, executor=pool)
        list(sampler(range(10 * workers)))  # the processes begin
        path, size = Path(folder) / "s.db", 0
        stored = StoredRun(path=path, name="bench", run=run, indices=range(inputs))
        begun, own = time.perf_counter(), time.process_time()
        for done, _ in enumerate(stored.keep(sampler.blocks(range(inputs)))):
            if done == inputs // 10:
                size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        took, own = time.perf_counter() - begun, time.process_time() - own
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size
    print(f"{inputs / took:.0f} stretches a second, {inputs / own:.0f} by the driver's own time")
    print(f"workers busy {100 * inputs * seconds / (took * workers):.1f} % of the time")
    print(f"memory of the driver: {more} KiB more after the last input than after a tenth of them")


# ---- a large store ----


def counted(inputs: int, classes: int = 1000) -> Iterator[list[Votes]]:
    """Votes for a class and four others, of as many inputs, in blocks."""
    rng = np.random.default_rng(0)
    for low in range(0, inputs, 10_000):
        block = []
        for index in range(low, min(low + 10_000, inputs)):
            some, share = rng.choice(classes, 5, replace=False), rng.beta(5, 0.5)
            stages = np.zeros((2, classes), np.int64)
            for stage, n in zip(stages, (100, 100_000), strict=True):
                stage[some] = rng.multinomial(n, [share, *np.full(4, (1 - share) / 4)])
            label, (selection, estimation) = int(some[0]), stages
            block.append(Votes(
                index=index, label=label, selection=selection, estimation=estimation,
                seconds=60.0 * float(share),  # as in a run, a time of its own each
            ))  # fmt: skip
        yield block


def store(inputs: int) -> None:
    """What a store of so many inputs takes to be read, each time by a process of its own."""
    run = Run(
        plan=FixedPlan(100, 100_000), noise=cc.Gaussian(150_528, 0.5), seed=0, batch_size=1000,
        num_classes=1000, model="", model_fingerprint="", data="", data_fingerprint="",
        attack="l2", alpha=0.001,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.db"
        stored = StoredRun(path=path, name="bench", run=run, indices=range(inputs))
        for _ in stored.keep(counted(inputs)):
            pass
        cert = "import sys; from cert_models.cli import main; main(sys.argv[1:])\n"
        done = "from cert_models.store.counts import CountStore as S; import sys\n"
        done += "with S(sys.argv[1]) as s: s.done('bench', s.runs()['bench'])\n"
        most = "print(*(line for line in open('/proc/self/status') if 'VmHWM' in line))"
        for name, code, words in (  # the size of the process itself, not of the one that starts it
            ("report", cert, ["report", str(path)]),
            ("export", cert, ["export", "--store", str(path), "--out", f"{path}.tsv"]),
            ("report of that log", cert, ["report", f"{path}.tsv"]),
            ("done", done, [str(path)]),
        ):
            begun, before = time.perf_counter(), os.times()
            subprocess.run([sys.executable, "-c", code + most, *words], check=True)
            took, after = time.perf_counter() - begun, os.times()
            own = sum(after[2:4]) - sum(before[2:4])
            print(f"{name}: {took:.1f} s, {own:.1f} of CPU")


# ---- many GPUs ----


def finish(start: float, work: float, speed: float, losses: Iterator[float]) -> float:
    """When work begun at start ends on a GPU that loses no more than time."""
    end = start + work / speed
    while (loss := next(losses)) < end:
        end = max(end, loss) + AWAY
    return end


def lost(rng: np.random.Generator) -> Iterator[float]:
    """When a GPU is lost."""
    at = 0.0
    while True:
        at += rng.exponential(DAYS * 86400)
        yield at


def by_stride(seconds: np.ndarray[Any, Any], workers: int, rng: np.random.Generator) -> float:
    """Each GPU has every so-many-th input, and goes on with them when it is back."""
    speeds = np.where(np.arange(workers) % SLOW == 0, 0.5, 1.0) if workers > 1 else [1.0]
    return max(
        finish(0.0, float(seconds[rank::workers].sum()), float(speeds[rank]), lost(rng))
        for rank in range(workers)
    )


def stretches(seconds: np.ndarray[Any, Any], workers: int, whole: bool) -> Iterator[float]:
    """Seconds of each, as Sampler cuts them."""
    left, mean = float(seconds.sum()), float(seconds.mean())
    at, rest, most = 0, float(seconds[0]), max(SECONDS, workers / RATE)
    while at < len(seconds):
        wanted = max(min(most, left / (2 * workers)), most / 10)
        if whole or mean < 2 * wanted:
            count = min(max(1, int(wanted / mean)), TOGETHER)
            took, at = float(seconds[at : at + count].sum()), at + count
        else:
            took = min(wanted, rest) if rest > 2 * wanted else rest
            rest -= took
            if rest <= 1e-9:
                at += 1
                rest = float(seconds[at]) if at < len(seconds) else 0.0
        left -= took
        yield took


def handed_out(
    seconds: np.ndarray[Any, Any], workers: int, rng: np.random.Generator, rate: float, whole: bool
) -> float:
    """Each GPU takes the next stretch when it has none, if the driver has time for it."""
    speeds = np.where(np.arange(workers) % SLOW == 0, 0.5, 1.0) if workers > 1 else [1.0]
    free = [(0.0, rank) for rank in range(workers)]
    losses = [lost(rng) for _ in range(workers)]
    nexts = [next(each) for each in losses]
    driver, last, again = 0.0, 0.0, list[float]()
    source = stretches(seconds, workers, whole)
    while (took := again.pop() if again else next(source, None)) is not None:
        at, rank = heapq.heappop(free)
        driver = max(at, driver) + 1 / rate
        end = driver + took / float(speeds[rank])
        if nexts[rank] < end:  # it is counted anew elsewhere
            again.append(took)
            end = max(end, nexts[rank]) + AWAY
            nexts[rank] = next(losses[rank])
        else:
            last = max(last, end)
        heapq.heappush(free, (end, rank))
    return last


def simulate(store: str, passes: float, rate: float) -> None:
    """The table of docs/engines.md."""
    with CountStore(store, readonly=True) as held:
        votes = held.votes(held.only(), SequentialPlan)
        drawn = np.array([v.selection.sum() + v.estimation.sum() for v in votes])
    rng = np.random.default_rng(0)
    sequential = rng.choice(drawn, INPUTS) / passes
    fixed = np.full(INPUTS, N / passes)
    print("| GPUs | n fixed: dealt out | handed out | sequential: dealt out | handed out |")
    print("| --- | --- | --- | --- | --- |")
    for workers in WORKERS:
        cells = []
        for seconds, whole in ((fixed, False), (sequential, True)):
            ideal = float(seconds.sum()) / workers
            for took in (
                by_stride(seconds, workers, rng), handed_out(seconds, workers, rng, rate, whole)
            ):  # fmt: skip
                cells.append(f"{took / 3600:.4g} h ({100 * ideal / took:.0f} %)")
        print(f"| {workers} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("driver")
    one.add_argument("--inputs", type=int, default=20_000)
    one.add_argument("--seconds", type=float, default=0.0, help="that each takes")
    one.add_argument("--workers", type=int, default=1)
    two = commands.add_parser("simulate")
    two.add_argument("--store", required=True)
    two.add_argument("--passes", type=float, default=2500, help="a second, of one GPU")
    two.add_argument("--stretches", type=float, required=True, help="a second, of the driver")
    three = commands.add_parser("store")
    three.add_argument("--inputs", type=int, default=1_000_000)
    given = parser.parse_args()
    if given.command == "store":
        store(given.inputs)
    elif given.command == "driver":
        driver(given.inputs, given.seconds, given.workers)
    else:
        simulate(given.store, given.passes, given.stretches)
