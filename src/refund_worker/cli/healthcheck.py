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
WEB_PORT_DEFAULT = 8000
ANSWER_SECONDS_MAX = 5.0


class Health(NamedTuple):
    """The result of a health check: `alive`, and a line for people."""

    alive: bool
    message: str


def plain_check(arguments: Sequence[str]) -> Health | None:
    """Run the check `worker`, `worker --queues A,B`, `scheduler`, `web` or `web --port N`: the forms that machines use.

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
            case ["web"]:
                return web(WEB_PORT_DEFAULT)
            case ["web", "--port", port] if port.isascii() and port.isdecimal() and 0 < int(port) <= 65535:
                return web(int(port))
    except BadSettings:
        return None
    return None


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

    return Health(*check_heartbeat(kind, _database_url(), queue))


def _database_url() -> str:
    file = os.environ.get(DATABASE_URL + "_FILE")
    if not file:
        return os.environ.get(DATABASE_URL) or DATABASE_URL_DEFAULT
    try:
        with open(file, encoding="utf-8") as text:  # noqa: PTH123 - saves the import of pathlib
            return text.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"{DATABASE_URL}_FILE: cannot read the file ({type(error).__name__})") from None


def web(port: int) -> Health:
    """Check the web process on this machine by a request to its `/healthz`."""
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS_MAX)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return Health(False, f"nothing answers on port {port}: {type(error).__name__}")
    finally:
        connection.close()
    return Health(status == 200, f"the web process on port {port} answers {status}")
