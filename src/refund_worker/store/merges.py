"""Rows that follow a customer who is merged into another: payments, spends, refunds, claims and payees.

Ledger entries and events never change: they keep the id that the customer had.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, RowMapping, select, update

from refund_worker.batching import batched
from refund_worker.store import snapshots
from refund_worker.store.database import locked
from refund_worker.store.tables import claims, customers, payees, payments, refunds, transaction_rooms

SUMS = ("balance", "held", "bought", "net_spent", "withdrawn")
# Rows of one statement that appends snapshots.
PAGE = 1_000


def lock_refunds_of(connection: Connection, customer_id: str) -> frozenset[str]:
    """Lock the refunds of a customer, and return their ids."""
    r = refunds.c
    query = select(r.refund_id).where(r.customer_id == customer_id).order_by(r.refund_id)
    return frozenset(connection.execute(locked(connection, query)).scalars())


def refunds_of(connection: Connection, customer_id: str) -> frozenset[str]:
    """Return the ids of the refunds of a customer."""
    return frozenset(
        connection.execute(select(refunds.c.refund_id).where(refunds.c.customer_id == customer_id)).scalars()
    )


def lock_rows(connection: Connection, customer_ids: Collection[str]) -> dict[str, RowMapping]:
    """Lock and return the rows of these very customers by id, in sorted order. A merged one is not followed."""
    query = select(customers).where(customers.c.customer_id.in_(customer_ids)).order_by(customers.c.customer_id)
    return {row["customer_id"]: row for row in connection.execute(locked(connection, query)).mappings()}


def move(connection: Connection, row: RowMapping, into: str) -> None:
    """Give everything of the customer `row` to the customer `into`; both rows are locked.

    Each row that the audit trail covers gets a snapshot of its new state.
    """
    customer_id = row["customer_id"]
    covered = ((payments, payments.c.payment_id), (refunds, refunds.c.refund_id), (payees, payees.c.payee_id))
    for table, key in covered:
        ids = list(connection.execute(select(key).where(table.c.customer_id == customer_id)).scalars())
        for some in batched(sorted(ids), PAGE):
            connection.execute(update(table).where(key.in_(some)).values(customer_id=into))
            snapshots.append_current_rows(connection, table.name, some)
    for table in (transaction_rooms, claims):
        connection.execute(update(table).where(table.c.customer_id == customer_id).values(customer_id=into))
    c = customers.c
    emptied = dict.fromkeys(SUMS, 0)
    connection.execute(update(customers).where(c.customer_id == customer_id).values(merged_into=into, **emptied))
    added = {name: c[name] + row[name] for name in SUMS}
    connection.execute(update(customers).where(c.customer_id == into).values(**added))
    # Every id leads to the surviving customer at once, however many merges there were.
    connection.execute(update(customers).where(c.merged_into == customer_id).values(merged_into=into))
