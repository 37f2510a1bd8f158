"""Count the refunds in a database by status."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from refund_worker.store.tables import refunds


def count_by_status(connection: Connection) -> dict[str, int]:
    """Return the number of refunds by the text of their status."""
    query = select(refunds.c.status, func.count()).group_by(refunds.c.status)
    return {row[0]: row[1] for row in connection.execute(query)}
