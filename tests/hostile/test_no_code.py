"""Files of every type that the command reads, each with a payload that leaves a mark if it ran."""

from __future__ import annotations

import contextlib
import os
import pickle
import sqlite3
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from cases import Case, Said, cert
from onnx import TensorProto, helper
from safetensors.torch import save_file

import cert_core as cc
from cert_models.store.counts import CountStore
from cert_models.store.runs import FixedPlan, Run, Votes

MARK = "mark"
STATE = {"0.weight": torch.ones(3, 4), "0.bias": torch.zeros(3)}
TAKEN = ["--noise", "gaussian", "--sigma", "0.5", "--attack", "l2", "--n0", "5", "--n", "9",
         "--alpha", "0.1", "--quiet"]  # fmt: skip
EVIL = f"import os\nos.mkdir({MARK!r})\n\n\ndef net(*args, **kwargs):\n    os.mkdir({MARK!r})\n"
ROW = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t1\t1\t0.5\t1\t0:00:01\n"


class Payload:
    """Pickled, it leaves the mark wherever it is unpickled freely."""

    def __reduce__(self) -> Any:
        return os.mkdir, (MARK,)


def data() -> str:
    x = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 4)
    np.savez("data.npz", x=x, y=np.array([0, 1]))
    return "data.npz"


def certify(source: str = "", model: str = "good:predict", *more: str) -> Said:
    Path("good.py").write_text("def predict(x):\n    return (x.sum(axis=1) > 2).astype(int)\n")
    return cert("certify", "--data", source or data(), "--model", model, *TAKEN, *more)


def saved(content: Any) -> Said:
    torch.save(content, "net.pt")
    return certify("", "net.pt", "--classes", "3")


def pickled(name: str, content: Any) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(pickle.dumps(content, protocol=2))


def scripted(path: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(torch.nn.Sequential(torch.nn.Linear(4, 3))).save(path)


def arch_of_metadata(arch: str) -> Said:
    save_file(STATE, "net.safetensors", metadata={"arch": arch, "normalize": "none"})
    return certify("", "net.safetensors", "--classes", "3")


def archive(name: str, **arrays: Any) -> Said:
    with zipfile.ZipFile("data.npz", "w") as file:
        for key, value in arrays.items():
            with file.open(f"{key}.npy", "w") as entry:
                np.lib.format.write_array(entry, np.asarray(value), allow_pickle=True)
    return certify("data.npz")


def object_array() -> Any:
    held = np.empty(2, dtype=object)
    held[:] = [Payload(), Payload()]
    return held


def batch(name: str, label: str) -> Said:
    pickled(f"batches/{name}", {b"data": np.zeros((1, 3072), np.uint8), label: Payload()})
    return certify(f"{'cifar10' if name == 'test_batch' else 'cifar100'}:batches")


def picture(ending: str) -> Said:
    """PostScript, for which Pillow runs a program, under the ending of a picture."""
    Path("bin").mkdir()
    Path("bin/gs").write_text(f"#!/bin/sh\nmkdir -p {Path(MARK).absolute()}\n")
    Path("bin/gs").chmod(0o755)
    for folder in ("a", "b"):
        Path("images", folder).mkdir(parents=True)
        Path("images", folder, f"1.{ending}").write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n"
            b"%%Page: 1 1\nshowpage\n%%Trailer\n%%EOF\n"
        )
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{Path('bin').absolute()}:{before}"
    try:
        return certify("imagenet:images")
    finally:
        os.environ["PATH"] = before


def graph(domain: str, kind: str) -> Said:
    node = helper.make_node(kind, ["x"], ["y"], domain=domain, code=EVIL, library="./evil.so")
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 4]) for n in "xy"]
    sets = [helper.make_opsetid("", 13)] + [helper.make_opsetid(domain, 1)] * bool(domain)
    made = helper.make_model(
        helper.make_graph([node], "g", values[:1], values[1:]), opset_imports=sets, ir_version=8
    )
    onnx.save(made, "net.onnx")
    return certify("", "net.onnx")


def store(name: str = "r", model: str = "evil:net", trap: str = "") -> str:
    """A store whose run names code, with a trigger or a view of another's making."""
    run = Run(
        plan=FixedPlan(5, 9),
        noise=cc.Gaussian(4, 0.5),
        seed=0,
        batch_size=10,
        num_classes=2,
        model=model,
        model_fingerprint="",
        data="evil:net",
        data_fingerprint="",
        attack="l2",
        alpha=0.1,
    )
    with CountStore("runs.db") as made:
        made.begin(name, run)
        made.add(
            name,
            Votes(
                index=0,
                label=1,
                selection=np.array([0, 5]),
                estimation=np.array([0, 9]),
                seconds=0.1,
            ),
        )
    if trap:
        with contextlib.closing(sqlite3.connect("runs.db")) as raw, raw:
            raw.executescript(trap)
        raw.close()
    return "runs.db"


def log(extra: str = "") -> str:
    Path("log.tsv").write_text(ROW.replace("time\n", f"time\t{extra}\n").replace(
        "0:00:01\n", f"0:00:01\t{extra}\n") if extra else ROW)  # fmt: skip
    return "log.tsv"


def settings(text: str) -> Said:
    """matplotlib reads its settings in the present folder."""
    Path("matplotlibrc").write_text(text)
    return cert(
        "report", log(), "--picture", "a.png", "--html", "a.html", "--title", r"\write18{$x$}"
    )


TRAIN = ["--arch", "digits", "--noise", "gaussian", "--sigma", "0.5", "--quiet", "--resume"]
TRAP = f"CREATE TRIGGER t AFTER INSERT ON starts BEGIN SELECT load_extension('./{MARK}.so'); END;"

ACTS: dict[str, Callable[[], Any]] = {
    "a checkpoint, pickled code": lambda: saved({"state_dict": STATE, "x": Payload()}),
    "a checkpoint, code alone": lambda: saved(Payload()),
    "a checkpoint, arch": lambda: saved(
        {"arch": "evil:net", "normalize": "none", "state_dict": STATE}),
    "a checkpoint, arch of the system": lambda: saved(
        {"arch": "os:_exit", "normalize": "none", "state_dict": STATE}),
    "a checkpoint, arch within": lambda: saved(
        {"recipe": {"arch": "evil:net"}, "args": {"arch": "evil:net"}, "state_dict": STATE}),
    "a checkpoint, normalize": lambda: saved(
        {"arch": "digits", "normalize": "evil:net", "state_dict": STATE}),
    "a checkpoint, an old pickle": lambda: (pickled("net.pth", Payload()), certify("", "net.pth")),
    "a checkpoint, TorchScript": lambda: (
        scripted("net.pt"), certify("", "net.pt", "--classes", "3", "--normalize", "none")),
    "a checkpoint to go on from": lambda: (
        torch.save({"arch": "evil:net", "recipe": Payload()}, "net.pt"),
        cert("train", "--data", "digits", *TRAIN, "--out", "net.pt")),
    "safetensors, arch": lambda: arch_of_metadata("evil:net"),
    "safetensors, a pickle": lambda: (
        pickled("net.safetensors", Payload()), certify("", "net.safetensors")),
    "an archive, x of objects": lambda: archive("d", x=object_array(), y=[0, 1]),
    "an archive, y of objects": lambda: archive("d", x=np.ones((2, 4)), y=object_array()),
    "an archive that is a pickle": lambda: (
        pickled("data.npz", Payload()), certify("data.npz")),
    "CIFAR-10": lambda: batch("test_batch", "labels"),
    "CIFAR-100": lambda: batch("test", "fine_labels"),
    "MNIST": lambda: (pickled("m/t10k-images-idx3-ubyte", Payload()),
                      pickled("m/t10k-labels-idx1-ubyte", Payload()), certify("mnist:m")),
    **{f"a picture, .{ending}": lambda e=ending: picture(e)
       for ending in ("png", "jpg", "tif", "bmp")},
    "ONNX, an operator of another library": lambda: graph("evil", "Net"),
    "ONNX, Python": lambda: graph("ai.onnx.contrib", "PyOp"),
    "ONNX, a pickle": lambda: (pickled("net.onnx", Payload()), certify("", "net.onnx")),
    "a log, columns": lambda: cert("report", log("evil:net")),
    "a log that is a pickle": lambda: (pickled("l.tsv", Payload()), cert("report", "l.tsv")),
    "a log, imported": lambda: cert(
        "import", log("evil:net"), "--store", "s.db", *TAKEN[:6], "--dim", "4", "--alpha", "0.1",
        "--n", "100"),
    "a store, names": lambda: cert("report", store(), "--html", "a.html", "--picture", "a.svg"),
    "a store, names, exported": lambda: cert("export", "--store", store(), "--out", "l.tsv"),
    "a store, names, compared": lambda: cert("compare", "--store", store(), "--picture", "a.png"),
    "a store, a trigger": lambda: certify(
        "", "good:predict", "--store", store("default", trap=TRAP)),
    "a store, merged": lambda: cert("merge", "--store", "all.db", store(trap=TRAP)),
    "a store that is a pickle": lambda: (
        pickled("s.db", Payload()), cert("export", "--store", "s.db", "--out", "l.tsv")),
    "settings of pictures": lambda: settings("text.usetex: True\nbackend: module://evil\n"),
    "a module of an installed name": lambda: (
        Path("torchvision.py").write_text(EVIL), Path("scipy.py").write_text(EVIL),
        Path("safetensors.py").write_text(EVIL), Path("onnxruntime.py").write_text(EVIL),
        Path("PIL.py").write_text(EVIL), certify()),
}  # fmt: skip


def marked(act: Callable[[], Any]) -> Callable[[], list[str]]:
    """Acts beside a module evil; which traces there are after it."""

    def found() -> list[str]:
        Path("evil.py").write_text(EVIL)
        answer = act()
        said = answer[-1] if isinstance(answer, tuple) else answer
        assert said.status in (0, 2), said
        assert "Traceback" not in said.err, said.err
        traces = [MARK] * Path(MARK).exists()
        return traces + [name for name in ("evil",) if name in sys.modules]

    return found


CASES = [Case(name, marked(act), lambda found: found == []) for name, act in ACTS.items()]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_code(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "good", None)
    for name in ("good", "evil"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    case.check()


def test_the_payloads_leave_their_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing forbids it, each kind of payload runs."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    pickled("p", Payload())
    pickle.loads(Path("p").read_bytes())
    Path(MARK).rmdir()
    exec(EVIL, {})
    Path(MARK).rmdir()
    picture("png")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with contextlib.suppress(OSError), Image.open("images/a/1.png") as file:
        file.load()
    assert Path(MARK).exists()
