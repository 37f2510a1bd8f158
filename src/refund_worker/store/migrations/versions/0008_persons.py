"""Store the person that the caller names next to the authenticated actor, and links between a person's names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
makes = ("person_links", "pk_person_links")


def upgrade() -> None:
    op.add_column("refunds", sa.Column("requested_by_note", sa.Text()))
    op.create_table(
        "person_links",
        sa.Column("console_user", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("linked_at", sa.Double(), nullable=False),
        sa.Column("linked_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("console_user", "identity", name="pk_person_links"),
    )


def downgrade() -> None:
    op.drop_table("person_links")
    op.drop_column("refunds", "requested_by_note")
