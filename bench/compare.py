"""Two revisions of the project, benchmark by benchmark, in turns.

    python bench/compare.py BEFORE AFTER [ROUNDS] [-- PYTEST ARGUMENTS]

Each is built in a worktree and an environment of its own, which see this Python's packages. Every
round runs the benchmarks of one and then of the other, the order flipped each time; printed are the
medians of ours, the ratio's median over rounds, and its extremes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
Times = dict[str, float]


def build(revision: str, folder: Path) -> Path:
    """The Python of a revision built in a folder."""
    subprocess.run(["git", "worktree", "add", "-q", "-f", "--detach", folder, revision], cwd=ROOT,
                   check=True)  # fmt: skip
    subprocess.run([sys.executable, "-m", "venv", folder / ".venv"], check=True)
    python = folder / ".venv" / "bin" / "python"
    place = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    packages = [path for path in sys.path if path.endswith("-packages")]
    (Path(place.strip()) / "packages.pth").write_text("\n".join(packages) + "\n")
    install = [python, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "-e", "."]
    subprocess.run(install, cwd=folder, check=True)
    return python


def run(python: Path, folder: Path, arguments: list[str]) -> Times:
    """Times of a revision's own entries, in milliseconds, by race or by test."""
    out = folder / "bench.json"
    paths = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"}
    command = [python, "-m", "pytest", "-q", "bench", "--benchmark-only", *arguments]
    subprocess.run([*command, f"--benchmark-json={out}"], cwd=folder, env=paths, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    found = json.loads(out.read_text(encoding="utf-8"))["benchmarks"]
    return {b["fullname"]: 1e3 * b["stats"]["median"] for b in found}


def main() -> None:
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    (before, after, *rest), arguments = words[:cut], words[cut + 1 :]
    rounds = int(rest[0]) if rest else 3
    with tempfile.TemporaryDirectory() as room:
        folders = [Path(room) / name for name in ("before", "after")]
        try:
            pythons = [build(r, f) for r, f in zip((before, after), folders, strict=True)]
            found: list[list[Times]] = [[], []]
            for i in range(rounds):
                for side in (0, 1) if i % 2 == 0 else (1, 0):
                    found[side].append(run(pythons[side], folders[side], arguments))
        finally:
            for folder in folders:
                subprocess.run(["git", "worktree", "remove", "--force", folder], cwd=ROOT)
    print(f"| benchmark | {before}, ms | {after}, ms | after/before | least, most |")
    print("| --- " * 5 + "|")
    for name in (n for n in found[0][0] if n in found[1][0]):
        old, new = ([times[name] for times in side] for side in found)
        ratios = sorted(b / a for a, b in zip(old, new, strict=True))
        print(
            f"| {name.removeprefix('bench/')} | {statistics.median(old):.4g} | "
            f"{statistics.median(new):.4g} | {statistics.median(ratios):.2f} | "
            f"{ratios[0]:.2f}, {ratios[-1]:.2f} |"
        )


if __name__ == "__main__":
    main()
