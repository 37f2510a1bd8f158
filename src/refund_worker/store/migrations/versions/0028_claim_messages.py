"""Let a notification be about a claim: its refund may be null, and it names the claim."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None
makes = ("ix_claims_undecided",)

UNDECIDED = sa.text("phase = 'taken' AND rule = 'person'")


def upgrade() -> None:
    with op.batch_alter_table("outbox") as batch:
        batch.alter_column("refund_id", existing_type=sa.Text(), nullable=True)
        batch.add_column(sa.Column("claim_id", sa.Text(), nullable=True))
        batch.create_foreign_key(op.f("fk_outbox_claim_id"), "claims", ["claim_id"], ["claim_id"])
    op.create_index("ix_claims_undecided", "claims", ["kind"], sqlite_where=UNDECIDED, postgresql_where=UNDECIDED)


def downgrade() -> None:
    op.drop_index("ix_claims_undecided", table_name="claims")
    op.execute("DELETE FROM outbox WHERE refund_id IS NULL")
    with op.batch_alter_table("outbox") as batch:
        batch.drop_constraint(op.f("fk_outbox_claim_id"), type_="foreignkey")
        batch.drop_column("claim_id")
        batch.alter_column("refund_id", existing_type=sa.Text(), nullable=False)
