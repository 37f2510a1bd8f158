"""Defects that the simulation found, each as a minimal test."""

from __future__ import annotations

from refund_worker.domain.decision import PaymentDelta
from refund_worker.domain.records import PaymentRecord
from refund_worker.store import accounts, payments
from tests.simulation.database import simulated_database


def test_payments_of_several_refunds_are_recounted_together() -> None:
    store = simulated_database()
    store.fresh()
    records = [
        PaymentRecord(
            payment_id=name,
            customer_id="c1",
            processor="stripe",
            processor_payment_id=f"ch_{name}",
            amount_minor=100,
            currency="EUR",
            credits=100,
            captured_at=1.0,
        )
        for name in ("p1", "p2")
    ]
    with store.database.write() as connection:
        accounts.insert_missing_customers(connection, ["c1"], 1.0)
        payments.insert_payments(connection, records, 1.0)
        accounts.change_payments(connection, {"p1": PaymentDelta(10, 10), "p2": PaymentDelta(20, 20)})
        accounts.recount_payments(connection, ["p1", "p2"])
        refundable = accounts.refundable_payments(connection, ["c1"])["c1"]
    assert [(payment.credits_taken, payment.money_taken) for payment in refundable] == [(0, 0), (0, 0)]
