"""Stored facts about processors: their lists, their pauses, payments refunded elsewhere, and the database's clock."""

from __future__ import annotations

import time

from sqlalchemy import func, select

from refund_worker.store import payments, processors, tables
from refund_worker.store.database import Database, now
from refund_worker.store.installation import server_of


def test_repeated_listing_adds_no_second_snapshot(database: Database) -> None:
    for at in (1.0, 2.0, 3.0):
        with database.write() as connection:
            processors.record_listing(connection, "stripe", at, server_of(connection))
    with database.read() as connection:
        assert processors.last_listing(connection, "stripe") == (3.0, None)
        of_it = tables.snapshots.c.table_name == "processors"
        (count,) = connection.execute(select(func.count()).where(of_it)).one()
    assert count == 1


def test_more_payments_than_one_statement_takes_are_marked(database: Database) -> None:
    many = [f"ch_x{number}" for number in range(70_000)]
    with database.write() as connection:
        payments.mark_refunded_elsewhere(connection, "stripe", [*many, "ch_2"])
        assert payments.refunded_elsewhere(connection, {"pay1", "pay2"}) == {"pay2"}


def test_automatic_pause_does_not_shorten_a_persons_pause(database: Database) -> None:
    with database.write() as connection:
        processors.pause(connection, "stripe", 1.0, by="refund-worker", code="x", reason="", until=5.0)
        assert processors.paused_processors(connection, 4.0) == {"stripe": 5.0}
        assert processors.paused_processors(connection, 5.0) == {}
        processors.pause(connection, "stripe", 2.0, by="op", code="by_hand", reason="fire")
        processors.pause(connection, "stripe", 3.0, by="refund-worker", code="x", reason="", until=5.0)
        assert processors.paused_processors(connection, 9e9) == {"stripe": None}
        assert processors.resume(connection, "stripe", 3.0)
        assert not processors.resume(connection, "stripe", 4.0)
        assert processors.paused_processors(connection, 1.0) == {}
        (row,) = processors.status_of_processors(connection)
    state = {name: row[name] for name in ("paused_by", "paused_at", "paused_until", "code", "reason")}
    assert state == dict.fromkeys(state) | {"paused_until": 3.0}, "when it ended"


def test_database_clock_is_independent_of_the_time_zone(database: Database) -> None:
    with database.read() as connection:
        assert abs(now(connection) - time.time()) < 5
