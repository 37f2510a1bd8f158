"""The sweep: what is due in the database. It, not the broker, decides when a refund is looked at."""

from __future__ import annotations

from sqlalchemy import or_, select

from refund_worker.engine.context import Context
from refund_worker.store.tables import refunds


def due_ids(context: Context, *, bulk: bool, limit: int) -> list[str]:
    """Up to `limit` ids of refunds that are due and in nobody's hands, the longest waiting first. Locks nothing."""
    r = refunds.c
    with context.database.read() as connection:
        now = context.clock(connection)
        free = or_(r.lease_until.is_(None), r.lease_until <= now)
        query = (
            select(r.refund_id)
            .where(r.priority == (1 if bulk else 0), r.due_at <= now, free)
            .order_by(r.due_at)
            .limit(limit)
        )
        return list(connection.execute(query).scalars())
