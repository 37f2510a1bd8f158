"""Notifications about payouts: one for each new status, stored in the transaction of the change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection

from refund_worker.domain.payouts.acceptance import ACCEPTED
from refund_worker.domain.payouts.decision import PayoutDecision
from refund_worker.domain.payouts.payout import Payout, PayoutStatus
from refund_worker.engine.views.payout_objects import payout_view
from refund_worker.store import outbox
from refund_worker.times import iso

# An internal status; a caller cannot act on it.
NOT_NOTIFIED = frozenset({PayoutStatus.SENDING})


def announce_payouts(connection: Connection, decisions: Iterable[PayoutDecision], now: float) -> None:
    """Store one message for each decision that changed a payout's status."""
    changed = (d for d in decisions if d.before is None or d.after.status is not d.before.status)
    outbox.insert_messages(
        connection, [_message(d.after, _accepted(d), now) for d in changed if d.after.status not in NOT_NOTIFIED]
    )


def _accepted(decision: PayoutDecision) -> Mapping[str, Any]:
    """Return the detail of the event of the acceptance, if this is the acceptance."""
    return next((event.detail for event in decision.events if event.kind == ACCEPTED), {})


def _message(payout: Payout, accepted: Mapping[str, Any], now: float) -> dict[str, Any]:
    message_id = f"msg_{payout.payout_id}_{payout.version}"
    kind = f"payout.{payout.status}"
    body = {"id": message_id, "type": kind, "created_at": iso(now), "data": payout_view(payout, accepted=accepted)}
    return {
        "message_id": message_id,
        "payout_id": payout.payout_id,
        "type": kind,
        "body": json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        "created_at": now,
    }
