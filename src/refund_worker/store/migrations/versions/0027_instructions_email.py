"""Store the address to which the processor may write instructions, and where it is still to be erased."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None
makes = ("ix_refunds_instructions_email",)


def upgrade() -> None:
    op.add_column("refunds", sa.Column("instructions_email", sa.Text(), nullable=True))
    kept = sa.text("instructions_email IS NOT NULL")
    op.create_index(
        "ix_refunds_instructions_email",
        "refunds",
        ["created_at", "refund_id"],
        sqlite_where=kept,
        postgresql_where=kept,
    )


def downgrade() -> None:
    op.drop_index("ix_refunds_instructions_email", "refunds")
    op.drop_column("refunds", "instructions_email")
