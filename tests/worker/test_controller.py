"""A task that can't be handed to a process costs nothing: its place in the pool is free again, whatever the reason."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support import unpicklable
from tests.support.unpicklable import PLACES, TASKS_SENT

from refund_worker.worker.celery_app.controller import Worker


def test_what_can_not_be_pickled_is_thrown_away_and_keeps_no_place() -> None:
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


class UntoldRequest:
    """A request whose connection is gone."""

    id = "1"

    def reject(self, **_options: Any) -> None:
        raise ConnectionError


def test_the_place_is_given_back_though_the_broker_can_not_be_told() -> None:
    free: list[str] = []
    worker = Worker.__new__(Worker)  # without an application: what is Celery's own is stood in for
    worker.pool = SimpleNamespace(_pool=None)
    worker._quick_release = lambda: free.append("a place")
    with pytest.raises(ConnectionError):
        worker._drop(UntoldRequest())
    assert free == ["a place"]
