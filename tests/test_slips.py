"""The table of slips moves with the code: each old text stands once in its file."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutants.slips import Slip, slips

ROOT = Path(__file__).parents[1]


def test_slips_are_many_and_everywhere() -> None:
    listed = list(slips())
    assert len({(slip.file, slip.old, slip.new) for slip in listed}) == len(listed) >= 120
    packages = {slip.file.rpartition("/")[0] for slip in listed}
    assert {"cert_core/laws", "cert_core/native", "cert_models/reports"} <= packages


@pytest.mark.parametrize("slip", list(slips()), ids=str)
def test_the_text_of_a_slip_stands_once_in_its_file(slip: Slip) -> None:
    assert (ROOT / slip.file).read_text(encoding="utf-8").count(slip.old) == 1
    assert slip.new != slip.old
    assert all((ROOT / "tests" / name).is_file() for name in slip.nearest)
