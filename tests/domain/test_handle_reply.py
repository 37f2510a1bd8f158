"""What a processor says, or does not say, and what follows from it: one rule a test."""

from __future__ import annotations

import itertools
import random as randoms
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.domain.builders import (
    POLICY,
    START,
    a_leg,
    a_refund,
    an_object,
    answer,
    begun,
    found,
    heard,
    look_up_of,
    news,
    send_of,
    sent_again,
    status_of,
    the_call,
    the_look_up,
    verify_of,
)

from refund_worker.domain.decision import Event, PaymentDelta, Policy, ProcessorDenied, ProcessorRules
from refund_worker.domain.handle_reply import BACKOFFS_BEFORE_ATTENTION, apply_replies
from refund_worker.domain.ledger import CLEARING, CREDITS
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.payment_check import PaymentFacts
from refund_worker.domain.processor_calls import Fetch, LookUp, RecordedReply, Send
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
    RefundObject,
    Refused,
    Reply,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.domain.refund import KnownRefundObject, LegStatus, ObjectState, Refund, RefundStatus, RefusalKind
from refund_worker.domain.state_machine import Action, available_actions
from refund_worker.domain.timing import backoff_seconds
from refund_worker.errors import ActionNotAllowed

NOTHING = Found(())
NO_ANSWER = Unanswered("timeout")
FIVE_HUNDRED = Unanswered("500", server_error=True)
REFUSED = Refused("charge_disputed", "no")
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


def silent() -> Refund:
    """A refund whose send was not answered."""
    return answer(begun(), NO_ANSWER).after


@pytest.mark.parametrize(
    ("reply", "leg", "refund"),
    [
        (Answered(an_object("succeeded")), "succeeded", "succeeded"),
        (Answered(an_object("pending")), "pending", "pending"),
        (Answered(an_object("requires_action")), "requires_action", "pending"),
        (Answered(an_object("failed")), "failed", "sending"),
        (Answered(an_object("canceled")), "canceled", "sending"),
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
        (Answered(an_object("canceled", failure_code="insufficient_funds")), "canceled", "sending"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_each_answer_to_a_first_send_leads_where_it_should(reply: Reply, leg: str, refund: str) -> None:
    decision = answer(begun(), reply)
    assert (status_of(decision), decision.after.status) == (leg, refund)


@pytest.mark.parametrize("reply", EVERY_REPLY[1:], ids=lambda reply: type(reply).__name__)
def test_after_a_silence_no_answer_without_an_object_fails_or_frees_the_leg(reply: Reply) -> None:
    again = sent_again(silent(), START + 500).after
    assert again.legs[0].status is LegStatus.SENDING
    decision = answer(again, reply, START + 501)
    assert status_of(decision) is LegStatus.UNKNOWN
    assert decision.payments == {}
    assert decision.postings == ()
    assert decision.after.legs[0].attempt == 1


def test_a_fault_of_our_set_up_gets_a_new_key_only_after_a_look_just_before_it() -> None:
    told = answer(begun(), Denied("parameter_unknown", "our form", maybe_kept=True))
    assert told.pauses == (ProcessorDenied("stripe", "parameter_unknown", "our form"),)
    leg = told.after.legs[0]
    assert (leg.attempt, leg.attention_code, told.payments, told.postings) == (1, None, {}, ())
    later = leg.next_at or 0
    the_look_up(next_step(told.after, later, POLICY))
    absent = found(told.after, NOTHING, later).after
    sent = the_call(next_step(absent, later, POLICY))
    assert isinstance(sent, Send)
    assert (sent.attempt, sent.key) == (2, "r-1:2")


def test_a_fault_of_our_set_up_after_a_silence_waits_for_the_quiet_window_before_a_new_key() -> None:
    again = sent_again(silent(), START + 500).after
    told = answer(again, Denied("parameter_unknown", "our form", maybe_kept=True), START + 501).after
    soon = found(told, NOTHING, START + 900)
    assert (status_of(soon), soon.after.legs[0].attempt) == (LegStatus.UNKNOWN, 1)
    late = found(soon.after, NOTHING, START + 500 + 1_000)
    assert (status_of(late), late.after.legs[0].attempt) == (LegStatus.WAITING, 2)


def test_an_answer_that_is_kept_is_not_asked_for_again_under_its_key_while_a_silence_is_open() -> None:
    again = sent_again(silent(), START + 500).after
    told = answer(again, Denied("parameter_unknown", "our form", maybe_kept=True), START + 501).after
    at = told.due_at or 0
    waiting = next_step(told, at, POLICY)
    call = the_call(waiting)
    assert isinstance(call, LookUp)
    looked = heard(waiting.after, call.leg_id, call, NOTHING, at, POLICY, asked_at=at).after
    the_look_up(next_step(looked, looked.due_at or 0, POLICY))


def test_an_unknown_refusal_keeps_the_processors_words_and_counts_only_once_nothing_else_can_exist() -> None:
    told = answer(begun(), UnknownRefusal("odd", "no"))
    direct = told.after
    assert (direct.failure_code, direct.failure_message) == ("unknown_refusal", "odd: no")
    assert [event.detail for event in told.events if event.alarm] == [{"said": "odd: no"}]
    assert available_actions(direct) == (Action.RETRY, Action.RESOLVE)
    again = sent_again(silent(), START + 500).after
    doubted = answer(again, UnknownRefusal("odd", "no"), START + 501)
    assert status_of(doubted) is LegStatus.UNKNOWN
    looked = found(doubted.after, NOTHING, START + 500 + 1_000)
    assert (status_of(looked), looked.after.failure_code) == (LegStatus.BLOCKED, "unknown_refusal")


@pytest.mark.parametrize("status", ["pending", "requires_action"])
def test_an_object_that_fails_for_want_of_balance_leaves_the_leg_open_for_a_fresh_attempt(status: str) -> None:
    open_ = answer(begun(), Answered(an_object(status))).after
    blocked = news(open_, an_object("failed", failure_code="insufficient_funds"))
    leg = blocked.after.legs[0]
    assert (leg.status, leg.attention_code, leg.attempt, leg.attempts) == (
        LegStatus.BLOCKED,
        "insufficient_funds",
        2,
        1,
    )
    assert (blocked.payments, blocked.postings) == ({}, ())
    assert [event.alarm for event in blocked.events if event.kind == "leg_unfunded"] == [True]
    again = news(blocked.after, an_object("failed", failure_code="insufficient_funds"), START + 6)
    assert (again.after.legs[0].attempt, again.events) == (2, ())


def test_what_a_restored_backup_does_not_know_to_be_sent_gets_a_fresh_key_when_it_failed_for_want_of_balance() -> None:
    unsent = replace(begun(), legs=(a_leg(),))
    blocked = news(unsent, an_object("failed", failure_code="insufficient_funds")).after
    assert (blocked.legs[0].status, blocked.legs[0].attempt) == (LegStatus.BLOCKED, 2)


def test_a_retry_of_what_failed_for_want_of_balance_sends_a_fresh_attempt_after_a_look() -> None:
    failed = an_object("failed", failure_code="insufficient_funds")
    blocked = answer(begun(), Answered(failed)).after
    retried = apply_action(blocked, Action.RETRY, START + 10, POLICY, actor="anna", reason="topped up").after
    looked = found(retried, Found((failed,)), START + 11).after
    sent = the_call(next_step(looked, START + 12, POLICY))
    assert isinstance(sent, Send)
    assert (sent.attempt, sent.key) == (2, "r-1:2")


def test_a_block_that_is_met_again_is_told_once() -> None:
    refund, alarms = begun(), 0
    for number in range(5):
        told = answer(refund, Blocked("balance_insufficient", "not now"), START + 1 + 700 * number)
        alarms += sum(event.alarm for event in told.events)
        refund = sent_again(told.after, START + 700 * (number + 1)).after
    assert (refund.legs[0].attempt, alarms) == (6, 1)


@pytest.mark.parametrize("reply", [NO_ANSWER, FIVE_HUNDRED])
def test_silence_is_never_refusal(reply: Reply) -> None:
    refund = begun()
    for number in range(40):
        refund = answer(refund, reply, START + number).after
        assert refund.legs[0].status is LegStatus.UNKNOWN
        refund = replace(refund, legs=(replace(refund.legs[0], status=LegStatus.SENDING),))
    assert refund.legs[0].attempt == 1


def test_a_refusal_after_silence_looks_before_it_is_believed() -> None:
    again = sent_again(silent(), START + 500).after
    refused = answer(again, REFUSED, START + 501).after
    assert refused.legs[0].refusal is RefusalKind.REFUSED
    the_look_up(next_step(refused, START + 501, POLICY))


def test_a_refusal_after_silence_stands_once_the_quiet_window_is_over_and_nothing_exists() -> None:
    again = sent_again(silent(), START + 500).after
    refused = answer(again, REFUSED, START + 501).after
    early = found(refused, NOTHING, START + 1_499)
    assert status_of(early) is LegStatus.UNKNOWN
    late = found(refused, NOTHING, START + 1_501)
    assert status_of(late) is LegStatus.FAILED
    assert late.payments == {"pay1": PaymentDelta(-100, -1_000)}


def test_a_refusal_after_silence_is_overruled_by_what_was_paid() -> None:
    again = sent_again(silent(), START + 500).after
    refused = answer(again, REFUSED, START + 501).after
    assert found(refused, Found((an_object(),)), START + 502).after.status is RefundStatus.SUCCEEDED


def test_an_unanswered_send_is_sent_again_under_the_same_key() -> None:
    decision = sent_again(silent(), START + 500)
    call = the_call(decision)
    assert isinstance(call, Send)
    assert (call.key, call.attempt) == ("r-1:1", 1)
    assert decision.after.legs[0].sends == 2


def test_a_server_error_sticks_to_its_key_so_it_is_looked_up_and_not_replayed() -> None:
    refund = answer(begun(), FIVE_HUNDRED).after
    the_look_up(next_step(refund, START + 500, POLICY))


def test_a_new_attempt_is_made_only_after_the_quiet_window_counted_from_the_last_send() -> None:
    again = sent_again(silent(), START + 900).after  # the second send, 900 s after the first
    refund = answer(again, FIVE_HUNDRED, START + 901).after
    assert found(refund, NOTHING, START + 1_100).after.legs[0].attempt == 1
    assert found(refund, NOTHING, START + 1_899.9).after.legs[0].attempt == 1
    proved = found(refund, NOTHING, START + 1_900).after
    assert (proved.legs[0].attempt, proved.legs[0].status, proved.legs[0].sends) == (2, LegStatus.WAITING, 0)
    call = the_call(next_step(proved, START + 1_901, POLICY))
    assert isinstance(call, Send)
    assert call.key == "r-1:2"


def test_the_quiet_window_is_measured_when_the_question_was_asked_not_when_it_was_answered() -> None:
    refund = answer(begun(), FIVE_HUNDRED).after
    asked_early = found(refund, NOTHING, START + 1_300, asked_at=START + 999)
    assert asked_early.after.legs[0].attempt == 1
    assert asked_early.after.due_at is not None
    assert found(refund, NOTHING, START + 1_300, asked_at=START + 1_000).after.legs[0].attempt == 2


def test_a_miss_inside_the_quiet_window_is_asked_again_later_and_at_its_end() -> None:
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


def test_after_the_life_of_its_key_a_send_is_never_replayed() -> None:
    refund = silent()
    inside = the_call(sent_again(refund, START + POLICY.key_life_seconds - 1))
    assert isinstance(inside, Send)
    assert inside.key == "r-1:1"
    for after in (POLICY.key_life_seconds, POLICY.key_life_seconds + 1, 10**7):
        call = the_call(next_step(refund, START + after, POLICY))
        assert isinstance(call, LookUp)
        assert not call.before_sending


def test_a_send_is_not_repeated_so_late_that_it_could_land_on_a_key_that_is_forgotten() -> None:
    """Found by the simulation (seed 2060303): repeated in the twentieth hour, four hours on its way."""
    policy = Policy()
    refund = answer(next_step(a_refund(), START, policy).after, NO_ANSWER).after
    last = START + policy.rules_of("stripe").key_seconds - policy.quiet_seconds - policy.lease_seconds
    refund = replace(refund, legs=(replace(refund.legs[0], next_at=last),))
    assert last - START < policy.key_life_seconds
    assert isinstance(the_call(sent_again(refund, last, policy)), Send)
    too_late = the_call(next_step(refund, last + 1, policy))
    assert isinstance(too_late, LookUp)
    assert not too_late.before_sending


def test_an_outcome_unknown_after_the_life_of_its_key_goes_to_a_person_with_its_room_kept() -> None:
    decision = found(silent(), NOTHING, START + 20_000)
    assert decision.after.status is RefundStatus.NEEDS_ATTENTION
    assert decision.after.failure_code == "outcome_unknown"
    assert decision.after.due_at is None
    assert decision.payments == {}
    assert any(event.alarm for event in decision.events)


def test_a_retry_by_a_person_asks_the_processor_first() -> None:
    parked = found(silent(), NOTHING, START + 20_000).after
    retried = apply_action(parked, Action.RETRY, START + 30_000, POLICY, actor="op", reason="try").after
    assert retried.status is RefundStatus.SENDING
    the_look_up(next_step(retried, START + 30_000, POLICY))
    assert found(retried, Found((an_object(),)), START + 30_001).after.status is RefundStatus.SUCCEEDED
    assert found(retried, NOTHING, START + 30_001).after.legs[0].attempt == 2


def test_an_older_attempts_failed_object_neither_ends_the_present_one_nor_keeps_it_from_being_proved_absent() -> None:
    refund = answer(begun(), FIVE_HUNDRED).after
    refund = found(refund, NOTHING, START + 2_000).after
    refund = answer(next_step(refund, START + 2_001, POLICY).after, FIVE_HUNDRED, START + 2_002).after
    late = Found((an_object("failed"),))
    inside = found(refund, late, START + 2_100).after
    assert inside.legs[0].status is LegStatus.UNKNOWN
    assert inside.due_at is not None
    assert inside.due_at > START + 2_100, "asked again at once, for ever"
    assert found(inside, late, START + 4_000).after.legs[0].attempt == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount_minor": 999},
        {"amount_minor": 0},
        {"currency": "EUR"},
        {"payment_refs": ("ch_other", "pi_other")},
        {"leg_id": "r-2"},
    ],
    ids=str,
)
def test_an_answer_about_something_else_is_no_evidence(wrong: dict[str, object]) -> None:
    decision = answer(begun(), Answered(replace(an_object(), **wrong)))  # type: ignore[arg-type]
    leg = decision.after.legs[0]
    assert (leg.status, leg.unanswered, leg.lookup_required, leg.objects) == (LegStatus.UNKNOWN, True, True, ())
    assert decision.postings == ()
    assert [seen.state for seen in decision.objects] in ([], [None]), (
        "kept as said, so that it is no news the next time"
    )
    assert any(event.kind == "answer_mismatch" and event.alarm for event in decision.events)


@pytest.mark.parametrize("reason", ["outcome_unknown", "refunded_elsewhere", "unknown_refusal"])
def test_an_object_that_only_bears_its_name_wakes_no_leg_that_is_with_a_person(reason: str) -> None:
    """Found by the simulation (seed 7200138): sent by itself after somebody had copied its marks."""
    leg = replace(begun().legs[0], status=LegStatus.BLOCKED, attention_code=reason, failure_code=reason, next_at=None)
    decision = news(replace(begun(), legs=(leg,)), an_object(payment_refs=("ch_other",)))
    assert any(event.kind == "answer_mismatch" and event.alarm for event in decision.events)
    assert (status_of(decision), decision.after.status) == (LegStatus.BLOCKED, RefundStatus.NEEDS_ATTENTION)
    assert (decision.after.legs[0].next_at, decision.after.due_at) == (None, None)
    assert decision.after.legs[0].attention_code == reason, "what a retry has to ask hangs on it"


def test_a_retry_reads_the_payment_again_also_where_a_strange_object_came_meanwhile() -> None:
    leg = a_leg(attention_code="payment_mismatch", failure_code="payment_mismatch", next_at=None)
    stopped = replace(begun(), legs=(leg,), status=RefundStatus.NEEDS_ATTENTION)
    told = news(stopped, an_object(amount_minor=400)).after
    retried = apply_action(told, Action.RETRY, START + 10, POLICY, actor="op", reason="mended")
    assert list(retried.read_again) == ["pay1"]


@pytest.mark.parametrize("reply", [NO_ANSWER, NotSent("refused"), Busy("rate_limit", 7.0), Found(()), REFUSED])
def test_a_late_answer_to_a_look_wakes_no_leg_that_is_with_a_person(reply: Reply) -> None:
    leg = replace(begun().legs[0], status=LegStatus.BLOCKED, attention_code="refunded_elsewhere", next_at=None)
    refund = replace(begun(), legs=(leg,))
    for call in (look_up_of(refund), replace(look_up_of(refund), before_sending=True), verify_of(refund)):
        decision = heard(refund, "r-1", call, reply, START + 5, POLICY, asked_at=START + 4)
        assert (status_of(decision), decision.after.due_at) == (LegStatus.BLOCKED, None)


@pytest.mark.parametrize("status", [LegStatus.WAITING, LegStatus.PLANNED])
def test_what_is_to_be_sent_reads_the_list_first_once_an_object_bore_its_name(status: LegStatus) -> None:
    leg = replace(begun().legs[0], status=status, next_at=START)
    told = news(replace(begun(), legs=(leg,)), an_object(payment_refs=("ch_other",))).after
    assert told.due_at is not None
    call = the_call(next_step(told, told.due_at, POLICY))
    assert isinstance(call, LookUp)
    assert call.before_sending


def test_a_test_modes_object_is_no_evidence_for_live_money() -> None:
    refund = begun()
    live = replace(POLICY, processors={"stripe": ProcessorRules(live=True)})
    decision = heard(refund, "r-1", None, Answered(an_object(live=False)), START, live)
    assert decision.after.status is RefundStatus.NEEDS_ATTENTION
    assert decision.postings == ()


def test_an_unknown_status_is_held_shown_and_asked_about_again() -> None:
    held = answer(begun(), Answered(an_object("thinking"))).after
    assert held.failure_code == "unknown_status"
    assert held.due_at is not None
    call = the_call(next_step(held, held.due_at, POLICY))
    assert call == Fetch("r-1", "stripe", "re_1")
    assert news(held, an_object("succeeded")).after.status is RefundStatus.SUCCEEDED


def test_being_slowed_costs_no_attempt_and_waits_as_long_as_told() -> None:
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


def test_a_processor_that_stays_unreachable_is_shown_to_a_person_and_tried_all_the_same() -> None:
    refund = begun()
    for _ in range(BACKOFFS_BEFORE_ATTENTION):
        refund = answer(refund, NotSent("refused"), START + 1).after
        waited = refund
        refund = next_step(refund, START + 700, POLICY).after
    assert waited.status is RefundStatus.NEEDS_ATTENTION
    assert waited.due_at is not None
    assert waited.failure_code == "processor_unreachable"


def test_the_wait_grows_to_its_limit_and_is_spread_by_a_quarter() -> None:
    waits = [backoff_seconds(POLICY, a_leg(retry_count=n)) for n in range(40)]
    for number, seconds in enumerate(waits):
        ideal = min(POLICY.retry_base_seconds * 2**number, POLICY.retry_max_seconds)
        assert 0.75 * ideal <= seconds <= 1.25 * ideal
    assert waits == [backoff_seconds(POLICY, a_leg(retry_count=n)) for n in range(40)]


def test_a_late_failure_gives_the_credits_back_exactly_once_with_an_alarm() -> None:
    paid = answer(begun(), Answered(an_object())).after
    failed = news(paid, an_object("failed"))
    assert failed.after.status is RefundStatus.REVERSING
    assert any(event.alarm for event in failed.events)
    assert failed.payments == {"pay1": PaymentDelta(-100, -1_000)}
    given_back = next_step(failed.after, START + 10, POLICY)
    assert given_back.after.status is RefundStatus.FAILED
    assert (given_back.customer.balance, given_back.customer.withdrawn) == (100, -100)
    for _ in range(3):
        again = news(given_back.after, an_object("failed"))
        assert (again.after.status, again.postings, again.customer.balance) == (RefundStatus.FAILED, (), 0)
        assert next_step(again.after, START + 20, POLICY).postings == ()


def test_the_processors_word_goes_before_an_operators() -> None:
    parked = answer(begun(), Blocked("balance_insufficient", "not now")).after
    reversing = apply_action(parked, Action.RESOLVE, START + 5, POLICY, actor="op", reason="x").after
    given_back = next_step(reversing, START + 6, POLICY).after
    assert (given_back.status, given_back.reversed_credits) == (RefundStatus.FAILED, 100)
    contradicted = news(given_back, an_object())
    assert contradicted.after.status is RefundStatus.SUCCEEDED
    assert contradicted.customer.balance == -100
    assert contradicted.after.reversed_credits == 0
    assert any(event.alarm for event in contradicted.events)


@pytest.mark.parametrize("state", ["failed", "canceled"])
def test_a_payment_by_hand_stands_when_what_was_asked_of_the_processor_came_to_nothing(state: str) -> None:
    """The lost call is executed hours later and its object fails: the customer has the money that was sent by hand."""
    lost = answer(begun(), Unanswered("500", server_error=True)).after
    parked = found(lost, Found(()), START + 80_000).after
    assert parked.status is RefundStatus.NEEDS_ATTENTION
    by_hand = apply_action(
        parked, Action.RESOLVE, START + 80_001, POLICY, actor="op", reason="x", reference="t-1"
    ).after
    told = news(by_hand, an_object(state, failure_code="declined"), START + 90_000)
    assert (told.after.status, told.after.legs[0].processor_refund_id) == (RefundStatus.SUCCEEDED, "manual:t-1")
    assert (told.postings, told.customer.balance, told.payments) == ((), 0, {})
    assert [seen.object.status for seen in told.objects] == [state], "it is known from now on, and no news again"


def test_a_payment_by_hand_gives_way_to_the_processors_own_payment() -> None:
    parked = answer(begun(), Blocked("balance_insufficient", "not now")).after
    by_hand = apply_action(
        parked, Action.RESOLVE, START + 5, POLICY, actor="op", reason="x", reference="cheque-7"
    ).after
    assert (by_hand.status, by_hand.legs[0].processor_refund_id) == (RefundStatus.SUCCEEDED, "manual:cheque-7")
    told = news(by_hand, an_object())
    assert told.after.legs[0].processor_refund_id == "re_1"
    assert any(event.alarm for event in told.events)
    assert sum(e.amount for p in told.postings for e in p.entries if e.account == CLEARING and e.unit == CREDITS) == 0


def test_two_objects_that_both_stand_are_shown_to_a_person() -> None:
    paid = answer(begun(), Answered(an_object())).after
    twice = news(paid, an_object(name="re_2", attempt=None))
    assert (twice.after.status, twice.after.failure_code) == (RefundStatus.NEEDS_ATTENTION, "refunded_twice")
    assert twice.postings == ()


def test_of_two_that_stand_the_booked_one_stays_in_whatever_order_they_were_read() -> None:
    paid = answer(begun(), Answered(an_object())).after
    twice = news(paid, an_object(name="re_2", attempt=None)).after
    leg = twice.legs[0]
    swapped = replace(twice, legs=(replace(leg, objects=tuple(reversed(leg.objects))),))
    third = news(swapped, an_object("pending", name="re_3", attempt=None))
    assert third.postings == ()
    assert third.after.legs[0].processor_refund_id == "re_1"


def test_a_late_answer_after_a_webhook_told_it_first_changes_nothing() -> None:
    refund = begun()
    told = news(refund, an_object()).after
    late = heard(told, "r-1", send_of(refund), Answered(an_object()), START + 9, POLICY)
    assert late.after.status is RefundStatus.SUCCEEDED
    assert (late.postings, late.payments, late.customer.balance) == ((), {}, 0)
    silence = heard(told, "r-1", send_of(refund), NO_ANSWER, START + 9, POLICY)
    assert silence.after.status is RefundStatus.SUCCEEDED


WORDS = st.lists(
    st.tuples(st.sampled_from(["re_1", "re_2"]), st.sampled_from(["pending", "succeeded", "failed"])),
    min_size=1,
    max_size=6,
)


@given(WORDS, st.randoms(use_true_random=False), st.booleans())
def test_evidence_in_any_order_and_repetition_comes_to_the_same(
    words: list[tuple[str, str]], random: randoms.Random, together: bool
) -> None:
    """Legs, refund, money and credits; only which of two standing objects is booked depends on who came first."""
    refund_objects = [an_object(status, name) for name, status in words]
    mixed = [*refund_objects, *refund_objects]
    random.shuffle(mixed)
    ends = [_after(refund_objects, together=False), _after(mixed, together)]
    assert ends[0] == ends[1]


def _after(refund_objects: list[RefundObject], together: bool) -> object:
    """The refund's end and what it did to the books, when nothing else is left to hear."""
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


def test_a_known_objects_state_only_moves_forward() -> None:
    for first, then in itertools.product(["succeeded", "failed"], ["pending", "requires_action"]):
        told = news(begun(), an_object(first)).after
        assert news(told, an_object(then)).after.legs[0].objects == (KnownRefundObject("re_1", ObjectState(first), 1),)


def test_credits_that_were_not_given_back_yet_are_not_taken_again() -> None:
    """Leg 1 failed and was given back; leg 2 fails late, and before its credits are back another object of it pays."""
    refund = begun(a_leg(), a_leg(2))
    refund = answer(refund, Answered(an_object(name="re_2", number=2)), number=2).after
    refund = next_step(answer(refund, REFUSED).after, START + 2, POLICY).after
    refund = next_step(refund, START + 3, POLICY).after
    assert (refund.status, refund.reversed_credits) == (RefundStatus.PARTIALLY_SUCCEEDED, 100)
    failed = news(refund, an_object("failed", name="re_2", number=2)).after
    assert failed.status is RefundStatus.REVERSING
    paid = news(failed, an_object(name="re_3", number=2))
    assert (paid.after.status, paid.after.reversed_credits) == (RefundStatus.PARTIALLY_SUCCEEDED, 100)
    assert paid.customer.balance == 0
    assert [p.kind for p in paid.postings] == ["payout"]


REPLAYED = replace(REFUSED, replayed=True)


def test_a_refusal_that_is_replayed_is_the_fate_of_the_silent_send_too() -> None:
    again = sent_again(silent(), START + 500).after
    refused = answer(again, REPLAYED, START + 501)
    assert status_of(refused) is LegStatus.FAILED
    assert refused.payments == {"pay1": PaymentDelta(-100, -1_000)}


def test_a_replayed_refusal_is_no_proof_once_a_copy_may_outlive_the_key() -> None:
    """The key's life ends at 10,000 seconds; what was sent may land up to 1,000 seconds after its send."""
    for sent_at, status in ((9_000.0, LegStatus.FAILED), (9_001.0, LegStatus.UNKNOWN)):
        again = sent_again(silent(), START + sent_at).after
        assert status_of(answer(again, REPLAYED, START + sent_at + 1)) is status


def test_a_replayed_refusal_is_no_proof_where_the_age_of_its_key_is_not_known() -> None:
    again = sent_again(silent(), START + 500).after
    assert status_of(answer(again, REPLAYED, START - 86_400)) is LegStatus.UNKNOWN


def test_already_refunded_is_looked_up_even_when_replayed_but_waits_for_nothing() -> None:
    again = sent_again(silent(), START + 500).after
    told = answer(again, AlreadyRefunded("nothing left", replayed=True), START + 501).after
    the_look_up(next_step(told, START + 501, POLICY))
    shown = found(told, NOTHING, START + 502)
    assert (status_of(shown), shown.after.failure_code) == (LegStatus.BLOCKED, "charge_already_refunded")


def test_a_strange_object_is_a_persons_matter_once_nothing_else_can_land() -> None:
    """Unknown while something may still land; then blocked: a person may retry, or say how it ended."""
    strange = Found((an_object(amount_minor=999),))
    refund = answer(begun(), Answered(an_object(amount_minor=999))).after
    early = found(refund, strange, START + 999)
    assert (status_of(early), early.after.legs[0].attempt) == (LegStatus.UNKNOWN, 1)
    assert available_actions(early.after) == (Action.RETRY, Action.RESOLVE)
    with pytest.raises(ActionNotAllowed, match="can't be given back yet"):
        apply_action(early.after, Action.RESOLVE, START + 1_000, POLICY, actor="op", reason="x")
    assert [event for event in early.events if event.kind == "answer_mismatch"] == [], "told before"
    late = found(early.after, strange, START + 1_000)
    assert (status_of(late), late.after.failure_code, late.after.due_at) == (LegStatus.BLOCKED, "answer_mismatch", None)
    assert available_actions(late.after) == (Action.RETRY, Action.RESOLVE)
    assert late.payments == {}
    paid = apply_action(late.after, Action.RESOLVE, START + 2_000, POLICY, actor="op", reason="x", reference="bank-9")
    assert paid.after.status is RefundStatus.SUCCEEDED
    retried = apply_action(late.after, Action.RETRY, START + 2_000, POLICY, actor="op", reason="mended").after
    the_look_up(next_step(retried, START + 2_000, POLICY))
    assert found(retried, Found((an_object(),)), START + 2_001).after.status is RefundStatus.SUCCEEDED


def test_a_list_that_does_not_show_the_strange_object_is_no_proof_of_nothing() -> None:
    """Booked at another payment it is in no list of ours, and yet money has gone out."""
    refund = answer(begun(), Answered(an_object(payment_refs=("ch_other",)))).after
    late = found(refund, NOTHING, START + 1_000)
    assert (status_of(late), late.after.legs[0].attempt) == (LegStatus.BLOCKED, 1)
    assert available_actions(late.after) == (Action.RETRY, Action.RESOLVE)
    retried = apply_action(late.after, Action.RETRY, START + 2_000, POLICY, actor="op", reason="again").after
    again = found(retried, NOTHING, START + 2_001)
    assert (status_of(again), again.after.legs[0].attempt) == (LegStatus.BLOCKED, 1)


def test_beside_an_object_that_stands_under_an_older_attempt_nothing_new_is_sent() -> None:
    """No path leads here; whatever did, money would go out a second time."""
    paid = KnownRefundObject("re_1", ObjectState.SUCCEEDED, 1)
    leg = replace(silent().legs[0], attempt=2, in_doubt=None, objects=(paid,))
    refund = replace(silent(), legs=(leg,))
    shown = found(refund, Found((an_object("pending", attempt=1),)), START + 5_000)
    assert (status_of(shown), shown.after.legs[0].attempt) == (LegStatus.BLOCKED, 2)
    assert shown.after.failure_code == "answer_mismatch"


def test_an_event_without_particulars_has_none_and_a_payment_without_a_captured_amount_was_captured_whole() -> None:
    assert Event("refund_paid", "processor").detail == {}
    assert PaymentFacts(payment_id="pay1", amount_minor=500, currency="USD").expected_minor == 500


def test_each_step_of_a_leg_tells_its_particulars() -> None:
    (sent,) = [event for event in next_step(a_refund(), START, POLICY).events if event.kind == "leg_sent"]
    assert (sent.from_status, sent.to_status, sent.detail) == ("planned", "sending", {"attempt": 1, "send": 1})
    refused = answer(begun(), REFUSED).events
    assert [event.detail for event in refused if event.kind == "leg_refused"] == [{}]


def test_a_strange_answer_is_forgotten_when_the_look_up_finds_the_right_object() -> None:
    refund = answer(begun(), Answered(an_object(amount_minor=999))).after
    mended = found(refund, Found((an_object(),)), START + 5)
    assert (mended.after.status, mended.after.failure_code) == (RefundStatus.SUCCEEDED, None)


UNFUNDED = {"status": "failed", "failure_code": "insufficient_funds"}


def asked_again_after_an_empty_balance() -> Refund:
    """Its first object failed for want of funds; a person's retry now asks for its second attempt."""
    refund = answer(begun(), Answered(an_object(**UNFUNDED))).after
    assert (status_of(answer(begun(), Answered(an_object(**UNFUNDED)))), refund.legs[0].attempt) == (
        LegStatus.BLOCKED,
        2,
    )
    return apply_action(refund, Action.RETRY, START + 100, POLICY, actor="op", reason="topped up").after


def test_a_strange_word_about_what_failed_before_says_nothing_of_the_present_attempt() -> None:
    refund = asked_again_after_an_empty_balance()
    heard_of = news(refund, an_object(amount_minor=1_001, **UNFUNDED), START + 101)
    assert [(event.kind, event.alarm) for event in heard_of.events] == [("answer_mismatch", True)]
    assert heard_of.after.legs == refund.legs
    gone_on = found(heard_of.after, Found((an_object(**UNFUNDED),)), START + 3_000)
    assert status_of(gone_on) is LegStatus.WAITING, "nothing stands, so the next attempt is made"


@pytest.mark.parametrize("status", ["succeeded", "pending", "unheard_of"])
def test_a_strange_word_that_what_failed_before_stands_after_all_stops_everything(status: str) -> None:
    refund = asked_again_after_an_empty_balance()
    heard_of = news(refund, an_object(amount_minor=1_001, status=status), START + 101)
    assert heard_of.after.legs[0].refusal is RefusalKind.ANSWER_MISMATCH


def test_a_strange_word_about_an_object_that_nobody_has_seen_stops_everything_though_it_failed() -> None:
    refund = asked_again_after_an_empty_balance()
    heard_of = news(refund, an_object(processor_refund_id="re_9", amount_minor=1_001, **UNFUNDED), START + 101)
    assert heard_of.after.legs[0].refusal is RefusalKind.ANSWER_MISMATCH
