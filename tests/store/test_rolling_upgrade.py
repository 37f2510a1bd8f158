"""Processes of the version before run on while the database is upgraded, and for some time after it."""

from __future__ import annotations

from typing import Any

import pytest
from alembic import command
from sqlalchemy import event, text
from tests.support.engine_world import World

from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.processor_sync.sync import sync_recent
from refund_worker.store import schema
from refund_worker.store.database import Database

# A scheduler of the version before writes this after each listing.
OLD_SCHEDULER = text("UPDATE processors SET looked_at = :now WHERE name = 'stripe'")


def test_listings_of_an_old_scheduler_count_after_the_upgrade(migrated_url: str) -> None:
    world = World(migrated_url)
    world.pay()
    sync_recent(world.context, "stripe")
    with world.database.write() as connection:
        command.downgrade(schema.alembic_config(connection), "0012")
    schema.upgrade(world.database)
    for key in ("at once", "later"):
        sent = world.withdraw(10, key)
        world.work()
        assert world.refund(sent).status is RefundStatus.SUCCEEDED, key
        world.now += 1_000
        with world.database.write() as connection:
            assert connection.execute(OLD_SCHEDULER, {"now": world.now}).rowcount == 1
    world.close()


@pytest.mark.parametrize("migrated_url", ["postgres"], indirect=True)
def test_the_ledger_can_be_read_while_indexes_are_built(migrated_url: str) -> None:
    database = Database(migrated_url)
    with database.write() as connection:
        command.downgrade(schema.alembic_config(connection), "0013")
    reader = Database(migrated_url)
    built = []

    def read(_connection: object, _cursor: object, statement: str, *_rest: Any) -> None:
        if statement.startswith("CREATE INDEX") and "ledger_transactions" in statement:
            with reader.read() as connection:
                connection.execute(text("SET LOCAL lock_timeout = '2s'"))
                connection.execute(text("SELECT count(*) FROM ledger_transactions"))
            built.append(statement)

    event.listen(database.engine, "after_cursor_execute", read)
    schema.upgrade(database)
    assert len(built) == 2
    reader.close()
    database.close()
