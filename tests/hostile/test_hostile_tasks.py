"""Tasks of many outputs and feature scales: what is wrong is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, Said, cert, refused

MODELS = """
import numpy as np
total = lambda batch: batch.astype(float).sum(axis=1)
table = lambda batch: np.stack([total(batch)] * 3, axis=1)
scalar = lambda batch: 1.0
words = lambda batch: np.array(["a"] * len(batch))
nothing = lambda batch: None
infinite = lambda batch: np.where(total(batch) > 1, np.inf, -np.inf)
nan = lambda batch: np.full(len(batch), np.nan)
changing = lambda batch: np.zeros((len(batch), 2 + (len(batch) < 50)))
raising = lambda batch: 1 / 0
maps = lambda batch: (batch > 0).astype(int)
floats = lambda batch: (batch > 0).astype(float)
high = lambda batch: np.full(batch.shape, 7)
centred = lambda batch: total(batch) - total(batch).mean()
more = lambda batch: np.zeros((len(batch), 2 + (batch.mean() > 0.6)))
"""
X = np.linspace(0.1, 0.9, 12, dtype=np.float32).reshape(4, 3)
RULE = ("--noise", "gaussian", "--sigma", "0.5", "--attack", "l2", "--n", "60", "--quiet")
REGRESSION = {"task": "regression", "model": "hm:total", "radius": "0.1"}
SEGMENTATION = {"task": "segmentation", "model": "hm:maps", "radius": "0.01", "n": "60"}


def act(y: Any = None, files: Any = (), **given: str | bool) -> Callable[[], Said]:
    """cert certify on four inputs with these options."""

    def run() -> Said:
        Path("hm.py").write_text(MODELS)
        for name, content in dict(files).items():
            if isinstance(content, str):
                Path(name).write_text(content, encoding="utf-8")
            else:
                np.save(name, content)
        np.savez("d.npz", x=X, **({} if y is None else {"y": np.asarray(y)}))
        words = [f"--{name.replace('_', '-')}" if value is True else f"--{name}={value}"
                 for name, value in given.items()]  # fmt: skip
        return cert("certify", "--data", "d.npz", *RULE, *words)

    return run


def row(name: str, *words: str, base: dict[str, Any] = REGRESSION, **given: Any) -> Case:
    return Case(name, act(**{**base, **given}), refused(*words))


CASES = [
    Case("no radius", act(task="regression", model="hm:total"), refused("--radius must be given")),
    row("radius below 0", "radius must be", radius="-1"),
    row("radius nan", "radius must be", radius="nan"),
    row("radius inf", "radius must be", radius="inf"),
    row("share 0", "share must be", share="0"),
    row("share 1", "share must be", share="1"),
    row("share nan", "share must be", share="nan"),
    row("share and mean", "choose one", share="0.5", mean=True),
    row("alpha 0", "alpha must be", alpha="0"),
    row("alpha .6", "alpha must be", alpha="0.6"),
    row("alpha of a mean", "alpha must be", alpha="2", mean=True),
    row("too few values", "n must be enough", n="3"),
    row("too large a radius", "n must be enough", radius="9"),
    row("no values", "n must be", n="0"),
    row("a store", "--store must come without", store="s.db"),
    row("a run", "--run must come without", run="a"),
    row("early stopping", "--at must come without", at="0.1"),
    row("to a width", "--until must come without", until="0.1"),
    row("shells", "--shells must come without", shells=True),
    row("a number of values by input", "outputs must be of one shape", model="hm:more"),
    row("values that hang on the batch", "the value of each row by itself", model="hm:centred"),
    row("runner-up", "--runner-up must come without", runner_up=True),
    row("soft", "--votes soft must come without", votes="soft"),
    row("a mean of values beyond 1", "samples must be in [0, 1]", mean=True),
    row("one number a batch", "predict(batch) must be of shape", model="hm:scalar"),
    row("text", "predict(batch) must be", model="hm:words"),
    row("nothing", "predict(batch) must be", model="hm:nothing"),
    row("nan", "predict(batch) must be a number", model="hm:nan"),
    row("another shape later", "predict(batch) must be of shape", model="hm:changing", n="70",
        **{"batch-size": "60"}),
    row("targets of other outputs", "targets must be of the model's outputs", model="hm:table",
        y=np.zeros((4, 2))),
    row("targets of other inputs", "targets must be of the 4 inputs", y=np.zeros(3)),
    row("targets that are nan", "targets must be numbers", y=[0, 1, np.nan, 2]),
    row("targets that are text", "targets must be", y=["a", "b", "c", "d"]),
    row("a picture by a wrong name", "must be a .png", picture="p.txt"),
    row("a picture in no folder", "folder that exists", picture="no/p.png"),
    row("a picture over the data", "--picture must", picture="d.npz"),
    row("a table over the data", "must not be a store", out="d.npz"),
    row("a table in no folder", "folder that exists", out="no/t.tsv"),
    row("somebody's file", "a table of this command", out="mine", files={"mine": "mine\n"}),
    row("an empty file", "a table of this command", out="mine", files={"mine": ""}),
    row("no JSON", "a table of this command", out="mine", files={"mine": "# {\nidx\n"}),
    row("JSON that is none", "a table of this command", out="mine", files={"mine": "# {}\nidx\n"}),
    row("scales of a missing file", "scales must be", scales="none.txt"),
    row("scales of words", "scales must be", scales="s", files={"s": "1 2 x"}),
    row("scales of nothing", "scales must be", scales="s", files={"s": " \n"}),
    row("too few scales", "scales must be of shape", scales="s", files={"s": "1 2"}),
    row("a scale of 0", "scales must be", scales="s", files={"s": "1 0 1"}),
    row("a scale below 0", "scales must be", scales="s", files={"s": "1 -1 1"}),
    row("a scale that is nan", "scales must be", scales="s", files={"s": "1 nan 1"}),
    row("a scale that is inf", "scales must be", scales="s", files={"s": "1 inf 1"}),
    row("a scale as Python writes it", "scales must be", scales="s", files={"s": "1 1_0 1"}),
    row("a scale in other digits", "scales must be", scales="s", files={"s": "1 \u0967 1"}),
    row("scales that are true", "scales must be", scales="b.npy", files={"b.npy": [True] * 3}),
    row("scales that are text", "scales must be", scales="t.npy", files={"t.npy": ["1", "2", "3"]}),
    row("scales that are complex", "scales must be", scales="c.npy", files={"c.npy": [1 + 1j] * 3}),
    row("scales that are no .npy", "scales must be", scales="s.npy", files={"s.npy": "1 2 3"}),
    row("share of maps", "--share and --mean", base=SEGMENTATION, share="0.5"),
    row("mean of maps", "--share and --mean", base=SEGMENTATION, mean=True),
    row("classes unknown", "--classes must be given", base=SEGMENTATION),
    row("one class", "num_classes must be", base=SEGMENTATION, classes="1"),
    row("labels beyond the classes", "labels in [0, 2)", base=SEGMENTATION, classes="2",
        model="hm:high"),
    row("labels that are floats", "predict(batch) must be", base=SEGMENTATION, classes="2",
        model="hm:floats"),
    row("too few votes", "n must be enough", base=SEGMENTATION, classes="2", n="5"),
    row("no selection", "n must be an integer >= 1", base=SEGMENTATION, classes="2", n0="0"),
    row("maps of real targets", "targets must be integers", base=SEGMENTATION, y=np.zeros((4, 3))),
    row("targets below 0", "targets must be integers", base=SEGMENTATION,
        y=np.full((4, 3), -1)),
    row("a picture of no maps", "picture must be of maps", base=SEGMENTATION, classes="2",
        picture="p.png"),
    Case("radius of single labels", act(y=[0, 1, 0, 1], model="hm:total", radius="0.1"),
         refused("--radius must come with --task")),
    Case("share of single labels", act(y=[0, 1, 0, 1], model="hm:total", share="0.5"),
         refused("--share must come with --task")),
    Case("picture of single labels", act(y=[0, 1, 0, 1], model="hm:total", picture="p.png"),
         refused("--picture must come with --task")),
    Case("a model that raises", act(**REGRESSION | {"model": "hm:raising"}),
         lambda said: said.status == 2 and "division by zero" in said.err
         and said.err.count("\n") == 1),
    Case("infinite values are values", act(**REGRESSION | {"model": "hm:infinite"}),
         lambda said: said.status == 0 and "4 intervals, 4 of them unbounded" in said.out
         and "width" not in said.out),
    Case("a picture of infinite values",
         act(**REGRESSION | {"model": "hm:infinite", "picture": "p.png"}),
         lambda said: said.status == 0 and Path("p.png").stat().st_size > 1000),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:inputs of")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_tasks(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "hm", raising=False)
    case.check()
