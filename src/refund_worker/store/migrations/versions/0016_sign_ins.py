"""Know when each console user last signed in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("console_users", sa.Column("last_sign_in_at", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("console_users", "last_sign_in_at")
