"""Name each open payment by every id that its processor has for it; the names are unique instead of one column.

A payment stores how it recorded itself, and can have a second id, from the admin backend.
"""

from __future__ import annotations

import re

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None
makes = (
    "payment_refs", "pk_payment_refs", "ix_payment_refs_payment_id", "ix_payments_processor_processor_payment_id",
    "payment_aliases", "pk_payment_aliases", "ix_payment_aliases_payment_id", "name_payment",
)  # fmt: skip

UNIQUE = "CONSTRAINT uq_payments_processor_processor_payment_id UNIQUE (processor, processor_payment_id)"
INDEX = "CREATE INDEX ix_payments_processor_processor_payment_id ON payments (processor, processor_payment_id)"
# In the database, because processes of the version before insert payments without their names.
SQLITE_TRIGGER = (
    "CREATE TRIGGER payments_name AFTER INSERT ON payments BEGIN "
    "INSERT INTO payment_refs (processor, ref, payment_id) "
    "VALUES (NEW.processor, NEW.processor_payment_id, NEW.payment_id); END"
)
FUNCTION = (
    "CREATE FUNCTION name_payment() RETURNS trigger LANGUAGE plpgsql SET search_path = {schema} AS $$ BEGIN "
    "INSERT INTO payment_refs (processor, ref, payment_id) "
    "VALUES (NEW.processor, NEW.processor_payment_id, NEW.payment_id); RETURN NULL; END $$"
)
TRIGGER = "CREATE TRIGGER payments_name AFTER INSERT ON payments FOR EACH ROW EXECUTE FUNCTION name_payment()"


def upgrade() -> None:
    _create_tables()
    op.add_column("payments", sa.Column("recorded_by", sa.Text(), nullable=True))
    op.execute(
        "INSERT INTO payment_refs (processor, ref, payment_id) "
        "SELECT processor, processor_payment_id, payment_id FROM payments"
    )
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        definition = re.sub(rf",\s*{re.escape(UNIQUE)}", "", _table_of_payments())
        assert UNIQUE not in definition
        _rebuild_payments(definition)
        op.execute(INDEX)
        op.execute(SQLITE_TRIGGER)
        return
    op.execute(INDEX)
    op.execute("ALTER TABLE payments DROP CONSTRAINT uq_payments_processor_processor_payment_id")
    schema = connection.execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    op.execute(FUNCTION.format(schema=schema))
    op.execute(TRIGGER)


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER payments_name")
        op.execute("DROP INDEX ix_payments_processor_processor_payment_id")
        op.drop_column("payments", "recorded_by")
        definition, _, _ = _table_of_payments().rpartition(")")
        _rebuild_payments(f"{definition}, {UNIQUE})")
    else:
        op.execute("DROP TRIGGER payments_name ON payments")
        op.execute("DROP FUNCTION name_payment()")
        op.execute(f"ALTER TABLE payments ADD {UNIQUE}")
        op.execute("DROP INDEX ix_payments_processor_processor_payment_id")
        op.drop_column("payments", "recorded_by")
    op.drop_table("payment_aliases")
    op.drop_table("payment_refs")


def _create_tables() -> None:
    op.create_table(
        "payment_refs",
        sa.Column("processor", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("payment_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.payment_id"], name=op.f("fk_payment_refs_payment_id")),
        sa.PrimaryKeyConstraint("processor", "ref", name=op.f("pk_payment_refs")),
    )
    op.create_index(op.f("ix_payment_refs_payment_id"), "payment_refs", ["payment_id"], unique=False)
    op.create_table(
        "payment_aliases",
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("payment_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.payment_id"], name=op.f("fk_payment_aliases_payment_id")),
        sa.PrimaryKeyConstraint("alias", name=op.f("pk_payment_aliases")),
    )
    op.create_index(op.f("ix_payment_aliases_payment_id"), "payment_aliases", ["payment_id"], unique=False)


def _table_of_payments() -> str:
    table = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'payments'"
    return str(op.get_bind().execute(sa.text(table)).scalar_one())


def _rebuild_payments(definition: str) -> None:
    """Make the table again by this definition, with its rows and indexes: SQLite cannot drop a constraint.

    Rows that refer to a payment have none while the table is away, so their check waits for the commit.
    """
    connection = op.get_bind()
    indexes = "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'payments' AND sql IS NOT NULL"
    again = list(connection.execute(sa.text(indexes)).scalars())
    op.execute("PRAGMA defer_foreign_keys = ON")
    op.execute("CREATE TABLE payments_before AS SELECT * FROM payments")
    op.execute("DROP TABLE payments")
    op.execute(definition)
    op.execute("INSERT INTO payments SELECT * FROM payments_before")
    op.execute("DROP TABLE payments_before")
    for index in again:
        op.execute(index)
