"""Batches of refund requests and the result of each row. All times are epoch seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select, update

from refund_worker.store.database import insert_into
from refund_worker.store.tables import refund_batch_rows, refund_batches, refunds


def insert_batch(connection: Connection, row: Mapping[str, Any], now: float) -> None:
    """Insert a batch: batch_id, client, actor, body_sha256, status."""
    connection.execute(refund_batches.insert().values(**row, created_at=now, updated_at=now))


def take_over(
    connection: Connection, client: str, body_sha256: str, status: str, not_since: float, now: float
) -> str | None:
    """Take over an unfinished batch of the client and return its id, or None.

    It must have this body and status and be unchanged since `not_since`. It is marked as changed now, so that only one
    of several callers gets it.
    """
    b = refund_batches.c
    idle = (b.status == status, b.updated_at <= not_since)
    found = select(b.batch_id).where(b.client == client, b.body_sha256 == body_sha256, *idle).order_by(b.batch_id)
    for batch_id in connection.execute(found).scalars().all():
        mine = update(refund_batches).where(b.batch_id == batch_id, *idle).values(updated_at=now)
        if connection.execute(mine).rowcount:
            return str(batch_id)
    return None


def next_row(connection: Connection, batch_id: str) -> int:
    """Return the index of the next row: rows are stored in order, so it is the number of stored rows."""
    last = select(func.max(refund_batch_rows.c.row)).where(refund_batch_rows.c.batch_id == batch_id)
    found = connection.execute(last).scalar()
    return 0 if found is None else int(found) + 1


def insert_rows(connection: Connection, batch_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert rows of row (its index), refund_id, replayed, code, message. Existing rows stay unchanged."""
    values = [{"batch_id": batch_id, **row} for row in rows]
    if values:
        connection.execute(insert_into(connection, refund_batch_rows).on_conflict_do_nothing(), values)


def touch(connection: Connection, batch_id: str, *, status: str, now: float) -> None:
    """Set the batch's status and mark it as changed at `now`."""
    where = refund_batches.c.batch_id == batch_id
    connection.execute(update(refund_batches).where(where).values(status=status, updated_at=now))


def find_batch(connection: Connection, batch_id: str) -> RowMapping | None:
    """Return the batch, or None."""
    query = select(refund_batches).where(refund_batches.c.batch_id == batch_id)
    return connection.execute(query).mappings().first()


def latest_batches(
    connection: Connection, *, limit: int, client: str | None = None, after: str | None = None
) -> list[RowMapping]:
    """Return batches, the newest first, each with its number of rows so far; `after` is the last id already seen."""
    b, r = refund_batches.c, refund_batch_rows.c
    last = select(func.max(r.row)).where(r.batch_id == b.batch_id).scalar_subquery()
    query = select(refund_batches, (func.coalesce(last, -1) + 1).label("rows")).order_by(b.batch_id.desc()).limit(limit)
    if client is not None:
        query = query.where(b.client == client)
    if after is not None:
        query = query.where(b.batch_id < after)
    return list(connection.execute(query).mappings())


def count_rejected(connection: Connection, batch_id: str) -> int:
    """Return how many rows of the batch were rejected."""
    r = refund_batch_rows.c
    query = select(func.count()).where(r.batch_id == batch_id, r.code.is_not(None))
    return connection.execute(query).scalar_one()


def count_rows(connection: Connection, batch_id: str) -> tuple[int, int]:
    """Return (accepted, replayed): the rows with a new refund and those with an earlier one."""
    r = refund_batch_rows.c
    query = (
        select(r.replayed, func.count()).where(r.batch_id == batch_id, r.refund_id.is_not(None)).group_by(r.replayed)
    )
    found = {bool(replayed): count for replayed, count in connection.execute(query)}
    return found.get(False, 0), found.get(True, 0)


def rejected_rows(connection: Connection, batch_id: str, limit: int | None = None) -> list[RowMapping]:
    """Return row, code and message of the rejected rows in order, at most `limit`."""
    r = refund_batch_rows.c
    query = select(r.row, r.code, r.message).where(r.batch_id == batch_id, r.code.is_not(None)).order_by(r.row)
    query = query.limit(limit)
    return list(connection.execute(query).mappings())


def count_refunds_by_status(connection: Connection, batch_id: str) -> dict[str, int]:
    """Return the number of the batch's refunds by status, those that existed before included."""
    of_batch = select(refund_batch_rows.c.refund_id).where(refund_batch_rows.c.batch_id == batch_id)
    query = select(refunds.c.status, func.count()).where(refunds.c.refund_id.in_(of_batch)).group_by(refunds.c.status)
    return {row[0]: row[1] for row in connection.execute(query)}


def refunds_of(
    connection: Connection, batch_id: str, *, status: str | None, limit: int, after: int = -1
) -> list[tuple[str, int]]:
    """Return (id, row) of the batch's refunds after the row `after`, each once, in row order.

    Only those in `status` are returned if it is given.
    """
    r = refund_batch_rows.c
    query = select(r.refund_id, func.min(r.row)).where(r.batch_id == batch_id, r.refund_id.is_not(None))
    if status is not None:
        query = query.join(refunds, refunds.c.refund_id == r.refund_id).where(refunds.c.status == status)
    query = query.group_by(r.refund_id).having(func.min(r.row) > after).order_by(func.min(r.row)).limit(limit)
    return [(row[0], row[1]) for row in connection.execute(query)]
