"""Five planted incidents: an alert fires, a line of the log names the cause, and so does the console or a command.

Metrics and pages come from the real application on the deployment's database. The alert rules are those of
deploy/prometheus, evaluated by Prometheus' own promtool.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import create_engine, make_url, text
from tests.support.alerts import firing
from tests.support.deployment import Deployment, wait_until
from tests.support.migrated import migrated_sqlite_url, migrated_url, sqlite_template
from tests.support.servers import PostgresServer, ValkeyServer
from tests.web.client import Web, settings_for
from tests.web.console.visitor import text_of, visitor
from tests.web.test_stripe_webhooks import EVENT, NEW, OLD, deliver, signed

from refund_worker.alarms import Alarm, Condition, runbook_link
from refund_worker.metrics import COUNTS
from refund_worker.settings import PREFIX
from refund_worker.store.database import Database
from refund_worker.store.schema import upgrade

PAUSE = 0.3  # between two looks at the metrics

__all__ = ["migrated_sqlite_url", "migrated_url", "sqlite_template"]


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    COUNTS.forget()


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(tmp_path) as running:
        yield running


def lines_of(deployment: Deployment, name: str) -> list[dict[str, Any]]:
    """Return the lines of a process's log."""
    file = deployment.folder / f"{name}.log"
    return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


def alarm_in(deployment: Deployment, name: str, alarm: str) -> dict[str, Any]:
    """Return the first line with this alarm, once the process has logged it; it must lead to the runbook."""
    found: list[dict[str, Any]] = wait_until(
        lambda: [line for line in lines_of(deployment, name) if line.get("alarm") == alarm]
    )
    assert found[0]["runbook"].startswith("docs/runbook.md#")
    return found[0]


def metrics_of(web: Web) -> str:
    """Return the page of metrics."""
    answer = web.call("GET", "/metrics", key=None, client=("127.0.0.1", 1), headers={"Host": "localhost"})
    assert answer.status_code == 200, answer.text
    return answer.text


def run(deployment: Deployment, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of an operator on this deployment."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return subprocess.run(
        [sys.executable, "-m", "refund_worker", *words],
        env=ours | deployment.environment,
        cwd=deployment.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_processor_key_revoked(deployment: Deployment) -> None:
    with Web(deployment.settings) as web:
        before = metrics_of(web)
        deployment.sandbox.add_fault({"unauthorized": True}, times=None)
        deployment.start("worker")
        deployment.celery()
        deployment.ask(publish=True)
        line = alarm_in(deployment, "worker", Alarm.SENDING_STOPPED)
        assert "stripe" in line["message"]
        assert line["processor"] == "stripe"
        assert line["runbook"] == runbook_link(line["code"])
        assert "SendingStopped" in firing(deployment.folder, before, metrics_of(web))
        page = text_of(visitor(web, "viewer").get("/"))
        assert "The circuit of stripe is open: The API key is not valid" in page
        assert "Nothing needs a person" not in page


def test_redis_full(tmp_path: Path, own_valkey: ValkeyServer) -> None:
    with Deployment(tmp_path, broker_url=own_valkey.url) as deployment, Web(deployment.settings) as web:
        with redis.Redis.from_url(own_valkey.url) as admin:
            admin.config_set("maxmemory", 1)
        deployment.start("scheduler")
        deployment.ask()
        line = alarm_in(deployment, "scheduler", Condition.BROKER_UNAVAILABLE)
        assert "Redis is full: its memory has reached maxmemory" in line["message"]
        assert "reached (" not in line["message"]
        first = wait_until(lambda: "broker_failures_total{" in (page := metrics_of(web)) and page, pause=PAUSE)
        deployment.ask()
        fired = wait_until(lambda: "BrokerUnavailable" in firing(tmp_path, first, metrics_of(web)), pause=1)
        assert fired
        said = run(deployment, "doctor", "-o", "json").stdout
        assert all(words in said for words in ("Redis is full", "maxmemory", "explain broker_unavailable"))
        assert "not reachable" not in text_of(visitor(web, "viewer").get("/"))


def test_database_read_only(tmp_path: Path, own_postgres: PostgresServer) -> None:
    url = own_postgres.databases.create()
    database = Database(url)
    upgrade(database)
    database.close()
    with Deployment(tmp_path, database_url=url, broker_url="memory://") as deployment, Web(deployment.settings) as web:
        deployment.start("scheduler")
        wait_until(lambda: 'refund_worker_processes{kind="scheduler"} 1.0' in metrics_of(web), pause=PAUSE)
        before = metrics_of(web)
        name = make_url(url).database
        admin = create_engine(make_url(url).set(database="postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"), {"name": name}
            )
        # The ended connections can make it look unavailable for a moment first.
        read_only = ("refund_worker_database_up 1.0", "refund_worker_database_writable 0.0")
        wait_until(lambda: (page := metrics_of(web)) and all(line in page for line in read_only), pause=PAUSE)
        assert firing(tmp_path, before, metrics_of(web)) - {"WebDown"} == {"DatabaseReadOnly"}
        line = alarm_in(deployment, "scheduler", Condition.DATABASE_READ_ONLY)
        assert "accepts no writes" in line["message"]
        assert web.call("GET", "/readyz", key=None).status_code == 503
        with admin.connect() as connection:
            connection.execute(text(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'))
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"), {"name": name}
            )
        admin.dispose()
        wait_until(lambda: "refund_worker_database_writable 1.0" in metrics_of(web), pause=PAUSE)


def test_scheduler_down(deployment: Deployment) -> None:
    with Web(deployment.settings) as web:
        deployment.start("scheduler")
        wait_until(lambda: 'refund_worker_processes{kind="scheduler"} 1.0' in metrics_of(web), pause=PAUSE)
        before = metrics_of(web)
        assert "SchedulerDown" not in firing(deployment.folder, before, before)
        deployment.stop("scheduler")
        assert "SchedulerDown" in firing(deployment.folder, before, metrics_of(web))
    assert lines_of(deployment, "scheduler")[-1]["message"] == "the scheduler has stopped (signal SIGTERM)"
    health = run(deployment, "health", "scheduler")
    assert (health.returncode, "no scheduler runs here" in health.stderr) == (1, True)


def test_webhook_secret_rotated(tmp_path: Path, migrated_sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with Web(settings_for(migrated_sqlite_url, STRIPE_WEBHOOK_SECRET=OLD)) as web:
        assert deliver(web, EVENT, signed(EVENT, secret=OLD)).status_code == 200
        before = metrics_of(web)
        for _ in range(3):
            assert deliver(web, EVENT, signed(EVENT, secret=NEW)).status_code == 400
        assert "WebhooksRejected" in firing(tmp_path, before, metrics_of(web))
        warned = [record for record in caplog.records if getattr(record, "alarm", "") == Condition.WEBHOOKS_REJECTED]
        assert len(warned) == 1
        assert "signature" in warned[0].getMessage()
        assert vars(warned[0])["processor"] == "stripe"
        # Forged events while good ones arrive are no incident.
        other = json.dumps({"id": "evt_2", "type": "refund.updated"}).encode()
        assert deliver(web, other, signed(other, secret=OLD)).status_code == 200
        assert "WebhooksRejected" not in firing(tmp_path, before, metrics_of(web))
