"""Payments of connected accounts in the whole program, with the sandbox as another process.

A direct charge lives on the connected account: every call about it names that account. A destination charge lives on
the platform's own account, and its refund takes the destination's share back.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from refund_worker.domain.records import PaymentRecord
from refund_worker.domain.state_machine import Action
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.processor_sync.connected_sync import ConnectedSync
from refund_worker.engine.processor_sync.pause import pause_processor, resume_processor
from refund_worker.engine.processor_sync.reconciliation import reconcile
from refund_worker.engine.processor_sync.reconciliation.run import run_due, start_reconciliation
from refund_worker.engine.processor_sync.refund_waits import wait_view, waiting_by_processor, waits_of
from refund_worker.engine.processor_sync.status import stored_switches
from refund_worker.engine.processor_sync.sync import sync_recent
from refund_worker.engine.processor_sync.webhook_inbox import process_inbox
from refund_worker.engine.refunds.actions import perform_action
from refund_worker.engine.refunds.process import process_due
from refund_worker.engine.refunds.send_gate import KillSwitch
from refund_worker.engine.views.api_objects import find_refund
from refund_worker.errors import InvalidRequest
from refund_worker.processors.accounts import Adapters
from refund_worker.processors.sandbox import Sandbox
from refund_worker.processors.stripe.adapter import StripeProcessor
from refund_worker.store import processors
from refund_worker.store.installation import server_of
from refund_worker.store.tables import attempts, claims, refunds
from refund_worker.testing import RefundWorker

ONE, TWO = "acct_One1", "acct_Two2"
SECRET, CONNECT_SECRET = "whsec_platform", "whsec_connect"
SECONDS_MAX = 20.0
LOST = {"timeout": {"effect": "now"}}


class Shop:
    """A running worker whose platform has connected accounts."""

    def __init__(self, worker: RefundWorker) -> None:
        self.worker, self.sandbox, self.context = worker, worker.sandbox, worker.context

    def sell(self, customer: str, charge: str = "ch_1", *, minor: int = 1_000, **connect: Any) -> str:
        """Record a payment here and at the processor, which buys a tenth of its minor units in credits.

        `account`, `reverse_transfer` and `refund_application_fee` are its `connect`; other options are the sandbox's.
        Return the payment's id.
        """
        account, reverse = connect.pop("account", None), connect.pop("reverse_transfer", None)
        fee = connect.pop("refund_application_fee", None)
        whose = {"destination" if reverse else "account": account} if account else {}
        self.sandbox.register_payment(charge, minor, "GBP", **whose, **connect)
        record = PaymentRecord(
            payment_id=f"pay-{customer}-{charge}",
            customer_id=customer,
            processor="stripe",
            processor_payment_id=charge,
            amount_minor=minor,
            currency="GBP",
            credits=minor // 10,
            captured_at=float(int(time.time())),
            connect_account=account,
            connect_reverse_transfer=reverse,
            connect_refund_application_fee=fee,
        )
        (answer,) = record_payments(self.context, [record])
        assert not isinstance(answer, Exception), answer
        return record.payment_id

    def work_until(self, true: Callable[[], bool]) -> None:
        """Run the worker's steps until `true` returns True."""
        end = time.monotonic() + SECONDS_MAX
        while not true():
            assert time.monotonic() < end, "the condition was not true in time"
            if not process_due(self.context) + process_inbox(self.context):
                time.sleep(0.02)

    def leg(self, refund_id: str) -> Any:
        """Return the refund's only leg as the API shows it."""
        (leg,) = self.worker.refund(refund_id)["legs"]
        return leg

    def status(self, refund_id: str) -> str:
        """Return the refund's status."""
        return str(self.worker.refund(refund_id)["status"])

    def pay_back(self, customer: str, credits: int | None = None) -> str:
        """Request a refund, work until it has succeeded, and return its id."""
        refund_id = self.worker.request(customer, credits=credits)
        self.work_until(lambda: self.status(refund_id) == "succeeded")
        return refund_id

    def balances(self) -> tuple[int, int]:
        """Return the money of the platform and of the account ONE."""
        found = self.sandbox.book()["balances"]
        return found[""].get("gbp", 0), found.get(ONE, {}).get("gbp", 0)

    def bodies(self) -> list[dict[str, Any]]:
        """Return the frozen bodies, in the order of their attempts."""
        with self.context.database.read() as connection:
            return [json.loads(body) for body in connection.execute(select(attempts.c.body)).scalars()]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop with short clocks and the secrets of both webhook endpoints."""
    clocks = {"LEASE_SECONDS": "2", "PROCESSOR_TIMEOUT_SECONDS": "0.8"}
    with RefundWorker(tmp_path, STRIPE_WEBHOOK_SECRET=f"{SECRET},{CONNECT_SECRET}", **clocks) as worker:
        yield Shop(worker)


# -- direct charges ---------------------------------------------------------------------------------------------------


def test_direct_charge_is_refunded_once_and_each_call_names_account(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    shop.sandbox.add_fault(LOST, match={"path_kind": "create", "account": ONE})
    refund_id = shop.pay_back("ann")
    ConnectedSync().sync_all(shop.context, "stripe")
    assert [(each["account"], each["amount"]) for each in shop.sandbox.refunds()] == [(ONE, 1_000)]
    asked = shop.sandbox.requests(ONE)
    assert asked["POST create"]["unanswered"] == 1
    assert asked.keys() >= {"GET list", "GET charge", "GET disputes"}
    assert shop.sandbox.requests() == {}
    leg = shop.leg(refund_id)
    assert (leg["processor"], leg["processor_account"]) == ("stripe", f"stripe/{ONE}")


def test_first_send_to_a_new_account_reads_the_payments_own_list(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    shop.sell("bob", "ch_2")
    for customer in ("ann", "bob"):
        shop.pay_back(customer)
    assert shop.sandbox.requests(ONE)["GET list"] == {"200": 1}
    assert "GET list" not in shop.sandbox.requests()


def test_refund_in_the_dashboard_of_a_new_account_is_seen_first(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    shop.sandbox.act("dashboard_refund", account=ONE, payment="ch_1")
    refund_id = shop.worker.request("ann")
    shop.work_until(lambda: shop.status(refund_id) == "needs_attention")
    assert shop.worker.refund(refund_id)["failure_code"] == "refunded_elsewhere"
    assert len(shop.sandbox.refunds()) == 1


def test_equal_charges_and_keys_of_two_accounts_never_mix(shop: Shop) -> None:
    for customer, account, minor in (("ann", ONE, 1_000), ("bob", TWO, 2_000), ("cat", None, 3_000)):
        shop.sell(customer, "ch_same", minor=minor, account=account)
    made = {customer: shop.leg(shop.pay_back(customer)) for customer in ("bob", "cat", "ann")}
    booked = {each.get("account"): each for each in shop.sandbox.refunds()}
    assert {account: each["amount"] for account, each in booked.items()} == {ONE: 1_000, TWO: 2_000, None: 3_000}
    assert made["ann"]["processor_refund_id"] == booked[ONE]["id"]
    assert made["bob"]["processor_refund_id"] == booked[TWO]["id"]
    assert made["cat"]["processor_refund_id"] == booked[None]["id"]


def test_equal_payments_of_two_accounts_have_own_outside_refunds(shop: Shop) -> None:
    shop.sell("ann", "ch_same", account=ONE)
    shop.sell("bob", "ch_same", account=TWO)
    for customer in ("ann", "bob"):
        shop.pay_back(customer, credits=10)
    shop.sandbox.act("dashboard_refund", account=TWO, payment="ch_same", amount_minor=400)
    ConnectedSync().sync_all(shop.context, "stripe")
    assert shop.worker.customer("ann")["balance"] == 90
    assert shop.worker.customer("bob")["balance"] == 50


# -- destination charges ----------------------------------------------------------------------------------------------


def test_destination_charge_takes_shares_and_fee_back_to_the_penny(shop: Shop) -> None:
    both = {"reverse_transfer": True, "refund_application_fee": True}
    shop.sell("ann", account=ONE, application_fee_minor=101, **both)
    assert shop.balances() == (101, 899)
    shop.pay_back("ann", credits=33)
    assert shop.balances() == (101 - 33, 899 - 330 + 33)
    shop.pay_back("ann", credits=33)
    assert shop.balances() == (68 - 33, 602 - 330 + 33)
    shop.pay_back("ann")  # all that is left: 340, and with it the rest of the fee
    assert shop.balances() == (0, 0)
    assert [both.items() <= body.items() for body in shop.bodies()] == [True, True, True]
    assert ONE not in json.dumps(shop.bodies())
    assert shop.sandbox.requests(ONE) == {}


def test_destination_charge_that_keeps_the_fee_takes_transfer_only(shop: Shop) -> None:
    kept = {"reverse_transfer": True, "refund_application_fee": False}
    shop.sell("ann", account=ONE, application_fee_minor=100, **kept)
    shop.sandbox.act("top_up", account=ONE, currency="gbp", amount_minor=100)
    shop.pay_back("ann")
    assert shop.balances() == (100, 0)
    assert kept.items() <= shop.bodies()[0].items()


def test_direct_charge_returns_the_platforms_fee(shop: Shop) -> None:
    shop.sell("ann", account=ONE, application_fee_minor=100, refund_application_fee=True)
    assert shop.balances() == (100, 900)
    shop.pay_back("ann")
    assert shop.balances() == (0, 0)
    assert "reverse_transfer" not in shop.bodies()[0]


def test_payment_without_connect_sends_neither_flag(shop: Shop) -> None:
    shop.sell("ann")
    shop.pay_back("ann")
    assert shop.bodies()[0].keys().isdisjoint({"reverse_transfer", "refund_application_fee"})


def test_repeat_of_a_destination_refund_sends_the_same_bytes(shop: Shop) -> None:
    """A key that is repeated with other bytes is a conflict at Stripe, and no replay."""
    shop.sell("ann", account=ONE, reverse_transfer=True)
    shop.sandbox.add_fault(LOST, match={"path_kind": "create"})
    shop.sandbox.add_fault({"timeout": {"effect": "none"}}, match={"path_kind": "create"}, times=2)
    shop.pay_back("ann")
    assert len(shop.bodies()) == 1
    created = shop.sandbox.requests()["POST create"]
    assert (created["200"], created["replayed"], len(shop.sandbox.refunds())) == (1, 1, 1)
    assert shop.balances() == (0, 0)


# -- too little money -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("connect", "said"),
    [
        ({}, f"connected account {ONE}: The account's balance is too small."),
        ({"reverse_transfer": True}, f"stripe or its connected account {ONE}: Insufficient funds to reverse"),
    ],
)
def test_low_balance_blocks_and_says_whose_until_a_top_up(shop: Shop, connect: dict[str, Any], said: str) -> None:
    shop.sell("ann", account=ONE, **connect)
    shop.sandbox.act("set_balance", account=ONE, currency="gbp", available_minor=0, policy="refuse")
    refund_id = shop.worker.request("ann")
    shop.work_until(lambda: shop.status(refund_id) == "needs_attention")
    refund = shop.worker.refund(refund_id)
    assert (refund["failure_code"], refund["legs"][0]["status"]) == ("balance_insufficient", "blocked")
    assert str(refund["failure_message"]).startswith(said)
    assert shop.sandbox.refunds() == []
    shop.sandbox.act("top_up", account=ONE, currency="gbp", amount_minor=1_000)
    perform_action(shop.context, refund_id, Action.RETRY, actor="op", reason="topped up")
    shop.work_until(lambda: shop.status(refund_id) == "succeeded")
    assert (shop.worker.paid_minor(), shop.balances()[1]) == (1_000, 0)


def test_low_balance_of_the_platform_names_no_other_account(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    shop.sell("bob", "ch_2")
    shop.sandbox.act("set_balance", currency="gbp", available_minor=0, policy="refuse")
    shop.pay_back("ann")
    refund_id = shop.worker.request("bob")
    shop.work_until(lambda: shop.status(refund_id) == "needs_attention")
    assert shop.worker.refund(refund_id)["failure_message"] == "The account's balance is too small."


def test_dispute_of_a_destination_charge_blames_no_account(shop: Shop) -> None:
    shop.sell("ann", account=ONE, reverse_transfer=True)
    shop.sandbox.add_fault({"refuse": "charge_disputed"}, match={"path_kind": "create"}, times=None)
    refund_id = shop.worker.request("ann")
    shop.work_until(lambda: shop.status(refund_id) == "needs_attention")
    refund = shop.worker.refund(refund_id)
    assert (refund["failure_code"], ONE in str(refund["failure_message"])) == ("charge_disputed", False)


def test_refund_held_for_a_connected_balance_names_it(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    shop.sandbox.act("set_balance", account=ONE, currency="gbp", available_minor=0, policy="hold")
    refund_id = shop.worker.request("ann")
    shop.work_until(lambda: shop.status(refund_id) == "pending")
    assert shop.leg(refund_id)["pending_reason"] == "insufficient_funds"
    assert f"the balance at stripe/{ONE} is too low" in shop.leg(refund_id)["staff_text"]
    shop.sandbox.act("top_up", account=ONE, currency="gbp", amount_minor=1_000)
    shop.work_until(lambda: shop.status(refund_id) == "succeeded")


# -- events and listings ----------------------------------------------------------------------------------------------


def test_late_failure_by_a_connect_event_gives_the_credits_back(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    refund_id = shop.pay_back("ann")
    assert shop.worker.customer("ann")["balance"] == 0
    with shop.worker.http() as api:
        shop.sandbox.send_webhooks_to(f"{api.url}/webhooks/stripe", SECRET, connect_secret=CONNECT_SECRET)
        shop.sandbox.advance_refund(shop.leg(refund_id)["processor_refund_id"], "failed", "declined", ONE)
        shop.work_until(lambda: shop.status(refund_id) == "failed")
    assert (shop.worker.refund(refund_id)["failure_code"], shop.worker.customer("ann")["balance"]) == ("declined", 100)
    assert "GET retrieve" not in shop.sandbox.requests()


def test_late_failure_without_an_event_is_found_by_hourly_listing(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    refund_id = shop.pay_back("ann")
    watch = ConnectedSync()
    assert watch.sync_all(shop.context, "stripe") == 0
    shop.sandbox.advance_refund(shop.leg(refund_id)["processor_refund_id"], "failed", "declined", ONE)
    assert watch.sync_due(shop.context, "stripe") == 0
    assert shop.status(refund_id) == "succeeded"
    assert watch.sync_all(shop.context, "stripe") == 1
    shop.work_until(lambda: shop.status(refund_id) == "failed")
    assert shop.worker.customer("ann")["balance"] == 100


def test_refund_in_the_accounts_dashboard_is_heard_by_listing(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    shop.pay_back("ann", credits=10)
    made = shop.sandbox.act("dashboard_refund", account=ONE, payment="ch_1", amount_minor=500)
    ConnectedSync().sync_all(shop.context, "stripe")
    assert outside(shop) == [(made["id"], f"stripe/{ONE}", "pay-ann-ch_1", 500)]
    assert shop.worker.customer("ann")["balance"] == 100 - 10 - 50


def test_refund_in_the_accounts_dashboard_is_heard_by_event(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    shop.sell("bob", account=TWO)
    with shop.worker.http() as api:
        shop.sandbox.send_webhooks_to(f"{api.url}/webhooks/stripe", SECRET, connect_secret=CONNECT_SECRET)
        made = shop.sandbox.act("dashboard_refund", account=ONE, payment="ch_1", amount_minor=500)
        shop.work_until(lambda: bool(outside(shop)))
    assert outside(shop) == [(made["id"], f"stripe/{ONE}", "pay-ann-ch_1", 500)]
    assert [shop.worker.customer(name)["balance"] for name in ("ann", "bob")] == [50, 100]


def test_dispute_of_a_direct_charge_is_found_by_the_hourly_listing(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    shop.pay_back("ann", credits=10)
    shop.sandbox.act("open_dispute", account=ONE, payment="ch_1", amount_minor=300)
    ConnectedSync().sync_all(shop.context, "stripe")
    assert [(minor, account) for _, account, _, minor in disputes(shop)] == [(300, f"stripe/{ONE}")]


def test_dashboard_refund_of_a_destination_charge_is_the_platforms(shop: Shop) -> None:
    shop.sell("ann", account=ONE, reverse_transfer=True)
    made = shop.sandbox.act("dashboard_refund", payment="ch_1", amount_minor=500, reverse_transfer=True)
    sync_recent(shop.context, "stripe")
    assert outside(shop) == [(made["id"], "stripe", "pay-ann-ch_1", 500)]


def outside(shop: Shop) -> list[tuple[str, str, str, int]]:
    """Return object, account, payment and amount of each outside refund that is recorded."""
    return recorded(shop, "outside_refund")


def disputes(shop: Shop) -> list[tuple[str, str, str, int]]:
    """Return the same of each dispute."""
    return recorded(shop, "dispute")


def recorded(shop: Shop, kind: str) -> list[tuple[str, str, str, int]]:
    c = claims.c
    columns = (c.object_id, c.processor, c.payment_id, c.amount_minor)
    with shop.context.database.read() as connection:
        return [tuple(row) for row in connection.execute(select(*columns).where(c.kind == kind))]


# -- pauses, circuits, access -----------------------------------------------------------------------------------------


def test_pause_of_the_platform_stops_its_connected_accounts(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    pause_processor(shop.context, "stripe", actor="op", reason="test")
    refund_id = shop.worker.request("ann")
    for _ in range(5):
        process_due(shop.context)
    assert shop.sandbox.requests(ONE).keys() <= {"GET charge", "GET list"}
    (wait,) = [each for each in waits(shop, refund_id) if each["cause"] == "processor_paused"]
    assert wait["processor"] == f"stripe/{ONE}"
    assert shown(shop) == [("stripe", 1)]
    assert resume_processor(shop.context, "stripe", actor="op", reason="test")
    assert due(shop, refund_id)
    sync_recent(shop.context, "stripe")
    shop.work_until(lambda: shop.status(refund_id) == "succeeded")


@pytest.mark.parametrize(("name", "stops"), [("stripe", (ONE, TWO)), (f"stripe/{ONE}", (ONE,)), ("all", (ONE, TWO))])
def test_pause_acts_on_calls_that_wait_for_their_slot(shop: Shop, name: str, stops: tuple[str, ...]) -> None:
    with shop.context.database.read() as connection:
        switch = KillSwitch(shop.context, shop.context.monotonic() - 60, server_of(connection))
    pause_processor(shop.context, name, actor="op", reason="test")
    assert tuple(account for account in (ONE, TWO) if switch.stops(f"stripe/{account}")) == stops


def test_connected_account_is_paused_and_resumed_alone(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    shop.sell("bob", account=TWO)
    pause_processor(shop.context, f"stripe/{ONE}", actor="op", reason="test")
    held = shop.worker.request("ann")
    shop.pay_back("bob")
    for _ in range(5):
        process_due(shop.context)
    assert shop.sandbox.requests(ONE).get("POST create") is None
    assert shown(shop) == [(f"stripe/{ONE}", 1)]
    assert resume_processor(shop.context, f"stripe/{ONE}", actor="op")
    shop.work_until(lambda: shop.status(held) == "succeeded")


def test_refund_by_hand_during_a_pause_of_the_platform_is_seen_first(shop: Shop) -> None:
    """Another account's listing is not old yet: only the end of the pause makes it too old."""
    shop.sell("ann", account=ONE)
    shop.sell("bob", "ch_2", account=ONE)
    shop.pay_back("ann")
    sync_recent(shop.context, f"stripe/{ONE}")
    pause_processor(shop.context, "stripe", actor="op", reason="test")
    refund_id = shop.worker.request("bob")
    process_due(shop.context)
    shop.sandbox.act("dashboard_refund", account=ONE, payment="ch_2")
    resume_processor(shop.context, "stripe", actor="op")
    sync_recent(shop.context, "stripe")
    for _ in range(5):
        process_due(shop.context)
    assert shop.status(refund_id) == "queued"
    assert ConnectedSync().sync_due(shop.context, "stripe") == 0
    shop.work_until(lambda: shop.status(refund_id) == "failed")
    assert (len(shop.sandbox.refunds()), shop.worker.customer("bob")["balance"]) == (2, 0)


def test_circuit_of_the_platform_holds_its_connected_accounts(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    shop.sell("bob", account=TWO)
    shop.sandbox.add_fault({"unauthorized": True}, match={"account": ONE}, times=None)
    first, second = shop.worker.request("ann"), shop.worker.request("bob")
    shop.work_until(lambda: "stripe" in stopped(shop))
    assert stopped(shop) == {"stripe"}
    for refund_id in (first, second):
        shop.work_until(lambda refund_id=refund_id: bool(waits(shop, refund_id)))  # type: ignore[misc]
    assert shop.sandbox.refunds() == []
    shop.sandbox.clear_faults()
    assert resume_processor(shop.context, "stripe", actor="op")
    sync_recent(shop.context, "stripe")
    ConnectedSync().sync_due(shop.context, "stripe")
    shop.work_until(lambda: {shop.status(first), shop.status(second)} == {"succeeded"})


def test_refused_key_at_an_event_stops_the_platform(shop: Shop) -> None:
    """The key is the platform's: no other account is asked with it either."""
    shop.sell("ann", account=ONE)
    shop.pay_back("ann")
    with shop.worker.http() as api:
        shop.sandbox.send_webhooks_to(f"{api.url}/webhooks/stripe", SECRET, connect_secret=CONNECT_SECRET)
        shop.sandbox.add_fault({"unauthorized": True}, match={"account": ONE, "path_kind": "retrieve"}, times=None)
        shop.sandbox.act("dashboard_refund", account=ONE, payment=other_charge(shop, ONE), amount_minor=5)
        shop.work_until(lambda: bool(stopped(shop)))
    assert stopped(shop) == {"stripe"}


def test_account_without_access_is_a_persons_and_pauses_nothing(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    shop.sell("bob", account=TWO)
    shop.sell("cat", "ch_2")
    shop.sandbox.act("disconnect_account", account=ONE)
    refused = shop.worker.request("ann")
    shop.pay_back("bob")
    shop.pay_back("cat")
    shop.work_until(lambda: shop.status(refused) == "needs_attention")
    assert shop.worker.refund(refused)["failure_code"] == "account_invalid"
    ConnectedSync().sync_all(shop.context, "stripe")
    assert stopped(shop) == set()
    shop.sandbox.act("connect_account", account=ONE)
    shop.work_until(lambda: shop.status(refused) == "succeeded")


def test_access_that_ends_between_refunds_shows_second_to_a_person(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    shop.pay_back("ann", credits=10)
    ConnectedSync().sync_all(shop.context, "stripe")
    sync_recent(shop.context, f"stripe/{ONE}")
    shop.sandbox.act("disconnect_account", account=ONE)
    refund_id = shop.worker.request("ann", credits=10)
    shop.work_until(lambda: shop.status(refund_id) == "needs_attention")
    refund = shop.worker.refund(refund_id)
    assert (refund["failure_code"], refund["legs"][0]["status"]) == ("account_invalid", "blocked")
    assert str(refund["failure_message"]).startswith(f"connected account {ONE}: The provided key")
    assert stopped(shop) == set()


def test_old_list_of_an_account_without_access_holds_no_refund(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    shop.pay_back("ann", credits=10)
    sync_recent(shop.context, f"stripe/{ONE}")
    shop.sandbox.act("disconnect_account", account=ONE)
    later = replace(shop.context, clock=lambda connection: shop.context.clock(connection) + 600)
    refund_id = shop.worker.request("ann", credits=10)
    process_due(later)
    assert [each["cause"] for each in waits(shop, refund_id, later)] == ["listing_stale"]
    assert shown(shop, later) == [(f"stripe/{ONE}", 1)]
    watch = ConnectedSync()
    watch.sync_due(later, "stripe")
    for _ in range(5):
        process_due(later)
    assert (shop.status(refund_id), shop.worker.refund(refund_id)["failure_code"]) == (
        "needs_attention",
        "account_invalid",
    )
    asked = shop.sandbox.requests(ONE)["GET list"]["403"]
    watch.sync_due(later, "stripe")
    assert shop.sandbox.requests(ONE)["GET list"]["403"] == asked  # it is not asked again at once
    assert len(shop.sandbox.refunds()) == 1


def test_account_that_does_not_answer_does_not_hold_up_the_others(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    shop.sell("bob", account=TWO)
    for customer in ("ann", "bob"):
        shop.pay_back(customer, credits=10)
    shop.sandbox.add_fault({"server_error": {}}, match={"account": ONE}, times=None)
    shop.sandbox.act("dashboard_refund", account=TWO, payment="ch_1", amount_minor=100)
    adapter = StripeProcessor("sk_test_sandbox", base=shop.sandbox.url, page_pauses_seconds=())
    ConnectedSync().sync_all(replace(shop.context, processors=Adapters({"stripe": adapter})), "stripe")
    shop.context.run(closed(adapter))
    assert [account for _, account, _, _ in outside(shop)] == [f"stripe/{TWO}"]


async def closed(adapter: StripeProcessor) -> list[Any]:
    """Close the adapter on the loop that used it."""
    await adapter.close()
    return []


def stopped(shop: Shop) -> set[str]:
    """Return the names to which nothing is sent."""
    with shop.context.database.read() as connection:
        return set(processors.paused_processors(connection, shop.context.clock(connection)))


def waits(shop: Shop, refund_id: str, context: Any = None) -> list[dict[str, Any]]:
    """Return why a refund waits, as the API shows it."""
    asked = context or shop.context
    with asked.database.read() as connection:
        return [dict(wait_view(each)) for each in waits_of(connection, asked, find_refund(connection, refund_id))]


def due(shop: Shop, refund_id: str) -> bool:
    """Return True if the refund is due now."""
    with shop.context.database.read() as connection:
        now = shop.context.clock(connection)
        at = connection.execute(select(refunds.c.due_at).where(refunds.c.refund_id == refund_id)).scalar_one()
    return at is not None and at <= now


def shown(shop: Shop, context: Any = None) -> list[tuple[str, int]]:
    """Return to whom nothing is sent while refunds wait, and how many, as the overview shows it."""
    asked = context or shop.context
    with asked.database.read() as connection:
        found = waiting_by_processor(connection, stored_switches(connection, asked))
    return [(each.processor, each.refunds) for each in found]


# -- reconciliation and what people see -------------------------------------------------------------------------------


def test_quiet_accounts_are_no_switches_however_old_their_lists_are(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    shop.pay_back("ann")
    sync_recent(shop.context, f"stripe/{ONE}")
    later = replace(shop.context, clock=lambda connection: shop.context.clock(connection) + 600)
    for context in (shop.context, later):
        with context.database.read() as connection:
            names = {switch["name"] for switch in stored_switches(connection, context)}
            assert f"stripe/{ONE}" not in names
            assert f"stripe/{ONE}" in {
                switch["name"] for switch in stored_switches(connection, context, others=[f"stripe/{ONE}"])
            }


def test_connected_account_is_reconciled_by_its_name(shop: Shop) -> None:
    shop.sell("ann", account=ONE)
    shop.sell("bob", "ch_2")
    for customer in ("ann", "bob"):
        shop.pay_back(customer)
    made = shop.sandbox.act("dashboard_refund", account=TWO, payment=other_charge(shop), amount_minor=7)
    report = reconcile(shop.context, f"stripe/{ONE}")
    assert (report.agrees, report.processor_minor, report.ledger_minor) == (True, 1_000, 1_000)
    report = reconcile(shop.context, "stripe")
    assert (report.agrees, report.processor_minor) == (True, 1_000)
    assert made["id"] not in str(report)
    started = start_reconciliation(shop.context, f"stripe/{ONE}", since=None, until=None, actor="op")
    assert run_due(shop.context) > 0
    assert started.startswith("rec_")
    for wrong in ("manual/acct_1", "stripe:none/acct_1"):
        with pytest.raises(InvalidRequest, match="only accounts that list their refunds"):
            start_reconciliation(shop.context, wrong, since=None, until=None, actor="op")


def other_charge(shop: Shop, account: str = TWO) -> str:
    """Return a charge of a connected account that is no payment of ours."""
    shop.sandbox.register_payment("ch_other", 100, account=account)
    return "ch_other"


def test_development_sandbox_learns_payments_of_each_kind(shop: Shop) -> None:
    """It knows no payment before it is refunded, and takes each as our database has it."""
    both = {"reverse_transfer": True, "refund_application_fee": True}
    shop.sell("ann", "ch_same", account=ONE, application_fee_minor=1, refund_application_fee=True)
    shop.sell("bob", "ch_same", minor=2_000, account=TWO)
    shop.sell("cat", "ch_2", minor=3_000, account=ONE, application_fee_minor=1, **both)
    shop.sell("dan", "ch_3", minor=4_000)
    url = shop.worker.settings.database_url.get_secret_value()
    environment = {**os.environ, "REFUND_WORKER_DATABASE_URL": url}
    with Sandbox(program="refund_worker.cli.dev_sandbox", environment=environment) as dev:
        adapter = StripeProcessor("sk_test_sandbox", base=dev.url)
        adapters = Adapters({"stripe": adapter})
        shop.context = replace(shop.context, processors=adapters)
        for customer in ("ann", "bob", "cat", "dan"):
            shop.pay_back(customer)
        shop.context.run(closed(adapter))
        made = {(each.get("account"), each["charge"]): each["amount"] for each in dev.refunds()}
    assert made == {(ONE, "ch_same"): 1_000, (TWO, "ch_same"): 2_000, (None, "ch_2"): 3_000, (None, "ch_3"): 4_000}
