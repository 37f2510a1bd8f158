"""The payment check when the processor's record cannot be read, or not yet."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.engine_world import World
from tests.support.payment_check import HOUR, TO_BE_DECIDED, paid_in, says, shown

from refund_worker.domain.decision import PAUSE_SECONDS
from refund_worker.domain.processor_replies import Busy, Denied, Misconfigured, NotSent, PaymentUnreadable, Unanswered
from refund_worker.domain.refund import RefundStatus
from refund_worker.domain.state_machine import Action, available_actions
from refund_worker.engine.processor_sync.pause import pause_processor, resume_processor
from refund_worker.engine.refunds.process import process_due


@pytest.mark.parametrize(
    "answer",
    [Unanswered("timeout"), NotSent("refused"), Busy("rate_limit", 30.0), Unanswered("HTTP 500", server_error=True)],
    ids=str,
)
def test_unanswered_reading_sends_nothing_and_is_asked_again(asked: World, answer: Unanswered | NotSent | Busy) -> None:
    paid_in(asked)
    asked.processor.readings.extend([answer] * 3)
    refund_id = asked.withdraw(100)
    asked.work()
    assert asked.processor.read == ["ch_1"]
    assert asked.processor.sends == []
    assert asked.refund(refund_id).status is RefundStatus.SENDING
    asked.work_for(HOUR)
    assert len(asked.processor.read) == 4
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_reading_never_answered_needs_a_person_and_slows_down(asked: World) -> None:
    paid_in(asked)
    asked.processor.readings.extend([Unanswered("timeout")] * 200)
    refund_id = asked.withdraw(100)
    asked.work_for(24 * HOUR)
    assert asked.refund(refund_id).failure_code == "processor_unreachable"
    assert len(asked.processor.read) <= 24 * HOUR / asked.context.policy.retry_max_seconds * 1.4 + 12
    assert asked.processor.sends == []
    asked.processor.readings.clear()
    asked.work_for(HOUR)
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_refused_credentials_pause_the_processor_as_ever(asked: World) -> None:
    paid_in(asked)
    asked.processor.readings.append(Denied("api_key_expired", "no"))
    refund_id = asked.withdraw(100)
    asked.work()
    assert asked.processor.sends == []
    with asked.database.read() as connection:
        from refund_worker.store.processors import paused_processors

        assert "stripe" in paused_processors(connection, asked.now)
    asked.work_for(2 * PAUSE_SECONDS + asked.context.policy.retry_max_seconds)
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_while_a_processor_is_paused_no_payment_is_read_there(asked: World) -> None:
    paid_in(asked)
    pause_processor(asked.context, "stripe", actor="op", reason="fire")
    refund_id = asked.withdraw(100)
    asked.work_for(HOUR)
    assert asked.processor.read == []
    resume_processor(asked.context, "stripe", actor="op", reason="out")
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_unreadable_payment_is_refunded_and_shown_as_unverified(asked: World) -> None:
    asked.pay()
    asked.processor.readings.append(PaymentUnreadable("HTTP 404"))
    refund_id = asked.withdraw(100)
    assert shown(asked)["verified"] is None
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert (shown(asked)["verified"], shown(asked)["processor_says"]) == (False, None)


def test_several_payments_that_can_not_be_read_are_noted_in_one_go(asked: World) -> None:
    ids = []
    for number in (1, 2, 3):
        asked.pay(number)
        asked.processor.readings.append(PaymentUnreadable("HTTP 404"))
        ids.append(asked.withdraw(100, f"k{number}"))
    assert process_due(asked.context) == 3
    asked.work()
    assert {asked.refund(each).status for each in ids} == {RefundStatus.SUCCEEDED}
    assert [shown(asked, f"pay{number}")["verified"] for number in (1, 2, 3)] == [False] * 3


def test_unknown_refusal_of_reading_is_not_payment_not_found(asked: World) -> None:
    asked.pay()
    asked.processor.readings.append(Misconfigured("unknown_refusal", "odd_code: no"))
    refund_id = asked.withdraw(100)
    asked.work_for(3 * HOUR)
    assert asked.refund(refund_id).status is RefundStatus.NEEDS_ATTENTION
    assert "payment_not_read" in asked.events(refund_id)
    assert "payment_not_found" not in asked.events(refund_id)


def test_missing_payment_needs_a_person_and_retry_reads_it_again(asked: World) -> None:
    asked.pay()
    asked.processor.readings.append(Misconfigured("resource_missing", "No such charge: ch_1"))
    refund_id = asked.withdraw(100)
    asked.work_for(3 * HOUR)
    refund = asked.refund(refund_id)
    assert (refund.failure_code, available_actions(refund)) == ("resource_missing", TO_BE_DECIDED)
    assert (len(asked.processor.read), asked.processor.sends) == (1, [])
    assert "payment_not_found" in asked.events(refund_id)
    says(asked)
    asked.command(refund_id, Action.RETRY)
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_switched_off_nothing_is_read(asked: World) -> None:
    asked.context = replace(asked.context, policy=replace(asked.context.policy, verify_payments=False))
    asked.pay()
    says(asked, captured_minor=1)
    refund_id = asked.withdraw(100)
    asked.work()
    assert (asked.processor.read, asked.refund(refund_id).status) == ([], RefundStatus.SUCCEEDED)
