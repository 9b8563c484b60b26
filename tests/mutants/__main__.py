"""Put every slip in, one at a time, into a copy of the tree, and see which test notices.

    PYTHONPATH=tests python -m mutants [--nearest] [--only PATTERN] [--again] [--table]

The nearest tests run first, then the others that touch the file, to the first failure, which
counts if that test passes without the slip.  Results are kept in build/mutants, so that a run that
was stopped goes on, and one that is begun again tries what was not noticed; --table writes
docs/mutants.md from them.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import datetime
import hashlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mutants.slips import EQUIVALENT, Slip, slips

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "mutants"
TABLE = ROOT / "docs" / "mutants.md"
NATIVE = (".pyx", ".h")
LEFT = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "__pycache__", ".*_cache", ".hypothesis"
)
PATIENCE = 1200  # seconds of a run of tests: one that hangs has noticed
FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/[^\n]+?)(?: - .*)?$", re.MULTILINE)
HEAD = """# Slips, and the tests that notice them

Each row is one line changed ({total} in all, tests/mutants/slips.py); `make mutants` puts each into
a copy of the tree and runs the nearest tests, then the others that touch the file.

{when}: {run} were run, {noticed} of them noticed{share}, {equal} change
nothing that could be told.{open}

| file | what it would break | noticed by |
| --- | --- | --- |
"""


TOOL = "\n## Changes that cosmic-ray makes\n"  # mutants.tool keeps what stands there


class Copy:
    """A copy of the tree as it is built, with a Python of its own that finds it first."""

    def __init__(self, number: int | str) -> None:
        self.root, self.compiled = KEPT / f"copy-{number}", KEPT / f"numba-{number}"
        self.apart = KEPT / f"numba-{number}-slip"  # what was compiled with a slip in it
        self.passed: set[str] = set()  # tests that pass without a slip
        self.keeps_bytecode = True
        self._slipped, self._touched, self._stale = "", int(time.time()), False
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(ROOT, self.root, ignore=LEFT)
        environment = self.root / ".venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
        (packages,) = environment.glob("lib/python*/site-packages")
        found = [str(self.root), *(path for path in sys.path if path.endswith("site-packages"))]
        (packages / "found.pth").write_text("\n".join(found) + "\n", encoding="utf-8")
        self.python = environment / "bin" / "python"

    def run(self, *words: Any, **options: Any) -> subprocess.CompletedProcess[str]:
        compiled = self.apart if "/kernels/" in self._slipped else self.compiled
        told = {
            "OMP_NUM_THREADS": "1", "NUMBA_CACHE_DIR": str(compiled),
            "PYTHONDONTWRITEBYTECODE": "" if self.keeps_bytecode else "1",
        }  # fmt: skip
        return subprocess.run(
            [self.python, "-m", *map(str, words)], cwd=self.root, env={**os.environ, **told},
            capture_output=True, text=True, check=False, **options,
        )  # fmt: skip

    def build(self) -> str:
        """What the build says where it fails."""
        how = ("-q", "--disable-pip-version-check", "--no-build-isolation", "--no-deps", "-e", ".")
        done = self.run("pip", "install", *how)
        return "" if done.returncode == 0 else done.stderr[-300:]

    def failure(self, tests: list[str]) -> str:
        """What the build says if it fails, or the first test that does, in the order given; ""
        where none does."""
        if self._stale and (said := self.build()):
            return said
        self._stale = False
        try:
            how = ("-x", "-q", "-m", "not slow", "-p", "no:cacheprovider")
            done = self.run("pytest", *how, *tests, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return "no end of " + " ".join(tests)
        found = FAILED.search(done.stdout)
        if found:
            return found[1]
        return "" if done.returncode in (0, 5) else (done.stdout + done.stderr)[-300:].strip()

    @contextlib.contextmanager
    def slipped(self, slip: Slip) -> Iterator[None]:
        """The copy with a slip in it.

        Bytecode goes by seconds and sizes: no two contents of a file have one time here.
        """
        path, self._slipped = self.root / slip.file, slip.file
        clean, was, native = path.read_text(encoding="utf-8"), path.stat(), path.suffix in NATIVE
        assert clean.count(slip.old) == 1, f"{slip}: its old text does not stand there once"
        try:
            path.write_text(clean.replace(slip.old, slip.new), encoding="utf-8")
            self._touched = max(self._touched + 1, int(time.time()))
            os.utime(path, (self._touched, self._touched))
            self._stale |= native
            yield
        finally:
            path.write_text(clean, encoding="utf-8")
            if not native:  # which is built again where it is newer
                os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
            self._slipped, self._stale = "", self._stale or native
            shutil.rmtree(self.apart, ignore_errors=True)

    def passes(self, test: str) -> bool:
        """Whether it passes without a slip."""
        if test not in self.passed and not self.failure([test]):
            self.passed.add(test)
        return test in self.passed


def touching(slip: Slip) -> list[str]:
    """The other test files that name the slip's module or what it defines."""
    path = ROOT / slip.file
    words = {path.stem}
    if path.suffix == ".py":
        body = ast.parse(path.read_text(encoding="utf-8")).body
        words |= {each.name for each in body if isinstance(each, ast.FunctionDef | ast.ClassDef)}
    if path.suffix in NATIVE:
        words = {"cert_core"}
    known = re.compile(r"\b(" + "|".join(w for w in words if not w.startswith("_")) + r")\b")
    files = sorted((ROOT / "tests").glob("**/test_*.py"))
    found = [p for p in files if known.search(p.read_text(encoding="utf-8"))]
    names = [str(p.relative_to(ROOT)) for p in found]
    return [name for name in names if name not in nearest(slip)]


def nearest(slip: Slip) -> list[str]:
    return [f"tests/{name}" for name in slip.nearest]


def tried(slip: Slip, copy: Copy, *, rest: bool) -> dict[str, Any]:
    """What notices the slip; the copy is as it was afterwards."""
    begun = time.monotonic()
    files = [[name] for name in nearest(slip)] + ([touching(slip)] if rest else [])
    noticed = ""
    with copy.slipped(slip):
        for tests in files:
            noticed = noticed or (copy.failure(tests) if tests else "")
    known = not noticed.startswith("tests/") or copy.passes(noticed)
    return {
        "file": slip.file, "breaks": slip.breaks, "by": noticed if known else "",
        "fails without": "" if known else noticed, "rest": rest,
        "seconds": round(time.monotonic() - begun),
    }  # fmt: skip


def key(slip: Slip) -> str:
    return hashlib.sha256("\0".join((slip.file, slip.old, slip.new)).encode()).hexdigest()[:16]


def results() -> dict[str, Any]:
    path = KEPT / "results.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def run(chosen: list[Slip], *, rest: bool, together: int) -> None:
    """Try them, so many at a time, and keep each result as it comes."""
    copies: queue.Queue[Copy] = queue.Queue()
    for number in range(min(together, len(chosen))):
        copies.put(Copy(number))
    kept, lock = results(), threading.Lock()

    def one(slip: Slip) -> None:
        copy = copies.get()
        try:
            found = tried(slip, copy, rest=rest)
        finally:
            copies.put(copy)
        with lock:
            kept[key(slip)] = {**found, "when": str(datetime.date.today())}
            (KEPT / "results.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
            print(f"{found['seconds']:5} s  {slip}: {found['by'] or 'NOT NOTICED'}", flush=True)

    with ThreadPoolExecutor(together) as pool:
        list(pool.map(one, chosen))


def write_table() -> None:
    """docs/mutants.md, of all that was run."""
    kept, every = results(), list(slips())
    rows = [(slip, kept.get(key(slip))) for slip in every]
    done = [found for _, found in rows if found]
    noticed = sum(bool(found["by"]) for found in done)
    equal = sum(found is not None and not found["by"] and str(s) in EQUIVALENT for s, found in rows)
    share = f" ({100 * noticed // (len(done) - equal)} % of those that could be)" if noticed else ""
    left = len(rows) - len(done)
    waiting = f" The other {left} wait for a run." if left else ""
    head = HEAD.format(
        total=len(rows), when=max((f["when"] for f in done), default="Never"), run=len(done),
        noticed=noticed, share=share, equal=equal, open=waiting,
    )  # fmt: skip
    lines = [f"| {s.file} | {s.breaks} | {_told(s, found)} |" for s, found in rows]
    _, found, below = TABLE.read_text(encoding="utf-8").partition(TOOL)
    TABLE.write_text(head + "\n".join(lines) + "\n" + found + below, encoding="utf-8")


def _told(slip: Slip, found: dict[str, Any] | None) -> str:
    if found is None:
        return "not run yet"
    if found["by"]:
        return (
            "`" + found["by"].removeprefix("tests/").replace("|", "/").splitlines()[0][:120] + "`"
        )
    if str(slip) in EQUIVALENT:
        return f"nothing: {EQUIVALENT[str(slip)]}"
    return "nothing" if found["rest"] else "none of the nearest tests"


def main() -> None:
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("--nearest", action="store_true", help="run the nearest tests alone")
    parser.add_argument("--only", metavar="PATTERN", default="", help="in FILE: WHAT IT BREAKS")
    parser.add_argument("--together", type=int, default=2, help="how many at a time")
    parser.add_argument("--again", action="store_true", help="try those that were tried, too")
    parser.add_argument("--table", action="store_true", help="write docs/mutants.md, run nothing")
    options = parser.parse_args()
    if not options.table:
        kept = {} if options.again else results()
        enough = {k for k, found in kept.items() if found["by"]}
        chosen = [s for s in slips() if re.search(options.only, str(s)) and key(s) not in enough]
        KEPT.mkdir(parents=True, exist_ok=True)
        run(chosen, rest=not options.nearest, together=options.together)
    write_table()


if __name__ == "__main__":
    main()
