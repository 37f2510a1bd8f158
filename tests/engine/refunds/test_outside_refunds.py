"""A refund made outside refund-worker is never paid again: the list decides before each new attempt."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.engine_world import START, World

from refund_worker.domain.outside_refunds import CLOCK_DIFFERENCE_SECONDS, REFUNDED_ELSEWHERE
from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Blocked,
    Busy,
    Denied,
    Found,
    NotSent,
    RefundObject,
    Refused,
    SearchReply,
    Unanswered,
)
from refund_worker.domain.refund import Leg, LegStatus, RefundStatus
from refund_worker.domain.state_machine import Action, available_actions
from refund_worker.engine.processor_sync.pause import pause_processor, resume_processor
from refund_worker.engine.processor_sync.reconciliation import reconcile
from refund_worker.engine.processor_sync.sync import sync_all, sync_recent
from refund_worker.engine.processor_sync.webhook_inbox import process_inbox
from refund_worker.engine.refunds.bulk_retry import retry_all
from refund_worker.engine.refunds.process import claim_due, process_due
from refund_worker.engine.views import api_objects
from refund_worker.errors import ActionNotAllowed
from refund_worker.store import inbox, processors
from refund_worker.store.processors import ALL

ERROR = Unanswered("HTTP 500", server_error=True)
EMPTY = Blocked("balance_insufficient", "not now")
TOO_MUCH = Refused("amount_exceeds_unrefunded", "more than is left", more_than_left=True)
DAY = 86_400.0


def leg_of(world: World, refund_id: str) -> Leg:
    """Return the first leg of the refund."""
    return world.refund(refund_id).legs[0]


def begin_and_die(world: World, refund_id: str) -> None:
    """Record the send of the refund; the worker dies before its call."""
    world.database.run(lambda connection: claim_due(connection, world.context))
    assert leg_of(world, refund_id).status is LegStatus.SENDING


def assert_stopped(world: World, refund_id: str, *refund_objects: RefundObject) -> None:
    """Check that the refund waits for a person, is not due, and shows exactly these outside refunds in its alarm."""
    refund, leg = world.refund(refund_id), leg_of(world, refund_id)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, REFUNDED_ELSEWHERE)
    assert (leg.status, refund.due_at) == (LegStatus.BLOCKED, None)
    assert leg.blocked_by == tuple(item.processor_refund_id for item in refund_objects)
    assert api_objects.refund_view(refund)["legs"][0]["blocked_by"] == list(leg.blocked_by)
    assert available_actions(refund) == (Action.RETRY, Action.RESOLVE)
    with world.database.read() as connection:
        told = [e for e in api_objects.timeline(connection, refund_id) if e["alarm"]]
    assert told[-1]["detail"] == {"objects": " ".join(leg.blocked_by)}
    assert (told[-1]["why"], told[-1]["to"]) == (REFUNDED_ELSEWHERE, "blocked")
    assert all(item.processor_refund_id in (refund.failure_message or "") for item in refund_objects)


# --- the four ways in which it was once paid twice --------------------------------------------------------------------


def test_after_an_error_that_made_nothing_a_refund_by_hand_is_not_paid_again(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", ERROR)
    refund_id = world.withdraw()
    world.work()
    world.pass_time(30)
    by_hand = world.refund_in_the_dashboard()
    world.work_for(DAY)
    assert_stopped(world, refund_id, by_hand)
    assert world.processor.paid_minor() == 1_000


@pytest.mark.parametrize("paused", ["stripe", ALL])
@pytest.mark.parametrize("first", [None, NotSent("paused while it waited for its turn", begun=False)])
def test_what_was_paid_by_hand_just_before_a_pause_ended_is_not_paid_again(
    world: World, paused: str, first: NotSent | None
) -> None:
    """Listings continue during the pause. The manual refund follows the last of them."""
    world.pay()
    sync_recent(world.context, "stripe")
    if first is not None:
        world.processor.script("ch_1", first)
        refund_id = world.withdraw()
        process_due(world.context)
        pause_processor(world.context, paused, actor="op", reason="by hand today")
    else:
        pause_processor(world.context, paused, actor="op", reason="by hand today")
        refund_id = world.withdraw()
    world.pass_time(30)
    sync_recent(world.context, "stripe")
    by_hand = world.refund_in_the_dashboard()
    world.pass_time(5)
    resume_processor(world.context, paused, actor="op")
    world.work()
    assert world.processor.paid_minor() == 1_000, "nothing is sent before a look"
    sync_recent(world.context, "stripe")
    world.work()
    assert_stopped(world, refund_id, by_hand)
    assert world.processor.paid_minor() == 1_000


@pytest.mark.parametrize(("age", "is_read"), [(9, False), (11, True)])
def test_a_first_send_relies_on_no_look_older_than_poll_seconds_however_short_that_is(
    world: World, age: int, is_read: bool
) -> None:
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


def test_what_was_paid_by_hand_just_before_a_programs_pause_ended_is_not_paid_again(world: World) -> None:
    world.pay()
    sync_recent(world.context, "stripe")
    with world.database.write() as connection:
        processors.pause(connection, "stripe", world.now, by="refund-worker", code="x", reason="", until=world.now + 60)
    refund_id = world.withdraw()
    world.work()
    assert world.refund(refund_id).due_at == world.now + 60, "as soon as the pause ends"
    world.pass_time(50)
    sync_recent(world.context, "stripe")
    by_hand = world.refund_in_the_dashboard()
    world.pass_time(11)
    world.work()
    sync_recent(world.context, "stripe")
    world.work()
    assert_stopped(world, refund_id, by_hand)


def test_a_pause_that_ended_holds_nothing_once_its_refunds_are_listed(world: World) -> None:
    world.pay()
    sync_recent(world.context, "stripe")
    for name in ("stripe", ALL):
        pause_processor(world.context, name, actor="op", reason="fire")
        world.pass_time(5)
        resume_processor(world.context, name, actor="op")
    world.pass_time(1)
    sync_recent(world.context, "stripe")
    refund_id = world.withdraw()
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert not world.processor.asked, "its own list is not read"


def test_a_payment_whose_word_nobody_could_read_is_looked_up_in_its_list_first(world: World) -> None:
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
def test_what_a_dead_worker_had_begun_is_not_paid_beside_a_refund_by_hand(world: World, hours: float) -> None:
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


def test_what_a_dead_worker_had_begun_is_sent_after_one_look_under_its_key(world: World) -> None:
    world.pay()
    refund_id = world.withdraw()
    begin_and_die(world, refund_id)
    world.pass_time(7_200)
    world.work_for(DAY)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert (len(world.processor.asked), leg_of(world, refund_id).attempt) == (1, 1)


@pytest.mark.parametrize("answer", [Busy("rate_limit", 7_200), NotSent("refused")], ids=["busy", "not sent"])
def test_what_waited_long_for_the_processor_is_not_paid_beside_a_refund_by_hand(world: World, answer: Any) -> None:
    world.pay()
    world.processor.script("ch_1", *([answer] * (1 if isinstance(answer, Busy) else 40)))
    refund_id = world.withdraw()
    world.work_for(3_600)
    by_hand = world.refund_in_the_dashboard()
    world.work_for(DAY)
    assert_stopped(world, refund_id, by_hand)


@pytest.mark.parametrize("answer", [Busy("rate_limit", 20), Unanswered("timeout")], ids=["busy", "no answer"])
def test_a_key_is_not_sent_again_even_soon_where_a_look_has_seen_a_refund_by_hand(world: World, answer: Any) -> None:
    world.pay()
    world.processor.script("ch_1", answer)
    refund_id = world.withdraw()
    world.work()
    by_hand = world.refund_in_the_dashboard()
    sync_recent(world.context, "stripe")
    world.work_for(DAY)
    assert_stopped(world, refund_id, by_hand)
    assert len(world.processor.sends) == 1


def test_the_hourly_retry_of_what_an_empty_balance_blocked_looks_first(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", EMPTY)
    refund_id = world.withdraw()
    world.work()
    by_hand = world.refund_in_the_dashboard()
    world.work_for(DAY)
    assert_stopped(world, refund_id, by_hand)
    assert len(world.processor.sends) == 1


def test_without_a_refund_elsewhere_the_hourly_retry_pays_and_asks_the_list_once_each_time(world: World) -> None:
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


def test_another_installations_refund_of_the_payment_stops_it_and_no_other_payment_is_paid(world: World) -> None:
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
def test_where_the_processor_has_nothing_left_even_what_was_seen_stops_it(world: World, answer: Any) -> None:
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


def test_the_first_attempt_over_a_payment_that_others_refunded_looks_first(world: World) -> None:
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


def test_a_payment_that_stands_in_for_another_is_looked_at_in_the_same_way(world: World) -> None:
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


# --- after a pause ----------------------------------------------------------------------------------------------------


def wait_through_a_pause(world: World, answer: Any) -> str:
    """Return a refund whose first send got `answer`, followed by 300 s of pause."""
    world.pay()
    world.processor.script("ch_1", answer)
    refund_id = world.withdraw()
    process_due(world.context)
    pause_processor(world.context, "stripe", actor="op", reason="we look into it")
    world.work_for(300)
    return refund_id


@pytest.mark.parametrize("answer", [Busy("rate_limit"), "timeout"], ids=["not executed", "silence"])
def test_the_same_key_is_sent_again_after_a_pause_only_when_the_list_shows_nothing(world: World, answer: Any) -> None:
    refund_id = wait_through_a_pause(world, answer)
    by_hand = world.refund_in_the_dashboard()
    resume_processor(world.context, "stripe", actor="op", reason="go on")
    world.work_for(DAY)
    assert_stopped(world, refund_id, by_hand)
    assert len(world.processor.sends) == 1


@pytest.mark.parametrize("answer", [Busy("rate_limit"), "timeout"], ids=["not executed", "silence"])
def test_after_a_pause_the_same_key_is_sent_at_once_when_nothing_was_made_meanwhile(world: World, answer: Any) -> None:
    refund_id = wait_through_a_pause(world, answer)
    asked = len(world.processor.asked)
    resume_processor(world.context, "stripe", actor="op", reason="go on")
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert len(world.processor.asked) == asked + 1
    assert len({key for key, _ in world.processor.sends}) == 1


def test_a_leg_that_slept_through_the_whole_pause_looks_first_too(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", Busy("rate_limit", 3_600.0))
    refund_id = world.withdraw()
    world.work()
    pause_processor(world.context, "stripe", actor="op", reason="we look into it")
    world.pass_time(1)
    by_hand = world.refund_in_the_dashboard()
    resume_processor(world.context, "stripe", actor="op", reason="go on")
    world.work()
    assert_stopped(world, refund_id, by_hand)


def test_after_refused_credentials_the_list_is_read_before_the_key_is_sent_again(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", Denied("api_key_expired", "expired"))
    refund_id = world.withdraw()
    world.work()
    by_hand = world.refund_in_the_dashboard()
    world.work_for(DAY)
    assert_stopped(world, refund_id, by_hand)
    assert len(world.processor.sends) == 1


def test_what_waited_for_a_person_is_sent_again_only_after_a_look(world: World) -> None:
    """No call was executed for hours. The person who saw that may have paid manually."""
    world.pay()
    world.processor.script("ch_1", *[NotSent("refused")] * 100)
    refund_id = world.withdraw()
    world.work_for(4 * 3_600)
    assert world.refund(refund_id).failure_code == "processor_unreachable"
    world.processor.rescript("ch_1")
    by_hand = world.refund_in_the_dashboard()
    world.command(refund_id, Action.RETRY)
    world.work_for(DAY)
    assert_stopped(world, refund_id, by_hand)
    assert world.processor.paid_minor() == 1_000


def test_a_replay_after_mere_silence_needs_no_list(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "timeout")
    refund_id = world.withdraw()
    world.work_for(60)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert world.processor.asked == []


def test_a_list_that_is_not_to_be_had_sends_nothing_and_is_asked_ever_less_often(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", EMPTY)
    refund_id = world.withdraw()
    world.work()
    asked = 0

    async def find(processor_payment_id: str, leg_id: str) -> Unanswered:
        nonlocal asked
        asked += 1
        return Unanswered("timeout")

    honest, world.processor.find = world.processor.find, find  # type: ignore[method-assign, assignment]
    world.work_for(DAY)
    assert len(world.processor.sends) == 1
    assert 100 < asked < DAY / world.context.policy.retry_max_seconds * 1.4 + 20
    world.processor.find = honest  # type: ignore[method-assign]
    world.work_for(DAY)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_a_list_that_has_grown_old_is_read_again(world: World) -> None:
    """The worker that read the list died, and the next one came hours later."""
    world.pay()
    world.processor.script("ch_1", EMPTY)
    refund_id = world.withdraw()
    world.work()
    world.command(refund_id, Action.RETRY)
    process_due(world.context)
    assert leg_of(world, refund_id).status is LegStatus.WAITING
    world.pass_time(3_600)
    by_hand = world.refund_in_the_dashboard()
    world.work()
    assert_stopped(world, refund_id, by_hand)


# --- outside refunds that a person has seen ---------------------------------------------------------------------------


@pytest.fixture
def stopped(world: World) -> str:
    """Return a refund of 300 minor units of a payment of 1,000, stopped by 300 refunded in the dashboard."""
    world.pay()
    world.processor.script("ch_1", EMPTY)
    refund_id = world.withdraw(30)
    world.work()
    world.refund_in_the_dashboard(300)
    world.work_for(DAY)
    assert leg_of(world, refund_id).blocked_by == ("re_by_hand_1",)
    return refund_id


def test_a_retry_takes_what_is_named_as_seen_and_sends(world: World, stopped: str) -> None:
    world.command(stopped, Action.RETRY)
    world.work()
    assert world.refund(stopped).status is RefundStatus.SUCCEEDED
    leg = leg_of(world, stopped)
    assert (leg.blocked_by, leg.acknowledged_outside) == ((), ("re_by_hand_1",))
    assert world.processor.paid_minor() == 600


def test_a_retry_of_many_at_once_takes_nothing_as_seen(world: World, stopped: str) -> None:
    (by_hand,) = world.processor.objects.values()
    retry_all(world.context, REFUNDED_ELSEWHERE, expected=1, actor="op", reason="all of them")
    world.work()
    assert_stopped(world, stopped, by_hand)
    world.processor.become(by_hand.processor_refund_id, "failed")
    retry_all(world.context, REFUNDED_ELSEWHERE, expected=1, actor="op", reason="all of them")
    world.work()
    assert world.refund(stopped).status is RefundStatus.SUCCEEDED


def test_only_what_is_newer_stops_it_again(world: World, stopped: str) -> None:
    world.processor.script("ch_1", EMPTY)
    world.command(stopped, Action.RETRY)
    world.work()
    another = world.refund_in_the_dashboard(200)
    world.work_for(DAY)
    assert_stopped(world, stopped, another)
    assert leg_of(world, stopped).acknowledged_outside == ("re_by_hand_1",)


def test_what_failed_there_in_the_end_stops_nothing_any_more(world: World, stopped: str) -> None:
    world.processor.become("re_by_hand_1", "failed")
    world.command(stopped, Action.RETRY)
    world.work()
    assert world.refund(stopped).status is RefundStatus.SUCCEEDED


def test_resolving_says_which_refund_was_the_payment(world: World, stopped: str) -> None:
    world.command(stopped, Action.RESOLVE, "re_by_hand_1")
    assert world.refund(stopped).status is RefundStatus.SUCCEEDED
    # The outside refund is accounted for, so the next refund over this payment proceeds normally.
    world.processor.script("ch_1", EMPTY)
    other = world.withdraw(20, "k2")
    world.work_for(DAY)
    assert world.refund(other).status is RefundStatus.SUCCEEDED


def test_a_payment_by_hand_does_not_account_for_a_larger_refund_that_it_names(world: World) -> None:
    refund_id = blocked_once(world)
    by_hand = world.refund_in_the_dashboard(301)
    world.work_for(DAY)
    world.command(refund_id, Action.RESOLVE, by_hand.processor_refund_id)
    world.pass_time(2 * CLOCK_DIFFERENCE_SECONDS)
    world.processor.script("ch_1", EMPTY)
    other = world.withdraw(20, "k2")
    world.work_for(DAY)
    assert_stopped(world, other, by_hand)


def test_a_payment_by_hand_in_our_books_explains_as_much_made_before_and_no_more(world: World, stopped: str) -> None:
    world.command(stopped, Action.RESOLVE, "in the dashboard, by ann")
    for key, more_minor in (("k2", 0), ("k3", 1)):
        if more_minor:
            world.refund_in_the_dashboard(more_minor)
            world.pass_time(2 * CLOCK_DIFFERENCE_SECONDS)
        world.processor.script("ch_1", EMPTY)
        refund_id = world.withdraw(10, key)
        world.work_for(DAY)
        expected = REFUNDED_ELSEWHERE if more_minor else None
        assert world.refund(refund_id).failure_code == expected


# --- which objects count ----------------------------------------------------------------------------------------------


def blocked_once(world: World) -> str:
    """Return a refund of 30 credits that was blocked at its first send."""
    world.pay()
    world.processor.script("ch_1", EMPTY)
    refund_id = world.withdraw(30)
    world.work()
    return refund_id


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
def test_what_gave_the_customer_nothing_over_this_payment_does_not_count(
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
def test_a_webhook_of_anothers_refund_that_bears_our_leg_pays_no_leg_twice(
    world: World, installation: str | None
) -> None:
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


def test_a_late_failure_of_a_refund_without_its_marks_is_found_and_it_is_no_difference(world: World) -> None:
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


def test_marks_copied_from_one_refund_of_ours_to_another_change_nothing(world: World) -> None:
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


def test_the_marks_of_a_leg_over_another_payment_make_a_foreign_refund_not_ours(world: World) -> None:
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


def test_of_equal_refunds_over_one_payment_none_is_another_ones_foreign_money(world: World) -> None:
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


# --- paid manually while the answer is missing ------------------------------------------------------------------------


@pytest.fixture
def in_doubt(world: World) -> str:
    """Return a refund whose first send ended with HTTP 500, so its outcome is unknown."""
    world.pay()
    world.processor.script("ch_1", ERROR)
    refund_id = world.withdraw()
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SENDING
    return refund_id


def test_what_was_paid_by_hand_while_in_doubt_is_never_sent_again_and_looked_for_to_the_end(
    world: World, in_doubt: str
) -> None:
    assert available_actions(world.refund(in_doubt)) == (Action.RESOLVE,)
    with pytest.raises(ActionNotAllowed, match="cannot be given back yet"):
        world.command(in_doubt, Action.RESOLVE)
    world.refund_in_the_dashboard()
    asked = len(world.processor.asked)
    assert world.command(in_doubt, Action.RESOLVE, "re_by_hand_1").status is RefundStatus.SUCCEEDED
    world.work_for(DAY)
    refund = world.refund(in_doubt)
    assert (refund.status, refund.due_at) == (RefundStatus.SUCCEEDED, None)
    assert (len(world.processor.sends), world.processor.paid_minor()) == (1, 1_000)
    policy = world.context.policy
    looks = len(world.processor.asked) - asked
    assert 5 < looks < 40
    assert not leg_of(world, in_doubt).unanswered, f"nothing lands after {policy.lease_seconds + policy.quiet_seconds}"


@pytest.mark.parametrize("status", ["succeeded", "pending", "in_review"])
def test_a_refund_of_ours_that_lands_after_a_payment_by_hand_is_refunded_twice(
    world: World, in_doubt: str, status: str
) -> None:
    world.command(in_doubt, Action.RESOLVE, "bank-1")
    world.work()
    marks = {"leg_id": f"{in_doubt}-1", "attempt": 1, "installation": world.installation}
    world.refund_in_the_dashboard(1_000, status=status, processor_refund_id="re_late", **marks)
    world.work_for(DAY)
    refund = world.refund(in_doubt)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, "refunded_twice")
    assert refund.due_at is None
    with world.database.read() as connection:
        alarms = [e for e in api_objects.timeline(connection, in_doubt) if e["alarm"]]
    assert [e["detail"]["processor_refund_id"] for e in alarms] == ["re_late"]


def test_a_payment_by_hand_that_names_our_own_refund_is_that_refund(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "pays_silently")
    refund_id = world.withdraw()
    process_due(world.context)
    world.command(refund_id, Action.RESOLVE, "re_1")
    world.work_for(DAY)
    refund = world.refund(refund_id)
    assert (refund.status, refund.failure_code) == (RefundStatus.SUCCEEDED, None)
    assert leg_of(world, refund_id).processor_refund_id == "re_1"


def test_an_object_of_ours_that_fails_after_a_payment_by_hand_leaves_it_as_it_is(world: World, in_doubt: str) -> None:
    world.command(in_doubt, Action.RESOLVE, "bank-1")
    marks = {"leg_id": f"{in_doubt}-1", "attempt": 1, "installation": world.installation}
    world.refund_in_the_dashboard(1_000, status="pending", processor_refund_id="re_late", **marks)
    world.work_for(60)
    assert world.refund(in_doubt).failure_code == "refunded_twice"
    world.processor.become("re_late", "failed")
    sync_all(world.context, "stripe")
    world.work_for(DAY)
    assert (world.refund(in_doubt).status, world.account.balance) == (RefundStatus.SUCCEEDED, 0)
    assert leg_of(world, in_doubt).processor_refund_id == "manual:bank-1"
