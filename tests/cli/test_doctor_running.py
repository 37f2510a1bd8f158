"""`refund-worker doctor` about what runs: processes, refused webhooks, processors to which nothing is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event
from tests.cli.conftest import Cli

from refund_worker.cli import doctor_keys
from refund_worker.metrics import SWEEP_SECONDS, WEBHOOKS_REFUSED, WEBHOOKS_STORED, Metric
from refund_worker.processors.base import EventFault
from refund_worker.processors.sandbox import Sandbox
from refund_worker.store import accounts, processes, processors
from refund_worker.store.database import Database, now
from refund_worker.store.reporting import metric_values

HOUR, DAY = 3_600.0, 86_400.0


@pytest.fixture
def database(cli: Cli, migrated_sqlite_url: str) -> Iterator[Database]:
    cli("processors", "status")  # brings the database to the newest schema
    opened = Database(migrated_sqlite_url)
    yield opened
    opened.close()


def store(database: Database, kind: str, age: float, queues: str = "refunds,bulk", process: str = "p") -> None:
    """Store the report of a process, made `age` seconds ago."""
    row = {"process_id": kind + process, "kind": kind, "queues": queues, "host": process}
    row |= {"pid": 1, "version": "1", "broker": None}
    database.run(lambda connection: processes.report(connection, row, now(connection) - age))


def count(database: Database, metric: Metric, *labels: str, times: int = 1, age: float = 0.0) -> None:
    """Store counts of a metric, the last of them `age` seconds ago."""
    slot = (metric.name, labels, "")
    database.run(lambda connection: metric_values.add(connection, {slot: times}))
    with database.write() as connection:
        same = "UPDATE metric_values SET changed_at = changed_at - ? WHERE labels = ?"
        connection.exec_driver_sql(same, (age, json.dumps(labels)))


def findings(cli: Cli, *checks: str) -> tuple[int, list[tuple[str, str, str]]]:
    """Return the exit code, and (verdict, found, advice) of these checks."""
    ran = cli("doctor", "-o", "json")
    return ran.code, [(f["verdict"], f["found"], f["do"]) for f in ran.json["data"] if f["check"] in checks]


@pytest.mark.parametrize("state", ["no file", "no schema", "migrated"])
def test_fresh_installation_is_told_how_to_start(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    file = tmp_path / "new.db"
    if state != "migrated":
        monkeypatch.setenv("REFUND_WORKER_DATABASE_URL", f"sqlite:///{file}")
    if state == "no schema":
        file.touch()
    code, ((verdict, found, todo),) = findings(cli, "processes", "scheduler", "worker")
    assert (code, verdict, found) == (0, "warn", "no worker or scheduler has run yet")
    assert all(f"refund-worker {name}" in todo for name in ("scheduler", "worker", "web"))
    assert file.exists() == (state == "no schema"), "doctor makes no file"


@pytest.mark.parametrize(
    ("age", "code", "verdict", "found"),
    [
        (3, 0, "ok", "1 running, last report"),
        (100, 0, "warn", "1 running, last report"),
        (400, 1, "fail", "no scheduler runs: the last one reported 4"),
        (None, 1, "fail", "no scheduler runs: none has started, or all were stopped"),
    ],
)
def test_silent_scheduler_is_named(
    cli: Cli, database: Database, age: float | None, code: int, verdict: str, found: str
) -> None:
    if age is None:
        # It was stopped in order, which leaves no report, only what it has counted.
        database.run(lambda connection: metric_values.add(connection, {(SWEEP_SECONDS.name, (), "sum"): 1.0}))
    else:
        store(database, "scheduler", age)
    exit_code, ((seen, text, todo),) = findings(cli, "scheduler", "worker", "processes")
    assert (exit_code, seen, text.startswith(found)) == (code, verdict, True), text
    assert ("refund-worker explain scheduler_down" in todo) == (verdict == "fail")


def test_worker_is_missed_where_processes_share_a_broker(
    cli: Cli, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(database, "scheduler", 1)
    assert findings(cli, "worker") == (0, [])
    monkeypatch.setenv("REFUND_WORKER_BROKER_URL", "embedded")
    code, ((verdict, found, todo),) = findings(cli, "worker")
    assert (code, verdict) == (1, "fail")
    assert found.startswith("no worker runs")
    assert "refund-worker worker; refund-worker explain worker_down" in todo
    store(database, "worker", 1, queues="refunds")
    code, (missing, running) = findings(cli, "worker")
    assert (code, missing[:2], running[0]) == (1, ("fail", "no running worker serves the queue bulk"), "ok")
    store(database, "worker", 100)
    store(database, "worker", 200, process="older")
    assert findings(cli, "worker")[1][0][1].startswith("no worker runs: the last one reported 10")


@pytest.mark.parametrize("code", ["http_401", "restored_backup", "paused_by_hand"])
def test_pause_shows_reason_and_entry(cli: Cli, database: Database, code: str) -> None:
    until = {"http_401": 300.0}.get(code)
    by = {"by": "refund-worker", "code": code, "reason": "the very reason"}

    def pause(connection: Connection) -> None:
        at = now(connection)
        processors.pause(connection, "stripe", at, until=until and at + until, **by)

    database.run(pause)
    exit_code, ((verdict, found, todo),) = findings(cli, "sending")
    assert (exit_code, verdict) == ((0, "warn") if code == "paused_by_hand" else (1, "fail"))
    assert f"({code}): the very reason" in found
    assert ("tried again at 20" in found) == (code == "http_401")
    assert todo == f"refund-worker explain {code}"


def test_old_list_is_named(cli: Cli, database: Database) -> None:
    database.run(lambda connection: processors.record_listing(connection, "stripe", now(connection) - HOUR, None))
    code, ((verdict, found, todo),) = findings(cli, "sending")
    assert (code, verdict, todo) == (0, "warn", "refund-worker explain listing_stale")
    assert found.startswith("nothing is sent to stripe: its refunds were last listed at 20")


def test_refused_webhooks_are_counted_with_reason_and_time(cli: Cli, database: Database) -> None:
    assert findings(cli, "webhook events") == (0, [])
    count(database, WEBHOOKS_REFUSED, "stripe", EventFault.BAD_SIGNATURE, times=2, age=2 * DAY)
    assert findings(cli, "webhook events") == (0, [])
    count(database, WEBHOOKS_REFUSED, "stripe", EventFault.BAD_SIGNATURE, times=3, age=HOUR)
    code, ((verdict, found, todo),) = findings(cli, "webhook events")
    assert (code, verdict, todo) == (0, "warn", "refund-worker explain webhooks_rejected")
    assert found.startswith("5 refused from stripe so far, the last one at 20")
    assert found.endswith("(bad_signature)")
    count(database, WEBHOOKS_STORED, "stripe")
    _, ((verdict, found, _),) = findings(cli, "webhook events")
    assert (verdict, "; the last new one was accepted at 20" in found) == ("ok", True)


def test_sqlite_file_that_accepts_no_writes_fails(cli: Cli, database: Database) -> None:
    assert findings(cli, "database")[1][0][0] == "ok"

    def only_read(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only = ON")

    event.listen(Engine, "begin", only_read)
    try:
        code, ((verdict, found, todo),) = findings(cli, "database")
    finally:
        event.remove(Engine, "begin", only_read)
    assert (code, verdict, "read-only" in found) == (1, "fail", True)
    assert "refund-worker explain database_read_only" in todo


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


KEY = "sk_test_mustNeverBeSeenAnywhere"


def test_key_is_tried_with_a_call_that_only_reads(cli: Cli, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUND_WORKER_STRIPE_API_KEY", KEY)
    monkeypatch.setenv("REFUND_WORKER_STRIPE_API_BASE", sandbox.url)
    code, ((verdict, found, _),) = findings(cli, "stripe key")
    assert (code, verdict, found.endswith("; stripe accepts it")) == (0, "ok", True)
    for fault, name in (("unauthorized", "http_401"), ("forbidden", "http_403")):
        sandbox.add_fault({fault: True}, times=None)
        code, ((verdict, found, todo),) = findings(cli, "stripe key")
        sandbox.clear_faults()
        assert (code, verdict) == (1, "fail")
        assert todo == f"correct REFUND_WORKER_STRIPE_API_KEY; refund-worker explain {name}"
        assert f"stripe refuses it ({name}): " in found
        assert KEY not in found
    assert sandbox.refunds() == []
    monkeypatch.setattr(doctor_keys, "ASK_SECONDS", 0.3)
    sandbox.add_fault({"server_error": {}}, times=None)
    code, ((verdict, found, _),) = findings(cli, "stripe key")
    sandbox.clear_faults()
    assert (code, verdict, found.endswith("stripe did not answer within 0.3 s")) == (1, "fail", True)


def test_customer_ids_that_are_addresses_are_warned_of(cli: Cli, database: Database) -> None:
    for customer_id, warnings in (("user@7", 0), ("jane@example.com", 1)):
        database.run(lambda c, its=customer_id: accounts.insert_missing_customers(c, [its], 1.0))  # type: ignore[misc]
        assert len(findings(cli, "customer ids")[1]) == warnings
