"""Heads without an end and answers that are not read: the memory of a real server is bounded."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time

import pytest
from tests.support.deployment import wait_until
from tests.web.connections.served_api import HOOK, MIB, PATIENCE_SECONDS, ServedApi, rest, serving


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"GET / HTTP/1.1\r\nX-Long: ", b"x" * 65_536),
        (b"GET / HTTP/1.1\r\n", b"X-Many: y\r\n" * 6_000),
        (b"GET /", b"x" * 65_536),
        (b"", b"\r\n" * 32_768),
        (HOOK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Trailer: ", b"x" * 65_536),
        (HOOK + b"Transfer-Encoding: chunked\r\n\r\n1;x=", b"x" * 65_536),
    ],
    ids=["one header", "many headers", "a path", "blank lines", "a trailer", "an extension of a chunk"],
)
def test_endless_head_is_refused_and_costs_no_memory(api: ServedApi, begin: bytes, piece: bytes) -> None:
    api.listed()
    before = api.resident_bytes()
    answers = []

    def flood() -> None:
        with api.connect() as connection:
            sent = 0
            with contextlib.suppress(OSError):
                connection.sendall(begin)
                while sent < 400 * MIB:
                    connection.sendall(piece)
                    sent += len(piece)
            answers.append((sent, rest(connection)))

    flooders = [threading.Thread(target=flood) for _ in range(4)]
    for each in flooders:
        each.start()
    highest = before
    while any(each.is_alive() for each in flooders):
        highest = max(highest, api.resident_bytes())
        assert api.health() == 200
    assert len(answers) == 4
    assert all(sent < 400 * MIB for sent, _ in answers), "the server read it to its end"
    assert highest - before < 60 * MIB


@pytest.mark.parametrize(
    "head", [b"X-Long: " + b"x" * 100_000, b"\r\n".join(b"X-%d: y" % n for n in range(200))], ids=["bytes", "count"]
)
def test_too_large_head_is_answered_431(api: ServedApi, head: bytes) -> None:
    with api.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: api\r\n" + head + b"\r\n\r\n")
        status, _, answer = rest(connection).partition(b"\r\n")
    assert status == b"HTTP/1.1 431 Request Header Fields Too Large"
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "head_too_large"


def test_unread_answer_is_dropped(url: str) -> None:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with serving(url, answer_seconds=0.5) as api, connection:
        connection.connect(("127.0.0.1", api.process.port))
        ours = connection.getsockname()[1]
        [served] = [each for each in api.family() if each.net_connections()]

        def is_kept() -> bool:
            return any(each.raddr and each.raddr.port == ours for each in served.net_connections())

        assert is_kept()
        # More than the buffers between both sides hold. Each request follows the answer to the one before, because a
        # client that pipelines many is cut off.
        with contextlib.suppress(OSError):
            for _ in range(60):
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: api\r\n\r\n")
                time.sleep(0.05)
        wait_until(lambda: not is_kept(), PATIENCE_SECONDS)
