"""Every small change that cosmic-ray knows, in the modules on which a certificate's level hangs.

    PYTHONPATH=tests python -m mutants.tool [--only PATTERN] [--sample N] [--seed S] [--seconds T]

Each module has a session in build/mutants, run against the tests that slips.py calls nearest to it,
those that reach the line first; a session that was stopped goes on, with the sample it was begun
with.  The counts go into docs/mutants.md, the changes that survive into the session's .txt: those
that EQUIVALENT does not name are open.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import datetime
import json
import random
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from mutants.__main__ import KEPT, ROOT, TABLE, TOOL, Copy
from mutants.slips import CORE, MODELS

MODULES = (
    "cert_core/confidence.py", "cert_core/tails.py", "cert_core/certificates.py",
    "cert_core/bounds.py", "cert_core/votes.py", "cert_core/monte_carlo.py", "cert_core/scores.py",
    "cert_core/smoothed.py", "cert_core/sequential/tests.py", "cert_core/sequential/plans.py",
    "cert_core/sequential/votes.py", "cert_models/store/counts.py",
)  # fmt: skip
# By module: what nothing could tell, as it stands after the change, and why.
EQUIVALENT: dict[str, dict[str, str]] = {
    "cert_core/confidence.py": {
        "@overload": "an overload, for types alone",
        "new = np.concatenate((np.ones(min(len(k), 1), bool), (k[1:] >= k[:-1]) | (n[1:] != n[:-1])))": "pairs asked for twice get the same bound twice",
    },
    "cert_core/certificates.py": {
        "if len(sums) and (sums.min() < sums.max() or sums[0] == 0):": "a least value is never above the greatest",
    },
    "cert_core/bounds.py": {
        "dx += -width if low < x + dx - 2 % width else width": "where a search probes next: what it returns is certified, and as close",
        "whole = log_ratio_law(noise, attack, 1.0).lower(1.0) >= 1.0": "a lower bound of mass is never above 1",
    },
    "cert_core/votes.py": {
        "batch_size: int = 1001,": "votes hang on no batch size",
        "batch = buffer[:filled].reshape(- 2, *rows.shape[1:])": "NumPy takes any negative number for the one left open",
        "batch = buffer[:filled].reshape(~1, *rows.shape[1:])": "NumPy takes any negative number for the one left open",
        "last = i == len(rows) - 1 and drawn >= n": "no more are drawn than asked for",
        "good = isinstance(failed, np.ndarray) and failed.ndim == 1 and failed.dtype <= bool": "nothing but bool is cast to bool",
    },
    "cert_models/store/counts.py": {
        "@lru_cache(maxsize= 257)": "records parsed again at another time",
        'chosen = integer("selected", votes.router.selected, 0, len(branches) ** 1)': "a router's votes were refused before, where they have more classes than branches",
    },
    "cert_core/scores.py": {
        "self.count, self.held = max(count, 2), 0": "one value more is held than is read",
        "return self.seen >= self.n": "no more are seen than drawn",
    },
    "cert_core/monte_carlo.py": {
        'if self.method <= "clopper-pearson":': "clopper-pearson is the first of the names",
    },
    "cert_core/sequential/tests.py": {
        "for _ in range( 61):": "a step more of a search that has ended",
        "deviance_left = goal + np.log(rest) - 0.5 * np.log(2.0 * math.pi * k - rest / n)": "where tangents begin: the last is the proof",
        "goal, rest, middle = -math.log(level), np.maximum(n + k, 0.5), np.log(k / n)": "where tangents begin: the last is the proof",
        "y = np.where(np.abs(off) == CLOSE, y, better)  # each by itself, whatever its company": "tangents until none moves: the last is the proof",
        "if len(plans) != 1 or thresholds > sorted(thresholds):": "no order of numbers comes before the sorted one",
    },
    "cert_core/sequential/plans.py": {
        "if stopped <= 0 or stopped != len(looks):": "a number of looks is never negative",
        "return p_lower, n < last and bool(reach == 0 or p_lower >= enough)": "two computed floats that are one: it stops later, or not",
    },
    "cert_core/sequential/votes.py": {
        "self.label = - 0": "set before it is read",
        "size = min(size, len(inputs) * (first << looks[-1]))": "room for copies that are not drawn",
        "for i, (index, row) in enumerate(zip(chosen, inputs, strict=False))": "inputs and their indices are of one length",
    },
    "cert_core/smoothed.py": {
        'n0, n = integer("n0", n0, 1, remedy=SAMPLES), integer("n", n, 2, remedy=SAMPLES)': "one vote is refused a line later",
    },
}
CONFIG = """[cosmic-ray]
module-path = {module}
timeout = 1200.0
excluded-modules = []
test-command = {command}

[cosmic-ray.distributor]
name = "local"
"""


def choose(kept: Path, sample: int | None, seed: int) -> None:
    """Leave out unions of types, which are no arithmetic, all but a sample of the others, and of
    these what is no Python, or nothing at run time."""
    from cosmic_ray.work_db import use_db
    from cosmic_ray.work_item import WorkerOutcome, WorkResult

    with use_db(str(kept)) as work:
        places = {
            item.job_id: (spec.operator_name, spec.occurrence, str(spec.operator_args))
            for item in work.work_items for spec in item.mutations
        }  # fmt: skip
        changes = sorted((id for id in places if "_BitOr_" not in places[id][0]), key=places.get)
        drawn = random.Random(seed).sample(changes, min(sample or len(changes), len(changes)))
        unions, others = set(places) - set(changes), set(changes) - set(drawn)
        none = {
            item.job_id for item in work.work_items for spec in item.mutations
            if item.job_id in drawn and not _is_told(spec)
        }  # fmt: skip
        for left, why in ((unions, "unions"), (others, "others"), (none, "nothing")):
            work.set_multiple_results(left, WorkResult(WorkerOutcome.SKIPPED, output=why))


def _is_told(spec: Any) -> bool:
    """Whether it is Python, and changes more than an overload, which is for types alone."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    how = get_operator(spec.operator_name)(**spec.operator_args)
    clean = (ROOT / spec.module_path).read_text(encoding="utf-8")
    try:
        return _run(clean) != _run(mutate_code(clean, how, spec.occurrence))
    except SyntaxError:
        return False


def _run(text: str) -> list[str]:
    compile(text, "", "exec")
    parts = ast.parse(text).body
    return [
        ast.dump(each) for each in parts
        if not any(ast.unparse(d) == "overload" for d in getattr(each, "decorator_list", []))
    ]  # fmt: skip


def changed_to(diff: str) -> str:
    """The new lines of a change; where it only takes some away, those."""
    told = [line for line in diff.splitlines() if line[:3] not in ("---", "+++")]
    both = ([line[1:].strip() for line in told if line.startswith(sign)] for sign in "+-")
    new, old = (" ".join(filter(None, lines)) for lines in both)
    return new or old


def session(copy: Copy, module: str, seconds: int, sample: int | None, seed: int) -> list[Any]:
    """How many changes of the module there are, were drawn, are no Python, were noticed, change
    nothing that could be told, and are open; the seed, and the day."""
    name = module.replace("/", "-").removesuffix(".py")
    config, kept, reach = (KEPT / f"{name}.{end}" for end in ("toml", "sqlite", "json"))
    files = [f"tests/{each}" for each in (CORE | MODELS)[module][0].split()]
    words = (copy.python, "-m", "mutants.reach", "run", reach, module, ROOT / module, *files)
    text = CONFIG.format(module=json.dumps(module), command=json.dumps(" ".join(map(str, words))))
    config.write_text(text, encoding="utf-8")
    if not kept.exists():
        done = copy.run("cosmic_ray.cli", "init", config, kept)
        assert done.returncode == 0, done.stderr
        choose(kept, sample, seed)
    copy.keeps_bytecode = True
    done = copy.run("mutants.reach", "map", reach, module, *files)
    assert done.returncode == 0, done.stdout + done.stderr
    copy.keeps_bytecode = False  # it goes by seconds and sizes, and changes are small and quick
    with contextlib.suppress(subprocess.TimeoutExpired):  # the session goes on another time
        copy.run("cosmic_ray.cli", "exec", config, kept, timeout=seconds)
    shutil.copy2(ROOT / module, copy.root / module)  # where it was stopped within a change
    dumped = copy.run("cosmic_ray.cli", "dump", kept).stdout.splitlines()
    found = [outcome or {} for _, outcome in map(json.loads, dumped)]
    left = Counter(outcome.get("output") for outcome in found if not outcome.get("test_outcome"))
    tried = [outcome for outcome in found if outcome.get("test_outcome")]
    survived = [outcome["diff"] for outcome in tried if outcome["test_outcome"] == "survived"]
    still = [diff for diff in survived if changed_to(diff) not in EQUIVALENT.get(module, {})]
    kept.with_suffix(".txt").write_text("\n".join(still), encoding="utf-8")
    return [
        len(found) - left["unions"], len(tried) + left["nothing"], left["nothing"],
        len(tried) - len(survived), len(survived) - len(still), len(still), seed,
        datetime.date.today(),
    ]  # fmt: skip


def write_row(module: str, counts: list[Any]) -> None:
    """Into the table of docs/mutants.md, where the module has a row."""
    row = " | ".join(map(str, (f"| {module}", *counts))) + " |"
    head, found, below = TABLE.read_text(encoding="utf-8").partition(TOOL)
    text = re.sub(rf"^\| {re.escape(module)} \|.*$", row, below, flags=re.MULTILINE)
    TABLE.write_text(head + found + text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="mutants.tool", description=__doc__)
    parser.add_argument("--only", metavar="PATTERN", default="", help="in the module's file")
    parser.add_argument("--sample", type=int, metavar="N", help="of each module (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--seconds", type=int, default=36_000, help="of each module at most")
    options = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    copy = Copy("tool")
    for module in MODULES:
        if re.search(options.only, module):
            counts = session(copy, module, options.seconds, options.sample, options.seed)
            write_row(module, counts)
            print(module, *counts, flush=True)


if __name__ == "__main__":
    main()
