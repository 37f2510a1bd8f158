"""Bringing a database to the present schema, and saying whether it is there.

Revisions are numbered by the names of their files, `0001_….py`, so that knowing whether a database is current needs no
Alembic: importing it takes as long as a whole command.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from refund_worker.errors import Unavailable
from refund_worker.store import locks
from refund_worker.store.database import Database
from refund_worker.store.locks import Lock

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"


@cache
def head() -> str:
    """The newest revision that this program knows, such as "0001"."""
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def current(database: Database) -> str | None:
    """Return the revision of the database, or None if it was never migrated. Raises `Unavailable`."""
    with database.read() as connection:
        return _current(connection)


def ensure_schema(database: Database) -> None:
    """SQLite is migrated by whoever opens it; Postgres must have been, else `Unavailable` says how.

    A database newer than this program is left as it is: while a new version rolls out, the old one goes on.
    """
    at = current(database)
    if at is not None and at >= head():
        return
    if not database.is_sqlite:
        there = f"at revision {at}" if at else "not set up"
        raise Unavailable(f"the database is {there}, this program needs {head()}: run `refund-worker db upgrade`")
    upgrade(database)


def upgrade(database: Database) -> None:
    """Bring the database to the newest schema in one transaction: killed midway, nothing of it has happened.

    Safe when several processes do it at the same time: the later ones wait and find nothing left to do.
    """
    from alembic import command

    with database.write() as connection:
        _lock(connection)
        at = _current(connection)
        if at is None or at < head():
            command.upgrade(alembic_config(connection), head())


def alembic_config(connection: Connection) -> Config:
    """What Alembic needs to work on this connection; its caller begins and commits."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _lock(connection: Connection) -> None:
    """One migration at a time; on SQLite the write transaction itself is the lock."""
    if connection.dialect.name != "sqlite":
        # A migration may take longer than a statement of daily work.
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        locks.acquire(connection, Lock.MIGRATE)


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision
