"""Know when something was last counted, such as a refused webhook."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("metric_values", sa.Column("changed_at", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("metric_values", "changed_at")
