"""Objects that differ from what a leg asked for are never believed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.domain.builders import (
    NOTHING,
    POLICY,
    START,
    a_leg,
    an_object,
    answer,
    apply_reply,
    begun,
    found,
    report,
    status_of,
    the_call,
    the_look_up,
    unanswered,
)

from refund_worker.domain.decision import ProcessorRules
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.processor_calls import LookUp
from refund_worker.domain.processor_replies import (
    Answered,
    Found,
)
from refund_worker.domain.refund import KnownRefundObject, LegStatus, ObjectState, Refund, RefundStatus, RefusalKind
from refund_worker.domain.state_machine import Action, available_actions
from refund_worker.errors import ActionNotAllowed


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount_minor": 999},
        {"amount_minor": 0},
        {"currency": "EUR"},
        {"payment_refs": ("ch_other", "pi_other")},
        {"leg_id": "r-2"},
    ],
    ids=str,
)
def test_answer_about_another_refund_is_no_evidence(wrong: dict[str, object]) -> None:
    decision = answer(begun(), Answered(replace(an_object(), **wrong)))  # type: ignore[arg-type]
    leg = decision.after.legs[0]
    assert (leg.status, leg.unanswered, leg.lookup_required, leg.objects) == (LegStatus.UNKNOWN, True, True, ())
    assert decision.postings == ()
    assert [seen.state for seen in decision.objects] in ([], [None]), (
        "stored as reported, so that the same report is no change"
    )
    assert any(event.kind == "answer_mismatch" and event.alarm for event in decision.events)


@pytest.mark.parametrize("reason", ["outcome_unknown", "refunded_elsewhere", "unknown_refusal"])
def test_mismatched_object_does_not_wake_a_leg_with_a_person(reason: str) -> None:
    """Found by the simulation (seed 7200138): the leg was sent automatically after its metadata had been copied."""
    leg = replace(begun().legs[0], status=LegStatus.BLOCKED, attention_code=reason, failure_code=reason, next_at=None)
    decision = report(replace(begun(), legs=(leg,)), an_object(payment_refs=("ch_other",)))
    assert any(event.kind == "answer_mismatch" and event.alarm for event in decision.events)
    assert (status_of(decision), decision.after.status) == (LegStatus.BLOCKED, RefundStatus.NEEDS_ATTENTION)
    assert (decision.after.legs[0].next_at, decision.after.due_at) == (None, None)
    assert decision.after.legs[0].attention_code == reason, "a retry depends on it"


def test_retry_reads_the_payment_again_after_a_mismatch() -> None:
    leg = a_leg(attention_code="payment_mismatch", failure_code="payment_mismatch", next_at=None)
    stopped = replace(begun(), legs=(leg,), status=RefundStatus.NEEDS_ATTENTION)
    reported = report(stopped, an_object(amount_minor=400)).after
    retried = apply_action(reported, Action.RETRY, START + 10, POLICY, actor="op", reason="mended")
    assert list(retried.read_again) == ["pay1"]


@pytest.mark.parametrize("status", [LegStatus.WAITING, LegStatus.PLANNED])
def test_leg_with_a_mismatched_object_reads_the_list_before_a_send(status: LegStatus) -> None:
    leg = replace(begun().legs[0], status=status, next_at=START)
    reported = report(replace(begun(), legs=(leg,)), an_object(payment_refs=("ch_other",))).after
    assert reported.due_at is not None
    call = the_call(next_step(reported, reported.due_at, POLICY))
    assert isinstance(call, LookUp)
    assert call.before_sending


def test_test_mode_object_is_no_evidence_for_live_money() -> None:
    refund = begun()
    live = replace(POLICY, processors={"stripe": ProcessorRules(live=True)})
    decision = apply_reply(refund, "r-1", None, Answered(an_object(live=False)), START, live)
    assert decision.after.status is RefundStatus.NEEDS_ATTENTION
    assert decision.postings == ()


def test_mismatch_needs_a_person_once_nothing_can_land() -> None:
    """The leg is unknown while something may still land, then blocked: a person may retry, or record how it ended."""
    mismatched = Found((an_object(amount_minor=999),))
    refund = answer(begun(), Answered(an_object(amount_minor=999))).after
    early = found(refund, mismatched, START + 999)
    assert (status_of(early), early.after.legs[0].attempt) == (LegStatus.UNKNOWN, 1)
    assert available_actions(early.after) == (Action.RETRY, Action.RESOLVE)
    with pytest.raises(ActionNotAllowed, match="cannot be given back yet"):
        apply_action(early.after, Action.RESOLVE, START + 1_000, POLICY, actor="op", reason="x")
    assert [event for event in early.events if event.kind == "answer_mismatch"] == [], "it was reported before"
    late = found(early.after, mismatched, START + 1_000)
    assert (status_of(late), late.after.failure_code, late.after.due_at) == (LegStatus.BLOCKED, "answer_mismatch", None)
    assert available_actions(late.after) == (Action.RETRY, Action.RESOLVE)
    assert late.payments == {}
    paid = apply_action(late.after, Action.RESOLVE, START + 2_000, POLICY, actor="op", reason="x", reference="bank-9")
    assert paid.after.status is RefundStatus.SUCCEEDED
    retried = apply_action(late.after, Action.RETRY, START + 2_000, POLICY, actor="op", reason="mended").after
    the_look_up(next_step(retried, START + 2_000, POLICY))
    assert found(retried, Found((an_object(),)), START + 2_001).after.status is RefundStatus.SUCCEEDED


def test_list_without_the_mismatched_object_proves_nothing() -> None:
    """An object over another payment is in no list of ours, and yet money has gone out."""
    refund = answer(begun(), Answered(an_object(payment_refs=("ch_other",)))).after
    late = found(refund, NOTHING, START + 1_000)
    assert (status_of(late), late.after.legs[0].attempt) == (LegStatus.BLOCKED, 1)
    assert available_actions(late.after) == (Action.RETRY, Action.RESOLVE)
    retried = apply_action(late.after, Action.RETRY, START + 2_000, POLICY, actor="op", reason="again").after
    again = found(retried, NOTHING, START + 2_001)
    assert (status_of(again), again.after.legs[0].attempt) == (LegStatus.BLOCKED, 1)


def test_live_object_of_an_older_attempt_stops_new_sends() -> None:
    """No path leads to this state. If one did, money would go out a second time."""
    paid = KnownRefundObject("re_1", ObjectState.SUCCEEDED, 1)
    leg = replace(unanswered().legs[0], attempt=2, in_doubt=None, objects=(paid,))
    refund = replace(unanswered(), legs=(leg,))
    shown = found(refund, Found((an_object("pending", attempt=1),)), START + 5_000)
    assert (status_of(shown), shown.after.legs[0].attempt) == (LegStatus.BLOCKED, 2)
    assert shown.after.failure_code == "answer_mismatch"


def test_mismatch_is_cleared_when_the_right_object_is_found() -> None:
    refund = answer(begun(), Answered(an_object(amount_minor=999))).after
    mended = found(refund, Found((an_object(),)), START + 5)
    assert (mended.after.status, mended.after.failure_code) == (RefundStatus.SUCCEEDED, None)


UNFUNDED = {"status": "failed", "failure_code": "insufficient_funds"}


def asked_again_after_an_empty_balance() -> Refund:
    """Return a refund whose first object failed for lack of funds; a retry now requests its second attempt."""
    refund = answer(begun(), Answered(an_object(**UNFUNDED))).after
    assert (status_of(answer(begun(), Answered(an_object(**UNFUNDED)))), refund.legs[0].attempt) == (
        LegStatus.BLOCKED,
        2,
    )
    return apply_action(refund, Action.RETRY, START + 100, POLICY, actor="op", reason="topped up").after


def test_mismatch_of_a_failed_old_object_changes_nothing() -> None:
    refund = asked_again_after_an_empty_balance()
    reported = report(refund, an_object(amount_minor=1_001, **UNFUNDED), START + 101)
    assert [(event.kind, event.alarm) for event in reported.events] == [("answer_mismatch", True)]
    assert reported.after.legs == refund.legs
    continued = found(reported.after, Found((an_object(**UNFUNDED),)), START + 3_000)
    assert status_of(continued) is LegStatus.WAITING, "no object is live, so the next attempt is made"


@pytest.mark.parametrize("status", ["succeeded", "pending", "unheard_of"])
def test_mismatch_that_revives_a_failed_object_stops_the_leg(status: str) -> None:
    refund = asked_again_after_an_empty_balance()
    reported = report(refund, an_object(amount_minor=1_001, status=status), START + 101)
    assert reported.after.legs[0].refusal is RefusalKind.ANSWER_MISMATCH


def test_mismatch_of_an_unknown_failed_object_stops_the_leg() -> None:
    refund = asked_again_after_an_empty_balance()
    reported = report(refund, an_object(processor_refund_id="re_9", amount_minor=1_001, **UNFUNDED), START + 101)
    assert reported.after.legs[0].refusal is RefusalKind.ANSWER_MISMATCH
