"""Records of the store's tests: payments, and refunds with a number that are stored and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.domain.builders import a_leg, a_refund

from refund_worker.domain.records import PaymentRecord
from refund_worker.domain.refund import Doubt, LegStatus, Refund, RefusalKind
from refund_worker.store import refunds
from refund_worker.store.database import Database

# The fields that legs of refunds and of payouts share, each with a value that is not its default.
SENT: Mapping[str, Any] = {
    "status": LegStatus.UNKNOWN,
    "attempt": 3,
    "sends": 2,
    "retry_count": 7,
    "blocked_count": 4,
    "first_sent_at": 1.25,
    "last_sent_at": 2.5,
    "in_doubt": Doubt(unanswered=True, lookup_required=True, refusal=RefusalKind.REFUSED),
    "failure_code": "code",
    "failure_message": "message",
    "attention_code": "why",
    "manual_reference": "bank-4711",
    "next_at": 3.125,
    "listed_at": 2.75,
    "held": True,
}


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
