"""The reliability page tells the truth: every fault and promise has its row, and what a row names is there."""

from __future__ import annotations

import re

import pytest

from tests.simulation.faults import FAULTS
from tests.support.pages import ROOT, missing_tests, named_tests, tables_of

PAGE = ROOT / "docs" / "reliability.md"
COMMANDS, FAULT_ROWS, PROMISES = tables_of(PAGE)
NUMBERS = (*range(1, 75), 82, 87)
NAMES = [*(f"I{n}" for n in range(1, 16)), *(f"L{n}" for n in range(1, 12))]
SIMULATION = "\n".join(file.read_text("utf-8") for file in sorted((ROOT / "tests" / "simulation").glob("*.py")))


def number(row: list[str]) -> int:
    return int(row[0].removesuffix(" (R)"))


def test_every_fault_and_every_promise_has_exactly_one_row() -> None:
    assert [number(row) for row in FAULT_ROWS] == list(NUMBERS)
    assert [row[0] for row in PROMISES] == NAMES


@pytest.mark.parametrize("row", FAULT_ROWS, ids=lambda row: row[0])
def test_a_faults_tests_are_there_and_its_kinds_in_the_simulation_are_those_of_its_row(row: list[str]) -> None:
    _, fault, expected, how, kinds, tests = row
    assert fault
    assert expected
    assert how, "not a word on how it is done"
    assert missing_tests(tests) == []
    assert re.findall(r"`([^`]+)`", kinds) == [name for name, kind in FAULTS.items() if number(row) in kind.rows]
    assert named_tests(tests), "no test is named for it"


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: row[0])
def test_a_promises_tests_are_there_and_the_simulation_breaks_off_by_its_name(row: list[str]) -> None:
    name, promise, simulated, tests = row
    assert promise
    assert missing_tests(tests) == []
    assert named_tests(tests), "no test is named for it"
    assert simulated in ("", "simulation")
    if simulated:
        assert re.search(rf'(Violation\(|problem = )f?"{name} ', SIMULATION), "the simulation does not check it"


def test_every_command_that_proves_something_is_a_target_and_the_page_is_linked() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = [re.match(r"`make (\w+)", row[0]) for row in COMMANDS]
    assert [found for found in targets if found is None or f"\n{found[1]}:" not in makefile] == []
    assert "docs/reliability.md" in (ROOT / "README.md").read_text("utf-8")
