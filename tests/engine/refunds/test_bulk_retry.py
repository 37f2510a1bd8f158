"""Bulk retry of the refunds that stopped for one cause: exactly those that the person saw, or none."""

from __future__ import annotations

import pytest
from tests.support.engine_world import World

from refund_worker.domain.processor_replies import Blocked
from refund_worker.engine.refunds.bulk_retry import SetChanged, Stuck, retry_all, stuck_for

EMPTY = Blocked("balance_insufficient", "the balance is empty")


def stop(world: World, number: int) -> str:
    """Create a refund over its own payment that waits for a person, and return its id."""
    world.pay(number)
    world.processor.script(f"ch_{number}", *[EMPTY] * 5)
    refund_id = world.withdraw(100, f"k{number}")
    world.work()
    return refund_id


def seen(world: World) -> Stuck:
    """Return the refunds that a person sees as stopped for lack of balance."""
    with world.database.read() as connection:
        return stuck_for(connection, "balance_insufficient")


def retry(world: World, expected: int, mark: str) -> int:
    """Retry the refunds stopped for lack of balance, if they match `expected` and `mark`; return their number."""
    done = retry_all(
        world.context, "balance_insufficient", expected=expected, mark=mark, actor="olga", reason="topped up"
    )
    return done.refunds


def test_all_that_the_person_saw_are_retried(world: World) -> None:
    ids = [stop(world, 1), stop(world, 2)]
    then = seen(world)
    assert sorted(then.ids) == sorted(ids)
    assert retry(world, 2, then.mark) == 2
    assert all("retry_requested" in world.events(refund_id) for refund_id in ids)


def test_bulk_retry_refuses_other_refunds_than_the_person_saw(world: World) -> None:
    first = stop(world, 1)
    mark = seen(world).mark
    second = stop(world, 2)
    with world.database.read() as connection:
        assert len(stuck_for(connection, "balance_insufficient").ids) == 2
    retry_all(world.context, None, expected=0, actor="olga", reason="nothing is stuck without a cause")
    with pytest.raises(SetChanged):
        retry(world, 1, mark)
    with pytest.raises(SetChanged):
        retry(world, 2, mark)
    assert "retry_requested" not in world.events(first) + world.events(second)
