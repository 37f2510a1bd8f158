"""Our HTTP protocol under contract, against the reference server in another process."""

from __future__ import annotations

import atexit
import base64
import functools
import hashlib
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr
from tests.processors.contract import CURRENCY, Subject
from tests.processors.http.server import BUSY, LOST, SECRET, Process, misbehaving

from refund_worker.domain.processor_replies import Busy, RefundObject
from refund_worker.processors.base import AccountSettings, Processor
from refund_worker.processors.http.adapter import HttpProcessor
from refund_worker.processors.http.entry import ENTRY, HttpSettings, capabilities_of
from refund_worker.processors.http.signing import signature_headers

_numbers = itertools.count(1)
WRONG_SECRET = "whsec_" + base64.b64encode(b"another secret of thirty-two byte").decode()
# The account that the reference server's GET /capabilities describes.
TABLE: dict[str, Any] = {
    "mode": "test",
    "key_seconds": 30 * 86_400,
    "finds_by": "payment",
    "lists_refunds": True,
    "list_proves_absence": True,
    "answers_are_outcomes": True,
    "answers_are_final": False,
    "reads_payments": True,
    "partial_refunds": True,
    "cancels": True,
    "refund_window_seconds": 180 * 86_400,
}


def account(url: str, secret: str = SECRET, **others: Any) -> HttpSettings:
    """Return an account at this address, with the table of the reference server."""
    return HttpSettings(api_base=url, secret=SecretStr(secret), **(TABLE | others))


@functools.cache
def shared_server() -> Process:
    """Return one server for all tests of this process."""
    server = misbehaving().__enter__()
    atexit.register(server.__exit__)
    return server


def as_secret(name: str) -> str:
    """Return a secret in the form of the protocol for a name that a test uses as one."""
    if name.startswith("whsec_"):
        return name
    return "whsec_" + base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()


class OverHttp(Subject):
    """The adapter of the protocol, which lacks nothing."""

    name = "http"
    capabilities = capabilities_of(account("http://127.0.0.1"))
    entry = ENTRY
    reads_payments = True
    page_size = 100
    has_pages = True
    unknown_payment = "no-such-payment"
    unknown_refund = "no-such-refund"
    wrong_payment_ids = ("a b", "..", "ü")
    wrong_secret = WRONG_SECRET
    lost_answers = LOST
    busy = {name: Busy("busy", 3.0) for name in BUSY}  # noqa: RUF012
    secret = "the secret of events"

    @property
    def server(self) -> Process:
        """The server."""
        return shared_server()

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.server.control("clock")["seconds"])

    def adapter(self, *, timeout_seconds: float = 10) -> Processor:
        return HttpProcessor(account(self.server.url), timeout_seconds=timeout_seconds, page_pauses_seconds=())

    def stranger(self) -> Processor:
        return HttpProcessor(account(self.server.url, WRONG_SECRET), page_pauses_seconds=())

    def new_payment(self, amount_minor: int, *, disputed: bool = False) -> str:
        fields = {"amount_minor": amount_minor, "currency": CURRENCY, "disputed": disputed}
        return str(self.server.control("test/payments", fields)["id"])

    def booked(self, payment_id: str) -> list[int]:
        return list(self.server.control("refunds").get(payment_id, []))

    def refund_elsewhere(self, payment_id: str, amount_minor: int) -> None:
        self.server.control("test/refunds", {"payment": payment_id, "amount_minor": amount_minor})

    def change(self, processor_refund_id: str, status: str, failure_code: str | None) -> None:
        self.server.control(f"test/refunds/{processor_refund_id}", {"status": status, "failure_code": failure_code})

    def pass_time(self, seconds: float) -> None:
        self.server.control("clock", {"seconds": seconds})

    def break_next(self, fault: str, payment_id: str) -> None:
        self.server.control("faults", {"payment": payment_id, "fault": fault})

    def event_about(self, refund_object: RefundObject) -> tuple[str, bytes]:
        event_id = f"evt-{next(_numbers)}"
        event = {"id": event_id, "type": "refund.updated", "refund": refund_object.processor_refund_id}
        return event_id, json.dumps(event).encode()

    def other_event(self) -> bytes:
        return b'{"id": "evt-0", "type": "payment.captured", "payment": "p-1"}'

    def account(self, *secrets: str) -> AccountSettings:
        given = ",".join(as_secret(each) for each in secrets)
        return HttpSettings(webhook_secret=SecretStr(given) if secrets else None)

    def signed(self, body: bytes, *, secret: str, at: float) -> dict[str, str]:
        return signature_headers([as_secret(secret)], "evt-1", int(at), body)
