"""How processes end: in order, by force, with the broker; no process is left behind."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest
from tests.support.deployment import Deployment, wait_until
from tests.support.deployment_processes import STOP_SECONDS_MAX

from refund_worker.processors.sandbox import Sandbox
from refund_worker.settings import PREFIX
from refund_worker.store import processes
from refund_worker.worker.embedded_broker.broker import EmbeddedBroker, running_url
from refund_worker.worker.runtime_dir import runtime_folder
from refund_worker.worker.tasks import NO_ROUND_AFTER_SECONDS

pytestmark = pytest.mark.slow

# In this time a worker passes on a task that its broker handed out, and begins to stop after a signal.
TAKEN_IN_SECONDS = 1.5


def _delay_creates(sandbox: Sandbox, seconds: float) -> None:
    sandbox.add_fault({"delay_seconds": seconds}, match={"path_kind": "create"}, times=1)


def test_stopped_worker_finishes_its_call_and_leaves_no_process(tmp_path: Path) -> None:
    with Deployment(tmp_path, {"LEASE_SECONDS": "60"}) as deployment:
        deployment.start("worker", "scheduler")
        family = [deployment.celery(), *deployment.celery().children()]
        _delay_creates(deployment.sandbox, 1.0)
        ids = deployment.ask(publish=True)
        wait_until(lambda: deployment.statuses(ids) == ["sending"])
        assert deployment.stop("worker") == 0
        # The stopped worker finished it: otherwise its lease would have blocked the refund for a minute.
        assert deployment.statuses(ids) == ["succeeded"]
        assert deployment.stop("scheduler") == 0
        assert not [process for process in family if process.is_running()]
        assert not deployment.is_alive("worker")
        assert not deployment.is_alive("scheduler")
        with deployment.runtime.database.read() as connection:
            assert processes.reports(connection) == []


def test_stopped_worker_soon_begins_no_further_round(tmp_path: Path) -> None:
    """Refunds are always due here, so a task without the defence continues for 20 seconds."""
    clocks = {"RETRY_BASE_SECONDS": "0.001", "RETRY_MAX_SECONDS": "0.001", "SWEEP_SECONDS": "0.1"}
    with Deployment(tmp_path, clocks) as deployment:
        deployment.sandbox.add_fault({"rate_limit": {}}, match={"path_kind": "create"}, times=None)
        ids = deployment.ask(count=20)
        deployment.start("worker", "scheduler")
        wait_until(lambda: tries(deployment) > 5 * len(ids))
        began = time.monotonic()
        assert deployment.stop("worker") == 0
        assert time.monotonic() - began < NO_ROUND_AFTER_SECONDS / 2


def test_worker_stops_quickly_while_a_process_begins_a_task(tmp_path: Path) -> None:
    """Celery forgets a task that no process has accepted yet, and its process waits until its result has been read."""
    with Deployment(tmp_path) as deployment:
        deployment.start("worker")
        family = deployment.celery().children()
        for process in family:
            process.suspend()
        with deployment.broker() as broker:
            ids = deployment.ask(publish=True)
            wait_until(lambda: broker.hlen("unacked") == 1)
        time.sleep(TAKEN_IN_SECONDS)
        supervisor = deployment.process("worker")
        supervisor.send_signal(signal.SIGTERM)
        time.sleep(TAKEN_IN_SECONDS)
        for process in family:
            process.resume()
        assert supervisor.wait(STOP_SECONDS_MAX) == 0  # billiard's own limit is 30 s
        # A busy machine may not have begun it before the stop. It is not lost then either.
        deployment.start("worker-2", "scheduler")
        wait_until(lambda: deployment.statuses(ids) == ["succeeded"])


def tries(deployment: Deployment) -> int:
    """Return how often a worker has sent a refund."""
    return deployment.log("worker").count('"call sent"')


def test_workers_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    with Deployment(tmp_path) as deployment:
        deployment.start("worker")
        family = [deployment.celery(), *deployment.celery().children()]
        deployment.stop("worker", signal.SIGKILL)
        gone, alive = psutil.wait_procs(family, timeout=15)
        assert not alive
        assert len(gone) == 3


def test_scheduler_works_itself_without_a_broker_and_logs_it(tmp_path: Path) -> None:
    with Deployment(tmp_path) as deployment:
        deployment.environment[PREFIX + "BROKER_URL"] = "redis://:hidden-password@127.0.0.1:1/0"
        deployment.start("scheduler")
        deployment.settle(deployment.ask(count=3))
        assert "the scheduler does the work itself" in deployment.log("scheduler")
        assert "hidden-password" not in deployment.log("scheduler")


def test_killed_broker_restarts_on_its_port_and_work_continues(tmp_path: Path) -> None:
    with Deployment(tmp_path) as deployment:
        deployment.start("worker", "scheduler")
        deployment.settle(deployment.ask())
        folder = runtime_folder(deployment.settings)
        before = running_url(folder)
        server = next(each for each in deployment.processes() if each.name() == "valkey-server")
        keeper = server.parent()
        server.kill()
        deployment.settle(deployment.ask(count=3))
        assert keeper is not None
        keeper.kill()
        deployment.settle(deployment.ask(count=3))
        wait_until(lambda: running_url(folder) == before)
        assert (folder / "broker.json").stat().st_mode & 0o077 == 0
        assert folder.stat().st_mode & 0o077 == 0


def test_embedded_broker_runs_from_its_first_user_to_its_last(tmp_path: Path) -> None:
    with Deployment(tmp_path) as deployment:
        folder = runtime_folder(deployment.settings)
        assert running_url(folder) is None
        with EmbeddedBroker(deployment.settings, grace_seconds=1) as first:
            url = first.url
            with EmbeddedBroker(deployment.settings, grace_seconds=1) as second:
                assert second.url == url
            with deployment.broker() as broker:
                broker.set("kept", "yes")
        wait_until(lambda: running_url(folder) is None)
        assert not (folder / "broker.json").exists()


def test_details_of_a_dead_broker_are_ignored(tmp_path: Path) -> None:
    with Deployment(tmp_path) as deployment:
        folder = runtime_folder(deployment.settings)
        folder.mkdir(parents=True)
        (folder / "broker.json").write_text('{"port": 1, "password": "old", "pid": 1}')
        assert running_url(folder) is None
        with EmbeddedBroker(deployment.settings, grace_seconds=1), deployment.broker() as broker:
            assert broker.ping()
