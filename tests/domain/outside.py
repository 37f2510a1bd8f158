"""Builders for refunds that others made over a leg's payment."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from tests.domain.builders import (
    POLICY,
    START,
    an_object,
    answer,
    apply_reply,
    begun,
    the_call,
)

from refund_worker.domain.decision import Decision
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.processor_calls import LookUp
from refund_worker.domain.processor_replies import (
    Blocked,
    Found,
    RefundObject,
    SearchReply,
)
from refund_worker.domain.refund import LegStatus, Refund, RefundStatus
from refund_worker.domain.state_machine import Action, available_actions

EMPTY = Blocked("balance_insufficient", "not now")

LATER = START + 2_000


def outside_refund(
    name: str = "re_x", at: float = START + 10, minor: int = 1_000, status: str = "succeeded"
) -> RefundObject:
    """Return a refund that others made over the first leg's payment."""
    made = datetime.fromtimestamp(at, UTC)
    return an_object(status, name, leg_id=None, attempt=None, amount_minor=minor, created_at=made)


def listing(*refund_objects: RefundObject, explained_minor: int = 0) -> Found:
    """Return a list that shows only these refunds of others."""
    return Found((), refund_objects, explained_minor)


def blocked(refund: Refund | None = None) -> Refund:
    """Return a refund that was refused for now and is due again."""
    refund = answer(refund or begun(), EMPTY).after
    return replace(refund, legs=(replace(refund.legs[0], next_at=LATER), *refund.legs[1:]))


def list_read(refund: Refund, reply: SearchReply, at: float = LATER) -> Decision:
    """Apply the list that is read before a send, answered at once."""
    waiting = next_step(refund, at, POLICY)
    call = the_call(waiting)
    assert isinstance(call, LookUp)
    return apply_reply(waiting.after, call.leg_id, call, reply, at, POLICY, asked_at=at)


def assert_stopped(decision: Decision, *names: str) -> None:
    """Assert that the leg waits for a person because of the refunds with these `names`."""
    refund, leg = decision.after, decision.after.legs[0]
    assert (leg.status, leg.blocked_by, leg.next_at) == (LegStatus.BLOCKED, names, None)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, "refunded_elsewhere")
    assert available_actions(refund) == (Action.RETRY, Action.RESOLVE)
    assert decision.payments == {}
    (reported,) = [event for event in decision.events if event.alarm]
    assert reported.detail == {"objects": " ".join(names)}


def retried(refund: Refund, at: float = LATER) -> Refund:
    """Return the refund after a person's retry."""
    return apply_action(refund, Action.RETRY, at, POLICY, actor="op", reason="seen").after
