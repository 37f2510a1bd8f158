"""Reconciliations that run in pieces, and the differences that they find."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"

makes = (
    "reconciliations",
    "pk_reconciliations",
    "ix_reconciliations_unfinished",
    "reconciliation_differences",
    "pk_reconciliation_differences",
    "uq_reconciliation_differences_subject",
    "ix_reconciliation_differences_subject",
    "ix_refund_objects_created",
)
UNFINISHED = sa.text("ended_at IS NULL")


def upgrade() -> None:
    """Add the tables, and the index of refund objects by the time of their creation."""
    op.create_table(
        "reconciliations",
        sa.Column("reconciliation_id", sa.Text(), nullable=False),
        sa.Column("processor", sa.Text(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("until", sa.Double()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("found", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("problem", sa.Text()),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double()),
        sa.Column("lease_until", sa.Double()),
        sa.Column("lease_token", sa.Text()),
        sa.PrimaryKeyConstraint("reconciliation_id", name="pk_reconciliations"),
    )
    op.create_index(
        "ix_reconciliations_unfinished",
        "reconciliations",
        ["created_at"],
        sqlite_where=UNFINISHED,
        postgresql_where=UNFINISHED,
    )
    op.create_table(
        "reconciliation_differences",
        sa.Column("reconciliation_id", sa.Text(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False, autoincrement=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("kind", "subject", "object_id")),
        *(sa.Column(name, sa.Text()) for name in ("leg_id", "refund_id", "payment_id", "customer_id", "currency")),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("ours", "theirs")),
        sa.Column("detail", sa.Text(), nullable=False, server_default=""),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("found_at", sa.Double(), nullable=False),
        sa.Column("decided_at", sa.Double()),
        *(sa.Column(name, sa.Text()) for name in ("decided_by", "reason", "outcome")),
        sa.PrimaryKeyConstraint("reconciliation_id", "n", name="pk_reconciliation_differences"),
        sa.ForeignKeyConstraint(
            ["reconciliation_id"],
            ["reconciliations.reconciliation_id"],
            name="fk_reconciliation_differences_reconciliation_id",
        ),
        sa.UniqueConstraint(
            "reconciliation_id",
            "kind",
            "subject",
            "object_id",
            name="uq_reconciliation_differences_subject",
        ),
    )
    op.create_index("ix_reconciliation_differences_subject", "reconciliation_differences", ["subject", "kind"])
    op.create_index("ix_refund_objects_created", "refund_objects", ["processor", "created_at", "processor_refund_id"])


def downgrade() -> None:
    """Remove what `upgrade` added."""
    op.drop_index("ix_refund_objects_created", "refund_objects")
    op.drop_table("reconciliation_differences")
    op.drop_table("reconciliations")
