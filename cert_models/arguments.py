"""Checks of plain arguments, for every module of cert_models."""

from __future__ import annotations

import operator
from typing import Any


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """value as an int in [low, high], also from NumPy's integers; not from a bool."""
    rule = f"an integer >= {low}" if high is None else f"an integer in [{low}, {high}]"
    try:
        result = operator.index(value)
    except TypeError:
        result = low - 1
    if isinstance(value, bool) or result < low or (high is not None and result > high):
        raise ValueError(f"{name} must be {rule}, got {value!r}: pass one")
    return result
