"""Keep what failed later of the money that was refunded before a payment was recorded; mark unapproved refunds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None
makes = ()

COLUMNS = (("claims", "earlier_minor"), ("claims", "returned_minor"), ("payments", "returned_minor"))

# An object that a leg has by a link or by a person's word is explained by the leg, not by the payment's sum. One that
# was made after the payment was recorded (the clocks differ by five minutes at most) has no part of that sum any more.
_KEEP_PARTS = """
    UPDATE claims SET earlier_minor = explained_minor
    WHERE kind = 'outside_refund' AND phase IN ('holding', 'taken') AND linked_minor = 0 AND explained_minor > 0
    AND object_created_at <= (SELECT created_at + 300 FROM payments WHERE payments.payment_id = claims.payment_id)
    AND NOT EXISTS (
        SELECT 1 FROM legs WHERE legs.payment_id = claims.payment_id AND legs.manual_reference = claims.object_id
    )
"""


def upgrade() -> None:
    for table, name in COLUMNS:
        op.add_column(table, sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(_KEEP_PARTS)
    op.add_column("refunds", sa.Column("unapproved", sa.Boolean(), nullable=False, server_default=sa.text("false")))


def downgrade() -> None:
    op.drop_column("refunds", "unapproved")
    for table, name in COLUMNS:
        op.drop_column(table, name)
