"""Know the database server at each listing, and let our triggers find our tables in any caller's transaction."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None
makes = ("refund_worker_server",)

TRIGGERS = ("refuse_change", "refuse_number")
# The system's id, and the timeline, which is another one after each promotion. Some managed servers show neither.
SERVER = """
CREATE FUNCTION refund_worker_server() RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    identifier text := '';
    timeline text := '';
BEGIN
    BEGIN
        SELECT system_identifier::text INTO identifier FROM pg_control_system();
    EXCEPTION WHEN OTHERS THEN
        identifier := '';
    END;
    BEGIN
        timeline := substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8);
    EXCEPTION WHEN OTHERS THEN
        timeline := '';
    END;
    RETURN identifier || '/' || timeline;
END $$
"""


def upgrade() -> None:
    op.add_column("processors", sa.Column("listed_on", sa.Text(), nullable=True))
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        return
    op.execute(SERVER)
    # A scheduler of the version before renews only the time: without a server, its listings would not count here.
    op.execute("UPDATE processors SET listed_on = refund_worker_server() WHERE looked_at IS NOT NULL")
    schema = connection.execute(sa.text("SELECT quote_ident(current_schema())")).scalar_one()
    for name in TRIGGERS:
        op.execute(f"ALTER FUNCTION {name}() SET search_path = {schema}")


def downgrade() -> None:
    op.drop_column("processors", "listed_on")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refund_worker_server()")
        for name in TRIGGERS:
            op.execute(f"ALTER FUNCTION {name}() RESET search_path")
