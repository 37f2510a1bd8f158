"""Notifications about payouts: one for each new status, stored in the transaction of the change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection

from refund_worker.domain.payouts.acceptance import ACCEPTED
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
    changed = (d for d in decisions if d.before is None or d.after.status is not d.before.status)
    told = [decision for decision in changed if decision.after.status not in NOT_NOTIFIED]
    open_payees = {decision.after.payee_id for decision in told if decision.after.status in PAYOUT_OPEN}
    now_at = payees.destinations(connection, open_payees)
    messages = [_message(d.after, _accepted(d), changed_destination(d.after, now_at), now) for d in told]
    outbox.insert_messages(connection, messages)


def _accepted(decision: PayoutDecision) -> Mapping[str, Any]:
    """Return the detail of the event of the acceptance, if this is the acceptance."""
    return next((event.detail for event in decision.events if event.kind == ACCEPTED), {})


def _message(payout: Payout, accepted: Mapping[str, Any], changed_at: float | None, now: float) -> dict[str, Any]:
    message_id = f"msg_{payout.payout_id}_{payout.version}"
    kind = f"payout.{payout.status}"
    view = payout_view(payout, accepted=accepted, changed_at=changed_at)
    body = {"id": message_id, "type": kind, "created_at": iso(now), "data": view}
    return {
        "message_id": message_id,
        "payout_id": payout.payout_id,
        "type": kind,
        "body": json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        "created_at": now,
    }
