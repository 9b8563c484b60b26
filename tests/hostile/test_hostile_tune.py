"""`cert tune` asked for what is wrong: refused in one line, before anything is counted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cases import Case, Said, cert, refused

pytestmark = pytest.mark.filterwarnings("ignore:inputs of")
CODE = """
import numpy as np

def side(batch):
    return (batch[:, 0] > 0).astype(int)

def other(batch):
    return (batch[:, 0] > 0.5).astype(int)

def raising(batch):
    raise KeyError("its own")

def many(batch):
    return np.full(len(batch), 9)

def linear(num_classes=2):
    import torch
    return torch.nn.Linear(2, num_classes)
"""
LEGAL = {
    "data": "t.npz", "model": "ht:side", "noises": "gaussian,l2:0.5", "rms": "0.2,0.5",
    "attack": "l2", "at": "0.1", "budget": "5000", "n": "100", "n0": "10",
}  # fmt: skip
TRAIN = {"model": None, "train": "ht:linear", "store": "s.db", "epochs": "1"}


def asked(**changed: str | None) -> Said:
    options = {**LEGAL, **changed}
    words = [(f"--{name.replace('_', '-')}", value) for name, value in options.items()]
    flags = [name for name, value in words if value == ""]
    pairs = [word for pair in words if pair[1] for word in pair]
    return cert("tune", *map(str, pairs), *flags, "--quiet")


def act(**changed: str | None) -> Callable[[], Said]:
    return lambda: asked(**changed)


def twice(first: dict[str, str], then: dict[str, str]) -> Callable[[], Said]:
    """What is said to the second of two runs of one store."""

    def run() -> Said:
        assert asked(store="s.db", **first).status == 0
        before = Path("s.db").read_bytes()
        said = asked(store="s.db", **then)
        assert Path("s.db").read_bytes() == before
        return said

    return run


def written(name: str, **changed: str) -> Callable[[], Said]:
    def run() -> Said:
        Path(name).write_text("mine", encoding="utf-8")
        said = asked(**changed)
        assert Path(name).read_text(encoding="utf-8") == "mine"
        return said

    return run


CASES = [
    Case("no model", act(model=None), refused("one of --model and --train", "neither")),
    Case("two models", act(train="ht:linear", store="s.db"), refused("--model and", "both")),
    Case("training of a model", act(epochs="3"), refused("--epochs must come with --train")),
    Case("augmenting of a model", act(augment=""), refused("--augment must come with --train")),
    Case("two architectures", act(**TRAIN, arch="resnet50"),
         refused("--arch must be left out with --train")),
    Case("networks nowhere", act(**TRAIN | {"store": None}),
         refused("--store must be given for --train")),
    Case("trained on nothing", act(**TRAIN), refused("--train-data must be given")),
    Case("trained on what is tuned by", act(**TRAIN, train_data="copy.npz"),
         refused("--train-data must be other inputs than --data")),
    Case("a run without a store", act(run="r"), refused("--store must be given for --run")),
    Case("no levels", act(rms=None), refused("--rms must be given for --noises gaussian")),
    Case("levels of text", act(rms="a,b"), refused("--rms must be numbers with commas")),
    Case("a negative level", act(rms="0.2,-1"), refused("rms must be")),
    Case("a level that is none", act(rms="0.2,nan"), refused("rms must be")),
    Case("a level twice", act(rms="0.2,0.2"), refused("must list each once", "rms=0.2")),
    Case("one candidate", act(noises="gaussian", rms="0.2"), refused("two candidates at least")),
    Case("an unknown family", act(noises="cauchy,l2"), refused("--noises must name families")),
    Case("a share of text", act(noises="l2:x"), refused("a number after the colon")),
    Case("a share of one", act(noises="l2:1,gaussian"), refused("k must be")),
    Case("no families", act(noises=","), refused("--noises must name families")),
    Case("numbers and categories", act(noises="gaussian,flips:2:0.9"),
         refused("--noises must all be of numbers, or all of categories")),
    Case("copies in their own order", act(noises="gaussian,splitting:0.5:2", attack="l1"),
         refused("independent copies")),
    Case("no objective", act(at=None), refused("radii must be one at least")),
    Case("a radius of 0", act(at="0,0.1"), refused("radii must be distinct numbers > 0")),
    Case("a radius twice", act(at="0.1,0.1"), refused("radii must be distinct numbers > 0")),
    Case("a radius of nan", act(at="nan"), refused("radii must be finite")),
    Case("a radius of text", act(at="far"), refused("--at must be numbers with commas")),
    Case("a radius out of reach", act(at="0.1,5"),
         refused("radii must be small enough", "5.0", "n_max")),
    Case("no law for the pair", act(attack="l0"), refused("l0")),
    Case("no budget", act(budget="0"), refused("budget must be")),
    Case("a small budget", act(budget="879"), refused("budget must be at least 880", "got 879")),
    Case("a budget of text", act(budget="much"), refused("--budget", "much")),
    Case("parts that overlap", act(tuning="0-9", fresh="9-19"),
         refused("fresh must be without inputs that tune", "[9]")),
    Case("no fresh input", act(tuning="0-39"), refused("fresh must be one input or more")),
    Case("no input to tune by", act(fresh="0-39"), refused("tuning must be one input or more")),
    Case("one input for both", act(max="1"), refused("must be one input or more")),
    Case("an input that is not there", act(tuning="0-40"), refused("--tuning", "below 40")),
    Case("rho of 0", act(rho="0"), refused("rho must be")),
    Case("rho of 1", act(rho="1"), refused("rho must be")),
    Case("rho of nan", act(rho="nan"), refused("rho must be")),
    Case("too few votes", act(n="5"), refused("n must be at least 10")),
    Case("too few votes in the search", act(n_max="5"), refused("n must be at least 10")),
    Case("no votes to select by", act(n0="0"), refused("n0 must be")),
    Case("a negative seed", act(seed="-1"), refused("seed must be")),
    Case("out is the store", act(store="s.db", out="s.db"), refused("another file than --store")),
    Case("the picture is the store", act(store="s.png", picture="s.png"),
         refused("another file than --store")),
    Case("the table is there", written("t.tsv", out="t.tsv"), refused("--out must be a new file")),
    Case("a picture of text", act(picture="f.txt"), refused(".png, .svg or .pdf")),
    Case("a store that is none", written("s.db", store="s.db"), refused("s.db")),
    Case("a store in no folder", act(store="no/such/s.db"), refused("no/such/s.db")),
    Case("another seed", twice({}, {"seed": "1", "tuning": "0-19"}), refused("part must be")),
    Case("another seed, the same parts",
         twice({"tuning": "0-19"}, {"tuning": "0-19", "seed": "1"}),
         refused("must be continued with its own parameters", "seed")),
    Case("other radii", twice({}, {"at": "0.2"}),
         refused("must be continued with its own parameters", "radii")),
    Case("another model", twice({}, {"model": "ht:other"}),
         refused("must be continued with its own parameters", "model")),
    Case("parts that changed places",
         twice({"tuning": "0-19"}, {"tuning": "20-39", "fresh": "0-19", "run": "b"}),
         refused("part must be those of run", "another store")),
    Case("a model that raises", act(model="ht:raising"), refused("KeyError", "its own")),
    Case("labels that are none", act(model="ht:many"), refused("label")),
    Case("an engine that is none", act(on="moon:3"), refused("--on must be")),
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set, and classifiers, in a folder of one's own."""
    x = np.random.default_rng(0).uniform(-1, 1, size=(40, 2)).astype(np.float32)
    for name in ("t.npz", "copy.npz"):
        np.savez(tmp_path / name, x=x, y=(x[:, 0] > 0).astype(int))
    (tmp_path / "ht.py").write_text(CODE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("ht", None)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_wrong_is_refused(case: Case) -> None:
    case.check()


def test_the_legal_call_is_legal() -> None:
    said = asked()
    assert said.status == 0, said.err
