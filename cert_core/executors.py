"""Pure calls handed out to the workers of an executor (PEP 3148), as they are taken.

Samples come from counters, so a call may be made anywhere, in any order and more than once: at
least once is exact.  An engine brings what is hard (places, lost nodes, GPUs); here is what it
lacks: what all calls need travels once to a worker, few calls a worker are under way, a call
whose worker died is handed out anew, one that fails by its own fault ends the work.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
import queue
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cert_core.errors import fail

AHEAD = 2  # calls under way a worker: one counted, one that waits there
FIRST = 4  # calls under way before anything is known of the workers
FAILURES = 3  # of a call, on different workers where there are so many, which end the work
LOSSES = 10  # workers that may die with one call; failures of it in all, if one worker takes it
SMALL = 1 << 16  # bytes that travel with every call
PATIENCE = 10.0  # seconds of silence beyond its usual ones after which a worker is not counted
PACKAGES = "cert_core", "cert_models"  # whose code decides what is counted
DONE, MISSING, FAILED, REFUSED = "done", "missing", "failed", "refused"


class WorkError(ValueError):
    """Work that cannot be done, with the worker's own words."""


@dataclass(frozen=True)
class Answer:
    """What a worker says to a call: its value, or in words why there is none."""

    worker: str
    said: str
    value: Any = None
    seconds: float = 0.0


_here = threading.local()  # what this worker holds: no two threads share a classifier


@cache
def package_version() -> str:
    """That of this package, and what tells its sources from others that say the same."""
    place, told = Path(__file__).parent.parent, hashlib.sha256()
    files = [file for name in PACKAGES for file in (place / name).rglob("*.py")]
    for file in sorted(files):
        told.update(f"{file.relative_to(place).as_posix()}\n".encode() + file.read_bytes())
    return f"{sys.modules['cert_core'].__version__} (sources {told.hexdigest()[:8]})"


def perform(
    version: str, key: str, payload: bytes | None, function: Callable[[Any, Any], Any], work: Any
) -> Answer:
    """function(held, work), on a worker, of what the payload makes."""
    worker = f"{socket.gethostname()}:{os.getpid()}.{threading.get_ident() % 10_000}"
    if version != package_version():
        reason = f"it has cert-core {package_version()}, the driver {version}: install one"
        return Answer(worker, REFUSED, reason)
    if getattr(_here, "key", None) != key:
        if payload is None:
            return Answer(worker, MISSING)
        _here.key = _here.held = None
        try:
            _here.held = pickle.loads(payload)()
        except Exception as error:  # the user's code may raise anything
            return Answer(worker, REFUSED, _words(error))
        _here.key = key
    begun = time.monotonic()
    try:
        value = function(_here.held, work)
    except Exception as error:
        return Answer(worker, FAILED, _words(error))
    return Answer(worker, DONE, value, time.monotonic() - begun)


def _words(error: Exception) -> str:
    """What an error says, in one line, and where it was raised unless it was expected."""
    text = " ".join(str(error).split())
    cause = error
    while cause.__cause__ is not None and isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    if type(error) is ValueError and cause is error:
        return text
    frame = traceback.extract_tb(cause.__traceback__)[-1]
    return f"{type(error).__name__}: {text} (raised at {frame.filename}:{frame.lineno})"


def pickled(make: Callable[[], Any]) -> bytes:
    """What makes on a worker what it needs; by value, where cloudpickle is there."""
    try:
        if importlib.util.find_spec("cloudpickle") is not None:
            import cloudpickle

            return bytes(cloudpickle.dumps(make))
        return pickle.dumps(make)
    except Exception as error:  # classes may raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        remedy = "name it by module:name, or define it at the top of a module"
        raise fail("model", "one that can be sent to workers", reason, remedy) from error


@dataclass
class _Call:
    """A piece of work, and how it has fared."""

    work: Any
    carries: bool
    lost: int = 0
    failed: list[str] = field(default_factory=list)


class Crew:
    """The workers of an executor, which hold one thing and do work with it.

    Parameters
    ----------
    executor : concurrent.futures.Executor
    make : callable, of what every worker is to hold; it is pickled
    function : callable (held, work) -> value, found by its name on every worker
    name : callable, work -> what it is called in messages
    apart : callable, work -> the pieces as which it is done where it failed as a whole

    Attributes
    ----------
    workers : dict
        Name -> when a worker was last heard of, and the seconds its call had taken.
    """

    def __init__(
        self,
        executor: Executor | None,
        make: Callable[[], Any],
        function: Callable[[Any, Any], Any],
        name: Callable[[Any], str] = str,
        apart: Callable[[Any], list[Any]] = lambda work: [work],
    ) -> None:
        if not isinstance(executor, Executor):
            remedy = "pass e.g. a ProcessPoolExecutor"
            raise fail("executor", "one of concurrent.futures", executor, remedy)
        self._executor, self._function, self._name = executor, function, name
        self._apart = apart
        self._payload = pickled(make)
        self._key = hashlib.sha256(self._payload).hexdigest()
        self._small = len(self._payload) <= SMALL
        self._pending: dict[Future[Answer], _Call] = {}
        self._again: deque[_Call] = deque()
        self._answered: queue.SimpleQueue[Future[Answer]] = queue.SimpleQueue()
        self.workers: dict[str, tuple[float, float]] = {}

    def alive(self) -> int:
        """Workers heard of lately."""
        now = time.monotonic()
        return sum(now - at < 4 * took + PATIENCE for at, took in self.workers.values())

    def size(self) -> int:
        """How many workers there seem to be."""
        told = getattr(self._executor, "_max_workers", None)
        return max(int(told) if isinstance(told, int) else 0, self.alive())

    def results(self, works: Iterator[Any]) -> Iterator[tuple[Any, Answer]]:
        """Each piece of work with its answer, as they come; taken from works when there is room.

        Raises
        ------
        WorkError
            Work that failed by its own fault, or whose workers died, too often; a worker that
            cannot be used; an executor that is broken.
        """
        try:
            while True:
                self._fill(works)
                if not self._pending:
                    return
                try:
                    future = self._answered.get(timeout=1.0)
                except queue.Empty:  # an interrupt is seen now
                    continue
                call = self._pending.pop(future)
                answer = self._read(future, call)
                if answer is not None:
                    yield call.work, answer
        finally:
            for future in self._pending:
                future.cancel()

    def _fill(self, works: Iterator[Any]) -> None:
        room = AHEAD * self.size() or FIRST
        while len(self._pending) < room:
            if self._again:
                call = self._again.popleft()
            else:
                try:
                    call = _Call(next(works), self._small)
                except StopIteration:
                    return
            self._submit(call)

    def _submit(self, call: _Call) -> None:
        payload = self._payload if call.carries else None
        try:
            future = self._executor.submit(
                perform, package_version(), self._key, payload, self._function, call.work
            )
        except (BrokenExecutor, RuntimeError) as error:
            remedy = "start again with another one: what was kept is not done again"
            raise WorkError(str(fail("executor", "one that works", str(error), remedy))) from error
        if not callable(getattr(future, "add_done_callback", None)):
            rule, remedy = "one whose submit returns a Future", "pass e.g. a ProcessPoolExecutor"
            raise WorkError(str(fail("executor", rule, future, remedy)))
        self._pending[future] = call
        future.add_done_callback(self._answered.put)

    def _read(self, future: Future[Answer], call: _Call) -> Answer | None:
        """The answer, or nothing where the work is to be done again."""
        try:
            answer = future.result()
        except Exception as error:  # of the engine: a worker raises nothing
            self._lose(call, error)
            return None
        if not isinstance(answer, Answer):
            rule, remedy = "one whose futures have what was submitted", "mend it, or pass another"
            raise WorkError(str(fail("executor", rule, answer, remedy)))
        self.workers[answer.worker] = time.monotonic(), answer.seconds
        if answer.said == REFUSED:
            raise WorkError(f"worker {answer.worker} cannot be used: {answer.value}")
        if answer.said == MISSING:
            call.carries = True
            self._again.appendleft(call)
            return None
        if answer.said == FAILED:
            self._blame(call, answer)
            return None
        return answer

    def _lose(self, call: _Call, error: Exception) -> None:
        if isinstance(error, BrokenExecutor):
            self.workers.clear()
        call.lost += 1
        if call.lost >= LOSSES:
            raise WorkError(
                f"{self._name(call.work)} must be counted by a worker that lives, got "
                f"{type(error).__name__} ({' '.join(str(error).split())}) {call.lost} times: look "
                "for what kills it, memory say"
            ) from error
        self._again.extendleft(self._pieces(call) if call.lost == FAILURES else [call])

    def _pieces(self, call: _Call) -> list[_Call]:
        """A call as several, so that the one at fault is found."""
        pieces = self._apart(call.work)
        if len(pieces) == 1:
            return [call]
        return [_Call(piece, call.carries, call.lost) for piece in pieces]

    def _blame(self, call: _Call, answer: Answer) -> None:
        call.failed.append(answer.worker)
        count, different = len(call.failed), len(set(call.failed))
        enough = count >= FAILURES and different >= min(FAILURES, len(self.workers))
        if enough or count >= FAILURES * LOSSES:
            raise WorkError(
                f"{self._name(call.work)} failed {count} times, last on worker {answer.worker}: "
                f"{answer.value}"
            )
        self._again.extend(self._pieces(call))
