"""A real server of the API, and the connections that tests hold to it."""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import psutil
from tests.support.web_process import WebProcess
from tests.web.client import settings_for

from refund_worker.engine.access.api_keys import create_key
from refund_worker.runtime import build_runtime

# Time for connections that must end on their own; far above the normal time, for a busy machine.
PATIENCE_SECONDS = 60.0
MIB = 1 << 20
GET = b"GET /v1/refunds HTTP/1.1\r\nHost: api\r\n\r\n"
_names = itertools.count(1)
HOOK = b"POST /webhooks/stripe HTTP/1.1\r\nHost: api\r\nStripe-Signature: t=1,v1=00\r\n"


@dataclass
class ServedApi:
    process: WebProcess
    key: str

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.process.port), timeout=PATIENCE_SECONDS)

    def health(self) -> int:
        return httpx.get(f"{self.process.url}/healthz", timeout=PATIENCE_SECONDS).status_code

    def listed(self) -> int:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.get(f"{self.process.url}/v1/refunds", headers=headers, timeout=PATIENCE_SECONDS).status_code

    def resident_bytes(self) -> int:
        return sum(each.memory_info().rss for each in self.family())

    def family(self) -> list[psutil.Process]:
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]


@contextlib.contextmanager
def serving(url: str, **limits: float) -> Iterator[ServedApi]:
    with build_runtime(settings_for(url), processors=False) as runtime:
        key = create_key(runtime.context, name=f"admin-{next(_names)}", client="backend", role="admin")
    with WebProcess(url, limits=limits) as process:
        yield ServedApi(process, key)


def rest(connection: socket.socket) -> bytes:
    """Return everything received until the server closes the connection."""
    connection.settimeout(PATIENCE_SECONDS)
    got = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(1 << 16):
            got += piece
    return got


def drip(connection: socket.socket, piece: bytes) -> bytes:
    """Send the piece repeatedly until the server closes the connection. Return everything received."""
    connection.settimeout(PATIENCE_SECONDS)
    until = time.monotonic() + PATIENCE_SECONDS
    try:
        while time.monotonic() < until:
            connection.sendall(piece)
            with selectors.DefaultSelector() as selector:
                selector.register(connection, selectors.EVENT_READ)
                if selector.select(0.05):
                    return rest(connection)
    except ConnectionError:
        return b""
    raise AssertionError("it was not ended")
