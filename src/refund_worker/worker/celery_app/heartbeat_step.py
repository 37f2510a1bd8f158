"""The step that adds the heartbeat to Celery's worker."""

from __future__ import annotations

from typing import Any

from celery import Celery, bootsteps, signals

from refund_worker.worker.heartbeat import BEAT_SECONDS, Heartbeat


def add_heartbeat(app: Celery, heartbeat: Heartbeat) -> None:
    """Let the worker's main process write the heartbeat from its event loop.

    The event loop stops while the broker is down, and the heartbeat with it.
    """

    class Beat(bootsteps.StartStopStep):
        requires = {"celery.worker.components:Timer"}  # noqa: RUF012  (Celery reads it as a set of the class)

        def __init__(self, _worker: Any, **_options: Any) -> None:
            self._entry: Any = None

        def start(self, worker: Any) -> None:
            self._entry = worker.timer.call_repeatedly(BEAT_SECONDS, heartbeat.beat, priority=10)

        def stop(self, _worker: Any) -> None:
            if self._entry is not None:
                self._entry.cancel()
                self._entry = None

    def beat_when_ready(**_named: Any) -> None:
        heartbeat.beat()

    # Not before: a worker that its broker refuses never gets ready, and must not look alive between its restarts.
    signals.worker_ready.connect(beat_when_ready, weak=False)
    app.steps["worker"].add(Beat)
