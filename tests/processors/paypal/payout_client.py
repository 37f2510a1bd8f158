"""A plain client of the Payouts API, which uses nothing of the code under test."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.parse
from typing import Any

from refund_worker.processors.paypal.sandbox.credentials import CLIENT_ID, CLIENT_SECRET

PATH = "/v1/payments/payouts"


class PayoutClient:
    """Calls of one server. `call` returns status and JSON."""

    def __init__(self, url: str) -> None:
        self._host = urllib.parse.urlsplit(url).netloc
        self._token = ""

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Make a call with a token, and return the status and the JSON of the answer."""
        self._token = self._token or self._new_token()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        text = None if body is None else json.dumps(body)
        return self._ask(method, path, text, {"Authorization": f"Bearer {self._token}", **named})

    def pay(self, sender_batch_id: str, *items: dict[str, Any], key: str = "") -> tuple[int, Any]:
        """Ask for a batch of payouts."""
        body = {"sender_batch_header": {"sender_batch_id": sender_batch_id}, "items": list(items)}
        return self.call("POST", PATH, body, PayPal_Request_Id=key or sender_batch_id)

    def batch(self, batch_id: str, query: str = "") -> Any:
        """Return a batch."""
        status, shown = self.call("GET", f"{PATH}/{batch_id}{query}")
        assert status == 200, shown
        return shown

    def item(self, batch_id: str) -> Any:
        """Return the only item of a batch, as its own address shows it."""
        (listed,) = self.batch(batch_id)["items"]
        status, shown = self.call("GET", f"{PATH}-item/{listed['payout_item_id']}")
        assert status == 200, shown
        return shown

    def _new_token(self) -> str:
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        form = {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}
        _, shown = self._ask("POST", "/v1/oauth2/token", "grant_type=client_credentials", form)
        return str(shown["access_token"])

    def _ask(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self._host, timeout=20)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, json.loads(text) if text.startswith("{") else text
        finally:
            connection.close()


def item(receiver: str = "ann@example.com", value: str = "9.00", currency: str = "USD", **more: Any) -> dict[str, Any]:
    """Return one item of a request."""
    amount = {"value": value, "currency": currency}
    return {"recipient_type": "EMAIL", "receiver": receiver, "amount": amount, **more}
