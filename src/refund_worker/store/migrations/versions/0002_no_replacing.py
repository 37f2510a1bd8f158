"""Guard the append-only tables against replacing too, and make audit_checks one of them."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# All keys by which SQLite would find a row to replace. `rowid` is listed where `seq` is not an alias of it.
KEYS = {
    "ledger_transactions": (("seq",), ("transaction_id",)),
    "ledger_entries": (("seq",),),
    "events": (("seq",),),
    "audit_seals": (("seq",), ("table_name", "first_seq"), ("rowid",)),
    "audit_checks": (("seq",),),
}


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for act in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER audit_checks_no_{act} BEFORE {act.upper()} ON audit_checks "
                "BEGIN SELECT RAISE(ABORT, 'audit_checks is append-only'); END"
            )
        _refuse_replacing()
    else:
        op.execute(
            "CREATE TRIGGER audit_checks_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_checks "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for table in KEYS:
            op.execute(f"DROP TRIGGER {table}_no_replace")
        op.execute("DROP TRIGGER audit_checks_no_update")
        op.execute("DROP TRIGGER audit_checks_no_delete")
    else:
        op.execute("DROP TRIGGER audit_checks_no_change ON audit_checks")


def _refuse_replacing() -> None:
    """Refuse INSERT OR REPLACE, which deletes rows without the delete trigger unless its connection asks for it.

    A key that SQLite will assign itself is -1 here, which no row has.
    """
    for table, keys in KEYS.items():
        there = " OR ".join(
            f"EXISTS (SELECT 1 FROM {table} WHERE {' AND '.join(f'{column} = NEW.{column}' for column in key)})"  # noqa: S608 -- names from above
            for key in keys
        )
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN {there} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only: this row is there already'); END"
        )
