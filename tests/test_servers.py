"""The real servers that other tests use: they start empty, crash, freeze, and end with the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from sqlalchemy import create_engine, text

from tests.support import servers
from tests.support.processes import ServerFailed
from tests.support.servers import PostgresDatabases, PostgresServer, ValkeyServer

ROOT = Path(__file__).parent.parent


def libpq(url: str) -> str:
    return url.replace("postgresql+psycopg", "postgresql")


def wait_until(condition: Callable[[], bool], seconds_max: float = 10) -> bool:
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("repetition", [1, 2])
def test_each_test_finds_an_empty_database(database_url: str, repetition: int) -> None:
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE mark (id integer)"))  # fails if the other repetition's is still there
        connection.execute(text("INSERT INTO mark VALUES (:id)"), {"id": repetition})
        assert connection.execute(text("SELECT id FROM mark")).scalars().all() == [repetition]
    engine.dispose()


@pytest.mark.parametrize("repetition", [1, 2])
def test_each_test_finds_an_empty_broker(redis_url: str, repetition: int) -> None:
    with redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set(f"mark-{repetition}", 1)


def test_a_template_is_prepared_once_and_its_copies_do_not_share_rows(postgres_server: PostgresDatabases) -> None:
    prepared: list[str] = []

    def prepare(url: str) -> None:
        prepared.append(url)
        with psycopg.connect(libpq(url)) as connection:
            connection.execute("CREATE TABLE mark (id integer)")

    first, second = postgres_server.create(prepare), postgres_server.create(prepare)
    try:
        assert len(prepared) == 1
        assert len({first, second, *prepared}) == 3
        with psycopg.connect(libpq(first)) as connection:
            connection.execute("INSERT INTO mark VALUES (1)")
        with psycopg.connect(libpq(second)) as connection:
            assert connection.execute("SELECT count(*) FROM mark").fetchone() == (0,)
    finally:
        postgres_server.drop(first)
        postgres_server.drop(second)


def test_crashed_postgres_keeps_exactly_what_was_committed(own_postgres: PostgresServer) -> None:
    url = libpq(own_postgres.databases.create())
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE mark (id integer)")
        connection.execute("INSERT INTO mark VALUES (1)")
    unfinished = psycopg.connect(url)
    unfinished.execute("INSERT INTO mark VALUES (2)")
    own_postgres.crash()
    with pytest.raises(psycopg.OperationalError):
        unfinished.commit()
    unfinished.close()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=1)
    own_postgres.start()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT id FROM mark").fetchall() == [(1,)]


def test_frozen_postgres_does_not_answer_until_thawed(own_postgres: PostgresServer) -> None:
    with psycopg.connect(libpq(own_postgres.databases.create())) as connection:
        connection.execute("SELECT 1")
        own_postgres.freeze()
        connection.pgconn.send_query(b"SELECT 2")
        time.sleep(0.3)
        connection.pgconn.consume_input()
        assert connection.pgconn.is_busy()
        own_postgres.thaw()

        def answered() -> bool:
            connection.pgconn.consume_input()
            return not connection.pgconn.is_busy()

        assert wait_until(answered)
        while connection.pgconn.get_result() is not None:
            pass


@pytest.mark.parametrize(("persistent", "kept"), [(False, None), (True, b"1")])
def test_crashed_valkey_keeps_only_what_it_persists(persistent: bool, kept: bytes | None) -> None:
    with ValkeyServer(persistent=persistent) as server:
        with redis.from_url(server.url) as client:
            client.set("mark", 1)
        server.crash()
        with redis.from_url(server.url) as client, pytest.raises(redis.ConnectionError):
            client.ping()
        server.start()
        with redis.from_url(server.url) as client:
            assert client.get("mark") == kept


def test_a_frozen_valkey_does_not_answer_until_thawed(own_valkey: ValkeyServer) -> None:
    with redis.from_url(own_valkey.url, socket_timeout=0.2, retry=None) as client:
        own_valkey.freeze()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        own_valkey.thaw()
        assert client.ping()


def test_closing_a_frozen_server_leaves_no_process_and_no_folder() -> None:
    server = PostgresServer().start()
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    assert len(family) > 3
    server.freeze()
    server.close()
    assert not [process for process in family if process.is_running()]
    assert not server.folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only the Linux kernel ends a child with its parent")
@pytest.mark.parametrize("kind", ["PostgresServer", "ValkeyServer"])
def test_servers_do_not_outlive_tests_that_are_killed(kind: str) -> None:
    program = f"""
        import time
        from tests.support.servers import {kind}
        server = {kind}().start()
        print(server.pid, server.folder, flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        pid, folder = tests.stdout.readline().split()
        server = psutil.Process(int(pid))
        family = [server, *server.children(recursive=True)]
        os.kill(tests.pid, signal.SIGKILL)
        tests.wait(10)
    assert wait_until(lambda: not [process for process in family if process.is_running()])
    shutil.rmtree(folder)


def test_a_platform_without_the_wheel_fails_loudly_and_is_not_skipped() -> None:
    with pytest.raises(ServerFailed, match="no_such_wheel is not installed on this platform"):
        servers.installed_package("no_such_wheel", "Postgres")


def test_a_server_that_cannot_start_says_why(own_valkey: ValkeyServer) -> None:
    second = ValkeyServer()
    second.port = own_valkey.port
    # Another server answers at the port: only the log and the exit code show the failure.
    second.answers = lambda: False  # type: ignore[method-assign]
    try:
        with pytest.raises(ServerFailed, match="Address already in use"):
            second.start()
    finally:
        second.close()
