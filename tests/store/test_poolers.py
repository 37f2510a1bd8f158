"""Refunds through the real PgBouncer, which gives each transaction, or each session, another one of few connections."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from tests.support.deployment import Deployment
from tests.support.pgbouncer import PgBouncer
from tests.support.sales import paid, sell
from tests.support.servers import PostgresServer
from tests.support.web_process import WebProcess

from refund_worker.engine.access.api_keys import create_key
from refund_worker.errors import Unavailable
from refund_worker.store import schema
from refund_worker.store.database import Database

REFUNDS, AT_ONCE = 30, 8
SCHEMA = "pooled"
LIMITS = {"statement_timeout": "30s", "lock_timeout": "10s", "idle_in_transaction_session_timeout": "30s"}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def test_refunds_over_http_through_a_pooler_in_transaction_mode(
    server: PostgresServer, tmp_path: Path, redis_url: str
) -> None:
    with PgBouncer(server.port) as pooler:
        url = pooler.url(server.databases.create())
        migrated = Database(url, schema=SCHEMA)
        schema.upgrade(migrated)
        migrated.close()
        with Deployment(tmp_path, {"DATABASE_SCHEMA": SCHEMA}, database_url=url, broker_url=redis_url) as deployment:
            key = create_key(deployment.context, name="k", client="c", role="requester")
            sell(deployment.context, deployment.sandbox, [paid(number) for number in range(REFUNDS)])
            deployment.start("worker", "scheduler")
            ours = {name.removeprefix("REFUND_WORKER_"): value for name, value in deployment.environment.items()}
            with WebProcess(url, **{name: value for name, value in ours.items() if name != "DATABASE_URL"}) as web:
                ids = _ask_all(web.url, key)
                deployment.settle(ids)
            assert deployment.paid_minor() == REFUNDS * 100
            assert len(deployment.sandbox.refunds()) == REFUNDS
            logs = deployment.log("worker") + deployment.log("scheduler") + web.log
            for trouble in ("alarm", "DuplicatePreparedStatement", "InvalidSqlStatement", '"level": "error"'):
                assert trouble not in logs


def _ask_all(url: str, key: str) -> list[str]:
    def ask(number: int) -> str:
        body = {"kind": "withdrawal", "to": "source", "customer_id": f"c-{number}", "credits": 10, "reason": "asked"}
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": f"k{number}"}
        answer = httpx.post(f"{url}/v1/refunds", json=body, headers=headers, timeout=30)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(ask, range(REFUNDS)))


@pytest.mark.parametrize("ignores_options", [False, True])
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_limits_and_schema_hold_in_each_pooled_transaction(
    server: PostgresServer, mode: str, ignores_options: bool
) -> None:
    direct = server.databases.create()
    with PgBouncer(server.port, mode, ignores_options=ignores_options) as pooler:
        database = Database(pooler.url(direct), schema=SCHEMA)
        schema.upgrade(database)
        # Another client leaves its own settings behind on every connection of the pool.
        other = Database(pooler.url(direct))
        for _ in range(4):
            with other.read() as connection:
                connection.execute(text("SET SESSION statement_timeout = 0; SET SESSION search_path = nowhere"))
            with database.read() as connection:
                for name, value in LIMITS.items():
                    assert connection.execute(text(f"SHOW {name}")).scalar_one() == value
                assert connection.execute(text("SHOW search_path")).scalar_one() == SCHEMA
                assert connection.execute(text("SELECT count(*) FROM refunds")).scalar_one() == 0
            with database.read_anywhere() as connection:
                assert connection.execute(text("SHOW transaction_read_only")).scalar_one() == "on"
                assert connection.execute(text("SELECT count(*) FROM refunds")).scalar_one() == 0
        for opened in (database, other):
            opened.close()


def test_start_up_options_that_the_pooler_refuses_are_named(server: PostgresServer) -> None:
    with PgBouncer(server.port) as pooler:
        database = Database(pooler.url(server.databases.create()) + "?options=-c%20geqo%3Doff")
        with pytest.raises(Unavailable) as raised:
            schema.upgrade(database)
        assert "unsupported startup parameter: options" in raised.value.explained
        assert "ignore_startup_parameters" in raised.value.explained
        database.close()


def test_pooler_that_shares_sessions_between_statements_is_named(server: PostgresServer) -> None:
    with PgBouncer(server.port, "statement") as pooler:
        database = Database(pooler.url(server.databases.create()))
        with pytest.raises(Unavailable) as raised:
            schema.upgrade(database)
        assert "set the pooler's pool_mode to transaction or session" in raised.value.explained
        database.close()
