"""Whether a process lives: for a container's health check, so without settings, without the command line's library.

A check is a process of its own every few seconds: what it imports is what it costs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from refund_worker.errors import BadSettings

if TYPE_CHECKING:
    from refund_worker.worker.heartbeat import WorkerKind

# As in settings.py, whose import takes longer than the rest of a check.
DATABASE_URL = "REFUND_WORKER_DATABASE_URL"
DATABASE_URL_DEFAULT = "sqlite:///.refund-worker/refunds.db"
WEB_PORT_DEFAULT = 8000
ANSWER_SECONDS_MAX = 5.0


class Life(NamedTuple):
    """Whether it lives, and a line that says so."""

    lives: bool
    told: str


def plain_check(words: Sequence[str]) -> Life | None:
    """The answer to `worker`, `worker --queues A,B`, `scheduler`, `web` or `web --port N`, the forms that machines use.

    None for everything else (help, wrong options, settings that can't be read): the whole command line explains those.
    """
    try:
        match list(words):
            case ["worker"]:
                return heartbeat("worker")
            case ["worker", "--queues", queues] if names_of(queues):
                return worker(names_of(queues))
            case ["scheduler"]:
                return heartbeat("scheduler")
            case ["web"]:
                return web(WEB_PORT_DEFAULT)
            case ["web", "--port", port] if port.isascii() and port.isdecimal() and 0 < int(port) <= 65535:
                return web(int(port))
    except BadSettings:
        return None
    return None


def names_of(queues: str) -> list[str]:
    """The queues that are named, separated by commas."""
    return [name.strip() for name in queues.split(",") if name.strip()]


def worker(queues: Sequence[str]) -> Life:
    """Whether each of the queues has a worker that lives; the line is about the first that has none."""
    lives = [heartbeat("worker", queue) for queue in queues]
    return next((life for life in lives if not life.lives), lives[0])


def heartbeat(kind: WorkerKind, queue: str | None = None) -> Life:
    """By the age of its heartbeat. Raises `BadSettings` when the file that holds the database's URL can't be read."""
    from refund_worker.worker.heartbeat import check_heartbeat

    return Life(*check_heartbeat(kind, _database_url(), queue))


def _database_url() -> str:
    file = os.environ.get(DATABASE_URL + "_FILE")
    if not file:
        return os.environ.get(DATABASE_URL) or DATABASE_URL_DEFAULT
    try:
        with open(file, encoding="utf-8") as text:  # noqa: PTH123 - one import less
            return text.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"{DATABASE_URL}_FILE: cannot read the file ({type(error).__name__})") from None


def web(port: int) -> Life:
    """By asking it."""
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS_MAX)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return Life(False, f"nothing answers on port {port}: {type(error).__name__}")
    finally:
        connection.close()
    return Life(status == 200, f"the web on port {port} answers {status}")
