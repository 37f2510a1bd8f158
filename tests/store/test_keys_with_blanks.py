"""An idempotency key that an earlier version stored with blanks at its ends is found by its trimmed spelling."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from alembic import command
from sqlalchemy import text
from tests.support.engine_world import World, withdrawal

from refund_worker.engine.accounts.corrections import correct
from refund_worker.store import schema
from refund_worker.store.database import Database
from refund_worker.store.refunds import Filters, find_ids


@pytest.fixture
def before(database_url: str) -> Iterator[Database]:
    """A database at the schema before the upgrade, to be filled directly."""
    database = Database(database_url)
    with database.write() as connection:
        command.upgrade(schema.alembic_config(connection), "head")
    yield database
    database.close()


def upgraded(database: Database, keys: list[tuple[str, str]], acts: list[tuple[str, str]] = ()) -> World:  # type: ignore[assignment]
    """Return a world with refunds under these (key, client) and corrections under these, after the upgrade.

    They are made under other names and then renamed, because today's entry points refuse such keys.
    """
    world = World(database.url.render_as_string(hide_password=False))
    world.pay()
    for number, (key, client) in enumerate(keys):
        world.request(withdrawal(1, f"made-{number}", client=client))
        world.pass_time(1)
        rename(database, "refunds", f"made-{number}", key)
    for number, (key, client) in enumerate(acts):
        make_correction(world, f"made-{number}", client)
        world.pass_time(1)
        rename(database, "keyed_acts", f"made-{number}", key)
    with database.write() as connection:
        command.downgrade(schema.alembic_config(connection), "0005")  # the version before keys were trimmed
    schema.upgrade(database)
    return world


def rename(database: Database, table: str, old: str, new: str) -> None:
    with database.write() as connection:
        change = text(f"UPDATE {table} SET idempotency_key = :new WHERE idempotency_key = :old")
        assert connection.execute(change, {"new": new, "old": old}).rowcount == 1


def make_correction(world: World, key: str, client: str) -> tuple[str, bool]:
    row, new = correct(
        world.context, customer_id="c", credits=-1, reason="r", client=client, idempotency_key=key, actor="a"
    )
    return row["transaction_id"], new


@pytest.mark.parametrize("stored", ["ticket-7 ", " ticket-7", "  ticket-7  "])
def test_trimmed_key_finds_the_same_refund(before: Database, stored: str) -> None:
    world = upgraded(before, [(stored, "default")])
    with before.read() as connection:
        (id,) = find_ids(connection, Filters(idempotency_key="ticket-7"))
    taken = world.request(withdrawal(1, "ticket-7"))
    assert (taken.refund_id, taken.replayed) == (id, True)
    world.close()


def test_trimmed_spelling_wins_and_the_others_stay(before: Database) -> None:
    world = upgraded(before, [("t ", "a"), ("t", "a"), (" t", "a"), ("t ", "b")])
    with before.read() as connection:
        stored = connection.execute(text("SELECT idempotency_key, client FROM refunds ORDER BY created_at, refund_id"))
        keys = [tuple(row) for row in stored]
        (id,) = find_ids(connection, Filters(idempotency_key="t", client="a"))
    assert keys == [("t ", "a"), ("t", "a"), (" t", "a"), ("t", "b")]
    assert world.request(withdrawal(1, "t", client="a")).refund_id == id
    world.close()


def test_oldest_of_several_spellings_with_blanks_wins(before: Database) -> None:
    world = upgraded(before, [("t  ", "a"), (" t", "a"), ("in the middle", "a"), ("   ", "a")])
    with before.read() as connection:
        found = connection.execute(text("SELECT idempotency_key FROM refunds ORDER BY created_at, refund_id"))
        assert list(found.scalars()) == ["t", " t", "in the middle", "   "]
    world.close()


def test_key_of_a_correction_is_trimmed_too(before: Database) -> None:
    world = upgraded(before, [], [("c ", "a"), ("c ", "b"), ("c", "b")])
    with before.read() as connection:
        query = text("SELECT idempotency_key, result_id FROM keyed_acts ORDER BY created_at")
        keys, ids = zip(*connection.execute(query), strict=True)
    assert keys == ("c", "c ", "c")
    assert make_correction(world, "c", "a") == (ids[0], False)
    assert make_correction(world, "c", "b") == (ids[2], False)
    world.close()
