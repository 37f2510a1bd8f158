"""A payment as callers see it: the recorded values, and the processor's own."""

from __future__ import annotations

from sqlalchemy import Connection

from refund_worker.api_schema import PaymentRead, PaymentWord
from refund_worker.domain.payment_check import PAYMENT_MISMATCH, PaymentFacts, objection_to
from refund_worker.domain.processor_replies import PaymentReading
from refund_worker.domain.records import PaymentRecord
from refund_worker.engine.context import Context
from refund_worker.errors import NotFound
from refund_worker.store import payment_readings, payments
from refund_worker.times import iso


def payment(connection: Connection, context: Context, payment_id: str) -> PaymentRead:
    """Return the payment as recorded, with `verified` and `processor_says`. Raises `NotFound`.

    `verified` is true if the processor's values agree, false if they do not or cannot be read, and null if they were
    not read yet. `processor_says` is {captured_minor, currency, live, disputed, refunded_minor, read_at} or null.
    """
    record = payments.payments_by_id(connection, [payment_id]).get(payment_id)
    if record is None:
        raise NotFound(f"payment {payment_id} is not known")
    facts = payment_readings.facts_of(connection, [payment_id], context.processors)[payment_id]
    return payment_view(record, facts, context)


def payment_view(record: PaymentRecord, facts: PaymentFacts, context: Context) -> PaymentRead:
    """Return the payment as recorded, with what its processor reported."""
    return {
        "payment_id": record.payment_id,
        "customer_id": record.customer_id,
        "processor": record.processor,
        "processor_payment_id": record.processor_payment_id,
        "amount_minor": record.amount_minor,
        "currency": record.currency,
        "credits": record.credits,
        "captured_at": iso(record.captured_at),
        "captured_minor": facts.expected_minor,
        "refunded_minor": record.refunded_minor,
        "verified": _is_verified(facts, context.policy.rules_of(record.processor).live),
        "processor_says": _report(facts.reading, facts.read_at) if facts.reading else None,
    }


def _report(reading: PaymentReading, read_at: float) -> PaymentWord:
    return {
        "captured_minor": reading.captured_minor,
        "currency": reading.currency,
        "live": reading.live,
        "disputed": reading.disputed,
        "refunded_minor": reading.refunded_minor,
        "read_at": iso(read_at),
    }


def _is_verified(facts: PaymentFacts, live: bool | None) -> bool | None:
    if facts.reading is None:
        return False if facts.is_read else None
    objection = objection_to(facts, live)
    return objection is None or objection.code != PAYMENT_MISMATCH
