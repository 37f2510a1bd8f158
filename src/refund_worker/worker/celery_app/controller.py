"""Celery's worker, which stops in order and frees the pool slot of a task that could not be passed to a process.

The supervisor may share its process group, so a signal can come twice: to the group, and passed on by the supervisor.

Celery reserves a slot in the pool first and then passes the task on. If that raises, for example because arguments
cannot be pickled, Celery keeps the slot reserved for ever. A worker has only one or two slots, and its heartbeat
continues. If the task had to wait for a slot, the same error stops the whole worker.
"""

from __future__ import annotations

import logging
import signal
from typing import Any

from billiard import pool
from celery import Celery
from celery.apps import worker
from celery.concurrency import prefork
from celery.worker import state

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.stop_signals import SharedFlag

log = logging.getLogger(__name__)

# A tenth of a second each.
LAST_RESULT_TRIES = 10


class Worker(worker.Worker):
    """Celery's worker; a task that cannot be passed on is dropped with an alarm, and its slot is free again."""

    stopping: SharedFlag | None = None

    def install_platform_tweaks(self, worker: Any) -> None:
        """Install the handlers of signals: TERM and INT, however often, finish what was begun; QUIT interrupts.

        A hang-up is the supervisor's, which passes it on as TERM unless nohup started it. Celery's own handler of HUP
        starts the program again, and its second INT interrupts.
        """
        super().install_platform_tweaks(worker)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._finish)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _finish(self, _number: int, _frame: object) -> None:
        state.should_stop = 0
        if self.stopping is not None:
            self.stopping.set()

    def _process_task(self, request: Any) -> None:
        try:
            super()._process_task(request)
        except Exception as error:  # noqa: BLE001 - foreign arguments can raise anything
            raise_alarm(
                log,
                Alarm.MESSAGE_DROPPED,
                "a task cannot be passed to a process and is dropped (%s)",
                type(error).__name__,
            )
            self._drop(request)

    def _drop(self, request: Any) -> None:
        try:
            self._forget(request)
            state.task_ready(request)
            request.reject(requeue=False)
        finally:
            self._quick_release()  # last, because it passes on the next waiting task

    def _forget(self, request: Any) -> None:
        """Remove the task from the jobs for which the pool waits when it stops: this job was never packed."""
        jobs = getattr(self.pool._pool, "_cache", {})
        for job in list(jobs.values()):
            if job.correlation_id == request.id and not hasattr(job, "_payload"):
                job.discard()


def make_worker(app: Celery, stopping: SharedFlag | None = None, **options: Any) -> Worker:
    """Return the application's worker, of our class; `options` are Celery's.

    The signal to stop sets `stopping`: the processes of the pool ignore the signal, and look at the flag.

    A process of the pool waits at its end until its last result has been read. Celery's main process reads no result of
    a task that a stop or a lost connection made it forget: the process would wait for 30 seconds. A result that is read
    later is not lost, because it is in the pipe.

    Celery tells about signals in plain lines on stdout, past the log: it is silenced, and the supervisor logs the end.
    A process of its pool ignores hang-ups from its beginning; the main process ends the pool in order. Celery would
    set their default action first, which kills.
    """
    vars(worker)["safe_say"] = lambda *_arguments, **_named: None
    prefork.WORKER_SIGRESET.discard("SIGHUP")
    prefork.WORKER_SIGIGNORE.add("SIGHUP")
    vars(pool)["GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT"] = LAST_RESULT_TRIES
    made: Worker = app.subclass_with_self(Worker)(**options)
    made.stopping = stopping
    return made
