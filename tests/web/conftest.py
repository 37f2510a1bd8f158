from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.migrated import migrated_sqlite_url, migrated_url, sqlite_template
from tests.web.client import Web, settings_for

__all__ = ["migrated_sqlite_url", "migrated_url", "sqlite_template"]


@pytest.fixture
def web(migrated_sqlite_url: str) -> Iterator[Web]:
    """Give the application on an SQLite file, with the customer of `Web.seed`."""
    with Web(settings_for(migrated_sqlite_url, APPROVAL_THRESHOLD_MINOR="500")) as running:
        running.seed()
        yield running
