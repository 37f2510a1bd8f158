"""A task that cannot be passed to a process does no harm: its slot in the pool is free again, whatever the reason."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from tests.worker import unpicklable
from tests.worker.unpicklable import PLACES, TASKS_SENT

from refund_worker.worker.celery_app.controller import Worker


def test_unpicklable_task_is_dropped_and_keeps_no_slot() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", unpicklable.__name__], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "places free": PLACES,
        "put back": 0,
        "thrown away": TASKS_SENT,
        "still reserved": 0,
        "waited for by the pool": 0,
    }
    assert ran.stderr.count("alarm: ") == TASKS_SENT


class UnreachableRequest:
    """A request whose connection to the broker is lost."""

    id = "1"

    def reject(self, **_options: Any) -> None:
        raise ConnectionError


def test_slot_is_freed_although_the_broker_is_unreachable() -> None:
    free: list[str] = []
    worker = Worker.__new__(Worker)  # without an application: Celery's own parts are replaced
    worker.pool = SimpleNamespace(_pool=None)
    worker._quick_release = lambda: free.append("a slot")
    with pytest.raises(ConnectionError):
        worker._drop(UnreachableRequest())
    assert free == ["a slot"]
