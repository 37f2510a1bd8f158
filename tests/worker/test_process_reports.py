"""Workers and schedulers report in the database that they are alive, so that other machines can see it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.support.deployment import Deployment, wait_until
from tests.web.client import settings_for

from refund_worker.engine.jobs import prune as job
from refund_worker.engine.jobs.prune import prune
from refund_worker.metrics import ALARMS, COUNTS, count
from refund_worker.runtime import build_runtime, open_database
from refund_worker.settings import Settings
from refund_worker.store import processes
from refund_worker.store.database import Database, now
from refund_worker.store.reporting import metric_values
from refund_worker.worker.heartbeat import Heartbeat
from refund_worker.worker.process_reports import BeatPipe, ProcessReports

OFTEN = 0.1
HOUR = 3600.0


@pytest.fixture
def settings(migrated_url: str) -> Settings:
    """The settings of a new database, of both kinds."""
    return settings_for(migrated_url)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """The database of the settings."""
    opened = open_database(settings)
    yield opened
    opened.close()


def rows(database: Database) -> list[dict[str, Any]]:
    """Return all reports."""
    with database.read() as connection:
        return [dict(row) for row in processes.reports(connection)]


def store(database: Database, process_id: str, kind: str = "worker", *, age: float = 0, **other: Any) -> None:
    """Store a report that was made `age` seconds ago."""
    row = {"process_id": process_id, "kind": kind, "queues": "", "host": "h", "pid": 1, "version": "1", "broker": None}
    at = other.pop("at", None)
    with database.write() as connection:
        processes.report(connection, row | other, (at or now(connection)) - age)


def reporting(settings: Settings, is_alive: Callable[[], bool], **other: Any) -> ProcessReports:
    return ProcessReports(settings, "worker", ["refunds"], is_alive=is_alive, report_seconds=OFTEN, **other)


def test_process_is_reported_while_it_runs_and_not_after(settings: Settings, database: Database) -> None:
    with reporting(settings, lambda: True, broker=lambda: "reachable"):
        (first,) = wait_until(lambda: rows(database))
        wait_until(lambda: rows(database)[0]["seen_at"] > first["seen_at"])
        (row,) = rows(database)
    assert (row["kind"], row["queues"], row["broker"]) == ("worker", "refunds", "reachable")
    assert (row["host"], row["pid"], row["started_at"]) == (os.uname().nodename, os.getpid(), first["started_at"])
    assert rows(database) == []


def test_silent_event_loop_makes_the_report_old(settings: Settings, database: Database) -> None:
    pipe = BeatPipe()
    heartbeat = Heartbeat("worker", settings, pipe=pipe.write_end)
    with reporting(settings, pipe.beaten):
        heartbeat.beat()
        (first,) = wait_until(lambda: rows(database))
        time.sleep(5 * OFTEN)
        assert rows(database) == [first]
        heartbeat.beat()
        wait_until(lambda: rows(database) != [first])
    pipe.close()
    heartbeat.beat()  # its reader is gone
    heartbeat.end()


def test_unread_pipe_does_not_stop_the_worker(settings: Settings) -> None:
    pipe = BeatPipe()
    heartbeat = Heartbeat("worker", settings, pipe=pipe.write_end)
    for _ in range(70_000):  # more than a pipe holds
        heartbeat.beat()
    assert pipe.beaten()
    assert not pipe.beaten()
    pipe.close()


def stored_alarms(database: Database) -> dict[str, float]:
    """Return the stored numbers of alarms, by name."""
    with database.read() as connection:
        stored = metric_values.stored(connection)
    return {labels[0]: value for (name, labels, _), value in stored.items() if name == ALARMS.name}


def test_counts_of_the_worker_are_stored_by_its_supervisor(settings: Settings, database: Database) -> None:
    COUNTS.take()
    pipe = BeatPipe()
    heartbeat = Heartbeat("worker", settings, pipe=pipe.write_end)
    count(ALARMS, "message_dropped", by=2)
    heartbeat.beat()
    assert COUNTS.take() == {}
    with reporting(settings, pipe.beaten):
        count(ALARMS, "broker_refuses")
        heartbeat.end()  # a worker that ends before its first beat
    assert stored_alarms(database) == {"message_dropped": 2, "broker_refuses": 1}
    count(ALARMS, "broker_refuses")
    heartbeat.end()
    assert not pipe.beaten(), "a count is no sign of life"
    assert list(COUNTS.take().values()) == [1]
    pipe.close()


def test_counts_that_the_pipe_does_not_take_stay(settings: Settings) -> None:
    COUNTS.take()
    pipe = BeatPipe()
    heartbeat = Heartbeat("worker", settings, pipe=pipe.write_end)
    for _ in range(70_000):
        heartbeat.beat()
    count(ALARMS, "message_dropped")
    heartbeat.beat()
    assert list(COUNTS.take().values()) == [1]
    pipe.close()


@pytest.mark.timeout(120)
def test_process_that_forks_uses_no_database_and_its_alarms_count(tmp_path: Path) -> None:
    with Deployment(tmp_path) as deployment:
        deployment.start("worker")
        main = deployment.celery()
        wait_until(lambda: deployment.is_alive("worker"))
        deployment.broker().lpush("refunds", "not JSON {")
        wait_until(lambda: stored_alarms(deployment.runtime.database).get("message_dropped") == 1, pause=0.2)
        # No other thread, which might hold a lock of the database at the moment of a fork.
        assert main.num_threads() == 1
        assert [each.path for each in main.open_files() if "refunds.db" in each.path] == []
        assert any("refunds.db" in each.path for child in main.children() for each in child.open_files())


def test_restart_under_the_same_number_replaces_the_row(database: Database) -> None:
    ended = processes.SILENT_SECONDS["worker"] - processes.REPLACED_EARLIER_SECONDS + 1
    store(database, "first", age=ended)
    store(database, "scheduler", "scheduler", age=ended)
    store(database, "other host", host="other", age=ended)
    store(database, "second")
    assert {row["process_id"] for row in rows(database)} == {"scheduler", "other host", "second"}


def test_containers_with_the_same_host_name_keep_their_rows(settings: Settings, database: Database) -> None:
    with reporting(settings, lambda: True), reporting(settings, lambda: True):
        wait_until(lambda: len(rows(database)) == 2)
        seen = {row["process_id"]: row["seen_at"] for row in rows(database)}
        wait_until(lambda: all(row["seen_at"] > seen[row["process_id"]] for row in rows(database)))
        assert {row["process_id"] for row in rows(database)} == set(seen)
        assert {(row["host"], row["pid"]) for row in rows(database)} == {(os.uname().nodename, os.getpid())}


def test_missing_table_or_database_does_not_end_the_process(
    settings: Settings, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with database.write() as connection:
        connection.execute(text("DROP TABLE worker_processes"))
    with reporting(settings, lambda: True):
        wait_until(lambda: "the report of this process is not stored" in caplog.text)
    gone = settings.model_copy(update={"database_url": settings_for("postgresql://127.0.0.1:1/none").database_url})
    with reporting(gone, lambda: True):
        time.sleep(3 * OFTEN)


def test_prune_keeps_the_last_report_of_each_kind(settings: Settings, database: Database) -> None:
    old, at = job.SILENT_PROCESS_SECONDS + HOUR, time.time()
    store(database, "killed", pid=1, age=old + HOUR)
    store(database, "last scheduler", "scheduler", pid=2, age=old, at=at)
    store(database, "worker killed then", pid=3, age=old, at=at)
    store(database, "killed today", pid=4, age=job.SILENT_PROCESS_SECONDS - HOUR)
    runtime = build_runtime(settings, processors=False)
    assert prune(runtime.context) == 2
    runtime.close()
    assert [row["process_id"] for row in rows(database)] == ["last scheduler", "killed today"]
