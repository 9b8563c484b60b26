"""What a base classifier must be like: votes of one row must not depend on the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

FEW = 8  # rows scored once more by themselves
SLACK, ROUGH = 1e-3, 0.05  # what another batch may change, of the largest score


def check_mode(classifier: Any) -> None:
    """Refuse a module in training mode, or with batch statistics in evaluation too."""
    if not isinstance(classifier, torch.nn.Module):
        return
    for name, part in classifier.named_modules():
        if part.training:
            raise ValueError(
                "base_classifier must be in evaluation mode, got training mode: "
                "call base_classifier.eval() (batch statistics would make votes dependent)"
            )
        if isinstance(part, BatchNorm) and part.running_mean is None:
            raise ValueError(
                "base_classifier must treat every row alone, got batch statistics in "
                f"{name or 'it'!r}: train it with track_running_stats=True"
            )


def check_alone(
    score: Callable[[torch.Tensor], torch.Tensor],
    batch: torch.Tensor,
    scores: torch.Tensor,
    *,
    rough: bool,
) -> None:
    """Refuse a classifier that scores a few rows of the batch otherwise by themselves.

    Parameters
    ----------
    score : the classifier
    batch, scores : at least two rows, and what it said of them
    rough : whether scores have fewer digits than float32's

    Raises
    ------
    ValueError
        Unless it answers the same batch differently as well: then it has chance of its own,
        which does no harm, and nothing can be told.
    """
    few = batch[: min(FEW, len(batch) // 2)]
    expected = scores[: len(few)].double()
    slack = (ROUGH if rough else SLACK) * (1.0 + expected.abs().amax())

    def apart(found: torch.Tensor) -> bool:
        return bool(((found[: len(few)].double() - expected).abs() > slack).any())

    if apart(score(few)) and not apart(score(batch)):
        raise ValueError(
            "base_classifier must treat every row alone, got other scores for the first "
            f"{len(few)} rows of a batch of {len(batch)} by themselves: take out what "
            "averages over the batch"
        )


def check_votes(missing: int) -> None:
    """Refuse rows without a largest score: they would be votes for the first class."""
    if missing:
        raise ValueError(
            "base_classifier(batch) must be finite, got rows whose largest score is NaN or "
            f"infinite, {missing} of them: mend the model, or its precision"
        )
