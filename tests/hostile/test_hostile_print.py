"""Printed numbers: each on its safe side, whatever its size, and exact where it was asked for."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, cert
from hypothesis import given
from hypothesis import strategies as st

import cert_core as cc
import cert_models
from cert_core import rounding
from cert_models.commands.progress import progress
from cert_models.reports import paper as figures
from cert_models.reports import tables as report
from cert_models.store.counts import CountStore
from cert_models.store.results import Result
from cert_models.store.runs import FixedPlan, Run, SequentialPlan, Votes

DASH = report.UNTESTED
MODELS = Path(cert_models.__file__).parent
LOG = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"
GAUSSIAN = ["--noise", "gaussian", "--sigma", "1", "--dim", "4", "--attack", "l2"]


def log(*radii: float, name: str = "a.tsv", wrong: int = 0) -> str:
    """A log of inputs certified rightly at these radii, and of some wrong ones."""
    lines = [f"{i}\t1\t1\t{radius!r}\t1\t0\n" for i, radius in enumerate(radii)]
    lines += [f"{len(radii) + i}\t1\t2\t1.0\t0\t0\n" for i in range(wrong)]
    Path(name).write_text(LOG + "".join(lines), encoding="utf-8")
    return name


def out(*command: str) -> str:
    said = cert(*command)
    assert said.status == 0, said.err
    return said.out


def reported(*radii: float, wrong: int = 0, more: Any = ()) -> Callable[[], str]:
    return lambda: out("report", log(*radii, wrong=wrong), *more)


def row(text: str, name: str) -> list[str]:
    """The cells of the row of this name."""
    (found,) = [line for line in text.splitlines() if re.match(rf"{re.escape(name)}  ", line)]
    return found.split()


def columns(*radii: float, at: str, more: Any = ()) -> Callable[[], list[str]]:
    """ACR and certified accuracies of a log."""
    return lambda: row(out("report", log(*radii), "--at", at, *more), "a")[-1 - at.count(",") - 1 :]


def stored(*plans: str) -> str:
    """A store of runs, the one called at deciding .25 and .5 alone."""
    noise = cc.Gaussian(4, 1.0)
    with CountStore("s.db") as store:
        for name in plans:
            test = cc.sequential.plan_at(noise, "l2", [0.25, 0.5], n_max=1000)
            plan: Any = SequentialPlan(test) if name.startswith("at") else FixedPlan(10, 1000)
            store.begin(
                name,
                Run(
                    plan=plan,
                    noise=noise,
                    seed=0,
                    batch_size=1,
                    num_classes=2,
                    model="m",
                    model_fingerprint="",
                    data="d",
                    data_fingerprint="",
                    attack="l2",
                    alpha=0.001,
                ),
                {},
            )
            looks = test.looks if name.startswith("at") else ()
            for i in range(3):
                for end in range(1, len(looks) + 1):
                    if _stops(test, looks[:end]):
                        break
                n = looks[end - 1] if looks else 1000
                first = np.array([test.n0 if looks else 10, 0])
                path = tuple(looks[:end]) if looks else None
                store.add(
                    name,
                    Votes(
                        index=i,
                        label=0,
                        selection=first,
                        estimation=np.array([n, 0]),
                        seconds=0.1,
                        looks=path,
                    ),
                )
    return "s.db"


def _stops(test: Any, looks: Any) -> bool:
    taken = test.begin()
    return any(taken.update(n, n) for n in looks)


def of_store(*plans: str, command: tuple[str, ...] = ("report",)) -> Callable[..., str]:
    """What a command says of such a store."""

    def act(*more: str) -> str:
        stored(*plans)
        source = ["--store", "s.db", "--attack", "l2"] if command == ("compare",) else ["s.db"]
        return out(*command, *source, *more)

    return act


def values(*plans: str, at: str) -> Any:
    (result,) = json.loads(of_store(*plans)("--json", "--at", at))["results"]
    return [result["average_radius"], *result["certified_accuracy"]]


def best(at: str) -> Any:
    """The names that compare calls the best at each radius."""
    found = json.loads(of_store("at", "fixed", command=("compare",))("--json", "--at", at))
    return [each["runs"] for each in found["best"]]


def pictured(*more: str) -> bool:
    """Whether curves and page of both kinds of run, and of an endless radius, can be drawn."""
    stored("at", "fixed")
    out("report", "s.db", log(1e25, 1.7e308, math.inf), "--alpha", "0.001", "--rho", "0.01",
        "--picture", "c.png", "--html", "c.html", *more)  # fmt: skip
    out("compare", "--store", "s.db", "--attack", "l2", "--picture", "d.png")
    out("compare", "--store", "s.db", "--attack", "l2", "--run", "at", "--picture", "e.png")
    return all(Path(name).stat().st_size > 1000 for name in ("c.png", "c.html", "d.png", "e.png"))


def imported(radius: float, alpha: str = "0.001") -> str:
    options = ["--store", "s.db", *GAUSSIAN, "--alpha", alpha, "--n", "1000000000"]
    return out("import", log(radius), *options)


def bar(right: int, total: int) -> str:
    """The last words of a bar over inputs of which so many are right."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        list(progress(range(total), total, "certify", lambda i: i < right, quiet=False))
    return re.findall(r"([\d.]+%) certified right", err.getvalue())[-1]


def verified() -> bool:
    """No p_min is printed below its value, no radius above."""
    options = ["verify", "--dims", "3", "--n", "1000"]
    rows = json.loads(out(*options, "--json"))["rows"]
    lines = out(*options).splitlines()[1 : 1 + len(rows)]
    for found, line in zip(rows, lines, strict=True):
        radius, needed, _, estimate = line.split()[4:8]
        assert Decimal(radius) <= Decimal(found["radius"])
        assert Decimal(needed) >= Decimal(found["required"])
        assert ("monte_carlo" in found) == (estimate != "-")
        if "monte_carlo" in found:
            assert Decimal(estimate) >= Decimal(found["monte_carlo"])
    return True


def piped(command: list[str]) -> tuple[int, bytes]:
    """Status and complaints of a command whose reader goes away."""
    with subprocess.Popen(
        [sys.executable, "-m", "cert_models.cli", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
        return process.wait(timeout=60), errors


def full(command: list[str]) -> Any:
    """Status and lines of complaint of a command whose output finds no space."""
    with open("/dev/full", "w") as nowhere:
        done = subprocess.run(
            [sys.executable, "-m", "cert_models.cli", *command],
            stdout=nowhere, stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
    return done.returncode, len(done.stderr.splitlines())


def formats() -> set[str]:
    """Modules that print a float by a format of their own."""
    found = set()
    for path in MODELS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            spec = node.format_spec if isinstance(node, ast.FormattedValue) else None
            if spec is not None and re.search(r"[eEfFgG%]'?$", ast.unparse(spec).rstrip("\"'")):
                found.add(path.name)
    return found


def contains(*words: str) -> Callable[[str], bool]:
    return lambda text: all(word in text for word in words)


WORDS = [
    Case("1999 of 2000", lambda: rounding.percent(1999, 2000), "99.9%"),
    Case("all of them", lambda: rounding.percent(2000, 2000), "100.0%"),
    Case("29 of 100", lambda: rounding.percent(29, 100, 0), "29%"),
    Case("a third", lambda: rounding.percent(1, 3), "33.3%"),
    Case("all but one", lambda: rounding.percent(10**9 - 1, 10**9), "99.9%"),
    Case("NumPy's counts", lambda: rounding.percent(np.int64(2), np.int64(3)), "66.6%"),
    Case("nearly sure", lambda: rounding.confidence(1e-7), "0.9999999"),
    Case("a percent", lambda: rounding.confidence(0.01), "0.99"),
    Case("never sure", lambda: rounding.confidence(1e-300), "1 - 1e-300"),
    Case("hardly", lambda: rounding.confidence(0.999), "0.001"),
    Case("p_lower near 1", lambda: rounding.lower(0.99999951), "0.999999"),
    Case("p needed near 1", lambda: rounding.upper(0.9999990001), "1.000000"),
    Case("negative", lambda: rounding.lower(-0.0000001), "-0.000001"),
    Case("radius", lambda: rounding.radius(1.99999), "1.9999"),
    Case("small radius", lambda: rounding.radius(0.0000123456), "0.0000123"),
    Case("tiny radius", lambda: rounding.radius(1e-300), "0.000000000000"),
    Case("no radius", lambda: rounding.radius(0.0), "0.0000"),
    Case("endless radius", lambda: rounding.radius(math.inf), "inf"),
    Case("huge radius", lambda: float(rounding.radius(1.7e308)), 1.7e308),
    Case("denormal", lambda: rounding.upper(5e-324, 12), "0.000000000001"),
    Case("samples", lambda: rounding.samples(100.2), "101"),
    Case("alpha", lambda: rounding.in_full(0.00123456789), "0.00123456789"),
    Case("a float32", lambda: float(rounding.in_full(np.float32(0.1))), float(np.float32(0.1))),
    Case("whole numbers", lambda: rounding.in_full(12345678), "12345678"),
]

TABLES = [
    Case("1999 of 2000", lambda: row(
        reported(*[1.0] * 1999, wrong=1, more=["--at", "0"])(), "a")[-1], "99.9%"),
    Case("rho 1e-7", reported(1.0, more=["--alpha", "0.001", "--rho", "1e-7"]),
         contains("a, with probability 0.9999999", "Rows with probability 0.9999999,")),
    Case("rho 1e-12", reported(1.0, more=["--alpha", "0.001", "--rho", "1e-12"]),
         contains("with probability 1 - 1e-12")),
    Case("rho on the page", lambda: (reported(1.0, more=["--alpha", "0.001", "--rho", "1e-7",
         "--html", "p.html"])(), Path("p.html").read_text())[1],
         contains("Dotted: with probability 0.9999999.")),
    Case("alpha in full", reported(1.0, more=["--alpha", "0.00123456789"]),
         contains("0.00123456789")),
    Case("radii asked for", reported(1.0, more=["--at", "0.123456789"]), contains("  0.123456789")),
    Case("average radius", columns(0.99999, 1.0, at="0"), ["0.9999", "100.0%"]),
    Case("small average", columns(0.00001234, at="0,0.00001234"),
         ["0.0000123", "100.0%", "100.0%"]),
    Case("radius 1e25", columns(1e25, at="0,1e25"),
         [rounding.radius(1e25), "100.0%", "100.0%"]),
    Case("radius 1e308", columns(1e308, at="0"), [rounding.radius(1e308), "100.0%"]),
    Case("endless", columns(math.inf, at="0,1e300"), ["inf", "100.0%", "100.0%"]),
    Case("untested", lambda: row(of_store("at")("--at", "0,0.25,0.3,0.5,0.6"), "at")[-6:],
         [DASH, DASH, "100.0%", DASH, "100.0%", DASH]),
    Case("untested, said", of_store("at"), contains(f"{DASH}: not tested by that run")),
    Case("untested in values", lambda: values("at", at="0,0.25,0.6") == [None, None, 1.0, None],
         True),
    Case("tested by default", lambda: of_store("at")().splitlines()[2].split()[-2:],
         ["0.25", "0.5"]),
    Case("tested among others", lambda: of_store("at", "fixed")().splitlines()[2],
         contains(" 0.25", " 0.5", " 1 ")),
    Case("not untested", of_store("fixed"), lambda text: DASH not in text),
    Case("untested, surely", lambda: row(of_store("at")("--at", "0.5,1", "--rho", "0.001"),
         "at, with probability 0.999")[-2:], ["66.6%", DASH]),
    Case("the best of the tested", lambda: best("0.25,0.3") == [["at", "fixed"], ["fixed"]], True),
    Case("untested side by side", lambda: row(
        of_store("at", "fixed", command=("compare",))("--at", "0.25,0.3"), "at")[-3:],
        [DASH, "100.0%", DASH]),
    Case("untested in the best", lambda: row(of_store("at", command=("compare",))("--at", "0.3"),
         "0.3   "), ["0.3", "none", DASH]),
    Case("unknown to all", lambda: best("0.3") == [["fixed"]], True),
    Case("a denormal", columns(5e-324, at="0"), ["0.000000000000", "100.0%"]),
    Case("a denormal by default", reported(5e-324), contains("100.0%")),
    Case("pictures", pictured, True),
    Case("the bar", lambda: bar(1999, 2000), "99.9%"),
    Case("the whole bar", lambda: bar(7, 7), "100.0%"),
]  # fmt: skip

COMMANDS = [
    Case("bound at its radius", lambda: out("bound", *GAUSSIAN, "--p", "0.9", "--radius",
         "0.12345678"), contains("at radius 0.12345678 ", "certified at p = 0.9 ")),
    Case("bound of its p", lambda: out("bound", *GAUSSIAN, "--p", "0.99999951", "--radius", "1"),
         contains("p = 0.99999951 ")),
    Case("compare at its radii", lambda: out("compare", "--dim", "4", "--attack", "l2", "--noises",
         "gaussian", "--radius", "0.12345678"), contains(" 0.12345678")),
    Case("compare at its p", lambda: out("compare", "--dim", "4", "--attack", "l2", "--noises",
         "gaussian", "--p", "0.99999951"), contains(" 0.99999951")),
    Case("compare at its level", lambda: out("compare", "--dim", "4", "--attack", "l2", "--noises",
         "gaussian", "--rms", "0.12345678"), contains("rms 0.12345678 a coordinate")),
    Case("compare by its k", lambda: out("compare", "--dim", "30001", "--attack", "l2", "--noises",
         "l2:0.50001"), contains("l2 k=15000.80000")),
    Case("compare small radii", lambda: row(out("compare", "--dim", "4", "--attack", "l2",
         "--noises", "gaussian", "--rms", "0.0001", "--p", "0.9"), "gaussian")[-1], "0.000128"),
    Case("figures at their radius", lambda: figures.tradeoff(0.0123456789, lams=(1.0,)).notes[0],
         contains("of 0.0123456789;")),
    Case("radius of a large sigma", lambda: out("radius", "--noise", "gaussian", "--sigma", "1e20",
         "--dim", "4", "--attack", "l2", "--p", "0.9"), contains("128155156554")),
    Case("radius of a small sigma", lambda: out("radius", "--noise", "gaussian", "--sigma", "1e-9",
         "--dim", "4", "--attack", "l2", "--p", "0.9"), contains("l2 radius  0.00000000128")),
    Case("p_lower near 1", lambda: imported(4.9), contains("largest p_lower 0.999999\n")),
    Case("alpha of an export", lambda: (imported(1.0, "0.00123456789"), out("export", "--store",
         "s.db", "--out", "b.tsv"))[1], contains("at alpha 0.00123456789,")),
    Case("verify", verified, True),
    Case("verify | true", lambda: piped(["verify", "--dims", "1", "--n", "1000"]) == (141, b""),
         True),
    Case("a full disk", lambda: full(["radius", *GAUSSIAN, "--p", "0.9"]), (2, 1)),
    Case("help | true", lambda: piped(["certify", "--help"])[1], b""),
    Case("formats of their own", formats, {"results.py"}),
]  # fmt: skip

CASES = [
    Case(f"{kind}: {case}", case.act, case.right)
    for kind, cases in (("word", WORDS), ("table", TABLES), ("command", COMMANDS))
    for case in cases
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile_print(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    case.check()


@given(st.integers(0, 10**12), st.integers(1, 10**12), st.integers(0, 9))
def test_percents_never_exceed(count: int, total: int, digits: int) -> None:
    count = min(count, total)
    printed = Decimal(rounding.percent(count, total, digits).removesuffix("%"))
    assert printed * total <= 100 * count < (printed + Decimal(10) ** -digits) * total


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_confidence_is_never_certainty(rho: float) -> None:
    text = rounding.confidence(rho)
    assert text not in ("1", "1.0")
    if " - " not in text:
        assert Decimal(text) + Decimal(repr(rho)) == 1


@given(st.floats(0, 1e300), st.integers(0, 12))
def test_radii_err_down_and_bounds_up(value: float, digits: int) -> None:
    assert Decimal(rounding.radius(value, digits)) <= Decimal(value)
    assert Decimal(rounding.lower(value, digits)) <= Decimal(value)
    assert Decimal(rounding.upper(value, digits)) >= Decimal(value)
    assert float(rounding.in_full(value)) == value


def test_result_says_where_it_was_tested() -> None:
    one = np.zeros(1, np.int64)
    result = Result(
        name="a",
        indices=one,
        labels=one,
        predict=one,
        radius=np.ones(1),
        attack="l2",
        tested=(0.5, 1.0),
    )
    assert [result.says(r) for r in (0.0, 0.5, 0.7, 1.0, 2.0)] == [False, True, False, True, False]
