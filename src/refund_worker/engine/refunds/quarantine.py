"""Quarantine a refund that this program fails on. It is postponed and shown to a person; all others continue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from sqlalchemy import Connection

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.decision import Event
from refund_worker.engine.context import Context
from refund_worker.errors import Unavailable
from refund_worker.store import refunds, timeline

T = TypeVar("T")

BROKE = "internal_error"
# If this many fail and none succeeds, the cause is systemic (for example a schema older than the code).
SYSTEMIC_FAILURES_MIN = 10

log = logging.getLogger(__name__)


def run_or_error(context: Context, work: Callable[[Connection], T]) -> T | Exception:
    """Return the result of `work` in a transaction of its own, or the exception it raised; then nothing is written.

    An unreachable database (`Unavailable`) is not a fault of the work: it is raised. So is a time limit, which is no
    `Exception`.
    """
    try:
        return context.database.run(work)
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001 -- returned to the caller, which continues one by one
        return error


def quarantine(
    context: Context,
    broken: Mapping[str, Exception],
    *,
    attempted: int,
    lease_token: str | None = None,
    postpone: bool = True,
) -> None:
    """Alert a person about these refunds, and postpone each by the longest wait (`retry_max_seconds`).

    `attempted` is how many refunds were tried. If all of them failed and they are at least `SYSTEMIC_FAILURES_MIN`,
    none is quarantined and the first exception is raised. `lease_token` is the lease under which the refunds are held,
    if they are. `postpone=False` postpones none: the replies that failed were not about the work that is due.
    """
    if len(broken) == attempted >= SYSTEMIC_FAILURES_MIN:
        raise next(iter(broken.values()))
    for refund_id, error in broken.items():
        _quarantine_one(context, refund_id, error, lease_token, postpone)


def _quarantine_one(
    context: Context, refund_id: str, error: Exception, lease_token: str | None, postpone: bool
) -> None:
    raise_alarm(log, Alarm.INTERNAL_ERROR, "refund %s cannot be processed", refund_id, error=error, refund_id=refund_id)
    wait = context.policy.retry_max_seconds
    reason = type(error).__name__

    def note(connection: Connection) -> None:
        now = context.clock(connection)
        if postpone:
            refunds.put_off(connection, refund_id, now + wait, BROKE, f"{reason} in the worker", now, lease_token)
        # One event for each wait, and not one for every failure.
        if not timeline.has_event(connection, refund_id, BROKE, now - wait):
            event = Event(BROKE, "refund-worker", reason=reason, alarm=True)
            timeline.insert_events(connection, [(refund_id, event)], now)

    context.database.run(note)
