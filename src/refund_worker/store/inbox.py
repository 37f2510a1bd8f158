"""The inbox of webhook events: stored raw and once, processed later. All times are epoch seconds."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import Connection, Double, Integer, RowMapping, bindparam, delete, or_, select, tuple_, update

from refund_worker.store import instructions_email
from refund_worker.store.database import insert_into
from refund_worker.store.tables import inbox


def insert_event(
    connection: Connection, processor: str, event_id: str, kind: str, body: str, received_at: float
) -> bool:
    """Store a webhook event; return False if it was stored before."""
    insert = insert_into(connection, inbox)
    row = {"processor": processor, "event_id": event_id, "kind": kind, "body": body, "received_at": received_at}
    stored = insert.values(**row).on_conflict_do_nothing().returning(inbox.c.event_id)
    return connection.execute(stored).first() is not None


_WAITING = (
    select(inbox)
    .where(
        inbox.c.taken_at.is_(None),
        inbox.c.processor.not_in(bindparam("without", expanding=True)),
        inbox.c.received_at + inbox.c.tries * inbox.c.tries * bindparam("wait", type_=Double) <= bindparam("now"),
    )
    .order_by(inbox.c.tries, inbox.c.received_at)
    .limit(bindparam("limit", type_=Integer))
)


def waiting_events(
    connection: Connection, limit: int, now: float, wait_seconds: float, *, without: Collection[str] = ()
) -> list[RowMapping]:
    """Return at most `limit` events to process now, those tried least often first; none of the processors `without`.

    The waits grow: the nth retry comes `wait_seconds` × n² after the event was received.
    """
    wanted = {"limit": limit, "now": now, "wait": wait_seconds, "without": list(without)}
    return list(connection.execute(_WAITING, wanted).mappings())


def next_try_at(row: RowMapping, wait_seconds: float) -> float:
    """Return when a waiting event is tried next."""
    at: float = row["received_at"] + row["tries"] ** 2 * wait_seconds
    return at


def mark_processed(connection: Connection, processed: Iterable[tuple[str, str, str]], now: float) -> None:
    """Mark events as processed at `now`: (processor, event_id, outcome). Their bodies lose the customers' addresses.

    Only the ids in a body are read again, and its signature was verified when it arrived. An event can come long after
    the address of its refund was erased, so the address does not wait for that.
    """
    processed = list(processed)
    rows = [
        {"for_processor": processor, "for_event": event_id, "its_outcome": outcome, "processed_at": now}
        for processor, event_id, outcome in processed
    ]
    if rows:
        connection.execute(_PROCESSED, rows)
        _erase_addresses(connection, [(processor, event_id) for processor, event_id, _ in processed])


def _erase_addresses(connection: Connection, names: Collection[tuple[str, str]]) -> None:
    found = [
        {"for_processor": processor, "for_event": event_id, "clean": instructions_email.without_fields(body)}
        for processor, event_id, body in connection.execute(_WITH_ADDRESS, {"names": list(names)})
    ]
    if found:
        connection.execute(_CLEANED, found)


def mark_tried(connection: Connection, tried: Iterable[tuple[str, str]]) -> None:
    """Count one more try for events whose refund object could not be fetched now: (processor, event_id)."""
    rows = [{"for_processor": processor, "for_event": event_id} for processor, event_id in tried]
    if rows:
        connection.execute(_TRIED, rows)


_THIS_EVENT = (inbox.c.processor == bindparam("for_processor"), inbox.c.event_id == bindparam("for_event"))
_PROCESSED = (
    update(inbox).where(*_THIS_EVENT).values(taken_at=bindparam("processed_at"), outcome=bindparam("its_outcome"))
)
_CLEANED = update(inbox).where(*_THIS_EVENT).values(body=bindparam("clean"))
_WITH_ADDRESS = select(inbox.c.processor, inbox.c.event_id, inbox.c.body).where(
    tuple_(inbox.c.processor, inbox.c.event_id).in_(bindparam("names", expanding=True)),
    or_(*(inbox.c.body.contains(name) for name in instructions_email.FIELDS)),
)
_TRIED = update(inbox).where(*_THIS_EVENT).values(tries=inbox.c.tries + 1)


def delete_processed(connection: Connection, before: float, limit: int) -> int:
    """Delete at most `limit` of the oldest processed events received before `before`; return how many."""
    key = tuple_(inbox.c.processor, inbox.c.event_id)
    done = (inbox.c.received_at < before, inbox.c.taken_at.is_not(None))
    old = select(inbox.c.processor, inbox.c.event_id).where(*done).order_by(inbox.c.received_at).limit(limit)
    return connection.execute(delete(inbox).where(key.in_(old), *done)).rowcount
