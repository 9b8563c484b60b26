"""cert certify: model + data + noise -> counts -> certificates."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

import cert_core as cc
from cert_models.commands.options import (
    UsageError,
    add_attack,
    add_data,
    add_model,
    add_noise,
    add_output,
    emit,
    listed_indices,
    noise_of,
)
from cert_models.logs import LogWriter, Row


def add(commands: Any) -> None:
    """The parser of this group."""
    parser = commands.add_parser("certify", help="certify a data set")
    add_noise(parser)
    add_attack(parser)
    add_output(parser)
    add_data(parser)
    add_model(parser)
    add_run(parser)
    parser.add_argument("--out", help="log to write: idx label predict radius correct time")
    parser.set_defaults(run=run_certify)


def add_run(parser: argparse.ArgumentParser) -> None:
    """How much to draw, and of which inputs."""
    parser.add_argument("--n0", type=int, default=100, help="selection samples an input")
    parser.add_argument("--n", type=int, default=10_000, help="estimation samples an input")
    parser.add_argument("--alpha", type=float, default=0.001, help="failure probability an input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max", type=int, help="inputs to process")
    parser.add_argument("--skip", type=int, default=1, help="process every SKIP-th input")
    parser.add_argument("--indices", help="inputs to process, e.g. 0,7,100-199")
    parser.add_argument("--batch-size", type=int, default=1000)
    parser.add_argument("--device", help="torch device of the model")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def chosen_inputs(options: argparse.Namespace, count: int) -> list[int]:
    """Indices that --indices, --skip and --max leave of count inputs."""
    if options.skip < 1 or (options.max is not None and options.max < 1):
        raise UsageError("--skip and --max must be at least 1: they count inputs")
    places = range(count) if options.indices is None else listed_indices(options.indices, count)
    return list(places[:: options.skip])[: options.max]


def progress(items: Iterable[Row], total: int, label: str, quiet: bool) -> Iterator[Row]:
    """The items, with a bar on stderr (a line every ten seconds where that is a file)."""
    from tqdm import tqdm

    pause = 0.1 if sys.stderr.isatty() else 10.0
    yield from tqdm(
        items, total=total, desc=label, unit="input", disable=quiet, file=sys.stderr,
        mininterval=pause,
    )  # fmt: skip


def run_certify(options: argparse.Namespace) -> int:
    """cert certify."""
    from cert_models.datasets import load
    from cert_models.models import check_accuracy, load_model
    from cert_models.run import certificates_of, certify_inputs, counter_of

    data = load(options.data)
    dim = int(np.prod(data.x.shape[1:]))
    noise = noise_of(options, dim)
    indices = chosen_inputs(options, len(data))
    classes = options.classes if options.classes is not None else data.num_classes
    sampling = {"n0": options.n0, "n": options.n, "alpha": options.alpha}
    cc.required_probability(noise, options.attack, 0.0)
    writer = LogWriter(options.out) if options.out else None
    rows: list[Row] = []
    with contextlib.closing(writer) if writer else contextlib.nullcontext():
        model = load_model(options.model, classes, arch=options.arch, normalize=options.normalize)
        check_accuracy(model, data, indices)
        count = counter_of(
            model, noise, classes, batch_size=options.batch_size, device=options.device
        )
        done = certify_inputs(
            count, data, indices, noise, options.attack, seed=options.seed, **sampling
        )
        for row in progress(done, len(indices), "certify", options.quiet):
            rows.append(row)
            if writer:
                writer.add(row)
    certificates = certificates_of(rows, noise, options.attack, **sampling)
    _report(options, certificates, data.y[indices])
    return 0


def _report(options: argparse.Namespace, certificates: cc.Certificates, labels: Any) -> None:
    top = float(certificates.radius.max(initial=0.0))
    radii = [round(top * i / 8, 3) for i in range(9)]
    shares = cc.certified_accuracy(certificates, labels, radii)
    abstained = int((certificates.label == cc.ABSTAIN).sum())
    lines = [f"{options.attack} radius       " + "".join(f"{r:>8g}" for r in radii)]
    lines.append("certified accuracy" + "".join(f"{s:>8.1%}" for s in shares))
    lines.append(
        f"{len(labels)} inputs, {abstained} abstained; alpha {certificates.alpha:g} an input, "
        f"n {certificates.n}; abstentions count as wrong"
    )
    if options.out:
        lines.append(f"log written to {options.out}")
    values = {
        "radii": radii, "certified_accuracy": [float(s) for s in shares], "inputs": len(labels),
        "abstained": abstained, "alpha": certificates.alpha, "n": certificates.n,
        "noise": certificates.noise.to_dict(), "attack": certificates.attack,
        "tight": certificates.tight, "out": options.out,
    }  # fmt: skip
    emit(options, values, "\n".join(lines))
