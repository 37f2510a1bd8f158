"""Customers' accounts, their payments, and the refundable amounts of payments and transactions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Text,
    and_,
    bindparam,
    case,
    func,
    select,
    union_all,
    update,
)

from refund_worker.domain.acceptance import CustomerAccount, RefundableTransaction
from refund_worker.domain.account_limits import usable_payments
from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.decision import AccountDelta, PaymentDelta, Policy
from refund_worker.domain.ledger import EntryKind
from refund_worker.domain.state_machine import UNPAID_FINAL
from refund_worker.store import snapshots
from refund_worker.store.database import insert_into, locked, now
from refund_worker.store.tables import (
    CORRECTIONS,
    REFUNDED_BEFORE,
    customers,
    ledger_transactions,
    legs,
    payments,
    transaction_rooms,
)

_ACCOUNT = (
    customers.c.customer_id,
    customers.c.balance,
    customers.c.held,
    customers.c.bought,
    customers.c.net_spent,
    customers.c.withdrawn,
)
_PAYMENT = (
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
    """Insert an empty account for each id that has none; `now` is in epoch seconds."""
    rows = [{"customer_id": customer_id, "created_at": now} for customer_id in sorted(set(customer_ids))]
    if rows:
        connection.execute(insert_into(connection, customers).on_conflict_do_nothing(), rows)


def list_customers(connection: Connection, *, limit: int, after: str | None = None) -> list[CustomerAccount]:
    """Return accounts by customer id, without a lock; `after` is the last id already seen.

    Customers that were merged into others are left out.
    """
    is_own = customers.c.merged_into.is_(None)
    query = select(*_ACCOUNT).where(is_own).order_by(customers.c.customer_id).limit(limit)
    if after is not None:
        query = query.where(customers.c.customer_id > after)
    return [CustomerAccount(**row) for row in connection.execute(query).mappings()]


def has_addresses_as_ids(connection: Connection) -> bool:
    """Return True if a customer's id looks like an e-mail address. Ids stay when a customer is erased."""
    query = select(customers.c.customer_id).where(customers.c.customer_id.like("%_@%_.%_")).limit(1)
    return connection.execute(query).first() is not None


# The customer whose id was asked for, who may have been merged into the customer of the account.
_asked = customers.alias("asked")
_CUSTOMERS = (
    select(*_ACCOUNT, customers.c.merged_into)
    .select_from(_asked)
    .join(customers, customers.c.customer_id == func.coalesce(_asked.c.merged_into, _asked.c.customer_id))
    .where(_asked.c.customer_id.in_(bindparam("customer_ids", expanding=True)))
    .order_by(customers.c.customer_id)
)


def lock_customers(connection: Connection, customer_ids: Collection[str]) -> dict[str, CustomerAccount]:
    """Return the accounts by their own customer id and lock them until the transaction ends.

    The id of a merged customer locks the account of the surviving one: see `survivors`. The accounts are locked in
    sorted order, so that two callers cannot deadlock. Ids without an account are left out.
    """
    query = locked(connection, _CUSTOMERS, of=customers)
    rows = connection.execute(query, {"customer_ids": list(customer_ids)}).mappings().all()
    found: dict[str, CustomerAccount] = {}
    merged = set()
    for row in rows:
        values = dict(row)
        into = values.pop("merged_into")
        if into is None:
            found[row["customer_id"]] = CustomerAccount(**values)
        else:  # merged while this transaction waited for the lock
            merged.add(row["customer_id"])
    return found | lock_customers(connection, merged) if merged else found


def survivors(connection: Connection, customer_ids: Collection[str]) -> dict[str, str]:
    """Return the id of the surviving customer by the id of each customer among these that was merged into another."""
    if not customer_ids:
        return {}
    c = customers.c
    query = select(c.customer_id, c.merged_into).where(c.customer_id.in_(customer_ids), c.merged_into.is_not(None))
    return {row.customer_id: row.merged_into for row in connection.execute(query)}


def survivor_of(connection: Connection, customer_id: str) -> str:
    """Return the id of the customer that this one was merged into, or its own."""
    return survivors(connection, [customer_id]).get(customer_id, customer_id)


def mark_erased(connection: Connection, customer_ids: Collection[str], now: float) -> None:
    """Store that the texts of these customers were erased at `now` (epoch seconds)."""
    connection.execute(update(customers).where(customers.c.customer_id.in_(customer_ids)).values(erased_at=now))


def erased_at(connection: Connection, customer_id: str) -> float | None:
    """Return the last time (epoch seconds) that the customer's texts were erased, or None."""
    query = select(customers.c.erased_at).where(customers.c.customer_id == customer_id)
    return connection.execute(query).scalar()


def surviving(customer_id: str) -> ColumnElement[str]:
    """Return the expression of the id of the customer that this one was merged into, or of its own."""
    merged_into = select(_asked.c.merged_into).where(_asked.c.customer_id == customer_id).scalar_subquery()
    return func.coalesce(merged_into, customer_id)


def ids_of(connection: Connection, customer_id: str) -> list[str]:
    """Return the ids of a surviving customer: its own first, then those that were merged into it."""
    query = select(customers.c.customer_id).where(customers.c.merged_into == customer_id)
    return [customer_id, *connection.execute(query.order_by(customers.c.customer_id)).scalars()]


def lock_customer(connection: Connection, customer_id: str) -> CustomerAccount | None:
    """Return the account of this customer, or of the one that it was merged into, and lock it.

    Return None for an unknown customer.
    """
    return next(iter(lock_customers(connection, [customer_id]).values()), None)


def find_customer(connection: Connection, customer_id: str) -> CustomerAccount | None:
    """Return the account of this customer, or of the one that it was merged into, without a lock, or None."""
    return next(iter(read_customers(connection, [customer_id]).values()), None)


def read_customers(connection: Connection, customer_ids: Collection[str]) -> dict[str, CustomerAccount]:
    """Return the accounts by their own customer id, like `lock_customers`, without a lock."""
    rows = connection.execute(_CUSTOMERS, {"customer_ids": list(customer_ids)}).mappings()
    values = ({name: value for name, value in row.items() if name != "merged_into"} for row in rows)
    return {row["customer_id"]: CustomerAccount(**row) for row in values}


def find_customers(connection: Connection, customer_ids: Collection[str]) -> dict[str, CustomerAccount]:
    """Return the accounts of these customers by id, without a lock. Ids of merged customers are left out."""
    query = select(*_ACCOUNT).where(customers.c.customer_id.in_(customer_ids), customers.c.merged_into.is_(None))
    return {row["customer_id"]: CustomerAccount(**row) for row in connection.execute(query).mappings()}


def balances_of(connection: Connection, customer_ids: Collection[str]) -> dict[str, int]:
    """Return the balances of these customers in credits, by customer id."""
    query = select(customers.c.customer_id, customers.c.balance).where(customers.c.customer_id.in_(customer_ids))
    return {row.customer_id: row.balance for row in connection.execute(query)}


# The amounts of a payment that can no longer be refunded: see `RefundablePayment.after_refunds_elsewhere`.
_NOT_REFUNDABLE = (
    payments.c.captured_minor,
    REFUNDED_BEFORE.label("refunded_minor"),
    payments.c.word_outside,
    payments.c.claimed_minor,
    payments.c.claimed_credits,
    payments.c.open_disputes,
    payments.c.closed_at,
)
_PAYMENTS = select(payments.c.customer_id, *_NOT_REFUNDABLE, *_PAYMENT).where(
    payments.c.customer_id.in_(bindparam("customer_ids", expanding=True))
)


def refundable_payments(connection: Connection, customer_ids: Collection[str]) -> dict[str, list[RefundablePayment]]:
    """Return all payments of these customers by customer id, with the amounts that refunds have taken.

    Call it under the customers' locks.
    """
    found: dict[str, list[RefundablePayment]] = defaultdict(list)
    rows = connection.execute(_PAYMENTS, {"customer_ids": list(customer_ids)})
    for customer_id, *values in rows:
        found[customer_id].append(_refundable(values))
    return found


def refundable_by_id(connection: Connection, payment_ids: Collection[str]) -> dict[str, RefundablePayment]:
    """Return these payments by id, with the amounts that refunds have taken, without a lock."""
    query = select(*_NOT_REFUNDABLE, *_PAYMENT).where(payments.c.payment_id.in_(payment_ids))
    found = (_refundable(list(values)) for values in connection.execute(query))
    return {payment.payment_id: payment for payment in found}


def payments_for(connection: Connection, customer_id: str, credits: int, policy: Policy) -> list[RefundablePayment]:
    """Return the payments that `credits` could go back over, without a lock and in no order.

    Pro rata, or where some accounts forbid some refunds, these are all. Otherwise they are in each currency the first
    that suffice. A payment of which money went back elsewhere counts for nothing in that, because only
    `RefundablePayment` knows its share of the credits.
    """
    if credits <= 0:
        return []
    if policy.allocation == "pro_rata" or policy.has_limits:
        every = refundable_payments(connection, [customer_id]).get(customer_id, [])
        return usable_payments(every, policy, now(connection))
    query = _FIRST_OLDEST if policy.allocation == "oldest_first" else _FIRST_NEWEST
    rows = connection.execute(query, {"customer_id": customer_id, "needed": credits})
    return [_refundable(list(values)) for values in rows]


def _first_that_suffice(newest_first: bool) -> Select[Any]:
    """Return a query of the payments of one customer before which others do not suffice.

    All payments of one moment count together: the databases sort ids in their own ways.
    """
    columns = payments.c
    whole = and_(
        columns.captured_minor.is_(None),
        REFUNDED_BEFORE == 0,
        columns.word_outside == 0,
        columns.claimed_minor == 0,
        columns.claimed_credits == 0,
        columns.open_disputes == 0,
        columns.closed_at.is_(None),
    )
    left = case(
        (and_(whole, columns.credits > columns.credits_taken), columns.credits - columns.credits_taken), else_=0
    )
    moment = columns.captured_at.desc() if newest_first else columns.captured_at
    with_these = func.sum(left).over(partition_by=columns.currency, order_by=moment, range_=(None, 0))
    of_the_moment = func.sum(left).over(partition_by=(columns.currency, columns.captured_at))
    found = (
        select(*_NOT_REFUNDABLE, *_PAYMENT, (with_these - of_the_moment).label("before"))
        .where(columns.customer_id == bindparam("customer_id"))
        .subquery()
    )
    shown = [found.c[column.name] for column in (*_NOT_REFUNDABLE, *_PAYMENT)]
    return select(*shown).where(found.c.before < bindparam("needed"))


_FIRST_NEWEST, _FIRST_OLDEST = _first_that_suffice(True), _first_that_suffice(False)


def _refundable(values: list[Any]) -> RefundablePayment:
    captured, refunded, outside, claimed_minor, claimed_credits, open_disputes, closed_at, *rest = values
    payment = RefundablePayment(**{column.name: value for column, value in zip(_PAYMENT, rest, strict=True)})
    if open_disputes or closed_at is not None:
        return payment.without_room()
    if captured is not None or refunded or outside:
        payment = payment.after_refunds_elsewhere(captured, refunded + outside)
    return payment.after_reserving(claimed_credits, claimed_minor)


_TRANSACTIONS = select(transaction_rooms).where(
    transaction_rooms.c.transaction_id.in_(bindparam("transaction_ids", expanding=True))
)


def refundable_transactions(
    connection: Connection, transaction_ids: Collection[str]
) -> dict[str, RefundableTransaction]:
    """Return the refundable transactions among these ids, with the credits that refunds have taken of them."""
    rows = connection.execute(_TRANSACTIONS, {"transaction_ids": list(transaction_ids)}).mappings()
    return {row["transaction_id"]: RefundableTransaction(**{**row, "kind": EntryKind(row["kind"])}) for row in rows}


_its_ids = union_all(
    select(bindparam("customer_id", type_=Text)),
    select(customers.c.customer_id).where(customers.c.merged_into == bindparam("customer_id")),
)
_ITS_CORRECTIONS = select(ledger_transactions.c.transaction_id).where(
    ledger_transactions.c.customer_id.in_(_its_ids), CORRECTIONS
)
_TO_PAY_OUT = select(func.coalesce(func.sum(transaction_rooms.c.credits - transaction_rooms.c.taken), 0)).where(
    transaction_rooms.c.transaction_id.in_(_ITS_CORRECTIONS), ~transaction_rooms.c.reversed
)


def credits_to_pay_out(connection: Connection, customer_id: str) -> int:
    """Return the credits that corrections took off the balance to be paid out, and that no refund has taken yet."""
    return int(connection.execute(_TO_PAY_OUT, {"customer_id": customer_id}).scalar_one())


def corrections_to_pay_out(connection: Connection, customer_id: str) -> list[tuple[str, int]]:
    """Return (transaction_id, credits not taken yet) of the corrections that `credits_to_pay_out` counts, by id."""
    t = transaction_rooms.c
    open_ones = select(t.transaction_id, t.credits - t.taken).where(
        t.transaction_id.in_(_ITS_CORRECTIONS), ~t.reversed, t.credits > t.taken
    )
    rows = connection.execute(open_ones.order_by(t.transaction_id), {"customer_id": customer_id})
    return [(row[0], int(row[1])) for row in rows]


def change_customers(connection: Connection, changes: Mapping[str, AccountDelta]) -> None:
    """Add signed changes (credits) to the accounts, by customer id, in sorted order."""
    rows = [
        {
            "id": customer_id,
            "balance_delta": change.balance,
            "held_delta": change.held,
            "net_spent_delta": change.net_spent,
            "withdrawn_delta": change.withdrawn,
        }
        for customer_id, change in sorted(changes.items())
        if change
    ]
    if rows:
        connection.execute(_CHANGE_CUSTOMER, rows)


def change_payments(connection: Connection, changes: Mapping[str, PaymentDelta]) -> None:
    """Reserve credits and minor units of payments, by payment id; negative amounts are released.

    Raises `IntegrityError` if more would be taken than the payment has: the table's constraint refuses it.
    """
    rows = [
        {"id": payment_id, "credits_delta": change.credits, "money_delta": change.minor}
        for payment_id, change in sorted(changes.items())
        if change
    ]
    if len(rows) == 1:  # nearly always; then one statement also returns the changed payment for its snapshot
        changed = connection.execute(_CHANGE_PAYMENT.returning(*payments.c), rows[0]).mappings()
        snapshots.take(connection, [("payments", dict(row)) for row in changed])
    elif rows:
        connection.execute(_CHANGE_PAYMENT, rows)
        snapshots.append_current_rows(connection, "payments", {str(row["id"]) for row in rows})


def recount_payments(connection: Connection, payment_ids: Iterable[str]) -> None:
    """Recompute the amounts that refunds have taken of these payments from their legs, at most the full payment.

    It is for money that was sent although its reservation had been released. Such a payment is taken twice, and the
    amount, which is limited to the full payment, cannot be corrected by subtraction.
    """
    rows = [{"id": payment_id} for payment_id in sorted(set(payment_ids))]
    if rows:
        query = select(payments.c.payment_id).where(payments.c.payment_id.in_([row["id"] for row in rows]))
        # A separate statement takes the locks: the count must see what earlier transactions committed.
        connection.execute(locked(connection, query.order_by(payments.c.payment_id)))
        connection.execute(_RECOUNT_PAYMENT, rows)
        snapshots.append_current_rows(connection, "payments", {row["id"] for row in rows})


def change_transactions(connection: Connection, changes: Mapping[str, int]) -> None:
    """Reserve credits of transactions, by transaction id; negative amounts are released."""
    rows = [
        {"id": transaction_id, "credits_delta": credits}
        for transaction_id, credits in sorted(changes.items())
        if credits
    ]
    if rows:
        connection.execute(_CHANGE_TRANSACTION, rows)


def insert_transactions(connection: Connection, transactions: Iterable[RefundableTransaction]) -> None:
    """Insert refundable transactions of which nothing is taken yet."""
    rows = [
        {"transaction_id": t.transaction_id, "customer_id": t.customer_id, "kind": t.kind, "credits": t.credits}
        for t in transactions
    ]
    if rows:
        connection.execute(transaction_rooms.insert(), rows)


def mark_reversed(connection: Connection, transaction_id: str) -> None:
    """Mark a correction as reversed, so that it cannot be paid out any more."""
    where = transaction_rooms.c.transaction_id == transaction_id
    connection.execute(update(transaction_rooms).where(where).values(reversed=True))


def add_purchases(connection: Connection, credits: Mapping[str, int]) -> None:
    """Add purchased credits to balance and `bought`, by customer id."""
    rows = [{"id": customer_id, "credits_delta": amount} for customer_id, amount in sorted(credits.items())]
    if rows:
        connection.execute(_ADD_PURCHASE, rows)


_CHANGE_CUSTOMER = (
    update(customers)
    .where(customers.c.customer_id == bindparam("id"))
    .values(
        balance=customers.c.balance + bindparam("balance_delta"),
        held=customers.c.held + bindparam("held_delta"),
        net_spent=customers.c.net_spent + bindparam("net_spent_delta"),
        withdrawn=customers.c.withdrawn + bindparam("withdrawn_delta"),
    )
)
_ADD_PURCHASE = (
    update(customers)
    .where(customers.c.customer_id == bindparam("id"))
    .values(
        balance=customers.c.balance + bindparam("credits_delta"),
        bought=customers.c.bought + bindparam("credits_delta"),
    )
)
_CHANGE_PAYMENT = (
    update(payments)
    .where(payments.c.payment_id == bindparam("id"))
    .values(
        credits_taken=payments.c.credits_taken + bindparam("credits_delta"),
        money_taken=payments.c.money_taken + bindparam("money_delta"),
    )
)
# Comparisons instead of NOT IN: a list of values cannot be used with several payments in one statement.
_takes_money = and_(legs.c.payment_id == bindparam("id"), *(legs.c.status != status for status in sorted(UNPAID_FINAL)))
_credits_now = select(func.coalesce(func.sum(legs.c.payment_credits), 0)).where(_takes_money).scalar_subquery()
_money_now = select(func.coalesce(func.sum(legs.c.amount_minor), 0)).where(_takes_money).scalar_subquery()
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
    .values(taken=transaction_rooms.c.taken + bindparam("credits_delta"))
)
