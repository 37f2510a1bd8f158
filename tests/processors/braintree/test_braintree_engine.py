"""Refunds over Braintree through the whole program: lost answers, late failures, refusals, and voids."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

import pytest
from tests.processors.braintree.server import FORM, MERCHANT, PRIVATE, PUBLIC, BraintreeServer
from tests.support.migrated import migrated_sqlite_url, sqlite_template
from tests.web.client import Web, settings_for

from refund_worker.domain.records import PaymentRecord
from refund_worker.domain.refund import Kind, LegStatus, Refund, RefundRequest, RefundStatus, To
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.processor_sync.reconciliation import reconcile
from refund_worker.engine.processor_sync.sync import sync_all
from refund_worker.engine.processor_sync.webhook_inbox import process_inbox
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.engine.refunds.process import process_due
from refund_worker.runtime import Runtime, build_runtime
from refund_worker.settings import Settings
from refund_worker.store import refunds

__all__ = ["migrated_sqlite_url", "sqlite_template"]

SECONDS_MAX = 20.0
WHOLE = Decimal("12.50")


@dataclass
class Shop:
    """The program with Braintree, and Braintree itself."""

    settings: Settings
    runtime: Runtime
    server: BraintreeServer

    def withdraw(self, status: str = "settled", credits: int = 100) -> tuple[str, str]:
        """Record a payment of 12.50 GBP, ask for credits of it back, and return the refund's and the payment's id."""
        payment_id = self.server.book.sale("12.50", "GBP", status)
        record = PaymentRecord(
            payment_id="pay1",
            customer_id="c",
            processor="braintree",
            processor_payment_id=payment_id,
            amount_minor=1_250,
            currency="GBP",
            credits=100,
            captured_at=time.time(),
        )
        record_payments(self.runtime.context, [record])
        request = RefundRequest(
            idempotency_key="k", kind=Kind.WITHDRAWAL, to=To.SOURCE, customer_id="c", credits=credits, reason="asked"
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

    def work_until_status(self, refund_id: str, status: RefundStatus) -> Refund:
        """Work until the refund has a status, and return it."""
        self.work_until(lambda: self.refund(refund_id).status is status)
        return self.refund(refund_id)

    def balance(self) -> int:
        """Return the customer's credits."""
        with Web(self.settings) as web:
            return int(web.call("GET", "/v1/customers/c").json()["balance"])


@contextmanager
def open_shop(url: str, **others: str) -> Iterator[Shop]:
    """Yield the program with one account at a new local Braintree."""
    with BraintreeServer() as server:
        table = {
            "merchant_id": MERCHANT,
            "public_key": PUBLIC,
            "private_key": PRIVATE,
            "environment": "sandbox",
            "api_base": server.url,
            "rate_per_second": 0,
        }
        changed = {"RETRY_BASE_SECONDS": "0.05", "POLL_SECONDS": "0.05", "PROCESSOR_TIMEOUT_SECONDS": "2", **others}
        settings = settings_for(url, PROCESSORS=json.dumps({"braintree": table}), **changed)
        with build_runtime(settings) as runtime:
            yield Shop(settings, runtime, server)
        assert server.violations == []


@pytest.fixture
def shop(migrated_sqlite_url: str) -> Iterator[Shop]:
    with open_shop(migrated_sqlite_url) as opened:
        yield opened


def test_accepted_refund_is_pending_until_it_is_settled(shop: Shop) -> None:
    refund_id, payment_id = shop.withdraw()
    shop.work_until(lambda: shop.refund(refund_id).legs[0].status is LegStatus.PENDING)
    (made,) = shop.server.book.refunds_of(payment_id)
    assert (made.amount, made.order_id.split(":")[3]) == (WHOLE, f"{refund_id}-1")  # type: ignore[union-attr]
    shop.server.book.settle()
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    report = reconcile(shop.runtime.context, "braintree")
    assert (report.agrees, report.processor_minor, report.ledger_minor) == (True, 1_250, 1_250)


@pytest.mark.parametrize("fault", ["reset", "error", "cut", "drop", "503"])
def test_lost_answer_is_paid_once(shop: Shop, fault: str) -> None:
    refund_id, payment_id = shop.withdraw()
    shop.server.break_next(payment_id, fault)
    shop.work_until(lambda: shop.server.book.refunds_of(payment_id) != [])
    shop.work_until(lambda: shop.refund(refund_id).legs[0].status is LegStatus.PENDING)
    shop.server.book.settle()
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    assert shop.server.book.given_back(payment_id) == [WHOLE]


def test_late_failure_by_a_signed_webhook_returns_the_credits(shop: Shop) -> None:
    refund_id, payment_id = shop.withdraw()
    shop.work_until(lambda: shop.refund(refund_id).legs[0].status is LegStatus.PENDING)
    shop.server.book.settle()
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    assert shop.balance() == 0
    (made,) = shop.server.book.refunds_of(payment_id)
    shop.server.book.become(made.id, "settlement_declined", "4001")
    body, headers = shop.server.event("transaction_settlement_declined", made.id), {"Content-Type": FORM}
    with Web(shop.settings) as web:
        for _ in range(2):  # the same event again is stored once
            assert web.call("POST", "/webhooks/braintree", key=None, headers=headers, content=body).status_code == 200
        forged = shop.server.event("transaction_settlement_declined", made.id, private_key="another")
        answer = web.call("POST", "/webhooks/braintree", key=None, headers=headers, content=forged)
        assert answer.json()["code"] == "invalid_signature"
        challenge = web.call("GET", "/webhooks/braintree?bt_challenge=20f9f8ed05f77439fe955c977e4c8a53", key=None)
        assert challenge.text.startswith(f"{PUBLIC}|")
        assert web.call("GET", "/webhooks/braintree", key=None).status_code == 404
    assert process_inbox(shop.runtime.context) == 1
    failed = shop.work_until_status(refund_id, RefundStatus.FAILED)
    assert failed.failure_code == "4001"
    assert shop.balance() == 100


def test_late_failure_is_found_by_the_list_without_a_webhook(shop: Shop) -> None:
    refund_id, payment_id = shop.withdraw()
    shop.work_until(lambda: shop.refund(refund_id).legs[0].status is LegStatus.PENDING)
    shop.server.book.settle()
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    (made,) = shop.server.book.refunds_of(payment_id)
    shop.server.book.become(made.id, "processor_declined", "2004")
    assert sync_all(shop.runtime.context, "braintree") == 1
    assert shop.work_until_status(refund_id, RefundStatus.FAILED).failure_code == "2004"


def test_refused_refund_returns_the_credits(shop: Shop) -> None:
    refund_id, payment_id = shop.withdraw()
    shop.server.break_next(payment_id, "refuse-915200")
    assert shop.work_until_status(refund_id, RefundStatus.FAILED).failure_code == "915200"
    assert (shop.server.book.given_back(payment_id), shop.balance()) == ([], 100)


def test_already_refunded_at_paypal_is_shown_to_a_person(shop: Shop) -> None:
    """Settlement response 4004: the customer may have the money, so the credits stay taken."""
    refund_id, payment_id = shop.withdraw()
    shop.work_until(lambda: shop.refund(refund_id).legs[0].status is LegStatus.PENDING)
    (made,) = shop.server.book.refunds_of(payment_id)
    shop.server.book.become(made.id, "settlement_declined", "4004")
    shop.work_until(lambda: shop.refund(refund_id).legs[0].attention_code == "unknown_status")
    assert shop.balance() == 0


def test_unsettled_payment_is_voided_and_the_refund_succeeds(shop: Shop) -> None:
    refund_id, payment_id = shop.withdraw("submitted_for_settlement")
    leg = shop.work_until_status(refund_id, RefundStatus.SUCCEEDED).legs[0]
    assert leg.processor_refund_id == f"void-{payment_id}"
    assert shop.server.book.given_back(payment_id) == [WHOLE]
    with Web(shop.settings) as web:
        (shown,) = web.call("GET", f"/v1/refunds/{refund_id}").json()["legs"]
        assert shown["statement"] == "vanishes"


@pytest.mark.parametrize("fault", ["void:reset", "void:error", "void:drop", "refund:reset", "get:503"])
def test_lost_answer_of_a_void_is_proved_by_the_key(shop: Shop, fault: str) -> None:
    refund_id, payment_id = shop.withdraw("submitted_for_settlement")
    if fault.startswith("get:"):  # the engine reads the payment first
        shop.server.break_next(payment_id, "get:")
    shop.server.break_next(payment_id, fault)
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    assert shop.server.book.given_back(payment_id) == [WHOLE]
    assert shop.balance() == 0


def test_void_by_a_person_stops_the_refund_for_a_person(shop: Shop) -> None:
    refund_id, payment_id = shop.withdraw("submitted_for_settlement")
    shop.work_until(lambda: f"get {payment_id}" in shop.server.requests)
    shop.server.book.void(payment_id)
    shop.work_until(lambda: shop.refund(refund_id).legs[0].attention_code == "refunded_elsewhere")
    leg = shop.refund(refund_id).legs[0]
    assert (leg.status, leg.blocked_by) == (LegStatus.BLOCKED, (f"void-{payment_id}",))
    assert shop.balance() == 0, "a person decides: the credits are not given back"


def test_retry_after_a_crash_proves_the_void(migrated_sqlite_url: str) -> None:
    """No worker came back within the lease: the list shows a void of unknown origin, and a retry asks the key."""
    with open_shop(migrated_sqlite_url, LEASE_SECONDS="1", RETRY_BASE_SECONDS="1.5", QUIET_SECONDS="0.5") as shop:
        refund_id, payment_id = shop.withdraw("submitted_for_settlement")
        shop.server.break_next(payment_id, "void:reset")
        shop.work_until(lambda: shop.refund(refund_id).legs[0].attention_code == "refunded_elsewhere")
        assert shop.refund(refund_id).legs[0].blocked_by == (f"void-{payment_id}",)
        assert (shop.server.book.given_back(payment_id), shop.balance()) == ([WHOLE], 0)
        with Web(shop.settings) as web:
            answer = web.call("POST", f"/v1/refunds/{refund_id}/retry", {"reason": "the void may be ours"})
            assert answer.status_code == 200, answer.text
        leg = shop.work_until_status(refund_id, RefundStatus.SUCCEEDED).legs[0]
        assert leg.processor_refund_id == f"void-{payment_id}"
        assert (shop.server.book.given_back(payment_id), shop.balance()) == ([WHOLE], 0)


def test_part_of_an_unsettled_payment_waits_and_is_paid_later(migrated_sqlite_url: str) -> None:
    with open_shop(migrated_sqlite_url, RETRY_MAX_SECONDS="0.5") as shop:
        refund_id, payment_id = shop.withdraw("submitted_for_settlement", credits=40)
        shop.work_until(lambda: shop.refund(refund_id).legs[0].attention_code == "not_settled_yet")
        assert shop.server.book.given_back(payment_id) == []
        shop.server.book.settle()
        shop.work_until(lambda: shop.refund(refund_id).legs[0].status is LegStatus.PENDING)
        assert shop.server.book.given_back(payment_id) == [Decimal("5.00")]


# --- the server as a program ------------------------------------------------------------------------------------------


def test_server_runs_as_a_program_and_takes_orders() -> None:
    program = [sys.executable, "-m", "tests.processors.braintree.server", "--port", "0"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = process.stdout.readline().strip()

        def control(name: str, **order: object) -> dict[str, object]:
            request = urllib.request.Request(f"{url}/_control/{name}", json.dumps(order).encode(), method="POST")
            with urllib.request.urlopen(request, timeout=10) as answer:
                found: dict[str, object] = json.load(answer)
                return found

        payment = control("payments", amount="12.50", currency="GBP", status="submitted_for_settlement")["id"]
        control("options", settles_at_once=True, lag_seconds=3)
        control("faults", payment=payment, fault="void:reset")
        assert control("settle") == {"settled": 1}
        refund = control("refunds", payment=payment, amount="2.50")["id"]
        control("states", id=refund, status="settlement_declined", code="4001")
        assert control("clock", seconds=60)
        assert control("land") == {"landed": 0}
        event = control("events", kind="refund_failed", id=refund)
        assert event["content_type"] == FORM
        transactions = control("book")["transactions"]
        assert [each["status"] for each in transactions] == ["settled", "settlement_declined"]  # type: ignore[attr-defined]
        process.stdin.close()
        assert process.wait(10) == 0
