"""Kills at random moments and damaged stores, held to an undisturbed run: the same counts, or a
refusal; never less."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import cert

from cert_models.store.counts import CountStore
from cert_models.store.runs import FixedPlan
from cert_models.store.storage import StoreError

INPUTS = 60
ENDS = ("", "-wal", "-shm")  # of the files that a killed run leaves
CODE = """
import time
import torch

def predict(batch):
    time.sleep(0.004)
    return (batch.mean(axis=(1, 2)) > 0.5).astype(int) + (batch[:, 0, 0] > 0.9)

def network(num_classes=3):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, num_classes))
"""
NOISE = ["--noise", "laplace", "--b", "0.03", "--data", "data.npz", "--classes", "3", "--quiet"]
CERTIFY = [
    "certify", *NOISE, "--attack", "l1", "--model", "killed:predict", "--n0", "20", "--n", "300",
]  # fmt: skip
TRAIN = [
    "train", *NOISE, "--arch", "killed:network", "--normalize", "none", "--epochs", "5",
    "--batch-size", "4", "--resume", "--out",
]  # fmt: skip
# Forks of a process that has imported all: kills fall into the work, not into the imports.
KILLER = """
import json, os, random, signal, sys, threading, time
import torch
from tqdm import tqdm
torch.set_num_threads(1)
from cert_models.cli import main
commands, longest, kills, ready = json.loads(sys.argv[1])
main(ready)
rng, ends = random.Random(0), []

def begin(command):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # until the work begins
    child = os.fork()
    if child:
        return child
    try:
        sys.stdout = open(os.devnull, "w")
        tqdm.set_lock(threading.RLock())  # not the one of all children, which the dead may hold
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        os._exit(main(command))
    except KeyboardInterrupt:
        os._exit(130)

for kill in range(kills):
    children = [begin(command) for command in commands]
    for child in rng.sample(children, len(children)):
        time.sleep(rng.uniform(0.0, longest * (kill + 1) / kills))  # soon at first: work is left
        os.kill(child, rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
    ends += [os.waitpid(child, 0)[1] for child in children]
children = [begin(command) for command in commands]
last = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(json.dumps([sum(end != 0 for end in ends), last]))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set and a model in a folder of one's own."""
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(INPUTS, 2, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=(x.mean(axis=(1, 2)) > 0.5).astype(int))
    (tmp_path / "killed.py").write_text(CODE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    sys.modules.pop("killed", None)


def killed(commands: list[list[str]], longest: float, kills: int, ready: list[str]) -> None:
    """The commands, together, killed so often and then left alone; some kills must tell."""
    done = subprocess.run(
        [sys.executable, "-c", KILLER, json.dumps([commands, longest, kills, ready])],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    died, last = json.loads(done.stdout.splitlines()[-1])
    assert died > 2
    assert 0 in last
    assert not list(Path().glob(".cert-*"))


def content(path: str) -> list[Any]:
    with CountStore(path, readonly=True) as store:
        return [
            (v.index, v.label, v.selection.tolist(), v.estimation.tolist())
            for v in store.votes(store.only(), FixedPlan)
        ]


@pytest.fixture
def whole() -> list[Any]:
    """The counts of an undisturbed run."""
    assert cert(*CERTIFY, "--store", "whole.db").status == 0
    found = content("whole.db")
    assert len(found) == INPUTS
    return found


@pytest.mark.slow
def test_one_process_killed(whole: list[Any]) -> None:
    command = [*CERTIFY, "--store", "s.db", "--out", "s.tsv"]
    killed([command], 0.3, 25, [*CERTIFY, "--max", "1"])
    assert content("s.db") == whole
    assert len(Path("s.tsv").read_text(encoding="utf-8").splitlines()) == INPUTS + 1


@pytest.mark.slow
def test_a_search_killed() -> None:
    """It ends as if it had not been, and each input was counted once."""
    command = [
        "tune", "--data", "data.npz", "--model", "killed:predict", "--noises", "laplace", "--rms",
        "0.02,0.05,0.1,0.3", "--attack", "l1", "--at", "0.02", "--average", "--budget", "20000",
        "--classes", "3", "--n0", "20", "--n", "100", "--quiet", "--json",
    ]  # fmt: skip
    whole = cert(*command, "--store", "whole.db")
    assert whole.status == 0
    killed([[*command, "--store", "s.db"]], 0.3, 25, [*command, "--store", "warm.db"])
    after = cert(*command, "--store", "s.db")
    told, again = ({**json.loads(said.out), "store": ""} for said in (whole, after))
    assert told == again
    stores = [CountStore(path, readonly=True) for path in ("whole.db", "s.db")]
    runs = [{name: store.indices(name) for name in store.runs()} for store in stores]
    for store in stores:
        store.close()
    assert runs[0] == runs[1]


@pytest.mark.slow
def test_merges_killed(whole: list[Any]) -> None:
    parts = []
    for i in range(3):
        parts.append(f"part{i}.db")
        more = ["--store", parts[-1], "--indices", f"{20 * i}-{20 * i + 19}"]
        assert cert(*CERTIFY, *more).status == 0
    killed([["merge", *parts, "--store", "s.db"]], 0.03, 40, ["merge", *parts, "--store", "w.db"])
    assert content("s.db") == whole
    assert [len(content(part)) for part in parts] == [20] * 3


@pytest.mark.slow
def test_training_killed() -> None:
    import torch

    assert cert(*TRAIN, "whole.pth").status == 0
    killed([[*TRAIN, "s.pth"]], 0.2, 25, [*TRAIN, "warm.pth"])
    one, other = (torch.load(name, weights_only=True) for name in ("whole.pth", "s.pth"))
    assert one["epoch"] == other["epoch"]
    for name, weights in one["state_dict"].items():
        assert torch.equal(weights, other["state_dict"][name])


def flipped(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def zeroed(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    low = rng.randrange(len(data))
    high = min(len(data), low + rng.choice([16, 512, 4096, len(data)]))
    data[low:high] = bytes(high - low)
    path.write_bytes(data)


def removed(path: Path, rng: random.Random) -> None:
    path.unlink()


def swapped(path: Path, rng: random.Random) -> None:
    """An earlier copy, or that of another run."""
    other = Path(rng.choice(["early", "other"]), path.name)
    if other.exists():
        shutil.copy(other, path)


# And the least that a reader may see of 50 inputs.
DAMAGES = {flipped: 50, cut: 50, zeroed: 50, removed: 50, swapped: 30}


def left(folder: str, parts: list[int]) -> None:
    """A store as a kill leaves it: part in the file, part in the log beside it."""
    Path(folder).mkdir()
    first, last = parts
    more = ["--store", f"{folder}/run.db"]
    if first:
        assert cert(*CERTIFY, *more, "--max", str(first)).status == 0
    with CountStore("whole.db", readonly=True) as source, CountStore(f"{folder}/run.db") as store:
        store.begin("default", source.runs()["default"], {})
        for votes in list(source.votes("default", FixedPlan))[first:last]:
            store.add("default", votes)
        for end in ENDS:
            shutil.copy(f"{folder}/run.db{end}", f"{folder}/s.db{end}")


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_stores(damage: Callable[[Path, random.Random], None], whole: list[Any]) -> None:
    left("now", [20, 50])
    left("early", [10, 30])
    Path("other").mkdir()
    assert cert(*CERTIFY, "--seed", "1", "--store", "other/s.db", "--max", "40").status == 0
    rng, answers = random.Random(7), []
    for _ in range(40):
        for path in Path().glob("s.db*"):
            path.unlink()
        for end in ENDS:
            shutil.copy(f"now/s.db{end}", f"s.db{end}")
        damage(Path(rng.choice(["s.db", "s.db-wal"])), rng)
        with contextlib.suppress(StoreError):  # which it is where the file is gone, too
            found = content("s.db")
            assert len(found) >= DAMAGES[damage]
            assert set(map(str, found)) <= set(map(str, whole))
        answers.append(cert(*CERTIFY, "--store", "s.db"))
        if answers[-1].status == 0:
            assert content("s.db") == whole
    statuses = {answer.status for answer in answers}
    assert 2 in statuses  # it did damage
    assert statuses <= {0, 2}
