"""Keys of the HTTP door: inserted, found by their hash, revoked, never changed otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, or_, select, update

from refund_worker.store import snapshots
from refund_worker.store.tables import api_keys


def insert_key(connection: Connection, row: Mapping[str, Any]) -> None:
    """IntegrityError where the client has a live key of this name."""
    connection.execute(api_keys.insert().values(**row))
    snapshots.append_current_rows(connection, "api_keys", [row["key_id"]])


def find_by_hash(connection: Connection, key_hash: str) -> RowMapping | None:
    return connection.execute(select(api_keys).where(api_keys.c.key_hash == key_hash)).mappings().first()


def all_keys(connection: Connection) -> list[RowMapping]:
    """Every key ever made, the newest first."""
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
    """From now on the key opens nothing; a second time changes nothing."""
    k = api_keys.c
    connection.execute(update(api_keys).where(k.key_id == key_id, k.revoked_at.is_(None)).values(revoked_at=now))
    snapshots.append_current_rows(connection, "api_keys", [key_id])
