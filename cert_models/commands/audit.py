"""cert audit: inputs of a stored run drawn at random, counted again, and compared."""

from __future__ import annotations

import argparse
import contextlib
import secrets
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any

from cert_core.rounding import in_full, percent, upper
from cert_models.audit import Audit, audit_run, check_source, counted_run
from cert_models.commands.certify import add_forward, add_on
from cert_models.commands.options import add_data, add_model, add_output, emit
from cert_models.commands.progress import resumable
from cert_models.commands.routes import LOADING
from cert_models.engines import executor_on
from cert_models.run import keep_memory, sampler_of
from cert_models.store.counts import CountStore
from cert_models.store.fingerprints import data_fingerprint, model_fingerprint, precision_of
from cert_models.store.runs import Votes

SHOWN = 20  # inputs told one by one; --json has all


def add(commands: Any) -> None:
    """The parser of this group."""
    parser = commands.add_parser(
        "audit", help="count a share of a stored run again",
        example="cert audit --store runs.db --data test.npz --model mymodule:network --share 0.1",
    )  # fmt: skip
    parser.add_argument("--store", required=True, help="file that keeps the counts; only read")
    parser.add_argument("--run", dest="run_name", metavar="NAME", help="name of the run there")
    add_data(parser)
    add_model(parser)
    parser.add_argument("--share", type=float, default=0.01, help="of the run's inputs, drawn")
    parser.add_argument("--max", type=int, help="inputs drawn at most")
    parser.add_argument(
        "--seed", type=int, help="of the draw, to repeat one (default: from the system)"
    )
    parser.add_argument("--confidence", type=float, default=0.95, help="of what is excluded")
    parser.add_argument(
        "--allow", type=int, default=0, metavar="VOTES",
        help="an input is wrong where more votes differ (default: 0); floats differ by device",
    )  # fmt: skip
    parser.add_argument("--device", help="torch device of the model")
    add_forward(parser)
    add_on(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_output(parser)
    parser.set_defaults(run=run_audit)


def run_audit(options: argparse.Namespace) -> int:
    """cert audit."""
    from cert_models.data.datasets import load, takes_pixels
    from cert_models.networks.models import load_model

    seed = options.seed if options.seed is not None else secrets.randbelow(2**32)
    with contextlib.ExitStack() as stack:
        anew = f"an audit keeps nothing; with --seed {seed} the same inputs are drawn again"
        stack.enter_context(resumable(anew))
        store = stack.enter_context(CountStore(options.store, readonly=True))
        name = store.only(options.run_name)
        run = counted_run(store, name)
        data = load(options.data, categorical=run.noise.categorical, pixels=takes_pixels(run.sound))
        classes = options.classes if options.classes is not None else run.num_classes
        loading = {key: getattr(options, key) for key in LOADING}
        place = None if options.on else options.device
        model = load_model(options.model, classes, device=place, **loading)
        autocast = precision_of(run.model_fingerprint)
        given = replace(
            run, num_classes=classes, data=options.data, data_fingerprint=data_fingerprint(data),
            model=options.model,
            model_fingerprint=model_fingerprint(model, options.model, autocast),
        )  # fmt: skip
        check_source(run, given)
        keep_memory()
        executor = stack.enter_context(executor_on(options.on, options.device))
        sample = sampler_of(
            options.model if executor else model, run, data, device=options.device,
            executor=executor, loading=loading, autocast=autocast,
            channels_last=options.channels_last, compiled=options.compile,
        )  # fmt: skip
        found = audit_run(
            store, name, data.y,
            lambda drawn: _shown(sample(drawn), len(drawn), options.quiet),
            share=options.share, most=options.max, seed=seed, confidence=options.confidence,
            allow=options.allow,
        )  # fmt: skip
    values = asdict(found) | {
        "store": options.store, "run": name, "seed": seed, "confidence": options.confidence,
        "allow": options.allow, "passed": found.passed, "data_inputs": len(data),
    }  # fmt: skip
    emit(options, values, _text(options, values, found))
    return int(not found.passed)


def _shown(items: Iterable[Votes], total: int, quiet: bool) -> Iterator[Votes]:
    from tqdm import tqdm

    yield from tqdm(items, "audit", total, unit=" inputs", file=sys.stderr, disable=quiet)


def _text(options: argparse.Namespace, values: dict[str, Any], found: Audit) -> str:
    lines = [
        f"run {values['run']!r} of {options.store}: {found.inputs} inputs of the data's "
        f"{values['data_inputs']}, {found.votes} votes",
        f"{len(found.drawn)} inputs, drawn by seed {values['seed']}, counted again whole: "
        f"{found.recounted} votes",
    ]
    for each in found.differences[:SHOWN]:
        scores = f", scores by up to {upper(each.score)}" if each.score else ""
        judged = "WRONG" if each.index in found.wrong else "allowed"
        lines.append(f"input {each.index}: {each.votes} votes differ{scores}: {judged}")
    if len(found.differences) > SHOWN:
        lines.append(f"and {len(found.differences) - SHOWN} more inputs: --json lists them")
    if found.mislabelled:
        lines.append(
            f"true classes that are not the data's: {len(found.mislabelled)} WRONG, "
            f"the first of input {found.mislabelled[0]}"
        )
    sure = f"with confidence {in_full(options.confidence)}"
    if len(found.drawn) == found.inputs:
        sure = "certainly"
    beyond = f" in more than {options.allow} votes each" if options.allow else ""
    lines += [
        f"counts that differ: of {len(found.differences)} inputs; wrong: {len(found.wrong)}",
        f"{sure} at most {_of(found.wrong_at_most, found.inputs, 'inputs')} are wrong{beyond}, and "
        f"at most {_of(found.wrong_votes_at_most, found.votes, 'votes')}",
    ]
    return "\n".join(lines)


def _of(wrong: int, total: int, what: str) -> str:
    return f"{wrong} of {total} {what} (right: {percent(total - wrong, total)})"
