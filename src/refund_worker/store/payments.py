"""Payments as recorded. The amounts that refunds have taken of them are in `accounts`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, fields

from sqlalchemy import Connection, select, update

from refund_worker.batching import batched
from refund_worker.domain.records import PaymentRecord
from refund_worker.store import snapshots
from refund_worker.store.database import IDS_AT_ONCE
from refund_worker.store.tables import payments

_COLUMNS = [payments.c[field.name] for field in fields(PaymentRecord)]


def payments_by_id(connection: Connection, payment_ids: Collection[str]) -> dict[str, PaymentRecord]:
    """Return the recorded payments among these ids, by id."""
    query = select(*_COLUMNS).where(payments.c.payment_id.in_(payment_ids))
    return {row["payment_id"]: PaymentRecord(**row) for row in connection.execute(query).mappings()}


def list_payments(
    connection: Connection, customer_id: str | None, *, limit: int, after: str | None = None
) -> list[PaymentRecord]:
    """Return payments by id, those of one customer if it is given; `after` is the last id already seen."""
    p = payments.c
    query = select(*_COLUMNS).order_by(p.payment_id).limit(limit)
    if customer_id is not None:
        query = query.where(p.customer_id == customer_id)
    if after is not None:
        query = query.where(p.payment_id > after)
    return [PaymentRecord(**row) for row in connection.execute(query).mappings()]


def owners(connection: Connection, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return the payment_id by (processor, processor_payment_id), for those that are recorded."""
    p = payments.c
    query = select(p.processor, p.processor_payment_id, p.payment_id).where(
        p.processor_payment_id.in_({processor_payment_id for _, processor_payment_id in wanted})
    )
    return {(row[0], row[1]): row[2] for row in connection.execute(query)}


def insert_payments(connection: Connection, records: Sequence[PaymentRecord], now: float) -> None:
    """Insert payments of which nothing is taken yet. Raises `IntegrityError` if one is recorded already."""
    if records:
        rows = [asdict(record) | {"created_at": now, "credits_taken": 0, "money_taken": 0} for record in records]
        connection.execute(payments.insert(), rows)
        snapshots.take(connection, [("payments", row) for row in rows])


def mark_refunded_elsewhere(connection: Connection, processor: str, payment_refs: Iterable[str]) -> None:
    """Mark payments that others refunded, by any of the processor's ids for them; unknown ones are skipped."""
    p = payments.c
    for chunk in batched(payment_refs, IDS_AT_ONCE):
        these = (p.processor == processor, p.processor_payment_id.in_(chunk), p.refunded_elsewhere.is_(False))
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
    """Return the payment that the processor knows by this id, or None if it is not recorded."""
    p = payments.c
    query = select(*_COLUMNS).where(p.processor == processor, p.processor_payment_id == processor_payment_id)
    row = connection.execute(query).mappings().first()
    return PaymentRecord(**row) if row else None
