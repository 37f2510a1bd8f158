"""Faults that simulated schedules have found, each in its smallest form."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.payout_world import DAY, TWO_STEPS, WINDOW, PayoutWorld

from refund_worker.domain.refund import ObjectState
from refund_worker.engine.jobs.clock_rollback import handle_clock_rollback
from refund_worker.engine.payouts.process import claim_due_payouts, process_due_payouts
from refund_worker.store.payouts import payouts

Make = Callable[..., PayoutWorld]


def test_payee_who_was_paid_gets_nothing_back(make_world: Make) -> None:
    """Others undo the transfer while its payout is under way; the payout is paid, and a person acknowledges it."""
    world = make_world(steps=TWO_STEPS)
    world.earn("e1", 5_000)
    world.route.script = ["succeeded", "pending"]
    payout_id = world.ask()
    world.settle(60)
    world.report(payout_id, world.route.set(f"{payout_id}-1:1", ObjectState.CANCELED))
    assert (world.payout(payout_id).status, world.payout(payout_id).failure_code) == (
        "needs_attention",
        "transfer_undone",
    )
    world.route.set(f"{payout_id}-2:1", ObjectState.SUCCEEDED)
    world.settle(DAY, step=3_600)
    world.act_on(payout_id, "retry")
    assert world.payout(payout_id).status == "paid"
    assert (world.balance().paid_minor, world.balance().payable_minor) == (5_000, 0)


def test_amount_stays_taken_while_its_payout_may_pay(make_world: Make) -> None:
    world = make_world(steps=TWO_STEPS)
    world.earn("e1", 5_000)
    world.route.script = ["succeeded", "pending"]
    payout_id = world.ask()
    world.settle(60)
    world.report(payout_id, world.route.set(f"{payout_id}-1:1", ObjectState.CANCELED))
    world.act_on(payout_id, "retry")
    assert (world.payout(payout_id).status, world.balance().in_flight_minor) == ("pending", 5_000)
    world.route.set(f"{payout_id}-2:1", ObjectState.FAILED)
    world.settle(2 * DAY, step=3_600)
    assert (world.payout(payout_id).status, world.balance().payable_minor) == ("failed", 5_000)


def test_clock_that_went_back_lets_no_old_key_be_sent_again(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.route.down = True
    payout_id = world.ask()
    world.settle()
    sent = world.route.sends()
    world.now -= DAY
    assert handle_clock_rollback(world.context) == 1
    world.route.down = False
    world.settle(60)
    assert world.route.sends() == sent
    assert ("find", f"{payout_id}-1:1") in world.route.calls


def test_clock_that_went_back_lets_no_old_key_be_the_look_up(make_world: Make) -> None:
    """Where a repeated call is the look-up, a key of unknown age pays a second time if it has expired meanwhile."""
    world = make_world(finds=False)
    world.earn("e1", 5_000)
    world.route.script = ["lost"]
    payout_id = world.ask()
    world.step()
    world.route.down = True
    world.settle(3_000, step=100)
    sent = world.route.sends()
    world.now -= DAY
    assert handle_clock_rollback(world.context) == 1
    world.route.down = False
    world.settle(5_000, step=300)
    assert world.route.sends() == sent
    assert (world.payout(payout_id).status, world.payout(payout_id).failure_code) == (
        "needs_attention",
        "outcome_unknown",
    )


def test_worker_that_dies_while_it_calls_off_leaves_it_canceled(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.route.script = ["requires_action"]
    payout_id = world.ask()
    world.settle()
    world.act_on(payout_id, "cancel")
    world.database.run(lambda connection: claim_due_payouts(connection, world.context))
    world.route.set(f"{payout_id}-1:1", ObjectState.CANCELED)
    world.settle(600, step=30)
    assert world.payout(payout_id).status == "canceled"
    assert world.balance().payable_minor == 5_000


def test_event_does_not_send_what_waits_for_a_person(make_world: Make) -> None:
    """Without a list an unknown outcome is a person's. An event about its object must not begin another attempt."""
    world = make_world(finds=False)
    world.earn("e1", 5_000)
    world.route.script = ["late"]
    payout_id = world.ask()
    world.settle()
    world.route.down = True
    world.settle(12_000, step=100)
    assert world.payout(payout_id).failure_code == "outcome_unknown"
    world.route.down = False
    world.route.land()
    sent = world.route.sends()
    world.database.run(
        lambda c: payouts.ask_again(
            c, payouts.named_legs(c, "stripe", object_ids=["tr_1"], leg_ids=[f"{payout_id}-1"]), world.now
        )
    )
    world.settle(600, step=60)
    assert world.route.sends() == sent
    assert len(world.route.book) == 1


def test_repeat_that_is_refused_again_waits_longer_each_time(make_world: Make) -> None:
    """Where a repeated call is the look-up, an empty balance refuses each repeat, until there is money again."""
    world = make_world(finds=False)
    world.earn("e1", 5_000)
    world.route.script = ["nothing", *["blocked"] * 100]
    world.ask()
    sends = []
    for _ in range(4):
        for _ in range(10):  # at one moment
            process_due_payouts(world.context)
        sends.append(len(world.route.sends()))
        world.now += 1_000
    assert sends == [1, 3, 4, 5]


def test_clock_that_went_back_keeps_the_window_for_returns(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.route.script = ["succeeded"]
    payout_id = world.ask()
    world.settle()
    assert world.payout(payout_id).settles_at == world.now + WINDOW
    world.now -= 3 * DAY
    handle_clock_rollback(world.context)
    world.settle()
    assert world.payout(payout_id).settles_at == world.now + WINDOW
