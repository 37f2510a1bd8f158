"""Count the tries that were refused for a reason that passes apart from the tries without an answer.

Before, `backoffs` of a refund's leg and `retry_count` of a payout's leg counted both. Legs that are blocked now get all
their automatic tries again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None
makes = ()


def upgrade() -> None:
    for table in ("legs", "payout_legs"):
        op.add_column(table, sa.Column("blocked_count", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    for table in ("legs", "payout_legs"):
        op.drop_column(table, "blocked_count")
