"""The schema of our tables in a database that others may use too: made if missing, and never mixed with theirs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, Text, bindparam, text

from refund_worker.errors import Conflict, Unavailable
from refund_worker.store.tables import metadata

VERSION_TABLE = "refund_worker_version"
FUNCTIONS = ("refuse_change", "refuse_number", "refund_worker_server")
SETTING = "REFUND_WORKER_DATABASE_SCHEMA"

_RELATIONS = text(
    "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(:schema) AND relname IN :names"
).bindparams(bindparam("names", expanding=True, type_=Text))
_TYPES_AND_FUNCTIONS = text(
    "SELECT typname FROM pg_type WHERE typnamespace = to_regnamespace(:schema) AND typname IN :names UNION "
    "SELECT proname FROM pg_proc WHERE pronamespace = to_regnamespace(:schema) AND proname IN :functions"
).bindparams(bindparam("names", expanding=True, type_=Text), bindparam("functions", expanding=True, type_=Text))
_SQLITE = text("SELECT name FROM sqlite_master WHERE name IN :names").bindparams(
    bindparam("names", expanding=True, type_=Text)
)
_SCHEMAS_WITH = text(
    "SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relname IN :names GROUP BY n.nspname HAVING count(*) = :count"
).bindparams(bindparam("names", expanding=True, type_=Text))


def tables_in(connection: Connection, schema: str, names: Collection[str]) -> frozenset[str]:
    """Return those of the names that exist in the schema, whatever our role may do with them."""
    if connection.dialect.name == "sqlite":
        return frozenset(connection.execute(_SQLITE, {"names": list(names)}).scalars())
    return frozenset(connection.execute(_RELATIONS, {"schema": schema, "names": list(names)}).scalars())


def qualified(connection: Connection, schema: str, table: str) -> str:
    """Return the table's name as SQL, with its schema on Postgres: then a missing right is reported as such."""
    return table if connection.dialect.name == "sqlite" else f'"{schema}".{table}'


def make_schema(connection: Connection, schema: str) -> None:
    """Create the schema on Postgres if it is missing."""
    if connection.execute(text("SELECT to_regnamespace(:schema)"), {"schema": schema}).scalar() is None:
        connection.exec_driver_sql(f'CREATE SCHEMA "{schema}"')
    allowed = text("SELECT has_schema_privilege(:schema, 'USAGE') AND has_schema_privilege(:schema, 'CREATE')")
    if not connection.execute(allowed, {"schema": schema}).scalar_one():
        raise Unavailable(
            f"permission denied for schema {schema}: as its owner, GRANT USAGE, CREATE ON SCHEMA {schema} TO "
            f"{_role(connection)}; or set {SETTING} to a schema of your own"
        )


def check_schema(connection: Connection, schema: str, ours: Collection[str]) -> None:
    """Raise `Unavailable` if our tables may be somewhere else, or hidden from our role.

    `ours` are tables that every version has. Earlier versions used the schema of the role's own search_path.
    """
    if connection.execute(text("SELECT to_regnamespace(:schema)"), {"schema": schema}).scalar() is None:
        return
    path = connection.execute(text("SELECT reset_val FROM pg_settings WHERE name = 'search_path'")).scalar_one()
    on_path = {_role(connection) if part.strip() == '"$user"' else part.strip(' "') for part in path.split(",")}
    found = connection.execute(_SCHEMAS_WITH, {"names": list(ours), "count": len(ours)}).scalars()
    elsewhere = sorted(on_path.intersection(found) - {schema})
    if elsewhere and schema == "public":
        raise Unavailable(f"the tables of refund-worker are in schema {elsewhere[0]}: set {SETTING}={elsewhere[0]}")


def check_names_are_free(connection: Connection, schema: str, names: Collection[str] | None = None) -> None:
    """Raise `Conflict` naming all objects of other programs that have one of these names; they were not made yet.

    Without `names`, all names of ours are meant.
    """
    tables, others, functions = (
        [name for name in ours if names is None or name in names]
        for ours in (metadata.tables, _other_names(), FUNCTIONS)
    )
    taken = set(tables_in(connection, schema, [*tables, *others]))
    if connection.dialect.name != "sqlite":
        values = {"schema": schema, "names": tables, "functions": functions}
        taken |= set(connection.execute(_TYPES_AND_FUNCTIONS, values).scalars())
    if not taken:
        return
    names = ", ".join(sorted(taken))
    if connection.dialect.name == "sqlite":
        raise Conflict(
            f"the file holds {names} of another program: name a file of its own in REFUND_WORKER_DATABASE_URL"
        )
    raise Conflict(
        f"the schema {schema} holds {names} of another program: set {SETTING} to a schema of its own, such as "
        "refund_worker; nothing was changed"
    )


def _other_names() -> Sequence[str]:
    """Return the names of our indexes, keys and sequences, which share one namespace with tables on Postgres."""
    indexes = (str(index.name) for table in metadata.tables.values() for index in table.indexes)
    constraints = (str(key.name) for table in metadata.tables.values() for key in table.constraints if key.name)
    sequences = (f"{name}_seq_seq" for name in metadata.tables)
    return [*indexes, *constraints, *sequences]


def _role(connection: Connection) -> str:
    return str(connection.execute(text("SELECT current_user")).scalar_one())
