"""A grammar fuzz of the command: every subcommand, odd values for its options, a fixed seed.

Whatever is asked, the answer is a result or one line: no traceback, no hang, and an exit
status that the command documents.
"""

from __future__ import annotations

import argparse
import random
import re
import signal
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import Said, cert

import cert_core as cc
from cert_models.cli import parser
from cert_models.store.counts import CountStore
from cert_models.store.runs import FixedPlan, Run, Votes

CALLS, CHUNKS, SECONDS = 528, 12, 60
STATUSES = {0, 1, 2, 130}

# Odd numbers, and what is odd where a name, a file or a list is meant.
NUMBERS = [
    "-1", "0", "-0", "1", "2", "3", "0.5", "1.5", "1e-320", "1e-300", "1e20", "1e300", "1e400",
    "nan", "inf", "-inf", "1_0", "٣", "0.4999999999999999", "0.9999999999999999", "9" * 19,
    "9" * 30, "1" + "0" * 400,
]  # fmt: skip
TEXTS = [
    "", " ", "true", "None", "é", "\x1b[31m", "a\nb", "%s", "'", "..", "/", ".", "nowhere/file",
    "empty", "garbage", "test.npz", "log.tsv", "runs.db", "net.pth", "toy:predict", "toy:raises",
    "toy:nothing", "toy:absent", "toy", "absent:f", "0,1", "1,0", "0-1", "1-0", ",", "0.1,0.2",
    "0.2,-0.1", "nan,1", "1,1", "l1", "l2", "mixed", "new.db", "new.txt", "new.png", "new.html",
    "run.toml", "new.toml", "timm:x",
]  # fmt: skip

SMALL = "--n0 10 --n 200 --max 2 --data test.npz --quiet"
# Legal calls, each to be changed in one or two places; "{}" stands for options of any noise.
LEGAL = [
    "radius {} --dim 2 --attack l2 --p 0.9",
    "radius {} --dim 64 --attack linf --p 0.999 --json",
    "bound {} --dim 2 --attack l1 --p 0.9 --radius 0.1",
    "bound {} --dim 2 --attack l2 --p 0.9 --radius 0.1 --method dkw --n 200",
    "verify --dims 1,2 --n 200",
    "compare --dim 4 --rms 0.25 --attack l2 --p 0.9,0.99 --noises gaussian,l2:0.25",
    "compare --dim 4 --rms 0.25 --attack l1 --radius 0.1 --noises gaussian --picture new.svg",
    "compare --store runs.db --attack l2 --at 0.1,0.2",
    "figures overlap", "figures dimension --json",
    "certify {} --attack l2 --model toy:predict " + SMALL,
    "certify {} --attack linf --model toy:network --votes soft --classes 3 " + SMALL,
    "certify {} --attack l1 --model toy:network --at 0.05,0.1 --store new.db " + SMALL,
    "certify {} --attack l2 --model toy:predict --store new.db --run again --out new.tsv " + SMALL,
    "certify {} --attack l2 --model net.pth --arch toy:small --normalize none --until 0.3 " + SMALL,
    "certify --route route.toml --attack l2 --model toy:predict --store new.db " + SMALL,
    "certify --config run.toml {} --max 1 --save-config new.toml", "runs runs.db --json",
    "radius --noise gaussian --rms 0.25 --dim 4 --attack l2 --p 0.9 --save-config new.toml",
    "export --store runs.db --out new.tsv --attack l1 --alpha 0.01",
    "import log.tsv {} --dim 2 --attack l2 --alpha 0.001 --n 1000 --store new.db --run log",
    "tune --noises gaussian,l2:0.5 --rms 0.1,0.3 --attack l2 --at 0.05 --budget 9000 --model "
    "toy:predict --store new.db --picture new.png " + SMALL,
    "tune --noises gaussian --rms 0.1,0.3 --attack l1 --average --rho 0.1 --budget 9000 --model "
    "toy:predict --tuning 0 --fresh 1 --out new.txt " + SMALL,
    "merge runs.db --store new.db",
    "train {} --data test.npz --arch toy:small --epochs 1 --quiet --out new.pth --classes 3",
    "train {} --data test.npz --arch toy:small --epochs 2 --held-out 0.5 --check-every 1 --quiet "
    "--out new.pth --classes 3",
    "report log.tsv --at 0.05,0.1 --rho 0.01", "report runs.db --attack l2 --format latex",
    "report runs.db --run counted --picture new.png --html new.html --json",
]  # fmt: skip
NOISES = [
    "--noise gaussian --sigma 0.25", "--noise laplace --b 0.2", "--noise l1 --b 0.2 --k 0.5",
    "--noise l2 --sigma 0.25 --k 0.5", "--noise linf --sigma 0.25",
    "--noise mixed --sigma 0.25 --k 0.5", "--noise radial --norm 2 --power 1.5 --scale 0.3",
]  # fmt: skip
# Legal values of these run for long, not wrongly.
ENDLESS = {"--n": "2000", "--n0": "20", "--epochs": "2", "--images": "2"}


@cache
def subcommands() -> dict[str, argparse.ArgumentParser]:
    for action in parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("the command has no subcommands")


def odd(choose: random.Random, option: str, usual: str) -> str:
    """Something else for an option: a number for a number four times in five."""
    number = bool(re.fullmatch(r"[\d.]+", usual))
    text = choose.choice(NUMBERS if number == (choose.random() < 0.8) else TEXTS)
    large = re.fullmatch(r"[1-9]\d{4,}", text) is not None
    return ENDLESS[option] if large and option in ENDLESS else text


def call(choose: random.Random, legal: str) -> list[str]:
    """A legal call with one or two changes: a value, an option more, or one less."""
    line = legal.format(choose.choice(NOISES)).split()
    actions = [
        action for action in subcommands()[line[0]]._actions
        if action.option_strings and not isinstance(action, argparse._HelpAction)
    ]  # fmt: skip
    for _ in range(choose.choice([1, 1, 2])):
        way, place = choose.random(), choose.randrange(len(line))
        if way < 0.65:
            values = [i for i in range(1, len(line)) if not line[i].startswith("--")]
            for place in choose.sample(values, min(1, len(values))):
                line[place] = odd(choose, line[place - 1], line[place])
        elif way < 0.9 and actions:
            action = choose.choice(actions)
            option = choose.choice(action.option_strings)
            usual = "1" if action.type in (int, float) else "name"
            given = [str(one) for one in action.choices or [odd(choose, option, usual)]]
            line += [option] if action.nargs == 0 else [option, choose.choice(given)]
        elif place:
            del line[place]
    return line


CONFIG = """
data = "test.npz"
model = "toy:predict"
attack = "l2"
n0 = 10
n = 200
quiet = true
"""
TOY = """
import numpy as np
import torch

def predict(batch):
    return (batch.reshape(len(batch), -1).sum(axis=1) > 0).astype(int)

def raises(batch):
    raise KeyError("the model's own error")

def nothing(batch):
    return None

def small(num_classes=3):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, num_classes))

network = small().eval()
"""


def files(folder: Path) -> None:
    """One small file of every kind that the command reads, and some of none."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(4, 4)).astype(np.float32), np.array([0, 1, 2, 1])
    np.savez(folder / "test.npz", x=x, y=y)
    (folder / "toy.py").write_text(TOY)
    branch = '[[branch]]\nnoise = "gaussian"\nsigma = 0.25\n'
    router = branch.replace("[[branch]]", "[router]\nlabels = [0, 1, 1]")
    (folder / "route.toml").write_text(router + 2 * branch)
    (folder / "empty").write_bytes(b"")
    (folder / "garbage").write_bytes(rng.bytes(300))
    (folder / "run.toml").write_text(CONFIG)
    rows = ["idx\tlabel\tpredict\tradius\tcorrect\ttime", "0\t1\t1\t0.12\t1\t0:00:01"]
    (folder / "log.tsv").write_text("\n".join(rows) + "\n")
    torch.manual_seed(0)
    torch.save(torch.nn.Linear(4, 3).state_dict(), folder / "net.pth")
    run = Run(
        plan=FixedPlan(10, 200), noise=cc.Gaussian(4, 0.25), seed=0, batch_size=50, num_classes=3,
        model="toy", model_fingerprint="", data="test.npz", data_fingerprint="", attack="l2",
        alpha=0.001,
    )  # fmt: skip
    votes = Votes(
        index=0,
        label=1,
        selection=np.array([1, 9, 0]),
        estimation=np.array([5, 190, 5]),
        seconds=0.1,
    )
    with CountStore(folder / "runs.db") as store:
        store.begin("counted", run, {})
        store.add("counted", votes)


def ended(*_: object) -> None:
    raise TimeoutError(f"no answer in {SECONDS} s")


@pytest.fixture
def impatient() -> Iterator[Callable[..., Said]]:
    """The command, given so many seconds."""
    before = signal.signal(signal.SIGALRM, ended)

    def asked(*arguments: str) -> Said:
        signal.alarm(SECONDS)
        try:
            return cert(*arguments)
        finally:
            signal.alarm(0)

    yield asked
    signal.signal(signal.SIGALRM, before)


def answered(said: Said) -> bool:
    """A result, or one line that says what is wrong, and that our code meant to say."""
    lines = [line for line in said.err.splitlines() if re.match(r"cert.*: error: ", line)]
    one = said.status in (0, 1, 130) or len(lines) == 1
    meant = not re.search(r"raised at .*(cert_core|cert_models|site-packages)", said.err)
    return said.status in STATUSES and one and meant and "Traceback" not in said.out + said.err


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_call_is_answered(
    chunk: int, impatient: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    files(tmp_path)
    choose = random.Random(chunk)
    for number in range(chunk * CALLS // CHUNKS, (chunk + 1) * CALLS // CHUNKS):
        arguments = call(choose, LEGAL[number % len(LEGAL)])
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # the command prints them
            try:
                said = impatient(*arguments)
            except Exception as error:
                pytest.fail(f"cert {arguments}: {type(error).__name__}: {error}")
        assert answered(said), (arguments, said)
