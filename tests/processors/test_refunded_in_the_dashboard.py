"""A person refunds in the dashboard beside an open refund of ours: the real adapter, engine and API, over HTTP."""

from __future__ import annotations

import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from refund_worker.domain.state_machine import Action
from refund_worker.engine.processor_sync.sync import sync_recent
from refund_worker.engine.processor_sync.webhook_inbox import process_inbox
from refund_worker.engine.refunds.actions import perform_action
from refund_worker.engine.refunds.process import process_due
from refund_worker.testing import RefundWorker

SECRET = "whsec_of_this_test"
SECONDS_MAX = 20.0
ERROR = {"server_error": {"status": 500, "effect": "none", "sticky": True}}
EMPTY = {"refuse": "balance_insufficient"}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[RefundWorker]:
    clocks = {"LEASE_SECONDS": "1.5", "QUIET_SECONDS": "1", "RETRY_MAX_SECONDS": "1"}
    with RefundWorker(tmp_path, STRIPE_WEBHOOK_SECRET=SECRET, **clocks) as running:
        yield running


def in_the_dashboard(shop: RefundWorker, charge: str, amount: int, marks: Mapping[str, str] | None = None) -> str:
    """The id of a refund made there, past this program; `marks` are what somebody wrote into its metadata."""
    metadata = {f"metadata[refund_worker_{name}]": value for name, value in (marks or {}).items()}
    body = urllib.parse.urlencode({"charge": charge, "amount": amount, **metadata}).encode()
    key = f"by hand {charge} {amount}"
    headers = {"Authorization": "Bearer sk_test_sandbox", "Idempotency-Key": key}
    request = urllib.request.Request(f"{shop.sandbox.url}/v1/refunds", body, headers)
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    return str(shop.sandbox.refunds()[-1]["id"])


def work_until(shop: RefundWorker, true: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS_MAX
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        sync_recent(shop.context, "stripe")
        if not process_due(shop.context) + process_inbox(shop.context):
            time.sleep(0.02)


def refund_20(shop: RefundWorker, fault: Mapping[str, Any]) -> tuple[str, str]:
    """A withdrawal of 20.00 whose first send met `fault`, and its charge."""
    charge = shop.add_payment("nia", amount_minor=2000, credits=200).processor_payment_id
    shop.sandbox.add_fault(fault, match={"path_kind": "create", "payment": charge}, times=1)
    refund_id = shop.request("nia")
    work_until(shop, lambda: shop.refund(refund_id)["legs"][0]["status"] in ("unknown", "blocked"))
    return refund_id, charge


def assert_stopped(shop: RefundWorker, refund_id: str, by_hand: str) -> None:
    work_until(shop, lambda: bool(shop.refund(refund_id)["legs"][0]["blocked_by"]))
    refund = shop.refund(refund_id)
    assert (refund["status"], refund["failure_code"]) == ("needs_attention", "refunded_elsewhere")
    assert refund["legs"][0]["blocked_by"] == [by_hand]
    assert refund["available_actions"] == ["retry", "resolve"]
    assert shop.paid_minor() == 2000


def test_beside_an_error_that_made_nothing(shop: RefundWorker) -> None:
    refund_id, charge = refund_20(shop, ERROR)
    assert_stopped(shop, refund_id, in_the_dashboard(shop, charge, 2000))


def test_beside_an_empty_balance_and_its_own_retry(shop: RefundWorker) -> None:
    refund_id, charge = refund_20(shop, EMPTY)
    assert_stopped(shop, refund_id, in_the_dashboard(shop, charge, 2000))


def test_beside_an_empty_balance_and_a_persons_retry(shop: RefundWorker) -> None:
    refund_id, charge = refund_20(shop, EMPTY)
    by_hand = in_the_dashboard(shop, charge, 2000)
    perform_action(shop.context, refund_id, Action.RETRY, actor="op", reason="topped up")
    assert_stopped(shop, refund_id, by_hand)


def test_beside_an_empty_balance_with_its_webhook_taken_in_first(shop: RefundWorker) -> None:
    refund_id, charge = refund_20(shop, EMPTY)
    with shop.http() as door:
        shop.sandbox.send_webhooks_to(f"{door.url}/webhooks/stripe", SECRET)
        by_hand = in_the_dashboard(shop, charge, 2000)
        end = time.monotonic() + SECONDS_MAX
        while not process_inbox(shop.context):
            assert time.monotonic() < end, "the webhook did not come"
            time.sleep(0.02)
    assert_stopped(shop, refund_id, by_hand)


def test_another_installations_refund_leaves_too_little_and_no_other_payment_is_paid(shop: RefundWorker) -> None:
    shop.add_payment("hana", amount_minor=4990, credits=499)
    newer = shop.add_payment("hana", amount_minor=4990, credits=499).processor_payment_id
    theirs = in_the_dashboard(
        shop, newer, 2000, {"refund": "rf_x", "leg": "rf_x-1", "attempt": "1", "installation": "inst_other"}
    )
    refund_id = shop.request("hana", credits=499)
    assert_stopped(shop, refund_id, theirs)


def test_what_a_person_says_they_paid_in_the_dashboard_is_not_sent_and_the_books_show_it(shop: RefundWorker) -> None:
    refund_id, charge = refund_20(shop, ERROR)
    by_hand = in_the_dashboard(shop, charge, 2000)
    assert shop.refund(refund_id)["available_actions"] == ["resolve"]
    perform_action(shop.context, refund_id, Action.RESOLVE, actor="op", reason="I paid it", reference=by_hand)
    time.sleep(3)
    work_until(shop, lambda: not process_due(shop.context))
    refund = shop.refund(refund_id)
    assert (refund["status"], refund["legs"][0]["processor_refund_id"]) == ("succeeded", f"manual:{by_hand}")
    assert shop.paid_minor() == 2000


def test_what_a_person_retries_with_the_refund_seen_goes_out(shop: RefundWorker) -> None:
    charge = shop.add_payment("nia", amount_minor=5000, credits=500).processor_payment_id
    shop.sandbox.add_fault(EMPTY, match={"path_kind": "create", "payment": charge}, times=1)
    refund_id = shop.request("nia", credits=200)
    work_until(shop, lambda: shop.refund(refund_id)["legs"][0]["status"] == "blocked")
    by_hand = in_the_dashboard(shop, charge, 2000)
    assert_stopped(shop, refund_id, by_hand)
    perform_action(shop.context, refund_id, Action.RETRY, actor="op", reason="a goodwill payment beside it")
    work_until(shop, lambda: shop.refund(refund_id)["status"] == "succeeded")
    assert shop.paid_minor() == 4000
