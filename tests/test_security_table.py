"""The security page tells the truth: every control has its row, every file and test it names is there."""

from __future__ import annotations

import re

import pytest

from tests.support.pages import ROOT, missing_tests, named_tests, tables_of

PAGE = ROOT / "docs" / "security.md"
CONTROLS = [
    "authentication on every route",
    "signed requests",
    "object and function authorisation",
    "what a URL names",
    "one key, one request",
    "unknown fields",
    "two persons above a threshold",
    "actors can't be chosen",
    "splitting",
    "velocity limits",
    "original method only",
    "kill switch",
    "processor webhook",
    "processor data untrusted",
    "JSON only on the broker",
    "Redis",
    "the broker's certificate",
    "least rights in Postgres",
    "hash chain with an anchor outside",
    "secrets",
    "no card data",
    "passwords and addresses",
    "console",
    "outgoing webhooks",
    "limits on body, depth, rows",
    "clients that hold connections, guess passwords",
    "money parsing",
    "fail closed",
    "errors",
    "test and live kept apart",
    "dangerous settings in production",
    "metrics",
    "containers",
]


def rows() -> list[list[str]]:
    return [row for table in tables_of(PAGE) for row in table]


def test_every_control_has_exactly_one_row() -> None:
    assert [row[0] for row in rows()] == CONTROLS


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_what_a_row_names_is_there_and_it_names_a_test_or_says_that_none_is(row: list[str]) -> None:
    _, defence, tests, missing = row
    files = re.findall(r"`(src/[^`]+)`", defence)
    assert files
    assert [file for file in files if not (ROOT / file).exists()] == []
    assert missing_tests(tests) == []
    assert named_tests(tests) or missing, "neither a test nor a word on why there is none"
