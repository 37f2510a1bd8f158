"""Health checks of processes, cheap enough for a container to run every few seconds.

Each check is a process of its own, and its imports are most of its cost. So this module imports neither the settings
nor the command line's library.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from refund_worker.errors import BadSettings

if TYPE_CHECKING:
    from refund_worker.worker.heartbeat import WorkerKind

# The same as in settings.py, which takes longer to import than the rest of a check.
DATABASE_URL = "REFUND_WORKER_DATABASE_URL"
DATABASE_URL_DEFAULT = "sqlite:///.refund-worker/refunds.db"
DATABASE_SCHEMA = "REFUND_WORKER_DATABASE_SCHEMA"
RUNTIME_DIR = "REFUND_WORKER_RUNTIME_DIR"
WEB_PORT_DEFAULT = 8000
ANSWER_SECONDS_MAX = 5.0
HERE = ("127.0.0.1", "::1")
EVERY_ADDRESS = ("", "0.0.0.0", "::", "[::]")  # noqa: S104 - what `web --host` was given


class Health(NamedTuple):
    """The result of a health check: `alive`, and a line for people."""

    alive: bool
    message: str


def plain_check(arguments: Sequence[str]) -> Health | None:
    """Run the check `worker`, `worker --queues A,B`, `scheduler` or `web`: the forms that machines use.

    Return None for everything else (help, wrong options, unreadable settings). The whole command line explains those.
    """
    try:
        match list(arguments):
            case ["worker"]:
                return heartbeat("worker")
            case ["worker", "--queues", queues] if queue_names(queues):
                return worker(queue_names(queues))
            case ["scheduler"]:
                return heartbeat("scheduler")
            case ["web", *options]:
                return _plain_web(options)
    except BadSettings:
        return None
    return None


def _plain_web(options: Sequence[str]) -> Health | None:
    match options:
        case []:
            return web(WEB_PORT_DEFAULT)
        case ["--port", port] if _is_port(port):
            return web(int(port))
        case ["--host", host] if host:
            return web(WEB_PORT_DEFAULT, host)
        case ["--port", port, "--host", host] | ["--host", host, "--port", port] if host and _is_port(port):
            return web(int(port), host)
    return None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text) <= 65535


def queue_names(queues: str) -> list[str]:
    """Return the names in a list of queues that is separated by commas."""
    return [name.strip() for name in queues.split(",") if name.strip()]


def worker(queues: Sequence[str]) -> Health:
    """Check that each of the queues has a live worker. The message is about the first queue without one."""
    results = [heartbeat("worker", queue) for queue in queues]
    return next((health for health in results if not health.alive), results[0])


def heartbeat(kind: WorkerKind, queue: str | None = None) -> Health:
    """Check a worker or scheduler by the age of its heartbeat.

    Raises `BadSettings` if the file with the database URL cannot be read.
    """
    from refund_worker.worker.heartbeat import check_heartbeat
    from refund_worker.worker.runtime_dir import SCHEMA_DEFAULT, folder_of

    schema, runtime_dir = os.environ.get(DATABASE_SCHEMA) or SCHEMA_DEFAULT, os.environ.get(RUNTIME_DIR)
    return Health(*check_heartbeat(kind, folder_of(_database_url(), schema, runtime_dir), queue))


def _database_url() -> str:
    file = os.environ.get(DATABASE_URL + "_FILE")
    if not file:
        return os.environ.get(DATABASE_URL) or DATABASE_URL_DEFAULT
    try:
        with open(file, encoding="utf-8") as text:  # noqa: PTH123 - saves the import of pathlib
            return text.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"{DATABASE_URL}_FILE: cannot read the file ({type(error).__name__})") from None


def web(port: int, host: str | None = None) -> Health:
    """Check the web process by a request to its `/healthz`.

    `host` is the address that it listens on. Without one, or with one that means every address, it is asked on this
    machine, by IPv4 or IPv6.
    """
    hosts = HERE if host in (None, *EVERY_ADDRESS) else (host.strip("[]"),)
    status, why = None, ""
    for each in hosts:
        status, why = _status_at(each, port)
        if why != ConnectionRefusedError.__name__:
            break
    place = f"port {port}" if hosts == HERE else f"{hosts[0]}, port {port}"
    if status is None:
        return Health(False, f"nothing answers on {place}: {why}")
    return Health(status == 200, f"the web process on {place} answers {status}")


def _status_at(host: str, port: int) -> tuple[int | None, str]:
    """Return the status of the answer, or None and the reason."""
    from contextlib import closing
    from http.client import HTTPConnection, HTTPException

    try:
        with closing(HTTPConnection(host, port, timeout=ANSWER_SECONDS_MAX)) as connection:
            connection.request("GET", "/healthz")
            return connection.getresponse().status, ""
    except (OSError, HTTPException, UnicodeError) as error:  # the last two also for what is no name of a host
        return None, type(error).__name__
