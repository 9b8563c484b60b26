"""Errors of the toolkit, and the argument checks that raise them.

Every message names the argument, the rule, the value given and the remedy.
"""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Callable, Iterable
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Number = float | np.integer[Any] | np.floating[Any]  # one, for which a function answers a float

SHOWN = 120  # characters of a value in an error
WIDEST = {"i": 8, "u": 8, "f": 8}  # bytes of the kinds of numbers that float64 and int64 hold
EXACT = 2**53  # integers up to it are floats


class UnsupportedPair(ValueError):
    """No exact law is known for this (noise, attack) pair; Monte Carlo may still serve it."""


class NoBracket(ArithmeticError):
    """A search could not enclose its root; nothing was answered rather than something wrong."""


class BackendMissing(ImportError):
    """A backend, or the compiled core, is not installed here."""


def shown(value: object) -> str:
    """value in one line of an error, cut where it is long."""
    try:
        line = " ".join(repr(value).split())
    except Exception as error:  # of somebody's class, or an int too long to print
        line = f"a {type(value).__name__} that cannot be shown ({type(error).__name__})"
    return line if len(line) <= SHOWN else line[: SHOWN - 3] + "..."


def fail(name: str, rule: str, value: object, remedy: str) -> ValueError:
    """The error for one argument: name, rule, value, remedy."""
    return ValueError(f"{name} must be {rule}, got {shown(value)}: {remedy}")


def _is_bool(value: Any) -> bool:
    """Whether value, or its entries in any framework, are truth values and no numbers."""
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind == "b"
    return isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")


def integer(
    name: str, value: Any, low: int, high: int | None = None, *, remedy: str = "pass one"
) -> int:
    """value as an int in [low, high], also from NumPy's integers; not from a bool."""
    if type(value) is int and low <= value <= (value if high is None else high):
        return value
    rule = f"an integer >= {low}" if high is None else f"an integer in [{low}, {high}]"
    try:
        result = operator.index(value)
    except TypeError:
        raise fail(name, rule, value, remedy) from None
    if _is_bool(value) or result < low or (high is not None and result > high):
        raise fail(name, rule, value, remedy)
    return result


def size(name: str, value: Any, low: int, most: int, *, remedy: str) -> int:
    """value as an int >= low, of which no more than `most` make sense."""
    result = integer(name, value, low, remedy=remedy)
    if result > most:
        raise fail(name, f"at most {most}", value, remedy)
    return result


def items(name: str, values: Any, rule: str, *, remedy: str) -> list[Any]:
    """values, which have an order, as a list."""
    if isinstance(values, str | bytes | set | frozenset | dict) or not isinstance(values, Iterable):
        raise fail(name, rule, values, remedy)
    try:
        return list(values)
    except TypeError:  # an array without axes
        raise fail(name, rule, values, remedy) from None


def integers(
    name: str, values: Any, low: int, high: int | None = None, *, remedy: str
) -> list[int]:
    """values as a list of ints in [low, high]."""
    given = items(name, values, "a sequence of integers", remedy=remedy)
    return [integer(name, value, low, high, remedy=remedy) for value in given]


def real(name: str, value: Any, rule: str, holds: Callable[[float], bool], *, remedy: str) -> float:
    """value as a finite float for which holds(value)."""
    try:
        result = float(value if _is_number(value) else _one_number(name, value))
    except (TypeError, ValueError, OverflowError):
        raise fail(name, rule, value, remedy) from None
    if not math.isfinite(result) or not holds(result):
        raise fail(name, rule, value, remedy)
    return result


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _one_number(name: str, value: Any) -> Any:
    """The entry of an array without axes, of any framework."""
    given = to_numpy(name, value)
    if given.ndim:
        raise fail(name, "one number", given.shape, "pass no array")
    return given[()]


def positive(name: str, value: Any, *, remedy: str) -> float:
    """value as a float > 0, whose square and inverse are such as well."""
    result = real(name, value, "a finite number > 0", lambda x: x > 0, remedy=remedy)
    if not 1e-60 <= result <= 1e60:
        raise fail(name, "between 1e-60 and 1e60", value, "pass it in other units")
    return result


def estimates_nothing(alpha: Any) -> bool:
    """Whether it is the 0 of records whose every copy was counted."""
    return type(alpha) in (int, float) and bool(alpha == 0)


def alpha(value: Any, name: str = "alpha") -> float:
    """value as a failure probability in (0, 1/2]."""
    remedy = "pass the failure probability per input, e.g. 0.001"
    return real(name, value, "a number in (0, 0.5]", lambda x: 0 < x <= 0.5, remedy=remedy)


def to_numpy(name: str, value: Any, dtype: Any = None) -> np.ndarray[Any, np.dtype[Any]]:
    """value as a NumPy array of integers or floats, none of which changes on the way but by the
    rounding to dtype: numbers, or an array of any framework that speaks __array__ or DLPack,
    taken out of an autograd graph and off a device where the framework allows it."""
    if type(value) is float:
        return np.asarray(value, dtype)
    if _loses(value):
        rule = "numbers alone, none of them masked or a truth value"
        raise fail(name, rule, value, "fill in what is masked, and convert what is true or false")
    found = _as_array(name, value)
    if found.dtype == object or found.dtype.itemsize > WIDEST.get(found.dtype.kind, 0):
        found = _as_floats(name, found, value)
    if dtype is None or found.dtype == dtype:
        return found
    if found.dtype.kind in "iu" and found.dtype.itemsize == 8 and found.size:
        low, high = int(found.min()), int(found.max())
        if max(-low, high) > EXACT:
            got = low if -low > high else high
            raise fail(name, "integers of at most 2^53", got, "pass floats, rounded safely")
    with np.errstate(over="ignore"):  # to infinity, which the caller's rule is about
        return found.astype(dtype)


def _loses(value: Any) -> bool:
    """Whether NumPy would count as numbers what is none, without a word."""
    if isinstance(value, list | tuple):
        return any(map(_loses, value))
    return _is_bool(value) or (
        isinstance(value, np.ma.MaskedArray) and bool(np.ma.is_masked(value))
    )


def _as_array(name: str, value: Any) -> np.ndarray[Any, np.dtype[Any]]:
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack__"):
        try:
            return np.asarray(value)
        except (TypeError, ValueError, OverflowError):
            remedy = "pass numbers, as many in every row"
            raise fail(name, "an array of numbers", value, remedy) from None
    value = value.detach() if hasattr(value, "detach") else value
    ways: list[Callable[[Any], Any]] = [np.from_dlpack, partial(np.from_dlpack, device="cpu")]
    for convert in ([np.asarray] if hasattr(value, "__array__") else []) + ways:
        with contextlib.suppress(TypeError, ValueError, RuntimeError, BufferError):
            return np.asarray(convert(value))
    remedy = "move it there and give it a type that NumPy has, e.g. .cpu().float()"
    raise fail(name, "an array that the CPU can read", type(value).__name__, remedy)


def _as_floats(name: str, found: np.ndarray[Any, np.dtype[Any]], value: Any) -> Float:
    """Numbers of other types as float64, which must hold them; refuses what is no number."""
    strange = [each for each in found.flat if not _is_number(each)] if found.dtype == object else []
    if strange or found.dtype.kind not in "fO":
        remedy = "pass an array of floats or integers"
        raise fail(name, "numbers alone", strange[0] if strange else value, remedy)
    try:
        with np.errstate(over="ignore"):
            result: Float = found.astype(np.float64)
    except OverflowError:
        result = np.full(found.shape, math.inf)
    if not np.all((result == found) | (result != result)):
        remedy = "pass floats, rounded to the safe side"
        raise fail(name, "numbers that float64 holds", value, remedy)
    return result


def inputs(name: str, value: Any) -> np.ndarray[Any, np.dtype[np.floating[Any]]]:
    """value, no number of which changes, as float32 where that holds all, else as float64."""
    given = to_numpy(name, value)
    if given.dtype == np.float32:
        return given
    wide = to_numpy(name, given, np.float64)
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    return narrow if np.array_equal(narrow, wide, equal_nan=True) else wide


def broadcast(**arrays: Any) -> tuple[Any, ...]:
    """Arrays, by the names of their arguments, in one shape."""
    try:
        return tuple(np.broadcast_arrays(*arrays.values()))
    except ValueError:
        shapes = ", ".join(str(np.shape(array)) for array in arrays.values())
        remedy = "pass one value, or one for each of the other's"
        raise fail(" and ".join(arrays), "of shapes that fit", shapes, remedy) from None


def array(name: str, value: Any, rule: str, holds: Callable[[Float], Any], *, remedy: str) -> Float:
    """value as a float64 array all of whose entries satisfy holds (NaN never does)."""
    result: Float = to_numpy(name, value, np.float64)
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


def flag(name: str, value: Any) -> bool:
    """value if it says yes or no."""
    if not isinstance(value, bool | np.bool_):
        raise fail(name, "True or False", value, "say which")
    return bool(value)


def text(name: str, value: Any) -> str:
    """value if it is text."""
    if not isinstance(value, str):
        raise fail(name, "text", value, "pass a str")
    return value


def check_callable(name: str, value: Any) -> None:
    """Refuse what is no function."""
    if not callable(value):
        raise fail(name, "callable", value, "pass a function")


def seed(value: Any) -> int:
    """value as a 64-bit key."""
    return integer("seed", value, 0, 2**64 - 1, remedy="pass any 64-bit unsigned integer")


def choice(name: str, value: Any, options: Any) -> Any:
    """value if it is one of the options."""
    named = isinstance(value, str | int | float) and not isinstance(value, bool)
    if not named or value not in tuple(options):
        listed = ", ".join(repr(option) for option in options)
        raise fail(name, f"one of {listed}", value, "choose one of these")
    return value


def whole_numbers(name: str, value: Any, most: int, *, remedy: str) -> npt.NDArray[np.int64]:
    """value as int64 from 0 to most, of any shape."""
    given = to_numpy(name, value)
    if given.dtype.kind not in "iu":
        raise fail(name, "integers", given.dtype, remedy)
    wrong = given[(given < 0) | (given > most)]
    if wrong.size:
        raise fail(name, f"integers in [0, {most}]", int(wrong.flat[0]), remedy)
    return given.astype(np.int64)


MOST_VOTES = EXACT - 1  # float64 tells them, and one more, apart


def vote_table(name: str, value: Any) -> npt.NDArray[np.int64]:
    """value as int64 counts of votes of any shape, negative ones too, which the caller names."""
    given = to_numpy(name, value)
    if given.dtype.kind not in "iu":
        raise fail(name, "integers", value, "pass counts of votes")
    if (given > MOST_VOTES).any():
        rule, remedy = "below 2^53", "count fewer samples: float64 tells no more votes apart"
        raise fail(name, rule, int(given.max()), remedy)
    return given.astype(np.int64)
