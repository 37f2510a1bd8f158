"""Record for a leg since when refunds by others concern it, when its list was read, and which of them stop it.

A payment records that others refunded it, as the listing of the processor's refunds has shown.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS = ("first_intent_at", "looked_at", "held", "blocked_by", "seen_elsewhere")


def upgrade() -> None:
    op.add_column("legs", sa.Column("first_intent_at", sa.Double()))
    op.add_column("legs", sa.Column("looked_at", sa.Double()))
    op.add_column("legs", sa.Column("held", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    op.add_column("legs", sa.Column("blocked_by", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("legs", sa.Column("seen_elsewhere", sa.Text(), nullable=False, server_default="[]"))
    false = sa.text("false")
    op.add_column("payments", sa.Column("refunded_elsewhere", sa.Boolean(), nullable=False, server_default=false))
    op.execute(
        "UPDATE legs SET first_intent_at = "
        "(SELECT min(attempts.first_sent_at) FROM attempts WHERE attempts.leg_id = legs.leg_id) "
        "WHERE last_sent_at IS NOT NULL"
    )


def downgrade() -> None:
    op.drop_column("payments", "refunded_elsewhere")
    for column in reversed(COLUMNS):
        op.drop_column("legs", column)
