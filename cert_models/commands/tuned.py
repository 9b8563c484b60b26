"""What cert tune found, told: a table, JSON, tab-separated text, a picture."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from cert_models.commands.candidates import Asked
from cert_models.commands.options import emit, target, write_text

if TYPE_CHECKING:
    from cert_models.reports.tables import Table
    from cert_models.store.results import Result

COLUMNS = (
    "objective", "candidate", "noise", "inputs", "estimate", "passes", "told_worse", "winner",
    "fresh_inputs", "fresh", "standard_error", "lower", "upper", "fresh_passes",
)  # fmt: skip


def report(
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
        f"{sum(afresh.values())} for the certificates of {len(afresh)} "
        f"winner{'s' * (len(afresh) != 1)} besides"
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
