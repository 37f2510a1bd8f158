"""The sweep: what is due in the database. It, not the broker, decides when a refund is looked at."""

from __future__ import annotations

from refund_worker.engine.context import Context
from refund_worker.store import refunds


def due_ids(context: Context, *, bulk: bool, limit: int) -> list[str]:
    """Return up to `limit` ids of refunds that are due and in nobody's hands, the longest waiting first."""
    with context.database.read() as connection:
        return refunds.due_ids(connection, context.clock(connection), limit, bulk=bulk)
