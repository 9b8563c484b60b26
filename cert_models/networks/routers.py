"""Routers made of classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from cert_models.smooth.forward import scores_of


class Grouped(nn.Module):
    """The branch of the largest score of a classifier: of each branch the largest of its labels'.

    Parameters
    ----------
    network : torch.nn.Module, to scores of len(labels) classes
    labels : the branch of each class, every one of 0, 1, ... among them
    """

    def __init__(self, network: nn.Module, labels: Sequence[int]) -> None:
        super().__init__()
        self.network, self._count = network, len(labels)
        places = range(len(labels))
        self._groups = [[i for i in places if labels[i] == j] for j in range(max(labels) + 1)]

    def forward(self, batch: torch.Tensor) -> Any:
        scores = scores_of(self.network(batch))
        if scores.shape[1:] != (self._count,):
            raise ValueError(
                f"labels must name the branch of each of the {scores.shape[1]} classes of the "
                f"router's model, got {self._count}: list them all"
            )
        return torch.stack([scores[:, group].amax(dim=1) for group in self._groups], dim=1)
