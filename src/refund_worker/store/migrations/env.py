"""What Alembic runs: migrations on the connection that `schema.py` hands over, inside its one transaction.

Nothing here reads a file, opens a connection or touches logging: the program that migrates keeps its own.
"""

from __future__ import annotations

from alembic import context

from refund_worker.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite can't alter a table in place: Alembic copies it.
    render_as_batch=True,
    # Both databases can undo DDL, SQLite because `database.py` says BEGIN itself: a migration happens whole or not.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
