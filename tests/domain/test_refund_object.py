"""Reports of a leg's own refund objects: their states, their order, and manual payments."""

from __future__ import annotations

import itertools
import random as randoms
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.domain.builders import (
    FIVE_HUNDRED,
    NO_ANSWER,
    NOTHING,
    POLICY,
    REFUSED,
    START,
    a_leg,
    a_refund,
    an_object,
    answer,
    apply_reply,
    begun,
    found,
    report,
    send_of,
    the_call,
)

from refund_worker.domain.decision import PaymentDelta
from refund_worker.domain.handle_reply import apply_replies
from refund_worker.domain.ledger import CLEARING, CREDITS
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.processor_calls import Fetch, RecordedReply, Send
from refund_worker.domain.processor_replies import (
    Answered,
    Blocked,
    Busy,
    Found,
    Misconfigured,
    RefundObject,
    Refused,
    Reply,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.domain.refund import KnownRefundObject, LegStatus, ObjectState, Refund, RefundStatus
from refund_worker.domain.state_machine import Action


@pytest.mark.parametrize("status", ["pending", "requires_action"])
def test_object_failed_for_funds_leaves_the_leg_open(status: str) -> None:
    open_ = answer(begun(), Answered(an_object(status))).after
    blocked = report(open_, an_object("failed", failure_code="insufficient_funds"))
    leg = blocked.after.legs[0]
    assert (leg.status, leg.attention_code, leg.attempt, leg.attempts) == (
        LegStatus.BLOCKED,
        "insufficient_funds",
        2,
        1,
    )
    assert (blocked.payments, blocked.postings) == ({}, ())
    assert [event.alarm for event in blocked.events if event.kind == "leg_unfunded"] == [True]
    again = report(blocked.after, an_object("failed", failure_code="insufficient_funds"), START + 6)
    assert (again.after.legs[0].attempt, again.events) == (2, ())


def test_restored_backup_gives_a_leg_failed_for_funds_a_new_key() -> None:
    unsent = replace(begun(), legs=(a_leg(),))
    blocked = report(unsent, an_object("failed", failure_code="insufficient_funds")).after
    assert (blocked.legs[0].status, blocked.legs[0].attempt) == (LegStatus.BLOCKED, 2)


def test_retry_of_a_leg_failed_for_funds_sends_a_new_attempt() -> None:
    failed = an_object("failed", failure_code="insufficient_funds")
    blocked = answer(begun(), Answered(failed)).after
    retried = apply_action(blocked, Action.RETRY, START + 10, POLICY, actor="anna", reason="topped up").after
    listed = found(retried, Found((failed,)), START + 11).after
    sent = the_call(next_step(listed, START + 12, POLICY))
    assert isinstance(sent, Send)
    assert (sent.attempt, sent.key) == (2, "r-1:2")


def test_failed_object_of_old_attempt_does_not_end_current_attempt() -> None:
    refund = answer(begun(), FIVE_HUNDRED).after
    refund = found(refund, NOTHING, START + 2_000).after
    refund = answer(next_step(refund, START + 2_001, POLICY).after, FIVE_HUNDRED, START + 2_002).after
    late = Found((an_object("failed"),))
    inside = found(refund, late, START + 2_100).after
    assert inside.legs[0].status is LegStatus.UNKNOWN
    assert inside.due_at is not None
    assert inside.due_at > START + 2_100, "asked again at once, for ever"
    assert found(inside, late, START + 4_000).after.legs[0].attempt == 3


def test_unknown_status_is_shown_and_polled_again() -> None:
    held = answer(begun(), Answered(an_object("thinking"))).after
    assert held.failure_code == "unknown_status"
    assert held.due_at is not None
    call = the_call(next_step(held, held.due_at, POLICY))
    assert call == Fetch("r-1", "stripe", "re_1")
    assert report(held, an_object("succeeded")).after.status is RefundStatus.SUCCEEDED


def test_late_unknown_status_keeps_the_state_beside_a_manual_payment() -> None:
    """Two payments were made, and a stale answer shows the processor's in a status that we do not know."""
    lost = answer(begun(), Unanswered("500", server_error=True)).after
    parked = found(lost, Found(()), START + 80_000).after
    paid = apply_action(parked, Action.RESOLVE, START + 80_001, POLICY, actor="op", reason="x", reference="t-1").after
    twice = report(paid, an_object(), START + 80_100).after
    stale = report(twice, an_object("thinking"), START + 80_200)
    assert [item.state for item in stale.objects] == [ObjectState.SUCCEEDED]
    assert (stale.after.legs[0].objects, stale.after.status) == (twice.legs[0].objects, RefundStatus.NEEDS_ATTENTION)
    assert (stale.after.failure_code, stale.postings) == ("refunded_twice", ())


def test_late_unknown_status_asks_nobody_again_about_two_payments() -> None:
    lost = answer(begun(), Unanswered("500", server_error=True)).after
    parked = found(lost, Found(()), START + 80_000).after
    paid = apply_action(parked, Action.RESOLVE, START + 80_001, POLICY, actor="op", reason="x", reference="t-1").after
    twice = report(paid, an_object(), START + 80_100).after
    seen = apply_action(twice, Action.RESOLVE, START + 80_200, POLICY, actor="op", reason="both are right").after
    stale = report(seen, an_object("thinking"), START + 80_300).after
    assert (seen.status, stale.status) == (RefundStatus.SUCCEEDED, RefundStatus.SUCCEEDED)
    assert stale.legs[0].attention_code is None


def test_late_unknown_status_opens_no_failed_object() -> None:
    """The first attempt's object has failed. Its report of before comes while the second attempt waits."""
    failed = an_object("failed", failure_code="insufficient_funds")
    blocked = answer(begun(), Answered(failed)).after
    stale = report(blocked, an_object("thinking"), START + 6)
    assert [item.state for item in stale.objects] == [ObjectState.FAILED]
    assert [event.kind for event in stale.events if event.alarm] == ["unknown_status"]
    assert stale.after.legs == blocked.legs


def test_late_failure_returns_the_credits_once_with_an_alarm() -> None:
    paid = answer(begun(), Answered(an_object())).after
    failed = report(paid, an_object("failed"))
    assert failed.after.status is RefundStatus.REVERSING
    assert any(event.alarm for event in failed.events)
    assert failed.payments == {"pay1": PaymentDelta(-100, -1_000)}
    given_back = next_step(failed.after, START + 10, POLICY)
    assert given_back.after.status is RefundStatus.FAILED
    assert (given_back.customer.balance, given_back.customer.withdrawn) == (100, -100)
    for _ in range(3):
        again = report(given_back.after, an_object("failed"))
        assert (again.after.status, again.postings, again.customer.balance) == (RefundStatus.FAILED, (), 0)
        assert next_step(again.after, START + 20, POLICY).postings == ()


def test_processor_record_takes_precedence_over_an_operator() -> None:
    parked = answer(begun(), Blocked("balance_insufficient", "not now")).after
    reversing = apply_action(parked, Action.RESOLVE, START + 5, POLICY, actor="op", reason="x").after
    given_back = next_step(reversing, START + 6, POLICY).after
    assert (given_back.status, given_back.reversed_credits) == (RefundStatus.FAILED, 100)
    contradicted = report(given_back, an_object())
    assert contradicted.after.status is RefundStatus.SUCCEEDED
    assert contradicted.customer.balance == -100
    assert contradicted.after.reversed_credits == 0
    assert any(event.alarm for event in contradicted.events)


@pytest.mark.parametrize("state", ["failed", "canceled"])
def test_manual_payment_stays_if_the_processors_object_fails(state: str) -> None:
    """The lost call is executed hours later and its object fails: the customer has the money that was sent manually."""
    lost = answer(begun(), Unanswered("500", server_error=True)).after
    parked = found(lost, Found(()), START + 80_000).after
    assert parked.status is RefundStatus.NEEDS_ATTENTION
    paid = apply_action(parked, Action.RESOLVE, START + 80_001, POLICY, actor="op", reason="x", reference="t-1").after
    reported = report(paid, an_object(state, failure_code="declined"), START + 90_000)
    assert (reported.after.status, reported.after.legs[0].processor_refund_id) == (RefundStatus.SUCCEEDED, "manual:t-1")
    assert (reported.postings, reported.customer.balance, reported.payments) == ((), 0, {})
    assert [seen.object.status for seen in reported.objects] == [state], "it is known from now on"


def test_manual_payment_yields_to_the_processors_payment() -> None:
    parked = answer(begun(), Blocked("balance_insufficient", "not now")).after
    paid = apply_action(parked, Action.RESOLVE, START + 5, POLICY, actor="op", reason="x", reference="cheque-7").after
    assert (paid.status, paid.legs[0].processor_refund_id) == (RefundStatus.SUCCEEDED, "manual:cheque-7")
    reported = report(paid, an_object())
    assert reported.after.legs[0].processor_refund_id == "re_1"
    assert any(event.alarm for event in reported.events)
    assert (
        sum(e.amount for p in reported.postings for e in p.entries if e.account == CLEARING and e.unit == CREDITS) == 0
    )


def test_two_live_objects_need_a_person() -> None:
    paid = answer(begun(), Answered(an_object())).after
    twice = report(paid, an_object(name="re_2", attempt=None))
    assert (twice.after.status, twice.after.failure_code) == (RefundStatus.NEEDS_ATTENTION, "refunded_twice")
    assert twice.postings == ()


def test_object_of_a_leg_that_another_one_replaced_needs_a_person() -> None:
    """The processor refused the first leg for good, and pays it nevertheless after the second one has paid."""
    first = a_leg(status=LegStatus.FAILED, reallocated=True, failure_code="declined")
    second = a_leg(2, status=LegStatus.SUCCEEDED, replaces="r-1", processor_refund_id="re_2")
    refund = a_refund(first, second, status=RefundStatus.SUCCEEDED, ledger_posted=True)
    twice = report(refund, an_object())
    assert (twice.after.status, twice.after.failure_code) == (RefundStatus.NEEDS_ATTENTION, "refunded_twice")


def test_posted_one_of_two_live_objects_stays_in_any_order() -> None:
    paid = answer(begun(), Answered(an_object())).after
    twice = report(paid, an_object(name="re_2", attempt=None)).after
    leg = twice.legs[0]
    swapped = replace(twice, legs=(replace(leg, objects=tuple(reversed(leg.objects))),))
    third = report(swapped, an_object("pending", name="re_3", attempt=None))
    assert third.postings == ()
    assert third.after.legs[0].processor_refund_id == "re_1"


POLL_TROUBLE = [Misconfigured("not_found", "gone"), UnknownRefusal("odd", ""), Answered(an_object("in_review"))]


@pytest.mark.parametrize("trouble", POLL_TROUBLE, ids=lambda reply: type(reply).__name__)
def test_pending_refund_needs_no_person_once_a_poll_is_answered(trouble: Reply) -> None:
    answered = Answered(an_object("pending"))
    refund = answer(begun(), answered).after
    for reply, status in ((trouble, RefundStatus.NEEDS_ATTENTION), (answered, RefundStatus.PENDING)):
        at = refund.due_at or 0.0
        refund = apply_reply(refund, "r-1", the_call(next_step(refund, at, POLICY)), reply, at, POLICY).after
        assert refund.status is status
    assert refund.legs[0].attention_code is None


def test_answered_poll_does_not_hide_a_second_refund() -> None:
    refund = answer(begun(), Answered(an_object("pending"))).after
    twice = report(refund, an_object("pending", name="re_2", attempt=None)).after
    again = report(twice, an_object("pending"), START + 9).after
    assert again.failure_code == "refunded_twice"


LATE = [NO_ANSWER, Refused("declined", "no"), Blocked("balance_insufficient", "not now"), Busy("rate_limit")]


@pytest.mark.parametrize("reply", LATE, ids=lambda reply: type(reply).__name__)
@pytest.mark.parametrize(("state", "code"), [("pending", None), ("failed", "insufficient_funds")])
def test_late_answer_to_a_send_decides_nothing(state: str, code: str | None, reply: Reply) -> None:
    refund = begun()
    reported = report(refund, an_object(state, failure_code=code)).after
    late = apply_reply(reported, "r-1", send_of(refund), reply, START + 9, POLICY)
    assert late.after.legs == reported.legs
    assert late.after.status is reported.status


def test_late_answer_after_a_webhook_event_changes_nothing() -> None:
    refund = begun()
    reported = report(refund, an_object()).after
    late = apply_reply(reported, "r-1", send_of(refund), Answered(an_object()), START + 9, POLICY)
    assert late.after.status is RefundStatus.SUCCEEDED
    assert (late.postings, late.payments, late.customer.balance) == ((), {}, 0)
    silence = apply_reply(reported, "r-1", send_of(refund), NO_ANSWER, START + 9, POLICY)
    assert silence.after.status is RefundStatus.SUCCEEDED


REPORTS = st.lists(
    st.tuples(st.sampled_from(["re_1", "re_2"]), st.sampled_from(["pending", "succeeded", "failed"])),
    min_size=1,
    max_size=6,
)


@given(REPORTS, st.randoms(use_true_random=False), st.booleans())
def test_reports_in_any_order_and_repetition_give_the_same_end(
    reports: list[tuple[str, str]], random: randoms.Random, together: bool
) -> None:
    """Compare legs, refund, money and credits. Only the posted one of two live objects depends on which came first."""
    refund_objects = [an_object(status, name) for name, status in reports]
    mixed = [*refund_objects, *refund_objects]
    random.shuffle(mixed)
    ends = [_after(refund_objects, together=False), _after(mixed, together)]
    assert ends[0] == ends[1]


def _after(refund_objects: list[RefundObject], together: bool) -> object:
    """Return the refund's end and its effect on the ledger, when no report is left."""
    refund, balance, sums = begun(), 0, {"clearing": 0, "money": 0}
    batches = [refund_objects] if together else [[item] for item in refund_objects]
    ids: list[str] = []
    for batch in batches:
        decisions = [
            apply_replies(refund, [RecordedReply("r", "r-1", None, Answered(t)) for t in batch], START + 1, POLICY)
        ]
        while (refund := decisions[-1].after).status is RefundStatus.REVERSING or (
            refund.legs[0].status is LegStatus.FAILED and not refund.legs[0].reallocated
        ):
            decisions.append(next_step(refund, START + 2, POLICY))
        for decision in decisions:
            balance += decision.customer.balance
            for posting in decision.postings:
                ids.append(posting.transaction_id)
                sums["clearing"] += sum(e.amount for e in posting.entries if e.account == CLEARING)
                sums["money"] += sum(e.amount for e in posting.entries if e.account.startswith("processor:"))
    assert len(ids) == len(set(ids))
    leg = refund.legs[0]
    return (
        refund.status,
        leg.status,
        leg.attention_code,
        balance,
        sums["clearing"],
        sums["money"],
        sorted(_states(refund)),
    )


def _states(refund: Refund) -> list[tuple[str, ObjectState]]:
    return [(seen.processor_refund_id, seen.state) for seen in refund.legs[0].objects]


def test_object_state_only_moves_forward() -> None:
    for first, then in itertools.product(["succeeded", "failed"], ["pending", "requires_action"]):
        reported = report(begun(), an_object(first)).after
        assert report(reported, an_object(then)).after.legs[0].objects == (
            KnownRefundObject("re_1", ObjectState(first), 1),
        )


def test_credits_not_returned_yet_are_not_taken_again() -> None:
    """Leg 1 failed and its credits were returned.

    Leg 2 fails late. Before its credits are returned, another object of it pays.
    """
    refund = begun(a_leg(), a_leg(2))
    refund = answer(refund, Answered(an_object(name="re_2", number=2)), number=2).after
    refund = next_step(answer(refund, REFUSED).after, START + 2, POLICY).after
    refund = next_step(refund, START + 3, POLICY).after
    assert (refund.status, refund.reversed_credits) == (RefundStatus.PARTIALLY_SUCCEEDED, 100)
    failed = report(refund, an_object("failed", name="re_2", number=2)).after
    assert failed.status is RefundStatus.REVERSING
    paid = report(failed, an_object(name="re_3", number=2))
    assert (paid.after.status, paid.after.reversed_credits) == (RefundStatus.PARTIALLY_SUCCEEDED, 100)
    assert paid.customer.balance == 0
    assert [p.kind for p in paid.postings] == ["payout"]
