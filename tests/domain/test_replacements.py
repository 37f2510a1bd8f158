"""Legs that replace a refused one, when the processor has a refund for the refused one after all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.domain.builders import (
    NO_ANSWER,
    POLICY,
    START,
    a_leg,
    an_object,
    answer,
    apply_reply,
    begun,
    report,
    the_look_up,
)
from tests.domain.test_allocation import a_payment

from refund_worker.domain.decision import PaymentDelta, SendBlock
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.processor_calls import Send
from refund_worker.domain.processor_replies import Blocked, Found, Misconfigured, RefundObject, Refused, Reply
from refund_worker.domain.refund import Leg, LegStatus, Refund, RefundStatus
from refund_worker.domain.replacements import returned_too_much, uncovered
from refund_worker.domain.state_machine import POLLED, Action

REFUSED = Refused("declined", "no")
EMPTY = Blocked("balance_insufficient", "not now")
PAID = {LegStatus.SUCCEEDED, *POLLED}


def second_object(status: str = "succeeded") -> RefundObject:
    """Return an object for the second leg."""
    return an_object(status, name="re_9", number=2, payment_refs=("ch_9",))


def replaced() -> Refund:
    """Return a refund whose first leg was refused, and whose second one replaces it and was sent."""
    sent = next_step(answer(begun(), REFUSED).after, START + 2, POLICY, payments=[a_payment(9)]).after
    assert sent.legs[1].status is LegStatus.SENDING
    return sent


def replied(reply: Reply) -> Refund:
    """Return the same refund after this reply to the second leg's send."""
    return answer(replaced(), reply, START + 3, number=2).after


def run(refund: Refund, *, payments: int = 0) -> Refund:
    """Run the refund until nothing is due; its sends get no answer, and its look-ups find nothing."""
    for _ in range(100):
        due_at = min((leg.next_at for leg in refund.legs if leg.next_at is not None), default=refund.updated_at)
        others = [a_payment(20 + number) for number in range(payments)]
        decision = next_step(refund, max(due_at, refund.updated_at) + 1, POLICY, payments=others)
        refund = decision.after
        if [call for call in decision.calls if isinstance(call, Send)]:
            return refund
        if refund.status in (RefundStatus.SUCCEEDED, RefundStatus.FAILED, RefundStatus.PENDING):
            return refund
    return refund


def total(refund: Refund) -> int:
    """Return the credits that are paid, may be paid, or went back to the balance."""
    live = sum(leg.credits for leg in refund.legs if leg.status not in (LegStatus.FAILED, LegStatus.CANCELED))
    return live + sum(leg.reversed_credits for leg in refund.legs)


@pytest.mark.parametrize("reply", [EMPTY, Misconfigured("resource_missing", "no such payment")])
@pytest.mark.parametrize("status", ["succeeded", "pending", "requires_action"])
def test_replacement_is_canceled_if_the_replaced_leg_is_paid(status: str, reply: Reply) -> None:
    decision = report(replied(reply), an_object(status))
    refund = decision.after
    assert (refund.legs[1].status, refund.legs[1].failure_code) == (LegStatus.CANCELED, None)
    assert refund.status is (RefundStatus.SUCCEEDED if status == "succeeded" else RefundStatus.PENDING)
    assert (total(refund), refund.reversed_credits) == (100, 0)
    assert decision.payments == {"pay1": PaymentDelta(100, 1_000), "pay9": PaymentDelta(-100, -1_000)}


def test_replacement_that_was_never_sent_is_canceled() -> None:
    refused = answer(begun(), REFUSED).after
    paused = {"stripe": SendBlock(START + 100)}
    waiting = next_step(refused, START + 2, POLICY, payments=[a_payment(9)], paused=paused).after
    assert waiting.legs[1].status is LegStatus.PLANNED
    assert report(waiting, an_object()).after.legs[1].status is LegStatus.CANCELED


def test_replacement_of_a_replacement_is_canceled_too() -> None:
    third = next_step(replied(REFUSED), START + 4, POLICY, payments=[a_payment(8)]).after
    assert third.legs[2].replaces == "r-2"
    refund = report(answer(third, EMPTY, START + 5, number=3).after, an_object()).after
    assert (refund.legs[2].status, refund.status, total(refund)) == (LegStatus.CANCELED, RefundStatus.SUCCEEDED, 100)


def test_replacement_refused_for_now_after_the_report_is_canceled() -> None:
    paid = report(replaced(), an_object()).after
    refund = run(answer(paid, EMPTY, START + 6, number=2).after)
    assert (refund.legs[1].status, refund.status, total(refund)) == (LegStatus.CANCELED, RefundStatus.SUCCEEDED, 100)


def test_leg_and_its_replacement_are_never_both_sent_again() -> None:
    pending = report(replaced(), an_object("pending")).after
    unfunded = report(pending, an_object("failed", failure_code="insufficient_funds")).after
    both = answer(unfunded, EMPTY, START + 7, number=2).after
    assert [leg.status for leg in both.legs] == [LegStatus.BLOCKED, LegStatus.BLOCKED]
    refund = run(both)
    refund = next_step(refund, (refund.legs[1].next_at or refund.updated_at) + 1, POLICY).after
    assert (refund.legs[1].status, total(refund)) == (LegStatus.CANCELED, 100)


def test_refused_replacement_of_a_paid_leg_returns_no_credits() -> None:
    paid = report(replaced(), an_object()).after
    refund = run(answer(paid, REFUSED, START + 6, number=2).after, payments=1)
    assert (len(refund.legs), refund.status, total(refund)) == (2, RefundStatus.SUCCEEDED, 100)


def test_unanswered_replacement_is_looked_up_and_not_repeated() -> None:
    refund = report(replied(NO_ANSWER), an_object()).after
    while refund.status is RefundStatus.SENDING:
        at = refund.legs[1].next_at or 0.0
        decision = next_step(refund, at, POLICY)
        refund = decision.after
        if decision.calls:
            call = the_look_up(decision)
            refund = apply_reply(refund, "r-2", call, Found(()), at, POLICY, asked_at=at).after
    assert (refund.legs[1].status, refund.status) == (LegStatus.CANCELED, RefundStatus.SUCCEEDED)
    assert at > START + POLICY.quiet_seconds, "absence needs the quiet window"


@pytest.mark.parametrize("payments", [0, 1])
@pytest.mark.parametrize("reply", [EMPTY, NO_ANSWER])
def test_late_object_that_fails_pays_and_returns_nothing_twice(reply: Reply, payments: int) -> None:
    pending = report(replied(reply), an_object("pending")).after
    refund = run(report(pending, an_object("failed")).after, payments=payments)
    assert total(refund) == 100
    assert sum(leg.amount_minor for leg in refund.legs if leg.status in {*PAID, LegStatus.SENDING}) <= 1_000


@pytest.mark.parametrize("payments", [0, 1])
@pytest.mark.parametrize(("first", "second"), [("pending", "succeeded"), ("succeeded", "succeeded")])
def test_surplus_object_that_is_canceled_pays_and_returns_nothing(first: str, second: str, payments: int) -> None:
    """The console's advice for `refunded_twice`: cancel the surplus refund at the processor."""
    twice = report(report(replaced(), second_object(second)).after, an_object(first)).after
    assert (twice.status, twice.failure_code) == (RefundStatus.NEEDS_ATTENTION, "refunded_twice")
    refund = run(report(twice, an_object("canceled")).after, payments=payments)
    assert (len(refund.legs), refund.status, total(refund)) == (2, RefundStatus.SUCCEEDED, 100)


def test_later_loss_of_the_replacement_returns_nothing_either() -> None:
    twice = report(report(replaced(), second_object()).after, an_object()).after
    refund = run(report(twice, second_object("failed")).after)
    assert total(refund) == 100


def test_giving_credits_back_beside_a_paid_leg_returns_nothing() -> None:
    unknown = answer(
        report(replaced(), an_object()).after, Misconfigured("resource_missing", "no"), START + 6, number=2
    )
    assert unknown.after.status is RefundStatus.NEEDS_ATTENTION
    ended = apply_action(unknown.after, Action.RESOLVE, START + 9, POLICY, actor="op", reason="paid already").after
    assert (ended.status, total(ended)) == (RefundStatus.SUCCEEDED, 100)


def test_credits_returned_for_the_replacement_are_taken_again() -> None:
    returned = run(replied(REFUSED))
    assert (returned.status, returned.reversed_credits) == (RefundStatus.FAILED, 100)
    decision = report(returned, an_object())
    assert (decision.after.status, decision.after.reversed_credits) == (RefundStatus.SUCCEEDED, 0)
    assert (decision.customer.balance, total(decision.after)) == (-100, 100)


def family(*members: tuple[LegStatus, int, int]) -> dict[str, Leg]:
    """Return legs of which all but the first replace the first, as (status, credits, returned credits)."""
    found = {}
    for number, (status, credits, returned) in enumerate(members, 1):
        leg = a_leg(number, status=status, credits=credits, amount_minor=10 * credits)
        parent = "r-1" if number > 1 else None
        found[leg.leg_id] = replace(leg, replaces=parent, reversed_credits=returned, reallocated=True)
    return found


@pytest.mark.parametrize(
    ("others", "expected", "too_much"),
    [
        ([], (1_000, 100), 0),
        ([(LegStatus.SENDING, 60, 0)], (400, 40), 0),
        ([(LegStatus.FAILED, 60, 60)], (400, 40), 60),
        ([(LegStatus.PENDING, 60, 0), (LegStatus.CANCELED, 40, 40)], (0, 0), 40),
        ([(LegStatus.SUCCEEDED, 100, 0), (LegStatus.SUCCEEDED, 100, 0)], (0, 0), 0),
    ],
)
def test_uncovered_is_what_no_other_leg_pays_or_has_returned(
    others: list[tuple[LegStatus, int, int]], expected: tuple[int, int], too_much: int
) -> None:
    legs = family((LegStatus.FAILED, 100, 0), *others)
    assert uncovered(legs["r-1"], legs) == expected
    assert returned_too_much(legs["r-1"], legs) == too_much


# --- splits: the first leg is refused, and its money goes over two payments ------------------------------------------


def split_over(*parts: tuple[int, int], first: tuple[int, int] = (1_000, 100)) -> Refund:
    """Return a refund whose first leg, of (minor units, credits), was refused and replaced over such payments."""
    leg = a_leg(amount_minor=first[0], credits=first[1], payment_credits=first[1])
    others = [a_payment(20 + number, minor, credits) for number, (minor, credits) in enumerate(parts)]
    return next_step(answer(begun(leg), REFUSED).after, START + 2, POLICY, payments=others).after


def numbered(refund: Refund, amount_minor: int) -> int:
    """Return the number of the replacement of this amount."""
    return next(n for n, leg in enumerate(refund.legs, 1) if n > 1 and leg.amount_minor == amount_minor)


def of_leg(number: int, amount_minor: int, status: str, **changes: object) -> RefundObject:
    """Return an object for a leg."""
    values = {"name": f"re_{number}", "amount_minor": amount_minor, "payment_refs": (), **changes}
    return an_object(status, number=number, **values)  # type: ignore[arg-type]


def test_credits_worth_less_than_a_minor_unit_are_returned() -> None:
    refund = split_over((4, 1_000), first=(5, 7))
    assert (refund.legs[1].credits, refund.legs[0].reversed_credits) == (6, 1)
    pending = report(refund, of_leg(1, 5, "pending")).after
    failed = next_step(report(pending, of_leg(1, 5, "failed")).after, START + 9, POLICY).after
    assert (total(failed), failed.legs[0].reversed_credits) == (7, 1)


def test_money_of_an_uneven_split_is_replaced_whole() -> None:
    refund = split_over((501, 100), (499, 100), first=(1_000, 3))
    pending = report(refund, of_leg(1, 1_000, "pending")).after
    refused = answer(pending, REFUSED, START + 6, number=numbered(refund, 499)).after
    settled = next_step(refused, START + 7, POLICY).after
    again = next_step(
        report(settled, of_leg(1, 1_000, "failed")).after, START + 9, POLICY, payments=[a_payment(8, 9_999, 100)]
    ).after
    live = [leg for leg in again.legs if leg.status not in (LegStatus.FAILED, LegStatus.CANCELED)]
    assert (sorted(leg.amount_minor for leg in live), total(again)) == ([499, 501], 3)


def test_leg_that_pays_again_has_no_returned_credits() -> None:
    refund = split_over((400, 40), (600, 60))
    small, large = numbered(refund, 400), numbered(refund, 600)
    returned = next_step(answer(refund, REFUSED, START + 3, number=small).after, START + 4, POLICY).after
    assert returned.legs[small - 1].reversed_credits == 40
    refused = answer(returned, REFUSED, START + 5, number=large).after
    pending = report(refused, of_leg(small, 400, "pending")).after
    assert pending.legs[small - 1].reversed_credits == 0
    paid = report(next_step(pending, START + 6, POLICY).after, of_leg(small, 400, "succeeded")).after
    lost = run(report(next_step(paid, START + 8, POLICY).after, of_leg(small, 400, "failed")).after)
    assert (lost.status, lost.reversed_credits) == (RefundStatus.FAILED, 100)


def test_credits_of_a_leg_that_stays_unpaid_stay_returned() -> None:
    """The second replacement is canceled because the first one pays: only that one counts."""
    refund = split_over((600, 60))
    third = next_step(
        answer(refund, REFUSED, START + 3, number=2).after, START + 4, POLICY, payments=[a_payment(8, 600, 60)]
    ).after
    missing = Misconfigured("resource_missing", "no such payment")
    stopped = answer(third, missing, START + 5, number=3).after
    paid = report(stopped, of_leg(2, 600, "succeeded")).after
    assert [leg.reversed_credits for leg in paid.legs] == [40, 0, 0]
    assert (paid.legs[2].status, total(paid)) == (LegStatus.CANCELED, 100)


def test_one_manual_payment_is_counted_once() -> None:
    pending = report(replaced(), an_object("pending")).after
    unfunded = report(pending, an_object("failed", failure_code="insufficient_funds")).after
    both = answer(unfunded, EMPTY, START + 7, number=2).after
    decision = apply_action(both, Action.RESOLVE, START + 9, POLICY, actor="op", reason="paid", reference="bank1")
    assert (len(decision.postings), total(decision.after)) == (1, 100)
    assert decision.after.status is RefundStatus.SUCCEEDED


def test_family_paid_twice_needs_a_person_beside_an_unpaid_one() -> None:
    refund = answer(answer(begun(a_leg(), a_leg(2)), REFUSED).after, REFUSED, number=2).after
    third = next_step(refund, START + 2, POLICY, payments=[a_payment(9)]).after
    paid = report(third, of_leg(3, 1_000, "succeeded")).after
    twice = report(next_step(paid, START + 4, POLICY).after, an_object()).after
    assert (twice.status, twice.failure_code) == (RefundStatus.NEEDS_ATTENTION, "refunded_twice")


def test_payment_of_a_canceled_replacement_can_be_used_again() -> None:
    pending = report(replied(EMPTY), an_object("pending")).after
    failed = report(pending, an_object("failed")).after
    refund = next_step(failed, START + 9, POLICY, payments=[a_payment(9)]).after
    assert [(leg.payment_id, leg.status) for leg in refund.legs[1:]] == [
        ("pay9", LegStatus.CANCELED),
        ("pay9", LegStatus.SENDING),
    ]
