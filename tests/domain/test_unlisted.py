"""A processor that cannot be asked: no list, no state of a refund, outcomes by signed events alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.domain.builders import (
    FIVE_HUNDRED,
    NO_ANSWER,
    POLICY,
    START,
    a_refund,
    an_object,
    apply_reply,
    due,
    send_of,
    sent_again,
    status_of,
    the_call,
)

from refund_worker.domain.decision import Policy, ProcessorRules, SendBlock
from refund_worker.domain.handle_reply import apply_replies
from refund_worker.domain.next_step import REPORT_OVERDUE, next_step
from refund_worker.domain.operator_action import Action, apply_action
from refund_worker.domain.processor_calls import LookUp, RecordedReply, Send
from refund_worker.domain.processor_replies import Answer, Answered, Refused
from refund_worker.domain.refund import LegStatus, Refund, RefundStatus

DAY = 86_400.0
SILENT: Policy = replace(
    POLICY,
    processors={
        "stripe": ProcessorRules(
            key_seconds=7 * DAY,
            key_use_seconds=6 * DAY,
            finds_refunds=False,
            reads_refunds=False,
            list_proves_absence=False,
            report_seconds=5 * DAY,
        )
    },
)
KEY_IS_OLD = START + 6 * DAY + 1


def answered(reply: Answer, *, policy: Policy = SILENT) -> Refund:
    """Return a refund whose first send got this reply."""
    sent = next_step(a_refund(), START, policy).after
    call = send_of(sent)
    return apply_reply(sent, call.leg_id, call, reply, START + 1, policy, asked_at=START).after


def reported(refund: Refund, status: str, at: float, **changes: object) -> Refund:
    """Return the refund after a signed event that gives its object this status."""
    event = RecordedReply("r", "r-1", None, Answered(an_object(status, **changes)))
    return apply_replies(refund, [event], at, SILENT).after


def test_lost_answer_is_repeated_while_the_key_lives() -> None:
    refund = answered(NO_ANSWER)
    for at in (START + 10, START + DAY, START + 6 * DAY - SILENT.quiet_seconds - SILENT.lease_seconds):
        decision = sent_again(due(refund, at), at, SILENT)
        call = the_call(decision)
        assert isinstance(call, Send)
        assert (call.attempt, call.key) == (1, "r-1:1")
        refund = apply_reply(decision.after, "r-1", call, NO_ANSWER, at + 1, SILENT, asked_at=at).after


def test_unknown_outcome_after_the_keys_life_goes_to_a_person() -> None:
    decision = next_step(due(answered(NO_ANSWER), KEY_IS_OLD), KEY_IS_OLD, SILENT)
    assert decision.calls == ()
    after = decision.after
    assert (after.status, after.failure_code) == (RefundStatus.NEEDS_ATTENTION, "outcome_unknown")
    assert "cannot be asked" in (after.failure_message or "")
    assert after.legs[0].status is LegStatus.BLOCKED
    assert after.legs[0].reversed_credits == 0


@pytest.mark.parametrize("reply", [FIVE_HUNDRED, NO_ANSWER])
def test_no_list_is_ever_asked_for(reply: Answer) -> None:
    refund = answered(reply)
    for at in (START + 2, START + 500, START + 3_000, START + 5 * DAY, KEY_IS_OLD):
        decision = next_step(due(refund, at), at, SILENT)
        assert not any(isinstance(call, LookUp) for call in decision.calls)


def test_stored_server_error_waits_for_an_event_then_a_person() -> None:
    """The key would repeat the error for ever, so it is not sent again."""
    refund = answered(FIVE_HUNDRED)
    waits = next_step(due(refund, START + 5), START + 5, SILENT)
    assert waits.calls == ()
    assert status_of(waits) is LegStatus.UNKNOWN
    end = START + SILENT.quiet_seconds + SILENT.lease_seconds
    assert waits.after.due_at == end
    after = next_step(due(waits.after, end), end, SILENT).after
    assert (after.status, after.failure_code) == (RefundStatus.NEEDS_ATTENTION, "outcome_unknown")


def test_refusal_of_a_repeat_does_not_settle_an_unknown_first_send() -> None:
    repeated = sent_again(due(answered(NO_ANSWER), START + 10), START + 10, SILENT).after
    refused = apply_reply(
        repeated, "r-1", send_of(repeated), Refused("declined", "no"), START + 11, SILENT, asked_at=START + 10
    ).after
    assert refused.legs[0].status is LegStatus.UNKNOWN
    at = START + 3_000
    after = next_step(due(refused, at), at, SILENT).after
    assert (after.status, after.failure_code) == (RefundStatus.NEEDS_ATTENTION, "outcome_unknown")


def test_retry_of_an_unknown_outcome_makes_no_new_attempt() -> None:
    stuck = next_step(due(answered(NO_ANSWER), KEY_IS_OLD), KEY_IS_OLD, SILENT).after
    retried = apply_action(stuck, Action.RETRY, KEY_IS_OLD + 1, SILENT, actor="olga", reason="again").after
    decision = next_step(due(retried, KEY_IS_OLD + 2), KEY_IS_OLD + 2, SILENT)
    assert decision.calls == ()
    assert (decision.after.status, decision.after.failure_code) == (RefundStatus.NEEDS_ATTENTION, "outcome_unknown")


def test_event_settles_a_refund_that_is_with_a_person() -> None:
    stuck = next_step(due(answered(NO_ANSWER), KEY_IS_OLD), KEY_IS_OLD, SILENT).after
    assert reported(stuck, "succeeded", KEY_IS_OLD + 5).status is RefundStatus.SUCCEEDED


def test_pause_holds_the_repeat_and_asks_nothing() -> None:
    at = START + 100
    paused = {"stripe": SendBlock(until=at + 300)}
    decision = next_step(due(answered(NO_ANSWER), at), at, SILENT, paused=paused)
    assert decision.calls == ()
    assert decision.after.due_at == at + 300


def test_accepted_refund_is_not_polled_and_ends_by_its_event() -> None:
    refund = answered(Answered(an_object("pending")))
    assert refund.status is RefundStatus.PENDING
    assert refund.due_at == START + 5 * DAY
    assert next_step(due(refund, START + DAY), START + DAY, SILENT).calls == ()
    assert reported(refund, "succeeded", START + DAY).status is RefundStatus.SUCCEEDED
    failed = reported(refund, "failed", START + DAY, failure_code="refused_by_bank")
    assert failed.status is not RefundStatus.PENDING


def test_event_is_overdue_after_the_accounts_own_time() -> None:
    quick = replace(SILENT, processors={"stripe": replace(SILENT.rules_of("stripe"), report_seconds=DAY)})
    sent = next_step(a_refund(), START, quick).after
    pending = apply_reply(sent, "r-1", send_of(sent), Answered(an_object("pending")), START + 1, quick, asked_at=START)
    assert pending.after.due_at == START + DAY
    after = next_step(due(pending.after, START + DAY), START + DAY, quick).after
    assert after.legs[0].attention_code == REPORT_OVERDUE


def test_missing_event_is_shown_once_and_still_ends_the_refund() -> None:
    at = START + 5 * DAY
    decision = next_step(due(answered(Answered(an_object("pending"))), at), at, SILENT)
    overdue = decision.after
    assert overdue.status is RefundStatus.NEEDS_ATTENTION
    assert overdue.legs[0].attention_code == REPORT_OVERDUE
    assert [event.kind for event in decision.events if event.alarm] == [REPORT_OVERDUE]
    assert overdue.due_at is None
    paid = reported(overdue, "succeeded", at + DAY)
    assert paid.status is RefundStatus.SUCCEEDED
    assert paid.legs[0].attention_code is None


def test_late_failure_by_an_event_gives_the_credits_back() -> None:
    paid = reported(answered(Answered(an_object("pending"))), "succeeded", START + DAY)
    failed = reported(paid, "failed", START + 9 * DAY, failure_code="returned")
    ended = next_step(due(failed, START + 9 * DAY + 1), START + 9 * DAY + 1, SILENT).after
    assert ended.status is RefundStatus.FAILED
    assert ended.reversed_credits == 100


def test_late_failure_stays_when_an_older_event_follows() -> None:
    failed = reported(answered(Answered(an_object("pending"))), "failed", START + DAY, failure_code="returned")
    again = reported(failed, "succeeded", START + DAY + 5)
    assert again.legs[0].status is LegStatus.FAILED


def test_success_after_a_failure_alerts_a_person() -> None:
    failed = reported(answered(Answered(an_object("pending"))), "failed", START + DAY, failure_code="returned")
    event = RecordedReply("r", "r-1", None, Answered(an_object("succeeded")))
    decision = apply_replies(failed, [event], START + 2 * DAY, SILENT)
    assert [told.kind for told in decision.events if told.alarm] == ["paid_after_failure"]
    assert decision.after.legs == failed.legs
    asked = replace(SILENT, processors={"stripe": replace(SILENT.rules_of("stripe"), reads_refunds=True)})
    assert not apply_replies(failed, [event], START + 2 * DAY, asked).events


def test_refusal_for_what_is_left_ends_with_a_person_without_a_list() -> None:
    """Others may have refunded the payment: with a list, that would show first."""
    refused = answered(Refused("too_much", "less is left", more_than_left=True))
    after = next_step(due(refused, START + 5), START + 5, SILENT).after
    assert (after.status, after.failure_code) == (RefundStatus.NEEDS_ATTENTION, "too_much")


def test_list_is_read_before_each_send_where_nothing_is_synced() -> None:
    policy = replace(POLICY, processors={"stripe": ProcessorRules(lists_each_payment=True)})
    (call,) = next_step(a_refund(), START, policy).calls
    assert call == LookUp("r-1", "stripe", "ch_1", before_sending=True)
    (without,) = next_step(a_refund(), START, POLICY).calls
    assert isinstance(without, Send)
