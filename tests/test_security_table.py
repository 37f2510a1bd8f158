"""Check docs/security.md and docs/security-tests.md: every control is there, and so are its files and tests."""

from __future__ import annotations

import re

import pytest

from tests.support.pages import DOCS, ROOT, missing_tests, named_tests, sections_of

CONTROL_SECTIONS = sections_of((DOCS / "security.md").read_text("utf-8"), 2)
TEST_SECTIONS = sections_of((DOCS / "security-tests.md").read_text("utf-8"), 2)
NOT_COVERED = re.compile(r"\*\*Not covered\.\*\*\s+\S")
CONTROLS = [
    "Authentication on every route",
    "Signed requests",
    "Object and function authorisation",
    "What a URL names",
    "One key, one request",
    "Unknown fields",
    "Two persons above a threshold",
    "Actors cannot be chosen",
    "Splitting",
    "Velocity limits",
    "Original method only",
    "Kill switch",
    "Processor webhook",
    "Processor data untrusted",
    "JSON only on the broker",
    "Redis",
    "The broker's certificate",
    "Least rights in Postgres",
    "Hash chain with an anchor outside",
    "Secrets",
    "No card data",
    "Destinations of payees",
    "Passwords and addresses",
    "Console",
    "Outgoing webhooks",
    "Limits on body, depth, rows",
    "Clients that hold connections, guess passwords",
    "Money parsing",
    "Fail closed",
    "Errors",
    "Test and live kept apart",
    "Dangerous settings in production",
    "Metrics",
    "Containers",
]


def test_every_control_has_exactly_one_section_and_one_list_of_tests() -> None:
    assert [*CONTROL_SECTIONS] == CONTROLS
    assert [*TEST_SECTIONS] == CONTROLS


@pytest.mark.parametrize("control", CONTROLS)
def test_control_names_existing_files_and_tests_or_says_it_has_none(control: str) -> None:
    text, tests = CONTROL_SECTIONS[control], TEST_SECTIONS[control]
    files = re.findall(r"`(src/[^`]+)`", text)
    assert files
    assert [file for file in files if not (ROOT / file).exists()] == []
    assert missing_tests(tests) == []
    assert named_tests(tests) or NOT_COVERED.search(text), "neither a test nor a reason why there is none"
