"""The payment check when the payment is disputed, or part of its money was refunded before."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.engine_world import World, assert_books_balance
from tests.support.payment_check import HOUR, paid_in, says, shown, stopped

from refund_worker.domain.claims.displace import resume_disputed
from refund_worker.domain.decision_builder import BLOCKED_TRIES
from refund_worker.domain.refund import RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.claims.listener import record_outside_refunds
from refund_worker.engine.refunds.process import process_due


def test_lasting_dispute_ends_readings_and_needs_a_person(asked: World) -> None:
    paid_in(asked)
    says(asked, disputed=True)
    refund_id = asked.withdraw(100)
    asked.work_for((BLOCKED_TRIES + 5) * HOUR)
    read = len(asked.processor.read)
    assert read == BLOCKED_TRIES + 1
    asked.work_for(20 * HOUR)
    assert len(asked.processor.read) == read
    assert asked.refund(refund_id).failure_code == "charge_disputed"
    assert asked.processor.sends == []


def test_dispute_that_ended_gives_all_tries_again(asked: World) -> None:
    paid_in(asked)
    says(asked, disputed=True)
    refund_id = asked.withdraw(100)
    asked.work_for((BLOCKED_TRIES + 5) * HOUR)
    resumed = resume_disputed(asked.refund(refund_id), "pay1", asked.now, asked.context.policy)
    assert resumed is not None
    (leg,) = resumed.after.legs
    assert (leg.blocked_count, leg.next_at) == (0, asked.now)


def test_disputed_payment_blocks_until_the_dispute_is_over(asked: World) -> None:
    asked.pay()
    says(asked, disputed=True)
    refund_id = asked.withdraw(100)
    asked.work_for(1.5 * asked.context.policy.retry_max_seconds)
    assert asked.refund(refund_id).status is RefundStatus.NEEDS_ATTENTION
    assert asked.refund(refund_id).failure_code == "charge_disputed"
    assert asked.processor.sends == []
    assert 1 < len(asked.processor.read) <= 3
    says(asked)
    asked.work_for(2 * asked.context.policy.retry_max_seconds)
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_retry_sends_over_a_payment_that_still_shows_disputed(asked: World) -> None:
    """At Stripe `disputed` stays true on a charge whose dispute was won."""
    asked.pay()
    says(asked, disputed=True)
    refund_id = asked.withdraw(100)
    asked.work()
    asked.command(refund_id, Action.RETRY)
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_outside_refund_takes_room_and_stops_leg_until_a_retry(asked: World) -> None:
    asked.pay()
    says(asked, refunded_minor=300)
    refund_id = asked.withdraw(50, "a")
    asked.work_for(HOUR)
    message = stopped(asked, refund_id, "refunded_elsewhere")
    assert [part for part in ("3.00 USD", "0.00 USD", "7.00 USD") if part not in message] == []
    assert shown(asked)["verified"] is True
    assert asked.request_or_code(21, "b") == "no_refundable_payment", "30 credits' worth is gone"
    asked.command(refund_id, Action.RETRY)
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert asked.processor.paid_minor() == 500
    rest = asked.withdraw(20, "c")
    asked.work()
    assert asked.refund(rest).status is RefundStatus.SUCCEEDED
    assert asked.processor.paid_minor() == 700


def test_what_goes_back_elsewhere_after_the_retry_stops_it_again(asked: World) -> None:
    asked.pay()
    says(asked, refunded_minor=300)
    refund_id = asked.withdraw(50)
    asked.work()
    says(asked, refunded_minor=400)
    asked.command(refund_id, Action.RETRY)
    asked.work()
    assert asked.refund(refund_id).failure_code == "refunded_elsewhere"
    assert asked.processor.sends == []


@pytest.mark.parametrize(
    ("reference", "end", "balance"),
    [(None, RefundStatus.PARTIALLY_SUCCEEDED, 30), ("re_by_hand", RefundStatus.SUCCEEDED, 0)],
)
def test_retry_sends_what_is_left_and_the_rest_needs_a_person(
    asked: World, reference: str | None, end: RefundStatus, balance: int
) -> None:
    asked.pay()
    says(asked, refunded_minor=300)
    refund_id = asked.withdraw(100)
    asked.work()
    for _ in range(2):
        asked.command(refund_id, Action.RETRY)
        asked.work()
        refund = asked.refund(refund_id)
        assert [(leg.amount_minor, leg.credits) for leg in refund.legs] == [(700, 70), (300, 30)]
        assert [leg.unreturnable_minor for leg in refund.legs] == [0, 0]
        assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, "refunded_elsewhere")
        assert asked.processor.paid_minor() == 700
        assert_books_balance(asked.database)
        says(asked, refunded_minor=1_000)  # the processor's total now includes our refund
    asked.command(refund_id, Action.RESOLVE, reference)
    asked.work()
    assert (asked.refund(refund_id).status, asked.account.balance) == (end, balance)


def test_two_refunds_in_one_claim_share_what_is_left_of_their_payment(asked: World) -> None:
    """Each refund was once cut to the whole remainder, and the processor refused the second."""
    asked.pay()
    says(asked, refunded_minor=300)
    both = [asked.withdraw(50, "k1"), asked.withdraw(50, "k2")]
    asked.work()
    for refund_id in both:
        asked.command(refund_id, Action.RETRY)
    asked.work()
    sent = [leg.amount_minor for refund_id in both for leg in asked.refund(refund_id).legs if leg.sends]
    assert sorted(sent) == [200, 500]
    assert asked.processor.paid_minor() == 700
    assert len(asked.processor.sends) == 2, "nothing was refused"
    left = [leg for refund_id in both for leg in asked.refund(refund_id).legs if not leg.sends]
    assert [(leg.amount_minor, leg.attention_code) for leg in left] == [(300, "refunded_elsewhere")]
    assert_books_balance(asked.database)


def test_our_own_refunds_and_those_recorded_are_no_difference(asked: World) -> None:
    """This happens after an upgrade: refunds were made over the payment before its first reading."""
    off = replace(asked.context.policy, verify_payments=False)
    on, asked.context = asked.context, replace(asked.context, policy=off)
    asked.pay(refunded_minor=100)
    asked.withdraw(20, "paid")
    asked.processor.script("ch_1", "pays", "timeout")
    asked.work()
    asked.withdraw(10, "in doubt")
    process_due(asked.context)  # reads the payment's list, because payment readings are off
    process_due(asked.context)
    asked.context = on
    says(asked, refunded_minor=100 + 200 + 100)
    refund_id = asked.withdraw(10, "c")
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED


def test_recorded_earlier_refund_takes_its_room_and_its_credits(asked: World) -> None:
    asked.pay(refunded_minor=400)
    says(asked, refunded_minor=400)
    assert asked.account.balance == 60
    assert asked.request_or_code(61, "too many") == "exceeds_refundable"
    refund_id = asked.withdraw(60)
    asked.work()
    assert asked.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert asked.processor.paid_minor() == 600


@pytest.mark.parametrize(("failed", "code"), [(True, "refunded_elsewhere"), (False, None)])
def test_earlier_refund_that_failed_explains_no_other_money(asked: World, failed: bool, code: str | None) -> None:
    asked.pay(refunded_minor=300)
    made = asked.refund_in_the_dashboard(300, status="pending")
    for status in ("pending", "failed") if failed else ("pending",):
        report = replace(made, status=status)
        asked.processor.objects[made.processor_refund_id] = report
        record_outside_refunds(asked.context, "stripe", [report], since=0.0)
    says(asked, refunded_minor=200)
    refund_id = asked.withdraw(50)
    asked.work()
    assert asked.refund(refund_id).failure_code == code
