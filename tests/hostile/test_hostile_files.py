"""Text in files that is no program, checks where the votes are, fingerprints, names, readers."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from cases import Case, Said, cert, refused
from torch import nn

import cert_core as cc
from cert_models.importing import import_object
from cert_models.smooth import SmoothedClassifier
from cert_models.store.fingerprints import model_fingerprint

# Import paths.

NET = "from torch import nn\n\n\ndef net(num_classes=3):\n    return nn.Linear(4, num_classes)\n"
STATE = {"weight": torch.ones(3, 4), "bias": torch.zeros(3)}
SAMPLED = ["--noise", "gaussian", "--sigma", "0.5", "--attack", "l2", "--n0", "5", "--n", "40",
           "--quiet"]  # fmt: skip


def code(text: str = NET, name: str = "code_of_a_user") -> None:
    Path(f"{name}.py").write_text(text, encoding="utf-8")
    sys.modules.pop(name, None)


def data(x: Any = None, y: Any = None) -> str:
    x = np.linspace(0, 1, 16).reshape(4, 4) if x is None else x
    np.savez("data.npz", x=x, y=np.array([0, 1, 2, 0]) if y is None else y)
    return "data.npz"


def certify(model: str, *more: str) -> Said:
    return cert("certify", "--data", data(), "--model", model, *SAMPLED, *more)


def checkpoint(*more: str, arch: str = "code_of_a_user:net") -> Said:
    code()
    torch.save({"arch": arch, "normalize": "none", "state_dict": STATE}, "net.pt")
    return certify("net.pt", *more)


def here(name: str, text: str = "def net(x):\n    return [0] * len(x)\n") -> Any:
    code(text, name) if name not in sys.modules else Path(f"{name}.py").write_text(text)
    return import_object(f"{name}:net")


def stands_in() -> Any:
    """A file of a user's folder that a module of his would import for Python's own."""
    Path("this_is_no_place.py").touch()
    for name in ("colorsys", "code_of_a_user"):
        sys.modules.pop(name, None)
    Path("colorsys.py").write_text("raise SystemExit(3)\n")
    code("import colorsys\nnet = colorsys.rgb_to_hsv\n")
    return import_object("code_of_a_user:net")(0.0, 0.0, 0.0)


IMPORTS = [
    Case("arch in a file", checkpoint,
         refused("arch must be stated for 'net.pt'", "names 'code_of_a_user:net'", "--arch")),
    Case("the same, stated", lambda: checkpoint("--arch", "code_of_a_user:net").status, 0),
    Case("arch in a file, many lines", lambda: checkpoint(arch="a\n" * 500), refused("a\\na\\na")),
    Case("arch in a file, a number", lambda: checkpoint(arch=3), refused("does not name it")),
    Case("the name of an installed package", lambda: here("filelock"),
         refused("filelock.py has the name of", "rename it")),
    Case("the name of a module of Python", lambda: here("colorsys"), refused("rename it")),
    Case("the name of a module within Python", lambda: here("time"), refused("rename it")),
    Case("a name of one's own", lambda: here("code_of_a_user")([0]), [0]),
    Case("a file in the place of a module of Python", stands_in, (0.0, 0.0, 0.0)),
    Case("the present folder comes last",
         lambda: [here("code_of_a_user"), sys.path[-1] == str(Path.cwd()), "" in sys.path][1:],
         [True, False]),
]  # fmt: skip


# Rows that see each other.

X = np.random.default_rng(0).uniform(size=(3, 12)).astype(np.float32)
NOISE = cc.Gaussian(12, 0.5)
drop = nn.Dropout(0.5)  # in training mode: chance of its own


def scores(x: torch.Tensor) -> torch.Tensor:
    return 5 * x.flatten(1)[:, :3]


def centred(x: torch.Tensor) -> torch.Tensor:
    return scores(x) - scores(x).mean(0)


def normalized(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.batch_norm(scores(x), None, None, training=True)


def from_call(number: int) -> Callable[[torch.Tensor], torch.Tensor]:
    calls = iter(range(10**9))
    return lambda x: centred(x) if next(calls) >= number else scores(x)


def chance(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.dropout(x, 0.5, training=True)


def of_numpy(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.random.normal(size=tuple(x.shape))).float()


def counted(net: Any, inputs: int = 12, **options: Any) -> int:
    """As certifying counts: a selection and an estimation for every input."""
    smoothed = SmoothedClassifier(net, NOISE, 3, batch_size=600, **options)
    votes = 0
    for i in range(inputs):
        votes += smoothed.counts(X[:1], 40, 0, indices=[i], stage="selection").sum()
        votes += smoothed.counts(X[:1], 1200, 0, indices=[i]).sum()
    return int(votes)


def compiled(net: Any) -> int:
    """The same of a network that is compiled, which is not done here."""
    with mock.patch.object(torch, "compile", lambda net: net):
        return counted(net, 1, compiled=True)


def by_plan(net: Any) -> Any:
    smoothed = SmoothedClassifier(net, NOISE, 3, batch_size=1000)
    return smoothed.certify_at(X, [0.1, 0.2], 20000, 0.001, "l2", 0)


def left_alone() -> Any:
    """What a classifier that draws leaves to be drawn next, after three passes and the looks."""
    torch.manual_seed(0)
    counted(lambda x: scores(x) + torch.rand(()), 1)
    return torch.rand(()).item()


def after_draws(count: int) -> float:
    torch.manual_seed(0)
    return [torch.rand(()).item() for _ in range(count + 1)][-1]


SEEING = {
    "batch statistics": normalized,
    "batch statistics, then dropout": lambda x: chance(normalized(x)),
    "dropout, then batch statistics": lambda x: normalized(chance(x)),
    "batch statistics and noise": lambda x: normalized(x) + torch.randn(len(x), 3),
    "batch statistics and NumPy's noise": lambda x: normalized(x) + of_numpy(scores(x)),
    "above 500 rows": lambda x: centred(x) if len(x) > 500 else scores(x),
    "above 40 rows": lambda x: centred(x) if len(x) > 40 else scores(x),
    "the spread alone": lambda x: scores(x) / scores(x).std(0),
    "the largest of all": lambda x: scores(x) - scores(x).max(0).values,
    "the row before": lambda x: scores(x) + 0.1 * scores(x).roll(1, 0),
    "the row after": lambda x: scores(x) + 0.1 * scores(x).roll(-1, 0),
    "a class that never wins": lambda x: torch.cat([centred(x)[:, :2], torch.full(
        (len(x), 1), -torch.inf)], 1),
}  # fmt: skip
ALONE = "treat every row alone"
WATCHED = [
    *(Case(name, lambda net=net: counted(net, 1), refused(ALONE)) for name, net in SEEING.items()),
    *(Case(f"from call {n}", lambda n=n: counted(from_call(n)), refused(ALONE))
      for n in (1, 3, 4, 10, 17)),
    *(Case(f"{name}, compiled", lambda net=SEEING[name]: compiled(net), refused(ALONE))
      for name in ("batch statistics", "above 500 rows")),
    Case("by a plan, above 500 rows", lambda: by_plan(SEEING["above 500 rows"]), refused(ALONE)),
    Case("by a plan, from call 5", lambda: by_plan(from_call(5)), refused(ALONE)),
    *(Case(f"{name}, chance alone", lambda net=net: counted(net, 2), 2480) for name, net in {
        "dropout": lambda x: chance(scores(x)), "noise": lambda x: scores(x) + torch.randn(
            len(x), 3), "NumPy's noise": lambda x: scores(x) + of_numpy(scores(x)),
    }.items()),
    Case("the generators are left as they were", lambda: left_alone() == after_draws(3), True),
]  # fmt: skip


# Fingerprints.

MODEL = """
import functools
import os
import torch
from torch import nn
import code_beside
SIGN = 1.0
TABLE = {"a": [1.0, 2.0]}


class Net(nn.Module):
    CLASS_WIDE = 1.0

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.lin = nn.Linear(4, 3)
        self.gain = 1.0
        self._hidden = [1.0]

    @property
    def sign(self):
        return SIGN

    def forward(self, b):
        return self.sign * self.lin(b) * self.gain


class Thing:
    def __init__(self):
        self.weights = torch.ones(2)

    def __call__(self, x):
        return x.sum(axis=1) * self.weights


net = Net().eval()
thing = Thing()


def predict(x, flag=False):
    return [code_beside.turned(v) for v in x.sum(axis=1) * TABLE["a"][0]]


part = functools.partial(predict, flag=True)
cached = functools.lru_cache(predict)
method = net.forward
nested = lambda x: [SIGN for v in x]


calls = 0


def counting(x):
    global calls
    calls += 1
    return predict(x)


class Counting(Net):
    def forward(self, b):
        self.calls = getattr(self, "calls", 0) + 1
        return super().forward(b)


counts = Counting().eval()
"""


def prints(name: str, change: str = "", beside: str = "BY = 1.0\n") -> str:
    """The fingerprint after a change of what is held, as by another environment."""
    code(beside + "def turned(v):\n    return BY * v\n", "code_beside")
    code(MODEL)
    found = import_object(f"code_of_a_user:{name}")
    exec(change, vars(sys.modules["code_of_a_user"]))
    return model_fingerprint(found, f"code_of_a_user:{name}")


CHANGES = [
    ("net", "SIGN = -1.0"), ("net", "net.gain = 2.0"), ("net", "net._hidden[0] = 2.0"),
    ("net", "Net.CLASS_WIDE = 2.0"), ("net", "net.forward = lambda b: -net.lin(b)"),
    ("net", "Net.forward = lambda self, b: -self.lin(b)"),
    ("net", "net.register_forward_hook(lambda m, i, o: -o)"),
    ("net", "net.lin.scale = 2"), ("predict", "TABLE['a'][0] = -1.0"),
    ("predict", "code_beside.BY = -1.0"), ("predict", "predict.__defaults__ = (True,)"),
    ("part", "part.keywords['flag'] = False"), ("part", "TABLE['a'][0] = -1.0"),
    ("cached", "TABLE['a'][0] = -1.0"), ("method", "SIGN = -1.0"), ("method", "net.gain = 2.0"),
    ("nested", "SIGN = -1.0"), ("thing", "thing.weights[0] = 2.0"), ("thing", "thing.more = 1"),
]  # fmt: skip


def started(change: str) -> Said:
    """Two starts of one run, the module's text changed between them."""
    text = NET + "import torch\nSIGN = 1\n\n\nclass Net(nn.Module):\n" + (
        "    def __init__(self):\n        super().__init__()\n        torch.manual_seed(0)\n"
        "        self.lin = nn.Linear(4, 3)\n\n    def forward(self, b):\n"
        "        return SIGN * self.lin(b)\n\n\nmodel = Net().eval()\n"
    )  # fmt: skip
    first = ["--store", "runs.db", "--max", "2"]
    code(text)
    assert certify("code_of_a_user:model", *first).status == 0
    code(text.replace("SIGN = 1", change))
    return certify("code_of_a_user:model", *first[:2])


def kept(before: str, now: str) -> bool:
    """A run that a store knows by one fingerprint, begun by another."""
    from cert_models.store.counts import CountStore
    from cert_models.store.runs import FixedPlan, Run

    def run(fingerprint: str) -> Run:
        return Run(
            plan=FixedPlan(5, 9),
            noise=NOISE,
            seed=0,
            batch_size=9,
            num_classes=3,
            model="m",
            model_fingerprint=fingerprint,
            data="d",
            data_fingerprint="",
            attack="l2",
            alpha=0.1,
        )

    with CountStore("kept.db") as store:
        store.begin("r", run(before))
        store.begin("r", run(now))
    return True


def external(weight: float) -> str:
    """An .onnx file whose weights lie in a file beside it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 4]) for n in "xy"]
    tensor = numpy_helper.from_array(np.full((4, 4), weight, np.float32), "w")
    made = helper.make_model(
        helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", values[:1],
                          values[1:], [tensor]),
        opset_imports=[helper.make_opsetid("", 13)], ir_version=8,
    )  # fmt: skip
    Path("weights.bin").unlink(missing_ok=True)
    onnx.save(made, "net.onnx", save_as_external_data=True, location="weights.bin",
              size_threshold=0)  # fmt: skip
    from cert_models.networks.models import load_model

    return model_fingerprint(load_model("net.onnx", 4), "net.onnx")


TRAIN = ["train", "--data", "data.npz", "--arch", "code_of_a_user:net", "--noise", "gaussian",
         "--sigma", "0.5", "--batch-size", "2", "--out", "net.pt", "--quiet"]  # fmt: skip


def resumed(change: Callable[[], Any], *more: str) -> Said:
    """Two epochs of training, then a change, then a start that goes on."""
    code()
    data()
    assert cert(*TRAIN, "--epochs", "2").status == 0
    change()
    return cert(*TRAIN, "--epochs", "2", "--resume", *more)


def edited(**values: Any) -> Callable[[], None]:
    """A checkpoint with other entries."""
    return lambda: torch.save({**torch.load("net.pt", weights_only=True), **values}, "net.pt")


def without(name: str) -> Callable[[], None]:
    def act() -> None:
        content = torch.load("net.pt", weights_only=True)
        del content[name]
        torch.save(content, "net.pt")

    return act


FINGERPRINTS = [
    *(Case(f"{name} after {change}", lambda n=name, c=change: prints(n) == prints(n, c), False)
      for name, change in CHANGES),
    *(Case(f"{name} once more", lambda n=name: prints(n) == prints(n), True)
      for name in dict.fromkeys(name for name, _ in CHANGES)),
    *(Case(f"{name} after {change}", lambda n=name, c=change: prints(n) == prints(n, c), True)
      for name, change in [("counting", "counting(torch.ones(1, 4).numpy())"),
                           ("counts", "counts(torch.ones(1, 4))")]),
    Case("a file that is called", lambda: prints("predict") == prints("predict", beside="BY = 2.0\n"
                                                                      ), False),
    Case("the sign of a module, between two starts", lambda: started("SIGN = -1"),
         refused("run 'default'", "model_fingerprint")),
    Case("nothing changed between two starts", lambda: started("SIGN = 1").status, 0),
    Case("a record from before code was told", lambda: kept("ab", "ab-code-cd"), True),
    Case("the same, of a precision",
         lambda: kept("ab+bfloat16", "ab-code-cd+bfloat16"), True),
    Case("a record from before code was told, of another content",
         lambda: kept("ac", "ab-code-cd"), refused("model_fingerprint")),
    Case("the same, of another precision",
         lambda: kept("ab+bfloat16", "ab-code-cd"), refused("model_fingerprint")),
    Case("another code", lambda: kept("ab-code-ce", "ab-code-cd"), refused("model_fingerprint")),
    Case("weights beside an .onnx file", lambda: external(1.0) == external(2.0), False),
    Case("the same weights beside an .onnx file", lambda: external(1.0) == external(1.0), True),
    Case("training goes on with the same data", lambda: resumed(data).status, 0),
    Case("training goes on with other inputs", lambda: resumed(lambda: data(np.ones((4, 4)))),
         refused("data must be that of the run to resume", "'data.npz'")),
    Case("training goes on with other labels",
         lambda: resumed(lambda: data(y=np.array([2, 1, 2, 0]))),
         refused("data must be that of the run to resume")),
    Case("a checkpoint that does not know its data",
         lambda: resumed(without("data_fingerprint")).status, 0),
    *(Case(f"a saved epoch of {epoch}", lambda e=epoch: resumed(edited(epoch=e)),
           refused("state must be that of this training", "net.pt'", "epoch"))
      for epoch in (10**9, 3, 0, -1, 1, 1.5, "2", None)),
    Case("a saved state of another network",
         lambda: resumed(edited(state_dict={"a": torch.ones(1)})),
         refused("state must be", "net.pt'")),
    Case("a saved optimizer of nothing", lambda: resumed(edited(optimizer={})),
         refused("state must be", "net.pt'")),
    Case("a saved schedule of words", lambda: resumed(edited(schedule={"last_epoch": "x"})),
         refused("state must be", "net.pt'")),
    Case("no saved epoch", lambda: resumed(without("epoch")), refused("state must be", "epoch")),
]  # fmt: skip


# Names as text.

HEAD = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"
EVIL = {
    "a new line": "a\n\\input{/etc/passwd}", "a return": "a\rb", "a paragraph": "a\u2028b",
    "an escape": "\x1b]0;owned\x07\x1b[2J", "one of eight bits": "\x9b2J", "NUL": "a\0b",
    "a turn of direction": "a\u202eb", "bytes of no encoding": "a\udcffb",
    "a formula": "=cmd|' /C calc'!A0", "a sum": "+1+1", "a call": "@SUM(A1)", "less": "-1+1",
    "a formula after a tab": "\t=1+1", "a wide formula": "\uff1d1+1", "blank and formula": " =1+1",
    "HTML": "<script>alert(1)</script>", "an attribute": "\" onload='x", "mathematics": "$x^2$",
    "mathematics unknown": r"$\foo$", "half of mathematics": "a$b", "TeX": r"\write18{ls}%&#_^~{}",
    "an argument of a row": "[1cm]", "a star": "*", "a table": "a|b", "a link": "[a](javascript:b)",
    "a bar and a slash": "a\\|b", "underscores": "__a__", "hidden from legends": "_x",
    "blank": " ", "code": "`a`", "a picture": "![a](b)",
}  # fmt: skip
DRAWN = {"all at once": "".join(EVIL.values()).replace("=", ""), **{
    name: EVIL[name] for name in ("bytes of no encoding", "mathematics unknown", "HTML", "NUL",
                                  "half of mathematics", "an attribute", "hidden from legends")
}}  # fmt: skip


def named(name: str) -> Any:
    """A result of this name, as a store may have it."""
    from cert_models.store.results import Result

    places = np.arange(3)
    return Result(
        name=name,
        indices=places,
        labels=places,
        predict=places,
        radius=np.array([0.1, 0.2, 0.3]),
        attack="l2",
        alpha=0.001,
        noise=NOISE,
    )


def tabled(name: str, form: str) -> str:
    from cert_models.reports import tables as report

    return report.FORMATS[form](report.tables([named(name)])[0])


def steers(text: str) -> bool:
    """Whether text has a character that a terminal, a reader or an encoding would act on."""
    import unicodedata

    return any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text if c != "\n")


def lines_as_of_a(name: str, form: str) -> bool:
    text = tabled(name, form)
    return len(text.splitlines()) == len(tabled("a", form).splitlines()) and not steers(text)


def safe_latex(name: str) -> bool:
    """Whether a row's first cell has no command but those that stand for a character."""
    import re

    text = tabled(name, "latex").split("\\midrule\n")[1].split(" & 3 inputs")[0]
    known = r"\\text(backslash|asciitilde|asciicircum)\{\}|\\[&%$#_{}]|\{[*\[\]]\}"
    return not re.search(r"[\\&%$#_{}~^\n]|^[\[*]", re.sub(known, "", text))


def csv_cells(name: str) -> list[str]:
    import csv

    return [row[0] for row in csv.reader(tabled(name, "csv").splitlines())]


def markdown_cells(name: str) -> int:
    """Cells of the row, and no markup in it."""
    import re

    row = tabled(name, "markdown").splitlines()[4]
    assert not re.search(r"(?<!\\)(?:\\\\)*[*_`\[\]$<>]", row), row
    return len(re.findall(r"(?<!\\)(?:\\\\)*\|", row))


def drawn(name: str, kind: str = "svg") -> bytes:
    """A picture whose title and curve have this name, without matplotlib's remarks on glyphs."""
    import io

    from cert_models.reports import tables as report

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        report.curves([named(name)], file, name, kind=kind)
    return file.getvalue()


def in_legend(name: str) -> list[str]:
    from cert_models.reports import tables as report

    return [t.get_text() for t in report._curves([named(name)], "", None, False).axes[0].get_legend(
        ).get_texts()]  # fmt: skip


def paged(name: str) -> bool:
    """Whether a page of this name and title has the elements of another, and can be written."""
    import re

    from cert_models.reports import tables as report
    from cert_models.reports.page import page

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        found, plain = (page(n, [named(n)], report.tables([named(n)])) for n in (name, "a"))
    found.encode()
    body = [re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL) for text in (found, plain)]
    kinds = [re.findall(r"<[^>]*>", text) for text in body]
    return kinds[0] == kinds[1] and not steers(found.replace("\t", ""))


def told(name: str) -> Said:
    """The report of a log of this name."""
    Path("log.tsv").write_text(HEAD + "0\t1\t1\t0.5\t1\t0\n")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        return cert("report", f"{name}=log.tsv", "--html", "a.html", "--picture", "a.png",
                    "--title", name)  # fmt: skip


def of_column(text: str) -> Said:
    """What is said of a log whose column sigma has this text."""
    Path("log.tsv").write_text(HEAD[:-1] + f"\tsigma\n0\t1\t1\t0.5\t1\t0\t{text}\n")
    return cert("report", "log.tsv", "--noise", "gaussian", "--sigma", "1", "--dim", "4")


def with_settings(text: str) -> bool:
    """Whether a picture is as ever beside a file of matplotlib's settings."""
    import matplotlib

    expected = drawn("a")
    Path("settings").write_text(text)
    with matplotlib.rc_context(fname="settings"):
        return drawn("a") == expected


TEXTS = [
    *(Case(f"{form}, {what}", lambda n=name, f=form: lines_as_of_a(n, f), True)
      for what, name in EVIL.items() for form in ("text", "latex", "markdown", "csv")),
    *(Case(f"LaTeX, {what}", lambda n=name: safe_latex(n), True) for what, name in EVIL.items()),
    *(Case(f"a spreadsheet, {what}", lambda n=name: csv_cells(n)[1][:1],
           lambda first: first not in "=+-@\uff1d\t" or not first) for what, name in EVIL.items()),
    Case("a spreadsheet, a negative number", lambda: csv_cells("-1.5e3")[1], "-1.5e3"),
    *(Case(f"Markdown, {what}", lambda n=name: markdown_cells(n), markdown_cells("a"))
      for what, name in EVIL.items()),
    *(Case(f"a picture, {what}", lambda n=name: len(drawn(n)) > 1000, True)
      for what, name in DRAWN.items()),
    Case("a PDF, mathematics unknown", lambda: len(drawn(r"$\foo$", "pdf")) > 1000, True),
    Case("mathematics is text", lambda: drawn("$x$") == drawn("x"), False),
    *(Case(f"a legend, {name!r}", lambda n=name: [t.strip() for t in in_legend(n)], [name])
      for name in ("_x", "__", "x", "$x$")),
    *(Case(f"a page, {what}", lambda n=name: paged(n), True) for what, name in DRAWN.items()),
    *(Case(f"the command, {what}", lambda n=name: told(n),
           lambda said: said.status == 0 and not steers(said.out + said.err))
      for what, name in DRAWN.items()),
    Case("a column that steers the terminal", lambda: of_column("\x1b[2J"),
         lambda said: said.status == 2 and not steers(said.err)),
    Case("settings of the folder", lambda: with_settings("text.usetex: True\nfont.size: 30\n"),
         True),
]  # fmt: skip


# What readers raise.


def header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    """The beginning of an array of this shape in NumPy's format."""
    import io

    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def archive(content: bytes | None = None, x: bytes = b"", y: bytes = b"") -> Said:
    """The command on an .npz file of these bytes, or of entries of these."""
    import zipfile

    with zipfile.ZipFile("x.npz", "w") as file:
        file.writestr("x.npy", x or header((2, 4)) + bytes(32))
        file.writestr("y.npy", y or header((2,), "<i8") + bytes(16))
    if content is not None:
        Path("x.npz").write_bytes(content)
    return of_data("x.npz")


def of_data(source: str, *more: str) -> Said:
    code("def net(x):\n    return (x.reshape(len(x), -1).sum(axis=1) > 2).astype(int)\n")
    return cert("certify", "--data", source, "--model", "code_of_a_user:net", *SAMPLED, *more)


def encrypted() -> Said:
    """The bit of every entry that says so."""
    archive()
    content = bytearray(Path("x.npz").read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(mark)
        while at >= 0:
            content[at + place] |= 1
            at = content.find(mark, at + 4)
    return archive(bytes(content))


def renamed() -> Said:
    np.save("x.npy", np.ones((2, 4)))
    return archive(Path("x.npy").read_bytes())


def picture(content: bytes = b"", size: tuple[int, int] = (300, 300)) -> Said:
    from PIL import Image

    for folder in ("a", "b"):
        Path("images", folder).mkdir(parents=True)
        path = Path("images", folder, "1.png")
        Image.new("RGB", size).save(path)
        if content:
            whole = path.read_bytes()
            path.write_bytes(whole[:60] + content + whole[60 + len(content) : -40])
    return of_data("imagenet:images")


def held(content: Any) -> Said:
    code()
    torch.save(content, "net.pt")
    return certify("net.pt", "--arch", "code_of_a_user:net")


def of_bytes(name: str, content: bytes) -> Said:
    code()
    Path(name).write_bytes(content)
    more = [] if name.endswith("onnx") else ["--arch", "code_of_a_user:net", "--normalize", "none"]
    return certify(name, *more)


def within_itself() -> dict[str, Any]:
    content: dict[str, Any] = {}
    content["a"] = content
    return content


def turned(change: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, Any]:
    return {"normalize": "none", "state_dict": {k: change(v) for k, v in STATE.items()}}


def homeless() -> Any:
    """The folder of a user without a home."""
    from cert_models.networks.train import cache_folder

    with (
        mock.patch.dict(os.environ, {"CERT_CACHE": ""}),
        mock.patch("platformdirs.user_cache_path", side_effect=RuntimeError("no home\nat all")),
    ):
        return cache_folder()


def exported(cell: str) -> Any:
    """A log with such a cell, as a store may have it."""
    from cert_models.logs import Row, read_log, write_log

    write_log(
        "out.tsv", [Row(index=0, label=1, predict=1, radius=0.5, seconds=1.0, extra={"more": cell})]
    )
    return read_log("out.tsv")[0].extra["more"]


def cached_network() -> bool:
    """Whether a file that was cut short is no network, and leaves one that is."""
    from cert_models.networks.architectures import digits_network
    from cert_models.networks.train import _filled

    torch.save(digits_network().state_dict(), "whole.pt")
    Path("cut.pt").write_bytes(Path("whole.pt").read_bytes()[:500])
    found = [_filled(digits_network(), Path(n)) for n in ("whole.pt", "cut.pt", "none.pt")]
    return found == [True, False, False]


NPZ = refused("data must be", "'x.npz'")
IMAGE = refused("data must be an image", "1.png'")
UNREAD = refused("model must", "net.pt'")
READERS = [
    Case("npz, empty", lambda: archive(b""), NPZ),
    Case("npz, text", lambda: archive(b"hello"), refused("'x.npz'", "no archive")),
    Case("npz, cut", lambda: archive(b"PK\x03\x04" + bytes(50)), NPZ),
    Case("npz, encrypted", encrypted, NPZ),
    Case("npz, an array renamed", renamed, refused("'x.npz'", "no archive")),
    *(Case(f"npz, {shape}", lambda s=shape: archive(x=header(s)), NPZ)
      for shape in ((10**13, 4), (-1, 4), (10**30, 4))),
    Case("npz, no header", lambda: archive(x=b"\x93NUMPY\x01\x00\xff\xff{{{"), NPZ),
    *(Case(f"npz, {kind}", lambda k=kind: archive(x=header((2, 4), k) + bytes(128)), refused(
        "inputs must be", "x.npz")) for kind in ("<c8", "|V2", "<U1", "<M8[s]")),
    Case("a folder as npz", lambda: (Path("d.npz").mkdir(), of_data("d.npz"))[1],
         refused("'d.npz'")),
    Case("a picture of 1 x 30000", lambda: picture(size=(1, 30000)), IMAGE),
    Case("a picture of 30000 x 1", lambda: picture(size=(30000, 1)), IMAGE),
    Case("a picture, damaged", lambda: picture(b"\xff" * 40), IMAGE),
    Case("integer keys", lambda: held({1: STATE, 2: 3}), refused("normalize must be stated")),
    Case("integer keys of tensors", lambda: held({"state_dict": {1: torch.ones(2)}}), UNREAD),
    Case("an entry within itself", lambda: held(within_itself()), UNREAD),
    Case("tensors without values", lambda: held(turned(lambda v: v.to("meta"))), UNREAD),
    Case("sparse tensors", lambda: held(turned(lambda v: v.to_sparse())), UNREAD),
    Case("complex tensors", lambda: held(turned(lambda v: v * 1j)),
         refused("net.pt'", "complex numbers")),
    Case("a checkpoint, empty", lambda: of_bytes("net.pt", b""), UNREAD),
    *(Case(f"safetensors, {len(content)} bytes", lambda c=content: of_bytes("n.safetensors", c),
           refused("model must", "'n.safetensors'"))
      for content in (b"", b"\0" * 7 + b"\x40{}", b"\2" + b"\0" * 7 + b"[]",
                      (10**5).to_bytes(8, "little") + b"[" * 10**5)),
    *(Case(f"ONNX, {len(content)} bytes", lambda c=content: of_bytes("n.onnx", c),
           refused("model must", "'n.onnx'")) for content in (b"", b"\xff" * 100)),
    Case("no home", homeless, refused("CERT_CACHE must be a folder", "no home")),
    *(Case(f"a log, {cell!r}", lambda c=cell: exported(c), refused("columns must", "'out.tsv'"))
      for cell in ("a\tb", "a\nb", "a\u2028b", "a\rb")),
    Case("a log, text", lambda: exported("a b"), "a b"),
    Case("a cached network, cut short", cached_network, True),
    Case("a name of no encoding", lambda: told_of_bytes(b"l\xff.tsv"),
         lambda said: said.status == 0 and not steers(said.out)),
    Case("indices without end", lambda: of_data(data(), "--indices", "0-99999999999"),
         refused("--indices must be", "below 4")),
]  # fmt: skip


def told_of_bytes(name: bytes) -> Said:
    path = os.fsdecode(name)
    Path(path).write_text(HEAD + "0\t1\t1\t0.5\t1\t0\n")
    return cert("report", path, "--html", "a.html", "--picture", "a.png")


CASES = [
    Case(f"{kind}: {case}", case.act, case.right)
    for kind, cases in (
        ("imports", IMPORTS), ("rows", WATCHED), ("fingerprints", FINGERPRINTS), ("names", TEXTS),
        ("readers", READERS),
    )
    for case in cases
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile_files(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("code_of_a_user", "code_beside"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "inputs of data.npz|the model gets")
        case.check()
