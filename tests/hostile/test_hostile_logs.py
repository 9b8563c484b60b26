"""Logs as they are published: read rightly, or refused in the line that is wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cases import Case, Said, cert, refused

import cert_core as cc
from cert_models.logs import Row, log_name, read_log, write_log
from cert_models.store.counts import CountStore
from cert_models.store.runs import LogPlan, Run

HEAD = "idx label predict radius correct time"
NOISE = ["--noise", "gaussian", "--sigma", "0.5", "--dim", "4", "--attack", "l2"]
CLAIMS = [*NOISE, "--alpha", "0.001", "--n", "100000"]


def write(*lines: str, head: str = HEAD, name: str = "log.tsv") -> str:
    """A log whose columns are parted by blanks here."""
    Path(name).parent.mkdir(exist_ok=True)
    text = "".join(line.replace(" ", "\t") + "\n" for line in (head, *lines))
    Path(name).write_text(text, encoding="utf-8")
    return name


def read(*lines: str, head: str = HEAD) -> Callable[[], list[Row]]:
    return lambda: read_log(write(*lines, head=head))


def told(*lines: str, head: str = HEAD) -> Callable[[], list[tuple[int, int, float]]]:
    """Index, certified class and radius of every row."""
    return lambda: [(r.index, r.predict, r.radius) for r in read_log(write(*lines, head=head))]


def correct(*values: Any) -> Callable[[], list[int]]:
    """What is correct of rows certified rightly, wrongly, rightly, not at all, rightly."""
    predict = (1, 2, 1, -1, 1)
    lines = [f"{i} 1 {predict[i]} 0.5 {value} 0" for i, value in enumerate(values)]
    return lambda: [row.correct for row in read_log(write(*lines))]


def time(text: str) -> Callable[[], float]:
    return lambda: read_log(write(f"0 1 1 0.5 1 {text}"))[0].seconds


def imported(*lines: str, head: str = HEAD, name: str = "log.tsv", more: Any = ()) -> Said:
    return cert("import", write(*lines, head=head, name=name), "--store", "s.db", *CLAIMS, *more)


def runs() -> dict[str, int]:
    with CountStore("s.db", readonly=True) as store:
        return {name: len(store.logged(name)) for name in store.runs()}


def parts(*steps: tuple[list[str], list[str]]) -> Callable[[], dict[str, int]]:
    """The runs of a store after importing logs: their lines, and the options."""

    def act() -> dict[str, int]:
        for i, (lines, more) in enumerate(steps):
            said = imported(*lines, name=f"part{i}.tsv", more=more)
            assert said.status == 0, said.err
        return runs()

    return act


def last(*steps: tuple[list[str], list[str]], head: str = HEAD) -> Callable[[], Said]:
    """What the last import says; the last one has this head."""

    def act() -> Said:
        parts(*steps[:-1])()
        lines, more = steps[-1]
        return imported(*lines, name="last.tsv", more=more, head=head)

    return act


def together(*logs: list[str], more: Any = ()) -> Callable[[], Said]:
    """One import of several logs."""

    def act() -> Said:
        names = [write(*lines, name=f"part{i}.tsv") for i, lines in enumerate(logs)]
        return cert("import", *names, "--store", "s.db", *CLAIMS, "--json", *more)

    return act


def then_runs(act: Callable[[], Said]) -> Callable[[], dict[str, int]]:
    def both() -> dict[str, int]:
        said = act()
        assert said.status == 0, said.err
        return runs()

    return both


def exported() -> list[Row]:
    """What comes out of a store of three logs in one run."""
    assert together(["4 1 1 0.5 1 0"], ["0 2 1 0.25 0 0"], ["2 1 -1 0 0 0"],
                    more=["--run", "whole"])().status == 0  # fmt: skip
    assert cert("export", "--store", "s.db", "--out", "out.tsv").status == 0
    return read_log("out.tsv")


def of_long_ago() -> str:
    """The times of a store that kept one without an end."""
    plan = LogPlan(100, 1000, "l2", 0.001)
    run = Run(
        plan=plan,
        noise=cc.Gaussian(4, 0.5),
        seed=0,
        batch_size=0,
        num_classes=0,
        model="log",
        model_fingerprint="digest",
        data="",
        data_fingerprint="",
        attack="l2",
        alpha=0.001,
    )
    with CountStore("s.db") as store:
        store.begin("old", run)
        store.add_logged(
            "old",
            [
                Row(index=0, label=1, predict=1, radius=0.5, seconds=math.inf),
                Row(index=1, label=1, predict=1, radius=0.5, seconds=60.0),
            ],
        )
    assert cert("export", "--store", "s.db", "--out", "out.tsv").status == 0
    return " ".join(line.split("\t")[-1] for line in Path("out.tsv").read_text().splitlines())


def report(*lines: str, head: str = HEAD, more: Any = ()) -> Callable[[], Said]:
    return lambda: cert("report", write(*lines, head=head), *more)


def shares(*lines: str) -> Callable[[], Any]:
    """Certified accuracies at 0 and .25, and the average radius."""

    def act() -> Any:
        said = cert("report", write(*lines), "--at", "0,0.25", "--json")
        (result,) = json.loads(said.out)["results"]
        return [*result["certified_accuracy"], result["average_radius"]]

    return act


def written(*rows: Row) -> Callable[[], list[Row]]:
    def act() -> list[Row]:
        write_log("w.tsv", rows)
        return read_log("w.tsv")

    return act


ROW, NEXT = "0 1 1 0.5 1 0", "1 1 1 0.5 1 0"
EXTRA = HEAD + " sigma"
READ = [
    Case("own", correct(1, 0, 1, 0, 1), [1, 0, 1, 0, 1]),
    Case("words", correct("True", "False", "True", "False", "True"), [1, 0, 1, 0, 1]),
    Case("small words", correct("true", "false"), [1, 0]),
    Case("floats", correct("1.0", "0.0"), [1, 0]),
    Case("running total", correct(1, 1, 2, 2, 3), [1, 0, 1, 0, 1]),
    Case("running floats", correct("1.0", "1.0", "2.0"), [1, 0, 1]),
    Case("total that jumps", correct(1, 1, 3), refused("line 4", "correct", "running total")),
    Case("total that falls", correct(1, 1, 2, 2, 1), refused("correct", "running total")),
    Case("total of an error", correct(1, 2, 3), refused("line 3", "correct")),
    Case("wrong", correct(0), refused("line 2", "correct must be 1 where predict is label")),
    Case("wrong word", correct("yes"), refused("line 2", "correct", "'yes'")),
    Case("half correct", correct("0.5"), refused("line 2", "correct", "'0.5'")),
    Case("NaN correct", correct("nan"), refused("line 2", "correct", "'nan'")),
    Case("negative radius", told("3 1 1 -0.25 1 0", "4 1 1 0.5 1 0"), [(3, -1, 0.0), (4, 1, 0.5)]),
    Case("negative radius, not correct", told("3 1 1 -0.25 0 0"), [(3, -1, 0.0)]),
    Case("negative radius of another", told("3 1 2 -1 0 0"), [(3, -1, 0.0)]),
    Case("minus infinity", told("3 1 1 -inf 0 0"), [(3, -1, 0.0)]),
    Case("minus zero", lambda: math.copysign(1, read_log(write("0 1 1 -0.0 1 0"))[0].radius), 1.0),
    Case("negative in a total", told("0 1 1 1 1 0", "1 1 1 -1 2 0", "2 1 1 1 3 0"),
         [(0, 1, 1.0), (1, -1, 0.0), (2, 1, 1.0)]),
    Case("negative out of a total", told("0 1 1 1 1 0", "1 1 1 -1 1 0", "2 1 1 1 2 0"),
         [(0, 1, 1.0), (1, -1, 0.0), (2, 1, 1.0)]),
    Case("radius 0", told("0 1 1 0.0 1 0"), [(0, 1, 0.0)]),
    Case("short radii", told("0 1 1 .5 1 0", "1 1 1 5. 1 0", "2 1 1 +5E-1 1 0"),
         [(0, 1, 0.5), (1, 1, 5.0), (2, 1, 0.5)]),
    Case("an abstention told correct", told("7 1 -1 0.0 1 0"), [(7, -1, 0.0)]),
    Case("label -2", read("0 -2 1 0.5 0 0"), refused("line 2", "label", "'-2'")),
    Case("negative counts as none", shares("0 1 1 -0.5 1 0", "1 1 1 0.5 1 0"), [0.5, 0.5, 0.25]),
    Case("abstention with a radius", told("7 1 -1 0.75 0 0"), [(7, -1, 0.0)]),
    Case("NaN radius of an abstention", told("7 1 -1 nan 0 0"), [(7, -1, 0.0)]),
    Case("NaN radius", read("0 1 1 nan 1 0"), refused("line 2", "radius", "'nan'")),
    Case("text radius", read(ROW, "1 1 1 large 1 0"), refused("line 3", "radius", "'large'")),
    Case("infinite radius", told("0 1 1 inf 1 0"), [(0, 1, math.inf)]),
    Case("large radius", told("0 1 1 1e25 1 0"), [(0, 1, 1e25)]),
    Case("blank radius", read("0 1 1  1 0"), refused("line 2", "radius", "''")),
    Case("idx .5", read("0.5 1 1 0.5 1 0"), refused("line 2", "idx", "'0.5'")),
    Case("idx .9", read("0.9 1 1 0.5 1 0"), refused("line 2", "idx", "'0.9'")),
    Case("idx 5.0", told("5.0 1 1 0.5 1 0"), [(5, 1, 0.5)]),
    Case("idx 5e2", told("5e2 1 1 0.5 1 0"), [(500, 1, 0.5)]),
    Case("idx 0_5", read("0_5 1 1 0.5 1 0"), refused("line 2", "idx", "'0_5'")),
    Case("idx beyond doubles", told("9007199254740993 1 1 0.5 1 0"), [(2**53 + 1, 1, 0.5)]),
    Case("idx at the end", told("9223372036854775807 1 1 0.5 1 0"), [(2**63 - 1, 1, 0.5)]),
    Case("idx 2^63", read("9223372036854775808 1 1 0.5 1 0"), refused("line 2", "idx")),
    Case("idx 1e999", read("1e999 1 1 0.5 1 0"), refused("line 2", "idx", "'1e999'")),
    Case("idx 1e99999999", read("1e99999999 1 1 0.5 1 0"), refused("line 2", "idx")),
    Case("idx -1", read("-1 1 1 0.5 1 0"), refused("line 2", "idx", "'-1'")),
    Case("idx twice", read(ROW, "1 1 1 0.5 1 0", ROW), refused("idx must be distinct", "line 4")),
    Case("idx twice, as floats", read(ROW, "0.0 1 1 0.5 1 0"), refused("idx must be distinct")),
    Case("foreign digits", read("\u0661 1 1 0.5 1 0"), refused("line 2", "idx")),
    Case("label 1.9", read("0 1.9 1 0.5 1 0"), refused("line 2", "label", "'1.9'")),
    Case("label -1", told("0 -1 1 0.5 0 0"), [(0, 1, 0.5)]),
    Case("label 1e300", read("0 1e300 1 0.5 0 0"), refused("line 2", "label", "'1e300'")),
    Case("label by name", read("0 cat cat 0.5 1 0"), refused("line 2", "label", "'cat'")),
    Case("predict -.5", read("0 1 -0.5 0.5 0 0"), refused("line 2", "predict", "'-0.5'")),
    Case("predict -2", read("0 1 -2 0.5 0 0"), refused("line 2", "predict", "'-2'")),
    Case("predict -1.0", told("0 1 -1.0 0.5 0 0"), [(0, -1, 0.0)]),
    Case("predict 2^64", read("0 1 18446744073709551616 0.5 0 0"), refused("line 2", "predict")),
    Case("a duration", time("1:02:03.5"), 3723.5),
    Case("seconds", time("17.5"), 17.5),
    Case("time inf", time("inf"), refused("line 2", "time must be a duration", "'inf'")),
    Case("time nan", time("nan"), refused("line 2", "time must be a duration", "'nan'")),
    Case("time -1", time("-1"), refused("line 2", "time must be a duration")),
    Case("time 1e15", time("1e15"), refused("line 2", "time must be a duration")),
    Case("time 1_0", time("1_0"), refused("line 2", "time must be a duration")),
    Case("days beyond count", time("0:00:1.2.3"), refused("line 2", "time must be a duration")),
    Case("no rows", read(), refused("log must have a row an input", "log.tsv")),
    Case("blank rows", read("", ""), refused("log must have a row an input")),
    Case("blank around names", read(ROW, head=HEAD + "\u00a0"), lambda rows: rows[0].extra == {}),
    Case("an empty file", lambda: (Path("e").touch(), read_log("e")), refused("column names")),
    Case("written and read", written(Row(index=0, label=1, predict=1, radius=1e25, seconds=60.0)),
        [Row(index=0, label=1, predict=1, radius=1e25, seconds=60.0)]),
    Case("a time too long", lambda: written(Row(index=0, label=1, predict=1, radius=0.5,
        seconds=8.64e13))()[0].seconds, 0.0),
    Case("endless time written", lambda: written(Row(index=0, label=1, predict=1, radius=0.5,
        seconds=math.inf))()[0].seconds, 0.0),
]  # fmt: skip

NAMES = [
    Case(name, lambda name=name: log_name(f"a.b/{name}"), right)
    for name, right in (
        ("noise_0.25", "noise_0.25"), ("noise_0.25.tsv", "noise_0.25"), ("log.txt", "log"),
        ("sigma.1", "sigma.1"), ("log.tsv.gz", "log.tsv.gz"), (".log", ".log"),
    )
]  # fmt: skip

STORE = [
    Case("two noises", then_runs(lambda: [imported(ROW, name=f"noise_0.{n}") for n in (25, 50)][1]),
         {"noise_0.25": 1, "noise_0.50": 1}),
    Case("sigma agrees", then_runs(lambda: imported(ROW + " 0.50", head=EXTRA)), {"log": 1}),
    Case("sigma disagrees", lambda: imported(ROW + " 0.25", head=EXTRA),
         refused("--sigma must be 0.25", "column 'sigma'", "idx 0", "got 0.5")),
    Case("sigma left out", then_runs(lambda: imported(ROW + " ", head=EXTRA)), {"log": 1}),
    Case("another log of that name", last(([ROW], ["--run", "last"]), ([NEXT], [])),
         refused("model_fingerprint")),
    Case("sigma in capitals", lambda: imported(ROW + " 0.25", head=HEAD + " Sigma"),
         refused("--sigma must be 0.25", "column 'Sigma'")),
    Case("sigma of one row", lambda: imported(ROW + " 0.5", "1 1 1 0.5 1 0 1.0", head=EXTRA),
         refused("--sigma must be 1.0", "idx 1")),
    Case("sigma in words", lambda: imported(ROW + " half", head=EXTRA), refused("sigma", "'half'")),
    Case("alpha disagrees", lambda: imported(ROW + " 0.01", head=HEAD + " alpha"),
         refused("--alpha must be 0.01", "got 0.001")),
    Case("n disagrees", lambda: imported(ROW + " 10000", head=HEAD + " N"),
         refused("--n must be 10000", "got 100000")),
    Case("dim disagrees", lambda: imported(ROW + " 3072", head=HEAD + " dim"),
         refused("--dim must be 3072", "got 4")),
    Case("another column", then_runs(lambda: imported(ROW + " 7", head=HEAD + " nA")), {"log": 1}),
    Case("alpha of a report", report(ROW + " 0.1", head=HEAD + " alpha", more=["--alpha", "0.001"]),
         refused("--alpha must be 0.1,", "got 0.001")),
    Case("sigma of a report", report(ROW + " 0.25", head=EXTRA, more=NOISE),
         refused("--sigma must be 0.25", "got 0.5")),
    Case("report of no rows", report(), refused("log must have a row an input")),
    Case("import of no rows", lambda: imported(), refused("log must have a row an input")),
    Case("report of a large radius", report("0 1 1 1e25 1 0"), lambda said: said.status == 0),
    Case("claims of a large radius", lambda: imported("0 1 1 1e25 1 0"),
         refused("radii must be at most", "got 1e+25")),
    Case("parts at once", then_runs(together([ROW], [NEXT], more=["--run", "r"])), {"r": 2}),
    Case("parts overlap alike", then_runs(together([ROW], [ROW, NEXT], more=["--run", "r"])),
         {"r": 2}),
    Case("parts without a name", together([ROW], [NEXT]), refused("--run must be given")),
    Case("parts that differ", together([ROW], ["0 1 1 0.25 1 0"], more=["--run", "r"]),
         refused("input 0 of run 'r' must have one result")),
    Case("parts one by one", parts(([ROW], ["--run", "r"]), ([NEXT], ["--run", "r"])),
         {"r": 2}),
    Case("a part again", parts(([ROW], ["--run", "r"]), ([ROW], ["--run", "r"])), {"r": 1}),
    Case("parts of other names", parts(([ROW], []), ([NEXT], [])),
         {"part0": 1, "part1": 1}),
    Case("part of another alpha", last(([ROW], ["--run", "r"]), ([NEXT], [
        "--run", "r", "--alpha", "0.01"])), refused("plan.alpha 0.01 instead of 0.001")),
    Case("part of another noise", last(([ROW], ["--run", "r"]), ([NEXT], [
        "--run", "r", "--sigma", "1"])), refused("noise.sigma 1.0 instead of 0.5")),
    Case("part of other columns", last(([ROW], ["--run", "r"]), (["1 1 1 0.5 1 0 7"], [
        "--run", "r"]), head=HEAD + " nA"), refused("the same columns")),
    Case("parts exported", lambda: [(r.index, r.predict, r.radius) for r in exported()],
         [(0, 1, 0.25), (2, -1, 0.0), (4, 1, 0.5)]),
    Case("a time without an end", of_long_ago, "time 0:00:00 0:01:00"),
]  # fmt: skip

CASES = [
    Case(f"{kind}: {case}", case.act, case.right)
    for kind, cases in (("read", READ), ("name", NAMES), ("store", STORE))
    for case in cases
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile_logs(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case.check()
