"""cert compare: its numbers are the library's, and so are those of the table in the docs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cert_core as cc
from cert_models.cli import main
from cert_models.reports.envelope import CHOSEN_HERE
from cert_models.store.counts import CountStore
from cert_models.store.runs import FixedPlan, Run, Votes

ORDER = {"l1": 1, "l2": 2, "linf": np.inf}
FAMILIES = Path(__file__).parents[2] / "docs/theory/families.md"


def compare(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["compare", *arguments, "--json"]) == 0
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    return values


def test_radii_and_probabilities(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "c.png"
    common = ("--dim", "64", "--attack", "l1", "--noises", "laplace,linf:0.5,l2:0.3")
    got = compare(capsys, *common, "--p", "0.7,0.9", "--picture", str(picture))
    noise = cc.LinfNoise.with_rms(64, 1.0, 32.0)
    assert got["rows"]["linf k=32"][1] == cc.certified_radius(0.9, noise, "l1")
    assert picture.stat().st_size > 10_000
    got = compare(capsys, *common, "--radius", "0.5")
    assert got["rows"]["linf k=32"] == [cc.required_probability(noise, "l1", 0.5)]


@pytest.mark.parametrize("attack", cc.ATTACKS)
def test_equal_mean_norms(capsys: pytest.CaptureFixture[str], attack: str) -> None:
    """Every noise has the mean norm asked for, by its draws: 7 standard errors."""
    got = compare(
        capsys, "--dim", "16", "--attack", attack, "--mean-norm", "3", "--p", "0.9",
        "--noises", "gaussian,laplace,l2:0.5,linf:0.3,mixed:0.4",
    )  # fmt: skip
    assert got["mean_norm"] == 3.0
    for record in got["noises"].values():
        noise = cc.noise_from_dict(record)
        size = np.linalg.norm(cc.draw(noise, 20_000, 5), ord=ORDER[attack], axis=1)
        assert abs(size.mean() - 3.0) < 7 * size.std() / 20_000**0.5
    rows = {name.removesuffix(" *"): row for name, row in got["rows"].items()}
    for name, record in got["noises"].items():
        assert rows[name] == [cc.certified_radius(0.9, cc.noise_from_dict(record), attack)]


def test_one_level_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["compare", "--dim", "4", "--attack", "l1", "--rms", "1", "--mean-norm", "1"])
    assert "not allowed with argument" in capsys.readouterr().err
    assert main(["compare", "--attack", "l1"]) == 2
    assert "--dim must be given" in capsys.readouterr().err


def test_formats(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    common = ["compare", "--dim", "4", "--attack", "l2", "--noises", "gaussian", "--p", "0.9"]
    out = tmp_path / "t.tex"
    assert main([*common, "--format", "latex", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"wrote {out}\n"
    assert r"gaussian & 1 & 1.28155 \\" in out.read_text(encoding="utf-8")


def test_inclusion_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    main(["compare", "--dim", "9", "--attack", "l2", "--noises", "gaussian,l1"])
    printed = capsys.readouterr().out
    assert "l1 *" in printed
    assert "not tight" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--noises", "foo"], "--noises must name families of"),
        (["--noises", "l1:x"], "--noises must have a number after the colon, got 'l1:x'"),
        (["--p", "0.5;1"], "--p must be numbers with commas between, got '0.5;1'"),
        (["--noises", "l1:1"], "k must be a number with 0 <= k < dim = 9"),
        (["--rms", "-1"], "rms must be a finite number > 0, got -1.0"),
        (["--mean-norm", "0"], "--mean-norm must be a finite number > 0, got 0.0"),
        (["--mean-norm", "inf"], "--mean-norm must be a finite number > 0, got inf"),
        (["--picture", "c.gif"], "--picture must be a .png, .svg or .pdf file, got 'c.gif'"),
        (["--at", "1"], "--at must come with --store, got 1"),
        (["--run", "a"], "--run must come with --store, got ['a']"),
        (["--store", "a.db"], "--dim must not be given with --store, got 9"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--dim", "9", "--attack", "l1", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_table_of_families() -> None:
    """Each number is the certified radius, cut after its last digit."""
    families = {
        "Gaussian": ("gaussian", 0.0), "Laplace": ("laplace", 0.0), "LinfNoise, k = 0": ("linf", 0),
        "L2Noise, k = d/2": ("l2", 0.5), "LinfNoise, k = d/2": ("linf", 0.5),
        "MixedNoise, k = d/10": ("mixed", 0.1),
    }  # fmt: skip
    text = FAMILIES.read_text(encoding="utf-8").split("| attack, d |")[1].split("\n\n")[0]
    checked, place = 0, ""
    for line in text.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        place = cells[0] or place
        attack, dim = place.split(", ")
        family, share = families[cells[1]]
        noise = cc.NOISES[family].with_rms(int(dim), 1.0, share * int(dim))
        for p, shown in zip((0.6, 0.9, 0.99, 0.999), cells[2:], strict=True):
            radius = cc.certified_radius(p, noise, attack)
            digits = len(shown.split(".")[1])
            assert 0 <= radius - float(shown) < 10.0**-digits, (line, p, radius)
            checked += 1
    assert checked == 96


NOISES = {
    "narrow": cc.Gaussian(4, 0.2), "wide": cc.Gaussian(4, 0.8), "laplace": cc.Laplace(4, 0.5),
    "stretched": cc.Gaussian(4, 0.5).scaled([1.0, 2.0, 3.0, 4.0]),
}  # fmt: skip
SHARE = {"narrow": 0.99, "wide": 0.8, "laplace": 0.9, "stretched": 0.9}


def write(path: Path, *names: str, inputs: range = range(20), **changes: Any) -> None:
    """A store of runs whose votes for class i mod 2 have the shares above; in "wide" every
    fourth input is taken for the other class."""
    given = {"model": "net", "data": "test.npz", "digest": "d", "shift": 0} | changes
    with CountStore(path) as store:
        for name in names:
            run = Run(
                plan=FixedPlan(10, 500), noise=NOISES[name], seed=0, batch_size=100,
                num_classes=2, model=given["model"], model_fingerprint="m", data=given["data"],
                data_fingerprint=given["digest"], attack="l2", alpha=0.01,
            )  # fmt: skip
            store.begin(name, run, {})
            rng = np.random.default_rng(len(name))
            for i in inputs:
                label = (i + given["shift"]) % 2
                right = SHARE[name] if name != "wide" or i % 4 else 0.1
                share = np.where(np.arange(2) == label, right, 1 - right)
                first, second = rng.multinomial(10, share), rng.multinomial(500, share)
                store.add(
                    name,
                    Votes(index=i, label=label, selection=first, estimation=second, seconds=0.1),
                )


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.db", "narrow", "wide")
    write(tmp_path / "b.db", "laplace", model="other")
    return tmp_path


def test_the_best_run_at_each_radius(capsys: pytest.CaptureFixture[str], stores: Path) -> None:
    command = ["compare", "--store", "a.db", "x=b.db", "--attack", "l2", "--at", "0.1,0.3,0.6,9"]
    assert main([*command, "--json", "--picture", "p.png"]) == 0
    got = json.loads(capsys.readouterr().out)
    shares = {r["name"]: r["certified_accuracy"] for r in got["results"]}
    assert list(shares) == ["narrow", "wide", "x"]
    assert {r["name"]: r["model"] for r in got["results"]}["x"] == "other"
    for i, best in enumerate(got["best"]):
        top = max(row[i] for row in shares.values())
        assert best["certified_accuracy"] == top
        assert best["runs"] == [n for n, row in shares.items() if row[i] == top > 0]
    assert got["best"][1]["runs"] == ["narrow"]
    assert got["best"][2]["runs"] == ["wide"]
    assert got["best"][3] == {"radius": 9.0, "certified_accuracy": 0.0, "runs": []}
    assert (stores / "p.png").stat().st_size > 10_000
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert CHOSEN_HERE in printed
    (row,) = [x.split() for x in printed.splitlines() if x.startswith("0.6 ")]
    assert row[:4] == ["0.6", "wide", "Gaussian(sigma=0.8)", "net"]
    (row,) = [x.split() for x in printed.splitlines() if x.startswith("best of these")]
    assert row[-4:] == [f"{100 * b['certified_accuracy']:.1f}%" for b in got["best"]]
    chosen = ["--run", "wide", "--run", "laplace", "--alpha", "0.1", "--format", "csv"]
    assert main([*command, *chosen, "--out", "t.csv"]) == 0
    assert capsys.readouterr().out.strip() == "wrote t.csv"
    lines = Path("t.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in lines[:4]] == ["run", "wide", "x", "best of these"]


def test_runs_of_other_inputs_are_refused(capsys: pytest.CaptureFixture[str], stores: Path) -> None:
    write(stores / "fewer.db", "laplace", inputs=range(10, 15))
    write(stores / "data.db", "laplace", digest="e", data="train.npz")
    write(stores / "labels.db", "laplace", shift=1, digest="")
    write(stores / "apart.db", "laplace", inputs=range(50, 60))
    write(stores / "scales.db", "stretched")
    command = ["compare", "--attack", "l2", "--store", "a.db"]
    for other, message in (
        ("fewer.db", "must be of the same inputs, got 20 inputs (0..19) in 'narrow', 5 inputs"),
        ("data.db", "must be of one data set, got 'test.npz' in 'narrow', 'train.npz' of another"),
        ("labels.db", "must be of one data set, got labels of 'narrow' that differ"),
        ("scales.db", "must be of one measure of the radius, got l2 radius in 'narrow', l2 radius"),
        ("apart.db --common", "--common must leave an input"),
        ("b.db --run tall", "--run must be one of narrow, wide, laplace in 'a.db, b.db', got tall"),
        ("b.db --at -1", "--at must be numbers >= 0"),
        ("b.db --picture p.gif", "--picture must be a .png, .svg or .pdf file, got 'p.gif'"),
        ("no.db", "store must be an existing file"),
    ):
        assert main([*command, *other.split()]) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert (captured.out, len(captured.err.splitlines())) == ("", 1)
    assert main(["compare", "--attack", "l2", "--store", "scales.db", "--at", "0"]) == 0
    assert "Gaussian(sigma=0.5), stretched" in capsys.readouterr().out
    assert main([*command, "fewer.db", "--common", "--json"]) == 0
    assert {r["inputs"] for r in json.loads(capsys.readouterr().out)["results"]} == {5}
