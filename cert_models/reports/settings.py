"""How pictures are drawn: alike in every folder and on every machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def settings(changed: Any = ()) -> Iterator[None]:
    """matplotlib's own settings, whatever a file in the present folder says, with these changed."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(changed)
        yield
