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
# Longer than an interrupted worker takes to end.
INTERRUPTED_SECONDS = 6


def to_the_group(leader: psutil.Process, number: signal.Signals) -> None:
    """As a terminal, Heroku and honcho do."""
    os.killpg(os.getpgid(leader.pid), number)


def to_each(leader: psutil.Process, number: signal.Signals) -> None:
    """As systemd does by default, and twice, since the supervisor passes it on as well."""
    for process in (*leader.children(recursive=True), leader):
        process.send_signal(number)


def and_a_hang_up(leader: psutil.Process, number: signal.Signals) -> None:
    """As the end of a terminal, or systemd with SendSIGHUP: no second stop, which would interrupt the call."""
    leader.send_signal(number)
    leader.send_signal(signal.SIGHUP)


@pytest.mark.parametrize(
    ("send", "number", "seconds"),
    [
        (to_the_group, signal.SIGHUP, CALL_SECONDS),
        (to_each, signal.SIGTERM, CALL_SECONDS),
        (and_a_hang_up, signal.SIGTERM, INTERRUPTED_SECONDS),
    ],
    ids=["a hang-up of the group", "TERM to each process", "a hang-up behind TERM"],
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
