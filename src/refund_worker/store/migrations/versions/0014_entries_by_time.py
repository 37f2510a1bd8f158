"""Index expiries with the corrections, and all entries by time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None
makes = ("ix_ledger_transactions_occurred", "ix_ledger_transactions_corrections_expiries")

TABLE = "ledger_transactions"
COLUMNS = ["customer_id", "occurred_at", "seq"]
WITHOUT_EXPIRIES = "ix_ledger_transactions_corrections"
WITH_EXPIRIES = "ix_ledger_transactions_corrections_expiries"


def upgrade() -> None:
    _create(WITH_EXPIRIES, "kind IN ('correction', 'expiry')")
    op.create_index("ix_ledger_transactions_occurred", TABLE, ["occurred_at", "seq"])
    # Last, because it locks out readers of the table until the transaction ends.
    op.drop_index(WITHOUT_EXPIRIES, TABLE)


def downgrade() -> None:
    _create(WITHOUT_EXPIRIES, "kind = 'correction'")
    op.drop_index("ix_ledger_transactions_occurred", TABLE)
    op.drop_index(WITH_EXPIRIES, TABLE)


def _create(name: str, condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, TABLE, COLUMNS, sqlite_where=where, postgresql_where=where)
