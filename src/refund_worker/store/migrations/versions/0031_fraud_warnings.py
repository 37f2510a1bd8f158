"""Store early fraud warnings, and let a notification be about one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None
makes = (
    "fraud_warnings",
    "pk_fraud_warnings",
    "uq_fraud_warnings_processor_object_id",
    "ix_fraud_warnings_payment_id",
    "ix_fraud_warnings_to_answer",
    "fraud_warning_refs",
    "pk_fraud_warning_refs",
)


def upgrade() -> None:
    op.create_table(
        "fraud_warnings",
        sa.Column("fraud_warning_id", sa.Text(), nullable=False),
        sa.Column("processor", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("payment_id", sa.Text(), nullable=True),
        sa.Column("fraud_type", sa.Text(), nullable=True),
        sa.Column("actionable", sa.Boolean(), nullable=True),
        sa.Column("object_created_at", sa.Double(), nullable=False),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.payment_id"], name=op.f("fk_fraud_warnings_payment_id")),
        sa.PrimaryKeyConstraint("fraud_warning_id", name=op.f("pk_fraud_warnings")),
        sa.UniqueConstraint("processor", "object_id", name=op.f("uq_fraud_warnings_processor_object_id")),
    )
    op.create_index(op.f("ix_fraud_warnings_payment_id"), "fraud_warnings", ["payment_id"])
    to_answer = sa.text("actionable IS NOT FALSE")
    op.create_index(
        "ix_fraud_warnings_to_answer",
        "fraud_warnings",
        ["processor", "object_created_at"],
        sqlite_where=to_answer,
        postgresql_where=to_answer,
    )
    op.create_table(
        "fraud_warning_refs",
        sa.Column("processor", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("fraud_warning_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["fraud_warning_id"],
            ["fraud_warnings.fraud_warning_id"],
            name=op.f("fk_fraud_warning_refs_fraud_warning_id"),
        ),
        sa.PrimaryKeyConstraint("processor", "ref", "fraud_warning_id", name=op.f("pk_fraud_warning_refs")),
    )
    with op.batch_alter_table("outbox") as batch:
        batch.add_column(sa.Column("fraud_warning_id", sa.Text(), nullable=True))
        batch.create_foreign_key(
            op.f("fk_outbox_fraud_warning_id"), "fraud_warnings", ["fraud_warning_id"], ["fraud_warning_id"]
        )


def downgrade() -> None:
    op.execute("DELETE FROM outbox WHERE fraud_warning_id IS NOT NULL")
    with op.batch_alter_table("outbox") as batch:
        batch.drop_constraint(op.f("fk_outbox_fraud_warning_id"), type_="foreignkey")
        batch.drop_column("fraud_warning_id")
    op.drop_table("fraud_warning_refs")
    op.drop_table("fraud_warnings")
