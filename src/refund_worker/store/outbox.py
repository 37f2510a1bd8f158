"""Notifications that wait to be delivered, and what became of the others; those delivered long ago are deleted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, delete, select, update

from refund_worker.store.database import locked
from refund_worker.store.tables import outbox


def insert_messages(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """New messages (message_id, refund_id, type, body, created_at), due at once."""
    if rows:
        connection.execute(outbox.insert(), [{**row, "next_at": row["created_at"]} for row in rows])


def is_any_due(connection: Connection, now: float) -> bool:
    return connection.execute(select(outbox.c.message_id).where(outbox.c.next_at <= now).limit(1)).first() is not None


def claim(connection: Connection, now: float, limit: int, until: float) -> list[RowMapping]:
    """The messages due the longest, each now one try further and nobody else's before `until`."""
    due = select(outbox.c.message_id).where(outbox.c.next_at <= now).order_by(outbox.c.next_at).limit(limit)
    ids = list(connection.execute(locked(connection, due, skip=True)).scalars())
    if not ids:
        return []
    connection.execute(
        update(outbox).where(outbox.c.message_id.in_(ids)).values(next_at=until, tries=outbox.c.tries + 1)
    )
    rows = select(outbox).where(outbox.c.message_id.in_(ids)).order_by(outbox.c.created_at, outbox.c.message_id)
    return list(connection.execute(rows).mappings())


def mark_delivered(connection: Connection, tried: Sequence[tuple[str, int]], now: float) -> None:
    """(message_id, which try) that were taken by their receiver."""
    if tried:
        connection.execute(_DELIVERED, [{"id": message_id, "try": tries, "t": now} for message_id, tries in tried])


def mark_failed(connection: Connection, failed: Sequence[Mapping[str, Any]]) -> None:
    """Rows of id, try, next_at (None = given up), given_up_at, last_error."""
    if failed:
        connection.execute(_FAILED, list(failed))


def redeliver(connection: Connection, now: float, message_ids: Collection[str] | None) -> int:
    """Make due again the messages named, or all that were given up; returns how many."""
    which = outbox.c.given_up_at.is_not(None) if message_ids is None else outbox.c.message_id.in_(message_ids)
    afresh = {"next_at": now, "tries": 0, "given_up_at": None, "delivered_at": None}
    return connection.execute(update(outbox).where(which).values(**afresh)).rowcount


def delete_delivered(connection: Connection, before: float, limit: int) -> int:
    """Delete the longest delivered of those delivered before then; returns how many.

    What waits or was given up stays, and so does what is to be delivered again since it was looked at.
    """
    o = outbox.c
    old = select(o.message_id).where(o.delivered_at < before).order_by(o.delivered_at).limit(limit)
    done = (o.delivered_at < before, o.next_at.is_(None), o.given_up_at.is_(None))
    return connection.execute(delete(outbox).where(o.message_id.in_(old), *done)).rowcount


def messages(
    connection: Connection, limit: int, *, given_up: bool = False, refund_id: str | None = None
) -> list[RowMapping]:
    """Messages, newest first."""
    query = select(outbox).order_by(outbox.c.created_at.desc(), outbox.c.message_id.desc()).limit(limit)
    if given_up:
        query = query.where(outbox.c.given_up_at.is_not(None))
    if refund_id is not None:
        query = query.where(outbox.c.refund_id == refund_id)
    return list(connection.execute(query).mappings())


# Only the latest try may say what became of a message: a redelivery begins to count again.
_THIS_TRY = (outbox.c.message_id == bindparam("id"), outbox.c.tries == bindparam("try"))
_DELIVERED = update(outbox).where(*_THIS_TRY).values(delivered_at=bindparam("t"), next_at=None, last_error=None)
_FAILED = (
    update(outbox)
    .where(*_THIS_TRY)
    .values({name: bindparam(name) for name in ("next_at", "given_up_at", "last_error")})
)
