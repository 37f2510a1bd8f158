"""Celery's worker, which gets its place back from a task that could not be handed to a process.

Celery takes a place in the pool first and then hands over. What raises there, such as arguments that can't be pickled,
keeps its place for ever, a place or two are all that a worker has, and its heart goes on beating. Where the task had to
wait for its place, the same error ends the whole worker.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery
from celery.apps import worker
from celery.worker import state

log = logging.getLogger("refund_worker.worker")


class Worker(worker.Worker):
    """A task that can't be handed over is thrown away with an alarm; whatever the reason, its place is free again."""

    def _process_task(self, request: Any) -> None:
        try:
            super()._process_task(request)
        except Exception as error:  # noqa: BLE001 - whatever somebody's arguments can bring about
            log.error("alarm: a task can't be handed to a process and is thrown away (%s)", type(error).__name__)
            self._give_up(request)

    def _give_up(self, request: Any) -> None:
        try:
            self._forget(request)
            state.task_ready(request)
            request.reject(requeue=False)
        finally:
            self._quick_release()  # last: the next one that waits is handed over in it

    def _forget(self, request: Any) -> None:
        """Take it out of what the pool waits for when it stops: a job that was never packed."""
        jobs = getattr(self.pool._pool, "_cache", {})
        for job in list(jobs.values()):
            if job.correlation_id == request.id and not hasattr(job, "_payload"):
                job.discard()


def make_worker(app: Celery, **options: Any) -> Worker:
    """The application's worker, of our class."""
    made: Worker = app.subclass_with_self(Worker)(**options)
    return made
