"""Store the processor's report of a payment, and the amount of a payment that a leg cannot return."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None

PAYMENT_COLUMNS: dict[str, sa.types.TypeEngine[Any]] = {
    "captured_minor": sa.BigInteger(),
    "word": sa.Text(),
    "word_captured": sa.BigInteger(),
    "word_currency": sa.Text(),
    "word_live": sa.Boolean(),
    "word_disputed": sa.Boolean(),
    "word_refunded": sa.BigInteger(),
    "word_read_at": sa.Double(),
}
PAYMENT_AMOUNTS = ("refunded_minor", "word_outside", "word_seen")


def upgrade() -> None:
    for name, kind in PAYMENT_COLUMNS.items():
        op.add_column("payments", sa.Column(name, kind, nullable=True))
    for name in PAYMENT_AMOUNTS:
        op.add_column("payments", _amount(name))
    op.add_column("legs", _amount("unreturnable_minor"))


def downgrade() -> None:
    op.drop_column("legs", "unreturnable_minor")
    for name in (*PAYMENT_AMOUNTS, *PAYMENT_COLUMNS):
        op.drop_column("payments", name)


def _amount(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)
