"""What this program breaks on is put aside, that refund alone, and shown to a person; all others go on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from refund_worker.domain.decision import Event
from refund_worker.engine.context import Context
from refund_worker.errors import Unavailable
from refund_worker.store import refunds

T = TypeVar("T")

BROKE = "internal_error"

log = logging.getLogger("refund_worker.put_aside")


def tried(context: Context, work: Callable[[Connection], T]) -> T | Exception:
    """The result of `work` in a transaction of its own, or the fault of ours that it met; then nothing is written.

    A database that can't be reached and a time limit are no faults of the work: they are raised.
    """
    try:
        return context.database.run(work)
    except Unavailable:
        raise
    except context.interrupts:
        raise
    except Exception as error:  # noqa: BLE001 -- handed to the caller, who goes on one by one
        return error


def put_aside(context: Context, refund_id: str, error: Exception) -> None:
    """Look at the refund again only after the longest wait, and tell a person; no more often than that wait."""
    log.error("alarm: refund %s can't be worked on", refund_id, exc_info=error)
    wait = context.policy.retry_max_seconds

    def note(connection: Connection) -> None:
        now = context.clock(connection)
        reason = type(error).__name__
        refunds.put_off(connection, refund_id, now + wait, BROKE, f"{reason} in the worker")
        if not refunds.has_event(connection, refund_id, BROKE, now - wait):
            refunds.insert_events(
                connection, [(refund_id, Event(BROKE, "refund-worker", reason=reason, alarm=True))], now
            )

    context.database.run(note)
