"""The layout: modules import from strictly lower floors alone, and little at import time."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cases import public

import cert_core as cc

ROOT = Path(__file__).parent.parent

# Each room, a module or a package at the top of its package, imports from lower floors alone.
FLOORS = [
    {"cert_core.errors", "cert_core.rounding"},
    {
        "cert_core.balls",
        "cert_core.copies",
        "cert_core.densities",
        "cert_core.native",
        "cert_core.quantiles",
        "cert_core.tails",
        "cert_core.threats",
    },
    {"cert_core.confidence", "cert_core.noises"},
    {"cert_core.channels"},
    {"cert_core.lattice"},
    {
        "cert_core.exact",
        "cert_core.kernels",
        "cert_core.laws",
        "cert_core.moments",
        "cert_core.provenance",
    },
    {
        "cert_core.bounds",
        "cert_core.draws",
        "cert_core.samples",
        "cert_core.votes",
    },
    {
        "cert_core.calibration",
        "cert_core.monte_carlo",
        "cert_core.percentiles",
        "cert_core.scores",
        "cert_core.sparse",
    },
    {"cert_core.records", "cert_core.separation", "cert_core.shells"},
    {"cert_core.certificates", "cert_core.proof"},
    {
        "cert_core.deterministic",
        "cert_core.executors",
        "cert_core.joint",
        "cert_core.sequential",
        "cert_core.shell_votes",
    },
    {"cert_core.smoothed"},
    {"cert_core.routing", "cert_core.tuning"},
    {"cert_core"},
    {"cert_models.files", "cert_models.parsing"},
    {"cert_models.importing"},
    {"cert_models.data", "cert_models.estimators", "cert_models.logs", "cert_models.smooth"},
    {"cert_models.store"},
    {"cert_models.counts", "cert_models.networks", "cert_models.reports"},
    {"cert_models.engines"},
    {"cert_models.run"},
    {"cert_models.audit", "cert_models.tasks", "cert_models.tuning"},
    {"cert_models.commands"},
    {"cert_models.cli"},
    {"cert_models.__main__"},
]


def room(module: str) -> str:
    """The floor entry a module belongs to."""
    return ".".join(module.split(".")[:2])


def floor_of(module: str) -> int:
    for level, rooms in enumerate(FLOORS):
        if room(module) in rooms:
            return level
    raise AssertionError(f"{module} stands on no floor: add it to FLOORS")


def modules() -> dict[str, Path]:
    found = {}
    for package in ("cert_core", "cert_models"):
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    found.pop("cert_models")
    return found


def imports(path: Path) -> set[str]:
    """Modules of the project that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            both = {f"{node.module}.{alias.name}" for alias in node.names}
            known = {name for name in both if name in modules()}
            names |= known or {node.module}
    return {name for name in names if name.startswith(("cert_core", "cert_models"))}


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_come_from_lower_floors(module: str) -> None:
    for name in imports(modules()[module]):
        if room(name) != room(module):
            assert floor_of(name) < floor_of(module), f"{module} imports {name}"


@pytest.mark.parametrize("module", sorted(m for m in modules() if m.startswith("cert_models")))
def test_cert_models_uses_the_public_face(module: str) -> None:
    core = {name for name in imports(modules()[module]) if name.startswith("cert_core")}
    assert core <= {"cert_core", *(f"cert_core.{topic}" for topic in cc.TOPICS)}


def loaded_by(statement: str) -> set[str]:
    tell = "import sys, json; print(json.dumps(sorted(sys.modules)))"
    program = f"{statement}\n{tell}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_core_is_light() -> None:
    assert not {"numpy", "cert_core.errors"} & loaded_by("import cert_core")
    heavy = {"torch", "numba", "cupy", "scipy.stats", "matplotlib", "sklearn", "flint", "pandas"}
    assert not heavy & loaded_by("from cert_core import *")


def test_the_version_needs_no_command() -> None:
    version = "from cert_models.cli import main\ntry: main(['--version'])\nexcept SystemExit: pass"
    assert not {"numpy", "cert_models.commands"} & loaded_by(version)


def test_the_command_starts_without_torch() -> None:
    assert not {"torch", "matplotlib"} & loaded_by("import cert_models.cli")


def test_estimators_of_scikit_learn_need_no_torch() -> None:
    assert "torch" not in loaded_by("import cert_models.estimators")


def test_core_never_mentions_torch() -> None:
    for name, path in modules().items():
        if name.startswith("cert_core"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    assert "torch" not in ast.unparse(node), name


def test_a_missing_extension_says_how_to_build_it() -> None:
    program = (
        "import sys; sys.modules['cert_core.native.engine'] = None\n"
        "try:\n import cert_core as cc\n cc.lower_bound\n"
        "except ImportError as error:\n print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "pip install ." in done.stdout
    assert "C compiler" in done.stdout


def test_public_names_are_documented() -> None:
    for name, value in public().items():
        if inspect.isfunction(value):
            found = set(re.findall(r"^(\w+)\n-+$", inspect.getdoc(value) or "", re.MULTILINE))
            assert {"Parameters", "Raises"} <= found, name
            nothing = inspect.signature(value).return_annotation == "None"
            assert nothing or found & {"Returns", "Yields"}, name
        elif callable(value):
            assert value.__doc__, name


def test_what_to_install_is_this_distribution() -> None:
    """Messages, docs and the README name it as the index does."""
    name = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    pages = [*modules().values(), *ROOT.glob("docs/**/*.md"), ROOT / "README.md"]
    said = [
        (found[1], path)
        for path in pages
        for found in re.finditer(r"pip install ['\"]([\w-]+)\[", path.read_text(encoding="utf-8"))
    ]
    assert len(said) > 3
    assert [path for told, path in said if told != name and told != "."] == []
