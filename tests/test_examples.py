"""Every public function and class has an example in its docstring, and the examples hold."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cert_core as cc

PAGES = Path(__file__).parent.parent / "docs" / "conf.py"


def shown() -> dict[str, Any]:
    """What the API reference shows of functions and classes that are no errors, by name."""
    spec = importlib.util.spec_from_file_location("pages", PAGES)
    assert spec is not None
    assert spec.loader is not None
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    return {
        f"{home}.{name}": getattr(importlib.import_module(home), name)
        for home, own in pages.public().items()
        for directive, name in own
        if directive in ("autofunction", "autoclass")
    }


SHOWN = shown()


@pytest.mark.parametrize("name", SHOWN)
def test_the_example_holds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `import cert_core as cc` and `import numpy as np` before it, as the page says."""
    monkeypatch.chdir(tmp_path)
    value, said = SHOWN[name], []
    assert re.search(r"^ *Examples\n *--------\n *>>> ", value.__doc__ or "", re.MULTILINE), name
    finder = doctest.DocTestFinder(recurse=False)
    (found,) = finder.find(value, name, module=False, globs={"cc": cc, "np": np})
    assert doctest.DocTestRunner().run(found, out=said.append).failed == 0, "".join(said)


def test_the_names_are_all() -> None:
    assert len(SHOWN) >= 100
    assert {"cert_core.bounds.lower_bound", "cert_models.smooth.SmoothedClassifier"} <= set(SHOWN)
