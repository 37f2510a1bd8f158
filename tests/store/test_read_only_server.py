"""A server that was set to read only: requests get 503, and the pool gives its connections up."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from tests.support.deployment import wait_until
from tests.web.client import Web, settings_for

from refund_worker.alarms import Condition
from refund_worker.cli.app import run_command
from refund_worker.errors import Unavailable
from refund_worker.store.database import Database
from refund_worker.worker.process_reports import ProcessReports


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
        warned = [record for record in caplog.records if "the server accepts no writes" in record.getMessage()]
        assert [vars(record)["alarm"] for record in warned] == [Condition.DATABASE_READ_ONLY]
        set_read_only(admin, "off")
        assert web.call("GET", "/readyz").status_code == 200


def names_in(page: str) -> dict[str, set[str]]:
    """Return the metrics of a page, each with the label sets that it shows."""
    found: dict[str, set[str]] = {}
    for line in page.splitlines():
        if not line.startswith("#"):
            name, _, labels = line.rpartition(" ")[0].partition("{")
            found.setdefault(name, set()).add(labels)
    return found


def test_metrics_keep_their_series_on_a_read_only_server(migrated_url: str, admin: Engine) -> None:
    def page() -> str:
        return web.call("GET", "/metrics", headers={"Host": "localhost"}).text

    with Web(settings_for(migrated_url)) as web:
        page()
        before = page()
        assert "refund_worker_database_writable 1.0" in before
        set_read_only(admin, "on")
        wait_until(lambda: "refund_worker_database_up 1.0" in page())
        during = page()
        assert "refund_worker_database_writable 0.0" in during
        assert names_in(during) == names_in(before)
        left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        with admin.connect() as connection:
            wait_until(lambda: connection.execute(text(left)).scalar_one() == 0)
        set_read_only(admin, "off")


def test_worker_says_once_that_its_database_is_read_only(
    migrated_url: str, admin: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    set_read_only(admin, "on")
    tries: list[int] = []

    def is_alive() -> bool:
        tries.append(1)
        return True

    with ProcessReports(settings_for(migrated_url), "worker", ["refunds"], is_alive=is_alive, report_seconds=0.05):
        wait_until(lambda: len(tries) > 6)
    set_read_only(admin, "off")
    warned = [record for record in caplog.records if hasattr(record, "alarm")]
    assert [vars(record)["alarm"] for record in warned] == [Condition.DATABASE_READ_ONLY]
    assert "accepts no writes" in warned[0].getMessage()


def test_doctor_says_why_a_server_is_read_only(
    migrated_url: str, admin: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REFUND_WORKER_DATABASE_URL", migrated_url)
    monkeypatch.setenv("REFUND_WORKER_BROKER_URL", "memory://")
    set_read_only(admin, "on")
    code = run_command(["doctor", "-o", "json"])
    set_read_only(admin, "off")
    found = {line["check"]: line for line in json.loads(capsys.readouterr().out)["data"]}
    database = found["database"]
    assert (code, database["verdict"]) == (1, "fail")
    assert "read-only" in database["found"]
    assert "default_transaction_read_only is on (set by: database)" in database["found"]
    assert "refund-worker explain database_read_only" in database["do"]
    assert "SELECT pg_is_in_recovery()" in database["do"]
    assert not {"processes", "scheduler", "worker"} & found.keys()


def test_reading_anywhere_never_writes(migrated_url: str) -> None:
    database = Database(migrated_url)
    with pytest.raises(Unavailable), database.read_anywhere() as connection:
        connection.execute(text("INSERT INTO customers (customer_id, created_at) VALUES ('c', 0)"))
    database.close()


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
