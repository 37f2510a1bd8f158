"""Paid is not final: what others return, reverse or undo is found although each event about it was lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import stripe
from tests.support.payout_world import DAY, START, TWO_STEPS, WINDOW, PayoutWorld

from refund_worker.domain.decision import PAUSE_SECONDS, ProcessorDenied
from refund_worker.domain.refund import ObjectState
from refund_worker.engine.jobs.clock_rollback import handle_clock_rollback
from refund_worker.engine.refunds.circuit import open_circuits
from refund_worker.processors.sandbox import Sandbox
from refund_worker.processors.stripe.payouts import StripePayouts

Make = Callable[..., PayoutWorld]
ACCOUNT = "acct_p000"


def paid(world: PayoutWorld, words: tuple[str, ...]) -> str:
    """Return a payout of 50.00 USD whose steps paid at once."""
    world.earn("e1", 5_000)
    world.route.script = list(words)
    payout_id = world.ask()
    world.settle(60)
    assert world.payout(payout_id).status == "paid"
    return payout_id


def fetched(world: PayoutWorld) -> list[str]:
    """Return the objects that were read."""
    return [object_id for kind, object_id in world.route.calls if kind == "fetch"]


@pytest.mark.parametrize("day", [0, 3, 6.9])
def test_return_within_the_window_is_found_within_a_day(world: PayoutWorld, day: float) -> None:
    payout_id = paid(world, ("succeeded",))
    world.settle(day * DAY, step=3_600)
    world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, failure_code="account_closed")
    world.settle(DAY + 3_600, step=3_600)
    assert world.payout(payout_id).status == "returned"
    assert world.balance().payable_minor == 5_000


@pytest.mark.parametrize("window", [DAY / 2, 1.5 * DAY, 2 * DAY])
def test_payout_settles_by_the_answer_at_the_end_of_its_window(make_world: Make, window: float) -> None:
    world = make_world(rules={"return_window_seconds": window})
    payout_id = paid(world, ("succeeded",))
    world.settle(window - 600, step=3_600)
    world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, failure_code="account_closed")
    world.settle(1_200)
    assert world.payout(payout_id).status == "returned"
    assert "payout_settled" not in world.events(payout_id)


def test_payout_without_a_window_settles_at_once(make_world: Make) -> None:
    world = make_world(rules={"return_window_seconds": 0.0})
    world.earn("e1", 5_000)
    world.route.script = ["succeeded"]
    payout_id = world.ask()
    world.settle(DAY, step=3_600)
    assert world.payout(payout_id).status == "settled"


def test_unknown_status_at_the_end_of_the_window_is_asked_for_again(world: PayoutWorld) -> None:
    payout_id = paid(world, ("succeeded",))
    world.settle(WINDOW - 3_600, step=3_600)
    world.route.set(f"{payout_id}-1:1", None, status="resting")
    world.settle(2 * 3_600, step=600)
    assert world.payout(payout_id).failure_code == "unknown_status"
    world.route.set(f"{payout_id}-1:1", ObjectState.SUCCEEDED)
    world.settle(DAY, step=3_600)
    assert (world.payout(payout_id).status, world.payout(payout_id).due_at) == ("settled", None)


def test_object_never_understood_is_asked_for_one_more_window(world: PayoutWorld) -> None:
    payout_id = paid(world, ("succeeded",))
    world.settle(WINDOW - 3_600, step=3_600)
    world.route.set(f"{payout_id}-1:1", None, status="resting")
    world.settle(3 * WINDOW, step=3_600)
    payout = world.payout(payout_id)
    assert (payout.status, payout.failure_code, payout.due_at) == ("needs_attention", "unknown_status", None)
    assert 13 <= fetched(world).count("tr_1") <= 16


def test_another_object_that_pays_has_its_own_window(world: PayoutWorld) -> None:
    """Two objects paid, and the first comes back while a person decides."""
    payout_id = paid(world, ("succeeded",))
    item = world.route.set(f"{payout_id}-1:1", ObjectState.SUCCEEDED)
    world.settle(2 * DAY, step=3_600)
    world.report(payout_id, replace(item, object_id="tr_9"))
    assert world.payout(payout_id).failure_code == "paid_twice"
    world.report(payout_id, world.route.set(f"{payout_id}-1:1", ObjectState.FAILED))
    payout = world.payout(payout_id)
    assert (payout.status, payout.legs[0].object_id) == ("paid", "tr_9")
    assert payout.settles_at == world.now + WINDOW


def test_false_answer_at_the_end_of_the_window_hides_no_return(world: PayoutWorld) -> None:
    payout_id = paid(world, ("succeeded",))
    key = f"{payout_id}-1:1"
    world.settle(WINDOW - 3_600, step=3_600)
    world.route.set(key, ObjectState.SUCCEEDED, amount_minor=1)
    world.settle(2 * DAY, step=3_600)
    assert world.payout(payout_id).failure_code == "answer_mismatch"
    assert world.events(payout_id).count("answer_mismatch") == 1
    world.route.set(key, ObjectState.FAILED, amount_minor=5_000, failure_code="account_closed")
    world.settle(DAY, step=3_600)
    assert world.payout(payout_id).status == "returned"


@pytest.mark.parametrize(("action", "amount"), [("retry", 1), ("resolve", 1), ("retry", 5_000), ("resolve", 5_000)])
def test_what_a_person_has_seen_is_asked_for_once_more(world: PayoutWorld, action: str, amount: int) -> None:
    """With a false amount nothing new comes of it, and the person is not asked again. A failure is found."""
    payout_id = paid(world, ("succeeded",))
    key = f"{payout_id}-1:1"
    world.settle(WINDOW - 3_600, step=3_600)
    world.route.set(key, ObjectState.SUCCEEDED, amount_minor=1)
    world.settle(7_200, step=600)
    world.route.set(key, ObjectState.FAILED, amount_minor=amount, failure_code="account_closed")
    world.act_on(payout_id, action)
    world.settle(60)
    assert world.payout(payout_id).status == ("settled" if amount == 1 else "returned")
    assert world.payout(payout_id).times_paid == 1
    assert world.events(payout_id).count("answer_mismatch") == 1


def test_outage_at_the_end_of_the_window_lets_nothing_settle(world: PayoutWorld) -> None:
    payout_id = paid(world, ("succeeded",))
    world.settle(WINDOW - 3_600, step=3_600)
    world.route.down = True
    world.settle(DAY, step=600)
    assert world.payout(payout_id).status == "paid"
    world.route.down = False
    world.settle(3_600)
    assert (world.payout(payout_id).status, world.payout(payout_id).due_at) == ("settled", None)


def test_both_steps_are_read_once_a_day_and_no_longer(make_world: Make) -> None:
    world = make_world(steps=TWO_STEPS)
    payout_id = paid(world, ("succeeded", "succeeded"))
    world.settle(WINDOW + 30 * DAY, step=6 * 3_600)
    assert world.payout(payout_id).status == "settled"
    assert world.payout(payout_id).due_at is None
    assert 7 <= fetched(world).count("tr_1") <= 9
    assert 7 <= fetched(world).count("tr_2") <= 9


@pytest.mark.parametrize("word", ["pending", "succeeded"])
def test_transfer_that_others_undo_is_found(make_world: Make, word: str) -> None:
    """The payout from it is under way, or paid: a person must know that the payee's account owes the money."""
    world = make_world(steps=TWO_STEPS)
    world.earn("e1", 5_000)
    world.route.script = ["succeeded", word]
    payout_id = world.ask()
    world.settle(3_600)
    world.route.set(f"{payout_id}-1:1", ObjectState.CANCELED)
    world.settle(DAY + 3_600, step=3_600)
    payout = world.payout(payout_id)
    assert (payout.status, payout.failure_code) == ("needs_attention", "transfer_undone")


def test_return_is_found_while_a_person_decides(make_world: Make) -> None:
    world = make_world(steps=TWO_STEPS)
    payout_id = paid(world, ("succeeded", "succeeded"))
    world.report(payout_id, world.route.set(f"{payout_id}-1:1", ObjectState.CANCELED))
    assert world.payout(payout_id).status == "needs_attention"
    world.settle(2 * DAY, step=3_600)
    world.route.set(f"{payout_id}-2:1", ObjectState.FAILED, failure_code="account_closed")
    world.settle(DAY + 3_600, step=3_600)
    last = world.payout(payout_id).legs[1]
    assert (last.status, last.failure_code) == ("failed", "account_closed")


def test_reading_goes_on_after_an_outage(world: PayoutWorld) -> None:
    payout_id = paid(world, ("succeeded",))
    world.route.down = True
    world.settle(3 * DAY, step=3_600)
    world.route.down = False
    world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, failure_code="account_closed")
    world.settle(2 * 3_600, step=60)
    assert world.payout(payout_id).status == "returned"


def test_open_circuit_lets_nothing_be_read(world: PayoutWorld) -> None:
    payout_id = paid(world, ("succeeded",))
    world.settle(DAY - 180, step=3_600)  # it is read two minutes later
    denied = ProcessorDenied("stripe", "bad_key", "the key is not valid")
    world.database.run(lambda connection: open_circuits(connection, [denied], world.now))
    seen = fetched(world)
    world.settle(PAUSE_SECONDS - 1, step=10)
    assert fetched(world) == seen
    world.settle(DAY, step=60)
    assert len(fetched(world)) == len(seen) + 1
    assert world.payout(payout_id).status == "paid"


def test_clock_that_went_back_puts_no_reading_off(world: PayoutWorld) -> None:
    payout_id = paid(world, ("succeeded",))
    world.now -= 300 * DAY
    handle_clock_rollback(world.context)
    world.settle(60)
    world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, failure_code="account_closed")
    world.settle(2 * DAY, step=3_600)
    assert world.payout(payout_id).status == "returned"


@pytest.fixture
def shop(make_world: Make) -> Iterator[tuple[PayoutWorld, Sandbox]]:
    """Return a world and its Stripe, which sends no events."""
    loop = asyncio.new_event_loop()
    with Sandbox() as sandbox:
        world = make_world(steps=TWO_STEPS, run=loop.run_until_complete)
        route = StripePayouts("sk_test_engine", base=sandbox.url, timeout_seconds=2, page_pauses_seconds=())
        sandbox.advance_clock(START - time.time())
        assert isinstance(world.context.routes, dict)
        world.context.routes["stripe"] = route
        sandbox.act("top_up", currency="usd", amount_minor=10_000)
        sandbox.act("connect_account", account=ACCOUNT)
        world.earn("e1", 5_000)
        yield world, sandbox
        loop.run_until_complete(route.close())
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_transfer_reversed_in_the_dashboard_is_found(shop: tuple[PayoutWorld, Sandbox]) -> None:
    world, sandbox = shop
    payout_id = world.ask()
    for _ in range(4):
        sandbox.advance_clock(DAY)
        world.settle(DAY, step=3_600)
    assert world.payout(payout_id).status == "paid"
    sandbox.act("top_up", account=ACCOUNT, currency="usd", amount_minor=5_000)
    client = stripe.StripeClient("sk_test_dashboard", base_addresses={"api": sandbox.url})
    (transfer,) = client.v1.transfers.list().data
    client.v1.transfers.reversals.create(transfer.id)
    sandbox.advance_clock(2 * DAY)
    world.settle(2 * DAY, step=3_600)
    payout = world.payout(payout_id)
    assert (payout.status, payout.failure_code) == ("needs_attention", "transfer_undone")
    assert world.accounts()["processor:stripe/acct_p000"] == -5_000
