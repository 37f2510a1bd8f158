"""Brings a database to the newest schema and checks if it is there.

Revisions are numbered by the names of their files, `0001_….py`. So the check needs no Alembic, whose import takes as
long as a whole command. Our own table holds the revision, because other programs may use `alembic_version` in the same
database.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from refund_worker.errors import Conflict, Unavailable
from refund_worker.store import locks, namespace
from refund_worker.store.database import Database
from refund_worker.store.locks import Lock
from refund_worker.store.namespace import VERSION_TABLE

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
# The table of the revision until 0012. It is ours if these tables stand beside it.
OLD_VERSION_TABLE = "alembic_version"
_OURS = frozenset({"installation", "ledger_entries", "transaction_rooms"})
_NUMBER = re.compile("[0-9]{4}")
_NO_SUCH_COLUMN = "42703"  # SQLSTATE
# The comment on the old table after it was taken over. It ends with the revision, because another program may have
# adopted the table since then. A table without the comment may belong to another program.
_MARK = "taken over by refund_worker_version: "
_COMMENT = text(
    "SELECT obj_description(oid, 'pg_class') FROM pg_class WHERE relname = 'alembic_version' "
    "AND relnamespace = current_schema()::regnamespace"
)


@cache
def revisions() -> frozenset[str]:
    """Return all revisions that this program knows."""
    return frozenset(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


@cache
def head() -> str:
    """Return the newest revision that this program knows, such as "0001"."""
    return max(revisions())


def current(database: Database) -> str | None:
    """Return the revision of the database, or None if it was never migrated.

    Raises `Unavailable`, also for a revision that is not ours.
    """
    with database.read() as connection:
        return current_in(connection, database)


def ensure_schema(database: Database) -> None:
    """Migrate an SQLite database; check a Postgres database. Raises `Unavailable` if Postgres must be migrated first.

    A database newer than this program stays as it is: during a rollout the old version continues to work.
    """
    at = current(database)
    if at is not None and at >= head():
        return
    if not database.is_sqlite:
        there = f"at revision {at}" if at else "not set up"
        raise Unavailable(f"the database is {there}, this program needs {head()}: run `refund-worker db upgrade`")
    upgrade(database)


def upgrade(database: Database) -> None:
    """Bring the database to the newest schema in one transaction; if it is killed midway, nothing has changed.

    Several processes may call it at the same time: the later ones wait and find nothing left to do. Raises `Conflict`
    if the schema holds tables of others with our names, `Unavailable` if it cannot be made or used.
    """
    from alembic import command

    with database.write() as connection:
        _lock(connection)
        if not database.is_sqlite:
            namespace.make_schema(connection, database.schema)
        at = current_in(connection, database)
        config = alembic_config(connection)
        if at is None or at < head():
            new = None if at is None else _names_made_after(at, config)
            namespace.check_names_are_free(connection, database.schema, new)
        there = namespace.tables_in(connection, database.schema, [VERSION_TABLE, OLD_VERSION_TABLE, *_OURS])
        if at is not None and VERSION_TABLE not in there:
            _take_over(connection, at)
        elif not database.is_sqlite and _is_left_of_ours(connection):
            # It stayed for processes of the previous version, which have ended by now.
            connection.exec_driver_sql(f"DROP TABLE {OLD_VERSION_TABLE}")
        if at is None or at < head():
            command.upgrade(config, head())


def alembic_config(connection: Connection) -> Config:
    """Return an Alembic configuration for this connection; the caller begins and commits the transaction."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _names_made_after(revision: str, config: Config) -> frozenset[str]:
    """Return the names of all tables, indexes, sequences and functions that the migrations after `revision` make."""
    from alembic.script import ScriptDirectory

    later = ScriptDirectory.from_config(config).iterate_revisions(head(), revision)
    return frozenset(name for migration in later for name in getattr(migration.module, "makes", ()))


def _lock(connection: Connection) -> None:
    """Allow one migration at a time; on SQLite the write transaction is the lock."""
    if connection.dialect.name != "sqlite":
        # A migration may take longer than the limits of daily work allow.
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        locks.acquire(connection, Lock.MIGRATE)


def current_in(connection: Connection, database: Database) -> str | None:
    """Return the same in a transaction that is open on this database. Raises the same error."""
    there = namespace.tables_in(connection, database.schema, [VERSION_TABLE, OLD_VERSION_TABLE, *_OURS])
    if VERSION_TABLE in there:
        revision = _revision_in(connection, namespace.qualified(connection, database.schema, VERSION_TABLE))
    else:
        revision = _old_revision(connection, there)
        if revision is None and not database.is_sqlite:
            namespace.check_schema(connection, database.schema, _OURS)
    if revision is not None and revision not in revisions() and not _is_newer(revision):
        raise Unavailable(
            f"the database is at revision {revision}, which is none of refund-worker: restore the table {VERSION_TABLE}"
        )
    return revision


def _old_revision(connection: Connection, there: frozenset[str]) -> str | None:
    """Return the revision in the table of earlier versions, or None. Another program's table is not read."""
    return _revision_in(connection, OLD_VERSION_TABLE) if there >= {OLD_VERSION_TABLE, *_OURS} else None


def _revision_in(connection: Connection, table: str) -> str | None:
    try:
        found = connection.execute(text(f"SELECT version_num FROM {table}")).scalars().all()  # noqa: S608 - our own names
    except (ProgrammingError, OperationalError) as error:
        if getattr(error.orig, "sqlstate", "") != _NO_SUCH_COLUMN and "no such column" not in str(error.orig):
            raise
        raise Conflict(f"the table {table} is another program's: rename it, or set {namespace.SETTING}") from None
    return next((str(each) for each in found if each in revisions()), str(found[0]) if found else None)


def _is_newer(revision: str) -> bool:
    return _NUMBER.fullmatch(revision) is not None and revision > head()


def _is_left_of_ours(connection: Connection) -> bool:
    """Return True if the old table was taken over and still holds our revision alone."""
    comment = connection.execute(_COMMENT).scalar()
    if comment is None or not comment.startswith(_MARK):
        return False
    found = connection.execute(text(f"SELECT version_num FROM {OLD_VERSION_TABLE}")).scalars().all()  # noqa: S608
    return found == [comment.removeprefix(_MARK)]


def _take_over(connection: Connection, revision: str) -> None:
    """Make our own table of the revision. The earlier one stays until the next upgrade, for the previous version."""
    key = f"CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY"
    connection.exec_driver_sql(f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL, {key} (version_num))")
    connection.execute(text(f"INSERT INTO {VERSION_TABLE} VALUES (:revision)"), {"revision": revision})  # noqa: S608
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(f"COMMENT ON TABLE {OLD_VERSION_TABLE} IS '{_MARK}{revision}'")
