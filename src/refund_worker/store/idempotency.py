"""Idempotency of acts that are not refunds: one key, one body, one result."""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping, select

from refund_worker.store.tables import keyed_acts


def find_act(connection: Connection, client: str, idempotency_key: str) -> RowMapping | None:
    """Return the act under this client's idempotency key, with `body` and `result_id`, or None if the key is free."""
    k = keyed_acts.c
    query = select(keyed_acts).where(k.client == client, k.idempotency_key == idempotency_key)
    return connection.execute(query).mappings().first()


def is_result(connection: Connection, client: str, result_id: str) -> bool:
    """Whether an act under one of this client's keys made it."""
    k = keyed_acts.c
    query = select(k.result_id).where(k.result_id == result_id, k.client == client)
    return connection.execute(query.limit(1)).first() is not None


def insert_act(
    connection: Connection, client: str, idempotency_key: str, body: str, result_id: str, now: float
) -> None:
    """IntegrityError where the key was taken in the meantime."""
    connection.execute(
        keyed_acts.insert().values(
            client=client, idempotency_key=idempotency_key, body=body, result_id=result_id, created_at=now
        )
    )
