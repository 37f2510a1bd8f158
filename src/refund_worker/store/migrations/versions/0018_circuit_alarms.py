"""Store when people were alerted of a processor's circuit, apart from the time when it was opened."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("processors", sa.Column("alarmed_at", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("processors", "alarmed_at")
