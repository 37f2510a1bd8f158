"""A payment as callers see it: the recorded values, and the processor's own."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from refund_worker.api_schema import Connect, FraudWarning, PaymentRead, PaymentWord
from refund_worker.domain.account_names import platform_of, processor_of
from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.payment_check import PAYMENT_MISMATCH, PaymentFacts, objection_to
from refund_worker.domain.processor_replies import PaymentReading
from refund_worker.domain.records import PaymentRecord
from refund_worker.engine.context import Context
from refund_worker.engine.views.fraud_warning_objects import warnings_of_payments
from refund_worker.errors import NotFound
from refund_worker.store import accounts, payment_readings, payment_refs, payments
from refund_worker.times import iso


def payment(connection: Connection, context: Context, payment_id: str) -> PaymentRead:
    """Return the payment with this id of ours, with `verified` and `processor_says`. Raises `NotFound`.

    `verified` is true if the processor's values agree, false if they do not or cannot be read, and null if they were
    not read yet. `processor_says` is {captured_minor, currency, live, disputed, refunded_minor, read_at} or null.
    """
    named = payment_refs.payments_of_aliases(connection, [payment_id]).get(payment_id, payment_id)
    record = payments.payments_by_id(connection, [named]).get(named)
    if record is None:
        raise NotFound(f"payment {payment_id} is not known")
    (found,) = payment_views(connection, context, [record])
    return found


def payment_views(connection: Connection, context: Context, records: Sequence[PaymentRecord]) -> list[PaymentRead]:
    """Return these payments as recorded, with what their processors reported and what is left of them."""
    ids = [record.payment_id for record in records]
    facts = payment_readings.facts_of(connection, ids, context.processors)
    refs = payment_refs.refs_of_payments(connection, ids)
    aliases = payment_refs.aliases_of(connection, ids)
    rooms = accounts.refundable_by_id(connection, ids)
    closings = payments.closings(connection, ids)
    warnings = warnings_of_payments(connection, ids)
    return [
        _view(
            record,
            facts[record.payment_id],
            rooms[record.payment_id],
            live=context.policy.rules_of(record.processor).live,
            refs=refs.get(record.payment_id, ()),
            alias=aliases.get(record.payment_id),
            closing=closings.get(record.payment_id),
            warnings=warnings.get(record.payment_id, []),
        )
        for record in records
    ]


def _view(
    record: PaymentRecord,
    facts: PaymentFacts,
    room: RefundablePayment,
    *,
    live: bool | None,
    refs: tuple[str, ...],
    alias: str | None,
    closing: tuple[float, str] | None,
    warnings: list[FraudWarning],
) -> PaymentRead:
    return {
        "payment_id": record.payment_id,
        "customer_id": record.customer_id,
        "processor": processor_of(record.processor),
        "processor_account": platform_of(record.processor),
        "connect": _connect(record),
        "processor_payment_id": record.processor_payment_id,
        "processor_payment_ids": list(refs),
        "other_ids": [] if alias is None else [alias],
        "recorded_by": record.recorded_by,  # type: ignore[typeddict-item]
        "amount_minor": record.amount_minor,
        "currency": record.currency,
        "credits": record.credits,
        "captured_at": iso(record.captured_at),
        "captured_minor": facts.expected_minor,
        "refunded_minor": facts.refunded_minor,
        "taken_minor": room.money_taken - facts.refunded_minor,
        "left_minor": room.money_left,
        "credits_taken": room.credits_taken,
        "credits_left": room.credits_left,
        "closed_at": None if closing is None else iso(closing[0]),
        "close_reason": None if closing is None else closing[1],
        "verified": _is_verified(facts, live),
        "processor_says": _report(facts.reading, facts.read_at) if facts.reading else None,
        "fraud_warnings": warnings,
    }


def _connect(record: PaymentRecord) -> Connect | None:
    parts: Connect = {
        "account": record.connect_account,
        "reverse_transfer": record.connect_reverse_transfer,
        "refund_application_fee": record.connect_refund_application_fee,
    }
    return parts if any(value is not None for value in parts.values()) else None


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
