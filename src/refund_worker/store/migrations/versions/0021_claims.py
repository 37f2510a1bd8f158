"""Store what others take of payments: refunds made elsewhere, disputes and closed payments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None
makes = (
    "claims",
    "pk_claims",
    "uq_claims_processor_kind_object_id",
    "ix_claims_payment_id",
    "ix_claims_customer",
    "ix_claims_open_disputes",
    "claim_refs",
    "pk_claim_refs",
)

AMOUNTS = ("claimed_minor", "claimed_credits", "outside_minor")


def upgrade() -> None:
    for name in AMOUNTS:
        op.add_column("payments", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("payments", sa.Column("open_disputes", sa.Integer(), server_default="0", nullable=False))
    op.add_column("payments", sa.Column("closed_at", sa.Double(), nullable=True))
    op.add_column("installation", sa.Column("outside_since", sa.BigInteger(), server_default="0", nullable=False))
    sqlite = op.get_bind().dialect.name == "sqlite"
    now = "CAST(strftime('%s', 'now') AS INTEGER)" if sqlite else "floor(extract(epoch FROM now()))::bigint"
    op.execute(f"UPDATE installation SET outside_since = {now}")  # noqa: S608 -- one of two constants
    _create_claims()


def downgrade() -> None:
    op.drop_table("claim_refs")
    op.drop_table("claims")
    op.drop_column("installation", "outside_since")
    for name in (*AMOUNTS, "open_disputes", "closed_at"):
        op.drop_column("payments", name)


def _create_claims() -> None:
    amounts = ("explained_minor", "linked_minor", "credits", "held", "taken", "debt", "posted_minor")
    op.create_table(
        "claims",
        sa.Column("claim_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("processor", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("payment_id", sa.Text(), nullable=True),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("object_status", sa.Text(), nullable=True),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("due_by", sa.Double(), nullable=True),
        *(sa.Column(name, sa.BigInteger(), server_default="0", nullable=False) for name in amounts),
        sa.Column("rule", sa.Text(), nullable=True),
        sa.Column("postings", sa.Integer(), server_default="0", nullable=False),
        sa.Column("refund_id", sa.Text(), nullable=True),
        sa.Column("alarmed_legs", sa.Text(), server_default="[]", nullable=False),
        sa.Column("object_created_at", sa.Double(), nullable=False),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.CheckConstraint("credits >= 0 AND held >= 0 AND taken >= 0 AND debt >= 0", name=op.f("ck_claims_amounts")),
        sa.CheckConstraint("held + taken <= credits AND debt <= taken", name=op.f("ck_claims_share")),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.payment_id"], name=op.f("fk_claims_payment_id")),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.customer_id"], name=op.f("fk_claims_customer_id")),
        sa.ForeignKeyConstraint(["refund_id"], ["refunds.refund_id"], name=op.f("fk_claims_refund_id")),
        sa.PrimaryKeyConstraint("claim_id", name=op.f("pk_claims")),
        sa.UniqueConstraint("processor", "kind", "object_id", name=op.f("uq_claims_processor_kind_object_id")),
    )
    op.create_index(op.f("ix_claims_payment_id"), "claims", ["payment_id"])
    op.create_index("ix_claims_customer", "claims", ["customer_id", "claim_id"])
    is_open = sa.text("kind = 'dispute' AND phase IN ('holding', 'shown')")
    op.create_index("ix_claims_open_disputes", "claims", ["due_by"], sqlite_where=is_open, postgresql_where=is_open)
    op.create_table(
        "claim_refs",
        sa.Column("processor", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("claim_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["claim_id"], ["claims.claim_id"], name=op.f("fk_claim_refs_claim_id")),
        sa.PrimaryKeyConstraint("processor", "ref", "claim_id", name=op.f("pk_claim_refs")),
    )
