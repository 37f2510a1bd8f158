"""Let the texts of ledger entries and events be erased, and nothing else of these rows be changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

# For each table the texts with their values after an erasure, and all other columns but `seq` and `salt`.
TEXTS = {
    "ledger_transactions": {"description": "''"},
    "events": {"reason": "''", "detail": "'{}'"},
}
OTHERS = {
    "ledger_transactions": (
        "transaction_id", "customer_id", "kind", "credits", "refers_to", "refund_id", "occurred_at", "actor",
    ),
    "events": ("refund_id", "at", "actor", "kind", "leg_id", "from_status", "to_status", "alarm"),
}  # fmt: skip


def upgrade() -> None:
    op.add_column("customers", sa.Column("erased_at", sa.Double(), nullable=True))
    sqlite = op.get_bind().dialect.name == "sqlite"
    for table in TEXTS:
        if sqlite:
            op.execute(f"DROP TRIGGER {table}_no_update")
            _refuse_on_sqlite(table, f"WHEN NOT ({_is_erasure(table, 'IS')}) ")
            continue
        op.execute(f"DROP TRIGGER {table}_no_change ON {table}")
        op.execute(
            f"CREATE TRIGGER {table}_no_change BEFORE DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} FOR EACH ROW "
            f"WHEN (NOT ({_is_erasure(table, 'IS NOT DISTINCT FROM')})) EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    for table in TEXTS:
        if sqlite:
            op.execute(f"DROP TRIGGER {table}_no_update")
            _refuse_on_sqlite(table, "")
            continue
        op.execute(f"DROP TRIGGER {table}_no_update ON {table}")
        op.execute(f"DROP TRIGGER {table}_no_change ON {table}")
        op.execute(
            f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    op.drop_column("customers", "erased_at")


def _is_erasure(table: str, same: str) -> str:
    # A comparison by "=" with NULL would be neither true nor false, and the trigger would not refuse it.
    erased = [f"NEW.{name} {same} {value}" for name, value in TEXTS[table].items()]
    kept = [f"NEW.{name} {same} OLD.{name}" for name in ("seq", *OTHERS[table])]
    before = " AND ".join(f"OLD.{name} {same} {value}" for name, value in TEXTS[table].items())
    has_texts = f"(OLD.salt IS NOT NULL OR NOT ({before}))"
    return " AND ".join([has_texts, "NEW.salt IS NULL", *erased, *kept])


def _refuse_on_sqlite(table: str, when: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {when}"
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    )
