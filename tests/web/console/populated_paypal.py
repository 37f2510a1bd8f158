"""A second account, at PayPal, for the populated console: a refund over both accounts, and one that PayPal refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from refund_worker.domain.records import PaymentRecord
from refund_worker.domain.refund import Kind, RefundRequest, To
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.processors.paypal.sandbox import CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID, PayPalServer

ACCOUNT = "paypal"
BOTH, REFUSED = "moreau-3001", "nilsson-3002"


def processors_setting(paypal: PayPalServer) -> str:
    """Return `PROCESSORS` with the account at this server."""
    table = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "webhook_id": WEBHOOK_ID, "api_base": paypal.url}
    return json.dumps({ACCOUNT: table})


def refund_over_paypal(shop: Any, paypal: PayPalServer) -> Mapping[str, str]:
    """Refund a customer over both accounts, and one whose payment PayPal does not refund; return the ids by name."""
    shop.sandbox.register_payment("ch_both", 3_000, "EUR")
    _record(shop, BOTH, "stripe", "ch_both", 3_000)
    _record(shop, BOTH, ACCOUNT, _capture(paypal, 2_000), 2_000)
    refused = _capture(paypal, 2_500)
    _record(shop, REFUSED, ACCOUNT, refused, 2_500)
    paypal.book.faults[refused].append("issue:REFUND_IS_RESTRICTED")
    requests = [
        RefundRequest(
            idempotency_key=f"paypal-{who}", kind=Kind.WITHDRAWAL, to=To.SOURCE, customer_id=who, credits=credits,
            reason="asked by mail", client="backend", actor="backend/shop",
        )
        for who, credits in ((BOTH, 400), (REFUSED, 250))
    ]  # fmt: skip
    answers = request_refunds(shop.context, requests)
    assert all(isinstance(answer, Accepted) for answer in answers)
    shop.work(2)
    both, blocked = answers
    return {
        "both": both.refund_id,
        "blocked": blocked.refund_id,
        "customer_of_both": BOTH,
        "payment_by_paypal": f"pay-{refused}",
    }


def _capture(paypal: PayPalServer, amount_minor: int) -> str:
    return paypal.new_payment(str(Decimal(amount_minor).scaleb(-2)), "EUR")


def _record(shop: Any, customer_id: str, account: str, reference: str, amount_minor: int) -> None:
    paid = PaymentRecord(
        payment_id=f"pay-{reference}", customer_id=customer_id, processor=account, processor_payment_id=reference,
        amount_minor=amount_minor, currency="EUR", credits=amount_minor // 10,
        captured_at=shop.now - (172_800 if account == ACCOUNT else 864_000),
    )  # fmt: skip
    record_payments(shop.context, [paid])
