"""Serving: one process or several on one socket, ending in order when told to."""

from __future__ import annotations

import errno
import functools
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from refund_worker.dangers import is_this_machine, warn_of_dangers
from refund_worker.errors import BadSettings
from refund_worker.runtime import build_runtime
from refund_worker.settings import Settings
from refund_worker.web.app import create_app
from refund_worker.web.dependencies import Wake
from refund_worker.web.http_protocol import BoundedProtocol, Limits

log = logging.getLogger("refund_worker.web")

# Requests under way get this long; a request that needs longer was told nothing and is safe to send again.
GRACE_SECONDS = 10
# A process of several that does not answer its parent for so long is replaced; on a busy machine, starting takes long.
START_SECONDS_MAX = 60
# Above what a load balancer keeps an idle connection for (mostly 60 s), or a request now and then meets a closed one.
IDLE_SECONDS = 75


def run_web(
    settings: Settings,
    port: int,
    host: str = "127.0.0.1",
    workers: int = 1,
    make_publisher: Callable[[Settings], Wake] | None = None,
    limits: Limits = Limits(),
) -> int:
    """Serve until SIGTERM or SIGINT, then end what is under way; returns the exit code. `limits` are each process's.

    `make_publisher` is called in each process and must be a function of a module; without it workers get no hints.
    Raises `BadSettings`, also for an address that cannot be listened on, or `Unavailable` when the database cannot be
    used.
    """
    warn_of_dangers(settings, log)
    if settings.environment == "development" and not is_this_machine(host):
        log.warning(
            "the web listens on %s, and in development the console's cookies and answers go over plain http: where "
            "anything but this machine reaches it, set REFUND_WORKER_ENVIRONMENT=production and put TLS before it",
            host,
        )
    # Said once and plainly, and SQLite is migrated before several processes look at it.
    build_runtime(settings, processors=False).close()
    sockets = _bound(host, port)
    config = uvicorn.Config(
        functools.partial(_app, settings, make_publisher, logging.getLogger().getEffectiveLevel()),
        factory=True,
        host=host,
        port=port,
        workers=workers,
        # The client's address decides who may read /metrics and whose passwords are counted: `web/proxies.py` takes
        # the word of those only that TRUSTED_PROXIES names.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_config=None,
        lifespan="on",
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_worker_healthcheck=START_SECONDS_MAX,
        http=functools.partial(BoundedProtocol, limits),  # type: ignore[arg-type]
        ws="none",
        timeout_keep_alive=IDLE_SECONDS,
    )
    if workers > 1:
        for listener in sockets:
            listener.listen(config.backlog)  # who connects before the first process is ready waits for it
        _say_where(sockets)
        supervisor = Multiprocess(config, sockets=sockets)
        supervisor.run()
        return int(any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes))
    server = _Server(config)
    _take_signals_as_done()
    try:
        server.run(sockets)
    except SystemExit:  # Uvicorn's 3 means something else in our list of exit codes
        return 1
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        _say_where(sockets or ())


def _bound(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of the host, all on one port. Raises `BadSettings`.

    Bound here and not by Uvicorn, which ends the process with a line and a code of its own.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise BadSettings(f"{host} is no address of this machine: choose another with --host") from None
    bound: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listener.bind((address[0], port, *address[2:]))
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRNOTAVAIL and len(bound) + 1 < len(found):
                continue  # such as localhost's second address where there is no IPv6
            for other in bound:
                other.close()
            raise BadSettings(_why_not_bound(error, host, port)) from None
        port = listener.getsockname()[1]
        listener.set_inheritable(True)
        bound.append(listener)
    return bound


def _why_not_bound(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use: choose another with --port"
    if error.errno == errno.EACCES:
        return f"port {port} is not allowed to this user: choose another with --port"
    return f"{host} is no address of this machine: choose another with --host"


def _say_where(sockets: Sequence[socket.socket]) -> None:
    for listener in sockets:
        host, port = listener.getsockname()[:2]
        sys.stderr.write(f"refund-worker web listens on http://{f'[{host}]' if ':' in host else host}:{port}\n")
    sys.stderr.flush()


def _take_signals_as_done() -> None:
    """Uvicorn ends in order and then raises the signal again; its work is done by then, and the exit code is ours."""
    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: None)


def _app(settings: Settings, make_publisher: Callable[[Settings], Wake] | None, level: int) -> FastAPI:
    if not logging.getLogger().handlers:
        logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    return create_app(settings, make_publisher)
