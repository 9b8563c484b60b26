"""The study of docs/study.md: its commands as printed, on few digits and a grid of two."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/study.md").read_text(encoding="utf-8")
SMALL = shlex.split(
    "--noises gaussian,l1:392 --levels 0.1,0.25 --train 80 --test 6 --tune 4 --epochs 20 "
    "--n0 10 --n 60"
)


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "bench")
    return importlib.import_module("study")


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Bytes (90, 28, 28) and labels: a bright bar a class, at a place of its own."""
    rng = np.random.default_rng(0)
    y = np.arange(90) % 10
    x = rng.integers(0, 30, size=(90, 28, 28))
    for image, label in zip(x, y, strict=True):
        image[:, 2 * label + 3 : 2 * label + 6] += 200
    return x.astype(np.uint8), y.astype(np.uint8)


def test_the_commands(
    study: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    x, y = digits()
    monkeypatch.chdir(tmp_path)
    np.savez("mnist10k.npz", x=x, y=y)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    Path("docs").mkdir()
    commands = re.findall(
        r"^(?:OMP_NUM_THREADS=1 )?python bench/study.py (.*)$", PAGE, re.MULTILINE
    )
    assert len(commands) == 2
    for words in map(shlex.split, commands):
        study.main([*words, *SMALL])
    assert capsys.readouterr().out.count("mnist trained on 80 inputs") == 5  # one is a router
    study.main([*shlex.split(commands[0]), *SMALL])
    assert not capsys.readouterr().out  # nothing is left to do
    torch.set_num_threads(threads)
    found = {(r.model.name, r.attack, r.bound): r for r in every(study)}
    assert len(found) == 12  # a level: the Gaussian against three attacks, both by shells too
    for r in found.values():
        assert len(r.test) == 6
        assert (r.tune is None) == (r.bound == "shells")
        assert np.array_equal(r.test.labels, y[80:86])
        assert r.test.accuracy(0.0) >= 5 / 6
    text = Path("docs/study.md").read_text(encoding="utf-8")
    for row in (
        "Gaussian",
        "L1Noise, k > 0, shells",
        "gaussian, 0.1/0.25 by sureness",
        "l1-392, 0.25",
    ):
        assert f"\n| {row} | " in text
    study.main([*shlex.split(commands[1]), *SMALL])
    assert Path("docs/study.md").read_text(encoding="utf-8") == text  # the block is replaced
    for name in ("study-curves.svg", "study-tradeoff.svg"):
        assert 10_000 < Path("docs", name).stat().st_size < 150_000


def every(study: ModuleType) -> list:
    """The readings of the folder."""
    options = study.parser().parse_args(["mnist10k.npz", *SMALL])
    return study.readings(options, study.grid_of(options))


def test_pages_show_what_the_pictures_are() -> None:
    for name in re.findall(r"\((study-\w+\.svg)\)", PAGE):
        assert (ROOT / "docs" / name).stat().st_size < 150_000


def test_wrong_words(study: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = digits()
    monkeypatch.chdir(tmp_path)
    np.savez("few.npz", x=x, y=y)
    np.savez("other.npz", x=x[::-1], y=y)
    np.savez("none.npz", x=x)
    for words, told in (
        ("lost.npz", "data must be an .npz file"),
        ("none.npz", "data must be an .npz file"),
        ("few.npz", "must hold 8000 images, got 90: lower --train"),
        ("few.npz --train 60 --test 20 --tune 0 --noises l3", "--noises must be of .*, got l3"),
        ("other.npz --train 60 --test 20 --tune 0", "--train must be as in study"),
    ):
        with pytest.raises(SystemExit, match=told):
            study.main(words.split())
