"""The PyTorch adapter: noisy batches of inputs -> votes of the base classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

import cert_core as cc

Counts = np.ndarray[Any, np.dtype[np.int64]]
Segments = list[tuple[int, int]]


class SmoothedClassifier:
    """A base classifier smoothed by noise (Cohen et al. 2019's Smooth, for any noise).

    Parameters
    ----------
    base_classifier : torch.nn.Module or callable
        Maps a float32 batch (m, *input_shape) to scores (m, num_classes).  A module must
        be in evaluation mode: batch statistics leak other noisy copies into a vote.
    noise : Noise, with dim the number of values of one input
    num_classes : int
    batch_size : int
        Rows of one forward pass; halved, without changing any vote, when memory runs out.
    device : str or torch.device, optional
        Where the classifier is (default: that of its first parameter, else the CPU).
    """

    def __init__(
        self,
        base_classifier: Callable[[Any], Any],
        noise: cc.Noise,
        num_classes: int,
        *,
        batch_size: int = 1000,
        device: str | torch.device | None = None,
    ) -> None:
        if not isinstance(noise, cc.Noise):
            raise ValueError(f"noise must be a noise of cert_core, got {noise!r}: e.g. L2Noise")
        for name, value, least in (("num_classes", num_classes, 2), ("batch_size", batch_size, 1)):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer >= {least}, got {value!r}: pass one")
        self.base_classifier = base_classifier
        self.noise = noise
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.device = torch.device(device) if device is not None else _device_of(base_classifier)

    def counts(
        self,
        x: Any,
        n: int,
        seed: int,
        *,
        indices: Sequence[int] | None = None,
        stage: str = "estimation",
    ) -> Counts:
        """Count the votes of n noisy copies of every input.

        Parameters
        ----------
        x : (N, *input_shape) array or tensor
        n : int >= 1
        seed : int in [0, 2^32), of the run
        indices : places of the inputs in their data set (default 0 .. N-1)
        stage : "estimation" or "selection": disjoint random streams

        Returns
        -------
        (N, num_classes) int64, rows summing to n; the same for any batch size.
        """
        inputs = _to_numpy(x)
        counts = torch.zeros((len(inputs), self.num_classes), dtype=torch.int64)
        counts = counts.to(self.device)
        batches = cc.noisy_batches(
            inputs, self.noise, n, seed, indices=indices, batch_size=self.batch_size, stage=stage
        )
        with torch.inference_mode():
            for segments, batch in batches:
                start = 0
                for votes in self._classify(torch.from_numpy(batch).to(self.device)):
                    self._add(counts, segments, start, votes)
                    start += len(votes)
        return counts.cpu().numpy()

    def _add(self, counts: Any, segments: Segments, start: int, votes: torch.Tensor) -> None:
        """Add the votes of rows start, start + 1, ... of a batch to their inputs' counts."""
        low = 0
        for i, size in segments:
            part = votes[max(low - start, 0) : max(low + size - start, 0)]
            if len(part):
                counts[i] += torch.bincount(part, minlength=self.num_classes)
            low += size

    def _classify(self, batch: torch.Tensor) -> Iterator[torch.Tensor]:
        """Labels of the batch, in parts that fit into memory."""
        self._check_mode()
        start = 0
        while start < len(batch):
            part = batch[start : start + self.batch_size]
            try:
                votes = self._labels(part)
            except (RuntimeError, MemoryError) as error:
                if len(part) == 1 or not _out_of_memory(error):
                    raise
                self.batch_size = len(part) // 2
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
            else:
                start += len(part)
                yield votes

    def _labels(self, batch: torch.Tensor) -> torch.Tensor:
        scores = self.base_classifier(batch)
        expected = (len(batch), self.num_classes)
        if not isinstance(scores, torch.Tensor) or scores.shape != expected:
            got = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
            raise ValueError(
                f"base_classifier(batch) must be a tensor of shape {expected}, got {got}: "
                "return one score a class, and pass the right num_classes"
            )
        return scores.argmax(dim=1)

    def _check_mode(self) -> None:
        module = self.base_classifier
        if isinstance(module, torch.nn.Module) and any(m.training for m in module.modules()):
            raise ValueError(
                "base_classifier must be in evaluation mode, got training mode: "
                "call base_classifier.eval() (batch statistics would make votes dependent)"
            )

    def probabilities(
        self, x: Any, n: int, seed: int, *, indices: Sequence[int] | None = None
    ) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Shares of the votes, (N, num_classes) float64; arguments as in counts."""
        return self.counts(x, n, seed, indices=indices) / n

    def predict(self, x: Any, n: int, alpha: float, seed: int) -> Counts:
        """Predict labels, abstaining where two classes are not told apart.

        Returns
        -------
        (N,) int64
            The smoothed classifier's label with probability 1 - alpha, or cc.ABSTAIN.

        References
        ----------
        Cohen et al. 2019, PREDICT.
        """
        return cc.predict_labels(self.counts(x, n, seed), alpha)

    def certify(
        self, x: Any, n0: int, n: int, alpha: float, attack: str, seed: int
    ) -> cc.Certificates:
        """Certify inputs: n0 copies select the class, n others bound its probability.

        Returns
        -------
        cc.Certificates
            Radii in the attack's norm and input units, wrong with probability alpha at
            most for each input.

        References
        ----------
        Cohen et al. 2019, CERTIFY; Zhang et al. 2020, Theorem 1.
        """
        cc.required_probability(self.noise, attack, 0.0)  # refuse a bad pair before drawing
        needed = cc.votes_needed(alpha)
        if n < needed:
            raise ValueError(
                f"n must be at least {needed} for alpha = {alpha}, got {n}: draw more samples"
            )
        selection = self.counts(x, n0, seed, stage="selection")
        estimation = self.counts(x, n, seed, stage="estimation")
        return cc.certify(selection, estimation, self.noise, attack, alpha=alpha)


def _device_of(classifier: Any) -> torch.device:
    if isinstance(classifier, torch.nn.Module):
        for parameter in classifier.parameters():
            return parameter.device
    return torch.device("cpu")


def _to_numpy(x: Any) -> Any:
    return x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else x


def _out_of_memory(error: BaseException) -> bool:
    """CUDA's own error, or the CPU allocator's, which has no type of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return "not enough memory" in text or "out of memory" in text
