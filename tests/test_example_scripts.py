"""The scripts of examples/ run, and what they certify is not nothing."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
QUICK = {
    "sklearn_table": (10, 500),
    "torch_images": (4, 300, 60),
    "onnx_model": (10, 500),
    "jax_model": (10, 500),
    "dict_model": (10, 500),
}


@pytest.mark.parametrize("name", QUICK)
def test_example(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "jax_model":
        pytest.importorskip("jax")
    main = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]
    assert main(*QUICK[name]) >= 0.6
    assert "certified" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
