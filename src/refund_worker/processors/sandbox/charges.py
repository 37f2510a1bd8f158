"""Payments as Stripe shows them: the charge, and the payment intent behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refund_worker.processors.sandbox.answers import JsonObject, StripeError
from refund_worker.processors.sandbox.fields import FIELDS
from refund_worker.processors.sandbox.records import Payment

# The optional fields of a registered payment, and what they are in `Payment`.
OPTIONS: Mapping[str, str] = {
    "action_seconds": "action_seconds",
    "captured_minor": "captured",
    "created": "created",
    "customer": "customer",
    "customer_email": "email",
    "customer_must_act": "customer_must_act",
    "intent_metadata": "intent_metadata",
    "livemode": "livemode",
    "metadata": "metadata",
    "payment_method": "method",
    "refund_type": "refund_type",
}


def options_of(fields: Mapping[str, Any], amount: int) -> JsonObject:
    """Return the optional fields of a payment as arguments of `Payment`. Raise `StripeError` (400) for a wrong one."""
    for name in OPTIONS.keys() & fields.keys():
        if not FIELDS[name].accepts(fields[name]):
            raise StripeError(400, f"{name} must be {FIELDS[name].takes}.", param=name)
    if fields.get("captured_minor", amount) > amount:
        raise StripeError(400, "captured_minor must not exceed amount_minor.", param="captured_minor")
    return {OPTIONS[name]: value for name, value in fields.items() if name in OPTIONS}


def charge_object(payment: Payment) -> JsonObject:
    """Return the payment as Stripe's charge object, without its list of refunds."""
    failed = payment.status == "failed"
    return {
        "id": payment.charge_id,
        "object": "charge",
        "amount": payment.amount,
        "amount_captured": payment.captured,
        "amount_refunded": payment.refunded,
        "billing_details": {"email": payment.email},
        "captured": payment.captured > 0,
        "created": payment.created,
        "currency": payment.currency,
        "customer": payment.customer,
        "disputed": payment.disputed,
        "failure_code": payment.failure_code if failed else None,
        "failure_message": "The payment failed." if failed else None,
        "livemode": payment.livemode,
        "metadata": payment.metadata,
        "paid": not failed,
        "payment_intent": payment.payment_intent_id,
        "payment_method_details": {"type": payment.method, payment.method: {}},
        "refunded": payment.refundable == 0,
        "status": payment.status,
    }


def payment_intent_object(payment: Payment, *, expanded: bool = False) -> JsonObject:
    """Return the payment as Stripe's payment intent object. If `expanded`, it has the whole charge, not its id."""
    status = {"failed": "requires_payment_method", "pending": "processing"}.get(payment.status, payment.status)
    return {
        "id": payment.id,
        "object": "payment_intent",
        "amount": payment.amount,
        "amount_received": payment.captured if payment.status == "succeeded" else 0,
        "created": payment.created,
        "currency": payment.currency,
        "customer": payment.customer,
        "latest_charge": charge_object(payment) if expanded else payment.charge_id,
        "livemode": payment.livemode,
        "metadata": payment.intent_metadata,
        "status": status,
    }
