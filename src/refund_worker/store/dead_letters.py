"""Dead letters: refused requests of an entry point that cannot answer its caller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, select

from refund_worker.store.database import insert_into
from refund_worker.store.tables import refused_requests

_SAME = ("door", "client", "idempotency_key", "code")


def insert_refused(connection: Connection, row: Mapping[str, Any], now: float) -> None:
    """Store a refused request: door, client, idempotency_key, code, message, body.

    The same refusal of the same key is counted, not added.
    """
    insert = insert_into(connection, refused_requests)
    again = {
        "at": now,
        "times": refused_requests.c.times + 1,
        "message": insert.excluded.message,
        "body": insert.excluded.body,
    }
    upsert = insert.values(**row, first_at=now, at=now, times=1)
    connection.execute(upsert.on_conflict_do_update(index_elements=_SAME, set_=again))


def refused(connection: Connection, limit: int, *, idempotency_key: str | None = None) -> list[RowMapping]:
    """Return at most `limit` refused requests, the latest first.

    With `idempotency_key`, only those with this key.
    """
    query = select(refused_requests).order_by(refused_requests.c.at.desc(), refused_requests.c.seq.desc()).limit(limit)
    if idempotency_key is not None:
        query = query.where(refused_requests.c.idempotency_key == idempotency_key)
    return list(connection.execute(query).mappings())


def delete_refused(connection: Connection, before: float, limit: int) -> int:
    """Delete at most `limit` of the oldest requests that were last refused before `before`; return how many."""
    r = refused_requests.c
    old = select(r.seq).where(r.at < before).order_by(r.at).limit(limit)
    return connection.execute(delete(refused_requests).where(r.seq.in_(old), r.at < before)).rowcount
