"""cert certify --task: intervals of a regression, certified maps of a segmentation."""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import zlib
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

import cert_core as cc
from cert_core.rounding import confidence, in_full
from cert_models.commands.options import (
    UsageError,
    check_targets,
    chosen_inputs,
    emit,
    noise_of,
    target,
)
from cert_models.commands.progress import interrupted, progress
from cert_models.data.targets import Array, Targets, load_targets
from cert_models.engines import Sampler, executor_on
from cert_models.reports.intervals import Intervals, Maps, draw_intervals, draw_maps
from cert_models.run import keep_memory
from cert_models.store.fingerprints import data_fingerprint, model_fingerprint
from cert_models.store.results import measure_of
from cert_models.store.rows import RowTable
from cert_models.tasks import (
    Certified,
    Interval,
    LabelMap,
    Task,
    check_task,
    sampler_of,
)

COLUMNS = {
    "regression": ("target", "lower", "upper", "inside", "time"),
    "segmentation": ("certified", "right", "components", "labels", "time"),
}
WRITTEN = "out", "picture"
OTHERS = (  # options of single labels
    "at", "bound", "until", "shells", "runner_up", "store", "run_name", "sound", "quantize",
)  # fmt: skip


def add_task(parser: argparse.ArgumentParser) -> None:
    """What is certified, where it is no single label an input."""
    parser.add_argument(
        "--task", choices=("classification", "regression", "segmentation"),
        default="classification",
        help="single labels; intervals of real outputs; maps of labels, right at once an input",
    )  # fmt: skip
    parser.add_argument("--radius", type=float, help="of these two tasks: fixed beforehand")
    parser.add_argument(
        "--share", type=float, help="of a regression: the percentile, 0.5 is the median (default)"
    )
    parser.add_argument(
        "--mean", action="store_true", help="of a regression: the mean, of values in [0, 1]"
    )
    parser.add_argument("--picture", help="of such a task: .png, .svg or .pdf to write")
    parser.add_argument("--force", action="store_true", help="write over a picture that exists")


def check_single(options: argparse.Namespace) -> None:
    """Refuse options of the tasks where single labels are certified."""
    for name in ("radius", "share", "mean", "picture", "force"):
        if getattr(options, name) not in (None, False):
            raise UsageError(
                f"--{name} must come with --task regression or segmentation: drop it, or add that"
            )


def run_task(options: argparse.Namespace, on: str | None) -> int:
    """cert certify --task regression or segmentation, on an engine or here."""
    from cert_models.networks.models import load_model

    _check(options)
    # meant from here: a model may change the folder
    options.places = {name: os.path.realpath(getattr(options, name) or "") for name in WRITTEN}
    data = load_targets(options.data, options.task)
    task = task_of(options, data)
    check_task(task)
    indices = chosen_inputs(options, len(data))
    loading: dict[str, Any] = {"num_classes": _classes(options, task, data)}
    loading |= {key: getattr(options, key) for key in ("arch", "normalize", "weights")}
    model = load_model(options.model, device=None if on else options.device, **loading)
    if options.out or on:
        task = replace(
            task, model_fingerprint=model_fingerprint(model, options.model, options.autocast),
            data_fingerprint=data_fingerprint(data.inputs),
        )  # fmt: skip
    keep_memory()
    with executor_on(on, options.device) as executor:
        sampler = sampler_of(
            options.model if on else model, task, data, device=options.device, loading=loading,
            executor=executor, batch_size=options.batch_size, autocast=options.autocast,
            channels_last=options.channels_last, compiled=options.compile,
        )  # fmt: skip
        rows = _rows(options, task, data, sampler, indices)
    return _report(options, task, data, rows)


def _rows(
    options: argparse.Namespace,
    task: Task,
    data: Targets,
    sampler: Sampler[Certified],
    indices: list[int],
) -> list[Certified]:
    """What is certified of the inputs, the table's before those that it lacks."""
    with contextlib.ExitStack() as stack:
        table, rows = None, dict[int, Certified]()
        if options.out:
            table = RowTable(options.places["out"], task.record(), COLUMNS[task.kind])
            stack.callback(table.close)
            rows = {i: _certified(task, i, cells) for i, cells in table.rows.items()}
        done = [i for i in indices if i in rows]
        try:
            for found in progress(
                sampler([i for i in indices if i not in rows]),
                len(indices), "certify", _told, quiet=options.quiet, form=options.progress,
                done=len(done), correct=sum(_told(rows[i]) for i in done),
                beside=sampler.state, said=("certified whole", "certified_whole"),
            ):  # fmt: skip
                _check_outputs(found, data, next(iter(rows.values()), found))
                if table is not None:
                    table.add(found.index, _cells(found, data))
                rows[found.index] = found
        except KeyboardInterrupt:
            kept = len(rows.keys() & set(indices)) if options.out else 0
            raise KeyboardInterrupt(interrupted(kept, len(indices), options.out, "--out")) from None
    return [rows[i] for i in indices]


def _check(options: argparse.Namespace) -> None:
    if options.radius is None:
        raise UsageError(f"--radius must be given for --task {options.task}: fix it beforehand")
    for name in OTHERS:
        if getattr(options, name) not in (None, False):
            raise UsageError(
                f"--{name.removesuffix('_name').replace('_', '-')} must come without --task "
                f"{options.task}: drop it (--out keeps what is done, and goes on from there)"
            )
    if options.votes == "soft":
        raise UsageError(f"--votes soft must come without --task {options.task}: drop it")
    if options.task == "segmentation" and (options.mean or options.share is not None):
        raise UsageError("--share and --mean must come with --task regression: drop them")
    if options.mean and options.share is not None:
        raise UsageError("one of --share and --mean must be given: choose one")
    check_targets(
        argparse.Namespace(picture=options.picture, data=options.data, force=options.force)
    )
    if options.out:  # a table goes on
        check_targets(argparse.Namespace(out=options.out, data=options.data, force=True))


def task_of(options: argparse.Namespace, data: Targets) -> Task:
    """What the options ask for."""
    noise = noise_of(options, int(np.prod(data.x.shape[1:])), data.x)
    radius = cc.errors.real(
        "radius", options.radius, "a number >= 0", lambda r: r >= 0, remedy="pass the attack's"
    )
    alpha = cc.errors.alpha(options.alpha)
    common = (noise, options.attack, radius, alpha, options.seed)
    names = {"model": options.model, "data": options.data}
    if options.task == "regression":
        share = None if options.mean else 0.5 if options.share is None else options.share
        return Task("regression", *common, options.n, share=share, **names)
    classes = options.classes
    if classes is None:
        if data.y is None:
            raise UsageError("--classes must be given for data without maps of classes: add it")
        classes = max(int(data.y.max()) + 1, 2)
    return Task("segmentation", *common, options.n, n0=options.n0, num_classes=classes, **names)


def _classes(options: argparse.Namespace, task: Task, data: Targets) -> int:
    """The outputs of a checkpoint's network."""
    if task.num_classes is not None:
        return task.num_classes
    if options.classes is not None:
        return int(options.classes)
    return 1 if data.y is None or data.y.ndim == 1 else int(data.y.shape[1])


def _told(found: Certified) -> bool:
    """Whether something is said of every output."""
    if isinstance(found, LabelMap):
        return bool((found.labels != cc.ABSTAIN).all())
    return bool((np.isfinite(found.lower) & np.isfinite(found.upper)).all())


def _outputs(found: Certified) -> tuple[int, ...]:
    return tuple((found.labels if isinstance(found, LabelMap) else found.lower).shape)


def _check_outputs(found: Certified, data: Targets, first: Certified) -> None:
    """Refuse outputs of another shape than the first input's, or than the targets."""
    if _outputs(found) != _outputs(first):
        rule = f"of one shape for all inputs, {_outputs(first)}"
        got = f"{_outputs(found)} for input {found.index}"
        raise cc.errors.fail("outputs", rule, got, "return as many values for each input")
    if data.y is not None and _shape(data.y.shape[1:]) != _shape(_outputs(found)):
        raise cc.errors.fail(
            "targets", f"of the model's outputs, {_outputs(found)} an input", data.y.shape[1:],
            "take y out of the data, or name another model",
        )  # fmt: skip


def _shape(outputs: tuple[int, ...]) -> tuple[int, ...]:
    """Without axes of one: (m, 1) outputs are values of (m,) targets."""
    return tuple(size for size in outputs if size != 1)


def _cells(found: Certified, data: Targets) -> tuple[str, ...]:
    target = None if data.y is None else data.y[found.index].reshape(_outputs(found))
    time = repr(round(found.seconds, 6))
    if isinstance(found, Interval):
        inside = "" if target is None else json.dumps(
            ((found.lower <= target) & (target <= found.upper)).astype(int).tolist()
        )  # fmt: skip
        values = [json.dumps(x.tolist()) for x in (found.lower, found.upper)]
        return "" if target is None else json.dumps(target.tolist()), *values, inside, time
    told = found.labels != cc.ABSTAIN
    right = "" if target is None else str(int((told & (found.labels == target)).sum()))
    return str(int(told.sum())), right, str(told.size), pack(found.labels), time


def pack(labels: Array) -> str:
    """A map of labels as text: its shape, and its int32 values compressed."""
    shape = "x".join(map(str, labels.shape))
    return f"{shape}:{base64.b64encode(zlib.compress(labels.astype('<i4').tobytes())).decode()}"


def unpack(text: str) -> Array:
    """The map that pack made this text of."""
    shape, _, content = text.partition(":")
    values = np.frombuffer(zlib.decompress(base64.b64decode(content)), dtype="<i4")
    sizes = [int(size) for size in shape.split("x") if size]
    return values.astype(np.int64).reshape(sizes)


def _certified(task: Task, index: int, cells: tuple[str, ...]) -> Certified:
    """What _cells made these of."""
    said = dict(zip(COLUMNS[task.kind], cells, strict=True))
    if task.kind == "segmentation":
        return LabelMap(index, unpack(said["labels"]), float(said["time"]))
    lower, upper = (np.array(json.loads(said[name]), float) for name in ("lower", "upper"))
    return Interval(index, lower, upper, float(said["time"]))


def _report(options: argparse.Namespace, task: Task, data: Targets, rows: list[Certified]) -> int:
    indices = [found.index for found in rows]
    outputs = _outputs(rows[0])
    targets = None if data.y is None else data.y[indices].reshape(len(rows), *outputs)
    made: Intervals | Maps
    if task.kind == "segmentation":
        labels = np.stack([found.labels for found in rows if isinstance(found, LabelMap)])
        made = Maps(labels, targets)
    else:
        intervals = [found for found in rows if isinstance(found, Interval)]
        low, high = (
            np.stack([getattr(found, side).reshape(-1) for found in intervals])
            for side in ("lower", "upper")
        )
        made = Intervals(low, high, None if targets is None else targets.reshape(low.shape))
    measure = measure_of(task.attack, task.noise)
    of = "all labels of an input at once" if task.kind == "segmentation" else "each interval"
    statement = (
        f"the {task.what} under noise, at every input within {in_full(task.radius)} by {measure}: "
        f"{of} right with probability {confidence(task.alpha)}"
    )
    lines = [f"{data.name}, {len(rows)} inputs, n {task.n}; {statement}", *made.lines()]
    if options.picture:
        _draw(options, task, made, data, indices, fill(f"{data.name}: {statement}", 80))
        lines.append(f"wrote {options.picture}")
    if options.out:
        lines.append(f"table in {options.out}")
    values = task.record() | made.values() | {
        "measure": measure, "out": options.out, "picture": options.picture,
    }  # fmt: skip
    emit(options, values, "\n".join(lines))
    return 0


def _draw(
    options: argparse.Namespace,
    task: Task,
    made: Intervals | Maps,
    data: Targets,
    indices: list[int],
    title: str,
) -> None:
    kind = Path(options.picture).suffix[1:].lower()
    with target(options.places["picture"], options) as new:
        if isinstance(made, Maps):
            inputs = np.stack([np.asarray(data.x[i]) for i in indices[:8]])
            names = [f"input {i}" for i in indices]
            draw_maps(made, inputs, names, new, title, kind=kind)
        else:
            draw_intervals(made, new, title, what=task.what, kind=kind)
