"""Data sets, logs, pictures and tables, in the true formats."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cert_core as cc
from cert_core import rounding
from cert_models import logs
from cert_models.data import datasets
from cert_models.files import outputs
from cert_models.reports import tables as report
from cert_models.store.results import Result


def test_digits() -> None:
    train, test = datasets.digits("train"), datasets.digits()
    assert train.x.shape == (1297, 1, 8, 8)
    assert test.x.shape == (500, 1, 8, 8)
    assert test.x.dtype == np.float32
    assert test.x.min() == 0.0
    assert test.x.max() == 1.0
    assert set(test.y) == set(range(10))
    rows = {x.tobytes() for x in train.x} & {x.tobytes() for x in test.x}
    assert len(rows) == 0


def test_npz(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    x, y = np.random.default_rng(0).uniform(size=(6, 3, 4)), np.array([0, 2, 1, 1, 0, 2])
    np.savez(path, x=x, y=y)
    data = datasets.load(str(path))
    np.testing.assert_allclose(data.x, x, rtol=1e-6)
    assert data.y.tolist() == y.tolist()
    assert (data.num_classes, len(data), data.name) == (3, 6, "some.npz")


def test_inputs_outside_the_unit_interval_are_warned_about(tmp_path: Path) -> None:
    path = tmp_path / "raw.npz"
    np.savez(path, x=np.full((2, 4), 255.0), y=np.array([0, 1]))
    with pytest.warns(UserWarning, match=r"lie in \[255, 255\], not \[0, 1\]"):
        datasets.load(str(path))


def test_bad_data(tmp_path: Path) -> None:
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"not an archive")
    short = tmp_path / "short.npz"
    np.savez(short, x=np.zeros((2, 3)), y=np.zeros(3, int))
    floats = tmp_path / "floats.npz"
    np.savez(floats, x=np.zeros((2, 3)), y=np.zeros(2))
    missing = tmp_path / "missing.npz"
    np.savez(missing, x=np.zeros((2, 3)))
    for name, message in (
        (str(broken), "data must be an .npz file"),
        (str(tmp_path / "nowhere.npz"), "data must be an .npz file"),
        (str(missing), "data must be an .npz file with arrays x and y"),
        (str(short), "labels must be one for each of the 2 inputs, got 3"),
        (str(floats), "data must have x of shape"),
        ("cifar", "data must be digits, cifar10:DIR"),
    ):
        with pytest.raises(ValueError, match="must") as caught:
            datasets.load(name)
        assert message in str(caught.value)


@given(st.floats(0, 1e6), st.integers(0, 12))
def test_printed_numbers_are_rounded_down(value: float, digits: int) -> None:
    text = rounding.rounded_down(value, digits)
    assert Decimal(text) <= Decimal(value)
    assert Decimal(value) - Decimal(text) < Decimal(10) ** -digits


def test_log(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    writer = logs.LogWriter(path)
    rows = [
        logs.Row(index=0, label=3, predict=3, radius=0.1 + 0.2, seconds=1.5),
        logs.Row(index=5, label=2, predict=cc.ABSTAIN, radius=0.0, seconds=61.0),
    ]
    for row in rows:
        writer.add(row)
        assert path.read_text(encoding="utf-8").endswith(row.line() + "\n")  # on disk at once
    writer.close()
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "idx\tlabel\tpredict\tradius\tcorrect\ttime"
    assert lines[1] == "0\t3\t3\t0.30000000000000004\t1\t0:00:01.500000"
    assert lines[2] == "5\t2\t-1\t0.0\t0\t0:01:01"
    assert float(lines[1].split("\t")[3]) == rows[0].radius
    with pytest.raises(ValueError, match="out must be a file that does not exist yet"):
        logs.LogWriter(path)


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def write() -> None:
        with outputs.written(path) as new:
            new.write_text("ours", encoding="utf-8")
            path.write_text("theirs", encoding="utf-8")

    with pytest.raises(FileExistsError):
        write()
    assert path.read_text(encoding="utf-8") == "theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_log_without_rows_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv"
    logs.LogWriter(path).close()
    assert not path.exists()
    with pytest.raises(ValueError, match="in a folder that does"):
        logs.LogWriter(tmp_path / "none" / "log.tsv")


def certificates() -> cc.Certificates:
    rng = np.random.default_rng(0)
    votes = rng.integers(400, 1000, size=50)
    estimation = np.stack([votes, 1000 - votes], axis=1)
    return cc.certify(estimation, estimation.copy(), cc.Gaussian(4, 0.5), "l2")


def test_table_and_curves(tmp_path: Path) -> None:
    result, labels = certificates(), np.zeros(50, int)
    counts = [round(50 * share) for share in cc.certified_accuracy(result, labels, [0.0, 0.5])]
    text = report.table({"Gaussian": counts}, 50, [0.0, 0.5], "l2 radius")
    head, rule, row = text.splitlines()
    assert head.split() == ["l2", "radius", "0", "0.5"]
    assert len(rule) == len(head) == len(row)
    assert row.split() == ["Gaussian", *(f"{2 * count}%" for count in counts)]
    shown = Result.of(result, name="Gaussian", indices=np.arange(50), labels=labels)
    for suffix, magic in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        path = tmp_path / f"curves{suffix}"
        report.curves([shown], path, "title")
        assert path.read_bytes().startswith(magic)
