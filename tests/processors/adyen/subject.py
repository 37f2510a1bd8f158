"""Adyen under contract, against the local server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr
from tests.processors.adyen.book import HMAC_KEY, MERCHANT, NO_FUNDS, NOT_CAPTURED, TOO_MUCH, as_body
from tests.processors.adyen.server import API_KEY, AdyenServer
from tests.processors.contract import CURRENCY, Subject

from refund_worker.domain.processor_replies import Busy, RefundObject
from refund_worker.processors.adyen.adapter import AdyenProcessor
from refund_worker.processors.adyen.entry import CAPABILITIES, ENTRY, AdyenSettings
from refund_worker.processors.base import AccountSettings, Processor

# Our failure code → a reason of Adyen's that means it.
REASONS = {
    "insufficient_balance": NO_FUNDS,
    "payment_balance_too_low": TOO_MUCH,
    "payment_not_captured": NOT_CAPTURED,
    "refund_refused": "Refused by the moon",
}
SIGNED = ("pspReference", "originalReference", "merchantAccountCode", "merchantReference", "eventCode", "success")


class Adyen(Subject):
    """The Adyen adapter, which lacks nothing."""

    name = "adyen"
    capabilities = CAPABILITIES
    entry = ENTRY
    gives_request_ids = True
    accepted_status = "pending"
    answers_have_times = False
    signs_headers = False
    coarser_currencies = frozenset({"CVE", "IDR"})
    unknown_payment = "NOSUCHPAYMENT000"
    wrong_payment_ids = ("pi_3NobodyKnows", "ch_1", "9913140798220028/refunds", "abcdefghijklmnop")
    wrong_secret = "wrong_adyen_key"
    lost_answers = ("timeout", "reset", "cut")
    busy = {"429": Busy("rate_limit", 3.0)}  # noqa: RUF012
    secret = HMAC_KEY
    another_secret = "00" * 32

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.server = AdyenServer()
        self.server.__enter__()

    def close(self) -> None:
        super().close()
        self.server.__exit__()
        assert self.server.state.violations == []

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.server.book.now(), UTC)

    def adapter(self, *, timeout_seconds: float = 10) -> Processor:
        return self._adapter(API_KEY, timeout_seconds)

    def stranger(self) -> Processor:
        return self._adapter(self.wrong_secret, 10)

    def _adapter(self, api_key: str, timeout_seconds: float) -> Processor:
        base = f"{self.server.url}/v72"
        return AdyenProcessor(api_key, MERCHANT, base=base, live=False, timeout_seconds=timeout_seconds)

    def new_payment(self, amount_minor: int, *, disputed: bool = False) -> str:
        return self.server.book.capture(amount_minor, CURRENCY).psp

    def booked(self, payment_id: str) -> list[int]:
        return self.server.book.paid(payment_id)

    def refund_elsewhere(self, payment_id: str, amount_minor: int) -> None:
        self.server.book.refund(payment_id, amount_minor)

    def pass_time(self, seconds: float) -> None:
        self.server.book.clock_offset += seconds

    def break_next(self, fault: str, payment_id: str) -> None:
        self.server.break_next(payment_id, {"server error": "error"}.get(fault, fault))

    def report(self, processor_refund_id: str, status: str, failure_code: str | None) -> tuple[dict[str, str], bytes]:
        book, already = self.server.book, self.server.book.refunds[processor_refund_id].state == "sent"
        if status == "succeeded":
            return {}, as_body(book.process(processor_refund_id))
        if already and failure_code is None:
            return {}, as_body(book.fail(processor_refund_id))
        return {}, as_body(book.process(processor_refund_id, reason=REASONS[failure_code or "refund_refused"]))

    def altered(self, body: bytes) -> Iterator[bytes]:
        (event,) = [each for each in self.server.book.events if as_body(each) == body]
        item = event["notificationItems"][0]["NotificationRequestItem"]
        values = [*(item[name] for name in SIGNED), item["additionalData"]["hmacSignature"]]
        for value in [*values, str(item["amount"]["value"]), item["amount"]["currency"]]:
            at = body.index(value.encode())
            for place in range(at, at + len(value)):
                # Another character of the same kind, so that the form stays right wherever it is checked.
                other = ord("7") if body[place] != ord("7") else ord("8")
                yield body[:place] + bytes((other,)) + body[place + 1 :]

    def event_about(self, refund_object: RefundObject) -> tuple[str, bytes]:
        event = self.server.book.process(refund_object.processor_refund_id)
        return f"REFUND:true:{refund_object.processor_refund_id}", as_body(event)

    def other_event(self) -> bytes:
        return as_body(self.server.book.authorisation(self.new_payment(5000)))

    def account(self, *secrets: str) -> AccountSettings:
        keys = SecretStr(",".join(secrets)) if secrets else None
        return AdyenSettings(merchant_account=MERCHANT, webhook_secret=keys)
