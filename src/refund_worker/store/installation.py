"""Which installation this database is: told to the processor with every refund, and kept by every backup."""

from __future__ import annotations

from sqlalchemy import Connection, select

from refund_worker.store.tables import installation

_ID = select(installation.c.installation_id)


def installation_id(connection: Connection) -> str:
    """The id that the database was given when it was made."""
    return str(connection.execute(_ID).scalar_one())
