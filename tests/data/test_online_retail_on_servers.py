"""The same real month on Postgres and Redis, with two workers, and Redis emptied twice in the middle."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.data.test_online_retail import (
    DATA,
    REFUNDED,
    REFUNDED_MINOR,
    REFUSED,
    assert_each_payment_agrees,
    begin,
    command,
    end,
    settle,
    statuses_of,
)
from tests.support.deployment import Deployment, wait_until
from tests.support.migrated import migrate
from tests.support.servers import PostgresDatabases, ValkeyServer

from refund_worker.engine.processor_sync.reconciliation import reconcile
from refund_worker.runtime import build_runtime
from refund_worker.settings import load_settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"NOT TESTED: the real data is not there ({DATA.name})"),
]

# Slow enough answers that Redis is emptied while work is under way.
SLOW = {"rules": [{"match": {"path_kind": "create"}, "times": None, "do": {"delay_seconds": 0.3}}]}


@pytest.fixture
def running(tmp_path: Path, postgres_server: PostgresDatabases, own_valkey: ValkeyServer) -> Iterator[Deployment]:
    url = postgres_server.create(migrate)
    with Deployment(tmp_path, database_url=url, broker_url=own_valkey.url, faults=SLOW) as made:
        with (DATA / "payments.csv").open(encoding="utf-8") as file:
            names = ("processor_payment_id", "currency")
            paid = [
                {name: row[name] for name in names} | {"amount_minor": int(row["amount_minor"])}
                for row in csv.DictReader(file)
            ]
        made.sandbox.register_payments(paid)
        made.start("worker-1", "worker-2", "scheduler")
        yield made
    postgres_server.drop(url)


def flush_when(running: Deployment, succeeded: int) -> int:
    """Empty Redis as soon as so many have succeeded; how many had by then."""

    def enough() -> int:
        found = statuses_of(running.context).get("succeeded", 0)
        return found if found >= succeeded else 0

    found: int = wait_until(enough, 60)
    with running.broker() as broker:
        broker.flushall()
    return found


def test_the_month_comes_out_to_the_penny_although_redis_is_emptied_twice(running: Deployment) -> None:
    environment = running.environment
    assert command(environment, "import", "payments", str(DATA / "payments.csv"))[0] == 0
    assert command(environment, "import", "transactions", str(DATA / "transactions.csv"))[0] == 0
    for worker in ("worker-1", "worker-2"):
        running.celery(worker, seconds_max=60)

    submitting = begin(environment, "refunds", "submit", str(DATA / "refund_requests.csv"))
    first = flush_when(running, 1)
    second = flush_when(running, first + 30)
    code, told = end(submitting)

    assert second < REFUNDED
    assert code == 3
    assert told["accepted"] == REFUNDED
    assert Counter(row["code"] for row in told["rejected"]) == REFUSED
    with build_runtime(load_settings(environment)) as runtime:
        assert settle(runtime.context) == {"succeeded": REFUNDED}
        report = reconcile(runtime.context, "stripe")
    assert report.agrees, report.differences
    assert report.ledger_minor == REFUNDED_MINOR
    assert_each_payment_agrees(environment, running.sandbox.refunds())
