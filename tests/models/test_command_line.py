"""The shape of the command line: sections, whole names, examples, files of options, completion."""

from __future__ import annotations

import argparse
import json
import math
import shlex
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import Said, cert
from hypothesis import given
from hypothesis import strategies as st

import cert_core as cc
from cert_models.cli import parser
from cert_models.commands.config import _toml
from cert_models.logs import read_log
from cert_models.parsing import SECTION_OF

LEAVES = {leaf.prog.removeprefix("cert "): leaf for leaf in parser().leaves()}
MODULE = """
import torch
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 2)).eval()
"""
CERTIFY = (
    "certify --data test.npz --model mymodule:network --noise gaussian --sigma 0.25 --attack l2 "
    "--n 200 --max 3 --quiet"
)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """Small networks, and cores that others use."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the examples name: data, a network, a log and stores."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "mymodule", raising=False)
    x = np.random.default_rng(0).uniform(size=(12, 2, 3)).astype(np.float32)
    np.savez("test.npz", x=x, y=(x.mean(axis=(1, 2)) > 0.5).astype(int))
    Path("mymodule.py").write_text(MODULE, encoding="utf-8")
    return tmp_path


def says(line: str) -> Said:
    """What a line that is right is answered."""
    said = cert(*shlex.split(line))
    assert said.status == 0, said.err
    return said


def refusal(line: str) -> str:
    """The one line that refuses what is wrong."""
    said = cert(*shlex.split(line))
    assert said.status == 2, said
    (told,) = said.err.splitlines()
    return told


@pytest.mark.parametrize("name", LEAVES)
def test_every_option_has_its_section(name: str) -> None:
    """A new one is to be named in SECTIONS, or in a group of its command's own."""
    leaf = LEAVES[name]
    assert [action.dest for action in leaf._optionals._group_actions] == ["help"]
    assert leaf.description
    assert all(action.help for action in leaf._actions if action.required)


def test_sections_hold_options_that_there_are() -> None:
    options = {
        option.removeprefix("--")
        for leaf in LEAVES.values()
        for action in leaf._actions
        for option in action.option_strings
    }
    assert set(SECTION_OF) <= options


@pytest.mark.parametrize("name", LEAVES)
def test_names_are_given_whole(name: str, folder: Path) -> None:
    """A name's beginning is no name: an option that comes later could not begin so."""
    options = [o for action in LEAVES[name]._actions for o in action.option_strings]
    assert LEAVES[name]._get_option_tuples("--confi") == []
    assert "--config" in options
    told = refusal(f"{name} --confi x.toml")
    assert "required: " in told or "unrecognized arguments: --confi" in told


def test_an_unknown_option_is_told_with_the_nearest() -> None:
    told = refusal(f"{CERTIFY} --batchsize 3")
    assert told == (
        "cert certify: error: unrecognized arguments: --batchsize 3: perhaps --batch-size "
        "(see cert certify --help)"
    )
    assert "zzz (see cert certify --help)" in refusal(f"{CERTIFY} zzz")


def test_pictures_have_one_name(folder: Path) -> None:
    says(f"{CERTIFY} --store runs.db")
    actions = [action for leaf in LEAVES.values() for action in leaf._actions]
    shown = {o for a in actions if a.help != argparse.SUPPRESS for o in a.option_strings}
    assert "--picture" in shown
    assert "--plot" not in shown
    said = says("report runs.db --plot a.png --plot b.svg")
    assert said.err.splitlines() == [
        "cert: warning: --plot is called --picture now: pass --picture"
    ]
    assert Path("a.png").stat().st_size > 0
    assert Path("b.svg").stat().st_size > 0


def test_old_options_tell_the_new_ones(folder: Path) -> None:
    """Each in a line, once; the answer is that of the new one."""
    says(f"{CERTIFY} --store runs.db")
    export = "export --store runs.db --out top.tsv"
    for line, old, new, told in (
        (export, "--runner-up", "--bound runner-up", "--bound runner-up"),
        (CERTIFY, "--votes hard", "", "--bound betting for soft, nothing for hard"),
    ):
        before, after = says(f"{line} {old}"), says(f"{line} {new}".replace("top.tsv", "up.tsv"))
        option = old.partition(" ")[0]
        assert before.err == f"cert: warning: {option} is called --bound now: pass {told}\n"
        assert after.err == ""
        assert before.out.replace("top.tsv", "up.tsv") == after.out
    assert Path("top.tsv").read_bytes() == Path("up.tsv").read_bytes()


SLOW = {"demo", "tune", "verify", "figures norms", "figures frontier", "figures dimension"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in LEAVES]
)
def test_the_example_of_every_help_runs(name: str, folder: Path) -> None:
    """As printed, on small files of the names that it has."""
    line = LEAVES[name].example
    assert line.startswith(f"cert {name} ")
    assert line in LEAVES[name].format_help()
    if name != "certify":
        says(f"{CERTIFY} --store runs.db --out log.tsv")
    if name == "merge":
        says(f"{CERTIFY} --store first.db --run a")
        says(f"{CERTIFY} --store second.db --run b")
    said = says(line.removeprefix("cert "))
    assert said.out


TEXTS = st.text(st.characters(codec="utf-8"))
VALUES = TEXTS | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats()


@given(VALUES | st.lists(TEXTS))
def test_values_are_read_as_they_were_written(value: Any) -> None:
    read = tomllib.loads(f"x = {_toml(value)}")["x"]
    assert type(read) is type(value)
    assert read == value or (math.isnan(read) and math.isnan(value))


def test_a_saved_run_is_that_run(folder: Path) -> None:
    """Its file alone asks for the same, and writes itself again; --force is never in it."""
    says(f"{CERTIFY} --out first.tsv --save-config run.toml")
    saved = tomllib.loads(Path("run.toml").read_text(encoding="utf-8"))
    assert saved["command"] == "certify"
    assert (saved["n"], saved["n0"], saved["alpha"], saved["seed"]) == (200, 100, 0.001, 0)
    says("certify --config run.toml --out second.tsv --save-config again.toml")
    first, second = (
        [(r.index, r.predict, r.radius) for r in read_log(name)]
        for name in ("first.tsv", "second.tsv")
    )
    assert first == second
    again = tomllib.loads(Path("again.toml").read_text(encoding="utf-8"))
    assert again == saved | {"out": "second.tsv"}
    says("report first.tsv --picture a.png --picture b.png --out t.txt --save-config report.toml")
    says("report --config report.toml --force --save-config forced.toml")
    read = [tomllib.loads(Path(f"{name}.toml").read_text()) for name in ("report", "forced")]
    assert read[0] == read[1]
    assert read[0]["sources"] == ["first.tsv"]
    assert read[0]["picture"] == ["a.png", "b.png"]


def test_the_command_line_wins(folder: Path) -> None:
    """Over a value, over a repeated one, over an argument, over one of which one alone is taken."""
    Path("run.toml").write_text(
        'data = "test.npz"\nmodel = "mymodule:network"\nnoise = "gaussian"\nsigma = 0.25\n'
        'attack = "l2"\nn = 200\nmax = 5\nquiet = true\nat = [0.05, 0.1]\n',
        encoding="utf-8",
    )
    said = json.loads(says("certify --config run.toml --json").out)
    assert (said["inputs"], said["radii"]) == (5, [0.05, 0.1])
    said = json.loads(says("certify --config run.toml --json --max 2 --until 0.5").out)
    assert said["inputs"] == 2
    assert said["radii"] != [0.05, 0.1]
    says("certify --config run.toml --store runs.db")
    says("certify --config run.toml --store runs.db --run two --max 2")
    Path("report.toml").write_text('sources = ["runs.db"]\nrun = ["two"]\n', encoding="utf-8")
    (two,) = json.loads(says("report --config report.toml --json").out)["results"]
    (one,) = json.loads(says("report --config report.toml --json --run default").out)["results"]
    assert (one["inputs"], two["inputs"]) == (5, 2)
    says("export --store runs.db --run two --out two.tsv")
    (log,) = json.loads(says("report two.tsv --config report.toml --json").out)["results"]
    assert log["name"] == "two"


def test_switches_of_a_file_are_unset(folder: Path) -> None:
    """By --no-SWITCH, which no file says, nor any help."""
    switches = 'quiet = true\njson = true\nsound = "1/64"\nquantize = true\n'
    Path("run.toml").write_text(switches, encoding="utf-8")
    line = CERTIFY.replace("certify", "certify --config run.toml")
    assert json.loads(says(line).out)["sound"] == "1/64 quantized"
    unset = says(f"{line} --no-json --no-sound --no-quantize --save-config saved.toml")
    assert unset.out == says(CERTIFY).out
    saved = tomllib.loads(Path("saved.toml").read_text(encoding="utf-8"))
    assert {"json", "sound", "quantize", "no-json", "no-sound"}.isdisjoint(saved)
    assert "--quantize must come with --sound" in refusal(f"{line} --no-sound")
    Path("wrong.toml").write_text("no-json = true\n", encoding="utf-8")
    assert "got 'no-json'" in refusal(line.replace("run.toml", "wrong.toml"))
    assert "--no-quiet" not in LEAVES["certify"].format_help()


def test_the_same_command_goes_on_and_another_is_refused(folder: Path) -> None:
    line = f"{CERTIFY} --store runs.db --save-config run.toml"
    says(line)
    says(line)
    assert "--save-config must be a file that does not exist yet" in refusal(f"{line} --skip 2")
    assert "inputs" in says("runs runs.db").out


def test_what_was_refused_is_not_kept(folder: Path) -> None:
    assert "alpha" in refusal(f"{CERTIFY} --alpha 2 --save-config run.toml")
    assert not Path("run.toml").exists()


def test_rms_is_in_place_of_any_scale(folder: Path) -> None:
    for noise in ("gaussian", "laplace", "l1", "l2", "linf", "mixed", "uniform"):
        line = f"radius --noise {noise} --dim 9 --rms 0.25 --attack l1 --p 0.9 --json"
        said = json.loads(says(line).out)
        assert said["rms"] == pytest.approx(0.25, rel=1e-12)
    line = "radius --noise radial --norm 1 --power 1 --k 2 --dim 9 --rms 0.25 --attack l1 --p 0.9"
    noise = cc.RadialNoise.with_rms(9, 0.25, 2.0, norm=1.0, power=1.0)
    assert json.loads(says(f"{line} --json").out)["noise"] == noise.to_dict()


def test_runs_lists_what_stores_keep(folder: Path) -> None:
    says(f"{CERTIFY} --store runs.db --run fixed")
    says(f"{CERTIFY} --store runs.db --run at --at 0.05")
    says(f"{CERTIFY} --store runs.db --run shells --shells")
    says(f"{CERTIFY} --out log.tsv")
    says("import log.tsv --noise gaussian --dim 6 --sigma 0.25 --attack l2 --alpha 0.001 --n 200 "
         "--store logs.db")  # fmt: skip
    found = json.loads(says("runs runs.db logs.db --json").out)["runs"]
    assert [run["run"] for run in found] == ["fixed", "at", "shells", "log"]
    assert [run["inputs"] for run in found] == [3, 3, 3, 3]
    assert [run["plan"]["kind"] for run in found] == ["fixed", "sequential", "shells", "log"]
    assert all(run["noise"] == cc.Gaussian(6, 0.25).to_dict() for run in found)
    text = says("runs runs.db").out
    assert all(word in text for word in ("100 + 200 at most", "100 + 200, shells", "mymodule"))
    assert "store" not in text.splitlines()[2]
    says("runs runs.db logs.db --format csv --out runs.csv")
    assert Path("runs.csv").read_text(encoding="utf-8").count("\n") >= 5


def test_rows_of_json_are_those_of_the_log(folder: Path) -> None:
    said = json.loads(says(f"{CERTIFY} --out log.tsv --json").out)
    rows = [(r.index, r.label, r.predict, r.radius, r.correct) for r in read_log("log.tsv")]
    names = ("index", "label", "predict", "radius", "correct")
    assert [tuple(row[name] for name in names) for row in said["rows"]] == rows
    for radius, share in zip(said["radii"], said["certified_accuracy"], strict=True):
        assert share == np.mean([r[4] and r[3] > radius for r in rows])
        assert len(f"{radius}") <= 5  # round


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_commands_and_options(shell: str) -> None:
    pytest.importorskip("shtab")
    script = says(f"--completion {shell}").out
    assert all(word in script for word in ("certify", "figures", "overlap", "save-config"))
    assert "--plot" not in script or shell == "tcsh"


@pytest.mark.parametrize("setting", ["NO_COLOR", "FORCE_COLOR"])
def test_no_colours(setting: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Nothing of ours is coloured; argparse, which is from 3.14 on, asks NO_COLOR itself."""
    monkeypatch.setenv(setting, "1")
    said = [cert("certify", "--help"), cert("radius"), says(CERTIFY)]
    said += [says("radius --noise gaussian --dim 4 --sigma 1 --attack l2 --p 0.9")]
    coloured = any("\x1b" in each.out + each.err for each in said[2:])
    assert not coloured
    if setting == "NO_COLOR":
        assert not any("\x1b" in each.out + each.err for each in said)


INTERRUPTED = [
    ("prove --store runs.db --quiet --out p.tsv", "commands.prove._checked",
     "what is proved is kept in p.tsv; the same command goes on from there"),
    ("prove --store runs.db --quiet", "commands.prove._checked", "nothing is kept without --out"),
    ("audit --store runs.db --data test.npz --model mymodule:network --quiet --seed 7",
     "commands.audit.audit_run",
     "an audit keeps nothing; with --seed 7 the same inputs are drawn again"),
    ("merge runs.db --store b.db", "store.counts.CountStore.merge", "nothing was added to b.db"),
    ("import log.tsv --noise gaussian --dim 6 --sigma 0.25 --attack l2 --alpha 0.001 --n 200 "
     "--store b.db", "store.counts.CountStore.add_logged", "nothing was added to b.db"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "place", "told"), INTERRUPTED)
def test_an_interrupt_is_told_how_to_go_on(
    line: str, place: str, told: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was run is saved, to go on from."""
    says(f"{CERTIFY} --store runs.db --out log.tsv")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"cert_models.{place}", stop)
        said = cert(*shlex.split(line), "--save-config", "run.toml")
    assert said.status == 130
    assert said.err.startswith(f"cert: interrupted: {told}"), said.err
    says(f"{line.split()[0]} --config run.toml")
