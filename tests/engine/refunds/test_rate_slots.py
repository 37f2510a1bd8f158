"""A rate limit too low for the claimed refunds: those without a slot are released, and the others are recorded."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace

from tests.support.engine_world import START, World

from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.refunds.process import process_due

CALLS, TURN_SECONDS, LEASE_SECONDS = 30, 0.1, 2.0


class Slow:
    """A rate limiter that gives one slot after another to all callers."""

    def __init__(self) -> None:
        self._one_at_a_time: asyncio.Lock | None = None

    async def acquire(self, processor: str) -> None:
        """Wait for the next slot, `TURN_SECONDS` after the one before."""
        self._one_at_a_time = self._one_at_a_time or asyncio.Lock()
        async with self._one_at_a_time:
            await asyncio.sleep(TURN_SECONDS)


def test_calls_without_a_rate_slot_lose_no_answers_of_the_batch(world: World) -> None:
    for number in range(CALLS):
        world.pay(number)
    refunds = [world.withdraw(100, f"k{number}") for number in range(CALLS)]
    began = time.monotonic()
    world.context = replace(
        world.context,
        policy=replace(world.context.policy, lease_seconds=LEASE_SECONDS),
        limiter=Slow(),
        clock=lambda _connection: START + time.monotonic() - began,
    )

    assert process_due(world.context) == CALLS, "the rate lets about a third of them through within the lease"

    found = [world.refund(refund_id) for refund_id in refunds]
    statuses = Counter(refund.status for refund in found)
    assert statuses[RefundStatus.SUCCEEDED] == len(world.processor.sends) > 0
    assert statuses[RefundStatus.SENDING] == CALLS - statuses[RefundStatus.SUCCEEDED] > 0
    assert {leg.retry_count for refund in found for leg in refund.legs} == {0}, "no sign of a processor in trouble"
