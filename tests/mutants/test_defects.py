"""The quoted source of each deliberate defect still exists exactly once. `make mutants` runs the defects."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.defects import DEFECTS, Defect
from tests.mutants.payout_defects import PAYOUT_DEFECTS

ALL = (*DEFECTS, *PAYOUT_DEFECTS)
ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("defect", ALL, ids=lambda defect: defect.name)
def test_a_defect_stands_where_it_says(defect: Defect) -> None:
    assert (ROOT / defect.path).read_text("utf-8").count(defect.old) == 1
    assert all((ROOT / test.partition("::")[0]).exists() for test in defect.mapped)


def test_there_are_forty_and_no_two_are_the_same() -> None:
    assert len({(defect.path, defect.old, defect.new) for defect in ALL}) == len(ALL) >= 40
