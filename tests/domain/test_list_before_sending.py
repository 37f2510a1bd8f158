"""When the processor's list is read before a send, and how long it is valid."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.domain.builders import (
    NOTHING,
    POLICY,
    START,
    a_leg,
    a_refund,
    an_object,
    answer,
    apply_reply,
    begun,
    due,
    found,
    report,
    sent_again,
    the_call,
)
from tests.domain.outside import EMPTY, LATER, assert_stopped, blocked, list_read, listing, outside_refund, retried

from refund_worker.domain.decision import SendBlock
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.processor_calls import LookUp, Send
from refund_worker.domain.processor_replies import (
    Busy,
    Denied,
    Found,
    NotSent,
    SearchReply,
    Unanswered,
)
from refund_worker.domain.refund import Doubt, LegStatus
from refund_worker.domain.state_machine import Action

# --- when the list is read --------------------------------------------------------------------------------------------


def test_blocked_leg_is_sent_only_after_its_list_was_read() -> None:
    allowed = list_read(blocked(), NOTHING).after
    assert allowed.legs[0].status is LegStatus.BLOCKED, "reading its list does not change it"
    send = the_call(next_step(allowed, LATER, POLICY))
    assert isinstance(send, Send)
    assert send.key == "r-1:2"


def test_one_list_allows_one_send() -> None:
    sent = next_step(list_read(blocked(), NOTHING).after, LATER, POLICY).after
    again = blocked(sent)
    assert isinstance(the_call(next_step(again, LATER, POLICY)), LookUp)


@pytest.mark.parametrize(("age", "is_old"), [(0.0, False), (300.0, False), (301.0, True), (-1.0, True)])
def test_list_is_valid_for_as_long_as_a_sync(age: float, is_old: bool) -> None:
    leg = replace(blocked().legs[0], listed_at=LATER - age)
    assert isinstance(the_call(next_step(replace(blocked(), legs=(leg,)), LATER, POLICY)), LookUp if is_old else Send)


@pytest.mark.parametrize(("leases", "is_old"), [(1.5, False), (2.0, False), (2.01, True)])
def test_list_outlives_the_lease_of_the_batch_that_read_it(leases: float, is_old: bool) -> None:
    """Even if POLL_SECONDS is shorter: otherwise a slow deployment only reads lists."""
    policy = replace(POLICY, poll_seconds=1)
    leg = replace(blocked().legs[0], listed_at=LATER - leases * policy.lease_seconds)
    assert isinstance(the_call(next_step(replace(blocked(), legs=(leg,)), LATER, policy)), LookUp if is_old else Send)


def test_unanswered_look_up_allows_nothing_and_waits_longer() -> None:
    refund, at, waits = blocked(), LATER, []
    for _ in range(8):
        refund = list_read(refund, Unanswered("timeout"), at).after
        assert refund.due_at is not None
        waits.append(refund.due_at - at)
        at = refund.due_at
        assert refund.legs[0].listed_at is None
    assert waits[-1] > 50 * waits[0]


def test_allowed_leg_keeps_its_place_in_the_queue() -> None:
    refund = blocked()
    assert list_read(refund, NOTHING, LATER + 500).after.due_at == LATER


@pytest.mark.parametrize("answered", [Busy("rate_limit"), Unanswered("timeout"), NotSent("refused")])
@pytest.mark.parametrize("lookups_allowed", [True, False])
def test_key_that_waited_through_a_pause_needs_a_look_up(answered: Busy, lookups_allowed: bool) -> None:
    waiting = answer(begun(), answered).after
    at = waiting.due_at or 0.0
    held = next_step(waiting, at, POLICY, paused={"stripe": SendBlock(at + 10, lookups_allowed)})
    assert held.after.legs[0].held
    refund = held.after
    if held.calls:  # what may have been paid is list_read up meanwhile
        refund = apply_reply(refund, "r-1", held.calls[0], NOTHING, at, POLICY, asked_at=at).after
    at = max(at + 10, refund.due_at or 0)
    assert not isinstance(the_call(next_step(refund, at, POLICY)), Send)
    sent = next_step(list_read(refund, NOTHING, at).after, at, POLICY)
    send = the_call(sent)
    assert isinstance(send, Send)
    assert send.key == "r-1:1", "no new attempt: the same key"
    assert not sent.after.legs[0].held
    later = answer(sent.after, answered, at).after
    assert isinstance(the_call(next_step(later, at + 40, POLICY)), Send), "one pause, one look-up"


def test_list_read_before_the_end_of_a_pause_allows_no_send() -> None:
    refund = list_read(blocked(), NOTHING).after
    refund = next_step(refund, LATER, POLICY, paused={"stripe": SendBlock(LATER + 10)}).after
    assert isinstance(the_call(next_step(refund, LATER + 10, POLICY)), LookUp)


def test_outside_refund_stops_a_key_that_waited() -> None:
    waiting = answer(begun(), Unanswered("timeout")).after
    held = replace(waiting, legs=(replace(waiting.legs[0], held=True),))
    at = START + 400
    reported = list_read(held, listing(outside_refund()), at).after
    for _ in range(50):
        if reported.legs[0].status is not LegStatus.UNKNOWN:
            break
        assert reported.due_at is not None
        assert reported.due_at > at
        at = reported.due_at
        last = list_read(reported, listing(outside_refund()), at)
        reported = last.after
    assert_stopped(last, "re_x")
    assert at == START + 1_000


@pytest.mark.parametrize("reply", [Unanswered("timeout"), Busy("rate_limit"), NotSent("refused")], ids=str)
def test_key_is_repeated_without_a_look_up_only_within_a_lease(reply: SearchReply) -> None:
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
def test_blocked_leg_is_looked_up_however_soon_it_is_retried(sent: bool) -> None:
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
def test_dead_workers_send_is_looked_up_before_a_repeat(late: float) -> None:
    """The worker may have died before its call, and a person has paid meanwhile."""
    reported = list_read(begun(), listing(outside_refund()), START + late).after
    assert reported.legs[0].status is LegStatus.UNKNOWN
    assert reported.due_at is not None
    at = max(reported.due_at, START + late + 2_000)
    call = the_call(next_step(reported, reported.due_at, POLICY))
    assert isinstance(call, LookUp)
    assert_stopped(found(due(reported, at), listing(outside_refund()), at), "re_x")


@pytest.mark.parametrize("reply", [Busy("rate_limit"), Unanswered("timeout")], ids=str)
def test_key_over_a_suspect_payment_is_not_repeated_soon(reply: SearchReply) -> None:
    soon = START + 20
    call = the_call(next_step(due(answer(begun(), reply).after, soon), soon, POLICY, suspect={"pay1"}))
    assert isinstance(call, LookUp)
    assert call.before_sending


def test_list_allows_no_key_that_must_not_be_repeated() -> None:
    asked = next_step(answer(begun(), Unanswered("timeout")).after, START + 100, POLICY)
    sticks = replace(
        asked.after,
        legs=(replace(asked.after.legs[0], in_doubt=Doubt(unanswered=True, lookup_required=True)),),
    )
    reported = apply_reply(
        sticks, "r-1", the_call(asked), NOTHING, START + 101, POLICY, asked_at=START + 100
    ).after.legs[0]
    assert (reported.status, reported.listed_at) == (LegStatus.UNKNOWN, None)
    assert reported.next_at is not None
    assert reported.next_at > START + 101


def test_mismatched_object_voids_an_earlier_list() -> None:
    allowed = list_read(answer(begun(), Busy("rate_limit")).after, NOTHING, START + 100).after
    reported = report(allowed, an_object(payment_refs=("ch_other",)), START + 102).after
    assert reported.due_at is not None
    assert isinstance(the_call(next_step(reported, reported.due_at, POLICY)), LookUp)


def test_unsent_leg_with_a_mismatched_object_reads_the_list() -> None:
    planned = replace(begun(), legs=(a_leg(next_at=START),), ledger_posted=True)
    assert isinstance(the_call(next_step(planned, START, POLICY)), Send)
    reported = report(planned, an_object(amount_minor=400), START + 1).after
    assert reported.legs[0].attention_code == "answer_mismatch"
    assert isinstance(the_call(next_step(reported, reported.due_at or 0, POLICY)), LookUp)
    held = replace(reported, legs=(replace(reported.legs[0], attention_code="payment_mismatch", next_at=None),))
    retried = apply_action(held, Action.RETRY, START + 60, POLICY, actor="op", reason="x").after
    assert isinstance(the_call(next_step(retried, START + 60, POLICY)), LookUp)


def test_send_that_never_began_needs_no_list() -> None:
    """The send gets no slot, again and again: the rate limit allows one call, not two."""
    refund, at = begun(), START
    for _ in range(3):
        refund = answer(refund, NotSent("its turn did not come", attempted=False), at + 30).after
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
    refund = answer(again, NotSent("its turn did not come", attempted=False), late + 1).after
    assert isinstance(the_call(next_step(due(refund, late + 500), late + 500, POLICY)), LookUp), "it was sent once"


def test_unanswered_send_is_kept_if_the_next_one_never_began() -> None:
    silent = answer(begun(), Unanswered("timeout")).after
    again = next_step(due(silent, START + 10), START + 10, POLICY).after
    reported = answer(again, NotSent("paused", attempted=False), START + 11).after.legs[0]
    assert (reported.status, reported.unanswered, reported.last_sent_at) == (LegStatus.UNKNOWN, True, START + 10)


def test_list_is_read_after_a_repeat_that_never_began() -> None:
    """Otherwise a repeat that gets no slot, again and again, would put off the list for hours."""
    silent = answer(begun(), Unanswered("timeout")).after
    again = next_step(due(silent, START + 10), START + 10, POLICY).after
    reported = answer(again, NotSent("its turn did not come", attempted=False), START + 11).after
    call = the_call(next_step(due(reported, START + 20), START + 20, POLICY))
    assert isinstance(call, LookUp)
    assert call.before_sending


def test_list_with_object_failed_for_funds_sends_nothing_at_once() -> None:
    """The list that is read before a repeat finds our own object. The next attempt waits for funds."""
    silent = answer(begun(), Unanswered("timeout")).after
    own = an_object("failed", failure_code="insufficient_funds")
    read = list_read(silent, Found((own,)), START + 100).after
    assert (read.legs[0].status, read.legs[0].attempt) == (LegStatus.BLOCKED, 2)
    assert read.due_at == START + 100 + POLICY.retry_max_seconds


def test_clock_rollback_requires_a_look_up_before_a_repeat() -> None:
    waiting = answer(begun(), Busy("rate_limit", 20)).after
    call = the_call(next_step(waiting, START - 5_000, POLICY))
    assert isinstance(call, LookUp)
    assert call.before_sending


def test_key_over_an_outside_refunded_payment_needs_a_look_up() -> None:
    waiting = answer(begun(), Busy("rate_limit")).after
    at = waiting.due_at or 0.0
    assert isinstance(the_call(next_step(waiting, at, POLICY)), Send)
    assert isinstance(the_call(next_step(waiting, at, POLICY, suspect={"pay1"})), LookUp)


def test_same_key_is_repeated_after_the_quiet_window_too() -> None:
    """A new key would forget what the old one still proves."""
    silent = answer(begun(), Unanswered("timeout")).after
    at = START + 1_100
    assert at > START + POLICY.lease_seconds + POLICY.quiet_seconds
    send = the_call(sent_again(due(silent, at), at))
    assert isinstance(send, Send)
    assert send.key == "r-1:1"


def test_refused_credentials_require_a_look_up_before_a_repeat() -> None:
    denied = answer(begun(), Denied("api_key_expired", "no")).after
    soon = START + POLICY.lease_seconds / 2
    assert isinstance(the_call(next_step(due(denied, soon), soon, POLICY)), LookUp)


def test_first_attempt_is_looked_up_only_over_a_suspect_payment() -> None:
    assert isinstance(the_call(next_step(a_refund(), START, POLICY, suspect={"pay9"})), Send)
    refund = next_step(a_refund(), START, POLICY, suspect={"pay1"})
    call = the_call(refund)
    assert isinstance(call, LookUp)
    stopped = apply_reply(
        refund.after, "r-1", call, listing(outside_refund(at=START - 9_999)), START, POLICY, asked_at=START
    )
    assert_stopped(stopped, "re_x")
    allowed = apply_reply(refund.after, "r-1", call, NOTHING, START, POLICY, asked_at=START).after
    assert isinstance(the_call(next_step(allowed, START, POLICY, suspect={"pay1"})), Send)
    silent = apply_reply(refund.after, "r-1", call, Unanswered("timeout"), START, POLICY, asked_at=START).after
    assert silent.due_at is not None
    assert silent.due_at > START
    assert next_step(silent, START, POLICY, suspect={"pay1"}).calls == ()
    # Nothing was sent under the first key: it is as good as new.
    continued = found(retried(stopped.after), listing(outside_refund(at=START - 9_999)), LATER).after
    send = the_call(next_step(continued, LATER, POLICY, suspect={"pay1"}))
    assert isinstance(send, Send)
    assert send.key == "r-1:1"


def test_list_read_before_a_retry_allows_nothing() -> None:
    refund = blocked()
    held_back = {"status": LegStatus.WAITING, "attention_code": "payment_mismatch", "next_at": None, "listed_at": LATER}
    leg = replace(refund.legs[0], attempt=2, sends=0, **held_back)
    assert isinstance(the_call(next_step(retried(replace(refund, legs=(leg,))), LATER, POLICY)), LookUp)
