"""A time limit ends a task from outside. The refund is not blamed, and it is processed again when its lease ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import Connection
from tests.support.engine_world import POLICY, ScriptedProcessor, World

from refund_worker.domain.processor_replies import Reply
from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.refunds.process import process_due
from refund_worker.worker.soft_limit import TimeIsUp


class TimeUp(ScriptedProcessor):
    """A processor whose first send hits the task's time limit, after it has paid if `has_paid`, else before."""

    def __init__(self, *, has_paid: bool) -> None:
        super().__init__()
        self.has_paid = has_paid
        self.times = 1

    async def send(self, key: str, body: str) -> Reply:
        """Raise `TimeIsUp` once, before or after the payment."""
        if self.times and not self.has_paid:
            self.times -= 1
            raise TimeIsUp
        reply = await super().send(key, body)
        if self.times:
            self.times -= 1
            raise TimeIsUp
        return reply


def clock_that_ends_at(world: World, call: int | None) -> Callable[[Connection], float]:
    """Return the world's clock, which raises `TimeIsUp` at this call; the first call is number 1."""
    calls = 0

    def clock(_connection: Connection) -> float:
        nonlocal calls
        calls += 1
        if calls == call:
            raise TimeIsUp
        return world.now

    return clock


def interrupted(world: World, *, in_call: TimeUp | None = None, at_clock: int | None = None) -> str:
    """Return a withdrawal whose first round was ended by the time limit, and which got no error for it."""
    if in_call is not None:
        world.processor = in_call
    world.pay()
    refund_id = world.withdraw()
    world.context = replace(world.context, processors={"stripe": world.processor})
    with pytest.raises(TimeIsUp):
        process_due(replace(world.context, clock=clock_that_ends_at(world, at_clock)))
    refund = world.refund(refund_id)
    assert (refund.failure_code, refund.failure_message) == (None, None)
    assert "internal_error" not in world.events(refund_id)
    return refund_id


def assert_paid_once(world: World, refund_id: str) -> None:
    """Check that the refund succeeds with one object and one payment, and without an internal error."""
    world.work_for(2_000)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert (len(world.processor.objects), world.processor.paid_minor()) == (1, 1_000)
    assert "internal_error" not in world.events(refund_id)


def assert_its_lease_stays(world: World, refund_id: str) -> None:
    """Check that the lease stays, and that no worker takes the refund before it ends."""
    refund = world.refund(refund_id)
    assert refund.status is RefundStatus.SENDING
    assert refund.lease_until == world.now + POLICY.lease_seconds
    sends, asked = len(world.processor.sends), len(world.processor.asked)
    world.work_for(POLICY.lease_seconds - 1)
    assert (len(world.processor.sends), len(world.processor.asked)) == (sends, asked), "nobody else takes it up"


@pytest.mark.parametrize("has_paid", [False, True])
def test_in_the_middle_of_a_call(world: World, has_paid: bool) -> None:
    refund_id = interrupted(world, in_call=TimeUp(has_paid=has_paid))
    assert_its_lease_stays(world, refund_id)
    assert_paid_once(world, refund_id)


def test_while_a_refund_is_claimed(world: World) -> None:
    refund_id = interrupted(world, at_clock=1)
    assert world.refund(refund_id).status is RefundStatus.QUEUED
    assert world.processor.sends == []
    assert_paid_once(world, refund_id)


def test_while_the_answer_is_recorded(world: World) -> None:
    refund_id = interrupted(world, at_clock=2)
    assert len(world.processor.objects) == 1, "it has paid, and this is not known here"
    assert_its_lease_stays(world, refund_id)
    assert_paid_once(world, refund_id)
