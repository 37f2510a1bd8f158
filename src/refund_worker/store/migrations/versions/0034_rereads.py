"""Keep how far the paid refunds of an account without a list were read again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None
makes = ("rereads", "pk_rereads", "ix_claims_outside_refunds")


def upgrade() -> None:
    op.create_table(
        "rereads",
        sa.Column("processor", sa.Text(), nullable=False),
        sa.Column("began_at", sa.Double(), nullable=False),
        sa.Column("after_created_at", sa.Double(), nullable=False),
        sa.Column("after_id", sa.Text(), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("processor", name=op.f("pk_rereads")),
    )
    where = sa.text("kind = 'outside_refund' AND phase IN ('holding', 'taken')")
    columns = ["processor", "object_created_at", "object_id"]
    op.create_index("ix_claims_outside_refunds", "claims", columns, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    op.drop_index("ix_claims_outside_refunds", "claims")
    op.drop_table("rereads")
