"""A server that was set to read only: requests get 503, and the pool gives its connections up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from tests.web.client import Web, settings_for

from refund_worker.errors import Unavailable
from refund_worker.store.database import Database


@pytest.fixture
def admin(migrated_url: str) -> Iterator[Engine]:
    engine = create_engine(migrated_url, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


pytestmark = pytest.mark.parametrize("migrated_url", ["postgres"], indirect=True)


def set_read_only(admin: Engine, value: str) -> None:
    """Change the database's default, and end its sessions, which have read the old one."""
    with admin.connect() as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}'))
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        connection.execute(text(f"{others} AND pid <> pg_backend_pid()"), {"name": name})


def test_read_only_database_answers_503_until_it_is_writable(
    migrated_url: str, admin: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with Web(settings_for(migrated_url)) as web:
        assert web.call("GET", "/readyz").status_code == 200
        set_read_only(admin, "on")
        for path in ("/readyz", "/v1/customers/ann"):
            answer = web.call("GET", path)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert "only allows reading" in answer.json()["detail"]
        assert web.call("GET", "/healthz").status_code == 200
        assert caplog.text.count("the server accepts no writes") == 1
        set_read_only(admin, "off")
        assert web.call("GET", "/readyz").status_code == 200


def test_all_connections_to_a_read_only_server_are_given_up(migrated_url: str) -> None:
    database = Database(migrated_url)

    def pids() -> set[int]:
        with database.read() as one, database.read() as two:
            return {each.execute(text("SELECT pg_backend_pid()")).scalar_one() for each in (one, two)}

    old = pids()

    def write(connection: Connection) -> None:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        connection.execute(text("INSERT INTO customers (customer_id, created_at) VALUES ('c', 0)"))

    with pytest.raises(Unavailable) as raised:
        database.run(write)
    assert "read-only" in raised.value.explained
    assert not old & pids()
    database.close()
