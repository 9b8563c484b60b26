"""cert compare: its numbers are the library's, and the README's table its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import cert_core as cc
from cert_models.cli import main

README = Path(__file__).parents[2] / "README.md"


def compare(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, float]]:
    assert main(["compare", *arguments, "--json"]) == 0
    values: dict[str, dict[str, float]] = json.loads(capsys.readouterr().out)
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
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--dim", "9", "--attack", "l1", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_table_of_the_readme() -> None:
    """Each number is the certified radius, cut after its last digit."""
    families = {
        "Gaussian": ("gaussian", 0.0), "Laplace": ("laplace", 0.0), "LinfNoise, k = 0": ("linf", 0),
        "L2Noise, k = d/2": ("l2", 0.5), "LinfNoise, k = d/2": ("linf", 0.5),
        "MixedNoise, k = d/10": ("mixed", 0.1),
    }  # fmt: skip
    text = README.read_text(encoding="utf-8").split("| attack, d |")[1].split("\n\n")[0]
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
    assert checked == 56
