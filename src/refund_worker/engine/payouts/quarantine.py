"""Postpone a payout that this program cannot process, and show it to a person; all others continue."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.decision import SYSTEM, Event
from refund_worker.domain.payouts.payout import Payout
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.quarantine import BROKE, SYSTEMIC_FAILURES_MIN
from refund_worker.errors import DestinationsKeyMissing
from refund_worker.store import timeline
from refund_worker.store.database import after_commit
from refund_worker.store.payouts import payouts
from refund_worker.store.payouts.sealed import KEY_SETTING

KEY_MISSING = DestinationsKeyMissing.code

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


def postpone_unreadable(connection: Connection, context: Context, payouts_: Sequence[Payout], now: float) -> None:
    """Postpone these payouts by the longest wait: their destination was sealed with a key that is not set here.

    They are locked, and nothing was sent. A person is alerted once, not at each try.
    """
    message = f"its destination was sealed with a key that {KEY_SETTING} does not hold"
    for payout in payouts_:
        until = now + context.policy.retry_max_seconds
        payouts.put_off(connection, payout.payout_id, until, KEY_MISSING, message, now, None)
        if payout.failure_code != KEY_MISSING:
            event = Event(BROKE, SYSTEM, reason=KEY_MISSING, detail={"payout_id": payout.payout_id}, alarm=True)
            timeline.insert_events_about(connection, [(payout.payout_id, event)], now)
            after_commit(connection, partial(_raise_alarm, payout.payout_id, message))


def _raise_alarm(payout_id: str, message: str) -> None:
    raise_alarm(log, Alarm.PAYOUT_STOPPED, "payout %s is not sent: %s", payout_id, message, payout_id=payout_id)


def readable_again(payout: Payout) -> Payout:
    """Return the payout without the failure that `postpone_unreadable` stored: it is tried again."""
    return replace(payout, failure_code=None, failure_message=None) if payout.failure_code == KEY_MISSING else payout
