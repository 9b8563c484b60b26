"""cert tune: a noise for a model, chosen on one part of the data and certified on another."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import cert_core as cc
from cert_core.rounding import (
    confidence,
    in_full,
    lower,
    nearest,
    percent,
    radius,
    rounded_down,
    rounded_up,
    upper,
)
from cert_core.tuning import AVERAGE, Objective
from cert_models.commands.certify import add_forward, add_on, add_run, engine_of
from cert_models.commands.options import (
    FAMILIES,
    UsageError,
    add_attack,
    add_data,
    add_force,
    add_model,
    add_output,
    check_targets,
    chosen_inputs,
    emit,
    listed,
    listed_indices,
    noise_at,
    option,
    target,
    write_text,
)
from cert_models.commands.progress import progress
from cert_models.commands.routes import LOADING
from cert_models.commands.train import NORMALIZED, TrainingBar

if TYPE_CHECKING:
    from cert_models.data.datasets import Dataset
    from cert_models.reports.tables import Table
    from cert_models.store.counts import CountStore
    from cert_models.store.results import Result
    from cert_models.tuning import Candidate, StoredTuning

TRAINING: dict[str, Any] = {  # options of --train alone, and what they are unless told
    "train_data": None, "epochs": 90, "train_batch_size": 256, "learning_rate": 1e-3,
    "augment": False,
}  # fmt: skip
WRITTEN = ("store", "out", "picture")
COLUMNS = (
    "objective", "candidate", "noise", "inputs", "estimate", "passes", "told_worse", "winner",
    "fresh_inputs", "fresh", "standard_error", "lower", "upper", "fresh_passes",
)  # fmt: skip


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """What the options ask for, checked before anything is trained or counted."""

    data: Dataset
    classes: int
    names: list[str]
    noises: list[cc.Noise]
    objectives: tuple[Objective, ...]
    plans: dict[int, cc.sequential.RadiiPlan]
    parts: tuple[tuple[int, ...], tuple[int, ...]]
    n_max: int
    fingerprint: str  # of the data

    @property
    def most(self) -> list[int]:
        """The most passes of each candidate for an input."""
        return cc.tuning.most_passes(self.plans, len(self.noises))

    @property
    def tested(self) -> list[float]:
        """All radii of the search, ascending."""
        return sorted({r for plan in self.plans.values() for r in plan.radii})


def run_tune(options: argparse.Namespace) -> int:
    """cert tune."""
    from cert_models.engines import executor_on
    from cert_models.run import keep_memory

    _check_options(options)
    asked = _asked(options)
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
        return _report(options, asked, found, results)


def _check_options(options: argparse.Namespace) -> None:
    """One way to a classifier, and the options of that one alone."""
    if (options.model is None) == (options.train is None):
        given = "neither" if options.model is None else "both"
        raise UsageError(f"one of --model and --train must be given, got {given}: choose one")
    for name, usual in TRAINING.items():
        given = getattr(options, name)
        if options.train is None and given not in (None, False):
            raise UsageError(f"{option(name)} must come with --train, got {given}: drop it")
        if given is None:
            setattr(options, name, usual)
    if options.train is not None:
        for name in ("arch", "weights"):
            if (given := getattr(options, name)) is not None:
                raise UsageError(
                    f"--{name} must be left out with --train, which names the network, got "
                    f"{given!r}: drop it"
                )
        if options.store is None:
            raise UsageError("--store must be given for --train: networks are kept beside it")
    if options.store is None and options.run_name is not None:
        raise UsageError("--store must be given for --run: name a file")
    check_targets(options)
    # meant from here: a model may change the folder
    options.places = {n: os.path.realpath(getattr(options, n) or "") for n in WRITTEN}
    for name in ("out", "picture"):
        if getattr(options, name) and options.places[name] == options.places["store"]:
            raise UsageError(
                f"--{name} must be another file than --store, got {getattr(options, name)!r}: "
                "name two"
            )


def _asked(options: argparse.Namespace) -> Asked:
    from cert_models.data.datasets import load
    from cert_models.store.counts import CountStore
    from cert_models.store.fingerprints import data_fingerprint
    from cert_models.tuning import check_parts

    data = load(options.data, categorical=_categorical(options.noises))
    names, noises = _candidates(options, int(np.prod(data.x.shape[1:])))
    objectives = cc.tuning.objectives_of(
        [] if options.at is None else listed("--at", options.at), options.average
    )
    n_max = options.n if options.n_max is None else options.n_max
    for noise in noises:
        cc.channels.check_independent(noise)
        data.check_known(noise)
        for n in (options.n, n_max):
            cc.certificates.check_sampling(noise, options.attack, n, options.alpha)
    plans = cc.tuning.plans_of(
        noises, options.attack, objectives, n_max, options.alpha, options.n0
    )  # fmt: skip
    tuning, fresh = (
        None if given is None else listed_indices(given, len(data))
        for given in (options.tuning, options.fresh)
    )
    chosen = chosen_inputs(options, len(data))
    parts = cc.tuning.split(chosen, options.seed, tuning=tuning, fresh=fresh)
    classes = options.classes if options.classes is not None else data.num_classes
    data.check_classes(classes)
    asked = Asked(
        data=data, classes=classes, names=names, noises=noises, objectives=objectives,
        plans=plans, parts=parts, n_max=n_max, fingerprint=data_fingerprint(data),
    )  # fmt: skip
    cc.tuning.checked_budget(options.budget, asked.most)
    cc.errors.real("rho", options.rho, "in (0, 1)", lambda x: 0 < x < 1, remedy="e.g. 0.05")
    if options.store is not None and Path(options.places["store"]).exists():
        with CountStore(options.places["store"], readonly=True) as store:
            check_parts(store, parts, asked.fingerprint)
    return asked


def _categorical(noises: str) -> bool:
    """Whether the families named are those of categories."""
    named = [
        FAMILIES[name] for item in noises.split(",") if (name := item.partition(":")[0]) in FAMILIES
    ]
    kinds = {family.categorical for family in named}
    if len(kinds) > 1:
        raise UsageError(
            f"--noises must all be of numbers, or all of categories, got {noises!r}: tune apart"
        )
    return kinds == {True}


def _candidates(options: argparse.Namespace, dim: int) -> tuple[list[str], list[cc.Noise]]:
    """Every family at every level, by name."""
    levels = [] if options.rms is None else listed("--rms", options.rms)
    found: dict[str, cc.Noise] = {}
    for item in options.noises.split(","):
        own = item.partition(":")[0] in cc.CHANNELS and item != "uniform"
        if not own and not levels:
            raise UsageError(f"--rms must be given for --noises {item}: list levels")
        for level in [1.0] if own else levels:
            label, noise = noise_at(item, dim, level)
            name = label if own else f"{label} rms={in_full(level)}"
            if noise in found.values():
                raise UsageError(f"--noises and --rms must list each once, got {name!r} twice")
            found[name] = noise
    if len(found) < 2:
        raise UsageError(
            f"--noises and --rms must give two candidates at least, got {len(found)}: add others, "
            "or run cert certify"
        )
    return list(found), list(found.values())


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
        options.train_data or options.data, "train", categorical=_categorical(options.noises)
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


# ---- what was found ----


def _report(
    options: argparse.Namespace, asked: Asked, found: cc.tuning.Search, results: dict[int, Result]
) -> int:
    from cert_models.reports.tables import as_text

    numbers = [
        cc.tuning.fresh_number(o, w, results[w].certified_by, results[w].labels, options.rho)
        for o, w in zip(found.objectives, found.winners, strict=True)
    ]
    lines = [as_text(_table(options, asked, found, numbers))]
    if options.out:
        write_text(options.places["out"], _tsv(asked, found, numbers), options)
    if options.picture:
        _draw(options, asked, found, list(results.values()))
    for what, where in (
        ("table written to", options.out), ("frontier drawn in", options.picture),
        ("counts kept in", options.store),
    ):  # fmt: skip
        lines += [f"{what} {where}"] if where else []
    emit(options, _values(options, asked, found, numbers), "\n".join(lines))
    return 0


def _named(options: argparse.Namespace, objective: Objective) -> str:
    """An objective in words."""
    attack = options.attack
    return (
        f"average {attack} radius"
        if objective == AVERAGE
        else f"{attack} radius {in_full(float(objective))}"
    )


def _share(value: float, count: int) -> str:
    return percent(round(value * count), count)


def _table(
    options: argparse.Namespace, asked: Asked, found: cc.tuning.Search,
    numbers: list[cc.tuning.Fresh],
) -> Table:  # fmt: skip
    """The winner for each objective, and what it certifies afresh."""
    from cert_models.reports.tables import Table

    rows = [
        (_named(options, number.objective), asked.names[number.candidate],
         *_cells(options, found, number), str(len(rivals)))
        for number, rivals in zip(numbers, found.rivals, strict=True)
    ]  # fmt: skip
    sure = confidence(options.rho)
    header = ("best for", "noise", "estimate", "afresh", "s.e.", f"with {sure}", "rivals")
    fresh = len(asked.parts[1])
    caption = (
        f"{asked.data.name}: {len(asked.noises)} candidates, chosen by {len(found.inputs)} inputs, "
        f"certified afresh on {fresh} others"
    )
    return Table(caption, header, tuple(rows), tuple(_notes(options, asked, found, numbers)))


def _cells(
    options: argparse.Namespace, found: cc.tuning.Search, number: cc.tuning.Fresh
) -> tuple[str, ...]:
    """The estimate, then the fresh value, its standard error and its interval."""
    estimate = found.estimate(number.candidate, number.objective)
    if number.objective == AVERAGE:
        return (
            radius(estimate), radius(number.value), nearest(number.error, 2),
            f"{lower(number.lower, 4)} to {upper(number.upper, 4)}",
        )  # fmt: skip
    return (
        _share(estimate, len(found.radius[number.candidate])),
        _share(number.value, number.inputs), f"{nearest(100 * number.error, 2)}%",
        f"{rounded_down(100 * number.lower, 1)} to {rounded_up(100 * number.upper, 1)}%",
    )  # fmt: skip


def _notes(
    options: argparse.Namespace, asked: Asked, found: cc.tuning.Search,
    numbers: list[cc.tuning.Fresh],
) -> Iterator[str]:  # fmt: skip
    yield (
        "afresh: certified accuracy, or average certified radius, of inputs that chose nothing; "
        f"alpha {in_full(options.alpha)} an input, n {options.n}; abstentions count as wrong.  "
        "estimate: by the inputs that chose, so too high for a winner (of the average: by steps)."
    )
    yield (
        f"rivals: candidates not told from the best; it is the winner or one of them with "
        f"probability {confidence(options.rho)}, for each row."
    )
    yield f"passes: {_passes(options, found, numbers)}."
    yield f"parts: {_parted(options, asked)}."


def _passes(
    options: argparse.Namespace, found: cc.tuning.Search, numbers: list[cc.tuning.Fresh]
) -> str:
    afresh = {number.candidate: number.passes for number in numbers}
    return (
        f"{sum(found.passes)} of {options.budget} in {len(found.rounds)} rounds of the search, "
        f"{sum(afresh.values())} for the certificates of {len(afresh)} winners besides"
    )


def _parted(options: argparse.Namespace, asked: Asked) -> str:
    """How the inputs are parted, and which streams their samples come from."""
    tuning, fresh = map(len, asked.parts)
    given = [f"--{name} {text}" for name in ("tuning", "fresh") if (text := getattr(options, name))]
    how = " ".join(given) if given else "halves"
    return (
        f"{tuning} inputs to choose by, {fresh} to certify, none in both ({how}; the order by "
        f"NumPy's default generator, seed {options.seed}); the samples of input i are of stream "
        f"({options.seed}, i) for all candidates, so no sample is in both"
    )


def _tsv(asked: Asked, found: cc.tuning.Search, numbers: list[cc.tuning.Fresh]) -> str:
    """Every candidate by every objective, a row each."""
    lines = [COLUMNS]
    for i, number in enumerate(numbers):
        for candidate, name in enumerate(asked.names):
            won = candidate == number.candidate
            afresh: tuple[float, ...] = (
                number.inputs, number.value, number.error, number.lower, number.upper,
                number.passes,
            )  # fmt: skip
            estimate = found.estimate(candidate, number.objective)
            worse = not won and candidate not in found.rivals[i]
            lines.append((
                str(number.objective), name, json.dumps(asked.noises[candidate].to_dict()),
                str(len(found.radius[candidate])), in_full(estimate), str(found.passes[candidate]),
                str(int(worse)), str(int(won)),
                *(map(in_full, afresh) if won else [""] * len(afresh)),
            ))  # fmt: skip
    return "".join("\t".join(cells) + "\n" for cells in lines)


def _values(
    options: argparse.Namespace, asked: Asked, found: cc.tuning.Search,
    numbers: list[cc.tuning.Fresh],
) -> dict[str, Any]:  # fmt: skip
    candidates = [
        {
            "name": name, "noise": noise.to_dict(), "inputs": len(found.radius[i]),
            "passes": found.passes[i],
            "estimates": [found.estimate(i, o) for o in found.objectives],
        }
        for i, (name, noise) in enumerate(zip(asked.names, asked.noises, strict=True))
    ]  # fmt: skip
    best = [
        {
            "objective": number.objective, "winner": asked.names[number.candidate],
            "estimate": found.estimate(number.candidate, number.objective),
            "fresh": number.value, "standard_error": number.error, "lower": number.lower,
            "upper": number.upper, "rivals": [asked.names[c] for c in rivals],
        }
        for number, rivals in zip(numbers, found.rivals, strict=True)
    ]  # fmt: skip
    rounds = [
        {"candidates": [asked.names[c] for c in each.alive], "inputs": each.inputs,
         "passes": each.passes}
        for each in found.rounds
    ]  # fmt: skip
    return {
        "data": asked.data.name, "attack": options.attack, "alpha": options.alpha,
        "n0": options.n0, "n": options.n, "n_max": asked.n_max, "rho": options.rho,
        "seed": options.seed, "budget": options.budget, "passes": sum(found.passes),
        "fresh_passes": sum({number.candidate: number.passes for number in numbers}.values()),
        "radii": asked.tested, "best": best, "candidates": candidates, "rounds": rounds,
        "tuning": list(asked.parts[0]), "fresh": list(asked.parts[1]),
        "parts": _parted(options, asked), "store": options.store, "out": options.out,
        "picture": options.picture,
    }  # fmt: skip


def _draw(
    options: argparse.Namespace, asked: Asked, found: cc.tuning.Search, results: list[Result]
) -> None:
    from cert_models.reports.frontier import Estimated, draw_frontier

    estimated = [
        Estimated(name=name, family=name.partition(" ")[0].partition(":")[0], radius=radii)
        for name, radii in zip(asked.names, found.radius, strict=True)
    ]
    title = (
        f"{asked.data.name}, {options.attack}: {len(estimated)} candidates on "
        f"{len(found.inputs)} inputs, winners on {len(asked.parts[1])} others"
    )
    with target(options.places["picture"], options) as new:
        draw_frontier(
            estimated,
            results,
            asked.tested,
            new,
            title,
            kind=Path(options.picture).suffix[1:].lower(),
        )
