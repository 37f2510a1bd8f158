"""Store what the processes have counted for /metrics."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None
makes = ("metric_values", "pk_metric_values")


def upgrade() -> None:
    op.create_table(
        "metric_values",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("part", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", "labels", "part", name="pk_metric_values"),
    )


def downgrade() -> None:
    op.drop_table("metric_values")
