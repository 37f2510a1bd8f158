"""Customers' accounts, their payments, and how much of each transaction is taken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import Connection, and_, bindparam, case, func, select, update

from refund_worker.domain.acceptance import CustomerAccount, RefundableTransaction
from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.decision import AccountDelta, PaymentDelta
from refund_worker.domain.ledger import EntryKind
from refund_worker.domain.state_machine import UNPAID_FINAL
from refund_worker.store import snapshots
from refund_worker.store.database import insert_into, locked
from refund_worker.store.tables import customers, legs, payments, transaction_rooms

_ACCOUNT = (
    customers.c.customer_id,
    customers.c.balance,
    customers.c.held,
    customers.c.bought,
    customers.c.net_spent,
    customers.c.withdrawn,
)
_TRANSACTION = (
    payments.c.payment_id,
    payments.c.processor,
    payments.c.processor_payment_id,
    payments.c.currency,
    payments.c.amount_minor,
    payments.c.credits,
    payments.c.captured_at,
    payments.c.credits_taken,
    payments.c.money_taken,
)


def insert_missing_customers(connection: Connection, customer_ids: Iterable[str], now: float) -> None:
    """Make an empty account for each id that has none."""
    rows = [{"customer_id": customer_id, "created_at": now} for customer_id in sorted(set(customer_ids))]
    if rows:
        connection.execute(insert_into(connection, customers).on_conflict_do_nothing(), rows)


_CUSTOMERS = (
    select(*_ACCOUNT)
    .where(customers.c.customer_id.in_(bindparam("customer_ids", expanding=True)))
    .order_by(customers.c.customer_id)
)


def lock_customers(connection: Connection, customer_ids: Collection[str]) -> dict[str, CustomerAccount]:
    """The accounts by id, locked until the transaction ends, in sorted order so that two lockers never cross."""
    rows = connection.execute(locked(connection, _CUSTOMERS), {"customer_ids": list(customer_ids)}).mappings()
    return {row["customer_id"]: CustomerAccount(**row) for row in rows}


def find_customer(connection: Connection, customer_id: str) -> CustomerAccount | None:
    row = connection.execute(select(*_ACCOUNT).where(customers.c.customer_id == customer_id)).mappings().first()
    return CustomerAccount(**row) if row else None


# What of a payment is not there to be returned: see `RefundablePayment.with_gone`.
_GONE = (payments.c.captured_minor, payments.c.refunded_minor, payments.c.word_outside)
_PAYMENTS = select(payments.c.customer_id, *_GONE, *_TRANSACTION).where(
    payments.c.customer_id.in_(bindparam("customer_ids", expanding=True))
)


def refundable_payments(connection: Connection, customer_ids: Collection[str]) -> dict[str, list[RefundablePayment]]:
    """Every payment of these customers with what is taken of it; read it under the customers' lock."""
    found: dict[str, list[RefundablePayment]] = defaultdict(list)
    rows = connection.execute(_PAYMENTS, {"customer_ids": list(customer_ids)})
    for customer_id, captured, refunded, outside, *values in rows:
        payment = _payment(values)
        untouched = captured is None and not refunded and not outside
        found[customer_id].append(payment if untouched else payment.with_gone(captured, refunded + outside))
    return found


def _payment(values: list[object]) -> RefundablePayment:
    return RefundablePayment(**{column.name: value for column, value in zip(_TRANSACTION, values, strict=True)})  # type: ignore[arg-type]


_TRANSACTIONS = select(transaction_rooms).where(
    transaction_rooms.c.transaction_id.in_(bindparam("transaction_ids", expanding=True))
)


def refundable_transactions(
    connection: Connection, transaction_ids: Collection[str]
) -> dict[str, RefundableTransaction]:
    """The refundable transactions among these ids, with what is taken of them."""
    rows = connection.execute(_TRANSACTIONS, {"transaction_ids": list(transaction_ids)}).mappings()
    return {row["transaction_id"]: RefundableTransaction(**{**row, "kind": EntryKind(row["kind"])}) for row in rows}


def change_customers(connection: Connection, changes: Mapping[str, AccountDelta]) -> None:
    """Add signed changes to the accounts, in sorted order."""
    rows = [
        {"id": customer_id, "b": c.balance, "h": c.held, "n": c.net_spent, "w": c.withdrawn}
        for customer_id, c in sorted(changes.items())
        if c
    ]
    if rows:
        connection.execute(_CHANGE_CUSTOMER, rows)


def change_payments(connection: Connection, changes: Mapping[str, PaymentDelta]) -> None:
    """Take room of payments (negative: give it free). More than there is can't be taken: the constraint refuses."""
    rows = [{"id": payment, "c": d.credits, "m": d.minor} for payment, d in sorted(changes.items()) if d]
    if len(rows) == 1:  # as nearly always, and then one statement tells how the payment stands now
        stands = connection.execute(_CHANGE_PAYMENT.returning(*payments.c), rows[0]).mappings()
        snapshots.take(connection, [("payments", dict(row)) for row in stands])
    elif rows:
        connection.execute(_CHANGE_PAYMENT, rows)
        snapshots.append_current_rows(connection, "payments", {str(row["id"]) for row in rows})


def recount_payments(connection: Connection, payment_ids: Iterable[str]) -> None:
    """What is taken of these payments, counted anew from their legs, but no further than full.

    For money that went out although its room was given free: such a payment is taken twice over, and a figure that is
    cut off at full can't be put right by subtracting.
    """
    rows = [{"id": payment_id} for payment_id in sorted(set(payment_ids))]
    if rows:
        query = select(payments.c.payment_id).where(payments.c.payment_id.in_([row["id"] for row in rows]))
        # Locked by a statement of its own: the count must see what those before us committed.
        connection.execute(locked(connection, query.order_by(payments.c.payment_id)))
        connection.execute(_RECOUNT_PAYMENT, rows)
        snapshots.append_current_rows(connection, "payments", {row["id"] for row in rows})


def change_transactions(connection: Connection, changes: Mapping[str, int]) -> None:
    """Take credits of transactions (negative: give them free)."""
    rows = [{"id": transaction, "c": credits} for transaction, credits in sorted(changes.items()) if credits]
    if rows:
        connection.execute(_CHANGE_TRANSACTION, rows)


def insert_transactions(connection: Connection, rooms: Iterable[RefundableTransaction]) -> None:
    rows = [
        {"transaction_id": r.transaction_id, "customer_id": r.customer_id, "kind": r.kind, "credits": r.credits}
        for r in rooms
    ]
    if rows:
        connection.execute(transaction_rooms.insert(), rows)


def mark_reversed(connection: Connection, transaction_id: str) -> None:
    """A correction that was reversed can't be paid out any more."""
    where = transaction_rooms.c.transaction_id == transaction_id
    connection.execute(update(transaction_rooms).where(where).values(reversed=True))


def add_purchases(connection: Connection, credits: Mapping[str, int]) -> None:
    """Raise balance and bought credits of each customer."""
    rows = [{"id": customer_id, "c": amount} for customer_id, amount in sorted(credits.items())]
    if rows:
        connection.execute(_ADD_PURCHASE, rows)


_CHANGE_CUSTOMER = (
    update(customers)
    .where(customers.c.customer_id == bindparam("id"))
    .values(
        balance=customers.c.balance + bindparam("b"),
        held=customers.c.held + bindparam("h"),
        net_spent=customers.c.net_spent + bindparam("n"),
        withdrawn=customers.c.withdrawn + bindparam("w"),
    )
)
_ADD_PURCHASE = (
    update(customers)
    .where(customers.c.customer_id == bindparam("id"))
    .values(balance=customers.c.balance + bindparam("c"), bought=customers.c.bought + bindparam("c"))
)
_CHANGE_PAYMENT = (
    update(payments)
    .where(payments.c.payment_id == bindparam("id"))
    .values(
        credits_taken=payments.c.credits_taken + bindparam("c"), money_taken=payments.c.money_taken + bindparam("m")
    )
)
# Two comparisons and not one list: a list of values can't be used with several payments in one statement.
_standing = and_(legs.c.payment_id == bindparam("id"), *(legs.c.status != status for status in sorted(UNPAID_FINAL)))
_credits_now = select(func.coalesce(func.sum(legs.c.payment_credits), 0)).where(_standing).scalar_subquery()
_money_now = select(func.coalesce(func.sum(legs.c.amount_minor), 0)).where(_standing).scalar_subquery()
_RECOUNT_PAYMENT = (
    update(payments)
    .where(payments.c.payment_id == bindparam("id"))
    .values(
        credits_taken=case((_credits_now > payments.c.credits, payments.c.credits), else_=_credits_now),
        money_taken=case((_money_now > payments.c.amount_minor, payments.c.amount_minor), else_=_money_now),
    )
)
_CHANGE_TRANSACTION = (
    update(transaction_rooms)
    .where(transaction_rooms.c.transaction_id == bindparam("id"))
    .values(taken=transaction_rooms.c.taken + bindparam("c"))
)
