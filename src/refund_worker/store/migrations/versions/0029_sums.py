"""Store how far the sums that must hold are checked, and the rows for which one does not."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None
makes = (
    "sum_rounds",
    "pk_sum_rounds",
    "sum_violations",
    "pk_sum_violations",
    "ix_sum_violations_open",
)


def upgrade() -> None:
    op.create_table(
        "sum_rounds",
        sa.Column("row_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Text()),
        sa.Column("seen_transaction", sa.BigInteger(), nullable=False),
        sa.Column("seen_event", sa.BigInteger(), nullable=False),
        sa.Column("customers", sa.BigInteger(), nullable=False),
        sa.Column("began_at", sa.Double(), nullable=False),
        sa.Column("round_began_at", sa.Double()),
        sa.Column("round_ended_at", sa.Double()),
        sa.Column("round_customers", sa.BigInteger()),
        sa.Column("next_at", sa.Double(), nullable=False),
        sa.CheckConstraint("row_number = 1", name=op.f("ck_sum_rounds_one_row")),
        sa.PrimaryKeyConstraint("row_number", name="pk_sum_rounds"),
    )
    op.create_table(
        "sum_violations",
        sa.Column("sum", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("stored", sa.BigInteger(), nullable=False),
        sa.Column("expected", sa.BigInteger(), nullable=False),
        sa.Column("found_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double()),
        sa.PrimaryKeyConstraint("sum", "subject", "unit", name="pk_sum_violations"),
    )
    op.create_index(
        "ix_sum_violations_open",
        "sum_violations",
        ["sum", "subject"],
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("sum_violations")
    op.drop_table("sum_rounds")
