"""Events about payouts: one names the object of a call whose answer was lost, where nothing else finds it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import select
from tests.support.payees import payout_accounts
from tests.support.payout_world import DAY, WINDOW, PayoutWorld

from refund_worker.domain.payouts.transfers import TransferReply
from refund_worker.domain.processor_replies import Denied
from refund_worker.domain.refund import ObjectState
from refund_worker.engine.processor_sync import transfer_events, webhook_inbox
from refund_worker.processors.accounts import Accounts
from refund_worker.processors.stripe.payout_events import transfer_hint
from refund_worker.store import inbox, processors, tables

Make = Callable[..., PayoutWorld]


def told(world: PayoutWorld, object_id: str, leg_id: str | None, event_id: str = "evt_1") -> str | None:
    """Store an event about a transfer object, process the inbox, and return the event's outcome."""
    marks = {} if leg_id is None else {"refund_worker_leg": leg_id}
    body = {"data": {"object": {"id": object_id, "object": "payout", "metadata": marks}}}
    with world.database.write() as connection:
        assert inbox.insert_event(connection, "stripe", event_id, "payout.updated", json.dumps(body), world.now)
    webhook_inbox.process_inbox(world.context)
    return outcome(world, event_id)


def test_processed_event_keeps_no_address_of_a_payee(make_world: Make) -> None:
    """A destination is stored sealed: PayPal's events about its payouts name it in clear."""
    world = with_events(make_world)
    item = {"payout_item": {"receiver": "ann@example.com", "sender_item_id": "po_1-1:1"}, "transaction_id": "TR1"}
    body = json.dumps({"id": "WH-1", "resource": item})
    with world.database.write() as connection:
        inbox.insert_event(connection, "stripe", "WH-1", "PAYMENT.PAYOUTS-ITEM.SUCCEEDED", body, world.now)
    webhook_inbox.process_inbox(world.context)
    with world.database.read() as connection:
        stored = connection.execute(select(tables.inbox.c.body)).scalar_one()
    assert json.loads(stored)["resource"]["payout_item"]["receiver"] == "[erased]"
    assert json.loads(stored)["resource"]["transaction_id"] == "TR1"


def outcome(world: PayoutWorld, event_id: str = "evt_1") -> str | None:
    """Return how the event ended, None if it waits."""
    with world.database.read() as connection:
        rows = connection.execute(select(tables.inbox).where(tables.inbox.c.event_id == event_id)).mappings()
        found: str | None = rows.one()["outcome"]
    return found


def with_events(make_world: Make) -> PayoutWorld:
    """Return a world whose processor has no list, and whose events are Stripe's."""
    accounts = payout_accounts()
    stripe = accounts["stripe"]
    assert stripe.entry.payouts is not None
    told_by = replace(stripe.entry, payouts=replace(stripe.entry.payouts, transfer_hint=transfer_hint))
    world = make_world(finds=False, accounts=Accounts({**accounts, "stripe": replace(stripe, entry=told_by)}))
    world.earn("e1", 5_000)
    return world


@pytest.fixture
def lost(make_world: Make) -> tuple[PayoutWorld, str]:
    """Return a world and its payout: the answer to its call is lost, and the key is too old for a repeat."""
    world = with_events(make_world)
    world.route.script = ["lost"]
    payout_id = world.ask()
    world.step()
    world.route.down = True
    world.settle(12_000, step=100)
    world.route.down = False
    assert world.payout(payout_id).failure_code == "outcome_unknown"
    return world, payout_id


def test_event_alone_resolves_an_unknown_outcome(lost: tuple[PayoutWorld, str]) -> None:
    world, payout_id = lost
    sends = world.route.sends()
    world.route.set(f"{payout_id}-1:1", ObjectState.SUCCEEDED)
    assert told(world, "tr_1", f"{payout_id}-1") == "taken in: a new object of the payout"
    payout = world.payout(payout_id)
    assert (payout.status, payout.legs[0].object_id) == ("paid", "tr_1")
    assert world.accounts()["processor:stripe"] == -5_000
    assert told(world, "tr_1", f"{payout_id}-1", "evt_2") == "taken in: the payout is asked about"
    world.settle(DAY, step=3_600)
    assert (world.payout(payout_id).status, world.route.sends()) == ("paid", sends)


def test_event_of_a_failed_object_gives_the_amount_back(lost: tuple[PayoutWorld, str]) -> None:
    world, payout_id = lost
    world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, failure_code="RECEIVER_UNREGISTERED")
    told(world, "tr_1", f"{payout_id}-1")
    assert (world.payout(payout_id).status, world.balance().payable_minor) == ("failed", 5_000)


def test_event_while_the_answer_is_missing_needs_no_repeat(make_world: Make) -> None:
    world = with_events(make_world)
    world.route.script = ["lost"]
    payout_id = world.ask()
    world.step()
    told(world, "tr_1", f"{payout_id}-1")
    world.settle(600)
    assert world.payout(payout_id).status == "pending"
    assert world.route.sends() == [f"{payout_id}-1:1"]


def test_event_after_a_manual_payment_shows_the_second_one(lost: tuple[PayoutWorld, str]) -> None:
    world, payout_id = lost
    world.act_on(payout_id, "resolve", reference="wire-7")
    world.settle(DAY, step=3_600)
    told(world, "tr_1", f"{payout_id}-1")
    assert world.payout(payout_id).failure_code == "paid_twice"


def test_event_before_the_answer_waits_for_it(make_world: Make) -> None:
    """Nothing is read while a call is under way: its answer names the object too."""
    world = with_events(make_world)
    payout_id = world.ask()
    send, seen = world.route.send, []

    async def tells_first(key: str, body: str) -> TransferReply:
        reply = await send(key, body)
        seen.append(await asyncio.to_thread(told, world, "tr_1", f"{payout_id}-1"))
        return reply

    world.route.send = tells_first  # type: ignore[method-assign]
    world.step()
    assert seen == [None]
    world.now += 60
    webhook_inbox.process_inbox(world.context)
    assert outcome(world) == "taken in: the payout is asked about"
    assert ("fetch", "tr_1") not in world.route.calls


def test_event_is_tried_again_until_the_processor_answers(lost: tuple[PayoutWorld, str]) -> None:
    world, payout_id = lost
    world.route.down = True
    assert told(world, "tr_1", f"{payout_id}-1") is None
    world.route.down = False
    world.now += 60
    webhook_inbox.process_inbox(world.context)
    assert (outcome(world), world.payout(payout_id).status) == ("taken in: a new object of the payout", "pending")


def test_event_of_an_object_that_is_not_there_ends(lost: tuple[PayoutWorld, str]) -> None:
    world, payout_id = lost
    assert told(world, "tr_9", f"{payout_id}-1") is None
    for _ in range(30):
        world.now += 3_600
        webhook_inbox.process_inbox(world.context)
    assert outcome(world) == "the processor does not tell of this object: left to the payout's own questions"
    assert world.route.calls.count(("fetch", "tr_9")) == 20


def test_object_that_names_another_leg_changes_nothing(lost: tuple[PayoutWorld, str]) -> None:
    """An event's word is no proof: the object itself must name the leg."""
    world, payout_id = lost
    world.route.book[f"{payout_id}-1:1"] = replace(world.route.book[f"{payout_id}-1:1"], leg_id="po_other-1")
    before = world.payout(payout_id)
    assert told(world, "tr_1", f"{payout_id}-1") == "not about a payout or a payee that we know"
    assert world.payout(payout_id) == before


@pytest.mark.parametrize("leg_id", [None, "po_other-1"])
def test_event_of_others_asks_nothing(lost: tuple[PayoutWorld, str], leg_id: str | None) -> None:
    world, _ = lost
    calls = list(world.route.calls)
    assert told(world, "tr_1", leg_id) == "not about a payout or a payee that we know"
    assert world.route.calls == calls


def test_refused_key_opens_the_circuit_and_the_event_waits(lost: tuple[PayoutWorld, str]) -> None:
    world, payout_id = lost

    async def denies(object_id: str, body: str) -> TransferReply:
        return Denied("bad_key", "the key is not valid")

    fetch, world.route.fetch = world.route.fetch, denies  # type: ignore[method-assign]
    assert told(world, "tr_1", f"{payout_id}-1") is None
    with world.database.read() as connection:
        assert set(processors.open_circuits(connection, world.now)) == {"stripe"}
    world.route.fetch = fetch  # type: ignore[method-assign]
    world.now += 3_600
    webhook_inbox.process_inbox(world.context)
    assert outcome(world) == "taken in: a new object of the payout"


@pytest.fixture
def settled(make_world: Make) -> tuple[PayoutWorld, str]:
    """Return a world and its payout that was paid by tr_1, and is settled."""
    world = with_events(make_world)
    world.route.script = ["succeeded"]
    payout_id = world.ask()
    world.settle(WINDOW + DAY, step=3_600)
    assert (world.payout(payout_id).status, world.payout(payout_id).due_at) == ("settled", None)
    world.route.calls.clear()
    return world, payout_id


def test_event_after_settling_is_asked_about_again_a_day_later(settled: tuple[PayoutWorld, str]) -> None:
    """The money comes back after the window, and the answer to the first question is older than the event."""
    world, payout_id = settled
    assert told(world, "tr_1", f"{payout_id}-1") == transfer_events.ASKED
    world.settle(60)
    assert world.payout(payout_id).status == "settled"
    world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, failure_code="account_closed")
    world.settle(DAY + 3_600, step=3_600)
    assert (world.payout(payout_id).status, world.balance().payable_minor) == ("returned", 5_000)
    assert world.payout(payout_id).due_at is None


def test_event_without_news_after_settling_is_asked_about_twice(settled: tuple[PayoutWorld, str]) -> None:
    world, payout_id = settled
    told(world, "tr_1", f"{payout_id}-1")
    world.settle(7 * DAY, step=3_600)
    assert world.route.calls == [("fetch", "tr_1")] * 2
    payout = world.payout(payout_id)
    assert (payout.status, payout.due_at, payout.times_paid) == ("settled", None, 1)
    assert world.events(payout_id).count("payout_settled") == 1


def test_event_at_the_end_of_the_window_is_asked_about_twice(make_world: Make) -> None:
    world = with_events(make_world)
    world.route.script = ["succeeded"]
    payout_id = world.ask()
    world.settle(WINDOW - 60)
    told(world, "tr_1", f"{payout_id}-1")
    world.settle(120, step=60)
    assert world.payout(payout_id).status == "paid"
    world.route.set(f"{payout_id}-1:1", ObjectState.FAILED)
    world.settle(DAY, step=3_600)
    assert world.payout(payout_id).status == "returned"
    assert "payout_settled" not in world.events(payout_id)
