"""The outbox of notifications: those that wait, and how the others ended. Old delivered ones are deleted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, delete, func, select, update

from refund_worker.store.database import locked
from refund_worker.store.tables import outbox


def insert_messages(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert messages (message_id, the id of the object they are about, type, body, created_at), due at once."""
    if rows:
        connection.execute(outbox.insert(), [{**row, "next_at": row["created_at"]} for row in rows])


def is_any_due(connection: Connection, now: float) -> bool:
    """Return True if a message is due at `now` (epoch seconds)."""
    return connection.execute(select(outbox.c.message_id).where(outbox.c.next_at <= now).limit(1)).first() is not None


def claim(connection: Connection, now: float, limit: int, until: float) -> list[RowMapping]:
    """Claim at most `limit` messages, those due for the longest time first, and count one more try for each.

    No other process gets them before `until` (epoch seconds).
    """
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
    """Mark messages as delivered at `now`: (message_id, number of the try)."""
    if tried:
        connection.execute(_DELIVERED, [{"id": message_id, "try": tries, "now": now} for message_id, tries in tried])


def mark_failed(connection: Connection, failed: Sequence[Mapping[str, Any]]) -> None:
    """Store failed tries: rows of id, try, next_at (None if no try follows), given_up_at, last_error."""
    if failed:
        connection.execute(_FAILED, list(failed))


def redeliver(connection: Connection, now: float, message_ids: Collection[str] | None) -> int:
    """Make these messages due again, or with None all that were abandoned; return how many."""
    which = outbox.c.given_up_at.is_not(None) if message_ids is None else outbox.c.message_id.in_(message_ids)
    afresh = {"next_at": now, "tries": 0, "given_up_at": None, "delivered_at": None}
    return connection.execute(update(outbox).where(which).values(**afresh)).rowcount


def delete_delivered(connection: Connection, before: float, limit: int) -> int:
    """Delete at most `limit` of the oldest messages delivered before `before`; return how many.

    Waiting and abandoned messages stay. A message that was made due again since it was selected stays too.
    """
    o = outbox.c
    old = select(o.message_id).where(o.delivered_at < before).order_by(o.delivered_at).limit(limit)
    done = (o.delivered_at < before, o.next_at.is_(None), o.given_up_at.is_(None))
    return connection.execute(delete(outbox).where(o.message_id.in_(old), *done)).rowcount


def messages(
    connection: Connection, limit: int, *, given_up: bool = False, refund_id: str | None = None
) -> list[RowMapping]:
    """Return at most `limit` messages, newest first: only abandoned ones with `given_up`, or those of one refund."""
    query = select(outbox).order_by(outbox.c.created_at.desc(), outbox.c.message_id.desc()).limit(limit)
    if given_up:
        query = query.where(outbox.c.given_up_at.is_not(None))
    if refund_id is not None:
        query = query.where(outbox.c.refund_id == refund_id)
    return list(connection.execute(query).mappings())


# The column that each state's index sorts by.
_SORTED_BY = {"waiting": outbox.c.next_at, "given_up": outbox.c.given_up_at, "delivered": outbox.c.delivered_at}


def messages_in(connection: Connection, state: str, limit: int) -> list[RowMapping]:
    """Return at most `limit` messages in a state: waiting, the next to be sent first; given_up or delivered, newest
    first.
    """
    column = _SORTED_BY[state]
    order = column if state == "waiting" else column.desc()
    query = select(outbox).where(column.is_not(None)).order_by(order, outbox.c.message_id).limit(limit)
    return list(connection.execute(query).mappings())


def count_in(connection: Connection, state: str, most: int) -> int:
    """Return how many messages are in a state, counted up to `most`."""
    column = _SORTED_BY[state]
    counted = select(column).where(column.is_not(None)).limit(most).subquery()
    return connection.execute(select(func.count()).select_from(counted)).scalar_one()


# Only the latest try may record the result of a message: a redelivery restarts the count.
_THIS_TRY = (outbox.c.message_id == bindparam("id"), outbox.c.tries == bindparam("try"))
_DELIVERED = update(outbox).where(*_THIS_TRY).values(delivered_at=bindparam("now"), next_at=None, last_error=None)
_FAILED = (
    update(outbox)
    .where(*_THIS_TRY)
    .values({name: bindparam(name) for name in ("next_at", "given_up_at", "last_error")})
)
