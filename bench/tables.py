"""Benchmarks as Markdown: one table a subject, ours beside the best rival and what limits both.

python bench/tables.py FILE.json > docs/benchmarks.md     (of pytest-benchmark)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LIMITS = ("Philox words", "store", "copy", "forward passes")  # contestants that nobody can beat


def limit(name: str) -> bool:
    return name.startswith(LIMITS)


def row(race: dict[str, Any]) -> str:
    """Ours, the best rival, and the largest of the limits raced, in one unit."""
    times, ratios = dict(race["times"]), race["ratios"]
    ours = next(iter(times))
    rivals = {n: t for n, t in times.items() if n != ours and not limit(n)}
    limits = {n: t for n, t in times.items() if limit(n)}
    best = min(rivals, key=lambda name: rivals[name], default=None)
    binding = max(limits, key=lambda name: limits[name], default=None)
    cells = [
        race["title"], f"{times[ours]:.3g} {race['unit']}",
        "" if best is None else f"{best}: {rivals[best]:.3g}",
        "" if best is None else f"{ratios[best]:.2f}",
        "" if binding is None else f"{binding}: {limits[binding]:.3g}",
        race["notes"].get(ours, ""),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def markdown(done: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """A table for each file of benchmarks, in their order."""
    subjects: dict[str, list[str]] = {}
    for name, extra in done:
        for race in extra.get("races", []):
            subject = Path(name.split("::")[0]).stem.removeprefix("test_")
            subjects.setdefault(subject, []).append(row(race))
    head = "| race | ours | best rival | rival/ours | limit | accuracy |\n" + "| --- " * 6 + "|"
    return "\n\n".join(
        "\n".join([f"## {subject.capitalize()}", "", head, *rows])
        for subject, rows in subjects.items()
    )


def main() -> None:
    data = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    cpu = data["machine_info"]["cpu"]
    print(
        "# Benchmarks\n\n"
        f"{data['datetime'][:10]}, {cpu.get('brand_raw', '')}, {cpu.get('count', '')} CPUs, "
        f"Python {data['machine_info']['python_version']}; `make bench` makes this page. Times are "
        "medians of CPU time; the contestants of a race take turns in one process, and a ratio is "
        "the median over its rounds: only ratios within a race mean anything.\n"
    )
    print(markdown((b["fullname"], b["extra_info"]) for b in data["benchmarks"]))


if __name__ == "__main__":
    main()
