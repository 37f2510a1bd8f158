"""A pytest plugin for `coverage run`: it records each executed line with the test that executed it."""

from __future__ import annotations

from collections.abc import Generator

import coverage
import pytest

BETWEEN_TESTS = "between tests"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Switch the coverage context to this test."""
    recorder = coverage.Coverage.current()
    if recorder is None:
        return (yield)
    recorder.switch_context(item.nodeid)
    try:
        return (yield)
    finally:
        recorder.switch_context(BETWEEN_TESTS)
