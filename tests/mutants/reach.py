"""The tests nearest to a module, those that reach what was changed in it first.

    python -m mutants.reach map KEPT MODULE TESTS...         which test reaches which line
    python -m mutants.reach run KEPT MODULE CLEAN TESTS...   MODULE is CLEAN but for a change

A change is noticed by a test that runs it, as a rule, and by the quickest of these in a second or
two.  Where they pass, all TESTS decide: a fixture or a cache may have run for another test.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

HOW = ("-x", "-q", "-n", "0", "-m", "not slow", "-p", "no:cacheprovider")
Reached = dict[str, tuple[float, list[int]]]  # of each test its seconds, and the lines


class Watch:
    """A plugin of pytest: what coverage.py sees of one file, test by test."""

    def __init__(self, module: str) -> None:
        import coverage

        self.seconds: dict[str, float] = {}
        self.seen = coverage.Coverage(
            data_file=None, config_file=False, include=[str(Path(module).resolve())]
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self.seen.switch_context(item.nodeid)
        begun = time.monotonic()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.monotonic() - begun


def reached(module: str, tests: list[str]) -> Reached:
    """By a run of the tests, all of which must pass."""
    watch = Watch(module)
    watch.seen.start()
    status = pytest.main([*HOW, *tests], plugins=[watch])
    watch.seen.stop()
    assert status == 0, f"{tests} must pass without a change"
    found: Reached = {test: (seconds, []) for test, seconds in watch.seconds.items()}
    lines = watch.seen.get_data().contexts_by_lineno(str(Path(module).resolve()))
    for line, by in lines.items():
        for test in set(by) & set(found):
            found[test][1].append(line)
    return found


def changed(clean: str, now: str) -> set[int]:
    """The lines of the innermost statement that is not the same: of a function whose head is
    not, all of it."""
    both = zip(clean.split("\n"), now.split("\n"), strict=False)
    first = next(i for i, (old, new) in enumerate(both, 1) if old != new)
    parts: list[range] = []
    for node in ast.walk(ast.parse(clean)):
        if isinstance(node, ast.stmt):
            head = [node, *getattr(node, "decorator_list", [])]
            last, body = node.end_lineno or 0, getattr(node, "body", None)
            if isinstance(body, list) and not isinstance(node, ast.FunctionDef):
                last = max(node.lineno, body[0].lineno - 1)
            parts.append(range(min(each.lineno for each in head), last + 1))
    return set(min((part for part in parts if first in part), key=len, default=range(0)))


def main() -> None:
    verb, kept, module, *rest = sys.argv[1:]
    if verb == "map":
        Path(kept).write_text(json.dumps(reached(module, rest)), encoding="utf-8")
        return
    clean, *tests = rest
    lines = changed(
        Path(clean).read_text(encoding="utf-8"), Path(module).read_text(encoding="utf-8")
    )
    known: Reached = json.loads(Path(kept).read_text(encoding="utf-8"))
    first = sorted((spent, test) for test, (spent, seen) in known.items() if lines & set(seen))
    for each in filter(None, ([test for _, test in first], tests)):
        done = subprocess.run([sys.executable, "-m", "pytest", *HOW, *each], check=False)
        if done.returncode:
            sys.exit(done.returncode)


if __name__ == "__main__":
    main()
