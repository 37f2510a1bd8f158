"""A real scheduler process delivers notifications and seals the rows; a hanging receiver delays nothing."""

from __future__ import annotations

import base64
import time
from pathlib import Path

from sqlalchemy import text
from standardwebhooks import Webhook
from tests.support.deployment import Deployment, wait_until
from tests.support.migrated import migrate
from tests.support.receiver import Deaf, Receiver
from tests.support.servers import PostgresDatabases

from refund_worker.engine.audit.hash_chain import verify
from refund_worker.settings import PREFIX
from refund_worker.store.database import Database

SECRET = base64.b64encode(b"s" * 32).decode()


def test_refund_is_notified_signed_and_sealed(tmp_path: Path) -> None:
    with Receiver() as receiver:
        deployment = Deployment(tmp_path, {"NOTIFY_URL": receiver.url, "NOTIFY_SECRET": SECRET})
        with deployment as running:
            running.start("scheduler", "worker")
            running.settle(running.ask())
            wait_until(lambda: len(receiver.received) == 2)
            types = {Webhook(SECRET).verify(each.body, each.headers)["type"] for each in receiver.received}
            assert types == {"refund.queued", "refund.succeeded"}
            assert "the scheduler is ready: it sweeps every" in running.log("scheduler")
            assert "the worker is ready: " in running.log("worker")
            wait_until(lambda: verify(running.runtime.context).rows > 5)
            report = verify(running.runtime.context)
            assert (report.whole, report.findings) == (True, ())
            assert SECRET not in running.log("scheduler") + running.log("worker")
            assert PREFIX + "NOTIFY_SECRET" not in running.log("scheduler")


def connections(database: Database) -> int:
    """Return how many connections others have to this Postgres database."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with database.read() as connection:
        return int(connection.execute(text(query)).scalar_one())


def test_idle_scheduler_holds_few_connections(
    postgres_server: PostgresDatabases, redis_url: str, tmp_path: Path
) -> None:
    url = postgres_server.create(migrate)
    clocks = {"NOTIFY_URL": "http://127.0.0.1:9", "NOTIFY_SECRET": SECRET, "SWEEP_SECONDS": "0.2"}
    with Deployment(tmp_path, clocks, database_url=url, broker_url=redis_url) as running:
        database = running.runtime.database
        running.start("scheduler")
        wait_until(lambda: connections(database) > 0)
        time.sleep(3)  # every job has run by then
        # A connection that each look finds is held; others come and go.
        found = []
        for _ in range(20):
            found.append(connections(database))
            time.sleep(0.05)
        assert min(found) <= 4, found
        assert "alarm" not in running.log("scheduler")
    postgres_server.drop(url)


def test_hanging_receiver_delays_no_refund(tmp_path: Path) -> None:
    with Deaf() as deaf:
        deployment = Deployment(tmp_path, {"NOTIFY_URL": deaf.url, "NOTIFY_SECRET": SECRET})
        with deployment as running:
            running.start("scheduler", "worker")
            for _ in range(3):
                assert running.settle(running.ask()) < 20
            assert running.paid_minor() == 1_500
