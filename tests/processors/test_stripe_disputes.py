"""The status of a payment's disputes decides if refunds of the payment are blocked."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from refund_worker.domain.processor_replies import PaymentRead
from refund_worker.processors.stripe.adapter import StripeProcessor
from refund_worker.processors.stripe.payments import blocks_refunds

CHARGE = {
    "id": "ch_1",
    "object": "charge",
    "amount": 5_000,
    "amount_captured": 5_000,
    "amount_refunded": 0,
    "captured": True,
    "currency": "eur",
    "disputed": True,
    "livemode": False,
}
INTENT = {
    "id": "pi_1",
    "object": "payment_intent",
    "amount_received": 5_000,
    "currency": "eur",
    "livemode": False,
    "latest_charge": CHARGE,
}


def listed(*statuses: Any) -> dict[str, Any]:
    """Return Stripe's list of disputes with these statuses."""
    return {"object": "list", "has_more": False, "data": [{"object": "dispute", "status": each} for each in statuses]}


@pytest.mark.parametrize(
    ("statuses", "lists_before_sending"),
    [
        (["warning_needs_response"], False),
        (["warning_under_review"], False),
        (["warning_closed"], False),
        (["won"], False),
        (["prevented"], False),
        (["needs_response"], True),
        (["under_review"], True),
        (["lost"], True),
        (["won", "needs_response"], True),
        (["warning_closed", "won"], False),
        (["a_status_of_next_year"], True),
        ([None], True),
        ([], True),
    ],
    ids=str,
)
def test_inquiry_or_won_dispute_does_not_block_refunds(statuses: list[Any], lists_before_sending: bool) -> None:
    assert blocks_refunds(listed(*statuses)) is lists_before_sending


@pytest.mark.parametrize(
    "nothing", [None, [], {"object": "list"}, {"data": []}, {"object": "list", "data": ["won"]}], ids=str
)
def test_unreadable_list_of_disputes_blocks_refunds(nothing: object) -> None:
    assert blocks_refunds(nothing) is True


class Server(ThreadingHTTPServer):
    """Answers the paths in `answers`, and any other path with a 404.

    `asked` has the requested paths with their queries.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Any] = {"/v1/charges/ch_1": CHARGE, "/v1/payment_intents/pi_1": INTENT}
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        """Answer from the server's `answers`."""
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path.partition("?")[0])
        body = json.dumps(answer or {"error": {"type": "invalid_request_error", "message": "no such path"}}).encode()
        self.send_response(200 if answer else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Log nothing."""
        return


@pytest.fixture
def server() -> Iterator[Server]:
    """A running server with one charge and one payment intent, both disputed."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def is_disputed(server: Server, payment_id: str) -> bool | None:
    """Return the adapter's answer if the payment is disputed."""

    async def ask() -> Any:
        adapter = StripeProcessor("sk_test_x", base=f"http://127.0.0.1:{server.server_port}", timeout_seconds=10)
        try:
            return await adapter.find_payment(payment_id)
        finally:
            await adapter.close()

    reply = asyncio.run(ask())
    assert isinstance(reply, PaymentRead)
    return reply.reading.disputed


@pytest.mark.parametrize(("payment_id", "name"), [("ch_1", "charge"), ("pi_1", "payment_intent")])
def test_disputes_of_a_disputed_payment_are_read(server: Server, payment_id: str, name: str) -> None:
    server.answers["/v1/disputes"] = listed("warning_needs_response")
    assert is_disputed(server, payment_id) is False
    server.answers["/v1/disputes"] = listed("needs_response")
    assert is_disputed(server, payment_id) is True
    assert server.asked.count(f"/v1/disputes?{name}={payment_id}&limit=100") == 2


def test_without_a_list_of_disputes_the_charge_decides(server: Server) -> None:
    assert is_disputed(server, "ch_1") is True


def test_disputes_of_an_undisputed_payment_are_not_read(server: Server) -> None:
    server.answers["/v1/charges/ch_1"] = CHARGE | {"disputed": False}
    assert is_disputed(server, "ch_1") is False
    assert server.asked == ["/v1/charges/ch_1"]
