"""Manual payments while an answer of the processor is missing."""

from __future__ import annotations

import itertools
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
    apply_reply,
    begun,
    look_up_of,
    report,
    the_call,
)
from tests.domain.outside import LATER

from refund_worker.domain.handle_reply import apply_replies
from refund_worker.domain.ledger import MANUAL
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.processor_calls import LookUp, RecordedReply
from refund_worker.domain.processor_replies import (
    Answered,
    Found,
    Unanswered,
)
from refund_worker.domain.refund import Refund, RefundStatus
from refund_worker.domain.state_machine import Action, available_actions

# --- paid by hand while the answer is missing -------------------------------------------------------------------------


def paid_manually(reference: str = "bank-1") -> Refund:
    """Return a refund that a person paid manually while the answer was missing."""
    in_doubt = answer(begun(), FIVE_HUNDRED).after
    assert available_actions(in_doubt) == (Action.RESOLVE,)
    resolved = apply_action(in_doubt, Action.RESOLVE, START + 60, POLICY, actor="op", reason="x", reference=reference)
    assert resolved.after.status is RefundStatus.SUCCEEDED
    return resolved.after


def test_manual_payment_is_watched_until_nothing_can_land() -> None:
    refund, look_ups = paid_manually(), 0
    while refund.due_at is not None:
        at = refund.due_at
        call = the_call(next_step(refund, at, POLICY))
        assert isinstance(call, LookUp)
        refund = apply_reply(refund, "r-1", call, NOTHING, at, POLICY, asked_at=at).after
        look_ups += 1
        assert refund.status is RefundStatus.SUCCEEDED
    assert 5 < look_ups < 20
    assert at == START + 1_000


def test_watch_of_a_manual_payment_backs_off_without_answers() -> None:
    refund, waits = paid_manually(), []
    for _ in range(8):
        at = refund.due_at or 0.0
        call = the_call(next_step(refund, at, POLICY))
        refund = apply_reply(refund, "r-1", call, Unanswered("timeout"), at, POLICY, asked_at=at).after
        waits.append((refund.due_at or 0) - at)
    assert waits[0] > 0
    assert waits[-1] > 50 * waits[0]


STATUSES = ("pending", "succeeded", "in_review", None)


@pytest.mark.parametrize("unasked", [True, False], ids=["reported unasked", "found in the list"])
@pytest.mark.parametrize("status", STATUSES, ids=str)
def test_own_object_in_addition_to_a_manual_payment_alarms_once(status: str | None, unasked: bool) -> None:
    refund, alarms = paid_manually(), 0
    for step in range(3):
        at = START + 70 + step
        call, reply = (
            (None, Answered(an_object(status))) if unasked else (look_up_of(refund), Found((an_object(status),)))
        )
        decision = apply_reply(refund, "r-1", call, reply, at, POLICY, asked_at=at)
        alarms += sum(event.alarm for event in decision.events)
        refund = decision.after
        assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, "refunded_twice")
    assert (alarms, refund.due_at) == (1, None)
    assert available_actions(refund) == (Action.RETRY, Action.RESOLVE)


@pytest.mark.parametrize("status", STATUSES, ids=str)
def test_own_object_after_the_watch_alarms_once(status: str | None) -> None:
    """Nothing is in doubt any more, and still an object of ours comes: also one of a status that we do not know."""
    refund, alarms = paid_manually(), 0
    legs = tuple(replace(leg, in_doubt=None, next_at=None) for leg in refund.legs)
    refund = replace(refund, legs=legs, due_at=None)
    for step in range(3):
        decision = report(refund, an_object(status), START + 70_000 + step)
        alarms += sum(event.alarm for event in decision.events)
        refund = decision.after
        assert refund.status is RefundStatus.NEEDS_ATTENTION
        assert refund.failure_code == "refunded_twice"
    assert (alarms, refund.due_at) == (1, None)


def test_retry_acknowledges_a_refund_paid_twice() -> None:
    twice = report(paid_manually(), an_object()).after
    seen = apply_action(twice, Action.RETRY, START + 90, POLICY, actor="op", reason="claimed back from the customer")
    assert (seen.after.status, seen.after.failure_code) == (RefundStatus.SUCCEEDED, None)
    assert (seen.calls, seen.postings) == ((), ())


@pytest.mark.parametrize("order", [*itertools.permutations(("pending", "failed", "failed"))])
def test_failed_own_object_leaves_the_manual_payment(order: tuple[str, ...]) -> None:
    reported = [RecordedReply("r", "r-1", None, Answered(an_object(status))) for status in order]
    refund = apply_replies(paid_manually(), reported, LATER, POLICY).after
    assert (refund.status, refund.legs[0].processor_refund_id) == (RefundStatus.SUCCEEDED, "manual:bank-1")
    assert refund.legs[0].attention_code is None


@pytest.mark.parametrize("decided", [False, True], ids=["at once", "after a person's decision"])
def test_manual_payment_counts_again_once_our_own_object_has_failed(decided: bool) -> None:
    """The customer keeps the manual payment, so no credits go back. An alarm follows if a person has decided."""
    twice = report(paid_manually(), an_object())
    assert twice.after.legs[0].processor_refund_id == "re_1"
    seen = apply_action(twice.after, Action.RETRY, START + 90, POLICY, actor="op", reason="claimed back").after
    failed = report(seen if decided else twice.after, an_object("failed"), LATER)
    refund = failed.after
    assert (refund.status, refund.legs[0].processor_refund_id) == (RefundStatus.SUCCEEDED, "manual:bank-1")
    assert (refund.legs[0].attention_code, refund.reversed_credits, failed.customer.balance) == (None, 0, 0)
    assert any(event.alarm for event in failed.events) is decided
    moved = sum(e.amount for p in failed.postings for e in p.entries if e.account == MANUAL)
    assert moved == -1_000, "the manual payment is in the ledger again"


def test_each_posting_of_changing_payments_has_an_id_of_its_own() -> None:
    refund, ids = paid_manually(), list[str]()
    for name, status in [("re_1", "succeeded"), ("re_1", "failed"), ("re_2", "succeeded"), ("re_2", "failed")]:
        decision = report(refund, an_object(status, name), LATER)
        refund, ids = decision.after, [*ids, *(posting.transaction_id for posting in decision.postings)]
    assert refund.legs[0].processor_refund_id == "manual:bank-1"
    assert len(set(ids)) == len(ids) == 8


def test_failed_object_named_as_reference_is_no_manual_payment() -> None:
    """After it has failed, another object of ours that fails leaves nothing that pays the leg."""
    refund = report(paid_manually("re_1"), an_object("failed")).after
    for status in ("succeeded", "failed"):
        refund = report(refund, an_object(status, "re_2"), LATER).after
    assert refund.status is RefundStatus.REVERSING


def test_manual_payment_that_names_our_object_is_that_object() -> None:
    reported = report(paid_manually("re_1"), an_object())
    assert (reported.after.status, reported.after.legs[0].processor_refund_id) == (RefundStatus.SUCCEEDED, "re_1")
    assert not any(event.alarm for event in reported.events)
    failed = report(paid_manually("re_1"), an_object("failed"))
    assert failed.after.status is RefundStatus.REVERSING, "what the person named has come back"


def test_pending_leg_stays_when_the_rest_is_paid_manually() -> None:
    refund = answer(begun(a_leg(), a_leg(2)), FIVE_HUNDRED).after
    refund = answer(refund, Answered(an_object("pending", "re_2", 2)), number=2).after
    resolved = apply_action(
        refund, Action.RESOLVE, START + 60, POLICY, actor="op", reason="x", reference="bank-1"
    ).after
    assert [leg.status for leg in resolved.legs] == ["succeeded", "pending"]


def test_no_action_is_offered_while_a_call_is_under_way() -> None:
    refund = answer(begun(a_leg(), a_leg(2)), FIVE_HUNDRED).after
    assert [leg.status for leg in refund.legs] == ["unknown", "sending"]
    assert available_actions(refund) == ()
