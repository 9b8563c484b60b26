"""Digests that tell whether a model or a data set is still the one that a run began with."""

from __future__ import annotations

import contextlib
import dis
import hashlib
import inspect
import re
import sys
import types
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import numpy as np

from cert_models.data.datasets import Dataset
from cert_models.store.runs import CODE

SAMPLED = 64  # inputs looked at where they are made on demand
BLOCK = 256  # inputs looked at at a time
DEPTH, SHALLOW = 8, 1  # how far values are followed, and within objects of installed packages
PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic)
KNOWN = {"torch", "cert_core", "cert_models"}  # told apart by what a module says of itself


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:32]


def data_fingerprint(data: Dataset) -> str:
    """Digest of a data set: its labels and shape, and its inputs.

    All inputs where they are in memory; where they are made on demand (from files), that
    of 64 spread over the set: reading all would take minutes.
    """
    count = len(data)
    held = isinstance(data.x, np.ndarray)
    places = np.arange(count) if held else np.unique(np.linspace(0, count - 1, SAMPLED, dtype=int))
    blocks = np.array_split(places, max(1, len(places) // BLOCK))
    inputs = (np.ascontiguousarray(data.x[block]).tobytes() for block in blocks if len(block))
    head = f"{tuple(data.x.shape)} {held}".encode()
    return _digest(head, np.ascontiguousarray(data.y).tobytes(), *inputs)


def model_fingerprint(model: Any, name: str, precision: str | None = None) -> str:
    """Digests of a model: of its content, and of its code; its votes in another precision are
    those of another classifier.

    The content of a torch module is its structure and every parameter and buffer, that of a
    function the file of the module that its import path names.  The code is the source files
    of the modules of its classes and functions, of the module that the path names, and the
    values that they hold: attributes, and the globals, closures and defaults of what they call,
    as far as these are numbers, text, arrays, containers of them or objects of such.  What the
    functions assign to themselves is left out, as a count of their calls; what installed packages
    hold within is not seen, nor what code reads from files.

    Raises
    ------
    ValueError
        A source file has changed since its functions were read.
    """
    return _model_digest(model, name) + (f"+{precision}" if precision else "")


def precision_of(fingerprint: str) -> str | None:
    """The precision that a model's fingerprint names."""
    return fingerprint.partition("+")[2] or None


def _model_digest(model: Any, name: str) -> str:
    torch = sys.modules.get("torch")
    path = name if ":" in name else str(getattr(model, "arch", ""))
    file = getattr(sys.modules.get(path.partition(":")[0]), "__file__", None)
    named = Path(file).read_bytes() if file else b""
    if torch is not None and isinstance(model, torch.nn.Module):
        tensors = sorted([*model.named_parameters(), *model.named_buffers()])
        text = re.sub(r" at 0x[0-9a-f]+", "", repr(model))
        content = _digest(text.encode(), *(_tensor_bytes(*pair) for pair in tensors))
    else:
        content = _digest(named or name.encode())
    return content + CODE + _digest(named, *Held().of(model))


def _tensor_bytes(name: str, tensor: Any) -> bytes:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    head = f"{name} {tensor.dtype} {tuple(tensor.shape)}"
    content: bytes = flat.numpy().tobytes()
    return head.encode() + content


def _word(value: Any) -> str:
    """A plain value, or the type of another, which may print its place in memory."""
    return repr(value) if isinstance(value, PLAIN) else type(value).__name__


def _top(module: str) -> str:
    return module.partition(".")[0]


def _own(module: str) -> bool:
    """Whether a module is of the user's making: neither of Python nor of an installed package."""
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return _top(module) not in KNOWN | sys.stdlib_module_names and not (
        {"site-packages", "dist-packages"} & set(Path(file).parts)
    )


def _source(module: str) -> bytes:
    """The file of a module, unless it is of Python, of torch or of this package."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if not file or _top(module) in KNOWN | sys.stdlib_module_names:
        return b""
    with contextlib.suppress(OSError):  # a module of a zip archive
        return Path(file).read_bytes()
    return b""


class Held:
    """The values and source files that decide what a classifier answers, as bytes."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}  # kept, so that no other thing gets the id of one

    def of(self, thing: Any, depth: int = DEPTH) -> Iterator[bytes]:
        """A thing and what it holds, in an order that is the same in every process."""
        if isinstance(thing, PLAIN):
            yield repr(thing).encode()
        elif depth >= 0 and id(thing) not in self._seen:
            self._seen[id(thing)] = thing
            yield from self._parts(thing, depth - 1)

    def _named(self, values: Mapping[str, Any], depth: int) -> Iterator[bytes]:
        for name in sorted(values, key=_word):
            yield f"{_word(name)}=".encode()
            yield from self.of(values[name], depth)

    def _parts(self, thing: Any, depth: int) -> Iterator[bytes]:
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(thing, torch.Tensor):
            yield _tensor_bytes("", thing)
        elif isinstance(thing, np.ndarray) and thing.dtype != object:
            yield f"{thing.dtype} {thing.shape}".encode() + np.ascontiguousarray(thing).tobytes()
        elif isinstance(thing, Mapping):
            yield from self._named(thing, depth)
        elif isinstance(thing, set | frozenset):
            yield " ".join(sorted(map(_word, thing))).encode()
        elif isinstance(thing, list | tuple | np.ndarray):
            for item in thing:
                yield from self.of(item, depth)
        elif isinstance(thing, types.ModuleType):
            yield _source(thing.__name__) if _own(thing.__name__) else thing.__name__.encode()
        elif isinstance(thing, type):
            yield from self._class(thing, depth)
        elif isinstance(thing, property):
            yield from self.of(thing.fget, depth)
        elif inspect.isfunction(thing) or inspect.ismethod(thing):
            yield from self._function(thing, depth)
        elif hasattr(thing, "__wrapped__"):  # compiled, or with a cache of answers
            yield from self.of(thing.__wrapped__, depth)
        elif inspect.isroutine(thing):
            yield from self._function(thing, depth)
        elif torch is not None and isinstance(thing, torch.nn.Module):
            for path, part in thing.named_modules():
                yield path.encode()
                yield from self._module(part, depth)
        elif isinstance(thing, partial):
            yield from self.of((thing.func, thing.args, thing.keywords), depth)
        else:
            yield from self.of(type(thing), depth)
            within = depth if _own(type(thing).__module__) else min(depth, SHALLOW)
            yield from self._named(_lasting(thing), within)

    def _module(self, part: Any, depth: int) -> Iterator[bytes]:
        """A torch module but for its parameters, buffers and parts."""
        self._seen[id(part)] = part
        yield from self.of(type(part), depth)
        if _top(type(part).__module__) in KNOWN - {"torch"}:
            return
        import torch

        common = vars(torch.nn.Module()).keys()
        held = {k: v for k, v in _lasting(part).items() if k not in common}
        yield from self._named(held, depth)
        for hooks in (part._forward_pre_hooks, part._forward_hooks):
            yield from self.of(list(hooks.values()), depth)
        if isinstance(part, torch.jit.ScriptModule):
            with contextlib.suppress(RuntimeError, AttributeError):  # it has no forward
                yield str(part.code).encode()

    def _class(self, kind: type, depth: int) -> Iterator[bytes]:
        """The name of a class, its source file, and what its own code refers to."""
        yield f"{kind.__module__}.{kind.__qualname__}".encode()
        for base in kind.__mro__:
            yield _source(base.__module__)
            if _own(base.__module__):
                held = {k: v for k, v in vars(base).items() if callable(v) or k[:2] != "__"}
                yield from self._named(held, depth)

    def _function(self, function: Any, depth: int) -> Iterator[bytes]:
        """A function: its source file, and the values that it finds around it."""
        if inspect.ismethod(function):
            yield from self.of(function.__self__, depth)
        function = getattr(function, "__func__", function)  # of a method, a staticmethod
        module = getattr(function, "__module__", None) or ""
        yield f"{module}.{getattr(function, '__qualname__', '')}".encode()
        if inspect.isfunction(function) and _own(module):
            _check_read(function.__code__, module)
            yield _source(module)
            around = function.__globals__
            names = _names(function.__code__).difference(
                *(_stored(f, "STORE_GLOBAL") for f in around.values())
            )
            used = {k: v for k, v in around.items() if k in names}
            yield from self._named(used, depth)
            for part in used.values():
                if isinstance(part, types.ModuleType) and _own(part.__name__):
                    yield from self._named({k: vars(part).get(k) for k in names}, depth)
            for cell in function.__closure__ or ():
                with contextlib.suppress(ValueError):  # not filled yet
                    yield from self.of(cell.cell_contents, depth)
            yield from self.of((function.__defaults__, function.__kwdefaults__), depth)


def _check_read(code: types.CodeType, module: str) -> None:
    """Refuse code of a file that says something else since this process read it, as one that counts
    for days, or for many runs, may: the file would speak for what does not run."""
    loader, file = getattr(sys.modules[module], "__loader__", None), code.co_filename
    if type(loader) is not SourceFileLoader or loader.path != file or not Path(file).is_file():
        return
    found = Path(file).stat()
    if _told(code) not in _codes(file, found.st_mtime_ns, found.st_size):
        raise ValueError(
            f"model must be of the code that {file!r} holds now, got {code.co_name!r} as it was "
            "when this process read it: start the process, or the workers, anew"
        )


@lru_cache(maxsize=64)
def _codes(file: str, changed: int, size: int) -> set[Any]:
    """All code of a file, the modules' own and that within it; none where it is no Python."""
    codes: list[types.CodeType] = []
    with contextlib.suppress(SyntaxError, ValueError):
        codes = [compile(Path(file).read_bytes(), file, "exec", dont_inherit=True)]
    for code in codes:
        codes += [part for part in code.co_consts if isinstance(part, types.CodeType)]
    return {_told(code) for code in codes}


def _told(code: types.CodeType) -> tuple[Any, ...]:
    """What tells code from other code, however often it has run."""
    values = (
        _told(part) if isinstance(part, types.CodeType)
        else repr(sorted(part, key=repr) if isinstance(part, frozenset) else part)
        for part in code.co_consts
    )  # fmt: skip
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    return code.co_name, code.co_firstlineno, code.co_code, names, tuple(values)


def _names(code: types.CodeType) -> set[str]:
    """Names that code, and code within it, looks up in globals, attributes among them."""
    within = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return set(code.co_names).union(*map(_names, within))


def _stored(function: Any, operation: str) -> set[str]:
    """Names that a function assigns to: what it counts or keeps, which says nothing of it."""
    if not inspect.isfunction(function):
        return set()
    codes = [function.__code__]
    for code in codes:
        codes += [part for part in code.co_consts if isinstance(part, types.CodeType)]
    steps = (step for code in codes for step in dis.get_instructions(code))
    return {step.argval for step in steps if step.opname == operation}


def _lasting(thing: Any) -> dict[str, Any]:
    """The attributes of an object but for those that calling it changes."""
    calls = (getattr(type(thing), name, None) for name in ("forward", "__call__"))
    changed = set().union(*(_stored(call, "STORE_ATTR") for call in calls))
    return {k: v for k, v in getattr(thing, "__dict__", {}).items() if k not in changed}
