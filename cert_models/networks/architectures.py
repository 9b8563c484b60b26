"""Networks of published checkpoints: every parameter has the published name and shape.

Sources: cifar_resnet20 and cifar_resnet110 are the ResNets of He et al. 2016, section 4.2, in
the layout of `archs/cifar_resnet.py` of Cohen et al. 2019's repository (there from Wei Yang's
pytorch-classification): shortcuts that change shape are a 1 x 1 convolution with batch
normalisation, so 272,474 and 1,730,714 parameters with 10 classes.  resnet50 is that of He
et al. 2016 in torchvision's layout, the stride in the 3 x 3 convolution of a bottleneck:
25,557,032 parameters.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

import cert_core as cc
from cert_core.errors import fail
from cert_core.rounding import in_full, nearest
from cert_models.files.reading import first_line
from cert_models.importing import import_object
from cert_models.smooth.checks import described, remedy_for
from cert_models.smooth.forward import scores_of


class Normalize(nn.Module):
    """(x - mean) / std by channel, the first layer of a classifier: noise, certificates and
    radii stay in input units.

    mean and std are not in its state dict, as they are not in published checkpoints.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1), persistent=False)

    def numbers(self) -> str:
        """The numbers, mean first, as --normalize takes them."""
        values = [*self.mean.flatten().tolist(), *self.std.flatten().tolist()]
        return ",".join(nearest(value, 4) for value in values)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / self.std


class Mask(nn.Module):
    """Hidden entries shown as 0, and behind the channels as many more that say what is seen (1)
    and what is hidden (0): for noises that hide, whose copies show null there."""

    def __init__(self, null: float) -> None:
        super().__init__()
        self.null = null

    def extra_repr(self) -> str:
        return f"null={in_full(self.null)}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = x != self.null
        return torch.cat([torch.where(seen, x, 0.0), seen.to(x.dtype)], dim=1)


class NormalizedNetwork(nn.Sequential):
    """A normalisation, then a network: a state dict's names begin with 1., as published.

    trained_under: the noise of its training as a dict, where a checkpoint said it; arch: the name
    of the network, where it was loaded by one.
    """

    trained_under: dict[str, Any] | None = None
    arch: str = ""

    def __init__(self, normalize: nn.Module, network: nn.Module) -> None:
        super().__init__(normalize, network)

    @property
    def normalize(self) -> nn.Module:
        return self[0]

    @property
    def network(self) -> nn.Module:
        return self[1]


def check_mask(module: nn.Module, noise: cc.Noise) -> None:
    """Refuse a network that looks for another null value than the noise's, or for any."""
    layer = module.normalize if isinstance(module, NormalizedNetwork) else None
    null = getattr(noise, "null", None)
    if isinstance(layer, Mask) and layer.null != null:
        rule = (
            f"mask:{in_full(null)}, the null of {noise!r}"
            if null is not None
            else (f"no mask under {noise!r}, which hides nothing")
        )
        raise cc.errors.fail("normalize", rule, f"mask:{in_full(layer.null)}", "state that")


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return torch.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """Convolutions 1 x 1, 3 x 3, 1 x 1 beside a shortcut; four times the width comes out."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, 4 * width, 1)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(inputs, 4 * width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return torch.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Stages of residual blocks, each after the first at half the resolution.

    Parameters
    ----------
    block : BasicBlock or Bottleneck
    stem : modules conv1, bn1, ... before the stages, by name
    widths, depths : width and number of blocks of each stage
    num_classes : int
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        stem: dict[str, nn.Module],
        widths: Sequence[int],
        depths: Sequence[int],
        num_classes: int,
    ) -> None:
        super().__init__()
        for name, module in stem.items():
            self.add_module(name, module)
        features = widths[0]
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
            blocks = []
            for place in range(depth):
                stride = 2 if number > 1 and place == 0 else 1
                blocks.append(block(features, width, stride))
                features = width * block.expansion
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(features, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name, module in self.named_children():
            x = module(x.flatten(1) if name == "fc" else x)
        return x


def _cifar_resnet(depth: int, num_classes: int) -> nn.Module:
    stem = {"conv1": _conv(3, 16, 3), "bn1": nn.BatchNorm2d(16), "relu": nn.ReLU()}
    return ResNet(BasicBlock, stem, (16, 32, 64), [(depth - 2) // 6] * 3, num_classes)


def cifar_resnet20(num_classes: int = 10) -> nn.Module:
    """The 20-layer ResNet for (3, 32, 32) inputs."""
    return _cifar_resnet(20, num_classes)


def cifar_resnet110(num_classes: int = 10) -> nn.Module:
    """The 110-layer ResNet for (3, 32, 32) inputs."""
    return _cifar_resnet(110, num_classes)


def resnet50(num_classes: int = 1000) -> nn.Module:
    """The 50-layer ResNet for (3, 224, 224) inputs."""
    stem = {
        "conv1": nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        "bn1": nn.BatchNorm2d(64),
        "relu": nn.ReLU(),
        "maxpool": nn.MaxPool2d(3, stride=2, padding=1),
    }
    return ResNet(Bottleneck, stem, (64, 128, 256, 512), (3, 4, 6, 3), num_classes)


def digits_network(num_classes: int = 10) -> nn.Module:
    """Two convolutions and two linear layers for (1, 8, 8) inputs."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, num_classes),
    )


class OneChannel(nn.Module):
    """Images (N, rows, columns) as (N, 1, rows, columns); any others as they are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, None] if x.ndim == 3 else x


def mnist_network(num_classes: int = 10) -> nn.Module:
    """Two convolutions and two linear layers for (1, 28, 28) or (28, 28) inputs: as small as
    98 % of MNIST's digits allow, for many noisy copies a second."""
    return nn.Sequential(
        OneChannel(),
        nn.Conv2d(1, 8, 5, padding=2, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(784, 64),
        nn.ReLU(),
        nn.Linear(64, num_classes),
    )


ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {
    "cifar_resnet20": cifar_resnet20,
    "cifar_resnet110": cifar_resnet110,
    "resnet50": resnet50,
    "digits": digits_network,
    "mnist": mnist_network,
}


def _of_timm(name: str, num_classes: int) -> nn.Module:
    known = _library("timm", name, "list_models")()
    network: nn.Module = _library("timm", _listed("timm", name, known), "create_model")(
        name, pretrained=False, num_classes=num_classes
    )
    return network


def _of_torchvision(name: str, num_classes: int) -> nn.Module:
    models = _library("torchvision", name, "models")
    known = models.list_models(module=models)  # classifiers of images alone
    network: nn.Module = models.get_model(
        _listed("torchvision", name, known), weights=None, num_classes=num_classes
    )
    return network


# Others' networks by their own names, never with weights: nothing is fetched.
LIBRARIES: dict[str, Callable[[str, int], nn.Module]] = {
    "timm": _of_timm,
    "torchvision": _of_torchvision,
}


def _library(library: str, name: str, what: str) -> Any:
    """A member of a library, which is imported only when a network of it is named."""
    try:
        return import_object(f"{library}:{what}", "arch")
    except ValueError as error:
        if not isinstance(error.__cause__, ModuleNotFoundError) or error.__cause__.name != library:
            raise
        raise ValueError(
            f"arch must name an installed library, got {library + ':' + name!r}: "
            f"pip install {library}"
        ) from None


def _listed(library: str, name: str, known: Sequence[str]) -> str:
    """A name that is one of the library's own: others may stand for what is fetched."""
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, 3)
    remedy = f"perhaps {', '.join(near)}" if near else f"see {library}'s list"
    rule = f"{library}:NAME of one of its {len(known)} networks"
    raise fail("arch", rule, f"{library}:{name}", remedy)


def make_network(arch: str, num_classes: int) -> nn.Module:
    """A network with random parameters: by a name of ARCHITECTURES, timm:NAME or
    torchvision:NAME, or by import path.

    Raises
    ------
    ValueError
        No such name, or what it names does not make a module.
    """
    if arch in ARCHITECTURES:
        return ARCHITECTURES[arch](num_classes)
    library, _, name = arch.partition(":")
    if library in LIBRARIES:
        return LIBRARIES[library](name, num_classes)
    if ":" not in arch:
        known = ", ".join(ARCHITECTURES)
        others = "timm:NAME, torchvision:NAME or module:function"
        raise fail("arch", f"{known}, {others}", arch, "choose one")
    make = import_object(arch, "arch")
    try:
        network = _made(make, num_classes)
    except Exception as error:  # its code may raise anything
        raise ValueError(
            f"arch must name a function from the number of classes to a torch module, got {arch!r} "
            f"({type(error).__name__}: {first_line(error)}): let it take num_classes"
        ) from error
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"arch must name a function that makes a torch module, got {network!r}: return one"
        )
    return network


def _made(make: Callable[..., Any], num_classes: int) -> Any:
    """make's network: by keyword where it takes one, for the first place of torchvision's and
    timm's functions asks for trained parameters."""
    taken = inspect.signature(make).parameters.values()
    first = next(iter(taken), None)
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if first is not None and first.kind in places and first.name != "num_classes":
        named = any(p.name == "num_classes" for p in taken)
        if not named and (first.default is first.empty or type(first.default) is int):
            return make(num_classes)
    return make(num_classes=num_classes)


def try_network(network: nn.Module, x: torch.Tensor, num_classes: int | None = None) -> None:
    """Refuse a network that does not give a row of num_classes scores for every row of x.

    Raises
    ------
    ValueError
        It fails on them, or gives something else.
    """
    training = network.training
    try:
        with torch.inference_mode():
            scores = scores_of(network.eval()(x.clone()))  # it may change what it is given
        shape = tuple(getattr(scores, "shape", ()))
        good = len(shape) == 2 and shape[0] == len(x) and num_classes in (None, shape[1])
        got = f"{described(scores)} for {len(x)} of them"
    except Exception as error:  # a network may raise anything
        good, got = False, first_line(error)
    network.train(training)
    if not good:
        count = "" if num_classes is None else f"{num_classes} "
        raise ValueError(
            f"arch must give {count}scores for an input of shape {tuple(x.shape[1:])}, "
            f"got {got}: {remedy_for(tuple(x.shape[1:]), 'check --arch, --classes and --data')}"
        )


def usable_device(name: str | torch.device) -> torch.device:
    """The device of this name.

    Raises
    ------
    ValueError
        torch knows no such device, or has none here.
    """
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or ["none here"])[0][:60]
        raise ValueError(
            f"device must be one that torch has here, got {str(name)!r} ({reason}): "
            "pass cpu, or install torch for that device"
        ) from None


# Means and standard deviations by channel of the two training sets, as in Cohen et al. 2019's
# repository; "center" subtracts the mean alone, as for ImageNet in Salman et al. 2019's.
STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}


def normalization(text: str, arch: str) -> nn.Module:
    """The layer that a value of --normalize names.

    Parameters
    ----------
    text : imagenet, cifar10, center (the mean alone: CIFAR-10's for cifar_ architectures,
        else ImageNet's), none, mask or mask:NULL (see Mask; NULL is the noise's, by default
        -1), or numbers: a mean and a standard deviation, or of each channel the means, then
        the deviations
    arch : str

    Raises
    ------
    ValueError
        Neither a name nor an even number of finite numbers with deviations > 0.
    """
    if text == "none":
        return nn.Identity()
    if text in STATISTICS:
        return Normalize(*STATISTICS[text])
    kind, _, null = text.partition(":")
    if kind == "mask":
        with contextlib.suppress(ValueError):
            if math.isfinite(value := float(null or -1.0)):
                return Mask(value)
    if text == "center":
        mean, _ = STATISTICS["cifar10" if arch.startswith("cifar_") else "imagenet"]
        return Normalize(mean, (1.0, 1.0, 1.0))
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    half = len(values) // 2
    good = half in (1, 3) and len(values) == 2 * half and bool(np.isfinite(values).all())
    if not good or min(values[half:]) <= 0:
        raise fail(
            "normalize",
            "imagenet, cifar10, center, none, mask, mask:NULL or m,s with s > 0",
            text,
            "state what the network was trained with",
        )
    return Normalize(values[:half], values[half:])
