"""A second processor, added by one folder and one table of accounts, in the whole program.

AcmePay is made up. Its adapter was written from docs/adding-a-processor.md. The contract suite runs for it as well.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from tests.support.migrated import migrated_sqlite_url, sqlite_template
from tests.web.client import Web, settings_for

from refund_worker.domain.records import PaymentRecord
from refund_worker.domain.refund import Kind, Refund, RefundRequest, RefundStatus, To
from refund_worker.engine.accounts.payments import Recorded, record_payments
from refund_worker.engine.processor_sync.reconciliation import reconcile
from refund_worker.engine.processor_sync.status import switch_names
from refund_worker.engine.processor_sync.sync import sync_all
from refund_worker.engine.processor_sync.webhook_inbox import process_inbox
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.engine.refunds.process import process_due
from refund_worker.errors import InvalidRequest
from refund_worker.runtime import Runtime, build_runtime
from refund_worker.settings import Settings
from refund_worker.store import refunds
from refund_worker.worker.scheduler import jobs_of

from .acmepay import entry
from .acmepay.events import signature_of
from .server import LAG_SECONDS, AcmePayServer
from .server import TOKEN as GOOD_TOKEN

__all__ = ["migrated_sqlite_url", "sqlite_template"]

SECRET = "acme_secret"
ENTRY_MODULE = entry.__name__
SECONDS_MAX = 20.0


@dataclass
class Shop:
    """The program with AcmePay, and AcmePay itself."""

    settings: Settings
    runtime: Runtime
    server: AcmePayServer

    def withdraw(self) -> tuple[str, str]:
        """Record a payment of 12.50 GBP, ask for all of it back, and return the refund's and the payment's id."""
        payment_id = self.server.new_payment("12.50")
        record = PaymentRecord(
            payment_id="pay1",
            customer_id="c",
            processor="acmepay",
            processor_payment_id=payment_id,
            amount_minor=1_250,
            currency="GBP",
            credits=100,
            captured_at=time.time(),
        )
        record_payments(self.runtime.context, [record])
        request = RefundRequest(
            idempotency_key="k", kind=Kind.WITHDRAWAL, to=To.SOURCE, customer_id="c", credits=100, reason="asked"
        )
        (accepted,) = request_refunds(self.runtime.context, [request])
        assert isinstance(accepted, Accepted)
        return accepted.refund_id, payment_id

    def refund(self, refund_id: str) -> Refund:
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


@pytest.fixture
def shop(migrated_sqlite_url: str) -> Iterator[Shop]:
    with AcmePayServer() as server:
        table = {"adapter": ENTRY_MODULE, "token": GOOD_TOKEN, "api_base": server.url}
        settings = settings_for(
            migrated_sqlite_url,
            RETRY_BASE_SECONDS="0.05",
            PROCESSOR_TIMEOUT_SECONDS="2",
            PROCESSORS=json.dumps({"acmepay": table | {"webhook_secret": SECRET}}),
        )
        with build_runtime(settings) as runtime:
            yield Shop(settings, runtime, server)


def test_table_of_accounts_makes_the_processor_known_everywhere(shop: Shop) -> None:
    context = shop.runtime.context
    assert set(context.processors) == {"manual", "acmepay", "payout"}
    assert "acmepay" in switch_names(context)
    assert context.accounts.rates["acmepay"] == context.accounts.lowest_rate == 5.0
    assert shop.runtime.context.policy.key_use_seconds("acmepay") == 3_600
    assert [job.name for job in jobs_of(shop.settings)].count("look") == 1
    good = PaymentRecord(
        payment_id="p",
        customer_id="c",
        processor="acmepay",
        processor_payment_id="AP-1",
        amount_minor=1,
        currency="GBP",
        credits=1,
        captured_at=time.time(),
    )
    new, refused = record_payments(context, [good, replace(good, payment_id="q", processor_payment_id="ch_1")])
    assert new == Recorded(new=True)
    assert isinstance(refused, InvalidRequest)
    assert "at acmepay begins with AP-" in refused.message


def test_refund_is_paid_once_and_both_books_agree(shop: Shop) -> None:
    refund_id, payment_id = shop.withdraw()
    shop.work_until(lambda: shop.refund(refund_id).status is RefundStatus.SUCCEEDED)
    (made,) = shop.server.refunds_of(payment_id)
    assert (str(made.value), made.labels["leg"]) == ("12.50", f"{refund_id}-1")
    shop.server.book.clock_offset += LAG_SECONDS + 1
    report = reconcile(shop.runtime.context, "acmepay")
    assert (report.agrees, report.processor_minor, report.ledger_minor) == (True, 1_250, 1_250)


def test_lost_answer_is_found_in_list_and_key_not_sent_again(shop: Shop) -> None:
    """The key lives an hour and the quiet window is six: a repeated key could arrive after it is forgotten."""
    refund_id, payment_id = shop.withdraw()
    shop.server.faults[payment_id].append("reset")
    shop.work_until(lambda: shop.refund(refund_id).legs[0].retry_count > 2)
    assert shop.refund(refund_id).status is RefundStatus.SENDING
    shop.server.book.clock_offset += LAG_SECONDS + 1
    shop.work_until(lambda: shop.refund(refund_id).status is RefundStatus.SUCCEEDED)
    assert len(shop.server.book.keys) == len(shop.server.refunds_of(payment_id)) == 1


def test_late_failure_comes_by_a_signed_webhook(shop: Shop) -> None:
    refund_id, payment_id = shop.withdraw()
    shop.work_until(lambda: shop.refund(refund_id).status is RefundStatus.SUCCEEDED)
    (made,) = shop.server.refunds_of(payment_id)
    made.state, made.cause = "FAILED", "ACCOUNT_GONE"
    body = f'{{"event": "EV-1", "topic": "refund.changed", "refund": "{made.ref}"}}'.encode()
    at = str(int(time.time()))
    headers = {"Acme-Timestamp": at, "Acme-Signature": signature_of(body, at, SECRET)}
    with Web(shop.settings) as web:
        assert web.call("POST", "/webhooks/acmepay", key=None, headers=headers, content=body).status_code == 200
        forged = web.call("POST", "/webhooks/acmepay", key=None, headers=headers, content=body + b" ")
        assert forged.json()["code"] == "invalid_signature"
        assert web.call("POST", "/webhooks/manual", key=None, content=body).status_code == 404
    assert process_inbox(shop.runtime.context) == 1
    shop.work_until(lambda: shop.refund(refund_id).status is RefundStatus.FAILED)
    assert shop.refund(refund_id).failure_code == "ACCOUNT_GONE"


def test_lost_webhook_is_made_good_by_the_list(shop: Shop) -> None:
    refund_id, payment_id = shop.withdraw()
    shop.work_until(lambda: shop.refund(refund_id).status is RefundStatus.SUCCEEDED)
    (made,) = shop.server.refunds_of(payment_id)
    made.state, made.cause = "FAILED", "ACCOUNT_GONE"
    shop.server.book.clock_offset += LAG_SECONDS + 1
    assert sync_all(shop.runtime.context, "acmepay") == 1
    shop.work_until(lambda: shop.refund(refund_id).status is RefundStatus.FAILED)


def test_processor_is_paused_and_resumed_over_http(shop: Shop) -> None:
    with Web(shop.settings) as web:
        assert web.call("POST", "/v1/processors/acmepay/pause", {"reason": "test"}).json()["paused"] is True
        assert web.call("POST", "/v1/processors/acmepay/resume", {}).json()["paused"] is False
