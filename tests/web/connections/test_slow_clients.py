"""Slow clients without a key on a real server: the deadlines for a head and a body."""

from __future__ import annotations

import time

import pytest
from tests.web.connections.served_api import GET, HOOK, ServedApi, drip, rest, serving

from refund_worker.web.http_protocol import Limits


def test_deadlines_match_the_operations_page() -> None:
    usual = Limits()
    assert 10 <= usual.head_seconds <= 20
    assert 10 <= usual.body_seconds <= 20
    assert usual.head_bytes <= 64 << 10


def test_silent_connection_is_closed(hurried: ServedApi) -> None:
    with hurried.connect() as connection:
        assert rest(connection) == b""


@pytest.mark.parametrize("begin", [b"", GET], ids=["first", "after another"])
def test_slow_head_is_answered_408_and_closed(hurried: ServedApi, begin: bytes) -> None:
    with hurried.connect() as connection:
        if begin:
            connection.sendall(begin)
            connection.recv(1 << 16)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: api\r\n")
        assert b" 408 " in drip(connection, b"X-A: b\r\n").partition(b"\r\n")[0]


@pytest.mark.parametrize(
    ("head", "piece"),
    [(b"Content-Length: 1000000\r\n\r\n", b"x"), (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n")],
    ids=["length", "chunked"],
)
def test_slow_body_is_answered_408_and_closed(hurried: ServedApi, head: bytes, piece: bytes) -> None:
    with hurried.connect() as connection:
        connection.sendall(HOOK + head)
        assert b" 408 " in drip(connection, piece).partition(b"\r\n")[0]
    assert hurried.health() == 200
    assert "Traceback" not in hurried.process.log


def test_body_continued_after_its_answer_is_closed(hurried: ServedApi) -> None:
    with hurried.connect() as connection:
        connection.sendall(b"POST /v1/refunds HTTP/1.1\r\nHost: api\r\nContent-Length: 1000000\r\n\r\n")
        assert b" 401 " in connection.recv(1 << 16)
        drip(connection, b"x")


def test_large_body_at_a_fair_pace_is_accepted(url: str) -> None:
    with serving(url, body_seconds=1.0, body_bytes_per_second=1) as api, api.connect() as connection:
        connection.sendall(HOOK + b"Content-Length: 60\r\n\r\n")
        began = time.monotonic()
        for _ in range(60):
            connection.sendall(b"x")
            time.sleep(0.05)
        assert time.monotonic() - began > 2
        assert b" 400 " in connection.recv(1 << 16)  # read to its end, and its signature is wrong
