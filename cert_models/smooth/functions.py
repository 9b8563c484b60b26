"""Torch modules that return values or maps of classes: regression, boxes, segmentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import cert_core as cc
from cert_models.smooth.checks import described
from cert_models.smooth.classifier import SmoothedClassifier

Float = np.ndarray[Any, np.dtype[np.float64]]


class SmoothedFunction(SmoothedClassifier):
    """A torch module of real outputs, smoothed: its `values`, for percentiles and means.

    Parameters
    ----------
    function : torch.nn.Module or callable
        Maps a float32 batch (m, *input_shape) to (m, *outputs) floats.
    noise, **options
        As in SmoothedClassifier.
    """

    _counts_classes = False

    def __init__(self, function: Callable[[Any], Any], noise: cc.Noise, **options: Any) -> None:
        super().__init__(function, noise, None, **options)

    counts = cc.Smoothed.counts

    def labels(self, batch: Any) -> Any:
        """The outputs of a batch, (m, *outputs) float64."""
        return torch.cat(self._classify(batch, torch.Tensor.double)).cpu().numpy()

    def _check_shape(self, scores: Any, batch: torch.Tensor) -> None:
        if not isinstance(scores, torch.Tensor) or scores.shape[:1] != (len(batch),):
            raise ValueError(
                f"base_classifier(batch) must be a tensor of {len(batch)} values, or of an array "
                f"for each row, got {described(scores)}: return one output a row"
            )


class SmoothedMaps(SmoothedClassifier):
    """A torch module of many labels a row, smoothed: its `selected_labels` and `label_votes`.

    Parameters
    ----------
    base_classifier : torch.nn.Module or callable
        Maps a float32 batch (m, *input_shape) to scores (m, num_classes, *outputs), as networks
        for segmentation do.
    noise, num_classes, **options
        As in SmoothedClassifier.
    """

    counts = cc.Smoothed.counts

    def _check_shape(self, scores: Any, batch: torch.Tensor) -> None:
        expected = (len(batch), self.num_classes)
        if not isinstance(scores, torch.Tensor) or scores.shape[:2] != expected:
            raise ValueError(
                "base_classifier(batch) must be a tensor of shape "
                f"({expected[0]}, {expected[1]}, *outputs), got {described(scores)}: return a map "
                "of scores for each class, and pass the right num_classes"
            )
