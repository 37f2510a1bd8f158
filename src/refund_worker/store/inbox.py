"""Events as processors sent them: stored raw and once, taken in later."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, Double, Integer, RowMapping, bindparam, delete, select, tuple_, update

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
    .where(
        inbox.c.taken_at.is_(None),
        inbox.c.received_at + inbox.c.tries * inbox.c.tries * bindparam("wait", type_=Double) <= bindparam("now"),
    )
    .order_by(inbox.c.tries, inbox.c.received_at)
    .limit(bindparam("limit", type_=Integer))
)


def waiting_events(connection: Connection, limit: int, now: float, wait_seconds: float) -> list[RowMapping]:
    """Events to be taken in now, those tried least often first. The waits grow: the nth try comes `wait_seconds` × n²
    after the event was received."""
    wanted = {"limit": limit, "now": now, "wait": wait_seconds}
    return list(connection.execute(_WAITING, wanted).mappings())


def mark_processed(connection: Connection, taken: Iterable[tuple[str, str, str]], now: float) -> None:
    """(processor, event_id, outcome) of events that are done with."""
    rows = [{"p": processor, "e": event_id, "o": outcome, "t": now} for processor, event_id, outcome in taken]
    if rows:
        connection.execute(_PROCESSED, rows)


def mark_tried(connection: Connection, tried: Iterable[tuple[str, str]]) -> None:
    """(processor, event_id) of events whose refund could not be asked for now."""
    rows = [{"p": processor, "e": event_id} for processor, event_id in tried]
    if rows:
        connection.execute(_TRIED, rows)


_THIS_EVENT = (inbox.c.processor == bindparam("p"), inbox.c.event_id == bindparam("e"))
_PROCESSED = update(inbox).where(*_THIS_EVENT).values(taken_at=bindparam("t"), outcome=bindparam("o"))
_TRIED = update(inbox).where(*_THIS_EVENT).values(tries=inbox.c.tries + 1)


def delete_processed(connection: Connection, before: float, limit: int) -> int:
    """Delete the oldest of those received before then that were taken in; returns how many."""
    key = tuple_(inbox.c.processor, inbox.c.event_id)
    done = (inbox.c.received_at < before, inbox.c.taken_at.is_not(None))
    old = select(inbox.c.processor, inbox.c.event_id).where(*done).order_by(inbox.c.received_at).limit(limit)
    return connection.execute(delete(inbox).where(key.in_(old), *done)).rowcount
