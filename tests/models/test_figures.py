"""cert figures: the paper's figures, their numbers computed another way or sampled."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import gammainc, ndtr, poch

import cert_core as cc
from cert_models.cli import main
from cert_models.reports import paper as figures

DRAWS = 20_000


@pytest.fixture(scope="module")
def frontier() -> figures.Numbers:
    return figures.frontier(ks=(0.0, 1.0), accuracies=(0.9, 0.99))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main(["figures", *arguments, "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
    return rows


def test_size_of_the_noise(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Figure 1: the chi law of d - k degrees of freedom; samples within 6 standard errors."""
    picture = tmp_path / "norms.png"
    rows = run(capsys, "norms", "--n", "4000", "--picture", str(picture))
    assert picture.stat().st_size > 10_000
    assert len(rows) == 16
    for by_k, by_sigma in zip(rows[::2], rows[1::2], strict=True):
        mean = math.sqrt(2) * poch((100 - by_k["k"]) / 2, 0.5)
        assert by_k["mean"] == pytest.approx(mean, rel=1e-10)
        assert by_k["variance"] == pytest.approx(100 - by_k["k"] - mean**2, rel=1e-7)
        assert by_sigma["mean"] == pytest.approx(by_k["mean"], rel=1e-12)
        # k leaves the variance, sigma takes it along with the mean's square
        assert 0.36 < by_k["variance"] < 0.5
        assert by_sigma["variance"] == pytest.approx(
            rows[0]["variance"] * (by_sigma["mean"] / rows[0]["mean"]) ** 2, rel=1e-9
        )
        for row in (by_k, by_sigma):
            error = math.sqrt(row["variance"] / 4000)
            assert abs(row["sampled mean"] - row["mean"]) < 6 * error
            assert abs(row["sampled variance"] / row["variance"] - 1) < 6 * math.sqrt(3 / 4000)


def test_overlap(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Figure 2: E min(1, pi_delta/pi0) by draws; Eq. 13 overlaps more than Eq. 12."""
    picture = tmp_path / "overlap.svg"
    rows = run(capsys, "overlap", "--dims", "2,64", "--share", "0.1", "--picture", str(picture))
    assert picture.stat().st_size > 10_000
    families = [cc.Gaussian.with_rms, cc.LinfNoise.with_rms, cc.MixedNoise.with_rms]
    for i, row in enumerate(rows):
        dim = row["d"]
        noise = families[i % 3](dim, 1.0, *([] if i % 3 == 0 else [0.1 * dim]))
        level = cc.moments.norm_moments(cc.Gaussian(dim, 1.0), math.inf)[0]
        same = noise.rescaled(level / cc.moments.norm_moments(noise, math.inf)[0])
        columns = ("at equal rms", "at equal mean |z|_inf")
        for column, each in zip(columns, (noise, same), strict=True):
            z = cc.draw(each, DRAWS, 1, dtype="float64")
            ratio = each.log_density(z - 1 / math.sqrt(dim)) - each.log_density(z)
            inside = np.exp(np.minimum(ratio, 0.0))
            assert abs(inside.mean() - row[column]) < 6 * inside.std() / math.sqrt(DRAWS)
    for gaussian, cube, mixed in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        assert gaussian["at equal rms"] == pytest.approx(2 * ndtr(-0.5), abs=1e-12)
        for column in columns:
            assert cube[column] < mixed[column]


@pytest.mark.parametrize("ball", figures.NORM)
@pytest.mark.parametrize("family", figures.FAMILIES)
def test_accuracy_at_a_ball(family: str, ball: str) -> None:
    """By the gamma law of the radius where the ball is the noise's, and by draws."""
    for k, sigma in ((0.0, 0.3), (2.5, 0.3), (4.0, 0.6)):
        got = figures.accuracy_at_ball(family, k, sigma, ball)
        if (family == "Eq. 12") == (ball == "linf"):
            exact = gammainc((5 - k) / 2, 0.5 * (0.65 / sigma) ** 2)
            assert got == pytest.approx(exact, abs=1e-12)
        z = cc.draw(figures.FAMILIES[family](5, sigma, k), DRAWS, 2, dtype="float64")
        share = (np.linalg.norm(z, ord=figures.NORM[ball], axis=1) <= 0.65).mean()
        assert abs(got - share) < 6 * math.sqrt(got * (1 - got) / DRAWS)


def test_no_noise_is_beyond_the_frontier(frontier: figures.Numbers) -> None:
    """Figure 3: random (k, sigma) with k among those tried lie on or below it."""
    rng = np.random.default_rng(0)
    for family in ("Eq. 11", "Eq. 12"):
        for ball in figures.NORM:
            where = {"ball": ball, "noise": family}
            accuracy = frontier.column("accuracy", **where)
            robustness = frontier.column("robustness", **where)
            assert robustness == sorted(robustness, reverse=True)
            for sigma in rng.uniform(0.1, 0.5, size=12):
                k = float(rng.integers(2))
                got = figures.accuracy_at_ball(family, k, sigma, ball)
                reach = -cc.discrepancy(1.0, figures.FAMILIES[family](5, sigma, k), "linf", 0.1)
                for a, r in zip(accuracy, robustness, strict=True):
                    assert got < a or reach <= r + 1e-9


def test_the_frontier_at_k_0(frontier: figures.Numbers) -> None:
    """Eq. 11 and Eq. 13 share k = 0, the Gaussian, whose terms are closed forms."""
    for ball in figures.NORM:
        for family in ("Eq. 11", "Eq. 13"):
            where = {"ball": ball, "noise": family}
            columns = [frontier.column(c, **where) for c in ("accuracy", "robustness", "bound")]
            for accuracy, robustness, bound in zip(*columns, strict=True):
                sigma = figures.sigma_of_accuracy("Eq. 11", 0.0, ball, accuracy)
                mu = 0.1 * math.sqrt(5) / sigma
                assert robustness >= -(ndtr(mu / 2) - ndtr(-mu / 2)) - 1e-6
                closed = cc.lower_bound(accuracy, cc.Gaussian(5, sigma), "linf", 0.1)
                assert bound >= closed - 1e-6
        # the cubes of Eq. 12 suit the cube alone, and there at the highest accuracies alone
        bounds = {f: frontier.column("bound", ball=ball, noise=f) for f in figures.FAMILIES}
        behind = [a < b for a, b in zip(bounds["Eq. 12"], bounds["Eq. 11"], strict=True)]
        assert behind == [True, ball == "l2"]


def test_tradeoff(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Eq. 9: each multiplier bounds from below, the best one attains; maxima lie inside."""
    rows = run(capsys, "tradeoff", "--k", "1.5", "--picture", str(tmp_path / "t.pdf"))
    for i in (1, 4, 16):
        values = [row[f"lambda = {i}"] for row in rows]
        assert 0 < int(np.argmax(values)) < len(rows) - 1
        for row, value in zip(rows, values, strict=True):
            assert value <= row["bound"] + 1e-9
    for row in rows:
        noise, lam = cc.L2Noise(5, row["sigma"], 1.5), row["lambda*"]
        best = lam * row["accuracy"] - cc.discrepancy(lam, noise, "linf", 0.1)
        assert best == pytest.approx(row["bound"], abs=1e-7 * lam)
        p = gammainc(3.5 / 2, 0.5 * (0.65 / row["sigma"]) ** 2)
        assert row["accuracy"] == pytest.approx(p, abs=1e-12)


def test_eq_12_in_high_dimension(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Zhang et al. call it unsuitable for linf: its radius falls nearly as 1/d."""
    rows = run(capsys, "dimension", "--dims", "64,784,3072", "--picture", str(tmp_path / "d.png"))
    table = {(row["d"], row["noise"].split(",")[0]): row for row in rows}
    for name, low, high in (("Gaussian", -0.5, -0.5), ("Eq. 12", -1.05, -0.95)):
        ends = [table[dim, name]["at equal rms"] for dim in (784, 3072)]
        slope = math.log(ends[1] / ends[0]) / math.log(3072 / 784)
        assert low - 1e-9 < slope < high + 1e-9
    column = "at equal mean |z|_inf"
    for dim, least in ((64, 2.4), (784, 6.6), (3072, 11.8)):
        gaussian, cube, mixed = (table[dim, n][column] for n in ("Gaussian", "Eq. 12", "Eq. 13"))
        assert gaussian > least * cube
        assert mixed > gaussian
    radius = cc.certified_radius(0.9, cc.LinfNoise.with_rms(784, 1.0, 0.02 * 784), "linf")
    assert table[784, "Eq. 12"]["at equal rms"] == radius


def test_frontier_command(
    frontier: figures.Numbers, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(figures, "frontier", lambda *_: frontier)
    monkeypatch.chdir(tmp_path)
    command = ["figures", "frontier", "--ks", "0,1", "--picture", "f.png", "--format", "latex"]
    assert main([*command, "--out", "f.tex"]) == 0
    assert capsys.readouterr().out == "wrote f.png\n\nwrote f.tex\n"
    assert Path("f.png").stat().st_size > 10_000
    text = Path("f.tex").read_text(encoding="utf-8")
    assert text.count("Eq. 1") == 12
    assert r"l2 & Eq. 11 & 0.9 & -0.39886 & 0 & 0.59330 & 0 \\" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("norms --dim 1", "--dim must be at least 2, got 1"),
        ("norms --n 1", "--n must be at least 2, got 1"),
        ("overlap --dims 2;64", "--dims must be whole numbers with commas between, got '2;64'"),
        ("overlap --dims 1,64", "--dims must be at least 2, got 1"),
        ("overlap --dims 2 --share 1", "k must be a number with 0 <= k < dim = 2"),
        ("dimension --p 0.5", "--p must be in (0.5, 1), got 0.5"),
        ("frontier --ks 0,5", "k must be a number with 0 <= k < dim = 5"),
        ("frontier --radius -1", "radius must be finite and >= 0, got -1.0"),
        ("tradeoff --picture t.gif", "--picture must be a .png, .svg or .pdf file, got 't.gif'"),
        ("tradeoff --k -1", "k must be a number with 0 <= k < dim = 5"),
    ],
)
def test_wrong_usage(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["figures", *arguments.split()]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert (captured.out, len(captured.err.splitlines())) == ("", 1)
