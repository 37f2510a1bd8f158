"""The rules of one processor: how long it keeps a key, and whether its list proves that a refund does not exist."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.domain.builders import (
    POLICY,
    START,
    a_refund,
    apply_reply,
    due,
    look_up_of,
    send_of,
    sent_again,
    status_of,
    the_call,
)

from refund_worker.domain.decision import Decision, Policy, ProcessorRules
from refund_worker.domain.next_step import next_step
from refund_worker.domain.processor_calls import LookUp, Send
from refund_worker.domain.processor_replies import Answer, Blocked, Found, Refused, Unanswered
from refund_worker.domain.refund import LegStatus, Refund, RefundStatus
from refund_worker.domain.state_machine import FINAL_LEGS

HOUR = 3_600.0
LATER = START + 2_000  # the quiet window has passed, and the policy's own life of a key has not


def policy_of(**rules: object) -> Policy:
    return replace(POLICY, processors={"stripe": ProcessorRules(**rules)})  # type: ignore[arg-type]


def unanswered(policy: Policy) -> Refund:
    """Return a refund with a first send that has no answer."""
    sent = next_step(a_refund(), START, policy).after
    call = send_of(sent)
    return apply_reply(sent, call.leg_id, call, Unanswered("timeout"), START + 1, policy, asked_at=START).after


def not_found(policy: Policy, at: float) -> Decision:
    """Return the decision after a look-up at `at` found nothing."""
    refund = unanswered(policy)
    return apply_reply(due(refund, at), "r-1", look_up_of(refund), Found(()), at, policy, asked_at=at)


@pytest.mark.parametrize(("key_seconds", "used_seconds"), [(HOUR, HOUR), (86_400.0, POLICY.key_life_seconds)])
def test_key_is_used_no_longer_than_the_processor_keeps_it(key_seconds: float, used_seconds: float) -> None:
    assert policy_of(key_seconds=key_seconds).key_use_seconds("stripe") == used_seconds


def test_key_is_not_sent_again_if_it_may_be_forgotten_on_arrival() -> None:
    policy = policy_of(key_seconds=HOUR)
    last = START + HOUR - policy.quiet_seconds - policy.lease_seconds
    refund = due(unanswered(policy), last)
    assert isinstance(the_call(sent_again(refund, last, policy)), Send)
    assert the_call(next_step(refund, last + 1, policy)) == LookUp("r-1", "stripe", "ch_1")


def test_refund_not_found_after_its_key_was_forgotten_needs_a_person() -> None:
    assert status_of(not_found(policy_of(key_seconds=HOUR), START + HOUR - 1)) is LegStatus.WAITING
    decision = not_found(policy_of(key_seconds=HOUR), START + HOUR)
    assert (decision.after.status, decision.after.failure_code) == (RefundStatus.NEEDS_ATTENTION, "outcome_unknown")


def test_refund_not_found_is_sent_only_if_list_proves_absence() -> None:
    assert status_of(not_found(policy_of(list_proves_absence=True), LATER)) is LegStatus.WAITING
    decision = not_found(policy_of(list_proves_absence=False), LATER)
    assert (decision.after.status, decision.after.failure_code) == (RefundStatus.NEEDS_ATTENTION, "outcome_unknown")
    assert "list may be incomplete" in (decision.after.failure_message or "")


REFUSALS = [Refused("declined", "no"), Refused("too_much", "no", more_than_left=True), Blocked("balance_low", "empty")]


def refused_then_not_found(policy: Policy, refusal: Answer, at: float) -> Decision:
    """Return the decision after a send without an answer, a refusal of its repeat, and an empty list at `at`."""
    refund = unanswered(policy)
    repeated = sent_again(refund, START + 10, policy).after
    call = send_of(repeated)
    refused = apply_reply(repeated, call.leg_id, call, refusal, START + 11, policy, asked_at=START + 10).after
    return apply_reply(due(refused, at), "r-1", look_up_of(refused), Found(()), at, policy, asked_at=at)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.code)
@pytest.mark.parametrize(
    ("rules", "at"), [({"list_proves_absence": False}, LATER), ({"key_seconds": HOUR}, START + HOUR)]
)
def test_refusal_of_a_repeat_does_not_settle_an_unproved_first_send(
    refusal: Answer, rules: dict[str, object], at: float
) -> None:
    decision = refused_then_not_found(policy_of(**rules), refusal, at)
    assert (decision.after.status, decision.after.failure_code) == (RefundStatus.NEEDS_ATTENTION, "outcome_unknown")
    assert decision.after.legs[0].status not in FINAL_LEGS
    proved = refused_then_not_found(policy_of(list_proves_absence=True, key_seconds=86_400.0), refusal, LATER)
    assert proved.after.failure_code != "outcome_unknown"
