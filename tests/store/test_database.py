"""Failures of the database: a deadlock, a slow statement, a full or read-only disk, no free connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from sqlalchemy import Connection, event, text
from tests.support.engine_world import World, assert_books_balance
from tests.support.sales import paid, withdrawal
from tests.web.client import Web, settings_for

from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.errors import Unavailable
from refund_worker.store.database import POOL_SECONDS, TRIES, Database, TryAgain

only_postgres = pytest.mark.parametrize("migrated_url", ["postgres"], indirect=True)
only_sqlite = pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
WAIT_SECONDS_MAX = 20.0


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    opened = Database(migrated_url)
    yield opened
    opened.close()


# --- again, please ---------------------------------------------------------------------------------------------------


@only_postgres
def test_both_sides_of_a_deadlock_succeed(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("CREATE TABLE two (id int PRIMARY KEY, n int NOT NULL)"))
        connection.execute(text("INSERT INTO two VALUES (1, 0), (2, 0)"))
    both_hold_one = threading.Barrier(2)
    runs: list[int] = []

    def in_order(first: int, second: int) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            runs.append(first)
            connection.execute(text("UPDATE two SET n = n + 1 WHERE id = :id"), {"id": first})
            if runs.count(first) == 1:
                both_hold_one.wait(WAIT_SECONDS_MAX)
            connection.execute(text("UPDATE two SET n = n + 1 WHERE id = :id"), {"id": second})

        return work

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(database.run, in_order(*ids)) for ids in ((1, 2), (2, 1))]:
            done.result(WAIT_SECONDS_MAX)
    assert len(runs) > 2, "one of them was the deadlock's victim, and ran again"
    with database.read() as connection:
        assert connection.execute(text("SELECT n FROM two ORDER BY id")).scalars().all() == [2, 2]


@only_postgres
def test_serialisation_failure_reruns_the_whole_work(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("CREATE TABLE one AS SELECT 1 AS n"))
    seen: list[int] = []

    def add_one(connection: Connection) -> None:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        seen.append(connection.execute(text("SELECT n FROM one")).scalar_one())
        if len(seen) == 1:
            with database.write() as other:
                other.execute(text("UPDATE one SET n = n + 10"))
        connection.execute(text("UPDATE one SET n = n + 1"))

    database.run(add_one)
    assert seen == [1, 11]
    with database.read() as connection:
        assert connection.execute(text("SELECT n FROM one")).scalar_one() == 12


@only_postgres
@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_retries_end_and_nothing_is_written(database: Database, state: str) -> None:
    with database.write() as connection:
        connection.execute(text("CREATE TABLE one AS SELECT 1 AS n"))
    runs = 0

    def fail(connection: Connection) -> None:
        nonlocal runs
        runs += 1
        connection.execute(text("UPDATE one SET n = n + 1"))
        connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$"))

    with pytest.raises(TryAgain) as raised:
        database.run(fail)
    assert runs == TRIES
    assert (raised.value.status, raised.value.retryable) == (503, True)
    with database.read() as connection:
        assert connection.execute(text("SELECT n FROM one")).scalar_one() == 1


# --- limits of time --------------------------------------------------------------------------------------------------


@only_postgres
def test_every_connection_has_time_limits(database: Database) -> None:
    wanted = {
        "statement_timeout": "30s",
        "lock_timeout": "10s",
        "idle_in_transaction_session_timeout": "30s",
    }
    with database.read() as connection:
        for name, value in wanted.items():
            assert connection.execute(text(f"SHOW {name}")).scalar_one() == value
        info = connection.connection.dbapi_connection.info  # type: ignore[union-attr]
    assert info.get_parameters()["tcp_user_timeout"] == "10000"
    assert info.get_parameters()["connect_timeout"] == "5"


@only_postgres
@pytest.mark.parametrize(
    ("limit", "statement"),
    [
        ("statement_timeout", "SELECT pg_sleep(30)"),
        ("lock_timeout", "LOCK TABLE customers IN ACCESS EXCLUSIVE MODE"),
    ],
)
def test_slow_statement_is_unavailable_and_not_retried(database: Database, limit: str, statement: str) -> None:
    runs = 0

    def slow(connection: Connection) -> None:
        nonlocal runs
        runs += 1
        connection.execute(text(f"SET LOCAL {limit} = '50ms'"))
        connection.execute(text(statement))

    with database.read() as other:
        other.execute(text("SELECT count(*) FROM customers"))  # it holds a lock until this transaction ends
        with pytest.raises(Unavailable):
            database.run(slow)
    assert runs == 1


@only_postgres
def test_idle_transaction_is_ended_and_releases_its_locks(database: Database) -> None:
    lock = text("LOCK TABLE customers IN ACCESS EXCLUSIVE MODE")

    def freeze(connection: Connection) -> None:
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '50ms'"))
        connection.execute(lock)
        with database.write() as other:
            other.execute(lock)
        connection.execute(text("SELECT 1"))

    with pytest.raises(Unavailable):
        database.run(freeze)


@only_sqlite
def test_blocked_writer_gets_503_after_the_limit(database: Database) -> None:
    @event.listens_for(database.engine, "connect")
    def impatient(connection: object, _record: object) -> None:
        connection.execute("PRAGMA busy_timeout = 50")  # type: ignore[attr-defined]

    with database.write(), pytest.raises(Unavailable), database.write():
        pass


# --- no connection left ----------------------------------------------------------------------------------------------


def test_exhausted_pool_raises_and_does_not_hang(migrated_url: str) -> None:
    database = Database(migrated_url, pool_size=1, pool_seconds=0.1)
    with ExitStack() as taken:
        for _ in range(2):
            taken.enter_context(database.read())
        began = time.monotonic()
        with pytest.raises(Unavailable, match="connections are busy"), database.read():
            pass
        assert time.monotonic() - began < 5
    with database.read():
        pass
    database.close()


def test_request_gets_503_when_every_connection_is_taken(migrated_url: str) -> None:
    with Web(settings_for(migrated_url)) as web, ExitStack() as taken:
        database = web.context.database
        for _ in range(10):
            taken.enter_context(database.read())
        began = time.monotonic()
        answer = web.call("GET", "/v1/customers/ann")
        assert (answer.status_code, answer.json()["retryable"]) == (503, True)
        assert time.monotonic() - began < 4 * POOL_SECONDS
        taken.close()
        assert web.call("GET", "/v1/customers/ann").status_code == 404


# --- full, or read only ----------------------------------------------------------------------------------------------


@contextmanager
def read_only(database: Database) -> Iterator[None]:
    """A database that refuses writes, as a standby or a write-protected disk does."""

    def begin(connection: Connection) -> None:
        statement = "PRAGMA query_only = ON" if database.is_sqlite else "SET default_transaction_read_only = on"
        connection.exec_driver_sql(statement)

    event.listen(database.engine, "begin", begin)
    yield
    event.remove(database.engine, "begin", begin)
    database.engine.dispose()


def test_read_only_database_accepts_nothing_and_calls_no_processor(migrated_url: str) -> None:
    world = World(migrated_url)
    world.pay()
    waiting = world.withdraw(20)
    with read_only(world.database):
        with pytest.raises(Unavailable):
            world.withdraw(20, "other")
        with pytest.raises(Unavailable):
            world.work()
    assert world.processor.sends == []
    assert world.refund(waiting).status is RefundStatus.QUEUED
    world.work()
    assert world.refund(waiting).status is RefundStatus.SUCCEEDED
    assert_books_balance(world.database)
    world.close()


def test_readiness_is_503_while_the_database_is_read_only(migrated_url: str) -> None:
    with Web(settings_for(migrated_url)) as web:
        assert web.call("GET", "/readyz", key=None).status_code == 200
        with read_only(web.context.database):
            answer = web.call("GET", "/readyz", key=None)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert "only allows reading" in answer.json()["detail"]
        assert web.call("GET", "/readyz", key=None).status_code == 200


def test_readiness_does_not_wait_for_another_writer(migrated_url: str) -> None:
    with Web(settings_for(migrated_url)) as web, web.context.database.write() as connection:
        connection.execute(text("UPDATE customers SET created_at = created_at"))
        began = time.monotonic()
        assert web.call("GET", "/readyz", key=None).status_code == 200
        assert time.monotonic() - began < 5


def test_full_disk_gives_503_and_stores_nothing_of_the_request(migrated_url: str) -> None:
    with Web(settings_for(migrated_url)) as web:
        database = web.context.database
        record_payments(web.context, [paid("one", customer_id="ann", amount_minor=10_000, credits=10_000)])
        body = {"kind": "withdrawal", "to": "source", "customer_id": "ann", "credits": 1, "reason": "x" * 400}
        with full(database):
            for number in range(2_000):
                answer = web.call("POST", "/v1/refunds", body, headers={"Idempotency-Key": f"k{number}"})
                if answer.status_code != 202:
                    break
            assert (answer.status_code, answer.json()["retryable"]) == (503, True)
        assert web.call("GET", f"/v1/refunds?idempotency_key=k{number}").json()["data"] == []
        assert_books_balance(database)
        again = web.call("POST", "/v1/refunds", body, headers={"Idempotency-Key": f"k{number}"})
        assert again.status_code == 202


@contextmanager
def full(database: Database) -> Iterator[None]:
    """A full disk: SQLite may not extend its file; on Postgres new refunds meet the error of a full disk."""
    if database.is_sqlite:

        def limit(connection: Connection) -> None:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        event.listen(database.engine, "begin", limit)
        yield
        event.remove(database.engine, "begin", limit)
        database.engine.dispose()
        return
    with database.write() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION USING ERRCODE = 'disk_full'; END $$"
            )
        )
        connection.execute(
            text("CREATE TRIGGER full_disk BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION full_disk()")
        )
    yield
    with database.write() as connection:
        connection.execute(text("DROP TRIGGER full_disk ON events"))


def test_send_during_a_read_only_disk_is_looked_up_and_paid_once(migrated_url: str) -> None:
    world = World(migrated_url)
    world.pay()
    refund_id = world.withdraw(20)
    with ExitStack() as outage:
        world.processor.while_sending = lambda: outage.enter_context(read_only(world.database))
        with pytest.raises(Unavailable):
            world.work()
        world.processor.while_sending = lambda: None
    world.work_for(10_000)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert world.processor.paid_minor() == 200
    assert_books_balance(world.database)
    world.close()


def test_withdrawal_retried_after_a_read_only_database_is_one_refund(migrated_url: str) -> None:
    world = World(migrated_url)
    world.pay()
    request = withdrawal("one", customer_id="c", credits=20)
    with read_only(world.database), pytest.raises(Unavailable):
        world.request(request)
    assert not world.request(request).replayed
    assert world.request(request).replayed
    world.close()
