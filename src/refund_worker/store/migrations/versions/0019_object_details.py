"""Store where the money of each refund object is, as the processor last reported it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None
makes = ("ix_refund_objects_trace",)

TEXTS = ("pending_reason", "method", "statement", "trace_kind", "trace_value", "trace_status", "emailed_to")
TIMES = ("emailed_at", "act_by")


def upgrade() -> None:
    for name in TEXTS:
        op.add_column("refund_objects", sa.Column(name, sa.Text(), nullable=True))
    for name in TIMES:
        op.add_column("refund_objects", sa.Column(name, sa.Double(), nullable=True))
    known = sa.text("trace_value IS NOT NULL")
    op.create_index(
        "ix_refund_objects_trace", "refund_objects", ["trace_value"], sqlite_where=known, postgresql_where=known
    )


def downgrade() -> None:
    op.drop_index("ix_refund_objects_trace", "refund_objects")
    for name in (*TEXTS, *TIMES):
        op.drop_column("refund_objects", name)
