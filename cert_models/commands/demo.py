"""cert demo: digits, end to end, under several noises of one level."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cert_core as cc
from cert_core.rounding import in_full, radius
from cert_models.commands.certify import add_run
from cert_models.commands.options import UsageError, add_force, chosen_inputs
from cert_models.commands.progress import progress, resumable
from cert_models.store.results import named_mode

if TYPE_CHECKING:
    from cert_models.data.datasets import Dataset
    from cert_models.run import StoredRun
    from cert_models.store.results import Result

PICTURE, MARK = "certified-accuracy.png", "written.json"  # the mark says what the demo wrote
OWN = "sha256 of what cert demo wrote"
RMS = 0.25
STEP = "1/16"  # of sound mode
DIM = 64
RADII = {
    "l2": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    "l1": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2],
    "linf": [0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12],
}


def entries() -> list[tuple[str, str, cc.Noise]]:
    """(attack, name, noise), all of the same rms."""
    k = DIM / 4
    return [
        ("l2", "Gaussian", cc.Gaussian.with_rms(DIM, RMS)),
        ("l2", f"L2Noise, k={in_full(k)}", cc.L2Noise.with_rms(DIM, RMS, k)),
        ("l1", "Laplace", cc.Laplace.with_rms(DIM, RMS)),
        ("l1", f"L1Noise, k={in_full(k)}", cc.L1Noise.with_rms(DIM, RMS, k)),
        ("l1", f"LinfNoise, k={in_full(k)}", cc.LinfNoise.with_rms(DIM, RMS, k)),
        ("linf", "Gaussian", cc.Gaussian.with_rms(DIM, RMS)),
    ]


def sound_entry() -> tuple[str, str, cc.Noise]:
    """The first of them once more, in sound mode: the digits are multiples of STEP."""
    attack, name, noise = entries()[0]
    return attack, f"{name}, {named_mode(STEP)}", noise


def add(commands: Any) -> None:
    """The parser of this group."""
    parser = commands.add_parser(
        "demo", help="certify a digits network under several noises",
        example="cert demo --max 20 --n 1000 --out demo",
    )  # fmt: skip
    add_run(parser)
    parser.set_defaults(run=run_demo, max=100)
    parser.add_argument("--out", default="demo", help="folder to write")
    add_force(parser)


def run_demo(options: argparse.Namespace) -> int:
    """cert demo."""
    from cert_models.data.datasets import digits
    from cert_models.files.outputs import written
    from cert_models.logs import write_lines
    from cert_models.networks.train import digits_cnn
    from cert_models.reports.tables import curves

    folder = Path(options.out)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out must be a folder, got the file {options.out!r}: choose another")
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [*((*entry, "") for entry in entries()), (*sound_entry(), STEP)]
    logs = [
        folder / f"{attack}-{noise.name}{'-sound' if mode else ''}.tsv"
        for attack, _, noise, mode in chosen
    ]
    files = [folder / PICTURE, *logs]
    _check_own(folder, files, options.force)
    data = digits()
    indices = chosen_inputs(options, len(data))
    print("digits network: loading, or training it under Gaussian noise (once, cached) ...")
    digits_cnn()
    results = []
    counted: dict[tuple[cc.Noise, str], StoredRun] = {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(resumable("a demo goes on from nothing; the same command begins anew"))
        for (attack, name, noise, mode), log in zip(chosen, logs, strict=True):
            cc.certificates.check_sampling(noise, attack, options.n, options.alpha)
            if (noise, mode) not in counted:  # votes are the same whatever the attack
                run = _counted(attack, name, noise, mode, data, indices, options)
                counted[noise, mode] = stack.enter_context(contextlib.closing(run))
            results.append(counted[noise, mode].result(attack=attack))
            with written(log, over=True) as new:
                write_lines(new, results[-1].lines())
    level = f"n = {options.n}, alpha = {in_full(options.alpha)}"
    print(_tables(results, f"n = {options.n} samples, alpha = {in_full(options.alpha)}"))
    title = f"digits, {len(indices)} inputs, rms {RMS}, {level}"
    with written(folder / PICTURE, over=True) as new:
        curves(results, new, title)
    with written(folder / MARK, over=True) as new:
        new.write_text(json.dumps({OWN: {file.name: _digest(file) for file in files}}))
    print("wrote " + ", ".join(map(str, files)))
    return 0


def _counted(
    attack: str, name: str, noise: cc.Noise, mode: str, data: Dataset, indices: list[int],
    options: argparse.Namespace,
) -> StoredRun:  # fmt: skip
    """The votes under one noise, in one mode."""
    from cert_models.logs import lattice_of
    from cert_models.run import StoredRun, certified_right, sampler_of
    from cert_models.store.runs import FixedPlan, Run

    run = Run(
        plan=FixedPlan(options.n0, options.n), noise=noise, seed=options.seed,
        batch_size=options.batch_size, num_classes=10, model="digits-cnn", model_fingerprint="",
        data="digits", data_fingerprint="", attack=attack, alpha=options.alpha,
        sound=lattice_of(mode)[0],
    )  # fmt: skip
    sample = sampler_of("digits-cnn", run, data, device=options.device)
    stored = StoredRun(path=None, name=name, run=run, indices=indices)
    for _ in progress(
        stored.keep(sample.blocks(indices)), len(indices), f"{attack:4} {name:16}",
        lambda votes: certified_right(votes, run),
        quiet=options.quiet, form=options.progress,
    ):  # fmt: skip
        pass
    return stored


def _tables(results: Sequence[Result], level: str) -> str:
    """Certified accuracy, a table an attack, and what it shows."""
    from cert_models.reports.tables import table

    inputs, text = len(results[0]), []
    text.append(f"\nCertified accuracy of {inputs} test digits, noise of rms {RMS} a coordinate,")
    text.append(f"{level} an input:\n")
    for attack, radii in RADII.items():
        counts = {r.name: [r.count(x) for x in radii] for r in results if r.attack == attack}
        text.append(table(counts, inputs, radii, f"{attack} radius") + "\n")
    return "\n".join([*text, sentence(results) + "\n"])


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _check_own(folder: Path, files: list[Path], force: bool) -> None:
    """Refuse, before any work, to write in the place of what the demo did not write."""
    own, mark = {}, folder / MARK
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        own = dict(json.loads(mark.read_text(encoding="utf-8"))[OWN])
    foreign = [file for file in files if file.exists() and own.get(file.name) != _digest(file)]
    if mark.exists() and not own:
        foreign.append(mark)
    if foreign and not force:
        raise UsageError(
            f"--out must be a folder whose files are the demo's own, got {str(foreign[0])!r}: "
            "choose another, or pass --force to write in their place"
        )


def sentence(results: Sequence[Result]) -> str:
    """What the table shows: the family with the largest mean certified radius, an attack."""
    parts = []
    for attack in RADII:
        means = {r.name: r.average_radius() for r in results if r.attack == attack and not r.mode}
        best = max(means, key=lambda name: means[name])
        others = ", ".join(f"{radius(means[n], 3)} {n}" for n in means if n != best)
        largest = radius(means[best], 3)
        text = f"{attack}: {best} has the largest average certified radius, {largest}"
        parts.append(text + (f" (against {others})" if others else ""))
    return "At equal noise level a heavier tail or centre is no free gain.\n" + "\n".join(parts)
