"""Classifiers by name: a published checkpoint, an import path, the digits network."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cert_models.datasets import Dataset
from cert_models.importing import import_object

if TYPE_CHECKING:
    import torch
    from torch import nn

    from cert_models.architectures import NormalizedNetwork

SUFFIXES = (".pt", ".pth", ".tar", ".ckpt", ".bin", ".safetensors")
# Where a file keeps the parameters, and what may stand before the network's own names.
CONTAINERS = ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("", "module.", "1.", "1.module.", "module.1.", "model.", "net.", "0.", "0.module.")
CHECKED = 32


def load_model(
    name: str,
    num_classes: int,
    *,
    arch: str | None = None,
    normalize: str | None = None,
    device: str | None = None,
) -> Any:
    """Load a classifier by its command-line name.

    Parameters
    ----------
    name : digits-cnn, a checkpoint file, or module:name of a torch module or of a function
        from a float32 array (m, *input_shape) to m integer labels
    num_classes : int, of a checkpoint
    arch, normalize : str, optional
        Of a checkpoint, as in load_checkpoint.
    device : str, optional
        Where to put a checkpoint's network (default: the CPU).

    Returns
    -------
    torch.nn.Module in evaluation mode, or callable

    Raises
    ------
    ValueError
        No such model, or arch or normalize where the model is no checkpoint.
    """
    if name.endswith(SUFFIXES) or Path(name).is_file():
        from cert_models.architectures import usable_device

        place = usable_device(device or "cpu")
        return load_checkpoint(name, num_classes, arch=arch, normalize=normalize).to(place)
    for option, value in (("arch", arch), ("normalize", normalize)):
        if value is not None:
            raise ValueError(
                f"{option} must not be given for {name!r}, got {value!r}: only checkpoints need it"
            )
    if name == "digits-cnn":
        from cert_models.train import digits_cnn

        return digits_cnn()
    if ":" in name:
        return import_object(name)
    raise ValueError(
        f"model must be digits-cnn or module:function or a checkpoint file, got {name!r}: "
        "choose one of these"
    )


def load_checkpoint(
    path: str | Path, num_classes: int, *, arch: str | None = None, normalize: str | None = None
) -> NormalizedNetwork:
    """Load a classifier from a file of its parameters; nothing in the file is executed.

    Parameters
    ----------
    path : what torch.save wrote ({arch, state_dict, ...} or a bare state dict, its names
        bare or with the prefixes of DataParallel and of Sequential(normalize, network)), or
        a .safetensors file
    num_classes : int
    arch : str, optional
        A name of ARCHITECTURES, or module:name of a function from the number of classes to
        a module (default: what the file says).
    normalize : "imagenet", "cifar10", "center", "none", "m,s" or "m1,m2,m3,s1,s2,s3"
        What the network does to its inputs first.  Published files do not say, and a wrong
        choice ruins the accuracy; files of `cert train` do.

    Returns
    -------
    NormalizedNetwork
        In evaluation mode, on the CPU.

    Raises
    ------
    ValueError
        The file cannot be read safely, or its parameters are not those of the architecture.
    """
    from cert_models.architectures import (
        ARCHITECTURES,
        NormalizedNetwork,
        make_network,
        normalization,
    )

    content = read_checkpoint(path)
    arch = arch or _text(content, "arch")
    normalize = normalize or _text(content, "normalize")
    if arch is None:
        raise ValueError(
            f"arch must be stated for {str(path)!r}, which does not name it: "
            f"pass --arch with one of {', '.join(ARCHITECTURES)} or module:function"
        )
    if normalize is None:
        raise ValueError(
            f"normalize must be stated for {str(path)!r}, which does not say how inputs are "
            "normalised: pass --normalize imagenet, cifar10, center, none or m,s"
        )
    network = make_network(arch, num_classes)
    _load_parameters(network, _parameters(content, path), path)
    return NormalizedNetwork(normalization(normalize, arch), network).eval()


def _text(content: Mapping[str, Any], key: str) -> str | None:
    value = content.get(key)
    return value if isinstance(value, str) else None


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint file holds; tensors and plain values alone, nothing is executed.

    Raises
    ------
    ValueError
        No such file, damaged, or it asks for other classes.
    """
    import torch

    if not Path(path).is_file():
        raise ValueError(f"model must be a file, got {str(path)!r} (no such file): check the path")
    try:
        if str(path).endswith(".safetensors"):
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                return {**(file.metadata() or {}), "state_dict": tensors}
        with torch.serialization.safe_globals(_harmless()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise _unreadable(path, error) from error
    if not isinstance(content, dict):
        raise _unreadable(path, f"it holds a {type(content).__name__}")
    return content


def _harmless() -> list[Any]:
    """Classes beside tensors that checkpoints hold and whose making runs no code."""
    from argparse import Namespace
    from importlib import import_module

    scalar = import_module("numpy._core.multiarray").scalar
    return [
        Namespace, np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType,
        scalar, (scalar, "numpy.core.multiarray.scalar"),
    ]  # fmt: skip


def _unreadable(path: str | Path, error: object) -> ValueError:
    name = re.search(r"GLOBAL (\S+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and name:
        reason = f"it asks for the class {name[1]}"
    else:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
    return ValueError(
        f"model must be a file of tensors and plain values, got {str(path)!r} ({reason}): "
        "save {'arch': name, 'state_dict': model.state_dict()} alone, or a .safetensors file"
    )


def _parameters(content: Mapping[str, Any], path: str | Path) -> dict[str, torch.Tensor]:
    """The state dict of a checkpoint, wherever it is kept."""
    import torch

    for key in CONTAINERS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not content or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise _unreadable(path, f"no state dict among its entries {', '.join(map(str, content))}")
    return dict(content)


def _load_parameters(
    network: nn.Module, given: Mapping[str, torch.Tensor], path: str | Path
) -> None:
    """Fill the network, whichever prefix stands before its names in the file."""
    # Files older than torch 0.4.1 lack num_batches_tracked, which evaluation never reads.
    own = network.state_dict()
    needed = {key for key in own if not key.endswith("num_batches_tracked")}

    def under(prefix: str) -> dict[str, torch.Tensor]:
        return {key[len(prefix) :]: v for key, v in given.items() if key.startswith(prefix)}

    prefix = max(PREFIXES, key=lambda prefix: len(needed & under(prefix).keys()))
    found = under(prefix)
    missing, extra = sorted(needed - found.keys()), sorted(found.keys() - own.keys())
    shapes = [key for key in own.keys() & found.keys() if own[key].shape != found[key].shape]
    if missing or extra or shapes:
        wrong = (missing or extra or sorted(shapes))[0]
        reason = "lacks" if missing else "has besides" if extra else "has in another shape"
        if not missing and not extra:
            wrong += f" {tuple(found[wrong].shape)}, not {tuple(own[wrong].shape)}"
        raise ValueError(
            f"model must hold the parameters of its architecture, got {str(path)!r}, which "
            f"{reason} {wrong}: check --arch and --classes"
        )
    network.load_state_dict({**own, **found})


def check_accuracy(model: Any, data: Dataset, indices: Sequence[int]) -> None:
    """Warn where a checkpoint's accuracy on a few clean inputs looks wrong.

    It does where other inputs' labels would be met as often by guessing, or where another
    normalisation gets clearly more of them right.

    Parameters
    ----------
    model : what load_model returned; what is no checkpoint passes
    data : Dataset
    indices : of the inputs to be certified; up to 32 of them, evenly spread, are tried

    Raises
    ------
    ValueError
        The network does not take such inputs.
    """
    import torch
    from scipy.stats import binom

    from cert_models.architectures import NormalizedNetwork, normalization, try_network

    if not isinstance(model, NormalizedNetwork):
        return
    chosen = list(indices)[:: max(1, len(indices) // CHECKED)][:CHECKED]
    network = model.network
    place = next(network.parameters()).device
    inputs = torch.from_numpy(np.stack([data.x[i] for i in chosen])).float().to(place)
    truth = torch.from_numpy(data.y[chosen]).to(place)
    try_network(model.to(place), inputs[:1])

    def right(layer: Any) -> int:
        with torch.inference_mode():
            return int((network(layer.to(place)(inputs)).argmax(dim=1) == truth).sum())

    correct = right(model.normalize)
    guess = 1 / data.num_classes
    text = f"the model gets {correct} of {len(chosen)} clean inputs right as normalised"
    others = {}
    if inputs.shape[1] == 3 and correct < 0.9 * len(chosen):
        arch = "cifar_" if inputs.shape[-1] == 32 else "resnet50"
        names = ("imagenet", "cifar10", "center", "none")
        others = {name: right(normalization(name, arch)) for name in names}
    best = max(others, key=lambda name: others[name], default="")
    if others and others[best] - correct >= max(3, len(chosen) // 8):
        warnings.warn(f"{text}, {others[best]} with --normalize {best}", stacklevel=2)
    elif binom.sf(correct - 1, len(chosen), guess) > 0.01 >= guess ** len(chosen):
        warnings.warn(
            f"{text}, no more than by guessing: check --normalize, --arch, --data and the file",
            stacklevel=2,
        )
