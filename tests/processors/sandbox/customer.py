"""A customer whose refunds are requested from a sandbox with the official client."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from refund_worker.processors.sandbox import Sandbox


class Customer:
    """Requests one refund of 3.00 with one key, repeatedly, and reads the result from the book."""

    def __init__(self, client: stripe.StripeClient, sandbox: Sandbox, charge: str) -> None:
        self.client, self.sandbox, self.charge = client, sandbox, charge

    def ask(self, key: str = "") -> stripe.Refund:
        """Request the refund. `key` is appended to the idempotency key."""
        return self.client.v1.refunds.create(
            {"charge": self.charge, "amount": 300}, {"idempotency_key": f"{self.charge}{key}"}
        )

    def fails(self, error: type[stripe.StripeError], status: int | None, key: str = "") -> stripe.StripeError:
        """Request the refund and check that the client raises exactly this error. Return the error."""
        with pytest.raises(error) as raised:
            self.ask(key)
        assert type(raised.value) is error
        assert raised.value.http_status == status
        return raised.value

    def in_book(self) -> list[dict[str, Any]]:
        """Return the charge's refunds in the book."""
        return [refund for refund in self.sandbox.refunds() if refund["charge"] == self.charge]

    def listed(self) -> list[str]:
        """Return the ids of the charge's refunds in the API's list."""
        return [refund.id for refund in self.client.v1.refunds.list({"charge": self.charge}).data]
