"""The database's clock leapt forward, or nobody worked for hours: such a time is no quiet window."""

from __future__ import annotations

from dataclasses import replace

from tests.domain.builders import (
    POLICY,
    START,
    an_object,
    answer,
    begun,
    found,
    heard,
    look_up_of,
    status_of,
    the_look_up,
)

from refund_worker.domain.decision import Decision
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.processor_replies import Found, SearchReply, Unanswered
from refund_worker.domain.refund import LegStatus, Refund, RefundStatus
from refund_worker.domain.state_machine import Action

LEAPT = START + 86_400.0
NOTHING = Found(())
QUIET = POLICY.quiet_seconds + POLICY.lease_seconds


def silent() -> Refund:
    return answer(begun(), Unanswered("timeout")).after


def looked_up(refund: Refund, reply: SearchReply, at: float) -> Decision:
    """The answer to a look-up that began at `at`, whenever it was due."""
    return heard(refund, "r-1", look_up_of(refund), reply, at + 1, POLICY, asked_at=at)


def kinds(decision: Decision) -> list[str]:
    return [event.kind for event in decision.events]


def test_a_leap_of_a_day_is_no_quiet_window_and_proves_nothing() -> None:
    looking = next_step(silent(), LEAPT, POLICY)
    the_look_up(looking)
    assert "quiet_begins_anew" in kinds(looking)
    missed = looked_up(looking.after, NOTHING, LEAPT)
    assert (missed.after.legs[0].attempt, status_of(missed)) == (1, LegStatus.UNKNOWN)
    assert missed.after.status is RefundStatus.SENDING


def test_a_dead_workers_send_is_not_proved_absent_by_a_leap() -> None:
    missed = looked_up(next_step(begun(), LEAPT, POLICY).after, NOTHING, LEAPT)
    assert (missed.after.legs[0].attempt, status_of(missed)) == (1, LegStatus.UNKNOWN)


def test_an_answer_that_was_under_way_when_the_clock_leapt_proves_nothing() -> None:
    refund = silent()
    missed = heard(refund, "r-1", look_up_of(refund), NOTHING, LEAPT, POLICY, asked_at=LEAPT)
    assert (missed.after.legs[0].attempt, status_of(missed)) == (1, LegStatus.UNKNOWN)


def test_the_quiet_window_that_began_anew_ends() -> None:
    looking = next_step(silent(), LEAPT, POLICY).after
    early = found(looking, NOTHING, LEAPT + QUIET - 1)
    assert status_of(early) is LegStatus.UNKNOWN
    ended = found(early.after, NOTHING, LEAPT + QUIET)
    assert status_of(ended) is not LegStatus.UNKNOWN


def test_what_is_found_after_a_leap_is_adopted_at_once() -> None:
    looking = next_step(silent(), LEAPT, POLICY).after
    assert looked_up(looking, Found((an_object(),)), LEAPT).after.status is RefundStatus.SUCCEEDED


def test_a_persons_retry_hides_no_leap() -> None:
    refund = silent()
    unreachable = replace(refund.legs[0], attention_code="processor_unreachable")
    stuck = replace(refund, status=RefundStatus.NEEDS_ATTENTION, legs=(unreachable,))
    retried = apply_action(stuck, Action.RETRY, LEAPT, POLICY, actor="olga", reason="it is slow")
    missed = looked_up(retried.after, NOTHING, LEAPT)
    assert (missed.after.legs[0].attempt, status_of(missed)) == (1, LegStatus.UNKNOWN)


def test_a_look_that_is_a_little_late_changes_no_window() -> None:
    looking = next_step(silent(), START + POLICY.quiet_seconds / 2, POLICY)
    assert "quiet_begins_anew" not in kinds(looking)
