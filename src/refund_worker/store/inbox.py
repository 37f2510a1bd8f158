"""Events as processors sent them: stored raw and once, taken in later."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, Integer, RowMapping, bindparam, select, update

from refund_worker.store.database import insert_into
from refund_worker.store.tables import inbox


def insert_event(
    connection: Connection, processor: str, event_id: str, kind: str, body: str, received_at: float
) -> bool:
    """Store an event; False if it was stored before."""
    insert = insert_into(connection, inbox)
    row = {"processor": processor, "event_id": event_id, "kind": kind, "body": body, "received_at": received_at}
    stored = insert.values(**row).on_conflict_do_nothing().returning(inbox.c.event_id)
    return connection.execute(stored).first() is not None


_WAITING = (
    select(inbox)
    .where(inbox.c.taken_at.is_(None))
    .order_by(inbox.c.tries, inbox.c.received_at)
    .limit(bindparam("limit", type_=Integer))
)


def waiting_events(connection: Connection, limit: int) -> list[RowMapping]:
    """Events not taken in yet, those tried least often first."""
    return list(connection.execute(_WAITING, {"limit": limit}).mappings())


def mark_taken(connection: Connection, taken: Iterable[tuple[str, str, str]], now: float) -> None:
    """(processor, event_id, outcome) of events that are done with."""
    rows = [{"p": processor, "e": event_id, "o": outcome, "t": now} for processor, event_id, outcome in taken]
    if rows:
        connection.execute(_TAKEN, rows)


def mark_tried(connection: Connection, tried: Iterable[tuple[str, str]]) -> None:
    """(processor, event_id) of events whose refund could not be asked for now."""
    rows = [{"p": processor, "e": event_id} for processor, event_id in tried]
    if rows:
        connection.execute(_TRIED, rows)


_THIS_EVENT = (inbox.c.processor == bindparam("p"), inbox.c.event_id == bindparam("e"))
_TAKEN = update(inbox).where(*_THIS_EVENT).values(taken_at=bindparam("t"), outcome=bindparam("o"))
_TRIED = update(inbox).where(*_THIS_EVENT).values(tries=inbox.c.tries + 1)
