"""Refunds, disputes and warnings in the processor's record that no part of this program made."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from refund_worker.domain.processor_replies import DisputeObject, FraudWarning, RefundObject
from refund_worker.engine.accounts.fraud_warnings import record_warnings
from refund_worker.engine.claims.listener import record_disputes, record_outside_refunds
from refund_worker.engine.context import Context

MADE_AT = datetime(2026, 11, 2, 9, tzinfo=UTC)
DUE_BY = datetime(2026, 11, 20, 23, 59, 59, tzinfo=UTC)


def outside_refund(
    object_id: str, amount_minor: int, *, payment: str = "ch_1", status: str = "succeeded", currency: str = "EUR"
) -> RefundObject:
    """Return a refund that somebody made in the processor's dashboard."""
    return RefundObject(object_id, status, amount_minor, currency, (payment,), None, None, None, MADE_AT)


def dispute(
    object_id: str,
    amount_minor: int,
    *,
    payment: str = "ch_1",
    status: str = "needs_response",
    due_by: datetime | None = DUE_BY,
    currency: str = "EUR",
) -> DisputeObject:
    """Return a dispute in the processor's record."""
    return DisputeObject(object_id, status, amount_minor, currency, (payment,), "fraudulent", MADE_AT, due_by)


def warning(object_id: str, *, payment: str = "ch_1", actionable: bool | None = True) -> FraudWarning:
    """Return an early fraud warning in the processor's record."""
    return FraudWarning(object_id, (payment,), "made_with_stolen_card", actionable, MADE_AT)


def hear(context: Context, *objects: RefundObject | DisputeObject | FraudWarning, **policy: Any) -> None:
    """Record these objects one after the other, as a sync of processor "stripe" that sees them would."""
    context = replace(context, policy=replace(context.policy, outside_since=0.0, **policy))
    for each in objects:
        if isinstance(each, RefundObject):
            record_outside_refunds(context, "stripe", [each])
        elif isinstance(each, FraudWarning):
            record_warnings(context, "stripe", [each])
        else:
            record_disputes(context, "stripe", [each])
