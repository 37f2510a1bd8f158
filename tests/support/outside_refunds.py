"""Helpers for tests of refunds that were made outside refund-worker."""

from __future__ import annotations

from refund_worker.domain.outside_refunds import REFUNDED_ELSEWHERE
from refund_worker.domain.processor_replies import RefundObject
from refund_worker.domain.refund import Leg, LegStatus, RefundStatus
from refund_worker.domain.state_machine import Action, available_actions
from refund_worker.engine.refunds.process import claim_due
from refund_worker.engine.views import api_objects
from tests.support.engine_world import World
from tests.support.replies import EMPTY


def leg_of(world: World, refund_id: str) -> Leg:
    """Return the first leg of the refund."""
    return world.refund(refund_id).legs[0]


def begin_and_die(world: World, refund_id: str) -> None:
    """Record the send of the refund; the worker dies before its call."""
    world.database.run(lambda connection: claim_due(connection, world.context))
    assert leg_of(world, refund_id).status is LegStatus.SENDING


def assert_stopped(world: World, refund_id: str, *refund_objects: RefundObject) -> None:
    """Check that the refund waits for a person, is not due, and shows exactly these outside refunds in its alarm."""
    refund, leg = world.refund(refund_id), leg_of(world, refund_id)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, REFUNDED_ELSEWHERE)
    assert (leg.status, refund.due_at) == (LegStatus.BLOCKED, None)
    assert leg.blocked_by == tuple(item.processor_refund_id for item in refund_objects)
    assert api_objects.refund_view(refund)["legs"][0]["blocked_by"] == list(leg.blocked_by)
    assert available_actions(refund) == (Action.RETRY, Action.RESOLVE)
    with world.database.read() as connection:
        told = [e for e in api_objects.timeline(connection, refund_id) if e["alarm"]]
    assert told[-1]["detail"] == {"objects": " ".join(leg.blocked_by)}
    assert (told[-1]["why"], told[-1]["to"]) == (REFUNDED_ELSEWHERE, "blocked")
    assert all(item.processor_refund_id in (refund.failure_message or "") for item in refund_objects)


def blocked_once(world: World) -> str:
    """Return a refund of 30 credits that was blocked at its first send."""
    world.pay()
    world.processor.script("ch_1", EMPTY)
    refund_id = world.withdraw(30)
    world.work()
    return refund_id
