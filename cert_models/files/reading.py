"""What the readers of files raise, as one line with the file's name."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

LONGEST = 240  # characters of a reader's own words
NUMBER = re.compile(
    r"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d{1,3})?|inf|infinity)", re.ASCII | re.IGNORECASE
)
NOT_THE_FILE = (KeyboardInterrupt, SystemExit, GeneratorExit, ModuleNotFoundError)


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:LONGEST]


def reason_of(error: BaseException) -> str:
    """Why a file could not be read, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnicodeError):
        return "not text"
    said = first_line(error)
    plain = isinstance(error, ValueError | OSError) or said == type(error).__name__
    return said if plain else f"{type(error).__name__}: {said}"


def plain_float(text: str) -> float:
    """The number that a file's text is; not with the underscores and digits of Python's own, nor
    NaN."""
    if not NUMBER.fullmatch(text.strip()):
        raise ValueError(f"could not convert string to float: {text!r}")
    return float(text)


@contextlib.contextmanager
def reading(argument: str, kind: str, path: str | Path, remedy: str) -> Iterator[None]:
    """Turn whatever is raised within, by a reader or by what was read, into one ValueError:
    a damaged file may raise anything, panics of other languages among it.

    Parameters
    ----------
    argument : what the file was given as
    kind : what it must be
    path : of the file
    remedy : what mends it
    """
    try:
        yield
    except NOT_THE_FILE:
        raise
    except BaseException as error:
        raise ValueError(
            f"{argument} must be {kind}, got {str(path)!r} ({reason_of(error)}): {remedy}"
        ) from error
