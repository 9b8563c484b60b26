"""Every small change that cosmic-ray knows, in the modules on which a certificate's level hangs.

    PYTHONPATH=tests python -m mutants.tool [--only PATTERN] [--sample N] [--seed S] [--seconds T]

Each module has a session in build/mutants, run against the tests that slips.py calls nearest to it;
a session that was stopped goes on, with the sample it was begun with.  The counts go into
docs/mutants.md, the changes that survive into the session's .txt.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from mutants.__main__ import KEPT, ROOT, Copy, tool_results, write_table
from mutants.slips import CORE, MODELS

MODULES = (
    "cert_core/confidence.py", "cert_core/tails.py", "cert_core/certificates.py",
    "cert_core/bounds.py", "cert_core/monte_carlo.py", "cert_core/scores.py",
    "cert_core/sequential/tests.py", "cert_core/sequential/plans.py",
    "cert_core/sequential/votes.py", "cert_models/store/counts.py",
)  # fmt: skip
CONFIG = """[cosmic-ray]
module-path = {module}
timeout = 1200.0
excluded-modules = []
test-command = {command}

[cosmic-ray.distributor]
name = "local"
"""


def choose(kept: Path, sample: int | None, seed: int) -> None:
    """Leave out unions of types, which are no arithmetic, and all but a sample of the others."""
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
        for left, why in ((unions, "unions"), (others, "others")):
            work.set_multiple_results(left, WorkResult(WorkerOutcome.SKIPPED, output=why))


def session(copy: Copy, module: str, seconds: int, sample: int | None, seed: int) -> dict[str, Any]:
    """How many changes of the module there are, were tried, and were noticed."""
    name = module.replace("/", "-").removesuffix(".py")
    config, kept = KEPT / f"{name}.toml", KEPT / f"{name}.sqlite"
    files = [f"tests/{each}" for each in (CORE | MODELS)[module][0].split()]
    command = f"{copy.python} -m pytest -x -q -m 'not slow' -p no:cacheprovider {' '.join(files)}"
    text = CONFIG.format(module=json.dumps(module), command=json.dumps(command))
    config.write_text(text, encoding="utf-8")
    if not kept.exists():
        done = copy.run("cosmic_ray.cli", "init", config, kept)
        assert done.returncode == 0, done.stderr
        choose(kept, sample, seed)
    copy.keeps_bytecode = True
    assert not copy.failure(files)
    copy.keeps_bytecode = False  # it goes by seconds and sizes, and changes are small and quick
    with contextlib.suppress(subprocess.TimeoutExpired):  # the session goes on another time
        copy.run("cosmic_ray.cli", "exec", config, kept, timeout=seconds)
    shutil.copy2(ROOT / module, copy.root / module)  # where it was stopped within a change
    dumped = copy.run("cosmic_ray.cli", "dump", kept).stdout.splitlines()
    found = [outcome or {} for _, outcome in map(json.loads, dumped)]
    tried = [outcome for outcome in found if outcome.get("test_outcome")]
    survived = [outcome["diff"] for outcome in tried if outcome["test_outcome"] == "survived"]
    kept.with_suffix(".txt").write_text("\n".join(survived), encoding="utf-8")
    return {
        "changes": sum(outcome.get("output") != "unions" for outcome in found),
        "tried": len(tried), "noticed": len(tried) - len(survived),
        "when": str(datetime.date.today()),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="mutants.tool", description=__doc__)
    parser.add_argument("--only", metavar="PATTERN", default="", help="in the module's file")
    parser.add_argument("--sample", type=int, metavar="N", help="of each module (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--seconds", type=int, default=36_000, help="of each module at most")
    options = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    copy, kept = Copy("tool"), tool_results()
    for module in MODULES:
        if re.search(options.only, module):
            kept[module] = session(copy, module, options.seconds, options.sample, options.seed)
            (KEPT / "tool.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
            print(module, kept[module], flush=True)
    write_table()


if __name__ == "__main__":
    main()
