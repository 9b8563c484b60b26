"""The log of Cohen et al.: ours, published ones, into a store and out again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import cert_core as cc
from cert_models.cli import main
from cert_models.logs import Row, _at_once, _one_by_one, read_log, write_log
from cert_models.store.counts import CountStore
from cert_models.store.readings import read_run
from cert_models.store.runs import FixedPlan, Run, Votes

HEAD = "idx\tlabel\tpredict\tradius\tcorrect\ttime"
PUBLISHED = f"""{HEAD}
0\t3\t3\t0.478\t1\t0:00:17.268386
20\t7\t-1\t0.0\t0\t0:00:17.1
40\t4\t2\t1.35\t0\t1 day, 2:03:04
60\t9\t9\t1e-05\t1\t0:01:00
80\t9\t9\t1.9\t1\t17.5
"""


def rows_strategy() -> st.SearchStrategy[list[Row]]:
    row = st.tuples(
        st.integers(0, 9), st.integers(-1, 9), st.floats(0, 1e6) | st.just(math.inf),
        st.integers(0, 10**12), st.sampled_from(["", "0.9", "a b"]),
    )  # fmt: skip

    def numbered(given: list[Any]) -> list[Row]:
        return [
            Row(
                index=i,
                label=label,
                predict=predict,
                radius=0.0 if predict < 0 else radius,
                seconds=us / 1e6,
                extra={"note": note},
            )
            for i, (label, predict, radius, us, note) in enumerate(given)
        ]

    return st.lists(row, min_size=1, max_size=6).map(numbered)


@given(rows_strategy())
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    path = tmp_path_factory.mktemp("logs") / "log.tsv"
    write_log(path, rows)
    back = read_log(path)
    assert [(r.index, r.label, r.predict, r.radius, r.extra) for r in back] == [
        (r.index, r.label, r.predict, r.radius, r.extra) for r in rows
    ]
    assert [r.seconds for r in back] == pytest.approx([r.seconds for r in rows], abs=1e-6)
    again = path.with_suffix(".again")
    write_log(again, back)
    assert again.read_bytes() == path.read_bytes()


CELLS = {
    "idx": ["0", "5.0", "1e2", "9007199254740993"],
    "label": ["0", "1", "-1", "1.0", " 1"],
    "predict": ["0", "1", "-1", "-1.0"],
    "radius": ["-1", "0.5", "1e-05", ".25", "-0.0", "inf", "1e999"],
    "correct": ["True", "false", "0.0", "1"],
    "time": ["0:00:00", "0:00:17.268386", "1 day, 2:03:04", "123:59:59.999999", "0:00:01.5",
             "17.5", "99:99:99.000001", "0:1:2"],
    "sigma": ["0.5", "", "a b"],
}  # fmt: skip
WRONG_CELLS = {
    "idx": ["0", "-1", "x", "\u0663", ""], "label": ["-2", "1.5"], "predict": ["2", "-2"],
    "radius": ["nan", "half", " 0.5"], "correct": ["2", "-1", "yes"], "time": ["-1", "soon"],
    "sigma": ["0.5\t"],
}  # fmt: skip


@given(st.data())
def test_columns_say_what_rows_say(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    """Read many at a time or one by one: the same rows, or the same refusal."""
    wrong = data.draw(st.sampled_from([*CELLS])) if data.draw(st.booleans()) else ""
    totals, total = data.draw(st.booleans()), 0
    lines = ["\t".join(CELLS)]
    for i in range(data.draw(st.integers(1, 5))):
        cells = {name: data.draw(st.sampled_from(texts)) for name, texts in CELLS.items()}
        right = float(cells["predict"]) == float(cells["label"])
        total += right
        cells |= {"idx": cells["idx"] if i == 0 else str(i), "correct": str(total)}
        if not totals:
            cells["correct"] = data.draw(st.sampled_from([str(right), str(float(right))]))
        if wrong and data.draw(st.booleans()):
            cells[wrong] = data.draw(st.sampled_from(WRONG_CELLS[wrong]))
        lines.append("\t".join(cells.values()))
    path = tmp_path_factory.mktemp("logs") / "log.tsv"
    path.write_text("\n".join(lines), encoding="utf-8")

    def rows_or_refusal(read: Callable[[], Sequence[Row]]) -> Any:
        try:
            return [(r, math.copysign(1, r.radius), r.correct) for r in read()]
        except ValueError as error:
            return str(error)

    one_by_one = rows_or_refusal(lambda: _one_by_one(list(CELLS), lines, path))
    assert rows_or_refusal(lambda: read_log(path)) == one_by_one
    at_once = _at_once(list(CELLS), lines)
    if at_once is not None:
        assert rows_or_refusal(lambda: list(at_once.rows())) == one_by_one


def test_what_most_logs_say_is_read_at_once() -> None:
    _, *lines = PUBLISHED.replace("1 day, 2:03:04", "26:03:04").splitlines()
    assert _at_once(HEAD.split("\t"), [HEAD, *lines]) is not None
    sums = [line.split("\t") for line in lines]
    for row, total in zip(sums, (1, 1, 1, 2, 3), strict=True):
        row[4] = str(total)
    assert _at_once(HEAD.split("\t"), [HEAD, *map("\t".join, sums)]) is not None


def test_a_wrong_cell_behind_many_is_found_at_once(tmp_path: Path) -> None:
    """No search among the ways to read those before it."""
    path = tmp_path / "log"
    lines = [f"{i}\t1\t1\t{'5' * 17}\t1\t0:00:00" for i in range(999)]
    path.write_text("\n".join([HEAD, *lines, "999\t1\t1\thalf\t1\t0"]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 1001: radius must be a number, got 'half'"):
        read_log(path)


def test_published_logs(tmp_path: Path) -> None:
    path = tmp_path / "published"
    path.write_text(PUBLISHED, encoding="utf-8")
    rows = read_log(path)
    assert [row.index for row in rows] == [0, 20, 40, 60, 80]
    assert [row.radius for row in rows] == [0.478, 0.0, 1.35, 1e-5, 1.9]
    assert [row.seconds for row in rows] == [17.268386, 17.1, 93784.0, 60.0, 17.5]
    assert [row.correct for row in rows] == [1, 0, 0, 1, 1]


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = ["radius\tidx\tp\tcorrect\tlabel\tpredict", "0.5\t3\t.9\t1\t2\t2", ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert read_log(path) == [
        Row(index=3, label=2, predict=2, radius=0.5, seconds=0.0, extra={"p": ".9"})
    ]
    path.write_text(f"{HEAD}\n7\t1\t-1\t0.75\t0\t1\n", encoding="utf-8")
    assert read_log(path) == [
        Row(index=7, label=1, predict=-1, radius=0.0, seconds=1.0)
    ]  # an abstention certifies nothing


BAD = [
    ("", "log must begin with a line of distinct column names"),
    ("idx label predict radius correct time\n", "no idx, label, predict, radius, correct"),
    (f"{HEAD}\tidx\n", "twice the same"),
    (f"{HEAD}\n1\t1\t1\t0.5\t1\n", "line 2: 5 columns, not 6"),
    (f"{HEAD}\n1\t1\t1\t0.5\t1\t0\n2\t1\t1\thalf\t1\t0\n", "radius must be a number, got 'half'"),
    (f"{HEAD}\n1\t1\t1\tnan\t1\t0\n", "radius must be a number, got 'nan'"),
    (f"{HEAD}\n1\t1\t2\t0.5\t1\t0\n", "correct must be 1 where predict is label"),
    (f"{HEAD}\n1\t1\t1\t0.5\t0\t0\n", "correct must be 1 where predict is label"),
    (f"{HEAD}\n1\t1\t1\t0.5\t1\tsoon\n", "time must be a duration, got 'soon'"),
    (f"{HEAD}\ninf\t1\t1\t0.5\t1\t0\n", "idx must be a whole number >= 0, got 'inf'"),
    (f"{HEAD}\n1\t1\t1\t0.5\t1\t0\n1\t1\t1\t0.5\t1\t0\n", "idx must be distinct, got 1 again"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[m[:30] for _, m in BAD])
def test_what_is_no_log(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "log"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="must ") as caught:
        read_log(path)
    assert message in str(caught.value)


def test_unreadable_logs(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for name, reason in (("bytes", "not text"), ("none", "No such file"), (".", "Is a directory")):
        with pytest.raises(ValueError, match=f"log must be a readable text file.*{reason}"):
            read_log(tmp_path / name)


def test_a_log_is_never_overwritten(tmp_path: Path) -> None:
    path, rows = tmp_path / "log.tsv", [Row(index=0, label=1, predict=1, radius=0.5, seconds=1.0)]
    write_log(path, rows)
    write_log(path, rows)  # it says this already
    with pytest.raises(ValueError, match="out must be a file that does not exist yet"):
        write_log(path, [Row(index=0, label=1, predict=1, radius=0.6, seconds=1.0)])
    assert read_log(path) == rows
    with pytest.raises(ValueError, match="No such file"):
        write_log(tmp_path / "no" / "log.tsv", rows)
    with pytest.raises(ValueError, match="rows must have the same columns"):
        write_log(
            tmp_path / "b.tsv",
            [*rows, Row(index=1, label=1, predict=1, radius=0.5, seconds=1.0, extra={"a": "1"})],
        )
    assert [p.name for p in tmp_path.iterdir()] == ["log.tsv"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("published.tsv").write_text(PUBLISHED, encoding="utf-8")
    return tmp_path


IMPORT = [
    "import", "published.tsv", "--store", "s.db", "--noise", "gaussian", "--sigma", "0.5",
    "--dim", "3072", "--attack", "l2", "--alpha", "0.001", "--n", "100000",
]  # fmt: skip


def test_a_published_log_reported_and_exported_is_the_same(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*IMPORT, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["run"], values["inputs"], values["abstained"]) == ("published", 5, 1)
    expected = [stats.norm.cdf(r / 0.5) if r else 0.0 for r in (0.478, 0.0, 1.35, 1e-5, 1.9)]
    assert values["p_lower"] == pytest.approx(expected, abs=1e-12)
    assert main(IMPORT) == 0  # again: nothing changes
    assert main(["export", "--store", "s.db", "--out", "again.tsv"]) == 0
    assert read_log("again.tsv") == read_log("published.tsv")
    capsys.readouterr()
    reports = []
    for source in ("published.tsv", "s.db"):
        assert main(["report", source, "--attack", "l2", "--at", "0,0.25,1,1.9", "--json"]) == 0
        (result,) = json.loads(capsys.readouterr().out)["results"]
        reports.append((result["certified_accuracy"], result["abstained"], result["inputs"]))
    assert reports[0] == reports[1]
    assert reports[0][0] == [0.6, 0.4, 0.2, 0.2]
    assert main(["export", "--store", "s.db", "--attack", "linf", "--out", "linf.tsv"]) == 0
    radii = [row.radius for row in read_log("linf.tsv")]
    assert radii[4] == pytest.approx(1.895 / math.sqrt(3072), rel=1e-9)  # 1.9 as printed


def test_counts_exported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a store says at other attacks and alpha, its radii never above the truth."""
    noise = cc.Laplace(6, 0.5)
    run = Run(
        plan=FixedPlan(10, 400),
        noise=noise,
        seed=0,
        batch_size=50,
        num_classes=3,
        model="m",
        model_fingerprint="",
        data="d",
        data_fingerprint="",
        attack="l1",
        alpha=0.001,
    )
    votes = [[390, 5, 5], [200, 190, 10], [0, 400, 0]]
    with CountStore("c.db") as store:
        store.begin("r", run)
        for i, estimation in enumerate(votes):
            selection = np.eye(3, dtype=np.int64)[int(np.argmax(estimation))] * 10
            store.add(
                "r",
                Votes(
                    index=3 * i,
                    label=0,
                    selection=selection,
                    estimation=np.array(estimation),
                    seconds=1.5,
                ),
            )
        reading = read_run(store, "r", attack="l1", alpha=0.05)
    more = ["--alpha", "0.05", "--out", "r.tsv"]
    assert main(["export", "--store", "c.db", *more]) == 0
    assert "3 inputs of run 'r', l1 radii at alpha 0.05" in capsys.readouterr().out
    rows = read_log("r.tsv")
    assert [(r.index, r.label, r.predict, r.correct) for r in rows] == [
        (0, 0, 0, 1), (3, 0, -1, 0), (6, 0, 1, 0),
    ]  # fmt: skip
    assert [r.radius for r in rows] == reading.certificates.radius.tolist()
    for row, estimation in zip(rows, votes, strict=True):
        if row.predict >= 0:
            p = cc.binomial_lower(max(estimation), 400, 0.05)
            assert row.radius <= -0.5 * math.log(2 * (1 - p))


def test_stores_merged_by_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(IMPORT) == 0
    assert main(["merge", "--store", "all.db", "s.db"]) == 0
    capsys.readouterr()
    assert main(["merge", "--store", "all.db", "s.db", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == {"published": 5}
    with CountStore("all.db") as store:
        assert len(store.logged("published")) == 5


@pytest.mark.parametrize("source", ["none.db", "published.tsv"])
def test_merging_what_is_no_store_makes_none(folder: Path, source: str) -> None:
    assert main(["merge", "--store", "new.db", source]) == 2
    assert not Path("new.db").exists()


def without(option: str) -> list[str]:
    place = IMPORT.index(option)
    return IMPORT[:place] + IMPORT[place + 2 :]


WRONG = [
    (without("--dim"), "--dim must be given"),
    (without("--alpha"), "--alpha"),
    ([*IMPORT[:1], "none.tsv", *IMPORT[2:]], "log must be a readable text file"),
    (["export", "--store", "none.db", "--out", "a.tsv"], "store must be an existing file"),
    (["export", "--store", "s.db", "--out", "a.tsv", "--run", "b"], "run must be one of 's.db'"),
    (["export", "--store", "s.db", "--out", "a.tsv", "--alpha", "0.01"], "alpha must be 0.001"),
    (["export", "--store", "s.db", "--out", "published.tsv", "--attack", "l1"], "File exists"),
    (["merge", "--store", "s.db", "published.tsv"], "store must be a count store"),
    (["merge", "--store", "new.db", "none.db"], "store must be an existing file"),
    ([*IMPORT, "--alpha", "0.01"], "must be continued with its own parameters, got plan.alpha"),
]


@pytest.mark.parametrize(("command", "message"), WRONG, ids=[m[:30] for _, m in WRONG])
def test_wrong_usage(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str], message: str
) -> None:
    assert main(IMPORT) == 0
    capsys.readouterr()
    try:
        status = main(command)
    except SystemExit as stop:  # argparse
        status = int(stop.code or 0)
    captured = capsys.readouterr()
    assert status == 2
    assert message in captured.err
    assert captured.out == ""
    assert len([line for line in captured.err.splitlines() if "error:" in line]) == 1
    assert Path("published.tsv").read_text(encoding="utf-8") == PUBLISHED


@pytest.mark.parametrize(
    "other",
    [["--sigma", "0.05"], ["--n", "100"], ["--alpha", "1e-300"], ["--dim", "2", "--noise", "linf"]],
)
def test_claims_that_contradict_each_other(
    folder: Path, capsys: pytest.CaptureFixture[str], other: list[str]
) -> None:
    """Radii that not even unanimous votes of that many samples certify."""
    assert main([*IMPORT, *other]) == 2
    assert "radii must be at most" in capsys.readouterr().err
    assert not Path("s.db").exists()


def test_logs_of_other_systems(folder: Path) -> None:
    """A byte order mark, Windows' line ends, an abstention on an input without a class."""
    text = PUBLISHED.replace("20\t7\t-1\t0.0\t0", "20\t-1\t-1\t0.0\t1").replace("\n", "\r\n")
    Path("windows.tsv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    rows = read_log("windows.tsv")
    assert [row.index for row in rows] == [0, 20, 40, 60, 80]
    assert [row.correct for row in rows] == [1, 0, 0, 1, 1]


def test_radii_that_lean_on_the_runner_up_are_no_published_log(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their radius says nothing of p_lower, from which other norms' would be derived."""
    noise = cc.LinfNoise(2, 0.5)
    run = Run(
        plan=FixedPlan(10, 1000),
        noise=noise,
        seed=0,
        batch_size=50,
        num_classes=4,
        model="m",
        model_fingerprint="",
        data="d",
        data_fingerprint="",
        attack="linf",
        alpha=0.001,
    )
    with CountStore("c.db") as store:
        store.begin("r", run)
        counts = np.array([450, 60, 240, 250])
        store.add(
            "r",
            Votes(
                index=0, label=0, selection=np.array([10, 0, 0, 0]), estimation=counts, seconds=0.1
            ),
        )
    assert main(["export", "--store", "c.db", "--runner-up", "--out", "top.tsv"]) == 0
    (row,) = read_log("top.tsv")
    assert row.radius > 0
    assert row.extra == {"bound": "runner-up"}
    capsys.readouterr()
    claims = ["--noise", "linf", "--sigma", "0.5", "--dim", "2", "--attack", "linf"]
    told = ["--alpha", "0.001", "--n", "1000"]
    assert main(["import", "top.tsv", "--store", "i.db", *claims, *told]) == 2
    assert "got those of the bound 'runner-up' in 'top.tsv'" in capsys.readouterr().err
    assert not Path("i.db").exists()
