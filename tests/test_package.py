"""What is published: a source archive that has its tests, and a wheel that works away from the
tree, in an environment that has nothing else of ours."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from cert_models.cli import main

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SHIPPED = {".py", ".pyi", ".typed", ".h", ".cu", ".cuh"}
MODEL = """
import numpy as np

def predict(batch):
    return (batch.mean(axis=1) > 0.5).astype(int)

np.savez("test.npz", x=np.full((3, 4), 0.9, np.float32), y=np.ones(3, int))
"""


def told(*command: str | Path, cwd: Path) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=clean, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr[-3000:]
    return done.stdout


def test_the_name_is_said() -> None:
    """By the archive's record, and nowhere the name of another project's distribution."""
    extras = PROJECT["optional-dependencies"]
    said = [line for lines in extras.values() for line in lines if line.startswith(PROJECT["name"])]
    assert len(said) >= 4
    for line in said:
        assert set(line.partition("[")[2].strip("]").split(",")) <= set(extras)
    assert not any(line.startswith("torch") for line in extras["plots"])


BARE = """
import sys, numpy as np
class Missing:
    def find_spec(self, name, *_):
        if name in {"torch", "sklearn", "matplotlib", "PIL", "filelock", "platformdirs", "shtab"}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
from cert_models.cli import main
x = np.eye(6, dtype=np.float32)
np.savez("test.npz", x=x, y=np.arange(6) % 2)
open("mymodule.py", "w").write("def predict(x): return (x[:, 0] > 0.5).astype(int)")
line = "--data test.npz --model mymodule:predict --noise gaussian --sigma 0.1 --attack l2 --n 100"
assert main(["certify", *line.split(), "--store", "runs.db"]) == 0
assert main(["report", "runs.db"]) == 0
assert main(["--completion", "bash"]) == main(["report", "runs.db", "--html", "a.html"]) == 2
assert main(["certify", "--data", "digits", *line.split()[2:]]) == 2
"""


def test_the_command_runs_on_the_core_alone(tmp_path: Path) -> None:
    """Without any extra; what needs one is told which."""
    done = subprocess.run(
        [sys.executable, "-c", BARE], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    told = done.stderr.splitlines()[-3:]
    named = (
        "smoothing-certificates[completion]'",
        "smoothing-certificates[plots]'",
        "scikit-learn",
    )
    assert all(line.endswith(end) for line, end in zip(told, named, strict=True)), told


@pytest.mark.slow
def test_archives(tmp_path: Path) -> None:
    build = "import sys; from scikit_build_core.build import {0}; print({0}(sys.argv[1]))"
    archive = told(sys.executable, "-c", build.format("build_sdist"), tmp_path, cwd=ROOT).split()[
        -1
    ]
    with tarfile.open(tmp_path / archive) as packed:
        packed.extractall(tmp_path, filter="data")
    tree = tmp_path / archive.removesuffix(".tar.gz")
    for name in ("tests/oracle.json", "docs/conf.py", "bench/conftest.py", "README.md", "LICENSE"):
        assert (tree / name).is_file(), name
    assert not list(tree.rglob("*.so"))

    made = told(sys.executable, "-c", build.format("build_wheel"), tmp_path, cwd=tree).split()[-1]
    with zipfile.ZipFile(tmp_path / made) as packed:
        inside = set(packed.namelist())
    ours = [path for part in ("cert_core", "cert_models") for path in (ROOT / part).rglob("*")]
    needed = {str(path.relative_to(ROOT)) for path in ours if path.suffix in SHIPPED}
    assert len(needed) > 100
    assert needed <= inside
    assert sum(name.endswith(".so") for name in inside) == 3
    assert not [name for name in inside if name.startswith(("tests/", "docs/", "bench/"))]

    venv.create(tmp_path / "clean", with_pip=False)
    python = tmp_path / "clean" / "bin" / "python"
    install = ["install", "-q", "--no-deps", "--no-index", tmp_path / made]
    told(sys.executable, "-m", "pip", "--python", python, *install, cwd=tmp_path)
    (packages,) = (tmp_path / "clean").glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith("-packages")]  # read as paths alone
    (packages / "others.pth").write_text("\n".join(others), encoding="utf-8")

    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "mymodule.py").write_text(MODEL, encoding="utf-8")
    told(python, "mymodule.py", cwd=empty)
    where = told(python, "-c", "import cert_core; print(cert_core.__file__)", cwd=empty)
    assert Path(where.strip()).is_relative_to(packages)
    numbers = shlex.split("radius --noise l2 --dim 64 --sigma 1 --k 8 --attack l2 --p 0.9")
    command = tmp_path / "clean" / "bin" / "cert"
    assert told(command, *numbers, cwd=empty) == told(
        python, "-m", "cert_models", *numbers, cwd=empty
    )
    run = (
        "certify --data test.npz --model mymodule:predict --noise gaussian --sigma 0.25 "
        "--attack l2 --n 500 --out log.tsv --quiet --json"
    )
    told(command, *run.split(), cwd=empty)
    told(command, "report", "log.tsv", "--picture", "a.svg", "--html", "a.html", cwd=empty)
    version = "from importlib.metadata import metadata as m; import json;"
    record = told(
        python, "-c", f"{version} print(json.dumps(m('{PROJECT['name']}').json))", cwd=empty
    )
    assert json.loads(record)["requires_python"] == PROJECT["requires-python"]


LOG = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t3\t3\t0.478\t1\t0:00:17\n"


def test_pictures_need_no_torch(tmp_path: Path) -> None:
    (tmp_path / "log.tsv").write_text(LOG, encoding="utf-8")
    program = (
        "import sys; sys.modules['torch'] = None; from cert_models.cli import main; "
        "sys.exit(main(['report', 'log.tsv', '--picture', 'a.svg', '--html', 'a.html']))"
    )
    told(sys.executable, "-c", program, cwd=tmp_path)
    assert (tmp_path / "a.svg").stat().st_size > 10_000


def test_what_is_missing_is_said_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("log.tsv").write_text(LOG, encoding="utf-8")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", "log.tsv", "--picture", "a.svg"]) == 2
    assert f"pip install '{PROJECT['name']}[plots]'" in capsys.readouterr().err
