"""Serving: one process or several on one socket, ending in order when told to."""

from __future__ import annotations

import functools
import logging
import signal
import sys
import threading
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from refund_worker.runtime import build_runtime
from refund_worker.settings import Settings
from refund_worker.web.app import create_app, wake_nobody
from refund_worker.web.door import Wake

# Requests under way get this long; a request that needs longer was told nothing and is safe to send again.
GRACE_SECONDS = 10
# A process of several that does not answer its parent for so long is replaced; on a busy machine, starting takes long.
START_SECONDS_MAX = 60
# Bounds what a flood of slow connections can hold; above it the answer is 503.
CONNECTIONS_MAX = 500


def run_web(
    settings: Settings,
    port: int,
    host: str = "127.0.0.1",
    workers: int = 1,
    make_wake: Callable[[Settings], Wake] = wake_nobody,
) -> int:
    """Serve until SIGTERM or SIGINT, then end what is under way; returns the exit code.

    `make_wake` is called in each process and must be a function of a module. Raises `BadSettings`, or `Unavailable`
    when the database can't be used.
    """
    # Said once and plainly, and SQLite is migrated before several processes look at it.
    build_runtime(settings, processors=False).close()
    config = uvicorn.Config(
        functools.partial(_app, settings, make_wake, logging.getLogger().getEffectiveLevel()),
        factory=True,
        host=host,
        port=port,
        workers=workers,
        # The client's address decides who may read /metrics: nobody else's word for it is taken.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        lifespan="on",
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_worker_healthcheck=START_SECONDS_MAX,
        limit_concurrency=CONNECTIONS_MAX,
    )
    if workers > 1:
        supervisor = Multiprocess(config, sockets=[config.bind_socket()])
        supervisor.run()
        return int(any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes))
    server = uvicorn.Server(config)
    _take_signals_as_done()
    server.run()
    return 0 if server.started else 1


def _take_signals_as_done() -> None:
    """Uvicorn ends in order and then raises the signal again; its work is done by then, and the exit code is ours."""
    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: None)


def _app(settings: Settings, make_wake: Callable[[Settings], Wake], level: int) -> FastAPI:
    if not logging.getLogger().handlers:
        logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    return create_app(settings, make_wake)
