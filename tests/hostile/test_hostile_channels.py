"""Noises without a density on the command line: what is refused, and what is said of counts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
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

LOG = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"
SPLITS = ("--noise", "splitting", "--scale", "0.5", "--levels", "10")
OF_LOG = ("--dim", "4", "--n", "10", "--n0", "0")


def run(noise: tuple[str, ...], attack: tuple[str, ...], x: Any, *arguments: str) -> Said:
    """Certify inputs by a function of the mean."""
    Path("hostile_channel.py").write_text("def f(x): return (x.mean(axis=1) > .5).astype(int)")
    np.savez("x.npz", x=x, y=np.arange(len(x)) % 2)
    options = ("--data", "x.npz", "--model", "hostile_channel:f", "--quiet", "--store", "s.db")
    return cert("certify", *noise, *attack, *options, *arguments)


def split(*arguments: str) -> Said:
    return run(SPLITS, L1, np.eye(4), *arguments)


def after(first: Said, *arguments: str) -> Said:
    assert first.status == 0, first.err
    return cert(*arguments)


def imported(rows: str, *arguments: str) -> Said:
    Path("log.tsv").write_text(LOG + rows)
    return cert("import", "log.tsv", "--store", "s.db", *arguments)


def logged(radius: str) -> Said:
    Path("log.tsv").write_text(f"{LOG}0\t1\t1\t{radius}\t1\t0:00:01\n")
    return cert("report", "log.tsv", "--attack", "l0")


BITS = ("--noise", "flips", "--categories", "2", "--keep", "0.9")
HIDE = ("--noise", "ablation", "--keep", "2")
LAST = np.r_[np.zeros(1200), 0.5].reshape(-1, 1).repeat(4, axis=1)  # after many good ones
COUNTED = refused("must not be given for --noise splitting", "all 10 copies are counted, at alpha")

RUNS = [
    Case("a level off, behind the first block", lambda: run(BITS, L0, LAST),
         refused("x must be one of the 2 levels j/1 in [0, 1], got 0.5")),
    Case("a category off", lambda: run(BITS, L0, np.array([[0, 1, 2, 0]] * 3)),
         refused("x must be one of the categories 0 .. 1, got 2")),
    Case("categories of unsigned bytes", lambda: run(BITS, L0, np.eye(4, dtype=np.uint8)),
         lambda said: said.status == 0),
    Case("bytes to hide", lambda: run(HIDE, L0, np.eye(4, dtype=np.uint8)),
         refused("inputs must be floats, in the units of the noise, or uint8 images")),
    Case("hidden from the start", lambda: run((*HIDE, "--null", "0.5"), L0, np.eye(4) / 2),
         refused("x must be other than the null value 0.5")),
    Case("an image between levels", lambda: run(SPLITS, L1, np.full((2, 4), 0.25)),
         refused("x must be one of the 11 levels j/10 in [0, 1], got 0.25")),
    Case("half a copy", lambda: run((*SPLITS[:2], "--scale", "0.525", *SPLITS[4:]), L1, np.eye(4)),
         refused("--scale must be such that 2 scale levels is a whole number", "got 0.525")),
    Case("less than a copy",
         lambda: run((*SPLITS[:2], "--scale", "0.01", *SPLITS[4:]), L1, np.eye(4)),
         refused("--scale must be such that 2 scale levels is a whole number", "e.g. 0.05")),
    *(Case(f"all copies and {words[0]}", lambda words=words: split(*words), COUNTED)
      for words in (("--n", "20"), ("--n0", "10"), ("--alpha", "0.01"), ("--at", "0.1"),
                    ("--until", "0.5"), ("--bound", "runner-up"), ("--bound", "clopper-pearson"),
                    ("--votes", "soft"), ("--runner-up",))),
    Case("all copies in l2", lambda: run(SPLITS, ("--attack", "l2"), np.eye(4)),
         refused("attack must be l1 where all copies are counted, got 'l2'")),
    Case("all copies in l0", lambda: run(SPLITS, L0, np.eye(4)), refused("attack must be l1")),
    Case("all copies at an alpha", lambda: after(split(), "report", "s.db", "--alpha", "0.01"),
         refused("alpha must be 0 where all copies are counted, got 0.01")),
    Case("all copies at another attack", lambda: after(split(), "report", "s.db", "--attack", "l2"),
         refused("attack must be l1 where all copies are counted, got 'l2'")),
    Case("all copies, bounded",
         lambda: after(split(), "export", "--store", "s.db", "--out", "o.tsv", "--bound",
                       "runner-up"),
         refused("bound must be one that reads counts of the plan 'all' (none)")),
    Case("all copies at alpha 0", lambda: after(split(), "report", "s.db", "--alpha", "0"),
         lambda said: said.status == 0 and "all 10 copies counted" in said.out),
    Case("flips in l1", lambda: run(BITS, L1, np.eye(4)), NO_ROW),
    Case("between entries", lambda: run(BITS, L0, np.eye(4), "--at", "0.5"),
         refused("radius must be a whole number of entries")),
    Case("beyond all entries", lambda: run(BITS, L0, np.eye(4), "--at", "5"),
         refused("radius must be a whole number of entries, at most dim = 4", "got 5")),
    Case("certain of flips",
         lambda: imported("0\t1\t1\t1.0\t1\t0\n", *BITS, *L0, *OF_LOG, "--alpha", "0"),
         refused("n must be as many as Flips", "for alpha 0")),
    Case("certain of some copies",
         lambda: imported("0\t1\t1\t0.1\t1\t0\n", *SPLITS, *L1, "--dim", "4", "--n", "20",
                          "--alpha", "0"),
         refused("n must be as many as Splitting", "(10)", "got 20")),
    Case("more than certain",
         lambda: imported("0\t1\t1\t0.6\t1\t0\n", *SPLITS, *L1, *OF_LOG, "--alpha", "0"),
         refused("radii must be at most 0.5", "got 0.6")),
    Case("alpha 0 in the log alone",
         lambda: (Path("log.tsv").write_text(LOG[:-1] + "\talpha\n0\t1\t1\t0.1\t1\t0\t0\n"),
                  cert("import", "log.tsv", "--store", "s.db", *SPLITS, *L1, *OF_LOG, "--alpha",
                       "0.001"))[1],
         refused("--alpha must be 0, that of column 'alpha'")),
    Case("half an entry in a log",
         lambda: imported("0\t1\t1\t1.5\t1\t0\n", *BITS, *L0, "--dim", "4", "--n", "10000",
                          "--alpha", "0.001"),
         refused("radius must be a whole number of entries", "got 1.5")),
    Case("half an entry reported", lambda: logged("1.5"),
         refused("radius must be whole numbers of entries under l0, got 1.5")),
    Case("whole entries reported", lambda: logged("2.0"), says("l0 radius")),
    Case("no proof of so many", lambda: cert("prove", *FLIPS, *L0, "--radius", "600", "--p", "1"),
         refused("radius must be at most 512 entries for a proof, got 600")),
    Case("a proof of half an entry",
         lambda: cert("prove", *FLIPS, *L0, "--radius", "1.5", "--p", "1"),
         refused("radius must be a whole number of entries")),
    Case("no proof in l1", lambda: cert("prove", *FLIPS, *L1, "--radius", "1", "--p", "1"), NO_ROW),
    Case("a proof", lambda: cert("prove", *FLIPS, *L0, "--radius", "2", "--p", "0.97"),
         says("proved", "exact: the noise's side is counted in whole numbers")),
    Case("no proof", lambda: cert("prove", *FLIPS, *L0, "--radius", "2", "--p", "0.96"),
         lambda said: said.status == 1 and "NOT PROVED" in said.out),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES + RUNS, ids=str)
def test_channels(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "hostile_channel", raising=False)
    case.check()
