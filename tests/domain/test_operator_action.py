"""The actions that a person may take, and exactly what follows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.domain.builders import POLICY, START, a_leg, a_refund, an_object, answer, begun, found, status_of

from refund_worker.domain.decision import AccountDelta, Decision, PaymentDelta
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.processor_replies import Answered, Blocked, Found, KeyConflict, Unanswered
from refund_worker.domain.refund import Kind, LegStatus, Refund, RefundStatus, To
from refund_worker.domain.state_machine import Action
from refund_worker.errors import ActionNotAllowed


def act(refund: Refund, action: Action, actor: str = "op", reference: str | None = None) -> Decision:
    """Apply the action 10 seconds after the start."""
    return apply_action(refund, action, START + 10, POLICY, actor=actor, reason="because", reference=reference)


def parked() -> Refund:
    """Return a refund that waits for a person."""
    return answer(begun(), Blocked("balance_insufficient", "not now")).after


WAITING = a_refund(status=RefundStatus.AWAITING_APPROVAL, due_at=None)


@pytest.mark.parametrize(
    ("refund", "action", "end"),
    [
        (WAITING, Action.REJECT, RefundStatus.REJECTED),
        (WAITING, Action.CANCEL, RefundStatus.CANCELED),
        (a_refund(), Action.CANCEL, RefundStatus.CANCELED),
    ],
)
def test_rejecting_and_canceling_release_everything(refund: Refund, action: Action, end: RefundStatus) -> None:
    decision = act(refund, action)
    assert decision.after.status is end
    assert decision.customer == AccountDelta(held=-100, withdrawn=-100)
    assert decision.payments == {"pay1": PaymentDelta(-100, -1_000)}
    assert (decision.postings, decision.calls, decision.after.due_at) == ((), (), None)
    assert next_step(decision.after, START + 20, POLICY).calls == ()


def test_canceling_a_credit_refund_releases_its_transaction() -> None:
    decision = act(a_refund(kind=Kind.CREDIT_REFUND, transaction_id="t"), Action.CANCEL)
    assert decision.transaction_credits == -100
    assert decision.customer == AccountDelta()


def test_canceling_a_correction_payout_keeps_held_credits() -> None:
    decision = act(a_refund(transaction_id="t", of_correction=True), Action.CANCEL)
    assert decision.transaction_credits == -100
    assert decision.customer == AccountDelta(withdrawn=-100)


def test_canceling_releases_zero_amount_legs_too() -> None:
    refund = a_refund(a_leg(), a_leg(2, amount_minor=0, status=LegStatus.SUCCEEDED))
    assert act(refund, Action.CANCEL).payments == {"pay1": PaymentDelta(-100, -1_000), "pay2": PaymentDelta(-100, 0)}


def test_sent_refund_cannot_be_canceled() -> None:
    with pytest.raises(ActionNotAllowed):
        act(begun(), Action.CANCEL)


def test_requester_cannot_approve() -> None:
    with pytest.raises(ActionNotAllowed, match="second person"):
        act(WAITING, Action.APPROVE, actor="anna")
    approved = act(WAITING, Action.APPROVE).after
    assert (approved.status, approved.due_at) == (RefundStatus.QUEUED, START + 10)


def test_resolve_by_reversal_returns_the_credits_once() -> None:
    reversing = act(parked(), Action.RESOLVE)
    assert (reversing.after.status, reversing.after.due_at) == (RefundStatus.REVERSING, START + 10)
    ended = next_step(reversing.after, START + 11, POLICY)
    assert (ended.after.status, ended.customer.balance, len(ended.postings)) == (RefundStatus.FAILED, 100, 1)
    assert ended.calls == ()


def test_resolve_as_paid_manually_succeeds_and_sends_nothing() -> None:
    decision = act(parked(), Action.RESOLVE, reference="cheque-7")
    assert (decision.after.status, decision.after.due_at, decision.calls) == (RefundStatus.SUCCEEDED, None, ())
    assert {e.account for p in decision.postings for e in p.entries if e.unit == "USD"} == {
        "house:paid_by_hand",
        "house:refunds",
    }


def test_resolve_is_refused_while_a_leg_may_still_pay() -> None:
    refund = begun(a_leg(), a_leg(2))
    refund = answer(refund, Blocked("balance_insufficient", "not now")).after
    refund = answer(refund, Unanswered("timeout"), number=2).after
    assert refund.status is RefundStatus.NEEDS_ATTENTION
    with pytest.raises(ActionNotAllowed, match="may still pay"):
        act(refund, Action.RESOLVE)


def test_resolve_keeps_the_part_that_was_paid() -> None:
    refund = answer(begun(a_leg(), a_leg(2)), Answered(an_object())).after
    refund = answer(refund, Blocked("balance_insufficient", "not now"), number=2).after
    ended = next_step(act(refund, Action.RESOLVE).after, START + 11, POLICY)
    assert (ended.after.status, ended.customer.balance) == (RefundStatus.PARTIALLY_SUCCEEDED, 100)


def test_retry_never_sends_without_a_look_up() -> None:
    retried = act(parked(), Action.RETRY)
    assert status_of(retried) is LegStatus.UNKNOWN
    assert retried.after.legs[0].lookup_required
    assert retried.after.legs[0].attempt == 1


def test_retry_after_a_key_conflict_never_makes_a_new_key() -> None:
    """Another body was sent under our key, perhaps by a copy of this database. A retry only searches."""
    conflict = answer(begun(), KeyConflict("used with other parameters")).after
    assert (conflict.status, conflict.failure_code) == (RefundStatus.NEEDS_ATTENTION, "idempotency_key_conflict")
    searched = found(act(conflict, Action.RETRY).after, Found(()), START + 50_000).after
    assert (searched.status, searched.failure_code) == (RefundStatus.NEEDS_ATTENTION, "idempotency_key_conflict")
    assert (searched.legs[0].attempt, searched.due_at) == (1, None)
    paid = found(act(conflict, Action.RETRY).after, Found((an_object(),)), START + 50_000).after
    assert paid.status is RefundStatus.SUCCEEDED


def test_retry_resets_the_waits_but_not_the_attempts() -> None:
    """The next wait is short again. The record of earlier sends stays: to forget it has paid others twice."""
    silent = answer(begun(), Unanswered("timeout")).after
    leg = replace(silent.legs[0], attempt=2, sends=3, retry_count=20, attention_code="processor_unreachable")
    retried = act(replace(silent, status=RefundStatus.NEEDS_ATTENTION, legs=(leg,)), Action.RETRY).after
    kept = retried.legs[0]
    assert (kept.retry_count, kept.attempt, kept.sends, kept.lookup_required) == (0, 2, 3, True)
    assert kept.unanswered, "a retry answers no call"
    missed = found(retried, Found(()), START + 11).after.legs[0]
    assert (missed.status, missed.attempt) == (LegStatus.UNKNOWN, 2)


@pytest.mark.parametrize("status", RefundStatus)
@pytest.mark.parametrize("action", Action)
def test_action_that_the_table_does_not_offer_is_refused(status: RefundStatus, action: Action) -> None:
    allowed = {
        Action.APPROVE: {"awaiting_approval"},
        Action.REJECT: {"awaiting_approval"},
        Action.CANCEL: {"queued", "awaiting_approval"},
        Action.RETRY: {"needs_attention"},
        Action.RESOLVE: {"needs_attention"},
    }[action]
    refund = replace(parked(), status=status)
    if status not in allowed:
        with pytest.raises(ActionNotAllowed):
            act(refund, action)


def test_refund_to_balance_is_done_with_its_entry() -> None:
    refund = a_refund(kind=Kind.CREDIT_REFUND, to=To.BALANCE, transaction_id="t")
    refund = replace(refund, legs=())
    decision = next_step(refund, START, POLICY)
    assert (decision.after.status, decision.after.due_at, decision.calls) == (RefundStatus.SUCCEEDED, None, ())
    assert decision.customer == AccountDelta(balance=100, net_spent=-100)
    (posting,) = decision.postings
    assert (posting.refers_to, posting.credits) == ("t", 100)
