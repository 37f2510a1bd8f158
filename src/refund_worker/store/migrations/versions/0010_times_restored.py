"""Count the restorations of a zero-amount leg in a column of its own; before, `backoffs` held that number."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("legs", sa.Column("times_restored", sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE legs SET times_restored = backoffs WHERE amount_minor = 0")


def downgrade() -> None:
    op.execute("UPDATE legs SET backoffs = times_restored WHERE amount_minor = 0")
    op.drop_column("legs", "times_restored")
