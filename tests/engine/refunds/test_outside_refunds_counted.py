"""The refund objects that count as outside refunds, with any marks on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.engine_world import DAY, START, World
from tests.support.outside_refunds import assert_stopped, blocked_once, leg_of
from tests.support.replies import EMPTY

from refund_worker.domain.outside_refunds import CLOCK_DIFFERENCE_SECONDS
from refund_worker.domain.processor_replies import Busy, RefundObject
from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.processor_sync.reconciliation import reconcile
from refund_worker.engine.processor_sync.sync import sync_all, sync_recent
from refund_worker.engine.processor_sync.webhook_inbox import process_inbox
from refund_worker.store import inbox

# --- which objects count ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-DAY, -CLOCK_DIFFERENCE_SECONDS, 0.0, 60.0], ids=str)
@pytest.mark.parametrize("status", ["succeeded", "pending", "requires_action", "in_review", None], ids=str)
def test_all_that_stands_counts_whenever_it_was_made(world: World, seconds: float, status: str | None) -> None:
    refund_id = blocked_once(world)
    made = datetime.fromtimestamp(START, UTC) + timedelta(seconds=seconds)
    by_hand = world.refund_in_the_dashboard(10, created_at=made, status=status)
    world.work_for(DAY)
    assert_stopped(world, refund_id, by_hand)


@pytest.mark.parametrize(
    "change",
    [
        lambda o: replace(o, status="failed"),
        lambda o: replace(o, status="canceled"),
        lambda o: replace(o, payment_refs=("ch_2", "pi_2")),
    ],
    ids=["failed", "canceled", "another payment's"],
)
def test_failed_canceled_or_other_payments_refund_does_not_count(
    world: World, change: Callable[[RefundObject], RefundObject]
) -> None:
    refund_id = blocked_once(world)
    refund_object = change(world.refund_in_the_dashboard(300))
    world.processor.objects[refund_object.processor_refund_id] = refund_object

    async def unfiltered(processor_payment_id: str, leg_id: str) -> Any:
        return await world.processor.recent(datetime.fromtimestamp(0, UTC))

    world.processor.find = unfiltered  # type: ignore[method-assign]
    world.work_for(DAY)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_a_listed_refund_that_names_no_payment_counts(world: World) -> None:
    refund_id = blocked_once(world)
    by_hand = world.refund_in_the_dashboard(300, payment_refs=())

    async def filtered_there(processor_payment_id: str, leg_id: str) -> Any:
        return await world.processor.recent(datetime.fromtimestamp(0, UTC))

    world.processor.find = filtered_there  # type: ignore[method-assign]
    world.work_for(DAY)
    assert_stopped(world, refund_id, by_hand)


def test_refunds_of_our_own_over_the_same_payment_do_not_count(world: World) -> None:
    world.pay()
    first = world.withdraw(30, "k1")
    world.work()
    world.processor.script("ch_1", EMPTY)
    second = world.withdraw(30, "k2")
    world.work_for(DAY)
    assert [world.refund(r).status for r in (first, second)] == [RefundStatus.SUCCEEDED] * 2


# --- marks ------------------------------------------------------------------------------------------------------------


UNMARKED = {"leg_id": None, "attempt": None, "installation": None}


def test_marks_that_were_edited_away_make_no_refund_of_ours_foreign(world: World) -> None:
    world.pay()
    first = world.withdraw(30, "k1")
    world.work()
    (made,) = world.processor.objects
    world.processor.objects[made] = replace(world.processor.objects[made], **UNMARKED)
    world.processor.script("ch_1", EMPTY)
    second = world.withdraw(30, "k2")
    world.work_for(DAY)
    assert [world.refund(r).status for r in (first, second)] == [RefundStatus.SUCCEEDED] * 2


@pytest.mark.parametrize("installation", ["inst_other", None])
def test_webhook_of_foreign_refund_with_our_leg_changes_nothing(world: World, installation: str | None) -> None:
    world.pay()
    refund_id = world.withdraw(30)
    world.work()
    marks = {"leg_id": f"{refund_id}-1", "attempt": 1, "installation": installation}
    theirs = world.refund_in_the_dashboard(300, **marks)
    refund_object = {
        "object": "refund",
        "id": theirs.processor_refund_id,
        "metadata": {"refund_worker_leg": theirs.leg_id},
    }
    body = json.dumps({"data": {"object": refund_object}})
    world.database.run(lambda c: inbox.insert_event(c, "stripe", "evt_1", "refund.created", body, world.now))
    assert process_inbox(world.context) == 1
    refund = world.refund(refund_id)
    assert (refund.status, refund.failure_code) == (RefundStatus.SUCCEEDED, None)
    assert refund.legs[0].processor_refund_id == "re_1"


def test_refund_without_marks_is_ours_and_its_failure_is_found(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(30)
    world.work()
    world.processor.objects["re_1"] = replace(world.processor.objects["re_1"], **UNMARKED)
    report = reconcile(world.context, "stripe")
    assert report.agrees, report.differences
    assert (report.foreign, report.processor_minor) == (0, 300)
    world.processor.become("re_1", "failed")
    sync_all(world.context, "stripe")
    world.work()
    assert (world.refund(refund_id).status, world.account.balance) == (RefundStatus.FAILED, 100)


def test_marks_copied_between_our_own_refunds_change_nothing(world: World) -> None:
    world.pay()
    both = [world.withdraw(30, "k1"), world.withdraw(40, "k2")]
    world.work()
    first, second = world.processor.objects.values()
    marks = {"leg_id": first.leg_id, "attempt": first.attempt}
    world.processor.objects[second.processor_refund_id] = replace(second, **marks)
    sync_all(world.context, "stripe")
    report = reconcile(world.context, "stripe")
    assert report.agrees, report.differences
    assert [world.refund(r).failure_code for r in both] == [None, None]
    world.processor.become(second.processor_refund_id, "failed")
    sync_all(world.context, "stripe")
    world.work()
    assert sorted(world.refund(r).status for r in both) == ["failed", "succeeded"]


@pytest.mark.parametrize(
    "marks",
    [
        {"leg_id": "rf_x-1", "installation": "inst_other"},
        {"installation": "inst_other"},
        {"installation": None},
        {"leg_id": "rf_forgotten-1"},
        {"amount_minor": 299},
    ],
    ids=["another's leg", "our leg, another's id", "our leg, no id", "a leg nobody knows", "copied, another amount"],
)
def test_no_mark_makes_a_foreign_refund_ours(world: World, marks: dict[str, Any]) -> None:
    """Another object copies the marks of our refund. It counts as an outside refund and settles no leg of ours."""
    world.pay()
    first = world.withdraw(30, "k1")
    world.work()
    copied = {"amount_minor": 300, "leg_id": f"{first}-1", "attempt": 1, "installation": world.installation}
    theirs = world.refund_in_the_dashboard(**copied | marks)
    world.processor.script("ch_1", EMPTY)
    second = world.withdraw(30, "k2")
    world.work_for(DAY)
    assert_stopped(world, second, theirs)
    sync_all(world.context, "stripe")
    assert leg_of(world, first).processor_refund_id == "re_1"
    assert world.refund(first).status is RefundStatus.SUCCEEDED


def test_marks_of_leg_over_another_payment_leave_refund_foreign(world: World) -> None:
    """This holds also for the same amount: the leg's money never came from this payment."""
    world.pay(1, amount_minor=5_000, credits=500)
    world.pay(2)
    first = world.withdraw(100, "k1")
    world.work()
    assert leg_of(world, first).processor_payment_id == "ch_2"
    world.processor.script("ch_1", EMPTY)
    second = world.withdraw(100, "k2")
    world.work()
    marks = {"leg_id": f"{first}-1", "attempt": 1, "installation": world.installation}
    theirs = world.refund_in_the_dashboard(1_000, 1, **marks)
    world.work_for(DAY)
    assert_stopped(world, second, theirs)


@pytest.mark.parametrize("first", ["pays", Busy("rate_limit", 20)], ids=["never sent", "waiting"])
def test_a_look_makes_suspect_what_bears_copied_marks(world: World, first: Any) -> None:
    """No list is read before a first send, nor soon after it. Only the listing can show that money was refunded."""
    world.pay(1)
    world.pay(2)
    paid = world.withdraw(100, "k1")
    world.work()
    world.processor.script("ch_1", first)
    waiting = world.withdraw(100, "k2") if first != "pays" else None
    world.work()
    marks = {"leg_id": f"{paid}-1", "attempt": 1, "installation": world.installation}
    theirs = world.refund_in_the_dashboard(1_000, 1, **marks)
    sync_recent(world.context, "stripe")
    refund_id = waiting or world.withdraw(100, "k2")
    world.work_for(DAY)
    assert_stopped(world, refund_id, theirs)
    assert world.processor.paid_minor() == 2_000


def test_our_refund_naming_no_payment_does_not_stop_an_equal_one(world: World) -> None:
    """The object names no payment, and it is ours anyway."""
    world.pay()
    paid = world.withdraw(30, "k1")
    world.work()
    (refund_object,) = world.processor.objects.values()
    world.processor.objects[refund_object.processor_refund_id] = replace(refund_object, payment_refs=())
    world.processor.script("ch_1", Busy("rate_limit", 70))
    second = world.withdraw(30, "k2")
    world.work_for(DAY)
    assert [world.refund(r).status for r in (paid, second)] == [RefundStatus.SUCCEEDED] * 2
