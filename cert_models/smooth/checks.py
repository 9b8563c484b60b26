"""What a base classifier must be like: votes of one row must not depend on the others."""

from __future__ import annotations

import dis
import inspect
import random
import types
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from cert_models.files.reading import first_line

FEW = 24  # rows of a batch that are scored once more, most of them changed
GROWN, RARE = 1.1, 256  # a larger batch; the longest distance between passes looked at
SLACK, ROUGH = 1e-3, 0.05  # what another batch may change, of the largest score
DEPTH = 4  # how far modules are looked for in what a function holds
Named = Iterator[tuple[str, nn.Module]]


class Modes:
    """The modes of a classifier and of the modules in it.

    Only a module whose code reads its `training` is judged by it: batch normalisation or
    dropout, but no container.

    Parameters
    ----------
    classifier : torch.nn.Module, or a function, whose modules are looked for in what it holds
    """

    def __init__(self, classifier: Any) -> None:
        self._classifier = classifier
        self._hidden: list[tuple[str, nn.Module]] | None = None

    def check(self) -> None:
        """Refuse a module in training mode, or with batch statistics in evaluation too."""
        if isinstance(self._classifier, nn.Module):
            _check_tree("base_classifier", self._classifier)

    def check_hidden(self) -> None:
        """The same of modules that are no registered part: to be asked once the classifier has
        run, which may have put them into evaluation mode."""
        if self._hidden is None:
            found = _held("base_classifier", self._classifier, DEPTH, set())
            self._hidden = [(path, part) for path, part in found if part is not self._classifier]
        for path, module in self._hidden:
            _check_tree(path, module)


def _check_tree(path: str, root: nn.Module) -> None:
    for name, part in root.named_modules():
        where = f"{path}.get_submodule({name!r})" if name else path
        if getattr(part, "training", False) and _mode_matters(part):
            mends = root if _plain_eval(root) else part
            call = f"{path if mends is root else where}.eval()"
            if not _plain_eval(mends):
                call = f"torch.nn.Module.eval({where})"
            raise ValueError(
                "base_classifier must be in evaluation mode, got training mode in "
                f"{name or path!r} ({type(part).__name__}): call {call} (batch statistics would "
                "make votes dependent)"
            )
        if isinstance(part, BatchNorm) and part.running_mean is None:
            raise ValueError(
                "base_classifier must treat every row alone, got batch statistics in "
                f"{name or path!r}: train it with track_running_stats=True"
            )


def _plain_eval(root: nn.Module) -> bool:
    """Whether root.eval() reaches every part."""
    own = {getattr(type(part), name) for part in root.modules() for name in ("eval", "train")}
    return own == {nn.Module.eval, nn.Module.train}


def _mode_matters(part: nn.Module) -> bool:
    """Whether what a module computes may depend on its mode."""
    if isinstance(part, torch.jit.ScriptModule) or part._forward_hooks or part._forward_pre_hooks:
        return True  # code that is not read here
    if isinstance(part, nn.modules.dropout._DropoutNd) and part.p == 0:
        return False
    if isinstance(part, nn.modules.instancenorm._InstanceNorm) and not part.track_running_stats:
        return False
    kind: Any = type(part)
    return _reads_mode(kind) or "forward" in vars(part)


@lru_cache(maxsize=1024)
def _reads_mode(kind: type[Any]) -> bool:
    """Whether code of the class reads `training`, or cannot be read itself."""
    for base in kind.__mro__[: kind.__mro__.index(nn.Module)]:
        for name, function in vars(base).items():
            if name in ("train", "eval") or name.startswith("__"):
                continue
            if name == "forward" and not inspect.isfunction(function):
                return True
            if inspect.isfunction(function) and _loads_training(inspect.unwrap(function).__code__):
                return True
    return False


def _loads_training(code: types.CodeType) -> bool:
    loads = (i.argval == "training" for i in dis.get_instructions(code) if "LOAD" in i.opname)
    within = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return any(loads) or any(map(_loads_training, within))


def _held(path: str, thing: Any, depth: int, seen: set[int]) -> Named:
    """Modules that a function, or what it refers to, holds, by how they are reached."""
    if depth < 0 or id(thing) in seen or isinstance(thing, type | types.ModuleType):
        return
    seen.add(id(thing))
    if isinstance(thing, nn.Module):
        yield path, thing
        for part in list(thing.modules()):
            seen.add(id(part))
            for name, value in vars(part).items():
                if not name.startswith("_"):  # parameters, registered parts, hooks
                    yield from _held(f"{path}.{name}", value, depth - 1, seen)
        return
    for name, value in _parts(path, thing):
        yield from _held(name, value, depth - 1, seen)


def _parts(path: str, thing: Any) -> Iterator[tuple[str, Any]]:
    """What a thing holds, of the kinds in which a module may be."""
    if isinstance(thing, list | tuple):
        yield from ((f"{path}[{i}]", value) for i, value in enumerate(thing) if callable(value))
    elif isinstance(thing, Mapping):
        yield from ((f"{path}[{k!r}]", value) for k, value in thing.items() if callable(value))
    elif isinstance(thing, partial):
        yield from ((f"{path}.args[{i}]", v) for i, v in enumerate((thing.func, *thing.args)))
        yield from thing.keywords.items()
    elif inspect.ismethod(thing):
        yield from ((f"{path}.__self__", thing.__self__), (f"{path}.__func__", thing.__func__))
    elif inspect.isfunction(thing):
        thing = inspect.unwrap(thing)
        known = inspect.getclosurevars(thing)
        yield from [*known.nonlocals.items(), *known.globals.items()]
        for name, parameter in inspect.signature(thing).parameters.items():
            yield name, parameter.default
    elif callable(thing) and not isinstance(thing, torch.Tensor):
        yield from ((f"{path}.{name}", v) for name, v in getattr(thing, "__dict__", {}).items())


class Chance:
    """The states of the generators that a classifier may draw from, to be put back.

    Parameters
    ----------
    device : torch.device of the classifier
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._torch, self._numpy, self._python = (
            torch.get_rng_state(), np.random.get_state(), random.getstate()
        )  # fmt: skip
        self._cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        """Let the same be drawn once more."""
        torch.set_rng_state(self._torch)
        np.random.set_state(self._numpy)
        random.setstate(self._python)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self._device)


class Watch:
    """Which batches of a run are looked at for rows that see each other.

    All of the first batch, and of each that is clearly larger than those before it: the first
    of the estimation.  Then a few rows of some, at growing distances; later a whole one in 128
    passes on average: under 1 % of the passes.
    """

    def __init__(self) -> None:
        self._largest, self._passes, self._next, self._distance = 0, 0, 0, 1
        self._draw = random.Random(0)

    def rows(self, size: int) -> int:
        """How many rows of the next batch, of this size, to look at; mostly 0."""
        self._passes += 1
        if size > GROWN * self._largest:
            self._largest, self._next = size, self._passes + 1
            return size
        if self._passes < self._next:
            return 0
        few = self._distance < RARE
        self._distance = min(2 * self._distance, RARE)
        self._next = self._passes + self._draw.randint(1, self._distance)
        return min(size, FEW) if few else size


def check_alone(
    score: Callable[[torch.Tensor], torch.Tensor],
    batch: torch.Tensor,
    scores: torch.Tensor,
    chance: Chance,
    *,
    rough: bool,
) -> None:
    """Refuse a classifier that scores some rows of a batch otherwise among other rows.

    Both batches have the same size, and both are scored under one state of the generators: each
    row meets the same chance, and what differs comes from the rows beside it.

    Parameters
    ----------
    score : the classifier, which may change what it is given
    batch, scores : rows, untouched, of which the others are changed here; what it said of them
    chance : before it did
    rough : whether scores have fewer digits than float32's

    Raises
    ------
    ValueError
        Unless it answers the same batch differently as well: then it draws from a generator of
        its own, and nothing can be told.
    """
    kept = torch.linspace(0, len(batch) - 1, min(FEW // 3, len(batch) // 3) + 2).long()[1:-1]
    expected = scores[kept].double()
    finite = expected[torch.isfinite(expected)].abs()
    slack = (ROUGH if rough else SLACK) * (1.0 + (finite.amax() if len(finite) else 0.0))
    after = Chance(batch.device)

    def apart(rows: torch.Tensor) -> bool:
        chance.restore()
        found = score(rows)[kept].double()
        after.restore()
        return bool(((found - expected).abs() > slack).any())

    # the first row and the last are others, and so are the mean of all and their spread
    others = 0.7 - 2 * batch
    others[kept] = batch[kept]
    if apart(others) and not apart(batch):
        raise ValueError(
            f"base_classifier must treat every row alone, got other scores for {len(kept)} rows "
            f"of a batch of {len(batch)} among other rows: take out what averages over the batch"
        )


def check_votes(missing: int) -> None:
    """Refuse rows without a largest score: they would be votes for the first class."""
    if missing:
        raise ValueError(
            "base_classifier(batch) must be finite, got rows whose largest score is NaN or "
            f"infinite, {missing} of them: mend the model, or its precision"
        )


class Unfit(ValueError):
    """A classifier failed on a batch."""

    def __init__(self, batch: torch.Tensor, error: BaseException) -> None:
        shape = tuple(batch.shape)
        otherwise = "check the shape of the inputs, and the model by itself"
        if "positional argument" in str(error):
            otherwise = "put it into a module whose forward takes the batch alone"
        remedy = remedy_for(shape[1:], otherwise)
        super().__init__(
            f"base_classifier must score a {batch.dtype} batch of shape {shape}, got "
            f"{type(error).__name__} ({first_line(error)}): {remedy}"
        )


def remedy_for(shape: tuple[int, ...], otherwise: str) -> str:
    """What mends inputs of a shape that a network does not take."""
    if len(shape) == 2:
        return "images need the axis of their channels, x[:, None]"
    if len(shape) == 3 and shape[-1] in (1, 3, 4) and shape[0] not in (1, 3, 4):
        return "images need their channels first, x.transpose(0, 3, 1, 2)"
    return otherwise


def described(output: Any) -> str:
    """What a model returned, in words."""
    if isinstance(output, torch.Tensor):
        return str(tuple(output.shape))
    name = type(output).__name__
    return f"{name} of {', '.join(map(repr, output))}" if isinstance(output, Mapping) else name
