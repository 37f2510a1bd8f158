"""A person says how a payout ended: what happens to its transfer, and to the processor's own object that is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.support.payout_world import DAY, TWO_STEPS, WINDOW, PayoutWorld

from refund_worker.domain.ledger import MANUAL
from refund_worker.domain.payouts.transfers import Fault
from refund_worker.domain.refund import ObjectState
from refund_worker.errors import ActionNotAllowed
from refund_worker.store.payouts.attempts import owners_of

Make = Callable[..., PayoutWorld]
CONNECTED = "processor:stripe/acct_p000"


def transferred(make_world: Make, *after: str) -> tuple[PayoutWorld, str]:
    """Return a world and its payout of 50.00 USD, whose transfer paid and whose payout failed twice at a bank."""
    world = make_world(steps=TWO_STEPS)
    world.earn("e1", 5_000)
    world.route.script = ["succeeded", "pending", "pending", *after]
    payout_id = world.ask()
    world.settle(60)
    for attempt in (1, 2):
        world.report(
            payout_id,
            world.route.set(
                f"{payout_id}-2:{attempt}",
                ObjectState.FAILED,
                failure_code="could_not_process",
                fault=Fault.PROCESSOR,
            ),
        )
        world.settle(2 * 3_600, step=600)
    assert (world.payout(payout_id).status, world.payout(payout_id).failure_code) == (
        "needs_attention",
        "could_not_process",
    )
    assert world.accounts()[CONNECTED] == 5_000
    return world, payout_id


def test_manual_payment_takes_the_transfer_back(make_world: Make) -> None:
    """Else the payee has the money twice: once manually, and once at the own account with the processor."""
    world, payout_id = transferred(make_world, "succeeded")
    world.act_on(payout_id, "resolve", reference="wire-7")
    assert world.payout(payout_id).status == "returning"
    assert world.balance().in_flight_minor == 5_000
    world.settle(600)
    payout = world.payout(payout_id)
    assert (payout.status, payout.times_paid) == ("paid", 1)
    assert [leg.status for leg in payout.legs] == ["succeeded", "succeeded", "succeeded"]
    assert world.route.sends()[-1] == f"{payout_id}-3:1"
    assert CONNECTED not in world.accounts()
    assert world.accounts()[MANUAL] == -5_000
    assert (world.balance().paid_minor, world.balance().payable_minor) == (5_000, 0)
    asked = len(world.route.calls)
    world.settle(4 * DAY, step=3_600)
    # One question was planned before the transfer was taken back.
    assert world.route.calls[asked:].count(("fetch", "tr_1")) <= 1


def test_transfer_that_stays_is_a_persons_choice(make_world: Make) -> None:
    world, payout_id = transferred(make_world, "refused")
    world.act_on(payout_id, "resolve", reference="wire-7")
    world.settle(600)
    payout = world.payout(payout_id)
    assert (payout.status, payout.failure_code) == ("needs_attention", "transfer_not_undone")
    assert world.payee_row().blocked_by == payout_id
    world.act_on(payout_id, "resolve", reference="wire-7")
    world.settle(600)
    assert world.payout(payout_id).status == "paid"
    assert "transfer_stands" in world.events(payout_id)
    assert world.accounts()[CONNECTED] == 5_000
    assert world.payee_row().blocked_by is None


def test_transfer_that_the_person_names_is_the_payment(make_world: Make) -> None:
    world, payout_id = transferred(make_world)
    world.act_on(payout_id, "resolve", reference="tr_1")
    world.settle(DAY, step=3_600)
    assert world.payout(payout_id).status == "paid"
    assert len(world.route.sends()) == 3
    assert not {CONNECTED, MANUAL} & world.accounts().keys()


def test_transfer_stays_while_its_payout_may_still_land(make_world: Make) -> None:
    world = make_world(steps=TWO_STEPS)
    world.earn("e1", 5_000)
    world.route.script = ["succeeded", "late", *["nothing"] * 500]
    payout_id = world.ask()
    world.settle(5_000, step=30)
    assert world.payout(payout_id).status == "needs_attention"
    world.act_on(payout_id, "resolve", reference="wire-7")
    world.route.land()
    world.settle(DAY, step=600)
    payout = world.payout(payout_id)
    assert (payout.status, payout.failure_code) == ("needs_attention", "paid_twice")
    assert [leg.step for leg in payout.legs] == ["transfer", "payout"]
    world.act_on(payout_id, "retry")
    world.settle(DAY, step=600)
    assert [leg.step for leg in world.payout(payout_id).legs] == ["transfer", "payout"]


def transfer_without_an_answer(make_world: Make) -> tuple[PayoutWorld, str]:
    """Return a world and its payout, whose transfer was made at the processor without an answer."""
    world = make_world(steps=TWO_STEPS)
    world.earn("e1", 5_000)
    world.route.script = ["lost", "succeeded"]
    payout_id = world.ask()
    world.step()
    world.route.down = True
    world.settle(5_000, step=100)
    assert world.payout(payout_id).status == "needs_attention"
    world.route.set(f"{payout_id}-1:1", ObjectState.SUCCEEDED)
    world.route.down = False
    return world, payout_id


def test_transfer_found_after_a_manual_payment_is_taken_back(make_world: Make) -> None:
    """Its money is at the payee's account with the processor, not yet at the payee: no person must undo it."""
    world, payout_id = transfer_without_an_answer(make_world)
    world.act_on(payout_id, "resolve", reference="wire-7")
    world.settle(DAY, step=600)
    payout = world.payout(payout_id)
    assert (payout.status, [leg.step for leg in payout.legs]) == ("paid", ["transfer", "payout", "reversal"])
    assert "paid_twice" not in world.events(payout_id)
    assert CONNECTED not in world.accounts()
    assert (world.accounts()[MANUAL], world.balance().paid_minor) == (-5_000, 5_000)


def test_named_transfer_that_is_found_later_stays(make_world: Make) -> None:
    world, payout_id = transfer_without_an_answer(make_world)
    world.act_on(payout_id, "resolve", reference="tr_1")
    world.settle(DAY, step=600)
    payout = world.payout(payout_id)
    assert (payout.status, [leg.object_id for leg in payout.legs]) == ("paid", ["tr_1", "tr_1"])
    assert not {CONNECTED, MANUAL} & world.accounts().keys()
    assert world.accounts()["processor:stripe"] == -5_000


def test_object_that_failed_is_no_payment(make_world: Make) -> None:
    world, payout_id = transferred(make_world)
    with pytest.raises(ActionNotAllowed, match="tr_3 has paid nothing"):
        world.act_on(payout_id, "resolve", reference="tr_3")


def unknown(make_world: Make, *, finds: bool, **options: Any) -> tuple[PayoutWorld, str]:
    """Return a world and its payout whose answer was lost, and which a person looks up at the processor."""
    world = make_world(finds=finds, **options)
    world.earn("e1", 5_000)
    world.route.script = ["lost"]
    payout_id = world.ask()
    world.step()
    world.route.down = True
    world.settle(12_000, step=100)
    assert world.payout(payout_id).status == "needs_attention"
    world.route.down = False
    return world, payout_id


def undone(world: PayoutWorld, payout_id: str) -> list[str | None]:
    """Return the transfers that are taken back."""
    return [leg.undoes for leg in world.payout(payout_id).legs if leg.step == "reversal"]


def lost_payout(make_world: Make) -> tuple[PayoutWorld, str]:
    """Return a payout whose transfer paid, and whose second call made tr_2 without an answer; the processor is down."""
    world = make_world(steps=TWO_STEPS)
    world.earn("e1", 5_000)
    world.route.script = ["succeeded", "lost", "succeeded"]
    payout_id = world.ask()
    world.settle(1)
    world.route.down = True
    return world, payout_id


def second_payment(make_world: Make, state: ObjectState | None, **values: Any) -> tuple[PayoutWorld, str]:
    """Return a payout that a person has paid by wire-7, and whose lost second call turns out to have made tr_2."""
    world, payout_id = lost_payout(make_world)
    world.settle(12_000, step=100)
    world.act_on(payout_id, "resolve", reference="wire-7")
    world.route.down = False
    world.route.set(f"{payout_id}-2:1", state, **values)
    return world, payout_id


def decide_all(world: PayoutWorld, payout_id: str, action: str) -> None:
    """Take the action, at most three times, until the payout needs no person a day later."""
    for _ in range(3):
        world.act_on(payout_id, action)
        world.settle(DAY + 3_600, step=3_600)
        if world.payout(payout_id).status != "needs_attention":
            break


@pytest.mark.parametrize("finds", [True, False])
@pytest.mark.parametrize("reference", ["tr_1", "item_1"])
def test_named_object_of_the_processor_is_linked(make_world: Make, finds: bool, reference: str) -> None:
    """It is the one payment, and not a second one. An event can also name it by a further id."""
    world, payout_id = unknown(make_world, finds=finds)
    world.act_on(payout_id, "resolve", reference=reference)
    item = world.route.set(f"{payout_id}-1:1", ObjectState.SUCCEEDED, refs=("item_1",))
    world.report(payout_id, item)
    world.settle(600)
    payout = world.payout(payout_id)
    assert (payout.status, payout.legs[0].object_id) == ("paid", "tr_1")
    assert "manual_payment_linked" in world.events(payout_id)
    assert "paid_twice" not in world.events(payout_id)
    assert world.accounts()["processor:stripe"] == -5_000
    assert world.balance().paid_minor == 5_000


@pytest.mark.parametrize("finds", [True, False])
def test_named_object_is_read_at_once_without_an_event(make_world: Make, finds: bool) -> None:
    world, payout_id = unknown(make_world, finds=finds)
    world.route.set(f"{payout_id}-1:1", ObjectState.REQUIRES_ACTION, act_by=world.now + 30 * DAY)
    world.act_on(payout_id, "resolve", reference="tr_1")
    world.settle(600)
    assert world.payout(payout_id).status == "recipient_action"
    world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, failure_code="RETURNED")
    world.settle(2 * DAY, step=3_600)
    assert world.payout(payout_id).status == "returned"
    assert world.balance().payable_minor == 5_000


def test_manual_reference_of_no_object_is_asked_once(make_world: Make) -> None:
    world, payout_id = unknown(make_world, finds=False)
    world.act_on(payout_id, "resolve", reference="wire-7")
    world.settle(3 * DAY, step=3_600)
    assert world.payout(payout_id).status == "paid"
    assert world.route.calls.count(("fetch", "wire-7")) <= 1


def test_second_payment_besides_a_manual_one_is_still_shown(make_world: Make) -> None:
    world, payout_id = unknown(make_world, finds=False)
    world.act_on(payout_id, "resolve", reference="wire-7")
    world.report(payout_id, world.route.set(f"{payout_id}-1:1", ObjectState.SUCCEEDED))
    assert world.payout(payout_id).failure_code == "paid_twice"


def test_object_of_unknown_status_besides_a_manual_payment_is_shown(make_world: Make) -> None:
    """It may have paid. Once it has failed, the manual payment is the only one."""
    world, payout_id = unknown(make_world, finds=False)
    world.act_on(payout_id, "resolve", reference="wire-7")
    for _ in range(3):
        world.report(payout_id, world.route.set(f"{payout_id}-1:1", None, status="resting"))
        world.now += DAY / 4
    assert world.payout(payout_id).legs[0].attention_code == "paid_twice"
    assert world.events(payout_id).count("paid_twice") == 1
    world.report(payout_id, world.route.set(f"{payout_id}-1:1", ObjectState.FAILED))
    leg = world.payout(payout_id).legs[0]
    assert (leg.status, leg.attention_code, leg.failure_code) == ("succeeded", None, None)


def test_transfer_of_unknown_status_is_no_second_payment(make_world: Make) -> None:
    """Its money is at most at the payee's account with the processor. An alarm names the status."""
    world, payout_id = unknown(make_world, finds=True, steps=TWO_STEPS)
    world.act_on(payout_id, "resolve", reference="wire-7")
    world.report(payout_id, world.route.set(f"{payout_id}-1:1", None, status="resting"))
    assert world.events(payout_id).count("unknown_status") == 1
    assert "paid_twice" not in world.events(payout_id)
    world.settle(DAY)
    world.route.set(f"{payout_id}-1:1", ObjectState.SUCCEEDED)  # and no event is sent
    world.settle(DAY + 3_600, step=3_600)
    assert undone(world, payout_id) == ["tr_1"]


@pytest.mark.parametrize("state", [ObjectState.PENDING, ObjectState.REQUIRES_ACTION])
def test_second_payment_on_its_way_is_read_until_it_ends(make_world: Make, state: ObjectState) -> None:
    """A person decides about two payments after the window. One fails later, and no event tells it."""
    world, payout_id = second_payment(make_world, state)
    world.settle(9 * DAY, step=3_600)
    assert world.payout(payout_id).failure_code == "paid_twice"
    world.act_on(payout_id, "retry")
    world.settle(600)
    assert world.payout(payout_id).status == "paid"
    world.route.set(f"{payout_id}-2:1", ObjectState.FAILED)
    world.settle(DAY, step=3_600)
    world.settle(1_200)
    payout = world.payout(payout_id)
    assert (payout.status, payout.times_paid) == ("settled", 1)
    assert [leg.step for leg in payout.legs] == ["transfer", "payout", "reversal"]
    assert payout.legs[2].status == "succeeded"


def test_object_seen_before_the_manual_payment_keeps_the_transfer(make_world: Make) -> None:
    """A person was alerted about its amount, and recorded another payment then."""
    world, payout_id = lost_payout(make_world)
    world.route.down = False
    world.route.set(f"{payout_id}-2:1", ObjectState.PENDING, amount_minor=4_000)
    world.settle(12_000, step=100)
    assert world.payout(payout_id).failure_code == "answer_mismatch"
    world.act_on(payout_id, "resolve", reference="wire-7")
    world.settle(3 * DAY, step=3_600)
    assert undone(world, payout_id) == []
    assert world.events(payout_id).count("answer_mismatch") == 1
    world.route.set(f"{payout_id}-2:1", ObjectState.FAILED, amount_minor=5_000)
    world.settle(DAY + 3_600, step=3_600)
    assert undone(world, payout_id) == ["tr_1"]


def test_unknown_object_beside_a_live_one_is_read_and_shown_once(make_world: Make) -> None:
    world, payout_id = second_payment(make_world, ObjectState.PENDING)
    world.settle(3_600, step=600)
    live = world.route.book[f"{payout_id}-2:1"]
    world.route.book["another"] = replace(live, object_id="tr_9", state=None, status="resting")
    world.report(payout_id, world.route.book["another"])
    decide_all(world, payout_id, "retry")
    assert {("fetch", "tr_2"), ("fetch", "tr_9")} <= set(world.route.calls)
    assert world.events(payout_id).count("paid_twice") <= 2, "once for each object"
    assert world.payout(payout_id).status == "paid"


def test_rejected_object_that_has_failed_does_not_keep_the_transfer(make_world: Make) -> None:
    world, payout_id = second_payment(make_world, ObjectState.FAILED, amount_minor=4_000)
    world.settle(3_600, step=600)
    world.act_on(payout_id, "resolve")
    world.settle(DAY, step=3_600)
    assert undone(world, payout_id) == ["tr_1"]


def test_each_object_of_unknown_status_keeps_the_transfer(make_world: Make) -> None:
    world, payout_id = second_payment(make_world, None, status="resting")
    first = world.route.book[f"{payout_id}-2:1"]
    world.settle(3_600, step=600)
    world.route.book["another"] = replace(first, object_id="tr_9", status="musing")
    world.report(payout_id, world.route.book["another"])
    decide_all(world, payout_id, "resolve")
    assert world.events(payout_id).count("paid_twice") <= 2, "once for each object"
    world.report(payout_id, world.route.set(f"{payout_id}-2:1", ObjectState.FAILED))
    assert undone(world, payout_id) == []
    world.settle(DAY + 3_600, step=3_600)
    assert undone(world, payout_id) == []
    assert world.payout(payout_id).legs[1].unknown_objects == ("tr_9",)
    world.route.set("another", ObjectState.FAILED)
    world.settle(DAY + 3_600, step=3_600)
    assert undone(world, payout_id) == ["tr_1"]


def test_object_never_understood_is_shown_at_the_end(make_world: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A person has seen it, and nothing more is asked from then on: the transfer stays with the payee."""
    world, payout_id = second_payment(make_world, None, status="resting")
    world.settle(3_600, step=600)
    world.act_on(payout_id, "resolve")
    world.settle(WINDOW - DAY, step=3_600)
    assert world.payout(payout_id).status == "paid"
    caplog.clear()
    world.settle(3 * WINDOW, step=3_600)
    assert (world.payout(payout_id).status, undone(world, payout_id)) == ("settled", [])
    assert world.events(payout_id).count("object_never_understood") == 1
    assert [line.alarm for line in caplog.records if hasattr(line, "alarm")] == ["unknown_status"]


@pytest.mark.parametrize("values", [{"status": "resting"}, {"state": ObjectState.PENDING, "amount_minor": 4_000}])
def test_transfer_stays_if_the_person_names_the_payout_as_payment(make_world: Make, values: dict[str, Any]) -> None:
    world, payout_id = lost_payout(make_world)
    world.settle(12_000, step=100)
    world.act_on(payout_id, "resolve", reference="tr_2")
    world.route.down = False
    world.route.set(f"{payout_id}-2:1", **({"state": None} | values))
    world.settle(DAY, step=3_600)
    assert undone(world, payout_id) == []
    world.route.set(f"{payout_id}-2:1", ObjectState.SUCCEEDED, amount_minor=5_000)
    world.settle(DAY + 3_600, step=3_600)
    payout = world.payout(payout_id)
    assert (payout.status, payout.legs[1].object_id, undone(world, payout_id)) == ("paid", "tr_2", [])


def test_object_of_unknown_status_without_our_mark_is_recorded(make_world: Make) -> None:
    """An event about it names no payout of ours: only this record leads to one."""
    world = make_world(finds=False)
    world.earn("e1", 5_000)
    world.route.script = ["lost"]  # its repeat under the same key is answered
    payout_id = world.ask()
    world.step()
    world.route.set(f"{payout_id}-1:1", None, status="resting", leg_id=None)
    world.settle(600)
    (leg,) = world.payout(payout_id).legs
    assert (leg.status, leg.unknown_objects) == ("pending", ("tr_1",))
    with world.database.read() as connection:
        assert owners_of(connection, [("stripe", "tr_1")]) == {("stripe", "tr_1"): (payout_id, leg.leg_id)}


def test_object_that_names_another_payout_is_not_recorded(make_world: Make) -> None:
    world, payout_id = lost_payout(make_world)
    world.settle(12_000, step=100)
    world.act_on(payout_id, "resolve", reference="wire-7")
    world.route.down = False
    own = world.route.book.pop(f"{payout_id}-2:1")
    world.route.book["another"] = replace(own, object_id="tr_9", leg_id="po_other-2")
    world.settle(3_600, step=600)
    assert ("find", f"{payout_id}-2:1") in world.route.calls
    assert world.payout(payout_id).legs[1].unknown_objects == ()


ANSWERS = [
    (None, {"status": "resting"}, "paid_twice"),
    (ObjectState.PENDING, {"amount_minor": 4_000}, "answer_mismatch"),
]


@pytest.mark.parametrize(("state", "values", "code"), ANSWERS)
@pytest.mark.parametrize("reference", [None, "wire-8"])
def test_transfer_stays_while_an_object_not_understood_may_use_it(
    make_world: Make, reference: str | None, state: ObjectState | None, values: dict[str, Any], code: str
) -> None:
    """Seed 1502562: a person took the second payment as seen, and the transfer was undone below it."""
    world, payout_id = second_payment(make_world, state, **values)
    world.settle(3_600, step=600)
    assert world.payout(payout_id).failure_code == code
    world.act_on(payout_id, "resolve", reference=reference)
    world.settle(3 * DAY, step=3_600)
    assert (world.payout(payout_id).status, len(world.payout(payout_id).legs)) == ("paid", 2)
    assert world.events(payout_id).count(code) == 1
    world.route.set(f"{payout_id}-2:1", ObjectState.FAILED, amount_minor=5_000)  # and no event is sent
    world.settle(DAY + 3_600, step=3_600)
    assert undone(world, payout_id) == ["tr_1"]


def test_report_of_an_unknown_status_takes_no_known_state_away(make_world: Make) -> None:
    world = make_world()
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle()
    world.report(payout_id, world.route.set(f"{payout_id}-1:1", None, status="resting"))
    (leg,) = world.payout(payout_id).legs
    assert [known.state for known in leg.objects] == [ObjectState.PENDING]
    assert leg.unknown_objects == ()


def test_named_object_of_unknown_status_is_no_second_payment(make_world: Make) -> None:
    world, payout_id = unknown(make_world, finds=False)
    world.act_on(payout_id, "resolve", reference="tr_1")
    world.report(payout_id, world.route.set(f"{payout_id}-1:1", None, status="resting"))
    assert "paid_twice" not in world.events(payout_id)


def test_paid_transfer_of_an_unknown_status_is_shown_once(make_world: Make) -> None:
    """Others reversed a part of it: that has no state that we know."""
    world = make_world(steps=TWO_STEPS)
    world.earn("e1", 5_000)
    world.route.script = ["succeeded", "succeeded"]
    payout_id = world.ask()
    world.settle(60)
    world.route.set(f"{payout_id}-1:1", None, status="partly_reversed")
    world.settle(DAY + 3_600, step=3_600)
    assert (world.payout(payout_id).status, world.payout(payout_id).failure_code) == (
        "needs_attention",
        "unknown_status",
    )
    world.act_on(payout_id, "retry")
    world.settle(9 * DAY, step=3_600)
    assert world.payout(payout_id).status == "settled"
    assert world.events(payout_id).count("unknown_status") == 1
    assert world.route.calls.count(("fetch", "tr_1")) < 15


def test_id_that_a_later_report_brings_links_the_payment(make_world: Make) -> None:
    """PayPal tells the item of a batch only some time after the batch."""
    world, payout_id = unknown(make_world, finds=False)
    world.act_on(payout_id, "resolve", reference="item_1")
    world.report(payout_id, world.route.set(f"{payout_id}-1:1", ObjectState.PENDING))
    assert world.payout(payout_id).failure_code == "paid_twice"
    world.report(payout_id, world.route.set(f"{payout_id}-1:1", ObjectState.PENDING, refs=("item_1",)))
    (leg,) = world.payout(payout_id).legs
    assert (world.payout(payout_id).status, leg.attention_code, leg.object_id) == ("pending", None, "tr_1")


def test_second_payment_that_comes_back_leaves_no_transfer(make_world: Make) -> None:
    """Its event is lost: it is read again once a day beside the manual payment too."""
    world = make_world(steps=TWO_STEPS)
    world.earn("e1", 5_000)
    world.route.script = ["succeeded", "late", *["nothing"] * 500]
    payout_id = world.ask()
    world.settle(5_000, step=30)
    world.act_on(payout_id, "resolve", reference="wire-7")
    world.route.land()
    world.settle(3_600, step=600)
    assert world.payout(payout_id).failure_code == "paid_twice"
    world.act_on(payout_id, "resolve")
    world.settle(600)
    world.route.set(f"{payout_id}-2:1", ObjectState.FAILED, failure_code="could_not_process")
    world.route.script = ["succeeded"]
    world.settle(2 * DAY, step=3_600)
    payout = world.payout(payout_id)
    assert (payout.status, [leg.step for leg in payout.legs]) == ("paid", ["transfer", "payout", "reversal"])
    assert CONNECTED not in world.accounts()


def test_return_of_a_manual_payment_is_recorded_once(make_world: Make) -> None:
    """No processor tells it: the person who paid sees it on the bank's statement."""
    world, payout_id = transferred(make_world, "succeeded")
    world.act_on(payout_id, "resolve", reference="wire-7")
    world.settle(600)
    assert world.payout(payout_id).status == "paid"
    with pytest.raises(ActionNotAllowed, match="paid already"):
        world.act_on(payout_id, "resolve", reference="wire-8")
    world.act_on(payout_id, "resolve")
    payout = world.payout(payout_id)
    assert (payout.status, payout.failure_code, payout.return_count) == ("returned", "manual_payment_returned", 1)
    assert payout.failure_message is None  # the timeline has the person's reason
    assert (world.balance().payable_minor, world.balance().paid_minor) == (5_000, 0)
    assert not {MANUAL, CONNECTED} & world.accounts().keys()
    with pytest.raises(ActionNotAllowed):
        world.act_on(payout_id, "resolve")
    world.settle(4 * DAY, step=3_600)
    assert world.payout(payout_id).status == "returned"


def test_return_of_a_manual_payment_is_recorded_after_its_window(make_world: Make) -> None:
    world, payout_id = transferred(make_world, "succeeded")
    world.act_on(payout_id, "resolve", reference="wire-7")
    world.settle(WINDOW + 2 * DAY, step=6 * 3_600)
    assert world.payout(payout_id).status == "settled"
    world.act_on(payout_id, "resolve")
    assert (world.payout(payout_id).status, world.balance().payable_minor) == ("returned", 5_000)


def test_return_of_a_processors_payment_is_not_a_persons_to_say(make_world: Make) -> None:
    world = make_world()
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle(60)
    world.report(payout_id, world.route.set(f"{payout_id}-1:1", ObjectState.SUCCEEDED))
    assert world.payout(payout_id).status == "paid"
    with pytest.raises(ActionNotAllowed):
        world.act_on(payout_id, "resolve")
