"""Architectures and checkpoints as published, normalisation, and the check of accuracy."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import published
from torch import nn

from cert_models.cli import main
from cert_models.data.datasets import Dataset
from cert_models.networks import architectures, models

PUBLISHED = {
    "cifar_resnet20": (published.cifar_resnet(20), 272_474),
    "cifar_resnet110": (published.cifar_resnet(110), 1_730_714),
    "resnet50": (published.resnet50(), 25_557_032),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_shapes_are_the_published_ones(name: str) -> None:
    shapes, total = PUBLISHED[name]
    classes = shapes["fc.bias"][0]
    network = architectures.ARCHITECTURES[name](classes)
    assert {key: tuple(v.shape) for key, v in network.state_dict().items()} == shapes
    assert list(network.state_dict()) == list(shapes)  # optimizers keep the order
    assert sum(p.numel() for p in network.parameters()) == total


def test_images_need_no_axis_of_channels() -> None:
    torch.manual_seed(0)
    network, x = architectures.ARCHITECTURES["mnist"](7).eval(), torch.rand(3, 28, 28)
    assert network(x).shape == (3, 7)
    assert torch.equal(network(x), network(x[:, None]))
    assert sum(p.numel() for p in network.parameters()) == 52_071


def block_by_hand(state: dict[str, torch.Tensor], name: str, x: Any, stride: int) -> Any:
    """A residual block from its parameters, by nn.functional alone."""
    f = nn.functional

    def conv_norm(x: Any, conv: str, norm: str, stride: int) -> Any:
        weight = state[f"{name}.{conv}.weight"]
        x = f.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        keys = ("running_mean", "running_var", "weight", "bias")
        return f.batch_norm(x, *(state[f"{name}.{norm}.{key}"] for key in keys))

    deep = f"{name}.conv3.weight" in state
    out = f.relu(conv_norm(x, "conv1", "bn1", 1 if deep else stride))
    out = conv_norm(out, "conv2", "bn2", stride if deep else 1)
    out = conv_norm(f.relu(out), "conv3", "bn3", 1) if deep else out
    if f"{name}.downsample.0.weight" in state:
        x = conv_norm(x, "downsample.0", "downsample.1", stride)
    return f.relu(out + x)


@pytest.mark.parametrize(
    ("name", "depths", "size"),
    [("cifar_resnet20", (3, 3, 3), 32), ("resnet50", (3, 4, 6, 3), 64)],
)
def test_what_a_network_computes(name: str, depths: tuple[int, ...], size: int) -> None:
    torch.manual_seed(0)
    network = architectures.ARCHITECTURES[name](10).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.8, 1.2)  # type: ignore[union-attr]
    state, f = network.state_dict(), nn.functional
    x = torch.rand(2, 3, size, size)
    wide = name == "resnet50"
    y = f.conv2d(x, state["conv1.weight"], stride=2 if wide else 1, padding=3 if wide else 1)
    y = f.batch_norm(
        y, *(state[f"bn1.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    )
    y = f.max_pool2d(f.relu(y), 3, 2, 1) if wide else f.relu(y)
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            stride = 2 if block == 0 and stage > 1 else 1
            y = block_by_hand(state, f"layer{stage}.{block}", y, stride)
    expected = f.linear(y.mean(dim=(2, 3)), state["fc.weight"], state["fc.bias"])
    with torch.inference_mode():
        torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-4)


def network20(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return architectures.cifar_resnet20(10).eval()


def renamed(state: Any, prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in state.items()}


STATE = network20().state_dict()
X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def scores(model: Any) -> Any:
    with torch.inference_mode():
        return model(X)


LAYOUTS: dict[str, Any] = {
    "published": {
        "arch": "cifar_resnet20",
        "state_dict": renamed(STATE, "1."),
        "epoch": 90,
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]},
    },
    "published, parallel": {
        "arch": "cifar_resnet20", "epoch": 90, "state_dict": renamed(STATE, "1.module."),
    },
    "parallel outside": {"state_dict": renamed(STATE, "module.1.")},
    "parallel": {"state_dict": renamed(STATE, "module.")},
    "bare": dict(STATE),
    "bare, parallel": renamed(STATE, "module."),
    "net": {"net": STATE, "acc": 93.1},
    "model": {"model_state_dict": STATE},
    "old": {k: v for k, v in STATE.items() if not k.endswith("num_batches_tracked")},
    "arguments": {"state_dict": dict(STATE), "args": argparse.Namespace(lr=0.1, arch="x")},
    "numpy scalar": {"state_dict": dict(STATE), "best": np.float64(93.1)},
}  # fmt: skip


def same_parameters(model: Any) -> bool:
    found = model.network.state_dict()
    return found.keys() == STATE.keys() and all(torch.equal(found[k], STATE[k]) for k in STATE)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("zipped", [True, False])
def test_layouts(tmp_path: Path, layout: str, zipped: bool) -> None:
    path = tmp_path / "checkpoint.pth.tar"
    torch.save(LAYOUTS[layout], path, _use_new_zipfile_serialization=zipped)
    model = models.load_model(str(path), 10, arch="cifar_resnet20", normalize="cifar10")
    assert not any(module.training for module in model.modules())
    assert same_parameters(model)
    mean = model.normalize.mean.reshape(-1)
    torch.testing.assert_close(mean, torch.tensor([0.4914, 0.4822, 0.4465]))


@pytest.mark.parametrize("prefix", ["", "module.", "1.module."])
def test_safetensors(tmp_path: Path, prefix: str) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    save_file(renamed(STATE, prefix), path, metadata={"arch": "cifar_resnet20"})
    model = models.load_model(str(path), 10, normalize="none")
    assert same_parameters(model)
    with torch.inference_mode():
        torch.testing.assert_close(scores(model), network20()(X), rtol=0, atol=0)


def test_an_architecture_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mynet.py").write_text(
        "from torch import nn\n"
        "def make(classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(3072, classes))\n"
        "def wrong(classes):\n    return classes\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3072, 4)).eval()
    torch.save(linear.state_dict(), tmp_path / "own.pt")
    path = str(tmp_path / "own.pt")
    model = models.load_model(path, 4, arch="mynet:make", normalize="0.5,0.25")
    torch.testing.assert_close(scores(model), scores(lambda x: linear((x - 0.5) / 0.25)))
    with pytest.raises(ValueError, match="arch must name a function that makes a torch module"):
        models.load_model(path, 4, arch="mynet:wrong", normalize="none")
    with pytest.raises(ValueError, match="arch must be an importable module:name"):
        models.load_model(path, 4, arch="mynet:nothing", normalize="none")


@pytest.mark.parametrize(
    ("text", "arch", "mean", "std"),
    [
        ("imagenet", "resnet50", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("cifar10", "cifar_resnet20", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        ("center", "resnet50", (0.485, 0.456, 0.406), (1, 1, 1)),
        ("center", "cifar_resnet110", (0.4914, 0.4822, 0.4465), (1, 1, 1)),
        ("none", "resnet50", (0, 0, 0), (1, 1, 1)),
        ("0.5,0.25", "resnet50", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        ("0.1,0.2,0.3,1,2,3", "resnet50", (0.1, 0.2, 0.3), (1, 2, 3)),
    ],
)
def test_normalization(text: str, arch: str, mean: Any, std: Any) -> None:
    layer = architectures.normalization(text, arch)
    want = (X - torch.tensor(mean).reshape(3, 1, 1)) / torch.tensor(std).reshape(3, 1, 1)
    torch.testing.assert_close(layer(X), want)
    assert layer.state_dict() == {}


@pytest.mark.parametrize(
    "text", ["", "cifar", "0.5", "0.5,0", "0.5,-1", "1,2,3", "nan,1", "1,2,3,4"]
)
def test_no_normalization(text: str) -> None:
    with pytest.raises(
        ValueError,
        match="normalize must be imagenet, cifar10, center, none, mask, mask:NULL or m,s",
    ):
        architectures.normalization(text, "resnet50")


class Foreign:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    victim, path = tmp_path / "touched", tmp_path / "evil.pth"
    torch.save({"state_dict": dict(STATE), "more": Foreign(victim)}, path)
    with pytest.raises(ValueError, match=r"it asks for the class \w+.*save \{'arch'"):
        models.load_checkpoint(path, 10, arch="cifar_resnet20", normalize="none")
    assert not victim.exists()
    torch.load(path, weights_only=False)  # the very file does it where it may
    assert victim.exists()


def test_bad_checkpoints(tmp_path: Path) -> None:
    def refused(content: Any, message: str, **options: Any) -> None:
        path = tmp_path / "bad.pth"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        given = {"arch": "cifar_resnet20", "normalize": "none", "num_classes": 10} | options
        with pytest.raises(ValueError, match="must") as caught:
            models.load_model(str(path), **given)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    refused(b"", "model must be a file of tensors and plain values")
    refused(b"not a checkpoint", "model must be a file of tensors and plain values")
    refused(pickle.dumps({1: 2}), "model must be a file of tensors and plain values")
    refused([1, 2], "it holds a list")
    refused({"epoch": 3}, "no state dict among its entries epoch")
    refused({}, "no state dict")
    refused(STATE, "arch must be stated", arch=None)
    refused(STATE, "normalize must be stated", normalize=None)
    refused(STATE, "normalize must be imagenet", normalize="zero")
    refused(STATE, "lacks layer1.10.bn1.bias", arch="cifar_resnet110")
    refused(STATE, "lacks layer1.0.bn3.bias", arch="resnet50")
    refused(STATE, "in another shape fc.bias (10,), not (100,)", num_classes=100)
    refused(STATE, "arch must be cifar_resnet20", arch="vgg")
    refused({**STATE, "extra": torch.zeros(1)}, "has besides extra")
    refused({k: v for k, v in STATE.items() if k != "fc.bias"}, "lacks fc.bias")
    with pytest.raises(ValueError, match="no such file"):
        models.load_model(str(tmp_path / "nowhere.pth"), 10, arch="resnet50", normalize="none")
    with pytest.raises(ValueError, match="normalize must not be given for 'digits-cnn'"):
        models.load_model("digits-cnn", 10, normalize="none")
    with pytest.raises(ValueError, match="model must be digits-cnn or module:function or a check"):
        models.load_model("resnet", 10)


def shifted_data() -> tuple[nn.Module, Dataset]:
    """A classifier that tells the sign of the mean of normalised inputs, and its inputs."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 3072))  # type: ignore[operator]
        network[1].bias.zero_()  # type: ignore[operator]
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=40)
    mean = np.array([0.4914, 0.4822, 0.4465], np.float32)[:, None, None]
    x = mean + rng.normal(size=(40, 3, 32, 32)) * 0.01 + 0.1 * (2 * y[:, None, None, None] - 1)
    return network.eval(), Dataset("shifted", x.astype(np.float32), y, 2)


def checked(network: nn.Module, how: str, data: Dataset) -> list[str]:
    layer = architectures.normalization(how, "cifar_own")
    model = architectures.NormalizedNetwork(layer, network).eval()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        models.check_accuracy(model, data, range(len(data)))
    return [str(warning.message) for warning in caught]


def test_a_wrong_normalisation_is_noticed() -> None:
    network, data = shifted_data()
    assert checked(network, "cifar10", data) == []
    (message,) = checked(network, "none", data)
    assert "with --normalize " in message
    right, best = int(message.split()[3]), message.split()[-1]
    assert right < 32
    assert checked(network, best, data) == []


def test_certify_warns_of_a_wrong_normalisation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "flatnet.py").write_text(
        "from torch import nn\n"
        "def make(classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(3072, classes))\n",
        encoding="utf-8",
    )
    network, data = shifted_data()
    torch.save({"state_dict": network.state_dict()}, "net.pth")
    np.savez("data.npz", x=data.x[:], y=data.y)
    command = [
        "certify", "--data", "data.npz", "--model", "net.pth", "--arch", "flatnet:make",
        "--noise", "gaussian", "--sigma", "0.05", "--attack", "l2", "--n0", "10", "--n", "50",
        "--quiet",
    ]  # fmt: skip
    assert main([*command, "--normalize", "cifar10"]) == 0
    assert capsys.readouterr().err == ""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main([*command, "--normalize", "none"]) == 0
    message = r"cert: warning: the model gets \d+ of 32 clean inputs right as normalised, 32 with"
    assert re.match(message, capsys.readouterr().err)
    for more, message in (
        (["--device", "foo"], "device must be one that torch has here, got 'foo'"),
        (["--data", "small.npz"], "arch must give scores for an input of shape (3, 8, 8)"),
    ):
        np.savez("small.npz", x=np.zeros((4, 3, 8, 8)), y=np.arange(4) % 2)
        assert main([*command, "--normalize", "cifar10", *more]) == 2
        assert message in capsys.readouterr().err
    assert main(command) == 2
    assert "normalize must be stated for 'net.pth'" in capsys.readouterr().err


def test_guessing_is_noticed() -> None:
    network, data = shifted_data()
    rng = np.random.default_rng(1)
    random = Dataset("random", data.x, rng.integers(0, 2, size=len(data)), 2)
    (message,) = checked(network, "cifar10", random)
    assert "no more than by guessing" in message
    few = Dataset("few", data.x[:3], 1 - data.y[:3], 2)
    assert checked(network, "cifar10", few) == []  # three inputs say nothing


def test_only_checkpoints_are_checked() -> None:
    network, data = shifted_data()
    wrong = Dataset("wrong", data.x, 1 - data.y, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        models.check_accuracy(network, wrong, range(40))
        models.check_accuracy(lambda batch: batch, wrong, range(40))
