"""The long run: inputs -> counts -> certificates, one input at a time, by many workers."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import cert_core as cc
from cert_models.data.datasets import Dataset
from cert_models.engines import TOGETHER, Sampler, Stretch
from cert_models.networks.models import load_model, routing_by
from cert_models.store.counts import CountStore, MemoryStore
from cert_models.store.fingerprints import model_fingerprint
from cert_models.store.readings import read_run, result_of
from cert_models.store.results import Result
from cert_models.store.runs import (
    SCORE_UNIT,
    AllPlan,
    FixedPlan,
    Plan,
    RoutedPlan,
    Run,
    ScorePlan,
    SequentialPlan,
    ShellPlan,
    Votes,
    bound_for,
    was_sent,
)
from cert_models.store.storage import check_held

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)
ROWS = 1000  # of a batch that a function gets, unless told


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe:
    """How a run's classifier is made wherever its inputs are counted.

    Attributes
    ----------
    model : a name, which load_model reads there, or the model itself, which is sent
    run : Run or Task
    smooth : callable (model, run, device=..., **forward) -> Smoothed
    loading : dict, how a named model is loaded, as load_model takes it
    device, forward : as in smoothed_of
    labels : sequence of int
        Of a router: as of Part.
    folder : str, from which names are meant, where it is there
    """

    model: Any
    run: Any
    smooth: Callable[..., cc.Smoothed] = smoothed_of
    loading: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    forward: Mapping[str, Any] = field(default_factory=dict)
    labels: Sequence[int] = ()
    folder: str = field(default_factory=lambda: str(Path.cwd()))

    def __call__(self) -> tuple[cc.Smoothed, Any]:
        keep_memory()
        here = Path(self.folder).is_dir()
        with contextlib.chdir(self.folder) if here else contextlib.nullcontext():
            model = self._named() if isinstance(self.model, str) else self.model
            if self.labels:
                model = routing_by(model, self.labels)
            return self.smooth(model, self.run, device=self.device, **self.forward), self.run

    def _named(self) -> Any:
        """The model of this name, if it is the run's."""
        run, name = self.run, str(self.model)
        model = load_model(name, device=self.device, **self.loading)
        if run.model_fingerprint:
            found = model_fingerprint(model, name, self.forward.get("autocast"))
            if found != run.model_fingerprint:
                rule = f"the run's model, of fingerprint {run.model_fingerprint}"
                raise cc.errors.fail("model", rule, found, f"bring {name!r} to this machine")
        return model


@dataclass(frozen=True, kw_only=True, eq=False)
class RoutedRecipe:
    """The same of a routed run: how its router and its branches are made."""

    run: Run
    parts: Sequence[Recipe]

    def __call__(self) -> tuple[cc.Routed, Run]:
        (router, _), *branches = (part() for part in self.parts)
        return cc.Routed(router, [smoothed for smoothed, _ in branches]), self.run


def sampler_of(
    model: Any, run: Run, data: Dataset, *, device: str | None,
    executor: Executor | None = None, loading: Any = None, **forward: Any,
) -> Sampler[Votes]:  # fmt: skip
    """What counts the votes of given inputs by the run's plan, as they are ready.

    Parameters
    ----------
    model, run, device, forward : as in smoothed_of; of a routed run a sequence of models, as of
        Run.parts, and of loading likewise
    data : Dataset
    executor : Executor, optional
        Whose workers count, any of concurrent.futures.
    loading : dict, optional
        How each worker loads a model given by its name, as load_model takes it.
    """
    if type(run.plan) not in SAMPLERS:
        raise ValueError(f"plan must say how to sample, got {run.plan!r}: a log has been sampled")
    if run.sound is not None and run.quantized:
        data = data.quantised(run.sound)
    how: dict[str, Any] = {"device": device, "forward": forward}
    make: Recipe | RoutedRecipe
    if isinstance(run.plan, RoutedPlan):
        labels = [run.plan.router.labels, *(() for _ in run.plan.branches)]
        each = zip(model, run.parts, loading, labels, strict=True)
        parts = [
            Recipe(
                model=one, run=part, labels=told,
                loading={"num_classes": len(told) or part.num_classes, **load}, **how,
            )
            for one, part, load, told in each
        ]  # fmt: skip
        make = RoutedRecipe(run=run, parts=parts)
    else:
        loading = {"num_classes": run.num_classes, **(loading or {})}
        make = Recipe(model=model, run=run, loading=loading, **how)
    samples = run.plan.n if isinstance(run.plan, FixedPlan) else None
    if isinstance(run.noise, cc.Splitting):  # its copies are all of one stretch, or wrong
        samples = None
    return Sampler(
        make, count_stretch, data, executor=executor, samples=samples,
        together=TOGETHER if _stops(run) else 1,
    )  # fmt: skip


def _stops(run: Run) -> bool:
    """Whether some of its sampling stops by a test, which many inputs keep busy."""
    return any(isinstance(each.plan, SequentialPlan) for each in (run, *run.parts))


def count_stretch(made: tuple[Any, Run], stretch: Stretch) -> Iterator[Votes]:
    """The votes of a stretch of a run, each as it is ready: the same wherever it is counted."""
    smoothed, run = made
    return SAMPLERS[type(run.plan)](smoothed, run, run.plan, stretch)


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
    smoothed: cc.Smoothed, run: Run, plan: FixedPlan, stretch: Stretch
) -> Iterator[Votes]:
    """Count the votes of inputs, one by one; or some of an input's votes."""
    start, stop = stretch.start, plan.n if stretch.stop is None else stretch.stop
    for index, label, x in stretch.inputs():
        begun, selection = time.monotonic(), np.zeros((1, run.num_classes), dtype=np.int64)
        if start == 0:
            selection = smoothed.counts(x, plan.n0, run.seed, indices=[index], stage="selection")
        estimation = smoothed.counts(x, stop - start, run.seed, indices=[index], start=start)
        seconds = time.monotonic() - begun
        yield Votes(
            index=index, label=label, selection=np.asarray(selection)[0],
            estimation=np.asarray(estimation)[0], failed=_failed(estimation), seconds=seconds,
        )  # fmt: skip


def count_all(smoothed: cc.Smoothed, run: Run, plan: AllPlan, stretch: Stretch) -> Iterator[Votes]:
    """Count the votes of all copies of inputs, one by one."""
    for index, label, x in stretch.inputs():
        begun = time.monotonic()
        counts = np.asarray(smoothed.counts(x, plan.n, run.seed, indices=[index]))[0]
        yield Votes(
            index=index, label=label, selection=np.zeros_like(counts),
            estimation=counts, seconds=time.monotonic() - begun,
        )  # fmt: skip


def decide_inputs(
    smoothed: cc.Smoothed, run: Run, plan: SequentialPlan, stretch: Stretch
) -> Iterator[Votes]:
    """Count the votes of inputs until the plan's test stops.

    All are under way at a time; the time of each is that since the last was ready.
    """
    begun = time.monotonic()
    indices = stretch.indices
    for votes in smoothed.outcomes(plan.rule, stretch.x, run.seed, indices=indices):
        seconds = time.monotonic() - begun
        yield replace(votes, label=stretch.labels[votes.position], seconds=seconds)
        begun = time.monotonic()


def score_inputs(
    smoothed: cc.Smoothed, run: Run, plan: ScorePlan, stretch: Stretch
) -> Iterator[Votes]:
    """Score noisy copies of inputs, one by one.

    Yields
    ------
    Votes
        Scores as whole numbers of 1/SCORE_UNIT, rounded down.
    """
    for index, truth, x in stretch.inputs():
        begun = time.monotonic()
        mean = smoothed.mean_scores(x, plan.n0, run.seed, indices=[index], stage="selection")[0]
        selection = np.floor(mean * plan.n0 * SCORE_UNIT).astype(np.int64)
        label = int(selection.argmax())
        scores = smoothed.label_scores(x, [label], plan.n, run.seed, indices=[index])
        units = np.floor(scores[0].astype(np.float64) * SCORE_UNIT).astype(np.int64)
        estimation = np.zeros_like(selection)
        estimation[label] = units.sum()
        yield Votes(
            index=index, label=truth, selection=selection, estimation=estimation,
            scores=tuple(units.tolist()), failed=_failed(scores), seconds=time.monotonic() - begun,
        )  # fmt: skip


def _failed(table: Any) -> int:
    """Copies of the one input of a table that FAILed in sound mode."""
    return int(cc.provenance.failed_copies(table, 1)[0])


def tell_inputs_apart(
    smoothed: cc.Smoothed, run: Run, plan: ShellPlan, stretch: Stretch
) -> Iterator[Votes]:
    """Count the votes of inputs by shell, one by one."""
    for index, label, x in stretch.inputs():
        begun = time.monotonic()
        chosen = smoothed.counts(x, plan.n0, run.seed, indices=[index], stage="selection")
        told = smoothed.shell_counts(x, plan.n, run.seed, plan.thresholds, indices=[index])
        selection, table = np.asarray(chosen)[0], np.asarray(told)[0]
        cast, drawn = table[:, selection.argmax()], table.sum(axis=1)
        yield Votes(
            index=index, label=label, selection=selection,
            estimation=table.sum(axis=0), shells=(*cast.tolist(), *drawn.tolist()),
            seconds=time.monotonic() - begun,
        )  # fmt: skip


def route_inputs(
    routed: cc.Routed, run: Run, plan: RoutedPlan, stretch: Stretch
) -> Iterator[Votes]:
    """Count a router's votes of inputs, then those of the branches that it is certified to send
    them to."""
    asked, *branches = run.parts
    sent: list[list[int]] = [[] for _ in branches]
    kept: dict[int, Votes] = {}
    for votes in count_stretch((routed.router, asked), stretch):
        if certified_right(replace(votes, label=votes.selected), asked):
            sent[votes.selected].append(stretch.indices.index(votes.index))
            kept[votes.index] = votes
            continue
        none = np.zeros(run.num_classes, dtype=np.int64)
        yield Votes(
            index=votes.index, label=votes.label, selection=none, estimation=none,
            seconds=votes.seconds, router=votes,
        )  # fmt: skip
    for number, places in enumerate(sent):
        if not places:
            continue
        part = replace(
            stretch, indices=tuple(stretch.indices[i] for i in places),
            labels=tuple(stretch.labels[i] for i in places), x=stretch.x[places],
        )  # fmt: skip
        for votes in count_stretch((routed.branches[number], branches[number]), part):
            router = kept[votes.index]
            yield replace(votes, router=router, seconds=router.seconds + votes.seconds)


SAMPLERS: dict[type[Plan], Callable[..., Iterator[Votes]]] = {
    FixedPlan: count_inputs,
    AllPlan: count_all,
    SequentialPlan: decide_inputs,
    ScorePlan: score_inputs,
    ShellPlan: tell_inputs_apart,
    RoutedPlan: route_inputs,
}


def certified_right(votes: Votes, run: Run, bound: str | None = None) -> bool:
    """Whether an input is certified with the right label at some radius, without the radius where
    the bound of one class tells: one above 1/2 certifies it under every noise."""
    if run.parts:
        asked = votes.router
        return was_sent(votes) and asked is not None and certified_right(
            replace(votes, router=None), run.parts[1 + asked.selected], bound
        )  # fmt: skip
    name = bound_for(run.plan, bound)
    how = cc.BOUNDS[name] if name is not None else None
    if how is None or how.reads in ("classes", "shells") or run.quantized:
        said = result_of([votes], run, attack=run.attack, alpha=run.alpha, bound=name)
        return bool(said.predict[0] == votes.label)
    n = int(votes.estimation.sum()) + votes.failed
    cast = (int(votes.estimation[votes.selected]), n)
    read = cast if votes.scores is None else (np.array(votes.scores) / SCORE_UNIT,)
    return votes.selected == votes.label and bool(how.lower(*read, how.share * run.alpha) > 0.5)


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A run in a store, on which this process works: its only writer, whoever counts.

    Attributes
    ----------
    path : Path, of the store; None keeps it in memory
    name : str
    run : Run
    indices : the inputs that this start is to have done
    held : the files that were opened, to be the same whenever they are opened again
    """

    path: Path | None
    name: str
    run: Run
    indices: Sequence[int]
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

    def take_in(self) -> None:
        """Take in what workers of earlier versions left beside FILE, each in a file of its own."""
        if self.path is None:
            return
        pattern = re.compile(re.escape(self.path.name) + r"\.worker-\d+")
        folder = self.path.parent
        names = sorted(folder.iterdir()) if folder.is_dir() else []
        left = [path for path in names if pattern.fullmatch(path.name)]
        if left:
            with self.opened(self.path) as store:
                store.merge(*left)

    def done(self) -> set[int]:
        """Inputs that FILE holds; creates it, but no run before there is a count for it."""
        with self.opened(self.path) as store:
            return store.done(self.name, self.run)

    def right(self, bound: str | None = None) -> int:
        """How many of the inputs that are done are certified with their label."""
        with self.opened(self.path) as store:
            done = store.done(self.name, self.run) & set(self.indices)
            return read_run(store, self.name, done, bound=bound).count(0.0) if done else 0

    def keep(self, counted: Iterable[Sequence[Votes]]) -> Iterator[Votes]:
        """Pass on what is counted; each input is on the disk when it is yielded."""
        with self.opened(self.path) as store:
            begun = False
            for block in counted:
                if not begun:
                    store.begin(self.name, self.run, versions())
                    begun = True
                with store.transaction():
                    for votes in block:
                        store.add(self.name, votes)
                yield from block

    def result(self, **how: Any) -> Result:
        """What the inputs' counts say; how: as in read_run."""
        with self.opened(self.path, readonly=True) as store:
            return read_run(store, self.name, self.indices, **how)


def versions() -> dict[str, str]:
    """What computes here, for the record of a start."""
    found = {"python": platform.python_version(), "cert_core": cc.__version__}
    found |= {"numpy": np.__version__, "machine": platform.machine()}
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = str(torch.__version__)
    return found
