"""Claims of due refunds, writes from an outdated version, and the row locks of other workers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Event as Signal
from threading import Thread

import pytest
from sqlalchemy import insert
from tests.store.stored_refunds import fetch, numbered, store

from refund_worker.domain.decision import Decision, Event
from refund_worker.errors import LostRace
from refund_worker.store import outbox, refunds, tables, timeline
from refund_worker.store.database import Database


def test_write_from_an_outdated_version_is_a_lost_race(database: Database) -> None:
    store(database, numbered(1), numbered(2))
    one, two = fetch(database, "r1"), fetch(database, "r2")
    with database.write() as connection:
        refunds.write_refunds(connection, [Decision(before=one, after=replace(one, version=2, ledger_posted=True))])
    with pytest.raises(LostRace), database.write() as connection:
        refunds.write_refunds(
            connection,
            [
                Decision(before=two, after=replace(two, version=2, ledger_posted=True)),
                Decision(before=one, after=replace(one, version=2, reversal_count=9)),
            ],
        )
    assert (fetch(database, "r1").version, fetch(database, "r1").reversal_count) == (2, 0)
    assert fetch(database, "r2") == two, "the whole batch is undone"


def test_claim_takes_due_unleased_refunds_the_urgent_first(database: Database) -> None:
    store(
        database,
        numbered(1, priority=1),
        numbered(2),
        numbered(3, due_at=None),
        numbered(4, due_at=11.0),
        numbered(5, lease_until=10.5, lease_token="x"),
        numbered(6, lease_until=10.0, lease_token="gone"),
    )
    with database.write() as connection:
        assert refunds.claimable(connection, 10.0, 10) == ["r2", "r6", "r1"]
        assert refunds.claimable(connection, 10.0, 1) == ["r2"]
        assert refunds.claimable(connection, 10.0, 10, only=["r1", "r5"]) == ["r1"]
        assert refunds.claimable(connection, 10.0, 10, bulk=True) == ["r1"]
        assert refunds.claimable(connection, 10.0, 10, bulk=False) == ["r2", "r6"]


# An SQLite writer locks the whole file.
on_postgres = pytest.mark.parametrize("migrated_url", ["postgres"], indirect=True)


@contextmanager
def claimed_by_another(database: Database) -> Iterator[None]:
    """Lock the first of the refunds in another worker during the block."""
    locked, done = Signal(), Signal()

    def hold() -> None:
        with database.write() as connection:
            assert refunds.claimable(connection, 10.0, 1) == ["r1"]
            locked.set()
            done.wait(20)

    holder = Thread(target=hold)
    holder.start()
    try:
        assert locked.wait(20)
        yield
    finally:
        done.set()
        holder.join(20)


@on_postgres
def test_claim_skips_rows_locked_by_another_worker(database: Database) -> None:
    store(database, numbered(1), numbered(2))
    with claimed_by_another(database), database.write() as connection:
        assert refunds.claimable(connection, 10.0, 10) == ["r2"]


@on_postgres
def test_insert_that_refers_to_a_locked_row_does_not_wait(database: Database) -> None:
    """A claim locks its refunds' rows; records that refer to them can still be inserted."""
    store(database, numbered(1))
    with claimed_by_another(database), database.write() as connection:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
        timeline.insert_events(connection, [("r1", Event("noted", "anna"))], 5.0)


@on_postgres
def test_message_made_due_again_during_cleanup_stays(database: Database) -> None:
    """The row was selected for deletion, but the redelivery came first."""
    store(database, numbered(1))
    message = {"message_id": "m1", "refund_id": "r1", "type": "refund.updated", "body": "{}", "created_at": 1.0}
    with database.write() as connection:
        connection.execute(insert(tables.outbox).values(**message, delivered_at=2.0, next_at=None))
    asked, deleted = Signal(), list[int]()

    def tidy_up() -> None:
        assert asked.wait(20)
        with database.write() as connection:
            deleted.append(outbox.delete_delivered(connection, 10.0, 10))

    tidier = Thread(target=tidy_up)
    tidier.start()
    with database.write() as connection:
        assert outbox.redeliver(connection, 20.0, ["m1"]) == 1
        asked.set()
        deadline = time.monotonic() + 20
        while not _is_anybody_waiting_for_a_lock(database) and time.monotonic() < deadline:
            time.sleep(0.02)
    tidier.join(20)
    assert deleted == [0]


def _is_anybody_waiting_for_a_lock(database: Database) -> bool:
    with database.read() as connection:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(connection.exec_driver_sql(waiting).scalar_one())
