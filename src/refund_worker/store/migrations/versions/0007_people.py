"""Rename the console's role requester to support; roles of API keys stay as they are."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("UPDATE console_users SET role = 'support' WHERE role = 'requester'")
    # These counts were made by the name alone, and by an address for which right passwords counted too.
    op.execute("DELETE FROM console_tries")


def downgrade() -> None:
    op.execute("UPDATE console_users SET role = 'requester' WHERE role = 'support'")
    op.execute("DELETE FROM console_tries")
