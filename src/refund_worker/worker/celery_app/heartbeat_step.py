"""The worker's heartbeat, in Celery's terms."""

from __future__ import annotations

from typing import Any

from celery import Celery, bootsteps

from refund_worker.worker.heartbeat import BEAT_SECONDS, Heartbeat


def add_heartbeat(app: Celery, heartbeat: Heartbeat) -> None:
    """Let the worker's parent beat from its event loop, which stands still while the broker is away."""

    class Beat(bootsteps.StartStopStep):
        requires = {"celery.worker.components:Timer"}  # noqa: RUF012  (Celery reads it as a set of the class)

        def __init__(self, _worker: Any, **_options: Any) -> None:
            self._entry: Any = None

        def start(self, worker: Any) -> None:
            heartbeat.beat()
            self._entry = worker.timer.call_repeatedly(BEAT_SECONDS, heartbeat.beat, priority=10)

        def stop(self, _worker: Any) -> None:
            if self._entry is not None:
                self._entry.cancel()
                self._entry = None

    app.steps["worker"].add(Beat)
