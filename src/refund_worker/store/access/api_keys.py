"""API keys: inserted, found by their hash and revoked. Nothing else of a key ever changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, or_, select, update

from refund_worker.store import snapshots
from refund_worker.store.tables import api_keys


def insert_key(connection: Connection, row: Mapping[str, Any]) -> None:
    """Insert an API key: a row with the columns of the table `api_keys`.

    Raises `IntegrityError` if the client has a live key with this name.
    """
    connection.execute(api_keys.insert().values(**row))
    snapshots.append_current_rows(connection, "api_keys", [row["key_id"]])


def find_by_hash(connection: Connection, key_hash: str) -> RowMapping | None:
    """Return the API key with this hash, revoked or expired keys included, or None."""
    return connection.execute(select(api_keys).where(api_keys.c.key_hash == key_hash)).mappings().first()


def all_keys(connection: Connection) -> list[RowMapping]:
    """Return every API key ever made, the newest first."""
    query = select(api_keys).order_by(api_keys.c.created_at.desc(), api_keys.c.key_id.desc())
    return list(connection.execute(query).mappings())


def live_keys_named(connection: Connection, key_id_or_name: str, client: str | None) -> list[RowMapping]:
    """Return the keys that are not revoked and have this id or name, of one client or (None) of all."""
    k = api_keys.c
    query = select(api_keys).where(or_(k.key_id == key_id_or_name, k.name == key_id_or_name), k.revoked_at.is_(None))
    if client is not None:
        query = query.where(k.client == client)
    return list(connection.execute(query).mappings())


def revoke(connection: Connection, key_id: str, now: float) -> None:
    """Revoke a key at `now` (epoch seconds): it is not accepted any more. A second call changes nothing."""
    k = api_keys.c
    connection.execute(update(api_keys).where(k.key_id == key_id, k.revoked_at.is_(None)).values(revoked_at=now))
    snapshots.append_current_rows(connection, "api_keys", [key_id])
