from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright
from tests.support.migrated import migrated_sqlite_url, migrated_url, sqlite_template
from tests.support.skipped import BROWSER, leave_out
from tests.web.conftest import web
from tests.web.console.browser import NoBrowser, launch

__all__ = ["migrated_sqlite_url", "migrated_url", "sqlite_template", "web"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give a headless chromium; without one, and if none can be installed, the tests are skipped with a warning."""
    with sync_playwright() as playwright:
        try:
            found = launch(playwright)
        except NoBrowser as missing:
            leave_out(BROWSER, missing)
        yield found
        found.close()
