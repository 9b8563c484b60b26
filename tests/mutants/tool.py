"""Every small change that cosmic-ray knows, in the modules on which a certificate's level hangs.

    PYTHONPATH=tests python -m mutants.tool [--only PATTERN] [--seconds N]

Each module has a session in build/mutants, run against the tests that slips.py calls nearest to it;
a session that was stopped goes on.  The counts go into docs/mutants.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import re
import subprocess
from typing import Any

from mutants.__main__ import KEPT, Copy, tool_results, write_table
from mutants.slips import CORE, MODELS

MODULES = (
    "cert_core/confidence.py", "cert_core/tails.py", "cert_core/certificates.py",
    "cert_core/bounds.py", "cert_core/monte_carlo.py", "cert_core/scores.py",
    "cert_core/sequential/tests.py", "cert_core/sequential/plans.py",
    "cert_core/sequential/votes.py", "cert_models/store/counts.py",
)  # fmt: skip
CONFIG = """[cosmic-ray]
module-path = {module}
timeout = 300.0
excluded-modules = []
test-command = {command}

[cosmic-ray.distributor]
name = "local"
"""


def session(copy: Copy, module: str, seconds: int) -> dict[str, Any]:
    """How many changes of the module there are, were tried, and were noticed."""
    name = module.replace("/", "-").removesuffix(".py")
    config, kept = KEPT / f"{name}.toml", KEPT / f"{name}.sqlite"
    files = " ".join(f"tests/{each}" for each in (CORE | MODELS)[module][0].split())
    command = f"{copy.python} -m pytest -x -q -m 'not slow' -p no:cacheprovider {files}"
    text = CONFIG.format(module=json.dumps(module), command=json.dumps(command))
    config.write_text(text, encoding="utf-8")
    if not kept.exists():
        done = copy.run("cosmic_ray.cli", "init", config, kept)
        assert done.returncode == 0, done.stderr
    with contextlib.suppress(subprocess.TimeoutExpired):  # the session goes on another time
        copy.run("cosmic_ray.cli", "exec", config, kept, timeout=seconds)
    dumped = copy.run("cosmic_ray.cli", "dump", kept).stdout.splitlines()
    found = [outcome for _, outcome in map(json.loads, dumped)]
    tried = [outcome for outcome in found if outcome is not None]
    noticed = sum(outcome["test_outcome"] != "survived" for outcome in tried)
    when = str(datetime.date.today())
    return {"changes": len(found), "tried": len(tried), "noticed": noticed, "when": when}


def main() -> None:
    parser = argparse.ArgumentParser(prog="mutants.tool", description=__doc__)
    parser.add_argument("--only", metavar="PATTERN", default="", help="in the module's file")
    parser.add_argument("--seconds", type=int, default=36_000, help="of each module at most")
    options = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    copy, kept = Copy("tool"), tool_results()
    for module in MODULES:
        if re.search(options.only, module):
            kept[module] = session(copy, module, options.seconds)
            (KEPT / "tool.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
            print(module, kept[module], flush=True)
    write_table()


if __name__ == "__main__":
    main()
