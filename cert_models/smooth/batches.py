"""Noisy batches on a torch device: drawn there by CuPy, or on the CPU and copied."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch

import cert_core as cc

LEAST, MOST = 64, 1 << 15  # rows of a batch found by trial
GAIN = 1.03  # what a doubling must win to be worth its memory


class Batches:
    """How noise comes to a device.

    Parameters
    ----------
    device : torch.device
        On CUDA devices the noise is drawn by CuPy on torch's current stream; where CuPy is
        missing a warning says, once, that the CPU draws it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def on_device(self) -> bool:
        """Whether the device draws."""
        return self.device.type == "cuda" and _draws(_index(self.device))

    def options(self, rows: int, dim: int) -> dict[str, Any]:
        """How cert_core is to fill batches of so many rows."""
        if not self.on_device:
            return {}
        buffer = torch.empty((rows, dim), dtype=torch.float32, device=self.device)
        return {"backend": "gpu", "buffer": buffer}

    def stream(self) -> contextlib.AbstractContextManager[Any]:
        """A context in which CuPy works on torch's current stream."""
        if not self.on_device:
            return contextlib.nullcontext()
        return _torch_stream(self.device)

    def tensor(self, batch: Any) -> torch.Tensor:
        """A batch, NumPy's or torch's, on the device."""
        tensor = batch if isinstance(batch, torch.Tensor) else torch.from_numpy(batch)
        return tensor.to(self.device)


def _index(device: torch.device) -> int:
    return device.index if device.index is not None else torch.cuda.current_device()


@contextlib.contextmanager
def _torch_stream(device: torch.device) -> Iterator[None]:
    import cupy

    with cupy.cuda.Device(_index(device)), cupy_stream(torch.cuda.current_stream(device)):
        yield


class _Handle:
    """A stream of torch, by CUDA's stream protocol in all its versions."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, int(self.stream.cuda_stream)


@cache
def _borrowed() -> Any:
    """CuPy's class of streams, for one that is not CuPy's to destroy: it would."""
    import cupy

    return type("Borrowed", (cupy.cuda.Stream,), {"__del__": lambda self: None})


def cupy_stream(stream: Any) -> Any:
    """A stream of torch as one of CuPy, on the current device."""
    import cupy

    if hasattr(cupy.cuda.Stream, "from_external"):
        return _borrowed().from_external(_Handle(stream))
    return cupy.cuda.ExternalStream(stream.cuda_stream, stream.device.index)  # before CuPy 14


@cache
def _draws(index: int) -> bool:
    """Whether cert_core draws on this CUDA device; says once why not."""
    try:
        import cupy

        with cupy.cuda.Device(index):
            cc.draw(cc.Gaussian(1, 1.0), 1, 0, backend="gpu")
    except ImportError as error:  # BackendMissing is one
        warnings.warn(
            f"noise for the CUDA device is drawn on the CPU ({error}): install cupy-cuda13x or "
            "cupy-cuda12x, as the driver's CUDA, to draw it on the device",
            stacklevel=2,
        )
        return False
    return True


def batch_by_trial(
    run: Callable[[int], None],
    too_large: Callable[[BaseException], bool],
    *,
    most: int = MOST,
    clock: Callable[[], float] = time.perf_counter,
) -> int:
    """Find how many rows a forward pass is best given.

    Parameters
    ----------
    run : callable
        Passes that many rows through the network, and waits for it.
    too_large : callable
        Whether an error says that they do not fit into memory.
    most : int
        Rows at most.

    Returns
    -------
    int
        The rows at which a doubling wins less than 3 % a row, does not fit, or is `most`.
    """
    size, best = min(LEAST, most), 0.0
    while True:
        try:
            run(size)  # the first pass of a size may compile or choose algorithms
            begun = clock()
            run(size)
            rate = size / max(clock() - begun, 1e-9)
        except (RuntimeError, MemoryError) as error:
            if not too_large(error):
                raise
            return max(1, size // 2)
        if rate < GAIN * best:
            return size // 2
        if 2 * size > most:
            return size
        size, best = 2 * size, rate
