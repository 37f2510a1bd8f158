"""Limits that the database itself enforces: sums, keys, and rows that are inserted once."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from tests.store.stored_refunds import numbered, store

from refund_worker.domain.acceptance import RefundableTransaction
from refund_worker.domain.decision import AccountDelta, PaymentDelta
from refund_worker.domain.ledger import EntryKind, spend
from refund_worker.store import accounts, idempotency, ledger, refunds
from refund_worker.store.database import Database
from refund_worker.store.tables import customers, events, ledger_entries


@pytest.mark.parametrize("change", [PaymentDelta(101), PaymentDelta(0, 1_001), PaymentDelta(-1), PaymentDelta(0, -1)])
def test_payment_cannot_be_overdrawn_or_released_twice(database: Database, change: PaymentDelta) -> None:
    with database.write() as connection:
        accounts.change_payments(connection, {"pay1": PaymentDelta(100, 1_000)})
        accounts.change_payments(connection, {"pay1": PaymentDelta(-100, -1_000)})
    with pytest.raises(IntegrityError), database.write() as connection:
        accounts.change_payments(connection, {"pay1": change})
    with database.read() as connection:
        payment = {p.payment_id: p for p in accounts.refundable_payments(connection, ["c"])["c"]}["pay1"]
    assert (payment.credits_taken, payment.money_taken) == (0, 0)


@pytest.mark.parametrize("change", [AccountDelta(held=-1), AccountDelta(net_spent=-1), AccountDelta(withdrawn=-1)])
def test_sums_of_a_customer_cannot_fall_below_zero(database: Database, change: AccountDelta) -> None:
    with pytest.raises(IntegrityError), database.write() as connection:
        accounts.change_customers(connection, {"c": change})


@pytest.mark.parametrize("credits", [51, -1])
def test_transaction_cannot_be_overdrawn_or_released_twice(database: Database, credits: int) -> None:
    refundable = RefundableTransaction(transaction_id="t", customer_id="c", kind=EntryKind.SPEND, credits=50)
    with database.write() as connection:
        accounts.insert_transactions(connection, [refundable])
    with pytest.raises(IntegrityError), database.write() as connection:
        accounts.change_transactions(connection, {"t": credits})
    with database.read() as connection:
        assert accounts.refundable_transactions(connection, ["t", "x"]) == {"t": refundable}


def test_idempotency_key_is_unique_per_client(database: Database) -> None:
    store(database, numbered(1), numbered(2, idempotency_key="k1", client="shop"))
    with pytest.raises(IntegrityError):
        store(database, numbered(3, idempotency_key="k1"))
    with database.read() as connection:
        assert set(refunds.find_by_keys(connection, "default", ["k1", "k2"])) == {"k1"}


def test_posting_is_written_once(database: Database) -> None:
    posting = spend(transaction_id="t", customer_id="c", credits=5, description="", at=1.0)
    with database.write() as connection:
        ledger.insert_postings(connection, [posting])
    with pytest.raises(IntegrityError), database.write() as connection:
        ledger.insert_postings(connection, [posting])
    with database.read() as connection:
        total = select(func.sum(ledger_entries.c.amount)).where(ledger_entries.c.account == "customer:c")
        assert connection.execute(total).scalar_one() == -5


def test_keyed_act_is_stored_once(database: Database) -> None:
    with database.write() as connection:
        idempotency.insert_act(connection, "default", "k", "{}", "txn", 1.0)
    with pytest.raises(IntegrityError), database.write() as connection:
        idempotency.insert_act(connection, "default", "k", "{}", "other", 1.0)
    with database.read() as connection:
        assert idempotency.find_act(connection, "shop", "k") is None


def test_accounts_are_inserted_once(database: Database) -> None:
    with database.write() as connection:
        accounts.insert_missing_customers(connection, ["c", "d", "d"], 2.0)
    with database.read() as connection:
        rows = connection.execute(select(customers.c.customer_id, customers.c.bought).order_by(customers.c.customer_id))
        assert [tuple(row) for row in rows] == [("c", 200), ("d", 0)]
        assert connection.execute(select(events)).all() == []
