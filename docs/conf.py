"""What Sphinx reads: `make docs` writes the pages to build/docs, with warnings as errors."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import cert_core as cc

project = "cert-core"
author = copyright = "The cert-core developers"
version = release = cc.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["examples"]
html_theme = "furo"
html_title = "cert-core"
html_show_sourcelink = html_copy_source = False
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say shapes and units
autodoc_class_signature = "mixed"
napoleon_google_docstring = False
napoleon_use_ivar = True


def public() -> dict[str, list[tuple[str, str]]]:
    """The public names of every topic and the directive that shows each, by module."""
    names = {f"cert_core.{topic}": [*own] for topic, own in cc.TOPICS.items()}
    for name in cc.__all__:
        value = getattr(cc, name)
        home = getattr(value, "__module__", "")
        if home in names and name not in names[home]:
            names[home].append(name)
    names["cert_core.proof"] = ["prove", "prove_votes", "discrepancy", "Proof", "VotesProof"]
    names["cert_models.smooth"] = ["SmoothedClassifier"]
    names["cert_models.estimators"] = ["SmoothedEstimator"]
    names["cert_models.counts"] = ["CountStore"]
    return {
        home: [(_directive(home, name), name) for name in own] for home, own in names.items() if own
    }


def _directive(home: str, name: str) -> str:
    value = getattr(importlib.import_module(home), name)
    if inspect.isclass(value):
        return "autoexception" if issubclass(value, BaseException) else "autoclass"
    return "autofunction" if callable(value) else "autodata"


def write_reference(app: Any) -> None:
    """A page for each topic, in reference/api."""
    folder = Path(app.srcdir, "reference", "api")
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for home, own in public().items():
        lines = [home, "=" * len(home), "", f".. automodule:: {home}", "   :no-members:"]
        for directive, name in own:
            members = ["   :members:"] if directive == "autoclass" else []
            lines += ["", f".. {directive}:: {name}", *members]
        (folder / f"{home}.rst").write_text("\n".join([*lines, ""]), encoding="utf-8")


def foreign(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """A function that is the default of a field is no method, and others' have pages of theirs."""
    own = getattr(obj, "__module__", "").startswith("cert_") and "." in obj.__qualname__
    return True if inspect.isfunction(obj) and not own else None


def plain(app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text: bars are norms and stars are products, not markup."""
    code = lines.index("Examples") if "Examples" in lines else len(lines)  # the last section
    for i, line in enumerate(lines[:code]):
        parts = re.split(r"(``.*?``|`.*?`)", line)
        parts[::2] = [re.sub(r"([|*]|(?<=\w)_(?=\W|$))", r"\\\1", part) for part in parts[::2]]
        lines[i] = "".join(parts)


def setup(app: Any) -> None:
    """Before napoleon, which adds markup of its own."""
    app.connect("builder-inited", write_reference)
    app.connect("autodoc-skip-member", foreign)
    app.connect("autodoc-process-docstring", plain, priority=1)
