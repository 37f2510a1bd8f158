"""Quarantine a payout that this program fails on. It is postponed and shown to a person; all others continue."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from sqlalchemy import Connection

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.decision import SYSTEM, Event
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.quarantine import BROKE, SYSTEMIC_FAILURES_MIN
from refund_worker.store import timeline
from refund_worker.store.payouts import payouts

log = logging.getLogger(__name__)


def quarantine_payouts(
    context: Context, broken: Mapping[str, Exception], *, attempted: int, lease_token: str | None = None
) -> None:
    """Alert a person about these payouts, and postpone each by the longest wait (`retry_max_seconds`).

    If all of many failed, the cause is systemic: none is quarantined, and the first exception is raised.
    """
    if len(broken) == attempted >= SYSTEMIC_FAILURES_MIN:
        raise next(iter(broken.values()))
    for payout_id, error in broken.items():
        raise_alarm(
            log, Alarm.INTERNAL_ERROR, "payout %s cannot be processed", payout_id, error=error, payout_id=payout_id
        )
        reason = type(error).__name__
        context.database.run(lambda c, one=payout_id, why=reason: _note(c, context, one, why, lease_token))  # type: ignore[misc]


def _note(connection: Connection, context: Context, payout_id: str, reason: str, lease_token: str | None) -> None:
    now = context.clock(connection)
    until = now + context.policy.retry_max_seconds
    if payouts.put_off(connection, payout_id, until, BROKE, f"{reason} in the worker", now, lease_token):
        event = Event(BROKE, SYSTEM, reason=reason, detail={"payout_id": payout_id}, alarm=True)
        timeline.insert_events_about(connection, [(payout_id, event)], now)
