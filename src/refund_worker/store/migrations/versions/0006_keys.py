"""Trim blanks from stored idempotency keys, and record which transaction a keyed act made.

An earlier version stored keys with blanks at their ends. Of one client's spellings of a key, the trimmed one is kept as
the key, or the oldest one if there is no trimmed one. The others keep their spelling: they stay as refunds, and no
request can name their key any more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
makes = ("ix_keyed_acts_result_id",)

# By table, the columns that distinguish its rows under one key, the oldest row first.
TABLES = {"refunds": "refund_id", "keyed_acts": "result_id"}


def upgrade() -> None:
    op.create_index(op.f("ix_keyed_acts_result_id"), "keyed_acts", ["result_id"])
    for name, row_id in TABLES.items():
        _trim(name, row_id)


def downgrade() -> None:
    """Keep the trimmed keys: the spelling with blanks had no other meaning."""
    op.drop_index(op.f("ix_keyed_acts_result_id"), "keyed_acts")


def _trim(name: str, row_id: str) -> None:
    columns = (sa.column(column, sa.Text()) for column in ("client", "idempotency_key", row_id))
    table = sa.table(name, *columns, sa.column("created_at", sa.Double()))
    t, bare = table.c, sa.func.trim(table.c.idempotency_key)
    padded = sa.select(t.client, t.idempotency_key, bare).where(t.idempotency_key != bare)
    connection = op.get_bind()
    for client, key, trimmed in connection.execute(padded.order_by(t.created_at, t[row_id])).all():
        taken = sa.select(t.client).where(t.client == client, t.idempotency_key == trimmed)
        # A key of blanks only was a key as well, and has no trimmed spelling.
        if trimmed and connection.execute(taken).first() is None:
            its = (t.client == client, t.idempotency_key == key)
            connection.execute(sa.update(table).where(*its).values(idempotency_key=trimmed))
