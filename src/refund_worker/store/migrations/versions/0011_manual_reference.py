"""Keep the reference of a leg's manual payment in a column of its own, also while an object of ours pays the leg."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("legs", sa.Column("manual_reference", sa.Text(), nullable=True))
    op.execute(
        "UPDATE legs SET manual_reference = substr(processor_refund_id, 8) WHERE processor_refund_id LIKE 'manual:%'"
    )


def downgrade() -> None:
    op.drop_column("legs", "manual_reference")
