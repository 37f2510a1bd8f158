"""Store how far a person's decision is to cancel a leg's object at the processor."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("legs", sa.Column("canceling", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("legs", "canceling")
