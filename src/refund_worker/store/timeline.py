"""The timelines of refunds: append-only events."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import Connection, RowMapping, or_, select

from refund_worker.domain.decision import Event
from refund_worker.domain.payouts.transfers import Fault
from refund_worker.store.tables import event_subjects, events, payout_legs

STOPPED = "payout_needs_attention"  # its reason is the code of a step


def insert_events(connection: Connection, rows: Iterable[tuple[str | None, Event]], now: float) -> None:
    """Append events at `now` (epoch seconds): (refund_id, event) pairs.

    An event without a refund is about a processor's switch or a link between persons.
    """
    values = [_row(refund_id, event, now) for refund_id, event in rows]
    if values:
        connection.execute(events.insert(), values)


def _row(refund_id: str | None, event: Event, now: float) -> dict[str, Any]:
    return {
        "refund_id": refund_id,
        "at": now,
        "actor": event.actor,
        "kind": event.kind,
        "leg_id": event.leg_id,
        "from_status": event.from_status,
        "to_status": event.to_status,
        "reason": event.reason,
        "detail": json.dumps(event.detail, sort_keys=True) if event.detail else "{}",
        "alarm": event.alarm,
    }


def events_of(connection: Connection, refund_id: str) -> list[RowMapping]:
    """Return the refund's timeline, oldest first."""
    query = select(events).where(events.c.refund_id == refund_id).order_by(events.c.seq)
    return list(connection.execute(query).mappings())


def has_event(connection: Connection, refund_id: str, kind: str, since: float) -> bool:
    """Return True if the refund's timeline has an event of this kind after `since` (epoch seconds)."""
    query = select(events.c.seq).where(events.c.refund_id == refund_id, events.c.kind == kind, events.c.at > since)
    return connection.execute(query.limit(1)).first() is not None


def insert_events_about(connection: Connection, rows: Iterable[tuple[str, Event]], now: float) -> None:
    """Append events at `now` (epoch seconds) that are about a payout or a payee: (its id, event) pairs.

    The event's own detail names it too, because only that is sealed.
    """
    pairs = list(rows)
    if not pairs:
        return
    insert = events.insert().returning(events.c.seq, sort_by_parameter_order=True)
    seqs = connection.execute(insert, [_row(None, event, now) for _, event in pairs]).scalars().all()
    subjects = [{"seq": seq, "subject_id": id} for seq, (id, _) in zip(seqs, pairs, strict=True)]
    connection.execute(event_subjects.insert(), subjects)


def details_about(connection: Connection, subject_ids: Collection[str], kind: str) -> dict[str, Any]:
    """Return the detail of the first event of this kind about each of these payouts or payees, by its id."""
    subject = event_subjects.c
    query = (
        select(subject.subject_id, events.c.detail)
        .join(events, events.c.seq == subject.seq)
        .where(subject.subject_id.in_(sorted(subject_ids)), events.c.kind == kind)
        .order_by(subject.seq.desc())
    )
    return {row[0]: json.loads(row[1]) for row in connection.execute(query)} if subject_ids else {}


def events_about(connection: Connection, subject_id: str) -> list[RowMapping]:
    """Return the timeline of a payout or a payee, oldest first."""
    query = select(events).join(event_subjects, event_subjects.c.seq == events.c.seq)
    return list(
        connection.execute(query.where(event_subjects.c.subject_id == subject_id).order_by(events.c.seq)).mappings()
    )


def about_compliance(connection: Connection, seqs: Collection[int]) -> set[int]:
    """Return those of these events that are about a step of a payout that a compliance outcome stopped."""
    subject = event_subjects.c
    query = (
        select(subject.seq)
        .join(events, events.c.seq == subject.seq)
        .join(payout_legs, payout_legs.c.payout_id == subject.subject_id)
        .where(subject.seq.in_(sorted(seqs)), payout_legs.c.fault == Fault.COMPLIANCE)
        .where(or_(events.c.leg_id.is_not(None), events.c.kind == STOPPED))
    )
    return set(connection.execute(query).scalars()) if seqs else set()
