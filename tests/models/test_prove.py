"""cert prove: what it proves of numbers, logs and stores, and where it goes on from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import cert
from test_audit import in_estimation, rewrite, stored
from test_counts import RUN, SEQUENTIAL, TEST, filled

import cert_core as cc
from cert_models.commands.demo import entries
from cert_models.logs import Row, write_log
from cert_models.store.claims import COLUMNS
from cert_models.store.counts import CountStore
from cert_models.store.readings import read_run
from cert_models.store.runs import ShellPlan, Votes

NOISE = ("--noise", "l2", "--dim", "64", "--sigma", "0.5", "--k", "8", "--attack", "l2")
SERIAL = ("--workers", "1", "--quiet")


def rows(path: Path) -> list[dict[str, str]]:
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    assert head.split("\t") == list(COLUMNS)
    return [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in lines]


def test_numbers() -> None:
    noise = cc.L2Noise(64, 0.5, 8.0)
    radius = cc.certified_radius(0.9, noise, "l2")
    good = cert("prove", *NOISE, "--radius", repr(radius), "--p", "0.9")
    assert good.status == 0
    assert "1 of 1 distinct certificates proved" in good.out
    bad = cert("prove", *NOISE, "--radius", repr(1.001 * radius), "--p", "0.9")
    assert bad.status == 1
    assert "NOT PROVED" in bad.out
    p = cc.binomial_lower(990, 1000, 0.001)
    radius = cc.certified_radius(p, noise, "l2")
    votes = ("--votes", "990", "--n", "1000", "--alpha", "0.001")
    assert cert("prove", *NOISE, "--radius", repr(radius), *votes).status == 0
    fewer = ("--votes", "989", "--n", "1000", "--alpha", "0.001")
    assert cert("prove", *NOISE, "--radius", repr(radius), *fewer).status == 1


def full(path: Path, *_: Any, **__: Any) -> int:
    """Path.write_text where the disk has no room."""
    path.touch()
    raise OSError(28, "No space left on device")


def test_a_store_is_proved_whole_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, table = filled(tmp_path / "s.db", range(8)), tmp_path / "t.tsv"
    given = ("prove", "--store", str(store), "--out", str(table), "--json")
    said = cert(*given, "--workers", "2", "--quiet")
    assert said.status == 0, said.err
    first = rows(table)
    with CountStore(store, readonly=True) as opened:
        radii = set(read_run(opened, "a").certificates.radius.tolist()) - {0.0}
    assert {float(row["radius"]) for row in first} == radii
    assert len(first) == len(radii) > 2
    assert json.loads(said.out)["proved"] == len(first)
    for row in first:
        assert float(row["p"]) > float(row["required"])
        assert row["proved"] == "yes"
        assert float(row["p"]) == cc.binomial_lower(int(row["votes"]), 200, 0.001)
    # a run that was killed while it wrote: the torn line is proved again, the others are kept
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:-1]) + lines[-1][:30])
    assert cert(*given, *SERIAL).status == 0
    again = rows(table)
    assert again[:-1] == first[:-1]
    assert again[-1]["radius"] == first[-1]["radius"]
    # a full disk: what was proved stays, a table that is none is not left
    table.write_text("".join(lines[:-1]) + lines[-1][:30])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        assert "No space left" in cert(*given, *SERIAL).err
        assert table.read_text() == "".join(lines[:-1]) + lines[-1][:30]
        assert "No space left" in cert(*given[:-2], f"{tmp_path}/new.tsv", *SERIAL).err
        assert not (tmp_path / "new.tsv").exists()
    assert cert(*given, *SERIAL).status == 0
    again = rows(table)
    # other claims go to the same table
    assert cert(*given, *SERIAL, "--attack", "linf", "--alpha", "0.01").status == 0
    assert rows(table)[: len(again)] == again


def row_of(index: int, radius: float) -> Row:
    return Row(index=index, label=0, predict=0, radius=radius, seconds=0.1)


def report(*given: str) -> dict[str, Any]:
    said = cert("report", *given, "--json")
    assert said.status == 0, said.err
    (result,) = json.loads(said.out)["results"]
    return result


def test_a_report_says_what_is_proved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store, other = filled(Path("s.db"), range(8)), filled(Path("o.db"), range(8, 12))
    assert cert("prove", "--store", str(store), "--out", "t.tsv", *SERIAL).status == 0
    count = len(rows(Path("t.tsv")))
    proved = ("--proved", "t.tsv")
    found = report("s.db", *proved)
    assert found["proved"] is True
    assert found["proofs"] == {"proved": count, "certificates": count, "votes": True, "n": None}
    words = f"proved, each of {count} distinct certificates"
    for how in ((), ("--format", "markdown"), ("--format", "latex")):
        assert words in cert("report", "s.db", *proved, *how).out
    assert cert("report", "s.db", *proved, "--html", "p.html").status == 0
    assert words in Path("p.html").read_text()
    assert "proved" not in report("s.db")
    # other numbers: another alpha, another attack, votes of other inputs
    for given in (("s.db", "--alpha", "0.01"), ("s.db", "--attack", "linf"), (str(other),)):
        wrong = report(*given, *proved)
        assert wrong["proved"] is False, given
        assert "not proved: " in cert("report", *given, *proved).out
    # one that was not proved, or is missing
    head, *lines = Path("t.tsv").read_text().splitlines(keepends=True)
    for changed in (lines[1:], [lines[0].replace("yes", "no"), *lines[1:]]):
        Path("u.tsv").write_text(head + "".join(changed))
        less = report("s.db", "--proved", "u.tsv")
        assert (less["proved"], less["proofs"]["proved"]) == (False, count - 1)


def test_a_report_of_a_log_says_what_is_proved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    noise = cc.L2Noise(64, 0.5, 8.0)
    radii = [cc.certified_radius(cc.binomial_lower(k, 500, 0.001), noise, "l2") for k in (480, 499)]
    write_log("log", [row_of(i, radius) for i, radius in enumerate([*radii, 0.0])])
    said = ("--alpha", "0.001")
    assert cert("prove", *NOISE, *said, "--n", "500", "--log", "log", "--out", "t.tsv", *SERIAL
                ).status == 0  # fmt: skip
    found = report("log", *NOISE, *said, "--proved", "t.tsv")
    assert found["proofs"] == {"proved": 2, "certificates": 2, "votes": True, "n": 500}
    words = "proved, each of 2 distinct certificates, taken for those of 500 votes an input"
    assert words in cert("report", "log", *NOISE, *said, "--proved", "t.tsv").out
    assert not report("log", *NOISE, "--alpha", "0.01", "--proved", "t.tsv")["proved"]
    changed = [*NOISE[:5], "0.6", *NOISE[6:]]
    assert not report("log", *changed, *said, "--proved", "t.tsv")["proved"]
    for lacking in (NOISE, (*said, "--attack", "l2")):
        assert (
            "--noise and --alpha must be given"
            in cert("report", "log", *lacking, "--proved", "t.tsv").err
        )
    # a log that a store keeps says its n itself
    stated = (*NOISE, *said, "--n")
    for n in ("500", "501"):
        assert cert("import", "log", "--store", f"{n}.db", *stated, n).status == 0
        assert report(f"{n}.db", "--proved", "t.tsv")["proved"] is (n == "500")


SHELLED = cc.L2Noise(64, 0.5, 56.0)


def shelled(path: Path) -> str:
    """A run of votes by shell: two inputs alike, another, and one that abstains."""
    edges = cc.shell_thresholds(SHELLED, [0.3, 0.7])
    plan = ShellPlan(20, 1000, tuple(edges.tolist()))
    drawn = (300, 400, 300)
    with CountStore(path) as store:
        store.begin("a", dataclasses.replace(RUN, plan=plan, noise=SHELLED, num_classes=2))
        for i, cast in enumerate(((298, 390, 260),) * 2 + ((295, 380, 200), (200, 200, 100))):
            store.add("a", Votes(
                index=i, label=0, selection=np.array([20, 0]), seconds=0.1,
                estimation=np.array([sum(cast), 1000 - sum(cast)]), shells=(*cast, *drawn),
            ))  # fmt: skip
    return str(path)


def test_certificates_by_shells_are_proved_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = shelled(Path("s.db"))
    given = ("prove", "--store", store, "--out", "t.tsv", *SERIAL)
    said = cert(*given)
    assert said.status == 0, said.err
    first, second = rows(Path("t.tsv"))
    assert {first["votes"], second["votes"]} == {"298 390 260", "295 380 200"}
    for row in (first, second):
        masses = [float(each.split("@")[0]) for each in row["p"].split()]
        assert (row["n"], row["proved"], len(masses)) == ("300 400 300", "yes", 3)
        assert float(row["radius"]) > 1.0001 * cc.certified_radius(masses[-1], SHELLED, "l2")
        assert 0 < float(row["margin"]) < 1e-6
    found = report(store, "--proved", "t.tsv")
    assert found["proofs"] == {"proved": 2, "certificates": 2, "votes": True, "n": None}
    table = Path("t.tsv").read_text()
    assert cert(*given).status == 0
    assert Path("t.tsv").read_text() == table  # each once
    # all shells together certify less, and are other certificates
    whole = ("--bound", "clopper-pearson")
    assert not report(store, *whole, "--proved", "t.tsv")["proved"]
    assert cert(*given, *whole).status == 0
    assert len(rows(Path("t.tsv"))) == 4
    assert report(store, *whole, "--proved", "t.tsv")["proved"]
    # a table of such rows proves nothing of a log
    log = ("--noise", "l2", "--dim", "64", "--sigma", "0.5", "--k", "56", "--attack", "l2",
           "--alpha", "0.001")  # fmt: skip
    write_log("log", [row_of(0, float(first["radius"]))])
    assert not report("log", *log, "--proved", "t.tsv")["proved"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("298 390", "290 390"),
        ("300 400", "310 400"),
        ("@", "@0."),
        ("@", "#"),
        (" 260", ""),
        ("\t0.001\t", "\t2\t"),
        ("\tyes", "\tmaybe"),
    ],
    ids=str.strip,
)
def test_a_row_by_shells_that_contradicts_itself_is_refused(
    old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = shelled(Path("s.db"))
    assert cert("prove", "--store", store, "--out", "t.tsv", *SERIAL).status == 0
    head, *lines = Path("t.tsv").read_text().splitlines(keepends=True)
    (line,) = [line for line in lines if "298 390" in line]
    Path("t.tsv").write_text(head + line.replace(old, new, 1))
    said = cert("report", store, "--proved", "t.tsv")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert "table must be a table of proofs whose rows agree" in said.err


def test_radii_by_shells_that_are_too_large_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, right = shelled(tmp_path / "s.db"), cc.shell_votes.shell_radius
    wrong = lambda *given: np.asarray(right(*given)) * (1 + 1e-5)  # noqa: E731
    monkeypatch.setattr(cc.shell_votes, "shell_radius", wrong)
    said = cert("prove", "--store", store, *SERIAL)
    assert said.status == 1
    assert said.out.count("NOT PROVED") == 2


@pytest.mark.parametrize(
    "change",
    [
        {"proved": "maybe"}, {"proved": ""}, {"required": "0.99999"}, {"required": "nan"},
        {"required": "x"}, {"p": "0.99999"}, {"votes": "10"}, {"votes": "x"}, {"n": ""},
        {"alpha": "2"}, {"radius": "1\t1"},
    ],
    ids=str,
)  # fmt: skip
def test_a_table_that_contradicts_itself_is_refused(
    change: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    filled(Path("s.db"), range(2))
    assert cert("prove", "--store", "s.db", "--out", "t.tsv", *SERIAL).status == 0
    row = rows(Path("t.tsv"))[0] | change
    Path("t.tsv").write_text("\t".join(COLUMNS) + "\n" + "\t".join(row.values()) + "\n")
    said = cert("report", "s.db", "--proved", "t.tsv")
    assert said.status == 2
    assert "table must be a table of proofs" in said.err
    assert said.err.count("\n") == 1
    assert cert("report", "s.db", "--proved", "none.tsv").status == 2


@pytest.mark.slow
def test_a_run_of_the_digits_is_proved_and_audited_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("means.py").write_text(
        "import numpy as np\nfrom sklearn.datasets import load_digits\n"
        "x, y = load_digits(return_X_y=True)\n"
        "centres = np.stack([x[y == c].mean(axis=0) for c in range(10)]) / 16\n"
        "def predict(z):\n"
        "    z = np.asarray(z).reshape(len(z), -1)\n"
        "    return np.linalg.norm(z[:, None] - centres, axis=2).argmin(axis=1)\n"
    )
    source = ("--data", "digits", "--model", "means:predict", "--store", "s.db", "--quiet")
    plain = [(attack, noise, ()) for attack, _, noise in entries()]
    for i, (attack, noise, how) in enumerate([*plain, ("l2", SHELLED, ("--shells",))]):
        values = {key: str(value) for key, value in noise.to_dict().items() if key != "dim"}
        given = [word for key, value in values.items() for word in (f"--{key}", value)]
        said = cert(
            "certify", *source, *given, "--attack", attack, "--n", "500", "--indices", "0-39",
            "--run", str(i), *how,
        )  # fmt: skip
        assert said.status == 0, said.err
        run = ("--run", str(i))
        said = cert("prove", "--store", "s.db", *run, "--out", "t.tsv", *SERIAL)
        assert said.status == 0, said.err
        found = report("s.db", *run, "--proved", "t.tsv")
        assert (found["proved"], found["proofs"]["votes"]) == (True, True)
        said = cert("audit", *source, *run, "--share", "1")
        assert said.status == 0, said.out
        assert "certainly at most 0 of 40 inputs" in said.out
    assert len(rows(Path("t.tsv"))) > 30
    right = stored("s.db", "5")[7]
    rewrite("s.db", "5", in_estimation(right))  # one vote, cast for another class
    said = cert("audit", *source, "--run", "5", "--share", "1")
    assert said.status == 1
    assert "input 7: 1 votes differ: WRONG" in said.out


def test_radii_that_are_too_large_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path / "s.db", range(4))
    right = cc.certify.__globals__["certified_radius"]
    monkeypatch.setitem(
        cc.certify.__globals__, "certified_radius", lambda *given: right(*given) * (1 + 1e-6)
    )
    said = cert("prove", "--store", str(store), *SERIAL)
    assert said.status == 1
    assert "NOT PROVED" in said.out
    assert "0 of" in said.out


def test_a_sequential_run_is_proved_on_the_side_of_the_noise(tmp_path: Path) -> None:
    taken, looks = TEST.begin(), []
    for n in TEST.looks:
        looks.append(n)
        if taken.update(n, n):
            break
    first, second = [np.array([n, 0, 0, 0]) for n in (TEST.n0, looks[-1])]
    with CountStore(tmp_path / "s.db") as store:
        store.begin("a", dataclasses.replace(RUN, plan=SEQUENTIAL))
        store.add(
            "a",
            Votes(
                index=0,
                label=0,
                selection=first,
                estimation=second,
                seconds=0.1,
                looks=tuple(looks),
            ),
        )
    said = cert("prove", "--store", str(tmp_path / "s.db"), *SERIAL)
    assert said.status == 0, said.err
    assert "noise's side alone" in said.out


def test_a_log_by_the_fewest_votes(tmp_path: Path) -> None:
    noise, log, table = cc.L2Noise(64, 0.5, 8.0), tmp_path / "log", tmp_path / "t.tsv"
    radii = [cc.certified_radius(cc.binomial_lower(k, 500, 0.001), noise, "l2") for k in (480, 499)]
    write_log(
        log,
        [
            Row(index=i, label=0, predict=0, radius=radius, seconds=0.1)
            for i, radius in enumerate([*radii, radii[0]])
        ],
    )
    more = ("--n", "500", "--alpha", "0.001", "--log", str(log), "--out", str(table))
    assert cert("prove", *NOISE, *more, *SERIAL).status == 0
    assert sorted(int(row["votes"]) for row in rows(table)) == [480, 499]
    few = ("--n", "100", "--alpha", "0.001", "--log", str(log))
    assert cert("prove", *NOISE, *few, *SERIAL).status == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), "--radius, --log, --store"),
        ((*NOISE, "--radius", "1", "--store", "x"), "choose one"),
        ((*NOISE, "--radius", "1"), "--p and --votes"),
        ((*NOISE, "--radius", "1", "--p", "0.9", "--votes", "3"), "--p and --votes"),
        ((*NOISE, "--radius", "1", "--votes", "3"), "--n must be given"),
        ((*NOISE, "--radius", "-1", "--p", "0.9"), "radius must be"),
        ((*NOISE, "--radius", "1", "--p", "1.9"), "p must be"),
        (("--radius", "1", "--p", "0.9"), "--noise must be given"),
        ((*NOISE, "--log", "none", "--n", "10", "--alpha", "0.1"), "log must be"),
        (("--store", "none"), "none"),
        ((*NOISE, "--radius", "1", "--p", "0.9", "--bound", "shells"), "--bound must come without"),
        ((*NOISE, "--radius", "1", "--p", "0.9", "--n", "10"), "--n must come without --p"),
        ((*NOISE, "--log", "a.tsv", "--p", "0.9"), "--p must come without --log"),
        (("--store", "s.db", *NOISE), "must come without --store"),
        (("--store", "s.db", "--n", "10"), "--n must come without --store"),
        (("--store", "s.db", "--bound", "runner-up"), "--bound must be of one class to be proved"),
        (("--store", "s.db", "--bound", "shells"), "bound must be one that reads counts"),
        ((*NOISE, "--radius", "1", "--p", "0.9", "--workers", "0"), "--workers must be"),
        ((*NOISE, "--radius", "1", "--p", "0.9", "--out", "data.txt"), "table of proofs"),
        ((*NOISE, "--radius", "1", "--p", "0.9", "--out", "no/t.tsv"), "folder that exists"),
    ],
)
def test_one_line_says_what_is_wrong(
    given: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.txt").write_text("mine\n")
    filled(Path("s.db"), range(1))
    said = cert("prove", *given)
    assert said.status == 2
    assert words in said.err
    assert said.err.count("\n") == 1
    assert Path("data.txt").read_text() == "mine\n"
