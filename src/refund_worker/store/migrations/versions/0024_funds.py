"""Store the money at each processor account as it was last read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None
makes = ("balance_readings", "pk_balance_readings", "funds", "pk_funds")


def upgrade() -> None:
    op.create_table(
        "balance_readings",
        sa.Column("processor", sa.Text(), nullable=False),
        sa.Column("tried_at", sa.Double(), nullable=False),
        sa.Column("read_at", sa.Double(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("processor", name=op.f("pk_balance_readings")),
    )
    op.create_table(
        "funds",
        sa.Column("processor", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("available_minor", sa.BigInteger(), nullable=False),
        sa.Column("pending_minor", sa.BigInteger(), nullable=False),
        sa.Column("rose_at", sa.Double(), nullable=False),
        sa.Column("short_since", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("processor", "currency", name=op.f("pk_funds")),
    )


def downgrade() -> None:
    op.drop_table("funds")
    op.drop_table("balance_readings")
