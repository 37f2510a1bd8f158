"""Advisory locks: one transaction at a time on Postgres, nothing at all on SQLite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from refund_worker.store.database import Database
from refund_worker.store.locks import Lock, acquire, acquire_for_actors, try_acquire


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    opened = Database(migrated_url)
    yield opened
    opened.close()


@pytest.mark.parametrize("migrated_url", ["postgres"], indirect=True)
def test_lock_is_free_again_when_its_transaction_ends(database: Database) -> None:
    with database.write() as first:
        assert try_acquire(first, Lock.SEAL)
        with database.write() as second:
            assert not try_acquire(second, Lock.SEAL)
            assert try_acquire(second, Lock.COUNT_EVENTS)
            acquire(second, Lock.ADD_USERS)
            acquire_for_actors(second, ["anna", "ben"])
    with database.write() as third:
        assert try_acquire(third, Lock.SEAL)


@pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
def test_sqlite_needs_no_lock(database: Database) -> None:
    with database.write() as only:
        acquire(only, Lock.SEAL)
        acquire_for_actors(only, ["anna"])
        assert try_acquire(only, Lock.SEAL)


def test_numbers_of_the_locks_never_change() -> None:
    assert {lock.name: lock.value for lock in Lock} == {
        "MIGRATE": 7_203_118_554,
        "SEAL": 7_203_118_555,
        "COUNT_EVENTS": 7_203_118_556,
        "ADD_USERS": 7_203_118_557,
    }
