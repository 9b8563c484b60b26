"""The PyTorch adapter: noisy batches of inputs -> votes of the base classifier."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch

import cert_core as cc
from cert_models.smooth.batches import Batches, batch_by_trial
from cert_models.smooth.checks import (
    Chance,
    Modes,
    Unfit,
    Watch,
    check_alone,
    check_votes,
    described,
)
from cert_models.smooth.forward import Forward

Counts = np.ndarray[Any, np.dtype[np.int64]]
Float = np.ndarray[Any, np.dtype[np.float64]]
Segments = list[tuple[int, int]]


class SmoothedClassifier(cc.Smoothed):
    """A base classifier smoothed by noise (Cohen et al. 2019's Smooth, for any noise).

    Parameters
    ----------
    base_classifier : torch.nn.Module or callable
        Maps a float32 batch (m, *input_shape) to scores (m, num_classes).  A module must
        be in evaluation mode: batch statistics leak other noisy copies into a vote.
    noise : Noise, with dim the number of values of one input
    num_classes : int
    batch_size : int, or None
        Rows of one forward pass; halved, without changing any vote, when memory runs out.
        None: found by trial on the first inputs, as many as gain speed and fit into memory.
    device : str or torch.device, optional
        Where the classifier is (default: that of its first parameter, else the CPU).  On a
        CUDA device CuPy draws the noise there; without it the CPU does, with a warning.
    autocast, channels_last, compiled
        As in Forward: precision, memory layout and compilation of the forward pass.
    sound : Lattice, optional
        Draw in sound mode, as of cc.Smoothed; what happens in a lower precision is then part of
        the classifier.

    Examples
    --------
    >>> import torch
    >>> from cert_models.smooth import SmoothedClassifier
    >>> network = torch.nn.Linear(4, 2).eval()  # yours
    >>> smoothed = SmoothedClassifier(network, cc.Gaussian(4, 0.5), num_classes=2)
    >>> made = smoothed.certify(torch.ones(3, 4), 100, 1000, 0.001, "l2", seed=0)
    >>> len(made), made.attack
    (3, 'l2')
    """

    _counts_classes: ClassVar[bool] = True  # and needs to know how many

    def __init__(
        self,
        base_classifier: Callable[[Any], Any],
        noise: cc.Noise,
        num_classes: int | None,
        *,
        batch_size: int | None = 1000,
        device: str | torch.device | None = None,
        autocast: str | None = None,
        channels_last: bool = False,
        compiled: bool = False,
        sound: cc.Lattice | None = None,
    ) -> None:
        cc.errors.check_callable("base_classifier", base_classifier)
        if self._counts_classes:
            cc.votes.class_count(num_classes)
        rows = 1 if batch_size is None else batch_size
        super().__init__(base_classifier, noise, num_classes, batch_size=rows, sound=sound)
        self.base_classifier = base_classifier
        self.batch_size = self.batch_size if batch_size is not None else None
        self.device = _device_of(base_classifier, device)
        if autocast is not None:
            cc.errors.text("autocast", autocast)
        cc.errors.flag("channels_last", channels_last)
        self._how: dict[str, Any] = {
            "batch_size": batch_size, "device": device, "autocast": autocast,
            "channels_last": channels_last, "compiled": compiled, "sound": sound,
        }  # fmt: skip
        self._batches, self._modes = Batches(self.device), Modes(base_classifier)
        self._watch = Watch()
        cc.errors.flag("compiled", compiled)
        self._forward = Forward(
            base_classifier, self.device,
            autocast=autocast, channels_last=channels_last, compiled=compiled,
        )  # fmt: skip

    def __reduce__(self) -> Any:
        """As it was made: another process has its own memory, and perhaps another device."""
        made = partial(type(self), self.base_classifier, self.noise, self._classes, **self._how)
        return made, ()

    def rows(self, x: Any) -> int:
        """Rows of one forward pass on inputs like x: batch_size, found by trial if it is None."""
        inputs = self.inputs(x)
        if self.batch_size is None:
            self._modes.check()
            shape = inputs.shape[1:]
            self.batch_size = batch_by_trial(lambda size: self._try(size, shape), self._too_large)
        return self.batch_size

    def _try(self, size: int, shape: tuple[int, ...]) -> None:
        """One forward pass, waited for."""
        with torch.inference_mode():
            self._scores(torch.zeros((size, *shape), device=self.device))
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def inputs(self, x: Any) -> Any:
        return super().inputs(_to_numpy(x))

    def filling(self, inputs: Any) -> dict[str, Any]:
        rows = self.rows(inputs)
        return {"batch_size": rows, **self._batches.options(rows, self.noise.dim)}

    def drawing(self) -> contextlib.AbstractContextManager[Any]:
        return self._batches.stream()

    def counts(
        self,
        x: Any,
        n: int,
        seed: int,
        *,
        indices: Sequence[int] | None = None,
        stage: str = "estimation",
        start: int = 0,
        executor: Executor | None = None,
        progress: cc.votes.Progress | None = None,
    ) -> cc.provenance.CountedVotes:
        """As of cc.Smoothed, counted on the device."""
        if executor is not None:
            how: dict[str, Any] = {"indices": indices, "stage": stage, "start": start}
            return super().counts(x, n, seed, executor=executor, progress=progress, **how)
        inputs = self.inputs(x)
        which: dict[str, Any] = {"indices": indices, "stage": stage, "start": start}
        which["sound"], how = self.sound, self.filling(inputs)
        drawn = cc.votes.drawn_by(self.noise, len(inputs), n, seed, **which)
        failed = None
        if self.sound is not None:
            failed = cc.votes.new_flags(how["batch_size"], len(inputs) * n)
        shape = len(inputs), self.num_classes + 2  # the last for rows without a vote, or FAILed
        counts = torch.zeros(shape, dtype=torch.int64, device=self.device)
        with self.drawing():
            for segments, parts in cc.votes.answers(
                self._classify, inputs, self.noise, n, seed,
                failed=failed, progress=progress, **which, **how,
            ):  # fmt: skip
                done = 0
                for votes in parts:
                    given = votes if failed is None else self._heeded(votes, failed[done:])
                    self._add(counts, segments, done, given)
                    done += len(votes)
        table = counts.cpu().numpy()
        check_votes(int(table[:, -2].sum()))
        told = cc.votes.with_fails(drawn, table[:, -1])
        return cc.provenance.counted(np.ascontiguousarray(table[:, :-2]), told)

    def _heeded(self, votes: torch.Tensor, failed: Any) -> torch.Tensor:
        """The votes, those of rows that FAILed in a column of their own."""
        given = failed[: len(votes)]
        if not given.any():  # nearly always: a copy to the device would wait for it
            return votes
        return torch.where(torch.from_numpy(given).to(votes.device), self.num_classes + 1, votes)

    def labels(self, batch: Any) -> Counts:
        votes = torch.cat(self._classify(batch)).cpu().numpy()
        check_votes(int((votes == self.num_classes).sum()))
        return votes

    def scores(self, batch: Any) -> Float:
        """Softmax scores of a batch."""
        return torch.cat(self._classify(batch, _softmax_of)).cpu().numpy()

    def _add(self, counts: Any, segments: Segments, start: int, votes: torch.Tensor) -> None:
        """Add the votes of rows start, start + 1, ... of a batch to their inputs' counts."""
        low = 0
        for i, size in segments:
            part = votes[max(low - start, 0) : max(low + size - start, 0)]
            if len(part) and part.is_cuda:  # where bincount would wait for the device
                counts[i].scatter_add_(0, part, torch.ones_like(part))
            elif len(part):
                counts[i] += torch.bincount(part, minlength=self.num_classes + 2)
            low += size

    @torch.inference_mode()
    def _classify(
        self, batch: Any, read: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> list[torch.Tensor]:
        """Labels of the batch (num_classes: none), or what read makes of its scores, in parts
        that fit into memory; DrawAgain where they did not, the parts then being smaller."""
        self._modes.check()
        rows, found = self._batches.tensor(batch), []
        for part in torch.split(rows, self.batch_size or len(rows)):
            try:
                looked_at = self._watch.rows(len(part))
                scores = self._looked_at(part, looked_at) if looked_at else self._scores(part)
                found.append(self._labels(scores) if read is None else read(scores))
            except (RuntimeError, MemoryError) as error:
                if not self._too_large(error):
                    raise
                if len(part) == 1:
                    raise Unfit(part, error) from error
                self.batch_size = len(part) // 2
                raise cc.votes.DrawAgain from error
        self._modes.check_hidden()
        return found

    def _looked_at(self, part: torch.Tensor, count: int) -> torch.Tensor:
        """Scores of the rows, of which the first ones must not depend on the rows beside them."""
        rough, chance = self._forward.rough, Chance(self.device)
        untouched = part[:count].clone()  # the classifier may change what it is given
        try:
            scores = self._scores(part)
        finally:
            self._modes.check_hidden()
        try:
            if 3 <= count == len(part):
                check_alone(self._scores, untouched, scores, chance, rough=rough)
                return scores
            after = Chance(self.device)
            few = untouched if count >= 3 else torch.cat([untouched] * 3)
            check_alone(self._scores, few, self._scores(few.clone()), after, rough=rough)
            after.restore()
        except (Unfit, RuntimeError, MemoryError):
            if len(part) > 2:
                raise
            # the three rows of the check are more than what is known to fit: nothing is told
        return scores

    def _labels(self, scores: torch.Tensor) -> torch.Tensor:
        """The largest score's place; num_classes where that is infinite or no number."""
        told = torch.isfinite(scores.amax(dim=1))
        return torch.where(told, scores.argmax(dim=1), self.num_classes)

    def _too_large(self, error: BaseException) -> bool:
        """Whether memory ran out; then what is kept of it is given back."""
        found = _out_of_memory(error)
        if found and self.device.type == "cuda":
            torch.cuda.empty_cache()
        return found

    def _scores(self, batch: torch.Tensor) -> torch.Tensor:
        try:
            scores = self._forward(batch)
        except Exception as error:  # a model may raise anything
            if _out_of_memory(error):
                raise
            raise Unfit(batch, error) from error
        self._check_shape(scores, batch)
        if not scores.is_floating_point():
            raise ValueError(
                f"base_classifier(batch) must be floats, one score a class, got {scores.dtype}: "
                "return the scores before they are rounded or compared"
            )
        found: torch.Tensor = scores
        return found

    def _check_shape(self, scores: Any, batch: torch.Tensor) -> None:
        expected = (len(batch), self.num_classes)
        if not isinstance(scores, torch.Tensor) or scores.shape != expected:
            raise ValueError(
                f"base_classifier(batch) must be a tensor of shape {expected}, got "
                f"{described(scores)}: return one score a class, and pass the right num_classes"
            )


def _device_of(classifier: Any, device: Any) -> torch.device:
    """The device given, or that of the classifier's first parameter."""
    if isinstance(device, str | torch.device):
        with contextlib.suppress(RuntimeError):
            return torch.device(device)
    if device is not None:
        raise cc.errors.fail("device", "a device of torch", device, "e.g. 'cpu' or 'cuda:0'")
    if isinstance(classifier, torch.nn.Module):
        for parameter in classifier.parameters():
            return parameter.device
    return torch.device("cpu")


def _softmax_of(scores: torch.Tensor) -> torch.Tensor:
    return torch.softmax(scores.double(), dim=1)


def _to_numpy(x: Any) -> Any:
    if not isinstance(x, torch.Tensor):
        return x
    values = x.detach().cpu()  # NumPy has no bfloat16
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def _out_of_memory(error: BaseException) -> bool:
    """CUDA's own error, or the CPU allocator's, which has no type of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return "not enough memory" in text or "out of memory" in text
