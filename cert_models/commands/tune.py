"""cert tune: a noise for a model, chosen on one part of the data and certified on another."""

from __future__ import annotations

import argparse
import contextlib
import re
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cert_core as cc
from cert_core.rounding import in_full
from cert_models.commands.candidates import (
    TRAINING,
    Asked,
    asked_for,
    categorical,
    check_options,
)
from cert_models.commands.certify import add_forward, add_on, add_run, engine_of
from cert_models.commands.options import (
    UsageError,
    add_attack,
    add_data,
    add_force,
    add_model,
    add_output,
    option,
)
from cert_models.commands.progress import progress
from cert_models.commands.routes import LOADING
from cert_models.commands.train import NORMALIZED, TrainingBar
from cert_models.commands.tuned import report

if TYPE_CHECKING:
    from cert_models.store.counts import CountStore
    from cert_models.tuning import Candidate, StoredTuning


def add(commands: Any) -> None:
    """The parser of this command."""
    parser = commands.add_parser(
        "tune", help="choose a noise for a model at each radius, and certify it afresh",
        example="cert tune --data digits --model digits-cnn --noises gaussian,l2:0.5 --rms "
        "0.15,0.25,0.4 --attack l2 --at 0.25,0.5 --budget 500000 --n 1000 --store tuned.db",
    )  # fmt: skip
    add_attack(parser)
    add_output(parser)
    add_data(parser)
    add_model(parser, required=False)
    add_candidates(parser)
    add_search(parser)
    add_training(parser)
    add_run(parser)
    parser.add_argument(
        "--autocast", choices=("bfloat16", "float16"), help="precision of a torch module's passes"
    )
    add_forward(parser)
    add_on(parser)
    parser.add_argument("--store", help="file that keeps all counts; a search goes on from it")
    parser.add_argument("--run", dest="run_name", metavar="NAME", help="how its runs' names begin")
    parser.add_argument("--out", help="table of all candidates to write, tab-separated")
    parser.add_argument("--picture", help="write the frontier to this .png, .svg or .pdf")
    add_force(parser)
    parser.set_defaults(run=run_tune)


def add_candidates(parser: argparse.ArgumentParser) -> None:
    """What to choose from."""
    parser.add_argument(
        "--noises", required=True, metavar="NAME[:SHARE],...",
        help="families, each with k/dim after a colon, at every level of --rms; those without a "
        "level with their own parameters, as flips:CATEGORIES:KEEP",
    )  # fmt: skip
    parser.add_argument(
        "--rms", metavar="L1,L2,...", help="noise levels: root mean square a coordinate"
    )


def add_search(parser: argparse.ArgumentParser) -> None:
    """What to choose for, by which inputs and how much work."""
    parser.add_argument("--at", metavar="R1,R2,...", help="choose for the accuracy at each radius")
    parser.add_argument("--average", action="store_true", help="choose for the average radius too")
    parser.add_argument(
        "--budget", type=int, required=True, metavar="PASSES",
        help="the most forward passes of the search; the fresh certificates take n0 + n an input "
        "of their part for every winner besides",
    )  # fmt: skip
    parser.add_argument(
        "--n-max", type=int, help="the most samples an input in the search (default: that of --n)"
    )
    parser.add_argument(
        "--tuning", metavar="INDICES",
        help="inputs to choose by, e.g. 0-249 (default: half of all, by the seed)",
    )  # fmt: skip
    parser.add_argument(
        "--fresh", metavar="INDICES", help="inputs to certify the winners by (default: the others)"
    )
    parser.add_argument(
        "--rho", type=float, default=0.05, metavar="P",
        help="rivals and intervals miss the truth with probability P",
    )  # fmt: skip


def add_training(parser: argparse.ArgumentParser) -> None:
    """A network for each noise in the place of one model."""
    parser.add_argument(
        "--train", metavar="ARCH",
        help="instead of --model: train this network under every noise, as cert train --arch; "
        "needs --store",
    )  # fmt: skip
    parser.add_argument("--train-data", help="to train on (default: the training part of --data)")
    for name, kind, text in (
        ("epochs", int, ""), ("train_batch_size", int, "inputs a step"),
        ("learning_rate", float, "of Adam, one cycle"),
    ):  # fmt: skip
        told = f"{text} (default: {in_full(TRAINING[name])})".strip()
        parser.add_argument(option(name), type=kind, help=told)
    parser.add_argument("--augment", action="store_true", help="shift and mirror images")


def run_tune(options: argparse.Namespace) -> int:
    """cert tune."""
    from cert_models.engines import executor_on
    from cert_models.run import keep_memory

    check_options(options)
    asked = asked_for(options)
    on = engine_of(options)
    candidates = list(_with_models(options, asked, by_name=on is not None))
    keep_memory()
    with contextlib.ExitStack() as stack:
        executor = stack.enter_context(executor_on(on, options.device))
        store = stack.enter_context(_opened(options))
        tuning = _stored(options, asked, candidates, store, executor)
        try:
            found = _searched(options, asked, tuning)
            results = {
                number: tuning.certify(number, partial(_shown, options, asked, number))
                for number in dict.fromkeys(found.winners)
            }
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_how_to_go_on(options)) from None
        return report(options, asked, found, results)


def _opened(options: argparse.Namespace) -> CountStore:
    """Where counts are kept."""
    from cert_models.store.counts import CountStore, MemoryStore

    return CountStore(options.places["store"]) if options.store else MemoryStore()


def _stored(
    options: argparse.Namespace, asked: Asked, candidates: list[Candidate], store: CountStore,
    executor: Any,
) -> StoredTuning:  # fmt: skip
    """The candidates, and where their counts are kept."""
    from cert_models.run import sampler_of
    from cert_models.store.runs import FixedPlan, Run
    from cert_models.tuning import StoredTuning

    base = Run(
        plan=FixedPlan(options.n0, options.n), noise=asked.noises[0], seed=options.seed,
        batch_size=options.batch_size, num_classes=asked.classes, model="", model_fingerprint="",
        data=options.data, data_fingerprint=asked.fingerprint, attack=options.attack,
        alpha=options.alpha,
    )  # fmt: skip

    def sampler(candidate: Candidate, run: Run) -> Any:
        return sampler_of(
            candidate.model, run, asked.data, device=options.device, executor=executor,
            loading=_loading(options), autocast=options.autocast,
            channels_last=options.channels_last, compiled=options.compile,
        )  # fmt: skip

    return StoredTuning(
        candidates=candidates, plans=asked.plans, parts=asked.parts, base=base, sampler=sampler,
        store=store, prefix=options.run_name or "",
    )  # fmt: skip


def _loading(options: argparse.Namespace) -> dict[str, Any]:
    """How a model is loaded by its name: a checkpoint of one's own training says all but code."""
    if options.train is None:
        return {name: getattr(options, name) for name in LOADING}
    return {"arch": options.train} if ":" in options.train else {}


def _with_models(
    options: argparse.Namespace, asked: Asked, *, by_name: bool
) -> Iterator[Candidate]:
    """Every candidate with its classifier: one for all, or one trained under each noise."""
    from cert_models.networks.models import check_accuracy, check_noise, load_model
    from cert_models.store.fingerprints import model_fingerprint
    from cert_models.tuning import Candidate

    names = [options.model] * len(asked.noises)
    if options.train is not None:
        names = _trained(options, asked)
    loaded: dict[str, tuple[Any, str]] = {}
    for name, noise, model in zip(asked.names, asked.noises, names, strict=True):
        if model not in loaded:
            device = None if by_name else options.device
            found = load_model(model, asked.classes, device=device, **_loading(options))
            # before it is called, which may change what it holds
            digest = model_fingerprint(found, model, options.autocast)
            loaded[model] = found, digest
            check_accuracy(found, asked.data, asked.parts[0])
        found, digest = loaded[model]
        with warnings.catch_warnings():  # one model under noises other than its own is the point
            warnings.simplefilter("ignore")
            check_noise(found, noise)
        yield Candidate(
            name=name, noise=noise, model=model if by_name else found, path=model,
            fingerprint=digest,
        )  # fmt: skip


def _trained(options: argparse.Namespace, asked: Asked) -> list[str]:
    """The checkpoints of networks trained under every noise, in a folder beside the store; what
    is there is not trained again."""
    from cert_models.data.datasets import FOLDERS, load
    from cert_models.networks.train import Recipe, train_checkpoint
    from cert_models.store.fingerprints import data_fingerprint

    if options.train_data is None and options.data.partition(":")[0] not in ("digits", *FOLDERS):
        raise UsageError(
            f"--train-data must be given for --data {options.data}, which has one part: name it"
        )
    data = load(
        options.train_data or options.data, "train", categorical=categorical(options.noises)
    )
    if data_fingerprint(data) == asked.fingerprint:
        raise UsageError(
            f"--train-data must be other inputs than --data, got {data.name}: a network knows what "
            "it was trained on"
        )
    folder = Path(options.places["store"] + ".models")
    folder.mkdir(exist_ok=True)
    paths = []
    for name, noise in zip(asked.names, asked.noises, strict=True):
        path = folder / f"{re.sub(r'[^a-z0-9.=]+', '-', name)}.pth"
        recipe = Recipe(
            arch=options.train, normalize=options.normalize or NORMALIZED.get(data.name, "none"),
            noise=noise, num_classes=asked.classes, epochs=options.epochs,
            batch_size=options.train_batch_size, learning_rate=options.learning_rate,
            seed=options.seed, augment=options.augment,
        )  # fmt: skip
        bar = TrainingBar(recipe.epochs * -(-len(data) // recipe.batch_size), options.quiet, name)
        try:
            with bar.bar:
                train_checkpoint(
                    path, data, recipe, resume=True, device=options.device, progress=bar
                )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted: networks are kept in {folder}, epoch by epoch; the same command "
                "goes on from there"
            ) from None
        paths.append(str(path))
    return paths


def _searched(options: argparse.Namespace, asked: Asked, tuning: StoredTuning) -> cc.tuning.Search:
    """The search, with a bar of its passes."""
    from cert_models.engines import passes

    counted: deque[Any] = deque()
    bar = progress(
        iter(counted.popleft, None), options.budget, "tune", lambda votes: False,
        quiet=options.quiet, form=options.progress, done=min(tuning.done(), options.budget),
        said=None, weigh=passes, unit="passes",
    )  # fmt: skip

    def told(votes: Any) -> None:
        counted.append(votes)
        next(bar)

    with contextlib.ExitStack() as stack:
        stack.callback(bar.close)
        return cc.tuning.search(
            partial(tuning.judge, told), asked.most, asked.parts[0], asked.objectives,
            options.budget, top=asked.tested[-1], rho=options.rho,
        )  # fmt: skip


def _shown(
    options: argparse.Namespace, asked: Asked, number: int, counted: Iterable[Any], done: int
) -> Iterator[Any]:
    """The fresh certificates of one winner, with a bar."""
    label, total = f"certify {asked.names[number]}", len(asked.parts[1])
    return progress(
        counted, total, label, lambda votes: votes.selected == votes.label, done=done,
        quiet=options.quiet, form=options.progress, said=None,
    )  # fmt: skip


def _how_to_go_on(options: argparse.Namespace) -> str:
    if options.store is None:
        return "interrupted: nothing is kept without --store"
    return (
        f"interrupted: what was counted is kept in {options.store}; the same command goes on from "
        "there"
    )
