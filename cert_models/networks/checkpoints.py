"""Checkpoint files: what they hold, and which of it a network and its normalisation take."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cert_models.files.reading import reading
from cert_models.networks.architectures import Mask, Normalize

State = dict[str, torch.Tensor]
KIND = "a file of tensors and plain values"
DEEPEST = 20  # entries within entries
REMEDY = "save {'arch': name, 'state_dict': model.state_dict()} alone, or a .safetensors file"

# Where published files keep the parameters, the first preferred.
CONTAINERS = ("state_dict", "model_state_dict", "model", "net")
# Parts of a name that wrappers put before a network's own, besides places in a Sequential;
# the first two also within, where a part of the network was wrapped.
WRAPPERS = ("_orig_mod", "module", "model", "net", "backbone", "network")
MEANS = ("mean", "means", "mu", "new_mean")
DEVIATIONS = ("std", "stds", "sds", "sigma", "new_std")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint file holds; tensors and plain values alone, nothing is executed.

    Raises
    ------
    ValueError
        No such file, damaged, or it asks for other classes.
    """
    if not Path(path).is_file():
        raise ValueError(f"model must be a file, got {str(path)!r} (no such file): check the path")
    with reading("model", KIND, path, REMEDY):
        if str(path).endswith(".safetensors"):
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                return {**(file.metadata() or {}), "state_dict": tensors}
        content = _load(path)
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
        _check_entries(content)
        return content


def _check_entries(content: Any, depth: int = DEEPEST) -> None:
    """Refuse tensors without values of their own, and entries within entries without end."""
    if isinstance(content, torch.Tensor):
        if content.layout != torch.strided or content.is_meta or content.is_quantized:
            raise ValueError(f"a tensor that is not dense, {content.layout} on {content.device}")
    elif isinstance(content, Mapping):
        if not depth:
            raise ValueError(f"entries within entries, more than {DEEPEST} deep")
        for value in content.values():
            _check_entries(value, depth - 1)


def _load(path: str | Path) -> Any:
    """What torch.save wrote; an error names the class that a file asks for."""
    try:
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(f"it asks for the class {name[1]}") if name else error from None


def _harmless() -> list[Any]:
    """Classes beside tensors that checkpoints hold and whose making runs no code."""
    from argparse import Namespace
    from importlib import import_module

    scalar = import_module("numpy._core.multiarray").scalar
    return [
        Namespace, np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType,
        scalar, (scalar, "numpy.core.multiarray.scalar"),
    ]  # fmt: skip


def states_in(content: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, State]]:
    """All state dicts of a checkpoint, by the names of its entries with dots between."""
    tensors = {str(key): v for key, v in content.items() if isinstance(v, torch.Tensor)}
    if tensors:
        yield path, tensors
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from states_in(value, f"{path}.{key}" if path else str(key))


@dataclass(frozen=True)
class Fit:
    """How the entries of a state dict fill a network.

    Attributes
    ----------
    prefix : what stands before the network's own names
    found : entries under it, by the network's names
    beside : all others, by their names in the file
    wrong : what is not as the network has it, in words; empty where it can be filled
    """

    prefix: str
    found: State
    beside: State
    wrong: str

    @property
    def known(self) -> bool:
        """Whether wrappers alone make the prefix."""
        return all(part in WRAPPERS or part.isdigit() for part in self.prefix.split(".")[:-1])


def fits(network: nn.Module, given: State) -> list[Fit]:
    """The ways to fill a network from a state dict, one a prefix, the best first."""
    own = network.state_dict()
    # Files older than torch 0.4.1 lack num_batches_tracked, which evaluation never reads.
    needed = {key for key in own if not key.endswith("num_batches_tracked")}
    inner = [word for word in WRAPPERS[:2] if not any(word in key.split(".") for key in own)]
    names = {".".join(p for p in key.split(".") if p not in inner): key for key in given}
    if len(names) < len(given):
        names = {key: key for key in given}
    prefixes = {name[: -len(key)] for name in names for key in needed if name.endswith(key)}
    ways = []
    for prefix in {""} | {p for p in prefixes if p.endswith(".")}:
        under = {n[len(prefix) :]: given[key] for n, key in names.items() if n.startswith(prefix)}
        means = {n for pair in statistics_in(under) for n in pair} - own.keys()
        found = {n: under[n] for n in under.keys() - means}
        rest = names.keys() - {prefix + n for n in found}
        wrong = _difference(own, found, needed)
        ways.append((len(needed - found.keys()), Fit(
            prefix, found, {names[n]: given[names[n]] for n in sorted(rest)}, wrong
        )))  # fmt: skip
    return [way for _, way in sorted(ways, key=lambda w: (w[0], not w[1].known, w[1].prefix))]


def _difference(own: State, found: State, needed: set[str]) -> str:
    missing, extra = sorted(needed - found.keys()), sorted(found.keys() - own.keys())
    shapes = sorted(k for k in own.keys() & found.keys() if own[k].shape != found[k].shape)
    if missing:
        return f"lacks {missing[0]}"
    if extra:
        return f"has besides {extra[0]}"
    turned = [key for key in own.keys() & found.keys() if found[key].is_complex()]
    if real := sorted(key for key in turned if not own[key].is_complex()):
        return f"has in complex numbers {real[0]}"
    if shapes:
        key = shapes[0]
        return f"has in another shape {key} {tuple(found[key].shape)}, not {tuple(own[key].shape)}"
    return ""


def statistics_in(entries: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names of the means and deviations of inputs among entries, in pairs."""
    pairs = []
    for name in entries:
        stem, last = name[: name.rfind(".") + 1], name[name.rfind(".") + 1 :]
        if last in MEANS:
            likely = (DEVIATIONS[MEANS.index(last)], *DEVIATIONS)
            pairs += [(name, stem + word) for word in likely if stem + word in entries][:1]
    return pairs


def fill(
    network: nn.Module, content: Mapping[str, Any], path: str | Path, weights: str | None = None
) -> Normalize | None:
    """Fill a network from a checkpoint, whichever wrappers' names stand before its own.

    Parameters
    ----------
    network : torch.nn.Module, changed in place
    content : of the file, as read_checkpoint returns it
    path : of the file, for messages
    weights : str, optional
        The entry to take, of several (default: that of CONTAINERS; a warning names the others).

    Returns
    -------
    Normalize or None
        What the file itself says of its inputs: entries like normalize.mean and normalize.std.

    Raises
    ------
    ValueError
        No entry, or more than one, has the network's parameters.
    """
    states = dict(states_in(content))
    if not states:
        entries = ", ".join(map(str, list(content)[:9]))
        raise ValueError(
            f"model must be {KIND}, got {str(path)!r} (no state dict among its entries {entries}): "
            f"{REMEDY}"
        )
    if weights is not None and weights not in states:
        raise ValueError(
            f"weights must be an entry of {str(path)!r} with parameters "
            f"({', '.join(repr(name) for name in list(states)[:9])}), got {weights!r}: choose one"
        )
    enough = len(list(network.parameters()))
    largest = max(states, key=lambda name: len(states[name]))
    asked = [n for n in states if n == largest or len(states[n]) >= enough]
    ways = {name: fits(network, states[name]) for name in ([weights] if weights else asked)}
    good = [n for n in sorted(ways, key=_preference) if any(not way.wrong for way in ways[n])]
    name = good[0] if good else min(ways, key=_preference)
    if len(good) > 1:
        _tell_others(path, good)
    way = _one_way(ways[name], path)
    network.load_state_dict({**network.state_dict(), **way.found})
    other = {
        f"{n}.{k}": v for n, state in states.items() if n not in good for k, v in state.items()
    }
    return _statistics(way, other, path)


def _preference(entry: str) -> int:
    last = entry.rpartition(".")[2]
    return CONTAINERS.index(last) if last in CONTAINERS else len(CONTAINERS) + bool(entry)


def _tell_others(path: str | Path, good: list[str]) -> None:
    taken, *others = good
    named = " and ".join(map(repr, others))
    if _preference(taken) > len(CONTAINERS):
        raise ValueError(
            f"weights must be stated for {str(path)!r}, which holds {taken!r} and {named}: "
            "pass --weights with one of them"
        )
    warnings.warn(
        f"{taken or 'the bare parameters'!r} of {str(path)!r} is taken, which holds {named} as "
        "well: --weights chooses",
        stacklevel=5,
    )


def _one_way(ways: list[Fit], path: str | Path) -> Fit:
    """The one way that fits, under wrappers that are known."""
    good = [way for way in ways if not way.wrong]
    known = [way for way in good if way.known]
    apart = [way for way in known if not _same(way.found, known[0].found)]
    reason, remedy = ways[0].wrong, "check --arch and --classes"
    if apart:
        reason = f"has them twice, under {known[0].prefix!r} and {apart[0].prefix!r}"
        remedy = "save the state dict of one of them alone"
    elif good and not known:
        reason = f"has them under {good[0].prefix!r}"
        remedy = "save the state dict of that part alone, if it is the classifier"
    elif known:
        return known[0]
    elif ways[0].prefix:
        reason += f" under {ways[0].prefix!r}"
    raise ValueError(
        f"model must hold the parameters of its architecture, got {str(path)!r}, which "
        f"{reason}: {remedy}"
    )


def _same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(
        a[key] is b[key] or torch.equal(a[key], b[key])  # NaN is not equal to itself
        for key in a
    )


def _statistics(way: Fit, other: State, path: str | Path) -> Normalize | None:
    """The normalisation among what a network does not use; a warning names the rest."""
    pairs = [(way.beside[m], way.beside[d]) for m, d in statistics_in(way.beside)]
    used = {name for pair in statistics_in(way.beside) for name in pair}
    pairs += [(other[m], other[d]) for m, d in statistics_in(other)]
    names = ", ".join(repr(n) for pair in statistics_in({**way.beside, **other}) for n in pair)
    unused = [n for n, v in way.beside.items() if n not in used and not _copied(n, v, way.found)]
    if unused:
        warnings.warn(
            f"{str(path)!r} holds {len(unused)} entries that the architecture does not use, such "
            f"as {unused[0]!r}: it may be of another network",
            stacklevel=5,
        )
    layers = [Normalize(m.flatten().tolist(), d.flatten().tolist()) for m, d in pairs]
    if not layers:
        return None
    if not all(same_normalization(layer, layers[0]) for layer in layers):
        raise ValueError(
            f"model must say once how inputs are normalised, got {str(path)!r} with {names}, which "
            "differ: leave one pair in the file"
        )
    if not min(layers[0].std.flatten()) > 0:
        raise ValueError(
            f"model must hold deviations > 0, got {str(path)!r} with {names}: mend the file"
        )
    return layers[0]


def _copied(name: str, value: torch.Tensor, found: State) -> bool:
    """Whether an entry is one of those found, kept once more under another prefix."""
    parts = name.split(".")
    ends = (".".join(parts[i:]) for i in range(len(parts)))
    return any(end in found and torch.equal(found[end], value) for end in ends)


def same_normalization(a: nn.Module, b: nn.Module) -> bool:
    """Whether two layers, Normalize or Identity, do the same to three digits."""
    if isinstance(a, Mask) or isinstance(b, Mask):
        return getattr(a, "null", None) == getattr(b, "null", None)
    x = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 3, 1, 1)
    try:
        return torch.allclose(a(x), b(x), rtol=1e-3, atol=1e-3)
    except RuntimeError:  # other numbers of channels
        return False
