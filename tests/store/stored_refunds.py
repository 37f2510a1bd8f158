"""Records of the store's tests: payments, and refunds with a number that are stored and loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.domain.builders import a_leg, a_refund

from refund_worker.domain.records import PaymentRecord
from refund_worker.domain.refund import Refund
from refund_worker.store import refunds
from refund_worker.store.database import Database


def a_payment(number: int) -> PaymentRecord:
    return PaymentRecord(
        payment_id=f"pay{number}",
        customer_id="c",
        processor="stripe",
        processor_payment_id=f"ch_{number}",
        amount_minor=1_000,
        currency="USD",
        credits=100,
        captured_at=float(number),
    )


def store(database: Database, *accepted: Refund) -> None:
    with database.write() as connection:
        refunds.insert_refunds(connection, [(refund, "{}") for refund in accepted])


def numbered(number: int, **changes: Any) -> Refund:
    refund_id = f"r{number}"
    leg = replace(a_leg(), leg_id=f"{refund_id}-1", refund_id=refund_id)
    return a_refund(
        leg, **({"refund_id": refund_id, "idempotency_key": f"k{number}", "due_at": float(number)} | changes)
    )


def fetch(database: Database, refund_id: str) -> Refund:
    with database.read() as connection:
        (refund,) = refunds.load(connection, [refund_id])
    return refund
