"""Old rows are pruned by age, except those that a person still has to see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select, update
from tests.support.engine_world import Died, World, withdrawal
from tests.web.client import settings_for

from refund_worker.engine.intake.dead_letters import keep_refused, refused_requests
from refund_worker.engine.jobs.prune import BATCH, DELIVERED_SECONDS, PROCESSED_KEPT_SECONDS, REFUSED_SECONDS, prune
from refund_worker.engine.notifications.outbox import redeliver
from refund_worker.errors import UnknownCustomer
from refund_worker.store import inbox, tables
from refund_worker.store.tables import outbox, refunds
from refund_worker.worker.scheduler import jobs_of


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    """Yield a customer with one payment; notifications are on."""
    made = World(migrated_url, notify=True)
    made.pay()
    yield made
    made.close()


def told(world: World, key: str, **state: Any) -> str:
    """Create a refund, set the columns of its one notification to `state`, and return the message id."""
    refund_id = world.withdraw(1, key)
    with world.database.write() as connection:
        (message,) = connection.execute(select(outbox.c.message_id).where(outbox.c.refund_id == refund_id)).scalars()
        connection.execute(update(outbox).where(outbox.c.message_id == message).values(**state))
    return str(message)


def kept(world: World) -> set[str]:
    """Return the ids of the stored notifications."""
    with world.database.read() as connection:
        return set(connection.execute(select(outbox.c.message_id)).scalars())


def test_only_notifications_that_were_taken_long_ago_are_deleted(world: World) -> None:
    old, recent = world.now - DELIVERED_SECONDS - 1, world.now - DELIVERED_SECONDS + 60
    ancient = world.now - 100 * DELIVERED_SECONDS
    gone = told(world, "old", delivered_at=old, next_at=None)
    again = told(world, "again", delivered_at=ancient, next_at=None)
    stay = {
        told(world, "recent", delivered_at=recent, next_at=None),
        told(world, "waiting", created_at=ancient, next_at=ancient),
        told(world, "given up", created_at=ancient, next_at=None, given_up_at=ancient),
        again,
    }
    redeliver(world.context, [again])
    assert kept(world) == stay | {gone}
    assert prune(world.context) == 1
    assert kept(world) == stay
    assert prune(world.context) == 0


def test_refused_requests_are_deleted_when_long_not_repeated(world: World) -> None:
    def refuse(key: str) -> None:
        keep_refused(world.context, "celery", {"client": "shop", "idempotency_key": key}, UnknownCustomer("who?"))

    refuse("once")
    refuse("again")
    world.pass_time(REFUSED_SECONDS / 2)
    refuse("again")
    world.pass_time(REFUSED_SECONDS / 2 + 1)
    assert prune(world.context) == 1
    with world.database.read() as connection:
        (left,) = refused_requests(connection)
    assert (left["idempotency_key"], left["times"]) == ("again", 2)


def test_many_go_in_small_transactions_and_no_refund_goes_with_them(world: World) -> None:
    refund_id = world.request(withdrawal(1)).refund_id
    row = {"refund_id": refund_id, "type": "refund.queued", "body": "{}", "created_at": 1.0, "delivered_at": 1.0}
    with world.database.write() as connection:
        connection.execute(outbox.insert(), [{**row, "message_id": f"m{n}"} for n in range(2 * BATCH + 1)])
    before = kept(world)
    # The process dies after the second transaction. The rows deleted so far stay deleted, the others are complete, and
    # the next run deletes the rest.
    world.database.dies_after = 2
    with pytest.raises(Died):
        prune(world.context)
    assert len(before - kept(world)) == 2 * BATCH
    assert prune(world.context) == 1
    assert len(kept(world)) == 1
    with world.database.read() as connection:
        assert connection.execute(select(refunds.c.refund_id)).scalars().all() == [refund_id]


def test_the_scheduler_prunes_each_hour(migrated_sqlite_url: str) -> None:
    jobs = {job.name: job for job in jobs_of(settings_for(migrated_sqlite_url))}
    assert (jobs["prune"].work, jobs["prune"].interval_seconds) == (prune, 3600)


def test_only_events_that_were_taken_in_long_ago_are_deleted(world: World) -> None:
    old, recent = world.now - PROCESSED_KEPT_SECONDS - 1, world.now - PROCESSED_KEPT_SECONDS + 60
    with world.database.write() as connection:
        for name, received_at in (("gone", old), ("waiting", old), ("recent", recent)):
            inbox.insert_event(connection, "stripe", name, "refund.updated", "{}", received_at)
        inbox.mark_processed(connection, [("stripe", name, "taken in") for name in ("gone", "recent")], old)
    assert prune(world.context) == 1
    with world.database.read() as connection:
        stay = set(connection.execute(select(tables.inbox.c.event_id)).scalars())
    assert stay == {"waiting", "recent"}
