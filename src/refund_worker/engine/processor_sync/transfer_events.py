"""Webhook events about payouts and payees. An event is only a hint: its object is asked for by the payout's next step.

So the order of events and their repetition cannot matter.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.account_names import platform_of
from refund_worker.engine.context import Context
from refund_worker.processors.base import is_plain_id
from refund_worker.processors.payout_routes import TransferHint
from refund_worker.store import inbox
from refund_worker.store.payouts import payees, payouts

log = logging.getLogger(__name__)

ASKED, PAYEE_ASKED = "taken in: the payout is asked about", "taken in: the payee is asked about"
NOT_OURS = "not about a payout or a payee that we know"


def transfer_hint_of(context: Context, row: RowMapping) -> TransferHint | None:
    """Return the subject of a stored event about payouts, or None for any other event. The ids in it are plain."""
    entry = context.accounts.entry_of(row["processor"])
    if entry is None or entry.payouts is None:
        return None
    try:
        hint = entry.payouts.transfer_hint(row["kind"], row["body"])
    except Exception as error:  # noqa: BLE001 - an alarm; the event ends as one that cannot be read
        told = "event %s of %s cannot be read"
        raise_alarm(log, Alarm.WEBHOOK_UNREADABLE, told, row["event_id"], row["processor"], error=error)
        return None
    return hint if hint is not None and is_plain_id(hint.object_id) else None


def process_transfer_events(context: Context, events: Sequence[tuple[RowMapping, TransferHint]]) -> int:
    """Let the processors be asked about the objects of these events; return how many events ended."""
    if not events:
        return 0

    def work(connection: Connection) -> set[str]:
        now = context.clock(connection)
        named = [(platform_of(row["processor"]), hint) for row, hint in events]
        # All payees at once, then all payouts: two batches of events lock the same rows in the same order.
        known = payees.refresh_destinations(connection, {(p, h.object_id) for p, h in named if h.is_payee}, now)
        legs: dict[str, str] = {}
        ended = []
        for (row, hint), (processor, _) in zip(events, named, strict=True):
            if hint.is_payee:
                outcome = PAYEE_ASKED if known.get((processor, hint.object_id)) else NOT_OURS
            else:
                of_leg = [hint.leg_id] if hint.leg_id is not None else []
                found = payouts.named_legs(connection, processor, object_ids=[hint.object_id], leg_ids=of_leg)
                legs |= found
                outcome = ASKED if found else NOT_OURS
            ended.append((row["processor"], row["event_id"], outcome))
        payouts.ask_again(connection, legs, now)
        inbox.mark_processed(connection, ended, now)
        return set(legs.values())

    due = context.database.run(work)
    if due:
        context.publish(sorted(due), False)
    return len(events)
