"""Where the stretches of a run are counted: here, in processes, on Ray or on Dask.

One driver reads the data, hands stretches out as they are taken, and alone writes; workers own
nothing, and get no stretch before they have answered an earlier one, but for one ahead.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, Generic, TypeVar

import numpy as np

import cert_core as cc
from cert_core.executors import Crew
from cert_models.data.datasets import Dataset

Votes = cc.votes.Votes
Item = TypeVar("Item")  # what is found of one input: its votes, or what a task certifies

SECONDS = 5.0  # that a stretch is to take: long beside its handing out, short beside the run
RATE = 200  # stretches a second that are handed out, answered and kept with ease: of many workers
LEAST = 1000  # samples of a stretch that is a part of an input
TOGETHER = 64  # inputs of a stretch at most; so many keep the batches of a sequential run full
FADING = 0.9  # of what is known of a stretch's time, with every further one


@dataclass(frozen=True, kw_only=True, eq=False)
class Stretch:
    """Work for one worker: inputs to be counted by the run's plan, or some samples of one.

    Attributes
    ----------
    indices, labels : tuples of int
    x : (len(indices), *input_shape), the inputs, which travel with it
    start, stop : int
        Estimation samples; the selection is counted with the first.  stop None: all, which
        alone makes sense of a plan that looks at its votes.
    """

    indices: tuple[int, ...]
    labels: tuple[int, ...]
    x: Any
    start: int = 0
    stop: int | None = None

    @classmethod
    def of(cls, data: Dataset, indices: Sequence[int], **samples: Any) -> Stretch:
        """Inputs of a data set."""
        places = list(indices)
        near = places == list(range(places[0], places[-1] + 1))
        x = data.x[places[0] : places[-1] + 1] if near else data.x[places]
        labels = tuple(int(data.y[index]) for index in places)
        return cls(indices=tuple(places), labels=labels, x=x, **samples)

    def __str__(self) -> str:
        first, last = self.indices[0], self.indices[-1]
        return f"input {first}" if len(self.indices) == 1 else f"inputs {first} to {last}"

    def apart(self) -> list[Stretch]:
        """Its inputs, each as a stretch of its own."""
        return [
            replace(self, indices=(index,), labels=(label,), x=x)
            for index, label, x in self.inputs()
        ]

    def inputs(self) -> Iterator[tuple[int, int, Any]]:
        """Index, label and (1, *input_shape) values of each."""
        for i, (index, label) in enumerate(zip(self.indices, self.labels, strict=True)):
            yield index, label, self.x[i : i + 1]


def passes(votes: Votes) -> int:
    """Noisy copies that were classified for an input."""
    if votes.router is not None:
        return passes(votes.router) + passes(replace(votes, router=None))
    if votes.scores is not None:
        return len(votes.scores)
    return int(votes.selection.sum() + votes.estimation.sum()) + votes.failed


def joined(parts: Sequence[Votes]) -> Votes:
    """The votes of one input from those of all its samples."""
    return replace(
        parts[0], selection=np.sum([part.selection for part in parts], axis=0),
        estimation=np.sum([part.estimation for part in parts], axis=0),
        failed=sum(part.failed for part in parts), seconds=sum(part.seconds for part in parts),
    )  # fmt: skip


class Sampler(Generic[Item]):
    """What counts inputs of a data set, here or by the workers of an executor.

    Parameters
    ----------
    make : callable, of what counting needs; on every worker it is called once
    count : callable (made, stretch) -> iterator of Votes, or of what else is found of each input,
        each ready when it is yielded; found by its name on every worker
    data : Dataset
    passes : callable, of what is found: the noisy copies that were classified for it
    samples : int, or None
        Estimation samples of an input, which may be cut; None: inputs stay whole.
    together : int, inputs of a stretch that is counted here
    executor : Executor, optional
    """

    def __init__(
        self,
        make: Callable[[], Any],
        count: Callable[[Any, Stretch], Iterator[Item]],
        data: Dataset,
        *,
        passes: Callable[[Any], int] = passes,
        samples: int | None = None,
        together: int = 1,
        executor: Executor | None = None,
    ) -> None:
        self._make, self._count, self._data, self._told = make, count, data, passes
        self._samples, self._together, self._executor = samples, together, executor
        self._begun, self._passes = time.monotonic(), 0
        self._crew: Crew | None = None
        self._seconds = self._units = 0.0  # of late: a unit is a sample, or an input that is whole

    def __call__(self, indices: Sequence[int]) -> Iterator[Item]:
        """What is found of inputs, as they are ready."""
        return chain.from_iterable(self.blocks(indices))

    def blocks(self, indices: Sequence[int]) -> Iterator[list[Item]]:
        """The same, those together that were ready together."""
        self._begun, self._passes = time.monotonic(), 0
        for block in (self._here if self._executor is None else self._handed_out)(indices):
            self._passes += sum(map(self._told, block))
            yield block

    def state(self) -> dict[str, float]:
        """Passes a second since the beginning, and how many workers are heard of."""
        seconds = time.monotonic() - self._begun
        found: dict[str, float] = {"passes_per_second": self._passes / max(seconds, 1e-9)}
        if self._executor is None:
            return found
        return found | {"workers": self._crew.alive() if self._crew is not None else 0}

    @cached_property
    def _made(self) -> Any:
        """What counting here needs, made when it is first asked for."""
        return self._make()

    def _here(self, indices: Sequence[int]) -> Iterator[list[Item]]:
        for low in range(0, len(indices), self._together):
            stretch = Stretch.of(self._data, indices[low : low + self._together])
            for found in self._count(self._made, stretch):
                yield [found]

    def _handed_out(self, indices: Sequence[int]) -> Iterator[list[Any]]:
        held = Counting(self._make, self._count)
        crew = self._crew = Crew(self._executor, held, count_whole, apart=Stretch.apart)
        parts: dict[int, list[tuple[int, Votes]]] = {}  # samples and votes
        for stretch, answer in crew.results(self._stretches(indices)):
            self._learn(stretch, answer.seconds)
            if stretch.stop is None:
                yield answer.value
                continue
            of_it = parts.setdefault(stretch.indices[0], [])
            of_it.append((stretch.stop - stretch.start, *answer.value))
            if sum(samples for samples, _ in of_it) == self._samples:
                yield [joined([votes for _, votes in parts.pop(stretch.indices[0])])]

    def _learn(self, stretch: Stretch, seconds: float) -> None:
        """Take the time of a stretch for that of the next ones."""
        each = self._samples or 1
        done = len(stretch.indices) * each if stretch.stop is None else stretch.stop - stretch.start
        self._seconds = FADING * self._seconds + seconds
        self._units = FADING * self._units + done

    def _wanted(self, left: int) -> int:
        """Units of the next stretch, of so many left; less towards the end, where others wait."""
        least = LEAST if self._samples else 1
        if not self._seconds or self._crew is None:
            return least
        workers, pace = max(1, self._crew.size()), self._units / self._seconds
        most = pace * max(SECONDS, workers / RATE)
        return max(least, int(most / 10), min(int(most), left // (2 * workers)))

    def _stretches(self, indices: Sequence[int]) -> Iterator[Stretch]:
        """All that is to be counted, cut when it is asked for."""
        each, at, start = self._samples or 1, 0, 0
        while at < len(indices):
            wanted = self._wanted((len(indices) - at) * each - start)
            if start == 0 and (self._samples is None or 2 * wanted > each):
                count = min(max(1, wanted // each), TOGETHER)
                yield Stretch.of(self._data, indices[at : at + count])
                at += count
                continue
            stop = each if each - start < 2 * wanted else start + wanted
            yield Stretch.of(self._data, indices[at : at + 1], start=start, stop=stop)
            at, start = (at + 1, 0) if stop == each else (at, stop)


@dataclass(frozen=True)
class Counting:
    """How a worker comes to count: what it needs, made there, and what counts with it."""

    make: Callable[[], Any]
    count: Callable[[Any, Stretch], Iterator[Any]]

    def __call__(self) -> tuple[Any, Callable[[Any, Stretch], Iterator[Any]]]:
        return self.make(), self.count


def count_whole(held: tuple[Any, Callable[[Any, Stretch], Iterator[Any]]], stretch: Stretch) -> Any:
    """All that is found of a stretch: a pure function of the run and the stretch."""
    made, count = held
    return list(count(made, stretch))


# ---- engines ----


class Processes(Executor):
    """Processes of this machine, one a device where there are several.

    Their pool is made again when one of them died, and they end when the driver does, be it
    killed.

    Parameters
    ----------
    count : int
    devices : sequence of str
        What CUDA_VISIBLE_DEVICES may say; the processes take them in turn.
    """

    def __init__(self, count: int, devices: Sequence[str] = ()) -> None:
        self._max_workers = cc.errors.integer("processes", count, 1, remedy="e.g. 2")
        self._context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self._alive, self._driver = self._context.Pipe(duplex=False)
        self._devices = tuple(devices)
        self._pool = self._made()

    def _made(self) -> ProcessPoolExecutor:
        threads = max(1, cores() // self._max_workers)
        return ProcessPoolExecutor(
            self._max_workers, mp_context=self._context, initializer=_begin,
            initargs=(self._alive, self._devices, threads),
        )  # fmt: skip

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As of every executor."""
        try:
            return self._pool.submit(function, *args, **kwargs)
        except BrokenProcessPool:
            self._pool = self._made()
            return self._pool.submit(function, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As of every executor; without wait the processes end at once, whatever they do."""
        if wait:
            self._pool.shutdown(wait=True, cancel_futures=cancel_futures)
        self._driver.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.shutdown(wait=kind is None)


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _begin(alive: Any, devices: Sequence[str], threads: int) -> None:
    """Of a new process: its device and threads; it ends with the driver, not by Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if devices:
        number = int(multiprocessing.current_process().name.rpartition("-")[2])
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[(number - 1) % len(devices)]


def _end_with(alive: Any) -> None:
    """End this process when nobody holds the other end of the pipe."""
    alive.poll(None)
    os._exit(1)


class RayExecutor(Executor):
    """Tasks of a Ray cluster, which places them, and loses and finds nodes.

    Parameters
    ----------
    address : str, optional
        As of ray.init: "auto", "HOST:PORT", "ray://HOST:PORT" (default: this machine).
    gpus : float
        That each task needs; 0 for one core.
    """

    def __init__(self, address: str | None = None, *, gpus: float = 0) -> None:
        import ray

        self._ray: Any = ray  # which has few types
        self._ray.init(
            address=address, ignore_reinit_error=True, log_to_driver=False,
            logging_level=logging.WARNING,
        )  # fmt: skip
        how: dict[str, Any] = {"num_gpus": gpus} if gpus else {"num_cpus": 1}
        self._task = self._ray.remote(max_retries=0, **how)(
            _called
        )  # lost ones are handed out anew here
        self._unit = "GPU" if gpus else "CPU"

    @property
    def _max_workers(self) -> int:
        return int(self._ray.cluster_resources().get(self._unit, 0))

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As of every executor."""
        future: Future[Any] = self._task.remote(function, args, kwargs).future()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, which drops what is under way; end one that was begun here."""
        self._ray.shutdown()


def _called(function: Any, args: Any, kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _processes(rest: str, device: str | None) -> Executor:
    if not rest.isdecimal() or not 0 < len(rest) < 5 or int(rest) < 1:
        raise cc.errors.fail("--on", "processes:N", f"processes:{rest}", "e.g. processes:2")
    return Processes(int(rest), visible_devices() if device == "cuda" else ())


def _ray(rest: str, device: str | None) -> Executor:
    return RayExecutor(rest or None, gpus=int(device == "cuda"))


@contextlib.contextmanager
def _dask(rest: str, device: str | None) -> Iterator[Executor]:
    import distributed

    if not rest:
        raise cc.errors.fail("--on", "dask:ADDRESS", "dask", "name its scheduler's HOST:PORT")
    make: Any = distributed.Client  # which has no types
    with make(rest, timeout="10s") as client:
        yield client.get_executor()


ENGINES: dict[str, Callable[[str, str | None], contextlib.AbstractContextManager[Executor]]] = {
    "processes": _processes,
    "ray": _ray,
    "dask": _dask,
}


@contextlib.contextmanager
def executor_on(text: str | None, device: str | None = None) -> Iterator[Executor | None]:
    """The executor that --on names, while it is needed; none where it names none.

    Parameters
    ----------
    text : processes:N, ray[:ADDRESS] or dask:ADDRESS
    device : of the model; "cuda" gives every worker a GPU of its own, where the engine can

    Raises
    ------
    ValueError
        No such engine, or one that is not installed or does not answer.
    """
    with contextlib.ExitStack() as stack:
        yield None if text is None else _begun(text, device, stack)


def _begun(text: str, device: str | None, stack: contextlib.ExitStack) -> Executor:
    """An engine that answers, which ends with the stack."""
    kind, _, rest = text.partition(":")
    if kind not in ENGINES:
        rule = "processes:N, ray[:ADDRESS] or dask:ADDRESS"
        raise cc.errors.fail("--on", rule, text, "e.g. processes:2")
    try:
        return stack.enter_context(ENGINES[kind](rest, device))
    except ImportError as error:
        rule = f"an engine that is installed ({error})"
        remedy = f"pip install 'smoothing-certificates[{kind}]'"
        raise cc.errors.fail("--on", rule, text, remedy) from error
    except (OSError, RuntimeError) as error:  # TimeoutError is an OSError
        reason = " ".join(str(error).split()) or type(error).__name__
        rule = f"an engine that answers ({reason[:200]})"
        raise cc.errors.fail("--on", rule, text, "check its address") from error


def visible_devices() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return listed.split(",")[:count] if listed else [str(i) for i in range(count)]
