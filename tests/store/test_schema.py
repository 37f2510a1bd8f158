"""Migrations make exactly the tables of `tables.py`, up and down, also with several processes and after a crash."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, inspect, text
from sqlalchemy.exc import DBAPIError
from tests.support.engine_world import World, assert_books_balance, withdrawal

from refund_worker.domain.refund import RefundStatus
from refund_worker.errors import Unavailable
from refund_worker.store import schema
from refund_worker.store.database import Database
from refund_worker.store.namespace import VERSION_TABLE
from refund_worker.store.tables import APPEND_ONLY, metadata


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url)
    yield opened
    opened.close()


def test_migrated_schema_equals_the_tables(database: Database) -> None:
    schema.upgrade(database)
    with database.read() as connection:
        # On SQLite Alembic cannot distinguish an empty default text from no default; the migration is the same for
        # both.
        options: Any = {
            "compare_type": True,
            "compare_server_default": not database.is_sqlite,
            "version_table": VERSION_TABLE,
        }
        found = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
        assert found == []
        inspector = inspect(connection)
        for table in metadata.tables.values():
            wanted = {str(c.name) for c in table.constraints if isinstance(c, CheckConstraint) and c.name is not None}
            there = {str(check["name"]) for check in inspector.get_check_constraints(table.name)}
            assert {name.removeprefix(f"ck_{table.name}_") for name in there} == {
                name.removeprefix(f"ck_{table.name}_") for name in wanted
            }


def described(database: Database) -> set[tuple[str, ...]]:
    """Return what Alembic does not compare, as SQL: conditions of indexes, checks, all constraints."""
    with database.read() as connection:
        if not database.is_sqlite:
            found = connection.execute(
                text(
                    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' UNION ALL "
                    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
                    "WHERE connamespace = 'public'::regnamespace"
                )
            )
            return {tuple(row) for row in found if row[0] != VERSION_TABLE}
        stored = connection.execute(
            text("SELECT tbl_name, name, sql FROM sqlite_master WHERE type IN ('table', 'index')")
        )
        # The order of columns and constraints does not matter, nor the quotes around the name of a table that a
        # migration copied.
        return {
            (table, name, part)
            for table, name, sql in stored
            if table != VERSION_TABLE
            for part in parts_of((sql or "").replace(f'"{table}"', table))
        }


def parts_of(sql: str) -> Iterator[str]:
    """Return the columns and constraints of a definition, with single blanks."""
    depth, part = 0, ""
    for character in " ".join(sql.split()):
        depth += (character == "(") - (character == ")")
        if (character == "," and depth == 1) or (character == "(" and depth == 1) or (character == ")" and depth == 0):
            yield part.strip()
            part = ""
        else:
            part += character
    yield part.strip()


def test_indexes_and_constraints_match_also_after_down_and_up(database: Database) -> None:
    schema.upgrade(database)
    migrated = described(database)
    with database.write() as connection:
        command.downgrade(schema.alembic_config(connection), "base")
        metadata.create_all(connection)
    wanted = described(database)
    for keyword in ("WHERE", "CHECK"):  # otherwise nothing was compared
        assert any(keyword in definition for *_, definition in wanted)
    assert migrated ^ wanted == set()
    with database.write() as connection:
        metadata.drop_all(connection)
    schema.upgrade(database)
    assert described(database) ^ wanted == set()


def test_downgrade_removes_all_and_upgrade_restores_it(database: Database) -> None:
    schema.upgrade(database)
    with database.write() as connection:
        command.downgrade(schema.alembic_config(connection), "base")
    with database.read() as connection:
        assert inspect(connection).get_table_names() == [VERSION_TABLE]
        if not database.is_sqlite:
            left = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            assert connection.execute(text(left)).scalar() == 0
    assert schema.current(database) is None
    schema.upgrade(database)
    assert schema.current(database) == schema.head()


def test_console_requesters_become_support_and_key_roles_stay(database: Database) -> None:
    people = {"ivy": "requester", "omar": "operator", "anna": "admin", "vera": "viewer", "paul": "approver"}
    with database.write() as connection:
        command.upgrade(schema.alembic_config(connection), "0002")
        for name, role in people.items():
            row = {"name": name, "role": role, "password_hash": "-", "created_at": 1.0}
            connection.execute(metadata.tables["console_users"].insert().values(**row))
        key = {"key_id": "k", "key_hash": "h", "name": "n", "client": "c", "role": "requester", "created_at": 1.0}
        connection.execute(metadata.tables["api_keys"].insert().values(**key))
    roles = text("SELECT name, role FROM console_users UNION ALL SELECT name, role FROM api_keys")
    for upgrade, role in ((True, "support"), (False, "requester"), (True, "support")):
        with database.write() as connection:
            move = command.upgrade if upgrade else command.downgrade
            move(schema.alembic_config(connection), "0007" if upgrade else "0002")
        with database.read() as connection:
            assert {row.name: row.role for row in connection.execute(roles)} == people | {"ivy": role, "n": "requester"}


def test_head_from_file_names_is_the_only_alembic_head() -> None:
    assert ScriptDirectory(str(schema.MIGRATIONS)).get_heads() == [schema.head()]


def test_unmigrated_database_has_no_revision(database: Database) -> None:
    assert schema.current(database) is None


def test_opening_an_sqlite_database_migrates_it(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'new.db'}")
    schema.ensure_schema(database)
    assert schema.current(database) == schema.head()
    database.close()


def test_unmigrated_postgres_names_the_command_and_is_unchanged(postgres_url: str) -> None:
    database = Database(postgres_url)
    with pytest.raises(Unavailable, match="refund-worker db upgrade"):
        schema.ensure_schema(database)
    assert schema.current(database) is None
    schema.upgrade(database)
    schema.ensure_schema(database)
    database.close()


def test_database_newer_than_the_program_is_unchanged(database: Database) -> None:
    schema.upgrade(database)
    with database.write() as connection:
        connection.execute(text("UPDATE refund_worker_version SET version_num = '9999'"))
    schema.ensure_schema(database)
    schema.upgrade(database)
    assert schema.current(database) == "9999"


def test_current_database_is_recognised_by_two_queries_and_no_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    first = Database(url)
    schema.ensure_schema(first)
    first.close()
    code = (
        "import sys; from sqlalchemy import event; from refund_worker.store import schema\n"
        f"from refund_worker.store.database import Database; d = Database({url!r}); run = []\n"
        "event.listen(d.engine, 'before_cursor_execute', lambda *told: run.append(told[2]))\n"
        "schema.ensure_schema(d); print(sum('SELECT' in each for each in run), 'alembic' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split() == ["2", "False"]


def test_concurrent_threads_all_find_a_new_database_ready(database_url: str) -> None:
    def open_and_look(_: int) -> str | None:
        database = Database(database_url)
        try:
            schema.upgrade(database)
            return schema.current(database)
        finally:
            database.close()

    with ThreadPoolExecutor(1 if database_url.startswith("sqlite") else 4) as pool:
        assert set(pool.map(open_and_look, range(4))) == {schema.head()}


def test_concurrent_processes_all_find_a_new_sqlite_file_ready(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    code = (
        "from refund_worker.store import schema; from refund_worker.store.database import Database\n"
        f"d = Database({url!r}); input(); schema.ensure_schema(d); print(schema.current(d))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == [schema.head()] * 3
    assert [process.returncode for process in processes] == [0, 0, 0]


def test_killed_migration_leaves_nothing_and_the_next_one_completes(database_url: str) -> None:
    code = (
        "import os, signal; from alembic import op; from refund_worker.store import schema\n"
        "from refund_worker.store.database import Database; from sqlalchemy import event\n"
        f"d = Database({database_url!r})\n"
        "@event.listens_for(d.engine, 'after_cursor_execute')\n"
        "def die(conn, cursor, statement, *rest):\n"
        "    if 'CREATE TABLE legs' in statement: os.kill(os.getpid(), signal.SIGKILL)\n"
        "schema.upgrade(d)"
    )
    ran = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert ran.returncode == -9
    database = Database(database_url)
    deadline = time.monotonic() + 10
    with database.read() as connection:
        while inspect(connection).get_table_names() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert inspect(connection).get_table_names() == []
    schema.upgrade(database)
    with database.read() as connection:
        assert set(inspect(connection).get_table_names()) == {VERSION_TABLE, *metadata.tables}
    database.close()


# A migration that the next version could bring: it adds, so that the version before it continues to work.
NEXT_VERSION = (
    "ALTER TABLE refunds ADD COLUMN new_word TEXT",
    "ALTER TABLE legs ADD COLUMN new_count INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE events ADD COLUMN new_note TEXT",
    "CREATE INDEX refunds_new_word ON refunds (new_word)",
    "CREATE TABLE new_things (thing_id TEXT PRIMARY KEY, refund_id TEXT REFERENCES refunds (refund_id))",
    "UPDATE refund_worker_version SET version_num = '9999'",
)


def test_this_version_works_on_the_schema_of_the_next(migrated_url: str) -> None:
    before = World(migrated_url)  # a process that runs while the database is migrated under it
    before.pay()
    before.spend()
    half_done = before.withdraw(10, "before")
    before.processor.script("ch_1", "pending", "pending")
    before.work()
    with before.database.write() as connection:
        for statement in NEXT_VERSION:
            connection.execute(text(statement))
    after = World(migrated_url)  # and one of the same version that is started again afterwards
    schema.ensure_schema(after.database)
    taken = [before.withdraw(10, "one"), after.withdraw(10, "two")]
    again = after.request(withdrawal(10, "one"))
    assert (again.refund_id, again.replayed) == (taken[0], True)
    for world in (before, after):
        world.processor = before.processor
        world.context = replace(world.context, processors={"stripe": before.processor})
        world.work()
    before.processor.become("re_1", "succeeded")
    before.processor.become("re_2", "succeeded")
    after.work_for(1_000)
    assert {after.refund(refund_id).status for refund_id in (half_done, *taken)} == {RefundStatus.SUCCEEDED}
    assert before.processor.paid_minor() == 300
    assert_books_balance(after.database)
    before.close()
    after.close()


def _allows_null(call: ast.Call) -> bool:
    """Return True if the call only lets a column be null, which no row of the version before is."""
    given = {each.arg: ast.unparse(each.value) for each in call.keywords}
    return given == {"existing_type": "sa.Text()", "nullable": "True"}


TAKES_AWAY = {"drop_table", "drop_column", "drop_constraint", "alter_column", "rename_table"}


def test_no_migration_removes_what_the_version_before_needs() -> None:
    for path in sorted((schema.MIGRATIONS / "versions").glob("[0-9]*_*.py")):
        functions = {node.name: node for node in ast.parse(path.read_text("utf-8")).body if hasattr(node, "name")}
        called = {
            node.func.attr
            for node in ast.walk(functions["upgrade"])
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not _allows_null(node)
        }
        assert not called & TAKES_AWAY, (
            f"{path.name}: the version before would stumble over it, do it one version later"
        )


def test_appended_rows_cannot_be_changed_or_deleted(migrated_url: str) -> None:
    database = Database(migrated_url)
    with database.write() as connection:
        for row in _ROWS:
            connection.execute(text(row))
    statements = ["UPDATE {} SET seq = seq", "DELETE FROM {}"]
    if not database.is_sqlite:  # which has no such statement
        statements.append("TRUNCATE {} CASCADE")
    statements.append("INSERT INTO {0} SELECT * FROM {0} WHERE true ON CONFLICT (seq) DO UPDATE SET seq = excluded.seq")
    for table, statement in product([table.name for table in APPEND_ONLY], statements):
        with pytest.raises(DBAPIError, match="append-only"), database.write() as connection:
            connection.execute(text(statement.format(table)))
        with database.read() as connection:
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 1
    database.close()


# An existing row, by each of the keys that would find it.
_REPLACING = (
    "INTO ledger_transactions (seq, transaction_id, customer_id, kind, credits, occurred_at, actor)"
    " VALUES (1, 'other', 'c', 'purchase', 2, 0, 'me')",
    "INTO ledger_transactions (transaction_id, customer_id, kind, credits, occurred_at, actor)"
    " VALUES ('t', 'c', 'purchase', 2, 0, 'me')",
    "INTO ledger_entries (seq, transaction_id, account, unit, amount) VALUES (1, 't', 'customer:c', 'credits', 2)",
    "INTO events (seq, refund_id, at, actor, kind) VALUES (1, 'r', 0, 'you', 'accepted')",
    "INTO audit_seals (seq, table_name, first_seq, last_seq, rows, digests, hash, sealed_at)"
    " VALUES (1, 'events', 2, 2, 1, '', 'x', 0)",
    "INTO audit_seals (seq, table_name, first_seq, last_seq, rows, digests, hash, sealed_at)"
    " VALUES (2, 'events', 1, 1, 1, '', 'x', 0)",
    "INTO audit_seals (rowid, seq, table_name, first_seq, last_seq, rows, digests, hash, sealed_at)"
    " VALUES (1, 2, 'events', 2, 2, 1, '', 'x', 0)",
    "INTO snapshots (seq, table_name, row_id, form, state) VALUES (1, 'payments', 'p', 1, '[2]')",
    "INTO erasures (seq, at, actor, table_name, row_seq, was, becomes) VALUES (1, 0, 'you', 'events', 1, 'a', 'c')",
    "INTO audit_checks (seq, at, kind, actor, first_seal, last_seal, rows) VALUES (1, 0, 'verified', 'you', 1, 1, 1)",
)


@pytest.mark.parametrize("into", _REPLACING)
@pytest.mark.parametrize("guard", ["the insert trigger", "the delete trigger"])
def test_sqlite_cannot_replace_appended_rows(migrated_sqlite_url: str, into: str, guard: str) -> None:
    database = Database(migrated_sqlite_url)
    table = into.split()[1]
    with database.write() as connection:
        for row in _ROWS:
            connection.execute(text(row))
        if guard == "the insert trigger":  # on whatever connection
            connection.exec_driver_sql("PRAGMA recursive_triggers = OFF")
        else:  # on ours
            connection.execute(text(f"DROP TRIGGER {table}_no_replace"))
        before = connection.execute(text(f"SELECT * FROM {table}")).all()
        for start in ("REPLACE ", "INSERT OR REPLACE "):
            with pytest.raises(DBAPIError, match="append-only"):
                connection.execute(text(start + into))
        assert connection.execute(text(f"SELECT * FROM {table}")).all() == before
    database.close()


def test_rows_numbered_by_sqlite_can_still_be_appended(migrated_sqlite_url: str) -> None:
    database = Database(migrated_sqlite_url)
    with database.write() as connection:
        for row in (*_ROWS, *_ROWS[2:3] * 2):
            connection.execute(text(row))
        assert connection.execute(text("SELECT seq FROM ledger_entries")).scalars().all() == [1, 2, 3]
    database.close()


def test_migration_does_not_change_the_logging(tmp_path: Path) -> None:
    code = (
        "import logging; from refund_worker.store import schema; from refund_worker.store.database import Database\n"
        "mine = logging.getLogger('mine'); handlers = logging.getLogger().handlers[:]\n"
        f"schema.upgrade(Database('sqlite:///{tmp_path / 'x.db'}'))\n"
        "assert not mine.disabled and logging.getLogger().handlers == handlers"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=os.environ)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


_ROWS = (
    "INSERT INTO customers (customer_id, created_at) VALUES ('c', 0)",
    "INSERT INTO ledger_transactions (transaction_id, customer_id, kind, credits, occurred_at, actor)"
    " VALUES ('t', 'c', 'purchase', 1, 0, 'me')",
    "INSERT INTO ledger_entries (transaction_id, account, unit, amount) VALUES ('t', 'customer:c', 'credits', 1)",
    'INSERT INTO refunds (refund_id, client, idempotency_key, body, kind, "to", customer_id, credits, reason, status,'
    " version, created_at, updated_at, requested_by) VALUES"
    " ('r', 'x', 'k', '{}', 'withdrawal', 'source', 'c', 1, 'asked', 'queued', 1, 0, 0, 'me')",
    "INSERT INTO events (refund_id, at, actor, kind) VALUES ('r', 0, 'me', 'accepted')",
    "INSERT INTO audit_seals (seq, table_name, first_seq, last_seq, rows, digests, hash, sealed_at)"
    " VALUES (1, 'events', 1, 1, 1, '', '', 0)",
    "INSERT INTO snapshots (table_name, row_id, form, state) VALUES ('payments', 'p', 1, '[1]')",
    "INSERT INTO erasures (at, actor, table_name, row_seq, was, becomes) VALUES (0, 'me', 'events', 1, 'a', 'b')",
    "INSERT INTO audit_checks (at, kind, actor, first_seal, last_seal, rows) VALUES (0, 'verified', 'me', 1, 1, 1)",
)
