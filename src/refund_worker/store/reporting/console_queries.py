"""Queries that only the console needs. Each is bounded, by an index or by its limit."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, RowMapping, func, select

from refund_worker.store.tables import (
    IN_FLIGHT,
    attempts,
    events,
    inbox,
    ledger_transactions,
    legs,
    payments,
    refund_objects,
    refunds,
    transaction_rooms,
)

# From this number on a figure says "or more": counting rows that only grow would slow a page down for ever.
COUNTED_MAX = 1_000


def taken_of_transactions(connection: Connection, transaction_ids: Collection[str]) -> dict[str, RowMapping]:
    """Return how many credits of these transactions are taken and if they were reversed, by transaction id."""
    query = select(transaction_rooms).where(transaction_rooms.c.transaction_id.in_(transaction_ids))
    return {row["transaction_id"]: row for row in connection.execute(query).mappings()}


def reversed_among(connection: Connection, transaction_ids: Collection[str]) -> set[str]:
    """Return those of these transactions to which a reversal refers."""
    t = ledger_transactions.c
    query = select(t.refers_to).where(t.refers_to.in_(transaction_ids), t.kind == "reversal")
    return {row[0] for row in connection.execute(query)}


def refunds_of_transaction(connection: Connection, transaction_id: str, *, limit: int) -> list[str]:
    """Return ids of refunds that returned credits of it, newest first; refunds not yet posted are missing."""
    t = ledger_transactions.c
    query = select(t.refund_id).where(t.refers_to == transaction_id, t.kind == "credit_refund")
    return list(connection.execute(query.order_by(t.seq.desc()).limit(limit)).scalars())


def payouts_of(connection: Connection, correction_ids: Collection[str]) -> dict[str, str]:
    """Return, by correction id, the latest refund that pays the correction out."""
    t = ledger_transactions.c
    query = select(t.refers_to, t.refund_id).where(t.refers_to.in_(correction_ids), t.kind == "assignment")
    return {row[0]: row[1] for row in connection.execute(query.order_by(t.seq))}


def refunds_with_legs(connection: Connection, refund_ids: Collection[str]) -> set[str]:
    """Return those of the refunds that have legs: money is or was requested for them."""
    query = select(legs.c.refund_id).where(legs.c.refund_id.in_(refund_ids)).distinct()
    return set(connection.execute(query).scalars())


def latest_payments(connection: Connection, customer_id: str) -> list[RowMapping]:
    """Return the customer's latest payments (at most 50), newest first."""
    p = payments.c
    query = select(payments).where(p.customer_id == customer_id).order_by(p.captured_at.desc(), p.payment_id)
    return list(connection.execute(query.limit(50)).mappings())


def attempts_of(connection: Connection, refund_id: str) -> list[RowMapping]:
    """Return every attempt of the refund's legs with the frozen body and its outcome."""
    query = (
        select(attempts, legs.c.payment_id, legs.c.processor)
        .join(legs, legs.c.leg_id == attempts.c.leg_id)
        .where(legs.c.refund_id == refund_id)
        .order_by(attempts.c.leg_id, attempts.c.number)
    )
    return list(connection.execute(query).mappings())


def objects_of(connection: Connection, refund_id: str) -> list[RowMapping]:
    """Return the refund objects of the refund, as the processors reported them."""
    query = (
        select(refund_objects)
        .join(legs, legs.c.leg_id == refund_objects.c.leg_id)
        .where(legs.c.refund_id == refund_id)
        .order_by(refund_objects.c.created_at)
    )
    return list(connection.execute(query).mappings())


def ids_by_failure(connection: Connection, status: str, failure_code: str | None, *, limit: int) -> list[str]:
    """Return the oldest refunds with this status and failure code, by id."""
    r = refunds.c
    code = r.failure_code.is_(None) if failure_code is None else r.failure_code == failure_code
    query = select(r.refund_id).where(r.status == status, code).order_by(r.refund_id).limit(limit)
    return list(connection.execute(query).scalars())


def last_event(connection: Connection) -> int:
    """Return the highest `seq` of the timelines; 0 if they are empty."""
    seq: int = connection.execute(select(func.coalesce(func.max(events.c.seq), 0))).scalar_one()
    return seq


def refunds_of_events(connection: Connection, first: int, last: int, *, actor: str, kind: str) -> list[str]:
    """Return ids of refunds that have an event of this actor and kind with first <= seq <= last."""
    e = events.c
    query = select(e.refund_id).where(e.seq.between(first, last), e.actor == actor, e.kind == kind).distinct()
    return sorted(connection.execute(query).scalars())


def statuses_of(connection: Connection, refund_ids: Collection[str]) -> dict[str, int]:
    """Return the number of these refunds by status."""
    query = select(refunds.c.status, func.count()).where(refunds.c.refund_id.in_(refund_ids)).group_by(refunds.c.status)
    return {row[0]: row[1] for row in connection.execute(query)}


def money_in_flight(connection: Connection) -> list[tuple[str, int, int]]:
    """Return (currency, refunds, minor units) of legs whose money is requested or planned and not confirmed.

    An index of these legs alone serves this query.
    """
    of_each = (
        select(legs.c.currency, legs.c.refund_id, func.sum(legs.c.amount_minor).label("minor"))
        .where(IN_FLIGHT)
        .group_by(legs.c.currency, legs.c.refund_id)
        .subquery()
    )
    currency = of_each.c.currency
    query = select(currency, func.count(), func.sum(of_each.c.minor)).group_by(currency).order_by(currency)
    return [(row[0], row[1], int(row[2])) for row in connection.execute(query)]


# Events that are read to find when money last went out.
LATEST_EVENTS = 5_000


def last_paid_at(connection: Connection) -> float | None:
    """Return when a processor last confirmed that it paid, among the latest `LATEST_EVENTS` events, or None."""
    e = events.c
    newest = select(func.coalesce(func.max(events.alias().c.seq), 0)).scalar_subquery()
    query = select(e.at).where(e.seq > newest - LATEST_EVENTS, e.kind == "leg_paid")
    at: float | None = connection.execute(query.order_by(e.seq.desc()).limit(1)).scalar()
    return at


# Webhook events among which a filter searches. Not all: most filters have no index.
EVENTS_SEARCHED = 1_000


def latest_events(
    connection: Connection,
    limit: int,
    *,
    kind: str | None = None,
    outcomes: Collection[str] | None = None,
    waiting: bool = False,
) -> list[RowMapping]:
    """Return the latest webhook events of the inbox, newest first.

    A filter searches the latest `EVENTS_SEARCHED`: `outcomes` are the stored results to show. `waiting` asks for events
    that are not processed yet, however old.
    """
    c, query = inbox.c, select(inbox)
    if waiting:
        query = query.where(c.taken_at.is_(None))
    elif kind is not None or outcomes is not None:
        latest = select(c.received_at).order_by(c.received_at.desc()).limit(EVENTS_SEARCHED).subquery()
        query = query.where(c.received_at >= select(func.min(latest.c.received_at)).scalar_subquery())
    if kind is not None:
        query = query.where(c.kind == kind)
    if outcomes is not None:
        query = query.where(c.outcome.in_(outcomes))
    return list(connection.execute(query.order_by(c.received_at.desc()).limit(limit)).mappings())


def kinds_of_events(connection: Connection) -> list[str]:
    """Return the kinds of the latest `EVENTS_SEARCHED` webhook events, sorted."""
    latest = select(inbox.c.kind).order_by(inbox.c.received_at.desc()).limit(EVENTS_SEARCHED).subquery()
    return sorted(connection.execute(select(latest.c.kind).distinct()).scalars())


def processors_of_payments(connection: Connection) -> dict[str, int]:
    """Return the number of payments by processor, counted up to `COUNTED_MAX`."""
    p = payments.c
    found: dict[str, int] = {}
    # Step from name to name through the index: there are few processors and many payments.
    name = connection.execute(select(func.min(p.processor))).scalar()
    while name is not None:
        counted = select(p.processor_payment_id).where(p.processor == name).limit(COUNTED_MAX).subquery()
        found[name] = connection.execute(select(func.count()).select_from(counted)).scalar_one()
        name = connection.execute(select(func.min(p.processor)).where(p.processor > name)).scalar()
    return found
