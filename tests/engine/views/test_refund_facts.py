"""The advice for one refund says only what is true of it: other payments, the money, the credits, the real cause."""

from __future__ import annotations

from dataclasses import replace

from tests.domain.builders import POLICY, START, a_leg, an_object, answer, begun, found, sent_again

from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.handle_reply import apply_replies
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.processor_calls import Fetch, RecordedReply
from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Answered,
    Blocked,
    Found,
    Misconfigured,
    Refused,
    Unanswered,
)
from refund_worker.domain.refund import LegStatus, Refund, RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.views.failure_codes import explain
from refund_worker.engine.views.refund_facts import RefundExplanation, explain_refund


def explained(refund: Refund) -> RefundExplanation:
    why = explain_refund(refund)
    assert why is not None
    return why


def facts_of(refund: Refund) -> str:
    return " ".join(explained(refund).facts)


def settled(refund: Refund, *payments: RefundablePayment, at: float = START + 1) -> Refund:
    """Return the refund after the steps that follow a failure: another payment is sought, credits go back."""
    for _ in range(3):
        refund = next_step(refund, at, POLICY, payments=payments).after
    return refund


def other_payment() -> RefundablePayment:
    return RefundablePayment(
        payment_id="pay9",
        processor="stripe",
        processor_payment_id="ch_9",
        amount_minor=5_000,
        currency="USD",
        credits=500,
        captured_at=START - 1_000,
    )


def test_a_refund_without_a_failure_has_no_explanation() -> None:
    assert explain_refund(begun()) is None


def test_only_payment_that_fails_names_no_other() -> None:
    ended = settled(answer(begun(), Refused("expired_card", "no")).after)
    assert ended.status is RefundStatus.FAILED
    assert "No other payment of the customer was used." in facts_of(ended)
    assert "100 back on the balance" in facts_of(ended)
    assert "pay1, which is ch_1 at stripe" in facts_of(ended)
    assert "tried" not in f"{explained(ended).cause} {explained(ended).advice} {facts_of(ended)}"


def test_another_payment_that_was_used_is_named_with_its_state() -> None:
    went_on = settled(answer(begun(), Refused("expired_card", "no")).after, other_payment())
    text = facts_of(went_on)
    assert "Then 10.00 USD over the payment pay9 (ch_9): it is on its way." in text
    assert "No other payment" not in text
    assert "100 off the balance, and not settled yet" in text


def test_a_refund_that_waits_says_that_no_credits_went_back() -> None:
    waits = answer(begun(), Blocked("balance_insufficient", "empty")).after
    assert waits.status is RefundStatus.NEEDS_ATTENTION
    assert "Credits: 100 off the balance, and not settled yet." in facts_of(waits)
    assert "No other payment" not in facts_of(waits), "nothing is decided about this leg yet"


def test_paid_and_returned_credits_are_counted_apart() -> None:
    second = a_leg(2, credits=50, amount_minor=500, payment_credits=50)
    paid = answer(begun(a_leg(1), second), Answered(an_object("succeeded"))).after
    failed = an_object("failed", "re_2", 2, amount_minor=500)
    ended = settled(answer(paid, Answered(failed), number=2).after)
    assert ended.status is RefundStatus.PARTIALLY_SUCCEEDED
    assert "Credits: 50 back on the balance, 100 paid out." in facts_of(ended)


def test_a_refused_call_and_a_failed_object_are_told_apart() -> None:
    refused = explained(answer(begun(), Blocked("insufficient_funds", "empty")).after)
    failed = explained(answer(begun(), Answered(an_object("failed", failure_code="insufficient_funds"))).after)
    assert refused.code == failed.code == "insufficient_funds"
    assert refused.cause == explain("insufficient_funds").cause
    assert failed.cause.startswith("The processor made the refund re_1, and it did not pay.")


def test_an_older_failed_object_is_not_the_cause_of_a_later_refusal() -> None:
    failed = answer(begun(), Answered(an_object("failed", failure_code="insufficient_funds"))).after
    sent = sent_again(failed, START + 700).after
    refused = answer(sent, Blocked("charge_disputed", "no"), START + 701).after
    assert "re_1" not in explained(refused).cause


def test_a_later_send_without_an_answer_is_a_fact() -> None:
    failed = answer(begun(), Answered(an_object("failed", failure_code="insufficient_funds"))).after
    assert "got no answer" not in facts_of(failed)
    unknown = answer(sent_again(failed, START + 700).after, Unanswered("timeout"), START + 701).after
    assert unknown.legs[0].status is LegStatus.UNKNOWN
    assert "got no answer, so it is not known whether a refund exists there" in facts_of(unknown)


def test_a_dispute_before_and_after_the_send_are_told_apart() -> None:
    at_the_call = explained(answer(begun(), Blocked("charge_disputed", "no")).after)
    code = "charge_disputed"
    unsent_leg = a_leg(attention_code=code, failure_code=code)
    unsent = replace(begun(), legs=(unsent_leg,), failure_code=code, status=RefundStatus.NEEDS_ATTENTION)
    failed = explained(
        answer(begun(), Answered(an_object("failed", failure_code="charge_for_pending_refund_disputed"))).after
    )
    assert len({at_the_call.cause, explained(unsent).cause, failed.cause}) == 3
    assert "nothing was sent" in explained(unsent).cause
    assert "Nothing was sent over it." in facts_of(unsent)
    assert "re_1" in failed.cause


def test_a_missing_payment_and_a_missing_refund_are_told_apart() -> None:
    no_payment = explained(answer(begun(), Misconfigured("resource_missing", "No such charge")).after)
    pending = answer(begun(), Answered(an_object("pending"))).after
    missing = Misconfigured("resource_missing", "No such refund")
    polled = RecordedReply("r", "r-1", Fetch("r-1", "stripe", "re_1"), missing, None)
    no_refund = explained(apply_replies(pending, [polled], START + 600, POLICY).after)
    assert no_payment.title == "The processor does not know the payment"
    assert no_refund.title == "The processor does not know its own refund any more"
    assert "re_1" in no_refund.cause


def test_refunds_made_elsewhere_are_named() -> None:
    elsewhere = an_object(name="re_else", leg_id=None)
    asked = answer(begun(), AlreadyRefunded("no")).after
    stopped = found(asked, Found((), outside=(elsewhere,)), START + 2).after
    assert stopped.failure_code == "refunded_elsewhere"
    assert "Refunds made elsewhere: re_else." in facts_of(stopped)


def test_a_new_code_of_a_failed_refund_is_not_called_a_refusal() -> None:
    ended = settled(answer(begun(), Answered(an_object("failed", failure_code="a_reason_of_next_year"))).after)
    assert explained(ended).cause.startswith("The processor made the refund re_1, and it did not pay.")
    assert "refused" not in explained(ended).title


def test_resolved_by_a_person_as_given_back_counts_the_credits() -> None:
    waits = answer(begun(), Misconfigured("amount_too_large", "no")).after
    ended = settled(apply_action(waits, Action.RESOLVE, START + 1, POLICY, actor="anna", reason="no").after)
    assert "100 back on the balance" in facts_of(ended)
    assert "No other payment of the customer was used." in facts_of(ended)
