"""Errors of the toolkit, and the argument checks that raise them.

Every message names the argument, the rule, the value given and the remedy.
"""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]


class UnsupportedPair(ValueError):
    """No exact law is known for this (noise, attack) pair; Monte Carlo may still serve it."""


class NoBracket(ArithmeticError):
    """A search could not enclose its root; nothing was answered rather than something wrong."""


class BackendMissing(ImportError):
    """A backend, or the compiled core, is not installed here."""


def fail(name: str, rule: str, value: object, remedy: str) -> ValueError:
    """The error for one argument: name, rule, value, remedy."""
    return ValueError(f"{name} must be {rule}, got {value!r}: {remedy}")


def integer(name: str, value: Any, low: int, high: int | None = None, *, remedy: str) -> int:
    """value as an int in [low, high]."""
    rule = f"an integer >= {low}" if high is None else f"an integer in [{low}, {high}]"
    try:
        result = operator.index(value)
    except TypeError:
        raise fail(name, rule, value, remedy) from None
    if isinstance(value, bool) or result < low or (high is not None and result > high):
        raise fail(name, rule, value, remedy)
    return result


def real(name: str, value: Any, rule: str, holds: Callable[[float], bool], *, remedy: str) -> float:
    """value as a finite float for which holds(value)."""
    try:
        result = float(value)
    except (TypeError, ValueError):
        raise fail(name, rule, value, remedy) from None
    if not math.isfinite(result) or not holds(result):
        raise fail(name, rule, value, remedy)
    return result


def positive(name: str, value: Any, *, remedy: str) -> float:
    """value as a float > 0, whose square and inverse are such as well."""
    result = real(name, value, "a finite number > 0", lambda x: x > 0, remedy=remedy)
    if not 1e-60 <= result <= 1e60:
        raise fail(name, "between 1e-60 and 1e60", value, "pass it in other units")
    return result


def alpha(value: Any, name: str = "alpha") -> float:
    """value as a failure probability in (0, 1/2]."""
    remedy = "pass the failure probability per input, e.g. 0.001"
    return real(name, value, "a number in (0, 0.5]", lambda x: 0 < x <= 0.5, remedy=remedy)


def to_numpy(name: str, value: Any, dtype: Any = None) -> np.ndarray[Any, np.dtype[Any]]:
    """value as a NumPy array: numbers, or an array of any framework that speaks __array__ or
    DLPack, taken out of an autograd graph and off a device where the framework allows it."""
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack__"):
        return np.asarray(value, dtype=dtype)
    value = value.detach() if hasattr(value, "detach") else value
    ways: list[Callable[[Any], Any]] = [np.from_dlpack, partial(np.from_dlpack, device="cpu")]
    for convert in ([np.asarray] if hasattr(value, "__array__") else []) + ways:
        with contextlib.suppress(TypeError, ValueError, RuntimeError, BufferError):
            return np.asarray(convert(value), dtype=dtype)
    remedy = "move it there and give it a type that NumPy has, e.g. .cpu().float()"
    raise fail(name, "an array that the CPU can read", type(value).__name__, remedy)


def array(name: str, value: Any, rule: str, holds: Callable[[Float], Any], *, remedy: str) -> Float:
    """value as a float64 array all of whose entries satisfy holds (NaN never does)."""
    try:
        result: Float = to_numpy(name, value, np.float64)
    except (TypeError, ValueError):
        raise fail(name, rule, value, remedy) from None
    good = np.asarray(holds(result)) & ~np.isnan(result)
    if not good.all():
        raise fail(name, rule, float(result[~good].flat[0]), remedy)
    return result


def scalar(value: Any) -> Any:
    """value, as a float where it has no axes."""
    return float(value) if np.ndim(value) == 0 else value


def probabilities(name: str, value: Any) -> Float:
    """value as a float64 array in [0, 1]."""
    remedy = "pass a lower confidence bound of a class probability"
    return array(name, value, "in [0, 1]", lambda x: (x >= 0) & (x <= 1), remedy=remedy)


def radii(name: str, value: Any) -> Float:
    """value as a float64 array, finite and >= 0."""
    remedy = "pass the attack's radius in input units"
    return array(name, value, "finite and >= 0", lambda x: (x >= 0) & np.isfinite(x), remedy=remedy)


def seed(value: Any) -> int:
    """value as a 64-bit key."""
    return integer("seed", value, 0, 2**64 - 1, remedy="pass any 64-bit unsigned integer")


def choice(name: str, value: Any, options: Any) -> Any:
    """value if it is one of the options."""
    if not isinstance(value, str | int | float) or value not in tuple(options):
        listed = ", ".join(repr(option) for option in options)
        raise fail(name, f"one of {listed}", value, "choose one of these")
    return value


MOST_VOTES = 2**53 - 1  # float64 tells them, and one more, apart


def vote_table(name: str, value: Any) -> npt.NDArray[np.int64]:
    """value as int64 counts of votes of any shape, negative ones too, which the caller names."""
    given = to_numpy(name, value)
    if given.dtype == bool or not np.issubdtype(given.dtype, np.integer):
        raise fail(name, "integers", value, "pass counts of votes")
    if (given > MOST_VOTES).any():
        rule, remedy = "below 2**53", "count fewer samples: float64 tells no more votes apart"
        raise fail(name, rule, int(given.max()), remedy)
    return given.astype(np.int64)
