"""cert certify --task and --scales: what is certified, kept, gone on from, and said."""

from __future__ import annotations

import dataclasses
import fcntl
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import Said, cert
from test_counts import RUN, SEQUENTIAL, filled, votes_of

import cert_core as cc
from cert_models.commands.tasks import pack, unpack
from cert_models.data.scales import deviations
from cert_models.data.targets import load_targets
from cert_models.smooth import SmoothedFunction, SmoothedMaps
from cert_models.store.counts import CountStore
from cert_models.store.rows import RowTable
from cert_models.store.runs import Votes

pytestmark = pytest.mark.filterwarnings("ignore:inputs of")
MODELS = """
import numpy as np, torch

WEIGHTS = np.array([2.0, -1.0, 0.5, 0.0])
calls = 0

def linear(batch):
    return batch.astype(float) @ WEIGHTS

def pair(batch):
    return np.stack([linear(batch), -linear(batch)], axis=1)

def share(batch):
    return 1 / (1 + np.exp(-linear(batch)))

def breaking(batch):
    global calls
    calls += 1
    if calls > 6:
        raise RuntimeError("the power failed")
    return linear(batch)

net = torch.nn.Linear(4, 1, bias=False).eval()
with torch.no_grad():
    net.weight.copy_(torch.tensor(WEIGHTS[None]))

def bright(batch):
    return (batch[:, 0] > 0.5).astype(int) + (batch[:, 0] > 1.5)

class Pixels(torch.nn.Module):
    def forward(self, batch):
        return {"out": torch.stack([0.5 - batch[:, 0], batch[:, 0] - 0.5, 3 * batch[:, 0] - 4], 1)}

pixels = Pixels().eval()
"""
N = 400
RULE = ("--noise", "gaussian", "--sigma", "0.5", "--attack", "l2", "--radius", "0.3")
REGRESSION = ("certify", "--task", "regression", "--data", "r.npz", *RULE, "--n", str(N), "--quiet")
SEGMENTATION = (
    "certify", "--task", "segmentation", "--data", "s.npz", *RULE, "--n", str(N), "--quiet",
)  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "tasked", raising=False)
    Path("tasked.py").write_text(MODELS)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 4)).astype(np.float32)
    np.savez("r.npz", x=x, y=x.astype(float) @ [2.0, -1.0, 0.5, 0.0])
    maps = (rng.uniform(size=(3, 5, 4)) > 0.4).astype(int)
    np.savez("s.npz", x=(2.0 * maps)[:, None].astype(np.float32) - 0.5, y=maps)


def said(found: Said) -> dict[str, Any]:
    assert found.status == 0, found.err
    values: dict[str, Any] = json.loads(found.out)
    return values


def rows(path: str) -> list[dict[str, str]]:
    _, head, *lines = Path(path).read_text().splitlines()
    return [dict(zip(head.split("\t"), line.split("\t"), strict=True)) for line in lines]


def bounds(path: str) -> Any:
    return np.array([[json.loads(r["lower"]), json.loads(r["upper"])] for r in rows(path)], float)


def percentiles(share: float = 0.5, noise: Any = None, attack: str = "l2") -> Any:
    """The bounds by the library alone."""
    noise = noise or cc.Gaussian(4, 0.5)
    x = np.load("r.npz")["x"]
    values = cc.scores.sampled_values(lambda b: b.astype(float) @ [2, -1, 0.5, 0], x, noise, N, 0)
    return np.stack(cc.percentile_bounds(values, share, noise, attack, 0.3, alpha=0.001), axis=1)


@pytest.mark.parametrize("share", [None, "0.9"])
def test_intervals_are_the_librarys(share: str | None) -> None:
    more = () if share is None else ("--share", share)
    found = said(cert(*REGRESSION, "--model", "tasked:linear", *more, "--out", "t.tsv", "--json"))
    expected = percentiles(float(share or 0.5))
    np.testing.assert_array_equal(bounds("t.tsv"), expected)
    y = np.load("r.npz")["y"]
    inside = (expected[:, 0] <= y) & (y <= expected[:, 1])
    assert [r["inside"] for r in rows("t.tsv")] == [str(int(value)) for value in inside]
    widths = np.sort(expected[:, 1] - expected[:, 0])
    assert (found["median_width"], found["largest_width"]) == (widths[3], widths[-1])
    assert found["targets_inside"] == inside.sum()
    assert (found["unbounded"], found["inputs"], found["outputs"]) == (0, 6, 1)
    text = cert(*REGRESSION, "--model", "tasked:linear", *more, "--out", "t.tsv").out
    what = "median" if share is None else "0.9-quantile"
    assert f"the {what} under noise, at every input within 0.3 by l2 radius" in text


def test_a_torch_module_is_the_same_function() -> None:
    for name in ("linear", "net"):
        assert cert(*REGRESSION, "--model", f"tasked:{name}", "--out", f"{name}.tsv").status == 0
    one, two = bounds("linear.tsv"), bounds("net.tsv")
    np.testing.assert_allclose(two[..., 0], one, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "noise"),
    [
        (("--noise", "laplace", "--b", "0.4", "--attack", "l1"), cc.Laplace(4, 0.4)),
        (("--noise", "linf", "--sigma", "0.7", "--k", "1", "--attack", "linf"),
         cc.LinfNoise(4, 0.7, 1.0)),
        (("--noise", "mixed", "--sigma", "0.7", "--k", "1", "--attack", "linf"),
         cc.MixedNoise(4, 0.7, 1.0)),
    ],
)  # fmt: skip
def test_every_family_and_attack(given: tuple[str, ...], noise: cc.Noise) -> None:
    command = [*REGRESSION[:5], *given, "--radius", "0.3", *REGRESSION[-3:]]
    assert cert(*command, "--model", "tasked:linear", "--out", "t.tsv").status == 0
    np.testing.assert_array_equal(bounds("t.tsv"), percentiles(0.5, noise, given[-1]))


def test_several_outputs_and_means() -> None:
    Path("y.npz").unlink(missing_ok=True)
    x = np.load("r.npz")["x"]
    np.savez("x.npz", x=x)  # without targets
    command = [word.replace("r.npz", "x.npz") for word in REGRESSION]
    found = said(cert(*command, "--model", "tasked:pair", "--out", "t.tsv", "--json"))
    assert (found["inputs"], found["outputs"]) == (6, 2)
    assert "targets_inside" not in found
    assert {r["target"] + r["inside"] for r in rows("t.tsv")} == {""}
    np.testing.assert_array_equal(bounds("t.tsv")[:, :, 0], percentiles())
    noise = cc.Gaussian(4, 0.5)
    assert cert(*command, "--model", "tasked:share", "--mean", "--out", "m.tsv").status == 0
    values = cc.scores.sampled_values(
        lambda b: 1 / (1 + np.exp(-(b.astype(float) @ [2, -1, 0.5, 0]))), x, noise, N, 0
    )
    expected = cc.mean_bounds(values, noise, "l2", 0.3, alpha=0.001)
    np.testing.assert_array_equal(bounds("m.tsv"), np.stack(expected, axis=1))
    assert cert(*command, "--model", "tasked:linear", "--mean").status == 2


def test_maps_are_the_librarys() -> None:
    x, y = np.load("s.npz")["x"], np.load("s.npz")["y"]
    noise, alpha = cc.Gaussian(20, 0.5), 0.001
    tasked = {}
    exec(MODELS, tasked)
    expected = []
    for i in range(3):
        which: dict[str, Any] = {"indices": [i]}
        labels = cc.joint.selected_labels(tasked["bright"], x[i : i + 1], noise, 3, 100, 0, **which)
        votes = cc.joint.label_votes(
            tasked["bright"], x[i : i + 1], noise, 3, labels, N, 0, **which
        )
        expected.append(
            cc.joint.certify_labels_jointly(labels, votes, N, noise, "l2", 0.3, alpha=alpha)[0]
        )
    for name in ("bright", "pixels"):
        found = said(cert(*SEGMENTATION, "--model", f"tasked:{name}", "--classes", "3", "--out",
                          f"{name}.tsv", "--json"))  # fmt: skip
        maps = np.stack([unpack(r["labels"]) for r in rows(f"{name}.tsv")])
        np.testing.assert_array_equal(maps, expected)
        told = maps != cc.ABSTAIN
        assert 0 < told.sum() < told.size
        assert (found["components"], found["certified"]) == (20, told.sum())
        assert found["certified_right"] == (told & (maps == y)).sum()
        assert [int(r["certified"]) for r in rows(f"{name}.tsv")] == told.sum((1, 2)).tolist()


def test_packed_maps() -> None:
    for shape in ((), (3,), (2, 3), (2, 1, 4)):
        labels = np.random.default_rng(0).integers(-1, 70_000, size=shape)
        np.testing.assert_array_equal(unpack(pack(labels)), labels)


def test_a_run_goes_on_from_its_table() -> None:
    # one call an input, and three that look
    model = ("--model", "tasked:breaking", "--batch-size", str(N))
    first = cert(*REGRESSION, *model, "--out", "t.tsv")
    assert first.status == 2
    assert "the power failed" in first.err
    assert [r["idx"] for r in rows("t.tsv")] == ["0", "1", "2"]
    kept = Path("t.tsv").read_text()
    Path("t.tsv").write_text(kept + "3\t0.1\t0.")  # cut short
    import tasked  # type: ignore[import-not-found]

    tasked.calls = 0
    assert cert(*REGRESSION, *model, "--out", "t.tsv").status == 0
    assert tasked.calls == 6  # the other inputs alone
    assert Path("t.tsv").read_text().startswith(kept)
    np.testing.assert_array_equal(bounds("t.tsv"), percentiles())
    tasked.calls = 6
    again = said(cert(*REGRESSION, *model, "--out", "t.tsv", "--json"))  # nothing is left to do
    assert again["inputs"] == 6
    part = said(cert(*REGRESSION, *model, "--out", "t.tsv", "--indices", "1,4", "--json"))
    assert part["inputs"] == 2


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--n", "500"), "n 500"), (("--seed", "1"), "seed 1"), (("--share", "0.4"), "share 0.4"),
        (("--radius", "0.2"), "radius 0.2"), (("--alpha", "0.01"), "alpha 0.01"),
        (("--mean",), "share None"), (("--sigma", "0.4"), "noise {"),
        (("--scales", "std"), "noise {"),
        (("--model", "tasked:share"), "model 'tasked:share'"), (("--attack", "linf"), "attack"),
    ],
    ids=str,
)  # fmt: skip
def test_a_table_of_another_run_is_refused(more: tuple[str, ...], word: str) -> None:
    command = (*REGRESSION, "--model", "tasked:linear", "--out", "t.tsv", "--max", "1")
    assert cert(*command).status == 0
    before = Path("t.tsv").read_text()
    wrong = cert(*command, *more)
    assert wrong.status == 2
    assert "out must be of the same run" in wrong.err
    assert word in wrong.err
    assert Path("t.tsv").read_text() == before


def test_an_edited_row_is_refused() -> None:
    command = (*REGRESSION, "--model", "tasked:linear", "--out", "t.tsv", "--max", "2")
    assert cert(*command).status == 0
    lines = Path("t.tsv").read_text().splitlines(keepends=True)
    lower = lines[2].split("\t")[2]
    for changed in (
        [*lines[:2], lines[2].replace(lower, "-99.5"), *lines[3:]],
        [*lines, lines[3]],
        [*lines, "2" + lines[3][1:]],
        [*lines[:3], "\n", lines[3]],
    ):
        Path("t.tsv").write_text("".join(changed))
        wrong = cert(*command)
        assert wrong.status == 2
        assert "out must be a table" in wrong.err
        assert wrong.err.count("error") == 1
    Path("t.tsv").write_text("mine\n")
    assert "a table of this command" in cert(*command).err
    assert Path("t.tsv").read_text() == "mine\n"


def test_a_table_is_written_by_one_process_and_with_a_row_alone() -> None:
    command = (*REGRESSION, "--model", "tasked:linear", "--out", "t.tsv")
    assert cert(*command, "--seed", "-1").status == 2
    assert not Path("t.tsv").exists()  # nothing was certified
    assert cert(*command, "--max", "1").status == 0
    with open("t.tsv", "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        wrong = cert(*command)
        assert wrong.status == 2
        assert "no other process" in wrong.err
    assert cert(*command).status == 0
    np.testing.assert_array_equal(bounds("t.tsv"), percentiles())


def test_unbounded_sides_are_kept() -> None:
    Path("tasked.py").write_text(
        "import numpy as np\ndef jump(b):\n    return np.where(b[:, 0] > 0, np.inf, b[:, 1])\n"
    )
    command = (*REGRESSION, "--model", "tasked:jump", "--out", "t.tsv", "--json")
    first, again = said(cert(*command)), said(cert(*command))
    assert first == again
    found = bounds("t.tsv")
    assert first["unbounded"] == (~np.isfinite(found).all(axis=1)).sum() > 0
    assert (found[:, 0] > -np.inf).any()
    assert not np.isnan(found).any()


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_pictures(kind: str) -> None:
    for command, model, more in (
        (REGRESSION, "linear", ()),
        (REGRESSION, "pair", ("--n", "5")),  # no bound at all is refused
        (SEGMENTATION, "bright", ("--classes", "3")),
    ):
        given = (*command, "--model", f"tasked:{model}", *more, "--picture", f"p.{kind}")
        if model == "pair":
            assert "enough to bound anything" in cert(*given, "--force").err
            continue
        assert cert(*given, "--force").status == 0
        assert Path(f"p.{kind}").stat().st_size > 1000
        refusal = cert(*given)
        assert refusal.status == 2
        assert "--force" in refusal.err


# Torch modules of many outputs.


def test_modules_stream_their_ranks() -> None:
    noise = cc.Gaussian(4, 0.5)
    x = np.load("r.npz")["x"]
    net = torch.nn.Linear(4, 2).eval()
    smoothed = SmoothedFunction(net, noise, batch_size=90)
    values = smoothed.values(x, N, 0)
    assert values.shape == (6, 2, N)
    ranks = cc.percentiles.percentile_ranks(N, 0.5, noise, "l2", 0.3, alpha=0.001)
    found = smoothed.values(x, N, 0, ranks=ranks)
    np.testing.assert_array_equal(
        found, cc.percentile_bounds(values, 0.5, noise, "l2", 0.3, alpha=0.001)
    )
    plain = cc.Smoothed(lambda b: net(torch.from_numpy(b)).detach().double().numpy(), noise)
    np.testing.assert_allclose(plain.values(x, N, 0, ranks=ranks), found, atol=1e-5)
    np.testing.assert_allclose(plain.values(x, N, 0), values, atol=1e-5)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: SmoothedFunction(torch.nn.Linear(4, 2), NOISE).counts(X, 5, 0), "num_classes"),
        (lambda: SmoothedFunction(lambda b: b.sum(), NOISE).values(X, 5, 0), "of 10 values"),
        (lambda: SmoothedFunction(lambda b: b > 0, NOISE).values(X, 5, 0), "must be floats"),
        (lambda: SmoothedFunction(lambda b: b.log(), NOISE).values(X, 5, 0), "a number, got nan"),
        (lambda: SmoothedFunction(lambda b: b - b.mean(0), NOISE).values(X, 50, 0), "alone"),
        (lambda: SmoothedFunction(torch.nn.Dropout().train(), NOISE).values(X, 5, 0), "eval"),
        (lambda: SmoothedMaps(lambda b: b[:, :3], NOISE, 2).selected_labels(X, 5, 0), "(10, 2, *"),
        (lambda: SmoothedMaps(lambda b: (b / 0)[:, :2], NOISE, 2).selected_labels(X, 5, 0),
         "finite"),
        (lambda: SmoothedMaps(lambda b: b.reshape(-1, 2, 2), NOISE, 2).counts(X, 5, 0),
         "predict(batch) must be"),
        (lambda: SmoothedMaps(lambda b: b, NOISE, 1), "num_classes"),
    ],
)  # fmt: skip
def test_modules_that_are_refused(act: Any, words: str) -> None:
    with pytest.raises(ValueError, match=" must ") as error:
        act()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


NOISE = cc.Gaussian(4, 0.5)
X = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)


# Feature scales on the command line.

SCALED = ("--noise", "gaussian", "--sigma", "0.5")
TABLE = ("--data", "c.npz", "--model", "tasked:sign", "--attack", "l2", "--n", "500", "--quiet")


@pytest.fixture
def features() -> Any:
    x = np.random.default_rng(1).normal(size=(9, 3)) * [0.01, 1.0, 50.0]
    np.savez("c.npz", x=x, y=(x[:, 2] > 0).astype(int))
    Path("tasked.py").write_text("def sign(b):\n    return (b[:, 2] > 0).astype(int)\n")
    return x


def test_scales_of_the_data_and_of_files(features: Any) -> None:
    np.testing.assert_allclose(deviations(features), features.std(axis=0), rtol=1e-12)
    scales = deviations(np.load("c.npz")["x"])
    Path("s.txt").write_text(", ".join(map(repr, scales.tolist())) + "\n")
    np.save("s.npy", scales)
    expected = None
    for given in ("std", "s.txt", "s.npy"):
        found = said(cert("certify", *SCALED, "--scales", given, *TABLE, "--json"))
        assert found["noise"]["scales"] == scales.tolist()
        assert found["measure"].startswith("l2 radius of delta/scales, scales ")
        expected = expected or found["certified_accuracy"]
        assert found["certified_accuracy"] == expected
    exact = np.abs(features[:, 2]) / scales[2]  # the distance, in the scaled norm
    cert("certify", *SCALED, "--scales", "std", *TABLE, "--out", "l.tsv", "--alpha", "1e-9")
    for line, distance in zip(Path("l.tsv").read_text().splitlines()[1:], exact, strict=True):
        assert float(line.split("\t")[3]) <= distance


def test_no_way_out_of_a_scaled_run_loses_the_norm(features: Any) -> None:
    np.save("s.npy", deviations(np.load("c.npz")["x"]))
    scales = ("--scales", "s.npy")
    run = ("certify", *SCALED, *scales, *TABLE)
    assert cert(*run, "--store", "c.db", "--out", "l.tsv").status == 0
    assert cert(*run, "--out", "m.tsv").status == 0
    assert cert(*run, "--at", "0.1,0.2", "--out", "at.tsv").status == 0
    assert cert(*run, "--runner-up", "--out", "up.tsv").status == 0
    assert cert("export", "--store", "c.db", "--out", "e.tsv").status == 0
    for name in ("l.tsv", "m.tsv", "e.tsv", "at.tsv", "up.tsv"):
        head, *lines = Path(name).read_text().splitlines()
        assert "scales" in head.split("\t"), name
        digests = {line.split("\t")[head.split("\t").index("scales")] for line in lines}
        assert len(digests) == 1 != {""}
        (digest,) = digests
    stated = (*SCALED, "--dim", "3")
    for lost in (
        ("report", "l.tsv"), ("report", "l.tsv", *stated),
        ("import", "l.tsv", *stated, "--attack", "l2", "--alpha", "0.001", "--n", "500",
         "--store", "x.db"),
        ("prove", "--log", "l.tsv", *stated, "--attack", "l2", "--alpha", "0.001", "--n", "500"),
    ):  # fmt: skip
        wrong = cert(*lost)
        assert wrong.status == 2
        assert digest in wrong.err
        assert "delta/scales" in wrong.err
    assert not Path("x.db").exists()
    log = ("--attack", "l2", "--alpha", "0.001", "--n", "500")
    assert cert("import", "l.tsv", *stated, *scales, *log, "--store", "x.db").status == 0
    assert cert("export", "--store", "x.db", "--out", "again.tsv").status == 0
    assert Path("again.tsv").read_text() == Path("l.tsv").read_text()
    assert cert("prove", "--log", "l.tsv", *stated, *scales, *log, "--quiet").status == 0
    words = f"l2 radius of delta/scales, scales {digest}"
    for source in (("c.db",), ("x.db",), ("l.tsv", *stated, *scales)):
        assert words in cert("report", *source).out
        assert said(cert("report", *source, "--json"))["results"][0]["measure"] == words
        assert cert("report", *source, "--html", "p.html", "--force").status == 0
        assert words in Path("p.html").read_text()
    # a log that does not say is taken at its word, and says it from then on
    plain = "\n".join(line.rpartition("\t")[0] for line in Path("l.tsv").read_text().splitlines())
    Path("plain.tsv").write_text(plain + "\n")
    assert cert("import", "plain.tsv", *stated, *scales, *log, "--store", "y.db").status == 0
    assert cert("export", "--store", "y.db", "--out", "said.tsv").status == 0
    assert Path("said.tsv").read_text() == Path("l.tsv").read_text()


# All inputs of a data set at once.


def test_a_report_says_what_holds_at_once(tmp_path: Path) -> None:
    filled(tmp_path / "s.db", range(40))
    votes = [votes_of(i) for i in range(40)]
    for radius, alpha in ((0.0, 0.001), (0.02, 0.001), (0.05, 0.01), (9.0, 0.1)):
        labels = cc.certify_jointly(
            np.stack([v.selection for v in votes]), np.stack([v.estimation for v in votes]),
            RUN.noise, "l2", radius, alpha=alpha,
        )  # fmt: skip
        given = ("report", "s.db", "--jointly", repr(radius), "--alpha", repr(alpha))
        found = said(cert(*given, "--json"))["results"][0]
        told = labels != cc.ABSTAIN
        right = told & (labels == [v.label for v in votes])
        expected = {"certified": told.sum(), "right": right.sum(), "radius": radius, "alpha": alpha}
        assert found["jointly"] == expected
        assert found["jointly"]["right"] <= round(40 * found["certified_accuracy"][0])
        assert f"{told.sum()} labels are certified, {right.sum()} of them right" in cert(*given).out


def test_what_cannot_hold_at_once(tmp_path: Path) -> None:
    filled(tmp_path / "s.db", range(2))
    with CountStore(tmp_path / "q.db") as store:
        store.begin("a", dataclasses.replace(RUN, plan=SEQUENTIAL))
        counts = (np.array([n, 0, 0, 0]) for n in (10, 50))
        selection, estimation = counts
        store.add("a", Votes(index=0, label=0, selection=selection, estimation=estimation,
                             seconds=0.1, looks=(50,)))  # fmt: skip
    Path("l.tsv").write_text(
        "idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t3\t3\t0.4\t1\t0:00:17\n"
    )
    for given, word in (
        (("l.tsv", "--jointly", "0.1"), "--jointly must be of the counts"),
        (("q.db", "--jointly", "0.1"), "fixed"),
        (("s.db", "--jointly", "-1"), "radius must be"),
        (("s.db", "--jointly", "nan"), "radius must be"),
        (("s.db", "--jointly", "0.1", "--common"), "--jointly must come without --common"),
    ):
        wrong = cert("report", *given)
        assert wrong.status == 2
        assert word in wrong.err


def test_data_by_other_names_have_no_targets() -> None:
    found = load_targets("digits", "regression")
    assert found.y is None
    assert found.x.shape == (500, 1, 8, 8)


def test_half_a_row_is_no_row(tmp_path: Path) -> None:
    """The last free bytes of a disk take a part of a line, and no error is told."""

    class Full(io.FileIO):
        def write(self, content: Any) -> int:
            return super().write(content[:5])

    path = tmp_path / "t.tsv"
    table = RowTable(path, {"n": 1}, ("value",))
    table.add(0, ("a",))
    table.close()
    with Full(path, "r+") as table._file:
        table._file.seek(0, 2)
        with pytest.raises(ValueError, match="No space left on device"):
            table.add(1, ("b",))
    for rows in ({0: ("a",)}, {0: ("a",), 1: ("b",)}):
        again = RowTable(path, {"n": 1}, ("value",))
        assert again.rows == rows
        again.add(len(rows), ("b",))
        again.close()
