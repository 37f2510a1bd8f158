"""Payments as recorded. The amounts that refunds have taken of them are in `accounts`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, and_, or_, select, update

from refund_worker.batching import batched
from refund_worker.domain.claims.claim import ClaimKind
from refund_worker.domain.processor_calls import SharesBack
from refund_worker.domain.records import PaymentRecord
from refund_worker.store import snapshots
from refund_worker.store.database import IDS_AT_ONCE
from refund_worker.store.payment_refs import at_processors, payments_of_refs, processor_names
from refund_worker.store.tables import claim_refs, claims, payments

_COLUMNS = [payments.c[field.name] for field in fields(PaymentRecord) if field.name != "asked_account"]


def payments_by_id(connection: Connection, payment_ids: Collection[str]) -> dict[str, PaymentRecord]:
    """Return the recorded payments among these ids, by id."""
    query = select(*_COLUMNS).where(payments.c.payment_id.in_(payment_ids))
    return {row["payment_id"]: PaymentRecord(**row) for row in connection.execute(query).mappings()}


def list_payments(
    connection: Connection,
    customer_id: str | None,
    *,
    limit: int,
    after: str | None = None,
    processor_payment_id: str | None = None,
) -> list[PaymentRecord]:
    """Return payments by id, those of one customer if it is given; `after` is the last id already seen.

    With `processor_payment_id` those that a processor knows by this id: the open one, by any of its ids, and closed
    ones that were recorded with it.
    """
    p = payments.c
    query = select(*_COLUMNS).order_by(p.payment_id).limit(limit)
    if customer_id is not None:
        query = query.where(p.customer_id == customer_id)
    if after is not None:
        query = query.where(p.payment_id > after)
    if processor_payment_id is not None:
        recorded, named = at_processors(processor_names(connection), processor_payment_id)
        query = query.where(p.payment_id.in_(recorded.union(named)))
    return [PaymentRecord(**row) for row in connection.execute(query).mappings()]


def insert_payments(connection: Connection, records: Sequence[PaymentRecord], now: float) -> None:
    """Insert payments of which nothing is taken yet. Raises `IntegrityError` if one is recorded already."""
    if records:
        rows = [_row(record) | {"created_at": now, "credits_taken": 0, "money_taken": 0} for record in records]
        connection.execute(payments.insert(), rows)
        snapshots.take(connection, [("payments", row) for row in rows])


def _row(record: PaymentRecord) -> dict[str, Any]:
    row = asdict(record)
    del row["asked_account"]
    return row


def shares_back(connection: Connection, payment_ids: Collection[str]) -> dict[str, SharesBack]:
    """Return whose shares the refunds of these payments take back, by payment_id, for those that say so."""
    p = payments.c
    given = or_(p.connect_reverse_transfer.is_not(None), p.connect_refund_application_fee.is_not(None))
    query = select(p.payment_id, p.connect_reverse_transfer, p.connect_refund_application_fee, p.connect_account).where(
        given
    )
    found = {}
    for chunk in batched(sorted(payment_ids), IDS_AT_ONCE):
        for payment_id, *shares in connection.execute(query.where(p.payment_id.in_(chunk))):
            found[payment_id] = SharesBack(*shares)
    return found


def closed_at(connection: Connection, payment_id: str) -> float | None:
    """Return the time when the payment was closed (epoch seconds), or None."""
    return connection.execute(select(payments.c.closed_at).where(payments.c.payment_id == payment_id)).scalar()


def closings(connection: Connection, payment_ids: Collection[str]) -> dict[str, tuple[float, str]]:
    """Return (time in epoch seconds, reason) of those payments that were closed, by id. An erased reason is empty."""
    p, c = payments.c, claims.c
    its_claim = and_(c.payment_id == p.payment_id, c.kind == ClaimKind.CLOSE)
    query = select(p.payment_id, p.closed_at, c.reason).join(claims, its_claim, isouter=True)
    found: dict[str, tuple[float, str]] = {}
    for chunk in batched(payment_ids, IDS_AT_ONCE):
        rows = connection.execute(query.where(p.payment_id.in_(chunk), p.closed_at.is_not(None)))
        found |= {payment_id: (at, reason or "") for payment_id, at, reason in rows}
    return found


def closed_under(connection: Connection, processor: str, refs: Iterable[str]) -> set[tuple[str, str, str]]:
    """Return (ref, payment_id, customer_id) of the closed payments that had one of these ids of the processor.

    A closed payment has only the id by which it was recorded. Its other names are those of the claim that closed it.
    """
    p, r = payments.c, claim_refs.c
    recorded = select(p.processor_payment_id, p.payment_id, p.customer_id).where(
        p.processor == processor, p.closed_at.is_not(None)
    )
    named = (
        select(r.ref, p.payment_id, p.customer_id)
        .join(claims, and_(claims.c.claim_id == r.claim_id, claims.c.kind == ClaimKind.CLOSE))
        .join(payments, p.payment_id == claims.c.payment_id)
        .where(r.processor == processor)
    )
    found: set[tuple[str, str, str]] = set()
    for chunk in batched(sorted(set(refs)), IDS_AT_ONCE):
        query = recorded.where(p.processor_payment_id.in_(chunk)).union(named.where(r.ref.in_(chunk)))
        found |= {(row[0], row[1], row[2]) for row in connection.execute(query)}
    return found


def mark_closed(connection: Connection, payment_id: str, now: float) -> None:
    """Mark the payment as closed, so that no refund goes over it any more."""
    connection.execute(update(payments).where(payments.c.payment_id == payment_id).values(closed_at=now))


def mark_refunded_elsewhere(connection: Connection, processor: str, payment_refs: Iterable[str]) -> None:
    """Mark payments that others refunded, by any of the processor's ids for them; unknown ones are skipped."""
    p = payments.c
    named = payments_of_refs(connection, processor, payment_refs)
    for chunk in batched(sorted(set(named.values())), IDS_AT_ONCE):
        these = (p.payment_id.in_(chunk), p.refunded_elsewhere.is_(False))
        connection.execute(update(payments).where(*these).values(refunded_elsewhere=True))


def refunded_elsewhere(connection: Connection, payment_ids: Collection[str]) -> frozenset[str]:
    """Return which of these payments are known to have been refunded by others."""
    p = payments.c
    found: list[str] = []
    for chunk in batched(payment_ids, IDS_AT_ONCE):
        query = select(p.payment_id).where(p.payment_id.in_(chunk), p.refunded_elsewhere.is_(True))
        found += connection.execute(query).scalars()
    return frozenset(found)


def find_at_processor(connection: Connection, processor: str, processor_payment_id: str) -> PaymentRecord | None:
    """Return the open payment that the processor knows by this id, or None if it is not recorded."""
    found = payments_of_refs(connection, processor, [processor_payment_id])
    return next(iter(payments_by_id(connection, list(found.values())).values()), None)


def captured_between(
    connection: Connection, processor: str, since: float, until: float | None, *, after: str, limit: int
) -> list[PaymentRecord]:
    """Return open payments of a processor that were captured in this time, by id, after the id `after`."""
    p = payments.c
    query = select(*_COLUMNS).where(
        p.payment_id > after, p.processor == processor, p.captured_at >= since, p.closed_at.is_(None)
    )
    if until is not None:
        query = query.where(p.captured_at < until)
    rows = connection.execute(query.order_by(p.payment_id).limit(limit)).mappings()
    return [PaymentRecord(**row) for row in rows]
