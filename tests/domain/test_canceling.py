"""A person cancels a refund that waits for the customer: the processor's record decides, and nothing is guessed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.domain.builders import (
    NO_ANSWER,
    NOTHING,
    POLICY,
    START,
    a_leg,
    an_object,
    answer,
    apply_reply,
    begun,
    report,
    the_call,
)

from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.canceling import CANCELED_AT_PROCESSOR, CANCELED_ON_REQUEST
from refund_worker.domain.decision import Decision
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.processor_calls import Cancel, Fetch
from refund_worker.domain.processor_replies import (
    Answered,
    Busy,
    Denied,
    Misconfigured,
    NotSent,
    RefundObject,
    Reply,
    UnknownRefusal,
)
from refund_worker.domain.refund import Canceling, LegStatus, Refund, RefundStatus
from refund_worker.domain.state_machine import Action, available_actions
from refund_worker.engine.views.api_objects import leg_view
from refund_worker.errors import ActionNotAllowed

LATER = START + 100
WAITS = an_object("requires_action")
CANCELED = an_object("canceled", failure_code=None)
REFUSED = UnknownRefusal("invalid_request_error", "only in requires_action")
OTHER = RefundablePayment(
    payment_id="pay9",
    processor="stripe",
    processor_payment_id="ch_9",
    amount_minor=5_000,
    currency="USD",
    credits=500,
    captured_at=1.0,
)


def waiting() -> Refund:
    """Return a refund whose object waits for the customer."""
    return answer(begun(), Answered(WAITS)).after


def canceling(refund: Refund | None = None, at: float = LATER) -> Refund:
    """Return the refund after a person asked to cancel it."""
    return apply_action(refund or waiting(), Action.CANCEL, at, POLICY, actor="op", reason="asked by phone").after


def called(at: float = LATER) -> Decision:
    """Return the decision that makes the call."""
    return next_step(canceling(at=at), at, POLICY)


def replied(reply: Reply, at: float = LATER + 1) -> Refund:
    decision = called()
    return apply_reply(decision.after, "r-1", the_call(decision), reply, at, POLICY).after


def fetched(refund: Refund, refund_object: RefundObject) -> Refund:
    """Return the refund after its next question, which must be a fetch, is answered."""
    at = refund.legs[0].next_at or 0
    call = the_call(next_step(refund, at, POLICY))
    assert isinstance(call, Fetch)
    return apply_reply(refund, "r-1", call, Answered(refund_object), at, POLICY).after


def settled(refund: Refund) -> Refund:
    """Return the refund after the steps that follow an end; another payment has room."""
    for _ in range(3):
        refund = next_step(refund, LATER + 10_000, POLICY, payments=(OTHER,)).after
    return refund


def is_given_back(refund: Refund) -> bool:
    after = settled(refund)
    assert len(after.legs) == 1, "no other payment is tried"
    (leg,) = after.legs
    assert (leg.status, leg.canceling, leg.failure_code) == (LegStatus.CANCELED, None, CANCELED_ON_REQUEST)
    return (after.status, after.reversed_credits) == (RefundStatus.FAILED, 100)


def test_cancel_is_offered_while_the_customer_is_waited_for() -> None:
    refund = waiting()
    assert refund.status is RefundStatus.PENDING
    assert available_actions(refund) == (Action.CANCEL,)
    assert available_actions(report(refund, an_object("succeeded"), LATER).after) == ()


def test_intent_is_stored_before_the_call_and_the_call_is_made_once() -> None:
    refund = canceling()
    assert (refund.legs[0].canceling, refund.due_at) == (Canceling.REQUESTED, LATER)
    decision = next_step(refund, LATER, POLICY)
    assert decision.calls == (Cancel("r-1", "stripe", "re_1"),)
    assert decision.after.legs[0].canceling is Canceling.CALLED
    # The worker died: its answer is lost, so the object is read before anything else.
    assert isinstance(the_call(next_step(decision.after, LATER + 61, POLICY)), Fetch)


def test_canceled_object_is_given_back() -> None:
    assert is_given_back(replied(Answered(CANCELED)))


def test_lost_answer_of_an_executed_cancel_is_looked_up() -> None:
    assert is_given_back(fetched(replied(NO_ANSWER), CANCELED))


def test_refused_cancel_of_a_canceled_object_is_given_back() -> None:
    assert is_given_back(fetched(replied(REFUSED), CANCELED))


def test_report_between_intent_and_call_is_given_back_too() -> None:
    assert is_given_back(report(canceling(), CANCELED, LATER).after)


def test_lost_answer_of_a_cancel_without_effect_is_sent_again() -> None:
    refund = fetched(replied(NO_ANSWER), WAITS)
    leg = refund.legs[0]
    assert leg.canceling is Canceling.REQUESTED
    assert leg.next_at is not None
    assert isinstance(the_call(next_step(refund, leg.next_at, POLICY)), Cancel)


@pytest.mark.parametrize("reply", [Busy("rate_limit"), NotSent("no connection"), Denied("http_401", "no")], ids=str)
def test_unexecuted_cancel_is_sent_again_later(reply: Reply) -> None:
    refund = replied(reply)
    leg = refund.legs[0]
    assert leg.canceling is Canceling.REQUESTED
    assert leg.next_at is not None
    assert leg.next_at > LATER + 1
    assert isinstance(the_call(next_step(refund, leg.next_at, POLICY)), Cancel)


@pytest.mark.parametrize("reply", [REFUSED, Misconfigured("resource_missing", "no such refund")], ids=str)
def test_refused_cancel_that_still_waits_can_be_canceled_again(reply: Reply) -> None:
    refund = replied(reply)
    with pytest.raises(ActionNotAllowed):
        canceling(refund)
    after = fetched(refund, WAITS)
    assert (after.legs[0].canceling, available_actions(after)) == (None, (Action.CANCEL,))


def test_word_of_the_processor_goes_before_the_cancel() -> None:
    for refund in (fetched(replied(REFUSED), an_object("succeeded")), replied(Answered(an_object("succeeded")))):
        (leg,) = refund.legs
        assert (leg.status, leg.canceling, refund.reversed_credits) == (LegStatus.SUCCEEDED, None, 0)


def test_customer_who_acts_first_ends_the_cancel() -> None:
    leg = fetched(replied(REFUSED), an_object("pending")).legs[0]
    assert leg.canceling is None
    assert leg.report is not None
    assert leg.report.status == "pending"
    assert leg_view(leg)["next_action"] is None


def test_after_the_customer_has_acted_there_is_nothing_to_cancel() -> None:
    refund = report(waiting(), an_object("pending"), LATER).after
    assert refund.legs[0].status is LegStatus.REQUIRES_ACTION
    assert Action.CANCEL not in available_actions(refund)
    with pytest.raises(ActionNotAllowed):
        canceling(refund)


@pytest.mark.parametrize("state", [Canceling.REQUESTED, Canceling.CALLED, Canceling.REFUSED])
def test_object_that_fails_meanwhile_goes_the_way_of_any_failure(state: Canceling) -> None:
    refund = canceling()
    refund = replace(refund, legs=(replace(refund.legs[0], canceling=state),))
    after = settled(report(refund, an_object("failed", failure_code="declined"), LATER).after)
    assert [leg.payment_id for leg in after.legs] == ["pay1", "pay9"]


@pytest.mark.parametrize("state", [Canceling.REQUESTED, Canceling.CALLED, Canceling.REFUSED])
def test_object_that_lacks_funds_meanwhile_is_not_sent_again(state: Canceling) -> None:
    refund = canceling()
    refund = replace(refund, legs=(replace(refund.legs[0], canceling=state),))
    after = settled(report(refund, an_object("failed", failure_code="insufficient_funds"), LATER).after)
    assert [(leg.payment_id, leg.sends, leg.failure_code) for leg in after.legs] == [("pay1", 1, CANCELED_ON_REQUEST)]
    assert (after.status, after.reversed_credits) == (RefundStatus.FAILED, 100)


def test_object_canceled_in_the_dashboard_is_given_back() -> None:
    after = settled(report(waiting(), CANCELED, LATER).after)
    assert [(leg.payment_id, leg.failure_code) for leg in after.legs] == [("pay1", CANCELED_AT_PROCESSOR)]
    assert (after.status, after.reversed_credits) == (RefundStatus.FAILED, 100)


def test_canceled_object_is_given_back_after_a_lost_report() -> None:
    pending = answer(begun(), Answered(an_object("pending"))).after
    after = settled(report(pending, CANCELED, LATER).after)
    assert [(leg.payment_id, leg.failure_code) for leg in after.legs] == [("pay1", CANCELED_AT_PROCESSOR)]


def test_object_canceled_there_keeps_the_word_of_the_processor() -> None:
    told = an_object("canceled", failure_code="RISK_REVIEW")
    (leg,) = settled(report(waiting(), told, LATER).after).legs
    assert (leg.failure_code, leg.failure_message) == (
        CANCELED_AT_PROCESSOR,
        "the processor says canceled: RISK_REVIEW",
    )
    (leg,) = settled(report(canceling(), told, LATER).after).legs
    assert (leg.failure_code, leg.failure_message) == (
        CANCELED_ON_REQUEST,
        "a person canceled it while it waited for the customer",
    )


def test_second_cancel_is_refused_while_the_first_is_under_way() -> None:
    with pytest.raises(ActionNotAllowed, match="already requested"):
        canceling(canceling())


def test_other_pending_leg_continues() -> None:
    refund = begun(a_leg(1), a_leg(2))
    refund = answer(refund, Answered(WAITS)).after
    refund = answer(refund, Answered(an_object("pending", "re_2", 2)), number=2).after
    decision = next_step(canceling(refund), LATER, POLICY)
    call = next(call for call in decision.calls if isinstance(call, Cancel))
    refund = apply_reply(decision.after, "r-1", call, Answered(CANCELED), LATER, POLICY).after
    assert refund.status is RefundStatus.PENDING
    refund = report(refund, an_object("succeeded", "re_2", 2), LATER + 5).after
    after = settled(refund)
    assert (after.status, after.reversed_credits) == (RefundStatus.PARTIALLY_SUCCEEDED, 100)


def test_attempt_after_the_canceled_one_is_not_sent_again() -> None:
    """The object of an old attempt was canceled by a person, and the current attempt is still unanswered."""
    refund = waiting()
    refund = replace(refund, legs=(replace(refund.legs[0], attempt=2),))
    refund = report(canceling(refund), CANCELED, LATER).after
    leg = refund.legs[0]
    assert (leg.status, leg.lookup_required) == (LegStatus.UNKNOWN, True)
    for _ in range(20):
        at = refund.legs[0].next_at or refund.due_at or LATER + 5_000
        decision = next_step(refund, at, POLICY, payments=(OTHER,))
        refund = decision.after
        for call in decision.calls:
            refund = apply_reply(refund, "r-1", call, NOTHING, at, POLICY, asked_at=at).after
    assert (refund.status, refund.reversed_credits, len(refund.legs)) == (RefundStatus.FAILED, 100, 1)
