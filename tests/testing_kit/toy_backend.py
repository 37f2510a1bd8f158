"""A toy admin backend that uses refund-worker: it requests over HTTP and receives webhooks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import stripe
from standardwebhooks import Webhook

from refund_worker.client import Client


@dataclass
class ToyBackend:
    """Orders with the results of their refunds. Only signed events change an order."""

    api: Client
    notify_secret: str
    stripe_secret: str = ""
    orders: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    stripe_events: list[str] = field(default_factory=list)

    def cancel_order(self, order: str, customer_id: str, credits: int) -> str:
        """Pay the customer out. The order's id is the idempotency key, so that two clicks pay once."""
        refund = self.api.create_refund(
            kind="withdrawal",
            to="source",
            customer_id=customer_id,
            credits=credits,
            reason=f"order {order} was cancelled",
            metadata={"order": order},
            idempotency_key=f"cancel-{order}",
        )
        self.orders.setdefault(order, refund["status"])
        return refund["id"]

    def receive(self, headers: dict[str, str], body: bytes) -> None:
        """Receive a notification of refund-worker. Repeated and outdated notifications change nothing.

        Raises `WebhookVerificationError`.
        """
        message: dict[str, Any] = Webhook(self.notify_secret).verify(body, headers)
        refund = message["data"]
        if refund["version"] > self.versions.get(refund["id"], 0):
            self.versions[refund["id"]] = refund["version"]
            self.orders[refund["metadata"]["order"]] = refund["status"]

    def receive_stripe(self, headers: dict[str, str], body: bytes) -> None:
        """Receive an event of the processor. Raises `stripe.SignatureVerificationError`."""
        stripe.Webhook.construct_event(body, headers["stripe-signature"], self.stripe_secret)  # type: ignore[no-untyped-call]
        self.stripe_events.append(json.loads(body)["type"])
