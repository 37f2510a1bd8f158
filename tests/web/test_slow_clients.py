"""Clients without a key that hold connections on a real server: others are answered, and memory is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import select
import selectors
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import httpx
import psutil
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from tests.support.deployment import wait_until
from tests.support.web_process import WebProcess
from tests.web.client import PAYMENT, settings_for

from refund_worker.engine.access.api_keys import create_key
from refund_worker.runtime import build_runtime
from refund_worker.web.http_protocol import SPARE_PLACES, BoundedProtocol, Limits
from refund_worker.web.server import IDLE_SECONDS

# Time for connections that must end on their own; far above the normal time, for a busy machine.
PATIENCE_SECONDS = 60.0
MIB = 1 << 20
LATE_SECONDS = 2.0
GET = b"GET /v1/refunds HTTP/1.1\r\nHost: door\r\n\r\n"
_names = itertools.count(1)
HOOK = b"POST /webhooks/stripe HTTP/1.1\r\nHost: door\r\nStripe-Signature: t=1,v1=00\r\n"


@dataclass
class Door:
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
def serving(url: str, **limits: float) -> Iterator[Door]:
    with build_runtime(settings_for(url), processors=False) as runtime:
        key = create_key(runtime.context, name=f"admin-{next(_names)}", client="backend", role="admin")
    with WebProcess(url, limits=limits) as process:
        yield Door(process, key)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> str:
    path = tmp_path_factory.mktemp("slow") / "refunds.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="module")
def door(url: str) -> Iterator[Door]:
    """Give a server without deadlines and with few connections."""
    with serving(url, connections=40, head_seconds=3600, body_seconds=3600) as door:
        yield door


@pytest.fixture(scope="module")
def hurried(url: str) -> Iterator[Door]:
    """Give a server with enough connections and short deadlines."""
    with serving(url, head_seconds=0.5, body_seconds=0.5, body_bytes_per_second=MIB) as door:
        yield door


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


def test_deadlines_match_the_operations_page() -> None:
    usual = Limits()
    assert 10 <= usual.head_seconds <= 20
    assert 10 <= usual.body_seconds <= 20
    assert usual.head_bytes <= 64 << 10


# --- connections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [b"", b"GET /v1/refunds HTTP/1.1\r\nX", GET, HOOK + b"Content-Length: 100\r\n\r\nx"],
    ids=["silent", "half a head", "idle after an answer", "half a body"],
)
def test_api_and_health_answer_however_many_connections_are_held(door: Door, said: bytes) -> None:
    with contextlib.ExitStack() as all_of_them:
        for _ in range(3 * (40 + SPARE_PLACES)):
            connection = all_of_them.enter_context(door.connect())
            connection.sendall(said)
        for _ in range(20):
            assert (door.health(), door.listed()) == (200, 200)


def test_500_silent_connections_block_no_other_client(url: str) -> None:
    with serving(url) as door, contextlib.ExitStack() as all_of_them:
        for _ in range(520):
            all_of_them.enter_context(door.connect())
        assert (door.health(), door.listed()) == (200, 200)


def test_silent_connections_are_closed_before_used_ones(door: Door) -> None:
    with (
        contextlib.ExitStack() as all_of_them,
        httpx.Client(base_url=door.process.url, timeout=PATIENCE_SECONDS) as ours,
    ):
        assert ours.get("/healthz").status_code == 200
        silent = [all_of_them.enter_context(door.connect()) for _ in range(100)]
        assert rest(silent[0]) == b""  # the oldest
        assert ours.get("/healthz").status_code == 200
        assert len(ours._transport._pool.connections) == 1  # type: ignore[attr-defined]


def test_connections_within_the_limit_stay_open(url: str) -> None:
    with (
        serving(url, connections=8, head_seconds=3600, body_seconds=3600) as door,
        contextlib.ExitStack() as all_of_them,
    ):
        ours = [all_of_them.enter_context(door.connect()) for _ in range(8)]
        for connection in (ours[-1], ours[0]):
            connection.sendall(GET)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 401 ")
        one_more = all_of_them.enter_context(door.connect())
        one_more.sendall(GET)
        assert one_more.recv(1 << 16).startswith(b"HTTP/1.1 401 ")
        # Any of those that never sent a request and came at the same moment.
        ended, _, _ = select.select(ours[1:-1], [], [], PATIENCE_SECONDS)
        assert [rest(connection) for connection in ended] == [b""]


def test_busy_server_answers_503_to_others_but_health_is_answered(url: str) -> None:
    with (
        serving(url, connections=4, head_seconds=3600, body_seconds=3600) as door,
        contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as writer,
        contextlib.ExitStack() as all_of_them,
    ):
        asked = f"POST /v1/payments HTTP/1.1\r\nHost: door\r\nAuthorization: Bearer {door.key}\r\n"
        body = json.dumps(PAYMENT | {"payment_id": "p-crowd", "processor_payment_id": "ch_crowd"})
        asked += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        writer.execute("BEGIN IMMEDIATE")
        at_work = [all_of_them.enter_context(door.connect()) for _ in range(4)]
        for connection in at_work:
            connection.sendall(asked.encode())
        wait_until(lambda: door.listed() == 503, PATIENCE_SECONDS)
        answer = httpx.get(f"{door.process.url}/healthz-and-more", timeout=PATIENCE_SECONDS)
        assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (503, "unavailable", "1")
        assert door.health() == 200
        writer.execute("ROLLBACK")
        assert all(connection.recv(1 << 16).startswith(b"HTTP/1.1 ") for connection in at_work)
        assert door.listed() == 200


# --- deadlines -------------------------------------------------------------------------------------------------------


def test_silent_connection_is_closed(hurried: Door) -> None:
    with hurried.connect() as connection:
        assert rest(connection) == b""


@pytest.mark.parametrize("begin", [b"", GET], ids=["first", "after another"])
def test_slow_head_is_answered_408_and_closed(hurried: Door, begin: bytes) -> None:
    with hurried.connect() as connection:
        if begin:
            connection.sendall(begin)
            connection.recv(1 << 16)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: door\r\n")
        assert b" 408 " in drip(connection, b"X-A: b\r\n").partition(b"\r\n")[0]


@pytest.mark.parametrize(
    ("head", "piece"),
    [(b"Content-Length: 1000000\r\n\r\n", b"x"), (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n")],
    ids=["length", "chunked"],
)
def test_slow_body_is_answered_408_and_closed(hurried: Door, head: bytes, piece: bytes) -> None:
    with hurried.connect() as connection:
        connection.sendall(HOOK + head)
        assert b" 408 " in drip(connection, piece).partition(b"\r\n")[0]
    assert hurried.health() == 200
    assert "Traceback" not in hurried.process.log


def test_body_continued_after_its_answer_is_closed(hurried: Door) -> None:
    with hurried.connect() as connection:
        connection.sendall(b"POST /v1/refunds HTTP/1.1\r\nHost: door\r\nContent-Length: 1000000\r\n\r\n")
        assert b" 401 " in connection.recv(1 << 16)
        drip(connection, b"x")


def test_large_body_at_a_fair_pace_is_accepted(url: str) -> None:
    with serving(url, body_seconds=1.0, body_bytes_per_second=1) as door, door.connect() as connection:
        connection.sendall(HOOK + b"Content-Length: 60\r\n\r\n")
        began = time.monotonic()
        for _ in range(60):
            connection.sendall(b"x")
            time.sleep(0.05)
        assert time.monotonic() - began > 2
        assert b" 400 " in connection.recv(1 << 16)  # read to its end, and its signature is wrong


# --- sizes -----------------------------------------------------------------------------------------------------------


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
def test_endless_head_is_refused_and_costs_no_memory(door: Door, begin: bytes, piece: bytes) -> None:
    door.listed()
    before = door.resident_bytes()
    answers = []

    def flood() -> None:
        with door.connect() as connection:
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
        highest = max(highest, door.resident_bytes())
        assert door.health() == 200
    assert len(answers) == 4
    assert all(sent < 400 * MIB for sent, _ in answers), "the server read it to its end"
    assert highest - before < 60 * MIB


@pytest.mark.parametrize(
    "head", [b"X-Long: " + b"x" * 100_000, b"\r\n".join(b"X-%d: y" % n for n in range(200))], ids=["bytes", "count"]
)
def test_too_large_head_is_answered_431(door: Door, head: bytes) -> None:
    with door.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: door\r\n" + head + b"\r\n\r\n")
        status, _, answer = rest(connection).partition(b"\r\n")
    assert status == b"HTTP/1.1 431 Request Header Fields Too Large"
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "head_too_large"


# --- ordinary clients keep working -----------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(door: Door) -> None:
    paths = ["/healthz", "/v1/refunds", "/nothing", "/healthz", "/readyz"] * 3
    ahead = "".join(f"GET {path} HTTP/1.1\r\nHost: door\r\n\r\n" for path in paths)
    with door.connect() as connection:
        connection.sendall(ahead.encode() + b"GET /healthz HTTP/1.1\r\nHost: door\r\nConnection: close\r\n\r\n")
        answers = rest(connection)
    told = [answer[:3] for answer in answers.split(b"HTTP/1.1 ")[1:]]
    assert told == [b"200", b"401", b"404", b"200", b"200"] * 3 + [b"200"]


def test_client_with_thousands_of_pipelined_requests_is_closed(door: Door) -> None:
    with door.connect() as connection:
        with contextlib.suppress(OSError):
            connection.sendall(GET * 20_000)
        assert rest(connection).count(b"HTTP/1.1 ") < 20_000
    assert door.health() == 200


@pytest.mark.parametrize("call", ["head", "chunked", "continue"])
def test_other_forms_of_requests_are_answered(door: Door, call: str) -> None:
    last = b"Connection: close\r\n"
    forms = {
        "head": b"HEAD /healthz HTTP/1.1\r\nHost: door\r\n" + last + b"\r\n",
        "chunked": HOOK + last + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-T: y\r\n\r\n",
        "continue": HOOK + last + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    }
    with door.connect() as connection:
        connection.sendall(forms[call])
        answer = rest(connection)
    status = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").split()[1]
    assert status in {"head": (b"200", b"405"), "chunked": (b"400",), "continue": (b"400",)}[call]


def test_idle_connection_outlives_a_load_balancers_timeout(door: Door) -> None:
    with contextlib.closing(HTTPConnection("127.0.0.1", door.process.port, timeout=PATIENCE_SECONDS)) as connection:
        places = set()
        for _ in range(3):
            connection.request("GET", "/v1/refunds")
            places.add(connection.sock.getsockname())
            answer = connection.getresponse()
            assert (answer.status, bool(answer.read())) == (401, True)
    assert len(places) == 1
    assert IDLE_SECONDS >= 65


def test_unread_answer_is_dropped(url: str) -> None:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with serving(url, answer_seconds=0.5) as door, connection:
        connection.connect(("127.0.0.1", door.process.port))
        ours = connection.getsockname()[1]
        [served] = [each for each in door.family() if each.net_connections()]

        def is_kept() -> bool:
            return any(each.raddr and each.raddr.port == ours for each in served.net_connections())

        assert is_kept()
        # More than the buffers between both sides hold. Each request follows the answer to the one before, because a
        # client that pipelines many is cut off.
        with contextlib.suppress(OSError):
            for _ in range(60):
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: door\r\n\r\n")
                time.sleep(0.05)
        wait_until(lambda: not is_kept(), PATIENCE_SECONDS)


# --- clients that wait for us ----------------------------------------------------------------------------------------


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


LATE = b"POST / HTTP/1.1\r\nHost: door\r\nConnection: close\r\n"


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
