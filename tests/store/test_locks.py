"""Advisory locks: one transaction at a time on Postgres, nothing at all on SQLite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from refund_worker.store.database import Database
from refund_worker.store.locks import Lock, take, take_for_actors, try_take


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    opened = Database(migrated_url)
    yield opened
    opened.close()


@pytest.mark.parametrize("migrated_url", ["postgres"], indirect=True)
def test_lock_is_free_again_when_its_transaction_ends(database: Database) -> None:
    with database.write() as first:
        assert try_take(first, Lock.SEAL)
        with database.write() as second:
            assert not try_take(second, Lock.SEAL)
            assert try_take(second, Lock.COUNT_EVENTS)
            take(second, Lock.ADD_USERS)
            take_for_actors(second, ["anna", "ben"])
    with database.write() as third:
        assert try_take(third, Lock.SEAL)


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
def test_sqlite_needs_no_lock(database: Database) -> None:
    with database.write() as only:
        take(only, Lock.SEAL)
        take_for_actors(only, ["anna"])
        assert try_take(only, Lock.SEAL)


def test_numbers_of_the_locks_never_change() -> None:
    assert {lock.name: lock.value for lock in Lock} == {
        "MIGRATE": 7_203_118_554,
        "SEAL": 7_203_118_555,
        "COUNT_EVENTS": 7_203_118_556,
        "ADD_USERS": 7_203_118_557,
    }
