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

# An object that a leg has by a link or by a person's word is explained by the leg, not by the payment's sum.
_KEEP_PARTS = """
    UPDATE claims SET earlier_minor = explained_minor
    WHERE kind = 'outside_refund' AND phase IN ('holding', 'taken') AND linked_minor = 0 AND explained_minor > 0
    AND NOT EXISTS (SELECT 1 FROM legs WHERE legs.payment_id = claims.payment_id AND legs.manual_reference IS NOT NULL)
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
