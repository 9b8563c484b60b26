"""Checkpoint and ONNX files in all the layouts that there are, and in some that mislead."""

from __future__ import annotations

import argparse
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from cases import Case, cert, refused
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import cert_core as cc
from cert_models.networks.architectures import make_network
from cert_models.networks.models import check_accuracy, load_checkpoint, load_model
from cert_models.smooth import SmoothedClassifier

X = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """A body of two parts, and a head."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.fc = nn.Linear(16, num_classes)

    def forward(self, x: torch.Tensor) -> Any:
        return self.fc(self.features(x).flatten(1))


def made(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = Net().eval()
    net.features[1].running_mean.uniform_(-1, 1)  # type: ignore[index, union-attr, operator]
    return net


STATE = dict(made().state_dict())
OTHER = dict(made(1).state_dict())
MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])


def under(prefix: str, state: Any = STATE) -> dict[str, Any]:
    return {prefix + key: value for key, value in state.items()}


def within(word: str) -> dict[str, Any]:
    """The names where a part of the network was wrapped."""
    return {key.replace("features.", f"features.{word}."): v for key, v in STATE.items()}


def loaded(content: Any, normalize: str | None = "none", **options: Any) -> Any:
    torch.save(content, "net.pth")
    module = types.ModuleType("hostile_arch")
    module.__dict__["Net"] = Net
    sys.modules["hostile_arch"] = module
    return load_checkpoint("net.pth", 3, arch="hostile_arch:Net", normalize=normalize, **options)


def scores(model: Any) -> Any:
    with torch.inference_mode():
        return model(X).numpy().round(5)


def said(act: Callable[[], Any]) -> list[str]:
    """What an act warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        act()
    return [str(warning.message) for warning in caught]


def fills(name: str, content: Any, **options: Any) -> Case:
    return Case(name, lambda: scores(loaded(content, **options)), scores(made()))


def warned(name: str, content: Any, *words: str, state: Any = STATE, **options: Any) -> Case:
    """Loaded as the state, and said so in one warning of these words."""

    def act() -> Any:
        found: list[Any] = []
        lines = said(lambda: found.append(loaded(content, **options)))
        return found[0].network.state_dict(), lines

    def right(answer: Any) -> bool:
        weights, lines = answer
        same = all(torch.equal(weights[key], state[key]) for key in state)
        return same and len(lines) == 1 and all(word in lines[0] for word in words)

    return Case(name, act, right)


def refuses(name: str, content: Any, *words: str, **options: Any) -> Case:
    return Case(name, lambda: loaded(content, **options), refused(*words))


PREFIXES = [
    "module.", "model.", "net.", "backbone.", "network.", "_orig_mod.", "1.", "0.module.",
    "_orig_mod.module.", "module._orig_mod.", "model._orig_mod.1.module.", "net.backbone.network.",
    "module.module.", "model.net.0.",
]  # fmt: skip

NAMES = [
    *(fills(f"under {prefix!r}", {"state_dict": under(prefix)}) for prefix in ["", *PREFIXES]),
    *(fills(f"{word} within", within(word)) for word in ("module", "_orig_mod")),
    fills("module within, all under model", {"state_dict": under("model.", within("module"))}),
    refuses("under another name", under("student."), "'student.'", "that part alone"),
    refuses("a part of another name", under("model.encoder."), "'model.encoder.'"),
    refuses("two networks in one", under("net.") | under("model.", OTHER), "twice", "'net.'",
            "'model.'"),
    fills("the same one twice", under("net.") | under("model.")),
    fills("an attacker's copy beside", under("module.model.") | under("module.attacker.model.")),
    warned("an attacker of its own beside",
           under("module.model.") | under("module.attacker.model.", OTHER),
           "'module.attacker.model.fc.bias'"),
    warned("a loss beside", under("model.") | {"loss.weight": torch.ones(3)}, "'loss.weight'"),
    refuses("more than the architecture", {**STATE, "head.weight": torch.ones(2)},
            "has besides head.weight"),
    refuses("less than the architecture", under("model.", {"fc.bias": STATE["fc.bias"]}), "lacks"),
    refuses("another number of classes", {**STATE, "fc.bias": torch.ones(4)}, "another shape",
            "fc.bias", "(4,)"),
    refuses("nothing of the architecture", {"a": torch.ones(1)}, "lacks"),
    refuses("no tensors", {"state_dict": {"a": 1}}, "no state dict among its entries state_dict"),
    refuses("a list", [1], "it holds a list"),
    fills("beside a number", {"state_dict": STATE, "best_acc1": torch.tensor(93.0)}),
    fills("numbers between", {**STATE, "epoch": 3, "name": "net"}),
    fills("in an entry of an entry", {"model": {"state_dict": under("module.")}}),
    fills("with an optimizer", {"model": STATE, "optimizer": {"state": {
        0: {"exp_avg": torch.ones(3), "step": torch.ones(())}}}}),
]  # fmt: skip

BOTH = {"state_dict": STATE, "state_dict_ema": OTHER}
ENTRIES = [
    warned("an average beside", BOTH, "'state_dict'", "'state_dict_ema'", "--weights"),
    warned("an average before", dict(reversed(BOTH.items())), "'state_dict'", "--weights"),
    warned("an average of other wrappers",
           {"model": STATE, "ema": {"module": under("module.", OTHER)}}, "'ema.module'"),
    Case("the average, asked for",
         lambda: scores(loaded(BOTH, weights="state_dict_ema")), scores(made(1))),
    Case("no warning where it is asked for",
         lambda: said(lambda: loaded(BOTH, weights="state_dict")), []),
    Case("an average within, asked for",
         lambda: scores(loaded({"model": STATE, "ema": {"shadow": OTHER}}, weights="ema.shadow")),
         scores(made(1))),
    refuses("an entry that is not there", BOTH, "weights must be an entry of 'net.pth'",
            "'state_dict_ema'", "got 'ema'", weights="ema"),
    refuses("two of no known name", {"teacher": STATE, "student": OTHER}, "weights must be stated",
            "'teacher'", "'student'"),
    fills("one of no known name", {"params": STATE}),
    refuses("the wrong one asked for", BOTH | {"other": {"a": torch.ones(1)}}, "lacks",
            weights="other"),
]  # fmt: skip


def own(mean: str, std: str, shape: tuple[int, ...] = (3,)) -> dict[str, Any]:
    return {mean: MEAN.reshape(shape), std: STD.reshape(shape)}


class Normalized(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return made()((x - MEAN.reshape(3, 1, 1)) / STD.reshape(3, 1, 1))


def normalized(name: str, content: Any, normalize: str | None = None) -> Case:
    return Case(name, lambda: scores(loaded(content, normalize)), scores(Normalized().eval()))


STATED = ",".join(f"{v:g}" for v in [*MEAN.tolist(), *STD.tolist()])
NORMALIZATIONS = [
    normalized("normalize.mean and std", under("model.") | own("normalize.mean", "normalize.std")),
    normalized("mu and sigma", {**STATE, **own("mu", "sigma", (1, 3, 1, 1))}),
    normalized("norm.*", under("1.") | own("norm.mean", "norm.std", (3, 1, 1))),
    normalized("in the first place", under("1.") | own("0.mean", "0.std", (3, 1, 1))),
    normalized("under the same wrapper", under("module.") | own("module.mu", "module.sigma")),
    normalized("under a wrapper, nested",
               under("module.model.") | own("module.normalizer.new_mean",
                                            "module.normalizer.new_std", (3, 1, 1))),
    normalized("means and sds", under("1.") | own("0.means", "0.sds")),
    normalized("entries beside the parameters",
               {"state_dict": STATE, "normalize": own("mean", "std")}),
    normalized("the same, stated as well", {**STATE, **own("mu", "sigma")}, STATED),
    normalized("twice the same", under("model.") | own("mu", "sigma") | own("n.mean", "n.std")),
    refuses("none stated, another in the file", {**STATE, **own("mu", "sigma")},
            "normalize must be that of 'net.pth'", "0.5,0.4,0.3,0.2,0.25,0.3", "got 'none'"),
    refuses("imagenet stated, another in the file", under("1.") | own("0.mean", "0.std"),
            "normalize must be", "got 'imagenet'", normalize="imagenet"),
    refuses("two that differ", under("model.") | own("mu", "sigma")
            | {"n.mean": MEAN, "n.std": 2 * STD}, "'mu'", "'n.mean'", "differ", normalize=None),
    refuses("a deviation of zero", {**STATE, "mu": MEAN, "sigma": 0 * STD}, "deviations > 0",
            normalize=None),
    refuses("a word, contradicted", {"state_dict": STATE, "normalize": "cifar10"},
            "'cifar10'", "got 'none'"),
    refuses("the word none, contradicted", {"state_dict": STATE, "normalize": "none"},
            "'none'", "got 'cifar10'", normalize="cifar10"),
    fills("a word, repeated", {"state_dict": STATE, "normalize": "none"}),
    refuses("nothing said", STATE, "normalize must be stated", normalize=None),
    warned("a mean alone", under("1.") | {"0.mean": MEAN}, "'0.mean'"),
]  # fmt: skip


# The noise of the training, and accuracy.


def trained(content: Any, noise: cc.Noise) -> list[str]:
    from cert_models.networks.models import check_noise

    return said(lambda: check_noise(loaded({"state_dict": STATE, **content}), noise))


def certified(content: Any) -> Any:
    """The command on such a checkpoint."""
    Path("hostile_arch.py").write_text("from hostile.test_hostile_checkpoints import Net\n")
    loaded(content)
    np.savez("data.npz", x=X.numpy(), y=np.array([0, 1, 2, 0]))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        return cert(
            "certify", "--data", "data.npz", "--model", "net.pth", "--arch", "hostile_arch:Net",
            "--normalize", "none", "--noise", "gaussian", "--sigma", "0.5", "--attack", "l2",
            "--n0", "10", "--n", "50", "--quiet",
        )  # fmt: skip


def accuracy_said(right: int, count: int, classes: int) -> list[str]:
    """What is said of a checkpoint that gets so many of the clean inputs right."""
    from cert_models.data.datasets import Dataset
    from cert_models.networks.architectures import NormalizedNetwork

    network = nn.Sequential(nn.Flatten(), nn.Linear(16, classes))
    nn.init.zeros_(network[1].weight)  # type: ignore[arg-type]
    network[1].bias.data = torch.arange(classes, 0, -1.0)  # type: ignore[union-attr]
    labels = np.where(np.arange(count) < right, 0, 1)
    data = Dataset("d", np.zeros((count, 1, 4, 4), "f4"), labels, classes)
    model = NormalizedNetwork(nn.Identity(), network).eval()
    return said(lambda: check_accuracy(model, data, range(count)))


RECIPE = {"recipe": {"noise": cc.Gaussian(48, 0.25).to_dict()}}
USES = [
    Case("certified under the noise trained under", lambda: trained(RECIPE, cc.Gaussian(48, 0.25)),
         []),
    Case("certified under another scale", lambda: trained(RECIPE, cc.Gaussian(48, 0.5)),
         lambda lines: len(lines) == 1 and "0.25" in lines[0] and "0.5" in lines[0]),
    Case("certified under another family", lambda: trained(RECIPE, cc.Laplace(48, 0.25)), len),
    Case("a scale among the arguments",
         lambda: trained({"args": argparse.Namespace(noise_sd=0.25)}, cc.Gaussian(48, 0.5)), len),
    Case("nothing said of training", lambda: trained({}, cc.Gaussian(48, 0.5)), []),
    Case("the command says so", lambda: certified({"state_dict": STATE, **RECIPE}),
         lambda found: found.status == 0 and "warning: the checkpoint was trained" in found.err),
    Case("2 of 3 right", lambda: accuracy_said(2, 3, 10), []),
    Case("1 of 1 right", lambda: accuracy_said(1, 1, 10), []),
    Case("0 of 3 right", lambda: accuracy_said(0, 3, 10), []),
    Case("3 of 32 right", lambda: accuracy_said(3, 32, 10),
         lambda lines: len(lines) == 1 and "by guessing" in lines[0]),
    Case("16 of 32 right, of two classes", lambda: accuracy_said(16, 32, 2), len),
    Case("20 of 32 right, of ten classes", lambda: accuracy_said(20, 32, 10), []),
]  # fmt: skip


# Architectures by import path.


def arch(text: str) -> Any:
    Path("arch_code.py").write_text(f"from torch import nn\nimport functools\n{text}\n")
    sys.modules.pop("arch_code", None)
    return make_network("arch_code:make", 7).out_features


TIMM = "def make(pretrained=False, **kwargs):\n    assert pretrained is False\n    "
VISION = "def make(*, weights=None, progress=True, **kwargs):\n    "
LINEAR = "return nn.Linear(2, kwargs['num_classes'])"
ARCHITECTURES = [
    Case("as timm has it", lambda: arch(TIMM + LINEAR), 7),
    Case("as torchvision has it", lambda: arch(VISION + LINEAR), 7),
    Case("as torchvision wraps it", lambda: arch(
        "def deprecated(f):\n    @functools.wraps(f)\n    def inner(*args, **kwargs):\n"
        "        assert not args\n        return f(**kwargs)\n    return inner\n"
        "@deprecated\n" + VISION + LINEAR), 7),
    Case("by place", lambda: arch("def make(n):\n    return nn.Linear(2, n)"), 7),
    Case("by place, with a default", lambda: arch("def make(n=5):\n    return nn.Linear(2, n)"), 7),
    Case("in second place", lambda: arch("def make(d=2, num_classes=5):\n"
                                         "    return nn.Linear(d, num_classes)"), 7),
    Case("no place for classes", lambda: arch("def make(pretrained=False):\n    return nn.ReLU()"),
         refused("arch must", "num_classes")),
    Case("takes nothing", lambda: arch("def make():\n    return nn.ReLU()"), refused("arch must")),
    Case("raises", lambda: arch("def make(n):\n    raise KeyError('a')"),
         refused("arch must", "KeyError")),
    Case("makes no module", lambda: arch("def make(n):\n    return n"), refused("arch must")),
    Case("no function", lambda: arch("make = 3"), refused("arch must")),
]  # fmt: skip


# ONNX files, written operator by operator.

WEIGHT = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)
FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def onnx_file(
    *outputs: str, rows: Any = "n", shape: Any = (3, 4, 4), kind: int = FLOAT, name: str = "pixels"
) -> str:
    """One linear layer, of whose scores, probabilities, labels, mixed scores ... are given."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    node = helper.make_node
    nodes = [
        node("Flatten", [name], ["flat"]),
        node("MatMul", ["flat", "w"], ["scores"]),
        node("Softmax", ["scores"], ["probabilities"], axis=1),
        node("ArgMax", ["scores"], ["labels"], axis=1, keepdims=0),
        node("ArgMax", ["scores"], ["column"], axis=1, keepdims=1),
        node("ReduceMean", ["scores"], ["mean"], axes=[0], keepdims=1),
        node("Sub", ["scores", "mean"], ["mixed"]),
        node("ZipMap", ["probabilities"], ["dicts"], domain="ai.onnx.ml",
             classlabels_int64s=[0, 1, 2]),
        node("ZipMap", ["probabilities"], ["words"], domain="ai.onnx.ml",
             classlabels_strings=["a", "b", "c"]),
    ]  # fmt: skip
    used: set[str] = set(outputs)
    kept = []
    for one in reversed(nodes):
        if used & set(one.output):
            used |= set(one.input)
            kept.insert(0, one)
    types = {"labels": INT, "column": INT}
    values = [
        onnx.ValueInfoProto(name=o) if o in ("dicts", "words")
        else helper.make_tensor_value_info(o, types.get(o, kind), None)
        for o in outputs
    ]  # fmt: skip
    for value in values:
        if value.name in ("dicts", "words"):
            key = INT if value.name == "dicts" else TensorProto.STRING
            item = helper.make_map_type_proto(key, helper.make_tensor_type_proto(FLOAT, None))
            value.type.CopyFrom(helper.make_sequence_type_proto(item))
    graph = helper.make_graph(
        kept, "g", [helper.make_tensor_value_info(name, kind, [rows, *shape])], values,
        [numpy_helper.from_array(WEIGHT.astype(dtype), "w")],
    )  # fmt: skip
    sets = [helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx.ml", 1)]
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=8), "net.onnx")
    return "net.onnx"


def votes(path: str, x: Any = X, classes: int = 3, **options: Any) -> Any:
    noise = cc.Gaussian(int(np.prod(x.shape[1:])), 0.5)
    model = load_model(path, classes)
    return SmoothedClassifier(model, noise, classes, batch_size=70).counts(x, 300, 5, **options)


def expected() -> Any:
    def predict(batch: Any) -> Any:
        return (batch.reshape(len(batch), -1) @ WEIGHT).argmax(1)

    return cc.count_votes(predict, X, cc.Gaussian(48, 0.5), 3, 300, 5)


def soft(path: str) -> Any:
    model = SmoothedClassifier(load_model(path, 3), cc.Gaussian(48, 0.5), 3, batch_size=70)
    return model.mean_scores(X, 200, 5).round(4)


def exact(name: str, make: Callable[[], str], **options: Any) -> Case:
    return Case(name, lambda: votes(make(), **options),
                lambda found: np.array_equal(found, expected()))  # fmt: skip


def onnx_refused(name: str, make: Callable[[], str], *words: str, **options: Any) -> Case:
    return Case(name, lambda: votes(make(), **options), refused(*words))


def written(data: bytes) -> str:
    Path("net.onnx").write_bytes(data)
    return "net.onnx"


def by_command(*more: str) -> Any:
    onnx_file("scores")
    np.savez("data.npz", x=X.numpy(), y=np.array([0, 1, 2, 0]))
    return cert(
        "certify", "--data", "data.npz", "--model", "net.onnx", "--noise", "gaussian",
        "--sigma", "0.5", "--attack", "l2", "--n0", "10", "--n", "50", "--quiet", *more,
    )  # fmt: skip


ONNX = [
    *(exact(f"ONNX, {output}", lambda o=output: onnx_file(o))
      for output in ("scores", "probabilities", "labels", "column", "dicts")),
    exact("ONNX, labels and dicts, as of scikit-learn", lambda: onnx_file("labels", "dicts")),
    exact("ONNX, labels and probabilities", lambda: onnx_file("labels", "probabilities")),
    *(exact(f"ONNX, batches of {rows}", lambda r=rows: onnx_file("scores", rows=r))
      for rows in (1, 7, 64, 1000)),
    exact("ONNX, dicts in batches of 7", lambda: onnx_file("labels", "dicts", rows=7)),
    exact("ONNX, another name", lambda: onnx_file("scores", name="x.1")),
    exact("ONNX, doubles", lambda: onnx_file("scores", kind=TensorProto.DOUBLE)),
    exact("ONNX, flat inputs", lambda: onnx_file("scores", shape=(48,))),
    exact("ONNX, sizes left open", lambda: onnx_file("scores", shape=(3, "h", "w"))),
    Case("ONNX, two outputs of scores",
         lambda: said(lambda: votes(onnx_file("scores", "probabilities")))[0],
         lambda line: "'scores'" in line and "'probabilities'" in line),
    Case("ONNX, soft votes of probabilities and scores",
         lambda: [soft(onnx_file(o)) for o in ("probabilities", "dicts")],
         lambda found: all(np.allclose(f, soft(onnx_file("scores")), atol=1e-4) for f in found)),
    onnx_refused("ONNX, rows that see each other", lambda: onnx_file("mixed"),
                 "treat every row alone"),
    onnx_refused("ONNX, dicts of words", lambda: onnx_file("words"), "3 scores a row"),
    onnx_refused("ONNX, dicts of more classes", lambda: onnx_file("labels", "dicts"),
                 "dicts of 0, 1, 2", classes=4),
    onnx_refused("ONNX, another number of classes", lambda: onnx_file("scores"), "4 scores a row",
                 classes=4),
    onnx_refused("ONNX, labels beyond the classes", lambda: onnx_file("labels"), "labels in [0, 2)",
                 classes=2),
    onnx_refused("ONNX, inputs of another shape", lambda: onnx_file("scores"), "(1, 6, 8)",
                 "(3, 4, 4)", x=X.reshape(4, 1, 6, 8)),
    onnx_refused("ONNX, channels last", lambda: onnx_file("scores"), "(4, 4, 3)",
                 x=X.permute(0, 2, 3, 1)),
    onnx_refused("ONNX, flat inputs of another size", lambda: onnx_file("scores", shape=(48,)),
                 "(50,)", "(48,)", x=torch.zeros(4, 50)),
    onnx_refused("ONNX, whole numbers as inputs", lambda: onnx_file("labels", kind=INT),
                 "one input of floats"),
    onnx_refused("ONNX, an empty file", lambda: written(b""), "a file that ONNX Runtime reads"),
    onnx_refused("ONNX, a damaged file", lambda: written(b"\x08" * 99), "ONNX Runtime reads"),
    onnx_refused("ONNX, no file", lambda: "none.onnx", "'none.onnx'"),
    Case("ONNX by the command", lambda: by_command().status, 0),
    Case("ONNX by the command, soft votes", lambda: by_command("--votes", "soft").status, 0),
    Case("ONNX by the command, at radii", lambda: by_command("--at", "0.1").status, 0),
    Case("ONNX by the command, in a store", lambda: by_command("--store", "s.db").status, 0),
    Case("ONNX and --arch", lambda: by_command("--arch", "resnet50"),
         refused("arch must not be given", "net.onnx")),
    Case("ONNX and --normalize", lambda: by_command("--normalize", "none"),
         refused("normalize must not be given")),
    Case("a checkpoint's option for a function", lambda: by_command("--weights", "ema"),
         refused("weights must not be given")),
    Case("another file of the same name goes on with no store", lambda: _other_file(),
         refused("model")),
]  # fmt: skip


def _other_file() -> Any:
    assert by_command("--store", "s.db", "--max", "2").status == 0
    global WEIGHT
    before, WEIGHT = WEIGHT, 2 * WEIGHT
    try:
        return by_command("--store", "s.db")
    finally:
        WEIGHT = before


CASES = [*NAMES, *ENTRIES, *NORMALIZATIONS, *USES, *ARCHITECTURES, *ONNX]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_checkpoints(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("hostile_arch", "arch_code"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    case.check()
