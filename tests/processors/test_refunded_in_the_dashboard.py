"""A person refunds in Stripe's dashboard while a refund of ours is open: real adapter, engine and API, over HTTP."""

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
    """A running worker with short clocks."""
    clocks = {"LEASE_SECONDS": "1.5", "QUIET_SECONDS": "1", "RETRY_MAX_SECONDS": "1"}
    with RefundWorker(tmp_path, STRIPE_WEBHOOK_SECRET=SECRET, **clocks) as running:
        yield running


def in_the_dashboard(shop: RefundWorker, charge: str, amount: int, marks: Mapping[str, str] | None = None) -> str:
    """Create a refund past this program and return its id. `marks` are metadata that name a refund of ours."""
    metadata = {f"metadata[refund_worker_{name}]": value for name, value in (marks or {}).items()}
    body = urllib.parse.urlencode({"charge": charge, "amount": amount, **metadata}).encode()
    key = f"dashboard {charge} {amount}"
    headers = {"Authorization": "Bearer sk_test_sandbox", "Idempotency-Key": key}
    request = urllib.request.Request(f"{shop.sandbox.url}/v1/refunds", body, headers)
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    return str(shop.sandbox.refunds()[-1]["id"])


def work_until(shop: RefundWorker, true: Callable[[], bool]) -> None:
    """Run the worker's steps until `true` returns True. Fail after `SECONDS_MAX`."""
    end = time.monotonic() + SECONDS_MAX
    while not true():
        assert time.monotonic() < end, "the condition was not true in time"
        sync_recent(shop.context, "stripe")
        if not process_due(shop.context) + process_inbox(shop.context):
            time.sleep(0.02)


def refund_20(shop: RefundWorker, fault: Mapping[str, Any]) -> tuple[str, str]:
    """Request a refund of 20.00 with `fault` on its first send. Return the refund's id and its charge."""
    charge = shop.add_payment("nia", amount_minor=2000, credits=200).processor_payment_id
    shop.sandbox.add_fault(fault, match={"path_kind": "create", "payment": charge}, times=1)
    refund_id = shop.request("nia")
    work_until(shop, lambda: shop.refund(refund_id)["legs"][0]["status"] in ("unknown", "blocked"))
    return refund_id, charge


def assert_stopped(shop: RefundWorker, refund_id: str, dashboard_id: str) -> None:
    """Check that our refund stops for an operator and names the dashboard refund."""
    work_until(shop, lambda: bool(shop.refund(refund_id)["legs"][0]["blocked_by"]))
    refund = shop.refund(refund_id)
    assert (refund["status"], refund["failure_code"]) == ("needs_attention", "refunded_elsewhere")
    assert refund["legs"][0]["blocked_by"] == [dashboard_id]
    assert refund["available_actions"] == ["retry", "resolve"]
    assert shop.paid_minor() == 2000


def test_dashboard_refund_after_a_500_without_effect_stops_ours(shop: RefundWorker) -> None:
    refund_id, charge = refund_20(shop, ERROR)
    assert_stopped(shop, refund_id, in_the_dashboard(shop, charge, 2000))


def test_dashboard_refund_after_an_empty_balance_stops_the_retry(shop: RefundWorker) -> None:
    refund_id, charge = refund_20(shop, EMPTY)
    assert_stopped(shop, refund_id, in_the_dashboard(shop, charge, 2000))


def test_dashboard_refund_stops_an_operators_retry(shop: RefundWorker) -> None:
    refund_id, charge = refund_20(shop, EMPTY)
    dashboard_id = in_the_dashboard(shop, charge, 2000)
    perform_action(shop.context, refund_id, Action.RETRY, actor="op", reason="topped up")
    assert_stopped(shop, refund_id, dashboard_id)


def test_dashboard_refund_known_from_its_webhook_stops_ours(shop: RefundWorker) -> None:
    refund_id, charge = refund_20(shop, EMPTY)
    with shop.http() as server:
        shop.sandbox.send_webhooks_to(f"{server.url}/webhooks/stripe", SECRET)
        dashboard_id = in_the_dashboard(shop, charge, 2000)
        end = time.monotonic() + SECONDS_MAX
        while not process_inbox(shop.context):
            assert time.monotonic() < end, "the webhook did not arrive"
            time.sleep(0.02)
    assert_stopped(shop, refund_id, dashboard_id)


def test_other_installations_refund_takes_its_credits_first(shop: RefundWorker) -> None:
    """It is no refund of ours, whatever its marks: its money and its credits are gone, and the rest is paid once."""
    shop.add_payment("hana", amount_minor=4990, credits=499)
    newer = shop.add_payment("hana", amount_minor=4990, credits=499).processor_payment_id
    in_the_dashboard(
        shop, newer, 2000, {"refund": "rf_x", "leg": "rf_x-1", "attempt": "1", "installation": "inst_other"}
    )
    refund_id = shop.request("hana", credits=499)
    work_until(shop, lambda: shop.refund(refund_id)["status"] == "succeeded")
    assert shop.paid_minor() == 2000 + 4990
    assert shop.customer("hana")["balance"] == 998 - 200 - 499


def test_refund_resolved_as_paid_in_the_dashboard_is_not_sent(shop: RefundWorker) -> None:
    refund_id, charge = refund_20(shop, ERROR)
    dashboard_id = in_the_dashboard(shop, charge, 2000)
    assert shop.refund(refund_id)["available_actions"] == ["resolve"]
    perform_action(shop.context, refund_id, Action.RESOLVE, actor="op", reason="I paid it", reference=dashboard_id)
    time.sleep(3)
    work_until(shop, lambda: not process_due(shop.context))
    refund = shop.refund(refund_id)
    assert (refund["status"], refund["legs"][0]["processor_refund_id"]) == ("succeeded", f"manual:{dashboard_id}")
    assert shop.paid_minor() == 2000


def test_operators_retry_after_the_dashboard_refund_is_sent(shop: RefundWorker) -> None:
    charge = shop.add_payment("nia", amount_minor=5000, credits=500).processor_payment_id
    shop.sandbox.add_fault(EMPTY, match={"path_kind": "create", "payment": charge}, times=1)
    refund_id = shop.request("nia", credits=200)
    work_until(shop, lambda: shop.refund(refund_id)["legs"][0]["status"] == "blocked")
    dashboard_id = in_the_dashboard(shop, charge, 2000)
    assert_stopped(shop, refund_id, dashboard_id)
    perform_action(shop.context, refund_id, Action.RETRY, actor="op", reason="a goodwill payment as well")
    work_until(shop, lambda: shop.refund(refund_id)["status"] == "succeeded")
    assert shop.paid_minor() == 4000
