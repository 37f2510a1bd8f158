"""Replies of a processor, and missing replies: one test for each rule."""

from __future__ import annotations

from dataclasses import replace

import pytest
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
    look_up_of,
    sent_again,
    status_of,
    the_call,
    the_look_up,
    unanswered,
    verify_of,
)

from refund_worker.domain.decision import Event, PaymentDelta, Policy, ProcessorDenied
from refund_worker.domain.decision_builder import BLOCKED_TRIES
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.payment_check import PaymentFacts
from refund_worker.domain.processor_calls import LookUp, Send
from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Answered,
    Blocked,
    Busy,
    Denied,
    Found,
    KeyConflict,
    Misconfigured,
    NotSent,
    Reply,
    UnknownRefusal,
)
from refund_worker.domain.refund import LegStatus, ObjectState, RefundStatus, RefusalKind
from refund_worker.domain.retrying import BACKOFFS_BEFORE_ATTENTION
from refund_worker.domain.state_machine import Action, available_actions
from refund_worker.domain.timing import backoff_seconds

EVERY_REPLY: list[Reply] = [
    Answered(an_object()),
    REFUSED,
    AlreadyRefunded("nothing left"),
    Blocked("balance_insufficient", "not now"),
    Busy("rate_limit", 7.0),
    NotSent("connection refused"),
    NO_ANSWER,
    FIVE_HUNDRED,
    Denied("authentication_error", "bad key"),
    Misconfigured("resource_missing", "no such charge"),
    KeyConflict("other parameters"),
    UnknownRefusal("odd", "no"),
    Denied("parameter_unknown", "our form", maybe_kept=True),
]


@pytest.mark.parametrize("account", ["stripe:old", "stripe:old/acct_1"])
def test_refused_key_concerns_the_account_that_it_belongs_to(account: str) -> None:
    decision = answer(begun(a_leg(processor=account)), Denied("authentication_error", "bad key"))
    assert decision.pauses == (ProcessorDenied("stripe:old", "authentication_error", "bad key"),)


@pytest.mark.parametrize(
    ("reply", "leg", "refund"),
    [
        (Answered(an_object("succeeded")), "succeeded", "succeeded"),
        (Answered(an_object("pending")), "pending", "pending"),
        (Answered(an_object("requires_action")), "requires_action", "pending"),
        (Answered(an_object("failed")), "failed", "sending"),
        (Answered(an_object("canceled")), "canceled", "reversing"),
        (Answered(an_object("thinking")), "pending", "needs_attention"),
        (Answered(an_object(None)), "pending", "needs_attention"),
        (Answered(an_object(amount_minor=999)), "unknown", "needs_attention"),
        (REFUSED, "failed", "sending"),
        (AlreadyRefunded("nothing left"), "unknown", "sending"),
        (Blocked("balance_insufficient", "not now"), "blocked", "needs_attention"),
        (Busy("rate_limit"), "waiting", "sending"),
        (NotSent("refused"), "waiting", "sending"),
        (NO_ANSWER, "unknown", "sending"),
        (FIVE_HUNDRED, "unknown", "sending"),
        (Denied("authentication_error", "bad key"), "waiting", "sending"),
        (Misconfigured("resource_missing", "no such charge"), "blocked", "needs_attention"),
        (KeyConflict("other parameters"), "blocked", "needs_attention"),
        (UnknownRefusal("odd", "no"), "blocked", "needs_attention"),
        (Denied("parameter_unknown", "our form", maybe_kept=True), "unknown", "sending"),
        (Answered(an_object("failed", failure_code="insufficient_funds")), "blocked", "needs_attention"),
        (Answered(an_object("canceled", failure_code="insufficient_funds")), "canceled", "reversing"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_each_answer_to_a_first_send_gives_its_status(reply: Reply, leg: str, refund: str) -> None:
    decision = answer(begun(), reply)
    assert (status_of(decision), decision.after.status) == (leg, refund)


@pytest.mark.parametrize("reply", EVERY_REPLY[1:], ids=lambda reply: type(reply).__name__)
def test_no_answer_without_an_object_ends_an_unanswered_leg(reply: Reply) -> None:
    again = sent_again(unanswered(), START + 500).after
    assert again.legs[0].status is LegStatus.SENDING
    decision = answer(again, reply, START + 501)
    assert status_of(decision) is LegStatus.UNKNOWN
    assert decision.payments == {}
    assert decision.postings == ()
    assert decision.after.legs[0].attempt == 1


def test_set_up_fault_gets_a_new_key_only_after_a_look_up() -> None:
    reported = answer(begun(), Denied("parameter_unknown", "our form", maybe_kept=True))
    assert reported.pauses == (ProcessorDenied("stripe", "parameter_unknown", "our form"),)
    leg = reported.after.legs[0]
    assert (leg.attempt, leg.attention_code, reported.payments, reported.postings) == (1, None, {}, ())
    later = leg.next_at or 0
    the_look_up(next_step(reported.after, later, POLICY))
    absent = found(reported.after, NOTHING, later).after
    sent = the_call(next_step(absent, later, POLICY))
    assert isinstance(sent, Send)
    assert (sent.attempt, sent.key) == (2, "r-1:2")


def test_set_up_fault_after_no_answer_waits_for_the_quiet_window() -> None:
    again = sent_again(unanswered(), START + 500).after
    reported = answer(again, Denied("parameter_unknown", "our form", maybe_kept=True), START + 501).after
    soon = found(reported, NOTHING, START + 900)
    assert (status_of(soon), soon.after.legs[0].attempt) == (LegStatus.UNKNOWN, 1)
    late = found(soon.after, NOTHING, START + 500 + 1_000)
    assert (status_of(late), late.after.legs[0].attempt) == (LegStatus.WAITING, 2)


def test_stored_answer_is_not_requested_again_while_a_call_is_open() -> None:
    again = sent_again(unanswered(), START + 500).after
    reported = answer(again, Denied("parameter_unknown", "our form", maybe_kept=True), START + 501).after
    at = reported.due_at or 0
    waiting = next_step(reported, at, POLICY)
    call = the_call(waiting)
    assert isinstance(call, LookUp)
    listed = apply_reply(waiting.after, call.leg_id, call, NOTHING, at, POLICY, asked_at=at).after
    the_look_up(next_step(listed, listed.due_at or 0, POLICY))


def test_unknown_refusal_keeps_its_text_and_waits_for_proof() -> None:
    reported = answer(begun(), UnknownRefusal("odd", "no"))
    direct = reported.after
    assert (direct.failure_code, direct.failure_message) == ("unknown_refusal", "odd: no")
    assert [event.detail for event in reported.events if event.alarm] == [{"said": "odd: no"}]
    assert available_actions(direct) == (Action.RETRY, Action.RESOLVE)
    again = sent_again(unanswered(), START + 500).after
    doubted = answer(again, UnknownRefusal("odd", "no"), START + 501)
    assert status_of(doubted) is LegStatus.UNKNOWN
    listed = found(doubted.after, NOTHING, START + 500 + 1_000)
    assert (status_of(listed), listed.after.failure_code) == (LegStatus.BLOCKED, "unknown_refusal")


def test_repeated_block_alarms_once() -> None:
    refund, alarms = begun(), 0
    for number in range(5):
        reported = answer(refund, Blocked("balance_insufficient", "not now"), START + 1 + 700 * number)
        alarms += sum(event.alarm for event in reported.events)
        refund = sent_again(reported.after, START + 700 * (number + 1)).after
    assert (refund.legs[0].attempt, alarms) == (6, 1)


@pytest.mark.parametrize("without_answer", [0, 100])
def test_only_refused_tries_end_the_tries_of_a_blocked_leg(without_answer: int) -> None:
    refund, tried_again = begun(), []
    for number in range(BLOCKED_TRIES + 1):
        if number:
            refund = sent_again(refund, START + 700 * number).after
        refund = replace(refund, legs=(replace(refund.legs[0], retry_count=without_answer),))
        refund = answer(refund, Blocked("balance_insufficient", "not now"), START + 1 + 700 * number).after
        tried_again.append(refund.legs[0].next_at is not None)
        assert refund.legs[0].retry_count == 0, "the processor has answered"
    assert tried_again == [True] * BLOCKED_TRIES + [False]
    retried = apply_action(refund, Action.RETRY, START + 10**6, POLICY, actor="anna", reason="topped up")
    assert retried.after.legs[0].blocked_count == 0


def test_object_that_was_accepted_begins_the_tries_again() -> None:
    blocked = answer(begun(), Blocked("balance_insufficient", "not now")).after
    assert blocked.legs[0].blocked_count == 1
    accepted = answer(sent_again(blocked, START + 700).after, Answered(an_object(ObjectState.PENDING)), START + 701)
    assert accepted.after.legs[0].blocked_count == 0


@pytest.mark.parametrize("reply", [NO_ANSWER, FIVE_HUNDRED])
def test_missing_answer_is_never_a_refusal(reply: Reply) -> None:
    refund = begun()
    for number in range(40):
        refund = answer(refund, reply, START + number).after
        assert refund.legs[0].status is LegStatus.UNKNOWN
        refund = replace(refund, legs=(replace(refund.legs[0], status=LegStatus.SENDING),))
    assert refund.legs[0].attempt == 1


def test_refusal_after_no_answer_is_looked_up_first() -> None:
    again = sent_again(unanswered(), START + 500).after
    refused = answer(again, REFUSED, START + 501).after
    assert refused.legs[0].refusal is RefusalKind.REFUSED
    the_look_up(next_step(refused, START + 501, POLICY))


def test_refusal_after_no_answer_counts_after_the_quiet_window() -> None:
    again = sent_again(unanswered(), START + 500).after
    refused = answer(again, REFUSED, START + 501).after
    early = found(refused, NOTHING, START + 1_499)
    assert status_of(early) is LegStatus.UNKNOWN
    late = found(refused, NOTHING, START + 1_501)
    assert status_of(late) is LegStatus.FAILED
    assert late.payments == {"pay1": PaymentDelta(-100, -1_000)}


def test_refusal_after_no_answer_yields_to_a_payment() -> None:
    again = sent_again(unanswered(), START + 500).after
    refused = answer(again, REFUSED, START + 501).after
    assert found(refused, Found((an_object(),)), START + 502).after.status is RefundStatus.SUCCEEDED


def test_unanswered_send_is_repeated_under_the_same_key() -> None:
    decision = sent_again(unanswered(), START + 500)
    call = the_call(decision)
    assert isinstance(call, Send)
    assert (call.key, call.attempt) == ("r-1:1", 1)
    assert decision.after.legs[0].sends == 2


def test_server_error_is_looked_up_and_not_replayed() -> None:
    refund = answer(begun(), FIVE_HUNDRED).after
    the_look_up(next_step(refund, START + 500, POLICY))


def test_new_attempt_waits_for_the_quiet_window_of_the_last_send() -> None:
    again = sent_again(unanswered(), START + 900).after  # the second send, 900 s after the first
    refund = answer(again, FIVE_HUNDRED, START + 901).after
    assert found(refund, NOTHING, START + 1_100).after.legs[0].attempt == 1
    assert found(refund, NOTHING, START + 1_899.9).after.legs[0].attempt == 1
    proved = found(refund, NOTHING, START + 1_900).after
    assert (proved.legs[0].attempt, proved.legs[0].status, proved.legs[0].sends) == (2, LegStatus.WAITING, 0)
    call = the_call(next_step(proved, START + 1_901, POLICY))
    assert isinstance(call, Send)
    assert call.key == "r-1:2"


def test_quiet_window_is_measured_at_the_question_not_the_answer() -> None:
    refund = answer(begun(), FIVE_HUNDRED).after
    asked_early = found(refund, NOTHING, START + 1_300, asked_at=START + 999)
    assert asked_early.after.legs[0].attempt == 1
    assert asked_early.after.due_at is not None
    assert found(refund, NOTHING, START + 1_300, asked_at=START + 1_000).after.legs[0].attempt == 2


def test_miss_in_the_quiet_window_is_repeated_until_its_end() -> None:
    refund = answer(begun(), FIVE_HUNDRED).after
    at = START + 2
    for _ in range(100):
        refund = found(refund, NOTHING, at).after
        if refund.legs[0].status is not LegStatus.UNKNOWN:
            break
        assert refund.due_at is not None
        assert at < refund.due_at <= START + 1_000
        at = refund.due_at
    assert refund.legs[0].attempt == 2
    assert at == START + 1_000


def test_send_is_never_replayed_after_the_life_of_its_key() -> None:
    refund = unanswered()
    inside = the_call(sent_again(refund, START + POLICY.key_life_seconds - 1))
    assert isinstance(inside, Send)
    assert inside.key == "r-1:1"
    for after in (POLICY.key_life_seconds, POLICY.key_life_seconds + 1, 10**7):
        call = the_call(next_step(refund, START + after, POLICY))
        assert isinstance(call, LookUp)
        assert not call.before_sending


def test_repeat_never_lands_on_a_forgotten_key() -> None:
    """Found by the simulation (seed 2060303): a repeat in the twentieth hour was on its way for four hours."""
    policy = Policy()
    refund = answer(next_step(a_refund(), START, policy).after, NO_ANSWER).after
    last = START + policy.rules_of("stripe").key_seconds - policy.quiet_seconds - policy.lease_seconds
    refund = replace(refund, legs=(replace(refund.legs[0], next_at=last),))
    assert last - START < policy.key_life_seconds
    assert isinstance(the_call(sent_again(refund, last, policy)), Send)
    too_late = the_call(next_step(refund, last + 1, policy))
    assert isinstance(too_late, LookUp)
    assert not too_late.before_sending


def test_unknown_outcome_after_key_life_needs_a_person() -> None:
    decision = found(unanswered(), NOTHING, START + 20_000)
    assert decision.after.status is RefundStatus.NEEDS_ATTENTION
    assert decision.after.failure_code == "outcome_unknown"
    assert decision.after.due_at is None
    assert decision.payments == {}
    assert any(event.alarm for event in decision.events)


def test_retry_asks_the_processor_first() -> None:
    parked = found(unanswered(), NOTHING, START + 20_000).after
    retried = apply_action(parked, Action.RETRY, START + 30_000, POLICY, actor="op", reason="try").after
    assert retried.status is RefundStatus.SENDING
    the_look_up(next_step(retried, START + 30_000, POLICY))
    assert found(retried, Found((an_object(),)), START + 30_001).after.status is RefundStatus.SUCCEEDED
    assert found(retried, NOTHING, START + 30_001).after.legs[0].attempt == 2


@pytest.mark.parametrize("reply", [NO_ANSWER, NotSent("refused"), Busy("rate_limit", 7.0), Found(()), REFUSED])
def test_late_look_up_answer_does_not_wake_a_leg_that_waits(reply: Reply) -> None:
    leg = replace(begun().legs[0], status=LegStatus.BLOCKED, attention_code="refunded_elsewhere", next_at=None)
    refund = replace(begun(), legs=(leg,))
    for call in (look_up_of(refund), replace(look_up_of(refund), before_sending=True), verify_of(refund)):
        decision = apply_reply(refund, "r-1", call, reply, START + 5, POLICY, asked_at=START + 4)
        assert (status_of(decision), decision.after.due_at) == (LegStatus.BLOCKED, None)


def test_rate_limit_costs_no_attempt_and_sets_the_wait() -> None:
    decision = answer(begun(), Busy("rate_limit", 400.0))
    assert decision.after.legs[0].attempt == 1
    assert decision.after.due_at == START + 1 + 400
    call = the_call(sent_again(decision.after, START + 500))
    assert isinstance(call, Send)
    assert call.key == "r-1:1"


def test_denied_pauses_the_processor_and_fails_nothing() -> None:
    decision = answer(begun(), Denied("authentication_error", "bad key"))
    assert decision.pauses == (ProcessorDenied("stripe", "authentication_error", "bad key"),)
    assert decision.after.status is RefundStatus.SENDING
    assert decision.payments == {}


def test_look_up_that_is_denied_pauses_the_processor_too() -> None:
    decision = found(unanswered(), Denied("authentication_error", "bad key"), START + 20)
    assert decision.pauses == (ProcessorDenied("stripe", "authentication_error", "bad key"),)
    assert status_of(decision) is LegStatus.UNKNOWN


def test_unreachable_processor_is_shown_and_still_tried() -> None:
    refund, at = begun(), START
    for _ in range(BACKOFFS_BEFORE_ATTENTION):
        waited = answer(refund, NotSent("refused"), at + 1).after
        assert waited.legs[0].next_at is not None, "the next try is planned, however many there were"
        at = waited.legs[0].next_at
        refund = sent_again(waited, at).after
    assert waited.status is RefundStatus.NEEDS_ATTENTION
    assert waited.failure_code == "processor_unreachable"
    assert refund.legs[0].status is LegStatus.SENDING


def test_backoff_grows_to_its_limit_and_is_spread_by_a_quarter() -> None:
    waits = [backoff_seconds(POLICY, a_leg(retry_count=n)) for n in range(40)]
    for number, seconds in enumerate(waits):
        ideal = min(POLICY.retry_base_seconds * 2**number, POLICY.retry_max_seconds)
        assert 0.75 * ideal <= seconds <= 1.25 * ideal
    assert waits == [backoff_seconds(POLICY, a_leg(retry_count=n)) for n in range(40)]


REPLAYED = replace(REFUSED, replayed=True)


def test_replayed_refusal_settles_the_unanswered_send_too() -> None:
    again = sent_again(unanswered(), START + 500).after
    refused = answer(again, REPLAYED, START + 501)
    assert status_of(refused) is LegStatus.FAILED
    assert refused.payments == {"pay1": PaymentDelta(-100, -1_000)}


def test_replayed_refusal_is_no_proof_if_a_copy_outlives_the_key() -> None:
    """The key's life ends at 10,000 seconds. A send may land up to 1,000 seconds later."""
    for sent_at, status in ((9_000.0, LegStatus.FAILED), (9_001.0, LegStatus.UNKNOWN)):
        again = sent_again(unanswered(), START + sent_at).after
        assert status_of(answer(again, REPLAYED, START + sent_at + 1)) is status


def test_replayed_refusal_is_no_proof_if_the_key_age_is_unknown() -> None:
    again = sent_again(unanswered(), START + 500).after
    assert status_of(answer(again, REPLAYED, START - 86_400)) is LegStatus.UNKNOWN


def test_replayed_already_refunded_is_looked_up_at_once() -> None:
    again = sent_again(unanswered(), START + 500).after
    reported = answer(again, AlreadyRefunded("nothing left", replayed=True), START + 501).after
    the_look_up(next_step(reported, START + 501, POLICY))
    shown = found(reported, NOTHING, START + 502)
    assert (status_of(shown), shown.after.failure_code) == (LegStatus.BLOCKED, "charge_already_refunded")


def test_defaults_of_event_details_and_captured_amount() -> None:
    assert Event("refund_paid", "processor").detail == {}
    assert PaymentFacts(payment_id="pay1", amount_minor=500, currency="USD").expected_minor == 500


def test_each_step_of_a_leg_records_its_details() -> None:
    (sent,) = [event for event in next_step(a_refund(), START, POLICY).events if event.kind == "leg_sent"]
    assert (sent.from_status, sent.to_status, sent.detail) == ("planned", "sending", {"attempt": 1, "send": 1})
    refused = answer(begun(), REFUSED).events
    assert [event.detail for event in refused if event.kind == "leg_refused"] == [{}]
