"""Runs Alembic's migrations on the connection that `schema.py` passes in, inside its one transaction.

This script reads no file, opens no connection and does not touch logging: the calling program keeps its own.
"""

from __future__ import annotations

from alembic import context

from refund_worker.store.namespace import VERSION_TABLE
from refund_worker.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    # SQLite cannot alter a table in place: Alembic copies it.
    render_as_batch=True,
    # Both databases can roll back DDL (SQLite because `database.py` says BEGIN itself), so a migration is applied
    # completely or not at all.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
