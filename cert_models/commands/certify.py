"""cert certify: model + data + noise -> counts -> certificates."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import cert_core as cc
from cert_core.rounding import in_full, least_above, nearest, percent, samples
from cert_models.commands.options import (
    UsageError,
    add_attack,
    add_bound,
    add_data,
    add_model,
    add_noise,
    add_output,
    add_scales,
    bound_of,
    chosen_inputs,
    emit,
    listed,
    noise_of,
    option,
)
from cert_models.commands.progress import interrupted, progress
from cert_models.commands.routes import LOADING, add_route, categorical, check_noises, parts_of
from cert_models.commands.tasks import add_task, check_single, run_task
from cert_models.engines import Sampler, executor_on, visible_devices
from cert_models.logs import BRANCH, FAILED, SOUND, LogWriter, check_new, scales_column, write_lines
from cert_models.parsing import HardOrSoft, RunnerUp
from cert_models.run import StoredRun, certified_right, keep_memory, sampler_of
from cert_models.store.fingerprints import data_fingerprint, model_fingerprint
from cert_models.store.readings import result_of
from cert_models.store.results import Result, default_radii, told_mode
from cert_models.store.runs import (
    AllPlan,
    FixedPlan,
    Part,
    Plan,
    RoutedPlan,
    Run,
    ScorePlan,
    SequentialPlan,
    ShellPlan,
    Votes,
    columns_of,
)

if TYPE_CHECKING:
    from cert_models.data.datasets import Dataset

ROW = ("index", "label", "predict", "radius", "correct")  # of an input, in JSON
SAMPLING: dict[str, Any] = {"n0": 100, "n": 10_000, "alpha": 0.001}  # unless told


def add(commands: Any) -> None:
    """The parser of this group."""
    parser = commands.add_parser(
        "certify", help="certify a data set",
        example="cert certify --data test.npz --model mymodule:network --noise gaussian "
        "--sigma 0.25 --attack l2 --n 10000 --max 100 --store runs.db",
    )  # fmt: skip
    add_noise(parser, required=False)
    add_route(parser)
    add_scales(parser)
    add_attack(parser)
    add_output(parser)
    add_data(parser)
    add_model(parser)
    add_run(parser)
    add_task(parser)
    parser.add_argument(
        "--autocast", choices=("bfloat16", "float16"), help="precision of a torch module's passes"
    )
    add_forward(parser)
    add_tests(parser)
    add_sound(parser)
    parser.add_argument("--store", help="file that keeps the counts; a run goes on from it")
    parser.add_argument("--run", dest="run_name", metavar="NAME", help="name of the run there")
    parser.add_argument("--out", help="log to write: idx label predict radius correct time")
    add_on(parser)
    parser.set_defaults(run=run_certify)


def add_sound(parser: argparse.ArgumentParser) -> None:
    """The mode in which a certificate holds for what runs in floats."""
    parser.add_argument(
        "--sound", nargs="?", const="1/255", metavar="STEP",
        help="sound mode: inputs and noise in whole steps of a lattice (STEP left out: 1/255, of "
        "8-bit images)",
    )  # fmt: skip
    parser.add_argument(
        "--quantize",
        action="store_true",
        help="with --sound: move inputs to the lattice, its cost taken off every radius",
    )


def sound_of(options: argparse.Namespace) -> cc.Lattice | None:
    """The lattice that --sound names."""
    if options.sound is None:
        if options.quantize:
            raise UsageError("--quantize must come with --sound: name a step, or drop it")
        return None
    if options.quantize and options.at is not None:
        raise UsageError(
            "--quantize must come without --at, whose radii its cost would move: drop it where the "
            "inputs are on the lattice, or pass --until, or certify the full radii"
        )
    try:
        return cc.Lattice(options.sound)
    except ValueError as error:
        raise UsageError(f"--sound: {error}") from None


def add_on(parser: argparse.ArgumentParser) -> None:
    """--on, as executor_on reads it."""
    parser.add_argument(
        "--on", metavar="ENGINE",
        help="count in processes:N, on ray[:ADDRESS] or dask:ADDRESS (default: here; of cert "
        "certify with --device cuda in one process for each of several GPUs)",
    )  # fmt: skip


def add_run(parser: argparse.ArgumentParser) -> None:
    """How much to draw, and of which inputs."""
    parser.add_argument("--n0", type=int, help="selection samples an input")
    parser.add_argument("--n", type=int, help="estimation samples an input")
    parser.add_argument("--alpha", type=float, help="failure probability an input")
    parser.set_defaults(**SAMPLING)
    parser.add_argument("--seed", type=int, default=0, help="of all samples")
    parser.add_argument("--max", type=int, help="the most inputs to process")
    parser.add_argument("--skip", type=int, default=1, help="process every SKIP-th input")
    parser.add_argument("--indices", help="inputs to process, e.g. 0,7,100-199")
    parser.add_argument(
        "--batch-size", type=_rows, default=1000, metavar="ROWS",
        help="rows of a forward pass, or auto: found by trial",
    )  # fmt: skip
    parser.add_argument("--device", help="torch device of the model")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--progress", choices=("bar", "json"), default="bar", help="its form")


def _rows(text: str) -> int:
    """Rows of a forward pass; 0 for those found by trial."""
    if text == "auto":
        return 0
    if not text.isdecimal() or len(text) > 9 or int(text) == 0:
        rule = "must be an integer >= 1 or auto, of nine digits at most"
        raise argparse.ArgumentTypeError(f"{rule}, got {text[:40]!r}")
    return int(text)


def add_forward(parser: argparse.ArgumentParser) -> None:
    """How a torch module is run, in one precision."""
    parser.add_argument("--channels-last", action="store_true", help="order its images by pixel")
    parser.add_argument("--compile", action="store_true", help="compile it (torch.compile)")


def add_tests(parser: argparse.ArgumentParser) -> None:
    """Sampling that stops early, for decisions fixed before it."""
    rule = parser.add_mutually_exclusive_group()
    rule.add_argument(
        "--at", metavar="R1,R2,...", help="certify these radii alone; n is then the most an input"
    )
    rule.add_argument(
        "--until", type=float, metavar="WIDTH", help="certify radii to this relative width alone"
    )
    add_bound(parser)
    parser.add_argument(
        "--shells", nargs="?", const="default", metavar="M1,M2,...",
        help="tell votes apart by the norm of their noise, at these shares of it (by themselves: "
        + ",".join(map(str, cc.shells.MASSES)) + "): larger radii where k > 0 or inputs are small",
    )  # fmt: skip
    parser.add_argument("--runner-up", action=RunnerUp, help=argparse.SUPPRESS)
    parser.add_argument(
        "--votes", action=HardOrSoft, choices=("hard", "soft"), help=argparse.SUPPRESS
    )


def all_of(options: argparse.Namespace, noise: cc.Splitting) -> AllPlan:
    """All copies, counted: whatever says how many to draw, or to stop, has no place."""
    if noise.copies is None:
        near = max(round(noise.width), 1) / (2 * noise.levels)
        raise UsageError(
            "--scale must be such that 2 scale levels is a whole number, that of all copies, got "
            f"{in_full(noise.scale)} with {noise.levels} levels ({nearest(noise.width)}): e.g. "
            f"{in_full(near)}"
        )
    for name, usual in (*SAMPLING.items(), ("at", None), ("until", None), ("bound", None)):
        if (given := getattr(options, name)) != usual:
            raise UsageError(
                f"{option(name)} must not be given for --noise splitting, got {given}: all "
                f"{noise.copies} copies are counted, at alpha 0"
            )
    options.alpha, options.n = 0.0, noise.copies
    return AllPlan(noise.copies)


def plan_of(options: argparse.Namespace, noise: cc.Noise) -> Plan:
    """The sampling that the options ask for; refuses what could certify nothing."""
    if isinstance(noise, cc.Splitting):
        return all_of(options, noise)
    stops = options.at is not None or options.until is not None
    for name, given in (("shells", options.shells), ("bound", options.bound)):
        if stops and given is not None:
            raise UsageError(
                f"--{name} must come without --at and --until, which bound by themselves, got "
                f"{given!r}: drop it"
            )
    sampling = {"n_max": options.n, "alpha": options.alpha, "n0": options.n0}
    if options.until is not None:
        return SequentialPlan(
            cc.sequential.plan_until(noise, options.attack, options.until, **sampling)
        )
    if options.at is not None:
        return SequentialPlan(
            cc.sequential.plan_at(noise, options.attack, listed("--at", options.at), **sampling)
        )
    if options.shells is not None:
        return _shell_plan(options, noise)
    bound = options.bound or "clopper-pearson"
    cc.certificates.check_sampling(noise, options.attack, options.n, options.alpha, bound=bound)
    soft = cc.BOUNDS[bound].reads == "scores"
    if soft and options.votes == "hard":
        raise UsageError(f"--votes must be left out, got 'hard' with --bound {bound}: drop it")
    return (ScorePlan if soft else FixedPlan)(options.n0, options.n)


def _shell_plan(options: argparse.Namespace, noise: cc.Noise) -> ShellPlan:
    shares = options.shells
    masses = cc.shells.MASSES if shares == "default" else listed("--shells", shares)
    thresholds = cc.shell_thresholds(noise, masses)
    level = cc.errors.alpha(options.alpha) / (len(thresholds) + 1)
    cc.certificates.check_sampling(noise, options.attack, options.n, level, bound="shells")
    return ShellPlan(options.n0, options.n, tuple(thresholds.tolist()))


def run_certify(options: argparse.Namespace) -> int:
    """cert certify."""
    check_alone()
    check_noises(options)
    if options.task != "classification":
        return run_task(options, engine_of(options))
    check_single(options)
    from cert_models.data.datasets import load, takes_pixels

    # A model may change the folder; what is written is meant from here.
    log, path = (Path(os.path.realpath(p)) if p else None for p in (options.out, options.store))
    if log is not None and log == path:
        raise UsageError(f"--out must be another file than --store, got {options.out!r}: name two")
    options.bound, sound = bound_of(options), sound_of(options)
    _complete_shells(options)
    parts = parts_of(options)
    data = load(options.data, categorical=categorical(parts), pixels=takes_pixels(sound))
    indices = chosen_inputs(options, len(data))
    on = engine_of(options)
    kept = options.store is not None or on is not None
    loaded = Loaded(data, indices, sound, kept, on is not None)
    noises = [loaded.noise(part) for part in parts]
    if sound is not None and not options.quantize:
        data.check_on(sound, indices)
    classes = options.classes if options.classes is not None else data.num_classes
    data.check_classes(classes)
    if options.store is None and options.run_name is not None:
        raise UsageError("--store must be given for --run: name a file")
    made = [
        loaded.made(part, noise, labels_of(part, parts, classes))
        for part, noise in zip(parts, noises, strict=True)
    ]
    router, *branches = made
    plan: Plan = RoutedPlan(router, tuple(branches)) if branches else router.plan
    first = (branches or made)[0]
    run = Run(
        plan=plan, noise=router.noise, seed=options.seed, batch_size=options.batch_size,
        num_classes=classes, model=first.model, model_fingerprint=first.model_fingerprint,
        data=options.data, data_fingerprint=data_fingerprint(data) if kept else "",
        attack=options.attack, alpha=options.alpha, sound=sound, quantized=options.quantize,
    )  # fmt: skip
    keep_memory()
    stored = StoredRun(path=path, name=options.run_name or "default", run=run, indices=indices)
    with contextlib.closing(stored), contextlib.ExitStack() as stack:
        executor = stack.enter_context(executor_on(on, options.device))
        models = [part.model if on else loaded.model(part) for part in parts]
        loading = [loading_of(part) for part in parts]
        single = len(parts) == 1
        sampler = sampler_of(
            models[0] if single else models, run, data, device=options.device, executor=executor,
            loading=loading[0] if single else loading, autocast=options.autocast,
            channels_last=options.channels_last, compiled=options.compile,
        )  # fmt: skip
        return _certify(options, sampler, stored, log)


def labels_of(part: argparse.Namespace, parts: Sequence[argparse.Namespace], classes: int) -> int:
    """How many labels its model has: of a router that tells branches, as many as these."""
    return (len(part.labels) or len(parts) - 1) if part.router else classes


@contextlib.contextmanager
def named(part: argparse.Namespace) -> Iterator[None]:
    """Errors of one part of several say of which."""
    try:
        yield
    except (UsageError, ValueError) as error:
        if not part.where:
            raise
        raise UsageError(f"{part.where}: {error}") from error


class Loaded:
    """The models that a run needs, each loaded once."""

    def __init__(
        self, data: Dataset, indices: Sequence[int], sound: cc.Lattice | None, kept: bool,
        elsewhere: bool,
    ) -> None:  # fmt: skip
        self._data, self._indices, self._sound = data, indices, sound
        self._kept, self._elsewhere = kept, elsewhere
        self._models: dict[tuple[Any, ...], tuple[Any, str]] = {}

    def model(self, part: argparse.Namespace) -> Any:
        """That of a part that was made."""
        return self._models[_key(part)][0]

    def noise(self, part: argparse.Namespace) -> cc.Noise:
        """That of a part, if the lattice serves it."""
        with named(part):
            noise = noise_of(part, int(np.prod(self._data.x.shape[1:])), self._data.x)
            return noise if self._sound is None else self._sound.checked(noise)

    def made(self, part: argparse.Namespace, noise: cc.Noise, classes: int) -> Part:
        """What the options of a part describe, if it can be."""
        with named(part):
            return self._made(part, noise, classes)

    def _made(self, part: argparse.Namespace, noise: cc.Noise, classes: int) -> Part:
        from cert_models.networks.models import check_noise

        self._data.check_known(noise)
        plan = plan_of(part, noise)
        if part.where and isinstance(plan, AllPlan):
            raise UsageError("noise must be drawn where it is one of several: choose another")
        if _key(part) not in self._models:
            self._models[_key(part)] = self._load(part, classes)
        model, fingerprint = self._models[_key(part)]
        check_noise(model, noise)
        return Part(
            plan=plan, noise=noise, model=part.model, model_fingerprint=fingerprint,
            labels=part.labels,
        )  # fmt: skip

    def _load(self, part: argparse.Namespace, classes: int) -> tuple[Any, str]:
        """The model and its fingerprint, taken before it is called, which may change it."""
        from cert_models.networks.models import check_accuracy, load_model

        # of several devices the workers' own are none of this process
        place = None if self._elsewhere else part.device
        model = load_model(part.model, classes, device=place, **loading_of(part))
        kept = self._kept
        fingerprint = model_fingerprint(model, part.model, part.autocast) if kept else ""
        if part.labels or not part.router:
            check_accuracy(model, self._data, self._indices)
        return model, fingerprint


def loading_of(part: argparse.Namespace) -> dict[str, Any]:
    """What loads its model where that is a checkpoint."""
    return {key: getattr(part, key) for key in LOADING}


def _key(part: argparse.Namespace) -> tuple[Any, ...]:
    return part.model, *loading_of(part).values()


def _complete_shells(options: argparse.Namespace) -> None:
    """--shells is --bound shells, whose thresholds are the default ones where none are named."""
    if options.shells is not None:
        options.bound = options.bound or "shells"
    elif options.bound == "shells":
        options.shells = "default"


def check_alone() -> None:
    """Refuse to be one of several processes, as launchers start them: one hands out to all."""
    world = os.environ.get("WORLD_SIZE", "1")
    if world != "1":
        raise UsageError(
            f"WORLD_SIZE must be 1, got {cc.errors.shown(world)}: start the command once, without "
            f"a launcher, with --on processes:{world if world.isdecimal() else 2} (or ray, dask)"
        )


def engine_of(options: argparse.Namespace) -> str | None:
    """Where to count: as --on says, else here, or in one process for each of several GPUs."""
    if options.on is not None or options.device != "cuda":
        return str(options.on) if options.on is not None else None
    count = len(visible_devices())
    return f"processes:{count}" if count > 1 else None


def _certify(
    options: argparse.Namespace, sampler: Sampler[Votes], stored: StoredRun, log: Path | None
) -> int:
    """Certify what the store lacks, and report."""
    stored.take_in()
    done = stored.done()
    left = [index for index in stored.indices if index not in done]
    if log and left:
        check_new(log)
    before = len(stored.indices) - len(left)
    counted = progress(
        stored.keep(sampler.blocks(left)), before + len(left), "certify",
        lambda votes: certified_right(votes, stored.run, options.bound),
        quiet=options.quiet, form=options.progress, done=before,
        correct=0 if options.quiet else stored.right(options.bound), beside=sampler.state,
    )  # fmt: skip
    if stored.path is None and log:  # what is done is on the disk whatever comes
        _log_each(counted, log, options, stored.run)
    try:
        for _ in counted:
            pass
    except KeyboardInterrupt:
        kept = len(stored.done() & set(stored.indices)) if stored.path is not None else 0
        told = interrupted(kept, len(stored.indices), stored.path, "--store")
        raise KeyboardInterrupt(told) from None
    result = stored.result(attack=options.attack, alpha=options.alpha, bound=options.bound)
    if stored.path is not None and log:
        write_lines(log, result.lines())
    _report(options, result)
    return 0


def _log_each(counted: Iterable[Votes], log: Path, options: argparse.Namespace, run: Run) -> None:
    """Write the row of each input as it is done."""
    extra = tuple(columns_of(options.bound, run.alpha) | scales_column(run.noise))
    extra += (BRANCH,) if run.parts else ()
    extra += (SOUND, FAILED) if run.mode else ()
    with contextlib.closing(LogWriter(log, extra)) as writer:
        for votes in counted:
            said = result_of([votes], run, attack=run.attack, alpha=run.alpha, bound=options.bound)
            writer.add(*said.rows())


def _report(options: argparse.Namespace, result: Result) -> None:
    certificates, labels = result.certified_by, result.labels
    drawn = float(np.mean(getattr(certificates, "samples", certificates.n0 + certificates.n)))
    radii = default_radii([result]) if options.at is None else sorted(listed("--at", options.at))
    shares = cc.certified_accuracy(certificates, labels, radii)
    abstained = int((certificates.label == cc.ABSTAIN).sum())
    heads = result.measure, "certified accuracy"
    width = max(map(len, heads))
    cells = [percent(round(len(labels) * s), len(labels)) for s in shares]
    column = max(8, *(len(in_full(r)) + 1 for r in radii))
    lines = [
        head.ljust(width) + "".join(f"{cell:>{column}}" for cell in row)
        for head, row in zip(heads, (map(in_full, radii), cells), strict=True)
    ]
    lines.append(
        f"{len(labels)} inputs, {abstained} abstained; alpha {in_full(certificates.alpha)} "
        f"an input, n {certificates.n}; abstentions count as wrong"
    )
    if certificates.alpha == 0:
        lines[-1] = f"{len(labels)} inputs, alpha 0: all {certificates.n} copies of each counted"
    if options.at is not None or options.until is not None or options.route is not None:
        lines[-1] += f"; {samples(drawn)} samples an input on average"
    values_of_mode: dict[str, Any] = {"sound": result.mode or None}
    if isinstance(certificates, cc.RoutedCertificates):
        sent = [int((certificates.branch == i).sum()) for i in range(len(certificates.noises))]
        told = (f"{k} to {noise!r}" for k, noise in zip(sent, certificates.noises, strict=True))
        lines.append(f"routed: {', '.join(told)}; {len(labels) - sum(sent)} to none")
        noises = [noise.to_dict() for noise in certificates.noises]
        values_of_mode |= {"routed": sent, "noises": noises}
    if certificates.sound is not None and certificates.failed is not None:
        every = (certificates.noise, *getattr(certificates, "noises", ()))
        chance = max(map(certificates.sound.failure_bound, every))
        lines.append(f"{told_mode(result)} (each with a chance of {least_above(chance)} at most)")
        values_of_mode |= {"cost": result.cost, "failed": int(certificates.failed.sum())}
        values_of_mode["failure_bound"] = chance
    if options.out:
        lines.append(f"log written to {options.out}")
    if options.store:
        lines.append(f"counts kept in {options.store}")
    values = {
        "radii": radii, "certified_accuracy": [float(s) for s in shares], "inputs": len(labels),
        "abstained": abstained, "alpha": certificates.alpha, "n": certificates.n,
        "samples": drawn,
        "noise": certificates.noise.to_dict(), "attack": certificates.attack,
        "measure": result.measure,
        "tight": certificates.tight, "out": options.out,
        "store": options.store, **values_of_mode,
        "rows": [
            {name: getattr(row, name) for name in ROW} | dict(row.extra) for row in result.rows()
        ],
    }  # fmt: skip
    emit(options, values, "\n".join(lines))
