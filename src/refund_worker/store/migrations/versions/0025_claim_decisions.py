"""Store who decided about the missing credits of a claim."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("claims", sa.Column("decided_by", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("claims", "decided_by")
