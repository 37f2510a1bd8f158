"""A database file of an earlier version: after the upgrade it verifies, and every refund in it goes on.

`databases/version_0009.sql` is the dump of an SQLite file that the code of 2026-11-26 made, before the state of a leg
became typed. In it are a refund to the balance, one paid, one pending, one without an answer, one queued, and one whose
leg of no money counted as paid again after all money had been refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support.engine_world import ScriptedProcessor, World, assert_books_balance

from refund_worker.domain.processor_replies import RefundObject
from refund_worker.domain.refund import Doubt, LegStatus, Refund, RefundStatus
from refund_worker.engine.audit.hash_chain import verify
from refund_worker.store import schema
from refund_worker.store.database import Database
from refund_worker.store.refunds import Filters, find_ids

DUMP = Path(__file__).parent / "databases" / "version_0009.sql"
# A little later than the last write in the dump, in epoch seconds.
LATER = 1_800_001_100.0


@pytest.fixture
def upgraded(tmp_path: Path) -> Iterator[World]:
    file = tmp_path / "old.db"
    with sqlite3.connect(file) as connection:
        connection.executescript(DUMP.read_text("utf-8"))
    connection.close()
    database = Database(f"sqlite:///{file}")
    assert schema.current(database) == "0009"
    schema.upgrade(database)
    database.close()
    world = World(f"sqlite:///{file}")
    world.now = LATER
    yield world
    world.close()


def by_key(world: World) -> dict[str, Refund]:
    with world.database.read() as connection:
        ids = find_ids(connection, Filters(limit=100))
    return {refund.idempotency_key: refund for refund in map(world.refund, ids)}


def test_every_refund_is_read_as_it_was(upgraded: World) -> None:
    refunds = by_key(upgraded)
    assert {key: str(refund.status) for key, refund in refunds.items()} == {
        "to-balance": "succeeded",
        "paid": "succeeded",
        "pending": "pending",
        "zero": "succeeded",
        "unanswered": "sending",
        "queued": "queued",
    }
    (unanswered,) = refunds["unanswered"].legs
    assert (unanswered.status, unanswered.in_doubt) == (LegStatus.UNKNOWN, Doubt(unanswered=True))
    assert all(leg.in_doubt is None for key in ("paid", "pending", "queued") for leg in refunds[key].legs)
    assert [leg.times_restored for leg in refunds["zero"].legs if leg.amount_minor == 0] == [1]


def test_what_was_under_way_goes_on_and_the_ledger_balances(upgraded: World) -> None:
    upgraded.processor = processor = ScriptedProcessor()
    pending = by_key(upgraded)["pending"].legs[0]
    processor.objects[pending.processor_refund_id or ""] = object_of(upgraded, pending.leg_id)
    upgraded.context.processors["stripe"] = processor  # type: ignore[index]
    upgraded.work_for(100_000)
    assert {key: refund.status for key, refund in by_key(upgraded).items()} == dict.fromkeys(
        ("to-balance", "paid", "pending", "zero", "unanswered", "queued"), RefundStatus.SUCCEEDED
    )
    assert_books_balance(upgraded.database)


def object_of(world: World, leg_id: str) -> RefundObject:
    """Return the object that the processor has for a pending leg: it has succeeded meanwhile."""
    leg = next(leg for refund in by_key(world).values() for leg in refund.legs if leg.leg_id == leg_id)
    return RefundObject(
        processor_refund_id=leg.processor_refund_id or "",
        status="succeeded",
        amount_minor=leg.amount_minor,
        currency=leg.currency,
        payment_refs=(leg.processor_payment_id,),
        leg_id=leg.leg_id,
        attempt=leg.attempt,
        failure_code=None,
        created_at=datetime.fromtimestamp(LATER, UTC),
    )


def test_the_audit_chain_verifies_after_the_upgrade(upgraded: World) -> None:
    assert not verify(upgraded.context, actor="anna").findings
