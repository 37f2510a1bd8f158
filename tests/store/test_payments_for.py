"""A customer's payments are read as far as they are needed, and say the same as all of them."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import text
from tests.support.sales import paid

from refund_worker.domain.allocation import payable_by_currency
from refund_worker.domain.decision import Policy
from refund_worker.store import accounts, payments
from refund_worker.store.database import Database

ALLOCATIONS = ("newest_first", "oldest_first", "pro_rata")


def record(database: Database, seed: int, number: int = 12) -> str:
    """Record payments of a new customer, some at one moment and some partly refunded, by us or elsewhere."""
    chance = random.Random(seed)
    customer = f"many-{seed}"
    made = [
        paid(
            f"{seed}-{each}{chance.choice('aZé-')}",
            customer_id=customer,
            processor_payment_id=f"ch_{seed}_{each}",
            currency=chance.choice(["GBP", "JPY"]),
            credits=chance.choice([1, 7, 100]),
            captured_at=1_700_000_000.0 + chance.randrange(4),
            captured_minor=chance.choice([None, None, 600]),
            refunded_minor=chance.choice([0, 0, 300]),
        )
        for each in range(number)
    ]
    with database.write() as connection:
        accounts.insert_missing_customers(connection, [customer], 1.0)
        payments.insert_payments(connection, made, 1.0)
        for payment in made:
            taken = {"taken": chance.choice([0, 0, payment.credits]), "id": payment.payment_id}
            connection.execute(text("UPDATE payments SET credits_taken = :taken WHERE payment_id = :id"), taken)
    return customer


def test_first_payments_pay_out_as_much_as_all_of_them(database: Database) -> None:
    fewer = 0
    for seed in range(25):
        customer = record(database, seed)
        with database.read() as connection:
            every = accounts.refundable_payments(connection, [customer])[customer]
            for allocation in ALLOCATIONS:
                for credits in (1, 8, 150, 10_000):
                    some = accounts.payments_for(connection, customer, credits, Policy(allocation=allocation))
                    fewer += len(every) - len(some)
                    parts = payable_by_currency(credits, some, allocation)
                    whole = payable_by_currency(credits, every, allocation)
                    shown = [(part.currency, part.credits, part.amount_minor) for part in parts]
                    assert shown == [(part.currency, part.credits, part.amount_minor) for part in whole]
                    assert [part.money_for(part.credits // 2) for part in parts] == [
                        part.money_for(part.credits // 2) for part in whole
                    ]
    assert fewer > 300, "a small amount needs few payments"


@pytest.mark.parametrize("allocation", ["newest_first", "oldest_first"])
def test_small_amount_reads_one_payment_of_many(database: Database, allocation: str) -> None:
    made = [paid(f"n-{number}", customer_id="often", captured_at=1.7e9 + number) for number in range(50)]
    with database.write() as connection:
        accounts.insert_missing_customers(connection, ["often"], 1.0)
        payments.insert_payments(connection, made, 1.0)
        (found,) = accounts.payments_for(connection, "often", 100, Policy(allocation=allocation))
        assert found.payment_id == ("p-n-0" if allocation == "oldest_first" else "p-n-49")
        assert len(accounts.payments_for(connection, "often", 101, Policy(allocation=allocation))) == 2
        assert accounts.payments_for(connection, "often", 0, Policy(allocation=allocation)) == []
