"""The ledger: append-only. A posting's id says what it is for, so the same posting cannot be written twice."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    and_,
    bindparam,
    case,
    exists,
    literal,
    null,
    select,
    tuple_,
)

from refund_worker.domain.ledger import SHOWN_TO_CUSTOMERS, EntryKind, Posting, Purpose
from refund_worker.store.tables import (
    CORRECTIONS,
    ledger_entries,
    ledger_transactions,
    payee_entries,
    transaction_rooms,
)


def insert_postings(connection: Connection, postings: Sequence[Posting]) -> None:
    """Append all postings. Raises `IntegrityError` if an id exists, which rolls the transaction back."""
    if not postings:
        return
    connection.execute(
        ledger_transactions.insert(),
        [
            {
                "transaction_id": p.transaction_id,
                "customer_id": p.customer_id,
                "kind": p.kind,
                "credits": p.credits,
                "refers_to": p.refers_to,
                "refund_id": p.refund_id,
                "description": p.description,
                "occurred_at": p.occurred_at,
                "actor": p.actor,
            }
            for p in postings
        ],
    )
    entries = [
        {"transaction_id": p.transaction_id, "account": e.account, "unit": e.unit, "amount": e.amount}
        for p in postings
        for e in p.entries
    ]
    if entries:
        connection.execute(ledger_entries.insert(), entries)
    of_payees = [
        {"transaction_id": p.transaction_id, "occurred_at": p.occurred_at, **asdict(p.payee)}
        for p in postings
        if p.payee
    ]
    if of_payees:
        connection.execute(payee_entries.insert(), of_payees)


_t, _r = ledger_transactions.c, transaction_rooms.c
_IS_REFUNDABLE = exists().where(_r.transaction_id == _t.transaction_id)
# The purpose of a correction, null for other entries. Only a correction to be paid out is a refundable transaction; the
# program's own corrections, of a refund that was paid after all, are none.
PURPOSE = case(
    (_t.kind == EntryKind.EXPIRY, literal(Purpose.EXPIRY.value)),
    (_t.kind != EntryKind.CORRECTION, null()),
    (and_(_t.credits < 0, _IS_REFUNDABLE), literal(Purpose.PAYOUT.value)),
    else_=literal(Purpose.OTHER.value),
).label("purpose")
_BY_ID = select(ledger_transactions, PURPOSE).where(
    ledger_transactions.c.transaction_id.in_(bindparam("transaction_ids", expanding=True))
)


def transactions_by_id(connection: Connection, transaction_ids: Iterable[str]) -> dict[str, RowMapping]:
    """Return the ledger transactions among these ids, by id."""
    rows = connection.execute(_BY_ID, {"transaction_ids": list(transaction_ids)}).mappings()
    return {row["transaction_id"]: row for row in rows}


def first_about(connection: Connection, transaction_ids: Collection[str], refers_to: str) -> str | None:
    """Return the id of the oldest of these ledger transactions that refers to this id, or None."""
    t = ledger_transactions.c
    query = select(t.transaction_id).where(t.transaction_id.in_(transaction_ids), t.refers_to == refers_to)
    return connection.execute(query.order_by(t.seq).limit(1)).scalar()


def is_erased(row: RowMapping) -> bool:
    """Return True if the entry's description was erased: the salt of its hash goes with it."""
    return row["salt"] is None and row["description"] == ""


def transactions_of(
    connection: Connection, customer_ids: Collection[str], *, limit: int, after: str | None = None
) -> list[RowMapping]:
    """Return at most `limit` transactions that the customer with these ids sees, newest first.

    With `after`, only those that follow this transaction in the list.
    """
    t = ledger_transactions.c
    query = _newest_of(customer_ids, limit).where(t.kind.in_(sorted(SHOWN_TO_CUSTOMERS)))
    if after is not None:
        last = select(t.occurred_at, t.seq).where(t.transaction_id == after)
        query = query.where(tuple_(t.occurred_at, t.seq) < last.scalar_subquery())
    return list(connection.execute(query).mappings())


def corrections_of(connection: Connection, customer_ids: Collection[str], *, limit: int) -> list[RowMapping]:
    """Return the corrections and expiries of the customer with these ids, newest first.

    An index of these alone serves this query.
    """
    return list(connection.execute(_newest_of(customer_ids, limit).where(CORRECTIONS)).mappings())


def _newest_of(customer_ids: Collection[str], limit: int) -> Select[Any]:
    query = select(ledger_transactions, PURPOSE).where(of_customers(customer_ids))
    t = ledger_transactions.c
    return query.order_by(t.occurred_at.desc(), t.seq.desc()).limit(limit)


def of_customers(customer_ids: Collection[str]) -> ColumnElement[bool]:
    """Return the condition that an entry belongs to the customer with these ids (`accounts.ids_of`).

    Nearly all customers have one id, and then the index gives the entries in their order.
    """
    ids = list(customer_ids)
    column = ledger_transactions.c.customer_id
    return column == ids[0] if len(ids) == 1 else column.in_(ids)


_REVERSAL = (
    select(ledger_transactions)
    .where(ledger_transactions.c.refers_to == bindparam("refers_to"), ledger_transactions.c.kind == "reversal")
    .order_by(ledger_transactions.c.seq.desc())
    .limit(1)
)


def reversal_of(connection: Connection, transaction_id: str) -> RowMapping | None:
    """Return the latest reversal that refers to this transaction, or None."""
    return connection.execute(_REVERSAL, {"refers_to": transaction_id}).mappings().first()
