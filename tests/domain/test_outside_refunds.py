"""Refunds that others made over the payment: when they stop a leg, and what a person's decision changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.domain.builders import (
    FIVE_HUNDRED,
    NOTHING,
    POLICY,
    START,
    a_leg,
    an_object,
    answer,
    begun,
    found,
    sent_again,
    status_of,
    the_call,
)
from tests.domain.outside import EMPTY, LATER, assert_stopped, blocked, list_read, listing, outside_refund, retried

from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.outside_refunds import CLOCK_DIFFERENCE_SECONDS
from refund_worker.domain.payment_check import PaymentFacts, proved_by, with_sent
from refund_worker.domain.processor_calls import LookUp
from refund_worker.domain.processor_replies import (
    Found,
    Refused,
    SearchReply,
    Unanswered,
)
from refund_worker.domain.refund import LegStatus, RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.errors import ActionNotAllowed


def test_repeated_send_takes_no_money_twice() -> None:
    leg = a_leg(last_sent_at=START)
    facts = {
        "pay1": PaymentFacts(payment_id="pay1", amount_minor=1_000, currency="USD", outside_minor=1, ours_minor=1_000)
    }
    assert with_sent(facts, (leg,), (replace(leg, last_sent_at=START + 60),)) == facts
    assert with_sent(facts, (a_leg(),), (leg,))["pay1"].ours_minor == 2_000


# --- what stops it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [START - 10**6, START - CLOCK_DIFFERENCE_SECONDS, START, LATER])
@pytest.mark.parametrize("status", ["succeeded", "pending", "requires_action", "in_review"])
def test_live_outside_refund_stops_the_leg_whenever_it_was_made(at: float, status: str) -> None:
    assert_stopped(list_read(blocked(), listing(outside_refund(at=at, status=status))), "re_x")


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_failed_outside_refund_does_not_stop_the_leg(status: str) -> None:
    assert list_read(blocked(), listing(outside_refund(status=status))).after.legs[0].listed_at == LATER


@pytest.mark.parametrize(("seconds", "stops"), [(-301, False), (-300, True), (0, True)])
def test_records_explain_only_refunds_before_the_first_intent(seconds: float, stops: bool) -> None:
    decision = list_read(blocked(), listing(outside_refund(at=START + seconds), explained_minor=1_000))
    assert bool(decision.after.legs[0].blocked_by) is stops


def test_refund_between_two_attempts_counts_however_late_it_appears() -> None:
    refund = blocked()
    leg = replace(refund.legs[0], attempt=2, first_intent_at=START, first_sent_at=START + 1_500)
    made = outside_refund(at=START + 700)
    assert_stopped(list_read(replace(refund, legs=(leg,)), listing(made, explained_minor=9_999)), "re_x")


@pytest.mark.parametrize(("explained", "stops"), [(1_499, True), (1_500, False)])
def test_more_money_gone_than_recorded_stops_the_leg(explained: int, stops: bool) -> None:
    old = [outside_refund("re_a", START - 9_999, 1_000), outside_refund("re_b", START - 9_998, 500)]
    decision = list_read(blocked(), listing(*old, explained_minor=explained))
    assert decision.after.legs[0].blocked_by == (("re_a", "re_b") if stops else ())


def test_first_intent_counts_over_all_attempts() -> None:
    again = blocked(next_step(list_read(blocked(), NOTHING).after, LATER, POLICY).after)
    again = replace(again, legs=(replace(again.legs[0], next_at=LATER + 900),))
    made = outside_refund(at=START + 5)
    assert_stopped(list_read(again, listing(made, explained_minor=9_999), LATER + 900), "re_x")


@pytest.mark.parametrize(
    "reply", [FIVE_HUNDRED, Refused("expired_or_canceled_card", "no"), EMPTY], ids=lambda r: type(r).__name__
)
def test_leg_in_doubt_is_stopped_once_nothing_can_land(reply: SearchReply) -> None:
    """The same holds if the send was refused for good meanwhile: the customer has the money of this payment."""
    silent = answer(begun(), Unanswered("timeout")).after
    refund = answer(sent_again(silent, START + 500).after, reply, START + 501).after
    early = found(refund, listing(outside_refund()), START + 1_499).after
    assert early.legs[0].status is LegStatus.UNKNOWN
    assert_stopped(found(early, listing(outside_refund()), START + 1_501), "re_x")


def test_outside_refund_stops_a_leg_whose_own_outcome_stays_unknown() -> None:
    """After the key's life our own send may have paid too. A retry asks about it before a new key is possible."""
    at = START + 20_000
    silent = answer(begun(), Unanswered("timeout")).after
    stopped = found(silent, listing(outside_refund()), at)
    assert_stopped(stopped, "re_x")
    with pytest.raises(ActionNotAllowed, match="the processor may still pay"):
        apply_action(stopped.after, Action.RESOLVE, at, POLICY, actor="op", reason="x")
    again = found(retried(stopped.after), listing(outside_refund()), at + 10).after
    assert (again.status, again.failure_code) == (RefundStatus.NEEDS_ATTENTION, "outcome_unknown")
    assert again.legs[0].attempt == 1


def test_outside_refund_stops_a_leg_whose_own_outcome_is_known() -> None:
    silent = answer(begun(), Unanswered("timeout")).after
    stopped = found(silent, listing(outside_refund()), START + 2_000).after
    assert not stopped.legs[0].unanswered
    reverse = apply_action(stopped, Action.RESOLVE, START + 2_001, POLICY, actor="op", reason="x")
    assert reverse.after.status is RefundStatus.REVERSING


def test_own_object_takes_precedence_over_outside_refunds() -> None:
    paid = found(answer(begun(), FIVE_HUNDRED).after, Found((an_object(),), (outside_refund(),)), START + 50)
    assert paid.after.status is RefundStatus.SUCCEEDED
    mismatched = list_read(blocked(), Found((an_object(amount_minor=7),), (outside_refund(),)))
    assert (status_of(mismatched), mismatched.after.failure_code) == (LegStatus.BLOCKED, "answer_mismatch")
    assert mismatched.after.due_at is None


# --- what a person has seen -------------------------------------------------------------------------------------------


def test_retry_accepts_seen_refunds_and_newer_ones_stop_it() -> None:
    stopped = list_read(blocked(), listing(outside_refund("re_a"))).after
    again = retried(stopped)
    assert (again.legs[0].acknowledged_outside, again.legs[0].blocked_by) == (("re_a",), ())
    assert found(again, listing(outside_refund("re_a")), LATER).after.legs[0].status is LegStatus.WAITING
    both = found(again, listing(outside_refund("re_a"), outside_refund("re_b")), LATER)
    assert_stopped(both, "re_b")
    assert retried(both.after).legs[0].acknowledged_outside == ("re_a", "re_b")


@pytest.mark.parametrize("code", ["amount_exceeds_unrefunded", "charge_already_refunded"])
def test_seen_refunds_stop_leg_if_processor_has_nothing_left(code: str) -> None:
    again = retried(list_read(blocked(), listing(outside_refund())).after)
    sent = next_step(found(again, listing(outside_refund()), LATER).after, LATER, POLICY).after
    refused = answer(sent, Refused("amount_exceeds_unrefunded", "no", more_than_left=True), LATER + 1).after
    assert isinstance(the_call(next_step(refused, LATER + 1, POLICY)), LookUp)
    assert_stopped(found(refused, listing(outside_refund()), LATER + 2), "re_x")


def test_another_legs_refund_proves_nothing_about_this_payment() -> None:
    refund_object = an_object(currency="HUF", payment_refs=())
    assert proved_by(a_leg(1), refund_object) is not None
    assert proved_by(a_leg(2), refund_object) is None
