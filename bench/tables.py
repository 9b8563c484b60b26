"""Benchmarks as Markdown: for each subject the races with rivals, and what has none.

python bench/tables.py FILE.json > docs/benchmarks.md     (of pytest-benchmark)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

LIMITS = ("Philox words", "store", "copy", "forward passes")  # contestants that nobody can beat
EVEN = 1.05  # less than this apart, nobody wins
RACES = ("race", "ours", "best rival", "ours is", "limit", "note")
ALONE = ("race", "entry", "time", "over the first", "note")


def limit(name: str) -> bool:
    return name.startswith(LIMITS)


def digits(value: float) -> str:
    """Three of them, without an exponent."""
    return f"{float(f'{value:.3g}'):,.12g}"


def verdict(ratio: float) -> str:
    """Who wins, from the rival's time over ours."""
    if 1 / EVEN < ratio < EVEN:
        return "even"
    return f"**{digits(ratio)}x faster**" if ratio > 1 else f"{digits(1 / ratio)}x slower"


def rivals_of(race: dict[str, Any]) -> list[str]:
    """The contestants that are others' work."""
    if race.get("own"):
        return []
    return [name for name in list(race["times"])[1:] if not limit(name)]


def row(race: dict[str, Any]) -> tuple[str, ...]:
    """Ours, the best rival, who wins, and the largest of the limits raced."""
    times, unit = race["times"], race["unit"]
    ours = next(iter(times))
    best = min(rivals_of(race), key=times.__getitem__)
    binding = max(filter(limit, times), key=times.__getitem__, default=None)
    notes = [race["notes"].get(ours, ""), f"{best}: {race['notes'].get(best, '')}"]
    return (
        race["title"], f"{digits(times[ours])} {unit}", f"{best}: {digits(times[best])} {unit}",
        verdict(race["ratios"][best]),
        "" if binding is None else f"{binding}: {digits(times[binding])} {unit}",
        ", ".join(note for note in notes if note and not note.endswith(": ")),
    )  # fmt: skip


def rows_alone(race: dict[str, Any]) -> list[tuple[str, ...]]:
    """Every entry of a race without rivals."""
    return [
        (
            race["title"] if i == 0 else "", name, f"{digits(time)} {race['unit']}",
            digits(race["ratios"][name]) if i > 0 else "", race["notes"].get(name, ""),
        )
        for i, (name, time) in enumerate(race["times"].items())
    ]  # fmt: skip


def table(head: Sequence[str], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines of Markdown, without columns that no row fills."""
    if not rows:
        return []
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    lines = [[cells[i] for i in kept] for cells in (head, ["---"] * len(head), *rows)]
    return ["", *(f"| {' | '.join(cells)} |" for cells in lines)]


def markdown(done: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """The tables of each file of benchmarks, in their order."""
    subjects: dict[str, list[dict[str, Any]]] = {}
    for name, extra in done:
        subject = Path(name.split("::")[0]).stem.removeprefix("test_")
        subjects.setdefault(subject, []).extend(extra.get("races", []))
    return "\n\n".join(
        "\n".join([
            f"## {subject.capitalize()}",
            *table(RACES, [row(race) for race in races if rivals_of(race)]),
            *table(ALONE, [r for race in races if not rivals_of(race) for r in rows_alone(race)]),
        ])
        for subject, races in subjects.items()
        if races
    )  # fmt: skip


def main() -> None:
    data = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    cpu = data["machine_info"]["cpu"]
    print(
        "# Benchmarks\n\n"
        f"{data['datetime'][:10]}, {cpu.get('brand_raw', '')}, {cpu.get('count', '')} CPUs, "
        f"Python {data['machine_info']['python_version']}; `make bench` makes this page. Times are "
        "medians of CPU time, less is better. The contestants of a race take turns in one process, "
        "so only what is said within a race means anything.\n\n"
        "*ours is*: the best rival's time over ours, the median over the rounds: "
        f"{verdict(2)} where ours takes half its time, {verdict(0.5)} where twice, {verdict(1)} "
        f"within {round(100 * (EVEN - 1))} %. *limit*: what no contestant can go below. A second "
        "table has entries of this project alone, without a rival, and their times over that of "
        "the first of their race.\n"
    )
    print(markdown((b["fullname"], b["extra_info"]) for b in data["benchmarks"]))


if __name__ == "__main__":
    main()
