"""What this program breaks on is put aside, that refund alone, and shown to a person; all others go on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from sqlalchemy import Connection

from refund_worker.domain.decision import Event
from refund_worker.engine.context import Context
from refund_worker.errors import Unavailable
from refund_worker.store import refunds, timeline

T = TypeVar("T")

BROKE = "internal_error"
# So many at once, and none that goes through: the fault is not theirs (a schema behind the code, say).
SYSTEMIC_FAILURES_MIN = 10

log = logging.getLogger("refund_worker.put_aside")


def run_or_error(context: Context, work: Callable[[Connection], T]) -> T | Exception:
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


def quarantine(
    context: Context, broken: Mapping[str, Exception], *, of: int, lease_token: str | None = None, off: bool = True
) -> None:
    """Tell a person of these refunds, and look at each again only after the longest wait.

    `of`: how many were tried; where all of many break, none is put aside and the fault is raised. `lease_token`: under
    which they are held, if they are. `off=False`: what can't be taken in was not about the work that is due.
    """
    if len(broken) == of >= SYSTEMIC_FAILURES_MIN:
        raise next(iter(broken.values()))
    for refund_id, error in broken.items():
        _put_one_aside(context, refund_id, error, lease_token, off)


def _put_one_aside(context: Context, refund_id: str, error: Exception, lease_token: str | None, off: bool) -> None:
    log.error("alarm: refund %s cannot be processed", refund_id, exc_info=error)
    wait = context.policy.retry_max_seconds
    reason = type(error).__name__

    def note(connection: Connection) -> None:
        now = context.clock(connection)
        if off:
            refunds.put_off(connection, refund_id, now + wait, BROKE, f"{reason} in the worker", now, lease_token)
        # Once for each wait, and not at every look.
        if not timeline.has_event(connection, refund_id, BROKE, now - wait):
            event = Event(BROKE, "refund-worker", reason=reason, alarm=True)
            timeline.insert_events(connection, [(refund_id, event)], now)

    context.database.run(note)
