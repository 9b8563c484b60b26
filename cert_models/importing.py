"""Objects of the user's own code, by import path."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def import_object(path: str, argument: str = "model") -> Any:
    """The object that "module:name" names, the current folder included.

    Raises
    ------
    ValueError
        No such module or name; the message calls it by the name of the argument.
    """
    module_name, _, name = path.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
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
