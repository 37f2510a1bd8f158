"""The sweep: refunds that are due in the database. It decides when a refund is processed, not the broker."""

from __future__ import annotations

from refund_worker.engine.context import Context
from refund_worker.store import refunds


def due_ids(context: Context, *, bulk: bool, limit: int) -> list[str]:
    """Return up to `limit` ids of refunds that are due and not leased by a worker, the longest waiting first."""
    with context.database.read() as connection:
        return refunds.due_ids(connection, context.clock(connection), limit, bulk=bulk)
