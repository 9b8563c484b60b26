"""A power cut at any report of a run: what was synced by then is a store that holds what was said.

Every sync is recorded beneath SQLite and Python (synced.c); files and names that were not synced
are taken to be lost.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cert_models.store.counts import CountStore

COMPILER = shutil.which("cc")
MODEL = """
def predict(batch):
    return (batch[:, 0] > 0.5).astype(int)
"""
CERTIFY = [
    "certify", "--noise", "gaussian", "--sigma", "0.5", "--attack", "l2", "--data", "data.npz",
    "--classes", "2", "--model", "cut:predict", "--n0", "5", "--n", "40", "--progress", "json",
    "--store", "kept/s.db", "--out", "kept/s.tsv",
]  # fmt: skip
# Each report is an event among the syncs.
RUNNER = """
import json, os, sys
from cert_models.cli import main
from cert_models.commands import progress

progress.PAUSE = -1.0

class Reports:
    def write(self, text):
        for line in text.splitlines():
            if line.startswith("{"):
                self.event("report", json.loads(line)["done"])

    def flush(self):
        pass

    def event(self, *words):
        with open(os.environ["SYNCED"] + "/events", "a") as events:
            print(*words, file=events)

sys.stderr = Reports()
status = main(sys.argv[1:])
sys.stderr.event("end", status)
"""


def reports(folder: Path, synced: Path) -> Iterator[tuple[str, int, dict[str, bytes]]]:
    """(event, its number, files of the folder that a power cut would leave there and then)."""
    content: dict[str, bytes] = {}
    names: dict[str, str] = {}
    for line in (synced / "events").read_text(encoding="utf-8").splitlines():
        kind, number, *rest = line.split()
        if kind == "file":
            content[rest[0]] = (synced / number).read_bytes()
        elif kind == "folder" and rest[0] == str(folder):
            pairs = (each.split() for each in (synced / number).read_text().splitlines())
            names = {name: inode for inode, name in pairs}
        elif kind in ("report", "end"):
            left = {name: content.get(inode) for name, inode in names.items()}
            yield kind, int(number), {name: kept for name, kept in left.items() if kept is not None}


def restored(files: dict[str, bytes], folder: Path) -> dict[int, list[int]]:
    """The votes of the store among them, by input."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, kept in files.items():
        (folder / name).write_bytes(kept)
    with CountStore(folder / "s.db", readonly=True) as store:
        name = store.only()
        plan: Any = type(store.runs()[name].plan)
        return {each.index: each.estimation.tolist() for each in store.votes(name, plan)}


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler, as the build does")
def test_what_was_said_outlives_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert COMPILER is not None
    monkeypatch.chdir(tmp_path)
    recorder, folder, synced = tmp_path / "synced.so", tmp_path / "kept", tmp_path / "synced"
    source = Path(__file__).with_name("synced.c")
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", recorder, source], check=True)
    folder.mkdir()
    synced.mkdir()
    np.savez("data.npz", x=np.linspace(0, 1, 12, dtype=np.float32).reshape(6, 2), y=[0, 1] * 3)
    Path("cut.py").write_text(MODEL, encoding="utf-8")
    told = {"LD_PRELOAD": str(recorder), "WATCHED": str(folder), "SYNCED": str(synced)}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, *CERTIFY], check=False, capture_output=True, text=True,
        env={**os.environ, **told},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = list(reports(folder, synced))
    assert [kind for kind, _, _ in said][-2:] == ["report", "end"]
    assert [number for kind, number, _ in said if kind == "report"] == list(range(7))
    whole = restored({p.name: p.read_bytes() for p in folder.iterdir()}, tmp_path / "whole")
    assert len(whole) == 6
    for _, number, files in said[1:-1]:
        kept = restored(files, tmp_path / "left")
        assert len(kept) >= number
        assert kept.items() <= whole.items()
    _, status, files = said[-1]
    assert status == 0
    assert files["s.tsv"] == (folder / "s.tsv").read_bytes()
    assert restored(files, tmp_path / "left") == whole
