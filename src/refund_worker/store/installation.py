"""The installation's id, which is part of every backup, and the database server that answers now."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from refund_worker.store.tables import installation

_ID = select(installation.c.installation_id)


def installation_id(connection: Connection) -> str:
    """Return the id that the database got when it was created."""
    return str(connection.execute(_ID).scalar_one())


def outside_since(connection: Connection, setting: float | None = None) -> float:
    """Return the time (epoch seconds) before which refunds of others are not recorded without a person.

    It is the setting, or the time of the upgrade that brought claims.
    """
    if setting is not None:
        return setting
    return float(connection.execute(select(installation.c.outside_since)).scalar_one())


def server_of(connection: Connection) -> str | None:
    """Return the identity of the database server: another one after a standby was promoted. SQLite has none.

    It consists of the system's id and the timeline. A part that a managed server does not show is empty.
    """
    if connection.dialect.name == "sqlite":
        return None
    return str(connection.execute(select(func.refund_worker_server())).scalar_one())
