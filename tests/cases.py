"""Hostile inputs as rows of tables: what is done, and the right answer.

A suite under tests/hostile is one table a kind; the next report is one row.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import cert_core as cc
from cert_models.cli import main


def public() -> dict[str, Any]:
    """Every public name, at the top or of a topic, and what it is."""
    found = {name: getattr(cc, name) for name in cc.__all__}
    for topic, names in cc.TOPICS.items():
        found |= {name: getattr(getattr(cc, topic), name) for name in names}
    return found


@dataclass(frozen=True)
class Said:
    """What the command `cert` answered."""

    status: int
    out: str
    err: str


def cert(*arguments: str) -> Said:
    """Run the command in this process, in the present folder."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            status = int(stop.code or 0)
    return Said(status, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Refused:
    """The answer to what is wrong: one line that holds all of these words."""

    words: tuple[str, ...]
    error: type[Exception] | tuple[type[Exception], ...]

    def check(self, act: Callable[[], Any]) -> None:
        """Run act, which must be refused so: by an error, or by the command with status 2."""
        try:
            found = act()
        except self.error as error:
            text = str(error)
        else:
            assert isinstance(found, Said), f"accepted: {found!r}"
            assert found.status == 2, found
            lines = [line for line in found.err.splitlines() if re.match(r"cert.*: error: ", line)]
            assert len(lines) == 1, found.err
            text = lines[0]
        assert "\n" not in text.strip(), text
        for word in self.words:
            assert word in text, f"{word!r} is not in: {text}"


def refused(*words: str, error: Any = ValueError) -> Refused:
    """Refused by an error of this kind whose one line holds all of these words."""
    return Refused(words, error)


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes
    ----------
    name : str
    act : callable, run in an empty folder
    right : what it returns, a test of that, or Refused
    """

    name: str
    act: Callable[[], Any]
    right: Any

    def __str__(self) -> str:
        return self.name

    def check(self) -> None:
        """Run act and hold it to the right answer."""
        if isinstance(self.right, Refused):
            self.right.check(self.act)
            return
        found = self.act()
        if callable(self.right):
            assert self.right(found), f"{self.name}: {found!r}"
        else:
            np.testing.assert_array_equal(found, self.right, err_msg=self.name)
