"""What others refunded over the payment: what stops a leg, when the list is read, and what a person's word changes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.domain.builders import (
    POLICY,
    START,
    a_leg,
    a_refund,
    an_object,
    answer,
    begun,
    due,
    found,
    heard,
    look_up_of,
    news,
    sent_again,
    status_of,
    the_call,
)

from refund_worker.domain.decision import Decision, SendBlock
from refund_worker.domain.handle_reply import apply_replies
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.outside_refunds import CLOCK_DIFFERENCE_SECONDS
from refund_worker.domain.payment_check import PaymentFacts, proved_by, with_sent
from refund_worker.domain.processor_calls import LookUp, RecordedReply, Send
from refund_worker.domain.processor_replies import (
    Answered,
    Blocked,
    Busy,
    Denied,
    Found,
    NotSent,
    RefundObject,
    Refused,
    SearchReply,
    Unanswered,
)
from refund_worker.domain.refund import Doubt, LegStatus, Refund, RefundStatus
from refund_worker.domain.state_machine import Action, available_actions

FIVE_HUNDRED = Unanswered("500", server_error=True)
EMPTY = Blocked("balance_insufficient", "not now")
NOTHING = Found(())
LATER = START + 2_000


def by_hand(name: str = "re_x", at: float = START + 10, minor: int = 1_000, status: str = "succeeded") -> RefundObject:
    made = datetime.fromtimestamp(at, UTC)
    return an_object(status, name, leg_id=None, attempt=None, amount_minor=minor, created_at=made)


def shows(*refund_objects: RefundObject, explained_minor: int = 0) -> Found:
    return Found((), refund_objects, explained_minor)


def blocked(refund: Refund | None = None) -> Refund:
    """Refused for now, and due again."""
    refund = answer(refund or begun(), EMPTY).after
    return replace(refund, legs=(replace(refund.legs[0], next_at=LATER), *refund.legs[1:]))


def looked(refund: Refund, reply: SearchReply, at: float = LATER) -> Decision:
    """The list that is read before a send, answered at once."""
    waiting = next_step(refund, at, POLICY)
    call = the_call(waiting)
    assert isinstance(call, LookUp)
    return heard(waiting.after, call.leg_id, call, reply, at, POLICY, asked_at=at)


def assert_stopped(decision: Decision, *names: str) -> None:
    refund, leg = decision.after, decision.after.legs[0]
    assert (leg.status, leg.blocked_by, leg.next_at) == (LegStatus.BLOCKED, names, None)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, "refunded_elsewhere")
    assert available_actions(refund) == (Action.RETRY, Action.RESOLVE)
    assert decision.payments == {}
    (told,) = [event for event in decision.events if event.alarm]
    assert told.detail == {"objects": " ".join(names)}


def retried(refund: Refund, at: float = LATER) -> Refund:
    return apply_action(refund, Action.RETRY, at, POLICY, actor="op", reason="seen").after


# --- when the list is read --------------------------------------------------------------------------------------------


def test_a_blocked_leg_is_sent_again_only_after_its_list_was_read() -> None:
    allowed = looked(blocked(), NOTHING).after
    assert allowed.legs[0].status is LegStatus.BLOCKED, "while only its list is read it is as it was"
    send = the_call(next_step(allowed, LATER, POLICY))
    assert isinstance(send, Send)
    assert send.key == "r-1:2"


def test_one_list_allows_one_send() -> None:
    sent = next_step(looked(blocked(), NOTHING).after, LATER, POLICY).after
    again = blocked(sent)
    assert isinstance(the_call(next_step(again, LATER, POLICY)), LookUp)


@pytest.mark.parametrize(("age", "is_old"), [(0.0, False), (300.0, False), (301.0, True), (-1.0, True)])
def test_a_list_is_good_for_as_long_as_a_sync_is(age: float, is_old: bool) -> None:
    leg = replace(blocked().legs[0], listed_at=LATER - age)
    assert isinstance(the_call(next_step(replace(blocked(), legs=(leg,)), LATER, POLICY)), LookUp if is_old else Send)


def test_a_look_up_that_is_not_answered_allows_nothing_and_waits_longer_each_time() -> None:
    refund, at, waits = blocked(), LATER, []
    for _ in range(8):
        refund = looked(refund, Unanswered("timeout"), at).after
        assert refund.due_at is not None
        waits.append(refund.due_at - at)
        at = refund.due_at
        assert refund.legs[0].listed_at is None
    assert waits[-1] > 50 * waits[0]


def test_what_is_allowed_keeps_its_place_among_what_is_due() -> None:
    refund = blocked()
    assert looked(refund, NOTHING, LATER + 500).after.due_at == LATER


@pytest.mark.parametrize("answered", [Busy("rate_limit"), Unanswered("timeout"), NotSent("refused")])
@pytest.mark.parametrize("look_ups", [True, False])
def test_a_key_that_waited_through_a_pause_is_sent_again_after_a_look(answered: Busy, look_ups: bool) -> None:
    waiting = answer(begun(), answered).after
    at = waiting.due_at or 0.0
    held = next_step(waiting, at, POLICY, paused={"stripe": SendBlock(at + 10, look_ups)})
    assert held.after.legs[0].held
    refund = held.after
    if held.calls:  # what may have been paid is looked up meanwhile
        refund = heard(refund, "r-1", held.calls[0], NOTHING, at, POLICY, asked_at=at).after
    at = max(at + 10, refund.due_at or 0)
    assert not isinstance(the_call(next_step(refund, at, POLICY)), Send)
    sent = next_step(looked(refund, NOTHING, at).after, at, POLICY)
    send = the_call(sent)
    assert isinstance(send, Send)
    assert send.key == "r-1:1", "no new attempt: the same key"
    assert not sent.after.legs[0].held
    later = answer(sent.after, answered, at).after
    assert isinstance(the_call(next_step(later, at + 40, POLICY)), Send), "one pause, one look"


def test_a_list_that_was_read_before_a_pause_ended_allows_no_send_after_it() -> None:
    refund = looked(blocked(), NOTHING).after
    refund = next_step(refund, LATER, POLICY, paused={"stripe": SendBlock(LATER + 10)}).after
    assert isinstance(the_call(next_step(refund, LATER + 10, POLICY)), LookUp)


def test_a_key_that_waited_is_not_sent_again_where_the_list_shows_anothers_refund() -> None:
    waiting = answer(begun(), Unanswered("timeout")).after
    held = replace(waiting, legs=(replace(waiting.legs[0], held=True),))
    at = START + 400
    told = looked(held, shows(by_hand()), at).after
    for _ in range(50):
        if told.legs[0].status is not LegStatus.UNKNOWN:
            break
        assert told.due_at is not None
        assert told.due_at > at
        at = told.due_at
        last = looked(told, shows(by_hand()), at)
        told = last.after
    assert_stopped(last, "re_x")
    assert at == START + 1_000


@pytest.mark.parametrize("reply", [Unanswered("timeout"), Busy("rate_limit"), NotSent("refused")], ids=str)
def test_a_key_is_sent_again_at_once_but_after_more_than_a_lease_only_after_a_look(reply: SearchReply) -> None:
    waiting = answer(begun(), reply).after
    soon, late = START + POLICY.lease_seconds - 1, START + POLICY.lease_seconds
    assert isinstance(the_call(next_step(due(waiting, soon), soon, POLICY)), Send)
    look = the_call(next_step(due(waiting, late), late, POLICY))
    assert isinstance(look, LookUp)
    assert look.before_sending
    send = the_call(sent_again(due(waiting, late), late))
    assert isinstance(send, Send)
    assert send.key == "r-1:1"


@pytest.mark.parametrize("sent", [True, False], ids=["sent", "never sent"])
def test_what_is_blocked_is_looked_for_however_soon_it_is_tried_again(sent: bool) -> None:
    """With a short RETRY_MAX_SECONDS it is due again well within a lease."""
    soon = START + 4
    refund = due(answer(begun(), EMPTY).after, soon)
    if not sent:
        never = replace(refund.legs[0], sends=0, first_sent_at=None, last_sent_at=None, first_intent_at=None)
        refund = replace(refund, legs=(never,))
    call = the_call(next_step(refund, soon, POLICY))
    assert isinstance(call, LookUp)
    assert call.before_sending


@pytest.mark.parametrize("late", [POLICY.lease_seconds, 470.0, 1_500.0, 9_000.0])
def test_what_a_dead_worker_left_is_looked_for_before_its_key_is_sent_again(late: float) -> None:
    """It may have died before its call, and a person has paid meanwhile."""
    told = looked(begun(), shows(by_hand()), START + late).after
    assert told.legs[0].status is LegStatus.UNKNOWN
    assert told.due_at is not None
    at = max(told.due_at, START + late + 2_000)
    call = the_call(next_step(told, told.due_at, POLICY))
    assert isinstance(call, LookUp)
    assert_stopped(found(due(told, at), shows(by_hand()), at), "re_x")


@pytest.mark.parametrize("reply", [Busy("rate_limit"), Unanswered("timeout")], ids=str)
def test_a_key_is_not_sent_again_soon_over_a_suspect_payment(reply: SearchReply) -> None:
    soon = START + 20
    call = the_call(next_step(due(answer(begun(), reply).after, soon), soon, POLICY, suspect={"pay1"}))
    assert isinstance(call, LookUp)
    assert call.before_sending


def test_a_list_allows_no_key_that_meanwhile_is_not_to_be_sent_again() -> None:
    asked = next_step(answer(begun(), Unanswered("timeout")).after, START + 100, POLICY)
    sticks = replace(
        asked.after,
        legs=(replace(asked.after.legs[0], in_doubt=Doubt(unanswered=True, lookup_required=True)),),
    )
    told = heard(sticks, "r-1", the_call(asked), NOTHING, START + 101, POLICY, asked_at=START + 100).after.legs[0]
    assert (told.status, told.listed_at) == (LegStatus.UNKNOWN, None)
    assert told.next_at is not None
    assert told.next_at > START + 101


def test_a_strange_object_makes_an_older_look_worth_nothing() -> None:
    allowed = looked(answer(begun(), Busy("rate_limit")).after, NOTHING, START + 100).after
    told = news(allowed, an_object(payment_refs=("ch_other",)), START + 102).after
    assert told.due_at is not None
    assert isinstance(the_call(next_step(told, told.due_at, POLICY)), LookUp)


def test_what_was_never_sent_reads_the_list_once_a_strange_object_bore_its_name() -> None:
    planned = replace(begun(), legs=(a_leg(next_at=START),), ledger_posted=True)
    assert isinstance(the_call(next_step(planned, START, POLICY)), Send)
    told = news(planned, an_object(amount_minor=400), START + 1).after
    assert told.legs[0].attention_code == "answer_mismatch"
    assert isinstance(the_call(next_step(told, told.due_at or 0, POLICY)), LookUp)
    held = replace(told, legs=(replace(told.legs[0], attention_code="payment_mismatch", next_at=None),))
    retried = apply_action(held, Action.RETRY, START + 60, POLICY, actor="op", reason="x").after
    assert isinstance(the_call(next_step(retried, START + 60, POLICY)), LookUp)


def test_a_send_that_was_never_begun_is_none_and_needs_no_list() -> None:
    """Its turn did not come, again and again: the limit has room for one call, not for two."""
    refund, at = begun(), START
    for _ in range(3):
        refund = answer(refund, NotSent("its turn did not come", begun=False), at + 30).after
        at += 500
        decision = next_step(due(refund, at), at, POLICY)
        send = the_call(decision)
        assert isinstance(send, Send)
        assert send.key == "r-1:1"
        refund = decision.after
    assert refund.legs[0].first_sent_at == refund.legs[0].last_sent_at == at, "the key's life begins with it"
    refund = answer(refund, Busy("rate_limit"), at + 1).after
    late = at + POLICY.lease_seconds
    again = sent_again(due(refund, late), late).after
    refund = answer(again, NotSent("its turn did not come", begun=False), late + 1).after
    assert isinstance(the_call(next_step(due(refund, late + 500), late + 500, POLICY)), LookUp), "it was sent once"


def test_a_silent_send_is_not_forgotten_where_the_next_one_was_never_begun() -> None:
    silent = answer(begun(), Unanswered("timeout")).after
    again = next_step(due(silent, START + 10), START + 10, POLICY).after
    told = answer(again, NotSent("paused", begun=False), START + 11).after.legs[0]
    assert (told.status, told.unanswered, told.last_sent_at) == (LegStatus.UNKNOWN, True, START + 10)


def test_a_clock_that_was_set_back_is_a_reason_to_look_before_a_key_is_sent_again() -> None:
    waiting = answer(begun(), Busy("rate_limit", 20)).after
    call = the_call(next_step(waiting, START - 5_000, POLICY))
    assert isinstance(call, LookUp)
    assert call.before_sending


def test_what_was_sent_before_takes_nothing_twice_of_what_is_left() -> None:
    leg = a_leg(last_sent_at=START)
    facts = {
        "pay1": PaymentFacts(payment_id="pay1", amount_minor=1_000, currency="USD", outside_minor=1, ours_minor=1_000)
    }
    assert with_sent(facts, (leg,), (replace(leg, last_sent_at=START + 60),)) == facts
    assert with_sent(facts, (a_leg(),), (leg,))["pay1"].ours_minor == 2_000


def test_a_key_whose_payment_others_are_known_to_have_refunded_is_sent_again_only_after_a_look() -> None:
    waiting = answer(begun(), Busy("rate_limit")).after
    at = waiting.due_at or 0.0
    assert isinstance(the_call(next_step(waiting, at, POLICY)), Send)
    assert isinstance(the_call(next_step(waiting, at, POLICY, suspect={"pay1"})), LookUp)


def test_after_the_quiet_window_too_it_is_the_same_key_that_is_sent_again() -> None:
    """A new one would forget what the old one still proves."""
    silent = answer(begun(), Unanswered("timeout")).after
    at = START + 1_100
    assert at > START + POLICY.lease_seconds + POLICY.quiet_seconds
    send = the_call(sent_again(due(silent, at), at))
    assert isinstance(send, Send)
    assert send.key == "r-1:1"


def test_who_was_refused_our_credentials_looks_before_the_key_is_sent_again() -> None:
    denied = answer(begun(), Denied("api_key_expired", "no")).after
    soon = START + POLICY.lease_seconds / 2
    assert isinstance(the_call(next_step(due(denied, soon), soon, POLICY)), LookUp)


def test_a_first_attempt_is_looked_up_only_where_others_are_known_to_have_refunded_the_payment() -> None:
    assert isinstance(the_call(next_step(a_refund(), START, POLICY, suspect={"pay9"})), Send)
    refund = next_step(a_refund(), START, POLICY, suspect={"pay1"})
    call = the_call(refund)
    assert isinstance(call, LookUp)
    stopped = heard(refund.after, "r-1", call, shows(by_hand(at=START - 9_999)), START, POLICY, asked_at=START)
    assert_stopped(stopped, "re_x")
    allowed = heard(refund.after, "r-1", call, NOTHING, START, POLICY, asked_at=START).after
    assert isinstance(the_call(next_step(allowed, START, POLICY, suspect={"pay1"})), Send)
    silent = heard(refund.after, "r-1", call, Unanswered("timeout"), START, POLICY, asked_at=START).after
    assert silent.due_at is not None
    assert silent.due_at > START
    assert next_step(silent, START, POLICY, suspect={"pay1"}).calls == ()
    # Nothing was sent under the first key: it is as good as new.
    go_on = found(retried(stopped.after), shows(by_hand(at=START - 9_999)), LATER).after
    send = the_call(next_step(go_on, LATER, POLICY, suspect={"pay1"}))
    assert isinstance(send, Send)
    assert send.key == "r-1:1"


# --- what stops it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [START - 10**6, START - CLOCK_DIFFERENCE_SECONDS, START, LATER])
@pytest.mark.parametrize("status", ["succeeded", "pending", "requires_action", "in_review"])
def test_what_stands_stops_it_whenever_it_was_made(at: float, status: str) -> None:
    assert_stopped(looked(blocked(), shows(by_hand(at=at, status=status))), "re_x")


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_what_came_to_nothing_does_not(status: str) -> None:
    assert looked(blocked(), shows(by_hand(status=status))).after.legs[0].listed_at == LATER


@pytest.mark.parametrize(("seconds", "stops"), [(-301, False), (-300, True), (0, True)])
def test_our_books_explain_only_what_was_made_before_the_first_intent(seconds: float, stops: bool) -> None:
    decision = looked(blocked(), shows(by_hand(at=START + seconds), explained_minor=1_000))
    assert bool(decision.after.legs[0].blocked_by) is stops


def test_what_was_made_between_two_attempts_counts_however_late_the_list_shows_it() -> None:
    refund = blocked()
    leg = replace(refund.legs[0], attempt=2, first_intent_at=START, first_sent_at=START + 1_500)
    made = by_hand(at=START + 700)
    assert_stopped(looked(replace(refund, legs=(leg,)), shows(made, explained_minor=9_999)), "re_x")


@pytest.mark.parametrize(("explained", "stops"), [(1_499, True), (1_500, False)])
def test_more_money_gone_than_our_books_say_stops_it(explained: int, stops: bool) -> None:
    old = [by_hand("re_a", START - 9_999, 1_000), by_hand("re_b", START - 9_998, 500)]
    decision = looked(blocked(), shows(*old, explained_minor=explained))
    assert decision.after.legs[0].blocked_by == (("re_a", "re_b") if stops else ())


def test_the_first_intent_counts_over_all_attempts() -> None:
    again = blocked(next_step(looked(blocked(), NOTHING).after, LATER, POLICY).after)
    again = replace(again, legs=(replace(again.legs[0], next_at=LATER + 900),))
    made = by_hand(at=START + 5)
    assert_stopped(looked(again, shows(made, explained_minor=9_999), LATER + 900), "re_x")


@pytest.mark.parametrize(
    "reply", [FIVE_HUNDRED, Refused("expired_or_canceled_card", "no"), EMPTY], ids=lambda r: type(r).__name__
)
def test_in_doubt_it_is_stopped_when_nothing_can_land_any_more_and_no_other_way_is_sought(reply: SearchReply) -> None:
    """Also where the send was refused for good meanwhile: the customer has the money of this payment."""
    silent = answer(begun(), Unanswered("timeout")).after
    refund = answer(sent_again(silent, START + 500).after, reply, START + 501).after
    early = found(refund, shows(by_hand()), START + 1_499).after
    assert early.legs[0].status is LegStatus.UNKNOWN
    assert_stopped(found(early, shows(by_hand()), START + 1_501), "re_x")


def test_after_the_life_of_the_key_it_is_known_why_nothing_was_found() -> None:
    silent = answer(begun(), Unanswered("timeout")).after
    assert_stopped(found(silent, shows(by_hand()), START + 20_000), "re_x")


def test_an_object_of_its_own_goes_before_those_of_others() -> None:
    paid = found(answer(begun(), FIVE_HUNDRED).after, Found((an_object(),), (by_hand(),)), START + 50)
    assert paid.after.status is RefundStatus.SUCCEEDED
    strange = looked(blocked(), Found((an_object(amount_minor=7),), (by_hand(),)))
    assert (status_of(strange), strange.after.failure_code) == (LegStatus.BLOCKED, "answer_mismatch")
    assert strange.after.due_at is None


# --- what a person has seen -------------------------------------------------------------------------------------------


def test_a_retry_takes_what_is_named_as_seen_and_only_newer_ones_stop_it_again() -> None:
    stopped = looked(blocked(), shows(by_hand("re_a"))).after
    again = retried(stopped)
    assert (again.legs[0].acknowledged_outside, again.legs[0].blocked_by) == (("re_a",), ())
    assert found(again, shows(by_hand("re_a")), LATER).after.legs[0].status is LegStatus.WAITING
    both = found(again, shows(by_hand("re_a"), by_hand("re_b")), LATER)
    assert_stopped(both, "re_b")
    assert retried(both.after).legs[0].acknowledged_outside == ("re_a", "re_b")


@pytest.mark.parametrize("code", ["amount_exceeds_unrefunded", "charge_already_refunded"])
def test_what_was_seen_stops_it_all_the_same_where_the_processor_has_nothing_left(code: str) -> None:
    again = retried(looked(blocked(), shows(by_hand())).after)
    sent = next_step(found(again, shows(by_hand()), LATER).after, LATER, POLICY).after
    refused = answer(sent, Refused("amount_exceeds_unrefunded", "no", more_than_left=True), LATER + 1).after
    assert isinstance(the_call(next_step(refused, LATER + 1, POLICY)), LookUp)
    assert_stopped(found(refused, shows(by_hand()), LATER + 2), "re_x")


# --- paid by hand while the answer is missing -------------------------------------------------------------------------


def paid_by_hand(reference: str = "bank-1") -> Refund:
    in_doubt = answer(begun(), FIVE_HUNDRED).after
    assert available_actions(in_doubt) == (Action.RESOLVE,)
    said = apply_action(in_doubt, Action.RESOLVE, START + 60, POLICY, actor="op", reason="x", reference=reference)
    assert said.after.status is RefundStatus.SUCCEEDED
    return said.after


def test_after_a_payment_by_hand_nothing_is_sent_and_the_list_is_read_until_nothing_can_land() -> None:
    refund, looks = paid_by_hand(), 0
    while refund.due_at is not None:
        at = refund.due_at
        call = the_call(next_step(refund, at, POLICY))
        assert isinstance(call, LookUp)
        refund = heard(refund, "r-1", call, NOTHING, at, POLICY, asked_at=at).after
        looks += 1
        assert refund.status is RefundStatus.SUCCEEDED
    assert 5 < looks < 20
    assert at == START + 1_000


def test_no_news_after_a_payment_by_hand_is_waited_for_with_growing_pauses() -> None:
    refund, waits = paid_by_hand(), []
    for _ in range(8):
        at = refund.due_at or 0.0
        call = the_call(next_step(refund, at, POLICY))
        refund = heard(refund, "r-1", call, Unanswered("timeout"), at, POLICY, asked_at=at).after
        waits.append((refund.due_at or 0) - at)
    assert waits[0] > 0
    assert waits[-1] > 50 * waits[0]


WORDS = ("pending", "succeeded", "in_review", None)


@pytest.mark.parametrize("unasked", [True, False], ids=["told unasked", "found in the list"])
@pytest.mark.parametrize("word", WORDS, ids=str)
def test_an_object_of_ours_beside_a_payment_by_hand_is_refunded_twice_once(word: str | None, unasked: bool) -> None:
    refund, alarms = paid_by_hand(), 0
    for step in range(3):
        at = START + 70 + step
        call, reply = (None, Answered(an_object(word))) if unasked else (look_up_of(refund), Found((an_object(word),)))
        decision = heard(refund, "r-1", call, reply, at, POLICY, asked_at=at)
        alarms += sum(event.alarm for event in decision.events)
        refund = decision.after
        assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, "refunded_twice")
    assert (alarms, refund.due_at) == (1, None)
    assert available_actions(refund) == (Action.RETRY, Action.RESOLVE)


def test_a_retry_says_that_a_refund_paid_twice_has_been_seen() -> None:
    twice = news(paid_by_hand(), an_object()).after
    seen = apply_action(twice, Action.RETRY, START + 90, POLICY, actor="op", reason="claimed back from the customer")
    assert (seen.after.status, seen.after.failure_code) == (RefundStatus.SUCCEEDED, None)
    assert (seen.calls, seen.postings) == ((), ())


@pytest.mark.parametrize("order", [*itertools.permutations(("pending", "failed", "failed"))])
def test_an_object_of_ours_that_fails_beside_a_payment_by_hand_leaves_it(order: tuple[str, ...]) -> None:
    told = [RecordedReply("r", "r-1", None, Answered(an_object(word))) for word in order]
    refund = apply_replies(paid_by_hand(), told, LATER, POLICY).after
    assert (refund.status, refund.legs[0].processor_refund_id) == (RefundStatus.SUCCEEDED, "manual:bank-1")
    assert refund.legs[0].attention_code is None


def test_a_payment_by_hand_that_names_our_own_object_is_that_object() -> None:
    told = news(paid_by_hand("re_1"), an_object())
    assert (told.after.status, told.after.legs[0].processor_refund_id) == (RefundStatus.SUCCEEDED, "re_1")
    assert not any(event.alarm for event in told.events)
    failed = news(paid_by_hand("re_1"), an_object("failed"))
    assert failed.after.status is RefundStatus.REVERSING, "what the person named has come back"


def test_what_is_with_the_processor_stays_there_when_the_rest_is_paid_by_hand() -> None:
    refund = answer(begun(a_leg(), a_leg(2)), FIVE_HUNDRED).after
    refund = answer(refund, Answered(an_object("pending", "re_2", 2)), number=2).after
    said = apply_action(refund, Action.RESOLVE, START + 60, POLICY, actor="op", reason="x", reference="bank-1").after
    assert [leg.status for leg in said.legs] == ["succeeded", "pending"]


def test_nobody_says_so_while_a_call_is_under_way() -> None:
    refund = answer(begun(a_leg(), a_leg(2)), FIVE_HUNDRED).after
    assert [leg.status for leg in refund.legs] == ["unknown", "sending"]
    assert available_actions(refund) == ()


def test_a_list_that_was_read_before_a_persons_retry_allows_nothing() -> None:
    refund = blocked()
    held_back = {"status": LegStatus.WAITING, "attention_code": "payment_mismatch", "next_at": None, "listed_at": LATER}
    leg = replace(refund.legs[0], attempt=2, sends=0, **held_back)
    assert isinstance(the_call(next_step(retried(replace(refund, legs=(leg,))), LATER, POLICY)), LookUp)


def test_another_legs_refund_proves_nothing_of_this_ones_payment() -> None:
    refund_object = an_object(currency="HUF", payment_refs=())
    assert proved_by(a_leg(1), refund_object) is not None
    assert proved_by(a_leg(2), refund_object) is None
