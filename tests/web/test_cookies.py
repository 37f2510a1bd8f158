"""A Cookie header costs almost no time on any route, and our own cookies are read from it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import psutil
import pytest
from fastapi import Request
from starlette.types import Message, Receive, Scope, Send
from tests.support.web_process import WebProcess
from tests.web.client import Web, is_problem

from refund_worker.web.cookies import COOKIE_BYTES_MAX, cookie_of
from refund_worker.web.middleware import Edge

# Python before 3.11.10 takes a fifth of a second to unquote this.
BACKSLASHES = b'a="' + b"\\" * (COOKIE_BYTES_MAX - 4) + b'"'
REQUESTS = 20


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProcess]:
    with WebProcess(f"sqlite:///{tmp_path_factory.mktemp('cookies') / 'refunds.db'}") as running:
        yield running


def answered(port: int, path: str, cookie: bytes) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as wire:
        wire.sendall(f"GET {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nCookie: ".encode() + cookie + b"\r\n\r\n")
        answer = b""
        while piece := wire.recv(65536):
            answer += piece
    return int(answer.split()[1])


PATHS = {"/console/": 303, "/console/sign-in": 200, "/console/nothing-here": 404, "/healthz": 200, "/v1/refunds": 401}


@pytest.mark.parametrize("path", PATHS)
def test_backslashes_in_a_cookie_cost_no_work_on_any_route(process: WebProcess, path: str) -> None:
    worked = psutil.Process(process.pid).cpu_times
    answered(process.port, path, b"a=b")  # the first request loads modules, which does not count
    before = worked()
    assert {answered(process.port, path, BACKSLASHES) for _ in range(REQUESTS)} == {PATHS[path]}
    after = worked()
    assert after.user + after.system - before.user - before.system < 0.05 * REQUESTS


@pytest.mark.parametrize("path", PATHS)
def test_more_cookies_than_a_browser_sends_are_refused_unread(process: WebProcess, path: str) -> None:
    assert answered(process.port, path, b'a="' + b"\\" * 60_000 + b'"') == 431


def test_several_lines_of_cookies_are_counted_together(web: Web) -> None:
    half = "a" * (COOKIE_BYTES_MAX // 2)
    assert web.call("GET", "/healthz", headers=[("Cookie", half)] * 2).status_code == 200
    refused = web.call("GET", "/healthz", headers=[("Cookie", half)] * 2 + [("Cookie", "a")])
    assert is_problem(refused, 431, "head_too_large")
    assert refused.headers["X-Content-Type-Options"] == "nosniff"


def read(*lines: bytes, name: str = "ours") -> tuple[dict[str, str], str]:
    """Return (the headers that the framework sees, the cookie's value) of a request behind the middleware."""
    seen: list[tuple[dict[str, str], str]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        seen.append((request.cookies, cookie_of(request, name)))

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    headers = [(b"Cookie" if number % 2 else b"cookie", line) for number, line in enumerate(lines)]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
    asyncio.run(Edge(app, production=False)(scope, receive, send))
    return seen[0]


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ([b"ours=abc-_9"], "abc-_9"),
        ([b"other=1; ours=abc;third"], "abc"),
        ([b"other=1", b"ours=a=b"], "a=b"),
        ([b"ours=first; ours=last"], "last"),
        ([b"xours=1; Ours=2; ours"], ""),
        ([b'ours="a\\142c"'], '"a\\142c"'),
        ([b"ours=\xff"], "\xff"),
        ([b";;=;"], ""),
        ([], ""),
    ],
)
def test_cookie_is_read_as_sent_and_hidden_from_the_framework(lines: list[bytes], value: str) -> None:
    assert read(*lines) == ({}, value)
