"""The part of `doctor` about the work itself: processors that are paused, and refunds that need a person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refund_worker.cli import runtime
from refund_worker.errors import RefundWorkerError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from refund_worker.engine.context import Context
    from refund_worker.settings import Settings


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that waits for a person: `found` in plain words, and the `entry` of the runbook about it."""

    check: str
    found: str
    entry: str


def troubles() -> list[Trouble] | None:
    """Return what waits for a person, or None if the database cannot be read or has another schema."""
    from sqlalchemy.exc import SQLAlchemyError

    from refund_worker.store.schema import current, head

    try:
        with runtime.database() as database:
            if current(database) != head():
                return None
        with runtime.context() as context, context.database.read() as connection:
            return [*_paused(connection, context), *_stopped(connection)]
    except (RefundWorkerError, SQLAlchemyError):
        return None  # the check of the database has reported the fault


def installation_of(settings: Settings) -> str | None:
    """Return the id of the database of these settings, or None if it has none or cannot be read. It makes nothing."""
    from contextlib import closing, suppress
    from pathlib import Path

    from sqlalchemy import make_url
    from sqlalchemy.exc import SQLAlchemyError

    from refund_worker.runtime import open_database
    from refund_worker.store.installation import installation_id
    from refund_worker.store.schema import current

    with suppress(RefundWorkerError, SQLAlchemyError, OSError):
        url = make_url(settings.database_url.get_secret_value())
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
            return None  # to open it would make the file
        with closing(open_database(settings)) as database:
            if current(database) is not None:
                with database.read() as connection:
                    return installation_id(connection)
    return None


def _paused(connection: Connection, context: Context) -> Iterator[Trouble]:
    from refund_worker.engine.processor_sync.status import stored_switches
    from refund_worker.engine.views.failure_codes import code_with_entry, explain

    for switch in stored_switches(connection, context):
        if switch["paused"]:
            name, code = switch["name"], switch["code"]
            yield Trouble("sending", f"{name} is paused: {explain(code).title} ({code})", code_with_entry(code))


def _stopped(connection: Connection) -> Iterator[Trouble]:
    from refund_worker.engine.views.failure_codes import code_with_entry, explain
    from refund_worker.engine.views.failure_groups import failures

    for group in failures(connection, failed_at_most=0):
        code, count = group["failure_code"], group["needs_attention"]
        verb = "refund needs" if count == 1 else "refunds need"
        found = f"{count:,} {verb} attention: {explain(code).title} ({code or 'no code'})"
        yield Trouble("refunds", found, code_with_entry(code))
