"""A leg with two objects, one of which may have paid and is not understood: the other's failure decides nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.domain.builders import POLICY, START, a_leg, a_refund, an_object, answer, begun, found, report

from refund_worker.domain.handle_reply import apply_replies
from refund_worker.domain.mismatch import mismatched_status
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.processor_calls import RecordedReply
from refund_worker.domain.processor_replies import Answered, Found, RefundObject
from refund_worker.domain.refund import KnownRefundObject, LegStatus, ObjectReport, ObjectState, Refund, RefundStatus
from refund_worker.domain.state_machine import Action

FAILED = KnownRefundObject("re_1", ObjectState.FAILED, 1)
UNKNOWN = an_object("thinking", name="re_9")
FALSE_AMOUNT = an_object("pending", name="re_9", amount_minor=1)


def seen(refund: Refund, item: RefundObject) -> Refund:
    """Return the refund after a report of the object, as it is loaded the next time."""
    after = report(refund, item, START + 5).after
    fits = item.amount_minor == 1_000
    status = item.status if fits else mismatched_status(item, "1 USD instead of 1000 USD")
    as_stored = ObjectReport(item.processor_refund_id, status, START, START, item.details)
    return replace(after, legs=(replace(after.legs[0], reports=(as_stored,)),))


def failed_beside(second: RefundObject, failure_code: str = "declined") -> Refund:
    pending = answer(begun(), Answered(an_object("pending"))).after
    failed = report(seen(pending, second), an_object("failed", failure_code=failure_code), START + 6)
    assert [event.kind for event in failed.events if event.alarm] == ["leg_object_failed"]
    assert failed.postings == ()
    return failed.after


@pytest.mark.parametrize("failure_code", ["declined", "insufficient_funds"])
@pytest.mark.parametrize("second", [UNKNOWN, FALSE_AMOUNT])
def test_failure_beside_it_is_a_persons(second: RefundObject, failure_code: str) -> None:
    """Nothing is sent again, no other payment pays, and no credits go back until a person decides."""
    refund = failed_beside(second, failure_code)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, "unknown_status")
    assert refund.failure_message is not None
    assert "re_9" in refund.failure_message
    later = next_step(refund, START + 80_000, POLICY)
    assert (later.postings, later.calls, later.after.legs[0].reallocated) == ((), (), False)
    retried = apply_action(refund, Action.RETRY, START + 10, POLICY, actor="anna", reason="again")
    assert (retried.after.status, retried.postings) == (RefundStatus.NEEDS_ATTENTION, ())
    resolved = apply_action(refund, Action.RESOLVE, START + 10, POLICY, actor="anna", reason="nothing was paid").after
    given_back = next_step(resolved, START + 11, POLICY)
    assert (given_back.after.status, given_back.customer.balance) == (RefundStatus.FAILED, 100)


@pytest.mark.parametrize("second", [UNKNOWN, FALSE_AMOUNT])
@pytest.mark.parametrize("ended", ["failed", "canceled"])
@pytest.mark.parametrize("first", [0, 1])
def test_order_in_a_list_decides_nothing(second: RefundObject, ended: str, first: int) -> None:
    pending = answer(begun(), Answered(an_object("pending"))).after
    both = (second, an_object(ended))
    after = found(pending, Found(both if first == 0 else both[::-1]), START + 6).after
    assert (after.status, after.failure_code) == (RefundStatus.NEEDS_ATTENTION, "unknown_status")
    assert next_step(after, START + 80_000, POLICY).postings == ()


def test_it_is_in_time_until_the_money_goes_another_way() -> None:
    """The failure came first, and the object is reported before the next step. Later it only raises an alarm."""
    failed = report(answer(begun(), Answered(an_object("pending"))).after, an_object("failed"), START + 5).after
    in_time = report(failed, UNKNOWN, START + 6).after
    assert (in_time.status, in_time.failure_code) == (RefundStatus.NEEDS_ATTENTION, "unknown_status")
    placed = next_step(next_step(failed, START + 6, POLICY).after, START + 7, POLICY).after
    assert placed.status is RefundStatus.FAILED
    late = report(placed, UNKNOWN, START + 8)
    assert (late.after.legs[0].attention_code, late.after.legs[0].reallocated) == (None, True)
    assert [event.kind for event in late.events if event.alarm] == ["unknown_status"]


def ended_beside(state: str, first: str) -> Refund:
    """Return a refund whose object, `first` pending or succeeded, ended as `state` beside one of an unknown status."""
    shown = seen(answer(begun(), Answered(an_object(first))).after, UNKNOWN)
    after = report(shown, an_object(state), START + 6)
    assert (after.after.status, after.customer.balance) == (RefundStatus.NEEDS_ATTENTION, 0)
    return after.after


@pytest.mark.parametrize(("state", "first"), [("failed", "succeeded"), ("canceled", "pending")])
def test_credits_go_back_once_a_person_says_that_nothing_was_paid(state: str, first: str) -> None:
    refund = ended_beside(state, first)
    resolved = apply_action(refund, Action.RESOLVE, START + 9, POLICY, actor="anna", reason="nothing came").after
    assert next_step(resolved, START + 10, POLICY).customer.balance == 100


@pytest.mark.parametrize("reference", ["re_9", "bank-1"])
@pytest.mark.parametrize(("state", "first"), [("failed", "succeeded"), ("canceled", "pending"), ("failed", "pending")])
def test_person_who_names_the_payment_returns_no_credits(state: str, first: str, reference: str) -> None:
    paid = apply_action(
        ended_beside(state, first), Action.RESOLVE, START + 9, POLICY, actor="anna", reason="x", reference=reference
    ).after
    assert (paid.status, paid.legs[0].manual_reference) == (RefundStatus.SUCCEEDED, reference)
    assert next_step(paid, START + 10, POLICY).customer.balance == 0


def test_resolved_refund_is_not_opened_by_what_a_person_has_seen() -> None:
    refund = failed_beside(UNKNOWN)
    resolved = apply_action(refund, Action.RESOLVE, START + 9, POLICY, actor="anna", reason="nothing came").after
    ended = next_step(resolved, START + 10, POLICY).after
    third = report(ended, an_object("failed", name="re_3"), START + 20).after
    assert (third.status, third.legs[0].attention_code) == (RefundStatus.FAILED, None)


def sent_a_second_time() -> Refund:
    """Return a refund whose first object failed for funds, and whose second attempt made re_2, which waits."""
    blocked = answer(begun(), Answered(an_object("failed", failure_code="insufficient_funds"))).after
    at = blocked.legs[0].next_at or 0
    listed = found(next_step(blocked, at, POLICY).after, Found((an_object("failed"),)), at).after
    sent = next_step(listed, at + 1, POLICY).after
    return answer(sent, Answered(an_object("pending", name="re_2", attempt=2)), at + 2).after


def test_object_that_ended_is_no_doubt_with_any_later_status() -> None:
    refund = seen(sent_a_second_time(), an_object("thinking"))
    after = report(refund, an_object("failed", name="re_2", attempt=2), START + 90_000).after
    assert after.legs[0].attention_code is None


def test_late_status_of_an_ended_object_is_shown_once() -> None:
    refund = sent_a_second_time()
    first = report(refund, an_object("thinking"), START + 90_000)
    assert [event.kind for event in first.events if event.alarm] == ["unknown_status"]
    assert first.after.legs == refund.legs
    again = report(seen(refund, an_object("thinking")), an_object("thinking"), START + 90_001)
    assert [event for event in again.events if event.alarm] == []


def test_late_status_of_an_ended_object_takes_no_attention_away() -> None:
    refund = sent_a_second_time()
    waits = report(refund, an_object("musing", name="re_2", attempt=2), START + 90_000).after
    assert waits.legs[0].attention_code == "unknown_status"
    assert report(waits, an_object("thinking"), START + 90_001).after.legs[0].attention_code == "unknown_status"


def test_awaited_answer_about_an_ended_object_still_ends_its_leg() -> None:
    known = KnownRefundObject("re_1", ObjectState.FAILED, 1)
    leg = a_leg(status=LegStatus.UNKNOWN, sends=1, objects=(known,), last_sent_at=START, first_sent_at=START)
    refund = a_refund(leg, status=RefundStatus.SENDING, ledger_posted=True)
    assert report(refund, an_object("thinking"), START + 9).after.legs[0].status is LegStatus.FAILED


def test_object_of_one_leg_is_no_doubt_about_another() -> None:
    legs = (a_leg(status=LegStatus.PENDING, processor_refund_id="re_1"), a_leg(2, status=LegStatus.PENDING))
    refund = a_refund(*legs, status=RefundStatus.PENDING, ledger_posted=True)
    replies = [
        RecordedReply("r", "r-1", None, Answered(an_object("thinking"))),
        RecordedReply("r", "r-2", None, Answered(an_object("failed", name="re_2", number=2))),
    ]
    after = apply_replies(refund, replies, START + 9, POLICY).after
    assert [leg.attention_code for leg in after.legs] == ["unknown_status", None]


def test_its_payment_counts_once_it_is_understood() -> None:
    refund = report(failed_beside(UNKNOWN), an_object(name="re_9"), START + 20).after
    assert (refund.status, refund.legs[0].processor_refund_id) == (RefundStatus.SUCCEEDED, "re_9")


@pytest.mark.parametrize(("state", "next_status"), [("failed", "sending"), ("canceled", "reversing")])
def test_its_own_end_leaves_no_doubt(state: str, next_status: str) -> None:
    ended = report(failed_beside(UNKNOWN), an_object(state, name="re_9"), START + 20).after
    assert (ended.legs[0].attention_code, ended.status) == (None, next_status)


def test_failed_object_is_no_doubt_though_its_amount_is_false() -> None:
    pending = answer(begun(), Answered(an_object("pending"))).after
    false = an_object("failed", name="re_9", amount_minor=1)
    after = report(seen(pending, false), an_object("failed"), START + 6).after
    assert after.legs[0].attention_code is None


def test_credits_that_went_back_are_not_in_doubt_again() -> None:
    """The credits of the first leg are back. The second leg fails late, and its credits are about to go back."""
    first = a_leg(status=LegStatus.FAILED, reallocated=True, reversed_credits=100, objects=(FAILED,))
    second = a_leg(2, status=LegStatus.SUCCEEDED, processor_refund_id="re_2")
    refund = a_refund(first, second, status=RefundStatus.PARTIALLY_SUCCEEDED, ledger_posted=True, reversed_credits=100)
    failed = report(refund, an_object("failed", name="re_2", number=2), START + 5).after
    late = report(failed, UNKNOWN, START + 6).after
    assert late.legs[0].attention_code is None
    done = late
    for second_later in range(5):
        done = next_step(done, START + 7 + second_later, POLICY).after
    assert (done.status, done.reversed_credits, done.due_at) == (RefundStatus.FAILED, 200, None)


def test_refund_that_was_never_posted_is_not_held() -> None:
    leg = a_leg(status=LegStatus.CANCELED, failure_message="called off")
    late = report(a_refund(leg, status=RefundStatus.CANCELED), UNKNOWN, START + 5)
    assert (late.after.status, late.after.legs[0].attention_code) == (RefundStatus.CANCELED, None)
    assert [event.kind for event in late.events if event.alarm] == ["unknown_status"]
