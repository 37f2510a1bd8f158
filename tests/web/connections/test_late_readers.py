"""Clients that wait for us: they are not called slow if the application reads their body late."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from tests.support.deployment import wait_until
from tests.web.connections.served_api import MIB, PATIENCE_SECONDS, rest

from refund_worker.web.http_protocol import BoundedProtocol, Limits

LATE_SECONDS = 2.0


class ReadsLate:
    """An application that is busy before it asks for the body; it answers with the body's length."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(LATE_SECONDS)
        self.asked.set()
        length, more = 0, True
        while more and (part := await receive())["type"] == "http.request":
            length, more = length + len(part.get("body", b"")), part.get("more_body", False)
        told = str(length).encode()
        headers = [(b"content-length", str(len(told)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": told})


@contextlib.contextmanager
def reading_late(body_seconds: float) -> Iterator[tuple[socket.socket, ReadsLate]]:
    """Give a connection to a server in this process."""
    app = ReadsLate()
    limits = Limits(head_seconds=PATIENCE_SECONDS, body_seconds=body_seconds, body_bytes_per_second=1 << 40)
    config = uvicorn.Config(
        app,
        port=0,
        lifespan="off",
        log_config=None,
        http=functools.partial(BoundedProtocol, limits),  # type: ignore[arg-type]
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
            yield connection, app
    finally:
        server.should_exit = True
        thread.join(PATIENCE_SECONDS)


LATE = b"POST / HTTP/1.1\r\nHost: api\r\nConnection: close\r\n"


# Counted from the request's head, the deadline or a multiple of it is shortly after we ask for the body.
SHORT_SECONDS = pytest.mark.parametrize("body_seconds", [LATE_SECONDS * 1.05, LATE_SECONDS * 1.05 / 2])


@SHORT_SECONDS
def test_client_waiting_for_continue_is_not_called_slow(body_seconds: float) -> None:
    """The client asked whether to send its body (`Expect: 100-continue`), and the server answered late."""
    with reading_late(body_seconds) as (connection, _):
        connection.sendall(LATE + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        time.sleep(body_seconds / 4)
        connection.sendall(b"12345")
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n5")


@SHORT_SECONDS
def test_client_whose_body_is_read_late_is_not_called_slow(body_seconds: float) -> None:
    body = b"x" * MIB
    with reading_late(body_seconds) as (connection, app):
        connection.sendall(LATE + b"Content-Length: %d\r\n\r\n" % len(body))
        connection.sendall(body[:-1])
        assert app.asked.wait(PATIENCE_SECONDS)
        time.sleep(body_seconds / 4)
        connection.sendall(body[-1:])
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n%d" % len(body))


def test_client_asked_for_its_body_gets_no_extra_time() -> None:
    with reading_late(LATE_SECONDS / 2) as (connection, _):
        connection.sendall(LATE + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 408 ")
