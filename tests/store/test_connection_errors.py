"""A database that cannot be used: the cause in words, on a real server, with no password in it."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from tests.support.processes import free_port
from tests.support.servers import PostgresServer
from tests.support.standby import administer
from tests.web.client import settings_for

from refund_worker.cli.app import run_command
from refund_worker.errors import BadSettings, Unavailable
from refund_worker.runtime import build_runtime
from refund_worker.store.connection_errors import cause_of
from refund_worker.store.database import UNUSABLE, Database
from refund_worker.store.schema import upgrade

PASSWORD = "n0t-to-be-shown"
URL = "REFUND_WORKER_DATABASE_URL"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        hba = server.data / "pg_hba.conf"
        hba.write_text(
            "host all guarded 127.0.0.1/32 scram-sha-256\nhost all barred 127.0.0.1/32 reject\n" + hba.read_text()
        )
        administer(server, "SELECT pg_reload_conf()")
        administer(server, "CREATE ROLE guarded LOGIN PASSWORD 'right'")
        administer(server, "CREATE ROLE barred LOGIN")
        administer(server, "CREATE ROLE one LOGIN CONNECTION LIMIT 0")
        administer(server, "CREATE ROLE plain LOGIN")
        administer(server, "CREATE ROLE asleep NOLOGIN")
        administer(server, "CREATE DATABASE closed ALLOW_CONNECTIONS false")
        yield server


# Name of the case: (the URL after postgresql://, the port being {port}; words of the cause; words of the advice).
CASES = {
    "wrong password": ("guarded:{pw}@127.0.0.1:{port}/postgres", "password authentication failed", "correct user and"),
    "no password": ("guarded@127.0.0.1:{port}/postgres", "no password supplied", "correct user and password"),
    "no such role": ("nobody:{pw}@127.0.0.1:{port}/postgres", 'role "nobody" does not exist', "correct the user"),
    "no login": ("asleep:{pw}@127.0.0.1:{port}/postgres", "is not permitted to log in", "ALTER ROLE"),
    "no such database": ("plain:{pw}@127.0.0.1:{port}/nix", 'database "nix" does not exist', "CREATE DATABASE"),
    "too many": ("one:{pw}@127.0.0.1:{port}/postgres", "too many connections for role", "raise max_connections"),
    "barred": ("barred:{pw}@127.0.0.1:{port}/postgres", "pg_hba.conf rejects", "allow this user"),
    "no TLS": ("plain:{pw}@127.0.0.1:{port}/postgres?sslmode=require", "server does not support SSL", "sslmode"),
    "bad sslmode": ("plain:{pw}@127.0.0.1:{port}/postgres?sslmode=foo", 'invalid sslmode value: "foo"', "correct this"),
    "unknown host": ("plain:{pw}@no-such-host.invalid/postgres", "no-such-host.invalid", "correct the host"),
    "closed port": ("plain:{pw}@127.0.0.1:{closed}/postgres", "Connection refused", "start the server"),
    "closed database": ("plain:{pw}@127.0.0.1:{port}/closed", "not currently accepting", "let the database accept"),
    "bad encoding": ("plain:{pw}@127.0.0.1:{port}/postgres?client_encoding=x", "invalid value for", "correct this"),
    "wants a standby": ("plain:{pw}@127.0.0.1:{port}/postgres?target_session_attrs=standby", "not in hot", "remove"),
    "several hosts": ("plain:{pw}@127.0.0.1:{closed},127.0.0.1:{closed}/postgres", "Connection refused", "start the"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_upgrade_and_doctor_name_the_cause_without_password(
    server: PostgresServer, case: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    form, cause, todo = CASES[case]
    place = form.format(port=server.port, closed=free_port(), pw=PASSWORD)
    monkeypatch.setenv(URL, f"postgresql+psycopg://{place}")
    for words in (["db", "upgrade"], ["doctor", "-o", "json"], ["--debug", "db", "current", "-o", "json"]):
        assert run_command(words) == 1
        out, err = capfd.readouterr()
        told = " ".join((out + err).replace('\\"', '"').split())
        assert cause.replace(" ", "") in told.replace(" ", ""), told
        assert todo.replace(" ", "") in told.replace(" ", ""), told
        assert PASSWORD not in told


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("sslmod=require", "sslmod is no parameter of a Postgres connection"),
        ("replication=true", "replication is no parameter of a Postgres connection"),
        ("connect_timeout=soon", "connect_timeout must be seconds in digits"),
        ("connect_timeout=1&connect_timeout=2", "connect_timeout is set more than once"),
        ("port=abc", "port must be in digits"),
        ("port=1&port=2", "port must be in digits, one for each host or one for all"),
    ],
)
def test_parameter_that_cannot_work_is_a_bad_setting(
    server: PostgresServer, query: str, fault: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(URL, f"postgresql://plain@127.0.0.1:{server.port}/postgres?{query}")
    assert run_command(["db", "upgrade"]) == 2
    assert f"{URL}: {fault}" in capfd.readouterr().err


def test_server_that_ends_a_transaction_is_named_without_its_rows(server: PostgresServer) -> None:
    database = Database(f"postgresql://postgres@127.0.0.1:{server.port}/postgres")

    def fail(statement: str) -> str:
        with pytest.raises(Unavailable) as raised, database.write() as connection:
            connection.execute(text(statement))
        return raised.value.explained

    told = fail("SET LOCAL transaction_timeout = '50ms'; SELECT pg_sleep(5)")
    assert "due to transaction timeout: remove the server's transaction_timeout" in told
    assert "due to statement timeout" in fail("SET LOCAL statement_timeout = '50ms'; SELECT pg_sleep(5)")
    raising = "RAISE 'no room' USING ERRCODE = '54000', DETAIL = 'Row (c-1, ann@example.com)'"
    told = fail(f"DO $$ BEGIN {raising}; END $$")
    assert told.endswith(": no room")
    database.close()


@pytest.mark.parametrize("value", ["0", "none", "5"])
def test_prepare_threshold_of_the_url_changes_nothing(server: PostgresServer, value: str) -> None:
    database = Database(f"postgresql://plain@127.0.0.1:{server.port}/postgres?prepare_threshold={value}&pgbouncer=true")
    with database.read() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        assert driver.prepare_threshold is None
    database.close()


def test_role_without_create_hears_which_grant_is_missing(server: PostgresServer) -> None:
    name = server.databases.create().rpartition("/")[2]
    url = f"postgresql+psycopg://plain:{PASSWORD}@127.0.0.1:{server.port}/{name}"
    for schema, grant in (
        ("public", "GRANT USAGE, CREATE ON SCHEMA public TO plain"),
        ("refunds", f"GRANT CREATE ON DATABASE {name} TO plain"),
    ):
        database = Database(url, schema=schema)
        with pytest.raises(Unavailable) as raised:
            upgrade(database)
        assert f"permission denied for {'schema' if schema == 'public' else 'database'}" in raised.value.explained
        assert grant in raised.value.explained
        database.close()


def test_role_without_rights_hears_of_db_grant(server: PostgresServer) -> None:
    url = server.databases.create()
    owner = Database(url, schema="refunds")
    upgrade(owner)
    owner.close()
    settings = settings_for(url.replace("postgres@", "plain@"), DATABASE_SCHEMA="refunds")
    with pytest.raises(Unavailable) as raised:
        build_runtime(settings, processors=False)
    assert "permission denied for schema refunds" in raised.value.explained
    assert "refund-worker db grant plain" in raised.value.explained


def test_callers_over_http_hear_no_host_and_no_user() -> None:
    database = Database(f"postgresql://me:{PASSWORD}@127.0.0.1:{free_port()}/x")
    with pytest.raises(Unavailable) as raised, database.read():
        pass
    assert raised.value.message == UNUSABLE
    assert "127.0.0.1" in raised.value.explained


def test_urls_own_timeouts_are_kept(server: PostgresServer) -> None:
    database = Database(f"postgresql://plain@127.0.0.1:{server.port}/postgres?connect_timeout=3&tcp_user_timeout=7000")
    with database.read() as connection:
        found = connection.connection.driver_connection.info.get_parameters()  # type: ignore[union-attr]
    assert (found["connect_timeout"], found["tcp_user_timeout"], found["keepalives_idle"]) == ("3", "7000", "5")
    database.close()
    with pytest.raises(BadSettings, match="passwort is no parameter"):
        Database("postgresql://me@h/db?passwort=x")


def test_password_in_a_text_of_the_driver_is_hidden() -> None:
    error = DBAPIError(None, None, psycopg.OperationalError(f'invalid "{PASSWORD}"\nLINE 1: SELECT 1'))
    assert cause_of(error, make_url(f"postgresql://me:{PASSWORD}@h/db")) == 'invalid "***"'
