"""A toy admin backend, such as one that uses refund-worker: it asks by HTTP and hears by webhook."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import stripe
from standardwebhooks import Webhook

from refund_worker.client import Client


@dataclass
class ToyBackend:
    """Orders with what became of their refunds. Nothing that is not signed changes an order."""

    api: Client
    notify_secret: str
    stripe_secret: str = ""
    orders: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    stripe_events: list[str] = field(default_factory=list)

    def cancel_order(self, order: str, customer_id: str, credits: int) -> str:
        """Pay the customer out; the order's id is the idempotency key, so that two clicks pay once."""
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

    def hear(self, headers: dict[str, str], body: bytes) -> None:
        """A notification of refund-worker's; what comes again, or later than what followed it, changes nothing.

        Raises `WebhookVerificationError`.
        """
        message: dict[str, Any] = Webhook(self.notify_secret).verify(body, headers)
        refund = message["data"]
        if refund["version"] > self.versions.get(refund["id"], 0):
            self.versions[refund["id"]] = refund["version"]
            self.orders[refund["metadata"]["order"]] = refund["status"]

    def hear_stripe(self, headers: dict[str, str], body: bytes) -> None:
        """An event of the processor's. Raises `stripe.SignatureVerificationError`."""
        stripe.Webhook.construct_event(body, headers["stripe-signature"], self.stripe_secret)  # type: ignore[no-untyped-call]
        self.stripe_events.append(json.loads(body)["type"])
