"""A stop that reaches every process of a service: its process group, or each process, as service managers do it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.support.deployment import Deployment, wait_until

pytestmark = pytest.mark.slow

CALL_SECONDS = 1.5


def to_the_group(leader: psutil.Process, number: signal.Signals) -> None:
    """As a terminal, Heroku and honcho do."""
    os.killpg(os.getpgid(leader.pid), number)


def to_each(leader: psutil.Process, number: signal.Signals) -> None:
    """As systemd does by default, and twice, since the supervisor passes it on as well."""
    for process in (*leader.children(recursive=True), leader):
        process.send_signal(number)


@pytest.mark.parametrize(
    ("send", "number"),
    [(to_the_group, signal.SIGHUP), (to_each, signal.SIGTERM)],
    ids=["a hang-up of the group", "TERM to each process"],
)
def test_worker_finishes_its_call(
    tmp_path: Path, send: Callable[[psutil.Process, signal.Signals], None], number: signal.Signals
) -> None:
    with Deployment(tmp_path, {"LEASE_SECONDS": "60"}) as deployment:
        deployment.start("worker", "scheduler")
        family = [deployment.celery(), *deployment.celery().children()]
        deployment.sandbox.add_fault({"delay_seconds": CALL_SECONDS}, match={"path_kind": "create"}, times=1)
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


def test_second_signal_interrupts_a_call_that_does_not_end(tmp_path: Path) -> None:
    with Deployment(tmp_path, {"LEASE_SECONDS": "60"}) as deployment:
        deployment.start("worker")
        family = [deployment.celery(), *deployment.celery().children()]
        deployment.sandbox.add_fault({"delay_seconds": 20}, match={"path_kind": "create"}, times=1)
        ids = deployment.ask(publish=True)
        wait_until(lambda: deployment.statuses(ids) == ["sending"])
        leader = deployment.process("worker")
        to_each(leader, signal.SIGTERM)
        to_the_group(leader, signal.SIGHUP)  # the end of a terminal right behind is no second stop
        with pytest.raises(psutil.TimeoutExpired):
            leader.wait(1)
        assert "Ctrl+C" not in deployment.log("worker"), "Celery says it when it interrupts"
        leader.send_signal(signal.SIGTERM)
        leader.wait(10)
        assert deployment.statuses(ids) == ["sending"]
        assert psutil.wait_procs(family, 5)[1] == []
