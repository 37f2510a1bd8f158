"""Requests of the adapter and answers of the local server fit the descriptions that PayPal publishes."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import pytest
from tests.processors.paypal.conftest import Bench, needs_openssl, order
from tests.support.openapi_check import described

from refund_worker.processors.paypal import events, verification
from refund_worker.processors.paypal.sandbox.server import CERTIFICATE, PayPalServer

PAYMENTS, ORDERS = "paypal_payments_payment_v2.json", "paypal_checkout_orders_v2.json"
WEBHOOKS = "paypal_notifications_webhooks_v1.json"
PATHS = {
    r"/v2/payments/captures/[A-Z0-9]+/refund": (PAYMENTS, "/v2/payments/captures/{capture_id}/refund"),
    r"/v2/payments/captures/[A-Z0-9]+": (PAYMENTS, "/v2/payments/captures/{capture_id}"),
    r"/v2/payments/refunds/[A-Z0-9]+": (PAYMENTS, "/v2/payments/refunds/{refund_id}"),
    r"/v2/checkout/orders/[A-Z0-9]+": (ORDERS, "/v2/checkout/orders/{id}"),
}
# A reason that PayPal does not publish: only the contract suite uses others.
REASON = "ECHECK"


def _published(path: str) -> tuple[str, str]:
    return next(where for form, where in PATHS.items() if re.fullmatch(form, path))


def _use_everything(bench: Bench) -> None:
    """Make each kind of request, and meet each kind of answer."""
    server, adapter = bench.server, bench.adapter()

    def send(capture: str, key: str, minor: int = 100, attempt: int = 1, currency: str = "GBP") -> Any:
        return bench.run(adapter.send(key, adapter.freeze(order(capture, minor, attempt, currency))))

    capture = server.new_payment("9.00")
    made = send(capture, "a:1").object
    send(capture, "a:1")
    send(capture, "a:2", 800, 2)
    send(capture, "a:3", 100, 3)
    yen = server.new_payment("900", "JPY")
    send(yen, "b:1", 900, currency="JPY")
    send(yen, "b:2", 900, 2, "GBP")
    server.refunds_of(capture)[0].trace = "74836950144358910018150"
    server.change(made.processor_refund_id, "FAILED", REASON)
    bench.run(adapter.fetch(made.processor_refund_id))
    for captured in ({"state": "PENDING", "reason": REASON}, {"disputed": "case"}, {"disputed": "chargeback"}):
        troubled = server.new_payment("9.00", **captured)
        send(troubled, f"{troubled}:1")
        bench.run(adapter.find_payment(troubled))
    for fault in ("pending", "409", "error503", "error500", "minimal", "issue:PERMISSION_DENIED"):
        troubled = server.new_payment("9.00")
        server.book.faults[troubled].append(fault)
        send(troubled, f"{troubled}:1")
    server.book.balance["GBP"] = Decimal(0)
    send(server.new_payment("9.00"), "c:1")
    for asked in (capture, yen, server.new_payment("9.00", order_id=None), "CAP99999999999999"):
        bench.run(adapter.find(asked, ""))
        bench.run(adapter.find_payment(asked))
    bench.run(adapter.fetch("RFD99999999999999"))


def test_requests_and_answers_fit_the_published_description(bench: Bench) -> None:
    _use_everything(bench)
    faults, seen = [], set()
    for exchange in bench.server.exchanges:
        file, path = _published(exchange.path)
        published = described(file)
        seen.add((path, exchange.method, exchange.status))
        if exchange.request is not None:
            schema = published.request(path, exchange.method)
            faults += [f"request of {path}: {each}" for each in published.faults(exchange.request, schema)]
        answer = published.answer(path, exchange.method, 201 if exchange.status == 200 else exchange.status)
        answer = answer or published.answer(path, exchange.method, exchange.status)
        if answer is None or exchange.status >= 500:
            answer = published.schema_of(f"error_{exchange.status}")
        faults += [f"{exchange.status} of {path}: {each}" for each in published.faults(exchange.answer, answer)]
    assert faults == []
    assert {status for _, method, status in seen if method == "POST"} == {200, 201, 403, 409, 422, 500, 503}
    assert {path for path, _, _ in seen} == {path for _, path in PATHS.values()}


def test_refusals_of_the_server_use_published_issues_only(bench: Bench) -> None:
    _use_everything(bench)
    published = described(PAYMENTS).values_of("issue")
    used = {
        detail["issue"]
        for exchange in bench.server.exchanges
        if isinstance(exchange.answer, dict)
        for detail in exchange.answer.get("details", [])
    }
    assert len(used) > 5
    assert used <= published


@needs_openssl
def test_event_and_question_about_it_fit_the_description(server: PayPalServer) -> None:
    published = described(WEBHOOKS)
    refund = server.refund_elsewhere(server.new_payment("9.00"), "1.00")
    _, body = server.event(refund)
    assert published.faults(json.loads(body), published.schema_of("event")) == []
    headers = server.signed(body)
    sent = events.Transmission.of(headers, server.book.now())
    question = json.loads(verification._question(sent, server.webhook_id, body))
    path = "/v1/notifications/verify-webhook-signature"
    assert published.faults(question, published.request(path, "POST")) == []
    assert question["webhook_event"] == json.loads(body)
    assert question["cert_url"].endswith(CERTIFICATE)


@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE"])
def test_answer_about_an_event_fits_the_description(status: str) -> None:
    published = described(WEBHOOKS)
    answer = published.answer("/v1/notifications/verify-webhook-signature", "POST", 200)
    assert answer is not None
    assert published.faults({"verification_status": status}, answer) == []
