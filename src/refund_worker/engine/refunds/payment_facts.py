"""Facts about the payments of claimed refunds, read once for a whole claim."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy import Connection

from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.payment_check import PaymentFacts
from refund_worker.domain.refund import Refund
from refund_worker.domain.state_machine import MAY_BE_SENT
from refund_worker.engine.context import Context
from refund_worker.store import payment_readings

READS = "reads"


def payments_ahead(claimed: Iterable[Refund], payments: Mapping[str, Sequence[RefundablePayment]]) -> dict[str, str]:
    """Return, by payment_id, the processor of every payment over which a leg of these refunds may be sent now.

    This includes `payments` (refundable payments by customer): legs that replace a failed one may go over them.
    """
    ahead = {leg.payment_id: leg.processor for refund in claimed for leg in refund.legs if leg.status in MAY_BE_SENT}
    return ahead | {payment.payment_id: payment.processor for own in payments.values() for payment in own}


def facts_for(connection: Connection, context: Context, wanted: Collection[str]) -> dict[str, PaymentFacts]:
    """Return the facts about these payments, by payment_id."""
    readable = {name for name, processor in context.processors.items() if processor.reads_payments}
    return payment_readings.facts_of(connection, wanted, readable)


def reading_slot(processor: str) -> str:
    """Return the name of the separate rate limit for payment readings: they must never slow sends down."""
    return f"{processor} {READS}"
