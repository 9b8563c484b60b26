"""cert prove: certificates checked in ball arithmetic, each distinct one once."""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cert_core as cc
from cert_core import rounding
from cert_models.commands.options import (
    ATTACKS,
    UsageError,
    add_bound,
    add_noise,
    add_output,
    add_scales,
    check_invertible,
    check_targets,
    emit,
    noise_names,
    noise_of,
    numbers_of,
    option,
)
from cert_models.commands.progress import resumable
from cert_models.commands.sources import run_names
from cert_models.files.outputs import refused, written
from cert_models.logs import check_scales, check_stated, read_log
from cert_models.store.claims import COLUMNS, HEAD, Claim, Key, claims_of, read_proofs

NUMBERS = {*noise_names(), "scales", "attack", "n", "alpha"}
READ = {  # what each kind of claims is told by
    "radius": NUMBERS | {"p", "votes"},
    "log": NUMBERS,
    "store": {"attack", "alpha", "run_name", "bound"},
}  # fmt: skip


@dataclass(frozen=True)
class Checked:
    """What became of a claim; required is a proved upper bound of p_min(radius)."""

    claim: Claim
    required: float
    proved: bool
    seconds: float

    def cells(self) -> tuple[str, ...]:
        """The row."""
        margin = rounding.nearest(self.claim.p - self.required, 4)
        seconds = rounding.nearest(self.seconds, 3)
        proved = "yes" if self.proved else "no"
        return (*self.claim.key(), repr(self.required), margin, seconds, proved)


def check(claim: Claim) -> Checked:
    """Prove a claim, or not."""
    start = time.perf_counter()
    pair, shells = (claim.noise, claim.attack, claim.radius), claim.shells
    if shells is not None:
        found = cc.proof.prove_shells(shells.masses, shells.thresholds, *pair)
        votes = shells.votes, shells.samples, claim.alpha, shells.masses, shells.thresholds
        proved = found.holds and cc.proof.prove_shell_votes(*votes, claim.noise).holds
        return Checked(claim, found.required, proved, time.perf_counter() - start)
    found = cc.proof.prove(claim.p, *pair)
    proved = found.holds
    if claim.votes is not None and claim.n is not None:
        proved &= cc.proof.prove_votes(claim.votes, claim.n, claim.alpha, claim.p).holds
    return Checked(claim, found.required, proved, time.perf_counter() - start)


def add(commands: Any) -> None:
    """The parser of this group."""
    parser = commands.add_parser(
        "prove", help="prove certificates in ball arithmetic",
        example="cert prove --store runs.db --out proofs.tsv",
    )  # fmt: skip
    add_noise(parser, required=False)
    add_scales(parser)
    parser.add_argument("--attack", choices=ATTACKS, help="norm of the radii (a run's: its own)")
    parser.add_argument("--radius", type=float, help="one radius, with --p or --votes")
    parser.add_argument("--p", type=float, help="class probability that certifies it")
    parser.add_argument("--votes", type=int, help="votes of --n, bounded at --alpha, instead of p")
    parser.add_argument("--n", type=int, help="estimation samples of votes, or of a log")
    parser.add_argument("--alpha", type=float, help="failure probability (a run's: its own)")
    parser.add_argument("--log", help="the radii of a log, by the fewest votes that give them")
    parser.add_argument("--store", help="the certificates of a run in this store")
    parser.add_argument("--run", dest="run_name", metavar="NAME", help="name of the run there")
    add_bound(parser)
    parser.add_argument("--out", help="table to write, one line a proof; it goes on from there")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_output(parser)
    parser.set_defaults(run=run_prove)


def run_prove(options: argparse.Namespace) -> int:
    """cert prove."""
    cc.errors.integer("--workers", options.workers, 1, remedy="pass e.g. 1")
    kind = _kind(options)
    if kind == "store":
        counted = _whole_counts(options)
        if counted is not None:
            return _emit_counted(*counted, options)
    claims = sorted(set(_claims(kind, options)), key=Claim.key)
    done = _Table(options.out) if options.out else None
    kept = f"what is proved is kept in {options.out}; the same command goes on from there"
    with resumable(kept if options.out else "nothing is kept without --out"):
        if done is None:
            results = [(*checked.cells(),) for checked in _checked(claims, options)]
        else:
            new = [claim for claim in claims if claim.key() not in done.rows]
            for checked in _checked(new, options):
                done.add(checked)
            results = [done.rows[claim.key()] for claim in claims]
    failed = [row for row in results if row[-1] != "yes"]
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in results]
    values = {"proved": len(rows) - len(failed), "not_proved": len(failed), "rows": rows}
    emit(options, values, _text(results, failed, options))
    return int(bool(failed))


def _whole_counts(options: argparse.Namespace) -> tuple[int, list[int]] | None:
    """(inputs, those whose radius their counts do not give) of a run that counted all copies;
    None of other runs."""
    from cert_models.store.counts import CountStore
    from cert_models.store.readings import read_run
    from cert_models.store.runs import AllPlan

    run_names(options.store)
    with CountStore(options.store, readonly=True) as store:
        name = store.only(options.run_name)
        run = store.runs()[name]
        if not isinstance(run.plan, AllPlan) or not isinstance(run.noise, cc.Splitting):
            return None
        read = read_run(store, name, attack=options.attack, alpha=options.alpha)
        votes = {each.index: each.estimation.tolist() for each in store.votes(name, AllPlan)}
    wrong = [
        index
        for index, label, radius in zip(
            read.indices.tolist(), read.predict.tolist(), read.radius.tolist(), strict=True
        )
        if not _leads(votes[index], label, Fraction(radius) * run.noise.levels)
    ]
    return len(read), wrong


def _leads(votes: list[int], label: int, steps: Fraction) -> bool:
    """Whether a label stays ahead where a copy a step changes its vote; ties go to the first.
    A radius is a float, so steps are a whole number but for its last digit."""
    lost = round(steps)
    near = abs(steps - lost) <= Fraction(1, 2**40) * max(lost, 1)
    return near and all(
        votes[label] - lost >= cast + lost + (other < label)
        for other, cast in enumerate(votes)
        if other != label
    )


def _emit_counted(inputs: int, wrong: list[int], options: argparse.Namespace) -> int:
    proved = inputs - len(wrong)
    values = {"proved": proved, "not_proved": len(wrong), "wrong": wrong, "exact": True}
    lines = [f"input {index}: NOT PROVED" for index in wrong]
    lines.append(f"{proved} of {inputs} certificates proved by whole counts of all copies: alpha 0")
    emit(options, values, "\n".join(lines))
    return int(bool(wrong))


def _kind(options: argparse.Namespace) -> str:
    """Which claims are to be proved; what would change nothing of these is refused."""
    given = [name for name in ("radius", "log", "store") if getattr(options, name) is not None]
    if len(given) != 1:
        found = ", ".join(f"--{name}" for name in given) or "none"
        raise UsageError(f"one of --radius, --log, --store must be given, got {found}: choose one")
    (kind,) = given
    if kind == "radius" and (options.p is None) == (options.votes is None):
        raise UsageError("one of --p and --votes must be given with --radius: choose one")
    counted = {"n", "alpha"} if options.p is not None else set()
    for name in sorted(set().union(*READ.values())):
        if getattr(options, name) is not None and name not in READ[kind] - counted:
            said, beside = option(name.removesuffix("_name")), "p" if name in counted else kind
            raise UsageError(
                f"{said} must come without --{beside}, which it does not change: drop it"
            )
    return kind


def _claims(kind: str, options: argparse.Namespace) -> Iterator[Claim]:
    return {"radius": _of_numbers, "log": _of_log, "store": _of_store}[kind](options)


def _needed(options: argparse.Namespace, *names: str) -> None:
    for name in names:
        if getattr(options, name) is None:
            raise UsageError(f"--{name} must be given for these claims, got none: add it")


def _of_numbers(options: argparse.Namespace) -> Iterator[Claim]:
    _needed(options, "noise", "attack")
    noise = noise_of(options)
    if options.p is not None:
        yield Claim(radius=options.radius, attack=options.attack, noise=noise, p=options.p)
        return
    _needed(options, "n", "alpha")
    p = float(cc.binomial_lower(options.votes, options.n, options.alpha))
    yield Claim(
        radius=options.radius, attack=options.attack, noise=noise, p=p, votes=options.votes,
        n=options.n, alpha=options.alpha,
    )  # fmt: skip


def _of_log(options: argparse.Namespace) -> Iterator[Claim]:
    _needed(options, "noise", "attack", "n", "alpha")
    noise, n = noise_of(options), options.n
    rows = read_log(options.log)
    check_scales(options.log, rows, noise)
    check_stated(options.log, rows, numbers_of(noise) | {"alpha": options.alpha, "n": n})
    check_invertible(options.log, rows, "prove the store of its counts")
    for radius in {row.radius for row in rows if row.radius > 0}:
        required = cc.required_probability(noise, options.attack, radius)
        votes = bisect_left(
            range(n), True, key=lambda k: cc.binomial_lower(k, n, options.alpha) > required
        )
        p = float(cc.binomial_lower(votes, n, options.alpha))
        yield Claim(
            radius=radius, attack=options.attack, noise=noise, p=p, votes=votes, n=n,
            alpha=options.alpha,
        )  # fmt: skip


def _of_store(options: argparse.Namespace) -> Iterator[Claim]:
    from cert_models.store.counts import CountStore
    from cert_models.store.readings import read_run
    from cert_models.store.runs import LogPlan

    if options.bound is not None and cc.BOUNDS[options.bound].reads == "classes":
        raise UsageError(
            f"--bound must be of one class to be proved, got {options.bound!r}, whose two "
            "probabilities certify together: no proof is written for it"
        )
    run_names(options.store)
    with CountStore(options.store, readonly=True) as store:
        name = store.only(options.run_name)
        plan = store.runs()[name].plan
        if isinstance(plan, LogPlan):
            raise UsageError(f"--run must be one of counts, got the log {name!r}: pass it as --log")
        read = read_run(
            store, name, attack=options.attack, alpha=options.alpha, bound=options.bound
        )
        yield from claims_of(store, name, read.certified_by, read.indices)


def _checked(claims: Sequence[Claim], options: argparse.Namespace) -> Iterator[Checked]:
    """The claims' proofs as they are done, in processes where there are several."""
    from tqdm import tqdm

    with contextlib.ExitStack() as stack:
        run: Any = map
        workers = min(options.workers, len(claims))
        if workers > 1:
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(workers, mp_context=context)
            stack.callback(pool.shutdown, cancel_futures=True)
            run = pool.map
        yield from tqdm(
            run(check, claims), "proving", len(claims), unit=" radii", file=sys.stderr,
            disable=options.quiet or len(claims) < 2,
        )  # fmt: skip


class _Table:
    """The rows of a file, one a proof, which another run goes on from."""

    def __init__(self, path: str) -> None:
        self.path, self.rows = Path(path), dict[Key, tuple[str, ...]]()
        check_targets(argparse.Namespace(out=path, force=True))  # a table goes on
        if not self.path.exists():
            self._write(HEAD, over=False)
        self.rows.update(read_proofs(self.path))
        whole, _, torn = self.path.read_text(encoding="utf-8").rpartition("\n")
        if torn:  # by a run that was killed while it wrote
            self._write(whole, over=True)

    def _write(self, text: str, *, over: bool) -> None:
        """The whole file, or none: what is proved took long."""
        with written(self.path, over=over) as new:
            new.write_text(text + "\n", encoding="utf-8")

    def add(self, checked: Checked) -> None:
        """Write one row."""
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write("\t".join(checked.cells()) + "\n")
        except OSError as error:
            raise refused(self.path, error.strerror or str(error)) from error
        self.rows[checked.claim.key()] = checked.cells()


def _text(
    results: list[tuple[str, ...]], failed: list[tuple[str, ...]], options: argparse.Namespace
) -> str:
    lines = []
    for row in results if len(results) == 1 else failed:
        cells = dict(zip(COLUMNS, row, strict=True))
        lines.append(
            f"radius {cells['radius']}  p {cells['p']}  needs at most "
            f"{cells['required']}  {'proved' if cells['proved'] == 'yes' else 'NOT PROVED'}"
        )
    lines.append(f"{len(results) - len(failed)} of {len(results)} distinct certificates proved")
    if all(json.loads(row[2])["noise"] in cc.CHANNELS for row in results):
        lines.append("exact: the noise's side is counted in whole numbers, nothing is enclosed")
    if any(row[4] == "" for row in results) and options.p is None:
        lines.append("of the noise's side alone: these votes were no sample of fixed size")
    return "\n".join(lines + ([f"wrote {options.out}"] if options.out else []))
