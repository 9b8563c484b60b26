"""The long run: inputs -> counts -> certificates, one input at a time, by many workers."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

import cert_core as cc
from cert_models.data.datasets import Dataset
from cert_models.networks.models import load_model
from cert_models.store.counts import CountStore, MemoryStore
from cert_models.store.readings import read_run, result_of
from cert_models.store.results import Result
from cert_models.store.runs import (
    SCORE_UNIT,
    AllPlan,
    FixedPlan,
    Plan,
    Run,
    ScorePlan,
    SequentialPlan,
    ShellPlan,
    Votes,
    bound_for,
)
from cert_models.store.storage import check_held

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)
ROWS = 1000  # of a batch that a function gets, unless told
TOGETHER = 64  # inputs under way at a time in sequential runs, so that batches stay full


def smoothed_of(model: Any, run: Run, *, device: str | None = None, **forward: Any) -> cc.Smoothed:
    """The model of a run, smoothed.

    A torch module, a function from a float32 array (m, *input_shape) to m labels (to scores,
    where the plan is of scores), or a name as load_model takes.  forward: how a module is run,
    as SmoothedClassifier takes it.
    """
    found = load_model(model, run.num_classes) if isinstance(model, str) else model
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(found, torch.nn.Module):
        from cert_models.networks.architectures import usable_device
        from cert_models.smooth import SmoothedClassifier

        module = found.to(usable_device(device)) if device is not None else found
        return SmoothedClassifier(
            module, run.noise, run.num_classes,
            batch_size=run.batch_size or None, device=device, sound=run.sound, **forward,
        )  # fmt: skip
    for name, value in forward.items():
        if value:
            raise ValueError(f"{name} must not be given for a function, got {value!r}: drop it")
    if not callable(found):
        raise cc.errors.fail("model", "a torch module or a function", found, "name one")
    soft = isinstance(run.plan, ScorePlan)
    return cc.Smoothed(
        None if soft else found, run.noise, run.num_classes, sound=run.sound,
        scores=found if soft else None, batch_size=run.batch_size or ROWS,
    )  # fmt: skip


def sampler_of(
    model: Any, run: Run, data: Dataset, *, device: str | None, **forward: Any
) -> Callable[[Sequence[int]], Iterator[Votes]]:
    """What counts the votes of given inputs by the run's plan, one input after the other."""
    if type(run.plan) not in SAMPLERS:
        raise ValueError(f"plan must say how to sample, got {run.plan!r}: a log has been sampled")
    smoothed = smoothed_of(model, run, device=device, **forward)
    if run.sound is not None and run.quantized:
        data = data.quantised(run.sound)
    return partial(SAMPLERS[type(run.plan)], smoothed, data, run, run.plan)


def keep_memory() -> None:
    """Let the C library (glibc) keep what is freed between batches, for good.

    It may else return a network's activations to the system after every batch, to be faulted
    in page by page by the next: measured, 2.5 times the whole loop's time on the CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def count_inputs(
    smoothed: cc.Smoothed, data: Dataset, run: Run, plan: FixedPlan, indices: Sequence[int]
) -> Iterator[Votes]:
    """Count the votes of the inputs of a data set, one by one."""
    for index in indices:
        begun = time.monotonic()
        x = data.x[index : index + 1]
        selection = smoothed.counts(x, plan.n0, run.seed, indices=[index], stage="selection")
        estimation = smoothed.counts(x, plan.n, run.seed, indices=[index])
        seconds = time.monotonic() - begun
        yield Votes(
            index=index, label=int(data.y[index]), selection=selection[0],
            estimation=estimation[0], failed=_failed(estimation), seconds=seconds,
        )  # fmt: skip


def count_all(
    smoothed: cc.Smoothed, data: Dataset, run: Run, plan: AllPlan, indices: Sequence[int]
) -> Iterator[Votes]:
    """Count the votes of all copies of the inputs of a data set, one by one."""
    for index in indices:
        begun = time.monotonic()
        counts = smoothed.counts(data.x[index : index + 1], plan.n, run.seed, indices=[index])[0]
        yield Votes(
            index=index, label=int(data.y[index]), selection=np.zeros_like(counts),
            estimation=counts, seconds=time.monotonic() - begun,
        )  # fmt: skip


def decide_inputs(
    smoothed: cc.Smoothed, data: Dataset, run: Run, plan: SequentialPlan, indices: Sequence[int]
) -> Iterator[Votes]:
    """Count the votes of the inputs of a data set until the plan's test stops.

    Many inputs are under way at a time; the time of each is that since the last was ready.
    """
    begun = time.monotonic()
    for low in range(0, len(indices), TOGETHER):
        block = list(indices[low : low + TOGETHER])
        for votes in smoothed.outcomes(plan.rule, data.x[block], run.seed, indices=block):
            seconds = time.monotonic() - begun
            yield replace(votes, label=int(data.y[votes.index]), seconds=seconds)
            begun = time.monotonic()


def score_inputs(
    smoothed: cc.Smoothed, data: Dataset, run: Run, plan: ScorePlan, indices: Sequence[int]
) -> Iterator[Votes]:
    """Score noisy copies of the inputs of a data set, one by one.

    Yields
    ------
    Votes
        Scores as whole numbers of 1/SCORE_UNIT, rounded down.
    """
    for index in indices:
        begun = time.monotonic()
        x = data.x[index : index + 1]
        mean = smoothed.mean_scores(x, plan.n0, run.seed, indices=[index], stage="selection")[0]
        selection = np.floor(mean * plan.n0 * SCORE_UNIT).astype(np.int64)
        label = int(selection.argmax())
        scores = smoothed.label_scores(x, [label], plan.n, run.seed, indices=[index])
        units = np.floor(scores[0].astype(np.float64) * SCORE_UNIT).astype(np.int64)
        estimation = np.zeros_like(selection)
        estimation[label] = units.sum()
        yield Votes(
            index=index, label=int(data.y[index]), selection=selection, estimation=estimation,
            scores=tuple(units.tolist()), failed=_failed(scores), seconds=time.monotonic() - begun,
        )  # fmt: skip


def _failed(table: Any) -> int:
    """Copies of the one input of a table that FAILed in sound mode."""
    return int(cc.provenance.failed_copies(table, 1)[0])


def tell_inputs_apart(
    smoothed: cc.Smoothed, data: Dataset, run: Run, plan: ShellPlan, indices: Sequence[int]
) -> Iterator[Votes]:
    """Count the votes of the inputs of a data set by shell, one by one."""
    for index in indices:
        begun = time.monotonic()
        x = data.x[index : index + 1]
        selection = smoothed.counts(x, plan.n0, run.seed, indices=[index], stage="selection")[0]
        told = smoothed.shell_counts(x, plan.n, run.seed, plan.thresholds, indices=[index])
        table = np.asarray(told)[0]
        cast, drawn = table[:, selection.argmax()], table.sum(axis=1)
        yield Votes(
            index=index, label=int(data.y[index]), selection=selection,
            estimation=table.sum(axis=0), shells=(*cast.tolist(), *drawn.tolist()),
            seconds=time.monotonic() - begun,
        )  # fmt: skip


SAMPLERS: dict[type[Plan], Callable[..., Iterator[Votes]]] = {
    FixedPlan: count_inputs,
    AllPlan: count_all,
    SequentialPlan: decide_inputs,
    ScorePlan: score_inputs,
    ShellPlan: tell_inputs_apart,
}


def certified_right(votes: Votes, run: Run, bound: str | None = None) -> bool:
    """Whether an input is certified with the right label at some radius, without the radius where
    the bound of one class tells: one above 1/2 certifies it under every noise."""
    name = bound_for(run.plan, bound)
    how = cc.BOUNDS[name] if name is not None else None
    if how is None or how.reads in ("classes", "shells") or run.quantized:
        said = result_of([votes], run, attack=run.attack, alpha=run.alpha, bound=name)
        return bool(said.predict[0] == votes.label)
    n = int(votes.estimation.sum()) + votes.failed
    cast = (int(votes.estimation[votes.selected]), n)
    read = cast if votes.scores is None else (np.array(votes.scores) / SCORE_UNIT,)
    return votes.selected == votes.label and bool(how.lower(*read, how.share * run.alpha) > 0.5)


@dataclass(frozen=True)
class Worker:
    """One of the processes that share a run: alone, or started by torch's launcher."""

    rank: int = 0
    world: int = 1

    @classmethod
    def from_environment(cls) -> Worker:
        """RANK and WORLD_SIZE, as the launcher sets them for each process."""
        texts = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        if not all(text.isdigit() for text in texts) or int(texts[0]) >= int(texts[1]):
            raise ValueError(
                "RANK and WORLD_SIZE must be integers with 0 <= RANK < WORLD_SIZE, got "
                f"{texts[0]!r} and {texts[1]!r}: start the workers by torch.distributed.run"
            )
        return cls(*map(int, texts))

    def others(self) -> bool:
        """Whether a launcher is known to have started the other workers, and to mind them."""
        return self.world > 1 and "TORCHELASTIC_RUN_ID" in os.environ

    def device(self, name: str | None) -> str | None:
        """The worker's own GPU where several share a node."""
        local = os.environ.get("LOCAL_RANK")
        return f"cuda:{local}" if name == "cuda" and self.world > 1 and local else name


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A run in a store, on which this process works, alone or with others.

    Every worker takes each world-th input and writes a store of its own, FILE.worker-RANK;
    when it has done its share it merges all of them into FILE.  So no file is written by
    two processes at a time, any process may die at any moment, and a start with any number
    of workers goes on from all that was done.

    Attributes
    ----------
    path : Path, of the store; None keeps it in memory, by one worker
    name : str
    run : Run
    indices : the inputs that this start is to have done
    worker : Worker
    held : the files that were opened, to be the same whenever they are opened again
    """

    path: Path | None
    name: str
    run: Run
    indices: Sequence[int]
    worker: Worker = Worker()
    held: dict[Path, tuple[int, int] | None] = field(default_factory=dict)

    @cached_property
    def _memory(self) -> MemoryStore:
        return MemoryStore()

    def close(self) -> None:
        """Drop what is in memory alone."""
        if "_memory" in vars(self):
            self._memory.close()

    @contextlib.contextmanager
    def opened(self, path: Path | None, *, readonly: bool = False) -> Iterator[CountStore]:
        """A store of this run: that which it was when this start first opened it."""
        if path is None:
            yield self._memory
            return
        if path in self.held:
            check_held(path, self.held[path])
        with CountStore(path, readonly=readonly) as store:
            check_held(path, self.held.setdefault(path, store.held))
            yield store

    def workers_stores(self) -> list[Path]:
        """The stores of workers of this start and of earlier ones."""
        if self.path is None:
            return []
        pattern = re.compile(re.escape(self.path.name) + r"\.worker-\d+")
        return sorted(p for p in self.path.parent.iterdir() if pattern.fullmatch(p.name))

    def merged(self) -> set[int]:
        """Inputs that FILE holds; creates it, but no run before there is a count for it."""
        with self.opened(self.path) as store:
            return store.done(self.name, self.run)

    def left(self) -> list[int]:
        """This worker's inputs that nobody has done, of this start or an earlier one."""
        done = self.merged()
        for path in self.workers_stores():
            with CountStore(path, readonly=True) as store:
                done |= store.done(self.name, self.run)
        mine = self.indices[self.worker.rank :: self.worker.world]
        return [index for index in mine if index not in done]

    def before(self, bound: str | None = None) -> tuple[int, int]:
        """How many inputs the file of this worker has, and how many certified with their label."""
        with self.opened(self.own_store()) as store:
            done = store.done(self.name, self.run) & set(self.indices)
            result = read_run(store, self.name, done, bound=bound) if done else None
        return len(done), result.count(0.0) if result else 0

    def own_store(self) -> Path | None:
        """The file that this worker writes."""
        alone = self.worker.world == 1
        return self.path if alone else Path(f"{self.path}.worker-{self.worker.rank}")

    def keep(self, counted: Iterable[Votes]) -> Iterator[Votes]:
        """Pass on what is counted; each input is on the disk when it is yielded."""
        worker = self.worker
        with self.opened(self.own_store()) as store:
            begun = False
            for votes in counted:
                if not begun:
                    start = {"worker": worker.rank, "workers": worker.world, **versions()}
                    store.begin(self.name, self.run, start)
                    begun = True
                store.add(self.name, votes)
                yield votes

    def result(self, **how: Any) -> Result:
        """What the inputs' counts say; how: as in read_run."""
        with self.opened(self.path, readonly=True) as store:
            return read_run(store, self.name, self.indices, **how)

    def finish(self, was_complete: bool) -> tuple[int, bool]:
        """Merge what the workers have.

        Returns
        -------
        missing : int, inputs that nobody has done yet
        reports : bool
            Whether it is for this one to report the result: for the process whose merge brings
            the last inputs, and for the first worker where FILE was complete when it started.
        """
        wanted = set(self.indices)
        with self.opened(self.path) as store, store.transaction():
            before = store.done(self.name, self.run)
            store.merge(*self.workers_stores())
            missing = len(wanted - store.done(self.name, self.run))
        alone = self.worker.world == 1 or (self.worker.rank == 0 and was_complete)
        return missing, not missing and (alone or not wanted <= before)


def versions() -> dict[str, str]:
    """What computes here, for the record of a start."""
    found = {"python": platform.python_version(), "cert_core": cc.__version__}
    found |= {"numpy": np.__version__, "machine": platform.machine()}
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = str(torch.__version__)
    return found
