"""Everything that is stored about a customer, as one JSON object in pieces."""

from __future__ import annotations

from collections.abc import Iterator

from refund_worker.engine.context import Context
from refund_worker.errors import NotFound
from refund_worker.store import accounts
from refund_worker.store.reporting import customer_rows


def export_customer(context: Context, customer_id: str) -> Iterator[str]:
    """Return the pieces of {customer_id, merged_ids, data: {table: [row, …]}}, with every row about the customer.

    It is read page by page, so that any number of rows needs little memory. Raises `NotFound` at once.
    """
    with context.database.read() as connection:
        account = accounts.find_customer(connection, customer_id)
        if account is None:
            raise NotFound(f"customer {customer_id} is not known")
        ids = accounts.ids_of(connection, account.customer_id)
    return customer_rows.as_json(context.database, ids)
