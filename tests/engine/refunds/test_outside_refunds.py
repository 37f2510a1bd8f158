"""A refund made outside refund-worker is never paid again: the list decides before each new attempt."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.engine_world import DAY, START, World
from tests.support.outside_refunds import assert_stopped, begin_and_die, leg_of
from tests.support.replies import EMPTY, ERROR, TOO_MUCH

from refund_worker.domain.processor_replies import AlreadyRefunded, Busy, Found, Refused, SearchReply, Unanswered
from refund_worker.domain.refund import RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.processor_sync.sync import sync_recent

# --- each new attempt -------------------------------------------------------------------------------------------------


def test_dashboard_refund_after_a_server_error_is_not_paid_again(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", ERROR)
    refund_id = world.withdraw()
    world.work()
    world.pass_time(30)
    by_hand = world.refund_in_the_dashboard()
    world.work_for(DAY)
    assert_stopped(world, refund_id, by_hand)
    assert world.processor.paid_minor() == 1_000


@pytest.mark.parametrize(("age", "is_read"), [(9, False), (11, True)])
def test_first_send_relies_on_no_listing_older_than_poll_seconds(world: World, age: int, is_read: bool) -> None:
    world.context = replace(world.context, policy=replace(world.context.policy, poll_seconds=10))
    world.pay()
    sync_recent(world.context, "stripe")
    world.pass_time(age)
    if is_read:
        by_hand = world.refund_in_the_dashboard()
    refund_id = world.withdraw()
    world.work()
    assert bool(world.processor.asked) == is_read
    assert world.processor.paid_minor() == 1_000
    if is_read:
        assert_stopped(world, refund_id, by_hand)


def test_list_is_read_before_first_send_over_unreadable_payment(world: World) -> None:
    """The listing of all recent objects skipped those older than the payment's record."""
    listed = world.processor.recent

    async def since(created_gte: datetime) -> SearchReply:
        found = await listed(created_gte)
        assert isinstance(found, Found)
        return Found(tuple(item for item in found.objects if item.created_at >= created_gte))

    world.processor.recent = since  # type: ignore[method-assign]
    world.processor.reads_payments = True  # the reading of this payment fails: the key lacks the permission
    by_hand = world.refund_in_the_dashboard(300)
    sync_recent(world.context, "stripe")
    world.pass_time(3_600)
    sync_recent(world.context, "stripe")
    world.pay()
    world.pass_time(60)
    sync_recent(world.context, "stripe")
    refund_id = world.withdraw(70)
    world.work()
    assert_stopped(world, refund_id, by_hand)
    assert world.processor.paid_minor() == 300


@pytest.mark.parametrize("hours", [0.02, 1, 7, 19])
def test_dashboard_refund_after_worker_death_is_not_paid_again(world: World, hours: float) -> None:
    """The worker recorded the send and died before the call. All workers were down for hours."""
    world.pay()
    refund_id = world.withdraw()
    begin_and_die(world, refund_id)
    world.pass_time(hours * 1_800)
    by_hand = world.refund_in_the_dashboard()
    world.pass_time(hours * 1_800)
    world.work_for(2 * DAY)
    assert_stopped(world, refund_id, by_hand)
    assert world.processor.paid_minor() == 1_000


def test_dead_workers_send_keeps_its_key_after_one_look_up(world: World) -> None:
    world.pay()
    refund_id = world.withdraw()
    begin_and_die(world, refund_id)
    world.pass_time(7_200)
    world.work_for(DAY)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert (len(world.processor.asked), leg_of(world, refund_id).attempt) == (1, 1)


@pytest.mark.parametrize("answer", [Busy("rate_limit", 20), Unanswered("timeout")], ids=["busy", "no answer"])
def test_key_is_not_sent_again_if_listing_shows_dashboard_refund(world: World, answer: Any) -> None:
    world.pay()
    world.processor.script("ch_1", answer)
    refund_id = world.withdraw()
    world.work()
    by_hand = world.refund_in_the_dashboard()
    sync_recent(world.context, "stripe")
    world.work_for(DAY)
    assert_stopped(world, refund_id, by_hand)
    assert len(world.processor.sends) == 1


def test_hourly_retry_after_empty_balance_reads_the_list_first(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", EMPTY)
    refund_id = world.withdraw()
    world.work()
    by_hand = world.refund_in_the_dashboard()
    world.work_for(DAY)
    assert_stopped(world, refund_id, by_hand)
    assert len(world.processor.sends) == 1


def test_hourly_retry_reads_the_list_once_each_time_and_pays(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", EMPTY, EMPTY)
    refund_id = world.withdraw()
    world.work_for(DAY)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert (len(world.processor.sends), len(world.processor.asked)) == (3, 2)
    assert world.processor.paid_minor() == 1_000


def test_a_persons_retry_after_a_refund_by_hand_pays_nothing(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", EMPTY)
    refund_id = world.withdraw()
    world.work()
    by_hand = world.refund_in_the_dashboard()
    world.command(refund_id, Action.RETRY)
    world.work_for(DAY)
    assert_stopped(world, refund_id, by_hand)
    assert world.processor.paid_minor() == 1_000


def test_other_installations_refund_stops_leg_and_replacement(world: World) -> None:
    """Refused as more than is left: the customer has the money, so their other payment must not be refunded instead."""
    world.pay(1, amount_minor=5_000, credits=500)
    world.pay(2, amount_minor=5_000, credits=500)
    marks = {"leg_id": "rf_x-1", "attempt": 1, "installation": "inst_other"}
    theirs = world.refund_in_the_dashboard(3_000, 2, created_at=datetime.fromtimestamp(START - DAY, UTC), **marks)
    world.processor.script("ch_2", TOO_MUCH)
    refund_id = world.withdraw(499)
    world.work_for(DAY)
    assert_stopped(world, refund_id, theirs)
    assert world.processor.paid_minor() == 3_000
    assert world.account.available == 501


@pytest.mark.parametrize("answer", [TOO_MUCH, AlreadyRefunded("nothing left")], ids=["too much", "already refunded"])
def test_seen_outside_refund_stops_retry_if_nothing_is_left(world: World, answer: Any) -> None:
    world.pay()
    world.processor.script("ch_1", EMPTY, answer)
    refund_id = world.withdraw()
    world.work()
    by_hand = world.refund_in_the_dashboard()
    for _ in range(2):
        world.command(refund_id, Action.RETRY)
        world.work()
        assert_stopped(world, refund_id, by_hand)
    assert len(world.processor.sends) == 2, "the second retry was sent, with the object seen, and refused"


# --- the first attempt ------------------------------------------------------------------------------------------------


def test_first_attempt_after_an_outside_refund_reads_list_first(world: World) -> None:
    world.pay()
    by_hand = world.refund_in_the_dashboard(300)
    world.pass_time(3_600)
    sync_recent(world.context, "stripe")
    refund_id = world.withdraw(30)
    world.work_for(DAY)
    assert_stopped(world, refund_id, by_hand)
    assert world.processor.sends == []
    world.command(refund_id, Action.RETRY)
    sync_recent(world.context, "stripe")
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert [key for key, _ in world.processor.sends] == [f"{refund_id}-1:1"]


def test_replacement_payment_with_outside_refund_is_stopped_too(world: World) -> None:
    world.pay(1)
    world.pay(2)
    by_hand = world.refund_in_the_dashboard(300, 1)
    sync_recent(world.context, "stripe")
    world.processor.script("ch_2", Refused("expired_or_canceled_card", "no"))
    refund_id = world.withdraw(30)
    world.work_for(DAY)
    assert world.refund(refund_id).legs[1].blocked_by == (by_hand.processor_refund_id,)
    assert len(world.processor.sends) == 1


@pytest.mark.parametrize("change", [{"status": "failed"}, {"payment_refs": ("ch_9",)}], ids=["failed", "another's"])
def test_other_payments_are_sent_to_without_a_look(world: World, change: dict[str, Any]) -> None:
    world.pay()
    world.refund_in_the_dashboard(300, **change)
    sync_recent(world.context, "stripe")
    refund_id = world.withdraw(30)
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert world.processor.asked == []


def test_a_first_attempt_whose_list_is_not_to_be_had_waits(world: World) -> None:
    world.pay()
    world.refund_in_the_dashboard(300)
    sync_recent(world.context, "stripe")

    async def find(processor_payment_id: str, leg_id: str) -> Unanswered:
        return Unanswered("timeout")

    world.processor.find = find  # type: ignore[method-assign]
    refund_id = world.withdraw(30)
    for _ in range(60):
        sync_recent(world.context, "stripe")
        world.work_for(90)
    assert world.processor.sends == []
    assert world.refund(refund_id).failure_code == "processor_unreachable"
