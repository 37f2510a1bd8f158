"""After a failover nothing is sent before the processor's refunds were listed: the last commits may be lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import text
from tests.support.engine_world import World, assert_books_balance

from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.context import NoLimit
from refund_worker.engine.processor_sync.sync import RecentSync, sync_recent
from refund_worker.store.installation import server_of
from refund_worker.store.processors import status_of_processors


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    made = World(migrated_url)
    sync_recent(made.context, "stripe")
    yield made
    made.close()


pytestmark = pytest.mark.parametrize("migrated_url", ["postgres"], indirect=True)


def fail_over(world: World, timeline: str = "00000002") -> None:
    """Let the database report another timeline from now on, as a promoted standby does."""
    with world.database.write() as connection:
        connection.execute(
            text(
                "CREATE OR REPLACE FUNCTION refund_worker_server() RETURNS text LANGUAGE sql AS "
                f"$$ SELECT '1/{timeline}' $$"
            )
        )


def test_server_is_known_by_its_id_and_timeline(world: World) -> None:
    with world.database.read() as connection:
        identifier, timeline = (server_of(connection) or "").split("/")
        stored = [row["listed_on"] for row in status_of_processors(connection)]
    assert identifier.isdigit()
    assert timeline == "00000001"
    assert stored == [f"{identifier}/{timeline}"]


def test_nothing_is_sent_on_another_server_before_the_listing(world: World) -> None:
    world.pay()
    world.withdraw(10, "before")
    world.work()
    sync = RecentSync()
    sync.sync_when_due(world.context, "stripe")
    assert len(world.processor.sends) == 1
    fail_over(world)
    waiting = world.withdraw(10, "after")
    world.work()
    assert len(world.processor.sends) == 1
    sync.sync_when_due(world.context, "stripe")  # at once, although the last listing is fresh
    world.work()
    assert world.refund(waiting).status is RefundStatus.SUCCEEDED
    assert len(world.processor.sends) == 2
    assert_books_balance(world.database)


def test_listing_that_began_on_the_old_server_does_not_count(world: World) -> None:
    world.pay()
    world.processor.while_listing = lambda: fail_over(world)
    sync_recent(world.context, "stripe")
    waiting = world.withdraw(10, "after")
    world.work()
    assert world.processor.sends == []
    world.processor.while_listing = lambda: None
    sync_recent(world.context, "stripe")
    world.work()
    assert world.refund(waiting).status is RefundStatus.SUCCEEDED


def test_sends_of_an_older_claim_stop_on_another_server(world: World) -> None:
    world.pay()
    waiting = world.withdraw(10, "claimed before")

    class Slow(NoLimit):
        """A limiter that lets a failover happen, and more than a second pass, while a call waits for its slot."""

        async def acquire(self, processor: str) -> None:
            fail_over(world)
            later[0] += 2

    later = [0.0]
    world.context = replace(world.context, limiter=Slow(), monotonic=lambda: later[0])
    world.work()
    assert world.processor.sends == []
    world.context = replace(world.context, limiter=NoLimit())
    sync_recent(world.context, "stripe")
    world.work_for(10_000)
    assert world.refund(waiting).status is RefundStatus.SUCCEEDED
    assert world.processor.paid_minor() == 100
