"""Objects of the user's own code, by import path."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from cert_models.files.reading import first_line


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


_added: list[str] = []  # the folder that the search path ends with


def _look_here_last() -> None:
    """The current folder at the end of the search path: no file in it, perhaps of a data set that
    was unpacked there, stands in for a module that is installed."""
    here = Path.cwd()
    others = [p for p in sys.path if p not in _added and Path(p) not in (here, Path())]
    _added[:] = [str(here)]
    sys.path[:] = others + _added


def _check_one(top: str) -> None:
    """Refuse a name that the current folder gives to another file than the one installed."""
    here = PathFinder.find_spec(top, _added)
    there = PathFinder.find_spec(top, [p for p in sys.path if p not in _added])
    taken = there.origin if there is not None else None
    if here is None or here.origin is None or (taken and Path(taken).samefile(here.origin)):
        return
    if taken or top in sys.stdlib_module_names:
        raise ImportError(
            f"{here.origin} has the name of {taken or top}, which is installed: rename it"
        )
