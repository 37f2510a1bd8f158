"""The database's clock leapt forward, or all workers were down for hours: such a time is no quiet window."""

from __future__ import annotations

from dataclasses import replace

from tests.domain.builders import (
    NOTHING,
    POLICY,
    START,
    an_object,
    apply_reply,
    begun,
    found,
    look_up_of,
    status_of,
    the_look_up,
    unanswered,
)

from refund_worker.domain.decision import Decision
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.processor_replies import Found, SearchReply
from refund_worker.domain.refund import LegStatus, Refund, RefundStatus
from refund_worker.domain.state_machine import Action

LEAPT = START + 86_400.0
QUIET = POLICY.quiet_seconds + POLICY.lease_seconds


def looked_up(refund: Refund, reply: SearchReply, at: float) -> Decision:
    """Apply the answer to a look-up that began at `at`, whenever it was due."""
    return apply_reply(refund, "r-1", look_up_of(refund), reply, at + 1, POLICY, asked_at=at)


def kinds(decision: Decision) -> list[str]:
    """Return the kinds of the decision's events."""
    return [event.kind for event in decision.events]


def test_clock_leap_of_a_day_proves_nothing() -> None:
    waiting = next_step(unanswered(), LEAPT, POLICY)
    the_look_up(waiting)
    assert "quiet_begins_anew" in kinds(waiting)
    missed = looked_up(waiting.after, NOTHING, LEAPT)
    assert (missed.after.legs[0].attempt, status_of(missed)) == (1, LegStatus.UNKNOWN)
    assert missed.after.status is RefundStatus.SENDING


def test_clock_leap_does_not_prove_a_dead_workers_send_absent() -> None:
    missed = looked_up(next_step(begun(), LEAPT, POLICY).after, NOTHING, LEAPT)
    assert (missed.after.legs[0].attempt, status_of(missed)) == (1, LegStatus.UNKNOWN)


def test_answer_under_way_during_a_clock_leap_proves_nothing() -> None:
    refund = unanswered()
    missed = apply_reply(refund, "r-1", look_up_of(refund), NOTHING, LEAPT, POLICY, asked_at=LEAPT)
    assert (missed.after.legs[0].attempt, status_of(missed)) == (1, LegStatus.UNKNOWN)


def test_restarted_quiet_window_ends() -> None:
    waiting = next_step(unanswered(), LEAPT, POLICY).after
    early = found(waiting, NOTHING, LEAPT + QUIET - 1)
    assert status_of(early) is LegStatus.UNKNOWN
    ended = found(early.after, NOTHING, LEAPT + QUIET)
    assert status_of(ended) is not LegStatus.UNKNOWN


def test_object_found_after_a_clock_leap_is_adopted() -> None:
    waiting = next_step(unanswered(), LEAPT, POLICY).after
    assert looked_up(waiting, Found((an_object(),)), LEAPT).after.status is RefundStatus.SUCCEEDED


def test_retry_does_not_hide_a_clock_leap() -> None:
    refund = unanswered()
    unreachable = replace(refund.legs[0], attention_code="processor_unreachable")
    stuck = replace(refund, status=RefundStatus.NEEDS_ATTENTION, legs=(unreachable,))
    retried = apply_action(stuck, Action.RETRY, LEAPT, POLICY, actor="olga", reason="it is slow")
    missed = looked_up(retried.after, NOTHING, LEAPT)
    assert (missed.after.legs[0].attempt, status_of(missed)) == (1, LegStatus.UNKNOWN)


def test_slightly_late_look_up_keeps_the_quiet_window() -> None:
    waiting = next_step(unanswered(), START + POLICY.quiet_seconds / 2, POLICY)
    assert "quiet_begins_anew" not in kinds(waiting)
