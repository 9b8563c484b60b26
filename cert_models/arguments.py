"""Checks of plain arguments, for every module of cert_models."""

from __future__ import annotations

from typing import Any

import cert_core as cc


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """value as an int in [low, high], also from NumPy's integers; not from a bool."""
    return cc.errors.integer(name, value, low, high, remedy="pass one")
