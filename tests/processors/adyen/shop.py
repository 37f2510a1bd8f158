"""The whole program with one account at the local Adyen, for tests from one end to the other."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.processors.adyen.book import HMAC_KEY, MERCHANT, Refund, as_body
from tests.processors.adyen.server import API_KEY, AdyenServer
from tests.web.client import Web, settings_for

from refund_worker.domain.records import PaymentRecord
from refund_worker.domain.refund import Kind, LegStatus, RefundRequest, RefundStatus, To
from refund_worker.domain.refund import Refund as OurRefund
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.processor_sync.webhook_inbox import process_inbox
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.engine.refunds.process import process_due
from refund_worker.runtime import Runtime, build_runtime
from refund_worker.settings import Settings
from refund_worker.store import refunds

SECONDS_MAX = 20.0
BASIC = "Basic " + base64.b64encode(b"adyen:hook password").decode()


@dataclass
class Shop:
    """The program with Adyen, and Adyen itself."""

    settings: Settings
    runtime: Runtime
    server: AdyenServer

    def pay(self, *payment_ids: str, value: int = 1_250) -> list[str]:
        """Capture payments of 12.50 GBP for 100 credits each, and return their references at Adyen."""
        psps = []
        for payment_id in payment_ids:
            psps.append(self.server.book.capture(value).psp)
            record = PaymentRecord(
                payment_id=payment_id,
                customer_id="c",
                processor="adyen",
                processor_payment_id=psps[-1],
                amount_minor=value,
                currency="GBP",
                credits=100,
                captured_at=time.time(),
            )
            record_payments(self.runtime.context, [record])
        return psps

    def withdraw(self, credits: int = 100) -> str:
        """Ask for credits back as money, and return the refund's id."""
        request = RefundRequest(
            idempotency_key="k", kind=Kind.WITHDRAWAL, to=To.SOURCE, customer_id="c", credits=credits, reason="asked"
        )
        (accepted,) = request_refunds(self.runtime.context, [request])
        assert isinstance(accepted, Accepted)
        return accepted.refund_id

    def refund(self, refund_id: str) -> OurRefund:
        """Return the refund as it is stored."""
        with self.runtime.context.database.read() as connection:
            (found,) = refunds.load(connection, [refund_id])
        return found

    def work_until(self, done: Callable[[], bool]) -> None:
        """Work until something is so."""
        until = time.monotonic() + SECONDS_MAX
        while not done():
            assert time.monotonic() < until
            process_due(self.runtime.context)
            time.sleep(0.01)

    def work_until_status(self, refund_id: str, status: RefundStatus) -> OurRefund:
        """Work until the refund has a status, and return it."""
        self.work_until(lambda: self.refund(refund_id).status is status)
        return self.refund(refund_id)

    def accepted(self, refund_id: str, legs: int = 1) -> list[Refund]:
        """Work until Adyen has received all of the refund's legs, and return the refunds in its book."""
        self.work_until(lambda: sum(leg.status is LegStatus.PENDING for leg in self.refund(refund_id).legs) == legs)
        return list(self.server.book.refunds.values())

    def tell(self, *events: dict[str, Any]) -> list[tuple[int, str]]:
        """Deliver events over HTTP, process them, and return the answers."""
        answers = []
        with Web(self.settings) as web:
            for event in events:
                answer = web.call(
                    "POST", "/webhooks/adyen", key=None, headers={"Authorization": BASIC}, content=as_body(event)
                )
                answers.append((answer.status_code, answer.text))
        while process_inbox(self.runtime.context):
            pass
        return answers

    def balance(self) -> int:
        """Return the customer's credits."""
        with Web(self.settings) as web:
            return int(web.call("GET", "/v1/customers/c").json()["balance"])


@contextmanager
def open_shop(url: str, **others: str) -> Iterator[Shop]:
    """Yield the program with one account at a new local Adyen."""
    with AdyenServer() as server:
        table = {
            "api_key": API_KEY,
            "merchant_account": MERCHANT,
            "api_base": server.url,
            "rate_per_second": 0,
            "webhook_secret": HMAC_KEY,
            "webhook_user": "adyen",
            "webhook_password": "hook password",
        }
        changed = {"RETRY_BASE_SECONDS": "0.05", "POLL_SECONDS": "0.05", "PROCESSOR_TIMEOUT_SECONDS": "2", **others}
        settings = settings_for(url, PROCESSORS=json.dumps({"adyen": table}), **changed)
        with build_runtime(settings) as runtime:
            yield Shop(settings, runtime, server)
        assert server.state.violations == []
