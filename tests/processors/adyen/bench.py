"""Means for the tests of the Adyen adapter: an adapter with the local server, and events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.processors.adyen.book import HMAC_KEY, MERCHANT, as_body, signature
from tests.processors.adyen.server import API_KEY, AdyenServer

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import Answered, RefundObject, Reply
from refund_worker.processors.adyen.adapter import AdyenProcessor
from refund_worker.processors.adyen.entry import ENTRY, AdyenSettings
from refund_worker.processors.base import Webhooks

T = TypeVar("T")
INSTALLATION = "inst_" + "0123456789abcdef" * 2
LEG = "rf_0199a2b3c4d50001a2b3c4d5e6-1"
assert ENTRY.webhooks is not None
WEBHOOKS: Webhooks = ENTRY.webhooks


class Bench:
    """An adapter with a server of its own. `send` sends the same order with the same key each time."""

    def __init__(self, server: AdyenServer, *, timeout_seconds: float = 0.6) -> None:
        self.server = server
        self._loop = asyncio.new_event_loop()
        self.adapter = AdyenProcessor(
            API_KEY, MERCHANT, base=f"{server.url}/v72", live=False, timeout_seconds=timeout_seconds
        )

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self._loop.run_until_complete(work)

    def payment(self, value: int = 5000, currency: str = "GBP") -> str:
        """Capture a payment and return its pspReference."""
        return self.server.book.capture(value, currency).psp

    def send(self, payment: str, amount_minor: int = 900, *, key: str = f"{LEG}:1", currency: str = "GBP") -> Reply:
        """Send an order under a key."""
        return self.run(self.adapter.send(key, self.adapter.freeze(order(payment, amount_minor, currency))))

    def made(self, payment: str, amount_minor: int = 900) -> RefundObject:
        """Send an order that is accepted, and return its object."""
        reply = self.send(payment, amount_minor)
        assert isinstance(reply, Answered), reply
        return reply.object

    def close(self) -> None:
        """Close the adapter and the loop."""
        self.run(self.adapter.close())
        self._loop.close()


def order(payment: str, amount_minor: int = 900, currency: str = "GBP", **others: Any) -> RefundInstruction:
    """Return the instruction for a refund."""
    fields = {"refund_id": "rf_0199a2b3c4d50001a2b3c4d5e6", "leg_id": LEG, "attempt": 1, "reason": "asked"}
    return RefundInstruction(
        processor_payment_id=payment,
        amount_minor=amount_minor,
        currency=currency,
        **{**fields, "installation": INSTALLATION, **others},
    )


def account(keys: str | None = HMAC_KEY, **others: Any) -> AdyenSettings:
    """Return the settings of an account that takes webhooks."""
    return AdyenSettings(**{"merchant_account": MERCHANT, "webhook_secret": keys, **others})


def an_item(**changes: Any) -> dict[str, Any]:
    """Return the item of a REFUND event about a refund of ours, without a signature. A None leaves a field out."""
    item = {
        "amount": {"value": 900, "currency": "GBP"},
        "eventCode": "REFUND",
        "eventDate": "2026-11-02T10:00:00+01:00",
        "merchantAccountCode": MERCHANT,
        "merchantReference": f"rw.{LEG}.1.{INSTALLATION}",
        "originalReference": "9913140798220028",
        "paymentMethod": "visa",
        "pspReference": "QFQTPCQ8HXSKGK82",
        "reason": "",
        "success": "true",
    }
    return {name: value for name, value in {**item, **changes}.items() if value is not None}


def an_event(item: dict[str, Any] | None = None, *, live: str = "false", key: str = HMAC_KEY, **more: Any) -> bytes:
    """Return the body with one signed item; `more` becomes additional data."""
    item = an_item() if item is None else item
    signed = {**item, "additionalData": {**more, "hmacSignature": signature(item, key)}}
    return as_body({"live": live, "notificationItems": [{"NotificationRequestItem": signed}]})


def report_of(body: bytes) -> RefundObject | None:
    """Return what the only event of a body reports."""
    (part,) = WEBHOOKS.split(body)
    _, kind = WEBHOOKS.event_name(part)
    return WEBHOOKS.event_report(kind, part.decode())


def items_of(body: bytes) -> list[dict[str, Any]]:
    """Return the items of a body."""
    return [each["NotificationRequestItem"] for each in json.loads(body)["notificationItems"]]
