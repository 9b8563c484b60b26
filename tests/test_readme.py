"""README and docs are always true: every example and command in them runs here, and what they
name exists."""

from __future__ import annotations

import json
import pkgutil
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from models.layouts import write_cifar10

import cert_core as cc
from cert_models.cli import main
from cert_models.commands.demo import entries

ROOT = Path(__file__).parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
TEXT = "\n".join(PAGES.values())
FENCED = re.compile(r"^```(\S*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def blocks(*pages: str) -> list[tuple[str, str]]:
    """(language, text) of what is fenced, in order."""
    return [found for page in pages or PAGES for found in FENCED.findall(PAGES[page])]


PYTHON = [
    pytest.param(code, id=f"{page}-{i}")
    for page in PAGES
    for i, (language, code) in enumerate(blocks(page))
    if language == "python"
]
CODES = [code for language, code in blocks() if language == "python"]
COMMANDS = [
    line for language, code in blocks() if language == "sh" for line in code.strip().splitlines()
]


def test_there_is_something_to_run() -> None:
    assert len(PYTHON) >= 15
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("code", PYTHON)
def test_python(
    code: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if 'backend="gpu"' in code:
        try:
            cc.draw(cc.Gaussian(1, 1.0), 0, 0, backend="gpu")
        except cc.errors.BackendMissing as error:
            pytest.skip(str(error))
    if "digits.onnx" in code:
        write_onnx(tmp_path / "digits.onnx")
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    if "print(" in code:
        assert capsys.readouterr().out
    if "cc.certified_accuracy(" in code:
        assert cc.certified_accuracy(names["certificates"], names["labels"], 0.05) >= 0.7


FRAMEWORKS = ("sklearn.linear_model", "onnxruntime", "jax")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_framework_takes_ten_lines(framework: str) -> None:
    (code,) = [
        code
        for _, code in blocks("docs/guides/frameworks.md")
        if f"import {framework}" in code or f"from {framework}" in code
    ]
    lines = [line for line in code.splitlines() if line and "import" not in line.split()]
    assert len(lines) <= 10


def write_onnx(path: Path) -> None:
    """A linear classifier of the digits as an ONNX file: batch -> scores."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    x, y = load_digits(return_X_y=True)
    model = LogisticRegression(max_iter=2000).fit(x[:1000] / 16, y[:1000])
    weights = model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["batch", "w", "b"], ["scores"])],
        "digits",
        [helper.make_tensor_value_info("batch", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(w, name) for w, name in zip(weights, "wb", strict=True)],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.startswith("cert ")
    assert main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out


def test_output_shown_is_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    shown = re.findall(r"```sh\n(cert [^\n]*)\n```\n\n```\n(.*?)```", TEXT, flags=re.DOTALL)
    assert shown
    for command, output in shown:
        main(shlex.split(command)[1:])
        assert capsys.readouterr().out == output


def test_the_long_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cert certify` as printed, with a data set and a model of those names and a smaller n."""
    import numpy as np

    pages = "README.md", "docs/guides/frameworks.md"
    codes = [code for _, code in blocks(*pages) if code.startswith("cert certify")]
    assert len({" ".join(code.replace("\\\n", " ").split()) for code in codes}) == 1
    code = codes[0]
    np.savez(tmp_path / "test.npz", x=np.zeros((2, 4), np.float32), y=np.array([0, 1]))
    (tmp_path / "mymodule.py").write_text(
        "import torch\nnetwork = torch.nn.Linear(4, 2).eval()\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    words = shlex.split(code.replace("\\\n", " "))[1:]
    words[words.index("100000")] = "500"
    assert main([*words, "--quiet"]) == 0
    assert len((tmp_path / "log.tsv").read_text(encoding="utf-8").splitlines()) == 3


def test_shells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command as printed, with a smaller n."""
    import numpy as np

    ((_, code),) = blocks("docs/guides/shells.md")
    np.savez(tmp_path / "test.npz", x=np.ones((2, 784), np.float32), y=np.array([0, 1]))
    (tmp_path / "mymodule.py").write_text(
        "def network(batch):\n    return (batch.sum(axis=1) > 0).astype(int)\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    assert main([*shlex.split(code.replace("100000", "500"))[1:], "--quiet"]) == 0
    assert "alpha 0.001" in capsys.readouterr().out


def test_routing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file and the commands as printed, with smaller n; the output is what the example says."""
    import numpy as np

    fenced = blocks("docs/guides/routing.md")
    (route,) = [code for language, code in fenced if language == "toml"]
    x = np.linspace(0.2, 0.8, 6, dtype=np.float32)[:, None] * np.ones(4, np.float32)
    np.savez(tmp_path / "test.npz", x=x, y=np.array([0, 0, 0, 1, 1, 1]))
    (tmp_path / "mymodule.py").write_text(
        "def network(batch):\n    return (batch.sum(axis=1) > 2).astype(int)\nstrong = network\n",
        encoding="utf-8",
    )
    (tmp_path / "route.toml").write_text(route.replace("20000", "400"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    code = next(code for _, code in fenced if code.startswith("cert certify"))
    for line in code.replace("100000", "500").strip().splitlines():
        assert main(shlex.split(line)[1:]) == 0
    assert "routed to Gaussian(dim=4, sigma=0.25) | Gaussian(dim=4" in capsys.readouterr().out
    exec(next(code for _, code in fenced if "cc.Routed(" in code), {})
    printed = capsys.readouterr().out
    assert printed.count("within") == 9
    assert ("", printed) in fenced


def test_a_noise_for_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The two commands as printed, with smaller numbers; the table is what the example prints."""
    import numpy as np

    x = np.random.default_rng(0).uniform(size=(30, 4)).astype(np.float32)
    np.savez(tmp_path / "test.npz", x=x, y=(x.sum(axis=1) > 2).astype(int))
    (tmp_path / "mymodule.py").write_text(
        "def network(batch):\n    return (batch.sum(axis=1) > 2).astype(int)\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    lines = [code for language, code in blocks("docs/guides/tuning.md") if not language]
    small = [["--n", "300", "--budget", "30000"],
             ["--n", "100", "--max", "12", "--budget", "5000", "--epochs", "1"]]  # fmt: skip
    for line, more in zip(lines, small, strict=True):
        assert main([*shlex.split(line)[1:], *more, "--quiet"]) == 0
        assert "certified afresh on" in capsys.readouterr().out
    for name in ("tuned.tsv", "frontier.png", "digits.db.models/l2-k=32-rms=0.4.pth"):
        assert Path(name).stat().st_size > 0
    exec(next(code for code in CODES if "cc.tuning.tune" in code), {})
    printed = capsys.readouterr().out
    assert printed.count("|") == 12
    assert printed in TEXT


def test_certifying_for_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store, the workers and the published log as printed, with a smaller n."""
    import numpy as np

    x = np.random.default_rng(0).uniform(size=(6, 4)).astype(np.float32)
    np.savez(tmp_path / "test.npz", x=x, y=np.array([0, 1, 0, 1, 0, 1]))
    (tmp_path / "mymodule.py").write_text(
        "def network(batch):\n    return (batch.sum(axis=1) > 2).astype(int)\n", encoding="utf-8"
    )
    log = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t3\t3\t0.478\t1\t0:00:17.268386\n"
    (tmp_path / "published.tsv").write_text(log, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    codes = [code for _, code in blocks("docs/guides/long-runs.md")]
    lines = [line.replace("100000", "500") for code in codes for line in code.splitlines()]
    for line in lines:
        name, *words = shlex.split(line)
        assert name == "cert"
        assert main(words) == 0
        capsys.readouterr()
    assert Path("again.tsv").read_text(encoding="utf-8") == log
    assert main(["merge", "--store", "runs.db", "shared.db", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["new"] == 0  # the same counts


@pytest.fixture
def six_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data and the model that the pages name, in a folder of one's own."""
    import numpy as np

    x = np.random.default_rng(0).uniform(size=(6, 4)).astype(np.float32)
    np.savez(tmp_path / "test.npz", x=x, y=np.array([0, 1, 0, 1, 0, 1]))
    (tmp_path / "mymodule.py").write_text(
        "def network(batch):\n    return (batch.sum(axis=1) > 2).astype(int)\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("six_inputs")
def test_audited_by_a_stranger(capsys: pytest.CaptureFixture[str]) -> None:
    """The command as printed, on a store that `cert certify` made; the number it gives."""
    from cert_models.audit import wrong_at_most

    made = blocks("docs/guides/long-runs.md")[0][1].splitlines()[0]
    audit = blocks("docs/guides/audit.md")[0][1]
    for line in (made.replace("100000", "500"), audit):
        assert main([*shlex.split(line)[1:], "--quiet"]) == 0
    assert "with confidence 0.95 at most 5 of 6 inputs" in capsys.readouterr().out
    assert wrong_at_most(50_000, 500, 0, 0.95) == 297
    assert "500 inputs\nof 50,000, all equal, leave at most 297 wrong ones (0.6 %)" in TEXT


@pytest.mark.usefixtures("six_inputs")
def test_files_of_options(capsys: pytest.CaptureFixture[str]) -> None:
    """The commands as printed, with a smaller n."""
    code = blocks("docs/guides/command.md")[1][1].replace("10000", "500")
    for line in code.strip().splitlines():
        assert main(shlex.split(line)[1:]) == 0
    told = capsys.readouterr().out
    assert "Gaussian(dim=4, sigma=0.25)" in told
    assert "Gaussian(dim=4, sigma=0.5)" in told


@pytest.mark.usefixtures("six_inputs")
def test_fewer_samples(capsys: pytest.CaptureFixture[str]) -> None:
    """The two commands as printed, with a smaller n; the table is what the example prints."""
    code = next(code for _, code in blocks("docs/guides/samples.md") if "--at" in code).replace(
        "100000", "1000"
    )
    for line in code.strip().splitlines():
        assert main([*shlex.split(line)[1:], "--quiet"]) == 0
    assert "samples an input on average" in capsys.readouterr().out
    exec(next(code for code in CODES if "cc.sequential.plan_until" in code), {})
    printed = capsys.readouterr().out
    assert printed.count("|") == 35
    assert printed in TEXT


def test_more_than_one_label(capsys: pytest.CaptureFixture[str]) -> None:
    """The table of intervals is what the example prints."""
    exec(next(code for code in CODES if "cc.percentile_bounds" in code), {})
    printed = capsys.readouterr().out
    assert printed.count("|") == 25
    assert printed in TEXT


@pytest.mark.filterwarnings("ignore:inputs of")
def test_tasks_of_many_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The two commands as printed, with a smaller n."""
    import numpy as np

    rng = np.random.default_rng(0)
    np.savez(tmp_path / "table.npz", x=rng.normal(size=(5, 3)) * [1, 9, 99], y=rng.normal(size=5))
    np.savez(tmp_path / "scenes.npz", x=rng.uniform(size=(2, 1, 6, 5)), y=np.ones((2, 6, 5), int))
    (tmp_path / "mymodule.py").write_text(
        "import torch\ndef price(batch):\n    return batch.sum(axis=1)\n"
        "network = torch.nn.Conv2d(1, 2, 1).eval()\n", encoding="utf-8",
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code = next(code for _, code in blocks("docs/guides/labels.md") if "--task" in code)
    for line in code.replace("--n 10000", "--n 1000").strip().splitlines():
        assert main([*shlex.split(line)[1:], "--quiet"]) == 0
        assert "with probability 0.999" in capsys.readouterr().out
    for name in ("price.tsv", "price.png", "scenes.tsv", "scenes.png"):
        assert Path(name).stat().st_size > 0


def test_train_certify_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The three commands as printed, on a small CIFAR-10 and with a smaller network."""
    import numpy as np
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # faster where other processes keep the cores busy
    code = next(code for _, code in blocks() if code.startswith("cert train"))
    rng = np.random.default_rng(0)
    y = np.arange(40) % 10
    x = rng.integers(40, 216, size=(10, 3, 1, 1))[y] + rng.integers(-30, 30, size=(40, 3, 32, 32))
    write_cifar10(tmp_path / "DIR", x.astype(np.uint8), y)
    monkeypatch.chdir(tmp_path)
    code = code.replace("cifar_resnet110", "cifar_resnet20").replace("100000", "20")
    for line in code.strip().splitlines():
        words = shlex.split(line)[1:]
        small = {"train": ["--epochs", "1", "--batch-size", "20", "--quiet"], "report": []}
        assert main([*words, *small.get(words[0], ["--quiet"])]) == 0
        assert capsys.readouterr().out
    torch.set_num_threads(threads)
    for name in ("curves.pdf", "report.html", "log.tsv", "net.pth.tar"):
        assert Path(name).stat().st_size > 0


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\S+)|`make\s(\S+?)`", TEXT, flags=re.MULTILINE)
    assert {"demo", "test", "bench", "docs"} <= {a or b for a, b in targets}
    for target in targets:
        assert f"\n{target[0] or target[1]}:" in makefile


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = [
    path for folder in ("cert_core", "cert_models") for path in (ROOT / folder).rglob("*.py")
]


def test_extras_exist() -> None:
    """Of the folder in the pages, of the distribution in what the code says."""
    said = re.findall(r"pip install [\"'](.*?)\[(.*?)\]", TEXT)
    said += [
        found
        for path in SOURCES
        for found in re.findall(r"pip install '(.*?)\[(\w*?)\]", path.read_text(encoding="utf-8"))
    ]
    assert len(said) > 5
    for name, extras in said:
        assert name in (".", PROJECT["name"])
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_the_picture_s_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As printed, on logs with the names that the demo gives."""
    command = re.search(r"`cert (report demo/.*?)`", PAGES["README.md"])
    assert command
    words = command[1].split()
    names = [word for word in words if word.endswith(".tsv")]
    assert {f"demo/{attack}-{noise.name}.tsv" for attack, _, noise in entries()} >= set(names)
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    Path("docs").mkdir()
    for name in names:
        text = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t3\t3\t0.478\t1\t0:00:17\n"
        Path(name).write_text(text, encoding="utf-8")
    assert main(words) == 0
    picture = Path(words[-1])
    assert picture.stat().st_size > 10_000
    assert (ROOT / picture).stat().st_size < 60_000


def test_readme_is_read_to_the_end() -> None:
    assert PAGES["README.md"].count("\n") <= 150


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = FENCED.sub("", (ROOT / page).read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith("https://"):
            assert (ROOT / page).parent.joinpath(target.partition("#")[0]).exists(), target


def test_functions_and_tests_named_exist() -> None:
    statements = PAGES["docs/theory/statements.md"]
    rows = [line for line in statements.splitlines() if re.match(r"\| (?!statement|---)", line)]
    assert len(rows) >= 25
    for row in rows:
        assert re.search(r"`(cert_\w+)\.", row), row
        assert "`tests/" in row, row
    for path, name in re.findall(r"`(tests/\S+\.py)::(\w+)", TEXT):
        assert f"\ndef {name}(" in (ROOT / path).read_text(encoding="utf-8"), (path, name)
    for dotted in re.findall(r"`(cert_(?:core|models)\.[\w.]+)`", TEXT):
        pkgutil.resolve_name(dotted)
    for path in re.findall(r"`((?:tests|cert_core|cert_models|bench)/[\w/]+\.\w+)`", TEXT):
        assert (ROOT / path).exists(), path
