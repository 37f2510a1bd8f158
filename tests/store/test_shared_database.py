"""A Postgres database that other programs use too: our schema, our version table, and nothing of theirs is touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.orm import Session
from tests.support.engine_world import World, assert_books_balance, withdrawal

from refund_worker.engine.intake.python_api import request_refund
from refund_worker.errors import Conflict, Refusal, Unavailable
from refund_worker.settings import load_settings
from refund_worker.store import schema
from refund_worker.store.database import Database
from refund_worker.store.grants import grant_least_rights
from refund_worker.store.namespace import VERSION_TABLE
from refund_worker.store.tables import metadata

SCHEMA = "refunds"
APP = "host_and_app"


@pytest.fixture
def ours(postgres_url: str) -> Iterator[Database]:
    database = Database(postgres_url, schema=SCHEMA)
    yield database
    database.close()


def run(url: str, *statements: str) -> None:
    """Run statements as the host application does: in its own search_path."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def relations(url: str, of: str) -> set[str]:
    engine = create_engine(url)
    with engine.begin() as connection:
        query = text("SELECT tablename FROM pg_tables WHERE schemaname = :of")
        found = set(connection.execute(query, {"of": of}).scalars())
    engine.dispose()
    return found


@pytest.mark.parametrize("value", ["9f8ab12cdd01", "abc", "0005", "0001", schema.head()])
def test_hosts_alembic_version_is_neither_read_nor_changed(postgres_url: str, ours: Database, value: str) -> None:
    run(
        postgres_url,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)",
        f"INSERT INTO alembic_version VALUES ('{value}')",
    )
    in_public = Database(postgres_url)
    for database in (in_public, ours):
        assert schema.current(database) is None
        schema.upgrade(database)
        schema.upgrade(database)
        assert schema.current(database) == schema.head()
    in_public.close()
    assert relations(postgres_url, SCHEMA) == {*metadata.tables, VERSION_TABLE}
    run(postgres_url, f"DO $$ BEGIN ASSERT (SELECT version_num = '{value}' FROM alembic_version); END $$")


def of_an_earlier_version(url: str) -> Database:
    """Return the database at `url` with our tables and their revision in `alembic_version`."""
    database = Database(url)
    schema.upgrade(database)
    run(
        url,
        f"ALTER TABLE {VERSION_TABLE} RENAME CONSTRAINT {VERSION_TABLE}_pkc TO alembic_version_pkc",
        f"ALTER TABLE {VERSION_TABLE} RENAME TO alembic_version",
    )
    return database


def test_version_table_of_earlier_versions_is_taken_over(postgres_url: str) -> None:
    database = of_an_earlier_version(postgres_url)
    assert schema.current(database) == schema.head()
    schema.upgrade(database)
    assert {VERSION_TABLE, "alembic_version"} <= relations(postgres_url, "public"), "the previous version still runs"
    schema.upgrade(database)
    assert relations(postgres_url, "public") == {*metadata.tables, VERSION_TABLE}
    assert schema.current(database) == schema.head()
    database.close()


@pytest.mark.parametrize("values", [["9f8ab12cdd01"], ["0005"], ["9f8ab12cdd01", schema.head()], []])
def test_host_that_adopts_the_version_table_keeps_it(postgres_url: str, values: list[str]) -> None:
    """`alembic stamp --purge` of the host replaces the rows, and the table's comment stays."""
    database = of_an_earlier_version(postgres_url)
    schema.upgrade(database)
    run(
        postgres_url,
        "DELETE FROM alembic_version",
        *(f"INSERT INTO alembic_version VALUES ('{value}')" for value in values),
    )
    for _ in range(2):
        schema.upgrade(database)
    with database.read() as connection:
        assert list(connection.execute(text("SELECT version_num FROM public.alembic_version")).scalars()) == values
    database.close()


def test_unknown_revision_is_an_error_that_names_it(postgres_url: str, ours: Database) -> None:
    schema.upgrade(ours)
    run(postgres_url, f"UPDATE {SCHEMA}.{VERSION_TABLE} SET version_num = '9f8ab12cdd01'")
    for act in (schema.current, schema.upgrade, schema.ensure_schema):
        with pytest.raises(Unavailable, match="revision 9f8ab12cdd01"):
            act(ours)


def test_version_table_of_another_program_is_named(postgres_url: str, tmp_path: Path) -> None:
    run(postgres_url, f"CREATE TABLE {VERSION_TABLE} (release text)")
    file = Database(f"sqlite:///{tmp_path / 'other.db'}")
    with file.write() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {VERSION_TABLE} (release text)")
    for database in (Database(postgres_url), file):
        with pytest.raises(Conflict, match=rf"{VERSION_TABLE} is another program's: rename it"):
            schema.upgrade(database)
        database.close()


@pytest.mark.parametrize(
    ("made", "named"),
    [
        ("CREATE TABLE customers (id int)", "customers"),
        ("CREATE TYPE events AS ENUM ('a')", "events"),
        ("CREATE TABLE x (id int); CREATE INDEX ix_refunds_due ON x (id)", "ix_refunds_due"),
        ("CREATE FUNCTION refuse_change() RETURNS int LANGUAGE sql AS 'SELECT 1'", "refuse_change"),
    ],
)
def test_names_of_others_are_reported_before_anything_is_made(postgres_url: str, made: str, named: str) -> None:
    run(postgres_url, *made.split("; "))
    before = relations(postgres_url, "public")
    database = Database(postgres_url)
    with pytest.raises(Conflict, match=rf"schema public holds .*{named}.* REFUND_WORKER_DATABASE_SCHEMA"):
        schema.upgrade(database)
    assert relations(postgres_url, "public") == before
    database.close()
    beside = Database(postgres_url, schema=SCHEMA)
    schema.upgrade(beside)
    beside.close()
    assert relations(postgres_url, "public") == before


@pytest.mark.parametrize(
    ("made", "named"),
    [
        ("CREATE TABLE worker_processes (id int); CREATE TABLE metric_values (id int)", "metric_values, worker_proc"),
        ("CREATE TYPE metric_values AS ENUM ('a')", "metric_values"),
        ("CREATE TABLE x (id int); CREATE INDEX pk_metric_values ON x (id)", "pk_metric_values"),
        (
            "CREATE FUNCTION refund_worker_server() RETURNS text LANGUAGE sql AS 'SELECT 1::text'",
            "refund_worker_server",
        ),
    ],
)
def test_names_that_an_upgrade_needs_are_reported_before_it(postgres_url: str, made: str, named: str) -> None:
    database = Database(postgres_url)
    with database.write() as connection:
        command.upgrade(schema.alembic_config(connection), "0011")
    run(postgres_url, *made.split("; "))
    before = relations(postgres_url, "public")
    with pytest.raises(Conflict, match=f"schema public holds {named}.* of another program: .* nothing was changed"):
        schema.upgrade(database)
    assert (relations(postgres_url, "public"), schema.current(database)) == (before, "0011")
    database.close()


def test_each_migration_lists_the_names_that_it_makes(postgres_url: str) -> None:
    database = Database(postgres_url)
    names = text(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE :version "
        "UNION SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    )
    before: set[str] = set()
    for revision in sorted(schema.revisions()):
        with database.write() as connection:
            config = schema.alembic_config(connection)
            command.upgrade(config, revision)
            there = set(connection.execute(names, {"version": f"{VERSION_TABLE}%"}).scalars())
        if before:  # all names are checked before the first migration
            module = ScriptDirectory.from_config(config).get_revision(revision).module
            assert there - before == set(getattr(module, "makes", ())), revision
        before = there
    database.close()


def test_sqlite_file_of_another_program_is_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/x.db")
    with database.write() as connection:
        connection.execute(text("CREATE TABLE customers (id int)"))
    with pytest.raises(Conflict, match="the file holds customers of another program"):
        schema.ensure_schema(database)
    database.close()


def test_sqlite_upgrade_names_the_table_of_another_program(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/x.db")
    with database.write() as connection:
        command.upgrade(schema.alembic_config(connection), "0011")
        connection.execute(text("CREATE TABLE worker_processes (id int)"))
    with pytest.raises(Conflict, match="the file holds worker_processes of another program"):
        schema.ensure_schema(database)
    assert schema.current(database) == "0011"
    database.close()


def test_tables_on_the_roles_own_search_path_are_found_again(postgres_url: str, ours: Database) -> None:
    """An earlier version used the role's search_path; a second set of tables would forget every refund."""
    schema.upgrade(ours)
    name = postgres_url.rpartition("/")[2]
    run(postgres_url, f'ALTER DATABASE "{name}" SET search_path = {SCHEMA}')
    moved = Database(postgres_url)
    for act in (schema.ensure_schema, schema.upgrade):
        with pytest.raises(Unavailable, match=f"in schema {SCHEMA}: set REFUND_WORKER_DATABASE_SCHEMA={SCHEMA}"):
            act(moved)
    moved.close()
    assert relations(postgres_url, "public") == set()


@pytest.fixture
def shared(postgres_url: str, ours: Database) -> Iterator[Database]:
    """Our schema beside a host's tables of the same names, used by a role with no more than the granted rights."""
    run(
        postgres_url,
        "CREATE TABLE customers (id int PRIMARY KEY, name text)",
        "CREATE TABLE refunds (id int)",
        "CREATE TABLE events (id int)",
        f"DO $$ BEGIN CREATE ROLE {APP} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {APP}",
    )
    schema.upgrade(ours)
    grant_least_rights(ours, APP)
    database = Database(postgres_url.replace("postgres@", f"{APP}@"), schema=SCHEMA)
    yield database
    database.close()


def test_refunds_work_in_a_schema_with_granted_rights_only(shared: Database) -> None:
    world = World(shared.url.render_as_string(False), schema=SCHEMA)
    world.pay()
    refund_id = world.withdraw(20)
    world.work()
    assert str(world.refund(refund_id).status) == "succeeded"
    assert_books_balance(world.database)
    world.close()


def test_hosts_transaction_asks_for_a_refund_and_keeps_its_own_path(shared: Database) -> None:
    url = shared.url.render_as_string(False)
    world = World(url, schema=SCHEMA)
    world.pay()
    settings = load_settings({"REFUND_WORKER_DATABASE_URL": url, "REFUND_WORKER_DATABASE_SCHEMA": SCHEMA})
    engine = create_engine(url)

    def path(connection: Connection) -> str:
        return str(connection.execute(text("SHOW search_path")).scalar_one())

    with Session(engine) as session, session.begin():
        session.execute(text("INSERT INTO customers VALUES (1, 'the host''s own')"))
        before = path(session.connection())
        taken = request_refund(session, withdrawal(20, "asked"), settings=settings)
        assert path(session.connection()) == before
        with pytest.raises(Refusal):
            request_refund(session, withdrawal(10_000, "too much"), settings=settings)
        assert path(session.connection()) == before
        session.execute(text("INSERT INTO customers VALUES (2, 'still the host''s own')"))
    with Session(engine) as session:
        request_refund(session, withdrawal(5, "rolled back"), settings=settings)
        session.rollback()
    engine.dispose()
    world.work()
    assert str(world.refund(taken.refund_id).status) == "succeeded"
    with shared.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM refunds")).scalar_one() == 1
        assert connection.execute(text("SELECT count(*) FROM public.customers")).scalar_one() == 2
    world.close()
