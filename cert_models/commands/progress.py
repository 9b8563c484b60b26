"""How far a run is: a bar, JSON lines for batch systems, or nothing."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from cert_core.rounding import nearest, percent

Item = TypeVar("Item")
RIGHT = "certified right", "certified_accuracy"
PAUSE = 10.0  # seconds between lines where nobody is looking


def progress(
    items: Iterable[Item],
    total: int,
    label: str,
    right: Callable[[Item], bool],
    *,
    quiet: bool,
    form: str = "bar",
    done: int = 0,
    correct: int = 0,
    beside: Callable[[], Mapping[str, float]] = dict,
    said: tuple[str, str] | None = RIGHT,
    weigh: Callable[[Item], int] = lambda _: 1,
    unit: str = "images",
) -> Generator[Item]:
    """Pass the items on, showing progress on stderr.

    Parameters
    ----------
    items : as they are done
    total : int, units when all is done
    label : str
    right : whether an item is certified, with the right label
    quiet : bool, show nothing
    form : "bar", or "json" for one object a line
    done, correct : int
        Units done before, and how many of them were certified with the right label.
    beside : what else is shown, by name
    said : what right means, in words and as a name of JSON; None does not tell it
    weigh : how many units an item is
    unit : str, what is counted
    """
    if quiet:
        yield from items
        return
    show = _json_lines if form == "json" else _bar
    yield from show(items, total, label, right, done, correct, said, beside, weigh, unit)


def interrupted(kept: int, total: int, file: object, option: str) -> str:
    """What an interrupted run leaves, and how to go on."""
    if file is None:
        return f"interrupted: nothing is kept without {option}"
    return (
        f"interrupted: {kept} of {total} inputs are kept in {file}; the same command goes on from "
        "there"
    )


def _bar(
    items: Iterable[Item],
    total: int,
    label: str,
    right: Callable[[Item], bool],
    done: int,
    correct: int,
    said: tuple[str, str] | None,
    beside: Callable[[], Mapping[str, float]],
    weigh: Callable[[Item], int],
    unit: str,
) -> Generator[Item]:
    """A bar (a line every ten seconds where stderr is a file)."""
    from tqdm import tqdm

    pause = 0.1 if sys.stderr.isatty() else PAUSE
    with tqdm(
        total=total, initial=done, desc=label, unit=f" {unit}", file=sys.stderr, mininterval=pause,
    ) as bar:  # fmt: skip
        for item in items:
            new = weigh(item)
            done, correct = done + new, correct + right(item)
            bar.set_postfix_str(_words(correct, done, said, beside()), refresh=False)
            bar.update(new)
            yield item


def _words(
    correct: int, done: int, said: tuple[str, str] | None, beside: Mapping[str, float]
) -> str:
    told = [f"{percent(correct, done)} {said[0]}"] if said is not None else []
    told += [
        f"{nearest(value, 4)} {name.replace('_per_second', '/s')}" for name, value in beside.items()
    ]
    return ", ".join(told)


def _json_lines(
    items: Iterable[Item],
    total: int,
    label: str,
    right: Callable[[Item], bool],
    done: int,
    correct: int,
    said: tuple[str, str] | None,
    beside: Callable[[], Mapping[str, float]],
    weigh: Callable[[Item], int],
    unit: str,
) -> Generator[Item]:
    """One object now, every ten seconds, and at the end."""
    begun, before = time.monotonic(), done
    shown = begun
    state = partial(_state, label, total, said, unit)
    _line(state(done, correct, 0, 0.0) | dict(beside()))
    for item in items:
        new = weigh(item)
        done, correct = done + new, correct + right(item)
        now = time.monotonic()
        if now - shown >= PAUSE or done == total:
            _line(state(done, correct, done - before, now - begun) | dict(beside()))
            shown = now
        yield item


def _state(
    label: str, total: int, said: tuple[str, str] | None, unit: str, done: int, correct: int,
    new: int, seconds: float,
) -> dict[str, Any]:  # fmt: skip
    rate = new / seconds if new and seconds else None
    return {
        "progress": label, "done": done, "total": total, f"{unit}_per_second": rate,
        "seconds_left": (total - done) / rate if rate else None,
        **({} if said is None else {said[1]: correct / done if done else None}),
    }  # fmt: skip


def _line(values: dict[str, Any]) -> None:
    """Written at once, so that lines of several workers do not mix."""
    sys.stderr.write(json.dumps(values) + "\n")
    sys.stderr.flush()


@contextlib.contextmanager
def resumable(how: str) -> Iterator[None]:
    """Say, where the work within is interrupted, how to go on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(str(stop) or f"interrupted: {how}") from None
