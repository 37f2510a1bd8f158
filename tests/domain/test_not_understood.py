"""A leg with two objects, one of which may have paid and is not understood: the other's failure decides nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.domain.builders import POLICY, START, an_object, answer, begun, found, report

from refund_worker.domain.mismatch import mismatched_status
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.processor_replies import Answered, Found, RefundObject
from refund_worker.domain.refund import ObjectReport, Refund, RefundStatus
from refund_worker.domain.state_machine import Action

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


def test_both_in_one_list_are_a_persons() -> None:
    pending = answer(begun(), Answered(an_object("pending"))).after
    both = found(pending, Found((UNKNOWN, an_object("failed"))), START + 6).after
    assert (both.status, both.failure_code) == (RefundStatus.NEEDS_ATTENTION, "unknown_status")


def test_late_failure_beside_it_returns_no_credits() -> None:
    paid = answer(begun(), Answered(an_object())).after
    failed = report(seen(paid, UNKNOWN), an_object("failed"), START + 6)
    assert (failed.after.status, failed.customer.balance) == (RefundStatus.NEEDS_ATTENTION, 0)
    resolved = apply_action(failed.after, Action.RESOLVE, START + 9, POLICY, actor="anna", reason="nothing came").after
    assert next_step(resolved, START + 10, POLICY).customer.balance == 100


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
