"""Objects of the user's own code, by import path."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:240]


def import_object(path: str, argument: str = "model") -> Any:
    """The object that "module:name" names, looked up in the current folder last.

    Raises
    ------
    ValueError
        No such module or name, or the current folder has a module of that name that is not the
        one installed; the message calls it by the name of the argument.
    """
    module_name, _, name = path.partition(":")
    _look_here_last()
    try:
        _check_one(module_name.partition(".")[0])
        value = importlib.import_module(module_name)
        for part in name.split("."):
            value = getattr(value, part)
    except Exception as error:  # the user's code
        reason = first_line(error)
        if not isinstance(error, ImportError | AttributeError):
            reason = f"{type(error).__name__}: {reason}"
        raise ValueError(
            f"{argument} must be an importable module:name, got {path!r} ({reason}): "
            "run from the folder of the module, or install it"
        ) from error
    return value


def _look_here_last() -> None:
    """The current folder at the end of the search path: no file in it, perhaps of a data set that
    was unpacked there, stands in for a module that is installed."""
    here = Path.cwd()
    sys.path[:] = [entry for entry in sys.path if Path(entry) not in (here, Path())] + [str(here)]


def _check_one(top: str) -> None:
    """Refuse a name that the current folder gives to another file than the one imported."""
    here = PathFinder.find_spec(top, [str(Path.cwd())])
    taken = _spec_of(top)
    if here is None or here.origin is None or taken is None:
        return
    if taken.origin is None or not _same_file(taken.origin, here.origin):
        raise ImportError(
            f"{here.origin} has the name of {taken.origin or top}, which is installed: rename it"
        )


def _spec_of(top: str) -> ModuleSpec | None:
    """Where a module is imported from, or has been."""
    known = sys.modules.get(top)
    return importlib.util.find_spec(top) if known is None else known.__spec__


def _same_file(a: str, b: str) -> bool:
    return Path(a).exists() and Path(a).samefile(b)
