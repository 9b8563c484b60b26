"""Data sets as they are found: read rightly, or refused in one line that says what is wrong."""

from __future__ import annotations

import pickle
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import Case, cert, refused
from PIL import Image

import cert_core as cc
from cert_models.data.datasets import Dataset, load
from cert_models.data.formats import class_numbers

X = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 1, 2, 2)
Y = np.array([0, 1, 1])


def npz(x: Any = X, y: Any = Y, name: str = "d.npz") -> Dataset:
    """What an archive of these arrays is read as."""
    np.savez("d.npz", x=x, y=y)
    return load(name)


def spoiled(change: Callable[[bytes], bytes]) -> Dataset:
    """What an archive is read as whose bytes are changed so."""
    npz()
    Path("d.npz").write_bytes(change(Path("d.npz").read_bytes()))
    return load("d.npz")


def flipped(content: bytes) -> bytes:
    """An archive with a wrong byte in its first member."""
    place = content.index(b"NUMPY") + 140
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


def objects() -> Dataset:
    np.savez("d.npz", x=np.array([["a", 1], [None, 2]], dtype=object), y=np.array([0, 1]))
    return load("d.npz")


def of_one_array() -> Dataset:
    with open("d.npz", "wb") as file:
        np.save(file, X)
    return load("d.npz")


def a_folder() -> Dataset:
    Path("d.npz").mkdir()
    return load("d.npz")


def items(found: Any, part: str = "test") -> Dataset:
    """What a torch data set is read as."""
    module = types.ModuleType("hostile_items")
    module.data = found  # type: ignore[attr-defined]
    sys.modules["hostile_items"] = module
    return load("hostile_items:data", part)


def labelled(*labels: Any) -> Dataset:
    return items([(X[0], label) for label in labels])


class Listed(list[Any]):
    """A data set with attributes: pairs, targets, classes."""

    def __init__(self, pairs: Any, **attributes: Any) -> None:
        super().__init__(pairs)
        self.__dict__.update(attributes)


class Random:
    """Inputs that are turned over at random, as by RandomHorizontalFlip."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __len__(self) -> int:
        return 50

    def __getitem__(self, i: int) -> Any:
        x = X[i % 3]
        return (x[..., ::-1] if self.rng.uniform() < 0.5 else x), i % 2


class Made(Listed):
    """A data set by its class."""

    def __init__(self) -> None:
        super().__init__([(X[0], 1)])


class Broken:
    """Its items cannot be read."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int) -> Any:
        raise RuntimeError(f"no item {i}\nand much more to say")


def module(text: str) -> Dataset:
    """What a module of this text is read as."""
    Path("hostile_module.py").write_text(text, encoding="utf-8")
    sys.modules.pop("hostile_module", None)
    return load("hostile_module:data")


def folder(*files: str) -> Dataset:
    """What a folder of these files is read as, each an image of 16 x 16."""
    for name in files:
        Path("images", name).parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            Image.new("RGB", (16, 16), (255, 0, 0)).save(f"images/{name}", format="PNG")
        else:
            Path("images", name).mkdir()
    return load("imagenet:images")


def linked() -> Dataset:
    """What a folder is read as with images behind a link."""
    folder("a/1.png", "b/1.png")
    Path("elsewhere").mkdir()
    Path("images/a/1.png").rename("elsewhere/2.png")
    Path("images/b/link").symlink_to(Path("elsewhere").absolute())
    return folder("a/1.png")


def cifar(**entries: Any) -> Dataset:
    """What one batch of CIFAR-10 is read as."""
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]}
    batch |= {key.encode(): value for key, value in entries.items()}
    Path("test_batch").write_bytes(pickle.dumps(batch))
    return load("cifar10:.")


def certify(*options: str) -> Any:
    np.savez("d.npz", x=X, y=[1, 2, 2])
    common = ["--model", "nobody:home", "--noise", "gaussian", "--sigma", "1", "--attack", "l2"]
    return cert("certify", "--data", "d.npz", *common, *options)


def warned(act: Callable[[], Any]) -> str:
    """What is warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        act()
    return "; ".join(str(each.message) for each in caught)


def labels(act: Callable[[], Dataset]) -> Callable[[], list[int]]:
    return lambda: act().y.tolist()


def accuracy(given: Any) -> Any:
    certificates = cc.certify([[9, 1]], [[99, 1]], cc.Gaussian(4, 1.0), "l2")
    return cc.certified_accuracy(certificates, given, 0.1)


def silent(text: str) -> bool:
    return text == ""


def says(*words: str) -> Callable[[str], bool]:
    return lambda text: all(word in text for word in words)


ARCHIVES = [
    Case("labels from 1 up", labels(lambda: npz(y=[1, 2, 2])), [1, 2, 2]),
    Case("labels from 1 up are 3 classes", lambda: npz(y=[1, 2, 2]).num_classes, 3),
    Case("small integers", labels(lambda: npz(y=Y.astype(np.int8))), [0, 1, 1]),
    Case("one class only", lambda: npz(y=[0, 0, 0]).num_classes, 2),
    Case("labels beyond --classes", lambda: certify("--classes", "2"),
         refused("labels must be below the 2 classes", "got 2 at 1", "--classes")),
    Case("labels below --classes", lambda: certify("--classes", "3"), refused("nobody:home")),
    Case("label .7", lambda: npz(y=[0, 0.7, 1]), refused("integer y", "float64", "d.npz")),
    Case("whole floats", lambda: npz(y=[0.0, 1.0, 1.0]), refused("integer y", "float64")),
    Case("bools", lambda: npz(y=Y > 0), refused("integer y", "bool")),
    Case("one-hot", lambda: npz(y=np.eye(3, dtype=int)), refused("integer y", "(3, 3)")),
    Case("text for labels", lambda: npz(y=["cat", "dog", "dog"]), refused("integer y", "<U3")),
    Case("the last class", lambda: class_numbers([2**24 - 1], ""), [2**24 - 1]),
    Case("beyond the last class", lambda: class_numbers([0, 2**24], ""), refused("16777216 at 1")),
    Case("label 2^40", lambda: npz(y=[0, 1, 2**40]), refused("labels", "1099511627776 at 2")),
    Case("label 2^63", lambda: npz(y=np.array([0, 1, 2**63], np.uint64)), refused("at 2")),
    Case("label -1", lambda: npz(y=[0, 1, -1]), refused("labels", "got -1 at 2", "d.npz")),
    Case("labels of others", lambda: npz(y=[0, 1]), refused("one for each of the 3", "got 2")),
    Case("no inputs", lambda: npz(X[:0], Y[:0]), refused("data must hold an input")),
    Case("text for inputs", lambda: npz([["a"], ["b"], ["c"]]), refused("numbers", "<U1")),
    Case("digits as text", lambda: npz([["0.1"], ["0.2"], ["1_0"]]), refused("numbers", "<U3")),
    Case("complex inputs", lambda: npz(X + 1j), refused("numbers", "complex")),
    Case("dates", lambda: npz(X.astype("datetime64[s]")), refused("numbers", "datetime64")),
    Case("records", lambda: npz(np.zeros((3, 4), [("a", "f4")])), refused("numbers")),
    Case("objects", objects, refused("data must be an .npz file", "d.npz")),
    Case("NaN", lambda: npz(np.where(X[1, 0, 0, 0] == X, np.nan, X)), refused("finite", "input 1")),
    Case("beyond float32", lambda: warned(lambda: npz(X.astype(float) * 1e300)),
         says("lie in [0, 1e+300], not [0, 1]")),
    Case("flat inputs", lambda: npz(np.zeros(3)), refused("x of shape (N, ...)")),
    Case("label .7 in Python", lambda: Dataset("d", X, np.array([0, 0.7, 1]), 2),
         refused("labels", "0.7 at 1", "check d")),
    Case("lists in Python", lambda: Dataset("d", X.tolist(), [0, 1, 1], 2).x.dtype.name, "float32"),
    Case("too few classes in Python", lambda: Dataset("d", X, Y, 1), refused("the 1 classes")),
    Case("text in Python", lambda: Dataset("d", X.astype(str), Y, 2), refused("numbers", "<U")),
    Case("half floats", lambda: npz(X.astype(np.float16)).x.dtype.name, "float32"),
    Case("bits", lambda: npz(X > 0.5).x.max(), 1.0),
    Case("images of bytes", lambda: float(npz((X * 255).astype(np.uint8)).x[2, 0, 1, 1]), 1.0),
    Case("without channels", lambda: npz((X[:, 0] * 255).astype(np.uint8)).x.shape, (3, 2, 2)),
    Case("rows of bytes", lambda: npz((X * 255).astype(np.uint8).reshape(3, 4)),
         refused("inputs must be floats", "uint8 (3, 4) up to 255", "x / 255")),
    Case("sixteen grey levels", lambda: npz((X * 16).astype(np.uint8)),
         refused("uint8 images of 0..255", "up to 16", "x / 255")),
    Case("bits as bytes", lambda: npz((X > 0.5).astype(np.uint8)), refused("up to 1: save")),
    Case("words of 16 bits", lambda: npz((X * 255).astype(np.uint16)), refused("uint16", "255: ")),
    Case("whole numbers 0..255", lambda: warned(lambda: npz((X * 255).astype(np.int64))),
         says("lie in [0, 255], not [0, 1]")),
    Case("units kept", lambda: warned(npz), silent),
    Case("empty file", lambda: spoiled(lambda _: b""), refused("data must be an .npz file")),
    Case("wrong byte", lambda: spoiled(flipped), refused("data must be an .npz file", "CRC")),
    Case("cut", lambda: spoiled(lambda b: b[:200]), refused("data must be an .npz file")),
    Case("text", lambda: spoiled(lambda _: b"x,y\n0,1\n"), refused("data must be an .npz file")),
    Case("one array", of_one_array, refused("data must be an .npz file", "savez")),
    Case("a folder", a_folder, refused("data must be an .npz file", "directory")),
    Case("absent", lambda: load("no.npz"), refused("data must be an .npz file", "No such file")),
]  # fmt: skip

ITEMS = [
    Case("pairs", labels(lambda: labelled(0, 2, 1)), [0, 2, 1]),
    Case("arrays of one", labels(lambda: labelled(np.array([1]), np.array(2))), [1, 2]),
    Case("tensors", labels(lambda: labelled(torch.tensor(1), torch.tensor([2]))), [1, 2]),
    Case("whole floats", labels(lambda: labelled(1.0, np.float32(2))), [1, 2]),
    Case("lists", labels(lambda: items([[X[0], 1], [X[1], 0]])), [1, 0]),
    Case("more behind", labels(lambda: items([(X[0], 1, "a.png", 7)])), [1]),
    Case("of a graph", lambda: items([(torch.zeros(1, 2, 2, requires_grad=True), 1)]).x[0].sum(),
         0.0),
    Case("by its class", labels(lambda: items(Made)), [1]),
    Case("by a function", labels(lambda: items(lambda: [(X[0], 1)])), [1]),
    Case("dicts", lambda: items([{"image": X[0], "label": 1}]),
         refused("--data 'hostile_items:data'", "pairs (x, label)", "a dict", "item 0")),
    Case("inputs alone", lambda: items([(X[0],)]), refused("--data", "a tuple of 1", "item 0")),
    Case("arrays alone", lambda: items(X), refused("--data", "ndarray", "item 0")),
    Case("one-hot", lambda: labelled(0, np.eye(3)[1]), refused("--data", "item 1", "argmax")),
    Case("text", lambda: labelled(0, "cat"), refused("--data", "item 1", "'cat'")),
    Case("digits as text", lambda: labelled("7"), refused("--data", "item 0", "'7'")),
    Case("bytes", lambda: labelled(b"07"), refused("--data", "item 0")),
    Case("label .7", lambda: labelled(0, 0.7), refused("--data", "item 1", "0.7")),
    Case("tensor .7", lambda: labelled(torch.tensor(0.7)), refused("--data", "item 0")),
    Case("label NaN", lambda: labelled(np.nan), refused("--data", "item 0", "nan")),
    Case("label True", lambda: labelled(True), refused("--data", "item 0")),
    Case("no label", lambda: labelled(0, None), refused("--data", "item 1", "None")),
    Case("a dict of labels", lambda: labelled({"coarse": 1}), refused("--data", "item 0")),
    Case("label 2^40", lambda: labelled(2**40), refused("--data", "item 0")),
    Case("label 2^70", lambda: labelled(2**70), refused("--data", "item 0")),
    Case("label -1", lambda: labelled(0, -1), refused("--data", "item 1", "-1")),
    Case("bytes 0..255", lambda: items([(np.zeros((1, 2, 2), np.uint8), 0)]),
         refused("--data", "floats in [0, 1]", "uint8", "item 0")),
    Case("text for inputs", lambda: items([("a.png", 0)]), refused("--data", "floats", "item 0")),
    Case("two sizes", lambda: items([(X[0], 0), (X[0, :, :1], 1)]).x[:],
         refused("--data", "one shape, (1, 2, 2)", "(1, 1, 2)", "item 1")),
    Case("NaN", lambda: items([(X[0] * np.nan, 0)]), refused("finite", "input 0")),
    Case("a failing item", lambda: items(Broken()),
         refused("--data", "RuntimeError (no item 0)", "item 0")),
    Case("turned at random", lambda: items(Random()),
         refused("--data", "the same input whenever it is read", "random transforms")),
    Case("at random to train", lambda: len(items(Random(), "train")), 50),
    Case("targets", labels(lambda: items(Listed([(X[0], 1)] * 2, targets=torch.ones(2)))), [1, 1]),
    Case("targets .7", lambda: items(Listed([(X[0], 0)], targets=[0.7])),
         refused("0.7", "targets")),
    Case("targets as text", lambda: items(Listed([(X[0], 0)], targets=["a"])), refused("targets")),
    Case("targets as a dict", lambda: items(Listed([(X[0], 0)], targets={0: 1})),
         refused("targets")),
    Case("stale targets", labels(lambda: items(Listed([(X[0], 1)] * 2, targets=[0, 1]))), [1, 1]),
    Case("stale at the end", labels(lambda: items(Listed([(X[0], 1)] * 9, targets=[1] * 8 + [0]))),
         [1] * 9),
    Case("targets of the whole", labels(lambda: items(Listed([(X[0], 1)] * 2, targets=[0] * 5))),
         [1, 1]),
    Case("targets of a part", labels(lambda: items(Listed([(X[0], 1)] * 2, targets=[0]))), [1, 1]),
    Case("hidden folders", lambda: items(Listed([(X[0], 1)], classes=[".a", "b"], class_to_idx={})),
         refused("--data", "hidden", "'.a'")),
    Case("classes as a number", lambda: items(Listed([(X[0], 1)], classes=10)).num_classes, 2),
    Case("classes by name", lambda: items(Listed([(X[0], 1)], classes=list("abc"))).num_classes, 3),
    Case("classes of folders", lambda: warned(lambda: items(
        Listed([(X[0], 1)], classes=["1", "10", "2"], class_to_idx={}))),
        says("as text", "class 1 is '10', not '2'")),
    Case("empty", lambda: items([]), refused("data must have", "a list", "hostile_items:data")),
    Case("a loader", lambda: items(torch.utils.data.DataLoader([(X[0], 1)])),
         refused("data must have __len__ and __getitem__")),
    Case("a class with arguments", lambda: items(torch.utils.data.Subset),
         refused("data must have __len__ and __getitem__")),
    Case("a function to a number", lambda: items(lambda: 3),
         refused("data must have __len__ and __getitem__", "a int")),
    Case("a number", lambda: items(3), refused("data must have __len__ and __getitem__")),
    Case("a module that fails", lambda: module("data = 1 / 0"),
         refused("importable module:name", "ZeroDivisionError")),
    Case("a module that is none", lambda: module("data = ("),
         refused("module:name", "SyntaxError")),
    Case("an absent name", lambda: module("datum = 1"), refused("module:name", "'data'")),
]  # fmt: skip

FOLDERS = [
    Case("two classes", labels(lambda: folder("a/1.png", "b/2.png")), [0, 1]),
    Case("checkpoints", labels(lambda: folder(".ipynb_checkpoints/0.png", "a/1.png", "b/2.png")),
         [0, 1]),
    Case("hidden files", labels(lambda: folder("a/._1.png", "a/1.png", "b/2.png")), [0, 1]),
    Case("hidden below", labels(lambda: folder("a/.thumbs/1.png", "a/1.png", "b/c/2.png")), [0, 1]),
    Case("Tiny-ImageNet", lambda: folder("val/images/1.png", "val/images/2.png"),
         refused("1 folder: images", "class's folder")),
    Case("one class", lambda: folder("n01440764/1.png"), refused("1 folder: n01440764")),
    Case("parts", lambda: folder("train/a/1.png", "validation/a/2.png"),
         refused("2 folders: train, validation")),
    Case("a class train", labels(lambda: folder("plane/1.png", "train/1.png")), [0, 1]),
    Case("flat", lambda: folder("1.png", "2.png"), refused("0 class folders, no image")),
    Case("hidden alone", lambda: folder(".a/1.png", ".b/2.png"), refused("0 class folders")),
    Case("as text", lambda: warned(lambda: folder("1/1.png", "2/1.png", "10/1.png")),
         says("as text", "class 1 is '10', not '2'")),
    Case("as text in words", lambda: warned(lambda: folder("c9/1.png", "c10/1.png")),
         says("class 0 is 'c10', not 'c9'")),
    Case("with zeros", lambda: warned(lambda: folder("01/1.png", "02/1.png", "10/1.png")), silent),
    Case("no image of a class", lambda: warned(lambda: folder("__MACOSX/", "a/1.png", "b/1.png")),
         says("1 of the 3 class folders", "'__MACOSX'")),
    Case("some of ImageNet", lambda: warned(lambda: folder("n00000001/1.png", "n00000002/1.png")),
         says("2 of ImageNet's 1000 class folders")),
    Case("one name of ImageNet's", lambda: warned(lambda: folder("n00000001/1.png", "b/1.png")),
         silent),
    Case("linked", labels(linked), [0, 1, 1]),
    Case("a batch", labels(cifar), [0, 1]),
    Case("label .7 of a batch", lambda: cifar(labels=[0, 0.7]), refused("test_batch", "0.7 at 1")),
    Case("floats of a batch", lambda: cifar(data=np.zeros((2, 3072))),
         refused("test_batch", "float64")),
]  # fmt: skip

ACCURACY = [
    Case("integers", lambda: accuracy([0]), 1.0),
    Case("tensor", lambda: accuracy(torch.tensor([0])), 1.0),
    Case("whole floats", lambda: accuracy([0.0]), 1.0),
    Case("text", lambda: accuracy(["0"]), refused("labels must be numbers", "'0'")),
    Case("names", lambda: accuracy(["cat"]), refused("labels must be numbers", "cat")),
    Case("parts", lambda: accuracy([0.7]), refused("labels must be class numbers", "0.7")),
    Case("NaN", lambda: accuracy([np.nan]), refused("labels must be class numbers", "nan")),
    Case("bools", lambda: accuracy([False]), refused("labels must be numbers", "truth")),
    Case("objects", lambda: accuracy([None]), refused("labels must be numbers", "None")),
]

CASES = [
    Case(f"{kind}: {case}", case.act, case.right)
    for kind, cases in (
        ("archive", ARCHIVES), ("items", ITEMS), ("folder", FOLDERS), ("accuracy", ACCURACY),
    )
    for case in cases
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile_data(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    case.check()
