"""PayPal under contract, against the local server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from tests.processors.contract import CURRENCY, Subject
from tests.processors.paypal.signing import OPENSSL, WITHOUT_OPENSSL, signer

from refund_worker.domain.processor_replies import Busy, RefundObject
from refund_worker.processors.base import AccountSettings, Processor
from refund_worker.processors.paypal import verification
from refund_worker.processors.paypal.adapter import PayPalProcessor
from refund_worker.processors.paypal.entry import CAPABILITIES, ENTRY, PayPalSettings
from refund_worker.processors.paypal.objects import STATUSES
from refund_worker.processors.paypal.sandbox.book import DAY
from refund_worker.processors.paypal.sandbox.credentials import CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID
from refund_worker.processors.paypal.sandbox.failures import RETRY_AFTER_SECONDS
from refund_worker.processors.paypal.sandbox.server import PayPalServer

_STATES = {status: state for state, status in STATUSES.items()}


class PayPal(Subject):
    """The PayPal adapter, which lacks nothing. Its events are checked by asking the server."""

    name = "paypal"
    capabilities = CAPABILITIES
    entry = ENTRY
    reads_payments = True
    gives_request_ids = True
    unknown_payment = "CAP99999999999999"
    unknown_refund = "RFD99999999999999"
    wrong_payment_ids = ("ch_1", "PAYID-MW3FBGA3TM6884782447752G", "2gg279541u471931p", "2GG279541U471931P/refund")
    wrong_secret = "local_paypal_wrong_secret"
    lost_answers = ("timeout", "reset", "cut", "proxy")
    busy = {  # noqa: RUF012
        "409": Busy("PREVIOUS_REQUEST_IN_PROGRESS"),
        "429": Busy("RATE_LIMIT_REACHED", float(RETRY_AFTER_SECONDS)),
    }
    secret = WEBHOOK_ID
    event_seconds = 4 * DAY
    coarser_currencies = frozenset({"HUF", "TWD"})
    verification = "postback"

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(request)
        verification.forget()
        self.server = PayPalServer(signer=signer)
        self.server.__enter__()

    def close(self) -> None:
        super().close()
        self.server.__exit__()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.server.book.now(), UTC)

    def adapter(self, *, timeout_seconds: float = 10) -> Processor:
        return self._adapter(CLIENT_SECRET, timeout_seconds)

    def stranger(self) -> Processor:
        return self._adapter(self.wrong_secret, 10)

    def _adapter(self, secret: str, timeout_seconds: float) -> PayPalProcessor:
        return PayPalProcessor(CLIENT_ID, secret, base=self.server.url, live=False, timeout_seconds=timeout_seconds)

    def new_payment(self, amount_minor: int, *, disputed: bool = False) -> str:
        amount = str(Decimal(amount_minor).scaleb(-2))
        return self.server.new_payment(amount, CURRENCY, disputed="chargeback" if disputed else "")

    def booked(self, payment_id: str) -> list[int]:
        return [int(each.amount.scaleb(2)) for each in self.server.refunds_of(payment_id)]

    def refund_elsewhere(self, payment_id: str, amount_minor: int) -> None:
        self.server.refund_elsewhere(payment_id, str(Decimal(amount_minor).scaleb(-2)))

    def change(self, processor_refund_id: str, status: str, failure_code: str | None) -> None:
        self.server.change(processor_refund_id, _STATES[status], failure_code)

    def pass_time(self, seconds: float) -> None:
        self.server.book.clock_offset += seconds

    def break_next(self, fault: str, payment_id: str) -> None:
        self.server.book.faults[payment_id].append({"server error": "error500"}.get(fault, fault))

    def event_about(self, refund_object: RefundObject) -> tuple[str, bytes]:
        return self.server.event(self.server.book.refunds[refund_object.processor_refund_id])

    def other_event(self) -> bytes:
        resource = {"id": "CAP00000000000001", "status": "COMPLETED"}
        return json.dumps({"id": "WH-0", "event_type": "PAYMENT.CAPTURE.COMPLETED", "resource": resource}).encode()

    def account(self, *secrets: str) -> AccountSettings:
        return PayPalSettings(
            client_id=CLIENT_ID,
            client_secret=CLIENT_SECRET,
            api_base=self.server.url,
            webhook_id=",".join(secrets) if secrets else None,
            webhook_verification=self.verification,
        )

    def signed(self, body: bytes, *, secret: str, at: float) -> dict[str, str]:
        if OPENSSL is None:
            pytest.skip(WITHOUT_OPENSSL)
        return self.server.signed(body, at=at, webhook_id=secret)


class PayPalByCertificate(PayPal):
    """The same with events that are checked by their certificate."""

    verification = "certificate"
