"""Seal texts as salted hashes and changeable rows by snapshots, and refuse any row number but the next one."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None
makes = (
    "snapshots",
    "pk_snapshots",
    "ix_snapshots_row",
    "snapshots_seq_seq",
    "erasures",
    "pk_erasures",
    "ix_erasures_row",
    "erasures_seq_seq",
    "refuse_number",
)

WITH_TEXTS = ("ledger_transactions", "events")
NEW = ("snapshots", "erasures")
# Tables whose numbers the database assigns: no new number is below an existing one.
COUNTED = ("ledger_transactions", "ledger_entries", "events", "audit_checks", *NEW)
SEALED = ("ledger_transactions", "ledger_entries", "events", *NEW)
# Columns of the first form of a snapshot: the key, then the covered columns.
COVERED = {
    "payments": (
        "payment_id", "customer_id", "processor", "processor_payment_id", "amount_minor", "currency", "credits",
        "captured_at", "credits_taken", "money_taken", "captured_minor", "refunded_minor",
    ),
    "refunds": (
        "refund_id", "client", "idempotency_key", "kind", "to", "customer_id", "transaction_id", "credits", "currency",
        "requested_by", "of_correction", "posted", "returned_credits",
    ),
    "legs": (
        "leg_id", "refund_id", "payment_id", "processor", "processor_payment_id", "amount_minor", "currency", "credits",
        "payment_credits", "returned_credits",
    ),
    "api_keys": ("key_id", "key_hash", "signing_box", "name", "client", "role", "created_at", "expires_at",
        "revoked_at"),
    "console_users": ("name", "role", "password_hash", "created_at", "disabled_at"),
    "processors": ("name", "paused_by", "paused_at", "paused_until", "code"),
}  # fmt: skip
SECRET = {"key_hash", "signing_box", "password_hash"}
FLAGS = {"of_correction", "posted"}
PAGE = 1_000


def upgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    _create_tables()
    for table in WITH_TEXTS:
        op.add_column(table, sa.Column("salt", sa.Text(), nullable=True))
    op.add_column("audit_seals", sa.Column("form", sa.Integer(), server_default="1", nullable=False))
    _salt_what_is_not_sealed(sqlite)
    _snapshot_all()
    if sqlite:
        _guard_sqlite()
    else:
        _guard_postgres()


def downgrade() -> None:
    sqlite = op.get_bind().dialect.name == "sqlite"
    for table in (*COUNTED, "audit_seals"):
        op.execute(f"DROP TRIGGER {table}_number" + ("" if sqlite else f" ON {table}"))
    if not sqlite:
        op.execute("DROP FUNCTION refuse_number()")
    for table in NEW:
        op.drop_table(table)
    for table, column in (*((table, "salt") for table in WITH_TEXTS), ("audit_seals", "form")):
        op.drop_column(table, column)


def _create_tables() -> None:
    seq = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "snapshots",
        sa.Column("seq", seq, autoincrement=True, nullable=False),
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("row_id", sa.Text(), nullable=False),
        sa.Column("form", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_snapshots")),
    )
    op.create_index("ix_snapshots_row", "snapshots", ["table_name", "row_id", "seq"], unique=False)
    op.create_table(
        "erasures",
        sa.Column("seq", seq, autoincrement=True, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("row_seq", sa.BigInteger(), nullable=False),
        sa.Column("was", sa.Text(), nullable=False),
        sa.Column("texts_hash", sa.Text(), nullable=True),
        sa.Column("becomes", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_erasures")),
    )
    op.create_index("ix_erasures_row", "erasures", ["table_name", "row_seq"], unique=False)


def _salt_what_is_not_sealed(sqlite: bool) -> None:
    """Give a salt to the rows that are not sealed yet, because they are sealed in the new form.

    Sealed rows keep the form of their seal.
    """
    salt = "lower(hex(randomblob(16)))" if sqlite else "replace(gen_random_uuid()::text, '-', '')"
    for table in WITH_TEXTS:
        sealed = f"SELECT coalesce(max(last_seq), 0) FROM audit_seals WHERE table_name = '{table}'"  # noqa: S608
        fill = f"UPDATE {table} SET salt = {salt} WHERE seq > ({sealed})"  # noqa: S608 -- names from above
        if sqlite:
            op.execute(f"DROP TRIGGER {table}_no_update")
            op.execute(fill)
            _refuse_on_sqlite(table, "update")
        else:
            op.execute(f"ALTER TABLE {table} DISABLE TRIGGER {table}_no_change")
            op.execute(fill)
            op.execute(f"ALTER TABLE {table} ENABLE TRIGGER {table}_no_change")


def _snapshot_all() -> None:
    """Snapshot every existing row as it is: from now on any difference is named."""
    connection = op.get_bind()
    into = sa.text("INSERT INTO snapshots (table_name, row_id, form, state) VALUES (:table, :id, 1, :state)")
    for table, columns in COVERED.items():
        key, after = columns[0], ""
        names = ", ".join(f'"{column}"' for column in columns)
        query = sa.text(f"SELECT {names} FROM {table} WHERE {key} > :after ORDER BY {key} LIMIT {PAGE}")  # noqa: S608
        while rows := connection.execute(query, {"after": after}).all():
            values = [{"table": table, "id": row[0], "state": _state(columns[1:], row[1:])} for row in rows]
            connection.execute(into, values)
            after = rows[-1][0]


def _state(columns: tuple[str, ...], values: Any) -> str:
    told = [_told(column, value) for column, value in zip(columns, values, strict=True)]
    return json.dumps(told, ensure_ascii=True, separators=(",", ":"))


def _told(column: str, value: Any) -> Any:
    if value is not None and column in SECRET:
        return hashlib.sha256(value.encode()).hexdigest()
    return bool(value) if column in FLAGS else value


def _refuse_on_sqlite(table: str, act: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_no_{act} BEFORE {act.upper()} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    )


def _guard_sqlite() -> None:
    for table in NEW:
        for act in ("update", "delete"):
            _refuse_on_sqlite(table, act)
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "  # noqa: S608 -- names from above
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE seq = NEW.seq) "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only: this row is there already'); END"
        )
    # An AFTER trigger, because before the insert SQLite has not assigned the number yet. A single writer leaves no
    # gaps.
    for table in COUNTED:
        op.execute(
            f"CREATE TRIGGER {table}_number AFTER INSERT ON {table} "  # noqa: S608 -- names from above
            f"WHEN NEW.seq <= 0 OR NEW.seq < (SELECT max(seq) FROM {table}) "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only: its next row has the next number'); END"
        )
    op.execute(
        "CREATE TRIGGER audit_seals_number AFTER INSERT ON audit_seals WHEN NEW.seq <= 0 "
        "BEGIN SELECT RAISE(ABORT, 'audit_seals is append-only: the first seal is 1'); END"
    )


def _guard_postgres() -> None:
    """Refuse numbers that are already sealed.

    Writers commit in any order on Postgres, so a number below the highest one can be valid.
    """
    for table in NEW:
        op.execute(
            f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    op.execute(
        "CREATE FUNCTION refuse_number() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF TG_ARGV[0] = 'sealed' THEN "
        "IF NEW.seq > coalesce((SELECT s.last_seq FROM audit_seals s WHERE s.table_name = TG_TABLE_NAME "
        "ORDER BY s.last_seq DESC LIMIT 1), 0) THEN RETURN NEW; END IF; "
        "ELSIF NEW.seq > 0 THEN RETURN NEW; END IF; "
        "RAISE EXCEPTION '% is append-only: row % would stand among what is sealed', TG_TABLE_NAME, NEW.seq "
        "USING ERRCODE = 'restrict_violation'; END $$"
    )
    for table in (*COUNTED, "audit_seals"):
        which = "sealed" if table in SEALED else "counted"
        op.execute(
            f"CREATE TRIGGER {table}_number BEFORE INSERT ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION refuse_number('{which}')"
        )
