"""One payment and one refund over the HTTP API of a deployment, for tests of the ways to deploy."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from refund_worker.processors.sandbox import Sandbox
from tests.support.deployment import wait_until

READY_SECONDS_MAX = 90.0
AMOUNT_MINOR = 400
PAYMENT = {
    "payment_id": "p1",
    "customer_id": "ann",
    "processor": "stripe",
    "processor_payment_id": "ch_1",
    "amount_minor": 1_000,
    "currency": "GBP",
    "credits": 100,
    "captured_at": "2026-11-01T00:00:00Z",
}
REFUND = {"kind": "withdrawal", "to": "source", "customer_id": "ann", "credits": 40, "reason": "asked"}


class Api:
    """The HTTP API over a socket."""

    def __init__(self, port: int, key: str) -> None:
        self._base, self._key = f"http://127.0.0.1:{port}", key

    def ask(self, method: str, path: str, body: object = None, key: str | None = None) -> dict[str, Any] | None:
        """Return the JSON of a 2xx answer, or None."""
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                document: dict[str, Any] = json.load(answer)
                return document
        except OSError:
            return None


def refund_one(api: Api, sandbox: Sandbox | None) -> str:
    """Record a payment, refund 40 of its 100 credits, wait until that succeeded, and return the refund's id.

    With a sandbox, its own book must have exactly one refund of the right amount.
    """
    if sandbox is not None:
        sandbox.register_payment("ch_1", 1_000)
    assert api.ask("POST", "/v1/payments", PAYMENT)
    asked = api.ask("POST", "/v1/refunds", REFUND, key="k1")
    assert asked
    path = f"/v1/refunds/{asked['id']}"
    wait_until(lambda: (api.ask("GET", path) or {}).get("status") == "succeeded", READY_SECONDS_MAX)
    if sandbox is not None:
        assert [refund["amount"] for refund in sandbox.refunds()] == [AMOUNT_MINOR]
    return str(asked["id"])
