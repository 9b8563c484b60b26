"""The CUDA text run on the CPU, behind a stand-in for CuPy made of NumPy.

All kernels asked for are compiled by the system's C++ compiler into one library, whatever
their macros, with emulator.h in CUDA's place.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from cert_core.kernels.gpu import launches

HERE = Path(__file__).parent
COMPILER = shutil.which("g++")
FLAGS = ["-std=c++17", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-w"]


def _name(text: str, options: Iterable[str]) -> str:
    return "k" + hashlib.md5("\0".join([text, *options]).encode()).hexdigest()


def _variant(file: str, macros: launches.Macros) -> str:
    """One kernel as C++, in a namespace of its own and reachable by its name."""
    text = launches.source(file)
    name = _name(text, launches.options(macros))
    words = [(f"CC_{key}", value) for key, value in macros] + [
        ("CC_ENTRY", ""),
        ("entry", f"f_{name}"),
    ]
    defined = "".join(f"#define {key} {value}\n" for key, value in words)
    undefined = "".join(f"#undef {key}\n" for key, _ in words)
    call = (
        f'extern "C" int {name}(unsigned grid, int backwards, void** values, const size_t* sizes, '
        f"int count) {{ return emulator::launch({name}_::f_{name}, grid, backwards, values, sizes, "
        "count); }\n"
    )
    return f"{defined}namespace {name}_ {{\n{text}\n}}\n{undefined}{call}"


class Emulator:
    """Compiled kernels, by the text and options that CuPy would get."""

    def __init__(self, variants: Iterable[tuple[str, launches.Macros]], folder: Path) -> None:
        path, library = folder / "kernels.cpp", folder / "kernels.so"
        headers = '#include "emulator.h"\n' + launches.source("copies.cuh")
        path.write_text(headers + "".join(_variant(*v) for v in variants), encoding="utf-8")
        assert COMPILER is not None
        subprocess.run([COMPILER, *FLAGS, f"-I{HERE}", str(path), "-o", str(library)], check=True)
        self.library = ctypes.CDLL(str(library))
        self.backwards = False
        self.launched = 0

    def function(self, text: str, options: Iterable[str]) -> Any:
        """kernel(grid, block, arguments), as CuPy's."""
        kernel = getattr(self.library, _name(text, options))

        def call(grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...]) -> None:
            assert block == (launches.THREADS,)
            assert 1 <= grid[0] <= launches.MOST_BLOCKS
            cells = [
                np.array(a.ctypes.data, np.uint64) if isinstance(a, np.ndarray) else np.array(a)
                for a in arguments
            ]
            values = (ctypes.c_void_p * len(cells))(*(c.ctypes.data for c in cells))
            sizes = (ctypes.c_size_t * len(cells))(*(c.nbytes for c in cells))
            status = kernel(ctypes.c_uint(grid[0]), int(self.backwards), values, sizes, len(cells))
            assert status == 0, f"argument count 1, sizes 2, barrier 3: {status}"
            self.launched += 1

        return call


class Array(np.ndarray[Any, Any]):
    """A NumPy array with what CuPy's have besides, that mixes with NumPy's as little as they."""

    device = SimpleNamespace(id=0)

    def get(self) -> Any:
        return np.array(self)

    @property
    def __cuda_array_interface__(self) -> Any:
        return {"data": (self.ctypes.data, False)}

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        _alike(inputs)
        out = options.get("out", ())
        options |= {"out": tuple(x.view(np.ndarray) for x in out)} if out else {}
        plain = [x.view(np.ndarray) if isinstance(x, Array) else x for x in inputs]
        result = getattr(ufunc, method)(*plain, **options)
        return out[0] if out else np.asarray(result).view(Array)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        _alike(args)
        return super().__array_function__(function, types, args, options)


def _alike(values: Any) -> None:
    for value in values:
        if isinstance(value, list | tuple):
            _alike(value)
        elif type(value) is np.ndarray and value.ndim:
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")


def _array(value: Any, dtype: Any = None) -> Any:
    if (
        isinstance(value, Array)
        and value.dtype == (dtype or value.dtype)
        and value.flags.c_contiguous
    ):
        return value
    return np.ascontiguousarray(value, dtype).view(Array)


class RawModule:
    """Kernels by their text, as CuPy compiles them."""

    emulator: Emulator

    def __init__(self, code: str, options: tuple[str, ...]) -> None:
        self.call = self.emulator.function(code, options)

    def get_function(self, name: str) -> Any:
        assert name == "entry"
        return self.call


class OutOfMemoryError(MemoryError):
    """CuPy's."""


def stand_in(emulator: Emulator) -> ModuleType:
    """A module in CuPy's place: its arrays are NumPy's, its kernels emulated."""
    fake: Any = ModuleType("cupy")

    def empty(shape: Any, dtype: Any) -> Any:
        if math.prod(shape) > 1 << 40:
            raise OutOfMemoryError
        return np.full(shape, 77, dtype).view(Array)  # never 0: what is not written shows

    fake.ndarray, fake.RawModule = Array, type("Module", (RawModule,), {"emulator": emulator})
    fake.empty, fake.asarray, fake.ascontiguousarray = empty, _array, _array
    fake.zeros = lambda shape, dtype: np.zeros(shape, dtype).view(Array)
    fake.from_dlpack = lambda value: value.array.view(Array)
    for name in ("sort", "exp", "cumsum", "isnan"):
        setattr(fake, name, getattr(np, name))
    stream = SimpleNamespace(synchronize=lambda: None)
    fake.cuda = SimpleNamespace(
        runtime=SimpleNamespace(
            getDeviceCount=lambda: 1, getDevice=lambda: 0, CUDARuntimeError=RuntimeError
        ),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        get_current_stream=lambda: stream,
    )
    return fake  # type: ignore[no-any-return]
