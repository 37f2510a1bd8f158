"""The database's clock went back: no key of unknown age is replayed, and nothing waits until the old times return."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.domain.builders import (
    NO_ANSWER,
    NOTHING,
    POLICY,
    START,
    a_leg,
    a_refund,
    an_object,
    answer,
    apply_reply,
    begun,
    found,
    report,
    sent_again,
    status_of,
    the_call,
    the_look_up,
    unanswered,
)

from refund_worker.domain.decision import Decision, SendBlock
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.outside_refunds import blocking_refunds
from refund_worker.domain.processor_calls import Fetch, LookUp, Send
from refund_worker.domain.processor_replies import Answered, Busy, Found, NotSent, Refused, Unanswered
from refund_worker.domain.refund import LegStatus, Refund, RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.domain.timing import CLOCK_SLACK_SECONDS

DAY = 86_400.0
SET_BACK = START - DAY


def alarms(decision: Decision) -> list[str]:
    """Return the kinds of the decision's alarms."""
    return [event.kind for event in decision.events if event.alarm]


def leased(refund: Refund) -> Refund:
    """Return the refund with a lease."""
    return replace(refund, lease_token="lease", lease_until=START + POLICY.lease_seconds)


def test_dead_workers_send_is_looked_up_with_an_alarm() -> None:
    decision = next_step(leased(begun()), SET_BACK, POLICY)
    the_look_up(decision)
    assert (status_of(decision), alarms(decision)) == (LegStatus.UNKNOWN, ["clock_went_back"])


def test_unanswered_send_is_not_replayed_when_the_old_time_returns() -> None:
    waiting = next_step(unanswered(), SET_BACK, POLICY)
    the_look_up(waiting)
    missed = answer_to_look_up(waiting.after, NOTHING, SET_BACK + 1)
    the_look_up(next_step(missed.after, SET_BACK + 900, POLICY))


def test_expired_key_stays_expired() -> None:
    dead = found(unanswered(), Found(()), START + 500, asked_at=START + 500).after
    dead = next_step(dead, START + POLICY.key_life_seconds + 1, POLICY).after
    the_look_up(next_step(dead, START + 10, POLICY))


def test_object_found_after_a_clock_rollback_is_adopted() -> None:
    waiting = next_step(leased(begun()), SET_BACK, POLICY).after
    assert answer_to_look_up(waiting, Found((an_object(),)), SET_BACK + 1).after.status is RefundStatus.SUCCEEDED


def test_refund_of_others_after_the_rollback_is_newer_than_the_intent() -> None:
    """Otherwise it would seem to be known since before the leg was planned, and the same money would go out again."""
    noticed = next_step(leased(begun()), SET_BACK, POLICY).after
    assert noticed.legs[0].first_intent_at == SET_BACK
    made = replace(an_object(), processor_refund_id="re_x", leg_id=None, attempt=None)
    made = replace(made, created_at=datetime.fromtimestamp(SET_BACK + 3_000, UTC))
    assert made.created_at.timestamp() < START  # by the old times it is older than the intent
    assert blocking_refunds(noticed.legs[0], Found((), (made,), explained_minor=made.amount_minor)) == (made,)
    assert blocking_refunds(begun().legs[0], Found((), (made,), explained_minor=made.amount_minor)) == ()


def test_quiet_window_starts_when_the_rollback_is_noticed() -> None:
    waiting = next_step(leased(begun()), SET_BACK, POLICY).after
    early = answer_to_look_up(waiting, NOTHING, SET_BACK + 999).after
    assert early.legs[0].attempt == 1
    proved = answer_to_look_up(waiting, NOTHING, SET_BACK + 1_000).after
    assert (proved.legs[0].attempt, proved.legs[0].status) == (2, LegStatus.WAITING)


@pytest.mark.parametrize("reply", [NO_ANSWER, Busy("rate_limit"), NotSent("refused")], ids=str)
def test_answer_after_a_rollback_does_not_allow_a_replay(reply: Unanswered) -> None:
    """The worker survived: its answer must not erase the sign that the clock went back."""
    sent_twice = sent_again(unanswered(), START + 500).after
    after = answer(sent_twice, reply, SET_BACK).after
    the_look_up(next_step(after, SET_BACK + 900, POLICY))


def test_refusal_of_the_only_send_stays_a_refusal() -> None:
    assert status_of(answer(begun(), Refused("charge_disputed", "no"), SET_BACK)) is LegStatus.FAILED


def test_report_on_one_leg_does_not_delay_the_other() -> None:
    both = leased(begun(a_leg(), a_leg(2)))
    reported = report(both, an_object(), SET_BACK).after
    assert reported.legs[1].status is LegStatus.SENDING
    assert (reported.due_at or 0) <= SET_BACK
    assert (reported.lease_until or 0) <= SET_BACK + POLICY.lease_seconds
    the_look_up(next_step(reported, SET_BACK + POLICY.lease_seconds, POLICY))


def test_pending_object_is_polled_at_once() -> None:
    pending = answer(begun(), Answered(an_object("pending"))).after
    decision = next_step(pending, SET_BACK, POLICY)
    assert isinstance(the_call(decision), Fetch)
    assert alarms(decision) == [], "nothing about it is in doubt"


def test_refund_postponed_by_a_pause_starts() -> None:
    put_off = next_step(a_refund(), START, POLICY, paused={"stripe": SendBlock(START + 3_600)}).after
    assert isinstance(the_call(next_step(put_off, SET_BACK, POLICY)), Send)


def test_operator_action_corrects_future_times_too() -> None:
    awaiting = a_refund(status=RefundStatus.AWAITING_APPROVAL, due_at=None)
    decision = apply_action(awaiting, Action.APPROVE, SET_BACK, POLICY, actor="otto", reason="fine")
    assert decision.after.due_at == SET_BACK


def test_small_clock_correction_changes_nothing() -> None:
    little = START + 1 - CLOCK_SLACK_SECONDS
    refund = replace(unanswered(), legs=(replace(unanswered().legs[0], next_at=little),))
    decision = next_step(refund, little, POLICY)
    assert isinstance(the_call(decision), Send)
    assert alarms(decision) == []


def answer_to_look_up(refund: Refund, reply: Found, at: float) -> Decision:
    """Apply the answer to a look-up that was asked at the same time."""
    return found(refund, reply, at, asked_at=at)


def test_look_up_during_a_clock_rollback_proves_nothing() -> None:
    """Found by the simulation (seed 2099861): the question seemed to be asked a day after the send."""
    refund = unanswered()
    look_up = LookUp("r-1", "stripe", "ch_1")
    reported = apply_reply(refund, "r-1", look_up, NOTHING, SET_BACK, POLICY, asked_at=START + 3)
    assert (status_of(reported), reported.after.legs[0].attempt) == (LegStatus.UNKNOWN, 1)
