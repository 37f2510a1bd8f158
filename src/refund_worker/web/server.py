"""The web server: one process or several on one socket, with an orderly shutdown."""

from __future__ import annotations

import errno
import functools
import logging
import signal
import socket
import threading
from collections.abc import Callable, Sequence

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from refund_worker.dangers import is_this_machine, warn_of_dangers
from refund_worker.engine.context import Publish
from refund_worker.engine.processor_sync.sync_refund import ClosableLimiter
from refund_worker.errors import BadSettings
from refund_worker.logs import set_up_logging
from refund_worker.runtime import build_runtime
from refund_worker.settings import Settings
from refund_worker.stop_signals import is_hang_up_ignored, treat_hang_up_as_term
from refund_worker.web.app import create_app
from refund_worker.web.http_protocol import BoundedProtocol, Limits

log = logging.getLogger(__name__)

# Exit code of a process of Uvicorn's whose application did not start; the name of it moved between versions.
STARTUP_FAILURE = 3
# Time for requests in progress at shutdown; a request that needs longer got no answer and is safe to send again.
GRACE_SECONDS = 10
# A process that does not answer its parent for this long is replaced; on a busy machine, starting takes long.
START_SECONDS_MAX = 60
# Longer than load balancers keep idle connections (mostly 60 s); otherwise requests now and then meet a closed one.
IDLE_SECONDS = 75


def run_web(
    settings: Settings,
    port: int,
    host: str = "127.0.0.1",
    workers: int = 1,
    make_publisher: Callable[[Settings], Publish] | None = None,
    limits: Limits = Limits(),
    make_limiter: Callable[[Settings], ClosableLimiter] | None = None,
) -> int:
    """Serve until SIGTERM, SIGINT or SIGHUP, then finish the requests in progress. Return the exit code.

    `limits` apply to each process. `make_publisher` and `make_limiter` are called in each process and must be functions
    of a module; `create_app` says what is missing without them. Raises `BadSettings`, also if the address cannot be
    listened on, or `Unavailable` if the database cannot be used.
    """
    set_up_logging(settings.log_level, settings.log_format, "web")
    warn_of_dangers(settings, log)
    if settings.environment == "development" and not is_this_machine(host):
        log.warning(
            "the web server listens on %s, and in development the console's cookies and answers use plain http: if "
            "other machines can reach it, set REFUND_WORKER_ENVIRONMENT=production and put TLS in front of it",
            host,
        )
    # Report bad settings once, and migrate SQLite before several processes open it.
    build_runtime(settings, processors=False).close()
    sockets = _bound(host, port)
    config = _config(functools.partial(_app, settings, make_publisher, make_limiter), limits, host, port, workers)
    if workers > 1:
        for listener in sockets:
            listener.listen(config.backlog)  # clients that connect before the first process is ready wait for it
        _log_addresses(sockets)
        supervisor = _Processes(config, sockets=sockets)
        supervisor.run()
        return int(any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes))
    server = _Server(config)
    _take_signals_as_done()
    try:
        server.run(sockets)
    except SystemExit:  # Uvicorn's exit code 3 means something else in our list
        return 1
    return 0 if server.started else 1


def _config(make_app: Callable[[], FastAPI], limits: Limits, host: str, port: int, workers: int) -> uvicorn.Config:
    return uvicorn.Config(
        make_app,
        factory=True,
        host=host,
        port=port,
        workers=workers,
        # The client's address decides who may read /metrics and whose failed sign-ins are counted, so only
        # `web/proxies.py` reads it from headers, for the networks of TRUSTED_PROXIES.
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


class _Processes(Multiprocess):
    """Uvicorn's processes; HUP and QUIT stop them in order, where Uvicorn would restart them."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        survives_hang_up = is_hang_up_ignored()
        super().__init__(config, sockets)  # takes every signal
        if survives_hang_up:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the processes that this one starts inherit it

    def init_processes(self) -> None:
        """Start the processes."""
        super().init_processes()
        self._close_other_ends()

    def keep_subprocess_alive(self) -> None:
        """Replace the processes that have ended."""
        super().keep_subprocess_alive()
        self._close_other_ends()

    def _close_other_ends(self) -> None:
        """Close our copies of the processes' ends of their pipes.

        With a copy open, a ping to a process that ends meanwhile waits for its whole time limit, and a stop of all
        processes with it.
        """
        for process in self.processes:
            process.child_conn.close()

    def handle_hup(self) -> None:
        """Stop as on TERM."""
        self.handle_term()

    def handle_quit(self) -> None:
        """Stop as on TERM: QUIT has ended the processes already if a terminal sent it."""
        self.handle_term()


class _Server(uvicorn.Server):
    """Server that logs its address once it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening and log the address."""
        await super().startup(sockets)
        _log_addresses(sockets or ())


def _bound(host: str, port: int) -> list[socket.socket]:
    """Return a bound socket for each address of the host, all on one port. Raises `BadSettings`.

    Uvicorn does not bind them, because on an error it ends the process with its own message and exit code.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise BadSettings(f"{host} is not an address of this machine: choose another with --host") from None
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
                continue  # for example localhost's second address on a machine without IPv6
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
    return f"{host} is not an address of this machine: choose another with --host"


def _log_addresses(sockets: Sequence[socket.socket]) -> None:
    for listener in sockets:
        host, port = listener.getsockname()[:2]
        log.info("refund-worker web listens on http://%s:%s", f"[{host}]" if ":" in host else host, port)


def _take_signals_as_done() -> None:
    """Ignore the signal that Uvicorn raises again after its orderly shutdown, so that the exit code is ours."""
    if threading.current_thread() is threading.main_thread():
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: None)


def _app(
    settings: Settings,
    make_publisher: Callable[[Settings], Publish] | None,
    make_limiter: Callable[[Settings], ClosableLimiter] | None,
) -> FastAPI:
    set_up_logging(settings.log_level, settings.log_format, "web")  # this may be a process of its own
    treat_hang_up_as_term()
    return create_app(settings, make_publisher, make_limiter)
