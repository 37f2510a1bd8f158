"""Index expiries with the corrections, and all entries by time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None
makes = ("ix_ledger_transactions_occurred",)

TABLE = "ledger_transactions"
COLUMNS = ["customer_id", "occurred_at", "seq"]


def upgrade() -> None:
    _index_corrections("kind IN ('correction', 'expiry')")
    op.create_index("ix_ledger_transactions_occurred", TABLE, ["occurred_at", "seq"])


def downgrade() -> None:
    op.drop_index("ix_ledger_transactions_occurred", TABLE)
    _index_corrections("kind = 'correction'")


def _index_corrections(condition: str) -> None:
    where = sa.text(condition)
    op.drop_index("ix_ledger_transactions_corrections", TABLE)
    op.create_index("ix_ledger_transactions_corrections", TABLE, COLUMNS, sqlite_where=where, postgresql_where=where)
