"""Idempotency of acts that are not refunds: one key, one body, one result."""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping, select

from refund_worker.store.tables import keyed_acts


def find_act(connection: Connection, client: str, idempotency_key: str) -> RowMapping | None:
    k = keyed_acts.c
    query = select(keyed_acts).where(k.client == client, k.idempotency_key == idempotency_key)
    return connection.execute(query).mappings().first()


def insert_act(
    connection: Connection, client: str, idempotency_key: str, body: str, result_id: str, now: float
) -> None:
    """IntegrityError where the key was taken in the meantime."""
    connection.execute(
        keyed_acts.insert().values(
            client=client, idempotency_key=idempotency_key, body=body, result_id=result_id, created_at=now
        )
    )
