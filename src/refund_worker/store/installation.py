"""The installation's id: sent to the processor with every refund, and part of every backup."""

from __future__ import annotations

from sqlalchemy import Connection, select

from refund_worker.store.tables import installation

_ID = select(installation.c.installation_id)


def installation_id(connection: Connection) -> str:
    """Return the id that the database got when it was created."""
    return str(connection.execute(_ID).scalar_one())
