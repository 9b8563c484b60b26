"""docs/intervals.md is true: its commands and scripts run here, as printed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import cert

import cert_core as cc

DOCS = Path(__file__).parent.parent / "docs"
TEXT = (DOCS / "intervals.md").read_text(encoding="utf-8")
COMMANDS = [line for line in TEXT.splitlines() if line.startswith("cert ")]
pytestmark = pytest.mark.filterwarnings("ignore:inputs of")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for script in (DOCS / "examples").glob("*.py"):
        shutil.copy(script, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("features", "shapes"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def run(script: str) -> str:
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    return done.stdout


def say(line: str) -> str:
    words = shlex.split(line)[1:]
    found = cert(*words, *([] if words[0] == "report" else ["--quiet"]))
    assert found.status == 0, found.err
    return found.out


def section(title: str) -> list[str]:
    part = TEXT.split(f"## {title}")[1].split("\n## ")[0]
    return [line for line in COMMANDS if line in part]


def test_every_command_stands_in_a_section_that_runs() -> None:
    titles = "A regression on raw features", "A classifier on raw features", "A segmentation"
    assert sorted(COMMANDS) == sorted(line for title in titles for line in section(title))
    assert len(COMMANDS) == 4


def test_features(folder: Path) -> None:
    """What the commands print stands in the text; the forest's and the classifier's intervals
    are those of the library."""
    run("features.py")
    (regression,) = section("A regression on raw features")
    said = say(regression)
    assert said.split("wrote")[0].strip() in TEXT
    certify, report = section("A classifier on raw features")
    say(certify)
    told = say(report)
    assert told.split("\n\nAbstentions")[0].strip() in TEXT
    assert "76 labels are certified, 75 of them right" in told
    assert "76 labels are certified at 0.25, 75 of them right" in TEXT
    import features  # type: ignore[import-not-found]

    x = np.load("diabetes.npz")["x"]
    noise = cc.Gaussian(10, 0.3).scaled(x.std(axis=0))
    values = cc.scores.sampled_values(features.progression, x[:3], noise, 2000, 0)
    lower, upper = cc.percentile_bounds(values, 0.5, noise, "l2", 0.2, alpha=0.001)
    rows = [line.split("\t") for line in Path("diabetes.tsv").read_text().splitlines()[2:5]]
    np.testing.assert_allclose([[float(v) for v in r[2:4]] for r in rows],
                               np.stack([lower, upper], axis=1), rtol=1e-9)  # fmt: skip
    assert Path("diabetes.png").stat().st_size > 10_000


def test_shapes(folder: Path) -> None:
    """A trained network: its numbers differ by machine, and are told roughly."""
    run("shapes.py")
    (command,) = section("A segmentation")
    said: Any = re.findall(r"certified(?: and right)?: (\d+) of 2048", say(f"{command} --max 2"))
    certified, right = map(int, said)
    assert 0.8 * 2048 < certified < 2048
    assert 0.99 * certified < right <= certified
    assert Path("shapes.png").stat().st_size > 10_000


def test_families(folder: Path) -> None:
    assert all(table.strip() in TEXT for table in run("families.py").split("\n\n"))
