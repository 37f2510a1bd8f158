"""Worker and scheduler together settle everything, whatever happens to messages and processes."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from celery import Celery
from tests.support.deployment import CONCURRENCY, STRIPE_KEY, Deployment, wait_until
from tests.support.servers import ValkeyServer

from refund_worker.store import processes
from refund_worker.store.refunds import Filters, find_ids
from refund_worker.worker.celery_app.app import make_app
from refund_worker.worker.heartbeat import check_heartbeat
from refund_worker.worker.queues import QUEUES
from refund_worker.worker.runtime_dir import runtime_folder

pytestmark = pytest.mark.slow

# kombu's list of messages that were taken and not yet acknowledged, with the time they were taken.
TAKEN_AT = "unacked_index"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One deployment for this file; every test has its own customers."""
    with Deployment(tmp_path_factory.mktemp("deployment")) as deployment:
        deployment.start("worker", "scheduler")
        deployment.settle(deployment.ask())
        yield deployment


@pytest.fixture
def backend(running: Deployment) -> Iterator[Celery]:
    """A backend that has only the broker."""
    with make_app(running.settings) as app:
        yield app


def test_refunds_without_a_wake_up_message_are_settled(running: Deployment) -> None:
    paid = running.paid_minor()
    running.settle(running.ask(count=3) + running.ask(count=120, bulk=True))
    assert running.paid_minor() - paid == 123 * 500


def test_running_worker_and_scheduler_report_in_the_database(running: Deployment) -> None:
    def reported() -> dict[str, tuple[str, str | None]]:
        with running.runtime.database.read() as connection:
            return {row["kind"]: (row["queues"], row["broker"]) for row in processes.reports(connection)}

    wanted = {"worker": (",".join(QUEUES), None), "scheduler": ("", "reachable")}
    wait_until(lambda: reported() == wanted)


def test_wake_up_message_is_processed_before_the_next_sweep(tmp_path: Path) -> None:
    # The sweep comes once a minute here: only the message can cause it.
    with Deployment(tmp_path, {"SWEEP_SECONDS": "60"}) as deployment:
        deployment.start("worker")
        deployment.celery()
        wait_until(lambda: deployment.is_alive("worker"))
        assert deployment.settle(deployment.ask(publish=True)) < 15


def test_emptied_broker_loses_no_refund_and_pays_none_twice(running: Deployment) -> None:
    paid = running.paid_minor()
    ids = running.ask(count=100, publish=True, bulk=True)
    with running.broker() as broker:
        for _ in range(5):
            broker.flushall()
            ids += running.ask(count=20, publish=True)
    running.settle(ids)
    assert running.paid_minor() - paid == 200 * 500


def test_busy_worker_takes_new_work_after_a_broker_restart(tmp_path: Path) -> None:
    # The sweep comes once a minute here: only the worker itself can recover.
    with ValkeyServer() as valkey, Deployment(tmp_path, {"SWEEP_SECONDS": "60"}, broker_url=valkey.url) as deployment:
        deployment.start("worker")
        deployment.celery()
        deployment.sandbox.add_fault({"delay_seconds": 1.5}, match={"path_kind": "create"}, times=CONCURRENCY)
        ids = [refund_id for _ in range(CONCURRENCY) for refund_id in deployment.ask(publish=True)]
        wait_until(lambda: deployment.statuses(ids) == ["sending"] * CONCURRENCY)
        valkey.crash()
        # Each of them ends its task while the broker is down.
        wait_until(lambda: deployment.statuses(ids) == ["succeeded"] * CONCURRENCY)
        wait_until(lambda: _found_no_broker(deployment.log("worker")))
        valkey.start()
        deployment.settle(deployment.ask(publish=True))
        assert "is started again" not in deployment.log("worker")


def _found_no_broker(log: str) -> bool:
    """Return True if the worker lost the broker, or, if it is deaf, has failed to acknowledge all its messages."""
    return "the broker cannot be reached" in log or log.count("Couldn't ack") == CONCURRENCY


def test_redelivered_message_is_stopped_by_the_lease(tmp_path: Path) -> None:
    clocks = {"SWEEP_SECONDS": "60", "LEASE_SECONDS": "60"}
    with ValkeyServer() as valkey, Deployment(tmp_path, clocks, broker_url=valkey.url) as deployment:
        deployment.start("worker")
        deployment.celery()
        deployment.sandbox.add_fault({"delay_seconds": 20.0}, match={"path_kind": "create"}, times=1)
        ids = deployment.ask(publish=True)
        wait_until(lambda: deployment.statuses(ids) == ["sending"])
        with deployment.broker() as broker:
            [(tag, _)] = broker.zrange(TAKEN_AT, 0, -1, withscores=True)
            broker.zadd(TAKEN_AT, {tag: 1.0})  # taken so long ago that the broker delivers it again
            wait_until(lambda: broker.info("commandstats")["cmdstat_hset"]["calls"] == 2)  # once for each delivery
            wait_until(lambda: not broker.zcard(TAKEN_AT))  # the other process has checked it and is done
        assert deployment.statuses(ids) == ["sending"]
        deployment.settle(ids)
        assert deployment.sandbox.book()["requests"]["POST create"] == {"200": 1}


def test_process_killed_during_a_call_changes_nothing_in_the_end(running: Deployment) -> None:
    paid = running.paid_minor()
    running.sandbox.add_fault({"delay_seconds": 1.5}, match={"path_kind": "create"}, times=1)
    pool = running.celery().children()
    ids = running.ask(publish=True)
    wait_until(lambda: running.statuses(ids) == ["sending"])
    for process in pool:
        process.kill()
    running.settle(ids)
    assert running.paid_minor() - paid == 500
    assert running.celery().children() != pool


def test_soft_time_limit_during_a_call_ends_the_round_only(tmp_path: Path) -> None:
    with Deployment(tmp_path) as deployment:
        deployment.start("worker", "scheduler")
        deployment.sandbox.add_fault({"delay_seconds": 3.0}, match={"path_kind": "create"}, times=1)
        pool = deployment.celery().children()
        ids = deployment.ask(publish=True)

        def in_its_call() -> psutil.Process | None:
            """Return the process that sends: it has logged this and waits for the answer."""
            lines = [json.loads(line) for line in deployment.log("worker").splitlines() if '"call": "send"' in line]
            return next((p for p in pool if lines and p.pid == lines[0]["pid"]), None)

        wait_until(in_its_call).send_signal(signal.SIGUSR1)  # as Celery does at the soft limit
        wait_until(lambda: "a round took too long" in deployment.log("worker"))
        assert deployment.statuses(ids) == ["sending"], "it waits for the end of its lease"
        deployment.settle(ids)
        assert deployment.paid_minor() == 500
        assert "cannot be processed" not in deployment.log("worker") + deployment.log("scheduler")
        assert deployment.celery().children() == pool


def test_forged_wake_ups_do_nothing_and_stop_no_worker(running: Deployment, backend: Celery) -> None:
    pool = running.celery().children()
    for args in ([["x"] * 1_000_000], [[1, None, {"a": 1}, "no such id", "\x00"]], [{"ids": "all"}], [], [1, 2, 3]):
        backend.send_task("refund_worker.advance", args=args, queue="refunds")
    backend.send_task("refund_worker.advance_due", args=["yes"], queue="bulk")
    backend.send_task("no.such.task", queue="bulk")
    running.settle(running.ask(publish=True))
    assert running.celery().children() == pool


def test_celery_request_is_accepted_once_or_logged_as_refused(running: Deployment, backend: Celery) -> None:
    [earlier] = running.ask()
    running.settle([earlier])
    with running.runtime.database.read() as connection:
        query = "SELECT customer_id FROM refunds WHERE refund_id = ?"
        customer = connection.exec_driver_sql(query, (earlier,)).scalar_one()
    fields = {"kind": "withdrawal", "to": "source", "customer_id": customer, "credits": 10, "reason": "asked"}
    for credits in (10, 10, 10_000):
        key = f"celery-{customer}-{credits}"
        kwargs = fields | {"credits": credits, "idempotency_key": key, "client": "shop"}
        backend.send_task("refund_worker.request_refund", queue="refunds", kwargs=kwargs)
    backend.send_task("refund_worker.request_refund", queue="refunds", kwargs=fields | {"status": "succeeded"})

    def stored() -> list[str]:
        with running.runtime.database.read() as connection:
            return find_ids(connection, Filters(client="shop"))

    wait_until(lambda: "exceeds_refundable" in running.log("worker") and "invalid_request" in running.log("worker"))
    wait_until(stored)
    assert len(stored()) == 1
    running.settle(stored())


def test_no_secret_is_in_the_process_list_or_in_a_log(running: Deployment) -> None:
    running.settle(running.ask())
    processes = running.processes()
    assert len(processes) >= 7
    with running.broker() as broker:
        password = broker.get_connection_kwargs()["password"]
    seen = "\n".join(" ".join(each.cmdline()) for each in processes) + running.log("worker") + running.log("scheduler")
    assert "valkey" in seen
    assert STRIPE_KEY not in seen
    assert password not in seen
    # The child's environment holds none of our settings; the other processes have the ones they were given.
    assert not [name for name in running.celery().environ() if name.startswith("REFUND_WORKER_")]


def test_worker_and_scheduler_are_healthy_while_they_run(running: Deployment) -> None:
    running.celery()
    assert running.is_alive("worker")
    assert all(check_heartbeat("worker", runtime_folder(running.settings), queue)[0] for queue in QUEUES)
    assert running.is_alive("scheduler")
