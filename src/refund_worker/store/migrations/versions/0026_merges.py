"""Store which customer another one was merged into."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None
makes = ("ix_customers_merged_into",)


def upgrade() -> None:
    op.add_column("customers", sa.Column("merged_into", sa.Text(), nullable=True))
    merged = sa.text("merged_into IS NOT NULL")
    op.create_index(
        "ix_customers_merged_into", "customers", ["merged_into"], sqlite_where=merged, postgresql_where=merged
    )


def downgrade() -> None:
    op.drop_index("ix_customers_merged_into", table_name="customers")
    op.drop_column("customers", "merged_into")
