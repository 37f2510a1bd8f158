"""Store which workers and schedulers run, and when each processor's records were last compared with ours."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None
makes = ("worker_processes", "pk_worker_processes", "last_reconciliations", "pk_last_reconciliations")


def upgrade() -> None:
    op.create_table(
        "worker_processes",
        sa.Column("process_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("queues", sa.Text(), server_default="", nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("broker", sa.Text()),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("process_id", name="pk_worker_processes"),
    )
    op.create_table(
        "last_reconciliations",
        sa.Column("processor", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("compared", sa.BigInteger(), nullable=False),
        sa.Column("differences", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("processor", name="pk_last_reconciliations"),
    )


def downgrade() -> None:
    op.drop_table("last_reconciliations")
    op.drop_table("worker_processes")
