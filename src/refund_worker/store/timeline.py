"""The timelines of refunds: append-only events."""

from __future__ import annotations

import json
from collections.abc import Iterable

from sqlalchemy import Connection, RowMapping, select

from refund_worker.domain.decision import Event
from refund_worker.store.tables import events


def insert_events(connection: Connection, rows: Iterable[tuple[str | None, Event]], now: float) -> None:
    """Append events at `now` (epoch seconds): (refund_id, event) pairs.

    An event without a refund is about a processor's switch or a link between persons.
    """
    values = [
        {
            "refund_id": refund_id,
            "at": now,
            "actor": e.actor,
            "kind": e.kind,
            "leg_id": e.leg_id,
            "from_status": e.from_status,
            "to_status": e.to_status,
            "reason": e.reason,
            "detail": json.dumps(e.detail, sort_keys=True) if e.detail else "{}",
            "alarm": e.alarm,
        }
        for refund_id, e in rows
    ]
    if values:
        connection.execute(events.insert(), values)


def events_of(connection: Connection, refund_id: str) -> list[RowMapping]:
    """Return the refund's timeline, oldest first."""
    query = select(events).where(events.c.refund_id == refund_id).order_by(events.c.seq)
    return list(connection.execute(query).mappings())


def has_event(connection: Connection, refund_id: str, kind: str, since: float) -> bool:
    """Return True if the refund's timeline has an event of this kind after `since` (epoch seconds)."""
    query = select(events.c.seq).where(events.c.refund_id == refund_id, events.c.kind == kind, events.c.at > since)
    return connection.execute(query.limit(1)).first() is not None
