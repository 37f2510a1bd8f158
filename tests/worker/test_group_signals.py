"""A stop that reaches every process of a service: its process group, or each process, as service managers do it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.support.deployment import Deployment, wait_until
from tests.support.processes import hang_ups_ignored

from refund_worker.settings import load_settings
from refund_worker.worker import supervisor

pytestmark = pytest.mark.slow

CALL_SECONDS = 1.5
# Longer than an interrupted worker takes to end.
INTERRUPTED_SECONDS = 6


def to_the_group(leader: psutil.Process, number: signal.Signals) -> None:
    """As a terminal, Heroku and honcho do."""
    os.killpg(os.getpgid(leader.pid), number)


def to_each(leader: psutil.Process, number: signal.Signals) -> None:
    """As systemd does by default, and twice, since the supervisor passes it on as well."""
    for process in (*leader.children(recursive=True), leader):
        process.send_signal(number)


def with_others(leader: psutil.Process, number: signal.Signals) -> None:
    """As Ctrl-C under a Procfile's runner, and the end of its terminal: no second stop, which interrupts the call."""
    for each in (signal.SIGINT, number, signal.SIGHUP):
        leader.send_signal(each)


@pytest.mark.parametrize(
    ("send", "number", "seconds"),
    [
        (to_the_group, signal.SIGHUP, CALL_SECONDS),
        (to_each, signal.SIGTERM, CALL_SECONDS),
        (with_others, signal.SIGTERM, INTERRUPTED_SECONDS),
    ],
    ids=["a hang-up of the group", "TERM to each process", "INT, TERM and a hang-up"],
)
def test_worker_finishes_its_call(
    tmp_path: Path, send: Callable[[psutil.Process, signal.Signals], None], number: signal.Signals, seconds: float
) -> None:
    with Deployment(tmp_path, {"LEASE_SECONDS": "60"}) as deployment:
        deployment.start("worker", "scheduler")
        family = [deployment.celery(), *deployment.celery().children()]
        deployment.sandbox.add_fault({"delay_seconds": seconds}, match={"path_kind": "create"}, times=1)
        ids = deployment.ask(publish=True)
        wait_until(lambda: deployment.statuses(ids) == ["sending"])
        for name in ("worker", "scheduler"):
            send(deployment.process(name), number)
        assert [deployment.process(name).wait(20) for name in ("worker", "scheduler")] == [0, 0]
        # Otherwise its lease would have blocked the refund for a minute.
        assert deployment.statuses(ids) == ["succeeded"]
        assert not [process for process in family if process.is_running()]
        log = deployment.log("worker") + deployment.log("scheduler")
        assert "Traceback" not in log
        assert "alarm" not in log


def test_worker_and_scheduler_started_by_nohup_survive_a_hang_up(tmp_path: Path) -> None:
    with Deployment(tmp_path, {}) as deployment:
        with hang_ups_ignored():
            deployment.start("worker", "scheduler")
        family = [deployment.celery(), *deployment.celery().children()]
        for name in ("worker", "scheduler"):
            to_each(deployment.process(name), signal.SIGHUP)
        ids = deployment.ask(publish=True)
        wait_until(lambda: deployment.statuses(ids) == ["succeeded"])
        assert [deployment.celery(), *deployment.celery().children()] == family
        assert deployment.process("scheduler").is_running()
        assert "alarm" not in deployment.log("worker") + deployment.log("scheduler")


def test_process_of_the_pool_that_is_just_starting_survives_a_hang_up(tmp_path: Path) -> None:
    with Deployment(tmp_path, {}) as deployment:
        deployment.start("worker", "scheduler")
        ids = deployment.ask(publish=True)
        wait_until(lambda: deployment.statuses(ids) == ["succeeded"])  # the pool works
        earlier = set(deployment.celery().children())
        min(earlier, key=lambda process: process.pid).kill()
        (started,) = wait_until(lambda: set(deployment.celery().children()) - earlier, pause=0.001)
        for _ in range(1_000):
            started.send_signal(signal.SIGHUP)
            time.sleep(0.001)
        assert started.status() != psutil.STATUS_ZOMBIE


TERM, INT, HUP, QUIT = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT


@pytest.mark.parametrize(
    ("numbers", "at_once", "later"),
    [
        ((TERM, TERM), 2, 2),
        ((INT, INT), 2, 2),
        ((INT, TERM), 1, 2),
        ((TERM, HUP), 1, 1),
        ((HUP, HUP), 1, 1),
        ((HUP, TERM), 1, 1),
        ((HUP, INT, TERM), 1, 3),
        ((QUIT,), 2, 2),
    ],
    ids=lambda value: "-".join(each.name for each in value) if isinstance(value, tuple) else "",
)
def test_signals_of_one_moment_are_one_stop(
    numbers: tuple[signal.Signals, ...], at_once: int, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seconds, stops in ((supervisor.ECHO_SECONDS, at_once), (0.0, later)):
        monkeypatch.setattr(supervisor, "ECHO_SECONDS", seconds)
        watched = supervisor._Supervisor(load_settings({}), None, [], 1)
        for number in numbers:
            watched._on_signal(number, None)
        watched._pipe.close()
        assert watched._stops == stops


@pytest.mark.parametrize("process", ["scheduler", "worker"])
def test_signal_behind_the_orderly_stop_does_not_kill(tmp_path: Path, process: str) -> None:
    code = """if True:
        import signal, sys
        from refund_worker.settings import load_settings
        from refund_worker.worker import scheduler, supervisor

        def stop(self):
            signal.raise_signal(signal.SIGINT)
            return 0

        scheduler.Scheduler.run = stop
        supervisor._Supervisor._run_child = stop
        settings = load_settings({"REFUND_WORKER_DATABASE_URL": "sqlite:///refunds.db"})
        watched = supervisor._Supervisor(settings, None, [], 1)
        code = watched.run() if sys.argv[1] == "worker" else supervisor.run_scheduler(settings)
        for number in (*supervisor.STOPS, signal.SIGHUP):
            signal.raise_signal(number)
        sys.exit(code)
    """
    command = [sys.executable, "-c", code, process]
    assert subprocess.run(command, cwd=tmp_path, timeout=30, check=False).returncode == 0


def test_signal_while_an_earlier_one_is_handled_stops_the_scheduler(tmp_path: Path) -> None:
    # The interrupted thread holds the event's lock, as it does in the handler of the signal before.
    code = """if True:
        import signal, sys
        from refund_worker.settings import load_settings
        from refund_worker.worker import scheduler, supervisor

        class Interrupted(scheduler.Scheduler):
            def run(self):
                with self.stop._cond:
                    signal.raise_signal(signal.SIGTERM)
                assert self.stop.wait(10)

        scheduler.Scheduler = Interrupted
        settings = load_settings({"REFUND_WORKER_DATABASE_URL": "sqlite:///refunds.db"})
        sys.exit(supervisor.run_scheduler(settings))
    """
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=30, check=False).returncode == 0


def test_second_signal_interrupts_a_call_that_does_not_end(tmp_path: Path) -> None:
    with Deployment(tmp_path, {"LEASE_SECONDS": "60"}) as deployment:
        deployment.start("worker")
        family = [deployment.celery(), *deployment.celery().children()]
        deployment.sandbox.add_fault({"delay_seconds": 20}, match={"path_kind": "create"}, times=1)
        ids = deployment.ask(publish=True)
        wait_until(lambda: deployment.statuses(ids) == ["sending"])
        leader = deployment.process("worker")
        to_each(leader, signal.SIGTERM)
        with pytest.raises(psutil.TimeoutExpired):
            leader.wait(1)
        leader.send_signal(signal.SIGTERM)
        leader.wait(10)
        assert deployment.statuses(ids) == ["sending"]
        assert psutil.wait_procs(family, 5)[1] == []
