"""Reports: accuracies, radii and their confidence, tables, curves and the HTML page."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binom

import cert_core as cc
from cert_models.cli import main
from cert_models.data.datasets import digits
from cert_models.reports import tables as report
from cert_models.reports.page import Picture, gallery, page
from cert_models.store.counts import CountStore
from cert_models.store.results import Result, default_radii, subset
from cert_models.store.runs import FixedPlan, Run, Votes

NOISE = cc.L2Noise.with_rms(64, 0.25, 16.0)


def result(n: int = 40, seed: int = 0, name: str = "a", **options: Any) -> Result:
    """Some right, some wrong, some abstaining."""
    rng = np.random.default_rng(seed)
    labels = digits().y[:n]
    predict = np.where(rng.uniform(size=n) < 0.7, labels, (labels + 1) % 10)
    predict[rng.uniform(size=n) < 0.1] = cc.ABSTAIN
    radius = np.where(predict == cc.ABSTAIN, 0.0, rng.uniform(0.01, 0.8, size=n))
    given: dict[str, Any] = {"alpha": 0.001, "noise": NOISE} | options
    return Result(
        name=name,
        indices=np.arange(n),
        labels=labels,
        predict=predict,
        radius=radius,
        attack="l2",
        **given,
    )


def test_accuracy_is_that_of_the_core() -> None:
    r = result()
    certificates = cc.Certificates(
        label=r.predict,
        radius=r.radius,
        p_lower=np.ones(40),
        alpha=0.001,
        n0=10,
        n=100,
        noise=NOISE,
        attack="l2",
        tight=True,
    )
    for radius in (0.0, 0.1, float(r.radius[3]), float(np.nextafter(r.radius[3], 1)), 5.0):
        assert r.accuracy(radius) == cc.certified_accuracy(certificates, r.labels, radius)
    right = (r.predict == r.labels) & (r.predict >= 0)
    assert r.average_radius() == pytest.approx((r.radius * right).mean(), rel=1e-12)
    assert r.abstained == (r.predict == -1).sum() > 0


def test_abstentions_are_wrong_whatever_the_label() -> None:
    r = Result(
        name="a",
        indices=np.arange(2),
        labels=np.array([-1, 3]),
        predict=np.array([-1, 3]),
        radius=np.array([0.0, 1.0]),
        attack="l2",
    )
    assert r.accuracy(0.0) == 0.5


@given(
    n=st.integers(1, 2000), alpha=st.floats(1e-5, 0.5), rho=st.floats(1e-6, 0.5),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_the_version_with_high_probability(n: int, alpha: float, rho: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.zeros(n, int)
    r = Result(
        name="a",
        indices=np.arange(n),
        labels=labels,
        predict=labels,
        radius=rng.uniform(0, 1, size=n),
        attack="l2",
        alpha=alpha,
    )
    wrong = r.wrong_at_most(rho)
    assert binom.cdf(wrong, n, alpha) >= 1 - rho - 1e-12
    assert wrong == 0 or binom.cdf(wrong - 1, n, alpha) < 1 - rho + 1e-12
    for radius in (0.0, 0.5):
        share = r.accuracy(radius)
        # Cohen et al. 2019, Appendix G: by Bernstein's inequality, at most as much
        log = math.log(1 / rho)
        bernstein = alpha + math.sqrt(2 * alpha * (1 - alpha) * log / n) + log / (3 * n)
        assert r.accuracy(radius, rho) >= share - bernstein - 1 / n
        assert r.accuracy(radius, rho) == max(round(share * n) - wrong, 0) / n
    # the worst case: the false ones are those with the largest radii
    kept = np.sort(r.radius)[: n - wrong]
    assert r.average_radius(rho) == pytest.approx(kept.sum() / n, rel=1e-12, abs=1e-15)


def test_false_certificates_are_as_rare_as_stated() -> None:
    """Each certificate false with probability alpha: the bound fails with probability rho."""
    rng, n, alpha, rho, runs = np.random.default_rng(0), 300, 0.02, 0.05, 4000
    labels = np.zeros(n, int)
    r = Result(
        name="a",
        indices=np.arange(n),
        labels=labels,
        predict=labels,
        radius=np.ones(n),
        attack="l2",
        alpha=alpha,
    )
    false = rng.binomial(n, alpha, size=runs)
    failures = (1 - false / n < r.accuracy(1.0, rho)).sum()
    assert failures <= binom.ppf(1 - 1e-6, runs, rho)


def test_high_probability_needs_alpha() -> None:
    with pytest.raises(ValueError, match=r"alpha must be known .* pass --alpha"):
        result(alpha=None).accuracy(0.0, 0.001)
    with pytest.raises(ValueError, match=r"rho must be in \(0, 1\), got 0"):
        result().accuracy(0.0, 0.0)


def test_bad_results() -> None:
    whole = np.arange(3)
    for indices, labels in ((np.array([0, 1, 1]), whole), (whole, whole[:2]), (whole[:0],) * 2):
        size = len(indices)
        with pytest.raises(ValueError, match="result 'a' must have one label"):
            Result(
                name="a",
                indices=indices,
                labels=labels,
                predict=np.zeros(size, int),
                radius=np.zeros(size),
                attack="l2",
            )


def test_subsets_in_words() -> None:
    for indices, text in (
        ([4], "1 input (4)"),
        ([2, 0, 1], "3 inputs (0..2)"),
        (range(0, 10000, 20), "500 inputs (0..9980 step 20)"),
        ([0, 1, 7], "3 inputs of 0..7"),
    ):
        assert subset(np.array(indices)) == text


@given(st.floats(1e-6, 1e6))
def test_default_radii(top: float) -> None:
    one = np.zeros(1, int)
    radii = default_radii(
        [
            Result(
                name="a", indices=one, labels=one, predict=one, radius=np.array([top]), attack="l1"
            )
        ]
    )
    assert radii[0] == 0.0
    assert 3 <= len(radii) <= 10
    assert radii[-1] <= top * (1 + 1e-6) < radii[-1] + 1.5 * radii[1]


def test_default_radii_of_extremes() -> None:
    one = np.zeros(1, int)
    none = Result(
        name="a", indices=one, labels=one, predict=one - 1, radius=np.zeros(1), attack="l1"
    )
    endless = Result(
        name="b", indices=one, labels=one, predict=one, radius=np.array([np.inf]), attack="l1"
    )
    assert default_radii([none]) == default_radii([endless]) == [0.0]
    assert endless.accuracy(1e300) == 1.0


@given(st.integers(0, 3000), st.integers(1, 3000))
def test_printed_shares_are_rounded_down(k: int, n: int) -> None:
    k = min(k, n)
    labels = np.zeros(n, int)
    r = Result(
        name="a",
        indices=np.arange(n),
        labels=labels,
        predict=np.where(np.arange(n) < k, 0, 1),
        radius=np.ones(n),
        attack="l2",
    )
    (made,) = report.tables([r], [0.5])
    assert made.rows[0][-1] == f"{1000 * k // n / 10:.1f}%"


RESULTS = [result(), result(30, 1, "b_100%", note="n 7")]


def test_tables() -> None:
    text = report.as_text(report.tables(RESULTS, [0.0, 0.25], rho=0.01)[0])
    lines = text.splitlines()
    assert lines[0] == "Certified accuracy by l2 radius"
    assert lines[2].split() == ["run", "inputs", "alpha", "abstained", "ACR", "0", "0.25"]
    a, b = RESULTS
    assert lines[4].split()[:5] == ["a", "40", "inputs", "(0..39)", "0.001"]
    assert len(lines[4]) == len(lines[6]) == len(lines[2])
    assert lines[5].startswith("a, with probability 0.99")
    plain, probable = (float(lines[i].split("0.001")[1].split()[1]) for i in (4, 5))
    assert plain > probable
    assert probable == pytest.approx(a.average_radius(0.01), abs=1e-3)
    assert f"{b.wrong_at_most(0.01)} of 30 (b_100%)" in text
    assert "not of the same inputs" in text
    assert "b_100%: L2Noise(dim=64" in text
    assert "n 7." in text
    alone = report.as_text(report.tables([a, a.restricted(range(40))])[0])
    assert "not of the same inputs" not in alone


def test_csv_reads_back() -> None:
    (made,) = report.tables(RESULTS, [0.0, 0.25])
    rows = list(csv.reader(io.StringIO(report.as_csv(made))))
    assert rows == [list(made.header), *map(list, made.rows)]


def test_markdown() -> None:
    (made,) = report.tables([result(name="a|b")], [0.0])
    lines = [x for x in report.as_markdown(made).splitlines() if x.startswith("|")]
    assert len(lines) == 3
    assert {len(re.findall(r"(?<!\\)\|", x)) for x in lines} == {7}
    assert r"a\|b" in lines[2]


def test_latex() -> None:
    (made,) = report.tables([result(name="b_100% & {c}~^\\")], [0.0])
    text = report.as_latex(made)
    (row,) = [x for x in text.splitlines() if x.endswith(r"\\") and "& 40 inputs" in x]
    assert row.startswith(r"b\_100\% \& \{c\}\textasciitilde{}\textasciicircum{}\textbackslash{}")
    assert len(re.findall(r"(?<!\\)&", row)) == 5
    assert r"\begin{tabular}{llrrrr}" in text
    assert all(x.startswith("%") for x in text.splitlines()[: len(made.notes) + 1])


def test_several_attacks_make_several_tables() -> None:
    other = dataclasses.replace(RESULTS[0], name="c", attack="l1")
    captions = [made.caption for made in report.tables([*RESULTS, other])]
    assert captions == ["Certified accuracy by l1 radius", "Certified accuracy by l2 radius"]


def test_radii_in_other_scales_make_tables_of_their_own(tmp_path: Path) -> None:
    """Norms of delta/scales are not those of delta: neither a table nor a panel has both."""
    scales = np.linspace(1.0, 2.0, 64)
    noises = (
        NOISE,
        NOISE.scaled(scales),
        NOISE.rescaled(2.0).scaled(scales),
        NOISE.scaled(1 / scales),
    )
    given = [result(noise=noise, name=str(i)) for i, noise in enumerate(noises)]
    made = report.tables(given)
    rows = {tuple(row[0] for row in table.rows): table for table in made}
    assert set(rows) == {("0",), ("1", "2"), ("3",)}
    assert rows["0",].caption == "Certified accuracy by l2 radius"
    assert "by l2 radius of delta/scales, scales " in rows["3",].caption
    assert rows["3",].caption != rows["1", "2"].caption
    assert any("radii are norms of delta/scales" in note for note in rows["3",].notes)
    report.curves(given, tmp_path / "p.svg", "")
    assert (tmp_path / "p.svg").read_text(encoding="utf-8").count('id="axes_') == 3


def test_curves_are_exact_steps(tmp_path: Path) -> None:
    r = RESULTS[0]
    x, y = report.steps_of(r, 1.0, None)
    for radius in np.linspace(0, 1, 333):
        assert y[np.searchsorted(x, radius)] == r.accuracy(radius)
    for suffix, magic in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        path = tmp_path / f"curves{suffix}"
        report.curves(RESULTS, path, "title", rho=0.01)
        first = path.read_bytes()
        assert first.startswith(magic)
        report.curves(RESULTS, path, "title", rho=0.01)
        assert path.read_bytes() == first  # the same file for the same numbers
    with pytest.raises(ValueError, match=r"plot must be a \.png, \.svg or \.pdf file"):
        report.curves(RESULTS, tmp_path / "curves.gif", "title")


def test_only_what_was_tested_is_drawn() -> None:
    from matplotlib.figure import Figure

    axis = Figure().subplots()
    tested = dataclasses.replace(RESULTS[0], tested=(0.1, 0.3))
    for r in (tested, RESULTS[0]):
        report._draw(axis, r, 1.0, None, {"label": r.name})
    points, curve = axis.lines
    assert (points.get_linestyle(), points.get_marker()) == ("None", "o")
    assert points.get_xdata().tolist() == [0.1, 0.3]
    assert points.get_ydata().tolist() == [tested.accuracy(0.1), tested.accuracy(0.3)]
    assert curve.get_linestyle() == "-"


class References(HTMLParser):
    """What a page would fetch, and what it says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.images: list[bytes] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if value and name in ("src", "href", "xlink:href", "srcset", "data", "action"):
                if value.startswith("data:image/png;base64,"):
                    self.images.append(base64.b64decode(value.partition(",")[2]))
                elif not value.startswith("#"):
                    self.fetched.append(value)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def written_page() -> str:
    pictures = gallery(digits(), RESULTS, 4)
    return page("Digits <b>", RESULTS, report.tables(RESULTS, rho=0.01), pictures, rho=0.01)


def test_the_page_needs_nothing_else() -> None:
    text = written_page()
    read = References(text)
    assert read.fetched == []
    assert not {"script", "link", "iframe", "object", "b"} & set(read.tags)
    assert "svg" in read.tags
    assert not re.search(r"@import|url\((?!#)", text)
    outside = set(re.findall(r"https?://[^\"'<\s]+", text))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    (made,) = report.tables(RESULTS, rho=0.01)
    for cell in (c for row in made.rows for c in row):
        assert cell in read.words
    for note in made.notes:
        assert note in read.words


def test_pictures_are_the_inputs_and_noisy_copies() -> None:
    read = References(written_page())
    images = [np.asarray(Image.open(io.BytesIO(content))) for content in read.images]
    assert len(images) == 4 * 3
    data = digits()
    places = [0, 9, 19, 29]  # of the 30 that both have
    for i, place in enumerate(places):
        np.testing.assert_array_equal(images[i], np.round(data.x[place, 0] * 255))
        noisy = cc.draw(NOISE, 1, 0, start=place, center=data.x[place].reshape(-1))
        expected = np.round(np.clip(noisy, 0, 1) * 255).reshape(8, 8)
        np.testing.assert_array_equal(images[4 + i], expected)
        assert f"input {place}, class {data.y[place]}" in read.words
    captions = re.findall(r"<figcaption[^>]*>([^<]*)", written_page())
    said = [words for words in captions if "abstains" in words or ", l2 radius " in words]
    assert len(said) == 8


def test_the_page_says_where_it_comes_from() -> None:
    begun = {"begun": "2026-01-02T03:04:05+00:00", "cert_core": "1.2", "python": "3.11"}
    again = {"begun": "2026-01-05T06:07:08+00:00", "cert_core": "1.3", "python": "3.11"}
    run = dataclasses.replace(
        RESULTS[0], model="net.pth", data="digits", seed=7, starts=(begun, again)
    )
    log = dataclasses.replace(RESULTS[1], noise=None, alpha=None)
    words = References(page("t", [run, log], report.tables([run, log]))).words
    for said in (
        "net.pth", "digits", repr(NOISE), "7", f"{begun['begun']} to {again['begun']}",
        "cert_core 1.2, python 3.11; cert_core 1.3, python 3.11",
    ):  # fmt: skip
        assert said in words
    assert words.count("not stated") >= 6


def test_the_page_lists_every_input(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = RESULTS
    made = report.listing([one, dataclasses.replace(other, name="b").restricted([0, 2])])
    assert len(made.rows) == len(one)
    for row in made.rows:
        place = np.flatnonzero(one.indices == int(row[0]))[0]
        assert row[1] == str(one.labels[place])
        if one.predict[place] == cc.ABSTAIN:
            assert row[2:4] == ("abstains", "")
        else:
            assert row[2] == str(one.predict[place])
            assert 0 <= one.radius[place] - float(row[3]) < 1e-4
        assert (row[4:] == ("", "")) == (int(row[0]) not in (0, 2))
    assert made.notes == ()
    monkeypatch.setattr(report, "LISTED", 3)
    few = report.listing([one])
    assert len(few.rows) == 3
    assert few.notes == ("The first 3 of them; cert export writes all.",)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((28, 28), "width: 9rem; height: 9rem"),
        ((32, 64, 3), "width: 9rem; height: 4.5rem"),
        ((9, 3), "width: 3rem; height: 9rem"),
    ],
)
def test_pictures_keep_their_proportions(shape: tuple[int, ...], size: str) -> None:
    shown = [[Picture(np.zeros(shape, np.uint8), "clean"), Picture(np.ones(shape, np.uint8), "a")]]
    text = page("t", RESULTS[:1], report.tables(RESULTS[:1]), shown)
    assert text.count(f'style="{size}"') == 2
    assert "background: #e8e8ea" not in text


def test_colour_pictures() -> None:
    from cert_models.data.datasets import Dataset

    x = np.random.default_rng(0).uniform(size=(3, 3, 4, 4)).astype(np.float32)
    labels = np.array([0, 1, 0])
    noise = cc.Gaussian(48, 0.1)
    r = Result(
        name="c",
        indices=np.arange(3),
        labels=labels,
        predict=labels,
        radius=np.ones(3),
        attack="l2",
        noise=noise,
    )
    rows = gallery(Dataset("colours", x, labels, 2), [r], 9)
    assert [len(row) for row in rows] == [2, 2, 2]
    np.testing.assert_array_equal(rows[1][0].image, np.round(x[1].transpose(1, 2, 0) * 255))


def test_pictures_of_other_data_are_refused() -> None:
    from cert_models.data.datasets import Dataset

    data = digits()
    flat = Dataset("flat", data.x.reshape(500, 64), data.y, 10)
    shifted = Dataset("shifted", data.x, np.roll(data.y, 1), 10)
    few = Dataset("few", data.x[:20], data.y[:20], 10)
    small = Dataset("small", data.x[:, :, :4], data.y, 10)
    for other, message in (
        (flat, "data must be images of 1 or 3 channels"),
        (shifted, "data must be that of 'a', got shifted"),
        (few, "data must be that of 'a', got few"),
        (small, "noise must have dim = 32"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            gallery(other, RESULTS, 3)
    with pytest.raises(ValueError, match="noise must be known to show noisy inputs"):
        gallery(data, [result(noise=None)], 3)


def test_the_page_in_a_browser(tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium here to open the page in")
    (tmp_path / "page.html").write_text(written_page(), encoding="utf-8")
    (tmp_path / "profile").mkdir()
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--hide-scrollbars", "--window-size=1250,1500",
        f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={tmp_path / 'page.png'}",
    ]  # fmt: skip
    address = (tmp_path / "page.html").as_uri()
    subprocess.run([browser, *options, address], check=True, capture_output=True, timeout=120)
    shown = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
    assert shown.shape == (1500, 1250, 3)
    for colour in ((0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)):  # both curves, some hundred pixels
        near = np.abs(shown - colour).max(axis=2) < 12
        assert near.sum() > 300
        rows, columns = np.nonzero(near)
        assert np.ptp(columns) > 250
        assert np.ptp(rows) > 100
    dark = (shown < 100).all(axis=2)
    filled = np.flatnonzero(dark.any(axis=1))
    assert filled[-1] > 1100  # curves, table, notes and pictures one below the other
    assert 0.02 < dark.mean() < 0.6


COHEN = """idx\tlabel\tpredict\tradius\tcorrect\ttime
0\t1\t1\t0.436\t1\t0:00:15.262302
20\t7\t-1\t0.0\t0\t0:00:14.901254
40\t4\t4\t0.963\t1\t0:00:14.905263
60\t7\t3\t0.2\t0\t0:00:15.1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published log and a store with two runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sigma_0.25").write_text(COHEN, encoding="utf-8")
    data = digits()
    rng = np.random.default_rng(0)
    with CountStore(tmp_path / "store.db") as store:
        for name, noise in (("wide", cc.Gaussian(64, 0.5)), ("narrow", cc.Gaussian(64, 0.25))):
            run = Run(
                plan=FixedPlan(10, 500),
                noise=noise,
                seed=0,
                batch_size=100,
                num_classes=10,
                model="net",
                model_fingerprint="m",
                data="digits",
                data_fingerprint="d",
                attack="l2",
                alpha=0.01,
            )
            store.begin(name, run, {})
            for i in range(25):
                share = np.full(10, 0.2 / 9)
                share[data.y[i]] = 0.8
                first, second = rng.multinomial(10, share), rng.multinomial(500, share)
                store.add(
                    name,
                    Votes(
                        index=i,
                        label=int(data.y[i]),
                        selection=first,
                        estimation=second,
                        seconds=0.1,
                    ),
                )
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["report", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize(
    "command",
    [
        ["report", "store.db", "--out", "store.db"],
        ["report", "store.db", "--html", "store.db"],
        ["report", "store.db", "--picture", "small.npz"],
        ["report", "sigma_0.25", "--out", "sigma_0.25"],
        ["compare", "--store", "store.db", "--attack", "l2", "--out", "store.db"],
        ["compare", "--dim", "4", "--attack", "l2", "--noises", "gaussian", "--out", "store.db"],
        ["figures", "tradeoff", "--out", "store.db"],
    ],
    ids=" ".join,
)
def test_tables_and_pictures_never_replace_data(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    np.savez("small.npz", x=np.zeros((2, 1, 2, 2)), y=np.zeros(2, int))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main(command) == 2
    assert "must not be a store, an archive or a log" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_file_whose_name_has_an_equals_sign(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("sigma=0.25.tsv").write_text(COHEN, encoding="utf-8")
    plain = run(capsys, "sigma_0.25", "--format", "csv")[1].replace("sigma_0.25", "sigma=0.25")
    assert run(capsys, "sigma=0.25.tsv", "--format", "csv")[1] == plain


def test_a_store_is_told_no_noise(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, said = run(capsys, "store.db", "--noise", "gaussian", "--sigma", "1")
    assert (status, said.count("\n")) == (2, 1)
    assert "--noise must come with a log" in said


def test_report_of_a_published_log(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    status, out, _ = run(capsys, "sigma_0.25", "--at", "0,0.25,0.5,1", "--alpha", "0.001")
    assert status == 0
    (row,) = [line for line in out.splitlines() if line.startswith("sigma_0.25  ")]
    assert row.split() == [
        "sigma_0.25", "4", "inputs", "(0..60", "step", "20)", "0.001", "1", "0.3497",
        "50.0%", "50.0%", "25.0%", "0.0%",
    ]  # fmt: skip
    assert "radii taken as l2" in out
    assert "not stated" in run(capsys, "sigma_0.25")[1]


def test_report_of_a_store(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    status, out, _ = run(capsys, "store.db", "--json", "--at", "0.1,0.3")
    assert status == 0
    wide, narrow = sorted(json.loads(out)["results"], key=lambda r: r["name"] == "narrow")
    assert (wide["name"], wide["alpha"], wide["inputs"]) == ("wide", 0.01, 25)
    assert wide["noise"] == cc.Gaussian(64, 0.5).to_dict()
    with CountStore("store.db", readonly=True) as store:
        from cert_models.store.readings import read_run

        for values in (wide, narrow):
            read = read_run(store, values["name"])
            expected = cc.certified_accuracy(read.certificates, read.labels, [0.1, 0.3])
            assert values["certified_accuracy"] == expected.tolist()
    _, out, _ = run(
        capsys, "both=store.db", "--run", "wide", "--attack", "linf", "--alpha", "0.1", "--json"
    )
    (again,) = json.loads(out)["results"]
    assert (again["name"], again["attack"], again["alpha"]) == ("both", "linf", 0.1)
    assert again["average_radius"] < wide["average_radius"] / 4


def test_report_of_both(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    status, out, _ = run(
        capsys, "store.db", "published=sigma_0.25", "--rho", "0.01", "--alpha", "0.001",
        "--title", "both & more", "--html", "page.html", "--picture", "a.png", "--picture", "b.pdf",
        "--out", "table.txt", "--images", "3",
    )  # fmt: skip
    assert status == 0
    assert out.strip() == "written: a.png, b.pdf, page.html, table.txt"
    table = Path("table.txt").read_text(encoding="utf-8")
    assert "published, with probability 0.99" in table
    assert "not of the same inputs" in table
    text = Path("page.html").read_text(encoding="utf-8")
    assert "both &amp; more" in text
    assert References(text).fetched == []
    _, out, _ = run(capsys, "store.db", "sigma_0.25", "--common", "--json")
    assert {r["inputs"] for r in json.loads(out)["results"]} == {2}
    status, _, _ = run(capsys, "store.db", "--data", "digits", "--html", "with.html")
    assert status == 0
    assert len(References(Path("with.html").read_text(encoding="utf-8")).images) == 15


def test_certify_then_report(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of fixed n and sequential ones, kept by cert certify, side by side."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    x = np.random.default_rng(0).uniform(size=(12, 1, 4, 4))
    np.savez("data.npz", x=x, y=(x.mean(axis=(1, 2, 3)) > 0.5).astype(int))
    Path("brightness.py").write_text(
        "def predict(batch):\n    return (batch.mean(axis=(1, 2, 3)) > 0.5).astype(int)\n",
        encoding="utf-8",
    )
    common = [
        "certify", "--data", "data.npz", "--model", "brightness:predict", "--noise", "gaussian",
        "--sigma", "0.1", "--attack", "l2", "--n", "1000", "--store", "s.db", "--quiet",
    ]  # fmt: skip
    assert main([*common, "--run", "fixed"]) == 0
    assert main([*common, "--run", "stops", "--at", "0.05,0.1"]) == 0
    capsys.readouterr()
    status, out, _ = run(capsys, "s.db", "--at", "0,0.05,0.1", "--json", "--rho", "0.01")
    assert status == 0
    fixed, stops = sorted(json.loads(out)["results"], key=lambda r: r["name"])
    assert fixed["inputs"] == stops["inputs"] == 12
    assert fixed["certified_accuracy"][0] > 0.5
    untested, *tested = stops["certified_accuracy"]
    assert untested is stops["average_radius"] is stops["high_probability"][0] is None
    assert np.abs(np.subtract(fixed["certified_accuracy"][1:], tested)).max() < 0.2
    _, out, _ = run(capsys, "s.db", "--html", "page.html", "--data", "data.npz", "--at", "0,0.05")
    assert "decided by a sequential test" in out
    (row,) = [line for line in out.splitlines() if line.startswith("stops  ")]
    assert row.split()[-3:] == [
        report.UNTESTED,
        report.UNTESTED,
        f"{100 * tested[0] // 0.1 / 10:.1f}%",
    ]
    assert f"{report.UNTESTED}: not tested by that run" in out
    assert len(References(Path("page.html").read_text(encoding="utf-8")).images) == 15


def test_report_needs_no_torch(folder: Path) -> None:
    program = (
        "import sys\n"
        "from cert_models.cli import main\n"
        "status = main(['report', 'store.db', '--data', 'digits', '--html', 'p.html'])\n"
        "sys.exit(status or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "written: p.html" in done.stdout


@pytest.mark.parametrize("kind", ["markdown", "latex", "csv"])
def test_report_formats(capsys: pytest.CaptureFixture[str], folder: Path, kind: str) -> None:
    status, out, _ = run(capsys, "store.db", "--format", kind, "--at", "0")
    assert status == 0
    results = {"markdown": "| wide | 25", "latex": "wide & 25", "csv": "wide,25"}
    assert results[kind] in out


def test_one_name_twice_is_numbered(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    _, out, _ = run(capsys, "sigma_0.25", "sigma_0.25", "--json")
    assert [r["name"] for r in json.loads(out)["results"]] == ["sigma_0.25 (1)", "sigma_0.25 (2)"]


WRONG = [
    (["nowhere.tsv"], "source must be a log or a count store, got 'nowhere.tsv'"),
    (["page.txt"], "log must"),
    (["store.db", "--run", "tall"], "--run must be one of wide, narrow"),
    (["sigma_0.25", "--at", "0,a"], "--at must be numbers with commas"),
    (["sigma_0.25", "--at", "-1"], "--at must be numbers >= 0"),
    (["sigma_0.25", "--rho", "0.01"], "alpha must be known"),
    (["store.db", "--rho", "2"], "rho must be in (0, 1), got 2.0"),
    (["store.db", "--picture", "a.gif"], "--picture must be a .png, .svg or .pdf"),
    (["store.db", "other.tsv", "--common"], "--common must leave an input"),
    (["store.db", "--html", "p.html", "--data", "digits", "--images", "0"], "--images must be"),
    (["store.db", "--html", "p.html", "--data", "small.npz"], "noise must have dim = 4"),
    (["sigma_0.25", "--html", "p.html", "--data", "digits"], "noise must be known"),
    (["sigma_0.25", "--noise", "gaussian", "--dim", "64"], "--sigma must be given"),
    (["store.db", "--picture", "no/such/a.png"], "--picture must be in a folder that exists"),
    (["store.db", "--alpha", "0.9"], "alpha must be a number in (0, 0.5]"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[m[:30] for _, m in WRONG])
def test_wrong_usage(
    capsys: pytest.CaptureFixture[str], folder: Path, arguments: list[str], message: str
) -> None:
    Path("page.txt").write_text("no log\n", encoding="utf-8")
    Path("other.tsv").write_text(COHEN.replace("\n0\t", "\n900\t").replace("\n20\t", "\n901\t"))
    np.savez("small.npz", x=np.zeros((2, 1, 2, 2)), y=np.zeros(2, int))
    before = set(folder.iterdir())
    status, out, err = run(capsys, *arguments)
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert out == ""
    assert {p for p in set(folder.iterdir()) - before if "store" not in p.name} == set()
