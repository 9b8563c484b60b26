"""Objects of the user's own code, by import path."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


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
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{argument} must be an importable module:name, got {path!r} ({error}): "
            "run from the folder of the module, or install it"
        ) from error
    return value
