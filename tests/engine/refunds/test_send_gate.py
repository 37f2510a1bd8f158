"""The kill switch while a batch is in progress: refunds that wait for their slot must not be sent after a pause."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from tests.support.engine_world import World
from tests.support.scripted_processor import ScriptedProcessor

from refund_worker.domain.processor_replies import Refused
from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.processor_sync.pause import pause_processor, resume_processor
from refund_worker.engine.refunds.process import process_due

CALLS, BEFORE = 20, 3
WITHIN_SECONDS = 5


class OneASecond:
    """A rate limiter on its own clock, one slot a second; an operator pauses sending after three calls."""

    def __init__(self, world: World, switch: str) -> None:
        self.world, self.switch = world, switch
        self.seconds = 0.0
        self.paused_at = 0.0

    async def acquire(self, processor: str) -> None:
        """Let one second pass; before the fourth call, pause `switch`."""
        self.seconds += 1
        if self.seconds == BEFORE + 1:
            pause_processor(self.world.context, self.switch, actor="op", reason="fire")
            self.paused_at = self.seconds


@pytest.mark.parametrize("switch", ["stripe", "all"])
def test_pause_stops_sends_within_seconds_and_all_go_after_it(world: World, switch: str) -> None:
    for number in range(CALLS):
        world.pay(number)
    refunds = [world.withdraw(100, f"k{number}") for number in range(CALLS)]
    limiter = OneASecond(world, switch)
    sent_at: list[float] = []
    world.processor.while_sending = lambda: sent_at.append(limiter.seconds)
    policy = replace(world.context.policy, lease_seconds=1_000)
    unlimited = replace(world.context, policy=policy)
    world.context = replace(unlimited, limiter=limiter, monotonic=lambda: limiter.seconds)

    assert process_due(world.context) == CALLS, "all were claimed before the pause"
    assert sent_at[:BEFORE] == [1.0, 2.0, 3.0]
    assert max(sent_at) <= limiter.paused_at + WITHIN_SECONDS

    world.context = unlimited
    world.work_for(100)
    assert len(world.processor.sends) == len(sent_at)
    assert resume_processor(world.context, switch)
    world.work_for(4_000)
    assert {world.refund(refund_id).status for refund_id in refunds} == {RefundStatus.SUCCEEDED}
    assert world.processor.paid_minor() == CALLS * 1_000
    assert len(world.processor.sends) == CALLS


@pytest.mark.parametrize("switch", ["paypal", "all"])
def test_replacement_over_a_paused_processor_waits_for_resume(world: World, switch: str) -> None:
    """The refund was over another processor when it was claimed, so the pause of this one had to be read as well."""
    paypal = ScriptedProcessor("paypal")
    world.context = replace(world.context, processors={"stripe": world.processor, "paypal": paypal})
    world.pay(1, processor="paypal", processor_payment_id="PAYID-1")
    world.pay(2)
    world.processor.script("ch_2", Refused("charge_not_refundable", "no"))
    world.processor.while_sending = lambda: pause_processor(world.context, switch, actor="op", reason="fire")
    refund_id = world.withdraw(100)
    world.work_for(600)
    assert (len(world.processor.sends), paypal.sends) == (1, [])
    assert world.refund(refund_id).status is RefundStatus.SENDING
    resume_processor(world.context, switch)
    world.work_for(4_000)
    assert (world.refund(refund_id).status, paypal.paid_minor()) == (RefundStatus.SUCCEEDED, 1_000)


def test_worker_frozen_at_the_switch_does_not_send_on_waking(world: World) -> None:
    """Found by the simulation (seed 600095): hours later the key may have expired, and the send would pay again."""
    world.pay()
    refund_id = world.withdraw()
    # Clock readings: before the claim, before the slot, before the switch is read, and after it is read.
    clock = itertools.chain([0.0, 0.0, 2.0], itertools.repeat(50_000.0))
    process_due(replace(world.context, monotonic=lambda: next(clock)))
    assert world.processor.sends == []
    world.work_for(4_000)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert len(world.processor.sends) == 1
