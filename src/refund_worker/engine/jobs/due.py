"""The sweep: refunds and payouts that are due in the database. It decides when they are processed, not the broker."""

from __future__ import annotations

from refund_worker.engine.context import Context
from refund_worker.store import refunds
from refund_worker.store.payouts import payouts


def due_ids(context: Context, *, bulk: bool, limit: int) -> list[str]:
    """Return up to `limit` ids of refunds, and as many of payouts, that are due and not leased by a worker.

    Of each kind, those that wait longest come first.
    """
    with context.database.read() as connection:
        now = context.clock(connection)
        due = refunds.due_ids(connection, now, limit, bulk=bulk)
        return due + payouts.claimable(connection, now, limit, bulk=bulk)
