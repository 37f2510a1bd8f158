"""Advisory locks of Postgres, held until the transaction ends. An SQLite writer is alone anyway and needs none."""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import IntEnum
from typing import TypeVar

from sqlalchemy import Connection, func, select, text

from refund_worker.errors import LostRace
from refund_worker.store.database import Database

T = TypeVar("T")
TRIES = 5


class Lock(IntEnum):
    """Work that one transaction at a time may do. Any number will do, but never change one: old and new processes
    run side by side during an upgrade and must take the same."""

    MIGRATE = 7_203_118_554
    SEAL = 7_203_118_555
    COUNT_EVENTS = 7_203_118_556
    ADD_USERS = 7_203_118_557


def acquire(connection: Connection, lock: Lock) -> None:
    """Wait until no other transaction holds the lock, then hold it."""
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock.value})


def try_acquire(connection: Connection, lock: Lock) -> bool:
    """Return True with the lock held, or return False at once if another transaction holds it."""
    if connection.dialect.name == "sqlite":
        return True
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": lock.value}).scalar())


def acquire_for_actors(connection: Connection, actors: Collection[str]) -> None:
    """Let one transaction at a time ask for refunds in the name of each of these actors; waits for the others."""
    if connection.dialect.name != "sqlite":
        for actor in sorted(actors):
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(actor, 0))))


class LockedTooFew(Exception):
    """Rows that had to be locked first appeared while the others were being locked: nothing may be written."""


def run_until_all_locked(database: Database, work: Callable[[Connection], T]) -> T:
    """Run `work` in a transaction of its own, again if it raises `LockedTooFew`. Raises `LostRace` after five tries."""
    for _ in range(TRIES):
        try:
            return database.run(work)
        except LockedTooFew:
            continue
    raise LostRace("others change the same records all the time: try again")
