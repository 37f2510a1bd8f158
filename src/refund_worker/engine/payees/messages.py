"""Notifications about earnings, stored in the transaction of the change that they report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from refund_worker.domain.payouts.earnings import Clawback
from refund_worker.engine.views.payee_objects import earning_view
from refund_worker.store import outbox
from refund_worker.store.payouts import payees
from refund_worker.times import iso

CLAWED_BACK = "earning.clawed_back"


def announce_clawbacks(connection: Connection, changes: Sequence[Clawback], now: float) -> None:
    """Store one message for each of these claw-backs, with the payee's balance after them all.

    Of one that was undone, `change_minor` is below zero.
    """
    pairs = {(change.earning.payee_id, change.earning.currency) for change in changes}
    after = payees.balances(connection, pairs, now)
    rows = []
    for change in changes:
        earning = change.earning
        balance = after[earning.payee_id, earning.currency]
        data = {**earning_view(earning), "change_minor": change.amount_minor, "balance_after": balance.net_minor}
        rows.append(_row(change.posting.transaction_id, earning.earning_id, data, now))
    outbox.insert_messages(connection, rows)


def _row(entry_id: str, earning_id: str, data: dict[str, Any], now: float) -> dict[str, Any]:
    """Return the row of the message about this ledger entry: its id is made from that of the entry."""
    message_id = f"msg_{hashlib.sha256(entry_id.encode()).hexdigest()[:32]}"
    body = {"id": message_id, "type": CLAWED_BACK, "created_at": iso(now), "data": data}
    return {
        "message_id": message_id,
        "earning_id": earning_id,
        "type": CLAWED_BACK,
        "body": json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        "created_at": now,
    }
