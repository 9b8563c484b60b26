"""README is always true: every example and command in it runs here."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from cert_models.cli import main

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, flags=re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [
    line for language, code in BLOCKS if language == "sh" for line in code.strip().splitlines()
]


def test_there_is_something_to_run() -> None:
    assert len(PYTHON) >= 4
    assert len(COMMANDS) >= 3


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "README.md", "exec"), {})
    if "print(" in code:
        assert capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.startswith("cert ")
    assert main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out


def test_output_shown_is_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    languages = [language for language, _ in BLOCKS]
    first = languages.index("sh")
    main(shlex.split(BLOCKS[first][1])[1:])
    assert BLOCKS[first + 1] == ("", capsys.readouterr().out)


def test_the_long_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cert certify` as printed, with a data set and a model of those names and a smaller n."""
    import numpy as np

    code = next(code for _, code in BLOCKS if code.startswith("cert certify"))
    np.savez(tmp_path / "test.npz", x=np.zeros((2, 4), np.float32), y=np.array([0, 1]))
    (tmp_path / "mymodule.py").write_text(
        "import torch\nnetwork = torch.nn.Linear(4, 2).eval()\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    words = shlex.split(code.replace("\\\n", " "))[1:]
    words[words.index("100000")] = "500"
    assert main([*words, "--quiet"]) == 0
    assert len((tmp_path / "log.tsv").read_text(encoding="utf-8").splitlines()) == 3


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\w+)|`make\s(\w+)`", TEXT, flags=re.MULTILINE)
    assert {"demo", "test", "bench"} <= {a or b for a, b in targets}
    for target in targets:
        assert f"\n{target[0] or target[1]}:" in makefile


def test_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in re.findall(r'pip install "\.\[(\w+)\]"', TEXT):
        assert extra in project["optional-dependencies"]
