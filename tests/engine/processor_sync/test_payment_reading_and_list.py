"""The payment reading and the list of its refunds describe the same money, so a person decides about it only once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import update
from tests.support.engine_world import START, WORD, World

from refund_worker.domain.outside_refunds import REFUNDED_ELSEWHERE
from refund_worker.domain.processor_replies import Blocked, Denied, Refused, Unanswered
from refund_worker.domain.refund import LegStatus, RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.claims.listener import record_outside_refunds
from refund_worker.engine.processor_sync.pause import pause_processor, resume_processor
from refund_worker.engine.processor_sync.sync import sync_all, sync_recent
from refund_worker.engine.refunds.bulk_retry import retry_all
from refund_worker.engine.refunds.process import process_due
from refund_worker.store.tables import payments

EMPTY = Blocked("balance_insufficient", "not now")
OURS = Denied("parameter_unknown", "no such parameter", maybe_kept=True)
HOUR = 3_600.0


def refunded_before(world: World, minor: int = 300) -> str:
    """Refund `minor` minor units outside refund-worker and return the object's id.

    The listing has seen the refund, the payment's list shows it, and the payment reading includes it.
    """
    refund_object = world.refund_in_the_dashboard(minor, created_at=datetime.fromtimestamp(START - HOUR, UTC))
    world.processor.payments["ch_1"] = replace(WORD, refunded_minor=minor)
    sync_recent(world.context, "stripe")
    return refund_object.processor_refund_id


def test_one_retry_suffices_if_list_and_reading_show_same_refund(asked: World) -> None:
    asked.pay()
    by_hand = refunded_before(asked)
    refund_id = asked.withdraw(50)
    asked.work_for(HOUR)
    assert asked.refund(refund_id).failure_code == REFUNDED_ELSEWHERE
    assert asked.refund(refund_id).legs[0].blocked_by == (by_hand,)
    sync_recent(asked.context, "stripe")
    asked.command(refund_id, Action.RETRY)
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert asked.events(refund_id).count(REFUNDED_ELSEWHERE) == 0, "the list told it"


@pytest.mark.parametrize("is_seen_by_a_look", [True, False])
def test_outside_refund_accepted_for_one_refund_blocks_next_one(asked: World, is_seen_by_a_look: bool) -> None:
    """Found by the simulation (seed 9047254): the outside refund may have been meant for the second refund."""
    asked.pay()
    by_hand = refunded_before(asked)
    if not is_seen_by_a_look:
        with asked.database.write() as connection:
            connection.execute(update(payments).values(refunded_elsewhere=False))
    first = asked.withdraw(20, "a")
    asked.work()
    asked.command(first, Action.RETRY)
    asked.work()
    assert asked.refund(first).status is RefundStatus.SUCCEEDED
    second = asked.withdraw(30, "b")
    asked.work()
    refund = asked.refund(second)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, REFUNDED_ELSEWHERE)
    assert refund.legs[0].blocked_by == (by_hand,)
    asked.command(second, Action.RETRY)
    asked.work()
    assert asked.refund(second).status is RefundStatus.SUCCEEDED


def test_retry_sends_what_outside_refund_left_rest_needs_person(asked: World) -> None:
    asked.pay()
    refund_id = asked.withdraw(100)
    refunded_before(asked)
    asked.work_for(HOUR)
    sync_recent(asked.context, "stripe")
    asked.command(refund_id, Action.RETRY)
    asked.work()
    refund = asked.refund(refund_id)
    assert [(leg.amount_minor, leg.credits) for leg in refund.legs] == [(700, 70), (300, 30)]
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, REFUNDED_ELSEWHERE)
    assert asked.processor.paid_minor() == 1_000
    assert len(asked.processor.sends) == 1


def test_retry_rereads_payment_and_sends_only_what_list_leaves(asked: World) -> None:
    """The first reading of the payment was made before any outside refund."""
    asked.pay()
    asked.processor.payments["ch_1"] = WORD
    asked.withdraw(10, "first")
    asked.work()
    refunded_before(asked)
    asked.processor.payments["ch_1"] = replace(WORD, refunded_minor=400)
    refund_id = asked.withdraw(90, "second")
    asked.work()
    assert asked.refund(refund_id).failure_code == REFUNDED_ELSEWHERE
    asked.command(refund_id, Action.RETRY)
    asked.processor.script("ch_1", "timeout")
    asked.work()
    assert asked.processor.read == ["ch_1", "ch_1"]
    asked.work_for(60)
    assert len({key for key, _ in asked.processor.sends}) == 2, "the same key again after silence"
    assert [leg.amount_minor for leg in asked.refund(refund_id).legs] == [600, 300]
    assert asked.processor.paid_minor() == 1_000
    assert asked.refund(refund_id).failure_code == REFUNDED_ELSEWHERE, "the rest is with a person"


def test_bulk_retry_accepts_no_refund_seen_only_in_reading(asked: World) -> None:
    asked.pay()
    asked.processor.payments["ch_1"] = replace(WORD, refunded_minor=300)
    refund_id = asked.withdraw(50)
    asked.work()
    for _ in range(2):
        retry_all(asked.context, REFUNDED_ELSEWHERE, expected=1, actor="op", reason="all of them")
        asked.work()
        assert asked.refund(refund_id).failure_code == REFUNDED_ELSEWHERE
        assert asked.processor.sends == []
    asked.processor.payments["ch_1"] = WORD  # the outside refund failed in the end
    retry_all(asked.context, REFUNDED_ELSEWHERE, expected=1, actor="op", reason="all of them")
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_a_list_that_was_read_during_a_pause_allows_nothing(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", OURS)
    refund_id = world.withdraw()
    world.work()
    pause_processor(world.context, "stripe", actor="op", reason="we look into it")
    world.work_for(400)
    assert world.processor.asked, "the list is read during the pause, and shows nothing"
    assert world.refund(refund_id).legs[0].status is LegStatus.WAITING
    world.refund_in_the_dashboard()
    resume_processor(world.context, "stripe", actor="op", reason="mended")
    world.work_for(HOUR)
    assert world.refund(refund_id).failure_code == REFUNDED_ELSEWHERE
    assert world.processor.paid_minor() == 1_000


def test_a_list_that_was_read_before_a_pause_began_allows_nothing(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", EMPTY)
    refund_id = world.withdraw()
    world.work()
    world.command(refund_id, Action.RETRY)
    process_due(world.context)  # the list is read, and the leg may be sent
    pause_processor(world.context, "stripe", actor="op", reason="I pay it by hand")
    world.pass_time(1)
    world.refund_in_the_dashboard()
    resume_processor(world.context, "stripe", actor="op", reason="done")
    world.work_for(HOUR)
    assert world.refund(refund_id).failure_code == REFUNDED_ELSEWHERE
    assert world.processor.paid_minor() == 1_000


@pytest.mark.parametrize(("more_minor", "code"), [(0, None), (1, REFUNDED_ELSEWHERE)])
def test_what_was_recorded_as_returned_before_is_no_news_in_the_list(
    world: World, more_minor: int, code: str | None
) -> None:
    world.pay(refunded_minor=300)
    refunded_before(world, 300 + more_minor)
    refund_id = world.withdraw(30, "first attempt")
    world.work()
    assert world.refund(refund_id).failure_code == code
    world.processor.script("ch_1", EMPTY)
    again = world.withdraw(30, "new attempt")
    world.work_for(HOUR)
    sync_recent(world.context, "stripe")
    world.work()
    assert world.refund(again).failure_code == code


def test_refund_that_came_back_is_news_in_the_list_no_longer(world: World) -> None:
    world.pay(refunded_minor=300)
    made = world.refund_in_the_dashboard(300, status="pending")
    for status in ("pending", "failed"):
        report = replace(made, status=status)
        world.processor.objects[made.processor_refund_id] = report
        record_outside_refunds(world.context, "stripe", [report], since=0.0)
    refunded_before(world, 200)
    refund_id = world.withdraw(30)
    world.processor.script("ch_1", EMPTY)
    world.work_for(HOUR)
    assert world.refund(refund_id).failure_code == REFUNDED_ELSEWHERE


def test_disputed_payment_is_no_hot_loop_once_readings_are_off(asked: World) -> None:
    asked.pay()
    asked.processor.payments["ch_1"] = replace(WORD, disputed=True)
    refund_id = asked.withdraw(50)
    asked.work()
    asked.context = replace(asked.context, policy=replace(asked.context.policy, verify_payments=False))
    asked.work_for(3 * HOUR)
    refund = asked.refund(refund_id)
    assert (refund.failure_code, refund.due_at) == ("charge_disputed", None)
    assert refund.legs[0].retry_count <= 1, "looked at once more, and then left to a person"
    asked.command(refund_id, Action.RETRY)
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_readings_of_both_payments_are_kept_and_dropped_together(asked: World) -> None:
    asked.pay(1)
    asked.pay(2)
    refund_id = asked.withdraw(200)
    asked.work()
    assert asked.processor.read == ["ch_2", "ch_1"]
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED, "neither can be read, and it goes on"
    asked.pay(3)
    asked.pay(4)
    asked.processor.payments |= {"ch_3": replace(WORD, currency="EUR"), "ch_4": replace(WORD, currency="EUR")}
    refund_id = asked.withdraw(200, "both")
    asked.work()
    assert asked.refund(refund_id).failure_code == "payment_mismatch"
    asked.processor.payments |= {"ch_3": WORD, "ch_4": WORD}
    asked.command(refund_id, Action.RETRY)
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_what_was_recorded_as_returned_before_is_not_left_either(asked: World) -> None:
    asked.pay(refunded_minor=200)
    refund_id = asked.withdraw(80)
    asked.processor.payments["ch_1"] = replace(WORD, refunded_minor=200 + 300)
    asked.work()
    assert asked.refund(refund_id).failure_code == REFUNDED_ELSEWHERE
    asked.command(refund_id, Action.RETRY)
    asked.work()
    assert [leg.amount_minor for leg in asked.refund(refund_id).legs] == [500, 300]


def test_ended_dispute_needs_no_person_while_send_is_unanswered(asked: World) -> None:
    asked.pay()
    asked.processor.payments["ch_1"] = replace(WORD, disputed=True)
    refund_id = asked.withdraw(50)
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.NEEDS_ATTENTION
    asked.processor.payments["ch_1"] = WORD
    asked.processor.script("ch_1", Unanswered("HTTP 500", server_error=True))
    asked.work_for(asked.context.policy.retry_max_seconds + 1)
    assert len(asked.processor.sends) == 1
    assert asked.refund(refund_id).status is RefundStatus.SENDING


def test_our_failed_refund_does_not_explain_an_outside_refund(asked: World) -> None:
    """This happens after an upgrade: the first reading of the payment follows a refund of ours that failed."""
    on, off = asked.context, replace(asked.context, policy=replace(asked.context.policy, verify_payments=False))
    asked.context = off
    asked.pay()
    asked.withdraw(30, "fails late")
    asked.work()
    asked.processor.become("re_1", "failed")
    sync_all(asked.context, "stripe")
    asked.work()
    asked.context = on
    asked.processor.payments["ch_1"] = replace(WORD, refunded_minor=300)
    sync_recent(asked.context, "stripe")
    refund_id = asked.withdraw(30, "second")
    asked.work()
    assert asked.refund(refund_id).failure_code == REFUNDED_ELSEWHERE


def test_what_a_person_paid_by_hand_and_nobody_sent_is_in_our_books(asked: World) -> None:
    asked.pay()
    asked.processor.payments["ch_1"] = replace(WORD, captured_minor=1)
    first, second = asked.withdraw(30, "first"), asked.withdraw(20, "second")
    asked.work()
    asked.command(first, Action.RESOLVE, "in the dashboard, by ann")
    asked.processor.payments["ch_1"] = replace(WORD, refunded_minor=300)
    asked.command(second, Action.RETRY)
    asked.work()
    assert asked.refund(second).status is RefundStatus.SUCCEEDED


def test_no_other_payment_stands_in_over_a_word_that_disagrees(asked: World) -> None:
    asked.pay(1)
    asked.pay(2)
    asked.processor.payments |= {"ch_1": replace(WORD, captured_minor=100), "ch_2": WORD}
    asked.processor.script("ch_2", Refused("expired_or_canceled_card", "no"))
    refund_id = asked.withdraw(50)
    asked.work_for(HOUR)
    assert asked.refund(refund_id).failure_code == "payment_mismatch"
    assert len(asked.processor.sends) == 1
