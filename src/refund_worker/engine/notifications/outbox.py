"""Notifications to the admin backend: stored in the transaction of the change that they report, delivered later."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import Connection

from refund_worker.domain.decision import Decision
from refund_worker.domain.refund import Refund, RefundStatus
from refund_worker.engine.context import Context
from refund_worker.engine.views.api_objects import Json, refund_view
from refund_worker.errors import NotFound
from refund_worker.store import outbox
from refund_worker.times import iso

# A message that is about no refund is about one of these.
ABOUT = ("claim_id", "fraud_warning_id", "payout_id", "earning_id", "run_id")
# An internal status; a caller cannot act on it.
NOT_NOTIFIED = frozenset({RefundStatus.SENDING})


def announce(connection: Connection, refunds: Iterable[Refund], now: float) -> None:
    """Store one message for each of these refunds, which have just reached their status, in one statement.

    The message id is built from the refund's id and version, so every delivery of one change has the same id.
    """
    outbox.insert_messages(
        connection, [_message(refund, now) for refund in refunds if refund.status not in NOT_NOTIFIED]
    )


def announce_changes(connection: Connection, decisions: Iterable[Decision], now: float) -> None:
    """Store one message for each decision that changed a refund's status."""
    announce(connection, (d.after for d in decisions if d.before is None or d.after.status is not d.before.status), now)


def _message(refund: Refund, now: float) -> dict[str, Any]:
    message_id = f"msg_{refund.refund_id.removeprefix('rf_')}_{refund.version}"
    kind = f"refund.{refund.status}"
    body = {"id": message_id, "type": kind, "created_at": iso(now), "data": refund_view(refund)}
    return {
        "message_id": message_id,
        "refund_id": refund.refund_id,
        "type": kind,
        "body": json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        "created_at": now,
    }


def redeliver(context: Context, message_ids: Collection[str] | None = None) -> int:
    """Send these messages again, whatever their state, or all undeliverable ones; return how many.

    Raises `NotFound` if one of the named messages is not known; then none is sent again.
    """

    def work(connection: Connection) -> int:
        count = outbox.redeliver(connection, context.clock(connection), message_ids)
        if message_ids is not None and count != len(set(message_ids)):
            raise NotFound("one of these notifications is not known: see `refund-worker notifications list`")
        return count

    return context.database.run(work)


def notifications(
    connection: Connection,
    limit: int = 100,
    *,
    given_up: bool = False,
    refund_id: str | None = None,
    state: str | None = None,
) -> list[Json]:
    """Return messages, newest first: {id, type, refund_id, claim_id, fraud_warning_id, payout_id, earning_id,
    run_id, state, tries, created_at, delivered_at, next_at, last_error}.

    A message's `state` is waiting, delivered or given_up. With `state`, only those are returned, in their own order.
    """
    if state is not None and refund_id is None:
        rows = outbox.messages_in(connection, state, limit)
    else:
        rows = outbox.messages(connection, limit, given_up=given_up, refund_id=refund_id)
    found = []
    for row in rows:
        its_state = "given_up" if row["given_up_at"] else "waiting" if row["next_at"] is not None else "delivered"
        times = {name: row[name] and iso(row[name]) for name in ("created_at", "delivered_at", "next_at")}
        named = {"id": row["message_id"], "type": row["type"], "refund_id": row["refund_id"]}
        named |= {name: row[name] for name in ABOUT} | {"state": its_state}
        found.append(named | {"tries": row["tries"]} | times | {"last_error": row["last_error"]})
    return found
