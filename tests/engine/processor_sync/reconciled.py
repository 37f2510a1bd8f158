"""Reconciliations of a shop: begun, run to their end, and read."""

from __future__ import annotations

from sqlalchemy import RowMapping
from tests.support.planted_shop import Planted, Shop

from refund_worker.engine.processor_sync.reconciliation import run
from refund_worker.engine.processor_sync.reconciliation.kinds import State
from refund_worker.engine.processor_sync.reconciliation.views import reconciliation_view
from refund_worker.store import reconciliations as store

LEGS = 40


def begin(shop: Shop) -> str:
    """Begin a reconciliation of all that was made in the last days; return its id."""
    return run.start_reconciliation(shop.world.context, "stripe", since=None, until=None, actor="anna")


def finished(shop: Shop, started: str | None = None) -> str:
    """Run a new reconciliation, or this one, to its end in this process; return its id."""
    started = started or begin(shop)
    row = run.run_to_end(shop.world.context, started, lambda _: None)
    assert row["status"] == "done"
    return started


def stored(shop: Shop, reconciliation_id: str) -> RowMapping:
    """Return the reconciliation's row."""
    with shop.world.database.read() as connection:
        row = store.find(connection, reconciliation_id)
    assert row is not None
    return row


def found(shop: Shop, reconciliation_id: str) -> list[RowMapping]:
    """Return its differences."""
    with shop.world.database.read() as connection:
        return store.differences(connection, reconciliation_id, limit=10_000)


def open_ones(shop: Shop, reconciliation_id: str) -> set[Planted]:
    """Return its open differences as they are planted."""
    rows = [row for row in found(shop, reconciliation_id) if row["state"] == State.OPEN]
    return {(row["kind"], row["subject"], row["object_id"]) for row in rows}


def report(shop: Shop, reconciliation_id: str) -> tuple[object, ...]:
    """Return all that its report says, without ids and times."""
    with shop.world.database.read() as connection:
        view = reconciliation_view(connection, reconciliation_id)
    facts = {
        name: view[name]  # type: ignore[literal-required]
        for name in ("status", "progress", "compared", "foreign", "resolved", "totals", "by_kind", "in_flight")
    }
    names = ("n", "kind", "subject", "object_id", "ours", "theirs", "detail", "state")
    return facts, [tuple(row[name] for name in names) for row in found(shop, reconciliation_id)]
