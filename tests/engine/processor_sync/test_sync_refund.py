"""A refund is asked about on demand: in every status, within the rate, and only answers change anything."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest
from tests.support.engine_world import World
from tests.support.scripted_processor import ScriptedProcessor

from refund_worker.domain.processor_replies import Busy, Denied, Misconfigured, RefundDetails, Reply, Unanswered
from refund_worker.domain.refund import LegStatus, RefundStatus
from refund_worker.engine.processor_sync.sync_refund import Access, sync_refund
from refund_worker.errors import NotAtProcessor, NotFound, ProcessorUnavailable

TRACED = RefundDetails(method="card", trace_kind="arn", trace_value="7453", trace_status="available")


@dataclass
class Slots:
    """A limiter that counts, and that can have no slot."""

    taken: list[str] = field(default_factory=list)
    free: bool = True
    closed: bool = False

    async def acquire(self, processor: str) -> None:
        self.taken.append(processor)
        if not self.free:
            await asyncio.sleep(60)

    async def close(self) -> None:
        self.closed = True


def access(world: World, slots: Slots | None = None) -> Access:
    return Access(lambda: {"stripe": world.processor}, lambda: slots or Slots())


def requested(world: World, *ways: str | Reply) -> str:
    world.pay()
    world.processor.script("ch_1", *ways)
    refund_id = world.withdraw()
    world.work()
    return refund_id


@pytest.mark.parametrize(
    ("way", "becomes", "expected"),
    [
        ("pending", "succeeded", RefundStatus.SUCCEEDED),
        ("requires_action", "pending", RefundStatus.PENDING),
        ("pays", "failed", RefundStatus.REVERSING),
    ],
)
def test_new_status_is_recorded_at_once(world: World, way: str, becomes: str, expected: RefundStatus) -> None:
    refund_id = requested(world, way)
    world.processor.become("re_1", becomes)
    assert sync_refund(world.context, access(world), refund_id).status is expected
    world.work()


def test_finished_refund_gets_its_trace(world: World) -> None:
    refund_id = requested(world)
    world.processor.objects["re_1"] = replace(world.processor.objects["re_1"], details=TRACED)
    slots = Slots()
    refund = sync_refund(world.context, access(world, slots), refund_id)
    assert refund.status is RefundStatus.SUCCEEDED
    assert refund.legs[0].report is not None
    assert refund.legs[0].report.details == TRACED
    assert (slots.taken, slots.closed) == (["stripe"], True)


def test_unanswered_send_is_found(world: World) -> None:
    refund_id = requested(world, "pays_silently")
    assert sync_refund(world.context, access(world), refund_id).status is RefundStatus.SUCCEEDED


def test_unanswered_second_send_is_found_beside_the_first_object(world: World) -> None:
    refund_id = requested(world, "pending", "pays_silently")
    first = world.processor.objects["re_1"]
    world.processor.objects["re_1"] = replace(first, status="failed", failure_code="insufficient_funds")
    assert sync_refund(world.context, access(world), refund_id).legs[0].status is LegStatus.BLOCKED
    world.work_for(world.context.policy.retry_max_seconds)
    assert world.refund(refund_id).legs[0].status is LegStatus.UNKNOWN
    assert sync_refund(world.context, access(world), refund_id).status is RefundStatus.SUCCEEDED


def test_blocked_refund_shows_what_was_sent_all_the_same(world: World) -> None:
    refund_id = requested(world, "pending")
    first = world.processor.objects["re_1"]
    world.processor.objects["re_1"] = replace(first, status="failed", failure_code="insufficient_funds")
    sync_refund(world.context, access(world), refund_id)
    world.processor.objects["re_9"] = replace(first, processor_refund_id="re_9", status="succeeded", attempt=2)
    assert sync_refund(world.context, access(world), refund_id).status is RefundStatus.SUCCEEDED


def test_finished_refund_that_is_not_there_is_said(world: World) -> None:
    refund_id = requested(world)
    before = world.refund(refund_id)
    lost = Silent()
    lost.reply = Misconfigured("resource_missing", "No such refund")
    with pytest.raises(NotAtProcessor, match="re_1") as error:
        sync_refund(world.context, Access(lambda: {"stripe": lost}, Slots), refund_id)
    assert (error.value.status, error.value.retryable) == (409, False)
    after = world.refund(refund_id)
    assert (after.status, after.legs) == (before.status, before.legs)


def test_open_refund_that_is_not_there_is_with_a_person(world: World) -> None:
    refund_id = requested(world, "pending")
    lost = Silent()
    lost.reply = Misconfigured("resource_missing", "No such refund")
    refund = sync_refund(world.context, Access(lambda: {"stripe": lost}, Slots), refund_id)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, "resource_missing")


def test_unsent_refund_asks_nobody(world: World) -> None:
    world.pay()
    refund_id = world.withdraw()
    slots = Slots()
    assert sync_refund(world.context, access(world, slots), refund_id).status is RefundStatus.QUEUED
    assert (slots.taken, world.processor.asked) == ([], [])


class Silent(ScriptedProcessor):
    """Answers no question about a refund as asked."""

    reply: Reply = Unanswered("timeout")

    async def fetch(self, processor_refund_id: str) -> Reply:
        return self.reply


@pytest.mark.parametrize("reply", [Unanswered("timeout"), Busy("rate_limit"), Denied("http_401", "no")], ids=str)
def test_missing_answer_changes_nothing_and_says_so(world: World, reply: Reply) -> None:
    refund_id = requested(world, "pending")
    before = world.refund(refund_id)
    silent = Silent()
    silent.reply = reply
    with pytest.raises(ProcessorUnavailable) as error:
        sync_refund(world.context, Access(lambda: {"stripe": silent}, Slots), refund_id)
    assert (error.value.status, error.value.retryable) == (503, True)
    assert world.refund(refund_id) == before


def test_no_slot_within_the_time_is_no_answer(world: World) -> None:
    refund_id = requested(world, "pending")
    asked = list(world.processor.asked)
    with pytest.raises(ProcessorUnavailable, match="no answer within"):
        sync_refund(world.context, access(world, Slots(free=False)), refund_id, seconds=0.05)
    assert world.processor.asked == asked


def test_process_without_access_says_so(world: World) -> None:
    refund_id = requested(world, "pending")
    with pytest.raises(ProcessorUnavailable, match="no access"):
        sync_refund(world.context, Access(dict, Slots), refund_id)


def test_refund_of_another_client_is_not_found(world: World) -> None:
    refund_id = requested(world)
    slots = Slots()
    with pytest.raises(NotFound):
        sync_refund(world.context, access(world, slots), refund_id, client="another")
    assert slots.taken == [], "nothing was asked"
