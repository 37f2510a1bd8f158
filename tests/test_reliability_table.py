"""Check docs/reliability.md and docs/reliability-tests.md: every fault and promise is there, and so are their tests."""

from __future__ import annotations

import re

import pytest

from tests.simulation.faults import FAULTS
from tests.support.pages import DOCS, ROOT, missing_tests, named_tests, sections_of, tables_of

PAGE = sections_of((DOCS / "reliability.md").read_text("utf-8"), 2)
LISTS = sections_of((DOCS / "reliability-tests.md").read_text("utf-8"), 2)
COMMANDS = tables_of(PAGE["The proof"])[0]
FAULT_ROWS = [row for table in tables_of(PAGE["Faults"]) for row in table]
(PROMISES,) = tables_of(PAGE["Promises"])
FAULT_TESTS, PROMISE_TESTS = sections_of(LISTS["Faults"], 3), sections_of(LISTS["Promises"], 3)
NUMBERS = [*range(1, 83), *range(87, 108)]
NAMES = [*(f"I{n}" for n in range(1, 17)), "I18", "I19", *(f"L{n}" for n in range(1, 12))]
SIMULATION = "\n".join(file.read_text("utf-8") for file in sorted((ROOT / "tests" / "simulation").rglob("*.py")))


def number(row: list[str]) -> int:
    return int(row[0].removesuffix(" (R)"))


def test_each_fault_and_promise_has_one_row_and_one_list_of_tests() -> None:
    assert [number(row) for row in FAULT_ROWS] == NUMBERS
    assert [*FAULT_TESTS] == [str(n) for n in NUMBERS]
    assert [row[0] for row in PROMISES] == NAMES
    assert [*PROMISE_TESTS] == NAMES


@pytest.mark.parametrize("row", FAULT_ROWS, ids=lambda row: row[0])
def test_tests_and_simulated_kinds_of_a_fault_match_its_row(row: list[str]) -> None:
    _, fault, expected, how = row
    assert fault
    assert expected
    assert how, "the row does not say how the tests cause the fault"
    listed = FAULT_TESTS[str(number(row))]
    assert missing_tests(listed) == []
    kinds = listed.partition("- ")[0]
    assert re.findall(r"`([^`]+)`", kinds) == [name for name, kind in FAULTS.items() if number(row) in kind.rows]
    assert named_tests(listed), "no test is named for it"


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: row[0])
def test_tests_of_a_promise_exist_and_the_simulation_names_it(row: list[str]) -> None:
    name, promise, simulated = row
    assert promise
    assert missing_tests(PROMISE_TESTS[name]) == []
    assert named_tests(PROMISE_TESTS[name]), "no test is named for it"
    assert simulated in ("yes", "no")
    checked = re.search(rf'(Violation\(|problem = )f?"{name} ', SIMULATION) is not None
    assert checked is (simulated == "yes"), f"the simulation checks it: {checked}"


def test_every_command_of_the_proof_is_a_make_target() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = [re.match(r"`make (\w+)", row[0]) for row in COMMANDS]
    assert targets
    assert [found for found in targets if found is None or f"\n{found[1]}:" not in makefile] == []
    assert "docs/reliability.md" in (ROOT / "README.md").read_text("utf-8")
