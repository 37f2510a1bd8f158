"""The part of `doctor` about the database: whether it answers, has our schema, and accepts writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from refund_worker.alarms import Condition, condition_of_database
from refund_worker.cli import runtime
from refund_worker.cli.doctor_findings import Finding, Verdict, explained_by
from refund_worker.errors import RefundWorkerError

if TYPE_CHECKING:
    from refund_worker.settings import Settings
    from refund_worker.store.database import Database

CHECK = "database"


def check_database(settings: Settings) -> Finding:
    """Return the finding about the database of the settings. Nothing is written there."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return _found(settings)
    except (RefundWorkerError, SQLAlchemyError) as error:
        why = error.explained if isinstance(error, RefundWorkerError) else type(error).__name__
        if condition_of_database(why) is Condition.DATABASE_READ_ONLY:
            return _read_only(why)
        return Finding(CHECK, Verdict.FAIL, why, "start the database, or correct REFUND_WORKER_DATABASE_URL")


def has_no_file_yet(settings: Settings) -> bool:
    """Return True if the database is an SQLite file that does not exist: to open it would make it."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    url = settings.database_url.get_secret_value()
    try:
        path = (make_url(url).database or "") if url.startswith("sqlite") else ""
    except (ArgumentError, ValueError):
        return False  # the check of the database reports it
    return path not in ("", ":memory:") and not Path(path).expanduser().exists()


def _found(settings: Settings) -> Finding:
    from refund_worker.store.reporting.metrics import can_write
    from refund_worker.store.schema import current, head

    if has_no_file_yet(settings):
        return Finding(CHECK, Verdict.OK, "sqlite, no file yet: the first command creates it")
    with runtime.database() as database:
        name = database.url.get_backend_name()
        at = current(database)
        if at is None or at < head():
            if database.is_sqlite:
                return Finding(CHECK, Verdict.OK, f"{name}, schema {at or 'none'}: the next command migrates it")
            return Finding(CHECK, Verdict.FAIL, f"{name}, schema {at or 'none'}", "refund-worker db upgrade")
        if database.is_sqlite and not can_write(database):
            todo = f"allow writing to the file and its folder, or make room on its disk; {_explained()}"
            return Finding(CHECK, Verdict.FAIL, f"{name}, read-only: the file accepts no writes", todo)
    found = f"{name}, schema {at}"
    if database.is_sqlite and settings.environment == "production":
        return Finding(CHECK, Verdict.WARN, found, "use Postgres in production")
    return Finding(CHECK, Verdict.OK, found)


def _read_only(error: str) -> Finding:
    """Return the finding about a Postgres that accepts no writes, with the server's own word on why.

    A server that cannot be asked is described by `error`, the text with which it was refused.
    """
    from refund_worker.store.postgres import WHY_READ_ONLY

    with runtime.database() as database:
        why = _why(database) or error
    todo = f"{_explained()}; ask the server itself: {WHY_READ_ONLY}"
    return Finding(CHECK, Verdict.FAIL, f"read-only, it accepts no writes: {why}", todo)


def _why(database: Database) -> str | None:
    from sqlalchemy.exc import SQLAlchemyError

    from refund_worker.store.postgres import WHY_READ_ONLY

    try:
        with database.read_anywhere() as connection:
            is_standby, setting, source = connection.exec_driver_sql(WHY_READ_ONLY).one()
    except (RefundWorkerError, SQLAlchemyError):
        return None
    if is_standby:
        return "this server is a standby (pg_is_in_recovery is true)"
    if setting == "on":
        return f"default_transaction_read_only is on (set by: {source}); a full disk can be the reason"
    return "it is no standby, and default_transaction_read_only is off: ask again"


def _explained() -> str:
    return explained_by(Condition.DATABASE_READ_ONLY)
