"""Notifications to the admin backend: stored in the transaction of the change they tell of, delivered later."""

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

# A step of our own inside, nothing that a caller could act on.
NOT_NOTIFIED = frozenset({RefundStatus.SENDING})


def announce(connection: Connection, refunds: Iterable[Refund], now: float) -> None:
    """Store one message for each of these refunds, which have just come to their status, in one statement.

    The message's id is made of the refund's id and version: one change is told under one id, however often it is sent.
    """
    outbox.insert_messages(
        connection, [_message(refund, now) for refund in refunds if refund.status not in NOT_NOTIFIED]
    )


def announce_changes(connection: Connection, decisions: Iterable[Decision], now: float) -> None:
    """The same for what decisions have changed: only another status is news."""
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
    """Send these messages again, whatever became of them, or all that were given up; returns how many.

    Raises `NotFound` if one that is named is not known; none is sent again then.
    """

    def work(connection: Connection) -> int:
        count = outbox.redeliver(connection, context.clock(connection), message_ids)
        if message_ids is not None and count != len(set(message_ids)):
            raise NotFound("one of these notifications is not known: see `refund-worker notifications list`")
        return count

    return context.database.run(work)


def notifications(
    connection: Connection, limit: int = 100, *, given_up: bool = False, refund_id: str | None = None
) -> list[Json]:
    """Newest first: {id, type, refund_id, state, tries, created_at, delivered_at, next_at, last_error}.

    `state` is waiting, delivered or given_up.
    """
    found = []
    for row in outbox.messages(connection, limit, given_up=given_up, refund_id=refund_id):
        state = "given_up" if row["given_up_at"] else "waiting" if row["next_at"] is not None else "delivered"
        times = {name: row[name] and iso(row[name]) for name in ("created_at", "delivered_at", "next_at")}
        named = {"id": row["message_id"], "type": row["type"], "refund_id": row["refund_id"], "state": state}
        found.append(named | {"tries": row["tries"]} | times | {"last_error": row["last_error"]})
    return found
