"""Migrated databases, cloned from a template, so that tests about other subjects do not migrate again.

A test folder gets the fixtures by importing them in its conftest.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from refund_worker.store.database import Database
from refund_worker.store.schema import upgrade

__all__ = ["migrate", "migrated_sqlite_url", "migrated_url", "sqlite_template"]


def migrate(url: str) -> None:
    """Migrate the database at `url` to the newest schema."""
    database = Database(url)
    upgrade(database)
    database.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("template") / "refunds.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def migrated_sqlite_url(tmp_path: Path, sqlite_template: Path) -> str:
    """The URL of a new migrated SQLite file."""
    path = tmp_path / "refunds.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgres"])
def migrated_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a new migrated database: once an SQLite file, once a real Postgres."""
    if request.param == "sqlite":
        yield request.getfixturevalue("migrated_sqlite_url")
        return
    server = request.getfixturevalue("postgres_server")
    url = server.create(migrate)
    yield url
    server.drop(url)
