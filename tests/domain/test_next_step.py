"""Due refunds: posting, returning credits, other payments, and the calls that follow."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.domain.builders import (
    POLICY,
    REFUSED,
    START,
    a_leg,
    a_refund,
    an_object,
    answer,
    begun,
    sent_again,
    status_of,
    the_call,
    the_look_up,
)
from tests.domain.test_allocation import a_payment

from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.decision import AccountDelta, Decision, PaymentDelta, SendBlock
from refund_worker.domain.ledger import CLEARING, CREDITS
from refund_worker.domain.next_step import attempt_key, next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.processor_calls import Send
from refund_worker.domain.processor_replies import Answered, Unanswered
from refund_worker.domain.refund import Kind, Leg, LegStatus, Refund, RefundStatus, To
from refund_worker.domain.state_machine import Action


def clearing(*decisions: Decision) -> int:
    """Return the credits that the decisions leave on the clearing account."""
    return sum(
        e.amount
        for d in decisions
        for p in d.postings
        for e in p.entries
        if e.account == CLEARING and e.unit == CREDITS
    )


@given(st.text(), st.integers(1, 99), st.integers(1, 99))
def test_key_depends_on_leg_and_attempt_alone(leg: str, one: int, other: int) -> None:
    assert attempt_key(leg, one) == attempt_key(leg, one)
    assert (attempt_key(leg, one) == attempt_key(leg, other)) == (one == other)


def test_first_step_posts_and_sends_in_one_decision() -> None:
    decision = next_step(a_refund(), START, POLICY)
    assert decision.after.ledger_posted
    assert decision.customer == AccountDelta(balance=-100, held=-100)
    call = the_call(decision)
    assert isinstance(call, Send)
    assert (call.key, call.order.amount_minor, call.order.processor_payment_id) == ("r-1:1", 1_000, "ch_1")
    assert decision.after.due_at == START + POLICY.lease_seconds
    assert clearing(decision) == 100


def test_credit_refund_to_source_raises_and_lowers_the_balance() -> None:
    decision = next_step(a_refund(kind=Kind.CREDIT_REFUND, transaction_id="t"), START, POLICY)
    assert decision.customer == AccountDelta(balance=0, net_spent=-100, withdrawn=100)
    assert [p.credits for p in decision.postings] == [100, -100]


def test_payout_of_a_correction_leaves_the_balance_unchanged() -> None:
    decision = next_step(a_refund(transaction_id="t", of_correction=True), START, POLICY)
    assert decision.customer == AccountDelta()
    assert [p.credits for p in decision.postings] == [0]
    assert clearing(decision) == 100


def test_paused_processor_delays_posting_so_cancel_stays_possible() -> None:
    held = {"stripe": SendBlock(START + 300)}
    decision = next_step(a_refund(), START, POLICY, paused=held)
    assert (decision.after.status, decision.postings, decision.calls) == (RefundStatus.QUEUED, (), ())
    assert decision.after.due_at == START + 300
    to_balance = replace(a_refund(kind=Kind.CREDIT_REFUND, to=To.BALANCE, transaction_id="t"), legs=())
    assert next_step(to_balance, START, POLICY, paused=held).after.status is RefundStatus.SUCCEEDED


@pytest.mark.parametrize("lookups_allowed", [True, False])
def test_unanswered_leg_is_looked_up_while_its_processor_is_paused(lookups_allowed: bool) -> None:
    unknown = answer(begun(), Unanswered("timeout")).after
    assert unknown.due_at is not None
    decision = next_step(
        unknown, unknown.due_at, POLICY, paused={"stripe": SendBlock(unknown.due_at + 300, lookups_allowed)}
    )
    if lookups_allowed:
        the_look_up(decision)
    else:  # this installation has no access to it
        assert (decision.calls, decision.after.due_at) == ((), unknown.due_at + 300)


def test_expired_lease_makes_the_outcome_unknown_and_replays_the_key() -> None:
    decision = sent_again(begun(), START + POLICY.lease_seconds)
    call = the_call(decision)
    assert isinstance(call, Send)
    assert call.key == "r-1:1"
    assert decision.after.legs[0].unanswered
    assert decision.after.legs[0].last_sent_at == START + POLICY.lease_seconds
    assert decision.after.legs[0].first_sent_at == START


def test_send_is_not_touched_before_its_lease_ends() -> None:
    decision = next_step(begun(), START + POLICY.lease_seconds - 1, POLICY)
    assert (decision.calls, status_of(decision)) == ((), LegStatus.SENDING)


def refused() -> Refund:
    """Return a refund whose only leg was refused."""
    return answer(begun(), REFUSED).after


def test_failed_leg_is_replaced_over_another_payment() -> None:
    decision = next_step(refused(), START + 2, POLICY, payments=[a_payment(1), a_payment(9)])
    other = decision.after.legs[1]
    assert (other.leg_id, other.payment_id, other.amount_minor, other.replaces) == ("r-2", "pay9", 1_000, "r-1")
    assert decision.after.legs[0].reallocated
    assert (decision.customer.balance, decision.payments) == (0, {"pay9": PaymentDelta(100, 1_000)})
    call = the_call(decision)
    assert isinstance(call, Send)
    assert call.key == "r-2:1"


@pytest.mark.parametrize(
    "payments",
    [
        [],
        [a_payment(1)],
        [a_payment(9, currency="EUR")],
        [a_payment(9, credits_taken=100, money_taken=1_000)],
    ],
)
def test_without_another_payment_the_credits_are_returned(payments: list[RefundablePayment]) -> None:
    decision = next_step(refused(), START + 2, POLICY, payments=payments)
    assert (decision.after.status, decision.calls) == (RefundStatus.REVERSING, ())
    ended = next_step(decision.after, START + 3, POLICY)
    assert (ended.after.status, ended.customer.balance, ended.calls) == (RefundStatus.FAILED, 100, ())
    assert next_step(ended.after, START + 4, POLICY).postings == ()


def test_rest_of_another_legs_payment_can_be_used() -> None:
    refund = begun(a_leg(), a_leg(2, payment_id="pay9", processor_payment_id="ch_9"))
    failed = answer(refund, REFUSED).after
    half_taken = a_payment(9, amount_minor=3_000, credits=300, credits_taken=100, money_taken=1_000)
    decision = next_step(failed, START + 2, POLICY, payments=[half_taken])
    third = decision.after.legs[2]
    assert (third.payment_id, third.amount_minor, third.replaces) == ("pay9", 1_000, "r-1")
    assert decision.payments == {"pay9": PaymentDelta(100, 1_000)}


def test_two_failed_legs_never_use_the_same_credits_twice() -> None:
    refund = begun(a_leg(), a_leg(2, payment_id="pay9", processor_payment_id="ch_9"))
    failed = answer(answer(refund, REFUSED).after, REFUSED, number=2).after
    last = a_payment(8, amount_minor=1_500, credits=150)
    decision = next_step(failed, START + 2, POLICY, payments=[last])
    assert [leg.amount_minor for leg in decision.after.legs[2:]] == [1_000, 500]
    assert decision.payments == {"pay8": PaymentDelta(150, 1_500)}
    assert sum(leg.reversed_credits for leg in decision.after.legs) == 50


def test_part_that_cannot_be_replaced_is_returned_once() -> None:
    small = a_payment(9, amount_minor=300, credits=30)
    decision = next_step(refused(), START + 2, POLICY, payments=[small])
    assert [leg.amount_minor for leg in decision.after.legs] == [1_000, 300]
    assert decision.after.legs[0].reversed_credits == 70
    paid = answer(
        decision.after, Answered(an_object(name="re_2", number=2, payment_refs=("ch_9",), amount_minor=300)), number=2
    )
    ended = next_step(paid.after, START + 4, POLICY)
    assert (ended.after.status, ended.customer.balance) == (RefundStatus.PARTIALLY_SUCCEEDED, 70)


def test_replacement_never_uses_a_payment_that_failed_before() -> None:
    once = next_step(refused(), START + 2, POLICY, payments=[a_payment(9)]).after
    twice = answer(once, REFUSED, number=2).after
    decision = next_step(twice, START + 4, POLICY, payments=[a_payment(1), a_payment(9)])
    assert len(decision.after.legs) == 2
    assert decision.after.status is RefundStatus.REVERSING


def with_zero_amount_leg() -> tuple[Leg, Leg]:
    """Return a usual leg and a leg of no money."""
    return a_leg(), a_leg(2, amount_minor=0, credits=3, payment_credits=3, status=LegStatus.SUCCEEDED)


def test_credits_of_a_zero_amount_leg_leave_clearing_too() -> None:
    first = next_step(a_refund(*with_zero_amount_leg()), START, POLICY)
    paid = answer(first.after, Answered(an_object()))
    assert paid.after.status is RefundStatus.SUCCEEDED
    assert clearing(first, paid) == 0
    ids = [posting.transaction_id for posting in (*first.postings, *paid.postings)]
    assert ids[-2:] == ["r-payout-2-nothing-0", "r-payout-1-re_1"], ids


def test_credits_of_a_zero_amount_leg_return_if_no_money_goes_out() -> None:
    first = next_step(a_refund(*with_zero_amount_leg()), START, POLICY)
    failed = answer(first.after, REFUSED)
    reallocated = next_step(failed.after, START + 2, POLICY)
    ended = next_step(reallocated.after, START + 3, POLICY)
    assert (ended.after.status, ended.after.reversed_credits) == (RefundStatus.FAILED, 103)
    assert clearing(first, failed, reallocated, ended) == 0


@pytest.mark.parametrize(("reference", "status", "returned"), [("du_1", "succeeded", 0), (None, "failed", 103)])
def test_zero_amount_leg_waits_for_the_decision_on_the_others(
    reference: str | None, status: str, returned: int
) -> None:
    first = next_step(a_refund(*with_zero_amount_leg()), START, POLICY)
    disputed = an_object("failed", failure_code="charge_for_pending_refund_disputed")
    stuck = answer(first.after, Answered(disputed))
    assert stuck.after.legs[1].status is LegStatus.SUCCEEDED
    resolved = apply_action(
        stuck.after, Action.RESOLVE, START + 2, POLICY, actor="op", reason="the bank", reference=reference
    )
    ended = next_step(resolved.after, START + 3, POLICY)
    assert (ended.after.status, ended.after.reversed_credits) == (status, returned)
    assert clearing(first, stuck, resolved, ended) == 0
