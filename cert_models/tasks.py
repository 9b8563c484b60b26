"""Certificates that are no single label, one input at a time: intervals of values, maps of
labels that are right at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import cert_core as cc
from cert_core.rounding import in_full
from cert_models.data.targets import Array, Targets
from cert_models.engines import Sampler, Stretch
from cert_models.run import ROWS, Recipe


@dataclass(frozen=True)
class Task:
    """All that decides the certificates of a task.

    Attributes
    ----------
    kind : "regression" or "segmentation"
    noise : Noise
    attack, radius : in the attack's norm and input units; fixed before anything is drawn
    alpha : float
        Failure probability of each interval; of all labels of an input at once.
    seed, n, n0 : int
        n0 of a segmentation: the selection samples.
    share : float or None
        Of a regression: of the percentile; None for the mean of values in [0, 1].
    num_classes : int
        Of a segmentation.
    model, model_fingerprint, data, data_fingerprint : str
    """

    kind: str
    noise: cc.Noise
    attack: str
    radius: float
    alpha: float
    seed: int
    n: int
    n0: int | None = None
    share: float | None = None
    num_classes: int | None = None
    model: str = ""
    model_fingerprint: str = ""
    data: str = ""
    data_fingerprint: str = ""

    def record(self) -> dict[str, Any]:
        """JSON-able; two tasks with the same one give the same certificates."""
        return asdict(self) | {"noise": self.noise.to_dict()}

    @property
    def what(self) -> str:
        """What is certified of each output, in words."""
        if self.kind == "segmentation":
            return "label"
        if self.share is None:
            return "mean"
        return "median" if self.share == 0.5 else f"{in_full(self.share)}-quantile"


@dataclass(frozen=True, eq=False)
class Interval:
    """Bounds that hold at every perturbed input, of each output of one input.

    Attributes
    ----------
    index : int
    lower, upper : (*outputs) float64
    seconds : float
    """

    index: int
    lower: Array
    upper: Array
    seconds: float


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Labels of one input that are all right at once at every perturbed one.

    Attributes
    ----------
    index : int
    labels : (*outputs) int64
        cc.ABSTAIN where nothing is said.
    seconds : float
    """

    index: int
    labels: Array
    seconds: float


Certified = Interval | LabelMap


def check_task(task: Task) -> None:
    """Refuse, before anything is drawn, what could certify nothing.

    Raises
    ------
    ValueError
        No n votes, or values, could bound anything at this radius and alpha, or an argument is
        out of its domain.
    """
    rule, remedy = "enough to bound anything at this radius and alpha", "draw more, or shrink it"
    if task.kind == "segmentation":
        votes = np.full(1, task.n)
        given = (np.zeros(1, dtype=int), votes, task.n, task.noise, task.attack, task.radius)
        if cc.joint.certify_labels_jointly(*given, alpha=task.alpha)[0] == cc.ABSTAIN:
            raise cc.errors.fail("n", rule, task.n, remedy)
    elif task.share is not None and ranks_of(task) == (0, task.n + 1):
        raise cc.errors.fail("n", rule, task.n, remedy)
    elif task.share is None:
        cc.mean_bounds(np.zeros(1), task.noise, task.attack, task.radius, alpha=task.alpha)


def ranks_of(task: Task) -> tuple[int, int]:
    """The ranks of the values that bound a regression's percentile."""
    assert task.share is not None
    return cc.percentiles.percentile_ranks(
        task.n, task.share, task.noise, task.attack, task.radius, alpha=task.alpha
    )


def smoothed_of(model: Any, task: Task, *, batch_size: int, device: str | None, **forward: Any
                ) -> cc.Smoothed:  # fmt: skip
    """The model of a task, smoothed: a torch module or a function.

    A module gives (m, *outputs) values, or (m, num_classes, *outputs) scores of a segmentation;
    a function values, or (m, *outputs) labels.  forward: how a module is run.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        from cert_models.networks.architectures import usable_device
        from cert_models.smooth import SmoothedFunction, SmoothedMaps

        module = model.to(usable_device(device)) if device is not None else model
        options = {"batch_size": batch_size or None, "device": device, **forward}
        if task.kind == "segmentation":
            return SmoothedMaps(module, task.noise, task.num_classes, **options)
        return SmoothedFunction(module, task.noise, **options)
    for name, value in forward.items():
        if value:
            raise ValueError(f"{name} must not be given for a function, got {value!r}: drop it")
    return cc.Smoothed(model, task.noise, task.num_classes, batch_size=batch_size or ROWS)


def sampler_of(
    model: Any, task: Task, data: Targets, *, device: str | None, loading: Mapping[str, Any],
    executor: Executor | None = None, **forward: Any,
) -> Sampler[Certified]:  # fmt: skip
    """What certifies given inputs, one by one, here or on workers; held of an input are its counts,
    or the tails of its values (all of them for means).

    Parameters
    ----------
    model : a module, a function, or a name that each worker loads
    task : Task
    data : Targets
    loading : how a named model is loaded, as load_model takes it
    executor : as in cert_models.run.sampler_of
    device, forward : as in smoothed_of
    """
    make = Recipe(
        model=model, run=task, smooth=smoothed_of, loading=loading, device=device, forward=forward
    )
    copies = task.n + (task.n0 or 0)
    return Sampler(
        make, certify_stretch, data.inputs, executor=executor, passes=lambda _: copies
    )  # fmt: skip


def certify_stretch(made: tuple[cc.Smoothed, Task], stretch: Stretch) -> Iterator[Certified]:
    """Certify the inputs of a stretch: the same wherever it is done."""
    smoothed, task = made
    for index, _, x in stretch.inputs():
        begun = time.monotonic()
        if task.kind == "segmentation":
            labels = _labels(smoothed, task, x, index)
            yield LabelMap(index, labels, time.monotonic() - begun)
        else:
            lower, upper = _bounds(smoothed, task, x, index)
            yield Interval(index, lower, upper, time.monotonic() - begun)


def _bounds(smoothed: cc.Smoothed, task: Task, x: Array, index: int) -> tuple[Array, Array]:
    if task.share is not None:
        ranks = ranks_of(task)
        low, high = smoothed.values(x, task.n, task.seed, indices=[index], ranks=ranks)
        return low[0], high[0]
    values = smoothed.values(x, task.n, task.seed, indices=[index])
    low, high = cc.mean_bounds(values, task.noise, task.attack, task.radius, alpha=task.alpha)
    return low[0], high[0]


def _labels(smoothed: cc.Smoothed, task: Task, x: Array, index: int) -> Array:
    assert task.n0 is not None
    labels = smoothed.selected_labels(x, task.n0, task.seed, indices=[index])
    votes = smoothed.label_votes(x, labels, task.n, task.seed, indices=[index])
    found: Array = cc.joint.certify_labels_jointly(
        labels, votes, task.n, task.noise, task.attack, task.radius, alpha=task.alpha
    )[0]
    return found
