"""Refunds over Adyen through the whole program: outcomes that only signed events tell."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.processors.adyen.book import NO_FUNDS, NOT_CAPTURED, TOO_MUCH
from tests.processors.adyen.shop import Shop, open_shop
from tests.support.migrated import migrated_sqlite_url, sqlite_template
from tests.web.client import Web

from refund_worker.domain.refund import LegStatus, RefundStatus
from refund_worker.engine.refunds.process import process_due
from refund_worker.store import processors

__all__ = ["migrated_sqlite_url", "sqlite_template"]

DAY = 86_400.0
TECHNICAL = "Refund rejected by card scheme because of a technical issue."


@pytest.fixture
def shop(migrated_sqlite_url: str) -> Iterator[Shop]:
    with open_shop(migrated_sqlite_url) as opened:
        yield opened


def work_for(shop: Shop, seconds: float = 0.5) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        process_due(shop.runtime.context)
        time.sleep(0.01)


def pass_days(shop: Shop, days: float) -> None:
    """Move the clock of the program and of Adyen."""
    context = shop.runtime.context
    clock = context.clock
    shop.server.book.clock_offset += days * DAY
    shop.runtime.context = replace(context, clock=lambda connection: clock(connection) + days * DAY)


def test_refund_is_pending_until_its_event_and_then_succeeded(shop: Shop) -> None:
    (payment,) = shop.pay("pay1")
    refund_id = shop.withdraw()
    (made,) = shop.accepted(refund_id)
    assert made.reference.startswith(f"rw.{refund_id}-1.1.inst_")
    work_for(shop)
    assert shop.refund(refund_id).status is RefundStatus.PENDING
    event = shop.server.book.process(made.psp)
    assert shop.tell(event, event) == [(200, "[accepted]")] * 2
    assert shop.work_until_status(refund_id, RefundStatus.SUCCEEDED).legs[0].processor_refund_id == made.psp
    assert shop.server.book.paid(payment) == [1_250]
    assert len(shop.server.state.exchanges) == 1


@pytest.mark.parametrize("fault", ["reset", "error", "cut", "garbage", "drop", "503", "704", "held"])
def test_lost_answer_is_paid_once(shop: Shop, fault: str) -> None:
    (payment,) = shop.pay("pay1")
    refund_id = shop.withdraw()
    shop.server.break_next(payment, fault)
    (made,) = shop.accepted(refund_id)
    assert len({exchange.headers["Idempotency-Key"] for exchange in shop.server.state.exchanges}) == 1
    shop.server.land()
    shop.tell(shop.server.book.process(made.psp))
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    assert shop.server.book.paid(payment) == [1_250]


def test_event_settles_a_refund_whose_answer_was_lost(shop: Shop) -> None:
    (payment,) = shop.pay("pay1")
    refund_id = shop.withdraw()
    for _ in range(200):
        shop.server.break_next(payment, "reset")
    shop.work_until(lambda: shop.server.book.paid(payment) != [])
    (made,) = shop.server.book.refunds.values()
    shop.tell(shop.server.book.process(made.psp))
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    assert shop.server.book.paid(payment) == [1_250]


def test_late_failure_by_an_event_returns_the_credits(shop: Shop) -> None:
    shop.pay("pay1")
    refund_id = shop.withdraw()
    (made,) = shop.accepted(refund_id)
    shop.tell(shop.server.book.process(made.psp))
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    assert shop.balance() == 0
    failed = shop.server.book.fail(made.psp)
    assert shop.tell(failed, failed) == [(200, "[accepted]")] * 2
    assert shop.work_until_status(refund_id, RefundStatus.FAILED).failure_code == "rejected_by_scheme"
    assert shop.balance() == 100


def test_money_that_comes_back_returns_the_credits(shop: Shop) -> None:
    shop.pay("pay1")
    refund_id = shop.withdraw()
    (made,) = shop.accepted(refund_id)
    shop.tell(shop.server.book.process(made.psp), shop.server.book.reverse(made.psp))
    assert shop.work_until_status(refund_id, RefundStatus.FAILED).failure_code == "refund_reversed"
    assert shop.balance() == 100


def test_failure_before_its_success_stays_a_failure(shop: Shop) -> None:
    shop.pay("pay1")
    refund_id = shop.withdraw()
    (made,) = shop.accepted(refund_id)
    succeeded, failed = shop.server.book.process(made.psp), shop.server.book.fail(made.psp)
    shop.tell(failed)
    shop.work_until_status(refund_id, RefundStatus.FAILED)
    shop.tell(succeeded, failed, succeeded)
    work_for(shop)
    assert shop.refund(refund_id).status is RefundStatus.FAILED
    assert shop.balance() == 100


def test_failure_that_comes_first_goes_over_another_payment(shop: Shop) -> None:
    """The events of the first refund come in the wrong order, and its success long after the second is paid."""
    first, second = shop.pay("pay1", "pay2")
    refund_id = shop.withdraw()
    (made,) = shop.accepted(refund_id)
    other = second if made.payment.psp == first else first
    succeeded = shop.server.book.process(made.psp)
    shop.tell(shop.server.book.fail(made.psp))
    shop.work_until(lambda: shop.server.book.paid(other) == [1_250])
    shop.accepted(refund_id)
    (event,) = shop.server.book.settle()
    shop.tell(event)
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    shop.tell(succeeded)
    work_for(shop)
    assert shop.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert (shop.server.book.paid(made.payment.psp), shop.server.book.paid(other)) == ([], [1_250])
    assert shop.balance() == 100


def test_empty_balance_is_tried_again_over_the_same_payment(shop: Shop) -> None:
    (payment,) = shop.pay("pay1")
    refund_id = shop.withdraw()
    shop.server.book.funds = 0
    (made,) = shop.accepted(refund_id)
    refused = shop.server.book.process(made.psp)
    assert refused["notificationItems"][0]["NotificationRequestItem"]["reason"] == NO_FUNDS
    shop.tell(refused)
    leg = shop.refund(refund_id).legs[0]
    assert (leg.status, leg.failure_code, leg.attempt) == (LegStatus.BLOCKED, "insufficient_balance", 2)
    shop.server.book.funds = 5_000
    pass_days(shop, 1)
    shop.work_until(lambda: len(shop.server.book.refunds_of(payment)) == 2)
    for event in shop.server.book.settle():
        shop.tell(event)
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)
    assert shop.server.book.paid(payment) == [1_250]


@pytest.mark.parametrize(
    ("reason", "code"),
    [(TOO_MUCH, "payment_balance_too_low"), (NOT_CAPTURED, "payment_not_captured"), ("Other", "refund_refused")],
)
def test_reason_that_may_mean_a_refund_elsewhere_is_with_a_person(shop: Shop, reason: str, code: str) -> None:
    first, second = shop.pay("pay1", "pay2")
    refund_id = shop.withdraw()
    (made,) = shop.accepted(refund_id)
    shop.tell(shop.server.book.process(made.psp, reason=reason))
    refund = shop.work_until_status(refund_id, RefundStatus.NEEDS_ATTENTION)
    assert refund.legs[0].attention_code == code
    work_for(shop)
    assert shop.server.book.paid(first) == shop.server.book.paid(second) == [], "no other payment is tried"
    assert shop.balance() == 100, "no credits go back"


def test_rejection_that_adyen_tries_again_returns_nothing(shop: Shop) -> None:
    shop.pay("pay1")
    refund_id = shop.withdraw()
    (made,) = shop.accepted(refund_id)
    shop.tell(shop.server.book.process(made.psp), shop.server.book.fail(made.psp, TECHNICAL))
    work_for(shop)
    assert shop.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert shop.balance() == 0


def test_refund_that_exceeds_the_payment_is_received_and_then_refused(shop: Shop) -> None:
    (payment,) = shop.pay("pay1")
    elsewhere = shop.server.book.refund(payment, 1_000)
    shop.server.book.process(elsewhere.psp)
    refund_id = shop.withdraw()
    shop.accepted(refund_id)
    (event,) = shop.server.book.settle()
    shop.tell(event)
    assert shop.work_until_status(refund_id, RefundStatus.NEEDS_ATTENTION).legs[0].attention_code == (
        "payment_balance_too_low"
    )


def test_unknown_outcome_after_the_keys_life_ends_with_a_person(shop: Shop) -> None:
    (payment,) = shop.pay("pay1")
    refund_id = shop.withdraw()
    for _ in range(200):
        shop.server.break_next(payment, "reset")
    shop.work_until(lambda: shop.server.book.paid(payment) != [])
    pass_days(shop, 6.5)
    work_for(shop)
    assert shop.refund(refund_id).legs[0].status is LegStatus.UNKNOWN, "its event may come while a call can land"
    for hours in (5, 2):  # more than the quiet window, and no leap of it
        pass_days(shop, hours / 24)
        work_for(shop, 0.1)
    refund = shop.work_until_status(refund_id, RefundStatus.NEEDS_ATTENTION)
    assert refund.failure_code == "outcome_unknown"
    requests = len(shop.server.state.exchanges)
    pass_days(shop, 2)
    work_for(shop)
    assert len(shop.server.state.exchanges) == requests, "a forgotten key would refund again"
    assert shop.server.book.paid(payment) == [1_250]
    (made,) = shop.server.book.refunds.values()
    shop.tell(shop.server.book.process(made.psp))
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)


def test_event_that_never_comes_is_with_a_person(shop: Shop) -> None:
    shop.pay("pay1")
    refund_id = shop.withdraw()
    (made,) = shop.accepted(refund_id)
    pass_days(shop, 5.1)
    assert shop.work_until_status(refund_id, RefundStatus.NEEDS_ATTENTION).legs[0].attention_code == "report_overdue"
    shop.tell(shop.server.book.process(made.psp))
    shop.work_until_status(refund_id, RefundStatus.SUCCEEDED)


def test_refund_in_the_customer_area_is_recorded_by_its_event(shop: Shop) -> None:
    (payment,) = shop.pay("pay1")
    made = shop.server.book.refund(payment, 250, "made by Ann")
    shop.tell(shop.server.book.process(made.psp))
    with Web(shop.settings) as web:
        shown = web.call("GET", "/v1/outside-refunds").json()
    assert [(each["object_id"], each["amount_minor"]) for each in shown["data"]] == [(made.psp, 250)]


def test_denied_account_is_paused_and_fails_no_refund(shop: Shop) -> None:
    shop.server.book.merchant = "Another"
    shop.pay("pay1")
    refund_id = shop.withdraw()
    shop.work_until(lambda: "adyen" in open_circuits_of(shop))
    work_for(shop)
    assert shop.refund(refund_id).status not in (RefundStatus.FAILED, RefundStatus.SUCCEEDED)
    assert shop.balance() == 0
    assert len(shop.server.state.exchanges) == 1


def open_circuits_of(shop: Shop) -> list[str]:
    context = shop.runtime.context
    with context.database.read() as connection:
        return list(processors.open_circuits(connection, context.clock(connection)))


def test_unknown_payment_is_with_a_person(shop: Shop) -> None:
    (payment,) = shop.pay("pay1")
    del shop.server.book.payments[payment]
    refund_id = shop.withdraw()
    refund = shop.work_until_status(refund_id, RefundStatus.NEEDS_ATTENTION)
    assert refund.failure_code == "not_found"
    assert shop.balance() == 0
