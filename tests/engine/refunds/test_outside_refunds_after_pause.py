"""After a pause or a long wait, the list decides before a key is sent again."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.engine_world import DAY, World
from tests.support.outside_refunds import assert_stopped, leg_of
from tests.support.replies import EMPTY

from refund_worker.domain.processor_replies import Busy, Denied, NotSent, Unanswered
from refund_worker.domain.refund import LegStatus, RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.processor_sync.pause import pause_processor, resume_processor
from refund_worker.engine.processor_sync.sync import sync_recent
from refund_worker.engine.refunds.process import process_due
from refund_worker.store import processors
from refund_worker.store.processors import ALL


@pytest.mark.parametrize("paused", ["stripe", ALL])
@pytest.mark.parametrize("first", [None, NotSent("paused while it waited for its turn", attempted=False)])
def test_dashboard_refund_before_a_pause_ends_is_not_paid_again(
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


def test_dashboard_refund_in_automatic_pause_is_not_paid_again(world: World) -> None:
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


@pytest.mark.parametrize("answer", [Busy("rate_limit", 7_200), NotSent("refused")], ids=["busy", "not sent"])
def test_dashboard_refund_during_a_long_wait_is_not_paid_again(world: World, answer: Any) -> None:
    world.pay()
    world.processor.script("ch_1", *([answer] * (1 if isinstance(answer, Busy) else 40)))
    refund_id = world.withdraw()
    world.work_for(3_600)
    by_hand = world.refund_in_the_dashboard()
    world.work_for(DAY)
    assert_stopped(world, refund_id, by_hand)


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
def test_key_is_not_sent_again_after_pause_if_list_shows_refund(world: World, answer: Any) -> None:
    refund_id = wait_through_a_pause(world, answer)
    by_hand = world.refund_in_the_dashboard()
    resume_processor(world.context, "stripe", actor="op", reason="go on")
    world.work_for(DAY)
    assert_stopped(world, refund_id, by_hand)
    assert len(world.processor.sends) == 1


@pytest.mark.parametrize("answer", [Busy("rate_limit"), "timeout"], ids=["not executed", "silence"])
def test_key_is_sent_again_after_a_pause_if_list_shows_nothing(world: World, answer: Any) -> None:
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


def test_list_is_read_before_sending_after_refused_credentials(world: World) -> None:
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


def test_unavailable_list_sends_nothing_and_is_asked_less_often(world: World) -> None:
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
