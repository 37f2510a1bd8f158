"""A real standby is promoted: the processes leave the demoted primary, and the processor is listed before any send."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from sqlalchemy import func, select
from tests.support.deployment import Deployment, wait_until
from tests.support.migrated import migrate
from tests.support.servers import PostgresServer
from tests.support.standby import Name, Standby, follow
from tests.support.web_process import WebProcess

from refund_worker.cli.doctor_database import check_database
from refund_worker.engine.access.api_keys import create_key
from refund_worker.settings import PREFIX
from refund_worker.store.tables import refunds

# From the moment when the name leads to the new primary. The contract allows it.
FOUND_SECONDS_MAX = 15.0
NO_LISTS = {"match": {"path_kind": "list"}, "times": None}


class Pair(NamedTuple):
    """A primary with its asynchronous standby, and the name that leads to one of them."""

    primary: PostgresServer
    standby: Standby
    name: Name


@pytest.fixture
def pair() -> Iterator[Pair]:
    with PostgresServer() as primary, Standby(primary) as standby, Name(primary) as name:
        yield Pair(primary, standby, name)


def test_all_processes_follow_a_promoted_standby_and_list_first(
    pair: Pair, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = pair.primary.databases.create(migrate)
    url = pair.name.url(direct.rpartition("/")[2])
    with Deployment(tmp_path, {"POLL_SECONDS": "5"}, database_url=url, broker_url=redis_url) as deployment:
        key = create_key(deployment.context, name="k", client="c", role="requester")
        deployment.start("worker", "scheduler")
        with WebProcess(url, BROKER_URL=redis_url) as web:
            deployment.settle(deployment.ask())
            before = len(deployment.sandbox.refunds())
            deployment.sandbox.add_fault({"server_error": {}}, **NO_LISTS)
            _fail_over(pair)
            wait_until(lambda: _status(web, "/readyz", key) == 503)
            assert _ask(web, key, "demoted").status_code == 503
            wait_until(lambda: "the server accepts no writes" in deployment.log("scheduler"))
            monkeypatch.setenv(PREFIX + "DATABASE_URL", url)
            assert "this server is a standby" in check_database(deployment.settings).found
            pair.name.move_to(pair.standby)
            moved = time.monotonic()
            wait_until(lambda: _status(web, "/readyz", key) == 200, FOUND_SECONDS_MAX)
            accepted = _ask(web, key, "after")
            assert accepted.status_code == 202, accepted.text
            refund = accepted.json()["id"]
            # A worker has found it on the new primary, and lets it wait for the processor's list.
            wait_until(lambda: _is_postponed(deployment, refund), FOUND_SECONDS_MAX)
            assert time.monotonic() - moved < FOUND_SECONDS_MAX
            assert len(deployment.sandbox.refunds()) == before
            deployment.sandbox.clear_faults()
            deployment.settle([refund])
            assert len(deployment.sandbox.refunds()) == before + 1


def _fail_over(pair: Pair) -> None:
    """Promote the standby; the primary comes back as its standby, and the name still leads to it."""
    pair.primary.stop()
    pair.standby.promote()
    follow(pair.primary, pair.standby)


def _is_postponed(deployment: Deployment, refund_id: str) -> bool:
    with deployment.runtime.database.read() as connection:
        waits = select(refunds.c.due_at - func.extract("epoch", func.now())).where(refunds.c.refund_id == refund_id)
        return bool(connection.execute(waits).scalar_one() > 60)


def _status(web: WebProcess, path: str, key: str) -> int:
    return httpx.get(f"{web.url}{path}", headers={"Authorization": f"Bearer {key}"}, timeout=20).status_code


def _ask(web: WebProcess, key: str, name: str) -> httpx.Response:
    body = {"kind": "withdrawal", "to": "source", "customer_id": "c-1", "credits": 10, "reason": "asked"}
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": name}
    return httpx.post(f"{web.url}/v1/refunds", json=body, headers=headers, timeout=20)
