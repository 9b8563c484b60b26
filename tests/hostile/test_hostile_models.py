"""Models that change their input, that look at other rows, or are no models: rows of a table."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from cases import Case, cert, refused
from torch import nn

import cert_core as cc
from cert_models.networks.architectures import try_network
from cert_models.smooth import SmoothedClassifier

NOISE = cc.Gaussian(12, 0.5)
X = np.random.default_rng(0).uniform(size=(2, 3, 2, 2)).astype(np.float32)
N = 600


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


def with_norm() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 3))


def counts(net: Any, x: Any = X, **options: Any) -> Any:
    given = {"batch_size": 500} | options
    return SmoothedClassifier(net, NOISE, 3, **given).counts(x, N, 7)


# Models that change what they are given, and run out of memory.


def by_operator(x: Any) -> Any:
    return x.sub_(0.5).mul_(4.0)


def by_data(x: Any) -> Any:
    x.data.sub_(0.5).mul_(4.0)
    return x


def by_numpy(x: Any) -> Any:
    values = x.numpy()
    values -= 0.5
    values *= 4.0
    return x


def by_view(x: Any) -> Any:
    x.flatten(1)[:, ::2].zero_()
    return x.sub_(0.5)


def by_fill(x: Any) -> Any:
    copied = (x.clone() - 0.5) * 4.0
    x.fill_(1e30)
    return copied


class Changing(nn.Module):
    """Changes its input, then may lack memory above a number of rows."""

    def __init__(self, change: Callable[[Any], Any], rows: int = 10**9) -> None:
        super().__init__()
        self.net, self.change, self.rows = linear(), change, rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.change(x)
        if len(x) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.net(x)  # type: ignore[no-any-return]


CHANGES = [by_operator, by_data, by_numpy, by_view, by_fill]


def ask(verb: str, net: Any, rows: int) -> Any:
    """What a verb of a classifier says under seed 7."""
    classifier = SmoothedClassifier(net, NOISE, 3, batch_size=rows)
    if verb == "counts":
        return classifier.counts(X, N, 7)
    if verb == "mean_scores":
        return classifier.mean_scores(X, N, 7).round(5)
    if verb == "label_scores":
        return classifier.label_scores(X, [0, 1], N, 7).round(5)
    plan = cc.sequential.plan_at(NOISE, "l2", [0.01, 0.1], n_max=N, alpha=0.01)
    found = sorted(classifier.outcomes(plan, X, 7), key=lambda one: one.position)
    return np.stack([one.selection for one in found])


def enough(verb: str, change: Callable[[Any], Any]) -> Any:
    """The same where memory is enough and the change is made to a copy."""
    return ask(verb, lambda x: Changing(change).eval()(x.clone()), 500)


def changed(verb: str, change: Callable[[Any], Any], rows: int) -> Case:
    return Case(
        f"{verb} of a model that changes its input, {change.__name__}, memory for {rows} rows",
        lambda: ask(verb, Changing(change, rows).eval(), 500),
        lambda found: np.array_equal(found, enough(verb, change)),
    )


MEMORY = [
    *(changed("counts", change, 150) for change in CHANGES),
    *(changed(verb, change, 60) for verb in ("mean_scores", "label_scores", "outcomes")
      for change in (by_operator, by_numpy)),
    changed("counts", by_operator, 1),
    Case(
        "auto batch size of a model that changes its input",
        lambda: counts(Changing(by_operator, 100).eval(), batch_size=None),
        lambda found: np.array_equal(found, enough("counts", by_operator)),
    ),
]  # fmt: skip


def rest(x: Any) -> Any:
    x -= 0.5
    return (x.reshape(len(x), -1)[:, 0] > 0).astype(int)


def scores_of(x: Any) -> Any:
    x *= 0.0
    return np.tile([0.25, 0.5, 0.25], (len(x), 1))


FUNCTIONS = [
    Case(
        "a function that changes its batch",
        lambda: cc.count_votes(rest, X, NOISE, 2, N, 7, batch_size=100),
        cc.count_votes(lambda b: rest(b.copy()), X, NOISE, 2, N, 7),
    ),
    Case(
        "scores of a function that changes its batch",
        lambda: cc.scores.mean_scores(scores_of, X, NOISE, 3, N, 7, batch_size=100),
        np.tile([0.25, 0.5, 0.25], (2, 1)),
    ),
    Case(
        "batches changed by who gets them",
        lambda: [b.fill(9.0) for _, b in cc.noisy_batches(X, NOISE, 50, 7, batch_size=20)] and
        np.concatenate([b.copy() for _, b in cc.noisy_batches(X, NOISE, 50, 7, batch_size=20)]),
        np.concatenate([b.copy() for _, b in cc.noisy_batches(X, NOISE, 50, 7, batch_size=33)]),
    ),
    Case("a trial leaves its data alone",
         lambda: [try_network(Changing(by_fill), torch.from_numpy(x := X.copy())), x][1], X),
    Case("the inputs are left alone",
         lambda: [counts(Changing(by_fill).eval(), x := X.copy()), x][1], X),
]  # fmt: skip


# Rows that see each other.


def mixing(x: Any) -> Any:
    return nn.functional.batch_norm(x.flatten(1)[:, :3], None, None, training=True)


def mixing_in_place(x: Any) -> Any:
    x.sub_(0.5)
    return with_norm().train()(x)


class Hides(nn.Module):
    """Keeps its network where named_modules does not look."""

    def __init__(self, net: nn.Module, place: str = "list") -> None:
        super().__init__()
        self.kept = [net] if place == "list" else {"net": net}

    def forward(self, x: torch.Tensor) -> Any:
        (net,) = self.kept.values() if isinstance(self.kept, dict) else self.kept
        return net(x)


class EvaluatesInner(nn.Module):
    """A wrapper whose own eval acts on its network alone."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def eval(self) -> EvaluatesInner:
        self.net.eval()
        return self

    def forward(self, x: torch.Tensor) -> Any:
        return self.net(x)


class DropsByFunction(nn.Module):
    """Reads its mode in its own forward."""

    def __init__(self) -> None:
        super().__init__()
        self.net = linear()

    def forward(self, x: torch.Tensor) -> Any:
        return self.net(nn.functional.dropout(x, 0.5, self.training))


class Object:
    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def __call__(self, x: torch.Tensor) -> Any:
        return self.net(x)


def closed(net: nn.Module) -> Callable[[Any], Any]:
    return lambda x: net(x)


def evaluated(net: nn.Module) -> nn.Module:
    """A Sequential in training mode around a network that is not."""
    return nn.Sequential(nn.Identity(), net.eval())


def taken(net: Any, **options: Any) -> Callable[[], bool]:
    return lambda: bool(counts(net(), **options).sum() == 2 * N)


def sees(name: str, net: Callable[[], Any], *words: str, **options: Any) -> Case:
    return Case(name, lambda: counts(net(), **options), refused(*words))


ROWS = [
    *(
        sees(f"{name}, batch_size {size}", lambda f=f: f, "treat every row alone", batch_size=size)
        for name, f in {
            "batch statistics": mixing,
            "the mean": lambda x: x.flatten(1)[:, :3].mean(0).expand(len(x), 3),
            "the first row": lambda x: x.flatten(1)[:1, :3].expand(len(x), 3),
            "the last row": lambda x: x.flatten(1)[-1:, :3].expand(len(x), 3),
        }.items()
        for size in (1, 2, 500)
        if (name, size) != ("batch statistics", 1)  # torch refuses it by itself
    ),
    sees("batch statistics of one row", lambda: mixing, "must", batch_size=1),
    sees("in place, before batch statistics", lambda: mixing_in_place, "treat every row alone"),
    *(
        sees(f"{name}, batch_size {size}", lambda f=f: f(with_norm().train()),
             "evaluation mode", "BatchNorm1d", call, batch_size=size)
        for name, f, call in [
            ("a closure", closed, "call net.eval()"),
            ("a lambda's default", lambda net: lambda x, inner=net: inner(x), "call inner.eval()"),
            ("a partial", lambda net: functools.partial(net.forward),
             "call base_classifier.args[0].__self__.eval()"),
            ("a method", lambda net: net.forward, "call base_classifier.__self__.eval()"),
            ("an object", Object, "call base_classifier.net.eval()"),
            ("a list in a module", Hides, "call base_classifier.kept[0].eval()"),
            ("a dict in a module", lambda net: Hides(net, "dict"), "kept['net'].eval()"),
            ("a module", lambda net: net, "call base_classifier.eval()"),
        ]
        for size in (1, 500)
    ),
    sees("eval of the wrapper that leaves its own mode", lambda: EvaluatesInner(with_norm()),
         "'net.1'", "call base_classifier.get_submodule('net.1').eval()"),
    sees("a network that reads its mode by itself", lambda: DropsByFunction().train(),
         "DropsByFunction", "call base_classifier.eval()"),
    sees("dropout within", lambda: nn.Sequential(linear(), nn.Dropout(0.5)),
         "'1' (Dropout)", "base_classifier.eval()"),
    sees("a normalisation that keeps statistics of instances",
         lambda: nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True), linear()),
         "'0' (InstanceNorm2d)"),
    sees("spectral normalisation, old form",
         lambda: nn.Sequential(nn.Flatten(), torch.nn.utils.spectral_norm(nn.Linear(12, 3))),
         "training mode in '1'"),
    sees("a scripted network in training mode",
         lambda: torch.jit.script(with_norm().train()), "evaluation mode"),
    Case("the call that it names mends it", lambda: _mended(), True),
    Case("DataParallel around eval", taken(lambda: nn.DataParallel(with_norm().eval())), True),
    Case("Sequential around eval", taken(lambda: evaluated(with_norm())), True),
    Case("a wrapper that evaluates its network",
         taken(lambda: EvaluatesInner(with_norm()).eval()), True),
    Case("dropout of nothing", taken(lambda: nn.Sequential(linear(), nn.Dropout(0.0))), True),
    Case("instances by themselves",
         taken(lambda: nn.Sequential(nn.InstanceNorm2d(3), linear()).train()), True),
    Case("a lambda that evaluates", taken(lambda: _evaluating(with_norm().train())), True),
    Case("chance of its own", taken(lambda: lambda x: x.flatten(1)[:, :3] +
                                    torch.randn(len(x), 3)), True),
    Case("one row alone is all that it takes",
         taken(lambda: lambda x: x.reshape(1, 12)[:, :3], batch_size=1), True),
    Case("a scripted network", taken(lambda: torch.jit.script(with_norm().eval())), True),
    Case("a frozen network",
         taken(lambda: torch.jit.freeze(torch.jit.script(with_norm().eval()))), True),
]  # fmt: skip


def _evaluating(net: nn.Module) -> Callable[[Any], Any]:
    return lambda x: net.eval()(x)


def _mended() -> bool:
    base_classifier = EvaluatesInner(with_norm())
    with pytest.raises(ValueError, match="evaluation mode") as caught:
        counts(base_classifier)
    call = str(caught.value).partition(": call ")[2].partition(" (")[0]
    eval(call, {"base_classifier": base_classifier})
    return bool(counts(base_classifier).sum() == 2 * N)


# What is given and what comes out.

PLAIN = linear()
ANSWERS = [
    Case("an output with logits", lambda: counts(lambda x: SimpleNamespace(logits=PLAIN(x))),
         lambda found: np.array_equal(found, counts(PLAIN))),
    Case("a dict of logits", lambda: counts(lambda x: {"logits": PLAIN(x), "loss": None}),
         lambda found: np.array_equal(found, counts(PLAIN))),
    sees("another dict", lambda: lambda x: {"a": PLAIN(x)}, "base_classifier(batch) must be",
         "dict of 'a'"),
    sees("a tuple", lambda: lambda x: (PLAIN(x), x), "must be a tensor of shape", "got tuple"),
    sees("nothing", lambda: lambda x: None, "must be a tensor of shape", "got NoneType"),
    sees("labels", lambda: lambda x: PLAIN(x).argmax(1), "must be a tensor of shape (500, 3)"),
    sees("whole numbers as scores", lambda: lambda x: PLAIN(x).long(), "floats", "int64"),
    sees("a class", lambda: nn.Linear, "base_classifier"),
    sees("a model that raises", lambda: lambda x: x.nothing, "base_classifier", "AttributeError"),
    sees("no channel axis", lambda: nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten()).eval(),
         "axis of their channels", x=np.zeros((2, 3, 4), "f4")),
    sees("channels last",
         lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten(), nn.Linear(12, 3)).eval(),
         "(500, 2, 2, 3)", "got 2 channels", "channels first", x=np.zeros((2, 2, 2, 3), "f4")),
    Case("bfloat16 inputs", lambda: counts(PLAIN, torch.from_numpy(X).bfloat16()),
         lambda found: np.array_equal(found,
                                      counts(PLAIN, torch.from_numpy(X).bfloat16().float()))),
    Case("n0 that is no whole number",
         lambda: SmoothedClassifier(PLAIN, NOISE, 3).certify(X, 100.0, 500, 0.01, "l2", 0),  # type: ignore[arg-type]
         refused("n0 must be an integer >= 1, got 100.0")),
    Case("n0 of the runner-up",
         lambda: SmoothedClassifier(PLAIN, NOISE, 3).certify_top_k(X, 0, 500, 0.01, "l2", 0),
         refused("n0 must be an integer >= 1, got 0")),
    *(
        Case(f"unsigned integers, {kind}", act, refused("x must be", "uint8", "x / 255"))
        for kind, act in {
            "NumPy": lambda: counts(PLAIN, (X * 255).astype(np.uint8)),
            "torch": lambda: counts(PLAIN, torch.from_numpy((X * 255).astype(np.uint8))),
            "a function": lambda: cc.count_votes(rest, (X * 255).astype(np.uint8), NOISE, 2, 9, 0),
            "a test": lambda: SmoothedClassifier(PLAIN, NOISE, 3).certify_at(
                (X * 255).astype(np.uint8), 0.1, 100, 0.1, "l2", 0),
        }.items()
    ),
    Case("other whole numbers are in their own units",
         lambda: counts(PLAIN, np.ones((2, 3, 2, 2), np.int64)),
         lambda found: np.array_equal(found, counts(PLAIN, np.ones((2, 3, 2, 2), "f4")))),
    Case("a DataLoader as data",
         lambda: counts(PLAIN, torch.utils.data.DataLoader(torch.from_numpy(X))),  # type: ignore[arg-type]
         refused("x must be numbers", "DataLoader")),
    Case("scores as a list of dicts",
         lambda: cc.scores.mean_scores(lambda b: [{0: 0.5, 1: 0.5}] * len(b), X, NOISE, 2, 9, 0),
         refused("predict(batch) must be", "dict")),
    Case("labels as a list of dicts",
         lambda: cc.count_votes(lambda b: [{0: 1}] * len(b), X, NOISE, 2, 9, 0),
         refused("predict(batch) must be numbers", "{0: 1}")),
]  # fmt: skip


# Names on the command line.

CODE = """
import numpy as np
from torch import nn
class Net(nn.Module):
    pass
def factory():
    return nn.Linear(12, 3)
def classes(num_classes):
    return nn.Linear(12, num_classes)
def dicts(batch):
    return [{0: .2, 1: .5, 2: .3}] * len(batch)
def labels(batch):
    batch -= 100
    return np.ones(len(batch), int)
number = 3
loader = iter([1])
"""


def named(name: str, *more: str) -> Any:
    Path("hostile_code.py").write_text(CODE, encoding="utf-8")
    np.savez("data.npz", x=X, y=np.array([1, 1]))
    return cert(
        "certify", "--data", "data.npz", "--model", name, "--classes", "3", "--noise", "gaussian",
        "--sigma", "0.5", "--attack", "l2", "--n0", "10", "--n", "50", "--quiet", *more,
    )  # fmt: skip


NAMES = [
    Case("a class as model", lambda: named("hostile_code:Net"),
         refused("model", "class", "hostile_code:Net", "net = Net(")),
    Case("a factory as model", lambda: named("hostile_code:factory"),
         refused("model", "hostile_code:factory", "one batch")),
    Case("a factory with classes as model", lambda: named("hostile_code:classes"),
         refused("model", "hostile_code:classes")),
    Case("a number as model", lambda: named("hostile_code:number"), refused("model", "got 3")),
    Case("an iterator as model", lambda: named("hostile_code:loader"), refused("model")),
    Case("a list of dicts as soft scores", lambda: named("hostile_code:dicts", "--votes", "soft"),
         refused("predict(batch) must be", "dict")),
    Case("a function that changes its batch, by name", lambda: named("hostile_code:labels").status,
         0),
]  # fmt: skip

CASES = [*MEMORY, *FUNCTIONS, *ROWS, *ANSWERS, *NAMES]


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_models(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "hostile_code", raising=False)
    with np.errstate(all="ignore"):
        case.check()
