"""The application's own database role: it does all the work and cannot change written rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from sqlalchemy import text
from tests.support.engine_world import World, assert_books_balance
from tests.support.migrated import migrate
from tests.support.servers import PostgresDatabases

from refund_worker.cli.app import run_command
from refund_worker.domain.refund import RefundStatus
from refund_worker.errors import Conflict, InvalidRequest, NotFound, Unavailable
from refund_worker.store.database import Database
from refund_worker.store.grants import grant_least_rights
from refund_worker.store.tables import APPEND_ONLY, metadata

ROLE = 'refund "app'  # a name that has to be quoted


@pytest.fixture
def owner(postgres_server: PostgresDatabases) -> Iterator[Database]:
    """A migrated database as its owner; ROLE exists and has no rights yet."""
    url = postgres_server.create(migrate)
    database = Database(url)
    quoted = database.engine.dialect.identifier_preparer.quote(ROLE)
    with database.write() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {quoted} LOGIN")
    yield database
    with database.write() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {quoted}")
        connection.exec_driver_sql(f"DROP ROLE {quoted}")
    database.close()
    postgres_server.drop(url)


@pytest.fixture
def app_url(owner: Database) -> str:
    parts = urlsplit(owner.url.render_as_string(hide_password=False))
    return urlunsplit(parts._replace(netloc=f"refund%20%22app@{parts.hostname}:{parts.port}"))


def test_application_works_under_the_role(owner: Database, app_url: str) -> None:
    grant_least_rights(owner, ROLE)
    world = World(app_url)
    world.pay()
    world.spend()
    refund_id = world.withdraw(20)
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert_books_balance(world.database)
    world.close()


def test_role_without_the_grant_can_do_nothing(owner: Database, app_url: str) -> None:
    database = Database(app_url)
    with pytest.raises(Unavailable) as raised, database.read() as connection:
        connection.execute(text("SELECT count(*) FROM refunds"))
    assert "permission denied for" in raised.value.explained
    assert "run `refund-worker db grant" in raised.value.explained
    database.close()


@pytest.mark.parametrize("table", [table.name for table in APPEND_ONLY])
@pytest.mark.parametrize(
    "act",
    [
        "UPDATE {} SET seq = seq",
        "DELETE FROM {}",
        "TRUNCATE {} CASCADE",
        "INSERT INTO {0} SELECT * FROM {0} ON CONFLICT (seq) DO UPDATE SET seq = excluded.seq",
    ],
)
def test_role_cannot_change_written_rows(owner: Database, app_url: str, table: str, act: str) -> None:
    # Rights that were granted manually before are revoked.
    with owner.write() as connection:
        quoted = connection.dialect.identifier_preparer.quote(ROLE)
        connection.exec_driver_sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {quoted}")
    grant_least_rights(owner, ROLE)
    database = Database(app_url)
    # The right is missing; no trigger is reached.
    with pytest.raises(Unavailable) as raised, database.write() as connection:
        connection.execute(text(act.format(table)))
    assert "permission denied for table" in raised.value.explained
    database.close()


def test_grant_covers_every_table(owner: Database) -> None:
    grant_least_rights(owner, ROLE)
    with owner.read() as connection:
        for table in metadata.sorted_tables:
            may = {
                right: connection.execute(
                    text("SELECT has_table_privilege(:role, :table, :right)"),
                    {"role": ROLE, "table": table.name, "right": right},
                ).scalar_one()
                for right in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
            }
            changes = table not in APPEND_ONLY
            assert may == {
                "SELECT": True,
                "INSERT": True,
                "UPDATE": changes,
                "DELETE": changes,
                "TRUNCATE": False,
                "REFERENCES": False,
                "TRIGGER": False,
            }, table.name


def test_unknown_and_privileged_roles_are_refused(owner: Database, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no role nobody_here"):
        grant_least_rights(owner, "nobody_here")
    with pytest.raises(Conflict, match="superuser"):
        grant_least_rights(owner, "postgres")
    with owner.write() as connection:
        connection.execute(text("CREATE ROLE member_of_owner LOGIN IN ROLE postgres"))
    with pytest.raises(Conflict, match="a member of such a role"):
        grant_least_rights(owner, "member_of_owner")
    with owner.write() as connection:
        connection.execute(text("DROP ROLE member_of_owner"))
    file = Database(f"sqlite:///{tmp_path / 'refunds.db'}")
    with pytest.raises(InvalidRequest, match="SQLite"):
        grant_least_rights(file, ROLE)
    file.close()


def test_grant_command_grants_the_rights(owner: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUND_WORKER_DATABASE_URL", owner.url.render_as_string(hide_password=False))
    assert run_command(["db", "grant", ROLE]) == 0
    assert run_command(["db", "grant", "nobody_here"]) == 4
