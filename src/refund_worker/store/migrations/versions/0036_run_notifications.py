"""Let notifications be about payout runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None
makes = ()


def upgrade() -> None:
    with op.batch_alter_table("outbox") as batch:
        batch.add_column(sa.Column("run_id", sa.Text(), nullable=True))
        batch.create_foreign_key(op.f("fk_outbox_run_id"), "payout_runs", ["run_id"], ["run_id"])


def downgrade() -> None:
    op.execute("DELETE FROM outbox WHERE run_id IS NOT NULL")
    with op.batch_alter_table("outbox") as batch:
        batch.drop_constraint(op.f("fk_outbox_run_id"), type_="foreignkey")
        batch.drop_column("run_id")
