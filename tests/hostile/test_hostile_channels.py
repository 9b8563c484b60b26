"""Noises without a density on the command line: what is refused, and what is said of counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cases import Case, Said, cert, refused

FLIPS = ("--noise", "flips", "--dim", "784", "--categories", "2", "--keep", "0.8")
SPARSE = ("--noise", "sparseflips", "--dim", "90", "--p-plus", "0.01", "--p-minus", "0.6")
ABLATION = ("--noise", "ablation", "--dim", "784", "--keep", "45")
UNIFORM = ("--noise", "uniform", "--dim", "784", "--scale", "0.5")
SPLITTING = ("--noise", "splitting", "--dim", "784", "--scale", "0.5")
CATEGORIES = ("--noise", "flips", "--dim", "9", "--categories")
L0, L1 = ("--attack", "l0"), ("--attack", "l1")


def radius(*arguments: str, p: str = "0.99") -> Said:
    return cert("radius", *arguments, "--p", p)


def bound(*arguments: str, at: str = "3", p: str = "0.99") -> Said:
    return cert("bound", *arguments, "--p", p, "--radius", at)


def families(attack: str, noises: str, *arguments: str) -> Said:
    return cert("compare", "--dim", "784", "--attack", attack, "--noises", noises, *arguments)


def says(*words: str) -> Any:
    return lambda said: said.status == 0 and all(word in said.out for word in words)


def answers(**values: Any) -> Any:
    return lambda said: {key: json.loads(said.out)[key] for key in values} == values


NO_ROW = refused("attack must be one with a proved worst shift")
NO_DENSITY = refused("noise must have a density")

CASES = [
    Case("flips", lambda: radius(*FLIPS, *L0), says("certified l0 radius  2  (entries of 784")),
    Case("an eighth more than half", lambda: radius(*FLIPS, *L0, p="0.6"), says("radius  0  (ent")),
    Case("half", lambda: radius(*FLIPS, *L0, p="0.5"), says("radius  0  (not even at 0 changes)")),
    Case("as JSON", lambda: radius(*FLIPS, *L0, "--json"), answers(radius=2.0, rms=None)),
    Case("sparse", lambda: radius(*SPARSE, *L0), says("certified l0 radius  2")),
    Case("hidden", lambda: radius(*ABLATION, *L0), says("certified l0 radius  11")),
    Case("uniform", lambda: radius(*UNIFORM, *L1), says("radius  0.4899999999", "rms 0.288675")),
    Case("splits", lambda: radius(*SPLITTING, *L1), says("certified l1 radius  0.4899999999")),
    Case("splits by inclusion", lambda: radius(*SPLITTING, "--attack", "l2"),
         says("0.0174999999", "sound but not tight")),
    Case("flips in l1", lambda: radius(*FLIPS, *L1), NO_ROW),
    Case("splits in l0", lambda: radius(*SPLITTING, *L0), NO_ROW),
    Case("normals in l0", lambda: radius("--noise", "gaussian", "--dim", "4", "--sigma", "1", *L0),
         NO_ROW),
    Case("half an entry seen",
         lambda: radius("--noise", "ablation", "--dim", "9", "--keep", "4.5", *L0),
         refused("keep must be an integer in [1, 9], got 4.5")),
    Case("a share of entries seen",
         lambda: radius("--noise", "ablation", "--dim", "9", "--keep", "0.5", *L0),
         refused("keep must be an integer in [1, 9], got 0.5")),
    Case("so many entries stay",
         lambda: radius("--noise", "flips", "--dim", "9", "--categories", "2", "--keep", "4", *L0),
         refused("keep must be a number in (0, 1]", "got 4")),
    Case("endless categories",
         lambda: radius(*CATEGORIES, "inf", "--keep", "1", *L0),
         refused("categories must be an integer in", "got inf")),
    Case("no number",
         lambda: radius(*CATEGORIES, "two", "--keep", "1", *L0),
         lambda said: said.status == 2 and "--categories: invalid float" in said.err),
    Case("no categories", lambda: radius("--noise", "flips", "--dim", "9", "--keep", "1", *L0),
         refused("--categories must be given for --noise flips: add it")),
    Case("one probability", lambda: radius("--noise", "sparseflips", "--dim", "9", "--p-plus", "0",
                                           *L0), refused("--p-minus must be given")),
    Case("a sigma too many", lambda: radius(*FLIPS, "--sigma", "1", *L0),
         refused("--sigma must not be given for --noise flips")),
    Case("null of flips", lambda: radius(*FLIPS, "--null", "1", *L0),
         refused("--null must not be given for --noise flips")),
    Case("the old name", lambda: radius("--noise", "sparse-flips", *L0),
         lambda said: said.status == 2 and "invalid choice: 'sparse-flips'" in said.err),
    Case("a bound", lambda: bound(*ABLATION, *L0), says("0.827305049456", "0.662694950544", "yes")),
    Case("between entries", lambda: bound(*ABLATION, *L0, at="2.5"),
         refused("radius must be a whole number of entries", "got 2.5")),
    Case("more than all entries", lambda: bound(*FLIPS, *L0, at="785"),
         refused("at most dim = 784", "got 785")),
    Case("fewer than no entries", lambda: bound(*FLIPS, *L0, at="-1"), refused("radius must be")),
    *(Case(f"Monte Carlo of {noise[1]}",
           lambda noise=noise, attack=attack: bound(*noise, *attack, "--method", "dkw",
                                                    at="1" if attack is L0 else "0.1"),
           NO_DENSITY)
      for noise, attack in ((FLIPS, L0), (SPARSE, L0), (ABLATION, L0), (UNIFORM, L1),
                            (SPLITTING, L1))),
    Case("compared", lambda: families("l0", "flips:2:0.8,ablation:45"),
         says("d = 784, l0 attack: certified radius at each p\n", "\nflips:2:0.8  -      0")),
    Case("compared by radius", lambda: families("l0", "flips:2:0.8,ablation:45", "--radius", "1,2"),
         says("0.557398")),
    Case("compared between entries",
         lambda: families("l0", "flips:2:0.8", "--radius", "1.5"), refused("got 1.5")),
    Case("uniform noise at a level", lambda: families("l1", "uniform,laplace", "--rms", "0.5"),
         says("rms 0.5 a coordinate", "uniform  0.5")),
    Case("a width given", lambda: families("l1", "uniform:0.5,splitting:0.5:16"),
         says("uniform:0.5       0.28868", "splitting:0.5:16  -")),
    Case("a mean norm of flips", lambda: families("l1", "uniform", "--mean-norm", "1"), NO_DENSITY),
    Case("a parameter short", lambda: families("l0", "flips:2"),
         refused("--noises must have numbers as in flips:CATEGORIES:KEEP, got 'flips:2'")),
    Case("a parameter too many", lambda: families("l0", "flips:2:0.5:3"), refused("as in flips:")),
    Case("no parameter", lambda: families("l0", "ablation"), refused("as in ablation:KEEP:NULL")),
    Case("words", lambda: families("l0", "ablation:x"), refused("got 'ablation:x'")),
    Case("halves", lambda: families("l0", "ablation:4.5"), refused("keep must be an integer")),
    Case("additive noises in l0", lambda: families("l0", "gaussian"), NO_ROW),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_channels(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case.check()
