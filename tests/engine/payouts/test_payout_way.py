"""The way of a payout: reserved when accepted, posted first, sent once, and given back once when it does not arrive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support.payout_world import DAY, TWO_STEPS, WINDOW, PayoutWorld

from refund_worker.domain.payouts.transfers import Fault
from refund_worker.domain.refund import ObjectState
from refund_worker.engine.payouts.process import process_due_payouts
from refund_worker.engine.processor_sync.pause import pause_processor, resume_processor
from refund_worker.errors import ActionNotAllowed, InsufficientEarnings, KeyReused
from refund_worker.store.payouts.attempts import objects_of

Make = Callable[..., PayoutWorld]


def test_accepting_reserves_and_posts_nothing(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask(3_000)
    assert world.payout(payout_id).status == "queued"
    assert (world.balance().payable_minor, world.balance().in_flight_minor) == (2_000, 3_000)
    assert world.accounts() == {"house:shares": -5_000, "payee:p": 5_000}
    with pytest.raises(InsufficientEarnings):
        world.ask(2_001, "k2")


def test_payout_is_paid_and_settles_after_the_window(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle()
    assert world.payout(payout_id).status == "pending"
    assert world.accounts() == {"house:shares": -5_000, "house:payout_clearing": 5_000}
    world.route.set(f"{payout_id}-1:1", ObjectState.SUCCEEDED)
    world.settle(DAY)
    assert world.payout(payout_id).status == "paid"
    assert world.accounts() == {
        "house:shares": -5_000,
        "house:paid_out": 5_000,
        "processor:stripe": -5_000,
        "house:payouts": 5_000,
    }
    assert (world.balance().paid_minor, world.balance().in_flight_minor) == (5_000, 0)
    world.settle(WINDOW, step=3_600)
    assert world.payout(payout_id).status == "settled"
    assert world.route.sends() == [f"{payout_id}-1:1"]


def test_same_request_again_pays_once(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    assert world.ask(1_000) == world.ask(1_000)
    with pytest.raises(KeyReused):
        world.ask(1_001)
    world.settle(DAY)
    assert len(world.route.book) == 1


def test_lost_answer_is_repeated_under_the_same_key(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.route.script = ["lost"]
    payout_id = world.ask()
    world.settle(600)
    assert set(world.route.sends()) == {f"{payout_id}-1:1"}
    assert world.payout(payout_id).status == "pending"
    assert len(world.route.book) == 1


def test_server_error_is_looked_up_and_not_repeated(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.route.script = ["error"]
    payout_id = world.ask()
    world.settle(600)
    assert world.route.sends() == [f"{payout_id}-1:1"]
    assert ("find", f"{payout_id}-1:1") in world.route.calls
    assert world.payout(payout_id).status == "pending"


def test_new_key_comes_only_after_the_quiet_window(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.route.script = ["nothing"] * 100
    payout_id = world.ask()
    world.settle(900, step=30)
    assert set(world.route.sends()) == {f"{payout_id}-1:1"}
    world.settle(12_000, step=30)
    keys = world.route.sends()
    assert f"{payout_id}-1:2" not in keys or keys.index(f"{payout_id}-1:2") > 3


def test_without_a_list_an_unknown_outcome_ends_with_a_person(make_world: Make) -> None:
    world = make_world(finds=False)
    world.earn("e1", 5_000)
    world.route.down = True
    payout_id = world.ask()
    world.settle(12_000, step=100)
    payout = world.payout(payout_id)
    assert (payout.status, payout.failure_code) == ("needs_attention", "outcome_unknown")
    assert set(world.route.sends()) == {f"{payout_id}-1:1"}
    world.route.down = False
    world.act_on(payout_id, "retry")
    world.settle(3_000, step=100)
    assert set(world.route.sends()) == {f"{payout_id}-1:1"}
    assert world.route.book == {}


def test_refusal_gives_the_amount_back_once(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.route.script = ["refused"]
    payout_id = world.ask()
    world.settle(DAY, step=600)
    payout = world.payout(payout_id)
    assert (payout.status, payout.failure_code, payout.return_count) == ("failed", "account_closed", 1)
    assert world.accounts() == {"house:shares": -5_000, "payee:p": 5_000}
    assert world.balance().payable_minor == 5_000


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [(Fault.PAYEE, "incomplete", "account_closed"), (Fault.COMPLIANCE, "under_review", "refused_by_processor")],
)
def test_refusal_stops_that_destination(make_world: Make, fault: Fault, status: str, reason: str) -> None:
    """Nothing is asked of a payee after a compliance outcome: the payee can do nothing about it."""
    world = make_world(rules={"refusal_faults": {"account_closed": fault}})
    world.earn("e1", 5_000)
    world.route.script = ["refused"]
    first = world.ask(1_000, "k1")
    world.settle(60)
    assert world.payout(first).fault is fault
    assert (world.payee_row().status, world.payee_row().status_reason) == (status, reason)
    second = world.ask(1_000, "k2")
    world.settle(DAY, step=3_600)
    assert world.payout(second).hold_code == f"payee_{status}"


@pytest.mark.parametrize("settled", [False, True])
def test_return_after_paid_or_settled_gives_back_once(world: PayoutWorld, settled: bool) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle()
    key = f"{payout_id}-1:1"
    world.route.set(key, ObjectState.SUCCEEDED)
    world.settle(WINDOW + DAY if settled else DAY, step=3_600)
    assert world.payout(payout_id).status == ("settled" if settled else "paid")
    returned = world.route.set(key, ObjectState.FAILED, failure_code="account_closed", fault=Fault.PAYEE)
    for _ in range(2):
        world.report(payout_id, returned)
    payout = world.payout(payout_id)
    assert (payout.status, payout.return_count, payout.lost_minor) == ("returned", 1, 0)
    assert world.accounts() == {"house:shares": -5_000, "payee:p": 5_000}
    assert world.balance().payable_minor == 5_000
    assert world.payee_row().status == "incomplete"


def test_return_of_less_is_a_loss_of_ours(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle()
    key = f"{payout_id}-1:1"
    world.route.set(key, ObjectState.SUCCEEDED)
    world.settle(DAY)
    world.report(payout_id, world.route.set(key, ObjectState.FAILED, failure_code="x", returned_minor=4_800))
    assert world.payout(payout_id).lost_minor == 200
    assert world.balance().payable_minor == 5_000
    assert world.accounts() == {
        "house:shares": -5_000,
        "payee:p": 5_000,
        "processor:stripe": -200,
        "house:payout_losses": 200,
    }


def test_unknown_status_after_the_end_of_an_object_changes_nothing(world: PayoutWorld) -> None:
    """Seed 1801303: an old report came after the end, and the object was asked about for ever."""
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle()
    key = f"{payout_id}-1:1"
    failed = world.route.set(key, ObjectState.FAILED, failure_code="bank_error", fault=Fault.PROCESSOR)
    world.report(payout_id, failed)
    assert world.payout(payout_id).legs[0].status == "blocked"
    world.report(payout_id, replace(failed, state=None, status="resting"))
    assert world.payout(payout_id).legs[0].status == "blocked"
    world.settle(2 * DAY, step=3_600)
    assert world.payout(payout_id).legs[0].attempt == 2


def test_overtaken_report_with_an_amount_opens_no_object_again(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle()
    ended = world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, failure_code="x")
    world.report(payout_id, ended)
    world.report(payout_id, replace(ended, state=ObjectState.PENDING, status="pending", returned_minor=4_900))
    (leg,) = world.payout(payout_id).legs
    assert [(known.state, known.returned_minor) for known in leg.objects] == [(ObjectState.FAILED, None)]


def test_later_report_keeps_what_only_an_earlier_one_had(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle()
    ended = world.route.set(
        f"{payout_id}-1:1", ObjectState.FAILED, failure_code="x", fault=Fault.PAYEE, trace="T1", fee_minor=30
    )
    world.report(payout_id, ended)
    later = replace(ended, trace=None, fee_minor=None, failure_code=None, fault=None, returned_minor=4_900)
    world.report(payout_id, later)
    with world.database.read() as connection:
        (stored,) = objects_of(connection, [f"{payout_id}-1"])
    assert (stored["trace"], stored["fee_minor"], stored["returned_minor"]) == ("T1", 30, 4_900)
    assert (stored["failure_code"], stored["fault"]) == ("x", "payee")


def test_reason_of_an_earlier_state_is_not_that_of_the_next(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle()
    waits = world.route.set(
        f"{payout_id}-1:1", ObjectState.REQUIRES_ACTION, failure_code="unclaimed", fault=Fault.PAYEE
    )
    world.report(payout_id, waits)
    world.report(payout_id, replace(waits, state=ObjectState.SUCCEEDED, failure_code=None, fault=None))
    with world.database.read() as connection:
        (stored,) = objects_of(connection, [f"{payout_id}-1"])
    assert (stored["state"], stored["failure_code"], stored["fault"]) == ("succeeded", None, None)


@pytest.mark.parametrize("fault", [Fault.OURS, Fault.PROCESSOR])
def test_return_of_less_is_a_loss_although_it_is_tried_again(world: PayoutWorld, fault: Fault) -> None:
    """Before it was paid, each attempt sends the whole amount: the payee is owed nothing for what is lost."""
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle()
    lost = world.route.set(
        f"{payout_id}-1:1", ObjectState.FAILED, failure_code="bank_error", fault=fault, returned_minor=4_800
    )
    for _ in range(2):
        world.report(payout_id, lost)
    assert world.accounts() == {
        "house:payout_clearing": 5_000,
        "house:payout_losses": 200,
        "house:shares": -5_000,
        "processor:stripe": -200,
    }
    world.settle(DAY, step=600)
    world.report(payout_id, world.route.set(f"{payout_id}-1:2", ObjectState.SUCCEEDED))
    payout = world.payout(payout_id)
    assert (payout.status, payout.lost_minor, world.balance().payable_minor) == ("paid", 200, 0)
    assert world.accounts()["processor:stripe"] == -5_200
    assert world.accounts()["house:payout_losses"] == 200


def test_return_of_less_by_another_object_is_a_loss(world: PayoutWorld) -> None:
    """An object of the leg that was not known before ends while another is open."""
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle()
    first = world.route.book[f"{payout_id}-1:1"]
    late = replace(first, object_id="tr_9", state=ObjectState.FAILED, status="failed", returned_minor=4_900)
    world.report(payout_id, late)
    assert world.payout(payout_id).status == "pending"
    assert world.accounts()["house:payout_losses"] == 100
    world.report(payout_id, world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, returned_minor=100))
    assert (world.payout(payout_id).lost_minor, world.balance().payable_minor) == (5_000, 5_000)
    assert world.accounts()["house:payout_losses"] == 5_000


def test_unclaimed_payout_waits_for_the_payee_and_is_returned(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.route.script = ["requires_action"]
    payout_id = world.ask()
    world.settle()
    payout = world.payout(payout_id)
    assert payout.status == "recipient_action"
    assert payout.act_by is not None
    world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, failure_code="RETURNED")
    world.settle(2 * DAY, step=3_600)
    assert world.payout(payout_id).status == "returned"
    assert world.balance().payable_minor == 5_000


def test_unclaimed_payout_can_be_called_off(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.route.script = ["requires_action"]
    payout_id = world.ask()
    world.settle()
    world.act_on(payout_id, "cancel")
    world.settle(600)
    assert world.payout(payout_id).status == "canceled"
    assert world.balance().payable_minor == 5_000
    assert world.route.calls.count(("cancel", "tr_1")) == 1


def test_transfer_comes_first_and_each_step_has_its_key(make_world: Make) -> None:
    world = make_world(steps=TWO_STEPS)
    world.earn("e1", 5_000)
    world.route.script = ["succeeded", "pending"]
    payout_id = world.ask()
    world.settle(60)
    assert world.route.sends() == [f"{payout_id}-1:1", f"{payout_id}-2:1"]
    assert world.accounts() == {
        "house:shares": -5_000,
        "house:payout_clearing": 5_000,
        "processor:stripe": -5_000,
        "processor:stripe/acct_p000": 5_000,
    }
    world.route.set(f"{payout_id}-2:1", ObjectState.SUCCEEDED)
    world.settle(DAY)
    assert world.payout(payout_id).status == "paid"
    assert world.accounts() == {
        "house:shares": -5_000,
        "house:paid_out": 5_000,
        "processor:stripe": -5_000,
        "house:payouts": 5_000,
    }


def test_failed_second_step_undoes_the_first(make_world: Make) -> None:
    world = make_world(steps=TWO_STEPS)
    world.earn("e1", 5_000)
    world.route.script = ["succeeded", "refused", "succeeded"]
    payout_id = world.ask()
    world.settle(600)
    assert world.payout(payout_id).status == "failed"
    assert world.route.sends() == [f"{payout_id}-1:1", f"{payout_id}-2:1", f"{payout_id}-3:1"]
    assert world.accounts() == {"house:shares": -5_000, "payee:p": 5_000}


def test_return_after_two_steps_undoes_the_transfer(make_world: Make) -> None:
    world = make_world(steps=TWO_STEPS)
    world.earn("e1", 5_000)
    world.route.script = ["succeeded", "succeeded", "succeeded"]
    payout_id = world.ask()
    world.settle(60)
    assert world.payout(payout_id).status == "paid"
    key = f"{payout_id}-2:1"
    world.report(payout_id, world.route.set(key, ObjectState.FAILED, failure_code="no_account", fault=Fault.PAYEE))
    assert world.payout(payout_id).status == "returning"
    world.settle(60)
    assert world.payout(payout_id).status == "returned"
    assert world.accounts() == {"house:shares": -5_000, "payee:p": 5_000}


def test_transfer_that_is_not_given_back_is_a_persons(make_world: Make) -> None:
    world = make_world(steps=TWO_STEPS)
    world.earn("e1", 5_000)
    world.route.script = ["succeeded", "refused", "refused"]
    payout_id = world.ask(2_000)
    world.settle(600)
    payout = world.payout(payout_id)
    assert (payout.status, payout.failure_code) == ("needs_attention", "transfer_not_undone")
    assert world.payee_row().blocked_by == payout_id
    other = world.ask(1_000, "k2")
    world.settle(DAY, step=3_600)
    assert world.payout(other).status == "held"
    world.act_on(payout_id, "resolve")
    world.settle(60)
    assert world.payout(payout_id).status == "failed"
    assert world.payee_row().blocked_by is None
    assert world.balance().net_minor == 4_000
    assert world.accounts()["processor:stripe/acct_p000"] == 2_000
    world.settle(DAY, step=600)
    assert world.payout(other).status == "pending"


def test_second_payout_waits_until_the_first_is_paid(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    first, second = world.ask(1_000, "k1"), world.ask(1_000, "k2")
    world.settle(DAY, step=600)
    assert [world.payout(p).status for p in (first, second)] == ["pending", "held"]
    assert world.payout(second).hold_code == "another_payout"
    world.route.set(f"{first}-1:1", ObjectState.SUCCEEDED)
    world.settle(2 * DAY, step=600)
    assert world.payout(second).status == "pending"


def test_unknown_outcome_holds_the_payee(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.route.script = ["nothing"] * 500
    first, second = world.ask(1_000, "k1"), world.ask(1_000, "k2")
    world.settle(600)
    assert world.payout(second).status == "held"
    assert {key.split(":")[0] for key in world.route.sends()} == {f"{first}-1"}


def test_new_destination_is_not_paid_during_the_cool_down(make_world: Make) -> None:
    world = make_world(cooldown_seconds=DAY)
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle(DAY - 60, step=600)
    assert (world.payout(payout_id).status, world.payout(payout_id).hold_code) == ("held", "destination_cooldown")
    assert world.route.book == {}
    world.settle(120)
    assert world.payout(payout_id).status == "pending"


def test_changed_destination_cancels_what_is_unsent(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.change_payee(destination_id="p-2", destination_changed_at=world.now)
    world.settle(60)
    assert (world.payout(payout_id).status, world.payout(payout_id).failure_code) == ("canceled", "destination_changed")
    assert world.route.book == {}
    assert world.balance().payable_minor == 5_000


def test_paused_payee_is_paid_nothing(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.change_payee(paused_by="ann", pause_reason="looks odd")
    payout_id = world.ask()
    world.settle(DAY, step=3_600)
    assert world.payout(payout_id).hold_code == "payee_paused"
    assert world.route.book == {}


def test_person_pays_while_the_outcome_is_unknown_and_it_lands(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.route.script = ["late", *["nothing"] * 500]
    payout_id = world.ask()
    world.settle(5_000, step=30)
    assert world.payout(payout_id).status == "needs_attention"
    with pytest.raises(ActionNotAllowed):
        world.act_on(payout_id, "resolve")
    world.act_on(payout_id, "resolve", reference="wire-7")
    assert world.payout(payout_id).status == "paid"
    world.route.land()
    world.settle(DAY, step=600)
    assert world.payout(payout_id).status == "needs_attention"
    assert world.payout(payout_id).failure_code == "paid_twice"


def test_unknown_refusal_is_a_persons(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.route.script = ["unknown"]
    payout_id = world.ask()
    world.settle(DAY, step=3_600)
    assert (world.payout(payout_id).status, world.payout(payout_id).failure_code) == (
        "needs_attention",
        "unknown_refusal",
    )
    assert world.balance().in_flight_minor == 5_000
    world.act_on(payout_id, "retry")
    world.settle(600)
    assert world.route.sends() == [f"{payout_id}-1:1", f"{payout_id}-1:2"]


def test_paused_processor_is_sent_nothing_and_costs_no_work(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    pause_processor(world.context, "stripe", actor="ann", reason="test")
    payout_id = world.ask()
    world.step()
    assert process_due_payouts(world.context) == 0
    assert world.payout(payout_id).status == "queued"
    world.act_on(payout_id, "cancel")
    second = world.ask(1_000, "k3")
    world.step()
    resume_processor(world.context, "stripe", actor="ann")
    world.settle()
    assert world.payout(second).status == "pending"


def test_next_payout_waits_for_the_interval(make_world: Callable[..., PayoutWorld]) -> None:
    world = make_world(policy_options={"interval_seconds": 3 * DAY})
    world.earn("e1", 5_000)
    first = world.ask(1_000, "k1")
    world.settle()
    world.route.set(f"{first}-1:1", ObjectState.SUCCEEDED)
    world.settle(2 * DAY, step=3_600)
    second = world.ask(2_000, "k2")
    world.settle(DAY / 2, step=3_600)
    assert (world.payout(first).status, world.payout(second).status) == ("paid", "held")
    assert world.payout(second).hold_code == "interval"
    world.settle(DAY, step=3_600)
    assert world.payout(second).status == "pending"
    assert world.route.sends() == [f"{first}-1:1", f"{second}-1:1"]


@pytest.mark.parametrize("after", ["refused", "returned"])
def test_payout_that_paid_nothing_begins_no_interval(make_world: Make, after: str) -> None:
    world = make_world(policy_options={"interval_seconds": 30 * DAY})
    world.earn("e1", 5_000)
    if after == "refused":
        world.route.script = ["refused"]
    first = world.ask(1_000, "k1")
    world.settle()
    if after == "returned":
        for state in (ObjectState.SUCCEEDED, ObjectState.FAILED):
            world.route.set(f"{first}-1:1", state)
            world.settle(2 * DAY, step=3_600)
    assert world.payout(first).given_back
    second = world.ask(2_000, "k2")
    world.settle()
    assert world.payout(second).status == "pending"


def test_old_payout_that_comes_back_ends_no_later_interval(make_world: Make) -> None:
    """The interval of a later payout stays."""
    world = make_world(policy_options={"interval_seconds": 3 * DAY})
    world.earn("e1", 5_000)
    first = world.ask(1_000, "k1")
    world.settle()
    world.route.set(f"{first}-1:1", ObjectState.SUCCEEDED)
    world.settle(4 * DAY, step=3_600)
    second = world.ask(1_000, "k2")
    world.settle()
    world.route.set(f"{second}-1:1", ObjectState.SUCCEEDED)
    world.route.set(f"{first}-1:1", ObjectState.FAILED)
    world.settle(DAY, step=3_600)
    assert (world.payout(first).status, world.payout(second).status) == ("returned", "paid")
    third = world.ask(1_000, "k3")
    world.settle()
    assert world.payout(third).hold_code == "interval"
