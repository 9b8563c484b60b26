"""Options of the command line as such: files of them, the same said twice, names of nothing."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, Said, cert, refused

MODULE = "def predict(batch):\n    return (batch.mean(axis=(1, 2)) > 0.5).astype(int)\n"
CERTIFY = (
    "certify --data test.npz --model toy:predict --noise gaussian --sigma 0.25 --attack l2 --n 200 "
    "--max 2 --quiet"
)
RADIUS = "radius --dim 4 --attack l2 --p 0.9"


def line(text: str) -> Callable[[], Said]:
    return lambda: cert(*shlex.split(text))


def filed(content: str | bytes, command: str = "certify") -> Callable[[], Said]:
    """A command with --config, of a file of this content."""

    def act() -> Said:
        given = content.encode() if isinstance(content, str) else content
        Path("run.toml").write_bytes(given)
        return cert(*shlex.split(command), "--config", "run.toml")

    return act


def kept(text: str, name: str) -> Callable[[], str]:
    """What a file holds after a line that is refused."""

    def act() -> str:
        assert line(text)().status == 2
        return Path(name).read_text(encoding="utf-8")

    return act


def saved_then(*more: str) -> Callable[[], int]:
    """A run saved, and the run of that file with more."""

    def act() -> int:
        assert line(f"{CERTIFY} --save-config run.toml")().status == 0
        return cert("certify", "--config", "run.toml", *more).status

    return act


def names_of_bytes() -> Said:
    return cert(
        *shlex.split(CERTIFY), "--store", os.fsdecode(b"\xff.db"), "--save-config", "a.toml"
    )


def piped() -> Said:
    os.mkfifo("pipe")
    return cert(*shlex.split(CERTIFY), "--save-config", "pipe")


NOT_TOML = refused("--config must be a TOML file", "run.toml")
LONG = "[" * 5000
FILES = [
    Case("a name misspelt", filed("sigmma = 0.25", "radius"),
         refused("'sigmma'", "perhaps 'sigma' for 'sigmma'", "options of cert radius")),
    Case("two unknown names", filed("bogus = 1\nsave_config = 'x'", "radius"),
         refused("'bogus', 'save_config'")),
    Case("a name as in Python", filed("batch_size = 1"), refused("perhaps 'batch-size'")),
    Case("force, which is said anew", filed("force = true", "report x"),
         refused("--force is of the command line alone")),
    Case("resume as well", filed("resume = true", "train"),
         refused("--resume is of the command line alone")),
    Case("another command's", filed("command = 'train'"),
         refused("must be of cert certify", "which is of cert 'train'")),
    Case("no command's", filed("command = 3"), refused("which is of cert 3")),
    Case("a word for a number", filed("n = 'many'"),
         refused("'run.toml': argument --n: invalid int value: 'many'")),
    Case("a fraction for a number", filed("n = 1.5"), refused("'run.toml'", "--n", "'1.5'")),
    Case("true for a number", filed("n = true"), refused("n must be text or a number, got True")),
    Case("true in a list", filed("at = [true, 1]"), refused("at must be text or a number")),
    Case("a number for a switch", filed("quiet = 1"), refused("true or false, got 1")),
    Case("a word for a switch", filed("quiet = 'no'"), refused("quiet must be true or false")),
    Case("a noise of none", filed("noise = 'cauchy'", RADIUS),
         refused("'run.toml'", "invalid choice: 'cauchy'")),
    Case("an empty list", filed("at = []"), refused("at must be text, a number, true or false")),
    Case("a table", filed("[noise]\nsigma = 1", "radius"), refused("noise must be text, a number")),
    Case("a date", filed("n = 2020-01-01"), refused("n must be text, a number")),
    Case("a list of lists", filed("at = [[1]]"), refused("at must be text")),
    Case("what excludes itself", filed("at = 0.1\nuntil = 0.1"),
         refused("'run.toml'", "not allowed with argument --at")),
    Case("a key twice", filed("n = 1\nn = 2"), NOT_TOML),
    Case("a key of nothing", filed("n = "), NOT_TOML),
    Case("a zero byte", filed("\0"), NOT_TOML),
    Case("bytes of no text", filed(b"\xff\xfe"), NOT_TOML),
    Case("a number too long", filed("n = " + "9" * 5000), NOT_TOML),
    Case("lists without end", filed(f"at = {LONG}"), NOT_TOML),
    Case("itself", filed("config = 'run.toml'"), refused("'config'")),
    Case("help", filed("help = true"), refused("'help'")),
    Case("a switch that is off", filed("noise = 'gaussian'\nsigma = 1.0\njson = false", RADIUS),
         lambda said: said.status == 0 and said.out.startswith("certified")),
    Case("no options at all", filed("", f"{RADIUS} --noise gaussian --sigma 1"),
         lambda said: said.status == 0),
    Case("an option in an argument's place", filed("sources = ['runs.db', '--force']", "runs"),
         refused("'run.toml'", "sources must be text", "begins with no -", "'--force'")),
    Case("an option in a list", filed("store = ['a.db', '--force']", "compare"),
         refused("'run.toml'", "store must be text", "begins with no -")),
    Case("a zero character", filed('out = "a\\u0000b"'), refused("out must be text without NUL")),
    Case("a value that begins as an option", filed("noise = 'gaussian'\nsigma = -1", RADIUS),
         refused("sigma must be")),
]  # fmt: skip
LINES = [
    Case("no file", line("radius --config none.toml"), refused("--config must be", "No such file")),
    Case("a folder", line("radius --config ."), refused("--config must be a TOML file")),
    Case("an archive", line("radius --config test.npz"), refused("--config must be a TOML file")),
    Case("no name of a file", line("radius --config"), refused("--config: expected one argument")),
    Case("a folder that is not", line(f"{CERTIFY} --save-config no/run.toml"),
         refused("--save-config must be a file that does not exist yet, in a folder that does")),
    Case("saved over the data", line(f"{CERTIFY} --save-config test.npz"),
         refused("--save-config must be a file of its own")),
    Case("saved over code", kept(f"{CERTIFY} --save-config toy.py", "toy.py"), MODULE.__eq__),
    Case("saved to a pipe", piped, refused("--save-config must be a file that does not exist")),
    Case("saved to what has no end", line(f"{CERTIFY} --save-config /dev/zero"),
         refused("--save-config must be a file that does not exist")),
    Case("saved in a folder's place", line(f"{CERTIFY} --save-config ."),
         refused("--save-config must be a file that does not exist")),
    Case("saved where the log goes", line(f"{CERTIFY} --out a.tsv --save-config a.tsv"),
         refused("--save-config must be a file of its own")),
    Case("the same by another path", line(f"{CERTIFY} --out a.tsv --save-config ./a.tsv"),
         refused("--save-config must be a file of its own")),
    Case("names that are no text", names_of_bytes, refused("--save-config must be of options")),
    Case("a run again", saved_then("--save-config", "run.toml"), 0),
    Case("another run in its place", saved_then("--save-config", "run.toml", "--n", "300"), 2),
    Case("a scale of no noise", line("report log.tsv --sigma 1"),
         refused("--noise must be given with --sigma, got none")),
    Case("scales of no noise", line("report log.tsv --scales s.txt"),
         refused("--noise must be given with --scales, got none")),
    Case("a level and a scale", line(f"{CERTIFY} --rms 1"),
         refused("--rms must come without --sigma, got 1.0 and 0.25: drop one")),
    Case("a level of flips", line(f"{RADIUS} --noise flips --rms 1"),
         refused("--rms must not be given for --noise flips")),
    Case("a level of splits", line(f"{RADIUS} --noise splitting --rms 1"),
         refused("--rms must not be given for --noise splitting")),
    Case("a level of 0", line(f"{RADIUS} --noise gaussian --rms 0"), refused("rms must be", "0.0")),
    Case("a level below 0", line(f"{RADIUS} --noise l2 --k 1 --rms -1"), refused("rms must be")),
    Case("a level that is none", line(f"{RADIUS} --noise l2 --rms nan"), refused("rms must be")),
    Case("an endless level", line(f"{RADIUS} --noise uniform --rms inf"), refused("rms must be")),
    Case("a level, and another family's k", line(f"{RADIUS} --noise gaussian --rms 1 --k 1"),
         refused("--k must not be given for --noise gaussian")),
    Case("a level without norm and power", line(f"{RADIUS} --noise radial --rms 1"),
         refused("--norm must be given for --noise radial")),
    Case("runs of nothing", line("runs"), refused("required: STORE")),
    Case("runs of no store", line("runs none.db"), refused("none.db")),
    Case("runs of an archive", line("runs test.npz"), refused("test.npz")),
    Case("runs over the store", line("runs runs.db --out runs.db --force"), refused("--out must")),
    Case("a shell that is not known", line("--completion fish"), refused("choice: 'fish'")),
    Case("half a name", line(f"{RADIUS} --noise gaussian --sig 1"), refused("--sig 1")),
    Case("networks of a library, nameless", line(
        "train --data test.npz --arch timm: --noise gaussian --sigma 1 --out a.pt"),
        refused("arch must")),
    Case("held out is all", line(
        "train --data test.npz --arch toy:none --noise gaussian --sigma 1 --out a.pt --held-out 1"),
        refused("held_out must be in (0, 1)", "1.0")),
    Case("trials at no epoch", line(
        "train --data digits --arch digits --noise gaussian --sigma 1 --out a.pt --epochs 1 "
        "--held-out 0.1 --check-every 0 --quiet"), refused("check_every must be an integer >= 1")),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "toy", raising=False)
    x = np.random.default_rng(0).uniform(size=(4, 2, 3)).astype(np.float32)
    np.savez("test.npz", x=x, y=np.array([0, 1, 1, 0]))
    Path("toy.py").write_text(MODULE, encoding="utf-8")


@pytest.mark.parametrize("case", FILES, ids=str)
def test_files_of_options(case: Case) -> None:
    case.check()


@pytest.mark.parametrize("case", LINES, ids=str)
def test_lines(case: Case) -> None:
    if case.name == "runs over the store":
        assert line(f"{CERTIFY} --store runs.db")().status == 0
    case.check()
