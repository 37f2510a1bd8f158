"""Refunds over our HTTP protocol in the whole program: the engine, the web process, and a server of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from tests.processors.http.server import SECRET, Process, misbehaving
from tests.processors.http.subject import TABLE
from tests.support.migrated import migrated_sqlite_url, sqlite_template
from tests.support.web_process import WebProcess
from tests.web.client import Web, settings_for

from refund_worker.domain.records import PaymentRecord
from refund_worker.domain.refund import Kind, Refund, RefundRequest, RefundStatus, To
from refund_worker.engine.accounts.payments import Recorded, record_payments
from refund_worker.engine.processor_sync.reconciliation import reconcile
from refund_worker.engine.processor_sync.sync import sync_all
from refund_worker.engine.processor_sync.webhook_inbox import process_inbox
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.engine.refunds.process import process_due
from refund_worker.errors import InvalidRequest
from refund_worker.processors.http.signing import signature_headers
from refund_worker.runtime import Runtime, build_runtime
from refund_worker.settings import Settings
from refund_worker.store import refunds

__all__ = ["migrated_sqlite_url", "sqlite_template"]

SECONDS_MAX = 30.0
CREDITS, AMOUNT = 100, 1_250


@dataclass
class Shop:
    """The program with one account, `house`, whose paying system is behind the server."""

    settings: Settings
    runtime: Runtime
    server: Process

    def payment(self, payment_id: str = "pay1") -> str:
        """Capture and record a payment of 12.50 EUR, and return its id at the server."""
        fields = {"amount_minor": AMOUNT, "currency": "EUR"}
        reference = str(self.server.control("test/payments", fields)["id"])
        (recorded,) = record_payments(self.runtime.context, [self.record(payment_id, reference)])
        assert isinstance(recorded, Recorded), recorded
        return reference

    def record(self, payment_id: str, reference: str) -> PaymentRecord:
        """Return the record of a payment."""
        return PaymentRecord(
            payment_id=payment_id,
            customer_id="c",
            processor="house",
            processor_payment_id=reference,
            amount_minor=AMOUNT,
            currency="EUR",
            credits=CREDITS,
            captured_at=time.time(),
        )

    def withdraw(self, credits: int = CREDITS) -> str:
        """Ask for the money of these credits back, and return the refund's id."""
        request = RefundRequest(
            idempotency_key=f"k{credits}",
            kind=Kind.WITHDRAWAL,
            to=To.SOURCE,
            customer_id="c",
            credits=credits,
            reason="asked",
        )
        (accepted,) = request_refunds(self.runtime.context, [request])
        assert isinstance(accepted, Accepted), accepted
        return accepted.refund_id

    def refund(self, refund_id: str) -> Refund:
        """Return the refund as it is stored."""
        with self.runtime.context.database.read() as connection:
            (found,) = refunds.load(connection, [refund_id])
        return found

    def booked(self, reference: str) -> list[int]:
        """Return the amounts of the payment's refunds in the server's own book."""
        return list(self.server.control("refunds").get(reference, []))

    def refunds_of(self, refund_id: str) -> list[str]:
        """Return the ids at the server of the refund's legs."""
        return [leg.processor_refund_id or "" for leg in self.refund(refund_id).legs]

    def work_until(self, done: Callable[[], bool]) -> None:
        """Work until something is so."""
        until = time.monotonic() + SECONDS_MAX
        while not done():
            assert time.monotonic() < until
            process_due(self.runtime.context)
            time.sleep(0.01)

    def work_until_status(self, refund_id: str, status: RefundStatus) -> None:
        """Work until the refund has a status."""
        self.work_until(lambda: self.refund(refund_id).status is status)


@pytest.fixture
def server() -> Iterator[Process]:
    with misbehaving() as server:
        yield server


def settings_with(url: str, server: Process, secret: str = SECRET) -> Settings:
    """Return the settings of an installation whose one account is the server's."""
    account = {"adapter": "http", "api_base": server.url, "secret": secret} | TABLE
    return settings_for(
        url, RETRY_BASE_SECONDS="0.05", PROCESSOR_TIMEOUT_SECONDS="1", PROCESSORS=json.dumps({"house": account})
    )


@pytest.fixture
def shop(migrated_sqlite_url: str, server: Process) -> Iterator[Shop]:
    settings = settings_with(migrated_sqlite_url, server)
    with build_runtime(settings) as runtime:
        yield Shop(settings, runtime, server)


@pytest.fixture
def careful_shop(migrated_sqlite_url: str, server: Process) -> Iterator[Shop]:
    """The same server, with an account that says nothing about it."""
    account = {"adapter": "http", "api_base": server.url, "secret": SECRET, "mode": "test"}
    settings = settings_for(
        migrated_sqlite_url,
        RETRY_BASE_SECONDS="0.05",
        PROCESSOR_TIMEOUT_SECONDS="1",
        LEASE_SECONDS="3",
        QUIET_SECONDS="1",
        PROCESSORS=json.dumps({"house": account}),
    )
    with build_runtime(settings) as runtime:
        yield Shop(settings, runtime, server)


def test_account_of_a_protocol_server_is_known_everywhere(shop: Shop) -> None:
    context = shop.runtime.context
    assert set(context.processors) == {"house", "manual", "payout"}
    assert context.accounts["house"].capabilities.key_seconds == TABLE["key_seconds"]
    assert context.policy.key_use_seconds("house") == pytest.approx(25 * 86_400)
    assert context.accounts.with_lists() == ("house",)
    assert context.accounts.with_webhooks() == ("house",)
    refused = record_payments(context, [replace(shop.record("p", "x"), processor_payment_id="a b")])
    assert isinstance(refused[0], InvalidRequest)


def test_refund_is_paid_once_and_both_books_agree(shop: Shop) -> None:
    reference = shop.payment()
    refund_id = shop.withdraw()
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    assert shop.booked(reference) == [AMOUNT]
    report = reconcile(shop.runtime.context, "house")
    assert (report.agrees, report.processor_minor, report.ledger_minor) == (True, AMOUNT, AMOUNT)


@pytest.mark.parametrize("fault", ["timeout", "reset", "cut", "server error"])
def test_refund_with_a_lost_answer_is_paid_once(shop: Shop, fault: str) -> None:
    reference = shop.payment()
    shop.server.control("faults", {"payment": reference, "fault": fault})
    refund_id = shop.withdraw()
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    assert shop.booked(reference) == [AMOUNT]


def test_busy_server_is_asked_again_with_the_same_key(shop: Shop) -> None:
    reference = shop.payment()
    for fault in ("busy 429", "busy 503"):
        shop.server.control("faults", {"payment": reference, "fault": fault})
    refund_id = shop.withdraw()
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    assert shop.booked(reference) == [AMOUNT]
    assert shop.refund(refund_id).legs[0].attempt == 1


def test_late_failure_by_a_signed_event_returns_the_credits(shop: Shop) -> None:
    shop.payment()
    refund_id = shop.withdraw()
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    (made,) = shop.refunds_of(refund_id)
    shop.server.control(f"test/refunds/{made}", {"status": "failed", "failure_code": "declined"})
    body = json.dumps({"id": "evt-1", "type": "refund.updated", "refund": made}).encode()
    headers = signature_headers([SECRET], "evt-1", int(time.time()), body)
    with Web(shop.settings) as web:
        assert web.call("POST", "/webhooks/house", key=None, headers=headers, content=body).status_code == 200
        forged = web.call("POST", "/webhooks/house", key=None, headers=headers, content=body + b" ")
        assert forged.json()["code"] == "invalid_signature"
    assert process_inbox(shop.runtime.context) == 1
    shop.work_until_status(refund_id, RefundStatus.FAILED)
    assert shop.refund(refund_id).failure_code == "declined"


def test_event_that_the_server_posts_is_taken_and_believed(shop: Shop, migrated_sqlite_url: str) -> None:
    """Over sockets in both directions: the server signs, our web process verifies."""
    shop.payment()
    refund_id = shop.withdraw()
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    (made,) = shop.refunds_of(refund_id)
    accounts = json.dumps({"house": {"adapter": "http", "webhook_secret": SECRET}})  # the web process needs no more
    with WebProcess(migrated_sqlite_url, PROCESSORS=accounts) as web:
        shop.server.control("test/events", {"url": f"{web.url}/webhooks/house"})
        shop.server.control(f"test/refunds/{made}", {"status": "failed", "failure_code": "declined"})
        shop.work_until(lambda: process_inbox(shop.runtime.context) > 0)
    shop.work_until_status(refund_id, RefundStatus.FAILED)


def test_lost_event_is_made_good_by_the_list(shop: Shop) -> None:
    shop.payment()
    refund_id = shop.withdraw()
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    (made,) = shop.refunds_of(refund_id)
    shop.server.control(f"test/refunds/{made}", {"status": "failed", "failure_code": "declined"})
    assert sync_all(shop.runtime.context, "house") == 1
    shop.work_until_status(refund_id, RefundStatus.FAILED)


def test_refused_refund_fails_for_good_and_gives_the_credits_back(shop: Shop) -> None:
    reference = shop.payment()
    shop.server.control("clock", {"seconds": TABLE["refund_window_seconds"] + 60})
    refund_id = shop.withdraw()
    shop.work_until_status(refund_id, RefundStatus.FAILED)
    assert (shop.booked(reference), shop.refund(refund_id).failure_code) == ([], "too_late")


def test_refund_by_another_person_stops_the_leg(shop: Shop) -> None:
    reference = shop.payment()
    shop.server.control("test/refunds", {"payment": reference, "amount_minor": 1_000})
    refund_id = shop.withdraw()
    shop.work_until(lambda: shop.refund(refund_id).status not in (RefundStatus.QUEUED, RefundStatus.SENDING))
    assert shop.booked(reference) == [1_000]
    assert shop.refund(refund_id).status is not RefundStatus.SUCCEEDED


def test_wrong_secret_fails_no_refund_and_pays_nothing(migrated_sqlite_url: str, server: Process) -> None:
    settings = settings_with(migrated_sqlite_url, server, secret="whsec_" + "A" * 40)
    with build_runtime(settings) as runtime:
        shop = Shop(settings, runtime, server)
        reference = shop.payment()
        refund_id = shop.withdraw()
        until = time.monotonic() + 2
        while time.monotonic() < until:
            process_due(runtime.context)
            time.sleep(0.05)
        assert shop.refund(refund_id).status not in (RefundStatus.FAILED, RefundStatus.SUCCEEDED)
        assert shop.booked(reference) == []


def test_careful_account_sends_once_and_leaves_the_rest_to_a_person(careful_shop: Shop) -> None:
    """Without keys and lists in its table, a lost answer is never sent again."""
    shop = careful_shop
    reference = shop.payment()
    shop.server.control("faults", {"payment": reference, "fault": "reset"})
    refund_id = shop.withdraw()
    shop.work_until_status(refund_id, RefundStatus.NEEDS_ATTENTION)
    assert shop.booked(reference) == [AMOUNT]
