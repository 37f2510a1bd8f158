"""Legs that replace a refused one, when the processor has a refund for the refused one after all."""

from __future__ import annotations

import pytest
from tests.domain.builders import (
    NO_ANSWER,
    POLICY,
    START,
    an_object,
    answer,
    apply_reply,
    begun,
    report,
    the_look_up,
)
from tests.domain.test_allocation import a_payment

from refund_worker.domain.decision import Decision, PaymentDelta, SendBlock
from refund_worker.domain.next_step import next_step
from refund_worker.domain.processor_calls import Send
from refund_worker.domain.processor_replies import Blocked, Found, Refused
from refund_worker.domain.refund import LegStatus, Refund, RefundStatus

REFUSED = Refused("declined", "no")
EMPTY = Blocked("balance_insufficient", "not now")


def replaced() -> Refund:
    """Return a refund whose first leg was refused, and whose second one replaces it and was sent."""
    sent = next_step(answer(begun(), REFUSED).after, START + 2, POLICY, payments=[a_payment(9)]).after
    assert sent.legs[1].status is LegStatus.SENDING
    return sent


def after_all(refund: Refund, status: str = "succeeded") -> Decision:
    """Report an object for the refused leg, and return the next step once the second leg is due."""
    paid = report(refund, an_object(status)).after
    decision = next_step(paid, (paid.legs[1].next_at or START + 5) + 1, POLICY)
    assert not [call for call in decision.calls if isinstance(call, Send)]
    return decision


@pytest.mark.parametrize(("status", "ends"), [("succeeded", RefundStatus.SUCCEEDED), ("pending", RefundStatus.PENDING)])
def test_replacement_is_canceled_if_the_replaced_leg_is_paid(status: str, ends: RefundStatus) -> None:
    decision = after_all(answer(replaced(), EMPTY, START + 3, number=2).after, status)
    assert (decision.after.legs[1].status, decision.after.status) == (LegStatus.CANCELED, ends)
    assert (decision.postings, decision.after.reversed_credits) == ((), 0)
    assert decision.payments == {"pay9": PaymentDelta(-100, -1_000)}


def test_replacement_that_was_never_sent_is_canceled() -> None:
    refused = answer(begun(), REFUSED).after
    paused = {"stripe": SendBlock(START + 100)}
    waiting = next_step(refused, START + 2, POLICY, payments=[a_payment(9)], paused=paused).after
    assert waiting.legs[1].status is LegStatus.PLANNED
    assert after_all(waiting).after.legs[1].status is LegStatus.CANCELED


def test_replacement_of_a_replacement_is_canceled_too() -> None:
    refused = answer(replaced(), REFUSED, START + 3, number=2).after
    third = next_step(refused, START + 4, POLICY, payments=[a_payment(8)]).after
    assert third.legs[2].replaces == "r-2"
    blocked = answer(third, EMPTY, START + 5, number=3).after
    paid = report(blocked, an_object()).after
    ended = next_step(paid, (paid.legs[2].next_at or 0.0) + 1, POLICY).after
    assert (ended.legs[2].status, ended.status) == (LegStatus.CANCELED, RefundStatus.SUCCEEDED)


def test_unanswered_replacement_is_looked_up_and_not_repeated() -> None:
    refund = report(answer(replaced(), NO_ANSWER, START + 3, number=2).after, an_object()).after
    while refund.status is RefundStatus.SENDING:
        at = refund.legs[1].next_at or 0.0
        decision = next_step(refund, at, POLICY)
        refund = decision.after
        if decision.calls:
            call = the_look_up(decision)
            refund = apply_reply(refund, "r-2", call, Found(()), at, POLICY, asked_at=at).after
    assert (refund.legs[1].status, refund.status) == (LegStatus.CANCELED, RefundStatus.SUCCEEDED)
    assert at > START + POLICY.quiet_seconds, "absence needs the quiet window"


def test_replacement_continues_if_the_late_object_fails() -> None:
    blocked = answer(replaced(), EMPTY, START + 3, number=2).after
    pending = report(blocked, an_object("pending")).after
    failed = report(pending, an_object("failed")).after
    decision = next_step(failed, (failed.legs[1].next_at or 0.0) + 1, POLICY)
    assert decision.after.legs[1].status is not LegStatus.CANCELED
