"""Training under noise: seeded, resumed without a trace, and certified from the command line."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models.layouts import write_cifar10, write_imagenet

import cert_core as cc
from cert_models.cli import main
from cert_models.data.datasets import Dataset, digits
from cert_models.data.formats import LazyArray
from cert_models.networks.architectures import digits_network, make_network
from cert_models.networks.models import load_checkpoint
from cert_models.networks.train import (
    Recipe,
    right_of,
    shifted_and_mirrored,
    train_checkpoint,
    train_under_noise,
)

NOISE = cc.L1Noise.with_rms(64, 0.2, 16.0)
SMALL = digits("train")
SMALL = Dataset("digits", SMALL.x[:130], SMALL.y[:130], 10)
RECIPE = Recipe(
    arch="digits", normalize="none", noise=NOISE, num_classes=10, epochs=3, batch_size=32, seed=5
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks train no faster on two threads, and far slower where a core is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def parameters(path: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(path, weights_only=True)["state_dict"])


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_same_seed_same_network(tmp_path: Path) -> None:
    torch.manual_seed(1)
    train_checkpoint(tmp_path / "a.pt", SMALL, RECIPE)
    torch.manual_seed(2)  # the global generator plays no part
    train_checkpoint(tmp_path / "b.pt", SMALL, RECIPE)
    other = dataclasses.replace(RECIPE, seed=6)
    train_checkpoint(tmp_path / "c.pt", SMALL, other)
    assert same(parameters(tmp_path / "a.pt"), parameters(tmp_path / "b.pt"))
    assert not same(parameters(tmp_path / "a.pt"), parameters(tmp_path / "c.pt"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "b.pt", "c.pt"]


@pytest.mark.parametrize("augment", [False, True])
def test_a_resumed_run_is_the_run_without_a_pause(tmp_path: Path, augment: bool) -> None:
    recipe = dataclasses.replace(RECIPE, augment=augment)
    whole, parts = tmp_path / "whole.pt", tmp_path / "parts.pt"
    train_checkpoint(whole, SMALL, recipe)

    def interrupt(epoch: int, loss: float, right: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_checkpoint(parts, SMALL, recipe, progress=interrupt)
    assert torch.load(parts, weights_only=True)["epoch"] == 2
    seen: list[int] = []
    train_checkpoint(parts, SMALL, recipe, resume=True, progress=lambda e, *_: seen.append(e))
    assert set(seen) == {2}
    assert same(parameters(whole), parameters(parts))
    before = parts.read_bytes()
    model = train_checkpoint(parts, SMALL, recipe, resume=True)
    assert parts.read_bytes() == before  # nothing left to do
    assert same(dict(model.state_dict()), parameters(whole))


def test_resuming_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    train_checkpoint(path, SMALL, RECIPE)
    for change, message in (
        ({"seed": 6}, "seed must be 5, as in the run to resume, got 6"),
        ({"epochs": 4}, "epochs must be 3"),
        ({"noise": cc.Gaussian(64, 0.2)}, "noise must be"),
        ({"normalize": "0.5,0.5"}, "normalize must be 'none'"),
    ):
        changed: Any = dataclasses.replace(RECIPE, **change)
        with pytest.raises(ValueError, match=message):
            train_checkpoint(path, SMALL, changed, resume=True)
    with pytest.raises(ValueError, match="data must be 'digits', as in the run to resume"):
        train_checkpoint(path, dataclasses.replace(SMALL, name="x"), RECIPE, resume=True)
    with pytest.raises(ValueError, match="out must be a file that does not exist yet"):
        train_checkpoint(path, SMALL, RECIPE)
    with pytest.raises(ValueError, match="in a folder that does"):
        train_checkpoint(tmp_path / "none" / "a.pt", SMALL, RECIPE)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="out must be a checkpoint of cert train to resume"):
        train_checkpoint(path, SMALL, RECIPE, resume=True)


def test_bad_recipes() -> None:
    for change, message in (
        ({"epochs": 0}, "epochs must be an integer >= 1"),
        ({"batch_size": 0}, "batch_size must be an integer >= 1"),
        ({"num_classes": 1}, "num_classes must be an integer >= 2"),
        ({"learning_rate": 0.0}, r"learning_rate must be a number in \(0, 1e30\]"),
    ):
        changed: Any = change
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(RECIPE, **changed)
    with pytest.raises(ValueError, match="noise must have dim = 64"):
        train_under_noise(digits_network(), SMALL, cc.Gaussian(63, 0.2), epochs=1, seed=0)


@pytest.mark.parametrize(
    "noise",
    [cc.Gaussian.with_rms(64, 0.15), cc.Laplace.with_rms(64, 0.15), NOISE],
    ids=lambda noise: noise.name,
)
def test_any_family_trains(noise: cc.Noise) -> None:
    torch.manual_seed(0)
    right: list[float] = []
    module = train_under_noise(
        digits_network(), SMALL, noise, epochs=20, seed=0, batch_size=16,
        progress=lambda epoch, loss, share: right.append(share),
    )  # fmt: skip
    assert not module.training
    assert np.mean(right[:9]) < 0.5
    assert np.mean(right[-9:]) > 0.8


def test_shifts_and_mirrors() -> None:
    x = np.random.default_rng(0).uniform(0.1, 1, size=(200, 2, 6, 5)).astype(np.float32)
    got = shifted_and_mirrored(x, np.random.default_rng(1))
    padded = np.pad(x, ((0, 0), (0, 0), (4, 4), (4, 4)))
    kinds = set()
    for image, result in zip(padded, got, strict=True):
        found = [
            (down, right, flip)
            for down in range(9)
            for right in range(9)
            for flip in (False, True)
            if np.array_equal(
                image[:, down : down + 6, right : right + 5][:, :, :: -1 if flip else 1], result
            )
        ]
        kinds |= set(found[:1])
        assert found
    assert {down for down, _, _ in kinds} == {right for _, right, _ in kinds} == set(range(9))
    assert {flip for _, _, flip in kinds} == {False, True}


def test_only_images_are_augmented() -> None:
    with pytest.raises(ValueError, match="augment must be for images"):
        shifted_and_mirrored(np.zeros((3, 64)), np.random.default_rng(0))


def patches(classes: int, each: int, size: int) -> tuple[Any, Any]:
    """Bytes (N, 3, size, size) of one coarse colour pattern a class, and labels."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, size=(classes, 3, 2, 2))
    y = np.tile(np.arange(classes), each)
    x = coarse[y].repeat(size // 2, axis=2).repeat(size // 2, axis=3)
    return np.clip(x + rng.normal(0, 8, size=x.shape), 0, 255).astype(np.uint8), y


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_train_and_certify_cifar10(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_cifar10(tmp_path / "data", *patches(10, 4, 32))
    common = ["--data", "cifar10:data", "--noise", "gaussian", "--sigma", "0.12", "--json"]
    trained = run(
        capsys, "train", *common, "--arch", "cifar_resnet20", "--epochs", "5", "--batch-size",
        "25", "--augment", "--out", "net.pth.tar", "--quiet",
    )  # fmt: skip
    assert trained["normalize"] == "cifar10"
    assert trained["inputs"] == 200
    saved = torch.load("net.pth.tar", weights_only=True)
    assert {"arch", "state_dict", "epoch", "optimizer"} <= saved.keys()
    assert "1.conv1.weight" in saved["state_dict"]
    assert saved["recipe"]["noise"] == cc.Gaussian(3072, 0.12).to_dict()
    certified = run(
        capsys, "certify", *common, "--model", "net.pth.tar", "--attack", "l2", "--n0", "20",
        "--n", "100", "--indices", "0,3,11-14", "--out", "log.tsv", "--quiet",
    )  # fmt: skip
    assert certified["inputs"] == 6
    assert certified["certified_accuracy"][0] >= 0.8
    lines = Path("log.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert [int(line.split("\t")[0]) for line in lines] == [0, 3, 11, 12, 13, 14]
    assert [int(line.split("\t")[1]) for line in lines] == [0, 3, 1, 2, 3, 4]


def test_train_and_certify_imagenet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    x, y = patches(3, 4, 240)
    images = {
        f"n{7 * c:08d}": [x[i].transpose(1, 2, 0) for i in np.flatnonzero(y == c)] for c in range(3)
    }
    write_imagenet(tmp_path / "data", images)
    (tmp_path / "data" / "train").symlink_to(tmp_path / "data" / "val")
    (tmp_path / "smallnet.py").write_text(
        "from torch import nn\n"
        "def make(classes):\n"
        "    return nn.Sequential(nn.AvgPool2d(112), nn.Flatten(), nn.Linear(12, classes))\n",
        encoding="utf-8",
    )
    common = ["--data", "imagenet:data", "--noise", "l2", "--sigma", "0.25", "--json", "--quiet"]
    trained = run(
        capsys, "train", *common, "--arch", "smallnet:make", "--epochs", "20", "--batch-size",
        "6", "--learning-rate", "0.1", "--out", "net.pt",
    )  # fmt: skip
    assert (trained["inputs"], trained["num_classes"]) == (12, 1000)
    assert trained["normalize"] == "imagenet"
    certified = run(
        capsys, "certify", *common, "--model", "net.pt", "--arch", "smallnet:make",
        "--attack", "l2", "--n0", "5", "--n", "20", "--skip", "2", "--max", "5",
    )  # fmt: skip
    assert certified["certified_accuracy"][0] == 1.0


def test_certify_a_resnet50_in_the_published_layout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A constant classifier of the published size: all of its votes are for class 7."""
    from cert_models.networks.architectures import resnet50

    monkeypatch.chdir(tmp_path)
    network = resnet50()
    with torch.no_grad():
        network.fc.bias[7] = 1e6  # type: ignore[operator, index]
    state = {f"1.module.{key}": value for key, value in network.state_dict().items()}
    content = {"arch": "resnet50", "state_dict": state, "epoch": 90, "optimizer": {}}
    torch.save(content, "net.pth.tar")
    picture = np.random.default_rng(0).integers(0, 256, size=(260, 300, 3), dtype=np.uint8)
    write_imagenet(tmp_path / "data", {"n00000007": [picture]})
    certified = run(
        capsys, "certify", "--data", "imagenet:data", "--model", "net.pth.tar", "--normalize",
        "imagenet", "--noise", "gaussian", "--sigma", "0.5", "--attack", "l2", "--n0", "1",
        "--n", "12", "--batch-size", "4", "--json", "--quiet",
    )  # fmt: skip
    assert certified["certified_accuracy"][0] == 1.0
    radius = 0.5 * float(
        torch.distributions.Normal(0, 1).icdf(
            torch.tensor(0.001 ** (1 / 12.0), dtype=torch.float64)
        )
    )
    (row,) = certified["rows"]
    assert row["radius"] == pytest.approx(radius, rel=1e-6)


WRONG = [
    (["--arch", "vgg"], "arch must be cifar_resnet20"),
    (["--arch", "digits", "--epochs", "0"], "epochs must be an integer >= 1"),
    (["--arch", "digits", "--out", "here.pt"], "out must be a file that does not exist yet"),
    (["--arch", "digits", "--data", "cifar10:nowhere"], "no file data_batch_1"),
    (["--arch", "digits", "--normalize", "no"], "normalize must be imagenet"),
    (["--arch", "digits", "--dim", "9"], "--dim must be 64"),
    (["--arch", "digits", "--seed", "-1"], "seed must be an integer in [0,"),
    (["--arch", "digits", "--classes", "5"], "num_classes must be above the largest label, 9"),
    (["--arch", "cifar_resnet20"], "arch must give 10 scores for an input of shape (1, 8, 8)"),
    (["--arch", "digits", "--device", "foo"], "device must be one that torch has here, got 'foo'"),
    (["--arch", "digits", "--data", "flat.npz", "--augment"], "arch must give 2 scores"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[m[:30] for _, m in WRONG])
def test_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("here.pt").write_bytes(b"mine")
    np.savez("flat.npz", x=np.zeros((4, 64)), y=np.arange(4) % 2)
    given = ["train", "--data", "digits", "--noise", "gaussian", "--sigma", "0.1", "--out", "a.pt"]
    assert main([*given, *arguments, "--quiet"]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""
    assert {p.name for p in tmp_path.iterdir()} == {"here.pt", "flat.npz"}
    assert Path("here.pt").read_bytes() == b"mine"


def test_the_model_is_what_the_file_says(tmp_path: Path) -> None:
    module = train_checkpoint(tmp_path / "a.pt", SMALL, RECIPE)
    loaded = load_checkpoint(tmp_path / "a.pt", 10)
    x = torch.from_numpy(np.asarray(SMALL.x))
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x), module(x), rtol=0, atol=0)


def test_parts_are_apart() -> None:
    """Every input is in one of the two, with its label, whatever the seed."""
    for seed, share in ((0, 0.1), (1, 0.5), (2, 0.99)):
        rest, held = SMALL.apart(share, seed)
        assert len(held) == round(share * len(SMALL))
        rows = [
            (x.tobytes(), y) for part in (rest, held) for x, y in zip(part.x, part.y, strict=True)
        ]
        assert sorted(rows) == sorted(
            (x.tobytes(), y) for x, y in zip(SMALL.x, SMALL.y, strict=True)
        )
    same_again, _ = SMALL.apart(share, seed)
    assert same_again.y.tolist() == rest.y.tolist()
    other, _ = SMALL.apart(share, seed + 1)
    assert not np.array_equal(other.x, rest.x)
    lazy = dataclasses.replace(SMALL, x=LazyArray(SMALL.x.shape, lambda rows: SMALL.x[rows]))
    for part, whole in zip(lazy.apart(share, seed), (rest, held), strict=True):
        assert np.array_equal(part.x[:], whole.x)
        assert np.array_equal(part.x[np.array([0])], whole.x[:1])
    for bad in (0.0, 1.0, -0.5, 0.001, 0.999, float("nan")):
        with pytest.raises(ValueError, match=r"held_out must be in \(0, 1\)"):
            SMALL.apart(bad, 0)


def test_what_is_held_out_changes_no_training(tmp_path: Path) -> None:
    """The parameters are those of a training that tries nothing; the file has every trial, the
    last one that of the network it holds; a pause changes none."""
    rest, held = SMALL.apart(0.3, 0)
    train_checkpoint(tmp_path / "plain.pt", rest, RECIPE)
    seen: list[dict[str, int]] = []
    train_checkpoint(
        tmp_path / "tried.pt", rest, RECIPE, held_out=held, check_every=2, tried=seen.append
    )
    assert same(parameters(tmp_path / "plain.pt"), parameters(tmp_path / "tried.pt"))
    kept = torch.load(tmp_path / "tried.pt", weights_only=True)["held_out"]
    assert [trial["epoch"] for trial in kept["tried"]] == [2, 3]
    assert kept["tried"] == seen
    assert kept["inputs"] == len(held)
    model = load_checkpoint(tmp_path / "tried.pt", 10)
    start = RECIPE.epochs * len(rest)
    clean, noisy = right_of(model, held, NOISE, seed=5, start=start, batch_size=7)
    assert seen[-1] == {"epoch": 3, "clean": clean, "noisy": noisy}
    scores = model(torch.from_numpy(held.x)).argmax(dim=1).numpy()
    assert clean == (scores == held.y).sum()
    assert not model.training
    right_of(model.train(), held, NOISE, seed=5, start=start, batch_size=7)
    assert model.training

    def interrupt(epoch: int, loss: float, right: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    parts: dict[str, Any] = {"held_out": held, "check_every": 2}
    with pytest.raises(KeyboardInterrupt):
        train_checkpoint(tmp_path / "parts.pt", rest, RECIPE, progress=interrupt, **parts)
    for other in (None, held.of(np.arange(5))):
        with pytest.raises(ValueError, match="held_out must be the 39 inputs held out, as in"):
            train_checkpoint(tmp_path / "parts.pt", rest, RECIPE, resume=True, held_out=other)
    train_checkpoint(tmp_path / "parts.pt", rest, RECIPE, resume=True, **parts)
    assert torch.load(tmp_path / "parts.pt", weights_only=True)["held_out"] == kept
    with pytest.raises(ValueError, match="held_out must be none, as in the run to resume"):
        train_checkpoint(tmp_path / "plain.pt", rest, RECIPE, resume=True, held_out=held)


HELD: list[tuple[Any, dict[str, Any], str]] = [
    (SMALL, {}, "held_out must be inputs that are not trained on"),
    (Dataset("d", np.zeros((3, 2, 2), np.float32), np.zeros(3, int), 10), {}, "shape"),
    (Dataset("d", SMALL.x[:3], SMALL.y[:3] + 9, 20), {}, "below the 10 classes"),
    (SMALL.of(np.arange(3)), {"check_every": 0}, "check_every must be an integer >= 1"),
]


@pytest.mark.parametrize(("held", "more", "message"), HELD)
def test_what_may_not_be_held_out(
    tmp_path: Path, held: Any, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train_checkpoint(tmp_path / "a.pt", SMALL, RECIPE, held_out=held, **more)
    assert not (tmp_path / "a.pt").exists()


def test_held_out_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a share, and as data; the means are told as they come; how to go on after Ctrl-C."""
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", x=SMALL.x, y=SMALL.y)
    np.savez("b.npz", x=digits("test").x[:50], y=digits("test").y[:50])
    command = ["train", "--data", "a.npz", "--arch", "digits", "--noise", "gaussian", "--sigma",
               "0.2", "--epochs", "3", "--check-every", "2"]  # fmt: skip
    assert main([*command, "--held-out", "0.2", "--out", "share.pt"]) == 0
    out, err = capsys.readouterr()
    assert [line for line in err.splitlines() if "epoch 2, 26 inputs held out: " in line]
    assert "104 inputs of a.npz" in out
    assert "epoch 3, 26 inputs held out: " in out
    assert main([*command, "--held-out", "b.npz", "--out", "b.pt", "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    said = json.loads(out)
    assert said["inputs"] == 130
    assert said["held_out"]["inputs"] == 50
    assert [trial["epoch"] for trial in said["held_out"]["tried"]] == [2, 3]
    for bad, message in (
        ("1.5", "held_out must be in (0, 1)"), ("nan", "held_out must be in (0, 1)"),
        ("none.npz", "none.npz"), ("a.npz", "held_out must be inputs that are not trained on"),
    ):  # fmt: skip
        assert main([*command, "--held-out", bad, "--out", "bad.pt", "--quiet"]) == 2
        assert message in capsys.readouterr().err
        assert not Path("bad.pt").exists()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cert_models.networks.train.train_checkpoint", interrupted)
    assert main([*command, "--out", "c.pt", "--quiet"]) == 130
    told = "cert: interrupted: the same command with --resume goes on from c.pt\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_library_s_networks(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not there is said how to install; of one that is its own names alone are
    taken, with as many classes as are asked for."""
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, library, None)
        with pytest.raises(ValueError, match=f"arch must name an installed library.*{library}$"):
            make_network(f"{library}:resnet18", 7)
    try:
        __import__(library)
    except Exception as error:  # it may be built for another torch
        pytest.skip(f"{library}: {error}")
    network = make_network(f"{library}:resnet18", 7).eval()
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    for name in ("hf-hub:a/b", "", "ResNet18", "fcn_resnet50"):
        with pytest.raises(ValueError, match=f"arch must be {library}:NAME of one of its"):
            make_network(f"{library}:{name}", 7)


def test_a_loss_that_is_none_ends_the_training(tmp_path: Path) -> None:
    """NaN would be votes for the first class; what was kept before stays."""
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30)
    with pytest.raises(ValueError, match=r"learning_rate must be such that the loss stays finite"):
        train_checkpoint(tmp_path / "a.pt", SMALL, recipe)
    assert not (tmp_path / "a.pt").exists()
    for wrong in ({"learning_rate": 1e300}, {"seed": 2**64}, {"seed": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            dataclasses.replace(RECIPE, **wrong)


def test_a_row_of_nan_is_not_right() -> None:
    class Unsure(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(float("nan")))

        def forward(self, batch: Any) -> Any:
            return batch.flatten(1)[:, :10] * self.scale

    assert right_of(Unsure(), SMALL, NOISE, seed=0, start=0, batch_size=50) == (0, 0)


@pytest.mark.parametrize("tried", [None, "ab", 3, [1]])
def test_trials_that_are_none_are_refused(tried: Any, tmp_path: Path) -> None:
    rest, held = SMALL.apart(0.3, 0)
    recipe = dataclasses.replace(RECIPE, epochs=1)
    train_checkpoint(tmp_path / "a.pt", rest, recipe, held_out=held)
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    state["held_out"]["tried"] = tried
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="out must be a checkpoint of cert train to resume"):
        train_checkpoint(tmp_path / "a.pt", rest, recipe, resume=True, held_out=held)
