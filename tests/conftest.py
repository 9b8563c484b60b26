"""Settings of the suite: reproducible examples, no deadline, no display, a private cache."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "suite",
    derandomize=True,
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _modules_of_its_own() -> Iterator[None]:
    """What a test put on the search path goes with it, and so does the module of its folder."""
    before = sys.path[:]
    yield
    sys.path[:] = before
    sys.modules.pop("mymodule", None)
