"""A payment without a list of its refunds, at a processor that lists those of others: only its key tells what happened.

The processor is one whose list is read before each send.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.domain.builders import NO_ANSWER, POLICY, START, a_refund, apply_reply, due, the_call

from refund_worker.domain.decision import Decision, Policy, ProcessorRules, SendBlock
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import Action, apply_action
from refund_worker.domain.processor_calls import LookUp, Send
from refund_worker.domain.processor_replies import AlreadyRefunded, Answer, Blocked, NoList, Refused
from refund_worker.domain.refund import LegStatus, Refund, RefundStatus

DAY = 86_400.0
RULES = ProcessorRules(key_seconds=45 * DAY, key_use_seconds=40 * DAY, lists_each_payment=True)
POLICY_HERE: Policy = replace(POLICY, processors={"stripe": RULES})
UNTOUCHED, TOUCHED = NoList("no_order", "no order", untouched=True), NoList("no_order", "no order")
QUIET = POLICY_HERE.quiet_seconds + POLICY_HERE.lease_seconds
KEY_IS_OLD = START + 40 * DAY + 1


def asked(refund: Refund, reply: Answer, at: float) -> Refund:
    """Return the refund after the one call that is due was answered."""
    planned = next_step(due(refund, at), at, POLICY_HERE)
    call = the_call(planned)
    return apply_reply(planned.after, call.leg_id, call, reply, at, POLICY_HERE, asked_at=at).after


def planned(refund: Refund, at: float) -> Decision:
    """Return the step that is due."""
    return next_step(due(refund, at), at, POLICY_HERE)


def sent(reply: Answer) -> Refund:
    """Return a refund over an untouched payment whose first send got this reply."""
    return asked(asked(a_refund(), UNTOUCHED, START), reply, START)


def assert_with_a_person(refund: Refund, code: str) -> None:
    """Assert that a person decides, and that nothing was given back."""
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, code)
    assert refund.legs[0].status is LegStatus.BLOCKED
    assert refund.legs[0].reversed_credits == 0
    assert refund.due_at is None


def test_untouched_payment_is_sent_over() -> None:
    call = the_call(planned(asked(a_refund(), UNTOUCHED, START), START))
    assert isinstance(call, Send)
    assert call.key == "r-1:1"


def test_payment_of_which_something_was_refunded_goes_to_a_person() -> None:
    refund = asked(a_refund(), TOUCHED, START)
    assert_with_a_person(refund, "no_order")
    retried = apply_action(refund, Action.RETRY, START + 1, POLICY_HERE, actor="olga", reason="again").after
    assert_with_a_person(asked(retried, TOUCHED, START + 2), "no_order")


@pytest.mark.parametrize("record", [UNTOUCHED, TOUCHED])
def test_unanswered_send_is_only_repeated_under_its_key(record: NoList) -> None:
    """Its own refund may be what touched the payment."""
    refund = sent(NO_ANSWER)
    for at in (START + 10, START + DAY, KEY_IS_OLD - QUIET - 10):
        refund = asked(refund, record, at)
        call = the_call(planned(refund, at))
        assert isinstance(call, Send)
        assert (call.attempt, call.key) == (1, "r-1:1")
        refund = asked(refund, NO_ANSWER, at)


@pytest.mark.parametrize("record", [UNTOUCHED, TOUCHED])
def test_unknown_outcome_ends_with_a_person_after_the_keys_life(record: NoList) -> None:
    refund = asked(sent(NO_ANSWER), record, KEY_IS_OLD)
    assert_with_a_person(refund, "outcome_unknown")
    retried = apply_action(refund, Action.RETRY, KEY_IS_OLD + 1, POLICY_HERE, actor="olga", reason="again").after
    assert_with_a_person(asked(retried, record, KEY_IS_OLD + 2), "outcome_unknown")


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Refused("too_much", "less is left", more_than_left=True), "too_much"),
        (AlreadyRefunded("all is gone"), "charge_already_refunded"),
    ],
)
def test_refusal_that_needs_the_list_goes_to_a_person(reply: Answer, code: str) -> None:
    assert_with_a_person(asked(sent(reply), UNTOUCHED, START + 5), code)


def test_blocked_refund_gets_a_new_attempt_over_an_untouched_payment() -> None:
    refund = asked(sent(Blocked("empty", "no money")), UNTOUCHED, START + 9_000)
    call = the_call(planned(refund, START + 9_000))
    assert isinstance(call, Send)
    assert call.key == "r-1:2"


@pytest.mark.parametrize("at", [START + 100, START + QUIET + 100, KEY_IS_OLD - QUIET - 100])
def test_pause_keeps_asking_without_a_hurry_and_sends_nothing(at: float) -> None:
    """While the key lives, the outcome is not lost: the repeat only waits."""
    paused = {"stripe": SendBlock(until=at + 300, lookups_allowed=True)}
    step = next_step(due(sent(NO_ANSWER), at), at, POLICY_HERE, paused=paused)
    call = the_call(step)
    assert isinstance(call, LookUp)
    after = apply_reply(step.after, call.leg_id, call, UNTOUCHED, at, POLICY_HERE, asked_at=at).after
    assert after.legs[0].status is LegStatus.UNKNOWN
    assert (after.due_at or 0) > at


def test_watched_payment_by_hand_is_not_sent_again() -> None:
    manual = apply_action(
        sent(NO_ANSWER), Action.RESOLVE, START + 5, POLICY_HERE, actor="olga", reason="paid", reference="cheque 7"
    ).after
    waits = asked(manual, UNTOUCHED, START + 10)
    assert (waits.due_at or 0) > START + 10
    over = asked(waits, UNTOUCHED, START + QUIET + 1)
    assert (over.status, over.due_at) == (RefundStatus.SUCCEEDED, None)
