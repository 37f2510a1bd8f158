"""Keep with a payment its connected account and what its refunds take back, and with a refund its destinations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None
makes = ("ix_legs_connected",)

FLAGS = ("connect_reverse_transfer", "connect_refund_application_fee")


def upgrade() -> None:
    op.add_column("payments", sa.Column("connect_account", sa.Text()))
    for name in FLAGS:
        op.add_column("payments", sa.Column(name, sa.Boolean()))
    op.add_column("refunds", sa.Column("destinations", sa.Text()))
    where = sa.text("processor LIKE '%/%'")
    op.create_index("ix_legs_connected", "legs", ["processor"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    op.drop_index("ix_legs_connected", "legs")
    op.drop_column("refunds", "destinations")
    for name in ("connect_account", *FLAGS):
        op.drop_column("payments", name)
