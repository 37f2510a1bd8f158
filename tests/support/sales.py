"""Payments, spends and refund requests of customers, by a name of the test's choice.

Payment `p-NAME` belongs to customer `c-NAME` and was made by charge `ch_NAME`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import Kind, RefundRequest, To
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.accounts.spends import record_spends
from refund_worker.engine.context import Context
from refund_worker.processors.sandbox import Sandbox


def paid(name: object, **changes: Any) -> PaymentRecord:
    """Return a payment of 10.00 GBP for 100 credits."""
    fields: dict[str, Any] = {
        "payment_id": f"p-{name}",
        "customer_id": f"c-{name}",
        "processor": "stripe",
        "processor_payment_id": f"ch_{name}",
        "amount_minor": 1000,
        "currency": "GBP",
        "credits": 100,
        "captured_at": 1_700_000_000.0,
    }
    return PaymentRecord(**(fields | changes))


def spent(name: object, **changes: Any) -> SpendRecord:
    """Return transaction `t-NAME`: 50 credits, spent after the payment."""
    fields: dict[str, Any] = {
        "transaction_id": f"t-{name}",
        "customer_id": f"c-{name}",
        "credits": 50,
        "description": "Private chat",
        "occurred_at": 1_700_000_100.0,
    }
    return SpendRecord(**(fields | changes))


def withdrawal(name: object, **changes: Any) -> RefundRequest:
    """Return a request for 50 credits back to source, with the key `k-NAME`."""
    fields: dict[str, Any] = {
        "idempotency_key": f"k-{name}",
        "customer_id": f"c-{name}",
        "kind": Kind.WITHDRAWAL,
        "to": To.SOURCE,
        "credits": 50,
        "reason": "asked",
    }
    return RefundRequest(**(fields | changes))


def captured(payments: Iterable[PaymentRecord]) -> list[dict[str, Any]]:
    """Return the payments in the form that the sandbox registers."""
    names = ("processor_payment_id", "amount_minor", "currency")
    return [{name: getattr(payment, name) for name in names} for payment in payments]


def sell(context: Context, sandbox: Sandbox, payments: list[PaymentRecord], spends: Iterable[SpendRecord] = ()) -> None:
    """Record payments in the sandbox and with us, and spends with us. Fail if one of them is refused."""
    sandbox.register_payments(captured(payments))
    answers: list[object] = [*record_payments(context, payments), *record_spends(context, list(spends))]
    assert not [answer for answer in answers if isinstance(answer, Exception)], answers
