"""Refunds over PayPal through the whole program: lost answers, late failures, refusals, and what only PayPal has."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

import pytest
from sqlalchemy import select
from tests.processors.paypal.conftest import needs_openssl
from tests.support.books import assert_books_balance
from tests.support.migrated import migrated_sqlite_url, sqlite_template
from tests.web.client import Web, settings_for

from refund_worker.domain.records import PaymentRecord
from refund_worker.domain.refund import Kind, LegStatus, RefundRequest, RefundStatus, To
from refund_worker.domain.refund import Refund as OurRefund
from refund_worker.engine.accounts.payments import Recorded, record_payments
from refund_worker.engine.processor_sync.reread import reread
from refund_worker.engine.processor_sync.webhook_inbox import process_inbox
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.engine.refunds.process import process_due
from refund_worker.processors.paypal.sandbox.book import DAY, Refund
from refund_worker.processors.paypal.sandbox.credentials import CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID
from refund_worker.processors.paypal.sandbox.server import PayPalServer
from refund_worker.runtime import Runtime, build_runtime
from refund_worker.settings import Settings
from refund_worker.store import refunds
from refund_worker.store.tables import customers

__all__ = ["migrated_sqlite_url", "sqlite_template"]

SECONDS_MAX = 20.0
CREDITS = 100


@dataclass
class Shop:
    """The program with an account at PayPal, and PayPal itself."""

    settings: Settings
    runtime: Runtime
    server: PayPalServer

    def record(self, capture_id: str) -> object:
        """Record a payment of 12.50 GBP for 100 credits, and return the engine's answer."""
        record = PaymentRecord(
            payment_id="pay1",
            customer_id="c",
            processor="paypal",
            processor_payment_id=capture_id,
            amount_minor=1_250,
            currency="GBP",
            credits=CREDITS,
            captured_at=time.time(),
        )
        (recorded,) = record_payments(self.runtime.context, [record])
        return recorded

    def withdraw(self, capture_id: str, credits: int = CREDITS) -> str:
        """Record the payment, ask for credits of it back, and return the refund's id."""
        assert isinstance(self.record(capture_id), Recorded)
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

    @property
    def credits(self) -> int:
        """Return the customer's credits."""
        with self.runtime.context.database.read() as connection:
            return int(connection.execute(select(customers.c.balance)).scalar_one())

    def work_until(self, done: Callable[[], bool]) -> None:
        """Work until something is so."""
        until = time.monotonic() + SECONDS_MAX
        while not done():
            assert time.monotonic() < until
            process_due(self.runtime.context)
            time.sleep(0.01)

    def work_until_status(self, refund_id: str, status: RefundStatus) -> OurRefund:
        """Work until a refund has a status, and return it."""
        self.work_until(lambda: self.refund(refund_id).status is status)
        return self.refund(refund_id)

    def made(self, capture_id: str) -> Refund:
        """Return the only refund of a capture in PayPal's own book."""
        (made,) = self.server.refunds_of(capture_id)
        return made


@pytest.fixture
def shop(migrated_sqlite_url: str, server: PayPalServer) -> Iterator[Shop]:
    table = {
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "api_base": server.url,
        "webhook_id": WEBHOOK_ID,
        "rate_per_second": 1_000,
    }
    settings = settings_for(
        migrated_sqlite_url,
        RETRY_BASE_SECONDS="0.05",
        RETRY_MAX_SECONDS="0.2",
        PROCESSOR_TIMEOUT_SECONDS="1",
        PROCESSORS=json.dumps({"paypal": table}),
    )
    with build_runtime(settings) as runtime:
        yield Shop(settings, runtime, server)
        assert_books_balance(runtime.context.database)


def test_account_has_the_rules_of_its_table(shop: Shop) -> None:
    rules = shop.runtime.context.accounts.rules["paypal"]
    assert (rules.key_seconds, rules.key_use_seconds) == (45 * DAY, 40 * DAY)
    assert (rules.finds_refunds, rules.reads_refunds, rules.live) == (True, True, False)
    assert shop.runtime.context.accounts.with_lists() == ()


def test_refund_is_paid_once_and_carries_our_ids(shop: Shop) -> None:
    capture = shop.server.new_payment("12.50")
    refund_id = shop.withdraw(capture)
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    made = shop.made(capture)
    assert made.amount == Decimal("12.50")
    assert made.custom_id is not None
    mark, leg_id, attempt, installation = made.custom_id.split(",")
    assert (mark, leg_id, attempt, made.invoice_id) == ("rw1", f"{refund_id}-1", "1", f"{refund_id}-1.1")
    assert installation.startswith("inst_")
    assert shop.credits == 0


@pytest.mark.parametrize("fault", ["reset", "cut", "timeout", "proxy", "minimal"])
def test_lost_answer_is_paid_once_with_the_same_key(shop: Shop, fault: str) -> None:
    capture = shop.server.new_payment("12.50")
    shop.server.book.faults[capture].append(fault)
    refund_id = shop.withdraw(capture)
    refund = shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    assert shop.made(capture).refund_id == refund.legs[0].processor_refund_id
    assert list(shop.server.book.keys) == [f"{refund_id}-1:1"]


def test_server_error_after_the_refund_is_found_in_the_order(shop: Shop) -> None:
    capture = shop.server.new_payment("12.50")
    shop.server.book.faults[capture].append("error500")
    refund_id = shop.withdraw(capture)
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    assert len(shop.server.refunds_of(capture)) == len(shop.server.book.keys) == 1


def test_lagging_order_after_a_server_error_makes_no_second_refund(shop: Shop) -> None:
    capture = shop.server.new_payment("12.50")
    shop.server.book.lag_seconds = 3_600
    shop.server.book.faults[capture].append("error500")
    refund_id = shop.withdraw(capture)
    shop.work_until(lambda: shop.refund(refund_id).legs[0].retry_count > 3)
    assert shop.refund(refund_id).status is RefundStatus.SENDING
    shop.server.book.lag_seconds = 0
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    assert len(shop.server.refunds_of(capture)) == 1


def test_refund_without_a_token_is_sent_later(shop: Shop) -> None:
    capture = shop.server.new_payment("12.50")
    shop.server.token_fault = "error500"
    refund_id = shop.withdraw(capture)
    shop.work_until(lambda: shop.refund(refund_id).legs[0].retry_count > 1)
    assert shop.server.refunds_of(capture) == []
    shop.server.token_fault = ""
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    assert len(shop.server.refunds_of(capture)) == 1


@needs_openssl
def test_late_failure_by_a_signed_webhook_returns_the_credits(shop: Shop) -> None:
    capture = shop.server.new_payment("12.50")
    refund_id = shop.withdraw(capture)
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    assert shop.credits == 0
    made = shop.server.change(shop.made(capture).refund_id, "FAILED", "ECHECK")
    _, body = shop.server.event(made)
    headers = shop.server.signed(body)
    with Web(shop.settings) as web:
        forged = web.call("POST", "/webhooks/paypal", key=None, headers=headers, content=body + b" ")
        assert forged.json()["code"] == "invalid_signature"
        assert process_inbox(shop.runtime.context) == 0
        for _ in range(2):  # PayPal may send it twice
            assert web.call("POST", "/webhooks/paypal", key=None, headers=headers, content=body).status_code == 200
    assert process_inbox(shop.runtime.context) == 1
    refund = shop.work_until_status(refund_id, RefundStatus.FAILED)
    assert refund.failure_code == "ECHECK"
    assert shop.credits == CREDITS


def test_late_failure_without_an_event_is_found_by_reading_again(shop: Shop) -> None:
    capture = shop.server.new_payment("12.50")
    refund_id = shop.withdraw(capture)
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    shop.server.change(shop.made(capture).refund_id, "FAILED", "ECHECK")
    (name,) = shop.runtime.context.accounts.to_reread()
    assert reread(shop.runtime.context, name) == 1
    refund = shop.work_until_status(refund_id, RefundStatus.FAILED)
    assert refund.failure_code == "ECHECK"
    assert shop.credits == CREDITS


@needs_openssl
def test_pending_refund_is_completed_by_a_webhook(shop: Shop) -> None:
    capture = shop.server.new_payment("12.50")
    shop.server.book.faults[capture].append("pending")
    refund_id = shop.withdraw(capture)
    shop.work_until(lambda: shop.refund(refund_id).legs[0].status is LegStatus.PENDING)
    made = shop.server.change(shop.made(capture).refund_id, "COMPLETED")
    _, body = shop.server.event(made)
    with Web(shop.settings) as web:
        sent = web.call("POST", "/webhooks/paypal", key=None, headers=shop.server.signed(body), content=body)
        assert sent.json() == {"received": True}
    process_inbox(shop.runtime.context)
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)


def test_refused_refund_returns_the_credits(shop: Shop) -> None:
    capture = shop.server.new_payment("12.50")
    shop.server.book.faults[capture].append("issue:REFUND_NOT_ALLOWED")
    refund_id = shop.withdraw(capture)
    refund = shop.work_until_status(refund_id, RefundStatus.FAILED)
    assert refund.failure_code == "REFUND_NOT_ALLOWED"
    assert shop.credits == CREDITS
    assert shop.server.refunds_of(capture) == []


@pytest.mark.parametrize(
    ("issue", "code"),
    [
        ("SOMETHING_NEW", "unknown_refusal"),
        ("REFUND_IS_RESTRICTED", "REFUND_IS_RESTRICTED"),
        ("TRANSACTION_DISPUTED", "TRANSACTION_DISPUTED"),
        ("INVALID_RESOURCE_ID", "not_found"),
    ],
)
def test_other_refusals_wait_for_a_person_and_keep_the_credits(shop: Shop, issue: str, code: str) -> None:
    capture = shop.server.new_payment("12.50")
    shop.server.book.faults[capture].extend([f"issue:{issue}"] * 50)
    refund_id = shop.withdraw(capture)
    shop.work_until(lambda: shop.refund(refund_id).legs[0].attention_code == code)
    assert shop.credits == 0
    assert shop.server.refunds_of(capture) == []


def test_empty_balance_is_tried_again_after_a_top_up(shop: Shop) -> None:
    capture = shop.server.new_payment("12.50")
    shop.server.book.balance["GBP"] = Decimal(1)
    refund_id = shop.withdraw(capture)
    shop.work_until(lambda: shop.refund(refund_id).legs[0].attention_code == "REFUND_FAILED_INSUFFICIENT_FUNDS")
    shop.server.book.balance["GBP"] = Decimal(1_000)
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    assert len(shop.server.refunds_of(capture)) == 1


def test_account_that_paypal_restricts_pauses_and_fails_nothing(shop: Shop) -> None:
    capture = shop.server.new_payment("12.50")
    shop.server.book.faults[capture].append("issue:PAYEE_ACCOUNT_RESTRICTED")
    refund_id = shop.withdraw(capture)
    shop.work_until(lambda: shop.refund(refund_id).legs[0].sends > 0)
    assert shop.refund(refund_id).status is not RefundStatus.FAILED
    assert shop.server.refunds_of(capture) == []
    assert shop.credits == 0


def test_payment_refunded_in_the_dashboard_is_not_refunded_again(shop: Shop) -> None:
    capture = shop.server.new_payment("12.50")
    refund_id = shop.withdraw(capture)
    shop.server.refund_elsewhere(capture, "12.50")
    shop.work_until(lambda: shop.refund(refund_id).legs[0].attention_code is not None)
    assert len(shop.server.refunds_of(capture)) == 1
    assert shop.refund(refund_id).status is not RefundStatus.SUCCEEDED


@pytest.mark.parametrize("fault", ["reset", "error500", "proxy", "minimal"])
def test_lost_answer_without_an_order_is_paid_once(shop: Shop, fault: str) -> None:
    """There is no list, so only the key tells what happened."""
    capture = shop.server.new_payment("12.50", order_id=None)
    shop.server.book.faults[capture].append(fault)
    refund_id = shop.withdraw(capture)
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    assert len(shop.server.refunds_of(capture)) == 1
    assert list(shop.server.book.keys) == [f"{refund_id}-1:1"]


@pytest.mark.parametrize("elsewhere", ["5.00", "12.50"])
def test_refund_elsewhere_without_an_order_waits_for_a_person(shop: Shop, elsewhere: str) -> None:
    """PayPal says only that a part is gone: by whom and how much, no list tells."""
    capture = shop.server.new_payment("12.50", order_id=None)
    shop.server.refund_elsewhere(capture, elsewhere)
    refund_id = shop.withdraw(capture, 50)
    shop.work_until_status(refund_id, RefundStatus.NEEDS_ATTENTION)
    assert len(shop.server.refunds_of(capture)) == 1
    assert shop.credits == CREDITS - 50


@pytest.mark.parametrize("issue", ["REFUND_AMOUNT_EXCEEDED", "CAPTURE_FULLY_REFUNDED", "DUPLICATE_INVOICE_ID"])
def test_refusal_that_needs_a_list_ends_with_a_person_without_one(shop: Shop, issue: str) -> None:
    """Another payment is not tried, and no credits go back: others may have refunded this one."""
    capture = shop.server.new_payment("12.50", order_id=None)
    shop.server.book.faults[capture].append(f"issue:{issue}")
    refund_id = shop.withdraw(capture)
    shop.work_until_status(refund_id, RefundStatus.NEEDS_ATTENTION)
    assert shop.credits == 0
    assert shop.server.refunds_of(capture) == []


def test_payment_of_another_form_is_not_recorded(shop: Shop) -> None:
    refused = shop.record("PAYID-MW3FBGA3TM6884782447752G")
    assert "at paypal is the id of a capture" in str(refused)
