"""Pages of customers and payments for operators; the newest page does not read all rows."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from refund_worker.engine.context import Context
from refund_worker.engine.views.cursors import unknown_cursor
from refund_worker.engine.views.payment_objects import payment_views
from refund_worker.store import accounts, payment_refs
from refund_worker.store import payments as store_payments

Json = dict[str, Any]


def customers(connection: Connection, *, limit: int, after: str | None = None) -> Json:
    """Return customers by id, as {data, has_more}, each with its balance.

    Raises `InvalidRequest` for a cursor that is no customer.
    """
    if after is not None and accounts.find_customer(connection, after) is None:
        raise unknown_cursor(after, "customer")
    found = accounts.list_customers(connection, limit=limit + 1, after=after)
    data = [
        {
            "customer_id": account.customer_id,
            "balance": account.balance,
            "available": account.available,
            "payable": account.payable,
        }
        for account in found[:limit]
    ]
    return {"data": data, "has_more": len(found) > limit}


def payments(
    connection: Connection,
    context: Context,
    *,
    customer_id: str | None,
    limit: int,
    after: str | None = None,
    processor_payment_id: str | None = None,
) -> Json:
    """Return payments by id, as {data, has_more}, each as `GET /v1/payments/{payment_id}` shows it.

    `processor_payment_id` is any id that a processor has for the payment. Raises `InvalidRequest` for a cursor that is
    no payment.
    """
    last = None if after is None else payment_refs.find_payment(connection, after)
    if after is not None and last is None:
        raise unknown_cursor(after, "payment")
    if customer_id is not None:
        customer_id = accounts.survivor_of(connection, customer_id)
    found = store_payments.list_payments(
        connection, customer_id, limit=limit + 1, after=last, processor_payment_id=processor_payment_id
    )
    return {"data": payment_views(connection, context, found[:limit]), "has_more": len(found) > limit}
