"""Notifications about payouts: one for each new status, stored in the transaction of the change."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection

from refund_worker.domain.payouts.decision import PayoutDecision
from refund_worker.domain.payouts.payout import PAYOUT_OPEN, Payout, PayoutStatus, changed_destination
from refund_worker.engine.views.payout_objects import payout_view
from refund_worker.store import outbox
from refund_worker.store.payouts import payees
from refund_worker.times import iso

# An internal status; a caller cannot act on it.
NOT_NOTIFIED = frozenset({PayoutStatus.SENDING})


def announce_payouts(connection: Connection, decisions: Iterable[PayoutDecision], now: float) -> None:
    """Store one message for each decision that changed a payout's status."""
    changed = (d.after for d in decisions if d.before is None or d.after.status is not d.before.status)
    told = [payout for payout in changed if payout.status not in NOT_NOTIFIED]
    now_at = payees.destinations(connection, {payout.payee_id for payout in told if payout.status in PAYOUT_OPEN})
    outbox.insert_messages(connection, [_message(each, now, changed_destination(each, now_at)) for each in told])


def _message(payout: Payout, now: float, changed_at: float | None) -> dict[str, Any]:
    message_id = f"msg_{payout.payout_id}_{payout.version}"
    kind = f"payout.{payout.status}"
    view = payout_view(payout, changed_at=changed_at)
    body = {"id": message_id, "type": kind, "created_at": iso(now), "data": view}
    return {
        "message_id": message_id,
        "payout_id": payout.payout_id,
        "type": kind,
        "body": json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        "created_at": now,
    }
