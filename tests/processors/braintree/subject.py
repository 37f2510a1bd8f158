"""Braintree under contract, against the local server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from pydantic import SecretStr
from tests.processors.braintree.book import text_of_time
from tests.processors.braintree.server import FORM, MERCHANT, PRIVATE, PUBLIC, BraintreeServer, signed_form
from tests.processors.braintree.xml_text import notification_xml
from tests.processors.contract import CURRENCY, Subject

from refund_worker.domain.processor_replies import Busy, RefundObject
from refund_worker.processors.base import AccountSettings, Processor
from refund_worker.processors.braintree.adapter import BraintreeProcessor
from refund_worker.processors.braintree.entry import CAPABILITIES, ENTRY

AT = 1_800_000_000.0  # when the contract's events are signed
_STATES = {"succeeded": "settled", "pending": "settling", "canceled": "voided"}


class Braintree(Subject):
    """The Braintree adapter, which lacks nothing."""

    name = "braintree"
    capabilities = CAPABILITIES
    entry = ENTRY
    reads_payments = True
    accepted_status = "pending"
    failure_code = "4001"
    unknown_payment = "zzzzzzzz"
    unknown_refund = "yyyyyyyy"
    wrong_payment_ids = ("ch_1", "dHJhbnNhY3Rpb25fYWJj", "tx/1", "a" * 37)
    wrong_secret = "test_wrong_private_key"
    lost_answers = ("timeout", "reset", "cut", "garbage")
    busy = {"in_flight": Busy("915233"), "429": Busy("rate_limit", 3.0)}  # noqa: RUF012
    secret = f"{PUBLIC}:{PRIVATE}"

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.server = BraintreeServer()
        self.server.__enter__()

    def close(self) -> None:
        super().close()
        self.server.__exit__()
        assert self.server.violations == []

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.server.book.now(), UTC)

    def adapter(self, *, timeout_seconds: float = 10) -> Processor:
        return BraintreeProcessor(MERCHANT, PUBLIC, PRIVATE, base=self.server.url, timeout_seconds=timeout_seconds)

    def stranger(self) -> Processor:
        return BraintreeProcessor(MERCHANT, PUBLIC, self.wrong_secret, base=self.server.url)

    def new_payment(self, amount_minor: int, *, disputed: bool = False) -> str:
        # Only PayPal refuses refunds of a disputed payment.
        instrument = "paypal_account" if disputed else "credit_card"
        amount = str(Decimal(amount_minor).scaleb(-2))
        payment_id = self.server.book.sale(amount, CURRENCY, instrument=instrument)
        if disputed:
            self.server.book.transactions[payment_id].disputes.append(("chargeback", "open"))
        return payment_id

    def booked(self, payment_id: str) -> list[int]:
        return [int(amount.scaleb(2)) for amount in self.server.book.given_back(payment_id)]

    def refund_elsewhere(self, payment_id: str, amount_minor: int) -> None:
        self.server.book.refund(payment_id, str(Decimal(amount_minor).scaleb(-2)), "an order of the shop")

    def change(self, processor_refund_id: str, status: str, failure_code: str | None) -> None:
        theirs = _STATES.get(status, "failed")
        if failure_code is not None and failure_code.startswith("4"):
            theirs = "settlement_declined"
        self.server.book.become(processor_refund_id, theirs, failure_code)

    def pass_time(self, seconds: float) -> None:
        self.server.book.clock_offset += seconds

    def break_next(self, fault: str, payment_id: str) -> None:
        self.server.break_next(payment_id, {"server error": "error"}.get(fault, fault))

    def event_about(self, refund_object: RefundObject) -> tuple[str, bytes]:
        refund_id, at = refund_object.processor_refund_id, self.server.book.now()
        return f"refund_failed:{refund_id}:{text_of_time(at)}", self.server.event("refund_failed", refund_id, at=at)

    def other_event(self) -> bytes:
        return signed_form(notification_xml("disbursement", AT, "<disbursement><id>2026</id></disbursement>"))

    def account(self, *secrets: str) -> AccountSettings:
        pairs = [secret if ":" in secret else f"{PUBLIC}:{secret}" for secret in secrets]
        return ENTRY.settings(webhook_secret=SecretStr(",".join(pairs)) if pairs else None)

    def signed(self, body: bytes, *, secret: str, at: float) -> dict[str, str]:
        # The signature is in the body.
        assert json.dumps(secret)
        return {"content-type": FORM}
