"""Sums of our ledger that are compared with the processor's records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection, RowMapping, exists, func, or_, select

from refund_worker.batching import batched
from refund_worker.domain.decision_builder import MANUAL_PREFIX
from refund_worker.domain.refund import MISMATCH_SEPARATOR, LegStatus
from refund_worker.domain.state_machine import FINAL_LEGS, LegOutcome
from refund_worker.store.database import IDS_AT_ONCE, insert_into
from refund_worker.store.tables import (
    events,
    last_reconciliations,
    ledger_entries,
    ledger_transactions,
    legs,
    refund_objects,
    refunds,
)

ENDED_BY_A_PERSON = (f"leg_{LegOutcome.PAID_MANUALLY}", f"leg_{LegOutcome.ABANDONED}")


def record(connection: Connection, processor: str, at: float, *, compared: int, differences: int) -> None:
    """Record the latest comparison with the records of `processor`."""
    values = {"at": at, "compared": compared, "differences": differences}
    insert = insert_into(connection, last_reconciliations).values(processor=processor, **values)
    connection.execute(insert.on_conflict_do_update(index_elements=["processor"], set_=values))


def latest(connection: Connection) -> dict[str, RowMapping]:
    """Return the latest comparison of each processor (at, compared, differences), by the processor's name."""
    query = select(last_reconciliations)
    return {row["processor"]: row for row in connection.execute(query).mappings()}


def money_by_leg(connection: Connection, leg_ids: Iterable[str]) -> dict[tuple[str, str], int]:
    """Return the minor units that the ledger paid out through a processor, net of returns, by leg and currency."""
    t, e = ledger_transactions.c, ledger_entries.c
    query = (
        select(t.refers_to, e.unit, -func.sum(e.amount))
        .join(ledger_entries, e.transaction_id == t.transaction_id)
        .where(t.kind.in_(("payout", "payout_reversal")), e.account.startswith("processor:"))
        .group_by(t.refers_to, e.unit)
    )
    found: dict[tuple[str, str], int] = {}
    for chunk in batched(leg_ids, IDS_AT_ONCE):
        rows = connection.execute(query.where(t.refers_to.in_(chunk)))
        found |= {(leg_id, currency): int(amount) for leg_id, currency, amount in rows}
    return found


class RecordedLeg(NamedTuple):
    """A leg as our records have it, with its customer. `paid_by` is what pays it (`Leg.processor_refund_id`)."""

    leg_id: str
    refund_id: str
    customer_id: str
    payment_id: str
    processor_payment_id: str
    status: str
    amount_minor: int
    currency: str
    paid_by: str | None


_LEGS = select(
    legs.c.leg_id,
    legs.c.refund_id,
    refunds.c.customer_id,
    legs.c.payment_id,
    legs.c.processor_payment_id,
    legs.c.status,
    legs.c.amount_minor,
    legs.c.currency,
    legs.c.processor_refund_id,
).join(refunds, refunds.c.refund_id == legs.c.refund_id)


def recorded_legs(connection: Connection, leg_ids: Iterable[str]) -> dict[str, RecordedLeg]:
    """Return these legs by id."""
    found: dict[str, RecordedLeg] = {}
    for chunk in batched(leg_ids, IDS_AT_ONCE):
        found |= {row[0]: RecordedLeg(*row) for row in connection.execute(_LEGS.where(legs.c.leg_id.in_(chunk)))}
    return found


def paid_legs_without_object(
    connection: Connection, processor: str, since: float, until: float | None, *, after: str, limit: int
) -> list[RecordedLeg]:
    """Return legs that a processor paid and for which no refund object is recorded, by id, after the id `after`.

    They were last sent in this time (epoch seconds). Legs that were paid manually have no object.
    """
    no_object = ~exists().where(refund_objects.c.leg_id == legs.c.leg_id)
    query = _LEGS.where(
        legs.c.leg_id > after,
        legs.c.processor == processor,
        legs.c.status == LegStatus.SUCCEEDED,
        legs.c.amount_minor > 0,
        legs.c.last_sent_at >= since,
        or_(legs.c.processor_refund_id.is_(None), ~legs.c.processor_refund_id.startswith(MANUAL_PREFIX)),
        no_object,
    )
    if until is not None:
        query = query.where(legs.c.last_sent_at < until)
    return [RecordedLeg(*row) for row in connection.execute(query.order_by(legs.c.leg_id).limit(limit))]


def is_paid_without_object(connection: Connection, leg_id: str) -> bool:
    """Return True if a leg is paid and no refund object is recorded for it."""
    no_object = ~exists().where(refund_objects.c.leg_id == legs.c.leg_id)
    query = select(legs.c.leg_id).where(legs.c.leg_id == leg_id, legs.c.status == LegStatus.SUCCEEDED, no_object)
    return connection.execute(query).first() is not None


class ObjectRow(NamedTuple):
    """A refund object as our records have it; `state` is None if it was never applied to its leg."""

    object_id: str
    leg_id: str
    state: str | None
    status: str | None
    amount_minor: int


def recorded_objects(connection: Connection, processor: str, leg_ids: Iterable[str]) -> list[ObjectRow]:
    """Return the refund objects that are recorded for these legs."""
    o = refund_objects.c
    query = select(o.processor_refund_id, o.leg_id, o.state, o.status, o.amount_minor)
    found: list[ObjectRow] = []
    for chunk in batched(leg_ids, IDS_AT_ONCE):
        rows = connection.execute(query.where(o.processor == processor, o.leg_id.in_(chunk)))
        found += [ObjectRow(*row) for row in rows]
    return found


def objects_made_between(
    connection: Connection, processor: str, low: float | None, high: float | None, *, since: float
) -> list[str]:
    """Return ids of recorded objects that were created after `low` and until `high`, or since `since` without `low`.

    The times are the processor's, in epoch seconds; without `high` there is no end.
    """
    o = refund_objects.c
    query = select(o.processor_refund_id).where(o.processor == processor)
    query = query.where(o.created_at >= since if low is None else o.created_at > low)
    if high is not None:
        query = query.where(o.created_at <= high)
    return list(connection.execute(query.order_by(o.created_at, o.processor_refund_id)).scalars())


def customers_of_legs(connection: Connection, leg_ids: Iterable[str]) -> dict[str, str]:
    """Return the customer id by leg id."""
    found: dict[str, str] = {}
    for chunk in batched(leg_ids, IDS_AT_ONCE):
        query = select(legs.c.leg_id, refunds.c.customer_id).join(refunds, refunds.c.refund_id == legs.c.refund_id)
        found |= {row[0]: row[1] for row in connection.execute(query.where(legs.c.leg_id.in_(chunk)))}
    return found


def count_open_legs(connection: Connection, processor: str) -> int:
    """Return how many legs of an account have not ended: their amounts may differ for now."""
    open_ones = legs.c.status.not_in(FINAL_LEGS), legs.c.processor == processor
    query = select(func.count()).select_from(legs).where(*open_ones)
    return connection.execute(query).scalar_one()


def resolved_objects(connection: Connection, processor: str, ids: Iterable[str]) -> frozenset[str]:
    """Return those refund objects that were known to be mismatched when a person ended their leg."""
    o, e = refund_objects.c, events.c
    query = (
        select(o.processor_refund_id)
        .join(legs, legs.c.leg_id == o.leg_id)
        .join(events, (e.refund_id == legs.c.refund_id) & (e.leg_id == o.leg_id))
        .where(
            o.processor == processor,
            o.status.contains(MISMATCH_SEPARATOR),
            e.kind.in_(ENDED_BY_A_PERSON),
            e.at >= o.seen_at,
        )
    )
    found: list[str] = []
    for chunk in batched(ids, IDS_AT_ONCE):
        found += connection.execute(query.where(o.processor_refund_id.in_(chunk))).scalars()
    return frozenset(found)
