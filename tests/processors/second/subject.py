"""AcmePay under contract, against the little server."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from tests.processors.contract import CURRENCY, Subject

from refund_worker.processors.adapter_api import Busy, Processor, RefundObject

from .acmepay.adapter import AcmePayProcessor
from .acmepay.entry import CAPABILITIES, ENTRY
from .acmepay.events import signature_of
from .acmepay.objects import STATUSES
from .server import LAG_SECONDS, PAGE_SIZE, TOKEN, AcmePayServer

_numbers = itertools.count(1)
_STATES = {status: state for state, status in STATUSES.items()}


class AcmePay(Subject):
    """The second adapter, which lacks nothing."""

    name = "acmepay"
    capabilities = CAPABILITIES
    entry = ENTRY
    reads_payments = True
    page_size = PAGE_SIZE
    gives_request_ids = True
    unknown_payment = "AP-999999999999"
    unknown_refund = "RF-999999999999"
    wrong_payment_ids = ("ch_1", "ap-1", "AP-1x")
    wrong_secret = "test_wrong_token"
    lost_answers = ("timeout", "reset", "cut")
    busy = {"ID_BUSY": Busy("ID_BUSY"), "SLOW_DOWN": Busy("SLOW_DOWN", 3.0)}  # noqa: RUF012
    secret = "acme_secret"
    another_secret = "acme_another"
    failure_code = "ACCOUNT_GONE"

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        self.server = AcmePayServer()
        self.server.__enter__()

    def close(self) -> None:
        super().close()
        self.server.__exit__()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.server.book.now(), UTC)

    def adapter(self, *, timeout_seconds: float = 10) -> Processor:
        return AcmePayProcessor(TOKEN, base=self.server.url, name=self.name, timeout_seconds=timeout_seconds)

    def stranger(self) -> Processor:
        return AcmePayProcessor(self.wrong_secret, base=self.server.url, name=self.name)

    def new_payment(self, amount_minor: int, *, disputed: bool = False) -> str:
        return self.server.new_payment(str(Decimal(amount_minor).scaleb(-2)), CURRENCY, contested=disputed)

    def booked(self, payment_id: str) -> list[int]:
        return [int(each.value.scaleb(2)) for each in self.server.refunds_of(payment_id)]

    def refund_elsewhere(self, payment_id: str, amount_minor: int) -> None:
        self.server.refund(payment_id, Decimal(amount_minor).scaleb(-2), {})

    def change(self, processor_refund_id: str, status: str, failure_code: str | None) -> None:
        refund = self.server.book.refunds[processor_refund_id]
        refund.state, refund.cause = _STATES[status], failure_code

    def pass_time(self, seconds: float) -> None:
        self.server.book.clock_offset += seconds

    def wait_for_lists(self) -> None:
        self.pass_time(LAG_SECONDS + 1)

    def break_next(self, fault: str, payment_id: str) -> None:
        names = {"server error": "error", "waits for the customer": "ask"}
        self.server.faults[payment_id].append(names.get(fault, fault))

    def event_about(self, refund_object: RefundObject) -> tuple[str, bytes]:
        event_id = f"EV-{next(_numbers)}"
        event = {"event": event_id, "topic": "refund.changed", "refund": refund_object.processor_refund_id}
        return event_id, json.dumps(event).encode()

    def other_event(self) -> bytes:
        return b'{"event": "EV-0", "topic": "payment.captured", "payment": "AP-1"}'

    def signed(self, body: bytes, *, secret: str, at: float) -> dict[str, str]:
        timestamp = str(int(at))
        return {"acme-timestamp": timestamp, "acme-signature": signature_of(body, timestamp, secret)}
