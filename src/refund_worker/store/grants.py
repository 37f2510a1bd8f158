"""Least privilege on Postgres: the grants of the application's own role, which may do less than the tables' owner."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import BindParameter, Connection, bindparam, text

from refund_worker.errors import Conflict, InvalidRequest, NotFound
from refund_worker.store.audit import TEXTS
from refund_worker.store.database import Database
from refund_worker.store.namespace import VERSION_TABLE
from refund_worker.store.tables import APPEND_ONLY, metadata

_NAMES: BindParameter[str] = bindparam("names", expanding=True)
# A member of another role may act as it, whatever is granted to itself.
_OWNED = text(
    "SELECT count(*) FROM pg_tables WHERE pg_has_role(:role, tableowner, 'MEMBER') "
    "AND schemaname = current_schema() AND tablename IN :names"
).bindparams(_NAMES)
_SUPERUSER = text("SELECT bool_or(rolsuper AND pg_has_role(:role, oid, 'MEMBER')) FROM pg_roles")
# Only our own: other programs may have sequences in the same schema.
_SEQUENCES = text(
    "SELECT s.relname FROM pg_class s JOIN pg_depend d ON d.objid = s.oid AND d.classid = 'pg_class'::regclass "
    "JOIN pg_class t ON t.oid = d.refobjid WHERE s.relkind = 'S' AND s.relnamespace = current_schema()::regnamespace "
    "AND t.relname IN :names ORDER BY s.relname"
).bindparams(_NAMES)


def grant_least_rights(database: Database, role: str) -> None:
    """Let `role` run the application without the right to change or delete rows of the ledger and the audit trail.

    Run it as the owner of the tables, again after each upgrade. Earlier rights of the role on our tables are revoked.
    Raises `InvalidRequest` on SQLite, which has no roles; `NotFound` if there is no such role; `Conflict` if the role
    is a superuser or owns tables, or may act as a role that does, because then no right can be denied to it.
    """
    if database.is_sqlite:
        raise InvalidRequest("SQLite has no roles: only triggers protect its ledger, so grant nothing", field="role")

    def work(connection: Connection) -> None:
        _check(connection, role)
        sequences = connection.execute(_SEQUENCES, {"names": list(metadata.tables)}).scalars().all()
        for statement in _statements(
            role, database.schema, sequences, connection.dialect.identifier_preparer.quote_identifier
        ):
            connection.exec_driver_sql(statement)

    database.run(work)


def _check(connection: Connection, role: str) -> None:
    exists = connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).scalar()
    if exists is None:
        raise NotFound(f"there is no role {role}: make it first, CREATE ROLE … LOGIN PASSWORD …")
    is_super = connection.execute(_SUPERUSER, {"role": role}).scalar_one()
    if is_super or connection.execute(_OWNED, {"role": role, "names": list(metadata.tables)}).scalar_one():
        raise Conflict(
            f"{role} is a superuser or owns the tables, or is a member of such a role: its rights cannot be limited, "
            "so use another role"
        )


def _statements(role: str, schema: str, sequences: Sequence[str], quote: Callable[[str], str]) -> list[str]:
    rights = {table.name: "SELECT, INSERT, UPDATE, DELETE" for table in metadata.sorted_tables}
    rights |= {table.name: "SELECT, INSERT" for table in APPEND_ONLY}
    rights[VERSION_TABLE] = "SELECT"
    # Texts of a customer can be erased; a trigger refuses every other change.
    erasable = {table.name: ", ".join((*TEXTS[table.name], "salt")) for table in APPEND_ONLY if table.name in TEXTS}
    statements = [
        f"GRANT USAGE ON SCHEMA {quote(schema)} TO {quote(role)}",
        f"GRANT EXECUTE ON FUNCTION refund_worker_server() TO {quote(role)}",
        *(f"GRANT USAGE ON SEQUENCE {quote(sequence)} TO {quote(role)}" for sequence in sequences),
    ]
    for table, its in rights.items():
        statements.append(f"REVOKE ALL ON TABLE {quote(table)} FROM {quote(role)}")
        statements.append(f"GRANT {its} ON TABLE {quote(table)} TO {quote(role)}")
        if table in erasable:
            statements.append(f"GRANT UPDATE ({erasable[table]}) ON TABLE {quote(table)} TO {quote(role)}")
    return statements
