"""The forward pass of a classifier: precision, memory layout, compilation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import torch

from cert_core.errors import fail

PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Forward:
    """A classifier as it is run.

    Parameters
    ----------
    classifier : torch.nn.Module or callable
        A module is given batches in the precision of its parameters.
    device : torch.device
    autocast : "bfloat16", "float16" or None
        Precision of the operations that torch runs in less than float32.
    channels_last : bool
        Order images and a module's weights by pixel, which convolutions may prefer.
    compiled : bool
        Whether torch.compile is to compile it.

    Raises
    ------
    ValueError
        No such precision.
    """

    def __init__(
        self,
        classifier: Callable[[Any], Any],
        device: torch.device,
        *,
        autocast: str | None = None,
        channels_last: bool = False,
        compiled: bool = False,
    ) -> None:
        if autocast is not None and autocast not in PRECISIONS:
            raise fail("autocast", f"one of {', '.join(PRECISIONS)}", autocast, "choose one")
        if channels_last and isinstance(classifier, torch.nn.Module):
            classifier = classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._function: Callable[[Any], Any] = torch.compile(classifier) if compiled else classifier
        self._device, self._channels_last = device, channels_last
        self._dtype = _dtype_of(classifier) if autocast is None else torch.float32
        self._precision = None if autocast is None else PRECISIONS[autocast]

    @property
    def rough(self) -> bool:
        """Whether scores have fewer digits than float32's."""
        return self._precision is not None or self._dtype in PRECISIONS.values()

    def __call__(self, batch: torch.Tensor) -> Any:
        """The scores of a batch."""
        if self._channels_last and batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        with self._context():
            return scores_of(self._function(batch.to(self._dtype)))

    def _context(self) -> contextlib.AbstractContextManager[Any]:
        if self._precision is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=self._precision)


def scores_of(output: Any) -> Any:
    """What a model returned, or its logits where they are a named part of that (torchvision's
    networks for segmentation call them out)."""
    if isinstance(output, Mapping):
        return output.get("logits", output.get("out", output))
    return getattr(output, "logits", output)


def _dtype_of(classifier: Any) -> torch.dtype:
    """The precision of a module's first parameter; float32 of all else."""
    if isinstance(classifier, torch.nn.Module):
        for parameter in classifier.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
    return torch.float32
