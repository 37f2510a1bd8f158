"""A process that gives tasks that cannot be pickled to a worker's real pool, and prints what happened to them.

It is a separate process because Celery's worker changes much of the process that creates it.
"""

from __future__ import annotations

import json
import logging
import warnings
from typing import Any

from celery.worker import state
from celery.worker.request import Request
from kombu.transport.virtual.base import Message

from refund_worker.settings import PREFIX, load_settings
from refund_worker.worker.celery_app.app import make_app
from refund_worker.worker.celery_app.controller import Worker, make_worker
from refund_worker.worker.queues import TASKS
from refund_worker.worker.tasks import WorkerRuntime, add_tasks

PLACES = 2
TASKS_SENT = 4 * PLACES


def a_worker() -> Worker:
    """Return a worker with a running pool, and a broker that is never connected."""
    settings = load_settings({PREFIX + "BROKER_URL": "redis://127.0.0.1:1/0"})
    app = make_app(settings)
    add_tasks(app, WorkerRuntime(settings))
    worker = make_worker(app, concurrency=PLACES, pool="prefork", quiet=True, hostname="w@here")
    worker.pool.start()
    worker.pool.register_with_event_loop(worker.hub)
    return worker


def a_request(worker: Worker, number: int, ends: list[bool]) -> Any:
    """Return a request with a body that cannot be pickled. Its rejection appends `requeue` to `ends`."""
    task = worker.app.tasks[TASKS[0]]
    headers = {"task": task.name, "id": f"t-{number}", "ignore_result": True}
    message = Message({"body": "", "headers": headers, "properties": {"delivery_tag": str(number)}}, channel=None)
    return Request(
        message,
        app=worker.app,
        task=task,
        on_reject=lambda _log, _errors, requeue: ends.append(requeue),
        body=([lambda: "no pickle of this"], {}, {}),
        headers=headers,
        decoded=True,
    )


def main() -> None:
    """Hand all requests to the pool and print the counts as JSON."""
    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.ERROR)
    worker, ends = a_worker(), list[bool]()
    # Half of them arrive while both pool slots are in use, and are handed over when the slots are released.
    for number in range(TASKS_SENT):
        if number == TASKS_SENT // 2:
            worker.semaphore.value = 0
        request = a_request(worker, number, ends)
        state.task_reserved(request)
        worker._process_task_sem(request)
    for _ in range(PLACES):
        worker._quick_release()
    jobs = len(worker.pool._pool._cache)
    worker.pool.stop()
    print(
        json.dumps(
            {
                "places free": worker.semaphore.value,
                "put back": ends.count(True),
                "thrown away": ends.count(False),
                "still reserved": len(state.requests),
                "waited for by the pool": jobs,
            }
        )
    )


if __name__ == "__main__":
    main()
