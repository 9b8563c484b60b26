"""Classifiers by name: a published checkpoint, an import path, the digits network."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import cert_core as cc
from cert_models.data.datasets import Dataset
from cert_models.importing import import_object

if TYPE_CHECKING:
    from torch import nn

    from cert_models.networks.architectures import Normalize, NormalizedNetwork

SUFFIXES = (".pt", ".pth", ".tar", ".ckpt", ".bin", ".safetensors")
CHECKED = 32


def load_model(
    name: str,
    num_classes: int,
    *,
    arch: str | None = None,
    normalize: str | None = None,
    weights: str | None = None,
    device: str | None = None,
) -> Any:
    """Load a classifier by its command-line name.

    Parameters
    ----------
    name : digits-cnn, a checkpoint file, an .onnx file, or module:name of a torch module or of
        a function from a float32 array (m, *input_shape) to m integer labels
    num_classes : int, of a file
    arch, normalize, weights : str, optional
        Of a checkpoint, as in load_checkpoint.
    device : str, optional
        Where to put a checkpoint's network (default: the CPU).

    Returns
    -------
    torch.nn.Module in evaluation mode, or callable

    Raises
    ------
    ValueError
        No such model, or arch, normalize or weights where the model is no checkpoint.
    """
    described = {"arch": arch, "normalize": normalize, "weights": weights}
    onnx = name.endswith(".onnx")
    if name.endswith(".py"):
        rule, module = "module:name, of what the module has", Path(name).stem
        raise cc.errors.fail("model", rule, name, f"from its folder pass {module}:NAME")
    if not onnx and (name.endswith(SUFFIXES) or Path(name).is_file()):
        from cert_models.networks.architectures import usable_device

        place = usable_device(device or "cpu")
        return load_checkpoint(name, num_classes, **described).to(place)
    for option, value in described.items():
        if value is not None:
            raise ValueError(
                f"{option} must not be given for {name!r}, got {value!r}: only checkpoints need it"
            )
    if onnx:
        from cert_models.networks.onnx_file import OnnxNetwork

        return OnnxNetwork(name, num_classes).eval()
    if name == "digits-cnn":
        from cert_models.networks.train import digits_cnn

        return digits_cnn()
    if ":" in name:
        return _classifier(import_object(name), name)
    raise cc.errors.fail(
        "model", "digits-cnn or module:function or a checkpoint file", name, "choose one of these"
    )


def routing_by(model: Any, labels: Sequence[int]) -> Any:
    """A router: the model, each of whose labels stands for a branch."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        from cert_models.networks.routers import Grouped

        return Grouped(model, labels).eval()
    return Relabelled(model, tuple(labels))


@dataclass(frozen=True)
class Relabelled:
    """A function from arrays to labels with other labels in their place."""

    function: Any
    labels: tuple[int, ...]

    def __call__(self, batch: Any) -> Any:
        rows = len(batch)
        said = cc.votes.check_labels(self.function(batch), rows, len(self.labels))
        return np.array(self.labels, dtype=np.int64)[said]


def _classifier(found: Any, name: str) -> Any:
    """What an import path names, which must be there to be called."""
    if isinstance(found, type):
        raise ValueError(
            f"model must be a torch module or a function from arrays to labels, got the class "
            f"{name!r}: name an instance, e.g. net = {found.__name__}(...)"
        )
    if not callable(found):
        remedy = f"name its method, {name}.predict" if hasattr(found, "predict") else "name one"
        raise cc.errors.fail("model", "a torch module or a function", found, remedy)
    return found


def load_checkpoint(
    path: str | Path,
    num_classes: int,
    *,
    arch: str | None = None,
    normalize: str | None = None,
    weights: str | None = None,
) -> NormalizedNetwork:
    """Load a classifier from a file of its parameters; nothing in the file is executed.

    Parameters
    ----------
    path : what torch.save wrote ({arch, state_dict, ...} or a bare state dict, its names
        bare or with those of wrappers before them, such as DataParallel, Sequential(normalize,
        network), torch.compile, Lightning), or a .safetensors file
    num_classes : int
    arch : str, optional
        A name of ARCHITECTURES, or module:name of a function from the number of classes to
        a module (default: what the file says, a name of ARCHITECTURES alone: an import path is
        code, which is run where the caller names it and nowhere else).
    normalize : "imagenet", "cifar10", "center", "none", "m,s" or "m1,m2,m3,s1,s2,s3"
        What the network does to its inputs first.  Most published files do not say, and a
        wrong choice ruins the accuracy; files of `cert train` do, and those with entries such
        as normalize.mean and normalize.std, which must not be contradicted.
    weights : str, optional
        The entry to take where there are several, e.g. state_dict_ema.

    Returns
    -------
    NormalizedNetwork
        In evaluation mode, on the CPU.

    Raises
    ------
    ValueError
        The file cannot be read safely, or its parameters are not those of the architecture.
    """
    from cert_models.networks.architectures import ARCHITECTURES, NormalizedNetwork, make_network
    from cert_models.networks.checkpoints import fill, read_checkpoint

    content = read_checkpoint(path)
    said = _text(content, "arch")
    arch = arch or (said if said in ARCHITECTURES else None)
    if arch is None:
        known = ", ".join(ARCHITECTURES)
        got = "which does not name it" if said is None else f"which names {cc.errors.shown(said)}"
        raise ValueError(
            f"arch must be stated for {str(path)!r}, {got}: pass --arch with one of {known}, or "
            "with the module:function of your own code, which no file may name"
        )
    network = make_network(arch, num_classes)
    held = fill(network, content, path, weights)
    layer = _normalization(content, held, normalize, arch, path)
    model = NormalizedNetwork(layer, network).eval()
    model.trained_under, model.arch = _noise_in(content), arch
    return model


def _normalization(
    content: Mapping[str, Any], held: Normalize | None, stated: str | None, arch: str, path: Any
) -> nn.Module:
    """The layer that the file says, by its entries or in words, or that is stated."""
    from cert_models.networks.architectures import normalization
    from cert_models.networks.checkpoints import same_normalization

    word = _text(content, "normalize")
    own = held if held is not None else normalization(word, arch) if word else None
    if stated is None and own is None:
        raise ValueError(
            f"normalize must be stated for {str(path)!r}, which does not say how inputs are "
            "normalised: pass --normalize imagenet, cifar10, center, none or m,s"
        )
    if stated is None or own is None:
        return own or normalization(str(stated), arch)
    if not same_normalization(own, normalization(stated, arch)):
        said = repr(word) if held is None else f"mean and deviation {held.numbers()}"
        raise cc.errors.fail(
            "normalize", f"that of {str(path)!r}, which says {said}", stated, "leave it out"
        )
    return own


def _noise_in(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The noise that a checkpoint was trained under, where it says so."""
    recipe = content.get("recipe")
    noise = recipe.get("noise") if isinstance(recipe, Mapping) else None
    if isinstance(noise, Mapping):
        return dict(noise)
    given = content.get("args")
    options = given if isinstance(given, Mapping) else getattr(given, "__dict__", {})
    sigma = content.get("noise_sd", options.get("noise_sd"))  # of Cohen et al. 2019's training
    return {"noise": "gaussian", "sigma": float(sigma)} if isinstance(sigma, int | float) else None


def _text(content: Mapping[str, Any], key: str) -> str | None:
    value = content.get(key)
    return value if isinstance(value, str) else None


def check_noise(model: Any, noise: cc.Noise) -> None:
    """Warn where a checkpoint says that it was trained under another noise.

    Raises
    ------
    ValueError
        It looks for another null value than that noise's.
    """
    if "torch" in sys.modules:
        from cert_models.networks.architectures import check_mask

        check_mask(model, noise)
    trained = getattr(model, "trained_under", None) or {}
    present = noise.to_dict()
    if any(present.get(key) != value for key, value in trained.items()):
        told = ", ".join(f"{key} {value}" for key, value in trained.items() if key != "dim")
        warnings.warn(
            f"the checkpoint was trained under other noise ({told}) than {noise!r}: its votes, and "
            "the radii, will be worse than under its own",
            stacklevel=2,
        )


def check_accuracy(model: Any, data: Dataset, indices: Sequence[int]) -> None:
    """Try a model on a few clean inputs; warn where a checkpoint's accuracy looks wrong.

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
        The network, or the function, does not take such inputs.
    """
    from scipy.stats import binom

    chosen = list(indices)[:: max(1, len(indices) // CHECKED)][:CHECKED]
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module):
        if not hasattr(model, "counts"):
            _try_function(model, np.stack([data.x[i] for i in chosen[:2]]))
        return

    from cert_models.networks.architectures import NormalizedNetwork, normalization, try_network
    from cert_models.smooth.forward import scores_of

    if not isinstance(model, NormalizedNetwork):
        return
    network = model.network
    place = next(network.parameters()).device
    inputs = torch.from_numpy(np.stack([data.x[i] for i in chosen])).float().to(place)
    truth = torch.from_numpy(data.y[chosen]).to(place)
    try_network(model.to(place), inputs[:1])

    def right(layer: Any) -> int:
        with torch.inference_mode():
            # of a copy: the network may change what it is given
            scores = scores_of(network(layer.to(place)(inputs.clone())))
            return int((scores.argmax(dim=1) == truth).sum())

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
    elif (
        binom.sf(correct - 1, len(chosen), guess) > 0.01
        # and few for a classifier that is right half way between guessing and always
        and binom.cdf(correct, len(chosen), (1 + guess) / 2) < 0.01
    ):
        warnings.warn(
            f"{text}, no more than by guessing: check --normalize, --arch, --data and the file",
            stacklevel=2,
        )


def _try_function(model: Any, x: Any) -> None:
    """Refuse a function that does not take a batch, or that makes a classifier of it."""
    try:
        answer = model(x.copy())
    except Exception as error:  # its code may raise anything
        reason = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(
            f"model must take one batch, here a float32 array of shape {x.shape}, got "
            f"{type(error).__name__} ({reason}) of {_name(model)!r}: name a function from arrays "
            "to labels, or what a factory makes"
        ) from error
    if callable(answer):
        raise ValueError(
            f"model must be a function from arrays to labels, got {_name(model)!r}, which makes a "
            f"{type(answer).__name__}: name what it makes"
        )


def _name(model: Any) -> str:
    return f"{getattr(model, '__module__', '')}:{getattr(model, '__qualname__', model)}"
