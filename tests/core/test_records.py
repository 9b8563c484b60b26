"""Certificates as text, as HTML and as files."""

from __future__ import annotations

import functools
import io
import json
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cert_core as cc
from cert_core.certificates import join_certificates
from cert_core.sequential import SequentialCertificates


def predict(batch: Any) -> Any:
    return (batch.mean(axis=1) > 0.5).astype(int)


X = np.full((12, 4), 0.9)
X[3] = 0.5  # abstains
SMOOTHED = cc.Smoothed(predict, cc.L2Noise(4, 0.5, 1.0).scaled([1, 2, 1, 1]), 2)
SOUND = cc.Smoothed(predict, cc.Gaussian(4, 0.5), 2, sound=cc.Lattice("1/16"))
SHELLS = cc.Smoothed(predict, cc.L2Noise(4, 0.5, 1.0), 2)
MADE = {
    "votes": lambda: SMOOTHED.certify(X, 50, 500, 0.001, "l2", 0),
    "inclusion": lambda: SMOOTHED.certify(X, 50, 500, 0.001, "l1", 0),
    "others": lambda: SMOOTHED.certify_top_k(X, 50, 500, 0.001, "l2", 0),
    "sequential": lambda: SMOOTHED.certify_at(X, [0.1, 0.2], 500, 0.001, "l2", 0),
    "sound": lambda: SOUND.certify(np.round(X * 16) / 16, 50, 500, 0.001, "l2", 0),
    "shells": lambda: SHELLS.certify_shells(X, 50, 500, 0.001, "l2", 0),
    "none": lambda: SMOOTHED.certify(X[:0], 50, 500, 0.001, "l2", 0),
}


@functools.cache
def made_by(name: str) -> Any:
    return MADE[name]()


@pytest.mark.parametrize("name", MADE)
def test_a_file_gives_back_what_was_saved(name: str, tmp_path: Path) -> None:
    made, path = made_by(name), tmp_path / "a.npz"
    made.save(path)
    read = type(made).load(path)
    assert type(read) is type(made)
    for each in fields(made):
        one, other = getattr(made, each.name), getattr(read, each.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other, each.name
    assert repr(read) == repr(made)
    with pytest.raises(ValueError, match="path must be a file that does not exist yet"):
        made.save(path)


def altered(path: Path, **changes: Any) -> None:
    with np.load(path) as file:
        entries = {**file, **changes}
    np.savez(path, **entries)


def one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: altered(path, radius=np.full(12, 9.0)),
        lambda path: altered(path, more=np.ones(1)),
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_text("label radius"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\x80\x04N."),  # a pickle
        lambda path: np.savez(path, label=np.ones(3)),
        one_array,
    ],
)
def test_another_file_is_refused(spoil: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    made_by("votes").save(path)
    spoil(path)
    with pytest.raises(ValueError, match="path must be a file that save wrote, as it wrote it"):
        cc.Certificates.load(path)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True, eq=False, repr=False)
    class Certificates(cc.Certificates):
        more: int = 0

    made = made_by("votes")
    Certificates(**{each.name: getattr(made, each.name) for each in fields(made)}).save(
        tmp_path / "a.npz"
    )
    with pytest.raises(ValueError, match="path must be a file of this version of cert_core"):
        cc.Certificates.load(tmp_path / "a.npz")


def test_half_a_file_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, content: Any) -> int:
            super().write(content[:9])
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", Full)
        with pytest.raises(OSError, match="No space left"):
            made_by("votes").save(tmp_path / "a.npz")
    made_by("votes").save(tmp_path / "a.npz")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    made_by("sequential").save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"read it by SequentialCertificates.load"):
        cc.Certificates.load(tmp_path / "a.npz")
    made_by("votes").save(tmp_path / "b.npz")
    with pytest.raises(ValueError, match=r"read it by Certificates.load"):
        SequentialCertificates.load(tmp_path / "b.npz")


@pytest.mark.parametrize("name", MADE)
def test_text_and_page_say_what_is_certified(name: str) -> None:
    made = made_by(name)
    text, page = repr(made), made._repr_html_()
    for said in (text, page):
        assert f"of {len(made)} inputs" in said
        assert f"{made.attack} attack" in said
        assert ("not tight" in said) == (not made.tight)
        assert ("Lattice" in said) == (made.sound is not None)
        assert f"{(made.label < 0).sum()} abstain" in said
    rows = [line.split() for line in text.splitlines()[2:-1]]
    assert len(rows) == min(len(made), 10)
    for i, row in enumerate(rows):
        assert row[1] == ("abstains" if made.label[i] < 0 else str(made.label[i]))
        assert 0 <= made.radius[i] - float(row[2]) < 1e-4
        assert 0 <= made.p_lower[i] - float(row[3]) < 1e-6
    assert page.count("<tr>") == len(rows) + 1


@pytest.mark.parametrize("name", [name for name in MADE if name != "none"])
def test_rows_are_those_of_every_array(name: str) -> None:
    made = made_by(name)
    mask = made.label >= 0
    for rows, places in (
        (3, [3]), (slice(2, 5), [2, 3, 4]), ([7, -1, 0], [7, 11, 0]), (mask, np.flatnonzero(mask)),
        (slice(0, 0), []),
    ):  # fmt: skip
        some = made[rows]
        assert type(some) is type(made)
        assert len(some) == len(places)
        for each in fields(made):
            one, other = getattr(made, each.name), getattr(some, each.name)
            if isinstance(one, np.ndarray):
                np.testing.assert_array_equal(other, one[places])
            elif each.name != "drawn":
                assert one == other
        assert list(some.to_pandas().index) == list(places)
    assert [each.label[0] for each in made] == made.label.tolist()
    assert [line.split()[0] for line in repr(made[[11, 5]]).splitlines()[2:4]] == ["11", "5"]
    again = join_certificates(list(made))
    np.testing.assert_array_equal(again.radius, made.radius)


@pytest.mark.parametrize("name", ["votes", "sequential", "sound"])
def test_rows_remember_their_samples(name: str) -> None:
    """Those of parts joined, in any order: each input's own, and no other's."""
    made = made_by(name)
    parts = join_certificates([made[6:], made[:3]])
    for rows in ([7, 0], [1, 8, 2], [3]):
        for place, each in zip(rows, parts[rows], strict=True):
            index = place + 6 if place < 6 else place - 6
            assert each.drawn == made[index].drawn
            assert {i for drawn in each.drawn for i in drawn.indices} == {index}
    with pytest.raises(ValueError, match="inputs with samples of their own"):
        join_certificates([parts[[7, 0]], made[6]])
    join_certificates([parts[[7, 0]], made[5]])


def test_samples_that_no_row_is_known_of() -> None:
    """Selection and estimation of other places: printed all the same, and not taken apart."""
    counts = [
        cc.count_votes(predict, X[:2], cc.Gaussian(4, 0.5), 2, n, 0, stage=stage, indices=places)
        for n, stage, places in ((50, "selection", [0, 1]), (500, "estimation", [2, 3]))
    ]
    one = cc.certify(*counts, cc.Gaussian(4, 0.5), "l2")
    other = cc.Smoothed(predict, cc.Gaussian(4, 0.5), 2).certify(X[:1], 50, 500, 0.001, "l2", 1)
    both = join_certificates([one, other])
    assert "abstain" in repr(both)
    assert list(both.to_pandas().index) == [0, 1, 2]
    with pytest.raises(ValueError, match="choose rows before joining"):
        both[0]


MASKED = np.ma.array([1, 2], mask=[True, False])


@pytest.mark.parametrize(
    "rows", [12, -13, "a", [1, 1], None, 1.5, [True], (1, 2), [[1]], True, 2**63, MASKED]
)
def test_rows_that_there_are_not(rows: Any) -> None:
    with pytest.raises(IndexError, match=r"^rows must be places in \[0, 12\)"):
        made_by("votes")[rows]


def test_certificates_are_no_array() -> None:
    with pytest.raises(TypeError, match=r"pass .label, .radius or .p_lower"):
        np.asarray(made_by("votes"))


def test_a_table_of_pandas() -> None:
    made = made_by("sequential")
    table = made.to_pandas()
    for name in ("label", "radius", "p_lower", "samples", "decided"):
        np.testing.assert_array_equal(table[name], getattr(made, name))
    assert json.loads(json.dumps(table.attrs))["attack"] == "l2"
    assert cc.noise_from_dict(table.attrs["noise"]) == made.noise
    places = SMOOTHED.certify(X, 50, 500, 0.001, "l2", 0, indices=range(20, 32)).to_pandas().index
    assert list(places) == list(range(20, 32))


def test_a_table_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(cc.errors.BackendMissing, match="pip install pandas"):
        made_by("votes").to_pandas()
