"""The Celery worker, as a child process of the supervisor.

It reads its configuration from standard input (child_config.py), so that no secret is in its arguments or its
environment.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from celery import signals

from refund_worker.engine.jobs.metric_flush import MetricFlusher
from refund_worker.errors import Unavailable
from refund_worker.logs import set_up_logging
from refund_worker.processors.accounts import accounts_of
from refund_worker.runtime import open_database
from refund_worker.settings import Settings, load_settings
from refund_worker.tracing import end_tracing, set_up_tracing
from refund_worker.worker.celery_app.app import make_app
from refund_worker.worker.celery_app.controller import make_worker
from refund_worker.worker.celery_app.heartbeat_step import add_heartbeat
from refund_worker.worker.heartbeat import Heartbeat
from refund_worker.worker.queues import name_at_broker
from refund_worker.worker.tasks import WorkerRuntime, add_tasks

log = logging.getLogger("refund_worker.worker.celery_app.child_process")  # it runs as __main__


def end_with_parent(parent: int) -> None:
    """Stop this process when the supervisor ends, however it ends (Linux only).

    Exits at once if `parent` (a process id) has ended already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the supervisor ended before its worker began")


def work(settings: Settings, queues: list[str], concurrency: int, pipe: int | None) -> int:
    """Run the worker until it is stopped; return its exit code."""
    # Once and shared: a new process of the pool then starts, and stops, at once.
    accounts_of(settings).preload_adapters()
    runtime = WorkerRuntime(settings)
    app = make_app(settings)
    add_tasks(app, runtime)
    heartbeat = Heartbeat("worker", settings, queues, pipe=pipe)
    add_heartbeat(app, heartbeat)
    _connect_signals(runtime)
    _log_when_ready(f"the worker is ready: {concurrency} processes, queues {', '.join(queues)}")
    worker = make_worker(
        app,
        runtime.stopping,
        queues=[name_at_broker(settings, queue) for queue in queues],
        concurrency=concurrency,
        pool="prefork",
        hostname=f"refund-worker-{os.getpid()}@{os.uname().nodename}",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    try:
        # This process must not use the database: a pool process forked at that moment could inherit a lock for ever.
        worker.start()
    finally:
        heartbeat.end()
    return int(worker.exitcode or 0)


def _connect_signals(runtime: WorkerRuntime) -> None:
    # Its thread begins in each process of the pool.
    flusher = MetricFlusher(lambda: closing(open_database(runtime.settings)))

    def keep_our_logging(**_named: Any) -> None:
        return None

    def open_runtime(**_named: Any) -> None:
        flusher.__enter__()
        set_up_tracing("worker")
        try:
            runtime.open()
        except Unavailable as error:
            log.warning("the first task tries again: %s", error.explained)

    def close_runtime(**_named: Any) -> None:
        runtime.close()
        flusher.__exit__(None, None, None)
        end_tracing()

    signals.setup_logging.connect(keep_our_logging, weak=False)
    signals.worker_process_init.connect(open_runtime, weak=False)
    signals.worker_process_shutdown.connect(close_runtime, weak=False)


def _log_when_ready(line: str) -> None:
    def log_line(**_named: Any) -> None:
        log.info(line)

    signals.worker_ready.connect(log_line, weak=False)


def main() -> int:
    """Read the configuration from standard input and run the worker; return its exit code."""
    configuration: Mapping[str, Any] = json.loads(sys.stdin.buffer.read())
    end_with_parent(configuration["parent"])
    settings = load_settings(configuration["settings"])
    set_up_logging(settings.log_level, settings.log_format, "worker")
    # Containers run as root. Celery's danger with root is pickle, and only JSON is accepted.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
    return work(settings, *(configuration[name] for name in ("queues", "concurrency", "pipe")))


if __name__ == "__main__":
    sys.exit(main())
